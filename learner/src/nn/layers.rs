//! Layers as pure functions of named parameters. Shapes: B batch, h·w map cells, C channels,
//! F spatial features.

use tch::Tensor;

use super::params::{Init, ParamSpec, Params};

/// flax's LayerNorm ε, which HIL-SERL uses (torch's default is 1e-5).
pub const LAYER_NORM_EPS: f64 = 1e-6;

/// y = x Wᵀ + b, with `<name>.weight` \[out, in\] and `<name>.bias`.
pub fn linear(p: &Params, name: &str, x: &Tensor) -> Tensor {
    x.linear(
        p.get(&format!("{name}.weight")),
        Some(p.get(&format!("{name}.bias"))),
    )
}

/// LayerNorm over the last dimension, with `<name>.weight` and `<name>.bias`.
pub fn layer_norm(p: &Params, name: &str, x: &Tensor) -> Tensor {
    let (weight, bias) = (
        p.get(&format!("{name}.weight")),
        p.get(&format!("{name}.bias")),
    );
    x.layer_norm(
        weight.size(),
        Some(weight),
        Some(bias),
        LAYER_NORM_EPS,
        false,
    )
}

/// Linear, LayerNorm, tanh: HIL-SERL's hidden layer.
pub fn dense_norm_tanh(p: &Params, name: &str, x: &Tensor) -> Tensor {
    layer_norm(p, &format!("{name}.norm"), &linear(p, name, x)).tanh()
}

/// Brings maps \[B, h, w, C\] into the order in which spatial embeddings read them: \[C, B, h·w\].
/// Done once per batch and shared by every pass over it.
pub fn by_channel(maps: &Tensor) -> Tensor {
    let size = maps.size();
    let [b, h, w, c] = size[..] else {
        panic!("maps must be [B, h, w, C], not {size:?}")
    };
    maps.reshape([b, h * w, c]).permute([2, 0, 1]).contiguous()
}

/// Spatial learned embeddings (HIL-SERL `SpatialLearnedEmbeddings`): every channel's cells are
/// weighted F times. Input \[C, B, h·w\] from [`by_channel`], kernel \[h, w, C, F\]; output
/// \[B, C·F\], channel major.
pub fn spatial_embeddings(kernel_hwcf: &Tensor, maps: &Tensor) -> Tensor {
    let size = kernel_hwcf.size();
    let [h, w, c, f] = size[..] else {
        panic!("the kernel must be [h, w, C, F], not {size:?}")
    };
    let kernel = kernel_hwcf.reshape([h * w, c, f]).permute([1, 0, 2]);
    maps.bmm(&kernel).permute([1, 0, 2]).reshape([-1, c * f])
}

/// Specs of a linear layer, Xavier weights and zero bias.
pub fn linear_specs(name: &str, inputs: i64, outputs: i64) -> Vec<ParamSpec> {
    vec![
        ParamSpec {
            name: format!("{name}.weight"),
            shape: vec![outputs, inputs],
            init: Init::Xavier,
        },
        ParamSpec {
            name: format!("{name}.bias"),
            shape: vec![outputs],
            init: Init::Constant(0.0),
        },
    ]
}

/// Specs of a LayerNorm.
pub fn norm_specs(name: &str, width: i64) -> Vec<ParamSpec> {
    vec![
        ParamSpec {
            name: format!("{name}.weight"),
            shape: vec![width],
            init: Init::Constant(1.0),
        },
        ParamSpec {
            name: format!("{name}.bias"),
            shape: vec![width],
            init: Init::Constant(0.0),
        },
    ]
}

/// Specs of [`dense_norm_tanh`].
pub fn dense_norm_specs(name: &str, inputs: i64, outputs: i64) -> Vec<ParamSpec> {
    let mut specs = linear_specs(name, inputs, outputs);
    specs.extend(norm_specs(&format!("{name}.norm"), outputs));
    specs
}

#[cfg(test)]
mod tests {
    use tch::{Device, Kind};

    use super::*;

    #[test]
    fn spatial_embeddings_are_the_einsum() {
        let maps = Tensor::randn([5, 4, 3, 6], (Kind::Double, Device::Cpu));
        let kernel = Tensor::randn([4, 3, 6, 2], (Kind::Double, Device::Cpu));
        let einsum =
            Tensor::einsum("bhwc,hwcf->bcf", &[&maps, &kernel], None::<&[i64]>).reshape([5, 12]);
        let ours = spatial_embeddings(&kernel, &by_channel(&maps));
        assert!((ours - einsum).abs().max().double_value(&[]) < 1e-12);
    }
}
