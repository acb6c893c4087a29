//! `sac-grasp` as a learner uses it: it learns a bandit with every gripper head, and a run that was
//! saved goes on as if it had never stopped.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::{
    path::Path,
    sync::{Mutex, MutexGuard, PoisonError},
};

use hilt_learner::{
    agents::{
        sac_grasp::{GripperHead, SacGrasp, SacGraspConfig, SeededNoise, Shapes, Update},
        sight::{Sight, SightTransitions},
    },
    checkpoint::{NotKept, read_agent, write_agent},
};
use tch::{Device, Kind, Tensor};

const F32: (Kind, Device) = (Kind::Float, Device::Cpu);
const ROWS: i64 = 64;
const CONTEXTS: i64 = 3;
/// Per context the best motion.
const BEST_MOTION: [f32; 3] = [-0.6, 0.0, 0.5];
/// Per context the reward of {close, stay, open}.
const GRIPPER_REWARD: [[f32; 3]; 3] = [[1.0, 0.0, 0.6], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]];
/// Per context the penalty of each: it makes the second best of context 0 the best.
const GRIPPER_PENALTY: [[f32; 3]; 3] = [[-0.8, 0.0, 0.0], [0.0; 3], [0.0; 3]];
const BEST_CHOICE: [i64; 3] = [2, 1, 2];
const HEADS: [GripperHead; 3] = [
    GripperHead::Fixed,
    GripperHead::GraspCritic,
    GripperHead::Categorical { entropy: 0.02 },
];

/// Draws come from torch's generator, of which a process has one: a test that trains must be alone.
/// One thread is fastest at these sizes.
fn alone() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::new(());
    let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    tch::set_num_threads(1);
    turn
}

fn agent(gripper: GripperHead, seed: u64) -> SacGrasp {
    let config = SacGraspConfig {
        gripper,
        lr: 3e-3,
        temperature_init: 0.1,
        target_entropy: Some(-2.5),
        hidden: vec![32, 32],
        spatial_features: 4,
        bottleneck: 16,
        proprio_latent: 8,
        ..SacGraspConfig::default()
    };
    let grippers = if gripper == GripperHead::Fixed {
        vec![]
    } else {
        vec![0]
    };
    let shapes = Shapes {
        cameras: vec![("front".into(), [2, 2, CONTEXTS])],
        proprio: 2,
        motion_columns: vec![grippers.len() as i64],
        gripper_columns: grippers,
    };
    SacGrasp::new(config, shapes, F32.0, F32.1, seed)
}

/// Maps that show the context in one channel.
fn maps(contexts: &Tensor) -> Vec<Tensor> {
    let shown = contexts.one_hot(CONTEXTS).to_kind(F32.0);
    let size = [contexts.size()[0], 2, 2, CONTEXTS];
    vec![shown.view([-1, 1, 1, CONTEXTS]).expand(size, false) + Tensor::randn(size, F32) * 0.05]
}

fn table(rows: &[[f32; 3]; 3]) -> Tensor {
    Tensor::from_slice2(rows)
}

/// Episodes of one step: context, uniform action, reward.
fn batch(agent: &SacGrasp, seed: i64) -> SightTransitions {
    tch::manual_seed(seed);
    let contexts = Tensor::randint(CONTEXTS, [ROWS], (Kind::Int64, F32.1));
    let motion = Tensor::rand([ROWS], F32) * 2.0 - 1.0;
    let best = Tensor::from_slice(&BEST_MOTION).index_select(0, &contexts);
    let mut rewards = -(&motion - best).square();
    let mut grasp_penalty = Tensor::zeros([ROWS], F32);
    let mut columns = vec![];
    if !agent.shapes().gripper_columns.is_empty() {
        let choices = Tensor::randint(3, [ROWS], (Kind::Int64, F32.1));
        let of = |rows| {
            table(rows)
                .view([9])
                .index_select(0, &(&contexts * 3 + &choices))
        };
        rewards += of(&GRIPPER_REWARD);
        grasp_penalty = of(&GRIPPER_PENALTY);
        columns.push((choices - 1).to_kind(F32.0));
    }
    columns.push(motion);
    let sight = || Sight {
        maps: maps(&contexts),
        proprio: Tensor::randn([ROWS, 2], F32),
    };
    SightTransitions {
        observations: sight(),
        next_observations: sight(),
        actions: Tensor::stack(&columns, 1),
        rewards,
        masks: Tensor::zeros([ROWS], F32),
        grasp_penalty,
        returns: None,
    }
}

fn train(agent: &mut SacGrasp, updates: u64) {
    for _ in 0..updates {
        let number = agent.updates();
        let batch = batch(agent, number as i64);
        let mut noise = SeededNoise::new(7, number, agent.config().dropout, F32);
        let update = if number % 2 == 1 {
            Update::Full
        } else {
            Update::CriticOnly
        };
        agent.update(&batch, update, &mut noise);
    }
}

/// Motion and gripper column of 60 actions, 20 per context in turn.
fn act(agent: &SacGrasp, explore: f64) -> (Vec<f32>, Vec<i64>) {
    tch::manual_seed(99);
    let n = 20 * CONTEXTS;
    let contexts = Tensor::arange(n, (Kind::Int64, F32.1)).remainder(CONTEXTS);
    let gumbel = -(-Tensor::rand([n, agent.shapes().choices()], F32).log()).log();
    let (proprio, normal) = (Tensor::randn([n, 2], F32), Tensor::randn([n, 1], F32));
    let actions = agent.act(&maps(&contexts), &proprio, &normal, &gumbel, explore);
    let column = |c: i64| Vec::<f32>::try_from(actions.select(1, c).contiguous()).unwrap();
    let choices = match agent.shapes().gripper_columns.first() {
        Some(&c) => column(c).iter().map(|&x| x as i64 + 1).collect(),
        None => vec![],
    };
    (column(agent.shapes().motion_columns[0]), choices)
}

fn share_right(choices: &[i64]) -> f64 {
    let right = |(i, &c): (usize, &i64)| c == BEST_CHOICE[i % 3];
    choices.iter().enumerate().filter(|&x| right(x)).count() as f64 / choices.len() as f64
}

fn worst_motion(motion: &[f32]) -> f32 {
    let off = |(i, m): (usize, &f32)| (m - BEST_MOTION[i % 3]).abs();
    motion.iter().enumerate().map(off).fold(0.0, f32::max)
}

#[test]
fn every_gripper_head_learns_a_bandit() {
    let _alone = alone();
    for head in HEADS {
        let mut agent = agent(head, 1);
        let before = act(&agent, 0.0);
        assert!(worst_motion(&before.0) > 0.3, "{head:?} knew it before");
        train(&mut agent, 800);
        let (motion, choices) = act(&agent, 0.0);
        let off = worst_motion(&motion);
        assert!(off < 0.25, "{head:?}: motion is off by {off}");
        if head == GripperHead::Fixed {
            continue;
        }
        assert!(share_right(&before.1) < 0.9, "{head:?} knew it before");
        assert_eq!(share_right(&choices), 1.0, "{head:?}: {choices:?}");
        // The values differ by many entropies, so that sampling finds the same.
        let sampled = share_right(&act(&agent, 1.0).1);
        assert!(sampled > 0.95, "{head:?}: sampled {sampled}");
    }
}

fn save(agent: &SacGrasp, path: &Path) {
    write_agent(path, agent.state(), agent.updates()).unwrap();
}

fn load(agent: &mut SacGrasp, path: &Path) -> Result<(), NotKept> {
    let (state, updates) = read_agent(path, agent.state())?;
    agent.restore(&state, updates);
    Ok(())
}

/// All that a checkpoint holds, as bytes.
fn bytes(agent: &SacGrasp, dir: &Path, name: &str) -> Vec<u8> {
    let path = dir.join(name);
    save(agent, &path);
    std::fs::read(path).unwrap()
}

#[test]
fn a_resumed_run_is_the_run_that_never_stopped() {
    let _alone = alone();
    let dir = tempfile::tempdir().unwrap();
    for head in HEADS {
        let mut straight = agent(head, 1);
        train(&mut straight, 3);
        let path = dir.path().join("agent.safetensors");
        save(&straight, &path);
        let saved = std::fs::read(&path).unwrap();
        train(&mut straight, 4);
        // Another seed: nothing may be left of what it started with.
        let mut resumed = agent(head, 2);
        load(&mut resumed, &path).unwrap();
        assert!(bytes(&resumed, dir.path(), "again") == saved, "{head:?}");
        train(&mut resumed, 4);
        assert_eq!(resumed.updates(), 7);
        let want = bytes(&straight, dir.path(), "straight");
        assert!(bytes(&resumed, dir.path(), "resumed") == want, "{head:?}");
        assert!(saved != want, "{head:?} learned nothing in between");
        assert_eq!(act(&resumed, 1.0), act(&straight, 1.0));
    }
    let left = std::fs::read_dir(dir.path()).unwrap();
    let left: Vec<_> = left.map(|e| e.unwrap().file_name()).collect();
    assert_eq!(left.len(), 4, "something was left beside: {left:?}");
}

#[test]
fn a_checkpoint_that_does_not_fit_changes_nothing() {
    let _alone = alone();
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("agent.safetensors");
    let mut other = agent(GripperHead::GraspCritic, 1);
    train(&mut other, 1);
    save(&other, &path);
    let whole = std::fs::read(&path).unwrap();

    let mut agent = agent(GripperHead::Fixed, 2);
    let before = bytes(&agent, dir.path(), "before");
    let refused = |agent: &mut SacGrasp, what: &str| {
        let error = load(agent, &path).unwrap_err().to_string();
        assert!(error.contains("agent.safetensors"), "{what}: {error}");
        assert!(bytes(agent, dir.path(), "after") == before, "{what}");
    };
    refused(&mut agent, "another gripper");
    for length in [0, 7, 100, whole.len() / 2, whole.len() - 1] {
        std::fs::write(&path, &whole[..length]).unwrap();
        refused(&mut agent, "cut short");
    }
    std::fs::remove_file(&path).unwrap();
    refused(&mut agent, "absent");
}

#[test]
fn configuration_reads_as_documented() {
    let config: SacGraspConfig =
        toml::from_str("discount = 0.95\n[gripper.categorical]\nentropy = 0.01\n").unwrap();
    assert_eq!(config.gripper, GripperHead::Categorical { entropy: 0.01 });
    assert_eq!((config.discount, config.critics), (0.95, 2));
    let plain: SacGraspConfig = toml::from_str("gripper = \"fixed\"").unwrap();
    assert_eq!(plain.gripper, GripperHead::Fixed);
    let error = toml::from_str::<SacGraspConfig>("discout = 0.95").unwrap_err();
    assert!(error.to_string().contains("discout"), "{error}");
    let error = toml::from_str::<SacGraspConfig>("[gripper.categorical]\nentrpy = 1").unwrap_err();
    assert!(error.to_string().contains("entrpy"), "{error}");
}
