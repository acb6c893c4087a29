//! Whose shape an arm has: where its joints are and how far they go.

use std::{
    fmt,
    path::{Path, PathBuf},
};

use hilt_kinematics::{Chain, ChainError, UrdfError};
use hilt_sim::{ArmKind, SimError};
use serde::{
    Deserialize, Deserializer, Serialize,
    de::{
        Error, MapAccess, Visitor,
        value::{MapAccessDeserializer, StrDeserializer},
    },
};

use super::{ArmSettings, Problem, Rig};

/// An arm's shape: `"so101"`, or `{ urdf = "my_arm.urdf", base = "base_link", tip = "gripper" }`.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(untagged)]
pub enum Shape {
    /// One that hilt knows.
    Known(ArmKind),
    /// One that a URDF describes.
    Urdf(UrdfShape),
}

/// The part of a URDF that is the arm.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UrdfShape {
    /// The file, relative to the rig's.
    pub urdf: PathBuf,
    /// The link that is the arm's frame: that of the workspace, and of what the policy commands.
    pub base: String,
    /// The link that is its tool, between the fingers.
    pub tip: String,
    /// What is in the file: not for the rig's file to say, but in a run's copy of it, which then needs no
    /// file beside it.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub text: String,
}

/// Why a shape has no kinematics.
#[derive(Debug, thiserror::Error)]
pub enum ShapeError {
    /// The model of a known arm.
    #[error(transparent)]
    Model(#[from] SimError),
    /// The file cannot be read.
    #[error("is {}, which cannot be read: {source}; the path is relative to the rig's file", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the file system says.
        source: std::io::Error,
    },
    /// Its servos go nowhere within its limits.
    #[error(
        "the calibration is not of this shape ({0}); calibrate this arm: hilt calibrate joints"
    )]
    Stops(#[from] ChainError),
    /// It is no URDF, or has no arm between these links.
    #[error("cannot be used: {}: {source}", path.display())]
    Urdf {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: UrdfError,
    },
}

impl Shape {
    /// The arm's kinematics.
    ///
    /// # Errors
    /// [`ShapeError`] names the file, and the link or joint to blame.
    pub fn chain(&self) -> Result<Chain, ShapeError> {
        match self {
            Self::Known(kind) => Ok(hilt_sim::chain(*kind)?),
            Self::Urdf(shape) => {
                Chain::from_urdf(&shape.text, &shape.base, &shape.tip).map_err(|source| {
                    ShapeError::Urdf {
                        path: shape.urdf.clone(),
                        source,
                    }
                })
            }
        }
    }

    /// Takes in what its file has, if it names one and that has not been done.
    fn read(&mut self, base: &Path) -> Result<(), ShapeError> {
        if let Self::Urdf(shape) = self
            && shape.text.is_empty()
        {
            let path = base.join(&shape.urdf);
            shape.text = std::fs::read_to_string(&path)
                .map_err(|source| ShapeError::Read { path, source })?;
        }
        Ok(())
    }

    /// The kinematics, or which field of `field` is to blame.
    pub(super) fn check(&self, field: &str) -> Result<Chain, Problem> {
        self.chain().map_err(|error| {
            let part = match (&error, self) {
                (ShapeError::Urdf { source, .. }, Self::Urdf(shape)) => match source {
                    UrdfError::NoLink { name, .. } if *name == shape.base => ".base",
                    UrdfError::NoLink { .. } | UrdfError::NotBelow { .. } => ".tip",
                    _ => ".urdf",
                },
                _ => "",
            };
            (format!("{field}{part}"), error.to_string())
        })
    }
}

impl Rig {
    /// Reads the URDFs that arms and leaders name.
    pub(super) fn read_shapes(&mut self, base: &Path) -> Result<(), Problem> {
        let arms = self.arms.iter_mut().enumerate();
        let arms = arms.filter_map(|(index, arm)| match arm {
            ArmSettings::Servos(arm) => Some((format!("arms[{index}]"), &mut arm.shape)),
            ArmSettings::Franka(_) => None,
        });
        let leaders = self.leaders.iter_mut().enumerate();
        let leaders =
            leaders.map(|(index, leader)| (format!("leaders[{index}]"), &mut leader.shape));
        for (field, shape) in arms.chain(leaders) {
            shape
                .read(base)
                .map_err(|error| (format!("{field}.shape.urdf"), error.to_string()))?;
        }
        Ok(())
    }
}

/// By hand, because serde's own would say of a misspelt name no more than that it fits nothing.
impl<'de> Deserialize<'de> for Shape {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct NameOrTable;
        impl<'de> Visitor<'de> for NameOrTable {
            type Value = Shape;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an arm's name or { urdf = …, base = …, tip = … }")
            }

            fn visit_str<E: Error>(self, name: &str) -> Result<Shape, E> {
                ArmKind::deserialize(StrDeserializer::new(name)).map(Shape::Known)
            }

            fn visit_map<A: MapAccess<'de>>(self, table: A) -> Result<Shape, A::Error> {
                UrdfShape::deserialize(MapAccessDeserializer::new(table)).map(Shape::Urdf)
            }
        }
        deserializer.deserialize_any(NameOrTable)
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    const SO101: &str = include_str!("../../../rigs/so101.toml");
    const URDF: &str = include_str!("../../../core/kinematics/tests/arms/so101.urdf");
    const SHAPE: &str = "shape = { urdf = \"arms/mine.urdf\", base = \"base\", tip = \"tool\" }";

    /// A rig's file in a folder, and a URDF below it.
    fn rig(shape: &str, urdf: &str) -> Result<Rig, String> {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("arms")).unwrap();
        fs::write(dir.path().join("arms/mine.urdf"), urdf).unwrap();
        let path = dir.path().join("mine.toml");
        fs::write(&path, SO101.replacen("shape = \"so101\"", shape, 1)).unwrap();
        Rig::read(&path, &[]).map_err(|error| error.to_string())
    }

    #[test]
    fn an_arm_of_a_urdf_is_the_arm_that_it_describes() {
        let known = rig("shape = \"so101\"", URDF).unwrap();
        let ours = rig(SHAPE, URDF).unwrap();
        let chain = |rig: &Rig| rig.arms[0].servos().unwrap().chain().unwrap();
        let (a, b) = (
            chain(&known).base_from_tool(&known.home_rad),
            chain(&ours).base_from_tool(&ours.home_rad),
        );
        assert!((a.to_homogeneous() - b.to_homogeneous()).amax() < 1e-9);
    }

    /// The URDF's folder is gone by then.
    #[test]
    fn a_run_keeps_the_urdf_in_its_copy_of_the_rig() {
        let ours = rig(SHAPE, URDF).unwrap();
        let text = ours.to_toml().unwrap();
        let mut kept = Rig::parse("rig.toml", Path::new("/nowhere"), &text, &[]).unwrap();
        (kept.name, kept.calibration_file) = (ours.name.clone(), ours.calibration_file.clone());
        assert_eq!(kept, ours);
    }

    #[test]
    fn a_leader_may_have_a_shape_of_its_own() {
        let leader = format!(
            "shape = \"so101\"\n{}\n[[leaders]]\nport = \"/dev/ttyLEADER\"\n{SHAPE}\n[leaders.servos]\n{}",
            &SO101[SO101.find("port = ").unwrap()..SO101.find("[[cameras]]").unwrap()],
            &SO101[SO101.find("family = ").unwrap()..SO101.find("[[cameras]]").unwrap()],
        );
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("arms")).unwrap();
        let path = dir.path().join("mine.toml");
        let from = SO101.find("shape = ").unwrap();
        let to = SO101.find("[[cameras]]").unwrap();
        let text = format!("{}{leader}{}", &SO101[..from], &SO101[to..]);
        fs::write(&path, text.replace("\"spacemouse\"", "\"leader\"")).unwrap();
        let missing = Rig::read(&path, &[]).unwrap_err().to_string();
        assert!(missing.contains("`leaders[0].shape.urdf` is "), "{missing}");
        fs::write(dir.path().join("arms/mine.urdf"), URDF).unwrap();
        let rig = Rig::read(&path, &[]).unwrap();
        assert_eq!(rig.leaders[0].chain().unwrap().dof(), 5);
    }

    #[test]
    fn what_is_wrong_with_a_shape_is_named_with_its_field_and_line() {
        let table = |base: &str, tip: &str| {
            format!("shape = {{ urdf = \"arms/mine.urdf\", base = \"{base}\", tip = \"{tip}\" }}")
        };
        let line = 1 + SO101[..SO101.find("shape = ").unwrap()].lines().count();
        for (shape, urdf, words) in [
            (
                SHAPE.replace("mine", "yours"),
                URDF.to_owned(),
                &[
                    "`arms[0].shape.urdf` is ",
                    "arms/yours.urdf",
                    "relative to the rig's file",
                ][..],
            ),
            (
                SHAPE.to_owned(),
                URDF.replace("</robot>", "</robo>"),
                &["`arms[0].shape.urdf` cannot be used: arms/mine.urdf: line 46"],
            ),
            (
                table("base_link", "tool"),
                URDF.to_owned(),
                &[
                    "`arms[0].shape.base`",
                    "no link `base_link`",
                    "base, shoulder",
                ],
            ),
            (
                table("base", "gripper"),
                URDF.to_owned(),
                &["`arms[0].shape.tip`", "no link `gripper`"],
            ),
            (
                table("tool", "base"),
                URDF.to_owned(),
                &["`arms[0].shape.tip`", "`base` is not below link `tool`"],
            ),
            (
                table("shoulder", "tool"),
                URDF.to_owned(),
                &["`arms[0].servos` cannot be used"],
            ),
            (
                SHAPE.to_owned(),
                URDF.replacen("type=\"revolute\"", "type=\"planar\"", 1),
                &["`arms[0].shape.urdf`", "joint `pan` is planar"],
            ),
        ] {
            let error = rig(&shape, &urdf).unwrap_err();
            for word in words {
                assert!(error.contains(word), "{error} does not say {word}");
            }
            assert!(
                error.contains(&format!("mine.toml:{line}: ")) || shape.contains("shoulder"),
                "{error}"
            );
        }
        for (shape, words) in [
            ("shape = \"octopus\"", &["octopus", "so101"][..]),
            ("shape = 7", &["arm's name or { urdf"]),
            (
                "shape = { urdf = \"a\", base = \"b\" }",
                &["missing field `tip`"],
            ),
            (
                "shape = { urdf = \"a\", base = \"b\", top = \"c\" }",
                &["unknown field `top`"],
            ),
        ] {
            let error = rig(shape, URDF).unwrap_err();
            for word in words {
                assert!(error.contains(word), "{error} does not say {word}");
            }
        }
    }
}
