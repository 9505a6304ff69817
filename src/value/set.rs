//! Sets: an intset while all members are integers, a listpack while small, a table beyond.

use std::ops::Range;

use super::Lookup;
use super::intset::Intset;
use super::limits::Limits;
use super::listpack::{Item, Listpack};
use super::table::Table;
use crate::number::parse_i64;

/// How a set is stored.
#[derive(Clone, Debug)]
pub enum Set {
    Intset(Intset),
    Listpack(Listpack),
    Table(Table<Box<[u8]>>),
}

impl Set {
    /// An empty set that is about to get `first`.
    pub fn new(first: &[u8], limits: &Limits) -> Set {
        if parse_i64(first).is_some() {
            Set::Intset(Intset::default())
        } else if Self::fits_listpack(1, first, limits) {
            Set::Listpack(Listpack::new())
        } else {
            Set::Table(Table::new(limits.seed))
        }
    }

    fn fits_listpack(len: usize, value: &[u8], limits: &Limits) -> bool {
        len <= limits.set_max_listpack_entries && value.len() <= limits.set_max_listpack_value
    }

    /// In the words of OBJECT ENCODING.
    pub fn encoding(&self) -> &'static str {
        match self {
            Set::Intset(_) => "intset",
            Set::Listpack(_) => "listpack",
            Set::Table(_) => "hashtable",
        }
    }

    /// What finds members, beyond an intset and a listpack.
    pub fn lookup(&self) -> Option<&dyn Lookup> {
        match self {
            Set::Table(table) => Some(table),
            _ => None,
        }
    }

    pub fn len(&self) -> usize {
        match self {
            Set::Intset(ints) => ints.len(),
            Set::Listpack(pack) => pack.len(),
            Set::Table(table) => table.len(),
        }
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub fn memory_bytes(&self) -> usize {
        match self {
            Set::Intset(ints) => ints.memory_bytes(),
            Set::Listpack(pack) => pack.memory_bytes(),
            Set::Table(table) => table.memory_bytes(),
        }
    }

    pub fn contains(&self, member: &[u8]) -> bool {
        match self {
            Set::Intset(ints) => parse_i64(member).is_some_and(|n| ints.contains(n)),
            Set::Listpack(pack) => pack.find(pack.first(), member, 1).is_some(),
            Set::Table(table) => table.find(member).is_some(),
        }
    }

    /// Whether a member of another set is in this one.
    pub fn contains_item(&self, member: Item) -> bool {
        match (self, member) {
            (Set::Intset(ints), Item::Int(n)) => ints.contains(n),
            _ => self.contains(member.bytes(&mut itoa::Buffer::new())),
        }
    }

    /// Adds a member; returns whether it is new.
    pub fn add(&mut self, member: &[u8], limits: &Limits) -> bool {
        match self {
            Set::Intset(ints) => {
                if let Some(n) = parse_i64(member) {
                    let added = ints.insert(n);
                    // Redis: setTypeAdd keeps the offset of an intset's entries within bounds.
                    if added && ints.len() > limits.set_max_intset_entries.min(1 << 30) {
                        self.become_table(limits);
                    }
                    return added;
                }
                self.widen(member, limits);
                self.add(member, limits)
            }
            Set::Listpack(pack) => {
                if pack.find(pack.first(), member, 1).is_some() {
                    return false;
                }
                if Self::fits_listpack(pack.len() + 1, member, limits) {
                    pack.push(member);
                    return true;
                }
                self.become_table(limits);
                self.add(member, limits)
            }
            Set::Table(table) => table.find_or_push(member, || member.into()).1,
        }
    }

    /// Adds a member of another set.
    pub fn add_item(&mut self, member: Item, limits: &Limits) -> bool {
        self.add(member.bytes(&mut itoa::Buffer::new()), limits)
    }

    /// Leaves the intset for a member that is no integer.
    fn widen(&mut self, member: &[u8], limits: &Limits) {
        let Set::Intset(ints) = self else { return };
        let ends = [
            ints.len().checked_sub(1).map(|last| ints.get(last)),
            ints.iter().next(),
        ];
        let longest = ends.into_iter().flatten().map(|n| Item::Int(n).len()).max();
        let fits = Self::fits_listpack(ints.len() + 1, member, limits)
            && longest.unwrap_or(0) <= limits.set_max_listpack_value;
        if !fits {
            return self.become_table(limits);
        }
        let mut pack = Listpack::new();
        ints.iter().for_each(|n| pack.push_int(n));
        *self = Set::Listpack(pack);
    }

    fn become_table(&mut self, limits: &Limits) {
        let mut table = Table::new(limits.seed);
        self.for_each(|item| table.push(item.to_vec().into()));
        *self = Set::Table(table);
    }

    /// Removes a member; returns whether it was there.
    pub fn remove(&mut self, member: &[u8]) -> bool {
        match self {
            Set::Intset(ints) => parse_i64(member).is_some_and(|n| ints.remove(n)),
            Set::Listpack(pack) => {
                let found = pack.find(pack.first(), member, 1);
                found.map(|pos| pack.remove(pos)).is_some()
            }
            Set::Table(table) => table.remove(member).is_some(),
        }
    }

    pub fn for_each(&self, mut visit: impl FnMut(Item)) {
        match self {
            Set::Intset(ints) => ints.iter().for_each(|n| visit(Item::Int(n))),
            Set::Listpack(pack) => pack.iter().for_each(visit),
            Set::Table(table) => table.iter().for_each(|name| visit(Item::Str(name))),
        }
    }

    /// All members.
    pub fn iter(&self) -> Box<dyn Iterator<Item = Item<'_>> + '_> {
        match self {
            Set::Intset(ints) => Box::new(ints.iter().map(Item::Int)),
            Set::Listpack(pack) => Box::new(pack.iter()),
            Set::Table(table) => Box::new(table.iter().map(|name| Item::Str(name))),
        }
    }

    /// The members at these indices.
    pub fn range(&self, range: Range<usize>) -> Box<dyn Iterator<Item = Item<'_>> + '_> {
        match self {
            Set::Table(table) => Box::new(table.range(range).map(|name| Item::Str(name))),
            _ => Box::new(self.iter().skip(range.start).take(range.len())),
        }
    }

    /// The member at an index below [`Set::len`], in no particular order.
    pub fn at(&self, index: usize) -> Item<'_> {
        match self {
            Set::Intset(ints) => Item::Int(ints.get(index)),
            Set::Listpack(pack) => {
                let pos = pack.seek(index as isize).expect("the index is below len");
                pack.get(pos)
            }
            Set::Table(table) => Item::Str(table.get(index)),
        }
    }

    /// A random member, each equally likely. The set must not be empty.
    pub fn random(&self, rng: &mut fastrand::Rng) -> Item<'_> {
        self.at(rng.usize(..self.len()))
    }

    /// Takes a random member out. The set must not be empty.
    pub fn pop(&mut self, rng: &mut fastrand::Rng) -> Vec<u8> {
        let index = rng.usize(..self.len());
        match self {
            Set::Table(table) => {
                let member = table.remove_at(index);
                member.map(Vec::from).unwrap_or_default()
            }
            _ => {
                let member = self.at(index).to_vec();
                self.remove(&member);
                member
            }
        }
    }

    /// Visits members from a cursor on; compact sets all at once, as Redis does.
    pub fn scan(&self, cursor: u64, mut visit: impl FnMut(Item)) -> u64 {
        match self {
            Set::Table(table) => table.scan(cursor, |name| visit(Item::Str(name))),
            _ => {
                self.for_each(visit);
                0
            }
        }
    }

    /// Frees some members of a set that is thrown away; true while more are left.
    pub fn free_slice(&mut self, members: usize) -> bool {
        match self {
            Set::Table(table) => table.free_slice(members),
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn a_set_is_a_set_in_every_encoding() {
        for (seed, (ints, pack)) in [(0, 0), (512, 0), (512, 128), (0, 128), (16, 1 << 20)]
            .into_iter()
            .enumerate()
        {
            let limits = Limits {
                set_max_intset_entries: ints,
                set_max_listpack_entries: pack,
                ..Limits::default()
            };
            let mut rng = fastrand::Rng::with_seed(seed as u64);
            let mut set = Set::new(b"1", &limits);
            let mut model: BTreeSet<Vec<u8>> = BTreeSet::new();
            for round in 0..3000 {
                let member = match rng.u8(..5) {
                    0 if round > 300 => format!("m{}", rng.u8(..)),
                    _ => rng.i16(-300..300).to_string(),
                };
                let member = member.into_bytes();
                match rng.u8(..5) {
                    0 | 1 => assert_eq!(set.remove(&member), model.remove(&member)),
                    2 if !model.is_empty() && rng.u8(..8) == 0 => {
                        assert!(model.remove(&set.pop(&mut rng)), "seed {seed}");
                    }
                    _ => assert_eq!(set.add(&member, &limits), model.insert(member.clone())),
                }
                assert_eq!(set.contains(&member), model.contains(&member));
                assert_eq!(set.len(), model.len());
            }
            let all: BTreeSet<_> = set.iter().map(Item::to_vec).collect();
            assert_eq!(all, model, "seed {seed}");
        }
    }

    #[test]
    fn encodings_change_where_redis_changes_them() {
        let limits = Limits {
            set_max_intset_entries: 2,
            set_max_listpack_entries: 3,
            set_max_listpack_value: 4,
            ..Limits::default()
        };
        let mut set = Set::new(b"1", &limits);
        let mut encodings = |members: &[&str]| -> Vec<&str> {
            let add = |member: &&str| {
                set.add(member.as_bytes(), &limits);
                set.encoding()
            };
            members.iter().map(add).collect()
        };
        assert_eq!(
            encodings(&["1", "2", "a", "b"]),
            ["intset", "intset", "listpack", "hashtable"]
        );
        assert_eq!(Set::new(b"abc", &limits).encoding(), "listpack");
        assert_eq!(Set::new(b"abcde", &limits).encoding(), "hashtable");
    }
}
