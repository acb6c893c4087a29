//! Encoder, policy and classifier together: from an observation to an action and a judgement.

use std::{fs, path::Path, sync::Arc, time::Instant};

use hilt_protocol::{Graph, GraphName, Image, Observation, RigSpec, noise};

use super::{
    engine::{Engine, EngineError},
    head::{Head, SnapshotRefused},
    kept::Kept,
    swap::{SnapshotSource, Swapper},
};
use crate::tick::Stage;

/// Where a policy comes from when no learner is there: a folder with `encoder.onnx`, `policy.onnx`
/// (weights baked in) and, optionally, `classifier.onnx`.
#[derive(Debug)]
pub struct PolicyFiles {
    /// The frozen encoder.
    pub encoder: Graph,
    /// The policy with its weights.
    pub policy: Graph,
    /// The reward classifier with its weights.
    pub classifier: Option<Graph>,
}

impl PolicyFiles {
    /// Reads a folder written by `hilt-learner`.
    pub fn read(dir: &Path, spec: &RigSpec) -> std::io::Result<Self> {
        let graph = |name: GraphName| {
            let path = dir.join(format!("{}.onnx", name.name()));
            fs::read(&path)
                .map(|onnx| Graph {
                    name,
                    spec: spec.hash(),
                    onnx,
                })
                .map_err(|e| std::io::Error::new(e.kind(), format!("{}: {e}", path.display())))
        };
        let classifier = match graph(GraphName::Classifier) {
            Ok(classifier) => Some(classifier),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => None,
            Err(e) => return Err(e),
        };
        Ok(Self {
            encoder: graph(GraphName::Encoder)?,
            policy: graph(GraphName::Policy)?,
            classifier,
        })
    }
}

/// Maps of the observation encoded last, so that judging an observation and then acting on it
/// encodes its frames once.
#[derive(Default)]
struct MapCache {
    of: Vec<Arc<[u8]>>,
    /// Camera after camera.
    maps: Vec<f32>,
}

impl MapCache {
    fn holds(&self, images: &[Image]) -> bool {
        self.of.len() == images.len()
            && self
                .of
                .iter()
                .zip(images)
                .all(|(a, b)| Arc::ptr_eq(a, &b.rgb))
    }
}

/// The robot's policy and judge.
pub struct OnnxBrain {
    spec: RigSpec,
    encoder: Head,
    policy: Swapper,
    classifier: Option<Swapper>,
    cache: MapCache,
    encode_ns: Option<u64>,
    head_ns: Option<u64>,
    swaps: u64,
}

impl OnnxBrain {
    /// Loads the graphs. `source` says where the snapshots of a graph come from; `None`: it has its
    /// weights already.
    pub fn load(
        engine: &Engine,
        spec: &RigSpec,
        files: &PolicyFiles,
        source: impl FnMut(GraphName) -> Option<SnapshotSource>,
    ) -> Result<Self, EngineError> {
        Self::load_keeping(engine, spec, files, source, None)
    }

    /// As [`OnnxBrain::load`]; snapshots that were verified are kept, by the loader threads.
    pub fn load_keeping(
        engine: &Engine,
        spec: &RigSpec,
        files: &PolicyFiles,
        mut source: impl FnMut(GraphName) -> Option<SnapshotSource>,
        kept: Option<&Kept>,
    ) -> Result<Self, EngineError> {
        // One run for all cameras: a sixth faster than one after the other.
        let encoder = Head::load(engine, &files.encoder, spec.cameras.len())?;
        let mut swapper =
            |graph: &Graph| Swapper::start(engine, graph, source(graph.name), kept.cloned());
        let policy = swapper(&files.policy)?;
        check_noise(policy.active(), spec)?;
        Ok(Self {
            spec: spec.clone(),
            encoder,
            policy,
            classifier: files.classifier.as_ref().map(swapper).transpose()?,
            cache: MapCache::default(),
            encode_ns: None,
            head_ns: None,
            swaps: 0,
        })
    }

    /// Takes newly verified weights, if any; called between two steps. Returns what the loaders
    /// refused since the last call, by name.
    pub fn swap(&mut self) -> Vec<(GraphName, SnapshotRefused)> {
        let mut refused = Vec::new();
        let swappers = [
            (GraphName::Policy, Some(&mut self.policy)),
            (GraphName::Classifier, self.classifier.as_mut()),
        ];
        for (name, swapper) in swappers {
            let Some(swapper) = swapper else { continue };
            let swapped = swapper.swap();
            self.swaps += u64::from(swapped && name == GraphName::Policy);
            refused.extend(
                swapper
                    .reports()
                    .filter_map(|report| report.err().map(|e| (name, e))),
            );
        }
        refused
    }

    /// What encoder and head took, if they ran since the last call, nanoseconds.
    pub fn stages(&mut self) -> Vec<(Stage, u64)> {
        let encode = self.encode_ns.take().map(|ns| (Stage::Encode, ns));
        let head = self.head_ns.take().map(|ns| (Stage::Head, ns));
        encode.into_iter().chain(head).collect()
    }

    /// Times that the policy was exchanged.
    pub fn swaps(&self) -> u64 {
        self.swaps
    }

    /// Whether the policy has weights.
    pub fn can_act(&self) -> bool {
        self.policy.active().is_ready()
    }

    /// Whether there is a classifier with weights.
    pub fn can_judge(&self) -> bool {
        self.classifier
            .as_ref()
            .is_some_and(|c| c.active().is_ready())
    }

    /// Version of the policy in force; 0 for one that was read from files.
    pub fn version(&self) -> u64 {
        self.policy.active().version()
    }

    /// Gradient updates behind the policy in force.
    pub fn updates(&self) -> u64 {
        self.policy.active().updates()
    }

    fn encode(&mut self, images: &[Image]) -> Result<(), EngineError> {
        if self.cache.holds(images) {
            return Ok(());
        }
        self.cache.of.clear();
        self.encoder
            .set_u8("images", images.iter().map(|image| &*image.rgb))?;
        let began = Instant::now();
        self.cache.maps = self.encoder.run()?;
        self.encode_ns = Some(nanoseconds(began));
        self.cache
            .of
            .extend(images.iter().map(|image| Arc::clone(&image.rgb)));
        Ok(())
    }

    fn set_maps(cameras: &RigSpec, cache: &MapCache, head: &mut Head) -> Result<(), EngineError> {
        let map_len = cache.maps.len() / cameras.cameras.len().max(1);
        for (camera, map) in cameras
            .cameras
            .iter()
            .zip(cache.maps.chunks_exact(map_len.max(1)))
        {
            head.set_f32(&format!("map.{}", camera.name), map)?;
        }
        Ok(())
    }

    /// The policy's action for an observation, in the action space of the spec. `explore`: sampled
    /// with the noise of `seed`; else greedy.
    pub fn act(
        &mut self,
        observation: &Observation,
        seed: u64,
        explore: bool,
    ) -> Result<Vec<f32>, EngineError> {
        self.encode(&observation.images)?;
        let head = self.policy.head();
        Self::set_maps(&self.spec, &self.cache, head)?;
        head.set_f32("proprio", &observation.proprio)?;
        if let Some(columns) = head.f32_input_len("noise") {
            head.set_f32("noise", &noise::normals(seed, columns))?;
        }
        if head.has_input("gumbel") {
            head.set_f32("gumbel", &noise::gumbels(seed, gumbel_len(&self.spec)))?;
        }
        if head.has_input("explore") {
            head.set_f32("explore", &[f32::from(u8::from(explore))])?;
        }
        let began = Instant::now();
        let action = head.run();
        self.head_ns = Some(nanoseconds(began));
        action
    }

    /// The classifier's probability of success, 0 to 1; `None` before its first weights.
    pub fn judge(&mut self, observation: &Observation) -> Result<Option<f32>, EngineError> {
        if !self.can_judge() {
            return Ok(None);
        }
        let on_maps = self.classifier.as_ref().is_some_and(|c| {
            self.spec
                .cameras
                .iter()
                .any(|camera| c.active().has_input(&format!("map.{}", camera.name)))
        });
        if on_maps {
            self.encode(&observation.images)?;
        }
        let Some(classifier) = self.classifier.as_mut() else {
            return Ok(None);
        };
        let head = classifier.head();
        if on_maps {
            Self::set_maps(&self.spec, &self.cache, head)?;
        } else {
            for (camera, image) in self.spec.cameras.iter().zip(&observation.images) {
                head.set_u8(&format!("image.{}", camera.name), [&*image.rgb])?;
            }
        }
        Ok(head.run()?.first().copied())
    }
}

/// A policy's noise is for the motion, or for the whole action where it takes a gripper's command for a
/// number like the others.
fn check_noise(policy: &Head, spec: &RigSpec) -> Result<(), EngineError> {
    let (action, motion) = (spec.action_dim(), spec.motion_columns().len());
    match policy.f32_input_len("noise") {
        Some(columns) if columns != action && columns != motion => Err(EngineError::NoiseColumns {
            columns,
            action,
            motion,
        }),
        _ => Ok(()),
    }
}

/// Length of the `gumbel` input: three choices for one gripper, nine joint ones for two.
fn gumbel_len(spec: &RigSpec) -> usize {
    3usize.pow(u32::try_from(spec.gripper_columns().len()).unwrap_or(0))
}

fn nanoseconds(since: Instant) -> u64 {
    u64::try_from(since.elapsed().as_nanos()).unwrap_or(u64::MAX)
}
