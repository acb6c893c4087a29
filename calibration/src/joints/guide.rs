//! What a person is asked for, step by step. Pure: keys and positions come in, what to do and to show goes
//! out.

use hilt_drivers::{
    ArmError,
    bus::{Keep, Kept, Turns, sts3215::radians_from_counts},
};
use hilt_protocol::calibration::Direction;

use super::{
    GRIPPER, Plan, PlannedGripper, PlannedJoint, Subject,
    hint::{pose, positive},
    place::{Measured, Place, place},
    range::{RangeProblem, counts_of, range, sign},
    recorder::{Recorder, TURN, wrapped},
};

/// A joint was turned to show its direction when it moved so far, counts: 7°.
const TURNED: i32 = 80;

/// Least between open and closed, counts.
const LEAST_GRIP: i32 = 100;

/// What happens to a guide.
#[derive(Debug)]
pub enum Event<'a> {
    /// Where the servos report to be, counts, in the order of [`Subject::ids`].
    Positions {
        /// When, nanoseconds on any clock that goes on.
        now_ns: u64,
        /// What each said.
        reported: &'a [Result<i32, ArmError>],
    },
    /// The person has done what they were asked.
    Next,
    /// The person wants to do it again.
    Again,
    /// The servos are limp.
    LetGo,
}

/// What has to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Do {
    /// Nothing.
    Nothing,
    /// Make the servos limp, and say [`Event::LetGo`].
    LetGo,
    /// Write this to the servos; the guide has ended, but for [`Guide::not_written`].
    Write(Plan),
}

/// What a person sees.
#[derive(Clone, Debug, PartialEq)]
pub struct View {
    /// Number of the step, from 1, and of how many.
    pub step: (usize, usize),
    /// What to do.
    pub ask: Vec<String>,
    /// What is wrong.
    pub wrong: Vec<String>,
    /// The joints, base to tip, then the gripper.
    pub bars: Vec<Bar>,
}

/// One joint as it is. Degrees, which go on beyond a turn: from its zero, once that is known; else from where
/// its sensor's turn begins.
#[derive(Clone, Debug, PartialEq)]
pub struct Bar {
    /// Its name.
    pub name: String,
    /// Where it is; `None`: not known (yet).
    pub now_deg: Option<f64>,
    /// The least and greatest that were recorded, in steps that record.
    pub range_deg: Option<(f64, f64)>,
    /// Its shape's least and greatest, where they can be compared.
    pub shape_deg: Option<(f64, f64)>,
    /// Whether it is as this step wants it; `None`: the step wants nothing of it.
    pub good: Option<bool>,
}

#[derive(Clone, Debug, PartialEq)]
enum Stage {
    /// The arm may be held by its servos.
    Hold,
    /// Everybody holds the reference pose.
    Reference,
    /// One joint is turned in its positive direction, from where all joints were.
    Direction {
        joint: usize,
        from: Vec<i32>,
    },
    Range,
    Closed,
    Open {
        closed: i32,
    },
    Review {
        plan: Plan,
        shifts_deg: Vec<f64>,
        /// It is being written.
        writes: bool,
    },
}

/// Steps that a person counts.
const STEPS: usize = 7;

/// Leads a person through the calibration of an arm's joints.
#[derive(Clone, Debug)]
pub struct Guide {
    subject: Subject,
    kept: Vec<Kept>,
    recorders: Vec<Recorder>,
    stage: Stage,
    /// Of each joint's sensor in the reference pose, counts.
    reference: Vec<i32>,
    directions: Vec<Direction>,
    /// What was wrong when the person last said that it was done.
    wrong: Vec<String>,
    /// Who does not answer now.
    silent: Vec<String>,
}

/// A servo that is not set up for an arm.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "servo {id} ({name}) does not go to positions, or counts turns; set it up alone on its bus: hilt setup-motors"
)]
pub struct NotSetUp {
    /// What it turns.
    pub name: String,
    /// Its id.
    pub id: u8,
}

impl Guide {
    /// For an arm whose servos keep this now, in the order of [`Subject::ids`].
    pub fn new(subject: Subject, kept: Vec<Kept>) -> Result<Self, NotSetUp> {
        let wrong = kept.iter().position(|kept| kept.turns.is_none());
        if let Some(place) = wrong {
            return Err(NotSetUp {
                name: subject.name(place).to_owned(),
                id: subject.ids().get(place).copied().unwrap_or(0),
            });
        }
        Ok(Self {
            recorders: vec![Recorder::default(); subject.ids().len()],
            subject,
            kept,
            stage: Stage::Hold,
            reference: Vec::new(),
            directions: Vec::new(),
            wrong: Vec::new(),
            silent: Vec::new(),
        })
    }

    /// Whether the servos were let go.
    pub fn is_limp(&self) -> bool {
        self.stage != Stage::Hold
    }

    /// Something happened; what to do about it.
    pub fn on(&mut self, event: Event<'_>) -> Do {
        match event {
            Event::Positions { now_ns, reported } => self.follow(now_ns, reported),
            Event::LetGo if self.stage == Stage::Hold => self.begin(),
            Event::LetGo => {}
            Event::Again => self.again(),
            Event::Next => return self.next(),
        }
        Do::Nothing
    }

    /// The plan was not written, or in part, and this is what the servos keep now: the person may have it
    /// written again, or measure again.
    pub fn not_written(&mut self, kept: Vec<Kept>, why: String) {
        self.kept = kept;
        self.wrong = vec![why];
        if let Stage::Review { writes, .. } = &mut self.stage {
            *writes = false;
        }
    }

    fn follow(&mut self, now_ns: u64, reported: &[Result<i32, ArmError>]) {
        self.silent.clear();
        let servos = self.recorders.iter_mut().zip(&self.kept).zip(reported);
        let mut lost = Vec::new();
        for (place, ((recorder, kept), reported)) in servos.enumerate() {
            match reported {
                Ok(counts) => recorder.push(now_ns, kept.sensor_counts(*counts)),
                Err(error) => {
                    recorder.silence(now_ns);
                    let name = self.subject.name(place);
                    self.silent.push(format!("{name}: {error}"));
                }
            }
            let name = self.subject.name(place);
            lost.extend(recorder.lost().map(|lost| format!("{name} {lost}")));
        }
        if lost.is_empty() {
            return;
        }
        let anew = match self.stage {
            Stage::Hold | Stage::Reference => false,
            // All is measured.
            Stage::Review { .. } => false,
            _ => true,
        };
        self.recorders.fill(Recorder::default());
        if anew {
            self.begin();
            self.wrong = lost;
            let words = "so where the joints are is not known any more: begin again here";
            self.wrong.push(words.to_owned());
        }
    }

    fn begin(&mut self) {
        self.stage = Stage::Reference;
        self.wrong.clear();
        self.directions.clear();
        self.recorders.iter_mut().for_each(Recorder::again);
    }

    fn again(&mut self) {
        self.wrong.clear();
        match &self.stage {
            Stage::Hold | Stage::Reference => {}
            Stage::Direction { joint: 0, .. } | Stage::Review { .. } => self.begin(),
            Stage::Direction { joint, .. } => self.ask_direction(joint - 1),
            Stage::Range => self.recorders.iter_mut().for_each(Recorder::again),
            Stage::Closed | Stage::Open { .. } => self.stage = Stage::Closed,
        }
    }

    fn next(&mut self) -> Do {
        self.wrong.clear();
        match &self.stage {
            Stage::Hold => return Do::LetGo,
            Stage::Reference => self.end_reference(),
            Stage::Direction { joint, from } => self.end_direction(*joint, &from.clone()),
            Stage::Range => self.end_range(),
            Stage::Closed => {
                if let Some(closed) = self.gripper_stands() {
                    self.stage = Stage::Open { closed };
                }
            }
            Stage::Open { closed } => self.end_open(*closed),
            Stage::Review {
                plan, shifts_deg, ..
            } => {
                let (plan, shifts_deg) = (plan.clone(), shifts_deg.clone());
                self.stage = Stage::Review {
                    plan: plan.clone(),
                    shifts_deg,
                    writes: true,
                };
                return Do::Write(plan);
            }
        }
        Do::Nothing
    }

    fn joints(&self) -> usize {
        self.subject.names().len()
    }

    /// Where all stand; what moves is named.
    fn all_stand(&mut self) -> Option<Vec<i32>> {
        let joints = self.recorders.iter().take(self.joints());
        let stands: Vec<_> = joints.map(Recorder::still).collect();
        for (place, still) in stands.iter().enumerate() {
            if still.is_none() {
                let name = self.subject.name(place);
                self.wrong
                    .push(format!("{name} still moves: hold the arm still"));
            }
        }
        stands.into_iter().collect()
    }

    fn end_reference(&mut self) {
        let Some(reference) = self.all_stand() else {
            return;
        };
        self.reference = reference;
        self.recorders.iter_mut().for_each(Recorder::again);
        self.ask_direction(0);
    }

    fn ask_direction(&mut self, joint: usize) {
        self.directions.truncate(joint);
        let from = self.recorders.iter().map(|r| r.now().unwrap_or(0));
        let from = from.collect();
        self.stage = match joint < self.joints() {
            true => Stage::Direction { joint, from },
            false => Stage::Range,
        };
    }

    fn end_direction(&mut self, joint: usize, from: &[i32]) {
        let moved = |place: usize| {
            let now = self.recorders.get(place).and_then(Recorder::now);
            now.unwrap_or(0) - from.get(place).copied().unwrap_or(0)
        };
        let turned = moved(joint);
        let most = (0..self.joints()).max_by_key(|place| moved(*place).abs());
        let name = self.subject.name(joint);
        if turned.abs() < TURNED {
            let words = format!(
                "{name} was turned by {:.0}°: turn it farther",
                degrees(turned).abs()
            );
            self.wrong.push(words);
            return;
        }
        if let Some(other) = most.filter(|other| moved(*other).abs() > turned.abs()) {
            let other = self.subject.name(other);
            let words =
                format!("{other} was turned more than {name}: hold the others still (r: again)");
            self.wrong.push(words);
            return;
        }
        self.directions.push(match turned > 0 {
            true => Direction::Along,
            false => Direction::Against,
        });
        self.ask_direction(joint + 1);
    }

    /// What was measured of a joint so far.
    fn measured(&self, joint: usize) -> Option<Result<(Measured, f64), RangeProblem>> {
        let direction = *self.directions.get(joint)?;
        let reference = (
            *self.subject.reference_rad.get(joint)?,
            *self.reference.get(joint)?,
        );
        let shape = self.subject.chain.joints().get(joint)?;
        Some(range(
            shape,
            direction,
            reference,
            self.recorders.get(joint)?,
        ))
    }

    fn end_range(&mut self) {
        for joint in 0..self.joints() {
            if let Some(Err(problem)) = self.measured(joint) {
                let name = self.subject.name(joint);
                self.wrong.push(format!("{name} {problem}"));
            }
        }
        if self.wrong.is_empty() {
            self.stage = Stage::Closed;
        }
    }

    fn gripper_stands(&mut self) -> Option<i32> {
        let still = self.recorders.last().and_then(Recorder::still);
        if still.is_none() {
            self.wrong
                .push("the gripper still moves: hold it still".to_owned());
        }
        still
    }

    fn end_open(&mut self, closed: i32) {
        let Some(open) = self.gripper_stands() else {
            return;
        };
        if (open - closed).abs() < LEAST_GRIP {
            let moved = degrees(open - closed).abs();
            self.wrong.push(format!(
                "the gripper was opened by {moved:.0}°: open it all the way (r: begin with closed again)"
            ));
            return;
        }
        match self.plan(closed, open) {
            Ok((plan, shifts_deg)) => {
                self.stage = Stage::Review {
                    plan,
                    shifts_deg,
                    writes: false,
                }
            }
            Err(words) => self.wrong.push(words),
        }
    }

    fn plan(&self, closed: i32, open: i32) -> Result<(Plan, Vec<f64>), String> {
        let mut joints = Vec::new();
        let mut shifts_deg = Vec::new();
        for (joint, name) in self.subject.names().iter().enumerate() {
            let missing = || format!("{name} was not measured (r: again)");
            let measured = self.measured(joint).ok_or_else(missing)?;
            let (measured, shift) = measured.map_err(|problem| format!("{name} {problem}"))?;
            let direction = *self.directions.get(joint).ok_or_else(missing)?;
            let shape = self.subject.chain.joints().get(joint).ok_or_else(missing)?;
            let (a, b) = counts_of(shape, direction);
            let placed = place(self.subject.family, measured, (a.min(b), a.max(b)), false);
            let Place { zero_counts, keep } = placed.ok_or_else(|| no_place(name))?;
            shifts_deg.push(shift.to_degrees());
            joints.push(PlannedJoint {
                name: name.clone(),
                id: *self.subject.ids().get(joint).ok_or_else(missing)?,
                zero_counts,
                direction,
                keep,
            });
        }
        let recorder = self.recorders.last();
        let (least, greatest) = recorder.map_or((closed, open), Recorder::range);
        let measured = Measured {
            zero: closed,
            least: least.min(closed).min(open),
            greatest: greatest.max(closed).max(open),
        };
        let turns = self.kept.last().and_then(|kept| kept.turns);
        let counts_turns = turns == Some(Turns::Many);
        let placed = place(self.subject.family, measured, (0, 0), counts_turns);
        let Place { zero_counts, keep } = placed.ok_or_else(|| no_place(GRIPPER))?;
        let gripper = PlannedGripper {
            id: self.subject.gripper_id(),
            closed_counts: zero_counts,
            open_counts: (i32::from(zero_counts) + open - closed).clamp(0, TURN - 1) as u16,
            keep,
        };
        let family = self.subject.family;
        let plan = Plan {
            family,
            joints,
            gripper,
        };
        Ok((plan, shifts_deg))
    }

    /// What the person shall see now.
    pub fn view(&self) -> View {
        let mut wrong = self.wrong.clone();
        wrong.extend(self.silent.iter().cloned());
        View {
            step: (self.step(), STEPS),
            ask: self.ask(),
            wrong,
            bars: (0..self.recorders.len())
                .map(|place| self.bar(place))
                .collect(),
        }
    }

    fn step(&self) -> usize {
        match self.stage {
            Stage::Hold => 1,
            Stage::Reference => 2,
            Stage::Direction { .. } => 3,
            Stage::Range => 4,
            Stage::Closed => 5,
            Stage::Open { .. } => 6,
            Stage::Review { .. } => STEPS,
        }
    }

    fn ask(&self) -> Vec<String> {
        let words = |words: &[&str]| words.iter().map(|words| (*words).to_owned()).collect();
        match &self.stage {
            Stage::Hold => words(&[
                "Hold the arm with your hand. When you go on, its servos become limp and it falls.",
                "It stays limp until a program starts it again, also when you quit here.",
            ]),
            Stage::Reference => {
                let angles = self.subject.names().iter().zip(&self.subject.reference_rad);
                let angles: Vec<_> = angles
                    .map(|(name, angle)| format!("{name} {:.0}°", angle.to_degrees()))
                    .collect();
                let (chain, names) = (&self.subject.chain, self.subject.names());
                let pose = pose(chain, names, &self.subject.reference_rad).into_iter();
                [
                    "Bring the arm to the reference pose and hold it still:".to_owned(),
                    angles.join(", ") + "; seen from behind it, between the axes:",
                ]
                .into_iter()
                .chain(pose.map(|line| format!("  {line}")))
                .chain([
                    "All later angles count from this pose: take care, a ruler or a square helps."
                        .to_owned(),
                ])
                .collect()
            }
            Stage::Direction { joint, .. } => {
                let name = self.subject.name(*joint);
                let at = &self.subject.reference_rad;
                vec![
                    format!("Turn {name}, and no other joint, so that"),
                    format!("{}.", positive(&self.subject.chain, at, *joint)),
                    "10° are enough. (Words are for somebody who stands behind the arm that stands in the \
                     reference pose.)"
                        .to_owned(),
                ]
            }
            Stage::Range => words(&[
                "Move every joint from one stop to the other, slowly, one after the other.",
                "Stay at each stop for a moment. Joints without stops: as far as the cables like.",
            ]),
            Stage::Closed => words(&["Close the gripper all the way and hold it."]),
            Stage::Open { .. } => words(&["Open the gripper all the way and hold it."]),
            Stage::Review { writes: true, .. } => {
                words(&["The servos are written to. Keep the power on."])
            }
            Stage::Review {
                plan, shifts_deg, ..
            } => review(plan, shifts_deg),
        }
    }

    fn bar(&self, place: usize) -> Bar {
        let recorder = &self.recorders[place];
        let joint = self.subject.chain.joints().get(place);
        let direction = self.directions.get(place).copied().unwrap_or_default();
        let reference = (place < self.joints() && self.has_reference())
            .then(|| self.reference.get(place))
            .flatten();
        let angle = |counts: i32| match reference {
            Some(reference) => {
                let from = self.subject.reference_rad.get(place).unwrap_or(&0.0);
                from.to_degrees() + sign(direction) * degrees(counts - reference)
            }
            // In the turn in which the least is, so that they compare.
            None => degrees(wrapped(recorder.range().0) + counts - recorder.range().0),
        };
        let records = match self.stage {
            Stage::Range => joint.is_some(),
            Stage::Closed | Stage::Open { .. } => joint.is_none(),
            _ => false,
        };
        let range = recorder.range();
        let (a, b) = (angle(range.0), angle(range.1));
        Bar {
            name: self.subject.name(place).to_owned(),
            now_deg: recorder.now().map(angle),
            range_deg: (records && recorder.now().is_some()).then_some((a.min(b), a.max(b))),
            shape_deg: joint
                .filter(|_| self.stage == Stage::Range)
                .map(|joint| (joint.lower.to_degrees(), joint.upper.to_degrees())),
            good: self.good(place),
        }
    }

    fn has_reference(&self) -> bool {
        !matches!(self.stage, Stage::Hold | Stage::Reference)
    }

    fn good(&self, place: usize) -> Option<bool> {
        let recorder = self.recorders.get(place)?;
        let is_joint = place < self.joints();
        match &self.stage {
            Stage::Reference => is_joint.then(|| recorder.still().is_some()),
            Stage::Direction { joint, from } => (*joint == place).then(|| {
                let moved = recorder.now().unwrap_or(0) - from.get(place).unwrap_or(&0);
                moved.abs() >= TURNED
            }),
            Stage::Range => is_joint.then(|| matches!(self.measured(place), Some(Ok(_)))),
            Stage::Closed => (!is_joint).then(|| recorder.still().is_some()),
            Stage::Open { closed } => (!is_joint).then(|| {
                let far = recorder.now().unwrap_or(*closed) - closed;
                far.abs() >= LEAST_GRIP && recorder.still().is_some()
            }),
            Stage::Hold | Stage::Review { .. } => None,
        }
    }
}

fn review(plan: &Plan, shifts_deg: &[f64]) -> Vec<String> {
    let mut lines = vec!["This is what was measured; go on to write it to the servos:".to_owned()];
    let limits = |keep: &Keep, zero: u16, direction: Direction| {
        let angle = |counts: u16| sign(direction) * degrees(i32::from(counts) - i32::from(zero));
        let (a, b) = (angle(keep.lowest_counts), angle(keep.highest_counts));
        (a.min(b), a.max(b))
    };
    for (joint, shift) in plan.joints.iter().zip(shifts_deg) {
        let (from, to) = limits(&joint.keep, joint.zero_counts, joint.direction);
        let direction = match joint.direction {
            Direction::Along => "along",
            Direction::Against => "against",
        };
        let turns = match joint.keep.turns {
            Turns::One => "",
            Turns::Many => ", its servo counts turns",
        };
        lines.push(format!(
            "  {}: {from:.1}° to {to:.1}°, {direction}; by its stops zero would be {shift:+.1}° off{turns}",
            joint.name
        ));
    }
    let (open, closed) = (plan.gripper.open_counts, plan.gripper.closed_counts);
    let opens = degrees(i32::from(open) - i32::from(closed)).abs();
    lines.push(format!("  {GRIPPER}: opens by {opens:.1}°"));
    lines
}

fn no_place(name: &str) -> String {
    format!(
        "{name} reaches over a whole turn of its servo, or lies a turn from its zero: it cannot go to positions there (r: again)"
    )
}

fn degrees(counts: i32) -> f64 {
    radians_from_counts(f64::from(counts)).to_degrees()
}
