//! Getting from an open device to one that streams what the rig's file says. A device that would do
//! something else is refused by name: drivers answer a wish that they cannot grant with the nearest
//! that they can, and call it success.

use rustix::io::Errno;

use super::{
    config::{Controls, PowerLine, V4l2Config},
    device::{Device, Identity, Layout},
    error::V4l2Error,
};

/// Room for frames that come while one is decoded; more would only get old.
const BUFFERS: u32 = 4;
/// A camera of 29.97 frames/s is one of 30.
const RATE_TOLERANCE: f64 = 0.01;

/// A device that streams.
#[derive(Clone, Debug, PartialEq)]
pub struct Granted {
    /// Which it is.
    pub identity: Identity,
    /// What its frames are like.
    pub layout: Layout,
    /// Between two frames, nanoseconds. What was asked for, where the device has no say in it.
    pub interval_ns: u64,
    /// The device said so itself.
    pub interval_known: bool,
    /// Buffers that it fills one after the other.
    pub buffers: usize,
}

/// Lets the device stream what `config` says.
pub(super) fn set_up<D: Device>(device: &mut D, config: &V4l2Config) -> Result<Granted, V4l2Error> {
    let refused = |what| {
        move |cause| V4l2Error::Refused {
            device: config.device.clone(),
            what,
            cause,
        }
    };
    let identity = match device.identity() {
        Ok(identity) if identity.captures => identity,
        Ok(identity) => {
            let device = config.device.clone();
            return Err(V4l2Error::NoCapture { device, identity });
        }
        Err(Errno::NOTTY) => {
            return Err(refused("this is no video device")(Errno::NOTTY));
        }
        Err(cause) => return Err(refused("asking what it is")(cause)),
    };
    let asked = config.mode();
    let layout = device
        .set_mode(asked)
        .map_err(refused("setting the format"))?;
    if layout.mode != asked || !layout.progressive {
        return Err(V4l2Error::Mode {
            device: config.device.clone(),
            asked,
            got: layout.mode,
            progressive: layout.progressive,
        });
    }
    let interval_ns = device
        .set_rate(config.fps)
        .map_err(refused("setting the rate"))?;
    let asked_ns = 1_000_000_000 / u64::from(config.fps.max(1));
    if let Some(got_ns) = interval_ns
        && got_ns.abs_diff(asked_ns) as f64 > RATE_TOLERANCE * asked_ns as f64
    {
        return Err(V4l2Error::Rate {
            device: config.device.clone(),
            mode: asked,
            asked: config.fps,
            got: 1e9 / got_ns as f64,
        });
    }
    for setting in settings(&config.controls) {
        set_control(device, config, setting)?;
    }
    let buffers = device.start(BUFFERS).map_err(refused("starting it"))?;
    if buffers < 2 {
        // With one, the newest frame is always the one that is waited for while it is lost.
        return Err(refused("getting two buffers or more")(Errno::NOMEM));
    }
    Ok(Granted {
        identity,
        layout,
        interval_ns: interval_ns.unwrap_or(asked_ns),
        interval_known: interval_ns.is_some(),
        buffers,
    })
}

/// A control to be set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Setting {
    /// In the words of the rig's file.
    name: &'static str,
    id: u32,
    value: i64,
    /// A switch that devices need not have: one that is not there is off.
    switch: bool,
}

/// The controls' ids (`<linux/v4l2-controls.h>`) and values in the order in which they are set: a
/// device refuses a value as long as it chooses it itself.
fn settings(controls: &Controls) -> Vec<Setting> {
    const USER: u32 = 0x0098_0900;
    const CAMERA: u32 = 0x009a_0900;
    /// `V4L2_EXPOSURE_MANUAL`.
    const MANUAL: i64 = 1;
    let mut settings = Vec::new();
    let mut set = |name, id, value: Option<i64>, switch| {
        settings.extend(value.map(|value| Setting {
            name,
            id,
            value,
            switch,
        }));
    };
    let off = |given: bool| given.then_some(0);
    let manual = controls.exposure_us.map(|_| MANUAL);
    set("automatic exposure", CAMERA + 1, manual, true);
    set(
        "automatic gain",
        USER + 18,
        off(controls.gain.is_some()),
        true,
    );
    let balance = controls.white_balance_k;
    set(
        "automatic white balance",
        USER + 12,
        off(balance.is_some()),
        true,
    );
    set(
        "autofocus",
        CAMERA + 12,
        off(controls.focus.is_some()),
        true,
    );

    let exposure = controls.exposure_us.map(|us| (i64::from(us) + 50) / 100);
    // The device counts in 100 µs.
    set("exposure_us / 100", CAMERA + 2, exposure, false);
    set("gain", USER + 19, controls.gain.map(i64::from), false);
    set("white_balance_k", USER + 26, balance.map(i64::from), false);
    set("focus", CAMERA + 10, controls.focus.map(i64::from), false);
    // `V4L2_CID_POWER_LINE_FREQUENCY_DISABLED`, `_50HZ`, `_60HZ`.
    let mains = controls.power_line.map(|mains| match mains {
        PowerLine::Off => 0,
        PowerLine::Hz50 => 1,
        PowerLine::Hz60 => 2,
    });
    set("power_line", USER + 24, mains, false);
    let slower = controls.slower_in_the_dark.map(i64::from);
    set("slower_in_the_dark", CAMERA + 3, slower, false);
    let rest = [
        ("brightness", USER, controls.brightness),
        ("contrast", USER + 1, controls.contrast),
        ("saturation", USER + 2, controls.saturation),
        ("gamma", USER + 16, controls.gamma),
        ("sharpness", USER + 27, controls.sharpness),
        ("backlight", USER + 28, controls.backlight),
    ];
    for (name, id, value) in rest {
        set(name, id, value.map(i64::from), false);
    }
    settings
}

fn set_control<D: Device>(
    device: &mut D,
    config: &V4l2Config,
    setting: Setting,
) -> Result<(), V4l2Error> {
    let refused = |cause| V4l2Error::Refused {
        device: config.device.clone(),
        what: setting.name,
        cause,
    };
    let Some(range) = device.control_range(setting.id).map_err(refused)? else {
        if setting.switch {
            return Ok(());
        }
        return Err(V4l2Error::NoControl {
            device: config.device.clone(),
            control: setting.name,
        });
    };
    let (min, max) = (i64::from(range.min), i64::from(range.max));
    let steps = i64::from(range.step.max(1));
    let on_step = (setting.value - min) % steps == 0;
    let value = i32::try_from(setting.value).ok();
    let value = value.filter(|_| (min..=max).contains(&setting.value) && on_step);
    let Some(value) = value else {
        return Err(V4l2Error::ControlRange {
            device: config.device.clone(),
            control: setting.name,
            asked: setting.value,
            range,
        });
    };
    let got = device.set_control(setting.id, value).map_err(refused)?;
    if got != value {
        return Err(V4l2Error::ControlIgnored {
            device: config.device.clone(),
            control: setting.name,
            asked: value,
            got,
        });
    }
    Ok(())
}
