//! Zenoh key expressions. `session` is the name that actor and learner share (default `default`).

use crate::GraphName;

/// Entries, actor → learner.
pub fn entries(session: &str) -> String {
    format!("hilt/{session}/entries")
}

/// Acknowledgements of durably written entries, learner → actor.
pub fn acks(session: &str) -> String {
    format!("hilt/{session}/acks")
}

/// Snapshots of a graph's weights, learner → actor (also a queryable: the newest one).
pub fn snapshots(session: &str, graph: GraphName) -> String {
    format!("hilt/{session}/snapshots/{}", graph.name())
}

/// A fixed graph, a queryable of the learner.
pub fn graph(session: &str, graph: GraphName) -> String {
    format!("hilt/{session}/graphs/{}", graph.name())
}

/// The learner's progress, learner → actor.
pub fn progress(session: &str) -> String {
    format!("hilt/{session}/progress")
}

/// Liveliness token of the learner.
pub fn learner_alive(session: &str) -> String {
    format!("hilt/{session}/alive/learner")
}
