//! Calls on the test's side of a video device: the kernel's own controls for making trouble, and
//! frames written into v4l2loopback. What the driver does is its own business.

use std::{
    fs::{File, OpenOptions},
    io::Write,
    path::Path,
};

use anyhow::{Context, Result};
use rustix::ioctl::{Opcode, Updater, ioctl, opcode};

/// `struct v4l2_queryctrl`.
#[repr(C)]
#[derive(Default)]
struct QueryControl {
    id: u32,
    kind: u32,
    name: [u8; 32],
    minimum: i32,
    maximum: i32,
    step: i32,
    default: i32,
    flags: u32,
    reserved: [u32; 2],
}

/// `struct v4l2_control`.
#[repr(C)]
struct Control {
    id: u32,
    value: i32,
}

/// `struct v4l2_format` of a video of one plane: `struct v4l2_pix_format` in a union of 200 bytes.
#[repr(C, align(8))]
struct Format {
    kind: u32,
    _padding: u32,
    width: u32,
    height: u32,
    pixel_format: u32,
    field: u32,
    bytes_per_line: u32,
    image_bytes: u32,
    rest: [u32; 44],
}

const _: () = assert!(size_of::<QueryControl>() == 68 && size_of::<Format>() == 208);

const QUERY_CONTROL: Opcode = opcode::read_write::<QueryControl>(b'V', 36);
const GET_CONTROL: Opcode = opcode::read_write::<Control>(b'V', 27);
const SET_CONTROL: Opcode = opcode::read_write::<Control>(b'V', 28);
const SET_FORMAT: Opcode = opcode::read_write::<Format>(b'V', 5);
/// Asks for the control after the one whose id is given.
const NEXT: u32 = 0x8000_0000;
/// `V4L2_BUF_TYPE_VIDEO_OUTPUT`.
const OUTPUT: u32 = 2;

/// A video device, beside the driver that has it open too.
pub struct Video(File);

impl Video {
    /// Opens it.
    pub fn open(path: &Path) -> Result<Self> {
        let file = OpenOptions::new().read(true).write(true).open(path);
        Ok(Self(file.with_context(|| path.display().to_string())?))
    }

    /// The number of the control of that name.
    fn control(&self, name: &str) -> Result<u32> {
        let mut query = QueryControl::default();
        loop {
            query.id |= NEXT;
            // SAFETY: `QueryControl` is `struct v4l2_queryctrl`, which is what this call takes and
            // fills; it has no padding and any bytes are one.
            unsafe { ioctl(&self.0, Updater::<QUERY_CONTROL, _>::new(&mut query)) }
                .with_context(|| format!("there is no control {name:?}"))?;
            let end = query.name.iter().position(|byte| *byte == 0);
            if &query.name[..end.unwrap_or(query.name.len())] == name.as_bytes() {
                return Ok(query.id);
            }
        }
    }

    /// A control's value.
    pub fn get(&self, name: &str) -> Result<i32> {
        let mut control = Control {
            id: self.control(name)?,
            value: 0,
        };
        // SAFETY: `Control` is `struct v4l2_control`, which is what this call takes and fills.
        unsafe { ioctl(&self.0, Updater::<GET_CONTROL, _>::new(&mut control)) }
            .with_context(|| format!("reading control {name:?}"))?;
        Ok(control.value)
    }

    /// Sets a control; presses it, if it is a button.
    pub fn set(&self, name: &str, value: i32) -> Result<()> {
        let mut control = Control {
            id: self.control(name)?,
            value,
        };
        // SAFETY: `Control` is `struct v4l2_control`, which is what this call takes and fills.
        unsafe { ioctl(&self.0, Updater::<SET_CONTROL, _>::new(&mut control)) }
            .with_context(|| format!("setting control {name:?}"))
    }

    /// Says what frames will be written.
    pub fn set_output(&self, code: &[u8; 4], width: u32, height: u32) -> Result<()> {
        let mut format = Format {
            kind: OUTPUT,
            _padding: 0,
            width,
            height,
            pixel_format: u32::from_le_bytes(*code),
            // `V4L2_FIELD_NONE`.
            field: 1,
            bytes_per_line: 0,
            image_bytes: width * height * 2,
            rest: [0; 44],
        };
        // SAFETY: `Format` has the size and the first fields of `struct v4l2_format`, which is what
        // this call takes and fills; any bytes are one.
        unsafe { ioctl(&self.0, Updater::<SET_FORMAT, _>::new(&mut format)) }
            .context("setting the format of what is written")
    }

    /// Gives one frame.
    pub fn write(&mut self, frame: &[u8]) -> Result<()> {
        self.0.write_all(frame).context("writing a frame")
    }
}
