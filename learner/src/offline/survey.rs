//! What is known of a robot's runs before their frames are looked at: which episodes there are, and which of them are
//! held out.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::atomic::AtomicBool,
};

use anyhow::Result;
use hilt_protocol::{Entry, noise::mix, wire::encode_entry};
use hilt_recording::Recording;
use sha2::{Digest, Sha256};

use super::STOPPED;
use crate::dataset::{each_entry, statistics};

/// An episode: run and number.
pub(super) type Episode = (u64, u64);

pub(super) fn episode_of(entry: &Entry) -> Episode {
    (entry.run.0, entry.episode)
}

/// All that is to be known of runs in order to compare them with those of a training that is resumed.
pub(super) struct Survey {
    pub(super) episodes: BTreeSet<Episode>,
    /// Entries, by the run's name.
    pub(super) entries: BTreeMap<String, u64>,
    /// Of every entry, whatever file it lies in.
    pub(super) sha256: String,
    /// Proprioception of every entry.
    proprio: Vec<(Episode, Vec<f32>)>,
}

impl Survey {
    /// Reads the recording once.
    pub(super) fn of(recording: &Recording, stop: &AtomicBool) -> Result<Self> {
        let (mut episodes, mut entries) = (BTreeSet::new(), BTreeMap::new());
        let (mut proprio, mut hash) = (vec![], Sha256::new());
        each_entry(recording, (stop, STOPPED), |entry| {
            let episode = episode_of(entry);
            episodes.insert(episode);
            *entries.entry(entry.run.to_string()).or_default() += 1;
            hash.update(encode_entry(entry));
            proprio.push((episode, entry.observation().proprio.clone()));
            Ok(())
        })?;
        Ok(Self {
            episodes,
            entries,
            sha256: format!("{:x}", hash.finalize()),
            proprio,
        })
    }

    /// A share of the episodes, chosen by the seed.
    pub(super) fn held_out(&self, share: f64, seed: u64) -> BTreeSet<Episode> {
        let mut shuffled: Vec<Episode> = self.episodes.iter().copied().collect();
        shuffled.sort_by_key(|&(run, episode)| mix(mix(seed ^ run) ^ episode));
        let count = count_held_out(shuffled.len(), share);
        shuffled.into_iter().take(count).collect()
    }

    /// Mean and standard deviation of each number of proprioception, of the episodes that are not held out.
    pub(super) fn proprio_statistics(&self, apart: &BTreeSet<Episode>) -> (Vec<f32>, Vec<f32>) {
        let trained = (self.proprio.iter()).filter(|(episode, _)| !apart.contains(episode));
        let rows: Vec<Vec<f32>> = trained.map(|(_, row)| row.clone()).collect();
        statistics(&rows)
    }
}

/// How many of the episodes are a share of them, rounded. So that there is something to judge by it is one even where
/// the share is less, if that is a third at most; and never all of them.
fn count_held_out(episodes: usize, share: f64) -> usize {
    let rounded = (episodes as f64 * share).round() as usize;
    let least = usize::from(share > 0.0 && episodes >= 3);
    rounded.max(least).min(episodes.saturating_sub(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_is_rounded_and_is_no_large_part_of_little_data() {
        let cases = [
            (0, 0.5, 0),
            (1, 0.5, 0),
            (2, 0.05, 0),
            (2, 0.5, 1),
            (3, 0.05, 1),
            (20, 0.0, 0),
            (20, 0.05, 1),
            (20, 0.3, 6),
            (20, 0.99, 19),
        ];
        for (episodes, share, wanted) in cases {
            let got = count_held_out(episodes, share);
            assert_eq!(got, wanted, "{share} of {episodes}");
        }
    }

    #[test]
    fn what_is_held_out_does_not_count_in_proprioception() {
        let survey = Survey {
            episodes: BTreeSet::from([(1, 0), (1, 1)]),
            entries: BTreeMap::new(),
            sha256: String::new(),
            proprio: vec![
                ((1, 0), vec![1.0]),
                ((1, 0), vec![3.0]),
                ((1, 1), vec![100.0]),
            ],
        };
        let (mean, std) = survey.proprio_statistics(&BTreeSet::from([(1, 1)]));
        assert_eq!((mean, std), (vec![2.0], vec![1.0]));
    }
}
