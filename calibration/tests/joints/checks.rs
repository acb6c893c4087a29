//! Servos that are not those of the file are named.

use super::{arm::Bench, calibrated};
use hilt_calibration::joints::check;
use hilt_drivers::bus::{Family, sts3215, xseries};
use hilt_protocol::calibration::{ArmCalibration, Calibration};
use hilt_realtime::Clock;
use hilt_sim::ArmKind;

fn mismatch(bench: &Bench, of: &ArmCalibration) -> String {
    check(&mut bench.servos(), of).unwrap_err().to_string()
}

#[test]
fn the_servos_of_the_file_are_known_again_in_a_moment() {
    for (kind, seed) in [(ArmKind::So101, 1), (ArmKind::Koch, 2)] {
        let mut bench = Bench::new(kind, seed);
        let of = calibrated(&mut bench);
        let mut file = Calibration::of_rig("rig");
        file.put_arm(false, of);
        let file = Calibration::from_toml(&file.to_toml().unwrap()).unwrap();
        let of = file.arm(0).unwrap();
        // As at the next start: the power was away, and replies take their factory's half millisecond.
        for id in 1..=6 {
            bench.bus.look(|bus| bus.power_cycle(id));
            bench
                .bus
                .look(|bus| bus.poke(id, bench.family().table().return_delay, 250));
        }
        let begun_ns = bench.clock.now_ns();
        assert_eq!(check(&mut bench.servos(), of), Ok(()));
        let took_ns = bench.clock.now_ns() - begun_ns;
        // Six questions and answers: under 80 bytes and half a millisecond each.
        assert!(took_ns < 8_000_000, "{took_ns}");
        // Nobody answers: every servo is asked as often as it may be.
        let begun_ns = bench.clock.now_ns();
        let mut foreign = of.clone();
        for (place, joint) in foreign.joints.iter_mut().enumerate() {
            joint.servo.id = 100 + place as u8;
        }
        foreign.gripper.servo.id = 110;
        let words = mismatch(&bench, &foreign);
        assert!(
            words.contains("servo 100 (shoulder_pan) servo 100 does not answer"),
            "{words}"
        );
        assert!(words.ends_with("Check cable and power"), "{words}");
        let took_ns = bench.clock.now_ns() - begun_ns;
        assert!(took_ns < 1_000_000_000, "{took_ns}");
    }
}

#[test]
fn a_servo_that_is_not_the_one_is_named() {
    for (kind, seed) in [(ArmKind::So101, 3), (ArmKind::Koch, 4)] {
        let mut bench = Bench::new(kind, seed);
        let of = calibrated(&mut bench);
        let table = bench.family().table();
        let firmware = match bench.family() {
            Family::Sts3215 => sts3215::FIRMWARE,
            Family::DynamixelX => xseries::FIRMWARE,
        };
        let kept = |register| bench.bus.look(|bus| bus.peek(3, register).unwrap());
        let poke = |register, value| bench.bus.look(|bus| bus.poke(3, register, value));
        for (register, value, words) in [
            (table.model, 2825, "is of model 2825"),
            (firmware, 9, "firmware 9"),
            (
                table.offset,
                kept(table.offset) + 5,
                "another program calibrated it",
            ),
            (
                table.highest,
                kept(table.highest) - 1,
                "another program calibrated it",
            ),
            (table.mode, 1, "operating mode"),
        ] {
            let was = kept(register);
            poke(register, value);
            let said = mismatch(&bench, &of);
            assert!(
                said.contains("servo 3 (elbow_flex)") && said.contains(words),
                "{said}"
            );
            assert!(said.contains("hilt calibrate joints"), "{said}");
            assert!(!said.contains("servo 2"), "{said}");
            poke(register, was);
            assert_eq!(check(&mut bench.servos(), &of), Ok(()));
        }
        for (register, value) in [(table.offset, 0), (table.lowest, 0), (table.highest, 4095)] {
            poke(register, value);
        }
        let said = mismatch(&bench, &of);
        assert!(
            said.contains("servo 3 (elbow_flex) is as it left the factory"),
            "{said}"
        );
    }
}

#[test]
fn another_arm_another_family_and_crossed_servos_are_named() {
    for (kind, seed) in [(ArmKind::So101, 5), (ArmKind::Koch, 6)] {
        let mut bench = Bench::new(kind, seed);
        let of = calibrated(&mut bench);
        let mut other = Bench::new(kind, seed + 50);
        let others = calibrated(&mut other);
        assert!(mismatch(&bench, &others).contains("another arm's"));
        assert!(mismatch(&other, &of).contains("another arm's"));
        let mut family = of.clone();
        family.family = "other".into();
        assert!(mismatch(&bench, &family).contains("of other servos"));
        assert!(bench.config.calibrated(&family).is_err());
        // Servos 2 and 4 get each other's id.
        let id = bench.family().table().id;
        bench.bus.look(|bus| {
            bus.poke(2, id, 99);
            bus.poke(4, id, 2);
            bus.poke(99, id, 4);
        });
        let said = mismatch(&bench, &of);
        assert!(
            said.contains("shoulder_lift and wrist_flex have each other's ids"),
            "{said}"
        );
    }
}

/// `hilt setup-motors` sets one turn; a joint across the end of its sensor's turn is not where it was then.
#[test]
fn a_servo_that_forgot_to_count_turns_is_named() {
    let mut bench = Bench::new(ArmKind::Koch, 7);
    bench.built.zeros[1] = 10;
    let mut bench = Bench::of(ArmKind::Koch, bench.built);
    let of = calibrated(&mut bench);
    bench
        .bus
        .look(|bus| bus.poke(2, xseries::OPERATING_MODE, xseries::MODE_POSITION));
    let said = mismatch(&bench, &of);
    assert!(
        said.contains("servo 2 (shoulder_lift) has another operating mode"),
        "{said}"
    );
}
