//! A recorded table on the device, ready to be drawn from.

use std::ops::Range;

use hilt_protocol::noise::{Uniforms, mix};
use hilt_recording::table::Table;
use tch::{Device, Kind, Tensor};

use super::{Normalizer, Returns, RewardScale, Scaling, scaling::OneReturn};
use crate::agents::{
    Transitions,
    guard::{BadBatch, check_batch},
};

/// Rows of each.
type Episodes = Vec<Range<usize>>;

/// What becomes of a table.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Preparation {
    /// Share of the rows that is held out, in whole episodes; 0 to below 1.
    pub held_out: f64,
    /// Which episodes are held out follows from it.
    pub seed: u64,
    /// Whether observations are normalised, by the part that is trained on.
    pub normalize: bool,
    /// Of the rewards.
    pub rewards: RewardScale,
    /// For agents that ask for returns: how they are summed, of scaled rewards.
    pub returns: Option<Returns>,
}

/// Why a table cannot be trained on.
#[derive(Debug, thiserror::Error)]
pub enum PrepareError {
    /// A number or a shape that no agent takes.
    #[error(transparent)]
    Bad(#[from] BadBatch),
    /// Rewards without a spread.
    #[error(transparent)]
    Rewards(#[from] OneReturn),
    /// Nothing can be held out.
    #[error(
        "all {0} rows are one episode, of which nothing can be held out: set offline.held_out to 0, or record more episodes"
    )]
    OneEpisode(usize),
    /// No such share.
    #[error("offline.held_out = {0}: it is 0 or more and below 1")]
    Share(f64),
}

/// A table in two parts.
#[derive(Debug)]
pub struct Prepared {
    /// To train on.
    pub train: VectorData,
    /// To look at how it went; `None` for a share of 0.
    pub held_out: Option<VectorData>,
    /// What both went through.
    pub scaling: Scaling,
}

/// Checks, splits and scales a table and puts it on a device.
pub fn prepare(
    table: &Table,
    preparation: &Preparation,
    options: (Kind, Device),
) -> Result<Prepared, PrepareError> {
    let episodes: Episodes = table.episodes().collect();
    let (observation, action) = (
        table.columns().observation as i64,
        table.columns().action as i64,
    );
    // Before it is split, so that an error names the table's own row.
    let whole = VectorData::of(table, &episodes, &Scaling::default(), None);
    check_batch(&whole.transitions, observation, action)?;
    drop(whole);
    let (train, held_out) = split(episodes, preparation.held_out, preparation.seed)?;
    let scaling = Scaling {
        observations: (preparation.normalize).then(|| Normalizer::over(table, &train)),
        rewards: preparation.rewards.resolve(table)?,
    };
    let part = |episodes: &[Range<usize>]| {
        let data = VectorData::of(table, episodes, &scaling, preparation.returns);
        // Scaling can make infinities of large numbers.
        check_batch(&data.transitions, observation, action)?;
        Ok::<_, BadBatch>(data.to(options))
    };
    let train = part(&train)?;
    let held_out = match held_out.as_slice() {
        [] => None,
        episodes => Some(part(episodes)?),
    };
    Ok(Prepared {
        train,
        held_out,
        scaling,
    })
}

/// Episodes to train on and those held out, each in their order. Of shuffled episodes so many are held out as
/// reach the share of rows; one is always left to train on.
fn split(
    mut episodes: Episodes,
    share: f64,
    seed: u64,
) -> Result<(Episodes, Episodes), PrepareError> {
    if !(0.0..1.0).contains(&share) {
        return Err(PrepareError::Share(share));
    }
    if share == 0.0 {
        return Ok((episodes, vec![]));
    }
    let rows: usize = episodes.iter().map(Range::len).sum();
    if episodes.len() < 2 {
        return Err(PrepareError::OneEpisode(rows));
    }
    let mut stream = Uniforms::new(mix(seed ^ 0x6865_6c64));
    for i in (1..episodes.len()).rev() {
        episodes.swap(i, stream.below(i as u64 + 1) as usize);
    }
    let (mut held, mut count) = (0, 0);
    while (held as f64) < share * rows as f64 && count + 1 < episodes.len() {
        held += episodes[count].len();
        count += 1;
    }
    let mut train = episodes.split_off(count);
    episodes.sort_by_key(|episode| episode.start);
    train.sort_by_key(|episode| episode.start);
    Ok((train, episodes))
}

/// Transitions on a device, whole episodes one after the other.
#[derive(Debug)]
pub struct VectorData {
    transitions: Transitions,
    episodes: Episodes,
}

impl VectorData {
    /// A whole table, through the scaling that an agent has already, checked and on a device.
    pub fn whole(
        table: &Table,
        scaling: &Scaling,
        options: (Kind, Device),
    ) -> Result<Self, BadBatch> {
        let columns = table.columns();
        let sizes = (columns.observation as i64, columns.action as i64);
        let episodes: Vec<_> = table.episodes().collect();
        let through = |scaling: &Scaling| {
            let data = Self::of(table, &episodes, scaling, None);
            check_batch(&data.transitions, sizes.0, sizes.1)?;
            Ok(data)
        };
        // As it is first, so that an error shows the table's own number.
        through(&Scaling::default())?;
        Ok(through(scaling)?.to(options))
    }

    /// Some episodes of a table, on the host.
    fn of(
        table: &Table,
        episodes: &[Range<usize>],
        scaling: &Scaling,
        returns: Option<Returns>,
    ) -> Self {
        let columns = table.columns();
        let rows: usize = episodes.iter().map(Range::len).sum();
        let matrix = |values: &[f32], width: usize, scale: &dyn Fn(&mut [f32])| {
            let mut chosen = Vec::with_capacity(rows * width);
            for episode in episodes {
                chosen.extend_from_slice(&values[episode.start * width..episode.end * width]);
            }
            scale(&mut chosen);
            Tensor::from_slice(&chosen).view([rows as i64, width as i64])
        };
        let (observe, keep) = (
            |values: &mut [f32]| scaling.observe(values),
            |_: &mut [f32]| (),
        );
        let all = || episodes.iter().cloned().flatten();
        let rewards: Vec<f32> = all()
            .map(|row| scaling.rewards.of(columns.rewards[row]))
            .collect();
        let masks: Vec<f32> = all()
            .map(|row| f32::from(!columns.terminals[row]))
            .collect();
        let mut next = 0;
        let episodes_here: Vec<_> = (episodes.iter())
            .map(|episode| {
                let start = next;
                next += episode.len();
                start..next
            })
            .collect();
        let returns = returns.map(|returns| {
            let of = |(here, there): (&Range<usize>, &Range<usize>)| {
                returns.to_go(&rewards[here.clone()], columns.terminals[there.end - 1])
            };
            let to_go: Vec<f32> = episodes_here.iter().zip(episodes).flat_map(of).collect();
            Tensor::from_slice(&to_go)
        });
        Self {
            transitions: Transitions {
                observations: matrix(&columns.observations, columns.observation, &observe),
                actions: matrix(&columns.actions, columns.action, &keep),
                rewards: Tensor::from_slice(&rewards),
                next_observations: matrix(
                    &columns.next_observations,
                    columns.observation,
                    &observe,
                ),
                masks: Tensor::from_slice(&masks),
                returns,
            },
            episodes: episodes_here,
        }
    }

    fn to(self, options: (Kind, Device)) -> Self {
        let transitions = self
            .transitions
            .mapped(|tensor| tensor.to_device(options.1).to_kind(options.0));
        Self {
            transitions,
            ..self
        }
    }

    /// N, its transitions.
    pub fn rows(&self) -> i64 {
        self.transitions.rows()
    }

    /// Rows of each episode, in order; together they are all rows.
    pub fn episodes(&self) -> &[Range<usize>] {
        &self.episodes
    }

    /// All of it, in order.
    pub fn all(&self) -> &Transitions {
        &self.transitions
    }

    /// The rows from `start` on, at most `rows` of them: a view.
    pub fn slice(&self, start: i64, rows: i64) -> Transitions {
        let rows = rows.min(self.rows() - start);
        self.transitions
            .mapped(|tensor| tensor.narrow(0, start, rows))
    }

    /// A batch of rows drawn at random, with replacement.
    pub fn batch(&self, stream: &mut Uniforms, rows: usize) -> Transitions {
        self.transitions.drawn(stream, rows)
    }
}
