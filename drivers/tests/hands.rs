//! What a person holds, with devices by script: each passes the suite, a device that goes is named,
//! and no press is lost.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::{
    sync::mpsc::{Receiver, Sender, channel},
    time::Duration,
};

use hilt_drivers::{
    Arm, ArmError, ArmState, Intent, Teleop, TeleopError, TeleopEvent, conformance,
    hands::{
        Device, Hand, HandDevice, Handheld, HandheldConfig, Heard, Leader, LeaderConfig, PerArm,
        Profile, WithKeys,
        gamepad::{self, AxisRange, Names, Pad},
        leader::{Clutch, FullStep, TakeOver},
        spacemouse::{self, Reports, SpaceMouse},
    },
    keyboard::Keys,
};
use hilt_kinematics::{Chain, Joint, JointKind};
use hilt_protocol::{ActionSource, GripperCommand, JointVector};
use hilt_realtime::{Clock, Monotonic};
use nalgebra::{Translation3, Vector3};

/// Lets time pass, and gives what it is then.
fn pass(duration_ns: u64) -> u64 {
    Monotonic.sleep_until_ns(Monotonic.now_ns() + duration_ns / 10);
    Monotonic.now_ns()
}

/// Waits until something is so.
fn until<T>(mut look: impl FnMut() -> Option<T>) -> T {
    loop {
        if let Some(found) = look() {
            return found;
        }
        pass(10_000_000);
    }
}

/// What comes from the other end of a channel; the device is unplugged when that is dropped.
struct Line<T>(Receiver<T>);

impl<T> Line<T> {
    fn next(&mut self, patience: Duration) -> Result<Option<T>, TeleopError> {
        use std::sync::mpsc::RecvTimeoutError::{Disconnected, Timeout};
        match self.0.recv_timeout(patience) {
            Ok(next) => Ok(Some(next)),
            Err(Timeout) => Ok(None),
            Err(Disconnected) => Err(TeleopError("unplugged".to_owned())),
        }
    }
}

impl Reports for Line<Vec<u8>> {
    fn next(&mut self, buffer: &mut [u8], patience: Duration) -> Result<usize, TeleopError> {
        let report = Line::next(self, patience)?.unwrap_or_default();
        buffer[..report.len()].copy_from_slice(&report);
        Ok(report.len())
    }
}

/// A gamepad whose events are axes (`true`) and keys.
struct Events(Line<(bool, u16, i32)>, Pad);

impl Device for Events {
    fn hear(&mut self, patience: Duration, tell: &mut dyn FnMut(Heard)) -> Result<(), TeleopError> {
        if let Some((is_axis, code, value)) = self.0.next(patience)? {
            match is_axis {
                true => self.1.axis(code, value, tell),
                false => self.1.key(code, value, tell),
            }
            self.1.sync(tell);
        }
        Ok(())
    }
}

fn handheld(device: Box<dyn Device>, profile: &Profile, arms: usize) -> Handheld {
    let mapping = HandheldConfig::default().mapping(profile).unwrap();
    Handheld::start(device, Hand::new(mapping, arms)).unwrap()
}

fn spacemouse() -> (Sender<Vec<u8>>, Handheld) {
    let (reports, line) = channel();
    let device = Box::new(SpaceMouse::new(Line(line)));
    (reports, handheld(device, &spacemouse::PROFILE, 1))
}

fn pad() -> (Sender<(bool, u16, i32)>, Handheld) {
    let (events, line) = channel();
    let stick = |code| AxisRange {
        code,
        minimum: 0,
        maximum: 255,
    };
    let pad = Pad::new(&[0, 1, 3, 4].map(stick), true, Names::Places);
    let device = Box::new(Events(Line(line), pad));
    (events, handheld(device, &gamepad::PROFILE, 2))
}

const FORWARD: [u8; 7] = [1, 0, 0, 0xa2, 0xfe, 0, 0];

#[test]
fn handheld_devices_conform() {
    let (reports, mut mouse) = spacemouse();
    for report in [&FORWARD[..], &[2, 9, 9, 9, 9, 9, 9], &[3, 1], &[3, 0]] {
        reports.send(report.to_vec()).unwrap();
    }
    until(|| mouse.intent(Monotonic.now_ns()).unwrap());
    conformance::teleop(&mut mouse, pass).unwrap();

    let (events, mut pad) = pad();
    for event in [(true, 1, 0), (true, 3, 255), (false, 0x133, 1)] {
        events.send(event).unwrap();
    }
    let intent = until(|| pad.intent(Monotonic.now_ns()).unwrap());
    assert_eq!(intent.motion[0][0], 1.0);
    conformance::teleop(&mut pad, pass).unwrap();

    let mut both = PerArm(vec![Box::new(mouse), Box::new(spacemouse().1)]);
    // The second one is unplugged: its other end is gone already.
    until(|| both.intent(Monotonic.now_ns()).err());
    let mut with_keys = WithKeys::new(pad, Keyboard(Keys::new(2)));
    conformance::teleop(&mut with_keys, pass).unwrap();
}

/// A keyboard whose keys nobody presses.
struct Keyboard(Keys);

impl Teleop for Keyboard {
    fn source(&self) -> ActionSource {
        ActionSource::Human
    }

    fn begin_episode(&mut self, _: u64) {
        self.0.begin_episode();
    }

    fn intent(&mut self, now_ns: u64) -> Result<Option<Intent>, TeleopError> {
        Ok(self.0.intent(now_ns))
    }

    fn event(&mut self) -> Result<Option<TeleopEvent>, TeleopError> {
        Ok(None)
    }

    fn verdict(&mut self) -> Option<bool> {
        None
    }
}

/// The run's clock may be another one than that of the device.
#[test]
fn an_intent_is_as_old_as_the_device_is_silent_on_the_runs_clock() {
    let (reports, mut mouse) = spacemouse();
    reports.send(FORWARD.to_vec()).unwrap();
    let now_ns = 5_000_000_000;
    let intent = until(|| mouse.intent(now_ns).unwrap());
    assert!(intent.captured_ns <= now_ns);
    assert_eq!(intent.motion[0], [1.0, 0.0, 0.0, 0.0, 0.0, 0.0]);
}

#[test]
fn what_was_said_before_a_device_is_unplugged_is_told_first() {
    let (events, mut pad) = pad();
    for code in [0x133, 0x130] {
        events.send((false, code, 1)).unwrap();
        events.send((false, code, 0)).unwrap();
    }
    drop(events);
    until(|| pad.intent(Monotonic.now_ns()).err());
    assert_eq!(pad.event(), Ok(Some(TeleopEvent::Success)));
    assert_eq!(pad.event(), Ok(Some(TeleopEvent::Failure)));
    let gone = pad.event().unwrap_err();
    assert_eq!(gone, TeleopError("unplugged".to_owned()));
    assert_eq!(pad.verdict(), Some(false));
    assert_eq!(pad.event(), Err(gone), "and it stays gone");
}

/// More than the queue holds, while nobody listens: the device waits, and all is told in order.
#[test]
fn no_press_is_lost_or_doubled_in_a_burst() {
    let (events, mut pad) = pad();
    let codes = [0x133, 0x130, 0x134, 0x133, 0x130];
    let said: Vec<_> = codes.iter().copied().cycle().take(3_000).collect();
    for code in &said {
        events.send((false, *code, 1)).unwrap();
        events.send((false, *code, 1)).unwrap();
        events.send((false, *code, 0)).unwrap();
    }
    let mut told = Vec::new();
    while told.len() < said.len() {
        told.extend(pad.event().unwrap());
    }
    let meant = said.iter().map(|code| match code {
        0x133 => TeleopEvent::Success,
        0x130 => TeleopEvent::Failure,
        _ => TeleopEvent::Rerecord,
    });
    assert!(told.iter().copied().eq(meant));
    pass(500_000_000);
    assert_eq!(pad.event(), Ok(None));
}

/// An unpowered arm: it is read, and nothing else. It is led by the other end of a channel.
struct Led {
    chain: Chain,
    line: Receiver<Result<ArmState, ArmError>>,
    newest: Result<ArmState, ArmError>,
    limp: bool,
}

impl Arm for Led {
    fn chain(&self) -> &Chain {
        &self.chain
    }

    fn read_state(&mut self, now_ns: u64, _: u64) -> Result<ArmState, ArmError> {
        assert!(self.limp, "it is let go of before it is led");
        self.newest = self.line.try_iter().last().unwrap_or(self.newest);
        self.newest.map(|state| ArmState {
            captured_ns: now_ns,
            ..state
        })
    }

    fn write(&mut self, _: &JointVector, _: GripperCommand) -> Result<(), ArmError> {
        panic!("a leader is sent nowhere")
    }

    fn start(&mut self) -> Result<(), ArmError> {
        panic!("a leader has no torque")
    }

    fn stop(&mut self) -> Result<(), ArmError> {
        panic!("a leader has nothing to hold")
    }

    fn let_go(&mut self) -> Result<(), ArmError> {
        self.limp = true;
        Ok(())
    }
}

/// A slide along x that carries fingers of 8 cm.
fn leader(take_over: TakeOver) -> (Sender<Result<ArmState, ArmError>>, Leader) {
    let slide = Joint {
        parent_from_joint: Translation3::identity().into(),
        axis: Vector3::x_axis(),
        kind: JointKind::Prismatic,
        lower: -1.0,
        upper: 1.0,
    };
    let chain = Chain::new(vec![slide], Translation3::identity().into()).unwrap();
    let (led, line) = channel();
    let newest = at(0.0);
    let arm = Box::new(Led {
        chain,
        line,
        newest,
        limp: false,
    });
    let config = LeaderConfig {
        take_over,
        ..Default::default()
    };
    let clutch = Clutch::new(config, FullStep { m: 0.02, rad: 0.1 });
    (led, Leader::start(arm, 0.08, clutch).unwrap())
}

fn at(x_m: f64) -> Result<ArmState, ArmError> {
    Ok(ArmState {
        captured_ns: 0,
        joints: JointVector::from_slice(&[x_m]).unwrap(),
        velocities: JointVector::from_slice(&[0.0]).unwrap(),
        gripper_width_m: 0.08,
        trouble: None,
    })
}

#[test]
fn a_leader_conforms_and_is_only_read() {
    let (led, mut leader) = leader(TakeOver::Motion);
    until(|| {
        leader
            .intent(Monotonic.now_ns())
            .unwrap()
            .is_none()
            .then_some(())
    });
    conformance::teleop(&mut leader, pass).unwrap();
    led.send(at(0.1)).unwrap();
    let first = until(|| leader.intent(Monotonic.now_ns()).unwrap());
    assert_eq!(first.motion[0], [0.0; 6], "a take-over is no jump");
    led.send(at(0.11)).unwrap();
    let moved = until(|| {
        let intent = leader.intent(Monotonic.now_ns()).unwrap().unwrap();
        (intent.motion[0] != [0.0; 6]).then_some(intent)
    });
    assert!((moved.motion[0][0] - 0.5).abs() < 1e-9);
}

#[test]
fn a_leader_by_key_waits_for_its_key() {
    let (led, mut leader) = leader(TakeOver::Key);
    led.send(at(0.5)).unwrap();
    for _ in 0..5 {
        pass(200_000_000);
        assert_eq!(leader.intent(Monotonic.now_ns()), Ok(None));
    }
    leader.take(true);
    let still = leader.intent(Monotonic.now_ns()).unwrap().unwrap();
    assert_eq!(still.motion[0], [0.0; 6]);
}

#[test]
fn a_leader_that_is_gone_is_named_and_one_bad_packet_is_none() {
    let (led, mut leader) = leader(TakeOver::Key);
    led.send(Err(ArmError::Corrupted(3))).unwrap();
    pass(500_000_000);
    leader.intent(Monotonic.now_ns()).unwrap();
    led.send(Err(ArmError::Silent(4))).unwrap();
    let gone = until(|| leader.intent(Monotonic.now_ns()).err());
    assert!(
        gone.to_string().contains("servo 4 does not answer"),
        "{gone}"
    );
    assert!(leader.event().is_err());
}
