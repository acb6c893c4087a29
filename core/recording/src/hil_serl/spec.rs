//! The rig of a file: told, or guessed; and what its actions mean there.

use std::path::Path;

use hilt_protocol::{CameraSpec, RigSpec};

use super::{HilSerlError, rows::Form};
use crate::guess;

/// So much noise HIL-SERL adds to what a person commands. Its environment cuts the sum to ±1 and executes that, but the
/// sum is what it records.
pub const NOISE: f32 = 0.5;
/// HIL-SERL's rate.
const POLICY_HZ: u32 = 10;

/// How a file's rows are to be read.
#[derive(Clone, Debug)]
pub(super) struct Fit {
    pub spec: RigSpec,
    /// The place of each camera of the spec among the file's.
    pub cameras: Vec<usize>,
    motion: Vec<usize>,
    grippers: Vec<usize>,
}

impl Fit {
    /// Of observations of a form, and actions of so many columns.
    pub fn of(
        form: &Form,
        columns: usize,
        told: Option<&RigSpec>,
        path: &Path,
    ) -> Result<Self, HilSerlError> {
        let spec = match told {
            Some(told) => told.clone(),
            None => {
                let names = form.names.clone();
                let names = names.unwrap_or_else(|| names_of(form.state));
                let guessed = guess::spec(columns, form.cameras.clone(), names, POLICY_HZ);
                guessed.map_err(|source| HilSerlError::Spec {
                    path: path.to_owned(),
                    source,
                })?
            }
        };
        let cameras = fit(&spec, form, columns).map_err(|reason| HilSerlError::Told {
            path: path.to_owned(),
            reason,
        })?;
        Ok(Self {
            cameras,
            motion: spec.motion_columns(),
            grippers: spec.gripper_columns(),
            spec,
        })
    }

    /// What was executed. Numbers far outside ±1 are nothing that HIL-SERL records: they stay as they are, for whoever
    /// learns from them to refuse.
    pub fn executed(&self, mut action: Vec<f32>) -> Vec<f32> {
        for &column in &self.motion {
            if action[column].abs() <= 1.0 + NOISE {
                action[column] = action[column].clamp(-1.0, 1.0);
            }
        }
        for &column in &self.grippers {
            if action[column].abs() <= 1.0 {
                // Without a minus before nothing.
                action[column] = action[column].round() + 0.0;
            }
        }
        action
    }
}

/// Where each camera of the spec is, or what does not fit.
fn fit(spec: &RigSpec, form: &Form, columns: usize) -> Result<Vec<usize>, String> {
    let numbers = [
        ("an action", spec.action_dim(), columns),
        ("`state`", spec.proprio_dim(), form.state),
    ];
    for (what, wanted, got) in numbers {
        if wanted != got {
            return Err(format!("{what} has {got} numbers, the spec's has {wanted}"));
        }
    }
    let place = |wanted: &CameraSpec| {
        let CameraSpec {
            name,
            height,
            width,
        } = wanted;
        let place = form.cameras.iter().position(|camera| camera.name == *name);
        match place.map(|place| (place, &form.cameras[place])) {
            None => Err(format!("there is no camera `{name}`")),
            Some((place, camera)) if camera == wanted => Ok(place),
            Some((_, camera)) => Err(format!(
                "camera `{name}` is {}×{}, in the spec it is {height}×{width}",
                camera.height, camera.width
            )),
        }
    };
    spec.cameras.iter().map(place).collect()
}

/// Names of a state of so many numbers: HIL-SERL's, if an arm or two have as many as there.
fn names_of(count: usize) -> Vec<String> {
    let (arms, pose) = match count {
        19 => (&[""][..], &EULER[..]),
        20 => (&[""][..], &QUATERNION[..]),
        38 => (&["left/", "right/"][..], &EULER[..]),
        40 => (&["left/", "right/"][..], &QUATERNION[..]),
        _ => return (0..count).map(|i| format!("state.{i}")).collect(),
    };
    let parts: [(&str, &[&str]); 5] = [
        ("gripper_pose", &[""]),
        ("tcp_force", &[".x", ".y", ".z"]),
        ("tcp_pose", pose),
        ("tcp_torque", &[".x", ".y", ".z"]),
        ("tcp_vel", &EULER),
    ];
    let of_arm = |arm: &&str| {
        let names = parts.iter().flat_map(|(part, numbers)| {
            numbers.iter().map(move |number| format!("{part}{number}"))
        });
        names.map(|name| format!("{arm}{name}")).collect::<Vec<_>>()
    };
    arms.iter().flat_map(of_arm).collect()
}

const EULER: [&str; 6] = [".x", ".y", ".z", ".roll", ".pitch", ".yaw"];
const QUATERNION: [&str; 7] = [".x", ".y", ".z", ".qx", ".qy", ".qz", ".qw"];

#[cfg(test)]
mod tests {
    use super::*;

    fn form(state: usize) -> Form {
        let camera = |name: &str, side| CameraSpec {
            name: name.into(),
            height: side,
            width: side,
        };
        Form {
            cameras: vec![camera("front", 64), camera("wrist", 128)],
            names: None,
            state,
        }
    }

    fn fitted(state: usize, columns: usize, told: Option<&RigSpec>) -> Result<Fit, String> {
        let fit = Fit::of(&form(state), columns, told, Path::new("demos.pkl"));
        fit.map_err(|error| error.to_string())
    }

    #[test]
    fn the_state_of_hil_serl_has_its_names() {
        for (count, place, name) in [
            (19, 0, "gripper_pose"),
            (19, 9, "tcp_pose.yaw"),
            (19, 18, "tcp_vel.yaw"),
            (20, 10, "tcp_pose.qw"),
            (38, 19, "right/gripper_pose"),
            (40, 39, "right/tcp_vel.yaw"),
            (7, 6, "state.6"),
        ] {
            let names = names_of(count);
            assert_eq!((names.len(), &*names[place]), (count, name));
        }
    }

    #[test]
    fn an_action_is_what_was_executed() {
        let fit = fitted(19, 7, None).unwrap();
        let asked = vec![0.3, -1.0, 1.4, -1.5, 1.6, 0.0, -0.95];
        let executed = [0.3, -1.0, 1.0, -1.0, 1.6, 0.0, -1.0];
        assert_eq!(fit.executed(asked), executed);
        for (asked, executed) in [(0.0, 0.0), (0.4, 0.0), (-0.4, 0.0), (0.91, 1.0), (3.0, 3.0)] {
            let mut action = vec![0.0; 7];
            action[6] = asked;
            let got = fit.executed(action)[6];
            assert_eq!(got.to_bits(), f32::to_bits(executed), "{asked}");
        }
    }

    #[test]
    fn a_told_spec_may_leave_cameras_out_and_must_fit() {
        let mut told = fitted(19, 6, None).unwrap().spec;
        told.cameras.remove(0);
        assert_eq!(fitted(19, 6, Some(&told)).unwrap().cameras, [1]);
        let refused = |state, columns, told: &RigSpec, words: &str| {
            let error = fitted(state, columns, Some(told)).unwrap_err();
            assert!(
                error.starts_with("demos.pkl ") && error.contains(words),
                "{error}"
            );
        };
        refused(19, 7, &told, "an action has 7 numbers, the spec's has 6");
        refused(20, 6, &told, "`state` has 20 numbers, the spec's has 19");
        told.cameras[0].height = 64;
        refused(19, 6, &told, "`wrist` is 128×128, in the spec it is 64×128");
        told.cameras[0].name = "side".into();
        refused(19, 6, &told, "there is no camera `side`");
        let error = fitted(19, 5, None).unwrap_err();
        assert!(
            error.starts_with("demos.pkl: ") && error.contains("--spec"),
            "{error}"
        );
    }
}
