//! Mish, forward and backward, as one walk over memory: torch takes ten times as long for its exponentials, logarithms
//! and hyperbolic tangents as AVX-512 for a polynomial.
//!
//! With e = eˣ and n = e (e + 2), tanh(ln(1 + eˣ)) = n / (n + 2): nothing cancels at any x.

use tch::{Device, Kind, Tensor, no_grad};

use super::team;

/// Numbers that one thread takes at a time.
const PIECE: usize = 1 << 14;

/// x tanh(ln(1 + eˣ)) of every number (Misra 2019, arXiv 1908.08681). No history.
pub fn mish(x: &Tensor) -> Tensor {
    no_grad(|| match ours(x) {
        true => walk(x, x, |x, _, out| {
            #[cfg(target_arch = "x86_64")]
            // SAFETY: `ours` has seen that the processor has AVX-512.
            unsafe {
                avx512::mish(x, out)
            }
        }),
        false => x.mish(),
    })
}

/// The gradient at `x` from that at [`mish`] of it. No history.
pub fn mish_backward(x: &Tensor, grad: &Tensor) -> Tensor {
    no_grad(|| match ours(x) {
        true => walk(x, grad, |x, grad, out| {
            #[cfg(target_arch = "x86_64")]
            // SAFETY: `ours` has seen that the processor has AVX-512.
            unsafe {
                avx512::mish_backward(x, grad, out)
            }
        }),
        false => x.mish_backward(grad),
    })
}

fn ours(x: &Tensor) -> bool {
    #[cfg(target_arch = "x86_64")]
    return x.device() == Device::Cpu
        && x.kind() == Kind::Float
        && is_x86_feature_detected!("avx512f");
    #[cfg(not(target_arch = "x86_64"))]
    return false;
}

/// What `work(of x, of beside, out)` makes of two f32 CPU tensors of one size, piece by piece.
fn walk(x: &Tensor, beside: &Tensor, work: impl Fn(&[f32], &[f32], &mut [f32]) + Sync) -> Tensor {
    assert_eq!(x.size(), beside.size());
    let (x, beside) = (x.contiguous(), beside.contiguous());
    let out = Tensor::empty(x.size(), (Kind::Float, Device::Cpu));
    if out.numel() == 0 {
        return out;
    }
    // SAFETY: a contiguous f32 CPU tensor that is being written here and read nowhere else.
    let numbers =
        unsafe { std::slice::from_raw_parts_mut(out.data_ptr().cast::<f32>(), out.numel()) };
    let (x, beside) = (Numbers::of(&x), Numbers::of(&beside));
    let pieces: Vec<_> = numbers.chunks_mut(PIECE).enumerate().collect();
    team::share(pieces, |(i, out)| {
        let piece = i * PIECE..i * PIECE + out.len();
        work(&x.get()[piece.clone()], &beside.get()[piece], out);
    });
    out
}

/// A contiguous f32 CPU tensor's numbers.
struct Numbers<'a>(&'a Tensor);

// SAFETY: all that is done with the tensor is to read its numbers, which nobody writes meanwhile.
unsafe impl Sync for Numbers<'_> {}

impl<'a> Numbers<'a> {
    fn of(tensor: &'a Tensor) -> Self {
        assert!(tensor.is_contiguous());
        assert!((tensor.kind(), tensor.device()) == (Kind::Float, Device::Cpu));
        Self(tensor)
    }

    fn get(&self) -> &'a [f32] {
        // SAFETY: so many numbers lie there, by what `of` asks for; nobody writes them while this lives.
        unsafe { std::slice::from_raw_parts(self.0.data_ptr().cast(), self.0.numel()) }
    }
}

#[cfg(target_arch = "x86_64")]
mod avx512 {
    use std::arch::x86_64::*;

    const LANES: usize = 16;

    #[target_feature(enable = "avx512f")]
    pub fn mish(x: &[f32], out: &mut [f32]) {
        each(x, x, out, |x, _| {
            let two = _mm512_set1_ps(2.0);
            let e = exp(within(x));
            let n = _mm512_mul_ps(e, _mm512_add_ps(e, two));
            _mm512_mul_ps(x, _mm512_div_ps(n, _mm512_add_ps(n, two)))
        });
    }

    /// With w = n / (n + 2) the slope is w + x w', w' = 4 e (e + 1) / (n + 2)².
    #[target_feature(enable = "avx512f")]
    pub fn mish_backward(x: &[f32], grad: &[f32], out: &mut [f32]) {
        each(x, grad, out, |x, grad| {
            let two = _mm512_set1_ps(2.0);
            let x = within(x);
            let e = exp(x);
            let n = _mm512_mul_ps(e, _mm512_add_ps(e, two));
            let inverse = _mm512_div_ps(_mm512_set1_ps(1.0), _mm512_add_ps(n, two));
            let twice = _mm512_mul_ps(_mm512_mul_ps(two, e), inverse);
            let more = _mm512_add_ps(e, _mm512_set1_ps(1.0));
            let rise = _mm512_mul_ps(twice, _mm512_mul_ps(_mm512_mul_ps(two, more), inverse));
            let slope = _mm512_fmadd_ps(x, rise, _mm512_mul_ps(n, inverse));
            _mm512_mul_ps(grad, slope)
        });
    }

    /// The last numbers go through a register that is not full.
    #[target_feature(enable = "avx512f")]
    fn each(x: &[f32], beside: &[f32], out: &mut [f32], of: impl Fn(__m512, __m512) -> __m512) {
        assert!(x.len() == out.len() && beside.len() == out.len());
        for first in (0..out.len()).step_by(LANES) {
            let mask = ((1u32 << LANES.min(out.len() - first)) - 1) as __mmask16;
            // SAFETY: lanes beyond the slices are not touched.
            unsafe {
                let load = |of: &[f32]| _mm512_maskz_loadu_ps(mask, of.as_ptr().add(first));
                let made = of(load(x), load(beside));
                _mm512_mask_storeu_ps(out.as_mut_ptr().add(first), mask, made);
            }
        }
    }

    /// No less than −87 and no more than 20: below, x eˣ is no normal number any more; above, n / (n + 2) is 1 and its
    /// slope 0 to the last bit, and (n + 2)² still is a number. In this order a NaN stays one.
    #[target_feature(enable = "avx512f")]
    fn within(x: __m512) -> __m512 {
        let x = _mm512_min_ps(_mm512_set1_ps(20.0), x);
        _mm512_max_ps(_mm512_set1_ps(-87.0), x)
    }

    /// eˣ for x [`within`] these. x = k ln 2 + r, and eʳ by its series, the first term that is left out being 5e-9.
    #[target_feature(enable = "avx512f")]
    fn exp(x: __m512) -> __m512 {
        let of = |number| _mm512_set1_ps(number);
        let k = _mm512_mul_ps(x, of(std::f32::consts::LOG2_E));
        let k = _mm512_roundscale_ps::<{ _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC }>(k);
        // ln 2 in two parts, the first so short that k times it is exact.
        const SHORT: f32 = 355.0 / 512.0;
        let rest = (std::f64::consts::LN_2 - f64::from(SHORT)) as f32;
        let r = _mm512_fnmadd_ps(k, of(SHORT), x);
        let r = _mm512_fnmadd_ps(k, of(rest), r);
        let mut series = of(1.0 / 5040.0);
        for factorial in [720.0, 120.0, 24.0, 6.0, 2.0, 1.0, 1.0] {
            series = _mm512_fmadd_ps(series, r, of(1.0 / factorial));
        }
        _mm512_scalef_ps(series, k)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Against torch in f64, over all that f32 tells apart around 0 and far out; an odd number of numbers.
    #[test]
    fn mish_is_that_of_f64() {
        let near = Tensor::linspace(-12.0, 24.0, 100_003, (Kind::Float, Device::Cpu));
        let far = Tensor::linspace(-86.0, 1000.0, 10_001, (Kind::Float, Device::Cpu));
        let small = (&near * 3.0).exp() * 1e-20;
        for x in [near, far, small] {
            let grad = x.cos();
            let double = |t: &Tensor| t.to_kind(Kind::Double);
            let check =
                |what: &str, ours: Tensor, theirs: Tensor, scale: Tensor, roundings: f64| {
                    let off = ((double(&ours) - theirs) / scale).abs().max();
                    let bound = roundings * 2f64.powi(-24);
                    assert!(off.double_value(&[]) < bound, "{what}: {off}");
                };
            let (wide, wide_grad) = (double(&x), double(&grad));
            let value = wide.mish();
            let scale = &value.abs() + 1e-36;
            check("forward", mish(&x), value, scale, 5.0);
            // The slope crosses 0, where its two terms cancel.
            let slope = wide.mish_backward(&wide_grad);
            let terms = slope.abs() + &wide_grad.abs() * wide.softplus().tanh();
            check(
                "backward",
                mish_backward(&x, &grad),
                slope,
                terms + 1e-36,
                8.0,
            );
        }
    }

    #[test]
    fn what_is_no_number_stays_none() {
        let x = Tensor::from_slice(&[f32::NAN, f32::INFINITY, 0.0]);
        let y = Vec::<f32>::try_from(mish(&x)).unwrap();
        assert!(
            y[0].is_nan() && y[1] == f32::INFINITY && y[2] == 0.0,
            "{y:?}"
        );
        let slope = Vec::<f32>::try_from(mish_backward(&x, &x.ones_like())).unwrap();
        assert!(slope[0].is_nan() && slope[2] == 0.6, "{slope:?}");
    }
}
