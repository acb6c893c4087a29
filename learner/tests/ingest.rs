//! From the link into the store: what is acknowledged is there after a restart.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::{
    net::TcpListener,
    ops::Range,
    path::Path,
    sync::{
        RwLock,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use hilt_learner::{
    ingest::{Ingest, IngestError},
    replay::{HostBatch, Layout, Replay, Which},
};
use hilt_link::{
    ActorConfig, ActorLink, EntrySource, LearnerConfig, LearnerLink, SourceError, WindowLimits,
};
use hilt_protocol::{
    ActionSource, Axis, CameraSpec, Entry, Image, Observation, Record, RigSpec, RunId, SetupMode,
    Step, noise::Uniforms,
};

const RUN: RunId = RunId(9);
const ENTRIES: u64 = 700;
/// An entry of another rig.
const STRANGER: u64 = 300;
/// Long enough for a loaded machine; nothing waits so long when all is well.
const LONG: Duration = Duration::from_secs(30);

fn spec(sides: [u32; 2]) -> RigSpec {
    let camera = |(name, side): (&str, u32)| CameraSpec {
        name: name.to_owned(),
        height: side,
        width: side,
    };
    RigSpec {
        mode: SetupMode::SingleArmFixedGripper,
        controlled_axes: vec![Axis::X, Axis::Y],
        cameras: ["front", "wrist"]
            .into_iter()
            .zip(sides)
            .map(camera)
            .collect(),
        proprio: vec!["x".to_owned()],
        policy_hz: 10,
    }
}

/// A row's reward says which step it is; its second image as well.
fn entry(sequence: u64) -> Entry {
    let side = if sequence == STRANGER { 32 } else { 16 };
    let image = |value: u8| Image {
        captured_ns: sequence,
        height: side,
        width: side,
        rgb: vec![value; (side * side * 3) as usize].into(),
    };
    Entry {
        run: RUN,
        sequence,
        episode: 0,
        index: sequence as u32,
        record: Record::Step(Step {
            action: vec![0.5; 2],
            source: ActionSource::Policy,
            reward: sequence as f32,
            grasp_penalty: 0.0,
            terminated: false,
            truncated: false,
            label: None,
            policy_version: 1,
            noise_seed: sequence,
            next: Observation {
                captured_ns: sequence,
                proprio: vec![0.0],
                images: vec![image(255), image(sequence as u8)],
            },
        }),
    }
}

struct Log;

impl EntrySource for Log {
    fn read_from(&mut self, wanted: Range<u64>, _: usize) -> Result<Vec<Entry>, SourceError> {
        Ok(wanted.take(10).map(entry).collect())
    }
}

fn links() -> (LearnerLink, ActorLink) {
    let address = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let endpoint = vec![format!("tcp/{address}")];
    let learner = LearnerLink::open(LearnerConfig {
        session: "ingest".to_owned(),
        listen: endpoint.clone(),
        queue_bytes: LearnerConfig::QUEUE_BYTES,
        resume: Default::default(),
    });
    let actor = ActorLink::open(
        ActorConfig {
            session: "ingest".to_owned(),
            connect: endpoint,
            run: RUN,
            window: WindowLimits::default(),
        },
        Box::new(Log),
    );
    (learner.unwrap(), actor.unwrap())
}

fn images(sides: [u32; 2]) -> Ingest {
    Ingest::images(spec(sides)).unwrap()
}

fn open(dir: &Path, layout: Layout) -> Replay {
    Replay::open(dir, layout, images([16, 16]).identity(), 10_000).unwrap()
}

#[test]
fn what_is_acknowledged_is_in_the_store_as_it_was_sent() {
    let (learner, actor) = links();
    let dir = tempfile::tempdir().unwrap();
    let layout = images([16, 16]).layout();
    let replay = RwLock::new(open(dir.path(), layout));
    let (count, ended) = (AtomicU64::new(0), AtomicBool::new(false));
    std::thread::scope(|scope| {
        let ingest = images([16, 16]);
        let (learner, replay, count, ended) = (&learner, &replay, &count, &ended);
        let ingesting = scope.spawn(move || {
            ingest.run(learner, replay, ended, |_| {
                count.fetch_add(1, Ordering::Relaxed);
            })
        });
        (0..ENTRIES).for_each(|sequence| actor.notify(entry(sequence)));
        assert!(actor.drain(LONG));
        ended.store(true, Ordering::Relaxed);
        ingesting.join().unwrap().unwrap();
    });
    // One was of another rig: it is acknowledged, so that the stream goes on, but not kept.
    assert_eq!(count.load(Ordering::Relaxed), ENTRIES - 1);
    drop(replay);
    let replay = open(dir.path(), layout);
    assert_eq!(replay.statistics().rows as u64, ENTRIES - 1);
    assert_eq!(replay.len(Which::Online) as u64, ENTRIES - 3);
    let mut batch = HostBatch::new(layout, 256);
    assert!(replay.sample(Which::Online, 0..256, &mut Uniforms::new(2), &mut batch));
    for (i, &reward) in batch.rewards().iter().enumerate() {
        let frame = i * layout.frame_bytes..(i + 1) * layout.frame_bytes;
        assert!(batch.frames(0)[frame.clone()].iter().all(|&b| b == 255));
        let want = (reward as u64 - 1) as u8;
        assert!(batch.frames(1)[frame].iter().all(|&b| b == want));
    }
}

#[test]
fn an_error_of_the_store_ends_the_training_and_acknowledges_nothing() {
    let (learner, actor) = links();
    let dir = tempfile::tempdir().unwrap();
    let layout = images([16, 16]).layout();
    let narrow = Layout {
        proprio: 0,
        ..layout
    };
    let replay = RwLock::new(open(dir.path(), narrow));
    let (count, ended) = (AtomicU64::new(0), AtomicBool::new(false));
    actor.notify(entry(0));
    let ingest = images([16, 16]);
    let error = ingest
        .run(&learner, &replay, &ended, |_| {
            count.fetch_add(1, Ordering::Relaxed);
        })
        .unwrap_err();
    assert!(matches!(error, IngestError::Store(_)), "{error}");
    assert!(ended.load(Ordering::Relaxed));
    assert_eq!(count.load(Ordering::Relaxed), 0);
    assert_eq!(actor.stats().acked, 0);
}

/// Or the updates would go on for ever on what is there.
#[test]
fn a_panic_ends_the_training_too() {
    let (learner, actor) = links();
    let dir = tempfile::tempdir().unwrap();
    let replay = RwLock::new(open(dir.path(), images([16, 16]).layout()));
    let ended = AtomicBool::new(false);
    actor.notify(entry(0));
    std::thread::scope(|scope| {
        let (learner, replay, ended) = (&learner, &replay, &ended);
        let ingest = images([16, 16]);
        let ingesting = scope.spawn(move || {
            ingest.run(learner, replay, ended, |_| panic!("as it is meant to here"))
        });
        assert!(ingesting.join().is_err());
    });
    assert!(ended.load(Ordering::Relaxed));
    assert_eq!(actor.stats().acked, 0);
}

#[test]
fn a_store_of_images_needs_images_of_one_size() {
    let Err(error) = Ingest::images(spec([16, 32])) else {
        panic!("two sizes in one row")
    };
    assert!(error.to_string().contains("`wrist`"), "{error}");
}

#[test]
fn a_number_that_cannot_be_is_named_with_its_run_and_step() {
    let ingest = images([16, 16]);
    let dir = tempfile::tempdir().unwrap();
    let store = Replay::open(dir.path(), ingest.layout(), ingest.identity(), 100).unwrap();
    let store = RwLock::new(store);
    let refused = |spoil: &dyn Fn(&mut Step)| {
        let mut entry = entry(7);
        if let Record::Step(step) = &mut entry.record {
            spoil(step);
        }
        let error = ingest.push(&entry, true, &store).unwrap_err().to_string();
        assert!(
            error.contains(&RUN.to_string()) && error.contains("entry 7"),
            "{error}"
        );
        error
    };
    let far = refused(&|step| step.action[1] = -1.5);
    assert!(
        far.contains("`action` has -1.5 in column 1") && far.contains("±1"),
        "{far}"
    );
    let none = refused(&|step| step.next.proprio[0] = f32::NAN);
    assert!(none.contains("`proprio` has NaN in column 0"), "{none}");
    assert!(refused(&|step| step.action[0] = f32::NAN).contains("`action` has NaN"));
    assert!(refused(&|step| step.reward = f32::INFINITY).contains("`reward` has inf"));
    assert!(refused(&|step| step.grasp_penalty = f32::NAN).contains("`grasp_penalty`"));
    assert_eq!(store.read().unwrap().statistics().rows, 0);
}
