//! What was measured of a rig, and what follows for its arms and cameras.

use std::path::{Path, PathBuf};

use hilt_calibration::file::{self, FileError};
use hilt_protocol::calibration::Calibration;
use serde::{Deserialize, Serialize};

use super::{ArmSettings, Problem, Rig};

/// Where a rig's calibration is: a rig's file names another file, a run's copy of it has the values.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum RigCalibration {
    /// A file, relative to the rig's. It is written by `hilt calibrate`, and may not be there yet.
    File(PathBuf),
    /// What was in it.
    Values(Box<Calibration>),
}

/// How much of its calibration a rig takes over when it is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Take {
    /// All; what does not fit is an error.
    Whole,
    /// What was measured of the joints: for whoever measures the cameras anew.
    Joints,
    /// Nothing: for whoever measures the joints anew.
    Nothing,
}

impl Rig {
    /// What was measured, as far as it was.
    pub fn calibrated(&self) -> Option<&Calibration> {
        match self.calibration.as_ref()? {
            RigCalibration::Values(calibration) => Some(calibration),
            RigCalibration::File(_) => None,
        }
    }

    /// How late the camera of this name stamps its frames, nanoseconds; 0 where nobody has measured.
    pub fn latency_ns(&self, camera: &str) -> u64 {
        let calibration = self.calibrated().and_then(|c| c.camera(camera));
        let latency = calibration.and_then(|camera| camera.latency.as_ref());
        latency.map_or(0, |latency| (latency.delay_ms * 1e6) as u64)
    }

    /// Which arm or leader has to be calibrated before anything may move; `None`: none, also where the rig
    /// names no calibration.
    pub fn uncalibrated(&self) -> Option<String> {
        self.calibration.as_ref()?;
        let known = self.calibrated();
        let arms = (0..self.arms.len()).filter(|&index| self.arms[index].servos().is_some());
        let mut arms = arms.filter(|&index| known.and_then(|c| c.arm(index)).is_none());
        let mut leaders =
            (0..self.leaders.len()).filter(|&index| known.and_then(|c| c.leader(index)).is_none());
        let (index, who, flag) = match (arms.next(), leaders.next()) {
            (Some(index), _) => (index, "arm", ""),
            (None, Some(index)) => (index, "leader", " --leader"),
            (None, None) => return None,
        };
        Some(format!(
            "{who} {index} is not calibrated; run: hilt calibrate joints --rig FILE --arm {index}{flag}"
        ))
    }

    /// Reads the file that `calibration` names, where there is one, and gives arms and leaders the counts
    /// that were measured of them.
    pub(super) fn read_calibration(&mut self, base: &Path, take: Take) -> Result<(), Problem> {
        let problem = |words: String| ("calibration".to_owned(), words);
        if let Some(RigCalibration::File(path)) = &self.calibration {
            let path = base.join(path);
            self.calibration_file = Some(path.clone());
            if take == Take::Nothing {
                return Ok(());
            }
            match file::read(&path, &self.name) {
                Ok(values) => self.calibration = Some(RigCalibration::Values(Box::new(values))),
                Err(FileError::Missing(_)) => {}
                Err(error) => return Err(problem(error.to_string())),
            }
        }
        let Some(RigCalibration::Values(calibration)) = &self.calibration else {
            return Ok(());
        };
        let calibration = calibration.clone();
        calibration
            .check()
            .map_err(|error| problem(error.to_string()))?;
        for (index, arm) in self.arms.iter_mut().enumerate() {
            if let (ArmSettings::Servos(arm), Some(measured)) = (arm, calibration.arm(index)) {
                arm.calibrate(measured).map_err(|words| {
                    (
                        format!("arms[{index}].servos"),
                        format!("cannot be used: {words}"),
                    )
                })?;
            }
        }
        for (index, leader) in self.leaders.iter_mut().enumerate() {
            if let Some(measured) = calibration.leader(index) {
                leader.calibrate(measured).map_err(|words| {
                    (
                        format!("leaders[{index}].servos"),
                        format!("cannot be used: {words}"),
                    )
                })?;
            }
        }
        match take {
            Take::Whole => self.check_cameras_calibration(&calibration),
            Take::Joints | Take::Nothing => Ok(()),
        }
    }

    /// How old a camera's newest frame is at most when none is lost, milliseconds: what it is late, and the time
    /// until the next one.
    pub fn least_frame_ms(&self, camera: &str, latency_ms: f64) -> f64 {
        let settings = self.cameras.iter().find(|other| other.name == camera);
        let fps = settings
            .and_then(|camera| camera.v4l2.as_ref())
            .map_or(30, |v4l2| v4l2.fps);
        latency_ms + 1e3 / f64::from(fps.max(1))
    }

    /// What was measured of another camera, or at another size, or leaves no time, is not used.
    fn check_cameras_calibration(&self, calibration: &Calibration) -> Result<(), Problem> {
        for (index, camera) in self.cameras.iter().enumerate() {
            let (Some(v4l2), Some(measured)) = (&camera.v4l2, calibration.camera(&camera.name))
            else {
                continue;
            };
            let device = v4l2.device.display().to_string();
            let of_other = measured.device.as_ref().filter(|of| **of != device);
            if let Some(other) = of_other {
                let words =
                    format!("is {device}; calibrated was {other} in its place: calibrate it again");
                return Err((format!("cameras[{index}].v4l2.device"), words));
            }
            let size = measured
                .intrinsics
                .as_ref()
                .map(|i| (i.width_px, i.height_px));
            if let Some((width, height)) = size.filter(|size| *size != (v4l2.width, v4l2.height)) {
                let words = format!(
                    "is {}x{}; its lens was measured at {width}x{height}: calibrate it again, or open it at that size",
                    v4l2.width, v4l2.height
                );
                return Err((format!("cameras[{index}].v4l2.width"), words));
            }
        }
        for camera in &self.spec().cameras {
            let least_ms =
                self.least_frame_ms(&camera.name, self.latency_ns(&camera.name) as f64 * 1e-6);
            if least_ms > self.ages.frame_ms {
                let words = format!(
                    "is {}; by the rig's calibration a frame of camera `{}` is {least_ms:.0} ms old before the next one \
                     comes: allow that and one frame more",
                    self.ages.frame_ms, camera.name
                );
                return Err(("ages.frame_ms".into(), words));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use hilt_drivers::bus::Direction;
    use hilt_protocol::calibration::{
        ArmCalibration, GripperCalibration, Intrinsics, JointCalibration, Latency, ServoIdentity,
    };

    use super::*;

    const SO101: &str = include_str!("../../../rigs/so101.toml");

    fn measured(ids: [u8; 6]) -> Calibration {
        let servo = |id| ServoIdentity {
            id,
            model: 777,
            firmware: "3.10".into(),
            offset_counts: 12,
            lowest_counts: 100,
            highest_counts: 4000,
        };
        let mut calibration = Calibration::of_rig("so101");
        calibration.put_arm(
            false,
            ArmCalibration {
                index: 0,
                date: "2026-11-21T12:00:00Z".into(),
                family: "sts3215".into(),
                joints: (ids[..5].iter().enumerate())
                    .map(|(place, id)| JointCalibration {
                        name: format!("joint{place}"),
                        zero_counts: 2030 + place as u16,
                        direction: Direction::Against,
                        servo: servo(*id),
                    })
                    .collect(),
                gripper: GripperCalibration {
                    open_counts: 3100,
                    closed_counts: 2010,
                    servo: servo(ids[5]),
                },
            },
        );
        calibration
    }

    fn with(calibration: &Calibration, overrides: &[&str]) -> Result<Rig, String> {
        taking(Take::Whole, calibration, overrides)
    }

    fn taking(take: Take, calibration: &Calibration, overrides: &[&str]) -> Result<Rig, String> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("so101.toml");
        std::fs::write(&path, SO101).unwrap();
        file::write(&dir.path().join("so101.calibration.toml"), calibration).unwrap();
        let overrides: Vec<_> = overrides.iter().map(|&s| s.to_owned()).collect();
        Rig::read_taking(&path, &overrides, take).map_err(|error| error.to_string())
    }

    #[test]
    fn arms_take_the_counts_that_were_measured_and_a_run_keeps_them() {
        let calibration = measured([1, 2, 3, 4, 5, 6]);
        let rig = with(&calibration, &[]).unwrap();
        let servos = &rig.arms[0].servos().unwrap().servos;
        let joint = servos.joints[3];
        assert_eq!(
            (joint.zero_counts, joint.direction),
            (2033, Direction::Against)
        );
        assert_eq!(
            (servos.gripper.open_counts, servos.gripper.closed_counts),
            (3100, 2010)
        );
        assert_eq!(rig.uncalibrated(), None);
        assert!(
            rig.calibration_file
                .as_ref()
                .unwrap()
                .ends_with("so101.calibration.toml")
        );
        // The run's copy has the values in it, and is read under another name elsewhere.
        let text = rig.to_toml().unwrap();
        let kept = Rig::parse("rig.toml", Path::new("/nowhere"), &text, &[]).unwrap();
        assert_eq!(kept.calibrated(), Some(&calibration));
        assert_eq!(kept.arms, rig.arms);
    }

    #[test]
    fn a_rig_that_is_not_calibrated_yet_can_be_read_and_not_moved() {
        let rig = Rig::parse("so101.toml", Path::new("/nowhere"), SO101, &[]).unwrap();
        let words = rig.uncalibrated().unwrap();
        assert!(words.contains("hilt calibrate joints"), "{words}");
        let opened = crate::cell::Cell::open(&rig).err().unwrap().to_string();
        assert_eq!(opened, words);
        let without: String = SO101
            .lines()
            .filter(|line| !line.starts_with("calibration"))
            .map(|line| format!("{line}\n"))
            .collect();
        let rig = Rig::parse("so101.toml", Path::new("/nowhere"), &without, &[]).unwrap();
        assert_eq!(rig.uncalibrated(), None);
    }

    #[test]
    fn what_was_measured_of_something_else_is_refused_by_name() {
        let error = with(&measured([1, 2, 3, 4, 5, 7]), &[]).unwrap_err();
        assert!(
            error.contains("`arms[0].servos` cannot be used")
                && error.contains("[1, 2, 3, 4, 5, 7]"),
            "{error}"
        );
        assert!(error.contains("hilt calibrate joints"), "{error}");
        let mut of_other = measured([1, 2, 3, 4, 5, 6]);
        of_other.rig = "koch".into();
        let error = with(&of_other, &[]).unwrap_err();
        assert!(
            error.contains("`calibration`") && error.contains("of rig `koch`"),
            "{error}"
        );

        let mut camera = Calibration::of_rig("so101");
        camera.camera_mut("front").device = Some("/dev/video7".into());
        let error = with(&camera, &[]).unwrap_err();
        assert!(
            error.contains("`cameras[0].v4l2.device`") && error.contains("/dev/video7"),
            "{error}"
        );

        let mut size = Calibration::of_rig("so101");
        size.camera_mut("front").intrinsics = Some(Intrinsics {
            date: "2026-11-21T12:00:00Z".into(),
            width_px: 1280,
            height_px: 720,
            focal_px: [900.0; 2],
            centre_px: [640.0, 360.0],
            distortion: [0.0; 5],
            rms_px: 0.1,
            views: 12,
        });
        let error = with(&size, &[]).unwrap_err();
        assert!(error.contains("measured at 1280x720"), "{error}");
    }

    #[test]
    fn what_does_not_fit_can_be_measured_again() {
        let mut wrong = measured([1, 2, 3, 4, 5, 7]);
        wrong.camera_mut("front").device = Some("/dev/video7".into());
        let rig = taking(Take::Nothing, &wrong, &[]).unwrap();
        assert!(rig.uncalibrated().is_some() && rig.arms[0].servos().unwrap().measured.is_none());
        assert!(rig.calibration_file.is_some());
        assert!(taking(Take::Joints, &wrong, &[]).is_err());
        let mut cameras = measured([1, 2, 3, 4, 5, 6]);
        cameras.camera_mut("front").device = Some("/dev/video7".into());
        let rig = taking(Take::Joints, &cameras, &[]).unwrap();
        assert_eq!(rig.uncalibrated(), None);
    }

    #[test]
    fn a_late_camera_must_leave_time() {
        let mut late = Calibration::of_rig("so101");
        late.camera_mut("wrist").latency = Some(Latency {
            date: "2026-11-21T12:00:00Z".into(),
            delay_ms: 75.0,
            spread_ms: 0.5,
        });
        let error = with(&late, &[]).unwrap_err();
        assert!(error.contains("`ages.frame_ms` is 100"), "{error}");
        assert!(error.contains("camera `wrist` is 108 ms old"), "{error}");
        let rig = with(&late, &["ages.frame_ms=200.0"]).unwrap();
        assert_eq!(rig.latency_ns("wrist"), 75_000_000);
        assert_eq!(rig.latency_ns("front"), 0);
    }
}
