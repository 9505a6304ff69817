//! Where an admitted request runs: on the session itself, on this shard, in a hop to another, or on
//! several as the coordinator's work.

use std::sync::Arc;

use smallvec::SmallVec;

use super::blocking::Begun;
use super::core::Core;
use super::joint::Joint;
use super::link::{Host, Link, Performed};
use super::requests::Next;
use super::state::{Pending, Session, State};
use crate::command::block::Block;
use crate::command::errand::Errand;
use crate::command::{Command, Job, Run, client::ReplyMode, keys};
use crate::coordinator::{Homes, homes};
use crate::resp::{self, ArgBuf, Args, Output, Writer};
use crate::shard::message::{Hop, HopCall, KeyIndices, Message, Request, SessionKey};
use crate::shard::{Call, exec_keys};

/// Commands of one hop: enough to fill a turn, few enough that others get theirs.
pub(super) const HOP_CALLS_MAX: usize = 128;
/// Arguments of one hop, beyond which it leaves: bounds what waits in mailboxes.
pub(super) const HOP_BYTES_MAX: usize = 256 * 1024;

impl Core {
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
            Err(error) => return Some(self.fail(key, (call, args), &error, link, host)),
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
            Begun::Failed(error) => self.fail(key, (call, args), &error, link, host),
        })
    }

    pub(super) fn route(
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
            Run::Errand(errand) => return self.start_errand(key, errand, call, args, link, host),
            // A whole server of one shard is this one. What is held there is waited for as on several.
            _ if shards == 1
                && (!hopping && self.shard.is_unheld() || !spreads(&call, args, 1)) =>
            {
                Ok(Homes::One(here))
            }
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
            Err(error) => self.fail(key, (call, args), &error, link, host),
            Ok(Homes::Many(groups)) => self.join(key, call, args, groups, hopping, link),
            Ok(Homes::One(home))
                if home == here && !hopping && !self.is_blocked(key, &call, args) =>
            {
                self.run_here(key, call, args, link, host)
            }
            Ok(Homes::One(home)) if self.may_fan(key) => {
                self.fan_out(key, call, args, home, link, host)
            }
            Ok(Homes::One(home)) => self.add_to_hop(key, call, args, home),
        }
    }

    /// Whether a hold is in the way of a command whose keys are all here.
    #[inline]
    pub(super) fn is_blocked(&mut self, key: SessionKey, call: &HopCall, args: &Args) -> bool {
        if self.shard.keyspace.is_cutting() {
            let db = self.session(key).map_or(0, |session| session.client.db);
            self.shard.guard_call(call.command, db, args);
        }
        !self.shard.is_unheld() && self.is_held(call, args)
    }

    fn is_held(&self, call: &HopCall, args: &Args) -> bool {
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
        if let Run::Shards { .. } = call.command.run {
            return self.run_whole_here(key, call, args, link, host);
        }
        self.run_command(key, call, args, link, host);
        self.check_drain(key, link)
    }

    /// What would run on every shard, if there were others.
    fn run_whole_here(
        &mut self,
        key: SessionKey,
        call: HopCall,
        args: &Args,
        link: &mut dyn Link,
        host: &mut dyn Host,
    ) -> Next {
        let mark = link.out(key).mark();
        self.run_command(key, call, args, link, host);
        // A client that hides its replies has none to wait for.
        let is_done = link.out(key).bytes.get(mark.0) == Some(&b'+');
        if is_done && self.is_told_later(key, call.command, host) {
            link.out(key).rewind(mark);
            return Next::Wait;
        }
        self.check_drain(key, link)
    }

    /// Runs a command on this core and appends its reply.
    #[inline]
    pub(super) fn run_command(
        &mut self,
        key: SessionKey,
        call: HopCall,
        args: &Args,
        link: &mut dyn Link,
        host: &mut dyn Host,
    ) {
        let now_ms = link.now_ms();
        let here = self.shard.place.shard;
        let Some(session) = self.session_mut(key) else {
            return;
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
        let max_bytes = self.output_max_bytes(key);
        let out = link.out(key);
        out.limit(max_bytes);
        let mark = out.mark();
        let spent_ns = self.shard.run_alone(
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
        self.shard.stats.note_error(&out.bytes[mark.0..]);
        self.counters.commands += 1;
        self.note_own_sight(key);
        self.shard
            .serve_waiting(now_ms, &mut |to, message| link.post(to, message));
        if quiet {
            self.apply_reply_mode(key, mark, link);
        }
        if spent_ns >= self.limits.slow_ns {
            host.slow(self, link, key, args, spent_ns);
        }
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
        self.note_ran(key, (call, args), failed, link, host);
        if host.is_watching() {
            // Shown in the database that SELECT has selected. Redis: server.c call.
            let table = self.table.clone();
            host.show(self, link, key, table.entry(call.id), args);
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
                let is_wait = matches!(job, Job::Wait | Job::WaitAof);
                let waits = is_wait && args.get(1) != b"0";
                if let Some(session) = self.session_mut(key) {
                    session.state = match is_wait {
                        true => State::Blocked,
                        false => State::Awaiting,
                    };
                    session.job = Some(Pending {
                        id: Some(call.id),
                        spent_ns,
                        // CONFIG SET may change what is slow. Redis: server.c call, what waits is not noted.
                        args: (is_slow && !waits || job == Job::ConfigSet).then(|| args.to_buf()),
                        reply: None,
                    });
                }
                return Next::Wait;
            }
            Performed::Failed(error) => return self.reply_error(key, &error, link),
            Performed::Done => {
                // It may tell replicas of something itself: PUBLISH, FUNCTION LOAD.
                self.note_own_sight(key);
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

    /// Adds a command to the session's hop, if it goes to the same home.
    fn add_to_hop(&mut self, key: SessionKey, call: HopCall, args: &Args, home: usize) -> Next {
        let here = self.shard.place.shard;
        let max_bytes = self.output_max_bytes(key);
        let Some(session) = self.session_mut(key) else {
            return Next::Wait;
        };
        if session.joint.is_some() {
            return Next::Again;
        }
        session.last_command = Some(call.id);
        let mut hop = session.hop.take().unwrap_or_default();
        if !hop.calls.is_empty() && session.hop_home != home {
            session.hop = Some(hop);
            return Next::Again;
        }
        session.hop_home = home;
        address(&mut hop, session, here, max_bytes);
        hop.push(call, args);
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
    pub(super) fn send_hop(&mut self, key: SessionKey, link: &mut dyn Link) {
        let Some(session) = self.session_mut(key) else {
            return;
        };
        if let Some(joint) = session.joint.take() {
            let Joint {
                call,
                args,
                ends,
                groups,
            } = *joint;
            self.start_request(key, (call, args, ends), Some(groups), link);
        } else if session
            .hop
            .as_ref()
            .is_some_and(|hop| !hop.calls.is_empty())
            && let Some(hop) = session.hop.take()
        {
            session.state = State::Hopping;
            link.post(session.hop_home, Message::Hop(hop));
            self.hops_away += 1;
            // A pipeline that visits one home after another is answered at its end.
            link.cork(key, true);
        } else if let Some(fan) = &mut session.fan
            && !fan.is_empty()
        {
            session.state = State::Hopping;
            self.hops_away += fan.send(&mut |to, message| link.post(to, message));
            link.cork(key, true);
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
        host: &mut dyn Host,
    ) -> Next {
        match (errand.check)(args) {
            Ok(()) => {
                let groups = groups(call.command, args, self.shard.place.shards);
                self.start_work(key, call, args, Some(groups), link)
            }
            Err(error) => self.fail(key, (call, args), &error, link, host),
        }
    }

    /// Hands a command on several homes, or on every shard, to the coordinator.
    pub(super) fn start_work(
        &mut self,
        key: SessionKey,
        call: HopCall,
        args: &Args,
        groups: Option<SmallVec<[(usize, KeyIndices); 4]>>,
        link: &mut dyn Link,
    ) -> Next {
        let Some(session) = self.session_mut(key) else {
            return Next::Wait;
        };
        session.last_command = Some(call.id);
        self.counters.commands += 1;
        let whole = (call, args.to_buf(), SmallVec::new());
        self.start_request(key, whole, groups, link);
        Next::Wait
    }

    /// The same for one command, or several with the places where the arguments of each end.
    fn start_request(
        &mut self,
        key: SessionKey,
        (call, args, ends): (HopCall, ArgBuf, SmallVec<[u32; 4]>),
        groups: Option<SmallVec<[(usize, KeyIndices); 4]>>,
        link: &mut dyn Link,
    ) {
        let now_ms = link.now_ms();
        let by = (self.shard.place.shard, key);
        let classes = self.shard.keyspace.effects.classes;
        self.note_work_begun(key);
        let Some(session) = self.session_mut(key) else {
            return;
        };
        session.state = State::Awaiting;
        let mut request = Request::new(call, args, &session.client, by, now_ms, classes);
        request.ends = ends;
        let request = Arc::new(request);
        link.cork(key, true);
        let mut post = |to, message| link.post(to, message);
        match groups {
            Some(groups) => self.coordinator.start_keys(key, request, groups, &mut post),
            None => self.coordinator.start_everything(key, request, &mut post),
        }
    }
}

/// Tells a hop whose commands it is going to carry.
/// `max_bytes`: what its replies may take, see [`Core::output_max_bytes`].
pub(super) fn address(hop: &mut Hop, session: &Session, origin: usize, max_bytes: usize) {
    hop.out.limit(max_bytes);
    hop.session = session.key;
    hop.origin = origin;
    hop.db = session.client.db;
    hop.proto = session.client.proto;
    hop.no_touch = session.client.no_touch;
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

/// Argument index of the key that decides where a `Run::Key` command runs.
fn first_key(command: &Command) -> usize {
    match command.keys.first().map(|spec| spec.begin) {
        Some(keys::Begin::Index(index)) => index,
        _ => 1,
    }
}
