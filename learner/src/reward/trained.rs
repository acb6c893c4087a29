//! A reward classifier in a folder of its own: what `hilt-learner classifier` leaves, and what
//! `hilt-learner hybrid --classifier` starts from.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use hilt_protocol::CameraSpec;
use serde::{Deserialize, Serialize};

use super::{Confusion, RewardInput, RewardModel};
use crate::{
    config::{LearnerConfig, RewardConfig},
    encoder::{Encoder, EncoderConfig},
    export,
    metrics::write_atomically,
    onnx::Weights,
};

/// The weights' file, here and in the folder of a hybrid training.
pub const WEIGHTS_FILE: &str = "classifier.safetensors";
/// The graph with its weights.
const GRAPH_FILE: &str = "classifier.onnx";
/// The [`Summary`]. It comes last: with it the folder is whole.
const SUMMARY_FILE: &str = "summary.json";
/// What says that a folder is some training's already.
const TRACES: [&str; 4] = [
    SUMMARY_FILE,
    WEIGHTS_FILE,
    "encoder.safetensors",
    "state.json",
];

/// What a classifier is, and how good.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Summary {
    /// What it looks at, in this order.
    pub cameras: Vec<CameraSpec>,
    /// Of the encoder whose maps it looks at, in hex; absent where it has a trunk of its own.
    pub encoder_hash: Option<String>,
    /// How it was made.
    pub reward: RewardConfig,
    /// Seed of every random draw.
    pub seed: u64,
    /// Labelled frames.
    pub frames: usize,
    /// Those of them that are successes.
    pub successes: usize,
    /// Gradient steps.
    pub steps: u64,
    /// Verdicts on the frames that it was not trained on.
    pub held_out: Confusion,
    /// Of [`Summary::held_out`]; absent where it calls none a success.
    pub precision: Option<f64>,
    /// Of [`Summary::held_out`]; absent where there is no success.
    pub recall: Option<f64>,
}

/// Why a classifier's folder cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum UnfitClassifier {
    /// The folder is taken.
    #[error("--out {0} holds the results of a training; choose another folder")]
    Taken(PathBuf),
    /// There is no classifier.
    #[error(
        "--classifier {dir}: {SUMMARY_FILE}: {fault}; it takes what `hilt-learner classifier --out` has written"
    )]
    NotThere {
        /// The folder.
        dir: PathBuf,
        /// What is wrong with it.
        fault: io::Error,
    },
    /// Its networks are not those that are configured.
    #[error(
        "--classifier {dir} was trained with {key}={theirs}, and {ours} is configured here; give \
         --set '{key}={theirs}', or train another one"
    )]
    Configured {
        /// The folder.
        dir: PathBuf,
        /// Where they differ.
        key: &'static str,
        /// The classifier's.
        theirs: String,
        /// The training's.
        ours: String,
    },
    /// It looks at something else.
    #[error(
        "--classifier {dir} looks at {theirs}, but the rig has {ours}; train one on the rig's \
         cameras, in their order"
    )]
    Cameras {
        /// The folder.
        dir: PathBuf,
        /// The classifier's.
        theirs: String,
        /// The rig's.
        ours: String,
    },
    /// It looks at the maps of an encoder that is not the training's.
    #[error(
        "--classifier {0} looks at the maps of another encoder; give the one that it was trained \
         with by --encoder-weights, or train one with reward.input = \"images\""
    )]
    Encoder(PathBuf),
}

/// Refuses a folder with somebody's results.
pub fn check_free(out: &Path) -> Result<(), UnfitClassifier> {
    match TRACES.iter().any(|name| out.join(name).exists()) {
        true => Err(UnfitClassifier::Taken(out.to_owned())),
        false => Ok(()),
    }
}

/// Writes all files, each whole.
pub fn write(
    out: &Path,
    config: &LearnerConfig,
    model: &RewardModel,
    summary: &Summary,
) -> io::Result<()> {
    let config = toml::to_string(config).map_err(io::Error::other)?;
    write_atomically(&out.join("config.toml"), config.as_bytes())?;
    let onnx = export::classifier_onnx(model, Weights::Baked);
    write_atomically(&out.join(GRAPH_FILE), &onnx)?;
    model.save(&out.join(WEIGHTS_FILE))?;
    let summary = serde_json::to_vec_pretty(summary)?;
    write_atomically(&out.join(SUMMARY_FILE), &summary)
}

/// An encoder's hash as [`Summary`] has it.
pub fn hash_in_hex(encoder: &Encoder) -> String {
    encoder.hash().iter().map(|b| format!("{b:02x}")).collect()
}

/// A classifier that is there.
#[derive(Clone, Debug)]
pub struct TrainedClassifier {
    dir: PathBuf,
    summary: Summary,
}

impl TrainedClassifier {
    /// Reads what it is; the weights are not touched yet.
    pub fn open(dir: &Path) -> Result<Self, UnfitClassifier> {
        let file = dir.join(SUMMARY_FILE);
        let read = fs::read(&file).and_then(|text| Ok(serde_json::from_slice(&text)?));
        let summary = read.map_err(|fault| UnfitClassifier::NotThere {
            dir: dir.to_owned(),
            fault,
        })?;
        let dir = dir.to_owned();
        Ok(Self { dir, summary })
    }

    /// What it is.
    pub fn summary(&self) -> &Summary {
        &self.summary
    }

    /// Where its weights are.
    pub fn weights(&self) -> PathBuf {
        self.dir.join(WEIGHTS_FILE)
    }

    /// Refuses it for a training whose networks or cameras are others.
    pub fn check(
        &self,
        config: &RewardConfig,
        cameras: &[CameraSpec],
    ) -> Result<(), UnfitClassifier> {
        let dir = || self.dir.clone();
        let theirs = shape_of(&self.summary.reward);
        for ((key, theirs), (_, ours)) in theirs.into_iter().zip(shape_of(config)) {
            if theirs != ours {
                let dir = dir();
                return Err(UnfitClassifier::Configured {
                    dir,
                    key,
                    theirs,
                    ours,
                });
            }
        }
        if self.summary.cameras != cameras {
            return Err(UnfitClassifier::Cameras {
                dir: dir(),
                theirs: in_words(&self.summary.cameras),
                ours: in_words(cameras),
            });
        }
        Ok(())
    }

    /// Refuses it for an encoder whose maps it does not know; `None`: one that is yet to be trained.
    pub fn check_encoder(&self, encoder: Option<&Encoder>) -> Result<(), UnfitClassifier> {
        match &self.summary.encoder_hash {
            Some(hash) if encoder.map(hash_in_hex).as_ref() != Some(hash) => {
                Err(UnfitClassifier::Encoder(self.dir.clone()))
            }
            _ => Ok(()),
        }
    }
}

/// What decides the shapes of a classifier's weights and what they mean: keys and values as in TOML.
/// What it looks at comes first: where that differs, nothing after it is looked at.
fn shape_of(reward: &RewardConfig) -> Vec<(&'static str, String)> {
    let input = match reward.input {
        RewardInput::Maps => "maps",
        RewardInput::Images => "images",
    };
    let network = &reward.network;
    let mut shape = vec![
        ("reward.input", input.to_owned()),
        (
            "reward.network.spatial_features",
            network.spatial_features.to_string(),
        ),
        ("reward.network.bottleneck", network.bottleneck.to_string()),
        ("reward.network.hidden", network.hidden.to_string()),
    ];
    if reward.input == RewardInput::Images {
        let EncoderConfig {
            image_size,
            stem_kernel,
            stem_pool,
            widths,
            groups,
        } = &reward.trunk;
        shape.extend([
            ("reward.trunk.image_size", image_size.to_string()),
            ("reward.trunk.stem_kernel", stem_kernel.to_string()),
            ("reward.trunk.stem_pool", stem_pool.to_string()),
            ("reward.trunk.widths", format!("{widths:?}")),
            ("reward.trunk.groups", groups.to_string()),
        ]);
    }
    shape
}

fn in_words(cameras: &[CameraSpec]) -> String {
    let one = |c: &CameraSpec| format!("{} {}×{}", c.name, c.width, c.height);
    cameras.iter().map(one).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use tch::{Device, Kind};

    use super::*;

    fn cameras(names: &[&str]) -> Vec<CameraSpec> {
        let camera = |name: &&str| CameraSpec {
            name: (*name).to_owned(),
            height: 16,
            width: 16,
        };
        names.iter().map(camera).collect()
    }

    fn config(sets: &[&str]) -> LearnerConfig {
        let mut all = vec![
            "reward.trunk.image_size=16".to_owned(),
            "reward.trunk.widths=[4, 8]".to_owned(),
        ];
        all.extend(sets.iter().map(|&set| set.to_owned()));
        LearnerConfig::resolve("lift", None, &all).unwrap()
    }

    fn written(dir: &Path, encoder_hash: Option<String>) -> TrainedClassifier {
        let (config, cameras) = (config(&[]), cameras(&["front", "wrist"]));
        let RewardConfig { network, trunk, .. } = config.reward.clone();
        let model = RewardModel::on_images(network, trunk, &cameras, Device::Cpu, 1).unwrap();
        let summary = Summary {
            cameras,
            encoder_hash,
            reward: config.reward.clone(),
            seed: 3,
            frames: 20,
            successes: 10,
            steps: 5,
            held_out: Confusion::default(),
            precision: None,
            recall: Some(0.5),
        };
        write(dir, &config, &model, &summary).unwrap();
        let trained = TrainedClassifier::open(dir).unwrap();
        assert_eq!(trained.summary(), &summary);
        model.load(&trained.weights()).unwrap();
        trained
    }

    #[test]
    fn it_fits_a_training_of_its_own_kind_only() {
        let dir = tempfile::tempdir().unwrap();
        assert!(check_free(dir.path()).is_ok());
        let trained = written(dir.path(), None);
        let taken = check_free(dir.path()).unwrap_err().to_string();
        assert!(taken.contains("choose another folder"), "{taken}");
        let check = |sets: &[&str], names: &[&str]| {
            let checked = trained.check(&config(sets).reward, &cameras(names));
            checked.map_err(|e| e.to_string())
        };
        let own = ["front", "wrist"];
        assert_eq!(check(&["reward.steps=1"], &own), Ok(()));
        for (set, word) in [
            ("reward.input=maps", "--set 'reward.input=images'"),
            ("reward.network.hidden=8", "reward.network.hidden=64"),
            (
                "reward.trunk.widths=[8]",
                "--set 'reward.trunk.widths=[4, 8]'",
            ),
        ] {
            let error = check(&[set], &own).unwrap_err();
            assert!(error.contains(word), "{error}");
        }
        for names in [&["wrist", "front"][..], &["front"]] {
            let error = check(&[], names).unwrap_err();
            assert!(
                error.contains("front 16×16, wrist 16×16") && error.contains("in their order"),
                "{error}"
            );
        }
        assert!(trained.check_encoder(None).is_ok());
    }

    #[test]
    fn maps_of_another_encoder_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        let [own, other] = [1, 2].map(|seed| {
            let config = EncoderConfig {
                image_size: 16,
                widths: vec![4, 8],
                ..EncoderConfig::narrow()
            };
            Encoder::new(config, Kind::Float, Device::Cpu, seed)
        });
        let trained = written(dir.path(), Some(hash_in_hex(&own)));
        assert!(trained.check_encoder(Some(&own)).is_ok());
        for unknown in [Some(&other), None] {
            let error = trained.check_encoder(unknown).unwrap_err().to_string();
            assert!(error.contains("--encoder-weights"), "{error}");
        }
    }

    #[test]
    fn a_folder_without_a_classifier_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let error = || TrainedClassifier::open(dir.path()).unwrap_err().to_string();
        assert!(
            error().contains("summary.json: No such file"),
            "{}",
            error()
        );
        fs::write(dir.path().join(SUMMARY_FILE), r#"{"steps": 3}"#).unwrap();
        assert!(
            error().contains("missing field") && error().contains("hilt-learner classifier"),
            "{}",
            error()
        );
    }
}
