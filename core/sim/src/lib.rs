//! The simulated world: MuJoCo physics, software-rendered cameras, and a scripted operator.
//!
//! - [`SceneConfig`] says what can be chosen of the lift scene: the arm ([`ArmKind`]), a table, a
//!   cube, a front and a wrist camera, all of primitives; for what calibrates a robot also
//!   [`SceneBoard`]s, and cameras with a [`SceneLens`]. [`Task`] is what lifting means in an arm's
//!   reach.
//! - [`Simulation`] is one scene, running on the thread that made it (GL contexts cannot move). It
//!   takes joint targets and gives [`ArmState`], frames and the [`Truth`]; [`Start`] and
//!   [`Task::random_start`] say how an episode begins. Its joints can be driven by [`Servos`] that
//!   stand elsewhere.
//! - [`SimThread::spawn`] puts a simulation on a thread of its own, and what draws its pictures on
//!   another, so that time does not stand still while one is drawn. [`SimHandle`]s send them requests
//!   through bounded queues and wait for the reply; simulated time advances when told to
//!   (lockstep), or follows the monotonic clock. The threads end with the last handle.
//! - [`ScriptedOperator`] stands in for a person: it demonstrates, corrects, and on purpose misses.
//!   [`TakeoverPolicy`] decides when it steps in. Both are pure functions of a seed and of the
//!   truth, which the policy never sees.
//! - [`Locomotion`] is something else: Gymnasium's Hopper, HalfCheetah and Walker2d, number by number, for
//!   algorithms to be tried on without a robot.
//!
//! The arm's base frame is the world's: x to the table, z up, z = 0 the table's surface.
//!
//! ```no_run
//! use hilt_sim::{SceneConfig, SimThread};
//!
//! let scene = SceneConfig::default();
//! let start = scene.arm.task().random_start(0.2, 7);
//! let sim = SimThread::spawn(scene)?;
//! sim.reset(start)?;
//! sim.command(sim.state()?.q.as_slice(), true)?;
//! sim.advance_ns(100_000_000)?;
//! let frame = sim.render(0)?;
//! assert_eq!((frame.height, frame.width), (64, 64));
//! # Ok::<(), hilt_sim::SimError>(())
//! ```
#![deny(missing_docs)]

mod arm;
mod error;
mod libraries;
mod locomotion;
mod operator;
mod optics;
mod painter;
mod past;
mod scene;
mod servos;
mod simulation;
mod start;
mod takeover;
mod thread;

pub use arm::{ArmKind, Jaw, Task};
pub use error::SimError;
pub use libraries::check_rendering_libraries;
pub use locomotion::{Locomotion, Moved};
pub use operator::{Intention, OperatorAction, OperatorConfig, ScriptedOperator};
pub use scene::{Mount, SceneBoard, SceneCamera, SceneConfig, SceneLens};
pub use servos::{Motion, Servos};
pub use simulation::{ArmState, Simulation, Truth, base_from_tool_down, chain};
pub use start::Start;
pub use takeover::{TakeoverConfig, TakeoverPolicy};
pub use thread::{SimHandle, SimThread};
