//! The physics thread and its handles.

use std::time::Duration;

use hilt_sim::{ArmKind, SceneConfig, SimError, SimThread, Start, Task};

const TASK: Task = ArmKind::Desk6.task();

fn blind() -> SceneConfig {
    SceneConfig {
        cameras: Vec::new(),
        ..SceneConfig::default()
    }
}

#[test]
fn in_lockstep_time_stands_still_between_advances() {
    let sim = SimThread::spawn(blind()).unwrap();
    sim.reset(TASK.random_start(0.2, 1)).unwrap();
    assert_eq!(sim.state().unwrap().time_ns, 0);
    std::thread::sleep(Duration::from_millis(20));
    assert_eq!(sim.state().unwrap().time_ns, 0);
    assert_eq!(sim.advance_ns(100_000_000).unwrap(), 100_000_000);
    let mut q = sim.state().unwrap().q;
    assert_eq!(q.as_slice().len(), sim.chain().dof());
    q.as_mut_slice()[0] += 0.1;
    sim.command(q.as_slice(), true).unwrap();
    assert!(sim.truth().unwrap().gripper_closed_command);
    sim.advance_ns(500_000_000).unwrap();
    let state = sim.state().unwrap();
    assert!(
        (state.q.as_slice()[0] - q.as_slice()[0]).abs() < 5e-3,
        "{state:?}"
    );
    assert!(state.gripper_width_m < 0.01);
}

#[test]
fn frames_of_all_cameras_carry_the_time() {
    let sim = SimThread::spawn(SceneConfig::default()).unwrap();
    sim.advance_ns(40_000_000).unwrap();
    let frames = [0, 1].map(|camera| sim.render(camera).unwrap());
    assert!(sim.render(2).is_err());
    for frame in &frames {
        assert_eq!(
            (frame.captured_ns, frame.height, frame.width),
            (40_000_000, 64, 64)
        );
        assert_eq!(frame.rgb.len(), 64 * 64 * 3);
    }
    assert_ne!(frames[0].rgb, frames[1].rgb);
    // The cube moves in the picture.
    let moved = Start {
        cube_xy_m: [TASK.centre_xy_m[0] + 0.05, 0.05],
        ..TASK.start()
    };
    sim.reset(moved).unwrap();
    assert_ne!(sim.render(0).unwrap().rgb, frames[0].rgb);
}

#[test]
fn in_real_time_it_advances_while_it_serves() {
    let sim = SimThread::spawn(blind()).unwrap();
    let started = std::time::Instant::now();
    sim.run_realtime(true).unwrap();
    let mut last = 0;
    let mut rises = 0;
    // Bounded by steps, not by time: a loaded machine is only slower.
    for _ in 0..10_000 {
        let now = sim.state().unwrap().time_ns;
        assert!(now >= last);
        rises += usize::from(now > last);
        last = now;
        if rises > 20 {
            break;
        }
        std::thread::sleep(Duration::from_micros(500));
    }
    assert!(rises > 20, "{rises}");
    // Never ahead of the clock.
    assert!(u128::from(last) <= started.elapsed().as_nanos());
    sim.run_realtime(false).unwrap();
    let stopped = sim.state().unwrap().time_ns;
    std::thread::sleep(Duration::from_millis(10));
    assert_eq!(sim.state().unwrap().time_ns, stopped);
}

#[test]
fn a_live_frame_says_when_it_was() {
    let sim = SimThread::spawn(SceneConfig::default()).unwrap();
    let started = std::time::Instant::now();
    sim.run_realtime(true).unwrap();
    let mut last = started;
    for i in 0..6 {
        let (image, seen) = sim.render_live(i % 2).unwrap();
        assert!(last <= seen && seen <= std::time::Instant::now());
        // What it shows is not younger than it says.
        assert!(u128::from(image.captured_ns) <= (seen - started).as_nanos());
        last = seen;
    }
}

#[test]
fn a_scene_that_cannot_be_built_is_refused_by_name() {
    let mut config = blind();
    config.timestep_s = 1.0;
    let error = SimThread::spawn(config)
        .err()
        .map(|e| e.to_string())
        .unwrap();
    assert!(error.contains("timestep_s"), "{error}");
}

#[test]
fn errors_come_back_through_the_handle() {
    let sim = SimThread::spawn(blind()).unwrap();
    assert!(matches!(
        sim.command(&[0.0; 2], false),
        Err(SimError::Command { .. })
    ));
    let far = Start {
        cube_xy_m: [9.0, 0.0],
        ..TASK.start()
    };
    assert!(matches!(sim.reset(far), Err(SimError::Start(_))));
    // The thread goes on.
    assert!(sim.state().is_ok());
}
