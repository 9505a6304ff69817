//! How an entry comes to stand in the arena, the dictionary and the expiry wheel, and how it is
//! written over.

use bytes::{Bytes, BytesMut};

use super::{Found, Ttl, Tx};
use crate::keyspace::arena::SLOT_MAX_BYTES;
use crate::keyspace::effects::Event;
use crate::keyspace::entry::{self, Encoding, Payload, Shape};
use crate::keyspace::{Due, Object, key_of, owner, wheel};
use crate::value::Value;
use crate::value::dict::Handle;

impl Tx<'_> {
    /// Stores a payload under a key. `value` makes it an object; a payload that does not fit a slot
    /// becomes one.
    pub(super) fn store(
        &mut self,
        key: &[u8],
        payload: Payload,
        value: Option<Value>,
        edited: bool,
        ttl: Ttl,
    ) -> bool {
        self.unaccounted = true;
        let mut found = self.find(key);
        let clock = self.clock_of_stored(found.as_ref());
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
        let bytes = value.memory_bytes();
        self.ks.object_bytes.changed(value.kind(), 0, bytes);
        shape.payload = Payload::Object(0);
        let key = if shape.bytes() > SLOT_MAX_BYTES {
            shape.key.take().map(Box::from)
        } else {
            None
        };
        let object = Object {
            key,
            value,
            fields_node: wheel::NONE,
        };
        self.ks.object_bytes.all += object.key_bytes();
        let index = self.ks.objects.insert(object);
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
            self.move_slot(&found, shape.bytes())
        };
        shape.write(self.ks.arena.get_mut(handle), clock, self.ks.mark);
        self.link_expiry(handle, old_node, deadline);
    }

    /// A slot of so many bytes in the place of an entry's.
    fn move_slot(&mut self, found: &Found, bytes: usize) -> Handle {
        let handle = self.ks.arena.allocate(bytes);
        self.ks.arena.free(found.handle);
        let dict = &mut self.ks.dbs[self.db as usize].dict;
        dict.replace(found.position, handle);
        handle
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
        let handle = self.move_slot(found, shape.bytes());
        shape.write(self.ks.arena.get_mut(handle), clock, self.ks.mark);
        self.link_expiry(handle, old_node, deadline);
        if found.layout.encoding == Encoding::Object {
            self.link_fields(key);
        }
    }
}
