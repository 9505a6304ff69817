//! The dictionary: linear hashing over buckets of one cache line.
//!
//! ```text
//! index:   h mod 2^(level+1) if that bucket exists already, else h mod 2^level
//! growth:  the bucket at `split` gives half of its entries to a new one at the end
//! ```
//! Growing and shrinking move one bucket at a time, so no insert ever pays for a rehash, and the
//! load stays constant at every size (Litwin, Linear Hashing, 1980).
//!
//! A bucket covers all hashes that share its low bits. Read with the bits reversed these form
//! intervals, and a SCAN cursor is a position between two of them: splitting or merging buckets
//! never moves an entry across it.

mod bucket;

use smallvec::SmallVec;

use super::fetch::fetch;
use bucket::{Bucket, Buckets, EMPTY, SLOTS};

/// What a dictionary refers to: 40 bits, never 0, whose meaning is its owner's affair.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Handle(u64);

impl Handle {
    /// The handle in the low 40 bits.
    pub fn to_bits(self) -> u64 {
        self.0
    }

    pub fn from_bits(bits: u64) -> Option<Handle> {
        (bits != 0).then_some(Handle(bits))
    }
}

/// Average entries per bucket above which one is split.
const GROW_LOAD: usize = 8;
/// Average entries per bucket below which the last is merged away; far from the other, so that
/// neighbouring inserts and deletes do not split and merge in turn.
const SHRINK_LOAD: usize = 3;

/// An index from hashes to entries.
#[derive(Clone, Debug)]
pub struct Dict {
    buckets: Buckets,
    overflow: Buckets,
    /// Freed overflow buckets: index plus one of the first, linked by `next`.
    free_overflow: u32,
    overflow_used: usize,
    level: u32,
    split: usize,
    len: usize,
}

/// What a bucket says of a hash at first sight.
#[derive(Clone, Copy, Debug)]
pub enum Likely {
    Handle(Handle),
    /// If anywhere, then in what overflowed from the bucket.
    Far,
    Missing,
}

/// Where an entry's handle stands; valid until the next change of the dictionary.
#[derive(Clone, Copy, Debug)]
pub struct Position {
    bucket: usize,
    in_overflow: bool,
    slot: usize,
}

fn fingerprint(hash: u64) -> u8 {
    ((hash >> 56) as u8).max(1)
}

impl Default for Dict {
    fn default() -> Dict {
        let mut buckets = Buckets::default();
        buckets.push(EMPTY);
        Dict {
            buckets,
            overflow: Buckets::default(),
            free_overflow: 0,
            overflow_used: 0,
            level: 0,
            split: 0,
            len: 0,
        }
    }
}

impl Dict {
    pub fn len(&self) -> usize {
        self.len
    }

    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    pub fn memory_bytes(&self) -> usize {
        self.buckets.memory_bytes() + self.overflow.memory_bytes()
    }

    /// Buckets, overflow buckets in use, for DEBUG HTSTATS.
    pub fn shape(&self) -> (usize, usize) {
        (self.buckets.len, self.overflow_used)
    }

    fn bucket_of(&self, hash: u64) -> usize {
        let wide = hash as usize & ((2 << self.level) - 1);
        if wide < self.buckets.len {
            wide
        } else {
            hash as usize & ((1 << self.level) - 1)
        }
    }

    fn at(&self, bucket: usize, in_overflow: bool) -> &Bucket {
        if in_overflow {
            self.overflow.get(bucket)
        } else {
            self.buckets.get(bucket)
        }
    }

    fn at_mut(&mut self, bucket: usize, in_overflow: bool) -> &mut Bucket {
        if in_overflow {
            self.overflow.get_mut(bucket)
        } else {
            self.buckets.get_mut(bucket)
        }
    }

    /// The entry with this hash for which `is_key` holds.
    pub fn find(&self, hash: u64, is_key: impl Fn(Handle) -> bool) -> Option<(Position, Handle)> {
        let (position, handle, ()) = self.find_map(hash, |handle| is_key(handle).then_some(()))?;
        Some((position, handle))
    }

    /// The entry with this hash of which `look` says something, with what it says.
    #[inline]
    pub fn find_map<T>(
        &self,
        hash: u64,
        look: impl Fn(Handle) -> Option<T>,
    ) -> Option<(Position, Handle, T)> {
        let fingerprint = fingerprint(hash);
        let (mut at, mut in_overflow) = (self.bucket_of(hash), false);
        loop {
            let bucket = self.at(at, in_overflow);
            let mut candidates = bucket.candidates(fingerprint);
            while candidates != 0 {
                let slot = candidates.trailing_zeros() as usize / 8;
                candidates &= candidates - 1;
                if bucket.fingerprint(slot) != fingerprint {
                    continue;
                }
                let handle = bucket.handle(slot);
                if let Some(seen) = look(handle) {
                    let position = Position {
                        bucket: at,
                        in_overflow,
                        slot,
                    };
                    return Some((position, handle, seen));
                }
            }
            match bucket.next() {
                0 => return None,
                next => (at, in_overflow) = (next as usize - 1, true),
            }
        }
    }

    /// Asks memory for the bucket where a hash belongs.
    #[inline]
    pub fn fetch_bucket(&self, hash: u64) {
        fetch(self.buckets.get(self.bucket_of(hash)));
    }

    /// A handle that may well be the one with this hash, by its bucket alone. Where there is none,
    /// memory is asked for what overflowed from the bucket.
    #[inline]
    pub fn likely_near(&self, hash: u64) -> Likely {
        let bucket = self.buckets.get(self.bucket_of(hash));
        match (bucket.likely(fingerprint(hash)), bucket.next()) {
            (Some(handle), _) => Likely::Handle(handle),
            (None, 0) => Likely::Missing,
            (None, next) => {
                fetch(self.overflow.get(next as usize - 1));
                Likely::Far
            }
        }
    }

    /// A handle that may well be the one with this hash, in what overflowed from its bucket first.
    pub fn likely_far(&self, hash: u64) -> Option<Handle> {
        match self.buckets.get(self.bucket_of(hash)).next() {
            0 => None,
            next => self
                .overflow
                .get(next as usize - 1)
                .likely(fingerprint(hash)),
        }
    }

    /// Puts another handle in the place of an entry's: it moved.
    pub fn replace(&mut self, position: Position, handle: Handle) {
        let bucket = self.at_mut(position.bucket, position.in_overflow);
        let fingerprint = bucket.fingerprint(position.slot);
        bucket.put(position.slot, fingerprint, handle);
    }

    /// Makes room for so many entries at once, if there are none yet: they come without splits.
    pub fn reserve(&mut self, entries: usize) {
        if self.len > 0 {
            return;
        }
        while self.buckets.len < entries / GROW_LOAD {
            self.add_bucket();
        }
    }

    /// Adds an entry that is not there yet. `hash_of` rehashes entries of the bucket that splits.
    pub fn insert(&mut self, hash: u64, handle: Handle, hash_of: impl Fn(Handle) -> u64) {
        let bucket = self.bucket_of(hash);
        self.add(bucket, fingerprint(hash), handle);
        self.len += 1;
        if self.len > self.buckets.len * GROW_LOAD {
            self.split(hash_of);
        }
    }

    fn add(&mut self, bucket: usize, fingerprint: u8, handle: Handle) {
        let (mut at, mut in_overflow) = (bucket, false);
        loop {
            let here = self.at_mut(at, in_overflow);
            if let Some(slot) = here.free_slot() {
                here.put(slot, fingerprint, handle);
                return;
            }
            match here.next() {
                0 => break,
                next => (at, in_overflow) = (next as usize - 1, true),
            }
        }
        let fresh = self.new_overflow();
        self.overflow.get_mut(fresh).put(0, fingerprint, handle);
        self.at_mut(at, in_overflow).set_next(fresh as u32 + 1);
    }

    fn new_overflow(&mut self) -> usize {
        self.overflow_used += 1;
        if self.free_overflow == 0 {
            self.overflow.push(EMPTY);
            return self.overflow.len - 1;
        }
        let at = self.free_overflow as usize - 1;
        let bucket = self.overflow.get_mut(at);
        self.free_overflow = bucket.next();
        *bucket = EMPTY;
        at
    }

    fn free_overflow(&mut self, at: usize) {
        self.overflow_used -= 1;
        if self.overflow_used == 0 {
            self.overflow = Buckets::default();
            self.free_overflow = 0;
            return;
        }
        let mut emptied = EMPTY;
        emptied.set_next(self.free_overflow);
        *self.overflow.get_mut(at) = emptied;
        self.free_overflow = at as u32 + 1;
    }

    /// Removes an entry.
    pub fn remove(&mut self, hash: u64, position: Position) {
        self.at_mut(position.bucket, position.in_overflow)
            .clear(position.slot);
        self.fill_gap(self.bucket_of(hash), position);
        self.len -= 1;
        if self.buckets.len > 1 && self.len < self.buckets.len * SHRINK_LOAD {
            self.merge();
        }
    }

    /// Keeps chains short: the last bucket of the chain gives an entry for the gap.
    fn fill_gap(&mut self, home: usize, gap: Position) {
        let (mut before, mut before_overflow) = (home, false);
        let mut tail = match self.buckets.get(home).next() {
            0 => return,
            next => next as usize - 1,
        };
        loop {
            match self.overflow.get(tail).next() {
                0 => break,
                next => (before, before_overflow, tail) = (tail, true, next as usize - 1),
            }
        }
        let in_tail = gap.in_overflow && gap.bucket == tail;
        let last = self.overflow.get(tail).used_slots().last();
        if let Some(slot) = last
            && !in_tail
        {
            let from = self.overflow.get(tail);
            let (fingerprint, handle) = (from.fingerprint(slot), from.handle(slot));
            self.at_mut(gap.bucket, gap.in_overflow)
                .put(gap.slot, fingerprint, handle);
            self.overflow.get_mut(tail).clear(slot);
        }
        if self.overflow.get(tail).used_slots().next().is_none() {
            self.at_mut(before, before_overflow).set_next(0);
            self.free_overflow(tail);
        }
    }

    /// Empties a bucket and its overflow.
    fn take_all(&mut self, bucket: usize) -> SmallVec<[(u8, Handle); 2 * SLOTS]> {
        let mut entries = SmallVec::new();
        let first = std::mem::replace(self.buckets.get_mut(bucket), EMPTY);
        entries.extend(first.entries());
        let mut next = first.next();
        while next != 0 {
            let at = next as usize - 1;
            let here = *self.overflow.get(at);
            entries.extend(here.entries());
            next = here.next();
            self.free_overflow(at);
        }
        entries
    }

    /// Adds the bucket that shares the entries of the one at `split`.
    fn add_bucket(&mut self) {
        self.buckets.push(EMPTY);
        self.split += 1;
        if self.split == 1 << self.level {
            self.level += 1;
            self.split = 0;
        }
    }

    fn split(&mut self, hash_of: impl Fn(Handle) -> u64) {
        let from = self.split;
        let entries = self.take_all(from);
        self.add_bucket();
        // Hashing waits for memory, for all entries together if nothing else happens meanwhile.
        let hashes: SmallVec<[u64; 2 * SLOTS]> =
            entries.iter().map(|&(_, handle)| hash_of(handle)).collect();
        for ((fingerprint, handle), hash) in entries.into_iter().zip(hashes) {
            self.add(self.bucket_of(hash), fingerprint, handle);
        }
    }

    fn merge(&mut self) {
        if self.split == 0 {
            self.level -= 1;
            self.split = 1 << self.level;
        }
        self.split -= 1;
        let into = self.split;
        let last = self.buckets.len - 1;
        let entries = self.take_all(last);
        self.buckets.pop();
        for (fingerprint, handle) in entries {
            self.add(into, fingerprint, handle);
        }
    }

    fn chain(&self, bucket: usize, mut visit: impl FnMut(Handle)) {
        let mut here = self.buckets.get(bucket);
        loop {
            here.used_slots().for_each(|slot| visit(here.handle(slot)));
            match here.next() {
                0 => return,
                next => here = self.overflow.get(next as usize - 1),
            }
        }
    }

    /// Visits the entries of the bucket at `cursor` and returns the next cursor; 0 is both the
    /// beginning and the end. Cursors stay below twice the number of buckets.
    pub fn scan(&self, cursor: u64, visit: impl FnMut(Handle)) -> u64 {
        let bucket = self.bucket_of(cursor);
        self.chain(bucket, visit);
        let is_split = bucket < self.split || bucket >= 1 << self.level;
        let mask = if is_split {
            (2u64 << self.level) - 1
        } else {
            (1u64 << self.level) - 1
        };
        // The end of the bucket's interval: increment with the bits reversed, carries going down.
        (cursor | !mask)
            .reverse_bits()
            .wrapping_add(1)
            .reverse_bits()
    }

    /// All entries.
    pub fn for_each(&self, mut visit: impl FnMut(Handle)) {
        (0..self.buckets.len).for_each(|bucket| self.chain(bucket, &mut visit));
    }

    /// The entry at a place of a bucket's chain, if there is one.
    fn in_chain(&self, bucket: usize, nth: usize) -> Option<Handle> {
        let mut here = self.buckets.get(bucket);
        for _ in 0..nth / SLOTS {
            let next = here.next().checked_sub(1)?;
            here = self.overflow.get(next as usize);
        }
        let slot = nth % SLOTS;
        here.is_used(slot).then(|| here.handle(slot))
    }

    /// A random entry, each with the same probability.
    pub fn random(&self, rng: &mut fastrand::Rng) -> Option<Handle> {
        if self.is_empty() {
            return None;
        }
        // Every place of every bucket is as likely, of those that overflowed too; empty places are
        // rejected. At the loads kept above that takes two tries on average.
        let buckets = self.buckets.len;
        for _ in 0..32 {
            let here = match rng.usize(..buckets + self.overflow.len) {
                at if at < buckets => self.buckets.get(at),
                at => self.overflow.get(at - buckets),
            };
            let slot = rng.usize(..SLOTS);
            if here.is_used(slot) {
                return Some(here.handle(slot));
            }
        }
        // A larger table has left overflow buckets behind, which are free. So every place of chains as
        // long as they get.
        const CHAIN_MAX: usize = 4;
        for _ in 0..256 {
            let at = rng.usize(..buckets);
            let nth = rng.usize(..CHAIN_MAX * SLOTS);
            if let Some(handle) = self.in_chain(at, nth) {
                return Some(handle);
            }
        }
        let start = rng.usize(..buckets);
        let mut near: SmallVec<[Handle; 2 * SLOTS]> = SmallVec::new();
        for step in 0..buckets {
            self.chain((start + step) % buckets, |handle| near.push(handle));
            if !near.is_empty() {
                break;
            }
        }
        rng.choice(near)
    }

    /// Frees one segment of a dictionary whose entries nobody needs. Returns whether there are more.
    pub fn drop_segment(&mut self) -> bool {
        self.len = 0;
        self.overflow.drop_segment() || self.buckets.drop_segment()
    }

    /// Takes the entries out of the last bucket and drops the bucket: how a dictionary that was
    /// swapped out is freed in slices. `None` once there are no buckets.
    pub fn dismantle(&mut self) -> Option<Vec<Handle>> {
        let last = self.buckets.len.checked_sub(1)?;
        let entries = self.take_all(last);
        self.buckets.pop();
        self.len -= entries.len();
        Some(entries.into_iter().map(|(_, handle)| handle).collect())
    }
}

#[cfg(test)]
mod tests;
