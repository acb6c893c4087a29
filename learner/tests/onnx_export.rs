//! Every exported graph computes what the learner computes, through ONNX Runtime.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod common;

use common::onnx::{builder, close, run, session};
use hilt_learner::{
    agents::sac_grasp::{GripperHead, SacGrasp, SacGraspConfig, Shapes},
    encoder::{Encoder, EncoderConfig},
    export,
    nn::params::to_named,
    onnx::{Weights, encoder_graph, policy_graph},
    reward::classifier::ClassifierConfig,
    reward::model::RewardModel,
};
use hilt_protocol::{Axis, CameraSpec, RigSpec, SetupMode};
use ort::value::Tensor as OrtTensor;
use tch::{Device, Kind, Tensor};

const F32: (Kind, Device) = (Kind::Float, Device::Cpu);

#[test]
fn the_encoder_graph_is_the_encoder() {
    for config in [EncoderConfig::narrow(), EncoderConfig::resnet10()] {
        let encoder = Encoder::new(config.clone(), Kind::Float, Device::Cpu, 5);
        // Fresh norms hide mistakes: give every scale and bias a value of its own.
        for name in encoder.params().names() {
            let value = encoder.params().get(name);
            if value.dim() == 1 {
                encoder.params().set(
                    name,
                    &(value.detach() + Tensor::randn(value.size(), F32) * 0.2),
                );
            }
        }
        let size = config.image_size;
        let images = Tensor::randint(256, [2, size, size, 3], (Kind::Uint8, Device::Cpu));
        let mut bytes = vec![0u8; images.numel()];
        images.copy_data(&mut bytes, images.numel());
        let input =
            OrtTensor::from_array((vec![2, size as usize, size as usize, 3], bytes)).unwrap();
        let mut session = session(&encoder_graph(&encoder));
        let outputs = session.run(ort::inputs!["images" => input]).unwrap();
        let maps = encoder.encode(&images);
        let scale = maps.abs().max().double_value(&[]) as f32;
        close(
            "encoder",
            outputs["maps"].try_extract_tensor::<f32>().unwrap().1,
            &maps,
            1e-4 * scale,
        );
    }
}

fn policy(gripper: GripperHead, grippers: &[i64], action: i64) {
    let config = SacGraspConfig {
        gripper,
        hidden: vec![24, 24],
        bottleneck: 16,
        ..SacGraspConfig::default()
    };
    let shapes = Shapes {
        cameras: vec![("front".into(), [4, 4, 6]), ("wrist".into(), [4, 4, 6])],
        proprio: 5,
        motion_columns: (0..action).filter(|c| !grippers.contains(c)).collect(),
        gripper_columns: grippers.to_vec(),
    };
    let agent = SacGrasp::new(config.clone(), shapes.clone(), Kind::Float, Device::Cpu, 11);
    let weights = agent.policy_weights();
    let bound = policy_graph(&config, &shapes, &weights, Weights::Inputs);
    let baked = policy_graph(&config, &shapes, &weights, Weights::Baked);
    for (trial, explore) in [0.0, 1.0, 1.0, 0.0, 1.0].into_iter().enumerate() {
        let maps = [
            Tensor::randn([1, 4, 4, 6], F32),
            Tensor::randn([1, 4, 4, 6], F32),
        ];
        let proprio = Tensor::randn([1, 5], F32);
        let normal = Tensor::randn([1, shapes.motion_columns.len() as i64], F32);
        let gumbel = -(-Tensor::rand([1, shapes.choices()], F32).log()).log();
        let mut inputs = vec![
            to_named("map.front", &maps[0]),
            to_named("map.wrist", &maps[1]),
            to_named("proprio", &proprio),
            to_named("noise", &normal),
            to_named("explore", &Tensor::from_slice(&[explore as f32])),
        ];
        if matches!(gripper, GripperHead::Categorical { .. }) {
            inputs.push(to_named("gumbel", &gumbel));
        }
        let want = agent.act(&maps, &proprio, &normal, &gumbel, explore);
        assert_eq!(want.size(), [1, action], "trial {trial}");
        close("baked", &run(&baked, &inputs), &want, 1e-4);
        inputs.extend(weights.iter().cloned());
        close("bound", &run(&bound, &inputs), &want, 1e-4);
    }
}

#[test]
fn the_policy_graph_is_the_policy_for_every_gripper() {
    policy(GripperHead::Fixed, &[], 6);
    policy(GripperHead::GraspCritic, &[3], 4);
    policy(GripperHead::GraspCritic, &[6, 13], 14);
    policy(GripperHead::Categorical { entropy: 0.5 }, &[3], 4);
    policy(GripperHead::Categorical { entropy: 0.5 }, &[6, 13], 14);
}

fn spec(side: u32) -> RigSpec {
    let camera = |name: &str| CameraSpec {
        name: name.into(),
        height: side,
        width: side,
    };
    RigSpec {
        mode: SetupMode::SingleArmFixedGripper,
        controlled_axes: vec![Axis::X],
        cameras: vec![camera("front"), camera("wrist")],
        proprio: vec!["tool_x".into()],
        policy_hz: 10,
    }
}

/// The snapshot's probe, which the robot checks, is the test's input too.
fn classifier(model: &RewardModel) {
    let graph = export::classifier(&spec(32), model, Weights::Inputs);
    let snapshot = export::classifier_snapshot(&graph, model, 1);
    let want = Tensor::from_slice(&snapshot.probe.output.data);
    let mut inputs = snapshot.probe.inputs.clone();
    let baked = export::classifier(&spec(32), model, Weights::Baked);
    close("baked", &run(&baked.onnx, &inputs), &want, 1e-5);
    inputs.extend(snapshot.weights);
    close("bound", &run(&graph.onnx, &inputs), &want, 1e-5);
}

#[test]
fn the_classifier_graph_is_the_classifier_on_maps_and_on_images() {
    let config = ClassifierConfig::default();
    classifier(&RewardModel::on_maps(
        config.clone(),
        &spec(32).cameras,
        [4, 4, 6],
        Device::Cpu,
        2,
    ));
    let trunk = EncoderConfig {
        image_size: 32,
        widths: vec![4, 8],
        ..EncoderConfig::narrow()
    };
    classifier(&RewardModel::on_images(config, trunk, &spec(32).cameras, Device::Cpu, 2).unwrap());
}

#[test]
fn a_cut_graph_is_an_error() {
    let onnx = encoder_graph(&Encoder::new(
        EncoderConfig::narrow(),
        Kind::Float,
        Device::Cpu,
        1,
    ));
    assert!(
        builder()
            .commit_from_memory(&onnx[..onnx.len() / 2])
            .is_err()
    );
    assert!(builder().commit_from_memory(&[]).is_err());
}
