//! One file per algorithm. An algorithm never opens a socket, never knows the robot and never
//! prints; it turns batches into better parameters and says how it went.
//!
//! - [`sac_grasp`]: HIL-SERL's agent, on the maps of a frozen encoder, with grippers.
//! - [`sight`]: what learning from what a robot sees takes, and how it is driven, whichever algorithm it is.
//! - Those on state vectors share what is here: they learn from [`Transitions`], take their random numbers
//!   from [`Draws`] by the names that the golden files give them, stand on [`net::Net`]s, and are driven as
//!   an [`Agent`]; [`guard`] looks for bad batches and for losses that diverge.
//!   [`bc`], [`td3_bc`], and with [`gaussian`] policies [`iql`] and [`awac`].
//!   [`sac`], [`redq`], [`rlpd`], and offline [`cql`], [`cal_ql`]: soft actor-critics, whose policy is a
//!   [`tanh_gaussian`] and whose temperature a [`scalar`].
//!   [`td`]: what critics share; [`policy`]: what of each of them acts; [`front`] puts them on images; [`draws`]:
//!   where training takes [`Draws`] from.

pub mod awac;
pub mod bc;
pub mod cal_ql;
pub mod cql;
pub mod draws;
pub mod front;
pub mod gaussian;
pub mod guard;
pub mod iql;
pub mod net;
pub mod policy;
pub mod redq;
pub mod rlpd;
pub mod sac;
pub mod sac_grasp;
pub mod scalar;
pub mod sight;
pub mod tanh_gaussian;
pub mod td;
pub mod td3_bc;

use hilt_protocol::noise::Uniforms;
use tch::{Device, Kind, Tensor};

use self::policy::Policy;

/// B transitions.
#[derive(Debug)]
pub struct Transitions {
    /// Observations \[B, O\].
    pub observations: Tensor,
    /// Actions in ±1 \[B, A\].
    pub actions: Tensor,
    /// Rewards \[B\].
    pub rewards: Tensor,
    /// Next observations \[B, O\].
    pub next_observations: Tensor,
    /// 0 where the episode terminated, else 1, also where time ran out \[B\].
    pub masks: Tensor,
    /// Discounted sum of the rewards from here to the episode's end \[B\], for those who ask for it.
    pub returns: Option<Tensor>,
}

impl Transitions {
    /// B.
    pub fn rows(&self) -> i64 {
        self.actions.size()[0]
    }

    /// Each part of it, changed.
    pub fn mapped(&self, each: impl Fn(&Tensor) -> Tensor) -> Self {
        Self {
            observations: each(&self.observations),
            actions: each(&self.actions),
            rewards: each(&self.rewards),
            next_observations: each(&self.next_observations),
            masks: each(&self.masks),
            returns: self.returns.as_ref().map(each),
        }
    }

    /// So many of them drawn at random, with replacement.
    pub fn drawn(&self, stream: &mut Uniforms, rows: usize) -> Self {
        let count = self.rows() as u64;
        let drawn: Vec<i64> = (0..rows).map(|_| stream.below(count) as i64).collect();
        let drawn = Tensor::from_slice(&drawn).to_device(self.rewards.device());
        self.mapped(|tensor| tensor.index_select(0, &drawn))
    }

    /// Several, one after the other, without returns.
    pub fn joined(parts: &[Self]) -> Self {
        let all = |of: fn(&Self) -> &Tensor| {
            let each: Vec<&Tensor> = parts.iter().map(of).collect();
            Tensor::cat(&each, 0)
        };
        Self {
            observations: all(|part| &part.observations),
            actions: all(|part| &part.actions),
            rewards: all(|part| &part.rewards),
            next_observations: all(|part| &part.next_observations),
            masks: all(|part| &part.masks),
            returns: None,
        }
    }
}

/// Where an update's random numbers come from: a generator in training, recorded tensors in tests. `name`
/// says what they are for.
pub trait Draws {
    /// Standard normals.
    fn normal(&mut self, name: &'static str, shape: &[i64]) -> Tensor;
    /// Uniform in −1 to 1.
    fn uniform(&mut self, name: &'static str, shape: &[i64]) -> Tensor;
    /// `count` different ones of 0 to `of` − 1.
    fn members(&mut self, name: &'static str, count: i64, of: i64) -> Tensor;
}

/// How an update went: named scalars, on the agent's device until somebody reads them, so that an update
/// waits for nothing.
#[derive(Debug, Default)]
pub struct Figures(pub Vec<(&'static str, Tensor)>);

impl Figures {
    /// Their values. Waits for the device.
    pub fn read(&self) -> Vec<(&'static str, f64)> {
        let value = |(name, value): &(&'static str, Tensor)| {
            (
                *name,
                (value.detach().to_device(Device::Cpu)).double_value(&[]),
            )
        };
        self.0.iter().map(value).collect()
    }
}

/// An algorithm on state vectors, as whoever trains drives it.
pub trait Agent {
    /// One update. With `through` also the gradient, at the batch's observations \[B, O\], of the critics' loss (of
    /// the policy's, where there is no critic): what the observations come from can be taught by it ([`front`]).
    fn update_through(
        &mut self,
        batch: &Transitions,
        draws: &mut dyn Draws,
        through: bool,
    ) -> (Figures, Option<Tensor>);

    /// One update.
    fn update(&mut self, batch: &Transitions, draws: &mut dyn Draws) -> Figures {
        self.update_through(batch, draws, false).0
    }

    /// Updates made so far.
    fn updates(&self) -> u64;

    /// Transitions of one update's batch come in so many equal parts, one for each step of its critics.
    fn parts(&self) -> i64 {
        1
    }

    /// From here on it learns online, for those that then learn otherwise.
    fn go_online(&mut self) {}

    /// What acts.
    fn policy(&self) -> Policy<'_>;

    /// Actions in ±1 \[B, A\]: the best it knows, or with `draws` as it explores.
    fn act(&self, observations: &Tensor, draws: Option<&mut dyn Draws>) -> Tensor {
        self.policy().act(observations, draws)
    }

    /// What it thinks taking these actions is worth \[B\]; `None`: it has no critic.
    fn value(&self, observations: &Tensor, actions: &Tensor) -> Option<Tensor>;

    /// Everything that the next update depends on, but for the number of updates.
    fn state(&self) -> Vec<(String, Tensor)>;

    /// Puts back what [`Agent::state`] gave; names and shapes are those of this agent's own state.
    fn restore(&mut self, state: &[(String, Tensor)], updates: u64);
}

/// Gradients of a loss at networks' outputs.
pub fn gradients(loss: &Tensor, of: &[&Tensor]) -> Vec<Tensor> {
    Tensor::run_backward(&[loss], of, false, false)
}

/// The gradient at `of` when that at `value`, which was computed from it, is `gradient`.
pub fn pulled_back(value: &Tensor, gradient: &Tensor, of: &Tensor) -> Tensor {
    let along = (value * gradient.detach()).sum(None::<Kind>);
    Tensor::run_backward(&[along], &[of], false, false).remove(0)
}
