//! What can be chosen of generative replay.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{
    check::CheckConfig, curiosity::CuriosityConfig, diffusion::DiffusionConfig,
    latent::ProjectionConfig, normalizer::Scheme, relevance::Relevance,
};

/// Generative replay. The names of its first settings are those of PGR's usage guide; the default is its repository's
/// (renwang435/pgr@b52b41b, `config/online/sac_cond_synther_dmc.gin`).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct GenerativeConfig {
    /// Whether there is any.
    pub enabled: bool,
    /// Steps from one generation to the next, and to the first one: of the task or the robot; of updates where the data is
    /// at hand.
    pub retrain_diffusion_every: u64,
    /// Rows of a generation.
    pub num_samples: usize,
    /// What makes a row worth more than another; `none`: all rows are alike, and nothing is asked for (SynthER).
    pub relevance: Relevance,
    /// Rows are asked for with the relevance of rows of this highest share.
    pub cond_top_frac: f64,
    /// Of each batch, the share that is generated.
    pub diffusion_sample_ratio: f64,
    /// So many steps after it began, a generation is waited for where it is not done, so that a task's training does not
    /// depend on how fast it is; 0: learning stands still meanwhile, as in the reference. On a robot's stream nobody
    /// waits.
    pub lag_steps: u64,
    /// Whether a diffusion model goes on from the one before it, and not from nothing as the reference's.
    pub warm_start: bool,
    /// Threads of torch for it.
    pub threads: u16,
    /// What rows are brought to.
    pub scheme: Scheme,
    /// The diffusion model.
    pub diffusion: DiffusionConfig,
    /// The model whose surprise is one relevance.
    pub curiosity: CuriosityConfig,
    /// When generated rows are believed.
    pub check: CheckConfig,
    /// What maps of images become.
    pub projection: ProjectionConfig,
}

impl GenerativeConfig {
    /// What a training stands on of it, by the settings' names: nothing where there is none. Networks and rows can be
    /// gone on with by the same relevance alone.
    pub fn facts(&self) -> Vec<(String, Value)> {
        let facts = [
            ("generative_replay.enabled", json!(true)),
            ("generative_replay.relevance", json!(self.relevance)),
        ];
        let here = facts.into_iter().filter(|_| self.enabled);
        here.map(|(name, value)| (name.to_owned(), value)).collect()
    }
}

impl Default for GenerativeConfig {
    fn default() -> Self {
        Self {
            enabled: false,
            retrain_diffusion_every: 10_000,
            num_samples: 1_000_000,
            relevance: Relevance::Curiosity,
            cond_top_frac: 0.1,
            diffusion_sample_ratio: 0.5,
            lag_steps: 1000,
            warm_start: false,
            threads: 1,
            scheme: Scheme::MinMax,
            diffusion: DiffusionConfig::default(),
            curiosity: CuriosityConfig::default(),
            check: CheckConfig::default(),
            projection: ProjectionConfig::default(),
        }
    }
}
