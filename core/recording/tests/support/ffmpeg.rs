//! For tests that need ffmpeg, which is not everywhere.

use std::process::Command;

/// Whether there is ffmpeg here; says so when there is not.
pub fn has_ffmpeg() -> bool {
    let there = Command::new("ffmpeg").arg("-version").output().is_ok();
    if !there {
        println!("SKIPPED: there is no ffmpeg here; apt install ffmpeg");
    }
    there
}
