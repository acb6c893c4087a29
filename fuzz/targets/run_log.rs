//! Any bytes in the place of a run's log are read to an end, with entries or an error, and can be
//! recovered from.
#![no_main]

use hilt_recording::{RunReader, recover};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let Ok(dir) = tempfile::tempdir() else { return };
    if std::fs::write(dir.path().join("run.mcap"), bytes).is_err() {
        return;
    }
    let read = || RunReader::open(dir.path()).map(|reader| reader.filter(Result::is_ok).count());
    let before = read();
    if recover(dir.path()).is_ok()
        && let (Ok(before), Ok(after)) = (before, read())
    {
        assert!(
            after >= before,
            "{after} entries after recovery, {before} before"
        );
    }
});
