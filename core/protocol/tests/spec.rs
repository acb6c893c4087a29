//! Layouts that follow from mode, axes and cameras.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use hilt_protocol::{Axis, CameraSpec, RigSpec, SetupMode, SpecError, noise};

fn spec(mode: SetupMode, axes: &[Axis]) -> RigSpec {
    RigSpec {
        mode,
        controlled_axes: axes.to_vec(),
        cameras: vec![CameraSpec {
            name: "front".into(),
            height: 128,
            width: 128,
        }],
        proprio: vec!["tool_x".into()],
        policy_hz: 10,
    }
}

const TWIST: [Axis; 6] = [
    Axis::X,
    Axis::Y,
    Axis::Z,
    Axis::Roll,
    Axis::Pitch,
    Axis::Yaw,
];

/// HIL-SERL's four layouts: 6, 6+1, 12, 6+1+6+1.
#[test]
fn action_layouts_are_hil_serls() {
    let dims = SetupMode::ALL.map(|mode| spec(mode, &TWIST).action_dim());
    assert_eq!(dims, [6, 7, 12, 14]);
    let dual = spec(SetupMode::DualArmLearnedGripper, &TWIST);
    assert_eq!(dual.gripper_columns(), [6, 13]);
    assert_eq!(
        dual.motion_columns(),
        [0, 1, 2, 3, 4, 5, 7, 8, 9, 10, 11, 12]
    );
    let lift = spec(SetupMode::SingleArmLearnedGripper, &TWIST[..3]);
    assert_eq!(
        (lift.motion_columns(), lift.gripper_columns()),
        (vec![0, 1, 2], vec![3])
    );
    assert!(
        spec(SetupMode::DualArmFixedGripper, &TWIST)
            .gripper_columns()
            .is_empty()
    );
}

#[test]
fn modes_have_names_both_ways() {
    for mode in SetupMode::ALL {
        assert_eq!(mode.name().parse(), Ok(mode));
    }
    assert!(
        "three-arms"
            .parse::<SetupMode>()
            .unwrap_err()
            .to_string()
            .contains("dual-arm-learned-gripper")
    );
}

#[test]
fn equal_specs_and_only_they_share_a_hash() {
    let base = spec(SetupMode::SingleArmLearnedGripper, &TWIST[..3]);
    let mut others = vec![
        spec(SetupMode::SingleArmFixedGripper, &TWIST[..3]),
        spec(
            SetupMode::SingleArmLearnedGripper,
            &[Axis::Y, Axis::X, Axis::Z],
        ),
    ];
    let change = |f: fn(&mut RigSpec)| {
        let mut other = base.clone();
        f(&mut other);
        other
    };
    others.push(change(|s| s.cameras[0].width = 64));
    others.push(change(|s| s.cameras[0].name = "wrist".into()));
    others.push(change(|s| s.proprio.push("tool_y".into())));
    others.push(change(|s| s.policy_hz = 20));
    assert_eq!(base.hash(), base.clone().hash());
    assert!(others.iter().all(|other| other.hash() != base.hash()));
}

#[test]
fn impossible_specs_are_named() {
    let mut twice = spec(SetupMode::SingleArmFixedGripper, &[Axis::X, Axis::X]);
    assert_eq!(twice.validate(), Err(SpecError::AxisTwice("x")));
    twice.controlled_axes.pop();
    twice.cameras.push(twice.cameras[0].clone());
    assert_eq!(
        twice.validate(),
        Err(SpecError::CameraTwice("front".into()))
    );
    twice.cameras.clear();
    assert_eq!(twice.validate(), Err(SpecError::NoCamera));
}

/// Recorded seeds must give the same noise for ever: these numbers are part of the format.
#[test]
fn noise_is_a_fixed_function_of_its_seed() {
    let normals = noise::normals(42, 20_000);
    assert_eq!(normals[..3], noise::normals(42, 3)[..]);
    assert_ne!(normals[..3], noise::normals(43, 3)[..]);
    let mean = normals.iter().map(|&x| f64::from(x)).sum::<f64>() / 2e4;
    let variance = normals.iter().map(|&x| f64::from(x).powi(2)).sum::<f64>() / 2e4;
    assert!(
        mean.abs() < 0.03 && (variance - 1.0).abs() < 0.04,
        "{mean} {variance}"
    );
    let gumbels = noise::gumbels(7, 20_000);
    let mean = gumbels.iter().map(|&x| f64::from(x)).sum::<f64>() / 2e4;
    assert!((mean - 0.577_215_66).abs() < 0.04, "{mean}");
    // SplitMix64's published first output for seed 0.
    assert_eq!(noise::Uniforms::new(0).bits(), 0xe220_a839_7b1d_cdaf);
}
