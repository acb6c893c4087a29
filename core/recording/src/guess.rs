//! A rig's spec for data of programs that keep none.

use hilt_protocol::{Axis, CameraSpec, RigSpec, SetupMode, SpecError};

/// Why no spec comes to mind.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum GuessError {
    /// So many columns are no rig's that is known.
    #[error(
        "actions of {0} numbers are no known rig's (3, 6 or 12 without grippers, 4, 7, 8 or 14 with): say what they \
         are with --spec spec.json, the file that lies beside every run"
    )]
    Columns(usize),
    /// What was read does not fit together.
    #[error(transparent)]
    Spec(#[from] SpecError),
}

/// The rig that actions of so many columns most likely come from, by HIL-SERL's setup modes: 6 and 12 move one and two
/// arms along all axes, 7 and 14 work their grippers too; 3, 4 and 8 are the same with positions alone, as gym-hil has
/// it.
pub fn spec(
    columns: usize,
    cameras: Vec<CameraSpec>,
    proprio: Vec<String>,
    policy_hz: u32,
) -> Result<RigSpec, GuessError> {
    use SetupMode::{
        DualArmFixedGripper, DualArmLearnedGripper, SingleArmFixedGripper, SingleArmLearnedGripper,
    };
    let (mode, axes) = match columns {
        3 => (SingleArmFixedGripper, 3),
        4 => (SingleArmLearnedGripper, 3),
        6 => (SingleArmFixedGripper, 6),
        7 => (SingleArmLearnedGripper, 6),
        8 => (DualArmLearnedGripper, 3),
        12 => (DualArmFixedGripper, 6),
        14 => (DualArmLearnedGripper, 6),
        _ => return Err(GuessError::Columns(columns)),
    };
    let spec = RigSpec {
        mode,
        controlled_axes: Axis::ALL[..axes].to_vec(),
        cameras,
        proprio,
        policy_hz,
    };
    spec.validate()?;
    Ok(spec)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn camera() -> CameraSpec {
        CameraSpec {
            name: "front".into(),
            height: 128,
            width: 128,
        }
    }

    #[test]
    fn a_guessed_spec_has_as_many_columns_as_the_actions() {
        for columns in 0..20 {
            match spec(columns, vec![camera()], vec![], 10) {
                Ok(spec) => assert_eq!(spec.action_dim(), columns),
                Err(error) => assert_eq!(error, GuessError::Columns(columns)),
            }
        }
    }

    #[test]
    fn cameras_are_looked_at() {
        let twice = spec(6, vec![camera(), camera()], vec![], 10);
        assert_eq!(
            twice,
            Err(GuessError::Spec(SpecError::CameraTwice("front".into())))
        );
    }
}
