//! What the entries' bytes mean, for tools that know MCAP and protobuf and nothing of hilt.
//!
//! A log's channel carries this schema; with it any MCAP tool decodes the entries. It says what
//! `hilt_protocol::wire` declares with prost; a test decodes entries by it, field by field.

use crate::descriptor::{Type, enumeration, field, message, schema};

/// Full name of the entries' message.
pub(crate) const NAME: &str = "hilt.Entry";

/// The schema as MCAP wants it.
pub(crate) fn bytes() -> Vec<u8> {
    use Type::{Bool, Bytes, Enum, Fixed64, Float, Message, Uint32, Uint64};
    let image = message(
        "Image",
        vec![
            field(1, "captured_ns", Uint64),
            field(2, "height", Uint32),
            field(3, "width", Uint32),
            field(4, "rgb", Bytes),
        ],
    );
    let observation = message(
        "Observation",
        vec![
            field(1, "captured_ns", Uint64),
            field(2, "proprio", Float).repeated(),
            field(3, "images", Message).of("Image").repeated(),
        ],
    );
    let step = message(
        "Step",
        vec![
            field(1, "action", Float).repeated(),
            field(2, "source", Enum).of("ActionSource"),
            field(3, "reward", Float),
            field(4, "grasp_penalty", Float),
            field(5, "terminated", Bool),
            field(6, "truncated", Bool),
            field(7, "label", Bool).optional(),
            field(8, "policy_version", Uint64),
            field(9, "noise_seed", Fixed64),
        ],
    );
    let entry = message(
        "Entry",
        vec![
            field(1, "version", Uint32),
            field(2, "run", Fixed64),
            field(3, "sequence", Uint64),
            field(4, "episode", Uint64),
            field(5, "index", Uint32),
            field(6, "step", Message).of("Step"),
            field(7, "observation", Message).of("Observation"),
        ],
    );
    let sources = ["UNKNOWN", "POLICY", "HUMAN", "SCRIPTED_OPERATOR", "RANDOM"];
    schema(
        vec![entry, step, observation, image],
        vec![enumeration("ActionSource", sources)],
    )
}
