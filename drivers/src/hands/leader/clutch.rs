//! How a follower follows a leader. Pure: the leader's poses and times in, motion out.
//!
//! Only what the leader does *from the take-over on* counts, so the follower does not jump to where
//! the leader happens to be. What a step cannot carry is carried by the next ones.

use hilt_protocol::GripperCommand;
use nalgebra::{Isometry3, UnitQuaternion, Vector3};
use serde::{Deserialize, Serialize};

use crate::hands::mapping::{ConfigError, check_gain};

/// How a person takes over with a leader.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TakeOver {
    /// By a key of the keyboard beside it, and so they hand back: a leader that is put down moves
    /// nothing.
    #[default]
    Key,
    /// By moving it, and they hand back by holding it still; or by a key. Put down, it moves the
    /// follower too.
    Motion,
}

/// How leader arms lead, in the rig file; their buses are described beside the other arms'.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LeaderConfig {
    /// Factors of x, y, z, roll, pitch and yaw of the leader's motion in its base's frame. One that
    /// stands opposite the follower has `[-1, -1, 1, -1, -1, 1]`.
    pub gain: [f64; 6],
    /// How a person takes over.
    pub take_over: TakeOver,
    /// Motion that takes over, metres of the tool (or ten times as many radians); held still is a
    /// fifth of that.
    pub threshold_m: f64,
    /// Held still for so long hands back, seconds.
    pub still_s: f64,
}

impl Default for LeaderConfig {
    fn default() -> Self {
        Self {
            gain: [1.0; 6],
            take_over: TakeOver::default(),
            threshold_m: 0.01,
            still_s: 1.0,
        }
    }
}

impl LeaderConfig {
    /// Checks what the types cannot.
    pub fn check(&self) -> Result<(), ConfigError> {
        check_gain(&self.gain)?;
        if !(0.001..=0.2).contains(&self.threshold_m) {
            let problem = format!("{} must be between 0.001 and 0.2 m", self.threshold_m);
            return Err(ConfigError::at("threshold_m", problem));
        }
        if !(0.1..=60.0).contains(&self.still_s) {
            let problem = format!("{} must be between 0.1 and 60 s", self.still_s);
            return Err(ConfigError::at("still_s", problem));
        }
        Ok(())
    }
}

/// A full step of the follower's action.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct FullStep {
    /// Metres of a translation.
    pub m: f64,
    /// Radians of a rotation.
    pub rad: f64,
}

/// A radian of the tool counts as so many metres.
const M_PER_RAD: f64 = 0.1;
/// Held still is this share of the motion that takes over.
const STILL_SHARE: f64 = 0.2;
/// The follower is behind its leader by at most so many full steps; what is more is let go, so that
/// it does not go on for long when the leader stands.
const MOST_STEPS_BEHIND: f64 = 5.0;
/// The gripper's command changes so far beyond the middle, as a share of its width: a finger that
/// trembles there changes nothing.
const GRIPPER_PLAY: f64 = 0.1;

/// Who let the person act.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Taken {
    No,
    ByKey,
    ByMotion,
}

/// A leader at one time.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Led {
    /// Its tool in its base's frame.
    pub base_from_tool: Isometry3<f64>,
    /// Its gripper's width as a share of the widest.
    pub opening: f64,
    /// When, nanoseconds.
    pub captured_ns: u64,
}

/// What a leader wants its follower to do in a policy step.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Wanted {
    /// x, y, z, roll, pitch, yaw in [-1, 1], in the base's frame.
    pub motion: [f64; 6],
    /// The gripper's command, when it changes.
    pub gripper: Option<GripperCommand>,
}

/// Between a leader and its follower.
#[derive(Clone, Debug)]
pub struct Clutch {
    config: LeaderConfig,
    step: FullStep,
    taken: Taken,
    /// Where the leader stood still, and since when.
    still: Option<Led>,
    /// Where the leader was taken.
    grasp: Isometry3<f64>,
    /// How far the follower was sent since.
    sent_m: Vector3<f64>,
    sent: UnitQuaternion<f64>,
    /// The leader's fingers, since it was first seen.
    gripper: Option<GripperCommand>,
}

impl Clutch {
    /// Of a follower that makes steps of this size.
    pub fn new(config: LeaderConfig, step: FullStep) -> Self {
        Self {
            config,
            step,
            taken: Taken::No,
            still: None,
            grasp: Isometry3::identity(),
            sent_m: Vector3::zeros(),
            sent: UnitQuaternion::identity(),
            gripper: None,
        }
    }

    /// A key says that the person acts, or hands back.
    pub fn take(&mut self, taken: bool) {
        self.release();
        if taken {
            self.taken = Taken::ByKey;
        }
    }

    /// The policy acts. What the leader did so far does not count any more.
    pub fn release(&mut self) {
        self.taken = Taken::No;
        self.still = None;
    }

    /// What is wanted in this policy step; `None`: the policy acts.
    pub fn follow(&mut self, led: Led) -> Option<Wanted> {
        let fingers = self.fingers(led.opening);
        let since = *self.still.get_or_insert_with(|| {
            // The first that is seen after a change of hands.
            (self.grasp, self.sent_m) = (led.base_from_tool, Vector3::zeros());
            self.sent = UnitQuaternion::identity();
            led
        });
        let moved_m = distance_m(&since.base_from_tool, &led.base_from_tool);
        let stood_ns = led.captured_ns.saturating_sub(since.captured_ns);
        let long = stood_ns as f64 * 1e-9 >= self.config.still_s;
        match self.taken {
            Taken::No => {
                if moved_m > self.config.threshold_m && self.config.take_over == TakeOver::Motion {
                    self.taken = Taken::ByMotion;
                    (self.grasp, self.sent_m) = (led.base_from_tool, Vector3::zeros());
                    self.sent = UnitQuaternion::identity();
                    self.still = Some(led);
                } else {
                    if long {
                        // What creeps is not led.
                        self.still = Some(led);
                    }
                    return None;
                }
            }
            Taken::ByMotion => {
                if moved_m > STILL_SHARE * self.config.threshold_m {
                    self.still = Some(led);
                } else if long {
                    self.release();
                    return None;
                }
            }
            Taken::ByKey => {}
        }
        Some(Wanted {
            motion: self.step_on(&led.base_from_tool),
            gripper: fingers,
        })
    }

    /// The command of the leader's fingers, when it has changed.
    fn fingers(&mut self, opening: f64) -> Option<GripperCommand> {
        let now = match self.gripper {
            Some(GripperCommand::Open) if opening > 0.5 - GRIPPER_PLAY => GripperCommand::Open,
            Some(GripperCommand::Closed) if opening < 0.5 + GRIPPER_PLAY => GripperCommand::Closed,
            _ if opening > 0.5 => GripperCommand::Open,
            _ => GripperCommand::Closed,
        };
        let before = self.gripper.replace(now);
        before.filter(|before| *before != now).map(|_| now)
    }

    /// The next step towards where the leader has gone.
    fn step_on(&mut self, led: &Isometry3<f64>) -> [f64; 6] {
        let gain = &self.config.gain;
        let moved_m = led.translation.vector - self.grasp.translation.vector;
        let turned = (led.rotation * self.grasp.rotation.inverse()).scaled_axis();
        let goal_m = Vector3::from_fn(|i, _| gain[i] * moved_m[i]);
        let goal =
            UnitQuaternion::from_scaled_axis(Vector3::from_fn(|i, _| gain[3 + i] * turned[i]));

        let (shift, over) = within_a_step((goal_m - self.sent_m) / self.step.m);
        self.sent_m = goal_m - over * self.step.m;
        let behind = (goal * self.sent.inverse()).scaled_axis() / self.step.rad;
        let (turn, over) = within_a_step(behind);
        self.sent = UnitQuaternion::from_scaled_axis(over * self.step.rad).inverse() * goal;
        [shift.x, shift.y, shift.z, turn.x, turn.y, turn.z]
    }
}

/// What of a way, in full steps, one step carries, and what is left for the next ones. It is the same
/// way, only shorter.
fn within_a_step(way: Vector3<f64>) -> (Vector3<f64>, Vector3<f64>) {
    let longest = way.amax();
    if longest <= 1.0 {
        return (way, Vector3::zeros());
    }
    let step = way / longest;
    let left = way - step;
    (step, left * (MOST_STEPS_BEHIND / left.amax()).min(1.0))
}

fn distance_m(a: &Isometry3<f64>, b: &Isometry3<f64>) -> f64 {
    let shift_m = (a.translation.vector - b.translation.vector).norm();
    shift_m.max(M_PER_RAD * a.rotation.angle_to(&b.rotation))
}

#[cfg(test)]
mod tests {
    use nalgebra::Translation3;
    use proptest::prelude::*;

    use super::*;

    const STEP: FullStep = FullStep { m: 0.02, rad: 0.1 };
    const MS: u64 = 1_000_000;

    fn clutch(take_over: TakeOver) -> Clutch {
        let config = LeaderConfig {
            take_over,
            ..Default::default()
        };
        Clutch::new(config, STEP)
    }

    fn led(x_m: f64, yaw: f64, captured_ms: u64) -> Led {
        let turn = UnitQuaternion::from_scaled_axis(Vector3::z() * yaw);
        Led {
            base_from_tool: Isometry3::from_parts(Translation3::new(x_m, 0.1, 0.2), turn),
            opening: 1.0,
            captured_ns: captured_ms * MS,
        }
    }

    fn motion(clutch: &mut Clutch, led: Led) -> Option<[f64; 6]> {
        let rounded = |v: f64| (v * 1e9).round() / 1e9 + 0.0;
        clutch.follow(led).map(|wanted| wanted.motion.map(rounded))
    }

    #[test]
    fn a_key_takes_over_without_a_jump() {
        let mut clutch = clutch(TakeOver::Key);
        assert_eq!(clutch.follow(led(0.0, 0.0, 0)), None);
        assert_eq!(
            clutch.follow(led(0.3, 1.0, 100)),
            None,
            "motion alone does nothing"
        );
        clutch.take(true);
        assert_eq!(motion(&mut clutch, led(0.4, 1.0, 200)), Some([0.0; 6]));
        let step = motion(&mut clutch, led(0.41, 1.05, 300));
        assert_eq!(step, Some([0.5, 0.0, 0.0, 0.0, 0.0, 0.5]));
        assert_eq!(
            motion(&mut clutch, led(0.41, 1.05, 9_000)),
            Some([0.0; 6]),
            "it holds"
        );
        clutch.take(false);
        assert_eq!(clutch.follow(led(0.5, 1.05, 9_100)), None);
        clutch.take(true);
        assert_eq!(
            motion(&mut clutch, led(0.2, 0.0, 9_200)),
            Some([0.0; 6]),
            "from anew"
        );
    }

    #[test]
    fn motion_takes_over_without_a_jump_and_standing_still_hands_back() {
        let mut clutch = clutch(TakeOver::Motion);
        for (x_m, at_ms, expected) in [
            (0.0, 0, None),
            (0.009, 100, None),
            // What took over is not made up for.
            (0.011, 200, Some(0.0)),
            (0.021, 300, Some(0.5)),
            (0.0225, 400, Some(0.075)),
            (0.0205, 1_200, Some(-0.1)),
            (0.0205, 1_300, None),
            (0.021, 1_400, None),
            (0.019, 1_500, None),
            (0.035, 1_600, Some(0.0)),
            (0.045, 1_700, Some(0.5)),
        ] {
            let along = motion(&mut clutch, led(x_m, 0.0, at_ms)).map(|motion| motion[0]);
            assert_eq!(along, expected, "at {at_ms} ms");
        }
        clutch.take(false);
        assert_eq!(clutch.follow(led(0.046, 0.0, 1_800)), None, "or a key does");
    }

    #[test]
    fn what_creeps_does_not_take_over() {
        let mut clutch = clutch(TakeOver::Motion);
        for tick in 0..100 {
            let led = led(0.0005 * f64::from(tick), 0.0, 100 * tick as u64);
            assert_eq!(clutch.follow(led), None);
        }
    }

    #[test]
    fn a_leader_that_is_too_fast_is_caught_up_with_for_a_while() {
        let mut clutch = clutch(TakeOver::Key);
        clutch.take(true);
        clutch.follow(led(0.0, 0.0, 0));
        let steps = |clutch: &mut Clutch, x_m| {
            (0..9)
                .map(|_| {
                    motion(clutch, led(x_m, 0.0, 100))
                        .map(|motion| motion[0])
                        .unwrap()
                })
                .collect::<Vec<_>>()
        };
        let three = [1.0, 1.0, 1.0, 0.5, 0.0, 0.0, 0.0, 0.0, 0.0];
        assert_eq!(steps(&mut clutch, 0.07), three);
        let six = [1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 0.0, 0.0, 0.0];
        assert_eq!(
            steps(&mut clutch, 1.0),
            six,
            "and five steps later it stands"
        );
    }

    #[test]
    fn fingers_are_told_when_they_change_after_the_take_over() {
        let mut clutch = clutch(TakeOver::Key);
        let fingers = |clutch: &mut Clutch, opening| {
            let led = Led {
                opening,
                ..led(0.0, 0.0, 0)
            };
            clutch.follow(led).map(|wanted| wanted.gripper)
        };
        assert_eq!(fingers(&mut clutch, 1.0), None);
        assert_eq!(fingers(&mut clutch, 0.1), None);
        clutch.take(true);
        let (open, closed) = (
            Some(Some(GripperCommand::Open)),
            Some(Some(GripperCommand::Closed)),
        );
        let quiet = Some(None);
        // The follower keeps what it holds, until the person works the fingers.
        for (opening, expected) in [
            (0.1, quiet),
            (0.55, quiet),
            (0.65, open),
            (0.45, quiet),
            (0.35, closed),
            (0.35, quiet),
        ] {
            assert_eq!(fingers(&mut clutch, opening), expected, "{opening}");
        }
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (text, field) in [
            ("threshold_m = 0.0", "threshold_m"),
            ("still_s = nan", "still_s"),
            ("gain = [1, 1, 1, 1, 1, 11]", "gain[5]"),
        ] {
            let config: LeaderConfig = toml::from_str(text).unwrap();
            assert_eq!(config.check().unwrap_err().field, field);
        }
    }

    prop_compose! {
        fn pose()(
            at in prop::array::uniform3(-0.3..0.3_f64),
            turn in prop::array::uniform3(-0.8..0.8_f64),
        ) -> Isometry3<f64> {
            Isometry3::new(Vector3::from(at), Vector3::from(turn))
        }
    }

    proptest! {
        /// However it is led, no step is too long, and a leader that is not too fast is followed to
        /// where it went from the take-over on, by way and by turn.
        #[test]
        fn the_follower_goes_where_the_leader_went(from in pose(), to in pose()) {
            let mut clutch = clutch(TakeOver::Key);
            clutch.take(true);
            let (mut at_m, mut turned) = (Vector3::zeros(), UnitQuaternion::identity());
            for tick in 0..300_u32 {
                let share = (f64::from(tick) / 200.0).min(1.0);
                let base_from_tool = from.lerp_slerp(&to, share);
                let led = Led { base_from_tool, opening: 1.0, captured_ns: 0 };
                let motion = clutch.follow(led).unwrap().motion;
                prop_assert!(motion.iter().all(|v| (-1.0..=1.0).contains(v)));
                let [x, y, z, roll, pitch, yaw] = motion;
                at_m += Vector3::new(x, y, z) * STEP.m;
                let turn = Vector3::new(roll, pitch, yaw) * STEP.rad;
                turned = UnitQuaternion::from_scaled_axis(turn) * turned;
            }
            let way_m = to.translation.vector - from.translation.vector;
            prop_assert!((at_m - way_m).norm() < 1e-9);
            prop_assert!(turned.angle_to(&(to.rotation * from.rotation.inverse())) < 1e-6);
        }

        #[test]
        fn no_step_is_longer_than_a_step(poses in prop::collection::vec(pose(), 1..40)) {
            let mut clutch = clutch(TakeOver::Motion);
            for (tick, base_from_tool) in poses.into_iter().enumerate() {
                let led = Led { base_from_tool, opening: 1.0, captured_ns: tick as u64 * 100 * MS };
                if let Some(wanted) = clutch.follow(led) {
                    prop_assert!(wanted.motion.iter().all(|v| (-1.0..=1.0).contains(v)));
                }
            }
        }
    }
}
