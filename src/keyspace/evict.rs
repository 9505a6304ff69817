//! Eviction: which key goes when memory is short.
//!
//! Nothing is kept in order of use. A few random keys are compared and the best of them goes, which
//! comes close to the exact order at no cost to anybody's reads. Keys with an expiry are drawn from
//! the wheel's nodes, so that a single one among millions of others is found.

use super::effects::Event;
use super::pulse::is_of_key;
use super::{Db, Keyspace, entry};
use crate::value::dict::Handle;

/// `maxmemory-policy`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Policy {
    NoEviction,
    AllkeysLru,
    AllkeysLfu,
    AllkeysRandom,
    VolatileLru,
    VolatileLfu,
    VolatileRandom,
    VolatileTtl,
}

impl Policy {
    pub const ALL: [Policy; 8] = [
        Policy::NoEviction,
        Policy::AllkeysLru,
        Policy::AllkeysLfu,
        Policy::AllkeysRandom,
        Policy::VolatileLru,
        Policy::VolatileLfu,
        Policy::VolatileRandom,
        Policy::VolatileTtl,
    ];

    /// As the configuration spells it.
    pub const fn name(self) -> &'static str {
        match self {
            Policy::NoEviction => "noeviction",
            Policy::AllkeysLru => "allkeys-lru",
            Policy::AllkeysLfu => "allkeys-lfu",
            Policy::AllkeysRandom => "allkeys-random",
            Policy::VolatileLru => "volatile-lru",
            Policy::VolatileLfu => "volatile-lfu",
            Policy::VolatileRandom => "volatile-random",
            Policy::VolatileTtl => "volatile-ttl",
        }
    }

    /// Whether access clocks count uses: what [`super::Settings::lfu`] must be.
    pub const fn is_lfu(self) -> bool {
        matches!(self, Policy::AllkeysLfu | Policy::VolatileLfu)
    }

    const fn is_volatile(self) -> bool {
        matches!(
            self,
            Policy::VolatileLru
                | Policy::VolatileLfu
                | Policy::VolatileRandom
                | Policy::VolatileTtl
        )
    }
}

/// What became of an attempt to evict a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Eviction {
    Done,
    /// There are keys that may go, and none of those that were drawn: somebody holds them, or they are
    /// of what was flushed just now.
    Later,
    /// The policy finds none.
    Never,
}

impl Keyspace {
    /// Evicts the best of about `samples` random candidates; keys that `is_held` names stay.
    pub fn evict_one(
        &mut self,
        policy: Policy,
        samples: usize,
        now_ms: i64,
        is_held: impl Fn(u32, &[u8]) -> bool,
    ) -> Eviction {
        let mut best: Option<(u64, u32, Handle)> = None;
        for _ in 0..samples.max(1) {
            let candidate = match policy {
                Policy::NoEviction => None,
                policy if policy.is_volatile() => self.random_volatile(),
                _ => self.random_of_all(),
            };
            let Some((db, handle)) = candidate else {
                continue;
            };
            if is_held(db, self.key_of(handle)) {
                continue;
            }
            let score = self.score(policy, handle, now_ms);
            if best.is_none_or(|(least, ..)| score > least) {
                best = Some((score, db, handle));
            }
        }
        let Some((_, db, handle)) = best else {
            return match self.has_candidates(policy) {
                true => Eviction::Later,
                false => Eviction::Never,
            };
        };
        let key = self.key_of(handle).to_vec();
        let mut tx = self.tx(db, now_ms, false);
        tx.delete_as(&key, Event::EVICTED);
        tx.finish();
        Eviction::Done
    }

    /// Whether there are keys that the policy allows to evict.
    fn has_candidates(&self, policy: Policy) -> bool {
        let has = |db: &Db| match policy {
            Policy::NoEviction => false,
            policy if policy.is_volatile() => db.expires > 0,
            _ => !db.dict.is_empty(),
        };
        self.seen().iter().any(has)
    }

    /// The higher, the sooner a key goes.
    fn score(&mut self, policy: Policy, handle: Handle, now_ms: i64) -> u64 {
        let slot = self.arena.get(handle);
        let (clock, layout) = (entry::clock(slot), entry::layout(slot));
        match policy {
            Policy::VolatileTtl => u64::MAX - layout.expiry(slot).0.max(0) as u64,
            Policy::AllkeysLru | Policy::VolatileLru => {
                u64::from(self.tx(0, now_ms, false).idle_of(clock))
            }
            Policy::AllkeysLfu | Policy::VolatileLfu => {
                255 - u64::from(self.tx(0, now_ms, false).decayed_count(clock))
            }
            Policy::NoEviction | Policy::AllkeysRandom | Policy::VolatileRandom => 0,
        }
    }

    /// A random key of all databases.
    fn random_of_all(&mut self) -> Option<(u32, Handle)> {
        let total: usize = self.seen().iter().map(|db| db.dict.len()).sum();
        if total == 0 {
            return None;
        }
        let mut nth = self.rng.usize(..total);
        let at = self.seen().iter().position(|db| {
            let is_here = nth < db.dict.len();
            nth = nth.saturating_sub(db.dict.len());
            is_here
        })?;
        let handle = self.dbs[at].dict.random(&mut self.rng)?;
        Some((at as u32, handle))
    }

    /// A random key with an expiry.
    fn random_volatile(&mut self) -> Option<(u32, Handle)> {
        if self.seen().iter().all(|db| db.expires == 0) {
            return None;
        }
        let (_, owner) = self.wheel.random(&mut self.rng, is_of_key)?;
        self.owner_of(owner).filter(|(db, _)| *db < self.databases)
    }

    /// The mean time to live of a database's keys that have one, estimated from a sample;
    /// milliseconds, 0 if there are none.
    pub fn avg_ttl_ms(&self, db: u32, now_ms: i64) -> i64 {
        const SAMPLE: usize = 128;
        if self.stats(db).expires == 0 {
            return 0;
        }
        let mut rng = self.rng.clone();
        let (mut sum, mut count) = (0i128, 0);
        for _ in 0..SAMPLE {
            if let Some((deadline_ms, owner)) = self.wheel.random(&mut rng, is_of_key)
                && self.owner_of(owner).is_some_and(|(at, _)| at == db)
            {
                sum += i128::from(deadline_ms.saturating_sub(now_ms).max(0));
                count += 1;
            }
        }
        if count == 0 { 0 } else { (sum / count) as i64 }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{NewStr, Ttl};
    use super::*;
    use crate::value::hash::Hash;

    /// Keys 0..100 in database 1, each used a second later than the one before and, where even,
    /// with a deadline the later the smaller the number.
    fn keyspace(lfu: bool) -> Keyspace {
        let mut ks = Keyspace::new(2, 9);
        ks.settings.lfu = lfu;
        ks.effects.classes = u32::MAX;
        for n in 0..100u32 {
            let key = n.to_le_bytes();
            let mut tx = ks.tx(1, i64::from(n) * 1000, true);
            let ttl = match n % 2 {
                0 => Ttl::At(1_000_000 - i64::from(n) * 1000),
                _ => Ttl::Clear,
            };
            tx.set_string(&key, NewStr::Bytes(b"v"), ttl);
            tx.wrote(&key, Event::SET, |_| {});
            (0..n * 20).for_each(|_| assert!(tx.exists(&key)));
            tx.finish();
        }
        ks.effects.events.clear();
        ks.effects.recording = true;
        ks
    }

    fn evict(policy: Policy, samples: usize) -> Vec<u32> {
        let mut ks = keyspace(policy.is_lfu());
        (0..20).for_each(|_| {
            ks.evict_one(policy, samples, 100_000, |_, _| false);
        });
        assert_eq!(ks.effects.records.len(), ks.effects.events.len());
        assert_eq!(ks.counters.evicted as usize, ks.effects.events.len());
        let evicted = ks.effects.events.iter();
        evicted
            .map(|event| {
                assert_eq!((event.db, event.event), (1, Event::EVICTED));
                u32::from_le_bytes(event.key[..].try_into().unwrap())
            })
            .collect()
    }

    #[test]
    fn every_policy_takes_the_keys_it_names() {
        assert!(evict(Policy::NoEviction, 5).is_empty());
        for policy in &Policy::ALL[1..] {
            let evicted = evict(*policy, 400);
            assert_eq!(evicted.len(), 20, "{policy:?}");
            let mean = evicted.iter().sum::<u32>() / 20;
            match policy {
                Policy::AllkeysLru => assert!(mean < 15, "{evicted:?}"),
                Policy::VolatileLru => assert!(mean < 25, "{evicted:?}"),
                Policy::AllkeysLfu | Policy::VolatileLfu => assert!(mean < 45, "{evicted:?}"),
                Policy::VolatileTtl => assert!(mean > 75, "{evicted:?}"),
                _ => assert!((25..75).contains(&mean), "{evicted:?}"),
            }
            if policy.is_volatile() {
                assert!(evicted.iter().all(|n| n % 2 == 0), "{policy:?}");
            }
        }
    }

    #[test]
    fn the_one_volatile_key_is_found_and_held_keys_stay() {
        let mut ks = keyspace(false);
        let volatile = Policy::VolatileLru;
        let mut evict = |policy, held| ks.evict_one(policy, 5, 100_000, |_, _| held);
        assert_eq!(evict(volatile, true), Eviction::Later);
        (0..50).for_each(|_| assert_eq!(evict(volatile, false), Eviction::Done));
        assert_eq!(evict(volatile, false), Eviction::Never);
        assert_eq!(evict(Policy::AllkeysRandom, true), Eviction::Later);
        assert_eq!(evict(Policy::NoEviction, true), Eviction::Never);
        assert_eq!(ks.stats(1).keys, 50);
    }

    #[test]
    fn hashes_whose_fields_expire_are_not_volatile() {
        let mut ks = Keyspace::new(2, 9);
        let mut tx = ks.tx(1, 1000, true);
        for n in 0..100u32 {
            let key = n.to_le_bytes();
            let changed = tx.change_or_create(
                &key,
                |_| Hash::default(),
                |hash, context| {
                    hash.set(b"field", b"value", context.limits);
                    hash.set_deadline(b"field", 1_000_000, context.limits);
                },
            );
            assert!(changed.is_ok());
            tx.wrote(&key, Event::HSET, |_| {});
        }
        tx.finish();
        let policies = Policy::ALL.iter().filter(|policy| policy.is_volatile());
        for policy in policies.clone() {
            let evicted = ks.evict_one(*policy, 5, 2000, |_, _| false);
            assert_eq!(evicted, Eviction::Never, "{policy:?}");
        }
        assert_eq!(ks.avg_ttl_ms(1, 2000), 0);
        for policy in policies {
            let mut tx = ks.tx(1, 2000, true);
            tx.set_string(b"volatile", NewStr::Bytes(b"v"), Ttl::At(500_000));
            tx.wrote(b"volatile", Event::SET, |_| {});
            tx.finish();
            assert_eq!(ks.avg_ttl_ms(1, 2000), 498_000);
            let evicted = ks.evict_one(*policy, 5, 2000, |_, _| false);
            assert_eq!(evicted, Eviction::Done, "{policy:?}");
            assert_eq!(ks.stats(1).keys, 100, "{policy:?}");
        }
    }

    #[test]
    fn the_mean_time_to_live_is_estimated() {
        let ks = keyspace(false);
        let mean = ks.avg_ttl_ms(1, 100_000);
        assert!((840_000..860_000).contains(&mean), "{mean}");
        assert_eq!(ks.avg_ttl_ms(0, 100_000), 0);
    }

    #[test]
    fn what_was_flushed_does_not_hide_what_may_go() {
        let mut ks = Keyspace::new(2, 9);
        for n in 0..5000u32 {
            let mut tx = ks.tx(u32::from(n == 0), 1000, true);
            tx.set_string(&n.to_le_bytes(), NewStr::Bytes(b"v"), Ttl::At(500_000));
            tx.wrote(b"key", Event::SET, |_| {});
            tx.finish();
        }
        let mut tx = ks.tx(0, 1000, false);
        tx.flush_db(true);
        tx.finish();
        let evict = |ks: &mut Keyspace| ks.evict_one(Policy::VolatileTtl, 5, 2000, |_, _| false);
        assert_eq!(evict(&mut ks), Eviction::Later);
        while ks.free_slice() {}
        assert_eq!(evict(&mut ks), Eviction::Done);
        assert_eq!(evict(&mut ks), Eviction::Never);
    }
}
