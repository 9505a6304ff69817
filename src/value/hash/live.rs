//! What is to be seen of a hash.

use super::super::listpack::{Item, Pos};
use super::{Fields, Hash};

/// The fields of a hash that are there for somebody. Those whose time has come are not, though their
/// memory may be: a million that end at once are deleted in slices, and a replica waits for its master's
/// word.
#[derive(Clone, Copy, Debug)]
pub struct Live<'a> {
    hash: &'a Hash,
    /// Fields with deadlines up to here are not there, unix milliseconds.
    ended_ms: i64,
    /// Whether there are such.
    some_ended: bool,
}

impl Hash {
    /// The fields with no deadline up to `ended_ms`.
    pub fn live(&self, ended_ms: i64) -> Live<'_> {
        let first_ms = self.next_deadline();
        Live {
            hash: self,
            ended_ms,
            some_ended: first_ms.is_some_and(|at_ms| at_ms <= ended_ms),
        }
    }

    /// Whether a field has a deadline up to `ended_ms`.
    pub fn has_ended(&self, field: &[u8], ended_ms: i64) -> bool {
        self.deadline(field).is_some_and(|at_ms| at_ms <= ended_ms)
    }

    /// All fields, also those that are due.
    pub fn whole(&self) -> Live<'_> {
        self.live(i64::MIN)
    }
}

impl<'a> Live<'a> {
    pub fn len(&self) -> usize {
        let deadlines = self.hash.deadlines.as_ref();
        let ended = deadlines.filter(|_| self.some_ended);
        self.hash.len() - ended.map_or(0, |all| all.count_until(self.ended_ms))
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn is_there(&self, field: &[u8]) -> bool {
        !self.some_ended || !self.hash.has_ended(field, self.ended_ms)
    }

    fn is_item_there(&self, field: Item) -> bool {
        !self.some_ended || self.is_there(field.bytes(&mut itoa::Buffer::new()))
    }

    pub fn get(&self, field: &[u8]) -> Option<Item<'a>> {
        let value = match &self.hash.fields {
            Fields::Listpack(pack) => {
                let pos: Pos = pack.find(pack.first(), field, 2)?;
                pack.get(pack.next(pos)?)
            }
            Fields::Table(table) => Item::Str(table.get_named(field)?.value()),
        };
        self.is_there(field).then_some(value)
    }

    pub fn contains(&self, field: &[u8]) -> bool {
        self.get(field).is_some()
    }

    /// When a field that is there expires, unix milliseconds.
    pub fn deadline(&self, field: &[u8]) -> Option<i64> {
        let at_ms = self.hash.deadline(field)?;
        (at_ms > self.ended_ms).then_some(at_ms)
    }

    /// Fields with their values.
    pub fn iter(self) -> impl Iterator<Item = (Item<'a>, Item<'a>)> {
        let all = self.hash.iter();
        all.filter(move |(field, _)| self.is_item_there(*field))
    }

    /// A random field, each equally likely; `None` if there is none.
    pub fn random(&self, rng: &mut fastrand::Rng) -> Option<(Item<'a>, Item<'a>)> {
        /// Beyond these few are left of many.
        const TRIES: usize = 64;
        if self.is_empty() {
            return None;
        }
        for _ in 0..TRIES {
            let chosen = self.hash.at(rng.usize(..self.hash.len()));
            if self.is_item_there(chosen.0) {
                return Some(chosen);
            }
        }
        self.iter().nth(rng.usize(..self.len()))
    }

    /// The fields at these indices below [`Live::len`], in no particular order of the hash.
    pub fn pick(&self, indices: &[usize]) -> Vec<(Item<'a>, Item<'a>)> {
        if !self.some_ended {
            return indices.iter().map(|&at| self.hash.at(at)).collect();
        }
        let all: Vec<_> = self.iter().collect();
        indices.iter().map(|&at| all[at]).collect()
    }

    /// Visits fields from a cursor on; compact hashes all at once, as Redis does.
    pub fn scan(&self, cursor: u64, mut visit: impl FnMut(Item, Item)) -> u64 {
        match &self.hash.fields {
            Fields::Table(table) => table.scan(cursor, |pair| {
                let (field, value) = pair.items();
                if self.is_item_there(field) {
                    visit(field, value);
                }
            }),
            Fields::Listpack(_) => {
                self.iter().for_each(|(field, value)| visit(field, value));
                0
            }
        }
    }
}
