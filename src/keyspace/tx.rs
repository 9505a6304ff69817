//! The transaction: the only way to read or change keys.
//!
//! Every change is followed by [`Tx::wrote`] (or one of its forms), the last thing a command does
//! before its reply: events and records describe a finished change. A debug build asserts it.

mod clocks;
mod collections;
mod moves;
mod store;
mod strings;
mod values;
mod whole;

pub use collections::Context;
pub use values::{EMBSTR_MAX_BYTES, Encoded, NewStr, Stored, Str, Taken, Ttl};
pub use whole::Seen;

use super::effects::Event;
use super::entry::{self, Encoding, Layout};
use super::{Due, Foreseen, Keyspace, Object, Settings, key_in};
use crate::number::parse_i64;
use crate::value::dict::{Handle, Position};
use crate::value::lzf::Compressor;
use crate::value::{Kind, Value};

/// The key holds another type than the command works on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WrongType;

#[derive(Clone, Copy)]
struct Found {
    hash: u64,
    position: Position,
    handle: Handle,
    layout: Layout,
}

/// A transaction on one database of one shard, at one instant.
pub struct Tx<'a> {
    ks: &'a mut Keyspace,
    db: u32,
    now_ms: i64,
    touch: bool,
    due: Due,
    /// The access clock of the value that is stored next, if it brings its own.
    clock: Option<u32>,
    /// A change was made and `wrote` has not been called since.
    unaccounted: bool,
    /// The last change emptied a collection, whose key went with it.
    emptied: bool,
}

impl<'a> Tx<'a> {
    pub(super) fn new(ks: &'a mut Keyspace, db: u32, now_ms: i64, touch: bool) -> Tx<'a> {
        let due = ks.due();
        Tx {
            ks,
            db,
            now_ms,
            touch,
            due,
            clock: None,
            unaccounted: false,
            emptied: false,
        }
    }

    /// What it makes of keys whose time has come, if not what the server's role says.
    pub fn with_due(self, due: Due) -> Self {
        Tx { due, ..self }
    }

    /// The last deadline that has passed if it is set now, so that its key, or field, goes at once. On
    /// a replica there is none: it is the master that says when. Redis: expire.c checkAlreadyExpired.
    pub fn past_ms(&self) -> i64 {
        match self.ks.is_replica {
            true => i64::MIN,
            false => self.now_ms,
        }
    }

    /// Ends the transaction.
    pub fn finish(self) {
        debug_assert!(!self.unaccounted, "a change without a record");
    }

    pub fn now_ms(&self) -> i64 {
        self.now_ms
    }

    /// What is noted as the time of something: also while data is loaded, when [`Tx::now_ms`] stands
    /// still at 0.
    pub fn clock_ms(&self) -> i64 {
        match self.now_ms {
            0 => self.ks.loads_at_ms,
            now_ms => now_ms,
        }
    }

    pub fn db(&self) -> u32 {
        self.db
    }

    /// What follows is the work of this step of a command over several shards.
    #[inline]
    pub fn set_place(&mut self, at: usize) {
        self.ks.effects.set_place(at as u32);
    }

    /// Does several steps of a command here; what they tell is told in the order of their places, as
    /// it would be of several shards.
    pub fn in_places<T>(&mut self, work: impl FnOnce(&mut Tx) -> T) -> T {
        let (place, begun) = self.ks.effects.place();
        let result = work(self);
        self.ks.effects.gather_places(place, begun);
        result
    }

    /// Goes on in another database.
    pub fn select(&mut self, db: u32) {
        self.db = db;
    }

    /// Fetches what is about to be looked at: see [`Keyspace::warm`].
    pub fn warm<'k>(&self, keys: impl Iterator<Item = &'k [u8]>) {
        if self.ks.is_cold(self.db) {
            let keys = keys.map(|key| Foreseen::key(self.db, key));
            self.ks.warm(keys);
        }
    }

    /// For DUMP; give it back.
    pub fn take_compressor(&mut self) -> Compressor {
        std::mem::take(&mut self.ks.compressor)
    }

    pub fn keep_compressor(&mut self, mut compressor: Compressor) {
        compressor.shrink();
        self.ks.compressor = compressor;
    }

    pub fn databases(&self) -> u32 {
        self.ks.databases()
    }

    pub fn settings(&self) -> &Settings {
        &self.ks.settings
    }

    /// Has the log say what was wrong with a client's input, beyond what the client is told.
    pub fn complain(&mut self, what: &dyn std::fmt::Display) {
        self.ks.effects.complain(what);
    }

    pub fn rng(&mut self) -> &mut fastrand::Rng {
        &mut self.ks.rng
    }

    // ---- finding

    fn find_any(&self, key: &[u8]) -> Option<Found> {
        let hash = self.ks.hash(key);
        let (arena, objects) = (&self.ks.arena, &self.ks.objects);
        let dict = &self.ks.dbs[self.db as usize].dict;
        let (position, handle, layout) = dict.find_map(hash, |handle| {
            let slot = arena.get(handle);
            let layout = entry::layout(slot);
            (key_in(slot, &layout, objects) == key).then_some(layout)
        })?;
        Some(Found {
            hash,
            position,
            handle,
            layout,
        })
    }

    /// The live entry of a key; one that is due is deleted on the way, or passed over: see [`Due`].
    fn find(&mut self, key: &[u8]) -> Option<Found> {
        let found = self.find_any(key)?;
        if found.layout.has_expiry {
            let (deadline_ms, _) = found.layout.expiry(self.ks.arena.get(found.handle));
            if deadline_ms <= self.now_ms && self.due != Due::Keep {
                if self.due == Due::Delete {
                    self.delete_as(key, Event::EXPIRED);
                }
                return None;
            }
        }
        if found.layout.encoding == Encoding::Object && self.has_due_fields(&found) {
            return match self.due {
                Due::Delete => self.expire_fields(key, found),
                Due::Hide => (!self.is_over(&found)).then_some(found),
                Due::Keep => Some(found),
            };
        }
        Some(found)
    }

    /// A read by a command: counted, and noted in the access clock.
    fn find_read(&mut self, key: &[u8]) -> Option<Found> {
        match self.find(key) {
            Some(found) => {
                self.ks.counters.hits += 1;
                self.touch(found.handle);
                Some(found)
            }
            None => {
                self.missed(key);
                None
            }
        }
    }

    fn missed(&mut self, key: &[u8]) {
        self.ks.counters.misses += 1;
        self.ks.effects.occurred(self.db, key, Event::KEYMISS);
    }

    /// Counts what was looked up for a command that reads.
    pub fn count_read(&mut self, key: &[u8], found: bool) {
        match found {
            true => self.ks.counters.hits += 1,
            false => self.missed(key),
        }
    }

    /// Counts a lookup that nobody is told of, also where there is no such key. Redis: object.c looks
    /// keys up with LOOKUP_NONOTIFY.
    pub fn count_lookup(&mut self, key: &[u8]) {
        match self.find(key).is_some() {
            true => self.ks.counters.hits += 1,
            false => self.ks.counters.misses += 1,
        }
    }

    // ---- reading

    /// Whether a key exists; it becomes younger.
    pub fn touch_key(&mut self, key: &[u8]) -> bool {
        self.find_read(key).is_some()
    }

    /// Whether a key exists: counts as a lookup, but the key does not become younger.
    pub fn exists(&mut self, key: &[u8]) -> bool {
        // Redis: db.c existsCommand counts the lookup, but it is no use of the value.
        let touch = std::mem::replace(&mut self.touch, false);
        let found = self.find_read(key).is_some();
        self.touch = touch;
        found
    }

    /// Whether a key exists, without counting as a use.
    pub fn peek_exists(&mut self, key: &[u8]) -> bool {
        self.find(key).is_some()
    }

    /// The type of a key, by a command that reads it: counted, but not noted in the access clock.
    pub fn kind_read(&mut self, key: &[u8]) -> Option<Kind> {
        let kind = self.kind(key);
        self.count_read(key, kind.is_some());
        kind
    }

    /// The type of a key, without counting as a use.
    pub fn kind(&mut self, key: &[u8]) -> Option<Kind> {
        let found = self.find(key)?;
        Some(self.kind_of(found.handle, &found.layout))
    }

    fn kind_of(&self, handle: Handle, layout: &Layout) -> Kind {
        match layout.encoding {
            Encoding::Int | Encoding::Text => Kind::String,
            Encoding::Object => self
                .ks
                .objects
                .get(layout.object(self.ks.arena.get(handle)))
                .value
                .kind(),
        }
    }

    /// A key's expiry, without counting as a use. `None`: no such key; `Some(None)`: it stays.
    pub fn expire_at(&mut self, key: &[u8]) -> Option<Option<i64>> {
        let found = self.find(key)?;
        Some(self.deadline(&found))
    }

    fn deadline(&self, found: &Found) -> Option<i64> {
        let slot = self.ks.arena.get(found.handle);
        found.layout.has_expiry.then(|| found.layout.expiry(slot).0)
    }

    /// For OBJECT ENCODING.
    pub fn encoded(&mut self, key: &[u8]) -> Option<Encoded> {
        let found = self.find(key)?;
        let slot = self.ks.arena.get(found.handle);
        Some(match found.layout.encoding {
            Encoding::Int => Encoded::Int(found.layout.int(slot)),
            Encoding::Text
                if !found.layout.edited && found.layout.text(slot).len() <= EMBSTR_MAX_BYTES =>
            {
                Encoded::Embstr
            }
            Encoding::Object => self.encoded_object(&found),
            Encoding::Text => Encoded::Raw,
        })
    }

    /// Short strings stand outside only because their key is too long for a slot.
    fn encoded_object(&self, found: &Found) -> Encoded {
        let at = found.layout.object(self.ks.arena.get(found.handle));
        match &self.ks.objects.get(at).value {
            Value::Shared(bytes) if !found.layout.edited => match parse_i64(bytes) {
                Some(n) => Encoded::Int(n),
                None if bytes.len() <= EMBSTR_MAX_BYTES => Encoded::Embstr,
                None => Encoded::Raw,
            },
            Value::Shared(_) | Value::Edited(_) => Encoded::Raw,
            collection => Encoded::Named(collection.encoding()),
        }
    }

    /// Bytes that a key costs, its share of the index included.
    pub fn memory_usage(&mut self, key: &[u8]) -> Option<usize> {
        const INDEX_BYTES: usize = 8;
        const NODE_BYTES: usize = 32;
        let found = self.find(key)?;
        let slot = self.ks.arena.get(found.handle);
        let mut bytes = slot.len() + INDEX_BYTES;
        if found.layout.has_expiry {
            bytes += NODE_BYTES;
        }
        if found.layout.encoding == Encoding::Object {
            let object = self.ks.objects.get(found.layout.object(slot));
            bytes += size_of::<Object>() + object.key_bytes() + object.value.memory_bytes();
        }
        Some(bytes)
    }

    /// To be called before an entry changes or goes.
    fn will_change(&mut self, found: &Found) {
        self.unaccounted = true;
        self.ks.preserve(self.db, found.handle);
    }
}
