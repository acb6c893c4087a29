//! What Gymnasium's tasks of one kind differ in, and what they pay: `hopper_v4.py` to `walker2d_v5.py` of its
//! package, release 1.4.0.

/// What ends an episode early, and what it pays not to be there yet.
pub(super) struct Health {
    /// Where the torso's height is kept, metres; the bounds do not belong to it.
    pub height_m: (f64, f64),
    /// Where its pitch is kept, radians.
    pub pitch_rad: (f64, f64),
    /// What everything but place and height is kept within.
    pub most_of_others: Option<f64>,
    /// v4 pays for the step that ends the episode as well.
    pub last_step_pays: bool,
}

/// Distribution of the speeds at a start; the places' is uniform.
pub(super) enum Speeds {
    /// In ± the scale.
    Uniform,
    /// With the scale as standard deviation.
    Normal,
}

/// One task.
pub(super) struct Rules {
    pub id: &'static str,
    /// File of its MJCF.
    pub model: &'static str,
    /// Physics steps of an action.
    pub frame_skip: u32,
    /// Cost of an action per its square.
    pub effort_cost: f64,
    /// What observed speeds are cut to.
    pub most_speed: f64,
    pub health: Option<Health>,
    /// Scale of the noise of a start.
    pub noise: f64,
    pub speeds: Speeds,
}

/// An episode is cut short after so many steps.
pub(super) const EPISODE_STEPS: u32 = 1000;

const fn hopper(id: &'static str, last_step_pays: bool) -> Rules {
    Rules {
        id,
        model: "hopper.xml",
        frame_skip: 4,
        effort_cost: 1e-3,
        most_speed: 10.0,
        health: Some(Health {
            height_m: (0.7, f64::INFINITY),
            pitch_rad: (-0.2, 0.2),
            most_of_others: Some(100.0),
            last_step_pays,
        }),
        noise: 5e-3,
        speeds: Speeds::Uniform,
    }
}

const fn half_cheetah(id: &'static str) -> Rules {
    Rules {
        id,
        model: "half_cheetah.xml",
        frame_skip: 5,
        effort_cost: 0.1,
        most_speed: f64::INFINITY,
        health: None,
        noise: 0.1,
        speeds: Speeds::Normal,
    }
}

const fn walker2d(id: &'static str, model: &'static str, last_step_pays: bool) -> Rules {
    Rules {
        id,
        model,
        frame_skip: 4,
        effort_cost: 1e-3,
        most_speed: 10.0,
        health: Some(Health {
            height_m: (0.8, 2.0),
            pitch_rad: (-1.0, 1.0),
            most_of_others: None,
            last_step_pays,
        }),
        noise: 5e-3,
        speeds: Speeds::Uniform,
    }
}

/// The tasks that there are.
pub(super) const RULES: [Rules; 6] = [
    hopper("Hopper-v4", true),
    hopper("Hopper-v5", false),
    half_cheetah("HalfCheetah-v4"),
    half_cheetah("HalfCheetah-v5"),
    walker2d("Walker2d-v4", "walker2d.xml", true),
    // Both feet have the same friction there.
    walker2d("Walker2d-v5", "walker2d_v5.xml", false),
];

impl Rules {
    /// Every place but how far it has come, then every speed.
    pub fn observation(&self, qpos: &[f64], qvel: &[f64]) -> Vec<f64> {
        let speeds = qvel
            .iter()
            .map(|v| v.clamp(-self.most_speed, self.most_speed));
        qpos.iter().skip(1).copied().chain(speeds).collect()
    }

    /// What a step pays that ended here, and whether the episode ends with it. The order of the sums is the
    /// package's, so that not even the last bit differs.
    pub fn judge(&self, m_per_s: f64, action: &[f64], qpos: &[f64], qvel: &[f64]) -> (f64, bool) {
        let cost = self.effort_cost * action.iter().map(|a| a * a).sum::<f64>();
        let Some(health) = &self.health else {
            return (m_per_s - cost, false);
        };
        let healthy = health.is_kept(qpos, qvel);
        let paid = f64::from(u8::from(healthy || health.last_step_pays));
        (m_per_s + paid - cost, !healthy)
    }
}

impl Health {
    fn is_kept(&self, qpos: &[f64], qvel: &[f64]) -> bool {
        let within = |value: f64, (low, high): (f64, f64)| low < value && value < high;
        let mut others = qpos[2..].iter().chain(qvel);
        within(qpos[1], self.height_m)
            && within(qpos[2], self.pitch_rad)
            && (self.most_of_others).is_none_or(|most| others.all(|&x| within(x, (-most, most))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules(id: &str) -> &'static Rules {
        RULES.iter().find(|rules| rules.id == id).unwrap()
    }

    #[test]
    fn speeds_are_cut_where_gymnasium_cuts_them() {
        let speeds = [11.0, -12.0, 3.0];
        let seen = |id| rules(id).observation(&[5.0, 1.2, 0.1], &speeds);
        assert_eq!(seen("Hopper-v5"), [1.2, 0.1, 10.0, -10.0, 3.0]);
        assert_eq!(seen("HalfCheetah-v5"), [1.2, 0.1, 11.0, -12.0, 3.0]);
    }

    #[test]
    fn a_fall_ends_the_episode_and_only_v4_pays_for_it() {
        let judge =
            |id, height_m: f64| rules(id).judge(2.0, &[1.0, 0.0], &[0.0, height_m, 0.0], &[0.0]);
        assert_eq!(judge("Hopper-v5", 0.7), (2.0 - 1e-3, true));
        assert_eq!(judge("Hopper-v4", 0.7), (3.0 - 1e-3, true));
        assert_eq!(judge("Hopper-v5", 0.71), (3.0 - 1e-3, false));
        assert_eq!(judge("Walker2d-v5", 2.0), (2.0 - 1e-3, true));
        assert_eq!(judge("HalfCheetah-v5", 0.0), (1.9, false));
    }

    #[test]
    fn what_is_not_a_number_or_too_fast_ends_it_too() {
        let ends = |id, pitch_rad: f64, speed: f64| {
            rules(id)
                .judge(0.0, &[], &[0.0, 1.2, pitch_rad], &[speed])
                .1
        };
        assert!(!ends("Hopper-v5", 0.1, 99.0));
        assert!(ends("Hopper-v5", 0.1, -100.0));
        assert!(ends("Hopper-v5", 0.1, f64::NAN));
        assert!(ends("Hopper-v5", 0.2, 0.0));
        assert!(!ends("Walker2d-v5", 0.2, 100.0));
        assert!(ends("Walker2d-v5", f64::NAN, 0.0));
    }
}
