//! A 64-bit hash over what went into and came out of a tick, for telling whether two runs are the
//! same bit for bit. Word by word with SplitMix64's finaliser: no defence against a person, but one
//! changed bit changes it, and a tick's few hundred words take less than a microsecond.

use hilt_drivers::{ArmError, ArmState};
use hilt_protocol::{GripperCommand, JointVector, noise::mix};

use super::{
    faults::Fault,
    machine::Mode,
    step::{ControlInputs, Order, Sending, Targets},
};
use crate::tick::Outcome;

/// The hash in the making.
#[derive(Clone, Copy, Debug)]
pub(super) struct Hash64(u64);

/// The hash of some bytes.
pub fn hash_bytes(bytes: &[u8]) -> u64 {
    let mut hash = Hash64::from(0);
    hash.bytes(bytes);
    hash.finish()
}

impl From<u64> for Hash64 {
    fn from(seed: u64) -> Self {
        Self(seed)
    }
}

impl Hash64 {
    pub(super) fn finish(self) -> u64 {
        self.0
    }

    fn word(&mut self, word: u64) {
        self.0 = mix(self.0.rotate_left(5).wrapping_add(0x9e37_79b9_7f4a_7c15) ^ word);
    }

    /// A tag before what may be absent, so that neighbours cannot be taken for each other.
    fn some<T>(&mut self, value: Option<T>) -> Option<T> {
        self.word(u64::from(value.is_some()));
        value
    }

    pub(super) fn bytes(&mut self, bytes: &[u8]) {
        self.word(bytes.len() as u64);
        for chunk in bytes.chunks(8) {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            self.word(u64::from_le_bytes(word));
        }
    }

    fn joints(&mut self, joints: &JointVector) {
        self.word(joints.as_slice().len() as u64);
        for q in joints.as_slice() {
            self.word(q.to_bits());
        }
    }

    fn gripper(&mut self, gripper: GripperCommand) {
        self.word(u64::from(gripper == GripperCommand::Closed));
    }

    fn targets(&mut self, targets: &Targets) {
        for target in targets {
            if let Some((joints, gripper)) = self.some(target.as_ref()) {
                self.joints(joints);
                self.gripper(*gripper);
            }
        }
    }

    pub(super) fn error(&mut self, error: Option<ArmError>) {
        if let Some(error) = self.some(error) {
            self.bytes(&error.to_bytes());
        }
    }

    fn fault(&mut self, fault: Option<Fault>) {
        if let Some(fault) = self.some(fault) {
            self.word(fault.kind as u64);
            self.word(u64::from(fault.place));
            self.error(fault.error);
        }
    }

    fn state(&mut self, state: &ArmState) {
        self.word(state.captured_ns);
        self.joints(&state.joints);
        self.joints(&state.velocities);
        self.word(state.gripper_width_m.to_bits());
        self.error(state.trouble);
    }

    fn order(&mut self, order: &Order) {
        self.word(order.written_ns);
        self.word(order.wish as u64);
        if let Some(command) = self.some(order.command.as_ref()) {
            self.word(command.sequence);
            self.word(command.activate_ns);
            self.targets(&command.arms);
        }
        self.fault(order.fault);
        self.word(order.resets);
    }

    pub(super) fn inputs(&mut self, inputs: &ControlInputs) {
        self.word(inputs.now_ns);
        self.order(&inputs.order);
        for report in &inputs.reports {
            match self.some(report.as_ref()) {
                Some(Ok(state)) => self.state(state),
                Some(Err(error)) => self.error(Some(*error)),
                None => {}
            }
        }
        for frame_ns in inputs.frames_ns {
            self.word(frame_ns);
        }
        self.word(u64::from(inputs.overtaken));
    }

    pub(super) fn outputs(
        &mut self,
        mode: Mode,
        fault: Option<Fault>,
        sending: &Sending,
        outcome: Outcome,
    ) {
        self.word(mode as u64);
        self.fault(fault);
        match sending {
            Sending::Nothing => self.word(0),
            Sending::Stop => self.word(1),
            Sending::Start => self.word(2),
            Sending::Targets(targets) => {
                self.word(3);
                self.targets(targets);
            }
        }
        self.word(outcome as u64);
    }
}
