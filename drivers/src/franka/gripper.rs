//! The gripper's commands, on a thread of their own: a gripper takes its time, and the arm must not
//! wait for it.

use std::{
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread::JoinHandle,
    time::Duration,
};

use hilt_protocol::GripperCommand;

use super::server::Server;

/// After a failure it is tried again so much later.
const AGAIN: Duration = Duration::from_millis(200);

#[derive(Debug, Default)]
struct Wish {
    /// What was asked for last.
    wanted: Option<GripperCommand>,
    /// What the server was told last, and took.
    done: Option<GripperCommand>,
    failed: bool,
    ending: bool,
}

/// What the thread and its owner share.
#[derive(Debug, Default)]
struct Shared {
    wish: Mutex<Wish>,
    changed: Condvar,
}

impl Shared {
    fn wish(&self) -> MutexGuard<'_, Wish> {
        // A wish is whole at any time.
        self.wish.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The thread that tells the gripper.
#[derive(Debug)]
pub struct Gripper {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

impl Gripper {
    /// Starts it; nothing is told yet.
    pub fn start(server: Server) -> std::io::Result<Self> {
        let shared = Arc::new(Shared::default());
        let theirs = Arc::clone(&shared);
        let thread = std::thread::Builder::new()
            .name("franka-gripper".to_owned())
            .spawn(move || work(&theirs, &server))?;
        Ok(Self {
            shared,
            thread: Some(thread),
        })
    }

    /// This is wanted from now on. The server is told when it changes.
    pub fn want(&self, command: GripperCommand) {
        let mut wish = self.shared.wish();
        if wish.wanted != Some(command) {
            wish.wanted = Some(command);
            self.shared.changed.notify_all();
        }
    }

    /// What the server was not told yet need not be told any more.
    pub fn forget(&self) {
        let mut wish = self.shared.wish();
        (wish.wanted, wish.failed) = (None, false);
    }

    /// Whether the server did not take the last command; it is tried again.
    pub fn failed(&self) -> bool {
        self.shared.wish().failed
    }
}

impl Drop for Gripper {
    fn drop(&mut self) {
        self.shared.wish().ending = true;
        self.shared.changed.notify_all();
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the thread of a Franka's gripper ended by a panic");
        }
    }
}

fn work(shared: &Shared, server: &Server) {
    let mut wish = shared.wish();
    while !wish.ending {
        let Some(wanted) = wish.wanted.filter(|wanted| wish.done != Some(*wanted)) else {
            let waited = shared.changed.wait(wish);
            wish = waited.unwrap_or_else(PoisonError::into_inner);
            continue;
        };
        drop(wish);
        let told = server.grip(wanted == GripperCommand::Closed);
        wish = shared.wish();
        match told {
            Ok(()) => (wish.done, wish.failed) = (Some(wanted), false),
            Err(error) => {
                // It may have been heard all the same.
                wish.done = None;
                if !std::mem::replace(&mut wish.failed, true) {
                    tracing::warn!("the gripper was not told ({error}); it is tried again");
                }
                if !wish.ending {
                    let waited = shared.changed.wait_timeout(wish, AGAIN);
                    wish = waited.unwrap_or_else(PoisonError::into_inner).0;
                }
            }
        }
    }
}
