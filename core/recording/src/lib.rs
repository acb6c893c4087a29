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
//! Other programs' data, read as if it were ours, and written as theirs:
//!
//! - [`Data`] is anything that can be learned from, told apart by what lies at a path: a [`Recording`], which is a rig's
//!   spec and the entries of what a robot saw and did, or a [`table`] of transitions on state vectors (`.npz`, HDF5).
//!   [`guess`] has the spec of a rig where a program kept none. [`Steps`] puts to each step what was seen before it.
//! - [`lerobot`]: LeRobot's datasets, with videos by [`film`]. [`hil_serl`]: its demonstrations and labelled frames;
//!   [`pickle`] is beneath it, which runs nothing of what it reads. [`foxglove`]: MCAP files for viewers.
//! - [`mod@convert`]: from one form into another.
//!
//! A run is a folder with `run.mcap` and `spec.json`, the [`hilt_protocol::RigSpec`] that its
//! entries have to be read with.
#![deny(missing_docs)]

mod asked;
mod channels;
pub mod convert;
mod data;
pub mod descriptor;
#[cfg(test)]
#[path = "../tests/support/ffmpeg.rs"]
mod ffmpeg;
pub mod film;
pub mod foxglove;
pub mod guess;
pub mod hil_serl;
pub mod lerobot;
pub mod pickle;
mod reader;
mod recording;
mod schema;
mod steps;
pub mod table;
mod whole;
mod writer;

use std::path::{Path, PathBuf};

pub use channels::{Channel, ChannelReader, ChannelWriter, Message};
pub use data::{Data, DataError, Opening};
pub use reader::{ReadError, RecoveryReport, RunReader, find_runs, read_spec, recover};
pub use recording::{Recording, RecordingError};
pub use steps::Steps;
pub use whole::NotWritten;
pub use writer::{RunWriter, WriteError};

/// The file of a run's entries, in the run's folder.
pub const LOG_FILE: &str = "run.mcap";
/// The file of a run's spec, in the run's folder.
pub const SPEC_FILE: &str = "spec.json";
/// Topic of the entries, each in the wire form of `hilt_protocol::wire`.
pub const TOPIC: &str = "/hilt/entries";

/// Where a file is written until it is whole: under its whole name and `.partial`, which is nobody else's.
pub fn beside(path: &Path) -> PathBuf {
    // From its components: `out/` is `out`.
    let mut name = path.components().collect::<PathBuf>().into_os_string();
    name.push(".partial");
    PathBuf::from(name)
}
