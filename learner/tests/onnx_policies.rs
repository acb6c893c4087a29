//! The policy's graph of every algorithm computes what the algorithm does, through ONNX Runtime: on what a robot
//! sees, and on state vectors.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod common;

use common::onnx::{close, run};
use hilt_learner::{
    agents::{
        Agent, Draws,
        front::{MapFront, Sighted},
        policy::Policy,
        sight::Sight,
    },
    config::{Algorithm, LearnerConfig},
    export,
    nn::{Params, params::to_named},
    onnx::{Weights, sighted_policy_graph, sighted_weights, vector_policy_graph},
};
use hilt_protocol::{Axis, CameraSpec, NamedTensor, RigSpec, SetupMode};
use tch::{Device, Kind, Tensor};

const F32: (Kind, Device) = (Kind::Float, Device::Cpu);
const ACTIONS: i64 = 6;
const PROPRIO: i64 = 5;

/// All algorithms on vectors, with small networks; of those whose policies have several forms, each.
fn variants() -> Vec<(&'static str, LearnerConfig)> {
    let of = |name, algorithm: Algorithm, change: fn(&mut LearnerConfig)| {
        let mut config = LearnerConfig {
            algorithm,
            ..LearnerConfig::default()
        };
        let (front, hidden) = (&mut config.front, vec![24, 16]);
        (
            front.spatial_features,
            front.bottleneck,
            front.proprio_latent,
        ) = (3, 10, 7);
        config.bc.hidden = hidden.clone();
        config.td3_bc.hidden = hidden.clone();
        config.iql.hidden = hidden.clone();
        config.awac.hidden = hidden.clone();
        config.cql.actor_hidden = hidden.clone();
        config.cal_ql.cql.actor_hidden = hidden.clone();
        config.sac.hidden = hidden.clone();
        config.redq.hidden = hidden.clone();
        config.rlpd.hidden = hidden;
        change(&mut config);
        (name, config)
    };
    let as_it_is = |_: &mut LearnerConfig| ();
    vec![
        of("bc", Algorithm::Bc, as_it_is),
        of("td3-bc", Algorithm::Td3Bc, as_it_is),
        of("td3-bc, wider actions", Algorithm::Td3Bc, |c| {
            c.td3_bc.max_action = 2.0;
        }),
        of("iql", Algorithm::Iql, as_it_is),
        of("iql, deterministic", Algorithm::Iql, |c| {
            c.iql.deterministic = true;
        }),
        of("awac", Algorithm::Awac, |c| c.awac.min_action = -0.5),
        of("cql", Algorithm::Cql, |c| c.cql.log_std_multiplier = 0.7),
        of("cal-ql", Algorithm::CalQl, as_it_is),
        of("sac", Algorithm::Sac, as_it_is),
        of("redq", Algorithm::Redq, as_it_is),
        of("rlpd", Algorithm::Rlpd, as_it_is),
    ]
}

/// Zeros, ones and small numbers hide mistakes: every parameter gets another value.
fn stir(params: &Params, seed: i64) {
    tch::manual_seed(seed);
    let flat = params.flat();
    params.set_flat(&(flat.detach() + Tensor::randn(flat.size(), F32) * 0.15));
}

fn agent(config: &LearnerConfig, observation: i64) -> Box<dyn Agent> {
    let agent = config.agent(observation, ACTIONS, Device::Cpu, 7).unwrap();
    stir(agent.policy().net().params(), 8);
    agent
}

fn cameras() -> Vec<(String, [i64; 3])> {
    vec![("front".into(), [4, 4, 6]), ("wrist".into(), [3, 2, 5])]
}

fn sighted(config: &LearnerConfig) -> Sighted {
    tch::set_num_threads(1);
    tch::manual_seed(5);
    let front = MapFront::new(&config.front, &cameras(), PROPRIO, F32.0, F32.1);
    stir(front.params(), 6);
    let agent = agent(config, front.width());
    Sighted::new(front, agent)
}

/// The noise that a test gives.
struct Given(Tensor);

impl Draws for Given {
    fn normal(&mut self, name: &'static str, shape: &[i64]) -> Tensor {
        assert_eq!((name, shape), ("explore", self.0.size().as_slice()));
        self.0.shallow_clone()
    }
    fn uniform(&mut self, name: &'static str, _: &[i64]) -> Tensor {
        panic!("{name}: acting draws normals alone")
    }
    fn members(&mut self, name: &'static str, _: i64, _: i64) -> Tensor {
        panic!("{name}: acting draws normals alone")
    }
}

#[test]
fn on_what_a_robot_sees_the_graph_is_the_policy_greedy_and_exploring() {
    for (name, config) in variants() {
        let sighted = sighted(&config);
        let weights = sighted_weights(&sighted);
        let bound = sighted_policy_graph(&sighted, &weights, Weights::Inputs);
        let baked = sighted_policy_graph(&sighted, &weights, Weights::Baked);
        for explores in [false, true, true] {
            let sight = Sight {
                maps: (cameras().iter())
                    .map(|(_, [h, w, c])| Tensor::randn([1, *h, *w, *c], F32))
                    .collect(),
                proprio: Tensor::randn([1, PROPRIO], F32),
            };
            let noise = Tensor::randn([1, ACTIONS], F32);
            let explore = f32::from(u8::from(explores));
            let mut inputs = vec![
                to_named("map.front", &sight.maps[0]),
                to_named("map.wrist", &sight.maps[1]),
                to_named("proprio", &sight.proprio),
                to_named("noise", &noise),
                to_named("explore", &Tensor::from_slice(&[explore])),
            ];
            let mut given = Given(noise);
            let draws: Option<&mut dyn Draws> = if explores { Some(&mut given) } else { None };
            let want = sighted.act(&sight, draws);
            assert_eq!(want.size(), [1, ACTIONS], "{name}");
            let least = want.abs().min().double_value(&[]);
            assert!(least < 0.9, "{name}: all at the bounds, {least}");
            close(name, &run(&baked, &inputs), &want, 1e-5);
            inputs.extend(weights.iter().cloned());
            close(name, &run(&bound, &inputs), &want, 1e-5);
        }
    }
}

fn observations(rows: i64, columns: i64) -> Tensor {
    Tensor::randn([rows, columns], F32) * 3.0 + 1.0
}

#[test]
fn on_vectors_the_graph_is_the_greedy_policy_for_any_number_of_rows() {
    tch::set_num_threads(1);
    for (name, config) in variants() {
        let agent = agent(&config, 9);
        let onnx = vector_policy_graph(&agent.policy(), None);
        for rows in [1, 4] {
            let seen = observations(rows, 9);
            let got = run(&onnx, &[to_named("observation", &seen)]);
            close(name, &got, &agent.act(&seen, None), 1e-5);
        }
    }
}

#[test]
fn on_vectors_the_graph_takes_raw_observations() {
    tch::set_num_threads(1);
    let (_, config) = variants().swap_remove(1);
    let agent = agent(&config, 3);
    let (mean, divisor) = ([1.0f32, -2.0, 0.5], [0.5f32, 2.0, 1e-3]);
    let onnx = vector_policy_graph(&agent.policy(), Some((&mean, &divisor)));
    let raw = Tensor::from_slice(&[1.2f32, 0.0, 0.5003, 0.0, -3.0, 0.4999]).view([2, 3]);
    let row = |values: &[f32]| Tensor::from_slice(values).view([1, 3]);
    let seen = (&raw - row(&mean)) / row(&divisor);
    let got = run(&onnx, &[to_named("observation", &raw)]);
    close("td3-bc", &got, &agent.act(&seen, None), 1e-4);
}

fn spec() -> RigSpec {
    let camera = |name: &str| CameraSpec {
        name: name.into(),
        height: 32,
        width: 32,
    };
    RigSpec {
        mode: SetupMode::SingleArmFixedGripper,
        controlled_axes: vec![
            Axis::X,
            Axis::Y,
            Axis::Z,
            Axis::Roll,
            Axis::Pitch,
            Axis::Yaw,
        ],
        cameras: vec![camera("front"), camera("wrist")],
        proprio: (0..PROPRIO).map(|i| format!("p{i}")).collect(),
        policy_hz: 10,
    }
}

/// As the robot checks it: every data input is in the probe, every other one among the weights.
#[test]
fn a_snapshot_of_any_algorithm_answers_its_probe() {
    for (name, config) in variants() {
        let sighted = sighted(&config);
        let graph = export::policy(&spec(), &sighted, Weights::Inputs);
        let snapshot = export::policy_snapshot(&graph, &sighted, 3);
        assert_eq!((snapshot.version, snapshot.spec), (3, spec().hash()));
        let output = &snapshot.probe.output;
        assert_eq!(output.shape, [1, ACTIONS as usize], "{name}");
        let want = Tensor::from_slice(&output.data);
        let inputs: Vec<NamedTensor> = snapshot.probe.inputs.clone();
        let bound = [inputs.clone(), snapshot.weights.clone()].concat();
        close(name, &run(&graph.onnx, &bound), &want, 1e-5);
        let baked = export::policy(&spec(), &sighted, Weights::Baked);
        close(name, &run(&baked.onnx, &inputs), &want, 1e-5);
    }
}

/// Parameters that a policy has and no graph asks for would be sent for nothing.
#[test]
fn the_greedy_graph_leaves_out_what_it_does_not_need() {
    let (_, config) = variants().swap_remove(3);
    let agent = agent(&config, 9);
    let policy: Policy<'_> = agent.policy();
    let onnx = vector_policy_graph(&policy, None);
    let holds = |name: &str| (onnx.windows(name.len())).any(|part| part == name.as_bytes());
    assert!(holds("actor.0.weight") && !holds("actor.log_std"));
}
