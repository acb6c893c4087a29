//! The drivers against devices of a real kernel: the first program of a virtual machine that
//! `cargo xtask test --vm` boots. The devices are made by the kernel's own test drivers, and by
//! these cases through the kernel's doors for devices in user space; the driver code is that of a
//! robot.
//!
//! - [`cases`]: what is tested, by name.
//! - [`supervisor`]: what process 1 does: mounts, starts udev, runs each case as a process of its
//!   own, reports it over the machine's second serial port, switches off.
//! - [`machine`]: what cases do to the machine: load a module, wait for a device.
//! - [`serial`], [`ftdi`], [`cameras`], [`hands`], [`leader`]: the cases. [`adapter`], [`video`] and [`uhid`]
//!   are the test's side of their devices.

mod adapter;
mod cameras;
mod cases;
mod ftdi;
mod hands;
mod leader;
mod machine;
mod serial;
mod supervisor;
mod uhid;
mod video;

use std::process::ExitCode;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments[..] {
        ["--list"] => {
            for case in cases::CASES {
                println!("{}", case.name);
            }
            ExitCode::SUCCESS
        }
        ["--case", name] => match cases::run(name) {
            Ok(says) => {
                println!("{says}");
                ExitCode::SUCCESS
            }
            Err(error) => {
                eprintln!("{error:?}");
                ExitCode::FAILURE
            }
        },
        ref words if std::process::id() == 1 => supervisor::run(words),
        _ => {
            eprintln!("this program is run inside a machine, by `cargo xtask test --vm`");
            ExitCode::FAILURE
        }
    }
}
