//! The robot process. Its binary is `hilt`.
//!
//! A run, in the order in which data walks through it:
//!
//! - [`rig::Rig`]: one TOML file says what the robot is; everything below is made from it.
//! - [`cell::Cell`]: the rig's devices, in lockstep or in real time. It resets, observes, and executes
//!   an action: [`safety`] makes it a joint target and says what was really commanded, [`control`]
//!   brings the arms there tick by tick, both pure.
//! - [`decision`]: what a policy step decides and what from; [`tick_log`] keeps it, and what every
//!   tick saw and did, so that [`verify`] can recompute a run bit for bit.
//! - [`brain::Brain`]: what acts and judges; [`inference`] is the one that runs on ONNX Runtime.
//! - [`episode`]: proprioception, when the classifier's word counts, how a step ends. Pure.
//! - [`session::Session`]: runs episodes: policy, takeovers, reward, and every step into a
//!   [`run_log::Journal`].
//! - [`operator`]: who takes over: the scripted operator, or a person with a device.
//! - [`run_log::RunLog`]: the journal that writes the run's log and streams it to the learner.
//! - [`faulty`]: a rig's `[faults]` table, applied to all of these.
//! - [`accounting`]: how every [`tick`] ended and what its stages took, kept by a thread that has no
//!   deadline, in the run's [`books`]; a [`status::Status`] on disk says it to `hilt` [`top`] and to other programs.
//! - [`supervisor`]: a second process that holds the arms when this one is gone or hangs.
//!
//! What a user starts is above these: [`teleoperate`] by hand, [`record`] demonstrations, [`replay`]
//! one of them, [`actor`] for training, [`evaluate`] an exported policy; before all of them,
//! [`doctor`] looks at the machine.
//!
//! In lockstep (a rig with `clock = "simulated"`) all of this is one thread: policy step, control
//! ticks, physics, rendering, as fast as the machine and the learner's pace allow; or, with a person
//! in it, at the [`pace`] of real time, who sees the cameras' frames as a [`picture`] in the terminal.
#![deny(missing_docs)]

pub mod accounting;
pub mod actor;
pub mod bookkeeper;
pub mod books;
pub mod brain;
pub mod calibrate;
pub mod cell;
pub mod control;
pub mod decision;
pub mod doctor;
pub mod episode;
pub mod evaluate;
pub mod faulty;
pub mod filmstrip;
pub mod inference;
pub mod learner_side;
pub mod operator;
pub mod pace;
pub mod picture;
pub mod record;
pub mod replay;
pub mod rerun;
pub mod rig;
pub mod run_log;
pub mod safety;
pub mod session;
pub mod status;
pub mod supervisor;
pub mod teleoperate;
pub mod tick;
pub mod tick_log;
pub mod top;
pub mod verify;
pub mod view;
