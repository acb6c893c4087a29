//! Learning on a task that is over in no time.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard, PoisonError, atomic::AtomicBool},
    time::Instant,
};

use hilt_learner::{
    checkpoint::read_tensors,
    config::{DeviceChoice, LearnerConfig},
    evaluation::command::{EvaluateOptions, Length},
    hybrid::task::{self, TaskOptions},
};
use hilt_recording::table::{Columns, Table, npz};
use serde_json::Value;

/// Fresh networks are drawn from torch's one generator: tests that compare runs must not draw at once.
pub fn alone() -> MutexGuard<'static, ()> {
    static ONE: Mutex<()> = Mutex::new(());
    ONE.lock().unwrap_or_else(PoisonError::into_inner)
}

pub fn config(sets: &[&str]) -> LearnerConfig {
    let small = [
        "device=\"cpu\"",
        "train.threads=1",
        "train.batch=32",
        "sac.hidden=[16,16]",
        "redq.hidden=[16,16]",
        "rlpd.hidden=[16,16]",
        "cal_ql.cql.actor_hidden=[16]",
        "cal_ql.cql.critic_hidden=[16]",
        "cal_ql.cql.sampled_actions=2",
        "online.random_steps=100",
        "online.num_eval=1",
    ];
    let sets: Vec<String> = small.iter().chain(sets).map(|&set| set.into()).collect();
    LearnerConfig::resolve("lift", None, &sets).unwrap()
}

pub fn options(out: &Path, sets: &[&str]) -> TaskOptions {
    TaskOptions {
        env: "Pendulum-v1".into(),
        demos: None,
        from: None,
        out: out.to_owned(),
        log: None,
        seed: 3,
        resume: false,
        config: config(sets),
    }
}

/// One episode of the policy in a folder.
pub fn judge(policy: &Path) -> EvaluateOptions {
    EvaluateOptions {
        policy: policy.to_owned(),
        env: None,
        length: Length::Episodes(1),
        seed: 0,
        stochastic: false,
        log: None,
        video: None,
        device: DeviceChoice::Cpu,
    }
}

pub fn go(options: &TaskOptions) -> anyhow::Result<()> {
    task::run(options, Instant::now(), &AtomicBool::new(false))
}

pub fn refused(options: &TaskOptions) -> String {
    format!("{:#}", go(options).unwrap_err())
}

pub fn says(error: &str, words: &[&str]) {
    for word in words {
        assert!(error.contains(word), "{word}: {error}");
    }
}

pub fn lines(out: &Path) -> Vec<Value> {
    let text = fs::read_to_string(out.join("metrics.jsonl")).unwrap();
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

/// What an agent is made of, in the order of the names.
pub fn agent(dir: &Path) -> Vec<(String, tch::Tensor)> {
    let mut tensors = read_tensors(&dir.join("agent.safetensors")).unwrap();
    tensors.sort_by_key(|(name, _)| name.clone());
    tensors
}

/// A table of the pendulum's sizes, or of others, with numbers up to `by`.
pub fn table(path: &Path, (observation, action): (usize, usize), by: f32) -> PathBuf {
    let rows = 64;
    let number = |i: usize| by * ((i * 37 % 101) as f32 - 50.0) / 50.0;
    let numbers = |count: usize| (0..count * rows).map(number).collect::<Vec<_>>();
    let columns = Columns {
        observation,
        action,
        observations: numbers(observation),
        actions: numbers(action),
        rewards: numbers(1),
        next_observations: numbers(observation),
        terminals: vec![false; rows],
        timeouts: (0..rows).map(|row| row % 16 == 15).collect(),
    };
    npz::write(path, &Table::new(columns).unwrap()).unwrap();
    path.to_owned()
}
