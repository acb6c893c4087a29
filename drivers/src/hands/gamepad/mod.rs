//! A gamepad, by Linux's input events.
//!
//! | control | means |
//! |---|---|
//! | left stick | away from the person and back (x), left and right (y) |
//! | right stick | up and down (z), turn (yaw) |
//! | cross | roll and pitch |
//! | right trigger, left trigger | close, open the gripper |
//! | right shoulder | the person acts while it is down |
//! | right button of the four | take over, hand back |
//! | upper, lower | success, failure |
//! | left one | throw this episode away |
//! | left shoulder | the other arm |
//! | select ("back", "share") | end the run |

mod pad;

use std::{path::Path, time::Duration};

use evdev::{AbsoluteAxisCode, EventType, KeyCode, SynchronizationCode, raw_stream::RawDevice};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::{
    Found,
    handheld::{Device, Heard},
};
use crate::TeleopError;

pub use pad::{AxisRange, Names, PROFILE, Pad};

/// Microsoft's vendor number: its pads have letters' names over Bluetooth too.
const MICROSOFT: u16 = 0x045e;

/// A gamepad of this machine.
pub struct Gamepad {
    device: RawDevice,
    name: String,
    pad: Pad,
    /// Events were dropped; what follows until the next report's end is of no use.
    dropped: bool,
    /// Nothing was told yet.
    fresh: bool,
}

impl Gamepad {
    fn gone(&self, error: std::io::Error) -> TeleopError {
        let name = &self.name;
        TeleopError(format!(
            "the gamepad at {name} is gone ({error}); plug it in again, then start anew"
        ))
    }

    /// Waits for events; `false`: none came in so long.
    fn wait(&self, patience: Duration) -> std::io::Result<bool> {
        let mut fds = [PollFd::new(&self.device, PollFlags::IN)];
        let patience = Timespec::try_from(patience).map_err(std::io::Error::other)?;
        let came = match poll(&mut fds, Some(&patience)) {
            Ok(came) => came > 0,
            // A signal; the next wait comes at once.
            Err(rustix::io::Errno::INTR) => return Ok(false),
            Err(error) => return Err(error.into()),
        };
        let lost = PollFlags::ERR | PollFlags::HUP | PollFlags::NVAL;
        if fds[0].revents().intersects(lost) {
            return Err(rustix::io::Errno::NODEV.into());
        }
        Ok(came)
    }

    /// Takes axes and buttons as they are now.
    /// Buttons and triggers as they are, and with `sticks` those too.
    fn look(&mut self, sticks: bool, tell: &mut dyn FnMut(Heard)) -> std::io::Result<()> {
        let keys = self.device.get_key_state()?;
        for code in Pad::key_codes() {
            let down = keys.contains(KeyCode::new(code));
            self.pad.key(code, i32::from(down), tell);
        }
        for (code, info) in self.device.get_absinfo()? {
            if sticks || !self.pad.moves(code.0) {
                self.pad.axis(code.0, info.value(), tell);
            }
        }
        self.pad.sync(tell);
        Ok(())
    }

    fn read(&mut self, tell: &mut dyn FnMut(Heard)) -> std::io::Result<()> {
        // The kernel may know nothing yet of a pad that reports changes alone, and says 0 then: for many
        // the end of a stick's way. So sticks count from their first event on.
        let fresh = std::mem::take(&mut self.fresh);
        let mut dropped = false;
        for event in self.device.fetch_events()? {
            match event.event_type() {
                EventType::SYNCHRONIZATION
                    if event.code() == SynchronizationCode::SYN_DROPPED.0 =>
                {
                    self.dropped = true;
                }
                EventType::SYNCHRONIZATION => {
                    dropped |= std::mem::take(&mut self.dropped);
                    self.pad.sync(tell);
                }
                _ if self.dropped => {}
                EventType::KEY => self.pad.key(event.code(), event.value(), tell),
                EventType::ABSOLUTE => self.pad.axis(event.code(), event.value(), tell),
                _ => {}
            }
        }
        if dropped || fresh {
            self.look(dropped, tell)?;
        }
        Ok(())
    }
}

impl Device for Gamepad {
    fn hear(&mut self, patience: Duration, tell: &mut dyn FnMut(Heard)) -> Result<(), TeleopError> {
        let heard = match self.wait(patience) {
            Ok(true) => self.read(tell),
            Ok(false) if self.fresh => {
                self.fresh = false;
                self.look(false, tell)
            }
            Ok(false) => Ok(()),
            Err(error) => Err(error),
        };
        heard.map_err(|error| self.gone(error))
    }
}

/// Whether this is a gamepad: a stick, and the lower one of the four buttons.
fn is_gamepad(device: &RawDevice) -> bool {
    let stick = device.supported_absolute_axes();
    let button = device.supported_keys();
    stick.is_some_and(|axes| axes.contains(AbsoluteAxisCode::ABS_X))
        && button.is_some_and(|keys| keys.contains(KeyCode::BTN_SOUTH))
}

/// Opens the one at this path.
pub fn open(path: &Path) -> Result<Gamepad, TeleopError> {
    let name = path.display().to_string();
    let refused = |e: std::io::Error| {
        TeleopError(format!(
            "the gamepad at {name} does not open ({e}); who runs this must be allowed to read it: \
             the group `input` is"
        ))
    };
    let device = RawDevice::open(path).map_err(refused)?;
    if !is_gamepad(&device) {
        return Err(TeleopError(format!(
            "{name} is no gamepad: it has no stick, or none of a gamepad's buttons"
        )));
    }
    let infos = device.get_absinfo().map_err(refused)?;
    let ranges: Vec<_> = infos
        .map(|(code, info)| AxisRange {
            code: code.0,
            minimum: info.minimum(),
            maximum: info.maximum(),
        })
        .collect();
    let keys = device.supported_keys();
    let triggers_are_keys = keys.is_some_and(|keys| keys.contains(KeyCode::BTN_TR2));
    let names = match device.input_id().vendor() == MICROSOFT || driver(path) == "xpad" {
        true => Names::Letters,
        false => Names::Places,
    };
    Ok(Gamepad {
        pad: Pad::new(&ranges, triggers_are_keys, names),
        device,
        name,
        dropped: false,
        fresh: true,
    })
}

/// The driver that presents an input device; empty where it is not known.
fn driver(path: &Path) -> String {
    let name = path.file_name().unwrap_or_default();
    let link = Path::new("/sys/class/input")
        .join(name)
        .join("device/device/driver");
    let target = std::fs::read_link(link).unwrap_or_default();
    let driver = target.file_name().unwrap_or_default();
    driver.to_string_lossy().into_owned()
}

/// Those that are plugged in. What they are is read where everybody may, also of those that may not be
/// opened.
pub fn list() -> Vec<Found> {
    let entries = std::fs::read_dir("/sys/class/input").into_iter().flatten();
    let found = entries.flatten().filter_map(|entry| {
        let name = entry.file_name();
        if !name.to_string_lossy().starts_with("event") {
            return None;
        }
        let device = entry.path().join("device");
        let text = |file: &str| std::fs::read_to_string(device.join(file)).unwrap_or_default();
        let (axes, keys) = (text("capabilities/abs"), text("capabilities/key"));
        let stick = is_set(&axes, AbsoluteAxisCode::ABS_X.0);
        if !stick || !is_set(&keys, KeyCode::BTN_SOUTH.code()) {
            return None;
        }
        let path = Path::new("/dev/input").join(&name);
        let port = text("phys").trim().to_owned();
        Some(Found {
            name: text("name").trim().to_owned(),
            port: Some(port).filter(|port| !port.is_empty()),
            problem: open(&path).err().map(|error| error.to_string()),
            path,
        })
    });
    found.collect()
}

/// Whether a bit is set in a bitmap as sysfs writes it: words of the machine's size in hexadecimal,
/// the highest first, zeros in front left out.
fn is_set(bitmap: &str, bit: u16) -> bool {
    const WORD: usize = usize::BITS as usize;
    let word = bitmap.split_whitespace().rev().nth(usize::from(bit) / WORD);
    let word = word.and_then(|word| usize::from_str_radix(word, 16).ok());
    word.is_some_and(|word| word >> (usize::from(bit) % WORD) & 1 == 1)
}

#[cfg(all(test, target_pointer_width = "64"))]
mod tests {
    use super::*;

    /// An Xbox 360 pad's, as the kernel's xpad driver has them.
    #[test]
    fn a_gamepad_is_known_by_its_capabilities() {
        let (axes, keys) = ("3003f\n", "7cdb000000000000 0 0 0 0\n");
        for code in [0, 1, 2, 3, 4, 5, 16, 17] {
            assert!(is_set(axes, code), "{code}");
        }
        assert!(!is_set(axes, 6) && !is_set(axes, 15) && !is_set(axes, 18));
        assert!(is_set(keys, KeyCode::BTN_SOUTH.code()));
        assert!(!is_set(keys, KeyCode::BTN_TR2.code()));
        assert!(!is_set(keys, 0) && !is_set(keys, 700) && !is_set("", 0) && !is_set("zz", 0));
    }
}
