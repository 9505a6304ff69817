//! Keys that sessions watch, at the keys' home.

use ahash::AHashMap;

use super::message::SessionKey;
use crate::keyspace::{Keyspace, Seen};

/// A session and the shard it is on.
pub type Watcher = (usize, SessionKey);

/// A watched key and what was seen of it.
#[derive(Debug)]
struct Watched {
    db: u32,
    key: Box<[u8]>,
    seen: Seen,
}

#[derive(Debug, Default)]
pub struct Watching {
    sessions: AHashMap<Watcher, Vec<Watched>>,
}

impl Watching {
    /// Notes the present versions of keys. Of a key that is watched twice, the older counts as well.
    pub fn watch<'k>(
        &mut self,
        keyspace: &mut Keyspace,
        watcher: Watcher,
        db: u32,
        keys: impl Iterator<Item = &'k [u8]>,
        now_ms: i64,
    ) {
        let watched = self.sessions.entry(watcher).or_default();
        for key in keys {
            let mut tx = keyspace.tx(db, now_ms, false);
            let seen = tx.watch(key);
            tx.finish();
            watched.push(Watched {
                db,
                key: key.into(),
                seen,
            });
        }
    }

    /// Whether all keys that a session watches here are as they were.
    pub fn is_clean(&self, keyspace: &mut Keyspace, watcher: Watcher, now_ms: i64) -> bool {
        let watched = self.sessions.get(&watcher);
        watched.into_iter().flatten().all(|watched| {
            let mut tx = keyspace.tx(watched.db, now_ms, false);
            let clean = tx.is_unchanged(&watched.key, watched.seen);
            tx.finish();
            clean
        })
    }

    /// A session watches nothing any more.
    pub fn forget(&mut self, keyspace: &mut Keyspace, watcher: Watcher) {
        for Watched { db, key, .. } in self.sessions.remove(&watcher).into_iter().flatten() {
            keyspace.effects.unwatch(db, &key);
        }
    }

    /// Number of keys that sessions watch.
    pub fn len(&self) -> usize {
        self.sessions.values().map(Vec::len).sum()
    }

    pub fn is_empty(&self) -> bool {
        self.sessions.is_empty()
    }
}
