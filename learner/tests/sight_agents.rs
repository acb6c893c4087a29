//! Every algorithm learns from what a robot saw, through the replay, and goes on from a file as if it had never
//! stopped.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod common;

use std::sync::RwLock;

use common::robot::{ALGORITHMS, config, entries, spec};

use hilt_learner::{
    agents::{
        guard::Watch,
        sight::{SightAgent, SightTransitions},
    },
    checkpoint::{read_agent, write_agent},
    config::{Algorithm, FrameStore, LearnerConfig},
    encoder::Encoder,
    ingest::Ingest,
    replay::{HostBatch, Replay, Which, seen},
};
use hilt_protocol::{RunId, noise::Uniforms};
use tch::{Device, Kind, Tensor};

/// Batches of a replay with the entries of a run.
struct Batches {
    _dir: tempfile::TempDir,
    replay: Replay,
    encoder: Encoder,
    store: FrameStore,
    rows: usize,
}

impl Batches {
    fn new(config: &LearnerConfig, agent: &dyn SightAgent) -> Self {
        let encoder = Encoder::new(config.encoder.clone(), Kind::Float, Device::Cpu, 3);
        let dir = tempfile::tempdir().unwrap();
        let ingest = Ingest::new(spec(), &encoder, &config.train).unwrap();
        let (layout, identity) = (ingest.layout(), ingest.identity());
        let mut replay = Replay::open(dir.path(), layout, identity, 1000).unwrap();
        if let Some(discount) = config.return_discount() {
            replay.reckon_returns(discount);
        }
        let replay = RwLock::new(replay);
        for entry in entries(RunId(4)) {
            ingest.push(&entry, true, &replay).unwrap();
        }
        Self {
            _dir: dir,
            replay: replay.into_inner().unwrap(),
            encoder,
            store: config.train.store,
            rows: config.train.batch * agent.parts() as usize,
        }
    }

    fn draw(&self, seed: u64) -> SightTransitions {
        let mut random = Uniforms::new(seed);
        let mut batch = HostBatch::new(self.replay.layout(), self.rows);
        assert!(
            self.replay
                .sample(Which::Demonstrations, 0..self.rows, &mut random, &mut batch)
        );
        seen(&batch, self.store, &self.encoder, &mut random)
    }
}

fn agent(config: &LearnerConfig, seed: u64) -> Box<dyn SightAgent> {
    let agent = config.sight_agent(&spec(), config.encoder.map_shape(), Device::Cpu, seed);
    agent.centre_proprio(&[0.4, 0.2], &[0.01, 1.0]);
    agent
}

fn train(agent: &mut dyn SightAgent, batches: &Batches, updates: u64) -> Vec<(&'static str, f64)> {
    let mut watch = Watch::default();
    for _ in 0..updates {
        let number = agent.updates();
        let figures = agent.update_seeded(&batches.draw(number), 7);
        watch.note(number + 1, figures);
        assert_eq!(agent.updates(), number + 1);
    }
    watch.read().unwrap()
}

fn state(agent: &dyn SightAgent) -> Vec<(String, Vec<f64>)> {
    let numbers = |t: &Tensor| Vec::<f64>::try_from(t.to_kind(Kind::Double).reshape([-1])).unwrap();
    (agent.state().iter())
        .map(|(name, tensor)| (name.clone(), numbers(tensor)))
        .collect()
}

#[test]
fn each_algorithm_learns_from_the_replay_and_goes_on_from_a_file() {
    tch::set_num_threads(1);
    let dir = tempfile::tempdir().unwrap();
    for (algorithm, store) in ALGORITHMS.into_iter().flat_map(|algorithm| {
        [FrameStore::Maps, FrameStore::Images].map(|store| (algorithm, store))
    }) {
        let mut config = config(algorithm);
        config.train.store = store;
        assert_eq!(config.algorithm.name(), algorithm);
        let mut ours = agent(&config, 1);
        let batches = Batches::new(&config, &*ours);
        let before = state(&*ours);
        let figures = train(&mut *ours, &batches, 3);
        assert!(!figures.is_empty(), "{algorithm}");
        assert_ne!(state(&*ours), before, "{algorithm} learned nothing");
        let path = dir.path().join(format!("{algorithm}.safetensors"));
        write_agent(&path, ours.state(), ours.updates()).unwrap();
        // From other networks: nothing may be left of what they started with.
        let mut other = agent(&config, 2);
        let (kept, updates) = read_agent(&path, other.state()).unwrap();
        other.restore(&kept, updates);
        assert_eq!(state(&*other), state(&*ours), "{algorithm}");
        let figures = train(&mut *ours, &batches, 3);
        assert_eq!(train(&mut *other, &batches, 3), figures, "{algorithm}");
        assert_eq!(state(&*other), state(&*ours), "{algorithm}");
        let batch = batches.draw(9);
        let best = other.best(&batch.observations);
        assert_eq!(best.size(), batch.actions.size());
        assert!(best.abs().max().double_value(&[]) <= 1.0);
        let value = other.value(&batch.observations, &batch.actions);
        let wanted = (config.algorithm != Algorithm::Bc).then(|| batch.rewards.size());
        assert_eq!(value.map(|value| value.size()), wanted, "{algorithm}");
    }
}

#[test]
fn grippers_that_the_critics_judge_cost_their_penalty() {
    tch::set_num_threads(1);
    for (gripper, algorithm, counts) in [
        ("\"grasp-critic\"", "sac-grasp", false),
        ("{ categorical = { entropy = 0.01 } }", "sac-grasp", true),
        ("\"grasp-critic\"", "td3-bc", true),
    ] {
        let text = format!("[sac_grasp]\ngripper = {gripper}\nreward_bias = 0.25\n");
        let file = Some(("config.toml", text.as_str()));
        let small = config(algorithm);
        let mut config = LearnerConfig::resolve("hil-serl", file, &[]).unwrap();
        (config.algorithm, config.encoder) = (small.algorithm, small.encoder);
        config.train.store = FrameStore::Maps;
        let agent = agent(&config, 1);
        let batch = Batches::new(&config, &*agent).draw(1);
        let penalty = match counts {
            true => batch.grasp_penalty.shallow_clone(),
            false => batch.grasp_penalty.zeros_like(),
        };
        let bias = if algorithm == "sac-grasp" { 0.25 } else { 0.0 };
        let wanted = &batch.rewards + penalty + bias;
        assert!(batch.grasp_penalty.sum(Kind::Float).double_value(&[]) < 0.0);
        assert!(
            agent.rewards(&batch).allclose(&wanted, 1e-6, 1e-6, false),
            "{gripper}"
        );
    }
}

/// Cal-QL's critics are held up by the returns: they must be of the rewards that these learn, grippers' penalty and
/// all.
#[test]
fn returns_are_of_the_rewards_that_the_critics_learn() {
    tch::set_num_threads(1);
    let config = config("cal-ql");
    let agent = agent(&config, 1);
    let batches = Batches::new(&config, &*agent);
    let mut batch = HostBatch::new(batches.replay.layout(), 18);
    let rows = batches
        .replay
        .in_order(Which::Demonstrations, 0, &mut batch);
    assert_eq!(rows, 18, "three episodes of six steps");
    let batch = seen(
        &batch,
        batches.store,
        &batches.encoder,
        &mut Uniforms::new(1),
    );
    assert!(batch.grasp_penalty.min().double_value(&[]) < 0.0);
    let rewards = agent.rewards(&batch);
    let returns = batch.returns.unwrap();
    let mut after = 0.0;
    for row in (0..18).rev() {
        let goes_on = batch.masks.double_value(&[row]);
        after = rewards.double_value(&[row]) + config.discount() * goes_on * after;
        let found = returns.double_value(&[row]);
        assert!((found - after).abs() < 1e-6, "{row}: {found} {after}");
    }
}

#[test]
fn cal_ql_has_returns_and_the_others_have_none() {
    tch::set_num_threads(1);
    for algorithm in ALGORITHMS {
        let config = config(algorithm);
        let agent = agent(&config, 1);
        let batch = Batches::new(&config, &*agent).draw(1);
        assert_eq!(batch.returns.is_some(), algorithm == "cal-ql");
        let parts = if algorithm == "rlpd" {
            3
        } else {
            agent.parts()
        };
        assert_eq!(batch.rewards.size(), [8 * parts]);
        if let Some(returns) = batch.returns {
            // The reward of 1 comes at the end, five steps away at most, and the penalty before it.
            let (least, most) = (
                returns.min().double_value(&[]),
                returns.max().double_value(&[]),
            );
            assert!(
                least > 0.99f64.powi(5) - 0.11 && most <= 1.0,
                "{least} {most}"
            );
        }
    }
}
