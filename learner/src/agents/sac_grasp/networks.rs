//! The networks: what they are made of, and their passes. Which loss trains what is the parent's.

use tch::{Kind, Tensor};

use super::{GripperHead, SacGrasp, SacGraspConfig, Shapes};
use crate::nn::{
    Init, ParamSpec, Params,
    layers::{
        by_channel, centre, dense_norm_specs, dense_norm_tanh, layer_norm, linear, linear_specs,
        norm_specs, spatial_embeddings,
    },
    spatial,
};

/// Camera embeddings \[B, cameras × bottleneck\] and proprioception's \[B, latent\].
pub(super) struct Encoding {
    pub(super) cameras: Tensor,
    pub(super) proprio: Tensor,
}

impl Encoding {
    pub(super) fn joined(&self) -> Tensor {
        Tensor::cat(&[&self.cameras, &self.proprio], 1)
    }
}

/// Actions with their log-probabilities.
pub(super) struct Sample {
    /// tanh of the draw \[B, motion columns\].
    pub(super) motion: Tensor,
    /// log π \[B\].
    pub(super) log_prob: Tensor,
}

/// Name of a camera's spatial embeddings.
pub(super) fn sle_kernel(camera: &str) -> String {
    format!("encoder.{camera}.sle.kernel_hwcf")
}

impl SacGrasp {
    pub(super) fn specs(c: &SacGraspConfig, shapes: &Shapes) -> Vec<ParamSpec> {
        let mut specs = Vec::new();
        for (camera, [h, w, channels]) in &shapes.cameras {
            specs.push(ParamSpec {
                name: sle_kernel(camera),
                shape: vec![*h, *w, *channels, c.spatial_features],
                init: Init::Lecun(h * w * channels),
            });
            let name = format!("encoder.{camera}");
            specs.extend(linear_specs(
                &format!("{name}.dense"),
                channels * c.spatial_features,
                c.bottleneck,
            ));
            specs.extend(norm_specs(&format!("{name}.norm"), c.bottleneck));
        }
        specs.extend(linear_specs(
            "encoder.proprio.dense",
            shapes.proprio,
            c.proprio_latent,
        ));
        specs.extend(norm_specs("encoder.proprio.norm", c.proprio_latent));
        let encoded = shapes.cameras.len() as i64 * c.bottleneck + c.proprio_latent;
        let motion = shapes.motion_columns.len() as i64;
        let mlp = |specs: &mut Vec<ParamSpec>, name: &str, mut inputs: i64| {
            for (i, &width) in c.hidden.iter().enumerate() {
                specs.extend(dense_norm_specs(&format!("{name}.{i}"), inputs, width));
                inputs = width;
            }
            inputs
        };
        let last = mlp(&mut specs, "actor", encoded);
        specs.extend(linear_specs("actor.mean", last, motion));
        specs.extend(linear_specs("actor.log_std", last, motion));
        for j in 0..c.critics {
            mlp(&mut specs, &format!("critic{j}"), encoded + motion);
        }
        let outputs = if matches!(c.gripper, GripperHead::Categorical { .. }) {
            shapes.choices()
        } else {
            1
        };
        specs.extend(linear_specs("critic.shared_out", last, outputs));
        if c.gripper == GripperHead::GraspCritic {
            // The reference activates this one's first layer only.
            specs.extend(dense_norm_specs("grasp_critic.0", encoded, c.hidden[0]));
            specs.extend(linear_specs("grasp_critic.1", c.hidden[0], c.hidden[1]));
            specs.extend(linear_specs(
                "grasp_critic.out",
                c.hidden[1],
                shapes.choices(),
            ));
        }
        let raw = c.temperature_init.exp_m1().ln();
        specs.push(ParamSpec {
            name: "temperature.raw".into(),
            shape: vec![],
            init: Init::Constant(raw),
        });
        specs
    }

    /// Folds the normalisation (x − mean) / std of proprioception into its fresh first layer, online
    /// and target: raw SI numbers (centimetres beside flags) would leave it all but blind. The
    /// graph that the robot runs needs no normaliser this way.
    pub fn centre_proprio(&self, mean: &[f32], std: &[f32]) {
        centre(
            &[&self.params, &self.target],
            "encoder.proprio.dense",
            mean,
            std,
        );
    }

    /// Spatial features \[B, C·F\] per camera. They are the part of an encoding that all passes
    /// over the same frames with the same weights share. No history: see [`SacGrasp::gradients`].
    pub(super) fn features(&self, p: &Params, maps: &[Tensor]) -> Vec<Tensor> {
        let cameras = self.shapes.cameras.iter().zip(maps);
        cameras
            .map(|((camera, _), maps)| spatial::forward(p.get(&sle_kernel(camera)), maps))
            .collect()
    }

    /// Encodes spatial features and proprioception. `keep`: dropout, per camera.
    pub(super) fn encode(
        &self,
        p: &Params,
        features: &[Tensor],
        proprio: &Tensor,
        keep: Option<Vec<Tensor>>,
    ) -> Encoding {
        let embed = |(k, (camera, _)): (usize, &(String, [i64; 3]))| {
            let features = match &keep {
                Some(keep) => &features[k] * &keep[k],
                None => features[k].shallow_clone(),
            };
            let dense = linear(p, &format!("encoder.{camera}.dense"), &features);
            layer_norm(p, &format!("encoder.{camera}.norm"), &dense).tanh()
        };
        let cameras: Vec<Tensor> = self.shapes.cameras.iter().enumerate().map(embed).collect();
        let dense = linear(p, "encoder.proprio.dense", proprio);
        let proprio = layer_norm(p, "encoder.proprio.norm", &dense).tanh();
        Encoding {
            cameras: Tensor::cat(&cameras, 1),
            proprio,
        }
    }

    pub(super) fn mlp(&self, p: &Params, name: &str, x: &Tensor) -> Tensor {
        (0..self.config.hidden.len()).fold(x.shallow_clone(), |x, i| {
            dense_norm_tanh(p, &format!("{name}.{i}"), &x)
        })
    }

    /// Mean and standard deviation before the tanh \[B, motion columns\].
    pub(super) fn actor(&self, p: &Params, encoded: &Tensor) -> (Tensor, Tensor) {
        let hidden = self.mlp(p, "actor", encoded);
        let std = linear(p, "actor.log_std", &hidden)
            .exp()
            .clamp(self.config.std_min, self.config.std_max);
        (linear(p, "actor.mean", &hidden), std)
    }

    /// Values \[members\] of \[B, 1\], or \[B, choices\] with a categorical gripper.
    pub(super) fn critics(&self, p: &Params, encoded: &Tensor, motion: &Tensor) -> Vec<Tensor> {
        let input = Tensor::cat(&[encoded, motion], 1);
        (0..self.config.critics)
            .map(|j| {
                linear(
                    p,
                    "critic.shared_out",
                    &self.mlp(p, &format!("critic{j}"), &input),
                )
            })
            .collect()
    }

    /// Values of the grippers' choices \[B, choices\].
    pub(super) fn grasp_critic(&self, p: &Params, encoded: &Tensor) -> Tensor {
        let hidden = linear(
            p,
            "grasp_critic.1",
            &dense_norm_tanh(p, "grasp_critic.0", encoded),
        );
        linear(p, "grasp_critic.out", &hidden)
    }

    pub(super) fn temperature(&self) -> Tensor {
        self.params.get("temperature.raw").softplus()
    }

    /// Draws from the policy; log π of a tanh-squashed normal, summed over columns, in the form
    /// that does not lose digits: −2(ln 2 − z − softplus(−2z)).
    pub(super) fn sample(&self, encoded: &Tensor, normal: &Tensor) -> Sample {
        let (mean, std) = self.actor(&self.params, encoded);
        let z = mean + &std * normal;
        let density: Tensor =
            normal.square() * -0.5 - std.log() - 0.5 * (2.0 * std::f64::consts::PI).ln();
        let squash: Tensor = (-&z + std::f64::consts::LN_2 - (&z * -2.0).softplus()) * 2.0;
        let log_prob = (density - squash).sum_dim_intlist([1].as_slice(), false, None::<Kind>);
        Sample {
            motion: z.tanh(),
            log_prob,
        }
    }

    /// Maps \[B, h, w, C\] and proprioception to the heads' common input, without dropout and with
    /// gradients: for imitation.
    pub fn encoded(&self, maps: &[Tensor], proprio: &Tensor) -> Tensor {
        let embed = |((camera, _), maps): (&(String, [i64; 3]), &Tensor)| {
            spatial_embeddings(self.params.get(&sle_kernel(camera)), &by_channel(maps))
        };
        let features: Vec<Tensor> = self.shapes.cameras.iter().zip(maps).map(embed).collect();
        self.encode(&self.params, &features, proprio, None).joined()
    }

    /// The greedy motion \[B, motion columns\] of an encoding.
    pub fn greedy_motion(&self, encoded: &Tensor) -> Tensor {
        self.actor(&self.params, encoded).0.tanh()
    }

    /// The grasp critic's values \[B, choices\] of an encoding; imitation trains them as logits.
    pub fn grasp_values(&self, encoded: &Tensor) -> Tensor {
        self.grasp_critic(&self.params, encoded)
    }
}
