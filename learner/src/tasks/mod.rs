//! Tasks to learn and to be judged on, that need no robot. [`open`] knows them by Gymnasium's names.
//!
//! - [`pendulum`]: swing one up, from formulas.
//! - `locomotion`: come far on one leg, two or four, by MuJoCo; with the cargo feature `sim`.

#[cfg(feature = "sim")]
pub mod locomotion;
pub mod pendulum;

/// What one step leads to.
#[derive(Clone, Debug, PartialEq)]
pub struct Outcome {
    /// Observation \[O\].
    pub observation: Vec<f64>,
    /// Reward of the step.
    pub reward: f64,
    /// The episode came to its end: nothing follows.
    pub terminated: bool,
    /// Time ran out: what would follow is worth what it is worth.
    pub truncated: bool,
}

/// A task of episodes.
pub trait Task {
    /// Its name in Gymnasium.
    fn id(&self) -> &'static str;

    /// O, numbers of an observation.
    fn observations(&self) -> usize;

    /// A, numbers of an action.
    fn actions(&self) -> usize;

    /// An episode is truncated after so many steps.
    fn most_steps(&self) -> u32;

    /// What a step takes in the task's own time, seconds.
    fn step_s(&self) -> f64;

    /// Begins an episode, the same one for the same seed; its first observation \[O\].
    fn reset(&mut self, seed: u64) -> Vec<f64>;

    /// One step with an action in ±1 \[A\].
    fn step(&mut self, action: &[f64]) -> Outcome;

    /// How it stands: RGB, `height` × `width` × 3 bytes, row 0 on top. Nothing that pictures need is opened
    /// before the first one.
    ///
    /// # Errors
    /// [`PictureError`] for a size that cannot be, or where the computer cannot draw.
    fn picture(&mut self, width: u32, height: u32) -> Result<Vec<u8>, PictureError>;
}

/// Why there is no picture of a task.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{id} cannot be drawn: {reason}")]
pub struct PictureError {
    /// The task.
    pub id: &'static str,
    /// What is wrong, with the remedy.
    pub reason: String,
}

/// Why a task cannot be opened.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    /// There is none of this name.
    #[error("there is no task `{id}`; there are {}", ids().collect::<Vec<_>>().join(", "))]
    Unknown {
        /// Which was asked for.
        id: String,
    },
    /// This program was built without what the task runs on.
    #[error(
        "there is no task `{id}` in this build; there is {}. Hopper, HalfCheetah and Walker2d need the cargo \
         feature `sim`, which is on unless --no-default-features is given",
        ids().collect::<Vec<_>>().join(", ")
    )]
    Unbuilt {
        /// Which was asked for.
        id: String,
    },
    /// The simulator cannot run it.
    #[error("{id} cannot be opened: {reason}")]
    Simulator {
        /// Which was asked for.
        id: String,
        /// What is wrong, with the remedy.
        reason: String,
    },
}

/// Why something is not of a task.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Misfit {
    /// Its numbers are not the task's.
    #[error(
        "{whose} has observations of {} numbers and actions of {}, {id} has {} and {}: it is of another task",
        theirs.0, theirs.1, ours.0, ours.1
    )]
    Sizes {
        /// What it is.
        whose: String,
        /// O and A of it.
        theirs: (usize, usize),
        /// The task.
        id: &'static str,
        /// O and A of that.
        ours: (usize, usize),
    },
    /// It is known to be of another one.
    #[error(
        "{whose} is of {env}, not of {id}: their observations and actions have the same sizes, but mean other things"
    )]
    Task {
        /// What it is.
        whose: String,
        /// Of which task.
        env: String,
        /// The task.
        id: &'static str,
    },
}

/// Whether what `whose` names has the task's sizes, O and A, and is of it: `env` is the task that it is known to be
/// of. Versions of a task count as the same one.
pub fn fits(
    whose: &str,
    task: &dyn Task,
    env: Option<&str>,
    theirs: (usize, usize),
) -> Result<(), Misfit> {
    let (whose, id) = (whose.to_owned(), task.id());
    let ours = (task.observations(), task.actions());
    if theirs != ours {
        return Err(Misfit::Sizes {
            whose,
            theirs,
            id,
            ours,
        });
    }
    match env {
        Some(env) if name(env) != name(id) => Err(Misfit::Task {
            whose,
            env: env.to_owned(),
            id,
        }),
        _ => Ok(()),
    }
}

/// A task's name without its version.
fn name(id: &str) -> &str {
    id.rsplit_once("-v").map_or(id, |(name, _)| name)
}

/// The tasks of this build.
pub fn ids() -> impl Iterator<Item = &'static str> {
    let ids = std::iter::once(pendulum::ID);
    #[cfg(feature = "sim")]
    let ids = ids.chain(locomotion::ids());
    ids
}

/// Opens a task by its name in Gymnasium.
///
/// # Errors
/// [`OpenError`] names the tasks that there are, or what the simulator lacks.
pub fn open(id: &str) -> Result<Box<dyn Task>, OpenError> {
    let named = || id.to_owned();
    if id == pendulum::ID {
        return Ok(Box::new(pendulum::Pendulum::default()));
    }
    #[cfg(feature = "sim")]
    if locomotion::ids().any(|known| known == id) {
        let task = hilt_sim::Locomotion::open(id);
        let task = task.map_err(|e| OpenError::Simulator {
            id: named(),
            reason: e.to_string(),
        })?;
        return Ok(Box::new(task));
    }
    Err(match cfg!(feature = "sim") {
        true => OpenError::Unknown { id: named() },
        false => OpenError::Unbuilt { id: named() },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_task_opens_under_its_name_and_is_as_wide_as_it_says() {
        for id in ids() {
            let mut task = open(id).unwrap();
            assert_eq!(task.id(), id);
            assert_eq!(task.reset(1).len(), task.observations());
            let action = vec![0.5; task.actions()];
            assert_eq!(task.step(&action).observation.len(), task.observations());
        }
    }

    #[test]
    fn a_task_that_there_is_not_is_named_with_those_that_there_are() {
        let message = open("Humanoid-v5").err().unwrap().to_string();
        for part in ["Humanoid-v5", "Pendulum-v1"] {
            assert!(message.contains(part), "{message}");
        }
        let with_sim = message.contains("Walker2d-v4");
        assert_eq!(with_sim, cfg!(feature = "sim"), "{message}");
        assert_ne!(with_sim, message.contains("feature `sim`"), "{message}");
    }
}
