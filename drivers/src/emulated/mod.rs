//! Servos that are not there: a bus of Feetech STS3215 or of Dynamixel X that answers the real
//! protocol, so that a whole arm runs, over the code that drives a real one, without hardware.
//!
//! - [`EmulatedBus`]: the servos and their half-duplex line, without I/O: bytes in, bytes out, and
//!   the time of each. It keeps what a test asks for afterwards: what was said to it and when, and
//!   whether the arm was ever left limp.
//! - [`MemoryWire`]: such a bus as a [`Wire`](crate::bus::Wire), in memory, on any clock.
//! - [`PtyBus`]: such a bus behind a pseudo-terminal, on a thread of its own, in real time.
//! - [`BusHandle`]: a look into either while it runs.
//! - [`desk_arm`]: the arm of emulated rigs without a task.
//! - [`BusLift`]: the lift scene with an arm whose joints such a bus drives: an SO-101.
//! - [`EmulatedCamera`]: draws the joints of such buses.

mod cameras;
pub mod desk_arm;
mod factory;
mod heard;
mod lift;
mod memory;
mod pty;
mod servo;
mod servos;
mod writes;

pub use cameras::EmulatedCamera;
pub use factory::TOP_COUNTS_PER_S;
pub use heard::Heard;
pub use lift::{BusLift, BusServos, lift_bus, lift_config};
pub use memory::{BusHandle, MemoryWire};
pub use pty::PtyBus;
pub use servo::{ServoSetup, ServoView};
pub use servos::{BYTE_NS_1M_BAUD, EmulatedBus};
