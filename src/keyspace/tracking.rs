//! What clients cache of this shard's keys, for CLIENT TRACKING.
//!
//! A read notes its reader under the key; the first change of the key takes all readers out again
//! and lists them as [`Stale`]. Clients that broadcast are not noted: the keys that changed are
//! collected per prefix. Whoever runs the shard takes both, and tells the clients.
//!
//! As in Redis, names of keys count, not databases. While nobody tracks, a change costs two loads.

use std::collections::BTreeMap;

use indexmap::IndexMap;
use smallvec::SmallVec;

/// A client, as shards know it: its shard, and its session there.
pub type Reader = (usize, u64);

/// What a client holds of a key is no longer true.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stale {
    pub reader: Reader,
    pub key: Box<[u8]>,
    /// The reader itself changed the key.
    pub is_own: bool,
    /// The place of the step that changed it, in a command over several shards.
    pub at: u32,
}

/// A key that changed, and the client that changed it last.
pub type ChangedKey = (Box<[u8]>, Option<Reader>);

type Table = IndexMap<Box<[u8]>, SmallVec<[Reader; 2]>, ahash::RandomState>;

/// Clients that broadcast on one prefix.
#[derive(Debug, Default)]
struct Prefix {
    /// How many there are per shard.
    clients: SmallVec<[u32; 4]>,
    changed: BTreeMap<Box<[u8]>, Option<Reader>>,
}

/// The keys under one prefix that changed, and the shards that want to know.
#[derive(Debug)]
pub struct Broadcast {
    pub prefix: Box<[u8]>,
    pub keys: Vec<ChangedKey>,
    pub shards: SmallVec<[usize; 4]>,
}

#[derive(Debug, Default)]
pub struct Tracking {
    /// Insertion order: a simulation sees the same in every run.
    readers: Table,
    /// Tables that were flushed.
    retired: Vec<Table>,
    /// Readers of all keys.
    items: usize,
    prefixes: BTreeMap<Box<[u8]>, Prefix>,
    /// The client whose command runs.
    author: Option<Reader>,
    stale: Vec<Stale>,
    has_changed: bool,
    is_flushed: bool,
    /// Everything was flushed everywhere, and it is this shard that tells all clients.
    is_flush_told: bool,
    /// Part of a command over several shards: changes under prefixes go here, and its step.
    part: Option<Vec<ChangedKey>>,
    place: u32,
    /// Calls of [`Tracking::shrink`] in a row that were not enough.
    over_limit: usize,
}

impl Tracking {
    /// Whether anything is to be noted of changes.
    #[inline]
    pub fn is_on(&self) -> bool {
        !self.readers.is_empty() || !self.prefixes.is_empty()
    }

    /// Whether clients have to be told something.
    #[inline]
    pub fn has_news(&self) -> bool {
        self.has_changed || self.is_flushed || self.is_flush_told || !self.stale.is_empty()
    }

    /// What follows is the work of this client.
    pub fn set_author(&mut self, author: Option<Reader>) {
        self.author = author;
    }

    /// A client has read a key, and may keep what it read.
    pub fn remember(&mut self, reader: Reader, key: &[u8]) {
        let readers = match self.readers.get_mut(key) {
            Some(readers) => readers,
            None => self.readers.entry(key.into()).or_default(),
        };
        if !readers.contains(&reader) {
            readers.push(reader);
            self.items += 1;
        }
    }

    /// A key changed. `by_client`: not by expiry or eviction.
    pub fn changed(&mut self, key: &[u8], by_client: bool) {
        let author = self.author.filter(|_| by_client);
        match &mut self.part {
            None => self.changed_under_prefixes(key, author),
            Some(part) if self.prefixes.keys().any(|prefix| key.starts_with(prefix)) => {
                part.push((key.into(), author));
            }
            Some(_) => {}
        }
        if let Some((key, readers)) = self.readers.swap_remove_entry(key) {
            self.forget(key, readers);
        }
    }

    fn changed_under_prefixes(&mut self, key: &[u8], author: Option<Reader>) {
        for (prefix, state) in &mut self.prefixes {
            if key.starts_with(prefix) {
                state.changed.insert(key.into(), author);
                self.has_changed = true;
            }
        }
    }

    pub(super) fn set_place(&mut self, at: u32) {
        self.place = at;
    }

    /// From here on, changes belong to a part of a command over several shards. Returns how many
    /// readers are to be told of earlier ones.
    pub(super) fn begin_part(&mut self) -> usize {
        self.part = Some(Vec::new());
        self.stale.len()
    }

    /// What the part has to tell of.
    pub(super) fn end_part(&mut self, from: usize) -> (Vec<Stale>, Vec<ChangedKey>) {
        let changed = self.part.take().unwrap_or_default();
        (self.stale.split_off(from), changed)
    }

    pub(super) fn set_flushed(&mut self, flushed: bool) {
        self.is_flushed = flushed;
    }

    /// Takes what parts of a command had to tell of.
    pub(super) fn tell(&mut self, stale: Vec<Stale>, changed: Vec<ChangedKey>, flushed: bool) {
        self.stale.extend(stale);
        for (key, author) in changed {
            self.changed_under_prefixes(&key, author);
        }
        self.is_flush_told |= flushed;
    }

    /// Whether this shard is to tell all clients that everything was flushed.
    pub fn take_flush_told(&mut self) -> bool {
        std::mem::take(&mut self.is_flush_told)
    }

    fn forget(&mut self, key: Box<[u8]>, readers: SmallVec<[Reader; 2]>) {
        self.items -= readers.len();
        for reader in readers {
            self.stale.push(Stale {
                reader,
                key: key.clone(),
                is_own: self.author == Some(reader),
                at: self.place,
            });
        }
    }

    /// Everything has changed.
    pub fn flushed(&mut self) {
        self.is_flushed = true;
        self.items = 0;
        if !self.readers.is_empty() {
            self.retired.push(std::mem::take(&mut self.readers));
        }
    }

    /// Frees some of what was flushed; returns whether there is more.
    pub fn free_slice(&mut self) -> bool {
        const KEYS_AT_ONCE: usize = 1024;
        let Some(table) = self.retired.last_mut() else {
            return false;
        };
        table.truncate(table.len().saturating_sub(KEYS_AT_ONCE));
        if table.is_empty() {
            self.retired.pop();
        }
        !self.retired.is_empty()
    }

    /// Brings the table down towards `max_keys`: readers of keys picked at random are told as if these
    /// had changed. The effort grows while it is not enough. A key that somebody holds stays: a reply
    /// with its value may not have left yet. Redis: tracking.c trackingLimitUsedSlots.
    pub fn shrink(
        &mut self,
        max_keys: usize,
        rng: &mut fastrand::Rng,
        is_held: impl Fn(&[u8]) -> bool,
    ) {
        const KEYS_AT_ONCE: usize = 100;
        if self.readers.len() <= max_keys {
            self.over_limit = 0;
            return;
        }
        self.over_limit += 1;
        for _ in 0..KEYS_AT_ONCE * self.over_limit {
            if self.readers.len() <= max_keys {
                self.over_limit = 0;
                return;
            }
            let at = rng.usize(..self.readers.len());
            let held = self
                .readers
                .get_index(at)
                .is_none_or(|(key, _)| is_held(key));
            if !held && let Some((key, readers)) = self.readers.swap_remove_index(at) {
                self.forget(key, readers);
            }
        }
    }

    /// A client of `shard` begins to broadcast on a prefix, or ends.
    pub fn change_prefix(&mut self, prefix: &[u8], shard: usize, begins: bool) {
        let state = self.prefixes.entry(prefix.into()).or_default();
        if state.clients.len() <= shard {
            state.clients.resize(shard + 1, 0);
        }
        let count = &mut state.clients[shard];
        *count = if begins {
            *count + 1
        } else {
            count.saturating_sub(1)
        };
        if state.clients.iter().all(|&count| count == 0) {
            self.prefixes.remove(prefix);
        }
    }

    /// Readers of keys that changed since the last call, in the order of the changes.
    pub fn take_stale(&mut self) -> Vec<Stale> {
        std::mem::take(&mut self.stale)
    }

    /// The same of one reader alone.
    pub fn take_stale_of(&mut self, reader: Reader) -> Vec<Stale> {
        let all = std::mem::take(&mut self.stale);
        let (its, rest) = all.into_iter().partition(|stale| stale.reader == reader);
        self.stale = rest;
        its
    }

    /// Whether everything was flushed since the last call.
    pub fn take_flushed(&mut self) -> bool {
        std::mem::take(&mut self.is_flushed)
    }

    /// What changed under prefixes since the last call, prefixes and keys ascending.
    pub fn take_broadcasts(&mut self) -> Vec<Broadcast> {
        if !std::mem::take(&mut self.has_changed) {
            return Vec::new();
        }
        let changed = self
            .prefixes
            .iter_mut()
            .filter(|(_, state)| !state.changed.is_empty());
        let mut broadcasts = Vec::new();
        for (prefix, state) in changed {
            let counts = state.clients.iter().enumerate();
            let wanted = counts.filter(|(_, count)| **count > 0);
            broadcasts.push(Broadcast {
                prefix: prefix.clone(),
                keys: std::mem::take(&mut state.changed).into_iter().collect(),
                shards: wanted.map(|(shard, _)| shard).collect(),
            });
        }
        broadcasts
    }

    /// Keys with readers, readers of all keys, and prefixes, for INFO.
    pub fn figures(&self) -> (usize, usize, usize) {
        (self.readers.len(), self.items, self.prefixes.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ANN: Reader = (0, 1);
    const BOB: Reader = (1, 1);

    #[test]
    fn the_first_change_of_a_key_concerns_its_readers_once() {
        let mut tracking = Tracking::default();
        assert!(!tracking.is_on());
        tracking.remember(ANN, b"k");
        tracking.remember(BOB, b"k");
        tracking.remember(ANN, b"k");
        assert_eq!(tracking.figures(), (1, 2, 0));
        tracking.changed(b"other", true);
        assert!(!tracking.has_news());
        tracking.set_author(Some(BOB));
        tracking.changed(b"k", true);
        tracking.changed(b"k", true);
        let stale = tracking.take_stale();
        let told: Vec<_> = stale.iter().map(|s| (s.reader, s.is_own)).collect();
        assert_eq!(told, [(ANN, false), (BOB, true)]);
        assert!(!tracking.has_news() && !tracking.is_on());
        assert_eq!(tracking.figures(), (0, 0, 0));
    }

    #[test]
    fn prefixes_collect_keys_and_who_changed_them_last() {
        let mut tracking = Tracking::default();
        tracking.change_prefix(b"", 0, true);
        tracking.change_prefix(b"user:", 2, true);
        tracking.set_author(Some(ANN));
        tracking.changed(b"user:1", true);
        tracking.changed(b"item:1", true);
        tracking.set_author(Some(BOB));
        tracking.changed(b"user:1", true);
        tracking.changed(b"item:2", false);
        let broadcasts = tracking.take_broadcasts();
        let [all, users] = &broadcasts[..] else {
            panic!("two prefixes: {broadcasts:?}");
        };
        let key = |name: &str, by| (Box::from(name.as_bytes()), by);
        let items = [key("item:1", Some(ANN)), key("item:2", None)];
        assert_eq!(all.keys[..2], items);
        assert_eq!(all.keys[2], key("user:1", Some(BOB)));
        assert_eq!((&*all.prefix, &all.shards[..]), (&b""[..], &[0][..]));
        assert_eq!(users.keys, [key("user:1", Some(BOB))]);
        assert_eq!(users.shards[..], [2]);
        assert!(tracking.take_broadcasts().is_empty() && !tracking.has_news());
        tracking.change_prefix(b"", 0, false);
        tracking.change_prefix(b"user:", 2, false);
        assert!(!tracking.is_on());
    }

    #[test]
    fn a_table_beyond_its_limit_shrinks_and_tells_the_readers() {
        let mut tracking = Tracking::default();
        let mut rng = fastrand::Rng::with_seed(1);
        for n in 0..1000u32 {
            tracking.remember(ANN, &n.to_be_bytes());
        }
        tracking.shrink(1000, &mut rng, |_| false);
        tracking.shrink(250, &mut rng, |_| true);
        tracking.shrink(1000, &mut rng, |_| false);
        assert_eq!(tracking.figures(), (1000, 1000, 0));
        assert!(!tracking.has_news());
        let mut told = 0;
        for expected in [900, 700, 400, 250, 250] {
            tracking.shrink(250, &mut rng, |_| false);
            assert_eq!(tracking.figures(), (expected, expected, 0));
            told += tracking.take_stale().len();
        }
        assert_eq!(told, 750);
        tracking.flushed();
        assert!(tracking.take_flushed() && !tracking.take_flushed());
        assert_eq!(tracking.figures(), (0, 0, 0));
    }
}
