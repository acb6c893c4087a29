//! A trained agent in a folder: what a training on state vectors leaves in `export/` and `best/`, and what
//! evaluation and further training start from.
//!
//! | file | what it is |
//! |---|---|
//! | `policy.json` | the [`About`]: which algorithm, of which sizes, and what observations and rewards go through |
//! | `config.toml` | the configuration that it was trained with |
//! | `agent.safetensors` | everything that the agent's next update would depend on |
//! | `policy.onnx` | the policy by itself: observations f32 \[N, O\] as the task gives them → actions \[N, A\] in ±1 |

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};
use tch::{Device, Kind, Tensor};

use crate::{
    agents::{
        Agent, Draws,
        draws::Seeded,
        guard::{BadState, check_state},
    },
    checkpoint::{read_tensors, write_tensors},
    config::{Algorithm, LearnerConfig},
    metrics::write_atomically,
    onnx::vector_policy_graph,
    vectors::Scaling,
};

/// Where a folder has what is to be known of its policy.
pub(crate) const ABOUT_FILE: &str = "policy.json";
/// Where a folder has the configuration that it was trained with.
pub const CONFIG_FILE: &str = "config.toml";
/// Where a folder has the agent's tensors.
pub(crate) const AGENT_FILE: &str = "agent.safetensors";
const GRAPH_FILE: &str = "policy.onnx";

/// Where a folder has its policy: itself, or its best, or its last.
pub(crate) fn policy_in(dir: &Path) -> Option<PathBuf> {
    let places = [dir.to_owned(), dir.join("best"), dir.join("export")];
    let mut places = places.into_iter();
    places.find(|dir| dir.join(ABOUT_FILE).exists())
}

/// What is to be known of a policy besides its weights.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct About {
    /// What it learned by.
    pub algorithm: Algorithm,
    /// O, numbers of an observation.
    pub observations: usize,
    /// A, numbers of an action.
    pub actions: usize,
    /// The task that it was judged in, if it was in one.
    pub env: Option<String>,
    /// Updates that made it.
    pub updates: u64,
    /// What observations and rewards go through before it sees them.
    pub scaling: Scaling,
}

/// Why there is no trained agent in a folder.
#[derive(Debug, thiserror::Error)]
pub enum NotTrained {
    /// A file cannot be read.
    #[error("{0}; give the `export` or `best` folder of a training on state vectors")]
    File(io::Error),
    /// A file says what cannot be.
    #[error("{path}: {fault}; take the folder again from the training that wrote it")]
    Unreadable {
        /// Which file.
        path: PathBuf,
        /// What is wrong with it.
        fault: String,
    },
    /// Its algorithm is not one on state vectors.
    #[error("{path}: {algorithm} does not act on state vectors alone")]
    Algorithm {
        /// Which file.
        path: PathBuf,
        /// Which algorithm.
        algorithm: &'static str,
    },
    /// The weights are not those of the configured agent.
    #[error("{path}: {fault}")]
    State {
        /// Which file.
        path: PathBuf,
        /// What is wrong with them.
        fault: BadState,
    },
}

/// An agent with what its observations go through.
pub struct Trained {
    /// What is known of it.
    pub about: About,
    /// What it was trained with.
    pub config: LearnerConfig,
    /// The agent, which can go on learning.
    pub agent: Box<dyn Agent>,
    device: Device,
}

impl Trained {
    /// Reads a folder that [`write()`] wrote.
    pub fn open(dir: &Path, device: Device) -> Result<Self, NotTrained> {
        let text = |name: &str| {
            let path = dir.join(name);
            let text = fs::read_to_string(&path).map_err(|e| {
                NotTrained::File(io::Error::new(e.kind(), format!("{}: {e}", path.display())))
            })?;
            Ok((path, text))
        };
        let unreadable = |path: PathBuf, fault: &dyn std::fmt::Display| NotTrained::Unreadable {
            path,
            fault: fault.to_string(),
        };
        let (path, about) = text(ABOUT_FILE)?;
        let about: About = match serde_json::from_str(&about) {
            Ok(about) => about,
            Err(e) => return Err(unreadable(path, &e)),
        };
        if let Err(fault) = about.check() {
            return Err(unreadable(path, &fault));
        }
        let (path, config) = text(CONFIG_FILE)?;
        let config: LearnerConfig = match toml::from_str(&config) {
            Ok(config) => config,
            Err(e) => return Err(unreadable(path, &e)),
        };
        if config.algorithm != about.algorithm {
            let (theirs, ours) = (config.algorithm.name(), about.algorithm.name());
            let fault = format!("algorithm is {theirs}, but {ABOUT_FILE} says {ours}");
            return Err(unreadable(path, &fault));
        }
        let (o, a) = (about.observations as i64, about.actions as i64);
        let Some(mut agent) = config.agent(o, a, device, 0) else {
            let algorithm = about.algorithm.name();
            return Err(NotTrained::Algorithm { path, algorithm });
        };
        let path = dir.join(AGENT_FILE);
        let state = read_tensors(&path).map_err(NotTrained::File)?;
        if let Err(fault) = check_state(&agent.state(), &state) {
            return Err(NotTrained::State { path, fault });
        }
        agent.restore(&state, about.updates);
        Ok(Self {
            about,
            config,
            agent,
            device,
        })
    }

    /// Its best action in ±1 \[A\] at an observation \[O\] as its task gives it.
    pub fn act(&self, observation: &[f64]) -> Vec<f64> {
        act(&*self.agent, &self.about.scaling, observation, self.device)
    }

    /// The action in ±1 \[A\] that it explores with, by the random numbers of this seed and step.
    pub fn explore(&self, observation: &[f64], seed: u64, step: u64) -> Vec<f64> {
        let mut draws = Seeded::new(seed, step, (Kind::Float, self.device));
        let scaling = &self.about.scaling;
        explore(&*self.agent, scaling, observation, &mut draws, self.device)
    }
}

impl About {
    fn check(&self) -> Result<(), String> {
        let wrong = |what: &str, got: usize| {
            let wanted = self.observations;
            Err(format!("{what} has {got} numbers, an observation {wanted}"))
        };
        match &self.scaling.observations {
            Some(of) if of.mean.len() != self.observations => wrong("the mean", of.mean.len()),
            Some(of) if of.std.len() != self.observations => {
                wrong("the standard deviation", of.std.len())
            }
            _ => Ok(()),
        }
    }
}

/// The best action in ±1 \[A\] that an agent knows at an observation \[O\] as a task gives it.
pub fn act(agent: &dyn Agent, scaling: &Scaling, observation: &[f64], device: Device) -> Vec<f64> {
    acted(agent, scaling, observation, None, device)
}

/// The action in ±1 \[A\] that it explores with.
pub fn explore(
    agent: &dyn Agent,
    scaling: &Scaling,
    observation: &[f64],
    draws: &mut dyn Draws,
    device: Device,
) -> Vec<f64> {
    acted(agent, scaling, observation, Some(draws), device)
}

fn acted(
    agent: &dyn Agent,
    scaling: &Scaling,
    observation: &[f64],
    draws: Option<&mut dyn Draws>,
    device: Device,
) -> Vec<f64> {
    let mut seen: Vec<f32> = observation.iter().map(|&number| number as f32).collect();
    scaling.observe(&mut seen);
    let seen = Tensor::from_slice(&seen).unsqueeze(0).to_device(device);
    let action = agent.act(&seen, draws).squeeze_dim(0);
    let action = action.to_device(Device::Cpu).to_kind(Kind::Double);
    let mut numbers = vec![0.0; action.numel()];
    let count = numbers.len();
    action.copy_data(&mut numbers, count);
    numbers
}

/// Writes an agent into a folder that is there, for [`Trained::open`].
pub fn write(
    dir: &Path,
    agent: &dyn Agent,
    about: &About,
    config: &LearnerConfig,
) -> io::Result<()> {
    let config = toml::to_string(config).map_err(io::Error::other)?;
    let normalizer = about.scaling.observations.as_ref();
    let normalizer = normalizer.map(|of| (&*of.mean, &*of.std));
    let graph = vector_policy_graph(&agent.policy(), normalizer);
    write_tensors(&dir.join(AGENT_FILE), &agent.state())?;
    write_atomically(&dir.join(GRAPH_FILE), &graph)?;
    write_atomically(&dir.join(CONFIG_FILE), config.as_bytes())?;
    write_atomically(&dir.join(ABOUT_FILE), &serde_json::to_vec_pretty(about)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vectors::{Affine, Normalizer};

    fn about() -> About {
        About {
            algorithm: Algorithm::Td3Bc,
            observations: 3,
            actions: 2,
            env: Some("Pendulum-v1".into()),
            updates: 12,
            scaling: Scaling {
                observations: Some(Normalizer {
                    mean: vec![1.0, 2.0, 0.1],
                    std: vec![2.0, 0.5, 0.3],
                }),
                rewards: Affine {
                    scale: 0.1,
                    shift: -1.0,
                },
            },
        }
    }

    fn config(algorithm: &str) -> LearnerConfig {
        let sets = [format!("algorithm={algorithm}"), "td3_bc.hidden=[8]".into()];
        LearnerConfig::resolve("lift", None, &sets).unwrap()
    }

    /// A fresh agent, written.
    fn folder() -> (tempfile::TempDir, Box<dyn Agent>) {
        tch::set_num_threads(1);
        let dir = tempfile::tempdir().unwrap();
        let config = config("td3-bc");
        let agent = config.agent(3, 2, Device::Cpu, 5).unwrap();
        write(dir.path(), &*agent, &about(), &config).unwrap();
        (dir, agent)
    }

    fn error(dir: &Path) -> String {
        Trained::open(dir, Device::Cpu).err().unwrap().to_string()
    }

    #[test]
    fn what_was_written_acts_the_same_and_can_go_on() {
        let (dir, agent) = folder();
        let trained = Trained::open(dir.path(), Device::Cpu).unwrap();
        assert_eq!(trained.about, about());
        assert_eq!(trained.config, config("td3-bc"));
        assert_eq!(trained.agent.state(), agent.state());
        assert_eq!(trained.agent.updates(), 12);
        let seen = Tensor::from_slice(&[1f32, -2.0, 3.0]).unsqueeze(0);
        let wanted = Vec::<f64>::try_from(agent.act(&seen, None).view([-1])).unwrap();
        let acted = trained.act(&[3.0, 1.0, 1.0]);
        let off = |(a, b): (&f64, &f64)| (a - b).abs();
        assert!(acted.iter().zip(&wanted).map(off).fold(0.0, f64::max) < 1e-6);
        assert_eq!(acted.len(), 2);
    }

    #[test]
    fn what_cannot_be_read_is_named_with_the_remedy() {
        let (dir, _) = folder();
        let dir = dir.path();
        let nowhere = error(&dir.join("nowhere"));
        assert!(
            nowhere.contains("policy.json") && nowhere.contains("`export`"),
            "{nowhere}"
        );
        write(
            dir,
            &*config("td3-bc").agent(3, 1, Device::Cpu, 1).unwrap(),
            &about(),
            &config("td3-bc"),
        )
        .unwrap();
        let other = error(dir);
        assert!(
            other.contains("agent.safetensors: `actor.params` has shape"),
            "{other}"
        );
        let narrow = About {
            observations: 2,
            ..about()
        };
        fs::write(dir.join(ABOUT_FILE), serde_json::to_vec(&narrow).unwrap()).unwrap();
        assert!(error(dir).contains("policy.json: the mean has 3 numbers, an observation 2"));
        fs::write(dir.join(ABOUT_FILE), serde_json::to_vec(&about()).unwrap()).unwrap();
        fs::write(
            dir.join(CONFIG_FILE),
            toml::to_string(&config("iql")).unwrap(),
        )
        .unwrap();
        let apart = error(dir);
        assert!(
            apart.contains("config.toml: algorithm is iql, but policy.json says td3-bc"),
            "{apart}"
        );
        fs::write(dir.join(CONFIG_FILE), "[iql]\nbta = 1\n").unwrap();
        assert!(error(dir).contains("bta"));
    }
}
