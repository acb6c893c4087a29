//! From the runtime's types to the log's messages and back, bit for bit.

use hilt_drivers::{ArmError, ArmState, Intent};
use hilt_protocol::{
    ActionSource, ArmCommand, GripperCommand, JointVector, MAX_ARMS, MAX_CAMERAS, wire::WireError,
};
use nalgebra::{Isometry3, Quaternion, Translation3, UnitQuaternion};
use prost::Message;

use super::pb;
use crate::{
    control::{ControlInputs, Fault, Mode, Order, Sent, Targets, TickRecord, Wish, faults::TABLE},
    decision::{By, Choice, Decision, Stand, Why},
    safety::ArmTarget,
    tick::{Outcome, TickTimes},
};

pub(super) type Result<T> = std::result::Result<T, WireError>;

/// What a choice is by, without what it brings with it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Kind {
    Intent,
    Policy,
    Random,
    Nobody,
}

// A number in the log is a member's place in its list, from 1; 0 is protobuf's absence.
pub(super) const BYS: [Kind; 4] = [Kind::Intent, Kind::Policy, Kind::Random, Kind::Nobody];
pub(super) const WISHES: [Wish; 2] = [Wish::Rest, Wish::Run];
pub(super) const MODES: [Mode; 6] = [
    Mode::Idle,
    Mode::Armed,
    Mode::Running,
    Mode::Held,
    Mode::Stopping,
    Mode::Fault,
];
pub(super) const GRIPPERS: [GripperCommand; 2] = [GripperCommand::Open, GripperCommand::Closed];
pub(super) const SOURCES: [ActionSource; 4] = [
    ActionSource::Policy,
    ActionSource::Human,
    ActionSource::ScriptedOperator,
    ActionSource::Random,
];

fn number<T: PartialEq>(list: &[T], member: &T) -> u32 {
    let place = list.iter().position(|other| other == member);
    place.map_or(0, |place| place as u32 + 1)
}

fn member<T: Copy>(list: &[T], number: u32, field: &'static str) -> Result<T> {
    let place = (number as usize).checked_sub(1);
    let member = place.and_then(|place| list.get(place)).copied();
    member.ok_or_else(|| wrong(field, "is not a known value"))
}

/// A field that cannot be.
pub(super) fn wrong(field: &'static str, problem: &'static str) -> WireError {
    let message = "tick log";
    WireError::Field {
        message,
        field,
        problem,
    }
}

/// A field that has to be there.
pub(super) fn needed<T>(value: Option<T>, field: &'static str) -> Result<T> {
    let message = "tick log";
    value.ok_or(WireError::Missing { message, field })
}

pub(super) fn joints(values: &[f64], field: &'static str) -> Result<JointVector> {
    JointVector::from_slice(values).ok_or_else(|| wrong(field, "has too many joints"))
}

pub(super) fn pose_to(pose: &Isometry3<f64>) -> Vec<f64> {
    let parts = pose.translation.vector.iter();
    parts.chain(pose.rotation.coords.iter()).copied().collect()
}

pub(super) fn pose_from(values: &[f64], field: &'static str) -> Result<Isometry3<f64>> {
    let &[x, y, z, i, j, k, w] = values else {
        return Err(wrong(field, "is not a pose of seven numbers"));
    };
    // Made again as it was, not normalised: every bit counts.
    let rotation = UnitQuaternion::new_unchecked(Quaternion::new(w, i, j, k));
    Ok(Isometry3::from_parts(Translation3::new(x, y, z), rotation))
}

/// Numbered, those of the arms that there are.
pub(super) fn per_arm<T, U>(slots: &[Option<T>; MAX_ARMS], make: impl Fn(u32, &T) -> U) -> Vec<U> {
    let arms = (0..).zip(slots);
    arms.filter_map(|(arm, slot)| slot.as_ref().map(|value| make(arm, value)))
        .collect()
}

/// Back into their arms' places.
pub(super) fn by_arm<T: Copy>(
    values: impl IntoIterator<Item = Result<(u32, T)>>,
) -> Result<[Option<T>; MAX_ARMS]> {
    let mut slots = [None; MAX_ARMS];
    for value in values {
        let (arm, value) = value?;
        match slots.get_mut(arm as usize) {
            Some(slot @ None) => *slot = Some(value),
            _ => return Err(wrong("arm", "is named twice or is none of the rig's")),
        }
    }
    Ok(slots)
}

fn target_to(arm: u32, (joints, gripper): &(JointVector, GripperCommand)) -> pb::Target {
    pb::Target {
        arm,
        joints: joints.as_slice().to_vec(),
        closed: *gripper == GripperCommand::Closed,
    }
}

pub(super) fn gripper(closed: bool) -> GripperCommand {
    match closed {
        true => GripperCommand::Closed,
        false => GripperCommand::Open,
    }
}

fn target_from(target: &pb::Target) -> Result<(u32, (JointVector, GripperCommand))> {
    let joints = joints(&target.joints, "joints")?;
    Ok((target.arm, (joints, gripper(target.closed))))
}

pub(super) fn targets_to(targets: &Targets) -> Vec<pb::Target> {
    per_arm(targets, target_to)
}

pub(super) fn targets_from(targets: &[pb::Target]) -> Result<Targets> {
    by_arm(targets.iter().map(target_from))
}

fn command_to(command: &ArmCommand) -> pb::Command {
    pb::Command {
        sequence: command.sequence,
        activate_ns: command.activate_ns,
        arms: targets_to(&command.arms),
    }
}

fn command_from(command: &pb::Command) -> Result<ArmCommand> {
    Ok(ArmCommand {
        sequence: command.sequence,
        activate_ns: command.activate_ns,
        arms: targets_from(&command.arms)?,
    })
}

fn error_to(error: Option<ArmError>) -> Option<Vec<u8>> {
    error.map(|error| error.to_bytes().to_vec())
}

fn error_from(bytes: Option<&Vec<u8>>) -> Result<Option<ArmError>> {
    let read = |bytes: &Vec<u8>| {
        let error = <[u8; 4]>::try_from(&bytes[..]).ok();
        let error = error.and_then(ArmError::from_bytes);
        error.ok_or_else(|| wrong("error", "is not a known one"))
    };
    bytes.map(read).transpose()
}

fn fault_to(fault: &Fault) -> pb::Fault {
    pb::Fault {
        kind: number(&TABLE.map(|row| row.kind), &fault.kind),
        place: fault.place.into(),
        error: error_to(fault.error),
    }
}

fn fault_from(fault: &pb::Fault) -> Result<Fault> {
    Ok(Fault {
        kind: member(&TABLE.map(|row| row.kind), fault.kind, "fault")?,
        place: u8::try_from(fault.place).map_err(|_| wrong("place", "is above 255"))?,
        error: error_from(fault.error.as_ref())?,
    })
}

fn state_to(state: &ArmState) -> pb::State {
    pb::State {
        captured_ns: state.captured_ns,
        joints: state.joints.as_slice().to_vec(),
        velocities: state.velocities.as_slice().to_vec(),
        gripper_width_m: Some(state.gripper_width_m),
        trouble: error_to(state.trouble),
    }
}

fn state_from(state: &pb::State) -> Result<ArmState> {
    Ok(ArmState {
        captured_ns: state.captured_ns,
        joints: joints(&state.joints, "joints")?,
        velocities: joints(&state.velocities, "velocities")?,
        gripper_width_m: needed(state.gripper_width_m, "gripper_width_m")?,
        trouble: error_from(state.trouble.as_ref())?,
    })
}

fn report_to(arm: u32, report: &std::result::Result<ArmState, ArmError>) -> pb::Report {
    pb::Report {
        arm,
        state: report.as_ref().ok().map(state_to),
        error: error_to(report.err()),
    }
}

fn report_from(report: &pb::Report) -> Result<(u32, std::result::Result<ArmState, ArmError>)> {
    let said = match (&report.state, error_from(report.error.as_ref())?) {
        (Some(state), None) => Ok(state_from(state)?),
        (None, Some(error)) => Err(error),
        _ => return Err(wrong("report", "is neither a state nor an error")),
    };
    Ok((report.arm, said))
}

fn order_to(order: &Order) -> pb::Order {
    pb::Order {
        written_ns: order.written_ns,
        wish: number(&WISHES, &order.wish),
        command: order.command.as_ref().map(command_to),
        fault: order.fault.as_ref().map(fault_to),
        resets: order.resets,
    }
}

fn order_from(order: &pb::Order) -> Result<Order> {
    Ok(Order {
        written_ns: order.written_ns,
        wish: member(&WISHES, order.wish, "wish")?,
        command: order.command.as_ref().map(command_from).transpose()?,
        fault: order.fault.as_ref().map(fault_from).transpose()?,
        resets: order.resets,
    })
}

/// A tick's bytes.
pub fn encode_tick(record: &TickRecord) -> Vec<u8> {
    let TickTimes {
        due_ns,
        woke_ns,
        read_ns,
        decided_ns,
        written_ns,
    } = record.times;
    let written = (0..).zip(record.written.iter().zip(&record.sent));
    let written = written.map(|(arm, (error, sent))| pb::Written {
        arm,
        sent: sent.as_slice().to_vec(),
        error: error_to(*error),
    });
    let inputs = &record.inputs;
    pb::Tick {
        number: record.number,
        missed: record.missed,
        times: Some(pb::Times {
            due_ns,
            woke_ns,
            read_ns,
            decided_ns,
            written_ns,
        }),
        now_ns: inputs.now_ns,
        order: Some(order_to(&inputs.order)),
        reports: per_arm(&inputs.reports, report_to),
        frames_ns: inputs.frames_ns.to_vec(),
        overtaken: inputs.overtaken,
        outcome: number(&Outcome::ALL, &record.outcome),
        mode: number(&MODES, &record.mode),
        fault: record.fault.as_ref().map(fault_to),
        written: written.collect(),
        hash: record.hash,
    }
    .encode_to_vec()
}

/// A tick from its bytes.
pub fn decode_tick(bytes: &[u8]) -> Result<TickRecord> {
    let tick: pb::Tick = parse(bytes)?;
    let times = needed(tick.times, "times")?;
    let frames_ns = <[u64; MAX_CAMERAS]>::try_from(&tick.frames_ns[..])
        .map_err(|_| wrong("frames_ns", "is not one for each camera that can be"))?;
    let written = tick.written.iter().map(|written| {
        let error = error_from(written.error.as_ref())?;
        let sent = Sent::new(&written.sent);
        if sent.as_slice() != written.sent {
            return Err(wrong(
                "sent",
                "is longer than what goes to an arm in a tick",
            ));
        }
        Ok((written.arm, (error, sent)))
    });
    let written = by_arm(written)?.map(Option::unwrap_or_default);
    Ok(TickRecord {
        number: tick.number,
        missed: tick.missed,
        times: TickTimes {
            due_ns: times.due_ns,
            woke_ns: times.woke_ns,
            read_ns: times.read_ns,
            decided_ns: times.decided_ns,
            written_ns: times.written_ns,
        },
        inputs: ControlInputs {
            now_ns: tick.now_ns,
            order: order_from(&needed(tick.order, "order")?)?,
            reports: by_arm(tick.reports.iter().map(report_from))?,
            frames_ns,
            overtaken: tick.overtaken,
        },
        outcome: member(&Outcome::ALL, tick.outcome, "outcome")?,
        mode: member(&MODES, tick.mode, "mode")?,
        fault: tick.fault.as_ref().map(fault_from).transpose()?,
        written: written.map(|(error, _)| error),
        sent: written.map(|(_, sent)| sent),
        hash: tick.hash,
    })
}

fn intent_to(intent: &Intent) -> pb::Intent {
    let grippers = intent.gripper.iter();
    pb::Intent {
        captured_ns: intent.captured_ns,
        motion: intent.motion.concat(),
        grippers: grippers
            .map(|gripper| gripper.map_or(0, |gripper| number(&GRIPPERS, &gripper)))
            .collect(),
    }
}

fn intent_from(intent: &pb::Intent) -> Result<Intent> {
    let mut out = Intent::still(intent.captured_ns);
    let numbers = out.motion.as_flattened_mut();
    if intent.motion.len() != numbers.len() || intent.grippers.len() != out.gripper.len() {
        return Err(wrong("intent", "is not one for each arm that can be"));
    }
    numbers.copy_from_slice(&intent.motion);
    for (gripper, &number) in out.gripper.iter_mut().zip(&intent.grippers) {
        *gripper = match number {
            0 => None,
            number => Some(member(&GRIPPERS, number, "gripper")?),
        };
    }
    Ok(out)
}

fn stand_to(stand: &Stand) -> pb::Stand {
    let target = &stand.target;
    pb::Stand {
        state: Some(state_to(&stand.state)),
        base_from_tool: pose_to(&target.base_from_tool),
        target: Some(target_to(0, &(target.joints, target.gripper))),
    }
}

fn stand_from(stand: &pb::Stand) -> Result<Stand> {
    let target = needed(stand.target.as_ref(), "target")?;
    let (_, (joints, gripper)) = target_from(target)?;
    Ok(Stand {
        state: state_from(needed(stand.state.as_ref(), "state")?)?,
        target: ArmTarget {
            base_from_tool: pose_from(&stand.base_from_tool, "base_from_tool")?,
            joints,
            gripper,
        },
    })
}

fn step_to(choice: &Choice, stands: &[Stand], action: &[f32]) -> pb::Step {
    let (by, intent, policy_output) = match &choice.by {
        By::Intent(intent) => (Kind::Intent, Some(intent_to(intent)), Vec::new()),
        By::Policy(output) => (Kind::Policy, None, output.clone()),
        By::Random => (Kind::Random, None, Vec::new()),
        By::Nobody => (Kind::Nobody, None, Vec::new()),
    };
    pb::Step {
        source: number(&SOURCES, &choice.source),
        by: number(&BYS, &by),
        noise_seed: choice.noise_seed,
        policy_version: choice.policy_version,
        intent,
        policy_output,
        stands: stands.iter().map(stand_to).collect(),
        action: action.to_vec(),
    }
}

fn step_from(step: pb::Step) -> Result<Why> {
    let by = match member(&BYS, step.by, "by")? {
        Kind::Intent => By::Intent(intent_from(&needed(step.intent, "intent")?)?),
        Kind::Policy => By::Policy(step.policy_output),
        Kind::Random => By::Random,
        Kind::Nobody => By::Nobody,
    };
    Ok(Why::Step {
        choice: Choice {
            by,
            source: member(&SOURCES, step.source, "source")?,
            noise_seed: step.noise_seed,
            policy_version: step.policy_version,
        },
        stands: step.stands.iter().map(stand_from).collect::<Result<_>>()?,
        action: step.action,
    })
}

/// A decision's bytes.
pub fn encode_decision(decision: &Decision) -> Vec<u8> {
    let (step, home) = match &decision.why {
        Why::Step {
            choice,
            stands,
            action,
        } => (Some(step_to(choice, stands, action)), None),
        Why::Home { from, home } => {
            let (from, home) = (targets_to(from), home.as_slice().to_vec());
            (None, Some(pb::Home { from, home }))
        }
    };
    pb::Decision {
        now_ns: decision.now_ns,
        step,
        home,
        command: decision.command.as_ref().map(command_to),
        followed: decision.followed,
        hash: decision.hash,
    }
    .encode_to_vec()
}

/// A decision from its bytes.
pub fn decode_decision(bytes: &[u8]) -> Result<Decision> {
    let decision: pb::Decision = parse(bytes)?;
    let why = match (decision.step, decision.home) {
        (Some(step), None) => step_from(step)?,
        (None, Some(home)) => Why::Home {
            from: targets_from(&home.from)?,
            home: joints(&home.home, "home")?,
        },
        _ => return Err(wrong("decision", "is neither a step nor the way home")),
    };
    Ok(Decision {
        now_ns: decision.now_ns,
        why,
        command: decision.command.as_ref().map(command_from).transpose()?,
        followed: decision.followed,
        hash: decision.hash,
    })
}

/// A message from its bytes.
pub(super) fn parse<M: Message + Default>(bytes: &[u8]) -> Result<M> {
    M::decode(bytes).map_err(|e| WireError::Protobuf {
        message: "tick log",
        reason: e.to_string(),
    })
}
