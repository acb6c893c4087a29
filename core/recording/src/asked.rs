//! Long reading and writing that somebody may end.

use std::{
    cell::Cell,
    io::{self, Read, Seek, SeekFrom, Write},
};

use crate::RecordingError;

/// Does what asks again and again whether to go on. Where that was refused it is [`RecordingError::Ended`], whatever
/// the refusal had become on its way up.
pub(crate) fn unless_ended<T, E: From<RecordingError>>(
    go_on: &dyn Fn() -> bool,
    work: impl FnOnce(&dyn Fn() -> bool) -> Result<T, E>,
) -> Result<T, E> {
    let ended = Cell::new(false);
    let asked = || {
        let yes = go_on();
        ended.set(ended.get() || !yes);
        yes
    };
    match work(&asked) {
        Err(_) if ended.get() => Err(RecordingError::Ended.into()),
        done => done,
    }
}

/// A file that asks before every piece whether to go on; a no is an error of the file's, see [`unless_ended`].
pub(crate) struct Asked<'a, F> {
    pub file: F,
    go_on: &'a dyn Fn() -> bool,
}

impl<'a, F> Asked<'a, F> {
    pub fn new(file: F, go_on: &'a dyn Fn() -> bool) -> Self {
        Self { file, go_on }
    }

    fn ask(&self) -> io::Result<()> {
        match (self.go_on)() {
            true => Ok(()),
            false => Err(io::Error::other("ended")),
        }
    }
}

impl<F: Read> Read for Asked<'_, F> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        self.ask()?;
        self.file.read(into)
    }
}

impl<F: Write> Write for Asked<'_, F> {
    fn write(&mut self, from: &[u8]) -> io::Result<usize> {
        self.ask()?;
        self.file.write(from)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl<F: Seek> Seek for Asked<'_, F> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.file.seek(to)
    }
}
