//! TensorBoard's event files: messages of `event.proto` in the records of `tf.data`'s TFRecord.
//!
//! A record is the message's length (u64), a checksum of that, the message, a checksum of it; all little-endian. The
//! checksums are CRC-32C, *masked*: rotated right by 15 bits and a constant added, so that checksums of data that
//! holds checksums are of use (TensorFlow, `core/lib/hash/crc32c.h`).

use std::{
    fs::{self, File},
    io::{self, Write},
    path::{Path, PathBuf},
    time::SystemTime,
};

use prost::Message;

use super::unix_s;

/// What every event file's name has in it; TensorBoard goes by that.
pub(super) const PREFIX: &str = "events.out.tfevents.";
/// The first event says which format the file has.
const VERSION: &str = "brain.Event:2";
/// `SessionLog.SessionStatus.START`.
const START: i32 = 1;

/// One process's events. TensorBoard reads the files of a folder in the order of their names.
#[derive(Debug)]
pub struct EventFile {
    path: PathBuf,
    file: File,
}

impl EventFile {
    /// Begins a file in `dir`. With `purge` what other files of the folder have of this step and later ones is shown no
    /// more: a resumed run makes them again.
    pub fn create(dir: &Path, purge: Option<u64>, now: SystemTime) -> io::Result<Self> {
        // Its name comes after those that are there, whatever the clock says.
        let second = (unix_s(now) as u64).max(newest(dir)?.map_or(0, |newest| newest + 1));
        let path = dir.join(format!("{PREFIX}{second:010}.hilt-learner"));
        let file = File::create_new(&path).map_err(|e| named(&path, &e))?;
        let mut events = Self { path, file };
        let first = Event {
            wall_time: unix_s(now),
            step: purge.unwrap_or(0) as i64,
            file_version: Some(VERSION.to_owned()),
            ..Event::default()
        };
        events.write(&first)?;
        if purge.is_some() {
            events.write(&Event {
                file_version: None,
                session_log: Some(SessionLog { status: START }),
                ..first
            })?;
        }
        Ok(events)
    }

    /// Writes numbers of one step, by name; f32 is what the format has.
    pub fn scalars(
        &mut self,
        step: u64,
        now: SystemTime,
        figures: &[(impl AsRef<str>, f64)],
    ) -> io::Result<()> {
        let value = |(name, value): &(_, f64)| Scalar {
            tag: AsRef::<str>::as_ref(name).to_owned(),
            simple_value: Some(*value as f32),
        };
        self.write(&Event {
            wall_time: unix_s(now),
            step: step as i64,
            summary: Some(Summary {
                value: figures.iter().map(value).collect(),
            }),
            ..Event::default()
        })
    }

    /// One write call per record: a killed process leaves whole ones.
    fn write(&mut self, event: &Event) -> io::Result<()> {
        let bytes = record(&event.encode_to_vec());
        (self.file.write_all(&bytes)).map_err(|e| named(&self.path, &e))
    }
}

/// The second in the name of the folder's newest event file.
fn newest(dir: &Path) -> io::Result<Option<u64>> {
    let second = |entry: io::Result<fs::DirEntry>| -> Option<u64> {
        let name = entry.ok()?.file_name();
        let rest = name.to_str()?.strip_prefix(PREFIX)?;
        rest.split('.').next()?.parse().ok()
    };
    let entries = fs::read_dir(dir).map_err(|e| named(dir, &e))?;
    Ok(entries.filter_map(second).max())
}

/// A message in its frame.
fn record(message: &[u8]) -> Vec<u8> {
    let length = (message.len() as u64).to_le_bytes();
    [
        &length[..],
        &masked_crc(&length).to_le_bytes(),
        message,
        &masked_crc(message).to_le_bytes(),
    ]
    .concat()
}

fn masked_crc(bytes: &[u8]) -> u32 {
    crc32c::crc32c(bytes)
        .rotate_right(15)
        .wrapping_add(0xa282_ead8)
}

fn named(path: &Path, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{}: {error}", path.display()))
}

/// The part of `event.proto` that scalars need. Field tags are the format's.
#[derive(Clone, PartialEq, prost::Message)]
struct Event {
    /// Seconds since 1970.
    #[prost(double, tag = "1")]
    wall_time: f64,
    #[prost(int64, tag = "2")]
    step: i64,
    #[prost(string, optional, tag = "3")]
    file_version: Option<String>,
    #[prost(message, optional, tag = "5")]
    summary: Option<Summary>,
    #[prost(message, optional, tag = "7")]
    session_log: Option<SessionLog>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Summary {
    #[prost(message, repeated, tag = "1")]
    value: Vec<Scalar>,
}

/// `Summary.Value`.
#[derive(Clone, PartialEq, prost::Message)]
struct Scalar {
    #[prost(string, tag = "1")]
    tag: String,
    #[prost(float, optional, tag = "2")]
    simple_value: Option<f32>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct SessionLog {
    #[prost(int32, tag = "1")]
    status: i32,
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use super::*;

    fn at(seconds: u64) -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(seconds)
    }

    /// CRC-32C from its definition, bit by bit (RFC 3720, appendix B.4; the polynomial is 0x1edc6f41, reflected).
    fn crc(bytes: &[u8]) -> u32 {
        let bit = |crc: u32| (crc >> 1) ^ (0x82f6_3b78 & (crc & 1).wrapping_neg());
        let byte = |crc: u32, byte: &u8| (0..8).fold(crc ^ u32::from(*byte), |crc, _| bit(crc));
        !bytes.iter().fold(!0, byte)
    }

    /// The messages of a file: its framing as TensorFlow's `RecordReader` takes it.
    fn messages(mut bytes: &[u8]) -> Vec<Event> {
        let unmasked = |bytes: [u8; 4]| {
            u32::from_le_bytes(bytes)
                .wrapping_sub(0xa282_ead8)
                .rotate_left(15)
        };
        let mut events = vec![];
        while let Some((length, rest)) = bytes.split_first_chunk::<8>() {
            let (check, rest) = rest.split_first_chunk::<4>().unwrap();
            assert_eq!(unmasked(*check), crc(length));
            let (message, rest) = rest.split_at(u64::from_le_bytes(*length) as usize);
            let (check, rest) = rest.split_first_chunk::<4>().unwrap();
            assert_eq!(unmasked(*check), crc(message));
            events.push(Event::decode(message).unwrap());
            bytes = rest;
        }
        assert!(bytes.is_empty());
        events
    }

    fn files(dir: &Path) -> Vec<String> {
        let entries = fs::read_dir(dir).unwrap();
        let name =
            |entry: io::Result<fs::DirEntry>| entry.unwrap().file_name().into_string().unwrap();
        let mut names: Vec<_> = entries.map(name).collect();
        names.sort();
        names
    }

    #[test]
    fn checksums_are_those_of_the_standard() {
        // RFC 3720, appendix B.4, and the check value of CRC-32C.
        let ascending: Vec<u8> = (0..32).collect();
        for (bytes, wanted) in [
            (&[0; 32][..], 0x8a91_36aa),
            (&[0xff; 32], 0x62a8_ab43),
            (&ascending, 0x46dd_794e),
            (b"123456789", 0xe306_9283),
        ] {
            assert_eq!(crc(bytes), wanted);
            assert_eq!(crc32c::crc32c(bytes), wanted);
        }
        // The empty file that TensorFlow writes: its first length, 24, and what follows it.
        assert_eq!(
            record(&[0; 24])[..12],
            [0x18, 0, 0, 0, 0, 0, 0, 0, 0xa3, 0x7f, 0x4b, 0x22]
        );
    }

    #[test]
    fn scalars_are_records_of_their_step() {
        let dir = tempfile::tempdir().unwrap();
        let mut events = EventFile::create(dir.path(), None, at(1_700_000_000)).unwrap();
        let figures = [("train/loss", 0.5), ("eval/return", 0.0)];
        events.scalars(7, at(1_700_000_001), &figures).unwrap();
        assert_eq!(
            files(dir.path()),
            ["events.out.tfevents.1700000000.hilt-learner"]
        );
        let read = messages(&fs::read(&events.path).unwrap());
        assert_eq!(read.len(), 2);
        assert_eq!(read[0].file_version.as_deref(), Some("brain.Event:2"));
        assert_eq!(
            (read[0].wall_time, read[0].session_log.clone()),
            (1.7e9, None)
        );
        assert_eq!((read[1].step, read[1].wall_time), (7, 1_700_000_001.0));
        let values = &read[1].summary.as_ref().unwrap().value;
        let values: Vec<_> = values
            .iter()
            .map(|v| (v.tag.as_str(), v.simple_value))
            .collect();
        // A zero is written, too.
        assert_eq!(
            values,
            [("train/loss", Some(0.5)), ("eval/return", Some(0.0))]
        );
    }

    #[test]
    fn a_resumed_run_opens_a_later_file_that_purges() {
        let dir = tempfile::tempdir().unwrap();
        for now in [at(1_700_000_000), at(1_700_000_000), at(1_600_000_000)] {
            let events = EventFile::create(dir.path(), Some(11), now).unwrap();
            let read = messages(&fs::read(&events.path).unwrap());
            assert_eq!(read.len(), 2);
            assert_eq!((read[0].step, read[1].step), (11, 11));
            assert_eq!(read[1].session_log, Some(SessionLog { status: START }));
            assert_eq!(read[1].file_version, None);
            assert!(events.path.ends_with(files(dir.path()).last().unwrap()));
        }
        assert_eq!(files(dir.path()).len(), 3);
    }
}
