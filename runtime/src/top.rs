//! `hilt top`: how a run stands, live, from the [`Status`] that it writes.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::atomic::{AtomicBool, Ordering},
    time::{Duration, SystemTime},
};

use anyhow::Context;
use ratatui::{
    DefaultTerminal,
    crossterm::event::{self, Event, KeyCode, KeyEventKind, KeyModifiers},
};

use crate::{
    status::{STATUS_FILE, Status, unix_now_s},
    view,
};

/// So often the file is read again.
const PERIOD: Duration = Duration::from_millis(200);

/// The folder of the run to show: with `given`, the newest run in it, as a demo's folder holds its
/// run in `actor`; else the newest one here or in `runs`.
pub fn find(given: Option<&Path>) -> anyhow::Result<PathBuf> {
    let found = match given {
        Some(dir) => newest(&[(dir, 1)]),
        None => newest(&[(Path::new("."), 1), (Path::new("runs"), 2)]),
    };
    found.with_context(|| match given {
        Some(dir) => format!(
            "there is no {STATUS_FILE} in {}; name the folder that a run was given with --out",
            dir.display()
        ),
        None => format!(
            "there is no {STATUS_FILE} here nor in ./runs; name a run's folder: hilt top RUN-DIR"
        ),
    })
}

/// The folder with the newest status, of these and of those so many levels below them.
fn newest(places: &[(&Path, u32)]) -> Option<PathBuf> {
    let mut found = Vec::new();
    for (place, levels) in places {
        collect(place, *levels, &mut found);
    }
    let newest = found.into_iter().max_by_key(|(written, _)| *written);
    newest.map(|(_, dir)| dir)
}

/// Folders with a status. One that cannot be read holds none that could be shown.
fn collect(dir: &Path, levels: u32, found: &mut Vec<(SystemTime, PathBuf)>) {
    let written = fs::metadata(dir.join(STATUS_FILE)).and_then(|file| file.modified());
    if let Ok(written) = written {
        found.push((written, dir.to_owned()));
    }
    if levels == 0 {
        return;
    }
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        if entry.path().is_dir() {
            collect(&entry.path(), levels - 1, found);
        }
    }
}

/// The run in `dir` as it stands, in plain text.
pub fn once(dir: &Path) -> anyhow::Result<String> {
    Ok(view::text(&Status::read(dir)?, unix_now_s()))
}

/// Shows the run in `dir` on this terminal until the user quits, or `stop`.
pub fn watch(dir: &Path, stop: &AtomicBool) -> anyhow::Result<()> {
    let shown = ratatui::try_init()
        .context("this terminal cannot be drawn on; use --once")
        .and_then(|mut terminal| follow(&mut terminal, dir, stop));
    // Whatever went wrong before: the user's terminal comes first.
    ratatui::try_restore().context("the terminal could not be restored; `reset` does it")?;
    shown
}

fn follow(terminal: &mut DefaultTerminal, dir: &Path, stop: &AtomicBool) -> anyhow::Result<()> {
    while !stop.load(Ordering::Relaxed) {
        // A file that cannot be read is shown as such: it may be back at the next look.
        let read = Status::read(dir);
        terminal.draw(|frame| view::draw(frame, &read, unix_now_s()))?;
        if event::poll(PERIOD)? && quits(&event::read()?) {
            break;
        }
    }
    Ok(())
}

/// q, Esc, Ctrl-C.
fn quits(event: &Event) -> bool {
    let Event::Key(key) = event else {
        return false;
    };
    let wish = match key.code {
        KeyCode::Char('q' | 'Q') | KeyCode::Esc => true,
        KeyCode::Char('c') => key.modifiers.contains(KeyModifiers::CONTROL),
        _ => false,
    };
    wish && key.kind != KeyEventKind::Release
}

#[cfg(test)]
mod tests {
    use ratatui::crossterm::event::KeyEvent;

    use super::*;
    use crate::status::tests::example;

    /// A status in `dir` that was written `at_s` seconds after 1970.
    fn status_in(dir: &Path, at_s: u64) {
        fs::create_dir_all(dir).unwrap();
        example().write(dir).unwrap();
        let file = fs::File::options()
            .append(true)
            .open(dir.join(STATUS_FILE))
            .unwrap();
        let written = SystemTime::UNIX_EPOCH + Duration::from_secs(at_s);
        file.set_modified(written).unwrap();
    }

    #[test]
    fn the_newest_run_is_found() {
        let dir = tempfile::tempdir().unwrap();
        let runs = dir.path().join("runs");
        fs::create_dir(&runs).unwrap();
        assert_eq!(newest(&[(&runs, 2)]), None);
        status_in(&runs.join("old/actor"), 10);
        status_in(&runs.join("new"), 20);
        status_in(&runs.join("too/deep/for/it"), 30);
        assert_eq!(newest(&[(&runs, 2)]), Some(runs.join("new")));
        status_in(&runs.join("old/actor"), 25);
        assert_eq!(newest(&[(&runs, 2)]), Some(runs.join("old/actor")));
        status_in(dir.path(), 40);
        let both = [(dir.path(), 1), (runs.as_path(), 2)];
        assert_eq!(newest(&both), Some(dir.path().to_owned()));
    }

    #[test]
    fn a_named_folder_is_the_runs_or_the_one_above() {
        let dir = tempfile::tempdir().unwrap();
        let error = find(Some(dir.path())).unwrap_err().to_string();
        assert!(
            error.contains("--out") && error.contains(STATUS_FILE),
            "{error}"
        );
        let actor = dir.path().join("actor");
        status_in(&actor, 10);
        assert_eq!(find(Some(dir.path())).unwrap(), actor);
        assert_eq!(find(Some(&actor)).unwrap(), actor);
        assert!(once(&actor).unwrap().contains("RUNNING"));
    }

    #[test]
    fn three_keys_quit_and_others_do_not() {
        let key = |code, modifiers| Event::Key(KeyEvent::new(code, modifiers));
        for (code, modifiers, expected) in [
            (KeyCode::Char('q'), KeyModifiers::NONE, true),
            (KeyCode::Esc, KeyModifiers::NONE, true),
            (KeyCode::Char('c'), KeyModifiers::CONTROL, true),
            (KeyCode::Char('c'), KeyModifiers::NONE, false),
            (KeyCode::Char('x'), KeyModifiers::NONE, false),
        ] {
            assert_eq!(quits(&key(code, modifiers)), expected, "{code:?}");
        }
        assert!(!quits(&Event::Resize(80, 24)));
        let mut released = KeyEvent::new(KeyCode::Esc, KeyModifiers::NONE);
        released.kind = KeyEventKind::Release;
        assert!(!quits(&Event::Key(released)));
    }
}
