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

use std::collections::BTreeMap;

pub use group::{Consumer, Group, Pending};
use index::Index;
pub use node::{Entry, Node, Reading};

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

/// Down to what a stream is trimmed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Threshold {
    /// So many entries stay.
    MaxLen(u64),
    /// Entries from this id on stay.
    MinId(EntryId),
}

/// How a stream is trimmed.
#[derive(Clone, Copy, Debug)]
pub struct Trim {
    pub threshold: Threshold,
    /// Only whole nodes go, and no more entries than that; `None`: exactly.
    pub approximate: Option<u64>,
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

    /// Nodes that Redis' radix tree would have over the master ids, 16 bytes each: one for each
    /// that ends, one where ids part, one for the bytes in between that are not alone. Redis: rax.c.
    pub fn radix_nodes(&self) -> usize {
        const ID_BYTES: usize = 16;
        let bits = |id: EntryId| u128::from(id.ms) << 64 | u128::from(id.seq);
        let ids: Vec<u128> = self.nodes.iter().map(|(id, _)| bits(id)).collect();
        if ids.is_empty() {
            return 1;
        }
        let shared = |pair: &[u128]| (pair[0] ^ pair[1]).leading_zeros() as usize / 8;
        // A place where ids part takes one byte; what is between it and the next makes one node.
        let between = |from: Option<usize>, to: usize| {
            let bytes = to - from.map_or(0, |from| from + 1);
            usize::from(bytes > 0)
        };
        // How many bytes lead to each such place above the id at hand.
        let mut parting: Vec<usize> = Vec::new();
        let mut nodes = 0;
        for at in 0..ids.len() {
            let next = ids.get(at..at + 2).map(shared);
            let mut below = ID_BYTES;
            // What is deeper than the next parting is complete.
            while let Some(&depth) = parting.last()
                && next.is_none_or(|next| depth > next)
            {
                nodes += 1 + between(Some(depth), below);
                below = depth;
                parting.pop();
            }
            match next {
                None => nodes += 1 + between(None, below),
                Some(next) => {
                    nodes += 1 + between(Some(next), below);
                    if parting.last() != Some(&next) {
                        parting.push(next);
                    }
                }
            }
        }
        nodes
    }

    /// The nodes with their master ids.
    pub fn nodes(&self) -> impl Iterator<Item = (EntryId, Reading<'_>)> {
        let nodes = self.nodes.iter();
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
        self.entries_added += 1;
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
        let entries = self.nodes.iter_back_from(end).flat_map(|(master, node)| {
            let mut all: Vec<Entry> = node.entries(master).collect();
            all.reverse();
            all
        });
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
            self.node_bytes -= node.bytes();
            self.nodes.remove(master);
        }
        self.len -= 1;
        self.max_deleted_id = self.max_deleted_id.max(id);
        if self.len == 0 || id == self.first_id {
            self.find_first();
        }
        true
    }

    fn find_first(&mut self) {
        let first = self.range(EntryId::MIN, EntryId::MAX).next();
        self.first_id = first.map_or(EntryId::MIN, |entry| entry.id);
    }

    /// Removes entries from the front; returns how many.
    pub fn trim(&mut self, trim: Trim) -> u64 {
        let mut removed = 0;
        while let Some((master, node)) = self.nodes.first_mut() {
            if matches!(trim.threshold, Threshold::MinId(_)) {
                // It is going to be looked into by every trim until it goes.
                changed(node, &mut self.node_bytes, |node| {
                    node.open();
                });
            }
            let entries = node.live();
            let is_whole = match trim.threshold {
                Threshold::MaxLen(max) if self.len <= max => break,
                Threshold::MaxLen(max) => self.len - entries >= max,
                // Redis: a node goes as a whole by its last entry, be that deleted. One that is kept
                // for such an entry may have no other left.
                Threshold::MinId(min) => {
                    let mut all = node.entries(master);
                    all.next().is_none_or(|first| first.id < min)
                        && node.last_ever(master).is_some_and(|last| last < min)
                }
            };
            if trim.approximate.is_some_and(|max| removed + entries > max) {
                break;
            }
            if is_whole {
                self.node_bytes -= node.bytes();
                self.nodes.remove(master);
                self.len -= entries;
                removed += entries;
                continue;
            }
            if trim.approximate.is_none() {
                let goes = |(nth, entry): &(usize, Entry)| match trim.threshold {
                    Threshold::MaxLen(max) => (*nth as u64) < self.len - max,
                    Threshold::MinId(min) => entry.id < min,
                };
                let gone = node.entries(master).enumerate().take_while(goes);
                let ids: Vec<EntryId> = gone.map(|(_, entry)| entry.id).collect();
                if let Some((_, node)) = self.nodes.node_mut(master) {
                    changed(node, &mut self.node_bytes, |node| {
                        ids.iter().for_each(|&id| {
                            node.remove(master, id);
                        });
                    });
                }
                self.len -= ids.len() as u64;
                removed += ids.len() as u64;
            }
            break;
        }
        if removed > 0 {
            self.find_first();
        }
        removed
    }

    /// Frees some nodes of a stream that is thrown away; true while more are left.
    pub fn free_slice(&mut self, nodes: usize) -> bool {
        self.nodes.free(nodes)
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
            if id < self.first_id {
                return Some(self.entries_added - self.len);
            }
            if id == self.first_id {
                return Some(self.entries_added - self.len + 1);
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

#[cfg(test)]
mod tests {
    use super::*;

    fn id(n: u64) -> EntryId {
        EntryId { ms: n, seq: n % 3 }
    }

    fn contents<'a>(entries: impl Iterator<Item = Entry<'a>>) -> Vec<(EntryId, Vec<Vec<u8>>)> {
        entries
            .map(|entry| {
                let fields = entry.fields().flat_map(|(field, value)| [field, value]);
                (entry.id, fields.map(|item| item.to_vec()).collect())
            })
            .collect()
    }

    #[test]
    fn a_stream_is_an_ordered_map() {
        for seed in 0..6 {
            let mut rng = fastrand::Rng::with_seed(seed);
            let limits = Limits {
                stream_node_max_entries: [1, 5, 100][rng.usize(..3)],
                ..Limits::default()
            };
            let mut stream = Stream::default();
            let mut model: BTreeMap<EntryId, Vec<Vec<u8>>> = BTreeMap::new();
            for n in 1..600 {
                match rng.u8(..10) {
                    0 | 1 => {
                        let n = id(rng.u64(1..n + 1));
                        assert_eq!(stream.remove(n), model.remove(&n).is_some(), "seed {seed}");
                    }
                    2 if rng.u8(..6) == 0 => {
                        let keep = rng.u64(..model.len() as u64 + 1);
                        let threshold = Threshold::MaxLen(keep);
                        let removed = stream.trim(Trim {
                            threshold,
                            approximate: None,
                        });
                        assert_eq!(removed, model.len() as u64 - keep);
                        while model.len() as u64 > keep {
                            model.pop_first();
                        }
                    }
                    3 if rng.u8(..6) == 0 => {
                        let min = id(rng.u64(..n));
                        stream.trim(Trim {
                            threshold: Threshold::MinId(min),
                            approximate: None,
                        });
                        model.retain(|&id, _| id >= min);
                    }
                    _ => {
                        let value = rng.u16(..).to_string().into_bytes();
                        let mut fields: Vec<&[u8]> = vec![b"a", &value];
                        if rng.u8(..3) == 0 {
                            fields.extend([&b"b"[..], b"x"]);
                        }
                        stream.append(id(n), &fields, &limits);
                        model.insert(id(n), fields.iter().map(|text| text.to_vec()).collect());
                    }
                }
                assert_eq!(stream.len(), model.len() as u64);
                let first = model.keys().next().copied().unwrap_or_default();
                assert_eq!(stream.first_id, first, "seed {seed}");
            }
            let all: Vec<_> = model.clone().into_iter().collect();
            assert_eq!(contents(stream.range(EntryId::MIN, EntryId::MAX)), all);
            for _ in 0..50 {
                let (a, b) = (id(rng.u64(..600)), id(rng.u64(..600)));
                let inside = all.iter().filter(|(id, _)| (a..=b).contains(id)).cloned();
                let inside: Vec<_> = inside.collect();
                assert_eq!(contents(stream.range(a, b)), inside, "seed {seed}");
                let back: Vec<_> = inside.into_iter().rev().collect();
                assert_eq!(contents(stream.range_back(a, b)), back, "seed {seed}");
            }
            let bytes: usize = stream.nodes.iter().map(|(_, node)| node.bytes()).sum();
            assert_eq!(stream.node_bytes, bytes);
        }
    }

    /// The same as a stream of which nothing is compressed, under deletions and trims.
    #[test]
    fn the_past_of_a_stream_is_compressed() {
        let limits = Limits {
            stream_node_max_entries: 100,
            ..Limits::default()
        };
        let mut rng = fastrand::Rng::with_seed(1);
        let (mut stream, mut raw) = (Stream::default(), Stream::default());
        let is_closed = |stream: &Stream| {
            let closed = |(_, node): &(EntryId, &Node)| matches!(node, Node::Closed(_));
            stream.nodes.iter().filter(closed).count()
        };
        for n in 1..=4000 {
            let value = format!("{}", n % 77);
            let fields: [&[u8]; 4] = [b"sensor", b"7", b"value", value.as_bytes()];
            stream.append(id(n), &fields, &limits);
            raw.append(id(n), &fields, &limits);
            raw.nodes
                .before_last_mut(OPEN_NODES)
                .map(|node| node.open().len());
        }
        raw.node_bytes = raw.nodes.iter().map(|(_, node)| node.bytes()).sum();
        assert_eq!((is_closed(&stream), is_closed(&raw)), (24, 0));
        assert!(stream.node_bytes < raw.node_bytes * 2 / 3);
        for step in 0..60 {
            let min = rng.u64(1..4000);
            match step % 6 {
                0..4 => {
                    let id = id(min);
                    assert_eq!(stream.remove(id), raw.remove(id));
                }
                4 => {
                    let threshold = Threshold::MaxLen(stream.len() - rng.u64(1..40));
                    let approximate = None;
                    let trim = Trim {
                        threshold,
                        approximate,
                    };
                    assert_eq!(stream.trim(trim), raw.trim(trim));
                }
                _ => {
                    let first = stream.first_id.ms;
                    let trim = Trim {
                        threshold: Threshold::MinId(id(first + rng.u64(1..150))),
                        approximate: Some(100),
                    };
                    assert_eq!(stream.trim(trim), raw.trim(trim));
                }
            }
            let (from, to) = (id(min), id(min + 300));
            assert_eq!(
                contents(stream.range(from, to)),
                contents(raw.range(from, to))
            );
            let back = contents(stream.range_back(from, to));
            assert_eq!(back, contents(raw.range_back(from, to)));
            assert_eq!(stream.get(from).is_some(), raw.get(from).is_some());
            assert_eq!((stream.len(), stream.first_id), (raw.len(), raw.first_id));
            let bytes: usize = stream.nodes.iter().map(|(_, node)| node.bytes()).sum();
            assert_eq!(stream.node_bytes, bytes);
        }
        assert!(is_closed(&stream) > 0, "some of the past is left");
        // What is behind the last node that was compressed goes, and entries join that one again.
        let is_it = |(_, node): &(EntryId, &Node)| matches!(node, Node::Closed(_));
        let last_closed = stream.nodes.iter().rfind(is_it);
        let from = last_closed.map(|(master, _)| master).unwrap_or_default();
        let tail: Vec<EntryId> = stream
            .range(from, EntryId::MAX)
            .skip(60)
            .map(|it| it.id)
            .collect();
        for id in tail {
            assert!(stream.remove(id) && raw.remove(id));
        }
        for n in 4001..4100 {
            stream.append(id(n), &[b"a", b"b"], &limits);
            raw.append(id(n), &[b"a", b"b"], &limits);
        }
        let all = contents(stream.range(EntryId::MIN, EntryId::MAX));
        assert_eq!(all, contents(raw.range(EntryId::MIN, EntryId::MAX)));
        assert!(
            stream
                .nodes
                .iter()
                .map(|(id, _)| id)
                .eq(raw.nodes.iter().map(|(id, _)| id))
        );
    }

    #[test]
    fn approximate_trims_take_whole_nodes() {
        let limits = Limits {
            stream_node_max_entries: 10,
            ..Limits::default()
        };
        let mut stream = Stream::default();
        (1..=100).for_each(|n| stream.append(id(n), &[b"f", b"v"], &limits));
        let trim = |stream: &mut Stream, max, limit| {
            stream.trim(Trim {
                threshold: Threshold::MaxLen(max),
                approximate: Some(limit),
            })
        };
        assert_eq!(trim(&mut stream, 75, 1000), 20);
        assert_eq!(trim(&mut stream, 0, 30), 30);
        assert_eq!(stream.len(), 50);
    }
}
