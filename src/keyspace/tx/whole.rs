//! What a transaction does with whole databases, with watchers, and its accounts.

use bytes::Bytes;

use super::{Tx, WrongType};
use crate::keyspace::Due;
use crate::keyspace::effects::{Event, Recorder};
use crate::keyspace::entry;
use crate::keyspace::rewrite;
use crate::value::Kind;
use crate::value::dict::Handle;

/// What a watcher saw of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seen {
    version: u64,
    existed: bool,
}

impl Tx<'_> {
    // ---- watching

    /// Registers a watcher of a key; returns what it sees. A key that is due is deleted first: only
    /// what is there can change.
    pub fn watch(&mut self, key: &[u8]) -> Seen {
        let existed = self.find(key).is_some();
        let version = self.ks.effects.interest.watch(self.db, key);
        Seen { version, existed }
    }

    /// Whether a watched key is as it was. That it is due by now is a change, unless there was
    /// nothing before and SWAPDB brought what has expired elsewhere.
    pub fn is_unchanged(&mut self, key: &[u8], seen: Seen) -> bool {
        let version = self.ks.effects.interest.version(self.db, key);
        let is_there = || {
            let found = self.find_any(key);
            found.is_some_and(|found| !self.is_due(found.handle))
        };
        version == Some(seen.version) && (!seen.existed || is_there())
    }

    /// Registers a client that waits for a key to change: [`Effects::take_ready`](crate::keyspace::Effects::take_ready) names it.
    pub fn wait_for(&mut self, key: &[u8]) {
        self.ks.effects.interest.wait(self.db, key);
    }

    // ---- the whole database

    /// Keys of the selected database, those due included.
    pub fn key_count(&self) -> usize {
        self.ks.dbs[self.db as usize].dict.len()
    }

    pub(super) fn is_due(&self, handle: Handle) -> bool {
        let slot = self.ks.arena.get(handle);
        let layout = entry::layout(slot);
        layout.has_expiry && layout.expiry(slot).0 <= self.now_ms && self.due != Due::Keep
    }

    /// Visits the keys at `cursor` and returns the next cursor; 0 begins and ends. Keys that are
    /// due are not shown.
    pub fn scan(&mut self, cursor: u64, mut visit: impl FnMut(&[u8], Kind)) -> u64 {
        let mut due = Vec::new();
        let this = &*self;
        let next = this.ks.dbs[this.db as usize].dict.scan(cursor, |handle| {
            if !this.is_due(handle) {
                let layout = entry::layout(this.ks.arena.get(handle));
                visit(this.ks.key_of(handle), this.kind_of(handle, &layout));
            } else if this.due == Due::Delete {
                due.push(this.ks.key_of(handle).to_vec());
            }
        });
        for key in due {
            self.delete_as(&key, Event::EXPIRED);
        }
        next
    }

    /// Visits all keys that are not due.
    pub fn for_each_key(&self, mut visit: impl FnMut(&[u8], Kind)) {
        self.ks.dbs[self.db as usize].dict.for_each(|handle| {
            if !self.is_due(handle) {
                let layout = entry::layout(self.ks.arena.get(handle));
                visit(self.ks.key_of(handle), self.kind_of(handle, &layout));
            }
        });
    }

    /// A random key; those that are due are deleted on the way. Where they may not be, they are
    /// passed over, and one is taken if there seems to be nothing else.
    pub fn random_key(&mut self) -> Option<Bytes> {
        /// Redis: db.c dbRandomKey.
        const PASSED_OVER_MAX: usize = 100;
        let mut passed = 0;
        loop {
            let ks = &mut *self.ks;
            let handle = ks.dbs[self.db as usize].dict.random(&mut ks.rng)?;
            let key = Bytes::copy_from_slice(self.ks.key_of(handle));
            if self.find(&key).is_some() {
                return Some(key);
            }
            passed += usize::from(self.due == Due::Hide);
            if passed == PASSED_OVER_MAX {
                return Some(key);
            }
        }
    }

    /// Empties the selected database. Returns how many keys it had.
    pub fn flush_db(&mut self, lazy: bool) -> usize {
        let db = self.db as usize;
        let keys = self.ks.flush(db..db + 1, lazy);
        self.ks.effects.dirty += keys as u64;
        self.ks.effects.record(self.db, &[b"FLUSHDB"]);
        keys
    }

    /// Empties all databases.
    pub fn flush_all(&mut self, lazy: bool) {
        let keys = self.ks.flush(0..self.databases() as usize, lazy);
        self.ks.effects.dirty += keys as u64;
        self.ks.effects.flushed_all = true;
        self.ks.effects.record(self.db, &[b"FLUSHALL"]);
    }

    /// Exchanges the contents of two databases. It `counts` as a change: on one of all shards.
    pub fn swap_dbs(&mut self, a: u32, b: u32, counts: bool) {
        self.ks.swap_dbs(a, b, self.now_ms);
        self.ks.effects.dirty += u64::from(counts);
        let (a, b) = (a.to_string(), b.to_string());
        self.ks
            .effects
            .record(self.db, &[b"SWAPDB", a.as_bytes(), b.as_bytes()]);
    }

    /// A key has a deadline; on a replica, one that its master does not know of.
    #[inline]
    pub(super) fn note_own(&mut self, handle: Handle, at_ms: i64) {
        if self.due == Due::Delete && self.ks.is_replica() {
            self.ks.note_own(self.db, handle, at_ms);
        }
    }

    // ---- accounting

    /// Whether somebody records changes.
    pub fn is_recording(&self) -> bool {
        self.ks.effects.recording
    }

    /// Accounts for the change just made. `record` runs only if somebody records.
    #[inline]
    pub fn wrote(&mut self, key: &[u8], event: Event, record: impl FnOnce(&mut Recorder)) {
        self.unaccounted = false;
        self.ks.effects.wrote(self.db, key, event, record);
        self.announce_emptied(key);
    }

    /// The same for what counts as `changes` changes since the last save.
    pub fn wrote_many(
        &mut self,
        changes: u64,
        key: &[u8],
        event: Event,
        record: impl FnOnce(&mut Recorder),
    ) {
        self.unaccounted = false;
        let effects = &mut self.ks.effects;
        effects.wrote_many(changes, self.db, key, event, record);
        self.announce_emptied(key);
    }

    /// What was accounted for counts as so many more changes since the last save.
    pub fn count_changes(&mut self, more: u64) {
        self.ks.effects.dirty += more;
    }

    /// Nothing to account for: what [`Tx::string_mut`] handed out was left as it was.
    pub fn unchanged(&mut self) {
        self.unaccounted = false;
    }

    /// An event that belongs to a change accounted for already.
    pub fn occurred(&mut self, key: &[u8], event: Event) {
        self.ks.effects.occurred(self.db, key, event);
    }

    /// Accounts for a change by recording the key's present state.
    pub fn wrote_state(&mut self, key: &[u8], event: Event) {
        self.unaccounted = false;
        if !self.ks.effects.recording {
            return self.ks.effects.wrote(self.db, key, event, |_| {});
        }
        let deadline = self.expire_at(key).flatten();
        if self.kind(key).is_some_and(|kind| kind != Kind::String) {
            return self.wrote_collection(key, event, deadline);
        }
        let value = match self.peek_string(key) {
            Ok(Some(value)) => value.to_bytes(),
            Ok(None) | Err(WrongType) => return,
        };
        self.ks
            .effects
            .wrote(self.db, key, event, |rec| match deadline {
                None => rec.cmd(&[b"SET", key, &value]),
                Some(at_ms) => {
                    rec.cmd(&[b"SET", key, &value, b"PXAT", at_ms.to_string().as_bytes()]);
                }
            });
    }

    fn wrote_collection(&mut self, key: &[u8], event: Event, deadline: Option<i64>) {
        let Some(value) = self.peek_value(key) else {
            return;
        };
        self.ks.effects.wrote(self.db, key, event, |rec| {
            rec.cmd(&[b"DEL", key]);
            rewrite::record(&value, key, rec);
            if let Some(at_ms) = deadline {
                rec.cmd(&[b"PEXPIREAT", key, at_ms.to_string().as_bytes()]);
            }
        });
    }
}
