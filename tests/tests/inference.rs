//! The robot's inference against the learner's own networks: what acts, and what is refused.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::{
    sync::{OnceLock, mpsc},
    time::{Duration, Instant},
};

use hilt_learner::{agents::sac_grasp::SacGrasp, onnx::Weights};
use hilt_protocol::{GraphName, ModelSnapshot, Observation, SpecHash, noise};
use hilt_runtime::inference::{Engine, OnnxBrain, PolicyFiles, Provider, SnapshotRefused};
use hilt_tests::Untrained;
use tch::{Kind, Tensor};

/// Long enough for a loaded machine; nothing waits so long when all is well.
const LONG: Duration = Duration::from_secs(30);

/// ONNX Runtime opens once per process.
fn engine() -> &'static Engine {
    static ENGINE: OnceLock<Engine> = OnceLock::new();
    ENGINE.get_or_init(|| Engine::open(&[Provider::Cpu], 1).unwrap())
}

/// A brain and what to send it snapshots with.
fn brain(learner: &Untrained, files: &PolicyFiles) -> (OnnxBrain, mpsc::Sender<ModelSnapshot>) {
    let (sender, receiver) = mpsc::channel();
    let mut receiver = Some(receiver);
    let brain = OnnxBrain::load(engine(), &learner.spec, files, |graph| {
        assert_eq!(graph, GraphName::Policy);
        let receiver: mpsc::Receiver<ModelSnapshot> = receiver.take()?;
        Some(Box::new(move |timeout| receiver.recv_timeout(timeout).ok()))
    });
    (brain.unwrap(), sender)
}

/// Swaps until the policy is at `version`, or something was refused.
fn wait(brain: &mut OnnxBrain, version: u64) -> Option<SnapshotRefused> {
    let start = Instant::now();
    loop {
        if let Some((graph, refused)) = brain.swap().pop() {
            assert_eq!(graph, GraphName::Policy);
            return Some(refused);
        }
        if brain.version() == version {
            return None;
        }
        assert!(start.elapsed() < LONG, "snapshot {version} never came");
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// What the learner's own networks do, in libtorch.
fn wanted(
    learner: &Untrained,
    agent: &SacGrasp,
    seen: &Observation,
    seed: u64,
    explore: bool,
) -> Vec<f32> {
    let maps: Vec<Tensor> = (seen.images.iter())
        .map(|image| {
            let shape = [1, i64::from(image.height), i64::from(image.width), 3];
            let pixels = Tensor::from_slice(&image.rgb).view(shape);
            learner.encoder.encode(&pixels)
        })
        .collect();
    let numbers = |values: &[f32]| Tensor::from_slice(values).view([1, -1]);
    let motion = learner.spec.motion_columns().len();
    let action = agent.act(
        &maps,
        &numbers(&seen.proprio),
        &numbers(&noise::normals(seed, motion)),
        &numbers(&noise::gumbels(seed, 3)),
        f64::from(u8::from(explore)),
    );
    Vec::try_from(action.to_kind(Kind::Float).view([-1])).unwrap()
}

fn assert_close(got: &[f32], want: &[f32]) {
    assert_eq!(got.len(), want.len());
    for (g, w) in got.iter().zip(want) {
        assert!((g - w).abs() < 1e-3, "{got:?}\n{want:?}");
    }
}

/// Through both forms of the graph, exploring or not, with every camera in its place.
#[test]
fn the_brain_acts_as_the_learner_does() {
    let learner = Untrained::new(3).unwrap();
    let files = learner.graphs(Weights::Inputs);
    let (mut bound, sender) = brain(&learner, &files);
    assert!(!bound.can_act());
    sender.send(learner.snapshot(&files.policy, 7)).unwrap();
    assert_eq!(wait(&mut bound, 7), None);
    let baked = learner.graphs(Weights::Baked);
    let mut baked = OnnxBrain::load(engine(), &learner.spec, &baked, |_| None).unwrap();
    assert!(baked.can_act());

    for seed in 0..6 {
        let (mut seen, explore) = (learner.observation(seed), seed % 2 == 1);
        let want = wanted(&learner, &learner.agent, &seen, seed, explore);
        assert_close(&bound.act(&seen, seed, explore).unwrap(), &want);
        assert_close(&baked.act(&seen, seed, explore).unwrap(), &want);

        seen.images.swap(0, 1);
        let want = wanted(&learner, &learner.agent, &seen, seed, explore);
        assert_close(&bound.act(&seen, seed, explore).unwrap(), &want);
    }
}

#[test]
fn a_bad_snapshot_is_refused_by_name_and_the_old_policy_stays() {
    let (learner, other) = (Untrained::new(3).unwrap(), Untrained::new(4).unwrap());
    let files = learner.graphs(Weights::Inputs);
    let (mut brain, sender) = brain(&learner, &files);
    sender.send(learner.snapshot(&files.policy, 5)).unwrap();
    assert_eq!(wait(&mut brain, 5), None);
    let seen = learner.observation(1);
    let before = brain.act(&seen, 1, false).unwrap();

    let mut refuse = |change: &dyn Fn(&mut ModelSnapshot), words: &str| {
        let mut snapshot = other.snapshot(&files.policy, 6);
        change(&mut snapshot);
        sender.send(snapshot).unwrap();
        let refused = wait(&mut brain, 6).expect(words).to_string();
        assert!(refused.contains(words), "{refused}");
        assert_eq!(brain.version(), 5);
        assert_eq!(brain.act(&seen, 1, false).unwrap(), before);
    };
    refuse(&|s| s.spec = SpecHash([1; 32]), "spec 010101");
    refuse(&|s| s.graph_hash = [1; 32], "another policy graph");
    refuse(&|s| s.version = 4, "not newer than 5");
    refuse(&|s| drop(s.weights.pop()), "no tensor");
    refuse(&|s| s.weights[2].shape = vec![1, 1], "no tensor");
    refuse(&|s| s.weights[2].data[0] = f32::NAN, "not finite");
    refuse(&|s| s.probe.output.data[0] += 0.1, "failed its probe");
    refuse(&|s| s.probe.output.data.clear(), "failed its probe");

    // None of them stands in the way of a good one.
    sender.send(other.snapshot(&files.policy, 6)).unwrap();
    assert_eq!(wait(&mut brain, 6), None);
    // The encoder is still the first learner's.
    let want = wanted(&learner, &other.agent, &seen, 1, false);
    assert_close(&brain.act(&seen, 1, false).unwrap(), &want);
}

#[test]
fn images_of_another_number_are_refused_by_name() {
    let learner = Untrained::new(3).unwrap();
    let files = learner.graphs(Weights::Baked);
    let mut brain = OnnxBrain::load(engine(), &learner.spec, &files, |_| None).unwrap();
    let mut seen = learner.observation(1);
    let third = seen.images[0].clone();
    seen.images.push(third);
    let error = brain.act(&seen, 1, false).unwrap_err().to_string();
    assert!(
        error.contains("encoder") && error.contains("`images`"),
        "{error}"
    );
    seen.images.truncate(1);
    assert!(brain.act(&seen, 1, false).is_err());
}
