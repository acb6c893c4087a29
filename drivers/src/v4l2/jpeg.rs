//! A camera's JPEG frames.
//!
//! Three things are particular to them. Many cameras leave the Huffman tables out, since they are
//! always the ones of the standard (Annex K.3); the decoder fills them in for frames that say that
//! they come from an AVI file, so such a frame is given that mark. Buffers may have bytes behind the
//! end of the image. And a frame of which a part was lost on the bus is too short: one without an
//! end is refused. One that has an end, too early, the decoder would show with a grey rest; it sees
//! the lack of data only where the data end without an end mark, so it does not get to see that.
//!
//! A JPEG has no checksum: where bytes are wrong and not missing, it may go unseen.

use zune_jpeg::{
    JpegDecoder,
    zune_core::{bytestream::ZCursor, colorspace::ColorSpace, options::DecoderOptions},
};

use super::error::BadFrame;

const START: [u8; 2] = [0xff, 0xd8];
const END: [u8; 2] = [0xff, 0xd9];
/// Markers: Huffman tables, and the start of the scan.
const TABLES: u8 = 0xc4;
const SCAN: u8 = 0xda;
/// An `APP0` segment of AVI files.
const AVI: [u8; 9] = *b"\xff\xe0\x00\x07AVI1\x00";
/// The decoder reads ahead, so far at most, and no pixel of a whole frame needs them.
const READ_AHEAD: [u8; 16] = [0; 16];

/// Decodes frames. Keeps its memory from one to the next.
#[derive(Debug, Default)]
pub(super) struct Decoder {
    /// The frame as the decoder gets it.
    bytes: Vec<u8>,
}

impl Decoder {
    /// Decodes a frame of `width` and `height` into `rgb`, which gets their size.
    pub(super) fn decode(
        &mut self,
        frame: &[u8],
        width: usize,
        height: usize,
        rgb: &mut Vec<u8>,
    ) -> Result<(), BadFrame> {
        let bad = |words: String| BadFrame::Jpeg(words);
        let Some(rest) = frame.strip_prefix(&START) else {
            return Err(bad("it does not begin like one".to_owned()));
        };
        let end = rest.windows(2).rposition(|pair| pair == END);
        let Some(end) = end else {
            return Err(bad("it has no end".to_owned()));
        };
        let rest = &rest[..end];
        let mark: &[u8] = if lacks_tables(rest) { &AVI } else { &[] };
        self.bytes.clear();
        for piece in [&START, mark, rest, &READ_AHEAD] {
            self.bytes.extend_from_slice(piece);
        }
        let options = DecoderOptions::default()
            .jpeg_set_out_colorspace(ColorSpace::RGB)
            .set_max_width(width)
            .set_max_height(height)
            // Data that ends too early is an error.
            .set_strict_mode(true);
        let mut decoder = JpegDecoder::new_with_options(ZCursor::new(&self.bytes), options);
        decoder.decode_headers().map_err(|e| bad(e.to_string()))?;
        let got = decoder.dimensions();
        if got != Some((width, height)) {
            return Err(bad(format!("{got:?}, not ({width}, {height})")));
        }
        rgb.resize(width * height * 3, 0);
        decoder.decode_into(rgb).map_err(|e| bad(e.to_string()))
    }
}

/// Whether the scan of a JPEG, whose segments these are, begins without any Huffman table before it.
fn lacks_tables(mut segments: &[u8]) -> bool {
    while let [0xff, marker, high, low, ..] = segments {
        match *marker {
            TABLES => return false,
            SCAN => return true,
            _ => {}
        }
        let len = 2 + usize::from(u16::from_be_bytes([*high, *low]));
        segments = segments.get(len..).unwrap_or_default();
    }
    // What this is, the decoder says.
    false
}
