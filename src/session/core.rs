//! All clients of one core, over its shard and its coordinator.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::exec::Exec;
use super::fan::HOP_KEPT_BYTES;
use super::link::{Host, Link};
use super::script::Scripts;
use super::state::{Peer, Session, State};
use crate::acl::{User, Users};
use crate::command::errand::Receipt;
use crate::command::{Client, CommandId, Run, Table, keys};
use crate::coordinator::{Answer, Coordinator, Done};
use crate::keyspace::{Foreseen, WARM_KEYS};
use crate::resp::{CmdError, Glance, Output, Writer};
use crate::shard::Shard;
use crate::shard::message::{Hop, MASTER, Message, SessionKey, Visit};

/// Settings that sessions consult on every request, taken from the configuration.
#[derive(Clone, Debug)]
pub struct Limits {
    /// `proto-max-bulk-len`
    pub bulk_max_bytes: usize,
    /// `client-query-buffer-limit`
    pub query_max_bytes: usize,
    /// Output beyond which a session runs no further request before its socket took some: what
    /// bounds the memory of a pipeline of any depth where no setting does. Not configurable: it only
    /// has to be larger than what a socket takes at once.
    pub drain_bytes: usize,
    /// `client-output-buffer-limit normal`, hard: unsent output that ends a session; `usize::MAX`
    /// when off.
    pub output_max_bytes: usize,
    /// `slowlog-log-slower-than` in nanoseconds; `u64::MAX` when off.
    pub slow_ns: u64,
    /// `pipeline-order relaxed`: a pipeline visits all its homes at once.
    pub is_relaxed: bool,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            bulk_max_bytes: 512 << 20,
            query_max_bytes: 1 << 30,
            drain_bytes: 1 << 20,
            output_max_bytes: usize::MAX,
            slow_ns: u64::MAX,
            is_relaxed: false,
        }
    }
}

/// Counters of this core's clients, for INFO.
#[derive(Clone, Copy, Debug, Default)]
pub struct Counters {
    pub commands: u64,
    pub connections: u64,
    pub input_bytes: u64,
    pub output_bytes: u64,
    /// Receives and sends that the kernel completed.
    pub reads: u64,
    pub writes: u64,
    /// Requests beyond what their users may do, by [`crate::acl::Reason`].
    pub refused: [u64; 4],
    pub query_limit_closed: u64,
    pub output_limit_closed: u64,
}

/// One core's clients, coordinator and shard.
pub struct Core {
    pub shard: Shard,
    pub coordinator: Coordinator,
    pub table: Arc<Table>,
    /// The users in effect.
    pub users: Arc<Users>,
    pub limits: Limits,
    pub counters: Counters,
    /// When clients give up waiting for keys, unix milliseconds.
    pub(super) timeouts: BTreeSet<(i64, SessionKey)>,
    pub(super) next_wait: u64,
    /// Transactions that are being carried out.
    pub(super) execs: ahash::AHashMap<SessionKey, Box<Exec>>,
    /// Users with limits whose connections went away while something of theirs was being carried out.
    pub(super) orphans: ahash::AHashMap<SessionKey, Arc<User>>,
    pub scripts: Scripts,
    /// Scripts of other cores' clients that run here, and the number of the last one.
    pub(super) visits: ahash::AHashMap<SessionKey, Box<Visit>>,
    pub(super) visitors: u64,
    /// Whose scripts have been suspended, to go on in the next turn.
    pub(super) paused: Vec<SessionKey>,
    /// Empty, for the reply of the next job.
    pub(super) scratch: Output,
    /// Somebody wants the connection to the master closed.
    pub master_killed: bool,
    sessions: Vec<Option<Box<Session>>>,
    open: usize,
}

/// The index of a session within its core: the low half of its key.
pub(super) fn index(key: SessionKey) -> usize {
    (key & 0xffff_ffff) as usize
}

impl Core {
    pub fn new(shard: Shard, table: Arc<Table>) -> Core {
        let place = shard.place;
        let users = Arc::new(Users::new(&table));
        Core {
            shard,
            coordinator: Coordinator::new(place.shard, place.shards),
            table,
            users,
            limits: Limits::default(),
            master_killed: false,
            counters: Counters::default(),
            timeouts: BTreeSet::new(),
            next_wait: 0,
            execs: ahash::AHashMap::new(),
            orphans: ahash::AHashMap::new(),
            scripts: Scripts::default(),
            visits: ahash::AHashMap::new(),
            visitors: 0,
            paused: Vec::new(),
            scratch: Output::default(),
            sessions: Vec::new(),
            open: 0,
        }
    }

    /// Number of open sessions.
    pub fn session_count(&self) -> usize {
        self.open
    }

    pub fn session(&self, key: SessionKey) -> Option<&Session> {
        self.sessions
            .get(index(key))?
            .as_deref()
            .filter(|session| session.key == key)
    }

    pub fn session_mut(&mut self, key: SessionKey) -> Option<&mut Session> {
        self.sessions
            .get_mut(index(key))?
            .as_deref_mut()
            .filter(|session| session.key == key)
    }

    pub fn sessions(&self) -> impl Iterator<Item = &Session> {
        self.sessions
            .iter()
            .filter_map(|session| session.as_deref())
    }

    pub(super) fn sessions_mut(&mut self) -> impl Iterator<Item = &mut Session> {
        let sessions = self.sessions.iter_mut();
        sessions.filter_map(|session| session.as_deref_mut())
    }

    /// A connection arrived. `key`'s low 32 bits are a small index that is free.
    pub fn open(&mut self, key: SessionKey, client: Client, peer: Peer, fd: i32, now_ms: i64) {
        let at = index(key);
        if self.sessions.len() <= at {
            self.sessions.resize_with(at + 1, || None);
        }
        debug_assert!(
            self.sessions[at].is_none(),
            "a connection's index is free when it opens"
        );
        let mut session = Session::new(key, client, peer, fd, now_ms);
        session.set_user(Some(self.users.default_user().clone()));
        self.sessions[at] = Some(Box::new(session));
        self.open += 1;
        self.counters.connections += 1;
    }

    /// A connection is gone. Its work elsewhere goes on; answers to it are dropped.
    pub fn closed(&mut self, key: SessionKey, link: &mut dyn Link) -> Option<Box<Session>> {
        self.session(key)?;
        self.abandon_wait(key, link);
        self.forget_transaction(key, link);
        self.keep_limits(key);
        self.open -= 1;
        self.sessions[index(key)].take()
    }

    /// Bytes that are about to be received: fetches what the first request of each will look at.
    pub fn foresee<'b>(&self, arrivals: impl Iterator<Item = (SessionKey, &'b [u8])>) {
        let place = self.shard.place;
        let mut keys = arrivals.filter_map(|(session, bytes)| {
            let session = self.session(session)?;
            let db = session.client.db;
            if !self.shard.keyspace.is_cold(db) {
                return None;
            }
            let foreseen = Foreseen::new(db, Glance::new(bytes).next()?);
            let is_here =
                place.shards == 1 || keys::home(foreseen.key, place.shards) == place.shard;
            (is_here && session.input.is_empty()).then_some(foreseen)
        });
        while self.shard.keyspace.warm(&mut keys) == WARM_KEYS {}
    }

    /// Bytes arrived for a session.
    pub fn receive(
        &mut self,
        key: SessionKey,
        bytes: &[u8],
        link: &mut dyn Link,
        host: &mut dyn Host,
    ) {
        let now_ms = link.now_ms();
        self.counters.input_bytes += bytes.len() as u64;
        self.counters.reads += 1;
        let Some(session) = self.session_mut(key) else {
            return;
        };
        session.last_ms = now_ms;
        session.received_bytes += bytes.len() as u64;
        let taken = session.parser.feed_large(bytes);
        let bytes = &bytes[taken..];
        if session.state != State::Running || session.parser.wants_large() {
            session.input.extend_from_slice(bytes);
            self.check_query_limit(key, link);
            return;
        }
        if session.input.is_empty() {
            let rest = self.run_requests(key, bytes, link, host);
            if let Some(session) = self.session_mut(key)
                && !rest.is_empty()
            {
                session.input = bytes[rest].to_vec();
            }
        } else {
            let mut input = std::mem::take(&mut session.input);
            input.extend_from_slice(bytes);
            self.run_buffered(key, input, link, host);
        }
        self.check_query_limit(key, link);
    }

    /// Runs the requests of an owned buffer and keeps the rest in that same buffer: a client that is
    /// far ahead of its replies must not have its input copied at every step.
    fn run_buffered(
        &mut self,
        key: SessionKey,
        mut input: Vec<u8>,
        link: &mut dyn Link,
        host: &mut dyn Host,
    ) {
        // Larger empty buffers are freed: an idle client must not keep what a burst once needed.
        const KEPT_BYTES: usize = 4096;
        let rest = self.run_requests(key, &input, link, host);
        input.truncate(rest.end);
        input.drain(..rest.start);
        if let Some(session) = self.session_mut(key)
            && (!input.is_empty() || input.capacity() <= KEPT_BYTES)
        {
            session.input = input;
        }
    }

    /// Runs what a session has buffered, after whatever it waited for has happened.
    pub fn resume(&mut self, key: SessionKey, link: &mut dyn Link, host: &mut dyn Host) {
        let Some(session) = self.session_mut(key) else {
            return;
        };
        if session.state == State::Closing {
            return;
        }
        session.state = State::Running;
        session.current_bytes = 0;
        if session.reading_paused {
            session.reading_paused = false;
            link.resume_recv(key);
        }
        if session.input.is_empty() || session.parser.wants_large() {
            return;
        }
        let input = std::mem::take(&mut session.input);
        self.run_buffered(key, input, link, host);
    }

    /// All output of a session has been sent.
    pub fn drained(&mut self, key: SessionKey, link: &mut dyn Link, host: &mut dyn Host) {
        if self
            .session(key)
            .is_some_and(|session| session.state == State::Draining)
        {
            self.resume(key, link, host);
        }
    }

    /// A message from a shard (this one included).
    pub fn deliver(&mut self, message: Message, link: &mut dyn Link, host: &mut dyn Host) {
        let now_ms = link.now_ms();
        let answer = match message {
            Message::Done(hop) => return self.hop_done(hop, link, host),
            Message::Held {
                tx,
                from,
                part,
                told,
            } => {
                let mut post = |to, message| link.post(to, message);
                self.coordinator.held(tx, from, part, told, &mut post)
            }
            Message::Finished {
                tx,
                from,
                part,
                told,
            } => {
                let mut post = |to, message| link.post(to, message);
                self.coordinator.finished(tx, from, part, told, &mut post)
            }
            Message::Served {
                session,
                wait,
                out,
                spent_ns,
            } => return self.served(session, wait, (&out, spent_ns), link, host),
            Message::Watched { session } => return self.watched(session, link, host),
            Message::Ready { session, wait } => return self.try_again(session, wait, link),
            Message::Busy => return self.refuse_waiting(link, host),
            Message::Visit(visit) => return self.visit(visit, link, host),
            Message::Visited(visit) => return self.visited(&visit, link, host),
            Message::Hop(_)
            | Message::Hold(_)
            | Message::Finish(_)
            | Message::Watch { .. }
            | Message::Unwatch { .. }
            | Message::Forget(_) => {
                self.shard
                    .deliver(message, now_ms, &mut |to, message| link.post(to, message));
                if !self.shard.is_unheld() && self.scripts.late.is_any() {
                    self.refuse_waiting(link, host);
                }
                return;
            }
        };
        self.tell();
        if let Some(answer) = answer {
            self.work_done(answer, link, host);
        }
    }

    /// What multi-shard work has to tell of goes out with what this shard has.
    pub(super) fn tell(&mut self) {
        if let Some(told) = self.coordinator.take_told() {
            self.shard.keyspace.effects.tell(told);
        }
    }

    /// The hop is back: its replies go out, the session goes on.
    fn hop_done(&mut self, mut hop: Box<Hop>, link: &mut dyn Link, host: &mut dyn Host) {
        let key = hop.session;
        if self.session(key).is_none() {
            return;
        }
        self.note_slow(&hop, link, host);
        let fan = self.session_mut(key).and_then(|its| its.fan.as_mut());
        if let Some(fan) = fan.filter(|fan| fan.is_away()) {
            if fan.back(hop) {
                link.cork(key, false);
                self.fan_in(key, link);
                self.resume(key, link, host);
            }
            return;
        }
        link.cork(key, false);
        self.put_out(key, &hop.out, link);
        hop.clear();
        if let Some(session) = self.session_mut(key) {
            // What a burst needed is given back; the common small hop is kept for the next one.
            session.hop = (hop.memory_bytes() <= HOP_KEPT_BYTES).then_some(hop);
        }
        self.resume(key, link, host);
    }

    /// Notes the commands of a hop that were slow.
    fn note_slow(&mut self, hop: &Hop, link: &mut dyn Link, host: &mut dyn Host) {
        for (call, ran) in hop.calls.iter().zip(&hop.ran) {
            if ran.spent_ns >= self.limits.slow_ns {
                let all = hop.args.as_args();
                let args = all.range(call.from as usize, call.to as usize);
                host.slow(self, link, hop.session, &args, ran.spent_ns);
            }
        }
    }

    pub(super) fn work_done(&mut self, answer: Answer, link: &mut dyn Link, host: &mut dyn Host) {
        let Answer {
            session: key,
            call,
            request,
            done,
        } = answer;
        link.cork(key, false);
        let reply = match done {
            Done::Tried(reply) => return self.tried(key, &request, reply, link, host),
            Done::Settled => return self.exec_settled(key, link, host),
            Done::Refused => return self.refused(key, &request, link, host),
            Done::Errand { work, parcel } => return host.errand(self, link, work, *parcel),
            Done::Held { work, clean } => return self.exec_held(key, work, clean, link, host),
            Done::Part {
                reply,
                mut spent_ns,
            } => {
                if spent_ns.is_empty() {
                    // One over several shards: it is noted if all are.
                    spent_ns.push(0);
                }
                // Commands that ran together on one home were counted there, EXEC when it began.
                if !matches!(call.command.run, Run::Transaction(_) | Run::Script(_)) {
                    self.shard.stats.ran(call.id, 0, reply.is_err());
                }
                return self.exec_part(key, reply, &spent_ns, link, host);
            }
            Done::Waits => {
                self.shard.stats.ran(call.id, 0, false);
                return self.waits(key, &request, link, host);
            }
            Done::Reply(reply) => reply,
        };
        self.shard.stats.ran(call.id, 0, reply.is_err());
        // What several shards do together took as long as the client waited, in milliseconds.
        let waited_ms = link.now_ms().saturating_sub(request.now_ms);
        let waited_ns = u64::try_from(waited_ms).unwrap_or(0) * 1_000_000;
        if waited_ns >= self.limits.slow_ns {
            host.slow(self, link, key, &request.args.as_args(), waited_ns);
        }
        if request.ticket.is_some() {
            // Served at once: there is nothing to wait for.
            self.forget_wait(key);
        }
        if self.session(key).is_none() {
            return;
        }
        match reply {
            Ok(out) => self.emit(key, &out, link),
            Err(error) => {
                let mut out = Output::default();
                let written = Writer::new(&mut out, request.proto).error(&error);
                debug_assert!(written.is_ok());
                self.emit(key, &out, link);
            }
        }
        self.resume(key, link, host);
    }

    /// What [`Host::errand`] was asked to send has arrived, or has not.
    pub fn returned(
        &mut self,
        work: u64,
        receipt: &Receipt,
        link: &mut dyn Link,
        host: &mut dyn Host,
    ) {
        let mut post = |to, message| link.post(to, message);
        let answer = self.coordinator.returned(work, receipt, &mut post);
        self.tell();
        if let Some(answer) = answer {
            self.work_done(answer, link, host);
        }
    }

    /// Replies to a session whose job was performed later, and lets it go on.
    pub fn answer(
        &mut self,
        key: SessionKey,
        out: &Output,
        link: &mut dyn Link,
        host: &mut dyn Host,
    ) {
        if self.execs.contains_key(&key) {
            // A job was noted when it began.
            return self.exec_part(key, Ok(out.clone()), &[], link, host);
        }
        let Some(session) = self.session_mut(key) else {
            return;
        };
        // Counted once it is done, like every command: figures tell of none that asks for them.
        if let Some(job) = session.job.take() {
            let failed = out.bytes.first() == Some(&b'-');
            self.shard.stats.ran(job.id, job.spent_ns, failed);
            // It may have changed what is slow.
            if let Some(args) = job.args.filter(|_| job.spent_ns >= self.limits.slow_ns) {
                host.slow(self, link, key, &args.as_args(), job.spent_ns);
            }
        }
        self.emit(key, out, link);
        if self
            .session(key)
            .is_some_and(|session| session.client.closing)
        {
            self.finish_session(key, link);
            return;
        }
        self.resume(key, link, host);
    }

    /// Replies with an error to a session whose job is not performed after all, and closes it.
    pub fn answer_and_close(&mut self, key: SessionKey, error: &CmdError, link: &mut dyn Link) {
        if let Some(job) = self.session_mut(key).and_then(|session| session.job.take()) {
            self.shard.stats.ran(job.id, job.spent_ns, true);
            self.refuse_and_close(key, error, link);
        }
    }

    /// Closes a session now; what it sent and what it was sent no longer matters.
    pub fn abandon(&mut self, key: SessionKey, link: &mut dyn Link) {
        if let Some(session) = self.session_mut(key) {
            session.state = State::Closing;
            session.input = Vec::new();
            link.close(key);
        }
    }

    /// Ends a session, before anything of the reply is sent, whose output outgrew the limit. Redis:
    /// networking.c closeClientOnOutputBufferLimitReached.
    pub(super) fn check_limit(&mut self, key: SessionKey, link: &mut dyn Link) -> bool {
        let max_bytes = self.limits.output_max_bytes;
        // Who listens to channels or to records has a limit of its own, which the server looks after.
        let listens =
            |session: &Session| session.client.subscriptions.any() || session.client.replica;
        if max_bytes == usize::MAX
            || link.pending_bytes(key) < max_bytes
            || self.session(key).is_none_or(listens)
        {
            return false;
        }
        self.counters.output_limit_closed += 1;
        self.abandon(key, link);
        true
    }

    /// Whether a session's transaction is being carried out.
    pub fn is_executing(&self, key: SessionKey) -> bool {
        self.execs.contains_key(&key)
    }

    /// Appends a finished reply, unless the client asked not to see it.
    pub(super) fn emit(&mut self, key: SessionKey, out: &Output, link: &mut dyn Link) {
        self.shard.stats.note_error(&out.bytes);
        if key == MASTER && out.bytes.first() == Some(&b'-') {
            self.blame(&out.bytes);
        }
        self.put_out(key, out, link);
    }

    /// The same for replies whose errors are counted.
    pub(super) fn put_out(&mut self, key: SessionKey, out: &Output, link: &mut dyn Link) {
        let Some(session) = self.session_mut(key) else {
            return self.end_visit(key, out, link);
        };
        if session.client.reply.suppresses() {
            session.client.reply.after_command();
            return;
        }
        link.out(key).append(out);
        self.check_limit(key, link);
    }

    pub(super) fn count_rejected(&mut self, id: CommandId) {
        self.shard.stats.rejected(id);
    }

    /// Closes a client that sends more than it may without ever completing a request, and stops
    /// reading from one that is merely ahead of its replies.
    fn check_query_limit(&mut self, key: SessionKey, link: &mut dyn Link) {
        /// Unread requests beyond which a waiting session's socket is left alone.
        const AHEAD_BYTES: usize = 256 * 1024;
        let max = self.limits.query_max_bytes;
        let Some(session) = self.session_mut(key) else {
            return;
        };
        if session.query_bytes() > max && key != MASTER {
            session.state = State::Closing;
            self.counters.query_limit_closed += 1;
            link.close(key);
        } else if session.state != State::Running
            && session.input.len() > AHEAD_BYTES
            && !session.reading_paused
        {
            session.reading_paused = true;
            link.pause_recv(key);
        }
    }

    /// Tells the client why and closes the connection once that is sent.
    pub(super) fn refuse_and_close(
        &mut self,
        key: SessionKey,
        error: &CmdError,
        link: &mut dyn Link,
    ) {
        let mut out = Output::default();
        let written = Writer::new(&mut out, Default::default()).error(error);
        debug_assert!(written.is_ok());
        self.shard.stats.note_error(&out.bytes);
        link.out(key).append(&out);
        self.finish_session(key, link);
    }

    /// Closes the connection once everything written is sent.
    pub(super) fn finish_session(&mut self, key: SessionKey, link: &mut dyn Link) {
        if let Some(session) = self.session_mut(key) {
            session.state = State::Closing;
            session.input = Vec::new();
        }
        link.close_after_flush(key);
    }
}
