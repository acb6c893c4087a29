//! HID devices made by this program, through the kernel's door for them (`<linux/uhid.h>`).

use std::{
    fs::{File, OpenOptions},
    io::Write,
};

use anyhow::{Context, Result};

const DESTROY: u32 = 1;
const CREATE: u32 = 11;
const INPUT: u32 = 12;
const BUS_USB: u16 = 3;
/// Bytes of a request beside its kind: those of the longest, `struct uhid_create2_req`.
const REQUEST: usize = 128 + 64 + 64 + 2 + 2 + 4 * 4 + 4096;

/// A SpaceMouse's report descriptor: one multi-axis controller with translation (1), rotation (2) and
/// two buttons (3).
#[rustfmt::skip]
const SPACEMOUSE: &[u8] = &[
    0x05, 0x01,       // usage page: generic desktop
    0x09, 0x08,       // usage: multi-axis controller
    0xA1, 0x01,       // collection: application
    0xA1, 0x00,       //   collection: physical
    0x85, 0x01,       //     report 1
    0x16, 0xA2, 0xFE, //     logical minimum: -350
    0x26, 0x5E, 0x01, //     logical maximum: 350
    0x09, 0x30,       //     usage: x
    0x09, 0x31,       //     usage: y
    0x09, 0x32,       //     usage: z
    0x75, 0x10,       //     16 bits …
    0x95, 0x03,       //     … three times
    0x81, 0x02,       //     input: absolute
    0xC0,
    0xA1, 0x00,       //   collection: physical
    0x85, 0x02,       //     report 2
    0x09, 0x33,       //     usage: about x
    0x09, 0x34,       //     usage: about y
    0x09, 0x35,       //     usage: about z
    0x75, 0x10, 0x95, 0x03, 0x81, 0x02,
    0xC0,
    0xA1, 0x02,       //   collection: logical
    0x85, 0x03,       //     report 3
    0x05, 0x09,       //     usage page: buttons
    0x19, 0x01, 0x29, 0x02, // usages 1 and 2
    0x15, 0x00, 0x25, 0x01, // 0 or 1
    0x75, 0x01, 0x95, 0x02, 0x81, 0x02,
    0x75, 0x0E, 0x95, 0x01, 0x81, 0x03, // padding
    0xC0,
    0xC0,
];

/// A SpaceMouse that is plugged in until it is dropped.
pub struct SpaceMouse(File);

impl SpaceMouse {
    /// Plugs one in, at `port`.
    pub fn plug_in(port: &str) -> Result<Self> {
        let file = OpenOptions::new().read(true).write(true).open("/dev/uhid");
        let mut mouse = Self(file.context("/dev/uhid")?);
        let mut request = Vec::with_capacity(REQUEST);
        let mut text = |text: &str, bytes: usize| {
            request.extend_from_slice(text.as_bytes());
            request.resize(request.len() + bytes - text.len(), 0);
        };
        text("3Dconnexion SpaceMouse Compact", 128);
        text(port, 64);
        text("", 64);
        request.extend_from_slice(&(SPACEMOUSE.len() as u16).to_ne_bytes());
        request.extend_from_slice(&BUS_USB.to_ne_bytes());
        let (vendor, product, version, country) = (0x256F_u32, 0xC635_u32, 0x0100_u32, 0_u32);
        for number in [vendor, product, version, country] {
            request.extend_from_slice(&number.to_ne_bytes());
        }
        request.extend_from_slice(SPACEMOUSE);
        mouse.tell(CREATE, &request)?;
        Ok(mouse)
    }

    /// Sends a report, its number first.
    pub fn report(&mut self, bytes: &[u8]) -> Result<()> {
        let mut request = (bytes.len() as u16).to_ne_bytes().to_vec();
        request.extend_from_slice(bytes);
        self.tell(INPUT, &request)
    }

    /// Pulls it.
    pub fn pull(mut self) -> Result<()> {
        self.tell(DESTROY, &[])
    }

    fn tell(&mut self, kind: u32, request: &[u8]) -> Result<()> {
        let mut event = kind.to_ne_bytes().to_vec();
        event.extend_from_slice(request);
        event.resize(size_of::<u32>() + REQUEST, 0);
        self.0.write_all(&event).context("telling /dev/uhid")
    }
}
