//! From bytes to running commands: parsing, gates, routing.

use std::sync::Arc;

use smallvec::SmallVec;

use super::blocking::Begun;

use super::core::Core;
use super::link::{Admission, Host, Link, Performed};
use super::state::{Pending, State};
use crate::command::block::Block;
use crate::command::errand::Errand;
use crate::command::transaction::Transaction;
use crate::command::{Command, CommandId, Entry, Job, Lookup, Run, client::ReplyMode, flags, keys};
use crate::coordinator::{Homes, homes};
use crate::keyspace::{Foreseen, Keyspace};
use crate::resp::{self, Args, CmdError, Glance, Output, Parsed, ProtocolError, Writer};
use crate::shard::exec_keys;
use crate::shard::message::{HopCall, KeyIndices, MASTER, Message, Request, SessionKey};
use crate::shard::{Call, Room};

/// Commands of one hop: enough to fill a turn, few enough that others get theirs.
const HOP_CALLS_MAX: usize = 128;
/// Arguments of one hop, beyond which it leaves: bounds what waits in mailboxes.
const HOP_BYTES_MAX: usize = 256 * 1024;

/// Replies that a client which has not authenticated may have waiting before it is cut off: Redis'
/// 16 KiB buffer and the 1,024 bytes beyond it (CVE-2025-21605).
const STRANGER_DRAIN_BYTES: usize = 17 * 1024;

/// Whether a client that speaks RESP2 may run this while it listens to channels.
fn may_listener_run(command: &Command) -> bool {
    let is_job = matches!(
        command.run,
        Run::Job(Job::Subscribe(_) | Job::Unsubscribe(_) | Job::Quit | Job::Reset)
    );
    is_job || matches!(command.name, "ping" | "quit")
}

/// How far ahead of the running request keys have been fetched.
struct Ahead {
    db: u32,
    requests: usize,
}

impl Ahead {
    /// The first request was foreseen when it arrived.
    fn new(db: u32) -> Ahead {
        Ahead { db, requests: 1 }
    }

    /// Called before each request, which `input` begins with.
    #[inline]
    fn look(&mut self, keyspace: &Keyspace, input: &[u8]) {
        if self.requests == 0 && keyspace.is_cold(self.db) {
            let next = Glance::new(input).map(|args| Foreseen::new(self.db, args));
            self.requests = keyspace.warm(next).max(1);
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
        let mut ahead = Ahead::new(session.client.db);
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
            ahead.look(&self.shard.keyspace, &input[at..end]);
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
        match self.pause_parsing(key, parser, waited_bytes) {
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

    /// Gives the parser back to its session; false if that is closing.
    fn pause_parsing(&mut self, key: SessionKey, parser: resp::Parser, waited: usize) -> bool {
        let Some(session) = self.session_mut(key) else {
            return false;
        };
        if session.state == State::Closing {
            return false;
        }
        session.parser = parser;
        // The server may be asked about a request that it is still working on.
        session.current_bytes = match session.state {
            State::Awaiting => waited,
            _ => 0,
        };
        true
    }

    /// Whether the session's next hop has commands in it.
    fn is_hopping(&self, key: SessionKey) -> bool {
        let hop = self.session(key).and_then(|session| session.hop.as_ref());
        hop.is_some_and(|hop| !hop.calls.is_empty())
    }

    fn protocol_error(&mut self, key: SessionKey, error: ProtocolError, link: &mut dyn Link) {
        self.send_hop(key, link);
        self.refuse_and_close(key, &CmdError::owned(error.to_string()), link);
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
        let (command, id) = match self.table.lookup(args) {
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
        let only_listens = session.client.only_listens();
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
        if only_listens && !may_listener_run(command) {
            return self.refuse_listener(key, id, link);
        }
        if command.flags & flags::ALLOW_BUSY == 0
            && let Some(error) = self.scripts.late.refusal().filter(|_| key != MASTER)
        {
            return match hopping {
                true => Next::Again,
                false => self.refuse_busy(key, call, &error, link),
            };
        }
        if self.shard.budget.max_bytes > 0
            && let Some(next) = self.want_room(key, (command, id), hopping, link, host)
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
            return self.fail_unless(hopping, (key, id), &error, link);
        }
        self.route(key, call, args, hopping, link, host)
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
        if let Some(session) = self.session_mut(key)
            && let Some(tracking) = &mut session.client.tracking
            && session.multi.is_none()
            && !in_exec
            && !args.name().eq_ignore_ascii_case(b"client")
        {
            tracking.is_caching = false;
        }
    }

    fn refuse_in_multi(&mut self, key: SessionKey, id: CommandId, link: &mut dyn Link) -> Next {
        const REFUSED: CmdError = CmdError::Text("ERR Command not allowed inside a transaction");
        self.count_rejected(id);
        self.spoil_transaction(key);
        self.reply_error(key, &REFUSED, link)
    }

    /// A client that listens in RESP2 sent something else.
    fn refuse_listener(&mut self, key: SessionKey, id: CommandId, link: &mut dyn Link) -> Next {
        let name = self.table.entry(id).full_name();
        self.count_rejected(id);
        self.spoil_transaction(key);
        let error = CmdError::owned(format!(
            "ERR Can't execute '{name}': only (P|S)SUBSCRIBE / (P|S)UNSUBSCRIBE / PING / QUIT / \
             RESET are allowed in this context"
        ));
        self.reply_error(key, &error, link)
    }

    /// Makes room for a command if memory is short; `None`: it may run. What is evicted for it is told
    /// before its reply.
    fn want_room(
        &mut self,
        key: SessionKey,
        (command, id): (&Command, CommandId),
        hopping: bool,
        link: &mut dyn Link,
        host: &mut dyn Host,
    ) -> Option<Next> {
        match self.shard.make_room(link.now_ms()) {
            Room::Nowhere if command.flags & flags::DENYOOM != 0 && key != MASTER => {
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
                        session.state = State::Postponed;
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

    /// Asks the server whether the command may run now; `None` if so.
    fn admit(
        &mut self,
        key: SessionKey,
        id: u16,
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
                let is_shown_later = is_exec || in_multi && is_queued(entry.command);
                if !is_shown_later {
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

    /// A command that may wait for its keys; nothing if this request does not.
    fn try_to_wait(
        &mut self,
        key: SessionKey,
        block: &Block,
        call: HopCall,
        args: &Args,
        link: &mut dyn Link,
        host: &mut dyn Host,
    ) -> Option<Next> {
        let patience = match (block.patience)(args) {
            Ok(patience) => patience?,
            Err(error) => return Some(self.fail(key, call.id, &error, link)),
        };
        let begun_ns = self.shard.now_ns();
        Some(match self.begin_wait(key, call, patience, args, link) {
            Begun::Served => {
                let spent_ns = self.shard.now_ns().saturating_sub(begun_ns);
                if spent_ns >= self.limits.slow_ns {
                    host.slow(self, link, key, args, spent_ns);
                }
                self.check_drain(key, link)
            }
            Begun::Waits => Next::Wait,
            Begun::Failed(error) => self.fail(key, call.id, &error, link),
        })
    }

    fn route(
        &mut self,
        key: SessionKey,
        call: HopCall,
        args: &Args,
        hopping: bool,
        link: &mut dyn Link,
        host: &mut dyn Host,
    ) -> Next {
        if let Some(block) = call.command.block {
            if hopping {
                return Next::Again;
            }
            if let Some(next) = self.try_to_wait(key, block, call, args, link, host) {
                return next;
            }
        }
        let here = self.shard.place.shard;
        let shards = self.shard.place.shards;
        let home = match call.command.run {
            run if hopping && !is_of_keys(run) => return Next::Again,
            Run::Transaction(what) => return self.transaction(key, what, call, args, link, host),
            Run::Script(what) => return self.script(key, what, call, args, link, host),
            Run::Client(run) => return self.run_client(key, call, run, args, link, host),
            Run::Job(job) => return self.run_job(key, call, job, args, link, host),
            Run::Errand(errand) => return self.start_errand(key, errand, call, args, link),
            _ if shards == 1 => Ok(Homes::One(here)),
            Run::Key(_) => Ok(Homes::One(keys::home(
                args.get(first_key(call.command)),
                shards,
            ))),
            Run::Gather(gather) if gather.more_for(args).is_some() => {
                if hopping {
                    return Next::Again;
                }
                return self.start_work(key, call, args, None, link);
            }
            _ if spreads(&call, args, shards) && hopping => return Next::Again,
            _ if spreads(&call, args, shards) => {
                return self.start_work(key, call, args, None, link);
            }
            Run::At { shard, .. } => shard(args, shards).map(|at| Homes::One(at.unwrap_or(here))),
            _ => exec_keys(call.command, args).map(|keys| homes(&keys, args, shards)),
        };
        match home {
            Err(_) if hopping => Next::Again,
            Err(error) => self.fail(key, call.id, &error, link),
            Ok(Homes::Many(_)) if hopping => Next::Again,
            Ok(Homes::Many(groups)) => self.start_work(key, call, args, Some(groups), link),
            Ok(Homes::One(home)) if home == here && !hopping && !self.is_blocked(&call, args) => {
                self.run_here(key, call, args, link, host)
            }
            Ok(Homes::One(home)) => self.add_to_hop(key, call, args, home),
        }
    }

    /// A command fails, once replies that are under way have come.
    fn fail_unless(
        &mut self,
        hopping: bool,
        (key, id): (SessionKey, CommandId),
        error: &CmdError,
        link: &mut dyn Link,
    ) -> Next {
        match hopping {
            true => Next::Again,
            false => self.fail(key, id, error, link),
        }
    }

    /// A command that ran into an error before it reached a shard.
    pub(super) fn fail(
        &mut self,
        key: SessionKey,
        id: u16,
        error: &CmdError,
        link: &mut dyn Link,
    ) -> Next {
        self.shard.stats.ran(id, 0, true);
        self.reply_error(key, error, link)
    }

    /// Whether a hold is in the way of a command whose keys are all here.
    fn is_blocked(&self, call: &HopCall, args: &Args) -> bool {
        if self.shard.is_unheld() {
            return false;
        }
        if matches!(call.command.run, Run::Shards { .. } | Run::At { .. }) {
            return true;
        }
        let positions = keys::positions(call.command.keys, args).unwrap_or_default();
        self.shard.blocks(positions.iter().map(|&at| args.get(at)))
    }

    /// The hot path: everything is on this core.
    fn run_here(
        &mut self,
        key: SessionKey,
        call: HopCall,
        args: &Args,
        link: &mut dyn Link,
        host: &mut dyn Host,
    ) -> Next {
        let now_ms = link.now_ms();
        let here = self.shard.place.shard;
        let Some(session) = self.session_mut(key) else {
            return Next::Wait;
        };
        session.last_command = Some(call.id);
        let client = &session.client;
        let (db, proto, no_touch) = (client.db, client.proto, client.no_touch);
        let quiet = client.reply != ReplyMode::On;
        let by = (here, key);
        let HopCall {
            command,
            id,
            tracks,
            ..
        } = call;
        let out = link.out(key);
        let mark = out.mark();
        let spent_ns = self.shard.run(
            &Call {
                command,
                id,
                args: *args,
                db,
                proto,
                no_touch,
                by,
                tracks,
            },
            now_ms,
            out,
        );
        self.shard
            .serve_waiting(now_ms, &mut |to, message| link.post(to, message));
        let out = link.out(key);
        self.counters.commands += 1;
        self.shard.stats.note_error(&out.bytes[mark.0..]);
        if quiet {
            self.apply_reply_mode(key, mark, link);
        }
        if spent_ns >= self.limits.slow_ns {
            host.slow(self, link, key, args, spent_ns);
        }
        self.check_drain(key, link)
    }

    /// Makes a session wait whose output outgrew what its socket takes.
    pub(super) fn check_drain(&mut self, key: SessionKey, link: &mut dyn Link) -> Next {
        let out = link.out(key);
        if out.bytes.len() < STRANGER_DRAIN_BYTES && out.shared.is_empty() {
            return Next::Continue;
        }
        let unsent_bytes = out.len();
        if self.check_limit(key, link) {
            return Next::Wait;
        }
        let known = self.session(key).is_some_and(|its| self.knows(its));
        let max = if known {
            self.limits.drain_bytes
        } else {
            STRANGER_DRAIN_BYTES
        };
        if unsent_bytes < max {
            return Next::Continue;
        }
        if !known {
            self.counters.output_limit_closed += 1;
            self.abandon(key, link);
            return Next::Wait;
        }
        if let Some(session) = self.session_mut(key) {
            session.state = State::Draining;
        }
        link.notify_drained(key);
        Next::Wait
    }

    /// Takes back what was written since `mark` if the client asked not to see it.
    fn apply_reply_mode(&mut self, key: SessionKey, mark: (usize, usize), link: &mut dyn Link) {
        let Some(session) = self.session_mut(key) else {
            return;
        };
        if session.client.reply.suppresses() {
            link.out(key).rewind(mark);
        }
        session.client.reply.after_command();
    }

    fn run_client(
        &mut self,
        key: SessionKey,
        call: HopCall,
        run: fn(&mut crate::command::Client, &Args, &mut Writer) -> resp::CmdResult,
        args: &Args,
        link: &mut dyn Link,
        host: &mut dyn Host,
    ) -> Next {
        let Some(session) = self.session_mut(key) else {
            return Next::Wait;
        };
        session.last_command = Some(call.id);
        let out = link.out(key);
        let mark = out.mark();
        let proto = session.client.proto;
        let result = run(&mut session.client, args, &mut Writer::new(out, proto));
        let closing = session.client.closing;
        let failed = result.is_err();
        if let Err(error) = result {
            out.rewind(mark);
            let written = Writer::new(out, proto).error(&error);
            debug_assert!(written.is_ok());
            self.shard.stats.note_error(&out.bytes[mark.0..]);
        }
        self.counters.commands += 1;
        let spent_ns = self.shard.lap_ns();
        self.shard.stats.ran(call.id, spent_ns, failed);
        if spent_ns >= self.limits.slow_ns {
            host.slow(self, link, key, args, spent_ns);
        }
        self.apply_reply_mode(key, mark, link);
        if closing {
            self.finish_session(key, link);
            return Next::Wait;
        }
        self.check_drain(key, link)
    }

    fn run_job(
        &mut self,
        key: SessionKey,
        call: HopCall,
        job: Job,
        args: &Args,
        link: &mut dyn Link,
        host: &mut dyn Host,
    ) -> Next {
        let Some(session) = self.session_mut(key) else {
            return Next::Wait;
        };
        session.last_command = Some(call.id);
        self.counters.commands += 1;
        let mut out = std::mem::take(&mut self.scratch);
        let performed = host.perform(self, link, key, job, args, &mut out);
        let spent_ns = self.shard.lap_ns();
        let failed = matches!(performed, Performed::Failed(_));
        let is_slow = spent_ns >= self.limits.slow_ns;
        if !matches!(performed, Performed::Later) {
            self.shard.stats.ran(call.id, spent_ns, failed);
            // Redis: SLOWLOG GET itself is logged like any other command.
            if is_slow {
                host.slow(self, link, key, args, spent_ns);
            }
        }
        match performed {
            Performed::Later => {
                if let Some(session) = self.session_mut(key) {
                    session.state = State::Awaiting;
                    session.job = Some(Pending {
                        id: call.id,
                        spent_ns,
                        // CONFIG SET may change what is slow.
                        args: (is_slow || job == Job::ConfigSet).then(|| args.to_buf()),
                    });
                }
                return Next::Wait;
            }
            Performed::Failed(error) => return self.reply_error(key, &error, link),
            Performed::Done => {
                let reply = link.out(key);
                let mark = reply.mark();
                reply.append(&out);
                self.keep_scratch(out);
                self.apply_reply_mode(key, mark, link);
            }
        }
        match self.session(key) {
            None => Next::Wait,
            Some(session) if session.client.closing => {
                self.finish_session(key, link);
                Next::Wait
            }
            Some(session) if session.state != State::Running => Next::Wait,
            Some(_) => self.check_drain(key, link),
        }
    }

    /// Keeps the buffer of a job's reply for the next one, unless it has become large.
    fn keep_scratch(&mut self, mut out: Output) {
        const KEPT_BYTES: usize = 4096;
        out.clear();
        if out.bytes.capacity() <= KEPT_BYTES {
            self.scratch = out;
        }
    }

    /// Writes a reply that is not a command's on keys.
    pub(super) fn reply(
        &mut self,
        key: SessionKey,
        link: &mut dyn Link,
        write: impl FnOnce(&mut Writer) -> resp::CmdResult,
    ) -> Next {
        let Some(session) = self.session(key) else {
            return Next::Wait;
        };
        let proto = session.client.proto;
        let mark = link.out(key).mark();
        let written = write(&mut Writer::new(link.out(key), proto));
        debug_assert!(written.is_ok());
        self.apply_reply_mode(key, mark, link);
        self.check_drain(key, link)
    }

    pub(super) fn reply_error(
        &mut self,
        key: SessionKey,
        error: &CmdError,
        link: &mut dyn Link,
    ) -> Next {
        let Some(session) = self.session(key) else {
            self.fail_visit(key, error, link);
            return Next::Wait;
        };
        let proto = session.client.proto;
        let mark = link.out(key).mark();
        let written = Writer::new(link.out(key), proto).error(error);
        debug_assert!(written.is_ok());
        let reply = &link.out(key).bytes[mark.0..];
        self.shard.stats.note_error(reply);
        if key == MASTER {
            // Nothing is kept of replies to a master.
            let text = error.text();
            self.blame(&[b"-", &text[..]].concat());
        }
        self.apply_reply_mode(key, mark, link);
        self.check_drain(key, link)
    }

    /// What the master has done is refused here.
    pub(super) fn blame(&mut self, reply: &[u8]) {
        let last = self
            .session(MASTER)
            .and_then(|session| session.last_command);
        let name = last.map(|id| self.table.entry(id).full_name());
        self.shard
            .blame(reply, name.as_deref().unwrap_or("<unknown>"));
    }

    /// A request that names no command, or not with this number of arguments.
    fn unknown(
        &mut self,
        key: SessionKey,
        args: &Args,
        error: &CmdError,
        link: &mut dyn Link,
        host: &mut dyn Host,
    ) -> Next {
        if let Some(session) = self.session_mut(key).filter(|_| key == MASTER) {
            session.last_command = None;
        }
        // A browser was made to talk to this port: its first line or header gives it away.
        if args.is(0, "post") || args.is(0, "host:") {
            host.attacked(self, key);
            if let Some(session) = self.session_mut(key) {
                session.state = State::Closing;
            }
            link.close(key);
            return Next::Wait;
        }
        if let Some(&Entry { id, command, .. }) = self.table.find(args.name())
            && matches!(error, CmdError::Arity(_))
        {
            self.count_rejected(id);
            if matches!(command.run, Run::Transaction(Transaction::Exec)) {
                return self.exec_refused(key, error, link);
            }
        }
        self.reply_error(key, error, link)
    }

    /// Adds a command to the session's hop, if it goes to the same home.
    fn add_to_hop(&mut self, key: SessionKey, call: HopCall, args: &Args, home: usize) -> Next {
        let here = self.shard.place.shard;
        let Some(session) = self.session_mut(key) else {
            return Next::Wait;
        };
        session.last_command = Some(call.id);
        let mut hop = session.hop.take().unwrap_or_default();
        if !hop.calls.is_empty() && session.hop_home != home {
            session.hop = Some(hop);
            return Next::Again;
        }
        session.hop_home = home;
        hop.session = key;
        hop.origin = here;
        hop.db = session.client.db;
        hop.proto = session.client.proto;
        hop.no_touch = session.client.no_touch;
        let from = hop.args.len();
        for i in 0..args.len() {
            hop.args.push_arg(args, i);
        }
        hop.calls.push(HopCall {
            from: from as u32,
            to: hop.args.len() as u32,
            ..call
        });
        let full = hop.calls.len() >= HOP_CALLS_MAX || hop.args.memory_bytes() >= HOP_BYTES_MAX;
        // A hop's replies are kept or dropped as one: a client that hides some hops one by one.
        let alone = session.client.reply != ReplyMode::On;
        session.hop = Some(hop);
        self.counters.commands += 1;
        if full || alone {
            Next::Wait
        } else {
            Next::Continue
        }
    }

    /// Sends the session's hop, if it has one, and makes the session wait for it.
    fn send_hop(&mut self, key: SessionKey, link: &mut dyn Link) {
        let Some(session) = self.session_mut(key) else {
            return;
        };
        if session
            .hop
            .as_ref()
            .is_some_and(|hop| !hop.calls.is_empty())
            && let Some(hop) = session.hop.take()
        {
            session.state = State::Hopping;
            link.post(session.hop_home, Message::Hop(hop));
        }
    }

    /// Everything it sends is held, also if that is one key of this shard.
    fn start_errand(
        &mut self,
        key: SessionKey,
        errand: &Errand,
        call: HopCall,
        args: &Args,
        link: &mut dyn Link,
    ) -> Next {
        match (errand.check)(args) {
            Ok(()) => {
                let groups = groups(call.command, args, self.shard.place.shards);
                self.start_work(key, call, args, Some(groups), link)
            }
            Err(error) => self.fail(key, call.id, &error, link),
        }
    }

    /// Hands a command on several homes, or on every shard, to the coordinator.
    fn start_work(
        &mut self,
        key: SessionKey,
        call: HopCall,
        args: &Args,
        groups: Option<SmallVec<[(usize, KeyIndices); 4]>>,
        link: &mut dyn Link,
    ) -> Next {
        let now_ms = link.now_ms();
        let here = self.shard.place.shard;
        let classes = self.shard.keyspace.effects.classes;
        let Some(session) = self.session_mut(key) else {
            return Next::Wait;
        };
        session.last_command = Some(call.id);
        session.state = State::Awaiting;
        let client = &session.client;
        let request = Request {
            call,
            args: args.to_buf(),
            db: client.db,
            databases: client.databases,
            proto: client.proto,
            now_ms,
            no_touch: client.no_touch,
            by: (here, key),
            ticket: None,
            classes,
            watcher: None,
            scripted: None,
        };
        let request = Arc::new(request);
        self.counters.commands += 1;
        let mut post = |to, message| link.post(to, message);
        match groups {
            Some(groups) => self.coordinator.start_keys(key, request, groups, &mut post),
            None => self.coordinator.start_everything(key, request, &mut post),
        }
        Next::Wait
    }
}

/// Whether it may follow other commands in a hop, as far as its keys are on that home.
fn is_of_keys(run: Run) -> bool {
    !matches!(
        run,
        Run::Client(_) | Run::Job(_) | Run::Transaction(_) | Run::Script(_) | Run::Errand(_)
    )
}

/// Whether a command runs on every shard.
fn spreads(call: &HopCall, args: &Args, shards: usize) -> bool {
    match call.command.run {
        Run::Shards { .. } => true,
        Run::At { shard, .. } => matches!(shard(args, shards), Ok(None)),
        _ => false,
    }
}

/// The keys of a request by home, also if that is only one.
fn groups(command: &Command, args: &Args, shards: usize) -> SmallVec<[(usize, KeyIndices); 4]> {
    let positions = keys::positions(command.keys, args).unwrap_or_default();
    match homes(&positions, args, shards) {
        Homes::Many(groups) => groups,
        Homes::One(home) => {
            let keys = positions.iter().map(|&at| at as u32).collect();
            SmallVec::from_iter([(home, keys)])
        }
    }
}

/// Whether a transaction queues a command. Redis: server.c processCommand.
fn is_queued(command: &Command) -> bool {
    let at_once = match command.run {
        Run::Transaction(what) => what != Transaction::Unwatch,
        Run::Job(job) => matches!(job, Job::Quit | Job::Reset),
        _ => command.name == "quit",
    };
    !at_once
}

/// Argument index of the key that decides where a `Run::Key` command runs.
fn first_key(command: &Command) -> usize {
    match command.keys.first().map(|spec| spec.begin) {
        Some(keys::Begin::Index(index)) => index,
        _ => 1,
    }
}
