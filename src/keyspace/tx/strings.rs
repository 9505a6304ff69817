//! Strings: read, stored, edited in place.

use bytes::BytesMut;

use super::{Found, NewStr, Str, Ttl, Tx, WrongType};
use crate::keyspace::arena::SLOT_MAX_BYTES;
use crate::keyspace::entry::{self, Encoding, Payload};
use crate::number::parse_i64;
use crate::value::{Kind, Value};

impl Tx<'_> {
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
                let value = &mut object.value;
                if value.kind() != Kind::String {
                    return Err(WrongType);
                }
                // Room for edits is no longer counted.
                let before = value.memory_bytes();
                value.share();
                let after = value.memory_bytes();
                self.ks.object_bytes.changed(Kind::String, before, after);
                Ok(Str::Shared(value.share()))
            }
        }
    }

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

    pub(super) fn store_text(&mut self, key: &[u8], bytes: &[u8], ttl: Ttl) -> bool {
        let payload = match parse_i64(bytes) {
            Some(n) => Payload::Int(n),
            None => Payload::Text(bytes),
        };
        self.store(key, payload, None, false, ttl)
    }

    /// Replaces a string, or nothing, by the integer that `change` makes of it; its expiry stays.
    pub fn change_int<E: From<WrongType>>(
        &mut self,
        key: &[u8],
        change: impl FnOnce(Option<Str>) -> Result<i64, E>,
    ) -> Result<i64, E> {
        let found = self.find(key);
        let old = found.map(|found| self.read_string(found)).transpose()?;
        let new = change(old)?;
        match found {
            Some(found) if found.layout.encoding == Encoding::Int => {
                self.will_change(&found);
                self.touch(found.handle);
                let slot = self.ks.arena.get_mut(found.handle);
                found.layout.set_int(slot, new);
            }
            _ => drop(self.store(key, Payload::Int(new), None, false, Ttl::Keep)),
        }
        Ok(new)
    }

    /// A string's bytes for editing in place, at least `min_len` of them, new ones being zero; the
    /// key is created if it does not exist. Its expiry stays.
    pub fn string_mut(&mut self, key: &[u8], min_len: usize) -> Result<&mut [u8], WrongType> {
        let Some(found) = self.find(key) else {
            self.store(key, Payload::Zeros(min_len), None, true, Ttl::Clear);
            return self.edit(key);
        };
        self.will_change(&found);
        self.touch(found.handle);
        let slot = self.ks.arena.get(found.handle);
        match found.layout.encoding {
            Encoding::Int => {
                let mut text = found.layout.int(slot).to_string().into_bytes();
                text.resize(text.len().max(min_len), 0);
                self.clock = Some(entry::clock(slot));
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
                let bytes = &mut self.ks.object_bytes;
                bytes.changed(Kind::String, before, after);
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
        // It was used once, and is no new string.
        self.clock = Some(entry::clock(slot));
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
}
