//! The policy's whole latency, from an observation (two camera images, proprioception) to an action,
//! against bare ONNX Runtime on the same graphs: the demo's, with the rig's own thread settings.
//!
//! The two take turns, call by call, so that a busy machine slows both alike. Both run the policy's
//! graph with its weights as inputs, which are bound once. Prints one line of JSON; the graph with
//! its weights baked in, which a released policy runs, goes to stderr.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use hilt_learner::onnx::Weights;
use hilt_protocol::{GraphName, ModelSnapshot, Observation, RigSpec, noise};
use hilt_runtime::inference::{Engine, OnnxBrain, PolicyFiles};
use hilt_tests::Untrained;
use ort::{
    memory::Allocator,
    session::{IoBinding, Session},
    value::{Tensor, ValueType},
};

const CALLS: u64 = 4000;
const WARM_UP: u64 = 200;
const OBSERVATIONS: usize = 32;

/// What somebody would write without hilt, with care: two sessions, all cameras in one run of the
/// encoder, weights bound once.
struct Bare {
    encoder: Session,
    images: Tensor<u8>,
    policy: Session,
    binding: IoBinding,
    inputs: Vec<(String, Tensor<f32>)>,
}

impl Bare {
    fn new(
        engine: &Engine,
        spec: &RigSpec,
        files: &PolicyFiles,
        weights: &ModelSnapshot,
    ) -> Result<Self> {
        let encoder = engine.session("encoder", &files.encoder.onnx)?;
        let policy = engine.session("policy", &files.policy.onnx)?;
        let mut binding = policy.create_binding()?;
        let (allocator, mut inputs) = (Allocator::default(), Vec::new());
        let [height, width] = [spec.cameras[0].height, spec.cameras[0].width].map(|n| n as usize);
        let images = Tensor::<u8>::new(&allocator, [spec.cameras.len(), height, width, 3])?;
        for input in policy.inputs() {
            let ValueType::Tensor { shape, .. } = input.dtype() else {
                anyhow::bail!("{} is no tensor", input.name());
            };
            let shape: Vec<usize> = shape.iter().map(|&d| d as usize).collect();
            let mut tensor = Tensor::<f32>::new(&allocator, shape)?;
            let weight = weights.weights.iter().find(|w| w.name == input.name());
            if let Some(weight) = weight {
                tensor.extract_tensor_mut().1.copy_from_slice(&weight.data);
            }
            binding.bind_input(input.name(), &tensor)?;
            if weight.is_none() {
                inputs.push((input.name().to_owned(), tensor));
            }
        }
        binding.bind_output_to_device("action", policy.allocator().memory_info())?;
        Ok(Self {
            encoder,
            images,
            policy,
            binding,
            inputs,
        })
    }

    /// `draws` are noise and Gumbels.
    fn act(
        &mut self,
        spec: &RigSpec,
        seen: &Observation,
        draws: &[Vec<f32>; 2],
    ) -> Result<Vec<f32>> {
        let (_, pixels) = self.images.extract_tensor_mut();
        for (place, image) in pixels
            .chunks_exact_mut(seen.images[0].rgb.len())
            .zip(&seen.images)
        {
            place.copy_from_slice(&image.rgb);
        }
        let outputs = self.encoder.run(ort::inputs!["images" => &self.images])?;
        let (_, maps) = outputs["maps"].try_extract_tensor::<f32>()?;
        let mut maps = maps.chunks_exact(maps.len() / spec.cameras.len());
        let [noise, gumbel] = draws;
        for (name, tensor) in &mut self.inputs {
            let values = match name.as_str() {
                "proprio" => &seen.proprio[..],
                "noise" => noise,
                "gumbel" => gumbel,
                "explore" => &[1.0],
                // The maps are inputs in the order of the cameras.
                _ => maps.next().context("an input that nobody knows")?,
            };
            tensor.extract_tensor_mut().1.copy_from_slice(values);
        }
        let outputs = self.policy.run_binding(&self.binding)?;
        let (_, action) = outputs["action"].try_extract_tensor::<f32>()?;
        Ok(action.to_vec())
    }
}

/// The brain with the weights of a snapshot, as an actor gets them.
fn brain(
    engine: &Engine,
    spec: &RigSpec,
    files: &PolicyFiles,
    weights: &ModelSnapshot,
) -> Result<OnnxBrain> {
    let mut brain = OnnxBrain::load(engine, spec, files, |_| {
        let mut waiting = Some(weights.clone());
        Some(Box::new(move |timeout| {
            waiting.take().or_else(|| {
                std::thread::sleep(timeout);
                None
            })
        }))
    })?;
    while !brain.can_act() {
        for (graph, refused) in brain.swap() {
            ensure!(graph != GraphName::Policy, "{refused}");
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    Ok(brain)
}

fn percentile_ms(sorted: &[Duration], share: f64) -> f64 {
    let last = sorted.len().saturating_sub(1) as f64;
    sorted[(last * share) as usize].as_secs_f64() * 1e3
}

/// Medians in milliseconds: hilt's, bare.
fn compare(learner: &Untrained, engine: &Engine, weights: Weights) -> Result<[f64; 2]> {
    let (spec, files) = (&learner.spec, learner.graphs(weights));
    let snapshot = learner.snapshot(&files.policy, 1);
    let mut brain = brain(engine, spec, &files, &snapshot)?;
    let mut bare = Bare::new(engine, spec, &files, &snapshot)?;
    let seen: Vec<Observation> = (0..OBSERVATIONS as u64)
        .map(|seed| learner.observation(seed))
        .collect();
    let mut taken = [Vec::new(), Vec::new()];
    for call in 0..WARM_UP + CALLS {
        let seen = &seen[call as usize % OBSERVATIONS];
        let mut ours = || -> Result<_> {
            let start = Instant::now();
            let action = brain.act(seen, call, true)?;
            Ok((action, start.elapsed()))
        };
        let draws = [
            noise::normals(call, spec.motion_columns().len()),
            noise::gumbels(call, 3),
        ];
        let mut theirs = || -> Result<_> {
            let start = Instant::now();
            let action = bare.act(spec, seen, &draws)?;
            Ok((action, start.elapsed()))
        };
        // Whoever comes second finds the image in the caches: that takes turns too.
        let (a, b) = if call % 2 == 0 {
            (ours()?, theirs()?)
        } else {
            let b = theirs()?;
            (ours()?, b)
        };
        ensure!(a.0 == b.0, "call {call}: {:?} is not {:?}", a.0, b.0);
        if call >= WARM_UP {
            taken[0].push(a.1);
            taken[1].push(b.1);
        }
    }
    taken.iter_mut().for_each(|times| times.sort());
    let [ours, theirs] = &taken;
    eprintln!(
        "{weights:?}: hilt p50 {:.3} p99 {:.3} ms, bare p50 {:.3} p99 {:.3} ms, ratio of medians {:.3}",
        percentile_ms(ours, 0.5),
        percentile_ms(ours, 0.99),
        percentile_ms(theirs, 0.5),
        percentile_ms(theirs, 0.99),
        percentile_ms(ours, 0.5) / percentile_ms(theirs, 0.5),
    );
    Ok([ours, theirs].map(|times| percentile_ms(times, 0.5)))
}

fn main() -> Result<()> {
    let learner = Untrained::new(1)?;
    let engine = Engine::open(&learner.rig.providers, learner.rig.inference_threads)?;
    eprintln!("{engine:?}");
    compare(&learner, &engine, Weights::Baked)?;
    let [value, peer] = compare(&learner, &engine, Weights::Inputs)?;
    let row = serde_json::json!({
        "name": "policy.p50_ms", "value": value, "unit": "ms",
        "peer": "bare ONNX Runtime", "peer_value": peer, "ratio": value / peer,
    });
    println!("{row}");
    Ok(())
}
