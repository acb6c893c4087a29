//! What the user of `hilt-learner` sees: which phase it is in, and how that goes.

use std::time::{Duration, Instant};

use hilt_show::{Rate, Show, per_s};

/// A piece of training that ends after some steps.
#[derive(Debug)]
pub struct Phase {
    show: Show,
    began: Instant,
}

impl Phase {
    /// One of so many gradient steps.
    pub fn new(title: &str, steps: u64) -> Self {
        Self {
            show: Show::new(title, Some(steps)),
            began: Instant::now(),
        }
    }

    /// After so many gradient steps, with this loss.
    pub fn stand(&mut self, steps: u64, loss: f64) {
        let passed = self.began.elapsed();
        self.show.stand(steps, || phase_words(steps, loss, passed));
    }

    /// It is over.
    pub fn end(self) {
        self.show.end();
    }
}

fn phase_words(steps: u64, loss: f64, passed: Duration) -> String {
    let rate = steps as f64 / passed.as_secs_f64().max(1e-9);
    format!("steps, {rate:.1}/s, loss {loss:.4}")
}

/// The losses among figures, in words.
pub fn loss_words(figures: &[(&'static str, f64)]) -> String {
    let losses = figures.iter().filter(|(name, _)| name.ends_with("_loss"));
    let words = losses.map(|(name, loss)| format!(", {} {loss:.4}", name.replace('_', " ")));
    words.collect()
}

/// The updates of a run with a robot.
#[derive(Debug)]
pub struct Updates {
    show: Show,
    began: Instant,
    updates: Rate,
    entries: Rate,
}

impl Updates {
    /// A run that began at `began` and ends after so many updates, if at all.
    pub fn new(began: Instant, max_updates: u64) -> Self {
        let length = (max_updates != u64::MAX).then_some(max_updates);
        Self {
            show: Show::new("learner", length),
            began,
            updates: Rate::default(),
            entries: Rate::default(),
        }
    }

    /// Nothing can be learned before there are `wanted` transitions; there are `have`.
    pub fn waiting(&mut self, have: usize, wanted: usize) {
        self.show.stand(0, || {
            format!("updates; waiting for the robot's steps: {have} of {wanted}")
        });
    }

    /// After an update, with the figures that were read last.
    pub fn stand(&mut self, updates: u64, entries: u64, figures: &[(&str, f64)]) {
        let passed = self.began.elapsed();
        self.updates.add(passed, updates);
        self.entries.add(passed, entries);
        let rates = [self.updates.per_s(), self.entries.per_s()];
        self.show
            .stand(updates, || update_words(entries, rates, figures));
    }

    /// A sentence that stays.
    pub fn say(&self, words: &str) {
        self.show.say(words);
    }

    /// Training is over.
    pub fn end(self) {
        self.show.end();
    }
}

/// So many figures there is room for.
const FIGURES: usize = 2;

fn update_words(entries: u64, rates: [Option<f64>; 2], figures: &[(&str, f64)]) -> String {
    let [updates_per_s, entries_per_s] = rates.map(per_s);
    let mut words =
        format!("updates, {updates_per_s}/s; {entries} entries, {entries_per_s} steps/s");
    for (name, value) in &figures[..figures.len().min(FIGURES)] {
        words += &format!("; {} {value:.4}", name.replace('_', " "));
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_phase_tells_steps_rate_and_loss() {
        let words = phase_words(50, 0.12345, Duration::from_secs(20));
        assert_eq!(words, "steps, 2.5/s, loss 0.1235");
    }

    #[test]
    fn a_training_tells_its_losses() {
        let figures = [("critic_loss", 0.12345), ("q", 3.0), ("actor_loss", -2.0)];
        let words = loss_words(&figures);
        assert_eq!(words, ", critic loss 0.1235, actor loss -2.0000");
    }

    #[test]
    fn updates_tell_rates_and_what_is_not_known_yet() {
        let figures = [("critic_loss", 0.5), ("q", 0.25), ("target", 1.0)];
        assert_eq!(
            update_words(200, [Some(16.25), None], &figures),
            "updates, 16.2/s; 200 entries, – steps/s; critic loss 0.5000; q 0.2500"
        );
        assert_eq!(
            update_words(200, [None, None], &[]),
            "updates, –/s; 200 entries, – steps/s"
        );
    }
}
