//! Inference on the robot computer: ONNX Runtime and nothing of libtorch.
//!
//! - [`Engine`]: the library, opened once per process, and the execution provider that was got.
//! - [`Head`]: one fixed graph whose weights are bound inputs. Binding new weights checks them:
//!   spec, graph, names, shapes, finite numbers, and the snapshot's probe must come out.
//! - [`Swapper`]: two heads of one graph. The *loader* thread waits for a snapshot, binds and verifies
//!   it on the idle head; the policy thread exchanges it for the active one between two steps: a
//!   pointer.
//! - [`Kept`]: graphs and weights in the run's folder, to be run again by `hilt verify`.
//! - [`OnnxBrain`]: encoder, policy and classifier together; what the episode loop talks to.

mod brain;
mod cuda;
mod engine;
mod head;
mod kept;
mod swap;

pub use brain::{OnnxBrain, PolicyFiles};
pub use engine::{Engine, EngineError, Provider};
pub use head::{Head, SnapshotRefused};
pub use kept::{Kept, WEIGHTS_DIR};
pub use swap::{LoadReport, SnapshotSource, Swapper};
