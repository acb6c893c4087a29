//! Frames of a video, decoded by the `ffmpeg` program beside us, in order.
//!
//! The pictures come through one pipe, and what the program says of each, its time and size, through another: raw
//! pictures know neither. A thread reads both, so that a few frames of each video are ready before anybody asks; when
//! nobody takes them, the pipe is full and the program waits.

use std::{
    collections::VecDeque,
    ffi::OsStr,
    io::{self, Read},
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Child, ChildStderr, ChildStdout, Command, Stdio},
    sync::{
        Arc,
        mpsc::{Receiver, SyncSender, sync_channel},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use rustix::{
    fd::AsFd,
    fs::{OFlags, fcntl_getfl, fcntl_setfl},
    pipe::fcntl_setpipe_size,
};

/// Frames that wait, decoded: so many, and no more of large ones than have these bytes, but for two.
const AHEAD: usize = 32;
const AHEAD_BYTES: usize = 16 << 20;
/// Frames up to this, 256 × 256, are decoded faster than they are handed from thread to thread.
const SMALL_PIXELS: u32 = 1 << 16;
/// What a pipe may hold for anybody (`/proc/sys/fs/pipe-max-size`).
const PIPE_BYTES: usize = 1 << 20;
/// Of what the program says, so much is kept for the error: the first lines tell the cause.
const LONGEST_COMPLAINT: usize = 400;
/// A line longer than this is none of the program's.
const LONGEST_LINE: usize = 1 << 16;
/// How long the thread leaves the program alone when it has read all there is. To wait for the pipes instead would
/// wake it for every piece of a picture or a line, tens of times a frame, and cost as much as the decoding.
const PAUSE: Duration = Duration::from_micros(200);

/// Why there is no frame.
#[derive(Debug, thiserror::Error)]
pub enum VideoError {
    /// The program that decodes is not there.
    #[error(
        "{path}: videos are decoded by the program `{program}`, which is not installed; get it with: apt install \
         ffmpeg"
    )]
    NoProgram {
        /// The video.
        path: PathBuf,
        /// Its name.
        program: String,
    },
    /// The system refused.
    #[error("{path}: {cause}")]
    Io {
        /// The video.
        path: PathBuf,
        /// What it said.
        cause: io::Error,
    },
    /// The video has other sides than its dataset says.
    #[error("{path}: its frames are {got}, its dataset says {wanted} (width × height)")]
    Size {
        /// The video.
        path: PathBuf,
        /// What they are.
        got: String,
        /// What they should be.
        wanted: String,
    },
    /// It ends too early.
    #[error(
        "{path}: the frame at {wanted_s:.3} s is not there, it ends after {frames} frames{said}; the video is cut, or \
         not of this dataset: copy it again"
    )]
    Ends {
        /// The video.
        path: PathBuf,
        /// Time of the frame, seconds.
        wanted_s: f64,
        /// Frames that were decoded, from where reading began.
        frames: u64,
        /// What ffmpeg said, in brackets, or nothing.
        said: String,
    },
    /// No frame has the time that the dataset says.
    #[error(
        "{path}: no frame lies at {wanted_s:.4} s, the next is at {next_s:.4} s (they may differ by 0.1 ms){said}; \
         record that episode again, or leave it out"
    )]
    Time {
        /// The video.
        path: PathBuf,
        /// Time of the frame, seconds.
        wanted_s: f64,
        /// Time of the first frame after it, seconds.
        next_s: f64,
        /// What ffmpeg said, in brackets, or nothing.
        said: String,
    },
}

/// As far as a frame's time may be from the dataset's, seconds: LeRobot's own tolerance.
const TOLERANCE_S: f64 = 1e-4;

/// A frame of a video.
#[derive(Clone, Debug, PartialEq)]
pub struct VideoFrame {
    /// Time in the video, seconds.
    pub time_s: f64,
    /// RGB, height × width × 3 bytes, row 0 on top.
    pub rgb: Arc<[u8]>,
}

/// A video that is being decoded from some time on. Dropping it ends the program.
pub struct VideoReader {
    path: PathBuf,
    program: Child,
    /// Taken when it is dropped, so that the threads end.
    frames: Option<Receiver<Result<VideoFrame, VideoError>>>,
    /// It returns what the program complained about.
    thread: Option<JoinHandle<String>>,
    /// The newest frame, which may be asked for again.
    newest: Option<VideoFrame>,
    decoded: u64,
}

impl VideoReader {
    /// Begins to decode the video at `path` from `start_s` seconds on. `size` is width and height, pixels.
    ///
    /// # Errors
    /// [`VideoError::NoProgram`] without ffmpeg. What is wrong with the file, the first frame says.
    pub fn open(path: &Path, size: [u32; 2], start_s: f64) -> Result<Self, VideoError> {
        Self::open_by(OsStr::new("ffmpeg"), path, size, start_s)
    }

    fn open_by(
        program: &OsStr,
        path: &Path,
        size: [u32; 2],
        start_s: f64,
    ) -> Result<Self, VideoError> {
        let mut input = std::ffi::OsString::from("file:");
        input.push(path);
        let mut command = Command::new(program);
        // Lines say how bad they are, so that complaints can be told from the rest.
        command.args(["-hide_banner", "-nostdin", "-nostats"]);
        command.args(["-loglevel", "level+info", "-copyts"]);
        if start_s > 0.0 {
            command.args(["-ss", &format!("{:.6}", (start_s - TOLERANCE_S).max(0.0))]);
        }
        if size[0].saturating_mul(size[1]) <= SMALL_PIXELS {
            command.args(["-filter_threads", "1", "-threads", "1"]);
        }
        command.arg("-i").arg(input);
        command.args(["-map", "0:v:0", "-fps_mode", "passthrough"]);
        command.args(["-vf", "format=rgb24,showinfo=checksum=0"]);
        command.args(["-f", "rawvideo", "-"]);
        // Ctrl-C is for us.
        command.stdin(Stdio::null()).process_group(0);
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let io = |cause| VideoError::Io {
            path: path.to_owned(),
            cause,
        };
        let mut program = command.spawn().map_err(|cause| match cause.kind() {
            io::ErrorKind::NotFound => VideoError::NoProgram {
                path: path.to_owned(),
                program: program.to_string_lossy().into_owned(),
            },
            _ => io(cause),
        })?;
        let (stdout, stderr) = (program.stdout.take(), program.stderr.take());
        let mut reader = Self {
            path: path.to_owned(),
            program,
            frames: None,
            thread: None,
            newest: None,
            decoded: 0,
        };
        let (Some(stdout), Some(stderr)) = (stdout, stderr) else {
            return Err(io(io::ErrorKind::BrokenPipe.into()));
        };
        // Fewer changes between the program and us. A system that does not allow it is only slower.
        let _ = fcntl_setpipe_size(&stdout, PIPE_BYTES);
        let frame_bytes = 3 * size[0].max(1) as usize * size[1].max(1) as usize;
        let (sender, frames) = sync_channel((AHEAD_BYTES / frame_bytes).clamp(2, AHEAD));
        unwaiting(&stdout).map_err(io)?;
        unwaiting(&stderr).map_err(io)?;
        let pictures = Pictures {
            path: path.to_owned(),
            size,
            stdout,
            log: Log::new(stderr),
        };
        let thread = thread::Builder::new().name("video".into());
        let run = move || pictures.read(&sender);
        reader.thread = Some(thread.spawn(run).map_err(io)?);
        reader.frames = Some(frames);
        Ok(reader)
    }

    /// The frame at `time_s`. Times must not go back.
    ///
    /// # Errors
    /// [`VideoError::Time`] if no frame lies there, [`VideoError::Ends`] if the video ends before it.
    pub fn at(&mut self, time_s: f64) -> Result<VideoFrame, VideoError> {
        loop {
            if let Some(frame) = &self.newest {
                if (frame.time_s - time_s).abs() <= TOLERANCE_S {
                    return Ok(frame.clone());
                }
                if frame.time_s > time_s {
                    let next_s = frame.time_s;
                    return Err(VideoError::Time {
                        path: self.path.clone(),
                        wanted_s: time_s,
                        next_s,
                        said: String::new(),
                    });
                }
            }
            let frame = self.frames.as_ref().and_then(|frames| frames.recv().ok());
            let Some(frame) = frame.transpose()? else {
                return Err(VideoError::Ends {
                    path: self.path.clone(),
                    wanted_s: time_s,
                    frames: self.decoded,
                    said: self.said(),
                });
            };
            self.decoded += 1;
            self.newest = Some(frame);
        }
    }

    /// Time of the newest frame that was asked for, seconds.
    pub fn newest_s(&self) -> Option<f64> {
        self.newest.as_ref().map(|frame| frame.time_s)
    }

    /// What the program complained about, once it has ended.
    fn said(&mut self) -> String {
        let said = self.thread.take().and_then(|thread| thread.join().ok());
        match said {
            Some(said) if !said.is_empty() => format!(" (ffmpeg says: {said})"),
            _ => String::new(),
        }
    }
}

impl Drop for VideoReader {
    fn drop(&mut self) {
        // The thread ends when nobody takes its frames any more, or with the program that it reads from.
        drop(self.frames.take());
        let _ = self.program.kill();
        let _ = self.program.wait();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// What the program says of a frame.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Info {
    time_s: f64,
    /// Width, height.
    size: [u32; 2],
}

/// Reads pictures, and what is said of each.
struct Pictures {
    path: PathBuf,
    size: [u32; 2],
    stdout: ChildStdout,
    log: Log,
}

impl Pictures {
    /// Passes frames on until there are no more, or nobody takes them; what the program complained about.
    fn read(mut self, to: &SyncSender<Result<VideoFrame, VideoError>>) -> String {
        let [width, height] = self.size.map(|side| side as usize);
        let mut picture = vec![0; width * height * 3];
        loop {
            let whole = self.picture(&mut picture);
            // What is said of a picture is said before it comes.
            self.log.hear();
            while self.log.infos.is_empty() && !self.log.ended {
                thread::sleep(PAUSE);
                self.log.hear();
            }
            let frame = match self.log.infos.pop_front() {
                Some(info) if info.size != self.size => {
                    let text = |[width, height]: [u32; 2]| format!("{width}×{height}");
                    Err(VideoError::Size {
                        path: self.path.clone(),
                        got: text(info.size),
                        wanted: text(self.size),
                    })
                }
                Some(info) if whole => Ok(VideoFrame {
                    time_s: info.time_s,
                    rgb: picture.as_slice().into(),
                }),
                // The program has ended, perhaps in the middle of a picture.
                _ => return self.log.complaint,
            };
            let last = frame.is_err();
            if to.send(frame).is_err() || last {
                return self.log.complaint;
            }
        }
    }

    /// Reads a picture; whether there was a whole one.
    fn picture(&mut self, picture: &mut [u8]) -> bool {
        let mut filled = 0;
        while filled < picture.len() {
            match self.stdout.read(&mut picture[filled..]) {
                Ok(0) => return false,
                Ok(bytes) => filled += bytes,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    // A program that nobody hears waits.
                    self.log.hear();
                    thread::sleep(PAUSE);
                }
                Err(_) => return false,
            }
        }
        true
    }
}

/// Reading it never waits from now on.
fn unwaiting(pipe: &impl AsFd) -> io::Result<()> {
    Ok(fcntl_setfl(pipe, fcntl_getfl(pipe)? | OFlags::NONBLOCK)?)
}

/// What the program says.
struct Log {
    stderr: ChildStderr,
    /// Read, but no whole line yet.
    line: Vec<u8>,
    /// Seconds that one tick of the frames' times is.
    base_s: Option<f64>,
    /// Of frames whose picture was not read yet.
    infos: VecDeque<Info>,
    complaint: String,
    ended: bool,
}

impl Log {
    fn new(stderr: ChildStderr) -> Self {
        Self {
            stderr,
            line: vec![],
            base_s: None,
            infos: VecDeque::new(),
            complaint: String::new(),
            ended: false,
        }
    }

    /// Takes in whatever was said by now.
    fn hear(&mut self) {
        let mut piece = [0; 1 << 13];
        while !self.ended {
            match self.stderr.read(&mut piece) {
                Ok(0) => self.ended = true,
                Ok(bytes) => self.take(&piece[..bytes]),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(_) => self.ended = true,
            }
        }
    }

    fn take(&mut self, piece: &[u8]) {
        for part in piece.split_inclusive(|&byte| byte == b'\n') {
            self.line.extend_from_slice(part);
            if part.ends_with(b"\n") || self.line.len() > LONGEST_LINE {
                let line = std::mem::take(&mut self.line);
                self.understand(&String::from_utf8_lossy(&line));
            }
        }
    }

    fn understand(&mut self, line: &str) {
        match Line::parse(line) {
            Some(Line::TimeBase(seconds)) => self.base_s = Some(seconds),
            Some(Line::Frame { pts, size }) => {
                let Some(base_s) = self.base_s else { return };
                let time_s = pts as f64 * base_s;
                self.infos.push_back(Info { time_s, size });
            }
            Some(Line::Complaint(said)) if self.complaint.len() < LONGEST_COMPLAINT => {
                if !self.complaint.is_empty() {
                    self.complaint.push_str("; ");
                }
                self.complaint.push_str(said);
            }
            Some(Line::Complaint(_)) | None => {}
        }
    }
}

/// A line that matters of those that the program writes.
#[derive(Debug, PartialEq)]
enum Line<'a> {
    /// Seconds that one tick of the frames' times is.
    TimeBase(f64),
    /// A frame, before its picture.
    Frame { pts: i64, size: [u32; 2] },
    /// Something is wrong.
    Complaint(&'a str),
}

impl<'a> Line<'a> {
    fn parse(line: &'a str) -> Option<Self> {
        for level in ["[error] ", "[fatal] ", "[panic] "] {
            if let Some((_, said)) = line.split_once(level) {
                return Some(Self::Complaint(said.trim()));
            }
        }
        let (filter, said) = line.split_once("[info] ")?;
        if !filter.starts_with("[Parsed_showinfo") {
            return None;
        }
        if let Some((_, base)) = said.split_once("config in time_base: ") {
            let (over, under) = base.split_once(',')?.0.split_once('/')?;
            let [over, under]: [u32; 2] = [over.parse().ok()?, under.parse().ok()?];
            return (over > 0 && under > 0)
                .then(|| Self::TimeBase(f64::from(over) / f64::from(under)));
        }
        if !said.starts_with("n:") {
            return None;
        }
        let pts = word(said, " pts:")?.parse().ok()?;
        let (width, height) = word(said, " s:")?.split_once('x')?;
        let size = [width.parse().ok()?, height.parse().ok()?];
        Some(Self::Frame { pts, size })
    }
}

/// The word after a name; it may be padded.
fn word<'a>(line: &'a str, name: &str) -> Option<&'a str> {
    line.split_once(name)?.1.split_whitespace().next()
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    /// Whether there is ffmpeg here. Not all tests need it; those that do say so when it is not.
    fn has_ffmpeg() -> bool {
        let there = Command::new("ffmpeg")
            .arg("-version")
            .stdout(Stdio::null())
            .status()
            .is_ok();
        if !there {
            println!("SKIPPED: there is no ffmpeg here; apt install ffmpeg");
        }
        there
    }

    const SIZE: [u32; 2] = [48, 32];

    /// A film of `frames` frames at 10 Hz, each grey of 8 × its number.
    fn film(path: &Path, frames: u8, more: &[&str]) {
        let mut program = Command::new("ffmpeg")
            .args(["-loglevel", "error", "-f", "rawvideo"])
            .args(["-pixel_format", "rgb24", "-video_size", "48x32"])
            .args(["-framerate", "10", "-i", "-", "-c:v", "libx264"])
            .args(["-pix_fmt", "yuv420p"])
            .args(more)
            .arg(path)
            .stdin(Stdio::piped())
            .spawn()
            .unwrap();
        let mut pictures = vec![];
        for frame in 0..frames {
            pictures.extend([8 * frame; 48 * 32 * 3]);
        }
        io::Write::write_all(program.stdin.as_mut().unwrap(), &pictures).unwrap();
        assert!(program.wait().unwrap().success());
    }

    /// The number that is painted on a frame of [`film`].
    fn number(frame: &VideoFrame) -> u64 {
        let sum: u64 = frame.rgb.iter().map(|&value| u64::from(value)).sum();
        (sum as f64 / frame.rgb.len() as f64 / 8.0).round() as u64
    }

    #[test]
    fn what_the_program_says_is_understood() {
        let showinfo = |said: &str| format!("[Parsed_showinfo_1 @ 0x55da6b1c3d00] [info] {said}\n");
        let base = showinfo("config in time_base: 1/10240, frame_rate: 10/1");
        assert_eq!(Line::parse(&base), Some(Line::TimeBase(1.0 / 10240.0)));
        let frame = showinfo(
            "n:  10 pts:  10240 pts_time:1       pos:     6971 fmt:rgb24 sar:1/1 s:128x96 i:P iskey:1 type:I",
        );
        let wanted = Line::Frame {
            pts: 10_240,
            size: [128, 96],
        };
        assert_eq!(Line::parse(&frame), Some(wanted));
        let complaint = "[mov,mp4,m4a @ 0x5571] [error] moov atom not found\n";
        let wanted = Line::Complaint("moov atom not found");
        assert_eq!(Line::parse(complaint), Some(wanted));
        for other in [
            showinfo("config out time_base: 0/0, frame_rate: 0/0"),
            showinfo("config in time_base: 1/0, frame_rate: 10/1"),
            showinfo("color_range:pc color_space:gbr"),
            showinfo("n: 1 pts:NOPTS s:128x96"),
            "[info] Output #0, rawvideo, to 'pipe:':".to_owned(),
            String::new(),
        ] {
            assert_eq!(Line::parse(&other), None, "{other}");
        }
    }

    #[test]
    fn frames_come_by_their_times_from_any_place_on() {
        if !has_ffmpeg() {
            return;
        }
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a film: 1%.mp4");
        // B-frames too, which are stored in another order than they are shown.
        film(&path, 30, &["-bf", "2"]);
        for start in [0u32, 1, 7, 29] {
            let start_s = f64::from(start) / 10.0;
            let mut video = VideoReader::open(&path, SIZE, start_s).unwrap();
            for frame in start..30 {
                let seen = video.at(f64::from(frame) / 10.0).unwrap();
                assert_eq!(number(&seen), u64::from(frame), "from {start}");
                assert_eq!(seen.rgb.len(), 48 * 32 * 3);
            }
            // The same once more, and one that is not there.
            assert_eq!(number(&video.at(2.9).unwrap()), 29);
            let message = video.at(3.0).unwrap_err().to_string();
            assert!(message.contains("a film: 1%.mp4"), "{message}");
            assert!(message.contains("3.000 s is not there"), "{message}");
            let count = format!("after {} frames", 30 - start);
            assert!(message.contains(&count), "{message}");
        }
        // Some may be left out, but none lies between two.
        let mut video = VideoReader::open(&path, SIZE, 0.0).unwrap();
        assert_eq!(number(&video.at(1.2).unwrap()), 12);
        let message = video.at(1.35).unwrap_err().to_string();
        assert!(message.contains("1.3500 s"), "{message}");
        assert!(message.contains("1.4000 s"), "{message}");
    }

    #[test]
    fn a_reader_that_is_dropped_leaves_no_program() {
        if !has_ffmpeg() {
            return;
        }
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("film.mp4");
        film(&path, 30, &[]);
        for frames in [0, 3] {
            let mut video = VideoReader::open(&path, SIZE, 0.0).unwrap();
            for frame in 0..frames {
                video.at(f64::from(frame) / 10.0).unwrap();
            }
            let process = PathBuf::from(format!("/proc/{}", video.program.id()));
            assert!(process.exists());
            drop(video);
            assert!(!process.exists());
        }
    }

    #[test]
    fn what_is_wrong_is_said_with_the_file_and_the_remedy() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("film.mp4");
        let program = OsStr::new("no-such-ffmpeg");
        let message = VideoReader::open_by(program, &path, SIZE, 0.0);
        let message = message.err().unwrap().to_string();
        assert!(message.contains("no-such-ffmpeg"), "{message}");
        assert!(message.contains("apt install ffmpeg"), "{message}");
        if !has_ffmpeg() {
            return;
        }
        let error = |size| {
            let mut video = VideoReader::open(&path, size, 0.0).unwrap();
            let frames = (0..30).map(|frame| video.at(f64::from(frame) / 10.0));
            let message = frames.filter_map(Result::err).next().unwrap().to_string();
            assert!(message.contains("film.mp4"), "{message}");
            message
        };
        assert!(error(SIZE).contains("No such file"));
        film(&path, 30, &["-movflags", "+faststart"]);
        let message = error([32, 48]);
        assert!(message.contains("48×32"), "{message}");
        assert!(message.contains("32×48"), "{message}");
        // Cut in the middle, with its index before and behind the pictures.
        let whole = fs::read(&path).unwrap();
        fs::write(&path, &whole[..whole.len() - 40]).unwrap();
        assert!(error(SIZE).contains("copy it again"));
        fs::remove_file(&path).unwrap();
        film(&path, 30, &[]);
        let whole = fs::read(&path).unwrap();
        fs::write(&path, &whole[..whole.len() / 2]).unwrap();
        let message = error(SIZE);
        assert!(message.contains("moov atom not found"), "{message}");
        fs::write(&path, "no film at all").unwrap();
        assert!(error(SIZE).contains("after 0 frames (ffmpeg says: "));
    }
}
