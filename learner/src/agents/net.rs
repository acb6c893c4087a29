//! A network, or an ensemble, with its optimizer and, where there is one, its target.

use tch::{Device, Kind, Tensor};

use crate::nn::{
    Adam, AdamConfig, Mlp, ParamSpec, Params,
    mlp::{Pass, Wanted},
};

/// A network that learns. Beside its perceptron it may have parameters of its own (a policy's log σ).
#[derive(Debug)]
pub struct Net {
    mlp: Mlp,
    params: Params,
    adam: Adam,
    target: Option<Params>,
}

impl Net {
    /// A fresh one, from torch's generator, with `more` parameters behind the perceptron's.
    pub fn new(mlp: Mlp, more: &[ParamSpec], adam: AdamConfig, kind: Kind, device: Device) -> Self {
        let mut specs = mlp.specs();
        specs.extend_from_slice(more);
        let params = Params::new(&specs, kind, device);
        let adam = Adam::new(adam, &params, params.select(|_| true));
        Self {
            mlp,
            params,
            adam,
            target: None,
        }
    }

    /// The same with a target network, which starts as a copy.
    pub fn with_target(mut self) -> Self {
        self.target = Some(self.params.frozen_copy(|_| true));
        self
    }

    /// The same with weight decay for the parameters whose names satisfy `wanted` alone.
    pub fn decaying(self, wanted: impl Fn(&str) -> bool) -> Self {
        let adam = self.adam.decaying(&self.params, wanted);
        Self { adam, ..self }
    }

    /// Its layers.
    pub fn mlp(&self) -> &Mlp {
        &self.mlp
    }

    /// Its parameters, the perceptron's first.
    pub fn params(&self) -> &Params {
        &self.params
    }

    /// Its target's parameters. One that has none is a mistake in the program: it panics.
    pub fn target(&self) -> &Params {
        match &self.target {
            Some(target) => target,
            None => panic!("this network has no target"),
        }
    }

    /// Its output, and what the way back needs.
    pub fn forward(&self, x: &Tensor) -> Pass {
        self.mlp.forward(&self.params, x)
    }

    /// Its output alone.
    pub fn value(&self, x: &Tensor) -> Tensor {
        self.mlp.value(&self.params, x)
    }

    /// The target's output.
    pub fn target_value(&self, x: &Tensor) -> Tensor {
        self.mlp.value(self.target(), x)
    }

    /// The output of these members of the target alone: `members` \[M\] gives \[M, B, out\].
    pub fn target_value_of(&self, members: &Tensor, x: &Tensor) -> Tensor {
        self.mlp.value_of(self.target(), members, x)
    }

    /// Gradients of its parameters from that of its output; `more` are those of the parameters behind the
    /// perceptron's.
    pub fn backward(&self, pass: &Pass, grad: &Tensor, more: Vec<Tensor>) -> Vec<Tensor> {
        let back = self.mlp.backward(&self.params, pass, grad, Wanted::Params);
        let mut grads = back.params;
        grads.extend(more);
        grads
    }

    /// Gradients of its parameters, and with `through` that of what went in, for each member.
    pub fn backward_through(
        &self,
        pass: &Pass,
        grad: &Tensor,
        through: bool,
    ) -> (Vec<Tensor>, Option<Tensor>) {
        let wanted = match through {
            true => Wanted::Both,
            false => Wanted::Params,
        };
        let back = self.mlp.backward(&self.params, pass, grad, wanted);
        (back.params, back.input)
    }

    /// The gradient of what went in, for each member, and none of the parameters.
    pub fn backward_input(&self, pass: &Pass, grad: &Tensor) -> Tensor {
        self.mlp.backward_input(&self.params, pass, grad)
    }

    /// A step of the optimizer along gradients in the order of the parameters.
    pub fn step(&mut self, grads: &[Tensor]) {
        self.adam.step(&self.params, Some(grads));
    }

    /// The optimizer's step size from now on: for schedules.
    pub fn set_lr(&mut self, lr: f64) {
        self.adam.set_lr(lr);
    }

    /// Moves the target toward the network: target ← target + τ (network − target).
    pub fn track(&self, tau: f64) {
        self.target().track(&self.params, tau);
    }

    /// Parameters, target and optimizer, to save.
    pub fn state(&self, name: &str) -> Vec<(String, Tensor)> {
        let mut state = kept(name, &self.params, &self.adam);
        if let Some(target) = &self.target {
            state.push((format!("{name}.target"), target.flat().copy()));
        }
        state
    }

    /// Puts back what [`Net::state`] gave. A part that is missing or of another size is a mistake of the
    /// caller, who checks a file before: it panics.
    pub fn restore(&mut self, name: &str, state: &[(String, Tensor)]) {
        put_back(name, state, &self.params, &mut self.adam);
        if let Some(target) = &self.target {
            target.set_flat(part(state, &format!("{name}.target")));
        }
    }
}

/// Parameters and their optimizer, to save.
pub fn kept(name: &str, params: &Params, adam: &Adam) -> Vec<(String, Tensor)> {
    let (m, v) = adam.moments();
    vec![
        (format!("{name}.params"), params.flat().copy()),
        (format!("{name}.m"), m),
        (format!("{name}.v"), v),
        (format!("{name}.steps"), Tensor::from(adam.steps())),
    ]
}

/// Puts back what [`kept`] gave; panics as [`Net::restore`].
pub fn put_back(name: &str, state: &[(String, Tensor)], params: &Params, adam: &mut Adam) {
    let get = |what: &str| part(state, &format!("{name}.{what}"));
    params.set_flat(get("params"));
    adam.restore(get("m"), get("v"), get("steps").int64_value(&[]));
}

/// The tensor of this name in a saved state; panics as [`Net::restore`].
pub fn part<'a>(state: &'a [(String, Tensor)], wanted: &str) -> &'a Tensor {
    match state.iter().find(|(name, _)| name == wanted) {
        Some((_, tensor)) => tensor,
        None => panic!("the state has no `{wanted}`"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OPTIONS: (Kind, Device) = (Kind::Double, Device::Cpu);

    /// Numbers that look like drawn ones: torch's generator is everybody's, and other tests draw meanwhile.
    fn scattered(count: i64) -> Tensor {
        (Tensor::arange(count, OPTIONS) * 12.9898).sin()
    }

    fn net() -> Net {
        let mlp = Mlp::ensemble("critics", 2, &[3, 8, 1]);
        let net = Net::new(mlp, &[], AdamConfig::new(0.01), OPTIONS.0, OPTIONS.1).with_target();
        for params in [net.params(), net.target()] {
            params
                .flat()
                .detach()
                .copy_(&scattered(params.flat().numel() as i64));
        }
        net
    }

    fn learn(net: &mut Net, x: &Tensor, y: &Tensor) -> f64 {
        let pass = net.forward(x);
        let loss = (&pass.out.squeeze_dim(-1) - y).square().mean(None::<Kind>);
        let grad = super::super::gradients(&loss, &[&pass.out]);
        let grads = net.backward(&pass, &grad[0], vec![]);
        net.step(&grads);
        net.track(0.1);
        loss.double_value(&[])
    }

    #[test]
    fn it_learns_its_target_follows_and_its_state_goes_on_the_same() {
        // So small that threads would only wait for each other.
        tch::set_num_threads(1);
        let (mut ours, mut other) = (net(), net());
        let x = scattered(64 * 3).view([64, 3]) * 1.5;
        let y = x.select(1, 0) * x.select(1, 1);
        let first = learn(&mut ours, &x, &y);
        for _ in 0..300 {
            learn(&mut ours, &x, &y);
        }
        assert!(learn(&mut ours, &x, &y) < 0.1 * first);
        let apart = (ours.target_value(&x) - ours.value(&x)).abs().max();
        assert!(apart.double_value(&[]) < 0.1);
        other.restore("critics", &ours.state("critics"));
        let (a, b) = (learn(&mut ours, &x, &y), learn(&mut other, &x, &y));
        assert_eq!(a, b);
        assert_eq!(ours.params().flat(), other.params().flat());
        assert_eq!(ours.target().flat(), other.target().flat());
    }
}
