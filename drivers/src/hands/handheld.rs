//! A device of axes and buttons on a thread of its own, as a [`Teleop`].

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc::{Receiver, SyncSender, TryRecvError, sync_channel},
    },
    thread::JoinHandle,
    time::Duration,
};

use hilt_protocol::ActionSource;
use hilt_realtime::{Clock, Monotonic, newest};

use super::{HandDevice, hand::Hand};
use crate::{Intent, Teleop, TeleopError, TeleopEvent};

/// What a device tells.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Heard {
    /// Where its axes are, each in [-1, 1]: x away from the person, y to their left, z up, and turns
    /// about these.
    Axes([f64; 6]),
    /// This button went down (`true`) or up.
    Button(u16, bool),
}

/// A device of axes and buttons. Its calls may wait.
pub trait Device: Send {
    /// Waits for what comes, at most so long, and tells all of it in order. An error is final: the
    /// device is gone.
    fn hear(&mut self, patience: Duration, tell: &mut dyn FnMut(Heard)) -> Result<(), TeleopError>;
}

/// So long a device is waited for at once; a thread that ends is waited for as long.
const PATIENCE: Duration = Duration::from_millis(20);

/// Presses and releases that wait for the policy thread. When there are so many, the device is not
/// read on, and the system keeps what comes.
const QUEUE: usize = 1024;

/// Where the axes were when the device was last heard of.
#[derive(Clone, Copy, Debug)]
struct Sample {
    axes: [f64; 6],
    captured_ns: u64,
}

/// A device in a hand.
pub struct Handheld {
    hand: Hand,
    samples: newest::Reader<Sample>,
    buttons: Receiver<Result<(u16, bool), TeleopError>>,
    gone: Option<TeleopError>,
    /// Time on the run's clock, when it was last told.
    now_ns: u64,
    ending: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Handheld {
    /// Starts the thread that reads the device.
    pub fn start(device: Box<dyn Device>, hand: Hand) -> Result<Self, TeleopError> {
        let (samples, newest_sample) = newest::newest(Sample {
            axes: [0.0; 6],
            captured_ns: Monotonic.now_ns(),
        });
        let (said, buttons) = sync_channel(QUEUE);
        let ending = Arc::new(AtomicBool::new(false));
        let over = Arc::clone(&ending);
        let thread = std::thread::Builder::new()
            .name("teleop".to_owned())
            .spawn(move || read(device, samples, &said, &over))
            .map_err(|e| TeleopError(format!("its thread does not start ({e})")))?;
        Ok(Self {
            hand,
            samples: newest_sample,
            buttons,
            gone: None,
            now_ns: 0,
            ending,
            thread: Some(thread),
        })
    }

    /// Takes what has come. What a device said before it went is still told.
    fn listen(&mut self) {
        while self.gone.is_none() {
            match self.buttons.try_recv() {
                Ok(Ok((number, down))) => self.hand.button(number, down, self.now_ns),
                Ok(Err(error)) => self.gone = Some(error),
                Err(TryRecvError::Empty) => break,
                Err(TryRecvError::Disconnected) => {
                    self.gone = Some(TeleopError("its thread has ended".to_owned()));
                }
            }
        }
    }

    fn check(&self) -> Result<(), TeleopError> {
        self.gone.clone().map_or(Ok(()), Err)
    }
}

/// The thread: axes are the newest value, buttons a queue.
fn read(
    mut device: Box<dyn Device>,
    mut samples: newest::Writer<Sample>,
    said: &SyncSender<Result<(u16, bool), TeleopError>>,
    over: &AtomicBool,
) {
    let mut axes = [0.0; 6];
    while !over.load(Ordering::Relaxed) {
        let mut wanted = true;
        let heard = device.hear(PATIENCE, &mut |heard| match heard {
            Heard::Axes(now) => axes = now,
            Heard::Button(number, down) => wanted &= said.send(Ok((number, down))).is_ok(),
        });
        match heard {
            // Axes of which nothing is heard are where they were.
            Ok(()) if wanted => samples.write(Sample {
                axes,
                captured_ns: Monotonic.now_ns(),
            }),
            Ok(()) => return,
            Err(error) => {
                // Nobody listens any more when this fails.
                let _ = said.send(Err(error));
                return;
            }
        }
    }
}

impl Drop for Handheld {
    fn drop(&mut self) {
        self.ending.store(true, Ordering::Relaxed);
        // A thread that waits for room in the queue goes on, and ends.
        self.buttons = sync_channel(1).1;
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the thread of a teleop device ended by a panic");
        }
    }
}

impl Teleop for Handheld {
    fn source(&self) -> ActionSource {
        ActionSource::Human
    }

    fn begin_episode(&mut self, _seed: u64) {
        self.listen();
        self.hand.begin_episode();
    }

    fn intent(&mut self, now_ns: u64) -> Result<Option<Intent>, TeleopError> {
        self.now_ns = now_ns;
        self.listen();
        self.check()?;
        let sample = self.samples.read();
        // The run's clock may be another one, but a person's time passes on this.
        let age_ns = Monotonic.now_ns().saturating_sub(sample.captured_ns);
        self.hand.deflect(sample.axes, now_ns);
        Ok(self.hand.intent(now_ns, now_ns.saturating_sub(age_ns)))
    }

    fn event(&mut self) -> Result<Option<TeleopEvent>, TeleopError> {
        self.listen();
        match self.hand.event() {
            Some(event) => Ok(Some(event)),
            None => self.check().map(|()| None),
        }
    }

    fn verdict(&mut self) -> Option<bool> {
        self.listen();
        self.hand.verdict()
    }
}

impl HandDevice for Handheld {
    fn take(&mut self, taken: bool) {
        self.hand.take(taken);
    }
}
