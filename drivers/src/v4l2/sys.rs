//! The kernel's V4L2 interface, as far as capture into one plane needs it: the structures of
//! `<linux/videodev2.h>`, their numbers, and memory that is shared with the device.
//!
//! Sizes are those of 64-bit Linux and asserted; the tests compare the numbers of the calls with
//! those that a C compiler makes of the header.

use std::{
    ffi::c_void,
    marker::PhantomData,
    os::fd::{AsFd, OwnedFd},
    ptr::NonNull,
};

use rustix::{
    io::Errno,
    ioctl::{Ioctl, IoctlOutput, Opcode, ioctl, opcode},
    mm::{MapFlags, ProtFlags, mmap, munmap},
};

pub const BUF_TYPE_VIDEO_CAPTURE: u32 = 1;
pub const MEMORY_MMAP: u32 = 1;
pub const FIELD_NONE: u32 = 1;

pub const CAP_VIDEO_CAPTURE: u32 = 0x1;
pub const CAP_STREAMING: u32 = 0x0400_0000;
pub const CAP_DEVICE_CAPS: u32 = 0x8000_0000;
pub const CAP_TIMEPERFRAME: u32 = 0x1000;

pub const BUF_FLAG_ERROR: u32 = 0x40;
pub const BUF_FLAG_TIMESTAMP_MASK: u32 = 0xe000;
pub const BUF_FLAG_TIMESTAMP_MONOTONIC: u32 = 0x2000;

pub const CTRL_FLAG_DISABLED: u32 = 0x1;
pub const CTRL_FLAG_READ_ONLY: u32 = 0x4;

pub const FRAME_TYPE_DISCRETE: u32 = 1;

pub const COLORSPACE_REC709: u32 = 3;
pub const COLORSPACE_JPEG: u32 = 7;
pub const YCBCR_ENC_DEFAULT: u32 = 0;
pub const YCBCR_ENC_709: u32 = 2;
pub const QUANTIZATION_DEFAULT: u32 = 0;
pub const QUANTIZATION_FULL_RANGE: u32 = 1;

/// Structures that consist of whole numbers only: all bits zero is one of their values.
///
/// # Safety
/// Every field is an integer or an array of integers, or itself such a structure.
pub unsafe trait Plain: Sized {
    /// The kernel wants all that is not said to be zero.
    fn zeroed() -> Self {
        // SAFETY: by the trait's contract all bits zero is a value.
        unsafe { std::mem::zeroed() }
    }
}

macro_rules! plain {
    ($($name:ident: $bytes:literal,)*) => { $(
        // SAFETY: see the definition: integers and arrays of them.
        unsafe impl Plain for $name {}
        const _: () = assert!(size_of::<$name>() == $bytes);
    )* };
}

plain! {
    Capability: 104,
    FmtDesc: 64,
    FrameSize: 44,
    FrameInterval: 52,
    Format: 208,
    StreamParm: 204,
    RequestBuffers: 20,
    Buffer: 88,
    QueryCtrl: 68,
    Control: 8,
}

#[repr(C)]
pub struct Capability {
    pub driver: [u8; 16],
    pub card: [u8; 32],
    pub bus_info: [u8; 32],
    pub version: u32,
    pub capabilities: u32,
    pub device_caps: u32,
    reserved: [u32; 3],
}

#[repr(C)]
pub struct FmtDesc {
    pub index: u32,
    pub kind: u32,
    pub flags: u32,
    pub description: [u8; 32],
    pub pixelformat: u32,
    pub mbus_code: u32,
    reserved: [u32; 3],
}

#[repr(C)]
#[derive(Clone, Copy)]
pub struct Fraction {
    pub numerator: u32,
    pub denominator: u32,
}

#[repr(C)]
pub struct FrameSize {
    pub index: u32,
    pub pixel_format: u32,
    pub kind: u32,
    /// Discrete: width, height. Else: least, greatest and step of the width, then of the height.
    pub size: [u32; 6],
    reserved: [u32; 2],
}

#[repr(C)]
pub struct FrameInterval {
    pub index: u32,
    pub pixel_format: u32,
    pub width: u32,
    pub height: u32,
    pub kind: u32,
    /// Discrete: the first. Else: least, greatest, step.
    pub interval: [Fraction; 3],
    reserved: [u32; 2],
}

#[repr(C)]
#[derive(Clone, Copy)]
pub struct PixFormat {
    pub width: u32,
    pub height: u32,
    pub pixelformat: u32,
    pub field: u32,
    pub bytesperline: u32,
    pub sizeimage: u32,
    pub colorspace: u32,
    pub private: u32,
    pub flags: u32,
    pub ycbcr_enc: u32,
    pub quantization: u32,
    pub xfer_func: u32,
}

#[repr(C, align(8))]
pub struct Format {
    pub kind: u32,
    // The union behind it holds pointers in some of its forms.
    gap: u32,
    pub pix: PixFormat,
    rest: [u8; 152],
}

#[repr(C)]
pub struct StreamParm {
    pub kind: u32,
    pub capability: u32,
    pub capturemode: u32,
    pub timeperframe: Fraction,
    pub extendedmode: u32,
    pub readbuffers: u32,
    reserved: [u32; 4],
    rest: [u8; 160],
}

#[repr(C)]
pub struct RequestBuffers {
    pub count: u32,
    pub kind: u32,
    pub memory: u32,
    pub capabilities: u32,
    pub flags: u8,
    reserved: [u8; 3],
}

#[repr(C)]
pub struct Buffer {
    pub index: u32,
    pub kind: u32,
    pub bytesused: u32,
    pub flags: u32,
    pub field: u32,
    gap: u32,
    pub timestamp_s: i64,
    pub timestamp_us: i64,
    pub timecode: [u32; 4],
    pub sequence: u32,
    pub memory: u32,
    /// Where `mmap` finds the buffer.
    pub offset: u64,
    pub length: u32,
    reserved2: u32,
    pub request_fd: i32,
    end: u32,
}

#[repr(C)]
pub struct QueryCtrl {
    pub id: u32,
    pub kind: u32,
    pub name: [u8; 32],
    pub minimum: i32,
    pub maximum: i32,
    pub step: i32,
    pub default: i32,
    pub flags: u32,
    reserved: [u32; 2],
}

#[repr(C)]
pub struct Control {
    pub id: u32,
    pub value: i32,
}

/// One of the kernel's calls, which reads and writes a `T`.
pub struct Call<T> {
    opcode: Opcode,
    of: PhantomData<fn(&mut T)>,
}

struct Update<'a, T>(Opcode, &'a mut T);

// SAFETY: the opcode is that of a `Call<T>`, which vouches that the kernel takes a `T` for it, and
// the pointer is to one that nobody else uses meanwhile.
unsafe impl<T> Ioctl for Update<'_, T> {
    type Output = ();
    const IS_MUTATING: bool = true;

    fn opcode(&self) -> Opcode {
        self.0
    }

    fn as_ptr(&mut self) -> *mut c_void {
        std::ptr::from_mut(self.1).cast()
    }

    unsafe fn output_from_ptr(_: IoctlOutput, _: *mut c_void) -> Result<(), Errno> {
        Ok(())
    }
}

impl<T> Call<T> {
    /// # Safety
    /// The kernel's call of this number reads or writes a `T`, and nothing else.
    const unsafe fn new(opcode: Opcode) -> Self {
        Self {
            opcode,
            of: PhantomData,
        }
    }

    /// # Safety
    /// As [`Call::new`], for a call of V4L2 that reads and writes its `T`.
    const unsafe fn read_write(number: u8) -> Self {
        // SAFETY: the caller's word.
        unsafe { Self::new(opcode::read_write::<T>(b'V', number)) }
    }

    /// # Safety
    /// As [`Call::new`], for a call of V4L2 that only reads its `T`.
    const unsafe fn write(number: u8) -> Self {
        // SAFETY: the caller's word.
        unsafe { Self::new(opcode::write::<T>(b'V', number)) }
    }

    /// Does it; again when a signal came in between.
    pub fn on(&self, fd: &OwnedFd, value: &mut T) -> Result<(), Errno> {
        loop {
            // SAFETY: the contract of `Call`'s constructors.
            match unsafe { ioctl(fd, Update(self.opcode, &mut *value)) } {
                Err(Errno::INTR) => {}
                done => return done,
            }
        }
    }
}

// SAFETY: of this and all below: number, direction and structure are those of the header.
pub const QUERYCAP: Call<Capability> = unsafe { Call::new(opcode::read::<Capability>(b'V', 0)) };
// SAFETY: as above.
pub const ENUM_FMT: Call<FmtDesc> = unsafe { Call::read_write(2) };
// SAFETY: as above.
pub const S_FMT: Call<Format> = unsafe { Call::read_write(5) };
// SAFETY: as above.
pub const REQBUFS: Call<RequestBuffers> = unsafe { Call::read_write(8) };
// SAFETY: as above.
pub const QUERYBUF: Call<Buffer> = unsafe { Call::read_write(9) };
// SAFETY: as above.
pub const QBUF: Call<Buffer> = unsafe { Call::read_write(15) };
// SAFETY: as above.
pub const DQBUF: Call<Buffer> = unsafe { Call::read_write(17) };
// SAFETY: as above.
pub const STREAMON: Call<u32> = unsafe { Call::write(18) };
// SAFETY: as above.
pub const STREAMOFF: Call<u32> = unsafe { Call::write(19) };
// SAFETY: as above.
pub const S_PARM: Call<StreamParm> = unsafe { Call::read_write(22) };
// SAFETY: as above.
pub const G_CTRL: Call<Control> = unsafe { Call::read_write(27) };
// SAFETY: as above.
pub const S_CTRL: Call<Control> = unsafe { Call::read_write(28) };
// SAFETY: as above.
pub const QUERYCTRL: Call<QueryCtrl> = unsafe { Call::read_write(36) };
// SAFETY: as above.
pub const ENUM_FRAMESIZES: Call<FrameSize> = unsafe { Call::read_write(74) };
// SAFETY: as above.
pub const ENUM_FRAMEINTERVALS: Call<FrameInterval> = unsafe { Call::read_write(75) };

/// A device's buffer in this process's memory.
#[derive(Debug)]
pub struct Mapping {
    start: NonNull<c_void>,
    len: usize,
}

// SAFETY: memory is not bound to the thread that mapped it.
unsafe impl Send for Mapping {}

impl Mapping {
    /// Maps `len` bytes that the device keeps at `offset`.
    pub fn new(fd: &OwnedFd, len: usize, offset: u64) -> Result<Self, Errno> {
        let (prot, flags) = (ProtFlags::READ, MapFlags::SHARED);
        // SAFETY: a new mapping at an address of the kernel's choice.
        let start = unsafe { mmap(std::ptr::null_mut(), len, prot, flags, fd.as_fd(), offset) }?;
        let start = NonNull::new(start).ok_or(Errno::NOMEM)?;
        Ok(Self { start, len })
    }

    /// Its bytes.
    ///
    /// # Safety
    /// The device does not write to them as long as the slice lives.
    pub unsafe fn bytes(&self) -> &[u8] {
        // SAFETY: mapped for reading as long as `self` lives; nobody writes, says the caller.
        unsafe { std::slice::from_raw_parts(self.start.cast().as_ptr(), self.len) }
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: this mapping is `self`'s alone, and slices of it cannot outlive it.
        if let Err(error) = unsafe { munmap(self.start.as_ptr(), self.len) } {
            tracing::error!("a camera's buffer was not unmapped: {error}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As gcc 12 prints them for x86-64 and aarch64 from the header of Linux 6.1.
    #[test]
    fn calls_have_the_numbers_of_the_header() {
        let ours = [
            QUERYCAP.opcode,
            ENUM_FMT.opcode,
            S_FMT.opcode,
            REQBUFS.opcode,
            QUERYBUF.opcode,
            QBUF.opcode,
            DQBUF.opcode,
            STREAMON.opcode,
            STREAMOFF.opcode,
            S_PARM.opcode,
            G_CTRL.opcode,
            S_CTRL.opcode,
            QUERYCTRL.opcode,
            ENUM_FRAMESIZES.opcode,
            ENUM_FRAMEINTERVALS.opcode,
        ];
        let header: [Opcode; 15] = [
            0x8068_5600,
            0xc040_5602,
            0xc0d0_5605,
            0xc014_5608,
            0xc058_5609,
            0xc058_560f,
            0xc058_5611,
            0x4004_5612,
            0x4004_5613,
            0xc0cc_5616,
            0xc008_561b,
            0xc008_561c,
            0xc044_5624,
            0xc02c_564a,
            0xc034_564b,
        ];
        assert_eq!(ours, header);
    }

    #[test]
    fn fields_lie_where_the_kernel_puts_them() {
        assert_eq!(std::mem::offset_of!(Format, pix), 8);
        assert_eq!(std::mem::offset_of!(StreamParm, timeperframe), 12);
        assert_eq!(std::mem::offset_of!(Buffer, timestamp_s), 24);
        assert_eq!(std::mem::offset_of!(Buffer, sequence), 56);
        assert_eq!(std::mem::offset_of!(Buffer, offset), 64);
        assert_eq!(std::mem::offset_of!(Buffer, length), 72);
    }
}
