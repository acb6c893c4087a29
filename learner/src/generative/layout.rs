//! A transition as a row of numbers, as the diffusion model sees it: observation, action, reward, next observation,
//! whether the episode terminated. The order is SynthER's (`make_inputs`, with its modelled terminals).
//!
//! Shapes: B rows, O observation columns, A action columns, d = 2 O + A + 2.

use std::ops::Range;

use tch::Tensor;

use crate::agents::Transitions;

/// Where what stands in a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layout {
    /// O.
    pub observations: i64,
    /// A.
    pub actions: i64,
}

impl Layout {
    /// d.
    pub fn width(self) -> i64 {
        self.terminal() + 1
    }

    /// Columns of what was seen and done: the observation, then the action.
    pub fn inputs(self) -> Range<i64> {
        0..self.reward()
    }

    /// Columns of what came of it: the reward, then the next observation.
    pub fn outcomes(self) -> Range<i64> {
        self.reward()..self.terminal()
    }

    /// The column of the reward.
    pub fn reward(self) -> i64 {
        self.observations + self.actions
    }

    /// The column that says whether the episode terminated: the last.
    pub fn terminal(self) -> i64 {
        self.reward() + 1 + self.observations
    }

    /// What a column is, for people.
    pub fn name(self, column: i64) -> String {
        let (o, a) = (self.observations, self.actions);
        match column {
            c if c < o => format!("observation {c}"),
            c if c < o + a => format!("action {}", c - o),
            c if c == self.reward() => "reward".to_owned(),
            c if c < self.terminal() => format!("next observation {}", c - self.reward() - 1),
            _ => "terminal".to_owned(),
        }
    }

    /// Transitions as rows \[B, d\]. A terminal is 1, a time-out is none.
    pub fn rows(self, transitions: &Transitions) -> Tensor {
        let t = transitions;
        let column = |values: &Tensor| values.unsqueeze(1);
        let rows = Tensor::cat(
            &[
                &t.observations,
                &t.actions,
                &column(&t.rewards),
                &t.next_observations,
                &column(&(1.0 - &t.masks)),
            ],
            1,
        );
        assert_eq!(rows.size(), [t.rows(), self.width()]);
        rows
    }

    /// Rows \[B, d\] as transitions that an agent can learn from: a model's terminals lie anywhere about 0 and 1 and
    /// become one or the other, at a half; its actions are brought back to ±1. Returns are not known.
    pub fn transitions(self, rows: &Tensor) -> Transitions {
        assert_eq!(rows.size()[1], self.width());
        let part = |columns: Range<i64>| rows.narrow(1, columns.start, columns.end - columns.start);
        let o = self.observations;
        let reward = self.reward();
        let terminals = rows.select(1, self.terminal()).gt(0.5);
        Transitions {
            observations: part(0..o).contiguous(),
            actions: part(o..reward).clamp(-1.0, 1.0),
            rewards: rows.select(1, reward).contiguous(),
            next_observations: part(reward + 1..self.terminal()).contiguous(),
            masks: terminals.logical_not().to_kind(rows.kind()),
            returns: None,
        }
    }

    /// Rows \[B, d\] as they are once they were made transitions.
    pub fn settled(self, rows: &Tensor) -> Tensor {
        self.rows(&self.transitions(rows))
    }
}

#[cfg(test)]
mod tests {
    use tch::{Device, Kind};

    use super::*;

    const LAYOUT: Layout = Layout {
        observations: 3,
        actions: 2,
    };

    fn transitions() -> Transitions {
        let options = (Kind::Float, Device::Cpu);
        Transitions {
            observations: Tensor::randn([4, 3], options),
            actions: Tensor::rand([4, 2], options) * 2.0 - 1.0,
            rewards: Tensor::randn([4], options),
            next_observations: Tensor::randn([4, 3], options),
            masks: Tensor::from_slice(&[1f32, 0.0, 1.0, 1.0]),
            returns: None,
        }
    }

    #[test]
    fn a_transition_that_became_a_row_comes_back_as_it_was() {
        let before = transitions();
        let rows = LAYOUT.rows(&before);
        assert_eq!(rows.size(), [4, LAYOUT.width()]);
        assert_eq!(LAYOUT.width(), 10);
        let after = LAYOUT.transitions(&rows);
        assert_eq!(after.observations, before.observations);
        assert_eq!(after.actions, before.actions);
        assert_eq!(after.rewards, before.rewards);
        assert_eq!(after.next_observations, before.next_observations);
        assert_eq!(after.masks, before.masks);
        assert_eq!(LAYOUT.settled(&rows), rows);
    }

    #[test]
    fn columns_have_the_names_of_what_stands_in_them() {
        let names = Vec::from_iter((0..LAYOUT.width()).map(|column| LAYOUT.name(column)));
        assert_eq!(
            names,
            [
                "observation 0",
                "observation 1",
                "observation 2",
                "action 0",
                "action 1",
                "reward",
                "next observation 0",
                "next observation 1",
                "next observation 2",
                "terminal"
            ]
        );
        assert_eq!(LAYOUT.inputs(), 0..5);
        assert_eq!(LAYOUT.outcomes(), 5..9);
    }

    /// The reference's bug: generated terminals are fractional unless somebody thresholds them.
    #[test]
    fn generated_terminals_are_not_fractional() {
        let rows = LAYOUT.rows(&transitions());
        rows.select(1, LAYOUT.terminal())
            .copy_(&Tensor::from_slice(&[0.49f32, 0.51, -0.3, 1.2]));
        let masks = LAYOUT.transitions(&rows).masks;
        assert_eq!(masks, Tensor::from_slice(&[1f32, 0.0, 1.0, 0.0]));
    }

    #[test]
    fn generated_actions_are_actions() {
        let rows = LAYOUT.rows(&transitions());
        rows.select(1, 3)
            .copy_(&Tensor::from_slice(&[-1.2f32, 1.01, 0.5, 7.0]));
        let actions = LAYOUT.transitions(&rows).actions.select(1, 0);
        assert_eq!(actions, Tensor::from_slice(&[-1f32, 1.0, 0.5, 1.0]));
    }

    /// The reference's bug, the other way round: a time-out is no end, and what is kept of one goes on.
    #[test]
    fn a_time_out_is_no_terminal() {
        // An agent's mask of a time-out is 1, as of any step that something follows.
        let rows = LAYOUT.rows(&transitions());
        let terminals = rows.select(1, LAYOUT.terminal());
        assert_eq!(terminals, Tensor::from_slice(&[0f32, 1.0, 0.0, 0.0]));
    }
}
