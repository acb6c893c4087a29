//! What the graphs share: weights by name, the layers that stand on them, and how a policy sees.

use std::collections::BTreeMap;

use hilt_protocol::NamedTensor;

use super::{
    builder::{Attr, Builder, Value, Weights},
    proto::FLOAT,
};
use crate::nn::{Mlp, layers::LAYER_NORM_EPS};

/// Weights by name, entered into the graph when first used.
pub(super) struct WeightSet<'a> {
    pub(super) tensors: BTreeMap<&'a str, &'a NamedTensor>,
    entered: BTreeMap<String, Value>,
    weights: Weights,
}

impl<'a> WeightSet<'a> {
    pub(super) fn new(tensors: &'a [NamedTensor], weights: Weights) -> Self {
        Self {
            tensors: tensors.iter().map(|t| (t.name.as_str(), t)).collect(),
            entered: BTreeMap::new(),
            weights,
        }
    }

    /// The weight of this name. One that is missing is a mistake in the program: it panics.
    pub(super) fn get(&mut self, g: &mut Builder, name: &str) -> Value {
        if let Some(value) = self.entered.get(name) {
            return value.clone();
        }
        let Some(tensor) = self.tensors.get(name) else {
            panic!("the graph needs a weight named `{name}`")
        };
        let value = g.weight(tensor, self.weights);
        self.entered.insert(name.to_owned(), value.clone());
        value
    }

    pub(super) fn shape(&self, name: &str) -> Vec<i64> {
        self.tensors
            .get(name)
            .map(|t| t.shape.iter().map(|&d| d as i64).collect())
            .unwrap_or_default()
    }

    pub(super) fn linear(&mut self, g: &mut Builder, name: &str, x: &Value) -> Value {
        let (w, b) = (
            self.get(g, &format!("{name}.weight")),
            self.get(g, &format!("{name}.bias")),
        );
        g.op("Gemm", &[x, &w, &b], &[Attr::Int("transB", 1)])
    }

    pub(super) fn layer_norm(&mut self, g: &mut Builder, name: &str, x: &Value) -> Value {
        let (w, b) = (
            self.get(g, &format!("{name}.weight")),
            self.get(g, &format!("{name}.bias")),
        );
        let attributes = [
            Attr::Float("epsilon", LAYER_NORM_EPS as f32),
            Attr::Int("axis", -1),
        ];
        g.op("LayerNormalization", &[x, &w, &b], &attributes)
    }

    pub(super) fn dense_norm_tanh(&mut self, g: &mut Builder, name: &str, x: &Value) -> Value {
        let x = self.linear(g, name, x);
        let x = self.layer_norm(g, &format!("{name}.norm"), &x);
        g.op("Tanh", &[&x], &[])
    }

    /// Spatial embeddings, dense layer, norm, tanh of one camera's map \[1, h, w, C\].
    pub(super) fn camera(&mut self, g: &mut Builder, name: &str, map: &Value) -> Value {
        let kernel_name = format!("{name}.sle.kernel_hwcf");
        let [h, w, c, f] = self.shape(&kernel_name)[..] else {
            panic!("{kernel_name} must be [h, w, C, F]")
        };
        let kernel = self.get(g, &kernel_name);
        let kernel = g.reshape(&kernel, &[h * w, c, f]);
        let kernel = g.op("Transpose", &[&kernel], &[Attr::Ints("perm", &[1, 0, 2])]);
        let map = g.reshape(map, &[1, h * w, c]);
        // [C, 1, h·w] × [C, h·w, F], channel by channel.
        let map = g.op("Transpose", &[&map], &[Attr::Ints("perm", &[2, 0, 1])]);
        let features = g.op("MatMul", &[&map, &kernel], &[]);
        let features = g.reshape(&features, &[1, c * f]);
        self.embedding(g, name, &features)
    }

    /// Dense layer, norm, tanh.
    fn embedding(&mut self, g: &mut Builder, name: &str, x: &Value) -> Value {
        let x = self.linear(g, &format!("{name}.dense"), x);
        let x = self.layer_norm(g, &format!("{name}.norm"), &x);
        g.op("Tanh", &[&x], &[])
    }

    /// ReLU between linear layers, after a norm where there is one: \[N, in\] → \[N, out\].
    pub(super) fn mlp(&mut self, g: &mut Builder, mlp: &Mlp, x: &Value) -> Value {
        let layers = mlp.sizes().len() - 1;
        (0..layers).fold(x.clone(), |x, i| {
            let name = format!("{}.{i}", mlp.name());
            let mut x = self.linear(g, &name, &x);
            let norm = format!("{name}.norm");
            if self.tensors.contains_key(format!("{norm}.weight").as_str()) {
                x = self.layer_norm(g, &norm, &x);
            }
            match i + 1 < layers {
                true => g.op("Relu", &[&x], &[]),
                false => x,
            }
        })
    }
}

/// The input `map.<camera>` \[1, h, w, C\].
pub(super) fn map_input(g: &mut Builder, camera: &str, [h, w, c]: [i64; 3]) -> Value {
    let shape = [Some(1), Some(h), Some(w), Some(c)];
    g.input(&format!("map.{camera}"), FLOAT, &shape)
}

/// The inputs `map.<camera>` and `proprio`, and what a policy makes of them \[1, E\]: an embedding per camera,
/// then proprioception's. Names of weights begin with `<prefix>.<camera>` and `<prefix>.proprio`.
pub(super) fn sight(
    g: &mut Builder,
    w: &mut WeightSet<'_>,
    prefix: &str,
    cameras: &[(String, [i64; 3])],
    proprio: i64,
) -> Value {
    let mut parts = Vec::new();
    for (camera, shape) in cameras {
        let map = map_input(g, camera, *shape);
        parts.push(w.camera(g, &format!("{prefix}.{camera}"), &map));
    }
    let proprio = g.input("proprio", FLOAT, &[Some(1), Some(proprio)]);
    parts.push(w.embedding(g, &format!("{prefix}.proprio"), &proprio));
    let parts: Vec<&Value> = parts.iter().collect();
    g.op("Concat", &parts, &[Attr::Int("axis", 1)])
}
