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
    /// What its clients use that may not be closed, those that may, and the largest of these.
    bound_bytes: AtomicUsize,
    closable_bytes: AtomicUsize,
    client_max_bytes: AtomicUsize,
}

/// Where the client stands that has to go first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Largest {
    Here,
    Elsewhere,
    /// There is none that may be closed.
    Nowhere,
}

/// Clients that differ by less than a factor of two go in any order, so that shards need not take turns
/// with every one of them. Redis: server.h CLIENT_MEM_USAGE_BUCKET_MIN_LOG: small ones are all alike.
fn rank(client_bytes: usize) -> u32 {
    const SMALL_LOG: u32 = 15;
    client_bytes
        .checked_ilog2()
        .map_or(0, |log| log.max(SMALL_LOG))
}

/// The limit, and the figures of all shards.
#[derive(Clone, Debug)]
pub struct Budget {
    /// 0: no limit.
    pub max_bytes: usize,
    /// `maxmemory-clients`; 0: no limit.
    pub clients_max_bytes: usize,
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
            clients_max_bytes: 0,
            policy: Policy::NoEviction,
            samples: 5,
            figures,
            shard,
        }
    }

    /// Publishes what the keys of this shard use; returns by how much all shards, with what their
    /// clients use, exceed the limit. What clients that may be closed use beyond a limit of their own
    /// goes with them: no key has to make room for it. Redis: server.c processCommand evicts clients
    /// before it evicts keys.
    pub fn excess(&self, used_bytes: usize) -> usize {
        let own = &self.figures[self.shard].used_bytes;
        own.store(used_bytes, Ordering::Relaxed);
        let keys = self.sum(|figure| &figure.used_bytes);
        // Others write meanwhile: each is read once.
        let closable = self.sum(|figure| &figure.closable_bytes);
        let clients = self.sum(|figure| &figure.bound_bytes) + closable;
        let leaving = match self.clients_max_bytes {
            0 => 0,
            max_bytes => clients.saturating_sub(max_bytes).min(closable),
        };
        (keys + clients - leaving).saturating_sub(self.max_bytes)
    }

    fn sum(&self, of: impl Fn(&Figure) -> &AtomicUsize) -> usize {
        let figures = self.figures.iter();
        figures
            .map(|figure| of(figure).load(Ordering::Relaxed))
            .sum()
    }

    /// Publishes what the clients of this shard use, those of them that may be closed, and the largest of
    /// these. Returns what all clients use, and which shard's has to go first.
    pub fn publish_clients(
        &self,
        all_bytes: usize,
        closable_bytes: usize,
        largest_bytes: usize,
    ) -> (usize, Largest) {
        let own = &self.figures[self.shard];
        let bound_bytes = all_bytes.saturating_sub(closable_bytes);
        own.bound_bytes.store(bound_bytes, Ordering::Relaxed);
        own.closable_bytes.store(closable_bytes, Ordering::Relaxed);
        own.client_max_bytes.store(largest_bytes, Ordering::Relaxed);
        let ranks = self.figures.iter().map(|figure| {
            let bytes = figure.client_max_bytes.load(Ordering::Relaxed);
            rank(bytes)
        });
        // Of shards with clients alike, the first.
        let first = ranks.enumerate().rev().max_by_key(|(_, rank)| *rank);
        let largest = match first {
            Some((shard, 1..)) if shard == self.shard => Largest::Here,
            Some((_, 1..)) => Largest::Elsewhere,
            _ => Largest::Nowhere,
        };
        let total =
            self.sum(|figure| &figure.bound_bytes) + self.sum(|figure| &figure.closable_bytes);
        (total, largest)
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
        a.publish_clients(15, 15, 15);
        assert_eq!((a.excess(60), b.excess(20)), (5, 0));
        a.publish_clients(0, 0, 0);
        a.set_exhausted(true);
        assert!(!a.may_evict() && b.may_evict() && !a.is_exhausted());
        b.set_exhausted(true);
        assert!(a.is_exhausted() && b.is_exhausted());
    }

    #[test]
    fn clients_beyond_a_limit_of_their_own_cost_no_keys() {
        let shared = figures(2);
        let budget = |shard| Budget {
            max_bytes: 100,
            clients_max_bytes: 30,
            policy: Policy::AllkeysLru,
            ..Budget::new(shard, shared.clone())
        };
        let (a, b) = (budget(0), budget(1));
        b.publish_clients(500, 500, 10);
        assert_eq!((b.excess(20), a.excess(50)), (0, 0));
        assert_eq!(a.excess(55), 5);
        // Nobody may close these.
        b.publish_clients(500, 0, 0);
        assert_eq!(a.excess(50), 470);
        b.publish_clients(500, 450, 10);
        assert_eq!(a.excess(50), 20);
        b.publish_clients(20, 20, 10);
        assert_eq!(a.excess(55), 0);
    }

    #[test]
    fn the_largest_client_of_all_shards_goes_first() {
        use Largest::{Elsewhere, Here, Nowhere};
        const MB: usize = 1 << 20;
        let shared = figures(2);
        let (a, b) = (Budget::new(0, shared.clone()), Budget::new(1, shared));
        assert_eq!(b.publish_clients(5, 0, 0), (5, Nowhere));
        assert_eq!(a.publish_clients(3 * MB, 3 * MB, MB), (3 * MB + 5, Here));
        assert_eq!(b.publish_clients(4 * MB, 4 * MB, 2 * MB), (7 * MB, Here));
        assert_eq!(a.publish_clients(3 * MB, 3 * MB, MB), (7 * MB, Elsewhere));
        // Of those that are alike the first shard's go first, whichever is larger.
        assert_eq!(a.publish_clients(3 * MB, 3 * MB, 2 * MB), (7 * MB, Here));
        assert_eq!(
            b.publish_clients(4 * MB, 4 * MB, 3 * MB),
            (7 * MB, Elsewhere)
        );
        assert_eq!(a.publish_clients(1000, 1000, 500).1, Elsewhere);
        assert_eq!(b.publish_clients(1000, 1000, 900), (2000, Elsewhere));
        assert_eq!(a.publish_clients(0, 0, 0), (1000, Elsewhere));
        assert_eq!(b.publish_clients(1000, 1000, 900), (1000, Here));
    }
}
