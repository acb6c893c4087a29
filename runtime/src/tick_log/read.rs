//! Reading a log of ticks and decisions, whole or cut.

use std::{
    io,
    path::{Path, PathBuf},
};

use hilt_protocol::wire::WireError;
use hilt_recording::{ChannelReader, Message, ReadError, WriteError};

use super::{
    About, BEGAN, Began, DECISIONS, TICKS, TICKS_FILE, TOPICS, decode_decision, decode_tick,
};
use crate::{control::TickRecord, decision::Decision};

/// Why there is no log, or none that can be read.
#[derive(Debug, thiserror::Error)]
pub enum TickLogError {
    /// It cannot be started.
    #[error(transparent)]
    Write(#[from] WriteError),
    /// Its thread cannot be started.
    #[error("the tick log's thread cannot be started: {0}")]
    Thread(io::Error),
    /// The file cannot be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// It does not say how the run began.
    #[error("{0}: does not say how the run began; is it the {TICKS_FILE} of a run of hilt?")]
    NoBeginning(PathBuf),
    /// A message is none.
    #[error("{path}: message {index} cannot be read: {reason}; was it written by another hilt?")]
    Message {
        /// The file.
        path: PathBuf,
        /// Messages before it.
        index: u64,
        /// Why.
        reason: WireError,
    },
}

/// A message of the log.
#[derive(Clone, Debug, PartialEq)]
pub enum Logged {
    /// A tick.
    Tick(Box<TickRecord>),
    /// A decision.
    Decision(Box<Decision>),
}

/// A run's ticks and decisions, in the order in which they were logged.
pub struct TickLogReader {
    messages: ChannelReader,
    about: About,
    index: u64,
    failed: bool,
}

impl TickLogReader {
    /// Opens the log of the run in `dir`.
    pub fn open(dir: &Path) -> Result<Self, TickLogError> {
        let path = dir.join(TICKS_FILE);
        let mut messages = ChannelReader::open(&path, &TOPICS)?;
        let first = messages.next().transpose()?;
        let missing = || TickLogError::NoBeginning(path.clone());
        let first = first.filter(|message| message.channel == BEGAN);
        let began = Began::decode(&first.ok_or_else(missing)?.bytes);
        let about = About {
            rig: messages
                .metadata()
                .get("rig")
                .cloned()
                .ok_or_else(missing)?,
            began: began.map_err(|reason| TickLogError::Message {
                path: path.clone(),
                index: 0,
                reason,
            })?,
        };
        Ok(Self {
            messages,
            about,
            index: 0,
            failed: false,
        })
    }

    /// What it tells of its run.
    pub fn about(&self) -> &About {
        &self.about
    }

    /// Where the file is cut, and why reading stopped there; `None` for a file that ends as it
    /// should (or has not been read to its end).
    pub fn cut(&self) -> Option<&str> {
        self.messages.cut()
    }

    fn decode(&mut self, message: &Message) -> Result<Option<Logged>, TickLogError> {
        self.index += 1;
        let logged = match message.channel {
            TICKS => decode_tick(&message.bytes).map(|tick| Some(Logged::Tick(Box::new(tick)))),
            DECISIONS => decode_decision(&message.bytes)
                .map(|decision| Some(Logged::Decision(Box::new(decision)))),
            _ => Ok(None),
        };
        logged.map_err(|reason| TickLogError::Message {
            path: self.messages.path().to_owned(),
            index: self.index,
            reason,
        })
    }
}

impl Iterator for TickLogReader {
    type Item = Result<Logged, TickLogError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.failed {
            return None;
        }
        loop {
            let message = self.messages.next()?.map_err(TickLogError::from);
            let logged = message
                .and_then(|message| self.decode(&message))
                .transpose();
            if let Some(logged) = logged {
                self.failed = logged.is_err();
                return Some(logged);
            }
        }
    }
}
