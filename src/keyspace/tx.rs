//! The transaction: the only way to read or change keys.
//!
//! Every change is followed by [`Tx::wrote`] (or one of its forms), the last thing a command does
//! before its reply: events and records describe a finished change. A debug build asserts it.

mod collections;
mod whole;

pub use collections::Context;
pub use whole::Seen;

use bytes::{Bytes, BytesMut};

use super::arena::SLOT_MAX_BYTES;
use super::cut::KeptValue;
use super::due::shown;
use super::effects::Event;
use super::entry::{self, Encoding, Layout, Payload, Shape};
use super::{Due, Foreseen, Keyspace, Object, Settings, key_of, owner, wheel};
use crate::number::parse_i64;
use crate::value::dict::{Handle, Position};
use crate::value::{Kind, Value};

/// The key holds another type than the command works on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WrongType;

/// A string to be stored.
#[derive(Clone, Debug)]
pub enum NewStr<'a> {
    Int(i64),
    /// Stored as an integer if it looks like one.
    Bytes(&'a [u8]),
    /// The same, without a copy if it is large.
    Shared(Bytes),
    /// Never stored as an integer.
    Text(&'a [u8]),
    /// The same, and `raw` to OBJECT ENCODING however short: bytes that are edited in place.
    Raw(&'a [u8]),
}

/// What becomes of a key's expiry when it is overwritten.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ttl {
    Keep,
    Clear,
    /// Unix milliseconds.
    At(i64),
}

/// A string as it is stored.
#[derive(Clone, Copy, Debug)]
pub enum Str<'a> {
    Int(i64),
    Bytes(&'a [u8]),
    Shared(&'a Bytes),
}

impl<'a> Str<'a> {
    /// Its bytes; integers are printed into `scratch`.
    pub fn bytes(self, scratch: &'a mut itoa::Buffer) -> &'a [u8] {
        match self {
            Str::Int(n) => scratch.format(n).as_bytes(),
            Str::Bytes(bytes) => bytes,
            Str::Shared(bytes) => bytes,
        }
    }

    pub fn len(self) -> usize {
        self.bytes(&mut itoa::Buffer::new()).len()
    }

    pub fn is_empty(self) -> bool {
        self.len() == 0
    }

    /// An owned copy, shared where it is large.
    pub fn to_bytes(self) -> Bytes {
        match self {
            Str::Shared(bytes) => bytes.clone(),
            small => Bytes::copy_from_slice(small.bytes(&mut itoa::Buffer::new())),
        }
    }
}

/// How a key's value is encoded, in the words of OBJECT ENCODING.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encoded {
    Int(i64),
    Embstr,
    Raw,
    /// A collection's encoding.
    Named(&'static str),
}

/// A value outside a keyspace: on its way to another key, database or shard.
#[derive(Clone, Debug)]
pub struct Taken {
    pub value: Stored,
    pub expire_at: Option<i64>,
    clock: u32,
}

impl Taken {
    /// A value from outside.
    pub fn new(value: Stored, expire_at: Option<i64>) -> Taken {
        Taken {
            value,
            expire_at,
            clock: 0,
        }
    }
}

#[derive(Clone, Debug)]
pub enum Stored {
    Int(i64),
    Text { bytes: Box<[u8]>, edited: bool },
    Object(Value),
}

impl Stored {
    /// The value for whoever encodes it.
    pub fn kept(&self) -> KeptValue<'_> {
        match self {
            Stored::Int(n) => KeptValue::Int(*n),
            Stored::Text { bytes, .. } => KeptValue::Text(bytes),
            Stored::Object(value) => KeptValue::Object(value),
        }
    }
}

/// Longest string that Redis embeds in its object. Redis: object.c OBJ_ENCODING_EMBSTR_SIZE_LIMIT.
pub const EMBSTR_MAX_BYTES: usize = 44;

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
        let (position, handle) = dict.find(hash, |handle| key_of(arena, objects, handle) == key)?;
        Some(Found {
            hash,
            position,
            handle,
            layout: entry::layout(arena.get(handle)),
        })
    }

    /// The value of an object, without the fields that are not to be seen.
    fn shown(&self, at: u32) -> &Value {
        shown(&self.ks.shadow, &self.ks.objects, at)
    }

    /// The live entry of a key; one that is due is deleted on the way, or passed over: see [`Due`].
    fn find(&mut self, key: &[u8]) -> Option<Found> {
        if self.due == Due::Hide {
            self.ks.shadow = None;
        }
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
                Due::Hide => self.hide_fields(found),
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

    fn touch(&mut self, handle: Handle) {
        if !self.touch {
            return;
        }
        let old = entry::clock(self.ks.arena.get(handle));
        let new = if self.ks.settings.lfu {
            self.used_once_more(old)
        } else {
            self.lru_clock()
        };
        if new != old {
            entry::set_clock(self.ks.arena.get_mut(handle), new);
        }
    }

    fn lru_clock(&self) -> u32 {
        (self.now_ms / 1000) as u32 & 0xff_ffff
    }

    /// Seconds since the use that an access clock tells of.
    pub(super) fn idle_of(&self, clock: u32) -> u32 {
        self.lru_clock().wrapping_sub(clock) & 0xff_ffff
    }

    fn lfu_minutes(&self) -> u32 {
        (self.now_ms / 60_000) as u32 & 0xffff
    }

    fn new_clock(&self) -> u32 {
        /// Redis: evict.c LFU_INIT_VAL: new keys get a chance.
        const FIRST_COUNT: u32 = 5;
        if self.ks.settings.lfu {
            self.lfu_minutes() << 8 | FIRST_COUNT
        } else {
            self.lru_clock()
        }
    }

    pub(super) fn decayed_count(&self, clock: u32) -> u32 {
        let elapsed = self.lfu_minutes().wrapping_sub(clock >> 8) & 0xffff;
        let periods = elapsed
            .checked_div(self.ks.settings.lfu_decay_time)
            .unwrap_or(0);
        (clock & 0xff).saturating_sub(periods)
    }

    /// The logarithmic counter. Redis: evict.c LFULogIncr.
    fn used_once_more(&mut self, clock: u32) -> u32 {
        let mut count = self.decayed_count(clock);
        if count < 255 {
            let base = count.saturating_sub(5) as f64;
            let chance = 1.0 / (base * f64::from(self.ks.settings.lfu_log_factor) + 1.0);
            if self.ks.rng.f64() < chance {
                count += 1;
            }
        }
        self.lfu_minutes() << 8 | count
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

    /// Reads a string; counts as a use.
    #[inline]
    pub fn string(&mut self, key: &[u8]) -> Result<Option<Str<'_>>, WrongType> {
        match self.find_read(key) {
            None => Ok(None),
            Some(found) => self.read_string(found).map(Some),
        }
    }

    /// Reads a string without counting as a use: on the way to changing it.
    pub fn peek_string(&mut self, key: &[u8]) -> Result<Option<Str<'_>>, WrongType> {
        match self.find(key) {
            None => Ok(None),
            Some(found) => self.read_string(found).map(Some),
        }
    }

    fn read_string(&mut self, found: Found) -> Result<Str<'_>, WrongType> {
        let slot = self.ks.arena.get(found.handle);
        match found.layout.encoding {
            Encoding::Int => Ok(Str::Int(found.layout.int(slot))),
            Encoding::Text => Ok(Str::Bytes(&slot[found.layout.text(slot)])),
            Encoding::Object => {
                let object = self.ks.objects.get_mut(found.layout.object(slot));
                match object.value.kind() {
                    Kind::String => Ok(Str::Shared(object.value.share())),
                    _ => Err(WrongType),
                }
            }
        }
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

    /// Seconds since a key's last use; without counting as one.
    pub fn idle_s(&mut self, key: &[u8]) -> Option<i64> {
        let found = self.find(key)?;
        let clock = entry::clock(self.ks.arena.get(found.handle));
        Some(i64::from(self.idle_of(clock)))
    }

    /// The logarithmic use counter of a key; without counting as a use.
    pub fn frequency(&mut self, key: &[u8]) -> Option<i64> {
        let found = self.find(key)?;
        let clock = entry::clock(self.ks.arena.get(found.handle));
        Some(i64::from(self.decayed_count(clock)))
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
            bytes += size_of::<Object>() + object.value.memory_bytes();
            bytes += object.key.as_ref().map_or(0, |key| key.len());
        }
        Some(bytes)
    }

    /// To be called before an entry changes or goes.
    fn will_change(&mut self, found: &Found) {
        self.unaccounted = true;
        self.ks.preserve(self.db, found.handle);
    }

    // ---- writing strings

    /// Stores a string, whatever the key held. Returns whether the key is new.
    pub fn set_string(&mut self, key: &[u8], value: NewStr, ttl: Ttl) -> bool {
        match value {
            NewStr::Int(n) => self.store(key, Payload::Int(n), None, false, ttl),
            NewStr::Bytes(bytes) => self.store_text(key, bytes, ttl),
            NewStr::Shared(bytes) if bytes.len() > SLOT_MAX_BYTES => self.store(
                key,
                Payload::Object(0),
                Some(Value::Shared(bytes)),
                false,
                ttl,
            ),
            NewStr::Shared(bytes) => self.store_text(key, &bytes, ttl),
            NewStr::Text(bytes) => self.store(key, Payload::Text(bytes), None, false, ttl),
            NewStr::Raw(bytes) => self.store(key, Payload::Text(bytes), None, true, ttl),
        }
    }

    fn store_text(&mut self, key: &[u8], bytes: &[u8], ttl: Ttl) -> bool {
        let payload = match parse_i64(bytes) {
            Some(n) => Payload::Int(n),
            None => Payload::Text(bytes),
        };
        self.store(key, payload, None, false, ttl)
    }

    /// Replaces a string by an integer and keeps its expiry.
    pub fn set_int(&mut self, key: &[u8], n: i64) {
        if let Some(found) = self.find(key)
            && found.layout.encoding == Encoding::Int
        {
            self.will_change(&found);
            self.touch(found.handle);
            found.layout.set_int(self.ks.arena.get_mut(found.handle), n);
            return;
        }
        self.store(key, Payload::Int(n), None, false, Ttl::Keep);
    }

    /// Stores a payload under a key. `value` makes it an object; a payload that does not fit a slot
    /// becomes one.
    fn store(
        &mut self,
        key: &[u8],
        payload: Payload,
        value: Option<Value>,
        edited: bool,
        ttl: Ttl,
    ) -> bool {
        self.unaccounted = true;
        let mut found = self.find(key);
        if found.is_none() && self.due == Due::Hide {
            found = self.find_any(key);
        }
        if let Some(found) = &found {
            self.will_change(found);
        }
        let deadline = match ttl {
            Ttl::Keep => found.as_ref().and_then(|found| self.deadline(found)),
            Ttl::Clear => None,
            Ttl::At(at_ms) => Some(at_ms),
        };
        let mut shape = Shape {
            key: Some(key),
            payload,
            has_expiry: deadline.is_some(),
            edited,
        };
        let object = self.make_object(&mut shape, value);
        let clock = self.clock.take().unwrap_or_else(|| self.new_clock());
        let is_new = found.is_none();
        match found {
            Some(found) => self.overwrite(found, &shape, clock, deadline),
            None => self.insert(key, &shape, clock, deadline),
        }
        debug_assert!(object.is_none() || matches!(shape.payload, Payload::Object(_)));
        if object.is_some() {
            self.link_fields(key);
        }
        if is_new {
            self.ks.effects.occurred(self.db, key, Event::NEW);
        }
        is_new
    }

    /// Moves out of the slot what does not fit in one: the value, and if need be the key.
    fn make_object(&mut self, shape: &mut Shape, value: Option<Value>) -> Option<u32> {
        let value = match value {
            Some(value) => value,
            None if shape.bytes() <= SLOT_MAX_BYTES => return None,
            None => Value::Shared(match shape.payload {
                Payload::Text(text) => Bytes::copy_from_slice(text),
                Payload::Zeros(len) => BytesMut::zeroed(len).freeze(),
                Payload::Int(n) => Bytes::from(n.to_string()),
                Payload::Object(_) => unreachable!("objects come with their value"),
            }),
        };
        self.ks.object_bytes += value.memory_bytes();
        shape.payload = Payload::Object(0);
        let key = if shape.bytes() > SLOT_MAX_BYTES {
            shape.key.take().map(Box::from)
        } else {
            None
        };
        let fields_node = wheel::NONE;
        let index = self.ks.objects.insert(Object {
            key,
            value,
            fields_node,
        });
        shape.payload = Payload::Object(index);
        Some(index)
    }

    fn insert(&mut self, key: &[u8], shape: &Shape, clock: u32, deadline: Option<i64>) {
        let handle = self.ks.arena.allocate(shape.bytes());
        shape.write(self.ks.arena.get_mut(handle), clock, self.ks.mark);
        let hash = self.ks.hash(key);
        let (arena, objects, hasher) = (&self.ks.arena, &self.ks.objects, &self.ks.hasher);
        let hash_of = |handle| hasher.hash_one(key_of(arena, objects, handle));
        let db = &mut self.ks.dbs[self.db as usize];
        db.dict.insert(hash, handle, hash_of);
        if let Some(at_ms) = deadline {
            db.expires += 1;
            let node = self.ks.wheel.insert(at_ms, owner(handle, db.incarnation));
            let slot = self.ks.arena.get_mut(handle);
            entry::layout(slot).set_expiry(slot, at_ms, node);
            self.note_own(handle, at_ms);
        }
    }

    /// Writes an entry over another, in place if the slot fits.
    fn overwrite(&mut self, found: Found, shape: &Shape, clock: u32, deadline: Option<i64>) {
        let old = self.ks.arena.get(found.handle);
        if found.layout.encoding == Encoding::Object {
            self.ks.discard_object(found.layout.object(old));
        }
        let old = self.ks.arena.get(found.handle);
        let old_node = found.layout.has_expiry.then(|| found.layout.expiry(old).1);
        let handle = if self.ks.arena.fits(found.handle, shape.bytes()) {
            found.handle
        } else {
            let handle = self.ks.arena.allocate(shape.bytes());
            self.ks.arena.free(found.handle);
            self.ks.dbs[self.db as usize]
                .dict
                .replace(found.position, handle);
            handle
        };
        shape.write(self.ks.arena.get_mut(handle), clock, self.ks.mark);
        self.link_expiry(handle, old_node, deadline);
    }

    /// Connects an entry that was just written with the wheel; `old_node` is what it had before.
    fn link_expiry(&mut self, handle: Handle, old_node: Option<u32>, deadline: Option<i64>) {
        let db = &mut self.ks.dbs[self.db as usize];
        let node = match (old_node, deadline) {
            (None, None) => return,
            (Some(node), None) => {
                self.ks.wheel.cancel(node);
                db.expires -= 1;
                return;
            }
            (Some(node), Some(at_ms)) => {
                self.ks.wheel.set_owner(node, owner(handle, db.incarnation));
                if self.ks.wheel.deadline(node) != at_ms {
                    self.ks.wheel.reschedule(node, at_ms);
                }
                node
            }
            (None, Some(at_ms)) => {
                db.expires += 1;
                self.ks.wheel.insert(at_ms, owner(handle, db.incarnation))
            }
        };
        if let Some(at_ms) = deadline {
            let slot = self.ks.arena.get_mut(handle);
            entry::layout(slot).set_expiry(slot, at_ms, node);
            self.note_own(handle, at_ms);
        }
    }

    /// A string's bytes for editing in place, at least `min_len` of them, new ones being zero; the
    /// key is created if it does not exist. Its expiry stays.
    pub fn string_mut(&mut self, key: &[u8], min_len: usize) -> Result<&mut [u8], WrongType> {
        let Some(found) = self.find(key) else {
            self.store(key, Payload::Zeros(min_len), None, true, Ttl::Clear);
            return self.edit(key);
        };
        self.will_change(&found);
        let slot = self.ks.arena.get(found.handle);
        match found.layout.encoding {
            Encoding::Int => {
                let mut text = found.layout.int(slot).to_string().into_bytes();
                text.resize(text.len().max(min_len), 0);
                self.store(key, Payload::Text(&text), None, true, Ttl::Keep);
            }
            Encoding::Text => self.grow_text(key, &found, min_len),
            Encoding::Object => {
                let object = self.ks.objects.get_mut(found.layout.object(slot));
                if object.value.kind() != Kind::String {
                    self.unaccounted = false;
                    return Err(WrongType);
                }
                let before = object.value.memory_bytes();
                let bytes = object.value.edit();
                if bytes.len() < min_len {
                    bytes.resize(min_len, 0);
                }
                let after = object.value.memory_bytes();
                self.ks.object_bytes = (self.ks.object_bytes + after).saturating_sub(before);
            }
        }
        self.edit(key)
    }

    fn grow_text(&mut self, key: &[u8], found: &Found, min_len: usize) {
        let slot = self.ks.arena.get(found.handle);
        let text = found.layout.text(slot);
        let (len, start) = (text.len().max(min_len), text.start);
        if start + len <= slot.len() {
            entry::grow_text(self.ks.arena.get_mut(found.handle), len);
            return;
        }
        // At most a slot is copied; longer strings grow in an object with room to spare.
        let mut grown = slot[text].to_vec();
        grown.resize(len, 0);
        if start + len > SLOT_MAX_BYTES {
            let value = Value::Edited(BytesMut::from(&grown[..]));
            self.store(key, Payload::Object(0), Some(value), true, Ttl::Keep);
        } else {
            self.store(key, Payload::Text(&grown), None, true, Ttl::Keep);
        }
    }

    /// The bytes of a string that is text or an object by now.
    fn edit(&mut self, key: &[u8]) -> Result<&mut [u8], WrongType> {
        let found = self.find_any(key).ok_or(WrongType)?;
        self.touch(found.handle);
        let slot = self.ks.arena.get_mut(found.handle);
        match found.layout.encoding {
            Encoding::Int => Err(WrongType),
            Encoding::Text => {
                let text = found.layout.text(slot);
                Ok(&mut slot[text])
            }
            Encoding::Object => Ok(self
                .ks
                .objects
                .get_mut(found.layout.object(slot))
                .value
                .edit()),
        }
    }

    // ---- keys

    /// Deletes a key. Returns whether it existed.
    pub fn remove(&mut self, key: &[u8]) -> bool {
        let Some(found) = self.find(key) else {
            return false;
        };
        self.will_change(&found);
        self.unlink(&found);
        self.ks.drop_entry(found.handle);
        true
    }

    fn unlink(&mut self, found: &Found) {
        let db = &mut self.ks.dbs[self.db as usize];
        db.dict.remove(found.hash, found.position);
        db.expires -= usize::from(found.layout.has_expiry);
    }

    /// Deletes a key because its time has come or memory is short: the one way keys expire.
    pub(super) fn delete_as(&mut self, key: &[u8], event: Event) {
        let Some(found) = self.find_any(key) else {
            return;
        };
        match event {
            Event::EVICTED => self.ks.counters.evicted += 1,
            _ => {
                self.ks.counters.expired += 1;
                let deadline = self.deadline(&found);
                self.ks.effects.expired_at.extend(deadline);
            }
        }
        self.ks.preserve(self.db, found.handle);
        self.unlink(&found);
        self.ks.drop_entry(found.handle);
        self.ks.effects.deleted(self.db, key, event);
    }

    /// Sets or removes a key's expiry (unix milliseconds). Returns whether the key exists.
    pub fn set_expiry(&mut self, key: &[u8], deadline: Option<i64>) -> bool {
        let Some(found) = self.find(key) else {
            return false;
        };
        self.will_change(&found);
        let slot = self.ks.arena.get(found.handle);
        if found.layout.has_expiry == deadline.is_some() {
            let node = found.layout.has_expiry.then(|| found.layout.expiry(slot).1);
            self.link_expiry(found.handle, node, deadline);
            return true;
        }
        self.rebuild(key, &found, deadline);
        true
    }

    /// Builds an entry anew around the same value, because it gains or loses the expiry fields.
    fn rebuild(&mut self, key: &[u8], found: &Found, deadline: Option<i64>) {
        let copy = self.ks.arena.get(found.handle).to_vec();
        let clock = entry::clock(&copy);
        let old_node = found
            .layout
            .has_expiry
            .then(|| found.layout.expiry(&copy).1);
        let shape = Shape {
            key: (!found.layout.key_outside).then_some(key),
            payload: match found.layout.encoding {
                Encoding::Int => Payload::Int(found.layout.int(&copy)),
                Encoding::Text => Payload::Text(&copy[found.layout.text(&copy)]),
                Encoding::Object => Payload::Object(found.layout.object(&copy)),
            },
            has_expiry: deadline.is_some(),
            edited: found.layout.edited,
        };
        if shape.bytes() > SLOT_MAX_BYTES {
            // The fields push the value, or a long key, out of the slot.
            let mut taken = self.extract(found, true);
            taken.expire_at = deadline;
            return self.put(key, taken);
        }
        let handle = self.ks.arena.allocate(shape.bytes());
        self.ks.arena.free(found.handle);
        self.ks.dbs[self.db as usize]
            .dict
            .replace(found.position, handle);
        shape.write(self.ks.arena.get_mut(handle), clock, self.ks.mark);
        self.link_expiry(handle, old_node, deadline);
        if found.layout.encoding == Encoding::Object {
            self.link_fields(key);
        }
    }

    /// Takes a value out of the keyspace, with its expiry.
    pub fn take(&mut self, key: &[u8]) -> Option<Taken> {
        let found = self.find(key)?;
        self.will_change(&found);
        let taken = self.extract(&found, true);
        self.unlink(&found);
        self.ks.drop_entry(found.handle);
        Some(taken)
    }

    /// A copy of a key's value, with its expiry.
    pub fn clone_value(&mut self, key: &[u8]) -> Option<Taken> {
        let found = self.find(key)?;
        Some(self.extract(&found, false))
    }

    fn extract(&mut self, found: &Found, by_move: bool) -> Taken {
        let expire_at = self.deadline(found);
        let slot = self.ks.arena.get(found.handle);
        let clock = entry::clock(slot);
        let value = match found.layout.encoding {
            Encoding::Int => Stored::Int(found.layout.int(slot)),
            Encoding::Text => Stored::Text {
                bytes: slot[found.layout.text(slot)].into(),
                edited: found.layout.edited,
            },
            Encoding::Object if by_move => {
                let object = self.ks.objects.get_mut(found.layout.object(slot));
                let empty = Value::Shared(Bytes::new());
                let value = std::mem::replace(&mut object.value, empty);
                self.ks.object_bytes = self.ks.object_bytes.saturating_sub(value.memory_bytes());
                Stored::Object(value)
            }
            Encoding::Object => Stored::Object(self.shown(found.layout.object(slot)).clone()),
        };
        Taken {
            value,
            expire_at,
            clock,
        }
    }

    /// Gives a value from outside the access clock that its idle time or frequency says, or that of
    /// a new key.
    pub fn set_clock(&self, taken: &mut Taken, idle_s: Option<i64>, frequency: Option<i64>) {
        taken.clock = self.clock_of(idle_s, frequency);
    }

    fn clock_of(&self, idle_s: Option<i64>, frequency: Option<i64>) -> u32 {
        match (idle_s, frequency) {
            (Some(idle_s), _) if !self.ks.settings.lfu => {
                let idle_s = u32::try_from(idle_s).unwrap_or(u32::MAX);
                self.lru_clock().wrapping_sub(idle_s) & 0xff_ffff
            }
            (_, Some(frequency)) if self.ks.settings.lfu => {
                self.lfu_minutes() << 8 | frequency.clamp(0, 255) as u32
            }
            _ => self.new_clock(),
        }
    }

    /// Stores a string that was read from a file, with its access clock.
    pub fn load_text(
        &mut self,
        key: &[u8],
        text: &[u8],
        expire_at_ms: Option<i64>,
        (idle_s, frequency): (Option<i64>, Option<i64>),
    ) {
        self.clock = Some(self.clock_of(idle_s, frequency));
        self.store_text(key, text, expire_at_ms.map_or(Ttl::Clear, Ttl::At));
        self.unaccounted = false;
    }

    /// Stores a value that was read from a file: no change that anybody is told of.
    pub fn load(&mut self, key: &[u8], taken: Taken) {
        self.put(key, taken);
        self.unaccounted = false;
    }

    /// Stores a value that was taken elsewhere, whatever the key held.
    pub fn put(&mut self, key: &[u8], taken: Taken) {
        let ttl = taken.expire_at.map_or(Ttl::Clear, Ttl::At);
        self.clock = Some(taken.clock);
        match taken.value {
            Stored::Int(n) => self.store(key, Payload::Int(n), None, false, ttl),
            Stored::Text { bytes, edited } => {
                self.store(key, Payload::Text(&bytes), None, edited, ttl)
            }
            Stored::Object(value) => self.store(key, Payload::Object(0), Some(value), false, ttl),
        };
    }
}
