//! When fields expire: a sorted set of them, whose scores are deadlines. These are below 2^48
//! milliseconds, which doubles hold exactly.

use super::super::limits::Limits;
use super::super::listpack::Item;
use super::super::zset::Zset;

/// Fields with their deadlines, unix milliseconds, earliest first.
#[derive(Clone, Debug, Default)]
pub(super) struct Deadlines {
    /// `None`: of no field.
    of_fields: Option<Zset>,
}

impl Deadlines {
    pub fn len(&self) -> usize {
        self.of_fields.as_ref().map_or(0, Zset::len)
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub fn memory_bytes(&self) -> usize {
        let bytes = self.of_fields.as_ref().map_or(0, Zset::memory_bytes);
        size_of::<Deadlines>() + bytes
    }

    pub fn of(&self, field: &[u8]) -> Option<i64> {
        Some(self.of_fields.as_ref()?.score(field)? as i64)
    }

    pub fn set(&mut self, field: &[u8], at_ms: i64, limits: &Limits) {
        let new = || Zset::new(field.len(), limits);
        let all = self.of_fields.get_or_insert_with(new);
        all.set(field, at_ms as f64, limits);
    }

    pub fn remove(&mut self, field: &[u8]) {
        if let Some(all) = &mut self.of_fields {
            all.remove(field);
            if all.is_empty() {
                self.of_fields = None;
            }
        }
    }

    pub fn first(&self) -> Option<(Item<'_>, i64)> {
        self.at(0)
    }

    pub fn last(&self) -> Option<(Item<'_>, i64)> {
        self.at(self.len().checked_sub(1)?)
    }

    fn at(&self, rank: usize) -> Option<(Item<'_>, i64)> {
        let (field, at_ms) = self.of_fields.as_ref()?.get(rank)?;
        Some((field, at_ms as i64))
    }

    /// How many are not later than `until_ms`. Takes O(log n).
    pub fn count_until(&self, until_ms: i64) -> usize {
        match &self.of_fields {
            None => 0,
            Some(all) => all.partition_point(|_, at_ms| at_ms as i64 <= until_ms),
        }
    }

    pub fn iter(&self) -> impl Iterator<Item = (Item<'_>, i64)> {
        let all = self.of_fields.iter().flat_map(Zset::iter);
        all.map(|(field, at_ms)| (field, at_ms as i64))
    }

    /// Frees some of them; true while more are left.
    pub fn free_slice(&mut self, fields: usize) -> bool {
        let all = self.of_fields.as_mut();
        all.is_some_and(|all| all.free_slice(fields))
    }
}
