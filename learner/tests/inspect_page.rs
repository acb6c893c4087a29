//! What `hilt-learner inspect` leaves of tables and recordings: the page and the figures for programs, also of data that
//! cannot be read to its end.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod common;

use std::{collections::BTreeMap, fs, path::Path, process::Command, sync::atomic::AtomicBool};

use common::{
    robot::{spec, write_run},
    sound::{change, sound, step},
};
use hilt_learner::inspect::{
    command::{self, InspectOptions},
    figures::{End, Place},
    findings::findings,
    gather::Gather,
    page,
};
use hilt_protocol::{
    ActionSource, Entry, Image, Observation, Record, RunId, Step, noise::Uniforms,
};
use hilt_recording::{
    RunWriter,
    table::{Columns, Table, npz},
};
use serde_json::Value;

/// An entry of any numbers, in shapes that may be the rig's.
fn any_entry(random: &mut Uniforms) -> Entry {
    let mut pick = |of: &[u64]| of[random.below(of.len() as u64) as usize];
    let few = [0, 1, 2, 3];
    let any = [0, 1, 2, 3, 100_000_000, u64::MAX - 1, u64::MAX];
    let (run, sequence, episode) = (RunId(pick(&few)), pick(&any), pick(&any));
    let index = pick(&[0, 1, 2, 3, u64::from(u32::MAX)]) as u32;
    let numbers = [
        0.0,
        -1.0,
        f32::MAX,
        f32::MIN,
        f32::NAN,
        f32::INFINITY,
        1e-40,
    ];
    let some = |pick: &mut dyn FnMut(&[u64]) -> u64| -> Vec<f32> {
        let count = pick(&[0, 2, 2, 3, 3]);
        (0..count)
            .map(|_| numbers[pick(&[0, 1, 2, 3, 4, 5, 6]) as usize])
            .collect()
    };
    let proprio = some(&mut pick);
    let images = (0..pick(&[0, 2, 2, 3])).map(|_| {
        let (side, bytes) = (pick(&[0, 16, 16]) as u32, pick(&[0, 5, 768, 768]) as usize);
        Image {
            captured_ns: pick(&any),
            height: side,
            width: side,
            rgb: vec![pick(&few) as u8; bytes].into(),
        }
    });
    let images = images.collect();
    let next = Observation {
        captured_ns: pick(&any),
        proprio,
        images,
    };
    let record = match pick(&[0, 1, 1, 1]) {
        0 => Record::Reset(next),
        _ => Record::Step(Step {
            action: some(&mut pick),
            source: ActionSource::Policy,
            reward: numbers[pick(&few) as usize],
            grasp_penalty: numbers[pick(&any[..5]).min(6) as usize],
            terminated: pick(&few) == 0,
            truncated: pick(&few) == 0,
            label: None,
            policy_version: 0,
            noise_seed: 0,
            next,
        }),
    };
    Entry {
        run,
        sequence,
        episode,
        index,
        record,
    }
}

#[test]
fn whatever_comes_there_are_figures_and_a_page() {
    for seed in 0..300 {
        let mut random = Uniforms::new(seed);
        let mut gather = Gather::recording("data".into(), &spec(), true);
        for _ in 0..40 {
            gather.entry(any_entry(&mut random));
        }
        let (figures, drawn) = gather.finish();
        let found = findings(&figures);
        let html = page::html(&figures, &found, &drawn).unwrap();
        is_sound(&html);
        serde_json::to_string(&figures).unwrap();
        let counted: u64 = figures.runs.iter().map(|run| run.entries).sum();
        assert_eq!(counted, 40);
    }
}

fn table() -> Table {
    // Two episodes that time ran out of, one that terminated, and a last one that nothing says the end of.
    let rows = 40;
    let at = |i: usize| (i as f32 * 0.37).sin();
    Table::new(Columns {
        observation: 2,
        action: 1,
        observations: (0..2 * rows).map(at).collect(),
        actions: (0..rows).map(|i| 1.5 * at(i + 3)).collect(),
        rewards: (0..rows).map(at).collect(),
        next_observations: (2..2 * rows + 2).map(at).collect(),
        terminals: (0..rows).map(|i| i == 29).collect(),
        timeouts: (0..rows).map(|i| i == 9 || i == 19).collect(),
    })
    .unwrap()
}

#[test]
fn a_table_is_looked_at_by_its_rows() {
    let (figures, drawn) = Gather::table("log.npz".into(), &table(), true).finish();
    assert_eq!((figures.steps, figures.episodes.len()), (40, 4));
    let ends: Vec<End> = figures.episodes.iter().map(|e| e.end).collect();
    assert_eq!(
        ends,
        [End::Truncated, End::Truncated, End::Terminated, End::Cut]
    );
    let sum: f64 = (10..20).map(|i| f64::from((i as f32 * 0.37).sin())).sum();
    assert!((figures.episodes[1].sum - sum).abs() < 1e-9);
    assert_eq!(figures.episodes[1].place, Place::Row { row: 10 });
    let action = &figures.numbers[2];
    let beyond = (0..40).filter(|&i| (1.5 * ((i + 3) as f32 * 0.37).sin()).abs() > 1.0);
    assert_eq!(action.beyond.times, beyond.clone().count() as u64);
    let first = beyond.clone().next().unwrap();
    assert_eq!(action.beyond.places[0], Place::Row { row: first });
    let counted: u64 = drawn.histograms[0].2.bins().map(|bar| bar.2).sum();
    assert_eq!(counted, 40);
    let found = findings(&figures);
    assert_eq!(found.len(), 2, "{found:#?}");
    assert!(found[0].what.contains("outside ±1"));
    assert!(found[1].what.contains("1 × an episode without an end"));
    let ordinals: Vec<u64> = drawn.films.iter().map(|film| film.ordinal).collect();
    assert_eq!(ordinals, [0, 1, 3]);
}

fn options(data: &Path, page: Option<&Path>) -> InspectOptions {
    InspectOptions {
        data: data.to_owned(),
        spec: None,
        page: page.map(Path::to_owned),
        json: false,
    }
}

fn go(options: &InspectOptions) -> anyhow::Result<()> {
    command::run(options, &AtomicBool::new(false))
}

/// Whether a page is one whole file whose elements are closed in order, with no number that is none.
fn is_sound(html: &str) {
    for bad in ["http", "<script", "src=\"/"] {
        assert!(!html.contains(bad), "{bad}");
    }
    let mut open = Vec::new();
    for tag in html.split('<').skip(1) {
        let name: String = tag
            .chars()
            .take_while(|c| c.is_alphanumeric() || *c == '/')
            .collect();
        let tag = tag.split('>').next().unwrap();
        let plain = !tag.contains("base64");
        assert!(
            !plain || !(tag.contains("NaN") || tag.contains("inf")),
            "<{tag}>"
        );
        match name.strip_prefix('/') {
            Some(name) => assert_eq!(open.pop().as_deref(), Some(name), "</{name}>"),
            None if tag.ends_with('/') || tag.starts_with('!') => {}
            None if ["br", "img", "meta"].contains(&&*name) => {}
            None => open.push(name),
        }
    }
    assert!(open.is_empty(), "{open:?} are left open");
}

#[test]
fn the_page_holds_all_it_shows() {
    let dir = tempfile::tempdir().unwrap();
    let runs = dir.path().join("a <run>");
    let all = sound();
    for (name, run) in [("first", RunId(1)), ("second", RunId(2))] {
        let mut entries: Vec<Entry> = all.iter().filter(|e| e.run == run).cloned().collect();
        step(&mut entries[3]).action[0] = 2.0;
        write_run(&runs.join(name), &spec(), &entries);
    }
    let page = dir.path().join("page.html");
    go(&options(&runs, Some(&page))).unwrap();
    let html = fs::read_to_string(&page).unwrap();
    is_sound(&html);
    for part in [
        "a &lt;run&gt;</h1>",
        "a recording of 2 runs: 6 episodes, 36 steps",
        "actions outside ±1, up to 2: x (2 ×)",
        "run 0000000000000001, episode 0, index 3",
        "steps of an episode",
        "periods; nominal dashed",
        "tool_x",
        "action gripper",
        "episode 6 of 6: 6 steps, return 1, terminated",
        "fill=\"#c83c32\"",
    ] {
        assert!(html.contains(part), "{part} is missing");
    }
    // Three episodes of two cameras and seven frames.
    assert_eq!(html.matches("data:image/png;base64,").count(), 3 * 2 * 7);
    let table_page = dir.path().join("table.html");
    let log = dir.path().join("log.npz");
    npz::write(&log, &table()).unwrap();
    go(&options(&log, Some(&table_page))).unwrap();
    let html = fs::read_to_string(&table_page).unwrap();
    is_sound(&html);
    assert!(html.contains("observation [1]") && html.contains("<polyline"));
    assert!(!html.contains("What the cameras saw"));
}

#[test]
fn programs_get_the_same_figures() {
    let dir = tempfile::tempdir().unwrap();
    let run = dir.path().join("run");
    let all = sound();
    write_run(&run, &spec(), &all[..21]);
    let out = Command::new(env!("CARGO_BIN_EXE_hilt-learner"))
        .args(["inspect", "--json"])
        .arg(&run)
        .output()
        .unwrap();
    assert!(out.status.success(), "{out:?}");
    let all: Value = serde_json::from_slice(&out.stdout).unwrap();
    let figures = &all["figures"];
    assert_eq!(all["findings"], serde_json::json!([]));
    assert_eq!(
        (&figures["steps"], &figures["data"]),
        (&18.into(), &run.display().to_string().into())
    );
    assert_eq!(figures["episodes"][1]["end"], "truncated");
    assert_eq!(figures["episodes"][1]["return"], 1.0);
    assert_eq!(figures["numbers"][0]["name"], "tool_x");
    assert_eq!(figures["rate"]["nominal_hz"], 10.0);
    assert_eq!(figures["rig"]["policy_hz"], 10);
}

#[test]
fn what_cannot_be_read_is_an_error_and_what_could_be_is_told_before() {
    let dir = tempfile::tempdir().unwrap();
    let error = |path: &Path| format!("{:#}", go(&options(path, None)).unwrap_err());
    let nowhere = dir.path().join("nowhere");
    assert!(error(&nowhere).contains("nowhere"));
    let empty = dir.path().join("empty");
    fs::create_dir(&empty).unwrap();
    assert!(error(&empty).contains("hilt record"));
    // A picture that is none, in the midst: the log's reader refuses it.
    let mut all = sound();
    all.truncate(21);
    change(&mut all[12], |o| o.images[0].rgb = [7; 5].into());
    let run = dir.path().join("run");
    write_run(&run, &spec(), &all);
    let page = dir.path().join("page.html");
    let refused = format!("{:#}", go(&options(&run, Some(&page))).unwrap_err());
    for words in ["run.mcap", "entry 12", "images.rgb", "not all of it"] {
        assert!(refused.contains(words), "{words}: {refused}");
    }
    let html = fs::read_to_string(&page).unwrap();
    assert!(
        html.contains("only what comes before this can be read (10 steps)"),
        "{html}"
    );
    // A log that was cut, or still grows: what is whole of it.
    let bytes = fs::read(run.join("run.mcap")).unwrap();
    fs::write(run.join("run.mcap"), &bytes[..600]).unwrap();
    go(&options(&run, None)).unwrap();
    // A place where no page can be is named before anything is read.
    let mut options = options(&nowhere, Some(Path::new("/nowhere/page.html")));
    assert!(format!("{:#}", go(&options).unwrap_err()).contains("/nowhere/page.html"));
    options.page = None;
    options.spec = Some(dir.path().join("spec.json"));
    let unread = format!("{:#}", go(&options).unwrap_err());
    assert!(
        unread.contains("--spec") && unread.contains("spec.json"),
        "{unread}"
    );
}

#[test]
fn a_run_that_still_grows_is_looked_at_as_far_as_it_is() {
    let dir = tempfile::tempdir().unwrap();
    let run = dir.path().join("run");
    let mut writer = RunWriter::create(&run, RunId(1), &spec(), BTreeMap::new()).unwrap();
    let all = sound();
    all[..10]
        .iter()
        .for_each(|entry| writer.append(entry).unwrap());
    writer.flush().unwrap();
    let page = dir.path().join("page.html");
    go(&options(&run, Some(&page))).unwrap();
    let html = fs::read_to_string(&page).unwrap();
    for part in [
        "2 episodes, 8 steps",
        "1 × a run that ends within an episode",
        "still being recorded",
    ] {
        assert!(html.contains(part), "{part} is missing");
    }
    writer.finish().unwrap();
}
