//! The simulated world: MuJoCo physics, software-rendered cameras, and a scripted operator.
//!
//! - [`SceneConfig`] says what can be chosen of the lift scene: a six-joint arm with a parallel
//!   gripper, a table, a cube, a front and a wrist camera, all of primitives.
//! - [`Simulation`] is one scene, running on the thread that made it (GL contexts cannot move). It
//!   takes joint targets and gives [`ArmState`], frames and the [`Truth`]; [`Start`] and
//!   [`random_start`] say how an episode begins.
//! - [`SimThread::spawn`] puts a simulation on a thread of its own. [`SimHandle`]s send it requests
//!   through a bounded queue and wait for the reply; simulated time advances when told to
//!   (lockstep), or follows the monotonic clock. The thread ends with its last handle.
//! - [`ScriptedOperator`] stands in for a person: it demonstrates, corrects, and on purpose misses.
//!   [`TakeoverPolicy`] decides when it steps in. Both are pure functions of a seed and of the
//!   truth, which the policy never sees.
//!
//! The arm's base frame is the world's: x to the table, z up, z = 0 the table's surface.
//!
//! ```no_run
//! use hilt_sim::{SceneConfig, SimThread, random_start};
//!
//! let sim = SimThread::spawn(SceneConfig::default())?;
//! sim.reset(random_start(0.2, 7))?;
//! sim.command(&sim.state()?.q, true)?;
//! sim.advance_ns(100_000_000)?;
//! let frame = sim.render(0)?;
//! assert_eq!((frame.height, frame.width), (64, 64));
//! # Ok::<(), hilt_sim::SimError>(())
//! ```
#![deny(missing_docs)]

mod error;
mod libraries;
mod operator;
mod scene;
mod simulation;
mod start;
mod takeover;
mod thread;

pub use error::SimError;
pub use libraries::check_rendering_libraries;
pub use operator::{Intention, OperatorAction, OperatorConfig, ScriptedOperator};
pub use scene::{
    CENTRE_XY_M, CUBE_HALF_M, FINGER_OPEN_M, HOME_HEIGHT_M, LIFTED_M, Mount, SceneCamera,
    SceneConfig,
};
pub use simulation::{ARM_JOINTS, ArmState, Simulation, Truth, base_from_tool_down};
pub use start::{Start, random_start};
pub use takeover::{TakeoverConfig, TakeoverPolicy};
pub use thread::{SimHandle, SimThread};
