//! The wire between the robot process and the learner process: zenoh over TCP.
//!
//! Entries go one way. The run log is the truth, and the stream is a cursor over it:
//!
//! - [`SendWindow`] (pure) knows what is acknowledged, what is on its way, and what comes next;
//!   the window is bounded in entries and in bytes.
//! - [`Receiver`] (pure) tells new entries from duplicates by (run, sequence), in order, and knows
//!   how far each run is durable. Together they deliver every entry exactly once into the
//!   learner's store, whatever is lost, doubled, reordered or restarted between them.
//! - [`ActorLink`] gives the state machine a thread and a zenoh session. The log writer calls
//!   [`ActorLink::notify`], which never waits. What does not fit into its memory is read back from
//!   the log through an [`EntrySource`] ([`RunLog`] is the one for files).
//! - [`LearnerLink`] hands entries out in order ([`LearnerLink::recv`]) and acknowledges what the
//!   caller has durably written ([`LearnerLink::ack`]), and nothing else.
//!
//! Weights, graphs and progress go the other way, newest wins: [`LearnerLink::publish_snapshot`],
//! [`LearnerLink::serve_graph`], [`LearnerLink::publish_progress`].
//!
//! When the learner is away the robot goes on. When one appears — the same one restarted, or a new
//! one with an empty disk — the actor asks it where it stands with the run and sends from there.
//! Silence is answered by the same question, so that nothing is sent twice but what was lost.
//!
//! A message is put with zenoh's `Block` congestion control: it may wait for seconds, which only
//! the link's own threads ever do, and it is not dropped while the connection lives.
#![deny(missing_docs)]

mod actor;
mod frames;
mod inbound;
mod learner;
mod mailbox;
mod receiver;
mod sender;
mod session;
mod source;
mod worker;

pub use actor::{ActorConfig, ActorLink, ActorStats, Presence};
pub use frames::{HEADER_BYTES, Header, Position, split_first};
pub use learner::{LearnerConfig, LearnerLink, LearnerStats};
pub use receiver::{Arrival, Receiver};
pub use sender::{Room, SendWindow, WindowLimits};
pub use session::LinkError;
pub use source::{EntrySource, RunLog, SourceError};
