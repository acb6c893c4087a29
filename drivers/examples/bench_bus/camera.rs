//! From a captured frame to the policy's tensor: decode, crop, resize, colours, and the copy into
//! the memory that the graph's input is bound to.

use std::{hint::black_box, time::Instant};

use hilt_drivers::v4l2::{BadFrame, Colours, Converter, Crop, Layout, Mode, PixelFormat};
use hilt_protocol::CameraSpec;

/// 640×480, 4:2:2, as libjpeg-turbo writes it.
const JPEG: &[u8] = include_bytes!("../../tests/camera/bars_640x480_422.jpg");
const WIDTH: u32 = 640;
const HEIGHT: u32 = 480;
/// Pixels of the policy's image on each side.
const SIDE: u32 = 128;
const ROUNDS: usize = 500;

/// What a frame of 640×480 costs on its way to a tensor of 128×128.
#[derive(Clone, Copy, Debug)]
pub struct Cost {
    /// Median, microseconds.
    pub median_us: f64,
    /// How often all of its pixels are written to memory at the device's size.
    pub frame_copies: u32,
    /// How often they are at the image's size: resized, in colour, as the tensor.
    pub image_copies: u32,
}

/// YUYV's, and MJPEG's.
pub fn measure() -> Result<[Cost; 2], BadFrame> {
    // Not all the same, so that nothing is foreseen.
    let pixels = (0..WIDTH * HEIGHT * 2).map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8);
    let yuyv: Vec<u8> = pixels.collect();
    Ok([
        Cost {
            median_us: median_us(PixelFormat::Yuyv, &yuyv)?,
            frame_copies: 0,
            image_copies: 3,
        },
        Cost {
            median_us: median_us(PixelFormat::Mjpeg, JPEG)?,
            frame_copies: 1,
            image_copies: 2,
        },
    ])
}

fn median_us(format: PixelFormat, frame: &[u8]) -> Result<f64, BadFrame> {
    let layout = Layout {
        mode: Mode {
            format: format.code(),
            width: WIDTH,
            height: HEIGHT,
        },
        progressive: true,
        stride_bytes: 0,
        colours: Colours::default(),
    };
    let spec = CameraSpec {
        name: "front".into(),
        height: SIDE,
        width: SIDE,
    };
    // The centre always is a part of the frame.
    let Some(mut converter) = Converter::new(format, layout, Crop::Centre, &spec) else {
        return Ok(f64::NAN);
    };
    let mut tensor = vec![0; (SIDE * SIDE * 3) as usize];
    let mut took_us = Vec::with_capacity(ROUNDS);
    for _ in 0..ROUNDS {
        let begin = Instant::now();
        let image = converter.image(black_box(frame), 0)?;
        tensor.copy_from_slice(&image.rgb);
        black_box(&mut tensor);
        took_us.push(begin.elapsed().as_secs_f64() * 1e6);
    }
    took_us.sort_by(f64::total_cmp);
    Ok(took_us[ROUNDS / 2])
}
