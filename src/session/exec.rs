//! Carrying out transactions, and scripts that run under holds: both are commands one after the other
//! that nobody sees between.

use std::sync::Arc;

use super::core::Core;
use super::link::{Host, Link, Performed};
use super::multi::Multi;
use super::requests::Next;
use super::script::{Progress, Scripted};
use super::state::State;
use crate::command::{Command, CommandId, Run, flags, keys};
use crate::coordinator::{Done, Homes, everything, everything_of, holds_on, homes};
use crate::resp::{ArgBuf, Args, CmdError, Output, Proto, Writer};
use crate::shard::message::{HoldOn, HopCall, Message, Request, SessionKey};
use crate::shard::{Call, Room, exec_keys};

const ABORTED: CmdError =
    CmdError::Text("EXECABORT Transaction discarded because of previous errors.");

/// A transaction being carried out. It goes on if its connection goes away.
#[derive(Debug)]
pub struct Exec {
    /// The arguments of all commands, then the watched keys.
    request: Arc<Request>,
    calls: Vec<HopCall>,
    /// The first command that has not run yet, and how many are running elsewhere.
    next: usize,
    running: usize,
    out: Output,
    /// The coordinator's work whose holds the commands run under.
    held: Option<u64>,
    /// Records of this shard when it began.
    records: usize,
    /// EXEC itself, while somebody watches.
    words: Option<ArgBuf>,
    /// The script that is running.
    script: Option<Box<Scripted>>,
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
        let discarded = |why: CmdError| {
            CmdError::owned(format!("EXECABORT Transaction discarded because of: {why}"))
        };
        // What was allowed when they were queued may not be any more.
        if host.is_watching()
            && multi.calls.iter().any(|call| call.command.is_write())
            && let Some(why) = host.refuses_writes(key)
        {
            return Some(discarded(why));
        }
        let needs_memory = |call: &HopCall| call.command.flags & flags::DENYOOM != 0;
        let is_short = multi.calls.iter().any(needs_memory)
            && self.shard.make_room(link.now_ms()) == Room::Nowhere;
        is_short.then(|| discarded(CmdError::Oom))
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
            return self.fail(key, call.id, &error, link);
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
            call,
            db: client.db,
            databases: client.databases,
            proto: client.proto,
            now_ms: link.now_ms(),
            no_touch: client.no_touch,
            by: (here, key),
            ticket: None,
            classes,
            watcher: Some((here, key)),
            args,
        });
        self.shard.stats.ran(call.id, 0, false);
        let exec = Exec {
            records: self.shard.keyspace.effects.records.len(),
            request,
            calls,
            next: 0,
            running: 0,
            out: Output::default(),
            held: None,
            words: host.is_watching().then(|| words.to_buf()),
            script: None,
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
        let table = self.table.clone();
        for (exec, call) in run
            .iter()
            .flat_map(|exec| exec.calls[exec.next..].iter().map(move |c| (exec, c)))
        {
            if matches!(call.command.run, Run::Script(what) if what.runs()) {
                return;
            }
            let all = exec.request.args.as_args();
            let args = all.range(call.from as usize, call.to as usize);
            host.show(self, link, key, table.entry(call.id), &args);
        }
        host.show(self, link, key, table.entry(exec_id), words);
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
            .any(|call| matches!(call.command.run, Run::Job(_)));
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

    fn is_in_the_way(&self, request: &Request, on: &HoldOn) -> bool {
        let args = request.args.as_args();
        match on {
            HoldOn::Everything | HoldOn::EverythingWith(_) => !self.shard.is_unheld(),
            HoldOn::Keys(keys) => self
                .shard
                .blocks(keys.iter().map(|&at| args.get(at as usize))),
        }
    }

    /// All holds of a transaction are granted, and whether nothing it watched has changed.
    pub(super) fn exec_held(
        &mut self,
        key: SessionKey,
        work: u64,
        clean: bool,
        link: &mut dyn Link,
        host: &mut dyn Host,
    ) {
        let Some(exec) = self.execs.get_mut(&key) else {
            return self.unwatch(key, link);
        };
        exec.held = Some(work);
        let (is_script, is_shown) = (exec.is_script(), exec.words.is_some());
        // A script is none of what the session watches for.
        if !is_script {
            self.unwatch(key, link);
        }
        if is_shown && let Some(exec) = self.execs.remove(&key) {
            self.show_whole(key, &exec, clean, link, host);
            self.execs.insert(key, exec);
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
    fn release_exec(&mut self, work: u64, link: &mut dyn Link) -> bool {
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
        if let Some(exec) = self.execs.remove(&key) {
            self.exec_reply(key, &exec, link);
            self.resume(key, link, host);
        }
    }

    /// The replies of commands that ran elsewhere.
    pub(super) fn exec_part(
        &mut self,
        key: SessionKey,
        reply: Result<Output, CmdError>,
        spent_ns: &[u64],
        link: &mut dyn Link,
        host: &mut dyn Host,
    ) {
        let Some(exec) = self.execs.get_mut(&key) else {
            return;
        };
        let running = std::mem::take(&mut exec.running);
        let mut ran = exec.next..exec.next + running;
        match (&mut exec.script, reply) {
            (Some(scripted), reply) => {
                scripted.answered(reply);
                ran.end = ran.start;
            }
            (None, Ok(out)) => exec.out.append(&out),
            (None, Err(error)) => exec.write_error(&error),
        }
        exec.next = ran.end;
        let slow_ns = self.limits.slow_ns;
        if spent_ns.iter().any(|spent_ns| *spent_ns >= slow_ns) {
            let (request, calls) = (exec.request.clone(), exec.calls[ran].to_vec());
            for (call, &spent_ns) in calls.iter().zip(spent_ns) {
                if spent_ns >= slow_ns {
                    let all = request.args.as_args();
                    let args = all.range(call.from as usize, call.to as usize);
                    host.slow(self, link, key, &args, spent_ns);
                }
            }
        }
        if self.exec_on(key, link, host) {
            self.resume(key, link, host);
        }
    }

    /// Runs a transaction as far as it goes; returns whether it is complete and replied to.
    fn exec_on(&mut self, key: SessionKey, link: &mut dyn Link, host: &mut dyn Host) -> bool {
        self.shard.start_clock();
        while let Some(exec) = self.execs.get(&key) {
            let Some(&call) = exec.calls.get(exec.next) else {
                break;
            };
            let request = exec.request.clone();
            let args = request.args.as_args();
            let args = args.range(call.from as usize, call.to as usize);
            let is_held = exec.held.is_some();
            let is_new = exec.script.is_none() && !exec.is_script();
            if is_new && let Some(error) = self.refuse_in_exec(key, call, &args, link, host) {
                self.shard.stats.note_error_text(&error.text());
                if let Some(exec) = self.execs.get_mut(&key) {
                    exec.write_error(&error);
                    exec.next += 1;
                }
                continue;
            }
            let went_on = match call.command.run {
                Run::Script(what) if what.runs() => self.exec_script(key, call, &args, link, host),
                Run::Client(_)
                | Run::Job(_)
                | Run::Transaction(_)
                | Run::Script(_)
                | Run::Container => self.exec_own(key, call, &args, link, host),
                _ if is_held => self.exec_elsewhere(key, call, &args, link),
                _ => self.exec_here(key, call, &args, link, host),
            };
            if !went_on {
                return false;
            }
        }
        self.exec_done(key, link)
    }

    /// A script goes on until it ends or waits. Returns whether it is done.
    fn exec_script(
        &mut self,
        key: SessionKey,
        call: HopCall,
        args: &Args,
        link: &mut dyn Link,
        host: &mut dyn Host,
    ) -> bool {
        let Some(exec) = self.execs.get_mut(&key) else {
            return false;
        };
        let held = exec.held;
        let begun = match exec.script.take() {
            Some(scripted) => Ok(scripted),
            None => {
                self.counters.commands += 1;
                self.show_script(key, args, None, link, host);
                let begun = self.begin_script(key, call, args, link.now_ms());
                let begun = begun.and_then(|scripted| scripted.admitted(key, host));
                begun.map(Box::new)
            }
        };
        let reply = match begun {
            Ok(mut scripted) => match self.run_script(key, &mut scripted, held, link, host) {
                Progress::Done => {
                    self.end_script(key, &scripted, link, host);
                    Ok(scripted)
                }
                progress @ (Progress::Waits | Progress::Paused) => {
                    self.exec_waits(key, scripted, progress);
                    return false;
                }
                Progress::Strayed => return self.exec_strayed(key, &scripted, held, link),
            },
            Err(error) => {
                self.shard.stats.ran(call.id, 0, true);
                self.shard.stats.note_error_text(&error.text());
                Err(error)
            }
        };
        let Some(exec) = self.execs.get_mut(&key) else {
            return false;
        };
        match reply {
            Ok(scripted) => exec.out.append(scripted.output()),
            Err(error) => exec.write_error(&error),
        }
        exec.next += 1;
        let is_shown = exec.words.is_some() && host.is_watching();
        if is_shown && let Some(exec) = self.execs.remove(&key) {
            self.show_whole(key, &exec, true, link, host);
            self.execs.insert(key, exec);
        }
        true
    }

    /// A script is suspended. It goes on under holds: others get their turn.
    fn exec_waits(&mut self, key: SessionKey, scripted: Box<Scripted>, progress: Progress) {
        let Some(mut exec) = self.execs.remove(&key) else {
            return;
        };
        self.hold_now(key, &mut exec, &scripted);
        exec.script = Some(scripted);
        match progress {
            Progress::Paused => self.paused.push(key),
            _ => exec.running = 1,
        }
        self.execs.insert(key, exec);
    }

    /// What has run on this shard without holds gets them.
    fn hold_now(&mut self, key: SessionKey, exec: &mut Exec, scripted: &Scripted) {
        if exec.held.is_some() {
            return;
        }
        let on = scripted.held_here();
        let request = exec.request.clone();
        let tx = self.coordinator.adopt(key, request.clone(), on.clone());
        let records = exec.records.min(self.shard.keyspace.effects.records.len());
        if self.shard.hold_now(tx, &request, &on, records) {
            self.coordinator.owes_settlement(tx);
        }
        exec.held = Some(tx);
    }

    /// A script that ran alone and without holds is suspended: [`Core::run_paused`] or
    /// [`Core::exec_part`] follows.
    pub(super) fn suspend(
        &mut self,
        key: SessionKey,
        (request, records): (Arc<Request>, usize),
        scripted: Box<Scripted>,
        progress: Progress,
    ) -> Next {
        let exec = Exec {
            records,
            ..Exec::of_script(request)
        };
        if let Some(session) = self.session_mut(key) {
            session.state = State::Awaiting;
        }
        self.execs.insert(key, Box::new(exec));
        self.exec_waits(key, scripted, progress);
        Next::Wait
    }

    /// Scripts that were suspended go on for a slice. Returns whether there are more.
    pub fn run_paused(&mut self, link: &mut dyn Link, host: &mut dyn Host) -> bool {
        for key in std::mem::take(&mut self.paused) {
            if self.exec_on(key, link, host) {
                self.resume(key, link, host);
            }
        }
        !self.paused.is_empty()
    }

    /// Whether scripts are to go on at once.
    pub fn has_paused(&self) -> bool {
        !self.paused.is_empty()
    }

    /// Takes a transaction back that waits for its holds. Returns whether it is a script alone.
    pub(super) fn give_up(&mut self, key: SessionKey) -> Option<bool> {
        self.execs.remove(&key).map(|exec| exec.is_script())
    }

    /// A script alone begins again with everything held. Returns whether it could not.
    fn exec_strayed(
        &mut self,
        key: SessionKey,
        scripted: &Scripted,
        held: Option<u64>,
        link: &mut dyn Link,
    ) -> bool {
        self.execs.remove(&key);
        if let Some(work) = held {
            self.release_exec(work, link);
        }
        match self.eval_again(key, scripted, link) {
            Ok(_) => false,
            Err(error) => {
                self.reply_error(key, &error, link);
                true
            }
        }
    }

    /// A command of the session itself or of the server. Returns whether it is done.
    fn exec_own(
        &mut self,
        key: SessionKey,
        call: HopCall,
        args: &Args,
        link: &mut dyn Link,
        host: &mut dyn Host,
    ) -> bool {
        // What comes before a PUBLISH is told before it.
        if let Some(held) = self.execs.get(&key).and_then(|exec| exec.held) {
            self.coordinator.tell_so_far(held);
            self.tell();
        }
        let mut out = Output::default();
        let mut later = false;
        self.shard.start_clock();
        let result = match call.command.run {
            Run::Client(run) => match self.session_mut(key) {
                Some(session) => {
                    let proto = session.client.proto;
                    run(&mut session.client, args, &mut Writer::new(&mut out, proto))
                }
                None => Ok(()),
            },
            Run::Job(job) if self.session(key).is_some() => {
                match host.perform(self, link, key, job, args, &mut out) {
                    Performed::Done => Ok(()),
                    Performed::Failed(error) => Err(error),
                    Performed::Later => {
                        later = true;
                        Ok(())
                    }
                }
            }
            Run::Script(what) => {
                let proto = self.session(key).map_or(Proto::Resp2, |s| s.client.proto);
                self.about_scripts(what, args, &mut Writer::new(&mut out, proto))
            }
            // UNWATCH: EXEC has forgotten what was watched.
            _ => Writer::new(&mut out, Default::default()).ok(),
        };
        self.counters.commands += 1;
        let spent_ns = self.shard.lap_ns();
        self.shard.stats.ran(call.id, spent_ns, result.is_err());
        if spent_ns >= self.limits.slow_ns {
            host.slow(self, link, key, args, spent_ns);
        }
        if let Err(error) = &result {
            self.shard.stats.note_error_text(&error.text());
        }
        let Some(exec) = self.execs.get_mut(&key) else {
            return false;
        };
        if later {
            exec.running = 1;
            return false;
        }
        match result {
            Ok(()) => exec.out.append(&out),
            Err(error) => exec.write_error(&error),
        }
        exec.next += 1;
        true
    }

    /// Commands on this shard, run in one go.
    fn exec_here(
        &mut self,
        key: SessionKey,
        call: HopCall,
        args: &Args,
        link: &mut dyn Link,
        host: &mut dyn Host,
    ) -> bool {
        let now_ms = link.now_ms();
        let client = self.session(key).map(|session| &session.client);
        let tracks = client.is_some_and(|client| client.tracks(call.command));
        let client = client.map(|client| (client.db, client.proto));
        let Some(exec) = self.execs.get_mut(&key) else {
            return false;
        };
        let request = &exec.request;
        let call = Call {
            command: call.command,
            id: call.id,
            args: *args,
            db: client.map_or(request.db, |(db, _)| db),
            proto: client.map_or(request.proto, |(_, proto)| proto),
            no_touch: request.no_touch,
            by: request.by,
            tracks,
        };
        let mut out = std::mem::take(&mut exec.out);
        exec.next += 1;
        let mark = out.mark();
        let spent_ns = self.shard.run(&call, now_ms, &mut out);
        self.counters.commands += 1;
        self.shard.stats.note_error(&out.bytes[mark.0..]);
        if let Some(exec) = self.execs.get_mut(&key) {
            exec.out = out;
        }
        if spent_ns >= self.limits.slow_ns {
            host.slow(self, link, key, args, spent_ns);
        }
        true
    }

    /// Commands under holds: those of one home together, one on several homes by itself.
    fn exec_elsewhere(
        &mut self,
        key: SessionKey,
        call: HopCall,
        args: &Args,
        link: &mut dyn Link,
    ) -> bool {
        let place = self.shard.place;
        let client = self.session(key).map(|session| &session.client);
        let db = client.map(|client| client.db);
        // Each is checked before it goes.
        let at_once = self.limits_of(key).map_or(usize::MAX, |_| 1);
        let tracking = client.and_then(|client| client.tracking.as_ref());
        let covers = tracking.is_some_and(|tracking| tracking.covers_reads());
        let tracks = |command: &Command| covers && command.is_read();
        let Some(exec) = self.execs.get_mut(&key) else {
            return false;
        };
        let db = db.unwrap_or(exec.request.db);
        let under = exec.held.unwrap_or_default();
        let all = exec.request.args.as_args();
        let home_of = |call: &HopCall| only_home(call, &all, place.shards);
        let mut post = |to, message| link.post(to, message);
        if let Some(home) = home_of(&call) {
            let together = |other: &&HopCall| home_of(other) == Some(home);
            let calls: Vec<HopCall> = exec.calls[exec.next..]
                .iter()
                .take_while(together)
                .take(at_once)
                .map(|call| HopCall {
                    tracks: tracks(call.command),
                    ..*call
                })
                .collect();
            exec.running = calls.len();
            self.counters.commands += calls.len() as u64;
            let request = exec.request.clone();
            self.coordinator
                .exec_calls(key, request, home, (calls, db), under, &mut post);
            return false;
        }
        self.counters.commands += 1;
        let tracks = tracks(call.command);
        let request = exec.request_of(HopCall { tracks, ..call }, args, db);
        exec.running = 1;
        let started = self.start_spread(key, request, under, link);
        if let Err(error) = started
            && let Some(exec) = self.execs.get_mut(&key)
        {
            exec.running = 0;
            exec.next += 1;
            exec.write_error(&error);
            return true;
        }
        false
    }

    /// Runs one command on several homes, under holds.
    fn start_spread(
        &mut self,
        key: SessionKey,
        request: Request,
        under: u64,
        link: &mut dyn Link,
    ) -> Result<(), CmdError> {
        let participants = spread(&request, self.shard.place.shards)?;
        let mut post = |to, message| link.post(to, message);
        let request = Arc::new(request);
        self.coordinator
            .exec_spread(key, request, participants, under, &mut post);
        Ok(())
    }

    /// Runs one command under holds that `outer`, a script, has. Its reply, if it ran at once: there
    /// is no need to wait for this shard.
    pub(super) fn start_held(
        &mut self,
        key: SessionKey,
        outer: HopCall,
        request: Request,
        under: u64,
        link: &mut dyn Link,
    ) -> Result<Option<Result<Output, CmdError>>, CmdError> {
        let call = request.call;
        let args = request.args.as_args();
        let here = self.shard.place.shard;
        let Some(home) = only_home(&call, &args, self.shard.place.shards) else {
            self.start_spread(key, request, under, link)?;
            return Ok(None);
        };
        let calls = (vec![call], request.db);
        let request = Arc::new(Request {
            call: outer,
            ..request
        });
        let mut sent = Vec::new();
        let mut post = |to, message| sent.push((to, message));
        self.coordinator
            .exec_calls(key, request, home, calls, under, &mut post);
        let mut reply = None;
        for (to, message) in sent {
            match message {
                Message::Finish(_) if to == here => reply = self.finish_here(message, link),
                message => link.post(to, message),
            }
        }
        Ok(reply)
    }

    /// Carries out a part of a transaction on this shard; its reply.
    fn finish_here(
        &mut self,
        message: Message,
        link: &mut dyn Link,
    ) -> Option<Result<Output, CmdError>> {
        let mut finished = None;
        self.shard.start_clock();
        self.shard
            .deliver(message, link.now_ms(), &mut |to, message| match message {
                Message::Finished {
                    tx,
                    from,
                    part,
                    told,
                } => finished = Some((tx, from, part, told)),
                message => link.post(to, message),
            });
        let (tx, from, part, told) = finished?;
        let mut post = |to, message| link.post(to, message);
        let answer = self.coordinator.finished(tx, from, part, told, &mut post);
        self.tell();
        match answer?.done {
            Done::Part { reply, .. } => Some(reply),
            _ => None,
        }
    }

    /// Everything has run: the reply goes out, others may go on. Returns false if the reply has to
    /// wait for the journals.
    fn exec_done(&mut self, key: SessionKey, link: &mut dyn Link) -> bool {
        let Some(exec) = self.execs.remove(&key) else {
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
                self.shard.keyspace.effects.wrap_transaction(exec.records);
                self.shard
                    .serve_waiting(now_ms, &mut |to, message| link.post(to, message));
            }
        }
        self.exec_reply(key, &exec, link);
        true
    }

    fn exec_reply(&mut self, key: SessionKey, exec: &Exec, link: &mut dyn Link) {
        if exec.is_script() {
            // Its errors were counted when it ended.
            return self.put_out(key, &exec.out, link);
        }
        let mut reply = Output::default();
        let header = Writer::new(&mut reply, exec.request.proto).array(exec.calls.len());
        debug_assert!(header.is_ok());
        reply.append(&exec.out);
        self.emit(key, &reply, link);
        self.forget_caching(key);
        let closing = self
            .session(key)
            .is_some_and(|session| session.client.closing);
        if closing {
            self.finish_session(key, link);
        }
    }
}

/// The home of a command's keys, if it is one and the command is about keys; `args` are those of the
/// whole transaction.
fn only_home(call: &HopCall, args: &Args, shards: usize) -> Option<usize> {
    let own = args.range(call.from as usize, call.to as usize);
    match call.command.run {
        _ if call.command.needs_everything(&own) => None,
        Run::Client(_) | Run::Job(_) | Run::Transaction(_) | Run::Script(_) | Run::Container => {
            None
        }
        _ => {
            let keys = keys::positions(call.command.keys, &own).unwrap_or_default();
            match homes(&keys, &own, shards) {
                Homes::One(home) => Some(home),
                Homes::Many(_) => None,
            }
        }
    }
}

/// The shards that a command which is not one home's affair runs on.
fn spread(request: &Request, shards: usize) -> Result<Vec<(usize, HoldOn)>, CmdError> {
    let args = &request.args.as_args();
    let command = request.call.command;
    Ok(match command.run {
        Run::At { shard, .. } => vec![(shard(args, shards)?, HoldOn::Everything)],
        Run::Shards { .. } => everything_of(shards),
        _ if command.needs_everything(args) => everything(request, shards),
        _ => holds_on(&exec_keys(command, args)?, args, shards),
    })
}

impl Exec {
    /// One of its commands, as a request of its own.
    fn request_of(&self, call: HopCall, args: &Args, db: u32) -> Request {
        let whole = &self.request;
        Request {
            call: HopCall {
                from: 0,
                to: args.len() as u32,
                ..call
            },
            args: args.to_buf(),
            db,
            databases: whole.databases,
            proto: whole.proto,
            now_ms: whole.now_ms,
            no_touch: whole.no_touch,
            by: whole.by,
            ticket: None,
            classes: whole.classes,
            watcher: None,
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
        Exec {
            request,
            calls: vec![call],
            next: 0,
            running: 0,
            out: Output::default(),
            held: None,
            records: 0,
            words: None,
            script: None,
        }
    }

    fn write_error(&mut self, error: &CmdError) {
        let written = Writer::new(&mut self.out, self.request.proto).error(error);
        debug_assert!(written.is_ok());
    }
}
