//! What a rig's file says about devices that are really there.

use std::path::PathBuf;

use hilt_drivers::{
    bus::ServoArmConfig,
    franka::{self, FrankaConfig},
    hands::TeleopConfig,
    v4l2::V4l2Config,
};
use hilt_kinematics::Chain;
use hilt_protocol::{CameraSpec, calibration::ArmCalibration};
use nalgebra::Isometry3;
use serde::{Deserialize, Serialize};

use super::{ClockKind, Device, Problem, Rig, Shape, ShapeError};

/// An arm.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "driver", rename_all = "kebab-case")]
pub enum ArmSettings {
    /// Bus servos on a serial port.
    Servos(ServoArmSettings),
    /// A Franka behind the HTTP server of HIL-SERL's rigs.
    Franka(FrankaConfig),
}

impl ArmSettings {
    /// Its servos, if it is of servos.
    pub fn servos(&self) -> Option<&ServoArmSettings> {
        match self {
            Self::Servos(servos) => Some(servos),
            Self::Franka(_) => None,
        }
    }
}

/// An arm of bus servos.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ServoArmSettings {
    /// Its serial port: the name below `/dev/serial/by-id` that `hilt find-port` shows.
    pub port: PathBuf,
    /// Whose shape it has: where its joints are and how far they go.
    pub shape: Shape,
    /// Which servo is which joint, and what its counts mean.
    pub servos: ServoArmConfig,
    /// What was measured of it, if it was: `servos` have its counts.
    #[serde(skip)]
    pub measured: Option<Box<ArmCalibration>>,
}

/// A camera of a rig without a scene.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CameraSettings {
    /// Its name.
    pub name: String,
    /// Rows of what the policy sees.
    pub height: u32,
    /// Columns of it.
    pub width: u32,
    /// The device, where there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub v4l2: Option<V4l2Config>,
}

impl CameraSettings {
    /// What the policy knows of it.
    pub fn spec(&self) -> CameraSpec {
        CameraSpec {
            name: self.name.clone(),
            height: self.height,
            width: self.width,
        }
    }
}

impl ServoArmSettings {
    /// Its kinematics, its joints no farther than its servos go.
    pub fn chain(&self) -> Result<Chain, ShapeError> {
        let chain = self.shape.chain()?;
        match &self.measured {
            Some(measured) => Ok(ServoArmConfig::within_stops(&chain, measured)?),
            None => Ok(chain),
        }
    }

    /// Takes over what was measured of it.
    pub(super) fn calibrate(&mut self, measured: &ArmCalibration) -> Result<(), String> {
        let servos = self.servos.calibrated(measured);
        self.servos = servos.map_err(|error| error.to_string())?;
        self.measured = Some(Box::new(measured.clone()));
        Ok(())
    }

    fn check(&self, field: &str) -> Result<Chain, Problem> {
        self.shape.check(&format!("{field}.shape"))?;
        let chain = self.chain();
        let chain = chain.map_err(|error| (format!("{field}.servos"), error.to_string()))?;
        let fits = self.servos.check(&chain);
        fits.map_err(|error| {
            (
                format!("{field}.servos"),
                format!("cannot be used: {error}"),
            )
        })?;
        Ok(chain)
    }
}

impl Rig {
    /// What is said of arms, cameras and hands that are really there.
    pub(super) fn check_real(&self) -> Result<(), Problem> {
        let problem = |field: &str, words: String| Err((field.to_owned(), words));
        if self.device != Device::Real {
            let cameras = self.cameras.iter().position(|camera| camera.v4l2.is_some());
            for (field, is_there) in [
                ("arms".to_owned(), !self.arms.is_empty()),
                ("home_rad".to_owned(), !self.home_rad.is_empty()),
                (
                    format!("cameras[{}].v4l2", cameras.unwrap_or(0)),
                    cameras.is_some(),
                ),
            ] {
                if is_there {
                    return problem(&field, "goes with device = \"real\" alone".into());
                }
            }
        } else {
            if self.clock != ClockKind::Monotonic {
                let words =
                    "is \"simulated\"; what is really there has no lockstep, use \"monotonic\"";
                return problem("clock", words.into());
            }
            if self.scene.is_some() {
                return problem("scene", "is simulated; it goes with no real device".into());
            }
            self.check_arms()?;
            if let Some(camera) = self.cameras.iter().position(|camera| camera.v4l2.is_none()) {
                let words = "is missing; name the device that `hilt find-cameras` shows".to_owned();
                return problem(&format!("cameras[{camera}].v4l2"), words);
            }
        }
        self.check_hands()
    }

    fn check_arms(&self) -> Result<(), Problem> {
        let (arms, wanted) = (self.arms.len(), self.mode.arms());
        if arms != wanted {
            let words = format!("are {arms}; {} has {wanted}", self.mode);
            return Err(("arms".into(), words));
        }
        let of_servos = self.arms.iter().filter_map(ArmSettings::servos).count();
        if of_servos > 0 && of_servos < arms {
            let words = "are of servos and of another driver; nobody would hold both when this process \
                         is gone, so use one driver for all";
            return Err(("arms".into(), words.into()));
        }
        for (index, arm) in self.arms.iter().enumerate() {
            let field = format!("arms[{index}]");
            let chain = match arm {
                ArmSettings::Servos(arm) => arm.check(&field)?,
                ArmSettings::Franka(arm) => {
                    let chain = franka::chain(arm.model, &Isometry3::identity());
                    chain.map_err(|error| (field, error.to_string()))?
                }
            };
            self.check_home(&chain)?;
        }
        Ok(())
    }

    fn check_home(&self, chain: &Chain) -> Result<(), Problem> {
        let home = &self.home_rad;
        if home.is_empty() {
            return Ok(());
        }
        if home.len() != chain.dof() {
            let words = format!("has {} joints, the arm {}", home.len(), chain.dof());
            return Err(("home_rad".into(), words));
        }
        let joints = home.iter().zip(chain.joints()).enumerate();
        for (index, (q, joint)) in joints {
            if !(joint.lower..=joint.upper).contains(q) {
                let words = format!(
                    "is {q}; the joint goes from {} to {}",
                    joint.lower, joint.upper
                );
                return Err((format!("home_rad[{index}]"), words));
            }
        }
        Ok(())
    }

    fn check_hands(&self) -> Result<(), Problem> {
        if let Some(teleop) = &self.teleop {
            let fits = teleop.check();
            fits.map_err(|error| (format!("teleop.{}", error.field), error.problem))?;
        }
        let led = matches!(self.teleop, Some(TeleopConfig::Leader(_)));
        let (leaders, arms) = (self.leaders.len(), self.mode.arms());
        let wanted = if led { arms } else { 0 };
        if leaders != wanted {
            let words = format!("are {leaders}, and this teleop device needs {wanted}");
            return Err(("leaders".into(), words));
        }
        for (index, leader) in self.leaders.iter().enumerate() {
            leader.check(&format!("leaders[{index}]"))?;
        }
        let mut ports: Vec<_> = self.leaders.iter().map(|leader| &leader.port).collect();
        ports.extend((self.arms.iter().filter_map(ArmSettings::servos)).map(|arm| &arm.port));
        ports.sort();
        match ports.windows(2).find(|pair| pair[0] == pair[1]) {
            Some(pair) => {
                let words = format!(
                    "name {} twice; an arm has a port of its own",
                    pair[0].display()
                );
                Err(("arms".into(), words))
            }
            None => Ok(()),
        }
    }
}
