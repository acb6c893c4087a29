//! An unpowered arm at the serial adapter, led by hand.

use anyhow::{Context, Result, ensure};
use hilt_drivers::{
    Teleop,
    bus::Family,
    emulated::desk_arm,
    hands::{
        Leader, LeaderConfig,
        leader::{Clutch, FullStep, TakeOver},
    },
};
use hilt_realtime::{Clock, Monotonic};

use crate::{
    adapter::{self, Servos},
    machine::{pass_ns, wait_for},
};

const STEP: FullStep = FullStep { m: 0.02, rad: 0.1 };
const TURNED: u8 = 1;

/// What the hand does with the leader's first joint is what the follower is told: no jump when it
/// takes over, its way in the end, nothing when it rests, and an error when the plug is pulled.
pub fn led_by_hand() -> Result<String> {
    adapter::fresh()?;
    let mut servos = Servos::start(Family::Sts3215)?;
    let arm = adapter::arm(Family::Sts3215)?;
    let config = LeaderConfig {
        take_over: TakeOver::Motion,
        ..LeaderConfig::default()
    };
    let clutch = Clutch::new(config, STEP);
    let mut leader = Leader::start(Box::new(arm), 0.08, clutch)?;
    let begin = servos
        .look(|bus| bus.servo(TURNED))
        .context("no servo")?
        .counts;
    for _ in 0..20 {
        pass_ns(50_000_000);
        let intent = leader.intent(Monotonic.now_ns())?;
        ensure!(intent.is_none(), "a leader at rest takes over");
    }
    let held = servos.look(|bus| bus.servos().filter(|servo| servo.torque).count());
    ensure!(held == 0, "{held} servos of a leader are under torque");
    // About half a radian a second, as a hand would.
    let (steps, step_counts) = (40, 16.0);
    let mut told_m = [0.0; 3];
    let mut first = None;
    for step in 1..=steps {
        let counts = begin + f64::from(step) * step_counts;
        servos.look(|bus| bus.put(TURNED, counts));
        pass_ns(50_000_000);
        if let Some(intent) = leader.intent(Monotonic.now_ns())? {
            first.get_or_insert(intent.motion[0]);
            for (told, motion) in told_m.iter_mut().zip(intent.motion[0]) {
                *told += motion * STEP.m;
            }
        }
    }
    ensure!(
        first == Some([0.0; 6]),
        "the take-over is a jump: {first:?}"
    );
    // What is left over is told while the hand rests; then it is off.
    wait_for("a leader at rest stays on", || {
        pass_ns(50_000_000);
        let intent = leader.intent(Monotonic.now_ns()).ok()?;
        for (told, motion) in told_m
            .iter_mut()
            .zip(intent.iter().flat_map(|i| i.motion[0]))
        {
            *told += motion * STEP.m;
        }
        intent.is_none().then_some(())
    })?;
    let chain = desk_arm::chain()?;
    let mut joints = desk_arm::home().context("no home")?;
    let before = chain.base_from_tool(joints.as_slice()).translation.vector;
    let turned = f64::from(steps) * step_counts * std::f64::consts::TAU / 4096.0;
    joints.as_mut_slice()[0] += turned;
    let way = chain.base_from_tool(joints.as_slice()).translation.vector - before;
    for (axis, told_m) in told_m.iter().enumerate() {
        // Not all of it: what took over is not made up for.
        let missing_m = (way[axis] - told_m).abs();
        ensure!(
            missing_m < 0.05,
            "axis {axis}: told {told_m} m of {} m",
            way[axis]
        );
    }
    ensure!(way.norm() > 0.1, "the hand has hardly moved: {way:?}");

    adapter::pull()?;
    let error = wait_for("nobody notices", || leader.intent(Monotonic.now_ns()).err())?;
    ensure!(error.to_string().contains("gone"), "{error}");
    servos.pulled();
    Ok(format!(
        "told {told_m:.3?} m of {:.3?} m",
        [way[0], way[1], way[2]]
    ))
}
