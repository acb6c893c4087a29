//! Imitation of demonstrations: it makes the encoder useful, and it is the baseline that
//! reinforcement learning has to beat.
//!
//! Trunk and heads are trained end to end: mean squared error on motion, cross-entropy on the
//! gripper's choice (as the grasp critic's values, so that the result is exported by the same
//! graph as a grasp critic's policy), and, where demonstrations tell it, the way from the tool to
//! the grasp as an auxiliary target, which makes the maps say where things are.

pub mod config;

use std::{io, path::Path, sync::atomic::Ordering};

use hilt_protocol::{Entry, RigSpec};
use hilt_recording::Recording;
use tch::{Device, Kind, Tensor};

pub use self::config::ImitationConfig;
use crate::{
    agents::sac_grasp::{GripperHead, SacGrasp, SacGraspConfig, Shapes},
    augment::{draw_offsets, shift},
    config::LearnerConfig,
    dataset::{Demonstrations, Until, each_entry},
    encoder::{Encoder, EncoderConfig},
    frames::Frames,
    nn::{
        Adam, AdamConfig, ParamSpec, Params,
        layers::{linear, linear_specs},
    },
    show::Phase,
    stopped::Stopped,
};

/// What the heads stand on.
#[derive(Clone, Copy, Debug)]
pub enum Trunk<'a> {
    /// A fresh encoder, trained with them.
    Fresh(&'a EncoderConfig),
    /// One that stays as it is.
    Frozen(&'a Encoder),
}

impl Trunk<'_> {
    fn config(&self) -> &EncoderConfig {
        match self {
            Trunk::Fresh(config) => config,
            Trunk::Frozen(encoder) => encoder.config(),
        }
    }
}

/// What is trained, how, and where.
#[derive(Clone, Copy, Debug)]
pub struct Setup<'a> {
    /// The trunk.
    pub trunk: Trunk<'a>,
    /// Sizes of the heads; their gripper head is chosen by the rig.
    pub heads: &'a SacGraspConfig,
    /// How.
    pub config: &'a ImitationConfig,
    /// Where.
    pub device: Device,
    /// Seed of every random draw.
    pub seed: u64,
}

/// What came out.
#[derive(Debug)]
pub struct Imitation {
    /// The trained trunk.
    pub encoder: Encoder,
    /// Heads: `encoder.*`, `actor.*` and `grasp_critic.*` are trained, the rest is fresh.
    pub policy: SacGrasp,
    /// Gradient steps made.
    pub steps: u64,
    /// Mean loss over the last hundred steps.
    pub loss: f64,
}

/// Why nothing is imitated.
#[derive(Debug, thiserror::Error)]
pub enum ImitationError {
    /// There is nothing.
    #[error("there is no demonstration to imitate; record some with `hilt record`")]
    NoDemonstrations,
    /// Frames cannot be read back.
    #[error(transparent)]
    Frames(#[from] io::Error),
}

/// The numbers of demonstrations as tensors.
struct Samples {
    proprio: Tensor,
    actions: Tensor,
    to_grasp: Tensor,
    has_grasp: Tensor,
}

impl Samples {
    fn of(d: &Demonstrations, device: Device) -> Self {
        let n = d.len() as i64;
        let rows = |rows: &[Vec<f32>]| {
            Tensor::from_slice(&rows.concat())
                .view([n, -1])
                .to_device(device)
        };
        let to_grasp_m = d.to_grasp_m();
        let to_grasp: Vec<f32> = (to_grasp_m.iter())
            .flat_map(|g| g.unwrap_or_default())
            .collect();
        let has_grasp: Vec<f32> = to_grasp_m
            .iter()
            .map(|g| f32::from(u8::from(g.is_some())))
            .collect();
        Self {
            proprio: rows(&d.proprio),
            actions: rows(&d.actions),
            to_grasp: Tensor::from_slice(&to_grasp).view([n, 3]).to_device(device),
            has_grasp: Tensor::from_slice(&has_grasp)
                .view([n, 1])
                .to_device(device),
        }
    }
}

/// Trains on the demonstrations, each with its frames, until all steps are made or `go_on` says no. `go_on` sees steps
/// made and the running loss. What is in memory does not grow with the frames.
pub fn imitate(
    (demonstrations, frames): (&Demonstrations, &Frames),
    spec: &RigSpec,
    setup: Setup<'_>,
    mut go_on: impl FnMut(u64, f64) -> bool,
) -> Result<Imitation, ImitationError> {
    if demonstrations.is_empty() {
        return Err(ImitationError::NoDemonstrations);
    }
    let Setup {
        trunk,
        heads,
        config,
        device,
        seed,
    } = setup;
    let shapes = Shapes::of(spec, trunk.config().map_shape());
    let learned_gripper = !shapes.gripper_columns.is_empty();
    let gripper = if learned_gripper {
        GripperHead::GraspCritic
    } else {
        GripperHead::Fixed
    };
    let encoder = match trunk {
        Trunk::Fresh(config) => Encoder::new(config.clone(), Kind::Float, device, seed),
        Trunk::Frozen(encoder) => encoder.copy(),
    };
    let policy = SacGrasp::new(
        SacGraspConfig {
            gripper,
            ..heads.clone()
        },
        shapes,
        Kind::Float,
        device,
        seed,
    );
    let (mean, std) = demonstrations.proprio_statistics();
    policy.centre_proprio(&mean, &std);
    let width = heads.bottleneck * spec.cameras.len() as i64 + heads.proprio_latent;
    let aux_specs: Vec<ParamSpec> = linear_specs("to_grasp", width, 3);
    let aux = Params::new(&aux_specs, Kind::Float, device);
    let adam = AdamConfig {
        weight_decay: config.weight_decay,
        ..AdamConfig::new(config.lr)
    };
    let frozen = matches!(trunk, Trunk::Frozen(_));
    let places = encoder.params().select(|_| !frozen);
    let mut trunk_adam = Adam::new(adam, encoder.params(), places);
    let trained = |n: &str| {
        n.starts_with("encoder.") || n.starts_with("actor.") || n.starts_with("grasp_critic.")
    };
    let mut head_adam = Adam::new(adam, policy.params(), policy.params().select(trained));
    let mut aux_adam = Adam::new(adam, &aux, aux.select(|_| true));

    let samples = Samples::of(demonstrations, device);
    let n = demonstrations.len() as i64;
    let (mut steps, mut running) = (0u64, f64::NAN);
    while steps < config.steps && go_on(steps, running) {
        let batch = config.batch;
        let rows = Tensor::randint(n, [batch], (Kind::Int64, Device::Cpu));
        let mut places = vec![0; batch as usize];
        rows.copy_data(&mut places, batch as usize);
        let augment = |images: Tensor| {
            let picked = shift(
                &images.to_device(device),
                &draw_offsets(batch, config.shift_px, device),
                config.shift_px,
            );
            let gain = Tensor::rand([batch, 1, 1, 1], (Kind::Float, device))
                * (2.0 * config.brightness)
                + (1.0 - config.brightness);
            (picked.to_kind(Kind::Float) * gain).clamp(0.0, 255.0)
        };
        // All cameras through the trunk in one pass.
        let images: Vec<Tensor> = frames.of(&places)?.into_iter().map(augment).collect();
        let images = Tensor::cat(&images, 0);
        let maps = if frozen {
            encoder.encode(&images)
        } else {
            encoder.forward(&images)
        };
        let maps = maps.split(batch, 0);
        let rows = rows.to_device(device);
        let proprio = samples.proprio.index_select(0, &rows);
        let actions = samples.actions.index_select(0, &rows);
        let encoded = policy.encoded(&maps, &proprio);
        let columns = Tensor::from_slice(&policy.shapes().motion_columns).to_device(device);
        let motion = actions.index_select(1, &columns);
        let mut loss = (policy.greedy_motion(&encoded) - motion)
            .square()
            .mean(None::<Kind>);
        if learned_gripper {
            loss += policy
                .grasp_values(&encoded)
                .cross_entropy_for_logits(&policy.choice(&actions));
        }
        let miss = linear(&aux, "to_grasp", &encoded) - samples.to_grasp.index_select(0, &rows);
        let known = samples.has_grasp.index_select(0, &rows);
        loss += (miss.square() * known).mean(None::<Kind>) * config.grasp_weight;

        let (trunk, heads) = (
            trunk_adam.leaves(encoder.params()),
            head_adam.leaves(policy.params()),
        );
        let leaves: Vec<&Tensor> = trunk
            .iter()
            .chain(&heads)
            .copied()
            .chain(aux_adam.leaves(&aux))
            .collect();
        let (trunk, heads) = (trunk.len(), heads.len());
        let grads = Tensor::run_backward(&[&loss], &leaves, false, false);
        trunk_adam.step(encoder.params(), Some(&grads[..trunk]));
        head_adam.step(policy.params(), Some(&grads[trunk..trunk + heads]));
        aux_adam.step(&aux, Some(&grads[trunk + heads..]));
        let now = loss.double_value(&[]);
        running = if running.is_nan() {
            now
        } else {
            running + (now - running) / 100.0
        };
        steps += 1;
    }
    Ok(Imitation {
        encoder,
        policy,
        steps,
        loss: running,
    })
}

/// The encoder that imitation of demonstrations makes, as it is configured; the user sees how that goes.
/// `go_on` as in [`imitate`].
pub fn train_encoder(
    config: &LearnerConfig,
    spec: &RigSpec,
    samples: (&Demonstrations, &Frames),
    (device, seed): (Device, u64),
    go_on: impl Fn(u64, f64) -> bool,
) -> Result<Encoder, ImitationError> {
    println!(
        "imitation: {} samples of {} entries, {} steps",
        samples.0.len(),
        samples.0.entries,
        config.imitation.steps
    );
    let setup = Setup {
        trunk: Trunk::Fresh(&config.encoder),
        heads: &config.sac_grasp,
        config: &config.imitation,
        device,
        seed,
    };
    let mut show = Phase::new("imitation", config.imitation.steps);
    let made = imitate(samples, spec, setup, |steps, loss| {
        show.stand(steps, loss);
        go_on(steps, loss)
    })?;
    show.end();
    println!("imitation: {} steps, loss {:.4}", made.steps, made.loss);
    Ok(made.encoder)
}

/// [`train_encoder`] on the entries of a recording of which `taken` says yes. Their frames wait in a file without a name
/// in `dir`.
///
/// # Errors
/// What cannot be read or imitated; [`Stopped`], with its words.
pub fn encoder_of(
    recording: &Recording,
    taken: impl Fn(&Entry) -> bool,
    dir: &Path,
    config: &LearnerConfig,
    (device, seed): (Device, u64),
    (stop, before): Until<'_>,
) -> anyhow::Result<Encoder> {
    let spec = recording.spec();
    let mut samples = Demonstrations::of(spec);
    let mut frames = Frames::begin(dir, &spec.cameras)?;
    each_entry(recording, (stop, before), |entry| {
        if !taken(entry) {
            return Ok(());
        }
        if let Some(seen) = samples.take(entry) {
            frames.push(&seen.images)?;
        }
        Ok(())
    })?;
    let go_on = |_, _| !stop.load(Ordering::Relaxed);
    let encoder = train_encoder(config, spec, (&samples, &frames), (device, seed), go_on)?;
    Stopped::check(stop, before)?;
    Ok(encoder)
}

#[cfg(test)]
mod tests {
    use hilt_protocol::{
        ActionSource, Axis, CameraSpec, Entry, Image, Observation, Record, RunId, SetupMode, Step,
    };

    use super::*;

    fn spec() -> RigSpec {
        RigSpec {
            mode: SetupMode::SingleArmLearnedGripper,
            controlled_axes: vec![Axis::X],
            cameras: vec![CameraSpec {
                name: "front".into(),
                height: 16,
                width: 16,
            }],
            proprio: vec!["tool_x".into()],
            policy_hz: 10,
        }
    }

    /// Demonstrations whose picture has a level and whose action is this, with their frames.
    fn demonstrations(of: &[(u8, [f32; 2])]) -> (Demonstrations, Frames) {
        let dir = tempfile::tempdir().unwrap();
        let mut frames = Frames::begin(dir.path(), &spec().cameras).unwrap();
        let mut demonstrations = Demonstrations::of(&spec());
        for sequence in 0..=of.len() {
            let level = of.get(sequence).map_or(0, |(level, _)| *level);
            let seen = Observation {
                captured_ns: 0,
                proprio: vec![0.0],
                images: vec![Image {
                    captured_ns: 0,
                    height: 16,
                    width: 16,
                    rgb: vec![level; 16 * 16 * 3].into(),
                }],
            };
            let record = match sequence.checked_sub(1) {
                None => Record::Reset(seen),
                Some(before) => Record::Step(Step {
                    action: of[before].1.to_vec(),
                    source: ActionSource::Human,
                    reward: 0.0,
                    grasp_penalty: 0.0,
                    terminated: false,
                    truncated: false,
                    label: None,
                    policy_version: 0,
                    noise_seed: 0,
                    next: seen,
                }),
            };
            let entry = Entry {
                run: RunId(1),
                sequence: sequence as u64,
                episode: 0,
                index: sequence as u32,
                record,
            };
            if let Some(seen) = demonstrations.take(&entry) {
                frames.push(&seen.images).unwrap();
            }
        }
        assert_eq!(demonstrations.len() as u64, frames.len());
        (demonstrations, frames)
    }

    /// The picture's brightness says where to go and when to close: imitation finds out, whether
    /// or not it may train the trunk.
    #[test]
    fn it_imitates_what_the_picture_says() {
        tch::set_num_threads(1);
        let shown = [(220, [0.6, -1.0]), (40, [-0.6, 0.0])];
        let (demonstrations, frames) = demonstrations(&shown.repeat(30));
        let encoder = EncoderConfig {
            image_size: 16,
            stem_kernel: 5,
            stem_pool: false,
            widths: vec![8, 8],
            groups: 4,
        };
        let heads = SacGraspConfig {
            hidden: vec![16, 16],
            bottleneck: 16,
            ..SacGraspConfig::default()
        };
        let config = ImitationConfig {
            steps: 1000,
            batch: 16,
            lr: 3e-3,
            brightness: 0.05,
            ..ImitationConfig::default()
        };
        let go_on = |steps, loss: f64| steps < 150 || loss > 0.05;
        let given = Encoder::new(encoder.clone(), Kind::Float, Device::Cpu, 2);
        for trunk in [Trunk::Fresh(&encoder), Trunk::Frozen(&given)] {
            let setup = Setup {
                trunk,
                heads: &heads,
                config: &config,
                device: Device::Cpu,
                seed: 1,
            };
            let samples = (&demonstrations, &frames);
            let out = imitate(samples, &spec(), setup, go_on).unwrap();
            if matches!(trunk, Trunk::Frozen(_)) {
                assert_eq!(out.encoder.hash(), given.hash());
            }
            for (level, motion, gripper) in [(220, 0.6, -1.0), (40, -0.6, 0.0)] {
                let image = Tensor::full([1, 16, 16, 3], level, (Kind::Uint8, Device::Cpu));
                let zero = |n: i64| Tensor::zeros([1, n], (Kind::Float, Device::Cpu));
                let maps = [out.encoder.encode(&image)];
                let action = out.policy.act(&maps, &zero(1), &zero(1), &zero(3), 0.0);
                let off = (action.double_value(&[0, 0]) - motion).abs();
                assert!(off < 0.25, "{trunk:?}: {action:?}");
                assert_eq!(action.double_value(&[0, 1]), gripper);
            }
        }
    }

    #[test]
    fn nothing_to_imitate_is_said() {
        let (encoder, heads, config) = (
            EncoderConfig::narrow(),
            SacGraspConfig::default(),
            ImitationConfig::default(),
        );
        let setup = Setup {
            trunk: Trunk::Fresh(&encoder),
            heads: &heads,
            config: &config,
            device: Device::Cpu,
            seed: 1,
        };
        let (nothing, frames) = demonstrations(&[]);
        let none = imitate((&nothing, &frames), &spec(), setup, |_, _| true);
        assert!(matches!(none, Err(ImitationError::NoDemonstrations)));
    }
}
