//! What saves, loads and stops the server: the persistence room's commands and messages.

use std::fs::File;

use super::ask::{NodeMessage, Requester};
use super::host::ServerHost;
use super::info::FileFigures;
use super::jobs::done;
use super::journal::Boot;
use super::log;
use super::persist::{self, After, Message, Then};
use crate::command::Job;
use crate::resp::{Args, CmdError, Writer};
use crate::runtime::FileDone;
use crate::session::{Core, Link, Performed};

/// Signals that ask for the end.
#[derive(Debug, Default)]
pub struct StopSignals {
    /// DEBUG PAUSE-CRON: they wait.
    pub paused: bool,
    /// One that does, and whether it was SIGINT.
    pub waiting: Option<bool>,
}

/// Whether a stopping server saves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wish {
    /// If there are save points.
    Default,
    Save,
    NoSave,
}

const IN_PROGRESS: CmdError = CmdError::Text("ERR Background save already in progress");

/// Whether this SHUTDOWN is not for a server that a script keeps busy, as this one is.
pub(super) fn waits_for_script(core: &Core, args: &Args) -> bool {
    let stops = (1..args.len()).any(|at| args.is(at, "nosave") || args.is(at, "abort"));
    !stops && core.scripts.late.is_any()
}

impl ServerHost {
    /// SAVE, BGSAVE and LASTSAVE, on shard 0.
    pub(super) fn save_command(
        &mut self,
        job: Job,
        requester: Requester,
        args: &Args,
        out: &mut Writer,
    ) -> Performed {
        let persistence = &mut self.persistence;
        let yields = |saving: &persist::Saving| saving.yields;
        if job != Job::LastSave && persistence.saving.as_deref().is_some_and(yields) {
            persistence.cancel_save(&mut self.mail);
        }
        match job {
            Job::LastSave => done(out.int(persistence.status.last_save_s)),
            Job::Save if persistence.saving.is_some() => Performed::Failed(IN_PROGRESS),
            Job::Save => {
                let after = After::Reply(requester);
                persistence.save(&self.config, after, self.now_ms, &mut self.mail);
                Performed::Later
            }
            _ => self.bgsave(requester, args, out),
        }
    }

    /// BGSAVE [SCHEDULE|CANCEL]
    fn bgsave(&mut self, requester: Requester, args: &Args, out: &mut Writer) -> Performed {
        let persistence = &mut self.persistence;
        let is_saving = persistence.saving.is_some();
        match args.len() {
            1 => {}
            2 if args.is(1, "schedule") => {}
            2 if args.is(1, "cancel") => {
                if std::mem::take(&mut persistence.scheduled) && !is_saving {
                    return done(out.simple("Scheduled background saving cancelled"));
                }
                if persistence.cancel_save(&mut self.mail) {
                    log::notice("Background saving cancelled");
                    return done(out.simple("Background saving cancelled"));
                }
                return Performed::Failed(CmdError::Text(
                    "ERR Background saving is currently not in progress or scheduled",
                ));
            }
            _ => return Performed::Failed(CmdError::Syntax),
        }
        let is_rewriting = persistence.aof.is_rewriting();
        if requester.in_exec && !is_saving || is_rewriting && args.len() == 2 {
            persistence.scheduled = true;
            return done(out.simple("Background saving scheduled"));
        }
        if is_rewriting {
            return Performed::Failed(CmdError::Text(
                "ERR Another child process is active (AOF?): can't BGSAVE right now. Use BGSAVE \
                 SCHEDULE in order to schedule a BGSAVE whenever possible.",
            ));
        }
        if is_saving {
            return Performed::Failed(IN_PROGRESS);
        }
        self.begin_bgsave();
        match self.persistence.saving {
            Some(_) => done(out.simple("Background saving started")),
            None => Performed::Failed(CmdError::Text("ERR")),
        }
    }

    fn begin_bgsave(&mut self) {
        let persistence = &mut self.persistence;
        persistence.save(&self.config, After::Nothing, self.now_ms, &mut self.mail);
        if persistence.saving.is_some() {
            let pid = std::process::id();
            log::notice(&format!("Background saving started by pid {pid}"));
        }
    }

    /// Ends the server, perhaps after a last snapshot. On shard 0.
    pub(super) fn request_stop(&mut self, wish: Wish, force: bool) {
        let persistence = &mut self.persistence;
        let aof = &persistence.aof;
        if aof.wanted && !aof.on && persistence.loading.is_none() && persistence.replay.is_none() {
            // Redis: server.c finishShutdown.
            if !force {
                log::warning("Writing initial AOF, can't exit.");
                log::warning(
                    "Errors trying to shut down the server. Check the logs for more information.",
                );
                return persistence.stays(&mut self.mail);
            }
            log::warning("Writing initial AOF. Exit anyway.");
        }
        let saves = match wish {
            Wish::Default => !persistence.points.is_empty(),
            Wish::Save => true,
            Wish::NoSave => false,
        };
        if !saves || persistence.loading.is_some() {
            return self.stop_now();
        }
        if persistence.cancel_save(&mut self.mail) {
            log::warning("There is a background save in progress: it is given up for the last one");
        }
        self.tell_nodes(|_| Message::Quiesce);
        log::notice("Saving the final RDB snapshot before exiting.");
        let after = After::Stop { force };
        self.persistence
            .save(&self.config, after, self.now_ms, &mut self.mail);
    }

    /// SIGINT or SIGTERM, on shard 0.
    pub fn stop_signal(&mut self, interrupted: bool) {
        if self.signals.paused {
            self.signals.waiting = Some(interrupted);
            return;
        }
        if interrupted && self.is_stopping() {
            // What is being written is given up.
            self.abort_farewell();
            self.persistence.cancel_save(&mut self.mail);
            log::warning("You insist... exiting now.");
            self.stop = Some(1);
            return;
        }
        if self.is_stopping() {
            return;
        }
        let flags = self.config.text(match interrupted {
            true => "shutdown-on-sigint",
            false => "shutdown-on-sigterm",
        });
        let has = |word: &str| flags.split(' ').any(|flag| flag == word);
        let wish = match (has("save"), has("nosave")) {
            (true, _) => Wish::Save,
            (_, true) => Wish::NoSave,
            _ => Wish::Default,
        };
        let force = has("force");
        self.end_server(None, (wish, force, !has("now")));
    }

    /// Whether the server is on its way to its end.
    fn is_stopping(&self) -> bool {
        let closes = self.persistence.closing.is_some_and(|(_, stops)| stops);
        closes || self.persistence.saves_last() || self.is_in_farewell()
    }

    /// SHUTDOWN ABORT: gives up an end that has not come yet.
    fn abort_stop(&mut self) -> bool {
        let waited = self.signals.waiting.take().is_some();
        if self.persistence.saves_last() {
            self.persistence.cancel_save(&mut self.mail);
        } else if !self.abort_farewell() && !waited {
            return false;
        }
        log::notice("Shutdown manually aborted.");
        true
    }

    /// Ends the server once the append-only file is complete.
    pub(super) fn stop_now(&mut self) {
        if self.persistence.aof.on {
            self.persistence.aof.on = false;
            log::notice("Calling fsync() on the AOF file.");
            return self.close_journals(true);
        }
        log::warning("Pinion is now ready to exit, bye bye...");
        self.stop = Some(0);
    }

    /// SHUTDOWN [NOSAVE|SAVE] [NOW] [FORCE] [ABORT], on shard 0.
    pub(super) fn shutdown(
        &mut self,
        requester: Requester,
        args: &Args,
        out: &mut Writer,
    ) -> Performed {
        let known = ["nosave", "save", "now", "force", "abort"];
        let is_known = |i: usize| known.iter().any(|word| args.is(i, word));
        let has = |word: &str| (1..args.len()).any(|i| args.is(i, word));
        if !(1..args.len()).all(is_known)
            || has("save") && has("nosave")
            || has("abort") && args.len() > 2
        {
            return Performed::Failed(CmdError::Syntax);
        }
        if has("abort") && self.abort_stop() {
            return done(out.ok());
        }
        if has("abort") {
            return Performed::Failed(CmdError::Text("ERR No shutdown in progress."));
        }
        log::warning("User requested shutdown...");
        let wish = match (has("save"), has("nosave")) {
            (true, _) => Wish::Save,
            (_, true) => Wish::NoSave,
            _ => Wish::Default,
        };
        self.end_server(Some(requester), (wish, has("force"), !has("now")));
        // No reply: the connection closes with the process.
        Performed::Later
    }

    /// DEBUG RELOAD [MERGE] [NOFLUSH] [NOSAVE], on shard 0.
    pub(super) fn reload(&mut self, requester: Requester, args: &Args) -> Performed {
        let has = |word: &str| (2..args.len()).any(|i| args.is(i, word));
        let known = ["merge", "noflush", "nosave"];
        if !(2..args.len()).all(|i| known.iter().any(|word| args.is(i, word))) {
            return Performed::Failed(CmdError::Text(
                "ERR DEBUG RELOAD only supports the MERGE, NOFLUSH and NOSAVE options.",
            ));
        }
        let flush = !has("noflush");
        self.persistence.merges = has("merge");
        if has("nosave") {
            self.begin_load(Then::Reply(requester), flush);
            return Performed::Later;
        }
        self.persistence.cancel_save(&mut self.mail);
        let after = After::Reload { requester, flush };
        self.persistence
            .save(&self.config, after, self.now_ms, &mut self.mail);
        Performed::Later
    }

    /// Loads `dbfilename`.
    fn begin_load(&mut self, then: Then, flush: bool) {
        let path = std::path::PathBuf::from(self.config.text("dbfilename"));
        self.begin_load_of(&path, then, flush);
    }

    pub(super) fn begin_load_of(&mut self, path: &std::path::Path, then: Then, flush: bool) {
        let file = File::open(path);
        let databases = self.config.int("databases") as u32;
        let verify = self.config.flag("rdbchecksum");
        // Segments may say that a key lives on. Redis: rdb.c rdbLoadRioWithLoadingCtx.
        let keeps_due = matches!(then, Then::Replay) || self.identity.role.is_replica();
        let about = (databases, self.limits.clone());
        let begun = file.and_then(|file| {
            self.persistence
                .load(file, (verify, keeps_due), about, then, self.now_ms)
        });
        match (begun, then) {
            (Ok(()), _) => self.tell_nodes(|_| Message::LoadBegins { flush }),
            (Err(error), Then::Follow) => {
                log::warning(&format!("Can't open the RDB file of the master: {error}"));
                self.persistence.follows = false;
                self.persistence.followed = Some(false);
            }
            (Err(error), Then::Serve | Then::Replay) => {
                log::warning(&format!("Fatal error: can't open the RDB file: {error}"));
                self.stop = Some(1);
            }
            (Err(_), Then::Reply(requester)) => persist::reply(
                &mut self.mail,
                requester,
                Err(CmdError::Text(
                    "ERR Error trying to load the RDB dump, check server logs",
                )),
            ),
        }
    }

    /// A message about files.
    pub fn persist_message(&mut self, core: &mut Core, from: usize, message: Message) {
        let (mail, now_ms) = (&mut self.mail, self.now_ms);
        let persistence = &mut self.persistence;
        match message {
            Message::CutBegun {
                id,
                sizes,
                used_bytes,
                expiring_fields,
            } if persistence.is_saving(id) => {
                let about = (sizes, used_bytes, expiring_fields);
                persistence.cut_begun(from, id, about, now_ms);
                self.cut_begun(id);
            }
            // It was given up while the cut was on its way.
            Message::CutBegun { id, .. } => {
                mail.push((from, NodeMessage::Persist(Message::CutCancelled { id })));
            }
            Message::Chunk { id, chunk } => persistence.chunk(from, id, chunk),
            Message::CutDone { id } => persistence.cut_done(id),
            Message::ChunkTaken { id } => self.part.chunk_taken(id),
            Message::CutCancelled { id } => self.part.cut_cancelled(core, id),
            Message::SaveEnded { id, ok } => self.part.save_ended(core, id, ok),
            Message::Changed => persistence.points.arm(),
            Message::TransactionOver => persistence.transactions -= 1,
            Message::LoadBegins { flush } => {
                self.part.load_begins(core, flush);
                if flush && self.shard == 0 {
                    core.clear_libraries();
                }
                if flush {
                    mail.push((0, NodeMessage::Persist(Message::LoadReady)));
                }
            }
            Message::IncomingBegins { serves } => self.part.incoming_begins(core, serves),
            Message::IncomingOver { accepted } => {
                self.part.incoming_over(core, accepted, now_ms);
                if accepted && self.shard == 0 {
                    self.take_incoming_libraries(core);
                }
            }
            Message::Reserve { db, keys } => core.shard.keyspace.reserve(db, keys),
            Message::Load(entries) => {
                self.part.load(core, entries, now_ms);
                mail.push((0, NodeMessage::Persist(Message::LoadTaken)));
            }
            Message::LoadTaken => persistence.batch_taken(from),
            Message::ReplayTaken => {
                if let Some(replay) = &mut persistence.replay {
                    replay.lanes.taken(from);
                }
            }
            Message::LoadEnded => self.load_ended(core),
            Message::LoadLeft => persistence.load_left(&self.part, mail),
            Message::Quiesce => {
                self.pause = super::clients::Pause {
                    until_ms: i64::MAX,
                    writes_only: true,
                }
            }
            Message::Resume => self.pause = Default::default(),
            message => self.journal_message(core, message),
        }
    }

    /// An operation on a file is over.
    pub fn file_done(&mut self, done: FileDone) {
        if let Some(is_write) = persist::of_journal(done.tag) {
            return self.journal_file_done(done, is_write);
        }
        if persist::is_transfer(done.tag) {
            return self.transfer_file_done(done);
        }
        if persist::is_old_sync(done.tag) {
            return self.old_segment_synced(&done.result);
        }
        let (mail, now_ms) = (&mut self.mail, self.now_ms);
        if persist::is_read(done.tag) {
            if let Err(error) = self.persistence.load_file_done(done) {
                self.load_failed(&error);
            }
        } else {
            self.persistence.save_file_done(done, mail, now_ms);
        }
    }

    /// A shard's part of a cut has begun. While a master's stream stands still for it, all of it is of
    /// one place in that.
    fn cut_begun(&mut self, id: u32) {
        if self.replicas.relays() && self.persistence.has_all_parts(id) {
            let db = self.following.db();
            self.note_past(id, db);
            self.begin_replicas(id);
        }
    }

    fn load_failed(&mut self, error: &persist::LoadError) {
        if !self.persistence.load_failed(error, &mut self.mail) {
            self.stop = Some(1);
        }
    }

    /// Background work of a turn. Returns whether there is more to do at once.
    pub fn persist_turn(&mut self, core: &mut Core, link: &mut dyn Link) -> bool {
        let more = self.part.stream(core, &mut self.mail);
        self.tell_replayed(core);
        if self.shard != 0 {
            self.mind_master(core, link);
            return more;
        }
        match std::mem::replace(&mut self.boot, Boot::Nothing) {
            Boot::Nothing => {}
            Boot::Snapshot => self.begin_load(Then::Serve, false),
            Boot::Journal => self.recover(&core.table),
        }
        if self.is_quiet(core)
            && let Some(mut cut) = self.persistence.wanted_cut.take()
        {
            cut.feeds = self.replicas.feeds_name();
            if cut.feeds.is_some() || self.replicas.relays() {
                self.persistence.await_past(cut.id);
            }
            let mut post = |to, message| link.post(to, message);
            core.coordinator.start_cut(cut, &mut post);
        }
        if std::mem::take(&mut core.shard.keyspace.effects.flushed_all) {
            self.save_nothing();
        }
        self.look_at_save_points();
        if let Some(after) = self.persistence.follow_up.take() {
            self.follow(after);
        }
        if let Some(temporary) = self.persistence.rewritten.take() {
            self.base_written(&temporary);
        }
        let is_free = !self.persistence.is_busy() && !self.following.is_replacing();
        if self.persistence.scheduled && is_free && self.persistence.transactions == 0 {
            self.begin_bgsave();
        }
        let following = self.mind_master(core, link);
        self.mind_journal();
        self.mind_replicas();
        if self.part.shard() == 0 {
            self.part.set_saving(self.persistence.is_busy());
        }
        let writing = self.persistence.write_on(&mut self.mail, self.now_ms);
        self.send_pieces();
        self.send_snapshot();
        let loading = self.load_on(core);
        let replaying = self.replay_on(core, link);
        more || writing || loading || replaying || following
    }

    fn load_on(&mut self, core: &mut Core) -> bool {
        if self.persistence.loading.is_some() {
            let delay_us = self.config.int("key-load-delay");
            self.persistence.delay_keys(delay_us);
        }
        let (mail, now_ms) = (&mut self.mail, self.now_ms);
        let mut loaded = self.persistence.load_slice(mail, now_ms);
        if self.following.is_incoming() {
            let found = self.persistence.found_libraries.drain(..);
            self.persistence.incoming_libraries.extend(found);
        }
        self.tell_deleted();
        let (mail, now_ms) = (&mut self.mail, self.now_ms);
        let merges = self.persistence.merges;
        for text in self.persistence.found_libraries.drain(..) {
            if let Err(error) = core.add_library(&text, merges, u64::MAX) {
                loaded = Err(persist::LoadError::Library(error));
            }
        }
        match loaded {
            Err(error) => {
                self.load_failed(&error);
                false
            }
            Ok(more) => {
                match self.persistence.load_over(mail, now_ms) {
                    Some((Then::Replay, from)) => self.replay_from(from, &core.table),
                    Some((Then::Serve, _)) => self.take_up_past(),
                    _ => {}
                }
                more
            }
        }
    }

    /// The libraries of a master take the place of all others.
    fn take_incoming_libraries(&mut self, core: &mut Core) {
        core.clear_libraries();
        for text in std::mem::take(&mut self.persistence.incoming_libraries) {
            if let Err(error) = core.add_library(&text, false, u64::MAX) {
                log::warning(&format!("Failed creating the library: {error}"));
            }
        }
    }

    /// Replicas that go on from what is loaded are told which of its keys are gone.
    fn tell_deleted(&mut self) {
        let is_master = self.following.master.is_none();
        let Some(loading) = self.persistence.loading.as_mut().filter(|_| is_master) else {
            return;
        };
        if loading.deleted.is_empty() {
            return;
        }
        let (offset, deleted) = (loading.past_offset(), std::mem::take(&mut loading.deleted));
        if !self.replicas.is_streaming() {
            self.replicas.go_on_from(offset, self.now_ms);
        }
        self.keep_stream(&deleted);
    }

    fn follow(&mut self, after: After) {
        match after {
            After::Nothing | After::Reply(_) | After::Sync | After::Pipe => {}
            After::Rewrite => self.persistence.aof.rewrite_failed(self.now_ms),
            After::Reload { requester, flush } => self.begin_load(Then::Reply(requester), flush),
            After::Stop { .. } => self.stop_now(),
        }
    }

    /// FLUSHALL: a snapshot under way is of no use any more, and the one on the disk would bring back
    /// what was deleted. Redis: db.c flushAllDataAndResetRDB.
    fn save_nothing(&mut self) {
        let persistence = &mut self.persistence;
        if persistence.loading.is_some() || persistence.replay.is_some() || self.stopping {
            return;
        }
        // Replicas that wait for it ask again.
        let is_plain = |saving: &persist::Saving| {
            matches!(saving.after(), After::Nothing | After::Sync | After::Pipe)
        };
        if persistence.saving.as_deref().is_some_and(is_plain) {
            persistence.cancel_save(&mut self.mail);
            log::notice("FLUSHALL aborted the background saving");
        }
        if persistence.points.is_empty() {
            return;
        }
        if persistence.is_busy() {
            // What is under way is no snapshot of nothing: one comes behind it.
            persistence.scheduled = true;
        } else {
            self.begin_bgsave();
            if let Some(saving) = &mut self.persistence.saving {
                saving.yields = true;
            }
        }
    }

    /// Saves if enough has changed for long enough.
    fn look_at_save_points(&mut self) {
        let persistence = &mut self.persistence;
        let is_time = |at_ms| at_ms <= self.now_ms;
        if persistence.saving.is_some()
            || persistence.loading.is_some()
            || !persistence.points.next_look_ms().is_some_and(is_time)
        {
            return;
        }
        let status = &persistence.status;
        let tried = (status.last_try_ms, status.last_ok);
        let last_save_s = status.last_save_s;
        let changes = self.part.changes_of_all();
        let due = persistence
            .points
            .due(changes, self.now_ms, last_save_s, tried);
        if let Some((changes, seconds)) = due {
            log::notice(&format!(
                "{changes} changes in {seconds} seconds. Saving..."
            ));
            self.begin_bgsave();
        }
    }

    /// How saving and loading go, for INFO.
    pub(super) fn file_figures(&self) -> FileFigures {
        let persistence = &self.persistence;
        let saving = persistence.saving.as_ref().map(|saving| {
            let (keys, all) = saving.progress(self.now_ms);
            ((self.now_ms - saving.started_ms) / 1000, keys, all)
        });
        let loading = persistence.loading.as_ref().map(|loading| {
            let took_s = (self.now_ms - loading.started_ms) / 1000;
            let begun_s = loading.started_ms / 1000;
            (begun_s, loading.loaded_bytes(), loading.size_bytes, took_s)
        });
        // Commands of the append-only file count by nothing but their time.
        let replaying = self.part.is_any_loading().then(|| {
            let took_s = (self.now_ms - self.started_ms) / 1000;
            (self.started_ms / 1000, 0, 0, took_s)
        });
        FileFigures {
            status: persistence.status.clone(),
            saving,
            loading: loading.or(replaying),
            serves: persistence.loading.as_ref().is_some_and(|it| it.serves()),
            journal: self.journal_figures(),
        }
    }

    /// Whether a turn would find something to do that no message announces.
    pub fn persist_wants(&self, core: &Core) -> bool {
        let persistence = &self.persistence;
        self.part.wants(core)
            || self.has_replayed(core)
            || persistence.wanted_cut.is_some()
            || persistence.follow_up.is_some()
            || persistence.rewritten.is_some()
            || persistence.wants_to_write(self.now_ms)
            || persistence
                .replay
                .as_ref()
                .is_some_and(|replay| !replay.waits(core))
            || persistence.wants_to_load()
            || self.master_wants(core)
            || self.replicas_want()
    }

    /// When files want to be looked at, unix milliseconds.
    pub fn persist_due_ms(&self) -> Option<i64> {
        let segment = self.segment.as_ref().and_then(|segment| segment.due_ms());
        if self.shard != 0 {
            return segment;
        }
        let master = self.following.due_ms();
        let replicas = [
            self.persistence.load_delayed_until_ms(),
            self.replicas.due_ms(),
            self.sync_wait_ms(),
            self.farewell_due_ms(),
            master,
        ];
        let replicas = replicas.into_iter().flatten().min();
        if let Some(saving) = &self.persistence.saving {
            let delayed = saving.delayed_until_ms();
            return [segment, delayed, replicas].into_iter().flatten().min();
        }
        let aof = &self.persistence.aof;
        let may_begin = aof.scheduled && self.persistence.transactions == 0;
        let retry = may_begin.then_some(aof.retry_ms);
        let points = self.persistence.points.next_look_ms();
        [segment, retry, points, replicas]
            .into_iter()
            .flatten()
            .min()
    }

    /// Whether writes are refused because snapshots fail.
    pub(super) fn is_misconfigured(&self) -> bool {
        self.part.save_failed
            && self.config.flag("stop-writes-on-bgsave-error")
            && !self.config.text("save").is_empty()
    }
}

/// Redis: server.c, DISK_ERROR_TYPE_RDB.
pub const MISCONF: CmdError = CmdError::Text(
    "MISCONF Redis is configured to save RDB snapshots, but it's currently unable to persist to \
     disk. Commands that may modify the data set are disabled, because this instance is configured \
     to report errors during writes if RDB snapshotting fails (stop-writes-on-bgsave-error \
     option). Please check the Redis logs for details about the RDB error.",
);
