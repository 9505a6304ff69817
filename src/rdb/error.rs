//! What is wrong with a file or a payload, and where.

use std::fmt;

/// Damage, or a format that is not known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Error {
    /// Bytes before the part that is wrong, from the start of the file or payload.
    pub at: u64,
    pub fault: Fault,
}

/// The reasons for which input is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The input ends before this many more bytes have come.
    Short { missing: u64 },
    /// Not the start of a file.
    Signature,
    /// A format version that is not read.
    Version(u32),
    /// A value of a type that is not known in this version.
    Type(u8),
    /// An opcode that belongs to formats never released.
    Opcode(u8),
    /// A length where none may be, or in no known form.
    Length,
    /// A compressed string whose bytes do not give the string they promise.
    Lzf,
    /// A score that is not a number.
    Score,
    /// The same element, field, group or consumer twice.
    Duplicate(&'static str),
    /// A packed encoding has the same field twice: which one.
    PackedDuplicate(&'static str),
    /// A collection without elements.
    Empty,
    /// A packed encoding contradicts itself: which one.
    Packed(&'static str),
    /// A stream or its groups contradict themselves.
    Stream(&'static str),
    /// A module's data, which no module here could read; its name.
    Module(String),
    /// Bytes after the end of a value.
    Trailing,
    /// The CRC-64 in the input is not that of the input.
    Checksum { expected: u64, found: u64 },
}

impl Error {
    pub const fn new(at: u64, fault: Fault) -> Error {
        Error { at, fault }
    }
}

pub type Result<T> = std::result::Result<T, Error>;

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Fault::Short { missing } => write!(f, "the input ends {missing} bytes too early"),
            Fault::Signature => f.write_str("wrong signature"),
            Fault::Version(version) => write!(f, "can't handle RDB format version {version}"),
            Fault::Type(ty) => write!(f, "unknown value type {ty}"),
            Fault::Opcode(opcode) => write!(f, "unsupported opcode {opcode}"),
            Fault::Length => f.write_str("bad length"),
            Fault::Lzf => f.write_str("bad LZF data"),
            Fault::Score => f.write_str("a score is not a number"),
            // Redis: rdb.c, in its words: supervisors and tests look for them.
            Fault::Duplicate(what) => write!(f, "Duplicate {what} detected"),
            Fault::PackedDuplicate(encoding) => write!(
                f,
                "{encoding} integrity check failed: {encoding} with dup elements"
            ),
            Fault::Empty => f.write_str("a collection without elements"),
            Fault::Packed(encoding) => write!(f, "{encoding} integrity check failed"),
            Fault::Stream(what) => write!(f, "stream: {what}"),
            Fault::Module(name) => write!(f, "data of the module '{name}'"),
            Fault::Trailing => f.write_str("bytes after the end of the value"),
            Fault::Checksum { expected, found } => {
                write!(f, "wrong checksum: expected {expected:x}, found {found:x}")
            }
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "offset {}: {}", self.at, self.fault)
    }
}

impl std::error::Error for Error {}
