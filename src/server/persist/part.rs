//! One shard's part in saving and loading.

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use super::{Loaded, LoadedValue, Mail, Message};
use crate::keyspace::{Foreseen, Taken, WARM_KEYS};
use crate::server::ask::NodeMessage;
use crate::session::Core;
use crate::shard::snapshot::CHUNK_BYTES;

/// Chunks of one shard that shard 0 has not taken yet.
const UNTAKEN_MAX: usize = 4;

#[derive(Debug)]
pub struct Part {
    /// The cut whose sizes were reported.
    reported: Option<u32>,
    untaken: usize,
    /// Changes since the last save that the cut `reported` holds.
    dirty: u64,
    /// Shard 0 was told that there are changes.
    told_changed: bool,
    /// Entries are being loaded.
    pub loading: bool,
    /// Batches of commands to be run again that shard 0 does not know to be taken.
    pub replayed: usize,
    /// The last snapshot failed and `stop-writes-on-bgsave-error` is on.
    pub save_failed: bool,
    /// What every shard tells of itself.
    shared: Arc<Shared>,
    shard: usize,
}

/// What one shard tells the others.
#[derive(Debug, Default)]
pub struct Figures {
    /// Changes since the last save.
    changes: AtomicU64,
    /// Size of its segment.
    journal_bytes: AtomicU64,
    /// Keys that it has, on a replica.
    keys: AtomicU64,
}

/// What all parts share. It needs no message: while a shard cannot write its segment, its mail is
/// held back.
#[derive(Debug, Default)]
pub struct Shared {
    figures: Vec<Figures>,
    /// Some shard is loading: all refuse commands, until all can be served at once.
    loading: AtomicBool,
    /// Shards that cannot write their segments, and why one cannot.
    failing: AtomicUsize,
    reason: Mutex<String>,
    /// A snapshot or a base is being written.
    saving: AtomicBool,
    /// Clients are served while databases that replace all others are loaded.
    loading_beside: AtomicBool,
    /// Replicas that count for `min-replicas-to-write`.
    good_replicas: AtomicUsize,
    /// What one of them had written may be lost: only a new base makes it good.
    wants_base: AtomicBool,
}

/// What so many shards share.
pub fn shared(shards: usize) -> Arc<Shared> {
    Arc::new(Shared {
        figures: (0..shards).map(|_| Figures::default()).collect(),
        ..Shared::default()
    })
}

impl Part {
    pub fn new(shard: usize, shared: Arc<Shared>) -> Part {
        Part {
            reported: None,
            untaken: 0,
            dirty: 0,
            told_changed: false,
            loading: false,
            replayed: 0,
            save_failed: false,
            shared,
            shard,
        }
    }

    pub fn shard(&self) -> usize {
        self.shard
    }

    /// Whether some shard is loading.
    pub fn is_any_loading(&self) -> bool {
        self.shared.loading.load(Ordering::SeqCst)
    }

    /// Whether databases are loaded that replace those from which clients are served.
    pub fn is_loading_beside(&self) -> bool {
        self.shared.loading_beside.load(Ordering::SeqCst)
    }

    /// Some shard is loading, or all are done with it.
    pub fn set_any_loading(&self, loading: bool) {
        self.shared.loading.store(loading, Ordering::SeqCst);
    }

    /// Changes since the last save, all shards together.
    pub fn changes_of_all(&self) -> u64 {
        let of = |figures: &Figures| figures.changes.load(Ordering::Relaxed);
        self.shared.figures.iter().map(of).sum()
    }

    /// Bytes of the segments of all shards.
    pub fn journal_bytes_of_all(&self) -> u64 {
        let of = |figures: &Figures| figures.journal_bytes.load(Ordering::Relaxed);
        self.shared.figures.iter().map(of).sum()
    }

    /// This shard cannot write its segment any more, or can again.
    pub fn set_journal_failure(&self, reason: Option<&str>, wants_base: bool) {
        match reason {
            Some(reason) => {
                if let Ok(mut known) = self.shared.reason.lock() {
                    reason.clone_into(&mut known);
                }
                self.shared.failing.fetch_add(1, Ordering::SeqCst);
            }
            None => drop(self.shared.failing.fetch_sub(1, Ordering::SeqCst)),
        }
        if wants_base {
            self.want_base();
        }
    }

    /// On shard 0: whether a snapshot or a base is being written.
    pub fn set_saving(&self, is_saving: bool) {
        self.shared.saving.store(is_saving, Ordering::Relaxed);
    }

    /// On shard 0: how many replicas are close behind.
    pub fn set_good_replicas(&self, good: usize) {
        self.shared.good_replicas.store(good, Ordering::Relaxed);
    }

    pub fn good_replicas(&self) -> usize {
        self.shared.good_replicas.load(Ordering::Relaxed)
    }

    pub fn is_saving(&self) -> bool {
        self.shared.saving.load(Ordering::Relaxed)
    }

    /// This shard's segment may have lost something that only a new base makes up for.
    pub fn want_base(&self) {
        self.shared.wants_base.store(true, Ordering::SeqCst);
    }

    /// Whether some shard cannot write its segment.
    pub fn is_journal_failing(&self) -> bool {
        self.shared.failing.load(Ordering::Relaxed) > 0
    }

    /// Why.
    pub fn journal_failure(&self) -> String {
        let reason = self.shared.reason.lock();
        reason.map_or_else(|_| String::new(), |reason| reason.clone())
    }

    /// Whether a new base is wanted; asking forgets it.
    pub fn take_wants_base(&self) -> bool {
        let wanted = &self.shared.wants_base;
        wanted.load(Ordering::Relaxed) && wanted.swap(false, Ordering::SeqCst)
    }

    /// Tells the others how long this shard's segment is. Returns whether it has grown by a step since
    /// it was looked at: `auto-aof-rewrite-min-size` is a matter of megabytes.
    pub fn publish_journal_bytes(&self, bytes: u64) -> bool {
        const STEP_BYTES: u64 = 64 * 1024;
        let own = &self.shared.figures[self.shard].journal_bytes;
        // Nobody else writes it.
        let before = own.load(Ordering::Relaxed);
        own.store(bytes, Ordering::Relaxed);
        bytes / STEP_BYTES > before / STEP_BYTES
    }

    /// Streams some of the cut in progress. Returns whether there is more to do at once.
    pub fn stream(&mut self, core: &mut Core, mail: &mut Mail) -> bool {
        let id = core.shard.cut_id;
        let is_awaited = core.shard.is_cut_awaited();
        let keyspace = &mut core.shard.keyspace;
        let dirty = keyspace.effects.dirty;
        let own = &self.shared.figures[self.shard].changes;
        own.store(dirty, Ordering::Relaxed);
        if keyspace.is_replica() {
            let keys = (0..keyspace.databases()).map(|db| keyspace.stats(db).keys as u64);
            self.shared.figures[self.shard]
                .keys
                .store(keys.sum(), Ordering::Relaxed);
        }
        if !self.told_changed && dirty > 0 {
            self.told_changed = true;
            mail.push((0, NodeMessage::Persist(Message::Changed)));
        }
        let Some(sizes) = keyspace.cut_sizes() else {
            return false;
        };
        let mut tell = |message| mail.push((0, NodeMessage::Persist(message)));
        if self.reported != Some(id) {
            self.reported = Some(id);
            self.untaken = 0;
            let sizes = sizes.clone();
            let used_bytes = keyspace.memory_bytes() as u64;
            let expiring_fields = keyspace.knows_expiring_fields;
            tell(Message::CutBegun {
                id,
                sizes,
                used_bytes,
                expiring_fields,
            });
            self.dirty = keyspace.cut_dirty();
        }
        match self.untaken < UNTAKEN_MAX {
            true => drop(keyspace.cut_slice(CHUNK_BYTES)),
            // What clients wait for does not wait for the disk.
            false if is_awaited => keyspace.cut_on(),
            false => {}
        }
        while self.untaken < UNTAKEN_MAX
            && let Some(chunk) = keyspace.take_chunk()
        {
            self.untaken += 1;
            let chunk = Box::new(chunk);
            tell(Message::Chunk { id, chunk });
        }
        if keyspace.is_cut_taken() {
            keyspace.end_cut();
            tell(Message::CutDone { id });
            return false;
        }
        self.untaken < UNTAKEN_MAX || is_awaited
    }

    /// Whether [`Part::stream`] would do something.
    pub fn wants(&self, core: &Core) -> bool {
        let keyspace = &core.shard.keyspace;
        let is_new = self.reported != Some(core.shard.cut_id);
        keyspace.is_cutting() && (is_new || self.untaken < UNTAKEN_MAX)
            || core.shard.is_cut_awaited()
            || !self.told_changed && keyspace.effects.dirty > 0
    }

    /// Shard 0 took a chunk.
    pub fn chunk_taken(&mut self, id: u32) {
        if self.reported == Some(id) {
            self.untaken = self.untaken.saturating_sub(1);
        }
    }

    pub fn cut_cancelled(&mut self, core: &mut Core, id: u32) {
        if core.shard.cut_id == id {
            core.shard.keyspace.give_up_cut();
            self.untaken = 0;
        }
    }

    /// A snapshot ended.
    pub fn save_ended(&mut self, core: &mut Core, id: u32, ok: bool) {
        self.save_failed = !ok;
        if ok && self.reported == Some(id) {
            let dirty = &mut core.shard.keyspace.effects.dirty;
            *dirty = dirty.saturating_sub(std::mem::take(&mut self.dirty));
            self.told_changed = false;
        }
    }

    /// Keys of all shards, a turn ago.
    pub fn has_keys(&self) -> bool {
        let has = |figures: &Figures| figures.keys.load(Ordering::Relaxed) > 0;
        self.shared.figures.iter().any(has)
    }

    /// Entries come next that replace all others once they are complete.
    pub fn incoming_begins(&mut self, core: &mut Core, serves: bool) {
        match serves {
            true => self.shared.loading_beside.store(true, Ordering::SeqCst),
            false => self.load_begins(core, false),
        }
        core.shard.keyspace.begin_incoming();
    }

    /// They are, or will never be.
    pub fn incoming_over(&mut self, core: &mut Core, accepted: bool, now_ms: i64) {
        match accepted {
            true => core.shard.keyspace.accept_incoming(now_ms),
            false => core.shard.keyspace.drop_incoming(),
        }
        self.shared.loading_beside.store(false, Ordering::SeqCst);
    }

    /// Entries come next.
    pub fn load_begins(&mut self, core: &mut Core, flush: bool) {
        self.loading = true;
        self.set_any_loading(true);
        core.shard.keyspace.effects.classes = 0;
        core.shard.keyspace.effects.recording = false;
        if flush {
            core.shard.keyspace.clear();
        }
    }

    /// Stores entries that live here.
    pub fn load(&mut self, core: &mut Core, entries: Vec<Loaded>, now_ms: i64) {
        let keyspace = &mut core.shard.keyspace;
        let mut entries = entries.into_iter();
        while !entries.as_slice().is_empty() {
            // Half of a load was waiting for the buckets of new keys, one by one.
            let next = entries.as_slice().iter();
            keyspace.warm(next.map(|entry| Foreseen::key(entry.db, &entry.key)));
            for entry in entries.by_ref().take(WARM_KEYS) {
                let Loaded {
                    db,
                    key,
                    value,
                    expire_at_ms,
                    idle_s,
                    frequency,
                } = entry;
                let mut tx = keyspace.tx(db, now_ms, false);
                match value {
                    LoadedValue::Text(text) => {
                        tx.load_text(&key, &text, expire_at_ms, (idle_s, frequency));
                    }
                    LoadedValue::Stored(stored) => {
                        let mut value = Taken::new(stored, expire_at_ms);
                        tx.set_clock(&mut value, idle_s, frequency);
                        tx.load(&key, value);
                    }
                }
                tx.finish();
            }
        }
    }
}
