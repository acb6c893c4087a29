//! What is tested, in the order in which it runs.

use anyhow::{Context, Result};

use crate::serial;

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
    case("serial/arm-conforms", serial::arm_conforms),
    case("serial/arm-follows", serial::arm_follows),
    case("serial/unplug-and-replug", serial::unplug_and_replug),
    case("serial/device-removed", serial::device_removed),
];

/// Runs one of them.
pub fn run(name: &str) -> Result<String> {
    let case = CASES.iter().find(|case| case.name == name);
    let case = case.with_context(|| format!("there is no case {name}"))?;
    (case.run)()
}
