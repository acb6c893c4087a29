//! What each step and those after it in its episode brought, kept in memory beside the rows.

use std::collections::HashMap;

use super::store::{Place, Replay};
use crate::agents::sight::UNKNOWN_RETURN;

/// The returns of steps whose episode's end is known.
#[derive(Debug)]
pub(super) struct Returns {
    discount: f64,
    known: HashMap<Place, f64>,
}

impl Returns {
    /// Of the step that led to this row.
    pub fn of(&self, place: Place) -> f32 {
        self.known
            .get(&place)
            .map_or(UNKNOWN_RETURN, |&known| known as f32)
    }

    /// Forgets the rows of a segment.
    pub fn forget(&mut self, segment: u32) {
        self.known.retain(|place, _| place.segment != segment);
    }
}

impl Replay {
    /// Beside each transition its return from now on: the sum of rewards and grasp penalties from it to its
    /// episode's end, discounted by `discount` per step. Where time ran out it is what came until then, which
    /// bounds the return from below as long as what comes is not negative; grasp penalties are, and little. While the
    /// end is not known, for it has not come yet or a row before it is missing, it is [`UNKNOWN_RETURN`].
    pub fn reckon_returns(&mut self, discount: f64) {
        self.returns = Some(Returns {
            discount,
            known: HashMap::new(),
        });
        let places: Vec<Place> = self.places.values().copied().collect();
        for place in places {
            self.reckon(place);
        }
    }

    /// The row before or after one, and whether it is of the same episode.
    fn neighbour(&self, place: Place, after: bool) -> Option<(Place, bool)> {
        let row = self.view(place)?;
        let (run, sequence) = row.key();
        let sequence = match after {
            true => sequence.checked_add(1)?,
            false => sequence.checked_sub(1)?,
        };
        let other = *self.places.get(&(run, sequence))?;
        let its = self.view(other)?;
        let later = if after { its } else { row };
        let same = !later.flags().reset && its.episode() == row.episode();
        Some((other, same))
    }

    /// What is known because this row is there: of its own step, of those before it, and of the episode that it
    /// shows to be over.
    pub(super) fn reckon(&mut self, place: Place) {
        if self.returns.is_none() {
            return;
        }
        if let Some((last, false)) = self.neighbour(place, false) {
            self.reckon_back(last, 0.0);
        }
        let Some(row) = self.view(place) else { return };
        let flags = row.flags();
        let after = match self.neighbour(place, true) {
            _ if flags.terminated || flags.truncated => Some(0.0),
            Some((_, false)) => Some(0.0),
            Some((next, true)) => self.known(next),
            None => None,
        };
        if let Some(after) = after {
            self.reckon_back(place, after);
        }
    }

    fn known(&self, place: Place) -> Option<f64> {
        self.returns.as_ref()?.known.get(&place).copied()
    }

    /// From a step, after which its episode brought `after`, back to the episode's beginning.
    fn reckon_back(&mut self, mut place: Place, mut after: f64) {
        while self.known(place).is_none() {
            let Some(row) = self.view(place) else { return };
            if row.flags().reset {
                return;
            }
            let brought = f64::from(row.reward()) + f64::from(row.grasp_penalty());
            let before = self.neighbour(place, false);
            let Some(returns) = &mut self.returns else {
                return;
            };
            after = brought + returns.discount * after;
            returns.known.insert(place, after);
            match before {
                Some((before, true)) => place = before,
                _ => return,
            }
        }
    }
}
