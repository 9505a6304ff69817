//! Keys that somebody keeps an eye on: clients that WATCH, clients blocked on a key.
//!
//! A watcher remembers the version it saw and asks later whether it still holds; a waiter's key is
//! put on the ready list by the next change. Keys nobody cares for are not here, so a change costs
//! one `is_empty` while there are none.

use std::collections::BTreeMap;

#[derive(Debug, Default)]
struct Watched {
    watchers: u32,
    waiters: u32,
    version: u64,
    is_ready: bool,
}

#[derive(Debug, Default)]
pub struct Interest {
    /// Per database. Ordered maps: no hash seed, and the same order in every run of a simulation.
    dbs: BTreeMap<u32, BTreeMap<Box<[u8]>, Watched>>,
    /// Changes of watched keys so far: the source of versions.
    changes: u64,
    ready: Vec<(u32, Box<[u8]>)>,
}

impl Interest {
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.dbs.is_empty()
    }

    fn entry(&mut self, db: u32, key: &[u8]) -> &mut Watched {
        self.dbs
            .entry(db)
            .or_default()
            .entry(key.into())
            .or_default()
    }

    /// Registers a watcher; returns the version it sees.
    pub fn watch(&mut self, db: u32, key: &[u8]) -> u64 {
        let watched = self.entry(db, key);
        watched.watchers += 1;
        watched.version
    }

    /// The version of a watched key.
    pub fn version(&self, db: u32, key: &[u8]) -> Option<u64> {
        Some(self.dbs.get(&db)?.get(key)?.version)
    }

    pub fn unwatch(&mut self, db: u32, key: &[u8]) {
        self.leave(db, key, |watched| &mut watched.watchers);
    }

    /// Registers a client that waits for a key to change.
    pub fn wait(&mut self, db: u32, key: &[u8]) {
        self.entry(db, key).waiters += 1;
    }

    pub fn stop_waiting(&mut self, db: u32, key: &[u8]) {
        self.leave(db, key, |watched| &mut watched.waiters);
    }

    fn leave(&mut self, db: u32, key: &[u8], count: impl Fn(&mut Watched) -> &mut u32) {
        let Some(keys) = self.dbs.get_mut(&db) else {
            return;
        };
        let Some(watched) = keys.get_mut(key) else {
            return;
        };
        let count = count(watched);
        *count = count.saturating_sub(1);
        if watched.watchers == 0 && watched.waiters == 0 {
            keys.remove(key);
            if keys.is_empty() {
                self.dbs.remove(&db);
            }
        }
    }

    /// Notes a change of a key; whoever waits for it looks again also if no watcher sees it.
    pub fn changed(&mut self, db: u32, key: &[u8], is_seen: bool) {
        let Some(watched) = self.dbs.get_mut(&db).and_then(|keys| keys.get_mut(key)) else {
            return;
        };
        if is_seen {
            self.changes += 1;
            watched.version = self.changes;
        }
        if watched.waiters > 0 && !watched.is_ready {
            watched.is_ready = true;
            self.ready.push((db, key.into()));
        }
    }

    /// The keys of a database that somebody watches or waits for.
    pub fn keys(&self, db: u32) -> Vec<Box<[u8]>> {
        let keys = self.dbs.get(&db).into_iter().flat_map(BTreeMap::keys);
        keys.cloned().collect()
    }

    pub fn is_nothing_ready(&self) -> bool {
        self.ready.is_empty()
    }

    /// Keys with waiters that changed since the last call, in the order of their changes.
    pub fn take_ready(&mut self) -> Vec<(u32, Box<[u8]>)> {
        let ready = std::mem::take(&mut self.ready);
        for (db, key) in &ready {
            if let Some(watched) = self.dbs.get_mut(db).and_then(|keys| keys.get_mut(key)) {
                watched.is_ready = false;
            }
        }
        ready
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_move_with_changes_of_watched_keys_only() {
        let mut interest = Interest::default();
        interest.changed(0, b"k", true);
        let seen = interest.watch(0, b"k");
        interest.changed(1, b"k", true);
        interest.changed(0, b"other", true);
        assert_eq!(interest.version(0, b"k"), Some(seen));
        interest.changed(0, b"k", true);
        assert_ne!(interest.version(0, b"k"), Some(seen));
        let seen = interest.watch(0, b"k");
        interest.changed(0, b"k", false);
        assert_eq!(interest.version(0, b"k"), Some(seen));
        interest.unwatch(0, b"k");
        interest.unwatch(0, b"k");
        assert!(interest.is_empty());
    }

    #[test]
    fn a_key_is_ready_once_until_it_is_taken() {
        let mut interest = Interest::default();
        interest.wait(0, b"k");
        interest.changed(0, b"k", true);
        interest.changed(0, b"k", true);
        assert_eq!(interest.take_ready(), [(0, b"k"[..].into())]);
        assert!(interest.take_ready().is_empty());
        interest.changed(0, b"k", true);
        assert_eq!(interest.take_ready().len(), 1);
        interest.stop_waiting(0, b"k");
        interest.changed(0, b"k", true);
        assert!(interest.take_ready().is_empty() && interest.is_empty());
    }
}
