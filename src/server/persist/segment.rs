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

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use super::{Operation, Purpose, tag};
use crate::keyspace::Effects;
use crate::runtime::{FileDone, FileOp, clock};
use crate::server::log;
use crate::shard::journal::Journal;

/// Time between two syncs under `everysec`.
const SYNC_MS: i64 = 1_000;
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

/// The file of one shard. Positions in the journal count bytes since the segment of this process
/// began, over all files.
pub struct Segment {
    file: Arc<File>,
    /// The file that a cut goes over to.
    pub next: Option<Arc<File>>,
    pub policy: Policy,
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
    /// The write under way is to this old file, which ends at this position.
    old: Option<(Arc<File>, u64)>,
    last_sync_ms: i64,
    /// When the sync under way began, and how long the last one took: monotonic nanoseconds.
    sync_begun_ns: u64,
    pub sync_took_ns: u64,
    /// Why the last write or sync failed.
    failed: Option<String>,
    retry_ms: i64,
    /// A sync failed: what was written before may be lost though a later sync succeeds.
    pub sync_failed: bool,
}

impl Segment {
    /// `begin`: the position at which the journal goes on.
    pub fn new(file: Arc<File>, policy: Policy, begin: u64) -> Segment {
        Segment {
            file,
            next: None,
            policy,
            timestamps: false,
            stamped_s: 0,
            at: 0,
            buffer: Vec::new(),
            appended: begin,
            written: begin,
            synced: begin,
            writing: None,
            syncing: None,
            old: None,
            sync_begun_ns: 0,
            sync_took_ns: 0,
            last_sync_ms: 0,
            failed: None,
            retry_ms: 0,
            sync_failed: false,
        }
    }

    /// Bytes of the current file.
    pub fn size_bytes(&self) -> u64 {
        self.at + self.buffer.len() as u64
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
        operations: &mut Vec<Operation>,
    ) -> Verdict {
        if self.timestamps && !effects.records.is_empty() && self.stamped_s != now_ms / 1000 {
            self.stamped_s = now_ms / 1000;
            journal.timestamp(self.stamped_s);
        }
        journal.collect(effects);
        if let Some(rest) = journal.take_rest() {
            self.change_file(rest, operations);
        }
        let before = self.buffer.len();
        journal.take(&mut self.buffer);
        let grown = (self.buffer.len() - before) as u64;
        self.appended += grown;
        self.write(now_ms, operations);
        self.sync_if_due(now_ms, operations);
        let gate = match self.policy {
            Policy::Always if self.appended > self.synced => self.appended,
            Policy::EverySec | Policy::No if grown > 0 && self.appended > self.written => {
                self.appended
            }
            _ => 0,
        };
        Verdict {
            gate,
            released: self.released(),
        }
    }

    fn released(&self) -> u64 {
        match self.policy {
            Policy::Always => self.synced,
            Policy::EverySec | Policy::No => self.written,
        }
    }

    fn write(&mut self, now_ms: i64, operations: &mut Vec<Operation>) {
        if self.buffer.is_empty() || self.writing.is_some() || now_ms < self.retry_ms {
            return;
        }
        if self.policy != Policy::Always && self.syncing.is_none() {
            return self.write_at_once(now_ms);
        }
        if self.policy == Policy::Always && self.syncing.is_some() {
            // The units of one sync, and those of the next: never more under way.
            return;
        }
        self.writing = Some(self.appended);
        let bytes = std::mem::take(&mut self.buffer);
        let op = FileOp::Write { at: self.at, bytes };
        self.operate(Purpose::JournalWrite, op, operations);
    }

    fn write_at_once(&mut self, now_ms: i64) {
        let mut done = 0;
        while done < self.buffer.len() {
            let at = self.at + done as u64;
            match self.file.write_at(&self.buffer[done..], at) {
                Ok(0) => return self.fail_write(io::ErrorKind::WriteZero.into(), done, now_ms),
                Ok(n) => done += n,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return self.fail_write(error, done, now_ms),
            }
        }
        self.at += done as u64;
        self.buffer.clear();
        self.written = self.appended;
        self.recovered();
    }

    /// A write failed after so many bytes; the rest stays in the buffer, and is tried again.
    fn fail_write(&mut self, error: io::Error, done: usize, now_ms: i64) {
        self.at += done as u64;
        self.buffer.drain(..done);
        self.retry_ms = now_ms + RETRY_MS;
        if self.failed.is_none() {
            log::warning(&format!("Error writing to the AOF file: {error}"));
        }
        self.failed = Some(error.to_string());
    }

    fn recovered(&mut self) {
        if !self.sync_failed && self.failed.take().is_some() {
            log::warning("AOF write error looks solved, Pinion can write again.");
        }
    }

    fn sync_if_due(&mut self, now_ms: i64, operations: &mut Vec<Operation>) {
        let is_due = match self.policy {
            Policy::Always => true,
            Policy::EverySec => now_ms - self.last_sync_ms >= SYNC_MS,
            Policy::No => false,
        };
        if !is_due || self.syncing.is_some() || self.writing.is_some() {
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

    fn operate(&self, purpose: Purpose, op: FileOp, operations: &mut Vec<Operation>) {
        operations.push(Operation {
            file: self.file.clone(),
            tag: tag(purpose, 0),
            op,
        });
    }

    /// A cut: `rest` ends the old file, everything after it belongs into the next.
    fn change_file(&mut self, rest: Vec<u8>, operations: &mut Vec<Operation>) {
        let Some(next) = self.next.take() else {
            self.buffer.extend_from_slice(&rest);
            self.appended += rest.len() as u64;
            return;
        };
        self.appended += rest.len() as u64;
        self.buffer.extend_from_slice(&rest);
        // A write under way has its own place before this one.
        let at = self.at + self.in_flight_bytes();
        let ended = self.file.write_all_at(&self.buffer, at).and_then(|()| {
            if self.policy == Policy::Always {
                self.file.sync_data()
            } else {
                Ok(())
            }
        });
        match ended {
            Ok(()) => {}
            Err(error) => {
                log::warning(&format!("Error ending an AOF segment: {error}"));
                self.failed = Some(error.to_string());
                self.sync_failed = true;
            }
        }
        if self.policy == Policy::EverySec {
            let op = FileOp::Sync { metadata: false };
            self.operate(Purpose::OldSync, op, operations);
        }
        self.buffer.clear();
        if self.writing.is_none() {
            self.written = self.appended;
            self.synced = self.appended;
        } else {
            self.old = Some((self.file.clone(), self.appended));
        }
        self.file = next;
        self.at = 0;
    }

    fn in_flight_bytes(&self) -> u64 {
        let end = self.appended - self.buffer.len() as u64;
        self.writing.map_or(0, |to| to.min(end) - self.written)
    }

    /// An operation is over. Returns what may leave now.
    pub fn file_done(&mut self, done: FileDone, is_write: bool, now_ms: i64) {
        if is_write {
            let Some(to) = self.writing.take() else {
                return;
            };
            if let Some((old, end)) = self.old.take() {
                return self.old_written(&old, end, done.result);
            }
            match done.result {
                Ok(n) => {
                    self.at += n as u64;
                    self.written = to;
                    self.recovered();
                    if self.buffer.is_empty() {
                        self.buffer = done.bytes;
                        self.buffer.clear();
                    }
                }
                Err(error) => {
                    // How far it came is not known: all of it is written again in its place.
                    let later = std::mem::replace(&mut self.buffer, done.bytes);
                    self.buffer.extend_from_slice(&later);
                    self.fail_write(error, 0, now_ms);
                }
            }
            return;
        }
        let Some(to) = self.syncing.take() else {
            return;
        };
        self.sync_took_ns = clock::mono_ns().saturating_sub(self.sync_begun_ns);
        match done.result {
            Ok(_) => self.synced = self.synced.max(to),
            Err(error) => {
                log::warning(&format!("Fail to fsync the AOF file: {error}"));
                self.failed = Some(error.to_string());
                self.sync_failed = true;
            }
        }
    }

    /// A write to the file before this one is over, and with it all of that file.
    fn old_written(&mut self, old: &File, end: u64, result: io::Result<usize>) {
        let synced = result.and_then(|_| old.sync_data());
        match synced {
            Ok(()) => {
                self.written = self.written.max(end);
                self.synced = self.synced.max(end);
            }
            Err(error) => {
                log::warning(&format!("Error ending an AOF segment: {error}"));
                self.failed = Some(error.to_string());
                self.sync_failed = true;
            }
        }
    }

    /// A new base holds everything that this segment may have lost.
    pub fn mend(&mut self) {
        self.sync_failed = false;
        if self.buffer.is_empty() {
            self.failed = None;
        }
    }

    /// When to look again, unix milliseconds.
    pub fn due_ms(&self) -> Option<i64> {
        if self.writing.is_some() || self.syncing.is_some() {
            return None;
        }
        if !self.buffer.is_empty() {
            return Some(self.retry_ms);
        }
        let unsynced = self.policy == Policy::EverySec && self.written > self.synced;
        unsynced.then_some(self.last_sync_ms + SYNC_MS)
    }

    /// Writes and syncs everything, waiting for it: the end of the segment. Returns its position.
    pub fn close(mut self, journal: &mut Journal, effects: &mut Effects) -> io::Result<u64> {
        journal.collect(effects);
        let before = self.buffer.len();
        journal.take(&mut self.buffer);
        self.appended += (self.buffer.len() - before) as u64;
        let at = self.at + self.in_flight_bytes();
        self.file.write_all_at(&self.buffer, at)?;
        self.file.sync_data()?;
        Ok(self.appended)
    }
}
