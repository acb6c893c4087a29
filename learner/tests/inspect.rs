//! What `hilt-learner inspect` finds in recordings that this file makes: every trouble, where it is, and only there; and
//! figures that are those of an independent computation.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod common;

use common::{
    robot::{entries, spec, write_run},
    sound::{at, change, place, sound, step},
};
use hilt_learner::inspect::{
    figures::{End, Figures, Met, Place},
    findings::{Finding, Weight, findings},
    gather::Gather,
};
use hilt_protocol::{ActionSource, Entry, Record, RunId, Step};
use hilt_recording::{
    Data, Opening, hil_serl,
    table::{Columns, Table, hdf5, npz},
};

fn gathered(entries: Vec<Entry>) -> (Figures, Vec<Finding>) {
    let mut gather = Gather::recording("data".into(), &spec(), false);
    entries.into_iter().for_each(|entry| gather.entry(entry));
    let (figures, _) = gather.finish();
    let found = findings(&figures);
    (figures, found)
}

#[test]
fn what_shows_its_observations_late_is_named() {
    let (mut figures, _) = gathered(sound());
    figures.seen_late = true;
    let found = findings(&figures);
    assert_eq!(found.len(), 1, "{found:#?}");
    says(&found[0], Weight::Look, "gym_manipulator", &[]);
}

/// The one finding there is.
fn only(entries: Vec<Entry>) -> Finding {
    let (_, mut found) = gathered(entries);
    assert_eq!(found.len(), 1, "{found:#?}");
    found.remove(0)
}

fn says(finding: &Finding, weight: Weight, what: &str, places: &[Place]) {
    assert!(finding.what.contains(what), "{what}: {finding:#?}");
    assert_eq!(finding.weight, weight, "{finding:#?}");
    assert_eq!(finding.places, places, "{finding:#?}");
    assert!(!finding.remedy.is_empty());
}

#[test]
fn nothing_is_found_in_sound_data_and_its_figures_are_right() {
    let all = sound();
    let (figures, found) = gathered(all.clone());
    assert_eq!(found, []);
    assert_eq!((figures.steps, figures.episodes.len()), (36, 6));
    assert_eq!(figures.runs.len(), 2);
    assert_eq!(figures.runs[1].run, RunId(2).to_string());
    assert_eq!(figures.runs[1].entries, 21);
    for episode in &figures.episodes {
        assert_eq!((episode.steps, episode.sum), (6, 1.0));
        assert_eq!(episode.intervened_steps, 6);
    }
    let ends: Vec<End> = figures.episodes.iter().map(|e| e.end).collect();
    let (over, late) = (End::Terminated, End::Truncated);
    assert_eq!(ends, [over, late, over, over, late, over]);
    assert_eq!(figures.sources.get("scripted operator"), Some(&36));
    assert_eq!((figures.intervened_steps, figures.interventions), (36, 6));
    // Every column, from all of it at once.
    let observed = (0..2).map(|i| all.iter().map(move |e| e.observation().proprio[i]));
    let steps: Vec<&Step> = (all.iter())
        .filter_map(|entry| match &entry.record {
            Record::Step(step) => Some(step),
            Record::Reset(_) => None,
        })
        .collect();
    let mut columns: Vec<Vec<f32>> = observed.map(Iterator::collect).collect();
    columns.extend((0..3).map(|i| steps.iter().map(|step| step.action[i]).collect()));
    columns.push(steps.iter().map(|step| step.reward).collect());
    columns.push(steps.iter().map(|step| step.grasp_penalty).collect());
    let names = [
        "tool_x",
        "tool_z",
        "x",
        "z",
        "gripper",
        "reward",
        "grasp penalty",
    ];
    assert_eq!(figures.numbers.len(), names.len());
    for ((number, column), name) in figures.numbers.iter().zip(&columns).zip(names) {
        let column: Vec<f64> = column.iter().map(|&v| v.into()).collect();
        let count = column.len() as f64;
        let mean = column.iter().sum::<f64>() / count;
        let squares = column.iter().map(|v| (v - mean).powi(2));
        let std = (squares.sum::<f64>() / count).sqrt();
        let spread = number.spread.unwrap();
        assert_eq!((&*number.name, number.count), (name, column.len() as u64));
        assert!((spread.mean - mean).abs() < 1e-9, "{name}: {spread:?}");
        assert!((spread.std - std).abs() < 1e-9, "{name}: {spread:?}");
        assert_eq!(
            spread.min,
            column.iter().copied().fold(f64::INFINITY, f64::min)
        );
        assert_eq!(
            spread.max,
            column.iter().copied().fold(f64::NEG_INFINITY, f64::max)
        );
    }
    let rate = figures.rate.unwrap();
    assert_eq!((rate.nominal_hz, rate.periods), (10.0, 36));
    assert!(
        (rate.median_s - 0.1).abs() < 2e-5 && (rate.max_s - 0.1).abs() < 2e-5,
        "{rate:?}"
    );
    let cameras = figures.cameras.iter();
    let cameras: Vec<_> = cameras
        .map(|c| (&*c.name, c.frames, c.repeated.times))
        .collect();
    assert_eq!(cameras, [("front", 42, 0), ("wrist", 42, 0)]);
}

#[test]
fn a_camera_that_hangs_is_told_from_an_arm_at_rest() {
    // The same bytes at other times, five on end.
    let mut all = sound();
    for index in 2..=6 {
        let before = at(&mut all, 1, index - 1).observation().images[1].clone();
        change(at(&mut all, 1, index), |o| o.images[1].rgb = before.rgb);
    }
    let finding = only(all);
    let places = [2, 3, 4].map(|index| place(1, 1, index));
    says(
        &finding,
        Weight::Fault,
        "camera wrist: 5 of 42 frames",
        &places,
    );
    assert!(finding.what.contains("up to 5 on end"), "{finding:?}");
    // Other bytes, but the same time of capture.
    let mut all = sound();
    let before = at(&mut all, 2, 1).observation().images[0].captured_ns;
    change(at(&mut all, 2, 2), |o| o.images[0].captured_ns = before);
    says(
        &only(all),
        Weight::Fault,
        "camera front: 1 of 42",
        &[place(1, 2, 2)],
    );
    // Few of many are looked at, no more.
    let mut many: Vec<Entry> = (1..=9)
        .flat_map(|run| {
            let mut all = sound();
            all.retain(|e| e.run == RunId(1));
            all.iter_mut().for_each(|e| e.run = RunId(run));
            all
        })
        .collect();
    let before = at(&mut many, 2, 1).observation().images[0].clone();
    change(at(&mut many, 2, 2), |o| o.images[0].rgb = before.rgb);
    says(
        &only(many),
        Weight::Look,
        "camera front: 1 of 189",
        &[place(1, 2, 2)],
    );
    // Nothing moves at all.
    let mut all = sound();
    let before = at(&mut all, 0, 1).observation().clone();
    change(at(&mut all, 0, 2), |o| {
        o.proprio = before.proprio;
        o.images[0].rgb = before.images[0].rgb.clone();
    });
    let finding = only(all);
    says(
        &finding,
        Weight::Look,
        "camera front: 1 of 42",
        &[place(1, 0, 2)],
    );
    // The last one stands for one that was not kept.
    let mut all = sound();
    let before = at(&mut all, 0, 5).observation().clone();
    change(at(&mut all, 0, 6), |o| {
        o.proprio = before.proprio;
        o.images
            .iter_mut()
            .zip(before.images)
            .for_each(|(now, before)| now.rgb = before.rgb);
    });
    assert_eq!(gathered(all).1, []);
    // From one episode to the next a picture may stay.
    let mut all = sound();
    let before = at(&mut all, 0, 6).observation().images[0].clone();
    change(at(&mut all, 1, 0), |o| o.images[0].rgb = before.rgb);
    assert_eq!(gathered(all).1, []);
}

#[test]
fn gaps_clocks_that_stand_and_other_rates_are_found() {
    // Everything from here on 60 ms later: a period of 1.6.
    let late = |by_ns: u64| {
        let mut all = sound();
        for entry in all
            .iter_mut()
            .filter(|e| e.run == RunId(1) && e.sequence >= 10)
        {
            change(entry, |o| o.captured_ns += by_ns);
        }
        all
    };
    assert_eq!(gathered(late(50_000_000)).1, []);
    let finding = only(late(60_000_000));
    says(
        &finding,
        Weight::Fault,
        "1 of 36 periods are gaps",
        &[place(1, 1, 3)],
    );
    assert!(finding.what.contains("160 ms"), "{finding:?}");
    // Between episodes there is time.
    let mut all = sound();
    for entry in all.iter_mut().filter(|e| e.episode >= 1) {
        change(entry, |o| o.captured_ns += 9_000_000_000);
    }
    assert_eq!(gathered(all).1, []);
    let mut all = sound();
    let before = at(&mut all, 0, 2).observation().captured_ns;
    change(at(&mut all, 0, 3), |o| o.captured_ns = before);
    let (figures, found) = gathered(all);
    assert_eq!(figures.troubles.backwards.places, [place(1, 0, 3)]);
    // The one after it seems late.
    assert_eq!(found.len(), 2, "{found:#?}");
    let mut all = sound();
    for entry in &mut all {
        let slow_ns = 5_000_000_000 + entry.sequence * 125_000_000;
        change(entry, |o| o.captured_ns = slow_ns);
    }
    says(
        &only(all),
        Weight::Fault,
        "it goes on at 8 Hz, and says 10 Hz",
        &[],
    );
}

#[test]
fn holes_copies_and_lost_beginnings_are_found() {
    let mut all = sound();
    all.drain(9..11);
    let finding = only(all);
    says(&finding, Weight::Fault, "1 × a hole", &[place(1, 1, 4)]);
    assert!(
        finding.what.contains("2 entries are missing"),
        "{finding:?}"
    );
    // The count goes on, the index does not.
    let mut all = sound();
    let lost = all
        .iter()
        .position(|e| (e.episode, e.index) == (1, 3))
        .unwrap();
    all.remove(lost);
    for entry in all
        .iter_mut()
        .filter(|e| e.run == RunId(1) && e.sequence > lost as u64)
    {
        entry.sequence -= 1;
    }
    says(&only(all), Weight::Fault, "1 × a hole", &[place(1, 1, 4)]);
    // A whole run twice, as copied folders have it; and again entry by entry.
    let mut all = sound();
    all.extend(entries(RunId(1)));
    let (figures, _) = gathered(all);
    assert_eq!(figures.troubles.again.places, [place(1, 0, 0)]);
    let mut all = sound();
    all.insert(5, all[4].clone());
    let (figures, found) = gathered(all);
    assert_eq!(figures.troubles.again.places, [place(1, 0, 4)]);
    assert_eq!(found[0].weight, Weight::Fault);
    // The first observation is gone.
    let mut all = sound();
    all.remove(7);
    let (figures, _) = gathered(all);
    assert_eq!(figures.troubles.headless.places, [place(1, 1, 1)]);
    assert_eq!(figures.troubles.holes.times, 1);
    assert_eq!(figures.episodes.len(), 6);
}

#[test]
fn numbers_that_are_none_and_actions_too_large_are_found_by_name_and_place() {
    let mut all = sound();
    change(at(&mut all, 0, 0), |o| o.proprio[1] = f32::NAN);
    step(at(&mut all, 2, 1)).action[1] = f32::INFINITY;
    step(at(&mut all, 2, 2)).reward = f32::NAN;
    let (figures, found) = gathered(all);
    let what: Vec<&str> = found.iter().map(|finding| &*finding.what).collect();
    assert_eq!(
        what,
        [
            "observation tool_z: 1 × NaN or infinite",
            "action z: 1 × NaN or infinite",
            "reward: 1 × NaN or infinite"
        ]
    );
    assert_eq!(found[1].places, [place(1, 2, 1)]);
    assert!(
        figures
            .numbers
            .iter()
            .all(|n| n.spread.unwrap().mean.is_finite())
    );
    let mut all = sound();
    step(at(&mut all, 1, 1)).action[0] = -3.5;
    step(at(&mut all, 1, 2)).action[1] = 1.25;
    // Rounding is no fault.
    step(at(&mut all, 1, 3)).action[1] = 1.000_001;
    let finding = only(all);
    says(
        &finding,
        Weight::Fault,
        "outside ±1, up to 3.5: x (1 ×), z (1 ×)",
        &[place(1, 1, 1)],
    );
}

/// Training refuses these data at their first NaN; whoever looks at them is told of all.
#[test]
fn every_form_of_data_is_looked_at_with_its_nan() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name);
    let looked_at = |name: &str| {
        let learned = Data::open(&path(name), None).map(|data| match data {
            Data::Recording(recording) => recording.entries().all(|entry| entry.is_ok()),
            Data::Table(_) => true,
        });
        assert!(!learned.unwrap_or(false), "{name} can be learned from");
        let opening = Opening {
            as_it_is: true,
            ..Opening::default()
        };
        let gather = match Data::open_as(&path(name), &opening).unwrap() {
            Data::Table(table) => Gather::table("data".into(), &table, false),
            Data::Recording(recording) => {
                let mut gather = Gather::recording("data".into(), recording.spec(), false);
                recording
                    .entries()
                    .for_each(|entry| gather.entry(entry.unwrap()));
                gather
            }
        };
        let (figures, _) = gather.finish();
        let found: Vec<String> = findings(&figures).into_iter().map(|f| f.what).collect();
        let met = figures
            .numbers
            .into_iter()
            .filter(|n| n.not_finite.times > 0);
        let met = met.map(|n| (n.name, n.not_finite.times, n.not_finite.places[0].clone()));
        (met.collect::<Vec<_>>(), found)
    };
    // Two rows of an episode; what the last one led to is no other row's observation.
    let columns = Columns {
        observation: 2,
        action: 1,
        observations: vec![0.0, f32::NAN, 0.1, 0.0],
        actions: vec![0.5, f32::INFINITY],
        rewards: vec![0.0, f32::NAN],
        next_observations: vec![0.1, 0.0, f32::NAN, 0.3],
        terminals: vec![false, true],
        timeouts: vec![false; 2],
    };
    let table = Table::to_be_looked_at(columns).unwrap();
    npz::write(&path("a.npz"), &table).unwrap();
    hdf5::write(&path("a.hdf5"), &table).unwrap();
    hil_serl::write_table(&path("a.pkl"), &table).unwrap();
    let row = |row| Place::Row { row };
    let wanted = [
        ("[0]".to_owned(), 1, row(1)),
        ("[1]".to_owned(), 1, row(0)),
        ("[0]".to_owned(), 1, row(1)),
        ("reward".to_owned(), 1, row(1)),
    ];
    for name in ["a.npz", "a.hdf5", "a.pkl"] {
        assert_eq!(looked_at(name).0, wanted, "{name}");
    }
    // One run, as its log and as a file of HIL-SERL's.
    let mut all = sound();
    all.truncate(21);
    change(at(&mut all, 0, 3), |o| o.proprio[1] = f32::NAN);
    change(at(&mut all, 1, 2), |o| o.proprio[1] = f32::NEG_INFINITY);
    step(at(&mut all, 2, 1)).reward = f32::NAN;
    write_run(&path("run"), &spec(), &all);
    let entries = all.iter().cloned().map(Ok::<_, hil_serl::HilSerlError>);
    hil_serl::write(&path("b.pkl"), &spec(), entries).unwrap();
    for name in ["run", "b.pkl"] {
        let (met, found) = looked_at(name);
        let met: Vec<_> = met
            .iter()
            .map(|(_, times, place)| (*times, place.to_string()))
            .collect();
        let wanted = [(2, "episode 0, index 3"), (1, "episode 2, index 1")];
        for ((times, place), (wanted, words)) in met.iter().zip(wanted) {
            assert!(*times == wanted && place.contains(words), "{name}: {met:?}");
        }
        assert_eq!(met.len(), 2, "{name}");
        assert!(
            found
                .iter()
                .any(|what| what.contains("2 × NaN or infinite")),
            "{name}: {found:?}"
        );
    }
}

#[test]
fn what_does_not_fit_the_rig_is_found_and_hurts_nothing() {
    let mut all = sound();
    change(at(&mut all, 0, 1), |o| o.proprio.push(1.0));
    step(at(&mut all, 0, 2)).action.pop();
    change(at(&mut all, 0, 3), |o| o.images.truncate(1));
    change(at(&mut all, 0, 4), |o| o.images[0].rgb = [7; 5].into());
    change(at(&mut all, 0, 5), |o| o.images[1].width = 4096);
    let (figures, found) = gathered(all);
    let misfits = &figures.troubles.misfits;
    let of = |what: &str| misfits.get(what).map(|met| met.places[0].clone());
    for (what, index) in [
        ("an observation that has not 2 numbers", 1),
        ("an action that has not 3 numbers", 2),
        ("an observation that has not 2 frames", 3),
        ("a frame of `front` that is not 16×16", 4),
        ("a frame of `wrist` that is not 16×16", 5),
    ] {
        assert_eq!(of(what), Some(place(1, 0, index)), "{what}: {misfits:?}");
    }
    assert_eq!(found.len(), 5);
    assert!(found.iter().all(|finding| finding.weight == Weight::Fault));
}

#[test]
fn episodes_without_an_end_are_told_from_runs_that_still_grow() {
    // The last of a run: it is being recorded.
    let mut all = sound();
    all.truncate(42 - 2);
    says(
        &only(all),
        Weight::Look,
        "1 × a run that ends within an episode",
        &[place(2, 2, 0)],
    );
    // A run that waits for its next episode.
    let mut all = sound();
    let next = all[0].observation().clone();
    all.push(Entry {
        run: RunId(2),
        sequence: 21,
        episode: 3,
        index: 0,
        record: Record::Reset(next),
    });
    let (figures, found) = gathered(all);
    assert_eq!((figures.episodes.len(), found.len()), (6, 1), "{found:#?}");
    // In the midst of one nobody said that it was over; and one is empty.
    let mut all = sound();
    step(at(&mut all, 1, 6)).truncated = false;
    says(
        &only(all),
        Weight::Look,
        "1 × an episode without an end",
        &[place(1, 1, 0)],
    );
    let mut all = sound();
    all.retain(|e| !(e.run == RunId(1) && e.episode == 1 && e.index > 0));
    let (figures, _) = gathered(all);
    assert_eq!(figures.troubles.empty.places, [place(1, 1, 0)]);
    // It goes on after its end.
    let mut all = sound();
    step(at(&mut all, 0, 4)).terminated = true;
    let (figures, found) = gathered(all);
    assert_eq!(
        figures.troubles.after_end,
        Met {
            times: 2,
            places: vec![place(1, 0, 5), place(1, 0, 6)]
        }
    );
    assert_eq!(found[0].weight, Weight::Fault);
}

#[test]
fn rewards_that_say_nothing_and_columns_that_never_change_are_found() {
    let mut all = sound();
    for entry in all.iter_mut().filter(|e| e.index > 0) {
        step(entry).reward = 0.0;
        step(entry).action[0] = 0.25;
    }
    for entry in &mut all {
        change(entry, |o| o.proprio[0] = 0.5);
    }
    let (_, found) = gathered(all);
    let what: Vec<&str> = found.iter().map(|finding| &*finding.what).collect();
    assert_eq!(
        what,
        [
            "every reward is 0",
            "action: never changes: x (0.25)",
            "observation: never changes: tool_x (0.5)"
        ]
    );
    let weights: Vec<Weight> = found.iter().map(|finding| finding.weight).collect();
    assert_eq!(weights, [Weight::Fault, Weight::Look, Weight::Look]);
    // All terminated, at one length, never out of time.
    let mut all = sound();
    for run in all.iter_mut().filter(|e| e.episode == 1 && e.index == 6) {
        (step(run).terminated, step(run).truncated) = (true, false);
    }
    let finding = only(all);
    assert!(
        finding
            .what
            .starts_with("6 of 6 episodes that terminated have exactly 6 steps")
    );
    assert_eq!((finding.weight, finding.places.len()), (Weight::Look, 3));
}

#[test]
fn labels_sources_and_interventions_are_counted() {
    let mut all = sound();
    for entry in all.iter_mut().filter(|e| e.index > 0) {
        let (episode, index) = (entry.episode, entry.index);
        let step = step(entry);
        step.source = match index {
            1 => ActionSource::Random,
            3 | 4 if episode == 0 => ActionSource::Human,
            6 if episode == 0 => ActionSource::ScriptedOperator,
            _ => ActionSource::Policy,
        };
        step.label = match (episode, index) {
            (0, 6) => Some(true),
            (0, 5) | (1, 6) => Some(false),
            _ => None,
        };
    }
    let (figures, found) = gathered(all);
    assert_eq!(found, []);
    let sources: Vec<_> = figures
        .sources
        .iter()
        .map(|(&name, &n)| (name, n))
        .collect();
    assert_eq!(
        sources,
        [
            ("human", 4),
            ("policy", 24),
            ("random", 6),
            ("scripted operator", 2)
        ]
    );
    // Of each run two stretches: 3 and 4, and 6.
    assert_eq!((figures.intervened_steps, figures.interventions), (6, 4));
    assert_eq!((figures.labelled_success, figures.labelled_failure), (2, 4));
    let words: Vec<_> = figures.episodes[..3].iter().map(|e| e.label).collect();
    assert_eq!(words, [Some(true), Some(false), None]);
}
