//! Generative replay, as whoever trains drives it: when a generation begins, what becomes of it, and the rows it gives
//! to batches.
//!
//! ```text
//! after a step: learn, begin ──▶ (in the background) ──▶ before a step: take ──▶ rows of each batch
//! ```
//!
//! On a task and on data at hand nothing depends on how fast a generation is: it is used from the step on that is
//! [`GenerativeConfig::lag_steps`] after the one it began at, and waited for where it is not done by then.

use std::sync::atomic::AtomicBool;

use anyhow::{Context, Result};
use hilt_protocol::noise::{Uniforms, mix};
use tch::{Device, Kind, Tensor};

use super::{
    account::Account,
    background::{Background, Outcome},
    config::GenerativeConfig,
    curiosity::Curiosity,
    diffusion::Diffusion,
    generation::{Job, Made},
    layout::Layout,
    relevance::{Critic, Judge, NoCritic, Relevance},
};
use crate::{
    agents::{
        Figures, Transitions,
        guard::{BadState, Watch, check_state},
        sight::UNKNOWN_RETURN,
    },
    course::{State, named},
    vectors::interleaved,
};

/// Names of what a checkpoint has of it.
const CURIOSITY: &str = "generative.curiosity.";
const ROWS: &str = "generative.rows";
const MODEL: &str = "generative.model.";
const PENDING: &str = "generative.pending.counts";
const SCORES: &str = "generative.pending.scores";
/// Tell its draws from those of others.
const MODELS: u64 = 0x6765_6e6d_6f64_656c;

/// The synthetic replay and what fills it.
#[derive(Debug)]
pub struct GenerativeReplay {
    config: GenerativeConfig,
    layout: Layout,
    /// γ, of temporal-difference errors.
    discount: f64,
    seed: u64,
    device: Device,
    curiosity: Option<Curiosity>,
    /// Its figures, until they are told. That it diverges is no end of the training.
    watch: Watch,
    /// The newest generation that was believed \[M, d\].
    rows: Option<Tensor>,
    /// The state of the model that made it, where the next one goes on from it; else nothing.
    model: Vec<(String, Tensor)>,
    pending: Option<Pending>,
    pub(super) account: Account,
}

/// A generation that was begun and is not in use.
#[derive(Debug)]
struct Pending {
    /// Real rows that it learns from: the oldest so many of those there were.
    count: i64,
    /// What they matter \[count\].
    scores: Option<Tensor>,
    /// `None`: of a checkpoint, to be begun once more.
    work: Option<Background>,
}

/// A synthetic replay, as whoever drives a training knows it.
pub trait Synthetic {
    /// What became of its generations.
    fn account(&self) -> &Account;

    /// The same, for whoever tells it.
    fn account_mut(&mut self) -> &mut Account;

    /// How the generation went that ended, and what judges relevance, since it was last asked.
    fn told(&mut self) -> Vec<(&'static str, f64)>;

    /// Of what a checkpoint keeps of it, what came of the newest generation that was believed; it stays as it is until
    /// the next one is.
    fn made(&self) -> Vec<(String, Tensor)>;

    /// The rest of it, which changes all the time.
    fn changing(&self) -> Vec<(String, Tensor)>;

    /// All that a checkpoint keeps of it.
    fn kept(&self) -> Vec<(String, Tensor)> {
        [self.changing(), self.made()]
            .into_iter()
            .flatten()
            .collect()
    }

    /// Puts back what [`Synthetic::kept`] gave, found among other tensors.
    ///
    /// # Errors
    /// If it is not there, or was kept of another layout or other networks.
    fn restore(&mut self, kept: &State) -> Result<()>;
}

/// What was really experienced.
pub struct Experience<'a> {
    /// All of it, from the oldest on; `None`: there is none.
    pub all: &'a dyn Fn() -> Option<Transitions>,
    /// A batch of it, always the same one for the same step.
    pub batch: &'a dyn Fn() -> Option<Transitions>,
    /// What the agent thinks of it.
    pub critic: &'a dyn Critic,
}

/// What [`GenerativeReplay::before`] came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Settled {
    /// Nothing is due: go on.
    Yes,
    /// It was told to stop while it waited.
    Stopped,
}

impl GenerativeReplay {
    /// An empty one for rows of this layout; `None` where the configuration has none.
    pub fn new(
        config: &GenerativeConfig,
        layout: Layout,
        discount: f64,
        seed: u64,
        device: Device,
    ) -> Option<Self> {
        if !config.enabled {
            return None;
        }
        let mut new = Self {
            config: config.clone(),
            layout,
            discount,
            seed,
            device,
            curiosity: None,
            watch: Watch::default(),
            rows: None,
            model: vec![],
            pending: None,
            account: Account::default(),
        };
        new.begin_curiosity();
        Some(new)
    }

    /// Has a curiosity model that knows nothing yet, where that judges.
    fn begin_curiosity(&mut self) {
        tch::manual_seed(mix(self.seed ^ MODELS ^ self.account.begun()) as i64);
        let (config, layout) = (&self.config, self.layout);
        self.curiosity = (config.relevance == Relevance::Curiosity).then(|| {
            let options = (Kind::Float, self.device);
            Curiosity::new(
                &config.curiosity,
                layout.observations,
                layout.actions,
                options,
            )
        });
    }

    /// What a row is.
    pub fn layout(&self) -> Layout {
        self.layout
    }

    /// Before the step after `steps` of them. A generation that a checkpoint had under way begins once more: on the
    /// oldest rows there are, as many as it had. (Where a full replay has lost some of those meanwhile, it is on others.)
    /// One that is to be used from here on is waited for.
    ///
    /// # Errors
    /// If the system gives no thread.
    pub fn before(
        &mut self,
        steps: u64,
        experience: &Experience,
        stop: &AtomicBool,
    ) -> Result<Settled> {
        self.go_on(experience)?;
        let lag = self.config.lag_steps;
        let due = (self.pending.as_ref()).filter(|_| steps >= self.account.begun_at() + lag);
        let Some(work) = due.and_then(|pending| pending.work.as_ref()) else {
            return Ok(Settled::Yes);
        };
        let Some(outcome) = work.wait(stop) else {
            return Ok(Settled::Stopped);
        };
        self.take(outcome);
        Ok(Settled::Yes)
    }

    /// After a step, of which there were `steps` then: what judges relevance learns from a batch, where it learns at all,
    /// and a generation begins where one is due.
    ///
    /// # Errors
    /// If rows cannot be judged as configured, or the system gives no thread.
    pub fn after(&mut self, steps: u64, experience: &Experience) -> Result<()> {
        if let Some(figures) = self.learn(experience.batch) {
            self.watch.note(steps, figures);
        }
        if self.is_due(steps) {
            self.begin(steps, experience)?;
        }
        Ok(())
    }

    /// Whether a generation is to begin, none being under way.
    pub fn is_due(&self, steps: u64) -> bool {
        let every = self.config.retrain_diffusion_every;
        self.pending.is_none() && self.account.is_due(steps, every)
    }

    /// What judges relevance learns from a batch, where it learns at all.
    pub fn learn(&mut self, batch: &dyn Fn() -> Option<Transitions>) -> Option<Figures> {
        let curiosity = self.curiosity.as_mut()?;
        // One row has no deviation to be normalised by; where all are generated there is none.
        let batch = batch().filter(|batch| batch.rows() > 1)?;
        Some(curiosity.step(&batch))
    }

    /// Begins a generation on all real rows there are, unless there is none. A curiosity model that diverged can judge
    /// none: it is begun again.
    fn begin(&mut self, steps: u64, experience: &Experience) -> Result<()> {
        let Some(real) = (experience.all)() else {
            return Ok(());
        };
        let scores = self.relevance(&real, Some(experience.critic))?;
        self.account.begin(steps);
        let finite = |scores: &Tensor| scores.isfinite().all().int64_value(&[]) == 1;
        if self.curiosity.is_some() && !scores.as_ref().is_none_or(finite) {
            let reason = "the curiosity model diverged; lower generative_replay.curiosity.lr";
            self.account.refuse(vec![], reason.to_owned());
            self.begin_curiosity();
            return Ok(());
        }
        self.pending = Some(Pending {
            count: real.rows(),
            scores: scores.map(|scores| scores.to_device(Device::Cpu)),
            work: None,
        });
        self.work(&real)
    }

    /// How much transitions matter now \[N\]; `None`: they are all alike.
    ///
    /// # Errors
    /// If a critic is to be asked, and there is none.
    pub fn relevance(
        &self,
        of: &Transitions,
        agent: Option<&dyn Critic>,
    ) -> Result<Option<Tensor>, NoCritic> {
        let relevance = self.config.relevance;
        let agent = || agent.ok_or(NoCritic(relevance.name()));
        let judge = match (relevance, &self.curiosity) {
            (Relevance::Curiosity, Some(curiosity)) => Some(Judge::Curiosity(curiosity)),
            (Relevance::Return, _) => Some(Judge::Return(agent()?)),
            (Relevance::TdError, _) => Some(Judge::TdError {
                agent: agent()?,
                discount: self.discount,
            }),
            (Relevance::None | Relevance::Curiosity, _) => None,
        };
        judge.map(|judge| judge.scores(of)).transpose()
    }

    /// The newest generation that was believed \[M, d\], as the model made it.
    pub fn rows(&self) -> Option<&Tensor> {
        self.rows.as_ref()
    }

    fn work(&mut self, real: &Transitions) -> Result<()> {
        let Some(Pending { count, scores, .. }) = &self.pending else {
            return Ok(());
        };
        let (count, scores) = (*count, scores.as_ref().map(Tensor::copy));
        let mut job = self.job(real, scores);
        job.rows = job.rows.narrow(0, 0, count.min(real.rows()));
        let work = Background::begin(job).context("a thread for generative replay")?;
        if let Some(pending) = &mut self.pending {
            pending.work = Some(work);
        }
        Ok(())
    }

    /// What a generation is made of: of these transitions, which matter so much \[N\].
    pub fn job(&self, real: &Transitions, scores: Option<Tensor>) -> Job {
        let mut model = self.fresh_model();
        if !self.model.is_empty() {
            model.restore(&self.model);
        }
        Job {
            config: self.config.clone(),
            layout: self.layout,
            rows: self.layout.rows(real).to_device(Device::Cpu),
            scores,
            model,
            seed: self.seed,
            generation: self.account.begun(),
            device: self.device,
        }
    }

    fn fresh_model(&self) -> Diffusion {
        tch::manual_seed(mix(self.seed ^ mix(MODELS ^ self.account.begun())) as i64);
        let conditions = i64::from(self.config.relevance != Relevance::None);
        let (columns, options) = (self.layout.width(), (Kind::Float, self.device));
        Diffusion::new(self.config.diffusion.clone(), columns, conditions, options)
    }

    fn go_on(&mut self, experience: &Experience) -> Result<()> {
        let interrupted = (self.pending.as_ref()).is_some_and(|pending| pending.work.is_none());
        match (interrupted.then(experience.all)).flatten() {
            Some(real) => self.work(&real),
            None => Ok(()),
        }
    }

    /// As [`GenerativeReplay::before`], without waiting: a generation is used from when it is done.
    ///
    /// # Errors
    /// As there.
    pub fn poll(&mut self, experience: &Experience) -> Result<()> {
        self.go_on(experience)?;
        let work = (self.pending.as_ref()).and_then(|pending| pending.work.as_ref());
        if let Some(outcome) = work.and_then(Background::poll) {
            self.take(outcome);
        }
        Ok(())
    }

    /// The newest believed generation is what batches are drawn from. One that is not is left out: what was there
    /// before stays, and the next one begins with a new model.
    fn take(&mut self, outcome: Outcome) {
        self.pending = None;
        self.model.clear();
        match outcome {
            Err(reason) => self.account.refuse(vec![], reason.to_string()),
            Ok(made) => match &made.report.verdict {
                Err(reason) => {
                    let reason = format!("its rows are not believed: {reason}");
                    self.account.refuse(figures(&made), reason);
                }
                Ok(()) => {
                    self.account.believe(figures(&made), made.rows.size()[0]);
                    self.rows = Some(made.rows.to_device(self.device));
                    if self.config.warm_start {
                        self.model = made.model.state();
                    }
                }
            },
        }
    }

    /// Of `rows` of a batch, so many are generated; none until there is something.
    pub fn share_of(&self, rows: usize) -> usize {
        match self.rows {
            None => 0,
            Some(_) => (rows as f64 * self.config.diffusion_sample_ratio).round() as usize,
        }
    }

    /// Generated rows, drawn with replacement; `None` while there are none.
    pub fn batch(&self, stream: &mut Uniforms, rows: usize) -> Option<Tensor> {
        let all = self.rows.as_ref()?;
        let count = all.size()[0] as u64;
        let drawn: Vec<i64> = (0..rows).map(|_| stream.below(count) as i64).collect();
        let drawn = Tensor::from_slice(&drawn).to_device(all.device());
        Some(all.index_select(0, &drawn))
    }

    /// A batch of `rows` on state vectors: real ones from `real`, and generated ones spread evenly among them. Nobody
    /// knows what a generated row's episode still brings.
    pub fn mixed(
        &self,
        rows: usize,
        stream: &mut Uniforms,
        real: impl FnOnce(usize, &mut Uniforms) -> Option<Transitions>,
    ) -> Option<Transitions> {
        let share = self.share_of(rows);
        let generated = self.batch(stream, share).filter(|_| share > 0);
        let Some(generated) = generated.map(|rows| self.layout.transitions(&rows)) else {
            return real(rows, stream);
        };
        if share == rows {
            return Some(generated);
        }
        let real = real(rows - share, stream)?;
        let unknown = |_: &Tensor| generated.rewards.full_like(f64::from(UNKNOWN_RETURN));
        let generated = Transitions {
            returns: real.returns.as_ref().map(unknown),
            ..generated
        };
        Some(interleaved(&generated, &real))
    }
}

impl Synthetic for GenerativeReplay {
    fn account(&self) -> &Account {
        &self.account
    }

    fn account_mut(&mut self) -> &mut Account {
        &mut self.account
    }

    fn told(&mut self) -> Vec<(&'static str, f64)> {
        let mut told = self.account.told();
        // One that diverged has none; that is said when a generation is due.
        told.extend(self.watch.read().unwrap_or_default());
        told
    }

    fn made(&self) -> Vec<(String, Tensor)> {
        let rows = self.rows.as_ref();
        let rows = rows.map(|rows| (ROWS.to_owned(), rows.shallow_clone()));
        rows.into_iter()
            .chain(under(MODEL, self.model.iter()))
            .collect()
    }

    fn changing(&self) -> Vec<(String, Tensor)> {
        let mut kept = self.account.kept();
        if let Some(curiosity) = &self.curiosity {
            let state = curiosity.state();
            kept.extend(under(CURIOSITY, state.iter()));
        }
        if let Some(pending) = &self.pending {
            kept.push((PENDING.to_owned(), Tensor::from(pending.count)));
            let scores = pending.scores.as_ref();
            kept.extend(scores.map(|scores| (SCORES.to_owned(), scores.shallow_clone())));
        }
        kept
    }

    fn restore(&mut self, kept: &State) -> Result<()> {
        self.account = Account::restored(kept)?;
        if let Some(curiosity) = &mut self.curiosity {
            let state = below(CURIOSITY, kept);
            match check_state(&curiosity.state(), &state) {
                // It goes on as it would have.
                Ok(()) | Err(BadState::NotFinite { .. }) => {}
                Err(other) => Err(other).context(
                    "generative_replay.curiosity is of another shape than the training began with: repeat what it was, \
                     or choose another folder",
                )?,
            }
            curiosity.restore(&state);
        }
        self.rows = match named(kept, ROWS) {
            Err(_) => None,
            Ok(rows) => {
                let (got, wanted) = (rows.size(), self.layout.width());
                anyhow::ensure!(
                    got.len() == 2 && got[1] == wanted && got[0] > 0,
                    "`{ROWS}` has shape {got:?}, rows of {wanted} numbers are wanted"
                );
                Some(rows.to_device(self.device))
            }
        };
        // One is begun anew after one that was left out.
        if self.config.warm_start && self.account.is_last_believed() {
            self.model = below(MODEL, kept);
        }
        if !self.model.is_empty() {
            check_state(&self.fresh_model().state(), &self.model).context(
                "generative_replay.diffusion is of another shape than the model that the next one goes on from: repeat \
                 what it was, or begin with a new one by --set generative_replay.warm_start=false",
            )?;
        }
        self.pending = match named(kept, PENDING) {
            Err(_) => None,
            Ok(count) => Some(Pending {
                count: count.int64_value(&[]),
                scores: named(kept, SCORES).ok().map(Tensor::shallow_clone),
                work: None,
            }),
        };
        Ok(())
    }
}

/// How a generation went.
fn figures(made: &Made) -> Vec<(&'static str, f64)> {
    let [trained_s, sampled_s] = made.took_s;
    let mut figures = vec![
        ("generative/rows", made.rows.size()[0] as f64),
        ("generative/trained_s", trained_s),
        ("generative/sampled_s", sampled_s),
    ];
    let loss = made.losses.last();
    figures.extend(loss.map(|(_, loss)| ("generative/loss", *loss)));
    figures.extend(&made.report.figures);
    figures
}

fn under<'a>(
    prefix: &'a str,
    state: impl Iterator<Item = &'a (String, Tensor)> + 'a,
) -> impl Iterator<Item = (String, Tensor)> + 'a {
    state.map(move |(name, tensor)| (format!("{prefix}{name}"), tensor.shallow_clone()))
}

fn below(prefix: &str, state: &State) -> Vec<(String, Tensor)> {
    let own = state.iter().filter_map(|(name, tensor)| {
        let name = name.strip_prefix(prefix)?.to_owned();
        Some((name, tensor.shallow_clone()))
    });
    own.collect()
}
