//! What flushes and deletions leave behind: it is freed in slices, so that nobody waits for it.
//!
//! Of keys that are deleted one by one, that is large collections.
//! A database that is flushed while others still have keys leaves entries that share pages with
//! living ones: they are freed one by one. Once nothing lives in a shard, its arena, objects and
//! wheel go as wholes, page by page, together with every dictionary that points into them.

use super::arena::Arena;
use super::own::Own;
use super::wheel::{self, Wheel};
use super::{Db, Keyspace, Object, ObjectBytes, entry};
use crate::value::dict::{Dict, Handle};
use crate::value::slab::Slab;
use crate::value::{Kind, Value};

/// Entries of these buckets are freed one by one: some tens of microseconds, as long as values are
/// small.
const BUCKETS_PER_SLICE: usize = 64;
/// Values of so many bytes in all are freed with their keys before somebody else has a turn.
pub const BYTES_PER_SLICE: usize = 256 * 1024;
/// Whole pages: an munmap each at worst.
const PAGES_PER_SLICE: usize = 16;

/// Values up to this size are freed where they are deleted.
const AT_ONCE_BYTES: usize = 64 * 1024;
/// Beyond it no more is put off.
const WAITING_BYTES: usize = 16 * 1024 * 1024;
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
    values: Vec<Large>,
    /// Bytes of those of keys that were deleted one by one.
    value_bytes: usize,
}

/// A large collection without a key.
#[derive(Debug)]
struct Large {
    value: Value,
    /// What it had, if its key was deleted by itself.
    bytes: usize,
}

/// Whether a value is freed in slices. A string has no parts.
fn is_large(value: &Value) -> bool {
    value.kind() != Kind::String && value.memory_bytes() > AT_ONCE_BYTES
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
        let Some(mut large) = self.values.pop() else {
            return false;
        };
        let more = large.value.free_slice(PARTS_PER_SLICE);
        if more {
            self.values.push(large);
        } else {
            self.value_bytes -= large.bytes;
        }
        !more
    }

    /// Frees a slice of a whole. Returns how many keys of lazy flushes it was the end of; `None`
    /// if there is no whole.
    pub fn free_whole(&mut self) -> Option<u64> {
        let whole = self.wholes.last_mut()?;
        let mut keys = 0;
        let (mut bytes, values) = (0, &mut self.values);
        let free = |Object { value, .. }| {
            if is_large(&value) {
                values.push(Large { value, bytes: 0 });
            } else {
                bytes += value.memory_bytes();
            }
            bytes < BYTES_PER_SLICE
        };
        let more = whole.arena.dismantle(PAGES_PER_SLICE) > 0
            || whole.objects.dismantle_with(free)
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

impl Keyspace {
    /// Empties databases. What they held is freed by [`Keyspace::free_slice`]; unless `lazy`, a
    /// first part of it at once. Returns how many keys there were.
    pub(super) fn flush(&mut self, dbs: std::ops::Range<usize>, lazy: bool) -> usize {
        /// A synchronous flush of a database of ordinary size is complete when it returns, and one
        /// of any size stalls its shard for no more than some hundreds of microseconds.
        const SLICES_AT_ONCE: usize = 16;
        let mut keys = 0;
        self.effects.tracking.flushed();
        for at in dbs {
            self.changed_as_a_whole(at as u32, None);
            let incarnation = self.new_incarnation();
            let fresh = Db {
                incarnation,
                ..Db::default()
            };
            let flushed = std::mem::replace(&mut self.dbs[at], fresh);
            keys += flushed.dict.len();
            if flushed.dict.is_empty() {
                continue;
            }
            if let Some(dict) = self.retire(flushed, lazy) {
                self.garbage.entries.push(Flushed { dict, lazy });
            }
        }
        let is_empty = self.dbs.iter().all(|db| db.dict.is_empty());
        if keys > 0 && is_empty && !self.has_retired() {
            // Nothing lives in the arena any more, and what was flushed earlier points into it.
            let wheel = Wheel::new(self.wheel.elapsed_ms());
            self.garbage.wholes.push(Whole {
                arena: std::mem::take(&mut self.arena),
                objects: std::mem::take(&mut self.objects),
                wheel: std::mem::replace(&mut self.wheel, wheel),
                dicts: std::mem::take(&mut self.garbage.entries),
            });
            self.object_bytes = ObjectBytes::default();
        }
        if !lazy {
            (0..SLICES_AT_ONCE).any(|_| !self.free_slice());
        }
        keys
    }

    /// Empties everything as if it had never been: nobody is told.
    pub fn clear(&mut self) {
        self.own = Own::default();
        self.flush(0..self.dbs.len(), true);
    }

    /// Frees some of what was flushed: well under a millisecond of work. Returns whether there is
    /// more.
    pub fn free_slice(&mut self) -> bool {
        if let Some(mut flushed) = self.garbage.entries.pop() {
            if self.free_entries(&mut flushed) {
                self.garbage.entries.push(flushed);
            }
        } else if let Some(keys) = self.garbage.free_whole() {
            self.counters.lazyfreed += keys;
        } else {
            self.counters.lazyfreed += u64::from(self.garbage.free_value());
        }
        self.effects.tracking.free_slice() || !self.garbage.is_empty()
    }

    fn free_entries(&mut self, flushed: &mut Flushed) -> bool {
        let bytes = self.object_bytes.all;
        for _ in 0..BUCKETS_PER_SLICE {
            if bytes - self.object_bytes.all > BYTES_PER_SLICE {
                break;
            }
            let Some(handles) = flushed.dict.dismantle() else {
                return false;
            };
            self.counters.lazyfreed += if flushed.lazy {
                handles.len() as u64
            } else {
                0
            };
            for handle in handles {
                self.drop_entry(handle);
            }
        }
        true
    }

    /// Frees an entry that no dictionary refers to any more, with its object and its wheel node.
    pub(super) fn drop_entry(&mut self, handle: Handle) {
        let slot = self.arena.get(handle);
        let layout = entry::layout(slot);
        if layout.has_expiry {
            let (_, node) = layout.expiry(slot);
            if node != wheel::NONE {
                self.wheel.cancel(node);
            }
        }
        if layout.encoding == entry::Encoding::Object {
            let at = layout.object(slot);
            self.discard_object(at);
        }
        self.arena.free(handle);
    }

    /// Frees an object; a large collection later, in slices.
    pub(super) fn discard_object(&mut self, at: u32) {
        let object = self.objects.remove(at);
        self.object_bytes.all -= object.key_bytes();
        let Object {
            value, fields_node, ..
        } = object;
        if fields_node != wheel::NONE {
            self.wheel.cancel(fields_node);
        }
        let bytes = value.memory_bytes();
        self.object_bytes.changed(value.kind(), bytes, 0);
        // If much waits already, more is freed at once: otherwise who replaces large values fast enough
        // fills the memory.
        let garbage = &mut self.garbage;
        if is_large(&value) && garbage.value_bytes <= WAITING_BYTES {
            garbage.value_bytes += bytes;
            garbage.values.push(Large { value, bytes });
        }
    }

    /// Keys that were flushed and are not freed yet.
    pub fn lazyfree_pending(&self) -> u64 {
        (self.garbage.keys() + self.garbage.values.len()) as u64
    }
}
