//! How a run stands, on disk: `status.json` while it goes, `timing.json` at its end.
//!
//! A run writes its [`Status`] a few times a second; `hilt top` reads it, and so can any other
//! program. What was not measured is absent or null, never zero.

use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
    time::{SystemTime, UNIX_EPOCH},
};

use serde::{Deserialize, Serialize};

use crate::{
    rig::ClockKind,
    tick::{Outcome, Stage},
};

/// The file of a [`Status`] in its run's folder.
pub const STATUS_FILE: &str = "status.json";
/// The file of a [`Timing`] in its run's folder.
pub const TIMING_FILE: &str = "timing.json";

/// A status or timing file could not be written or read.
#[derive(Debug, thiserror::Error)]
pub enum StatusError {
    /// The disk refuses it. The run goes on without.
    #[error("{path}: {source}; `hilt top` shows old figures until it can be written")]
    Write {
        /// The file.
        path: PathBuf,
        /// What the file system says.
        source: io::Error,
    },
    /// It is not there, or cannot be read.
    #[error("{path}: {source}; name the folder that a run was given with --out")]
    Read {
        /// The file.
        path: PathBuf,
        /// What the file system says.
        source: io::Error,
    },
    /// It has another form.
    #[error("{path}: {source}; was it written by another version of hilt?")]
    Form {
        /// The file.
        path: PathBuf,
        /// Where and what.
        source: serde_json::Error,
    },
}

/// Ticks that ended in one way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OutcomeTicks {
    /// How.
    pub outcome: Outcome,
    /// How many; `None`: not measured.
    pub ticks: Option<u64>,
}

/// What one stage took. Quantiles are within 0.1 % of the true ones, the maximum is exact; they are
/// `None` as long as there is no measurement.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct StageFigures {
    /// Which.
    pub stage: Stage,
    /// What it may take, µs.
    pub budget_us: f64,
    /// Measurements.
    pub count: u64,
    /// Of these, longer than the budget.
    pub over_budget: u64,
    /// Half of them took at most so long, µs.
    pub p50_us: Option<f64>,
    /// 99 of 100, µs.
    pub p99_us: Option<f64>,
    /// 999 of 1000, µs.
    pub p999_us: Option<f64>,
    /// The longest, µs.
    pub max_us: Option<f64>,
}

/// The accounts of a run's loops: `timing.json`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Timing {
    /// Whose time the run goes by.
    pub clock: ClockKind,
    /// Ticks so far: the sum of the outcomes.
    pub ticks: u64,
    /// Every outcome, in the order of [`Outcome::ALL`].
    pub outcomes: Vec<OutcomeTicks>,
    /// Every stage, in the order of [`Stage::ALL`]. Absent in lockstep: not measured.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stages: Option<Vec<StageFigures>>,
    /// Ticks whose times are missing in the stages: the queue to the accounts was full.
    pub lost_ticks: u64,
    /// Measurements of the policy that are missing for the same reason.
    pub lost_policy: u64,
}

impl Timing {
    /// Ticks that were missed; `None`: not measured.
    pub fn missed(&self) -> Option<u64> {
        let missed = |ticks: &&OutcomeTicks| ticks.outcome == Outcome::Missed;
        self.outcomes.iter().find(missed)?.ticks
    }

    /// Leaves it as `timing.json` in `dir`.
    pub fn write(&self, dir: &Path) -> Result<(), StatusError> {
        write(&dir.join(TIMING_FILE), self)
    }
}

/// How a run stands: `status.json`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Status {
    /// The run.
    pub run: String,
    /// The rig's file or name.
    pub rig: String,
    /// When this was written, seconds since 1970.
    pub unix_s: f64,
    /// It was the last word: the run has ended in order.
    pub ended: bool,
    /// Ticks and stages.
    pub timing: Timing,
    /// What the control loop is doing: idle, armed, running, held, stopping, fault.
    pub mode: String,
    /// What is wrong and what to do about it.
    pub fault: Option<String>,
    /// What went wrong so far and how often, those included that the run went on in spite of. What lasts
    /// counts once.
    #[serde(default)]
    pub faults: BTreeMap<String, u64>,
    /// Policy in force; 0: none.
    pub policy_version: u64,
    /// Times that the policy was exchanged.
    pub swaps: u64,
    /// Episodes that ended.
    pub episodes: u64,
    /// Steps of the run.
    pub env_steps: u64,
    /// Entries in the log.
    pub entries: u64,
    /// Of these, the learner has acknowledged.
    pub acknowledged: u64,
    /// Whether the learner answers; `None`: this run has none.
    pub learner_alive: Option<bool>,
    /// Entries that could not be kept: the disk was full or too slow.
    pub log_losses: u64,
    /// Age of every input's newest value, ms; `None`: there was none yet.
    pub inputs_ms: BTreeMap<String, Option<f64>>,
}

impl Status {
    /// Leaves it as `status.json` in `dir`: readers see the whole old one or the whole new one. It
    /// waits for no disk to be written through, as the log is the truth and this is a view.
    pub fn write(&self, dir: &Path) -> Result<(), StatusError> {
        write(&dir.join(STATUS_FILE), self)
    }

    /// The newest one in `dir`.
    pub fn read(dir: &Path) -> Result<Self, StatusError> {
        let path = dir.join(STATUS_FILE);
        let bytes = fs::read(&path).map_err(|source| StatusError::Read {
            path: path.clone(),
            source,
        })?;
        serde_json::from_slice(&bytes).map_err(|source| StatusError::Form { path, source })
    }
}

/// Seconds since 1970, for [`Status::unix_s`].
pub fn unix_now_s() -> f64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.unwrap_or_default().as_secs_f64()
}

/// Beside its place, then renamed into it.
fn write(path: &Path, value: &impl Serialize) -> Result<(), StatusError> {
    let beside = path.with_extension("partial");
    serde_json::to_vec_pretty(value)
        .map_err(io::Error::from)
        .and_then(|bytes| fs::write(&beside, bytes))
        .and_then(|()| fs::rename(&beside, path))
        .map_err(|source| StatusError::Write {
            path: path.to_owned(),
            source,
        })
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::{
        accounting::{Accounts, Budgets},
        tick::TickTimes,
    };

    /// A run at 500 Hz with a policy at 10 Hz: 99 ticks on time and one late, with a wake of 0.9 ms.
    pub(crate) fn example() -> Status {
        let mut accounts = Accounts::new(Budgets::new(2_000_000, 100_000_000));
        for tick in 0..100u64 {
            let due_ns = tick * 2_000_000;
            let (outcome, wake_ns) = match tick {
                50 => (Outcome::Late, 900_000),
                _ => (Outcome::OnTime, 30_000),
            };
            let woke_ns = due_ns + wake_ns;
            let times = TickTimes {
                due_ns,
                woke_ns,
                read_ns: woke_ns + 600_000,
                decided_ns: woke_ns + 620_000,
                written_ns: woke_ns + 900_000,
            };
            accounts.tick(outcome, &times);
        }
        accounts.missed(1);
        accounts.policy(Stage::Encode, 12_000_000);
        Status {
            run: "0123456789abcdef".into(),
            rig: "rigs/so101.toml".into(),
            unix_s: 1000.0,
            ended: false,
            timing: accounts.timing(ClockKind::Monotonic, accounts.outcomes()),
            mode: "running".into(),
            fault: None,
            faults: BTreeMap::new(),
            policy_version: 12,
            swaps: 11,
            episodes: 7,
            env_steps: 420,
            entries: 427,
            acknowledged: 400,
            learner_alive: Some(true),
            log_losses: 0,
            inputs_ms: BTreeMap::from([
                ("camera wrist".to_owned(), Some(18.4)),
                ("teleop".to_owned(), None),
            ]),
        }
    }

    #[test]
    fn what_was_written_is_read_and_nothing_else_is_left() {
        let dir = tempfile::tempdir().unwrap();
        let mut status = example();
        status.write(dir.path()).unwrap();
        status.unix_s += 0.2;
        status.write(dir.path()).unwrap();
        assert_eq!(Status::read(dir.path()).unwrap(), status);
        status.timing.write(dir.path()).unwrap();
        let bytes = fs::read(dir.path().join(TIMING_FILE)).unwrap();
        let timing: Timing = serde_json::from_slice(&bytes).unwrap();
        assert_eq!(timing, status.timing);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 2);
    }

    #[test]
    fn other_programs_find_outcomes_and_stages_by_name() {
        let json = serde_json::to_value(example()).unwrap();
        let timing = &json["timing"];
        assert_eq!(timing["clock"], "monotonic");
        let late = &timing["outcomes"][1];
        assert_eq!(
            (&late["outcome"], &late["ticks"]),
            (&"late".into(), &1.into())
        );
        let read = &timing["stages"][1];
        assert_eq!(read["stage"], "state_read");
        assert_eq!(read["budget_us"], 1000.0);
        assert_eq!(read["max_us"], 600.0);
        assert!(timing["stages"][6]["p50_us"].is_null());
    }

    #[test]
    fn an_age_that_is_no_number_is_none() {
        let dir = tempfile::tempdir().unwrap();
        let mut status = example();
        status.inputs_ms.insert("arm 0".into(), Some(f64::NAN));
        status.write(dir.path()).unwrap();
        assert_eq!(Status::read(dir.path()).unwrap().inputs_ms["arm 0"], None);
    }

    #[test]
    fn a_disk_that_refuses_is_an_error_that_names_the_file() {
        let dir = tempfile::tempdir().unwrap();
        let gone = dir.path().join("gone");
        let error = example().write(&gone).unwrap_err().to_string();
        assert!(error.contains("gone/status.json"), "{error}");
        // A full disk, where the machine has a device that plays one.
        let full = Path::new("/dev/full");
        if full.exists() {
            std::os::unix::fs::symlink(full, dir.path().join("status.partial")).unwrap();
            assert!(example().write(dir.path()).is_err());
            assert!(!dir.path().join(STATUS_FILE).exists());
        }
    }

    #[test]
    fn a_file_of_another_form_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let missing = Status::read(dir.path()).unwrap_err();
        assert!(matches!(missing, StatusError::Read { .. }), "{missing}");
        fs::write(dir.path().join(STATUS_FILE), "{\"run\": 3").unwrap();
        let error = Status::read(dir.path()).unwrap_err().to_string();
        assert!(
            error.contains("status.json") && error.contains("line 1"),
            "{error}"
        );
    }
}
