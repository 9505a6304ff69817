//! What transactions did: the one source of everything that follows from a change.

use super::interest::Interest;
use super::records::{Audience, Records};
use super::tracking::Tracking;

/// A keyspace event: its name and its class bit of `notify-keyspace-events`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Event {
    pub name: &'static str,
    pub class: u32,
}

/// Class bits. Redis: server.h NOTIFY_*.
pub mod class {
    /// Announced under the key's name.
    pub const KEYSPACE: u32 = 1 << 0;
    /// Announced under the event's name.
    pub const KEYEVENT: u32 = 1 << 1;
    /// Changes that Redis does not announce.
    pub const SILENT: u32 = 0;
    pub const GENERIC: u32 = 1 << 2;
    pub const STRING: u32 = 1 << 3;
    pub const LIST: u32 = 1 << 4;
    pub const SET: u32 = 1 << 5;
    pub const HASH: u32 = 1 << 6;
    pub const ZSET: u32 = 1 << 7;
    pub const EXPIRED: u32 = 1 << 8;
    pub const EVICTED: u32 = 1 << 9;
    pub const STREAM: u32 = 1 << 10;
    pub const KEY_MISS: u32 = 1 << 11;
    pub const MODULE: u32 = 1 << 13;
    pub const NEW: u32 = 1 << 14;
    /// Whoever WATCHes the key or caches it sees no change: Redis announces these, but does not call
    /// signalModifiedKey (t_stream.c).
    pub const UNSEEN: u32 = 1 << 31;
    /// A stream's groups.
    pub const GROUP: u32 = STREAM | UNSEEN;
    /// What the letter A stands for.
    pub const ALL: u32 =
        GENERIC | STRING | LIST | SET | HASH | ZSET | EXPIRED | EVICTED | STREAM | MODULE;
}

macro_rules! events {
    ($($constant:ident = $name:literal, $class:ident;)*) => {
        impl Event {
            $(pub const $constant: Event = Event { name: $name, class: class::$class };)*
        }
    };
}

events! {
    DEL = "del", GENERIC;
    EXPIRE = "expire", GENERIC;
    PERSIST = "persist", GENERIC;
    RENAME_FROM = "rename_from", GENERIC;
    RENAME_TO = "rename_to", GENERIC;
    MOVE_FROM = "move_from", GENERIC;
    MOVE_TO = "move_to", GENERIC;
    COPY_TO = "copy_to", GENERIC;
    SET = "set", STRING;
    SETRANGE = "setrange", STRING;
    APPEND = "append", STRING;
    INCRBY = "incrby", STRING;
    INCRBYFLOAT = "incrbyfloat", STRING;
    SETBIT = "setbit", STRING;
    LPUSH = "lpush", LIST;
    RPUSH = "rpush", LIST;
    LPOP = "lpop", LIST;
    RPOP = "rpop", LIST;
    LSET = "lset", LIST;
    LREM = "lrem", LIST;
    LTRIM = "ltrim", LIST;
    LINSERT = "linsert", LIST;
    SADD = "sadd", SET;
    SREM = "srem", SET;
    SPOP = "spop", SET;
    SINTERSTORE = "sinterstore", SET;
    SUNIONSTORE = "sunionstore", SET;
    SDIFFSTORE = "sdiffstore", SET;
    HSET = "hset", HASH;
    HDEL = "hdel", HASH;
    HINCRBY = "hincrby", HASH;
    HINCRBYFLOAT = "hincrbyfloat", HASH;
    HEXPIRE = "hexpire", HASH;
    HPERSIST = "hpersist", HASH;
    HEXPIRED = "hexpired", HASH;
    ZADD = "zadd", ZSET;
    ZINCR = "zincr", ZSET;
    ZREM = "zrem", ZSET;
    ZREMRANGEBYSCORE = "zremrangebyscore", ZSET;
    ZREMRANGEBYRANK = "zremrangebyrank", ZSET;
    ZREMRANGEBYLEX = "zremrangebylex", ZSET;
    ZPOPMIN = "zpopmin", ZSET;
    ZPOPMAX = "zpopmax", ZSET;
    ZRANGESTORE = "zrangestore", ZSET;
    ZUNIONSTORE = "zunionstore", ZSET;
    ZINTERSTORE = "zinterstore", ZSET;
    ZDIFFSTORE = "zdiffstore", ZSET;
    GEOSEARCHSTORE = "geosearchstore", ZSET;
    GEORADIUSSTORE = "georadiusstore", ZSET;
    SORTSTORE = "sortstore", LIST;
    RESTORE = "restore", GENERIC;
    XADD = "xadd", STREAM;
    XTRIM = "xtrim", STREAM;
    XDEL = "xdel", STREAM;
    XSETID = "xsetid", GROUP;
    XGROUP_CREATE = "xgroup-create", GROUP;
    XGROUP_MKSTREAM = "xgroup-create", STREAM;
    XGROUP_SETID = "xgroup-setid", GROUP;
    XGROUP_DESTROY = "xgroup-destroy", GROUP;
    XGROUP_CREATECONSUMER = "xgroup-createconsumer", GROUP;
    XGROUP_DELCONSUMER = "xgroup-delconsumer", GROUP;
    XACK = "xack", UNSEEN;
    XCLAIM = "xclaim", UNSEEN;
    XREADGROUP = "xreadgroup", UNSEEN;
    PFADD = "pfadd", STRING;
    PFCOUNT = "pfcount", SILENT;
    PFDEBUG = "pfdebug", SILENT;
    EXPIRED = "expired", EXPIRED;
    EVICTED = "evicted", EVICTED;
    KEYMISS = "keymiss", KEY_MISS;
    NEW = "new", NEW;
}

/// One event that somebody asked to be told of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Occurrence {
    pub db: u32,
    /// The place of the step that made it, in a command over several shards.
    pub at: u32,
    pub event: Event,
    pub key: Vec<u8>,
}

/// What a shard's transactions did since somebody last took it.
#[derive(Debug, Default)]
pub struct Effects {
    /// Changes since the last save, as Redis counts them.
    pub dirty: u64,
    /// Everything was flushed: what is on the disk is to be flushed, too.
    pub flushed_all: bool,
    /// Whether changes are recorded.
    pub recording: bool,
    /// Event classes that somebody wants to know of.
    pub classes: u32,
    /// The step of a command over several shards that is carried out: see [`super::told`].
    pub(super) place: u32,
    pub records: Records,
    /// Units of records that were taken so far: what a turn did, or a part of a transaction.
    pub units: u64,
    pub events: Vec<Occurrence>,
    /// Deadlines (unix milliseconds) of keys that have expired: how late that was is a statistic.
    pub expired_at: Vec<i64>,
    /// What the log is to say of input that was refused, a few at most.
    pub complaints: Vec<String>,
    /// Keys that clients watch or wait for.
    pub(super) interest: Interest,
    /// Keys that clients keep copies of.
    pub tracking: Tracking,
}

impl Effects {
    /// The unit that holds what was done last.
    #[inline]
    pub fn unit(&self) -> u64 {
        self.units + u64::from(!self.records.is_empty())
    }

    /// Nobody is told of what was recorded.
    pub fn forget_records(&mut self) {
        self.units = self.unit();
        self.records.clear();
    }

    /// Has the log say something.
    pub fn complain(&mut self, what: &dyn std::fmt::Display) {
        /// Between two turns of the log: a client may send damaged input without end.
        const COMPLAINTS_MAX: usize = 16;
        if self.complaints.len() < COMPLAINTS_MAX {
            self.complaints.push(what.to_string());
        }
    }

    /// Notes one change. `record` runs only if changes are recorded.
    #[inline]
    pub fn wrote(&mut self, db: u32, key: &[u8], event: Event, record: impl FnOnce(&mut Recorder)) {
        self.wrote_many(1, db, key, event, record);
    }

    /// Notes what counts as `changes` changes since the last save.
    #[inline]
    pub fn wrote_many(
        &mut self,
        changes: u64,
        db: u32,
        key: &[u8],
        event: Event,
        record: impl FnOnce(&mut Recorder),
    ) {
        self.dirty += changes;
        self.changed(db, key, event, true, record);
    }

    /// Notes what the server did by itself, which does not count as a change since the last save.
    /// Redis: expire.c and evict.c leave server.dirty alone.
    pub fn did(&mut self, db: u32, key: &[u8], event: Event, record: impl FnOnce(&mut Recorder)) {
        self.changed(db, key, event, false, record);
    }

    /// The same of a key that it deleted.
    pub fn deleted(&mut self, db: u32, key: &[u8], event: Event) {
        self.did(db, key, event, |rec| rec.cmd(&[b"DEL", key]));
    }

    #[inline]
    fn changed(
        &mut self,
        db: u32,
        key: &[u8],
        event: Event,
        by_client: bool,
        record: impl FnOnce(&mut Recorder),
    ) {
        let is_seen = event.class & class::UNSEEN == 0;
        if !self.interest.is_empty() {
            self.interest.changed(db, key, is_seen);
        }
        if is_seen && self.tracking.is_on() {
            self.tracking.changed(key, by_client);
        }
        if self.recording && by_client && !self.records.audience().is_nobody() {
            let mut recorder = Recorder {
                records: &mut self.records,
                db,
            };
            record(&mut recorder);
        } else if self.recording && !by_client {
            // What the server does by itself is for all, whomever a script speaks to.
            let before = self.records.set_audience(Audience::ALL);
            let mut recorder = Recorder {
                records: &mut self.records,
                db,
            };
            record(&mut recorder);
            self.records.set_audience(before);
        }
        self.occurred(db, key, event);
    }

    #[inline]
    pub fn occurred(&mut self, db: u32, key: &[u8], event: Event) {
        if self.classes & event.class & !class::UNSEEN != 0 {
            self.events.push(Occurrence {
                db,
                at: self.place,
                event,
                key: key.to_vec(),
            });
        }
    }

    /// Keys that clients wait for and that changed since the last call, as database and key.
    pub fn take_ready(&mut self) -> Vec<(u32, Box<[u8]>)> {
        self.interest.take_ready()
    }

    /// Whether no key that a client waits for has changed.
    pub fn is_nothing_ready(&self) -> bool {
        self.interest.is_nothing_ready()
    }

    /// A client watches a key no longer.
    pub fn unwatch(&mut self, db: u32, key: &[u8]) {
        self.interest.unwatch(db, key);
    }

    /// Marks the records from an index on as one transaction: who repeats them does so at once, or not
    /// at all. Redis: server.c propagatePendingCommands, one alone needs no brackets.
    #[inline]
    pub fn wrap_transaction(&mut self, from: usize) {
        if !self.records.audience().is_nobody() {
            self.records.wrap(from);
        }
    }

    /// A client waits for a key no longer.
    pub fn stop_waiting(&mut self, db: u32, key: &[u8]) {
        self.interest.stop_waiting(db, key);
    }

    /// Records what replicas alone repeat: it changes nothing.
    pub fn record_said(&mut self, db: u32, command: &[&[u8]]) {
        let whole = self.records.audience();
        self.records.set_audience(whole.and(Audience::REPLICAS));
        self.record(db, command);
        self.records.set_audience(whole);
    }

    /// Records a change of no particular key.
    pub fn record(&mut self, db: u32, command: &[&[u8]]) {
        if self.recording && !self.records.audience().is_nobody() {
            Recorder {
                records: &mut self.records,
                db,
            }
            .cmd(command);
        }
    }
}

/// Encodes records.
pub struct Recorder<'a> {
    pub(super) records: &'a mut Records,
    pub(super) db: u32,
}

impl Recorder<'_> {
    /// Adds one command.
    pub fn cmd(&mut self, args: &[&[u8]]) {
        self.cmd_of(args.len(), args.iter().copied());
    }

    /// Adds one command of `count` arguments.
    pub fn cmd_of<'k>(&mut self, count: usize, args: impl Iterator<Item = &'k [u8]>) {
        self.records.encode(self.db, count, args);
    }
}
