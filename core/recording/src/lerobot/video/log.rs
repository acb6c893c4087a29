//! What ffmpeg says while it decodes: times and sizes of frames, and what is wrong.

use std::{
    collections::VecDeque,
    io::{self, Read},
    process::ChildStderr,
};

/// Of what the program says, so much is kept for the error: the first lines tell the cause.
const LONGEST_COMPLAINT: usize = 400;
/// A line longer than this is none of the program's.
const LONGEST_LINE: usize = 1 << 16;

/// What the program says of a frame.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Info {
    pub time_s: f64,
    /// Width, height.
    pub size: [u32; 2],
}

/// What the program says.
pub(super) struct Log {
    stderr: ChildStderr,
    /// Read, but no whole line yet.
    line: Vec<u8>,
    /// Seconds that one tick of the frames' times is.
    base_s: Option<f64>,
    /// Of frames whose picture was not read yet, one for each; `None`: it has no time.
    pub infos: VecDeque<Option<Info>>,
    pub complaint: String,
    pub ended: bool,
}

impl Log {
    pub fn new(stderr: ChildStderr) -> Self {
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
    pub fn hear(&mut self) {
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
            Some(Line::Frame(said)) => {
                let info = said.zip(self.base_s).map(|((pts, size), base_s)| Info {
                    time_s: pts as f64 * base_s,
                    size,
                });
                self.infos.push_back(info);
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
    /// A frame, before its picture: its time in ticks, and its size. `None`: it has none (`pts:NOPTS`).
    Frame(Option<(i64, [u32; 2])>),
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
        said.starts_with("n:").then(|| Self::Frame(frame(said)))
    }
}

/// Time in ticks and size of a frame.
fn frame(said: &str) -> Option<(i64, [u32; 2])> {
    let pts = word(said, " pts:")?.parse().ok()?;
    let (width, height) = word(said, " s:")?.split_once('x')?;
    Some((pts, [width.parse().ok()?, height.parse().ok()?]))
}

/// The word after a name; it may be padded.
fn word<'a>(line: &'a str, name: &str) -> Option<&'a str> {
    line.split_once(name)?.1.split_whitespace().next()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_program_says_is_understood() {
        let showinfo = |said: &str| format!("[Parsed_showinfo_1 @ 0x55da6b1c3d00] [info] {said}\n");
        let base = showinfo("config in time_base: 1/10240, frame_rate: 10/1");
        assert_eq!(Line::parse(&base), Some(Line::TimeBase(1.0 / 10240.0)));
        let frame = showinfo(
            "n:  10 pts:  10240 pts_time:1       pos:     6971 fmt:rgb24 sar:1/1 s:128x96 i:P iskey:1 type:I",
        );
        let wanted = Line::Frame(Some((10_240, [128, 96])));
        assert_eq!(Line::parse(&frame), Some(wanted));
        // Each has its picture, also without a time.
        for untimed in ["n:   1 pts:  NOPTS pts_time:NOPTS s:128x96", "n: 1"] {
            assert_eq!(Line::parse(&showinfo(untimed)), Some(Line::Frame(None)));
        }
        let complaint = "[mov,mp4,m4a @ 0x5571] [error] moov atom not found\n";
        let wanted = Line::Complaint("moov atom not found");
        assert_eq!(Line::parse(complaint), Some(wanted));
        for other in [
            showinfo("config out time_base: 0/0, frame_rate: 0/0"),
            showinfo("config in time_base: 1/0, frame_rate: 10/1"),
            showinfo("color_range:pc color_space:gbr"),
            "[info] Output #0, rawvideo, to 'pipe:':".to_owned(),
            String::new(),
        ] {
            assert_eq!(Line::parse(&other), None, "{other}");
        }
    }
}
