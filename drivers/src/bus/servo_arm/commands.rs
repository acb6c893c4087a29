//! From targets to bytes: all that an arm of servos commands, its wire apart.

use hilt_kinematics::Chain;
use hilt_protocol::{GripperCommand, JointVector};

use super::config::{MAX_SERVOS, ServoArmConfig, ServoArmConfigError};
use crate::{
    ArmError,
    arm::check_target,
    bus::{Family, Register, Request},
};

/// Bytes of a sync write of all goals, in the longer protocol: no goal has to be stuffed.
const GOALS_BYTES: usize = 14 + MAX_SERVOS * ENTRY_BYTES;
const ENTRY_BYTES: usize = 5;

/// Room for what was written since the last read.
const SENT_BYTES: usize = 8 * GOALS_BYTES;

/// A bounded record of what was written.
struct Sent {
    bytes: [u8; SENT_BYTES],
    len: usize,
}

impl Sent {
    /// Whole frames only. Where there is no more room, the record begins anew with this one.
    fn push(&mut self, frame: &[u8]) {
        if self.len + frame.len() > SENT_BYTES {
            self.len = 0;
        }
        self.bytes[self.len..self.len + frame.len()].copy_from_slice(frame);
        self.len += frame.len();
    }
}

/// A frame that holds the arm: a sync write of goals.
#[derive(Clone, Copy)]
pub(crate) struct Goals {
    bytes: [u8; GOALS_BYTES],
    len: usize,
}

impl Goals {
    const NONE: Self = Self {
        bytes: [0; GOALS_BYTES],
        len: 0,
    };

    /// For each servo its id and goal, counts.
    pub fn new(family: Family, goals: impl Iterator<Item = (u8, i32)>) -> Self {
        Self::of(family, family.table().goal, goals)
    }

    /// For each servo its id and what goes to this register.
    pub fn of(family: Family, register: Register, values: impl Iterator<Item = (u8, i32)>) -> Self {
        let entry_bytes = 1 + usize::from(register.bytes);
        let (mut data, mut room) = ([0; MAX_SERVOS * ENTRY_BYTES], [0; 4]);
        let mut used = 0;
        for (entry, (id, value)) in data.chunks_exact_mut(entry_bytes).zip(values) {
            entry[0] = id;
            entry[1..].copy_from_slice(register.encoded(value, &mut room));
            used += entry_bytes;
        }
        let request = Request::SyncWrite {
            address: register.address.into(),
            count: register.bytes.into(),
            data: &data[..used],
        };
        let mut out = Self::NONE;
        // The buffer is as long as the frame of the most servos.
        let len = family.protocol().encode(&request, &mut out.bytes);
        out.len = len.unwrap_or(0);
        out
    }

    /// From a frame that was made before; what is too long for one is none.
    pub fn from_frame(frame: &[u8]) -> Self {
        let mut out = Self::NONE;
        if let Some(bytes) = out.bytes.get_mut(..frame.len()) {
            bytes.copy_from_slice(frame);
            out.len = frame.len();
        }
        out
    }

    pub fn frame(&self) -> &[u8] {
        &self.bytes[..self.len]
    }
}

/// What an arm of servos was told, and what it makes of the next target.
pub(crate) struct Commands {
    chain: Chain,
    config: ServoArmConfig,
    goals: Goals,
    started: bool,
    sent: Sent,
}

impl Commands {
    /// Of an arm that was not started.
    pub fn new(chain: Chain, config: ServoArmConfig) -> Result<Self, ServoArmConfigError> {
        config.check(&chain)?;
        Ok(Self {
            chain,
            config,
            goals: Goals::NONE,
            started: false,
            sent: Sent {
                bytes: [0; SENT_BYTES],
                len: 0,
            },
        })
    }

    pub fn chain(&self) -> &Chain {
        &self.chain
    }

    pub fn config(&self) -> &ServoArmConfig {
        &self.config
    }

    pub fn is_started(&self) -> bool {
        self.started
    }

    /// The goals for a target, which is checked.
    pub fn target(&self, joints: &JointVector, gripper: GripperCommand) -> Result<Goals, ArmError> {
        if !self.started {
            return Err(ArmError::Stopped);
        }
        check_target(&self.chain, joints)?;
        let servos = self.config.joints.iter().zip(joints.as_slice());
        let goals = servos.map(|(servo, radians)| (servo.id, servo.goal(*radians)));
        let fingers = (self.config.gripper.id, self.config.gripper.goal(gripper));
        Ok(Goals::new(self.config.family, goals.chain([fingers])))
    }

    /// It takes targets from now on, and holds these goals.
    pub fn start(&mut self, goals: Goals) {
        (self.goals, self.started) = (goals, true);
    }

    /// It takes no targets any more; what it is told instead: its last goals once more. Not where
    /// it is: it would sag below that.
    pub fn stop(&mut self) -> Option<Goals> {
        self.started = false;
        (self.goals.len > 0).then_some(self.goals)
    }

    /// These goals are on the wire: they hold the arm now.
    pub fn wrote(&mut self, goals: Goals) {
        self.sent.push(goals.frame());
        self.goals = goals;
    }

    /// What has gone to the wire from now on is to be told.
    pub fn forget_sent(&mut self) {
        self.sent.len = 0;
    }

    pub fn sent(&self) -> &[u8] {
        &self.sent.bytes[..self.sent.len]
    }

    pub fn will(&self) -> &[u8] {
        self.goals.frame()
    }
}
