//! State vectors to learn from: what scaling, splitting and returns make of a table, and the ring of what is learned
//! on.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use hilt_learner::{
    agents::{Transitions, guard::BadBatch},
    vectors::{
        Affine, Normalizer, Preparation, PrepareError, Returns, RewardScale, Scaling, Step,
        Summary, VectorReplay, interleaved, prepare,
    },
};
use hilt_protocol::noise::Uniforms;
use hilt_recording::table::{Columns, Table};
use tch::{Device, Kind, Tensor};

const HOST: (Kind, Device) = (Kind::Float, Device::Cpu);

/// Episodes of these lengths on an observation of 2 numbers, the row's number and 1000 × it; the reward is the
/// row's number, the action what is left of it after tens. Those of odd length terminate.
fn table(lengths: &[usize]) -> Table {
    let mut columns = Columns {
        observation: 2,
        action: 1,
        ..Columns::default()
    };
    for &length in lengths {
        let start = columns.rewards.len();
        for row in start..start + length {
            let number = row as f32;
            columns.observations.extend([number, 1000.0 * number]);
            columns
                .next_observations
                .extend([number + 1.0, 1000.0 * (number + 1.0)]);
            columns.actions.push((row % 10) as f32 / 10.0);
            columns.rewards.push(number);
            let last = row + 1 == start + length;
            columns.terminals.push(last && length % 2 == 1);
            columns.timeouts.push(last && length % 2 == 0);
        }
    }
    Table::new(columns).unwrap()
}

fn plain() -> Preparation {
    Preparation {
        held_out: 0.0,
        seed: 1,
        normalize: false,
        rewards: RewardScale::default(),
        returns: None,
    }
}

fn numbers(tensor: &Tensor) -> Vec<f32> {
    Vec::try_from(&tensor.reshape([-1])).unwrap()
}

/// The rows that a batch is made of.
fn rows(batch: &Transitions) -> Vec<usize> {
    let first = batch.observations.narrow(1, 0, 1);
    numbers(&first)
        .into_iter()
        .map(|number| number as usize)
        .collect()
}

#[test]
fn unscaled_data_is_the_table() {
    let prepared = prepare(&table(&[3, 2]), &plain(), HOST).unwrap();
    assert!(prepared.held_out.is_none());
    assert_eq!(prepared.scaling, Scaling::default());
    let all = prepared.train.all();
    assert_eq!(rows(all), [0, 1, 2, 3, 4]);
    assert_eq!(numbers(&all.rewards), [0., 1., 2., 3., 4.]);
    assert_eq!(numbers(&all.actions), [0., 0.1, 0.2, 0.3, 0.4]);
    // Time running out is no end.
    assert_eq!(numbers(&all.masks), [1., 1., 0., 1., 1.]);
    assert_eq!(all.next_observations.size(), [5, 2]);
    assert_eq!(numbers(&all.next_observations.get(2)), [3., 3000.]);
    assert!(all.returns.is_none());
    assert_eq!(prepared.train.episodes(), [0..3, 3..5]);
    assert_eq!(rows(&prepared.train.slice(3, 10)), [3, 4]);
}

#[test]
fn whole_episodes_are_held_out_by_seed() {
    let lengths: Vec<usize> = (0..40).map(|i| 3 + i % 5).collect();
    let table = table(&lengths);
    let split = |held_out, seed| {
        let asked = Preparation {
            held_out,
            seed,
            ..plain()
        };
        let prepared = prepare(&table, &asked, HOST).unwrap();
        (
            rows(prepared.train.all()),
            rows(prepared.held_out.unwrap().all()),
        )
    };
    let (train, held_out) = split(0.2, 7);
    assert_eq!(split(0.2, 7), (train.clone(), held_out.clone()));
    assert_ne!(split(0.2, 8).1, held_out);
    // Each row is in one part, and each part is in order.
    assert!(train.is_sorted() && held_out.is_sorted());
    let mut all = [train.clone(), held_out.clone()].concat();
    all.sort();
    assert_eq!(all, (0..table.len()).collect::<Vec<_>>());
    for episode in table.episodes() {
        let there = episode.clone().filter(|row| held_out.contains(row)).count();
        assert!(there == 0 || there == episode.len());
    }
    let share = held_out.len() as f64 / table.len() as f64;
    assert!((0.2..0.2 + 7.0 / 200.0).contains(&share), "{share}");
    // Whatever the share, an episode is left to train on.
    assert!(split(0.999, 1).0.len() >= 3);
}

#[test]
fn scaling_is_found_on_the_training_part_and_applied_to_both() {
    let table = table(&[3, 2, 5]);
    let asked = Preparation {
        held_out: 0.1,
        normalize: true,
        rewards: RewardScale {
            scale: 0.5,
            shift: -3.0,
            ..RewardScale::default()
        },
        ..plain()
    };
    let prepared = prepare(&table, &asked, HOST).unwrap();
    let train = prepared.train.all();
    let normalizer = prepared.scaling.observations.clone().unwrap();
    // (s − μ) / (σ + 1e-3) of these very rows: mean 0, deviation σ / (σ + 1e-3).
    let (mean, std) = (train.observations.mean_dim(0, false, Kind::Double), {
        train.observations.std_dim(0, false, false)
    });
    for (place, scale) in [(0, 1.0), (1, 1000.0)] {
        assert!(mean.double_value(&[place]).abs() < 1e-6);
        let sigma = f64::from(normalizer.std[place as usize]) - 1e-3;
        let wanted = sigma / (sigma + 1e-3);
        assert!(
            (std.double_value(&[place]) - wanted).abs() < 1e-5,
            "{sigma}"
        );
        assert!((0.5..4.0).contains(&(sigma / scale)));
    }
    let held_out = prepared.held_out.unwrap();
    let raw = prepare(
        &table,
        &Preparation {
            normalize: false,
            rewards: RewardScale::default(),
            ..asked
        },
        HOST,
    )
    .unwrap();
    let raw = raw.held_out.unwrap();
    // And back.
    let undone = prepared.scaling.undone(held_out.all());
    let near = |a: &Tensor, b: &Tensor| assert!(a.allclose(b, 1e-4, 1e-4, false), "{a:?} {b:?}");
    near(&undone.observations, &raw.all().observations);
    near(&undone.next_observations, &raw.all().next_observations);
    near(&undone.rewards, &raw.all().rewards);
    assert_ne!(held_out.all().rewards, raw.all().rewards);
    let wanted = normalizer.applied(&raw.all().observations);
    assert_eq!(held_out.all().observations, wanted);
    assert_eq!(
        held_out.all().next_observations,
        normalizer.applied(&raw.all().next_observations)
    );
    let mut slice = numbers(&raw.all().observations);
    normalizer.apply(&mut slice);
    assert_eq!(numbers(&wanted), slice);
}

#[test]
fn a_normalizer_is_numpys_mean_and_deviation() {
    let table = table(&[4]);
    let normalizer = Normalizer::over(&table, &[0..2, 3..4]);
    // np.mean([0, 1, 3]), np.std([0, 1, 3]) + 1e-3
    let (mean, std) = (1.333_333_4, 1.247_219_1 + 1e-3);
    assert_eq!(normalizer.mean, [mean, 1000.0 * mean]);
    assert!((normalizer.std[0] - std).abs() < 1e-6);
    let text = serde_json::to_string(&normalizer).unwrap();
    assert_eq!(
        serde_json::from_str::<Normalizer>(&text).unwrap(),
        normalizer
    );
}

#[test]
fn rewards_are_divided_by_the_spread_of_whole_episodes() {
    let normalize = RewardScale {
        normalize: true,
        ..RewardScale::default()
    };
    // Returns 0 + 1 + 2 = 3 and 3 + 4 = 7.
    let whole = table(&[3, 2]);
    let (scale, shift) = (250.0, 0.0);
    assert_eq!(normalize.resolve(&whole), Ok(Affine { scale, shift }));
    let both = RewardScale {
        scale: 2.0,
        shift: -1.0,
        ..normalize
    };
    let affine = both.resolve(&whole).unwrap();
    assert_eq!(
        (affine.scale, affine.shift, affine.of(2.0)),
        (500.0, -1.0, 999.0)
    );
    // A last episode that the data's end cuts does not count: 5 + 6 + 7 + 8 = 26 is not the largest.
    let mut columns = table(&[3, 2, 4]).into_columns();
    *columns.timeouts.last_mut().unwrap() = false;
    let cut = Table::new(columns).unwrap();
    assert_eq!(normalize.resolve(&cut), Ok(Affine { scale, shift }));
    let said = normalize.resolve(&table(&[3])).unwrap_err().to_string();
    assert!(
        said.starts_with("every whole episode has the return 3,"),
        "{said}"
    );

    let antmaze = RewardScale {
        shift: -1.0,
        ..RewardScale::default()
    };
    let asked = Preparation {
        rewards: antmaze,
        ..plain()
    };
    let prepared = prepare(&whole, &asked, HOST).unwrap();
    assert_eq!(
        numbers(&prepared.train.all().rewards),
        [-1., 0., 1., 2., 3.]
    );
}

#[test]
fn returns_are_of_scaled_rewards_within_an_episode() {
    let asked = Preparation {
        rewards: RewardScale {
            scale: 2.0,
            ..RewardScale::default()
        },
        returns: Some(Returns {
            discount: 0.5,
            sparse: false,
        }),
        ..plain()
    };
    let prepared = prepare(&table(&[3, 2]), &asked, HOST).unwrap();
    let returns = prepared.train.all().returns.as_ref().unwrap();
    assert_eq!(numbers(returns), [2., 4., 4., 10., 8.]);
}

#[test]
fn a_batch_is_drawn_from_all_rows_and_again_from_the_same_seed() {
    let prepared = prepare(&table(&[3, 2]), &plain(), HOST).unwrap();
    let draw = |seed| prepared.train.batch(&mut Uniforms::new(seed), 4000);
    let batch = draw(3);
    assert_eq!(rows(&draw(3)), rows(&batch));
    assert_ne!(rows(&draw(4)), rows(&batch));
    assert_eq!(batch.observations.size(), [4000, 2]);
    let drawn = rows(&batch);
    for row in 0..5 {
        // 800 expected, deviation 25.
        let count = drawn.iter().filter(|&&drawn| drawn == row).count();
        assert!((650..950).contains(&count), "row {row}: {count}");
    }
    let rewards: Vec<usize> = numbers(&batch.rewards)
        .iter()
        .map(|&r| r as usize)
        .collect();
    assert_eq!(rewards, drawn);
}

#[test]
fn bad_tables_are_refused_with_their_row() {
    let mut columns = table(&[3, 2]).into_columns();
    columns.actions[4] = 2.0;
    let beyond = Table::new(columns).unwrap();
    let asked = Preparation {
        held_out: 0.3,
        ..plain()
    };
    let said = prepare(&beyond, &asked, HOST).unwrap_err().to_string();
    assert!(
        said.starts_with("`actions` has 2 in row 4, column 0"),
        "{said}"
    );
    let error = prepare(&table(&[4]), &asked, HOST).unwrap_err();
    assert!(matches!(error, PrepareError::OneEpisode(4)));
    let share = Preparation {
        held_out: 1.0,
        ..plain()
    };
    let error = prepare(&table(&[4, 3]), &share, HOST).unwrap_err();
    assert!(matches!(error, PrepareError::Share(1.0)));
    let large = Preparation {
        rewards: RewardScale {
            scale: 1e39,
            ..RewardScale::default()
        },
        ..plain()
    };
    let said = prepare(&table(&[4, 3]), &large, HOST)
        .unwrap_err()
        .to_string();
    assert!(said.starts_with("`rewards` has inf in row 1"), "{said}");
}

fn replay(capacity: usize, returns: Option<Returns>) -> VectorReplay {
    VectorReplay::new(capacity, (2, 1), Scaling::default(), returns)
}

const HALVED: Option<Returns> = Some(Returns {
    discount: 0.5,
    sparse: false,
});

/// The rows that can be drawn, each once.
fn drawable(replay: &VectorReplay) -> Vec<usize> {
    let mut drawn = match replay.batch(&mut Uniforms::new(5), 500, HOST) {
        Some(batch) => rows(&batch),
        None => vec![],
    };
    drawn.sort();
    drawn.dedup();
    assert_eq!(drawn.len(), replay.ready());
    drawn
}

#[test]
fn a_ring_keeps_the_newest_rows() {
    let table = table(&[3, 2, 4]);
    let mut ring = replay(100, None);
    assert!(ring.is_empty() && ring.table().is_err());
    assert!(ring.batch(&mut Uniforms::new(1), 4, HOST).is_none());
    ring.extend(&table).unwrap();
    assert_eq!(ring.table().unwrap(), table);

    let mut ring = replay(4, None);
    ring.extend(&table).unwrap();
    assert_eq!((ring.len(), drawable(&ring)), (4, vec![5, 6, 7, 8]));
    let kept = ring.table().unwrap();
    assert_eq!(kept.columns().rewards, [5., 6., 7., 8.]);
    assert_eq!(
        kept.columns().observations,
        table.columns().observations[10..]
    );
    assert_eq!(kept.columns().timeouts, [false, false, false, true]);
    ring.extend(&Table::new(table.into_columns()).unwrap())
        .unwrap();
    assert_eq!(ring.table().unwrap(), kept);
}

/// Time can run out in the very step that terminates.
#[test]
fn a_ring_that_goes_on_from_its_table_has_every_flag() {
    let mut columns = table(&[3, 2]).into_columns();
    (columns.terminals[2], columns.timeouts[2]) = (true, true);
    let table = Table::new(columns).unwrap();
    let mut ring = replay(100, None);
    ring.extend(&table).unwrap();
    assert_eq!(ring.table().unwrap(), table);
}

/// Pushes the rows of a table as the task would give them.
fn play(ring: &mut VectorReplay, table: &Table, rows: std::ops::Range<usize>) {
    for row in rows {
        ring.push(Step {
            observation: table.observation(row),
            action: table.action(row),
            reward: table.columns().rewards[row],
            next_observation: table.next_observation(row),
            terminated: table.columns().terminals[row],
            truncated: table.columns().timeouts[row],
        })
        .unwrap();
    }
}

#[test]
fn with_returns_an_episode_is_drawn_from_when_it_has_ended() {
    let table = table(&[3, 2, 4]);
    let mut ring = replay(6, HALVED);
    play(&mut ring, &table, 0..2);
    assert_eq!((ring.len(), drawable(&ring)), (2, vec![]));
    play(&mut ring, &table, 2..4);
    assert_eq!(drawable(&ring), [0, 1, 2]);
    play(&mut ring, &table, 4..7);
    // Row 0 has gone for row 6; rows 5 and 6 are of the open episode.
    assert_eq!(drawable(&ring), [1, 2, 3, 4]);
    play(&mut ring, &table, 7..9);
    assert_eq!(drawable(&ring), [3, 4, 5, 6, 7, 8]);
    let batch = ring.batch(&mut Uniforms::new(9), 300, HOST).unwrap();
    let wanted = [0., 0., 0., 5., 4., 10.75, 11.5, 11., 8.];
    let got = numbers(batch.returns.as_ref().unwrap());
    for (row, value) in rows(&batch).into_iter().zip(got) {
        assert_eq!(value, wanted[row], "row {row}");
    }

    // An episode longer than the ring.
    let mut ring = replay(3, HALVED);
    play(&mut ring, &table, 5..8);
    play(&mut ring, &table, 5..8);
    assert_eq!(drawable(&ring).len(), 0);
    play(&mut ring, &table, 8..9);
    assert_eq!(drawable(&ring), [6, 7, 8]);
}

#[test]
fn a_ring_scales_as_the_data_was_scaled() {
    let table = table(&[3, 2, 5]);
    let asked = Preparation {
        normalize: true,
        rewards: RewardScale {
            normalize: true,
            shift: 0.5,
            ..RewardScale::default()
        },
        returns: HALVED,
        ..plain()
    };
    let prepared = prepare(&table, &asked, HOST).unwrap();
    let mut ring = VectorReplay::new(10, (2, 1), prepared.scaling.clone(), asked.returns);
    ring.extend(&table).unwrap();
    // The same draws of as many rows.
    let ours = ring.batch(&mut Uniforms::new(2), 64, HOST).unwrap();
    let theirs = prepared.train.batch(&mut Uniforms::new(2), 64);
    assert_eq!(ours.observations, theirs.observations);
    assert_eq!(ours.actions, theirs.actions);
    assert_eq!(ours.rewards, theirs.rewards);
    assert_eq!(ours.next_observations, theirs.next_observations);
    assert_eq!(ours.masks, theirs.masks);
    assert_eq!(ours.returns, theirs.returns);
    // What is kept is what the task gave.
    assert_eq!(ring.table().unwrap(), table);
}

#[test]
fn a_bad_step_is_refused_and_not_kept() {
    let mut ring = replay(4, None);
    let good = Step {
        observation: &[0.0, 0.0],
        action: &[0.0],
        reward: 0.0,
        next_observation: &[0.0, 0.0],
        terminated: false,
        truncated: false,
    };
    ring.push(good).unwrap();
    let nan = Step {
        next_observation: &[0.0, f32::NAN],
        ..good
    };
    let error = ring.push(nan).unwrap_err();
    assert!(matches!(
        error,
        BadBatch::NotFinite {
            tensor: "next_observations",
            row: 1,
            column: 1,
            ..
        }
    ));
    let short = Step {
        action: &[],
        ..good
    };
    let error = ring.push(short).unwrap_err();
    assert!(matches!(
        error,
        BadBatch::Shape {
            tensor: "actions",
            ..
        }
    ));
    assert_eq!((ring.len(), drawable(&ring).len()), (1, 1));
}

#[test]
fn halves_take_turns() {
    let table = table(&[3, 2]);
    let asked = Preparation {
        returns: HALVED,
        ..plain()
    };
    let prepared = prepare(&table, &asked, HOST).unwrap();
    let (a, b) = (prepared.train.slice(0, 2), prepared.train.slice(3, 2));
    let both = interleaved(&a, &b);
    assert_eq!(rows(&both), [0, 3, 1, 4]);
    assert_eq!(both.observations.size(), [4, 2]);
    assert_eq!(numbers(&both.rewards), [0., 3., 1., 4.]);
    assert_eq!(numbers(&both.masks), [1., 1., 1., 1.]);
    assert_eq!(both.returns.unwrap().size(), [4]);
}

#[test]
fn a_summary_says_what_is_there() {
    let mut columns = table(&[3, 2]).into_columns();
    for (at, value) in columns.observations.iter_mut().enumerate() {
        *value = if at % 2 == 1 { 4.0 } else { *value };
    }
    columns.next_observations.clone_from(&columns.observations);
    for row in 0..4 {
        columns.next_observations[2 * row] += 1.0;
    }
    let text = Summary::of(&Table::new(columns).unwrap()).to_string();
    let wanted = "5 transitions of 2 episodes, observations of 2 numbers, actions of 1
  return    mean 5.00 (3.00 to 7.00)
  reward    mean 2.00 (0.00 to 4.00)
  steps     mean 2.50 (2.00 to 3.00)
  ended     50 % by themselves, the others were cut
  constant  observation's numbers [1]";
    assert_eq!(text, wanted);
}
