//! A number that learns: a temperature, a multiplier.

use tch::{Device, Kind, Tensor};

use crate::nn::{Adam, AdamConfig, ParamSpec, Params, params::Init};

/// One number with an optimizer of its own.
#[derive(Debug)]
pub struct Scalar {
    name: &'static str,
    params: Params,
    adam: Adam,
}

impl Scalar {
    /// Starting at `start`, with step size `lr`.
    pub fn new(name: &'static str, start: f64, lr: f64, options: (Kind, Device)) -> Self {
        let spec = ParamSpec {
            name: name.to_owned(),
            shape: vec![],
            init: Init::Constant(start),
        };
        let params = Params::new(&[spec], options.0, options.1);
        let adam = Adam::new(AdamConfig::new(lr), &params, vec![0]);
        Self { name, params, adam }
    }

    /// It, as a leaf \[\] that losses take gradients of.
    pub fn leaf(&self) -> &Tensor {
        self.params.leaf(0)
    }

    /// It, without history \[\].
    pub fn value(&self) -> Tensor {
        self.leaf().detach()
    }

    /// Overwrites it.
    pub fn set(&self, value: &Tensor) {
        self.params.set(self.name, &value.view([0i64; 0]));
    }

    /// A step along a gradient \[\].
    pub fn step(&mut self, grad: Tensor) {
        self.adam.step(&self.params, Some(&[grad]));
    }

    /// Steps made.
    pub fn steps(&self) -> i64 {
        self.adam.steps()
    }

    /// It and its optimizer, to save.
    pub fn state(&self) -> Vec<(String, Tensor)> {
        let (m, v) = self.adam.moments();
        let parts = [
            ("value", self.value().copy()),
            ("m", m),
            ("v", v),
            ("steps", Tensor::from(self.steps())),
        ];
        let named = |(part, tensor)| (format!("{}.{part}", self.name), tensor);
        parts.into_iter().map(named).collect()
    }

    /// Puts back what [`Scalar::state`] gave. A part that is missing is a mistake of the caller, who checks a
    /// file before: it panics.
    pub fn restore(&mut self, state: &[(String, Tensor)]) {
        let get = |part: &str| {
            let wanted = format!("{}.{part}", self.name);
            match state.iter().find(|(name, _)| *name == wanted) {
                Some((_, tensor)) => tensor,
                None => panic!("the state has no `{wanted}`"),
            }
        };
        self.set(get("value"));
        self.adam
            .restore(get("m"), get("v"), get("steps").int64_value(&[]));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_goes_downhill_and_its_state_goes_on_the_same() {
        let options = (Kind::Double, Device::Cpu);
        let mut ours = Scalar::new("log_alpha", 1.0, 0.1, options);
        let mut other = Scalar::new("log_alpha", 5.0, 0.1, options);
        let step = |scalar: &mut Scalar| {
            let loss = (scalar.leaf() - 0.25).square();
            let grad = super::super::gradients(&loss, &[scalar.leaf()]);
            scalar.step(grad[0].shallow_clone());
            scalar.value().double_value(&[])
        };
        for _ in 0..100 {
            step(&mut ours);
        }
        other.restore(&ours.state());
        assert_eq!(step(&mut ours), step(&mut other));
        assert!((ours.value().double_value(&[]) - 0.25).abs() < 0.05);
        assert_eq!(other.steps(), 101);
    }
}
