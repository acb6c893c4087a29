//! Ctrl-C: asked once, a program ends in order; asked again, at once.

use std::time::{Duration, Instant};

/// Signals so close to each other are one request: `timeout`, service managers and the like send
/// one to the program and one more to its group.
const ONE_REQUEST: Duration = Duration::from_secs(1);

/// How a person asks a program to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Request {
    /// In order: everything is to be kept.
    InOrder,
    /// At once: it has been asked before.
    AtOnce,
}

/// Calls `act` on SIGINT, SIGTERM and SIGHUP, on a thread of its own. Once per process.
pub fn on_ctrl_c(mut act: impl FnMut(Request) + Send + 'static) -> Result<(), ctrlc::Error> {
    let mut requests = Requests::default();
    ctrlc::set_handler(move || {
        if let Some(request) = requests.signal(Instant::now()) {
            act(request);
        }
    })
}

/// Ends the process as it stands. The usual exit takes libraries down while other threads are still
/// in them: with libtorch that ended in an abort.
pub fn exit_at_once(status: i32) -> ! {
    // SAFETY: `_exit` runs no handler and touches no memory of the process.
    unsafe { libc::_exit(status) }
}

/// Makes requests of signals.
#[derive(Debug, Default)]
struct Requests {
    first: Option<Instant>,
}

impl Requests {
    fn signal(&mut self, now: Instant) -> Option<Request> {
        match self.first {
            None => {
                self.first = Some(now);
                Some(Request::InOrder)
            }
            Some(first) if now.duration_since(first) < ONE_REQUEST => None,
            Some(_) => Some(Request::AtOnce),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signal_that_comes_twice_at_once_is_one_request() {
        let (mut requests, start) = (Requests::default(), Instant::now());
        let mut after_ms = |ms| requests.signal(start + Duration::from_millis(ms));
        assert_eq!(after_ms(0), Some(Request::InOrder));
        assert_eq!(after_ms(0), None);
        assert_eq!(after_ms(999), None);
        assert_eq!(after_ms(1000), Some(Request::AtOnce));
        assert_eq!(after_ms(1001), Some(Request::AtOnce));
    }
}
