//! From the device's bytes to the policy's image: decode, crop, resize. No input and no output: the
//! same bytes give the same image.
//!
//! Resizing averages over what a pixel of the image covers, so fine patterns do not turn into
//! coarse ones. Packed 4:2:2 is resized *before* its colours are computed: both are linear, a policy's
//! image has a tenth of the pixels, and a row of `Y U Y V` groups is already an image of half the
//! width with four channels. Where the image needs more columns than there are groups, pixels are
//! taken apart first.
//!
//! Of an uncompressed frame every byte is read once, from the buffer that the device wrote it to;
//! what is written is as small as the image. A JPEG is decoded into memory of its own.

use std::sync::Arc;

use fast_image_resize::{
    FilterType, PixelType, ResizeAlg, ResizeOptions, Resizer,
    images::{Image as Target, ImageRef as Source},
};
use hilt_protocol::{CameraSpec, Image};

use super::{
    config::{Crop, Rectangle},
    device::{Colours, Layout, PixelFormat},
    error::BadFrame,
    jpeg,
};

/// Makes images of frames. Keeps its memory from one to the next.
#[derive(Debug)]
pub struct Converter {
    format: PixelFormat,
    layout: Layout,
    part: Rectangle,
    height: u32,
    width: u32,
    matrix: Matrix,
    resizer: Resizer,
    jpeg: jpeg::Decoder,
    /// The frame, where it cannot be resized in the form in which it came.
    pixels: Vec<u8>,
    /// A 4:2:2 frame's part, taken apart.
    apart: Vec<u8>,
    /// The image before its colours are computed.
    small: Vec<u8>,
}

impl Converter {
    /// From frames of `format` and `layout` to images of `spec`'s size. `None` where `crop` is no
    /// part of the frame.
    pub fn new(format: PixelFormat, layout: Layout, crop: Crop, spec: &CameraSpec) -> Option<Self> {
        let mode = layout.mode;
        let part = crop.of(mode.width, mode.height, spec.width, spec.height)?;
        Some(Self {
            format,
            layout,
            part,
            height: spec.height,
            width: spec.width,
            matrix: Matrix::new(layout.colours),
            resizer: Resizer::new(),
            jpeg: jpeg::Decoder::default(),
            pixels: Vec::new(),
            apart: Vec::new(),
            small: Vec::new(),
        })
    }

    /// The image of a frame that was captured at `captured_ns`.
    pub fn image(&mut self, frame: &[u8], captured_ns: u64) -> Result<Image, BadFrame> {
        let pixels = self.height as usize * self.width as usize;
        let mut rgb: Arc<[u8]> = std::iter::repeat_n(0, 3 * pixels).collect();
        // Nobody else has it yet.
        if let Some(rgb) = Arc::get_mut(&mut rgb) {
            self.convert(frame, rgb)?;
        }
        Ok(Image {
            captured_ns,
            height: self.height,
            width: self.width,
            rgb,
        })
    }

    fn convert(&mut self, frame: &[u8], rgb: &mut [u8]) -> Result<(), BadFrame> {
        let (width, height) = (self.layout.mode.width, self.layout.mode.height);
        let row_bytes = match self.format {
            PixelFormat::Yuyv => width.div_ceil(2) * 4,
            PixelFormat::Grey => width,
            PixelFormat::Rgb24 | PixelFormat::Mjpeg => width * 3,
        };
        let frame = if self.format == PixelFormat::Mjpeg {
            let (width, height) = (width as usize, height as usize);
            self.jpeg.decode(frame, width, height, &mut self.pixels)?;
            &self.pixels
        } else {
            let stride = self.layout.stride_bytes.max(row_bytes) as usize;
            let (rows, row_bytes) = (height as usize, row_bytes as usize);
            without_gaps(frame, rows, stride, row_bytes, &mut self.pixels)?
        };
        let part = self.part;
        let crop = [part.x, part.y, part.width, part.height].map(f64::from);
        let size = (self.width, self.height);
        let pixels = size.0 as usize * size.1 as usize;
        match self.format {
            PixelFormat::Rgb24 | PixelFormat::Mjpeg => {
                let from = (frame, width, height, PixelType::U8x3);
                resize(&mut self.resizer, from, crop, size, rgb)
            }
            PixelFormat::Grey => {
                self.small.resize(pixels, 0);
                let from = (frame, width, height, PixelType::U8);
                resize(&mut self.resizer, from, crop, size, &mut self.small)?;
                for (rgb, grey) in rgb.chunks_exact_mut(3).zip(&self.small) {
                    rgb.fill(*grey);
                }
                Ok(())
            }
            PixelFormat::Yuyv if part.width >= 2 * self.width => {
                let [x, y, columns, rows] = crop;
                self.small.resize(4 * pixels, 0);
                let from = (frame, width.div_ceil(2), height, PixelType::U8x4);
                let crop = [x / 2.0, y, columns / 2.0, rows];
                resize(&mut self.resizer, from, crop, size, &mut self.small)?;
                let groups = self.small.chunks_exact(4);
                for (rgb, group) in rgb.chunks_exact_mut(3).zip(groups) {
                    let y = i32::from(group[0]) + i32::from(group[2]);
                    rgb.copy_from_slice(&self.matrix.rgb(y, group[1].into(), group[3].into()));
                }
                Ok(())
            }
            PixelFormat::Yuyv => {
                take_apart(frame, row_bytes as usize, part, &mut self.apart);
                self.small.resize(3 * pixels, 0);
                let from = (&*self.apart, part.width, part.height, PixelType::U8x3);
                let crop = [0.0, 0.0, crop[2], crop[3]];
                resize(&mut self.resizer, from, crop, size, &mut self.small)?;
                for (rgb, yuv) in rgb.chunks_exact_mut(3).zip(self.small.chunks_exact(3)) {
                    let y = 2 * i32::from(yuv[0]);
                    rgb.copy_from_slice(&self.matrix.rgb(y, yuv[1].into(), yuv[2].into()));
                }
                Ok(())
            }
        }
    }
}

/// The frame's rows one behind the other: as they came, or copied where the device leaves gaps.
fn without_gaps<'a>(
    frame: &'a [u8],
    rows: usize,
    stride: usize,
    row_bytes: usize,
    copy: &'a mut Vec<u8>,
) -> Result<&'a [u8], BadFrame> {
    // The last row's gap need not be there.
    let expected = (stride * rows).saturating_sub(stride - row_bytes);
    if frame.len() < expected {
        let got = frame.len();
        return Err(BadFrame::Short { expected, got });
    }
    if stride == row_bytes {
        return Ok(frame);
    }
    copy.clear();
    for row in frame.chunks(stride).take(rows) {
        copy.extend_from_slice(&row[..row_bytes]);
    }
    Ok(copy)
}

/// Y, U and V of every pixel of `part`; two neighbours have the same U and V.
fn take_apart(frame: &[u8], row_bytes: usize, part: Rectangle, apart: &mut Vec<u8>) {
    apart.clear();
    let first = part.x as usize;
    let rows = frame.chunks_exact(row_bytes).skip(part.y as usize);
    for row in rows.take(part.height as usize) {
        for column in first..first + part.width as usize {
            let group = &row[column / 2 * 4..][..4];
            apart.extend_from_slice(&[group[column % 2 * 2], group[1], group[3]]);
        }
    }
}

/// Resizes the part `crop` (x, y, width, height) of a picture (its bytes, width, height and pixels)
/// to `to`, which is of `size` (width, height).
fn resize(
    resizer: &mut Resizer,
    (bytes, width, height, pixels): (&[u8], u32, u32, PixelType),
    crop: [f64; 4],
    size: (u32, u32),
    to: &mut [u8],
) -> Result<(), BadFrame> {
    let refused = |e: &dyn std::error::Error| BadFrame::Resize(e.to_string());
    let from = Source::new(width, height, bytes, pixels).map_err(|e| refused(&e))?;
    let mut to = Target::from_slice_u8(size.0, size.1, to, pixels).map_err(|e| refused(&e))?;
    let options = ResizeOptions::new()
        .resize_alg(ResizeAlg::Convolution(FilterType::Bilinear))
        // The fourth channel is a colour like the others.
        .use_alpha(false)
        .crop(crop[0], crop[1], crop[2], crop[3]);
    let done = resizer.resize(&from, &mut to, &options);
    done.map_err(|e| refused(&e))
}

/// From brightness and colour differences to red, green and blue, in 2⁻¹⁶ (ITU-R BT.601 and BT.709).
#[derive(Clone, Copy, Debug)]
struct Matrix {
    /// Of twice the brightness: that of two pixels.
    black: i32,
    y: i32,
    r_of_v: i32,
    g_of_u: i32,
    g_of_v: i32,
    b_of_u: i32,
}

impl Matrix {
    fn new(colours: Colours) -> Self {
        let (red, blue) = if colours.rec709 {
            (0.2126, 0.0722)
        } else {
            (0.299, 0.114)
        };
        let green = 1.0 - red - blue;
        let (black, y, c) = if colours.full_range {
            (0, 1.0, 1.0)
        } else {
            (2 * 16, 255.0 / 219.0, 255.0 / 224.0)
        };
        let fixed = |x: f64| (x * 65536.0).round() as i32;
        Self {
            black,
            y: fixed(y / 2.0),
            r_of_v: fixed(c * 2.0 * (1.0 - red)),
            g_of_u: fixed(c * 2.0 * (1.0 - blue) * blue / green),
            g_of_v: fixed(c * 2.0 * (1.0 - red) * red / green),
            b_of_u: fixed(c * 2.0 * (1.0 - blue)),
        }
    }

    /// Of twice the brightness, and the colour differences.
    fn rgb(self, y: i32, u: i32, v: i32) -> [u8; 3] {
        // Half a step, so that the shift rounds.
        let y = (y - self.black) * self.y + (1 << 15);
        let (u, v) = (u - 128, v - 128);
        let byte = |x: i32| (x >> 16).clamp(0, 255) as u8;
        [
            byte(y + self.r_of_v * v),
            byte(y - self.g_of_u * u - self.g_of_v * v),
            byte(y + self.b_of_u * u),
        ]
    }
}

#[cfg(test)]
// Said, so that the file can be a module of a fuzz target too.
#[path = "converter/tests.rs"]
mod tests;
