//! One array of numpy's, the NPY format of versions 1 to 3 (numpy's `lib/format.py`): a magic, a Python
//! dictionary as text, the numbers.

use std::io::{self, Read, Write};

use crate::pickle::DType;

const MAGIC: &[u8; 6] = b"\x93NUMPY";
/// numpy itself reads no header beyond 10,000 bytes without being told to.
const LONGEST_HEADER: usize = 10_000;
/// The numbers begin at a multiple of this.
const ALIGNMENT: usize = 64;

/// Why an array cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum ArrayError {
    /// It cannot be read, or is shorter than it says.
    #[error("{0}; copy the file again")]
    Io(#[from] io::Error),
    /// The header says something else than an array of numbers.
    #[error("{0}")]
    Header(&'static str),
    /// Numbers of a kind that is not read.
    #[error(
        "its type is {0}; read are little-endian floats, integers and bools: convert it with .astype('float32')"
    )]
    Type(String),
    /// The numbers are not as many as the shape says.
    #[error(
        "its header says shape {shape:?} of {dtype}, its size says otherwise; copy the file again"
    )]
    Size {
        /// The shape.
        shape: Vec<usize>,
        /// Type of the numbers.
        dtype: DType,
    },
}

/// What is said of an array before its numbers.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Header {
    pub dtype: DType,
    /// The first index runs fastest.
    pub column_major: bool,
    pub shape: Vec<usize>,
}

impl Header {
    /// Reads it; the second is its bytes.
    pub fn read(from: &mut impl Read) -> Result<(Self, u64), ArrayError> {
        let mut start = [0; 8];
        from.read_exact(&mut start)?;
        if start[..6] != *MAGIC {
            return Err(ArrayError::Header("it is no array of numpy's"));
        }
        let (length, before) = if start[6] == 1 {
            let mut length = [0; 2];
            from.read_exact(&mut length)?;
            (usize::from(u16::from_le_bytes(length)), 10)
        } else {
            let mut length = [0; 4];
            from.read_exact(&mut length)?;
            (u32::from_le_bytes(length) as usize, 12)
        };
        if !(1..=3).contains(&start[6]) || length > LONGEST_HEADER {
            return Err(ArrayError::Header("its header is not one of numpy's"));
        }
        let mut text = vec![0; length];
        from.read_exact(&mut text)?;
        Ok((Self::parse(&text)?, (before + length) as u64))
    }

    fn parse(text: &[u8]) -> Result<Self, ArrayError> {
        let fault = ArrayError::Header("its header is not one of numpy's");
        let mut text = Text(text);
        let (mut dtype, mut column_major, mut shape) = (None, None, None);
        if !text.take(b'{') {
            return Err(fault);
        }
        while !text.take(b'}') {
            let key = text.quoted();
            if !text.take(b':') {
                return Err(fault);
            }
            match key {
                Some("descr") => dtype = Some(text.dtype()?),
                Some("fortran_order") => column_major = text.truth(),
                Some("shape") => shape = text.sizes(),
                _ => return Err(fault),
            }
            text.take(b',');
        }
        match (dtype, column_major, shape) {
            (Some(dtype), Some(column_major), Some(shape)) => Ok(Self {
                dtype,
                column_major,
                shape,
            }),
            _ => Err(fault),
        }
    }

    /// How many numbers; `None` where that is beyond counting.
    fn count(&self) -> Option<usize> {
        let counted = |count: usize, &length: &usize| count.checked_mul(length);
        self.shape.iter().try_fold(1, counted)
    }

    /// Reads the numbers in row-major order, each put through `one`. The array has `bytes` of them in its file,
    /// of which `stored` are there at most before they are unpacked: what the header says is believed only as far
    /// as numbers come.
    pub fn numbers<T: Copy>(
        &self,
        from: &mut impl Read,
        bytes: u64,
        stored: u64,
        one: impl Fn(f64) -> T,
    ) -> Result<Vec<T>, ArrayError> {
        let size = self.dtype.bytes();
        let wrong = || ArrayError::Size {
            shape: self.shape.clone(),
            dtype: self.dtype,
        };
        let count = self.count().ok_or_else(wrong)?;
        if count.checked_mul(size).map(|n| n as u64) != Some(bytes) {
            return Err(wrong());
        }
        let mut numbers = Vec::with_capacity(count.min(stored as usize));
        let mut chunk = [0; 1 << 13];
        let mut left = count;
        while left > 0 {
            let here = left.min(chunk.len() / size);
            from.read_exact(&mut chunk[..here * size])?;
            let values = chunk[..here * size].chunks_exact(size);
            numbers.extend(values.map(|bytes| one(self.dtype.number(bytes))));
            left -= here;
        }
        // The reader compares the checksum where the array ends.
        if from.read(&mut chunk[..1])? != 0 {
            return Err(wrong());
        }
        if !self.column_major || self.shape.len() < 2 {
            return Ok(numbers);
        }
        let rows = self.shape[0];
        let columns = count.checked_div(rows).unwrap_or(0);
        let transposed = (0..rows).flat_map(|row| (0..columns).map(move |column| (row, column)));
        Ok(transposed
            .map(|(row, column)| numbers[column * rows + row])
            .collect())
    }

    /// Writes it as version 1.
    pub fn write(&self, to: &mut impl Write) -> io::Result<()> {
        let order = if self.column_major { "True" } else { "False" };
        let sizes: String = self.shape.iter().map(|size| format!("{size}, ")).collect();
        let (descr, shape) = (self.dtype.descr(), sizes.trim_end());
        let text =
            format!("{{'descr': '{descr}', 'fortran_order': {order}, 'shape': ({shape}), }}");
        let before = MAGIC.len() + 4;
        let whole = (before + text.len() + 1).next_multiple_of(ALIGNMENT);
        to.write_all(MAGIC)?;
        to.write_all(&[1, 0])?;
        to.write_all(&((whole - before) as u16).to_le_bytes())?;
        writeln!(to, "{text:<width$}", width = whole - before - 1)
    }
}

/// What is left of a header's text.
struct Text<'a>(&'a [u8]);

impl<'a> Text<'a> {
    /// Takes this byte if it comes next, after spaces.
    fn take(&mut self, byte: u8) -> bool {
        self.0 = self.0.trim_ascii_start();
        match self.0.split_first() {
            Some((&first, rest)) if first == byte => {
                self.0 = rest;
                true
            }
            _ => false,
        }
    }

    /// What comes before the first byte for which `end` holds.
    fn until(&mut self, end: impl Fn(u8) -> bool) -> &'a str {
        let length = (self.0.iter().position(|&byte| end(byte))).unwrap_or(self.0.len());
        let (text, rest) = self.0.split_at(length);
        self.0 = rest;
        std::str::from_utf8(text).unwrap_or_default()
    }

    fn quoted(&mut self) -> Option<&'a str> {
        let quote = [b'\'', b'"'].into_iter().find(|&quote| self.take(quote))?;
        let text = self.until(|byte| byte == quote);
        self.take(quote).then_some(text)
    }

    fn dtype(&mut self) -> Result<DType, ArrayError> {
        let Some(descr) = self.quoted() else {
            // A list: one name and type per field.
            return Err(ArrayError::Type("a structure".to_owned()));
        };
        let code = descr.strip_prefix(['<', '|', '=']);
        (code.and_then(DType::of)).ok_or_else(|| ArrayError::Type(format!("'{descr}'")))
    }

    fn truth(&mut self) -> Option<bool> {
        self.take(b' ');
        match self.until(|byte| !byte.is_ascii_alphabetic()) {
            "True" => Some(true),
            "False" => Some(false),
            _ => None,
        }
    }

    /// `(3, 4)`, also with Python 2's `3L`.
    fn sizes(&mut self) -> Option<Vec<usize>> {
        let mut sizes = vec![];
        if !self.take(b'(') {
            return None;
        }
        while !self.take(b')') {
            let size = self.until(|byte| !byte.is_ascii_digit());
            sizes.push(size.parse().ok()?);
            self.take(b'L');
            self.take(b',');
        }
        Some(sizes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(text: &str) -> Result<Header, ArrayError> {
        Header::parse(text.as_bytes())
    }

    #[test]
    fn headers_of_every_numpy_are_read() {
        let wanted = Header {
            dtype: DType::Float(4),
            column_major: false,
            shape: vec![3, 4],
        };
        for text in [
            "{'descr': '<f4', 'fortran_order': False, 'shape': (3, 4), }          \n",
            "{'descr': '<f4', 'fortran_order': False, 'shape': (3L, 4L), }\n",
            "{\"shape\":(3,4),\"fortran_order\":False,\"descr\":\"<f4\"}",
        ] {
            assert_eq!(header(text).unwrap(), wanted, "{text}");
        }
        let scalar = header("{'descr': '|b1', 'fortran_order': True, 'shape': ()}").unwrap();
        assert_eq!((scalar.count(), scalar.dtype), (Some(1), DType::Bool));
        assert!(scalar.column_major);
    }

    #[test]
    fn what_is_no_header_is_refused() {
        for text in [
            "",
            "{",
            "{'descr': '<f4', 'fortran_order': False}",
            "{'descr': '<f4', 'fortran_order': False, 'shape': (3, x)}",
            "{'descr': '<f4', 'fortran_order': False, 'shape': (99999999999999999999,)}",
            "{'descr': '<f4', 'fortran_order': Maybe, 'shape': (3,)}",
            "{'descr': '<f4' 'fortran_order': False, 'shape': (3,), 'more': 1}",
        ] {
            let said = header(text).unwrap_err().to_string();
            assert_eq!(said, "its header is not one of numpy's", "{text}");
        }
        for (descr, named) in [
            ("'>f4'", "'>f4'"),
            ("'|O'", "'|O'"),
            ("'<c8'", "'<c8'"),
            ("[('a', '<f4')]", "a structure"),
        ] {
            let text = format!("{{'descr': {descr}, 'fortran_order': False, 'shape': (3,)}}");
            let said = header(&text).unwrap_err().to_string();
            assert!(said.starts_with(&format!("its type is {named};")), "{said}");
        }
    }

    #[test]
    fn a_written_header_is_read_and_aligned() {
        for shape in [vec![], vec![7], vec![123_456_789, 17]] {
            let header = Header {
                dtype: DType::Float(4),
                column_major: false,
                shape,
            };
            let mut bytes = vec![];
            header.write(&mut bytes).unwrap();
            assert_eq!(bytes.len() % ALIGNMENT, 0);
            assert_eq!(bytes.last(), Some(&b'\n'));
            let (read, length) = Header::read(&mut bytes.as_slice()).unwrap();
            assert_eq!((read, length), (header, bytes.len() as u64));
        }
    }

    #[test]
    fn fortran_order_is_turned_and_lies_about_the_size_are_found() {
        let header = Header {
            dtype: DType::Unsigned(1),
            column_major: true,
            shape: vec![2, 3],
        };
        let read = |bytes: &[u8], stored| {
            let length = bytes.len() as u64;
            header.numbers(&mut &bytes[..], length, stored, |value| value as u8)
        };
        assert_eq!(read(&[1, 4, 2, 5, 3, 6], 6).unwrap(), [1, 2, 3, 4, 5, 6]);
        assert!(matches!(
            read(&[1, 4, 2, 5, 3], 5),
            Err(ArrayError::Size { .. })
        ));

        // Said to be there, by the header and by the archive, and not there.
        let large = Header {
            shape: vec![1 << 40, 1 << 10],
            ..header.clone()
        };
        let found = large.numbers(&mut &[0; 9][..], 1 << 50, 9, |value| value);
        assert!(matches!(found, Err(ArrayError::Io(_))));
        let beyond = Header {
            shape: vec![usize::MAX, 2],
            ..header.clone()
        };
        let found = beyond.numbers(&mut &[0; 9][..], 9, 9, |value| value);
        assert!(matches!(found, Err(ArrayError::Size { .. })));
        // More there than the header says.
        let found = header.numbers(&mut &[0; 9][..], 6, 9, |value| value);
        assert!(matches!(found, Err(ArrayError::Size { .. })));
    }
}
