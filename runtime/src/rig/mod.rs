//! A rig: one TOML file, one typed and checked result.
//!
//! A wrong type or an unknown field is named with file, line and field by
//! [`hilt_protocol::settings`]; a value that has the right type and cannot be is named likewise
//! here, or with the `--set` that gave it.

mod calibrated;
mod check;
mod real;
mod realtime;
mod shape;

use std::path::{Path, PathBuf};

use hilt_drivers::{faults::FaultPlan, hands::TeleopConfig};
use hilt_kinematics::Chain;
use hilt_protocol::{
    Axis, CameraSpec, GripperCommand, JointVector, MAX_ARMS, RigSpec, SetupMode,
    settings::{self, SettingsError},
};
use hilt_sim::{OperatorConfig, SceneConfig, TakeoverConfig};
use serde::{Deserialize, Serialize};

pub use calibrated::{RigCalibration, Take};
pub use real::{ArmSettings, CameraSettings, ServoArmSettings};
pub use realtime::{Ages, Realtime};
pub use shape::{Shape, ShapeError, UrdfShape};

use crate::{
    control::{ControlConfig, JointBounds},
    episode::{ClassifierRules, proprio_names},
    inference::Provider,
    safety::SafetyLimits,
};

/// What the rig is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Device {
    /// The MuJoCo lift scene, with a scripted operator.
    LiftSim,
    /// Arms that follow commands exactly, without physics or task.
    Fake,
    /// Arms of bus servos over the whole serial path; the buses are emulated. With a scene they drive
    /// its arm, without one there is no task. In real time only.
    Emulated,
    /// What is really there: the arms and cameras that the file names. In real time only.
    Real,
}

/// Whose time a run goes by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ClockKind {
    /// Lockstep: time passes when the next step is taken. Deadlines are not measured.
    Simulated,
    /// The machine's monotonic clock.
    Monotonic,
}

/// What actions may do.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Limits {
    /// Metres of a full translation column.
    pub step_m: f64,
    /// Radians of a full rotation column.
    #[serde(default = "default_step_rad")]
    pub step_rad: f64,
    /// The target stays so near the measured tool on each axis, metres.
    pub leash_m: f64,
    /// … and so near its orientation, radians.
    #[serde(default = "default_leash_rad")]
    pub leash_rad: f64,
    /// Lowest corner of the tool's workspace, metres in the arm's base frame.
    pub workspace_min_m: [f64; 3],
    /// Highest corner.
    pub workspace_max_m: [f64; 3],
    /// Fastest joint, rad/s.
    pub joint_velocity_rad_s: f64,
    /// Hardest joint, rad/s²; if not given, only the velocity is bounded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub joint_acceleration_rad_s2: Option<f64>,
    /// A joint that is farther from where it was sent, radians, does not follow: the arms are stopped.
    /// In real time only.
    #[serde(default = "default_following_rad")]
    pub following_rad: f64,
}

fn default_step_rad() -> f64 {
    0.1
}

/// A servo of 3 rad/s that lags by 150 ms.
fn default_following_rad() -> f64 {
    0.45
}

fn default_leash_rad() -> f64 {
    0.3
}

/// Episodes.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EpisodeConfig {
    /// Time is out after so many steps.
    pub max_steps: u32,
    /// Added to the grasp critic's reward when a command changes a gripper's state; 0 or less.
    #[serde(default)]
    pub gripper_penalty: f32,
    /// Steps of uniformly random action at the beginning of a training run.
    #[serde(default)]
    pub random_steps: u64,
    /// Demonstrations begin with the object in a square of this side, metres.
    #[serde(default)]
    pub demonstration_range_m: f64,
    /// All other episodes begin with the object in a square of this side, metres.
    #[serde(default)]
    pub range_m: f64,
}

/// The scripted operator of a simulated rig, which stands in for a person.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct OperatorSettings {
    /// Share of full speed, in (0, 1].
    pub speed: f64,
    /// Standard deviation of the noise on each motion column, in units of the action.
    pub noise_std: f64,
    /// It sees the scene as it was so many steps ago.
    pub reaction_steps: usize,
    /// The operator's trust in the policy grows over so many steps of training.
    pub training_steps: u64,
    /// When it takes over.
    pub takeover: TakeoverConfig,
}

impl Default for OperatorSettings {
    fn default() -> Self {
        let hand = OperatorConfig::default();
        Self {
            speed: hand.speed,
            noise_std: hand.noise_std,
            reaction_steps: hand.reaction_steps,
            training_steps: 9000,
            takeover: TakeoverConfig::default(),
        }
    }
}

impl OperatorSettings {
    /// The operator's hand.
    pub fn hand(&self) -> OperatorConfig {
        OperatorConfig {
            speed: self.speed,
            noise_std: self.noise_std,
            reaction_steps: self.reaction_steps,
        }
    }
}

/// One robot, as its file says.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rig {
    /// What it is called: its file's name.
    #[serde(skip)]
    pub name: String,
    /// The program whose `supervise` guards arms on a bus against this process's death: `hilt`. If
    /// not given, nobody does.
    #[serde(skip)]
    pub supervisor: Option<PathBuf>,
    /// Arms and grippers.
    pub mode: SetupMode,
    /// Axes that the policy moves, in the order of the action's columns.
    pub controlled_axes: Vec<Axis>,
    /// What it is made of.
    pub device: Device,
    /// Whose time it goes by.
    pub clock: ClockKind,
    /// Policy steps per second.
    pub policy_hz: u32,
    /// Control ticks per second; a multiple of `policy_hz`.
    pub control_hz: u32,
    /// Where the graphs run: tried in this order, which is TensorRT, CUDA, CPU if not given.
    #[serde(default = "default_providers")]
    pub providers: Vec<Provider>,
    /// ONNX Runtime's threads per graph.
    #[serde(default = "default_threads")]
    pub inference_threads: usize,
    /// Folder of an exported policy (`encoder.onnx`, `policy.onnx`), relative to the rig's file:
    /// what `hilt evaluate` takes when it is given no other.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<PathBuf>,
    /// What actions may do.
    pub limits: Limits,
    /// How old what is acted on may be; on the monotonic clock.
    #[serde(default)]
    pub ages: Ages,
    /// What the control thread asks of the system; on the monotonic clock.
    #[serde(default)]
    pub realtime: Realtime,
    /// Episodes.
    pub episode: EpisodeConfig,
    /// When the classifier's word counts as success.
    #[serde(default)]
    pub classifier: ClassifierRules,
    /// The scripted operator.
    #[serde(default)]
    pub operator: OperatorSettings,
    /// Serial devices of emulated arms whose buses somebody else emulates, in the order of the arms;
    /// if not given, this process does.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ports: Vec<PathBuf>,
    /// Arms that are really there, in the order of the action.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub arms: Vec<ArmSettings>,
    /// Where real arms begin an episode, radians, base to tip, the same for each; if not given, where
    /// they stand.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub home_rad: Vec<f64>,
    /// Cameras of a rig without a scene.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub cameras: Vec<CameraSettings>,
    /// What a person holds, beside the keyboard.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub teleop: Option<TeleopConfig>,
    /// Unpowered arms that a person leads, one for each arm; for `teleop.device = "leader"`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub leaders: Vec<ServoArmSettings>,
    /// The simulated scene with its cameras.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scene: Option<SceneConfig>,
    /// What was measured of it; nothing if not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub calibration: Option<RigCalibration>,
    /// The file where that is kept.
    #[serde(skip)]
    pub calibration_file: Option<PathBuf>,
    /// What breaks on purpose, for tests; times count from the begin of the run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub faults: Option<FaultPlan>,
}

fn default_providers() -> Vec<Provider> {
    vec![Provider::Tensorrt, Provider::Cuda, Provider::Cpu]
}

fn default_threads() -> usize {
    1
}

/// Why there is no rig.
#[derive(Debug, thiserror::Error)]
pub enum RigError {
    /// The file cannot be read.
    #[error("{path}: {source}; name a rig's file with --rig")]
    Read {
        /// The file.
        path: PathBuf,
        /// What the file system says.
        source: std::io::Error,
    },
    /// It has another form.
    #[error(transparent)]
    Form(#[from] SettingsError),
    /// A value cannot be.
    #[error("{place}: `{field}` {problem}")]
    Value {
        /// File and line, or the override that gave the value.
        place: String,
        /// The field, with its tables.
        field: String,
        /// What it is and what would be right.
        problem: String,
    },
}

/// A field and what is wrong with it.
type Problem = (String, String);

impl Rig {
    /// Reads a rig's file and applies `overrides` (`a.b=value`).
    pub fn read(path: &Path, overrides: &[String]) -> Result<Self, RigError> {
        Self::read_taking(path, overrides, Take::Whole)
    }

    /// The same, with a part of what was measured of it.
    pub fn read_taking(path: &Path, overrides: &[String], take: Take) -> Result<Self, RigError> {
        let text = std::fs::read_to_string(path).map_err(|source| RigError::Read {
            path: path.to_owned(),
            source,
        })?;
        let origin = path.display().to_string();
        let base = path.parent().unwrap_or_else(|| Path::new("."));
        Self::parse_taking(&origin, base, &text, overrides, take)
    }

    /// As [`Rig::read`], from the text of a file called `origin`, with paths relative to `base`.
    pub fn parse(
        origin: &str,
        base: &Path,
        text: &str,
        overrides: &[String],
    ) -> Result<Self, RigError> {
        Self::parse_taking(origin, base, text, overrides, Take::Whole)
    }

    fn parse_taking(
        origin: &str,
        base: &Path,
        text: &str,
        overrides: &[String],
        take: Take,
    ) -> Result<Self, RigError> {
        let mut rig: Self = settings::parse(origin, text, overrides)?;
        let name = Path::new(origin).file_stem().unwrap_or_default();
        rig.name = name.to_string_lossy().into_owned();
        rig.model = rig.model.map(|model| base.join(model));
        let read = rig
            .read_shapes(base)
            .and_then(|()| rig.read_calibration(base, take));
        match read.and_then(|()| rig.check()) {
            Ok(()) => Ok(rig),
            Err((field, problem)) => {
                let place = settings::place_of(origin, text, overrides, &field);
                Err(RigError::Value {
                    place,
                    field,
                    problem,
                })
            }
        }
    }

    /// The layout of actions and observations.
    pub fn spec(&self) -> RigSpec {
        let cameras = match &self.scene {
            Some(scene) => scene
                .cameras
                .iter()
                .map(|camera| CameraSpec {
                    name: camera.name.clone(),
                    height: camera.height,
                    width: camera.width,
                })
                .collect(),
            None => self.cameras.iter().map(CameraSettings::spec).collect(),
        };
        RigSpec {
            mode: self.mode,
            controlled_axes: self.controlled_axes.clone(),
            cameras,
            proprio: proprio_names(self.mode),
            policy_hz: self.policy_hz,
        }
    }

    /// Bounds for the safety filter.
    pub fn safety(&self) -> SafetyLimits {
        SafetyLimits {
            step_m: self.limits.step_m,
            step_rad: self.limits.step_rad,
            leash_m: self.limits.leash_m,
            leash_rad: self.limits.leash_rad,
            workspace_min_m: self.limits.workspace_min_m,
            workspace_max_m: self.limits.workspace_max_m,
            joint_velocity_rad_s: self.limits.joint_velocity_rad_s,
            period_s: 1.0 / f64::from(self.policy_hz),
            posture: JointVector::from_slice(&self.home_rad).filter(|q| !q.as_slice().is_empty()),
        }
    }

    /// What the control loop goes by, for arms of these chains.
    pub fn control<'a>(&self, chains: impl Iterator<Item = &'a Chain>) -> ControlConfig {
        let mut bounds = [None; MAX_ARMS];
        for (bounds, chain) in bounds.iter_mut().zip(chains) {
            let (mut lower, mut upper) = (chain.zeros(), chain.zeros());
            let ends = lower.as_mut_slice().iter_mut().zip(upper.as_mut_slice());
            for ((lower, upper), joint) in ends.zip(chain.joints()) {
                (*lower, *upper) = (joint.lower, joint.upper);
            }
            let hardest = self.limits.joint_acceleration_rad_s2;
            *bounds = Some(JointBounds {
                lower,
                upper,
                velocity_rad_s: self.limits.joint_velocity_rad_s,
                acceleration_rad_s2: hardest.unwrap_or(f64::INFINITY),
            });
        }
        let spec = self.spec();
        ControlConfig {
            arms: spec.mode.arms(),
            cameras: spec.cameras.len(),
            interpolation_ns: self.policy_period_ns(),
            tick_ns: self.policy_period_ns() / u64::from(self.ticks_per_step()),
            late_ns: self.ages.command_ns(self.policy_period_ns()),
            bounds,
            ages: self.ages.limits(self.policy_period_ns()),
            following_rad: self.limits.following_rad,
            gripper: first_gripper(&spec),
        }
    }

    /// Time between policy steps, nanoseconds.
    pub fn policy_period_ns(&self) -> u64 {
        1_000_000_000 / u64::from(self.policy_hz)
    }

    /// Control ticks per policy step.
    pub fn ticks_per_step(&self) -> u32 {
        self.control_hz / self.policy_hz
    }

    /// As TOML: what a run keeps beside its results.
    pub fn to_toml(&self) -> Result<String, toml::ser::Error> {
        toml::to_string_pretty(self)
    }
}

/// What the grippers are told at the beginning of an episode.
pub(crate) fn first_gripper(spec: &RigSpec) -> GripperCommand {
    if spec.mode.learned_gripper() {
        GripperCommand::Open
    } else {
        GripperCommand::Closed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIFT: &str = include_str!("../../../rigs/lift-sim.toml");
    const SO101: &str = include_str!("../../../rigs/so101-emulated.toml");
    const CALIBRATE: &str = include_str!("../../../rigs/so101-calibrate.toml");
    const KOCH: &str = include_str!("../../../rigs/koch-emulated.toml");
    const DUAL: &str = include_str!("../../../rigs/fake-dual.toml");
    const EMULATED: &str = include_str!("../../../rigs/emulated-dual.toml");

    fn parse(text: &str, overrides: &[&str]) -> Result<Rig, RigError> {
        let overrides: Vec<String> = overrides.iter().map(|&s| s.to_owned()).collect();
        Rig::parse("rig.toml", Path::new("/nowhere"), text, &overrides)
    }

    fn line_with(text: &str, word: &str) -> usize {
        text.lines()
            .position(|line| line.starts_with(word))
            .unwrap()
            + 1
    }

    #[test]
    fn the_rigs_of_this_repository_are_right() {
        let lift = parse(LIFT, &[]).unwrap();
        assert_eq!(lift.spec().action_dim(), 4);
        assert_eq!(lift.spec().proprio_dim(), 12);
        let dual = parse(DUAL, &[]).unwrap();
        assert_eq!(dual.spec().gripper_columns().len(), 2);
        assert_eq!(dual.spec().proprio_dim(), 24);
    }

    #[test]
    fn the_lift_rig_shows_the_scene_as_it_is_by_default() {
        assert_eq!(
            parse(LIFT, &[]).unwrap().scene,
            Some(SceneConfig::default())
        );
    }

    #[test]
    fn an_arm_over_its_bus_and_the_same_in_lockstep_take_the_same_policy() {
        for text in [SO101, KOCH] {
            let bus = parse(text, &[]).unwrap();
            let lockstep = parse(text, &["device=lift-sim", "clock=simulated"]).unwrap();
            assert_eq!(bus.spec(), lockstep.spec());
        }
        let error = |set: &str| parse(SO101, &[set]).unwrap_err().to_string();
        let words = error("scene.arm=desk6");
        assert!(
            words.contains("`scene.arm` is an arm without servos"),
            "{words}"
        );
        assert!(error("clock=simulated").contains("a serial bus has no lockstep"));
        assert!(error("ports=[\"/dev/ttyACM0\"]").contains("without a scene"));
        assert!(error("device=fake").contains("`scene`"));
    }

    #[test]
    fn a_rig_comes_back_from_its_own_toml() {
        for text in [LIFT, DUAL, EMULATED, SO101, KOCH, CALIBRATE] {
            let rig = parse(text, &["episode.max_steps=40"]).unwrap();
            assert_eq!(parse(&rig.to_toml().unwrap(), &[]).unwrap(), rig);
        }
    }

    #[test]
    fn every_mistake_names_file_line_and_field() {
        for (find, replace, words) in [
            ("max_steps = 60", "max_stepz = 100", "max_stepz"),
            ("policy_hz = 10", "policy_hz = \"often\"", "policy_hz"),
            ("policy_hz = 10", "policy_hz = 0", "`policy_hz` is 0"),
            ("leash_m = 0.05", "leash_m = nan", "`limits.leash_m` is NaN"),
            (
                "threshold = 0.75",
                "threshold = 75",
                "`classifier.threshold` is 75",
            ),
            ("speed = 0.4", "speed = 4.0", "`operator.speed` is 4"),
            ("clock = \"simulated\"", "clock = \"sundial\"", "sundial"),
            (
                "clock = \"simulated\"",
                "clock = \"simulated\"\nmodel = \"no/such\"",
                "`model` has no encoder.onnx",
            ),
            (
                "timestep_s = 0.004",
                "timestep_s = 4.0",
                "`scene.timestep_s` is 4",
            ),
            (
                "controlled_axes = [\"x\", \"y\", \"z\"]",
                "controlled_axes = [\"x\", \"x\"]",
                "`controlled_axes`",
            ),
        ] {
            assert!(LIFT.contains(find), "{find}");
            let text = LIFT.replacen(find, replace, 1);
            let error = parse(&text, &[]).unwrap_err().to_string();
            let word = replace.lines().last().unwrap().split(' ').next().unwrap();
            let place = format!("rig.toml:{}: ", line_with(&text, word));
            assert!(
                error.starts_with(&place),
                "{error} does not start with {place}"
            );
            assert!(error.contains(words), "{error} does not say {words}");
        }
    }

    #[test]
    fn a_plan_of_faults_is_checked_with_the_rig_and_kept() {
        let with = |table: &str| {
            let text = format!("{LIFT}\n[faults]\nseed = 3\n{table}\n");
            parse(&text, &["clock=monotonic"])
        };
        let rig =
            with("faults = [{ kind = \"camera-gone\", from_s = 1.0, for_s = 0.5, index = 1 }]");
        let rig = rig.unwrap();
        assert_eq!(rig.faults.as_ref().unwrap().faults.len(), 1);
        assert_eq!(parse(&rig.to_toml().unwrap(), &[]).unwrap(), rig);
        let table =
            "faults = [\n  { kind = \"camera-gone\", from_s = 1.0, for_s = 0.5, index = 2 },\n]";
        let line = LIFT.lines().count() + 5;
        let error = with(table).unwrap_err().to_string();
        let words = "`faults.faults[0].index` is 2; the rig has 2";
        assert!(
            error.starts_with(&format!("rig.toml:{line}: ")) && error.contains(words),
            "{error}"
        );
        let wire = "faults = [{ kind = \"servo-silent\", from_s = 1.0, for_s = 0.5 }]";
        let error = with(wire).unwrap_err().to_string();
        assert!(error.contains("`faults.faults[0].kind`"), "{error}");
        let text = format!("{LIFT}\n[faults]\n");
        let error = parse(&text, &[]).unwrap_err().to_string();
        assert!(error.contains("clock=monotonic"), "{error}");
    }

    #[test]
    fn a_camera_in_the_list_is_found_by_its_line() {
        let at = LIFT.rfind("fovy_deg = ").unwrap();
        let end = at + LIFT[at..].find('\n').unwrap();
        let text = format!("{}fovy_deg = 500.0{}", &LIFT[..at], &LIFT[end..]);
        let error = parse(&text, &[]).unwrap_err().to_string();
        assert!(
            error.contains("`scene.cameras[1].fovy_deg` is 500"),
            "{error}"
        );
        let line: usize = error.split(':').nth(1).unwrap().parse().unwrap();
        assert!(
            text.lines()
                .nth(line - 1)
                .unwrap()
                .contains("fovy_deg = 500.0"),
            "{error}"
        );
    }

    #[test]
    fn an_override_is_named_when_it_is_to_blame() {
        let error = |set: &str| parse(LIFT, &[set]).unwrap_err().to_string();
        assert!(error("operator.speed=7").starts_with("--set operator.speed=7: `operator.speed`"));
        assert!(error("episode.max_stepz=7").contains("--set episode.max_stepz=7"));
        let both = parse(LIFT, &["operator.speed=0.5", "limits.leash_m=9"]).unwrap_err();
        assert!(
            both.to_string().starts_with("--set limits.leash_m=9: "),
            "{both}"
        );
    }
}
