//! The rows that are stored: in which segment each lies, and which come one after the other.

use std::collections::{BTreeMap, HashMap};

use super::segment::{RowView, Segment};

/// Where a row lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Place {
    pub segment: u32,
    pub row: u32,
}

/// Which of a row's neighbours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Side {
    Before,
    After,
}

/// Segments by number, and the places of their rows by run and sequence number.
#[derive(Debug, Default)]
pub(super) struct Rows {
    pub segments: BTreeMap<u32, Segment>,
    pub places: HashMap<(u64, u64), Place>,
}

impl Rows {
    /// Enters a row under its key.
    pub fn enter(&mut self, place: Place) {
        if let Some(row) = self.view(place) {
            let key = row.key();
            self.places.insert(key, place);
        }
    }

    /// Where the row of this run and sequence number lies.
    pub fn find(&self, key: (u64, u64)) -> Option<Place> {
        self.places.get(&key).copied()
    }

    /// The row at a place.
    pub fn view(&self, place: Place) -> Option<RowView<'_>> {
        let segment = self.segments.get(&place.segment);
        segment.map(|segment| segment.row(place.row as usize))
    }

    /// The row before or after one, and whether it is of the same episode.
    pub fn neighbour(&self, place: Place, side: Side) -> Option<(Place, bool)> {
        let row = self.view(place)?;
        let (run, sequence) = row.key();
        let sequence = match side {
            Side::Before => sequence.checked_sub(1)?,
            Side::After => sequence.checked_add(1)?,
        };
        let other = self.find((run, sequence))?;
        let its = self.view(other)?;
        let later = if side == Side::After { its } else { row };
        let same = !later.flags().reset && its.episode() == row.episode();
        Some((other, same))
    }
}
