//! A reader of Python pickles that runs nothing.
//!
//! A pickle is a program for a small stack machine, and Python lets it call any function: loading a
//! file from elsewhere is running it. This reader knows what files of weights and of recorded
//! transitions are made of — dictionaries, lists, texts, numbers, numpy's arrays and jax's, which
//! wrap them — and refuses everything else by name. Nothing is called, nothing is copied: texts and
//! arrays are views of the file's bytes.
//!
//! Values live in one list and refer to each other by place, as Python's do by address. A file may
//! thus hold a dictionary that contains itself, or one list a million times: whoever walks the
//! values must know how deep to go.
//!
//! ```
//! # use hilt_recording::pickle::Pickle;
//! // pickle.dumps({"scale": [0.5]}, protocol=4)
//! let bytes = b"\x80\x04\x95\x18\0\0\0\0\0\0\0}\x94\x8c\x05scale\x94]\x94G?\xe0\0\0\0\0\0\0as.";
//! let pickle = Pickle::read(bytes)?;
//! let scale = pickle.root().get("scale").and_then(|list| list.items()?.next());
//! assert_eq!(scale.map(|s| s.describe()), Some("a number".to_owned()));
//! # Ok::<(), hilt_recording::pickle::PickleError>(())
//! ```

mod machine;

use std::{borrow::Cow, collections::BTreeMap};

use self::machine::{Global, Machine};

/// More values than this are refused: one byte of a file can make one value of some fifty bytes.
pub const MAX_VALUES: usize = 4_000_000;

/// Why a pickle cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("at byte {at}: {fault}")]
pub struct PickleError {
    /// Where, from the file's first byte.
    pub at: usize,
    /// Why.
    pub fault: PickleFault,
}

/// What is wrong with a pickle.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PickleFault {
    /// It is shorter than it says.
    #[error("the file ends within a value; copy it again")]
    Ends,
    /// It is no pickle, or one of another protocol.
    #[error("this is no pickle of protocol 2, 3, 4 or 5")]
    Protocol,
    /// It would have Python call or build something.
    #[error("it asks for `{0}`, which is not among what is read here; nothing was run")]
    Global(String),
    /// It uses a part of the language that plain data does without.
    #[error("operation {0:#04x} is not among what plain data needs; nothing was run")]
    Operation(u8),
    /// Its parts do not fit together.
    #[error("{0}")]
    Form(&'static str),
    /// Too much of it.
    #[error("it holds more than {MAX_VALUES} values")]
    TooMany,
}

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

/// An array whose bytes are exactly as many as its shape and type need.
#[derive(Clone, Debug)]
pub struct Array<'a> {
    dtype: DType,
    shape: Vec<usize>,
    /// The first index runs fastest.
    column_major: bool,
    data: &'a [u8],
}

impl<'a> Array<'a> {
    /// Sizes, the slowest index first.
    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// Type of its numbers.
    pub fn dtype(&self) -> DType {
        self.dtype
    }

    /// Its bytes with the last index running fastest; copied only where they lie otherwise.
    pub fn row_major(&self) -> Cow<'a, [u8]> {
        if !self.column_major {
            return Cow::Borrowed(self.data);
        }
        let size = self.dtype.bytes();
        let mut out = Vec::with_capacity(self.data.len());
        let mut index = vec![0; self.shape.len()];
        for _ in 0..self.data.len() / size {
            let place = (index.iter().zip(&self.shape).rev())
                .fold(0, |place, (&i, &length)| place * length + i);
            out.extend_from_slice(&self.data[place * size..(place + 1) * size]);
            for (i, &length) in index.iter_mut().zip(&self.shape).rev() {
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
        Some(match self.dtype {
            DType::Float(2) => numbers(&bytes, |b| half::f16::from_le_bytes(b).to_f32()),
            DType::Float(4) => numbers(&bytes, f32::from_le_bytes),
            DType::Float(8) => numbers(&bytes, |b| f64::from_le_bytes(b) as f32),
            _ => return None,
        })
    }
}

fn numbers<const N: usize>(bytes: &[u8], one: impl Fn([u8; N]) -> f32) -> Vec<f32> {
    bytes.as_chunks().0.iter().map(|&b| one(b)).collect()
}

#[derive(Clone, Debug)]
enum Node<'a> {
    None,
    Bool(bool),
    Int(i64),
    Float,
    Text(&'a str),
    Bytes(&'a [u8]),
    Tuple(Vec<usize>),
    List(Vec<usize>),
    Dict(BTreeMap<&'a str, usize>),
    Global(Global),
    DType(DType),
    /// An array that waits for its state.
    Blank,
    Array(Array<'a>),
}

/// What a pickle holds.
#[derive(Debug)]
pub struct Pickle<'a> {
    nodes: Vec<Node<'a>>,
    root: usize,
}

/// One value of a [`Pickle`].
#[derive(Clone, Copy, Debug)]
pub struct Value<'p, 'a> {
    pickle: &'p Pickle<'a>,
    place: usize,
}

impl<'a> Pickle<'a> {
    /// Reads a file's bytes. Never panics, whatever they are; takes memory in proportion to them.
    pub fn read(bytes: &'a [u8]) -> Result<Self, PickleError> {
        let (nodes, root) = Machine::run(bytes)?;
        Ok(Self { nodes, root })
    }

    /// The value that the file is about.
    pub fn root(&self) -> Value<'_, 'a> {
        Value {
            pickle: self,
            place: self.root,
        }
    }
}

impl<'p, 'a> Value<'p, 'a> {
    fn node(self) -> &'p Node<'a> {
        &self.pickle.nodes[self.place]
    }

    fn at(self, place: usize) -> Self {
        Self { place, ..self }
    }

    /// The value of a key, if this is a dictionary that has it.
    pub fn get(self, key: &str) -> Option<Self> {
        match self.node() {
            Node::Dict(entries) => entries.get(key).map(|&place| self.at(place)),
            _ => None,
        }
    }

    /// Keys and values, in the keys' order, if this is a dictionary.
    pub fn entries(self) -> Option<impl ExactSizeIterator<Item = (&'a str, Self)>> {
        match self.node() {
            Node::Dict(entries) => Some(entries.iter().map(move |(&key, &v)| (key, self.at(v)))),
            _ => None,
        }
    }

    /// Values in order, if this is a list or a tuple.
    pub fn items(self) -> Option<impl ExactSizeIterator<Item = Self>> {
        match self.node() {
            Node::List(items) | Node::Tuple(items) => {
                Some(items.iter().map(move |&item| self.at(item)))
            }
            _ => None,
        }
    }

    /// The array, if this is one.
    pub fn array(self) -> Option<&'p Array<'a>> {
        match self.node() {
            Node::Array(array) => Some(array),
            _ => None,
        }
    }

    /// What it is, for messages: `a dictionary`, `a float32 array of shape [3, 3]`.
    pub fn describe(self) -> String {
        match self.node() {
            Node::None => "None".to_owned(),
            Node::Bool(_) => "a bool".to_owned(),
            Node::Int(_) | Node::Float => "a number".to_owned(),
            Node::Text(_) => "a text".to_owned(),
            Node::Bytes(_) => "bytes".to_owned(),
            Node::Tuple(_) | Node::List(_) => "a list".to_owned(),
            Node::Dict(_) => "a dictionary".to_owned(),
            Node::Global(_) | Node::DType(_) | Node::Blank => "a part of an array".to_owned(),
            Node::Array(array) => format!("a {} array of shape {:?}", array.dtype, array.shape),
        }
    }
}
