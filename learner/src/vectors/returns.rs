//! What an episode was worth from each of its steps on: Monte-Carlo returns, which Cal-QL holds the critics up by.

/// How returns are summed up.
///
/// An episode that was cut, by time or by the data's end, is worth what was seen of it: nothing is added for what
/// would have come (Cal-QL and CORL's `get_return_to_go` do the same). For rewards that are never negative that is a
/// lower bound, as Cal-QL wants it; for rewards of −1 until the goal it is the reverse, and [`Returns::sparse`] is
/// for those.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Returns {
    /// Of the next step's worth.
    pub discount: f64,
    /// The task gives one and the same reward until its goal ends the episode. An episode that did not terminate is
    /// then worth that reward for ever, r / (1 − discount), from each of its steps on (CORL's `is_sparse_reward`).
    pub sparse: bool,
}

impl Returns {
    /// From the rewards of one episode, in order, those from each step on \[steps\].
    pub fn to_go(self, rewards: &[f32], terminated: bool) -> Vec<f32> {
        if let Some(&last) = rewards.last()
            && self.sparse
            && !terminated
        {
            let for_ever = f64::from(last) / (1.0 - self.discount);
            return vec![for_ever as f32; rewards.len()];
        }
        let mut to_go = vec![0f32; rewards.len()];
        let mut after = 0f64;
        for (value, &reward) in to_go.iter_mut().zip(rewards).rev() {
            after = f64::from(reward) + self.discount * after;
            *value = after as f32;
        }
        to_go
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_is_worth_its_reward_and_the_rest_discounted() {
        let plain = Returns {
            discount: 0.5,
            sparse: false,
        };
        for terminated in [false, true] {
            assert_eq!(plain.to_go(&[1.0, 2.0, 4.0], terminated), [3.0, 4.0, 4.0]);
        }
        assert_eq!(plain.to_go(&[], false), [0f32; 0]);
    }

    #[test]
    fn a_sparse_failure_goes_on_for_ever() {
        let sparse = Returns {
            discount: 0.75,
            sparse: true,
        };
        assert_eq!(sparse.to_go(&[-1.0, -1.0], false), [-4.0, -4.0]);
        assert_eq!(sparse.to_go(&[-1.0, 0.0], true), [-1.0, 0.0]);
    }
}
