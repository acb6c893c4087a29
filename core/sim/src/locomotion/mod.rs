//! Gymnasium's Hopper, HalfCheetah and Walker2d: figures in a plane that are to come far, as its Python package
//! computes them. `cargo xtask setup` takes their models from there.

mod model;
mod picture;
mod rules;

use hilt_protocol::noise::Uniforms;
use mujoco_rs::prelude::*;

use crate::SimError;
use picture::View;
use rules::{EPISODE_STEPS, RULES, Rules, Speeds};

/// What one step leads to.
#[derive(Clone, Debug, PartialEq)]
pub struct Moved {
    /// Observation \[O\]: places but how far it has come, then speeds, in metres and radians (per second).
    pub observation: Vec<f64>,
    /// Metres per second, what it pays to be upright, less what the action costs.
    pub reward: f64,
    /// It is not upright any more.
    pub terminated: bool,
    /// Time ran out.
    pub truncated: bool,
}

/// One task, running.
pub struct Locomotion {
    data: MjData<Box<MjModel>>,
    rules: &'static Rules,
    steps: u32,
    /// Made when the first picture is asked for: a training on a computer without graphics asks for none.
    view: Option<View>,
}

impl Locomotion {
    /// The tasks that there are, by their names in Gymnasium.
    pub fn ids() -> impl Iterator<Item = &'static str> {
        RULES.iter().map(|rules| rules.id)
    }

    /// Opens a task, at its start without noise.
    ///
    /// # Errors
    /// [`SimError::UnknownTask`]; [`SimError::MissingModel`] before `cargo xtask setup`; [`SimError::Model`] when
    /// MuJoCo refuses it.
    pub fn open(id: &str) -> Result<Self, SimError> {
        let rules = RULES.iter().find(|rules| rules.id == id);
        let rules = rules.ok_or_else(|| SimError::UnknownTask {
            id: id.to_owned(),
            known: Self::ids().collect::<Vec<_>>().join(", "),
        })?;
        let model = model::read(&model::folder().join(rules.model))?;
        let mut data = MjData::new(model);
        data.forward();
        Ok(Self {
            data,
            rules,
            steps: 0,
            view: None,
        })
    }

    /// Its name in Gymnasium.
    pub fn id(&self) -> &'static str {
        self.rules.id
    }

    /// O, numbers of an observation.
    pub fn observations(&self) -> usize {
        self.data.qpos().len() - 1 + self.data.qvel().len()
    }

    /// A, numbers of an action.
    pub fn actions(&self) -> usize {
        self.data.ctrl().len()
    }

    /// An episode is truncated after so many steps.
    pub fn most_steps(&self) -> u32 {
        EPISODE_STEPS
    }

    /// Simulated time of a step, seconds.
    pub fn step_s(&self) -> f64 {
        self.data.model().opt().timestep * f64::from(self.rules.frame_skip)
    }

    /// Where its joints are, metres and radians; the first is how far it has come.
    pub fn qpos(&self) -> &[f64] {
        self.data.qpos()
    }

    /// How fast they move, per second.
    pub fn qvel(&self) -> &[f64] {
        self.data.qvel()
    }

    /// Begins an episode, the same one for the same seed: Gymnasium's distribution, but not its numbers for a
    /// seed. The first observation \[O\].
    pub fn reset(&mut self, seed: u64) -> Vec<f64> {
        let mut stream = Uniforms::new(seed);
        let noise = self.rules.noise;
        self.data.reset();
        for place in self.data.qpos_mut() {
            *place += stream.range(-noise, noise);
        }
        for speed in self.data.qvel_mut() {
            *speed = match self.rules.speeds {
                Speeds::Uniform => stream.range(-noise, noise),
                Speeds::Normal => noise * stream.normal(),
            };
        }
        self.begin()
    }

    /// Begins an episode with its joints there; the first observation \[O\].
    ///
    /// # Errors
    /// [`SimError::Start`] when there is not one finite number per joint; nothing changes then.
    pub fn put(&mut self, qpos: &[f64], qvel: &[f64]) -> Result<Vec<f64>, SimError> {
        let joints = self.data.qpos().len();
        let fits = |values: &[f64]| values.len() == joints && values.iter().all(|x| x.is_finite());
        if !fits(qpos) || !fits(qvel) {
            let id = self.id();
            return Err(SimError::Start(format!(
                "{id} has {joints} joints, each with a finite place and speed, not {qpos:?} and {qvel:?}"
            )));
        }
        self.data.reset();
        self.data.qpos_mut().copy_from_slice(qpos);
        self.data.qvel_mut().copy_from_slice(qvel);
        Ok(self.begin())
    }

    fn begin(&mut self) -> Vec<f64> {
        self.steps = 0;
        // The solver's first guess in the first step is what this found, there as here.
        self.data.forward();
        self.observation()
    }

    fn observation(&self) -> Vec<f64> {
        self.rules.observation(self.data.qpos(), self.data.qvel())
    }

    /// One step with an action \[A\]. Motors do no more than ±1; what is asked of them beyond that costs all
    /// the same.
    ///
    /// # Panics
    /// When the action has another length.
    pub fn step(&mut self, action: &[f64]) -> Moved {
        let before_m = self.data.qpos()[0];
        self.data.ctrl_mut().copy_from_slice(action);
        for _ in 0..self.rules.frame_skip {
            self.data.step();
        }
        // Gymnasium calls mj_rnePostConstraint here. It fills in forces that these three do not observe, and
        // changes nothing of what follows.
        let (qpos, qvel) = (self.data.qpos(), self.data.qvel());
        let m_per_s = (qpos[0] - before_m) / self.step_s();
        let (reward, terminated) = self.rules.judge(m_per_s, action, qpos, qvel);
        self.steps += 1;
        Moved {
            observation: self.observation(),
            reward,
            terminated,
            truncated: self.steps >= EPISODE_STEPS,
        }
    }

    /// A picture from the camera that goes along: RGB, `height` × `width` × 3 bytes, row 0 on top. The first one
    /// opens a renderer, on this thread; so does another size.
    ///
    /// # Errors
    /// [`SimError::Config`] for a size that cannot be, else what the renderer says.
    pub fn picture(&mut self, width: u32, height: u32) -> Result<Vec<u8>, SimError> {
        let view = match self.view.take() {
            Some(view) if view.size() == [width, height] => view,
            _ => View::new(self.data.model(), [width, height])?,
        };
        self.view.insert(view).draw(self.data.qpos())
    }
}
