//! Why there is no frame.

use std::{io, path::PathBuf};

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
    /// A frame has no time.
    #[error(
        "{path}: frame {frame} of those that were decoded has no time, so that nobody knows which it is; record that \
         episode again, or leave it out"
    )]
    Untimed {
        /// The video.
        path: PathBuf,
        /// Place from where reading began.
        frame: u64,
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
