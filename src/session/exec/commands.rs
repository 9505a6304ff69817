//! The commands of a transaction, one after the other: on this shard, on another, or the session's own.

use std::sync::Arc;

use crate::command::{Client, Command, Run, keys};
use crate::coordinator::{Homes, everything, everything_of, holds_on, homes};
use crate::resp::{Args, CmdError, CmdResult, Output, Proto, Writer};
use crate::session::core::Core;
use crate::session::link::{Host, Link, Performed};
use crate::shard::TxId;
use crate::shard::message::{Calls, HoldOn, HopCall, Request, SessionKey};
use crate::shard::{Call, exec_keys};

impl Core {
    /// The replies of commands that ran elsewhere.
    pub(in crate::session) fn exec_part(
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
        let recorded = self.shard.keyspace.effects.records.len();
        exec.records.get_or_insert(recorded);
        let running = std::mem::take(&mut exec.running);
        // Of commands that went together, those with many bytes of replies may have come back first.
        let ran_count = spent_ns.len().min(running);
        let mut ran = exec.next..exec.next + ran_count;
        let mut asked = None;
        match (&mut exec.script, reply) {
            (Some(scripted), reply) => {
                scripted.answered(reply);
                ran.end = ran.start;
                asked = spent_ns
                    .first()
                    .map(|&spent_ns| (scripted.take_asked(), spent_ns));
            }
            (None, Ok(mut out)) => exec.out.take_over(&mut out),
            (None, Err(error)) => exec.write_error(&error),
        }
        exec.next = ran.end;
        // These are counted when they go again.
        self.counters.commands -= (running - ran_count) as u64;
        let slow_ns = self.limits.slow_ns;
        if let Some((asked, spent_ns)) = asked {
            self.note_asked(&asked.as_args(), Some(spent_ns), link, host);
        } else if spent_ns.iter().any(|spent_ns| *spent_ns >= slow_ns) {
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
    pub(super) fn exec_on(
        &mut self,
        key: SessionKey,
        link: &mut dyn Link,
        host: &mut dyn Host,
    ) -> bool {
        self.shard.start_clock();
        let max_bytes = self.exec_max_bytes(key);
        while let Some(exec) = self.execs.get_mut(&key) {
            exec.drop_excess(max_bytes);
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
                _ => {
                    self.note_flush(key, call.command, &args);
                    match is_held {
                        true => self.exec_elsewhere(key, call, &args, link, host),
                        false => self.exec_here(key, call, &args, link, host),
                    }
                }
            };
            if !went_on {
                return false;
            }
        }
        self.exec_done(key, link, host)
    }

    /// What the replies of a transaction may take: nothing, if nobody is there to have them.
    fn exec_max_bytes(&self, key: SessionKey) -> usize {
        match self.session(key) {
            None if self.visitor(key).is_none() => 0,
            _ => self.output_max_bytes(key),
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
            Run::Client(run) => self.exec_of_client(key, run, args, &mut out),
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
        if later {
            self.note_work_begun(key);
        } else if spent_ns >= self.limits.slow_ns {
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
            if exec.held.is_none()
                && let Some(from) = exec.records.take()
            {
                // What others do meanwhile is none of it.
                self.shard.keyspace.effects.wrap_transaction(from);
            }
            return false;
        }
        match result {
            Ok(()) => exec.out.append(&out),
            Err(error) => exec.write_error(&error),
        }
        exec.next += 1;
        true
    }

    /// A command that edits the connection's state. If that is gone, the database it selects counts still:
    /// what comes behind it is carried out there.
    fn exec_of_client(
        &mut self,
        key: SessionKey,
        run: fn(&mut Client, &Args, &mut Writer) -> CmdResult,
        args: &Args,
        out: &mut Output,
    ) -> CmdResult {
        let Some(exec) = self.execs.get(&key) else {
            return Ok(());
        };
        let mut left = exec.client();
        let session = self.session_mut(key);
        let client = session.map_or(&mut left, |session| &mut session.client);
        let proto = client.proto;
        let result = run(client, args, &mut Writer::new(out, proto));
        let db = client.db;
        if let Some(exec) = self.execs.get_mut(&key) {
            exec.db = db;
        }
        result
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
        let proto = client.map(|client| client.proto);
        let Some(exec) = self.execs.get_mut(&key) else {
            return false;
        };
        let request = &exec.request;
        let call = Call {
            command: call.command,
            id: call.id,
            args: *args,
            db: exec.db,
            proto: proto.unwrap_or(request.proto),
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
        host: &mut dyn Host,
    ) -> bool {
        let place = self.shard.place;
        self.note_work_begun(key);
        let client = self.session(key).map(|session| &session.client);
        // Each is checked before it goes.
        let at_once = self.limits_of(key).map_or(usize::MAX, |_| 1);
        let max_bytes = self.exec_max_bytes(key);
        // What was queued may have changed it.
        let proto = client.map(|client| client.proto);
        let tracking = client.and_then(|client| client.tracking.as_ref());
        let covers = tracking.is_some_and(|tracking| tracking.covers_reads());
        let tracks = |command: &Command| covers && command.is_read();
        let Some(exec) = self.execs.get_mut(&key) else {
            return false;
        };
        let db = exec.db;
        let proto = proto.unwrap_or(exec.request.proto);
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
            let max_bytes = max_bytes.saturating_sub(exec.out.len());
            let calls = Calls {
                calls,
                db,
                proto,
                max_bytes,
            };
            self.coordinator
                .exec_calls(key, request, home, calls, under, &mut post);
            return false;
        }
        self.counters.commands += 1;
        let tracks = tracks(call.command);
        let request = exec.request_of(HopCall { tracks, ..call }, args, (db, proto));
        exec.running = 1;
        let Err(error) = self.start_spread(key, request, under, link) else {
            return false;
        };
        self.note_ran(key, (call, args), true, link, host);
        if let Some(exec) = self.execs.get_mut(&key) {
            exec.running = 0;
            exec.next += 1;
            exec.write_error(&error);
        }
        true
    }

    /// Runs one command on several homes, under holds.
    fn start_spread(
        &mut self,
        key: SessionKey,
        request: Request,
        under: TxId,
        link: &mut dyn Link,
    ) -> Result<(), CmdError> {
        let participants = spread(&request, self.shard.place.shards)?;
        let mut post = |to, message| link.post(to, message);
        let request = Arc::new(request);
        self.coordinator
            .exec_spread(key, request, participants, under, &mut post);
        Ok(())
    }

    /// Runs one command on other shards, under holds that `outer`, a script, has. `home`: if its keys have
    /// only one.
    pub(in crate::session) fn start_held(
        &mut self,
        key: SessionKey,
        outer: HopCall,
        request: Request,
        home: Option<usize>,
        under: TxId,
        link: &mut dyn Link,
    ) -> Result<(), CmdError> {
        let call = request.call;
        let Some(home) = home else {
            return self.start_spread(key, request, under, link);
        };
        // Its reply is for the script: no client's limit holds for it.
        let calls = Calls {
            calls: vec![call],
            db: request.db,
            proto: request.proto,
            max_bytes: usize::MAX,
        };
        let request = Arc::new(Request {
            call: outer,
            ..request
        });
        let mut post = |to, message| link.post(to, message);
        self.coordinator
            .exec_calls(key, request, home, calls, under, &mut post);
        Ok(())
    }
}

/// The home of a command's keys, if it is one and the command is about keys; `args` are those of the
/// whole transaction.
pub(in crate::session) fn only_home(call: &HopCall, args: &Args, shards: usize) -> Option<usize> {
    let own = args.range(call.from as usize, call.to as usize);
    match call.command.run {
        // Everything is held for it, but it runs in one place.
        Run::At { shard, .. } => shard(&own, shards).ok().flatten(),
        _ if call.command.needs_everything(&own) => None,
        // It leaves this server from where its transaction is.
        Run::Errand(_) => None,
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
        Run::At { shard, .. } => {
            shard(args, shards)?;
            everything_of(shards)
        }
        Run::Shards { .. } => everything_of(shards),
        _ if command.needs_everything(args) => everything(request, shards),
        _ => holds_on(&exec_keys(command, args)?, args, shards),
    })
}
