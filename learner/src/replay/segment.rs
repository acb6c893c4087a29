//! One segment: a header and rows of a fixed size in a file, written in whole rows and read through
//! a memory map.

use std::{
    fs::{File, OpenOptions},
    io::{self, Read},
    ops::Range,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    sync::atomic::{AtomicUsize, Ordering},
};

use hilt_protocol::RunId;
use memmap2::Mmap;

/// What a row holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layout {
    /// Cameras per observation.
    pub cameras: usize,
    /// Bytes per camera: an RGB image, or the encoder's map in f16.
    pub frame_bytes: usize,
    /// Copies of each frame, from 1: the frame itself, then what it becomes under random shifts.
    pub copies: usize,
    /// Numbers of proprioception.
    pub proprio: usize,
    /// Columns of an action.
    pub action: usize,
}

/// What the rows of a store belong to: hash of the rig's spec and of the encoder (zero: images).
pub type Identity = [u8; 64];

/// What kind of row it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RowFlags {
    /// The observation begins an episode; it has no step.
    pub reset: bool,
    /// The step ended the task: no bootstrapping.
    pub terminated: bool,
    /// A person (or the scripted operator) acted.
    pub intervention: bool,
    /// The row comes from a recorded demonstration.
    pub demonstration: bool,
    /// The step was the episode's last, but did not end the task.
    pub truncated: bool,
}

/// One observation and the step that led to it.
#[derive(Clone, Copy, Debug)]
pub struct Row<'a> {
    /// Run.
    pub run: RunId,
    /// Sequence number within the run.
    pub sequence: u64,
    /// Episode within the run.
    pub episode: u64,
    /// Kind.
    pub flags: RowFlags,
    /// The step's reward.
    pub reward: f32,
    /// The step's grasp penalty.
    pub grasp_penalty: f32,
    /// The step's action (as many numbers as the layout says; anything for a reset).
    pub action: &'a [f32],
    /// The observation's proprioception.
    pub proprio: &'a [f32],
    /// The observation's frames, per camera [`Layout::copies`] of [`Layout::frame_bytes`] each, one
    /// after the other.
    pub frames: &'a [&'a [u8]],
}

/// Why rows cannot be kept.
#[derive(Debug, thiserror::Error)]
pub enum SegmentError {
    /// The file system refused.
    #[error(
        "{path}: {source} (a replay segment needs {bytes} bytes; free some space or move the store)"
    )]
    Io {
        /// The file.
        path: PathBuf,
        /// Bytes that the segment reserves.
        bytes: u64,
        /// What it said.
        source: io::Error,
    },
    /// The file is a store of something else.
    #[error(
        "{path}: this replay was written for another {what}; give the learner an empty --out folder"
    )]
    Other {
        /// The file.
        path: PathBuf,
        /// What differs.
        what: &'static str,
    },
    /// The file was written under another setting of the training.
    #[error(
        "{path}: this replay was written with {key} = {was}, not {is}; go on with {key} = {was}, or \
         give the learner an empty --out folder"
    )]
    Setting {
        /// The file.
        path: PathBuf,
        /// The setting.
        key: &'static str,
        /// Its value then.
        was: String,
        /// Its value now.
        is: String,
    },
    /// A row does not have the layout's sizes.
    #[error("row {run}/{sequence}: its {what} does not have the size of the store's layout")]
    Size {
        /// The run.
        run: RunId,
        /// The sequence number.
        sequence: u64,
        /// Which part.
        what: &'static str,
    },
}

const MAGIC: &[u8; 8] = b"hiltrep2";
const HEADER: usize = 4096;

/// Places in the header.
mod header {
    use std::ops::Range;
    pub const MAGIC: Range<usize> = 0..8;
    pub const COPIES: Range<usize> = 8..16;
    pub const LAYOUT: Range<usize> = 16..48;
    pub const RIG: Range<usize> = 48..80;
    pub const ENCODER: Range<usize> = 80..112;
}

/// Places of a row's fields, all little-endian.
mod field {
    use std::ops::Range;
    pub const CRC: Range<usize> = 0..4;
    pub const FLAGS: Range<usize> = 4..8;
    pub const RUN: Range<usize> = 8..16;
    pub const SEQUENCE: Range<usize> = 16..24;
    pub const EPISODE: Range<usize> = 24..32;
    pub const REWARD: Range<usize> = 32..36;
    pub const PENALTY: Range<usize> = 36..40;
    pub const FIXED: usize = 40;
}

impl Layout {
    /// Bytes of a row.
    pub fn row_bytes(&self) -> usize {
        let numbers = 4 * (self.action + self.proprio);
        (field::FIXED + numbers + self.cameras * self.copies * self.frame_bytes).next_multiple_of(8)
    }

    fn action(&self) -> Range<usize> {
        field::FIXED..field::FIXED + 4 * self.action
    }

    fn proprio(&self) -> Range<usize> {
        let start = self.action().end;
        start..start + 4 * self.proprio
    }

    /// Where a camera's copies lie.
    fn camera(&self, camera: usize) -> Range<usize> {
        let bytes = self.copies * self.frame_bytes;
        let start = self.proprio().end + camera * bytes;
        start..start + bytes
    }

    fn frame(&self, camera: usize, copy: usize) -> Range<usize> {
        let start = self.camera(camera).start + copy * self.frame_bytes;
        start..start + self.frame_bytes
    }

    fn header(&self, identity: &Identity) -> Vec<u8> {
        let mut bytes = MAGIC.to_vec();
        let Self {
            cameras,
            frame_bytes,
            proprio,
            action,
            copies,
        } = *self;
        for n in [copies, cameras, frame_bytes, proprio, action] {
            bytes.extend((n as u64).to_le_bytes());
        }
        bytes.extend(identity);
        bytes
    }
}

/// One file of rows.
#[derive(Debug)]
pub(super) struct Segment {
    path: PathBuf,
    layout: Layout,
    /// Rows go in by `write`: through the map, every page would cost a fault now and another
    /// processor's attention at each sync, half as fast for images.
    file: File,
    map: Mmap,
    /// The row to be written.
    buffer: Vec<u8>,
    rows: usize,
    /// On disk. Atomic, so that a sync needs the store only to look at.
    synced_rows: AtomicUsize,
}

/// A row as it lies in memory.
#[derive(Clone, Copy, Debug)]
pub struct RowView<'a> {
    layout: &'a Layout,
    bytes: &'a [u8],
}

fn u64_at(bytes: &[u8], range: Range<usize>) -> u64 {
    let mut out = [0; 8];
    out.copy_from_slice(&bytes[range]);
    u64::from_le_bytes(out)
}

fn u32_at(bytes: &[u8], range: Range<usize>) -> u32 {
    let mut out = [0; 4];
    out.copy_from_slice(&bytes[range]);
    u32::from_le_bytes(out)
}

fn copy_numbers(bytes: &[u8], out: &mut [f32]) {
    for (out, bytes) in out.iter_mut().zip(bytes.chunks_exact(4)) {
        *out = f32::from_bits(u32_at(bytes, 0..4));
    }
}

impl<'a> RowView<'a> {
    /// Run and sequence number.
    pub fn key(&self) -> (u64, u64) {
        (
            u64_at(self.bytes, field::RUN),
            u64_at(self.bytes, field::SEQUENCE),
        )
    }

    /// Episode within the run.
    pub fn episode(&self) -> u64 {
        u64_at(self.bytes, field::EPISODE)
    }

    /// Kind.
    pub fn flags(&self) -> RowFlags {
        let bits = u32_at(self.bytes, field::FLAGS);
        let bit = |i: u32| bits & (1 << i) != 0;
        RowFlags {
            reset: bit(0),
            terminated: bit(1),
            intervention: bit(2),
            demonstration: bit(3),
            truncated: bit(4),
        }
    }

    /// The step's reward.
    pub fn reward(&self) -> f32 {
        f32::from_bits(u32_at(self.bytes, field::REWARD))
    }

    /// The step's grasp penalty.
    pub fn grasp_penalty(&self) -> f32 {
        f32::from_bits(u32_at(self.bytes, field::PENALTY))
    }

    /// Copies the step's action, [`Layout::action`](field@Layout::action) numbers; zeros for a reset.
    pub fn copy_action(&self, out: &mut [f32]) {
        copy_numbers(&self.bytes[self.layout.action()], out);
    }

    /// Copies the observation's proprioception, [`Layout::proprio`](field@Layout::proprio) numbers.
    pub fn copy_proprio(&self, out: &mut [f32]) {
        copy_numbers(&self.bytes[self.layout.proprio()], out);
    }

    /// A camera's [`Layout::frame_bytes`] bytes, in one of [`Layout::copies`]; 0 is the frame itself.
    pub fn frame(&self, camera: usize, copy: usize) -> &'a [u8] {
        &self.bytes[self.layout.frame(camera, copy)]
    }
}

impl Segment {
    /// Makes a segment of up to `capacity` rows, its blocks reserved: a disk that is full says so
    /// here, not by a signal at some later write. It waits for no disk: header and name become
    /// durable with the first rows, and [`Segment::open`] knows a segment that did not come so far.
    pub fn create(
        path: &Path,
        layout: Layout,
        identity: &Identity,
        capacity: usize,
    ) -> Result<Self, SegmentError> {
        let bytes = (HEADER + capacity * layout.row_bytes()) as u64;
        let io = |source| SegmentError::Io {
            path: path.to_owned(),
            bytes,
            source,
        };
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(true)
            .open(path)
            .map_err(io)?;
        let reserved = rustix::fs::fallocate(&file, rustix::fs::FallocateFlags::empty(), 0, bytes);
        if let Err(e) = reserved {
            // Nothing was written: leave no empty shell behind for the next start.
            let _ = std::fs::remove_file(path);
            return Err(io(e.into()));
        }
        file.write_all_at(&layout.header(identity), 0).map_err(io)?;
        Ok(Self {
            path: path.to_owned(),
            layout,
            map: map(&file).map_err(io)?,
            file,
            buffer: vec![0; layout.row_bytes()],
            rows: 0,
            synced_rows: AtomicUsize::new(0),
        })
    }

    /// Opens a segment. Its rows end with the last whole one, so that nothing whole lies where
    /// [`Segment::append`] will write; those before it that are not whole are holes. `None`: a crash
    /// came before the header was on disk, so that no row was durable; the file is removed.
    pub fn open(
        path: &Path,
        layout: Layout,
        identity: &Identity,
    ) -> Result<Option<Self>, SegmentError> {
        let io = |source| SegmentError::Io {
            path: path.to_owned(),
            bytes: 0,
            source,
        };
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .open(path)
            .map_err(io)?;
        let other = |what| SegmentError::Other {
            path: path.to_owned(),
            what,
        };
        let mut beginning = Vec::new();
        (&file)
            .take(HEADER as u64)
            .read_to_end(&mut beginning)
            .map_err(io)?;
        if beginning.iter().all(|&byte| byte == 0) {
            std::fs::remove_file(path).map_err(io)?;
            return Ok(None);
        }
        if beginning.len() < HEADER {
            return Err(other("program: it is not a replay segment"));
        }
        let map = map(&file).map_err(io)?;
        let want = layout.header(identity);
        let differs = |range: Range<usize>| map[range.clone()] != want[range];
        if differs(header::MAGIC) {
            return Err(other("version of hilt"));
        }
        if differs(header::RIG) {
            return Err(other("rig"));
        }
        let setting = |key, was: String, is: String| SegmentError::Setting {
            path: path.to_owned(),
            key,
            was,
            is,
        };
        // Before the rest of the layout, which follows from these.
        let stored = |bytes: &[u8]| {
            let images = bytes[header::ENCODER].iter().all(|&byte| byte == 0);
            if images { "images" } else { "maps" }
        };
        let (was, is) = (stored(&map), stored(&want));
        if was != is {
            return Err(setting("train.store", was.to_owned(), is.to_owned()));
        }
        if differs(header::COPIES) {
            let copies = |bytes: &[u8]| u64_at(bytes, header::COPIES).to_string();
            let key = "train.shifted_copies";
            return Err(setting(key, copies(&map), copies(&want)));
        }
        if differs(header::LAYOUT) {
            return Err(other(
                "layout (cameras, image or map size, proprioception, action)",
            ));
        }
        if differs(header::ENCODER) {
            return Err(other("encoder"));
        }
        let mut segment = Self {
            path: path.to_owned(),
            layout,
            file,
            map,
            buffer: vec![0; layout.row_bytes()],
            rows: 0,
            synced_rows: AtomicUsize::new(0),
        };
        let last = (0..segment.capacity())
            .rev()
            .find(|&row| segment.is_whole(row));
        segment.rows = last.map_or(0, |row| row + 1);
        *segment.synced_rows.get_mut() = segment.rows;
        Ok(Some(segment))
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    pub fn rows(&self) -> usize {
        self.rows
    }

    pub fn capacity(&self) -> usize {
        (self.map.len() - HEADER) / self.layout.row_bytes()
    }

    pub fn bytes(&self) -> u64 {
        self.map.len() as u64
    }

    fn place(&self, row: usize) -> Range<usize> {
        let start = HEADER + row * self.layout.row_bytes();
        start..start + self.layout.row_bytes()
    }

    /// Whether a row matches its checksum.
    pub fn is_whole(&self, row: usize) -> bool {
        let bytes = &self.map[self.place(row)];
        u32_at(bytes, field::CRC) == crc32fast::hash(&bytes[field::CRC.end..])
    }

    /// A row below [`Segment::rows`].
    pub fn row(&self, row: usize) -> RowView<'_> {
        debug_assert!(row < self.rows);
        RowView {
            layout: &self.layout,
            bytes: &self.map[self.place(row)],
        }
    }

    /// Appends a row whose sizes have been checked; the caller has seen that there is room.
    pub fn append(&mut self, row: &Row<'_>) -> Result<usize, SegmentError> {
        let (place, layout) = (self.place(self.rows), self.layout);
        let bytes = &mut self.buffer[..];
        let flags = row.flags;
        let bits = [
            flags.reset,
            flags.terminated,
            flags.intervention,
            flags.demonstration,
            flags.truncated,
        ];
        let bits = bits
            .iter()
            .enumerate()
            .fold(0u32, |all, (i, &bit)| all | u32::from(bit) << i);
        bytes[field::FLAGS].copy_from_slice(&bits.to_le_bytes());
        bytes[field::RUN].copy_from_slice(&row.run.0.to_le_bytes());
        bytes[field::SEQUENCE].copy_from_slice(&row.sequence.to_le_bytes());
        bytes[field::EPISODE].copy_from_slice(&row.episode.to_le_bytes());
        bytes[field::REWARD].copy_from_slice(&row.reward.to_le_bytes());
        bytes[field::PENALTY].copy_from_slice(&row.grasp_penalty.to_le_bytes());
        // A reset has no action: its numbers are zero.
        bytes[layout.action()].fill(0);
        for (slot, value) in bytes[layout.action()].chunks_exact_mut(4).zip(row.action) {
            slot.copy_from_slice(&value.to_le_bytes());
        }
        for (slot, value) in bytes[layout.proprio()].chunks_exact_mut(4).zip(row.proprio) {
            slot.copy_from_slice(&value.to_le_bytes());
        }
        for (camera, frame) in row.frames.iter().enumerate() {
            bytes[layout.camera(camera)].copy_from_slice(frame);
        }
        // A row cut short by a crash does not match its checksum.
        let crc = crc32fast::hash(&bytes[field::CRC.end..]);
        bytes[field::CRC].copy_from_slice(&crc.to_le_bytes());
        self.file
            .write_all_at(bytes, place.start as u64)
            .map_err(|source| self.io(source))?;
        self.rows += 1;
        Ok(self.rows - 1)
    }

    /// Waits until the disk has every row.
    pub fn sync(&self) -> Result<(), SegmentError> {
        let synced = self.synced_rows.load(Ordering::Relaxed);
        if synced >= self.rows {
            return Ok(());
        }
        self.file.sync_data().map_err(|source| self.io(source))?;
        if synced == 0 {
            sync_folder_of(&self.path).map_err(|source| self.io(source))?;
        }
        self.synced_rows.fetch_max(self.rows, Ordering::Relaxed);
        Ok(())
    }

    fn io(&self, source: io::Error) -> SegmentError {
        SegmentError::Io {
            path: self.path.clone(),
            bytes: self.bytes(),
            source,
        }
    }
}

/// Waits until the disk has the names in a file's folder.
pub(super) fn sync_folder_of(path: &Path) -> io::Result<()> {
    path.parent()
        .map_or(Ok(()), |folder| File::open(folder)?.sync_all())
}

fn map(file: &File) -> io::Result<Mmap> {
    // SAFETY: the store's folder belongs to one learner (it holds the lock file), which never shortens
    // a segment, and writes to it only with `&mut Segment`, when nobody looks through the map.
    unsafe { Mmap::map(file) }
}
