//! The stack machine that a pickle is a program for.

use std::{
    borrow::Cow,
    collections::{BTreeMap, HashMap, HashSet},
};

use super::{
    Array, DType, FarArray, MAX_VALUES, Node, PickleError, PickleFault,
    array::{Far, Form, Meaning},
    op,
};

/// numpy's own limit on dimensions.
const MAX_DIMENSIONS: usize = 64;

/// The names that are known, and what is made of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Global {
    /// An array to be, which a state completes.
    Reconstruct,
    /// The class that [`Global::Reconstruct`] is given.
    NdArray,
    DType,
    /// One number of a numpy type.
    Scalar,
    /// An array of protocol 5.
    FromBuffer,
    /// jax's array around the parts of a numpy array.
    JaxArray,
    /// flax's read-only dictionary around a plain one.
    FrozenDict,
    OrderedDict,
    /// How protocol 2 says bytes: a text to be encoded.
    Encode,
    /// How protocol 2 says no bytes.
    Bytes,
}

impl Global {
    /// numpy has moved its modules from `core` to `_core`, jax its arrays from `device_array`.
    fn of(module: &str, name: &str) -> Option<Self> {
        Some(match (module, name) {
            ("numpy.core.multiarray" | "numpy._core.multiarray", "_reconstruct") => {
                Self::Reconstruct
            }
            ("numpy.core.multiarray" | "numpy._core.multiarray", "scalar") => Self::Scalar,
            ("numpy.core.numeric" | "numpy._core.numeric", "_frombuffer") => Self::FromBuffer,
            ("numpy", "ndarray") => Self::NdArray,
            ("numpy", "dtype") => Self::DType,
            ("jax._src.array", "_reconstruct_array")
            | ("jax._src.device_array", "reconstruct_device_array") => Self::JaxArray,
            ("flax.core.frozen_dict", "FrozenDict") => Self::FrozenDict,
            ("collections", "OrderedDict") => Self::OrderedDict,
            ("_codecs", "encode") => Self::Encode,
            ("__builtin__" | "builtins", "bytes") => Self::Bytes,
            _ => return None,
        })
    }
}

/// The stack machine.
#[derive(Default)]
pub(super) struct Machine<'a> {
    bytes: &'a [u8],
    /// What was left out of the bytes and is still to come, in order.
    far: &'a [Far],
    /// Next byte to read.
    next: usize,
    /// Where the operation under way began.
    operation: usize,
    nodes: Vec<Node<'a>>,
    /// So many nodes, the first, are held by a container or come again: they stay.
    held: usize,
    /// Places, each with the highest of those up to it.
    stack: Vec<(usize, usize)>,
    /// Heights of the stack.
    marks: Vec<usize>,
    /// Numbers of kept values that come again, if that is known.
    recalled: Option<&'a HashSet<usize>>,
    /// Values that are kept: those that come again, and those whose number is out of order.
    memo: HashMap<usize, usize>,
    /// How many values are kept, also of those that do not come again.
    kept: usize,
    /// All numbers below this one are kept.
    in_order: usize,
}

type Step<T> = Result<T, PickleFault>;

fn form<T>(what: &'static str) -> Step<T> {
    Err(PickleFault::Form(what))
}

const UNDERFLOW: &str = "an operation takes more values than there are";
const ARRAY: &str = "an array's parts are not what numpy writes";

impl<'a> Machine<'a> {
    /// Bytes to come.
    fn take(&mut self, length: usize) -> Step<&'a [u8]> {
        let end = self.next.checked_add(length).ok_or(PickleFault::Ends)?;
        let bytes = self.bytes.get(self.next..end).ok_or(PickleFault::Ends)?;
        self.next = end;
        Ok(bytes)
    }

    fn fixed<const N: usize>(&mut self) -> Step<[u8; N]> {
        self.take(N)?.try_into().map_err(|_| PickleFault::Ends)
    }

    /// An unsigned little-endian number of `bytes` bytes (8 at most), for lengths and places.
    fn size(&mut self, bytes: usize) -> Step<usize> {
        let read = self.take(bytes)?;
        let value = (read.iter().rev()).fold(0u64, |value, &byte| value << 8 | u64::from(byte));
        usize::try_from(value).map_err(|_| PickleFault::Ends)
    }

    /// A counted run of bytes; the count has `bytes` bytes.
    fn counted(&mut self, bytes: usize) -> Step<&'a [u8]> {
        let length = self.size(bytes)?;
        self.take(length)
    }

    fn text(&mut self, width: usize) -> Step<Node<'a>> {
        let length = self.size(width)?;
        if let Some(far) = self.left_out() {
            return Ok(Node::Far(Box::new(far)));
        }
        match std::str::from_utf8(self.take(length)?) {
            Ok(text) => Ok(Node::Text(text)),
            Err(_) => form("a text is not UTF-8"),
        }
    }

    fn byte_string(&mut self, width: usize) -> Step<Node<'a>> {
        let length = self.size(width)?;
        match self.left_out() {
            Some(far) => Ok(Node::Far(Box::new(far))),
            None => Ok(Node::Bytes(Cow::Borrowed(self.take(length)?))),
        }
    }

    /// What was left out here, if anything.
    fn left_out(&mut self) -> Option<Far> {
        let (&first, rest) = self.far.split_first()?;
        (first.place == self.next).then(|| {
            self.far = rest;
            first
        })
    }

    fn line(&mut self) -> Step<&'a str> {
        let rest = &self.bytes[self.next..];
        let length = (rest.iter().position(|&b| b == b'\n')).ok_or(PickleFault::Ends)?;
        let line = self.take(length)?;
        self.next += 1;
        std::str::from_utf8(line).or_else(|_| form("a name is not UTF-8"))
    }

    fn push(&mut self, node: Node<'a>) -> Step<()> {
        if self.nodes.len() >= MAX_VALUES {
            return Err(PickleFault::TooMany);
        }
        self.stack_up(self.nodes.len());
        self.nodes.push(node);
        Ok(())
    }

    fn stack_up(&mut self, place: usize) {
        let below = self.stack.last().map_or(0, |&(_, highest)| highest);
        self.stack.push((place, place.max(below)));
    }

    /// Somebody refers to the node of this place.
    fn hold(&mut self, place: usize) {
        self.held = self.held.max(place + 1);
    }

    /// Forgets what an array was made of. Nodes refer to earlier ones, or hold them.
    fn forget(&mut self) {
        let in_use = self.stack.last().map_or(0, |&(_, highest)| highest + 1);
        self.nodes.truncate(self.held.max(in_use));
    }

    /// The lowest place that may be taken from.
    fn floor(&self) -> usize {
        self.marks.last().copied().unwrap_or(0)
    }

    fn top(&self) -> Step<usize> {
        match self.stack.last() {
            Some(&(place, _)) if self.stack.len() > self.floor() => Ok(place),
            _ => form(UNDERFLOW),
        }
    }

    fn pop(&mut self) -> Step<usize> {
        let place = self.top()?;
        self.stack.pop();
        Ok(place)
    }

    /// The last `n` values.
    fn pop_many(&mut self, n: usize) -> Step<Vec<usize>> {
        match self.stack.len().checked_sub(n) {
            Some(start) if start >= self.floor() => Ok(self.pop_from(start)),
            _ => form(UNDERFLOW),
        }
    }

    /// The values above the last mark.
    fn pop_marked(&mut self) -> Step<Vec<usize>> {
        match self.marks.pop() {
            Some(mark) => Ok(self.pop_from(mark)),
            None => form("an operation misses its mark"),
        }
    }

    fn pop_from(&mut self, start: usize) -> Vec<usize> {
        self.stack.drain(start..).map(|(place, _)| place).collect()
    }

    fn append(&mut self, items: Vec<usize>) -> Step<()> {
        let list = self.top()?;
        items.iter().for_each(|&item| self.hold(item));
        match &mut self.nodes[list] {
            Node::List(list) => {
                list.extend(items);
                Ok(())
            }
            _ => form("items are added to something that is no list"),
        }
    }

    fn insert(&mut self, pairs: &[usize]) -> Step<()> {
        let (pairs, []) = pairs.as_chunks::<2>() else {
            return form("a key has no value");
        };
        let dict = self.top()?;
        for &[key, value] in pairs {
            let Node::Text(key) = self.nodes[key] else {
                return form("a dictionary's key is no text");
            };
            self.hold(value);
            match &mut self.nodes[dict] {
                Node::Dict(entries) => entries.insert(key, value),
                _ => return form("entries are added to something that is no dictionary"),
            };
        }
        Ok(())
    }

    fn remember(&mut self, number: usize) -> Step<()> {
        let place = self.top()?;
        if self.kept >= MAX_VALUES {
            return Err(PickleFault::TooMany);
        }
        let again = self.memo.contains_key(&number);
        let comes_again = self
            .recalled
            .is_none_or(|recalled| recalled.contains(&number));
        if comes_again || again || number > self.in_order {
            self.hold(place);
            self.memo.insert(number, place);
        }
        if !again && number >= self.in_order {
            self.kept += 1;
        }
        while number >= self.in_order
            && (number == self.in_order || self.memo.contains_key(&self.in_order))
        {
            self.in_order += 1;
        }
        Ok(())
    }

    fn recall(&mut self, number: usize) -> Step<()> {
        match self.memo.get(&number) {
            Some(&place) => {
                self.stack_up(place);
                Ok(())
            }
            None => form("it refers to a value that it has not kept"),
        }
    }

    fn global(&mut self, module: &str, name: &str) -> Step<()> {
        match Global::of(module, name) {
            Some(global) => self.push(Node::Global(global)),
            None => {
                let shown: String = format!("{module}.{name}").chars().take(100).collect();
                Err(PickleFault::Global(shown.escape_debug().to_string()))
            }
        }
    }

    fn stack_global(&mut self) -> Step<()> {
        match self.pop_many(2)?[..] {
            [module, name] => match (&self.nodes[module], &self.nodes[name]) {
                (&Node::Text(module), &Node::Text(name)) => self.global(module, name),
                _ => form("a name is no text"),
            },
            _ => form(UNDERFLOW),
        }
    }

    fn tuple(&self, place: usize) -> Step<&[usize]> {
        match &self.nodes[place] {
            Node::Tuple(items) => Ok(items),
            _ => form(ARRAY),
        }
    }

    fn shape(&self, place: usize) -> Step<Vec<usize>> {
        let side = |&place: &usize| match self.nodes[place] {
            Node::Int(n) => usize::try_from(n).or_else(|_| form(ARRAY)),
            _ => form(ARRAY),
        };
        self.tuple(place)?.iter().map(side).collect()
    }

    fn array(
        &self,
        shape: Vec<usize>,
        dtype: usize,
        column_major: bool,
        data: usize,
    ) -> Step<Node<'a>> {
        let Node::DType(dtype) = self.nodes[dtype] else {
            return form(ARRAY);
        };
        let array = Form {
            dtype,
            shape,
            column_major,
        };
        let bytes = match &self.nodes[data] {
            Node::Bytes(data) => data.len(),
            Node::Far(far) if far.meaning != Meaning::Text => far.length,
            _ => return form(ARRAY),
        };
        if array.bytes() != Some(bytes) || array.shape.len() > MAX_DIMENSIONS {
            return form("an array's shape does not fit its bytes");
        }
        match &self.nodes[data] {
            Node::Bytes(data) => Ok(Node::Array(Box::new(Array {
                form: array,
                data: data.clone(),
            }))),
            Node::Far(far) => Ok(Node::FarArray(Box::new(FarArray {
                form: array,
                far: **far,
            }))),
            _ => form(ARRAY),
        }
    }

    /// The bytes that a text stands for, each character below 256 for one.
    fn encoded(&self, text: usize) -> Step<Node<'a>> {
        match &self.nodes[text] {
            Node::Text(text) => {
                let bytes = text.chars().map(u8::try_from).collect::<Result<_, _>>();
                match bytes {
                    Ok(bytes) => Ok(Node::Bytes(Cow::Owned(bytes))),
                    Err(_) => form("a text stands for bytes and is not Latin-1"),
                }
            }
            Node::Far(far) if far.meaning == Meaning::Text => {
                Ok(Node::Far(Box::new(far.encoded())))
            }
            _ => form(ARRAY),
        }
    }

    /// An array of the state that numpy gives it: version, shape, type, order, bytes.
    fn array_of_state(&self, state: usize) -> Step<Node<'a>> {
        match *self.tuple(state)? {
            [_, shape, dtype, order, data] => {
                let column_major = matches!(self.nodes[order], Node::Bool(true));
                self.array(self.shape(shape)?, dtype, column_major, data)
            }
            _ => form(ARRAY),
        }
    }

    /// What Python would get by calling a function.
    fn reduce(&mut self) -> Step<()> {
        let [function, arguments] = self.pop_many(2)?[..] else {
            return form(UNDERFLOW);
        };
        let Node::Global(function) = self.nodes[function] else {
            return form("something is called that is no function");
        };
        let arguments = self.tuple(arguments)?.to_vec();
        let node = match (function, &arguments[..]) {
            (Global::Reconstruct, [class, _, _])
                if matches!(self.nodes[*class], Node::Global(Global::NdArray)) =>
            {
                Node::Blank
            }
            (Global::JaxArray, &[inner, _, state, _])
                if matches!(self.nodes[inner], Node::Global(Global::Reconstruct)) =>
            {
                self.array_of_state(state)?
            }
            (Global::FromBuffer, &[data, dtype, shape, order]) => {
                let column_major = matches!(self.nodes[order], Node::Text("F"));
                self.array(self.shape(shape)?, dtype, column_major, data)?
            }
            (Global::Scalar, &[dtype, data]) => self.array(Vec::new(), dtype, false, data)?,
            (Global::DType, [code, ..]) => match self.nodes[*code] {
                Node::Text(code) => match DType::of(code) {
                    Some(dtype) => Node::DType(dtype),
                    None => return form("an array's numbers are of a type that is not read here"),
                },
                _ => return form(ARRAY),
            },
            (Global::FrozenDict, &[dict]) if matches!(self.nodes[dict], Node::Dict(_)) => {
                self.stack_up(dict);
                return Ok(());
            }
            (Global::OrderedDict, []) => Node::Dict(BTreeMap::new()),
            (Global::Encode, &[text, codec])
                if matches!(self.nodes[codec], Node::Text("latin1" | "latin-1")) =>
            {
                self.encoded(text)?
            }
            (Global::Bytes, []) => Node::Bytes(Cow::Borrowed(&[])),
            _ => return form("a function is called with other arguments than data needs"),
        };
        self.forget();
        self.push(node)
    }

    /// Completes an array, or says the byte order of a type.
    fn build(&mut self) -> Step<()> {
        let state = self.pop()?;
        let place = self.top()?;
        match self.nodes[place] {
            Node::Blank => self.nodes[place] = self.array_of_state(state)?,
            Node::DType(_) => {
                let order = self.tuple(state)?.get(1).map(|&order| &self.nodes[order]);
                if !matches!(order, Some(Node::Text("<" | "|" | "="))) {
                    return form("an array's numbers are not little-endian");
                }
            }
            _ => return form("a state is given to something that is no array"),
        }
        self.forget();
        Ok(())
    }

    /// Runs a file's bytes to their end: all values, and the place of the one that is left.
    /// `far` was left out of them, in order; of the values that are kept those of the numbers `recalled` come again.
    pub(super) fn run(
        bytes: &'a [u8],
        far: &'a [Far],
        recalled: Option<&'a HashSet<usize>>,
    ) -> Result<(Vec<Node<'a>>, usize), PickleError> {
        let mut machine = Self {
            bytes,
            far,
            recalled,
            ..Self::default()
        };
        let root = machine.execute().map_err(|fault| {
            let before = far.iter().take_while(|far| far.place <= machine.operation);
            let left_out: u64 = before.map(|far| far.stored).sum();
            PickleError {
                at: machine.operation as u64 + left_out,
                fault,
            }
        })?;
        Ok((machine.nodes, root))
    }

    fn execute(&mut self) -> Step<usize> {
        match self.bytes {
            [op::PROTO, 2..=5, ..] => {}
            // Protocols 0 and 1 begin with their value, a list or a dictionary.
            [b'(', b'l' | b'd', ..] | [b']' | b'}', b'q', ..] => return Err(PickleFault::Old),
            _ => return Err(PickleFault::Protocol),
        }
        self.next = 2;
        loop {
            self.operation = self.next;
            let [operation] = self.fixed()?;
            match operation {
                op::FRAME => {
                    self.take(8)?;
                }
                op::STOP => break,
                op::MARK => self.marks.push(self.stack.len()),
                op::NONE => self.push(Node::None)?,
                op::TRUE | op::FALSE => self.push(Node::Bool(operation == op::TRUE))?,
                op::INT4 => {
                    let n = i32::from_le_bytes(self.fixed()?);
                    self.push(Node::Int(i64::from(n)))?;
                }
                op::UINT1 | op::UINT2 => {
                    let n = self.size(if operation == op::UINT1 { 1 } else { 2 })?;
                    self.push(Node::Int(n as i64))?;
                }
                op::LONG1 => {
                    let n = long(self.counted(1)?)?;
                    self.push(Node::Int(n))?;
                }
                op::FLOAT => {
                    let n = f64::from_be_bytes(self.fixed()?);
                    self.push(Node::Float(n))?;
                }
                op::TEXT1 | op::TEXT4 | op::TEXT8 => {
                    let text = self.text(op::width(operation))?;
                    self.push(text)?;
                }
                op::BYTES1 | op::BYTES4 | op::BYTES8 | op::BYTEARRAY8 => {
                    let bytes = self.byte_string(op::width(operation))?;
                    self.push(bytes)?;
                }
                op::EMPTY_TUPLE => self.push(Node::Tuple(Vec::new()))?,
                op::TUPLE1 | op::TUPLE2 | op::TUPLE3 => {
                    let items = self.pop_many(usize::from(operation - op::TUPLE1) + 1)?;
                    self.push(Node::Tuple(items))?;
                }
                op::TUPLE => {
                    let items = self.pop_marked()?;
                    self.push(Node::Tuple(items))?;
                }
                op::EMPTY_LIST => self.push(Node::List(Vec::new()))?,
                op::APPEND => {
                    let item = self.pop()?;
                    self.append(vec![item])?;
                }
                op::APPENDS => {
                    let items = self.pop_marked()?;
                    self.append(items)?;
                }
                op::EMPTY_DICT => self.push(Node::Dict(BTreeMap::new()))?,
                op::SETITEM => {
                    let pair = self.pop_many(2)?;
                    self.insert(&pair)?;
                }
                op::SETITEMS => {
                    let pairs = self.pop_marked()?;
                    self.insert(&pairs)?;
                }
                op::MEMOIZE => self.remember(self.kept)?,
                op::PUT1 | op::PUT4 => {
                    let number = self.size(op::width(operation))?;
                    self.remember(number)?;
                }
                op::GET1 | op::GET4 => {
                    let number = self.size(op::width(operation))?;
                    self.recall(number)?;
                }
                op::GLOBAL => {
                    let (module, name) = (self.line()?, self.line()?);
                    self.global(module, name)?;
                }
                op::STACK_GLOBAL => self.stack_global()?,
                op::REDUCE => self.reduce()?,
                op::BUILD => self.build()?,
                other => return Err(PickleFault::Operation(other)),
            }
        }
        match self.stack[..] {
            [(root, _)] if self.marks.is_empty() && self.next == self.bytes.len() => Ok(root),
            _ => form("it does not end with one value"),
        }
    }
}

/// A little-endian number in two's complement.
fn long(bytes: &[u8]) -> Step<i64> {
    let Some(&last) = bytes.last() else {
        return Ok(0);
    };
    if bytes.len() > 8 {
        return form("a number needs more than 64 bits");
    }
    let mut all = [if last & 0x80 != 0 { 0xff } else { 0 }; 8];
    all[..bytes.len()].copy_from_slice(bytes);
    Ok(i64::from_le_bytes(all))
}
