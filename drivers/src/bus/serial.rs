//! A serial device as a [`Wire`].

use std::{
    ffi::{c_int, c_uint, c_ulong, c_ushort},
    os::fd::{AsRawFd, BorrowedFd},
    path::Path,
};

use hilt_realtime::{Clock, Monotonic};
use rustix::{
    event::{PollFd, PollFlags, poll},
    fs::{OFlags, fcntl_setfl},
    io::{self, Errno},
    ioctl::{Getter, Opcode, Setter, ioctl},
    time::Timespec,
};
use serialport::TTYPort;

use super::{Wire, WireError, ports::quicken};

const SECOND_NS: u64 = 1_000_000_000;

/// Reads before [`Wire::drain`] gives up on a line that never falls silent.
const DRAIN_READS: usize = 16;

/// Why a port does not open.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The port is not there, is in use, or refuses its settings.
    #[error(
        "opening the serial port {path} at {baud} baud: {source}; check that it is plugged in, that no other program has it, and that you may use it (group dialout)"
    )]
    Port {
        /// The port.
        path: String,
        /// Bits per second.
        baud: u32,
        /// What was said.
        source: serialport::Error,
    },
    /// An FTDI adapter keeps what it receives.
    #[error(
        "the adapter of {path} keeps what it receives for {ms} ms (latency timer); a tick has no such time: echo 1 | sudo tee /sys/bus/usb-serial/devices/*/latency_timer"
    )]
    Latency {
        /// The port.
        path: String,
        /// For so long.
        ms: u32,
    },
    /// The descriptor cannot be made to return at once.
    #[error("the serial port {path} cannot be read without waiting: {source}")]
    Descriptor {
        /// The port.
        path: String,
        /// What was said.
        source: Errno,
    },
}

/// A serial port, also a pseudo-terminal, on `CLOCK_MONOTONIC`. After it was opened it makes the
/// system calls `ppoll`, `read` and `write`, no others.
pub struct SerialWire {
    port: TTYPort,
}

impl SerialWire {
    /// Opens a port for itself alone: eight bits, no parity, one stop bit, no flow control.
    pub fn open(path: &str, baud: u32) -> Result<Self, OpenError> {
        let port = serialport::new(path, baud)
            .open_native()
            .map_err(|source| OpenError::Port {
                path: path.into(),
                baud,
                source,
            })?;
        let wire = Self { port };
        let low_latency = || low_latency(wire.fd()).is_ok();
        quicken(Path::new("/sys"), path, low_latency).map_err(|ms| OpenError::Latency {
            path: path.into(),
            ms,
        })?;
        fcntl_setfl(wire.fd(), OFlags::NONBLOCK).map_err(|source| OpenError::Descriptor {
            path: path.into(),
            source,
        })?;
        Ok(wire)
    }

    fn fd(&self) -> BorrowedFd<'_> {
        // SAFETY: the port owns the descriptor, keeps it open until it is dropped, and is borrowed
        // for as long as what is given out.
        unsafe { BorrowedFd::borrow_raw(self.port.as_raw_fd()) }
    }

    /// What has come; 0 if nothing has.
    fn read_now(&self, buffer: &mut [u8]) -> Result<usize, WireError> {
        loop {
            match io::read(self.fd(), &mut *buffer) {
                // Nothing there yet is EAGAIN; the end of a terminal is its hang-up.
                Ok(0) if !buffer.is_empty() => return Err(WireError::Unplugged),
                Ok(bytes) => return Ok(bytes),
                Err(Errno::AGAIN) => return Ok(0),
                Err(Errno::INTR) => {}
                Err(error) => return Err(wire_error(error)),
            }
        }
    }
}

/// Asks a serial driver to hand on at once what it receives: that of FTDI adapters does then,
/// whatever its timer says.
fn low_latency(fd: BorrowedFd<'_>) -> io::Result<()> {
    const LOW_LATENCY: c_int = 1 << 13;
    // SAFETY: the request writes a `serial_struct`, of which `SerialStruct` has the layout.
    let get = unsafe { Getter::<TIOCGSERIAL, SerialStruct>::new() };
    // SAFETY: as above.
    let mut settings = unsafe { ioctl(fd, get) }?;
    settings.flags |= LOW_LATENCY;
    // SAFETY: the request reads a `serial_struct`, of which `SerialStruct` has the layout.
    let set = unsafe { Setter::<TIOCSSERIAL, SerialStruct>::new(settings) };
    // SAFETY: as above.
    unsafe { ioctl(fd, set) }
}

const TIOCGSERIAL: Opcode = 0x541E;
const TIOCSSERIAL: Opcode = 0x541F;

/// `struct serial_struct` of linux/serial.h.
#[repr(C)]
struct SerialStruct {
    /// Type, line, port, interrupt.
    about: [c_int; 4],
    flags: c_int,
    /// Buffer, divisor, rate.
    rate: [c_int; 3],
    close_delay: c_ushort,
    io_type: [u8; 2],
    hub6: c_int,
    closing_wait: [c_ushort; 2],
    memory: *mut u8,
    shift: c_ushort,
    port_high: c_uint,
    io_base: c_ulong,
}

const _: () = assert!(size_of::<SerialStruct>() == 40 + 4 * size_of::<c_ulong>());

fn wire_error(error: Errno) -> WireError {
    match error {
        Errno::IO | Errno::NODEV | Errno::NXIO | Errno::PIPE => WireError::Unplugged,
        error => WireError::Os(error.raw_os_error()),
    }
}

impl Wire for SerialWire {
    fn now_ns(&self) -> u64 {
        Monotonic.now_ns()
    }

    fn write(&mut self, mut bytes: &[u8]) -> Result<(), WireError> {
        while !bytes.is_empty() {
            match io::write(self.fd(), bytes) {
                Ok(written) => bytes = &bytes[written..],
                Err(Errno::INTR) => {}
                // Kilobytes wait in the kernel already: the device takes none.
                Err(error) => return Err(wire_error(error)),
            }
        }
        Ok(())
    }

    fn read(&mut self, buffer: &mut [u8], until_ns: u64) -> Result<usize, WireError> {
        loop {
            let bytes = self.read_now(buffer)?;
            let left_ns = until_ns.saturating_sub(self.now_ns());
            if bytes > 0 || left_ns == 0 {
                return Ok(bytes);
            }
            let timeout = Timespec {
                tv_sec: (left_ns / SECOND_NS) as i64,
                tv_nsec: (left_ns % SECOND_NS) as _,
            };
            // Hang-ups and errors end the wait too; the read tells which.
            match poll(
                &mut [PollFd::from_borrowed_fd(self.fd(), PollFlags::IN)],
                Some(&timeout),
            ) {
                Ok(_) | Err(Errno::INTR) => {}
                Err(error) => return Err(wire_error(error)),
            }
        }
    }

    fn drain(&mut self) -> Result<(), WireError> {
        let mut waste = [0; 256];
        for _ in 0..DRAIN_READS {
            if self.read_now(&mut waste)? < waste.len() {
                return Ok(());
            }
        }
        Ok(())
    }

    fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        Some(self.fd())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]
mod tests {
    use std::os::fd::OwnedFd;

    use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};

    use super::*;

    fn terminal() -> (OwnedFd, SerialWire) {
        let device = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
        grantpt(&device).unwrap();
        unlockpt(&device).unwrap();
        let path = ptsname(&device, Vec::new()).unwrap();
        let wire = SerialWire::open(path.to_str().unwrap(), 1_000_000).unwrap();
        (device, wire)
    }

    #[test]
    fn bytes_go_and_come_unchanged() {
        let (device, mut wire) = terminal();
        // All that a terminal in its usual mode would change.
        let bytes = [0xFF, 0xFF, 0x00, 0x03, 0x04, 0x0A, 0x0D, 0x11, 0x13, 0x7F];
        wire.write(&bytes).unwrap();
        let mut seen = [0; 32];
        assert_eq!(io::read(&device, &mut seen).unwrap(), bytes.len());
        assert_eq!(seen[..bytes.len()], bytes);
        io::write(&device, &bytes).unwrap();
        let until_ns = wire.now_ns() + 10 * SECOND_NS;
        let mut buffer = [0; 32];
        let mut came = 0;
        while came < bytes.len() {
            came += wire.read(&mut buffer[came..], until_ns).unwrap();
        }
        assert_eq!(buffer[..came], bytes);
    }

    #[test]
    fn waiting_ends_and_what_is_drained_is_gone() {
        let (device, mut wire) = terminal();
        let until_ns = wire.now_ns() + 2_000_000;
        assert_eq!(wire.read(&mut [0; 8], until_ns), Ok(0));
        assert!(wire.now_ns() >= until_ns);
        assert_eq!(wire.read(&mut [0; 8], 0), Ok(0));
        io::write(&device, &[7; 20]).unwrap();
        // The bytes reach the other end when a thread of the kernel gets to it.
        let until_ns = wire.now_ns() + 10 * SECOND_NS;
        let mut first = [0; 1];
        assert_eq!(wire.read(&mut first, until_ns), Ok(1));
        wire.drain().unwrap();
        assert_eq!(wire.read(&mut [0; 8], 0), Ok(0));
    }

    #[test]
    fn a_device_that_is_gone_is_named() {
        let (device, mut wire) = terminal();
        drop(device);
        let until_ns = wire.now_ns() + 10 * SECOND_NS;
        assert_eq!(wire.read(&mut [0; 8], until_ns), Err(WireError::Unplugged));
        assert_eq!(wire.write(&[1]), Err(WireError::Unplugged));
        assert_eq!(wire.drain(), Err(WireError::Unplugged));
        let missing = SerialWire::open("/dev/there-is-none", 1_000_000);
        assert!(missing.is_err_and(|e| e.to_string().contains("plugged in")));
    }

    #[test]
    fn a_port_is_opened_once() {
        let (device, wire) = terminal();
        let path = ptsname(&device, Vec::new()).unwrap();
        let path = path.to_str().unwrap();
        assert!(SerialWire::open(path, 1_000_000).is_err());
        drop(wire);
        assert!(SerialWire::open(path, 1_000_000).is_ok());
    }
}
