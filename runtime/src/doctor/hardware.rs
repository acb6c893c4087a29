//! The suites that every driver passes in its tests, run on the devices of a rig: the real thing is
//! asked the same questions. The arms move for that.

use hilt_drivers::{
    Arm, ArmError,
    bus::Health,
    conformance::{self, Violation},
};
use hilt_realtime::{Clock, Monotonic};

use super::Finding;
use crate::{
    cell::{CellError, devices::Devices},
    faulty::Faults,
    rig::{ArmSettings, Rig},
};

/// What [`hardware`] does with the arms, for whoever stands beside them.
pub const WARNING: &str = "each arm holds where it stands, opens its gripper, moves its first joint by 3° at \
                           once, and holds there; take hands and things away";

/// Asks the rig's arms and cameras. Nobody else has them meanwhile, and the arms hold afterwards.
pub fn hardware(rig: &Rig) -> Result<Vec<Finding>, CellError> {
    // No loop beats for a supervisor here, and it would take the buses.
    let rig = Rig {
        supervisor: None,
        ..rig.clone()
    };
    let mut devices = Devices::open(&rig, &Faults::begin(None, Monotonic))?;
    let pass_ns = |duration_ns| {
        let until_ns = Monotonic.now_ns() + duration_ns;
        Monotonic.sleep_until_ns(until_ns);
        Monotonic.now_ns()
    };
    let mut findings = Vec::new();
    for (index, arm) in devices.arms.iter_mut().enumerate() {
        if let Some(outside) = outside(index, &mut **arm) {
            findings.push(outside);
            continue;
        }
        let conforms = match rig.arms.get(index) {
            Some(ArmSettings::Franka(_)) => conformance::arm_by_pose(&mut **arm, pass_ns),
            _ => conformance::arm(&mut **arm, pass_ns),
        };
        let says =
            "reads fresh states, refuses bad targets, moves to good ones, holds when stopped";
        findings.push(judge("arm", index.to_string(), says, conforms));
        findings.extend(servos(index, arm.examine()));
        if let Err(error) = arm.stop() {
            findings.push(judge(
                "arm",
                index.to_string(),
                "",
                Err(Violation(error.to_string())),
            ));
        }
    }
    for camera in &mut devices.cameras {
        let conforms = conformance::camera(&mut **camera, pass_ns);
        let says = "gives new frames of its size, with capture times that go forward";
        let name = camera.spec().name.clone();
        findings.push(judge("camera", name, says, conforms));
    }
    Ok(findings)
}

/// An arm that reads outside its joints' limits would jump to them. So it is not moved: most likely its
/// counts at zero are not measured yet.
fn outside(index: usize, arm: &mut dyn Arm) -> Option<Finding> {
    let now_ns = Monotonic.now_ns();
    // What cannot be read is the suite's to tell.
    let state = arm.read_state(now_ns, now_ns + 1_000_000_000).ok()?;
    let joints = state.joints.as_slice().iter().zip(arm.chain().joints());
    let mut outside = joints
        .enumerate()
        .filter(|(_, (q, joint))| !(joint.lower - NEAR_RAD..=joint.upper + NEAR_RAD).contains(*q));
    let (joint, (q, limits)) = outside.next()?;
    let (lower, upper) = (limits.lower, limits.upper);
    let says = format!(
        "{index} was not moved: joint {joint} reads {q:.2} rad and goes from {lower:.2} to {upper:.2}"
    );
    let remedy =
        "calibrate it with hilt calibrate joints, or put the arm within its limits by hand";
    Some(Finding::note("arm", says, remedy.to_owned()).must_be_mended_if(true))
}

/// So little beyond a limit is the play of a joint that stands at it.
const NEAR_RAD: f64 = 0.03;

/// Warmer than this a servo is on its way to letting go: they do at 70 or 80 °C.
const WARM_C: f64 = 60.0;

/// What an arm's servos say of themselves.
fn servos(arm: usize, healths: Result<Vec<Health>, ArmError>) -> Option<Finding> {
    let subject = "servos";
    let healths = match healths {
        Ok(healths) if healths.is_empty() => return None,
        Ok(healths) => healths,
        Err(error) => {
            let says = format!("of arm {arm} cannot be asked: {error}");
            return Some(Finding::note(subject, says, None).must_be_mended_if(true));
        }
    };
    let warmest_c = healths
        .iter()
        .map(|h| h.temperature_c)
        .fold(f64::MIN, f64::max);
    let lowest_v = healths.iter().map(|h| h.supply_v).fold(f64::MAX, f64::min);
    let says = format!("of arm {arm}: {warmest_c:.0} °C at most, {lowest_v:.1} V at least");
    if let Some(bad) = healths.iter().find(|h| h.errors != 0) {
        let (id, errors) = (bad.id, bad.errors);
        let says = format!("{says}; servo {id} reports an error (bits {errors:#010b})");
        let remedy =
            "see its manual; let it cool down, free its joint, look at the supply".to_owned();
        return Some(Finding::note(subject, says, remedy).must_be_mended_if(true));
    }
    Some(match warmest_c > WARM_C {
        true => Finding::note(subject, says, "let the arm rest".to_owned()),
        false => Finding::ok(subject, says),
    })
}

fn judge(
    subject: &'static str,
    name: String,
    says: &str,
    conforms: Result<(), Violation>,
) -> Finding {
    match conforms {
        Ok(()) => Finding::ok(subject, format!("{name} {says}")),
        Err(violation) => {
            let says = format!("{name} does not do what every {subject} must: {violation}");
            Finding::note(subject, says, None).must_be_mended_if(true)
        }
    }
}
