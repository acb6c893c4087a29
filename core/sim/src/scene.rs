//! What can be chosen of the lift scene, and its MJCF.

mod board;
mod camera;

pub use board::SceneBoard;
pub use camera::{SceneCamera, SceneLens};

use nalgebra::{Isometry3, Matrix3, Rotation3, Translation3, UnitQuaternion, Vector3};
use serde::{Deserialize, Serialize};

use crate::{ArmKind, SimError};

/// The table and the cube; the arm is filled in.
const ROOM: &str = include_str!("scene/lift.xml");

/// What a camera is fixed to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mount {
    /// The room. The frame is the arm's base: x to the table, z up.
    #[default]
    World,
    /// The hand. The frame is the flange's: z out along the tool, y across the fingers.
    Wrist,
}

/// A field that cannot be, and what is wrong with it.
type Problem = (&'static str, String);

/// What can be chosen of the scene. The default is the demo's.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SceneConfig {
    /// Which arm stands at the table.
    pub arm: ArmKind,
    /// Physics step, seconds.
    pub timestep_s: f64,
    /// Side of the shadow map, pixels; 0 draws no shadows, which is most of a software
    /// renderer's time saved.
    pub shadow_map_px: u32,
    /// Samples per pixel for smooth edges; 0 is none.
    pub multisamples: u32,
    /// Cameras, in the order of the rig's spec.
    pub cameras: Vec<SceneCamera>,
    /// Boards that the cameras can be calibrated with.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub boards: Vec<SceneBoard>,
}

impl Default for SceneConfig {
    fn default() -> Self {
        Self {
            arm: ArmKind::Desk6,
            timestep_s: 0.004,
            shadow_map_px: 0,
            multisamples: 0,
            cameras: vec![
                SceneCamera {
                    name: "front".into(),
                    width: 64,
                    height: 64,
                    mount: Mount::World,
                    position_m: [0.85, 0.0, 0.38],
                    look_at_m: [0.45, 0.0, 0.08],
                    fovy_deg: Some(45.0),
                    lens: None,
                    noise_levels: 0.0,
                    latency_ms: 0.0,
                },
                SceneCamera {
                    name: "wrist".into(),
                    width: 64,
                    height: 64,
                    mount: Mount::Wrist,
                    position_m: [0.07, 0.0, 0.02],
                    look_at_m: [0.0, 0.0, 0.20],
                    fovy_deg: Some(90.0),
                    lens: None,
                    noise_levels: 0.0,
                    latency_ms: 0.0,
                },
            ],
            boards: Vec::new(),
        }
    }
}

impl SceneConfig {
    /// Checks what the types cannot.
    ///
    /// # Errors
    /// [`SimError::Config`] names the field, its value and what would be right.
    pub fn validate(&self) -> Result<(), SimError> {
        let fail = |field: String, problem: String| Err(SimError::Config { field, problem });
        if !(1e-4..=0.02).contains(&self.timestep_s) {
            let problem = format!("is {}; it must be 0.0001 to 0.02", self.timestep_s);
            return fail("timestep_s".into(), problem);
        }
        if self.shadow_map_px > 16_384 {
            let problem = format!("is {}; it must be 0 to 16384", self.shadow_map_px);
            return fail("shadow_map_px".into(), problem);
        }
        if self.multisamples > 16 {
            let problem = format!("is {}; it must be 0 to 16", self.multisamples);
            return fail("multisamples".into(), problem);
        }
        for (i, camera) in self.cameras.iter().enumerate() {
            if let Err((name, problem)) = camera.check() {
                return fail(format!("cameras[{i}].{name}"), problem);
            }
            if self.cameras[..i].iter().any(|c| c.name == camera.name) {
                let problem = format!("`{}` is used twice", camera.name);
                return fail(format!("cameras[{i}].name"), problem);
            }
        }
        for (i, board) in self.boards.iter().enumerate() {
            if let Err((name, problem)) = board.check() {
                return fail(format!("boards[{i}].{name}"), problem);
            }
        }
        Ok(())
    }

    /// The scene as MJCF. Cameras keep their order and names.
    ///
    /// # Errors
    /// As [`Self::validate`].
    pub fn mjcf(&self) -> Result<String, SimError> {
        self.validate()?;
        let drawn = || self.cameras.iter().map(SceneCamera::drawn_px);
        let largest = |side: usize| drawn().map(|px| px[side]).max().unwrap_or(16);
        let (task, model) = (self.arm.task(), self.arm.model());
        let [defaults, bodies, drives] = pieces(model.mjcf)
            .ok_or_else(|| SimError::Model("its arm has no three pieces".into()))?;
        let [centre_x, centre_y] = task.centre_xy_m;
        let [mat_half_x, mat_half_y] = model.mat_half_m;
        let fields = [
            ("arm_defaults", defaults.to_owned()),
            ("arm_bodies", bodies.to_owned()),
            ("arm_drives", drives.to_owned()),
            ("timestep_s", self.timestep_s.to_string()),
            ("offscreen_width", largest(0).to_string()),
            ("offscreen_height", largest(1).to_string()),
            ("shadow_map_px", self.shadow_map_px.to_string()),
            ("multisamples", self.multisamples.to_string()),
            ("castshadow", (self.shadow_map_px > 0).to_string()),
            ("centre_x", centre_x.to_string()),
            ("centre_y", centre_y.to_string()),
            ("mat_half_x", mat_half_x.to_string()),
            ("mat_half_y", mat_half_y.to_string()),
            ("cube_half_m", task.cube_half_m.to_string()),
            ("board_assets", self.board_assets()),
            ("on_world", self.things_on(Mount::World)),
            ("on_wrist", self.things_on(Mount::Wrist)),
        ];
        let mut mjcf = ROOM.to_owned();
        for (name, value) in fields {
            mjcf = mjcf.replace(&format!("{{{{{name}}}}}"), &value);
        }
        Ok(mjcf)
    }

    fn board_assets(&self) -> String {
        let mut xml = String::new();
        for (index, board) in self.boards.iter().enumerate() {
            board.write_assets(index, &mut xml);
        }
        xml
    }

    fn things_on(&self, mount: Mount) -> String {
        let mut xml = String::new();
        for camera in self.cameras.iter().filter(|c| c.mount == mount) {
            camera.write_mjcf(&mut xml);
        }
        for (index, board) in self.boards.iter().enumerate() {
            if board.mount == mount {
                board.write_mjcf(index, &mut xml);
            }
        }
        xml
    }
}

/// An arm's defaults, bodies and what follows them, out of its file.
fn pieces(arm: &str) -> Option<[&str; 3]> {
    let inside = |from: &str, to: &str| {
        let begin = arm.find(from)? + from.len();
        arm.get(begin..arm.rfind(to)?)
    };
    Some([
        inside("<default>", "</default>")?,
        inside("<worldbody>", "</worldbody>")?,
        inside("</worldbody>", "</mujoco>")?,
    ])
}

/// The pose of a frame with its origin, x and y there.
fn pose_of(origin: Vector3<f64>, x: Vector3<f64>, y: Vector3<f64>) -> Isometry3<f64> {
    let axes = Matrix3::from_columns(&[x, y, x.cross(&y)]);
    let rotation = Rotation3::from_matrix_unchecked(axes);
    Isometry3::from_parts(
        Translation3::from(origin),
        UnitQuaternion::from_rotation_matrix(&rotation),
    )
}

#[cfg(test)]
mod tests {
    use hilt_protocol::settings;

    use super::*;

    const LENS: SceneLens = SceneLens {
        focal_px: [60.0, 60.0],
        centre_px: [31.5, 31.5],
        distortion: [0.0; 5],
    };

    #[test]
    fn the_template_is_filled_in() {
        let mjcf = SceneConfig::default().mjcf().unwrap();
        assert!(!mjcf.contains("{{"), "{mjcf}");
        assert!(mjcf.contains(r#"timestep="0.004""#));
        assert!(mjcf.contains(r#"<camera name="wrist""#));
    }

    #[test]
    fn impossible_values_name_their_field() {
        let error = |change: fn(&mut SceneConfig)| {
            let mut config = SceneConfig::default();
            change(&mut config);
            config.mjcf().unwrap_err().to_string()
        };
        for (message, field) in [
            (error(|c| c.timestep_s = f64::NAN), "timestep_s"),
            (error(|c| c.timestep_s = 0.0), "timestep_s"),
            (error(|c| c.shadow_map_px = 1 << 20), "shadow_map_px"),
            (error(|c| c.multisamples = 64), "multisamples"),
            (error(|c| c.cameras[1].width = 0), "cameras[1].width"),
            (
                error(|c| c.cameras[0].fovy_deg = Some(0.0)),
                "cameras[0].fovy_deg",
            ),
            (
                error(|c| c.cameras[0].fovy_deg = None),
                "cameras[0].fovy_deg",
            ),
            (error(|c| c.cameras[1].lens = Some(LENS)), "cameras[1].lens"),
            (
                error(|c| {
                    let focal_px = [0.0, 60.0];
                    c.cameras[1].fovy_deg = None;
                    c.cameras[1].lens = Some(SceneLens { focal_px, ..LENS });
                }),
                "cameras[1].lens.focal_px",
            ),
            (
                error(|c| {
                    let distortion = [-5.0, 0.0, 0.0, 0.0, 0.0];
                    c.cameras[1].fovy_deg = None;
                    c.cameras[1].lens = Some(SceneLens { distortion, ..LENS });
                }),
                "cameras[1].lens",
            ),
            (
                error(|c| c.cameras[1].noise_levels = -1.0),
                "cameras[1].noise_levels",
            ),
            (
                error(|c| c.cameras[1].latency_ms = f64::NAN),
                "cameras[1].latency_ms",
            ),
            (
                error(|c| c.cameras[0].name = "a\"b".into()),
                "cameras[0].name",
            ),
            (
                error(|c| c.cameras[1].name = "front".into()),
                "cameras[1].name",
            ),
            (
                error(|c| c.cameras[0].look_at_m = [0.85, 0.0, 0.38]),
                "cameras[0].look_at_m",
            ),
            (
                error(|c| c.cameras[0].look_at_m[2] = f64::NAN),
                "cameras[0].look_at_m",
            ),
        ] {
            assert!(message.contains(field), "{message} does not name {field}");
        }
    }

    #[test]
    fn a_rig_file_can_choose_and_an_unknown_field_is_refused() {
        let text = "timestep_s = 0.002\n[[cameras]]\nname = \"top\"\nwidth = 32\nheight = 24\n\
                    position_m = [0.4, 0, 1]\nlook_at_m = [0.4, 0, 0]\nfovy_deg = 40\n";
        let config: SceneConfig = settings::parse("rig.toml", text, &[]).unwrap();
        assert_eq!(config.timestep_s, 0.002);
        assert_eq!(config.cameras[0].mount, Mount::World);
        config.validate().unwrap();
        let text = "timestep_s = 0.002\nshadow = 1\n";
        let error = settings::parse::<SceneConfig>("rig.toml", text, &[]).unwrap_err();
        assert!(error.to_string().contains("shadow"), "{error}");
    }

    #[test]
    fn a_camera_straight_above_still_has_an_up() {
        let mut config = SceneConfig::default();
        config.cameras[0].position_m = [0.45, 0.0, 1.0];
        config.cameras[0].look_at_m = [0.45, 0.0, 0.0];
        let (right, up) = config.cameras[0].axes().unwrap();
        assert!((up - Vector3::x()).norm() < 1e-12, "{up}");
        assert!((right + Vector3::y()).norm() < 1e-12, "{right}");
    }
}
