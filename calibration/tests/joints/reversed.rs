//! Servos of the X series whose drive mode says reversed, as LeRobot sets it on a Koch leader's elbow.

use super::{
    DATE, MS,
    arm::{Bench, Built},
    assert_exact, assert_pose, calibrated,
};
use hilt_calibration::joints::{WriteProblem, check, lerobot, write};
use hilt_drivers::{
    Arm,
    bus::{
        Direction, KeepError, Request, ServoArm, Wire, sts3215::radians_from_counts, xseries as x,
    },
};
use hilt_protocol::{calibration::ArmCalibration, noise::Uniforms};
use hilt_realtime::Clock;
use hilt_sim::ArmKind;

const ELBOW: usize = 2;

/// Writes as a program does, for all times.
fn tell(bench: &Bench, place: usize, register: x::Register, value: i32) {
    let (mut number, mut frame) = ([0; 4], [0; 32]);
    let request = Request::Write {
        id: bench.config.ids().nth(place).unwrap(),
        address: register.address.into(),
        data: register.encoded(value, &mut number),
    };
    let protocol = bench.family().protocol();
    let size = protocol.encode(&request, &mut frame).unwrap();
    bench.bus.wire().write(&frame[..size]).unwrap();
    // Its answer goes by.
    bench.clock.advance_ns(MS);
    bench
        .bus
        .wire()
        .read(&mut [0; 64], bench.clock.now_ns())
        .unwrap();
    assert_eq!(keeps(bench, place, register), value);
}

fn keeps(bench: &Bench, place: usize, register: x::Register) -> i32 {
    let id = bench.config.ids().nth(place).unwrap();
    bench.bus.look(|bus| bus.peek(id, register).unwrap())
}

/// The servos are known again at the next start, and the arm is where it says, in several poses.
fn assert_starts(bench: &mut Bench, of: &ArmCalibration) {
    let config = bench.config.calibrated(of).unwrap();
    for share in [0.1, 0.5, 0.8] {
        let mut pose = Vec::new();
        for place in 0..bench.chain.dof() {
            let (low, high) = bench.built.stops[place];
            let counts = low + (share * f64::from(high - low)) as i32;
            bench.move_to(place, counts);
            pose.push(radians_from_counts(f64::from(counts)));
        }
        for id in config.ids() {
            bench.bus.look(|bus| bus.power_cycle(id));
        }
        assert_eq!(check(&mut bench.servos(), of), Ok(()));
        let wire = bench.bus.wire();
        let mut arm = ServoArm::new(wire, bench.chain.clone(), config.clone()).unwrap();
        arm.let_go().unwrap();
        let now_ns = bench.clock.now_ns();
        let state = arm.read_state(now_ns, now_ns + 5 * MS).unwrap();
        assert_pose(state.joints.as_slice(), &pose);
    }
}

#[test]
fn a_person_calibrates_it_as_any_other_and_it_starts() {
    for seed in 60..64 {
        let mut bench = Bench::new(ArmKind::Koch, seed);
        bench.leave_traces(&mut Uniforms::new(seed));
        for place in 0..=bench.chain.dof() {
            tell(&bench, place, x::DRIVE_MODE, x::DRIVE_REVERSED);
        }
        let of = calibrated(&mut bench);
        assert_exact(&mut bench, &of, &format!("{seed}"));
        assert_starts(&mut bench, &of);
    }
}

/// A Koch leader as LeRobot's people build it, and what LeRobot makes of it: zero is in the middle of the
/// ranges, and the elbow's servo, which is mounted the other way round, is reversed.
fn koch_of_lerobot(sensor_of_zero: i32) -> (Bench, String) {
    let chain = hilt_sim::chain(ArmKind::Koch).unwrap();
    let mut built = Built::somehow(&chain, &mut Uniforms::new(70));
    built.zeros.fill(sensor_of_zero);
    built.directions.fill(Direction::Along);
    built.directions[ELBOW] = Direction::Against;
    for (stops, joint) in built.stops.iter_mut().zip(chain.joints()) {
        let counts = |angle: f64| (angle / radians_from_counts(1.0)).round() as i32;
        *stops = (counts(joint.lower), counts(joint.upper));
    }
    let mut bench = Bench::of(ArmKind::Koch, built);
    tell(&bench, ELBOW, x::DRIVE_MODE, x::DRIVE_REVERSED);
    let names = bench.subject(None).names().to_vec();
    let names = names.iter().map(String::as_str).chain(["gripper"]);
    let mut motors = Vec::new();
    for (place, name) in names.enumerate() {
        let (low, high) = bench.built.stops[place];
        tell(&bench, place, x::OPERATING_MODE, x::MODE_EXTENDED_POSITION);
        tell(&bench, place, x::HOMING_OFFSET, 0);
        bench.move_to(place, (low + high) / 2);
        let offset = 2047 - bench.reports(place);
        tell(&bench, place, x::HOMING_OFFSET, offset);
        let [least, greatest] = [low, high].map(|stop| {
            bench.move_to(place, stop);
            bench.reports(place)
        });
        assert!(least < greatest, "LeRobot's counts grow with the joint");
        tell(&bench, place, x::LOWEST_POSITION, least);
        tell(&bench, place, x::HIGHEST_POSITION, greatest);
        let (id, mode) = (place + 1, i32::from(place == ELBOW));
        motors.push(format!(
            r#""{name}": {{"id": {id}, "drive_mode": {mode}, "homing_offset": {offset}, "range_min": {least}, "range_max": {greatest}}}"#
        ));
    }
    (bench, format!("{{{}}}", motors.join(",")))
}

#[test]
fn what_lerobot_calibrated_is_imported_and_starts() {
    for sensor_of_zero in [0, 900, 2048, 4095] {
        let (mut bench, text) = koch_of_lerobot(sensor_of_zero);
        let plan = lerobot::import(&text, &bench.subject(None)).unwrap();
        let of = write(&mut bench.servos(), &plan, 0, DATE).unwrap();
        assert_eq!(keeps(&bench, ELBOW, x::DRIVE_MODE), 0);
        let ways: Vec<_> = of.joints.iter().map(|joint| joint.direction).collect();
        assert_eq!(ways, bench.built.directions[..ways.len()]);
        assert_starts(&mut bench, &of);
        let (closed, open) = bench.built.stops[5];
        for (to, counts) in [
            (closed, of.gripper.closed_counts),
            (open, of.gripper.open_counts),
        ] {
            bench.move_to(5, to);
            assert_eq!(bench.reports(5), i32::from(counts));
        }
    }
}

/// The drive mode cannot be written to a servo that holds; then nothing is written to any.
#[test]
fn one_that_holds_is_refused_before_anything_is_written() {
    let (bench, text) = koch_of_lerobot(900);
    let plan = lerobot::import(&text, &bench.subject(None)).unwrap();
    tell(&bench, ELBOW, x::TORQUE_ENABLE, 1);
    let error = write(&mut bench.servos(), &plan, 0, DATE).unwrap_err();
    assert_eq!(error.problem, WriteProblem::Keep(KeepError::Holds));
    assert_eq!((error.name.as_str(), error.written), ("elbow_flex", None));
    assert_eq!(keeps(&bench, ELBOW, x::DRIVE_MODE), x::DRIVE_REVERSED);
}

#[test]
fn one_that_became_reversed_since_is_named() {
    let mut bench = Bench::new(ArmKind::Koch, 65);
    let of = calibrated(&mut bench);
    tell(&bench, ELBOW, x::DRIVE_MODE, x::DRIVE_REVERSED);
    let said = check(&mut bench.servos(), &of).unwrap_err().to_string();
    assert!(
        said.contains("servo 3 (elbow_flex) has another operating mode or drive mode"),
        "{said}"
    );
}
