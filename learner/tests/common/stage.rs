//! Robot's runs to train on, and trainings on them, one at a time.

use std::{
    path::{Path, PathBuf},
    sync::MutexGuard,
};

use hilt_learner::{checkpoint::read_tensors, encoder::Encoder, offline::OfflineOptions};
use hilt_protocol::RunId;
use tch::{Device, Kind, Tensor};
use tempfile::TempDir;

use super::{
    on_task::alone,
    robot::{config, entries, spec, write_run},
};

/// Two runs, and an encoder for whoever does not train one. Whoever trains is alone.
pub struct Stage {
    pub dir: TempDir,
    _alone: MutexGuard<'static, ()>,
}

impl Stage {
    pub fn new() -> Self {
        let _alone = alone();
        tch::set_num_threads(1);
        let dir = tempfile::tempdir().unwrap();
        for (name, run) in [("first", RunId(1)), ("second", RunId(2))] {
            write_run(&dir.path().join("runs").join(name), &spec(), &entries(run));
        }
        let encoder = Encoder::new(config("bc").encoder, Kind::Float, Device::Cpu, 5);
        encoder
            .save(&dir.path().join("encoder.safetensors"))
            .unwrap();
        Self { dir, _alone }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Six updates.
    pub fn options(&self, out: &str, algorithm: &str) -> OfflineOptions {
        let mut config = config(algorithm);
        config.encoder_weights = Some(self.path("encoder.safetensors"));
        config.train.threads = Some(1);
        let offline = &mut config.offline;
        (offline.updates, offline.batch, offline.held_out) = (6, 4, 0.3);
        (offline.eval_freq, offline.epoch_updates, offline.log_freq) = (3, 3, 2);
        OfflineOptions {
            rig: None,
            data: self.path("runs"),
            env: None,
            out: self.path(out),
            seed: 3,
            resume: false,
            config,
        }
    }
}

/// The last checkpoint's tensors, but for how long it took.
pub fn checkpoint(out: &Path) -> Vec<(String, Tensor)> {
    let mut tensors = read_tensors(&out.join("checkpoint.safetensors")).unwrap();
    tensors.retain(|(name, _)| name != "training.trained_s");
    tensors.sort_by(|a, b| a.0.cmp(&b.0));
    tensors
}
