//! numpy's arrays.

use std::{
    borrow::Cow,
    io::{self, Read, Seek, SeekFrom},
};

/// Type of an array's numbers, little-endian.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DType {
    /// One byte, 0 or 1.
    Bool,
    /// Signed, of so many bytes.
    Int(usize),
    /// Unsigned, of so many bytes.
    Unsigned(usize),
    /// Floating point, of so many bytes: 2, 4 or 8.
    Float(usize),
}

impl DType {
    /// `f4`, `u1` and so on.
    pub(crate) fn of(code: &str) -> Option<Self> {
        Some(match code {
            "b1" => Self::Bool,
            "i1" => Self::Int(1),
            "i2" => Self::Int(2),
            "i4" => Self::Int(4),
            "i8" => Self::Int(8),
            "u1" => Self::Unsigned(1),
            "u2" => Self::Unsigned(2),
            "u4" => Self::Unsigned(4),
            "u8" => Self::Unsigned(8),
            "f2" => Self::Float(2),
            "f4" => Self::Float(4),
            "f8" => Self::Float(8),
            _ => return None,
        })
    }

    pub(crate) fn bytes(self) -> usize {
        match self {
            Self::Bool => 1,
            Self::Int(n) | Self::Unsigned(n) | Self::Float(n) => n,
        }
    }

    /// One number from exactly its bytes, little-endian.
    pub(crate) fn number(self, bytes: &[u8]) -> f64 {
        let mut low = [0; 8];
        low[..bytes.len()].copy_from_slice(bytes);
        let unsigned = u64::from_le_bytes(low);
        match self {
            Self::Bool => f64::from(u8::from(unsigned != 0)),
            Self::Unsigned(_) => unsigned as f64,
            Self::Int(n) => {
                // The sign's bit comes to the top and down again with copies of it.
                let above = 64 - 8 * n as u32;
                ((unsigned << above) as i64 >> above) as f64
            }
            Self::Float(2) => half::f16::from_bits(unsigned as u16).to_f64(),
            Self::Float(4) => f64::from(f32::from_bits(unsigned as u32)),
            Self::Float(_) => f64::from_bits(unsigned),
        }
    }

    /// As numpy writes it: `<f4`.
    pub(crate) fn descr(self) -> String {
        match self {
            Self::Bool => "|b1".to_owned(),
            Self::Int(n) => format!("<i{n}"),
            Self::Unsigned(n) => format!("<u{n}"),
            Self::Float(n) => format!("<f{n}"),
        }
    }
}

impl std::fmt::Display for DType {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Bool => f.write_str("bool"),
            Self::Int(n) => write!(f, "int{}", 8 * n),
            Self::Unsigned(n) => write!(f, "uint{}", 8 * n),
            Self::Float(n) => write!(f, "float{}", 8 * n),
        }
    }
}

/// What an array's bytes mean.
#[derive(Clone, Debug)]
pub(super) struct Form {
    pub dtype: DType,
    /// Sizes, the slowest index first.
    pub shape: Vec<usize>,
    /// The first index runs fastest.
    pub column_major: bool,
}

impl Form {
    /// Bytes of such an array; `None` if they cannot be counted.
    pub fn bytes(&self) -> Option<usize> {
        (self.shape.iter()).try_fold(self.dtype.bytes(), |n, &side| n.checked_mul(side))
    }
}

impl std::fmt::Display for Form {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "a {} array of shape {:?}", self.dtype, self.shape)
    }
}

/// An array whose bytes are exactly as many as its shape and type need.
#[derive(Clone, Debug)]
pub struct Array<'a> {
    pub(super) form: Form,
    pub(super) data: Cow<'a, [u8]>,
}

impl Array<'_> {
    /// Sizes, the slowest index first.
    pub fn shape(&self) -> &[usize] {
        &self.form.shape
    }

    /// Type of its numbers.
    pub fn dtype(&self) -> DType {
        self.form.dtype
    }

    /// Its bytes with the last index running fastest; copied only where they lie otherwise.
    pub fn row_major(&self) -> Cow<'_, [u8]> {
        if !self.form.column_major {
            return Cow::Borrowed(&self.data);
        }
        let (size, shape) = (self.form.dtype.bytes(), &self.form.shape);
        let mut out = Vec::with_capacity(self.data.len());
        let mut index = vec![0; shape.len()];
        for _ in 0..self.data.len() / size {
            let place =
                (index.iter().zip(shape).rev()).fold(0, |place, (&i, &length)| place * length + i);
            out.extend_from_slice(&self.data[place * size..(place + 1) * size]);
            for (i, &length) in index.iter_mut().zip(shape).rev() {
                *i += 1;
                if *i < length {
                    break;
                }
                *i = 0;
            }
        }
        Cow::Owned(out)
    }

    /// Its numbers, row-major, if they are floating point.
    pub fn floats(&self) -> Option<Vec<f32>> {
        let bytes = self.row_major();
        Some(match self.form.dtype {
            DType::Float(2) => numbers(&bytes, |b| half::f16::from_le_bytes(b).to_f32()),
            DType::Float(4) => numbers(&bytes, f32::from_le_bytes),
            DType::Float(8) => numbers(&bytes, |b| f64::from_le_bytes(b) as f32),
            _ => return None,
        })
    }

    /// Its numbers, row-major, whatever their type; of 64-bit integers the nearest ones that there are.
    pub fn numbers(&self) -> impl ExactSizeIterator<Item = f64> {
        let (bytes, dtype) = (self.row_major(), self.form.dtype);
        let count = bytes.len() / dtype.bytes();
        (0..count).map(move |i| dtype.number(&bytes[i * dtype.bytes()..(i + 1) * dtype.bytes()]))
    }
}

fn numbers<const N: usize>(bytes: &[u8], one: impl Fn([u8; N]) -> f32) -> Vec<f32> {
    bytes.as_chunks().0.iter().map(|&b| one(b)).collect()
}

/// A large array of an [`super::Outline`], whose bytes are still in the file.
#[derive(Clone, Debug)]
pub struct FarArray {
    pub(super) form: Form,
    pub(super) far: Far,
}

impl FarArray {
    /// Sizes, the slowest index first.
    pub fn shape(&self) -> &[usize] {
        &self.form.shape
    }

    /// Type of its numbers.
    pub fn dtype(&self) -> DType {
        self.form.dtype
    }

    /// Where its bytes begin in the file. Two values with one place are one array.
    pub fn place(&self) -> u64 {
        self.far.at
    }

    /// Fetches it from the file that the outline is of.
    pub fn read(&self, file: &mut (impl Read + Seek)) -> io::Result<Array<'static>> {
        file.seek(SeekFrom::Start(self.far.at))?;
        let mut data = Vec::new();
        file.take(self.far.stored).read_to_end(&mut data)?;
        if self.far.meaning == Meaning::Encoded {
            // What Python's codec for Latin-1 does.
            let text = std::str::from_utf8(&data).map_err(|_| changed())?;
            let bytes = text.chars().map(|c| u8::try_from(c).map_err(|_| changed()));
            data = bytes.collect::<io::Result<_>>()?;
        }
        match data.len() == self.far.length {
            true => Ok(Array {
                form: self.form.clone(),
                data: Cow::Owned(data),
            }),
            false => Err(changed()),
        }
    }
}

fn changed() -> io::Error {
    let reason = "the file has changed since it was opened; open it again";
    io::Error::new(io::ErrorKind::UnexpectedEof, reason)
}

/// What bytes in the file are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Meaning {
    Bytes,
    /// UTF-8 of characters below 256.
    Text,
    /// The same, where each character means a byte: protocol 2 has no other way to say bytes.
    Encoded,
}

/// Bytes that were left in the file.
#[derive(Clone, Copy, Debug)]
pub(super) struct Far {
    /// Where, from the file's first byte.
    pub at: u64,
    /// So many bytes there.
    pub stored: u64,
    /// What they are.
    pub meaning: Meaning,
    /// So many bytes are meant.
    pub length: usize,
    /// Where they would stand in the outline.
    pub place: usize,
}

impl Far {
    /// The bytes that a text stands for. They are read from where the text is, see [`FarArray::read`].
    pub fn encoded(self) -> Self {
        Self {
            meaning: Meaning::Encoded,
            ..self
        }
    }
}
