//! Generative replay of what a robot sees: rows are a [`Projection`]'s components and proprioception, and come back as
//! maps and proprioception. What a grippers' command costs is a column beside the action.

use std::sync::atomic::AtomicBool;

use anyhow::{Context, Result};
use hilt_protocol::{RigSpec, noise::Uniforms};
use tch::{Device, Tensor, no_grad};

use super::{
    account::Account,
    latent::{Projection, Unprojectable},
    layout::Layout,
    relevance::Critic,
    replay::{Experience, GenerativeReplay, Settled, Synthetic},
};
use crate::{
    agents::{
        Transitions,
        sight::{Sight, SightAgent, SightTransitions, UNKNOWN_RETURN},
    },
    config::LearnerConfig,
    course::State,
    encoder::Encoder,
    replay::{HostBatch, Replay, seen},
};

/// Names of what a checkpoint has of the projection.
const PROJECTION: &str = "generative.projection.";
/// Rows that are seen at once.
const SLICE: usize = 256;
/// Where a projection keeps less than this of what it kept of the maps that it was fitted on, it is fitted anew.
const KEEPS: f64 = 0.9;

/// The synthetic replay of a robot.
pub struct SightReplay {
    config: LearnerConfig,
    seed: u64,
    device: Device,
    proprio: i64,
    actions: i64,
    /// Columns of an action that command grippers: −1, 0 or 1.
    grippers: Vec<i64>,
    /// Once there are rows to fit it to.
    fitted: Option<Fitted>,
    /// Of generations, until then.
    account: Account,
}

/// A projection, and the rows that mean something by it.
struct Fitted {
    projection: Projection,
    rows: GenerativeReplay,
}

/// Shows a replay, for a moment.
pub type Shows<'a> = dyn Fn(&mut dyn FnMut(&Replay)) + 'a;

/// What was really experienced.
pub struct Seen<'a> {
    /// All of it.
    pub replay: &'a Shows<'a>,
    /// What frames become maps by.
    pub encoder: &'a Encoder,
    /// What the agent thinks of it.
    pub agent: &'a dyn SightAgent,
}

impl Seen<'_> {
    /// Real rows from the oldest on, recorded demonstrations first, slice by slice; of every `stride` slices one. Each
    /// comes once: a row that came twice would be held out and known at the same time where rows are checked.
    fn each(&self, config: &LearnerConfig, stride: usize, mut each: impl FnMut(SightTransitions)) {
        let mut first = 0;
        loop {
            let mut slice = None;
            (self.replay)(&mut |replay| {
                let mut batch = HostBatch::new(replay.layout(), SLICE);
                let rows = replay.all_in_order(first, &mut batch);
                slice = (rows > 0).then_some((batch, rows as i64));
            });
            let Some((batch, rows)) = slice else { break };
            // Images are looked at shifted, as in updates; for maps nothing is drawn.
            let mut random = Uniforms::new(first as u64);
            let all = seen(&batch, config.train.store, self.encoder, &mut random);
            each(all.first(rows));
            first += SLICE * stride;
        }
    }

    /// What was seen in about so many of them, spread over all.
    fn some(&self, config: &LearnerConfig, rows: i64) -> Option<Sight> {
        let mut count = 0;
        (self.replay)(&mut |replay| count = replay.all_len());
        let stride = (count / rows.max(1) as usize).max(1);
        let mut slices = vec![];
        self.each(config, stride, |slice| slices.push(slice.observations));
        (!slices.is_empty()).then(|| Sight::joined(&slices))
    }
}

/// An agent, asked about rows.
struct Asked<'a> {
    projection: &'a Projection,
    agent: &'a dyn SightAgent,
    actions: i64,
}

impl Critic for Asked<'_> {
    fn best(&self, observations: &Tensor) -> Tensor {
        self.agent.best(&self.projection.seen(observations))
    }

    fn worth(&self, observations: &Tensor, actions: &Tensor) -> Option<Tensor> {
        let actions = actions.narrow(1, 0, self.actions);
        (self.agent).value(&self.projection.seen(observations), &actions)
    }
}

impl SightReplay {
    /// An empty one; `None` where the configuration has none.
    pub fn new(config: &LearnerConfig, spec: &RigSpec, seed: u64, device: Device) -> Option<Self> {
        config.generative_replay.enabled.then(|| Self {
            config: config.clone(),
            seed,
            device,
            proprio: spec.proprio_dim() as i64,
            actions: spec.action_dim() as i64,
            grippers: (spec.gripper_columns().iter())
                .map(|&column| column as i64)
                .collect(),
            fitted: None,
            account: Account::default(),
        })
    }

    fn with(&self, projection: Projection) -> Option<Fitted> {
        let observations = projection.dimensions() + self.proprio;
        // What grippers cost is beside the action.
        let layout = Layout {
            observations,
            actions: self.actions + 1,
        };
        let (config, discount) = (&self.config.generative_replay, self.config.discount());
        let rows = GenerativeReplay::new(config, layout, discount, self.seed, self.device)?;
        Some(Fitted { projection, rows })
    }

    /// Whether there is to be a projection, or another one, after so many steps: the first as soon as it can be, so that
    /// what judges relevance learns from then on. Where maps could not be projected they are looked at again when the
    /// next generation is due.
    fn is_fit_due(&self, steps: u64) -> bool {
        let every = self.config.generative_replay.retrain_diffusion_every;
        match &self.fitted {
            None => self.account.begun() == 0 || self.account.is_due(steps, every),
            Some(fitted) => fitted.rows.is_due(steps),
        }
    }

    /// Has a projection that keeps what there is to see, if there is anything. With a new one nothing that stood on the
    /// one before it is left.
    fn refit(&mut self, steps: u64, seen: &Seen) {
        let config = self.config.generative_replay.projection.clone();
        let Some(some) = seen.some(&self.config, config.fit_rows) else {
            return;
        };
        if let Some(Fitted { projection, .. }) = &self.fitted {
            let keeps = projection.keeps(&some);
            if keeps >= KEEPS * projection.explained() {
                return;
            }
            let words = format!(
                "projection {:016x} keeps {:.1} % of the maps' variance now: what was generated by it is discarded",
                projection.version(),
                100.0 * keeps
            );
            self.account_mut().tell(words);
        }
        let projection = match Projection::fit(&config, &some) {
            Ok(projection) => projection,
            // More will come.
            Err(Unprojectable::Few(_)) => return,
            Err(reason @ Unprojectable::Constant(_)) => {
                let account = self.account_mut();
                account.begin(steps);
                account.refuse(vec![], reason.to_string());
                return;
            }
        };
        let words = format!(
            "projection {:016x}: maps become {} numbers, which keep {:.1} % of their variance",
            projection.version(),
            projection.dimensions(),
            100.0 * projection.explained()
        );
        self.account_mut().tell(words);
        let account = std::mem::take(self.account_mut());
        self.fitted = self.with(projection);
        *self.account_mut() = account;
    }

    fn drive<T>(
        &mut self,
        seen: &Seen,
        batch: Option<&SightTransitions>,
        act: impl FnOnce(&mut GenerativeReplay, &Experience) -> Result<T>,
    ) -> Result<Option<T>> {
        let Some(Fitted { projection, rows }) = &mut self.fitted else {
            return Ok(None);
        };
        let all = || {
            let mut slices = vec![];
            seen.each(&self.config, 1, |slice| {
                slices.push(row_parts(projection, &slice));
            });
            (!slices.is_empty()).then(|| Transitions::joined(&slices))
        };
        let experience = Experience {
            all: &all,
            batch: &|| batch.map(|batch| row_parts(projection, batch)),
            critic: &Asked {
                projection,
                agent: seen.agent,
                actions: self.actions,
            },
        };
        act(rows, &experience).map(Some)
    }

    /// As [`GenerativeReplay::before`].
    ///
    /// # Errors
    /// As there.
    pub fn before(&mut self, steps: u64, seen: &Seen, stop: &AtomicBool) -> Result<Settled> {
        let settled = self.drive(seen, None, |rows, experience| {
            rows.before(steps, experience, stop)
        })?;
        Ok(settled.unwrap_or(Settled::Yes))
    }

    /// As [`GenerativeReplay::after`]; `batch` is what was learned from.
    ///
    /// # Errors
    /// As there.
    pub fn after(&mut self, steps: u64, seen: &Seen, batch: &SightTransitions) -> Result<()> {
        if self.is_fit_due(steps) {
            self.refit(steps, seen);
        }
        self.drive(seen, Some(batch), |rows, experience| {
            rows.after(steps, experience)
        })?;
        Ok(())
    }

    /// Shows somebody who looks every real row there is, beside what is generated of them and what the agent thinks;
    /// where there is no projection yet, one is fitted.
    ///
    /// # Errors
    /// If maps cannot be projected, or nothing was seen; and what `look` says.
    pub fn look<T>(
        &mut self,
        seen: &Seen,
        look: impl FnOnce(&mut GenerativeReplay, &Transitions, &dyn Critic) -> Result<T>,
    ) -> Result<T> {
        if self.fitted.is_none() {
            self.refit(0, seen);
        }
        let looked = self.drive(seen, None, |rows, experience| {
            let real = (experience.all)().context("there is no step to look at")?;
            look(rows, &real, experience.critic)
        })?;
        looked.with_context(|| format!("there is nothing to look at: {}", self.account()))
    }

    /// What maps become, once there is something to see.
    pub fn projection(&self) -> Option<&Projection> {
        self.fitted.as_ref().map(|fitted| &fitted.projection)
    }

    /// As [`GenerativeReplay::poll`].
    ///
    /// # Errors
    /// As [`GenerativeReplay::before`].
    pub fn poll(&mut self, seen: &Seen) -> Result<()> {
        self.drive(seen, None, |rows, experience| rows.poll(experience))?;
        Ok(())
    }

    /// Of `rows` of a batch, so many are generated.
    pub fn share_of(&self, rows: usize) -> usize {
        (self.fitted.as_ref()).map_or(0, |fitted| fitted.rows.share_of(rows))
    }

    /// Real rows, and so many generated ones spread evenly among them.
    pub fn mixed(
        &self,
        real: &SightTransitions,
        share: usize,
        stream: &mut Uniforms,
    ) -> SightTransitions {
        let generated = (self.fitted.as_ref()).and_then(|fitted| {
            let rows = fitted.rows.batch(stream, share)?;
            Some(self.seen(&fitted.projection, &fitted.rows.layout().transitions(&rows)))
        });
        match generated.filter(|_| share > 0) {
            None => real.first(real.rows()),
            Some(generated) if real.rows() == 0 => generated,
            Some(generated) => generated.interleaved(real),
        }
    }

    /// What rows stand for. Nobody knows what their episodes still bring.
    fn seen(&self, projection: &Projection, rows: &Transitions) -> SightTransitions {
        let actions = rows.actions.narrow(1, 0, self.actions).contiguous();
        for &column in &self.grippers {
            let _ = actions.select(1, column).round_();
        }
        SightTransitions {
            observations: projection.seen(&rows.observations),
            next_observations: projection.seen(&rows.next_observations),
            actions,
            rewards: rows.rewards.shallow_clone(),
            grasp_penalty: rows.actions.select(1, self.actions),
            masks: rows.masks.shallow_clone(),
            returns: self
                .config
                .return_discount()
                .map(|_| rows.rewards.full_like(f64::from(UNKNOWN_RETURN))),
        }
    }
}

impl Synthetic for SightReplay {
    fn account(&self) -> &Account {
        (self.fitted.as_ref()).map_or(&self.account, |fitted| &fitted.rows.account)
    }

    fn account_mut(&mut self) -> &mut Account {
        match &mut self.fitted {
            None => &mut self.account,
            Some(fitted) => &mut fitted.rows.account,
        }
    }

    fn told(&mut self) -> Vec<(&'static str, f64)> {
        match &mut self.fitted {
            None => self.account.told(),
            Some(fitted) => fitted.rows.told(),
        }
    }

    fn made(&self) -> Vec<(String, Tensor)> {
        (self.fitted.as_ref()).map_or(vec![], |fitted| fitted.rows.made())
    }

    fn changing(&self) -> Vec<(String, Tensor)> {
        let Some(Fitted { projection, rows }) = &self.fitted else {
            return self.account.kept();
        };
        let named = |(name, tensor)| (format!("{PROJECTION}{name}"), tensor);
        let mut kept: Vec<_> = projection.state().into_iter().map(named).collect();
        kept.extend(rows.changing());
        kept
    }

    fn restore(&mut self, kept: &State) -> Result<()> {
        let own: Vec<_> = (kept.iter())
            .filter_map(|(name, tensor)| {
                Some((
                    name.strip_prefix(PROJECTION)?.to_owned(),
                    tensor.shallow_clone(),
                ))
            })
            .collect();
        if own.is_empty() {
            self.account = Account::restored(kept)?;
            return Ok(());
        }
        let projection = Projection::restored(&own, self.device)
            .context("the checkpoint's projection of maps")?;
        self.fitted = self.with(projection);
        if let Some(Fitted { rows, .. }) = &mut self.fitted {
            rows.restore(kept)?;
        }
        Ok(())
    }
}

/// What was seen and done, as rows have it.
fn row_parts(projection: &Projection, seen: &SightTransitions) -> Transitions {
    no_grad(|| Transitions {
        observations: projection.project(&seen.observations),
        actions: Tensor::cat(&[&seen.actions, &seen.grasp_penalty.unsqueeze(1)], 1),
        rewards: seen.rewards.shallow_clone(),
        next_observations: projection.project(&seen.next_observations),
        masks: seen.masks.shallow_clone(),
        returns: None,
    })
}
