//! Which units of the segments count, and in which order: the rules of recovery, without a file.
//!
//! A machine that loses its power keeps of each segment what was synced and some of the rest, so
//! that one shard may remember what another forgot. Left out is
//!
//! * a transaction over several shards of which a part is missing, and a barrier likewise;
//! * whatever a shard did after that to the same keys, and everything behind a lost barrier;
//! * a segment which follows one that has lost its end, since a rewrite began it.
//!
//! What is left out loses its keys to the next in turn. None of this happens to writes that are
//! answered only once they are synced, or after a mere kill: keys of a transaction are held until
//! all its parts stand in their segments.

use ahash::{AHashMap, AHashSet};
use smallvec::SmallVec;

use super::Item;
use super::segment::{Mark, TX_COUNT_MASK, last_unit};

/// Something that is read unit by unit: one file.
pub trait Units {
    type Error;

    /// The next unit, or whatever counts as a whole; `None` at the end.
    fn next_unit(&mut self) -> Result<Option<Item>, Self::Error>;
}

/// How a segment ends, for a server that goes on with it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tail {
    /// Where in the file the next unit begins.
    pub at: u64,
    /// The number of its last unit, 0 if there is none.
    pub seq: u64,
    /// Segments of the same line that come before it, and units in all of them and in this one.
    pub segments: u64,
    pub units: u64,
}

/// What stands in all files. Generations are counted from 0.
#[derive(Debug, Default)]
pub struct Census {
    /// Generations before this one are a snapshot: what comes behind them begins anew.
    first: usize,
    /// The shards of a transaction that were not found to have it. There is one for each transaction over
    /// several shards in all files: a few words.
    transactions: AHashMap<(usize, u64), SmallVec<[u32; 4]>>,
    /// Units of a segment, without the one that opens it.
    units: AHashMap<(usize, u32), u64>,
    /// Segments that follow others: how many, and how many units stand in those.
    openings: AHashMap<(usize, u32), (u64, u64)>,
}

impl Census {
    pub fn new(has_base: bool) -> Census {
        Census {
            first: usize::from(has_base),
            ..Census::default()
        }
    }

    pub fn note(&mut self, generation: usize, shard: u32, item: &Item) {
        match item.follows {
            Some(follows) => drop(self.openings.insert((generation, shard), follows)),
            // Of what stands outside of units nobody counts.
            None if item.seq == 0 => {}
            None => *self.units.entry((generation, shard)).or_default() += 1,
        }
        if let Some(mark) = &item.mark {
            let id = (generation, mark.id);
            let all = || mark.shards.clone();
            let missing = self.transactions.entry(id).or_insert_with(all);
            missing.retain(|it| *it != shard);
        }
    }

    /// How a segment ends whose last unit has this number and whose file is good as far as `at`.
    pub fn tail(&self, generation: usize, shard: u32, seq: u64, at: u64) -> Tail {
        let here = (generation, shard);
        let (segments, before) = self.openings.get(&here).copied().unwrap_or_default();
        Tail {
            at,
            seq,
            segments,
            units: before + self.units.get(&here).copied().unwrap_or(0),
        }
    }

    /// The largest name of a transaction in a generation, counted by each of its shards alone:
    /// who goes on with the generation gives others.
    pub fn last_transaction(&self, generation: usize) -> u64 {
        let here = self.transactions.keys().filter(|(of, _)| *of == generation);
        here.map(|(_, id)| id & TX_COUNT_MASK).max().unwrap_or(0)
    }

    /// Whether nothing is missing, so that a server can go on with the last segments: what it wrote
    /// behind something that is left out would be left out as well. A segment may be in the air
    /// although nothing in it is left out yet, since it is empty.
    pub fn is_whole(&self) -> bool {
        self.broken().is_empty() && self.incomplete().is_empty()
    }

    /// Whether a generation goes on with what the one before did.
    fn goes_on(&self, generation: usize) -> bool {
        self.openings.keys().any(|(of, _)| *of == generation)
    }

    /// Segments whose predecessors have lost something.
    fn broken(&self) -> AHashSet<(usize, u32)> {
        let is_broken = |&(&(generation, shard), &(segments, units)): &(&_, &(u64, u64))| {
            if generation <= self.first {
                return false;
            }
            let begin = (generation as u64).saturating_sub(segments) as usize;
            let known = begin.max(self.first)..generation;
            // Of those that a rewrite has removed the first one left tells.
            let opened = known
                .clone()
                .find_map(|earlier| self.openings.get(&(earlier, shard)));
            let removed = if begin < self.first {
                opened.map_or(0, |(_, units)| *units)
            } else {
                0
            };
            let of = |earlier| self.units.get(&(earlier, shard)).copied().unwrap_or(0);
            removed + known.map(of).sum::<u64>() < units
        };
        let broken = self.openings.iter().filter(is_broken);
        broken.map(|(at, _)| *at).collect()
    }

    /// By the names of their last units.
    fn incomplete(&self) -> AHashSet<(usize, u64)> {
        let is_complete = |generation, id| {
            let missing = self.transactions.get(&(generation, id));
            missing.is_some_and(SmallVec::is_empty)
        };
        let is_incomplete = |&&(generation, id): &&(usize, u64)| {
            !is_complete(generation, id) || !is_complete(generation, last_unit(id))
        };
        let all = self.transactions.keys();
        all.filter(is_incomplete)
            .map(|&(generation, id)| (generation, last_unit(id)))
            .collect()
    }

    /// What is not to be run. `generations` names the shards of each; its files are read again, by
    /// `open`, only if something is missing. `keys` names the keys of a unit's commands.
    pub fn left_out<U: Units>(
        &self,
        generations: &[Vec<u32>],
        mut open: impl FnMut(usize, usize) -> Result<U, U::Error>,
        mut keys: impl FnMut(&[u8], &mut Vec<Key>),
    ) -> Result<LeftOut, U::Error> {
        let mut left_out = LeftOut {
            transactions: self.incomplete(),
            units: AHashSet::new(),
        };
        let broken = self.broken();
        if left_out.transactions.is_empty() && broken.is_empty() {
            return Ok(left_out);
        }
        // A transaction that is left out on one shard is so on all: until nothing changes.
        loop {
            let before = (left_out.transactions.len(), left_out.units.len());
            let mut lost: AHashMap<u32, Lost> = AHashMap::new();
            for (generation, shards) in generations.iter().enumerate() {
                if !self.goes_on(generation) {
                    lost.clear();
                }
                for (index, &shard) in shards.iter().enumerate() {
                    let lost = lost.entry(shard).or_default();
                    lost.all |= broken.contains(&(generation, shard));
                    let mut track = open(generation, index)?;
                    while let Some(item) = track.next_unit()? {
                        lost.follow(&mut left_out, (generation, shard), &item, &mut keys);
                    }
                }
            }
            if before == (left_out.transactions.len(), left_out.units.len()) {
                return Ok(left_out);
            }
        }
    }
}

/// Database and name.
pub type Key = (u32, Box<[u8]>);

/// What a shard has no true value of any more.
#[derive(Default)]
struct Lost {
    all: bool,
    keys: AHashSet<Key>,
}

impl Lost {
    fn follow(
        &mut self,
        left_out: &mut LeftOut,
        (generation, shard): (usize, u32),
        item: &Item,
        keys: &mut impl FnMut(&[u8], &mut Vec<Key>),
    ) {
        // What a server that knows no units has appended builds on all that it has read.
        if item.seq == 0 || item.follows.is_some() {
            return;
        }
        let mut touched = Vec::new();
        keys(&item.commands, &mut touched);
        let builds_on_it = self.all
            || touched.iter().any(|key| self.keys.contains(key))
            || item.barrier.is_some() && !self.keys.is_empty();
        if builds_on_it {
            left_out.units.insert((generation, shard, item.seq));
            let last = |mark: &Mark| (generation, last_unit(mark.id));
            let id = item.mark.as_ref().map(last);
            left_out.transactions.extend(id);
        }
        if left_out.has(generation, shard, item) {
            self.all |= item.barrier.is_some();
            self.keys.extend(touched);
        }
    }
}

/// What is not run.
#[derive(Debug, Default)]
pub struct LeftOut {
    /// Generation, and the name of the last unit.
    transactions: AHashSet<(usize, u64)>,
    /// Generation, shard, number.
    units: AHashSet<(usize, u32, u64)>,
}

impl LeftOut {
    pub fn has(&self, generation: usize, shard: u32, item: &Item) -> bool {
        let is_incomplete = item.mark.as_ref().is_some_and(|mark| {
            self.transactions
                .contains(&(generation, last_unit(mark.id)))
        });
        is_incomplete || self.units.contains(&(generation, shard, item.seq))
    }
}

struct Track<U> {
    shard: u32,
    units: U,
    /// A barrier that waits for the others.
    barrier: Option<Item>,
}

/// The order in which the units of one generation are run: shard by shard up to the next barrier,
/// the barrier, and so on.
pub struct Order<U> {
    generation: usize,
    tracks: Vec<Track<U>>,
    at: usize,
    /// Units that were left out.
    pub dropped: u64,
}

impl<U: Units> Order<U> {
    pub fn new(generation: usize, segments: impl IntoIterator<Item = (u32, U)>) -> Order<U> {
        let track = |(shard, units)| Track {
            shard,
            units,
            barrier: None,
        };
        Order {
            generation,
            tracks: segments.into_iter().map(track).collect(),
            at: 0,
            dropped: 0,
        }
    }

    /// The file that the last item came from.
    pub fn current(&self) -> Option<&U> {
        let at = self.at.min(self.tracks.len().saturating_sub(1));
        self.tracks.get(at).map(|track| &track.units)
    }

    /// What is to be run next; `None` at the end of the generation.
    pub fn next(&mut self, left_out: &LeftOut) -> Result<Option<Item>, U::Error> {
        while let Some(track) = self.tracks.get_mut(self.at) {
            let found = match &track.barrier {
                Some(_) => None,
                None => track.units.next_unit()?,
            };
            match found {
                Some(item) if left_out.has(self.generation, track.shard, &item) => {
                    self.dropped += 1;
                }
                Some(item) if item.barrier.is_some() => {
                    track.barrier = Some(item);
                    self.at += 1;
                }
                Some(item) => return Ok(Some(item)),
                None => self.at += 1,
            }
        }
        self.at = 0;
        let waiting = self.tracks.iter_mut();
        let mut barriers = waiting.filter_map(|track| track.barrier.take());
        // The others of its kind are empty: shard 0's stands first.
        let Some(first) = barriers.next() else {
            return Ok(None);
        };
        barriers.for_each(drop);
        Ok(Some(first))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unit(seq: u64, mark: &Mark) -> Item {
        Item {
            at: 0,
            commands: Vec::new(),
            seq,
            mark: Some(mark.clone()),
            barrier: None,
            follows: None,
        }
    }

    /// Units of a transaction on two shards, which each wrote so many of its five.
    fn incomplete(written: [u64; 2]) -> bool {
        let mark = Mark {
            id: 1 << 48 | 7,
            shards: [0, 1].into_iter().collect(),
        };
        let mut census = Census::new(false);
        for (shard, units) in (0..).zip(written) {
            for n in 0..units {
                let mark = mark.before_others(4 - n as usize);
                census.note(0, shard, &unit(n + 1, &mark));
            }
        }
        let found = census.incomplete();
        assert!(found.is_empty() || found == AHashSet::from_iter([(0, mark.id)]));
        assert_eq!(
            census.last_transaction(0),
            if written == [0, 0] { 0 } else { 7 }
        );
        !found.is_empty()
    }

    #[test]
    fn a_transaction_of_several_units_counts_if_its_last_unit_does() {
        assert!(!incomplete([5, 5]) && !incomplete([0, 0]));
        for units in 0..5 {
            assert!(incomplete([5, units]) && incomplete([units, 5]), "{units}");
            assert!(units == 0 || incomplete([units, units]), "{units}");
        }
    }
}
