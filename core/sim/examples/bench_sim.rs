//! Simulated policy steps per second on one core: 10 Hz steps of 2 ms physics, each with frames of
//! two 128×128 cameras. Prints one JSON line.

use std::{error::Error, time::Instant};

use hilt_sim::{ArmKind, SceneConfig, Simulation, Task};
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

/// gym-hil's simulated Panda with its shadows turned off, on the same kind of CPU.
const PEER_STEPS_PER_S: f64 = 21.0;
const TASK: Task = ArmKind::Desk6.task();
const STEP_NS: u64 = 100_000_000;
const STEPS: u32 = 600;

fn main() -> Result<(), Box<dyn Error>> {
    // Before the renderer exists, so that its worker threads stay on this core as well.
    let allowed = sched_getaffinity(None)?;
    let core = (0..CpuSet::MAX_CPU).find(|&cpu| allowed.is_set(cpu));
    let mut one = CpuSet::new();
    one.set(core.ok_or("no core is allowed")?);
    sched_setaffinity(None, &one)?;

    let mut config = SceneConfig {
        timestep_s: 0.002,
        ..SceneConfig::default()
    };
    for camera in &mut config.cameras {
        (camera.width, camera.height) = (128, 128);
    }
    let mut simulation = Simulation::new(&config)?;
    let mut rgb = vec![0; 128 * 128 * 3];
    let mut step = |simulation: &mut Simulation, i: u32| -> Result<(), Box<dyn Error>> {
        if i.is_multiple_of(30) {
            simulation.reset(&TASK.random_start(0.2, u64::from(i)))?;
        }
        let mut joints = simulation.arm_state().q;
        joints.as_mut_slice()[0] += 0.03 * f64::from(i).sin();
        joints.as_mut_slice()[1] += 0.01;
        simulation.set_command(joints.as_slice(), i % 30 > 20)?;
        simulation.advance_ns(STEP_NS);
        for camera in 0..config.cameras.len() {
            simulation.render(camera, &mut rgb)?;
        }
        Ok(())
    };
    for i in 0..30 {
        step(&mut simulation, i)?;
    }
    let started = Instant::now();
    for i in 0..STEPS {
        step(&mut simulation, i)?;
    }
    let value = f64::from(STEPS) / started.elapsed().as_secs_f64();
    let row = serde_json::json!({
        "name": "sim.steps_per_s",
        "value": value,
        "unit": "1/s",
        "peer": "gym-hil without shadows (cited)",
        "peer_value": PEER_STEPS_PER_S,
        "ratio": value / PEER_STEPS_PER_S,
    });
    println!("{row}");
    Ok(())
}
