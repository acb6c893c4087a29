use proptest::prelude::*;

use super::*;
use crate::v4l2::device::Mode;

fn layout(format: PixelFormat, width: u32, height: u32) -> Layout {
    Layout {
        mode: Mode {
            format: format.code(),
            width,
            height,
        },
        progressive: true,
        stride_bytes: 0,
        colours: Colours::default(),
    }
}

fn spec(width: u32, height: u32) -> CameraSpec {
    CameraSpec {
        name: "front".into(),
        height,
        width,
    }
}

fn converter(format: PixelFormat, from: (u32, u32), to: (u32, u32)) -> Converter {
    let layout = layout(format, from.0, from.1);
    Converter::new(format, layout, Crop::Centre, &spec(to.0, to.1)).unwrap()
}

/// A YUYV frame whose pixel (x, y) has the brightness and colour that `yuv` says; neighbours share
/// the colour of the first.
fn yuyv(width: u32, height: u32, yuv: impl Fn(u32, u32) -> [u8; 3]) -> Vec<u8> {
    let groups = (0..height).flat_map(|y| (0..width / 2).map(move |group| (2 * group, y)));
    groups
        .flat_map(|(x, y)| {
            let ([a, u, v], [b, ..]) = (yuv(x, y), yuv(x + 1, y));
            [a, u, b, v]
        })
        .collect()
}

fn near(a: &[u8], b: &[u8], by: u8) -> bool {
    a.len() == b.len() && a.iter().zip(b).all(|(a, b)| a.abs_diff(*b) <= by)
}

/// Rec. 601 and 709 in studio range, and JPEG's full range: the colours' values are those of the
/// recommendations' colour bars at 100 %.
#[test]
fn known_colours_come_out_right() {
    let bt601 = Colours::default();
    let bt709 = Colours {
        rec709: true,
        full_range: false,
    };
    let jfif = Colours {
        rec709: false,
        full_range: true,
    };
    let known: [(Colours, [u8; 3], [u8; 3]); 15] = [
        (bt601, [16, 128, 128], [0, 0, 0]),
        (bt601, [235, 128, 128], [255, 255, 255]),
        (bt601, [81, 90, 240], [255, 0, 0]),
        (bt601, [145, 54, 34], [0, 255, 0]),
        (bt601, [41, 240, 110], [0, 0, 255]),
        (bt601, [210, 16, 146], [255, 255, 0]),
        (bt709, [235, 128, 128], [255, 255, 255]),
        (bt709, [63, 102, 240], [255, 0, 0]),
        (bt709, [173, 42, 26], [0, 255, 0]),
        (bt709, [32, 240, 118], [0, 0, 255]),
        (jfif, [0, 128, 128], [0, 0, 0]),
        (jfif, [255, 128, 128], [255, 255, 255]),
        (jfif, [76, 85, 255], [255, 0, 0]),
        (jfif, [150, 44, 21], [0, 255, 0]),
        (jfif, [29, 255, 107], [0, 0, 255]),
    ];
    // The image needs all columns of the frame, half of them, or few.
    for to in [8, 4, 2] {
        for (colours, yuv, rgb) in known {
            let mut layout = layout(PixelFormat::Yuyv, 8, 8);
            layout.colours = colours;
            let format = PixelFormat::Yuyv;
            let mut converter = Converter::new(format, layout, Crop::Whole, &spec(to, to)).unwrap();
            let image = converter.image(&yuyv(8, 8, |_, _| yuv), 5).unwrap();
            let all = rgb.repeat((to * to) as usize);
            assert!(
                near(&image.rgb, &all, 2),
                "{yuv:?} gave {:?}, not {rgb:?}",
                &image.rgb[..3]
            );
            assert_eq!((image.width, image.height, image.captured_ns), (to, to, 5));
        }
    }
}

/// Left half dark, right half bright, a bright row at the top: nothing is mirrored or shifted.
#[test]
fn pixels_stay_where_they_are() {
    let bright = |x: u32, y: u32| x >= 32 || y < 8;
    let grey = |x, y| if bright(x, y) { 235 } else { 16 };
    let value = |x, y| if bright(x, y) { 255 } else { 0 };
    let all = || (0..48).flat_map(|y| (0..64).map(move |x| (x, y)));
    let frames = [
        (
            PixelFormat::Yuyv,
            yuyv(64, 48, |x, y| [grey(x, y), 128, 128]),
        ),
        (PixelFormat::Grey, all().map(|(x, y)| value(x, y)).collect()),
        (
            PixelFormat::Rgb24,
            all().flat_map(|(x, y)| [value(x, y); 3]).collect(),
        ),
    ];
    for (format, frame) in frames {
        for (to_w, to_h) in [(64, 48), (32, 24), (16, 12)] {
            let image = converter(format, (64, 48), (to_w, to_h))
                .image(&frame, 0)
                .unwrap();
            let pixel = |x: u32, y: u32| image.rgb[((y * to_w + x) * 3) as usize];
            let (mid, top) = (to_w / 2, to_h / 6);
            assert!(
                pixel(mid - 2, to_h - 1) < 5 && pixel(mid + 1, to_h - 1) > 250,
                "{format:?}"
            );
            assert!(
                pixel(0, top - 2) > 250 && pixel(0, top + 1) < 5,
                "{format:?}"
            );
        }
    }
}

#[test]
fn the_part_is_what_the_crop_says() {
    // Brightness counts columns, in threes, so that a crop shows where it begins. Pixels beyond it
    // count a little at its edges, as much on the one side as on the other.
    let frame = yuyv(64, 48, |x, y| {
        [3 * x as u8 + 48 * u8::from(y >= 24), 128, 128]
    });
    let format = PixelFormat::Yuyv;
    let mut layout = layout(format, 64, 48);
    layout.colours.full_range = true;
    for (x, y, side) in [(16, 4, 16), (20, 4, 8), (21, 34, 8), (31, 32, 12)] {
        let part = Crop::Rectangle(Rectangle {
            x,
            y,
            width: side,
            height: side,
        });
        for to in [side, side / 2, 2] {
            let mut converter = Converter::new(format, layout, part, &spec(to, to)).unwrap();
            let image = converter.image(&frame, 0).unwrap();
            let mean = image.rgb.iter().map(|v| f64::from(*v)).sum::<f64>();
            let mean = mean / image.rgb.len() as f64;
            let rows_below = (y..y + side).filter(|y| *y >= 24).count();
            let below = 48.0 * rows_below as f64 / f64::from(side);
            let expected = 3.0 * (f64::from(x) + f64::from(side - 1) / 2.0) + below;
            assert!(
                (mean - expected).abs() < 1.0,
                "{x} {y} {side} {to}: {mean}, not {expected}"
            );
        }
    }
    let outside = Crop::Rectangle(Rectangle {
        x: 60,
        y: 0,
        width: 5,
        height: 5,
    });
    assert!(Converter::new(format, layout, outside, &spec(4, 4)).is_none());
}

/// Both ways through 4:2:2 are the same picture: colours first, then resized.
#[test]
fn resizing_before_the_colours_is_the_same_picture() {
    let frame = yuyv(64, 64, |x, y| {
        let wave = |f: u32| ((x * f + y * 2) % 96) as u8;
        [80 + wave(1), 90 + wave(2) / 2, 110 + wave(3) / 4]
    });
    let packed = converter(PixelFormat::Yuyv, (64, 64), (16, 16))
        .image(&frame, 0)
        .unwrap();
    // At its own size every pixel is computed by itself.
    let colours = converter(PixelFormat::Yuyv, (64, 64), (64, 64))
        .image(&frame, 0)
        .unwrap();
    let after = converter(PixelFormat::Rgb24, (64, 64), (16, 16));
    let after = { after }.image(&colours.rgb, 0).unwrap();
    let errors = packed
        .rgb
        .iter()
        .zip(after.rgb.iter())
        .map(|(a, b)| a.abs_diff(*b));
    let worst = errors.clone().max().unwrap();
    let mean = errors.map(f64::from).sum::<f64>() / packed.rgb.len() as f64;
    assert!(worst <= 6 && mean < 1.0, "worst {worst}, mean {mean}");
}

#[test]
fn rows_with_gaps_are_read_without_them() {
    let frame = yuyv(32, 32, |x, y| {
        [(8 * x / 2 + y) as u8, x as u8 * 4, y as u8 * 4]
    });
    let mut with_gaps = Vec::new();
    for row in frame.chunks(64) {
        with_gaps.extend_from_slice(row);
        with_gaps.extend_from_slice(&[0xee; 16]);
    }
    // Some devices leave the last gap out.
    with_gaps.truncate(with_gaps.len() - 16);
    let mut layout = layout(PixelFormat::Yuyv, 32, 32);
    layout.stride_bytes = 80;
    let mut gaps = Converter::new(PixelFormat::Yuyv, layout, Crop::Whole, &spec(8, 8)).unwrap();
    let mut tight = converter(PixelFormat::Yuyv, (32, 32), (8, 8));
    let expected = tight.image(&frame, 0).unwrap();
    assert_eq!(gaps.image(&with_gaps, 0).unwrap(), expected);
    with_gaps.pop();
    let bad = gaps.image(&with_gaps, 0).unwrap_err();
    let (expected, got) = (80 * 32 - 16, 80 * 32 - 17);
    assert_eq!(bad, BadFrame::Short { expected, got });
}

/// 640×480, 4:2:2, quality 80, as libjpeg-turbo 3 writes it: eight bars of colour, darker downwards,
/// and the noise of a sensor, so that it is as long as a camera's frame.
const JPEG: &[u8] = include_bytes!("../../../tests/camera/bars_640x480_422.jpg");

/// The bars' colours at a brightness of `y` rows down.
fn bar(x: u32, y: u32) -> [u8; 3] {
    let bits = 7 - x / 80;
    let light = 255 - (y / 4) as u8;
    [bits & 2, bits & 4, bits & 1].map(|on| if on != 0 { light } else { 0 })
}

fn assert_bars(image: &Image) {
    for (i, pixel) in image.rgb.chunks(3).enumerate() {
        let (x, y) = (i as u32 % 160, i as u32 / 160);
        // Away from the bars' edges.
        if (2..18).contains(&(x % 20)) {
            let expected = bar(4 * x, 4 * y);
            assert!(
                near(pixel, &expected, 12),
                "({x}, {y}): {pixel:?}, not {expected:?}"
            );
        }
    }
}

/// What a camera sends: no Huffman tables.
fn without_tables(jpeg: &[u8]) -> Vec<u8> {
    let mut out = jpeg[..2].to_vec();
    let mut rest = &jpeg[2..];
    while rest[1] != 0xda {
        let (segment, after) = rest.split_at(2 + usize::from(rest[2]) * 256 + usize::from(rest[3]));
        if segment[1] != 0xc4 {
            out.extend_from_slice(segment);
        }
        rest = after;
    }
    out.extend_from_slice(rest);
    out
}

#[test]
fn a_jpeg_of_another_program_is_read_as_it_was_drawn() {
    let mut converter = converter(PixelFormat::Mjpeg, (640, 480), (160, 120));
    assert_bars(&converter.image(JPEG, 0).unwrap());
    let bare = without_tables(JPEG);
    assert!(bare.len() + 400 < JPEG.len());
    let expected = converter.image(JPEG, 0).unwrap();
    assert_eq!(converter.image(&bare, 0).unwrap(), expected);
    // Buffers may be longer than the image in them.
    let padded = [&bare[..], &[0; 512]].concat();
    assert_eq!(converter.image(&padded, 0).unwrap(), expected);
}

#[test]
fn a_damaged_jpeg_is_refused() {
    let mut converter = converter(PixelFormat::Mjpeg, (640, 480), (160, 120));
    let words = |frame: &[u8], converter: &mut Converter| match converter.image(frame, 0) {
        Err(BadFrame::Jpeg(words)) => words,
        other => panic!("{other:?}"),
    };
    for tables in [true, false] {
        let frame = if tables {
            JPEG.to_vec()
        } else {
            without_tables(JPEG)
        };
        // Cut short, and cut short with an end that the driver or the next packet brought.
        for share in [2, 10, 50, 90] {
            let cut = &frame[..frame.len() * share / 100];
            assert!(
                words(cut, &mut converter).contains("it has no end"),
                "{share} %"
            );
            words(&[cut, &[0xff, 0xd9]].concat(), &mut converter);
        }
        // A part lost in the middle.
        let (head, tail) = frame.split_at(frame.len() / 2);
        words(&[head, &tail[tail.len() / 2..]].concat(), &mut converter);
    }
    words(&[], &mut converter);
    words(b"\xff\xd8\xff\xd9", &mut converter);
    let mut small = super::Converter::new(
        PixelFormat::Mjpeg,
        layout(PixelFormat::Mjpeg, 320, 240),
        Crop::Centre,
        &spec(64, 64),
    )
    .unwrap();
    words(JPEG, &mut small);
    let mut large = super::Converter::new(
        PixelFormat::Mjpeg,
        layout(PixelFormat::Mjpeg, 1280, 720),
        Crop::Centre,
        &spec(64, 64),
    )
    .unwrap();
    assert!(words(JPEG, &mut large).contains("not (1280, 720)"));
}

fn formats() -> impl Strategy<Value = PixelFormat> {
    prop_oneof![
        Just(PixelFormat::Yuyv),
        Just(PixelFormat::Mjpeg),
        Just(PixelFormat::Rgb24),
        Just(PixelFormat::Grey),
    ]
}

proptest! {
    #[test]
    fn any_bytes_are_an_image_of_the_right_size_or_an_error(
        format in formats(),
        width in 1_u32..40,
        height in 1_u32..40,
        stride in 0_u32..200,
        to in (1_u32..20, 1_u32..20),
        bytes in prop::collection::vec(any::<u8>(), 0..6000),
    ) {
        let mut layout = layout(format, width, height);
        layout.stride_bytes = stride;
        for crop in [Crop::Centre, Crop::Whole] {
            let Some(mut converter) = Converter::new(format, layout, crop, &spec(to.0, to.1)) else {
                continue;
            };
            if let Ok(image) = converter.image(&bytes, 0) {
                prop_assert_eq!(image.rgb.len() as u32, to.0 * to.1 * 3);
            }
        }
    }

    #[test]
    fn a_jpeg_with_wrong_bytes_is_an_image_or_an_error(
        places in prop::collection::vec((0_usize..1_000_000, any::<u8>()), 1..8),
        tables in any::<bool>(),
    ) {
        let mut frame = if tables { JPEG.to_vec() } else { without_tables(JPEG) };
        for (place, byte) in places {
            // Headers are a small part of the file and a large part of the trouble.
            let len = if place % 2 == 0 { frame.len() } else { 700 };
            frame[place / 2 % len] = byte;
        }
        let mut converter = converter(PixelFormat::Mjpeg, (640, 480), (16, 16));
        let _ = converter.image(&frame, 0);
    }
}
