//! What a person holds: a SpaceMouse that this program makes through `uhid`, a gamepad through
//! `uinput`.

use anyhow::{Context, Result, ensure};
use evdev::{
    AbsInfo, AbsoluteAxisCode, AttributeSet, BusType, EventType, InputEvent, InputId, KeyCode,
    UinputAbsSetup, uinput::VirtualDevice,
};
use hilt_drivers::{
    Intent, Teleop, TeleopEvent, conformance,
    hands::{Found, HandheldConfig, Meaning, gamepad, open_gamepad, open_spacemouse, spacemouse},
};
use hilt_protocol::GripperCommand;
use hilt_realtime::{Clock, Monotonic};

use crate::{
    machine::{load, pass_ns, wait_for},
    uhid::SpaceMouse,
};

const PORT: &str = "usb-test-1/input0";

/// Plugs a SpaceMouse in and waits until it can be found.
fn mouse() -> Result<SpaceMouse> {
    load("uhid", "")?;
    load("hid_generic", "")?;
    let mouse = SpaceMouse::plug_in(PORT)?;
    wait_for("the SpaceMouse is not found", || {
        let found = spacemouse::list().ok()?;
        found.into_iter().find(at_port)
    })?;
    Ok(mouse)
}

fn at_port(found: &Found) -> bool {
    found.port.as_deref() == Some(PORT) && found.problem.is_none()
}

fn buttons(meanings: &[(&str, Meaning)]) -> HandheldConfig {
    let buttons = meanings.iter().map(|(name, m)| (name.to_string(), *m));
    HandheldConfig {
        buttons: buttons.collect(),
        ..Default::default()
    }
}

/// Waits until the device says what is wanted.
fn intent(
    what: &str,
    device: &mut impl Teleop,
    mut wanted: impl FnMut(&Intent) -> bool,
) -> Result<Intent> {
    wait_for(what, || {
        let intent = device.intent(Monotonic.now_ns()).ok().flatten()?;
        wanted(&intent).then_some(intent)
    })
}

/// Full deflection of the device's own axis: x, y, z, or about these.
fn deflected(axis: usize) -> ([u8; 7], [u8; 7]) {
    let mut reports = [[1, 0, 0, 0, 0, 0, 0], [2, 0, 0, 0, 0, 0, 0]];
    let counts = (-350_i16).to_le_bytes();
    let at = 1 + 2 * (axis % 3);
    reports[axis / 3][at..at + 2].copy_from_slice(&counts);
    (reports[0], reports[1])
}

/// Each axis of the device moves the axis of the tool that a hand at the device means; let go, it
/// moves nothing.
pub fn spacemouse_motion() -> Result<String> {
    let mut mouse = mouse()?;
    let mut device = open_spacemouse(&HandheldConfig::default(), 1)?;
    ensure!(
        device.intent(Monotonic.now_ns())?.is_none(),
        "a hand that is off"
    );
    let mut slowest_ns = 0;
    // To the right is -y, towards the person -x, down -z: the negative end is the positive way.
    for (axis, moves) in [1, 0, 2, 4, 3, 5].into_iter().enumerate() {
        let (translation, rotation) = deflected(axis);
        let begin_ns = Monotonic.now_ns();
        mouse.report(&translation)?;
        mouse.report(&rotation)?;
        let wanted: [f64; 6] = std::array::from_fn(|i| if i == moves { 1.0 } else { 0.0 });
        let seen = intent("the motion does not come", &mut device, |intent| {
            intent.motion[0] == wanted
        })
        .with_context(|| format!("axis {axis}"))?;
        slowest_ns = slowest_ns.max(Monotonic.now_ns() - begin_ns);
        ensure!(
            seen.captured_ns >= begin_ns,
            "an intent older than its report"
        );
    }
    mouse.report(&[1, 0, 0, 0, 0, 0, 0])?;
    mouse.report(&[2, 0, 0, 0, 0, 0, 0])?;
    intent("it goes on", &mut device, |intent| {
        intent.motion[0] == [0.0; 6]
    })?;
    wait_for("the hand stays on", || {
        let intent = device.intent(Monotonic.now_ns());
        intent.ok()?.is_none().then_some(())
    })?;
    conformance::teleop(&mut device, pass_ns)?;
    Ok(format!(
        "report to intent at most {:.1} ms",
        slowest_ns as f64 * 1e-6
    ))
}

/// Presses that come faster than anybody asks are all there.
pub fn spacemouse_buttons() -> Result<String> {
    let mut mouse = mouse()?;
    let config = buttons(&[("left", Meaning::Success), ("right", Meaning::Open)]);
    let mut device = open_spacemouse(&config, 1)?;
    let presses = 200;
    for _ in 0..presses {
        mouse.report(&[3, 1, 0])?;
        mouse.report(&[3, 0, 0])?;
        pass_ns(1_000_000);
    }
    for press in 0..presses {
        let event = wait_for(&format!("press {press} is lost"), || device.event().ok()?)?;
        ensure!(event == TeleopEvent::Success, "{event:?}");
    }
    ensure!(device.event()?.is_none(), "more than was pressed");
    mouse.report(&[3, 2, 0])?;
    intent("the gripper does not open", &mut device, |intent| {
        intent.gripper[0] == Some(GripperCommand::Open)
    })?;
    Ok(format!("{presses} presses"))
}

/// Pulled while it is deflected it is an error, not a motion that goes on; plugged in again it is
/// found at its port.
pub fn spacemouse_unplug() -> Result<String> {
    let mut held = mouse()?;
    let config = HandheldConfig {
        devices: vec![PORT.into()],
        ..Default::default()
    };
    let mut device = open_spacemouse(&config, 1)?;
    let (forward, _) = deflected(1);
    held.report(&forward)?;
    intent("the motion does not come", &mut device, |intent| {
        intent.motion[0][0] == 1.0
    })?;
    held.pull()?;
    let pulled_ns = Monotonic.now_ns();
    let error = wait_for("nobody notices", || device.intent(Monotonic.now_ns()).err())?;
    let noticed_ms = (Monotonic.now_ns() - pulled_ns) as f64 * 1e-6;
    ensure!(error.to_string().contains("is gone"), "{error}");
    ensure!(
        device.intent(Monotonic.now_ns()).is_err(),
        "it came back by itself"
    );
    drop(device);
    let refused = open_spacemouse(&config, 1).err().context("there is none")?;
    ensure!(refused.to_string().contains(PORT), "{refused}");

    let mut again = mouse()?;
    let mut device = open_spacemouse(&config, 1)?;
    again.report(&forward)?;
    intent("the motion does not come", &mut device, |intent| {
        intent.motion[0][0] == 1.0
    })?;
    Ok(format!("noticed after {noticed_ms:.1} ms"))
}

/// A deflected cap of which nothing more is heard was let go out of its receiver's reach.
pub fn spacemouse_out_of_reach() -> Result<String> {
    let mut mouse = mouse()?;
    let mut device = open_spacemouse(&HandheldConfig::default(), 1)?;
    mouse.report(&deflected(1).0)?;
    intent("the motion does not come", &mut device, |intent| {
        intent.motion[0][0] == 1.0
    })?;
    let begin_ns = Monotonic.now_ns();
    intent("it goes on", &mut device, |intent| {
        intent.motion[0] == [0.0; 6]
    })?;
    let took_ms = (Monotonic.now_ns() - begin_ns) as f64 * 1e-6;
    Ok(format!("at rest after {took_ms:.0} ms"))
}

const PAD_AXES: [(AbsoluteAxisCode, i32, i32); 8] = [
    (AbsoluteAxisCode::ABS_X, -32768, 32767),
    (AbsoluteAxisCode::ABS_Y, -32768, 32767),
    (AbsoluteAxisCode::ABS_RX, -32768, 32767),
    (AbsoluteAxisCode::ABS_RY, -32768, 32767),
    (AbsoluteAxisCode::ABS_Z, 0, 255),
    (AbsoluteAxisCode::ABS_RZ, 0, 255),
    (AbsoluteAxisCode::ABS_HAT0X, -1, 1),
    (AbsoluteAxisCode::ABS_HAT0Y, -1, 1),
];

const PAD_KEYS: [KeyCode; 8] = [
    KeyCode::BTN_SOUTH,
    KeyCode::BTN_EAST,
    KeyCode::BTN_NORTH,
    KeyCode::BTN_WEST,
    KeyCode::BTN_TL,
    KeyCode::BTN_TR,
    KeyCode::BTN_SELECT,
    KeyCode::BTN_START,
];

/// Plugs a gamepad in: two sticks, two triggers that are axes, a cross, eight buttons.
fn pad() -> Result<VirtualDevice> {
    load("uinput", "")?;
    load("evdev", "")?;
    let keys: AttributeSet<KeyCode> = PAD_KEYS.into_iter().collect();
    let mut builder = VirtualDevice::builder()
        .context("/dev/uinput")?
        .name("hilt test pad")
        .input_id(InputId::new(BusType::BUS_USB, 0x1209, 0x0001, 1))
        .with_keys(&keys)?;
    for (code, minimum, maximum) in PAD_AXES {
        let info = AbsInfo::new(0, minimum, maximum, 0, 0, 0);
        builder = builder.with_absolute_axis(&UinputAbsSetup::new(code, info))?;
    }
    let pad = builder.build().context("making a gamepad")?;
    wait_for("the gamepad is not found", || {
        (!gamepad::list().is_empty()).then_some(())
    })?;
    Ok(pad)
}

fn axis(code: AbsoluteAxisCode, value: i32) -> InputEvent {
    InputEvent::new(EventType::ABSOLUTE.0, code.0, value)
}

fn key(code: KeyCode, value: i32) -> InputEvent {
    InputEvent::new(EventType::KEY.0, code.code(), value)
}

/// Sticks, cross and triggers do what the driver's page says.
pub fn gamepad_motion() -> Result<String> {
    let mut pad = pad()?;
    let mut device = open_gamepad(&HandheldConfig::default(), 1)?;
    let mut slowest_ns = 0;
    // The stick's end, and what it moves.
    for (code, value, moves, way) in [
        (AbsoluteAxisCode::ABS_Y, -32768, 0, 1.0),
        (AbsoluteAxisCode::ABS_X, 32767, 1, -1.0),
        (AbsoluteAxisCode::ABS_RY, -32768, 2, 1.0),
        (AbsoluteAxisCode::ABS_HAT0X, 1, 3, 1.0),
        (AbsoluteAxisCode::ABS_HAT0Y, -1, 4, 1.0),
        (AbsoluteAxisCode::ABS_RX, 32767, 5, -1.0),
    ] {
        let begin_ns = Monotonic.now_ns();
        pad.emit(&[axis(code, value)])?;
        let wanted: [f64; 6] = std::array::from_fn(|i| if i == moves { way } else { 0.0 });
        intent("the motion does not come", &mut device, |intent| {
            let seen = intent.motion[0].iter().zip(wanted);
            seen.clone()
                .all(|(seen, wanted)| (seen - wanted).abs() < 1e-3)
        })
        .with_context(|| format!("{code:?}"))?;
        slowest_ns = slowest_ns.max(Monotonic.now_ns() - begin_ns);
        pad.emit(&[axis(code, 0)])?;
        intent("it goes on", &mut device, |intent| {
            intent.motion[0] == [0.0; 6]
        })?;
    }
    for (code, command) in [
        (AbsoluteAxisCode::ABS_RZ, GripperCommand::Closed),
        (AbsoluteAxisCode::ABS_Z, GripperCommand::Open),
    ] {
        pad.emit(&[axis(code, 255)])?;
        intent("the gripper does nothing", &mut device, |intent| {
            intent.gripper[0] == Some(command)
        })?;
        pad.emit(&[axis(code, 0)])?;
    }
    conformance::teleop(&mut device, pass_ns)?;
    Ok(format!(
        "event to intent at most {:.1} ms",
        slowest_ns as f64 * 1e-6
    ))
}

/// Presses that come faster than anybody asks are all there and in order.
pub fn gamepad_buttons() -> Result<String> {
    let mut pad = pad()?;
    let mut device = open_gamepad(&HandheldConfig::default(), 1)?;
    let words = [
        (KeyCode::BTN_NORTH, TeleopEvent::Success),
        (KeyCode::BTN_SOUTH, TeleopEvent::Failure),
        (KeyCode::BTN_WEST, TeleopEvent::Rerecord),
        (KeyCode::BTN_SELECT, TeleopEvent::Stop),
    ];
    let rounds = 50;
    for _ in 0..rounds {
        for (code, _) in words {
            pad.emit(&[key(code, 1)])?;
            pad.emit(&[key(code, 0)])?;
        }
        pass_ns(1_000_000);
    }
    for round in 0..rounds {
        for (code, wanted) in words {
            let what = format!("press {round} of {code:?} is lost");
            let event = wait_for(&what, || device.event().ok()?)?;
            ensure!(event == wanted, "{event:?} where {wanted:?} was pressed");
        }
    }
    ensure!(device.event()?.is_none(), "more than was pressed");
    // The shoulder acts while it is down, and not a moment longer.
    pad.emit(&[key(KeyCode::BTN_TR, 1)])?;
    intent("the shoulder does nothing", &mut device, |_| true)?;
    pad.emit(&[key(KeyCode::BTN_TR, 0)])?;
    wait_for("the hand stays on", || {
        let intent = device.intent(Monotonic.now_ns());
        intent.ok()?.is_none().then_some(())
    })?;
    Ok(format!("{} presses", rounds * words.len()))
}

/// Pulled with a stick at its end it is an error, not a motion that goes on.
pub fn gamepad_unplug() -> Result<String> {
    let mut held = pad()?;
    let mut device = open_gamepad(&HandheldConfig::default(), 1)?;
    held.emit(&[axis(AbsoluteAxisCode::ABS_Y, -32768)])?;
    intent("the motion does not come", &mut device, |intent| {
        intent.motion[0][0] == 1.0
    })?;
    drop(held);
    let pulled_ns = Monotonic.now_ns();
    let error = wait_for("nobody notices", || device.intent(Monotonic.now_ns()).err())?;
    let noticed_ms = (Monotonic.now_ns() - pulled_ns) as f64 * 1e-6;
    ensure!(error.to_string().contains("is gone"), "{error}");
    drop(device);
    let refused = open_gamepad(&HandheldConfig::default(), 1).err();
    let refused = refused.context("there is none")?;
    ensure!(refused.to_string().contains("no gamepad"), "{refused}");

    // One that stands at an end when it is opened moves nothing until it is moved.
    let mut again = pad()?;
    again.emit(&[axis(AbsoluteAxisCode::ABS_Y, -32768)])?;
    let mut device = open_gamepad(&HandheldConfig::default(), 1)?;
    for _ in 0..50 {
        Monotonic.sleep_until_ns(Monotonic.now_ns() + 2_000_000);
        ensure!(
            device.intent(Monotonic.now_ns())?.is_none(),
            "it moves by itself"
        );
    }
    again.emit(&[axis(AbsoluteAxisCode::ABS_Y, 0)])?;
    again.emit(&[axis(AbsoluteAxisCode::ABS_Y, -32768)])?;
    intent("the motion does not come", &mut device, |intent| {
        intent.motion[0][0] == 1.0
    })?;
    Ok(format!("noticed after {noticed_ms:.1} ms"))
}
