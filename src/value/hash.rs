//! Hashes: a listpack of fields and values while small, a table beyond; deadlines of fields beside.

mod deadlines;
mod live;

use std::ops::Range;

pub use live::Live;

use deadlines::Deadlines;

use super::Lookup;
use super::limits::Limits;
use super::listpack::{Item, Listpack};
use super::table::{Member, Table};

/// A field and its value in one allocation.
///
/// ```text
/// field length u32 | field | value
/// ```
#[derive(Clone, Debug)]
pub struct Pair(Box<[u8]>);

const FIELD_AT: usize = 4;

impl Pair {
    fn new(field: &[u8], value: &[u8]) -> Pair {
        let mut bytes = Vec::with_capacity(FIELD_AT + field.len() + value.len());
        bytes.extend_from_slice(&(field.len() as u32).to_le_bytes());
        bytes.extend_from_slice(field);
        bytes.extend_from_slice(value);
        Pair(bytes.into())
    }

    fn value_at(&self) -> usize {
        FIELD_AT + u32::from_le_bytes([self.0[0], self.0[1], self.0[2], self.0[3]]) as usize
    }

    pub fn value(&self) -> &[u8] {
        &self.0[self.value_at()..]
    }

    fn items(&self) -> (Item<'_>, Item<'_>) {
        (Item::Str(self.name()), Item::Str(self.value()))
    }
}

impl Member for Pair {
    fn name(&self) -> &[u8] {
        &self.0[FIELD_AT..self.value_at()]
    }

    fn bytes(&self) -> &[u8] {
        &self.0
    }

    fn memory_bytes(&self) -> usize {
        self.0.len().next_multiple_of(8)
    }
}

#[derive(Clone, Debug)]
enum Fields {
    Listpack(Listpack),
    Table(Table<Pair>),
}

/// A hash.
#[derive(Clone, Debug)]
pub struct Hash {
    fields: Fields,
    /// `None` until a field has a deadline, so that the common case costs a word. Redis: t_hash.c makes
    /// no plain listpack of a `listpackex` again, whose place this then keeps.
    deadlines: Option<Box<Deadlines>>,
}

impl Default for Hash {
    fn default() -> Hash {
        Hash {
            fields: Fields::Listpack(Listpack::new()),
            deadlines: None,
        }
    }
}

impl Hash {
    /// In the words of OBJECT ENCODING.
    pub fn encoding(&self) -> &'static str {
        match (&self.fields, &self.deadlines) {
            (Fields::Listpack(_), None) => "listpack",
            (Fields::Listpack(_), Some(_)) => "listpackex",
            (Fields::Table(_), _) => "hashtable",
        }
    }

    /// The listpack of a small hash, fields and values in turn.
    pub fn listpack(&self) -> Option<&Listpack> {
        match &self.fields {
            Fields::Listpack(pack) => Some(pack),
            Fields::Table(_) => None,
        }
    }

    /// Whether fields have deadlines, or had some while it is a listpack.
    pub fn is_expiring(&self) -> bool {
        match self.fields {
            Fields::Listpack(_) => self.deadlines.is_some(),
            Fields::Table(_) => self.next_deadline().is_some(),
        }
    }

    /// Has a listpack be what it is once fields have had deadlines.
    pub fn become_expiring(&mut self) {
        if let Fields::Listpack(_) = self.fields {
            self.deadlines.get_or_insert_default();
        }
    }

    /// A hash over a listpack that was saved; its fields must be unique.
    pub fn from_listpack(pack: Listpack) -> Hash {
        Hash {
            fields: Fields::Listpack(pack),
            deadlines: None,
        }
    }

    /// What finds fields, beyond a listpack.
    pub fn lookup(&self) -> Option<&dyn Lookup> {
        match &self.fields {
            Fields::Listpack(_) => None,
            Fields::Table(table) => Some(table),
        }
    }

    pub fn len(&self) -> usize {
        match &self.fields {
            Fields::Listpack(pack) => pack.len() / 2,
            Fields::Table(table) => table.len(),
        }
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub fn memory_bytes(&self) -> usize {
        let deadlines = self.deadlines.as_ref();
        deadlines.map_or(0, |all| all.memory_bytes())
            + match &self.fields {
                Fields::Listpack(pack) => pack.memory_bytes(),
                Fields::Table(table) => table.memory_bytes(),
            }
    }

    /// Sets a field; returns whether it is new. Its deadline stays: see [`Hash::clear_deadline`].
    pub fn set(&mut self, field: &[u8], value: &[u8], limits: &Limits) -> bool {
        let is_long = field.len().max(value.len()) > limits.hash_max_listpack_value;
        let is_full = |pack: &Listpack| !pack.may_take(field.len() + value.len());
        if is_long || self.listpack().is_some_and(is_full) {
            self.become_table(limits);
        }
        match &mut self.fields {
            Fields::Listpack(pack) => {
                let found = pack.find(pack.first(), field, 2);
                let known = found.and_then(|pos| pack.next(pos));
                match known {
                    Some(at) => drop(pack.replace(at, value)),
                    None => {
                        pack.push(field);
                        pack.push(value);
                    }
                }
                // Also if it had so many before, under another limit.
                if pack.len() / 2 > limits.hash_max_listpack_entries {
                    self.become_table(limits);
                }
                known.is_none()
            }
            Fields::Table(table) => {
                let (at, is_new) = table.find_or_push(field, || Pair::new(field, value));
                if !is_new {
                    table.replace(at, Pair::new(field, value));
                }
                is_new
            }
        }
    }

    fn become_table(&mut self, limits: &Limits) {
        let Fields::Listpack(pack) = &self.fields else {
            return;
        };
        let mut table = Table::new(limits.seed);
        let mut items = pack.iter();
        while let (Some(field), Some(value)) = (items.next(), items.next()) {
            let (mut a, mut b) = (itoa::Buffer::new(), itoa::Buffer::new());
            table.push(Pair::new(field.bytes(&mut a), value.bytes(&mut b)));
        }
        self.fields = Fields::Table(table);
    }

    /// Removes a field; returns whether it was there.
    pub fn remove(&mut self, field: &[u8]) -> bool {
        self.clear_deadline(field);
        match &mut self.fields {
            Fields::Listpack(pack) => {
                let found = pack.find(pack.first(), field, 2);
                found.map(|pos| pack.remove_range(pos, 2)).is_some()
            }
            Fields::Table(table) => table.remove(field).is_some(),
        }
    }

    /// All fields with their values.
    pub fn iter(&self) -> Box<dyn Iterator<Item = (Item<'_>, Item<'_>)> + '_> {
        match &self.fields {
            Fields::Listpack(pack) => {
                let mut items = pack.iter();
                Box::new(std::iter::from_fn(move || {
                    Some((items.next()?, items.next()?))
                }))
            }
            Fields::Table(table) => Box::new(table.iter().map(Pair::items)),
        }
    }

    /// The fields at these indices, with their values.
    pub fn range(
        &self,
        range: Range<usize>,
    ) -> Box<dyn Iterator<Item = (Item<'_>, Item<'_>)> + '_> {
        match &self.fields {
            Fields::Table(table) => Box::new(table.range(range).map(Pair::items)),
            Fields::Listpack(_) => Box::new(self.iter().skip(range.start).take(range.len())),
        }
    }

    /// The field at an index below [`Hash::len`], in no particular order.
    fn at(&self, index: usize) -> (Item<'_>, Item<'_>) {
        match &self.fields {
            Fields::Listpack(pack) => {
                let field = pack
                    .seek(2 * index as isize)
                    .expect("the index is below len");
                let value = pack.next(field).expect("every field has a value");
                (pack.get(field), pack.get(value))
            }
            Fields::Table(table) => table.get(index).items(),
        }
    }

    // ---- deadlines

    /// When a field expires, unix milliseconds.
    pub fn deadline(&self, field: &[u8]) -> Option<i64> {
        self.deadlines.as_ref()?.of(field)
    }

    /// Gives a field that exists a deadline.
    pub fn set_deadline(&mut self, field: &[u8], at_ms: i64, limits: &Limits) {
        let deadlines = self.deadlines.get_or_insert_default();
        deadlines.set(field, at_ms, limits);
    }

    /// Has a field stay, if it is there.
    pub fn clear_deadline(&mut self, field: &[u8]) {
        let Some(deadlines) = &mut self.deadlines else {
            return;
        };
        deadlines.remove(field);
        if deadlines.is_empty() && matches!(self.fields, Fields::Table(_)) {
            self.deadlines = None;
        }
    }

    /// The earliest deadline of all fields.
    pub fn next_deadline(&self) -> Option<i64> {
        let (_, at_ms) = self.deadlines.as_ref()?.first()?;
        Some(at_ms)
    }

    /// A field that is due, earliest first.
    pub fn due(&self, now_ms: i64) -> Option<Item<'_>> {
        let (field, at_ms) = self.deadlines.as_ref()?.first()?;
        (at_ms <= now_ms).then_some(field)
    }

    /// Whether all fields are due: told without a look at each.
    pub fn is_over(&self, now_ms: i64) -> bool {
        let Some(deadlines) = &self.deadlines else {
            return false;
        };
        let all_end = deadlines.len() == self.len();
        all_end && deadlines.last().is_some_and(|(_, at_ms)| at_ms <= now_ms)
    }

    /// Fields with a deadline, earliest first.
    pub fn deadlines(&self) -> impl Iterator<Item = (Item<'_>, i64)> {
        self.deadlines.iter().flat_map(|all| all.iter())
    }

    /// Frees some fields of a hash that is thrown away; true while more are left.
    pub fn free_slice(&mut self, fields: usize) -> bool {
        if let Some(deadlines) = &mut self.deadlines
            && deadlines.free_slice(fields)
        {
            return true;
        }
        match &mut self.fields {
            Fields::Table(table) => table.free_slice(fields),
            Fields::Listpack(_) => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn a_hash_is_a_map_in_every_encoding() {
        for (seed, entries) in [0, 8, 1 << 20].into_iter().enumerate() {
            let limits = Limits {
                hash_max_listpack_entries: entries,
                ..Limits::default()
            };
            let mut rng = fastrand::Rng::with_seed(seed as u64);
            let mut hash = Hash::default();
            let mut model: BTreeMap<Vec<u8>, Vec<u8>> = BTreeMap::new();
            for _ in 0..3000 {
                let field = rng.u8(..60).to_string().into_bytes();
                let value = vec![b'v'; rng.usize(..60)];
                if rng.u8(..3) == 0 {
                    assert_eq!(hash.remove(&field), model.remove(&field).is_some());
                } else {
                    let is_new = hash.set(&field, &value, &limits);
                    assert_eq!(is_new, model.insert(field.clone(), value).is_none());
                }
                let got = hash.whole().get(&field).map(Item::to_vec);
                assert_eq!(got.as_ref(), model.get(&field), "seed {seed}");
                assert_eq!(hash.len(), model.len());
            }
            let all: BTreeMap<_, _> = hash.iter().map(|(f, v)| (f.to_vec(), v.to_vec())).collect();
            assert_eq!(all, model, "seed {seed}");
        }
    }

    #[test]
    fn long_values_leave_the_listpack() {
        let limits = Limits::default();
        let mut hash = Hash::default();
        hash.set(b"f", &[b'v'; 64], &limits);
        assert_eq!(hash.encoding(), "listpack");
        hash.set(b"f", &[b'v'; 65], &limits);
        assert_eq!(hash.encoding(), "hashtable");
    }

    #[test]
    fn deadlines_come_in_order_and_go_with_their_field() {
        let limits = Limits::default();
        let mut hash = Hash::default();
        for (field, at_ms) in [(b"a", 30), (b"b", 10), (b"c", 20)] {
            hash.set(field, b"v", &limits);
            hash.set_deadline(field, at_ms, &limits);
        }
        assert_eq!(hash.encoding(), "listpackex");
        assert_eq!(hash.next_deadline(), Some(10));
        hash.set_deadline(b"b", 40, &limits);
        assert_eq!(hash.due(19), None);
        assert_eq!(hash.due(20), Some(Item::Str(b"c")));
        assert!(!hash.is_over(39) && hash.is_over(40));
        hash.remove(b"c");
        assert_eq!(hash.next_deadline(), Some(30));
        hash.clear_deadline(b"a");
        assert!(!hash.is_over(i64::MAX));
        hash.remove(b"b");
        assert_eq!(
            (hash.next_deadline(), hash.encoding()),
            (None, "listpackex")
        );
    }
}
