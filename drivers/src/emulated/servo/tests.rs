use super::{
    super::writes::{MIDDLE, refusal},
    *,
};
use crate::bus::sts3215::{
    ACCELERATION, GOAL_POSITION, GOAL_SPEED, HIGHEST_POSITION, ID, LOCK, MODEL, MOVING,
    POSITION_OFFSET, PRESENT_POSITION, PRESENT_SPEED, PRESENT_TEMPERATURE, RETURN_DELAY,
    TORQUE_ENABLE,
};

const MS: u64 = 1_000_000;

fn of(family: Family, counts: f64, rest_counts: f64) -> Servo {
    let setup = ServoSetup {
        id: 1,
        counts,
        rest_counts,
    };
    Servo::new(family, setup)
}

fn servo(counts: f64, rest_counts: f64) -> Servo {
    of(Family::Sts3215, counts, rest_counts)
}

fn on(counts: f64, rest_counts: f64) -> Servo {
    let mut servo = servo(counts, rest_counts);
    tell(&mut servo, TORQUE_ENABLE, 1);
    servo
}

/// Writes as a host does.
fn tell(servo: &mut Servo, register: Register, value: i32) -> u8 {
    let mut room = [0; 4];
    servo.write(register.address.into(), register.encoded(value, &mut room))
}

#[test]
fn it_goes_to_its_goal_at_its_speed_and_stays() {
    let mut servo = on(1000.0, 1000.0);
    tell(&mut servo, GOAL_POSITION, 2000);
    servo.advance(100 * MS);
    assert!((servo.view().counts - 1307.2).abs() < 0.1, "top speed");
    assert_eq!((servo.get(MOVING), servo.get(PRESENT_SPEED)), (1, 3072));
    tell(&mut servo, GOAL_SPEED, 100);
    servo.advance(200 * MS);
    assert!((servo.view().counts - 1317.2).abs() < 0.1, "its own speed");
    servo.advance(20_000 * MS);
    assert_eq!(servo.get(PRESENT_POSITION), 2000);
    assert_eq!((servo.get(MOVING), servo.get(PRESENT_SPEED)), (0, 0));
    tell(&mut servo, GOAL_POSITION, 1990);
    servo.advance(20_001 * MS);
    assert_eq!(servo.get(PRESENT_SPEED), -100);
}

#[test]
fn an_acceleration_bounds_the_change_of_speed_both_ways() {
    let mut servo = on(1000.0, 1000.0);
    tell(&mut servo, ACCELERATION, 50);
    tell(&mut servo, GOAL_POSITION, 2000);
    let (mut last, mut fastest) = (0.0f64, 0.0f64);
    for i in 1..1500 {
        servo.advance(i * MS);
        let speed = servo.view().counts_per_s;
        // 5000 counts/s² are 5 a millisecond; the last step ends at the goal.
        assert!((speed - last).abs() < 10.0, "{last} then {speed}");
        fastest = fastest.max(speed);
        last = speed;
    }
    assert!(fastest > 2000.0, "{fastest}");
    assert_eq!(servo.get(PRESENT_POSITION), 2000);
}

#[test]
fn a_goal_beyond_the_angle_limits_stops_at_them() {
    let mut servo = on(2000.0, 2000.0);
    tell(&mut servo, HIGHEST_POSITION, 2100);
    tell(&mut servo, GOAL_POSITION, 3000);
    servo.advance(1000 * MS);
    assert_eq!(servo.get(PRESENT_POSITION), 2100);
}

#[test]
fn without_torque_it_sinks_and_that_is_noted() {
    let mut servo = on(2000.0, 1000.0);
    servo.advance(1000 * MS);
    assert!(!servo.view().went_limp);
    tell(&mut servo, TORQUE_ENABLE, 0);
    assert!(servo.view().went_limp, "though no time has passed");
    servo.advance(1500 * MS);
    assert!((servo.view().counts - 1800.0).abs() < 1.0);
    servo.advance(60_000 * MS);
    assert_eq!(servo.get(PRESENT_POSITION), 1000);
}

#[test]
fn torque_off_at_rest_is_not_limp_and_before_the_first_torque_it_stands() {
    let mut resting = on(1000.0, 1005.0);
    tell(&mut resting, TORQUE_ENABLE, 0);
    assert!(!resting.view().went_limp);
    let mut new = servo(2000.0, 1000.0);
    new.advance(5000 * MS);
    assert_eq!((new.view().counts, new.view().went_limp), (2000.0, false));
    let mut choked = on(2000.0, 1000.0);
    tell(&mut choked, TORQUE_LIMIT, 0);
    assert!(choked.view().went_limp, "a torque limit of nothing");
}

#[test]
fn stored_registers_outlive_the_power_when_unlocked() {
    let mut servo = on(2000.0, 1000.0);
    tell(&mut servo, RETURN_DELAY, 7);
    tell(&mut servo, LOCK, 0);
    tell(&mut servo, ID, 9);
    assert_eq!((servo.id(), servo.get(RETURN_DELAY)), (9, 7));
    servo.power_cycle();
    assert_eq!((servo.id(), servo.get(RETURN_DELAY)), (9, 250));
    assert!(!servo.view().torque && servo.view().went_limp);
}

#[test]
fn the_middle_is_where_it_is_told_to_be() {
    let mut servo = servo(900.0, 900.0);
    tell(&mut servo, TORQUE_ENABLE, MIDDLE);
    assert_eq!(servo.get(PRESENT_POSITION), 2048);
    assert_eq!(servo.get(POSITION_OFFSET), -1148);
    tell(&mut servo, TORQUE_ENABLE, 1);
    tell(&mut servo, GOAL_POSITION, 2148);
    servo.advance(1000 * MS);
    assert_eq!(servo.get(PRESENT_POSITION), 2148);
    assert_eq!(servo.sensor, 1000.0);
}

#[test]
fn feedback_is_not_written_by_hosts() {
    let mut servo = servo(1000.0, 1000.0);
    tell(&mut servo, PRESENT_TEMPERATURE, 99);
    servo.write(0, &[9; 5]);
    assert_eq!(servo.get(PRESENT_TEMPERATURE), 28);
    assert_eq!(servo.get(MODEL), 777);
    servo.set(PRESENT_TEMPERATURE, 71);
    let address = PRESENT_TEMPERATURE.address.into();
    assert_eq!(servo.read(address, 1), Some(&[71][..]));
    assert_eq!(servo.read(140, 9), None);
}

#[test]
fn an_x_servo_goes_by_its_own_table() {
    let mut servo = of(Family::DynamixelX, 1000.0, 1000.0);
    assert_eq!(tell(&mut servo, x::HOMING_OFFSET, 100), 0);
    assert_eq!(servo.get(x::PRESENT_POSITION), 1100);
    assert_eq!(tell(&mut servo, x::PROFILE_VELOCITY, 100), 0);
    assert_eq!(tell(&mut servo, x::GOAL_POSITION, 2100), 0);
    assert_eq!(tell(&mut servo, x::TORQUE_ENABLE, 1), 0);
    servo.advance(100 * MS);
    let moved = 100.0 * x::COUNTS_PER_S * 0.1;
    assert!((servo.view().counts - 1100.0 - moved).abs() < 0.1);
    assert_eq!(servo.get(x::PRESENT_VELOCITY), 100);
    servo.advance(5_000 * MS);
    assert_eq!((servo.view().counts, servo.sensor), (2100.0, 2000.0));
    // What is kept cannot be written under torque, and goals have limits.
    assert_eq!(tell(&mut servo, x::ID, 5), refusal::ACCESS);
    assert_eq!(tell(&mut servo, x::GOAL_POSITION, 4096), refusal::LIMIT);
    assert_eq!(tell(&mut servo, x::PRESENT_POSITION, 0), refusal::ACCESS);
    assert_eq!((servo.id(), servo.get(x::GOAL_POSITION)), (1, 2100));
    tell(&mut servo, x::TORQUE_ENABLE, 0);
    assert_eq!(tell(&mut servo, x::ID, 5), 0);
    servo.power_cycle();
    assert_eq!((servo.id(), servo.get(x::HOMING_OFFSET)), (5, 100));
}

#[test]
fn an_x_servo_with_a_hardware_error_says_so_and_stays_limp() {
    let mut servo = of(Family::DynamixelX, 1000.0, 1000.0);
    servo.set(x::HARDWARE_ERROR, i32::from(x::hardware::OVERLOAD));
    assert_eq!(servo.error_bits(), ALERT);
    assert_eq!(tell(&mut servo, x::TORQUE_ENABLE, 1), refusal::FAILED);
    servo.power_cycle();
    assert_eq!(servo.error_bits(), 0);
    assert_eq!(tell(&mut servo, x::TORQUE_ENABLE, 1), 0);
}

#[test]
fn the_bus_watchdog_stops_a_servo_that_nobody_speaks_to() {
    let mut servo = of(Family::DynamixelX, 1000.0, 500.0);
    tell(&mut servo, x::TORQUE_ENABLE, 1);
    tell(&mut servo, x::BUS_WATCHDOG, 2);
    tell(&mut servo, x::GOAL_POSITION, 3000);
    for ms in 1..=100 {
        servo.hears((ms - 1) * MS);
        servo.advance(ms * MS);
    }
    assert_eq!(servo.get(x::BUS_WATCHDOG), 2);
    servo.advance(300 * MS);
    assert_eq!(servo.get(x::BUS_WATCHDOG), x::WATCHDOG_TRIPPED);
    let stands = servo.view().counts;
    let expected = 1000.0 + 7031.5 * 0.140;
    assert!((stands - expected).abs() < 8.0, "{stands}");
    assert_eq!(tell(&mut servo, x::GOAL_POSITION, 2500), refusal::RANGE);
    servo.advance(1_000 * MS);
    assert_eq!((servo.view().counts, servo.view().torque), (stands, true));
    assert_eq!(tell(&mut servo, x::BUS_WATCHDOG, 0), 0);
    servo.advance(2_000 * MS);
    assert_eq!(servo.view().counts, 3000.0, "its old goal");
    assert!(!servo.view().went_limp);
}

/// Turned by hand through its sensor's turn and on, whatever its offset.
#[test]
fn an_sts_servo_counts_within_a_turn() {
    for offset in [0, 700, -2047, 2047] {
        let mut servo = servo(4000.0, 4000.0);
        tell(&mut servo, POSITION_OFFSET, offset);
        for by in [90, 5, 1, 4096, -300, -5000] {
            servo.turn(f64::from(by));
            let expected = (servo.sensor as i32 - offset).rem_euclid(4096);
            assert_eq!(servo.get(PRESENT_POSITION), expected, "{offset} {by}");
            assert_eq!(servo.view().counts, f64::from(expected));
        }
        // It goes to its goal on the way that does not leave the turn.
        let before = (servo.sensor, servo.view().counts);
        tell(&mut servo, TORQUE_ENABLE, 1);
        tell(&mut servo, GOAL_POSITION, 4095);
        servo.advance(5000 * MS);
        assert_eq!(servo.sensor - before.0, 4095.0 - before.1);
        servo.turn(100.0);
        assert_eq!(servo.get(PRESENT_POSITION), 4095, "it does not give way");
    }
}

/// What happened to a user of an XC430 in the mode of one turn: offset -512, a hold at 3700, and when
/// the torque was off and on again it stood at -396 and went a whole turn to 3700.
#[test]
fn an_x_servo_of_one_turn_forgets_turns_when_it_is_switched_on() {
    let mut servo = of(Family::DynamixelX, 4000.0, 4000.0);
    tell(&mut servo, x::HOMING_OFFSET, -512);
    servo.turn(212.0);
    assert_eq!(servo.get(x::PRESENT_POSITION), 3700);
    tell(&mut servo, x::TORQUE_ENABLE, 1);
    assert_eq!(servo.get(x::PRESENT_POSITION), -396);
    tell(&mut servo, x::GOAL_POSITION, 3700);
    servo.advance(10_000 * MS);
    assert_eq!((servo.sensor, servo.view().counts), (4212.0, 3700.0));
    // An offset that is too large for this mode.
    tell(&mut servo, x::TORQUE_ENABLE, 0);
    tell(&mut servo, x::HOMING_OFFSET, 1025);
    assert_eq!(servo.get(x::PRESENT_POSITION), 4212);
    assert_eq!(
        tell(&mut servo, x::HOMING_OFFSET, 1_044_480),
        refusal::RANGE
    );
    assert_eq!(tell(&mut servo, x::LOWEST_POSITION, -1), refusal::RANGE);
}

#[test]
fn a_reversed_x_servo_counts_the_other_way() {
    let mut servo = of(Family::DynamixelX, 1000.0, 1000.0);
    tell(&mut servo, x::OPERATING_MODE, x::MODE_EXTENDED_POSITION);
    tell(&mut servo, x::DRIVE_MODE, x::DRIVE_REVERSED);
    tell(&mut servo, x::HOMING_OFFSET, 3000);
    assert_eq!(servo.get(x::PRESENT_POSITION), 2000);
    servo.turn(100.0);
    assert_eq!(servo.get(x::PRESENT_POSITION), 1900);
    tell(&mut servo, x::TORQUE_ENABLE, 1);
    tell(&mut servo, x::GOAL_POSITION, 2500);
    servo.advance(20 * MS);
    assert!(servo.get(x::PRESENT_VELOCITY) > 0);
    servo.advance(5000 * MS);
    assert_eq!((servo.sensor, servo.view().counts), (500.0, 2500.0));
    servo.drive(2400.0, 10.0);
    assert_eq!((servo.sensor, servo.view().counts), (600.0, 2400.0));
    // Within one turn it stays within 0 to 4095.
    tell(&mut servo, x::TORQUE_ENABLE, 0);
    tell(&mut servo, x::HOMING_OFFSET, 0);
    tell(&mut servo, x::OPERATING_MODE, x::MODE_POSITION);
    assert_eq!(servo.get(x::PRESENT_POSITION), 4096 - 600);
    // Its sensor's way again.
    tell(&mut servo, x::DRIVE_MODE, 0);
    tell(&mut servo, x::OPERATING_MODE, x::MODE_POSITION);
    assert_eq!(servo.get(x::PRESENT_POSITION), 600);
}

#[test]
fn an_x_servo_of_several_turns_heeds_every_offset_and_no_limit() {
    let mut servo = of(Family::DynamixelX, 4000.0, 4000.0);
    tell(&mut servo, x::OPERATING_MODE, x::MODE_EXTENDED_POSITION);
    tell(&mut servo, x::HOMING_OFFSET, -3000);
    servo.turn(200.0);
    assert_eq!(servo.get(x::PRESENT_POSITION), 1200);
    tell(&mut servo, x::HIGHEST_POSITION, 1000);
    assert_eq!(tell(&mut servo, x::TORQUE_ENABLE, 1), 0);
    assert_eq!(servo.get(x::PRESENT_POSITION), 1200, "it counts on");
    assert_eq!(tell(&mut servo, x::GOAL_POSITION, 5000), 0);
    servo.advance(5_000 * MS);
    assert_eq!(servo.get(x::PRESENT_POSITION), 5000);
    // 8000 of the sensor are 3904 of its second turn.
    servo.power_cycle();
    assert_eq!(servo.get(x::PRESENT_POSITION), 904);
}
