//! The update loop: batches from the replay, updates, and what goes out in between — snapshots,
//! progress, corrected classifiers, checkpoints.

use std::{
    sync::{
        Mutex, RwLock,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::Result;
use hilt_link::LearnerLink;
use hilt_protocol::{Graph, NamedTensor, Progress, RigSpec, noise::Uniforms, noise::mix};

use super::{
    AGENT_FILE, HybridOptions, STATE_FILE, State,
    generated::Generated,
    lock,
    log::{Log, Stand},
    read,
};
use crate::{
    agents::guard::Watch,
    checkpoint::write_agent,
    dataset::LabelledFrames,
    encoder::Encoder,
    export::{self, RobotAgent},
    generative::{
        replay::Synthetic,
        sight::{Seen, SightReplay},
    },
    metrics::write_atomically,
    replay::{HostBatch, Replay, Which, seen},
    reward::{RewardTraining, trained::WEIGHTS_FILE},
    show::Updates,
};

/// What the loop works on.
pub(super) struct UpdateLoop<'a> {
    pub(super) options: &'a HybridOptions,
    pub(super) spec: &'a RigSpec,
    pub(super) encoder: &'a Encoder,
    pub(super) reward: &'a mut RewardTraining,
    pub(super) words: &'a Mutex<LabelledFrames>,
    pub(super) judge: &'a Graph,
    pub(super) agent: &'a mut dyn RobotAgent,
    pub(super) state: &'a mut State,
    pub(super) link: &'a LearnerLink,
    pub(super) policy: &'a Graph,
    pub(super) replay: &'a RwLock<Replay>,
    pub(super) entries: &'a AtomicU64,
    pub(super) generative: Option<SightReplay>,
    pub(super) generated: Generated,
    pub(super) watch: Watch,
    /// Figures of the updates that were looked at last, and of earlier ones those that these had not.
    pub(super) figures: Vec<(&'static str, f64)>,
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
    /// Trains until the updates or the time are over, or `stop` or `ended` is set.
    pub(super) fn run(
        &mut self,
        started: Instant,
        stop: &AtomicBool,
        ended: &AtomicBool,
    ) -> Result<()> {
        let train = self.options.config.train.clone();
        let before_s = self.state.trained_s;
        let mut log = Log::open(&self.options.out, self.stand(), started)?;
        let rows = train.batch * self.agent.parts() as usize;
        let mut batch = HostBatch::new(read(self.replay).layout(), rows);
        let mut snapshots = Every::seconds(train.snapshot_period_s);
        let mut checkpoints = Every::seconds(train.checkpoint_period_s);
        let mut corrections = Every::seconds(2.0);
        let mut progress = Every::seconds(0.1);
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
            let online = read(self.replay).len(Which::Online);
            if online < train.start_after {
                show.waiting(online, train.start_after);
                std::thread::sleep(Duration::from_millis(20));
                continue;
            }
            if corrections.due() {
                self.correct()?;
            }
            self.update(&mut batch)?;
            let stand = self.stand();
            if let Some(own) = &mut self.generative {
                for words in own.account_mut().news() {
                    show.say(&format!("{} updates: {words}", stand.updates));
                }
            }
            show.stand(stand.updates, stand.entries, &self.figures);
            if log.is_due() {
                self.look()?;
                log.write(stand, online, &self.figures)?;
            }
        }
        show.end();
        if let Some(own) = &self.generative {
            println!("generated experience: {}", own.account());
        }
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
            self.agent.acts(),
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
            "generative_replay": self.generative.as_ref().map(SightReplay::account),
        });
        write_atomically(
            &out.join("summary.json"),
            &serde_json::to_vec_pretty(&summary)?,
        )?;
        Ok(())
    }

    fn stand(&self) -> Stand {
        Stand {
            updates: self.agent.updates(),
            entries: self.entries.load(Ordering::Relaxed),
        }
    }

    /// Has generative replay do something, if there is any; steps are those that came from the robot.
    fn generative<T>(
        &mut self,
        act: impl FnOnce(&mut SightReplay, u64, &Seen) -> Result<T>,
    ) -> Result<Option<T>> {
        let Some(generative) = &mut self.generative else {
            return Ok(None);
        };
        let seen = Seen {
            replay: &|look| look(&read(self.replay)),
            encoder: self.encoder,
            agent: &*self.agent,
        };
        act(generative, self.entries.load(Ordering::Relaxed), &seen).map(Some)
    }

    /// One update.
    fn update(&mut self, batch: &mut HostBatch) -> Result<()> {
        self.generative(|generative, _, seen| generative.poll(seen))?;
        let train = &self.options.config.train;
        let (seed, number) = (self.options.seed, self.agent.updates());
        let rows = train.batch * self.agent.parts() as usize;
        // As many in each part: real rows are drawn part by part.
        let of_part = |generative: &SightReplay| generative.share_of(train.batch);
        let share = (self.generative.as_ref()).map_or(0, of_part) * self.agent.parts() as usize;
        if batch.len() != rows - share {
            *batch = HostBatch::new(read(self.replay).layout(), rows - share);
        }
        // Seeded per update, as all draws: a resumed run takes the same rows and shifts them by the same.
        let mut random = Uniforms::new(mix(seed ^ number.rotate_left(17)));
        let parts = self.agent.parts() as usize;
        read(self.replay).sample_mixed(train.demonstration_share, parts, &mut random, batch);
        let real = seen(batch, train.store, self.encoder, &mut random);
        let Some(generative) = &self.generative else {
            let figures = self.agent.update_seeded(&real, seed);
            self.watch.note(number + 1, figures);
            return Ok(());
        };
        let mixed = generative.mixed(&real, share, &mut random);
        let figures = self.agent.update_seeded(&mixed, seed);
        self.watch.note(number + 1, figures);
        self.generative(|generative, steps, seen| generative.after(steps, seen, &real))?;
        Ok(())
    }

    /// Reads the figures of all updates since the last time. Waits for the device; an update that diverged is an
    /// error, which ends the training before anybody gets of it.
    fn look(&mut self) -> Result<()> {
        let mut news = self.watch.read()?;
        news.extend(self.generative.iter_mut().flat_map(SightReplay::told));
        for (name, value) in news {
            match self.figures.iter_mut().find(|(known, _)| *known == name) {
                Some((_, known)) => *known = value,
                None => self.figures.push((name, value)),
            }
        }
        Ok(())
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
        self.look()?;
        self.state.snapshot_version += 1;
        let version = self.state.snapshot_version;
        // On disk before anybody has it: a robot takes newer versions only, so one that was killed
        // and goes on must not count through the same ones again.
        self.save_state()?;
        let snapshot = export::policy_snapshot(self.policy, self.agent.acts(), version);
        let finite = |tensor: &NamedTensor| tensor.data.iter().all(|value| value.is_finite());
        let mut tensors = snapshot.weights.iter().chain([&snapshot.probe.output]);
        if let Some(bad) = tensors.find(|tensor| !finite(tensor)) {
            let (name, update) = (&bad.name, snapshot.updates);
            anyhow::bail!(
                "the policy's `{name}` is no number at update {update}: the training diverged"
            );
        }
        self.link.publish_snapshot(&snapshot);
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
            &self.options.out.join(STATE_FILE),
            &serde_json::to_vec_pretty(self.state)?,
        )?)
    }

    fn report(&self, finished: bool) {
        let train = &self.options.config.train;
        // Before the first update the actor may collect what the first update waits for, and then some.
        let ahead = 3 * train.start_after as u64;
        // What another training has learned before earns no steps in this one.
        let made = self.agent.updates().saturating_sub(self.state.began_at);
        let earned = (made as f64 * train.steps_per_update) as u64;
        self.link.publish_progress(Progress {
            learner_run: self.state.learner_run,
            updates: self.agent.updates(),
            entries: self.entries.load(Ordering::Relaxed),
            allowed_steps: ahead + earned,
            finished,
        });
    }

    fn checkpoint(&mut self) -> Result<()> {
        self.look()?;
        read(self.replay).sync()?;
        let file = self.options.out.join(AGENT_FILE);
        write_agent(&file, self.agent.state(), self.agent.updates())?;
        if let Some(generative) = &self.generative {
            let made = generative.made();
            let in_use = match made.is_empty() {
                true => 0,
                false => generative.account().believed(),
            };
            self.generated.save(in_use, generative.changing(), &made)?;
        }
        self.save_state()
    }
}
