//! The image encoder: HIL-SERL's ResNet-10 and narrower ones of the same family.
//!
//! Stem convolution with stride 2, GroupNorm, ReLU, perhaps a max-pool; then one basic block per
//! width, the first with stride 1 and the others with stride 2. Once trained (or loaded) it is
//! frozen: the learner stores its maps, the robot runs it as a fixed graph.
//!
//! Two of the reference's details decide whether weights made for it work here: its "SAME" padding
//! at stride 2 pads nothing at the top and left and one at the bottom and right, and its maps are
//! \[h, w, C\].

use std::{io, path::Path};

use hilt_protocol::CameraSpec;
use serde::{Deserialize, Serialize};
use tch::{Device, Kind, Tensor, no_grad};

use crate::nn::{Init, ParamSpec, Params};

pub mod weights;

pub use weights::WeightsError;

/// ImageNet's mean and standard deviation, of pixels in \[0, 1\].
pub const MEAN: [f64; 3] = [0.485, 0.456, 0.406];
/// See [`MEAN`].
pub const STD: [f64; 3] = [0.229, 0.224, 0.225];
/// GroupNorm's ε in flax's ResNet.
const GROUP_NORM_EPS: f64 = 1e-5;

/// A member of the family.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct EncoderConfig {
    /// Side of the square input, pixels; other images are resized to it.
    pub image_size: i64,
    /// Side of the stem's kernel, odd.
    pub stem_kernel: i64,
    /// Whether a 3×3 max-pool of stride 2 follows the stem.
    pub stem_pool: bool,
    /// Channels of the blocks; the stem has the first one's.
    pub widths: Vec<i64>,
    /// Groups of every GroupNorm.
    pub groups: i64,
}

impl Default for EncoderConfig {
    /// HIL-SERL's.
    fn default() -> Self {
        Self::resnet10()
    }
}

/// Why an encoder cannot look at these cameras.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "camera `{camera}` gives {width}×{height} pixels, but encoder.image_size is {expected}: resize recorded data by \
     `hilt-learner convert DATA OUT --image-size {expected}`, or make them equal in the rig file or with --set \
     encoder.image_size"
)]
pub struct CameraSize {
    camera: String,
    width: u32,
    height: u32,
    expected: i64,
}

impl EncoderConfig {
    /// Refuses cameras of another size: the graph that the robot runs does not resize.
    pub fn check(&self, cameras: &[CameraSpec]) -> Result<(), CameraSize> {
        let expected = self.image_size;
        let fits = |side: u32| i64::from(side) == expected;
        let other = (cameras.iter()).find(|c| !fits(c.width) || !fits(c.height));
        other.map_or(Ok(()), |camera| {
            Err(CameraSize {
                camera: camera.name.clone(),
                width: camera.width,
                height: camera.height,
                expected,
            })
        })
    }

    /// HIL-SERL's ResNet-10: 128 px, 4×4×512.
    pub fn resnet10() -> Self {
        Self {
            image_size: 128,
            stem_kernel: 7,
            stem_pool: true,
            widths: vec![64, 128, 256, 512],
            groups: 4,
        }
    }

    /// The demo's: 64 px, 4×4×64, small enough to train from 20 demonstrations on a CPU.
    pub fn narrow() -> Self {
        Self {
            image_size: 64,
            stem_kernel: 5,
            stem_pool: false,
            widths: vec![16, 32, 64, 64],
            groups: 4,
        }
    }

    /// Shape of a map \[h, w, C\].
    pub fn map_shape(&self) -> [i64; 3] {
        let halvings = 1 + u32::from(self.stem_pool) + self.widths.len().saturating_sub(1) as u32;
        let side = (0..halvings).fold(self.image_size, |side, _| (side + 1) / 2);
        [side, side, self.widths.last().copied().unwrap_or(0)]
    }

    fn specs(&self) -> Vec<ParamSpec> {
        let mut specs = Vec::new();
        let conv =
            |specs: &mut Vec<ParamSpec>, name: String, inputs: i64, outputs: i64, side: i64| {
                let (shape, fan_in) = (vec![outputs, inputs, side, side], inputs * side * side);
                // Half the fan: He et al. 2015, for the ReLU that follows.
                specs.push(ParamSpec {
                    name: format!("{name}/kernel"),
                    shape,
                    init: Init::Lecun((fan_in / 2).max(1)),
                });
            };
        let norm = |specs: &mut Vec<ParamSpec>, name: String, width: i64| {
            let spec = |part: &str, value| ParamSpec {
                name: format!("{name}/{part}"),
                shape: vec![width],
                init: Init::Constant(value),
            };
            specs.extend([spec("bias", 0.0), spec("scale", 1.0)]);
        };
        let mut inputs = self.widths.first().copied().unwrap_or(0);
        conv(&mut specs, "conv_init".into(), 3, inputs, self.stem_kernel);
        norm(&mut specs, "norm_init".into(), inputs);
        for (i, &width) in self.widths.iter().enumerate() {
            let block = format!("ResNetBlock_{i}");
            conv(&mut specs, format!("{block}/Conv_0"), inputs, width, 3);
            norm(&mut specs, format!("{block}/MyGroupNorm_0"), width);
            conv(&mut specs, format!("{block}/Conv_1"), width, width, 3);
            norm(&mut specs, format!("{block}/MyGroupNorm_1"), width);
            if i > 0 || inputs != width {
                conv(&mut specs, format!("{block}/conv_proj"), inputs, width, 1);
                norm(&mut specs, format!("{block}/norm_proj"), width);
            }
            inputs = width;
        }
        specs
    }
}

/// The encoder with its weights. Kernels are \[out, in, h, w\]; names are flax's paths.
#[derive(Debug)]
pub struct Encoder {
    config: EncoderConfig,
    params: Params,
}

impl Encoder {
    /// Fresh weights from torch's generator seeded with `seed`.
    pub fn new(config: EncoderConfig, kind: Kind, device: Device, seed: u64) -> Self {
        tch::manual_seed(seed as i64);
        let params = Params::new(&config.specs(), kind, device);
        Self { config, params }
    }

    /// The family member.
    pub fn config(&self) -> &EncoderConfig {
        &self.config
    }

    /// The weights.
    pub fn params(&self) -> &Params {
        &self.params
    }

    fn norm(&self, name: &str, x: &Tensor) -> Tensor {
        let (scale, bias) = (
            self.params.get(&format!("{name}/scale")),
            self.params.get(&format!("{name}/bias")),
        );
        x.group_norm(
            self.config.groups,
            Some(scale),
            Some(bias),
            GROUP_NORM_EPS,
            false,
        )
    }

    fn conv(&self, name: &str, x: &Tensor, stride: i64, padding: i64) -> Tensor {
        x.conv2d(
            self.params.get(&format!("{name}/kernel")),
            None::<&Tensor>,
            stride,
            padding,
            1,
            1,
        )
    }

    /// A 3×3 convolution with the reference's SAME padding.
    fn conv_same(&self, name: &str, x: &Tensor, stride: i64) -> Tensor {
        match stride {
            1 => self.conv(name, x, 1, 1),
            _ => self.conv(name, &x.constant_pad_nd([0, 1, 0, 1]), stride, 0),
        }
    }

    /// A 1×1 convolution of each `stride`-th pixel. They are taken out first: where oneDNN's AVX-512 kernels do so
    /// themselves, their backward pass writes past its scratch memory (libtorch 2.11, 8 channels to 16; found by a
    /// watchpoint on a heap that broke).
    fn conv_pointwise(&self, name: &str, x: &Tensor, stride: i64) -> Tensor {
        let kept = x.slice(2, None, None, stride).slice(3, None, None, stride);
        self.conv(name, &kept, 1, 0)
    }

    fn block(&self, i: usize, x: &Tensor) -> Tensor {
        let name = format!("ResNetBlock_{i}");
        let stride = if i == 0 { 1 } else { 2 };
        let y = self.norm(
            &format!("{name}/MyGroupNorm_0"),
            &self.conv_same(&format!("{name}/Conv_0"), x, stride),
        );
        let y = self.norm(
            &format!("{name}/MyGroupNorm_1"),
            &self.conv_same(&format!("{name}/Conv_1"), &y.relu(), 1),
        );
        let shortcut = if y.size() == x.size() {
            x.shallow_clone()
        } else {
            self.norm(
                &format!("{name}/norm_proj"),
                &self.conv_pointwise(&format!("{name}/conv_proj"), x, stride),
            )
        };
        (shortcut + y).relu()
    }

    /// Images u8 (or 0–255 floats) \[N, H, W, 3\] → maps \[N, h, w, C\], with gradients.
    pub fn forward(&self, images: &Tensor) -> Tensor {
        let flat = self.params.flat();
        let options = (flat.kind(), flat.device());
        let size = self.config.image_size;
        let mut x = images
            .to_device(options.1)
            .to_kind(options.0)
            .permute([0, 3, 1, 2]);
        if x.size()[2..] != [size, size] {
            // Half-pixel centres, a triangle kernel that widens when shrinking, renormalised at edges.
            x = x.internal_upsample_bilinear2d_aa([size, size], false, None::<f64>, None::<f64>);
        }
        let channel = |values: [f64; 3]| {
            Tensor::from_slice(&values)
                .to_kind(options.0)
                .to_device(options.1)
                .view([1, 3, 1, 1])
        };
        x = (x / 255.0 - channel(MEAN)) / channel(STD);
        x = self
            .norm(
                "norm_init",
                &self.conv("conv_init", &x, 2, self.config.stem_kernel / 2),
            )
            .relu();
        if self.config.stem_pool {
            // After a ReLU nothing is below zero, so zero padding never wins over a pixel.
            x = x
                .constant_pad_nd([0, 1, 0, 1])
                .max_pool2d([3, 3], [2, 2], [0, 0], [1, 1], false);
        }
        let maps = (0..self.config.widths.len()).fold(x, |x, i| self.block(i, &x));
        maps.permute([0, 2, 3, 1])
    }

    /// [`Encoder::forward`] without gradients: how it is used once frozen.
    pub fn encode(&self, images: &Tensor) -> Tensor {
        no_grad(|| self.forward(images)).contiguous()
    }

    /// Another one with the same weights: tensors cannot be shared between threads.
    pub fn copy(&self) -> Self {
        let flat = self.params.flat();
        let params = Params::new(&self.config.specs(), flat.kind(), flat.device());
        params.set_flat(flat);
        Self {
            config: self.config.clone(),
            params,
        }
    }

    /// Hash of configuration and weights: a replay of maps belongs to one encoder.
    pub fn hash(&self) -> [u8; 32] {
        let mut bytes = format!("{:?}", self.config).into_bytes();
        for tensor in self.params.export(|_| true) {
            bytes.extend(tensor.data.iter().flat_map(|v| v.to_le_bytes()));
        }
        hilt_protocol::content_hash(&bytes)
    }

    /// Saves the weights under flax's names; beside the place, then renamed.
    pub fn save(&self, path: &Path) -> io::Result<()> {
        let names = self.params.names().iter();
        let tensors: Vec<_> = names
            .map(|name| (name.as_str(), self.params.get(name).detach()))
            .collect();
        let beside = hilt_recording::beside(path);
        Tensor::write_safetensors(&tensors, &beside).map_err(io::Error::other)?;
        std::fs::rename(&beside, path)
    }

    /// Loads weights from a `.safetensors` file or from HIL-SERL's `.pkl`. Every one must be there, in
    /// its shape; others are an error too, for they mean that the file belongs to another encoder.
    pub fn load(&self, path: &Path) -> Result<(), WeightsError> {
        let shapes = self.config.specs().into_iter().map(|s| (s.name, s.shape));
        for (name, tensor) in weights::read(path, &shapes.collect())? {
            self.params.set(&name, &tensor);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn maps_have_the_shape_that_is_announced() {
        for config in [EncoderConfig::narrow(), EncoderConfig::resnet10()] {
            let encoder = Encoder::new(config.clone(), Kind::Float, Device::Cpu, 1);
            let images = Tensor::zeros([1, 80, 100, 3], (Kind::Uint8, Device::Cpu));
            let [h, w, c] = config.map_shape();
            assert_eq!(encoder.encode(&images).size(), [1, h, w, c]);
            assert_eq!([h, w], [4, 4]);
        }
    }

    #[test]
    fn cameras_of_another_size_are_refused_with_the_remedy() {
        let camera = |name: &str, width| CameraSpec {
            name: name.to_owned(),
            height: 64,
            width,
        };
        let mut cameras = [camera("front", 64), camera("wrist", 64)];
        assert!(EncoderConfig::narrow().check(&cameras).is_ok());
        cameras[1].width = 80;
        let error = EncoderConfig::narrow().check(&cameras).unwrap_err();
        let error = error.to_string();
        for word in ["wrist", "80×64", "encoder.image_size", "--image-size 64"] {
            assert!(error.contains(word), "{error}");
        }
    }

    #[test]
    fn saved_weights_come_back_and_foreign_ones_are_refused_by_name() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("encoder.safetensors");
        let one = Encoder::new(EncoderConfig::narrow(), Kind::Float, Device::Cpu, 1);
        one.save(&path).unwrap();
        let two = Encoder::new(EncoderConfig::narrow(), Kind::Float, Device::Cpu, 2);
        assert_ne!(one.hash(), two.hash());
        two.load(&path).unwrap();
        assert_eq!(one.hash(), two.hash());
        let wider = EncoderConfig {
            widths: vec![16, 32, 64, 128],
            ..EncoderConfig::narrow()
        };
        let error = Encoder::new(wider, Kind::Float, Device::Cpu, 1)
            .load(&path)
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("encoder.safetensors") && error.contains("ResNetBlock_3"),
            "{error}"
        );
    }
}
