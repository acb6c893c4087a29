//! Ctrl-C before there is anything to keep.

use std::sync::atomic::{AtomicBool, Ordering};

/// Told to end before there was anything to keep.
#[derive(Debug, thiserror::Error)]
#[error("stopped before {0}: nothing is kept of it; the same command starts it again")]
pub struct Stopped(pub &'static str);

impl Stopped {
    /// An error once `stop` is set.
    pub fn check(stop: &AtomicBool, before: &'static str) -> Result<(), Self> {
        match stop.load(Ordering::Relaxed) {
            true => Err(Self(before)),
            false => Ok(()),
        }
    }
}
