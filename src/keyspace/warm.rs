//! Fetching from memory what the next commands will look at.
//!
//! A command on a large keyspace waits for memory twice or thrice, for its key's bucket, what
//! overflowed from it and its entry, and up to four times more to find a member of a large collection.
//! One after the other each command waits for its own: half of a pipelined GET's time on a million
//! keys. Commands that have arrived but not begun can wait together.
//!
//! Nothing is changed by it; where a guess is wrong, memory was asked in vain.

use smallvec::SmallVec;

use super::arena::Arena;
use super::entry::{self, Encoding};
use super::{Keyspace, Object};
use crate::value::dict::{Dict, Handle, Likely};
use crate::value::fetch::fetch_front;
use crate::value::slab::Slab;
use crate::value::{Kind, Lookup};

/// Commands taken at once: more waits than a core has under way at a time.
pub const WARM_KEYS: usize = 16;

/// What is known of a command before it runs.
#[derive(Clone, Copy, Debug)]
pub struct Foreseen<'k> {
    pub db: u32,
    pub key: &'k [u8],
    /// The arguments behind the key, where a member's name may stand; empty: none.
    pub rest: [&'k [u8]; 2],
}

impl<'k> Foreseen<'k> {
    /// A command with these arguments behind its name.
    pub fn new(db: u32, [key, rest @ ..]: [&'k [u8]; 3]) -> Foreseen<'k> {
        Foreseen { db, key, rest }
    }

    pub fn key(db: u32, key: &'k [u8]) -> Foreseen<'k> {
        Foreseen::new(db, [key, b"", b""])
    }
}

/// Something to search for: in which dictionary, by which hash, and what belongs to it.
type Sought<'a, T> = (&'a Dict, u64, T);

/// Finds what may well be sought, asking memory for all buckets at once, and calls `found` for each.
fn seek<T: Copy>(sought: &[Sought<T>], mut found: impl FnMut(T, Handle)) {
    for &(dict, hash, _) in sought {
        dict.fetch_bucket(hash);
    }
    let mut far: SmallVec<[&Sought<T>; WARM_KEYS]> = SmallVec::new();
    for search @ &(dict, hash, of) in sought {
        match dict.likely_near(hash) {
            Likely::Handle(handle) => found(of, handle),
            Likely::Far => far.push(search),
            Likely::Missing => {}
        }
    }
    for &(dict, hash, of) in far {
        if let Some(handle) = dict.likely_far(hash) {
            found(of, handle);
        }
    }
}

/// The collection in an entry, if it is a large one, and the hash of what is looked up in it.
fn lookup<'a>(
    arena: &Arena,
    objects: &'a Slab<Object>,
    handle: Handle,
    [first, second]: [&[u8]; 2],
) -> Option<Sought<'a, &'a dyn Lookup>> {
    let slot = arena.get(handle);
    let layout = entry::layout(slot);
    if layout.encoding != Encoding::Object || first.is_empty() {
        return None;
    }
    let value = &objects.get(layout.object(slot)).value;
    let member = match value.kind() {
        // A score comes before the member.
        Kind::Zset if !second.is_empty() => second,
        _ => first,
    };
    let collection = value.far()?;
    Some((collection.dict(), collection.hash(member), collection))
}

impl Keyspace {
    /// Asks memory for what up to [`WARM_KEYS`] commands will look at; returns how many there were.
    pub fn warm<'k>(&self, commands: impl Iterator<Item = Foreseen<'k>>) -> usize {
        let mut keys: SmallVec<[Sought<_>; WARM_KEYS]> = SmallVec::new();
        let mut count = 0;
        for Foreseen { db, key, rest } in commands.take(WARM_KEYS) {
            count += 1;
            if self.is_cold(db) {
                keys.push((&self.dbs[db as usize].dict, self.hash(key), rest));
            }
        }
        let mut entries: SmallVec<[_; WARM_KEYS]> = SmallVec::new();
        seek(&keys, |rest, handle| {
            self.arena.fetch(handle);
            entries.push((handle, rest));
        });
        if self.has_large_objects() {
            self.warm_members(&entries);
        }
        count
    }

    /// Asks memory for members of large collections that are likely looked up in these entries.
    fn warm_members(&self, entries: &[(Handle, [&[u8]; 2])]) {
        let of = |&(handle, rest): &_| lookup(&self.arena, &self.objects, handle, rest);
        let lookups: SmallVec<[_; WARM_KEYS]> = entries.iter().filter_map(of).collect();
        let mut members: SmallVec<[_; WARM_KEYS]> = SmallVec::new();
        seek(&lookups, |collection, handle| {
            collection.fetch_place(handle);
            members.push((collection, handle));
        });
        for (collection, handle) in members {
            fetch_front(collection.member(handle));
        }
    }

    /// Whether a database is so large that its entries are not in the processor's caches anyway.
    pub fn is_cold(&self, db: u32) -> bool {
        const KEYS: usize = 4096;
        let db = self.dbs.get(db as usize);
        db.is_some_and(|db| db.dict.len() > KEYS || self.has_large_objects())
    }

    /// Whether there could be collections that do not fit into the processor's caches, and in which
    /// members are looked up.
    fn has_large_objects(&self) -> bool {
        const BYTES: usize = 512 * 1024;
        self.object_bytes.sought > BYTES
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::testing::Bench;

    #[test]
    fn looking_ahead_changes_nothing() {
        let mut bench = Bench::default();
        for n in 0..6000 {
            bench.line(&format!("SET key:{n} value"));
            bench.line(&format!(
                "SADD set member:{n}-abcdefghijklmnopqrstuvwxyz-0123456789"
            ));
            bench.line(&format!("ZADD zset {n} member:{n}"));
            bench.line(&format!("HSET hash field:{n} value:{n}"));
        }
        bench.line("RPUSH list a b");
        let keyspace = bench.keyspace();
        assert!(keyspace.is_cold(0) && keyspace.has_large_objects());
        let (counters, bytes) = (format!("{:?}", keyspace.counters), keyspace.memory_bytes());
        let commands = ["key:1", "key:missing", "set", "zset", "hash", "list", ""]
            .into_iter()
            .flat_map(|key| {
                let rests = [["", ""], ["member:7", ""], ["7", "member:7"], ["no", "no"]];
                rests.map(|rest| Foreseen {
                    db: 0,
                    key: key.as_bytes(),
                    rest: rest.map(str::as_bytes),
                })
            });
        let commands: Vec<Foreseen> = commands.collect();
        let mut commands = commands.into_iter();
        assert_eq!(keyspace.warm(&mut commands), WARM_KEYS);
        assert_eq!(keyspace.warm(&mut commands), 12);
        assert_eq!(keyspace.warm([Foreseen::key(99, b"k")].into_iter()), 1);
        assert_eq!(format!("{:?}", keyspace.counters), counters);
        assert_eq!(keyspace.memory_bytes(), bytes);
    }
}
