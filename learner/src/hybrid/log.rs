//! Figures of a run, every two seconds: lines for the report, and events for TensorBoard.

use std::{
    io,
    path::Path,
    time::{Duration, Instant, SystemTime},
};

use serde_json::{Map, Value};

use crate::metrics::{EventFile, LINES, MetricsFile};

const PERIOD: Duration = Duration::from_secs(2);

/// How far a run is.
#[derive(Clone, Copy, Debug)]
pub(super) struct Stand {
    /// Updates made.
    pub updates: u64,
    /// Entries that came from robots.
    pub entries: u64,
}

/// The files, and when they were written to.
#[derive(Debug)]
pub(super) struct Log {
    lines: MetricsFile,
    events: EventFile,
    began: Instant,
    last: (Instant, Stand),
}

impl Log {
    /// Begins with, or goes on with, those in `dir`, in a process that began at `began`.
    pub(super) fn open(dir: &Path, stand: Stand, began: Instant) -> io::Result<Self> {
        let again = (stand.updates > 0).then_some(stand.updates + 1);
        Ok(Self {
            lines: MetricsFile::open(&dir.join(LINES))?,
            events: EventFile::create(dir, again, SystemTime::now())?,
            began,
            last: (Instant::now(), stand),
        })
    }

    /// Whether it is time to write.
    pub(super) fn is_due(&self) -> bool {
        self.last.0.elapsed() > PERIOD
    }

    /// Writes where the run stands, how fast it went since the last time, and what was learned.
    pub(super) fn write(
        &mut self,
        stand: Stand,
        online: usize,
        learned: &[(&'static str, f64)],
    ) -> io::Result<()> {
        let (since, before) = self.last;
        let seconds = since.elapsed().as_secs_f64();
        self.last = (Instant::now(), stand);
        let per_s = |now: u64, before: u64| (now - before) as f64 / seconds;
        let run = [
            ("updates_per_s", per_s(stand.updates, before.updates)),
            ("steps_per_s", per_s(stand.entries, before.entries)),
            ("online_transitions", online as f64),
        ];
        let at = [
            ("wall_s", self.began.elapsed().as_secs_f64()),
            ("updates", stand.updates as f64),
            ("entries", stand.entries as f64),
        ];
        let all = at.iter().chain(&run).chain(learned);
        let line: Map<String, Value> = all
            .map(|(name, value)| ((*name).to_owned(), Value::from(*value)))
            .collect();
        self.lines.write(line)?;
        let run = run
            .iter()
            .map(|(name, value)| (format!("run/{name}"), *value));
        let learned = learned
            .iter()
            .map(|(name, value)| (format!("train/{name}"), *value));
        let curves: Vec<(String, f64)> = run.chain(learned).collect();
        self.events
            .scalars(stand.updates, SystemTime::now(), &curves)
    }
}
