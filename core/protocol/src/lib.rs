//! The words that the robot process and the learner process share.
//!
//! Nothing here does I/O, knows a device or owns a thread. In the order in which a step meets them:
//!
//! - [`SetupMode`] and [`RigSpec`]: how many arms, which axes, which cameras — and, derived from
//!   these, the layout of an action and of an observation. Two processes work together only when
//!   their [`SpecHash`]es agree.
//! - [`Observation`], [`Record`], [`Entry`]: one step of experience as the run log stores it and
//!   the stream carries it. An episode of *n* steps is one `Reset` and *n* `Step` entries, so each
//!   frame is stored and sent once.
//! - [`ModelSnapshot`], [`Graph`]: what the learner sends back. A graph is fixed for a run; a
//!   snapshot is the tensors bound to its weight inputs, with a probe that proves it was understood.
//! - [`wire`]: the versioned protobuf form of all of these. Malformed bytes are an error, never a
//!   panic, and never a huge allocation.
//! - [`keys`]: the zenoh key expressions.
//! - [`settings`]: one TOML file and `--set` overrides to one typed configuration.
//! - [`noise`]: exploration noise as a pure function of a recorded seed.
//! - [`calibration`]: what was measured of one robot, and the pure conversions that it gives.
//! - [`ArmCommand`]: one action for all arms of a rig: one sequence number, one activation deadline.
#![deny(missing_docs)]

pub mod calibration;
mod command;
pub mod keys;
pub mod noise;
mod progress;
pub mod settings;
mod setup_mode;
mod snapshot;
mod spec;
mod step;
pub mod wire;

pub use command::{ArmCommand, GripperCommand, JointVector, MAX_ARMS, MAX_CAMERAS, MAX_JOINTS};
pub use progress::{Ack, Progress};
pub use setup_mode::{SetupMode, UnknownSetupMode};
pub use snapshot::{Graph, GraphName, ModelSnapshot, NamedTensor, Probe, content_hash};
pub use spec::{Axis, CameraSpec, RigSpec, SpecError, SpecHash};
pub use step::{ActionSource, Entry, Image, Observation, Record, RunId, Step};
