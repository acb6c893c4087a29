//! A reader of Python pickles that runs nothing.
//!
//! A pickle is a program for a small stack machine, and Python lets it call any function: loading a
//! file from elsewhere is running it. This reader knows what files of weights and of recorded
//! transitions are made of — dictionaries, lists, texts, numbers, numpy's arrays and jax's, which
//! wrap them — and refuses everything else by name. Nothing is called, and little is copied: texts and
//! arrays are views of the file's bytes. Of a file that is too large for memory an [`Outline`] is read in its
//! place, which leaves large arrays in the file until somebody asks for one.
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

mod array;
mod machine;
mod op;
mod outline;
mod writer;

use std::{
    borrow::Cow,
    collections::{BTreeMap, HashSet},
};

pub(crate) use self::writer::PickleWriter;
pub use self::{
    array::{Array, DType, FarArray},
    outline::{Outline, OutlineError},
};
use self::{
    array::{Far, Meaning},
    machine::{Global, Machine},
};

/// More values than this are refused: one byte of a file can make one value of some fifty bytes.
pub const MAX_VALUES: usize = 4_000_000;

/// Why a pickle cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("at byte {at}: {fault}")]
pub struct PickleError {
    /// Where, from the file's first byte.
    pub at: u64,
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
    /// It was written by a very old program.
    #[error(
        "this is a pickle of protocol 0 or 1, which is not read here; load it in Python and write it again with \
         pickle.dump(data, file, protocol=4)"
    )]
    Old,
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
    #[error("it holds more than {MAX_VALUES} values; split it into several files")]
    TooMany,
    /// Too much of it, besides its arrays.
    #[error(
        "it holds more than {} MiB besides its arrays; split it into several files",
        outline::MAX_BYTES >> 20
    )]
    Large,
}

/// Small: a file has a hundred of them in every row.
#[derive(Clone, Debug)]
enum Node<'a> {
    None,
    Bool(bool),
    Int(i64),
    Float(f64),
    Text(&'a str),
    Bytes(Cow<'a, [u8]>),
    /// A text or bytes that are still in the file.
    Far(Box<Far>),
    Tuple(Vec<usize>),
    List(Vec<usize>),
    Dict(BTreeMap<&'a str, usize>),
    Global(Global),
    DType(DType),
    /// An array that waits for its state.
    Blank,
    Array(Box<Array<'a>>),
    FarArray(Box<FarArray>),
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
        Self::run(bytes, &[], None)
    }

    /// Reads an outline. Never panics either.
    pub fn of_outline(outline: &'a Outline) -> Result<Self, PickleError> {
        Self::run(&outline.bytes, &outline.far, Some(&outline.recalled))
    }

    fn run(
        bytes: &'a [u8],
        far: &'a [Far],
        recalled: Option<&'a HashSet<usize>>,
    ) -> Result<Self, PickleError> {
        let (nodes, root) = Machine::run(bytes, far, recalled)?;
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

    /// The number, if this is one: Python's own, also a bool (0 or 1), or an array of one number.
    pub fn number(self) -> Option<f64> {
        match self.node() {
            Node::Bool(yes) => Some(f64::from(u8::from(*yes))),
            // The nearest one, beyond 2⁵³.
            Node::Int(n) => Some(*n as f64),
            Node::Float(n) => Some(*n),
            Node::Array(array) => {
                let mut numbers = array.numbers();
                (numbers.len() == 1).then(|| numbers.next()).flatten()
            }
            _ => None,
        }
    }

    /// The text, if this is one.
    pub fn text(self) -> Option<&'a str> {
        match self.node() {
            Node::Text(text) => Some(text),
            _ => None,
        }
    }

    /// The array, if this is one and it is here.
    pub fn array(self) -> Option<&'p Array<'a>> {
        match self.node() {
            Node::Array(array) => Some(array),
            _ => None,
        }
    }

    /// The array, if this is a large one of an [`Outline`].
    pub fn far_array(self) -> Option<&'p FarArray> {
        match self.node() {
            Node::FarArray(array) => Some(array),
            _ => None,
        }
    }

    /// What it is, for messages: `a dictionary`, `a float32 array of shape [3, 3]`.
    pub fn describe(self) -> String {
        match self.node() {
            Node::None => "None".to_owned(),
            Node::Bool(_) => "a bool".to_owned(),
            Node::Int(_) | Node::Float(_) => "a number".to_owned(),
            Node::Text(_) => "a text".to_owned(),
            Node::Far(far) if far.meaning == Meaning::Text => "a text".to_owned(),
            Node::Far(_) => "bytes".to_owned(),
            Node::Bytes(_) => "bytes".to_owned(),
            Node::Tuple(_) | Node::List(_) => "a list".to_owned(),
            Node::Dict(_) => "a dictionary".to_owned(),
            Node::Global(_) | Node::DType(_) | Node::Blank => "a part of an array".to_owned(),
            Node::Array(array) => array.form.to_string(),
            Node::FarArray(array) => array.form.to_string(),
        }
    }
}
