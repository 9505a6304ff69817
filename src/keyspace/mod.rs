//! One shard's databases: dictionary, entries, expiry wheel, effects.
//!
//! Everything that reads or changes keys goes through a transaction ([`Tx`]), which records what it
//! did ([`effects`]). Expiry, whether a command runs into it or the wheel's pulse, goes through one
//! function.
//!
//! Nothing here reads a clock (every operation is told the time), knows the protocol, or knows that
//! there are other shards.

mod arena;
pub mod cut;
mod due;
pub mod effects;
mod entry;
mod evict;
mod garbage;
mod incoming;
mod interest;
mod own;
mod pulse;
mod records;
pub mod rewrite;
pub mod told;
pub mod tracking;
mod tx;
mod warm;
mod wheel;

use ahash::RandomState;

use arena::Arena;
use entry::Layout;
use garbage::Garbage;
use pulse::{INCARNATION_MASK, OF_FIELDS, owner};
use wheel::Wheel;

use crate::value::dict::{Dict, Handle};
use crate::value::limits::Limits;
use crate::value::lzf::Compressor;
use crate::value::slab::Slab;
use crate::value::{Kind, Value};
pub use due::Due;
pub use effects::{Effects, Event, Recorder};
pub use evict::{Eviction, Policy};
use own::Own;
pub use records::{Audience, EXEC, MULTI, Record, Records};
pub use tx::{
    Context, EMBSTR_MAX_BYTES, Encoded, NewStr, Seen, Stored, Str, Taken, Ttl, Tx, WrongType,
};
pub use warm::{Foreseen, WARM_KEYS};

/// What keys' behaviour depends on, taken from the configuration.
#[derive(Clone, Debug)]
pub struct Settings {
    /// `proto-max-bulk-len`: longest string.
    pub string_max_bytes: usize,
    /// `maxmemory-policy` is one of the LFU policies: access clocks count uses.
    pub lfu: bool,
    /// `lfu-log-factor`: how slowly counters of uses rise.
    pub lfu_log_factor: u32,
    /// `lfu-decay-time`: minutes after which a counter loses one.
    pub lfu_decay_time: u32,
    /// `hll-sparse-max-bytes`: longest sparse HyperLogLog.
    pub hll_sparse_max_bytes: usize,
    /// `rdbcompression`: DUMP compresses what a snapshot would.
    pub compress_dumps: bool,
    /// DEBUG SET-SKIP-CHECKSUM-VALIDATION: RESTORE takes payloads with any checksum.
    pub skip_checksums: bool,
    /// Eviction looks at access clocks: in Redis no two keys share a value then.
    pub no_shared_values: bool,
    /// Where compact encodings end.
    pub limits: Limits,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            string_max_bytes: 512 << 20,
            lfu: false,
            lfu_log_factor: 10,
            lfu_decay_time: 1,
            hll_sparse_max_bytes: 3000,
            compress_dumps: true,
            skip_checksums: false,
            no_shared_values: false,
            limits: Limits::default(),
        }
    }
}

/// Counters for INFO.
#[derive(Clone, Copy, Debug, Default)]
pub struct Counters {
    pub hits: u64,
    pub misses: u64,
    pub expired: u64,
    /// Fields of hashes.
    pub expired_fields: u64,
    pub evicted: u64,
    pub lazyfreed: u64,
}

/// A value with an allocation of its own, and its key if that is too long for a slot.
#[derive(Debug)]
struct Object {
    key: Option<Box<[u8]>>,
    value: Value,
    /// Wheel node of the earliest deadline of a hash's fields.
    fields_node: u32,
}

impl Object {
    fn key_bytes(&self) -> usize {
        self.key.as_ref().map_or(0, |key| key.len())
    }
}

/// Bytes of values with allocations of their own, and of keys too long for a slot.
#[derive(Debug, Default)]
struct ObjectBytes {
    all: usize,
    /// Those of collections in which members are looked up by name, without keys.
    sought: usize,
}

impl ObjectBytes {
    fn changed(&mut self, kind: Kind, before: usize, after: usize) {
        self.all = (self.all + after).saturating_sub(before);
        if matches!(kind, Kind::Set | Kind::Hash | Kind::Zset) {
            self.sought = (self.sought + after).saturating_sub(before);
        }
    }
}

#[derive(Debug, Default)]
struct Db {
    dict: Dict,
    /// Keys with an expiry.
    expires: usize,
    /// Tells this content from that of the others, and from what the database held before a flush: wheel
    /// nodes carry it.
    incarnation: u32,
    /// Its number when the cut in progress was made; `None` if what it held is gone.
    origin: Option<u32>,
}

/// All databases of one shard.
pub struct Keyspace {
    arena: Arena,
    objects: Slab<Object>,
    wheel: Wheel,
    /// Behind the first `databases`, which clients see, those that are to replace them: see
    /// [`incoming`].
    dbs: Vec<Db>,
    databases: u32,
    garbage: Garbage,
    hasher: RandomState,
    rng: fastrand::Rng,
    last_incarnation: u64,
    pub settings: Settings,
    pub counters: Counters,
    pub effects: Effects,
    /// DEBUG SET-ACTIVE-EXPIRE: whether the pulse deletes what is due.
    pub active_expire: bool,
    /// The master of this server says when a key has expired: here nothing expires by itself.
    is_replica: bool,
    /// Nothing expires for now: clients are paused.
    is_paused: bool,
    /// Keys that a replica deletes all the same: its own clients gave them a deadline.
    own: Own,
    object_bytes: ObjectBytes,
    /// What entries are marked with: see [`cut`].
    mark: u8,
    cut: Option<Box<cut::Cut>>,
    /// What time it is while data is loaded, and nothing is to expire.
    pub loads_at_ms: i64,
    /// Some field of a hash has had a deadline since the start.
    pub knows_expiring_fields: bool,
    /// What DUMP compresses with; its tables take longer to make than most values to dump.
    compressor: Compressor,
}

/// One database's figures for INFO keyspace.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DbStats {
    pub keys: usize,
    pub expires: usize,
}

impl Keyspace {
    /// `databases` empty databases. `seed` makes hashes unpredictable from outside, and is fixed in
    /// simulations.
    pub fn new(databases: u32, seed: u64) -> Keyspace {
        let mut rng = fastrand::Rng::with_seed(seed);
        let hasher = RandomState::with_seeds(rng.u64(..), rng.u64(..), rng.u64(..), rng.u64(..));
        let dbs = (0..databases)
            .map(|n| Db {
                incarnation: n & INCARNATION_MASK,
                ..Db::default()
            })
            .collect();
        let mut settings = Settings::default();
        settings.limits.seed = rng.u64(..);
        Keyspace {
            arena: Arena::default(),
            objects: Slab::default(),
            wheel: Wheel::new(0),
            dbs,
            databases,
            garbage: Garbage::default(),
            hasher,
            rng,
            last_incarnation: u64::from(databases),
            settings,
            counters: Counters::default(),
            effects: Effects::default(),
            active_expire: true,
            is_replica: false,
            is_paused: false,
            loads_at_ms: 0,
            own: Own::default(),
            object_bytes: ObjectBytes::default(),
            mark: 0,
            cut: None,
            knows_expiring_fields: false,
            compressor: Compressor::default(),
        }
    }

    /// A transaction on database `db` at `now_ms`. `touch`: reads count as use of a key.
    pub fn tx(&mut self, db: u32, now_ms: i64, touch: bool) -> Tx<'_> {
        Tx::new(self, db, now_ms, touch)
    }

    pub fn databases(&self) -> u32 {
        self.databases
    }

    pub fn stats(&self, db: u32) -> DbStats {
        let db = &self.dbs[db as usize];
        DbStats {
            keys: db.dict.len(),
            expires: db.expires,
        }
    }

    /// Whether a database has a key that is not due at `now_ms`.
    fn contains(&self, db: u32, key: &[u8], now_ms: i64) -> bool {
        let is_key = |handle| self.key_of(handle) == key;
        let dict = &self.dbs[db as usize].dict;
        dict.find(self.hash(key), is_key)
            .is_some_and(|(_, handle)| {
                let slot = self.arena.get(handle);
                let layout = entry::layout(slot);
                !layout.has_expiry || layout.expiry(slot).0 > now_ms
            })
    }

    /// Notes a change of every key of `changed` that somebody watches or waits for and that exists
    /// there, or takes its place from another database. A key that is due there was alive when it
    /// was watched; one that is due elsewhere replaces nothing by nothing, but who waits for it looks
    /// at it, and so it goes.
    fn changed_as_a_whole(&mut self, changed: u32, replaced_by: Option<(u32, i64)>) {
        for key in self.effects.interest.keys(changed) {
            let is_there = |db| self.contains(db, &key, i64::MIN);
            let arrives = |(db, now_ms)| self.contains(db, &key, now_ms);
            let is_seen = is_there(changed) || replaced_by.is_some_and(arrives);
            if is_seen || replaced_by.is_some_and(|(db, _)| is_there(db)) {
                self.effects.interest.changed(changed, &key, is_seen);
            }
        }
    }

    fn hash(&self, key: &[u8]) -> u64 {
        self.hasher.hash_one(key)
    }

    /// The key of an entry, wherever it stands.
    fn key_of(&self, handle: Handle) -> &[u8] {
        key_of(&self.arena, &self.objects, handle)
    }

    /// A number that no database has: after some millions of flushes they come again.
    fn new_incarnation(&mut self) -> u32 {
        let mut number = 0;
        for _ in 0..=self.dbs.len() {
            self.last_incarnation += 1;
            number = self.last_incarnation as u32 & INCARNATION_MASK;
            let is_new = self.last_incarnation <= u64::from(INCARNATION_MASK);
            if is_new || self.dbs.iter().all(|db| db.incarnation != number) {
                break;
            }
        }
        number
    }

    /// Makes room for so many keys in a database that has none yet.
    pub fn reserve(&mut self, db: u32, keys: usize) {
        if let Some(db) = self.dbs.get_mut(db as usize) {
            db.dict.reserve(keys);
        }
    }

    /// Brings the table of what clients have read down towards a limit.
    pub fn limit_tracking(&mut self, max_keys: usize, is_held: impl Fn(&[u8]) -> bool) {
        let Keyspace { effects, rng, .. } = self;
        effects.tracking.shrink(max_keys, rng, is_held);
    }

    /// Exchanges two databases.
    fn swap_dbs(&mut self, a: u32, b: u32, now_ms: i64) {
        // Who watches a key of it sees no change.
        if a == b {
            return;
        }
        self.changed_as_a_whole(a, Some((b, now_ms)));
        self.changed_as_a_whole(b, Some((a, now_ms)));
        self.dbs.swap(a as usize, b as usize);
    }

    /// Bytes of keys, values and their index, in constant time. Counts slots, not pages: deleting a
    /// key shows at once, as eviction needs; what fragmentation adds is the resident size's affair.
    pub fn memory_bytes(&self) -> usize {
        self.arena.used_bytes()
            + self.overhead_bytes()
            + self.objects.used_bytes()
            + self.object_bytes.all
    }

    /// Checks the account of the objects' bytes against the objects: for tests, in linear time.
    ///
    /// # Panics
    /// When they differ.
    pub fn audit(&self) {
        let bytes = |object: &Object| object.key_bytes() + object.value.memory_bytes();
        let all: usize = self.objects.iter().map(bytes).sum();
        assert_eq!(self.object_bytes.all, all);
    }

    /// Bytes that entries occupy, fragmentation included.
    pub fn page_bytes(&self) -> usize {
        self.arena.page_bytes()
    }

    /// Bytes free in the pages that hold entries.
    pub fn slack_bytes(&self) -> usize {
        self.arena
            .page_bytes()
            .saturating_sub(self.arena.used_bytes())
    }

    /// Bytes of a database's index, and of the deadlines of its keys.
    pub fn index_bytes(&self, db: u32) -> (usize, usize) {
        let db = &self.dbs[db as usize];
        let expires: usize = self.dbs.iter().map(|db| db.expires).sum();
        let deadlines = self.wheel.memory_bytes() * db.expires / expires.max(1);
        (db.dict.memory_bytes(), deadlines)
    }

    /// Bytes of the index alone: what is not data.
    pub fn overhead_bytes(&self) -> usize {
        let dicts: usize = self.dbs.iter().map(|db| db.dict.memory_bytes()).sum();
        dicts + self.wheel.memory_bytes()
    }

    /// Buckets and overflow buckets of a database, for DEBUG HTSTATS.
    pub fn dict_shape(&self, db: u32) -> (usize, usize) {
        self.dbs[db as usize].dict.shape()
    }
}

fn key_of<'a>(arena: &'a Arena, objects: &'a Slab<Object>, handle: Handle) -> &'a [u8] {
    let slot = arena.get(handle);
    key_in(slot, &entry::layout(slot), objects)
}

/// The same where the entry has been looked at.
#[inline]
fn key_in<'a>(slot: &'a [u8], layout: &Layout, objects: &'a Slab<Object>) -> &'a [u8] {
    if layout.key_outside {
        objects
            .get(layout.object(slot))
            .key
            .as_deref()
            .unwrap_or_default()
    } else {
        &slot[layout.key()]
    }
}

#[cfg(test)]
mod tests;
