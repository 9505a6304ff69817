//! What goes into a transaction and comes out of it: strings, expiries, values on their way.

use bytes::Bytes;

use crate::keyspace::cut::KeptValue;
use crate::value::Value;

/// A string to be stored.
#[derive(Clone, Debug)]
pub enum NewStr<'a> {
    Int(i64),
    /// Stored as an integer if it looks like one.
    Bytes(&'a [u8]),
    /// The same, without a copy if it is large.
    Shared(Bytes),
    /// Never stored as an integer.
    Text(&'a [u8]),
    /// The same, and `raw` to OBJECT ENCODING however short: bytes that are edited in place.
    Raw(&'a [u8]),
}

/// What becomes of a key's expiry when it is overwritten.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ttl {
    Keep,
    Clear,
    /// Unix milliseconds.
    At(i64),
}

/// A string as it is stored.
#[derive(Clone, Copy, Debug)]
pub enum Str<'a> {
    Int(i64),
    Bytes(&'a [u8]),
    Shared(&'a Bytes),
}

impl<'a> Str<'a> {
    /// Its bytes; integers are printed into `scratch`.
    pub fn bytes(self, scratch: &'a mut itoa::Buffer) -> &'a [u8] {
        match self {
            Str::Int(n) => scratch.format(n).as_bytes(),
            Str::Bytes(bytes) => bytes,
            Str::Shared(bytes) => bytes,
        }
    }

    pub fn len(self) -> usize {
        self.bytes(&mut itoa::Buffer::new()).len()
    }

    pub fn is_empty(self) -> bool {
        self.len() == 0
    }

    /// An owned copy, shared where it is large.
    pub fn to_bytes(self) -> Bytes {
        match self {
            Str::Shared(bytes) => bytes.clone(),
            small => Bytes::copy_from_slice(small.bytes(&mut itoa::Buffer::new())),
        }
    }
}

/// Longest string that Redis embeds in its object. Redis: object.c OBJ_ENCODING_EMBSTR_SIZE_LIMIT.
pub const EMBSTR_MAX_BYTES: usize = 44;

/// How a key's value is encoded, in the words of OBJECT ENCODING.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encoded {
    Int(i64),
    Embstr,
    Raw,
    /// A collection's encoding.
    Named(&'static str),
}

/// A value outside a keyspace: on its way to another key, database or shard.
#[derive(Clone, Debug)]
pub struct Taken {
    pub value: Stored,
    pub expire_at: Option<i64>,
    pub(super) clock: u32,
}

impl Taken {
    /// A value from outside.
    pub fn new(value: Stored, expire_at: Option<i64>) -> Taken {
        Taken {
            value,
            expire_at,
            clock: 0,
        }
    }
}

#[derive(Clone, Debug)]
pub enum Stored {
    Int(i64),
    Text { bytes: Box<[u8]>, edited: bool },
    Object(Value),
}

impl Stored {
    /// The value for whoever encodes it.
    pub fn kept(&self) -> KeptValue<'_> {
        match self {
            Stored::Int(n) => KeptValue::Int(*n),
            Stored::Text { bytes, .. } => KeptValue::Text(bytes),
            Stored::Object(value) => KeptValue::Object(value),
        }
    }
}
