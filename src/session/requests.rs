//! From bytes to requests, and the gates that each passes before it runs.

use super::core::Core;
use super::link::{Admission, Host, Link};
use super::state::{Session, State};
use crate::command::transaction::Transaction;
use crate::command::{Command, CommandId, Entry, Job, Lookup, Run, flags};
use crate::keyspace::{Foreseen, WARM_KEYS};
use crate::resp::{self, Args, CmdError, Glance, Parsed, ProtocolError};
use crate::shard::message::{HopCall, MASTER, SessionKey};
use crate::shard::{Room, Shard};

/// Whether a client that speaks RESP2 may run this while it listens to channels.
fn may_listener_run(command: &Command) -> bool {
    let is_job = matches!(
        command.run,
        Run::Job(Job::Subscribe(_) | Job::Unsubscribe(_) | Job::Reset)
    );
    is_job || matches!(command.name, "ping" | "quit")
}

/// How far ahead of the running request keys have been fetched.
struct Ahead {
    db: u32,
    requests: usize,
}

impl Ahead {
    fn of(session: &Session) -> Ahead {
        Ahead {
            db: session.client.db,
            requests: session.fetched,
        }
    }

    /// Called before each request, which `input` begins with. Requests for other homes are passed
    /// over: while a session is away for them, those behind them are on their way from memory.
    #[inline]
    fn look(&mut self, shard: &Shard, input: &[u8]) {
        let keyspace = &shard.keyspace;
        if self.requests == 0 && keyspace.is_cold(self.db) {
            let place = shard.place;
            let mut seen = 0;
            let next = Glance::new(input)
                .take(place.shards * WARM_KEYS)
                .inspect(|_| seen += 1)
                .map(|args| Foreseen::new(self.db, args));
            keyspace.warm(next.filter(|next| place.is_home(next.key)));
            self.requests = seen;
        }
        self.requests = self.requests.saturating_sub(1);
    }
}

/// What to do after a request.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// On to the next request.
    Continue,
    /// The request is taken care of, but the session has to wait.
    Wait,
    /// The session has to wait, and this request after it.
    Again,
}

impl Core {
    /// Runs the requests in `input` as far as possible; returns which part of it the session must keep.
    pub(super) fn run_requests(
        &mut self,
        key: SessionKey,
        input: &[u8],
        link: &mut dyn Link,
        host: &mut dyn Host,
    ) -> std::ops::Range<usize> {
        let known = self.session(key).is_some_and(|its| self.knows(its));
        let Some(session) = self.session_mut(key) else {
            return 0..0;
        };
        let mut ahead = Ahead::of(session);
        // Out of the session while it runs, so that arguments do not borrow the whole core.
        let mut parser = std::mem::take(&mut session.parser);
        let mut limits = resp::Limits {
            authenticated: known,
            bulk_max_bytes: self.limits.bulk_max_bytes,
        };
        let (mut at, mut end) = (0, input.len());
        let mut waited_bytes = 0;
        self.shard.start_clock();
        loop {
            ahead.look(&self.shard, &input[at..end]);
            match parser.parse(&input[at..end], &limits) {
                Ok(Parsed::Incomplete) => break,
                Ok(Parsed::Empty { consumed }) => at += consumed,
                Ok(Parsed::Large { keep }) => {
                    end = at + keep;
                    break;
                }
                Ok(Parsed::Request { consumed }) => {
                    let args = parser.args(&input[at..end]);
                    let is_tracking = self.note_request(key, end - at);
                    let next = self.request(key, &args, link, host);
                    if next == Next::Again {
                        parser.hold_back();
                        break;
                    }
                    if is_tracking {
                        self.caching_used(key, &args);
                        self.tell_own(key, &next, link, host);
                    }
                    parser.next();
                    at += consumed;
                    if next == Next::Wait {
                        waited_bytes = consumed;
                        break;
                    }
                }
                // Replies that are still under way come first: the error is met again after them.
                Err(_) if self.is_hopping(key) => break,
                Err(error) => {
                    self.protocol_error(key, error, link);
                    return 0..0;
                }
            }
            if at == end {
                break;
            }
            if !limits.authenticated {
                limits.authenticated = self.session(key).is_some_and(|its| self.knows(its));
            }
        }
        self.send_hop(key, link);
        match self.pause_parsing(key, parser, &ahead, waited_bytes) {
            true => at..end,
            false => 0..0,
        }
    }

    /// Notes how many bytes the server holds of a session's requests; returns whether it is told
    /// of changed keys.
    fn note_request(&mut self, key: SessionKey, bytes: usize) -> bool {
        let Some(session) = self.session_mut(key) else {
            return false;
        };
        session.current_bytes = bytes;
        session.client.tracking.is_some()
    }

    /// Gives the parser back to its session, and what was fetched; false if that is closing.
    fn pause_parsing(
        &mut self,
        key: SessionKey,
        parser: resp::Parser,
        ahead: &Ahead,
        waited_bytes: usize,
    ) -> bool {
        let Some(session) = self.session_mut(key) else {
            return false;
        };
        if session.state == State::Closing {
            return false;
        }
        session.parser = parser;
        session.fetched = ahead.requests;
        // The server may be asked about a request that it is still working on.
        session.current_bytes = match session.state {
            State::Awaiting => waited_bytes,
            _ => 0,
        };
        true
    }

    /// Whether the session's next hop has commands in it.
    pub(super) fn is_hopping(&self, key: SessionKey) -> bool {
        self.session(key).is_some_and(|session| {
            let hop = session.hop.as_ref();
            let fan = session.fan.as_ref();
            hop.is_some_and(|hop| !hop.calls.is_empty())
                || fan.is_some_and(|fan| !fan.is_empty())
                || session.joint.is_some()
        })
    }

    fn protocol_error(&mut self, key: SessionKey, error: ProtocolError, link: &mut dyn Link) {
        self.send_hop(key, link);
        self.refuse_and_close(key, &CmdError::owned(error.to_string()), link);
    }

    /// What a request names. Up to [`MASTER`] sessions repeat records, which know the first names, too.
    #[inline]
    fn lookup(&self, key: SessionKey, args: &Args) -> Lookup<'_> {
        match self.table.lookup(args) {
            Lookup::Error(_) if key <= MASTER => self.table.lookup_recorded(args),
            found => found,
        }
    }

    /// One request: looked up, admitted, routed and, if its keys are here, run.
    fn request(
        &mut self,
        key: SessionKey,
        args: &Args,
        link: &mut dyn Link,
        host: &mut dyn Host,
    ) -> Next {
        let Some(session) = self.session(key) else {
            return Next::Wait;
        };
        let hopping = self.is_hopping(key);
        let (command, id) = match self.lookup(key, args) {
            Lookup::Found(entry) if hopping && !self.goes_on(key, entry.id) => return Next::Again,
            Lookup::Found(&Entry { command, id, .. }) => (command, id),
            Lookup::Error(_) if hopping => return Next::Again,
            Lookup::Error(error) => {
                self.spoil_transaction(key);
                return self.unknown(key, args, &error, link, host);
            }
        };
        let call = HopCall {
            command,
            id,
            from: 0,
            to: 0,
            tracks: session.client.tracks(command),
        };
        let (is_limited, in_multi) = (session.is_limited, session.multi.is_some());
        let is_told = session.client.only_listens() || session.client.replica;
        // Redis: server.c processCommand, between authentication and what the user may do.
        let knows = session.client.authenticated || !self.users.requires_auth();
        if in_multi && knows && command.flags & flags::NO_MULTI != 0 {
            return self.refuse_in_multi(key, id, link);
        }
        if (is_limited || !session.client.authenticated)
            && let Some(next) = self.refuse_request(key, (command, id), args, hopping, link, host)
        {
            return next;
        }
        if is_told && let Some(next) = self.refuse_told(key, (command, id), link, host) {
            return next;
        }
        if let Some(error) = self.refuses_while_busy(key, command, host) {
            return match hopping {
                true => Next::Again,
                false => self.refuse_busy(key, call, &error, link),
            };
        }
        if self.shard.budget.max_bytes > 0
            && let Some(next) = self.want_room(key, (command, id, args), hopping, link, host)
        {
            return next;
        }
        if host.is_watching() {
            if hopping {
                return Next::Again;
            }
            if let Some(next) = self.admit(key, id, args, link, host) {
                return next;
            }
        }
        if in_multi && is_queued(command) {
            return self.queue(key, call, args, link);
        }
        if is_limited && let Some(error) = self.refuse_sort(key, id, args) {
            return self.fail_unless(hopping, key, (call, args), &error, link, host);
        }
        self.route(key, call, args, hopping, link, host)
    }

    /// Refuses what a session may not ask for to which messages, or the stream, are sent.
    fn refuse_told(
        &mut self,
        key: SessionKey,
        (command, id): (&Command, CommandId),
        link: &mut dyn Link,
        host: &mut dyn Host,
    ) -> Option<Next> {
        let client = &self.session(key)?.client;
        if client.replica && !may_replica_run(command) {
            return Some(self.refuse_replica(key, id, link, host));
        }
        let refuses = client.only_listens() && !may_listener_run(command);
        refuses.then(|| self.refuse_listener(key, id, link))
    }

    /// Why a command has to wait for a script, or for the load that one is a part of.
    fn refuses_while_busy(
        &self,
        key: SessionKey,
        command: &Command,
        host: &dyn Host,
    ) -> Option<CmdError> {
        if command.flags & flags::ALLOW_BUSY != 0 {
            return None;
        }
        let busy = self.scripts.late.refusal().filter(|_| key != MASTER)?;
        let loads = command.flags & flags::LOADING == 0 && host.is_loading();
        Some(if loads { CmdError::Loading } else { busy })
    }

    /// A command of a client that tracks is over: it is told what it changed itself.
    fn tell_own(&mut self, key: SessionKey, next: &Next, link: &mut dyn Link, host: &mut dyn Host) {
        let has_news = self.shard.keyspace.effects.tracking.has_news();
        if has_news && *next == Next::Continue && !self.is_hopping(key) {
            host.tell_own(self, link, key);
        }
    }

    /// CLIENT CACHING concerns the next command that is not CLIENT, or the next transaction.
    fn caching_used(&mut self, key: SessionKey, args: &Args) {
        let in_exec = self.is_executing(key);
        let named = self.table.find(args.name());
        let is_client = named.is_some_and(|entry| entry.command.name == "client");
        if let Some(session) = self.session_mut(key)
            && let Some(tracking) = &mut session.client.tracking
            && session.multi.is_none()
            && !in_exec
            && !is_client
        {
            tracking.is_caching = false;
        }
    }

    /// Makes room for a command if memory is short; `None`: it may run. What is evicted for it is told
    /// before its reply.
    fn want_room(
        &mut self,
        key: SessionKey,
        (command, id, args): (&Command, CommandId, &Args),
        hopping: bool,
        link: &mut dyn Link,
        host: &mut dyn Host,
    ) -> Option<Next> {
        match self.shard.make_room(link.now_ms()) {
            Room::Nowhere if key != MASTER && self.needs_room(key, command, args) => {
                if hopping {
                    return Some(Next::Again);
                }
                self.count_rejected(id);
                self.spoil_transaction(key);
                return Some(self.reply_error(key, &CmdError::Oom, link));
            }
            Room::Elsewhere => {
                if hopping {
                    return Some(Next::Again);
                }
                if host.want_room(key) {
                    if let Some(session) = self.session_mut(key) {
                        // It is under way, not held back: who sends no more gets its reply.
                        session.state = State::Awaiting;
                    }
                    return Some(Next::Again);
                }
            }
            Room::Enough | Room::Nowhere => {}
        }
        if self.shard.keyspace.effects.tracking.has_news() && !hopping {
            host.tell_own(self, link, key);
        }
        None
    }

    /// Whether a command is refused while memory is short. Redis: server.c processCommand: a queue of
    /// any commands takes memory; of a script its first line decides.
    fn needs_room(&mut self, key: SessionKey, command: &Command, args: &Args) -> bool {
        let in_multi = self.session(key).is_some_and(|s| s.multi.is_some());
        let ends = matches!(command.name, "exec" | "discard" | "quit" | "reset");
        in_multi && !ends || self.declared_flags(command, args) & flags::DENYOOM != 0
    }

    /// Asks the server whether the command may run now; `None` if so.
    fn admit(
        &mut self,
        key: SessionKey,
        id: CommandId,
        args: &Args,
        link: &mut dyn Link,
        host: &mut dyn Host,
    ) -> Option<Next> {
        let table = self.table.clone();
        match host.admit(self, link, key, table.entry(id), args) {
            Admission::Run => {
                let entry = table.entry(id);
                let in_multi = self.session(key).is_some_and(|s| s.multi.is_some());
                let is_exec = matches!(entry.command.run, Run::Transaction(Transaction::Exec));
                let is_queued = in_multi && is_queued(entry.command);
                let is_of_client = matches!(entry.command.run, Run::Client(_));
                if !is_exec && !is_queued && !is_of_client {
                    host.show(self, link, key, entry, args);
                }
                None
            }
            Admission::Refuse(error) => {
                self.count_rejected(id);
                self.spoil_transaction(key);
                let is_all = link.pending_bytes(key) == 0;
                let next = self.reply_error(key, &error, link);
                if is_all {
                    link.hasten(key);
                }
                Some(next)
            }
            Admission::Postpone => {
                if let Some(session) = self.session_mut(key) {
                    session.state = State::Postponed;
                }
                Some(Next::Again)
            }
        }
    }
}

/// Whether a command has no reply that would stand in a replica's stream.
fn may_replica_run(command: &Command) -> bool {
    matches!(command.name, "replconf" | "psync" | "sync")
}

/// Whether a transaction queues a command. Redis: server.c processCommand.
fn is_queued(command: &Command) -> bool {
    let at_once = match command.run {
        Run::Transaction(what) => what != Transaction::Unwatch,
        Run::Job(job) => job == Job::Reset,
        _ => command.name == "quit",
    };
    !at_once
}
