//! Appending to a run's log.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::{self, BufWriter, Seek, Write},
    path::{Path, PathBuf},
};

use hilt_protocol::{Entry, RigSpec, RunId, wire};

use crate::{Channel, ChannelWriter, LOG_FILE, SPEC_FILE, TOPIC, schema};

/// Why an entry is not in the log.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// The file system refused.
    #[error("{path}: {source}; free some space or choose another folder (for a run with --out)")]
    Io {
        /// The file.
        path: PathBuf,
        /// What it said.
        source: io::Error,
    },
    /// The log is there already.
    #[error("{0} exists already; a run never overwrites another, choose another folder")]
    Exists(PathBuf),
    /// The log's format refused.
    #[error("{path}: {reason}")]
    Format {
        /// The file.
        path: PathBuf,
        /// Why.
        reason: String,
    },
}

/// Writes one run. Generic over the sink so that a full disk can be tested.
pub struct RunWriter<W: Write + Seek = BufWriter<File>>(ChannelWriter<W>);

impl RunWriter {
    /// Starts a run in `dir`, which is created. `metadata` tells where it comes from (rig, seed,
    /// version …) and is kept in the file.
    pub fn create(
        dir: &Path,
        run: RunId,
        spec: &RigSpec,
        metadata: BTreeMap<String, String>,
    ) -> Result<Self, WriteError> {
        let io = |path: &Path| {
            let path = path.to_owned();
            move |source| WriteError::Io { path, source }
        };
        fs::create_dir_all(dir).map_err(io(dir))?;
        let path = dir.join(LOG_FILE);
        let schema = schema::bytes();
        let writer = ChannelWriter::create(&path, about(run, metadata), &[entries(&schema)])?;
        let spec_path = dir.join(SPEC_FILE);
        let json = serde_json::to_vec_pretty(spec).map_err(|e| io(&spec_path)(e.into()))?;
        fs::write(&spec_path, json).map_err(io(&spec_path))?;
        Ok(Self(writer))
    }
}

impl<W: Write + Seek> RunWriter<W> {
    fn over(
        sink: W,
        path: &Path,
        run: RunId,
        metadata: BTreeMap<String, String>,
        sync: Option<File>,
    ) -> Result<Self, WriteError> {
        let (schema, metadata) = (schema::bytes(), about(run, metadata));
        ChannelWriter::over(sink, path, metadata, &[entries(&schema)], sync).map(Self)
    }

    /// Appends an entry. It is in the file after the next [`RunWriter::flush`].
    pub fn append(&mut self, entry: &Entry) -> Result<(), WriteError> {
        let time_ns = entry.observation().captured_ns;
        let bytes = wire::encode_entry(entry);
        self.0.append(0, entry.sequence, time_ns, &bytes)
    }

    /// Ends the chunk and hands it to the operating system: what was appended survives this
    /// process from here on, and readers of the growing file see it.
    pub fn flush(&mut self) -> Result<(), WriteError> {
        self.0.flush()
    }

    /// Flushes, and waits until the disk has it: what was appended survives a loss of power.
    pub fn sync(&mut self) -> Result<(), WriteError> {
        self.0.sync()
    }

    /// Ends the run: index and footer, and a sync.
    pub fn finish(self) -> Result<(), WriteError> {
        self.0.finish()
    }
}

/// The channel of the entries.
fn entries(schema: &[u8]) -> Channel<'_> {
    Channel {
        topic: TOPIC,
        message: schema::NAME,
        schema,
        metadata: [("wire_version".to_owned(), wire::VERSION.to_string())].into(),
    }
}

fn about(run: RunId, mut metadata: BTreeMap<String, String>) -> BTreeMap<String, String> {
    metadata.insert("run".to_owned(), run.to_string());
    metadata
}

/// Copies entries into a sink: what recovery writes.
pub(crate) fn write_all(
    path: &Path,
    file: File,
    run: RunId,
    entries: impl Iterator<Item = Entry>,
) -> Result<u64, WriteError> {
    let sync = file.try_clone().map_err(|source| WriteError::Io {
        path: path.to_owned(),
        source,
    })?;
    let metadata = [("recovered".to_owned(), "true".to_owned())].into();
    let mut writer = RunWriter::over(BufWriter::new(file), path, run, metadata, Some(sync))?;
    let mut count = 0;
    for entry in entries {
        writer.append(&entry)?;
        count += 1;
    }
    writer.finish()?;
    Ok(count)
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use super::*;

    /// A disk with room for so many bytes.
    struct Full {
        inner: Cursor<Vec<u8>>,
        room: usize,
    }

    impl Write for Full {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            if self.inner.position() as usize + bytes.len() > self.room {
                return Err(io::Error::from(io::ErrorKind::StorageFull));
            }
            self.inner.write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl Seek for Full {
        fn seek(&mut self, to: io::SeekFrom) -> io::Result<u64> {
            self.inner.seek(to)
        }
    }

    #[test]
    fn a_full_disk_is_an_error_that_names_the_file() {
        let disk = Full {
            inner: Cursor::default(),
            room: 4000,
        };
        let path = Path::new("run.mcap");
        let mut writer = RunWriter::over(disk, path, RunId(1), BTreeMap::new(), None).unwrap();
        let observation = hilt_protocol::Observation {
            captured_ns: 0,
            proprio: vec![0.0; 200],
            images: vec![],
        };
        let error = (0..100).find_map(|sequence| {
            let record = hilt_protocol::Record::Reset(observation.clone());
            let entry = Entry {
                run: RunId(1),
                sequence,
                episode: 0,
                index: 0,
                record,
            };
            writer.append(&entry).and_then(|()| writer.flush()).err()
        });
        let error = error.unwrap().to_string();
        assert!(
            error.starts_with("run.mcap: ") && error.contains("--out"),
            "{error}"
        );
    }
}
