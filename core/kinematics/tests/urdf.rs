//! Chains from URDF: where the tool is, and what is refused by name.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod arms;

use std::f64::consts::{FRAC_PI_2, FRAC_PI_4, PI};

use arms::{ARMS, arm};
use hilt_kinematics::{Chain, JointKind, UrdfError};
use nalgebra::Vector3;
use proptest::prelude::*;

/// Four links in a row and a finger beside them.
const ARM: &str = r#"<robot name="r">
  <link name="base"/> <link name="a"/> <link name="b"/> <link name="c"/> <link name="tip"/>
  <link name="finger"/>
  <joint name="turn" type="continuous">
    <parent link="base"/><child link="a"/><origin xyz="0 0 0.1"/><axis xyz="0 0 1"/>
  </joint>
  <joint name="bend" type="revolute">
    <parent link="a"/><child link="b"/><origin xyz="0.2 0 0" rpy="0 0 1.5707963267948966"/>
    <axis xyz="0 2 0"/><limit lower="-1" upper="2" effort="1" velocity="1"/>
  </joint>
  <joint name="bracket" type="fixed">
    <parent link="b"/><child link="c"/><origin xyz="0.3 0 0" rpy="1.5707963267948966 0 0"/>
  </joint>
  <joint name="slide" type="prismatic">
    <parent link="c"/><child link="tip"/><origin xyz="0 0 0.05"/>
    <limit lower="0" upper="0.1" effort="1" velocity="1"/>
  </joint>
  <joint name="grip" type="revolute">
    <parent link="tip"/><child link="finger"/><mimic joint="slide"/>
  </joint>
</robot>"#;

fn refused(find: &str, replace: &str) -> UrdfError {
    assert!(ARM.contains(find), "{find}");
    Chain::from_urdf(&ARM.replacen(find, replace, 1), "base", "tip").unwrap_err()
}

#[test]
fn joints_between_base_and_tip_are_the_chain() {
    let chain = Chain::from_urdf(ARM, "base", "tip").unwrap();
    let kinds: Vec<JointKind> = chain.joints().iter().map(|joint| joint.kind).collect();
    assert_eq!(
        kinds,
        [
            JointKind::Revolute,
            JointKind::Revolute,
            JointKind::Prismatic
        ]
    );
    let limits: Vec<_> = (chain.joints().iter())
        .map(|joint| (joint.lower, joint.upper))
        .collect();
    assert_eq!(limits, [(-PI, PI), (-1.0, 2.0), (0.0, 0.1)]);
    // Straight at zero: 0.2 along x, then along y by 0.3; the bracket tips z to -y of the turned frame,
    // which is x of the base. The slide's axis is x where none is given.
    let at = |q: &[f64]| chain.base_from_tool(q).translation.vector;
    let off = |q: &[f64], xyz: [f64; 3]| (at(q) - Vector3::from(xyz)).norm();
    assert!(
        off(&[0.0; 3], [0.25, 0.3, 0.1]) < 1e-12,
        "{}",
        at(&[0.0; 3])
    );
    assert!(off(&[0.0, 0.0, 0.1], [0.25, 0.4, 0.1]) < 1e-12);
    assert!(off(&[FRAC_PI_2, 0.0, 0.0], [-0.3, 0.25, 0.1]) < 1e-12);
    // About y of the turned frame, which is -x of the base: down.
    assert!(off(&[0.0, FRAC_PI_2, 0.0], [0.25, 0.0, -0.2]) < 1e-12);
    // From the middle to the middle.
    let part = Chain::from_urdf(ARM, "a", "c").unwrap();
    assert_eq!(part.dof(), 1);
    assert!(
        (part.base_from_tool(&[0.0]).translation.vector - Vector3::new(0.2, 0.3, 0.0)).norm()
            < 1e-12
    );
}

#[test]
fn the_arms_are_where_their_makers_say() {
    for (name, _, _) in ARMS {
        let joints = match name {
            "so101" => 5,
            "desk6" => 6,
            _ => 7,
        };
        assert_eq!(arm(name).dof(), joints, "{name}");
    }
    let ready = [
        0.0,
        -FRAC_PI_4,
        0.0,
        -3.0 * FRAC_PI_4,
        0.0,
        FRAC_PI_2,
        FRAC_PI_4,
    ];
    let flange = arm("fr3").base_from_tool(&ready).translation.vector;
    assert!(
        (flange - Vector3::new(0.306891, 0.0, 0.590282)).norm() < 1e-5,
        "{flange}"
    );
}

#[test]
fn every_mistake_names_the_joint_or_link_and_the_remedy() {
    let says = |error: UrdfError, words: &[&str]| {
        let text = error.to_string();
        for word in words {
            assert!(text.contains(word), "{text:?} does not say {word:?}");
        }
    };
    let between = |base, tip| Chain::from_urdf(ARM, base, tip).unwrap_err();
    says(
        between("base", "tool"),
        &["`tool`", "base, a, b, c, tip, finger"],
    );
    says(between("world", "tip"), &["`world`", "base, a, b"]);
    says(between("c", "a"), &["`a` is not below link `c`", "`base`"]);
    says(between("b", "c"), &["`b` and link `c`"]);
    says(between("base", "base"), &["nothing moves"]);
    says(between("base", "finger"), &["`grip` mimics `slide`"]);
    says(
        refused("\"revolute\"", "\"floating\""),
        &["`bend` is floating", "revolute"],
    );
    says(refused("\"fixed\"", "\"planar\""), &["`bracket` is planar"]);
    says(
        refused(
            "<limit lower=\"-1\" upper=\"2\" effort=\"1\" velocity=\"1\"/>",
            "",
        ),
        &["`bend`", "<limit"],
    );
    says(
        refused("upper=\"2\"", "upper=\"-2\""),
        &["`bend` goes from -1 to -2"],
    );
    says(refused("upper=\"2\"", "upper=\"inf\""), &["`bend`", "inf"]);
    says(refused("0 2 0", "0 0 0"), &["`bend`", "axis"]);
    says(refused("0 2 0", "0 nan 0"), &["`bend`", "axis"]);
    says(refused("0.3 0 0", "0.3 inf 0"), &["`bracket`", "finite"]);
    says(
        refused(
            "<parent link=\"tip\"/><child link=\"finger\"/>",
            "<parent link=\"a\"/><child link=\"c\"/>",
        ),
        &["`c`", "`bracket`", "`grip`"],
    );
    says(
        refused("<parent link=\"base\"/>", "<parent link=\"c\"/>"),
        &["above itself"],
    );
    says(refused("<child link=\"a\"/>", ""), &["no URDF"]);
    says(
        refused("\"revolute\"", "\"elastic\""),
        &["no URDF", "elastic"],
    );
    says(refused("</joint>", ""), &["line "]);
    let broken = refused("</robot>", "<");
    assert!(
        matches!(broken, UrdfError::Xml { .. } | UrdfError::Form(_)),
        "{broken}"
    );
    says(
        Chain::from_urdf("", "base", "tip").unwrap_err(),
        &["no URDF"],
    );
    let links = (0..=8).map(|i| format!("<link name=\"l{i}\"/>"));
    let joints = (0..8).map(|i| {
        format!(
            "<joint name=\"j{i}\" type=\"continuous\"><parent link=\"l{i}\"/><child link=\"l{}\"/></joint>",
            i + 1
        )
    });
    let long: String = links.chain(joints).collect();
    let long = format!("<robot name=\"r\">{long}</robot>");
    says(
        Chain::from_urdf(&long, "l0", "l8").unwrap_err(),
        &["8 joints", "j0, j1, j2", "at most 7"],
    );
    assert_eq!(Chain::from_urdf(&long, "l1", "l8").unwrap().dof(), 7);
}

#[test]
fn a_text_of_nothing_but_openings_is_an_error() {
    for text in ["<a>".repeat(100_000), "<robot><link>".repeat(50_000)] {
        let error = Chain::from_urdf(&text, "base", "tip").unwrap_err();
        assert!(error.to_string().contains("deep"), "{error}");
    }
}

proptest! {
    /// Whatever is cut out of the text or put into it: a chain or an error.
    #[test]
    fn no_text_makes_it_panic(
        at in 0usize..ARM.len(),
        cut in 0usize..40,
        put in "[ -~\u{e4}<>\"/=]{0,8}",
    ) {
        let end = (at + cut).min(ARM.len());
        let text = format!("{}{put}{}", &ARM[..at], &ARM[end..]);
        if let Err(error) = Chain::from_urdf(&text, "base", "tip") {
            prop_assert!(!error.to_string().is_empty());
        }
    }
}
