//! How an episode begins.

/// Where cube and arm are when an episode begins.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Start {
    /// The cube's place on the table, metres in the arm's base frame.
    pub cube_xy_m: [f64; 2],
    /// The cube's turn about z, radians.
    pub cube_yaw_rad: f64,
    /// The tool's offset from home (above the centre of the work area), metres.
    pub home_offset_m: [f64; 3],
}
