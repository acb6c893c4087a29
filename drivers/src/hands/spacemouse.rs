//! A SpaceMouse: six axes and some buttons, by its raw HID reports.
//!
//! Reports begin with their number. 1 is the translation and 2 the rotation, three little-endian
//! 16-bit counts each, or 1 is both (wireless ones); 3 is one bit per button. At rest nothing comes;
//! a deflected cap reports some sixty times a second, and once more, all zeros, when it is let go.
//!
//! The device's own axes are x to the right, y towards the person, z down, with turns about these.

use std::{ffi::CString, path::Path, time::Duration};

use hidapi::{HidApi, HidDevice};

use super::{
    Found,
    handheld::{Device, Heard},
    mapping::{Meaning, Profile},
};
use crate::TeleopError;

/// Two buttons on each; larger ones have more, known by their numbers.
pub const PROFILE: Profile = Profile {
    deadband: 0.05,
    buttons: &[("left", 0, Meaning::Close), ("right", 1, Meaning::Open)],
};

/// 3Dconnexion's vendor number.
const VENDOR: u16 = 0x256f;
/// That of the older ones, which were sold by Logitech, with their products.
const OLD_VENDOR: u16 = 0x046d;
const OLD_PRODUCTS: [u16; 10] = [
    0xc603, 0xc605, 0xc606, 0xc621, 0xc623, 0xc625, 0xc626, 0xc627, 0xc629, 0xc62b,
];
/// HID usage of the device itself: generic desktop, multi-axis controller. Its receivers have other
/// interfaces beside.
const MULTI_AXIS: (u16, u16) = (1, 8);

/// Counts of a cap at its end. A little more may come.
const FULL: f64 = 350.0;

/// Bytes of the longest report that is read.
const LONGEST: usize = 64;

/// A deflected cap of which nothing is heard for so many waits was let go out of reach of its
/// receiver: the arm must not go on for ever.
const QUIET_WAITS: u32 = 12;

/// A report's meaning.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Report {
    /// Counts along x, y, z.
    Translation([i16; 3]),
    /// Counts about x, y, z.
    Rotation([i16; 3]),
    /// Both.
    Motion([i16; 3], [i16; 3]),
    /// A bit per button.
    Buttons(u32),
}

impl Report {
    /// Of a report's bytes, its number first; `None`: of no interest.
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        let (number, data) = bytes.split_first()?;
        let counts = |from: usize| -> Option<[i16; 3]> {
            let data = data.get(from..from + 6)?;
            Some(std::array::from_fn(|i| {
                i16::from_le_bytes([data[2 * i], data[2 * i + 1]])
            }))
        };
        match number {
            1 => {
                let translation = counts(0)?;
                Some(match counts(6) {
                    Some(rotation) => Self::Motion(translation, rotation),
                    None => Self::Translation(translation),
                })
            }
            2 => counts(0).map(Self::Rotation),
            3 if !data.is_empty() => {
                let mut bits = [0; 4];
                let len = data.len().min(4);
                bits[..len].copy_from_slice(&data[..len]);
                Some(Self::Buttons(u32::from_le_bytes(bits)))
            }
            _ => None,
        }
    }
}

/// What the reports said so far. Pure.
#[derive(Clone, Copy, Debug, Default)]
pub struct Cap {
    translation: [i16; 3],
    rotation: [i16; 3],
    buttons: u32,
}

impl Cap {
    /// One more report came.
    pub fn report(&mut self, report: Report, tell: &mut dyn FnMut(Heard)) {
        match report {
            Report::Translation(counts) => self.translation = counts,
            Report::Rotation(counts) => self.rotation = counts,
            Report::Motion(translation, rotation) => {
                (self.translation, self.rotation) = (translation, rotation);
            }
            Report::Buttons(bits) => {
                let changed = self.buttons ^ bits;
                self.buttons = bits;
                for number in (0..32).filter(|number| changed >> number & 1 == 1) {
                    tell(Heard::Button(number, bits >> number & 1 == 1));
                }
                return;
            }
        }
        tell(Heard::Axes(self.axes()));
    }

    /// Nothing has come for too long.
    pub fn release(&mut self, tell: &mut dyn FnMut(Heard)) {
        (self.translation, self.rotation) = ([0; 3], [0; 3]);
        tell(Heard::Axes(self.axes()));
    }

    /// Whether it is deflected.
    pub fn is_deflected(&self) -> bool {
        (self.translation, self.rotation) != ([0; 3], [0; 3])
    }

    fn axes(&self) -> [f64; 6] {
        let share = |counts: i16| (-f64::from(counts) / FULL).clamp(-1.0, 1.0);
        // Forward is its -y, left its -x, up its -z; what turns about them is turned alike.
        let [x, y, z] = self.translation.map(share);
        let [rx, ry, rz] = self.rotation.map(share);
        [y, x, z, ry, rx, rz]
    }
}

/// Where reports come from.
pub trait Reports: Send {
    /// The next report into `buffer`, its length; 0: none came in so long.
    fn next(&mut self, buffer: &mut [u8], patience: Duration) -> Result<usize, TeleopError>;
}

/// A SpaceMouse whose reports come from somewhere.
pub struct SpaceMouse<R> {
    reports: R,
    cap: Cap,
    quiet: u32,
}

impl<R: Reports> SpaceMouse<R> {
    /// At rest.
    pub fn new(reports: R) -> Self {
        Self {
            reports,
            cap: Cap::default(),
            quiet: 0,
        }
    }
}

impl<R: Reports> Device for SpaceMouse<R> {
    fn hear(&mut self, patience: Duration, tell: &mut dyn FnMut(Heard)) -> Result<(), TeleopError> {
        let mut buffer = [0; LONGEST];
        let len = self.reports.next(&mut buffer, patience)?;
        if len == 0 {
            self.quiet += 1;
            if self.quiet == QUIET_WAITS && self.cap.is_deflected() {
                self.cap.release(tell);
            }
        } else if let Some(report) = Report::parse(&buffer[..len]) {
            if !matches!(report, Report::Buttons(_)) {
                self.quiet = 0;
            }
            self.cap.report(report, tell);
        }
        Ok(())
    }
}

/// A HID device of this machine.
pub struct RawHid {
    device: HidDevice,
    name: String,
}

impl Reports for RawHid {
    fn next(&mut self, buffer: &mut [u8], patience: Duration) -> Result<usize, TeleopError> {
        let wait_ms = i32::try_from(patience.as_millis()).unwrap_or(i32::MAX);
        self.device.read_timeout(buffer, wait_ms).map_err(|e| {
            let name = &self.name;
            TeleopError(format!(
                "the SpaceMouse at {name} is gone ({e}); plug it in again, then start anew"
            ))
        })
    }
}

/// Opens the one at this path.
pub fn open(path: &Path) -> Result<SpaceMouse<RawHid>, TeleopError> {
    let name = path.display().to_string();
    let refused = |e: &dyn std::fmt::Display| {
        TeleopError(format!(
            "the SpaceMouse at {name} does not open ({e}); who runs this must be allowed to read \
             and write it: a udev rule for hidraw devices of vendor 256f gives that"
        ))
    };
    let api = HidApi::new().map_err(|e| refused(&e))?;
    let c_path = CString::new(name.as_bytes()).map_err(|e| refused(&e))?;
    let device = api.open_path(&c_path).map_err(|e| refused(&e))?;
    Ok(SpaceMouse::new(RawHid { device, name }))
}

/// Those that are plugged in.
pub fn list() -> Result<Vec<Found>, TeleopError> {
    let api =
        HidApi::new().map_err(|e| TeleopError(format!("HID devices cannot be listed ({e})")))?;
    let ours = api.device_list().filter(|device| {
        let usage = (device.usage_page(), device.usage());
        match device.vendor_id() {
            // Without its descriptor nothing is known of its usage.
            VENDOR => usage == MULTI_AXIS || usage == (0, 0),
            OLD_VENDOR => OLD_PRODUCTS.contains(&device.product_id()),
            _ => false,
        }
    });
    let found = ours.map(|device| {
        let path = Path::new(&*device.path().to_string_lossy()).to_owned();
        Found {
            name: device.product_string().unwrap_or("SpaceMouse").to_owned(),
            port: port(&path),
            problem: open(&path).err().map(|error| error.to_string()),
            path,
        }
    });
    Ok(found.collect())
}

/// Where it is plugged in.
fn port(path: &Path) -> Option<String> {
    let name = path.file_name()?;
    let uevent = Path::new("/sys/class/hidraw")
        .join(name)
        .join("device/uevent");
    let text = std::fs::read_to_string(uevent).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("HID_PHYS="));
    line.filter(|port| !port.is_empty()).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn told(reports: &[&[u8]]) -> Vec<Heard> {
        let (mut cap, mut told) = (Cap::default(), Vec::new());
        for bytes in reports {
            if let Some(report) = Report::parse(bytes) {
                cap.report(report, &mut |heard| told.push(heard));
            }
        }
        told
    }

    /// 350 is 0x015e, -350 0xfea2.
    #[test]
    fn a_split_report_pair_is_six_axes() {
        let told = told(&[
            &[1, 0x5e, 0x01, 0, 0, 0xaf, 0x00],
            &[2, 0, 0, 0xa2, 0xfe, 0x5e, 0x01],
        ]);
        let down = -175.0 / 350.0;
        let right = [0.0, -1.0, down, 0.0, 0.0, 0.0];
        let turned = [0.0, -1.0, down, 1.0, 0.0, -1.0];
        assert_eq!(told, [Heard::Axes(right), Heard::Axes(turned)]);
    }

    #[test]
    fn a_combined_report_is_six_axes() {
        let told = told(&[&[1, 0, 0, 0xa2, 0xfe, 0, 0, 0xaf, 0, 0, 0, 0, 0x80]]);
        let forward = [1.0, 0.0, 0.0, 0.0, -0.5, 1.0];
        assert_eq!(told, [Heard::Axes(forward)]);
    }

    #[test]
    fn buttons_are_told_as_they_change() {
        let both = [Heard::Button(0, true), Heard::Button(1, true)];
        let let_go = [Heard::Button(0, false)];
        assert_eq!(
            told(&[&[3, 3], &[3, 3, 0], &[3, 2]]),
            [&both[..], &let_go].concat()
        );
        assert_eq!(told(&[&[3, 0, 0, 0, 0x80]]), [Heard::Button(31, true)]);
    }

    #[test]
    fn what_is_no_report_says_nothing() {
        assert_eq!(
            told(&[
                &[],
                &[1],
                &[1, 2, 3],
                &[2, 1, 1, 1, 1, 1],
                &[3],
                &[23, 4, 0]
            ]),
            []
        );
    }

    /// Reports by script; a `None` is a wait without one.
    struct Script(std::vec::IntoIter<Option<Vec<u8>>>);

    impl Reports for Script {
        fn next(&mut self, buffer: &mut [u8], _: Duration) -> Result<usize, TeleopError> {
            match self.0.next() {
                Some(Some(report)) => {
                    buffer[..report.len()].copy_from_slice(&report);
                    Ok(report.len())
                }
                Some(None) => Ok(0),
                None => Err(TeleopError("unplugged".to_owned())),
            }
        }
    }

    #[test]
    fn a_cap_that_falls_silent_is_let_go() {
        let mut script = vec![Some(vec![1, 100, 0, 0, 0, 0, 0]); 2];
        script.extend(vec![None; QUIET_WAITS as usize - 1]);
        script.push(Some(vec![1, 90, 0, 0, 0, 0, 0]));
        script.extend(vec![None; 2 * QUIET_WAITS as usize]);
        let mut mouse = SpaceMouse::new(Script(script.into_iter()));
        let mut told = Vec::new();
        while mouse
            .hear(Duration::ZERO, &mut |heard| told.push(heard))
            .is_ok()
        {}
        let rights: Vec<_> = told
            .iter()
            .map(|heard| match heard {
                Heard::Axes(axes) => (-axes[1] * FULL).round() as i32,
                Heard::Button(..) => panic!("{heard:?}"),
            })
            .collect();
        assert_eq!(rights, [100, 100, 90, 0]);
    }

    proptest! {
        #[test]
        fn any_bytes_are_axes_within_their_range(
            reports in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..20), 0..20)
        ) {
            let reports: Vec<&[u8]> = reports.iter().map(|r| &r[..]).collect();
            for heard in told(&reports) {
                if let Heard::Axes(axes) = heard {
                    prop_assert!(axes.iter().all(|v| (-1.0..=1.0).contains(v)));
                }
            }
        }

        /// Each button's presses and releases alternate, and end where the last report says.
        #[test]
        fn no_press_is_lost_or_doubled(bits in prop::collection::vec(any::<u16>(), 1..50)) {
            let reports: Vec<_> = bits.iter().map(|b| [3, b.to_le_bytes()[0], b.to_le_bytes()[1]]).collect();
            let told = told(&reports.iter().map(|r| &r[..]).collect::<Vec<_>>());
            for number in 0..16 {
                let mut down = false;
                for heard in &told {
                    if let Heard::Button(n, now) = heard && *n == number {
                        prop_assert_ne!(*now, down);
                        down = *now;
                    }
                }
                prop_assert_eq!(down, bits[bits.len() - 1] >> number & 1 == 1);
            }
        }
    }
}
