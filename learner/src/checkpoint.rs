//! Named tensors in a file, agents among them, and folders of files: whole, or as they were before.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use tch::Tensor;

use crate::agents::guard::{BadState, check_state};

/// Writes tensors as `.safetensors`: beside the place, then renamed into it.
pub fn write_tensors(path: &Path, tensors: &[(String, Tensor)]) -> io::Result<()> {
    let named = |e: io::Error| io::Error::new(e.kind(), format!("{}: {e}", path.display()));
    let beside = hilt_recording::beside(path);
    let written = Tensor::write_safetensors(tensors, &beside)
        .map_err(io::Error::other)
        .and_then(|()| fs::File::open(&beside)?.sync_all())
        .and_then(|()| fs::rename(&beside, path));
    if written.is_err() {
        // A full disk has no room for half a file.
        let _ = fs::remove_file(&beside);
    }
    written.map_err(named)
}

/// Reads what [`write_tensors`] wrote. An error names the file.
pub fn read_tensors(path: &Path) -> io::Result<Vec<(String, Tensor)>> {
    // By itself, for its error says whether the file is there.
    let named = |e: io::Error| io::Error::new(e.kind(), format!("{}: {e}", path.display()));
    fs::File::open(path).map_err(named)?;
    Tensor::read_safetensors(path).map_err(|e| named(io::Error::other(e)))
}

/// Why an agent's state was not written, or cannot be gone on from. What was on disk stays as it was.
#[derive(Debug, thiserror::Error)]
pub enum NotKept {
    /// The file system refused, or the file is none of tensors.
    #[error(transparent)]
    File(#[from] io::Error),
    /// The state is not one to go on from.
    #[error("{path}: {fault}")]
    State {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        fault: BadState,
    },
}

/// The number of updates stands among the tensors.
const UPDATES: &str = "updates";

/// Writes what `Agent::state` gave, and how many updates made it. A state with a number that is not finite is
/// refused, so that the last file stays good.
pub fn write_agent(
    path: &Path,
    mut state: Vec<(String, Tensor)>,
    updates: u64,
) -> Result<(), NotKept> {
    check_state(&state, &state).map_err(|fault| NotKept::State {
        path: path.to_owned(),
        fault,
    })?;
    state.push((UPDATES.to_owned(), Tensor::from(updates as i64)));
    Ok(write_tensors(path, &state)?)
}

/// A state for an agent whose own is `own`, and how many updates made it.
pub fn read_agent(
    path: &Path,
    mut own: Vec<(String, Tensor)>,
) -> Result<(Vec<(String, Tensor)>, u64), NotKept> {
    let state = read_tensors(path)?;
    own.push((UPDATES.to_owned(), Tensor::from(0i64)));
    check_state(&own, &state).map_err(|fault| NotKept::State {
        path: path.to_owned(),
        fault,
    })?;
    let updates = state.iter().find(|(name, _)| name == UPDATES);
    let updates = updates.map_or(0, |(_, updates)| updates.int64_value(&[]) as u64);
    Ok((state, updates))
}

/// A folder's name with an ending.
fn named_with(dir: &Path, ending: &str) -> PathBuf {
    let mut name = dir.as_os_str().to_owned();
    name.push(ending);
    PathBuf::from(name)
}

/// Gives a folder back its name, if [`replace_folder`] was killed in the moment in which it had none.
pub fn recover_folder(dir: &Path) -> io::Result<()> {
    let old = named_with(dir, ".old");
    if !dir.exists() && old.exists() {
        fs::rename(&old, dir)?;
    }
    Ok(())
}

/// Fills a folder beside `dir` and puts it in the place of `dir`, with all that was there. Killed on the way it
/// leaves the old folder, if not under its name then so that [`recover_folder`] finds it.
pub fn replace_folder<E: From<io::Error>>(
    dir: &Path,
    fill: impl FnOnce(&Path) -> Result<(), E>,
) -> Result<(), E> {
    let named = |e: io::Error| io::Error::new(e.kind(), format!("{}: {e}", dir.display()));
    let gone = |path: &Path| gone(path).map_err(named);
    let (partial, old) = (named_with(dir, ".partial"), named_with(dir, ".old"));
    recover_folder(dir).map_err(named)?;
    gone(&partial)?;
    fs::create_dir_all(&partial).map_err(named)?;
    fill(&partial)?;
    if dir.exists() {
        gone(&old)?;
        fs::rename(dir, &old).map_err(named)?;
    }
    fs::rename(&partial, dir).map_err(named)?;
    Ok(gone(&old)?)
}

fn gone(dir: &Path) -> io::Result<()> {
    match fs::remove_dir_all(dir) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(e),
        _ => Ok(()),
    }
}

/// Fills a folder beside `dir`, where none is but an empty one, and puts it there. Of one that could not be filled
/// nothing is left.
pub fn new_folder<E: From<io::Error>>(
    dir: &Path,
    fill: impl FnOnce(&Path) -> Result<(), E>,
) -> Result<(), E> {
    let named = |e: io::Error| io::Error::new(e.kind(), format!("{}: {e}", dir.display()));
    let beside = hilt_recording::beside(dir);
    gone(&beside)
        .and_then(|()| fs::create_dir_all(&beside))
        .map_err(named)?;
    let put = fill(&beside).and_then(|()| Ok(fs::rename(&beside, dir).map_err(named)?));
    if put.is_err() {
        // A full disk has no room for half a folder.
        let _ = gone(&beside);
    }
    put
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_that_lost_its_name_gets_it_back() {
        let temp = tempfile::tempdir().unwrap();
        let dir = temp.path().join("best");
        let fill = |word: &'static str| move |dir: &Path| fs::write(dir.join("which"), word);
        replace_folder(&dir, fill("first")).unwrap();
        // Killed between the two renames.
        fs::rename(&dir, named_with(&dir, ".old")).unwrap();
        recover_folder(&dir).unwrap();
        assert_eq!(fs::read(dir.join("which")).unwrap(), b"first");
        fs::rename(&dir, named_with(&dir, ".old")).unwrap();
        let refused = |_: &Path| Err(io::Error::other("the disk is full"));
        replace_folder(&dir, refused).unwrap_err();
        assert_eq!(fs::read(dir.join("which")).unwrap(), b"first");
        replace_folder(&dir, fill("second")).unwrap();
        assert_eq!(fs::read(dir.join("which")).unwrap(), b"second");
        assert!(!named_with(&dir, ".old").exists());
    }

    #[test]
    fn tensors_come_back_and_a_missing_or_broken_file_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.safetensors");
        let missing = read_tensors(&path).unwrap_err();
        assert_eq!(missing.kind(), io::ErrorKind::NotFound);
        assert!(missing.to_string().contains("a.safetensors"), "{missing}");
        let tensors = vec![
            ("w".to_owned(), Tensor::from_slice(&[1f32, -2.5])),
            ("steps".to_owned(), Tensor::from(7i64)),
        ];
        write_tensors(&path, &tensors).unwrap();
        let mut read = read_tensors(&path).unwrap();
        read.sort_by_key(|(name, _)| std::cmp::Reverse(name.clone()));
        assert_eq!(read, tensors);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
        let whole = fs::read(&path).unwrap();
        fs::write(&path, &whole[..whole.len() - 1]).unwrap();
        let broken = read_tensors(&path).unwrap_err().to_string();
        assert!(broken.contains("a.safetensors"), "{broken}");
    }

    #[test]
    fn a_state_comes_back_if_it_fits_and_one_that_diverged_is_not_written() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("agent.safetensors");
        let state = |values: &[f32]| vec![("actor.params".to_owned(), Tensor::from_slice(values))];
        write_agent(&path, state(&[1.0, 2.0]), 7).unwrap();
        let (read, updates) = read_agent(&path, state(&[0.0, 0.0])).unwrap();
        assert!(read.contains(&state(&[1.0, 2.0])[0]));
        assert_eq!(updates, 7);
        let refused = |own| read_agent(&path, own).unwrap_err().to_string();
        let shape = refused(state(&[0.0]));
        assert!(
            shape.contains("agent.safetensors: `actor.params` has shape [2]"),
            "{shape}"
        );
        let missing = refused(vec![("critics.params".to_owned(), Tensor::from(0i64))]);
        assert!(missing.contains("`critics.params`"), "{missing}");
        let before = fs::read(&path).unwrap();
        let diverged = write_agent(&path, state(&[1.0, f32::NAN]), 8).unwrap_err();
        assert!(
            diverged
                .to_string()
                .contains("`actor.params` has NaN at place 1"),
            "{diverged}"
        );
        assert_eq!(fs::read(&path).unwrap(), before);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_new_folder_is_there_whole_or_not_at_all() {
        let temp = tempfile::tempdir().unwrap();
        let (dir, fails) = (temp.path().join("new"), |into: &Path| {
            fs::write(into.join("half"), "")?;
            Err(io::Error::other("no space"))
        });
        new_folder(&dir, fails).unwrap_err();
        assert_eq!(fs::read_dir(temp.path()).unwrap().count(), 0);
        let put = |into: &Path| fs::write(into.join("whole"), "");
        for _ in 0..2 {
            // Where nothing is, and where an empty one is.
            new_folder(&dir, put).unwrap();
            assert!(dir.join("whole").exists());
            fs::remove_file(dir.join("whole")).unwrap();
        }
        fs::write(dir.join("somebody's"), "").unwrap();
        new_folder(&dir, put).unwrap_err();
        assert!(dir.join("somebody's").exists() && !dir.join("whole").exists());
        assert_eq!(fs::read_dir(temp.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_folder_is_replaced_whole_or_not_at_all() {
        let dir = tempfile::tempdir().unwrap();
        let best = dir.path().join("best");
        let put = |name: &'static str| {
            move |into: &Path| -> io::Result<()> { fs::write(into.join(name), name) }
        };
        replace_folder(&best, put("first")).unwrap();
        let failed = |into: &Path| {
            fs::write(into.join("half"), "")?;
            Err(io::Error::other("no space"))
        };
        assert!(replace_folder(&best, failed).is_err());
        assert!(best.join("first").exists() && !best.join("half").exists());
        replace_folder(&best, put("second")).unwrap();
        let files = |dir: &Path| fs::read_dir(dir).unwrap().count();
        assert_eq!((files(&best), files(dir.path())), (1, 1));
        assert!(best.join("second").exists());
    }
}
