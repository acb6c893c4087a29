//! A chain from a URDF: the joints on the way from one link to another.
//!
//! Fixed joints become part of the pose of what follows them. What lies beside the way (fingers,
//! cameras, the other arm) does not count, whatever its joints are.

use std::f64::consts::PI;

use nalgebra::{Isometry3, Translation3, Unit, UnitQuaternion, Vector3};
use quick_xml::{Reader, events::Event};
use urdf_rs::{JointType, Robot};

use crate::{Chain, ChainError, Joint, JointKind, MAX_JOINTS};

/// Deepest nesting of elements. A URDF needs five; the parser below it recurses, so that a text of
/// nothing but opening tags would run it out of its stack.
const MAX_DEPTH: usize = 64;

/// Why a URDF gives no chain.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum UrdfError {
    /// The text is not XML.
    #[error("line {line}: {problem}")]
    Xml {
        /// Where.
        line: usize,
        /// What the parser says.
        problem: String,
    },
    /// It is XML, and something that a URDF must have is missing or has another form.
    #[error("is no URDF: {0}")]
    Form(String),
    /// No link has that name.
    #[error("there is no link `{name}`; the links are {links}")]
    NoLink {
        /// The name.
        name: String,
        /// Those that there are.
        links: String,
    },
    /// Two joints move the same link, so that where it is cannot be said.
    #[error(
        "link `{link}` is the child of joint `{first}` and of joint `{second}`; give it one parent"
    )]
    TwoParents {
        /// The link.
        link: String,
        /// One joint.
        first: String,
        /// The other.
        second: String,
    },
    /// The way up from the tip does not come by the base.
    #[error(
        "link `{tip}` is not below link `{base}`: the way up from it ends at `{root}`; exchange the two or take \
         `{root}` as the base"
    )]
    NotBelow {
        /// Where the chain was to begin.
        base: String,
        /// … and to end.
        tip: String,
        /// Where the way up ends.
        root: String,
    },
    /// The way up from the tip goes in a circle.
    #[error("link `{0}` is above itself; a robot is a tree of links")]
    Circle(String),
    /// A joint on the way is of a kind that no motor drives.
    #[error(
        "joint `{joint}` is {kind}; between base and tip a joint is revolute, continuous, prismatic or fixed"
    )]
    Kind {
        /// The joint.
        joint: String,
        /// What it is.
        kind: &'static str,
    },
    /// A joint on the way follows another one.
    #[error(
        "joint `{joint}` mimics `{of}`; it cannot be moved by itself, so take a tip above it or a base below it"
    )]
    Mimic {
        /// The joint.
        joint: String,
        /// Whom it follows.
        of: String,
    },
    /// A joint on the way has no limits, or none that are a range.
    #[error(
        "joint `{joint}` goes from {lower} to {upper}, which is no range; give it <limit lower=… upper=…>, or make \
         it fixed"
    )]
    Limits {
        /// The joint.
        joint: String,
        /// What stands there, or 0 where nothing does.
        lower: f64,
        /// Likewise.
        upper: f64,
    },
    /// A joint's axis has no direction.
    #[error(
        "joint `{0}` has an axis without a direction; three numbers that are not all 0 are one"
    )]
    Axis(String),
    /// A joint's place is not of finite numbers.
    #[error("joint `{0}` has an origin that is not of finite numbers")]
    Origin(String),
    /// Nothing moves between base and tip.
    #[error(
        "nothing moves between link `{base}` and link `{tip}`; name links with the arm's joints between them"
    )]
    NoJoint {
        /// Where the chain was to begin.
        base: String,
        /// … and to end.
        tip: String,
    },
    /// Too much moves between base and tip.
    #[error(
        "{} joints move between base and tip ({}); an arm has at most {MAX_JOINTS}, so name a base or a tip that \
         is nearer", .0.len(), .0.join(", ")
    )]
    TooMany(Vec<String>),
    /// The joints make no chain.
    #[error(transparent)]
    Chain(#[from] ChainError),
}

impl Chain {
    /// The chain from link `base` to link `tip` of the robot that a URDF describes; `base`'s frame is
    /// the chain's base, `tip`'s its tool.
    ///
    /// A continuous joint gets the limits ±π: that is what the servos that turn endlessly report, and
    /// a solution does not go round the back of it.
    ///
    /// # Errors
    /// [`UrdfError`] names the link or joint that is to blame, and what would be right.
    pub fn from_urdf(text: &str, base: &str, tip: &str) -> Result<Self, UrdfError> {
        check_xml(text)?;
        let robot = urdf_rs::read_from_string(text).map_err(|e| UrdfError::Form(e.to_string()))?;
        let mut joints = Vec::new();
        let mut names = Vec::new();
        // From what moved last (the base, at first) to the link that the way has come to.
        let mut last_from_link = Isometry3::identity();
        for joint in way(&robot, base, tip)? {
            last_from_link *= origin(joint)?;
            let Some(kind) = kind(joint)? else {
                continue;
            };
            let (lower, upper) = limits(joint)?;
            joints.push(Joint {
                parent_from_joint: last_from_link,
                axis: axis(joint)?,
                kind,
                lower,
                upper,
            });
            names.push(joint.name.clone());
            last_from_link = Isometry3::identity();
        }
        match joints.len() {
            0 => Err(UrdfError::NoJoint {
                base: base.into(),
                tip: tip.into(),
            }),
            n if n > MAX_JOINTS => Err(UrdfError::TooMany(names)),
            _ => Ok(Self::new(joints, last_from_link)?),
        }
    }
}

/// Errors with their line, and no deeper than a parser that recurses can bear.
fn check_xml(text: &str) -> Result<(), UrdfError> {
    let mut reader = Reader::from_str(text);
    let mut depth = 0usize;
    loop {
        let event = reader.read_event();
        let line = |at: u64| {
            let at = usize::try_from(at).unwrap_or(usize::MAX).min(text.len());
            1 + text.as_bytes()[..at]
                .iter()
                .filter(|&&b| b == b'\n')
                .count()
        };
        match event {
            Ok(Event::Start(_)) if depth == MAX_DEPTH => {
                return Err(UrdfError::Xml {
                    line: line(reader.buffer_position()),
                    problem: format!("elements are nested more than {MAX_DEPTH} deep"),
                });
            }
            Ok(Event::Start(_)) => depth += 1,
            Ok(Event::End(_)) => depth = depth.saturating_sub(1),
            Ok(Event::Eof) => return Ok(()),
            Ok(_) => {}
            Err(error) => {
                return Err(UrdfError::Xml {
                    line: line(reader.error_position()),
                    problem: error.to_string(),
                });
            }
        }
    }
}

/// The joints from `base` down to `tip`.
fn way<'a>(robot: &'a Robot, base: &str, tip: &str) -> Result<Vec<&'a urdf_rs::Joint>, UrdfError> {
    for name in [base, tip] {
        if !robot.links.iter().any(|link| link.name == name) {
            let names: Vec<&str> = robot.links.iter().map(|link| link.name.as_str()).collect();
            return Err(UrdfError::NoLink {
                name: name.into(),
                links: names.join(", "),
            });
        }
    }
    let mut way = Vec::new();
    let mut link = tip;
    while link != base {
        let mut above = robot.joints.iter().filter(|joint| joint.child.link == link);
        let Some(joint) = above.next() else {
            return Err(UrdfError::NotBelow {
                base: base.into(),
                tip: tip.into(),
                root: link.into(),
            });
        };
        if let Some(second) = above.next() {
            return Err(UrdfError::TwoParents {
                link: link.into(),
                first: joint.name.clone(),
                second: second.name.clone(),
            });
        }
        if way.len() == robot.joints.len() {
            return Err(UrdfError::Circle(link.into()));
        }
        way.push(joint);
        link = &joint.parent.link;
    }
    way.reverse();
    Ok(way)
}

/// How a joint moves; `None` if it does not.
fn kind(joint: &urdf_rs::Joint) -> Result<Option<JointKind>, UrdfError> {
    let refused = |kind| {
        Err(UrdfError::Kind {
            joint: joint.name.clone(),
            kind,
        })
    };
    let kind = match joint.joint_type {
        JointType::Fixed => return Ok(None),
        JointType::Revolute | JointType::Continuous => JointKind::Revolute,
        JointType::Prismatic => JointKind::Prismatic,
        JointType::Floating => return refused("floating"),
        JointType::Planar => return refused("planar"),
        JointType::Spherical => return refused("spherical"),
    };
    match &joint.mimic {
        Some(mimic) => Err(UrdfError::Mimic {
            joint: joint.name.clone(),
            of: mimic.joint.clone(),
        }),
        None => Ok(Some(kind)),
    }
}

/// Lowest and highest value.
fn limits(joint: &urdf_rs::Joint) -> Result<(f64, f64), UrdfError> {
    if joint.joint_type == JointType::Continuous {
        return Ok((-PI, PI));
    }
    // What is not given is read as 0.
    let (lower, upper) = (joint.limit.lower, joint.limit.upper);
    if lower.is_finite() && upper.is_finite() && lower < upper {
        return Ok((lower, upper));
    }
    Err(UrdfError::Limits {
        joint: joint.name.clone(),
        lower,
        upper,
    })
}

fn axis(joint: &urdf_rs::Joint) -> Result<Unit<Vector3<f64>>, UrdfError> {
    let axis = Vector3::from(*joint.axis.xyz);
    let direction = Unit::try_new(axis, 1e-6).filter(|axis| axis.iter().all(|v| v.is_finite()));
    direction.ok_or_else(|| UrdfError::Axis(joint.name.clone()))
}

/// The joint's frame in its parent link's: a shift, then turns about the parent's x, y and z.
fn origin(joint: &urdf_rs::Joint) -> Result<Isometry3<f64>, UrdfError> {
    let (xyz, rpy) = (joint.origin.xyz, joint.origin.rpy);
    if !xyz.iter().chain(rpy.iter()).all(|v| v.is_finite()) {
        return Err(UrdfError::Origin(joint.name.clone()));
    }
    Ok(Isometry3::from_parts(
        Translation3::from(Vector3::from(*xyz)),
        UnitQuaternion::from_euler_angles(rpy[0], rpy[1], rpy[2]),
    ))
}
