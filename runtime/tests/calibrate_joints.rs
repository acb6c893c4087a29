//! A rig's port, opened for its joints' calibration, with emulated servos behind it.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::path::Path;

use hilt_calibration::joints::known;
use hilt_drivers::{
    bus::{SerialWire, sts3215},
    emulated::{BYTE_NS_1M_BAUD, EmulatedBus, PtyBus, ServoSetup},
};
use hilt_runtime::{calibrate::joints::import_lerobot, rig::Rig};

const DATE: &str = "2026-11-21T12:00:00Z";

const LEROBOT: &str = r#"{
    "shoulder_pan": {"id": 1, "drive_mode": 0, "homing_offset": -1365, "range_min": 746, "range_max": 3277},
    "shoulder_lift": {"id": 2, "drive_mode": 0, "homing_offset": 2047, "range_min": 822, "range_max": 3211},
    "elbow_flex": {"id": 3, "drive_mode": 0, "homing_offset": -986, "range_min": 901, "range_max": 3110},
    "wrist_flex": {"id": 4, "drive_mode": 0, "homing_offset": -2047, "range_min": 849, "range_max": 3216},
    "wrist_roll": {"id": 5, "drive_mode": 0, "homing_offset": 31, "range_min": 0, "range_max": 4095},
    "gripper": {"id": 6, "drive_mode": 0, "homing_offset": 1407, "range_min": 2030, "range_max": 3511}
}"#;

/// An SO-101 whose servos are behind `port`.
fn rig(port: &Path) -> Rig {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../rigs/so101.toml");
    let text = std::fs::read_to_string(&file).unwrap();
    let text: Vec<_> = (text.lines())
        .map(|line| match line.starts_with("port = ") {
            true => format!("port = {:?}", port.display().to_string()),
            false => line.to_owned(),
        })
        .collect();
    Rig::parse("so101.toml", Path::new("."), &text.join("\n"), &[]).unwrap()
}

/// On a machine that is busy an answer comes late now and then.
fn in_time<T, E: std::fmt::Debug>(mut act: impl FnMut() -> Result<T, E>) -> T {
    (0..20)
        .find_map(|_| act().ok())
        .unwrap_or_else(|| act().unwrap())
}

#[test]
fn what_lerobot_measured_is_written_to_the_servos_and_known_again() {
    let folder = tempfile::tempdir().unwrap();
    let setup = |id| ServoSetup {
        id,
        counts: 2000.0,
        rest_counts: 0.0,
    };
    let bus = EmulatedBus::new(&[1, 2, 3, 4, 5, 6].map(setup), BYTE_NS_1M_BAUD);
    let pty = PtyBus::start(bus, &folder.path().join("bus")).unwrap();
    let rig = rig(pty.path());
    let of = in_time(|| import_lerobot(&rig, 0, false, LEROBOT, DATE));
    assert_eq!(of.joints[1].servo.offset_counts, 2047);
    // It outlives the power.
    let bus = pty.handle();
    (1..=6).for_each(|id| bus.look(|bus| bus.power_cycle(id)));
    let arm = rig.arms[0].servos().unwrap();
    let check = || {
        let wire = SerialWire::open(&arm.port.to_string_lossy(), arm.servos.baud).unwrap();
        known(wire, &arm.servos, &of).map(|_| ())
    };
    in_time(check);
    bus.look(|bus| bus.poke(4, sts3215::POSITION_OFFSET, 7));
    let mut said = String::new();
    in_time(|| {
        said = check().unwrap_err().to_string();
        match said.contains("offset 7") {
            true => Ok(()),
            false => Err(said.clone()),
        }
    });
    assert!(said.contains("servo 4 (wrist_flex)"), "{said}");

    let other = import_lerobot(&rig, 1, false, LEROBOT, DATE)
        .unwrap_err()
        .to_string();
    assert!(other.contains("1 arms, and none number 1"), "{other}");
    let missing = import_lerobot(&rig, 0, false, "{}", DATE)
        .unwrap_err()
        .to_string();
    assert!(missing.contains("no motor `shoulder_pan`"), "{missing}");
}
