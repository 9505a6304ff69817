//! Values: every type byte that Redis and Valkey ever wrote is read into an [`Object`]; what is
//! written is what Redis 7.0 would write, RDB version 10, or 12 where fields of a hash expire.
//!
//! Per type one file with both directions. Writing is driven by the value: it implements [`Encode`],
//! or its owner calls the methods of [`Body`] one after another, which keep nothing in between, so
//! that a large value can leave in slices.

mod hash;
mod list;
mod module;
mod set;
mod stream;
mod string;
mod write;
mod zset;

use std::collections::HashSet;

use bytes::Bytes;

pub use hash::HashField;
pub use list::ListPart;
pub use module::name as module_name;
pub(super) use module::skip as skip_module;
pub use stream::{Consumer, EntryId, Group, Node, Pending, StreamParts, Sums};

use super::Sink;
use super::error::{Error, Fault, Result};
use super::input::Input;
use super::string::StringWriter;
use crate::value::Kind;

/// Who wrote a format version: the type bytes 22 and 23 mean different things to them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Product {
    Redis,
    Valkey,
}

/// Which of two products wrote version 12 to 79 and which 80 and above, tells the number alone:
/// DUMP and replication carry nothing else.
pub const fn product_of(version: u32) -> Product {
    if version >= VALKEY_VERSION_MIN {
        Product::Valkey
    } else {
        Product::Redis
    }
}

pub(super) const VALKEY_VERSION_MIN: u32 = 80;

/// A value as it stands in a file, without the encoding it had there. Everything may share the
/// memory of the input: whoever keeps a part for long copies it.
#[derive(Clone, Debug, PartialEq)]
pub enum Object {
    String(Bytes),
    /// From the head on.
    List(Vec<ListPart>),
    Set(Vec<Bytes>),
    Hash(Vec<HashField>),
    /// In the order of the file: ascending, descending or none at all.
    Zset(Vec<(Bytes, f64)>),
    Stream(StreamParts),
}

impl Object {
    pub const fn kind(&self) -> Kind {
        match self {
            Object::String(_) => Kind::String,
            Object::List(_) => Kind::List,
            Object::Set(_) => Kind::Set,
            Object::Hash(_) => Kind::Hash,
            Object::Zset(_) => Kind::Zset,
            Object::Stream(_) => Kind::Stream,
        }
    }

    /// What STRLEN, LLEN, SCARD and their like tell.
    pub fn len(&self) -> u64 {
        match self {
            Object::String(bytes) => bytes.len() as u64,
            Object::List(parts) => parts.iter().map(ListPart::len).sum::<usize>() as u64,
            Object::Set(members) => members.len() as u64,
            Object::Hash(fields) => fields.len() as u64,
            Object::Zset(members) => members.len() as u64,
            Object::Stream(parts) => parts.sums.length,
        }
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// What was read where a value stands.
#[derive(Clone, Debug, PartialEq)]
pub enum Taken {
    Object(Object),
    /// A collection without elements. Redis: old versions could write one; a file is loaded
    /// without it, RESTORE refuses it.
    Empty,
    /// A module's value, stepped over.
    Module {
        name: String,
    },
}

/// Declares the type bytes, with the names that redis-check-rdb gives them.
macro_rules! types {
    ($($name:ident = $byte:literal, $text:literal;)*) => {
        /// The type bytes of Redis; 22 and 23 are others to Valkey.
        pub mod types {
            $(pub const $name: u8 = $byte;)*
        }

        /// What to call a type byte of Redis.
        pub fn type_name(ty: u8) -> &'static str {
            match ty {
                $($byte => $text,)*
                _ => "unknown",
            }
        }
    };
}

types! {
    STRING = 0, "string";
    LIST = 1, "list-linked";
    SET = 2, "set-hashtable";
    ZSET = 3, "zset-v1";
    HASH = 4, "hash-hashtable";
    ZSET_2 = 5, "zset-v2";
    MODULE_2 = 7, "module-value";
    HASH_ZIPMAP = 9, "hash-zipmap";
    LIST_ZIPLIST = 10, "list-ziplist";
    SET_INTSET = 11, "set-intset";
    ZSET_ZIPLIST = 12, "zset-ziplist";
    HASH_ZIPLIST = 13, "hash-ziplist";
    LIST_QUICKLIST = 14, "quicklist";
    STREAM_LISTPACKS = 15, "stream";
    HASH_LISTPACK = 16, "hash-listpack";
    ZSET_LISTPACK = 17, "zset-listpack";
    LIST_QUICKLIST_2 = 18, "quicklist-v2";
    STREAM_LISTPACKS_2 = 19, "stream-v2";
    SET_LISTPACK = 20, "set-listpack";
    STREAM_LISTPACKS_3 = 21, "stream-v3";
    HASH_METADATA_PRE_GA = 22, "hash-hashtable-md-pre-release";
    HASH_LISTPACK_EX_PRE_GA = 23, "hash-listpack-md-pre-release";
    HASH_METADATA = 24, "hash-hashtable-md";
    HASH_LISTPACK_EX = 25, "hash-listpack-md";
}

/// Whether a type is a hash or a sorted set in one piece. Redis: rdb.c rdbLoadObject leaves it that
/// unless it has too many elements, however long they are.
pub fn is_packed(ty: u8) -> bool {
    matches!(
        ty,
        types::HASH_ZIPLIST
            | types::ZSET_ZIPLIST
            | types::HASH_LISTPACK
            | types::ZSET_LISTPACK
            | types::HASH_LISTPACK_EX_PRE_GA
            | types::HASH_LISTPACK_EX
    )
}

/// Whether a type is that of hashes whose fields may expire, also if none of them does.
pub fn is_expiring(ty: u8) -> bool {
    (types::HASH_METADATA_PRE_GA..=types::HASH_LISTPACK_EX).contains(&ty)
}

/// Type byte 22 as Valkey writes it.
pub const VALKEY_HASH_2: u8 = 22;

/// The types that are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Type {
    String,
    List,
    Set,
    Intset,
    Hash,
    HashListpack,
    /// A hash of which fields expire.
    HashExpiring,
    HashListpackExpiring,
    Zset,
    ZsetListpack,
    Stream,
}

impl Type {
    pub const fn byte(self) -> u8 {
        match self {
            Type::String => types::STRING,
            Type::List => types::LIST_QUICKLIST_2,
            Type::Set => types::SET,
            Type::Intset => types::SET_INTSET,
            Type::Hash => types::HASH,
            Type::HashListpack => types::HASH_LISTPACK,
            Type::HashExpiring => types::HASH_METADATA,
            Type::HashListpackExpiring => types::HASH_LISTPACK_EX,
            Type::Zset => types::ZSET_2,
            Type::ZsetListpack => types::ZSET_LISTPACK,
            Type::Stream => types::STREAM_LISTPACKS_2,
        }
    }

    /// The lowest format version that knows the type, of those that are written.
    pub const fn version(self) -> u32 {
        match self {
            Type::HashExpiring | Type::HashListpackExpiring => super::VERSION_FIELD_EXPIRY,
            _ => super::VERSION,
        }
    }
}

/// A value that can be written.
pub trait Encode {
    fn ty(&self) -> Type;
    /// Writes what follows the key.
    fn write<S: Sink>(&self, body: &mut Body<'_, S>);
}

/// Where a value is written to. The methods stand with the readers of what they write.
pub struct Body<'a, S: Sink> {
    pub(super) out: &'a mut S,
    pub(super) strings: &'a mut StringWriter,
}

impl<'a, S: Sink> Body<'a, S> {
    pub fn new(out: &'a mut S, strings: &'a mut StringWriter) -> Body<'a, S> {
        Body { out, strings }
    }

    fn len(&mut self, len: u64) {
        super::length::put(self.out, len);
    }

    /// A string of a collection, encoded as fits it best.
    fn text(&mut self, bytes: &[u8]) {
        self.strings.put(self.out, bytes);
    }
}

/// Reads the value that follows the type byte and, in a file, the key.
pub fn take(input: &mut Input, ty: u8, product: Product) -> Result<Taken> {
    let start = input.position();
    let object = match ty {
        types::STRING => Object::String(string::take(input)?),
        types::LIST => Object::List(list::take(input)?),
        types::LIST_ZIPLIST => Object::List(list::take_ziplist(input)?),
        types::LIST_QUICKLIST => Object::List(list::take_quicklist(input)?),
        types::LIST_QUICKLIST_2 => Object::List(list::take_quicklist_2(input)?),
        types::SET => Object::Set(set::take(input)?),
        types::SET_INTSET => Object::Set(set::take_intset(input)?),
        types::SET_LISTPACK => Object::Set(set::take_listpack(input)?),
        types::ZSET => Object::Zset(zset::take_ascii(input)?),
        types::ZSET_2 => Object::Zset(zset::take(input)?),
        types::ZSET_ZIPLIST => Object::Zset(zset::take_ziplist(input)?),
        types::ZSET_LISTPACK => Object::Zset(zset::take_listpack(input)?),
        types::HASH => Object::Hash(hash::take(input)?),
        types::HASH_ZIPMAP => Object::Hash(hash::take_zipmap(input)?),
        types::HASH_ZIPLIST => Object::Hash(hash::take_ziplist(input)?),
        types::HASH_LISTPACK => Object::Hash(hash::take_listpack(input)?),
        VALKEY_HASH_2 if product == Product::Valkey => Object::Hash(hash::take_valkey(input)?),
        types::HASH_METADATA_PRE_GA if product == Product::Redis => {
            Object::Hash(hash::take_absolute(input)?)
        }
        types::HASH_LISTPACK_EX_PRE_GA if product == Product::Redis => {
            Object::Hash(hash::take_listpack_expiring(input)?)
        }
        types::HASH_METADATA => Object::Hash(hash::take_expiring(input)?),
        types::HASH_LISTPACK_EX => {
            // The soonest expiry of all, which the fields tell as well.
            input.u64_le()?;
            Object::Hash(hash::take_listpack_expiring(input)?)
        }
        types::STREAM_LISTPACKS | types::STREAM_LISTPACKS_2 | types::STREAM_LISTPACKS_3 => {
            Object::Stream(stream::take(input, ty)?)
        }
        types::MODULE_2 => {
            return Ok(Taken::Module {
                name: module::skip_value(input)?,
            });
        }
        _ => return Err(Error::new(start, Fault::Type(ty))),
    };
    Ok(match object {
        Object::List(parts) if parts.is_empty() => Taken::Empty,
        Object::Set(members) if members.is_empty() => Taken::Empty,
        Object::Hash(fields) if fields.is_empty() => Taken::Empty,
        Object::Zset(members) if members.is_empty() => Taken::Empty,
        object => Taken::Object(object),
    })
}

/// A collection that is one string, taken apart by `read`.
fn take_packed<T>(
    input: &mut Input,
    what: &'static str,
    read: fn(&Bytes) -> Option<T>,
) -> Result<T> {
    let start = input.position();
    let packed = super::string::take(input)?;
    read(&packed).ok_or(Error::new(start, Fault::Packed(what)))
}

/// The elements two by two; `None` if one is left over.
fn pairs(elements: Vec<Bytes>) -> Option<impl Iterator<Item = (Bytes, Bytes)>> {
    let even = elements.len().is_multiple_of(2);
    let mut elements = elements.into_iter();
    let pairs = std::iter::from_fn(move || Some((elements.next()?, elements.next()?)));
    even.then_some(pairs)
}

/// Refuses a collection, read from `start` on, which names an element twice.
fn refuse_duplicates<'a>(
    elements: impl ExactSizeIterator<Item = &'a Bytes>,
    start: u64,
    what: &'static str,
) -> Result<()> {
    // Random seeds: the elements may have been chosen by somebody who knows the hash function.
    let random = ahash::RandomState::new();
    let mut seen = HashSet::with_capacity_and_hasher(elements.len(), random);
    for element in elements {
        if !seen.insert(element.as_ref()) {
            return Err(Error::new(start, Fault::Duplicate(what)));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
