//! A pose, and which way is positive, in words for a person who stands behind the arm.

use hilt_kinematics::{Chain, MAX_JOINTS};
use nalgebra::Vector3;

/// Axes nearer to each other than this, metres, are one place to a person.
const NEAR_M: f64 = 0.035;

/// So near to an axis of the base a line is straight, degrees.
const STRAIGHT_DEG: f64 = 3.0;

/// The axes of the base, and the same backwards.
const WAYS: [&str; 6] = ["forward", "back", "left", "right", "up", "down"];

/// How the arm looks in the pose `at_rad`: where the line goes from each joint's axis to the next one that is
/// not at the same place, and to the tool. `names`: the joints'.
pub fn pose(chain: &Chain, names: &[String], at_rad: &[f64]) -> Vec<String> {
    let joints = chain.joints();
    let mut places = Vec::new();
    // The first one's line is the base's, and shows nothing.
    for (joint, name) in names.iter().enumerate().take(joints.len()).skip(1) {
        let part = Chain::new(joints[..joint].to_vec(), joints[joint].parent_from_joint);
        let at = part.map(|part| part.base_from_tool(&at_rad[..joint]).translation.vector);
        places.extend(at.ok().map(|at| (name.as_str(), at)));
    }
    let tool = chain.base_from_tool(at_rad).translation.vector;
    places.push(("the tool", tool));
    let mut lines = Vec::new();
    let mut from = 0;
    for to in 1..places.len() {
        let line = places[to].1 - places[from].1;
        // What lies between is nothing to see, but the tool is the end of all.
        if line.norm() < NEAR_M && to + 1 < places.len() {
            // The line begins at the farther one of both.
            from = to;
            continue;
        }
        let words = way(line);
        lines.push(format!(
            "from {} to {}: {words}",
            places[from].0, places[to].0
        ));
        from = to;
    }
    lines
}

/// Where a line goes: the nearest axis of the base, and how far it leans to the next one.
fn way(line: Vector3<f64>) -> String {
    let mut along: Vec<(usize, f64)> = (0..6)
        .map(|way| (way, line[way / 2] * [1.0, -1.0][way % 2]))
        .collect();
    along.sort_by(|a, b| b.1.total_cmp(&a.1));
    let [(first, most), (second, next), ..] = along[..] else {
        return String::new();
    };
    let leans = next.atan2(most).to_degrees();
    match leans < STRAIGHT_DEG {
        true => format!("straight {}", WAYS[first]),
        false => format!("{}, {leans:.0}° {}", WAYS[first], WAYS[second]),
    }
}

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
    use std::f64::consts::FRAC_PI_2;

    use hilt_sim::ArmKind;

    use super::*;

    #[test]
    fn an_so101_at_zero() {
        let chain = hilt_sim::chain(ArmKind::So101).unwrap();
        let names = ["pan", "lift", "elbow", "flex", "roll"].map(str::to_owned);
        let zero = pose(&chain, &names, &[0.0; 5]);
        assert_eq!(
            zero,
            [
                "from lift to elbow: up, 14° forward",
                "from elbow to flex: straight forward",
                "from flex to roll: straight forward",
                // Between the jaws, the one of which turns.
                "from roll to the tool: forward, 6° right",
            ]
        );
        // Turned to the left and down at the wrist.
        let turned = pose(&chain, &names, &[FRAC_PI_2, 0.0, 0.0, FRAC_PI_2, 0.0]);
        assert_eq!(turned[1], "from elbow to flex: straight left");
        assert_eq!(turned[3], "from roll to the tool: down, 6° forward");
    }

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
