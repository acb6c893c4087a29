//! Spatial learned embeddings (HIL-SERL `SpatialLearnedEmbeddings`) of maps that no gradient flows
//! into, such as a frozen encoder's: forward, and the kernel's gradient, by hand.
//!
//! Every channel's cells are weighted F times: out\[b, c, f\] = Σ_p map\[b, p, c\] · k\[p, c, f\].
//! As a batched matrix product each channel is one of 16 × 8 numbers, and torch first has to bring
//! the maps into another order; in the order in which they are stored it is a walk over memory.
//! [`layers::spatial_embeddings`] is the same with gradients into the maps, for imitation.

use tch::{Device, Kind, Tensor, no_grad};

use super::layers;

/// Features per channel that the walk is made for: HIL-SERL's 8, one AVX register.
const F: usize = 8;
/// Rows of a batch that share one reading of the kernel.
const ROWS: usize = 4;
/// Cells that share one reading of a gradient.
const CELLS: usize = 8;
/// Channels whose numbers lie in one cache line of a map.
const CHANNELS: usize = 16;

fn shape(kernel_hwcf: &Tensor) -> [i64; 4] {
    let size = kernel_hwcf.size();
    let [h, w, c, f] = size[..] else {
        panic!("the kernel must be [h, w, C, F], not {size:?}")
    };
    [h, w, c, f]
}

fn walks(maps: &Tensor, features: i64) -> bool {
    maps.device() == Device::Cpu && maps.kind() == Kind::Float && features == F as i64
}

/// Features \[B, C·F\], channel major, of maps \[B, h, w, C\] and a kernel \[h, w, C, F\]. A tensor
/// without history: its gradient is brought to the kernel by [`backward`].
pub fn forward(kernel_hwcf: &Tensor, maps: &Tensor) -> Tensor {
    let [h, w, c, f] = shape(kernel_hwcf);
    let batch = maps.size()[0];
    assert_eq!(maps.size(), [batch, h, w, c]);
    no_grad(|| {
        if !walks(maps, f) {
            return layers::spatial_embeddings(kernel_hwcf, &layers::by_channel(maps));
        }
        let out = Tensor::empty([batch, c * f], (Kind::Float, Device::Cpu));
        let (kernel, maps) = (kernel_hwcf.contiguous(), maps.contiguous());
        // SAFETY: three contiguous f32 CPU tensors that live to the end of this block; `out` is
        // fresh, so nothing else reads or writes it.
        let (kernel, maps, out_slice) =
            unsafe { (numbers(&kernel), numbers(&maps), numbers_mut(&out)) };
        run(|fma| match fma {
            // SAFETY: `run` says so only where the processor has both.
            true => unsafe { forward_fma(kernel, maps, out_slice, (h * w) as usize, c as usize) },
            false => forward_walk::<false>(kernel, maps, out_slice, (h * w) as usize, c as usize),
        });
        out
    })
}

/// The kernel's gradient \[h, w, C, F\] from the features' \[B, C·F\].
pub fn backward(kernel_hwcf: &Tensor, maps: &Tensor, grad: &Tensor) -> Tensor {
    let [h, w, c, f] = shape(kernel_hwcf);
    let batch = maps.size()[0];
    assert_eq!(grad.size(), [batch, c * f]);
    no_grad(|| {
        if !walks(maps, f) {
            let cells = maps.reshape([batch, h * w, c]).permute([2, 1, 0]);
            let grad = grad.reshape([batch, c, f]).permute([1, 0, 2]);
            return cells.bmm(&grad).permute([1, 0, 2]).reshape([h, w, c, f]);
        }
        let out = Tensor::empty([h, w, c, f], (Kind::Float, Device::Cpu));
        let (maps, grad) = (maps.contiguous(), grad.contiguous());
        // SAFETY: as in `forward`.
        let (maps, grad, out_slice) =
            unsafe { (numbers(&maps), numbers(&grad), numbers_mut(&out)) };
        run(|fma| match fma {
            // SAFETY: as in `forward`.
            true => unsafe { backward_fma(maps, grad, out_slice, (h * w) as usize, c as usize) },
            false => backward_walk::<false>(maps, grad, out_slice, (h * w) as usize, c as usize),
        });
        out
    })
}

/// # Safety
/// The tensor is a contiguous f32 CPU tensor and is not written while the slice lives.
unsafe fn numbers(tensor: &Tensor) -> &[f32] {
    // SAFETY: such a tensor is `numel` values at `data_ptr`.
    unsafe { std::slice::from_raw_parts(tensor.data_ptr().cast::<f32>(), tensor.numel()) }
}

/// # Safety
/// As [`numbers`], and nothing else reads it meanwhile.
#[allow(
    clippy::mut_from_ref,
    reason = "a tensor is a handle; the caller owns what it points to"
)]
unsafe fn numbers_mut(tensor: &Tensor) -> &mut [f32] {
    // SAFETY: such a tensor is `numel` values at `data_ptr`.
    unsafe { std::slice::from_raw_parts_mut(tensor.data_ptr().cast::<f32>(), tensor.numel()) }
}

#[cfg(target_arch = "x86_64")]
fn run(work: impl FnOnce(bool)) {
    work(is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma"));
}

#[cfg(not(target_arch = "x86_64"))]
fn run(work: impl FnOnce(bool)) {
    work(false);
}

#[cfg_attr(target_arch = "x86_64", target_feature(enable = "avx2,fma"))]
unsafe fn forward_fma(kernel: &[f32], maps: &[f32], out: &mut [f32], cells: usize, c: usize) {
    forward_walk::<true>(kernel, maps, out, cells, c);
}

#[cfg_attr(target_arch = "x86_64", target_feature(enable = "avx2,fma"))]
unsafe fn backward_fma(maps: &[f32], grad: &[f32], out: &mut [f32], cells: usize, c: usize) {
    backward_walk::<true>(maps, grad, out, cells, c);
}

/// sum ← sum + a·b. Without the instruction a fused product would be a call per number.
#[inline(always)]
fn add<const FMA: bool>(sum: &mut [f32; F], a: f32, b: &[f32]) {
    for (sum, b) in sum.iter_mut().zip(b) {
        *sum = if FMA {
            a.mul_add(*b, *sum)
        } else {
            a * b + *sum
        };
    }
}

#[inline(always)]
fn forward_walk<const FMA: bool>(
    kernel: &[f32],
    maps: &[f32],
    out: &mut [f32],
    cells: usize,
    channels: usize,
) {
    let groups = out.chunks_mut(ROWS * channels * F);
    for (maps, out) in maps.chunks(ROWS * cells * channels).zip(groups) {
        let rows = out.len() / (channels * F);
        for c in 0..channels {
            let mut sums = [[0f32; F]; ROWS];
            for p in 0..cells {
                let k = &kernel[(p * channels + c) * F..][..F];
                for (r, sum) in sums.iter_mut().enumerate().take(rows) {
                    add::<FMA>(sum, maps[(r * cells + p) * channels + c], k);
                }
            }
            for (r, sum) in sums.iter().enumerate().take(rows) {
                out[(r * channels + c) * F..][..F].copy_from_slice(sum);
            }
        }
    }
}

#[inline(always)]
fn backward_walk<const FMA: bool>(
    maps: &[f32],
    grad: &[f32],
    out: &mut [f32],
    cells: usize,
    channels: usize,
) {
    let batch = grad.len() / (channels * F);
    for first_channel in (0..channels).step_by(CHANNELS) {
        for first_cell in (0..cells).step_by(CELLS) {
            let some = CELLS.min(cells - first_cell);
            for c in first_channel..(first_channel + CHANNELS).min(channels) {
                let mut sums = [[0f32; F]; CELLS];
                for b in 0..batch {
                    let g = &grad[(b * channels + c) * F..][..F];
                    let first = (b * cells + first_cell) * channels + c;
                    for (q, sum) in sums.iter_mut().enumerate().take(some) {
                        add::<FMA>(sum, maps[first + q * channels], g);
                    }
                }
                for (q, sum) in sums.iter().enumerate().take(some) {
                    out[((first_cell + q) * channels + c) * F..][..F].copy_from_slice(sum);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Odd sizes: neither rows nor cells nor channels fill their groups.
    #[test]
    fn the_walk_and_autograd_agree_in_both_directions() {
        for (batch, [h, w, c]) in [(7, [3, 3, 21]), (8, [4, 4, 16]), (1, [1, 1, 1])] {
            for (kind, features, tolerance) in [
                (Kind::Float, F as i64, 1e-4),
                (Kind::Float, 3, 1e-4),
                (Kind::Double, F as i64, 1e-12),
            ] {
                let options = (kind, Device::Cpu);
                let maps = Tensor::randn([batch, h, w, c], options);
                let kernel = Tensor::randn([h, w, c, features], options).set_requires_grad(true);
                let way = Tensor::randn([batch, c * features], options);
                let want = layers::spatial_embeddings(&kernel, &layers::by_channel(&maps));
                let loss = (&want * &way).sum(None::<Kind>);
                let grads = Tensor::run_backward(&[loss], &[&kernel], false, false);
                let near = |a: &Tensor, b: &Tensor| {
                    assert_eq!(a.size(), b.size());
                    assert!((a - b).abs().max().double_value(&[]) < tolerance);
                };
                near(&forward(&kernel, &maps), &want);
                near(&backward(&kernel, &maps, &way), &grads[0]);
                if kind == Kind::Float && features == F as i64 {
                    let slow = Tensor::zeros([batch, c * features], options);
                    // SAFETY: contiguous f32 CPU tensors of this test's own.
                    unsafe {
                        forward_walk::<false>(
                            numbers(&kernel),
                            numbers(&maps),
                            numbers_mut(&slow),
                            (h * w) as usize,
                            c as usize,
                        );
                    }
                    near(&slow, &want);
                }
            }
        }
    }
}
