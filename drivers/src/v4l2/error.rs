//! Why a camera cannot be used.

use std::path::PathBuf;

use rustix::io::Errno;

use super::{
    config::Crop,
    device::{Identity, Mode, Range},
};

/// Why a camera cannot be used.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum V4l2Error {
    /// Its file cannot be opened.
    #[error("{}: {cause}{}", .device.display(), remedy(*.cause))]
    Open {
        /// Its file.
        device: PathBuf,
        /// What the kernel says.
        cause: Errno,
    },
    /// What the file is does not capture video.
    #[error(
        "{}: {} captures no video here; `hilt find-cameras` lists what does",
        .device.display(), .identity.card
    )]
    NoCapture {
        /// Its file.
        device: PathBuf,
        /// What it is.
        identity: Identity,
    },
    /// The kernel refuses something.
    #[error("{}: {what}: {cause}{}", .device.display(), remedy(*.cause))]
    Refused {
        /// Its file.
        device: PathBuf,
        /// What was asked for.
        what: &'static str,
        /// What the kernel says.
        cause: Errno,
    },
    /// It would give frames of another form.
    #[error(
        "{}: asked for {asked}, it gives {got}{}; choose one that `hilt find-cameras` lists",
        .device.display(), if *.progressive { "" } else { " in two fields" }
    )]
    Mode {
        /// Its file.
        device: PathBuf,
        /// What was asked for.
        asked: Mode,
        /// What it would give.
        got: Mode,
        /// Frames are whole.
        progressive: bool,
    },
    /// It would give another number of frames.
    #[error(
        "{}: asked for {asked} frames/s at {mode}, it gives {got:.2}; choose a rate that \
         `hilt find-cameras` lists for this format and size",
        .device.display()
    )]
    Rate {
        /// Its file.
        device: PathBuf,
        /// Format and size.
        mode: Mode,
        /// What was asked for.
        asked: u32,
        /// What it would give.
        got: f64,
    },
    /// It does not have a control.
    #[error(
        "{}: it has no control `{control}`; take it out of the camera's `controls`",
        .device.display()
    )]
    NoControl {
        /// Its file.
        device: PathBuf,
        /// The control's name in the rig's file.
        control: &'static str,
    },
    /// A control cannot have that value.
    #[error(
        "{}: `{control}` cannot be {asked}: it goes from {} to {} in steps of {}",
        .device.display(), .range.min, .range.max, .range.step
    )]
    ControlRange {
        /// Its file.
        device: PathBuf,
        /// The control's name in the rig's file.
        control: &'static str,
        /// The value, in the device's numbers.
        asked: i64,
        /// What it can be.
        range: Range,
    },
    /// A control has another value after it was set.
    #[error(
        "{}: `{control}` was set to {asked} and is {got}; leave it to the device or choose another \
         value",
        .device.display()
    )]
    ControlIgnored {
        /// Its file.
        device: PathBuf,
        /// The control's name in the rig's file.
        control: &'static str,
        /// The value, in the device's numbers.
        asked: i32,
        /// The value it has.
        got: i32,
    },
    /// There is no such part of its frames.
    #[error("{}: the crop {crop:?} is no part of a frame of {mode}", .device.display())]
    Crop {
        /// Its file.
        device: PathBuf,
        /// The part.
        crop: Crop,
        /// The frame.
        mode: Mode,
    },
    /// After it was plugged in again, another one answers.
    #[error(
        "{}: this is {} at {}, it was {} at {}; name the camera by /dev/v4l/by-id or by-path, which \
         `hilt find-cameras` lists",
        .device.display(), .got.card, .got.bus, .was.card, .was.bus
    )]
    AnotherCamera {
        /// Its file.
        device: PathBuf,
        /// What it was.
        was: Box<Identity>,
        /// What it is.
        got: Box<Identity>,
    },
    /// It streams, and no frame comes.
    #[error("{}: {reason}", .device.display())]
    Silent {
        /// Its file.
        device: PathBuf,
        /// What came instead.
        reason: String,
    },
}

/// What a person can do about it.
fn remedy(cause: Errno) -> &'static str {
    match cause {
        Errno::NOENT | Errno::NODEV | Errno::NXIO => {
            "; is it plugged in? `hilt find-cameras` lists those that are"
        }
        Errno::ACCESS | Errno::PERM => {
            "; add yourself to the group `video` (sudo usermod -aG video $USER) and log in again"
        }
        Errno::BUSY => "; another program has it: `fuser -v` on this file says which",
        Errno::NOSPC => {
            "; the USB bus has no room left: choose mjpeg, a smaller size or a lower rate, or \
             another socket"
        }
        _ => "",
    }
}

/// What is wrong with a frame. It is not shown.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadFrame {
    /// Fewer bytes than the format has.
    #[error("{got} bytes of a frame's {expected}")]
    Short {
        /// Bytes of a whole frame.
        expected: usize,
        /// Bytes that there are.
        got: usize,
    },
    /// No JPEG, or a damaged one.
    #[error("a damaged JPEG: {0}")]
    Jpeg(String),
    /// The device or its driver says so.
    #[error("the device marked it as damaged")]
    Flawed,
    /// The resizer does not take it.
    #[error("it cannot be resized: {0}")]
    Resize(String),
}
