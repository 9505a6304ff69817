//! Streams: entries in order of their ids, in listpack nodes of bounded size; consumer groups beside.
//!
//! A node is byte for byte Redis' (t_stream.c), so that snapshots and DUMP copy it:
//!
//! ```text
//! entries, deleted, fields n, field..., 0                        the master entry
//! flags, ms - master.ms, seq - master.seq,                       each entry
//!     [n, field, value, ...] or, with SAMEFIELDS, [value...],
//!     number of elements before this one
//! ```
//!
//! Nodes of small entries are compressed once some others are behind them, as Redis does with the
//! nodes inside of a list: a log of a million measurements takes half the memory. What is deleted
//! from is opened for good.

mod columns;
mod group;
mod index;
mod node;
mod radix;
#[cfg(test)]
mod tests;
mod trim;

use std::collections::BTreeMap;
use std::ops::Range;

pub use group::{Consumer, Group, Pending};
use index::Index;
pub use node::{Entry, Node, Reading};
pub use trim::{Refs, Threshold, Trim, Trimmed, Unreferenced};

use super::limits::Limits;
use super::listpack::Listpack;

/// What an entry is called.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EntryId {
    pub ms: u64,
    pub seq: u64,
}

impl EntryId {
    pub const MIN: EntryId = EntryId { ms: 0, seq: 0 };
    pub const MAX: EntryId = EntryId {
        ms: u64::MAX,
        seq: u64::MAX,
    };

    /// The next id; `None` after the last.
    pub fn next(self) -> Option<EntryId> {
        let EntryId { ms, seq } = self;
        match seq.checked_add(1) {
            Some(seq) => Some(EntryId { ms, seq }),
            None => ms.checked_add(1).map(|ms| EntryId { ms, seq: 0 }),
        }
    }

    /// The id before; `None` before the first.
    pub fn previous(self) -> Option<EntryId> {
        let EntryId { ms, seq } = self;
        match seq.checked_sub(1) {
            Some(seq) => Some(EntryId { ms, seq }),
            None => ms.checked_sub(1).map(|ms| EntryId { ms, seq: u64::MAX }),
        }
    }
}

impl std::fmt::Display for EntryId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}-{}", self.ms, self.seq)
    }
}

/// Nodes at the end of a stream that are never compressed: what producers append to, consumers read and
/// delete most.
const OPEN_NODES: usize = 16;

/// A stream.
#[derive(Clone, Debug, Default)]
pub struct Stream {
    nodes: Index,
    len: u64,
    pub last_id: EntryId,
    pub first_id: EntryId,
    pub max_deleted_id: EntryId,
    pub entries_added: u64,
    pub groups: BTreeMap<Box<[u8]>, Group>,
    node_bytes: usize,
}

/// Changes a node of which all bytes are counted in `bytes`.
fn changed<T>(node: &mut Node, bytes: &mut usize, change: impl FnOnce(&mut Node) -> T) -> T {
    let before = node.bytes();
    let result = change(node);
    *bytes = *bytes + node.bytes() - before;
    result
}

impl Stream {
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Whether it has no entries; it is still a stream then, with its last id and its groups.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Bytes of memory, about.
    pub fn memory_bytes(&self) -> usize {
        let groups: usize = self.groups.values().map(Group::memory_bytes).sum();
        self.node_bytes + self.nodes.memory_bytes() + groups
    }

    pub fn node_count(&self) -> usize {
        self.nodes.len()
    }

    /// Nodes that Redis' radix tree would have over the master ids.
    pub fn radix_nodes(&self) -> usize {
        radix::node_count(self.nodes.iter().map(|(id, _)| id))
    }

    /// The nodes at these places, with their master ids.
    pub fn nodes(&self, range: Range<usize>) -> impl Iterator<Item = (EntryId, Reading<'_>)> {
        let nodes = self.nodes.iter_at(range.start).take(range.len());
        nodes.map(|(master, node)| (master, node.reading()))
    }

    /// Appends a node as it was saved, behind all others.
    pub fn push_node(&mut self, master: EntryId, pack: Listpack) {
        let node = Node::from_pack(pack);
        self.len += node.live();
        self.node_bytes += node.bytes();
        self.nodes.insert(master, node);
        self.close_past();
    }

    /// Compresses the newest node that is not among those which are read and written most.
    fn close_past(&mut self) {
        if let Some(node) = self.nodes.before_last_mut(OPEN_NODES) {
            changed(node, &mut self.node_bytes, Node::close);
        }
    }

    /// Appends an entry. The id must be greater than the last.
    pub fn append(&mut self, id: EntryId, fields: &[&[u8]], limits: &Limits) {
        debug_assert!(id > self.last_id || self.entries_added == 0);
        let bytes: usize = fields.iter().map(|text| text.len()).sum();
        let mut expected = 0;
        let mut joins = false;
        if let Some((master, node)) = self.nodes.last_mut() {
            joins = changed(node, &mut self.node_bytes, |node| {
                let joins = node.admits(bytes, limits);
                if joins {
                    node.append(master, id, fields);
                } else {
                    // What it had to spare to grow goes back; the next is going to be as large.
                    node.shrink();
                    expected = node.bytes();
                }
                joins
            });
        }
        if !joins {
            let node = Node::with_capacity(expected + expected / 8, id, fields);
            self.node_bytes += node.bytes();
            self.nodes.insert(id, node);
            self.close_past();
        }
        if self.len == 0 {
            self.first_id = id;
        }
        self.len += 1;
        // A payload of RESTORE may have claimed any number.
        self.entries_added = self.entries_added.wrapping_add(1);
        self.last_id = id;
    }

    /// Entries with ids from `start` to `end`, both inclusive.
    pub fn range(&self, start: EntryId, end: EntryId) -> impl Iterator<Item = Entry<'_>> {
        let nodes = self.nodes.iter_from(start);
        let entries = nodes
            .take_while(move |(master, _)| *master <= end)
            .flat_map(|(master, node)| node.entries(master));
        entries
            .skip_while(move |entry| entry.id < start)
            .take_while(move |entry| entry.id <= end)
    }

    /// The same from `end` down to `start`.
    pub fn range_back(&self, start: EntryId, end: EntryId) -> impl Iterator<Item = Entry<'_>> {
        let nodes = self.nodes.iter_back_from(end);
        let entries = nodes.flat_map(|(master, node)| node.entries_back(master));
        entries
            .skip_while(move |entry| entry.id > end)
            .take_while(move |entry| entry.id >= start)
    }

    pub fn get(&self, id: EntryId) -> Option<Entry<'_>> {
        self.range(id, id).next()
    }

    /// Removes an entry; returns whether it was there.
    pub fn remove(&mut self, id: EntryId) -> bool {
        let Some((master, node)) = self.nodes.node_mut(id) else {
            return false;
        };
        if !changed(node, &mut self.node_bytes, |node| node.remove(master, id)) {
            return false;
        }
        if node.live() == 0 {
            self.drop_node(master);
        }
        self.len -= 1;
        self.max_deleted_id = self.max_deleted_id.max(id);
        if self.len == 0 || id == self.first_id {
            self.find_first();
        }
        true
    }

    /// Drops a node with all its entries, which are counted elsewhere.
    fn drop_node(&mut self, master: EntryId) {
        if let Some((_, node)) = self.nodes.node_mut(master) {
            self.node_bytes -= node.bytes();
            self.nodes.remove(master);
        }
    }

    fn find_first(&mut self) {
        let first = self.range(EntryId::MIN, EntryId::MAX).next();
        self.first_id = first.map_or(EntryId::MIN, |entry| entry.id);
    }

    /// Frees some nodes, or pending entries, of a stream that is thrown away; true while more are left.
    pub fn free_slice(&mut self, parts: usize) -> bool {
        if self.nodes.free(parts) {
            return true;
        }
        if let Some(mut group) = self.groups.first_entry()
            && !group.get_mut().free_slice(parts)
        {
            group.remove();
        }
        !self.groups.is_empty()
    }

    /// How many entries were ever added up to `id`, if that can be told. Redis: t_stream.c
    /// streamEstimateDistanceFromFirstEverEntry.
    pub fn entries_read_at(&self, id: EntryId) -> Option<u64> {
        if self.entries_added == 0 {
            return Some(0);
        }
        if self.len == 0 && id <= self.last_id {
            return Some(self.entries_added);
        }
        if id == self.last_id {
            return Some(self.entries_added);
        }
        if id > self.last_id {
            return None;
        }
        if self.max_deleted_id == EntryId::MIN || self.max_deleted_id < self.first_id {
            let before_first = self.entries_added.wrapping_sub(self.len);
            if id < self.first_id {
                return Some(before_first);
            }
            if id == self.first_id {
                return Some(before_first.wrapping_add(1));
            }
        }
        None
    }

    /// Whether an entry in the range may have been deleted. Redis: streamRangeHasTombstones.
    pub fn has_tombstones_from(&self, start: EntryId) -> bool {
        let latest = self.max_deleted_id;
        self.len > 0 && latest != EntryId::MIN && self.first_id <= latest && start <= latest
    }

    /// Entries a group has not read yet, if that can be told.
    pub fn lag(&self, group: &Group) -> Option<i64> {
        if self.entries_added == 0 {
            return Some(0);
        }
        let read = match group.entries_read {
            Some(read) if !self.has_tombstones_from(group.last_id) => read,
            _ => self.entries_read_at(group.last_id)?,
        };
        // Negative if XGROUP was told that more was read than there ever was.
        Some(self.entries_added.wrapping_sub(read) as i64)
    }
}
