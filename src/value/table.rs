//! The hash table under large sets and hashes: members in a dense array, found through a
//! dictionary that grows a bucket at a time.
//!
//! Dense means that a random index is a random member, each equally likely, and that walking all
//! of them walks memory in order. Removing one moves the last into its place. The array stands in
//! chunks, so growing copies at most one small chunk.

use std::ops::Range;

use ahash::RandomState;

use super::Lookup;
use super::dict::{Dict, Handle};
use super::fetch::{AHEAD, fetch, fetch_front};

const CHUNK: usize = 1024;

/// What a table holds: something found by its bytes.
pub trait Member: Clone {
    fn name(&self) -> &[u8];
    /// All that stands in the member's allocation.
    fn bytes(&self) -> &[u8];
    /// Bytes beside the member's own place.
    fn memory_bytes(&self) -> usize;
}

impl Member for Box<[u8]> {
    fn name(&self) -> &[u8] {
        self
    }

    fn bytes(&self) -> &[u8] {
        self
    }

    fn memory_bytes(&self) -> usize {
        self.len().next_multiple_of(8)
    }
}

#[derive(Clone, Debug)]
struct Dense<T> {
    chunks: Vec<Vec<T>>,
    len: usize,
}

impl<T> Dense<T> {
    fn get(&self, at: usize) -> &T {
        &self.chunks[at / CHUNK][at % CHUNK]
    }

    fn get_mut(&mut self, at: usize) -> &mut T {
        &mut self.chunks[at / CHUNK][at % CHUNK]
    }

    fn push(&mut self, item: T) {
        if self.len == self.chunks.len() * CHUNK {
            // The first chunk starts small: most tables do.
            let capacity = if self.len == 0 { 4 } else { CHUNK };
            self.chunks.push(Vec::with_capacity(capacity));
        }
        let chunk = &mut self.chunks[self.len / CHUNK];
        chunk.push(item);
        self.len += 1;
    }

    fn swap_remove(&mut self, at: usize) -> Option<T> {
        let last = self.chunks.last_mut()?.pop()?;
        self.len -= 1;
        if self.chunks.last().is_some_and(Vec::is_empty) {
            self.chunks.pop();
        }
        if at == self.len {
            return Some(last);
        }
        Some(std::mem::replace(self.get_mut(at), last))
    }
}

/// Members by name.
#[derive(Clone, Debug)]
pub struct Table<T> {
    dict: Dict,
    items: Dense<T>,
    hasher: RandomState,
    /// Bytes of the members beside their places.
    item_bytes: usize,
}

fn handle(at: usize) -> Handle {
    Handle::from_bits(at as u64 + 1).expect("never 0")
}

fn index(handle: Handle) -> usize {
    handle.to_bits() as usize - 1
}

impl<T: Member> Lookup for Table<T> {
    fn hash(&self, name: &[u8]) -> u64 {
        self.hasher.hash_one(name)
    }

    fn dict(&self) -> &Dict {
        &self.dict
    }

    fn fetch_place(&self, handle: Handle) {
        fetch(self.items.get(index(handle)));
    }

    fn member(&self, handle: Handle) -> &[u8] {
        self.items.get(index(handle)).bytes()
    }
}

impl<T: Member> Table<T> {
    /// An empty table. `seed` keeps outsiders from choosing names that collide.
    pub fn new(seed: u64) -> Table<T> {
        Table {
            dict: Dict::default(),
            items: Dense {
                chunks: Vec::new(),
                len: 0,
            },
            hasher: RandomState::with_seeds(seed, !seed, seed.rotate_left(21), 0x5bd1_e995),
            item_bytes: 0,
        }
    }

    pub fn len(&self) -> usize {
        self.items.len
    }

    pub fn is_empty(&self) -> bool {
        self.items.len == 0
    }

    /// Bytes of the whole table, about, in constant time.
    pub fn memory_bytes(&self) -> usize {
        self.dict.memory_bytes() + self.items.len * size_of::<T>() + self.item_bytes
    }

    /// Buckets and overflow buckets, for DEBUG HTSTATS-KEY.
    pub fn shape(&self) -> (usize, usize) {
        self.dict.shape()
    }

    pub fn find(&self, name: &[u8]) -> Option<usize> {
        self.find_hashed(self.hash(name), name)
    }

    fn find_hashed(&self, hash: u64, name: &[u8]) -> Option<usize> {
        let is_it = |handle| self.items.get(index(handle)).name() == name;
        self.dict.find(hash, is_it).map(|(_, handle)| index(handle))
    }

    /// The member at an index below [`Table::len`].
    pub fn get(&self, at: usize) -> &T {
        self.items.get(at)
    }

    pub fn get_named(&self, name: &[u8]) -> Option<&T> {
        self.find(name).map(|at| self.items.get(at))
    }

    /// Replaces a member by another of the same name.
    pub fn replace(&mut self, at: usize, item: T) {
        let old = self.items.get_mut(at);
        debug_assert!(old.name() == item.name());
        self.item_bytes = self.item_bytes + item.memory_bytes() - old.memory_bytes();
        *old = item;
    }

    /// The index of a member; where there is none, `make` makes it. Tells whether it did.
    pub fn find_or_push(&mut self, name: &[u8], make: impl FnOnce() -> T) -> (usize, bool) {
        let hash = self.hash(name);
        match self.find_hashed(hash, name) {
            Some(at) => (at, false),
            None => {
                self.push_hashed(hash, make());
                (self.items.len - 1, true)
            }
        }
    }

    /// Adds a member that is not there yet.
    pub fn push(&mut self, item: T) {
        self.push_hashed(self.hash(item.name()), item);
    }

    fn push_hashed(&mut self, hash: u64, item: T) {
        let at = self.items.len;
        self.item_bytes += item.memory_bytes();
        self.items.push(item);
        let (items, hasher) = (&self.items, &self.hasher);
        self.dict.insert(hash, handle(at), |handle| {
            hasher.hash_one(items.get(index(handle)).name())
        });
    }

    pub fn remove(&mut self, name: &[u8]) -> Option<T> {
        let hash = self.hasher.hash_one(name);
        let is_it = |handle| self.items.get(index(handle)).name() == name;
        let (position, found) = self.dict.find(hash, is_it)?;
        self.dict.remove(hash, position);
        self.take(index(found))
    }

    /// Removes the member at an index.
    pub fn remove_at(&mut self, at: usize) -> Option<T> {
        let hash = self.hasher.hash_one(self.items.get(at).name());
        let (position, _) = self.dict.find(hash, |other| index(other) == at)?;
        self.dict.remove(hash, position);
        self.take(at)
    }

    /// Takes a member that the dictionary no longer refers to out of the array.
    fn take(&mut self, at: usize) -> Option<T> {
        let last = self.items.len - 1;
        if at != last {
            let hash = self.hasher.hash_one(self.items.get(last).name());
            if let Some((position, _)) = self.dict.find(hash, |other| index(other) == last) {
                self.dict.replace(position, handle(at));
            }
        }
        let item = self.items.swap_remove(at)?;
        self.item_bytes -= item.memory_bytes();
        Some(item)
    }

    /// Frees some members of a table that is thrown away; true while more are left.
    pub fn free_slice(&mut self, members: usize) -> bool {
        for _ in 0..members.div_ceil(CHUNK) {
            if let Some(chunk) = self.items.chunks.pop() {
                self.items.len -= chunk.len();
            }
        }
        // Nobody looks for members any more: a segment of the dictionary is of more than these.
        self.dict.drop_segment() || self.items.len > 0
    }

    pub fn iter(&self) -> impl ExactSizeIterator<Item = &T> {
        self.range(0..self.items.len)
    }

    /// The members at these indices. Each is asked for from memory before it is its turn: one by one,
    /// that is what walking a large table takes.
    pub fn range(&self, range: Range<usize>) -> impl ExactSizeIterator<Item = &T> {
        let end = range.end;
        range.map(move |at| {
            if at + AHEAD < end {
                fetch_front(self.items.get(at + AHEAD).bytes());
            }
            self.items.get(at)
        })
    }

    /// Visits the members at `cursor`; returns the next cursor, 0 at the end.
    pub fn scan(&self, cursor: u64, mut visit: impl FnMut(&T)) -> u64 {
        self.dict
            .scan(cursor, |handle| visit(self.items.get(index(handle))))
    }

    /// A random member, each equally likely.
    ///
    /// # Panics
    /// When the table is empty.
    pub fn random(&self, rng: &mut fastrand::Rng) -> &T {
        self.items.get(rng.usize(..self.items.len))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn a_table_is_a_set() {
        let seed = 5;
        let mut rng = fastrand::Rng::with_seed(seed);
        let mut table: Table<Box<[u8]>> = Table::new(seed);
        let mut model: BTreeSet<Box<[u8]>> = BTreeSet::new();
        for round in 0..60_000 {
            let name: Box<[u8]> = rng.u16(..5000).to_string().into_bytes().into();
            let grows = round < 30_000;
            if rng.bool() == grows || rng.u8(..4) == 0 {
                if model.insert(name.clone()) {
                    table.push(name);
                }
            } else if rng.bool() && !model.is_empty() {
                let name = table.random(&mut rng).clone();
                let at = table.find(&name).expect("it was just seen");
                assert_eq!(table.remove_at(at), Some(name.clone()));
                assert!(model.remove(&name), "seed {seed}");
            } else {
                assert_eq!(table.remove(&name).is_some(), model.remove(&name));
            }
            assert_eq!(table.len(), model.len(), "seed {seed}");
        }
        let all: BTreeSet<_> = table.iter().cloned().collect();
        assert_eq!(all, model, "seed {seed}");
        assert!(model.iter().all(|name| table.find(name).is_some()));
        let (mut cursor, mut seen) = (0, BTreeSet::new());
        loop {
            cursor = table.scan(cursor, |name| {
                seen.insert(name.clone());
            });
            if cursor == 0 {
                break;
            }
        }
        assert_eq!(seen, model);
        let bytes: usize = model.iter().map(Member::memory_bytes).sum();
        assert_eq!(table.item_bytes, bytes);
    }
}
