//! One question to several servos and their answers: who is believed. A pure decision.
//!
//! A reply names its servo by one byte, and nothing in it says which question it answers. What it
//! can be checked against is the order: servos answer in the order in which they were asked. A reply
//! that comes twice, after one of a later servo, or from nobody who was asked shows that ids cannot
//! be trusted; which of them is wrong it does not show. So nobody in such a round is believed: rather
//! no value than one on the wrong joint.

use super::config::MAX_SERVOS;
use crate::{ArmError, bus::Family};

/// A servo's values and when they came.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Sample {
    pub captured_ns: u64,
    /// Position.
    pub counts: i32,
    pub counts_per_s: i32,
}

impl Sample {
    /// From the bytes of [`Table::feedback`](crate::bus::Table::feedback). `None`: there are fewer.
    pub fn parse(family: Family, data: &[u8], captured_ns: u64) -> Option<Self> {
        let table = family.table();
        let (first, _) = table.feedback();
        let velocity = f64::from(table.velocity.decode(first, data)?);
        Some(Self {
            captured_ns,
            counts: table.position.decode(first, data)?,
            counts_per_s: (velocity * table.velocity_unit).round() as i32,
        })
    }
}

/// Which servos, by their place in the arm.
pub(super) type Places = [bool; MAX_SERVOS];

/// A round of questions.
pub(super) struct Round<'a> {
    ids: &'a [u8],
    asked: Places,
    fresh: [Option<Sample>; MAX_SERVOS],
    /// The first place whose reply has not been passed over.
    next: usize,
    /// A reply came that cannot be right.
    mixed_up: bool,
    trouble: Option<ArmError>,
}

impl<'a> Round<'a> {
    /// Nobody has answered yet. `ids` by place.
    pub fn new(ids: &'a [u8], asked: Places) -> Self {
        Self {
            ids,
            asked,
            fresh: [None; MAX_SERVOS],
            next: 0,
            mixed_up: false,
            trouble: None,
        }
    }

    /// A valid reply came.
    pub fn reply(&mut self, id: u8, error: u8, sample: Sample) {
        let expected = self.expected();
        let place = self.ids.iter().position(|other| *other == id);
        match place.filter(|place| self.asked[*place]) {
            Some(place) if place >= self.next => {
                self.fresh[place] = Some(sample);
                self.next = place + 1;
                if error != 0 {
                    self.note(ArmError::Servo { id, bits: error });
                }
            }
            _ => {
                self.mixed_up = true;
                self.note(ArmError::WrongId { expected, got: id });
            }
        }
    }

    /// Whether everybody who was asked has answered.
    pub fn complete(&self) -> bool {
        self.missing() == [false; MAX_SERVOS]
    }

    /// Who has not answered.
    pub fn missing(&self) -> Places {
        std::array::from_fn(|place| self.asked[place] && self.fresh[place].is_none())
    }

    /// The answers by place, and what went wrong first. `junk`: there were bytes that are no reply.
    pub fn finish(mut self, junk: bool) -> ([Option<Sample>; MAX_SERVOS], Option<ArmError>) {
        if self.mixed_up {
            self.fresh = [None; MAX_SERVOS];
        }
        let missing = self.missing();
        let silent = self.ids.iter().zip(missing).find(|(_, missing)| *missing);
        if let Some((id, _)) = silent {
            self.note(match junk {
                true => ArmError::Corrupted(*id),
                false => ArmError::Silent(*id),
            });
        }
        (self.fresh, self.trouble)
    }

    /// Whose reply should come; that of the last servo when all have.
    fn expected(&self) -> u8 {
        let missing = self.missing();
        let places = (self.next..self.ids.len()).chain(0..self.next);
        let place = places.into_iter().find(|place| missing[*place]);
        self.ids[place.unwrap_or(self.ids.len() - 1)]
    }

    fn note(&mut self, trouble: ArmError) {
        self.trouble.get_or_insert(trouble);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const IDS: [u8; 6] = [11, 12, 13, 14, 15, 16];

    /// Plays replies, each with its position in the list as counts; gives the counts by place.
    fn play(replies: &[u8], junk: bool) -> (Vec<Option<i32>>, Option<ArmError>) {
        let mut round = Round::new(&IDS, std::array::from_fn(|place| place < IDS.len()));
        for (counts, id) in (0..).zip(replies) {
            let sample = Sample {
                captured_ns: 1,
                counts,
                counts_per_s: 0,
            };
            round.reply(*id, 0, sample);
        }
        let complete = round.complete();
        let (fresh, trouble) = round.finish(junk);
        let counts: Vec<_> = fresh[..6].iter().map(|s| s.map(|s| s.counts)).collect();
        assert!(complete || counts.contains(&None));
        (counts, trouble)
    }

    #[test]
    fn in_order_everybody_is_believed() {
        let (counts, trouble) = play(&IDS, true);
        assert_eq!(counts, (0..6).map(Some).collect::<Vec<_>>());
        assert_eq!(trouble, None);
    }

    #[test]
    fn who_is_missing_is_named_and_how() {
        let replies = [11, 13, 14, 15, 16];
        let (counts, trouble) = play(&replies, false);
        assert_eq!(counts, [Some(0), None, Some(1), Some(2), Some(3), Some(4)]);
        assert_eq!(trouble, Some(ArmError::Silent(12)));
        assert_eq!(play(&replies, true).1, Some(ArmError::Corrupted(12)));
    }

    /// Servos with one id, ids that were corrupted with their checksum: whatever ids six replies
    /// carry, they are right or nobody is believed.
    #[test]
    fn wrong_ids_put_no_value_on_a_wrong_joint() {
        let ids = [11, 12, 13, 14, 15, 16, 99];
        for code in 0..7usize.pow(6) {
            let replies: [u8; 6] =
                std::array::from_fn(|place| ids[code / 7usize.pow(place as u32) % 7]);
            let (counts, trouble) = play(&replies, false);
            if replies == IDS {
                continue;
            }
            assert_eq!(counts, [None; 6], "{replies:?}");
            assert!(matches!(trouble, Some(ArmError::WrongId { .. })));
        }
    }

    #[test]
    fn a_stranger_is_named() {
        let (_, trouble) = play(&[11, 99, 13, 14, 15, 16], false);
        let expected = ArmError::WrongId {
            expected: 12,
            got: 99,
        };
        assert_eq!(trouble, Some(expected));
    }

    /// What comes late, from the question before, is not taken for an answer to this one.
    #[test]
    fn stragglers_are_not_believed() {
        let (counts, trouble) = play(&[15, 16, 11, 12, 13, 14, 15, 16], false);
        assert_eq!(counts, [None; 6]);
        assert!(matches!(trouble, Some(ArmError::WrongId { .. })));
    }

    #[test]
    fn the_first_trouble_is_kept() {
        let mut round = Round::new(&IDS, std::array::from_fn(|place| place < 2));
        let sample = Sample {
            captured_ns: 1,
            counts: 5,
            counts_per_s: 0,
        };
        round.reply(11, 0b100, sample);
        let (fresh, trouble) = round.finish(false);
        assert_eq!(fresh[0], Some(sample));
        let expected = ArmError::Servo {
            id: 11,
            bits: 0b100,
        };
        assert_eq!(trouble, Some(expected));
    }
}
