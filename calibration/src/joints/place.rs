//! Where in its servo's turn a joint comes to lie.
//!
//! A servo goes from 0 to 4095 and not across. So the joint's zero comes to the middle, or, where its range
//! would reach across then, the middle of its range; and the servo is told the correction that does it.
//!
//! An STS3215 takes any correction but half a turn (its register has eleven bits and a sign); there zero
//! comes one count beside the middle. A servo of the X series cannot be corrected in the mode of one
//! turn: an offset moves what it reports but not the end of its sensor's turn, at which it loses a turn
//! when its torque is switched on (and one beyond 1024 is not heeded). So there the joint stays where its
//! sensor has it, if it does not reach across; else the servo counts several turns.

use hilt_drivers::bus::{Family, Keep, Turns};

use super::recorder::{TURN, wrapped};

/// So far from the ends of the turn a range shall stay where it can, counts: noise, and a push.
const MARGIN: i32 = 64;

/// The middle of a servo's turn.
const MIDDLE: i32 = TURN / 2;

/// The largest correction of an STS3215.
const MOST_STS_OFFSET: i32 = 2047;

/// What was measured of a joint, sensor's counts that go on beyond a turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Measured {
    /// Where it is zero.
    pub zero: i32,
    /// The least that it reached.
    pub least: i32,
    /// The greatest.
    pub greatest: i32,
}

/// Where it comes to lie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// What the servo reports then when the joint is at zero, counts.
    pub zero_counts: u16,
    /// What the servo has to keep for it.
    pub keep: Keep,
}

/// Finds the place. `reach`: least and greatest counts from zero that goals go to, beside what was
/// measured. `counts_turns`: the servo does so already and shall go on (a gripper that bounds its
/// current). `None`: there is none, because it reaches over more than a turn or lies a turn from its zero.
pub fn place(
    family: Family,
    measured: Measured,
    reach: (i32, i32),
    counts_turns: bool,
) -> Option<Place> {
    let (low, high) = (
        measured.least - measured.zero,
        measured.greatest - measured.zero,
    );
    let (from, to) = (low.min(reach.0), high.max(reach.1));
    let as_it_is = || as_it_is(measured.zero, from, to).map(|zero| (zero, 0, Turns::One));
    let found = match family {
        Family::Sts3215 => corrected(measured.zero, from, to),
        Family::DynamixelX if counts_turns => turned(measured.zero, from, to),
        Family::DynamixelX => as_it_is().or_else(|| turned(measured.zero, from, to)),
    };
    let (zero, offset_counts, turns) = found?;
    let within = |counts: i32| (zero + counts).clamp(0, TURN - 1) as u16;
    Some(Place {
        zero_counts: u16::try_from(zero).ok().filter(|z| i32::from(*z) < TURN)?,
        keep: Keep {
            offset_counts,
            lowest_counts: within(low),
            highest_counts: within(high),
            turns,
        },
    })
}

/// Where zero comes to lie if it can lie anywhere.
fn anywhere(from: i32, to: i32) -> Option<i32> {
    let fits = |zero: i32, margin: i32| {
        zero + from >= margin && zero + to < TURN - margin && (0..TURN).contains(&zero)
    };
    let centred = (TURN - 1 - from - to).div_euclid(2);
    [(MIDDLE, MARGIN), (centred, 0)]
        .into_iter()
        .find(|(zero, margin)| fits(*zero, *margin))
        .map(|(zero, _)| zero)
}

fn corrected(sensor_zero: i32, from: i32, to: i32) -> Option<(i32, i32, Turns)> {
    let zero = anywhere(from, to)?;
    let offset = wrapped(sensor_zero - zero);
    match offset < -MOST_STS_OFFSET {
        // Half a turn cannot be said.
        true if zero + to + 1 < TURN => Some((zero + 1, MOST_STS_OFFSET, Turns::One)),
        true => Some((zero - 1, -MOST_STS_OFFSET, Turns::One)),
        false => Some((zero, offset, Turns::One)),
    }
}

fn as_it_is(sensor_zero: i32, from: i32, to: i32) -> Option<i32> {
    let zero = sensor_zero.rem_euclid(TURN);
    let places = [zero - TURN, zero, zero + TURN].into_iter();
    places
        .filter(|zero| (0..TURN).contains(zero))
        .find(|zero| zero + from >= MARGIN && zero + to < TURN - MARGIN)
}

fn turned(sensor_zero: i32, from: i32, to: i32) -> Option<(i32, i32, Turns)> {
    let zero = anywhere(from, to)?;
    Some((zero, wrapped(zero - sensor_zero), Turns::Many))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a servo reports that keeps this when its sensor is there, as its maker says.
    fn reports(family: Family, keep: &Keep, sensor: i32) -> i32 {
        match family {
            Family::Sts3215 => (sensor - keep.offset_counts).rem_euclid(TURN),
            Family::DynamixelX if keep.turns == Turns::One => {
                assert_eq!(keep.offset_counts, 0);
                sensor.rem_euclid(TURN)
            }
            // It is brought into the turn of its goals.
            Family::DynamixelX => (sensor + keep.offset_counts).rem_euclid(TURN),
        }
    }

    #[test]
    fn wherever_the_sensor_is_the_range_lies_in_the_turn() {
        let ranges = [
            (-1500, 1500),
            (-1900, 900),
            (-300, 2500),
            (-2048, 2047),
            (-2047, 2048),
            (300, 3000),
        ];
        for family in [Family::Sts3215, Family::DynamixelX] {
            for zero in 0..TURN {
                for (low, high) in ranges {
                    let measured = Measured {
                        zero,
                        least: zero + low,
                        greatest: zero + high,
                    };
                    let place = place(family, measured, (low + 20, high - 20), false).unwrap();
                    let keep = place.keep;
                    assert!(keep.offset_counts.abs() <= 2048);
                    if family == Family::Sts3215 {
                        assert!(keep.offset_counts.abs() <= MOST_STS_OFFSET);
                        assert_eq!(keep.turns, Turns::One);
                    }
                    let zero_counts = i32::from(place.zero_counts);
                    for counts in [low, low / 2, 0, high / 3, high] {
                        // Half a turn cannot be said, and a whole turn has no room to give.
                        let spare = i32::from(high - low == TURN - 1);
                        let reported = reports(family, &keep, zero + counts);
                        let off = reported - (zero_counts + counts);
                        assert!(
                            off == 0 || spare == 1 && off.abs() == TURN,
                            "{off} {place:?}"
                        );
                    }
                    assert!(i32::from(keep.lowest_counts) <= (zero_counts + low).max(0));
                    assert!(i32::from(keep.highest_counts) >= (zero_counts + high).min(TURN - 1));
                }
            }
        }
    }

    #[test]
    fn zero_comes_to_the_middle_where_there_is_room() {
        let measured = |zero, low, high| Measured {
            zero,
            least: zero + low,
            greatest: zero + high,
        };
        let sts = |m| place(Family::Sts3215, m, (0, 0), false).unwrap();
        let at = |place: Place| (place.zero_counts, place.keep.offset_counts);
        assert_eq!(at(sts(measured(3000, -1000, 1900))), (2048, 952));
        assert_eq!(at(sts(measured(3000, -1000, 2000))), (1547, 1453));
        assert_eq!(at(sts(measured(0, -1000, 1000))), (2049, 2047));
        let keep = sts(measured(3000, -1000, 1900)).keep;
        assert_eq!((keep.lowest_counts, keep.highest_counts), (1048, 3948));
    }

    #[test]
    fn a_servo_of_the_x_series_counts_turns_only_where_it_must() {
        let x = |zero, counts_turns| {
            let measured = Measured {
                zero,
                least: zero - 1000,
                greatest: zero + 1000,
            };
            place(Family::DynamixelX, measured, (0, 0), counts_turns).unwrap()
        };
        assert_eq!(
            (x(1064, false).zero_counts, x(1064, false).keep.turns),
            (1064, Turns::One)
        );
        assert_eq!(
            (x(1063, false).zero_counts, x(1063, false).keep.turns),
            (2048, Turns::Many)
        );
        assert_eq!(
            (x(3031, false).zero_counts, x(3031, false).keep.turns),
            (3031, Turns::One)
        );
        assert_eq!(
            (x(3032, false).zero_counts, x(3032, false).keep.turns),
            (2048, Turns::Many)
        );
        // Beyond the first turn of the recorder it is the same.
        assert_eq!(x(1064 - 3 * TURN, false), x(1064, false));
        let gripper = x(2000, true);
        assert_eq!(
            (gripper.zero_counts, gripper.keep.offset_counts),
            (2048, 48)
        );
        assert_eq!(gripper.keep.turns, Turns::Many);
    }

    #[test]
    fn what_has_no_place_is_refused() {
        let measured = Measured {
            zero: 0,
            least: -2048,
            greatest: 2048,
        };
        for family in [Family::Sts3215, Family::DynamixelX] {
            assert_eq!(place(family, measured, (0, 0), false), None);
            let far = Measured {
                zero: 0,
                least: 5000,
                greatest: 6000,
            };
            assert_eq!(place(family, far, (5000, 6000), false), None);
        }
    }
}
