//! Messages on named channels in one MCAP file: what the logs of this project are made of.
//!
//! What is flushed survives the death of the process at any moment, and a file that was cut anywhere
//! is read up to the end of its last whole group.

use std::{
    collections::BTreeMap,
    fs::File,
    io::{self, BufReader, BufWriter, Read, Seek, Write},
    path::{Path, PathBuf},
};

use mcap::{
    WriteOptions, Writer, parse_record,
    records::{MessageHeader, Metadata, Record, op},
    sans_io::linear_reader::{LinearReadEvent, LinearReader, LinearReaderOptions},
};

use crate::{ReadError, WriteError};

/// Groups end by [`ChannelWriter::flush`]; this bound only keeps an unflushed one from growing.
const CHUNK_BYTES: u64 = 8 << 20;

/// No record of ours is near this; a longer one is a broken length field.
const LONGEST_RECORD: usize = 256 << 20;

/// Name of the MCAP metadata record that tells where a file comes from.
const METADATA: &str = "hilt";

/// A channel and what its messages are: protobuf by a schema that goes into the file.
#[derive(Clone, Debug)]
pub struct Channel<'a> {
    /// Its topic.
    pub topic: &'a str,
    /// Full name of its messages.
    pub message: &'a str,
    /// A serialized `FileDescriptorSet` with them; see [`crate::descriptor`].
    pub schema: &'a [u8],
    /// What else is to be known of it.
    pub metadata: BTreeMap<String, String>,
}

/// Writes messages. Generic over the sink so that a full disk can be tested.
pub struct ChannelWriter<W: Write + Seek = BufWriter<File>> {
    path: PathBuf,
    writer: Writer<W>,
    channels: Vec<u16>,
    sync: Option<File>,
}

impl ChannelWriter {
    /// Starts the file `path`, which must not be there yet. `metadata` is kept in it.
    pub fn create(
        path: &Path,
        metadata: BTreeMap<String, String>,
        channels: &[Channel<'_>],
    ) -> Result<Self, WriteError> {
        let file = File::create_new(path).map_err(|source| match source.kind() {
            io::ErrorKind::AlreadyExists => WriteError::Exists(path.to_owned()),
            _ => named(path, source.into()),
        })?;
        let sync = file.try_clone().map_err(|e| named(path, e.into()))?;
        let sink = BufWriter::with_capacity(1 << 20, file);
        Self::over(sink, path, metadata, channels, Some(sync))
    }
}

impl<W: Write + Seek> ChannelWriter<W> {
    /// Into `sink`, which is called `path` in errors; `sync` is what has to reach the disk.
    pub fn over(
        sink: W,
        path: &Path,
        metadata: BTreeMap<String, String>,
        channels: &[Channel<'_>],
        sync: Option<File>,
    ) -> Result<Self, WriteError> {
        let failed = |e: mcap::McapError| named(path, e);
        let options = WriteOptions::new()
            .profile("hilt")
            .library(concat!("hilt ", env!("CARGO_PKG_VERSION")))
            .compression(None)
            .chunk_size(Some(CHUNK_BYTES));
        let mut writer = options.create(sink).map_err(failed)?;
        let mut ids = Vec::new();
        for channel in channels {
            let schema = writer
                .add_schema(channel.message, "protobuf", channel.schema)
                .map_err(failed)?;
            let id = writer
                .add_channel(schema, channel.topic, "protobuf", &channel.metadata)
                .map_err(failed)?;
            ids.push(id);
        }
        let name = METADATA.to_owned();
        writer
            .write_metadata(&Metadata { name, metadata })
            .map_err(failed)?;
        let mut writer = Self {
            path: path.to_owned(),
            writer,
            channels: ids,
            sync,
        };
        writer.flush()?;
        Ok(writer)
    }

    /// Appends a message to the channel at place `channel` of those that the file was made with. It
    /// is in the file after the next [`ChannelWriter::flush`].
    pub fn append(
        &mut self,
        channel: usize,
        sequence: u64,
        time_ns: u64,
        message: &[u8],
    ) -> Result<(), WriteError> {
        let header = MessageHeader {
            // 0 is no channel, and refused below.
            channel_id: self.channels.get(channel).copied().unwrap_or(0),
            sequence: sequence as u32,
            log_time: time_ns,
            publish_time: time_ns,
        };
        self.writer
            .write_to_known_channel(&header, message)
            .map_err(|e| named(&self.path, e))
    }

    /// Ends the group and hands it to the operating system: what was appended survives this process
    /// from here on, and readers of the growing file see it.
    pub fn flush(&mut self) -> Result<(), WriteError> {
        self.writer.flush().map_err(|e| named(&self.path, e))
    }

    /// Flushes, and waits until the disk has it: what was appended survives a loss of power.
    pub fn sync(&mut self) -> Result<(), WriteError> {
        self.flush()?;
        let synced = self.sync.as_ref().map_or(Ok(()), File::sync_data);
        synced.map_err(|e| named(&self.path, e.into()))
    }

    /// Ends the file: index and footer, and a sync.
    pub fn finish(mut self) -> Result<(), WriteError> {
        self.writer.finish().map_err(|e| named(&self.path, e))?;
        let synced = self.sync.as_ref().map_or(Ok(()), File::sync_all);
        synced.map_err(|e| named(&self.path, e.into()))
    }
}

fn named(path: &Path, error: mcap::McapError) -> WriteError {
    let path = path.to_owned();
    match error {
        mcap::McapError::Io(source) => WriteError::Io { path, source },
        other => WriteError::Format {
            path,
            reason: other.to_string(),
        },
    }
}

/// A message of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// Its channel's place among the topics that were asked for.
    pub channel: usize,
    /// Its time, nanoseconds on the run's clock.
    pub time_ns: u64,
    /// Its bytes.
    pub bytes: Vec<u8>,
}

/// Reads messages, from a file that is whole, cut, or still growing.
pub struct ChannelReader {
    path: PathBuf,
    topics: Vec<String>,
    file: BufReader<File>,
    reader: LinearReader,
    /// The id of a channel in the file, and the place of its topic.
    channels: Vec<(u16, usize)>,
    metadata: BTreeMap<String, String>,
    consumed: u64,
    cut: Option<String>,
    footer: bool,
    done: bool,
}

impl ChannelReader {
    /// Opens `path` for the messages on `topics`.
    pub fn open(path: &Path, topics: &[&str]) -> Result<Self, ReadError> {
        let file = File::open(path).map_err(|source| ReadError::Io {
            path: path.to_owned(),
            source,
        })?;
        let options = LinearReaderOptions::default()
            .with_skip_end_magic(true)
            // A chunk is checked before any of its messages is given out.
            .with_prevalidate_chunk_crcs(true)
            .with_record_length_limit(LONGEST_RECORD);
        Ok(Self {
            path: path.to_owned(),
            topics: topics.iter().map(|&topic| topic.to_owned()).collect(),
            file: BufReader::with_capacity(1 << 20, file),
            reader: LinearReader::new_with_options(options),
            channels: Vec::new(),
            metadata: BTreeMap::new(),
            consumed: 0,
            cut: None,
            footer: false,
            done: false,
        })
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Where the file is cut, and why reading stopped there; `None` for a file that ends as it
    /// should (or has not been read to its end).
    pub fn cut(&self) -> Option<&str> {
        self.cut.as_deref()
    }

    /// Where the file comes from; complete once the first message was read.
    pub fn metadata(&self) -> &BTreeMap<String, String> {
        &self.metadata
    }

    fn cut_here(&mut self, why: &str) {
        self.cut = Some(format!("{} bytes in: {why}", self.consumed));
    }

    fn next_message(&mut self) -> Result<Option<Message>, ReadError> {
        loop {
            let event = match self.reader.next_event() {
                None => {
                    // Killed between two groups: every message is whole, the file is not.
                    if !self.footer {
                        self.cut_here("it ends without a footer");
                    }
                    return Ok(None);
                }
                Some(Ok(event)) => event,
                Some(Err(e)) => {
                    let why = e.to_string();
                    self.cut_here(&why);
                    return Ok(None);
                }
            };
            match event {
                LinearReadEvent::ReadRequest(wanted) => {
                    // Asked for in pieces: a broken length field must not allocate its claim.
                    let buffer = self.reader.insert(wanted.min(1 << 20));
                    let n = self.file.read(buffer).map_err(|source| ReadError::Io {
                        path: self.path.clone(),
                        source,
                    })?;
                    self.consumed += n as u64;
                    self.reader.notify_read(n);
                }
                LinearReadEvent::Record {
                    opcode: opcode @ (op::CHANNEL | op::MESSAGE | op::METADATA),
                    data,
                } => match parse_record(opcode, data) {
                    Ok(Record::Channel(channel)) => {
                        let place = self.topics.iter().position(|t| *t == channel.topic);
                        self.channels.extend(place.map(|place| (channel.id, place)));
                    }
                    Ok(Record::Metadata(about)) if about.name == METADATA => {
                        self.metadata = about.metadata;
                    }
                    Ok(Record::Message { header, data }) => {
                        let mut channels = self.channels.iter();
                        let known = channels.find(|(id, _)| *id == header.channel_id);
                        if let Some(&(_, channel)) = known {
                            return Ok(Some(Message {
                                channel,
                                time_ns: header.log_time,
                                bytes: data.into_owned(),
                            }));
                        }
                    }
                    Ok(_) => {}
                    Err(e) => {
                        let why = e.to_string();
                        self.cut_here(&why);
                        return Ok(None);
                    }
                },
                LinearReadEvent::Record { opcode, .. } => self.footer |= opcode == op::FOOTER,
            }
        }
    }
}

impl Iterator for ChannelReader {
    type Item = Result<Message, ReadError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.done {
            return None;
        }
        let next = self.next_message().transpose();
        self.done = !matches!(next, Some(Ok(_)));
        next
    }
}
