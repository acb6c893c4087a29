//! What is tested, in the order in which it runs.

use anyhow::{Context, Result};

use crate::{cameras, ftdi, hands, leader, serial};

/// A test of its own process.
pub struct Case {
    /// DEVICE/WHAT.
    pub name: &'static str,
    /// Says its figures in one line.
    run: fn() -> Result<String>,
}

const fn case(name: &'static str, run: fn() -> Result<String>) -> Case {
    Case { name, run }
}

/// All of them.
pub const CASES: &[Case] = &[
    case("serial/bytes-unchanged", serial::bytes_unchanged),
    case("serial/one-program-at-a-time", serial::one_program),
    case("serial/feetech-conforms", serial::feetech_conforms),
    case("serial/feetech-follows", serial::feetech_follows),
    case("serial/dynamixel-conforms", serial::dynamixel_conforms),
    case("serial/dynamixel-follows", serial::dynamixel_follows),
    case("serial/ports-and-servos", serial::ports_and_servos),
    case("serial/servo-set-up", serial::servo_set_up),
    case("serial/unplug-and-replug", serial::unplug_and_replug),
    case("serial/device-removed", serial::device_removed),
    case("ftdi/quickened", ftdi::quickened),
    case("ftdi/quickened-by-a-user", ftdi::quickened_by_a_user),
    case("camera/listed", cameras::listed),
    case("camera/frames-in-order", cameras::frames_in_order),
    case("camera/conforms", cameras::conforms),
    case("camera/future-stamps", cameras::future_stamps),
    case("camera/late-reader", cameras::late_reader),
    case(
        "camera/changed-format-refused",
        cameras::changed_format_refused,
    ),
    case("camera/controls", cameras::controls),
    case("camera/damaged-and-lost", cameras::damaged_and_lost),
    case(
        "camera/disconnect-and-recovery",
        cameras::disconnect_and_recovery,
    ),
    case("mjpeg/decoded", cameras::mjpeg),
    case("mjpeg/damaged", cameras::mjpeg_damaged),
    case("spacemouse/motion", hands::spacemouse_motion),
    case("spacemouse/no-press-lost", hands::spacemouse_buttons),
    case("spacemouse/unplug-and-replug", hands::spacemouse_unplug),
    case("spacemouse/out-of-reach", hands::spacemouse_out_of_reach),
    case("gamepad/motion", hands::gamepad_motion),
    case("gamepad/no-press-lost", hands::gamepad_buttons),
    case("gamepad/unplug-and-replug", hands::gamepad_unplug),
    case("leader/led-by-hand", leader::led_by_hand),
];

/// Runs one of them.
pub fn run(name: &str) -> Result<String> {
    let case = CASES.iter().find(|case| case.name == name);
    let case = case.with_context(|| format!("there is no case {name}"))?;
    (case.run)()
}
