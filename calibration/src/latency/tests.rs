use hilt_protocol::noise::{Uniforms, mix};
use hilt_sim::ArmKind;

use super::*;
use crate::{picture::Gray, synthetic::middle};

const WIDTH: u32 = 160;
const HEIGHT: u32 = 120;

/// What the camera sees of the joint.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Sees {
    /// A textured hand before a textured table, so many pixels to a radian.
    Hand(f64),
    /// The whole room goes by: the camera rides along.
    Room(f64),
    /// A bar that swings through the picture's middle: either side looks alike.
    Bar(f64),
    /// Someone who walks by, and not the arm.
    Other,
    /// The cap.
    Nothing,
}

/// Smooth, random, the same for a seed.
fn texture(seed: u64, x: f64, y: f64) -> f64 {
    let lattice = |i: i64, j: i64| {
        let bits =
            mix(seed ^ (i as u64).wrapping_mul(0x9e37) ^ (j as u64).wrapping_mul(0x85eb_ca6b));
        (bits >> 40) as f64 / (1u64 << 24) as f64
    };
    let (x, y) = (x / 9.0, y / 9.0);
    let (i, j) = (x.floor() as i64, y.floor() as i64);
    let (u, v) = (x - x.floor(), y - y.floor());
    let mix = |a: f64, b: f64, at: f64| a + (b - a) * at * at * (3.0 - 2.0 * at);
    let upper = mix(lattice(i, j), lattice(i + 1, j), u);
    let lower = mix(lattice(i, j + 1), lattice(i + 1, j + 1), u);
    40.0 + 160.0 * mix(upper, lower, v)
}

fn picture(sees: Sees, position_rad: f64, time_s: f64, uniforms: &mut Uniforms) -> Gray {
    // A lamp on the mains, and a cloud.
    let light = 1.0 + 0.05 * (time_s * 37.0).sin() + 0.15 * (time_s * 0.4).sin();
    let mut pixels = Vec::with_capacity((WIDTH * HEIGHT) as usize);
    for y in 0..HEIGHT {
        for x in 0..WIDTH {
            let (x, y) = (f64::from(x), f64::from(y));
            let gray = match sees {
                Sees::Hand(px) => {
                    let (left, top) = (65.0 + px * position_rad, 40.0 + 0.3 * px * position_rad);
                    let inside = (left..left + 30.0).contains(&x) && (top..top + 35.0).contains(&y);
                    match inside {
                        true => texture(7, x - left, y - top),
                        false => texture(8, x, y),
                    }
                }
                Sees::Room(px) => texture(8, x + px * position_rad, y),
                Sees::Bar(px) => {
                    let away = (x - 80.0 - px * position_rad).abs();
                    if away < 6.0 { 200.0 } else { 60.0 }
                }
                Sees::Other => texture(8, x + 10.0 * (time_s * 2.2).sin(), y),
                Sees::Nothing => 2.0,
            };
            let noise = if sees == Sees::Nothing { 0.6 } else { 4.0 };
            pixels.push(
                (gray * light + noise * uniforms.normal())
                    .round()
                    .clamp(0.0, 255.0) as u8,
            );
        }
    }
    Gray::new(WIDTH, HEIGHT, pixels).unwrap()
}

fn sweep() -> Sweep {
    Sweep {
        joint: 0,
        amplitude_rad: 0.12,
        from_hz: 0.4,
        to_hz: 1.4,
        swing_s: 6.0,
        rest_s: 1.0,
    }
}

const START_NS: u64 = 5_000_000_000;

/// The joint as its servo reports it, a hundred times a second, in whole counts.
fn joint(swing: &dyn Fn(f64) -> f64) -> Vec<JointSample> {
    let count = std::f64::consts::TAU / 4096.0;
    let samples = (0..800u64).map(|i| JointSample {
        captured_ns: START_NS + i * 10_000_000,
        position_rad: 0.4 + (swing(i as f64 * 0.01) / count).round() * count,
    });
    samples.collect()
}

/// Thirty frames a second, a little unsteady, stamped late.
fn frames(sees: Sees, swing: &dyn Fn(f64) -> f64, delay_ms: f64, seed: u64) -> Vec<Frame> {
    let mut uniforms = Uniforms::new(mix(seed));
    let frames = (0..230).map(|i| {
        let time_s = 0.2 + f64::from(i) / 30.0 + uniforms.range(-0.001, 0.001);
        let picture = picture(sees, swing(time_s), time_s, &mut uniforms);
        let stamped_ns = START_NS + ((time_s + delay_ms * 1e-3) * 1e9) as u64;
        Frame::new(stamped_ns, &picture)
    });
    frames.collect()
}

fn found(sees: Sees, delay_ms: f64, seed: u64) -> Result<Latency, LatencyError> {
    let swing = |t| sweep().offset_rad(t);
    estimate(&joint(&swing), &frames(sees, &swing, delay_ms, seed))
}

#[test]
fn delays_are_found_to_three_milliseconds_at_thirty_frames_a_second() {
    let delays = [0.0, 12.0, 33.0, 47.5, 80.0, 120.0, 200.0];
    let scenes = [
        Sees::Hand(60.0),
        Sees::Hand(250.0),
        Sees::Room(400.0),
        Sees::Bar(150.0),
    ];
    for (seed, delay_ms) in (0u64..).zip(delays) {
        let sees = scenes[seed as usize % scenes.len()];
        let found = found(sees, delay_ms, seed).unwrap();
        let off_ms = found.delay_ms - delay_ms;
        let what = format!(
            "{sees:?} {delay_ms}: {off_ms} ± {} of {}",
            found.spread_ms, found.quality
        );
        assert!(off_ms.abs() < 3.0, "{what}");
        assert!(
            off_ms.abs() < 4.0 * found.spread_ms + 0.5 && found.spread_ms < 3.0,
            "{what}"
        );
        assert!(found.quality > 0.8, "{what}");
    }
}

#[test]
fn the_spread_is_that_of_the_error() {
    let mut sum = 0.0;
    const SEEDS: u64 = 8;
    for seed in 0..SEEDS {
        // A motion of few pixels, so that noise matters.
        let found = found(Sees::Hand(5.0), 60.0, 100 + seed).unwrap();
        sum += ((found.delay_ms - 60.0) / found.spread_ms).powi(2) / SEEDS as f64;
    }
    assert!((0.2..3.0).contains(&sum), "{sum}");
}

#[test]
fn what_the_pictures_show_lies_on_the_joint_once_it_is_earlier() {
    let found = found(Sees::Hand(150.0), 90.0, 1).unwrap();
    let far = found.seen.iter().map(|seen| {
        let time_s = (seen.captured_ns - START_NS) as f64 * 1e-9 - found.delay_ms * 1e-3;
        (seen.position_rad - 0.4 - sweep().offset_rad(time_s)).powi(2)
    });
    let rms = (far.sum::<f64>() / found.seen.len() as f64).sqrt();
    assert!(rms < 0.015, "{rms}");
}

#[test]
fn pictures_that_do_not_show_the_swing_are_refused() {
    let error = found(Sees::Other, 50.0, 1).unwrap_err();
    assert!(matches!(error, LatencyError::NotSeen { .. }), "{error}");
    assert!(
        error.to_string().contains("point the camera at the arm"),
        "{error}"
    );
    assert_eq!(found(Sees::Nothing, 50.0, 1), Err(LatencyError::Dark));
    let swing = |t| sweep().offset_rad(t);
    let mut same = frames(Sees::Hand(100.0), &swing, 20.0, 1);
    let first = picture(Sees::Hand(100.0), 0.0, 0.0, &mut Uniforms::new(0));
    for frame in &mut same {
        *frame = Frame::new(frame.stamped_ns, &first);
    }
    assert_eq!(estimate(&joint(&swing), &same), Err(LatencyError::Frozen));
}

#[test]
fn pictures_that_grow_brighter_and_no_more_are_refused() {
    let swing = |t| sweep().offset_rad(t);
    // The first sums up without rounding, the second does not.
    let halves = |x: u32, _: u32| if x < WIDTH / 2 { 60u8 } else { 160 };
    let grain = |x: u32, y: u32| texture(8, f64::from(x), f64::from(y)) as u8;
    for gray in [&halves as &dyn Fn(u32, u32) -> u8, &grain] {
        let mut brighter = frames(Sees::Nothing, &swing, 20.0, 1);
        for (i, frame) in brighter.iter_mut().enumerate() {
            let light = (i % 40) as u8;
            let pixels = (0..HEIGHT).flat_map(|y| (0..WIDTH).map(move |x| gray(x, y) + light));
            let picture = Gray::new(WIDTH, HEIGHT, pixels.collect()).unwrap();
            *frame = Frame::new(frame.stamped_ns, &picture);
        }
        assert_eq!(
            estimate(&joint(&swing), &brighter),
            Err(LatencyError::NotSeen { quality: 0.0 })
        );
    }
}

#[test]
fn a_swing_that_repeats_itself_is_ambiguous() {
    let swing = |t: f64| 0.12 * (t * std::f64::consts::TAU * 2.0).sin();
    let error = estimate(&joint(&swing), &frames(Sees::Hand(150.0), &swing, 100.0, 1)).unwrap_err();
    assert!(matches!(error, LatencyError::Ambiguous { .. }), "{error}");
}

#[test]
fn what_cannot_be_used_is_named() {
    let swing = |t| sweep().offset_rad(t);
    let (joint, frames) = (joint(&swing), frames(Sees::Hand(100.0), &swing, 30.0, 1));
    let error = estimate(&joint, &frames[..70]).unwrap_err();
    // The first ones come too soon after the joint's first position.
    assert!(
        matches!(error, LatencyError::TooShort { frames: 50..60, .. }),
        "{error:?}"
    );
    assert!(matches!(
        estimate(&[], &frames),
        Err(LatencyError::TooShort { frames: 0, .. })
    ));
    let mut back = frames.clone();
    back.swap(40, 41);
    assert_eq!(
        estimate(&joint, &back),
        Err(LatencyError::FrameStamps { frame: 42 })
    );
    let mut twice = joint.clone();
    twice[7] = twice[6];
    assert_eq!(
        estimate(&twice, &frames),
        Err(LatencyError::JointStamps { sample: 8 })
    );
    let mut none = joint.clone();
    none[3].position_rad = f64::NAN;
    assert_eq!(
        estimate(&none, &frames),
        Err(LatencyError::JointValue { sample: 4 })
    );
    let still: Vec<JointSample> = joint
        .iter()
        .map(|s| JointSample {
            position_rad: 0.1,
            ..*s
        })
        .collect();
    assert!(matches!(
        estimate(&still, &frames),
        Err(LatencyError::Still { .. })
    ));
    let mut other = frames.clone();
    for frame in &mut other {
        frame.stamped_ns += 3_600_000_000_000;
    }
    let error = estimate(&joint, &other).unwrap_err();
    assert!(error.to_string().contains("by another clock"), "{error}");
    let mut early = frames.clone();
    for frame in &mut early {
        frame.stamped_ns -= 80_000_000;
    }
    let error = estimate(&joint, &early).unwrap_err();
    assert!(
        matches!(error, LatencyError::Early { early_ms } if (early_ms - 50.0).abs() < 3.0),
        "{error}"
    );
}

#[test]
fn a_sweep_moves_the_hand_and_stays_within_what_is_allowed() {
    for arm in [ArmKind::Desk6, ArmKind::So101, ArmKind::Koch] {
        let chain = hilt_sim::chain(arm).unwrap();
        let start = middle(&chain);
        let sweep = sweep::plan(&chain, &start, 0.04, 1.5, -9.0).unwrap();
        let home = chain.base_from_tool(start.as_slice());
        let (mut farthest, mut fastest, mut before) = (0.0f64, 0.0f64, 0.0);
        let steps = (sweep.length_s() / 0.001) as usize;
        for step in 0..=steps {
            let offset = sweep.offset_rad(step as f64 * 0.001);
            fastest = fastest.max((offset - before).abs() / 0.001);
            before = offset;
            let mut joints = start;
            joints.as_mut_slice()[sweep.joint] += offset;
            let pose = chain.base_from_tool(joints.as_slice());
            farthest = farthest.max((pose.translation.vector - home.translation.vector).norm());
        }
        assert!(
            (0.015..=0.041).contains(&farthest),
            "{arm:?} {sweep:?}: {farthest}"
        );
        assert!(fastest <= 1.6, "{arm:?} {sweep:?}: {fastest}");
        assert_eq!((sweep.offset_rad(0.5), sweep.offset_rad(9.5)), (0.0, 0.0));
        let mut limit = start;
        for (q, joint) in limit.as_mut_slice().iter_mut().zip(chain.joints()) {
            *q = joint.upper;
        }
        assert_eq!(
            sweep::plan(&chain, &limit, 0.04, 1.5, -9.0),
            Err(SweepError::NoRoom { lowest_m: -9.0 })
        );
        limit.as_mut_slice()[0] += 1.0;
        assert_eq!(
            sweep::plan(&chain, &limit, 0.04, 1.5, -9.0),
            Err(SweepError::Start)
        );
    }
}

#[test]
fn a_sweep_does_not_bring_the_hand_too_low() {
    for arm in [ArmKind::So101, ArmKind::Koch] {
        let chain = hilt_sim::chain(arm).unwrap();
        let mut start = middle(&chain);
        let home_m = chain.base_from_tool(start.as_slice()).translation.z;
        let lowest = |sweep: &Sweep| {
            let heights = (-10..=10).map(|part| {
                let mut joints = start;
                joints.as_mut_slice()[sweep.joint] += 0.1 * f64::from(part) * sweep.amplitude_rad;
                chain.base_from_tool(joints.as_slice()).translation.z
            });
            heights.fold(f64::INFINITY, f64::min)
        };
        let plan = |start: &_, lowest_m| sweep::plan(&chain, start, 0.04, 1.5, lowest_m);
        // The joint that moves it most moves it down.
        let free = plan(&start, -9.0).unwrap();
        assert!(lowest(&free) < home_m - 0.03, "{arm:?} {free:?}");
        // A hand that is too low already stays where it is.
        for lowest_m in [home_m - 0.005, home_m, home_m + 0.1] {
            let sweep = plan(&start, lowest_m).unwrap();
            let floor_m = home_m.min(lowest_m) - 1e-4;
            assert!(lowest(&sweep) > floor_m, "{arm:?} {lowest_m} {sweep:?}");
        }
        // The joints that keep its height are at their limits.
        for joint in [0, 4] {
            start.as_mut_slice()[joint] = chain.joints()[joint].upper;
        }
        assert!(plan(&start, -9.0).is_ok());
        let error = plan(&start, 9.0).unwrap_err();
        assert_eq!(error, SweepError::NoRoom { lowest_m: 9.0 });
        assert!(
            error.to_string().contains("move the hand higher"),
            "{error}"
        );
    }
}
