//! What is shown, by hand; a recording through a file and back; and screens that fail.

use std::sync::{
    Arc, Mutex,
    mpsc::{Receiver, Sender, channel},
};

use hilt_protocol::{
    ActionSource, Axis, CameraSpec, Entry, Image, Observation, Record, RigSpec, RunId, SetupMode,
    Step,
};
use hilt_recording::table::{Columns, Table};

use super::{
    RerunError, Screen,
    live::Live,
    scenes::{self, Content, Moment, Scenes, Shown},
};
use crate::tick::Stage;

const RUN: RunId = RunId(0xabc);

/// One camera whose frames stay as they are, one whose frames are worth packing.
fn spec() -> RigSpec {
    let camera = |name: &str, side| CameraSpec {
        name: name.to_owned(),
        height: side,
        width: side + 1,
    };
    RigSpec {
        mode: SetupMode::SingleArmLearnedGripper,
        controlled_axes: vec![Axis::X, Axis::Yaw],
        cameras: vec![camera("front", 16), camera("wide/left", 160)],
        proprio: vec!["joint.0".to_owned(), "gripper".to_owned()],
        policy_hz: 10,
    }
}

fn observation(n: u64) -> Observation {
    let captured_ns = 1_000_000_000 + n * 100_000_000;
    let images = spec().cameras.into_iter().map(|camera| Image {
        captured_ns: captured_ns - 5_000_000,
        height: camera.height,
        width: camera.width,
        rgb: (0..camera.height * camera.width * 3)
            .map(|i| (u64::from(i) * 7 + n * 13) as u8)
            .collect(),
    });
    Observation {
        captured_ns,
        proprio: vec![n as f32 + 0.5, -0.25],
        images: images.collect(),
    }
}

/// An episode of two steps, the second by a person and the last.
fn entries(run: RunId) -> Vec<Entry> {
    let entry = |n: u64, record| Entry {
        run,
        sequence: n,
        episode: 0,
        index: n as u32,
        record,
    };
    let step = |n: u64| Step {
        action: vec![0.5, -1.0, n as f32 - 2.0],
        source: match n {
            2 => ActionSource::Human,
            _ => ActionSource::Policy,
        },
        reward: n as f32 - 1.0,
        grasp_penalty: -0.125,
        terminated: n == 2,
        truncated: false,
        label: None,
        policy_version: 1,
        noise_seed: 1,
        next: observation(n),
    };
    vec![
        entry(0, Record::Reset(observation(0))),
        entry(1, Record::Step(step(1))),
        entry(2, Record::Step(step(2))),
    ]
}

fn scalars(shown: &[Shown]) -> Vec<(String, f64)> {
    let number = |shown: &Shown| match shown.content {
        Content::Scalar(value) => Some((shown.path.join("/"), value)),
        _ => None,
    };
    shown.iter().filter_map(number).collect()
}

fn words(shown: &[Shown]) -> Vec<&str> {
    let text = |shown: &'_ Shown| matches!(shown.content, Content::Text(_));
    shown
        .iter()
        .filter(|shown| text(shown))
        .map(|shown| match &shown.content {
            Content::Text(text) => text.as_str(),
            _ => "",
        })
        .collect()
}

#[test]
fn a_step_is_shown_with_every_number_at_its_place_and_time() {
    let mut scenes = Scenes::new(&spec());
    let shown: Vec<_> = entries(RUN).iter().map(|e| scenes.of_entry(e)).collect();
    let numbers = [
        ("timing/frame_age_ms/front", 5.0),
        ("timing/frame_age_ms/wide/left", 5.0),
        ("state/joint.0", 2.5),
        ("state/gripper", -0.25),
        ("action/x", 0.5),
        ("action/yaw", -1.0),
        ("action/gripper", 0.0),
        ("reward", 1.0),
        ("grasp_penalty", -0.125),
        ("intervention", 1.0),
        ("timing/step_ms", 100.0),
    ];
    let numbers: Vec<_> = numbers.map(|(path, n)| (path.to_owned(), n)).into();
    assert_eq!(scalars(&shown[2]), numbers);
    assert!(scalars(&shown[1]).contains(&("intervention".to_owned(), 0.0)));
    assert_eq!(words(&shown[0]), ["episode 0 begins"]);
    assert!(words(&shown[1]).is_empty());
    assert_eq!(words(&shown[2]).len(), 1);
    assert!(
        words(&shown[2])[0].starts_with("episode 0 ends after 2 steps with reward 1, terminated")
    );
    let [front, .., last] = shown[2].as_slice() else {
        panic!("nothing is shown");
    };
    let at = |ns| Moment {
        step: Some(2),
        run_time_ns: Some(ns),
    };
    assert_eq!(
        (&front.path[..], front.at),
        (
            &["cameras".to_owned(), "front".to_owned()][..],
            at(1_195_000_000)
        )
    );
    assert_eq!(
        front.content,
        Content::Image(observation(2).images[0].clone())
    );
    assert_eq!(last.at, at(1_200_000_000));
    // A name is one part of a path, whatever is in it.
    let wide = shown[2]
        .iter()
        .find(|s| s.path.ends_with(&["wide/left".to_owned()]));
    assert_eq!(
        wide.unwrap().path.len(),
        2 + usize::from(wide.unwrap().path[0] == "timing")
    );
    // Nothing went before the first of an episode.
    let first = scalars(&scenes.of_entry(&entries(RUN)[0]));
    assert!(!first.iter().any(|(path, _)| path == "timing/step_ms"));
}

#[test]
fn a_row_is_shown_by_the_numbers_of_its_columns() {
    let table = Table::new(Columns {
        observation: 2,
        action: 1,
        observations: vec![0.0, 1.0, 2.0, 3.0],
        actions: vec![0.5, -0.5],
        rewards: vec![0.0, 1.0],
        next_observations: vec![2.0, 3.0, 4.0, 5.0],
        terminals: vec![false, true],
        timeouts: vec![false, false],
    })
    .unwrap();
    let shown = scenes::of_row(&table, 1);
    let numbers = [
        ("state/0", 2.0),
        ("state/1", 3.0),
        ("action/0", -0.5),
        ("reward", 1.0),
    ];
    assert_eq!(
        scalars(&shown),
        numbers.map(|(path, n)| (path.to_owned(), n))
    );
    assert!(words(&shown)[0].contains("terminated"));
    let at = Moment {
        step: Some(1),
        run_time_ns: None,
    };
    assert!(shown.iter().all(|shown| shown.at == at));
    assert!(words(&scenes::of_row(&table, 0)).is_empty());
}

/// A screen that says when it shows something and waits to be let on; at the end it is full.
struct Slow {
    showing: Sender<Vec<String>>,
    go_on: Receiver<()>,
    fails: bool,
    ended: Arc<Mutex<bool>>,
}

impl Screen for Slow {
    fn begin(&mut self, recording: &str) -> Result<(), RerunError> {
        assert_eq!(recording, RUN.to_string());
        Ok(())
    }

    fn show(&mut self, shown: &Shown) -> Result<(), RerunError> {
        self.showing.send(shown.path.clone()).unwrap();
        let _ = self.go_on.recv();
        match self.fails {
            true => Err(RerunError::NotBuilt),
            false => Ok(()),
        }
    }

    fn end(self: Box<Self>) -> Result<(), RerunError> {
        *self.ended.lock().unwrap() = true;
        Ok(())
    }
}

/// What a test has in hand: the run, what is being shown, the word to go on, and whether the screen was ended.
struct Hand {
    live: Live,
    shows: Receiver<Vec<String>>,
    go: Sender<()>,
    ended: Arc<Mutex<bool>>,
}

fn slow(fails: bool) -> Hand {
    let ((showing, shows), (go, go_on)) = (channel(), channel());
    let ended = Arc::default();
    let screen = Box::new(Slow {
        showing,
        go_on,
        fails,
        ended: Arc::clone(&ended),
    });
    Hand {
        live: Live::on(screen, &spec(), RUN).unwrap(),
        shows,
        go,
        ended,
    }
}

#[test]
fn a_full_queue_drops_and_counts_and_holds_nothing_up() {
    let Hand {
        live,
        shows,
        go,
        ended,
    } = slow(false);
    live.took(Stage::Head, 1_500_000);
    assert_eq!(shows.recv().unwrap(), ["timing", "head_ms"]);
    // The screen hangs with the first; as many as the queue holds wait, and the rest is lost.
    for _ in 0..1000 {
        live.took(Stage::Encode, 1);
    }
    assert_eq!(live.lost(), 1001);
    drop(go);
    let said = live.end().unwrap();
    let kept = 1 + shows.try_iter().count() as u64;
    assert!((2..1001).contains(&kept), "{kept}");
    assert!(said.contains(&format!("only {kept} of 1001 ")), "{said}");
    assert!(*ended.lock().unwrap());
}

#[test]
fn what_a_screen_takes_is_all_there_and_nothing_is_said() {
    let Hand {
        live,
        shows,
        go,
        ended,
    } = slow(false);
    drop(go);
    for entry in entries(RUN) {
        live.record(&entry.record);
    }
    assert_eq!(live.end(), None);
    let mut scenes = Scenes::new(&spec());
    let expected = entries(RUN).into_iter().flat_map(|e| scenes.of_entry(&e));
    let expected: Vec<_> = expected.map(|shown| shown.path).collect();
    assert_eq!(shows.try_iter().collect::<Vec<_>>(), expected);
    assert!(*ended.lock().unwrap());
}

#[test]
fn a_screen_that_fails_stops_nothing() {
    let Hand {
        live,
        shows,
        go,
        ended,
    } = slow(true);
    drop(go);
    live.took(Stage::Head, 1);
    shows.recv().unwrap();
    for entry in entries(RUN) {
        live.record(&entry.record);
    }
    assert!(live.end().unwrap().contains("only 0 of 4 "));
    assert!(!*ended.lock().unwrap());
}

#[cfg(feature = "rerun")]
mod built {
    use std::{
        collections::BTreeMap,
        fs::File,
        hash::{DefaultHasher, Hash, Hasher},
        io::BufReader,
        net::TcpListener,
        path::Path,
    };

    use hilt_recording::{RunWriter, beside, table::npz};
    use re_log_encoding::Decoder;
    use re_sdk::{Component, TimePoint, external::re_log_types::LogMsg, log::Chunk};
    use re_sdk_types::{archetypes, components};

    use super::{
        super::{Target, open, recorded},
        *,
    };

    /// Everything of a thing that is shown, on a line.
    fn line(recording: &str, shown: &Shown) -> String {
        let content = match &shown.content {
            Content::Scalar(value) => format!("{value:?}"),
            Content::Text(text) => text.clone(),
            Content::Image(image) => {
                let mut hash = DefaultHasher::new();
                image.rgb.hash(&mut hash);
                format!("{}x{} {:x}", image.width, image.height, hash.finish())
            }
        };
        let Moment { step, run_time_ns } = shown.at;
        format!(
            "{recording} {:?} {step:?} {run_time_ns:?} {content}",
            shown.path
        )
    }

    fn moment(times: &TimePoint) -> Moment {
        let of = |name: &str| {
            let mut found = times.iter().filter(|(line, _)| line.as_str() == name);
            found.next().map(|(_, cell)| cell.as_i64() as u64)
        };
        assert_eq!(
            times.iter().len(),
            usize::from(of("step").is_some()) + usize::from(of("run_time").is_some()),
            "no other time line"
        );
        Moment {
            step: of("step"),
            run_time_ns: of("run_time"),
        }
    }

    /// A component's values and times.
    fn values<C: Component>(chunk: &Chunk, of: &re_sdk::ComponentDescriptor) -> Vec<(Moment, C)> {
        let times: Vec<_> = chunk.iter_component_timepoints(of.component).collect();
        let batches = chunk.iter_component::<C>(of.component);
        let mut found = vec![];
        for (times, batch) in times.iter().zip(batches) {
            found.extend(
                batch
                    .as_slice()
                    .iter()
                    .map(|value| (moment(times), value.clone())),
            );
        }
        found
    }

    fn image(rgb: Vec<u8>, width: u32, height: u32) -> Content {
        Content::Image(Image {
            captured_ns: 0,
            height,
            width,
            rgb: rgb.into(),
        })
    }

    /// What is in a chunk, but for the recording's own properties.
    fn contents(chunk: &Chunk) -> Vec<(Moment, Content)> {
        let mut all = vec![];
        let scalars = archetypes::Scalars::descriptor_scalars();
        for (at, value) in values::<components::Scalar>(chunk, &scalars) {
            all.push((at, Content::Scalar(value.0.0)));
        }
        let text = archetypes::TextLog::descriptor_text();
        for (at, value) in values::<components::Text>(chunk, &text) {
            all.push((at, Content::Text(value.as_str().to_owned())));
        }
        let formats = archetypes::Image::descriptor_format();
        let formats = values::<components::ImageFormat>(chunk, &formats);
        let buffers = archetypes::Image::descriptor_buffer();
        let buffers = values::<components::ImageBuffer>(chunk, &buffers);
        for ((at, format), (_, buffer)) in formats.into_iter().zip(buffers) {
            all.push((at, image(buffer.0.to_vec(), format.width, format.height)));
        }
        let blobs = archetypes::EncodedImage::descriptor_blob();
        for (at, blob) in values::<components::Blob>(chunk, &blobs) {
            let decoded = image::load_from_memory(&blob.0).unwrap().to_rgb8();
            let (width, height) = decoded.dimensions();
            all.push((at, image(decoded.into_raw(), width, height)));
        }
        all
    }

    fn read(path: &Path) -> Vec<String> {
        let file = BufReader::new(File::open(path).unwrap());
        let mut lines = vec![];
        for message in Decoder::<LogMsg>::decode_eager(file).unwrap() {
            let LogMsg::ArrowMsg(store, message) = message.unwrap() else {
                continue;
            };
            let chunk = Chunk::from_arrow_msg(&message).unwrap();
            let path = chunk.entity_path().iter();
            let path: Vec<_> = path.map(|part| part.unescaped_str().to_owned()).collect();
            for (at, content) in contents(&chunk) {
                let path = path.clone();
                lines.push(line(
                    store.recording_id().as_str(),
                    &Shown { path, at, content },
                ));
            }
        }
        lines.sort();
        lines
    }

    fn expected(runs: &[RunId]) -> Vec<String> {
        let mut lines = vec![];
        for &run in runs {
            let mut scenes = Scenes::new(&spec());
            for entry in entries(run) {
                let shown = scenes.of_entry(&entry);
                lines.extend(shown.iter().map(|shown| line(&run.to_string(), shown)));
            }
        }
        lines.sort();
        lines
    }

    fn record(dir: &Path, run: RunId) {
        let mut log = RunWriter::create(dir, run, &spec(), BTreeMap::new()).unwrap();
        entries(run)
            .iter()
            .for_each(|entry| log.append(entry).unwrap());
        log.finish().unwrap();
    }

    #[test]
    fn a_recording_goes_through_a_file_whole() {
        let dir = tempfile::tempdir().unwrap();
        let runs = [RUN, RunId(0xdef)];
        for run in runs {
            record(&dir.path().join("runs").join(run.to_string()), run);
        }
        let path = dir.path().join("x.rrd");
        let mut screen = open(&Target::File(path.clone())).unwrap();
        let runs_dir = dir.path().join("runs");
        let count = recorded::view(&runs_dir, None, &mut *screen, |_| true).unwrap();
        assert!(!path.exists() && beside(&path).exists());
        screen.end().unwrap();
        assert!(path.exists() && !beside(&path).exists());
        assert_eq!(count, 6);
        assert_eq!(read(&path), expected(&runs));
        // Nothing is written over.
        let again = open(&Target::File(path.clone())).err().unwrap().to_string();
        assert!(again.contains("x.rrd exists already"), "{again}");
    }

    #[test]
    fn a_live_run_and_a_table_go_through_files_too() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("live.rrd");
        let target = Target::File(path.clone());
        let live = Live::begin(&target, &spec(), RUN, &mut |_| {})
            .unwrap()
            .unwrap();
        entries(RUN)
            .iter()
            .for_each(|entry| live.record(&entry.record));
        assert_eq!(live.end(), None);
        assert_eq!(read(&path), expected(&[RUN]));

        let table = Table::new(Columns {
            observation: 1,
            action: 1,
            observations: vec![0.0, 1.0],
            actions: vec![0.5, -0.5],
            rewards: vec![0.0, 1.0],
            next_observations: vec![1.0, 2.0],
            terminals: vec![false, true],
            timeouts: vec![false, false],
        })
        .unwrap();
        let log = dir.path().join("log.npz");
        npz::write(&log, &table).unwrap();
        let path = dir.path().join("table.rrd");
        let mut screen = open(&Target::File(path.clone())).unwrap();
        recorded::view(&log, None, &mut *screen, |_| true).unwrap();
        screen.end().unwrap();
        let rows = (0..2).flat_map(|row| scenes::of_row(&table, row));
        let mut expected: Vec<_> = rows.map(|shown| line("table", &shown)).collect();
        expected.sort();
        assert_eq!(read(&path), expected);
    }

    #[test]
    fn a_file_that_is_not_ended_is_not_there() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.rrd");
        let mut screen = open(&Target::File(path.clone())).unwrap();
        screen.begin("run").unwrap();
        drop(screen);
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
    }

    #[test]
    fn a_folder_that_is_not_there_and_a_wrong_image_are_named() {
        let nowhere = Target::File("/nowhere/x.rrd".into());
        let error = open(&nowhere).err().unwrap().to_string();
        assert!(error.starts_with("/nowhere/x.rrd: "), "{error}");
        let dir = tempfile::tempdir().unwrap();
        let mut screen = open(&Target::File(dir.path().join("x.rrd"))).unwrap();
        screen.begin("run").unwrap();
        let mut entry = entries(RUN).remove(0);
        if let Record::Reset(observation) = &mut entry.record {
            observation.images[0].rgb = vec![0; 5].into();
        }
        let mut shown = Scenes::new(&spec()).of_entry(&entry).into_iter();
        let error = screen.show(&shown.next().unwrap()).unwrap_err().to_string();
        assert_eq!(
            error,
            "/cameras/front: 5 bytes are no image of 17x16 pixels"
        );
    }

    #[test]
    fn without_a_viewer_a_run_is_told_and_goes_on() {
        // A port that nobody listens at any more.
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        drop(listener);
        let target = Target::Viewer(Some(address.clone()));
        let error = open(&target).err().unwrap().to_string();
        assert!(
            error.contains(&address) && error.contains("rerun"),
            "{error}"
        );
        let mut said = String::new();
        let live = Live::begin(&target, &spec(), RUN, &mut |words| said = words.to_owned());
        assert!(live.unwrap().is_none());
        assert!(
            said.contains(&address) && said.contains("goes on"),
            "{said}"
        );
    }
}
