//! The learner's replay: append-only, memory-mapped segments on disk that hold each frame once.
//!
//! - [`Layout`]: what a row holds. A store of another layout, rig or encoder is refused by name.
//! - [`Replay`]: rows in, transitions out. A row is one observation with the step that led to it;
//!   a transition is two rows with consecutive sequence numbers of one episode. Where a row is
//!   missing, the transition across the gap does not exist until the row arrives.
//! - [`HostBatch`]: preallocated buffers that sampling fills. [`seen`] makes the agent's batch: of maps,
//!   [`to_tensors`]; of images, [`encode_shifted`].
//!
//! What an episode still brought ([`Replay::reckon_returns`]) is reckoned in memory, of the rewards in the rows.
//!
//! `push` takes the store exclusively and `sample` shares it, so the borrow checker (or the
//! caller's `RwLock`) keeps a sample from ever seeing a row half written. Every row carries a
//! checksum: after a crash, [`Replay::open`] takes what is whole and cuts the rest.

mod batch;
mod returns;
mod rows;
mod segment;
mod store;

pub use batch::{HostBatch, encode_shifted, seen, shifted_images, to_tensors};
pub use segment::{Identity, Layout, Row, RowFlags, RowView, SegmentError};
pub use store::{Pushed, Replay, Statistics, Which};
