//! Five minutes of two arms of servos with faults, resets, a person, policy swaps and a safe stop:
//! recomputed from the log, all of it is as it was; and the first bit that is not is found.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod body;
mod realtime;

use std::{
    path::{Path, PathBuf},
    sync::OnceLock,
};

use body::Script;
use hilt_drivers::{
    ArmError, EpisodeStart, Intent,
    faults::{FaultKind, FaultPlan, FaultSpec},
};
use hilt_protocol::{
    ActionSource, GripperCommand,
    noise::{Uniforms, mix},
};
use hilt_realtime::{Clock, Fake};
use hilt_recording::{Channel, ChannelReader, ChannelWriter, Message};
use hilt_runtime::{
    cell::CellError,
    control::TickRecord,
    decision::{By, Choice, Decision, Why},
    rig::Rig,
    tick_log::{
        BEGAN_TOPIC, DECISIONS_TOPIC, Losses, TICKS_FILE, TICKS_TOPIC, TickLog, decode_decision,
        decode_tick, encode_decision, encode_tick,
    },
    verify::{Verdict, verify},
};
use tempfile::TempDir;

const SECOND_NS: u64 = 1_000_000_000;

fn rig() -> Rig {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../rigs/emulated-dual.toml");
    Rig::read(&file, &[]).unwrap()
}

fn fault(kind: FaultKind, index: usize, from_s: f64, for_s: f64, share: f64) -> FaultSpec {
    let share = (kind != FaultKind::BusUnplugged).then_some(share);
    FaultSpec {
        kind,
        from_s,
        for_s,
        index,
        servo: share.map(|_| 3),
        magnitude: share,
    }
}

/// Some that pass unnoticed, some that stop the arms.
fn plan() -> FaultPlan {
    use FaultKind::{BusUnplugged, ErrorByte, ReplyCorrupted, ServoSilent, WrongId};
    FaultPlan {
        seed: 5,
        faults: vec![
            fault(ReplyCorrupted, 1, 20.0, 10.0, 0.2),
            fault(ServoSilent, 1, 60.0, 0.03, 1.0),
            fault(ServoSilent, 1, 100.0, 0.5, 1.0),
            fault(BusUnplugged, 0, 150.0, 0.3, 1.0),
            fault(ErrorByte, 0, 200.0, 0.1, 1.0),
            fault(WrongId, 1, 250.0, 5.0, 0.1),
        ],
    }
}

/// Who acts in a step: chance, a person, nobody, or a policy that is exchanged now and then.
fn choice(step: u64) -> Choice {
    let noise_seed = mix(step + 1);
    let mut random = Uniforms::new(noise_seed);
    let (by, source) = match step {
        0..50 => (By::Random, ActionSource::Random),
        777 => (By::Policy(vec![f32::NAN; 10]), ActionSource::Policy),
        _ if step.is_multiple_of(97) => (By::Nobody, ActionSource::Human),
        _ if step % 40 < 8 => {
            let mut intent = Intent::still(step);
            let motion = intent.motion.as_flattened_mut();
            motion.fill_with(|| random.range(-1.0, 1.0));
            intent.gripper = [Some(GripperCommand::Closed), None];
            (By::Intent(intent), ActionSource::Human)
        }
        _ => {
            let action = (0..10).map(|_| random.range(-1.2, 1.2) as f32);
            (By::Policy(action.collect()), ActionSource::Policy)
        }
    };
    Choice {
        by,
        source,
        noise_seed,
        policy_version: 1 + step / 700,
    }
}

/// The five minutes, once for all tests.
fn run() -> &'static Path {
    static RUN: OnceLock<TempDir> = OnceLock::new();
    let made = RUN.get_or_init(|| {
        let dir = tempfile::tempdir().unwrap();
        let clock = Fake::at(1_000_000);
        let mut log = None;
        let script = Script {
            late_command: 444,
            stall: 333,
            frozen: 1200,
        };
        let mut cell = body::open(&rig(), &clock, &plan(), script, |about| {
            let created = TickLog::create(dir.path(), about).unwrap();
            log.insert(created).sender()
        });
        let start = EpisodeStart {
            range_m: 0.0,
            seed: 0,
        };
        let mut stands = false;
        for step in 0.. {
            if clock.now_ns() > 300 * SECOND_NS {
                break;
            }
            if !stands || step % 500 == 499 {
                stands = cell.reset(start).is_ok();
                continue;
            }
            match cell.execute(choice(step)) {
                Ok(_) | Err(CellError::Action(_) | CellError::Held(_)) => {}
                Err(CellError::Stopped(_)) => stands = false,
                Err(other) => panic!("{other}"),
            }
        }
        drop(cell);
        assert_eq!(log.unwrap().finish(), Losses::default());
        dir
    });
    made.path()
}

#[test]
fn a_run_with_faults_swaps_and_a_safe_stop_is_identical() {
    let verdict = verify(run()).unwrap();
    assert_eq!(verdict.status(), 0, "{verdict}");
    assert!(verdict.seconds > 299.0, "{verdict}");
    // Three while the machine stood still; and an arm that is started again takes its time.
    assert!((3..20).contains(&verdict.missed), "{verdict}");
    assert!(verdict.ticks + verdict.missed > 59_900, "{verdict}");
    assert!(verdict.decisions > 2500 && verdict.commands + 1 == verdict.decisions);
    assert_eq!(verdict.swaps, 3, "{verdict}");
    for mode in ["idle", "armed", "running", "held", "stopping", "fault"] {
        assert!(verdict.modes.contains_key(mode), "{mode}: {verdict}");
    }
    for outcome in ["refused late", "missed", "late", "stopped"] {
        assert!(
            verdict.outcomes.contains_key(outcome),
            "{outcome}: {verdict}"
        );
    }
    for words in [
        "arm 1: servo 3 does not",
        "arm 0: the bus is gone",
        "status bits",
    ] {
        let found = verdict
            .faults
            .iter()
            .any(|(_, fault)| fault.contains(words));
        assert!(found, "{words}: {verdict}");
    }
    let sum: u64 = verdict.outcomes.values().sum();
    assert_eq!(sum, verdict.ticks + verdict.missed);
}

const TOPICS: [&str; 3] = [BEGAN_TOPIC, TICKS_TOPIC, DECISIONS_TOPIC];

/// The run's messages.
fn messages() -> &'static (Vec<Message>, std::collections::BTreeMap<String, String>) {
    static MESSAGES: OnceLock<(Vec<Message>, std::collections::BTreeMap<String, String>)> =
        OnceLock::new();
    MESSAGES.get_or_init(|| {
        let mut reader = ChannelReader::open(&run().join(TICKS_FILE), &TOPICS).unwrap();
        let messages = reader.by_ref().map(Result::unwrap).collect();
        (messages, reader.metadata().clone())
    })
}

/// A folder with a log of these messages.
fn written(messages: impl IntoIterator<Item = Message>) -> (TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join(TICKS_FILE);
    let channels = TOPICS.map(|topic| Channel {
        topic,
        message: "hilt.Message",
        schema: &[],
        metadata: Default::default(),
    });
    let metadata = self::messages().1.clone();
    let mut writer = ChannelWriter::create(&path, metadata, &channels).unwrap();
    for message in messages {
        let (channel, time_ns) = (message.channel, message.time_ns);
        writer.append(channel, 0, time_ns, &message.bytes).unwrap();
    }
    writer.finish().unwrap();
    (dir, path)
}

/// Verifies the run up to some ticks behind a message that was changed.
fn changed(place: usize, change: impl FnOnce(&[u8]) -> Vec<u8>) -> Verdict {
    let messages = &messages().0[..place + 500];
    let bytes = change(&messages[place].bytes);
    let mut changed = messages.to_vec();
    changed[place].bytes = bytes;
    let (dir, _) = written(changed);
    verify(dir.path()).unwrap()
}

/// The place of a tick that is so, and its number.
fn find_tick(is: impl Fn(&TickRecord) -> bool) -> (usize, u64) {
    let mut messages = messages().0.iter().enumerate();
    let tick = messages.find_map(|(place, message)| {
        let tick = (message.channel == 1).then(|| decode_tick(&message.bytes).unwrap())?;
        is(&tick).then_some((place, tick.number))
    });
    tick.unwrap()
}

fn flip(value: &mut f64) {
    *value = f64::from_bits(value.to_bits() ^ 1);
}

#[test]
fn a_flipped_bit_of_what_a_tick_saw_or_did_is_found_at_that_tick() {
    type Case = (&'static str, fn(&TickRecord) -> bool, fn(&mut TickRecord));
    let cases: [Case; 13] = [
        (
            "a joint's position",
            |t| t.number == 1234,
            |t| {
                let state = t.inputs.reports[1].as_mut().unwrap().as_mut().unwrap();
                flip(&mut state.joints.as_mut_slice()[4]);
            },
        ),
        (
            "a gripper's width",
            |t| t.number == 700,
            |t| {
                let state = t.inputs.reports[0].as_mut().unwrap().as_mut().unwrap();
                flip(&mut state.gripper_width_m);
            },
        ),
        (
            "a time of capture",
            |t| t.number == 2000,
            |t| {
                let state = t.inputs.reports[0].as_mut().unwrap().as_mut().unwrap();
                state.captured_ns ^= 1;
            },
        ),
        (
            "an order's command",
            |t| t.number == 1500,
            |t| {
                let command = t.inputs.order.command.as_mut().unwrap();
                flip(&mut command.arms[0].as_mut().unwrap().0.as_mut_slice()[2]);
            },
        ),
        (
            "an order's resets",
            |t| t.number == 900,
            |t| t.inputs.order.resets ^= 1,
        ),
        (
            "a frame's time",
            |t| t.number == 1100,
            |t| t.inputs.frames_ns[1] ^= 1 << 20,
        ),
        (
            "the tick's time",
            |t| t.number == 1101,
            |t| t.inputs.now_ns ^= 1,
        ),
        (
            "an error that was not",
            |t| t.number == 1600,
            |t| {
                t.written[0] = Some(ArmError::Unplugged);
            },
        ),
        (
            "a written error",
            |t| t.written[0] == Some(ArmError::Unplugged),
            |t| {
                t.written[0] = Some(ArmError::Device);
            },
        ),
        (
            "a command byte",
            |t| t.number == 1000,
            |t| {
                let mut bytes = t.sent[1].as_slice().to_vec();
                bytes[9] ^= 1;
                t.sent[1] = hilt_runtime::control::Sent::new(&bytes);
            },
        ),
        ("the hash", |t| t.number == 1001, |t| t.hash ^= 1 << 63),
        ("a deadline", |t| t.number == 1003, |t| t.times.due_ns ^= 1),
        (
            "overtaken",
            |t| t.number == 1002,
            |t| t.inputs.overtaken = true,
        ),
    ];
    for (what, is, change) in cases {
        let (place, number) = find_tick(is);
        let verdict = changed(place, |bytes| {
            let mut tick = decode_tick(bytes).unwrap();
            change(&mut tick);
            encode_tick(&tick)
        });
        let found = verdict.tick.as_ref().map(|tick| tick.number);
        assert_eq!(found, Some(number), "{what}: {verdict}");
        assert_eq!(verdict.status(), 1);
        assert!(
            verdict.to_string().contains(&format!("tick is {number}, ")),
            "{what}"
        );
    }
}

#[test]
fn a_flipped_bit_of_a_decision_is_found_at_that_decision() {
    type Case = (&'static str, fn(&Decision) -> bool, fn(&mut Decision));
    fn step(
        decision: &mut Decision,
    ) -> (
        &mut Choice,
        &mut Vec<hilt_runtime::decision::Stand>,
        &mut Vec<f32>,
    ) {
        match &mut decision.why {
            Why::Step {
                choice,
                stands,
                action,
            } => (choice, stands, action),
            Why::Home { .. } => panic!("no step"),
        }
    }
    fn is_by(decision: &Decision, is: fn(&By) -> bool) -> bool {
        matches!(&decision.why, Why::Step { choice, .. } if is(&choice.by))
    }
    let cases: [Case; 8] = [
        (
            "the policy's output",
            |d| is_by(d, |by| matches!(by, By::Policy(_))),
            |d| {
                if let By::Policy(output) = &mut step(d).0.by {
                    output[3] = f32::from_bits(output[3].to_bits() ^ 1);
                }
            },
        ),
        (
            "an intent",
            |d| is_by(d, |by| matches!(by, By::Intent(_))),
            |d| {
                if let By::Intent(intent) = &mut step(d).0.by {
                    flip(&mut intent.motion[1][2]);
                }
            },
        ),
        (
            "a random step's seed",
            |d| is_by(d, |by| *by == By::Random),
            |d| {
                step(d).0.noise_seed ^= 1;
            },
        ),
        (
            "a policy's version",
            |d| is_by(d, |by| matches!(by, By::Policy(_))),
            |d| {
                step(d).0.policy_version ^= 1;
            },
        ),
        (
            "a measured joint",
            |d| is_by(d, |by| matches!(by, By::Policy(_))),
            |d| {
                flip(&mut step(d).1[1].state.joints.as_mut_slice()[0]);
            },
        ),
        (
            "the action",
            |d| is_by(d, |by| matches!(by, By::Policy(_))),
            |d| {
                let action = step(d).2;
                action[0] = f32::from_bits(action[0].to_bits() ^ 1);
            },
        ),
        (
            "a command's joint",
            |d| d.command.is_some_and(|c| c.sequence == 60),
            |d| {
                let arms = &mut d.command.as_mut().unwrap().arms;
                flip(&mut arms[1].as_mut().unwrap().0.as_mut_slice()[5]);
            },
        ),
        (
            "the way home",
            |d| matches!(d.why, Why::Home { .. }),
            |d| {
                if let Why::Home { home, .. } = &mut d.why {
                    flip(&mut home.as_mut_slice()[0]);
                }
            },
        ),
    ];
    for (what, is, change) in cases {
        let decisions = messages()
            .0
            .iter()
            .enumerate()
            .filter(|(_, m)| m.channel == 2);
        let mut decisions = decisions.map(|(place, m)| (place, decode_decision(&m.bytes).unwrap()));
        let (place, decision) = decisions.find(|(_, decision)| is(decision)).unwrap();
        let verdict = changed(place, |_| {
            let mut changed = decision.clone();
            change(&mut changed);
            encode_decision(&changed)
        });
        let found = verdict
            .decision
            .as_ref()
            .unwrap_or_else(|| panic!("{what}: {verdict}"));
        assert_eq!(found.now_ns, decision.now_ns, "{what}: {verdict}");
        assert_eq!(verdict.tick, None, "{what}: {verdict}");
        assert_eq!(verdict.status(), 1);
    }
}

#[test]
fn a_command_that_is_not_its_decisions_is_found() {
    // The decision is whole in itself, but of another command.
    let places = messages()
        .0
        .iter()
        .enumerate()
        .filter(|(_, m)| m.channel == 2);
    let places: Vec<_> = places.map(|(place, _)| place).take(80).collect();
    let verdict = changed(places[70], |bytes| {
        let mut decision = decode_decision(bytes).unwrap();
        decision.command.as_mut().unwrap().activate_ns ^= 1;
        encode_decision(&hilt_runtime::tick_log::sealed(decision))
    });
    let found = verdict.decision.as_ref().unwrap();
    assert!(
        found.differences[0].what.contains("the command as tick"),
        "{verdict}"
    );
    assert_eq!(verdict.status(), 1);
}

#[test]
fn a_hole_or_a_cut_is_incomplete_and_said() {
    let (place, number) = find_tick(|tick| tick.number == 3000);
    let holed = messages().0[..place + 500].iter().enumerate();
    let holed = holed.filter(|(at, _)| *at != place).map(|(_, m)| m.clone());
    let (dir, _) = written(holed);
    let verdict = verify(dir.path()).unwrap();
    assert_eq!((verdict.status(), verdict.ticks), (2, number), "{verdict}");
    assert!(
        verdict.incomplete[0].starts_with("1 ticks before tick 3001"),
        "{verdict}"
    );

    let (dir, path) = written(messages().0[..place].iter().cloned());
    let bytes = std::fs::read(&path).unwrap();
    std::fs::write(&path, &bytes[..bytes.len() / 2]).unwrap();
    let verdict = verify(dir.path());
    // The copy has one group, which is cut; a run's own log has ten a second.
    assert!(verdict.is_err() || verdict.unwrap().status() == 2);

    let bytes = std::fs::read(run().join(TICKS_FILE)).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join(TICKS_FILE);
    std::fs::write(&path, &bytes[..bytes.len() * 9 / 10]).unwrap();
    let verdict = verify(dir.path()).unwrap();
    assert_eq!(verdict.status(), 2, "{verdict}");
    assert!(verdict.ticks > 10_000 && !verdict.diverges(), "{verdict}");
    assert!(verdict.incomplete[0].contains("cut"), "{verdict}");
}

#[test]
fn the_program_ends_with_the_verdict_as_its_status() {
    let hilt = |dir: &Path| {
        let program = env!("CARGO_BIN_EXE_hilt");
        let output = std::process::Command::new(program)
            .arg("verify")
            .arg(dir)
            .output()
            .unwrap();
        let said = [output.stdout, output.stderr].concat();
        let said = String::from_utf8_lossy(&said).into_owned();
        (output.status.code(), said)
    };
    let (status, said) = hilt(run());
    assert_eq!(status, Some(0), "{said}");
    assert!(said.contains("identical to the last bit"), "{said}");
    let (place, _) = find_tick(|tick| tick.number == 40);
    let mut changed = messages().0[..place + 50].to_vec();
    let mut tick = decode_tick(&changed[place].bytes).unwrap();
    tick.inputs.frames_ns[0] ^= 1;
    changed[place].bytes = encode_tick(&tick);
    let (dir, _) = written(changed);
    let (status, said) = hilt(dir.path());
    assert_eq!(status, Some(1), "{said}");
    assert!(said.contains("the first divergent tick is 40, "), "{said}");
    let (status, said) = hilt(&dir.path().join("nothing"));
    assert_eq!(status, Some(2), "{said}");
    assert!(said.contains("nothing/ticks.mcap"), "{said}");
}

#[test]
fn a_run_without_a_log_of_ticks_is_named_with_the_remedy() {
    let dir = tempfile::tempdir().unwrap();
    let error = verify(dir.path()).unwrap_err().to_string();
    assert!(
        error.contains("ticks.mcap") && error.contains("monotonic"),
        "{error}"
    );
}
