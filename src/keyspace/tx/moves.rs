//! Keys that go, and whole values that leave a key, are copied, or arrive from elsewhere.

use bytes::Bytes;

use super::{Found, Stored, Taken, Ttl, Tx};
use crate::keyspace::effects::Event;
use crate::keyspace::entry::{self, Encoding, Payload};
use crate::value::Value;

impl Tx<'_> {
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

    pub(super) fn unlink(&mut self, found: &Found) {
        let db = &mut self.ks.dbs[self.db as usize];
        db.dict.remove(found.hash, found.position);
        db.expires -= usize::from(found.layout.has_expiry);
    }

    /// Deletes a key because its time has come or memory is short: the one way keys expire.
    pub(in crate::keyspace) fn delete_as(&mut self, key: &[u8], event: Event) {
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

    pub(super) fn extract(&mut self, found: &Found, by_move: bool) -> Taken {
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
                let bytes = &mut self.ks.object_bytes;
                bytes.changed(value.kind(), value.memory_bytes(), 0);
                Stored::Object(value)
            }
            Encoding::Object => {
                let object = self.ks.objects.get(found.layout.object(slot));
                Stored::Object(object.value.clone())
            }
        };
        Taken {
            value,
            expire_at,
            clock,
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
