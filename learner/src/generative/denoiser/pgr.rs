//! The head of PGR's denoiser (renwang435/pgr@b52b41b, `denoiser_network_cond.py`): a row beside the embeddings of
//! condition and time, and both into the trunk.

use tch::Tensor;

use super::{
    Condition, Head, Seen,
    activation::Activation,
    embedding::Embedding,
    layers::{Gradients, bias, linear, linear_specs, weight},
    time::TimeNet,
};
use crate::nn::{ParamSpec, Params, product};

const ROWS: &str = "residual_mlp.x_proj";
const BESIDE: &str = "residual_mlp.cond_proj";

/// \[x_proj(x), cond_proj(\[embedded condition, embedded time\])\].
#[derive(Debug)]
pub struct Pgr {
    pub columns: i64,
    /// Of each half of what goes into the trunk.
    pub width: i64,
    /// Of an embedding.
    pub embedded: i64,
    pub time: TimeNet,
    /// `None`: it knows no conditions.
    pub condition: Option<Embedding>,
}

impl Pgr {
    /// The embedding of a condition of so many numbers.
    pub fn condition(conditions: i64, embedded: i64) -> Option<Embedding> {
        (conditions > 0).then(|| Embedding {
            names: ["cond_mlp.0", "cond_mlp.2"],
            sizes: [conditions, 2 * embedded, embedded],
            activation: Activation::Mish,
        })
    }
}

impl Head for Pgr {
    fn specs(&self) -> Vec<ParamSpec> {
        let embeddings = 1 + i64::from(self.condition.is_some());
        let mut specs = self.time.specs();
        specs.extend(self.condition.iter().flat_map(Embedding::specs));
        specs.extend(linear_specs(ROWS, self.columns, self.width));
        specs.extend(linear_specs(BESIDE, embeddings * self.embedded, self.width));
        specs
    }

    fn time(&self) -> &TimeNet {
        &self.time
    }

    fn forward(
        &self,
        params: &Params,
        x: &Tensor,
        time: &Tensor,
        condition: Option<Condition>,
    ) -> (Tensor, Seen) {
        let (of_time, time) = self.time.forward(params, time);
        let (embedded, condition) = match (&self.condition, condition) {
            (None, _) => (None, None),
            (Some(_), None) => (Some(of_time.zeros_like()), None),
            (Some(net), Some(Condition { values, kept })) => {
                let (embedded, seen) = net.forward(params, values);
                let kept = kept.map(Tensor::shallow_clone);
                let embedded = match &kept {
                    None => embedded,
                    Some(kept) => embedded * kept,
                };
                (Some(embedded), Some((seen, kept)))
            }
        };
        let parts: Vec<Tensor> = embedded.into_iter().chain([of_time]).collect();
        let beside = Tensor::cat(&parts, 1);
        let halves = [linear(params, ROWS, x), linear(params, BESIDE, &beside)];
        let seen = Seen {
            rows: x.shallow_clone(),
            joined: beside,
            time,
            condition,
        };
        (Tensor::cat(&halves, 1), seen)
    }

    fn backward(&self, params: &Params, seen: &Seen, grad: &Tensor, gradients: &mut Gradients) {
        let half = |i: i64| grad.narrow(1, i * self.width, self.width);
        gradients.put_linear(ROWS, &half(0), &seen.rows);
        gradients.put_linear(BESIDE, &half(1), &seen.joined);
        let grad = product::of_input(&half(1), &weight(params, BESIDE), None);
        let of_time = grad.size()[1] - self.embedded;
        let (of_condition, of_time) = (
            grad.narrow(1, 0, of_time),
            grad.narrow(1, of_time, self.embedded),
        );
        self.time.backward(params, &seen.time, &of_time, gradients);
        if let (Some(net), Some((seen, kept))) = (&self.condition, &seen.condition) {
            let grad = match kept {
                None => of_condition,
                Some(kept) => of_condition * kept,
            };
            let _ = net.backward(params, seen, &grad, gradients);
        }
    }

    fn remember(&self, params: &Params, condition: Option<&Tensor>) -> Tensor {
        let weight = weight(params, BESIDE);
        let none = Tensor::zeros([1, self.width], (weight.kind(), weight.device()));
        match (&self.condition, condition) {
            (Some(net), Some(condition)) => {
                let (embedded, _) = net.forward(params, condition);
                let weight = weight.narrow(1, 0, self.embedded);
                product::forward(&embedded, &weight, &none.squeeze_dim(0), false)
            }
            _ => none,
        }
    }

    fn at_level(&self, params: &Params, x: &Tensor, time: &Tensor, remembered: &Tensor) -> Tensor {
        let (of_time, _) = self.time.forward(params, time);
        let weight = weight(params, BESIDE);
        let weight = weight.narrow(1, weight.size()[1] - self.embedded, self.embedded);
        let of_time = product::forward(&of_time, &weight, &bias(params, BESIDE), false);
        let rows = linear(params, ROWS, x);
        let beside = (remembered + of_time).expand_as(&rows);
        Tensor::cat(&[rows, beside], 1)
    }
}
