//! A learner in the test's own process: it learns nothing and keeps what it is sent.

use std::{
    collections::BTreeMap,
    net::{Ipv4Addr, TcpListener},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU8, Ordering},
    },
    thread::JoinHandle,
    time::Duration,
};

use hilt_link::{LearnerConfig, LearnerLink};
use hilt_protocol::{
    Entry, Graph, GraphName, ModelSnapshot, NamedTensor, Probe, Progress, Record, RigSpec, Step,
    content_hash,
};

use super::onnx;

/// A free port on a loopback address of its own, so that no other test is given it too. Known
/// before anybody listens, so that either end can start first.
pub fn endpoint() -> String {
    static NEXT: AtomicU8 = AtomicU8::new(1);
    let [.., high, low] = std::process::id().to_be_bytes();
    let own = Ipv4Addr::new(127, high, low, NEXT.fetch_add(1, Ordering::Relaxed));
    let listener = TcpListener::bind((own, 0)).unwrap();
    format!("tcp/{}", listener.local_addr().unwrap())
}

/// What the actor sees as a learner.
pub struct FakeLearner {
    link: Arc<LearnerLink>,
    spec: RigSpec,
    entries: Arc<Mutex<Vec<Entry>>>,
    closing: Arc<AtomicBool>,
    pump: Option<JoinHandle<()>>,
}

impl FakeLearner {
    /// Listens, serves graphs for `spec`, and goes on after what an earlier learner received.
    pub fn open(endpoint: &str, spec: &RigSpec, received: Vec<Entry>) -> Self {
        let mut resume = BTreeMap::new();
        for entry in &received {
            resume.insert(entry.run, entry.sequence + 1);
        }
        let link = LearnerLink::open(LearnerConfig {
            session: "test".to_owned(),
            listen: vec![endpoint.to_owned()],
            queue_bytes: LearnerConfig::QUEUE_BYTES,
            resume,
        });
        let link = Arc::new(link.unwrap());
        for graph in [
            onnx::encoder(spec),
            onnx::policy(spec, None),
            onnx::classifier(spec),
        ] {
            link.serve_graph(&graph);
        }
        let entries = Arc::new(Mutex::new(received));
        let closing = Arc::new(AtomicBool::new(false));
        let (from, to, end) = (link.clone(), entries.clone(), closing.clone());
        let pump = std::thread::spawn(move || {
            while !end.load(Ordering::Relaxed) {
                if let Some(entry) = from.recv(Duration::from_millis(10)) {
                    let (run, sequence) = (entry.run, entry.sequence);
                    to.lock().unwrap().push(entry);
                    from.ack(run, sequence);
                }
            }
        });
        Self {
            link,
            spec: spec.clone(),
            entries,
            closing,
            pump: Some(pump),
        }
    }

    pub fn progress(&self, updates: u64, allowed_steps: u64, finished: bool) {
        self.link.publish_progress(Progress {
            learner_run: 1,
            updates,
            entries: 0,
            allowed_steps,
            finished,
        });
    }

    /// A policy that always acts as `action` says.
    pub fn publish_policy(&self, version: u64, action: &[f32]) {
        let graph = onnx::policy(&self.spec, None);
        self.link
            .publish_snapshot(&snapshot(&graph, version, vec![1, action.len()], action));
    }

    /// A classifier that always gives this probability.
    pub fn publish_classifier(&self, version: u64, probability: f32) {
        let graph = onnx::classifier(&self.spec);
        self.link
            .publish_snapshot(&snapshot(&graph, version, vec![1], &[probability]));
    }

    /// A snapshot as it is.
    pub fn publish(&self, snapshot: &ModelSnapshot) {
        self.link.publish_snapshot(snapshot);
    }

    /// Everything received so far.
    pub fn entries(&self) -> Vec<Entry> {
        self.entries.lock().unwrap().clone()
    }

    /// The steps among it.
    pub fn steps(&self) -> Vec<Step> {
        let step = |entry: Entry| match entry.record {
            Record::Step(step) => Some(step),
            Record::Reset(_) => None,
        };
        self.entries().into_iter().filter_map(step).collect()
    }
}

impl Drop for FakeLearner {
    fn drop(&mut self) {
        self.closing.store(true, Ordering::Relaxed);
        if let Some(pump) = self.pump.take() {
            let _ = pump.join();
        }
    }
}

/// A snapshot of a graph whose output is its weight.
pub fn snapshot(graph: &Graph, version: u64, shape: Vec<usize>, weight: &[f32]) -> ModelSnapshot {
    let tensor = |name: &str| NamedTensor {
        name: name.to_owned(),
        shape: shape.clone(),
        data: weight.to_vec(),
    };
    let output = match graph.name {
        GraphName::Policy => "action",
        _ => "probability",
    };
    ModelSnapshot {
        graph: graph.name,
        graph_hash: content_hash(&graph.onnx),
        spec: graph.spec,
        version,
        updates: 10 * version,
        weights: vec![tensor("w")],
        probe: Probe {
            inputs: vec![],
            output: tensor(output),
            tolerance: 1e-6,
        },
    }
}
