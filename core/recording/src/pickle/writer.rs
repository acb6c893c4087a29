//! Writing pickles of plain data, of protocol 4: Python reads it since 3.4, and numpy's arrays in it since numpy 1.0.

use std::{
    collections::BTreeMap,
    io::{self, Write},
};

use super::{DType, op};

/// Writes one value, part after part, in the order of Python's stack machine: a container, its parts, and the operation
/// that puts them into it. It takes no memory to speak of, however much is written.
pub(crate) struct PickleWriter<W> {
    out: W,
    /// Operations whose value Python keeps under a number, so that it is written once.
    kept: BTreeMap<Vec<u8>, u32>,
    /// The next number.
    free: u32,
}

/// numpy 2 knows its old name too, numpy 1 before 1.26 no other.
const RECONSTRUCT: &[u8] = b"cnumpy.core.multiarray\n_reconstruct\n";
const NDARRAY: &[u8] = b"cnumpy\nndarray\n";

impl<W: Write> PickleWriter<W> {
    pub fn new(mut out: W) -> io::Result<Self> {
        out.write_all(&[op::PROTO, 4])?;
        Ok(Self {
            out,
            kept: BTreeMap::new(),
            free: 0,
        })
    }

    /// Ends the file; what it was written to.
    pub fn finish(mut self) -> io::Result<W> {
        self.op(op::STOP)?;
        Ok(self.out)
    }

    fn op(&mut self, operation: u8) -> io::Result<()> {
        self.out.write_all(&[operation])
    }

    /// An empty list; each value after it is put into it by [`PickleWriter::append`].
    pub fn list(&mut self) -> io::Result<()> {
        self.op(op::EMPTY_LIST)
    }

    pub fn append(&mut self) -> io::Result<()> {
        self.op(op::APPEND)
    }

    /// An empty dictionary that waits for keys and values until [`PickleWriter::end`].
    pub fn dictionary(&mut self) -> io::Result<()> {
        self.op(op::EMPTY_DICT)?;
        self.op(op::MARK)
    }

    pub fn end(&mut self) -> io::Result<()> {
        self.op(op::SETITEMS)
    }

    /// A text; each is written once.
    pub fn text(&mut self, text: &str) -> io::Result<()> {
        let mut operation = vec![op::TEXT8];
        operation.extend((text.len() as u64).to_le_bytes());
        operation.extend(text.as_bytes());
        self.once(&operation)
    }

    pub fn bool(&mut self, yes: bool) -> io::Result<()> {
        self.op(if yes { op::TRUE } else { op::FALSE })
    }

    pub fn number(&mut self, number: f64) -> io::Result<()> {
        self.op(op::FLOAT)?;
        self.out.write_all(&number.to_be_bytes())
    }

    fn size(&mut self, size: usize) -> io::Result<()> {
        let size = i32::try_from(size).map_err(io::Error::other)?;
        self.op(op::INT4)?;
        self.out.write_all(&size.to_le_bytes())
    }

    /// A value by its operations, or by the number under which it is kept.
    fn once(&mut self, operations: &[u8]) -> io::Result<()> {
        if let Some(&number) = self.kept.get(operations) {
            return self.kept(number);
        }
        self.out.write_all(operations)?;
        let number = self.keep()?;
        self.kept.insert(operations.to_vec(), number);
        Ok(())
    }

    /// An array of numpy's. `bytes` must be as many as its shape needs, little-endian, the last index running fastest.
    pub fn array(&mut self, dtype: DType, shape: &[usize], bytes: &[u8]) -> io::Result<()> {
        // What numpy itself writes: an empty array, which its state then completes.
        self.once(RECONSTRUCT)?;
        self.once(NDARRAY)?;
        self.out.write_all(b"K\0\x85C\x01b\x87R(K\x01(")?;
        for &side in shape {
            self.size(side)?;
        }
        self.op(op::TUPLE)?;
        self.dtype(dtype)?;
        self.op(op::FALSE)?;
        self.op(op::BYTES8)?;
        self.out.write_all(&(bytes.len() as u64).to_le_bytes())?;
        self.out.write_all(bytes)?;
        self.op(op::TUPLE)?;
        self.op(op::BUILD)
    }

    fn dtype(&mut self, dtype: DType) -> io::Result<()> {
        let descr = dtype.descr();
        let (order, code) = descr.split_at(1);
        let mut operations = b"cnumpy\ndtype\n".to_vec();
        for text in [code, order] {
            operations.extend([op::TEXT1, text.len() as u8]);
            operations.extend(text.as_bytes());
            if text == code {
                // Neither aligned nor a copy.
                operations.extend(b"\x89\x88\x87R(K\x03");
            }
        }
        // No fields, and sizes that follow from the type.
        operations.extend(b"NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\0tb");
        self.once(&operations)
    }

    /// Has Python keep the last value; its number.
    pub fn keep(&mut self) -> io::Result<u32> {
        let number = self.free;
        let next = number.checked_add(1);
        self.free = next.ok_or_else(|| io::Error::other("the file is full"))?;
        self.op(op::PUT4)?;
        self.out.write_all(&number.to_le_bytes())?;
        Ok(number)
    }

    /// The value that is kept under a number.
    pub fn kept(&mut self, number: u32) -> io::Result<()> {
        self.op(op::GET4)?;
        self.out.write_all(&number.to_le_bytes())
    }
}
