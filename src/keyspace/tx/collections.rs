//! Reading and changing collections.
//!
//! A collection that a change leaves empty is deleted with it: [`Tx::wrote`] then announces `del`
//! after the command's own event.

use super::{Found, Ttl, Tx, WrongType};
use crate::keyspace::Event;
use crate::keyspace::entry::{Encoding, Payload};
use crate::value::limits::Limits;
use crate::value::{Collection, Value};

/// What a change of a collection may depend on beside the collection.
pub struct Context<'a> {
    pub limits: &'a Limits,
    pub rng: &'a mut fastrand::Rng,
    pub now_ms: i64,
}

impl Tx<'_> {
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
        let now_ms = self.now_ms;
        let ks = &mut *self.ks;
        let mut made = make(&ks.settings.limits);
        let context = Context {
            limits: &ks.settings.limits,
            rng: &mut ks.rng,
            now_ms,
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
        let now_ms = self.now_ms;
        let ks = &mut *self.ks;
        let slot = ks.arena.get(found.handle);
        if found.layout.encoding != Encoding::Object {
            return Err(WrongType);
        }
        let object = ks.objects.get_mut(found.layout.object(slot));
        let collection = C::of_mut(&mut object.value).ok_or(WrongType)?;
        let before = collection.memory_bytes();
        let context = Context {
            limits: &ks.settings.limits,
            rng: &mut ks.rng,
            now_ms,
        };
        let result = change(collection, context);
        let after = collection.memory_bytes();
        let is_gone = collection.is_gone();
        ks.object_bytes = (ks.object_bytes + after).saturating_sub(before);
        self.unaccounted = true;
        if is_gone {
            self.unlink(found);
            self.ks.drop_entry(found.handle);
            self.emptied = true;
        } else {
            self.touch(found.handle);
        }
        Ok(result)
    }

    /// Stores a value, whatever the key held. Returns whether the key is new.
    pub fn set_value(&mut self, key: &[u8], value: Value, ttl: Ttl) -> bool {
        self.store(key, Payload::Object(0), Some(value), false, ttl)
    }

    /// An owned copy of a key's value, if it has one with an allocation of its own: free of cost for
    /// collections. Counts as a use.
    pub fn shared_value(&mut self, key: &[u8]) -> Option<Value> {
        let found = self.find_read(key)?;
        self.value_of(&found).cloned()
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
