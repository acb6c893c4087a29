//! What the tests over TCP share.
#![allow(clippy::unwrap_used, dead_code)] // each test file uses a part

use std::{
    net::TcpListener,
    ops::Range,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use hilt_link::{ActorConfig, EntrySource, LearnerConfig, SourceError, WindowLimits};
use hilt_protocol::{
    ActionSource, Entry, GraphName, Image, ModelSnapshot, NamedTensor, Observation, Probe, Record,
    RunId, SpecHash, Step,
};

pub const RUN: RunId = RunId(0x1234);
/// Long enough for a loaded machine; nothing waits so long when all is well.
pub const LONG: Duration = Duration::from_secs(30);

/// A free port: known before anybody listens, so that either end can start first.
pub fn endpoint() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    format!("tcp/{}", listener.local_addr().unwrap())
}

pub fn actor_config(endpoint: &str) -> ActorConfig {
    ActorConfig {
        session: "test".to_owned(),
        connect: vec![endpoint.to_owned()],
        run: RUN,
        window: WindowLimits {
            entries: 64,
            bytes: 1 << 20,
            patience_ns: 200_000_000,
        },
    }
}

pub fn learner_config(endpoint: &str, next: u64) -> LearnerConfig {
    LearnerConfig {
        session: "test".to_owned(),
        listen: vec![endpoint.to_owned()],
        queue_bytes: LearnerConfig::QUEUE_BYTES,
        resume: [(RUN, next)].into(),
    }
}

pub fn entry(sequence: u64) -> Entry {
    let next = Observation {
        captured_ns: sequence * 100,
        proprio: vec![sequence as f32; 3],
        images: vec![Image {
            captured_ns: sequence,
            height: 8,
            width: 8,
            rgb: vec![sequence as u8; 192].into(),
        }],
    };
    let record = if sequence.is_multiple_of(50) {
        Record::Reset(next)
    } else {
        Record::Step(Step {
            action: vec![0.5; 3],
            source: ActionSource::Policy,
            reward: 0.0,
            grasp_penalty: 0.0,
            terminated: false,
            truncated: false,
            label: None,
            policy_version: 1,
            noise_seed: sequence,
            next,
        })
    };
    Entry {
        run: RUN,
        sequence,
        episode: sequence / 50,
        index: (sequence % 50) as u32,
        record,
    }
}

/// A log in memory.
#[derive(Clone, Default)]
pub struct Log {
    pub entries: Arc<Mutex<Vec<Entry>>>,
    pub broken: Arc<AtomicBool>,
}

impl Log {
    pub fn append(&self, sequence: u64) -> Entry {
        let entry = entry(sequence);
        self.entries.lock().unwrap().push(entry.clone());
        entry
    }
}

impl EntrySource for Log {
    fn read_from(
        &mut self,
        wanted: Range<u64>,
        max_bytes: usize,
    ) -> Result<Vec<Entry>, SourceError> {
        if self.broken.load(Ordering::Relaxed) {
            return Err("the disk is on holiday".into());
        }
        let entries = self.entries.lock().unwrap();
        let from = entries
            .get(wanted.start as usize..wanted.end as usize)
            .unwrap_or_default();
        let count = (max_bytes / 200).max(1);
        Ok(from.iter().take(count).cloned().collect())
    }
}

pub fn snapshot(graph: GraphName, version: u64) -> ModelSnapshot {
    let tensor = |name: &str| NamedTensor {
        name: name.to_owned(),
        shape: vec![2, 2],
        data: vec![version as f32; 4],
    };
    ModelSnapshot {
        graph,
        graph_hash: [1; 32],
        spec: SpecHash([2; 32]),
        version,
        updates: version * 10,
        weights: vec![tensor("w")],
        probe: Probe {
            inputs: vec![tensor("x")],
            output: tensor("y"),
            tolerance: 1e-4,
        },
    }
}

/// Waits until `done`; fails the test, with `what`, if that never happens.
pub fn until(what: &str, mut done: impl FnMut() -> bool) {
    let start = Instant::now();
    while !done() {
        assert!(start.elapsed() < LONG, "never happened: {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}
