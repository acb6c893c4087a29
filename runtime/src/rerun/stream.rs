//! Rerun's crates, and nothing else of theirs anywhere: a recording at a time, to a file or a viewer.

use std::{
    fs::{self, File},
    io::{self, BufWriter, ErrorKind, Write},
    net::{TcpStream, ToSocketAddrs},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use hilt_protocol::Image;
use hilt_recording::beside;
use image::{
    ExtendedColorType, ImageEncoder,
    codecs::png::{CompressionType, FilterType, PngEncoder},
};
use re_log_encoding::{
    Encoder,
    rrd::{CrateVersion, EncodingOptions},
};
use re_sdk::{
    EntityPath, EntityPathPart, RecordingStream, RecordingStreamBuilder, SpawnError, SpawnOptions,
    TimeCell,
    log::LogMsg,
    sink::{LogSink, SinkFlushError},
};
use re_sdk_types::archetypes;

use super::{
    RerunError, Screen, Target, VIEWER,
    scenes::{Content, Moment, Shown},
};

/// Frames of more bytes than this become PNG, which loses nothing; smaller ones go as they are: what little there
/// would be saved is not worth the time, and a chunk of them is compressed as a whole.
const RAW_BYTES: usize = 64 << 10;
/// How long a viewer may take to answer, and to take the end of what it is sent.
const ANSWER: Duration = Duration::from_secs(2);
const LAST: Duration = Duration::from_secs(30);
/// Under which name a viewer keeps how its windows were arranged.
const APPLICATION: &str = "hilt";

type Encoded = Encoder<BufWriter<File>>;

/// Where it goes.
enum Way {
    File { path: PathBuf, file: Arc<Output> },
    Viewer { address: String },
}

/// To a file or a viewer.
pub struct Stream {
    way: Way,
    recording: Option<RecordingStream>,
}

impl Stream {
    /// Opens it.
    pub fn open(target: &Target) -> Result<Self, RerunError> {
        let way = match target {
            Target::File(path) => Way::File {
                path: path.clone(),
                file: Arc::new(Output::create(path)?),
            },
            Target::Viewer(Some(address)) => {
                reach(address)?;
                let address = address.clone();
                Way::Viewer { address }
            }
            Target::Viewer(None) => {
                if let Err(silent) = reach(VIEWER) {
                    start(silent)?;
                }
                let address = VIEWER.to_owned();
                Way::Viewer { address }
            }
        };
        Ok(Self {
            way,
            recording: None,
        })
    }

    /// Everything of the recording that is open is on its way to the file or the viewer.
    fn flush(&mut self) -> Result<(), RerunError> {
        let Some(recording) = self.recording.take() else {
            return Ok(());
        };
        let flushed = recording.flush_with_timeout(LAST);
        match &self.way {
            Way::File { path, .. } => flushed.map_err(|e| encode(path, e)),
            Way::Viewer { address } => flushed.map_err(|e| RerunError::Lost {
                address: address.clone(),
                reason: e.to_string(),
            }),
        }
    }
}

impl Screen for Stream {
    fn begin(&mut self, name: &str) -> Result<(), RerunError> {
        self.flush()?;
        // A variable of the environment that switches Rerun off is not asked: it was wished for here.
        let builder = RecordingStreamBuilder::new(APPLICATION)
            .recording_id(name)
            .recording_name(name)
            .enabled(true);
        let recording = match &self.way {
            Way::File { file, .. } => {
                let (_, info, properties, batches, hooks, _) = builder.into_args();
                let sink = Box::new(Sink(Arc::clone(file)));
                RecordingStream::new(info, properties, batches, hooks, sink)
            }
            Way::Viewer { address } => {
                builder.connect_grpc_opts(format!("rerun+http://{address}/proxy"))
            }
        };
        let recording = recording.map_err(|e| refused(name, &e))?;
        // The wall's clock and a count of everything logged say nothing that `step` and `run_time` do not.
        recording.set_log_time_enabled(false);
        recording.set_log_tick_enabled(false);
        self.recording = Some(recording);
        Ok(())
    }

    fn show(&mut self, shown: &Shown) -> Result<(), RerunError> {
        if let Way::File { path, file } = &self.way {
            // A full disk is told at once, not at the end of a long run.
            file.failed(path)?;
        }
        let name = || shown.path.join("/");
        let recording = (self.recording.as_ref())
            .ok_or_else(|| refused(&name(), &"no recording has begun, a mistake in hilt"))?;
        at(recording, shown.at);
        let parts = shown
            .path
            .iter()
            .map(|part| EntityPathPart::from(part.as_str()));
        let path = EntityPath::new(parts.collect());
        let logged = match &shown.content {
            Content::Scalar(value) => recording.log(path, &archetypes::Scalars::new([*value])),
            Content::Text(text) => recording.log(path, &archetypes::TextLog::new(text.as_str())),
            Content::Image(image) => {
                let (height, width) = (image.height, image.width);
                let bytes = image.rgb.len();
                if bytes as u64 != u64::from(height) * u64::from(width) * 3 {
                    let path = name();
                    return Err(RerunError::Image {
                        path,
                        bytes,
                        width,
                        height,
                    });
                }
                match bytes > RAW_BYTES {
                    true => {
                        let png = png(image).map_err(|e| refused(&name(), &e))?;
                        let image = archetypes::EncodedImage::from_file_contents(png);
                        recording.log(path, &image)
                    }
                    false => {
                        let rgb = image.rgb.to_vec();
                        recording.log(path, &archetypes::Image::from_rgb24(rgb, [width, height]))
                    }
                }
            }
        };
        logged.map_err(|e| refused(&name(), &e))
    }

    fn end(mut self: Box<Self>) -> Result<(), RerunError> {
        self.flush()?;
        match &self.way {
            Way::File { path, file } => file.finish(path),
            Way::Viewer { .. } => Ok(()),
        }
    }
}

fn refused(path: &str, reason: &dyn ToString) -> RerunError {
    RerunError::Refused {
        path: path.to_owned(),
        reason: reason.to_string(),
    }
}

fn encode(path: &Path, reason: impl ToString) -> RerunError {
    RerunError::Encode {
        path: path.to_owned(),
        reason: reason.to_string(),
    }
}

/// Sets the time lines of what is logged next.
fn at(recording: &RecordingStream, at: Moment) {
    // Later than their last moment is nothing that a run reaches.
    let number = |value: u64| i64::try_from(value).unwrap_or(i64::MAX);
    recording.reset_time();
    if let Some(step) = at.step {
        recording.set_time("step", TimeCell::from_sequence(number(step)));
    }
    if let Some(ns) = at.run_time_ns {
        recording.set_time("run_time", TimeCell::from_duration_nanos(number(ns)));
    }
}

/// An image whose bytes are those of its size.
fn png(image: &Image) -> Result<Vec<u8>, image::ImageError> {
    let mut bytes = Vec::new();
    PngEncoder::new_with_quality(&mut bytes, CompressionType::Fast, FilterType::Adaptive)
        .write_image(
            &image.rgb,
            image.width,
            image.height,
            ExtendedColorType::Rgb8,
        )?;
    Ok(bytes)
}

/// Whether anybody listens: Rerun itself would try for ever.
fn reach(address: &str) -> Result<(), RerunError> {
    let no_viewer = |reason: io::Error| RerunError::NoViewer {
        address: address.to_owned(),
        reason: reason.to_string(),
    };
    let mut last = io::Error::from(ErrorKind::NotFound);
    for address in address.to_socket_addrs().map_err(no_viewer)? {
        match TcpStream::connect_timeout(&address, ANSWER) {
            Ok(_) => return Ok(()),
            Err(error) => last = error,
        }
    }
    Err(no_viewer(last))
}

/// Starts the viewer that is among the programs; it lives on when this one ends. `silent`: nobody listened.
fn start(silent: RerunError) -> Result<(), RerunError> {
    let options = SpawnOptions {
        wait_for_bind: true,
        ..SpawnOptions::default()
    };
    match re_sdk::spawn(&options) {
        Ok(_) => reach(VIEWER),
        Err(SpawnError::ExecutableNotFoundInPath { .. }) => Err(silent),
        Err(error) => Err(RerunError::NoViewer {
            address: VIEWER.to_owned(),
            reason: error.to_string(),
        }),
    }
}

/// The file, under its name and `.partial` until it is whole.
struct Output {
    beside: PathBuf,
    state: Mutex<State>,
}

enum State {
    Open(Box<Encoded>),
    Failed(String),
    Ended,
}

impl Output {
    fn create(path: &Path) -> Result<Self, RerunError> {
        if path.exists() {
            return Err(RerunError::Exists(path.to_owned()));
        }
        let beside = beside(path);
        let file = File::create(&beside).map_err(|source| RerunError::File {
            path: path.to_owned(),
            source,
        })?;
        let (version, options) = (CrateVersion::LOCAL, EncodingOptions::PROTOBUF_COMPRESSED);
        let output = BufWriter::new(file);
        let encoder = Encoder::new_eager(version, options, output).map_err(|e| encode(path, e))?;
        Ok(Self {
            beside,
            state: Mutex::new(State::Open(Box::new(encoder))),
        })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn failed(&self, path: &Path) -> Result<(), RerunError> {
        match &*self.state() {
            State::Failed(reason) => Err(encode(path, reason)),
            State::Open(_) | State::Ended => Ok(()),
        }
    }

    fn finish(&self, path: &Path) -> Result<(), RerunError> {
        let mut encoder = match std::mem::replace(&mut *self.state(), State::Ended) {
            State::Open(encoder) => encoder,
            State::Failed(reason) => return Err(encode(path, reason)),
            State::Ended => return Ok(()),
        };
        encoder.finish().map_err(|e| encode(path, e))?;
        let mut output = encoder.into_inner().map_err(|e| encode(path, e))?;
        let file = |source| RerunError::File {
            path: path.to_owned(),
            source,
        };
        output.flush().map_err(file)?;
        output.get_ref().sync_all().map_err(file)?;
        fs::rename(&self.beside, path).map_err(file)
    }
}

impl Drop for Output {
    fn drop(&mut self) {
        // A file that was not finished is none; one that was has its own name by now.
        let _ = fs::remove_file(&self.beside);
    }
}

/// Rerun's own sink for files tells its errors to nobody.
struct Sink(Arc<Output>);

impl LogSink for Sink {
    fn send(&self, message: LogMsg) {
        let mut state = self.0.state();
        if let State::Open(encoder) = &mut *state
            && let Err(error) = encoder.append(&message)
        {
            *state = State::Failed(error.to_string());
        }
    }

    fn flush_blocking(&self, _: Duration) -> Result<(), SinkFlushError> {
        match &mut *self.0.state() {
            State::Open(encoder) => encoder
                .flush_blocking()
                .map_err(|e| SinkFlushError::failed(e.to_string())),
            State::Failed(reason) => Err(SinkFlushError::failed(reason.clone())),
            State::Ended => Ok(()),
        }
    }
}
