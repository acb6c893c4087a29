//! Relevance: one number per real transition, of which more is to be made the higher it is; and the conditions that
//! are drawn from the highest.
//!
//! What may be asked (PGR, section 4.2): [`curiosity`](super::curiosity); the return that the critic foretells,
//! Q(s, π(s)); the temporal-difference error, of which PGR leaves the sign open and which is taken absolute here.
//! Where π(s) is asked for it is the best that the agent knows, without exploration.
//!
//! Every row has one score, in the rows' order. Nothing is known here of where a ring's newest row lies, or of room
//! for rows that are not there yet: PGR's buffer of scores is as long as its replay may become, and what is not
//! filled counts as scores of 0.
//!
//! Shapes: N rows, K of them in the top fraction.

use serde::{Deserialize, Serialize};
use tch::{Kind, Tensor, no_grad};

use super::{
    curiosity::Curiosity,
    normalizer::{CannotNormalize, Normalizer, Scheme},
};
use crate::agents::{Agent, Draws, Transitions, td};

/// Which relevance.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Relevance {
    /// The forward error of a curiosity model (PGR's choice).
    #[default]
    Curiosity,
    /// Q(s, π(s)).
    Return,
    /// |r + γ m Q(s', π(s')) − Q(s, a)|.
    TdError,
    /// All rows are alike, and nothing is asked for (SynthER).
    None,
}

impl Relevance {
    /// As it is configured.
    pub fn name(self) -> &'static str {
        match self {
            Self::Curiosity => "curiosity",
            Self::Return => "return",
            Self::TdError => "td-error",
            Self::None => "none",
        }
    }

    /// Whether it is told by a critic.
    pub fn asks_critic(self) -> bool {
        matches!(self, Self::Return | Self::TdError)
    }
}

/// What an agent thinks.
pub trait Critic {
    /// The best actions it knows \[B, A\].
    fn best(&self, observations: &Tensor) -> Tensor;

    /// What it thinks taking these actions is worth \[B\]; `None`: it has no critic.
    fn worth(&self, observations: &Tensor, actions: &Tensor) -> Option<Tensor>;
}

impl<A: Agent> Critic for A {
    fn best(&self, observations: &Tensor) -> Tensor {
        self.act(observations, None)
    }

    fn worth(&self, observations: &Tensor, actions: &Tensor) -> Option<Tensor> {
        self.value(observations, actions)
    }
}

impl Critic for &dyn Agent {
    fn best(&self, observations: &Tensor) -> Tensor {
        self.act(observations, None)
    }

    fn worth(&self, observations: &Tensor, actions: &Tensor) -> Option<Tensor> {
        self.value(observations, actions)
    }
}

/// Who is asked for it.
#[derive(Clone, Copy)]
pub enum Judge<'a> {
    /// The model that is surprised.
    Curiosity(&'a Curiosity),
    /// The agent whose critic foretells returns.
    Return(&'a dyn Critic),
    /// The agent whose critic errs.
    TdError {
        /// It.
        agent: &'a dyn Critic,
        /// γ.
        discount: f64,
    },
}

/// Why there are no scores.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the relevance `{0}` asks a critic, and this algorithm has none: set generative_replay.relevance to \
     \"curiosity\", or choose an algorithm with a critic"
)]
pub struct NoCritic(pub &'static str);

/// Rows that are judged together.
const SLICE: i64 = 4096;

impl Judge<'_> {
    /// Which relevance it tells.
    pub fn relevance(self) -> Relevance {
        match self {
            Self::Curiosity(_) => Relevance::Curiosity,
            Self::Return(_) => Relevance::Return,
            Self::TdError { .. } => Relevance::TdError,
        }
    }

    /// The relevance of every row \[N\], in their order.
    ///
    /// # Errors
    /// [`NoCritic`]: the agent that is asked has none.
    pub fn scores(self, all: &Transitions) -> Result<Tensor, NoCritic> {
        let rows = all.rows();
        let slice = |first: i64| all.mapped(|part| part.narrow(0, first, SLICE.min(rows - first)));
        let firsts = (0..rows).step_by(SLICE as usize);
        let scores = firsts.map(|first| self.of_slice(&slice(first)));
        let scores = scores.collect::<Result<Vec<_>, _>>()?;
        if scores.is_empty() {
            return Ok(all.rewards.zeros_like());
        }
        Ok(Tensor::cat(&scores, 0))
    }

    fn of_slice(self, slice: &Transitions) -> Result<Tensor, NoCritic> {
        let value = |agent: &dyn Critic, observations: &Tensor, actions: &Tensor| {
            let value = agent.worth(observations, actions);
            value.ok_or(NoCritic(self.relevance().name()))
        };
        let best = |agent: &dyn Critic, observations: &Tensor| {
            value(agent, observations, &agent.best(observations))
        };
        no_grad(|| {
            let scores = match self {
                Self::Curiosity(curiosity) => curiosity.relevance(slice),
                Self::Return(agent) => best(agent, &slice.observations)?,
                Self::TdError { agent, discount } => {
                    let next = best(agent, &slice.next_observations)?;
                    let target = td::target(slice, discount, &next);
                    (target - value(agent, &slice.observations, &slice.actions)?).abs()
                }
            };
            assert_eq!(scores.size(), [slice.rows()]);
            Ok(scores)
        })
    }
}

/// Conditions for a diffusion model: scores brought to −1 … 1, and the highest of them to draw from.
#[derive(Debug)]
pub struct Conditions {
    normalizer: Normalizer,
    /// Normalised \[N\].
    all: Tensor,
    /// Rows of the highest, the lowest of them first \[K\].
    top: Tensor,
}

impl Conditions {
    /// For the scores of all rows \[N\] that there are, and no others. K is `top_fraction` of N rounded down, and at
    /// least 1.
    ///
    /// # Errors
    /// [`CannotNormalize`]: a score that is no number (its row is named), or fewer than two of them.
    pub fn fit(scores: &Tensor, top_fraction: f64) -> Result<Self, CannotNormalize> {
        let [rows] = scores.size()[..] else {
            panic!("scores must be [N], not {:?}", scores.size())
        };
        let normalizer = Normalizer::fit(Scheme::MinMax, &scores.unsqueeze(1), &[])?;
        let top = ((top_fraction * rows as f64) as i64).clamp(1, rows);
        let order = scores.argsort_stable(true, 0, false);
        Ok(Self {
            all: normalizer.normalize(&scores.unsqueeze(1)).squeeze_dim(1),
            top: order.narrow(0, rows - top, top),
            normalizer,
        })
    }

    /// That of each row \[N\], to train on.
    pub fn of_rows(&self) -> &Tensor {
        &self.all
    }

    /// Rows of the highest, the lowest of them first \[K\].
    pub fn top(&self) -> &Tensor {
        &self.top
    }

    /// Other scores \[B\] in the same range.
    pub fn normalize(&self, scores: &Tensor) -> Tensor {
        self.normalizer
            .normalize(&scores.unsqueeze(1))
            .squeeze_dim(1)
    }

    /// Conditions to sample for \[rows\], each as likely any of the highest, with replacement.
    pub fn draw(&self, rows: i64, draws: &mut dyn Draws) -> Tensor {
        let top = self.top.size()[0];
        // In f64, so that none of a million is left out.
        let share = (draws.uniform("condition", &[rows]).to_kind(Kind::Double) + 1.0) * 0.5;
        let place = (share * top as f64).floor().clamp(0.0, (top - 1) as f64);
        let place = place.to_kind(Kind::Int64).to_device(self.top.device());
        let drawn = self.top.index_select(0, &place);
        self.all.index_select(0, &drawn)
    }
}

#[cfg(test)]
mod tests {
    use tch::Device;

    use super::*;
    use crate::{
        agents::{
            bc::{Bc, BcConfig},
            draws::Seeded,
            sac::{Sac, SacConfig},
        },
        generative::curiosity::CuriosityConfig,
        vectors::{Scaling, VectorReplay, replay::Step},
    };

    const OPTIONS: (Kind, Device) = (Kind::Float, Device::Cpu);

    fn sac() -> Sac {
        let config = SacConfig {
            hidden: vec![16],
            ..SacConfig::default()
        };
        Sac::new(config, 3, 2, OPTIONS)
    }

    fn curiosity() -> Curiosity {
        let config = CuriosityConfig {
            hidden: 8,
            ..CuriosityConfig::default()
        };
        Curiosity::new(&config, 3, 2, OPTIONS)
    }

    fn transitions(rows: i64) -> Transitions {
        Transitions {
            observations: Tensor::randn([rows, 3], OPTIONS),
            actions: Tensor::rand([rows, 2], OPTIONS) * 2.0 - 1.0,
            rewards: Tensor::randn([rows], OPTIONS),
            next_observations: Tensor::randn([rows, 3], OPTIONS),
            masks: Tensor::rand([rows], OPTIONS).gt(0.3).to_kind(Kind::Float),
            returns: None,
        }
    }

    fn numbers(x: &Tensor) -> Vec<f64> {
        Vec::try_from(x.to_kind(Kind::Double)).unwrap()
    }

    #[track_caller]
    fn near(a: &Tensor, b: &Tensor) {
        assert!(a.allclose(b, 1e-5, 1e-6, false), "{a:?} {b:?}");
    }

    #[test]
    fn each_relevance_is_what_it_says_for_every_row() {
        tch::manual_seed(1);
        let (agent, curiosity) = (sac(), curiosity());
        // More than are judged together, and not a multiple of it.
        let rows = SLICE + 5;
        let t = transitions(rows);
        let q = |o: &Tensor, a: &Tensor| agent.value(o, a).unwrap();
        let best = |o: &Tensor| q(o, &agent.act(o, None));
        let discount = 0.9;
        let errors = &t.rewards + &t.masks * best(&t.next_observations) * discount
            - q(&t.observations, &t.actions);
        let judges = [
            (Judge::Curiosity(&curiosity), curiosity.relevance(&t)),
            (Judge::Return(&agent), best(&t.observations)),
            (
                Judge::TdError {
                    agent: &agent,
                    discount,
                },
                errors.abs(),
            ),
        ];
        for (judge, wanted) in judges {
            let scores = judge.scores(&t).unwrap();
            assert_eq!(scores.size(), [rows]);
            near(&scores, &wanted);
            let none = judge.scores(&transitions(0)).unwrap();
            assert_eq!(none.size(), [0]);
        }
    }

    #[test]
    fn who_has_no_critic_is_told_so() {
        let agent = Bc::new(BcConfig::default(), 3, 2, OPTIONS.0, OPTIONS.1);
        let discount = 0.9;
        let agent = &agent;
        for judge in [Judge::Return(agent), Judge::TdError { agent, discount }] {
            let message = judge.scores(&transitions(4)).unwrap_err().to_string();
            for part in [judge.relevance().name(), "curiosity", "critic"] {
                assert!(message.contains(part), "{message}");
            }
        }
    }

    #[test]
    fn relevances_are_configured_by_the_names_that_errors_say() {
        for relevance in [Relevance::Curiosity, Relevance::Return, Relevance::TdError] {
            let written = serde_json::to_string(&relevance).unwrap();
            assert_eq!(written, format!("\"{}\"", relevance.name()));
        }
    }

    /// The reference's bug: the buffer of scores is padded with zeros, and the normaliser's least is always 0.
    #[test]
    fn the_least_condition_is_that_of_the_least_score_and_not_of_a_zero_tail() {
        let scores = Tensor::from_slice(&[5f32, 7.0, 9.0, 6.0]);
        let conditions = Conditions::fit(&scores, 0.5).unwrap();
        let wanted = Tensor::from_slice(&[-1f32, 0.0, 1.0, -0.5]);
        assert!(conditions.of_rows().allclose(&wanted, 1e-5, 1e-5, false));
    }

    /// The reference's bug: negative scores break, because zeros that belong to no row lie above them.
    #[test]
    fn negative_scores_work() {
        let scores = Tensor::from_slice(&[-1000f32, -200.0, -600.0, -400.0]);
        let conditions = Conditions::fit(&scores, 0.5).unwrap();
        let wanted = Tensor::from_slice(&[-1f32, 1.0, 0.0, 0.5]);
        assert!(conditions.of_rows().allclose(&wanted, 1e-5, 1e-5, false));
        assert_eq!(conditions.top(), &Tensor::from_slice(&[3i64, 1]));
    }

    /// The reference's bug: conditions are drawn from the whole buffer, its zero tail too.
    #[test]
    fn conditions_are_those_of_the_top_fraction_and_each_as_likely() {
        let scores = Tensor::arange(1000, OPTIONS) - 2000.0;
        let conditions = Conditions::fit(&scores, 0.01).unwrap();
        let mut draws = Seeded::new(1, 0, OPTIONS);
        let drawn = conditions.draw(20_000, &mut draws);
        let scores = (numbers(&drawn).into_iter()).map(|c| ((c + 1.0) * 0.5 * 999.0).round());
        let mut counts = [0; 10];
        for score in scores {
            assert!((990.0..=999.0).contains(&score), "{score}");
            counts[score as usize - 990] += 1;
        }
        // Five standard deviations.
        assert!(
            counts.iter().all(|&n| (n - 2000i32).abs() < 220),
            "{counts:?}"
        );
    }

    #[test]
    fn the_top_fraction_is_at_least_one_row_and_at_most_all() {
        let scores = Tensor::from_slice(&[3f32, 1.0, 2.0]);
        for (fraction, top) in [(0.0, 1), (0.4, 1), (0.67, 2), (1.0, 3), (7.0, 3)] {
            let conditions = Conditions::fit(&scores, fraction).unwrap();
            assert_eq!(conditions.top().size(), [top], "{fraction}");
            let drawn = conditions.draw(50, &mut Seeded::new(2, 0, OPTIONS));
            let least = drawn.min().double_value(&[]);
            assert!(top > 1 || least > 0.99, "{least}");
        }
    }

    #[test]
    fn one_score_for_all_is_one_condition_for_all() {
        let scores = Tensor::full([6], 0.25, OPTIONS);
        let conditions = Conditions::fit(&scores, 0.5).unwrap();
        let all = numbers(conditions.of_rows());
        assert!(all.iter().all(|&c| c == all[0] && c.is_finite()), "{all:?}");
        assert_eq!(numbers(&conditions.normalize(&scores)), all);
    }

    #[test]
    fn a_score_that_is_no_number_is_named_with_its_row() {
        let scores = Tensor::from_slice(&[0.5f32, f32::NAN, 1.0]);
        let message = Conditions::fit(&scores, 0.5).unwrap_err().to_string();
        assert!(
            message.contains("row 1") && message.contains("NaN"),
            "{message}"
        );
    }

    /// The reference's bug: the refit takes rows up to the write pointer, which is none after the ring has wrapped.
    #[test]
    fn after_the_ring_wrapped_every_row_has_a_score_and_a_condition() {
        tch::manual_seed(5);
        let curiosity = curiosity();
        for pushed in [7, 10, 20, 23] {
            let mut ring = VectorReplay::new(10, (3, 2), Scaling::default(), None);
            for k in 0..pushed {
                let seen = |x: f32| [x, x + 0.5, -x];
                ring.push(Step {
                    observation: &seen(k as f32),
                    action: &[0.1, -0.2],
                    reward: 0.0,
                    next_observation: &seen(k as f32 + 1.0),
                    terminated: false,
                    truncated: false,
                })
                .unwrap();
            }
            let table = ring.table().unwrap();
            let columns = table.columns();
            let matrix = |x: &[f32], width: i64| Tensor::from_slice(x).view([-1, width]);
            let filled = ring.len() as i64;
            let all = Transitions {
                observations: matrix(&columns.observations, 3),
                actions: matrix(&columns.actions, 2),
                rewards: Tensor::from_slice(&columns.rewards),
                next_observations: matrix(&columns.next_observations, 3),
                masks: Tensor::ones([filled], OPTIONS),
                returns: None,
            };
            let scores = Judge::Curiosity(&curiosity).scores(&all).unwrap();
            assert_eq!(scores.size(), [filled.min(10)]);
            let conditions = Conditions::fit(&scores, 0.3).unwrap();
            assert_eq!(conditions.of_rows().size(), [filled]);
            let wanted = 3.min((0.3 * filled as f64) as i64);
            assert_eq!(conditions.top().size(), [wanted]);
        }
    }
}
