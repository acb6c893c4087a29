//! Drives a rig by hand: no policy, no recording. For getting to know an arm, its reach and its
//! limits before anything is recorded.

use std::sync::atomic::{AtomicBool, Ordering};

use hilt_drivers::{ArmState, EpisodeStart, Teleop, TeleopEvent};
use hilt_protocol::{GripperCommand, Image, noise::mix};
use nalgebra::Vector3;

use crate::{
    cell::{Cell, CellError},
    decision::intent_action,
    pace::Pace,
    rig::Rig,
    safety::LimitsHit,
    session::{SessionError, fresh},
};

/// One arm after a step.
#[derive(Clone, Debug, PartialEq)]
pub struct ArmView {
    /// What it reports.
    pub state: ArmState,
    /// Its tool in its base frame, metres.
    pub tool_m: Vector3<f64>,
    /// What its gripper was told.
    pub gripper: GripperCommand,
    /// What held the last action back.
    pub limits: LimitsHit,
}

/// The rig after a step.
#[derive(Clone, Debug, PartialEq)]
pub struct View {
    /// Steps so far.
    pub steps: u64,
    /// Resets after the first.
    pub resets: u64,
    /// Its arms, in the order of the action.
    pub arms: Vec<ArmView>,
    /// The cameras' frames.
    pub images: Vec<Image>,
    /// Whether the task is done, where a simulator knows.
    pub done: Option<bool>,
}

impl View {
    /// In words, a line per arm.
    pub fn words(&self) -> String {
        let mut words = format!("step {}, {} resets", self.steps, self.resets);
        if self.done == Some(true) {
            words += ", the task is done";
        }
        for (number, arm) in self.arms.iter().enumerate() {
            let (tool, state) = (&arm.tool_m, &arm.state);
            let joints: Vec<String> = (state.joints.as_slice().iter())
                .map(|q| format!("{q:.2}"))
                .collect();
            let told = match arm.gripper {
                GripperCommand::Open => "open",
                GripperCommand::Closed => "closed",
            };
            words += &format!(
                "\narm {number}: tool x {:.3} y {:.3} z {:.3} m; joints {} rad; gripper {told}, \
                 {:.0} mm; limits hit: {}",
                tool.x,
                tool.y,
                tool.z,
                joints.join(" "),
                1000.0 * state.gripper_width_m,
                match arm.limits.names() {
                    none if none.is_empty() => "none".to_owned(),
                    names => names.join(", "),
                }
            );
        }
        words
    }
}

/// Drives until the person, or `stop`, ends it; `show` sees the rig after every step. Success,
/// failure and "throw away" reset the rig. Returns the steps driven.
pub fn teleoperate(
    rig: &Rig,
    cell: &mut Cell,
    teleop: &mut dyn Teleop,
    pace: &mut Pace,
    seed: u64,
    stop: &AtomicBool,
    mut show: impl FnMut(&View),
) -> Result<u64, SessionError> {
    let (mut steps, mut resets) = (0, 0);
    loop {
        let start = EpisodeStart {
            range_m: rig.episode.range_m,
            seed: mix(seed ^ mix(0x6472_6976_6500 + resets)),
        };
        cell.reset(start)?;
        teleop.begin_episode(start.seed);
        loop {
            pace.wait();
            if stop.load(Ordering::Relaxed) {
                return Ok(steps);
            }
            let now_ns = cell.now_ns();
            let action = match teleop.intent(now_ns)? {
                Some(intent) => {
                    fresh(&intent, now_ns, cell.oldest_intent_ns())?;
                    intent_action(&intent, cell.spec())
                }
                None => vec![0.0; cell.spec().action_dim()],
            };
            let executed = match cell.step(&action) {
                // The arms are held until the input is fit again, which the reset waits for.
                Err(error @ (CellError::Held(_) | CellError::Camera(_))) => {
                    tracing::warn!("{error}");
                    break;
                }
                executed => executed?,
            };
            steps += 1;
            show(&View {
                steps,
                resets,
                arms: views(cell, &executed.limits)?,
                images: executed.next.images,
                done: cell.truth().map(|truth| truth.lifted),
            });
            match teleop.event()? {
                None => {}
                Some(TeleopEvent::Stop) => return Ok(steps),
                Some(TeleopEvent::Success | TeleopEvent::Failure | TeleopEvent::Rerecord) => break,
            }
        }
        resets += 1;
    }
}

fn views(cell: &mut Cell, limits: &[LimitsHit]) -> Result<Vec<ArmView>, CellError> {
    let states = cell.arm_states()?;
    let arms = states.into_iter().zip(cell.tools()).zip(limits);
    Ok(arms
        .map(|((state, (chain, gripper)), &limits)| ArmView {
            tool_m: chain
                .base_from_tool(state.joints.as_slice())
                .translation
                .vector,
            state,
            gripper,
            limits,
        })
        .collect())
}
