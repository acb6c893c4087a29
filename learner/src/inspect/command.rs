//! `hilt-learner inspect`: goes through data once, and says what is in it.

use std::{
    io::{self, Write},
    path::PathBuf,
    sync::atomic::AtomicBool,
};

use anyhow::{Context, Result};
use hilt_recording::{Data, Recording, read_spec};
use hilt_show::Show;
use serde_json::json;

use super::{
    figures::Figures,
    findings::{Finding, findings},
    gather::{Drawn, Gather},
    page,
    summary::{Summary, grouped},
};
use crate::{
    dataset::open_data,
    metrics::{check_writable, write_atomically},
    stopped::Stopped,
};

/// What to look at, and how to tell of it.
#[derive(Clone, Debug)]
pub struct InspectOptions {
    /// Whatever [`Data::open`] opens.
    pub data: PathBuf,
    /// The rig of a recording that does not say it itself.
    pub spec: Option<PathBuf>,
    /// A page to write.
    pub page: Option<PathBuf>,
    /// Figures for programs on standard output, in place of the summary.
    pub json: bool,
}

/// What Ctrl-C comes before.
const STOPPED: &str = "all of it was looked at";

/// Looks at data and says what it is. However bad that is, it is no error; only what cannot be read is one, and then the
/// figures of what could be are told before it.
pub fn run(options: &InspectOptions, stop: &AtomicBool) -> Result<()> {
    if let Some(page) = &options.page {
        check_writable(page).context("--out")?;
    }
    let told = (options.spec.as_deref())
        .map(read_spec)
        .transpose()
        .context("--spec")?;
    let name = options.data.display().to_string();
    let with_films = options.page.is_some();
    let data = open_data(&options.data, told.as_ref(), true, (stop, STOPPED))?;
    let seen_late = matches!(&data, Data::Recording(recording) if recording.seen_late());
    let (gather, failed) = match data {
        Data::Table(table) => (Gather::table(name, &table, with_films), None),
        Data::Recording(recording) => {
            let show = (!options.json).then(|| Show::new("inspect", None));
            let gather = Gather::recording(name, recording.spec(), with_films);
            go_through(&recording, gather, show, stop)?
        }
    };
    let (mut figures, drawn) = gather.finish();
    figures.seen_late = seen_late;
    figures.unread = failed.as_ref().map(|error| format!("{error:#}"));
    let findings = findings(&figures);
    tell(options, &figures, &findings, &drawn)?;
    match failed {
        Some(error) => Err(error.context("not all of it could be read")),
        None => Ok(()),
    }
}

/// The entries of a recording, as far as they can be read, and why no farther.
fn go_through(
    recording: &Recording,
    mut gather: Gather,
    mut show: Option<Show>,
    stop: &AtomicBool,
) -> Result<(Gather, Option<anyhow::Error>)> {
    for (read, entry) in (0u64..).zip(recording.entries()) {
        Stopped::check(stop, STOPPED)?;
        match entry {
            Ok(entry) => gather.entry(entry),
            Err(error) => return Ok((gather, Some(error.into()))),
        }
        if let Some(show) = &mut show {
            show.stand(read, || format!("{} entries", grouped(read)));
        }
    }
    if let Some(show) = show {
        show.end();
    }
    Ok((gather, None))
}

fn tell(
    options: &InspectOptions,
    figures: &Figures,
    findings: &[Finding],
    drawn: &Drawn,
) -> Result<()> {
    let mut text = match options.json {
        true => {
            let all = json!({ "findings": findings, "figures": figures });
            serde_json::to_string_pretty(&all)? + "\n"
        }
        false => Summary { figures, findings }.to_string(),
    };
    if let Some(path) = &options.page {
        let html = page::html(figures, findings, drawn)?;
        write_atomically(path, html.as_bytes()).context("--out")?;
        if !options.json {
            text += &format!("\nthe page: {}\n", path.display());
        }
    }
    match io::stdout().write_all(text.as_bytes()) {
        // Whoever reads has read enough, as `head` does.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        written => Ok(written?),
    }
}
