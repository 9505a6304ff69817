//! What keeps the append-only file going: recovery at the start, segments, rewrites, failures.

use std::fs::File;
use std::sync::Arc;

use super::ask::{NodeMessage, Requester};
use super::host::ServerHost;
use super::info::JournalFigures;
use super::jobs::done;
use super::log;
use super::persist::aof::{Begin, front};
use super::persist::replay::{self, Source, Tails};
use super::persist::segment::{Policy, Segment};
use super::persist::{self, After, Message, Operation, Replay, Then};
use super::settings;
use super::spikes;
use crate::command::Table;
use crate::journal::{manifest, reader};
use crate::resp::{CmdError, Writer};
use crate::runtime::FileDone;
use crate::session::{Core, Link, Performed};
use crate::shard::journal::Journal;

/// What a server begins with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Boot {
    Nothing,
    Snapshot,
    Journal,
}

impl ServerHost {
    fn policy(&self) -> Policy {
        Policy::parse(self.config.text("appendfsync"))
    }

    /// A message about files to every node.
    pub(super) fn tell_nodes(&mut self, message: impl Fn(usize) -> Message) {
        persist::tell_nodes(self.shards, &mut self.mail, message);
    }

    /// Ends the start: what was found cannot be used.
    fn refuse_start(&mut self, error: &dyn std::fmt::Display) {
        log::warning(&error.to_string());
        self.stop = Some(1);
    }

    /// Recovers from the append-only file: first its base.
    pub(super) fn recover(&mut self, table: &Table) {
        let aof = &mut self.persistence.aof;
        aof.configure(&self.config);
        if let Err(error) = aof.open() {
            return self.refuse_start(&error);
        }
        self.read_directory(table);
    }

    /// Reads what the manifest names.
    fn read_directory(&mut self, table: &Table) {
        let aof = &self.persistence.aof;
        let base = aof.manifest.base.as_ref().map(|base| aof.path(&base.name));
        match base {
            Some(path) if reader::is_snapshot(&front(&path)) => {
                self.begin_load_of(&path, Then::Replay, false)
            }
            _ => self.replay_from(0, table),
        }
    }

    /// The base was read as far as it is a snapshot: now the commands.
    pub(super) fn replay_from(&mut self, base_from: u64, table: &Table) {
        let aof = &self.persistence.aof;
        let mut generations: Vec<Vec<Source>> = Vec::new();
        let source = |file: &manifest::File, from| Source {
            path: aof.path(&file.name),
            framed: file.shard.is_some() || reader::is_framed(&front(&aof.path(&file.name))),
            shard: file.shard.unwrap_or(0),
            from,
        };
        if let Some(base) = &aof.manifest.base {
            generations.push(vec![source(base, base_from)]);
        }
        for file in &aof.manifest.incr {
            let goes_on = generations.last().is_some_and(|generation| {
                let last = generation.last();
                last.is_some_and(|last| last.framed && Some(last.shard) < file.shard)
            });
            match generations.last_mut() {
                Some(generation) if goes_on => generation.push(source(file, 0)),
                _ => generations.push(vec![source(file, 0)]),
            }
        }
        let mends = self.config.flag("aof-load-truncated");
        let has_base = aof.manifest.base.is_some();
        match Replay::prepare(generations, has_base, mends, (table, self.shards)) {
            Ok(replay) => self.persistence.replay = Some(Box::new(replay)),
            Err(error) => self.refuse_start(&error),
        }
    }

    /// Runs a slice of what is being recovered. Returns whether there is more to do at once.
    pub(super) fn replay_on(&mut self, core: &mut Core, link: &mut dyn Link) -> bool {
        let Some(mut replay) = self.persistence.replay.take() else {
            return false;
        };
        let done = replay.slice(core, link, self);
        for (home, commands) in replay.lanes.routes.sent.drain(..) {
            let message = Message::Replay(commands);
            self.mail.push((home, NodeMessage::Persist(message)));
        }
        match done {
            Err(error) => {
                self.refuse_start(&error);
                false
            }
            Ok(false) => {
                let waits = replay.waits(core);
                self.persistence.replay = Some(replay);
                !waits
            }
            Ok(true) => {
                self.tell_nodes(|_| Message::ReplayEnded);
                if replay.dropped > 0 {
                    let dropped = replay.dropped;
                    log::warning(&format!(
                        "{dropped} part(s) of transactions that were not complete when the server \
                         ended were left out"
                    ));
                    self.persistence.aof.scheduled = true;
                }
                let took_ms = self.now_ms - self.started_ms;
                let seconds = took_ms as f64 / 1000.0;
                log::notice(&format!(
                    "DB loaded from append only file: {seconds:.3} seconds"
                ));
                match self.reloading.take() {
                    None => self.open_segments(replay.tails()),
                    Some((requester, _)) => {
                        let reply = Some((requester, Ok(())));
                        self.persistence.end_load(&mut self.mail, reply);
                    }
                }
                false
            }
        }
    }

    /// Commands that live here are run again.
    pub(super) fn replay_here(&mut self, core: &mut Core, link: &mut dyn Link, commands: &[u8]) {
        replay::open_session(core);
        core.receive(replay::SESSION, commands, link, self);
        self.part.replayed += 1;
        self.tell_replayed(core);
    }

    pub(super) fn has_replayed(&self, core: &Core) -> bool {
        self.part.replayed > 0 && replay::is_free(core)
    }

    /// Tells shard 0 of batches that this shard's session is done with.
    pub(super) fn tell_replayed(&mut self, core: &Core) {
        if self.has_replayed(core) {
            for _ in 0..std::mem::take(&mut self.part.replayed) {
                let taken = NodeMessage::Persist(Message::ReplayTaken);
                self.mail.push((0, taken));
            }
        }
    }

    /// Everything is recovered: the shards get the segments they go on with.
    fn open_segments(&mut self, tails: Option<&Tails>) {
        let begin = match self.persistence.aof.begin(self.shards, tails) {
            Ok(begin) => begin,
            Err(error) => {
                return self.refuse_start(&format!("Can't open the append-only file: {error}"));
            }
        };
        let Begin { files, tails } = begin;
        let policy = self.policy();
        self.opening = files.len();
        self.tell_nodes(|node| Message::JournalOpen {
            file: files[node].clone(),
            policy,
            tail: tails.segments[node],
            last_transaction: tails.last_transaction,
        });
    }

    /// DEBUG LOADAOF, on shard 0: everything is forgotten and read again.
    pub(super) fn load_journal_again(&mut self, requester: Requester) -> Performed {
        let persistence = &self.persistence;
        let busy = persistence.is_busy()
            || persistence.closing.is_some()
            || self.part.is_any_loading()
            || self.reloading.is_some();
        // What a rewrite made while the file is off can be loaded as well.
        let manifest = &persistence.aof.manifest;
        if busy || manifest.base.is_none() && manifest.incr.is_empty() {
            return Performed::Failed(CmdError::Text(
                "ERR Error trying to load the AOF files, check server logs",
            ));
        }
        self.reloading = Some((requester, self.shards));
        self.tell_nodes(|_| Message::LoadBegins { flush: true });
        Performed::Later
    }

    /// A node is empty, and its segment complete: its answer is held back until it is.
    fn node_is_ready(&mut self, table: &Table) {
        let Some((_, left)) = &mut self.reloading else {
            return;
        };
        *left -= 1;
        if *left == 0 {
            self.read_directory(table);
        }
    }

    /// BGREWRITEAOF, on shard 0.
    pub(super) fn bgrewriteaof(&mut self, requester: Requester, out: &mut Writer) -> Performed {
        let persistence = &mut self.persistence;
        if persistence.aof.is_rewriting() {
            return Performed::Failed(CmdError::Text(
                "ERR Background append only file rewriting already in progress",
            ));
        }
        if persistence.is_busy() || requester.in_exec {
            persistence.aof.scheduled = true;
            return done(out.simple("Background append only file rewriting scheduled"));
        }
        self.begin_rewrite();
        done(out.simple("Background append only file rewriting started"))
    }

    fn begin_rewrite(&mut self) {
        let (shards, now_ms) = (self.shards, self.now_ms);
        self.persistence.aof.configure(&self.config);
        let files = match self.persistence.aof.begin_rewrite(shards, now_ms) {
            Ok(files) => files,
            Err(error) => {
                log::warning(&format!("Can't begin an AOF rewrite: {error}"));
                return self.persistence.aof.rewrite_failed(now_ms);
            }
        };
        let policy = self.policy();
        self.tell_nodes(|node| Message::JournalNext {
            file: files[node].clone(),
            policy,
        });
        let pid = std::process::id();
        log::notice(&format!(
            "Background append only file rewriting started by pid {pid}"
        ));
        let persistence = &mut self.persistence;
        persistence.save(&self.config, After::Rewrite, now_ms, &mut self.mail);
    }

    /// The new base is durable under its temporary name.
    pub(super) fn base_written(&mut self, temporary: &str) {
        let now_ms = self.now_ms;
        match self.persistence.aof.end_rewrite(temporary, now_ms) {
            Ok(()) => {
                self.tell_nodes(|_| Message::JournalMended);
                // Only a base was wanted, and nothing may be written behind it.
                let persistence = &mut self.persistence;
                if !persistence.aof.wanted && persistence.closing.is_none() {
                    persistence.aof.close();
                    self.close_journals(false);
                }
            }
            Err(error) => {
                log::warning(&format!("Can't end an AOF rewrite: {error}"));
                self.persistence.aof.rewrite_failed(now_ms);
            }
        }
    }

    /// Brings the append-only file to what the configuration asks for, and begins rewrites that
    /// are due.
    pub(super) fn mind_journal(&mut self) {
        let is_starting =
            self.part.is_any_loading() || self.opening > 0 || self.following.is_replacing();
        let persistence = &mut self.persistence;
        let is_busy = persistence.is_busy();
        let in_exec = persistence.transactions > 0;
        let aof = &mut persistence.aof;
        let wanted = aof.wanted;
        if (is_busy || in_exec) && wanted && !aof.on && !aof.is_rewriting() {
            if in_exec && !aof.scheduled {
                log::warning(
                    "AOF was enabled during a transaction. An AOF background was scheduled to start \
                     when possible.",
                );
            }
            aof.scheduled = true;
        }
        if is_starting || self.stopping || is_busy || persistence.closing.is_some() {
            return;
        }
        aof.scheduled |= self.part.take_wants_base();
        if aof.on && !wanted {
            aof.close();
            return self.close_journals(false);
        }
        let may_try = self.now_ms >= aof.retry_ms;
        if may_try && !in_exec && (wanted && !aof.on || aof.scheduled) {
            self.begin_rewrite();
        }
    }

    /// Begins a rewrite if the segments have grown by `auto-aof-rewrite-percentage`.
    fn look_at_journal_size(&mut self) {
        let percentage = self.config.int("auto-aof-rewrite-percentage");
        let min = self.config.int("auto-aof-rewrite-min-size") as u64;
        let aof = &mut self.persistence.aof;
        if !aof.on || aof.is_rewriting() || percentage <= 0 {
            return;
        }
        let size = aof.base_bytes + self.part.journal_bytes_of_all();
        let base = aof.base_bytes.max(1);
        let growth = size.saturating_sub(base) as i128 * 100 / i128::from(base);
        if size > min && growth >= i128::from(percentage) {
            log::notice(&format!(
                "Starting automatic rewriting of AOF on {growth}% growth"
            ));
            aof.scheduled = true;
        }
    }

    /// Ends all segments, and the server after them if it `stops`.
    pub(super) fn close_journals(&mut self, stops: bool) {
        self.persistence.closing = Some((self.shards, stops));
        self.tell_nodes(|_| Message::JournalClose);
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
            Message::JournalClose => self.close_segment(core),
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
            Message::SyncWanted(waiter) => self.sync_wanted(waiter),
            Message::SyncReached(id) => self.sync_reached(id),
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
                    self.tell_reached(waiters);
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
            self.persistence.aof.scheduled = true;
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

    /// All entries are in place: commands are accepted.
    pub(super) fn load_ended(&mut self, core: &mut Core) {
        self.part.loading = false;
        let left = NodeMessage::Persist(Message::LoadLeft);
        self.mail.push((0, left));
        core.shard.keyspace.effects.recording = core.shard.journal.is_some();
        core.shard.keyspace.effects.dirty = 0;
        let config = self.config.clone();
        settings::install(&config, core, self);
    }
}

/// Redis: server.c, DISK_ERROR_TYPE_AOF.
pub fn misconf(failure: &str) -> CmdError {
    CmdError::owned(format!("MISCONF Errors writing to the AOF file: {failure}"))
}
