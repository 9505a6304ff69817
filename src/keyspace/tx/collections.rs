//! Reading and changing collections.
//!
//! A collection that a change leaves empty is deleted with it: [`Tx::wrote`] then announces `del`
//! after the command's own event.

use super::{Due, Found, Ttl, Tx, WrongType};
use crate::keyspace::entry::{Encoding, Payload};
use crate::keyspace::{Event, OF_FIELDS, owner, wheel};
use crate::value::hash::{Hash, Live};
use crate::value::limits::Limits;
use crate::value::listpack::Item;
use crate::value::{Collection, Value};

/// What a change of a collection may depend on beside the collection.
pub struct Context<'a> {
    pub limits: &'a Limits,
    pub rng: &'a mut fastrand::Rng,
    /// Fields of hashes with deadlines up to here are not there: see [`Hash::live`].
    pub ended_ms: i64,
}

/// Fields that are deleted at once, by a pulse or by who looks: some microseconds, with their share of a
/// record.
const FIELDS_PER_SLICE: usize = 16;

impl Tx<'_> {
    #[inline]
    fn value_of(&self, found: &Found) -> Option<&Value> {
        let slot = self.ks.arena.get(found.handle);
        match found.layout.encoding {
            Encoding::Int | Encoding::Text => None,
            Encoding::Object => Some(&self.ks.objects.get(found.layout.object(slot)).value),
        }
    }

    fn collection<C: Collection>(&self, found: &Found) -> Result<&C, WrongType> {
        self.value_of(found).and_then(C::of).ok_or(WrongType)
    }

    /// Reads a collection; counts as a use.
    pub fn read<C: Collection>(&mut self, key: &[u8]) -> Result<Option<&C>, WrongType> {
        match self.find_read(key) {
            None => Ok(None),
            Some(found) => self.collection(&found).map(Some),
        }
    }

    /// Reads a collection without counting as a use: on the way to changing it.
    pub fn peek<C: Collection>(&mut self, key: &[u8]) -> Result<Option<&C>, WrongType> {
        match self.find(key) {
            None => Ok(None),
            Some(found) => self.collection(&found).map(Some),
        }
    }

    /// Reads a collection, with randomness to choose from it; counts as a use.
    pub fn read_random<C: Collection>(
        &mut self,
        key: &[u8],
    ) -> Result<Option<(&C, &mut fastrand::Rng)>, WrongType> {
        let Some(found) = self.find_read(key) else {
            return Ok(None);
        };
        let ks = &mut *self.ks;
        let slot = ks.arena.get(found.handle);
        if found.layout.encoding != Encoding::Object {
            return Err(WrongType);
        }
        let value = &ks.objects.get(found.layout.object(slot)).value;
        let collection = C::of(value).ok_or(WrongType)?;
        Ok(Some((collection, &mut ks.rng)))
    }

    /// Deadlines up to here have passed for who asks.
    fn ended_ms(&self) -> i64 {
        match self.due {
            Due::Keep => i64::MIN,
            Due::Delete | Due::Hide => self.now_ms,
        }
    }

    /// The fields of a hash that are there; counts as a use.
    pub fn fields(&mut self, key: &[u8]) -> Result<Option<Live<'_>>, WrongType> {
        let ended_ms = self.ended_ms();
        let hash = self.read::<Hash>(key)?;
        Ok(hash.map(|hash| hash.live(ended_ms)))
    }

    /// The same without counting as a use: on the way to changing them.
    pub fn peek_fields(&mut self, key: &[u8]) -> Result<Option<Live<'_>>, WrongType> {
        let ended_ms = self.ended_ms();
        let hash = self.peek::<Hash>(key)?;
        Ok(hash.map(|hash| hash.live(ended_ms)))
    }

    /// Fields, with randomness to choose from them; counts as a use.
    pub fn fields_random(
        &mut self,
        key: &[u8],
    ) -> Result<Option<(Live<'_>, &mut fastrand::Rng)>, WrongType> {
        let ended_ms = self.ended_ms();
        let found = self.read_random::<Hash>(key)?;
        Ok(found.map(|(hash, rng)| (hash.live(ended_ms), rng)))
    }

    /// Changes a collection that exists. To be followed by [`Tx::wrote`] or [`Tx::unchanged`].
    pub fn change<C: Collection, R>(
        &mut self,
        key: &[u8],
        change: impl FnOnce(&mut C, Context) -> R,
    ) -> Result<Option<R>, WrongType> {
        match self.find(key) {
            None => Ok(None),
            Some(found) => self.change_found(&found, change).map(Some),
        }
    }

    /// Changes a collection; if there is none, one that `make` makes, which becomes the key's value
    /// unless it is left empty.
    pub fn change_or_create<C: Collection, R>(
        &mut self,
        key: &[u8],
        make: impl FnOnce(&Limits) -> C,
        change: impl FnOnce(&mut C, Context) -> R,
    ) -> Result<R, WrongType> {
        if let Some(found) = self.find(key) {
            return self.change_found(&found, change);
        }
        let ended_ms = self.ended_ms();
        let ks = &mut *self.ks;
        let mut made = make(&ks.settings.limits);
        let context = Context {
            limits: &ks.settings.limits,
            rng: &mut ks.rng,
            ended_ms,
        };
        let result = change(&mut made, context);
        if made.is_gone() {
            self.unaccounted = true;
        } else {
            self.set_value(key, made.into_value(), Ttl::Clear);
        }
        Ok(result)
    }

    fn change_found<C: Collection, R>(
        &mut self,
        found: &Found,
        change: impl FnOnce(&mut C, Context) -> R,
    ) -> Result<R, WrongType> {
        let ended_ms = self.ended_ms();
        self.ks.preserve(self.db, found.handle);
        let ks = &mut *self.ks;
        let slot = ks.arena.get(found.handle);
        if found.layout.encoding != Encoding::Object {
            return Err(WrongType);
        }
        let object = ks.objects.get_mut(found.layout.object(slot));
        // What is counted of it: the copy that is made now, if somebody shares it, may take less.
        let before = object.value.memory_bytes();
        let collection = C::of_mut(&mut object.value).ok_or(WrongType)?;
        let context = Context {
            limits: &ks.settings.limits,
            rng: &mut ks.rng,
            ended_ms,
        };
        let result = change(collection, context);
        let after = collection.memory_bytes();
        let is_gone = collection.is_gone();
        let deadline = collection.next_deadline();
        let has_deadline = deadline.is_some() || object.fields_node != wheel::NONE;
        ks.object_bytes.changed(C::KIND, before, after);
        self.unaccounted = true;
        if is_gone {
            self.unlink(found);
            self.ks.drop_entry(found.handle);
            self.emptied = true;
        } else {
            self.touch(found.handle);
            if has_deadline {
                self.link_fields_of(found, deadline);
            }
        }
        Ok(result)
    }

    // ---- deadlines of fields

    pub(super) fn has_due_fields(&self, found: &Found) -> bool {
        if !self.ks.knows_expiring_fields {
            return false;
        }
        let deadline = self.value_of(found).and_then(Value::next_deadline);
        deadline.is_some_and(|at_ms| at_ms <= self.now_ms)
    }

    /// Whether all fields of a hash are due.
    pub(super) fn is_over(&self, found: &Found) -> bool {
        match self.value_of(found) {
            Some(Value::Hash(hash)) => hash.is_over(self.now_ms),
            _ => false,
        }
    }

    /// Deletes those of these fields that are due, for who is about to set them: they are new then. To
    /// look a hash up deletes no more than a slice of them.
    pub fn end_fields<'f>(&mut self, key: &[u8], fields: impl Iterator<Item = &'f [u8]>) {
        if !self.ks.knows_expiring_fields || self.due != Due::Delete {
            return;
        }
        let Some(found) = self.find(key).filter(|found| self.has_due_fields(found)) else {
            return;
        };
        if let Some(Value::Hash(hash)) = self.value_of(&found) {
            let is_due = |field: &&[u8]| hash.has_ended(field, self.now_ms);
            let due: Vec<Vec<u8>> = fields.filter(is_due).map(<[u8]>::to_vec).collect();
            if !due.is_empty() {
                let mut due = due.into_iter();
                self.expire_each(key, &found, |_| due.next());
            }
        }
    }

    /// Deletes a slice of the fields of a hash that are due; the key as well if that is due itself.
    pub(in crate::keyspace) fn expire_some_fields(&mut self, key: &[u8]) {
        let Some(found) = self.find_any(key) else {
            return;
        };
        if self.is_due(found.handle) {
            self.delete_as(key, Event::EXPIRED);
        } else if self.has_due_fields(&found) {
            self.expire_fields(key, found);
        }
    }

    /// Deletes a slice of the fields of a hash that are due, or all if none stays; `None` if no field is
    /// left.
    pub(super) fn expire_fields(&mut self, key: &[u8], found: Found) -> Option<Found> {
        if let Some(Value::Hash(hash)) = self.value_of(&found)
            && hash.len() > FIELDS_PER_SLICE
            && hash.is_over(self.now_ms)
        {
            self.ks.counters.expired_fields += hash.len() as u64;
            self.expire_hash(key, &found);
            return None;
        }
        let (mut left, now_ms) = (FIELDS_PER_SLICE, self.now_ms);
        self.expire_each(key, &found, |hash| {
            left = left.checked_sub(1)?;
            hash.due(now_ms).map(Item::to_vec)
        })
    }

    /// Deletes fields of a hash while there is a next one; `None` if no field is left.
    fn expire_each(
        &mut self,
        key: &[u8],
        found: &Found,
        mut next: impl FnMut(&Hash) -> Option<Vec<u8>>,
    ) -> Option<Found> {
        let accounted = self.unaccounted;
        let expired = self.change_found(found, |hash: &mut Hash, _| {
            let mut expired: Vec<Vec<u8>> = Vec::new();
            while let Some(field) = next(hash) {
                hash.remove(&field);
                expired.push(field);
            }
            expired
        });
        self.unaccounted = accounted;
        let (expired, is_gone) = (
            expired.unwrap_or_default(),
            std::mem::take(&mut self.emptied),
        );
        self.ks.counters.expired_fields += expired.len() as u64;
        let effects = &mut self.ks.effects;
        effects.did(self.db, key, Event::HEXPIRED, |rec| {
            let fields = expired.iter().map(Vec::as_slice);
            rec.cmd_of(expired.len() + 2, [b"HDEL", key].into_iter().chain(fields));
        });
        if is_gone {
            effects.occurred(self.db, key, Event::DEL);
            return None;
        }
        Some(*found)
    }

    /// Deletes a hash of which all fields are due. Field by field, a million would keep others waiting for
    /// seconds; the whole is freed in slices.
    fn expire_hash(&mut self, key: &[u8], found: &Found) {
        self.ks.preserve(self.db, found.handle);
        self.unlink(found);
        self.ks.drop_entry(found.handle);
        self.ks.effects.deleted(self.db, key, Event::HEXPIRED);
        self.ks.effects.occurred(self.db, key, Event::DEL);
    }

    /// Connects the earliest deadline of a hash's fields with the wheel, after the entry moved or
    /// its value was replaced.
    pub(super) fn link_fields(&mut self, key: &[u8]) {
        if let Some(found) = self.find_any(key) {
            let deadline = self.value_of(&found).and_then(Value::next_deadline);
            self.link_fields_of(&found, deadline);
        }
    }

    fn link_fields_of(&mut self, found: &Found, deadline: Option<i64>) {
        let ks = &mut *self.ks;
        let slot = ks.arena.get(found.handle);
        let object = ks.objects.get_mut(found.layout.object(slot));
        if deadline.is_none() && object.fields_node == wheel::NONE {
            return;
        }
        let owner = owner(found.handle, ks.dbs[self.db as usize].incarnation) | OF_FIELDS;
        match (object.fields_node, deadline) {
            (wheel::NONE, Some(at_ms)) => {
                object.fields_node = ks.wheel.insert(at_ms, owner);
                ks.knows_expiring_fields = true;
            }
            (node, Some(at_ms)) => {
                ks.wheel.set_owner(node, owner);
                if ks.wheel.deadline(node) != at_ms {
                    ks.wheel.reschedule(node, at_ms);
                }
            }
            (node, None) => {
                ks.wheel.cancel(node);
                object.fields_node = wheel::NONE;
            }
        }
    }

    /// Stores a value, whatever the key held. Returns whether the key is new.
    pub fn set_value(&mut self, key: &[u8], value: Value, ttl: Ttl) -> bool {
        self.store(key, Payload::Object(0), Some(value), false, ttl)
    }

    /// The same, with a collection brought into the encoding that the limits ask for.
    pub fn set_encoded_value(&mut self, key: &[u8], mut value: Value, ttl: Ttl) -> bool {
        value.reencode(&self.ks.settings.limits);
        self.set_value(key, value, ttl)
    }

    /// The collection at a key, shared with it and so free of cost; a short string is no collection.
    /// Counts as a use.
    pub fn shared_value(&mut self, key: &[u8]) -> Result<Option<Value>, WrongType> {
        let Some(found) = self.find_read(key) else {
            return Ok(None);
        };
        self.value_of(&found).cloned().map(Some).ok_or(WrongType)
    }

    /// The same without counting as a use.
    pub fn peek_value(&mut self, key: &[u8]) -> Option<Value> {
        let found = self.find(key)?;
        self.value_of(&found).cloned()
    }

    /// Announces the deletion of a key whose collection the last change emptied.
    pub(super) fn announce_emptied(&mut self, key: &[u8]) {
        if std::mem::take(&mut self.emptied) {
            self.occurred(key, Event::DEL);
        }
    }
}
