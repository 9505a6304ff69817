//! Clients that wait for keys: how a wait begins, is tried again, and ends.
//!
//! A wait ends exactly once: with a reply from the home that served it, with a timeout, with CLIENT
//! UNBLOCK or with the connection. Whoever ends it takes its claim first.

use std::sync::Arc;

use smallvec::SmallVec;

use super::core::Core;
use super::link::{Host, Link};
use super::state::{Session, State};
use crate::command::block::{Patience, ends_ms};
use crate::command::keys;
use crate::coordinator::{Homes, homes};
use crate::resp::{Args, CmdError, CmdResult, Output, Writer};
use crate::shard::message::{HopCall, KeyIndices, Message, Request, SessionKey};
use crate::shard::waiting::{Claim, Ticket};

/// Redis: blocked.c disconnectAllBlockedClients.
pub const UNBLOCKED: CmdError = CmdError::Text(
    "UNBLOCKED force unblock from blocking operation, instance state changed (master -> replica?)",
);

/// Redis: networking.c clientCommand.
pub const UNBLOCKED_BY_CLIENT: CmdError =
    CmdError::Text("UNBLOCKED client unblocked via CLIENT UNBLOCK");

/// A client's wait.
#[derive(Debug)]
pub struct Wait {
    pub request: Arc<Request>,
    /// When it gives up, unix milliseconds.
    pub until_ms: Option<i64>,
    /// Shards on which it stands in queues.
    homes: SmallVec<[usize; 4]>,
}

impl Wait {
    fn ticket(&self) -> Option<&Ticket> {
        self.request.ticket.as_ref()
    }

    fn is(&self, id: u64) -> bool {
        self.ticket().is_some_and(|ticket| ticket.id == id)
    }

    /// Takes the right to end it.
    fn claim(&self) -> bool {
        self.ticket().is_some_and(|ticket| ticket.claim.take())
    }
}

/// What became of a command that may wait.
pub(super) enum Begun {
    /// It was served at once.
    Served,
    Waits,
    Failed(CmdError),
}

impl Core {
    /// Runs a command that waits if nothing can be served.
    pub(super) fn begin_wait(
        &mut self,
        key: SessionKey,
        call: HopCall,
        patience: Patience,
        args: &Args,
        link: &mut dyn Link,
    ) -> Begun {
        let now_ms = link.now_ms();
        let here = self.shard.place.shard;
        let homes = match crate::shard::exec_keys(call.command, args) {
            Ok(keys) => homes(&keys, args, self.shard.place.shards),
            Err(error) => return Begun::Failed(error),
        };
        self.next_wait += 1;
        let ticket = Ticket {
            session: key,
            origin: here,
            id: self.next_wait,
            claim: Arc::new(Claim::taken()),
        };
        let classes = self.shard.keyspace.effects.classes;
        let Some(session) = self.session_mut(key) else {
            return Begun::Waits;
        };
        let whole = HopCall {
            from: 0,
            to: args.len() as u32,
            ..call
        };
        let (words, by) = (args.to_buf(), (here, key));
        let request = Arc::new(Request {
            ticket: Some(ticket),
            ..Request::new(whole, words, &session.client, by, now_ms, classes)
        });
        session.last_command = Some(call.id);
        self.counters.commands += 1;
        let until_ms = match patience {
            Patience::Forever => None,
            Patience::Ms(ms) => Some(ends_ms(now_ms, ms)),
        };
        self.start_wait(key, request, until_ms, homes, link)
    }

    fn start_wait(
        &mut self,
        key: SessionKey,
        request: Arc<Request>,
        until_ms: Option<i64>,
        homes: Homes,
        link: &mut dyn Link,
    ) -> Begun {
        let now_ms = link.now_ms();
        let args = request.args.as_args();
        let groups = match homes {
            Homes::One(home) => {
                let positions = keys::positions(request.call.command.keys, &args);
                let indices = positions.unwrap_or_default();
                let indices = indices.into_iter().map(|at| at as u32).collect();
                SmallVec::from_iter([(home, indices)])
            }
            Homes::Many(groups) => groups,
        };
        let is_here = matches!(&groups[..], [(home, _)] if *home == self.shard.place.shard);
        let keys = || groups[0].1.iter().map(|&at| args.get(at as usize));
        if is_here {
            self.shard.guard(request.call.command, request.db, keys());
        }
        if is_here && !self.shard.blocks(keys()) {
            let mut out = Output::default();
            if !self.shard.run_or_wait(&request, now_ms, &mut out) {
                self.shard
                    .serve_waiting(now_ms, &mut |to, message| link.post(to, message));
                self.note_own_sight(key);
                self.emit(key, &out, link);
                return Begun::Served;
            }
            self.note_wait(key, request.clone(), until_ms, &groups, State::Blocked);
            return Begun::Waits;
        }
        self.note_wait(key, request.clone(), until_ms, &groups, State::Awaiting);
        self.note_work_begun(key);
        let mut post = |to, message| link.post(to, message);
        self.coordinator.start_keys(key, request, groups, &mut post);
        Begun::Waits
    }

    fn note_wait(
        &mut self,
        key: SessionKey,
        request: Arc<Request>,
        until_ms: Option<i64>,
        groups: &[(usize, KeyIndices)],
        state: State,
    ) {
        if let Some(until_ms) = until_ms {
            self.timeouts.insert((until_ms, key));
        }
        if let Some(session) = self.session_mut(key) {
            session.state = state;
            session.wait = Some(Wait {
                request,
                until_ms,
                homes: groups.iter().map(|(home, _)| *home).collect(),
            });
        }
    }

    /// The work that was to serve a command found nothing: the client waits.
    pub(super) fn waits(
        &mut self,
        key: SessionKey,
        request: &Arc<Request>,
        link: &mut dyn Link,
        host: &mut dyn Host,
    ) {
        let now_ms = link.now_ms();
        let Some(ticket) = &request.ticket else {
            return;
        };
        if !self.waits_for(key, ticket.id) {
            // Served by one home before the last had it in its queue; or the connection is gone.
            return self.forget_everywhere(request, link);
        }
        let Some(session) = self.session_mut(key) else {
            return;
        };
        session.state = State::Blocked;
        let is_write = request.call.command.is_write();
        if is_write && self.shard.keyspace.is_replica() && host.refuses_writes(key).is_some() {
            return self.send_away(key, link, host);
        }
        // What it may do may have changed while its homes looked.
        self.end_forbidden_wait(key, request, link, host);
        let Some(wait) = self.session(key).and_then(|session| session.wait.as_ref()) else {
            return;
        };
        // Its time may have come while work on it was going on.
        if let Some(until_ms) = wait.until_ms.filter(|&until_ms| until_ms <= now_ms) {
            self.timeouts.insert((until_ms, key));
            self.timed_out(now_ms, link, host);
        }
    }

    /// Takes a request that no session waits for out of all queues.
    fn forget_everywhere(&self, request: &Arc<Request>, link: &mut dyn Link) {
        let args = request.args.as_args();
        let shards = self.shard.place.shards;
        let homes = crate::shard::waited_keys(request).map(|at| keys::home(args.get(at), shards));
        let mut homes: SmallVec<[usize; 4]> = homes.collect();
        homes.sort_unstable();
        homes.dedup();
        for home in homes {
            link.post(home, Message::Forget(request.clone()));
        }
    }

    /// A home served a waiting client.
    pub(super) fn served(
        &mut self,
        key: SessionKey,
        wait: u64,
        (out, spent_ns): (&Output, u64),
        link: &mut dyn Link,
        host: &mut dyn Host,
    ) {
        if self.waits_for(key, wait) {
            self.end_wait(key, (out, Some(spent_ns)), link, host);
        }
    }

    fn waits_for(&self, key: SessionKey, id: u64) -> bool {
        let wait = self.session(key).and_then(|session| session.wait.as_ref());
        wait.is_some_and(|wait| wait.is(id))
    }

    /// A key that a client waits for changed, but serving it takes other homes as well. The claim
    /// has been taken for this attempt.
    pub(super) fn try_again(&mut self, key: SessionKey, wait: u64, link: &mut dyn Link) {
        if !self.waits_for(key, wait) {
            return;
        }
        let shards = self.shard.place.shards;
        let Some(session) = self.session_mut(key) else {
            return;
        };
        let Some(wait) = &session.wait else { return };
        let request = wait.request.clone();
        let args = request.args.as_args();
        let positions = keys::positions(request.call.command.keys, &args).unwrap_or_default();
        let groups = match homes(&positions, &args, shards) {
            Homes::Many(groups) => groups,
            Homes::One(home) => {
                let indices = positions.iter().map(|&at| at as u32).collect();
                SmallVec::from_iter([(home, indices)])
            }
        };
        let mut post = |to, message| link.post(to, message);
        self.coordinator.retry(key, request, groups, &mut post);
    }

    /// An attempt to serve a waiting client is over.
    pub(super) fn tried(
        &mut self,
        key: SessionKey,
        request: &Arc<Request>,
        reply: Option<Result<Output, CmdError>>,
        link: &mut dyn Link,
        host: &mut dyn Host,
    ) {
        let Some(ticket) = &request.ticket else {
            return;
        };
        let Some(reply) = reply else {
            return self.waits(key, request, link, host);
        };
        if !self.waits_for(key, ticket.id) {
            return;
        }
        let out = reply.unwrap_or_else(|error| reply_of(request, |out| out.error(&error)));
        self.end_wait(key, (&out, Some(0)), link, host);
    }

    /// Replies to a client whose wait is over, and lets it go on. Noted as slow is only what served it, not
    /// that it waited in vain.
    fn end_wait(
        &mut self,
        key: SessionKey,
        (out, spent_ns): (&Output, Option<u64>),
        link: &mut dyn Link,
        host: &mut dyn Host,
    ) {
        let wait = self.session(key).and_then(|session| session.wait.as_ref());
        let request = wait.map(|wait| wait.request.clone());
        self.leave_queues(key, link);
        if let Some(request) = request {
            if out.bytes.first() == Some(&b'-') {
                self.shard.stats.failed(request.call.id);
            }
            // The wait itself does not count.
            if let Some(spent_ns) = spent_ns.filter(|spent_ns| *spent_ns >= self.limits.slow_ns) {
                host.slow(self, link, key, &request.args.as_args(), spent_ns);
            }
        }
        self.emit(key, out, link);
        self.resume(key, link, host);
    }

    /// Takes a session's wait out of all queues.
    fn leave_queues(&mut self, key: SessionKey, link: &mut dyn Link) {
        let Some(wait) = self
            .session_mut(key)
            .and_then(|session| session.wait.take())
        else {
            return;
        };
        if let Some(until_ms) = wait.until_ms {
            self.timeouts.remove(&(until_ms, key));
        }
        for home in wait.homes {
            link.post(home, Message::Forget(wait.request.clone()));
        }
    }

    /// A command that might have waited was served at once.
    pub(super) fn forget_wait(&mut self, key: SessionKey) {
        let wait = self
            .session_mut(key)
            .and_then(|session| session.wait.take());
        if let Some(until_ms) = wait.and_then(|wait| wait.until_ms) {
            self.timeouts.remove(&(until_ms, key));
        }
    }

    /// A connection is gone: nobody waits any more.
    pub(super) fn abandon_wait(&mut self, key: SessionKey, link: &mut dyn Link) {
        if let Some(wait) = self.session(key).and_then(|session| session.wait.as_ref()) {
            // If somebody serves it at this moment, what it is served is lost with the connection.
            let _claimed = wait.claim();
            self.leave_queues(key, link);
        }
    }

    /// When the next client gives up waiting, unix milliseconds.
    pub fn next_timeout_ms(&self) -> Option<i64> {
        self.timeouts.first().map(|&(at_ms, _)| at_ms)
    }

    /// Ends the waits whose time is up.
    pub fn timed_out(&mut self, now_ms: i64, link: &mut dyn Link, host: &mut dyn Host) {
        while let Some(&(at_ms, key)) = self.timeouts.first() {
            if at_ms > now_ms {
                return;
            }
            self.timeouts.pop_first();
            // While its homes still look for the first time, what they find comes before the end: then
            // the time is looked at again.
            let session = self.session(key);
            let session = session.filter(|session| session.state != State::Awaiting);
            let wait = session.and_then(|session| session.wait.as_ref());
            let Some(wait) = wait.filter(|wait| wait.until_ms == Some(at_ms)) else {
                continue;
            };
            // If the claim is gone, a reply is under way, or an attempt whose end looks here again.
            if wait.claim() {
                let out = reply_of(&wait.request, |out| out.null_array());
                self.end_wait(key, (&out, None), link, host);
            }
        }
    }

    /// CLIENT UNBLOCK: ends a client's wait as if its time were up, or with an error. Returns whether
    /// it waited.
    pub fn unblock(
        &mut self,
        client_id: u64,
        with_error: bool,
        link: &mut dyn Link,
        host: &mut dyn Host,
    ) -> bool {
        let mut sessions = self.sessions();
        let Some(session) = sessions.find(|session| session.client.id == client_id) else {
            return false;
        };
        let key = session.key;
        let Some(wait) = session.wait.as_ref().filter(|wait| wait.claim()) else {
            return false;
        };
        let out = reply_of(&wait.request, |out| {
            if with_error {
                out.error(&UNBLOCKED_BY_CLIENT)
            } else {
                out.null_array()
            }
        });
        drop(sessions);
        self.end_wait(key, (&out, None), link, host);
        true
    }

    /// This server is a replica from now on: clients that wait for keys are told, and go. Redis:
    /// blocked.c disconnectAllBlockedClients.
    pub fn send_waiting_away(&mut self, link: &mut dyn Link, host: &mut dyn Host) {
        let waiting = |session: &&Session| session.wait.is_some();
        let waiting = self.sessions().filter(waiting).map(|session| session.key);
        for key in waiting.collect::<Vec<_>>() {
            self.send_away(key, link, host);
        }
    }

    /// Ends a client's wait and its connection; what it has sent since is not run.
    fn send_away(&mut self, key: SessionKey, link: &mut dyn Link, host: &mut dyn Host) {
        if let Some(session) = self.session_mut(key) {
            session.input = Vec::new();
        }
        self.end_wait_with(key, &UNBLOCKED, link, host);
        if self
            .session(key)
            .is_some_and(|session| session.wait.is_none())
        {
            self.finish_session(key, link);
        }
    }

    /// Ends a client's wait with an error, unless a reply is under way.
    pub(super) fn end_wait_with(
        &mut self,
        key: SessionKey,
        error: &CmdError,
        link: &mut dyn Link,
        host: &mut dyn Host,
    ) {
        let wait = self.session(key).and_then(|session| session.wait.as_ref());
        if let Some(wait) = wait.filter(|wait| wait.claim()) {
            let out = reply_of(&wait.request, |out| out.error(error));
            self.end_wait(key, (&out, None), link, host);
        }
    }

    /// Number of this core's clients that will give up waiting.
    pub fn timeout_count(&self) -> usize {
        self.timeouts.len()
    }

    /// Number of this core's clients that wait for keys, for replicas or for a disk. A client is one of
    /// them once all its homes have it in their queues: who sees that it waits comes behind it.
    pub fn blocked_count(&self) -> usize {
        // Redis: blocked.c counts those whom CLIENT PAUSE holds back as well.
        let waits = |its: &&Session| matches!(its.state, State::Blocked | State::Postponed);
        self.sessions().filter(waits).count()
    }
}

fn reply_of(request: &Request, write: impl FnOnce(&mut Writer) -> CmdResult) -> Output {
    let mut out = Output::default();
    let written = write(&mut Writer::new(&mut out, request.proto));
    debug_assert!(written.is_ok());
    out
}
