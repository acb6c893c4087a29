//! `hilt` in a terminal of its own, and a person at its keyboard.

use std::{
    fs::File,
    io::{Read, Write},
    os::{fd::OwnedFd, unix::process::CommandExt},
    process::{Child, Command, ExitStatus, Stdio},
    sync::{Arc, Mutex},
    time::Duration,
};

use rustix::{
    process::{ioctl_tiocsctty, setsid},
    pty::{OpenptFlags, grantpt, ioctl_tiocgptpeer, openpt, unlockpt},
    termios::{LocalModes, Winsize, tcgetattr, tcsetwinsize},
};

use super::until;

pub const CTRL_C: &str = "\x03";
pub const ENTER: &str = "\r";

/// A program in a terminal.
pub struct AtTerminal {
    keys: File,
    terminal: OwnedFd,
    found: LocalModes,
    child: Child,
    screen: Arc<Mutex<String>>,
}

impl AtTerminal {
    /// Starts `hilt` with these arguments.
    pub fn hilt<S: AsRef<std::ffi::OsStr>>(args: &[S]) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_hilt"));
        command.args(args);
        Self::start(command)
    }

    /// Starts a command.
    pub fn start(mut command: Command) -> Self {
        let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY;
        let master = openpt(flags).unwrap();
        grantpt(&master).unwrap();
        unlockpt(&master).unwrap();
        let terminal = ioctl_tiocgptpeer(&master, flags).unwrap();
        let size = Winsize {
            ws_row: 50,
            ws_col: 250,
            ws_xpixel: 0,
            ws_ypixel: 0,
        };
        tcsetwinsize(&terminal, size).unwrap();
        let found = tcgetattr(&terminal).unwrap().local_modes;
        let stdio = || Stdio::from(terminal.try_clone().unwrap());
        command.stdin(stdio()).stdout(stdio()).stderr(stdio());
        // SAFETY: both are plain system calls, which may be made between fork and exec.
        unsafe {
            command.pre_exec(|| {
                setsid()?;
                Ok(ioctl_tiocsctty(rustix::stdio::stdin())?)
            });
        }
        let child = command.env("TERM", "xterm").spawn().unwrap();
        let keys = File::from(master);
        let screen = Arc::new(Mutex::new(String::new()));
        let (mut output, shown) = (keys.try_clone().unwrap(), Arc::clone(&screen));
        std::thread::spawn(move || {
            let mut bytes = [0; 4096];
            // Ends with an error when the last of the program's ends is closed.
            while let Ok(n @ 1..) = output.read(&mut bytes) {
                let text = String::from_utf8_lossy(&bytes[..n]);
                shown.lock().unwrap().push_str(&text);
            }
        });
        Self {
            keys,
            terminal,
            found,
            child,
            screen,
        }
    }

    /// Everything shown so far.
    pub fn screen(&self) -> String {
        self.screen.lock().unwrap().clone()
    }

    pub fn press(&mut self, keys: &str) {
        self.keys.write_all(keys.as_bytes()).unwrap();
    }

    /// Presses keys and waits until the program has read them, and a moment more.
    pub fn press_and_wait(&mut self, keys: &str) {
        self.press(keys);
        until("the program reads its keys", || {
            rustix::io::ioctl_fionread(&self.terminal).unwrap() == 0
        });
        std::thread::sleep(Duration::from_millis(100));
    }

    /// Waits until `words` were shown, after the first `from` bytes; returns what was shown.
    pub fn sees(&self, words: &str, from: usize) -> String {
        let look = || self.screen()[from..].contains(words);
        if !look() {
            let what = format!("`{words}` on the screen");
            until(&what, || {
                let seen = look();
                assert!(seen || !self.ended(), "{}", self.screen());
                seen
            });
        }
        self.screen()
    }

    fn ended(&self) -> bool {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.child.id()));
        stat.is_ok_and(|stat| stat.contains(") Z "))
    }

    /// Whether keys come one by one.
    pub fn gives_keys(&self) -> bool {
        !tcgetattr(&self.terminal)
            .unwrap()
            .local_modes
            .contains(LocalModes::ICANON)
    }

    /// Waits for its end; the terminal must then be as it was found. How it ended, what was shown.
    pub fn end(mut self) -> (ExitStatus, String) {
        let mut status = None;
        until("the program's end", || {
            status = self.child.try_wait().unwrap();
            status.is_some()
        });
        let now = tcgetattr(&self.terminal).unwrap().local_modes;
        assert_eq!(now, self.found, "the terminal was not restored");
        // Its last words may still be on their way here; what is said after them comes after them.
        const AFTER: &str = "<the program has ended>";
        rustix::io::write(&self.terminal, AFTER.as_bytes()).unwrap();
        until("its last words", || self.screen().contains(AFTER));
        (status.unwrap(), self.screen().replace(AFTER, ""))
    }
}

impl Drop for AtTerminal {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
