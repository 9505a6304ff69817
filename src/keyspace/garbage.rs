//! What flushes left behind, freed in slices so that nobody waits for it.
//!
//! A database that is flushed while others still have keys leaves entries that share pages with
//! living ones: they are freed one by one. Once nothing lives in a shard, its arena, objects and
//! wheel go as wholes, page by page, together with every dictionary that points into them.

use super::Object;
use super::arena::Arena;
use super::wheel::Wheel;
use crate::value::Value;
use crate::value::dict::Dict;
use crate::value::slab::Slab;

/// Entries of these buckets are freed one by one: some tens of microseconds.
pub const BUCKETS_PER_SLICE: usize = 64;
/// Whole pages: an munmap each at worst.
const PAGES_PER_SLICE: usize = 16;

/// Values up to this size are freed where they are deleted.
pub const AT_ONCE_BYTES: usize = 64 * 1024;
/// Elements (or nodes) of a large value that one slice frees.
const PARTS_PER_SLICE: usize = 1024;

/// The dictionary of a flushed database.
#[derive(Debug)]
pub struct Flushed {
    pub dict: Dict,
    /// Flushed with ASYNC: counts as freed lazily.
    pub lazy: bool,
}

/// Everything a shard held: nothing in it is looked at any more.
#[derive(Debug)]
pub struct Whole {
    pub arena: Arena,
    pub objects: Slab<Object>,
    pub wheel: Wheel,
    pub dicts: Vec<Flushed>,
}

#[derive(Debug, Default)]
pub struct Garbage {
    /// Databases whose entries stand in the arena in use.
    pub entries: Vec<Flushed>,
    pub wholes: Vec<Whole>,
    /// Large values of keys that were deleted.
    pub values: Vec<Value>,
}

impl Garbage {
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty() && self.wholes.is_empty() && self.values.is_empty()
    }

    /// Keys that have not been freed yet.
    pub fn keys(&self) -> usize {
        let whole = self.wholes.iter().flat_map(|whole| &whole.dicts);
        let flushed = self.entries.iter().chain(whole);
        flushed.map(|flushed| flushed.dict.len()).sum()
    }

    /// Frees a slice of a large value. Returns whether it was the last of it.
    pub fn free_value(&mut self) -> bool {
        let Some(mut value) = self.values.pop() else {
            return false;
        };
        let more = value.free_slice(PARTS_PER_SLICE);
        if more {
            self.values.push(value);
        }
        !more
    }

    /// Frees a slice of a whole. Returns how many keys of lazy flushes it was the end of; `None`
    /// if there is no whole.
    pub fn free_whole(&mut self) -> Option<u64> {
        let whole = self.wholes.last_mut()?;
        let mut keys = 0;
        let more = whole.arena.dismantle(PAGES_PER_SLICE) > 0
            || whole.objects.dismantle()
            || whole.wheel.dismantle()
            || whole.dicts.last_mut().is_some_and(|flushed| {
                keys = if flushed.lazy { flushed.dict.len() } else { 0 } as u64;
                flushed.dict.drop_segment()
            });
        if !more && whole.dicts.pop().is_none() {
            self.wholes.pop();
        }
        Some(keys)
    }
}
