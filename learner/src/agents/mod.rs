//! One file per algorithm. An algorithm never opens a socket, never knows the robot and never
//! prints; it turns batches into better parameters and says how it went.

pub mod sac_grasp;
