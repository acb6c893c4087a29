//! How late a camera's frames are.

use hilt_calibration::latency::{Frame, JointSample, Latency, estimate, sweep};
use hilt_sim::SceneCamera;

use crate::stage::{FRONT, Stage, WRIST, so101, so101_board};

/// How often the joint is commanded and read: two steps of the physics.
const STEP_NS: u64 = 8_000_000;
/// A frame each so many steps.
const STEPS_PER_FRAME: u64 = 5;

/// What a swing shows to a camera of the SO-101's scene that is so late.
fn measured(camera: usize, latency_ms: f64) -> Latency {
    let mut scene = so101();
    // Small, so that 250 of its pictures are soon drawn.
    scene.cameras[camera] = SceneCamera {
        width: 96,
        height: 72,
        lens: None,
        fovy_deg: Some(50.0),
        latency_ms,
        ..scene.cameras[camera].clone()
    };
    let mut stage = Stage::new(&scene, so101_board());
    let chain = stage.simulation.chain().clone();
    let start = stage.simulation.arm_state().q;
    let sweep = sweep::plan(&chain, &start, 0.05, 2.0, 0.03).unwrap();
    let (mut joint, mut frames) = (Vec::new(), Vec::new());
    let steps = (sweep.length_s() * 1e9) as u64 / STEP_NS;
    for step in 0..steps {
        let now_ns = stage.simulation.time_ns();
        joint.push(JointSample {
            captured_ns: now_ns,
            position_rad: stage.simulation.arm_state().q.as_slice()[sweep.joint],
        });
        if step % STEPS_PER_FRAME == 0 {
            frames.push(Frame::new(now_ns, &stage.picture(camera)));
        }
        let mut goal = start;
        goal.as_mut_slice()[sweep.joint] += sweep.offset_rad((step * STEP_NS) as f64 * 1e-9);
        (stage.simulation.set_command(goal.as_slice(), false)).unwrap();
        stage.simulation.advance_ns(STEP_NS);
    }
    estimate(&joint, &frames).unwrap()
}

#[test]
fn it_is_found_to_a_few_milliseconds() {
    for (camera, latency_ms) in [(FRONT, 45.0), (WRIST, 70.0), (FRONT, 0.0), (WRIST, 213.0)] {
        let found = measured(camera, latency_ms);
        let off_ms = found.delay_ms - latency_ms;
        println!(
            "{latency_ms} ms: {off_ms:+.2} ms off, ± {:.2} ms, quality {:.3}",
            found.spread_ms, found.quality
        );
        assert!(off_ms.abs() < 1.0, "{latency_ms} ms: {found:?}");
    }
}
