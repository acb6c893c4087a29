//! Spatial learned embeddings (HIL-SERL `SpatialLearnedEmbeddings`) of maps that no gradient flows
//! into, such as a frozen encoder's: forward, and the kernel's gradient, by hand.
//!
//! Every channel's cells are weighted F times: out\[b, c, f\] = Σ_p map\[b, p, c\] · k\[p, c, f\].
//! As a batched matrix product each channel is one of 16 × 8 numbers, and torch first has to bring
//! the maps into another order. Here it is a walk over the maps as they are stored. Their strides
//! are powers of two, which a cache holds badly (a cell's neighbour is 2 KiB away, a row's 32 KiB),
//! so the walk copies one small tile after the other and works on that.
//! [`layers::spatial_embeddings`] is the same with gradients into the maps, for imitation.

use tch::{Device, Kind, Tensor, no_grad};

use super::{layers, team};

/// Features per channel that the walk is made for: HIL-SERL's 8, one AVX register.
const F: usize = 8;
/// Rows of a batch that are walked together.
const ROWS: usize = 4;
/// Groups of rows in one thread's piece of work.
const GROUPS: usize = 8;
/// Channels that are walked together: of a 4×4 map, kernel and tile are 16 and 8 KiB.
const CHANNELS: usize = 32;

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
        let (cells, channels) = ((h * w) as usize, c as usize);
        walk_forward(kernel, maps, out_slice, Size { cells, channels });
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
        let (cells, channels) = ((h * w) as usize, c as usize);
        walk_backward(maps, grad, out_slice, Size { cells, channels });
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

/// What a map is made of.
#[derive(Clone, Copy)]
struct Size {
    cells: usize,
    channels: usize,
}

impl Size {
    /// First channels of the blocks that are walked together.
    fn blocks(self) -> impl Iterator<Item = usize> {
        (0..self.channels).step_by(CHANNELS)
    }
}

fn walk_forward(kernel: &[f32], maps: &[f32], out: &mut [f32], size: Size) {
    let Size { cells, channels } = size;
    let mut turned = vec![0f32; kernel.len()];
    turn(kernel, &mut turned, cells, channels);
    let kernel = &turned;
    let rows = GROUPS * ROWS;
    let parts = maps.chunks(rows * cells * channels);
    let pieces = parts.zip(out.chunks_mut(rows * channels * F)).collect();
    team::share(pieces, |(maps, out)| {
        #[cfg(target_arch = "x86_64")]
        if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
            // SAFETY: the processor has both.
            return unsafe { avx::forward(kernel, maps, out, size) };
        }
        forward_walk::<[f32; F]>(kernel, maps, out, size);
    });
}

fn walk_backward(maps: &[f32], grad: &[f32], out: &mut [f32], size: Size) {
    let Size { cells, channels } = size;
    let mut turned = vec![0f32; out.len()];
    let blocks = turned.chunks_mut(CHANNELS * cells * F);
    team::share(size.blocks().zip(blocks).collect(), |(first, block)| {
        #[cfg(target_arch = "x86_64")]
        if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
            // SAFETY: the processor has both.
            return unsafe { avx::backward(maps, grad, block, first, size) };
        }
        backward_walk::<[f32; F]>(maps, grad, block, first, size);
    });
    turn(&turned, out, channels, cells);
}

/// F numbers at a time.
trait Lanes: Copy {
    /// The first F of a slice.
    fn load(from: &[f32]) -> Self;
    /// To the first F of a slice.
    fn store(self, to: &mut [f32]);
    /// self + a·b.
    fn add(self, a: f32, b: Self) -> Self;
}

impl Lanes for [f32; F] {
    #[inline(always)]
    fn load(from: &[f32]) -> Self {
        std::array::from_fn(|i| from[i])
    }

    #[inline(always)]
    fn store(self, to: &mut [f32]) {
        to[..F].copy_from_slice(&self);
    }

    // Without the instruction a fused product would be a call per number.
    #[inline(always)]
    fn add(self, a: f32, b: Self) -> Self {
        std::array::from_fn(|i| self[i] + a * b[i])
    }
}

#[cfg(target_arch = "x86_64")]
mod avx {
    use std::arch::x86_64::{
        __m256, _mm256_fmadd_ps, _mm256_loadu_ps, _mm256_set1_ps, _mm256_storeu_ps,
    };

    use super::{F, Lanes, Size};

    /// One register. Left to itself the compiler vectorizes across rows, with more shuffles than
    /// sums. Private to this module's two functions, which only run where the processor has AVX2
    /// and FMA.
    #[derive(Clone, Copy)]
    struct Register(__m256);

    impl Lanes for Register {
        #[inline(always)]
        fn load(from: &[f32]) -> Self {
            // SAFETY: the slice is at least F long; the processor has the instruction (see above).
            Self(unsafe { _mm256_loadu_ps(from[..F].as_ptr()) })
        }

        #[inline(always)]
        fn store(self, to: &mut [f32]) {
            // SAFETY: as in `load`.
            unsafe { _mm256_storeu_ps(to[..F].as_mut_ptr(), self.0) }
        }

        #[inline(always)]
        fn add(self, a: f32, b: Self) -> Self {
            // SAFETY: the processor has the instructions (see above).
            Self(unsafe { _mm256_fmadd_ps(_mm256_set1_ps(a), b.0, self.0) })
        }
    }

    #[target_feature(enable = "avx2,fma")]
    pub fn forward(kernel: &[f32], maps: &[f32], out: &mut [f32], size: Size) {
        super::forward_walk::<Register>(kernel, maps, out, size);
    }

    #[target_feature(enable = "avx2,fma")]
    pub fn backward(maps: &[f32], grad: &[f32], block: &mut [f32], first: usize, size: Size) {
        super::backward_walk::<Register>(maps, grad, block, first, size);
    }
}

/// Copies up to [`CHANNELS`] channels from `first` on of every cell of up to [`ROWS`] rows to
/// tile\[row, cell, channel\]; what is beyond them stays as it is.
#[inline(always)]
fn fill(tile: &mut [f32], maps: &[f32], size: Size, first: usize) {
    let cells = maps.chunks_exact(size.channels);
    for (to, from) in tile.chunks_exact_mut(CHANNELS).zip(cells) {
        match &from[first..] {
            // A length that is known is copied in registers.
            from if from.len() >= CHANNELS => to.copy_from_slice(&from[..CHANNELS]),
            from => to[..from.len()].copy_from_slice(from),
        }
    }
}

/// out\[row, channel, feature\] of these rows; `kernel` is \[channel, cell, feature\].
#[inline(always)]
fn forward_walk<L: Lanes>(kernel: &[f32], maps: &[f32], out: &mut [f32], size: Size) {
    let Size { cells, channels } = size;
    let mut tile = vec![0f32; ROWS * cells * CHANNELS];
    for (first, block) in size.blocks().zip(kernel.chunks(CHANNELS * cells * F)) {
        let groups = out.chunks_mut(ROWS * channels * F);
        for (maps, out) in maps.chunks(ROWS * cells * channels).zip(groups) {
            fill(&mut tile, maps, size, first);
            for (c, weights) in block.chunks_exact(cells * F).enumerate() {
                let mut sums = [L::load(&[0.0; F]); ROWS];
                for (p, k) in weights.chunks_exact(F).map(L::load).enumerate() {
                    for (r, sum) in sums.iter_mut().enumerate() {
                        *sum = sum.add(tile[(r * cells + p) * CHANNELS + c], k);
                    }
                }
                for (out, sum) in out.chunks_exact_mut(channels * F).zip(sums) {
                    sum.store(&mut out[(first + c) * F..]);
                }
            }
        }
    }
}

/// The gradient \[channel, cell, feature\] of up to [`CHANNELS`] channels from `first` on.
#[inline(always)]
fn backward_walk<L: Lanes>(
    maps: &[f32],
    grad: &[f32],
    block: &mut [f32],
    first: usize,
    size: Size,
) {
    let Size { cells, channels } = size;
    let mut tile = vec![0f32; ROWS * cells * CHANNELS];
    block.fill(0.0);
    let groups = grad.chunks(ROWS * channels * F);
    for (maps, grad) in maps.chunks(ROWS * cells * channels).zip(groups) {
        fill(&mut tile, maps, size, first);
        for (c, sums) in block.chunks_exact_mut(cells * F).enumerate() {
            // Rows that the last group lacks have no gradient, whatever the tile still holds.
            let mut g = [L::load(&[0.0; F]); ROWS];
            for (g, grad) in g.iter_mut().zip(grad.chunks_exact(channels * F)) {
                *g = L::load(&grad[(first + c) * F..]);
            }
            for (p, place) in sums.chunks_exact_mut(F).enumerate() {
                let mut sum = L::load(place);
                for (r, &g) in g.iter().enumerate() {
                    sum = sum.add(tile[(r * cells + p) * CHANNELS + c], g);
                }
                sum.store(place);
            }
        }
    }
}

/// F numbers of every cell and channel, in the other order of the two.
fn turn(from: &[f32], to: &mut [f32], outer: usize, inner: usize) {
    for (o, row) in from.chunks_exact(inner * F).enumerate() {
        for (i, numbers) in row.chunks_exact(F).enumerate() {
            to[(i * outer + o) * F..][..F].copy_from_slice(numbers);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Odd sizes: neither rows nor cells nor channels fill their groups.
    #[test]
    fn the_walk_and_autograd_agree_in_both_directions() {
        for (batch, [h, w, c]) in [(7, [3, 3, 21]), (8, [4, 4, 64]), (1, [1, 1, 1])] {
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
                    let (slow, slow_grad) = (want.zeros_like(), kernel.zeros_like());
                    let (cells, channels) = ((h * w) as usize, c as usize);
                    let size = Size { cells, channels };
                    // SAFETY: contiguous f32 CPU tensors of this test's own.
                    let (kernel, maps, way, out, out_grad) = unsafe {
                        let (out, out_grad) = (numbers_mut(&slow), numbers_mut(&slow_grad));
                        (
                            numbers(&kernel),
                            numbers(&maps),
                            numbers(&way),
                            out,
                            out_grad,
                        )
                    };
                    let mut turned = vec![0.0; kernel.len()];
                    turn(kernel, &mut turned, cells, channels);
                    forward_walk::<[f32; F]>(&turned, maps, out, size);
                    for (first, block) in size.blocks().zip(turned.chunks_mut(CHANNELS * cells * F))
                    {
                        backward_walk::<[f32; F]>(maps, way, block, first, size);
                    }
                    turn(&turned, out_grad, channels, cells);
                    near(&slow_grad, &grads[0]);
                    near(&slow, &want);
                }
            }
        }
    }
}
