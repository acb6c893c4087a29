use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use proptest::prelude::*;

use super::*;
use crate::v4l2::{
    device::{Mode, Range},
    scripted::{MS, Odd, Opened, Scripted},
};
use hilt_realtime::Fake;

/// Grey.
fn frame() -> Vec<u8> {
    vec![128; 64 * 48 * 2]
}

fn config() -> V4l2Config {
    V4l2Config {
        device: "/dev/v4l/by-id/usb-C920-index0".into(),
        width: 64,
        height: 48,
        fps: 30,
        format: Default::default(),
        crop: Default::default(),
        controls: Default::default(),
    }
}

fn spec() -> CameraSpec {
    CameraSpec {
        name: "front".into(),
        height: 16,
        width: 16,
    }
}

fn try_start(device: &Scripted, config: V4l2Config) -> Result<Feed<Opened, Fake>, V4l2Error> {
    Feed::start(config, spec(), device.opener(), device.clock.clone())
}

fn start(device: &Scripted) -> Feed<Opened, Fake> {
    try_start(device, config()).unwrap()
}

fn age_ms(device: &Scripted, image: &Image) -> u64 {
    (device.clock.now_ns() - image.captured_ns) / MS
}

#[test]
fn each_call_waits_for_the_next_frame_and_no_longer() {
    let device = Scripted::new(frame());
    let mut feed = start(&device);
    for _ in 0..10 {
        let before_ns = device.clock.now_ns();
        let image = feed.newest().unwrap();
        assert_eq!(device.clock.now_ns() - before_ns, 33 * MS);
        assert_eq!(age_ms(&device, &image), 5);
    }
    let counts = feed.counts();
    assert_eq!((counts.shown, counts.skipped, counts.lost), (11, 0, 0));
}

#[test]
fn a_slow_reader_gets_the_newest_frame_and_the_others_are_counted() {
    let device = Scripted::new(frame());
    let mut feed = start(&device);
    device.clock.advance_ns(100 * MS);
    let image = feed.newest().unwrap();
    // Three came: 33, 66 and 99 ms later.
    assert_eq!(age_ms(&device, &image), 6);
    let counts = feed.counts();
    assert_eq!((counts.shown, counts.skipped, counts.lost), (2, 2, 0));
    assert!(device.script().held.is_empty(), "all buffers are back");
}

#[test]
fn after_a_pause_frames_that_waited_in_full_buffers_are_not_taken_for_new() {
    let device = Scripted::new(frame());
    let mut feed = start(&device);
    // Four buffers are full after 132 ms; what is in them is old when they are looked at.
    device.clock.advance_ns(5000 * MS);
    let image = feed.newest().unwrap();
    assert_eq!(age_ms(&device, &image), 5);
    let counts = feed.counts();
    assert_eq!((counts.shown, counts.skipped, counts.stale), (2, 3, 1));
    // 5033 ms are 152 frames after the first; five of them were delivered.
    assert_eq!(counts.lost, 152 - 5);
    assert_eq!(counts.reopened, 0);
}

#[test]
fn gaps_in_the_devices_numbers_are_counted() {
    let device = Scripted::new(frame());
    let mut feed = start(&device);
    for lost in [3, 4, 6] {
        device.script().odd.insert(lost, Odd::Lost);
    }
    for _ in 0..5 {
        feed.newest().unwrap();
    }
    assert_eq!(feed.counts().lost, 3);
    // One that counts from the beginning again has lost nothing.
    device.script().sequence = 0;
    feed.newest().unwrap();
    assert_eq!(feed.counts().lost, 3);
}

#[test]
fn damaged_frames_are_counted_and_never_shown() {
    let device = Scripted::new(frame());
    device.script().odd.extend([
        (0, Odd::Short),
        (2, Odd::Flawed),
        (3, Odd::Short),
        (7, Odd::Flawed),
    ]);
    let mut feed = start(&device);
    let mut shown = 1;
    while device.script().sequence < 12 {
        let image = feed.newest().unwrap();
        assert!(image.rgb.iter().all(|byte| *byte == image.rgb[0]));
        shown += 1;
    }
    let counts = feed.counts();
    assert_eq!((counts.shown, counts.bad, counts.lost), (shown, 4, 0));
    assert_eq!(counts.shown + counts.bad, 12, "every frame is counted once");
}

#[test]
fn a_damaged_frame_does_not_hide_a_good_one_that_came_before() {
    let device = Scripted::new(frame());
    device.script().odd.insert(3, Odd::Flawed);
    let mut feed = start(&device);
    // Frames 1, 2 and 3 are there.
    device.clock.advance_ns(100 * MS);
    let image = feed.newest().unwrap();
    assert_eq!(age_ms(&device, &image), 6 + 33);
    let counts = feed.counts();
    assert_eq!((counts.shown, counts.skipped, counts.bad), (2, 1, 1));
}

#[test]
fn nothing_but_damaged_frames_is_an_error_that_says_so() {
    let device = Scripted::new(frame());
    let mut feed = start(&device);
    device.show(vec![0; 10]);
    let before_ns = device.clock.now_ns();
    let why = feed.newest().unwrap_err();
    assert!(
        why.contains("4 damaged ones, the last: 10 bytes of"),
        "{why}"
    );
    assert_eq!(device.clock.now_ns() - before_ns, 150 * MS);
    device.show(frame());
    feed.newest().unwrap();
}

#[test]
fn damaged_frames_that_come_faster_than_they_are_read_do_not_hold_it() {
    let device = Scripted::new(frame());
    let mut feed = start(&device);
    device.show(vec![0; 10]);
    device.script().reading_ns = 40 * MS;
    let before_ns = device.clock.now_ns();
    feed.newest().unwrap_err();
    let took_ms = (device.clock.now_ns() - before_ns) / MS;
    assert!((150..=190).contains(&took_ms), "{took_ms} ms");
}

#[test]
fn silence_is_seen_within_150_ms_of_the_last_frame() {
    let device = Scripted::new(frame());
    let mut feed = start(&device);
    let last_ns = device.clock.now_ns();
    device.script().silent = true;
    // The camera's thread comes back for the next frame a little later.
    device.clock.advance_ns(20 * MS);
    let why = feed.newest().unwrap_err();
    assert!(why.contains("no frame for 150 ms"), "{why}");
    assert_eq!(device.clock.now_ns() - last_ns, 150 * MS);
    // It goes on as if nothing had been, without being opened again.
    device.script().silent = false;
    feed.newest().unwrap();
    assert_eq!(device.script().opened, 1);
}

#[test]
fn a_slow_camera_is_not_taken_for_a_silent_one() {
    let device = Scripted::new(frame());
    device.script().interval_ns = 200 * MS;
    device.script().grants_ns = Some(200 * MS);
    let mut feed = try_start(&device, V4l2Config { fps: 5, ..config() }).unwrap();
    for _ in 0..5 {
        feed.newest().unwrap();
    }
}

#[test]
fn one_that_hangs_is_opened_again() {
    let device = Scripted::new(frame());
    let mut feed = start(&device);
    device.script().silent = true;
    let since_ns = device.clock.now_ns();
    while device.script().opened == 1 {
        feed.newest().unwrap_err();
        device.clock.advance_ns(33 * MS);
    }
    let took_ms = (device.clock.now_ns() - since_ns) / MS;
    assert!((3000..3500).contains(&took_ms), "{took_ms} ms");
    device.script().silent = false;
    feed.newest().unwrap();
    assert_eq!(feed.counts().reopened, 1);
}

#[test]
fn an_unplugged_camera_is_named_at_once_and_back_by_itself() {
    let device = Scripted::new(frame());
    let mut feed = start(&device);
    device.script().plugged = false;
    let before_ns = device.clock.now_ns();
    let why = feed.newest().unwrap_err();
    assert!(
        why.contains("it was unplugged; it is looked for at /dev/v4l/by-id/usb-C920"),
        "{why}"
    );
    assert_eq!(device.clock.now_ns(), before_ns, "nothing is waited for");
    // As its thread does: tried again each 33 ms, the device now and then.
    for _ in 0..300 {
        device.clock.advance_ns(33 * MS);
        let now_ns = device.clock.now_ns();
        feed.newest().unwrap_err();
        assert_eq!(device.clock.now_ns(), now_ns);
    }
    device.script().plugged = true;
    let back_ns = device.clock.now_ns();
    let image = loop {
        match feed.newest() {
            Ok(image) => break image,
            Err(_) => device.clock.advance_ns(33 * MS),
        }
    };
    let took_ms = (device.clock.now_ns() - back_ns) / MS;
    assert!(took_ms < 2200, "{took_ms} ms");
    assert!(image.captured_ns > back_ns);
    let counts = feed.counts();
    assert_eq!((counts.reopened, counts.lost), (1, 0));
    assert_eq!(device.script().opened, 2);
}

#[test]
fn it_is_tried_less_and_less_often() {
    let device = Scripted::new(frame());
    let mut feed = start(&device);
    device.script().plugged = false;
    feed.newest().unwrap_err();
    // Plugged in, but not to be opened: udev has not given it its rights yet, say.
    device.script().plugged = true;
    let tries = Arc::new(AtomicUsize::new(0));
    let (seen, of) = (Arc::clone(&tries), device.clone());
    feed.open = Box::new(move |_: &Path| {
        seen.fetch_add(1, Ordering::Relaxed);
        of.open()
    });
    device.script().opening = Some(Errno::ACCESS);
    let mut at_ms = Vec::new();
    for ms in 1..8000 {
        device.clock.advance_ns(MS);
        feed.newest().unwrap_err();
        if tries.swap(0, Ordering::Relaxed) > 0 {
            at_ms.push(ms);
        }
    }
    assert_eq!(at_ms, [100, 300, 700, 1500, 3100, 5100, 7100]);
}

#[test]
fn another_camera_in_its_place_is_refused_by_name() {
    let device = Scripted::new(frame());
    let mut feed = start(&device);
    device.script().plugged = false;
    feed.newest().unwrap_err();
    device.script().plugged = true;
    device.script().identity.card = "Laptop Camera".into();
    device.clock.advance_ns(150 * MS);
    let why = feed.newest().unwrap_err();
    assert!(why.contains("this is Laptop Camera"), "{why}");
    // The right one, in another socket: its name says that it is the one.
    device.script().identity.card = "HD Pro Webcam C920".into();
    device.script().identity.bus = "usb-0000:00:14.0-5".into();
    device.clock.advance_ns(300 * MS);
    feed.newest().unwrap();
    // `/dev/video0` says no such thing.
    let unstable = V4l2Config {
        device: "/dev/video0".into(),
        ..config()
    };
    let (was, is) = (feed.identity.clone(), device.script().identity.clone());
    assert!(same_camera(&config(), &was, &is).is_ok());
    assert!(same_camera(&unstable, &was, &is).is_err());
    assert!(same_camera(&unstable, &was, &was).is_ok());
}

#[test]
fn times_are_the_kernels_where_they_can_be() {
    let device = Scripted::new(frame());
    let mut feed = start(&device);
    // Another clock: the time when it is taken from the device.
    device.script().stamps = false;
    let image = feed.newest().unwrap();
    assert_eq!(image.captured_ns, device.clock.now_ns());
    assert_eq!((feed.counts().unstamped, feed.counts().misdated), (1, 0));
    // Of the future, as the kernel's test driver gives them.
    device.script().stamps = true;
    device.script().stamped_before_ns = -26_000_000;
    let image = feed.newest().unwrap();
    assert_eq!(image.captured_ns, device.clock.now_ns());
    assert_eq!(feed.counts().misdated, 1);
    // Earlier than the frame before.
    device.script().stamped_before_ns = 60_000_000;
    let next = feed.newest().unwrap();
    assert_eq!(next.captured_ns, image.captured_ns);
    assert_eq!(feed.counts().misdated, 2);
}

#[test]
fn one_that_never_gives_a_frame_is_refused_at_the_start() {
    let device = Scripted::new(frame());
    device.script().silent = true;
    let before_ns = device.clock.now_ns();
    let error = try_start(&device, config()).unwrap_err();
    assert!(error.to_string().contains("no frame yet"), "{error}");
    let took_ms = (device.clock.now_ns() - before_ns) / MS;
    assert!((5000..5300).contains(&took_ms), "{took_ms} ms");
}

#[test]
fn one_that_needs_a_while_for_its_first_frame_is_waited_for() {
    let device = Scripted::new(frame());
    for sequence in 0..60 {
        device.script().odd.insert(sequence, Odd::Flawed);
    }
    let feed = start(&device);
    assert_eq!((feed.counts().bad, feed.counts().shown), (60, 1));
}

#[test]
fn a_device_that_is_not_there_is_named_with_the_remedy() {
    let device = Scripted::new(frame());
    device.script().plugged = false;
    let error = try_start(&device, config()).unwrap_err().to_string();
    assert!(error.contains("usb-C920-index0"), "{error}");
    assert!(error.contains("hilt find-cameras"), "{error}");
    device.script().plugged = true;
    device.script().opening = Some(Errno::ACCESS);
    let error = try_start(&device, config()).unwrap_err().to_string();
    assert!(error.contains("group `video`"), "{error}");
}

#[test]
fn what_the_device_made_of_a_wish_is_checked() {
    let refused = |change: &dyn Fn(&Scripted), config| {
        let device = Scripted::new(frame());
        change(&device);
        try_start(&device, config).unwrap_err().to_string()
    };
    let mjpeg = || V4l2Config {
        format: crate::v4l2::PixelFormat::Mjpeg,
        ..config()
    };
    let yuyv = config().mode();
    let said = refused(&|d| d.script().grants = Some(yuyv), mjpeg());
    assert!(
        said.contains("asked for 64x48 MJPG, it gives 64x48 YUYV"),
        "{said}"
    );
    let small = Mode { width: 32, ..yuyv };
    let said = refused(&|d| d.script().grants = Some(small), config());
    assert!(
        said.contains("asked for 64x48 YUYV, it gives 32x48 YUYV"),
        "{said}"
    );
    let said = refused(&|d| d.script().progressive = false, config());
    assert!(said.contains("in two fields"), "{said}");
    let said = refused(&|d| d.script().grants_ns = Some(66_666_666), config());
    assert!(
        said.contains("asked for 30 frames/s at 64x48 YUYV, it gives 15.00"),
        "{said}"
    );
    let said = refused(&|d| d.script().identity.captures = false, config());
    assert!(said.contains("captures no video"), "{said}");
    let outside = crate::v4l2::Crop::Rectangle(crate::v4l2::Rectangle {
        x: 60,
        y: 0,
        width: 8,
        height: 8,
    });
    let cut = V4l2Config {
        crop: outside,
        ..config()
    };
    let said = refused(&|_| (), cut);
    assert!(
        said.contains("is no part of a frame of 64x48 YUYV"),
        "{said}"
    );
    // 29.97 is what many cameras mean by 30.
    let device = Scripted::new(frame());
    device.script().grants_ns = Some(33_366_700);
    assert!(
        try_start(&device, config())
            .unwrap()
            .granted()
            .unwrap()
            .interval_known
    );
}

#[test]
fn controls_are_set_checked_and_set_again_after_a_replug() {
    const AUTO: u32 = 0x009a_0901;
    const EXPOSURE: u32 = 0x009a_0902;
    const GAIN: u32 = 0x0098_0913;
    let range = |min, max, step| Range { min, max, step };
    let mut wanted = config();
    wanted.controls.exposure_us = Some(10_000);
    wanted.controls.gain = Some(20);
    let with = |change: &dyn Fn(&Scripted)| {
        let device = Scripted::new(frame());
        device.script().controls.extend([
            (AUTO, (range(0, 3, 1), 3)),
            (EXPOSURE, (range(3, 2047, 1), 250)),
            (GAIN, (range(0, 255, 1), 0)),
        ]);
        change(&device);
        (device.clone(), try_start(&device, wanted.clone()))
    };
    let values = |device: &Scripted| {
        let script = device.script();
        [AUTO, EXPOSURE, GAIN].map(|id| script.controls[&id].1)
    };
    let (device, feed) = with(&|_| ());
    let mut feed = feed.unwrap();
    // Manual; 10 ms in units of 100 µs; there is no automatic gain to be turned off.
    assert_eq!(values(&device), [1, 100, 20]);
    device.script().plugged = false;
    feed.newest().unwrap_err();
    device.script().plugged = true;
    for id in [AUTO, EXPOSURE, GAIN] {
        device.script().controls.get_mut(&id).unwrap().1 = 3;
    }
    device.clock.advance_ns(150 * MS);
    feed.newest().unwrap();
    assert_eq!(values(&device), [1, 100, 20]);

    let said = |change: &dyn Fn(&Scripted)| with(change).1.unwrap_err().to_string();
    let missing = said(&|d| {
        d.script().controls.remove(&GAIN);
    });
    assert!(missing.contains("it has no control `gain`"), "{missing}");
    let high = said(&|d| {
        d.script().controls.insert(GAIN, (range(0, 16, 1), 0));
    });
    assert!(
        high.contains("`gain` cannot be 20: it goes from 0 to 16"),
        "{high}"
    );
    let long = said(&|d| {
        d.script().controls.insert(EXPOSURE, (range(3, 50, 1), 3));
    });
    assert!(
        long.contains("`exposure_us / 100` cannot be 100: it goes from 3 to 50"),
        "{long}"
    );
    let steps = said(&|d| {
        d.script().controls.insert(GAIN, (range(0, 255, 16), 0));
    });
    assert!(steps.contains("in steps of 16"), "{steps}");
    let ignored = said(&|d| d.script().stubborn = true);
    assert!(
        ignored.contains("`automatic exposure` was set to 1 and is 3"),
        "{ignored}"
    );
}

#[test]
fn a_number_is_no_name() {
    for (name, stable) in [
        ("/dev/video0", false),
        ("/dev/video12", false),
        ("/dev/v4l/by-id/usb-046d_C920-video-index0", true),
        ("/dev/wrist", true),
        ("/dev/video", true),
    ] {
        assert_eq!(is_stable(Path::new(name)), stable, "{name}");
    }
}

/// The suite wants a camera, not a feed.
struct Eye(Feed<Opened, Fake>);

impl crate::Camera for Eye {
    fn spec(&self) -> &CameraSpec {
        self.0.spec()
    }

    fn newest(&mut self) -> Result<Image, crate::CameraError> {
        let name = self.spec().name.clone();
        let newest = self.0.newest();
        newest.map_err(|reason| crate::CameraError::NoFrame { name, reason })
    }
}

#[test]
fn it_conforms_also_where_stamps_are_odd() {
    for (stamps, before_ns) in [(true, 5_000_000), (true, -26_000_000), (false, 0)] {
        let device = Scripted::new(frame());
        device.script().stamps = stamps;
        device.script().stamped_before_ns = before_ns;
        let mut eye = Eye(start(&device));
        let pass_ns = |duration_ns| {
            device.clock.advance_ns(duration_ns);
            device.clock.now_ns()
        };
        crate::conformance::camera(&mut eye, pass_ns).unwrap();
    }
}

/// What happens to a camera.
#[derive(Clone, Copy, Debug)]
enum Event {
    Newest,
    Pass { ms: u64 },
    Odd { ahead: u32, odd: Odd },
    Plugged(bool),
    Silent(bool),
    Stamps { before_ms: i64 },
}

fn events() -> impl Strategy<Value = Vec<Event>> {
    let odd = prop_oneof![Just(Odd::Flawed), Just(Odd::Short), Just(Odd::Lost)];
    let event = prop_oneof![
        8 => Just(Event::Newest),
        3 => (0_u64..700).prop_map(|ms| Event::Pass { ms }),
        3 => (0_u32..8, odd).prop_map(|(ahead, odd)| Event::Odd { ahead, odd }),
        1 => any::<bool>().prop_map(Event::Plugged),
        1 => any::<bool>().prop_map(Event::Silent),
        1 => (-50_i64..50).prop_map(|before_ms| Event::Stamps { before_ms }),
    ];
    prop::collection::vec(event, 1..80)
}

proptest! {
    /// Whatever happens: no call waits too long, no image is old or older than the one before, every
    /// frame is counted once, and every buffer goes back.
    #[test]
    fn whatever_happens_the_newest_frame_is_new_and_every_frame_is_counted(events in events()) {
        let device = Scripted::new(frame());
        let mut feed = start(&device);
        let mut last_ns = 0;
        for event in events {
            match event {
                Event::Newest => {}
                Event::Pass { ms } => device.clock.advance_ns(ms * MS),
                Event::Odd { ahead, odd } => {
                    let mut script = device.script();
                    let sequence = script.sequence + ahead;
                    script.odd.insert(sequence, odd);
                }
                Event::Plugged(plugged) => device.script().plugged = plugged,
                Event::Silent(silent) => device.script().silent = silent,
                Event::Stamps { before_ms } => {
                    device.script().stamped_before_ns = before_ms * MS as i64;
                }
            }
            if !matches!(event, Event::Newest) {
                continue;
            }
            let before_ns = device.clock.now_ns();
            let newest = feed.newest();
            let now_ns = device.clock.now_ns();
            prop_assert!(now_ns - before_ns <= SILENT_NS, "{} ns", now_ns - before_ns);
            if let Ok(image) = newest {
                prop_assert!((last_ns..=now_ns).contains(&image.captured_ns));
                // A buffer's worth of damaged ones may have come after it.
                let age_ms = (now_ns - image.captured_ns) / MS;
                prop_assert!(age_ms <= 50 + 4 * 33, "{age_ms} ms");
                prop_assert_eq!(image.rgb.len(), 16 * 16 * 3);
                prop_assert!(device.script().held.is_empty());
                last_ns = image.captured_ns;
            }
            let counts = feed.counts();
            let counted = counts.shown + counts.skipped + counts.stale + counts.bad;
            prop_assert_eq!(counted, device.script().delivered, "{:?}", counts);
        }
    }
}
