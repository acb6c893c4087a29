//! An agent that was trained on a robot's runs, in a folder: the robot acts from it, and `hilt-learner hybrid --from`
//! goes on from it.
//!
//! | file | what it is |
//! |---|---|
//! | `encoder.onnx`, `policy.onnx`, `spec.json` | what `hilt` runs ([`export::write_folder`]) |
//! | `encoder.safetensors` | the encoder's weights |
//! | `agent.safetensors` | everything that the agent's next update would depend on; proprioception's normalisation is in its first layer |
//! | `config.toml` | the configuration that it was trained with |

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use hilt_protocol::RigSpec;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use tch::{Device, Kind};

use crate::{
    agents::sight::SightAgent,
    checkpoint::{NotKept, read_agent, write_agent},
    config::LearnerConfig,
    encoder::{Encoder, WeightsError},
    export::{self, RobotAgent},
    metrics::write_atomically,
    reward::trained::hash_in_hex,
};

const SPEC_FILE: &str = "spec.json";
/// The configuration, for whoever begins with it.
pub const CONFIG_FILE: &str = "config.toml";
const ENCODER_FILE: &str = "encoder.safetensors";
const AGENT_FILE: &str = "agent.safetensors";

/// Why a training cannot go on from a folder.
#[derive(Debug, thiserror::Error)]
pub enum Unfit {
    /// A file cannot be read.
    #[error(
        "--from {0}; it takes the `export` or `best` folder of `hilt-learner offline` on a robot's runs"
    )]
    File(io::Error),
    /// It is another robot's.
    #[error(
        "--from {dir} was trained on another rig ({theirs}) than the demonstrations were recorded on ({ours}); give \
         the runs that it was trained on, or train another one"
    )]
    Rig {
        /// The folder.
        dir: PathBuf,
        /// The folder's.
        theirs: String,
        /// The demonstrations'.
        ours: String,
    },
    /// Its networks are not those that are configured.
    #[error(
        "--from {dir} was trained with {key} = {theirs}, and {ours} is configured here; leave --preset and --set of it \
         out, or choose another folder"
    )]
    Configured {
        /// The folder.
        dir: PathBuf,
        /// Where they differ.
        key: &'static str,
        /// The folder's.
        theirs: String,
        /// The training's.
        ours: String,
    },
    /// The encoder that was given is not the folder's.
    #[error(
        "--from {0} sees through another encoder than --encoder-weights gives; leave --encoder-weights out"
    )]
    Encoder(PathBuf),
    /// The encoder's file is not one.
    #[error("--from {dir}: {fault}")]
    Weights {
        /// The folder.
        dir: PathBuf,
        /// What is wrong with it.
        fault: WeightsError,
    },
    /// A training that is resumed went on from another one.
    #[error(
        "--from {dir}: the training in --out {out} went on from {theirs}; repeat the command that began it, or choose \
         another folder"
    )]
    Other {
        /// The folder.
        dir: PathBuf,
        /// The training's.
        out: PathBuf,
        /// What that went on from.
        theirs: String,
    },
    /// The agent's state does not fit the configured one.
    #[error("--from {0}")]
    Agent(NotKept),
}

/// Writes all files, each whole.
pub fn write(
    dir: &Path,
    spec: &RigSpec,
    encoder: &Encoder,
    agent: &dyn RobotAgent,
    config: &LearnerConfig,
) -> anyhow::Result<()> {
    export::write_folder(dir, spec, encoder, agent.acts(), None)?;
    encoder.save(&dir.join(ENCODER_FILE))?;
    write_agent(&dir.join(AGENT_FILE), agent.state(), agent.updates())?;
    let config = toml::to_string(config)?;
    Ok(write_atomically(&dir.join(CONFIG_FILE), config.as_bytes())?)
}

/// What a training went on from, for when it is resumed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Origin {
    /// The folder, as it was given.
    pub dir: PathBuf,
    /// Of the agent in it, then.
    pub agent_sha256: String,
}

/// A folder that [`write()`] wrote, fit for a training.
#[derive(Debug)]
pub struct TrainedOnRuns {
    dir: PathBuf,
    encoder: Encoder,
}

impl TrainedOnRuns {
    /// Opens a folder for a training of this configuration on this rig.
    pub fn open(
        dir: &Path,
        spec: &RigSpec,
        config: &LearnerConfig,
        device: Device,
    ) -> Result<Self, Unfit> {
        let text = |name: &str| {
            let path = dir.join(name);
            let named = |e: io::Error| io::Error::new(e.kind(), format!("{}: {e}", path.display()));
            fs::read_to_string(&path).map_err(|e| Unfit::File(named(e)))
        };
        let wrong = |name: &str, fault: String| {
            Unfit::File(io::Error::other(format!(
                "{}: {fault}",
                dir.join(name).display()
            )))
        };
        let theirs: RigSpec =
            serde_json::from_str(&text(SPEC_FILE)?).map_err(|e| wrong(SPEC_FILE, e.to_string()))?;
        if theirs != *spec {
            return Err(Unfit::Rig {
                dir: dir.to_owned(),
                theirs: theirs.hash().to_string(),
                ours: spec.hash().to_string(),
            });
        }
        let theirs: LearnerConfig =
            toml::from_str(&text(CONFIG_FILE)?).map_err(|e| wrong(CONFIG_FILE, e.to_string()))?;
        let encoder = |config: &LearnerConfig| format!("{:?}", config.encoder);
        let compared = [
            (
                "algorithm",
                theirs.algorithm.name().to_owned(),
                config.algorithm.name().to_owned(),
            ),
            ("encoder", encoder(&theirs), encoder(config)),
        ];
        if let Some((key, theirs, ours)) = compared.into_iter().find(|(_, a, b)| a != b) {
            return Err(Unfit::Configured {
                dir: dir.to_owned(),
                key,
                theirs,
                ours,
            });
        }
        let weights = |fault| Unfit::Weights {
            dir: dir.to_owned(),
            fault,
        };
        let encoder = Encoder::new(config.encoder.clone(), Kind::Float, device, 0);
        encoder.load(&dir.join(ENCODER_FILE)).map_err(weights)?;
        if theirs.encoder_weights != config.encoder_weights
            && let Some(given) = config.given_encoder(device, 0).map_err(weights)?
            && given.hash() != encoder.hash()
        {
            return Err(Unfit::Encoder(dir.to_owned()));
        }
        Ok(Self {
            dir: dir.to_owned(),
            encoder,
        })
    }

    /// The encoder.
    pub fn encoder(&self) -> &Encoder {
        &self.encoder
    }

    /// Puts the state into an agent of the configuration, which counts its updates on: its schedules go on with them,
    /// and no update draws what an earlier one drew.
    pub fn begin(&self, agent: &mut dyn SightAgent) -> Result<(), Unfit> {
        let path = self.dir.join(AGENT_FILE);
        let (state, updates) = read_agent(&path, agent.state()).map_err(Unfit::Agent)?;
        agent.restore(&state, updates);
        Ok(())
    }

    /// Which folder it is, and which agent lies in it now.
    pub fn origin(&self) -> Result<Origin, Unfit> {
        let path = self.dir.join(AGENT_FILE);
        let named = |e: io::Error| io::Error::new(e.kind(), format!("{}: {e}", path.display()));
        let bytes = fs::read(&path).map_err(|e| Unfit::File(named(e)))?;
        Ok(Origin {
            dir: self.dir.clone(),
            agent_sha256: format!("{:x}", Sha256::digest(bytes)),
        })
    }

    /// Whether the training in `out`, which is resumed, went on from this agent, wherever that lies now.
    pub fn check(&self, began: Option<&Origin>, out: &Path) -> Result<(), Unfit> {
        let ours = self.origin()?.agent_sha256;
        if began.is_some_and(|began| began.agent_sha256 == ours) {
            return Ok(());
        }
        Err(Unfit::Other {
            dir: self.dir.clone(),
            out: out.to_owned(),
            theirs: match began {
                None => "no other one".to_owned(),
                Some(began) if began.dir == self.dir => "another agent in that folder".to_owned(),
                Some(began) => began.dir.display().to_string(),
            },
        })
    }

    /// In words.
    pub fn in_words(&self) -> String {
        let hash = hash_in_hex(&self.encoder);
        format!(
            "going on from {}, encoder {}",
            self.dir.display(),
            &hash[..8]
        )
    }
}
