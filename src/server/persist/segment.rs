//! One shard's segment of the append-only file: from units to bytes that the kernel, or the disk,
//! has; and what replies have to wait for.
//!
//! | `appendfsync` | a turn's replies leave |
//! |---|---|
//! | `no`, `everysec` | when its units were handed to the kernel: a killed process loses nothing |
//! | `always` | when they are on the disk; one sync is under way while the next units collect |
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

use std::collections::VecDeque;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use super::{Operation, Purpose, tag};
use crate::keyspace::Effects;
use crate::runtime::{FileDone, FileOp, clock};
use crate::server::log;
use crate::server::waitaof::Waiter;
use crate::shard::journal::Journal;

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

/// `appendfsync`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Policy {
    Always,
    EverySec,
    No,
}

impl Policy {
    pub fn parse(text: &str) -> Policy {
        match text {
            "always" => Policy::Always,
            "no" => Policy::No,
            _ => Policy::EverySec,
        }
    }
}

/// What the server does with the segment at the end of a turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// What this turn's replies wait for; 0: nothing.
    pub gate: u64,
    /// Replies that wait for no more than this may leave.
    pub released: u64,
}

/// What segments are written to: a file, or a test's idea of one.
pub trait Medium {
    fn write_at(&self, bytes: &[u8], at: u64) -> io::Result<usize>;
    fn sync_data(&self) -> io::Result<()>;
    fn read_exact_at(&self, bytes: &mut [u8], at: u64) -> io::Result<()>;

    /// Writes on until all is written or an error comes; also returns how many bytes were.
    fn write_on_at(&self, bytes: &[u8], at: u64) -> (usize, io::Result<()>) {
        let mut done = 0;
        while done < bytes.len() {
            match self.write_at(&bytes[done..], at + done as u64) {
                Ok(0) => return (done, Err(io::ErrorKind::WriteZero.into())),
                Ok(n) => done += n,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return (done, Err(error)),
            }
        }
        (done, Ok(()))
    }

    fn write_all_at(&self, bytes: &[u8], at: u64) -> io::Result<()> {
        self.write_on_at(bytes, at).1
    }
}

impl Medium for File {
    fn write_at(&self, bytes: &[u8], at: u64) -> io::Result<usize> {
        FileExt::write_at(self, bytes, at)
    }

    fn sync_data(&self) -> io::Result<()> {
        File::sync_data(self)
    }

    fn read_exact_at(&self, bytes: &mut [u8], at: u64) -> io::Result<()> {
        FileExt::read_exact_at(self, bytes, at)
    }
}

/// A file before a cut, and what it lacks; nothing goes into the next before it has it.
struct Ending<F> {
    file: Arc<F>,
    at: u64,
    bytes: Vec<u8>,
    /// The journal position at its end.
    end: u64,
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
    /// For the file, not handed to the kernel.
    buffer: Vec<u8>,
    appended: u64,
    written: u64,
    synced: u64,
    /// Journal positions that the operations under way reach.
    writing: Option<u64>,
    syncing: Option<u64>,
    /// Bytes of the write under way.
    in_flight: usize,
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
            strict_to: 0,
            owed: 0,
            lead: 0,
            timestamps: false,
            stamped_s: 0,
            at: 0,
            buffer: Vec::new(),
            appended: begin,
            written: begin,
            synced: begin,
            writing: None,
            syncing: None,
            in_flight: 0,
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
            current_failed: false,
        }
    }

    /// The file goes on where another server has left it.
    pub fn resume(&mut self, at: u64) {
        self.at = at;
    }

    /// Bytes of the current file.
    pub fn size_bytes(&self) -> u64 {
        self.at + self.buffer.len() as u64
    }

    /// Somebody waits until all that this turn ends with is on the disk.
    pub fn when_synced(&mut self, waiter: Waiter) {
        self.waiters.push((u64::MAX, waiter));
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

    pub fn policy(&self) -> Policy {
        self.policy
    }

    /// `appendfsync` has changed, perhaps.
    pub fn set_policy(&mut self, policy: Policy) {
        self.wanted = policy;
        self.change_policy(policy);
    }

    /// Whether a snapshot or a base is being written.
    pub fn mind_saving(&mut self, is_saving: bool) {
        let rests = self.rests && is_saving;
        self.change_policy(if rests { Policy::No } else { self.wanted });
    }

    fn change_policy(&mut self, policy: Policy) {
        if policy == self.policy {
            return;
        }
        if self.policy == Policy::Always {
            self.strict_to = self.appended;
        }
        if self.policy != Policy::No {
            self.owed = self.appended;
        }
        let was_strict = self.is_strict();
        self.policy = policy;
        if policy == Policy::Always {
            self.lead += 1;
            if !was_strict {
                self.keep_unsynced();
            }
        }
    }

    /// Whether turns wait for the disk.
    fn is_strict(&self) -> bool {
        self.policy == Policy::Always || self.synced < self.strict_to
    }

    /// Takes back what was handed to the kernel and is not on the disk, in case it never gets there.
    fn keep_unsynced(&mut self) {
        let (file, end) = match self.endings.front() {
            Some(ending) => (&ending.file, ending.at),
            None => (&self.file, self.at),
        };
        let len = self.written - self.synced;
        self.kept.clear();
        if len > self.kept_max_bytes {
            self.kept_at = end;
            return match file.sync_data() {
                Ok(()) => self.synced = self.written,
                Err(error) => {
                    log::warning(&format!("Fail to fsync the AOF file: {error}"));
                    self.failed = Some(error.to_string());
                    self.sync_failed = true;
                    self.current_failed = self.endings.is_empty();
                }
            };
        }
        self.kept.resize(len as usize, 0);
        self.kept_at = end - len;
        if let Err(error) = file.read_exact_at(&mut self.kept, self.kept_at) {
            // If the next sync fails, a new base is wanted.
            log::warning(&format!("Cannot read the end of the AOF file: {error}"));
            self.kept.clear();
        }
    }

    fn is_all_kept(&self) -> bool {
        self.kept.len() as u64 == self.written - self.synced
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
        journal.collect(effects);
        let begin = self.appended;
        if let Some(rest) = journal.take_rest() {
            self.change_file(rest);
        }
        let before = self.buffer.len();
        journal.take(&mut self.buffer);
        self.appended += (self.buffer.len() - before) as u64;
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

    /// Whether a sync takes so long that writers wait for it.
    fn look_at_clock(&mut self, now_ms: i64) {
        let slow = |is_under_way: bool, begun_ms| is_under_way && now_ms - begun_ms > LATE_MS;
        let is_late = self.policy == Policy::EverySec
            && (slow(self.syncing.is_some(), self.last_sync_ms)
                || slow(self.old_syncs > 0, self.old_sync_ms));
        self.delayed_syncs += u64::from(is_late && !self.is_late);
        self.is_late = is_late;
    }

    fn write(&mut self, now_ms: i64, operations: &mut Vec<Operation<F>>) {
        if self.writing.is_some() || now_ms < self.retry_ms {
            return;
        }
        if !self.endings.is_empty() && !self.end_files(now_ms, operations) {
            return;
        }
        if self.buffer.is_empty() {
            return;
        }
        if !self.is_strict() && self.syncing.is_none() {
            return self.write_at_once(now_ms);
        }
        if self.is_strict() && (self.syncing.is_some() || self.written > self.synced) {
            // The units of one sync, and those of the next: never more under way, nor kept.
            return;
        }
        self.writing = Some(self.appended);
        let bytes = std::mem::take(&mut self.buffer);
        self.in_flight = bytes.len();
        let op = FileOp::Write { at: self.at, bytes };
        self.operate(Purpose::JournalWrite, op, operations);
    }

    fn write_at_once(&mut self, now_ms: i64) {
        let (done, result) = self.file.write_on_at(&self.buffer, self.at);
        self.at += done as u64;
        // After an error the rest is tried again.
        self.buffer.drain(..done);
        match result {
            Ok(()) => {
                self.written = self.appended;
                self.recovered();
            }
            Err(error) => self.fail("Error writing to the AOF file", &error, now_ms),
        }
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
            || !self.waiters.is_empty();
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

    /// Whether what was written is synced at all.
    fn syncs(&self) -> bool {
        self.policy != Policy::No || self.synced < self.owed
    }

    /// When what is written now is to be synced, if nothing waits for it.
    fn next_sync_ms(&self) -> i64 {
        let most = SYNC_MS - SPARE_MS;
        self.last_sync_ms + (most - 2 * self.took_ms).clamp(SYNC_MS / 2, most)
    }

    fn operate(&self, purpose: Purpose, op: FileOp, operations: &mut Vec<Operation<F>>) {
        operations.push(Operation {
            file: self.file.clone(),
            tag: tag(purpose, 0),
            op,
        });
    }

    /// A cut: `rest` ends the old file, everything after it belongs into the next.
    fn change_file(&mut self, rest: Vec<u8>) {
        self.appended += rest.len() as u64;
        self.buffer.extend_from_slice(&rest);
        let Some(next) = self.next.take() else {
            return;
        };
        self.endings.push_back(Ending {
            file: std::mem::replace(&mut self.file, next),
            at: self.at,
            bytes: std::mem::take(&mut self.buffer),
            end: self.appended,
        });
        self.at = 0;
        self.current_failed = false;
    }

    /// Gives the files before the current one what they lack. Returns whether they have it.
    fn end_files(&mut self, now_ms: i64, operations: &mut Vec<Operation<F>>) -> bool {
        let is_strict = self.is_strict();
        while self.syncing.is_none()
            && let Some(ending) = self.endings.front_mut()
        {
            if !self.kept.is_empty() {
                // One sync for all of it: it must not matter which sync is told of an error.
                ending.bytes.splice(..0, self.kept.drain(..));
                ending.at = self.kept_at;
            }
            let written = ending.file.write_all_at(&ending.bytes, ending.at);
            let ended = written.and_then(|()| match is_strict {
                true => ending.file.sync_data(),
                false => Ok(()),
            });
            if let Err(error) = ended {
                self.fail("Error ending an AOF segment", &error, now_ms);
                return false;
            }
            let Some(Ending { file, end, .. }) = self.endings.pop_front() else {
                break;
            };
            (self.written, self.synced) = (end, end);
            if !is_strict {
                // Under `no` as well: the policy may change before a base makes up for the file.
                if self.old_syncs == 0 {
                    self.old_sync_ms = now_ms;
                }
                self.old_syncs += 1;
                operations.push(Operation {
                    file,
                    tag: tag(Purpose::OldSync, 0),
                    op: FileOp::Sync { metadata: false },
                });
            }
            self.recovered();
        }
        self.endings.is_empty()
    }

    /// The sync of a file before the current one is over.
    pub fn old_synced(&mut self, result: &io::Result<usize>, now_ms: i64) {
        self.old_syncs = self.old_syncs.saturating_sub(1);
        if let Err(error) = result {
            self.fail("Fail to fsync the AOF file", error, now_ms);
            self.sync_failed = true;
        }
    }

    /// An operation is over.
    pub fn file_done(&mut self, done: FileDone, is_write: bool, now_ms: i64) {
        if is_write {
            self.write_done(done, now_ms);
        } else if let Some(to) = self.syncing.take() {
            self.sync_took_ns = clock::mono_ns().saturating_sub(self.sync_begun_ns);
            self.took_ms = (now_ms - self.last_sync_ms).max(0);
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

    fn write_done(&mut self, done: FileDone, now_ms: i64) {
        let Some(to) = self.writing.take() else {
            return;
        };
        self.in_flight = 0;
        // A cut may have come meanwhile.
        let (at, bytes) = match self.endings.front_mut() {
            Some(ending) => (&mut ending.at, &mut ending.bytes),
            None => (&mut self.at, &mut self.buffer),
        };
        match done.result {
            Ok(n) => {
                let begin = *at;
                *at += n as u64;
                self.written = to;
                if self.is_strict() {
                    if self.kept.is_empty() {
                        (self.kept, self.kept_at) = (done.bytes, begin);
                    } else {
                        self.kept.extend_from_slice(&done.bytes);
                    }
                    if !self.is_all_kept() {
                        self.kept.clear();
                    }
                    return;
                }
                self.kept.clear();
                if self.buffer.is_empty() {
                    self.buffer = done.bytes;
                    self.buffer.clear();
                }
                self.recovered();
            }
            Err(error) => {
                // How far it came is not known: all of it is written again in its place.
                bytes.splice(..0, done.bytes);
                self.fail("Error writing to the AOF file", &error, now_ms);
            }
        }
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
        if !self.waiters.is_empty() && self.written > self.synced {
            return Some(self.retry_ms);
        }
        let unsynced = self.syncs() && self.written > self.synced;
        unsynced.then(|| self.next_sync_ms())
    }

    /// Writes and syncs everything, waiting for it: the end of the segment. Returns its position.
    pub fn close(mut self, journal: &mut Journal, effects: &mut Effects) -> io::Result<u64> {
        journal.collect(effects);
        let before = self.buffer.len();
        journal.take(&mut self.buffer);
        self.appended += (self.buffer.len() - before) as u64;
        self.endings.push_back(Ending {
            file: self.file,
            at: self.at,
            bytes: self.buffer,
            end: self.appended,
        });
        // A write under way has its own place before what follows it.
        let mut behind = self.in_flight as u64;
        let mut kept = self.kept;
        for ending in self.endings {
            ending.file.write_all_at(&kept, self.kept_at)?;
            ending
                .file
                .write_all_at(&ending.bytes, ending.at + behind)?;
            ending.file.sync_data()?;
            behind = 0;
            kept.clear();
        }
        Ok(self.appended + self.lead)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;
    use crate::journal::{Item, Reader};

    /// A file whose writes and syncs fail now and then. What a sync that failed was to make durable
    /// is not dirty any more, as in Linux: the next sync succeeds without it.
    struct Faulty(Mutex<Content>);

    struct Content {
        cached: Vec<u8>,
        durable: Vec<u8>,
        dirty: Vec<bool>,
        rng: fastrand::Rng,
        fails: bool,
    }

    impl Faulty {
        fn new(seed: u64, fails: bool) -> Arc<Faulty> {
            Arc::new(Faulty(Mutex::new(Content {
                cached: Vec::new(),
                durable: Vec::new(),
                dirty: Vec::new(),
                rng: fastrand::Rng::with_seed(seed),
                fails,
            })))
        }
    }

    impl Medium for Faulty {
        fn read_exact_at(&self, bytes: &mut [u8], at: u64) -> io::Result<()> {
            let content = self.0.lock().unwrap();
            let (from, to) = (at as usize, at as usize + bytes.len());
            bytes.copy_from_slice(&content.cached[from..to]);
            Ok(())
        }

        fn write_at(&self, bytes: &[u8], at: u64) -> io::Result<usize> {
            let content = &mut *self.0.lock().unwrap();
            let error = content.fails && content.rng.u8(..3) == 0;
            let n = match content.fails {
                true => content.rng.usize(0..=bytes.len()),
                false => bytes.len(),
            };
            let (at, end) = (at as usize, at as usize + n);
            let len = content.cached.len().max(end);
            content.cached.resize(len, 0);
            content.durable.resize(len, 0);
            content.dirty.resize(len, false);
            content.cached[at..end].copy_from_slice(&bytes[..n]);
            content.dirty[at..end].fill(true);
            if error {
                let kinds = [io::ErrorKind::StorageFull, io::ErrorKind::Other];
                return Err(kinds[content.rng.usize(..2)].into());
            }
            Ok(n)
        }

        fn sync_data(&self) -> io::Result<()> {
            let content = &mut *self.0.lock().unwrap();
            let error = content.fails && content.rng.u8(..3) == 0;
            for at in 0..content.cached.len() {
                let lost = error && content.rng.bool();
                if std::mem::take(&mut content.dirty[at]) && !lost {
                    content.durable[at] = content.cached[at];
                }
            }
            match error {
                true => Err(io::Error::other("I/O error")),
                false => Ok(()),
            }
        }
    }

    /// How many numbers, from 1 on, stand in the files without a gap.
    fn readable(files: &[Arc<Faulty>], durable: bool) -> u64 {
        let mut next = 1;
        for file in files {
            let content = file.0.lock().unwrap();
            let mut reader = Reader::new(true);
            reader.feed(match durable {
                true => &content.durable,
                false => &content.cached,
            });
            reader.end_input();
            while let Ok(Some(Item { commands, .. })) = reader.next_item() {
                let text = String::from_utf8(commands).unwrap();
                while text.contains(&format!("\r\n<{next}>\r\n")) {
                    next += 1;
                }
            }
        }
        next - 1
    }

    struct Bench {
        segment: Segment<Faulty>,
        journal: Journal,
        effects: Effects,
        files: Vec<Arc<Faulty>>,
        running: Vec<Operation<Faulty>>,
        rng: fastrand::Rng,
        now_ms: i64,
        count: u64,
        /// What turns wait for, and the last number of each.
        waiting: Vec<(u64, u64)>,
        acknowledged: u64,
    }

    impl Bench {
        fn new(seed: u64, policy: Policy) -> Bench {
            let file = Faulty::new(seed, true);
            let mut effects = Effects::default();
            effects.recording = true;
            Bench {
                segment: Segment::new(file.clone(), policy, 0),
                journal: Journal::default(),
                effects,
                files: vec![file],
                running: Vec::new(),
                rng: fastrand::Rng::with_seed(seed),
                now_ms: 1_000_000,
                count: 0,
                waiting: Vec::new(),
                acknowledged: 0,
            }
        }

        fn record(&mut self) {
            self.count += 1;
            let value = format!("<{}>", self.count);
            let words: [&[u8]; 3] = [b"SET", b"k", value.as_bytes()];
            self.effects.record(0, &words);
        }

        fn turn(&mut self, writes: u64) {
            (0..writes).for_each(|_| self.record());
            let wrote = !self.effects.records.is_empty() || self.segment.next.is_some();
            let (journal, effects) = (&mut self.journal, &mut self.effects);
            let verdict = self
                .segment
                .commit(journal, effects, self.now_ms, &mut self.running);
            // Whoever has written nothing is not promised what others wrote.
            if wrote {
                self.waiting.push((verdict.gate, self.count));
            }
            let acknowledged = &mut self.acknowledged;
            self.waiting.retain(|&(gate, last)| {
                if gate <= verdict.released {
                    *acknowledged = last.max(*acknowledged);
                }
                gate > verdict.released
            });
        }

        fn cut(&mut self, fails: bool) {
            let file = Faulty::new(self.rng.u64(..), fails);
            self.segment.next = Some(file.clone());
            self.files.push(file);
            self.record();
            self.journal.begin_segment(&mut self.effects);
            self.turn(0);
        }

        /// An operation is over.
        fn finish(&mut self) {
            if self.running.is_empty() {
                return;
            }
            let Operation { file, tag, op } = self.running.remove(0);
            let (result, bytes) = match op {
                FileOp::Write { at, bytes } => {
                    let result = file.write_all_at(&bytes, at);
                    (result.map(|()| bytes.len()), bytes)
                }
                _ => (file.sync_data().map(|()| 0), Vec::new()),
            };
            let done = FileDone { tag, result, bytes };
            match super::super::of_journal(tag) {
                Some(is_write) => self.segment.file_done(done, is_write, self.now_ms),
                None => self.segment.old_synced(&done.result, self.now_ms),
            }
        }
    }

    /// Faults at random; then the disk is well again.
    fn run(seed: u64, policy: Policy) -> (u64, bool) {
        let mut bench = Bench::new(seed, policy);
        let is_always = policy == Policy::Always;
        let mut failed = false;
        for _ in 0..150 {
            match bench.rng.u8(..20) {
                0..8 => bench.finish(),
                8 if bench.files.len() < 4 => bench.cut(true),
                _ => {
                    let writes = bench.rng.u64(..3);
                    bench.turn(writes);
                }
            }
            bench.now_ms += bench.rng.i64(0..200);
            failed |= bench.segment.failure().is_some();
            let there = readable(&bench.files, is_always);
            let promised = bench.acknowledged;
            assert!(
                there >= promised,
                "{policy:?}, seed {seed}: {promised} were acknowledged, {there} are there"
            );
        }
        for file in &bench.files {
            file.0.lock().unwrap().fails = false;
        }
        for _ in 0..30 {
            bench.now_ms += 300;
            bench.finish();
            bench.turn(0);
        }
        // Under the other policies what is lost is made up for by a base.
        if bench.segment.sync_failed {
            assert!(!is_always, "seed {seed}: nothing was to be lost");
            bench.cut(false);
            for _ in 0..10 {
                bench.turn(0);
                bench.finish();
            }
            assert!(bench.segment.mend(), "seed {seed}");
        }
        assert_eq!(
            bench.segment.failure(),
            None,
            "{policy:?}, seed {seed} did not recover"
        );
        assert!(bench.waiting.is_empty(), "{policy:?}, seed {seed}");
        assert_eq!(readable(&bench.files, is_always), bench.count);
        (bench.count, failed)
    }

    #[test]
    fn nothing_is_acknowledged_that_a_failing_disk_has_not_got() {
        for policy in [Policy::Always, Policy::EverySec, Policy::No] {
            let runs: Vec<_> = (0..150).map(|seed| run(seed, policy)).collect();
            let failed = runs.iter().filter(|(_, failed)| *failed).count();
            assert!(failed > 100, "{failed} runs saw a fault");
            assert!(runs.iter().all(|(count, _)| *count > 20));
        }
    }

    #[test]
    fn what_is_too_much_to_keep_is_synced_before_always_promises_anything() {
        let mut failed = 0;
        for seed in 0..30 {
            let mut bench = Bench::new(seed, Policy::EverySec);
            bench.files[0].0.lock().unwrap().fails = false;
            (0..50).for_each(|_| bench.turn(1));
            bench.segment.kept_max_bytes = 1;
            bench.files[0].0.lock().unwrap().fails = true;
            bench.segment.set_policy(Policy::Always);
            let content = bench.files[0].0.lock().unwrap();
            // Either all of it is there, or writes are refused until a base is.
            match bench.segment.failure() {
                Some(_) => failed += 1,
                None => assert_eq!(content.durable, content.cached, "seed {seed}"),
            }
        }
        assert!(failed > 3 && failed < 27, "{failed} of 30 failed");
    }

    #[test]
    fn the_end_of_a_segment_is_complete_whatever_is_under_way() {
        for seed in 0..100 {
            for policy in [Policy::Always, Policy::EverySec] {
                let mut bench = Bench::new(seed, policy);
                bench.files[0].0.lock().unwrap().fails = false;
                for _ in 0..30 {
                    match bench.rng.u8(..10) {
                        0..3 => bench.finish(),
                        3 if bench.files.len() < 4 => bench.cut(false),
                        _ => bench.turn(1),
                    }
                    bench.now_ms += bench.rng.i64(0..600);
                }
                let running = std::mem::take(&mut bench.running);
                let (journal, effects) = (&mut bench.journal, &mut bench.effects);
                bench.segment.close(journal, effects).unwrap();
                for Operation { file, op, .. } in running {
                    if let FileOp::Write { at, bytes } = op {
                        file.write_all_at(&bytes, at).unwrap();
                    }
                    file.sync_data().unwrap();
                }
                assert_eq!(readable(&bench.files, true), bench.count, "seed {seed}");
            }
        }
    }
}
