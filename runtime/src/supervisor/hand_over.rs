//! What the robot process gives its supervisor: one message over their socket, with descriptors.

use std::{
    io::{self, IoSlice, IoSliceMut},
    mem::MaybeUninit,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    time::Duration,
};

use rustix::{
    cmsg_space,
    io::Errno,
    net::{
        RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer,
        SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
    },
};

/// Buses of one supervisor.
pub const MAX_BUSES: usize = 8;

/// The memory and the buses, as one message of descriptors.
const SPACE: usize = cmsg_space!(ScmRights(1 + MAX_BUSES));

/// What a supervisor starts with.
pub(super) struct Given {
    pub memory: OwnedFd,
    pub buses: Vec<OwnedFd>,
    pub stall_ns: u64,
}

/// Gives duplicates of the descriptors. The kernel makes them: nothing needs to be left open for a
/// child to inherit, where another child could get it too.
pub(super) fn give(
    line: impl AsFd,
    memory: &OwnedFd,
    buses: &[BorrowedFd<'_>],
    stall: Duration,
) -> io::Result<()> {
    let stall_ns = u64::try_from(stall.as_nanos()).unwrap_or(u64::MAX);
    let descriptors: Vec<_> = [memory.as_fd()]
        .into_iter()
        .chain(buses.iter().copied())
        .collect();
    let mut space = [MaybeUninit::uninit(); SPACE];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !control.push(SendAncillaryMessage::ScmRights(&descriptors)) {
        return Err(Errno::NOBUFS.into());
    }
    let bytes = stall_ns.to_ne_bytes();
    sendmsg(
        line,
        &[IoSlice::new(&bytes)],
        &mut control,
        SendFlags::NOSIGNAL,
    )?;
    Ok(())
}

/// Takes what [`give`] gave; waits for it.
pub(super) fn take(line: impl AsFd) -> io::Result<Given> {
    let mut space = [MaybeUninit::uninit(); SPACE];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut bytes = [0; size_of::<u64>()];
    let message = recvmsg(
        line,
        &mut [IoSliceMut::new(&mut bytes)],
        &mut control,
        RecvFlags::CMSG_CLOEXEC,
    )?;
    let mut descriptors = control
        .drain()
        .filter_map(|message| match message {
            RecvAncillaryMessage::ScmRights(descriptors) => Some(descriptors),
            _ => None,
        })
        .flatten();
    let memory = descriptors.next();
    let buses = descriptors.collect();
    match memory {
        Some(memory)
            if message.bytes == bytes.len() && !message.flags.contains(ReturnFlags::CTRUNC) =>
        {
            Ok(Given {
                memory,
                buses,
                stall_ns: u64::from_ne_bytes(bytes),
            })
        }
        _ => Err(io::ErrorKind::UnexpectedEof.into()),
    }
}

#[cfg(test)]
mod tests {
    use std::{
        io::{Read, Write},
        os::unix::net::UnixStream,
    };

    use super::*;

    #[test]
    fn what_is_given_is_taken() {
        let (robot, supervisor) = UnixStream::pair().unwrap();
        let (mut bus, device) = UnixStream::pair().unwrap();
        let memory = super::super::shared::make(1).unwrap();
        let stall = Duration::from_millis(50);
        give(&robot, &memory, &[device.as_fd(); MAX_BUSES], stall).unwrap();
        drop(device);
        let mut given = take(&supervisor).unwrap();
        assert_eq!(given.stall_ns, 50_000_000);
        assert_eq!(given.buses.len(), MAX_BUSES);
        let last = given.buses.pop().unwrap();
        UnixStream::from(last).write_all(b"hold").unwrap();
        let mut bytes = [0; 4];
        bus.read_exact(&mut bytes).unwrap();
        assert_eq!(&bytes, b"hold");
    }

    #[test]
    fn a_line_that_says_nothing_or_nonsense_is_refused() {
        let (robot, supervisor) = UnixStream::pair().unwrap();
        drop(robot);
        assert!(take(&supervisor).is_err());
        let (mut robot, supervisor) = UnixStream::pair().unwrap();
        robot.write_all(b"12345678").unwrap();
        assert!(take(&supervisor).is_err());
    }
}
