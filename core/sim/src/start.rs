//! How an episode begins.

use hilt_protocol::noise::{Uniforms, mix};

use crate::scene::CENTRE_XY_M;

/// Where cube and arm are when an episode begins.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Start {
    /// The cube's place on the table, metres in the arm's base frame.
    pub cube_xy_m: [f64; 2],
    /// The cube's turn about z, radians.
    pub cube_yaw_rad: f64,
    /// The tool's offset from home (above [`CENTRE_XY_M`]), metres.
    pub home_offset_m: [f64; 3],
}

impl Default for Start {
    /// The cube in the centre, the tool at home.
    fn default() -> Self {
        Self {
            cube_xy_m: CENTRE_XY_M,
            cube_yaw_rad: 0.0,
            home_offset_m: [0.0; 3],
        }
    }
}

/// The start of a seed: the cube anywhere in a square with side `range_m` about the centre, at any
/// yaw of its symmetry (±45°); the tool within ±3 cm of home on each axis.
pub fn random_start(range_m: f64, seed: u64) -> Start {
    // Mixed, so that the streams of neighbouring seeds do not overlap.
    let mut uniforms = Uniforms::new(mix(seed ^ 0x7374_6172_7400));
    let half = range_m / 2.0;
    Start {
        cube_xy_m: CENTRE_XY_M.map(|centre| centre + uniforms.range(-half, half)),
        cube_yaw_rad: uniforms.range(-std::f64::consts::FRAC_PI_4, std::f64::consts::FRAC_PI_4),
        home_offset_m: std::array::from_fn(|_| uniforms.range(-0.03, 0.03)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn starts_fill_their_range_and_repeat() {
        let starts: Vec<Start> = (0..500).map(|seed| random_start(0.2, seed)).collect();
        for (seed, start) in starts.iter().enumerate() {
            assert_eq!(*start, random_start(0.2, seed as u64));
            for (xy, centre) in start.cube_xy_m.iter().zip(CENTRE_XY_M) {
                assert!((xy - centre).abs() < 0.1);
            }
            assert!(start.cube_yaw_rad.abs() < std::f64::consts::FRAC_PI_4);
            assert!(start.home_offset_m.iter().all(|d| d.abs() < 0.03));
        }
        for quadrant in 0..4 {
            let sign = |bit: usize| if quadrant >> bit & 1 == 1 { 1.0 } else { -1.0 };
            let far = starts
                .iter()
                .filter(|s| (0..2).all(|i| (s.cube_xy_m[i] - CENTRE_XY_M[i]) * sign(i) > 0.05));
            // One in sixteen lands in each outer corner.
            assert!(far.count() > 15, "quadrant {quadrant}");
        }
    }
}
