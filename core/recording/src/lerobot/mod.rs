//! Datasets of LeRobot's (LeRobotDataset v3, as lerobot 0.4 writes them): rows in Parquet, pictures in videos or in the
//! rows, and `meta/`, which says what is where.
//!
//! - [`Dataset`] opens one, with or without cameras; [`Entries`] are its frames as a rig's.
//!   [`read_from`] reads one file of rows.
//! - [`write()`] makes one of any entries; a [`Writer`] does so entry by entry.
//! - [`VideoReader`] has the frames of a video from the `ffmpeg` program.
//!
//! Features that are not known here are left alone. In memory are a few frames of each camera and some rows,
//! however large the dataset is; what a file says of itself is believed only as far as bytes come.

mod entries;
mod error;
mod frames;
mod grippers;
mod info;
mod layout;
mod ongoing;
mod pages;
mod reader;
mod rows;
mod stats;
mod store;
mod tables;
mod video;
mod write_error;
mod writer;

pub use entries::Entries;
pub use error::LeRobotError;
pub use reader::{Dataset, read_from};
pub use video::{VideoError, VideoFrame, VideoReader};
pub use write_error::WriteError;
pub use writer::{Options, Writer, Written, write};
