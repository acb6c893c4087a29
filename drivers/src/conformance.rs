//! One suite per trait. Every implementation passes it, in its tests; a failure says what was
//! expected. Written as functions that return the first violation, so that `hilt doctor` and tests
//! of real devices can run them too.

use hilt_protocol::{GripperCommand, JointVector};

use crate::{Arm, ArmError, ArmState, Camera, Teleop};

/// What an implementation does not do.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Violation(pub String);

fn require(holds: bool, words: impl FnOnce() -> String) -> Result<(), Violation> {
    if holds {
        Ok(())
    } else {
        Err(Violation(words()))
    }
}

fn unexpected<E: std::fmt::Display>(what: &'static str) -> impl FnOnce(E) -> Violation {
    move |e| Violation(format!("{what}: {e}"))
}

/// What a bus has for its replies.
const READ_NS: u64 = 1_000_000_000;

/// Tries until one must go well: a reply may be lost or late now and then, also where nothing is
/// broken.
const TRIES: usize = 25;

/// Does it until it goes well.
fn patiently<T>(
    what: &'static str,
    pass_ns: &mut impl FnMut(u64) -> u64,
    mut act: impl FnMut(u64) -> Result<T, ArmError>,
) -> Result<T, Violation> {
    let mut tried = 1;
    loop {
        match act(pass_ns(0)) {
            Err(error) if tried == TRIES => {
                return Err(Violation(format!("{what}, {TRIES} times: {error}")));
            }
            Err(_) => tried += 1,
            Ok(done) => return Ok(done),
        }
        // What is late comes meanwhile.
        pass_ns(1_000_000);
    }
}

/// A state without trouble, or with one that a second question has mended: all of it is new.
fn read(
    arm: &mut dyn Arm,
    pass_ns: &mut impl FnMut(u64) -> u64,
    what: &'static str,
) -> Result<ArmState, Violation> {
    patiently(what, pass_ns, |now_ns| {
        let state = arm.read_state(now_ns, now_ns + READ_NS)?;
        let old = state.captured_ns < now_ns;
        state.trouble.filter(|_| old).map_or(Ok(state), Err)
    })
}

/// What of a target an arm goes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Goes {
    /// Each joint.
    Joints,
    /// The tool; what the joints do meanwhile its device decides.
    Tool,
}

impl Goes {
    /// How far joints are from others: radians of the first one; metres or radians of the tool.
    fn apart(self, arm: &dyn Arm, a: &JointVector, b: &JointVector) -> f64 {
        match self {
            Self::Joints => (a.as_slice()[0] - b.as_slice()[0]).abs(),
            Self::Tool => {
                let [a, b] = [a, b].map(|joints| arm.chain().base_from_tool(joints.as_slice()));
                let shift_m = (a.translation.vector - b.translation.vector).norm();
                shift_m.max(a.rotation.angle_to(&b.rotation))
            }
        }
    }
}

/// Every arm: reports finite states in order, refuses bad targets without moving, moves to good
/// ones, holds when stopped. `pass_ns` lets time pass and gives the time it is then. The arm must
/// have room to move its first joint by 0.05 rad.
pub fn arm(arm: &mut dyn Arm, pass_ns: impl FnMut(u64) -> u64) -> Result<(), Violation> {
    any_arm(arm, Goes::Joints, pass_ns)
}

/// As [`fn@arm`], for one with more joints than its tool needs whose device takes poses of the tool: it
/// is asked where that is.
pub fn arm_by_pose(arm: &mut dyn Arm, pass_ns: impl FnMut(u64) -> u64) -> Result<(), Violation> {
    any_arm(arm, Goes::Tool, pass_ns)
}

fn any_arm(
    arm: &mut dyn Arm,
    goes: Goes,
    mut pass_ns: impl FnMut(u64) -> u64,
) -> Result<(), Violation> {
    patiently("start", &mut pass_ns, |_| arm.start())?;
    let state = read(arm, &mut pass_ns, "read_state")?;
    let read_ns = pass_ns(0);
    let dof = arm.chain().dof();
    require(state.joints.as_slice().len() == dof, || {
        "a state has one position per joint".into()
    })?;
    require(state.velocities.as_slice().len() == dof, || {
        "a state has one velocity per joint".into()
    })?;
    require(state.captured_ns <= read_ns, || {
        "a state is captured before it is given".into()
    })?;
    let numbers = [state.joints, state.velocities];
    let finite = numbers
        .iter()
        .all(|v| v.as_slice().iter().all(|x| x.is_finite()));
    require(finite && state.gripper_width_m.is_finite(), || {
        "a state is finite".into()
    })?;

    // Bad targets are refused by name.
    let mut bad = state.joints;
    bad.as_mut_slice()[0] = f64::NAN;
    let refused = arm.write(&bad, GripperCommand::Open);
    require(refused == Err(ArmError::NotFinite(0)), || {
        format!("NaN was answered by {refused:?}")
    })?;
    bad.as_mut_slice()[0] = arm.chain().joints()[0].upper + 1.0;
    let refused = arm.write(&bad, GripperCommand::Open);
    require(refused == Err(ArmError::OutOfLimits(0)), || {
        format!("a target beyond the limit was answered by {refused:?}")
    })?;
    let short = JointVector::from_slice(&state.joints.as_slice()[1..])
        .ok_or_else(|| Violation("the arm has too many joints".into()))?;
    let refused = arm.write(&short, GripperCommand::Open);
    let expected = Err(ArmError::Joints {
        expected: dof,
        got: dof - 1,
    });
    require(refused == expected, || {
        format!("a short target was answered by {refused:?}")
    })?;

    // A good one moves it there.
    let mut goal = state.joints;
    arm.chain().clamp(goal.as_mut_slice());
    let first = &mut goal.as_mut_slice()[0];
    // Where there is room.
    let up = *first + 0.05 <= arm.chain().joints()[0].upper;
    *first += if up { 0.05 } else { -0.05 };
    arm.write(&goal, GripperCommand::Open)
        .map_err(unexpected("write"))?;
    pass_ns(1_500_000_000);
    let there = read(arm, &mut pass_ns, "read_state")?;
    let error = goes.apart(arm, &there.joints, &goal);
    require(error < 0.01, || {
        let what = match goes {
            Goes::Joints => "first joint",
            Goes::Tool => "tool",
        };
        format!("1.5 s after its target the {what} is off by {error} rad or m")
    })?;
    require(there.captured_ns > state.captured_ns, || {
        "capture times go forward".into()
    })?;

    // Stopped, twice: it stays and refuses, until it is started.
    arm.stop().map_err(unexpected("stop"))?;
    arm.stop().map_err(unexpected("stopping twice"))?;
    let refused = arm.write(&state.joints, GripperCommand::Open);
    require(refused == Err(ArmError::Stopped), || {
        format!("a stopped arm answered a target by {refused:?}")
    })?;
    pass_ns(500_000_000);
    let held = read(arm, &mut pass_ns, "read_state while stopped")?;
    let moved = goes.apart(arm, &held.joints, &there.joints);
    require(moved < 0.01, || {
        format!("a stopped arm moved by {moved} rad or m")
    })?;
    patiently("start after stop", &mut pass_ns, |_| arm.start())?;
    arm.write(&held.joints, GripperCommand::Open)
        .map_err(unexpected("write after start"))
}

/// Every camera: frames of the promised size, capture times that do not run backwards and are not
/// in the future. `pass_ns` lets time pass and gives the time it is then.
pub fn camera(
    camera: &mut dyn Camera,
    mut pass_ns: impl FnMut(u64) -> u64,
) -> Result<(), Violation> {
    let spec = camera.spec().clone();
    let mut last_ns = 0;
    for _ in 0..3 {
        pass_ns(100_000_000);
        let image = camera.newest().map_err(unexpected("newest"))?;
        require(
            (image.height, image.width) == (spec.height, spec.width),
            || format!("{image:?} is not of the size that the spec says"),
        )?;
        let bytes = spec.height as usize * spec.width as usize * 3;
        require(image.rgb.len() == bytes, || {
            format!("{} bytes, not {bytes}", image.rgb.len())
        })?;
        require(image.captured_ns <= pass_ns(0), || {
            "a frame is captured before it is given".into()
        })?;
        require(image.captured_ns >= last_ns, || {
            "capture times do not run backwards".into()
        })?;
        last_ns = image.captured_ns;
    }
    require(last_ns > 0, || "new frames come as time passes".into())
}

/// Every teleop device: actions within range, acts as a person or a stand-in, an event is taken
/// once.
pub fn teleop(
    teleop: &mut dyn Teleop,
    mut pass_ns: impl FnMut(u64) -> u64,
) -> Result<(), Violation> {
    require(teleop.source().is_intervention(), || {
        format!("{:?} is no person's action", teleop.source())
    })?;
    for episode in 0..2 {
        teleop.begin_episode(episode);
        let stale = teleop.event().map_err(unexpected("event"))?;
        require(stale.is_none(), || {
            format!("{stale:?} before the episode's first step")
        })?;
        for _ in 0..5 {
            let now_ns = pass_ns(100_000_000);
            let intent = teleop.intent(now_ns).map_err(unexpected("intent"))?;
            if let Some(intent) = intent {
                let fits = intent
                    .motion
                    .iter()
                    .flatten()
                    .all(|v| (-1.0..=1.0).contains(v));
                require(fits, || {
                    format!("motion {:?} is outside [-1, 1]", intent.motion)
                })?;
                require(intent.captured_ns <= now_ns, || {
                    "an intent is not of the future".into()
                })?;
            }
        }
    }
    Ok(())
}
