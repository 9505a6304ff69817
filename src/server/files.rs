//! A node's turn with its files: messages and operations that have come, what is to be gone on with, and
//! when.

use super::ask::NodeMessage;
use super::host::ServerHost;
use super::info::{FileFigures, SavingFigures};
use super::journal::Boot;
use super::persist::{self, After, Message, PastFrom, Then};
use crate::runtime::FileDone;
use crate::session::{Core, Link};

impl ServerHost {
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
            Message::Emptied(requester) => persistence.emptied.push(requester),
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
            Message::Freeze => (self.frozen, self.freezes) = (true, true),
            Message::Frozen => persistence.node_is_frozen(),
            Message::Thaw => self.frozen = false,
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
            Message::Quiesce(why) => self.pauses.set_quiet(why, true),
            Message::Resume(why) => self.pauses.set_quiet(why, false),
            Message::Settle { id } => self.settles_for = Some(id),
            Message::Settled { id } => persistence.node_is_settled(id),
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

    /// A snapshot does not wait for a stream that has ended since its cut began: its feeds are no more,
    /// or this server has left its master.
    fn mind_past(&mut self) {
        let Some((id, from)) = self.persistence.awaited_past() else {
            return;
        };
        let comes = match from {
            PastFrom::Feeds(name) => self.replicas.feeds_name() == Some(name),
            PastFrom::Master => self.replicas.relays() && !self.persistence.has_all_parts(id),
        };
        if !comes {
            self.persistence
                .give_up_past(id, self.now_ms, &mut self.mail);
        }
    }

    /// Background work of a turn. Returns whether there is more to do at once.
    pub fn persist_turn(&mut self, core: &mut Core, link: &mut dyn Link) -> bool {
        let more = self.part.stream(core, &mut self.mail);
        core.shard
            .end_guards(self.now_ms, &mut |to, message| link.post(to, message));
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
        self.mind_reload(core);
        self.mind_past();
        if self.may_cut()
            && self.is_quiet(core)
            && self.persistence.wants_cut(self.now_ms)
            && let Some(mut cut) = self.persistence.wanted_cut.take()
        {
            self.begin_stream_at(cut.id);
            cut.feeds = self.replicas.feeds_name();
            let relays = self.replicas.relays().then_some(PastFrom::Master);
            if let Some(from) = cut.feeds.map(PastFrom::Feeds).or(relays) {
                self.persistence.await_past(cut.id, from);
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
        if self.may_cut()
            && let Some(temporary) = self.persistence.rewritten.take()
        {
            self.base_written(&temporary);
        }
        let is_free = !self.persistence.is_busy() && !self.following.is_replacing();
        let has_all = !self.part.is_any_loading() && self.may_cut();
        let persistence = &self.persistence;
        let is_idle = persistence.transactions == 0 && persistence.reload.is_none();
        if persistence.scheduled && is_free && has_all && is_idle {
            self.begin_bgsave();
        }
        self.tell_emptied();
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

    /// Whether a cut may begin, and a new base take the place of the files before it: not while those
    /// are read again.
    fn may_cut(&self) -> bool {
        !self.persistence.is_reading_again()
    }

    fn follow(&mut self, after: After) {
        match after {
            After::Nothing | After::Reply(_) | After::Sync | After::Pipe => {}
            After::Rewrite => self.rewrite_failed(),
            After::Reload => self.load_saved(),
            After::Stop { .. } => self.stop_now(),
        }
    }

    /// How saving and loading go, for INFO.
    pub(super) fn file_figures(&self) -> FileFigures {
        let persistence = &self.persistence;
        let saving = persistence.saving.as_ref().map(|saving| {
            let is_rdb = saving.after() != After::Rewrite;
            SavingFigures {
                rdb_s: is_rdb.then_some((self.now_ms - saving.started_ms) / 1000),
                progress: saving.progress(self.now_ms),
            }
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
            || persistence.follow_up.is_some()
            || self.may_cut()
                && (persistence.wants_cut(self.now_ms) || persistence.rewritten.is_some())
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
            let unsettled = self.persistence.unsettled_until_ms();
            let unsettled = unsettled.filter(|_| self.persistence.wanted_cut.is_some());
            return [segment, delayed, unsettled, replicas]
                .into_iter()
                .flatten()
                .min();
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
}
