//! `maxmemory`: what all shards may use together, and what happens when it is not enough.
//!
//! Each shard publishes what it uses and reads what the others do: one number each, written by its
//! owner alone, so a shard that is empty leaves its share to the others without a message.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use crate::keyspace::Policy;

/// Keys that one call evicts at most: well under a millisecond. The rest goes with later calls.
pub const EVICTIONS_AT_ONCE: usize = 64;

/// What one shard tells the others.
#[derive(Debug, Default)]
pub struct Figure {
    used_bytes: AtomicUsize,
    /// It found no key that the policy allows to evict.
    exhausted: AtomicBool,
}

/// The limit, and the figures of all shards.
#[derive(Clone, Debug)]
pub struct Budget {
    /// 0: no limit.
    pub max_bytes: usize,
    pub policy: Policy,
    pub samples: usize,
    figures: Arc<[Figure]>,
    shard: usize,
}

/// The figures of a number of shards, to be shared by their budgets.
pub fn figures(shards: usize) -> Arc<[Figure]> {
    (0..shards).map(|_| Figure::default()).collect()
}

impl Budget {
    pub fn new(shard: usize, figures: Arc<[Figure]>) -> Budget {
        Budget {
            max_bytes: 0,
            policy: Policy::NoEviction,
            samples: 5,
            figures,
            shard,
        }
    }

    /// Publishes what this shard uses; returns by how much all of them exceed the limit.
    pub fn excess(&self, used_bytes: usize) -> usize {
        let own = &self.figures[self.shard].used_bytes;
        own.store(used_bytes, Ordering::Relaxed);
        let used = |figure: &Figure| figure.used_bytes.load(Ordering::Relaxed);
        let total: usize = self.figures.iter().map(used).sum();
        total.saturating_sub(self.max_bytes)
    }

    pub fn set_exhausted(&self, exhausted: bool) {
        let own = &self.figures[self.shard].exhausted;
        own.store(exhausted, Ordering::Relaxed);
    }

    /// Whether this shard has a key left to evict, as far as it knows.
    pub fn may_evict(&self) -> bool {
        let own = &self.figures[self.shard].exhausted;
        self.policy != Policy::NoEviction && !own.load(Ordering::Relaxed)
    }

    /// Whether no shard has a key left to evict.
    pub fn is_exhausted(&self) -> bool {
        let exhausted = |figure: &Figure| figure.exhausted.load(Ordering::Relaxed);
        self.policy == Policy::NoEviction || self.figures.iter().all(exhausted)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shards_share_one_limit() {
        let shared = figures(2);
        let budget = |shard| Budget {
            max_bytes: 100,
            policy: Policy::AllkeysLru,
            ..Budget::new(shard, shared.clone())
        };
        let (a, b) = (budget(0), budget(1));
        assert_eq!(a.excess(90), 0);
        assert_eq!(b.excess(30), 20);
        assert_eq!(a.excess(60), 0);
        a.set_exhausted(true);
        assert!(!a.may_evict() && b.may_evict() && !a.is_exhausted());
        b.set_exhausted(true);
        assert!(a.is_exhausted() && b.is_exhausted());
    }
}
