//! Ctrl-C before there is anything to keep.

use std::sync::atomic::{AtomicBool, Ordering};

/// Told to end before there was anything to keep.
#[derive(Debug, thiserror::Error)]
pub enum Stopped {
    /// Of something new, before this.
    #[error("stopped before {0}: nothing is kept of it; the same command starts it again")]
    Before(&'static str),
    /// Of a training that was gone on with.
    #[error(
        "stopped before its first new update: the training is as it was; the same command goes on with it"
    )]
    Resumed,
}

impl Stopped {
    /// An error once `stop` is set.
    pub fn check(stop: &AtomicBool, before: &'static str) -> Result<(), Self> {
        match stop.load(Ordering::Relaxed) {
            true => Err(Self::Before(before)),
            false => Ok(()),
        }
    }
}
