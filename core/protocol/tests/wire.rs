//! The wire form: what goes in comes out, and nothing else gets in.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use hilt_protocol::{
    Ack, ActionSource, Axis, CameraSpec, Entry, Graph, GraphName, Image, ModelSnapshot,
    NamedTensor, Observation, Probe, Progress, Record, RigSpec, RunId, SetupMode, SpecHash, Step,
    wire,
};
use proptest::prelude::*;

fn finite() -> impl Strategy<Value = f32> {
    prop::num::f32::NORMAL | prop::num::f32::ZERO
}

prop_compose! {
    fn image()(height in 1..5u32, width in 1..5u32, captured_ns: u64, fill: u8) -> Image {
        Image { captured_ns, height, width, rgb: vec![fill; (height * width * 3) as usize].into() }
    }
}

prop_compose! {
    fn observation()(
        captured_ns: u64,
        proprio in prop::collection::vec(finite(), 0..6),
        images in prop::collection::vec(image(), 0..3),
    ) -> Observation {
        Observation { captured_ns, proprio, images }
    }
}

fn source() -> impl Strategy<Value = ActionSource> {
    prop::sample::select(vec![
        ActionSource::Policy,
        ActionSource::Human,
        ActionSource::ScriptedOperator,
        ActionSource::Random,
    ])
}

prop_compose! {
    fn step()(
        action in prop::collection::vec(finite(), 0..14),
        source in source(),
        (reward, grasp_penalty) in (finite(), finite()),
        (terminated, truncated, label) in any::<(bool, bool, Option<bool>)>(),
        (policy_version, noise_seed) in any::<(u64, u64)>(),
        next in observation(),
    ) -> Step {
        Step { action, source, reward, grasp_penalty, terminated, truncated, label, policy_version, noise_seed, next }
    }
}

fn entry() -> impl Strategy<Value = Entry> {
    let record = prop_oneof![
        observation().prop_map(Record::Reset),
        step().prop_map(Record::Step)
    ];
    (any::<(u64, u64, u64, u32)>(), record).prop_map(|((run, sequence, episode, index), record)| {
        Entry {
            run: RunId(run),
            sequence,
            episode,
            index,
            record,
        }
    })
}

fn tensor() -> impl Strategy<Value = NamedTensor> {
    (".{0,8}", prop::collection::vec(1..4usize, 0..3)).prop_map(|(name, shape)| {
        let n = shape.iter().product();
        NamedTensor {
            name,
            shape,
            data: (0..n).map(|i| i as f32).collect(),
        }
    })
}

prop_compose! {
    fn snapshot()(
        graph in prop::sample::select(GraphName::ALL.to_vec()),
        graph_hash: [u8; 32],
        spec: [u8; 32],
        (version, updates) in any::<(u64, u64)>(),
        weights in prop::collection::vec(tensor(), 0..3),
        inputs in prop::collection::vec(tensor(), 0..3),
        output in tensor(),
    ) -> ModelSnapshot {
        let probe = Probe { inputs, output, tolerance: 1e-3 };
        ModelSnapshot { graph, graph_hash, spec: SpecHash(spec), version, updates, weights, probe }
    }
}

/// Everything that can be decoded, from any bytes: only that it returns.
fn decode_all(bytes: &[u8]) {
    let _ = wire::decode_entry(bytes);
    let _ = wire::decode_snapshot(bytes);
    let _ = wire::decode_graph(bytes);
    let _ = wire::decode_rig_spec(bytes);
    let _ = wire::decode_ack(bytes);
    let _ = wire::decode_progress(bytes);
}

fn spec() -> RigSpec {
    RigSpec {
        mode: SetupMode::DualArmLearnedGripper,
        controlled_axes: vec![Axis::X, Axis::Yaw],
        cameras: vec![CameraSpec {
            name: "front".into(),
            height: 64,
            width: 64,
        }],
        proprio: vec!["left.tool_x".into()],
        policy_hz: 10,
    }
}

proptest! {
    #[test]
    fn entries_come_back(entry in entry()) {
        prop_assert_eq!(wire::decode_entry(&wire::encode_entry(&entry)), Ok(entry));
    }

    #[test]
    fn snapshots_come_back(snapshot in snapshot()) {
        prop_assert_eq!(wire::decode_snapshot(&wire::encode_snapshot(&snapshot)), Ok(snapshot));
    }

    #[test]
    fn any_bytes_return(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        decode_all(&bytes);
    }

    #[test]
    fn damaged_entries_return(entry in entry(), at in any::<prop::sample::Index>(), byte: u8) {
        let mut bytes = wire::encode_entry(&entry);
        let at = at.index(bytes.len());
        bytes[at] = byte;
        decode_all(&bytes);
        decode_all(&bytes[..at]);
    }

    #[test]
    fn damaged_snapshots_return(snapshot in snapshot(), at in any::<prop::sample::Index>(), byte: u8) {
        let mut bytes = wire::encode_snapshot(&snapshot);
        let at = at.index(bytes.len());
        bytes[at] = byte;
        decode_all(&bytes);
        decode_all(&bytes[..at]);
    }
}

#[test]
fn small_messages_come_back() {
    let ack = Ack {
        run: RunId(3),
        sequence: 0,
    };
    assert_eq!(wire::decode_ack(&wire::encode_ack(&ack)), Ok(ack));
    let progress = Progress {
        learner_run: 1,
        updates: 2,
        entries: 3,
        allowed_steps: 4,
        finished: true,
    };
    assert_eq!(
        wire::decode_progress(&wire::encode_progress(&progress)),
        Ok(progress)
    );
    assert_eq!(
        wire::decode_rig_spec(&wire::encode_rig_spec(&spec())),
        Ok(spec())
    );
    let graph = Graph {
        name: GraphName::Policy,
        spec: spec().hash(),
        onnx: vec![1, 2, 3],
    };
    assert_eq!(wire::decode_graph(&wire::encode_graph(&graph)), Ok(graph));
}

#[test]
fn what_protobuf_cannot_say_is_checked_and_named() {
    let image = Image {
        captured_ns: 0,
        height: 2,
        width: 2,
        rgb: vec![0; 11].into(),
    };
    let next = Observation {
        captured_ns: 0,
        proprio: vec![],
        images: vec![image],
    };
    let reset = |next: &Observation| Entry {
        run: RunId(0),
        sequence: 0,
        episode: 0,
        index: 0,
        record: Record::Reset(next.clone()),
    };
    let error = wire::decode_entry(&wire::encode_entry(&reset(&next)))
        .unwrap_err()
        .to_string();
    assert!(error.contains("images.rgb"), "{error}");
    let next = Observation {
        proprio: vec![f32::NAN],
        images: vec![],
        ..next
    };
    let error = wire::decode_entry(&wire::encode_entry(&reset(&next)))
        .unwrap_err()
        .to_string();
    assert!(error.contains("proprio"), "{error}");
    assert!(
        wire::decode_entry(&[])
            .unwrap_err()
            .to_string()
            .contains("version 0")
    );
    let tensor = NamedTensor {
        name: "w".into(),
        shape: vec![1 << 40, 1 << 40],
        data: vec![],
    };
    let probe = Probe {
        inputs: vec![],
        output: tensor,
        tolerance: 0.0,
    };
    let (graph, spec) = (GraphName::Policy, SpecHash([0; 32]));
    let snapshot = ModelSnapshot {
        graph,
        graph_hash: [0; 32],
        spec,
        version: 1,
        updates: 0,
        weights: vec![],
        probe,
    };
    let error = wire::decode_snapshot(&wire::encode_snapshot(&snapshot))
        .unwrap_err()
        .to_string();
    assert!(error.contains("shape"), "{error}");
}
