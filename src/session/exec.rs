//! Carrying out transactions, and scripts that run under holds: both are commands one after the other
//! that nobody sees between. Here is their beginning and their end: what is held, who is shown what,
//! when the reply goes out. `commands` runs their commands, `script` what they have of scripts.

mod commands;
mod script;

pub(super) use commands::only_home;

use std::sync::Arc;

use smallvec::SmallVec;

use super::core::Core;
use super::link::{Host, Link};
use super::multi::{Multi, Watches};
use super::requests::Next;
use super::script::Scripted;
use super::state::{Session, State};
use crate::command::flags::Flags;
use crate::command::{Client, CommandId, Run, flags, keys};
use crate::coordinator::{everything_of, holds_on};
use crate::resp::{ArgBuf, Args, CmdError, Output, Proto, Writer};
use crate::shard::Room;
use crate::shard::TxId;
use crate::shard::message::{HoldOn, HopCall, Request, SessionKey};
use crate::shard::seen::Seen;

const ABORTED: CmdError =
    CmdError::Text("EXECABORT Transaction discarded because of previous errors.");

/// Why a transaction is not carried out.
fn discarded(why: &CmdError) -> CmdError {
    CmdError::owned(format!("EXECABORT Transaction discarded because of: {why}"))
}

/// A transaction being carried out. It goes on if its connection goes away.
#[derive(Debug)]
pub struct Exec {
    /// The arguments of all commands, then the watched keys.
    request: Arc<Request>,
    calls: Vec<HopCall>,
    /// The database that is selected, also when the client is gone.
    db: u32,
    /// The first command that has not run yet, and how many are running elsewhere.
    next: usize,
    running: usize,
    out: Output,
    /// Replies became more than the client may have waiting: they are dropped, and so will it be.
    is_flooded: bool,
    /// The coordinator's work whose holds the commands run under.
    held: Option<TxId>,
    /// What its client watched, until the holds are granted. It counts though the client has gone.
    watches: Option<Box<Watches>>,
    /// Records of this shard when it began, or went on after others had their turn; `None` while they
    /// have it.
    records: Option<usize>,
    /// EXEC itself, while somebody watches.
    words: Option<ArgBuf>,
    /// The script that is running.
    script: Option<Box<Scripted>>,
    /// What its commands have done and seen on shards, until it is over.
    pub(super) seen: Seen,
}

impl Core {
    /// Why a transaction is not carried out at all.
    fn why_not(
        &mut self,
        key: SessionKey,
        multi: &Multi,
        link: &dyn Link,
        host: &dyn Host,
    ) -> Option<CmdError> {
        if multi.failed {
            return Some(ABORTED);
        }
        // Scripts say themselves what they do. Redis: multi.c queueMultiCommand.
        let (mut any, mut each) = (0, Flags::MAX);
        for call in &multi.calls {
            let words = multi.args.as_args();
            let words = words.range(call.from as usize, call.to as usize);
            let flags = self.declared_flags(call.command, &words);
            any |= flags;
            each &= flags;
        }
        // What was allowed when they were queued may not be any more.
        let repeats = self.session(key).is_some_and(Session::repeats);
        let is_loading = each & flags::LOADING == 0 && host.is_loading()
            || any & flags::NO_ASYNC_LOADING != 0 && host.is_loading_beside();
        if is_loading && !repeats {
            return Some(discarded(&CmdError::Loading));
        }
        if host.is_watching()
            && any & flags::WRITE != 0
            && let Some(why) = host.refuses_writes(key)
        {
            return Some(discarded(&why));
        }
        if host.is_watching()
            && each & flags::STALE == 0
            && let Some(why) = host.refuses_reads(key)
        {
            return Some(discarded(&why));
        }
        let is_short =
            any & flags::DENYOOM != 0 && self.shard.make_room(link.now_ms()) == Room::Nowhere;
        is_short.then(|| discarded(&CmdError::Oom))
    }

    pub(super) fn exec(
        &mut self,
        key: SessionKey,
        call: HopCall,
        words: &Args,
        link: &mut dyn Link,
        host: &mut dyn Host,
    ) -> Next {
        let here = self.shard.place.shard;
        let Some(session) = self.session_mut(key) else {
            return Next::Wait;
        };
        let Some(multi) = session.multi.take() else {
            return Next::Continue;
        };
        if let Some(error) = self.why_not(key, &multi, link, host) {
            self.show_exec(key, None, call.id, words, link, host);
            self.unwatch(key, link);
            return self.fail(key, (call, words), &error, link, host);
        }
        let classes = self.shard.keyspace.effects.classes;
        let Some(session) = self.session_mut(key) else {
            return Next::Wait;
        };
        let Multi {
            mut args, calls, ..
        } = *multi;
        let watched_from = args.len();
        for (_, name) in session.watches.iter().flat_map(|watches| &watches.keys) {
            args.push(name);
        }
        let client = &session.client;
        let request = Arc::new(Request {
            watcher: Some((here, key)),
            ..Request::new(call, args, client, (here, key), link.now_ms(), classes)
        });
        self.shard.stats.ran(call.id, 0, false);
        let exec = Exec {
            records: Some(self.shard.keyspace.effects.records.len()),
            words: host.is_watching().then(|| words.to_buf()),
            ..Exec::new(request, calls)
        };
        self.start_exec(key, exec, watched_from, link, host)
    }

    /// Shows a transaction to who watches: its commands, if they run, then EXEC. A script shows itself,
    /// and what follows it is shown when it has run.
    fn show_whole(
        &mut self,
        key: SessionKey,
        exec: &Exec,
        clean: bool,
        link: &mut dyn Link,
        host: &mut dyn Host,
    ) {
        if let Some(words) = &exec.words {
            let exec_id = exec.request.call.id;
            let run = clean.then_some(exec);
            self.show_exec(key, run, exec_id, &words.as_args(), link, host);
        }
    }

    /// Shows what is run, each command in the database that a SELECT before it will have selected, and EXEC.
    fn show_exec(
        &mut self,
        key: SessionKey,
        run: Option<&Exec>,
        exec_id: CommandId,
        words: &Args,
        link: &mut dyn Link,
        host: &mut dyn Host,
    ) {
        if !host.is_watching() {
            return;
        }
        let Some(db) = self.session(key).map(|session| session.client.db) else {
            return;
        };
        let table = self.table.clone();
        let mut shows_itself = false;
        for (exec, call) in run
            .iter()
            .flat_map(|exec| exec.calls[exec.next..].iter().map(move |c| (exec, c)))
        {
            if matches!(call.command.run, Run::Script(what) if what.runs()) {
                shows_itself = true;
                break;
            }
            let all = exec.request.args.as_args();
            let args = all.range(call.from as usize, call.to as usize);
            if call.command.name == "select"
                && let Some(session) = self.session_mut(key)
            {
                let selected = args.db(1, session.client.databases);
                session.client.db = selected.unwrap_or(session.client.db);
            }
            host.show(self, link, key, table.entry(call.id), &args);
        }
        if !shows_itself {
            host.show(self, link, key, table.entry(exec_id), words);
        }
        if let Some(session) = self.session_mut(key) {
            session.client.db = db;
        }
    }

    fn start_exec(
        &mut self,
        key: SessionKey,
        exec: Exec,
        watched_from: usize,
        link: &mut dyn Link,
        host: &mut dyn Host,
    ) -> Next {
        let now_ms = link.now_ms();
        let place = self.shard.place;
        let scopes = self.scopes(&exec, watched_from);
        let has_jobs = exec
            .calls
            .iter()
            .any(|call| matches!(call.command.run, Run::Job(_) | Run::Errand(_)));
        let is_here = match &scopes[..] {
            [] => true,
            [(home, on)] => *home == place.shard && !self.is_in_the_way(&exec.request, on),
            _ => false,
        };
        if is_here && (!has_jobs || scopes.is_empty()) {
            let clean = self.shard.is_clean((place.shard, key), now_ms);
            self.unwatch(key, link);
            self.show_whole(key, &exec, clean, link, host);
            if !clean {
                return self.reply(key, link, |out| out.null_array());
            }
            self.execs.insert(key, Box::new(exec));
            let state = if self.exec_on(key, link, host) {
                None
            } else {
                Some(State::Awaiting)
            };
            if let (Some(state), Some(session)) = (state, self.session_mut(key)) {
                session.state = state;
            }
            return match self.session(key) {
                Some(session) if session.state == State::Running => self.check_drain(key, link),
                _ => Next::Wait,
            };
        }
        let watches = self.session_mut(key).and_then(|its| its.watches.take());
        let exec = Exec { watches, ..exec };
        self.await_holds(key, exec, scopes, link)
    }

    /// Takes holds for a script alone; it runs under them.
    pub(super) fn await_script(
        &mut self,
        key: SessionKey,
        request: Arc<Request>,
        script: Box<Scripted>,
        scopes: Vec<(usize, HoldOn)>,
        link: &mut dyn Link,
    ) -> Next {
        let exec = Exec {
            script: Some(script),
            ..Exec::of_script(request)
        };
        self.await_holds(key, exec, scopes, link)
    }

    /// Asks for holds; [`Core::exec_held`] follows.
    fn await_holds(
        &mut self,
        key: SessionKey,
        exec: Exec,
        scopes: Vec<(usize, HoldOn)>,
        link: &mut dyn Link,
    ) -> Next {
        if let Some(session) = self.session_mut(key) {
            session.state = State::Awaiting;
        }
        let request = exec.request.clone();
        self.execs.insert(key, Box::new(exec));
        let mut post = |to, message| link.post(to, message);
        self.coordinator.start_exec(key, request, scopes, &mut post);
        Next::Wait
    }

    /// What has to be held, shard by shard.
    fn scopes(&self, exec: &Exec, watched_from: usize) -> Vec<(usize, HoldOn)> {
        let shards = self.shard.place.shards;
        let args = exec.request.args.as_args();
        let mut positions: Vec<usize> = (watched_from..args.len()).collect();
        let mut everything = false;
        for call in &exec.calls {
            let own = args.range(call.from as usize, call.to as usize);
            match call.command.run {
                _ if call.command.needs_everything(&own) => everything = true,
                // It may touch what it is not called with.
                Run::Script(_) => everything = true,
                Run::Client(_) | Run::Job(_) | Run::Transaction(_) | Run::Container => {}
                _ => {
                    let keys = keys::positions(call.command.keys, &own).unwrap_or_default();
                    positions.extend(keys.into_iter().map(|at| at + call.from as usize));
                }
            }
        }
        match everything {
            true => everything_of(shards),
            false => holds_on(&positions, &args, shards),
        }
    }

    fn is_in_the_way(&mut self, request: &Request, on: &HoldOn) -> bool {
        let args = request.args.as_args();
        match on {
            HoldOn::Everything | HoldOn::EverythingWith(_) => !self.shard.is_unheld(),
            HoldOn::Keys(keys) => {
                let keys = || keys.iter().map(|&at| args.get(at as usize));
                self.shard.guard_keys(request.db, keys());
                self.shard.blocks(keys())
            }
        }
    }

    /// All holds of a transaction are granted, and whether nothing it watched has changed.
    pub(super) fn exec_held(
        &mut self,
        key: SessionKey,
        work: TxId,
        clean: bool,
        link: &mut dyn Link,
        host: &mut dyn Host,
    ) {
        let Some(exec) = self.execs.get_mut(&key) else {
            self.release_exec(work, link);
            return;
        };
        exec.held = Some(work);
        let watches = exec.watches.take();
        let is_write = exec.calls.iter().any(|call| call.command.is_write());
        let (is_script, is_shown) = (exec.is_script(), exec.words.is_some());
        self.forget_watches(key, watches, link);
        if is_shown && let Some(exec) = self.execs.remove(&key) {
            self.show_whole(key, &exec, clean, link, host);
            self.execs.insert(key, exec);
        }
        // Since it was admitted, this server may have become a replica.
        if clean
            && is_write
            && self.shard.keyspace.is_replica()
            && let Some(why) = host.refuses_writes(key)
        {
            self.execs.remove(&key);
            self.release_exec(work, link);
            self.reply_error(key, &discarded(&why), link);
            return self.resume(key, link, host);
        }
        if clean || is_script {
            if self.exec_on(key, link, host) {
                self.resume(key, link, host);
            }
            return;
        }
        self.execs.remove(&key);
        self.release_exec(work, link);
        self.reply(key, link, |out| out.null_array());
        self.resume(key, link, host);
    }

    /// Gives back the holds; false if the journals come first.
    fn release_exec(&mut self, work: TxId, link: &mut dyn Link) -> bool {
        let mut post = |to, message| link.post(to, message);
        let is_settled = self.coordinator.end_exec(work, &mut post);
        self.tell();
        is_settled
    }

    /// A transaction is in all journals: the reply goes out.
    pub(super) fn exec_settled(
        &mut self,
        key: SessionKey,
        link: &mut dyn Link,
        host: &mut dyn Host,
    ) {
        if let Some(mut exec) = self.execs.remove(&key)
            && self.exec_reply(key, &mut exec, link, host)
        {
            self.resume(key, link, host);
        }
    }

    /// Takes a transaction back that waits for its holds. Returns whether it is a script alone.
    pub(super) fn give_up(&mut self, key: SessionKey, link: &mut dyn Link) -> Option<bool> {
        let exec = self.execs.remove(&key)?;
        let is_script = exec.is_script();
        self.forget_watches(key, exec.watches, link);
        Some(is_script)
    }

    /// Everything has run: the reply goes out, others may go on. Returns false if the reply has to
    /// wait for the journals, or for what is on the disk.
    fn exec_done(&mut self, key: SessionKey, link: &mut dyn Link, host: &mut dyn Host) -> bool {
        let Some(mut exec) = self.execs.remove(&key) else {
            return true;
        };
        let now_ms = link.now_ms();
        match exec.held {
            Some(work) => {
                if !self.release_exec(work, link) {
                    self.execs.insert(key, exec);
                    return false;
                }
            }
            None => {
                if let Some(from) = exec.records {
                    self.shard.keyspace.effects.wrap_transaction(from);
                }
                self.shard
                    .serve_waiting(now_ms, &mut |to, message| link.post(to, message));
            }
        }
        self.exec_reply(key, &mut exec, link, host)
    }

    /// Returns false if the reply goes out later.
    fn exec_reply(
        &mut self,
        key: SessionKey,
        exec: &mut Exec,
        link: &mut dyn Link,
        host: &mut dyn Host,
    ) -> bool {
        self.note_seen(key, &exec.seen);
        if exec.is_flooded {
            self.cut_off(key, link);
            return true;
        }
        if exec.is_script() {
            // Its errors were counted when it ended.
            return self.hand_out_whole(key, &mut exec.out, link, host);
        }
        let mut reply = Output::default();
        let header = Writer::new(&mut reply, exec.request.proto).array(exec.calls.len());
        debug_assert!(header.is_ok());
        exec.out.prepend(&reply.bytes);
        self.note_reply(key, &exec.out);
        self.forget_caching(key);
        if !self.hand_out_whole(key, &mut exec.out, link, host) {
            return false;
        }
        let closing = self
            .session(key)
            .is_some_and(|session| session.client.closing);
        if closing {
            self.finish_session(key, link);
        }
        true
    }
}

impl Exec {
    fn new(request: Arc<Request>, calls: Vec<HopCall>) -> Exec {
        Exec {
            db: request.db,
            request,
            calls,
            next: 0,
            running: 0,
            out: Output::default(),
            is_flooded: false,
            held: None,
            watches: None,
            records: None,
            words: None,
            script: None,
            seen: Seen::default(),
        }
    }

    /// One of its commands, as a request of its own, with its client's state as it is then.
    fn request_of(&self, call: HopCall, args: &Args, (db, proto): (u32, Proto)) -> Request {
        let whole = &self.request;
        Request {
            call: HopCall {
                from: 0,
                to: args.len() as u32,
                ..call
            },
            args: args.to_buf(),
            ends: SmallVec::new(),
            db,
            databases: whole.databases,
            proto,
            now_ms: whole.now_ms,
            no_touch: whole.no_touch,
            by: whole.by,
            ticket: None,
            classes: whole.classes,
            watcher: None,
            scripted: None,
        }
    }

    /// What is left of its client's state when that is gone.
    pub(super) fn client(&self) -> Client {
        Client {
            db: self.db,
            databases: self.request.databases,
            proto: self.request.proto,
            no_touch: self.request.no_touch,
            authenticated: true,
            ..Client::default()
        }
    }

    /// No EXEC, but a script alone: it is the one command, and its reply is the reply.
    fn is_script(&self) -> bool {
        matches!(self.request.call.command.run, Run::Script(_))
    }

    /// A script alone.
    fn of_script(request: Arc<Request>) -> Exec {
        let call = HopCall {
            from: 0,
            to: request.args.len() as u32,
            ..request.call
        };
        Exec::new(request, vec![call])
    }

    /// Drops replies that nobody will be sent, and lets the next one stop where they become so many.
    /// What has begun is carried out all the same.
    fn drop_excess(&mut self, max_bytes: usize) {
        if self.is_flooded || self.out.is_cut() || self.out.len() >= max_bytes {
            self.is_flooded = true;
            self.out = Output::default();
        }
        self.out.limit(max_bytes);
    }

    fn write_error(&mut self, error: &CmdError) {
        let written = Writer::new(&mut self.out, self.request.proto).error(error);
        debug_assert!(written.is_ok());
    }
}
