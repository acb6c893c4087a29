//! An actor in the test's own process.

use std::{
    path::Path,
    sync::{Arc, Mutex, atomic::AtomicBool},
};

use hilt_runtime::{
    actor::{self, ActorOptions, ActorSummary, Standing, Watch},
    operator::Operator,
    rig::Rig,
};

use super::engine;

/// What the actor says, and how it stands.
#[derive(Clone, Default)]
pub struct Seen {
    pub said: Arc<Mutex<Vec<String>>>,
    standing: Arc<Mutex<Standing>>,
}

impl Watch for Seen {
    fn say(&mut self, words: &str) {
        self.said.lock().unwrap().push(words.to_owned());
    }

    fn stand(&mut self, standing: &Standing) {
        *self.standing.lock().unwrap() = standing.clone();
    }
}

impl Seen {
    /// It has said something with these words.
    pub fn heard(&self, words: &str) -> bool {
        self.said.lock().unwrap().iter().any(|s| s.contains(words))
    }

    /// How it stood last.
    pub fn standing(&self) -> Standing {
        self.standing.lock().unwrap().clone()
    }
}

pub type Result = anyhow::Result<ActorSummary>;

/// The actor on a thread of its own, and what is seen of it.
pub struct Acting {
    pub seen: Seen,
    pub stop: Arc<AtomicBool>,
    thread: std::thread::JoinHandle<Result>,
}

impl Acting {
    /// Starts it.
    pub fn start(rig: &Rig, endpoint: &str, out: &Path) -> Self {
        Self::start_with(rig, endpoint, out, None)
    }

    /// Starts it with somebody who takes over.
    pub fn start_with(rig: &Rig, endpoint: &str, out: &Path, operator: Option<Operator>) -> Self {
        let (rig, seen, stop) = (rig.clone(), Seen::default(), Arc::default());
        let options = ActorOptions {
            connect: vec![endpoint.to_owned()],
            session: "test".to_owned(),
            seed: 3,
            out: out.to_owned(),
            operator,
            rerun: None,
        };
        let (mut watch, stopped) = (seen.clone(), Arc::clone(&stop));
        let thread =
            std::thread::spawn(move || actor::run(&rig, engine(), &options, &stopped, &mut watch));
        Self { seen, stop, thread }
    }

    /// Whether it has ended by itself.
    pub fn is_finished(&self) -> bool {
        self.thread.is_finished()
    }

    /// Waits for its end.
    pub fn end(self) -> Result {
        self.thread.join().unwrap()
    }
}
