//! What of the shards' work a client has done or seen: what it waits for when it waits for replicas or for
//! a disk.
//!
//! ```text
//! shard 0's records      unit 7          unit 8             unit 9
//! a client               SET (shard 0, 8)        GET (shard 1, 3)       WAIT: 8 of 0, 3 of 1
//! who takes the records  ... place 512   place 640          place 800   ... so 640, or more
//! ```
//! A shard numbers its records by units, see [`Effects::unit`](crate::keyspace::Effects::unit): a unit is
//! taken whole. A client notes the unit up to which a shard had come when a command of its ran there. Who
//! takes the records remembers where units end.

use std::collections::VecDeque;

use smallvec::SmallVec;

/// All that a shard did, up to a unit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sight {
    pub shard: u32,
    pub unit: u64,
}

/// The last sight of each shard.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    sights: SmallVec<[Sight; 1]>,
    /// A transaction or a script has emptied every database: its reply is not out yet.
    pub emptied: bool,
}

impl Seen {
    #[inline]
    pub fn note(&mut self, sight: Sight) {
        if let Some(known) = self
            .sights
            .iter_mut()
            .find(|known| known.shard == sight.shard)
        {
            known.unit = known.unit.max(sight.unit);
        } else if sight.unit > 0 {
            // Before its first unit there is nothing to wait for.
            self.sights.push(sight);
        }
    }

    pub fn append(&mut self, other: &Seen) {
        other.iter().for_each(|sight| self.note(sight));
        self.emptied |= other.emptied;
    }

    pub fn iter(&self) -> impl Iterator<Item = Sight> {
        self.sights.iter().copied()
    }
}

/// Places remembered for one shard. Beyond that every second one is forgotten, and who asks for it is
/// told of the next.
const PLACES_MAX: usize = 1024;

/// Where units end, in a stream or in a file.
#[derive(Clone, Debug, Default)]
pub struct Places(VecDeque<(u64, u64)>);

impl Places {
    /// Everything up to a unit stands before `place`.
    pub fn note(&mut self, unit: u64, place: u64) {
        if self.0.back().is_some_and(|(last, _)| *last >= unit) {
            return;
        }
        if self.0.len() == PLACES_MAX {
            let mut at = 0;
            self.0.retain(|_| {
                at += 1;
                at % 2 == 0
            });
        }
        self.0.push_back((unit, place));
    }

    /// A place before which everything up to a unit stands: the first that is known. `None`: it does
    /// not stand anywhere yet.
    pub fn of(&self, unit: u64) -> Option<u64> {
        let at = self.0.partition_point(|(known, _)| *known < unit);
        self.0.get(at).map(|(_, place)| *place)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sight(shard: u32, unit: u64) -> Sight {
        Sight { shard, unit }
    }

    #[test]
    fn the_last_sight_of_each_shard_counts() {
        let mut seen = Seen::default();
        for one in [sight(1, 0), sight(0, 3), sight(1, 2), sight(0, 2)] {
            seen.note(one);
        }
        let mut other = Seen::default();
        other.note(sight(1, 7));
        seen.append(&other);
        let all: Vec<Sight> = seen.iter().collect();
        assert_eq!(all, [sight(0, 3), sight(1, 7)]);
    }

    #[test]
    fn a_place_is_never_too_early_and_as_early_as_is_known() {
        let mut places = Places::default();
        places.note(4, 100);
        places.note(4, 120);
        places.note(7, 150);
        let of = |unit| places.of(unit);
        assert_eq!(
            [of(0), of(4), of(5), of(7), of(8)],
            [Some(100), Some(100), Some(150), Some(150), None]
        );
    }

    #[test]
    fn places_are_bounded() {
        let mut places = Places::default();
        let units = 10 * PLACES_MAX as u64;
        (1..=units).for_each(|unit| places.note(unit, 10 * unit));
        assert!(places.0.len() <= PLACES_MAX);
        assert_eq!(places.of(units), Some(10 * units));
        for unit in 1..=units {
            assert!(places.of(unit).unwrap() >= 10 * unit);
        }
        // Those of late are known exactly.
        assert_eq!(places.of(units - 10), Some(10 * (units - 10)));
    }
}
