//! A Franka arm behind an HTTP server, as HIL-SERL's rigs have it: such a rig moves over without a
//! change at the robot.
//!
//! - [`Server`]: the routes, what they take and answer.
//! - [`open`] asks it where the arm and its tool are, and gives a [`RemoteArm`], whose thread sends
//!   poses and reads states. A second thread tells the gripper.
//!
//! The server takes poses of the tool, an [`Arm`](crate::Arm) takes joints: forward kinematics makes
//! one of the other. What the seven joints do while the tool is there, the robot's controller decides:
//! a joint may be some way off its target. Whatever ends here, the robot holds the last pose that it
//! was sent.

mod chain;
mod gripper;
mod server;

use gripper::Gripper;
use hilt_kinematics::Chain;
use hilt_protocol::JointVector;
use hilt_realtime::{Clock, Monotonic};
use nalgebra::{Isometry3, Translation3};
use serde::{Deserialize, Serialize};

use crate::{
    ArmError, ArmState,
    remote::{RemoteArm, RemoteCommand, RemoteDevice},
};

pub use chain::{JOINTS, chain};
pub use server::{Reported, Server, ServerError};

/// Which robot.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Model {
    /// Panda, also called Franka Emika Robot.
    #[default]
    Panda,
    /// Franka Research 3.
    Fr3,
}

/// The arm in the rig file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FrankaConfig {
    /// Its server, `http://HOST:PORT`.
    pub url: String,
    /// Which robot.
    #[serde(default)]
    pub model: Model,
    /// Metres between the fingers for 1 of the server's `gripper_pos`. The Franka Hand's is in metres;
    /// one that goes from 0 to 1 has its widest opening here.
    #[serde(default = "one")]
    pub gripper_unit_m: f64,
}

fn one() -> f64 {
    1.0
}

/// Why there is no arm.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The server.
    #[error(transparent)]
    Server(#[from] ServerError),
    /// What the robot reports belongs to no such arm.
    #[error(
        "the tool is {0:.2} m from the flange, as the robot reports it: is this a Franka, and its end effector set in its own configuration?"
    )]
    Tool(f64),
    /// The unit is none.
    #[error("franka.gripper_unit_m is {0}; it must be above 0 and at most 1 m")]
    Unit(f64),
    /// Kinematics or a thread.
    #[error("the arm's {0}")]
    Local(String),
}

/// No tool is longer, metres from the flange.
const LONGEST_TOOL_M: f64 = 0.6;
/// How often a server that has just been started is asked for its first state.
const FIRST_TRIES: usize = 4;

/// What does not answer for so long is gone, nanoseconds. Before that a state's age tells.
const GONE_NS: u64 = 500_000_000;
/// A state that has stood still to the last digit for so long, though the tool was sent on, is one
/// that the server does not get any more, nanoseconds.
const FROZEN_NS: u64 = 500_000_000;
/// "Sent on" by so much, metres or radians.
const SENT_ON: f64 = 0.003;
/// The reported pose may be so far from that of the reported joints, metres and radians: the server
/// may take the one from a message and the other from the next.
const APART_M: f64 = 0.05;
const APART_RAD: f64 = 0.3;

/// Asks the server where the arm and its tool are, and starts the threads. The arm is asked, and
/// sent on, once per `period_ns`, or as often as the server can.
pub fn open(config: &FrankaConfig, period_ns: u64) -> Result<RemoteArm, OpenError> {
    let unit_m = config.gripper_unit_m;
    if !(unit_m > 0.0 && unit_m <= 1.0) {
        return Err(OpenError::Unit(unit_m));
    }
    let server = Server::new(&config.url)?;
    let mut tries = 1;
    let reported = loop {
        match server.state() {
            Ok(reported) => break reported,
            Err(error) if tries == FIRST_TRIES => return Err(error.into()),
            Err(_) => tries += 1,
        }
    };
    let kinematics = chain_to(config.model, &reported)?;
    let local = |e: &dyn std::fmt::Display| OpenError::Local(e.to_string());
    let gripper = Gripper::start(server.clone()).map_err(|e| local(&e))?;
    let device = Franka {
        server,
        gripper,
        chain: kinematics.clone(),
        unit_m,
        to_clear: false,
        pending: None,
        sent: None,
        seen: None,
        trouble: false,
    };
    RemoteArm::start(kinematics, Box::new(device), period_ns).map_err(|e| local(&e))
}

/// The arm with the tool that it reports: which end effector the robot is configured with, only it
/// knows, and poses are of that.
fn chain_to(model: Model, reported: &Reported) -> Result<Chain, OpenError> {
    let local = |e: hilt_kinematics::ChainError| OpenError::Local(e.to_string());
    let to_flange = chain(model, &Isometry3::identity()).map_err(local)?;
    let base_from_flange = to_flange.base_from_tool(&reported.joints);
    let flange_from_tool = base_from_flange.inverse() * reported.base_from_tool;
    let length_m = flange_from_tool.translation.vector.norm();
    if length_m > LONGEST_TOOL_M {
        return Err(OpenError::Tool(length_m));
    }
    chain(model, &flange_from_tool).map_err(local)
}

/// The newest state.
#[derive(Clone, Copy)]
struct Seen {
    reported: Reported,
    state: ArmState,
    /// When it was first reported just so.
    since_ns: u64,
    /// Where the tool was sent then.
    sent: Option<Isometry3<f64>>,
    /// When the tool was first sent on since then.
    sent_on_ns: Option<u64>,
}

/// The robot, as its thread sees it.
struct Franka {
    server: Server,
    gripper: Gripper,
    chain: Chain,
    unit_m: f64,
    /// The robot's errors are to be cleared before it is sent anywhere.
    to_clear: bool,
    /// A pose that the server has not taken yet.
    pending: Option<Isometry3<f64>>,
    sent: Option<Isometry3<f64>>,
    seen: Option<Seen>,
    /// The last exchange failed, and that was told.
    trouble: bool,
}

impl Franka {
    fn talk(&mut self) -> Result<(), String> {
        if self.to_clear {
            self.server.clear_errors().map_err(|e| e.to_string())?;
            self.to_clear = false;
        }
        if let Some(pose) = self.pending {
            self.server.pull_to(&pose).map_err(|e| e.to_string())?;
            (self.sent, self.pending) = (Some(pose), None);
        }
        // The earliest that what comes can be of.
        let captured_ns = Monotonic.now_ns();
        let reported = self.server.state().map_err(|e| e.to_string())?;
        self.see(reported, captured_ns)
    }

    fn see(&mut self, reported: Reported, now_ns: u64) -> Result<(), String> {
        let pose = self.chain.base_from_tool(&reported.joints);
        let [apart_m, apart_rad] = apart(&pose, &reported.base_from_tool);
        if apart_m > APART_M || apart_rad > APART_RAD {
            return Err(format!(
                "the tool is reported {apart_m:.3} m and {apart_rad:.3} rad from where these joints \
                 have it: the end effector was changed, or this is no Franka"
            ));
        }
        let vector = |values: &[f64]| {
            JointVector::from_slice(values).ok_or_else(|| "it has too many joints".to_owned())
        };
        let state = ArmState {
            captured_ns: now_ns,
            joints: vector(&reported.joints)?,
            velocities: vector(&reported.velocities)?,
            gripper_width_m: reported.gripper * self.unit_m,
            trouble: None,
        };
        let mut seen = match self.seen.filter(|before| before.reported == reported) {
            Some(before) => Seen { state, ..before },
            None => Seen {
                reported,
                state,
                since_ns: now_ns,
                sent: self.sent,
                sent_on_ns: None,
            },
        };
        let sent_on = match (seen.sent, self.sent) {
            (Some(then), Some(now)) => apart(&then, &now).into_iter().any(|by| by > SENT_ON),
            (None, Some(now)) => apart(&pose, &now).into_iter().any(|by| by > SENT_ON),
            _ => false,
        };
        if sent_on {
            seen.sent_on_ns.get_or_insert(now_ns);
        }
        let frozen_ns = seen
            .sent_on_ns
            .map_or(0, |since_ns| now_ns.saturating_sub(since_ns));
        if frozen_ns > FROZEN_NS {
            let s = now_ns.saturating_sub(seen.since_ns) as f64 * 1e-9;
            return Err(format!(
                "the server has reported one and the same state for {s:.1} s, though the tool was \
                 sent on: it does not hear the robot any more, or the robot stands in an error"
            ));
        }
        self.seen = Some(seen);
        Ok(())
    }
}

/// How far apart: metres and radians.
fn apart(a: &Isometry3<f64>, b: &Isometry3<f64>) -> [f64; 2] {
    let shift: Translation3<f64> = a.translation.inverse() * b.translation;
    [shift.vector.norm(), a.rotation.angle_to(&b.rotation)]
}

impl RemoteDevice for Franka {
    fn start(&mut self) {
        self.to_clear = true;
    }

    fn exchange(&mut self, command: Option<RemoteCommand>) -> Result<ArmState, ArmError> {
        match command {
            Some(RemoteCommand::Target(joints, gripper)) => {
                self.pending = Some(self.chain.base_from_tool(joints.as_slice()));
                self.gripper.want(gripper);
            }
            // It holds where it was sent last; what it was not sent yet it need not go to.
            Some(RemoteCommand::Hold) => {
                self.pending = None;
                self.gripper.forget();
            }
            None => {}
        }
        let trouble = match self.talk() {
            Ok(()) => {
                self.trouble = false;
                self.gripper.failed()
            }
            Err(problem) => {
                if !std::mem::replace(&mut self.trouble, true) {
                    tracing::error!("{problem}");
                }
                true
            }
        };
        let state = self.seen.map(|seen| seen.state).ok_or(ArmError::Device)?;
        // One bad answer is none yet, a server that stays away is.
        if self.trouble && Monotonic.now_ns().saturating_sub(state.captured_ns) > GONE_NS {
            return Err(ArmError::Device);
        }
        let trouble = trouble.then_some(ArmError::Device);
        Ok(ArmState { trouble, ..state })
    }
}
