//! Whatever a camera delivers becomes an image of the right size or is refused.
#![no_main]
#![allow(
    dead_code,
    reason = "the files are whole; not all of them is needed here"
)]

// The files alone: the drivers as a whole would bring MuJoCo, which a converter does not need.
#[path = "../../drivers/src/v4l2/config.rs"]
mod config;
#[path = "../../drivers/src/v4l2/converter.rs"]
mod converter;
#[path = "../../drivers/src/v4l2/device.rs"]
mod device;
#[path = "../../drivers/src/v4l2/jpeg.rs"]
mod jpeg;

use config::Crop;
use converter::Converter;
use device::{Colours, Layout, Mode, PixelFormat};
use hilt_protocol::CameraSpec;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    let Some(([format, width, height, stride, side], frame)) = input.split_first_chunk() else {
        return;
    };
    let format = match format % 8 {
        0 => PixelFormat::Yuyv,
        1 => PixelFormat::Rgb24,
        2 => PixelFormat::Grey,
        // It has the most to get wrong.
        _ => PixelFormat::Mjpeg,
    };
    let layout = Layout {
        mode: Mode {
            format: format.code(),
            width: u32::from(*width),
            height: u32::from(*height),
        },
        progressive: true,
        stride_bytes: 4 * u32::from(*stride),
        colours: Colours::default(),
    };
    let side = u32::from(side % 64);
    let spec = CameraSpec {
        name: "front".to_owned(),
        height: side,
        width: side,
    };
    let Some(mut converter) = Converter::new(format, layout, Crop::Centre, &spec) else {
        return;
    };
    if let Ok(image) = converter.image(frame, 0) {
        assert_eq!(image.rgb.len(), (side * side * 3) as usize);
    }
});
