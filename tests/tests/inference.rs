//! The robot's inference against the learner's own networks: what acts, and what is refused.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::{
    sync::{Mutex, OnceLock, atomic::AtomicBool, mpsc},
    time::{Duration, Instant},
};

use hilt_learner::{
    agents::{Draws, sac_grasp::SacGrasp, sight::Sight},
    config::Algorithm,
    export,
    onnx::Weights,
};
use hilt_protocol::{GraphName, Image, ModelSnapshot, Observation, SpecHash, noise};
use hilt_runtime::{
    evaluate::{EvaluateOptions, evaluate},
    inference::{Engine, OnnxBrain, PolicyFiles, Provider, SnapshotRefused},
    rig::Rig,
};
use hilt_tests::{Untrained, lift_rig};
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

fn maps(learner: &Untrained, seen: &Observation) -> Vec<Tensor> {
    let map = |image: &Image| {
        let shape = [1, i64::from(image.height), i64::from(image.width), 3];
        let pixels = Tensor::from_slice(&image.rgb).view(shape);
        learner.encoder.encode(&pixels)
    };
    seen.images.iter().map(map).collect()
}

fn numbers(values: &[f32]) -> Tensor {
    Tensor::from_slice(values).view([1, -1])
}

/// What the learner's own networks do, in libtorch.
fn wanted(
    learner: &Untrained,
    agent: &SacGrasp,
    seen: &Observation,
    seed: u64,
    explore: bool,
) -> Vec<f32> {
    let maps = maps(learner, seen);
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

/// The noise that a step's seed gives, for every column of the action.
struct OfSeed(u64);

impl Draws for OfSeed {
    fn normal(&mut self, _: &'static str, shape: &[i64]) -> Tensor {
        numbers(&noise::normals(self.0, shape[1] as usize))
    }
    fn uniform(&mut self, name: &'static str, _: &[i64]) -> Tensor {
        panic!("{name}")
    }
    fn members(&mut self, name: &'static str, _: i64, _: i64) -> Tensor {
        panic!("{name}")
    }
}

/// The gripper's command is a number like the others to it, and gets noise of its own.
#[test]
fn the_brain_acts_as_an_algorithm_on_vectors_does() {
    let learner = Untrained::new(3).unwrap();
    let columns = learner.spec.action_dim();
    assert_eq!(columns, learner.spec.motion_columns().len() + 1);
    for algorithm in [Algorithm::Bc, Algorithm::Iql, Algorithm::Sac] {
        let agent = learner.sighted(algorithm, columns).unwrap();
        let files = learner.graphs_of(&agent, Weights::Inputs);
        let (mut bound, sender) = brain(&learner, &files);
        let snapshot = export::policy_snapshot(&files.policy, &agent, 7);
        sender.send(snapshot).unwrap();
        assert_eq!(wait(&mut bound, 7), None);
        for seed in 0..4 {
            let (seen, explore) = (learner.observation(seed), seed % 2 == 1);
            let sight = Sight {
                maps: maps(&learner, &seen),
                proprio: numbers(&seen.proprio),
            };
            let mut draws = OfSeed(seed);
            let want = match explore {
                true => agent.act(&sight, Some(&mut draws)),
                false => agent.act(&sight, None),
            };
            let want: Vec<f32> = Vec::try_from(want.view([-1])).unwrap();
            assert_close(&bound.act(&seen, seed, explore).unwrap(), &want);
        }
    }
}

#[test]
fn a_policy_for_other_actions_is_refused_with_both_numbers() {
    let learner = Untrained::new(3).unwrap();
    let agent = learner.sighted(Algorithm::Td3Bc, 7).unwrap();
    let files = learner.graphs_of(&agent, Weights::Baked);
    let loaded = OnnxBrain::load(engine(), &learner.spec, &files, |_| None);
    let Err(error) = loaded else {
        panic!("it was taken")
    };
    let error = error.to_string();
    for word in ["7 columns", "have 4", "3 of them motion"] {
        assert!(error.contains(word), "{error}");
    }
}

/// The folder that a training leaves, evaluated as `hilt evaluate` does, in lockstep.
#[test]
fn the_exported_folder_of_an_algorithm_on_vectors_moves_a_simulated_arm() {
    let learner = Untrained::new(3).unwrap();
    let agent = learner.sighted(Algorithm::Td3Bc, learner.spec.action_dim());
    let dir = tempfile::tempdir().unwrap();
    let (policy, out) = (dir.path().join("export"), dir.path().join("out"));
    export::write_folder(
        &policy,
        &learner.spec,
        &learner.encoder,
        &agent.unwrap(),
        None,
    )
    .unwrap();
    let rig = Rig::read(&lift_rig(), &["episode.max_steps=5".to_owned()]).unwrap();
    let options = EvaluateOptions {
        policy,
        episodes: 2,
        seed: 1,
        out,
        workers: 1,
    };
    let steps = Mutex::new(0);
    let never = AtomicBool::new(false);
    let summary = evaluate(&rig, engine(), &options, &never, |so_far| {
        *steps.lock().unwrap() = so_far.steps;
    });
    assert_eq!(summary.unwrap().episodes, 2);
    assert_eq!(steps.into_inner().unwrap(), 10);
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
