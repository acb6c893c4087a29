//! The run log: every entry of a run in one MCAP file, the truth that streaming and training read.
//!
//! - [`RunWriter`] appends entries. What it has flushed survives the death of the process at any
//!   moment; what it has synced survives the loss of power.
//! - [`RunReader`] gives entries back in order, also from a file that was cut anywhere or is still
//!   being written: it stops where the last whole chunk ends and says how many bytes it left.
//! - [`recover`] makes a cut file a regular one, written beside and renamed.
//! - [`find_runs`] lists the runs under a folder.
//!
//! Below it is what any log of messages needs: [`ChannelWriter`] and [`ChannelReader`]. A file says
//! itself what its messages are made of ([`descriptor`]), so that other MCAP tools can read them.
//!
//! [`Recording`] is what a robot saw and did, by whatever program it was written; [`Data`] that or a table.
//! [`guess`]: the spec of a rig, where a program kept none.
//!
//! [`lerobot`]: datasets of LeRobot's. [`film`]: pictures become videos.
//!
//! [`hil_serl`]: its demonstrations and frames for the reward classifier, read and written. [`pickle`] is beneath it: it
//! [`lerobot`]: datasets of LeRobot's.
//! [`mod@convert`]: from one form of data into another. [`foxglove`] writes a recording for viewers of MCAP.
//! [`pickle`] reads files of HIL-SERL's and other Python programs, and runs nothing of them. [`table`]: transitions
//! reads files of Python programs, and runs nothing of them. [`table`]: transitions
//! on state vectors as offline reinforcement learning keeps them, in other programs' formats.
//!
//! A run is a folder with `run.mcap` and `spec.json`, the [`hilt_protocol::RigSpec`] that its
//! entries have to be read with.
#![deny(missing_docs)]

mod channels;
pub mod convert;
mod data;
pub mod descriptor;
pub mod film;
pub mod foxglove;
pub mod guess;
pub mod hil_serl;
pub mod lerobot;
pub mod pickle;
mod reader;
mod recording;
mod schema;
pub mod table;
mod writer;

use std::path::{Path, PathBuf};

pub use channels::{Channel, ChannelReader, ChannelWriter, Message};
pub use data::{Data, DataError};
pub use reader::{ReadError, RecoveryReport, RunReader, find_runs, read_spec, recover};
pub use recording::{Recording, RecordingError};
pub use writer::{RunWriter, WriteError};

/// The file of a run's entries, in the run's folder.
pub const LOG_FILE: &str = "run.mcap";
/// The file of a run's spec, in the run's folder.
pub const SPEC_FILE: &str = "spec.json";
/// Topic of the entries, each in the wire form of `hilt_protocol::wire`.
pub const TOPIC: &str = "/hilt/entries";

/// Where a file is written until it is whole: under its whole name and `.partial`, which is nobody else's.
pub fn beside(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".partial");
    PathBuf::from(name)
}
