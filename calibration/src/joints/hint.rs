//! Which way is positive, in words for a person who stands behind the arm.

use hilt_kinematics::{Chain, MAX_JOINTS};

/// A tool that moves less than this for a radian, metres, is turned rather than moved.
const MOVES_M_PER_RAD: f64 = 0.03;

/// Where the tool goes when joint `joint` is turned a little in its positive direction from the pose
/// `at_rad`. Seen from behind the arm: its base's x is forward, y left, z up.
pub fn positive(chain: &Chain, at_rad: &[f64], joint: usize) -> &'static str {
    let (_, jacobian) = chain.jacobian(at_rad);
    let column = jacobian.column(joint.min(MAX_JOINTS - 1));
    let (moves, turns) = (column.fixed_rows::<3>(0), column.fixed_rows::<3>(3));
    let largest = |v: [f64; 3]| {
        let axis = (0..3).fold(
            0,
            |best, i| if v[i].abs() > v[best].abs() { i } else { best },
        );
        2 * axis + usize::from(v[axis] < 0.0)
    };
    match moves.norm() > MOVES_M_PER_RAD {
        true => [
            "the tool moves forward",
            "the tool moves back",
            "the tool moves to the left",
            "the tool moves to the right",
            "the tool moves up",
            "the tool moves down",
        ][largest([moves[0], moves[1], moves[2]])],
        // Counterclockwise for whom the axis points to.
        false => [
            "the tool turns counterclockwise, seen from in front of the arm",
            "the tool turns clockwise, seen from in front of the arm",
            "the tool turns counterclockwise, seen from the arm's left",
            "the tool turns clockwise, seen from the arm's left",
            "the tool turns counterclockwise, seen from above",
            "the tool turns clockwise, seen from above",
        ][largest([turns[0], turns[1], turns[2]])],
    }
}

#[cfg(test)]
mod tests {
    use hilt_sim::ArmKind;

    use super::*;

    #[test]
    fn an_so101_that_stands_upright() {
        let chain = hilt_sim::chain(ArmKind::So101).unwrap();
        let words = (0..5).map(|joint| positive(&chain, &[0.0; 5], joint));
        let words: Vec<_> = words.collect();
        assert_eq!(
            words,
            [
                "the tool moves to the left",
                "the tool moves down",
                "the tool moves down",
                "the tool moves down",
                "the tool turns counterclockwise, seen from in front of the arm",
            ]
        );
    }

    /// What the words say is where the kinematics goes.
    #[test]
    fn the_words_are_the_kinematics() {
        for kind in [ArmKind::Desk6, ArmKind::Koch] {
            let chain = hilt_sim::chain(kind).unwrap();
            let at = vec![0.3; chain.dof()];
            for joint in 0..chain.dof() {
                let words = positive(&chain, &at, joint);
                let mut turned = at.clone();
                turned[joint] += 1e-4;
                let moved = chain.base_from_tool(&turned).translation.vector
                    - chain.base_from_tool(&at).translation.vector;
                let seen = [
                    ("forward", moved.x),
                    ("back", -moved.x),
                    ("left", moved.y),
                    ("right", -moved.y),
                    ("up", moved.z),
                    ("down", -moved.z),
                ];
                let Some(axis) = words.strip_prefix("the tool moves ") else {
                    continue;
                };
                let (_, along) = seen.iter().find(|(name, _)| axis.ends_with(name)).unwrap();
                assert!(*along > 0.5 * moved.norm(), "{words} {moved}");
            }
        }
    }
}
