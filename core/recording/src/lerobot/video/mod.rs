//! Frames of a video, decoded by the `ffmpeg` program beside us, in order.
//!
//! The pictures come through one pipe, and what the program says of each, its time and size, through another: raw
//! pictures know neither. A thread reads both, so that a few frames of each video are ready before anybody asks; when
//! nobody takes them, the pipe is full and the program waits.

mod error;
mod log;

use std::{
    ffi::OsStr,
    io::{self, Read},
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Child, ChildStdout, Command, Stdio},
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

pub use error::VideoError;
use log::Log;

/// Frames that wait, decoded: so many, and no more of large ones than have these bytes, but for two.
const AHEAD: usize = 32;
const AHEAD_BYTES: usize = 16 << 20;
/// Frames up to this, 256 × 256, are decoded faster than they are handed from thread to thread.
const SMALL_PIXELS: u32 = 1 << 16;
/// What a pipe may hold for anybody (`/proc/sys/fs/pipe-max-size`).
const PIPE_BYTES: usize = 1 << 20;
/// How long the thread leaves the program alone when it has read all there is. To wait for the pipes instead would
/// wake it for every piece of a picture or a line, tens of times a frame, and cost as much as the decoding.
const PAUSE: Duration = Duration::from_micros(200);

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
        let mut decoded = 0;
        loop {
            let whole = self.picture(&mut picture);
            // What is said of a picture is said before it comes.
            self.log.hear();
            while self.log.infos.is_empty() && !self.log.ended {
                thread::sleep(PAUSE);
                self.log.hear();
            }
            let frame = match self.log.infos.pop_front() {
                Some(None) => Err(VideoError::Untimed {
                    path: self.path.clone(),
                    frame: decoded,
                }),
                Some(Some(info)) if info.size != self.size => {
                    let text = |[width, height]: [u32; 2]| format!("{width}×{height}");
                    Err(VideoError::Size {
                        path: self.path.clone(),
                        got: text(info.size),
                        wanted: text(self.size),
                    })
                }
                Some(Some(info)) if whole => Ok(VideoFrame {
                    time_s: info.time_s,
                    rgb: picture.as_slice().into(),
                }),
                // The program has ended, perhaps in the middle of a picture.
                _ => return self.log.complaint,
            };
            decoded += 1;
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

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::ffmpeg::has_ffmpeg;

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

    /// What comes of a program that says so of its pictures, all of them grey, and then shows so many.
    fn read(said: &str, pictures: u64) -> Vec<Result<VideoFrame, VideoError>> {
        let bytes = pictures * 48 * 32 * 3;
        let mut program = Command::new("sh")
            .args(["-c", "printf %s \"$0\" >&2; head -c \"$1\" /dev/zero"])
            .args([said, &bytes.to_string()])
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let pictures = Pictures {
            path: "film.mp4".into(),
            size: SIZE,
            stdout: program.stdout.take().unwrap(),
            log: Log::new(program.stderr.take().unwrap()),
        };
        unwaiting(&pictures.stdout).unwrap();
        let (sender, frames) = sync_channel(AHEAD);
        pictures.read(&sender);
        program.wait().unwrap();
        drop(sender);
        frames.iter().collect()
    }

    #[test]
    fn a_frame_without_a_time_is_refused() {
        let line = |said: &str| format!("[Parsed_showinfo_1 @ 0x5] [info] {said}\n");
        let frame = |pts: &str| line(&format!("n: 0 pts: {pts} pts_time:0 s:48x32 i:P"));
        let base = line("config in time_base: 1/10, frame_rate: 10/1");
        let said = |times: &[&str]| -> String { times.iter().map(|pts| frame(pts)).collect() };
        let frames = read(&(base.clone() + &said(&["0", "1", "2"])), 3);
        let times: Vec<f64> = (frames.into_iter())
            .map(|frame| frame.unwrap().time_s)
            .collect();
        assert_eq!(times, [0.0, 0.1, 0.2]);
        let untimed = base + &said(&["0", "NOPTS", "2"]);
        let no_base = said(&["0", "1"]);
        for (said, first) in [(untimed, 1), (no_base, 0)] {
            let mut frames = read(&said, 3);
            let error = frames.pop().unwrap().unwrap_err().to_string();
            assert_eq!(frames.len(), first);
            assert!(error.contains("film.mp4"), "{error}");
            assert!(error.contains(&format!("frame {first} ")), "{error}");
            assert!(error.contains("has no time"), "{error}");
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
