//! What was measured of one robot: where its joints are zero, what its cameras see and where they
//! stand, how late their frames are, where the bases of two arms stand to each other.
//!
//! The *values* and what follows from them are here; the procedures that find them are the crate
//! `calibration`'s. A [`Calibration`] is one TOML file beside the rig's, so that what was measured
//! together stays together. Each part says when it was measured and of which device, so that what was
//! measured of another is not taken for it.

mod camera;
mod joints;
mod pose;

pub use camera::{CameraCalibration, Frame, Intrinsics, Latency, Mounting, Spread};
pub use joints::{
    ArmCalibration, COUNTS_PER_TURN, Direction, GripperCalibration, JointCalibration, ServoIdentity,
};
pub use pose::Pose;

use serde::{Deserialize, Serialize};

/// The form of the file that this program writes and reads.
pub const VERSION: u32 = 1;

/// What a rig's calibration file holds. A part that is missing was not measured.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Calibration {
    /// [`VERSION`].
    pub version: u32,
    /// The rig's name: its file's, without the ending.
    pub rig: String,
    /// Arms whose joints were measured.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub arms: Vec<ArmCalibration>,
    /// Leaders whose joints were.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub leaders: Vec<ArmCalibration>,
    /// Cameras of which something was.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub cameras: Vec<CameraCalibration>,
    /// Where the second arm's base stands in the first one's frame.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bases: Option<Bases>,
}

/// Two arms that stand beside each other.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Bases {
    /// When it was measured: RFC 3339, UTC.
    pub date: String,
    /// Pose of arm 1's base in the frame of arm 0's.
    pub base0_from_base1: Pose,
    /// One standard deviation of it.
    pub spread: Spread,
}

/// Why a text is no calibration.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum CalibrationError {
    /// Not the TOML that it must be.
    #[error("is no calibration: {0}")]
    Form(String),
    /// Of another form.
    #[error(
        "has version {0} and this program reads version {VERSION}; use the program that wrote it, or calibrate again"
    )]
    Version(u32),
    /// Something that cannot be.
    #[error("`{field}` {problem}")]
    Value {
        /// Where.
        field: String,
        /// What is wrong, and what would be right.
        problem: String,
    },
}

impl Calibration {
    /// Nothing measured yet.
    pub fn of_rig(rig: &str) -> Self {
        Self {
            version: VERSION,
            rig: rig.to_owned(),
            arms: Vec::new(),
            leaders: Vec::new(),
            cameras: Vec::new(),
            bases: None,
        }
    }

    /// Reads the file's text, and checks it.
    pub fn from_toml(text: &str) -> Result<Self, CalibrationError> {
        let form = |error: toml::de::Error| CalibrationError::Form(error.to_string());
        // Another version may have other fields; it is told apart before they are looked at.
        #[derive(Deserialize)]
        struct Head {
            version: u32,
        }
        let head: Head = toml::from_str(text).map_err(form)?;
        if head.version != VERSION {
            return Err(CalibrationError::Version(head.version));
        }
        let calibration: Self = toml::from_str(text).map_err(form)?;
        calibration.check()?;
        Ok(calibration)
    }

    /// The file's text.
    pub fn to_toml(&self) -> Result<String, CalibrationError> {
        toml::to_string(self).map_err(|error| CalibrationError::Form(error.to_string()))
    }

    /// What was measured of arm number `index`.
    pub fn arm(&self, index: usize) -> Option<&ArmCalibration> {
        self.arms.iter().find(|arm| arm.index == index)
    }

    /// What was measured of leader number `index`.
    pub fn leader(&self, index: usize) -> Option<&ArmCalibration> {
        self.leaders.iter().find(|arm| arm.index == index)
    }

    /// What was measured of the camera of this name.
    pub fn camera(&self, name: &str) -> Option<&CameraCalibration> {
        self.cameras.iter().find(|camera| camera.name == name)
    }

    /// The place for what is measured of the camera of this name.
    pub fn camera_mut(&mut self, name: &str) -> &mut CameraCalibration {
        let place = self.cameras.iter().position(|camera| camera.name == name);
        let place = place.unwrap_or_else(|| {
            self.cameras.push(CameraCalibration::of(name));
            self.cameras.len() - 1
        });
        &mut self.cameras[place]
    }

    /// Puts what was measured of an arm in the place of what was there. Where cameras and bases stand was
    /// measured by the arm as it was before, so that is gone.
    pub fn put_arm(&mut self, of_leader: bool, arm: ArmCalibration) {
        let arms = match of_leader {
            true => &mut self.leaders,
            false => &mut self.arms,
        };
        let index = arm.index;
        arms.retain(|other| other.index != index);
        arms.push(arm);
        arms.sort_by_key(|arm| arm.index);
        if of_leader {
            return;
        }
        for camera in &mut self.cameras {
            camera.mounting.take_if(|mounting| mounting.arm == index);
        }
        self.bases = None;
    }

    /// Puts a camera's lens in the place of what was there. Where it stands was measured through the lens as
    /// it was before, so that is gone.
    pub fn put_lens(&mut self, camera: &str, lens: Intrinsics) {
        let camera = self.camera_mut(camera);
        (camera.intrinsics, camera.mounting) = (Some(lens), None);
    }

    /// The place for what is measured of the camera of this name, which now is this device. What was measured
    /// of another is gone.
    pub fn camera_of_device(
        &mut self,
        name: &str,
        device: Option<String>,
    ) -> &mut CameraCalibration {
        let camera = self.camera_mut(name);
        if camera.device != device {
            *camera = CameraCalibration::of(name);
            camera.device = device;
        }
        camera
    }

    /// Checks what the types cannot: finite values of their units' range, each device named once.
    pub fn check(&self) -> Result<(), CalibrationError> {
        for (list, arms) in [("arms", &self.arms), ("leaders", &self.leaders)] {
            for (place, arm) in arms.iter().enumerate() {
                let field = format!("{list}[{place}]");
                if arms[..place].iter().any(|other| other.index == arm.index) {
                    let problem = format!("is number {} again; leave one", arm.index);
                    return Err(CalibrationError::Value { field, problem });
                }
                arm.check(&field)?;
            }
        }
        for (place, camera) in self.cameras.iter().enumerate() {
            let field = format!("cameras[{place}]");
            if self.cameras[..place].iter().any(|c| c.name == camera.name) {
                let problem = format!("is `{}` again; leave one", camera.name);
                return Err(CalibrationError::Value { field, problem });
            }
            camera.check(&field)?;
        }
        if let Some(bases) = &self.bases {
            bases.spread.check("bases")?;
            bases.base0_from_base1.check("bases.base0_from_base1")?;
        }
        Ok(())
    }
}

fn value(field: String, problem: impl Into<String>) -> CalibrationError {
    let problem = problem.into();
    CalibrationError::Value { field, problem }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn full() -> Calibration {
        let mut calibration = Calibration::of_rig("so101");
        let servo = |id| ServoIdentity {
            id,
            model: 777,
            firmware: "3.10".into(),
            offset_counts: -1712,
            lowest_counts: 820,
            highest_counts: 3276,
        };
        calibration.put_arm(
            false,
            ArmCalibration {
                index: 0,
                date: "2026-11-21T12:00:00Z".into(),
                family: "sts3215".into(),
                joints: vec![JointCalibration {
                    name: "pan".into(),
                    servo: servo(1),
                    zero_counts: 2048,
                    direction: Direction::Against,
                }],
                gripper: GripperCalibration {
                    servo: servo(6),
                    open_counts: 3000,
                    closed_counts: 2000,
                },
            },
        );
        let camera = calibration.camera_mut("front");
        camera.device = Some("usb-FRONT-video-index0".into());
        camera.latency = Some(Latency {
            date: "2026-11-21T12:00:00Z".into(),
            delay_ms: 31.5,
            spread_ms: 0.5,
        });
        camera.intrinsics = Some(Intrinsics {
            date: "2026-11-21T12:00:00Z".into(),
            width_px: 640,
            height_px: 480,
            focal_px: [612.5, 611.0],
            centre_px: [318.0, 243.5],
            distortion: [0.1, -0.2, 1e-3, -1e-3, 0.05],
            rms_px: 0.12,
            views: 20,
        });
        camera.mounting = Some(Mounting {
            date: "2026-11-21T12:00:00Z".into(),
            frame: Frame::Hand,
            arm: 0,
            frame_from_camera: Pose {
                translation_m: [0.05, 0.0, 0.02],
                rotation_wxyz: [1.0, 0.0, 0.0, 0.0],
            },
            spread: Spread {
                translation_m: 0.0004,
                rotation_rad: 0.001,
            },
            views: 15,
        });
        calibration.bases = Some(Bases {
            date: "2026-11-21T12:00:00Z".into(),
            base0_from_base1: Pose::identity(),
            spread: Spread {
                translation_m: 0.001,
                rotation_rad: 0.002,
            },
        });
        calibration
    }

    #[test]
    fn it_comes_back_from_its_own_text() {
        for calibration in [full(), Calibration::of_rig("empty")] {
            let text = calibration.to_toml().unwrap();
            assert_eq!(
                Calibration::from_toml(&text).unwrap(),
                calibration,
                "{text}"
            );
        }
    }

    #[test]
    fn what_cannot_be_is_named() {
        let text = full().to_toml().unwrap();
        for (find, replace, words) in [
            ("version = 1", "version = 2", "version 2"),
            ("version = 1", "", "version"),
            ("index = 0", "index = 0\ncolour = 3", "colour"),
            (
                "zero_counts = 2048",
                "zero_counts = 4096",
                "`arms[0].joints[0].zero_counts` is 4096",
            ),
            (
                "lowest_counts = 820",
                "lowest_counts = 3500",
                "`arms[0].joints[0].servo.lowest_counts` is 3500",
            ),
            (
                "closed_counts = 2000",
                "closed_counts = 3000",
                "`arms[0].gripper`",
            ),
            (
                "delay_ms = 31.5",
                "delay_ms = -1.0",
                "`cameras[0].latency.delay_ms` is -1",
            ),
            ("612.5", "nan", "`cameras[0].intrinsics.focal_px`"),
            (
                "[1.0, 0.0, 0.0, 0.0]",
                "[0.0, 0.0, 0.0, 0.0]",
                "`cameras[0].mounting.frame_from_camera.rotation_wxyz`",
            ),
            (
                "width_px = 640",
                "width_px = 0",
                "`cameras[0].intrinsics.width_px` is 0",
            ),
        ] {
            assert!(text.contains(find), "{find} is not in {text}");
            let error = Calibration::from_toml(&text.replacen(find, replace, 1)).unwrap_err();
            assert!(
                error.to_string().contains(words),
                "{error} does not say {words}"
            );
        }
        let mut twice = full();
        twice.cameras.push(twice.cameras[0].clone());
        let error = Calibration::from_toml(&twice.to_toml().unwrap()).unwrap_err();
        assert!(
            error.to_string().contains("`cameras[1]` is `front` again"),
            "{error}"
        );
    }

    #[test]
    fn what_is_measured_again_takes_the_place_of_the_old() {
        let mut calibration = full();
        let mut arm = calibration.arms[0].clone();
        arm.joints[0].zero_counts = 2000;
        calibration.put_arm(false, arm.clone());
        assert_eq!(calibration.arms, [arm.clone()]);
        calibration.put_arm(true, arm.clone());
        assert_eq!(calibration.leader(0), Some(&arm));
        assert_eq!(calibration.cameras.len(), 1);
    }

    #[test]
    fn what_rests_on_what_is_measured_again_is_gone() {
        let mut calibration = full();
        let (arm, lens) = (
            calibration.arms[0].clone(),
            calibration.cameras[0].intrinsics.clone(),
        );
        calibration.put_arm(true, arm.clone());
        assert!(calibration.bases.is_some() && calibration.cameras[0].mounting.is_some());
        calibration.put_arm(false, arm);
        assert!(calibration.bases.is_none() && calibration.cameras[0].mounting.is_none());
        assert!(calibration.cameras[0].intrinsics.is_some());
        let mut calibration = full();
        calibration.put_lens("front", lens.unwrap());
        let camera = &calibration.cameras[0];
        assert!(camera.mounting.is_none() && camera.latency.is_some());
        let same = camera.device.clone();
        assert!(
            calibration
                .camera_of_device("front", same)
                .intrinsics
                .is_some()
        );
        let other = calibration.camera_of_device("front", Some("/dev/video7".into()));
        assert!(other.intrinsics.is_none() && other.latency.is_none());
    }
}
