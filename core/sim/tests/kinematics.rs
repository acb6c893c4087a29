//! Our kinematics against MuJoCo's own: of the arms' models, and of a URDF that both read.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use hilt_kinematics::Chain;
use hilt_protocol::noise::Uniforms;
use hilt_sim::{ArmKind, SceneConfig, chain};
use mujoco_rs::prelude::*;
use nalgebra::{Isometry3, Matrix3, Vector3};

const CLOSE: f64 = 1e-9;

/// Six joints that stand askew, of all kinds, a fixed joint among them, one before them and one after.
const ODD: &str = r#"<robot name="odd">
  <mujoco><compiler fusestatic="false" strippath="true"/></mujoco>
  <link name="stand"><inertial><mass value="1"/><inertia ixx="1" ixy="0" ixz="0" iyy="1" iyz="0" izz="1"/></inertial></link>
  <link name="plate"><inertial><mass value="1"/><inertia ixx="1" ixy="0" ixz="0" iyy="1" iyz="0" izz="1"/></inertial></link>
  <link name="a"><inertial><mass value="1"/><inertia ixx="1" ixy="0" ixz="0" iyy="1" iyz="0" izz="1"/></inertial></link>
  <link name="b"><inertial><mass value="1"/><inertia ixx="1" ixy="0" ixz="0" iyy="1" iyz="0" izz="1"/></inertial></link>
  <link name="c"><inertial><mass value="1"/><inertia ixx="1" ixy="0" ixz="0" iyy="1" iyz="0" izz="1"/></inertial></link>
  <link name="elbow"><inertial><mass value="1"/><inertia ixx="1" ixy="0" ixz="0" iyy="1" iyz="0" izz="1"/></inertial></link>
  <link name="d"><inertial><mass value="1"/><inertia ixx="1" ixy="0" ixz="0" iyy="1" iyz="0" izz="1"/></inertial></link>
  <link name="e"><inertial><mass value="1"/><inertia ixx="1" ixy="0" ixz="0" iyy="1" iyz="0" izz="1"/></inertial></link>
  <link name="f"><inertial><mass value="1"/><inertia ixx="1" ixy="0" ixz="0" iyy="1" iyz="0" izz="1"/></inertial></link>
  <link name="tip"><inertial><mass value="1"/><inertia ixx="1" ixy="0" ixz="0" iyy="1" iyz="0" izz="1"/></inertial></link>
  <joint name="foot" type="fixed">
    <parent link="stand"/><child link="plate"/><origin xyz="0.1 -0.2 0.3" rpy="0.4 -0.5 0.6"/>
  </joint>
  <joint name="j1" type="revolute">
    <parent link="plate"/><child link="a"/><origin xyz="0.02 0.03 0.11" rpy="-0.3 0.7 1.9"/>
    <axis xyz="0.2 -0.4 0.9"/><limit lower="-1.1" upper="2.3" effort="1" velocity="1"/>
  </joint>
  <joint name="j2" type="revolute">
    <parent link="a"/><child link="b"/><origin xyz="-0.05 0.2 0.07" rpy="2.8 -1.2 0.4"/>
    <axis xyz="0 -3 0"/><limit lower="-2" upper="-0.5" effort="1" velocity="1"/>
  </joint>
  <joint name="j3" type="prismatic">
    <parent link="b"/><child link="c"/><origin xyz="0.3 0 0.01" rpy="0 1.4 -2.2"/>
    <axis xyz="1 1 -1"/><limit lower="-0.05" upper="0.2" effort="1" velocity="1"/>
  </joint>
  <joint name="bracket" type="fixed">
    <parent link="c"/><child link="elbow"/><origin xyz="0.01 -0.09 0.2" rpy="-1.3 0.2 3.0"/>
  </joint>
  <joint name="j4" type="revolute">
    <parent link="elbow"/><child link="d"/><origin xyz="0.12 0.01 -0.04" rpy="0.9 0.1 -0.7"/>
    <axis xyz="-1 0.5 0.25"/><limit lower="-1.5" upper="1.5" effort="1" velocity="1"/>
  </joint>
  <joint name="j5" type="revolute">
    <parent link="d"/><child link="e"/><origin xyz="0 0 0.18" rpy="1.5707963267948966 0 -1.5707963267948966"/>
    <limit lower="-2.9" upper="0.1" effort="1" velocity="1"/>
  </joint>
  <joint name="j6" type="continuous">
    <parent link="e"/><child link="f"/><origin rpy="0.3 1.5 0.2"/><axis xyz="0 0.6 0.8"/>
  </joint>
  <joint name="flange" type="fixed">
    <parent link="f"/><child link="tip"/><origin xyz="0.03 0.02 0.1" rpy="3.0 -0.2 1.0"/>
  </joint>
</robot>"#;

/// Joints anywhere within their limits.
fn anywhere(chain: &Chain, uniforms: &mut Uniforms) -> Vec<f64> {
    let joints = chain.joints().iter();
    joints
        .map(|joint| uniforms.range(joint.lower, joint.upper))
        .collect()
}

/// What MuJoCo says: row by row, of the Jacobians a column for each of its velocities.
struct Theirs {
    position: [f64; 3],
    rotation: [f64; 9],
    linear: Vec<f64>,
    angular: Vec<f64>,
}

/// Where the tool is, and how it moves, by both; our joints are these columns of MuJoCo's Jacobians.
fn compare(what: &str, chain: &Chain, q: &[f64], columns: &[usize], theirs: &Theirs) {
    let Theirs {
        position,
        rotation,
        linear,
        angular,
    } = theirs;
    let (tool, jacobian): (Isometry3<f64>, _) = chain.jacobian(q);
    assert_eq!(tool, chain.base_from_tool(q));
    let off_m = (tool.translation.vector - Vector3::from(*position)).norm();
    assert!(off_m < CLOSE, "{what} at {q:?}: {off_m}");
    let ours = tool.rotation.to_rotation_matrix();
    let off = (ours.matrix() - Matrix3::from_row_slice(rotation)).amax();
    assert!(off < CLOSE, "{what} at {q:?}: {off}");
    let width = linear.len() / 3;
    for (column, &place) in columns.iter().enumerate() {
        for row in 0..3 {
            let pairs = [
                (jacobian[(row, column)], linear[row * width + place]),
                (jacobian[(row + 3, column)], angular[row * width + place]),
            ];
            for (ours, theirs) in pairs {
                assert!(
                    (ours - theirs).abs() < CLOSE,
                    "{what} at {q:?}: joint {column}, row {row}: {ours} is not {theirs}"
                );
            }
        }
    }
}

#[test]
fn the_arms_move_as_mujoco_says() {
    for (kind, names) in [
        (
            ArmKind::Desk6,
            &["pan", "lift", "elbow", "pitch", "roll", "yaw"][..],
        ),
        (
            ArmKind::So101,
            &["pan", "lift", "elbow", "flex", "roll"][..],
        ),
        (ArmKind::Koch, &["pan", "lift", "elbow", "flex", "roll"][..]),
    ] {
        let scene = SceneConfig {
            arm: kind,
            cameras: Vec::new(),
            ..SceneConfig::default()
        };
        let model = MjModel::from_xml_string(&scene.mjcf().unwrap()).unwrap();
        let joints: Vec<usize> = (names.iter())
            .map(|name| model.name_to_id(MjtObjBase::mjOBJ_JOINT, name).unwrap())
            .collect();
        let place = |of: &[i32]| -> Vec<usize> { joints.iter().map(|&j| of[j] as usize).collect() };
        let (at, columns) = (place(model.jnt_qposadr()), place(model.jnt_dofadr()));
        let site = model.name_to_id(MjtObjBase::mjOBJ_SITE, "tool").unwrap();
        let chain = chain(kind).unwrap();
        let mut data = MjData::new(Box::new(model));
        let mut uniforms = Uniforms::new(2);
        for _ in 0..500 {
            let q = anywhere(&chain, &mut uniforms);
            for (&at, &q) in at.iter().zip(&q) {
                data.qpos_mut()[at] = q;
            }
            data.kinematics();
            data.com_pos();
            let (linear, angular) = data.jac_site(true, true, site);
            let theirs = Theirs {
                position: data.site_xpos()[site],
                rotation: data.site_xmat()[site],
                linear,
                angular,
            };
            compare(&format!("{kind:?}"), &chain, &q, &columns, &theirs);
        }
    }
}

#[test]
fn a_urdf_is_read_as_mujoco_reads_it() {
    let model = MjModel::from_xml_string(ODD).unwrap();
    let chain = Chain::from_urdf(ODD, "stand", "tip").unwrap();
    assert_eq!((chain.dof(), model.jnt_range().len()), (6, 6));
    // All but the last, which has no limits there.
    for (joint, range) in chain.joints().iter().zip(model.jnt_range()).take(5) {
        assert_eq!([joint.lower, joint.upper], *range);
    }
    let tip = model.name_to_id(MjtObjBase::mjOBJ_BODY, "tip").unwrap();
    let mut data = MjData::new(Box::new(model));
    let mut uniforms = Uniforms::new(3);
    for _ in 0..500 {
        let q = anywhere(&chain, &mut uniforms);
        data.qpos_mut().copy_from_slice(&q);
        data.kinematics();
        data.com_pos();
        let (linear, angular) = data.jac_body(true, true, tip);
        let theirs = Theirs {
            position: data.xpos()[tip],
            rotation: data.xmat()[tip],
            linear,
            angular,
        };
        compare("the URDF", &chain, &q, &[0, 1, 2, 3, 4, 5], &theirs);
    }
}

/// What the tests and the bench of `core/kinematics` claim, they claim of these arms.
#[test]
fn the_urdfs_of_the_kinematics_tests_are_these_arms() {
    let so101 = include_str!("../../kinematics/tests/arms/so101.urdf");
    let desk6 = include_str!("../../kinematics/tests/arms/desk6.urdf");
    for (kind, text) in [(ArmKind::So101, so101), (ArmKind::Desk6, desk6)] {
        let (ours, theirs) = (
            Chain::from_urdf(text, "base", "tool").unwrap(),
            chain(kind).unwrap(),
        );
        for (ours, theirs) in ours.joints().iter().zip(theirs.joints()) {
            assert_eq!((ours.lower, ours.upper), (theirs.lower, theirs.upper));
        }
        let mut uniforms = Uniforms::new(4);
        for _ in 0..100 {
            let q = anywhere(&ours, &mut uniforms);
            let (a, b) = (ours.base_from_tool(&q), theirs.base_from_tool(&q));
            let off = (a.to_homogeneous() - b.to_homogeneous()).amax();
            assert!(off < CLOSE, "{kind:?}: {off}");
        }
    }
}
