//! A rig as its calibration wants it: arms that are told joints and stand still when they are looked at,
//! cameras at the size of their sensors, frames with the stamps that the drivers gave them.

use std::sync::atomic::{AtomicBool, Ordering};

use hilt_drivers::{ArmState, EpisodeStart, v4l2::Crop};
use hilt_kinematics::Chain;
use hilt_protocol::{GripperCommand, Image, JointVector, MAX_ARMS, SetupMode};

use crate::{
    cell::{Cell, CellError},
    control::JointBounds,
    pace::Pace,
    rig::{CameraSettings, Rig},
};

/// Why a procedure ended before its end.
#[derive(Debug, thiserror::Error)]
pub enum StationError {
    /// Somebody wants it to.
    #[error("stopped; what was calibrated before is as it was")]
    Stopped,
    /// A name that the rig does not have.
    #[error("the rig has no camera `{name}`; it has {there}")]
    NoCamera {
        /// What was asked for.
        name: String,
        /// What there is.
        there: String,
    },
    /// A number that the rig does not have.
    #[error("the rig has no arm {arm}; it has {arms}, counted from 0")]
    NoArm {
        /// What was asked for.
        arm: usize,
        /// How many there are.
        arms: usize,
    },
    /// The arm does not come to rest.
    #[error(
        "arm {0} does not come to rest; see that nothing touches it and that its joints are not overloaded"
    )]
    Restless(usize),
    /// Commands come too late.
    #[error("the arm's commands come too late; end what else runs on this machine")]
    Late,
    /// The devices stopped working.
    #[error(transparent)]
    Cell(#[from] CellError),
}

/// A rig, standing where its episodes begin.
pub struct Station<'a> {
    cell: Cell,
    bounds: [Option<JointBounds>; MAX_ARMS],
    period_ns: u64,
    pace: Pace,
    stop: &'a AtomicBool,
}

/// One look: what a camera saw while the arms stood still.
#[derive(Clone, Debug)]
pub struct Look {
    /// What the arms report.
    pub states: Vec<ArmState>,
    /// The cameras' frames.
    pub images: Vec<Image>,
}

/// Joints that move slower are at rest, rad/s.
const REST_RAD_S: f64 = 0.02;
/// So long an arm must have been at rest before it is looked at, nanoseconds: longer than any camera
/// is late.
const REST_NS: u64 = 400_000_000;
/// So long it may take to come to rest.
const RESTLESS_NS: u64 = 6_000_000_000;
/// Of their highest speed the joints take this share.
const SHARE: f64 = 0.3;
/// So long a gripper takes, nanoseconds.
const GRIP_NS: u64 = 1_500_000_000;
/// Commands that may come too late on end.
const LATE: u32 = 20;

/// Steps per second of a sweep, at most: as many as a camera has frames, and some.
const SWEEP_HZ: u32 = 50;

/// A procedure may think so long between two steps, milliseconds; the arms stand meanwhile.
const THINKING_MS: f64 = 60_000.0;

/// No joint goes faster about, rad/s: somebody stands beside it.
const FASTEST_RAD_S: f64 = 1.5;

/// The rig for a procedure: cameras at full size, grippers closed (they may hold the board), time to
/// think between two steps, arms not too fast, and cameras' latencies left out, so that they are measured and not corrected twice.
pub fn rig_for_calibration(rig: &Rig) -> Rig {
    let mut rig = rig.clone();
    rig.cameras.iter_mut().for_each(at_full_size);
    rig.mode = match rig.mode {
        SetupMode::SingleArmLearnedGripper => SetupMode::SingleArmFixedGripper,
        SetupMode::DualArmLearnedGripper => SetupMode::DualArmFixedGripper,
        fixed => fixed,
    };
    rig.ages.policy_ms = Some(THINKING_MS);
    rig.limits.joint_velocity_rad_s = rig.limits.joint_velocity_rad_s.min(FASTEST_RAD_S);
    if let Some(calibration) = rig.calibrated() {
        let mut calibration = calibration.clone();
        for camera in &mut calibration.cameras {
            camera.latency = None;
        }
        rig.calibration = Some(crate::rig::RigCalibration::Values(Box::new(calibration)));
    }
    rig
}

/// A camera's frames as its sensor gives them: all of each, and not squeezed.
pub(super) fn at_full_size(camera: &mut CameraSettings) {
    if let Some(v4l2) = &mut camera.v4l2 {
        v4l2.crop = Crop::Whole;
        (camera.width, camera.height) = (v4l2.width, v4l2.height);
    }
}

/// Refuses a camera or an arm that the rig does not have, before anything moves.
pub fn check(
    rig: &Rig,
    camera: &str,
    arms: impl IntoIterator<Item = usize>,
) -> Result<(), StationError> {
    let cameras = rig.spec().cameras;
    if !cameras.iter().any(|other| other.name == camera) {
        let names: Vec<_> = cameras.iter().map(|camera| camera.name.as_str()).collect();
        return Err(StationError::NoCamera {
            name: camera.to_owned(),
            there: names.join(", "),
        });
    }
    let there = rig.mode.arms();
    match arms.into_iter().find(|arm| *arm >= there) {
        Some(arm) => Err(StationError::NoArm { arm, arms: there }),
        None => Ok(()),
    }
}

impl<'a> Station<'a> {
    /// Opens the rig and brings its arms to where episodes begin.
    pub fn open(rig: &Rig, stop: &'a AtomicBool) -> Result<Self, StationError> {
        Self::of(rig_for_calibration(rig), stop)
    }

    /// The same with short steps, for sweeps.
    pub fn open_for_sweep(rig: &Rig, stop: &'a AtomicBool) -> Result<Self, StationError> {
        let mut rig = rig_for_calibration(rig);
        let fits = |hz: &u32| rig.control_hz.is_multiple_of(*hz);
        rig.policy_hz = (1..=SWEEP_HZ).rev().find(fits).unwrap_or(rig.policy_hz);
        Self::of(rig, stop)
    }

    fn of(rig: Rig, stop: &'a AtomicBool) -> Result<Self, StationError> {
        let mut cell = Cell::open(&rig)?;
        cell.reset(EpisodeStart {
            range_m: 0.0,
            seed: 0,
        })?;
        let chains: Vec<Chain> = cell.tools().map(|(chain, _)| chain.clone()).collect();
        let control = rig.control(chains.iter());
        Ok(Self {
            cell,
            bounds: control.bounds,
            period_ns: rig.policy_period_ns(),
            pace: Pace::of(&rig, false),
            stop,
        })
    }

    /// Number of the camera of this name.
    pub fn camera(&self, name: &str) -> Result<usize, StationError> {
        let cameras = &self.cell.spec().cameras;
        let place = cameras.iter().position(|camera| camera.name == name);
        place.ok_or_else(|| {
            let names: Vec<_> = cameras.iter().map(|camera| camera.name.as_str()).collect();
            StationError::NoCamera {
                name: name.to_owned(),
                there: names.join(", "),
            }
        })
    }

    /// The kinematics of an arm.
    pub fn chain(&self, arm: usize) -> Result<Chain, StationError> {
        let arms = self.cell.tools().count();
        let chain = self.cell.tools().nth(arm).map(|(chain, _)| chain.clone());
        chain.ok_or(StationError::NoArm { arm, arms })
    }

    /// Time on the run's clock, nanoseconds.
    pub fn now_ns(&self) -> u64 {
        self.cell.now_ns()
    }

    /// Where an arm is being sent, radians.
    pub fn target(&self, arm: usize) -> Result<JointVector, StationError> {
        let arms = self.cell.tools().count();
        self.cell
            .target(arm)
            .ok_or(StationError::NoArm { arm, arms })
    }

    /// How fast an arm's joints may go, rad/s.
    pub fn fastest_rad_s(&self, arm: usize) -> f64 {
        let bounds = self.bounds.get(arm).copied().flatten();
        bounds.map_or(0.0, |bounds| bounds.velocity_rad_s)
    }

    /// One step with these joints as an arm's target, and what is seen at its end. For sweeps; the
    /// control loop bounds how fast the arm follows.
    pub fn step(&mut self, arm: usize, joints: &JointVector) -> Result<Look, StationError> {
        let mut late = 0;
        loop {
            if self.stop.load(Ordering::Relaxed) {
                return Err(StationError::Stopped);
            }
            self.pace.wait();
            if self.cell.drive(arm, joints)? {
                break;
            }
            late += 1;
            if late > LATE {
                return Err(StationError::Late);
            }
        }
        Ok(Look {
            states: self.cell.arm_states()?,
            images: self.cell.frames()?,
        })
    }

    /// Brings an arm to these joints, slowly and straight (all joints arrive together, as whoever planned the
    /// way has checked it), and looks when it has come to rest.
    pub fn look_at(&mut self, arm: usize, joints: &JointVector) -> Result<Look, StationError> {
        let mut goal = *joints;
        self.chain(arm)?.clamp(goal.as_mut_slice());
        let from = self.target(arm)?;
        let step = SHARE * self.fastest_rad_s(arm) * self.period_ns as f64 * 1e-9;
        for next in straight(&from, &goal, step) {
            self.step(arm, &next)?;
        }
        self.rest(arm, &goal)
    }

    /// Tells an arm's gripper, and gives it time.
    pub fn grip(&mut self, arm: usize, gripper: GripperCommand) -> Result<(), StationError> {
        let stands = self.target(arm)?;
        self.cell.grip(arm, gripper);
        let until_ns = self.now_ns() + GRIP_NS;
        while self.now_ns() < until_ns {
            self.step(arm, &stands)?;
        }
        Ok(())
    }

    /// Lets the arms stand until `done`.
    pub fn wait(&mut self, mut done: impl FnMut() -> bool) -> Result<(), StationError> {
        let stands = self.target(0)?;
        while !done() {
            self.step(0, &stands)?;
        }
        Ok(())
    }

    /// Waits until an arm stands still at these joints, and looks.
    fn rest(&mut self, arm: usize, goal: &JointVector) -> Result<Look, StationError> {
        let began_ns = self.now_ns();
        let mut moved_ns = began_ns;
        loop {
            let look = self.step(arm, goal)?;
            let now_ns = self.now_ns();
            let speeds = look.states[arm].velocities;
            if speeds
                .as_slice()
                .iter()
                .any(|speed| speed.abs() > REST_RAD_S)
            {
                moved_ns = now_ns;
            }
            if now_ns.saturating_sub(moved_ns) >= REST_NS {
                return Ok(look);
            }
            if now_ns.saturating_sub(began_ns) > RESTLESS_NS {
                return Err(StationError::Restless(arm));
            }
        }
    }
}

/// Targets on the straight way in joint space, no joint moving by more than `step` from one to the next.
fn straight(from: &JointVector, goal: &JointVector, step: f64) -> Vec<JointVector> {
    let moves = from.as_slice().iter().zip(goal.as_slice());
    let farthest = moves.map(|(a, b)| (b - a).abs()).fold(0.0, f64::max);
    let steps = (farthest / step.max(1e-6)).ceil() as usize;
    let between = |number: usize| {
        let mut at = *from;
        for (q, goal) in at.as_mut_slice().iter_mut().zip(goal.as_slice()) {
            *q += (goal - *q) * number as f64 / steps as f64;
        }
        at
    };
    (1..=steps).map(between).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_joints_arrive_together() {
        let vector = |values: &[f64]| JointVector::from_slice(values).unwrap();
        let (from, goal) = (vector(&[0.0, 1.0, 0.0]), vector(&[1.0, 0.5, 0.0]));
        let way = straight(&from, &goal, 0.15);
        assert_eq!(way.len(), 7);
        assert_eq!(way[6], goal);
        for (number, at) in (1..).zip(&way) {
            let share = f64::from(number) / 7.0;
            assert!((at.as_slice()[0] - share).abs() < 1e-12);
            assert!((at.as_slice()[1] - (1.0 - 0.5 * share)).abs() < 1e-12);
        }
        assert!(straight(&goal, &goal, 0.15).is_empty());
    }

    fn rig(name: &str, overrides: &[&str]) -> Rig {
        let rigs = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../rigs");
        let overrides: Vec<_> = overrides.iter().map(|&s| s.to_owned()).collect();
        Rig::read(&rigs.join(name), &overrides).unwrap()
    }

    #[test]
    fn an_arm_goes_where_it_is_told_and_stands_still_there() {
        let stop = AtomicBool::new(false);
        let rig = rig(
            "so101-emulated.toml",
            &["device=lift-sim", "clock=simulated"],
        );
        let mut station = Station::open(&rig, &stop).unwrap();
        let mut joints = station.target(0).unwrap();
        for (q, by) in joints
            .as_mut_slice()
            .iter_mut()
            .zip([0.3, -0.2, 0.2, -0.3, 0.5])
        {
            *q += by;
        }
        let look = station.look_at(0, &joints).unwrap();
        assert_eq!(look.images.len(), 2);
        let state = &look.states[0];
        for (q, wanted) in state.joints.as_slice().iter().zip(joints.as_slice()) {
            assert!((q - wanted).abs() < 0.06, "{:?} {joints:?}", state.joints);
        }
        assert!(
            state
                .velocities
                .as_slice()
                .iter()
                .all(|v| v.abs() <= REST_RAD_S)
        );
        stop.store(true, Ordering::Relaxed);
        let error = station.look_at(0, &joints).unwrap_err();
        assert!(matches!(error, StationError::Stopped), "{error}");
    }

    #[test]
    fn what_is_not_there_is_named() {
        let stop = AtomicBool::new(false);
        let rig = rig("fake-dual.toml", &[]);
        let station = Station::open(&rig, &stop).unwrap();
        let error = station.camera("behind").unwrap_err().to_string();
        assert!(error.contains("no camera `behind`; it has "), "{error}");
        let error = station.chain(2).unwrap_err().to_string();
        assert!(error.contains("no arm 2; it has 2"), "{error}");
    }
}
