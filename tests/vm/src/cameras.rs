//! Cameras of the kernel: its own test driver, `vivid`, and for compressed frames a loop through
//! which this program feeds them.

use std::{
    fs,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
};

use anyhow::{Context, Result, bail, ensure};
use hilt_drivers::{
    Camera, conformance,
    v4l2::{self, Controls, Crop, PixelFormat, V4l2Camera, V4l2Config, V4l2Error},
};
use hilt_protocol::{CameraSpec, Image};
use hilt_realtime::{Clock, Monotonic};
use image::{ExtendedColorType, ImageEncoder, codecs::jpeg::JpegEncoder};

use crate::{
    machine::{load, pass_ns, unload, wait_for, wait_for_file},
    video::Video,
};

/// The webcam's stable name.
const WEBCAM: &str = "/dev/v4l/by-path/platform-vivid.0-video-index0";
const LOOP: &str = "/dev/video9";
/// Of the frames that go through the loop.
const WIDTH: u32 = 320;
const HEIGHT: u32 = 180;
const BITS: u32 = 6;
const NUMBERS: u8 = 1 << BITS;
const FIELDS: [[u8; 3]; 3] = [[200, 0, 0], [0, 200, 0], [0, 0, 200]];
/// Between two frames.
const INTERVAL_NS: u64 = 1_000_000_000 / 30;
/// Within which an unplugged camera has to be noticed.
const NOTICED_NS: u64 = 150_000_000;

/// Plugs a webcam in that shows colour bars, in place of what was there. It stamps frames when their
/// exposure starts: what it does by itself is in the future.
fn plug_in() -> Result<()> {
    plug_in_future()?;
    Video::open(Path::new(WEBCAM))?.set("Timestamp Source", 1)
}

/// One whose frames have stamps that are later than when they are given out.
fn plug_in_future() -> Result<()> {
    if fs::exists("/sys/module/vivid")? {
        unload("vivid")?;
        wait_for("the old webcam stays", || {
            (!fs::exists(WEBCAM).unwrap_or(true)).then_some(())
        })?;
    }
    // One webcam (input type 0) that captures video (node type 1), and nothing else.
    let parameters = "n_devs=1 num_inputs=1 input_types=0 num_outputs=0 node_types=1";
    load("vivid", parameters)?;
    wait_for_file(WEBCAM)
}

fn config(device: &str, format: PixelFormat) -> V4l2Config {
    V4l2Config {
        device: device.into(),
        width: 640,
        height: 360,
        fps: 30,
        format,
        crop: Crop::Whole,
        controls: Controls::default(),
    }
}

fn spec() -> CameraSpec {
    CameraSpec {
        name: "front".into(),
        height: 128,
        width: 128,
    }
}

fn webcam() -> Result<V4l2Camera> {
    plug_in()?;
    Ok(V4l2Camera::open(config(WEBCAM, PixelFormat::Yuyv), spec())?)
}

fn pixel(image: &Image, row: u32, column: u32) -> [i32; 3] {
    let at = 3 * (row * image.width + column) as usize;
    [0, 1, 2].map(|i| i32::from(image.rgb[at + i]))
}

/// Frames come at the device's rate, in order, none missing, stamped by the kernel, in the colours
/// that were shown.
pub fn frames_in_order() -> Result<String> {
    let mut camera = webcam()?;
    let before = camera.counts();
    let frames = 90;
    let mut last_ns = camera.newest()?.captured_ns;
    let mut oldest_ns = 0;
    for _ in 0..frames {
        let image = camera.newest()?;
        let age_ns = Monotonic.now_ns() - image.captured_ns;
        oldest_ns = oldest_ns.max(age_ns);
        let interval_ns = image.captured_ns.saturating_sub(last_ns);
        ensure!(
            interval_ns.abs_diff(INTERVAL_NS) < INTERVAL_NS / 4,
            "{interval_ns} ns between two frames"
        );
        last_ns = image.captured_ns;
    }
    let counts = camera.counts();
    ensure!(counts.shown - before.shown == frames + 1, "{counts:?}");
    ensure!(counts.lost + counts.bad == 0, "{counts:?}");
    ensure!(counts.unstamped + counts.misdated == 0, "{counts:?}");

    // Bars at three quarters of full brightness: white, yellow, cyan, green, magenta, red, blue,
    // black. The upper half has text in it.
    let image = camera.newest()?;
    let (on, off) = (191, 0);
    let bars = [
        [on, on, on],
        [on, on, off],
        [off, on, on],
        [off, on, off],
        [on, off, on],
        [on, off, off],
        [off, off, on],
        [off, off, off],
    ];
    for (i, bar) in bars.iter().enumerate() {
        let seen = pixel(&image, 110, 16 * i as u32 + 8);
        let far = seen
            .iter()
            .zip(bar)
            .any(|(seen, bar)| (seen - bar).abs() > 12);
        ensure!(!far, "bar {i} is {seen:?}, not {bar:?}");
    }
    Ok(format!(
        "{frames} frames, none lost, at most {:.1} ms old when given",
        oldest_ns as f64 * 1e-6
    ))
}

/// It passes the suite of every camera.
pub fn conforms() -> Result<String> {
    let mut camera = webcam()?;
    conformance::camera(&mut camera, pass_ns)?;
    let counts = camera.counts();
    Ok(format!(
        "{} shown, {} skipped",
        counts.shown, counts.skipped
    ))
}

/// A stamp of the future is counted, and no frame is given out as of the future.
pub fn future_stamps() -> Result<String> {
    plug_in_future()?;
    let mut camera = V4l2Camera::open(config(WEBCAM, PixelFormat::Yuyv), spec())?;
    conformance::camera(&mut camera, pass_ns)?;
    let counts = camera.counts();
    ensure!(
        counts.misdated == counts.shown && counts.misdated > 0,
        "{counts:?}"
    );
    Ok(format!("{} of {} stamps", counts.misdated, counts.shown))
}

/// A reader that comes late gets the newest frame, not the oldest that waits.
pub fn late_reader() -> Result<String> {
    let mut camera = webcam()?;
    let mut oldest_ns = 0;
    // Some of its buffers are full, then all of them.
    for late_ns in [110_000_000, 400_000_000].repeat(6) {
        pass_ns(late_ns);
        let image = camera.newest()?;
        oldest_ns = oldest_ns.max(Monotonic.now_ns() - image.captured_ns);
    }
    ensure!(
        oldest_ns < 2 * INTERVAL_NS,
        "a frame was {oldest_ns} ns old"
    );
    Ok(format!("at most {:.1} ms old", oldest_ns as f64 * 1e-6))
}

/// The device answers a wish that it cannot grant by something else, and calls it success.
pub fn changed_format_refused() -> Result<String> {
    plug_in()?;
    let refused = |config: V4l2Config| match V4l2Camera::open(config, spec()) {
        Ok(_) => bail!("a device that does something else was taken"),
        Err(error) => Ok(error),
    };
    let error = refused(config(WEBCAM, PixelFormat::Mjpeg))?;
    ensure!(matches!(error, V4l2Error::Mode { .. }), "{error}");
    let words = error.to_string();
    ensure!(words.contains("MJPG") && words.contains("YUYV"), "{words}");
    let error = refused(V4l2Config {
        width: 648,
        ..config(WEBCAM, PixelFormat::Yuyv)
    })?;
    ensure!(matches!(error, V4l2Error::Mode { .. }), "{error}");
    let error = refused(V4l2Config {
        fps: 33,
        ..config(WEBCAM, PixelFormat::Yuyv)
    })?;
    ensure!(matches!(error, V4l2Error::Rate { .. }), "{error}");
    // And it is free for who asks for what it has.
    webcam()?;
    Ok(words)
}

/// What the rig's file fixes is set in the device; what it cannot be is refused.
pub fn controls() -> Result<String> {
    plug_in()?;
    let device = Video::open(Path::new(WEBCAM))?;
    let with = |controls| V4l2Config {
        controls,
        ..config(WEBCAM, PixelFormat::Yuyv)
    };
    let wanted = Controls {
        brightness: Some(77),
        gain: Some(123),
        ..Controls::default()
    };
    let camera = V4l2Camera::open(with(wanted), spec())?;
    let got = (
        device.get("Brightness")?,
        device.get("Gain, Automatic")?,
        device.get("Gain")?,
    );
    ensure!(got == (77, 0, 123), "the device has {got:?}");
    drop(camera);
    let beyond = Controls {
        brightness: Some(1000),
        ..Controls::default()
    };
    let error = V4l2Camera::open(with(beyond), spec()).err();
    let error = error.context("a brightness beyond its range was taken")?;
    ensure!(matches!(error, V4l2Error::ControlRange { .. }), "{error}");
    Ok(error.to_string())
}

/// Unplugged while it streams, it is missed in time; plugged in again, it is back by itself.
pub fn disconnect_and_recovery() -> Result<String> {
    let mut camera = webcam()?;
    for _ in 0..10 {
        camera.newest()?;
    }
    Video::open(Path::new(WEBCAM))?.set("Disconnect", 1)?;
    let pulled_ns = Monotonic.now_ns();
    let error = loop {
        // Frames that were captured before may come first.
        if let Err(error) = camera.newest() {
            break error;
        }
    };
    let noticed_ns = Monotonic.now_ns() - pulled_ns;
    ensure!(noticed_ns < NOTICED_NS, "it took {noticed_ns} ns to notice");
    let words = error.to_string();
    ensure!(
        words.contains("unplugged") && words.contains("front"),
        "{words}"
    );
    // The driver has let go of it; else the module could not be removed.
    unload("vivid")?;
    for _ in 0..20 {
        ensure!(camera.newest().is_err(), "a frame from nowhere");
        pass_ns(10_000_000);
    }
    plug_in()?;
    let plugged_ns = Monotonic.now_ns();
    let image = loop {
        match camera.newest() {
            Ok(image) => break image,
            Err(_) if Monotonic.now_ns() < plugged_ns + 10_000_000_000 => pass_ns(10_000_000),
            Err(error) => bail!("it does not come back: {error}"),
        };
    };
    ensure!(
        image.captured_ns >= plugged_ns,
        "an old frame after the replug"
    );
    ensure!(camera.counts().reopened == 1, "{:?}", camera.counts());
    Ok(format!(
        "noticed after {:.1} ms, back {:.0} ms after it was plugged in",
        noticed_ns as f64 * 1e-6,
        (Monotonic.now_ns() - plugged_ns) as f64 * 1e-6
    ))
}

/// Frames that the device flags as damaged are counted and not shown, those that it drops are
/// counted as lost.
pub fn damaged_and_lost() -> Result<String> {
    let mut camera = webcam()?;
    let device = Video::open(Path::new(WEBCAM))?;
    device.set("Inject V4L2_BUF_FLAG_ERROR", 1)?;
    for _ in 0..5 {
        camera.newest()?;
    }
    let bad = camera.counts().bad;
    ensure!(bad == 1, "{:?}", camera.counts());
    device.set("Percentage of Dropped Buffers", 50)?;
    for _ in 0..30 {
        // Now and then five in a row are dropped, which is an error of its own.
        let _ = camera.newest();
    }
    let counts = camera.counts();
    ensure!(counts.lost >= 10 && counts.bad == 1, "{counts:?}");
    Ok(format!(
        "{} shown, {} damaged, {} lost",
        counts.shown, counts.bad, counts.lost
    ))
}

/// The list of cameras has its stable name and what it offers.
pub fn listed() -> Result<String> {
    plug_in()?;
    let found = v4l2::list().into_iter().collect::<Result<Vec<_>, _>>()?;
    let webcam = found.iter().find(|found| found.identity.driver == "vivid");
    let webcam = webcam.context("the webcam is not in the list")?;
    ensure!(
        webcam.name == Path::new(WEBCAM),
        "it is called {}",
        webcam.name.display()
    );
    let wanted = config(WEBCAM, PixelFormat::Yuyv).mode();
    let offer = webcam.offers.iter().find(|offer| offer.mode == wanted);
    let offer = offer.with_context(|| format!("{wanted} is not offered"))?;
    let thirty = offer.fps.iter().any(|fps| (fps - 30.0).abs() < 0.1);
    ensure!(thirty, "rates of {wanted}: {:?}", offer.fps);
    Ok(format!(
        "{} with {} modes",
        webcam.name.display(),
        webcam.offers.len()
    ))
}

/// A camera of JPEG frames: a thread that writes one every 33 ms into the loop. Its frames have their
/// number in them: six bars, black or white, the lowest bit first, above a red, a green and a blue
/// field.
struct Feeder {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<Result<()>>>,
}

impl Feeder {
    /// `damaged` says of which numbers only the first half is sent.
    fn start(damaged: fn(u8) -> bool) -> Result<Self> {
        load(
            "v4l2loopback",
            "video_nr=9 exclusive_caps=0 card_label=loop",
        )?;
        wait_for_file(LOOP)?;
        let frames = (0..NUMBERS).map(jpeg).collect::<Result<Vec<_>>>()?;
        let mut video = Video::open(Path::new(LOOP))?;
        video.set_output(b"MJPG", WIDTH, HEIGHT)?;
        // Before there is a frame, the loop refuses readers.
        video.write(&frames[1])?;
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = stop.clone();
        let feed = move || {
            let mut due_ns = Monotonic.now_ns();
            for number in (2..NUMBERS).chain((0..NUMBERS).cycle()) {
                if stopped.load(Ordering::Relaxed) {
                    break;
                }
                due_ns += INTERVAL_NS;
                Monotonic.sleep_until_ns(due_ns);
                let frame = &frames[usize::from(number)];
                let whole = !damaged(number);
                video.write(&frame[..if whole { frame.len() } else { frame.len() / 2 }])?;
            }
            Ok(())
        };
        let thread = thread::Builder::new().name("feeder".into()).spawn(feed)?;
        Ok(Self {
            stop,
            thread: Some(thread),
        })
    }

    /// Ends it; an error if it has ended before.
    fn stop(&mut self) -> Result<()> {
        self.stop.store(true, Ordering::Relaxed);
        let Some(thread) = self.thread.take() else {
            return Ok(());
        };
        thread.join().ok().context("the feeder panicked")?
    }
}

impl Drop for Feeder {
    fn drop(&mut self) {
        // A case that has not asked has failed already.
        let _ = self.stop();
    }
}

fn jpeg(number: u8) -> Result<Vec<u8>> {
    let mut rgb = Vec::with_capacity((WIDTH * HEIGHT * 3) as usize);
    for row in 0..HEIGHT {
        for column in 0..WIDTH {
            rgb.extend_from_slice(&match row < HEIGHT / 2 {
                true => [255 * (number >> (column * BITS / WIDTH) & 1); 3],
                false => FIELDS[(column * 3 / WIDTH) as usize],
            });
        }
    }
    let mut bytes = Vec::new();
    let encoder = JpegEncoder::new_with_quality(&mut bytes, 90);
    encoder.write_image(&rgb, WIDTH, HEIGHT, ExtendedColorType::Rgb8)?;
    Ok(bytes)
}

/// The number in a decoded frame; an error if its fields have other colours.
fn number(image: &Image) -> Result<u8> {
    let column = |part: u32, parts: u32| (2 * part + 1) * image.width / (2 * parts);
    for (i, field) in FIELDS.iter().enumerate() {
        let seen = pixel(image, image.height * 3 / 4, column(i as u32, 3));
        let far = |(seen, wanted): (&i32, &u8)| (seen - i32::from(*wanted)).abs() > 12;
        ensure!(
            !seen.iter().zip(field).any(far),
            "a field is {seen:?}, not {field:?}"
        );
    }
    let mut number = 0;
    for bit in 0..BITS {
        match pixel(image, image.height / 4, column(bit, BITS)) {
            [0..=40, 0..=40, 0..=40] => {}
            [215..=255, 215..=255, 215..=255] => number |= 1 << bit,
            grey => bail!("bar {bit} is {grey:?}"),
        }
    }
    Ok(number)
}

fn loop_camera() -> Result<V4l2Camera> {
    let config = V4l2Config {
        width: WIDTH,
        height: HEIGHT,
        ..config(LOOP, PixelFormat::Mjpeg)
    };
    Ok(V4l2Camera::open(config, spec())?)
}

/// Compressed frames are decoded: colours, and the numbers drawn into them, in order.
pub fn mjpeg() -> Result<String> {
    let mut feeder = Feeder::start(|_| false)?;
    let mut camera = loop_camera()?;
    let mut last = number(&camera.newest()?)?;
    let (frames, mut skipped) = (60, 0);
    for _ in 0..frames {
        let now = number(&camera.newest()?)?;
        let gap = (now + NUMBERS - last) % NUMBERS;
        ensure!(
            (1..10).contains(&gap),
            "frame {now} came after frame {last}"
        );
        skipped += usize::from(gap - 1);
        last = now;
    }
    feeder.stop()?;
    let counts = camera.counts();
    ensure!(counts.bad == 0, "{counts:?}");
    Ok(format!("{frames} frames, {skipped} skipped"))
}

/// A frame of which half is missing is counted and never shown.
pub fn mjpeg_damaged() -> Result<String> {
    let mut feeder = Feeder::start(|number| number % 4 == 0)?;
    let mut camera = loop_camera()?;
    for _ in 0..60 {
        let number = number(&camera.newest()?)?;
        ensure!(number % 4 != 0, "half of frame {number} was shown");
    }
    feeder.stop()?;
    let counts = camera.counts();
    ensure!(counts.bad >= 10, "{counts:?}");
    Ok(format!(
        "{} damaged ones, {} shown",
        counts.bad, counts.shown
    ))
}
