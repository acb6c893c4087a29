//! Files that are whole or not there.

use std::{
    fs::{self, File},
    io::{self, BufWriter},
    path::{Path, PathBuf},
};

use crate::{asked::Asked, beside};

/// What was to be written is not there.
#[derive(Debug, thiserror::Error)]
#[error("{}: {cause}; free some space or choose another place", path.display())]
pub struct NotWritten {
    /// The file or folder.
    pub path: PathBuf,
    /// What the system said.
    pub cause: io::Error,
}

/// What becomes of the system's word on a path that is written.
pub(crate) fn not_written(path: &Path) -> impl Fn(io::Error) -> NotWritten {
    let path = path.to_owned();
    move |cause| NotWritten {
        path: path.clone(),
        cause,
    }
}

/// Has a file written beside `path`, which takes its name when it is whole and on the disk. At a no of `go_on` it ends with
/// an error. `refused` is what a system that does not take the file means to the caller.
pub(crate) fn whole<T, E>(
    path: &Path,
    go_on: &dyn Fn() -> bool,
    refused: impl Fn(NotWritten) -> E,
    write: impl FnOnce(&mut BufWriter<Asked<'_, File>>) -> Result<T, E>,
) -> Result<T, E> {
    let beside = beside(path);
    let refused = |cause| refused(not_written(path)(cause));
    let written = (|| {
        let file = File::create(&beside).map_err(refused)?;
        let mut out = BufWriter::new(Asked::new(file, go_on));
        let written = write(&mut out)?;
        let asked = out.into_inner().map_err(|e| refused(e.into_error()))?;
        asked.file.sync_all().map_err(refused)?;
        fs::rename(&beside, path).map_err(refused)?;
        Ok(written)
    })();
    if written.is_err() {
        // Whatever is there of it is of no use; that it cannot be removed either says nothing more.
        let _ = fs::remove_file(&beside);
    }
    written
}
