//! The commands for whoever puts a robot together, on emulated buses.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod common;

use std::{fs, path::Path, process::Command};

use common::{
    pty::{AtTerminal, ENTER},
    rig_file, until,
};
use hilt_drivers::{
    bus::Family,
    emulated::{BYTE_NS_1M_BAUD, EmulatedBus, PtyBus, ServoSetup},
};
use hilt_runtime::rig::Rig;
use nalgebra::Vector3;

fn bus(family: Family, ids: &[u8], folder: &Path) -> PtyBus {
    let setup = |id: &u8| ServoSetup {
        id: *id,
        counts: 2048.0,
        rest_counts: 2048.0,
    };
    let setups: Vec<_> = ids.iter().map(setup).collect();
    let bus = EmulatedBus::of(family, &setups, BYTE_NS_1M_BAUD);
    PtyBus::start(bus, &folder.join("bus")).unwrap()
}

fn hilt(args: &[&str]) -> (bool, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_hilt")).args(args).output();
    let output = output.unwrap();
    let said = [output.stdout, output.stderr].concat();
    (
        output.status.success(),
        String::from_utf8_lossy(&said).into_owned(),
    )
}

#[test]
fn servos_of_both_families_are_found_and_set_up() {
    for (family, named, model) in [
        (Family::Sts3215, "sts3215", "STS3215"),
        (Family::DynamixelX, "dynamixel-x", "XL330"),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let pty = bus(family, &[1], folder.path());
        let port = pty.path().to_str().unwrap();
        let find = [
            "find-port",
            "--port",
            port,
            "--baud",
            "1000000",
            "--last-id",
            "7",
        ];
        // On a busy machine what emulates the servo may be late with its answer.
        let finds = |words: &str| until(words, || hilt(&find).1.contains(words));
        finds("servo 1: ");
        finds(model);
        let (ok, text) = hilt(&[
            "setup-motors",
            "--port",
            port,
            "--family",
            named,
            "--id",
            "6",
        ]);
        assert!(ok && text.contains("is:  servo 6"), "{text}");
        finds("servo 6: ");
        assert!(!hilt(&find).1.contains("servo 1: "));
    }
}

#[test]
fn what_cannot_be_asked_is_named() {
    let (ok, text) = hilt(&["find-port", "--port", "/dev/there-is-none"]);
    assert!(ok && text.contains("/dev/there-is-none"), "{text}");
    let (ok, text) = hilt(&["setup-motors", "--family", "sts3215", "--id", "6"]);
    assert!(!ok && text.contains("--rig"), "{text}");
}

#[test]
fn the_servos_of_an_arm_are_set_up_one_after_the_other() {
    let folder = tempfile::tempdir().unwrap();
    // The same servo takes the place of each.
    let pty = bus(Family::Sts3215, &[1], folder.path());
    let text = fs::read_to_string(rig_file("so101.toml")).unwrap();
    let port = text
        .lines()
        .find(|line| line.starts_with("port = "))
        .unwrap();
    let text = text.replace(port, &format!("port = {:?}", pty.path()));
    let rig = folder.path().join("rig.toml");
    fs::write(&rig, text).unwrap();
    let mut person = AtTerminal::hilt(&["setup-motors", "--rig", rig.to_str().unwrap()]);
    let mut from = 0;
    for id in (1..=6).rev() {
        let (asks, done) = (
            format!("(it becomes {id})"),
            format!("is:  servo {id}: STS3215"),
        );
        until(&done, || {
            let screen = person.screen()[from..].to_owned();
            if !screen.contains(&done) && screen.contains(&asks) {
                // Once more where the emulated servo was late.
                from += screen.len();
                person.press(ENTER);
            }
            screen.contains(&done)
        });
    }
    let (status, screen) = person.end();
    assert!(
        status.success() && screen.contains("all are set up"),
        "{screen}"
    );
}

#[test]
fn what_a_rig_says_of_real_devices_is_checked() {
    let text = fs::read_to_string(rig_file("so101.toml")).unwrap();
    let parse = |text: &str| Rig::parse("rig.toml", Path::new("/"), text, &[]);
    let koch = fs::read_to_string(rig_file("koch.toml")).unwrap();
    for text in [&text, &koch] {
        let rig = parse(text).unwrap();
        assert_eq!(parse(&rig.to_toml().unwrap()).unwrap(), rig);
        // Home is in the workspace, the tool down.
        let chain = rig.arms[0].servos().unwrap().chain().unwrap();
        let home = chain.base_from_tool(&rig.home_rad);
        for axis in 0..3 {
            let (low, high) = (rig.limits.workspace_min_m, rig.limits.workspace_max_m);
            let at = home.translation.vector[axis];
            assert!(
                (low[axis]..=high[axis]).contains(&at),
                "axis {axis}: {at} m"
            );
        }
        let tool_z = home.rotation.transform_vector(&Vector3::z());
        assert!(tool_z.z < -0.99, "{tool_z}");
    }
    for (find, replace, words) in [
        (
            "device = \"real\"",
            "device = \"emulated\"",
            "`arms` goes with device",
        ),
        ("\"monotonic\"", "\"simulated\"", "`clock` is \"simulated\""),
        ("1.37, 0.0]", "1.37]", "`home_rad` has 4 joints, the arm 5"),
        ("[0.0, -0.2", "[9.0, -0.2", "`home_rad[0]` is 9"),
        (
            "{ id = 2 }",
            "{ id = 1 }",
            "`arms[0].servos` cannot be used: servo id 1",
        ),
        (
            "single-arm",
            "dual-arm",
            "`arms` are 1; dual-arm-learned-gripper has 2",
        ),
        ("{ id = 3 },", "{ id = 3, zero = 2048 },", "zero"),
        ("\"spacemouse\"", "\"leader\"", "`leaders` are 0"),
        (
            "\"spacemouse\"",
            "\"spacemouse\"\ndeadband = 3.0",
            "`teleop.deadband`",
        ),
        ("shape = \"so101\"", "shape = \"octopus\"", "octopus"),
        ("driver = \"servos\"", "driver = \"magic\"", "magic"),
    ] {
        assert!(text.contains(find), "{find}");
        let error = parse(&text.replacen(find, replace, 1))
            .unwrap_err()
            .to_string();
        assert!(error.contains(words), "{error} does not say {words}");
    }
}

#[test]
fn a_person_ends_the_calibration_of_joints_and_nothing_was_written() {
    let folder = tempfile::tempdir().unwrap();
    let pty = bus(Family::Sts3215, &[1, 2, 3, 4, 5, 6], folder.path());
    let text = fs::read_to_string(rig_file("so101.toml")).unwrap();
    let is_port = |line: &&str| line.starts_with("port = ");
    let port = text.lines().find(is_port).unwrap();
    let text = text.replace(port, &format!("port = {:?}", pty.path()));
    let rig = folder.path().join("so101.toml");
    fs::write(&rig, text).unwrap();
    let rig = rig.to_str().unwrap();
    // The arm cannot be driven before, and says what to do.
    let (ok, said) = hilt(&["teleoperate", "--rig", rig]);
    assert!(!ok && said.contains("hilt calibrate joints"), "{said}");

    const CTRL_C: &str = "\u{3}";
    for (keys, is_limp) in [("q", false), (CTRL_C, false), ("\rq", true)] {
        let mut ends = false;
        // On a busy machine what emulates the servos may be late with an answer.
        until("somebody ends it", || {
            let mut person = AtTerminal::hilt(&["calibrate", "joints", "--rig", rig]);
            until("the first question", || {
                person.screen().contains("Hold") || person.screen().contains("servo ")
            });
            for key in keys.chars() {
                person.press_and_wait(&key.to_string());
            }
            let (status, screen) = person.end();
            assert!(!status.success(), "{screen}");
            ends = screen.contains("nothing was written");
            assert!(!ends || screen.contains("are limp") == is_limp, "{screen}");
            ends
        });
        assert!(ends);
    }
    assert!(!folder.path().join("so101.calibration.toml").exists());
}
