//! The vector registers of a thread that is about to sleep.

/// Gives up what the upper vector registers hold: AVX's upper halves, AVX-512's masks and registers.
///
/// When others used the core while a thread slept, the kernel loads the thread's registers from
/// memory before it goes on, up to 2.5 KiB of it, most of it cold by then. It leaves out what is in
/// its initial state. The C library's copies put something there even in programs that compute
/// without. By the calling convention nobody counts on these registers across a call.
#[inline(never)]
#[cfg(target_arch = "x86_64")]
pub(crate) fn forget() {
    use std::arch::{asm, is_x86_feature_detected};

    /// Bits of `XCR0` (Intel SDM volume 1, 13.1): AVX, opmask, `ZMM_Hi256`, `Hi16_ZMM`. The processor
    /// passes over those that the system has not enabled.
    const COMPONENTS: u32 = 1 << 2 | 1 << 5 | 1 << 6 | 1 << 7;

    /// The legacy region and the header of an `XSAVE` area. The header's zeros say that each
    /// component is in its initial state, so that nothing after it is read.
    #[repr(align(64))]
    struct Area([u8; 512 + 64]);

    // Detected only where the system has enabled it too.
    if !is_x86_feature_detected!("xsave") {
        return;
    }
    let mut area = Area([0; _]);
    let area = &raw mut area.0;
    // SAFETY: `area` is aligned, writable and as long as what is read of it; the header's reserved
    // bytes are zero. Registers that the convention does not keep across calls are declared as lost.
    // The control word MXCSR, which comes along with AVX, is loaded as it was stored.
    unsafe {
        asm!(
            "stmxcsr [{area} + 24]",
            "xrstor64 [{area}]",
            area = in(reg) area,
            inout("eax") COMPONENTS => _,
            inout("edx") 0 => _,
            clobber_abi("C"),
            options(nostack),
        );
    }
}

/// Other processors have less to load.
#[inline(always)]
#[cfg(not(target_arch = "x86_64"))]
pub(crate) fn forget() {}

#[cfg(all(test, target_arch = "x86_64"))]
mod tests {
    use std::{
        arch::{asm, is_x86_feature_detected, x86_64},
        hint::black_box,
    };

    /// The components of the vector registers that are not in their initial state, after all bits of
    /// one register were set, and what `then` does.
    #[target_feature(enable = "avx,xsave")]
    fn in_use_after(then: fn()) -> u64 {
        // SAFETY: the processor has AVX, and the register is declared as lost.
        unsafe { asm!("vcmptrueps ymm0, ymm0, ymm0", out("ymm0") _) };
        then();
        // SAFETY: the caller has made sure that the processor knows index 1.
        unsafe { x86_64::_xgetbv(1) & 0b1110_0100 }
    }

    #[test]
    fn forgotten_registers_need_not_be_loaded_and_all_else_stays() {
        let has_index_1 =
            x86_64::__cpuid(0).eax >= 0xd && x86_64::__cpuid_count(0xd, 1).eax & 1 << 2 != 0;
        if !is_x86_feature_detected!("avx") || !is_x86_feature_detected!("xsave") || !has_index_1 {
            return;
        }
        // SAFETY: the features were just detected.
        let (before, after) = unsafe { (in_use_after(|| ()), in_use_after(super::forget)) };
        assert_ne!(before & 1 << 2, 0);
        assert_eq!(after, 0);

        let (x, mut control) = (black_box(0.1), 0_u32);
        super::forget();
        assert_eq!(black_box(x) + 0.2, 0.1 + 0.2);
        // SAFETY: it writes the four bytes that are there for it.
        unsafe { asm!("stmxcsr [{}]", in(reg) &raw mut control, options(nostack)) };
        assert_eq!(
            control & 0x1f80,
            0x1f80,
            "all exceptions are masked as before"
        );
    }
}
