//! Cores that wake at once.

use std::{
    fs::{File, OpenOptions},
    io::{ErrorKind, Write},
};

use rustix::io::Errno;

use crate::Missing;

/// The kernel's say in how deep an idle core may sleep ("PM QoS Interface", CPU latency).
const DEVICE: &str = "/dev/cpu_dma_latency";

/// While it lives, no core sleeps so deeply that it needs time to wake: that would come on top of
/// every wake-up of a thread with deadlines, some hundred microseconds on a processor that saves power.
/// It costs power, so it is asked for a run and ends with it, also with a killed process.
#[derive(Debug)]
pub struct Awake {
    /// The kernel keeps to what was written until this is closed. `None`: it has no such say, and its
    /// cores nothing to choose from.
    _request: Option<File>,
}

impl Awake {
    /// Asks for it.
    pub fn ask() -> Result<Self, Missing> {
        let refused = |error| Missing::Awake {
            error: Errno::from_io_error(&error).unwrap_or(Errno::IO),
        };
        let opened = OpenOptions::new().write(true).open(DEVICE);
        let request = match opened {
            Err(error) if error.kind() == ErrorKind::NotFound => None,
            opened => {
                let mut request = opened.map_err(refused)?;
                // The longest that waking may take, microseconds.
                request.write_all(&0_i32.to_ne_bytes()).map_err(refused)?;
                Some(request)
            }
        };
        Ok(Self { _request: request })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_granted_or_the_device_is_named() {
        match Awake::ask() {
            Ok(_) => {}
            Err(missing) => assert!(missing.to_string().contains(DEVICE), "{missing}"),
        }
    }
}
