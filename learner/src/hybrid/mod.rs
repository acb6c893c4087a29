//! Hybrid training, HIL-SERL's loop: demonstrations first, then the robot's stream beside them.
//!
//! 1. Prepare: imitation makes the encoder, labelled frames make the reward classifier. A training on runs has made
//!    the encoder and the agent already, if there is one to go on from.
//! 2. Ingest (its own thread): entries from the link → maps (or images as they are) → replay;
//!    acknowledged once on disk.
//! 3. Update (this thread): half online, half demonstrations; snapshots, progress, checkpoints.
//!
//! It ends when its time is over or it is told to, and leaves a checkpoint and an export either way.
//!
//! So it goes with a robot, here. Where a simulated task stands in its place, [`task`] takes the steps itself.

mod generated;
mod log;
mod prepare;
pub mod task;
mod updates;

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    sync::{
        Mutex, RwLock,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Instant, SystemTime, UNIX_EPOCH},
};

use anyhow::{Context, Result};
use hilt_link::{LearnerConfig as LinkConfig, LearnerLink};
use hilt_protocol::{Entry, Graph, RigSpec, RunId};
use serde::{Deserialize, Serialize};

pub(crate) use self::generated::Generated;
use self::{
    prepare::{Prepared, prepare},
    updates::UpdateLoop,
};
use crate::{
    agents::guard::Watch,
    checkpoint::{read_agent, write_agent},
    config::{Algorithm, LearnerConfig},
    dataset::LabelledFrames,
    export,
    generative::{
        config::GenerativeConfig, relevance::Relevance, replay::Synthetic, sight::SightReplay,
    },
    ingest::Ingest,
    metrics::write_atomically,
    onnx::{Weights, with_note},
    replay::Replay,
    trained_on_runs::Origin,
};

/// What a training's folder has: the encoder, the agent of the last checkpoint, what the training is, its replay.
pub(crate) const ENCODER_FILE: &str = "encoder.safetensors";
pub(crate) const AGENT_FILE: &str = "agent.safetensors";
pub(crate) const STATE_FILE: &str = "state.json";
pub(crate) const REPLAY: &str = "replay";

/// What to train from, and where to.
#[derive(Clone, Debug)]
pub struct HybridOptions {
    /// The demonstrations: runs, or a recording of another program.
    pub demos: PathBuf,
    /// Runs with labelled frames; absent, it is `demos` with `-labels`.
    pub labels: Option<PathBuf>,
    /// The rig of a recording that does not say it itself.
    pub rig: Option<RigSpec>,
    /// Folder of a classifier to start from; absent, one is trained on the labelled frames.
    pub classifier: Option<PathBuf>,
    /// Folder of a training on runs to go on from: its encoder and its agent.
    pub from: Option<PathBuf>,
    /// Folder for everything that comes out.
    pub out: PathBuf,
    /// Endpoints to listen on.
    pub listen: Vec<String>,
    /// Name shared with the actor.
    pub session: String,
    /// Seed of every random draw.
    pub seed: u64,
    /// Updates to make, earlier ones of a resumed run included, those of `from` not.
    pub max_updates: u64,
    /// Seconds from the start of this process to the last update.
    pub max_seconds: f64,
    /// Go on from the checkpoint in `out`.
    pub resume: bool,
    /// Hyperparameters.
    pub config: LearnerConfig,
}

/// What a resumed run has to know besides weights and replay.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct State {
    learner_run: u64,
    snapshot_version: u64,
    trained_s: f64,
    classifier_version: u64,
    /// Updates that the agent had when the training began.
    #[serde(default)]
    began_at: u64,
    /// What it went on from.
    #[serde(default)]
    from: Option<Origin>,
    /// What makes generated rows matter, once there is generative replay.
    #[serde(default)]
    relevance: Option<Relevance>,
}

impl State {
    /// Generated rows are gone on with by the relevance that they began with.
    fn check_relevance(&mut self, config: &GenerativeConfig, out: &Path) -> Result<()> {
        if !config.enabled {
            return Ok(());
        }
        let (ours, theirs) = (
            config.relevance,
            *self.relevance.get_or_insert(config.relevance),
        );
        anyhow::ensure!(
            theirs == ours,
            "--out {}: the training there began with generative_replay.relevance = \"{}\", this command has \"{}\"; \
             repeat what it was, or choose another folder",
            out.display(),
            theirs.name(),
            ours.name()
        );
        Ok(())
    }
}

/// A folder belongs to one training: what is there is gone on with, or left alone.
fn check_folder(options: &HybridOptions) -> Result<()> {
    let there = |name: &str| options.out.join(name).exists();
    let begun = there(ENCODER_FILE) || there(STATE_FILE);
    anyhow::ensure!(
        options.resume || !begun,
        "--out {} holds a training; go on with it by --resume, or choose another folder",
        options.out.display()
    );
    anyhow::ensure!(
        begun || !there("summary.json"),
        "--out {} holds the results of another training; choose another folder",
        options.out.display()
    );
    if options.resume && !begun {
        println!(
            "{} holds nothing yet: a new training",
            options.out.display()
        );
    }
    Ok(())
}

/// Trains until the time is over or `stop` is set.
pub fn run(options: &HybridOptions, started: Instant, stop: &AtomicBool) -> Result<()> {
    let config = &options.config;
    check_folder(options)?;
    anyhow::ensure!(
        config.algorithm != Algorithm::Bc,
        "algorithm = \"bc\" learns from recordings alone: train it by `hilt-learner offline`, or choose another one"
    );
    // Before the preparation, which takes a while.
    LearnerLink::check(&options.session, &options.listen)?;
    fs::create_dir_all(&options.out)
        .with_context(|| format!("creating {}", options.out.display()))?;
    let device = config.device.resolve()?;
    tch::set_num_threads(config.train.sight_threads());
    let Prepared {
        demos,
        proprio: (mean, std),
        encoder,
        mut reward,
        from,
    } = prepare(options, device, stop)?;
    let (spec, encoder) = (demos.spec(), &encoder);

    let map = encoder.config().map_shape();
    let mut agent = config.sight_agent(spec, map, device, options.seed);
    agent.centre_proprio(&mean, &std);
    let state_file = options.out.join(STATE_FILE);
    let agent_file = options.out.join(AGENT_FILE);
    let mut state = State {
        learner_run: SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .map_or(0, |d| d.as_nanos() as u64),
        snapshot_version: 0,
        trained_s: 0.0,
        classifier_version: 1,
        began_at: 0,
        from: None,
        relevance: None,
    };
    if options.resume && state_file.exists() {
        state = serde_json::from_slice(&fs::read(&state_file)?)
            .with_context(|| format!("reading {}", state_file.display()))?;
        if let Some(from) = &from {
            from.check(state.from.as_ref(), &options.out)?;
        }
        // It may have been killed before its first checkpoint.
        if agent_file.exists() {
            let (kept, updates) = read_agent(&agent_file, agent.state())?;
            agent.restore(&kept, updates);
        }
        println!("resumed at {} updates", agent.updates());
    } else if let Some(from) = &from {
        anyhow::ensure!(
            from.encoder().hash() == encoder.hash(),
            "--from: --out {} was prepared with another encoder; repeat the command that did, or choose another folder",
            options.out.display()
        );
        from.begin(&mut *agent)?;
        agent.go_online();
        (state.began_at, state.from) = (agent.updates(), Some(from.origin()?));
        println!("{}", from.in_words());
        // Whoever resumes this training has its agent here.
        write_agent(&agent_file, agent.state(), agent.updates())?;
    }
    state.check_relevance(&config.generative_replay, &options.out)?;
    // The agent's count, which goes on from that of `from`.
    let options = &HybridOptions {
        max_updates: options.max_updates.saturating_add(state.began_at),
        ..options.clone()
    };
    // Before a robot can have anything of this run: from here on a resumed one is the same.
    write_atomically(&state_file, &serde_json::to_vec_pretty(&state)?)?;

    let ingest = Ingest::new(spec.clone(), encoder, &config.train)?;
    let mut store = Replay::open(
        &options.out.join(REPLAY),
        ingest.layout(),
        ingest.identity(),
        config.train.capacity,
    )?;
    if let Some(discount) = config.return_discount() {
        store.reckon_returns(discount);
    }
    // Only now: a resumed run that was refused keeps the settings that it had.
    write_atomically(
        &options.out.join("config.toml"),
        toml::to_string(config)?.as_bytes(),
    )?;
    let replay = RwLock::new(store);
    for entry in demos.entries() {
        if stop.load(Ordering::Relaxed) {
            break;
        }
        ingest.push(&entry?, true, &replay)?;
    }
    let resume: BTreeMap<RunId, u64> = {
        let store = read(&replay);
        store.sync()?;
        store.next_missing()
    };
    let kept = read(&replay).statistics();
    println!(
        "replay: {} transitions of demonstrations, {} of robot runs, {} MiB",
        kept.demonstrations,
        kept.online,
        kept.bytes >> 20
    );

    let link = LearnerLink::open(LinkConfig {
        session: options.session.clone(),
        listen: options.listen.clone(),
        queue_bytes: LinkConfig::QUEUE_BYTES,
        resume,
    })?;
    // Weights of another training must not meet these graphs: its encoder is another one, and its
    // versions count from 1 as well.
    let of_this_run = |mut graph: Graph| {
        graph.onnx = with_note(graph.onnx, &format!("learner run {:x}", state.learner_run));
        graph
    };
    let policy = of_this_run(export::policy(spec, agent.acts(), Weights::Inputs));
    let judge = of_this_run(export::classifier(spec, reward.model(), Weights::Inputs));
    link.serve_graph(&export::encoder(spec, encoder));
    link.serve_graph(&policy);
    link.serve_graph(&judge);
    link.publish_snapshot(&export::classifier_snapshot(
        &judge,
        reward.model(),
        state.classifier_version,
    ));

    let mut generative = SightReplay::new(config, spec, options.seed, device);
    let mut generated = Generated::new(&options.out);
    if let Some(generative) = &mut generative
        && options.resume
        && let Some(kept) = generated.load()?
    {
        (generative.restore(&kept)).with_context(|| {
            format!(
                "going on with what --out {} generated",
                options.out.display()
            )
        })?;
    }
    let entries = AtomicU64::new(kept.entries);
    let ended = AtomicBool::new(false);
    let words = Mutex::new(LabelledFrames::default());
    std::thread::scope(|scope| -> Result<()> {
        let (link, replay, entries, ended, words) = (&link, &replay, &entries, &ended, &words);
        // The encoder's copy moves along: tensors cannot be shared between threads.
        let take = |entry: &Entry| {
            entries.fetch_add(1, Ordering::Relaxed);
            lock(words).take(entry);
        };
        let ingesting = scope.spawn(move || ingest.run(link, replay, ended, take));
        let mut update = UpdateLoop {
            options,
            spec,
            encoder,
            reward: &mut reward,
            words,
            judge: &judge,
            agent: &mut *agent,
            state: &mut state,
            link,
            policy: &policy,
            replay,
            entries,
            generative,
            generated,
            watch: Watch::default(),
            figures: vec![],
        };
        let trained = update.run(started, stop, ended);
        ended.store(true, Ordering::Relaxed);
        let ingested = ingesting
            .join()
            .map_err(|_| anyhow::anyhow!("the ingest thread panicked"))?;
        trained.and(ingested.map_err(Into::into))
    })
}

fn read(replay: &RwLock<Replay>) -> std::sync::RwLockReadGuard<'_, Replay> {
    replay
        .read()
        .unwrap_or_else(std::sync::PoisonError::into_inner)
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner)
}
