//! Any tick and any decision.

use hilt_drivers::{ArmError, ArmState, Intent};
use hilt_protocol::{ArmCommand, GripperCommand, JointVector, MAX_CAMERAS};
use nalgebra::{Isometry3, Quaternion, Translation3, UnitQuaternion};
use proptest::prelude::*;

use crate::{
    control::{ControlInputs, Fault, Order, Sent, Targets, TickRecord, Wish, faults::TABLE},
    decision::{By, Choice, Decision, Stand, Why},
    safety::ArmTarget,
    tick::{Outcome, TickTimes},
    tick_log::convert,
};

/// Every number but those that are none, whose bits `==` and `Debug` do not tell apart.
fn number() -> impl Strategy<Value = f64> {
    let any = any::<u64>().prop_map(f64::from_bits);
    prop_oneof![
        any.prop_filter("a number", |v| !v.is_nan()),
        Just(-0.0),
        Just(0.0)
    ]
}

fn joints() -> impl Strategy<Value = JointVector> {
    prop::collection::vec(number(), 0..=7).prop_map(|v| JointVector::from_slice(&v).unwrap())
}

fn gripper() -> impl Strategy<Value = GripperCommand> {
    prop::sample::select(&[GripperCommand::Open, GripperCommand::Closed][..])
}

fn error() -> impl Strategy<Value = ArmError> {
    prop_oneof![
        Just(ArmError::Stopped),
        (0usize..9, 0usize..9).prop_map(|(expected, got)| ArmError::Joints { expected, got }),
        (0usize..8).prop_map(ArmError::NotFinite),
        (0usize..8).prop_map(ArmError::OutOfLimits),
        any::<u8>().prop_map(ArmError::Silent),
        any::<u8>().prop_map(ArmError::Corrupted),
        any::<(u8, u8)>().prop_map(|(expected, got)| ArmError::WrongId { expected, got }),
        any::<(u8, u8)>().prop_map(|(id, bits)| ArmError::Servo { id, bits }),
        any::<u8>().prop_map(ArmError::Implausible),
        any::<u8>().prop_map(ArmError::Mode),
        Just(ArmError::Unplugged),
        Just(ArmError::Device),
    ]
}

fn fault() -> impl Strategy<Value = Fault> {
    let parts = (0..TABLE.len(), any::<u8>(), prop::option::of(error()));
    parts.prop_map(|(row, place, error)| Fault {
        kind: TABLE[row].kind,
        place,
        error,
    })
}

fn targets() -> impl Strategy<Value = Targets> {
    let target = prop::option::of((joints(), gripper()));
    prop::array::uniform2(target)
}

fn command() -> impl Strategy<Value = ArmCommand> {
    let parts = (any::<u64>(), any::<u64>(), targets());
    parts.prop_map(|(sequence, activate_ns, arms)| ArmCommand {
        sequence,
        activate_ns,
        arms,
    })
}

fn state() -> impl Strategy<Value = ArmState> {
    let parts = (
        any::<u64>(),
        joints(),
        joints(),
        number(),
        prop::option::of(error()),
    );
    parts.prop_map(
        |(captured_ns, joints, velocities, gripper_width_m, trouble)| ArmState {
            captured_ns,
            joints,
            velocities,
            gripper_width_m,
            trouble,
        },
    )
}

fn order() -> impl Strategy<Value = Order> {
    let parts = (
        any::<u64>(),
        any::<bool>(),
        prop::option::of(command()),
        prop::option::of(fault()),
        any::<u64>(),
    );
    parts.prop_map(|(written_ns, run, command, fault, resets)| Order {
        written_ns,
        wish: if run { Wish::Run } else { Wish::Rest },
        command,
        fault,
        resets,
    })
}

fn times() -> impl Strategy<Value = TickTimes> {
    any::<[u64; 5]>().prop_map(
        |[due_ns, woke_ns, read_ns, decided_ns, written_ns]| TickTimes {
            due_ns,
            woke_ns,
            read_ns,
            decided_ns,
            written_ns,
        },
    )
}

pub(super) fn tick() -> impl Strategy<Value = TickRecord> {
    let report = prop::option::of(prop_oneof![state().prop_map(Ok), error().prop_map(Err)]);
    let sent = prop::collection::vec(any::<u8>(), 0..191).prop_map(|bytes| Sent::new(&bytes));
    let inputs = (
        any::<u64>(),
        order(),
        prop::array::uniform2(report),
        any::<[u64; MAX_CAMERAS]>(),
        any::<bool>(),
    );
    let inputs = inputs.prop_map(
        |(now_ns, order, reports, frames_ns, overtaken)| ControlInputs {
            now_ns,
            order,
            reports,
            frames_ns,
            overtaken,
        },
    );
    let did = (
        0..Outcome::ALL.len(),
        0..convert::MODES.len(),
        prop::option::of(fault()),
        prop::array::uniform2(prop::option::of(error())),
        prop::array::uniform2(sent),
    );
    let parts = (any::<[u64; 3]>(), times(), inputs, did);
    parts.prop_map(|([number, missed, hash], times, inputs, did)| {
        let (outcome, mode, fault, written, sent) = did;
        TickRecord {
            number,
            missed,
            times,
            inputs,
            outcome: Outcome::ALL[outcome],
            mode: convert::MODES[mode],
            fault,
            written,
            sent,
            hash,
        }
    })
}

fn pose() -> impl Strategy<Value = Isometry3<f64>> {
    prop::array::uniform7(number()).prop_map(|[x, y, z, i, j, k, w]| {
        let rotation = UnitQuaternion::new_unchecked(Quaternion::new(w, i, j, k));
        Isometry3::from_parts(Translation3::new(x, y, z), rotation)
    })
}

fn choice() -> impl Strategy<Value = Choice> {
    let floats = any::<u32>().prop_map(f32::from_bits);
    let floats = floats.prop_filter("a number", |v| !v.is_nan());
    let motion = prop::array::uniform2(prop::array::uniform6(number()));
    let gripper = prop::array::uniform2(prop::option::of(gripper()));
    let intent = (any::<u64>(), motion, gripper);
    let by = prop_oneof![
        intent.prop_map(|(captured_ns, motion, gripper)| By::Intent(Intent {
            captured_ns,
            motion,
            gripper,
        })),
        prop::collection::vec(floats, 0..15).prop_map(By::Policy),
        Just(By::Random),
        Just(By::Nobody),
    ];
    let source = prop::sample::select(&convert::SOURCES[..]);
    let parts = (by, source, any::<u64>(), any::<u64>());
    parts.prop_map(|(by, source, noise_seed, policy_version)| Choice {
        by,
        source,
        noise_seed,
        policy_version,
    })
}

pub(super) fn decision() -> impl Strategy<Value = Decision> {
    let stand = (state(), pose(), joints(), gripper());
    let stand = stand.prop_map(|(state, base_from_tool, joints, gripper)| Stand {
        state,
        target: ArmTarget {
            base_from_tool,
            joints,
            gripper,
        },
    });
    let action = prop::collection::vec(-2.0f32..2.0, 0..15);
    let step = (choice(), prop::collection::vec(stand, 0..3), action);
    let why = prop_oneof![
        step.prop_map(|(choice, stands, action)| Why::Step {
            choice,
            stands,
            action,
        }),
        (targets(), joints()).prop_map(|(from, home)| Why::Home { from, home }),
    ];
    let parts = (
        any::<u64>(),
        why,
        prop::option::of(command()),
        any::<Option<bool>>(),
        any::<u64>(),
    );
    parts.prop_map(|(now_ns, why, command, followed, hash)| Decision {
        now_ns,
        why,
        command,
        followed,
        hash,
    })
}
