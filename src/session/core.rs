//! All clients of one core, over its shard and its coordinator.

mod answers;
mod input;

use std::collections::BTreeSet;
use std::sync::Arc;

use super::exec::Exec;
use super::link::Link;
use super::script::Scripts;
use super::state::{Peer, Session, State};
use crate::acl::{User, Users};
use crate::command::{Client, CommandId, Table};
use crate::coordinator::Coordinator;
use crate::resp::{CmdError, Output, Writer};
use crate::shard::Shard;
use crate::shard::message::{MASTER, SessionKey, Visit};
use crate::shard::seen::{Seen, Sight};

/// Settings that sessions consult on every request, taken from the configuration.
#[derive(Clone, Debug)]
pub struct Limits {
    /// `proto-max-bulk-len`
    pub bulk_max_bytes: usize,
    /// `client-query-buffer-limit`
    pub query_max_bytes: usize,
    /// Output beyond which a session runs no further request before its socket took some: what
    /// bounds the memory of a pipeline of any depth where no setting does, as long as its client
    /// reads. Not configurable: it only has to be larger than what a socket takes at once.
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

/// What a client is closed for that the log is to tell of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Overflow {
    /// It did not read what it was sent.
    Output,
    /// It sent more than it may without completing a request.
    Query,
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
    /// Hops of its sessions that are to come back.
    pub(super) hops_away: usize,
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
    /// Clients that are closed for that, since the log was last told.
    pub overflown: Vec<(SessionKey, Overflow)>,
    /// Some session waits until its reader has taken replies.
    pub drains: bool,
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
            overflown: Vec::new(),
            drains: false,
            master_killed: false,
            counters: Counters::default(),
            timeouts: BTreeSet::new(),
            next_wait: 0,
            hops_away: 0,
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
        let max_bytes = self.output_max_bytes(key);
        let is_within = max_bytes == usize::MAX || link.pending_bytes(key) < max_bytes;
        if is_within && !link.out(key).is_cut() {
            return false;
        }
        self.cut_off(key, link);
        true
    }

    /// Unsent output that ends a session; `usize::MAX` if none does.
    pub(super) fn output_max_bytes(&self, key: SessionKey) -> usize {
        let max_bytes = self.limits.output_max_bytes;
        if max_bytes == usize::MAX {
            return max_bytes;
        }
        match self.session(key) {
            // Who listens to channels or to records has a limit of its own, which the server looks after.
            Some(session) if session.client.subscriptions.any() || session.client.replica => {
                usize::MAX
            }
            Some(_) => max_bytes,
            None => usize::MAX,
        }
    }

    /// Ends a session whose output outgrew its limit; once.
    pub fn cut_off(&mut self, key: SessionKey, link: &mut dyn Link) {
        if self
            .session(key)
            .is_none_or(|its| its.state == State::Closing)
        {
            return;
        }
        self.counters.output_limit_closed += 1;
        self.overflown.push((key, Overflow::Output));
        self.abandon(key, link);
    }

    /// Something of a client's ran on a shard that has come so far. What runs in a transaction is seen
    /// when that is over.
    pub fn note_sight(&mut self, key: SessionKey, sight: Sight) {
        if let Some(exec) = self.execs.get_mut(&key) {
            exec.seen.note(sight);
        } else if let Some(session) = self.session_mut(key) {
            session.seen.note(sight);
        } else if let Some(visit) = self.visits.get_mut(&key) {
            visit.seen.note(sight);
        }
    }

    /// A client that waited was served by a shard that has come so far, or may have been. Redis 7.0:
    /// server.c processCommand, what others do for it WAIT does not wait for.
    pub(super) fn note_served(&mut self, key: SessionKey, sight: Sight) {
        if let Some(session) = self.session_mut(key) {
            session.seen_served.note(sight);
        }
    }

    /// The same on this shard.
    #[inline]
    pub(super) fn note_own_sight(&mut self, key: SessionKey) {
        if self.shard.keyspace.effects.recording {
            self.note_sight(key, self.shard.sight());
        }
    }

    /// The same of a whole transaction.
    pub(super) fn note_seen(&mut self, key: SessionKey, seen: &Seen) {
        seen.iter().for_each(|sight| self.note_sight(key, sight));
        self.note_own_sight(key);
    }

    /// Whether something of this core's is under way on others.
    pub fn is_abroad(&self) -> bool {
        self.hops_away > 0 || self.coordinator.pending() > 0
    }

    /// Whether a session's transaction is being carried out.
    pub fn is_executing(&self, key: SessionKey) -> bool {
        self.execs.contains_key(&key)
    }

    /// Appends a finished reply, unless the client asked not to see it.
    pub(super) fn emit(&mut self, key: SessionKey, out: &Output, link: &mut dyn Link) {
        self.note_reply(key, out);
        self.put_out(key, out, link);
    }

    /// Counts a finished reply's error, if it is one.
    pub(super) fn note_reply(&mut self, key: SessionKey, out: &Output) {
        self.shard.stats.note_error(&out.bytes);
        if key == MASTER && out.bytes.first() == Some(&b'-') {
            self.blame(&out.bytes);
        }
    }

    /// Appends a finished reply whose errors are counted.
    pub(super) fn put_out(&mut self, key: SessionKey, out: &Output, link: &mut dyn Link) {
        if self.session(key).is_none() {
            return self.end_visit(key, out, link);
        }
        if self.hears(key) {
            link.out(key).append(out);
            self.check_limit(key, link);
        }
    }

    /// The same for one that is needed no more: it is not copied if it is large.
    pub(super) fn hand_out(&mut self, key: SessionKey, out: &mut Output, link: &mut dyn Link) {
        if self.session(key).is_none() {
            return self.end_visit(key, out, link);
        }
        if self.hears(key) {
            link.out(key).take_over(out);
            self.check_limit(key, link);
        }
    }

    /// Whether the client asked to see the reply that is finished.
    fn hears(&mut self, key: SessionKey) -> bool {
        let Some(session) = self.session_mut(key) else {
            return false;
        };
        let suppresses = session.client.reply.suppresses();
        if suppresses {
            session.client.reply.after_command();
        }
        !suppresses
    }

    pub(super) fn count_rejected(&mut self, id: CommandId) {
        self.shard.stats.rejected(id);
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
        let hears = |session: &Session| !session.client.reply.suppresses();
        if self.session(key).is_none_or(hears) {
            link.out(key).append(&out);
        }
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
