//! Commands for whoever puts a robot together: which port, which camera, which servo.

use std::{
    io::{self, Write},
    path::{Path, PathBuf},
};

use anyhow::{Context, bail};
use hilt_drivers::{
    bus::{self, Family, Found, SerialWire, Settings, USUAL_BAUD_RATES},
    hands, v4l2,
};
use hilt_runtime::rig::{Rig, ServoArmSettings};

/// Both, Feetech first.
const FAMILIES: [Family; 2] = [Family::Sts3215, Family::DynamixelX];
/// All that either has.
const LAST_ID: u8 = 253;

/// Lists the serial ports, and the servos that answer there.
pub fn find_port(
    port: Option<PathBuf>,
    bauds: Vec<u32>,
    last_id: Option<u8>,
) -> anyhow::Result<()> {
    let ports = match port {
        Some(port) => vec![port],
        None => bus::ports()?.into_iter().map(|port| port.path).collect(),
    };
    if ports.is_empty() {
        bail!("there is no serial port at USB; plug the bus's adapter in and switch the servos on");
    }
    let bauds = match bauds.is_empty() {
        true => USUAL_BAUD_RATES.to_vec(),
        false => bauds,
    };
    let ids = 0..=last_id.unwrap_or(LAST_ID);
    for port in ports {
        println!("{}", port.display());
        io::stdout().flush()?;
        match bus::find(|baud| open(&port, baud), &FAMILIES, &bauds, ids.clone()) {
            Ok(found) if found.is_empty() => println!("  no servo answers"),
            Ok(found) => found.iter().for_each(|servo| println!("  {servo}")),
            // The next port may be the one that is looked for.
            Err(error) => println!("  {error}"),
        }
    }
    println!("write a port's name as `port` below [[arms]] in the rig's file");
    Ok(())
}

fn open(port: &Path, baud: u32) -> Result<SerialWire, bus::OpenError> {
    SerialWire::open(&port.to_string_lossy(), baud)
}

/// Lists the cameras with what they offer, and what a person may hold.
pub fn find_cameras() -> anyhow::Result<()> {
    let cameras = v4l2::list();
    if cameras.is_empty() {
        println!("there is no camera; plug one in, and see that the kernel has a driver for it");
    }
    for camera in cameras {
        match camera {
            Ok(camera) => {
                println!("{}  {}", camera.name.display(), camera.identity.card);
                for offer in camera.offers {
                    let fps: Vec<_> = offer.fps.iter().map(|fps| format!("{fps:.0}")).collect();
                    println!("  {} at {} frames/s", offer.mode, fps.join(", "));
                }
            }
            Err(error) => println!("{error}"),
        }
    }
    println!("write a name as `v4l2.device` below [[cameras]] in the rig's file");
    for (device, found) in hands::list()? {
        let place = found
            .port
            .unwrap_or_else(|| found.path.display().to_string());
        let problem = found
            .problem
            .map_or(String::new(), |problem| format!(": {problem}"));
        println!("{device}: {} at {place}{problem}", found.name);
    }
    Ok(())
}

/// Gives one servo, alone on its bus, its id and rate.
pub fn set_up_motor(port: &Path, family: Family, to: Settings) -> anyhow::Result<()> {
    let (before, after) = set_up(port, family, to)?;
    println!("was: {before}\nis:  {after}");
    Ok(())
}

fn set_up(port: &Path, family: Family, to: Settings) -> Result<(Found, Found), bus::SetUpError> {
    let set_up = |bauds: &[u32]| bus::set_up(|baud| open(port, baud), family, bauds, to);
    match set_up(&[to.baud]) {
        // A new one has its factory's rate. To ask at every rate takes ten seconds.
        Err(bus::SetUpError::Nobody) => {
            let mut others = USUAL_BAUD_RATES.to_vec();
            let rates = family.table().baud_rates;
            others.retain(|baud| *baud != to.baud && rates.contains(baud));
            set_up(&others)
        }
        done => done,
    }
}

/// Goes through the servos of an arm, the gripper's first: they hang on each other in a row, so that
/// one after the other is plugged in.
pub fn set_up_arm(rig: &Rig, arm: usize, of_leader: bool) -> anyhow::Result<()> {
    let servos: Vec<&ServoArmSettings> = match of_leader {
        true => rig.leaders.iter().collect(),
        false => rig.arms.iter().filter_map(|arm| arm.servos()).collect(),
    };
    let arm = servos.get(arm).with_context(|| {
        format!(
            "the rig's file names {} arms of servos, and none number {arm}",
            servos.len()
        )
    })?;
    let (config, port) = (&arm.servos, &arm.port);
    let joints = config.joints.iter().enumerate();
    let mut wanted: Vec<_> = joints
        .map(|(i, servo)| (format!("joint {i}"), servo.id))
        .collect();
    wanted.push(("the gripper".to_owned(), config.gripper.id));
    println!(
        "each servo alone on the bus at {}; Ctrl-C ends this between two",
        port.display()
    );
    for (name, id) in wanted.into_iter().rev() {
        loop {
            println!(
                "connect the servo of {name} (it becomes {id}) and no other, then press enter"
            );
            if io::stdin().read_line(&mut String::new())? == 0 {
                bail!("nobody presses enter; start it in a terminal");
            }
            let to = Settings {
                id,
                baud: config.baud,
            };
            match set_up(port, config.family, to) {
                Ok((before, after)) => {
                    println!("was: {before}\nis:  {after}");
                    break;
                }
                Err(error) => println!("{error}"),
            }
        }
    }
    println!(
        "all are set up; connect them all, and see with: hilt find-port --port {}",
        port.display()
    );
    Ok(())
}
