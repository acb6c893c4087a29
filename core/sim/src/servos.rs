//! Servos that are not part of the simulation.

/// Where a joint is, radians, and how fast it moves, rad/s.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Motion {
    /// Radians.
    pub position: f64,
    /// rad/s.
    pub velocity: f64,
}

/// Servos whose minds are elsewhere, on an emulated bus: they are asked before each physics step
/// where they hold their joints, and told after it where those are. In the order of the joints, base
/// to tip, the gripper's last.
pub trait Servos: Send {
    /// Each servo's goal, radians; `None`: it has no torque, and its joint goes where it falls.
    fn goals(&mut self, goals: &mut [Option<f64>]);

    /// Where the joints are now.
    fn moved(&mut self, motions: &[Motion]);
}
