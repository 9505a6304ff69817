//! Data types and their encodings, without keys, databases, clocks or protocol.
//!
//! Short strings never become a [`Value`]: they live inside their entry. A `Value` is what is too
//! large for that.

pub mod listpack;
pub mod longdouble;

use bytes::{Bytes, BytesMut};

/// The type of a key, as TYPE names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    String,
    List,
    Set,
    Hash,
    Zset,
    Stream,
}

impl Kind {
    pub const fn name(self) -> &'static str {
        match self {
            Kind::String => "string",
            Kind::List => "list",
            Kind::Set => "set",
            Kind::Hash => "hash",
            Kind::Zset => "zset",
            Kind::Stream => "stream",
        }
    }
}

/// A value with an allocation of its own.
#[derive(Debug)]
pub enum Value {
    /// A string that readers may share.
    Shared(Bytes),
    /// A string that is being edited in place; becomes shared with the next read.
    Edited(BytesMut),
}

impl Value {
    pub const fn kind(&self) -> Kind {
        match self {
            Value::Shared(_) | Value::Edited(_) => Kind::String,
        }
    }

    /// Bytes of memory beside the value's own place.
    pub fn memory_bytes(&self) -> usize {
        match self {
            Value::Shared(bytes) => bytes.len(),
            Value::Edited(bytes) => bytes.capacity(),
        }
    }

    /// The string's bytes, made shareable.
    pub fn share(&mut self) -> &Bytes {
        if let Value::Edited(bytes) = self {
            *self = Value::Shared(std::mem::take(bytes).freeze());
        }
        match self {
            Value::Shared(bytes) => bytes,
            Value::Edited(_) => unreachable!("edited strings became shared above"),
        }
    }

    /// The string's bytes for editing; copies them if somebody still reads them.
    pub fn edit(&mut self) -> &mut BytesMut {
        if let Value::Shared(bytes) = self {
            let bytes = std::mem::take(bytes);
            let edited = bytes
                .try_into_mut()
                .unwrap_or_else(|shared| BytesMut::from(shared.as_ref()));
            *self = Value::Edited(edited);
        }
        match self {
            Value::Edited(bytes) => bytes,
            Value::Shared(_) => unreachable!("shared strings became edited above"),
        }
    }
}

impl Clone for Value {
    fn clone(&self) -> Value {
        match self {
            Value::Shared(bytes) => Value::Shared(bytes.clone()),
            Value::Edited(bytes) => Value::Shared(Bytes::copy_from_slice(bytes)),
        }
    }
}
