//! Run logs and what viewers are given, read by the mcap package of Python: it knows MCAP and protobuf, and nothing of
//! hilt.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

#[path = "support/python.rs"]
mod python;
#[allow(dead_code, reason = "this test uses a part of it")]
#[path = "support/rig.rs"]
mod rig;

use std::{collections::BTreeMap, path::Path};

use hilt_protocol::{ActionSource, Entry, Image, Observation, Record, RigSpec, RunId, Step};
use hilt_recording::{LOG_FILE, RunWriter, foxglove};
use rig::End;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

/// Two episodes, with numbers that a careless reader would not give back.
fn entries(spec: &RigSpec) -> Vec<Entry> {
    let mut entries = rig::entries(spec, &[(5, End::Terminated), (4, End::Truncated)]);
    for entry in &mut entries {
        entry.run = RunId(u64::MAX - 7);
        if let Record::Step(step) = &mut entry.record {
            step.label = [None, Some(true), Some(false)][entry.index as usize % 3];
            step.noise_seed = u64::MAX - entry.sequence;
            step.policy_version = 1 << 40;
        }
    }
    entries
}

/// What Python's package says of these files.
fn read(paths: &[&Path]) -> Option<Vec<Value>> {
    let out = python::python("mcap_read.py", paths)?;
    let files: Vec<Value> = serde_json::from_slice(&out).unwrap();
    Some(files.into_iter().map(single).collect())
}

/// With floats as exact as they are in the files; a parser of JSON may be off by a last bit beyond that.
fn single(value: Value) -> Value {
    match value {
        Value::Number(number) if number.is_f64() => json!(number.as_f64().unwrap() as f32),
        Value::Array(values) => values.into_iter().map(single).collect(),
        Value::Object(fields) => fields.into_iter().map(|(k, v)| (k, single(v))).collect(),
        other => other,
    }
}

fn hash(rgb: &[u8]) -> String {
    let hash = Sha256::digest(rgb);
    hash.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn image(image: &Image) -> Value {
    json!({
        "captured_ns": image.captured_ns,
        "height": image.height,
        "width": image.width,
        "rgb": hash(&image.rgb),
    })
}

fn observation(seen: &Observation) -> Value {
    json!({
        "captured_ns": seen.captured_ns,
        "proprio": seen.proprio,
        "images": seen.images.iter().map(image).collect::<Vec<_>>(),
    })
}

fn source(source: ActionSource) -> &'static str {
    match source {
        ActionSource::Policy => "POLICY",
        ActionSource::Human => "HUMAN",
        ActionSource::ScriptedOperator => "SCRIPTED_OPERATOR",
        ActionSource::Random => "RANDOM",
    }
}

fn step(step: &Step) -> Value {
    json!({
        "action": step.action,
        "source": source(step.source),
        "reward": step.reward,
        "grasp_penalty": step.grasp_penalty,
        "terminated": step.terminated,
        "truncated": step.truncated,
        "label": step.label,
        "policy_version": step.policy_version,
        "noise_seed": step.noise_seed,
    })
}

#[test]
fn a_run_is_read_by_its_own_schema() {
    let dir = tempfile::tempdir().unwrap();
    let spec = rig::spec();
    let entries = entries(&spec);
    let run = entries[0].run;
    let mut writer = RunWriter::create(dir.path(), run, &spec, BTreeMap::new()).unwrap();
    for entry in &entries {
        writer.append(entry).unwrap();
    }
    writer.finish().unwrap();
    let Some(files) = read(&[&dir.path().join(LOG_FILE)]) else {
        return;
    };
    let mut messages = files[0].as_array().unwrap().clone();
    // They come in order of time, which each of these episodes counts from 0.
    messages.sort_by_key(|message| message["sequence"].as_u64());
    assert_eq!(messages.len(), entries.len());
    for (message, entry) in messages.iter().zip(&entries) {
        let got = &message["message"];
        assert_eq!(message["schema"], "hilt.Entry");
        assert_eq!(got["run"], json!(entry.run.0));
        assert_eq!(got["sequence"], json!(entry.sequence));
        assert_eq!(got["episode"], json!(entry.episode));
        assert_eq!(got["index"], json!(entry.index));
        let wanted = match &entry.record {
            Record::Reset(_) => Value::Null,
            Record::Step(taken) => step(taken),
        };
        assert_eq!(got["step"], wanted);
        assert_eq!(got["observation"], observation(entry.observation()));
    }
}

#[test]
fn a_file_for_viewers_is_read_by_its_schemas_and_pillow_decodes_its_pictures() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("run.mcap");
    let spec = rig::spec();
    let entries = entries(&spec);
    foxglove::write(&path, &spec, entries.iter().cloned().map(Ok)).unwrap();
    let Some(files) = read(&[&path]) else {
        return;
    };
    let messages = files[0].as_array().unwrap();
    let of = |topic: &str| -> Vec<&Value> {
        let mut of: Vec<_> = messages.iter().filter(|m| m["topic"] == topic).collect();
        of.sort_by_key(|m| m["sequence"].as_u64().unwrap());
        of.iter().map(|m| &m["message"]).collect()
    };
    for (k, camera) in spec.cameras.iter().enumerate() {
        let pictures = of(&format!("/camera/{}", camera.name));
        assert_eq!(pictures.len(), entries.len());
        for (picture, entry) in pictures.iter().zip(&entries) {
            let wanted = &entry.observation().images[k];
            let time = &picture["timestamp"];
            let time_ns = |part: &str| time[part].as_u64().unwrap();
            assert_eq!(
                time_ns("seconds") * 1_000_000_000 + time_ns("nanos"),
                wanted.captured_ns
            );
            assert_eq!(picture["frame_id"], camera.name.as_str());
            assert_eq!(picture["data"], hash(&wanted.rgb), "{picture}");
        }
    }
    let numbers = |names: &[&str], values: &[f32]| -> Value {
        names
            .iter()
            .zip(values)
            .map(|(n, v)| ((*n).to_owned(), json!(v)))
            .collect()
    };
    let states = of("/state");
    assert_eq!(states.len(), entries.len());
    let names: Vec<&str> = spec.proprio.iter().map(String::as_str).collect();
    for (state, entry) in states.iter().zip(&entries) {
        assert_eq!(**state, numbers(&names, &entry.observation().proprio));
    }
    let (actions, facts) = (of("/action"), of("/step"));
    let steps = entries.iter().filter_map(|entry| match &entry.record {
        Record::Step(step) => Some((entry, step)),
        Record::Reset(_) => None,
    });
    assert_eq!((actions.len(), facts.len()), (9, 9));
    for ((entry, taken), (action, facts)) in steps.zip(actions.into_iter().zip(facts)) {
        let names = ["x", "y", "z", "gripper"];
        assert_eq!(*action, numbers(&names, &taken.action));
        let mut wanted = step(taken);
        let fields = wanted.as_object_mut().unwrap();
        fields.remove("action");
        fields.remove("noise_seed");
        fields.insert("episode".into(), json!(entry.episode));
        fields.insert("index".into(), json!(entry.index));
        assert_eq!(*facts, wanted);
    }
}
