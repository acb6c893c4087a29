//! What can be configured of a training, one typed tree. `--preset NAME` is where it begins,
//! `--config FILE` gives a TOML file over it, `--set a.b=v` changes single keys, and the resolved
//! tree is written beside the results.

mod bounds;
mod made;

use std::path::PathBuf;

use hilt_protocol::settings::{self, SettingsError};
use serde::{Deserialize, Serialize};
use tch::Device;

pub use self::bounds::OutOfBounds;
use crate::{
    agents::{
        awac::AwacConfig, bc::BcConfig, cal_ql::CalQlConfig, cql::CqlConfig, front::FrontConfig,
        iql::IqlConfig, redq::RedqConfig, rlpd::RlpdConfig, sac::SacConfig,
        sac_grasp::SacGraspConfig, td3_bc::Td3BcConfig,
    },
    augment::{PADDING_PX, shifts},
    encoder::EncoderConfig,
    generative::config::GenerativeConfig,
    hybrid::task::config::OnlineConfig,
    imitation::config::ImitationConfig,
    offline::config::OfflineConfig,
    presets::{self, UnknownPreset},
    reward::{classifier::ClassifierConfig, model::RewardInput},
};

/// What the replay keeps of each frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum FrameStore {
    /// The frozen encoder's map in f16: each frame is encoded once, when it comes. Maps cannot be
    /// shifted; [`TrainConfig::shifted_copies`] is what can be had instead.
    Maps,
    /// The image. Each batch's are shifted at random (HIL-SERL's augmentation) and encoded, all of
    /// them in each update: on a CPU that takes longer than the rest of the update, by far.
    Images,
}

/// Which algorithm learns.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Algorithm {
    /// HIL-SERL's agent, on what a robot sees; it alone has a learned gripper of three choices.
    #[default]
    SacGrasp,
    /// Behaviour cloning.
    Bc,
    /// TD3 with behaviour cloning.
    Td3Bc,
    /// Implicit Q-learning.
    Iql,
    /// Advantage-weighted actor-critic.
    Awac,
    /// Conservative Q-learning.
    Cql,
    /// Calibrated conservative Q-learning.
    CalQl,
    /// Soft actor-critic.
    Sac,
    /// Randomized ensembled double Q-learning.
    Redq,
    /// Reinforcement learning with prior data.
    Rlpd,
}

impl Algorithm {
    /// Its name, as configurations have it.
    pub fn name(self) -> &'static str {
        match self {
            Self::SacGrasp => "sac-grasp",
            Self::Bc => "bc",
            Self::Td3Bc => "td3-bc",
            Self::Iql => "iql",
            Self::Awac => "awac",
            Self::Cql => "cql",
            Self::CalQl => "cal-ql",
            Self::Sac => "sac",
            Self::Redq => "redq",
            Self::Rlpd => "rlpd",
        }
    }

    /// Whether it has a critic.
    pub fn has_critic(self) -> bool {
        self != Self::Bc
    }
}

/// Where tensors live.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DeviceChoice {
    /// The first GPU there is (CUDA, or Apple's), else the processor.
    #[default]
    Auto,
    /// CUDA's first GPU.
    Cuda,
    /// Apple's GPU.
    Mps,
    /// The processor.
    Cpu,
}

impl DeviceChoice {
    /// The device. One that was asked for by name and is not there is an error.
    pub fn resolve(self) -> Result<Device, ConfigError> {
        let absent = |device: &'static str| Err(ConfigError::NoDevice { device });
        match self {
            Self::Auto if tch::Cuda::is_available() => Ok(Device::Cuda(0)),
            Self::Auto if tch::utils::has_mps() => Ok(Device::Mps),
            Self::Auto | Self::Cpu => Ok(Device::Cpu),
            Self::Cuda if tch::Cuda::is_available() => Ok(Device::Cuda(0)),
            Self::Cuda => absent("cuda"),
            Self::Mps if tch::utils::has_mps() => Ok(Device::Mps),
            Self::Mps => absent("mps"),
        }
    }
}

/// How the update loop runs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TrainConfig {
    /// Transitions per update.
    pub batch: usize,
    /// Share of a batch that comes from demonstrations and interventions (RLPD: one half).
    pub demonstration_share: f64,
    /// Critic updates per actor update (HIL-SERL: 2).
    pub cta_ratio: u64,
    /// Online transitions before the first update.
    pub start_after: usize,
    /// In lockstep, steps that the actor may take per update.
    pub steps_per_update: f64,
    /// Seconds between snapshots of the policy.
    pub snapshot_period_s: f64,
    /// Seconds between checkpoints.
    pub checkpoint_period_s: f64,
    /// Online rows to keep.
    pub capacity: usize,
    /// What the replay keeps of each frame.
    pub store: FrameStore,
    /// Maps to keep per frame: of the image as it is, and of so many less one random shifts of it,
    /// encoded when it comes; an update draws one of them. That many times the encoding and the
    /// bytes per step. 0 or 1: no augmentation.
    pub shifted_copies: usize,
    /// Threads of torch. Absent: on state vectors 1, for their networks are so small that more threads mostly wait for
    /// each other, by spinning, which on a busy machine lasts many times as long as the work; on what a robot sees
    /// one less than there are cores, up to 4, which leaves one to the actor.
    pub threads: Option<u16>,
}

impl Default for TrainConfig {
    fn default() -> Self {
        Self {
            batch: 256,
            demonstration_share: 0.5,
            cta_ratio: 2,
            start_after: 100,
            steps_per_update: 1.0,
            snapshot_period_s: 2.0,
            checkpoint_period_s: 60.0,
            capacity: 200_000,
            store: FrameStore::Maps,
            shifted_copies: 0,
            threads: None,
        }
    }
}

impl TrainConfig {
    /// Threads of torch for networks on state vectors.
    pub fn vector_threads(&self) -> i32 {
        self.threads.map_or(1, i32::from)
    }

    /// Threads of torch for networks on what a robot sees.
    pub fn sight_threads(&self) -> i32 {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        (self.threads).map_or((cores as i32 - 1).clamp(1, 4), i32::from)
    }

    fn check(&self) -> Result<(), ConfigError> {
        let copies = self.shifted_copies;
        if self.store == FrameStore::Images && copies > 1 {
            return Err(ConfigError::CopiesOfImages { copies });
        }
        let most = shifts(PADDING_PX) as usize;
        if copies > most {
            return Err(ConfigError::TooManyCopies { copies, most });
        }
        Ok(())
    }
}

/// The reward classifier's training.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RewardConfig {
    /// What it looks at.
    pub input: RewardInput,
    /// Its own trunk, when it looks at images.
    pub trunk: EncoderConfig,
    /// The head.
    pub network: ClassifierConfig,
    /// Frames per step, half of them successes.
    pub batch: i64,
    /// Gradient steps before reinforcement learning begins.
    pub steps: u64,
    /// Share of the labelled episodes that is held out to measure precision and recall.
    pub held_out: f64,
    /// Probability from which a frame counts as success (as in the rig file).
    pub threshold: f64,
    /// When a person's words in the run show so many mistakes, it is trained further…
    pub correction_mistakes: usize,
    /// … for so many steps.
    pub correction_steps: u64,
}

impl Default for RewardConfig {
    fn default() -> Self {
        let network = ClassifierConfig {
            lr: 1e-3,
            bottleneck: 64,
            hidden: 64,
            ..ClassifierConfig::default()
        };
        Self {
            input: RewardInput::Images,
            trunk: EncoderConfig {
                widths: vec![8, 16, 32, 32],
                ..EncoderConfig::narrow()
            },
            network,
            batch: 96,
            steps: 500,
            held_out: 0.15,
            threshold: 0.75,
            correction_mistakes: 3,
            correction_steps: 30,
        }
    }
}

/// Everything. The default is what the parts' defaults say; a training begins with a preset.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LearnerConfig {
    /// Where tensors live.
    pub device: DeviceChoice,
    /// Which algorithm learns. Its own settings stand under its name.
    pub algorithm: Algorithm,
    /// Weights of the encoder (`.pkl` of HIL-SERL, or `.safetensors`). Absent: imitation of the
    /// demonstrations trains it.
    pub encoder_weights: Option<PathBuf>,
    /// The encoder.
    pub encoder: EncoderConfig,
    /// Its pre-training.
    pub imitation: ImitationConfig,
    /// The learned reward.
    pub reward: RewardConfig,
    /// HIL-SERL's agent.
    pub sac_grasp: SacGraspConfig,
    /// What the other algorithms see maps through.
    pub front: FrontConfig,
    /// Behaviour cloning.
    pub bc: BcConfig,
    /// TD3+BC.
    pub td3_bc: Td3BcConfig,
    /// IQL.
    pub iql: IqlConfig,
    /// AWAC.
    pub awac: AwacConfig,
    /// CQL.
    pub cql: CqlConfig,
    /// Cal-QL.
    pub cal_ql: CalQlConfig,
    /// SAC.
    pub sac: SacConfig,
    /// REDQ.
    pub redq: RedqConfig,
    /// RLPD.
    pub rlpd: RlpdConfig,
    /// The update loop.
    pub train: TrainConfig,
    /// Training on data at hand.
    pub offline: OfflineConfig,
    /// Learning on a task.
    pub online: OnlineConfig,
    /// Generated experience beside real one.
    pub generative_replay: GenerativeConfig,
}

/// Why there is no configuration.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum ConfigError {
    /// The preset is not known.
    #[error(transparent)]
    Preset(#[from] UnknownPreset),
    /// A text or an override is not a configuration.
    #[error(transparent)]
    Settings(#[from] SettingsError),
    /// Two settings exclude each other.
    #[error(
        "train.shifted_copies = {copies}, but train.store = \"images\": images are shifted anew in \
         every update; leave shifted_copies out, or set train.store to \"maps\""
    )]
    CopiesOfImages {
        /// The copies asked for.
        copies: usize,
    },
    /// A device that this machine, or this build of libtorch, has not got.
    #[error(
        "device = \"{device}\", but libtorch finds none: see that its driver is there and that libtorch was \
         built for it, or set device to \"auto\""
    )]
    NoDevice {
        /// Which.
        device: &'static str,
    },
    /// A number that cannot be.
    #[error(transparent)]
    Bounds(#[from] OutOfBounds),
    /// There are not so many shifts.
    #[error(
        "train.shifted_copies = {copies}: there are {most} different shifts, so {most} at most"
    )]
    TooManyCopies {
        /// The copies asked for.
        copies: usize,
        /// The most there can be.
        most: usize,
    },
    /// What matters is to be told by a critic that there is not.
    #[error(
        "generative_replay.relevance = \"{relevance}\" asks a critic, and algorithm = \"{algorithm}\" has none: set \
         generative_replay.relevance to \"curiosity\" or \"none\", or choose an algorithm with a critic"
    )]
    NoCritic {
        /// What is asked for.
        relevance: &'static str,
        /// What has none.
        algorithm: &'static str,
    },
}

impl LearnerConfig {
    /// A preset, a file's name and text over it, `a.b=v` over both.
    pub fn resolve(
        preset: &str,
        file: Option<(&str, &str)>,
        sets: &[String],
    ) -> Result<Self, ConfigError> {
        let named = format!("preset {preset}");
        Self::resolve_over((&named, presets::text(preset)?), file, sets)
    }

    /// The same over another configuration: its name and text.
    pub fn resolve_over(
        base: (&str, &str),
        file: Option<(&str, &str)>,
        sets: &[String],
    ) -> Result<Self, ConfigError> {
        let layers: Vec<(&str, &str)> = [base].into_iter().chain(file).collect();
        let config: Self = settings::parse_layers(&Self::default(), &layers, sets)?;
        bounds::check(&config)?;
        config.train.check()?;
        config.check_critic()?;
        Ok(config)
    }

    fn check_critic(&self) -> Result<(), ConfigError> {
        let (generative, algorithm) = (&self.generative_replay, self.algorithm);
        let (relevance, asks) = (generative.relevance, generative.relevance.asks_critic());
        if generative.enabled && asks && !algorithm.has_critic() {
            return Err(ConfigError::NoCritic {
                relevance: relevance.name(),
                algorithm: algorithm.name(),
            });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{agents::sac_grasp::GripperHead, presets::PRESETS};

    fn sets(sets: &[&str]) -> Vec<String> {
        sets.iter().map(|&set| set.to_owned()).collect()
    }

    fn preset(name: &str) -> LearnerConfig {
        LearnerConfig::resolve(name, None, &[]).unwrap()
    }

    #[test]
    fn every_preset_is_a_configuration_and_reads_back() {
        for (name, _) in PRESETS {
            let config = preset(name);
            let text = toml::to_string(&config).unwrap();
            let again = LearnerConfig::resolve("lift", Some(("config.toml", &text)), &[]);
            assert_eq!(again.unwrap(), config, "{name}");
        }
    }

    #[test]
    fn presets_say_what_they_are_named_for() {
        let lift = preset("lift");
        assert_eq!(lift.encoder, EncoderConfig::narrow());
        let categorical = GripperHead::Categorical { entropy: 0.01 };
        assert_eq!(lift.sac_grasp.gripper, categorical);
        assert_eq!(lift.train.store, FrameStore::Maps);
        let hil = preset("hil-serl");
        assert_eq!(hil.encoder, EncoderConfig::resnet10());
        assert_eq!(hil.sac_grasp, SacGraspConfig::default());
        assert_eq!(hil.reward.network, ClassifierConfig::default());
        assert_eq!((hil.train.batch, hil.train.cta_ratio), (256, 2));
        assert_eq!(hil.train.store, FrameStore::Images);
        let torch = preset("pytorch-serl");
        assert_eq!(
            (torch.sac_grasp.discount, torch.train.start_after),
            (0.95, 1000)
        );
        assert_eq!(torch.encoder, hil.encoder);
        assert_eq!(torch.train.store, FrameStore::Images);
    }

    #[test]
    fn presets_for_data_at_hand_name_an_algorithm_and_say_what_differs() {
        let of = |name: &str| preset(name);
        let algorithms = [
            "bc", "td3-bc", "iql", "awac", "cql", "cal-ql", "sac", "redq", "rlpd",
        ];
        for name in algorithms {
            let preset = of(name);
            assert_eq!(preset.algorithm.name(), name);
            assert!(preset.agent(3, 2, Device::Cpu, 1).is_some());
            let offline = preset.offline;
            let counts = (offline.updates, offline.batch, offline.epoch_updates);
            assert_eq!(counts, (1_000_000, 256, 5000), "{name}");
            let online = ["sac", "redq", "rlpd"].contains(&name);
            assert_eq!(offline.normalize_observations, !online, "{name}");
        }
        let iql = of("iql-antmaze");
        assert_eq!(iql.algorithm, Algorithm::Iql);
        assert_eq!((iql.iql.expectile, iql.iql.beta), (0.9, 10.0));
        assert_eq!(
            (iql.offline.rewards.shift, iql.offline.num_eval),
            (-1.0, 100)
        );
        let cql = of("cql-antmaze");
        assert_eq!(cql.algorithm, Algorithm::Cql);
        assert_eq!((cql.cql.lagrange_gap, cql.cql.weight), (Some(0.8), 5.0));
        assert_eq!(cql.cql.clip, Some([-200.0, f64::INFINITY]));
        assert!(cql.cql.max_target_backup);
        assert_eq!(cql.cql.critic_hidden, [256; 5]);
        assert_eq!(of("cql").cql, CqlConfig::default());
        assert_eq!(of("awac").offline.eval_freq, 1000);
    }

    #[test]
    fn an_unknown_preset_is_refused_with_those_there_are() {
        let error = LearnerConfig::resolve("hilserl", None, &[]).unwrap_err();
        let error = error.to_string();
        for word in ["hilserl", "lift", "hil-serl", "pytorch-serl"] {
            assert!(error.contains(word), "{error}");
        }
    }

    #[test]
    fn copies_that_cannot_be_are_refused_with_the_remedy() {
        let resolve = |preset: &str, set: &[&str]| LearnerConfig::resolve(preset, None, &sets(set));
        let error = |preset: &str, set: &str| resolve(preset, &[set]).unwrap_err().to_string();
        let of_images = error("hil-serl", "train.shifted_copies=2");
        assert!(of_images.contains("train.store to \"maps\""), "{of_images}");
        let too_many = error("lift", "train.shifted_copies=82");
        assert!(too_many.contains("81 at most"), "{too_many}");
        assert!(resolve("hil-serl", &["train.shifted_copies=1"]).is_ok());
        let maps = ["train.store=maps", "train.shifted_copies=81"];
        assert!(resolve("hil-serl", &maps).is_ok());
    }

    #[test]
    fn a_file_lies_over_the_preset_and_sets_lie_over_both() {
        let text = "encoder_weights = \"w.pkl\"\n[encoder]\nimage_size = 64\n\
                    [sac_grasp]\ndiscount = 0.9\nlr = 1\ngripper = \"fixed\"\n";
        let file = Some(("config.toml", text));
        let sets = sets(&["sac_grasp.discount=0.95", "train.batch=64"]);
        let config = LearnerConfig::resolve("hil-serl", file, &sets).unwrap();
        assert_eq!(
            (config.sac_grasp.discount, config.sac_grasp.lr),
            (0.95, 1.0)
        );
        assert_eq!(config.encoder.widths, EncoderConfig::resnet10().widths);
        assert_eq!((config.encoder.image_size, config.train.batch), (64, 64));
        assert_eq!(config.encoder_weights, Some("w.pkl".into()));
        let lift = LearnerConfig::resolve("lift", file, &[]).unwrap();
        assert_eq!(lift.sac_grasp.gripper, GripperHead::Fixed);
    }

    #[test]
    fn what_is_wrong_is_named_with_its_place() {
        let error = |text: &str, set: &[&str]| {
            let file = Some(("config.toml", text));
            let resolved = LearnerConfig::resolve("lift", file, &sets(set));
            resolved.unwrap_err().to_string()
        };
        let unknown = error("[encoder]\nimage_size = 64\n[train]\nbach = 64\n", &[]);
        assert!(unknown.starts_with("config.toml:4: ") && unknown.contains("bach"));
        assert!(error("[train]\nbatch = \"a\"\n", &[]).starts_with("config.toml:2: "));
        assert!(error("", &["train.bach=64"]).contains("train.bach=64"));
    }
}
