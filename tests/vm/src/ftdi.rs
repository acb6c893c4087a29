//! A USB adapter of FTDI's: it keeps what it receives for 16 ms, unless it is told not to. The
//! emulated computer has one; the other end of its line is the third serial port.

use std::{
    fs::{self, Permissions},
    os::unix::fs::PermissionsExt,
    path::PathBuf,
};

use anyhow::{Context, Result, ensure};
use hilt_drivers::bus::{self, SerialWire, Wire};
use rustix::{
    process::{Gid, Uid},
    thread::{set_thread_gid, set_thread_groups, set_thread_uid},
};

use crate::{
    adapter::read_all,
    machine::{load, unload, wait_for},
};

const FAR_END: &str = "/dev/ttyS2";
const TIMER: &str = "/sys/bus/usb-serial/devices/ttyUSB0/latency_timer";
/// What the third serial port has at the most, bits per second.
const BAUD: u32 = 115_200;

/// Plugs it in as it comes from the maker. Gives the name that stays.
fn fresh() -> Result<PathBuf> {
    load("xhci_pci", "")?;
    if fs::exists("/sys/module/ftdi_sio")? {
        unload("ftdi_sio")?;
    }
    load("ftdi_sio", "")?;
    let port = wait_for("the adapter has no name that stays", || {
        let ports = bus::ports().ok()?;
        let mut ports = ports.into_iter();
        ports.find(|port| port.device.ends_with("ttyUSB0") && port.path != port.device)
    })?;
    fs::write(TIMER, "16").context(TIMER)?;
    ensure!(timer()? == 16, "the timer cannot be set");
    Ok(port.path)
}

fn timer() -> Result<u32> {
    Ok(fs::read_to_string(TIMER).context(TIMER)?.trim().parse()?)
}

/// From now on this process is a user's, who may use serial ports.
fn become_a_user() -> Result<()> {
    // The test's end only: the adapter is given to the group by udev.
    fs::set_permissions(FAR_END, Permissions::from_mode(0o666)).context(FAR_END)?;
    let dialout = Gid::from_raw(20);
    set_thread_groups(&[dialout])?;
    set_thread_gid(Gid::from_raw(1000))?;
    set_thread_uid(Uid::from_raw(1000))?;
    ensure!(fs::write(TIMER, "16").is_err(), "a user may set the timer");
    Ok(())
}

/// Bytes go both ways.
fn carries(mut wire: SerialWire) -> Result<()> {
    let mut far = SerialWire::open(FAR_END, BAUD)?;
    let bytes: Vec<u8> = (0..=255).collect();
    for _ in 0..4 {
        wire.write(&bytes)?;
        ensure!(read_all(&mut far, 256)? == bytes, "to the far end");
        far.write(&bytes)?;
        ensure!(read_all(&mut wire, 256)? == bytes, "from the far end");
    }
    Ok(())
}

/// Who may set its timer sets it by opening it.
pub fn quickened() -> Result<String> {
    let path = fresh()?;
    let path = path.to_str().context("its name is no text")?;
    let wire = SerialWire::open(path, BAUD)?;
    ensure!(timer()? == 1, "the timer is {}", timer()?);
    carries(wire)?;
    Ok(path.to_owned())
}

/// Who may not asks the driver, which grants it.
pub fn quickened_by_a_user() -> Result<String> {
    let path = fresh()?;
    become_a_user()?;
    let wire = SerialWire::open(path.to_str().context("its name is no text")?, BAUD)?;
    carries(wire)?;
    ensure!(timer()? == 1, "the timer is {}", timer()?);
    Ok(path.display().to_string())
}
