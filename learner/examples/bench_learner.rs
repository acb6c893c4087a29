//! Updates per second of the algorithms. Rows are JSON lines on stdout.
//!
//! - On state vectors, one thread, batch 256, 17 numbers of observation and 6 of action (HalfCheetah's).
//!   Beside each row the load of the machine and the updates per second of processor time go to stderr.
//! - `sac-grasp` at batch 256 with two 128×128 cameras as ResNet-10 maps of 4×4×512 — the frozen encoder has
//!   been paid at insertion —, on this machine's cores. The demo's narrow maps (4×4×64) go to stderr.

use std::time::Instant;

use hilt_learner::agents::{
    Agent, Transitions,
    awac::Awac,
    bc::Bc,
    cql::Cql,
    draws::Seeded,
    iql::Iql,
    redq::{Redq, RedqConfig},
    rlpd::{Rlpd, RlpdConfig},
    sac::Sac,
    sac_grasp::{GripperHead, SacGrasp, SacGraspConfig, SeededNoise, Shapes, Update},
    sight::{Sight, SightTransitions},
    td3_bc::Td3Bc,
};
use tch::{Device, Kind, Tensor};

const BATCH: i64 = 256;
const F32: (Kind, Device) = (Kind::Float, Device::Cpu);

fn batch(channels: i64) -> SightTransitions {
    let maps = || {
        (0..2)
            .map(|_| Tensor::rand([BATCH, 4, 4, channels], F32))
            .collect()
    };
    let sight = || Sight {
        maps: maps(),
        proprio: Tensor::randn([BATCH, 12], F32),
    };
    SightTransitions {
        observations: sight(),
        next_observations: sight(),
        actions: Tensor::rand([BATCH, 4], F32).round(),
        rewards: Tensor::rand([BATCH], F32).round(),
        masks: Tensor::ones([BATCH], F32),
        grasp_penalty: Tensor::zeros([BATCH], F32),
        returns: None,
    }
}

/// Updates per second over at least three seconds.
fn rate(channels: i64, gripper: GripperHead, update: Update) -> f64 {
    let shapes = Shapes {
        cameras: ["front", "wrist"]
            .map(|c| (c.to_owned(), [4, 4, channels]))
            .to_vec(),
        proprio: 12,
        motion_columns: vec![0, 1, 2],
        gripper_columns: vec![3],
    };
    let config = SacGraspConfig {
        gripper,
        ..SacGraspConfig::default()
    };
    let dropout = config.dropout;
    let mut agent = SacGrasp::new(config, shapes, Kind::Float, Device::Cpu, 1);
    let batch = batch(channels);
    for _ in 0..3 {
        agent.update(&batch, update, &mut SeededNoise::new(1, 0, dropout, F32));
    }
    let (start, mut updates) = (Instant::now(), 0);
    while start.elapsed().as_secs_f64() < 3.0 {
        let mut noise = SeededNoise::new(1, updates, dropout, F32);
        agent.update(&batch, update, &mut noise);
        updates += 1;
    }
    updates as f64 / start.elapsed().as_secs_f64()
}

fn transitions(rows: i64, observation: i64, action: i64) -> Transitions {
    Transitions {
        observations: Tensor::randn([rows, observation], F32),
        actions: Tensor::rand([rows, action], F32) * 2.0 - 1.0,
        rewards: Tensor::randn([rows], F32),
        next_observations: Tensor::randn([rows, observation], F32),
        masks: Tensor::ones([rows], F32),
        returns: Some(Tensor::zeros([rows], F32)),
    }
}

/// Seconds of processor time that this process has taken.
fn processor_s() -> f64 {
    let mut time = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: the call fills the structure that it is given.
    unsafe { libc::clock_gettime(libc::CLOCK_PROCESS_CPUTIME_ID, &mut time) };
    time.tv_sec as f64 + time.tv_nsec as f64 * 1e-9
}

/// An algorithm's row: updates per second over five seconds.
fn agent_row(name: &str, mut agent: impl Agent, batch: &Transitions, peer: Option<(&str, f64)>) {
    // With the draws that training takes.
    let update = |agent: &mut dyn Agent| {
        let mut draws = Seeded::new(1, agent.updates(), F32);
        agent.update(batch, &mut draws)
    };
    for _ in 0..20 {
        update(&mut agent);
    }
    let (start, processor, before) = (Instant::now(), processor_s(), agent.updates());
    while start.elapsed().as_secs_f64() < 5.0 {
        update(&mut agent);
    }
    let updates = (agent.updates() - before) as f64;
    let value = updates / start.elapsed().as_secs_f64();
    let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    eprintln!(
        "{name}: {value:.0} updates/s, {:.0} per second of processor time; load {}",
        updates / (processor_s() - processor),
        load.split(' ').next().unwrap_or_default(),
    );
    let row = serde_json::json!({
        "name": name, "value": value, "unit": "updates/s",
        "peer": peer.map(|(name, _)| name), "peer_value": peer.map(|(_, value)| value),
        "ratio": peer.map(|(_, peer)| value / peer),
    });
    println!("{row}");
}

fn agent_rows() {
    const OBSERVATION: i64 = 17;
    const ACTION: i64 = 6;
    let batch = transitions(BATCH, OBSERVATION, ACTION);
    // One thread on the machine that these were measured on.
    let corl = |value| Some(("CORL (cited)", value));
    tch::set_num_threads(1);
    let (kind, device) = F32;
    let bc = Bc::new(Default::default(), OBSERVATION, ACTION, kind, device);
    agent_row("learner.bc", bc, &batch, None);
    let td3_bc = Td3Bc::new(Default::default(), OBSERVATION, ACTION, kind, device);
    agent_row("learner.td3_bc", td3_bc, &batch, corl(130.0));
    let iql = Iql::new(Default::default(), OBSERVATION, ACTION, kind, device);
    agent_row("learner.iql", iql, &batch, corl(93.0));
    let awac = Awac::new(Default::default(), OBSERVATION, ACTION, kind, device);
    agent_row("learner.awac", awac, &batch, corl(49.0));
    let cql = Cql::new(Default::default(), OBSERVATION, ACTION, F32);
    agent_row("learner.cql", cql, &batch, corl(4.5));
    // One update of critics, actor and temperature.
    let config = RedqConfig {
        update_to_data: 1,
        ..RedqConfig::default()
    };
    let redq = Redq::new(config, OBSERVATION, ACTION, F32);
    agent_row("learner.redq10", redq, &batch, Some(("REDQ (cited)", 42.7)));
    let config = RlpdConfig {
        update_to_data: 1,
        ..RlpdConfig::default()
    };
    let rlpd = Rlpd::new(config, OBSERVATION, ACTION, F32);
    agent_row(
        "learner.rlpd",
        rlpd,
        &batch,
        Some(("RLPD, JAX (cited)", 53.0)),
    );
    // As its reference was measured.
    tch::set_num_threads(2);
    let sac = Sac::new(Default::default(), 32, ACTION, F32);
    let peer = Some(("PyTorch (cited)", 403.0));
    agent_row("learner.sac_b64", sac, &transitions(64, 32, ACTION), peer);
}

fn main() {
    hilt_learner::memory::keep_freed();
    agent_rows();
    let categorical = GripperHead::Categorical { entropy: 0.01 };
    let cores = std::thread::available_parallelism().map_or(1, usize::from) as i32;
    for threads in 1..=cores {
        tch::set_num_threads(threads);
        eprintln!(
            "4x4x64 maps, {threads} threads: {:.1} critic-only, {:.1} full updates/s",
            rate(64, categorical, Update::CriticOnly),
            rate(64, categorical, Update::Full)
        );
    }
    // LeRobot 0.4.4 with a frozen ResNet-10 encodes each batch: 3.67 s per update on 4 cores.
    let peer = 0.27;
    for (name, update) in [
        ("learner.critic_updates_per_s", Update::CriticOnly),
        ("learner.full_updates_per_s", Update::Full),
    ] {
        let value = rate(512, GripperHead::GraspCritic, update);
        let row = serde_json::json!({
            "name": name, "value": value, "unit": "updates/s",
            "peer": "LeRobot 0.4.4 (cited)", "peer_value": peer, "ratio": value / peer,
        });
        println!("{row}");
    }
}
