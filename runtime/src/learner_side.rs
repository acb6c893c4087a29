//! The learner as the actor sees it: graphs once, snapshots as they come, and the pace.
//!
//! Snapshots go from the link to the loader threads; the loop here only takes what they have verified.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use anyhow::bail;
use hilt_link::{ActorLink, LinkError};
use hilt_protocol::{Graph, GraphName, Progress, RigSpec};
use hilt_realtime::Clock;

use crate::{
    brain::Brain,
    control::{Fault, FaultKind},
    faulty::{Faults, FaultyLearner},
    inference::{Engine, Kept, OnnxBrain, PolicyFiles, SnapshotSource},
    session::Flow,
};

/// How long to wait before looking again.
const LOOK: Duration = Duration::from_millis(50);

/// What is known of the learner.
pub trait Learner {
    /// Whether it answers.
    fn is_alive(&self) -> bool;

    /// Its last word on its progress.
    fn progress(&self) -> Option<Progress>;

    /// Waits up to `timeout` for progress that `wanted` says yes to.
    fn wait_progress(&self, timeout: Duration, wanted: &dyn Fn(&Progress) -> bool);
}

impl Learner for Arc<ActorLink> {
    fn is_alive(&self) -> bool {
        self.learner().alive
    }

    fn progress(&self) -> Option<Progress> {
        ActorLink::progress(self)
    }

    fn wait_progress(&self, timeout: Duration, wanted: &dyn Fn(&Progress) -> bool) {
        ActorLink::wait_progress(self, timeout, wanted);
    }
}

/// How far the actor may go.
pub struct LearnerSide {
    learner: Box<dyn Learner>,
    /// In lockstep the learner sets the pace.
    lockstep: bool,
    /// Steps that the learner had before this run.
    prior_steps: Option<u64>,
    waiting_for: Option<&'static str>,
}

fn fetch(
    link: &ActorLink,
    name: GraphName,
    spec: &RigSpec,
    stop: &AtomicBool,
    say: &mut dyn FnMut(&str),
) -> anyhow::Result<Graph> {
    let mut said = false;
    loop {
        match link.fetch_graph(name, Duration::from_secs(1)) {
            Ok(graph) if graph.spec == spec.hash() => return Ok(graph),
            Ok(graph) => bail!(
                "the learner's {} graph was made for spec {}, this rig is {}; start both with the \
                 same rig",
                name.name(),
                graph.spec,
                spec.hash()
            ),
            Err(LinkError::NoAnswer { .. }) if !stop.load(Ordering::Relaxed) => {
                if !said {
                    say(&format!("waiting for the learner's {} graph", name.name()));
                    said = true;
                }
            }
            Err(LinkError::NoAnswer { .. }) => bail!("stopped while waiting for the learner"),
            Err(other) => return Err(other.into()),
        }
    }
}

/// The newest snapshot of a graph, as the link has it.
pub fn snapshots(link: Arc<ActorLink>, graph: GraphName) -> SnapshotSource {
    Box::new(move |timeout| link.next_snapshot(graph, timeout))
}

impl LearnerSide {
    /// For a learner whose graphs are there already.
    pub fn new(learner: Box<dyn Learner>, lockstep: bool) -> Self {
        Self {
            learner,
            lockstep,
            prior_steps: None,
            waiting_for: None,
        }
    }

    /// The same with a learner that a plan's faults strike.
    pub fn with_faults<C: Clock + Clone + 'static>(self, faults: Faults<C>) -> Self {
        Self {
            learner: Box::new(FaultyLearner::new(self.learner, faults)),
            ..self
        }
    }

    /// Fetches the graphs, loads them, and waits for the first weights of the classifier — and of
    /// the policy, unless the run begins with random actions. Graphs and weights are kept in `kept`.
    #[expect(
        clippy::too_many_arguments,
        reason = "all that a run begins with, by name"
    )]
    pub fn meet(
        link: Arc<ActorLink>,
        engine: &Engine,
        spec: &RigSpec,
        lockstep: bool,
        random_first: bool,
        kept: &Kept,
        stop: &AtomicBool,
        say: &mut dyn FnMut(&str),
    ) -> anyhow::Result<(OnnxBrain, Self)> {
        let mut get = |name| fetch(&link, name, spec, stop, say);
        let files = PolicyFiles {
            encoder: get(GraphName::Encoder)?,
            policy: get(GraphName::Policy)?,
            classifier: Some(get(GraphName::Classifier)?),
        };
        let graphs = [&files.encoder, &files.policy];
        for graph in graphs.into_iter().chain(&files.classifier) {
            if let Err(error) = kept.keep_graph(graph) {
                tracing::warn!("{error}; `hilt verify` cannot run this policy again");
            }
        }
        let source = |graph| Some(snapshots(Arc::clone(&link), graph));
        let mut brain = OnnxBrain::load_keeping(engine, spec, &files, source, Some(kept))?;
        let side = Self::new(Box::new(link), lockstep);
        let mut said = false;
        loop {
            Brain::refresh(&mut brain);
            if brain.can_judge() && (random_first || brain.can_act()) {
                return Ok((brain, side));
            }
            if stop.load(Ordering::Relaxed) {
                bail!("stopped while waiting for the first snapshot");
            }
            if !said {
                say("waiting for the learner's first snapshot");
                said = true;
            }
            std::thread::sleep(LOOK);
        }
    }

    /// The learner's last word.
    pub fn progress(&self) -> Option<Progress> {
        self.learner.progress()
    }

    /// Whether it answers.
    pub fn is_alive(&self) -> bool {
        self.learner.is_alive()
    }

    /// Before a step, `steps` of which were taken in this run: takes new weights, and in lockstep
    /// waits until the learner allows the step. `may_act`: the step needs no policy.
    pub fn before_step(
        &mut self,
        brain: &mut dyn Brain,
        steps: u64,
        may_act: bool,
        stop: &AtomicBool,
        say: &mut dyn FnMut(&str),
    ) -> Flow {
        loop {
            brain.refresh();
            let progress = self.learner.progress();
            if stop.load(Ordering::Relaxed) || progress.is_some_and(|p| p.finished) {
                return Flow::End;
            }
            let alive = self.learner.is_alive();
            let ready = may_act || brain.version() > 0;
            let allowed = !self.lockstep || progress.is_some_and(|p| self.allows(&p, steps));
            if ready && allowed {
                self.waiting_for = None;
                return match alive {
                    true => Flow::Go,
                    false => Flow::Despite(Fault::at(FaultKind::LearnerGone, 0)),
                };
            }
            let reason = match (alive, ready) {
                (false, _) => Some("the learner is gone; waiting for it to come back"),
                (true, false) => Some("waiting for the learner's first snapshot"),
                // The learner's pace: the usual case, nothing to say.
                (true, true) => None,
            };
            if reason.is_some() && reason != self.waiting_for {
                reason.into_iter().for_each(&mut *say);
            }
            self.waiting_for = reason;
            if ready && alive {
                let base = self.prior_steps.unwrap_or(0);
                let wanted = |p: &Progress| p.finished || base + steps < p.allowed_steps;
                self.learner.wait_progress(LOOK, &wanted);
            } else {
                std::thread::sleep(LOOK);
            }
        }
    }

    fn allows(&mut self, progress: &Progress, steps: u64) -> bool {
        // A learner that goes on from a checkpoint counts what an actor before this one did.
        let prior = *self
            .prior_steps
            .get_or_insert(progress.entries.saturating_sub(steps));
        prior + steps < progress.allowed_steps
    }
}
