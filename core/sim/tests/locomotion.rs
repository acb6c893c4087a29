//! Gymnasium's tasks: how episodes begin and end, and their pictures. That the steps are Gymnasium's is checked
//! in the learner's `golden_gymnasium`.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use hilt_sim::{Locomotion, SimError};

fn open(id: &str) -> Locomotion {
    Locomotion::open(id).unwrap()
}

#[test]
fn an_episode_is_the_same_for_a_seed_whatever_was_before() {
    for id in Locomotion::ids() {
        let mut task = open(id);
        let action = vec![0.7; task.actions()];
        let mut episode = |seed| {
            let first = task.reset(seed);
            let steps: Vec<_> = (0..8).map(|_| task.step(&action)).collect();
            (first, steps)
        };
        let one = episode(3);
        assert_ne!(episode(4).0, one.0, "{id}");
        assert_eq!(episode(3), one, "{id}");
    }
}

/// The largest, and what the squares come to in the mean.
fn spread(values: &[f64]) -> (f64, f64) {
    let most = values.iter().fold(0.0, |most, x| f64::max(most, x.abs()));
    let squares: f64 = values.iter().map(|x| x * x).sum();
    (most, (squares / values.len() as f64).sqrt())
}

#[test]
fn starts_are_spread_as_gymnasiums() {
    for (id, scale, normal) in [
        ("Hopper-v4", 5e-3, false),
        ("Walker2d-v5", 5e-3, false),
        ("HalfCheetah-v5", 0.1, true),
    ] {
        let mut task = open(id);
        let usual = task.qpos().to_vec();
        let (mut places, mut speeds) = (vec![], vec![]);
        for seed in 0..400 {
            task.reset(seed);
            places.extend(task.qpos().iter().zip(&usual).map(|(q, usual)| q - usual));
            speeds.extend_from_slice(task.qvel());
        }
        let uniform = scale / f64::sqrt(3.0);
        let (most, root_mean_square) = spread(&places);
        assert!(most <= scale && most > 0.99 * scale, "{id}: {most}");
        assert!((root_mean_square / uniform - 1.0).abs() < 0.05, "{id}");
        let (most, root_mean_square) = spread(&speeds);
        assert_eq!(most > scale, normal, "{id}: {most}");
        let wanted = if normal { scale } else { uniform };
        assert!((root_mean_square / wanted - 1.0).abs() < 0.05, "{id}");
    }
}

#[test]
fn time_runs_out_after_a_thousand_steps_and_begins_anew() {
    let mut task = open("HalfCheetah-v5");
    for seed in 0..2 {
        task.reset(seed);
        let cut = (1..).find(|_| {
            let moved = task.step(&[0.1; 6]);
            assert!(!moved.terminated);
            moved.truncated
        });
        assert_eq!(cut, Some(task.most_steps()));
    }
}

#[test]
fn a_start_that_does_not_fit_changes_nothing() {
    let mut task = open("Hopper-v5");
    task.reset(1);
    let before = task.qpos().to_vec();
    for (qpos, qvel) in [
        (vec![0.0; 5], vec![0.0; 6]),
        (vec![0.0; 6], vec![0.0; 7]),
        (vec![f64::NAN; 6], vec![0.0; 6]),
    ] {
        let message = task.put(&qpos, &qvel).unwrap_err().to_string();
        assert!(message.contains("Hopper-v5 has 6 joints"), "{message}");
    }
    assert_eq!(task.qpos(), before);
}

#[test]
fn an_unknown_task_is_named_with_those_that_there_are() {
    let error = Locomotion::open("Hopper-v3").err().unwrap();
    assert!(matches!(&error, SimError::UnknownTask { id, .. } if id == "Hopper-v3"));
    assert!(error.to_string().contains("Walker2d-v5"), "{error}");
}

/// The columns in which the cheetah's skin is seen.
fn skin(rgb: &[u8], width: usize) -> Vec<usize> {
    let is_skin = |p: &[u8]| p[0] > 90 && u16::from(p[0]) > u16::from(p[2]) + 30;
    let pixels = rgb.chunks_exact(3).enumerate();
    pixels
        .filter_map(|(i, p)| is_skin(p).then_some(i % width))
        .collect()
}

/// How much two pictures differ, in levels.
fn difference(one: &[u8], other: &[u8]) -> f64 {
    let pairs = one.iter().zip(other);
    pairs.map(|(a, b)| f64::from(a.abs_diff(*b))).sum::<f64>() / one.len() as f64
}

#[test]
fn its_pictures_go_along_with_it_over_a_floor_without_end() {
    let mut task = open("HalfCheetah-v5");
    // The floor is checked: the same after 4/3 m and what is a multiple of it, but not after a half.
    let pictures = [0.0, 400.0, -400.0, 400.0 + 2.0 / 3.0].map(|far_m| {
        let mut qpos = [0.0; 9];
        qpos[0] = far_m;
        task.put(&qpos, &[0.0; 9]).unwrap();
        let picture = task.picture(160, 120).unwrap();
        assert_eq!(picture.len(), 160 * 120 * 3);
        let columns = skin(&picture, 160);
        assert!(columns.len() > 200, "{} pixels of it", columns.len());
        let mean = columns.iter().sum::<usize>() / columns.len();
        assert!((60..100).contains(&mean), "it is at column {mean}");
        picture
    });
    let [far, back, between] = [1, 2, 3].map(|i| difference(&pictures[0], &pictures[i]));
    assert!(far < 1.0 && back < 1.0, "{far} {back}");
    assert!(between > 20.0, "{between}");
}

#[test]
fn a_picture_has_the_size_that_is_asked_for_and_changes_nothing() {
    let [mut task, mut unseen] = [(); 2].map(|()| open("Walker2d-v5"));
    assert_eq!(task.reset(5), unseen.reset(5));
    for (width, height) in [(160, 120), (64, 48), (700, 500)] {
        let picture = task.picture(width, height).unwrap();
        assert_eq!(picture.len() as u32, width * height * 3);
        assert_eq!(task.step(&[0.4; 6]), unseen.step(&[0.4; 6]));
    }
    let message = task.picture(0, 48).unwrap_err().to_string();
    assert!(message.contains("0×48"), "{message}");
}
