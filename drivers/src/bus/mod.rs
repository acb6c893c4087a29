//! Servos on a serial bus.
//!
//! - [`Wire`]: what carries the bytes; [`SerialWire`] is a port of this machine.
//! - [`feetech`] and [`dynamixel`]: what the bytes say, without I/O; [`Protocol`]: the words that
//!   both have.
//! - [`sts3215`] and [`xseries`]: what the registers mean; [`Family`]: the registers that both have.
//! - [`ports`], [`find`], [`set_up`]: what there is before servos are an arm; [`Maintenance`]: who they are
//!   and what they keep without power, for their calibration.
//! - [`ServoArm`]: an [`Arm`](crate::Arm) of such servos: one sync read and one sync write a tick.

pub mod dynamixel;
mod family;
pub mod feetech;
mod inbox;
mod line;
mod maintenance;
mod ports;
mod protocol;
mod register;
mod serial;
mod servo_arm;
mod set_up;
pub mod sts3215;
mod wire;
pub mod xseries;

pub(crate) use servo_arm::{Commands, Goals};

pub use family::{Family, Table};
pub use maintenance::{Keep, KeepError, Kept, Maintenance, Turns};
pub use ports::{Port, ports, ports_in};
pub use protocol::{Next, Protocol, Request, Status, Unsayable};
pub use register::{Register, Sign};
pub use serial::{OpenError, SerialWire};
pub use servo_arm::{
    Direction, GripperServo, Health, JointServo, ServoArm, ServoArmConfig, ServoArmConfigError,
};
pub use set_up::{FindError, Found, SetUpError, Settings, USUAL_BAUD_RATES, find, set_up};
pub use wire::{Wire, WireError};
