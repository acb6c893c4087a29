//! The graphs of encoder, HIL-SERL's agent and classifier. Each mirrors the forward pass of the module it exports, and a test compares
//! the two through ONNX Runtime.

use hilt_protocol::NamedTensor;

use super::{
    builder::{Attr, Builder, Value, Weights},
    proto::{FLOAT, UINT8},
    weight_set::{WeightSet, map_input, sight},
};
use crate::{
    agents::sac_grasp::{GripperHead, SacGraspConfig, Shapes},
    encoder::{Encoder, EncoderConfig, MEAN, STD},
    reward::model::TRUNK,
};

/// A trunk of the encoder's family: images u8 \[N, S, S, 3\] → maps \[N, h, w, C\]. The names of its
/// weights begin with `prefix`.
fn trunk(
    g: &mut Builder,
    w: &mut WeightSet<'_>,
    prefix: &str,
    config: &EncoderConfig,
    images: &Value,
) -> Value {
    let x = g.op("Cast", &[images], &[Attr::Int("to", i64::from(FLOAT))]);
    let x = g.op("Transpose", &[&x], &[Attr::Ints("perm", &[0, 3, 1, 2])]);
    let scale = g.constant(&[1, 3, 1, 1], &STD.map(|s| (1.0 / (255.0 * s)) as f32));
    let offset: [f32; 3] = std::array::from_fn(|i| (MEAN[i] / STD[i]) as f32);
    let offset = g.constant(&[1, 3, 1, 1], &offset);
    let x = g.op("Mul", &[&x, &scale], &[]);
    let mut x = g.op("Sub", &[&x, &offset], &[]);

    let conv = |g: &mut Builder,
                w: &mut WeightSet<'_>,
                name: &str,
                x: &Value,
                stride: i64,
                pads: [i64; 4]| {
        let kernel = w.get(g, &format!("{prefix}{name}/kernel"));
        g.op(
            "Conv",
            &[x, &kernel],
            &[
                Attr::Ints("strides", &[stride; 2]),
                Attr::Ints("pads", &pads),
            ],
        )
    };
    let norm = |g: &mut Builder, w: &mut WeightSet<'_>, name: &str, x: &Value| {
        let (scale, bias) = (
            w.get(g, &format!("{prefix}{name}/scale")),
            w.get(g, &format!("{prefix}{name}/bias")),
        );
        let attributes = [
            Attr::Float("epsilon", 1e-5),
            Attr::Int("num_groups", config.groups),
        ];
        g.op("GroupNormalization", &[x, &scale, &bias], &attributes)
    };
    // "SAME" of the reference at stride 2: one row and column at the bottom and right.
    let same = |stride: i64| if stride == 1 { [1; 4] } else { [0, 0, 1, 1] };

    x = conv(g, w, "conv_init", &x, 2, [config.stem_kernel / 2; 4]);
    x = norm(g, w, "norm_init", &x);
    x = g.op("Relu", &[&x], &[]);
    if config.stem_pool {
        let attributes = [
            Attr::Ints("kernel_shape", &[3, 3]),
            Attr::Ints("strides", &[2, 2]),
            Attr::Ints("pads", &[0, 0, 1, 1]),
        ];
        x = g.op("MaxPool", &[&x], &attributes);
    }
    for i in 0..config.widths.len() {
        let block = format!("ResNetBlock_{i}");
        let stride = if i == 0 { 1 } else { 2 };
        let mut y = conv(g, w, &format!("{block}/Conv_0"), &x, stride, same(stride));
        y = norm(g, w, &format!("{block}/MyGroupNorm_0"), &y);
        y = g.op("Relu", &[&y], &[]);
        y = conv(g, w, &format!("{block}/Conv_1"), &y, 1, same(1));
        y = norm(g, w, &format!("{block}/MyGroupNorm_1"), &y);
        if w.tensors
            .contains_key(format!("{prefix}{block}/conv_proj/kernel").as_str())
        {
            x = conv(g, w, &format!("{block}/conv_proj"), &x, stride, [0; 4]);
            x = norm(g, w, &format!("{block}/norm_proj"), &x);
        }
        x = g.op("Add", &[&x, &y], &[]);
        x = g.op("Relu", &[&x], &[]);
    }
    g.op("Transpose", &[&x], &[Attr::Ints("perm", &[0, 2, 3, 1])])
}

/// The frozen encoder: `images` u8 \[N, S, S, 3\] → `maps` f32 \[N, h, w, C\]. The graph takes
/// images of the encoder's own size only.
pub fn encoder_graph(encoder: &Encoder) -> Vec<u8> {
    let config = encoder.config();
    let tensors = encoder.params().export(|_| true);
    let mut w = WeightSet::new(&tensors, Weights::Baked);
    let mut g = Builder::default();
    let size = Some(config.image_size);
    let images = g.input("images", UINT8, &[None, size, size, Some(3)]);
    let maps = trunk(&mut g, &mut w, "", config, &images);
    let [h, w, c] = config.map_shape();
    g.finish("encoder", &maps, "maps", &[None, Some(h), Some(w), Some(c)])
}

/// The policy's head. `tensors` are `SacGrasp::policy_weights`.
pub fn policy_graph(
    config: &SacGraspConfig,
    shapes: &Shapes,
    tensors: &[NamedTensor],
    weights: Weights,
) -> Vec<u8> {
    let mut w = WeightSet::new(tensors, weights);
    let mut g = Builder::default();
    let one = |n: i64| [Some(1), Some(n)];
    let encoded = sight(&mut g, &mut w, "encoder", &shapes.cameras, shapes.proprio);
    let motion_columns = shapes.motion_columns.len() as i64;
    let noise = g.input("noise", FLOAT, &one(motion_columns));
    let explore = g.input("explore", FLOAT, &[Some(1)]);
    let mlp = |g: &mut Builder, w: &mut WeightSet<'_>, name: &str, x: &Value| {
        (0..config.hidden.len()).fold(x.clone(), |x, i| {
            w.dense_norm_tanh(g, &format!("{name}.{i}"), &x)
        })
    };

    let hidden = mlp(&mut g, &mut w, "actor", &encoded);
    let mean = w.linear(&mut g, "actor.mean", &hidden);
    let log_std = w.linear(&mut g, "actor.log_std", &hidden);
    let std = g.op("Exp", &[&log_std], &[]);
    let (low, high) = (
        g.constant(&[], &[config.std_min as f32]),
        g.constant(&[], &[config.std_max as f32]),
    );
    let std = g.op("Clip", &[&std, &low, &high], &[]);
    let spread = g.op("Mul", &[&std, &noise], &[]);
    let spread = g.op("Mul", &[&spread, &explore], &[]);
    let motion = g.op("Add", &[&mean, &spread], &[]);
    let motion = g.op("Tanh", &[&motion], &[]);

    let values = match config.gripper {
        GripperHead::Fixed => return g.finish("policy", &motion, "action", &one(shapes.action())),
        GripperHead::GraspCritic => {
            let x = w.dense_norm_tanh(&mut g, "grasp_critic.0", &encoded);
            let x = w.linear(&mut g, "grasp_critic.1", &x);
            w.linear(&mut g, "grasp_critic.out", &x)
        }
        GripperHead::Categorical { entropy } => {
            let gumbel = g.input("gumbel", FLOAT, &one(shapes.choices()));
            let input = g.op("Concat", &[&encoded, &motion], &[Attr::Int("axis", 1)]);
            let mut least: Option<Value> = None;
            for j in 0..config.critics {
                let x = mlp(&mut g, &mut w, &format!("critic{j}"), &input);
                let q = w.linear(&mut g, "critic.shared_out", &x);
                least = Some(match least {
                    Some(least) => g.op("Min", &[&least, &q], &[]),
                    None => q,
                });
            }
            let Some(least) = least else {
                panic!("a policy with a categorical gripper needs a critic")
            };
            let entropy = g.constant(&[], &[entropy as f32]);
            let logits = g.op("Div", &[&least, &entropy], &[]);
            let shake = g.op("Mul", &[&gumbel, &explore], &[]);
            g.op("Add", &[&logits, &shake], &[])
        }
    };
    // The choice's digits in base 3 are the grippers' commands; a table avoids integer arithmetic.
    let grippers = shapes.gripper_columns.len() as u32;
    let digits = (0..shapes.choices()).flat_map(|choice| {
        (0..grippers)
            .rev()
            .map(move |k| (choice / 3i64.pow(k) % 3 - 1) as f32)
    });
    let table = g.constant(
        &[shapes.choices(), i64::from(grippers)],
        &digits.collect::<Vec<_>>(),
    );
    let choice = g.op(
        "ArgMax",
        &[&values],
        &[Attr::Int("axis", 1), Attr::Int("keepdims", 0)],
    );
    let commands = g.op("Gather", &[&table, &choice], &[Attr::Int("axis", 0)]);
    let joined = g.op("Concat", &[&motion, &commands], &[Attr::Int("axis", 1)]);
    // From [motion…, gripper…] into the action's own order.
    let order: Vec<i64> = (0..shapes.action())
        .map(|column| {
            let place =
                |columns: &[i64]| columns.iter().position(|&c| c == column).map(|i| i as i64);
            place(&shapes.motion_columns)
                .or_else(|| place(&shapes.gripper_columns).map(|i| motion_columns + i))
                .unwrap_or(0)
        })
        .collect();
    let order = g.integers(&order);
    let action = g.op("Gather", &[&joined, &order], &[Attr::Int("axis", 1)]);
    g.finish("policy", &action, "action", &one(shapes.action()))
}

/// The reward classifier: on maps, or on images through a `trunk` of its own. `cameras` have the
/// shapes of their maps, `tensors` are `RewardModel::weights`.
pub fn classifier_graph(
    cameras: &[(String, [i64; 3])],
    trunk_config: Option<&EncoderConfig>,
    tensors: &[NamedTensor],
    weights: Weights,
) -> Vec<u8> {
    let mut w = WeightSet::new(tensors, weights);
    let mut g = Builder::default();
    let mut parts = Vec::new();
    for (camera, shape) in cameras {
        let map = match trunk_config {
            Some(config) => {
                let size = Some(config.image_size);
                let name = format!("image.{camera}");
                let images = g.input(&name, UINT8, &[Some(1), size, size, Some(3)]);
                trunk(&mut g, &mut w, TRUNK, config, &images)
            }
            None => map_input(&mut g, camera, *shape),
        };
        parts.push(w.camera(&mut g, &format!("encoder.{camera}"), &map));
    }
    let x = g.op(
        "Concat",
        &parts.iter().collect::<Vec<_>>(),
        &[Attr::Int("axis", 1)],
    );
    let x = w.linear(&mut g, "head.0", &x);
    let x = w.layer_norm(&mut g, "head.0.norm", &x);
    let x = g.op("Relu", &[&x], &[]);
    let logit = w.linear(&mut g, "head.1", &x);
    let probability = g.op("Sigmoid", &[&logit], &[]);
    let probability = g.reshape(&probability, &[1]);
    g.finish("classifier", &probability, "probability", &[Some(1)])
}
