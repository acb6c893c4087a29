//! What a robot sees and does, on the screen of a Rerun viewer or in a file for it (`.rrd`).
//!
//! - [`scenes`]: what of an entry, a tick or a row is shown, where and when. Pure.
//! - [`live`]: a run that goes on, past a bounded queue that drops: nothing waits for a viewer.
//! - [`recorded`]: data that lies on a disk, whole.
//! - `stream`: Rerun's own crates; only with the cargo feature `rerun`, because they are many.
//!
//! Rerun's crates are those of its logging alone (`re_sdk`): the crate `rerun` above them hands the same on, and
//! brings a database, a sign-in and usage statistics along.

pub mod live;
pub mod recorded;
pub mod scenes;
#[cfg(feature = "rerun")]
mod stream;
#[cfg(test)]
mod tests;

use std::{
    io,
    path::{Path, PathBuf},
    str::FromStr,
};

use scenes::Shown;

/// Where a viewer listens if nobody says otherwise.
pub const VIEWER: &str = "127.0.0.1:9876";

/// Where to show it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// A file, which must not be there yet; it gets its name when it is whole.
    File(PathBuf),
    /// A viewer at `HOST:PORT`; `None`: at [`VIEWER`], started if `rerun` is among the programs and nothing
    /// listens there.
    Viewer(Option<String>),
}

impl FromStr for Target {
    type Err = RerunError;

    /// Nothing, `HOST:PORT`, or a name that ends in `.rrd`.
    fn from_str(text: &str) -> Result<Self, RerunError> {
        if Path::new(text).extension().is_some_and(|end| end == "rrd") {
            return Ok(Self::File(text.into()));
        }
        if text.is_empty() {
            return Ok(Self::Viewer(None));
        }
        let port = text.rsplit_once(':').map(|(_, port)| port.parse::<u16>());
        match port {
            Some(Ok(_)) => Ok(Self::Viewer(Some(text.to_owned()))),
            _ => Err(RerunError::Target(text.to_owned())),
        }
    }
}

/// Why something is not shown.
#[derive(Debug, thiserror::Error)]
pub enum RerunError {
    /// The program has nothing of Rerun in it.
    #[error(
        "this hilt was built without Rerun; build it with `cargo build --release -p hilt-runtime --features rerun`"
    )]
    NotBuilt,
    /// It is nowhere.
    #[error("`{0}` is neither a file (NAME.rrd) nor a viewer's address (HOST:PORT)")]
    Target(String),
    /// There is a file of this name.
    #[error("{0} exists already; nothing is ever written over, choose another name")]
    Exists(PathBuf),
    /// The file cannot be written.
    #[error("{path}: {source}; is there room and the right to write?")]
    File {
        /// Which.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// Rerun's own writer refused.
    #[error("{path}: {reason}")]
    Encode {
        /// The file.
        path: PathBuf,
        /// What it says.
        reason: String,
    },
    /// Nobody is there.
    #[error(
        "no Rerun viewer listens at {address} ({reason}); start one there (`rerun`), or name a file, NAME.rrd"
    )]
    NoViewer {
        /// Where it was looked for.
        address: String,
        /// Why it is not there.
        reason: String,
    },
    /// The viewer went away, or does not take what it is sent.
    #[error("the Rerun viewer at {address} did not take everything: {reason}")]
    Lost {
        /// Where.
        address: String,
        /// Rerun's words.
        reason: String,
    },
    /// An image's bytes are not those of its size.
    #[error("/{path}: {bytes} bytes are no image of {width}x{height} pixels")]
    Image {
        /// The entity.
        path: String,
        /// What there is.
        bytes: usize,
        /// Columns that it says.
        width: u32,
        /// Rows that it says.
        height: u32,
    },
    /// Rerun refused; a mistake in hilt.
    #[error("/{path} cannot be shown: {reason}")]
    Refused {
        /// The entity, or the recording.
        path: String,
        /// Rerun's words.
        reason: String,
    },
    /// The thread that shows cannot be started.
    #[error("the thread for Rerun cannot be started: {0}")]
    Thread(io::Error),
}

/// What shows: a viewer, a file, or what a test puts in its place.
pub trait Screen {
    /// Everything from here on belongs to this recording: a run, by its name.
    fn begin(&mut self, recording: &str) -> Result<(), RerunError>;

    /// Shows it in the recording that has begun.
    fn show(&mut self, shown: &Shown) -> Result<(), RerunError>;

    /// Everything is shown, a file whole under its name; or an error says what is not. Without it a file is not
    /// there.
    fn end(self: Box<Self>) -> Result<(), RerunError>;
}

/// Opens what is to show. It may take the seconds in which a viewer starts.
#[cfg(feature = "rerun")]
pub fn open(target: &Target) -> Result<Box<dyn Screen + Send>, RerunError> {
    Ok(Box::new(stream::Stream::open(target)?))
}

/// Opens nothing: this program was built without.
#[cfg(not(feature = "rerun"))]
pub fn open(_: &Target) -> Result<Box<dyn Screen + Send>, RerunError> {
    Err(RerunError::NotBuilt)
}

#[cfg(test)]
mod targets {
    use super::*;

    #[test]
    fn a_target_is_a_file_an_address_or_the_usual_viewer() {
        let target = |text: &str| text.parse::<Target>();
        let file = PathBuf::from("runs/a.b/x.rrd");
        assert_eq!(target("runs/a.b/x.rrd").unwrap(), Target::File(file));
        assert_eq!(target("").unwrap(), Target::Viewer(None));
        for address in ["desk:9876", "[::1]:1"] {
            let viewer = Target::Viewer(Some(address.to_owned()));
            assert_eq!(target(address).unwrap(), viewer);
        }
        for wrong in ["desk", "desk:", "desk:99999", "x.mcap"] {
            let error = target(wrong).unwrap_err().to_string();
            assert!(error.contains(wrong) && error.contains(".rrd"), "{error}");
        }
    }

    #[cfg(not(feature = "rerun"))]
    #[test]
    fn a_program_without_rerun_says_how_to_build_one_with_it() {
        let error = open(&Target::Viewer(None)).err().unwrap().to_string();
        assert!(
            error.contains("-p hilt-runtime --features rerun"),
            "{error}"
        );
    }
}
