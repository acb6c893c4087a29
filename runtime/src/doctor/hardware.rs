//! The suites that every driver passes in its tests, run on the devices of a rig: the real thing is
//! asked the same questions. The arms move for that.

use hilt_drivers::conformance::{self, Violation};
use hilt_realtime::{Clock, Monotonic};

use super::Finding;
use crate::{
    cell::{CellError, devices::Devices},
    faulty::Faults,
    rig::Rig,
};

/// What [`hardware`] does with the arms, for whoever stands beside them.
pub const WARNING: &str = "each arm holds where it stands, then moves its first joint by 3° at once, and \
                           holds there; take hands and things away";

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
        let conforms = conformance::arm(&mut **arm, pass_ns);
        let says =
            "reads fresh states, refuses bad targets, moves to good ones, holds when stopped";
        findings.push(judge("arm", index.to_string(), says, conforms));
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
