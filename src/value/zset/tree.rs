//! A sorted set that is no longer small: members by name in a dictionary, and by score in an
//! order-statistics tree. Both refer to an entry by its number.

use std::cmp::Ordering;

use ahash::RandomState;

use crate::value::Lookup;
use crate::value::dict::{Dict, Handle};
use crate::value::fetch::{ahead, fetch_front};
use crate::value::listpack::Item;
use crate::value::ranked::{Order, Ranked};
use crate::value::slab::Slab;

#[derive(Clone, Debug)]
struct Entry {
    score: f64,
    name: Box<[u8]>,
}

#[derive(Clone, Debug)]
pub(super) struct Tree {
    dict: Dict,
    entries: Slab<Entry>,
    ranked: Ranked,
    hasher: RandomState,
    name_bytes: usize,
}

/// Orders a name against members.
struct ByName<'a> {
    entries: &'a Slab<Entry>,
    name: &'a [u8],
}

impl Order for ByName<'_> {
    #[inline]
    fn order(&self, id: u32) -> Ordering {
        self.name.cmp(&self.entries.get(id).name)
    }

    #[inline]
    fn fetch(&self, id: u32) {
        self.entries.fetch(id);
    }
}

fn handle(id: u32) -> Handle {
    Handle::from_bits(u64::from(id) + 1).expect("never 0")
}

fn id_of(handle: Handle) -> u32 {
    (handle.to_bits() - 1) as u32
}

impl Lookup for Tree {
    fn hash(&self, name: &[u8]) -> u64 {
        self.hasher.hash_one(name)
    }

    fn dict(&self) -> &Dict {
        &self.dict
    }

    fn fetch_place(&self, handle: Handle) {
        self.entries.fetch(id_of(handle));
    }

    fn member(&self, handle: Handle) -> &[u8] {
        &self.entries.get(id_of(handle)).name
    }
}

impl Tree {
    pub(super) fn new(seed: u64) -> Tree {
        Tree {
            dict: Dict::default(),
            entries: Slab::default(),
            ranked: Ranked::default(),
            hasher: RandomState::with_seeds(seed, !seed, seed.rotate_left(33), 0x27d4_eb2f),
            name_bytes: 0,
        }
    }

    fn find(&self, name: &[u8]) -> Option<u32> {
        let is_it = |handle| *self.entries.get(id_of(handle)).name == *name;
        let found = self.dict.find(self.hasher.hash_one(name), is_it);
        found.map(|(_, handle)| id_of(handle))
    }

    pub(super) fn len(&self) -> usize {
        self.ranked.len()
    }

    pub(super) fn score(&self, name: &[u8]) -> Option<f64> {
        Some(self.entries.get(self.find(name)?).score)
    }

    /// Gives a member a score; returns the one it had.
    pub(super) fn set(&mut self, name: &[u8], score: f64) -> Option<f64> {
        let Some(id) = self.find(name) else {
            self.insert(name.into(), score);
            return None;
        };
        let old = self.entries.get(id).score;
        if old != score {
            self.set_score(id, score);
        }
        Some(old)
    }

    pub(super) fn insert(&mut self, name: Box<[u8]>, score: f64) {
        let hash = self.hasher.hash_one(&*name);
        self.name_bytes += name.len().next_multiple_of(8);
        let id = self.entries.insert(Entry { score, name });
        let (entries, hasher) = (&self.entries, &self.hasher);
        self.dict.insert(hash, handle(id), |handle| {
            hasher.hash_one(&*entries.get(id_of(handle)).name)
        });
        let name = &entries.get(id).name;
        self.ranked.insert(score, id, ByName { entries, name });
    }

    fn set_score(&mut self, id: u32, score: f64) {
        let entries = &self.entries;
        let Entry { score: old, name } = entries.get(id);
        self.ranked
            .rescore(*old, id, score, ByName { entries, name });
        self.entries.get_mut(id).score = score;
    }

    /// Removes what the tree no longer refers to.
    fn forget(&mut self, id: u32) -> f64 {
        let Entry { score, name } = self.entries.remove(id);
        let hash = self.hasher.hash_one(&*name);
        if let Some((position, _)) = self.dict.find(hash, |other| id_of(other) == id) {
            self.dict.remove(hash, position);
        }
        self.name_bytes -= name.len().next_multiple_of(8);
        score
    }

    pub(super) fn remove(&mut self, name: &[u8]) -> Option<f64> {
        let id = self.find(name)?;
        let score = self.entries.get(id).score;
        let entries = &self.entries;
        self.ranked.remove(score, id, ByName { entries, name });
        Some(self.forget(id))
    }

    fn item(&self, (score, id): (f64, u32)) -> (Item<'_>, f64) {
        (Item::Str(&self.entries.get(id).name), score)
    }

    /// Number of members before this one.
    pub(super) fn rank(&self, name: &[u8]) -> Option<usize> {
        let score = self.score(name)?;
        let entries = &self.entries;
        Some(self.ranked.rank(score, ByName { entries, name }))
    }

    /// The first rank whose member is not `before`.
    pub(super) fn partition_point(&self, before: impl Fn(Item, f64) -> bool) -> usize {
        let member = |id| Item::Str(&self.entries.get(id).name);
        self.ranked
            .partition_point(|score, id| before(member(id), score))
    }

    /// The member with a rank.
    pub(super) fn get(&self, rank: usize) -> Option<(Item<'_>, f64)> {
        self.ranked.get(rank).map(|found| self.item(found))
    }

    /// Members from a rank on.
    pub(super) fn iter_from(&self, rank: usize) -> impl Iterator<Item = (Item<'_>, f64)> {
        let found = self.ranked.iter_from(rank);
        found.map(|found| self.item(found))
    }

    /// Members from a rank on, downwards.
    pub(super) fn iter_back_from(&self, rank: usize) -> impl Iterator<Item = (Item<'_>, f64)> {
        let found = self.ranked.iter_back_from(rank);
        found.map(|found| self.item(found))
    }

    /// So many members from a rank on, downwards: for all or many of them. Each is asked for from memory
    /// before it is its turn.
    pub(super) fn range_back(
        &self,
        rank: usize,
        count: usize,
    ) -> impl Iterator<Item = (Item<'_>, f64)> {
        let found = self.ranked.iter_back_from(rank).take(count);
        let found = ahead(found, |&(_, id)| self.entries.fetch(id));
        let found = ahead(found, |&(_, id)| fetch_front(&self.entries.get(id).name));
        found.map(|found| self.item(found))
    }

    /// Removes the members with ranks `start..end`.
    pub(super) fn remove_range(&mut self, start: usize, end: usize) {
        let mut removed = Vec::new();
        self.ranked
            .remove_range(start, end, |_, id| removed.push(id));
        for id in removed {
            self.forget(id);
        }
    }

    /// Visits members from a cursor on.
    pub(super) fn scan(&self, cursor: u64, mut visit: impl FnMut(Item, f64)) -> u64 {
        self.dict.scan(cursor, |handle| {
            let Entry { name, score } = self.entries.get(id_of(handle));
            visit(Item::Str(name), *score);
        })
    }

    /// Frees some members of a tree that is thrown away; true while more are left.
    pub(super) fn free_slice(&mut self, members: usize) -> bool {
        /// Members of one segment of the slab.
        const SEGMENT: usize = 1024;
        let ranked = self.ranked.free_slice(members / 32);
        (0..members.div_ceil(SEGMENT)).any(|_| !self.entries.dismantle());
        let entries = self.entries.dismantle();
        let dict = self.dict.drop_segment();
        ranked || entries || dict
    }

    pub(super) fn memory_bytes(&self) -> usize {
        size_of::<Tree>()
            + self.dict.memory_bytes()
            + self.entries.used_bytes()
            + self.ranked.memory_bytes()
            + self.name_bytes
    }
}
