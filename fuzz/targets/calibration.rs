//! A calibration file with any text in it gives values that can be, or a message; so does LeRobot's. What was
//! read is written and read again the same.
#![no_main]

// The file alone: the crate as a whole would bring MuJoCo, which a reader does not need.
#[path = "../../calibration/src/joints/lerobot/file.rs"]
mod lerobot;

use hilt_protocol::calibration::Calibration;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    match Calibration::from_toml(text) {
        Ok(calibration) => {
            let again = calibration.to_toml().expect("what was read can be written");
            // As texts: what is not a number is not even itself.
            let read = Calibration::from_toml(&again).expect("what was written can be read");
            assert_eq!(read.to_toml().as_ref(), Ok(&again));
        }
        Err(error) => assert!(!error.to_string().is_empty()),
    }
    match lerobot::parse(text) {
        Ok(motors) => {
            let again = lerobot::text(&motors);
            assert_eq!(lerobot::parse(&again).ok(), Some(motors), "{again}");
        }
        Err(error) => assert!(!error.to_string().is_empty()),
    }
});
