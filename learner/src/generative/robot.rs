//! What a robot saw, for somebody who looks at what is generated of it: a recording, or what a training was fed.
//!
//! A recording becomes what a training would make of it: the encoder that is given or that imitation makes, its maps in
//! a replay, a projection of those. A training has all of that in its folder, and nothing in it is changed; while it is
//! at work nobody else looks into its replay.

use std::{path::Path, sync::RwLock};

use anyhow::{Context, Result};
use hilt_protocol::RigSpec;
use hilt_recording::{Recording, SPEC_FILE, read_spec};
use tch::{Device, Kind};

use super::{
    fed,
    relevance::Critic,
    replay::{GenerativeReplay, Synthetic},
    sight::{Seen, SightReplay},
};
use crate::{
    agents::{Transitions, guard::check_state},
    checkpoint::{read_agent, read_tensors},
    config::LearnerConfig,
    course::folder::{CHECKPOINT_FILE, FACTS_FILE, RUNS},
    dataset::{Until, each_entry},
    encoder::Encoder,
    export::RobotAgent,
    hybrid,
    imitation::encoder_of,
    ingest::Ingest,
    replay::Replay,
};

/// It.
pub struct Robot {
    encoder: Encoder,
    agent: Box<dyn RobotAgent>,
    replay: Replay,
    generative: SightReplay,
}

/// What belongs to a rig by a configuration.
struct Rig<'a> {
    spec: &'a RigSpec,
    config: &'a LearnerConfig,
    device: Device,
    seed: u64,
}

impl Rig<'_> {
    fn agent(&self, encoder: &Encoder) -> Box<dyn RobotAgent> {
        let map = encoder.config().map_shape();
        (self.config).sight_agent(self.spec, map, self.device, self.seed)
    }

    fn generative(&self) -> Result<SightReplay> {
        SightReplay::new(self.config, self.spec, self.seed, self.device)
            .context("generated experience is switched off")
    }

    /// The replay in a folder, with what goes into it.
    fn replay(&self, dir: &Path, encoder: &Encoder) -> Result<(Replay, Ingest)> {
        let ingest = Ingest::new(self.spec.clone(), encoder, &self.config.train)?;
        let (layout, identity) = (ingest.layout(), ingest.identity());
        Ok((Replay::open(dir, layout, identity, usize::MAX)?, ingest))
    }
}

impl Robot {
    /// Of a recording. Its maps and what else it takes to make them lie in `dir`.
    ///
    /// # Errors
    /// What cannot be read or imitated; [`crate::stopped::Stopped`].
    pub fn of_recording(
        recording: &Recording,
        dir: &Path,
        config: &LearnerConfig,
        (device, seed): (Device, u64),
        until: Until<'_>,
    ) -> Result<Self> {
        let rig = Rig {
            spec: recording.spec(),
            config,
            device,
            seed,
        };
        config.encoder.check(&rig.spec.cameras)?;
        std::fs::create_dir_all(dir).with_context(|| dir.display().to_string())?;
        let encoder = match config.given_encoder(device, seed)? {
            Some(encoder) => encoder,
            None => encoder_of(recording, |_| true, dir, config, (device, seed), until)?,
        };
        let (replay, ingest) = rig.replay(&dir.join(hybrid::REPLAY), &encoder)?;
        let replay = RwLock::new(replay);
        each_entry(recording, until, |entry| {
            ingest.push(entry, true, &replay)?;
            Ok(())
        })?;
        Ok(Self {
            agent: rig.agent(&encoder),
            generative: rig.generative()?,
            replay: (replay.into_inner()).unwrap_or_else(std::sync::PoisonError::into_inner),
            encoder,
        })
    }

    /// Of a training in `dir` that has this configuration, if it is a robot's. `rig` is for one whose folder does not
    /// say it, as it has exported nothing yet.
    ///
    /// # Errors
    /// If it has no checkpoint yet, was fed with nothing, or is at work.
    pub fn of_run(
        dir: &Path,
        rig: Option<&RigSpec>,
        config: &LearnerConfig,
        device: Device,
    ) -> Result<Option<Self>> {
        let runs = dir.join(RUNS);
        let on_runs = runs.join(hybrid::ENCODER_FILE).exists();
        let on_stream = dir.join(hybrid::STATE_FILE).exists();
        if !(on_runs && dir.join(FACTS_FILE).exists() || on_stream) {
            return Ok(None);
        }
        let shown = || format!("--run {}", dir.display());
        anyhow::ensure!(
            config.generative_replay.enabled,
            "{}: {}",
            shown(),
            fed::WITHOUT
        );
        let spec = match rig {
            Some(rig) => rig.clone(),
            None => read_spec(&dir.join("export").join(SPEC_FILE)).with_context(|| {
                format!(
                    "{}: it has exported nothing yet that says its rig; give that by --spec",
                    shown()
                )
            })?,
        };
        let rig = Rig {
            spec: &spec,
            config,
            device,
            seed: 0,
        };
        let stores = if on_runs { &runs } else { dir };
        let encoder = Encoder::new(config.encoder.clone(), Kind::Float, device, 0);
        encoder.load(&stores.join(hybrid::ENCODER_FILE))?;
        let (replay, _) = (rig.replay(&stores.join(hybrid::REPLAY), &encoder))
            .with_context(|| format!("{}: end it before what it was fed is looked at", shown()))?;
        let (mut agent, mut generative) = (rig.agent(&encoder), rig.generative()?);
        let path = dir.join(CHECKPOINT_FILE);
        let kept = if on_runs {
            let state = read_tensors(&path)
                .context("--run: there is nothing to see before its first checkpoint")?;
            check_state(&agent.state(), &state).with_context(|| path.display().to_string())?;
            agent.restore(&state, 0);
            state
        } else {
            let (state, updates) = read_agent(&dir.join(hybrid::AGENT_FILE), agent.state())
                .context("--run: there is nothing to see before its first checkpoint")?;
            agent.restore(&state, updates);
            (hybrid::Generated::new(dir).load()?)
                .with_context(|| fed::nothing_believed(dir, generative.account()))?
        };
        generative.restore(&kept).with_context(shown)?;
        anyhow::ensure!(
            generative.projection().is_some(),
            fed::nothing_believed(dir, generative.account())
        );
        Ok(Some(Self {
            encoder,
            agent,
            replay,
            generative,
        }))
    }

    /// Shows every real row there is, beside what is generated of them and what the agent thinks: of a recording,
    /// nothing that would mean anything.
    ///
    /// # Errors
    /// As [`SightReplay::look`].
    pub fn look<T>(
        &mut self,
        look: impl FnOnce(&mut GenerativeReplay, &Transitions, &dyn Critic) -> Result<T>,
    ) -> Result<T> {
        let seen = Seen {
            replay: &|shown| shown(&self.replay),
            encoder: &self.encoder,
            agent: &*self.agent,
        };
        self.generative.look(&seen, look)
    }

    /// What rows are made of, for people; once they were looked at.
    pub fn facts(&self) -> Vec<(&'static str, String)> {
        let projection = self.generative.projection();
        let words = projection.map(|projection| {
            format!(
                "the first {} are components of the maps, which keep {:.1} % of their variance; then proprioception. The \
                 last number of an action is what its grippers cost",
                projection.dimensions(),
                100.0 * projection.explained()
            )
        });
        words
            .map(|words| ("observations", words))
            .into_iter()
            .collect()
    }
}
