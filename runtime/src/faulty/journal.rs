//! A log whose disk is full when a plan says so.

use std::{io, path::PathBuf};

use hilt_drivers::faults::FaultKind;
use hilt_protocol::Record;
use hilt_realtime::Clock;
use hilt_recording::WriteError;
use hilt_sim::Truth;

use super::Faults;
use crate::{
    run_log::{Journal, JournalError},
    tick::Stage,
};

/// A journal with the faults of a plan: [`FaultKind::DiskFull`]. Like the log itself it ends with
/// its first error, also when there is room again.
pub struct FaultyJournal<'a, C> {
    inner: &'a mut dyn Journal,
    faults: Faults<C>,
    ended: bool,
}

impl<'a, C> FaultyJournal<'a, C> {
    /// `inner` with these faults.
    pub fn new(inner: &'a mut dyn Journal, faults: Faults<C>) -> Self {
        Self {
            inner,
            faults,
            ended: false,
        }
    }
}

impl<C: Clock + Clone> Journal for FaultyJournal<'_, C> {
    fn append(&mut self, record: Record, truth: Option<Truth>) -> Result<(), JournalError> {
        if self.ended {
            return Err(JournalError::Ended);
        }
        if self.faults.active(FaultKind::DiskFull, 0).is_some() {
            self.ended = true;
            return Err(JournalError::Write(WriteError::Io {
                path: PathBuf::from("the run's log (injected)"),
                source: io::ErrorKind::StorageFull.into(),
            }));
        }
        self.inner.append(record, truth)
    }

    fn took(&mut self, stage: Stage, duration_ns: u64) {
        self.inner.took(stage, duration_ns);
    }
}
