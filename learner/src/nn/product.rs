//! Matrix products of a linear layer, forward and backward, with what comes before or after them in the same
//! walk over memory: bias and ReLU, the ReLU's gradient.
//!
//! torch gives f32 products to MKL, which keeps to AVX2 on AMD processors: half of what a Zen 5 can do.
//! Where there is AVX-512 this goes its own way, and else torch's.
//!
//! The scheme is the usual one (Goto and van de Geijn 2008): panels of the right factor, 32 columns wide, are
//! copied so that they lie in a cache as they are read, and so are rows of a left factor whose numbers lie far
//! apart; a tile of 14 rows of it meets a panel in 28 registers.
//!
//! Shapes: B rows, and M members of an ensemble before all dimensions or none. Weights \[out, in\].

#[cfg(target_arch = "x86_64")]
mod avx512;
#[cfg(target_arch = "x86_64")]
mod bf16;

use tch::{Device, Kind, Tensor, no_grad};

use super::team;

/// Rows of a tile: 14 × 2 registers of 16 numbers, of 32 that there are.
const TILE: usize = 14;
/// Rows that share a copied panel; with 256 columns they fill half of the second cache.
const ROWS: usize = 34 * TILE;
/// So narrow an output is not worth a panel.
const NARROW: i64 = 8;

/// A factor's numbers, where they lie.
#[derive(Clone, Copy)]
struct Factor<'a> {
    numbers: &'a [f32],
    /// From one row to the next.
    row: usize,
    /// From one column to the next.
    column: usize,
}

impl<'a> Factor<'a> {
    fn new(numbers: &'a [f32], row: usize, column: usize) -> Self {
        Self {
            numbers,
            row,
            column,
        }
    }

    fn below(self, row: usize) -> Self {
        Self {
            numbers: &self.numbers[row * self.row..],
            ..self
        }
    }

    fn holds(self, rows: usize, columns: usize) -> bool {
        rows == 0
            || columns == 0
            || self.numbers.len() > (rows - 1) * self.row + (columns - 1) * self.column
    }
}

/// What becomes of a sum before it is stored.
#[derive(Clone, Copy)]
enum After<'a> {
    Nothing,
    /// Added to what is there.
    Added,
    /// Plus a number per column, and no less than 0 if asked.
    Bias(&'a [f32], bool),
    /// Kept where these, as many as the product's, are above 0; else 0.
    Where(&'a [f32]),
}

fn ours(x: &Tensor) -> bool {
    #[cfg(target_arch = "x86_64")]
    return x.device() == Device::Cpu
        && x.kind() == Kind::Float
        && is_x86_feature_detected!("avx512f");
    #[cfg(not(target_arch = "x86_64"))]
    return false;
}

/// How many rows of `x` are best taken through several layers together: as many as stay in a processor's second
/// cache from one product to the next, whatever the number of threads, for sums that do not depend on it. A GPU
/// takes all.
pub fn rows_together(x: &Tensor) -> i64 {
    match x.device() {
        Device::Cpu => ROWS as i64,
        _ => i64::MAX,
    }
}

/// x Wᵀ + b \[…, B, out\], and the ReLU of it if asked, for x \[B, in\] (the same rows for all members) or
/// \[M, B, in\]. No history.
pub fn forward(x: &Tensor, weight: &Tensor, bias: &Tensor, relu: bool) -> Tensor {
    no_grad(|| {
        if !ours(x) || bias.size()[bias.dim() - 1] < NARROW {
            let mut y = forward_by_torch(x, weight, bias);
            return if relu { y.relu_() } else { y };
        }
        let [rows, inputs, outputs] = sizes(x, weight);
        assert!(x.dim() == 2 || (x.dim(), x.size()[0]) == (weight.dim(), weight.size()[0]));
        let (x, weight, bias) = (rowwise(x), weight.contiguous(), bias.contiguous());
        let mut size = weight.size();
        let matrix = size.len() - 2;
        size.splice(matrix.., [rows as i64, outputs as i64]);
        let y = Tensor::empty(&size, (Kind::Float, Device::Cpu));
        let of_x = Members::of(&x, rows * inputs);
        let (of_w, of_b) = (
            Members::of(&weight, outputs * inputs),
            Members::of(&bias, outputs),
        );
        walk(&y, rows, outputs, |member, first, c| {
            let x = Factor::new(of_x.get(member), inputs, 1).below(first);
            let w = Factor::new(of_w.get(member), 1, inputs);
            multiply(
                x,
                w,
                inputs,
                outputs,
                c,
                After::Bias(of_b.get(member), relu),
            );
        });
        y
    })
}

/// x Wᵀ + b \[B, out\] for x \[B, in\] and one network, of rows and weights rounded to bf16 where the processor
/// multiplies such numbers, else as [`forward`]. Twice as fast and exact to between two and three digits; sums are f32.
/// For who wants an output only, not a gradient's share in a weight.
pub fn forward_rounded(x: &Tensor, weight: &Tensor, bias: &Tensor) -> Tensor {
    #[cfg(target_arch = "x86_64")]
    if ours(x) && is_x86_feature_detected!("avx512bf16") {
        return no_grad(|| {
            assert!((x.dim(), weight.dim()) == (2, 2));
            let [rows, inputs, outputs] = sizes(x, weight);
            assert!(inputs > 0, "a product of empty matrices");
            let (x, weight, bias) = (rowwise(x), weight.contiguous(), bias.contiguous());
            let y = Tensor::empty([rows as i64, outputs as i64], (Kind::Float, Device::Cpu));
            let of_x = Members::of(&x, rows * inputs);
            let (of_w, of_b) = (
                Members::of(&weight, outputs * inputs),
                Members::of(&bias, outputs),
            );
            walk(&y, rows, outputs, |_, first, c| {
                let x = Factor::new(of_x.get(0), inputs, 1).below(first);
                let w = Factor::new(of_w.get(0), 1, inputs);
                assert!(x.holds(c.len() / outputs, inputs) && w.holds(inputs, outputs));
                // SAFETY: the processor has been asked, and above is what the walk needs.
                unsafe { bf16::multiply(x, w, inputs, outputs, c, of_b.get(0)) }
            });
            y
        });
    }
    forward(x, weight, bias, false)
}

fn forward_by_torch(x: &Tensor, weight: &Tensor, bias: &Tensor) -> Tensor {
    match weight.dim() {
        2 => x.linear(weight, Some(bias)),
        _ => {
            let x = match x.dim() {
                2 => (x.unsqueeze(0)).expand([weight.size()[0], -1, -1], true),
                _ => x.shallow_clone(),
            };
            bias.unsqueeze(1)
                .baddbmm(&x, &weight.transpose(1, 2), 1.0, 1.0)
        }
    }
}

/// The input's gradient \[…, B, in\] from the output's \[…, B, out\]. With `relu`, what came out of the ReLU
/// that the input is from \[…, B, in\]: the gradient before it. No history.
pub fn of_input(grad: &Tensor, weight: &Tensor, relu: Option<&Tensor>) -> Tensor {
    no_grad(|| {
        if !ours(grad) {
            let grad = grad.matmul(weight);
            return match relu {
                Some(out) => out.threshold_backward(&grad, 0),
                None => grad,
            };
        }
        let size = weight.size();
        let (outputs, inputs) = (size[size.len() - 2] as usize, size[size.len() - 1] as usize);
        assert!(grad.dim() == size.len() && (size.len() == 2 || grad.size()[0] == size[0]));
        let (grad, weight) = (rowwise(grad), weight.contiguous());
        let relu = relu.map(rowwise);
        let mut size = grad.size();
        let last = size.len() - 1;
        let rows = size[last - 1] as usize;
        size[last] = inputs as i64;
        let out = Tensor::empty(&size, (Kind::Float, Device::Cpu));
        let (of_g, of_w) = (
            Members::of(&grad, rows * outputs),
            Members::of(&weight, outputs * inputs),
        );
        let of_relu = relu.as_ref().map(|relu| Members::of(relu, rows * inputs));
        walk(&out, rows, inputs, |member, first, c| {
            let g = Factor::new(of_g.get(member), outputs, 1).below(first);
            let w = Factor::new(of_w.get(member), inputs, 1);
            let after = match &of_relu {
                Some(relu) => After::Where(&relu.get(member)[first * inputs..][..c.len()]),
                None => After::Nothing,
            };
            multiply(g, w, outputs, inputs, c, after);
        });
        out
    })
}

/// The weight's gradient \[…, out, in\] from the output's \[…, B, out\], for an input \[B, in\] or \[M, B, in\];
/// with `onto`, a contiguous one from other rows, added to that in its place. No history.
pub fn of_weight(grad: &Tensor, x: &Tensor, onto: Option<Tensor>) -> Tensor {
    no_grad(|| {
        if !ours(grad) {
            let rows = grad.transpose(-2, -1);
            let part = match (grad.dim(), x.dim()) {
                (3, 2) => rows.bmm(&x.unsqueeze(0).expand([grad.size()[0], -1, -1], true)),
                _ => rows.matmul(x),
            };
            return match onto {
                Some(mut onto) => onto.g_add_(&part),
                None => part,
            };
        }
        let (grad, x) = (rowwise(grad), rowwise(x));
        assert!(x.dim() == 2 || (x.dim(), x.size()[0]) == (grad.dim(), grad.size()[0]));
        let mut size = grad.size();
        let last = size.len() - 1;
        let (rows, outputs) = (size[last - 1] as usize, size[last] as usize);
        let inputs = x.size()[x.dim() - 1];
        (size[last - 1], size[last]) = (outputs as i64, inputs);
        let inputs = inputs as usize;
        let after = match onto {
            Some(_) => After::Added,
            None => After::Nothing,
        };
        let out = onto.unwrap_or_else(|| Tensor::empty(&size, (Kind::Float, Device::Cpu)));
        assert!(out.size() == size && out.is_contiguous());
        assert!((out.kind(), out.device()) == (Kind::Float, Device::Cpu));
        let (of_g, of_x) = (
            Members::of(&grad, rows * outputs),
            Members::of(&x, rows * inputs),
        );
        walk(&out, outputs, inputs, |member, first, c| {
            let g = Factor::new(&of_g.get(member)[first..], 1, outputs);
            let x = Factor::new(of_x.get(member), inputs, 1);
            multiply(g, x, rows, inputs, c, after);
        });
        out
    })
}

/// B, in, out.
fn sizes(x: &Tensor, weight: &Tensor) -> [usize; 3] {
    let (of_x, of_w) = (x.size(), weight.size());
    let [.., rows, inputs] = of_x[..] else {
        panic!("x must be […, B, in], not {of_x:?}")
    };
    let [.., outputs, columns] = of_w[..] else {
        panic!("the weight must be […, out, in], not {of_w:?}")
    };
    assert_eq!(inputs, columns, "x {of_x:?} and weight {of_w:?}");
    [rows, inputs, outputs].map(|size| size as usize)
}

/// The same tensor if each member's numbers lie row behind row, as they do in some rows of a tensor; else a
/// copy.
fn rowwise(x: &Tensor) -> Tensor {
    let (size, stride) = (x.size(), x.stride());
    let last = size.len() - 1;
    match stride[last] == 1 && stride[last - 1] == size[last] {
        true => x.shallow_clone(),
        false => x.contiguous(),
    }
}

/// The numbers of each member, or of the one that all share.
struct Members<'a> {
    tensor: &'a Tensor,
    each: usize,
    apart: usize,
    count: usize,
}

// SAFETY: all that is done with the tensor is to read its numbers, which nobody writes meanwhile.
unsafe impl Sync for Members<'_> {}

impl<'a> Members<'a> {
    /// Of an f32 CPU tensor, each member's `each` numbers one behind the other, that nobody writes while this
    /// lives.
    fn of(tensor: &'a Tensor, each: usize) -> Self {
        assert!(tensor.kind() == Kind::Float && tensor.device() == Device::Cpu);
        let count = tensor.numel() / each.max(1);
        assert_eq!(count * each, tensor.numel());
        let apart = match count {
            0 | 1 => 0,
            _ => tensor.stride()[0] as usize,
        };
        Self {
            tensor,
            each,
            apart,
            count,
        }
    }

    fn get(&self, member: usize) -> &'a [f32] {
        let member = if self.count == 1 { 0 } else { member };
        assert!(member < self.count);
        // SAFETY: `each` numbers lie there, by what `of` asks for; this file writes its own products only.
        unsafe {
            let first = (self.tensor.data_ptr() as *const f32).add(member * self.apart);
            std::slice::from_raw_parts(first, self.each)
        }
    }
}

/// Shares a product's rows out: `work(member, first row, numbers)`.
fn walk(
    product: &Tensor,
    rows: usize,
    columns: usize,
    work: impl Fn(usize, usize, &mut [f32]) + Sync,
) {
    if product.numel() == 0 {
        return;
    }
    // SAFETY: a contiguous f32 CPU tensor that is being written here and read nowhere else.
    let numbers = unsafe {
        std::slice::from_raw_parts_mut(product.data_ptr().cast::<f32>(), product.numel())
    };
    let members = numbers.len() / (rows * columns);
    let threads = tch::get_num_threads().max(1) as usize;
    let parts = match members % threads {
        0 => 1,
        _ => threads,
    };
    let piece = rows.div_ceil(parts).next_multiple_of(TILE).min(ROWS);
    let mut pieces = Vec::with_capacity(members * rows.div_ceil(piece));
    for (member, numbers) in numbers.chunks_mut(rows * columns).enumerate() {
        let of_member = numbers.chunks_mut(piece * columns).enumerate();
        pieces.extend(of_member.map(|(i, numbers)| (member, i * piece, numbers)));
    }
    team::share(pieces, |(member, first, numbers)| {
        work(member, first, numbers)
    });
}

/// c = a·b for c of `columns` columns and however many rows, `depth` numbers in each sum.
fn multiply(a: Factor, b: Factor, depth: usize, columns: usize, c: &mut [f32], after: After) {
    let rows = c.len() / columns;
    assert_eq!(rows * columns, c.len());
    assert!(
        depth > 0,
        "a product of empty matrices: a batch without rows?"
    );
    assert!(a.holds(rows, depth) && b.holds(depth, columns));
    assert!([a, b].iter().all(|of| of.row == 1 || of.column == 1));
    match after {
        After::Nothing | After::Added => (),
        After::Bias(bias, _) => assert!(bias.len() >= columns),
        After::Where(out) => assert!(out.len() >= c.len()),
    }
    #[cfg(target_arch = "x86_64")]
    // SAFETY: `ours` has seen that the processor has AVX-512, and above is what the walk needs.
    unsafe {
        avx512::multiply(a, b, depth, columns, c, after)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const F32: (Kind, Device) = (Kind::Float, Device::Cpu);

    fn near(what: &str, a: &Tensor, b: &Tensor) {
        assert_eq!(a.size(), b.size(), "{what}");
        let off = (a.to_kind(Kind::Double) - b).abs().max().double_value(&[]);
        assert!(off < 2e-4, "{what} {:?}: {off}", a.size());
    }

    /// Against torch in f64. Sizes that fill tiles, panels and depths, and such that do not; one network, an
    /// ensemble on the same rows and on rows of its own.
    #[test]
    fn products_are_those_of_torch() {
        tch::set_num_threads(2);
        tch::manual_seed(1);
        for (rows, inputs, outputs) in [
            (28, 64, 64),
            (1, 1, 1),
            (5, 3, 9),
            (64, 38, 33),
            (31, 300, 70),
            (600, 23, 100),
            (530, 12, 16),
        ] {
            for (members, own_rows) in [(None, false), (Some(3), false), (Some(2), true)] {
                let sized = |members: Option<i64>, size: &[i64]| {
                    let size: Vec<i64> = members.into_iter().chain(size.iter().copied()).collect();
                    Tensor::randn(size, F32)
                };
                let x = sized(members.filter(|_| own_rows), &[rows, inputs]);
                let weight = sized(members, &[outputs, inputs]);
                let bias = sized(members, &[outputs]);
                let grad = sized(members, &[rows, outputs]);
                let double = |t: &Tensor| t.to_kind(Kind::Double);
                let (x2, w2, b2, g2) = (double(&x), double(&weight), double(&bias), double(&grad));
                let y = forward_by_torch(&x2, &w2, &b2);
                near("forward", &forward(&x, &weight, &bias, false), &y);
                near("ReLU", &forward(&x, &weight, &bias, true), &y.relu());
                let back = g2.matmul(&w2);
                near("input", &of_input(&grad, &weight, None), &back);
                let out = sized(members, &[rows, inputs]).relu();
                let through = double(&out).threshold_backward(&back, 0);
                near(
                    "input's ReLU",
                    &of_input(&grad, &weight, Some(&out)),
                    &through,
                );
                let of_w = g2.transpose(-2, -1).matmul(&x2);
                near("weight", &of_weight(&grad, &x, None), &of_w);
                // In two parts of the rows, which do not lie one behind the other.
                let (first, rest) = (rows / 3, rows - rows / 3);
                let part = |from, count, onto| {
                    let of = |t: &Tensor| t.narrow(-2, from, count);
                    of_weight(&of(&grad), &of(&x), onto)
                };
                if first > 0 {
                    let both = part(first, rest, Some(part(0, first, None)));
                    near("weight in parts", &both, &of_w);
                }
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]

        /// Sizes beyond one panel's depth, and such that a left factor's tiles are copied. A sum may be off by as
        /// much as its rounding (Higham 2002, 3.1).
        #[test]
        fn wide_products_are_those_of_torch_on_any_threads(
            rows in 1i64..40,
            inputs in prop_oneof![1i64..40, 500i64..530, 1000i64..1100],
            outputs in prop_oneof![1i64..40, 500i64..530, 1020i64..1100],
            seed in 0i64..1000,
        ) {
            tch::manual_seed(seed);
            let x = Tensor::randn([rows, inputs], F32);
            let weight = Tensor::randn([outputs, inputs], F32);
            let bias = Tensor::randn([outputs], F32);
            let grad = Tensor::randn([rows, outputs], F32);
            let double = |t: &Tensor| t.to_kind(Kind::Double);
            let check = |what: &str, product: &dyn Fn() -> Tensor, [a, b]: [&Tensor; 2], bias: Option<&Tensor>| {
                tch::set_num_threads(1);
                let ours = product();
                tch::set_num_threads(3);
                assert!(ours.equal(&product()), "{what}");
                let zero = Tensor::zeros([1], (Kind::Double, Device::Cpu));
                let bias = bias.map_or(zero, double);
                let (a, b) = (double(a), double(b));
                let off = (double(&ours) - a.matmul(&b) - &bias).abs();
                let terms = a.size()[1] as f64 + 2.0;
                let bound = (a.abs().matmul(&b.abs()) + bias.abs()) * (terms * 2f64.powi(-24));
                let most = (off / bound).max().double_value(&[]);
                assert!(most < 1.0, "{what}: {most} of what it may be off");
            };
            let back = weight.transpose(0, 1);
            check("forward", &|| forward(&x, &weight, &bias, false), [&x, &back], Some(&bias));
            check("input", &|| of_input(&grad, &weight, None), [&grad, &weight], None);
            check("weight", &|| of_weight(&grad, &x, None), [&grad.transpose(0, 1), &x], None);
            #[cfg(target_arch = "x86_64")]
            if is_x86_feature_detected!("avx512bf16") {
                let [x2, back] = [&x, &back].map(|t| t.to_kind(Kind::BFloat16));
                check("rounded", &|| forward_rounded(&x, &weight, &bias), [&x2, &back], Some(&bias));
            }
        }
    }

    #[test]
    fn a_nan_is_not_lost_in_a_relu() {
        let (x, weight) = (
            Tensor::full([3, 4], f64::NAN, F32),
            Tensor::ones([20, 4], F32),
        );
        let y = forward(&x, &weight, &Tensor::zeros([20], F32), true);
        assert!(bool::try_from(y.isnan().all()).unwrap());
    }
}
