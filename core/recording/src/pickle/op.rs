//! Operations, by the names of Python's `pickletools`.

pub const PROTO: u8 = 0x80;
pub const FRAME: u8 = 0x95;
pub const STOP: u8 = b'.';
pub const MARK: u8 = b'(';
pub const NONE: u8 = b'N';
pub const TRUE: u8 = 0x88;
pub const FALSE: u8 = 0x89;
pub const INT4: u8 = b'J';
pub const UINT1: u8 = b'K';
pub const UINT2: u8 = b'M';
pub const LONG1: u8 = 0x8a;
pub const FLOAT: u8 = b'G';
pub const TEXT1: u8 = 0x8c;
pub const TEXT4: u8 = b'X';
pub const TEXT8: u8 = 0x8d;
pub const BYTES1: u8 = b'C';
pub const BYTES4: u8 = b'B';
pub const BYTES8: u8 = 0x8e;
pub const BYTEARRAY8: u8 = 0x96;
pub const EMPTY_TUPLE: u8 = b')';
pub const TUPLE: u8 = b't';
pub const TUPLE1: u8 = 0x85;
pub const TUPLE2: u8 = 0x86;
pub const TUPLE3: u8 = 0x87;
pub const EMPTY_LIST: u8 = b']';
pub const APPEND: u8 = b'a';
pub const APPENDS: u8 = b'e';
pub const EMPTY_DICT: u8 = b'}';
pub const SETITEM: u8 = b's';
pub const SETITEMS: u8 = b'u';
pub const MEMOIZE: u8 = 0x94;
pub const PUT1: u8 = b'q';
pub const PUT4: u8 = b'r';
pub const GET1: u8 = b'h';
pub const GET4: u8 = b'j';
pub const GLOBAL: u8 = b'c';
pub const STACK_GLOBAL: u8 = 0x93;
pub const REDUCE: u8 = b'R';
pub const BUILD: u8 = b'b';

/// What follows an operation.
pub enum Argument {
    /// So many bytes.
    Fixed(u64),
    /// A count of so many bytes, and then as many as it says.
    Counted(usize),
    /// Two lines.
    Lines,
    /// Nothing: it is the last, or none that is known.
    End,
}

/// What follows an operation.
pub fn argument(operation: u8) -> Argument {
    use Argument::{Counted, End, Fixed, Lines};
    match operation {
        MARK | NONE | TRUE | FALSE | EMPTY_TUPLE | TUPLE | TUPLE1 | TUPLE2 | TUPLE3
        | EMPTY_LIST | APPEND | APPENDS | EMPTY_DICT | SETITEM | SETITEMS | MEMOIZE
        | STACK_GLOBAL | REDUCE | BUILD => Fixed(0),
        PROTO | UINT1 => Fixed(1),
        UINT2 => Fixed(2),
        INT4 => Fixed(4),
        FLOAT | FRAME => Fixed(8),
        PUT1 | GET1 | PUT4 | GET4 => Fixed(width(operation) as u64),
        LONG1 => Counted(1),
        _ if is_text(operation) => Counted(width(operation)),
        BYTES1 | BYTES4 | BYTES8 | BYTEARRAY8 => Counted(width(operation)),
        GLOBAL => Lines,
        _ => End,
    }
}

pub fn is_text(operation: u8) -> bool {
    matches!(operation, TEXT1 | TEXT4 | TEXT8)
}

/// Bytes of the number that follows.
pub fn width(operation: u8) -> usize {
    match operation {
        TEXT1 | BYTES1 | PUT1 | GET1 => 1,
        TEXT4 | BYTES4 | PUT4 | GET4 => 4,
        _ => 8,
    }
}
