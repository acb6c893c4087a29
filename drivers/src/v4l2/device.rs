//! What the driver asks of a video device. The kernel's devices do it by system calls; in tests one
//! does that follows a script.

use std::fmt;

use rustix::io::Errno;
use serde::{Deserialize, Serialize};

/// How a device codes its pixels: those that the driver reads.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PixelFormat {
    /// 4:2:2, packed; 2 bytes per pixel. What every UVC camera has, a RealSense's colour too.
    #[default]
    Yuyv,
    /// A JPEG image per frame: what most cameras need for more than 640×480 at 30 frames/s.
    Mjpeg,
    /// 3 bytes per pixel.
    Rgb24,
    /// Brightness alone, 1 byte per pixel.
    Grey,
}

impl PixelFormat {
    /// The kernel's code for it.
    pub fn code(self) -> FourCc {
        FourCc(u32::from_le_bytes(*match self {
            Self::Yuyv => b"YUYV",
            Self::Mjpeg => b"MJPG",
            Self::Rgb24 => b"RGB3",
            Self::Grey => b"GREY",
        }))
    }
}

/// The kernel's code of a pixel format: four letters.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct FourCc(pub u32);

impl fmt::Display for FourCc {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for byte in self.0.to_le_bytes() {
            write!(f, "{}", byte.escape_ascii())?;
        }
        Ok(())
    }
}

impl fmt::Debug for FourCc {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// What is captured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mode {
    /// How pixels are coded.
    pub format: FourCc,
    /// Columns.
    pub width: u32,
    /// Rows.
    pub height: u32,
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}x{} {}", self.width, self.height, self.format)
    }
}

/// How brightness and colour differences become red, green and blue.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Colours {
    /// The weights of Rec. 709, not those of Rec. 601.
    pub rec709: bool,
    /// All 256 values are used, not 16 to 235 (240 for colours).
    pub full_range: bool,
}

/// What the device says it will give.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layout {
    /// What is captured.
    pub mode: Mode,
    /// Frames are whole, not two fields one after the other.
    pub progressive: bool,
    /// From one row to the next; 0 where frames are compressed.
    pub stride_bytes: u32,
    /// How to read its colours.
    pub colours: Colours,
}

/// Which device it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The kernel's driver.
    pub driver: String,
    /// The maker's name for it.
    pub card: String,
    /// Where it is plugged in.
    pub bus: String,
    /// It captures video into one plane and streams: no metadata node, no encoder.
    pub captures: bool,
}

/// What a control can be set to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Range {
    /// Least value.
    pub min: i32,
    /// Greatest value.
    pub max: i32,
    /// Values are `min` plus multiples of this.
    pub step: i32,
}

/// A buffer that the kernel has filled and given to us. Whoever holds this may read it; giving it
/// to [`Device::queue`] gives the buffer back. It is neither made elsewhere nor copied, so that no
/// buffer is queued that the kernel still owns.
#[derive(Debug)]
pub struct Filled {
    /// Which buffer.
    pub(super) index: u32,
    /// So many bytes of it are the frame.
    pub(super) bytes: u32,
    /// The device says itself that something is wrong with the frame.
    pub(super) flawed: bool,
    /// Time of capture on the monotonic clock, if the kernel's stamp is of that clock.
    pub(super) stamp_ns: Option<u64>,
    /// Frames that the device captured before this one, wrapping.
    pub(super) sequence: u32,
}

/// A video device that is open.
pub trait Device {
    /// Which it is.
    fn identity(&self) -> Result<Identity, Errno>;

    /// Asks for a mode; gives what the device made of it.
    fn set_mode(&mut self, mode: Mode) -> Result<Layout, Errno>;

    /// Asks for so many frames per second; gives the interval that the device took, nanoseconds, or
    /// nothing where it has no say in it.
    fn set_rate(&mut self, fps: u32) -> Result<Option<u64>, Errno>;

    /// The range of a control; nothing if the device does not have it.
    fn control_range(&self, id: u32) -> Result<Option<Range>, Errno>;

    /// Sets a control; gives the value that it has then.
    fn set_control(&mut self, id: u32, value: i32) -> Result<i32, Errno>;

    /// Gives the device about so many buffers and lets it stream. Gives how many it has.
    fn start(&mut self, buffers: u32) -> Result<usize, Errno>;

    /// Waits until a frame is there, or for `timeout_ns`. Gives whether one is. A device that is
    /// gone is an error.
    fn wait(&mut self, timeout_ns: u64) -> Result<bool, Errno>;

    /// Takes the oldest filled buffer, if there is one. Does not wait.
    fn dequeue(&mut self) -> Result<Option<Filled>, Errno>;

    /// What was captured into a buffer.
    fn bytes(&self, filled: &Filled) -> &[u8];

    /// Gives a buffer back to be filled again.
    fn queue(&mut self, filled: Filled) -> Result<(), Errno>;
}
