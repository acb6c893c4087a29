//! Trainings in the folders where they were left.

use std::{
    fs, io,
    path::{Path, PathBuf},
    time::SystemTime,
};

use anyhow::{Context, Result};

use crate::{
    course::folder::FACTS_FILE,
    offline::batch,
    trained::{ABOUT_FILE, policy_in},
};

/// Places where trainings are looked for: here, and where the demo puts its own.
const PLACES: [&str; 2] = ["", "runs"];

/// The training below `dir`, or below `runs` in it, by itself or in a batch, whose policy was written last: of those on
/// state vectors, which are the ones that act in tasks.
pub fn newest(dir: &Path) -> Result<PathBuf> {
    let mut found: Option<(SystemTime, PathBuf)> = None;
    for place in PLACES {
        for path in entries(&dir.join(place))? {
            let mut candidates = vec![];
            for folder in batch::folders(&path) {
                candidates.extend(entries(&folder)?);
            }
            candidates.push(path);
            for path in candidates {
                let policy = (path.join(FACTS_FILE).exists()).then(|| policy_in(&path));
                let Some(policy) = policy.flatten() else {
                    continue;
                };
                let written = fs::metadata(policy.join(ABOUT_FILE));
                let written = written.and_then(|about| about.modified());
                let written = written.with_context(|| policy.display().to_string())?;
                found = found.max(Some((written, path)));
            }
        }
    }
    let (_, path) = found.with_context(|| {
        format!(
            "no folder in {} or in its runs/ holds a training that acts in a task ({FACTS_FILE}, and a policy in best/ or \
             export/), by itself or in a batch; say which: hilt-learner render FOLDER --out …",
            dir.display()
        )
    })?;
    Ok(path)
}

/// What is in a folder; nothing, if there is none.
fn entries(dir: &Path) -> Result<Vec<PathBuf>> {
    let named = || dir.display().to_string();
    let entries = match fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(vec![]),
        Err(error) => return Err(error).with_context(named),
    };
    let paths = entries.map(|entry| entry.map(|entry| entry.path()));
    paths.collect::<io::Result<_>>().with_context(named)
}
