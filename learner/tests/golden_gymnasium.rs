//! Gymnasium's tasks against steps that its own package made (`tests/golden/record_gymnasium.py`), driven by the
//! files alone: starts, actions and the lengths of the episodes.
#![cfg(feature = "sim")]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod common;

use common::Golden;
use hilt_learner::tasks;
use hilt_sim::Locomotion;

/// Here every number is the same to the last bit. Sines of another system's C library may differ in it, and
/// that grows along an episode.
const WITHIN: f64 = 1e-9;

/// The file of `HILT_GOLDEN`, or the repository's own where that folder has only what others recorded.
fn read(stem: &str) -> Golden {
    let given = common::folder().join(format!("{stem}.safetensors"));
    match given.exists() {
        true => Golden::read(stem),
        false => Golden::read_own(stem),
    }
}

fn rows(golden: &Golden, name: &str) -> Vec<Vec<f64>> {
    let tensor = golden.get(name);
    let flat = Vec::<f64>::try_from(tensor.flatten(0, -1)).unwrap();
    let width = flat.len() / tensor.size()[0] as usize;
    flat.chunks_exact(width).map(<[f64]>::to_vec).collect()
}

/// The largest difference, relative to what is greater than 1.
fn difference(got: &[f64], want: &[f64]) -> f64 {
    assert_eq!(got.len(), want.len());
    let pairs = got.iter().zip(want);
    pairs.fold(0.0, |most, (got, want)| {
        f64::max(most, (got - want).abs() / want.abs().max(1.0))
    })
}

/// Both for the id that is in the file, whatever the file is called.
fn case(stem: &str) {
    let golden = read(stem);
    let given = golden.hyperparameters();
    let id = given["id"].as_str().unwrap();
    assert!(tasks::ids().any(|known| known == id), "{id}");
    let mut task = Locomotion::open(id).unwrap();
    assert_eq!(task.observations() as u64, given["observations"]);
    assert_eq!(task.actions() as u64, given["actions"]);
    assert!((task.step_s() - given["step_s"].as_f64().unwrap()).abs() < 1e-15);

    let lengths = Vec::<i64>::try_from(golden.get("lengths")).unwrap();
    let terminated = Vec::<i64>::try_from(golden.get("terminated")).unwrap();
    let [qpos, qvel, first] = ["qpos", "qvel", "first"].map(|name| rows(&golden, name));
    let [actions, observations, rewards] =
        ["actions", "observations", "rewards"].map(|name| rows(&golden, name));
    assert_eq!(lengths.iter().sum::<i64>() as usize, actions.len());
    let (mut step, mut most) = (0, 0.0);
    for (episode, &length) in lengths.iter().enumerate() {
        let seen = task.put(&qpos[episode], &qvel[episode]).unwrap();
        most = f64::max(most, difference(&seen, &first[episode]));
        for _ in 0..length {
            let moved = task.step(&actions[step]);
            let here = f64::max(
                difference(&moved.observation, &observations[step]),
                difference(&[moved.reward], &rewards[step]),
            );
            assert!(
                here < WITHIN,
                "{id}, episode {episode}, step {step}: {here}"
            );
            assert_eq!(moved.terminated, terminated[step] == 1, "{id}, step {step}");
            assert!(!moved.truncated);
            most = f64::max(most, here);
            step += 1;
        }
    }
    println!("{id}: {step} steps, the largest difference is {most:e}");
}

#[test]
fn golden_gymnasium_hopper_v4() {
    case("gymnasium_hopper_v4");
}

#[test]
fn golden_gymnasium_hopper_v5() {
    case("gymnasium_hopper_v5");
}

#[test]
fn golden_gymnasium_halfcheetah_v4() {
    case("gymnasium_halfcheetah_v4");
}

#[test]
fn golden_gymnasium_halfcheetah_v5() {
    case("gymnasium_halfcheetah_v5");
}

#[test]
fn golden_gymnasium_walker2d_v4() {
    case("gymnasium_walker2d_v4");
}

#[test]
fn golden_gymnasium_walker2d_v5() {
    case("gymnasium_walker2d_v5");
}
