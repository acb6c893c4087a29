//! The head of SynthER's denoiser (conglu1997/SynthER@e6835a5, `denoiser_network.py`): row and condition through one
//! layer, the embedded time added, and through another into the trunk.

use tch::Tensor;

use super::{
    Condition, Head, Seen,
    layers::{Gradients, bias, linear, linear_specs, weight},
    time::TimeNet,
};
use crate::nn::{ParamSpec, Params, product};

const ROWS: &str = "proj";
const FIRST: &str = "residual_mlp.network.0";

/// network.0(proj(\[x, condition\]) + embedded time).
///
/// A condition has no embedding here: none, or one that was dropped, is a condition of zeros.
#[derive(Debug)]
pub struct Synther {
    pub columns: i64,
    pub conditions: i64,
    /// Of what goes into the trunk.
    pub width: i64,
    /// Of the embedded time.
    pub embedded: i64,
    pub time: TimeNet,
}

impl Synther {
    /// Row and condition side by side.
    fn joined(&self, x: &Tensor, condition: Option<Condition>) -> Tensor {
        if self.conditions == 0 {
            return x.shallow_clone();
        }
        let condition = match condition {
            None => x.new_zeros([x.size()[0], self.conditions], (x.kind(), x.device())),
            Some(Condition { values, kept: None }) => values.shallow_clone(),
            Some(Condition {
                values,
                kept: Some(kept),
            }) => values * kept,
        };
        Tensor::cat(&[x, &condition], 1)
    }
}

impl Head for Synther {
    fn specs(&self) -> Vec<ParamSpec> {
        let mut specs = self.time.specs();
        specs.extend(linear_specs(
            ROWS,
            self.columns + self.conditions,
            self.embedded,
        ));
        specs.extend(linear_specs(FIRST, self.embedded, self.width));
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
        let rows = self.joined(x, condition);
        let (of_time, time) = self.time.forward(params, time);
        let joined = linear(params, ROWS, &rows).g_add_(&of_time);
        let out = linear(params, FIRST, &joined);
        let seen = Seen {
            rows,
            joined,
            time,
            condition: None,
        };
        (out, seen)
    }

    fn backward(&self, params: &Params, seen: &Seen, grad: &Tensor, gradients: &mut Gradients) {
        gradients.put_linear(FIRST, grad, &seen.joined);
        let grad = product::of_input(grad, &weight(params, FIRST), None);
        gradients.put_linear(ROWS, &grad, &seen.rows);
        self.time.backward(params, &seen.time, &grad, gradients);
    }

    fn remember(&self, params: &Params, condition: Option<&Tensor>) -> Tensor {
        let bias = bias(params, ROWS);
        match condition {
            Some(condition) if self.conditions > 0 => {
                let weight = weight(params, ROWS).narrow(1, self.columns, self.conditions);
                product::forward(condition, &weight, &bias, false)
            }
            _ => bias.unsqueeze(0),
        }
    }

    fn at_level(&self, params: &Params, x: &Tensor, time: &Tensor, remembered: &Tensor) -> Tensor {
        let (of_time, _) = self.time.forward(params, time);
        let weight = weight(params, ROWS).narrow(1, 0, self.columns);
        let rows = product::forward(x, &weight, &of_time.squeeze_dim(0), false);
        linear(params, FIRST, &(rows + remembered))
    }
}
