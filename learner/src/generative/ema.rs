//! The averaged weights that rows are sampled from.

use serde::{Deserialize, Serialize};
use tch::Tensor;

use crate::nn::Params;

/// How they follow. The default is what PGR and SynthER ask of `ema_pytorch`, whose other numbers are its own
/// (lucidrains/ema-pytorch 0.8.3).
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct EmaConfig {
    /// The most that is kept of the average.
    pub beta: f64,
    /// They move once in so many updates.
    pub every: u64,
    /// So long they are a copy.
    pub copy_until: u64,
    /// Then of the average 1 − (1 + e / this)^−power is kept, e updates further, at most `beta`.
    pub inverse_gamma: f64,
    /// See `inverse_gamma`.
    pub power: f64,
}

impl Default for EmaConfig {
    fn default() -> Self {
        Self {
            beta: 0.995,
            every: 10,
            copy_until: 100,
            inverse_gamma: 1.0,
            power: 2.0 / 3.0,
        }
    }
}

impl EmaConfig {
    /// How much of the average is kept in update number `update`, from 1; 0: it becomes a copy.
    pub fn kept(&self, update: u64) -> f64 {
        let further = update.saturating_sub(self.copy_until + 1);
        match further {
            0 => 0.0,
            _ => {
                let ramp = 1.0 - (1.0 + further as f64 / self.inverse_gamma).powf(-self.power);
                ramp.clamp(0.0, self.beta)
            }
        }
    }
}

/// Averaged weights.
#[derive(Debug)]
pub struct Ema {
    config: EmaConfig,
    params: Params,
    updates: u64,
}

impl Ema {
    /// Starts as a copy.
    pub fn new(config: EmaConfig, params: &Params) -> Self {
        Self {
            config,
            params: params.frozen_copy(|_| true),
            updates: 0,
        }
    }

    /// After an update of the weights.
    pub fn follow(&mut self, params: &Params) {
        let due = self.updates.is_multiple_of(self.config.every);
        self.updates += 1;
        if due {
            (self.params).track(params, 1.0 - self.config.kept(self.updates));
        }
    }

    /// The average.
    pub fn params(&self) -> &Params {
        &self.params
    }

    /// To save: weights, and the updates so far.
    pub fn state(&self) -> (Tensor, u64) {
        (self.params.flat().copy(), self.updates)
    }

    /// Puts back what [`Ema::state`] gave.
    pub fn restore(&mut self, flat: &Tensor, updates: u64) {
        self.params.set_flat(flat);
        self.updates = updates;
    }
}
