//! Adam (Kingma and Ba 2015) over parts of a flat parameter buffer.
//!
//! On the CPU it is one pass over memory instead of torch's eight; elsewhere it is tensor
//! operations, on all parameters at once where they lie side by side. ε is added after the square root of the bias-corrected second moment.

use tch::{Device, Kind, Tensor, no_grad};

use super::{params::Params, team};

/// Adam's constants.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AdamConfig {
    /// Step size.
    pub lr: f64,
    /// Decay of the first moment.
    pub beta1: f64,
    /// Decay of the second moment.
    pub beta2: f64,
    /// Added to the denominator.
    pub eps: f64,
    /// Decoupled weight decay (Loshchilov and Hutter 2019); 0 is plain Adam.
    pub weight_decay: f64,
}

impl AdamConfig {
    /// The usual constants at this step size.
    pub fn new(lr: f64) -> Self {
        Self {
            lr,
            beta1: 0.9,
            beta2: 0.999,
            eps: 1e-8,
            weight_decay: 0.0,
        }
    }
}

/// The optimizer of one loss: moments for the parameters that the loss can touch.
#[derive(Debug)]
pub struct Adam {
    config: AdamConfig,
    places: Vec<usize>,
    /// Whether weight decay is for each of them.
    decays: Vec<bool>,
    /// Start and length of all places in the parameters' buffer, where they lie side by side.
    side_by_side: Option<(i64, i64)>,
    /// Moments of all places, one after the other, and the parts of them that belong to each.
    flat: (Tensor, Tensor),
    m: Vec<Tensor>,
    v: Vec<Tensor>,
    steps: i64,
}

/// One step's constants.
#[derive(Clone, Copy)]
struct Step {
    lr: f64,
    beta1: f64,
    beta2: f64,
    eps: f64,
    correction1: f64,
    correction2: f64,
    decay: f64,
}

#[inline(always)]
fn pass_f32(p: &mut [f32], g: Option<&[f32]>, m: &mut [f32], v: &mut [f32], s: Step) {
    let (b1, b2) = (s.beta1 as f32, s.beta2 as f32);
    let (c1, c2) = ((1.0 - s.beta1) as f32, (1.0 - s.beta2) as f32);
    let (rate, root, eps) = (
        (s.lr / s.correction1) as f32,
        (1.0 / s.correction2) as f32,
        s.eps as f32,
    );
    let keep = (1.0 - s.lr * s.decay) as f32;
    let one = |p: &mut f32, g: f32, m: &mut f32, v: &mut f32| {
        *m = b1 * *m + c1 * g;
        *v = b2 * *v + c2 * g * g;
        *p = keep * *p - rate * *m / ((*v * root).sqrt() + eps);
    };
    match g {
        Some(g) => p
            .iter_mut()
            .zip(g)
            .zip(m.iter_mut().zip(v))
            .for_each(|((p, &g), (m, v))| one(p, g, m, v)),
        None => p
            .iter_mut()
            .zip(m.iter_mut().zip(v))
            .for_each(|(p, (m, v))| one(p, 0.0, m, v)),
    }
}

/// The same with registers of 16 numbers, where square roots and quotients would else go four by four.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f")]
fn pass_avx512(p: &mut [f32], g: Option<&[f32]>, m: &mut [f32], v: &mut [f32], s: Step) {
    pass_f32(p, g, m, v, s);
}

fn pass_f64(p: &mut [f64], g: Option<&[f64]>, m: &mut [f64], v: &mut [f64], s: Step) {
    for i in 0..p.len() {
        let g = g.map_or(0.0, |g| g[i]);
        m[i] = s.beta1 * m[i] + (1.0 - s.beta1) * g;
        v[i] = s.beta2 * v[i] + (1.0 - s.beta2) * g * g;
        let step = s.lr * (m[i] / s.correction1) / ((v[i] / s.correction2).sqrt() + s.eps);
        p[i] = p[i] * (1.0 - s.lr * s.decay) - step;
    }
}

/// A part of a parameter with its gradient and moments.
struct Piece<'a> {
    p: &'a mut [f32],
    g: Option<&'a [f32]>,
    m: &'a mut [f32],
    v: &'a mut [f32],
    step: Step,
}

impl<'a> Piece<'a> {
    /// So small that the parts of a layer can be shared out, so large that it does not matter.
    const MOST: usize = 1 << 16;

    fn cut(self, into: &mut Vec<Self>) {
        let mut rest = self;
        while rest.p.len() > Self::MOST {
            let (p, p_rest) = rest.p.split_at_mut(Self::MOST);
            let (m, m_rest) = rest.m.split_at_mut(Self::MOST);
            let (v, v_rest) = rest.v.split_at_mut(Self::MOST);
            let (g, g_rest) = rest.g.map(|g| g.split_at(Self::MOST)).unzip();
            let step = rest.step;
            into.push(Piece { p, g, m, v, step });
            rest = Piece {
                p: p_rest,
                g: g_rest,
                m: m_rest,
                v: v_rest,
                step,
            };
        }
        into.push(rest);
    }

    fn walk(self) {
        #[cfg(target_arch = "x86_64")]
        if is_x86_feature_detected!("avx512f") {
            // SAFETY: the processor has what the function is compiled for.
            return unsafe { pass_avx512(self.p, self.g, self.m, self.v, self.step) };
        }
        pass_f32(self.p, self.g, self.m, self.v, self.step);
    }
}

/// The numbers of a contiguous CPU tensor of `T`.
///
/// # Safety
/// `T` is the tensor's kind, the tensor outlives `'a`, and meanwhile nothing else reads or writes
/// its storage range.
unsafe fn numbers<'a, T>(tensor: &Tensor) -> &'a mut [T] {
    debug_assert!(tensor.is_contiguous() && tensor.device() == Device::Cpu);
    // SAFETY: a contiguous tensor of kind T is `numel` values of T at `data_ptr`; the caller
    // promises the rest.
    unsafe { std::slice::from_raw_parts_mut(tensor.data_ptr().cast::<T>(), tensor.numel()) }
}

impl Adam {
    /// For the parameters at these places (see [`Params::select`]).
    pub fn new(config: AdamConfig, params: &Params, places: Vec<usize>) -> Self {
        let zeros = || {
            let size: i64 = places.iter().map(|&i| params.range(i).1).sum();
            let flat = Tensor::zeros([size], (params.flat().kind(), params.flat().device()));
            let mut offset = 0;
            let part = |&i: &usize| {
                let leaf = params.leaf(i);
                let part = flat.narrow(0, offset, params.range(i).1);
                offset += params.range(i).1;
                part.view_as(leaf)
            };
            let parts: Vec<Tensor> = places.iter().map(part).collect();
            (flat, parts)
        };
        let ((flat_m, m), (flat_v, v)) = (zeros(), zeros());
        let follows = places.windows(2).all(|pair| pair[1] == pair[0] + 1);
        let side_by_side = (places.first().filter(|_| follows))
            .map(|&first| (params.range(first).0, flat_m.numel() as i64));
        Self {
            config,
            decays: vec![true; places.len()],
            places,
            side_by_side,
            flat: (flat_m, flat_v),
            m,
            v,
            steps: 0,
        }
    }

    /// The same with weight decay for the parameters whose names satisfy `wanted` alone.
    pub fn decaying(self, params: &Params, wanted: impl Fn(&str) -> bool) -> Self {
        let wanted = |&place: &usize| wanted(&params.names()[place]);
        let decays = self.places.iter().map(wanted).collect();
        Self { decays, ..self }
    }

    /// The leaves to ask gradients for, in the order that [`Adam::step`] takes them.
    pub fn leaves<'a>(&self, params: &'a Params) -> Vec<&'a Tensor> {
        self.places.iter().map(|&i| params.leaf(i)).collect()
    }

    /// Steps with these gradients, one per leaf; an undefined one counts as zero. `None`: every
    /// gradient is zero, the moments decay and their leftover momentum still moves the parameters.
    pub fn step(&mut self, params: &Params, grads: Option<&[Tensor]>) {
        self.steps += 1;
        let all = self.constants();
        no_grad(|| {
            let grad = |k: usize| {
                let grad = grads.map(|g| &g[k]).filter(|g| g.defined());
                grad.map(Tensor::contiguous)
            };
            if params.flat().device() != Device::Cpu && self.step_at_once(params, grads, all) {
                return;
            }
            let leaf = |place: &usize| params.leaf(*place).detach();
            let leaves: Vec<(Tensor, Option<Tensor>)> = (self.places.iter().map(leaf))
                .enumerate()
                .map(|(k, leaf)| (leaf, grad(k)))
                .collect();
            let moments = self.m.iter().zip(&self.v);
            let mut pieces = Vec::new();
            for (((p, g), (m, v)), &decays) in leaves.iter().zip(moments).zip(&self.decays) {
                let s = Step {
                    decay: if decays { all.decay } else { 0.0 },
                    ..all
                };
                match (p.device(), p.kind()) {
                    (Device::Cpu, Kind::Float) => {
                        // SAFETY: p, m and v are contiguous f32 CPU tensors with storage ranges of
                        // their own (leaves do not overlap), g is a contiguous gradient that nothing
                        // else holds; `&mut Adam` and no running graph keep other users away until
                        // `pieces` is gone.
                        let whole = unsafe {
                            Piece {
                                p: numbers(p),
                                g: g.as_ref().map(|g| &*numbers(g)),
                                m: numbers(m),
                                v: numbers(v),
                                step: s,
                            }
                        };
                        whole.cut(&mut pieces);
                    }
                    (Device::Cpu, Kind::Double) => {
                        // SAFETY: as above, with f64.
                        unsafe {
                            pass_f64(
                                numbers(p),
                                g.as_ref().map(|g| &*numbers(g)),
                                numbers(m),
                                numbers(v),
                                s,
                            )
                        }
                    }
                    _ => step_tensors(p, g.as_ref(), m, v, s),
                }
            }
            // Bound by memory, of which one thread cannot use all that there is.
            team::share(pieces, Piece::walk);
        });
    }

    /// Of the step that was counted last.
    fn constants(&self) -> Step {
        let c = self.config;
        let n = i32::try_from(self.steps).unwrap_or(i32::MAX);
        Step {
            lr: c.lr,
            beta1: c.beta1,
            beta2: c.beta2,
            eps: c.eps,
            correction1: 1.0 - c.beta1.powi(n),
            correction2: 1.0 - c.beta2.powi(n),
            decay: c.weight_decay,
        }
    }

    /// One step for all places, if they lie side by side, decay alike, and all have a gradient or none has.
    fn step_at_once(&self, params: &Params, grads: Option<&[Tensor]>, s: Step) -> bool {
        let Some((start, length)) = self.side_by_side else {
            return false;
        };
        if s.decay != 0.0 && !self.decays.iter().all(|&decays| decays) {
            return false;
        }
        let grad = match grads {
            None => None,
            Some(grads) if grads.iter().all(Tensor::defined) => {
                let rows: Vec<Tensor> = grads.iter().map(|g| g.reshape([-1])).collect();
                Some(Tensor::cat(&rows, 0))
            }
            Some(_) => return false,
        };
        let (m, v) = &self.flat;
        step_tensors(
            &params.flat().narrow(0, start, length),
            grad.as_ref(),
            m,
            v,
            s,
        );
        true
    }

    /// The step size from now on.
    pub fn set_lr(&mut self, lr: f64) {
        self.config.lr = lr;
    }

    /// Places of the parameters it moves, in the order of its gradients.
    pub fn places(&self) -> &[usize] {
        &self.places
    }

    /// Steps taken.
    pub fn steps(&self) -> i64 {
        self.steps
    }

    /// Moments as flat tensors, to save.
    pub fn moments(&self) -> (Tensor, Tensor) {
        (self.flat.0.copy(), self.flat.1.copy())
    }

    /// Puts saved state back.
    pub fn restore(&mut self, m: &Tensor, v: &Tensor, steps: i64) {
        self.steps = steps;
        no_grad(|| {
            self.flat.0.copy_(m);
            self.flat.1.copy_(v);
        });
    }
}

/// How long these gradients are together \[\]; where that is more than `most`, they are made so long. Undefined ones
/// count as zero. As torch's `clip_grad_norm_`.
pub fn clip(grads: &mut [Tensor], most: f64) -> Tensor {
    no_grad(|| {
        let defined = || grads.iter().filter(|grad| grad.defined());
        let norms: Vec<Tensor> = defined().map(Tensor::norm).collect();
        let norm = Tensor::stack(&norms, 0).norm();
        let share = (most / (&norm + 1e-6)).clamp_max(1.0);
        // On other devices reading it would be a wait.
        if share.device() == Device::Cpu && share.double_value(&[]) == 1.0 {
            return norm;
        }
        for grad in grads.iter_mut().filter(|grad| grad.defined()) {
            let _ = grad.g_mul_(&share);
        }
        norm
    })
}

/// The same step as tensor operations, for devices whose memory we cannot walk.
fn step_tensors(p: &Tensor, g: Option<&Tensor>, m: &Tensor, v: &Tensor, s: Step) {
    let (mut p, mut m, mut v) = (p.shallow_clone(), m.shallow_clone(), v.shallow_clone());
    let _ = m.g_mul_scalar_(s.beta1);
    let _ = v.g_mul_scalar_(s.beta2);
    if let Some(g) = g {
        let _ = m.g_add_(&(g * (1.0 - s.beta1)));
        let _ = v.g_add_(&(g * g * (1.0 - s.beta2)));
    }
    let denominator = (&v / s.correction2).sqrt() + s.eps;
    let _ = p.g_mul_scalar_(1.0 - s.lr * s.decay);
    let _ = p.g_sub_(&(&m / denominator * (s.lr / s.correction1)));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nn::params::{Init, ParamSpec};

    fn one(kind: Kind) -> (Params, Adam) {
        let spec = ParamSpec {
            name: "w".into(),
            shape: vec![3],
            init: Init::Constant(1.0),
        };
        let params = Params::new(&[spec], kind, Device::Cpu);
        let adam = Adam::new(
            AdamConfig {
                weight_decay: 0.01,
                ..AdamConfig::new(0.1)
            },
            &params,
            vec![0],
        );
        (params, adam)
    }

    fn gradients(step: i64, kind: Kind) -> Vec<Tensor> {
        vec![(Tensor::from_slice(&[1.0, -0.5, 1e-3]) * (step as f64).sin()).to_kind(kind)]
    }

    /// Slices and tensor operations are two ways to the same numbers, with and without a gradient.
    #[test]
    fn both_ways_agree() {
        for kind in [Kind::Float, Kind::Double] {
            let (params, mut adam) = one(kind);
            let w = Tensor::ones([3], (kind, Device::Cpu));
            let (m, v) = (w.zeros_like(), w.zeros_like());
            for step in 1..=6i32 {
                let grads = (step != 4).then(|| gradients(step.into(), kind));
                adam.step(&params, grads.as_deref());
                let s = Step {
                    lr: 0.1,
                    beta1: 0.9,
                    beta2: 0.999,
                    eps: 1e-8,
                    correction1: 1.0 - 0.9f64.powi(step),
                    correction2: 1.0 - 0.999f64.powi(step),
                    decay: 0.01,
                };
                step_tensors(&w, grads.as_ref().map(|g| &g[0]), &m, &v, s);
            }
            let difference = (params.get("w").detach() - w).abs().max().double_value(&[]);
            assert!(
                difference < if kind == Kind::Float { 1e-6 } else { 1e-13 },
                "{kind:?} {difference}"
            );
        }
    }

    /// What devices other than the CPU do with all parameters at once is what the CPU does one by one.
    #[test]
    fn at_once_and_one_by_one_agree() {
        let spec = |name: &str, shape: &[i64]| ParamSpec {
            name: name.into(),
            shape: shape.into(),
            init: Init::Constant(1.0),
        };
        let made = || {
            let specs = [spec("first", &[5]), spec("a", &[2, 3]), spec("b", &[4])];
            let params = Params::new(&specs, Kind::Double, Device::Cpu);
            let adam = Adam::new(AdamConfig::new(0.1), &params, vec![1, 2]);
            (params, adam)
        };
        let ((ours, mut adam), (other, mut at_once)) = (made(), made());
        for step in 1..=5 {
            let grads = [ours.get("a") * f64::from(step - 2), ours.get("b").sin()]
                .map(|grad| grad.detach());
            let grads = (step != 3).then_some(&grads[..]);
            at_once.steps += 1;
            let s = at_once.constants();
            assert!(at_once.step_at_once(&other, grads, s));
            adam.step(&ours, grads);
        }
        let off = (ours.flat() - other.flat()).abs().max().double_value(&[]);
        assert!(off < 1e-13, "{off}");
        assert_eq!(
            ours.get("first"),
            &Tensor::ones([5], (Kind::Double, Device::Cpu))
        );
        assert_eq!(adam.moments().0.size(), [10]);
        let some = [Tensor::new(), ours.get("b").detach()];
        assert!(!at_once.step_at_once(&other, Some(&some), at_once.constants()));
        let apart = Adam::new(AdamConfig::new(0.1), &ours, vec![0, 2]);
        assert!(apart.side_by_side.is_none());
    }

    #[test]
    fn a_large_parameter_is_shared_out_without_a_number_lost() {
        let spec = ParamSpec {
            name: "w".into(),
            shape: vec![17 * Piece::MOST as i64 + 5],
            init: Init::Constant(1.0),
        };
        tch::set_num_threads(2);
        let params = Params::new(&[spec], Kind::Float, Device::Cpu);
        let mut adam = Adam::new(AdamConfig::new(0.1), &params, vec![0]);
        adam.step(&params, Some(&[params.get("w").detach()]));
        let moved = params.get("w").detach() - 0.9;
        assert!(moved.abs().max().double_value(&[]) < 1e-6);
    }

    #[test]
    fn what_is_left_out_does_not_decay() {
        for kind in [Kind::Float, Kind::Double] {
            let spec = |name: &str| ParamSpec {
                name: name.into(),
                shape: vec![2],
                init: Init::Constant(1.0),
            };
            let params = Params::new(&[spec("weight"), spec("bias")], kind, Device::Cpu);
            let config = AdamConfig {
                weight_decay: 0.5,
                ..AdamConfig::new(0.1)
            };
            let adam = Adam::new(config, &params, vec![0, 1]);
            let mut adam = adam.decaying(&params, |name| name != "bias");
            adam.step(&params, None);
            let left = |name: &str| params.get(name).double_value(&[1]);
            assert!((left("weight") - 0.95).abs() < 1e-6);
            assert_eq!(left("bias"), 1.0);
        }
    }

    #[test]
    fn what_is_too_long_is_cut_and_the_rest_left() {
        let grads = || {
            let own = |values: &[f64]| Tensor::from_slice(values);
            [own(&[3.0, 0.0]), Tensor::new(), own(&[-4.0])]
        };
        for (most, factor) in [(1.0, 0.2), (6.0, 1.0)] {
            let mut cut = grads();
            assert_eq!(clip(&mut cut, most).double_value(&[]), 5.0);
            assert!((cut[0].double_value(&[0]) - 3.0 * factor).abs() < 1e-6);
            assert!((cut[2].double_value(&[0]) + 4.0 * factor).abs() < 1e-6);
            assert!(!cut[1].defined());
        }
    }

    #[test]
    fn the_first_step_is_the_step_size() {
        let (params, mut adam) = one(Kind::Double);
        adam.config.weight_decay = 0.0;
        adam.step(&params, Some(&[Tensor::from_slice(&[3.0, -7.0, 0.5])]));
        let moved = Vec::<f64>::try_from(params.get("w").detach() - 1.0).unwrap();
        for (moved, sign) in moved.iter().zip([-1.0, 1.0, -1.0]) {
            assert!((moved - 0.1 * sign).abs() < 1e-8);
        }
    }

    #[test]
    fn restored_state_goes_on_the_same() {
        let (params, mut adam) = one(Kind::Float);
        adam.step(&params, Some(&gradients(1, Kind::Float)));
        let (other, mut resumed) = one(Kind::Float);
        other.set_flat(params.flat());
        let (m, v) = adam.moments();
        resumed.restore(&m, &v, adam.steps());
        adam.step(&params, Some(&gradients(2, Kind::Float)));
        resumed.step(&other, Some(&gradients(2, Kind::Float)));
        assert_eq!(params.flat(), other.flat());
    }
}
