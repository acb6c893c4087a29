//! The course over a robot's runs: every frame through the encoder once, or kept and shifted anew in every update, to
//! any of the algorithms.

use std::{
    fs,
    path::Path,
    sync::{LockResult, PoisonError, RwLock, atomic::AtomicBool},
};

use anyhow::{Context, Result};
use hilt_protocol::{
    Entry, RigSpec,
    noise::{Uniforms, mix},
};
use hilt_recording::Recording;
use serde_json::json;
use tch::{Device, Kind, Tensor, no_grad};

use super::{
    STOPPED,
    held_out::{self, Judged, Values},
    survey::{Survey, episode_of},
};
use crate::{
    agents::{
        Figures,
        sight::{SightAgent, SightTransitions},
    },
    config::{FrameStore, LearnerConfig},
    course::{
        Course, State,
        folder::{Facts, Folder, RUNS},
    },
    dataset::each_entry,
    encoder::Encoder,
    export::RobotAgent,
    generative::{
        replay::{Settled, Synthetic},
        sight::{Seen, SightReplay},
    },
    hybrid,
    imitation::encoder_of,
    ingest::Ingest,
    replay::{HostBatch, Replay, Which, seen},
    reward::trained::hash_in_hex,
    trained_on_runs,
    vectors::RewardScale,
};

/// Tells the draws of rows from those of noise.
const ROWS: u64 = 0x726f_7773;
/// Held-out rows in one evaluation of the networks.
const SLICE: usize = 256;
const HELD_OUT: &str = "held-out";

/// An algorithm with the runs that it learns from.
pub struct RunsCourse {
    spec: RigSpec,
    config: LearnerConfig,
    encoder: Encoder,
    agent: Box<dyn RobotAgent>,
    replay: Replay,
    /// Maps, whatever `replay` keeps: nobody shifts them.
    held_out: Replay,
    batch: HostBatch,
    generative: Option<SightReplay>,
    seed: u64,
}

impl RunsCourse {
    /// Has generative replay do something, if there is any.
    fn generative<T>(
        &mut self,
        act: impl FnOnce(&mut SightReplay, &Seen) -> Result<T>,
    ) -> Result<Option<T>> {
        let Some(generative) = &mut self.generative else {
            return Ok(None);
        };
        let seen = Seen {
            replay: &|look| look(&self.replay),
            encoder: &self.encoder,
            agent: &*self.agent,
        };
        act(generative, &seen).map(Some)
    }

    /// Reads a recording, makes the encoder or finds the one of a training that is resumed, and a fresh agent
    /// for them. Also what the training then stands on; if that is not what it began on it is refused, and nothing in
    /// the folder has changed. When `stop` is set meanwhile it is an error.
    pub fn open(
        recording: &Recording,
        folder: &Folder,
        config: &LearnerConfig,
        (device, seed): (Device, u64),
        stop: &AtomicBool,
    ) -> Result<(Self, Facts)> {
        let offline = &config.offline;
        anyhow::ensure!(
            offline.rewards == RewardScale::default() && !offline.sparse_rewards,
            "offline.rewards and offline.sparse_rewards are for tables: a robot's rewards are taken as they are"
        );
        let spec = recording.spec().clone();
        config.encoder.check(&spec.cameras)?;
        let survey = Survey::of(recording, stop)?;
        let apart = survey.held_out(offline.held_out, seed);
        let dir = folder.file(RUNS);
        if !folder.is_begun() {
            clear(&dir)?;
        }
        let encoder_file = dir.join(hybrid::ENCODER_FILE);
        let encoder = match config.given_encoder(device, seed)? {
            Some(encoder) => encoder,
            None if encoder_file.exists() => {
                let encoder = Encoder::new(config.encoder.clone(), Kind::Float, device, seed);
                encoder.load(&encoder_file)?;
                encoder
            }
            None => {
                let taken = |entry: &Entry| !apart.contains(&episode_of(entry));
                let until = (stop, "the encoder was trained");
                encoder_of(
                    recording,
                    taken,
                    folder.dir(),
                    config,
                    (device, seed),
                    until,
                )?
            }
        };
        let facts = json!({
            "algorithm": config.algorithm,
            "seed": seed,
            "rig": spec.hash().to_string(),
            "data.runs": survey.entries,
            "data.sha256": survey.sha256,
            "encoder": hash_in_hex(&encoder),
            "train.store": config.train.store,
            "train.shifted_copies": config.train.shifted_copies,
            "offline.held_out": offline.held_out,
            "offline.normalize_observations": offline.normalize_observations,
        });
        let serde_json::Value::Object(mut facts) = facts else {
            anyhow::bail!("a list of facts is an object");
        };
        facts.extend(config.generative_replay.facts());
        // Before anything is put into the stores: which episodes belong into which follows from the facts.
        folder.check(&facts)?;
        fs::create_dir_all(&dir).with_context(|| dir.display().to_string())?;
        if !encoder_file.exists() {
            encoder.save(&encoder_file)?;
        }
        let ingest = Ingest::new(spec.clone(), &encoder, &config.train)?;
        let plain = Ingest::maps(spec.clone(), &encoder, 1);
        let open = |name: &str, ingest: &Ingest| {
            let (layout, identity) = (ingest.layout(), ingest.identity());
            Replay::open(&dir.join(name), layout, identity, usize::MAX).map(RwLock::new)
        };
        let (replay, held_out) = (open(hybrid::REPLAY, &ingest)?, open(HELD_OUT, &plain)?);
        each_entry(recording, (stop, STOPPED), |entry| {
            let (ingest, replay) = match apart.contains(&episode_of(entry)) {
                true => (&plain, &held_out),
                false => (&ingest, &replay),
            };
            let there = unlocked(replay.read())
                .row(entry.run, entry.sequence)
                .is_some();
            if !there {
                ingest.push(entry, true, replay)?;
            }
            Ok(())
        })?;
        let mut replay = unlocked(replay.into_inner());
        let held_out = unlocked(held_out.into_inner());
        replay.sync()?;
        held_out.sync()?;
        if let Some(discount) = config.return_discount() {
            replay.reckon_returns(discount);
        }
        println!(
            "{} steps of {} to learn from; {} steps of {} are held out",
            replay.len(Which::Demonstrations),
            in_words(survey.episodes.len() - apart.len()),
            held_out.len(Which::Demonstrations),
            in_words(apart.len()),
        );
        anyhow::ensure!(
            !replay.is_empty(Which::Demonstrations),
            "it has no step to learn from"
        );
        let agent = config.sight_agent(&spec, encoder.config().map_shape(), device, seed);
        if offline.normalize_observations {
            let (mean, std) = survey.proprio_statistics(&apart);
            agent.centre_proprio(&mean, &std);
        }
        let rows = offline.batch * agent.parts() as usize;
        let course = Self {
            batch: HostBatch::new(replay.layout(), rows),
            generative: SightReplay::new(config, &spec, seed, device),
            config: config.clone(),
            spec,
            encoder,
            agent,
            replay,
            held_out,
            seed,
        };
        Ok((course, facts))
    }
}

/// Removes what a training left that did not come so far as to begin. A folder of that name can be somebody's runs.
fn clear(dir: &Path) -> Result<()> {
    if !dir.exists() {
        return Ok(());
    }
    let named = || dir.display().to_string();
    for file in fs::read_dir(dir).with_context(named)? {
        let name = file.with_context(named)?.file_name();
        let name = name.to_string_lossy();
        anyhow::ensure!(
            name.starts_with(hybrid::ENCODER_FILE) || [hybrid::REPLAY, HELD_OUT].contains(&&*name),
            "--out: {} is not of a training, for {name} is in it; choose another folder",
            dir.display()
        );
    }
    fs::remove_dir_all(dir).with_context(named)
}

fn unlocked<T>(lock: LockResult<T>) -> T {
    lock.unwrap_or_else(PoisonError::into_inner)
}

fn in_words(episodes: usize) -> String {
    match episodes {
        1 => "1 episode".to_owned(),
        _ => format!("{episodes} episodes"),
    }
}

impl Course for RunsCourse {
    fn advance(&mut self, stop: &AtomicBool) -> Result<Vec<(u64, Figures)>> {
        let number = self.agent.updates();
        let settled = self.generative(|generative, seen| generative.before(number, seen, stop))?;
        if settled == Some(Settled::Stopped) {
            return Ok(vec![]);
        }
        let mut random = Uniforms::new(mix(self.seed ^ ROWS ^ number.rotate_left(17)));
        let rows = self.config.offline.batch * self.agent.parts() as usize;
        let share = (self.generative.as_ref()).map_or(0, |generative| generative.share_of(rows));
        if self.batch.len() != rows - share {
            self.batch = HostBatch::new(self.replay.layout(), rows - share);
        }
        let all = 0..self.batch.len();
        (self.replay).sample(Which::Demonstrations, all, &mut random, &mut self.batch);
        let real = seen(
            &self.batch,
            self.config.train.store,
            &self.encoder,
            &mut random,
        );
        let figures = match &self.generative {
            None => self.agent.update_seeded(&real, self.seed),
            Some(generative) => {
                let mixed = generative.mixed(&real, share, &mut random);
                self.agent.update_seeded(&mixed, self.seed)
            }
        };
        self.generative(|generative, seen| generative.after(number + 1, seen, &real))?;
        Ok(vec![(number + 1, figures)])
    }

    fn synthetic(&self) -> Option<&dyn Synthetic> {
        self.generative.as_ref().map(|own| own as _)
    }

    fn synthetic_mut(&mut self) -> Option<&mut dyn Synthetic> {
        self.generative.as_mut().map(|own| own as _)
    }

    fn updates(&self) -> u64 {
        self.agent.updates()
    }

    fn held_out(&self) -> Result<Vec<(&'static str, f64)>> {
        let mut batch = HostBatch::new(self.held_out.layout(), SLICE);
        let (discount, mut first, mut slices) = (self.config.discount(), 0, vec![]);
        loop {
            let rows = (self.held_out).in_order(Which::Demonstrations, first, &mut batch);
            if rows == 0 {
                return Ok(held_out::figures(&slices));
            }
            let mut unused = Uniforms::new(0);
            let seen = seen(&batch, FrameStore::Maps, &self.encoder, &mut unused);
            let judged = no_grad(|| judged(&*self.agent, &seen, discount));
            slices.push(judged.first(rows as i64));
            first += rows;
        }
    }

    /// It acts on what a robot sees.
    fn act(&self, _: &[f64]) -> Option<Vec<f64>> {
        None
    }

    fn state(&self) -> Vec<(String, Tensor)> {
        self.agent.state()
    }

    fn restore(&mut self, state: &State, updates: u64) {
        self.agent.restore(state, updates);
    }

    fn export(&self, dir: &Path) -> Result<()> {
        trained_on_runs::write(dir, &self.spec, &self.encoder, &*self.agent, &self.config)
    }
}

fn judged(agent: &dyn SightAgent, rows: &SightTransitions, discount: f64) -> Judged {
    let (now, next) = (&rows.observations, &rows.next_observations);
    let policy = agent.best(now);
    let of_data = agent.value(now, &rows.actions);
    let of_policy = agent.value(now, &policy);
    let of_next = agent.value(next, &agent.best(next));
    let values = (of_data.zip(of_policy).zip(of_next)).map(|((data, policy), next)| Values {
        td: agent.rewards(rows) + &rows.masks * next * discount - &data,
        data,
        policy,
    });
    Judged::new(&rows.actions, &policy, values)
}
