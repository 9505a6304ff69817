//! Data types and their encodings, without keys, databases, clocks or protocol.
//!
//! Short strings never become a [`Value`]: they live inside their entry. A `Value` is what is too
//! large for that.

mod closed;
pub mod dict;
pub mod fetch;
pub mod geohash;
pub mod hash;
pub mod hyperloglog;
pub mod intset;
pub mod limits;
pub mod list;
pub mod listpack;
pub mod longdouble;
pub mod lzf;
pub mod ranked;
mod run;
pub mod set;
pub mod slab;
pub mod stream;
pub mod table;
pub mod zset;

use std::sync::Arc;

use bytes::{Bytes, BytesMut};

use dict::{Dict, Handle};
use hash::Hash;
use limits::Limits;
use list::List;
use set::Set;
use stream::Stream;
use zset::Zset;

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

/// A large collection in which members are looked up by name.
pub trait Lookup {
    fn hash(&self, name: &[u8]) -> u64;
    fn dict(&self) -> &Dict;
    /// Asks memory for a member's place.
    fn fetch_place(&self, handle: Handle);
    /// The bytes of a member that the dictionary refers to.
    fn member(&self, handle: Handle) -> &[u8];
}

/// Members of a collection that fits into the processor's caches.
const NEAR_MEMBERS: usize = 1024;

/// A value with an allocation of its own. A clone of a collection is the same collection until one
/// of the two is changed: copies that travel between shards or wait to be compared cost nothing.
#[derive(Debug)]
pub enum Value {
    /// A string that readers may share.
    Shared(Bytes),
    /// A string that is being edited in place; becomes shared with the next read.
    Edited(BytesMut),
    List(Arc<List>),
    Set(Arc<Set>),
    Hash(Arc<Hash>),
    Zset(Arc<Zset>),
    Stream(Arc<Stream>),
}

impl Value {
    pub const fn kind(&self) -> Kind {
        match self {
            Value::Shared(_) | Value::Edited(_) => Kind::String,
            Value::List(_) => Kind::List,
            Value::Set(_) => Kind::Set,
            Value::Hash(_) => Kind::Hash,
            Value::Zset(_) => Kind::Zset,
            Value::Stream(_) => Kind::Stream,
        }
    }

    /// Bytes of memory beside the value's own place.
    pub fn memory_bytes(&self) -> usize {
        match self {
            Value::Shared(bytes) => bytes.len(),
            Value::Edited(bytes) => bytes.capacity(),
            Value::List(list) => size_of::<List>() + list.memory_bytes(),
            Value::Set(set) => size_of::<Set>() + set.memory_bytes(),
            Value::Hash(hash) => size_of::<Hash>() + hash.memory_bytes(),
            Value::Zset(set) => size_of::<Zset>() + set.memory_bytes(),
            Value::Stream(stream) => size_of::<Stream>() + stream.memory_bytes(),
        }
    }

    /// The encoding of a collection, in the words of OBJECT ENCODING.
    pub fn encoding(&self) -> &'static str {
        match self {
            Value::Shared(_) | Value::Edited(_) => "raw",
            // Redis: up to 7.0, lists of any size are quicklists.
            Value::List(_) => "quicklist",
            Value::Set(set) => set.encoding(),
            Value::Hash(hash) => hash.encoding(),
            Value::Zset(set) => set.encoding(),
            Value::Stream(_) => "stream",
        }
    }

    /// The collection, if looking up a member in it means waiting for memory.
    pub fn far(&self) -> Option<&dyn Lookup> {
        let (len, lookup): (usize, Option<&dyn Lookup>) = match self {
            Value::Set(set) => (set.len(), set.lookup()),
            Value::Hash(hash) => (hash.len(), hash.lookup()),
            Value::Zset(set) => (set.len(), set.lookup()),
            _ => return None,
        };
        lookup.filter(|_| len > NEAR_MEMBERS)
    }

    /// The earliest deadline of an element, unix milliseconds.
    pub fn next_deadline(&self) -> Option<i64> {
        match self {
            Value::Hash(hash) => hash.next_deadline(),
            _ => None,
        }
    }

    /// The string's bytes, made shareable. Only for strings.
    pub fn share(&mut self) -> &Bytes {
        if let Value::Edited(bytes) = self {
            *self = Value::Shared(std::mem::take(bytes).freeze());
        }
        match self {
            Value::Shared(bytes) => bytes,
            _ => unreachable!("strings became shared above"),
        }
    }

    /// The string's bytes for editing; copies them if somebody still reads them. Only for strings.
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
            _ => unreachable!("strings became edited above"),
        }
    }

    /// Builds a collection that was made elsewhere again under these limits.
    pub fn reencode(&mut self, limits: &Limits) {
        if let Value::Set(set) = self {
            let mut built = Set::new(b"0", limits);
            set.for_each(|member| {
                built.add_item(member, limits);
            });
            *self = Value::Set(Arc::new(built));
        } else if let Value::Zset(set) = self {
            Arc::make_mut(set).reencode(limits);
        }
    }

    /// Frees a part of a value that is thrown away; true while more is left. `parts` is about a
    /// hundred nanoseconds each.
    pub fn free_slice(&mut self, parts: usize) -> bool {
        match self {
            Value::Shared(_) | Value::Edited(_) => false,
            Value::List(list) => Arc::get_mut(list).is_some_and(|list| list.free_slice(parts)),
            Value::Set(set) => Arc::get_mut(set).is_some_and(|set| set.free_slice(parts)),
            Value::Hash(hash) => Arc::get_mut(hash).is_some_and(|hash| hash.free_slice(parts)),
            Value::Zset(set) => Arc::get_mut(set).is_some_and(|set| set.free_slice(parts)),
            Value::Stream(stream) => {
                Arc::get_mut(stream).is_some_and(|stream| stream.free_slice(parts))
            }
        }
    }
}

impl Clone for Value {
    fn clone(&self) -> Value {
        match self {
            Value::Shared(bytes) => Value::Shared(bytes.clone()),
            Value::Edited(bytes) => Value::Shared(Bytes::copy_from_slice(bytes)),
            Value::List(list) => Value::List(list.clone()),
            Value::Set(set) => Value::Set(set.clone()),
            Value::Hash(hash) => Value::Hash(hash.clone()),
            Value::Zset(set) => Value::Zset(set.clone()),
            Value::Stream(stream) => Value::Stream(stream.clone()),
        }
    }
}

/// A type of value with elements.
pub trait Collection: Clone + Sized {
    const KIND: Kind;
    fn of(value: &Value) -> Option<&Self>;
    /// For changing; a collection that somebody else still holds is copied first.
    fn of_mut(value: &mut Value) -> Option<&mut Self>;
    fn into_value(self) -> Value;
    /// Whether the key goes when the collection is like this.
    fn is_gone(&self) -> bool;
    /// Bytes as [`Value::memory_bytes`] counts them.
    fn memory_bytes(&self) -> usize;
    /// The earliest deadline of its elements, unix milliseconds.
    fn next_deadline(&self) -> Option<i64>;
}

macro_rules! collections {
    ($($kind:ident: $deadline:expr, $gone:expr);*) => {
        $(impl Collection for $kind {
            const KIND: Kind = Kind::$kind;

            fn of(value: &Value) -> Option<&$kind> {
                match value {
                    Value::$kind(it) => Some(it),
                    _ => None,
                }
            }

            fn of_mut(value: &mut Value) -> Option<&mut $kind> {
                match value {
                    Value::$kind(it) => Some(Arc::make_mut(it)),
                    _ => None,
                }
            }

            fn into_value(self) -> Value {
                Value::$kind(Arc::new(self))
            }

            fn is_gone(&self) -> bool {
                $gone(self)
            }

            fn memory_bytes(&self) -> usize {
                size_of::<$kind>() + $kind::memory_bytes(self)
            }

            fn next_deadline(&self) -> Option<i64> {
                $deadline(self)
            }
        })*
    };
}

collections! {
    List: |_| None, List::is_empty;
    Set: |_| None, Set::is_empty;
    Hash: Hash::next_deadline, Hash::is_empty;
    Zset: |_| None, Zset::is_empty;
    Stream: |_| None, |_| false
}
