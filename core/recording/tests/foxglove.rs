//! What viewers of MCAP are given, read by what knows nothing of hilt.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::{fs, path::Path};

use hilt_protocol::{
    ActionSource, Axis, CameraSpec, Entry, Image, Observation, Record, RigSpec, RunId, SetupMode,
    Step,
};
use hilt_recording::{beside, foxglove};
use prost_reflect::{DescriptorPool, DynamicMessage};

fn spec() -> RigSpec {
    RigSpec {
        mode: SetupMode::DualArmLearnedGripper,
        controlled_axes: vec![Axis::X],
        cameras: vec![CameraSpec {
            name: "front".into(),
            height: 16,
            width: 16,
        }],
        // A point is no part of a field's name, nor may two fields have one name.
        proprio: ["left.x", "left_x", "2nd"].map(str::to_owned).to_vec(),
        policy_hz: 10,
    }
}

fn observation(captured_ns: u64) -> Observation {
    let rgb: Vec<u8> = (0..16 * 16 * 3)
        .map(|i| (i * 7 + captured_ns) as u8)
        .collect();
    Observation {
        captured_ns,
        proprio: vec![captured_ns as f32, 1.5, -2.5],
        images: vec![Image {
            captured_ns: captured_ns - 1,
            height: 16,
            width: 16,
            rgb: rgb.into(),
        }],
    }
}

fn run(run: u64, from_ns: u64) -> Vec<Entry> {
    let entry = |index: u32, record| Entry {
        run: RunId(run),
        sequence: u64::from(index),
        episode: 0,
        index,
        record,
    };
    let step = |next| {
        Record::Step(Step {
            action: vec![0.5, -1.0, 0.25, 1.0],
            source: ActionSource::Human,
            reward: 1.0,
            grasp_penalty: -0.02,
            terminated: true,
            truncated: false,
            label: Some(true),
            policy_version: 3,
            noise_seed: 0,
            next,
        })
    };
    vec![
        entry(0, Record::Reset(observation(from_ns))),
        entry(1, step(observation(from_ns + 100))),
    ]
}

/// Topic, time and message of everything in a file.
fn messages(path: &Path) -> Vec<(String, u64, DynamicMessage)> {
    let bytes = fs::read(path).unwrap();
    let messages = mcap::MessageStream::new(&bytes).unwrap();
    let decoded = messages.map(|message| {
        let message = message.unwrap();
        let schema = message.channel.schema.as_ref().unwrap();
        let pool = DescriptorPool::decode(schema.data.as_ref()).unwrap();
        let kind = pool.get_message_by_name(&schema.name).unwrap();
        let decoded = DynamicMessage::decode(kind, message.data.as_ref()).unwrap();
        (message.channel.topic.clone(), message.log_time, decoded)
    });
    decoded.collect()
}

fn number(message: &DynamicMessage, name: &str) -> f32 {
    message.get_field_by_name(name).unwrap().as_f32().unwrap()
}

#[test]
fn a_viewer_finds_pictures_and_numbers_by_their_names() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("run.mcap");
    let entries = run(1, 1000);
    let count = foxglove::write(&path, &spec(), entries.iter().cloned().map(Ok)).unwrap();
    assert_eq!(count, 2);
    let messages = messages(&path);
    let of = |topic: &str| -> Vec<_> { messages.iter().filter(|m| m.0 == topic).collect() };

    let pictures = of("/camera/front");
    assert_eq!(pictures.len(), 2);
    for ((_, time_ns, picture), entry) in pictures.iter().zip(&entries) {
        let wanted = &entry.observation().images[0];
        assert_eq!(*time_ns, wanted.captured_ns);
        let field = |name| picture.get_field_by_name(name).unwrap().into_owned();
        assert_eq!(field("format").as_str(), Some("png"));
        assert_eq!(field("frame_id").as_str(), Some("front"));
        let data = field("data");
        let decoded = image::load_from_memory(data.as_bytes().unwrap()).unwrap();
        assert_eq!(decoded.to_rgb8().into_raw(), wanted.rgb.to_vec());
    }
    let states = of("/state");
    assert_eq!((states.len(), states[1].1), (2, 1100));
    assert_eq!(number(&states[1].2, "left_x"), 1100.0);
    assert_eq!(number(&states[1].2, "left_x_column1"), 1.5);
    assert_eq!(number(&states[1].2, "n_2nd"), -2.5);
    // An action stands where it was decided.
    let actions = of("/action");
    assert_eq!((actions.len(), actions[0].1), (1, 1000));
    assert_eq!(number(&actions[0].2, "arm0_gripper"), -1.0);
    assert_eq!(number(&actions[0].2, "arm1_x"), 0.25);
    let steps = of("/step");
    assert_eq!((steps.len(), steps[0].1), (1, 1100));
    assert_eq!(number(&steps[0].2, "reward"), 1.0);
    let source = steps[0].2.get_field_by_name("source").unwrap();
    assert_eq!(source.as_enum_number(), Some(1));
}

#[test]
fn runs_follow_each_other_whatever_their_clocks_say() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("runs.mcap");
    let entries = [run(1, 5_000_000_000), run(2, 1000)].concat();
    foxglove::write(&path, &spec(), entries.into_iter().map(Ok)).unwrap();
    let times: Vec<u64> = (messages(&path).into_iter())
        .filter(|(topic, ..)| topic == "/state")
        .map(|(_, time_ns, _)| time_ns)
        .collect();
    assert_eq!(
        times,
        [5_000_000_000, 5_000_000_100, 6_000_000_100, 6_000_000_200]
    );
}

#[test]
fn what_cannot_be_written_leaves_nothing_and_what_is_there_stays() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("run.mcap");
    let mut bad = run(1, 1000);
    let Record::Reset(observation) = &mut bad[0].record else {
        unreachable!()
    };
    observation.images[0].rgb = vec![0; 5].into();
    let error = foxglove::write(&path, &spec(), bad.into_iter().map(Ok)).unwrap_err();
    let said = error.to_string();
    assert!(
        said.contains("entry 0") && said.contains("`front`") && said.contains("5 bytes"),
        "{said}"
    );
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);

    // Of a writing that was killed.
    fs::write(beside(&path), "half").unwrap();
    foxglove::write(&path, &spec(), run(1, 1000).into_iter().map(Ok)).unwrap();
    let before = fs::read(&path).unwrap();
    let again = foxglove::write(&path, &spec(), run(2, 1000).into_iter().map(Ok));
    assert!(again.unwrap_err().to_string().contains("exists already"));
    assert_eq!(fs::read(&path).unwrap(), before);
}
