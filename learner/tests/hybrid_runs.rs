//! `hilt-learner hybrid --from`: a robot's training goes on from one on its runs, and counts on from it.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod common;

use std::{fs, net::TcpListener, path::Path, sync::atomic::AtomicBool, time::Instant};

use common::robot::{config, entries, spec, write_run};
use hilt_learner::{
    checkpoint::read_tensors,
    config::LearnerConfig,
    encoder::Encoder,
    generative::relevance::Relevance,
    hybrid::{self, HybridOptions},
    offline::{self, OfflineOptions},
    reward::RewardInput,
};
use hilt_protocol::{Record, RunId};
use tch::{Device, Kind};

const UPDATES: u64 = 3;

fn small(dir: &Path) -> LearnerConfig {
    let mut config = config("iql");
    config.encoder_weights = Some(dir.join("encoder.safetensors"));
    config.train.threads = Some(1);
    let offline = &mut config.offline;
    (offline.updates, offline.batch) = (UPDATES, 4);
    config.reward.input = RewardInput::Maps;
    config.reward.steps = 1;
    config
}

/// Two agents, of different seeds, by one encoder; and labelled frames.
fn stage() -> tempfile::TempDir {
    tch::set_num_threads(1);
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path();
    write_run(&dir.join("runs/first"), &spec(), &entries(RunId(1)));
    let mut labelled = entries(RunId(2));
    for entry in &mut labelled {
        if let Record::Step(step) = &mut entry.record {
            step.label = Some(entry.index == 6);
        }
    }
    write_run(&dir.join("labels/first"), &spec(), &labelled);
    let encoder = Encoder::new(config("iql").encoder, Kind::Float, Device::Cpu, 5);
    encoder.save(&dir.join("encoder.safetensors")).unwrap();
    for seed in [1, 2] {
        let options = OfflineOptions {
            rig: None,
            data: dir.join("runs"),
            env: None,
            out: dir.join(format!("offline-{seed}")),
            seed,
            resume: false,
            config: small(dir),
        };
        offline::run(&options, &AtomicBool::new(false)).unwrap();
    }
    temp
}

/// Options of a training that ends before its first update.
fn options(dir: &Path, from: Option<u64>, resume: bool) -> HybridOptions {
    let free = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = free.local_addr().unwrap();
    HybridOptions {
        rig: None,
        demos: dir.join("runs"),
        labels: Some(dir.join("labels")),
        classifier: None,
        from: from.map(|seed| dir.join(format!("offline-{seed}/export"))),
        out: dir.join("online"),
        listen: vec![format!("tcp/{address}")],
        session: format!("from-{}", address.port()),
        seed: 1,
        max_updates: 10,
        max_seconds: 0.0,
        resume,
        config: small(dir),
    }
}

fn run(options: &HybridOptions) -> anyhow::Result<()> {
    hybrid::run(options, Instant::now(), &AtomicBool::new(false))
}

fn json(path: &Path) -> serde_json::Value {
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}

#[test]
fn updates_count_on_and_a_resumed_training_takes_no_other_agent() {
    let temp = stage();
    let dir = temp.path();
    run(&options(dir, Some(1), false)).unwrap();
    let online = dir.join("online");
    let state = json(&online.join("state.json"));
    assert_eq!(state["began_at"], UPDATES);
    assert_eq!(json(&online.join("summary.json"))["updates"], UPDATES);
    let agent = || {
        let mut tensors = read_tensors(&online.join("agent.safetensors")).unwrap();
        tensors.sort_by(|a, b| a.0.cmp(&b.0));
        tensors
    };
    let before = agent();
    let other = run(&options(dir, Some(2), true)).unwrap_err().to_string();
    assert!(
        other.contains("offline-2/export: the training in") && other.contains("offline-1/export;"),
        "{other}"
    );
    assert_eq!(json(&online.join("state.json")), state, "nothing changed");
    // The same again, or nothing said of it.
    for from in [Some(1), None] {
        run(&options(dir, from, true)).unwrap();
        assert!(agent() == before);
        let now = json(&online.join("state.json"));
        assert_eq!(
            (&now["began_at"], &now["from"]),
            (&state["began_at"], &state["from"])
        );
    }
}

#[test]
fn an_agent_that_does_not_fit_leaves_a_folder_that_can_be_begun_in() {
    let temp = stage();
    let dir = temp.path();
    let mut wide = options(dir, Some(1), false);
    wide.config.iql.hidden = vec![16];
    let refused = run(&wide).unwrap_err().to_string();
    assert!(refused.contains("offline-1/export"), "{refused}");
    run(&options(dir, Some(1), false)).unwrap();
}

#[test]
fn generated_rows_are_gone_on_with_by_their_own_relevance_alone() {
    let temp = stage();
    let dir = temp.path();
    let train = |relevance: Option<Relevance>| {
        let mut options = options(dir, None, true);
        let generative = &mut options.config.generative_replay;
        generative.enabled = relevance.is_some();
        generative.relevance = relevance.unwrap_or_default();
        run(&options)
    };
    // It can be had from any time on, and left out again.
    for relevance in [None, Some(Relevance::Return), None] {
        train(relevance).unwrap();
    }
    let refused = train(Some(Relevance::None)).unwrap_err().to_string();
    for words in [
        "generative_replay.relevance = \"return\"",
        "\"none\"",
        "repeat",
    ] {
        assert!(refused.contains(words), "{refused}");
    }
    train(Some(Relevance::Return)).unwrap();
}
