//! Which fault strikes which device, and when.

use std::time::Duration;

use hilt_protocol::noise::{Uniforms, mix};
use serde::{Deserialize, Serialize};

/// What goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FaultKind {
    /// Replies of a servo are lost. Magnitude: the share of replies, 1 where none is given.
    ServoSilent,
    /// Several bytes of a reply are wrong, the header, id, length and checksum among them.
    /// Magnitude: the share of replies, 1 where none is given.
    ReplyCorrupted,
    /// Replies, good otherwise, carry another id. Magnitude: the share of replies, 1 where none is
    /// given.
    WrongId,
    /// Replies, good otherwise, report an error of the servo. Magnitude: the share of replies, 1
    /// where none is given.
    ErrorByte,
    /// The bus's adapter is gone.
    BusUnplugged,
    /// The camera gives the same old frame again and again, with its old time of capture.
    CameraFrozen,
    /// The camera's frames are old. Magnitude: their age, seconds; 0.3 where none is given.
    CameraLate,
    /// The camera gives nothing.
    CameraGone,
    /// What the person holds is gone.
    TeleopGone,
    /// The policy answers NaN.
    PolicyNan,
    /// The policy answers late. Magnitude: by how much, seconds; 0.5 where none is given.
    PolicyLate,
    /// The policy's answer is out of bounds. Magnitude: its absolute value; 10 where none is given.
    PolicyOutOfBounds,
    /// The learner cannot be reached.
    LearnerGone,
    /// The disk is full.
    DiskFull,
    /// The clock jumps. Magnitude: by how much, seconds, also backwards; 1 where none is given.
    ClockJump,
}

impl FaultKind {
    /// Every kind.
    pub const ALL: [Self; 15] = [
        Self::ServoSilent,
        Self::ReplyCorrupted,
        Self::WrongId,
        Self::ErrorByte,
        Self::BusUnplugged,
        Self::CameraFrozen,
        Self::CameraLate,
        Self::CameraGone,
        Self::TeleopGone,
        Self::PolicyNan,
        Self::PolicyLate,
        Self::PolicyOutOfBounds,
        Self::LearnerGone,
        Self::DiskFull,
        Self::ClockJump,
    ];

    /// The magnitude where the plan gives none.
    pub fn default_magnitude(self) -> f64 {
        match self {
            Self::CameraLate => 0.3,
            Self::PolicyLate => 0.5,
            Self::PolicyOutOfBounds => 10.0,
            _ => 1.0,
        }
    }

    /// What [`FaultSpec::index`] counts.
    fn device(self) -> Device {
        match self {
            Self::ServoSilent
            | Self::ReplyCorrupted
            | Self::WrongId
            | Self::ErrorByte
            | Self::BusUnplugged => Device::Arm,
            Self::CameraFrozen | Self::CameraLate | Self::CameraGone => Device::Camera,
            _ => Device::Rig,
        }
    }

    /// Whether it is a fault of an arm's wire.
    pub fn strikes_a_wire(self) -> bool {
        self.device() == Device::Arm
    }

    /// Whether it may strike some replies and others not.
    fn takes_a_share(self) -> bool {
        self.device() == Device::Arm && self != Self::BusUnplugged
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Device {
    Arm,
    Camera,
    /// There is one of it in a rig.
    Rig,
}

/// One fault.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FaultSpec {
    /// What goes wrong.
    pub kind: FaultKind,
    /// When it begins, seconds after the plan's origin.
    pub from_s: f64,
    /// How long it lasts, seconds; `inf`: to the end.
    pub for_s: f64,
    /// The arm or the camera, counted from 0 as in the rig's file.
    #[serde(default)]
    pub index: usize,
    /// The id of the servo; all of the arm's where none is given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub servo: Option<u8>,
    /// How bad it is, in the unit that the kind says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub magnitude: Option<f64>,
}

/// The faults of a run: a rig's `[faults]` table.
///
/// ```
/// # fn main() -> Result<(), toml::de::Error> {
/// use hilt_drivers::faults::{FaultKind, FaultPlan};
///
/// let plan: FaultPlan = toml::from_str(
///     r#"
///     seed = 7
///     faults = [
///         { kind = "servo-silent", from_s = 2.0, for_s = 0.5, servo = 3 },
///         { kind = "camera-late", from_s = 4.0, for_s = 1.0, index = 1, magnitude = 0.2 },
///     ]
///     "#,
/// )?;
/// let fault = plan.active(FaultKind::CameraLate, 1, 4_500_000_000);
/// assert_eq!(fault.map(|f| f.magnitude), Some(0.2));
/// assert!(plan.active(FaultKind::CameraLate, 0, 4_500_000_000).is_none());
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FaultPlan {
    /// What the faults' random numbers are drawn from.
    #[serde(default)]
    pub seed: u64,
    /// The faults, in any order. They may overlap.
    #[serde(default)]
    pub faults: Vec<FaultSpec>,
}

/// A fault that is on.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Fault {
    /// The id of the servo; `None`: all of the arm's.
    pub servo: Option<u8>,
    /// How bad it is, in the unit that the kind says.
    pub magnitude: f64,
}

impl Fault {
    /// Whether it strikes this servo.
    pub fn concerns(&self, servo: u8) -> bool {
        self.servo.is_none_or(|id| id == servo)
    }
}

/// A value in a plan that cannot be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {problem}")]
pub struct PlanError {
    /// The field, with its place in the plan.
    pub field: String,
    /// What it is and what would be right.
    pub problem: String,
}

impl FaultPlan {
    /// Whether the plan makes sense for a rig of so many arms and cameras.
    pub fn check(&self, arms: usize, cameras: usize) -> Result<(), PlanError> {
        for (i, fault) in self.faults.iter().enumerate() {
            fault
                .check(arms, cameras)
                .map_err(|(field, problem)| PlanError {
                    field: format!("faults[{i}].{field}"),
                    problem,
                })?;
        }
        Ok(())
    }

    /// The fault of this kind that is on at device `index` at `since_start_ns`, nanoseconds after
    /// the plan's origin; the first in the plan where there are more. Pure, and made for the
    /// control path: it does not allocate.
    pub fn active(&self, kind: FaultKind, index: usize, since_start_ns: u64) -> Option<Fault> {
        self.all_active(kind, index, since_start_ns).next()
    }

    /// As [`FaultPlan::active`], every one of them.
    pub fn all_active(
        &self,
        kind: FaultKind,
        index: usize,
        since_start_ns: u64,
    ) -> impl Iterator<Item = Fault> {
        let here = move |fault: &&FaultSpec| {
            fault.kind == kind && fault.index == index && fault.is_on(since_start_ns)
        };
        self.faults.iter().filter(here).map(FaultSpec::fault)
    }

    /// Whether the plan has a fault of this kind for device `index`, and its greatest magnitude.
    pub fn worst(&self, kind: FaultKind, index: usize) -> Option<f64> {
        let faults = self.faults.iter();
        let here = faults.filter(|fault| fault.kind == kind && fault.index == index);
        here.map(|fault| fault.fault().magnitude)
            .reduce(|a, b| if b.abs() > a.abs() { b } else { a })
    }

    /// A plan for a soak run of that length on a rig of so many arms and cameras: one fault after
    /// another with a pause between them, every kind that the rig can have before one comes again.
    /// Servos are drawn from 1 to 6, the ids of a five-axis arm and its gripper.
    pub fn random(seed: u64, duration: Duration, arms: usize, cameras: usize) -> Self {
        let mut random = Uniforms::new(mix(seed ^ 0x6661_756c));
        let end_s = duration.as_secs_f64();
        let mut plan = Self {
            seed,
            faults: Vec::new(),
        };
        let mut kinds = Vec::new();
        let mut from_s = random.range(1.0, 3.0);
        loop {
            if kinds.is_empty() {
                kinds.extend(FaultKind::ALL);
                kinds.retain(|kind| devices(*kind, arms, cameras) > 0);
            }
            let kind = kinds.swap_remove(random.below(kinds.len() as u64) as usize);
            let for_s = random.range(0.05, 1.0);
            if from_s + for_s >= end_s {
                return plan;
            }
            let shares = kind.takes_a_share();
            plan.faults.push(FaultSpec {
                kind,
                from_s,
                for_s,
                index: random.below(devices(kind, arms, cameras) as u64) as usize,
                servo: (shares && random.below(4) > 0).then(|| 1 + random.below(6) as u8),
                magnitude: (shares && random.below(2) > 0).then(|| random.range(0.05, 1.0)),
            });
            from_s += for_s + random.range(0.5, 3.0);
        }
    }
}

/// How many devices of a rig can have this fault.
fn devices(kind: FaultKind, arms: usize, cameras: usize) -> usize {
    match kind.device() {
        Device::Arm => arms,
        Device::Camera => cameras,
        Device::Rig => 1,
    }
}

impl FaultSpec {
    fn is_on(&self, since_start_ns: u64) -> bool {
        let at_s = since_start_ns as f64 * 1e-9;
        at_s >= self.from_s && at_s < self.from_s + self.for_s
    }

    fn fault(&self) -> Fault {
        let default = || self.kind.default_magnitude();
        Fault {
            servo: self.servo,
            magnitude: self.magnitude.unwrap_or_else(default),
        }
    }

    fn check(&self, arms: usize, cameras: usize) -> Result<(), (&'static str, String)> {
        if !(self.from_s >= 0.0 && self.from_s.is_finite()) {
            let problem = format!("{} s; a fault begins at 0 s or later", self.from_s);
            return Err(("from_s", problem));
        }
        if self.for_s.is_nan() || self.for_s <= 0.0 {
            return Err(("for_s", format!("{} s; a fault lasts", self.for_s)));
        }
        let devices = devices(self.kind, arms, cameras);
        if self.index >= devices {
            let problem = format!("{}; the rig has {devices}, counted from 0", self.index);
            return Err(("index", problem));
        }
        if let Some(id) = self.servo
            && !self.kind.takes_a_share()
        {
            let problem = format!("{id}; only faults of a servo's replies take one, leave it out");
            return Err(("servo", problem));
        }
        let Some(magnitude) = self.magnitude else {
            return Ok(());
        };
        let (fits, bounds) = if self.kind.takes_a_share() {
            (magnitude > 0.0 && magnitude <= 1.0, "a share in (0, 1]")
        } else if self.kind == FaultKind::ClockJump {
            (magnitude.is_finite(), "a number of seconds")
        } else {
            let fits = magnitude > 0.0 && magnitude.is_finite();
            (fits, "greater than 0")
        };
        if fits {
            Ok(())
        } else {
            Err(("magnitude", format!("{magnitude}; it is {bounds}")))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND_NS: u64 = 1_000_000_000;

    fn spec(kind: FaultKind) -> FaultSpec {
        FaultSpec {
            kind,
            from_s: 2.0,
            for_s: 0.5,
            index: 0,
            servo: None,
            magnitude: None,
        }
    }

    #[test]
    fn a_fault_is_on_from_its_begin_until_before_its_end_at_its_device_alone() {
        let fault = FaultSpec {
            index: 1,
            ..spec(FaultKind::BusUnplugged)
        };
        let plan = FaultPlan {
            seed: 0,
            faults: vec![fault],
        };
        let on = |kind, index, at_ns| plan.active(kind, index, at_ns).is_some();
        let kind = FaultKind::BusUnplugged;
        assert!(!on(kind, 1, 2 * SECOND_NS - 1));
        assert!(on(kind, 1, 2 * SECOND_NS));
        assert!(on(kind, 1, 2_499_999_999));
        assert!(!on(kind, 1, 2_500_000_000));
        assert!(!on(kind, 0, 2 * SECOND_NS));
        assert!(!on(FaultKind::CameraGone, 1, 2 * SECOND_NS));
    }

    #[test]
    fn faults_of_one_kind_overlap() {
        let of = |servo| FaultSpec {
            servo: Some(servo),
            ..spec(FaultKind::ServoSilent)
        };
        let plan = FaultPlan {
            seed: 0,
            faults: vec![of(2), of(5)],
        };
        let struck = |id| {
            plan.all_active(FaultKind::ServoSilent, 0, 2 * SECOND_NS)
                .any(|fault| fault.concerns(id))
        };
        assert_eq!([1, 2, 5].map(struck), [false, true, true]);
    }

    #[test]
    fn a_rigs_file_and_a_plan_say_the_same() {
        let plan = FaultPlan::random(3, Duration::from_secs(60), 2, 2);
        let text = toml::to_string(&plan).unwrap();
        assert_eq!(toml::from_str::<FaultPlan>(&text).unwrap(), plan);
        assert!(toml::from_str::<FaultPlan>("sed = 1").is_err());
        assert!(toml::from_str::<FaultPlan>("faults = [{ kind = \"quake\" }]").is_err());
    }

    #[test]
    fn values_that_cannot_be_are_named() {
        let field = |fault| {
            let faults = vec![spec(FaultKind::CameraGone), fault];
            let plan = FaultPlan { seed: 0, faults };
            plan.check(1, 2).map_err(|e| e.field)
        };
        let named = |name: &str| Err(format!("faults[1].{name}"));
        let silent = spec(FaultKind::ServoSilent);
        assert_eq!(field(silent), Ok(()));
        let bad = |change: fn(&mut FaultSpec)| {
            let mut fault = silent;
            change(&mut fault);
            field(fault)
        };
        assert_eq!(bad(|f| f.from_s = -1.0), named("from_s"));
        assert_eq!(bad(|f| f.from_s = f64::NAN), named("from_s"));
        assert_eq!(bad(|f| f.for_s = 0.0), named("for_s"));
        assert_eq!(bad(|f| f.for_s = f64::INFINITY), Ok(()));
        assert_eq!(bad(|f| f.index = 1), named("index"));
        assert_eq!(bad(|f| f.magnitude = Some(1.5)), named("magnitude"));
        let gone = FaultSpec {
            servo: Some(1),
            ..spec(FaultKind::TeleopGone)
        };
        assert_eq!(field(gone), named("servo"));
    }

    #[test]
    fn random_plans_are_sound_and_repeat_and_leave_no_kind_out() {
        let duration = Duration::from_secs(300);
        for (arms, cameras, kinds) in [(2, 2, 15), (1, 0, 12), (0, 0, 7)] {
            let plan = FaultPlan::random(11, duration, arms, cameras);
            assert_eq!(plan, FaultPlan::random(11, duration, arms, cameras));
            assert_ne!(plan, FaultPlan::random(12, duration, arms, cameras));
            assert_eq!(plan.check(arms, cameras), Ok(()));
            let seen: std::collections::HashSet<_> = plan.faults.iter().map(|f| f.kind).collect();
            assert_eq!(seen.len(), kinds);
            let last = plan.faults.last().unwrap();
            assert!(last.from_s + last.for_s < 300.0);
        }
    }
}
