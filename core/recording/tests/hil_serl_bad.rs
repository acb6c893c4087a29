//! Files that are nearly HIL-SERL's, damaged or mean harm; and any entries, there and back.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

#[path = "support/transitions.rs"]
mod transitions;

use std::{fs, io::Cursor, path::Path, sync::Arc};

use hilt_protocol::{ActionSource, Entry, Record, RunId, Step};
use hilt_recording::{
    Recording,
    hil_serl::{self, HilSerlError, Opened},
};
use proptest::prelude::*;

use self::transitions::{anonymous, entries, observation, written};

fn read_bytes(bytes: &[u8]) -> Result<Vec<Entry>, HilSerlError> {
    let path = Path::new("demos.pkl");
    match hil_serl::read_from(Cursor::new(bytes), bytes.len() as u64, path, None)? {
        Opened::Rig((_, entries)) => entries.collect::<Result<_, _>>().map(anonymous),
        Opened::Table(_) => Ok(vec![]),
    }
}

/// The first entry of a file that is damaged like this, or what is said of it.
fn refused(bytes: &[u8], words: &[&str]) {
    let error = read_bytes(bytes).unwrap_err().to_string();
    for word in words.iter().chain(&["demos.pkl"]) {
        assert!(error.contains(word), "`{word}` is not in: {error}");
    }
}

/// Puts one thing in the place of another that is as long, wherever it is from the `nth` on.
fn replaced(bytes: &[u8], nth: usize, old: &str, new: &str) -> Vec<u8> {
    assert_eq!(old.len(), new.len());
    let places = bytes.windows(old.len()).enumerate();
    let place = places.filter(|(_, at)| *at == old.as_bytes()).nth(nth);
    let place = place.expect("it is not there").0;
    let mut bytes = bytes.to_vec();
    bytes[place..place + new.len()].copy_from_slice(new.as_bytes());
    bytes
}

#[test]
fn rows_that_are_no_transitions_are_refused_by_name() {
    let whole = written(&entries());
    let missing = |key: &str| {
        let other = key.to_uppercase();
        refused(
            &replaced(&whole, 0, key, &other),
            &["row 0", key, "is missing"],
        );
    };
    for key in ["actions", "next_observations", "rewards", "dones"] {
        missing(key);
    }
    // The first such name is that of `observations`.
    let without = replaced(&whole, 0, "observations", "Observations");
    refused(&without, &["row 0", "`observations` is missing"]);
    let signed = replaced(&whole, 0, "u1", "i1");
    refused(
        &signed,
        &[
            "row 0",
            "`observations.front`",
            "int8 array of shape [1, 16, 16, 3]",
            "uint8",
        ],
    );

    let damage = |place: usize, change: &dyn Fn(&mut Step)| {
        let mut all = entries();
        let Record::Step(step) = &mut all[place].record else {
            panic!("it is a reset");
        };
        change(step);
        written(&all)
    };
    // Entries 1 to 3 are rows 0 to 2, 5 and 6 are rows 3 and 4.
    refused(
        &damage(2, &|step| step.action[3] = f32::NAN),
        &["row 1", "`actions` has NaN at place 3"],
    );
    refused(
        &damage(6, &|step| step.next.proprio[0] = f32::INFINITY),
        &["row 4", "`next_observations.state` has inf at place 0"],
    );
    refused(
        &damage(5, &|step| step.reward = f32::NAN),
        &["row 3", "`rewards` has NaN"],
    );
    refused(
        &damage(3, &|step| step.grasp_penalty = f32::NAN),
        &["row 2", "`grasp_penalty`"],
    );
    refused(
        &damage(2, &|step| step.action.truncate(6)),
        &["row 1", "`actions` has 6 numbers", "before it has 7"],
    );
    refused(
        &damage(2, &|step| step.next.proprio.truncate(18)),
        &["row 1", "`next_observations` has 18 numbers", "19"],
    );
    let smaller = damage(3, &|step| {
        step.next.images[0].height = 15;
        step.next.images[0].rgb = vec![0; 15 * 16 * 3].into();
    });
    refused(
        &smaller,
        &[
            "row 2",
            "`next_observations.front`",
            "[1, 15, 16, 3]",
            "16 to 4096",
        ],
    );
    let smaller = damage(3, &|step| {
        step.next.images[1].height = 17;
        step.next.images[1].rgb = vec![0; 17 * 24 * 3].into();
    });
    refused(
        &smaller,
        &[
            "row 2",
            "`next_observations` has the cameras",
            "wrist 17×24",
            "wrist 16×24",
        ],
    );
    // Two columns are no rig's that is known.
    let columns = |step: &mut Step| step.action.truncate(2);
    let mut all = entries();
    for entry in &mut all {
        if let Record::Step(step) = &mut entry.record {
            columns(step);
        }
    }
    refused(&written(&all), &["actions of 2 numbers", "--spec"]);
}

#[test]
fn files_that_are_something_else_are_refused() {
    refused(b"\x80\x04].", &["no transition"]);
    refused(b"\x80\x04}.", &["a dictionary", "list of transitions"]);
    refused(b"\x80\x04]\x88a.", &["row 0", "is a bool", "a dictionary"]);
    refused(b"", &["no pickle"]);
    refused(b"PK\x03\x04", &["no pickle"]);
    // 10 GB of bytes, of text and of a list's numbers that are not there.
    let lies = [
        b"\x80\x04]\x8e".as_slice(),
        b"\x80\x04]\x8d",
        b"\x80\x05]\x96",
    ];
    for lie in lies {
        let bytes = [lie, &10_000_000_000u64.to_le_bytes(), &[7; 5000]].concat();
        refused(&bytes, &["ends within a value"]);
    }
    let whole = written(&entries());
    for length in (2..whole.len()).step_by(101) {
        refused(&whole[..length], &["ends within a value"]);
    }
    let dir = tempfile::tempdir().unwrap();
    let error = hil_serl::open(dir.path(), None).unwrap_err().to_string();
    assert!(
        error.ends_with("holds no file of HIL-SERL's (.pkl)"),
        "{error}"
    );
    let error = hil_serl::open(&dir.path().join("no.pkl"), None).unwrap_err();
    assert!(error.to_string().contains("no.pkl: "), "{error}");
}

#[test]
fn nothing_in_a_file_is_run() {
    let dir = tempfile::tempdir().unwrap();
    let marker = dir.path().join("it-was-run");
    let command = format!("touch {}", marker.display());
    let text = [&[0x8c, command.len() as u8], command.as_bytes()].concat();
    let path = dir.path().join("demos.pkl");
    for call in [
        b"cos\nsystem\n".as_slice(),
        b"cposix\nsystem\n",
        b"\x8c\x02os\x8c\x06system\x93",
    ] {
        fs::write(&path, [b"\x80\x04]", call, &text, b"\x85Ra."].concat()).unwrap();
        let error = Recording::open(&path, None).unwrap_err().to_string();
        assert!(
            error.contains("system`") && error.contains("nothing was run"),
            "{error}"
        );
    }
    assert!(!marker.exists());
}

/// An episode: what is drawn of each of its steps.
type Drawn = Vec<(Vec<f32>, f32, u8, bool, u8)>;

fn drawn() -> impl Strategy<Value = Vec<Drawn>> {
    let action = prop::collection::vec(-1.0f32..=1.0, 7);
    let step = (action, -1e6f32..1e6, 0u8..4, any::<bool>(), 0u8..3);
    prop::collection::vec(prop::collection::vec(step, 1..5), 1..5)
}

/// Entries of episodes, none of which begins where another ends.
fn story(episodes: &[Drawn]) -> Vec<Entry> {
    let mut entries: Vec<Entry> = vec![];
    for (episode, steps) in episodes.iter().enumerate() {
        for index in 0..=steps.len() {
            let sequence = entries.len() as u64;
            let next = observation(entries.len(), sequence);
            let record = match index.checked_sub(1).map(|i| &steps[i]) {
                None => Record::Reset(next),
                Some((action, reward, source, ends, label)) => {
                    let mut action = action.clone();
                    action[6] = action[6].round() + 0.0;
                    let last = index == steps.len();
                    Record::Step(Step {
                        action,
                        source: [
                            ActionSource::Human,
                            ActionSource::Policy,
                            ActionSource::ScriptedOperator,
                            ActionSource::Random,
                        ][usize::from(*source)],
                        reward: *reward,
                        grasp_penalty: reward / 8.0,
                        terminated: last && *ends,
                        truncated: last && !ends,
                        label: [None, Some(false), Some(true)][usize::from(*label)],
                        policy_version: 0,
                        noise_seed: 0,
                        next,
                    })
                }
            };
            entries.push(Entry {
                run: RunId(0),
                sequence,
                episode: episode as u64,
                index: index as u32,
                record,
            });
        }
    }
    entries
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn entries_come_back_as_they_were(episodes in drawn()) {
        let entries = story(&episodes);
        prop_assert!(read_bytes(&written(&entries)).unwrap() == entries);
    }

    /// What is missing of a stream makes no transition; all others are there.
    #[test]
    fn a_gap_makes_no_transition(episodes in drawn(), gap in any::<prop::sample::Index>()) {
        let mut entries = story(&episodes);
        let gap = gap.index(entries.len());
        let steps = |entries: &[Entry]| {
            let pairs = entries.windows(2).filter(|pair| {
                let goes_on = pair[0].sequence + 1 == pair[1].sequence;
                goes_on && matches!(pair[1].record, Record::Step(_))
            });
            pairs.map(|pair| {
                let Record::Step(step) = &pair[1].record else { unreachable!() };
                (step.action.clone(), pair[0].observation().proprio.clone())
            }).collect::<Vec<_>>()
        };
        entries.remove(gap);
        let wanted = steps(&entries);
        prop_assume!(!wanted.is_empty());
        let mut read = read_bytes(&written(&entries)).unwrap();
        for (sequence, entry) in (0..).zip(&mut read) {
            entry.sequence = sequence;
        }
        prop_assert_eq!(steps(&read), wanted);
    }

    #[test]
    fn damage_makes_no_panic(place in any::<prop::sample::Index>(), bytes in prop::collection::vec(any::<u8>(), 1..4)) {
        let mut file = DAMAGED.with(Arc::clone).to_vec();
        let place = place.index(file.len() - bytes.len());
        file[place..place + bytes.len()].copy_from_slice(&bytes);
        let _ = read_bytes(&file);
    }
}

thread_local! {
    static DAMAGED: Arc<[u8]> = written(&entries()).into();
}
