//! What the entries' bytes mean, for tools that know MCAP and protobuf and nothing of hilt.
//!
//! A log's channel carries this schema; with it any MCAP tool decodes the entries. It says what
//! `hilt_protocol::wire` declares with prost; a test decodes entries by it, field by field.

use prost::Message;
use prost_types::{
    DescriptorProto, EnumDescriptorProto, EnumValueDescriptorProto, FieldDescriptorProto,
    FileDescriptorProto, FileDescriptorSet, OneofDescriptorProto,
    field_descriptor_proto::{Label, Type},
};

/// Full name of the entries' message.
pub(crate) const NAME: &str = "hilt.Entry";

/// The schema as MCAP wants it: a serialized `FileDescriptorSet`.
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
            repeated(field(2, "proprio", Float)),
            repeated(of("Image", field(3, "images", Message))),
        ],
    );
    let mut step = message(
        "Step",
        vec![
            repeated(field(1, "action", Float)),
            of("ActionSource", field(2, "source", Enum)),
            field(3, "reward", Float),
            field(4, "grasp_penalty", Float),
            field(5, "terminated", Bool),
            field(6, "truncated", Bool),
            // What proto3 calls `optional` is a choice of one.
            FieldDescriptorProto {
                oneof_index: Some(0),
                proto3_optional: Some(true),
                ..field(7, "label", Bool)
            },
            field(8, "policy_version", Uint64),
            field(9, "noise_seed", Fixed64),
        ],
    );
    step.oneof_decl.push(OneofDescriptorProto {
        name: Some("_label".to_owned()),
        options: None,
    });
    let entry = message(
        "Entry",
        vec![
            field(1, "version", Uint32),
            field(2, "run", Fixed64),
            field(3, "sequence", Uint64),
            field(4, "episode", Uint64),
            field(5, "index", Uint32),
            of("Step", field(6, "step", Message)),
            of("Observation", field(7, "observation", Message)),
        ],
    );
    let sources = ["UNKNOWN", "POLICY", "HUMAN", "SCRIPTED_OPERATOR", "RANDOM"];
    let values = (0..)
        .zip(sources)
        .map(|(number, name)| EnumValueDescriptorProto {
            name: Some(name.to_owned()),
            number: Some(number),
            options: None,
        });
    let file = FileDescriptorProto {
        name: Some("hilt.proto".to_owned()),
        package: Some("hilt".to_owned()),
        syntax: Some("proto3".to_owned()),
        message_type: vec![entry, step, observation, image],
        enum_type: vec![EnumDescriptorProto {
            name: Some("ActionSource".to_owned()),
            value: values.collect(),
            ..EnumDescriptorProto::default()
        }],
        ..FileDescriptorProto::default()
    };
    FileDescriptorSet { file: vec![file] }.encode_to_vec()
}

fn message(name: &str, field: Vec<FieldDescriptorProto>) -> DescriptorProto {
    DescriptorProto {
        name: Some(name.to_owned()),
        field,
        ..DescriptorProto::default()
    }
}

fn field(number: i32, name: &str, kind: Type) -> FieldDescriptorProto {
    FieldDescriptorProto {
        name: Some(name.to_owned()),
        number: Some(number),
        label: Some(Label::Optional as i32),
        r#type: Some(kind as i32),
        ..FieldDescriptorProto::default()
    }
}

fn repeated(field: FieldDescriptorProto) -> FieldDescriptorProto {
    FieldDescriptorProto {
        label: Some(Label::Repeated as i32),
        ..field
    }
}

fn of(name: &str, field: FieldDescriptorProto) -> FieldDescriptorProto {
    FieldDescriptorProto {
        type_name: Some(format!(".hilt.{name}")),
        ..field
    }
}
