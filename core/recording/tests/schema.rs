//! A log read with its own schema, by a reader that knows nothing of hilt.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::collections::BTreeMap;

use hilt_protocol::{
    ActionSource, Axis, CameraSpec, Entry, Image, Observation, Record, RigSpec, RunId, SetupMode,
    Step,
};
use hilt_recording::{LOG_FILE, RunWriter, TOPIC};
use prost_reflect::{DescriptorPool, DynamicMessage, ReflectMessage, Value};

/// No field has the value that protobuf leaves out.
fn step() -> Step {
    Step {
        action: vec![0.5, -1.0],
        source: ActionSource::ScriptedOperator,
        reward: 1.0,
        grasp_penalty: -0.02,
        terminated: true,
        truncated: true,
        label: Some(false),
        policy_version: 7,
        noise_seed: u64::MAX - 1,
        next: observation(),
    }
}

fn observation() -> Observation {
    Observation {
        captured_ns: 1 << 40,
        proprio: vec![0.25, f32::MIN],
        images: vec![Image {
            captured_ns: 3,
            height: 1,
            width: 2,
            rgb: vec![1, 2, 3, 4, 5, 255].into(),
        }],
    }
}

fn entry(sequence: u64, record: Record) -> Entry {
    Entry {
        run: RunId(0xfedc_ba98_7654_3210),
        sequence,
        episode: 4,
        index: 5,
        record,
    }
}

/// A log's messages, decoded by the schema in the log.
fn decoded(entries: &[Entry]) -> Vec<DynamicMessage> {
    let dir = tempfile::tempdir().unwrap();
    let spec = RigSpec {
        mode: SetupMode::SingleArmLearnedGripper,
        controlled_axes: vec![Axis::X],
        cameras: vec![CameraSpec {
            name: "front".into(),
            height: 16,
            width: 16,
        }],
        proprio: vec!["tool_x".into()],
        policy_hz: 10,
    };
    let mut writer = RunWriter::create(dir.path(), RunId(1), &spec, BTreeMap::new()).unwrap();
    for entry in entries {
        writer.append(entry).unwrap();
    }
    writer.finish().unwrap();
    let bytes = std::fs::read(dir.path().join(LOG_FILE)).unwrap();
    let messages = mcap::MessageStream::new(&bytes).unwrap();
    let decode = |message: mcap::Message| {
        assert_eq!(message.channel.topic, TOPIC);
        let schema = message.channel.schema.as_ref().unwrap();
        assert_eq!(schema.encoding, "protobuf");
        let pool = DescriptorPool::decode(schema.data.as_ref()).unwrap();
        let kind = pool.get_message_by_name(&schema.name).unwrap();
        DynamicMessage::decode(kind, message.data.as_ref()).unwrap()
    };
    messages.map(|message| decode(message.unwrap())).collect()
}

/// Every field of the schema is there, and nothing that the schema does not know.
fn assert_complete(message: &DynamicMessage) {
    let name = message.descriptor().full_name().to_owned();
    assert_eq!(message.unknown_fields().count(), 0, "{name}");
    for field in message.descriptor().fields() {
        assert!(message.has_field(&field), "{name}.{}", field.name());
        match message.get_field(&field).as_ref() {
            Value::Message(inner) => assert_complete(inner),
            Value::List(list) => {
                for value in list {
                    if let Value::Message(inner) = value {
                        assert_complete(inner);
                    }
                }
            }
            _ => {}
        }
    }
}

fn get(message: &DynamicMessage, path: &str) -> Value {
    match path.split_once('.') {
        None => message.get_field_by_name(path).unwrap().into_owned(),
        Some((first, rest)) => {
            let value = get(message, first);
            let inner = match &value {
                Value::List(list) => &list[0],
                one => one,
            };
            get(inner.as_message().unwrap(), rest)
        }
    }
}

#[test]
fn the_schema_names_every_field() {
    let messages = decoded(&[entry(3, Record::Step(step()))]);
    let message = &messages[0];
    assert_complete(message);
    let floats = |values: &[f32]| Value::List(values.iter().map(|&v| Value::F32(v)).collect());
    for (path, value) in [
        ("version", Value::U32(hilt_protocol::wire::VERSION)),
        ("run", Value::U64(0xfedc_ba98_7654_3210)),
        ("sequence", Value::U64(3)),
        ("episode", Value::U64(4)),
        ("index", Value::U32(5)),
        ("step.action", floats(&[0.5, -1.0])),
        ("step.source", Value::EnumNumber(3)),
        ("step.reward", Value::F32(1.0)),
        ("step.grasp_penalty", Value::F32(-0.02)),
        ("step.terminated", Value::Bool(true)),
        ("step.truncated", Value::Bool(true)),
        ("step.label", Value::Bool(false)),
        ("step.policy_version", Value::U64(7)),
        ("step.noise_seed", Value::U64(u64::MAX - 1)),
        ("observation.captured_ns", Value::U64(1 << 40)),
        ("observation.proprio", floats(&[0.25, f32::MIN])),
        ("observation.images.captured_ns", Value::U64(3)),
        ("observation.images.height", Value::U32(1)),
        ("observation.images.width", Value::U32(2)),
        (
            "observation.images.rgb",
            Value::Bytes(vec![1, 2, 3, 4, 5, 255].into()),
        ),
    ] {
        assert_eq!(get(message, path), value, "{path}");
    }
}

#[test]
fn sources_and_absences_are_what_they_are_called() {
    let sources = [
        (ActionSource::Policy, "POLICY"),
        (ActionSource::Human, "HUMAN"),
        (ActionSource::ScriptedOperator, "SCRIPTED_OPERATOR"),
        (ActionSource::Random, "RANDOM"),
    ];
    let mut entries = vec![entry(0, Record::Reset(observation()))];
    entries.extend((1..).zip(sources).map(|(sequence, (source, _))| {
        let (label, step) = (None, step());
        entry(
            sequence,
            Record::Step(Step {
                source,
                label,
                ..step
            }),
        )
    }));
    let messages = decoded(&entries);
    assert!(
        !messages[0].has_field_by_name("step"),
        "a reset has no step"
    );
    for (message, (_, name)) in messages[1..].iter().zip(sources) {
        let step = get(message, "step");
        let step = step.as_message().unwrap();
        assert!(!step.has_field_by_name("label"));
        let kind = step
            .descriptor()
            .get_field_by_name("source")
            .unwrap()
            .kind();
        let number = get(step, "source").as_enum_number().unwrap();
        let value = kind.as_enum().unwrap().get_value(number).unwrap();
        assert_eq!(value.name(), name);
    }
}
