//! What a run keeps of its control loop: the accounts, and in real time every tick and decision.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::Context;
use hilt_protocol::RunId;

use crate::{
    bookkeeper::{About, Bookkeeper, News, Onward},
    cell::Cell,
    control::Report,
    rig::Rig,
    status::Status,
    tick::Stage,
    tick_log::{self, TickLog, TickLogSender},
};

/// The books of a run, open. Dropped without [`RunBooks::finish`] they are closed as well.
pub struct RunBooks {
    keeper: Bookkeeper,
    ticks: Option<TickLog>,
    sender: Option<TickLogSender>,
}

impl RunBooks {
    /// Begins them in `dir`, with the rig beside them. From here on the control thread's records are
    /// taken out of their ring, which holds some seconds: so before anything is waited for.
    pub fn begin(rig: &Rig, dir: &Path, run: RunId, cell: &mut Cell) -> anyhow::Result<Self> {
        let toml = rig.to_toml()?;
        let file = dir.join("rig.toml");
        fs::write(&file, &toml).with_context(|| file.display().to_string())?;
        let ticks = match cell.began().cloned() {
            Some(began) => Some(TickLog::create(dir, &tick_log::About { rig: toml, began })?),
            None => None,
        };
        let sender = ticks.as_ref().map(TickLog::sender);
        if let Some(sender) = &sender {
            cell.log_to(sender.clone());
        }
        let keeper = keeper(
            rig,
            Some(dir.to_owned()),
            run.to_string(),
            cell,
            sender.clone(),
        )?;
        Ok(Self {
            keeper,
            ticks,
            sender,
        })
    }

    /// Of what is driven and not recorded: the accounts alone, on no disk.
    pub fn unrecorded(rig: &Rig, name: &str, cell: &mut Cell) -> anyhow::Result<Self> {
        Ok(Self {
            keeper: keeper(rig, None, name.to_owned(), cell, None)?,
            ticks: None,
            sender: None,
        })
    }

    /// A stage of the policy took so long.
    pub fn took(&mut self, stage: Stage, duration_ns: u64) {
        self.keeper.took(stage, duration_ns);
    }

    /// Something is new.
    pub fn tell(&self, change: impl FnOnce(&mut News)) {
        self.keeper.tell(|news| {
            change(news);
            let losses = self.sender.as_ref().map(TickLogSender::losses);
            news.log_losses = losses.map_or(0, |losses| losses.total());
        });
    }

    /// Closes them. `last`: the control thread's own last word; `None` in lockstep. What does not
    /// balance and what is not in the log is told.
    pub fn finish(self, last: Option<Report>) -> anyhow::Result<Status> {
        let (status, balance) =
            (self.keeper.finish(last)).context("the run's figures are lost; its log is whole")?;
        let lost = self.ticks.map(TickLog::finish).unwrap_or_default();
        if lost.total() > 0 {
            let (ticks, decisions) = (lost.ticks, lost.decisions);
            tracing::warn!(
                "{ticks} ticks and {decisions} decisions are not in the log: the disk was full or slow"
            );
        }
        if let Err(error) = balance {
            tracing::error!("the accounts of the control loop do not balance: {error}");
        }
        Ok(status)
    }
}

fn keeper(
    rig: &Rig,
    dir: Option<PathBuf>,
    run: String,
    cell: &mut Cell,
    sender: Option<TickLogSender>,
) -> anyhow::Result<Bookkeeper> {
    let about = About {
        dir,
        run,
        rig: rig.name.clone(),
    };
    let onward: Onward = match sender {
        Some(sender) => Box::new(move |records| sender.ticks(records.to_vec())),
        None => Box::new(|_| {}),
    };
    Bookkeeper::start(rig, about, cell.take_records(), onward)
        .context("starting the bookkeeper's thread")
}
