//! What the log's bytes mean, for tools that know MCAP and protobuf and nothing of hilt: the messages
//! of [`super::pb`] in protobuf's own words. A test decodes messages by it, field by field.

use hilt_recording::descriptor::{
    Descriptor, Enumeration, Field, Type, enumeration, field, message, schema,
};

use super::convert::{BYS, GRIPPERS, MODES, SOURCES, WISHES};
use crate::{control::faults::TABLE, tick::Outcome};

use Type::{Bool, Bytes, Double, Enum, Fixed64, Float, Uint32, Uint64};

/// Full names of the messages on the log's channels.
pub(super) const NAMES: [&str; 3] = ["hilt.Began", "hilt.Tick", "hilt.Decision"];

/// The schema as MCAP wants it.
pub(super) fn bytes() -> Vec<u8> {
    let mut messages = ticks();
    messages.extend(decisions());
    messages.extend(began());
    schema(messages, enumerations())
}

fn doubles(number: i32, name: &str) -> Field {
    field(number, name, Double).repeated()
}

fn one(number: i32, name: &str, of: &str) -> Field {
    field(number, name, Type::Message).of(of)
}

fn many(number: i32, name: &str, of: &str) -> Field {
    one(number, name, of).repeated()
}

fn choice(number: i32, name: &str, of: &str) -> Field {
    field(number, name, Enum).of(of)
}

fn ticks() -> Vec<Descriptor> {
    let error = |number, name| field(number, name, Bytes).optional();
    vec![
        message(
            "Target",
            vec![
                field(1, "arm", Uint32),
                doubles(2, "joints"),
                field(3, "closed", Bool),
            ],
        ),
        message(
            "Command",
            vec![
                field(1, "sequence", Uint64),
                field(2, "activate_ns", Uint64),
                many(3, "arms", "Target"),
            ],
        ),
        message(
            "Fault",
            vec![
                choice(1, "kind", "FaultKind"),
                field(2, "place", Uint32),
                error(3, "error"),
            ],
        ),
        message(
            "State",
            vec![
                field(1, "captured_ns", Uint64),
                doubles(2, "joints"),
                doubles(3, "velocities"),
                field(4, "gripper_width_m", Double).optional(),
                error(5, "trouble"),
            ],
        ),
        message(
            "Report",
            vec![
                field(1, "arm", Uint32),
                one(2, "state", "State"),
                error(3, "error"),
            ],
        ),
        message(
            "Order",
            vec![
                field(1, "written_ns", Uint64),
                choice(2, "wish", "Wish"),
                one(3, "command", "Command"),
                one(4, "fault", "Fault"),
                field(5, "resets", Uint64),
            ],
        ),
        message(
            "Times",
            vec![
                field(1, "due_ns", Uint64),
                field(2, "woke_ns", Uint64),
                field(3, "read_ns", Uint64),
                field(4, "decided_ns", Uint64),
                field(5, "written_ns", Uint64),
            ],
        ),
        message(
            "Written",
            vec![
                field(1, "arm", Uint32),
                field(2, "sent", Bytes),
                error(3, "error"),
            ],
        ),
        message(
            "Tick",
            vec![
                field(1, "number", Uint64),
                field(2, "missed", Uint64),
                one(3, "times", "Times"),
                field(4, "now_ns", Uint64),
                one(5, "order", "Order"),
                many(6, "reports", "Report"),
                field(7, "frames_ns", Uint64).repeated(),
                field(8, "overtaken", Bool),
                choice(9, "outcome", "Outcome"),
                choice(10, "mode", "Mode"),
                one(11, "fault", "Fault"),
                many(12, "written", "Written"),
                field(13, "hash", Fixed64),
            ],
        ),
    ]
}

fn decisions() -> Vec<Descriptor> {
    vec![
        message(
            "Intent",
            vec![
                field(1, "captured_ns", Uint64),
                doubles(2, "motion"),
                choice(3, "grippers", "Gripper").repeated(),
            ],
        ),
        message(
            "Stand",
            vec![
                one(1, "state", "State"),
                doubles(2, "base_from_tool"),
                one(3, "target", "Target"),
            ],
        ),
        message(
            "Step",
            vec![
                choice(1, "source", "Source"),
                choice(2, "by", "By"),
                field(3, "noise_seed", Fixed64),
                field(4, "policy_version", Uint64),
                one(5, "intent", "Intent"),
                field(6, "policy_output", Float).repeated(),
                many(7, "stands", "Stand"),
                field(8, "action", Float).repeated(),
            ],
        ),
        message("Home", vec![many(1, "from", "Target"), doubles(2, "home")]),
        message(
            "Decision",
            vec![
                field(1, "now_ns", Uint64),
                one(2, "step", "Step"),
                one(3, "home", "Home"),
                one(4, "command", "Command"),
                field(5, "followed", Bool).optional(),
                field(6, "hash", Fixed64),
            ],
        ),
    ]
}

fn began() -> Vec<Descriptor> {
    let double = |number, name| field(number, name, Double).optional();
    vec![
        message(
            "Bounds",
            vec![
                field(1, "arm", Uint32),
                doubles(2, "lower"),
                doubles(3, "upper"),
                double(4, "velocity_rad_s"),
                double(5, "acceleration_rad_s2"),
            ],
        ),
        message(
            "Config",
            vec![
                field(1, "arms", Uint32),
                field(2, "cameras", Uint32),
                field(3, "interpolation_ns", Uint64),
                field(4, "tick_ns", Uint64),
                field(5, "late_command_ns", Uint64),
                many(6, "bounds", "Bounds"),
                field(7, "state_age_ns", Uint64),
                field(8, "frame_age_ns", Uint64),
                field(9, "policy_age_ns", Uint64),
                field(10, "tick_age_ns", Uint64),
                field(11, "gripper_closed", Bool),
                double(12, "following_rad"),
                field(13, "astray_age_ns", Uint64),
            ],
        ),
        message(
            "Joint",
            vec![
                doubles(1, "parent_from_joint"),
                doubles(2, "axis"),
                field(3, "slides", Bool),
                double(4, "lower"),
                double(5, "upper"),
            ],
        ),
        message(
            "Servo",
            vec![
                field(1, "id", Uint32),
                field(2, "zero_counts", Uint32),
                field(3, "against", Bool),
            ],
        ),
        message(
            "Servos",
            vec![
                many(1, "joints", "Servo"),
                field(2, "gripper_id", Uint32),
                field(3, "open_counts", Uint32),
                field(4, "closed_counts", Uint32),
                double(5, "open_width_m"),
                double(6, "closed_width_m"),
                field(7, "baud", Uint32),
                double(8, "max_speed_rad_s"),
                field(9, "dynamixel", Bool),
            ],
        ),
        message(
            "Arm",
            vec![
                many(1, "joints", "Joint"),
                doubles(2, "last_from_tool"),
                field(3, "remote", Bool),
                one(4, "servos", "Servos"),
                field(5, "will", Bytes),
            ],
        ),
        message(
            "Began",
            vec![
                one(1, "config", "Config"),
                field(2, "late_tick_ns", Uint64),
                many(3, "targets", "Target"),
                many(4, "arms", "Arm"),
            ],
        ),
    ]
}

fn enumerations() -> Vec<Enumeration> {
    fn of<T: std::fmt::Debug>(name: &str, members: impl IntoIterator<Item = T>) -> Enumeration {
        // Values of all enumerations share one space of names.
        let values = members
            .into_iter()
            .map(|member| format!("{name}_{member:?}"));
        enumeration(name, [format!("{name}_Unknown")].into_iter().chain(values))
    }
    vec![
        of("FaultKind", TABLE.map(|row| row.kind)),
        of("Wish", WISHES),
        of("Outcome", Outcome::ALL),
        of("Mode", MODES),
        of("Gripper", GRIPPERS),
        of("Source", SOURCES),
        of("By", BYS),
    ]
}
