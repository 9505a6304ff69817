//! One shard's segment of the append-only file: from units to bytes that the kernel, or the disk,
//! has; and what replies have to wait for.
//!
//! | `appendfsync` | a turn's replies leave |
//! |---|---|
//! | `no`, `everysec` | when its units were handed to the kernel: a killed process loses nothing |
//! | `always` | when they are on the disk; one write through to it is under way while the next units collect |
//!
//! Without a sync under way the kernel takes a write without waiting for the disk, and one plain
//! `pwrite` a turn is cheaper than the ring's way of doing it, which hands buffered writes to another
//! thread. While a sync is under way a write may have to wait for it: then it takes the ring, and the
//! shard goes on meanwhile.
//!
//! Under `everysec` the next sync begins so early that it is over within a second of the one before, if
//! it takes no more than twice as long; so what a machine that stops loses is no older than a second,
//! or than that and what a slower sync takes. While a sync takes longer than two seconds, writers wait
//! for it: however long the disk stands still, little is told that it has not got.
//!
//! A policy that changes holds for what comes then. Under `always` nothing leaves before all is on the
//! disk that an easier policy left behind; and what was done under `always` waits for the disk also
//! when an easier policy has come.
//!
//! A sync that fails says nothing about what is lost, and the next may succeed although it is. Under
//! `always` the bytes are kept until they are synced: they are written and synced again, and nobody is
//! answered before that. Under `everysec` their writers have their answers: writes are refused
//! until a new base holds what may be lost.

mod ending;
mod medium;
mod policy;
mod room;
#[cfg(test)]
mod tests;
mod writing;

use std::collections::VecDeque;
use std::fs::File;
use std::io;
use std::sync::Arc;

pub use medium::Medium;
pub use policy::Policy;

use super::{Operation, Purpose, tag};
use crate::keyspace::Effects;
use crate::runtime::{FileDone, FileOp, clock};
use crate::server::log;
use crate::server::waitaof::Waiter;
use crate::shard::journal::Journal;
use crate::shard::seen::Places;
use ending::Ending;
use room::Room;

/// Age at which what was written is to be on the disk under `everysec`.
const SYNC_MS: i64 = 1_000;
/// What of it is left for a turn that comes late.
const SPARE_MS: i64 = 50;
/// Writers wait for a sync that takes longer than this under `everysec`. Redis: aof.c, for as long it
/// puts off writes beside a sync.
const LATE_MS: i64 = 2_000;
/// Most that is taken back into memory when `always` comes. More is synced at once, and the shard
/// waits for it: a sync that failed later would let go what was acknowledged behind it.
const KEPT_MAX_BYTES: u64 = 16 * 1024 * 1024;
/// Time after which a write that failed is tried again.
const RETRY_MS: i64 = 200;

/// What the server does with the segment at the end of a turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// What this turn's replies wait for; 0: nothing.
    pub gate: u64,
    /// Replies that wait for no more than this may leave.
    pub released: u64,
}

/// The file of one shard. Positions in the journal count bytes since the segment of this process
/// began, over all files.
pub struct Segment<F: Medium = File> {
    file: Arc<F>,
    /// The file that a cut goes over to.
    pub next: Option<Arc<F>>,
    endings: VecDeque<Ending<F>>,
    policy: Policy,
    /// `appendfsync`, and whether it rests while a snapshot or a base is written:
    /// `no-appendfsync-on-rewrite`.
    wanted: Policy,
    pub rests: bool,
    /// Most bytes that are taken back when `always` comes.
    pub kept_max_bytes: u64,
    /// How much longer a file is made ahead under `always`.
    pub ahead_bytes: usize,
    /// Up to here turns wait for the disk, whatever the policy is now.
    strict_to: u64,
    /// Up to here everything is synced, even if the policy is `no` now.
    owed: u64,
    /// What gates are ahead of positions: one for each change to `always`, so that nothing that was
    /// released before releases what comes then.
    lead: u64,
    pub timestamps: bool,
    stamped_s: i64,
    /// Where the next write to the file goes.
    at: u64,
    /// What stands in the file behind that place.
    room: Room,
    /// For the file, not handed to the kernel.
    buffer: Vec<u8>,
    appended: u64,
    written: u64,
    synced: u64,
    /// Journal positions that the operations under way reach.
    writing: Option<u64>,
    syncing: Option<u64>,
    /// Bytes of the write under way, and of the room it makes behind them.
    in_flight: usize,
    room_in_flight: usize,
    /// The disk had none to make.
    no_room_until_ms: i64,
    /// It is over when they are on the disk.
    is_through: bool,
    /// Under `always`: what was written last and is not synced, and where.
    kept: Vec<u8>,
    kept_at: u64,
    /// When the last sync began, and how long the last that is over took: milliseconds.
    last_sync_ms: i64,
    took_ms: i64,
    /// Syncs of files before the current one that are under way.
    old_syncs: usize,
    /// When the first of them began.
    old_sync_ms: i64,
    /// Syncs that writers had to wait for under `everysec`.
    pub delayed_syncs: u64,
    is_late: bool,
    /// When the sync under way began, and how long the last one took: monotonic nanoseconds.
    sync_begun_ns: u64,
    pub sync_took_ns: u64,
    /// Why the last write or sync failed.
    failed: Option<String>,
    retry_ms: i64,
    /// A sync failed: what was written before may be lost though a later sync succeeds.
    pub sync_failed: bool,
    /// Who waits for the disk to have what.
    waiters: Vec<(u64, Waiter)>,
    /// Where the units of the shard's records end.
    places: Places,
    /// So did one of the current file, which a base does not make up for.
    current_failed: bool,
}

impl<F: Medium> Segment<F> {
    /// `begin`: the position at which the journal goes on.
    pub fn new(file: Arc<F>, policy: Policy, begin: u64) -> Segment<F> {
        Segment {
            file,
            next: None,
            endings: VecDeque::new(),
            policy,
            wanted: policy,
            rests: false,
            kept_max_bytes: KEPT_MAX_BYTES,
            ahead_bytes: room::AHEAD_BYTES,
            strict_to: 0,
            owed: 0,
            lead: 0,
            timestamps: false,
            stamped_s: 0,
            at: 0,
            room: Room::default(),
            buffer: Vec::new(),
            appended: begin,
            written: begin,
            synced: begin,
            writing: None,
            syncing: None,
            in_flight: 0,
            room_in_flight: 0,
            no_room_until_ms: 0,
            is_through: false,
            kept: Vec::new(),
            kept_at: 0,
            sync_begun_ns: 0,
            sync_took_ns: 0,
            last_sync_ms: 0,
            took_ms: 0,
            old_syncs: 0,
            old_sync_ms: 0,
            delayed_syncs: 0,
            is_late: false,
            failed: None,
            retry_ms: 0,
            sync_failed: false,
            waiters: Vec::new(),
            places: Places::default(),
            current_failed: false,
        }
    }

    /// The file goes on where another server has left it, with whatever stands behind.
    pub fn resume(&mut self, at: u64) {
        self.at = at;
        self.room.forget();
    }

    /// Bytes of the current file.
    pub fn size_bytes(&self) -> u64 {
        self.at + self.buffer.len() as u64
    }

    /// Somebody waits until everything up to a unit is on the disk, or all that this turn ends with.
    pub fn when_synced(&mut self, waiter: Waiter, unit: u64) {
        let to = self.places.of(unit).unwrap_or(u64::MAX);
        self.waiters.push((to, waiter));
    }

    /// Whether everything up to a unit is on the disk.
    pub fn has_synced(&self, unit: u64) -> bool {
        let is_known = !self.sync_failed && self.old_syncs == 0;
        is_known && self.places.of(unit).is_some_and(|to| to <= self.synced)
    }

    /// Whether somebody waits who does not wait for the next second's sync.
    fn is_in_a_hurry(&self) -> bool {
        let hurries = |(to, waiter): &(u64, Waiter)| waiter.hurries && *to > self.synced;
        self.waiters.iter().any(hurries)
    }

    /// Those whose wait is over. After a sync that failed nobody's is: who knows what is lost?
    pub fn take_synced(&mut self) -> Vec<Waiter> {
        if self.waiters.is_empty() || self.sync_failed || self.old_syncs > 0 {
            return Vec::new();
        }
        let synced = self.synced;
        let over = self.waiters.extract_if(.., |(to, _)| *to <= synced);
        over.map(|(_, waiter)| waiter).collect()
    }

    /// All who wait: the segment is about to be closed.
    pub fn take_waiters(&mut self) -> Vec<Waiter> {
        let waiters = std::mem::take(&mut self.waiters);
        waiters.into_iter().map(|(_, waiter)| waiter).collect()
    }

    /// Bytes that the kernel has not got.
    pub fn pending_bytes(&self) -> u64 {
        self.appended - self.written
    }

    /// Why writes are to be refused.
    pub fn failure(&self) -> Option<&str> {
        self.failed.as_deref()
    }

    /// The end of a turn: what it changed goes into the file.
    pub fn commit(
        &mut self,
        journal: &mut Journal,
        effects: &mut Effects,
        now_ms: i64,
        operations: &mut Vec<Operation<F>>,
    ) -> Verdict {
        if self.timestamps && !effects.records.is_empty() && self.stamped_s != now_ms / 1000 {
            self.stamped_s = now_ms / 1000;
            journal.timestamp(self.stamped_s);
        }
        journal.synced(self.synced_bytes());
        let begin = self.appended;
        self.collect(journal, effects);
        self.places.note(effects.units, self.appended);
        let grown = self.appended > begin;
        for (to, _) in &mut self.waiters {
            *to = (*to).min(self.appended);
        }
        self.write(now_ms, operations);
        self.sync_if_due(now_ms, operations);
        self.look_at_clock(now_ms);
        // Behind a file that is not on the disk, nothing is.
        let durable = if self.old_syncs > 0 { 0 } else { self.synced };
        let (released, waits) = match self.is_strict() {
            true => (durable, self.appended > durable),
            false if self.is_late => (durable, grown),
            false => (self.written, grown && self.appended > self.written),
        };
        Verdict {
            gate: if waits { self.appended + self.lead } else { 0 },
            released: released + self.lead,
        }
    }

    /// Takes what the shard has done since the turn before; a cut may be in its midst.
    fn collect(&mut self, journal: &mut Journal, effects: &mut Effects) {
        journal.collect(effects);
        if let Some(rest) = journal.take_rest() {
            self.change_file(rest);
        }
        let before = self.buffer.len();
        journal.take(&mut self.buffer);
        self.appended += (self.buffer.len() - before) as u64;
    }

    fn fail(&mut self, what: &str, error: &io::Error, now_ms: i64) {
        self.retry_ms = now_ms + RETRY_MS;
        if self.failed.is_none() {
            log::warning(&format!("{what}: {error}"));
        }
        self.failed = Some(error.to_string());
    }

    fn recovered(&mut self) {
        if !self.sync_failed && self.failed.take().is_some() {
            log::warning("AOF write error looks solved, Pinion can write again.");
        }
    }

    fn sync_if_due(&mut self, now_ms: i64, operations: &mut Vec<Operation<F>>) {
        let is_due = self.is_strict()
            || self.syncs() && now_ms >= self.next_sync_ms()
            || self.is_in_a_hurry();
        let is_busy = self.syncing.is_some() || self.writing.is_some();
        if !is_due || is_busy || !self.endings.is_empty() || now_ms < self.retry_ms {
            return;
        }
        if self.written > self.synced {
            self.last_sync_ms = now_ms;
            self.sync_begun_ns = clock::mono_ns();
            self.syncing = Some(self.written);
            let op = FileOp::Sync { metadata: false };
            self.operate(Purpose::JournalSync, op, operations);
        }
    }

    fn operate(&self, purpose: Purpose, op: FileOp, operations: &mut Vec<Operation<F>>) {
        operations.push(Operation {
            file: self.file.clone(),
            tag: tag(purpose, 0),
            op,
        });
    }

    /// An operation is over.
    pub fn file_done(&mut self, done: FileDone, is_write: bool, now_ms: i64) {
        if is_write {
            self.write_done(done, now_ms);
        } else if let Some(to) = self.syncing.take() {
            self.sync_is_over(now_ms);
            match done.result {
                Ok(_) => {
                    // What is kept may go on beyond what this sync was asked for.
                    let done = to.saturating_sub(self.synced);
                    if self.is_all_kept() {
                        self.kept.drain(..self.kept.len().min(done as usize));
                        self.kept_at += done;
                    } else {
                        self.kept.clear();
                    }
                    let was_strict = self.is_strict();
                    self.synced = self.synced.max(to);
                    if was_strict {
                        self.recovered();
                    }
                }
                Err(error) => self.sync_done_badly(&error, now_ms),
            }
        }
    }

    fn sync_is_over(&mut self, now_ms: i64) {
        self.sync_took_ns = clock::mono_ns().saturating_sub(self.sync_begun_ns);
        self.took_ms = (now_ms - self.last_sync_ms).max(0);
    }

    fn sync_done_badly(&mut self, error: &io::Error, now_ms: i64) {
        self.fail("Fail to fsync the AOF file", error, now_ms);
        if !self.is_strict() || !self.is_all_kept() {
            self.sync_failed = true;
            self.current_failed = self.endings.is_empty();
            self.kept.clear();
            return;
        }
        self.written = self.synced;
        // An old file is given what was kept when it is ended.
        if self.endings.is_empty() {
            let kept = std::mem::take(&mut self.kept);
            self.buffer.splice(..0, kept);
            self.at = self.kept_at;
        }
    }

    /// A new base holds everything that the segments before the current one may have lost. Returns
    /// false if the current one may have lost something too: then another base is wanted.
    pub fn mend(&mut self) -> bool {
        if self.current_failed {
            return false;
        }
        self.sync_failed = false;
        if self.buffer.is_empty() && self.endings.is_empty() {
            self.failed = None;
        }
        true
    }

    /// When to look again, unix milliseconds.
    pub fn due_ms(&self) -> Option<i64> {
        if self.writing.is_some() || self.syncing.is_some() {
            return None;
        }
        let is_unsynced = self.is_strict() && self.written > self.synced;
        if !self.buffer.is_empty() || !self.endings.is_empty() || is_unsynced {
            return Some(self.retry_ms);
        }
        if self.is_in_a_hurry() && self.written > self.synced {
            return Some(self.retry_ms);
        }
        let unsynced = self.syncs() && self.written > self.synced;
        unsynced.then(|| self.next_sync_ms())
    }

    /// Whether something is under way that [`Segment::close`] does not do again. A process that ends may
    /// take it back from the ring.
    pub fn is_busy(&self) -> bool {
        self.writing.is_some() || self.old_syncs > 0
    }

    /// Writes and syncs everything, waiting for it: the end of the segment, while it is not busy. Returns
    /// its position.
    pub fn close(mut self, journal: &mut Journal, effects: &mut Effects) -> io::Result<u64> {
        debug_assert!(!self.is_busy());
        self.collect(journal, effects);
        self.endings.push_back(Ending {
            file: self.file,
            at: self.at,
            bytes: self.buffer,
            room: self.room,
            end: self.appended,
        });
        let mut kept = self.kept;
        for mut ending in self.endings {
            ending.room.give_back(&*ending.file, ending.at)?;
            ending.file.write_all_at(&kept, self.kept_at)?;
            ending.file.write_all_at(&ending.bytes, ending.at)?;
            ending.file.sync_data()?;
            kept.clear();
        }
        Ok(self.appended + self.lead)
    }
}
