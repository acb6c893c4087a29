//! An emulated bus behind a pseudo-terminal: what a host opens as a serial device.

use std::{
    fs, io,
    num::NonZeroU64,
    os::{
        fd::{AsFd, OwnedFd},
        unix::{ffi::OsStringExt, fs::symlink},
    },
    path::{Path, PathBuf},
    sync::Arc,
    thread::{self, JoinHandle},
};

use hilt_realtime::Monotonic;
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    io::{Errno, ioctl_fionbio, read, write},
    pipe::{PipeFlags, pipe_with},
    pty::{OpenptFlags, grantpt, ioctl_tiocgptpeer, openpt, ptsname, unlockpt},
    termios::{OptionalActions, tcgetattr, tcsetattr},
    thread::set_current_timer_slack,
};

use super::{BusHandle, EmulatedBus};

/// An emulated bus in real time, behind a serial device that is none. It is there until it is
/// dropped.
#[derive(Debug)]
pub struct PtyBus {
    handle: BusHandle,
    link: PathBuf,
    plug: Option<Plug>,
}

/// What lives while the adapter is plugged in.
#[derive(Debug)]
struct Plug {
    /// Closed to end the thread, which holds the pseudo-terminal.
    stop: OwnedFd,
    thread: JoinHandle<()>,
}

impl PtyBus {
    /// Plugs `bus` in. `link` is the name under which hosts find it, also after it was pulled and
    /// plugged in again, as those in /dev/serial/by-id: a symbolic link that is made here.
    pub fn start(bus: EmulatedBus, link: &Path) -> io::Result<Self> {
        let mut pty = Self {
            handle: BusHandle::new(bus, Arc::new(Monotonic)),
            link: link.to_owned(),
            plug: None,
        };
        pty.replug()?;
        Ok(pty)
    }

    /// What a host opens.
    pub fn path(&self) -> &Path {
        &self.link
    }

    /// A look into the bus.
    pub fn handle(&self) -> BusHandle {
        self.handle.clone()
    }

    /// Pulls the adapter: who has it open gets errors or a hang-up from now on. The servos keep
    /// their power.
    pub fn unplug(&mut self) {
        let Some(plug) = self.plug.take() else {
            return;
        };
        drop(plug.stop);
        // The thread ends at its next look; had it panicked, its ends would be closed as well.
        let _ = plug.thread.join();
        // Somebody may have removed it already.
        let _ = fs::remove_file(&self.link);
    }

    /// Plugs it in again, under the same name. Does nothing when it is.
    pub fn replug(&mut self) -> io::Result<()> {
        if self.plug.is_some() {
            return Ok(());
        }
        let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC)?;
        grantpt(&master)?;
        unlockpt(&master)?;
        // Held open, so that the line outlives the hosts that come and go.
        let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
        let slave = ioctl_tiocgptpeer(&master, flags)?;
        let mut modes = tcgetattr(&slave)?;
        modes.make_raw();
        tcsetattr(&slave, OptionalActions::Now, &modes)?;
        // A host that does not read loses bytes, as with an adapter; the bus does not wait for it.
        ioctl_fionbio(&master, true)?;

        let device = std::ffi::OsString::from_vec(ptsname(&master, Vec::new())?.into_bytes());
        let mut fresh = self.link.clone().into_os_string();
        fresh.push(".new");
        let _ = fs::remove_file(&fresh);
        symlink(device, &fresh)?;
        fs::rename(&fresh, &self.link)?;

        let (stopped, stop) = pipe_with(PipeFlags::CLOEXEC)?;
        let handle = self.handle.clone();
        let carry = move || {
            carry(&handle, &master, &stopped);
            drop(slave);
        };
        let thread = thread::Builder::new().name("emulated-bus".into());
        let thread = thread.spawn(carry)?;
        self.plug = Some(Plug { stop, thread });
        Ok(())
    }
}

impl Drop for PtyBus {
    fn drop(&mut self) {
        self.unplug();
    }
}

/// Carries bytes between the host and the bus until the other end of `stopped` is closed.
fn carry(handle: &BusHandle, master: &OwnedFd, stopped: &OwnedFd) {
    // Sleeps end up to 50 µs late by default, as much as five bytes take; refused, it works still.
    let _ = set_current_timer_slack(NonZeroU64::new(1));
    let mut bytes = [0; 512];
    loop {
        let now_ns = handle.now_ns();
        // What is said in one go comes in one go, as from an adapter that gathers bytes.
        let due_ns = handle.lock().under_way_ns().map(|(_, last_ns)| last_ns);
        if due_ns.is_some_and(|due_ns| due_ns <= now_ns) {
            let count = handle.lock().say(now_ns, &mut bytes);
            // Full: the host does not read, and the bytes are lost.
            let _ = write(master, &bytes[..count]);
            continue;
        }
        let wait = due_ns.map(|due_ns| timespec(due_ns - now_ns));
        let mut ends = [
            PollFd::from_borrowed_fd(master.as_fd(), PollFlags::IN),
            PollFd::from_borrowed_fd(stopped.as_fd(), PollFlags::IN),
        ];
        match poll(&mut ends, wait.as_ref()) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(_) => return,
        }
        if !ends[1].revents().is_empty() {
            return;
        }
        if ends[0].revents().is_empty() {
            continue;
        }
        match read(master, &mut bytes) {
            Ok(count) => {
                // Where it cannot be told, as it was.
                let rate = tcgetattr(master).map(|modes| modes.output_speed());
                let mut bus = handle.lock();
                if let Ok(rate) = rate {
                    bus.set_line_baud(rate);
                }
                bus.hear(handle.now_ns(), &bytes[..count]);
            }
            Err(Errno::AGAIN | Errno::INTR) => {}
            Err(_) => return,
        }
    }
}

fn timespec(duration_ns: u64) -> Timespec {
    Timespec {
        tv_sec: (duration_ns / 1_000_000_000) as i64,
        tv_nsec: (duration_ns % 1_000_000_000) as _,
    }
}

#[cfg(test)]
mod tests {
    use std::{
        fs::{File, OpenOptions},
        io::{Read, Write},
        os::unix::fs::OpenOptionsExt,
    };

    use super::*;
    use crate::{
        bus::feetech::Request,
        emulated::{BYTE_NS_1M_BAUD, ServoSetup},
    };

    fn bus() -> EmulatedBus {
        let servo = ServoSetup {
            id: 4,
            counts: 1000.0,
            rest_counts: 1000.0,
        };
        EmulatedBus::new(&[servo], BYTE_NS_1M_BAUD)
    }

    fn open(path: &Path) -> File {
        let mut options = OpenOptions::new();
        // Not the terminal of whoever runs the tests.
        let no_terminal = rustix::fs::OFlags::NOCTTY.bits() as i32;
        options.read(true).write(true).custom_flags(no_terminal);
        options.open(path).unwrap()
    }

    fn ping(host: &mut File) -> io::Result<[u8; 6]> {
        let mut bytes = [0; 6];
        Request::Ping { id: 4 }.encode(&mut bytes).unwrap();
        host.write_all(&bytes)?;
        host.read_exact(&mut bytes)?;
        Ok(bytes)
    }

    #[test]
    fn hosts_come_and_go_and_so_does_the_bus() {
        let folder = tempfile::tempdir().unwrap();
        let link = folder.path().join("bus");
        let mut pty = PtyBus::start(bus(), &link).unwrap();
        let answer = [255, 255, 4, 2, 0, 249];
        for _ in 0..2 {
            let mut host = open(pty.path());
            for _ in 0..10 {
                assert_eq!(ping(&mut host).unwrap(), answer);
            }
        }
        let mut host = open(&link);
        pty.unplug();
        assert!(ping(&mut host).is_err());
        assert!(File::open(&link).is_err());
        pty.replug().unwrap();
        assert_eq!(ping(&mut open(&link)).unwrap(), answer);
        let heard = pty.handle().look(|bus| bus.heard().count());
        assert_eq!(heard, 21);
        drop(pty);
        assert!(fs::symlink_metadata(&link).is_err());
    }

    #[test]
    fn answers_take_the_wires_time() {
        let folder = tempfile::tempdir().unwrap();
        let pty = PtyBus::start(bus(), &folder.path().join("bus")).unwrap();
        let mut host = open(pty.path());
        let begin_ns = pty.handle().now_ns();
        ping(&mut host).unwrap();
        // Twelve bytes and the return delay at the least; nothing is said about the most.
        let took_ns = pty.handle().now_ns() - begin_ns;
        assert!(took_ns >= 12 * BYTE_NS_1M_BAUD + 500_000, "{took_ns}");
    }
}
