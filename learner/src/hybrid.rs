//! Hybrid training, HIL-SERL's loop: demonstrations first, then the robot's stream beside them.
//!
//! 1. Prepare: imitation makes the encoder, labelled frames make the reward classifier.
//! 2. Ingest (its own thread): entries from the link → maps (or images as they are) → replay;
//!    acknowledged once on disk.
//! 3. Update (this thread): half online, half demonstrations; snapshots, progress, checkpoints.
//!
//! It ends when its time is over or it is told to, and leaves a checkpoint and an export either way.

use std::{
    collections::BTreeMap,
    fs,
    path::PathBuf,
    sync::{
        Mutex, RwLock,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use anyhow::{Context, Result};
use hilt_link::{LearnerConfig as LinkConfig, LearnerLink};
use hilt_protocol::{Entry, Graph, Progress, RigSpec, RunId, noise::Uniforms, noise::mix};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use tch::{Device, Kind};

use crate::{
    agents::sac_grasp::{Metrics, SacGrasp, SeededNoise, Shapes, Update},
    config::{FrameStore, LearnerConfig},
    dataset::{Demonstrations, LabelledFrames},
    encoder::Encoder,
    export,
    ingest::Ingest,
    metrics::{MetricsFile, write_atomically},
    onnx::{Weights, with_note},
    prepare::{Prepared, prepare},
    replay::{HostBatch, Replay, Which, encode_shifted, to_tensors},
    reward::RewardTraining,
    show::Updates,
    trained_classifier::WEIGHTS_FILE,
};

/// What to train from, and where to.
#[derive(Clone, Debug)]
pub struct HybridOptions {
    /// Folder of demonstration runs.
    pub demos: PathBuf,
    /// Folder of runs with labelled frames; absent, it is `demos` with `-labels`.
    pub labels: Option<PathBuf>,
    /// Folder of a classifier to start from; absent, one is trained on the labelled frames.
    pub classifier: Option<PathBuf>,
    /// Folder for everything that comes out.
    pub out: PathBuf,
    /// Endpoints to listen on.
    pub listen: Vec<String>,
    /// Name shared with the actor.
    pub session: String,
    /// Seed of every random draw.
    pub seed: u64,
    /// Updates to make, earlier ones of a resumed run included.
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
}

/// A folder belongs to one training: what is there is gone on with, or left alone.
fn check_folder(options: &HybridOptions) -> Result<()> {
    let there = |name: &str| options.out.join(name).exists();
    let begun = there("encoder.safetensors") || there("state.json");
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
    // Before the preparation, which takes a while.
    LearnerLink::check(&options.session, &options.listen)?;
    fs::create_dir_all(&options.out)
        .with_context(|| format!("creating {}", options.out.display()))?;
    write_atomically(
        &options.out.join("config.toml"),
        toml::to_string(config)?.as_bytes(),
    )?;
    let device = Device::cuda_if_available();
    tch::set_num_threads(config.train.threads);
    let Prepared {
        spec,
        demos,
        encoder,
        mut reward,
    } = prepare(options, device, stop)?;
    let (spec, demos, encoder) = (&spec, &demos, &encoder);

    let shapes = Shapes::of(spec, encoder.config().map_shape());
    let mut agent = SacGrasp::new(
        config.agent.clone(),
        shapes,
        Kind::Float,
        device,
        options.seed,
    );
    let (mean, std) = Demonstrations::from_entries(demos, spec).proprio_statistics();
    agent.centre_proprio(&mean, &std);
    let state_file = options.out.join("state.json");
    let agent_file = options.out.join("agent.safetensors");
    let mut state = State {
        learner_run: SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .map_or(0, |d| d.as_nanos() as u64),
        snapshot_version: 0,
        trained_s: 0.0,
        classifier_version: 1,
    };
    if options.resume && state_file.exists() {
        state = serde_json::from_slice(&fs::read(&state_file)?)
            .with_context(|| format!("reading {}", state_file.display()))?;
        // It may have been killed before its first checkpoint.
        if agent_file.exists() {
            agent.load(&agent_file)?;
        }
        println!("resumed at {} updates", agent.updates());
    }
    // Before a robot can have anything of this run: from here on a resumed one is the same.
    write_atomically(&state_file, &serde_json::to_vec_pretty(&state)?)?;

    let ingest = Ingest::new(spec.clone(), encoder, &config.train)?;
    let store = Replay::open(
        &options.out.join("replay"),
        ingest.layout(),
        ingest.identity(),
        config.train.capacity,
    )?;
    let replay = RwLock::new(store);
    for entry in demos {
        if stop.load(Ordering::Relaxed) {
            break;
        }
        ingest.push(entry, true, &replay)?;
    }
    let resume: BTreeMap<RunId, u64> = {
        let store = write(&replay);
        store.sync()?;
        store.next_missing()
    };
    println!("replay: {:?}", write(&replay).statistics());

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
    let policy = of_this_run(export::policy(spec, &agent, Weights::Inputs));
    let judge = of_this_run(export::classifier(spec, reward.model(), Weights::Inputs));
    link.serve_graph(&export::encoder(spec, encoder));
    link.serve_graph(&policy);
    link.serve_graph(&judge);
    link.publish_snapshot(&export::classifier_snapshot(
        &judge,
        reward.model(),
        state.classifier_version,
    ));

    let entries = AtomicU64::new(write(&replay).statistics().entries);
    let ended = AtomicBool::new(false);
    let words = Mutex::new(LabelledFrames::default());
    std::thread::scope(|scope| -> Result<()> {
        let (link, replay, entries, ended, words) = (&link, &replay, &entries, &ended, &words);
        // The encoder's copy moves along: tensors cannot be shared between threads.
        let take = |entry: &Entry| {
            entries.fetch_add(1, Ordering::Relaxed);
            let said = LabelledFrames::from_entries(std::slice::from_ref(entry));
            lock(words).append(said);
        };
        let ingesting = scope.spawn(move || ingest.run(link, replay, ended, take));
        let mut update = UpdateLoop {
            options,
            spec,
            encoder,
            reward: &mut reward,
            words,
            judge: &judge,
            agent: &mut agent,
            state: &mut state,
            link,
            policy: &policy,
            replay,
            entries,
            device,
        };
        let trained = update.run(started, stop, ended);
        ended.store(true, Ordering::Relaxed);
        let ingested = ingesting
            .join()
            .map_err(|_| anyhow::anyhow!("the ingest thread panicked"))?;
        trained.and(ingested.map_err(Into::into))
    })
}

fn write(replay: &RwLock<Replay>) -> std::sync::RwLockWriteGuard<'_, Replay> {
    replay
        .write()
        .unwrap_or_else(std::sync::PoisonError::into_inner)
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner)
}

struct UpdateLoop<'a> {
    options: &'a HybridOptions,
    spec: &'a RigSpec,
    encoder: &'a Encoder,
    reward: &'a mut RewardTraining,
    words: &'a Mutex<LabelledFrames>,
    judge: &'a hilt_protocol::Graph,
    agent: &'a mut SacGrasp,
    state: &'a mut State,
    link: &'a LearnerLink,
    policy: &'a hilt_protocol::Graph,
    replay: &'a RwLock<Replay>,
    entries: &'a AtomicU64,
    device: Device,
}

/// Does something at most every so often.
struct Every {
    period: Duration,
    last: Option<Instant>,
}

impl Every {
    fn seconds(seconds: f64) -> Self {
        Self {
            period: Duration::from_secs_f64(seconds),
            last: None,
        }
    }

    fn due(&mut self) -> bool {
        let due = self.last.is_none_or(|last| last.elapsed() >= self.period);
        if due {
            self.last = Some(Instant::now());
        }
        due
    }
}

impl UpdateLoop<'_> {
    fn run(&mut self, started: Instant, stop: &AtomicBool, ended: &AtomicBool) -> Result<()> {
        let train = self.options.config.train.clone();
        let before_s = self.state.trained_s;
        let mut figures = MetricsFile::open(&self.options.out.join("metrics.jsonl"))?;
        let mut batch = HostBatch::new(write(self.replay).layout(), train.batch);
        let mut snapshots = Every::seconds(train.snapshot_period_s);
        let mut checkpoints = Every::seconds(train.checkpoint_period_s);
        let mut corrections = Every::seconds(2.0);
        let mut progress = Every::seconds(0.1);
        let mut logged = (
            Instant::now(),
            self.agent.updates(),
            self.entries.load(Ordering::Relaxed),
        );
        let mut last = Metrics::default();
        let mut show = Updates::new(started, self.options.max_updates);
        checkpoints.due();
        while !stop.load(Ordering::Relaxed)
            && !ended.load(Ordering::Relaxed)
            && started.elapsed().as_secs_f64() < self.options.max_seconds
            && self.agent.updates() < self.options.max_updates
        {
            if snapshots.due() {
                self.publish()?;
            }
            if progress.due() {
                self.report(false);
            }
            if checkpoints.due() {
                self.state.trained_s = before_s + started.elapsed().as_secs_f64();
                self.checkpoint()?;
            }
            let online = self
                .replay
                .read()
                .map_or(0, |store| store.len(Which::Online));
            if online < train.start_after {
                show.waiting(online, train.start_after);
                std::thread::sleep(Duration::from_millis(20));
                continue;
            }
            if corrections.due() {
                self.correct()?;
            }
            last = self.update(&mut batch, last);
            show.stand(
                self.agent.updates(),
                self.entries.load(Ordering::Relaxed),
                &last,
            );
            if logged.0.elapsed() > Duration::from_secs(2) {
                let (updates, entries) =
                    (self.agent.updates(), self.entries.load(Ordering::Relaxed));
                let seconds = logged.0.elapsed().as_secs_f64();
                let rates = [
                    (updates - logged.1) as f64 / seconds,
                    (entries - logged.2) as f64 / seconds,
                ];
                figures.write(line(
                    started.elapsed().as_secs_f64(),
                    updates,
                    entries,
                    rates,
                    online,
                    &last,
                ))?;
                logged = (Instant::now(), updates, entries);
            }
        }
        show.end();
        let training_wall_s = before_s + started.elapsed().as_secs_f64();
        self.state.trained_s = training_wall_s;
        self.publish()?;
        self.report(true);
        self.checkpoint()?;
        let out = &self.options.out;
        export::write_folder(
            &out.join("export"),
            self.spec,
            self.encoder,
            self.agent,
            Some(self.reward.model()),
        )?;
        self.let_the_actor_end();
        let held_out = self.reward.measure();
        let summary = serde_json::json!({
            "training_wall_s": training_wall_s,
            "updates": self.agent.updates(),
            "entries": self.entries.load(Ordering::Relaxed),
            "seed": self.options.seed,
            "classifier_held_out_precision": held_out.precision(),
            "classifier_held_out_recall": held_out.recall(),
            "classifier_versions": self.state.classifier_version,
        });
        write_atomically(
            &out.join("summary.json"),
            &serde_json::to_vec_pretty(&summary)?,
        )?;
        Ok(())
    }

    /// One update; the last full update's actor figures stay in what is logged.
    fn update(&mut self, batch: &mut HostBatch, last: Metrics) -> Metrics {
        let train = &self.options.config.train;
        let number = self.agent.updates();
        let mut random = Uniforms::new(mix(self.options.seed ^ number.rotate_left(17)));
        if let Ok(store) = self.replay.read() {
            store.sample_mixed(train.demonstration_share, &mut random, batch);
        }
        let tensors = match train.store {
            FrameStore::Maps => to_tensors(batch, self.encoder.config().map_shape(), self.device),
            // Seeded per update like the draws of rows: a resumed run shifts by the same.
            FrameStore::Images => encode_shifted(batch, self.encoder, &mut random),
        };
        let dropout = self.agent.config().dropout;
        let mut noise = SeededNoise::new(
            self.options.seed,
            number,
            dropout,
            (Kind::Float, self.device),
        );
        let full = (number + 1).is_multiple_of(train.cta_ratio);
        let metrics = self.agent.update(
            &tensors,
            if full {
                Update::Full
            } else {
                Update::CriticOnly
            },
            &mut noise,
        );
        Metrics {
            actor: metrics.actor.or(last.actor),
            ..metrics
        }
    }

    /// A person's words on frames of the run, if there are new ones, go to the classifier; when
    /// they change it, the robot gets the better one.
    fn correct(&mut self) -> Result<()> {
        let words = std::mem::take(&mut *lock(self.words));
        if self.reward.correct(words) {
            self.state.classifier_version += 1;
            let version = self.state.classifier_version;
            tracing::info!("the reward classifier was corrected: version {version}");
            self.reward
                .model()
                .save(&self.options.out.join(WEIGHTS_FILE))?;
            self.save_state()?;
            self.link.publish_snapshot(&export::classifier_snapshot(
                self.judge,
                self.reward.model(),
                version,
            ));
        }
        Ok(())
    }

    fn publish(&mut self) -> Result<()> {
        self.state.snapshot_version += 1;
        let version = self.state.snapshot_version;
        // On disk before anybody has it: a robot takes newer versions only, so one that was killed
        // and goes on must not count through the same ones again.
        self.save_state()?;
        self.link
            .publish_snapshot(&export::policy_snapshot(self.policy, self.agent, version));
        Ok(())
    }

    /// The actor hears that training is over and sends what it has left; all of that is taken.
    fn let_the_actor_end(&self) {
        loop {
            let before = self.entries.load(Ordering::Relaxed);
            std::thread::sleep(Duration::from_secs(2));
            if self.entries.load(Ordering::Relaxed) == before {
                return;
            }
        }
    }

    fn save_state(&self) -> Result<()> {
        Ok(write_atomically(
            &self.options.out.join("state.json"),
            &serde_json::to_vec_pretty(self.state)?,
        )?)
    }

    fn report(&self, finished: bool) {
        let train = &self.options.config.train;
        // Before the first update the actor may collect what the first update waits for, and then some.
        let ahead = 3 * train.start_after as u64;
        let earned = (self.agent.updates() as f64 * train.steps_per_update) as u64;
        self.link.publish_progress(Progress {
            learner_run: self.state.learner_run,
            updates: self.agent.updates(),
            entries: self.entries.load(Ordering::Relaxed),
            allowed_steps: ahead + earned,
            finished,
        });
    }

    fn checkpoint(&mut self) -> Result<()> {
        write(self.replay).sync()?;
        self.agent
            .save(&self.options.out.join("agent.safetensors"))?;
        self.save_state()
    }
}

fn line(
    wall_s: f64,
    updates: u64,
    entries: u64,
    rates: [f64; 2],
    online: usize,
    m: &Metrics,
) -> Map<String, Value> {
    let mut figures = Map::new();
    let mut put = |key: &str, value: f64| figures.insert(key.to_owned(), Value::from(value));
    put("wall_s", wall_s);
    put("updates", updates as f64);
    put("entries", entries as f64);
    put("updates_per_s", rates[0]);
    put("steps_per_s", rates[1]);
    put("online_transitions", online as f64);
    put("critic_loss", m.critic.critic_loss);
    put("predicted_q", m.critic.predicted_qs);
    put("batch_reward", m.critic.rewards);
    if let Some(actor) = &m.actor {
        put("actor_loss", actor.actor_loss);
        put("entropy", actor.entropy);
        put("temperature", actor.temperature);
    }
    figures
}
