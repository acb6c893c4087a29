//! Data that lies on a disk, shown whole.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use hilt_protocol::{RigSpec, RunId};
use hilt_recording::{Data, Recording, RunReader, find_runs, table::Table};

use super::{
    Screen,
    scenes::{self, Scenes},
};
use crate::tick_log::{Logged, TICKS_FILE, TickLogReader};

/// Shows what lies at `path`: every run a recording of its own, with its ticks if it kept them. `told` is the rig
/// of data that does not say it itself. `go_on` hears how many observations were shown, and may end it. Returns
/// that number.
pub fn view(
    path: &Path,
    told: Option<&RigSpec>,
    screen: &mut dyn Screen,
    mut go_on: impl FnMut(u64) -> bool,
) -> anyhow::Result<u64> {
    match Data::open(path, told)? {
        Data::Table(table) => of_table(&table, screen, &mut go_on),
        Data::Recording(recording) => {
            of_recording(&recording, &tick_logs(path)?, screen, &mut go_on)
        }
    }
}

fn of_table(
    table: &Table,
    screen: &mut dyn Screen,
    go_on: &mut dyn FnMut(u64) -> bool,
) -> anyhow::Result<u64> {
    screen.begin("table")?;
    let mut count = 0;
    for row in 0..table.len() {
        for shown in scenes::of_row(table, row) {
            screen.show(&shown)?;
        }
        count += 1;
        if !go_on(count) {
            break;
        }
    }
    Ok(count)
}

fn of_recording(
    recording: &Recording,
    tick_logs: &BTreeMap<RunId, PathBuf>,
    screen: &mut dyn Screen,
    go_on: &mut dyn FnMut(u64) -> bool,
) -> anyhow::Result<u64> {
    let mut run = None;
    let mut scenes = Scenes::new(recording.spec());
    let mut count = 0;
    for entry in recording.entries() {
        let entry = entry?;
        if run.replace(entry.run) != Some(entry.run) {
            screen.begin(&entry.run.to_string())?;
            scenes = Scenes::new(recording.spec());
            if let Some(dir) = tick_logs.get(&entry.run) {
                show_ticks(dir, &mut scenes, screen)?;
            }
        }
        for shown in scenes.of_entry(&entry) {
            screen.show(&shown)?;
        }
        count += 1;
        if !go_on(count) {
            break;
        }
    }
    Ok(count)
}

/// Folders of the runs at `path` that kept their ticks.
fn tick_logs(path: &Path) -> anyhow::Result<BTreeMap<RunId, PathBuf>> {
    // The log itself stands for its run; what another program wrote has no ticks.
    let dir = match path.is_file() {
        true => path.parent().unwrap_or(path),
        false => path,
    };
    let mut found = BTreeMap::new();
    for dir in find_runs(dir)? {
        if dir.join(TICKS_FILE).is_file()
            && let Some(first) = RunReader::open(&dir)?.next().transpose()?
        {
            found.insert(first.run, dir);
        }
    }
    Ok(found)
}

fn show_ticks(dir: &Path, scenes: &mut Scenes, screen: &mut dyn Screen) -> anyhow::Result<()> {
    for logged in TickLogReader::open(dir)? {
        if let Logged::Tick(tick) = logged? {
            for shown in scenes.of_tick(&tick) {
                screen.show(&shown)?;
            }
        }
    }
    Ok(())
}
