//! The same on real threads: the simulated arm behind its own thread, at the machine's own time.

use hilt_drivers::EpisodeStart;
use hilt_protocol::{ActionSource, noise::mix};
use hilt_runtime::{
    cell::Cell,
    decision::{By, Choice},
    rig::Rig,
    tick_log::{About, Losses, TickLog},
    verify::verify,
};
use ringbuf::traits::Consumer;

/// A loaded machine may be as late as it likes: what is recomputed is what it did, whatever it was.
const PATIENT: [&str; 6] = [
    "clock=monotonic",
    "ages.state_ms=5000.0",
    "ages.frame_ms=5000.0",
    "ages.policy_ms=5000.0",
    "ages.command_ms=5000.0",
    "ages.jump_ms=20000.0",
];

#[test]
fn a_run_in_real_time_is_identical() {
    let file = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../rigs/lift-sim.toml");
    let rig = Rig::read(&file, &PATIENT.map(str::to_owned)).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let mut cell = Cell::open(&rig).unwrap();
    let about = About {
        rig: rig.to_toml().unwrap(),
        began: cell.began().unwrap().clone(),
    };
    let log = TickLog::create(dir.path(), &about).unwrap();
    cell.log_to(log.sender());
    let mut records = cell.take_records().unwrap();
    for episode in 0..2 {
        let start = EpisodeStart {
            range_m: 0.1,
            seed: episode,
        };
        cell.reset(start).unwrap();
        for step in 0..8 {
            let choice = Choice {
                by: By::Random,
                source: ActionSource::Random,
                noise_seed: mix(episode ^ mix(step)),
                policy_version: 0,
            };
            cell.execute(choice).unwrap();
            log.sender().ticks(records.pop_iter().collect());
        }
    }
    drop(cell);
    log.sender().ticks(records.pop_iter().collect());
    assert_eq!(log.finish(), Losses::default());
    let verdict = verify(dir.path()).unwrap();
    assert_eq!(verdict.status(), 0, "{verdict}");
    // A command that the next one overtakes before a tick sees it is no difference.
    assert_eq!(verdict.decisions, 16, "{verdict}");
    assert!(verdict.commands > 0 && verdict.commands <= 16, "{verdict}");
    assert!(verdict.ticks + verdict.missed > 16 * 4, "{verdict}");
}
