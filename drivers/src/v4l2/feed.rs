//! Frames from a device that may be unplugged and come back: which one is the newest, what is wrong
//! with those that are not shown, and when to open the device again.
//!
//! Nothing here waits longer than a bound, and nothing sleeps: a device that is gone is tried again
//! when the next frame is asked for, less and less often.

use std::{fmt, path::Path};

use hilt_protocol::{CameraSpec, Image};
use hilt_realtime::Clock;
use rustix::io::Errno;

use super::{
    config::V4l2Config,
    converter::Converter,
    device::{Device, Filled, Identity},
    error::{BadFrame, V4l2Error},
    setup::{Granted, set_up},
};

/// A camera that gives no good frame for so long is taken for unplugged, nanoseconds.
const SILENT_NS: u64 = 150_000_000;
/// … for one that streams and has not given its first frame yet: some need a while to get going,
/// nanoseconds.
const FIRST_NS: u64 = 5_000_000_000;
/// A silent one is opened anew after this time: it may hang, nanoseconds.
const HANGS_NS: u64 = 3_000_000_000;
/// One that is gone is first opened again after this time, and each time after twice as long …,
/// nanoseconds.
const RETRY_NS: u64 = 100_000_000;
/// … but no longer than this.
const LONGEST_RETRY_NS: u64 = 2_000_000_000;

/// What happened since the camera was opened. Every frame that the device delivered is in exactly
/// one of `shown`, `skipped`, `stale` and `bad`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Frames that were given out.
    pub shown: u64,
    /// Good ones that were not: a newer one was there.
    pub skipped: u64,
    /// Ones that were not: the device had no free buffer meanwhile, so they may be old.
    pub stale: u64,
    /// Damaged ones, which are never shown.
    pub bad: u64,
    /// Ones that the device captured and did not deliver: gaps in its numbers.
    pub lost: u64,
    /// Shown ones without a stamp of the kernel's on the monotonic clock: their time is when they
    /// were taken from the device.
    pub unstamped: u64,
    /// Shown ones whose stamp was later than when they were taken from the device, or earlier than
    /// the one before. It was corrected to that.
    pub misdated: u64,
    /// How often the device was there again after it was gone.
    pub reopened: u64,
}

/// Opens a device.
pub(super) type Open<D> = Box<dyn FnMut(&Path) -> Result<D, Errno> + Send>;

/// A camera's frames.
pub(super) struct Feed<D, C> {
    config: V4l2Config,
    spec: CameraSpec,
    open: Open<D>,
    clock: C,
    identity: Identity,
    state: State<D>,
    counts: Counts,
    /// The newest image's time.
    captured_ns: u64,
}

enum State<D> {
    Streams(Box<Stream<D>>),
    Gone {
        why: String,
        retry_at_ns: u64,
        wait_ns: u64,
    },
}

/// A device that streams.
struct Stream<D> {
    device: D,
    granted: Granted,
    converter: Converter,
    /// Number of the newest frame.
    sequence: Option<u32>,
    /// When the newest good frame was taken from the device, or it was started.
    good_ns: u64,
    /// No good frame has come yet.
    new: bool,
    /// Damaged frames since, and what is wrong with the last of them.
    bad: Option<(u64, BadFrame)>,
}

impl<D: Device, C: Clock> Feed<D, C> {
    /// Opens the device and waits for its first frame.
    pub(super) fn start(
        config: V4l2Config,
        spec: CameraSpec,
        mut open: Open<D>,
        clock: C,
    ) -> Result<Self, V4l2Error> {
        let stream = Stream::open(&config, &spec, &mut open, clock.now_ns())?;
        let mut feed = Self {
            identity: stream.granted.identity.clone(),
            config,
            spec,
            open,
            clock,
            state: State::Streams(Box::new(stream)),
            counts: Counts::default(),
            captured_ns: 0,
        };
        let until_ns = feed.clock.now_ns() + FIRST_NS;
        loop {
            match feed.newest() {
                Ok(_) => return Ok(feed),
                Err(reason) if feed.granted().is_none() || feed.clock.now_ns() >= until_ns => {
                    let device = feed.config.device;
                    return Err(V4l2Error::Silent { device, reason });
                }
                Err(_) => {}
            }
        }
    }

    pub(super) fn spec(&self) -> &CameraSpec {
        &self.spec
    }

    pub(super) fn counts(&self) -> Counts {
        self.counts
    }

    pub(super) fn granted(&self) -> Option<&Granted> {
        match &self.state {
            State::Streams(stream) => Some(&stream.granted),
            State::Gone { .. } => None,
        }
    }

    /// The next frame that is new, or why there is none. Takes [`SILENT_NS`] or two of the device's
    /// intervals at most, whichever is longer; opening takes what the kernel needs for it.
    pub(super) fn newest(&mut self) -> Result<Image, String> {
        self.return_if_due()?;
        let State::Streams(stream) = &mut self.state else {
            return Err(self.gone());
        };
        let now_ns = self.clock.now_ns();
        let two_ns = 2 * stream.granted.interval_ns;
        let until_ns = (stream.good_ns + SILENT_NS).max(now_ns + two_ns);
        match stream.next(until_ns, &self.clock, self.captured_ns, &mut self.counts) {
            Ok(Some(image)) => {
                self.captured_ns = image.captured_ns;
                Ok(image)
            }
            Ok(None) => {
                let silent_ns = self.clock.now_ns() - stream.good_ns;
                let why = stream.silence(silent_ns);
                if silent_ns >= if stream.new { FIRST_NS } else { HANGS_NS } {
                    self.lose(why.clone());
                }
                Err(why)
            }
            Err(cause) => {
                let why = match cause {
                    Errno::NODEV => "it was unplugged".to_owned(),
                    cause => format!("it stopped streaming: {cause}"),
                };
                self.lose(why);
                Err(self.gone())
            }
        }
    }

    /// Why there is no frame, while the device is gone.
    fn gone(&self) -> String {
        match &self.state {
            State::Gone { why, .. } => {
                let device = self.config.device.display();
                format!("{why}; it is looked for at {device}")
            }
            State::Streams(_) => String::new(),
        }
    }

    /// Closes the device.
    fn lose(&mut self, why: String) {
        tracing::warn!("camera `{}`: {why}", self.spec.name);
        self.state = State::Gone {
            why,
            retry_at_ns: self.clock.now_ns() + RETRY_NS,
            wait_ns: RETRY_NS,
        };
    }

    /// Opens the device again when it is gone and it is time to try.
    fn return_if_due(&mut self) -> Result<(), String> {
        let now_ns = self.clock.now_ns();
        let State::Gone {
            why,
            retry_at_ns,
            wait_ns,
        } = &mut self.state
        else {
            return Ok(());
        };
        if now_ns < *retry_at_ns {
            return Err(self.gone());
        }
        let stream = Stream::open(&self.config, &self.spec, &mut self.open, now_ns);
        let stream = stream.and_then(|stream| {
            same_camera(&self.config, &self.identity, &stream.granted.identity)?;
            Ok(stream)
        });
        match stream {
            Ok(stream) => {
                tracing::info!("camera `{}` is there again", self.spec.name);
                self.counts.reopened += 1;
                self.state = State::Streams(Box::new(stream));
                Ok(())
            }
            Err(error) => {
                // Before it is back there is no file; anything else is news.
                if !matches!(error, V4l2Error::Open { .. }) {
                    *why = error.to_string();
                }
                *wait_ns = (2 * *wait_ns).min(LONGEST_RETRY_NS);
                *retry_at_ns = self.clock.now_ns() + *wait_ns;
                Err(self.gone())
            }
        }
    }
}

/// A name that says which camera it is stays with it; by another one may be found later.
pub(super) fn is_stable(device: &Path) -> bool {
    !device.file_name().is_some_and(|name| {
        let name = name.to_string_lossy();
        let number = name.strip_prefix("video");
        number.is_some_and(|number| {
            !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit())
        })
    })
}

/// Whether what answers is the camera that did before. One with a stable name may be in another
/// socket now.
fn same_camera(config: &V4l2Config, was: &Identity, is: &Identity) -> Result<(), V4l2Error> {
    if was.card == is.card && (was.bus == is.bus || is_stable(&config.device)) {
        return Ok(());
    }
    Err(V4l2Error::AnotherCamera {
        device: config.device.clone(),
        was: Box::new(was.clone()),
        got: Box::new(is.clone()),
    })
}

impl<D: Device> Stream<D> {
    fn open(
        config: &V4l2Config,
        spec: &CameraSpec,
        open: &mut Open<D>,
        now_ns: u64,
    ) -> Result<Self, V4l2Error> {
        let mut device = open(&config.device).map_err(|cause| V4l2Error::Open {
            device: config.device.clone(),
            cause,
        })?;
        let granted = set_up(&mut device, config)?;
        let converter = Converter::new(config.format, granted.layout, config.crop, spec);
        let converter = converter.ok_or_else(|| V4l2Error::Crop {
            device: config.device.clone(),
            crop: config.crop,
            mode: config.mode(),
        })?;
        Ok(Self {
            device,
            granted,
            converter,
            sequence: None,
            good_ns: now_ns,
            new: true,
            bad: None,
        })
    }

    /// The newest good frame as an image, as soon as there is one; `None` when there is none at
    /// `until_ns`. Its time is not before `after_ns`.
    fn next(
        &mut self,
        until_ns: u64,
        clock: &impl Clock,
        after_ns: u64,
        counts: &mut Counts,
    ) -> Result<Option<Image>, Errno> {
        let mut starved_before = false;
        // At least once: what is there already takes no time.
        let mut now_ns = clock.now_ns();
        loop {
            let ready = self.device.wait(until_ns.saturating_sub(now_ns))?;
            now_ns = clock.now_ns();
            let newest = if ready {
                self.take_newest(counts)?
            } else {
                None
            };
            let Some((frame, starved)) = newest else {
                if now_ns >= until_ns {
                    return Ok(None);
                }
                continue;
            };
            if starved && !starved_before {
                counts.stale += 1;
                starved_before = true;
                self.device.queue(frame)?;
                continue;
            }
            let captured_ns = frame.stamp_ns.unwrap_or(now_ns);
            let sound_ns = captured_ns.min(now_ns).max(after_ns);
            let image = self.converter.image(self.device.bytes(&frame), sound_ns);
            let unstamped = frame.stamp_ns.is_none();
            self.device.queue(frame)?;
            match image {
                Ok(image) => {
                    counts.shown += 1;
                    counts.unstamped += u64::from(unstamped);
                    counts.misdated += u64::from(sound_ns != captured_ns);
                    (self.good_ns, self.new, self.bad) = (now_ns, false, None);
                    return Ok(Some(image));
                }
                Err(bad) => self.note_bad(bad, counts),
            }
            // Damaged frames may come faster than they are found to be.
            now_ns = clock.now_ns();
            if now_ns >= until_ns {
                return Ok(None);
            }
        }
    }

    /// Takes all that is filled and keeps the newest good one; the others go back at once. Says also
    /// whether the device had no buffer left: then the newest that is here need not be the newest
    /// that there was.
    fn take_newest(&mut self, counts: &mut Counts) -> Result<Option<(Filled, bool)>, Errno> {
        let mut newest: Option<Filled> = None;
        let buffers = self.granted.buffers;
        // A device that is faster than this loop must not hold it.
        for taken in 0..2 * buffers {
            let Some(filled) = self.device.dequeue()? else {
                return Ok(newest.map(|newest| (newest, taken >= buffers)));
            };
            let since = self
                .sequence
                .map(|before| filled.sequence.wrapping_sub(before));
            // Some count from the beginning again.
            let gap = since.unwrap_or(1);
            if (2..u32::MAX / 2).contains(&gap) {
                counts.lost += u64::from(gap - 1);
            }
            self.sequence = Some(filled.sequence);
            if filled.flawed {
                self.note_bad(BadFrame::Flawed, counts);
                self.device.queue(filled)?;
            } else if let Some(older) = newest.replace(filled) {
                counts.skipped += 1;
                self.device.queue(older)?;
            }
        }
        Ok(newest.map(|newest| (newest, true)))
    }

    fn note_bad(&mut self, bad: BadFrame, counts: &mut Counts) {
        counts.bad += 1;
        let before = self.bad.as_ref().map_or(0, |(count, _)| *count);
        self.bad = Some((before + 1, bad));
    }

    /// What there is instead of a good frame.
    fn silence(&self, silent_ns: u64) -> String {
        let ms = silent_ns / 1_000_000;
        match &self.bad {
            None if self.new => format!("no frame yet, {ms} ms after it was started"),
            None => {
                format!("no frame for {ms} ms: is it unplugged, or too dark for its frame rate?")
            }
            Some((count, bad)) => {
                format!("no good frame for {ms} ms; {count} damaged ones, the last: {bad}")
            }
        }
    }
}

impl<D, C> fmt::Debug for Feed<D, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Feed")
            .field("config", &self.config)
            .field("identity", &self.identity)
            .field("counts", &self.counts)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
