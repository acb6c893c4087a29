//! The newest transitions of a task that is learned on.

use hilt_protocol::noise::Uniforms;
use hilt_recording::table::{Columns, Table, TableError};
use tch::{Device, Kind, Tensor};

use super::{Returns, Scaling};
use crate::agents::{Transitions, guard::BadBatch};

/// One transition, as the task gave it.
#[derive(Clone, Copy, Debug)]
pub struct Step<'a> {
    /// What was seen \[O\].
    pub observation: &'a [f32],
    /// What was done, in ±1 \[A\].
    pub action: &'a [f32],
    /// What it brought.
    pub reward: f32,
    /// What it led to \[O\].
    pub next_observation: &'a [f32],
    /// The episode came to its end: nothing follows.
    pub terminated: bool,
    /// The episode was cut: what would follow is worth what it is worth.
    pub truncated: bool,
}

/// A ring of transitions on the host. They are kept as the task gave them and scaled as they are drawn.
#[derive(Debug)]
pub struct VectorReplay {
    capacity: usize,
    scaling: Scaling,
    returns: Option<Returns>,
    rows: Columns,
    /// Of scaled rewards \[rows\]; those of the open episode are not known yet.
    to_go: Vec<f32>,
    /// Where the next row goes, once the ring is full; the oldest lies there.
    next: usize,
    /// Rows of the episode that has not ended; they are the newest.
    open: usize,
    pushed: u64,
}

impl VectorReplay {
    /// An empty ring for `capacity` transitions (at least 1) on observations and actions of these sizes. With
    /// `returns` each batch has them, and rows are drawn from when their episode has ended; without, at once.
    pub fn new(
        capacity: usize,
        (observation, action): (usize, usize),
        scaling: Scaling,
        returns: Option<Returns>,
    ) -> Self {
        Self {
            capacity: capacity.max(1),
            scaling,
            returns,
            rows: Columns {
                observation,
                action,
                ..Columns::default()
            },
            to_go: vec![],
            next: 0,
            open: 0,
            pushed: 0,
        }
    }

    /// Rows that are there.
    pub fn len(&self) -> usize {
        self.rows.rewards.len()
    }

    /// Whether none is.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Rows that can be drawn.
    pub fn ready(&self) -> usize {
        match self.returns {
            None => self.len(),
            Some(_) => self.len() - self.open,
        }
    }

    /// Keeps one transition, in the place of the oldest when all are taken.
    pub fn push(&mut self, step: Step<'_>) -> Result<(), BadBatch> {
        self.check(&step)?;
        if self.len() < self.capacity {
            let rows = &mut self.rows;
            rows.observations.extend_from_slice(step.observation);
            rows.actions.extend_from_slice(step.action);
            rows.rewards.push(step.reward);
            rows.next_observations
                .extend_from_slice(step.next_observation);
            rows.terminals.push(step.terminated);
            rows.timeouts.push(step.truncated);
            self.to_go.push(0.0);
        } else {
            let (rows, row) = (&mut self.rows, self.next);
            let put = |column: &mut [f32], values: &[f32]| {
                column[row * values.len()..][..values.len()].copy_from_slice(values);
            };
            put(&mut rows.observations, step.observation);
            put(&mut rows.actions, step.action);
            put(&mut rows.next_observations, step.next_observation);
            rows.rewards[row] = step.reward;
            rows.terminals[row] = step.terminated;
            rows.timeouts[row] = step.truncated;
            self.next = (row + 1) % self.capacity;
        }
        self.pushed += 1;
        // An episode longer than the ring has lost its first rows.
        self.open = (self.open + 1).min(self.len());
        if step.terminated || step.truncated {
            self.close(step.terminated);
        }
        Ok(())
    }

    /// The open episode ends here: its rows get their returns. Without `terminated` it was cut, as one is that a
    /// stopped process leaves behind.
    fn close(&mut self, terminated: bool) {
        if let Some(returns) = self.returns {
            let first = self.len() - self.open;
            let rows: Vec<usize> = (first..self.len()).map(|age| self.place(age)).collect();
            let reward = |&row: &usize| self.scaling.rewards.of(self.rows.rewards[row]);
            let rewards: Vec<f32> = rows.iter().map(reward).collect();
            for (row, value) in rows.into_iter().zip(returns.to_go(&rewards, terminated)) {
                self.to_go[row] = value;
            }
        }
        self.open = 0;
    }

    /// Where the row is that is the `age`th of those that are there, from the oldest.
    fn place(&self, age: usize) -> usize {
        (self.next + age) % self.len()
    }

    fn check(&self, step: &Step<'_>) -> Result<(), BadBatch> {
        let rewards = [step.reward];
        let parts: [(&'static str, &[f32], usize); 4] = [
            ("observations", step.observation, self.rows.observation),
            ("actions", step.action, self.rows.action),
            ("rewards", &rewards, 1),
            (
                "next_observations",
                step.next_observation,
                self.rows.observation,
            ),
        ];
        for (tensor, values, wanted) in parts {
            if values.len() != wanted {
                return Err(BadBatch::Shape {
                    tensor,
                    got: vec![values.len() as i64],
                    wanted: vec![wanted as i64],
                });
            }
            if let Some(column) = values.iter().position(|value| !value.is_finite()) {
                return Err(BadBatch::NotFinite {
                    tensor,
                    row: self.pushed as i64,
                    column: column as i64,
                    value: f64::from(values[column]),
                });
            }
        }
        Ok(())
    }

    /// A batch of rows drawn at random, with replacement; `None` while none can be drawn.
    pub fn batch(
        &self,
        stream: &mut Uniforms,
        rows: usize,
        options: (Kind, Device),
    ) -> Option<Transitions> {
        let ready = self.ready() as u64;
        if ready == 0 {
            return None;
        }
        let drawn: Vec<usize> = (0..rows)
            .map(|_| self.place(stream.below(ready) as usize))
            .collect();
        Some(self.chosen(&drawn, options))
    }

    /// All rows that can be drawn, from the oldest to the newest; `None` while there are none.
    pub fn all(&self, options: (Kind, Device)) -> Option<Transitions> {
        let places: Vec<usize> = (0..self.ready()).map(|age| self.place(age)).collect();
        (!places.is_empty()).then(|| self.chosen(&places, options))
    }

    /// The rows at these places.
    fn chosen(&self, drawn: &[usize], options: (Kind, Device)) -> Transitions {
        let tensor = |values: &[f32], shape: &[i64]| {
            Tensor::from_slice(values)
                .view(shape)
                .to_device(options.1)
                .to_kind(options.0)
        };
        let rows = drawn.len() as i64;
        let matrix = |values: &[f32], width: usize, observed: bool| {
            let mut chosen = Vec::with_capacity(drawn.len() * width);
            for &row in drawn {
                chosen.extend_from_slice(&values[row * width..(row + 1) * width]);
            }
            if observed {
                self.scaling.observe(&mut chosen);
            }
            tensor(&chosen, &[rows, width as i64])
        };
        let vector = |of: &dyn Fn(usize) -> f32| {
            let chosen: Vec<f32> = drawn.iter().map(|&row| of(row)).collect();
            tensor(&chosen, &[rows])
        };
        let Columns {
            observation,
            action,
            ..
        } = self.rows;
        Transitions {
            observations: matrix(&self.rows.observations, observation, true),
            actions: matrix(&self.rows.actions, action, false),
            rewards: vector(&|row| self.scaling.rewards.of(self.rows.rewards[row])),
            next_observations: matrix(&self.rows.next_observations, observation, true),
            masks: vector(&|row| f32::from(!self.rows.terminals[row])),
            returns: self.returns.map(|_| vector(&|row| self.to_go[row])),
        }
    }

    /// All rows from the oldest to the newest, as they were given: a log to keep, or to go on from
    /// ([`VectorReplay::extend`]). An error while there are none.
    pub fn table(&self) -> Result<Table, TableError> {
        let (rows, next) = (&self.rows, self.next);
        let (observation, action) = (rows.observation, rows.action);
        Table::new(Columns {
            observation,
            action,
            observations: turned(&rows.observations, next * observation),
            actions: turned(&rows.actions, next * action),
            rewards: turned(&rows.rewards, next),
            next_observations: turned(&rows.next_observations, next * observation),
            terminals: turned(&rows.terminals, next),
            timeouts: turned(&rows.timeouts, next),
        })
    }

    /// Keeps the rows of a table. Its last episode is taken for cut where it does not say how it ended: whoever made
    /// it does not go on with it.
    pub fn extend(&mut self, table: &Table) -> Result<(), BadBatch> {
        for row in 0..table.len() {
            let terminated = table.columns().terminals[row];
            self.push(Step {
                observation: table.observation(row),
                action: table.action(row),
                reward: table.columns().rewards[row],
                next_observation: table.next_observation(row),
                terminated,
                truncated: table.columns().timeouts[row] || (!terminated && table.ends(row)),
            })?;
        }
        Ok(())
    }
}

/// A ring from its oldest place on.
fn turned<T: Copy>(ring: &[T], oldest: usize) -> Vec<T> {
    let (newer, older) = ring.split_at(oldest);
    [older, newer].concat()
}

/// How two tensors of so many rows become one, the rows of both spread evenly over it, `a`'s first.
pub fn turns(a: i64, b: i64, device: Device) -> impl Fn(&Tensor, &Tensor) -> Tensor {
    let (of_a, rows) = (a, a + b);
    let due = |row: i64| (row * of_a + rows - 1) / rows;
    let order: Vec<i64> = (0..rows)
        .map(|row| match due(row + 1) > due(row) {
            true => due(row),
            false => of_a + row - due(row),
        })
        .collect();
    let order = Tensor::from_slice(&order).to_device(device);
    move |a, b| Tensor::cat(&[a, b], 0).index_select(0, &order)
}

/// Two batches as one, the rows of both spread evenly over it, `a`'s first: of as many each in turn (RLPD's
/// `combine`, with offline data as `a`), so that any part of it has its share of both. Returns where both have them.
pub fn interleaved(a: &Transitions, b: &Transitions) -> Transitions {
    let turns = turns(a.rows(), b.rows(), a.rewards.device());
    Transitions {
        observations: turns(&a.observations, &b.observations),
        actions: turns(&a.actions, &b.actions),
        rewards: turns(&a.rewards, &b.rewards),
        next_observations: turns(&a.next_observations, &b.next_observations),
        masks: turns(&a.masks, &b.masks),
        returns: (a.returns.as_ref())
            .zip(b.returns.as_ref())
            .map(|(a, b)| turns(a, b)),
    }
}
