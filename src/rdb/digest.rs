//! DEBUG DIGEST: SHA-1 sums which do not depend on encodings nor on the order of what has none.
//! Bit for bit Redis' (debug.c), so that one comparison tells whether two servers hold the same.

use sha1::{Digest as _, Sha1};

use super::object::{EntryId, HashField, Object, StreamParts};
use crate::number::format_f64;
use crate::value::Kind;

/// A sum that is being mixed. All zeros to begin with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Digest([u8; 20]);

impl Digest {
    /// Adds something that may stand in any order among others.
    pub fn xor(&mut self, bytes: &[u8]) {
        let sum: [u8; 20] = Sha1::digest(bytes).into();
        self.merge(&Digest(sum));
    }

    /// Adds something that stands behind what was added before.
    pub fn mix(&mut self, bytes: &[u8]) {
        self.xor(bytes);
        self.0 = Sha1::digest(self.0).into();
    }

    /// Adds a sum of its own as it is.
    pub fn merge(&mut self, other: &Digest) {
        for (mine, its) in self.0.iter_mut().zip(other.0) {
            *mine ^= its;
        }
    }

    /// Begins a value, after its key where it has one. Its elements follow, one method after
    /// another.
    pub fn kind(&mut self, kind: Kind) {
        // Redis: OBJ_STRING and its fellows; 5 is a module's.
        let number: u32 = match kind {
            Kind::String => 0,
            Kind::List => 1,
            Kind::Set => 2,
            Kind::Zset => 3,
            Kind::Hash => 4,
            Kind::Stream => 6,
        };
        self.mix(&number.to_be_bytes());
    }

    /// A whole string, or the next element of a list.
    pub fn element(&mut self, bytes: &[u8]) {
        self.mix(bytes);
    }

    /// A member of a set.
    pub fn member(&mut self, bytes: &[u8]) {
        self.xor(bytes);
    }

    pub fn field(&mut self, name: &[u8], value: &[u8]) {
        let mut pair = Digest::default();
        pair.mix(name);
        pair.mix(value);
        let Digest(sum) = pair;
        self.xor(&sum);
    }

    pub fn scored(&mut self, member: &[u8], score: f64) {
        self.field(member, format_f64(score).as_bytes());
    }

    /// The next entry of a stream; its fields and values follow as elements.
    pub fn entry(&mut self, id: EntryId) {
        self.mix(format!("{}.{}", id.ms, id.seq).as_bytes());
    }

    /// Ends a value that expires, whenever that is.
    pub fn expires(&mut self) {
        self.xor(b"!!expire!!");
    }

    /// A whole value.
    pub fn object(&mut self, object: &Object) {
        match object {
            Object::String(bytes) => {
                self.kind(Kind::String);
                self.element(bytes);
            }
            Object::List(parts) => {
                self.kind(Kind::List);
                for part in parts {
                    part.for_each(|element| self.element(element));
                }
            }
            Object::Set(members) => {
                self.kind(Kind::Set);
                members.iter().for_each(|member| self.member(member));
            }
            Object::Hash(fields) => {
                self.kind(Kind::Hash);
                for HashField { name, value, .. } in fields {
                    self.field(name, value);
                }
            }
            Object::Zset(members) => {
                self.kind(Kind::Zset);
                for (member, score) in members {
                    self.scored(member, *score);
                }
            }
            Object::Stream(parts) => {
                self.kind(Kind::Stream);
                self.stream(parts);
            }
        }
    }

    fn stream(&mut self, parts: &StreamParts) {
        let mut text = itoa::Buffer::new();
        for node in &parts.nodes {
            // The nodes were checked when they were read.
            let _: Option<()> = node.entries(|id, deleted, fields| {
                if deleted {
                    return;
                }
                self.entry(id);
                for (name, value) in fields {
                    self.element(name.bytes(&mut text));
                    self.element(value.bytes(&mut text));
                }
            });
        }
    }
}

impl std::fmt::Display for Digest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// A key's part in the sum of its database, where it is [merged](Digest::merge) with the others'
/// in any order; `value` adds what the key holds.
pub fn key(key: &[u8], value: impl FnOnce(&mut Digest)) -> Digest {
    let mut digest = Digest::default();
    digest.mix(key);
    value(&mut digest);
    let mut part = Digest::default();
    part.xor(&digest.0);
    part
}

/// The sum of everything: of the databases that have keys, by number.
pub fn dataset(dbs: impl IntoIterator<Item = (u32, Digest)>) -> Digest {
    let mut sum = Digest::default();
    for (db, keys) in dbs {
        sum.mix(&db.to_be_bytes());
        sum.merge(&keys);
    }
    sum
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rdb::object::ListPart;
    use bytes::Bytes;

    #[test]
    fn sums_are_those_of_redis() {
        // Captured from 7.0.15: DEBUG DIGEST-VALUE s l h z after SET s v, RPUSH l a 1,
        // HSET h f v, ZADD z 1.5 m -inf n, and DEBUG DIGEST of the four.
        let bytes = Bytes::from_static;
        let objects = [
            Object::String(bytes(b"v")),
            Object::List([bytes(b"a"), bytes(b"1")].map(ListPart::Element).into()),
            Object::Hash(vec![HashField {
                name: bytes(b"f"),
                value: bytes(b"v"),
                expire_at_ms: None,
            }]),
            Object::Zset(vec![(bytes(b"m"), 1.5), (bytes(b"n"), f64::NEG_INFINITY)]),
        ];
        let captured = [
            "d79ee9fe5d5ad902d7f6620efc3b07b75ddd742f",
            "a4b574dfd44a241b7583aa0f4da11ef31ee0b995",
            "90c76e9e9f4c62d642a34fc97c7dad503b51f906",
            "bd422eb44417e66af6e1837aff528ae5b11226bc",
        ];
        let mut keys = Digest::default();
        for ((object, sum), name) in objects.iter().zip(captured).zip([b"s", b"l", b"h", b"z"]) {
            let mut digest = Digest::default();
            digest.object(object);
            assert_eq!(digest.to_string(), sum);
            keys.merge(&key(name, |digest| digest.object(object)));
        }
        assert_eq!(
            dataset([(0, keys)]).to_string(),
            "d165376a175c62ac14a45fa8c9dd6748e5c384e6"
        );
        assert_eq!(dataset([]).to_string(), "0".repeat(40));
    }
}
