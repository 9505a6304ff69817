//! A node's segment of the append-only file: opened, committed to at the end of each turn, closed.

mod recovery;
mod rewriting;

use std::fs::File;
use std::sync::Arc;

use super::ask::NodeMessage;
use super::host::ServerHost;
use super::info::JournalFigures;
use super::log;
use super::persist::segment::{Policy, Segment};
use super::persist::{self, Message, Operation};
use super::spikes;
use crate::resp::CmdError;
use crate::runtime::FileDone;
use crate::session::Core;
use crate::shard::journal::Journal;

/// What a server begins with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Boot {
    Nothing,
    Snapshot,
    Journal,
}

/// How far a node is with the end of its segment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum End {
    #[default]
    Open,
    /// It is closed at the end of a turn, with all that the turn did, once nothing of it is in the
    /// ring: what that has not begun when the process ends is not done.
    Due { stops: bool },
    /// The server stops.
    Closed,
}

impl ServerHost {
    fn policy(&self) -> Policy {
        Policy::parse(self.config.text("appendfsync"))
    }

    /// A message about files to every node.
    pub(super) fn tell_nodes(&mut self, message: impl Fn(usize) -> Message) {
        persist::tell_nodes(self.shards, &mut self.mail, message);
    }

    /// Ends all segments, and the server after them if it `stops`.
    pub(super) fn close_journals(&mut self, stops: bool) {
        self.persistence.closing = Some((self.shards, stops));
        self.tell_nodes(|_| Message::JournalClose { stops });
    }

    /// A message about segments.
    pub(super) fn journal_message(&mut self, core: &mut Core, message: Message) {
        match message {
            Message::JournalOpen {
                file,
                policy,
                tail,
                last_transaction,
            } => {
                self.open_segment(core, file, policy, tail.at);
                let resume = || Box::new(Journal::resume(&tail));
                core.shard.journal.get_or_insert_with(resume).keep();
                core.coordinator.pass_transactions(last_transaction);
                core.shard.keyspace.effects.recording = true;
                self.mail
                    .push((0, NodeMessage::Persist(Message::JournalOpened)));
            }
            Message::JournalNext { file, policy } => match &mut self.segment {
                Some(segment) => segment.next = Some(file),
                None => self.open_segment(core, file, policy, 0),
            },
            Message::JournalOpened => {
                self.opening -= 1;
                if self.opening == 0 {
                    self.persistence.end_load(&mut self.mail, None);
                }
            }
            Message::LoadReady => self.node_is_ready(&core.table),
            Message::JournalClose { stops } => self.end = End::Due { stops },
            Message::JournalClosed { ok } => self.journal_closed(ok),
            Message::JournalMended => {
                let failed = |segment: &Segment| segment.failure().is_some();
                if let Some(segment) = &mut self.segment {
                    let before = failed(segment);
                    if !segment.mend() {
                        self.part.want_base();
                    }
                    if failed(segment) != before {
                        self.tell_status();
                    }
                }
            }
            Message::SyncWanted {
                waiter,
                unit,
                at_once,
            } => self.sync_wanted(waiter, unit, at_once),
            Message::SyncReached { id, is_there } => self.sync_reached(id, is_there),
            Message::JournalGrew => self.look_at_journal_size(),
            _ => unreachable!("what is not about segments was taken before"),
        }
    }

    /// Everything from `at` on goes into this file.
    fn open_segment(&mut self, core: &mut Core, file: Arc<File>, policy: Policy, at: u64) {
        let mut segment = Segment::new(file, policy, self.journal_end);
        segment.resume(at);
        segment.timestamps = self.config.flag("aof-timestamp-enabled");
        segment.rests = self.config.flag("no-appendfsync-on-rewrite");
        self.segment = Some(segment);
        core.coordinator.journaled = true;
    }

    fn close_segment(&mut self, core: &mut Core) {
        let shard = &mut core.shard;
        let mut ok = true;
        let was_failing = self
            .segment
            .as_ref()
            .is_some_and(|it| it.failure().is_some());
        if let (Some(mut segment), Some(journal)) = (self.segment.take(), &mut shard.journal) {
            let waiters = segment.take_waiters();
            match segment.close(journal, &mut shard.keyspace.effects) {
                Ok(end) => {
                    self.journal_end = end;
                    self.tell_reached(waiters, true);
                }
                Err(error) => {
                    log::warning(&format!("Error ending an AOF segment: {error}"));
                    ok = false;
                }
            }
        }
        let is_fed = shard.journal.as_mut().is_some_and(|it| it.end_segment());
        if !is_fed {
            shard.journal = None;
            shard.keyspace.effects.recording = false;
            core.coordinator.journaled = false;
        }
        if was_failing {
            self.part.set_journal_failure(None, false);
        }
        self.mail
            .push((0, NodeMessage::Persist(Message::JournalClosed { ok })));
    }

    fn journal_closed(&mut self, ok: bool) {
        let Some((left, stops)) = &mut self.persistence.closing else {
            return;
        };
        *left -= 1;
        let stops = *stops;
        if *left > 0 {
            return;
        }
        self.persistence.closing = None;
        if stops {
            self.stopping = true;
            if !ok {
                log::warning("Some of the append-only file could not be written.");
            }
            self.stop_now();
        }
    }

    /// The end of a turn: what it changed goes into the segment. Returns what its replies wait for
    /// and what may leave.
    pub fn commit(&mut self, core: &mut Core, operations: &mut Vec<Operation>) -> (u64, u64) {
        let is_busy = self.segment.as_ref().is_some_and(Segment::is_busy);
        match self.end {
            End::Open => {}
            End::Due { .. } if is_busy => {}
            End::Due { stops } => {
                self.close_segment(core);
                self.end = if stops { End::Closed } else { End::Open };
                return (0, self.journal_end);
            }
            // Other nodes may go on for a moment: what is done here for them, or by clients that have
            // not heard of the end, is in no file, and nobody is told that it was done.
            End::Closed => return (u64::MAX, self.journal_end),
        }
        let (Some(segment), Some(journal)) = (&mut self.segment, &mut core.shard.journal) else {
            // What the last segment got is on the disk.
            self.send_feed(core);
            return (0, self.journal_end);
        };
        let before = segment.failure().is_some();
        segment.mind_saving(self.part.is_saving());
        let effects = &mut core.shard.keyspace.effects;
        if !self.flush_sleep.is_zero() && !effects.records.is_empty() {
            std::thread::sleep(self.flush_sleep);
        }
        let verdict = segment.commit(journal, effects, self.now_ms, operations);
        if self.part.publish_journal_bytes(segment.size_bytes()) {
            self.mail
                .push((0, NodeMessage::Persist(Message::JournalGrew)));
        }
        if segment.failure().is_some() != before {
            self.tell_status();
        }
        if let Some(journal) = &mut core.shard.journal
            && std::mem::take(&mut journal.wants_rewrite)
        {
            // Barriers stand in shard 0's segment: this is shard 0.
            self.persistence.aof.need_base();
        }
        self.tell_synced();
        self.send_feed(core);
        (verdict.gate, verdict.released)
    }

    /// `appendfsync`, or what belongs to it, has changed.
    pub(super) fn set_policy(&mut self) {
        let policy = self.policy();
        let Some(segment) = &mut self.segment else {
            return;
        };
        let before = segment.failure().is_some();
        segment.set_policy(policy);
        segment.rests = self.config.flag("no-appendfsync-on-rewrite");
        segment.timestamps = self.config.flag("aof-timestamp-enabled");
        if segment.failure().is_some() != before {
            self.tell_status();
        }
    }

    fn tell_status(&mut self) {
        if let Some(segment) = &self.segment {
            let failure = segment.failure();
            self.part.set_journal_failure(failure, segment.sync_failed);
        }
    }

    /// A write or a sync of the segment is over.
    pub(super) fn journal_file_done(&mut self, done: FileDone, is_write: bool) {
        let Some(segment) = &mut self.segment else {
            return;
        };
        let before = segment.failure().is_some();
        segment.file_done(done, is_write, self.now_ms);
        if !is_write && segment.policy() == Policy::Always {
            self.spikes.note(
                spikes::AOF_FSYNC_ALWAYS,
                segment.sync_took_ns,
                self.now_ms / 1000,
            );
        }
        if segment.failure().is_some() != before {
            self.tell_status();
        }
    }

    /// The sync of the segment before a cut is over.
    pub(super) fn old_segment_synced(&mut self, result: &std::io::Result<usize>) {
        let Some(segment) = &mut self.segment else {
            return;
        };
        let before = segment.failure().is_some();
        segment.old_synced(result, self.now_ms);
        if segment.failure().is_some() != before {
            self.tell_status();
        }
    }

    /// How the append-only file does, for INFO.
    pub(super) fn journal_figures(&self) -> JournalFigures {
        let aof = &self.persistence.aof;
        let waits = self.persistence.transactions > 0 && aof.wanted && !aof.on;
        JournalFigures {
            on: aof.on || aof.wanted,
            rewriting_s: aof.is_rewriting().then(|| aof.rewriting_s(self.now_ms)),
            scheduled: aof.scheduled || waits && !aof.is_rewriting(),
            last_took_s: aof.last_took_s,
            last_ok: aof.last_ok,
            rewrites: aof.rewrites,
            failures: aof.failures,
            write_ok: !self.part.is_journal_failing(),
            base_bytes: aof.base_bytes,
            size_bytes: aof.base_bytes + self.part.journal_bytes_of_all(),
            pending_bytes: self
                .segment
                .as_ref()
                .map_or(0, |segment| segment.pending_bytes()),
            delayed_syncs: self
                .segment
                .as_ref()
                .map_or(0, |segment| segment.delayed_syncs),
        }
    }
}

/// Redis: server.c, DISK_ERROR_TYPE_AOF.
pub fn misconf(failure: &str) -> CmdError {
    CmdError::owned(format!("MISCONF Errors writing to the AOF file: {failure}"))
}
