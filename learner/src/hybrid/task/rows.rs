//! The steps that were taken, on disk: a checkpoint says how many of them it stands on and holds none.
//!
//! Rows of one size lie one after the other in files of as many, which are named by their first row. Each is written
//! once. What a checkpoint stands on is on disk before the checkpoint is; rows after that, of a process that was
//! killed, are cut off before others take their places; and a file goes when the checkpoint that is on disk stands on
//! none of its rows.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, BufWriter, Read, Seek, SeekFrom, Write},
    ops::Range,
    path::{Path, PathBuf},
};

use hilt_recording::table::Columns;

use crate::vectors::Step;

/// Rows of a file: of the locomotion tasks some MB.
const FILE_ROWS: u64 = 1 << 16;
/// Ending of the files.
const ENDING: &str = "rows";

/// Rows in the files of a folder, in which nothing is touched before the first of them is pushed.
pub(super) struct Rows {
    dir: PathBuf,
    /// O, numbers of an observation.
    observation: usize,
    /// A, numbers of an action.
    action: usize,
    file_rows: u64,
    /// Rows that there were, those that are gone included.
    end: u64,
    /// The file that the next row goes to, if it is open.
    file: Option<BufWriter<File>>,
    /// The first row that the checkpoint on disk stands on.
    kept: u64,
}

impl Rows {
    /// None yet, of observations and actions of these sizes.
    pub fn new(dir: PathBuf, (observation, action): (usize, usize)) -> Self {
        Self {
            dir,
            observation,
            action,
            file_rows: FILE_ROWS,
            end: 0,
            file: None,
            kept: 0,
        }
    }

    /// Numbers of a row: observation, action, reward, next observation. Behind them is a byte of flags.
    fn numbers(&self) -> usize {
        2 * self.observation + self.action + 1
    }

    fn row_bytes(&self) -> usize {
        4 * self.numbers() + 1
    }

    fn path(&self, first: u64) -> PathBuf {
        self.dir.join(format!("{first:012}.{ENDING}"))
    }

    fn named(&self, first: u64) -> impl Fn(io::Error) -> io::Error + use<> {
        let path = self.path(first);
        move |error| io::Error::new(error.kind(), format!("{}: {error}", path.display()))
    }

    /// The first row of the file in which `row` lies.
    fn first(&self, row: u64) -> u64 {
        row - row % self.file_rows
    }

    /// One more.
    pub fn push(&mut self, step: &Step) -> io::Result<()> {
        let named = self.named(self.first(self.end));
        let mut row = Vec::with_capacity(self.row_bytes());
        let numbers = (step.observation.iter())
            .chain(step.action)
            .chain([&step.reward])
            .chain(step.next_observation);
        row.extend(numbers.flat_map(|number| number.to_le_bytes()));
        row.push(u8::from(step.terminated) | u8::from(step.truncated) << 1);
        let mut file = match self.file.take() {
            Some(file) => file,
            None => self.open()?,
        };
        file.write_all(&row).map_err(named)?;
        self.file = Some(file);
        self.end += 1;
        if self.end.is_multiple_of(self.file_rows) {
            self.sync()?;
            self.file = None;
        }
        Ok(())
    }

    /// Opens the file of the next row, behind its rows. What others left after them is gone then.
    fn open(&self) -> io::Result<BufWriter<File>> {
        let first = self.first(self.end);
        fs::create_dir_all(&self.dir).map_err(self.named(first))?;
        for (later, path) in self.files()? {
            if later > first {
                fs::remove_file(path).map_err(self.named(later))?;
            }
        }
        let bytes = (self.end - first) * self.row_bytes() as u64;
        let opened = (OpenOptions::new().create(true).truncate(false).write(true))
            .open(self.path(first))
            .and_then(|mut file| {
                file.set_len(bytes)?;
                file.seek(SeekFrom::End(0))?;
                Ok(BufWriter::with_capacity(1 << 20, file))
            });
        opened.map_err(self.named(first))
    }

    /// The files, by their first rows.
    fn files(&self) -> io::Result<Vec<(u64, PathBuf)>> {
        let mut files = vec![];
        for entry in fs::read_dir(&self.dir)? {
            let path = entry?.path();
            if path.extension().is_some_and(|ending| ending == ENDING)
                && let Some(name) = path.file_stem().and_then(|name| name.to_str())
                && let Ok(first) = name.parse()
            {
                files.push((first, path));
            }
        }
        Ok(files)
    }

    /// Brings to disk what was pushed.
    fn sync(&mut self) -> io::Result<()> {
        let named = self.named(self.first(self.end.saturating_sub(1)));
        let Some(file) = &mut self.file else {
            return Ok(());
        };
        file.flush()
            .and_then(|()| file.get_ref().sync_data())
            .and_then(|()| File::open(&self.dir)?.sync_all())
            .map_err(named)
    }

    /// Before a checkpoint that stands on the newest `count` rows: they are on disk, and those go on which the
    /// checkpoint before it does not stand.
    pub fn keep(&mut self, count: usize) -> io::Result<()> {
        self.sync()?;
        if self.first(self.kept) > 0 {
            for (first, path) in self.files()? {
                if first + self.file_rows <= self.kept {
                    fs::remove_file(path).map_err(self.named(first))?;
                }
            }
        }
        self.kept = self.end - count as u64;
        Ok(())
    }

    /// The rows that a checkpoint stands on, after which the next one is pushed.
    pub fn resume(&mut self, range: Range<u64>) -> io::Result<Columns> {
        let mut columns = Columns {
            observation: self.observation,
            action: self.action,
            ..Columns::default()
        };
        let mut row = range.start;
        while row < range.end {
            let first = self.first(row);
            let count = (first + self.file_rows).min(range.end) - row;
            let read = self.read(&self.path(first), row - first, count);
            self.add(&mut columns, &read.map_err(self.named(first))?);
            row += count;
        }
        (self.kept, self.end) = (range.start, range.end);
        Ok(columns)
    }

    fn read(&self, path: &Path, skipped: u64, count: u64) -> io::Result<Vec<u8>> {
        let bytes = self.row_bytes();
        let mut file = File::open(path)?;
        file.seek(SeekFrom::Start(skipped * bytes as u64))?;
        let mut read = vec![0; count as usize * bytes];
        file.read_exact(&mut read)?;
        Ok(read)
    }

    fn add(&self, columns: &mut Columns, rows: &[u8]) {
        for row in rows.chunks_exact(self.row_bytes()) {
            let (numbers, flags) = row.split_at(4 * self.numbers());
            let mut numbers = (numbers.chunks_exact(4))
                .map(|bytes| f32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]));
            let (o, a) = (self.observation, self.action);
            columns.observations.extend(numbers.by_ref().take(o));
            columns.actions.extend(numbers.by_ref().take(a));
            columns.rewards.extend(numbers.by_ref().take(1));
            columns.next_observations.extend(numbers);
            columns.terminals.push(flags[0] & 1 != 0);
            columns.timeouts.push(flags[0] & 2 != 0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Files of four rows.
    fn rows(dir: &Path) -> Rows {
        Rows {
            file_rows: 4,
            ..Rows::new(dir.join("replay"), (2, 1))
        }
    }

    /// Rows whose numbers say which they are.
    fn push(rows: &mut Rows, numbers: Range<u64>) {
        for number in numbers {
            let n = number as f32;
            rows.push(&Step {
                observation: &[n, n + 0.1],
                action: &[n + 0.2],
                reward: n + 0.3,
                next_observation: &[n + 0.4, n + 0.5],
                terminated: number % 3 == 0,
                truncated: number % 5 == 0,
            })
            .unwrap();
        }
    }

    fn rewards(range: Range<u64>) -> Vec<f32> {
        range.map(|number| number as f32 + 0.3).collect()
    }

    fn files(rows: &Rows) -> Vec<u64> {
        let mut firsts: Vec<u64> = rows.files().unwrap().into_iter().map(|(f, _)| f).collect();
        firsts.sort_unstable();
        firsts
    }

    #[test]
    fn what_was_kept_is_read_back_and_what_came_after_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let mut first = rows(dir.path());
        push(&mut first, 0..6);
        first.keep(6).unwrap();
        // Killed at 13, two files later, what was written last in part.
        push(&mut first, 6..13);
        first.sync().unwrap();
        drop(first);
        let path = rows(dir.path()).path(12);
        let file = OpenOptions::new().write(true).open(path).unwrap();
        file.set_len(7).unwrap();

        let mut second = rows(dir.path());
        let read = second.resume(0..6).unwrap();
        assert_eq!(read.rewards, rewards(0..6));
        assert_eq!(read.observations[10..], [5.0, 5.1]);
        assert_eq!(read.actions[5], 5.2);
        assert_eq!(read.next_observations[10..], [5.4, 5.5]);
        assert_eq!(read.terminals, [true, false, false, true, false, false]);
        assert_eq!(read.timeouts, [true, false, false, false, false, true]);
        assert_eq!(files(&second), [0, 4, 8, 12], "to look changes nothing");
        // Others than before: every hundred instead.
        push(&mut second, 100..101);
        assert_eq!(files(&second), [0, 4]);
        second.keep(7).unwrap();
        let read = rows(dir.path()).resume(0..7).unwrap();
        assert_eq!(read.rewards, [rewards(0..6), rewards(100..101)].concat());
    }

    #[test]
    fn rows_that_no_checkpoint_stands_on_are_gone_and_all_others_are_there() {
        let dir = tempfile::tempdir().unwrap();
        let mut ring = rows(dir.path());
        push(&mut ring, 0..5);
        ring.keep(5).unwrap();
        // The ring of five goes round twice; the checkpoint on disk is still that of the beginning.
        push(&mut ring, 5..15);
        ring.keep(5).unwrap();
        assert_eq!(files(&ring), [0, 4, 8, 12]);
        assert_eq!(
            rows(dir.path()).resume(0..5).unwrap().rewards,
            rewards(0..5)
        );
        push(&mut ring, 15..16);
        ring.keep(5).unwrap();
        assert_eq!(files(&ring), [8, 12]);
        for range in [10..15, 11..16] {
            let read = rows(dir.path()).resume(range.clone()).unwrap();
            assert_eq!(read.rewards, rewards(range));
        }
        let gone = rows(dir.path()).resume(4..9).unwrap_err();
        assert!(gone.to_string().contains("000000000004.rows"), "{gone}");
        // At the end of a file the next one is begun by the next row.
        let mut resumed = rows(dir.path());
        resumed.resume(11..16).unwrap();
        push(&mut resumed, 16..18);
        resumed.keep(5).unwrap();
        assert_eq!(files(&resumed), [8, 12, 16]);
        let read = rows(dir.path()).resume(13..18).unwrap();
        assert_eq!(read.rewards, rewards(13..18));
    }

    #[test]
    fn a_new_training_does_not_have_the_rows_of_one_that_gave_way() {
        let dir = tempfile::tempdir().unwrap();
        let mut given_up = rows(dir.path());
        push(&mut given_up, 0..9);
        given_up.sync().unwrap();
        let mut new = rows(dir.path());
        push(&mut new, 50..51);
        new.keep(1).unwrap();
        assert_eq!(files(&new), [0]);
        assert_eq!(fs::metadata(new.path(0)).unwrap().len(), 25);
    }
}
