//! Holding the arms: the wills on their buses, again and again.

use std::{os::fd::OwnedFd, thread::sleep, time::Duration};

use hilt_realtime::wills::Left;
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    fs::{OFlags, fcntl_getfl, fcntl_setfl},
    io::{Errno, read, write},
};

/// The robot may have died in the middle of a frame, and then the first will is swallowed as that
/// frame's rest; or just after a question, and then it meets the answers. So it is said at once so
/// often, with a pause in which a servo gives up a broken frame and finishes its answer.
const AT_ONCE: u32 = 4;
const PAUSE: Duration = Duration::from_millis(3);

/// Then so often, for devices that stop or go limp when they hear nothing.
const AGAIN: Duration = Duration::from_millis(100);

/// A bus gets so many chances to take the rest of a will, and so long for each: one that takes
/// nothing must not keep the others waiting.
const CHANCES: u32 = 4;
const ROOM: Timespec = Timespec {
    tv_sec: 0,
    tv_nsec: 3_000_000,
};

/// A bus that refuses so many wills in succession is gone.
const GIVE_UP: u32 = 10;

/// One arm's bus.
#[derive(Debug)]
struct Bus {
    arm: usize,
    device: OwnedFd,
    refused: u32,
}

/// Holds the arms until no bus is left. `said_at_once` is called when every will has gone out often
/// enough to count, `lost` when a bus is gone, with its arm.
pub(super) fn hold(
    buses: Vec<OwnedFd>,
    left: &Left,
    said_at_once: impl FnOnce(),
    mut lost: impl FnMut(usize, Errno),
) {
    let mut buses: Vec<Bus> = buses
        .into_iter()
        .enumerate()
        .map(|(arm, device)| Bus {
            arm,
            device,
            refused: 0,
        })
        .collect();
    for bus in &buses {
        // Shared with the robot process, which has no business on the bus any more.
        let _ = fcntl_getfl(&bus.device)
            .and_then(|flags| fcntl_setfl(&bus.device, flags | OFlags::NONBLOCK));
    }
    let mut round = |buses: &mut Vec<Bus>| {
        buses.retain_mut(|bus| match bus.say(left.wills[bus.arm].bytes()) {
            Ok(()) => true,
            Err(error) => {
                lost(bus.arm, error);
                false
            }
        });
    };
    for time in 0..AT_ONCE {
        if time > 0 {
            sleep(PAUSE);
        }
        round(&mut buses);
    }
    said_at_once();
    while !buses.is_empty() {
        sleep(AGAIN);
        round(&mut buses);
    }
}

impl Bus {
    /// Says the will once. An error: the bus is gone.
    fn say(&mut self, will: &[u8]) -> Result<(), Errno> {
        self.drain();
        match self.write(will) {
            Ok(()) => self.refused = 0,
            Err(error) => {
                self.refused += 1;
                if self.refused == GIVE_UP {
                    return Err(error);
                }
            }
        }
        Ok(())
    }

    /// Throws away what has come, as nobody reads it: a full input may stop an adapter.
    fn drain(&self) {
        const READS: usize = 16;
        let mut bytes = [0; 256];
        for _ in 0..READS {
            if !matches!(read(&self.device, &mut bytes), Ok(1..)) {
                return;
            }
        }
    }

    fn write(&self, mut will: &[u8]) -> Result<(), Errno> {
        for _ in 0..CHANCES {
            match write(&self.device, will) {
                Ok(written) => will = &will[written..],
                Err(Errno::INTR | Errno::AGAIN) => {}
                Err(error) => return Err(error),
            }
            if will.is_empty() {
                return Ok(());
            }
            // What it says does not matter: the next chance shows it.
            let _ = poll(
                &mut [PollFd::new(&self.device, PollFlags::OUT)],
                Some(&ROOM),
            );
        }
        Err(Errno::AGAIN)
    }
}

#[cfg(test)]
mod tests {
    use std::{
        io::{Read, Write},
        os::unix::net::UnixStream,
    };

    use hilt_realtime::wills::{Reader, Writer};

    use super::{super::shared, *};

    fn left(wills: &[&[u8]]) -> Left {
        let memory = shared::make(wills.len()).unwrap();
        let memory = shared::Shared::map(&memory, wills.len()).unwrap();
        let (mut writer, reader) = (Writer::new(memory.clone()), Reader::new(memory));
        writer.beat(true, wills.iter().copied()).unwrap();
        let mut left = reader.nothing();
        reader.read(&mut left);
        left
    }

    #[test]
    fn a_bus_that_takes_nothing_keeps_no_other_from_its_will_and_lost_ones_are_named() {
        let (stuck, stuck_device) = UnixStream::pair().unwrap();
        let (bus, device) = UnixStream::pair().unwrap();
        stuck_device.set_nonblocking(true).unwrap();
        while (&stuck_device).write(&[0; 4096]).is_ok() {}
        let said_at_once = || {
            let mut wills = [0; 4 * AT_ONCE as usize];
            (&bus).read_exact(&mut wills).unwrap();
            assert_eq!(wills, *b"hold".repeat(AT_ONCE as usize));
            drop((stuck, bus));
        };
        let buses = vec![stuck_device.into(), device.into()];
        let mut lost = Vec::new();
        hold(
            buses,
            &left(&[b"stop", b"hold"]),
            said_at_once,
            |arm, error| {
                lost.push((arm, error));
            },
        );
        lost.sort_by_key(|(arm, _)| *arm);
        assert_eq!(lost, [(0, Errno::PIPE), (1, Errno::PIPE)]);
    }
}
