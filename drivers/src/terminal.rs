//! The terminal's mode while a person's keys are read.
//!
//! Keys come one by one and are not echoed. Ctrl-C stays a signal, so that it ends the run also
//! while nobody reads keys (waiting for the learner, writing the log). Ctrl-Z, Ctrl-\ and Ctrl-S
//! are taken away: they would stop the robot process, or its output, in the middle of a motion.

use std::{
    io::{self, IsTerminal},
    os::fd::{AsFd, OwnedFd},
};

use rustix::termios::{
    InputModes, LocalModes, OptionalActions, SpecialCodeIndex, Termios, tcgetattr, tcsetattr,
};

/// A terminal and the mode in which it was found.
#[derive(Debug)]
pub struct SavedTerminal {
    terminal: OwnedFd,
    mode: Termios,
}

impl SavedTerminal {
    /// Of standard input; an error where that is no terminal.
    pub fn of_stdin() -> io::Result<Self> {
        if !io::stdin().is_terminal() {
            return Err(io::Error::other("standard input is no terminal"));
        }
        Self::of(io::stdin().as_fd().try_clone_to_owned()?)
    }

    fn of(terminal: OwnedFd) -> io::Result<Self> {
        let mode = tcgetattr(&terminal)?;
        Ok(Self { terminal, mode })
    }

    /// Puts the terminal back into that mode.
    pub fn restore(&self) -> io::Result<()> {
        Ok(tcsetattr(&self.terminal, OptionalActions::Now, &self.mode)?)
    }
}

/// The terminal gives keys as long as this lives; dropping it, by a panic as well, gives the
/// terminal back as it was.
#[derive(Debug)]
pub(crate) struct KeyMode(SavedTerminal);

impl KeyMode {
    /// For this terminal.
    pub(crate) fn enter(found: SavedTerminal) -> io::Result<Self> {
        let mode = key_mode(&found.mode);
        tcsetattr(&found.terminal, OptionalActions::Now, &mode)?;
        Ok(Self(found))
    }
}

impl Drop for KeyMode {
    fn drop(&mut self) {
        if let Err(e) = self.0.restore() {
            tracing::warn!("the terminal's mode was not restored ({e}); type `reset`");
        }
    }
}

/// `found`, changed so that it gives keys.
fn key_mode(found: &Termios) -> Termios {
    /// `_POSIX_VDISABLE` on Linux: no key has this function.
    const NO_KEY: u8 = 0;
    let mut mode = found.clone();
    mode.local_modes -= LocalModes::ICANON | LocalModes::ECHO;
    mode.local_modes |= LocalModes::ISIG;
    mode.input_modes -= InputModes::IXON;
    mode.special_codes[SpecialCodeIndex::VSUSP] = NO_KEY;
    mode.special_codes[SpecialCodeIndex::VQUIT] = NO_KEY;
    mode.special_codes[SpecialCodeIndex::VMIN] = 1;
    mode.special_codes[SpecialCodeIndex::VTIME] = 0;
    mode
}

#[cfg(test)]
mod tests {
    use rustix::pty::{OpenptFlags, grantpt, ioctl_tiocgptpeer, openpt, unlockpt};

    use super::*;

    /// Both ends of a new terminal.
    fn terminal() -> (OwnedFd, OwnedFd) {
        let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY;
        let master = openpt(flags).unwrap();
        grantpt(&master).unwrap();
        unlockpt(&master).unwrap();
        let terminal = ioctl_tiocgptpeer(&master, flags).unwrap();
        (master, terminal)
    }

    #[test]
    fn a_panic_gives_the_terminal_back_as_it_was() {
        let (_master, terminal) = terminal();
        let local = || tcgetattr(&terminal).unwrap().local_modes;
        let before = local();
        let saved = SavedTerminal::of(terminal.try_clone().unwrap()).unwrap();
        let panicked = std::panic::catch_unwind(|| {
            let _mode = KeyMode::enter(saved).unwrap();
            let now = local();
            assert!(!now.intersects(LocalModes::ICANON | LocalModes::ECHO));
            assert!(now.contains(LocalModes::ISIG), "Ctrl-C is a signal");
            panic!("as a driver might");
        });
        assert_eq!(
            panicked.unwrap_err().downcast_ref(),
            Some(&"as a driver might")
        );
        assert_eq!(local(), before);
    }
}
