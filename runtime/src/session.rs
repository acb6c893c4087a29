//! Runs episodes: policy, takeovers, reward, and every step into a journal as it happens.

use hilt_drivers::{EpisodeStart, Intent, Teleop, TeleopError, TeleopEvent};
use hilt_protocol::{ActionSource, Image, Observation, Record, Step, noise::mix};
use hilt_sim::Truth;
use serde::Serialize;

use crate::{
    brain::{Brain, BrainError},
    cell::{Cell, CellError},
    control::{Fault, FaultKind},
    decision::{By, Choice},
    episode::{ClassifierRules, Ending, end_step},
    rig::EpisodeConfig,
    run_log::{Journal, JournalError},
    tick::Stage,
};

/// Why an episode broke off.
#[derive(Debug, thiserror::Error)]
pub enum SessionError {
    /// Devices.
    #[error(transparent)]
    Cell(#[from] CellError),
    /// Policy or classifier.
    #[error(transparent)]
    Brain(#[from] BrainError),
    /// Teleop device.
    #[error(transparent)]
    Teleop(#[from] TeleopError),
    /// The run's log.
    #[error(transparent)]
    Journal(#[from] JournalError),
}

impl SessionError {
    /// Whether the next episode may go well: an input was not fit, and the arms are held until it
    /// is.
    pub fn is_passing(&self) -> bool {
        use crate::safety::ActionRefused::NotFinite;
        matches!(
            self,
            Self::Cell(CellError::Held(_) | CellError::Camera(_) | CellError::Action(NotFinite(_)))
        )
    }

    /// What it is for the arms: who commands them cannot go on.
    fn fault(&self) -> Option<Fault> {
        let kind = match self {
            Self::Teleop(_) => FaultKind::TeleopGone,
            Self::Journal(_) => FaultKind::LogFailed,
            Self::Brain(_) => FaultKind::PolicySilent,
            // The cell knows by itself.
            Self::Cell(_) => return None,
        };
        Some(Fault::at(kind, 0))
    }
}

/// Refuses what a person's device says when it is too old: their hand may be elsewhere by now.
pub(crate) fn fresh(intent: &Intent, now_ns: u64, oldest_ns: u64) -> Result<(), TeleopError> {
    let age_ns = now_ns.saturating_sub(intent.captured_ns);
    if age_ns > oldest_ns {
        let ms = age_ns / 1_000_000;
        let words = format!("what it says is {ms} ms old; the device or its thread hangs");
        return Err(TeleopError(words));
    }
    Ok(())
}

/// Shows what is seen, and hands everything on.
pub struct Seen<'a> {
    /// Takes the records.
    pub journal: &'a mut dyn Journal,
    /// Sees the newest frames.
    pub see: &'a mut dyn FnMut(&[Image]),
    /// Hears what the policy's stages took.
    pub took: &'a mut dyn FnMut(Stage, u64),
}

impl Journal for Seen<'_> {
    fn append(&mut self, record: Record, truth: Option<Truth>) -> Result<(), JournalError> {
        let observation = match &record {
            Record::Reset(observation) => observation,
            Record::Step(step) => &step.next,
        };
        (self.see)(&observation.images);
        self.journal.append(record, truth)
    }

    fn took(&mut self, stage: Stage, duration_ns: u64) {
        (self.took)(stage, duration_ns);
    }
}

/// Whether to go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flow {
    /// With the next step.
    Go,
    /// With the next step, although this is wrong; it is told with the step's command.
    Despite(Fault),
    /// Not at all: the run is over.
    End,
}

/// Right and wrong of the classifier's verdicts on episodes against the truth. An episode that a
/// person's word ended has none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Confusion {
    /// Both say success.
    pub true_positives: u64,
    /// Only the classifier says success.
    pub false_positives: u64,
    /// Success was there, and the episode went on to its end.
    pub false_negatives: u64,
    /// Neither does.
    pub true_negatives: u64,
}

impl Confusion {
    /// One more episode.
    pub fn count(&mut self, judged: bool, truth: bool) {
        match (judged, truth) {
            (true, true) => self.true_positives += 1,
            (true, false) => self.false_positives += 1,
            (false, true) => self.false_negatives += 1,
            (false, false) => self.true_negatives += 1,
        }
    }

    /// Adds another count.
    pub fn add(&mut self, other: &Self) {
        self.true_positives += other.true_positives;
        self.false_positives += other.false_positives;
        self.false_negatives += other.false_negatives;
        self.true_negatives += other.true_negatives;
    }

    /// Share of the classifier's successes that are true; `None` when it said none.
    pub fn precision(&self) -> Option<f64> {
        ratio(
            self.true_positives,
            self.true_positives + self.false_positives,
        )
    }

    /// Share of true successes that the classifier saw; `None` when there were none.
    pub fn recall(&self) -> Option<f64> {
        ratio(
            self.true_positives,
            self.true_positives + self.false_negatives,
        )
    }
}

fn ratio(part: u64, whole: u64) -> Option<f64> {
    (whole > 0).then(|| part as f64 / whole as f64)
}

/// What became of an episode.
#[derive(Clone, Debug, Default)]
pub struct Outcome {
    /// Steps taken.
    pub steps: u32,
    /// Steps of a person or the operator.
    pub intervened: u32,
    /// How the last step ended; the default when the run ended first.
    pub ending: Ending,
    /// Success by the simulator's truth; `None` without one.
    pub truth: Option<bool>,
    /// The classifier said success.
    pub judged: bool,
    /// The classifier's verdict on the episode against the truth: 1 in one place, or nothing.
    pub confusion: Confusion,
    /// A person's wish beyond this episode.
    pub said: Option<TeleopEvent>,
    /// The run ended before the episode did.
    pub cut: bool,
}

/// Who acts when no person does.
pub enum Policy<'a> {
    /// The brain, with exploration noise.
    Brain(&'a mut dyn Brain),
    /// Nobody: the arm stays.
    Nobody,
}

/// What runs episodes.
pub struct Session<'a> {
    /// The devices.
    pub cell: &'a mut Cell,
    /// A person's device, or the scripted operator's.
    pub teleop: Option<&'a mut dyn Teleop>,
    /// When the classifier's word counts.
    pub rules: ClassifierRules,
    /// Length and penalties.
    pub episode: EpisodeConfig,
    /// Everything random is drawn from this.
    pub seed: u64,
    /// Steps taken in this run.
    pub steps: u64,
}

impl Session<'_> {
    /// Runs one episode. `go` is asked before each step. What goes wrong is told to whatever moves
    /// the arms, before it is told to the caller.
    pub fn run_episode(
        &mut self,
        policy: &mut Policy<'_>,
        start: EpisodeStart,
        journal: &mut dyn Journal,
        go: impl FnMut(&mut Policy<'_>, u64) -> Flow,
    ) -> Result<Outcome, SessionError> {
        let outcome = self.episode(policy, start, journal, go);
        if let Err(error) = &outcome
            && let Some(fault) = error.fault()
        {
            self.cell.fail(fault);
        }
        outcome
    }

    fn episode(
        &mut self,
        policy: &mut Policy<'_>,
        start: EpisodeStart,
        journal: &mut dyn Journal,
        mut go: impl FnMut(&mut Policy<'_>, u64) -> Flow,
    ) -> Result<Outcome, SessionError> {
        let mut observation = self.cell.reset(start)?;
        if let Some(teleop) = &mut self.teleop {
            teleop.begin_episode(start.seed);
        }
        journal.append(Record::Reset(observation.clone()), self.cell.truth())?;
        let mut outcome = Outcome::default();
        let mut lifted = false;
        loop {
            match go(policy, self.steps) {
                Flow::Go => {}
                Flow::Despite(fault) => self.cell.note(fault),
                Flow::End => {
                    outcome.cut = true;
                    return Ok(outcome);
                }
            }
            let noise_seed = mix(self.seed ^ mix(self.steps + 1));
            let choice = self.choose(policy, &observation, noise_seed)?;
            let source = choice.source;
            let executed = self.cell.execute(choice)?;
            self.steps += 1;
            outcome.steps += 1;
            outcome.intervened += u32::from(source.is_intervention());
            let truth = self.cell.truth();
            let probability = match policy {
                Policy::Brain(brain) => brain.judge(&executed.next)?,
                Policy::Nobody => None,
            };
            let judged = self.rules.success(probability, &executed.facts);
            lifted |= truth.is_some_and(|truth| truth.lifted);
            outcome.judged |= judged;
            let said = self.listen()?;
            let ending = self.end(&outcome, judged, said);
            outcome.truth = truth.map(|truth| truth.lifted);
            outcome.said = said;
            let version = match policy {
                Policy::Brain(brain) => brain.version(),
                Policy::Nobody => 0,
            };
            let step = Step {
                action: executed.action,
                source,
                reward: ending.reward,
                grasp_penalty: self.episode.gripper_penalty * executed.toggles as f32,
                terminated: ending.terminated,
                truncated: ending.truncated,
                label: ending.label,
                policy_version: version,
                noise_seed,
                next: executed.next,
            };
            observation = step.next.clone();
            journal.append(Record::Step(step), truth)?;
            let inference = match policy {
                Policy::Brain(brain) => brain.stages(),
                Policy::Nobody => Vec::new(),
            };
            for (stage, duration_ns) in executed.stages.into_iter().chain(inference) {
                journal.took(stage, duration_ns);
            }
            if ending.over() {
                outcome.ending = ending;
                if let (Some(truth), Some(_)) = (truth, probability)
                    && (judged || said.is_none())
                {
                    outcome
                        .confusion
                        .count(judged, if judged { truth.lifted } else { lifted });
                }
                return Ok(outcome);
            }
        }
    }

    fn choose(
        &mut self,
        policy: &mut Policy<'_>,
        observation: &Observation,
        noise_seed: u64,
    ) -> Result<Choice, SessionError> {
        let (by, source) = self.choose_who(policy, observation, noise_seed)?;
        let policy_version = match policy {
            Policy::Brain(brain) => brain.version(),
            Policy::Nobody => 0,
        };
        Ok(Choice {
            by,
            source,
            noise_seed,
            policy_version,
        })
    }

    fn choose_who(
        &mut self,
        policy: &mut Policy<'_>,
        observation: &Observation,
        noise_seed: u64,
    ) -> Result<(By, ActionSource), SessionError> {
        let now_ns = self.cell.now_ns();
        if let Some(teleop) = &mut self.teleop
            && let Some(intent) = teleop.intent(now_ns)?
        {
            fresh(&intent, now_ns, self.cell.oldest_intent_ns())?;
            return Ok((By::Intent(intent), teleop.source()));
        }
        if self.steps < self.episode.random_steps {
            return Ok((By::Random, ActionSource::Random));
        }
        match policy {
            Policy::Brain(brain) => Ok((
                By::Policy(brain.act(observation, noise_seed, true)?),
                ActionSource::Policy,
            )),
            Policy::Nobody => {
                let source = self
                    .teleop
                    .as_ref()
                    .map_or(ActionSource::Random, |t| t.source());
                Ok((By::Nobody, source))
            }
        }
    }

    fn listen(&mut self) -> Result<Option<TeleopEvent>, TeleopError> {
        match &mut self.teleop {
            Some(teleop) => teleop.event(),
            None => Ok(None),
        }
    }

    fn end(&mut self, outcome: &Outcome, judged: bool, said: Option<TeleopEvent>) -> Ending {
        let (steps, max_steps) = (outcome.steps, self.episode.max_steps);
        let teleop = &mut self.teleop;
        end_step(steps, max_steps, judged, said, || {
            teleop.as_mut().and_then(|t| t.verdict())
        })
    }
}
