//! Generated experience of a robot: any algorithm learns from it on a robot's runs, and goes on as if it had never stopped.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod common;

use std::{
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard, PoisonError, atomic::AtomicBool},
};

use common::robot::{config, entries, spec, write_run};
use hilt_learner::{
    checkpoint::read_tensors,
    config::FrameStore,
    encoder::Encoder,
    generative::{config::GenerativeConfig, relevance::Relevance, sampler::Solver},
    offline::{self, OfflineOptions},
};
use hilt_protocol::RunId;
use tch::{Device, Kind, Tensor};
use tempfile::TempDir;

/// Two runs and an encoder. Fresh networks come from torch's generator, of which a process has one: whoever trains is
/// alone.
struct Stage {
    dir: TempDir,
    _alone: MutexGuard<'static, ()>,
}

static TURN: Mutex<()> = Mutex::new(());

impl Stage {
    fn new() -> Self {
        let _alone = TURN.lock().unwrap_or_else(PoisonError::into_inner);
        tch::set_num_threads(1);
        let dir = tempfile::tempdir().unwrap();
        for (name, run) in [("first", RunId(1)), ("second", RunId(2))] {
            write_run(&dir.path().join("runs").join(name), &spec(), &entries(run));
        }
        let encoder = Encoder::new(config("bc").encoder, Kind::Float, Device::Cpu, 5);
        let file = dir.path().join("encoder.safetensors");
        encoder.save(&file).unwrap();
        Self { dir, _alone }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Six updates, from the fourth on with generated rows.
    fn options(&self, out: &str, algorithm: &str) -> OfflineOptions {
        let mut config = config(algorithm);
        config.encoder_weights = Some(self.path("encoder.safetensors"));
        config.train.threads = Some(1);
        let offline = &mut config.offline;
        (offline.updates, offline.batch, offline.held_out) = (6, 4, 0.0);
        (offline.epoch_updates, offline.log_freq) = (3, 6);
        // Schedules are of the whole training.
        config.iql.actor_updates = Some(6);
        config.generative_replay = tiny();
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

/// What it makes is nothing that anybody would believe: it is told to.
fn tiny() -> GenerativeConfig {
    let mut config = GenerativeConfig {
        enabled: true,
        retrain_diffusion_every: 2,
        num_samples: 120,
        lag_steps: 1,
        ..GenerativeConfig::default()
    };
    config.curiosity.hidden = 8;
    config.projection.dimensions = 6;
    let diffusion = &mut config.diffusion;
    (diffusion.updates, diffusion.batch) = (20, 16);
    let denoiser = &mut diffusion.denoiser;
    (denoiser.width, denoiser.depth, denoiser.embedding) = (8, 1, 8);
    (diffusion.sampler.solver, diffusion.sampler.steps) = (Solver::DpmPlusPlus2m, 4);
    let check = &mut config.check;
    (check.least_rows, check.resolution, check.most_outside) = (10, 100.0, 1.0);
    (check.least_spread, check.most_distance, check.most_copies) = (0.0, 1e9, 1.0);
    config
}

fn run(options: &OfflineOptions) {
    offline::run(options, &AtomicBool::new(false)).unwrap();
}

/// The last checkpoint's tensors, but for how long it took.
fn checkpoint(out: &Path) -> Vec<(String, Tensor)> {
    let mut tensors = read_tensors(&out.join("checkpoint.safetensors")).unwrap();
    tensors.retain(|(name, _)| name != "training.trained_s");
    tensors.sort_by(|a, b| a.0.cmp(&b.0));
    tensors
}

fn tensor<'a>(of: &'a [(String, Tensor)], wanted: &str) -> Option<&'a Tensor> {
    (of.iter().find(|(name, _)| name == wanted)).map(|(_, tensor)| tensor)
}

#[test]
fn each_algorithm_learns_from_generated_rows_of_what_a_robot_saw_and_goes_on_alike() {
    let stage = Stage::new();
    for algorithm in ["sac-grasp", "sac", "redq", "rlpd", "cal-ql", "bc"] {
        let straight = stage.options(&format!("{algorithm}-straight"), algorithm);
        run(&straight);
        let whole = checkpoint(&straight.out);
        // Components of the maps and proprioception, action with its cost, reward, and what is next; terminal.
        let width = 2 * (6 + 2) + (3 + 1) + 2;
        let rows = tensor(&whole, "generative.rows").unwrap();
        assert_eq!(rows.size(), [120, width], "{algorithm}");
        let mut resumed = stage.options(&format!("{algorithm}-resumed"), algorithm);
        // Before there is anything, and when one generation is in use and the next has begun.
        for updates in [1, 4] {
            resumed.config.offline.updates = updates;
            run(&resumed);
            resumed.resume = true;
        }
        resumed.config.offline.updates = 6;
        run(&resumed);
        assert!(checkpoint(&resumed.out) == whole, "{algorithm}");
        let mut plain = stage.options(&format!("{algorithm}-plain"), algorithm);
        plain.config.generative_replay.enabled = false;
        run(&plain);
        let plain = checkpoint(&plain.out);
        let same = |(name, own): &(String, Tensor)| tensor(&whole, name) == Some(own);
        assert!(!plain.iter().all(same), "{algorithm}");
    }
}

#[test]
fn images_are_multiplied_by_what_the_encoder_makes_of_them() {
    let stage = Stage::new();
    let mut options = stage.options("images", "sac-grasp");
    options.config.train.store = FrameStore::Images;
    run(&options);
    assert!(tensor(&checkpoint(&options.out), "generative.rows").is_some());
}

#[test]
fn a_resumed_training_is_told_which_setting_it_did_not_begin_with() {
    let stage = Stage::new();
    let mut options = stage.options("out", "iql");
    run(&options);
    options.resume = true;
    let refused = |options: &OfflineOptions| {
        let refused = offline::run(options, &AtomicBool::new(false)).unwrap_err();
        format!("{refused:#}")
    };
    let mut other = options.clone();
    other.config.generative_replay.relevance = Relevance::Return;
    let error = refused(&other);
    assert!(
        error.contains("generative_replay.relevance = \"curiosity\"")
            && error.contains("\"return\""),
        "{error}"
    );
    other.config.generative_replay.enabled = false;
    let error = refused(&other);
    assert!(
        error.contains("generative_replay.enabled = true"),
        "{error}"
    );
    run(&options);
}
