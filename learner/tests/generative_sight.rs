//! Generated experience of a robot: any algorithm learns from it on a robot's runs, and goes on as if it had never stopped.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod common;

use std::{
    fs,
    sync::{RwLock, atomic::AtomicBool},
};

use common::{
    robot::{config, entries, spec, write_run},
    stage::{Stage, checkpoint},
};
use hilt_learner::{
    agents::sight::{Sight, SightTransitions},
    config::FrameStore,
    encoder::Encoder,
    generative::{
        config::GenerativeConfig,
        relevance::Relevance,
        replay::{Settled, Synthetic},
        sampler::Solver,
        sight::{Seen, SightReplay},
    },
    ingest::Ingest,
    offline::{self, OfflineOptions},
    replay::{HostBatch, Replay, Which, to_tensors},
};
use hilt_protocol::{Entry, Record, RunId, Step, noise::Uniforms};
use tch::{Device, Kind, Tensor};

/// Six updates, from the fourth on with generated rows.
fn options(stage: &Stage, out: &str, algorithm: &str) -> OfflineOptions {
    let mut options = stage.options(out, algorithm);
    let config = &mut options.config;
    (config.offline.held_out, config.offline.log_freq) = (0.0, 6);
    // Schedules are of the whole training.
    config.iql.actor_updates = Some(6);
    config.generative_replay = tiny();
    options
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

fn tensor<'a>(of: &'a [(String, Tensor)], wanted: &str) -> Option<&'a Tensor> {
    (of.iter().find(|(name, _)| name == wanted)).map(|(_, tensor)| tensor)
}

#[test]
fn each_algorithm_learns_from_generated_rows_of_what_a_robot_saw_and_goes_on_alike() {
    let stage = Stage::new();
    for algorithm in ["sac-grasp", "sac", "redq", "rlpd", "cal-ql", "bc"] {
        let straight = options(&stage, &format!("{algorithm}-straight"), algorithm);
        run(&straight);
        let whole = checkpoint(&straight.out);
        // Components of the maps and proprioception, action with its cost, reward, and what is next; terminal.
        let width = 2 * (6 + 2) + (3 + 1) + 2;
        let rows = tensor(&whole, "generative.rows").unwrap();
        assert_eq!(rows.size(), [120, width], "{algorithm}");
        let mut resumed = options(&stage, &format!("{algorithm}-resumed"), algorithm);
        // Before there is anything, and when one generation is in use and the next has begun.
        for updates in [1, 4] {
            resumed.config.offline.updates = updates;
            run(&resumed);
            resumed.resume = true;
        }
        resumed.config.offline.updates = 6;
        run(&resumed);
        assert!(checkpoint(&resumed.out) == whole, "{algorithm}");
        let mut plain = options(&stage, &format!("{algorithm}-plain"), algorithm);
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
    let mut options = options(&stage, "images", "sac-grasp");
    options.config.train.store = FrameStore::Images;
    run(&options);
    assert!(tensor(&checkpoint(&options.out), "generative.rows").is_some());
}

#[test]
fn a_resumed_training_is_told_which_setting_it_did_not_begin_with() {
    let stage = Stage::new();
    let mut options = options(&stage, "out", "iql");
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

/// What a robot saw while its cameras were covered.
fn covered(run: RunId) -> Vec<Entry> {
    let mut entries = entries(run);
    for entry in &mut entries {
        let (Record::Reset(next) | Record::Step(Step { next, .. })) = &mut entry.record;
        for image in &mut next.images {
            image.rgb = vec![0; image.rgb.len()].into();
        }
    }
    entries
}

#[test]
fn a_training_whose_cameras_are_covered_goes_on_without_and_says_so() {
    let stage = Stage::new();
    for run in [RunId(3), RunId(4)] {
        let dir = stage.path("covered").join(run.0.to_string());
        write_run(&dir, &spec(), &covered(run));
    }
    let training = |out: &str| OfflineOptions {
        data: stage.path("covered"),
        ..options(&stage, out, "sac")
    };
    let straight = training("straight");
    run(&straight);
    let text = fs::read(straight.out.join("summary.json")).unwrap();
    let summary: serde_json::Value = serde_json::from_slice(&text).unwrap();
    let of = &summary["generative_replay"];
    // At first, and whenever one is due.
    assert_eq!((&of["generations"], &of["refused"]), (&4.into(), &4.into()));
    let reason = of["last_refusal"].as_str().unwrap();
    assert!(reason.contains("are the cameras covered?"), "{reason}");
    let mut resumed = training("resumed");
    resumed.config.offline.updates = 3;
    run(&resumed);
    resumed.resume = true;
    resumed.config.offline.updates = 6;
    run(&resumed);
    let whole = checkpoint(&straight.out);
    assert!(checkpoint(&resumed.out) == whole);
    let mut plain = training("plain");
    plain.config.generative_replay.enabled = false;
    run(&plain);
    let plain = checkpoint(&plain.out);
    let same = |(name, own): &(String, Tensor)| tensor(&whole, name) == Some(own);
    assert!(plain.iter().all(same), "as without");
}

#[test]
fn cameras_that_are_uncovered_are_seen_when_the_next_generation_is_due() {
    let _stage = Stage::new();
    let dir = tempfile::tempdir().unwrap();
    let mut config = config("sac");
    config.generative_replay = GenerativeConfig {
        retrain_diffusion_every: 10,
        ..tiny()
    };
    let encoder = Encoder::new(config.encoder.clone(), Kind::Float, Device::Cpu, 5);
    let ingest = Ingest::new(spec(), &encoder, &config.train).unwrap();
    let (layout, identity) = (ingest.layout(), ingest.identity());
    let store = RwLock::new(Replay::open(dir.path(), layout, identity, 1000).unwrap());
    let push = |entries: Vec<Entry>| {
        for entry in entries {
            ingest.push(&entry, false, &store).unwrap();
        }
    };
    let agent = config.sight_agent(&spec(), encoder.config().map_shape(), Device::Cpu, 3);
    let look = |look: &mut dyn FnMut(&Replay)| look(&store.read().unwrap());
    let seen = Seen {
        replay: &look,
        encoder: &encoder,
        agent: &*agent,
    };
    let batch = || {
        let mut batch = HostBatch::new(layout, 4);
        store.read().unwrap().in_order(Which::Online, 0, &mut batch);
        to_tensors(&batch, encoder.config().map_shape(), Device::Cpu)
    };
    let mut generative = SightReplay::new(&config, &spec(), 3, Device::Cpu).unwrap();
    push(covered(RunId(3)));
    generative.after(1, &seen, &batch()).unwrap();
    let news = generative.account_mut().news();
    assert!(news[0].starts_with("generation 1 is left out"), "{news:?}");
    // Of three episodes of six steps, each of which counts once, though they are interventions.
    let reason = "the maps of all 18 observations are the same: are the cameras covered?";
    assert!(news[0].ends_with(reason) && news.len() == 1, "{news:?}");
    push(entries(RunId(4)));
    generative.after(9, &seen, &batch()).unwrap();
    assert_eq!(generative.account_mut().news(), Vec::<String>::new());
    generative.after(10, &seen, &batch()).unwrap();
    let stop = AtomicBool::new(false);
    assert_eq!(generative.before(11, &seen, &stop).unwrap(), Settled::Yes);
    let news = generative.account_mut().news();
    assert!(news[0].starts_with("projection "), "{news:?}");
    assert_eq!(news[1..], ["generation 2 is used from here on: 120 rows"]);
}

#[test]
fn a_batch_has_its_real_rows_as_they_are_and_generated_grippers_do_what_grippers_can() {
    let stage = Stage::new();
    let options = options(&stage, "out", "sac");
    run(&options);
    let mut kept = checkpoint(&options.out);
    // Numbered by their rewards; grippers' commands lie anywhere.
    let wishes = [-1.3f32, -0.7, -0.51, -0.3, 0.0, 0.4, 0.6, 1.2];
    let commands = [-1f32, -1.0, -1.0, 0.0, 0.0, 0.0, 1.0, 1.0];
    let count = wishes.len() as i64;
    let float = (Kind::Float, Device::Cpu);
    let rows = Tensor::rand([count, 22], float);
    let (gripper, reward) = (8 + 2, 8 + 3 + 1);
    rows.select(1, gripper).copy_(&Tensor::from_slice(&wishes));
    (rows.select(1, reward)).copy_(&Tensor::arange(count, float));
    for (name, tensor) in &mut kept {
        if name == "generative.rows" {
            assert_eq!(tensor.size()[1], 22);
            *tensor = rows.shallow_clone();
        }
    }
    let mut generative = SightReplay::new(&options.config, &spec(), 3, Device::Cpu).unwrap();
    generative.restore(&kept).unwrap();
    let map = options.config.encoder.map_shape();
    let sight = |rows: i64| Sight {
        maps: Vec::from([(); 2].map(|()| Tensor::randn([&[rows], &map[..]].concat(), float))),
        proprio: Tensor::randn([rows, 2], float),
    };
    let n = 64;
    let real = SightTransitions {
        observations: sight(n),
        next_observations: sight(n),
        // As nothing generated is.
        actions: Tensor::rand([n, 3], float) * 0.2 + 0.2,
        rewards: Tensor::arange(n, float) + 100.0,
        grasp_penalty: Tensor::rand([n], float),
        masks: Tensor::ones([n], float),
        returns: None,
    };
    let all = generative.mixed(&real, n as usize, &mut Uniforms::new(1));
    assert_eq!(all.rows(), 2 * n);
    let is_real = all.rewards.ge(100.0);
    let of =
        |which: &Tensor, tensor: &Tensor| tensor.index_select(0, &which.nonzero().squeeze_dim(1));
    let ours = |tensor: &Tensor| of(&is_real, tensor);
    assert_eq!(ours(&all.rewards), real.rewards);
    assert_eq!(ours(&all.actions), real.actions);
    assert_eq!(ours(&all.grasp_penalty), real.grasp_penalty);
    for (all, real) in [
        (&all.observations, &real.observations),
        (&all.next_observations, &real.next_observations),
    ] {
        assert_eq!(ours(&all.maps[1]), real.maps[1]);
        assert_eq!(ours(&all.proprio), real.proprio);
    }
    let theirs = |tensor: &Tensor| of(&is_real.logical_not(), tensor);
    let (actions, numbers) = (
        theirs(&all.actions),
        theirs(&all.rewards).to_kind(Kind::Int64),
    );
    let wanted = Tensor::from_slice(&commands).index_select(0, &numbers);
    assert_eq!(actions.select(1, 2), wanted);
    let motion = rows.narrow(1, 8, 2).index_select(0, &numbers);
    assert_eq!(
        actions.narrow(1, 0, 2),
        motion,
        "what moves the arm is not rounded"
    );
}
