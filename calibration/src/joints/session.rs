//! The guide with servos and somebody who sees it and presses keys.

use std::io;

use hilt_drivers::{
    ArmError,
    bus::{KeepError, Maintenance, Wire},
};
use hilt_protocol::calibration::ArmCalibration;

use super::{Do, Event, Guide, Subject, View, WriteError, guide::NotSetUp, write::write};

/// What a person says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Key {
    /// Done.
    Next,
    /// Once more.
    Again,
    /// Enough.
    Quit,
}

/// What a person sees, and the keys that they press.
pub trait Screen {
    /// Shows it. Called for each round of positions, a hundred times a second.
    fn show(&mut self, view: &View) -> io::Result<()>;

    /// The next key that was pressed, if one was; does not wait.
    fn key(&mut self) -> io::Result<Option<Key>>;
}

/// Why there is no calibration.
#[derive(Debug, thiserror::Error)]
pub enum SessionError {
    /// A servo cannot be asked.
    #[error("servo {id} ({name}): {error}")]
    Servo {
        /// What it turns.
        name: String,
        /// Its id.
        id: u8,
        /// Why.
        error: KeepError,
    },
    /// A servo does not become limp, and some are.
    #[error(
        "servo {id} ({name}) does not let go: {error}. Hold the arm: {} limp already", match .limp.is_empty() {
            true => "no other servo is".to_owned(),
            false => format!("{} are", .limp.join(", ")),
        }
    )]
    LetGo {
        /// What it turns.
        name: String,
        /// Its id.
        id: u8,
        /// Why.
        error: KeepError,
        /// What is limp already.
        limp: Vec<String>,
    },
    /// A servo is not set up for an arm.
    #[error(transparent)]
    NotSetUp(#[from] NotSetUp),
    /// The person has enough.
    #[error("{}", match .is_limp {
        true => "ended: nothing was written, and the servos are limp",
        false => "ended: nothing was written, and the servos are as they were",
    })]
    Ended {
        /// Whether the servos were let go.
        is_limp: bool,
    },
    /// The servos do not keep it.
    #[error(transparent)]
    Write(#[from] WriteError),
    /// The terminal.
    #[error("the terminal: {0}")]
    Screen(#[from] io::Error),
}

/// Leads a person through the calibration of arm number `index`, at `date` (RFC 3339, UTC), and gives
/// what belongs into the file when the servos keep it. The servos become limp when the person has said
/// that they hold the arm, and stay so whatever comes then; nothing is moved, and nothing written before
/// the person has seen what was measured. Where writing fails they may have it tried again.
///
/// When this gives a calibration the servos keep it already, and the file's old one does not hold any more:
/// ask [`can_be_written`](crate::file::can_be_written) before this is called, and where the file cannot be
/// written after all, show its text, so that what was measured is not lost.
pub fn calibrate<W: Wire>(
    servos: &mut Maintenance<W>,
    subject: Subject,
    index: usize,
    date: &str,
    screen: &mut dyn Screen,
) -> Result<ArmCalibration, SessionError> {
    let ids = subject.ids().to_vec();
    let names: Vec<_> = (0..ids.len())
        .map(|place| subject.name(place).to_owned())
        .collect();
    let failed = |place: usize, error: KeepError| SessionError::Servo {
        name: names.get(place).cloned().unwrap_or_default(),
        id: ids.get(place).copied().unwrap_or_default(),
        error,
    };
    let mut kept = Vec::new();
    for (place, id) in ids.iter().enumerate() {
        let found = servos.kept(*id);
        kept.push(found.map_err(|error| failed(place, error.into()))?);
    }
    let mut guide = Guide::new(subject, kept)?;
    let mut not_written: Option<WriteError> = None;
    let mut reported = Vec::with_capacity(ids.len());
    loop {
        reported.clear();
        for (place, id) in ids.iter().enumerate() {
            let position = servos.position(*id);
            if let Err(error @ (ArmError::Unplugged | ArmError::Device)) = position {
                return Err(failed(place, error.into()));
            }
            reported.push(position);
        }
        guide.on(Event::Positions {
            now_ns: servos.now_ns(),
            reported: &reported,
        });
        screen.show(&guide.view())?;
        let to_do = match screen.key()? {
            None => continue,
            Some(Key::Quit) => {
                let is_limp = guide.is_limp();
                let ended = SessionError::Ended { is_limp };
                return Err(not_written.map_or(ended, SessionError::Write));
            }
            Some(Key::Again) => guide.on(Event::Again),
            Some(Key::Next) => guide.on(Event::Next),
        };
        match to_do {
            Do::Nothing => {}
            Do::LetGo => {
                for (place, id) in ids.iter().enumerate() {
                    servos.let_go(*id).map_err(|error| SessionError::LetGo {
                        name: names.get(place).cloned().unwrap_or_default(),
                        id: *id,
                        error,
                        limp: names.iter().take(place).cloned().collect(),
                    })?;
                }
                guide.on(Event::LetGo);
            }
            Do::Write(plan) => {
                screen.show(&guide.view())?;
                let error = match write(servos, &plan, index, date) {
                    Ok(calibration) => return Ok(calibration),
                    Err(error) => error,
                };
                // A bad line need not cost all that was measured.
                let kept: Result<Vec<_>, _> = ids.iter().map(|id| servos.kept(*id)).collect();
                let Ok(kept) = kept else {
                    return Err(error.into());
                };
                let why = format!("{error}; or go on to write once more");
                guide.not_written(kept, why);
                // What was written stays written, whatever the last word is.
                let written = |error: &WriteError| error.written.is_some();
                if !not_written.as_ref().is_some_and(written) || written(&error) {
                    not_written = Some(error);
                }
            }
        }
    }
}
