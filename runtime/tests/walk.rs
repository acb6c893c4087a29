//! Episodes from devices to log: two fake arms, and the lift scene with its operator.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::{path::Path, sync::atomic::AtomicBool};

use hilt_drivers::{
    Arm, Camera, EpisodeStart, Intent, Teleop, TeleopError, TeleopEvent, fake::FakeArmPair,
    sim::Role,
};
use hilt_protocol::{ActionSource, MAX_ARMS, Observation, Record, Step};
use hilt_recording::{RunReader, read_spec};
use hilt_runtime::{
    brain::{Brain, BrainError, RandomBrain},
    cell::{Cell, CellError, lockstep::Lockstep},
    operator::Operator,
    record::{RecordOptions, record},
    rig::Rig,
    run_log::{Journal, JournalError},
    session::{Flow, Outcome, Policy, Session},
    tick,
};
use hilt_sim::Truth;

fn rig(name: &str, overrides: &[&str]) -> Rig {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../rigs")
        .join(name);
    let overrides: Vec<String> = overrides.iter().map(|&s| s.to_owned()).collect();
    Rig::read(&path, &overrides).unwrap()
}

#[derive(Default)]
struct Kept(Vec<Record>);

impl Journal for Kept {
    fn append(&mut self, record: Record, _: Option<Truth>) -> Result<(), JournalError> {
        self.0.push(record);
        Ok(())
    }
}

impl Kept {
    fn steps(&self) -> Vec<&Step> {
        self.0
            .iter()
            .filter_map(|record| match record {
                Record::Step(step) => Some(step),
                Record::Reset(_) => None,
            })
            .collect()
    }
}

/// Does nothing and thinks that every observation is a success, or none.
struct Idle {
    columns: usize,
    probability: Option<f32>,
}

impl Brain for Idle {
    fn act(&mut self, _: &Observation, _: u64, _: bool) -> Result<Vec<f32>, BrainError> {
        Ok(vec![0.0; self.columns])
    }

    fn judge(&mut self, _: &Observation) -> Result<Option<f32>, BrainError> {
        Ok(self.probability)
    }

    fn version(&self) -> u64 {
        7
    }

    fn updates(&self) -> u64 {
        0
    }
}

/// Does the same at every step.
struct Steady(Vec<f32>);

impl Brain for Steady {
    fn act(&mut self, _: &Observation, _: u64, _: bool) -> Result<Vec<f32>, BrainError> {
        Ok(self.0.clone())
    }

    fn judge(&mut self, _: &Observation) -> Result<Option<f32>, BrainError> {
        Ok(None)
    }

    fn version(&self) -> u64 {
        1
    }

    fn updates(&self) -> u64 {
        0
    }
}

fn episode<'a>(
    rig: &Rig,
    cell: &'a mut Cell,
    brain: &mut dyn Brain,
    teleop: Option<&'a mut (dyn Teleop + 'a)>,
    seed: u64,
) -> (Outcome, Kept) {
    let mut session = Session {
        cell,
        teleop,
        rules: rig.classifier,
        episode: rig.episode,
        seed,
        steps: 0,
    };
    let mut kept = Kept::default();
    let start = EpisodeStart {
        range_m: rig.episode.range_m,
        seed,
    };
    let mut policy = Policy::Brain(brain);
    let outcome = session
        .run_episode(&mut policy, start, &mut kept, |_, _| Flow::Go)
        .unwrap();
    (outcome, kept)
}

#[test]
fn two_arms_walk_a_whole_episode() {
    let rig = rig("fake-dual.toml", &["episode.max_steps=12"]);
    let mut cell = Cell::open(&rig).unwrap();
    let mut brain = RandomBrain::new(rig.spec());
    let (outcome, kept) = episode(&rig, &mut cell, &mut brain, None, 3);
    let steps = kept.steps();
    assert_eq!((outcome.steps, steps.len()), (12, 12));
    assert!(outcome.ending.truncated && !outcome.ending.terminated);
    assert_eq!(outcome.truth, None);
    for step in &steps {
        assert_eq!(
            (
                step.action.len(),
                step.next.proprio.len(),
                step.next.images.len()
            ),
            (10, 24, 2)
        );
        assert!(step.action.iter().all(|v| (-1.0..=1.0).contains(v)));
    }
    // Each arm moves by its own columns: what was commanded is what its tool did.
    let Record::Reset(reset) = &kept.0[0] else {
        panic!("an episode begins with a reset")
    };
    let mut before = reset;
    for step in &steps {
        for (column, number) in [(0, 0), (1, 1), (2, 2), (5, 12), (6, 13), (7, 14)] {
            let moved = step.next.proprio[number] - before.proprio[number];
            let error = (moved - 0.025 * step.action[column]).abs();
            assert!(error < 0.001, "column {column}: off by {error} m");
        }
        before = &step.next;
    }
    // A toggle costs once per gripper.
    let penalties: f32 = steps.iter().map(|s| s.grasp_penalty).sum();
    assert!(penalties < 0.0 && (penalties / -0.02).round() <= 24.0);
    let counts = cell.counts();
    assert_eq!(
        (counts.of(tick::Outcome::OnTime), counts.total()),
        (120, 120)
    );
}

#[test]
fn the_same_seed_walks_the_same_way() {
    let rig = rig("fake-dual.toml", &["episode.max_steps=5"]);
    let walk = |seed| {
        let mut cell = Cell::open(&rig).unwrap();
        episode(
            &rig,
            &mut cell,
            &mut RandomBrain::new(rig.spec()),
            None,
            seed,
        )
        .1
        .0
    };
    assert_eq!(walk(1), walk(1));
    assert_ne!(walk(1), walk(2));
}

#[test]
fn a_fault_of_one_arm_is_named_and_holds_both() {
    let rig = rig("fake-dual.toml", &[]);
    let pair = FakeArmPair::new(2).unwrap();
    let arms = (0..2)
        .map(|i| Box::new(pair.arm(i)) as Box<dyn Arm>)
        .collect();
    let cameras = rig
        .spec()
        .cameras
        .into_iter()
        .map(|spec| Box::new(pair.camera(spec)) as Box<dyn Camera>)
        .collect();
    let body = Lockstep::new(&rig, Box::new(pair.clone()), arms, cameras).unwrap();
    let mut cell = body.into_cell(&rig);
    let start = EpisodeStart {
        range_m: 0.0,
        seed: 1,
    };
    cell.reset(start).unwrap();
    let action = [0.5; 10];
    cell.step(&action).unwrap();
    pair.set_faulty(1, true);
    let error = cell.step(&action).unwrap_err();
    assert!(
        matches!(error, CellError::Stopped(fault) if fault.place == 1),
        "{error}"
    );
    assert!(error.to_string().contains("arm 1") && error.to_string().contains("held"));
    // With the cable back, a reset makes both usable again.
    pair.set_faulty(1, false);
    cell.reset(start).unwrap();
    cell.step(&action).unwrap();
}

/// Acts from one step of the episode to another, pulling the other way than the policy.
struct Grabs {
    step: u32,
    acts: std::ops::Range<u32>,
}

impl Teleop for Grabs {
    fn source(&self) -> ActionSource {
        ActionSource::Human
    }

    fn begin_episode(&mut self, _: u64) {
        self.step = 0;
    }

    fn intent(&mut self, now_ns: u64) -> Result<Option<Intent>, TeleopError> {
        self.step += 1;
        let mut intent = Intent::still(now_ns);
        intent.motion = [[-1.0; 6]; MAX_ARMS];
        Ok(self.acts.contains(&self.step).then_some(intent))
    }

    fn event(&mut self) -> Result<Option<TeleopEvent>, TeleopError> {
        Ok(None)
    }

    fn verdict(&mut self) -> Option<bool> {
        None
    }
}

#[test]
fn neither_taking_over_nor_handing_back_is_a_jump() {
    let rig = rig("fake-dual.toml", &["episode.max_steps=16"]);
    let mut cell = Cell::open(&rig).unwrap();
    let mut brain = Steady(vec![0.7; 10]);
    let mut person = Grabs {
        step: 0,
        acts: 5..10,
    };
    let teleop = Some(&mut person as &mut dyn Teleop);
    let (outcome, kept) = episode(&rig, &mut cell, &mut brain, teleop, 3);
    assert_eq!((outcome.steps, outcome.intervened), (16, 5));
    let seen = kept.0.iter().map(|record| match record {
        Record::Reset(seen) => seen,
        Record::Step(step) => &step.next,
    });
    // Where each arm was sent: its tool and what it was off by.
    let targets: Vec<[f32; 6]> = seen
        .map(|seen| {
            let p = &seen.proprio;
            [0, 1, 2, 12, 13, 14].map(|i| p[i] + p[i + 3])
        })
        .collect();
    for (step, pair) in targets.windows(2).enumerate() {
        for (before, after) in pair[0].iter().zip(&pair[1]) {
            let moved = after - before;
            assert!(moved.abs() < 0.025 + 1e-5, "step {step}: {moved} m");
        }
    }
    let xs: Vec<f32> = targets.iter().map(|target| target[0]).collect();
    assert!(xs[4] > xs[0] && xs[9] < xs[4] && xs[16] > xs[9], "{xs:?}");
}

#[test]
fn bad_actions_are_refused_by_column() {
    let rig = rig("fake-dual.toml", &[]);
    let mut cell = Cell::open(&rig).unwrap();
    let mut action = [0.0; 10];
    assert!(
        matches!(cell.step(&action), Err(CellError::Rig(_))),
        "before a reset"
    );
    let (range_m, seed) = (0.0, 1);
    cell.reset(EpisodeStart { range_m, seed }).unwrap();
    action[8] = f32::NAN;
    let error = cell.step(&action).unwrap_err().to_string();
    assert_eq!(error, "column 8 of the action is not a finite number");
    let error = cell.step(&[0.0; 5]).unwrap_err().to_string();
    assert!(
        error.contains("5 columns") && error.contains("10"),
        "{error}"
    );
}

#[test]
fn the_operator_takes_over_from_a_policy_that_does_nothing_and_lifts() {
    let rig = rig("lift-sim.toml", &["operator.speed=1.0"]);
    let mut cell = Cell::open(&rig).unwrap();
    let role = Role::Intervene {
        takeover: rig.operator.takeover,
        seed: 1,
    };
    let mut operator = cell.operator(&rig, role).unwrap();
    let mut brain = Idle {
        columns: 4,
        probability: Some(0.1),
    };
    let (mut lifted, mut confusion) = (0, 0);
    for seed in 0..4 {
        let (outcome, kept) = episode(
            &rig,
            &mut cell,
            &mut brain,
            Some(&mut operator as &mut dyn Teleop),
            seed,
        );
        let steps = kept.steps();
        let by_operator = steps
            .iter()
            .filter(|s| s.source == ActionSource::ScriptedOperator)
            .count();
        assert_eq!(by_operator as u32, outcome.intervened);
        assert!(steps[..5].iter().all(|s| s.source == ActionSource::Policy));
        assert!(outcome.intervened > 0, "stuck from the start");
        let last = steps.last().unwrap();
        // The person's button: the classifier saw nothing.
        assert_eq!(last.label, outcome.truth);
        assert_eq!(
            (last.reward, last.terminated),
            if outcome.truth == Some(true) {
                (1.0, true)
            } else {
                (0.0, false)
            }
        );
        assert!(
            steps[..steps.len() - 1]
                .iter()
                .all(|s| s.label.is_none() && !s.terminated)
        );
        lifted += u32::from(outcome.truth == Some(true));
        confusion += outcome.confusion.false_negatives + outcome.confusion.true_positives;
        assert!(steps.iter().all(|s| s.policy_version == 7));
    }
    assert!(lifted >= 3, "{lifted} of 4");
    assert_eq!(
        confusion, 0,
        "the person's word left no verdict to the classifier"
    );
}

#[test]
fn predicates_keep_an_eager_classifier_from_ending_the_episode() {
    let rig = rig("lift-sim.toml", &["episode.max_steps=8"]);
    let mut cell = Cell::open(&rig).unwrap();
    let mut brain = Idle {
        columns: 4,
        probability: Some(0.99),
    };
    let (outcome, _) = episode(&rig, &mut cell, &mut brain, None, 1);
    assert!(
        outcome.ending.truncated && !outcome.judged,
        "the gripper is open"
    );
    assert_eq!((outcome.confusion.true_negatives, outcome.steps), (1, 8));
    let mut rules = rig.classifier;
    (rules.gripper_closed, rules.tool_z_min_m) = (false, None);
    let eager = Rig {
        classifier: rules,
        ..rig
    };
    let (outcome, kept) = episode(&eager, &mut cell, &mut brain, None, 1);
    assert!(outcome.ending.terminated && outcome.steps == 1);
    assert_eq!(outcome.confusion.false_positives, 1);
    assert_eq!(
        kept.steps()[0].reward,
        1.0,
        "reward is the classifier's, not the truth's"
    );
}

#[test]
fn demonstrations_and_labelled_frames_are_recorded() {
    let rig = rig("lift-sim.toml", &["operator.speed=1.0"]);
    let dir = tempfile::tempdir().unwrap();
    let options = RecordOptions {
        episodes: 2,
        demonstrator: Operator::Scripted,
        seed: 5,
        out: dir.path().join("demos"),
        rerun: None,
    };
    let summary = record(&rig, &options, &AtomicBool::new(false), |_, _| {}, |_| {}).unwrap();
    assert_eq!(summary.episodes, 2);
    assert_eq!(read_spec(&options.out).unwrap(), rig.spec());

    let entries: Vec<_> = RunReader::open(&options.out)
        .unwrap()
        .collect::<Result<_, _>>()
        .unwrap();
    assert!(
        entries
            .iter()
            .enumerate()
            .all(|(i, e)| e.sequence == i as u64)
    );
    for number in 0..2 {
        let of: Vec<_> = entries.iter().filter(|e| e.episode == number).collect();
        assert!(matches!(of[0].record, Record::Reset(_)));
        let steps: Vec<&Step> = of[1..]
            .iter()
            .map(|e| match &e.record {
                Record::Step(step) => step,
                Record::Reset(_) => panic!("one reset per episode"),
            })
            .collect();
        let (last, before) = steps.split_last().unwrap();
        assert_eq!(
            (last.reward, last.terminated, last.label),
            (1.0, true, None)
        );
        assert!(
            before
                .iter()
                .all(|s| s.reward == 0.0 && !s.terminated && !s.truncated)
        );
        assert!(
            before[..before.len() - 4]
                .iter()
                .all(|s| s.label == Some(false))
        );
        assert!(
            before[before.len() - 1].label.is_none(),
            "the frame before success is unsure"
        );
        assert!(
            steps
                .iter()
                .all(|s| s.source == ActionSource::ScriptedOperator)
        );
        assert!(
            steps
                .iter()
                .any(|s| s.action[3] == -1.0 && s.grasp_penalty < 0.0)
        );
    }
    let labels = dir.path().join("demos-labels");
    let entries: Vec<_> = RunReader::open(&labels)
        .unwrap()
        .collect::<Result<_, _>>()
        .unwrap();
    let labelled = |wanted| {
        let is = |e: &&hilt_protocol::Entry| matches!(&e.record, Record::Step(s) if s.label == Some(wanted));
        entries.iter().filter(is).count()
    };
    assert!(labelled(true) >= 20, "{}", labelled(true));
    assert!(labelled(false) >= 200, "{}", labelled(false));
    // Hands that are up and closed are labelled both ways: the height alone says nothing.
    let high_and_closed = |wanted| {
        entries
            .iter()
            .filter(|e| match &e.record {
                Record::Step(s) => {
                    let p = &s.next.proprio;
                    s.label == Some(wanted) && p[2] > 0.13 && p[10] < 0.0
                }
                Record::Reset(_) => false,
            })
            .count()
    };
    assert!(high_and_closed(true) >= 15, "{}", high_and_closed(true));
    assert!(high_and_closed(false) >= 150, "{}", high_and_closed(false));
}
