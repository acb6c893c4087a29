use hilt_drivers::emulated::lift_config;
use hilt_protocol::calibration::{GripperCalibration, JointCalibration};
use hilt_sim::ArmKind;

use super::*;

fn subject(kind: ArmKind) -> Subject {
    let config = lift_config(kind).unwrap();
    Subject::new(&config, hilt_sim::chain(kind).unwrap(), None).unwrap()
}

/// An SO-101's as LeRobot writes it.
const SO101: &str = r#"{
    "shoulder_pan": {
        "id": 1,
        "drive_mode": 0,
        "homing_offset": -1365,
        "range_min": 746,
        "range_max": 3277
    },
    "shoulder_lift": {
        "id": 2,
        "drive_mode": 0,
        "homing_offset": 2047,
        "range_min": 822,
        "range_max": 3211
    },
    "elbow_flex": {
        "id": 3,
        "drive_mode": 1,
        "homing_offset": -986,
        "range_min": 901,
        "range_max": 3110
    },
    "wrist_flex": {
        "id": 4,
        "drive_mode": 0,
        "homing_offset": -2047,
        "range_min": 849,
        "range_max": 3216
    },
    "wrist_roll": {
        "id": 5,
        "drive_mode": 0,
        "homing_offset": 31,
        "range_min": 0,
        "range_max": 4095
    },
    "gripper": {
        "id": 6,
        "drive_mode": 0,
        "homing_offset": 1407,
        "range_min": 2030,
        "range_max": 3511
    }
}"#;

/// What a bus with these servos makes of a plan.
fn written(plan: &Plan) -> ArmCalibration {
    let servo = |id, keep: &Keep| ServoIdentity {
        id,
        model: 777,
        firmware: "3.10".into(),
        offset_counts: keep.offset_counts,
        lowest_counts: keep.lowest_counts,
        highest_counts: keep.highest_counts,
    };
    let joints = plan.joints.iter().map(|joint| JointCalibration {
        name: joint.name.clone(),
        zero_counts: joint.zero_counts,
        direction: joint.direction,
        servo: servo(joint.id, &joint.keep),
    });
    ArmCalibration {
        index: 0,
        date: String::new(),
        family: plan.family.name().into(),
        joints: joints.collect(),
        gripper: GripperCalibration {
            open_counts: plan.gripper.open_counts,
            closed_counts: plan.gripper.closed_counts,
            servo: servo(plan.gripper.id, &plan.gripper.keep),
        },
    }
}

#[test]
fn a_file_comes_back_as_it_was() {
    let turned = SO101.replacen("\"drive_mode\": 0", "\"drive_mode\": 1", 1);
    let gripper = format!(
        "{}{}",
        &SO101[..SO101.len() - 100],
        SO101[SO101.len() - 100..].replace("\"drive_mode\": 0", "\"drive_mode\": 1")
    );
    for text in [SO101, &turned, &gripper] {
        let plan = import(text, &subject(ArmKind::So101)).unwrap();
        assert_eq!(export(&written(&plan)), text);
    }
}

#[test]
fn zero_is_where_the_middles_meet() {
    let plan = import(SO101, &subject(ArmKind::So101)).unwrap();
    let [pan, _, elbow, _, roll] = &plan.joints[..] else {
        panic!("{plan:?}");
    };
    assert_eq!((pan.zero_counts, pan.direction), (2012, Direction::Along));
    assert_eq!(
        (elbow.zero_counts, elbow.direction),
        (2006, Direction::Against)
    );
    // The shape's roll goes from -2.7439 to 2.8412: its middle is 32 counts above zero.
    assert_eq!(roll.zero_counts, 2016);
    assert_eq!(
        (plan.gripper.closed_counts, plan.gripper.open_counts),
        (2030, 3511)
    );
    assert_eq!(pan.keep.turns, Turns::One);
}

/// A Koch's with this offset and range of its pan; these motors are reversed.
fn koch_text<const N: usize>(pan: (i32, i32, i32), reversed: [&str; N]) -> String {
    let motor = |name: &str, id: u8, (offset, low, high): (i32, i32, i32)| {
        let motor = Motor {
            id,
            drive_mode: reversed.contains(&name).into(),
            homing_offset: offset,
            range_min: low,
            range_max: high,
        };
        (name.to_owned(), motor)
    };
    file::text(&Motors(vec![
        motor("shoulder_pan", 1, pan),
        motor("shoulder_lift", 2, (5, 1000, 3100)),
        motor("elbow_flex", 3, (-3000, 1000, 3100)),
        motor("wrist_flex", 4, (0, 700, 3300)),
        motor("wrist_roll", 5, (0, 0, 4095)),
        motor("gripper", 6, (0, 1500, 2500)),
    ]))
}

/// What a reversed servo reported as `r` its sensor's way is 4095 - `r`, and the joint goes against it.
#[test]
fn a_reversed_dynamixel_is_turned_around_with_its_range() {
    let koch = subject(ArmKind::Koch);
    let all = ["elbow_flex", "wrist_roll", "gripper"];
    let [plain, turned] = [
        koch_text((0, 200, 3900), []),
        koch_text((0, 200, 3900), all),
    ]
    .map(|text| import(&text, &koch).unwrap());
    let numbers = |keep: Keep| (keep.offset_counts, keep.lowest_counts, keep.highest_counts);
    for (place, expected) in [(2, (7095, 995, 3095)), (4, (4095, 0, 4095))] {
        let (was, is) = (&plain.joints[place], &turned.joints[place]);
        assert_eq!(numbers(is.keep), expected);
        assert_eq!(
            (was.direction, is.direction),
            (Direction::Along, Direction::Against)
        );
        let across = i32::from(was.zero_counts) + i32::from(is.zero_counts);
        assert!((4095..=4096).contains(&across), "{across}");
    }
    assert_eq!(turned.joints[..2], plain.joints[..2]);
    let gripper = &turned.gripper;
    assert_eq!((gripper.open_counts, gripper.closed_counts), (1595, 2595));
    assert_eq!(numbers(gripper.keep), (4095, 1595, 2595));
    // The servos are not reversed any more, and LeRobot reads just that of them.
    let text = export(&written(&turned));
    assert!(!text.contains("\"drive_mode\": 1"), "{text}");
}

#[test]
fn a_kochs_ranges_are_brought_into_the_turn() {
    let koch = subject(ArmKind::Koch);
    // Koch's limits are 5.6, 3.2, 3.2, 4 and 5.6 rad.
    let text = |pan| koch_text(pan, []);
    let pan = |numbers| import(&text(numbers), &koch).unwrap().joints[0].keep;
    let keep = pan((1000, 200, 3900));
    assert_eq!(
        (keep.offset_counts, keep.lowest_counts, keep.turns),
        (1000, 200, Turns::Many)
    );
    // The same two turns farther.
    assert_eq!(pan((1000, 200 + 8192, 3900 + 8192)), keep);
    assert_eq!(pan((1000, 200 - 4096, 3900 - 4096)), keep);
    // Across the end of a turn: the middle comes to the middle.
    let keep = pan((1000, 2000, 5700));
    assert_eq!((keep.lowest_counts, keep.highest_counts), (197, 3897));
    assert_eq!(keep.offset_counts, 1000 - 1803);
    let round = export(&written(&import(&text((7, 100, 3800)), &koch).unwrap()));
    assert_eq!(round, text((7, 100, 3800)));
}

#[test]
fn what_is_not_this_arms_is_named() {
    let subject = subject(ArmKind::So101);
    for (find, replace, words) in [
        (
            "\"id\": 1,",
            "\"id\": \"one\",",
            "is no calibration of LeRobot",
        ),
        ("{\n    \"sh", "[\n    \"sh", "is no calibration of LeRobot"),
        ("\"id\": 1,", "\"id\": 1, \"x\": 2,", "unknown field `x`"),
        ("\"id\": 1,", "", "missing field `id`"),
        (
            "shoulder_lift",
            "shoulder_pan",
            "`shoulder_pan` is there twice",
        ),
        (
            "shoulder_lift",
            "waist",
            "has a motor `waist`, which this arm has not",
        ),
        (
            "\"id\": 2",
            "\"id\": 3",
            "`shoulder_lift` has id 3, and 2 in the rig's file",
        ),
        (
            "\"drive_mode\": 1",
            "\"drive_mode\": 2",
            "`elbow_flex` has drive_mode 2",
        ),
        ("-1365", "-2048", "`shoulder_pan` has homing_offset -2048"),
        ("746", "3300", "`shoulder_pan` has range_min 3300"),
        ("3511", "4096", "`gripper` has range_max 4096"),
        ("822", "-1", "`shoulder_lift` has range_min -1"),
        (
            "746",
            "2746",
            "`shoulder_pan` was moved over 47° of about 220°",
        ),
        ("901", "10", "`elbow_flex` was moved over 272°"),
    ] {
        assert!(SO101.contains(find), "{find}");
        let text = SO101.replacen(find, replace, 1);
        let error = import(&text, &subject).unwrap_err().to_string();
        assert!(error.contains(words), "{error} does not say {words}");
    }
    let without = SO101.replace("gripper", "wrist_roll_2");
    let error = import(&without, &subject).unwrap_err().to_string();
    assert!(error.contains("`wrist_roll_2`"), "{error}");
    let error = import("{}", &subject).unwrap_err().to_string();
    assert!(error.contains("has no motor `shoulder_pan`"), "{error}");
}
