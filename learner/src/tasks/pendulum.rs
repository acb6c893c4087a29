//! Gymnasium's `Pendulum-v1`: a rod on a motor that is too weak to lift it at once.

use std::f64::consts::{PI, TAU};

use hilt_protocol::noise::Uniforms;

use super::{Outcome, PictureError, Task};

/// Its name in Gymnasium.
pub const ID: &str = "Pendulum-v1";

const GRAVITY_M_S2: f64 = 10.0;
const MASS_KG: f64 = 1.0;
const LENGTH_M: f64 = 1.0;
const STEP_S: f64 = 0.05;
const MOST_SPEED_RAD_S: f64 = 8.0;
const MOST_TORQUE_NM: f64 = 2.0;
const EPISODE_STEPS: u32 = 200;

// Colours of its picture, RGB.
const GROUND: [f64; 3] = [245.0, 245.0, 245.0];
const ROD: [f64; 3] = [204.0, 77.0, 77.0];
const AXLE: [f64; 3] = [30.0, 30.0, 30.0];

/// The rod, upright at angle 0. Observations: cos, sin and speed, in rad/s; the action: torque, 1 being 2 N·m.
#[derive(Clone, Debug, Default)]
pub struct Pendulum {
    angle_rad: f64,
    speed_rad_s: f64,
    steps: u32,
}

impl Pendulum {
    fn observation(&self) -> Vec<f64> {
        vec![self.angle_rad.cos(), self.angle_rad.sin(), self.speed_rad_s]
    }
}

impl Task for Pendulum {
    fn id(&self) -> &'static str {
        ID
    }

    fn observations(&self) -> usize {
        3
    }

    fn actions(&self) -> usize {
        1
    }

    fn most_steps(&self) -> u32 {
        EPISODE_STEPS
    }

    fn step_s(&self) -> f64 {
        STEP_S
    }

    /// Any angle, up to 1 rad/s: Gymnasium's distribution, but not its numbers for a seed.
    fn reset(&mut self, seed: u64) -> Vec<f64> {
        let mut stream = Uniforms::new(seed);
        *self = Self {
            angle_rad: stream.range(-PI, PI),
            speed_rad_s: stream.range(-1.0, 1.0),
            steps: 0,
        };
        self.observation()
    }

    fn step(&mut self, action: &[f64]) -> Outcome {
        let torque = action[0].clamp(-1.0, 1.0) * MOST_TORQUE_NM;
        let away = (self.angle_rad + PI).rem_euclid(TAU) - PI;
        let cost = away.powi(2) + 0.1 * self.speed_rad_s.powi(2) + 0.001 * torque.powi(2);
        let by_gravity = 3.0 * GRAVITY_M_S2 / (2.0 * LENGTH_M) * self.angle_rad.sin();
        let by_motor = 3.0 / (MASS_KG * LENGTH_M.powi(2)) * torque;
        self.speed_rad_s = (self.speed_rad_s + (by_gravity + by_motor) * STEP_S)
            .clamp(-MOST_SPEED_RAD_S, MOST_SPEED_RAD_S);
        self.angle_rad += self.speed_rad_s * STEP_S;
        self.steps += 1;
        Outcome {
            observation: self.observation(),
            reward: -cost,
            terminated: false,
            truncated: self.steps >= EPISODE_STEPS,
        }
    }

    /// The rod before a plain ground, seven eighths of the smaller side from tip to tip of its circle.
    fn picture(&mut self, width: u32, height: u32) -> Result<Vec<u8>, PictureError> {
        if width == 0 || height == 0 {
            let reason = format!("a picture of {width}×{height} has no pixels");
            return Err(PictureError { id: ID, reason });
        }
        let scale_px = f64::from(width.min(height)) * 7.0 / 16.0;
        let tip = [-self.angle_rad.sin(), -self.angle_rad.cos()];
        let mut rgb = Vec::with_capacity(width as usize * height as usize * 3);
        for row in 0..height {
            for column in 0..width {
                // In lengths of the rod from its pivot, x to the right and y down.
                let along =
                    |pixel, side| (f64::from(pixel) + 0.5 - f64::from(side) / 2.0) / scale_px;
                let [x, y] = [along(column, width), along(row, height)];
                // How much of the pixel is covered by what ends so far from it.
                let covered = |distance: f64| (0.5 - distance * scale_px).clamp(0.0, 1.0);
                let on_rod = (x * tip[0] + y * tip[1]).clamp(0.0, 1.0);
                let rod = covered((x - on_rod * tip[0]).hypot(y - on_rod * tip[1]) - 0.1);
                let axle = covered(x.hypot(y) - 0.04);
                for channel in 0..3 {
                    let below = GROUND[channel] + (ROD[channel] - GROUND[channel]) * rod;
                    rgb.push((below + (AXLE[channel] - below) * axle) as u8);
                }
            }
        }
        Ok(rgb)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Steps that Gymnasium 1.x made: torque in N·m, then angle, speed and reward.
    #[test]
    fn it_moves_as_gymnasiums() {
        let mut pendulum = Pendulum {
            angle_rad: 2.5,
            speed_rad_s: -0.75,
            steps: 0,
        };
        for (torque, angle, speed, reward) in [
            (2.0, 2.49994271, -0.00114589192, -6.31025),
            (-1.0, 2.51482984, 0.29774264, -6.25071366),
            (0.5, 2.55546169, 0.8126371, -6.33348418),
            (-2.0, 2.60183637, 0.92749354, -6.60042237),
            // More than the motor has.
            (3.0, 2.68248331, 1.61293875, -6.85957692),
        ] {
            let outcome = pendulum.step(&[torque / MOST_TORQUE_NM]);
            let near = |a: f64, b: f64| assert!((a - b).abs() < 1e-7, "{a} {b}");
            near(pendulum.angle_rad, angle);
            near(pendulum.speed_rad_s, speed);
            near(outcome.reward, reward);
            near(outcome.observation[1], angle.sin());
        }
        // The fastest it goes; an angle beyond half a turn counts as the one it is.
        (pendulum.angle_rad, pendulum.speed_rad_s) = (0.1, 7.9);
        pendulum.step(&[1.0]);
        assert_eq!(pendulum.speed_rad_s, 8.0);
        (pendulum.angle_rad, pendulum.speed_rad_s) = (7.0, 1.0);
        let reward = pendulum.step(&[0.0]).reward;
        assert!((reward + 0.6138233038432241).abs() < 1e-12);
    }

    #[test]
    fn an_episode_is_cut_short_after_200_steps_and_the_same_for_a_seed() {
        let mut pendulum = Pendulum::default();
        let first = pendulum.reset(3);
        let cut = (1..).find(|_| pendulum.step(&[0.3]).truncated);
        assert_eq!(cut, Some(200));
        assert_eq!(pendulum.reset(3), first);
        assert_ne!(pendulum.reset(4), first);
        assert_eq!(first.len(), pendulum.observations());
    }

    #[test]
    fn its_picture_shows_where_the_rod_is() {
        let mut pendulum = Pendulum::default();
        let is_rod = |rgb: &[u8], row: usize, column: usize| {
            let at = (row * 64 + column) * 3;
            rgb[at..at + 3] == ROD.map(|channel| channel as u8)
        };
        let upright = pendulum.picture(64, 48).unwrap();
        assert_eq!(upright.len(), 64 * 48 * 3);
        assert!(is_rod(&upright, 10, 32) && !is_rod(&upright, 38, 32));
        // A positive angle is to the left, as in Gymnasium's.
        pendulum.angle_rad = PI / 2.0;
        let left = pendulum.picture(64, 48).unwrap();
        assert!(is_rod(&left, 24, 18) && !is_rod(&left, 10, 32));
        assert!(pendulum.picture(0, 48).is_err());
    }
}
