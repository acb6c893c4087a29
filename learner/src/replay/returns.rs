//! What each step and those after it in its episode brought, kept in memory beside the rows.

use std::collections::HashMap;

use super::rows::{Place, Rows, Side};
use crate::agents::sight::UNKNOWN_RETURN;

/// The returns of steps whose episode's end is known.
#[derive(Debug)]
pub(super) struct Returns {
    discount: f64,
    known: HashMap<Place, f64>,
}

impl Returns {
    /// Of all steps that there are.
    pub fn new(discount: f64, rows: &Rows) -> Self {
        let known = HashMap::new();
        let mut returns = Self { discount, known };
        for &place in rows.places.values() {
            returns.reckon(rows, place);
        }
        returns
    }

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

    /// What is known because this row is there: of its own step, of those before it, and of the episode that it
    /// shows to be over.
    pub fn reckon(&mut self, rows: &Rows, place: Place) {
        if let Some((last, false)) = rows.neighbour(place, Side::Before) {
            self.reckon_back(rows, last, 0.0);
        }
        let Some(row) = rows.view(place) else { return };
        let flags = row.flags();
        let after = match rows.neighbour(place, Side::After) {
            _ if flags.terminated || flags.truncated => Some(0.0),
            Some((_, false)) => Some(0.0),
            Some((next, true)) => self.known.get(&next).copied(),
            None => None,
        };
        if let Some(after) = after {
            self.reckon_back(rows, place, after);
        }
    }

    /// From a step, after which its episode brought `after`, back to the episode's beginning.
    fn reckon_back(&mut self, rows: &Rows, mut place: Place, mut after: f64) {
        while !self.known.contains_key(&place) {
            let Some(row) = rows.view(place) else { return };
            if row.flags().reset {
                return;
            }
            let brought = f64::from(row.reward()) + f64::from(row.grasp_penalty());
            after = brought + self.discount * after;
            self.known.insert(place, after);
            match rows.neighbour(place, Side::Before) {
                Some((before, true)) => place = before,
                _ => return,
            }
        }
    }
}
