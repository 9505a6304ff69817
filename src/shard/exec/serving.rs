//! Clients that wait for keys: who joins the queues, and who is served when a key has changed.

use std::sync::Arc;

use super::super::message::{KeyIndices, Message, Request};
use super::super::run::run_deciding;
use super::super::waiting::{Place, Ticket, Waiter, Waiting};
use super::{Post, Shard, call_of, tx_of};
use crate::command::block::Serve;
use crate::command::{Run, keys};
use crate::keyspace::Tx;
use crate::resp::{Output, Writer};

impl Shard {
    /// Runs a command that waits if nothing can be served, all of whose keys are here; appends its
    /// reply unless it waits, and returns whether it does.
    pub fn run_or_wait(&mut self, request: &Arc<Request>, now_ms: i64, out: &mut Output) -> bool {
        let mark = out.mark();
        self.start_clock();
        let args = request.args.as_args();
        let call = call_of(request, args);
        let records = self.keyspace.effects.records.len();
        self.keyspace.effects.tracking.set_author(Some(call.by));
        let mut tx = tx_of(&mut self.keyspace, request, now_ms);
        let result = run_deciding(&mut tx, &call, &mut Writer::new(out, request.proto));
        let waits = matches!(result, Ok(true));
        if waits {
            out.rewind(mark);
            let keys = waited_keys(request).map(|at| at as u32).collect();
            register(&mut tx, &mut self.waiting, request, &keys);
            if let Some(ticket) = &request.ticket {
                ticket.claim.give_back();
            }
        }
        tx.finish();
        self.keyspace.effects.tracking.set_author(None);
        self.keyspace.effects.wrap_transaction(records);
        if call.tracks {
            self.remember(call.by, waited_keys(request).map(|at| args.get(at)));
        }
        let failed = result.is_err();
        if let Err(error) = result {
            out.rewind(mark);
            let written = Writer::new(out, request.proto).error(&error);
            debug_assert!(written.is_ok());
        }
        let spent_ns = (self.clock)().saturating_sub(self.begun_ns);
        self.stats.ran(request.call.id, spent_ns, failed);
        waits
    }

    /// Number of places that clients hold in queues of this shard's keys.
    pub fn waiting_count(&self) -> usize {
        self.waiting.len()
    }

    /// Serves clients that wait for keys which have changed, in the order of the changes. Called
    /// after each command, so that a waiting client comes before any later one.
    #[inline]
    pub fn serve_waiting(&mut self, now_ms: i64, post: Post) {
        if !self.waiting.is_empty() {
            self.serve_ready(now_ms, post);
        }
    }

    /// When clients that wait are to be looked at though nothing has changed, unix milliseconds.
    pub fn next_alarm_ms(&self) -> Option<i64> {
        self.waiting.next_alarm_ms()
    }

    /// The same, and those for whom time alone has brought something. To be called while keys may
    /// change.
    pub fn serve_in_time(&mut self, now_ms: i64, post: Post) {
        self.waiting.alarm(now_ms);
        self.serve_waiting(now_ms, post);
    }

    fn serve_ready(&mut self, now_ms: i64, post: Post) {
        loop {
            let mut ready = std::mem::take(&mut self.waiting.deferred);
            ready.extend(self.keyspace.effects.take_ready());
            let (held, free): (Vec<_>, Vec<_>) = ready
                .into_iter()
                .partition(|(_, key)| self.holds.is_held(key));
            // Keys under a hold are looked at again when it is released.
            self.waiting.deferred = held;
            if free.is_empty() {
                return;
            }
            for place in free {
                self.serve_key(&place, now_ms, post);
            }
            if self.keyspace.effects.is_nothing_ready() {
                return;
            }
        }
    }

    /// Serves the clients in a key's queue as far as it goes.
    fn serve_key(&mut self, place: &Place, now_ms: i64, post: Post) {
        let mut index = 0;
        while let Some(waiter) = self.waiting.get(place, index) {
            if waiter.is_trying {
                return;
            }
            let waiter = waiter.clone();
            let Ticket {
                session,
                origin,
                id: wait,
                claim,
            } = &waiter.ticket;
            let (session, wait) = (*session, *wait);
            if !self.could_serve(&waiter, now_ms) || !claim.take() {
                index += 1;
                continue;
            }
            if self.needs_others(&waiter.request) {
                self.waiting.set_trying(place, index);
                post(*origin, Message::Ready { session, wait });
                return;
            }
            let begun_ns = (self.clock)();
            match self.serve(&waiter, now_ms) {
                None => {
                    claim.give_back();
                    self.reset_alarm(place, index, &waiter, now_ms);
                    index += 1;
                }
                Some(out) => {
                    self.leave_queues(&waiter.request);
                    let served = Message::Served {
                        session,
                        wait,
                        out: Box::new(out),
                        spent_ns: (self.clock)().saturating_sub(begun_ns),
                        sight: self.sight(),
                    };
                    post(*origin, served);
                }
            }
        }
    }

    /// A key has nothing for a client yet: says when it may, if nothing changes.
    fn reset_alarm(&mut self, place: &Place, index: usize, waiter: &Waiter, now_ms: i64) {
        let block = waiter.request.call.command.block;
        let Some(alarm_ms) = block.and_then(|block| block.alarm_ms) else {
            return;
        };
        let mut tx = tx_of(&mut self.keyspace, &waiter.request, now_ms);
        let at_ms = alarm_ms(&mut tx, &waiter.request.args.as_args(), waiter.at);
        tx.finish();
        self.waiting.set_alarm(place, index, at_ms);
    }

    /// Whether the key that changed is of the type that serves.
    fn could_serve(&mut self, waiter: &Waiter, now_ms: i64) -> bool {
        let request = &waiter.request;
        let Some(block) = request.call.command.block else {
            return false;
        };
        if matches!(block.serve, Serve::Key(_)) {
            return true;
        }
        let args = request.args.as_args();
        let mut tx = self.keyspace.tx(request.db, now_ms, false);
        let kind = tx.kind(args.get(waiter.at));
        tx.finish();
        kind == Some(block.kind)
    }

    /// Whether serving takes keys that live elsewhere, or that somebody holds.
    fn needs_others(&self, request: &Request) -> bool {
        let command = request.call.command;
        if !command
            .block
            .is_some_and(|block| matches!(block.serve, Serve::Whole))
        {
            return false;
        }
        let args = request.args.as_args();
        let positions = keys::positions(command.keys, &args).unwrap_or_default();
        let elsewhere = |&at: &usize| {
            keys::home(args.get(at), self.place.shards) != self.place.shard
                || self.holds.is_held(args.get(at))
        };
        positions.iter().any(elsewhere)
    }

    /// The reply, if the key has something for the client.
    fn serve(&mut self, waiter: &Waiter, now_ms: i64) -> Option<Output> {
        let request = &waiter.request;
        let args = request.args.as_args();
        let call = call_of(request, args);
        let block = call.command.block?;
        let records = self.keyspace.effects.records.len();
        self.keyspace.effects.tracking.set_author(Some(call.by));
        let mut tx = tx_of(&mut self.keyspace, request, now_ms);
        let mut out = Output::default();
        let mut writer = Writer::new(&mut out, request.proto);
        let served = match (block.serve, call.command.run) {
            (Serve::First, Run::First(first)) => {
                (first.serve)(&mut tx, &args, waiter.at, &mut writer).map(|()| true)
            }
            (Serve::Key(serve), _) => serve(&mut tx, &args, waiter.at, &waiter.mark, &mut writer),
            _ => run_deciding(&mut tx, &call, &mut writer).map(|waits| !waits),
        };
        tx.finish();
        self.keyspace.effects.tracking.set_author(None);
        self.keyspace.effects.wrap_transaction(records);
        match served {
            Ok(true) => Some(out),
            Ok(false) => None,
            Err(error) => {
                out.clear();
                let written = Writer::new(&mut out, request.proto).error(&error);
                debug_assert!(written.is_ok());
                Some(out)
            }
        }
    }

    /// Takes a client that waits no longer out of the queues of this shard.
    fn leave_queues(&mut self, request: &Request) {
        let Some(ticket) = &request.ticket else {
            return;
        };
        for ((db, key), was_trying) in self.waiting.forget(ticket, request) {
            self.keyspace.effects.stop_waiting(db, &key);
            if was_trying {
                self.waiting.deferred.push((db, key));
            }
        }
    }

    pub(super) fn forget(&mut self, request: &Request, now_ms: i64, post: Post) {
        self.leave_queues(request);
        self.serve_waiting(now_ms, post);
    }
}

/// The argument indices of the keys that a blocking command waits for.
pub fn waited_keys(request: &Request) -> impl Iterator<Item = usize> {
    let command = request.call.command;
    let positions = keys::positions(command.keys, &request.args.as_args()).unwrap_or_default();
    let first_only = command.block.is_some_and(|block| block.first_key_only);
    let count = if first_only { 1 } else { positions.len() };
    positions.into_iter().take(count)
}

/// Puts a client into the queues of those keys of its request that are waited for here.
pub(super) fn register(
    tx: &mut Tx,
    waiting: &mut Waiting,
    request: &Arc<Request>,
    keys: &KeyIndices,
) {
    let (Some(ticket), Some(block)) = (&request.ticket, request.call.command.block) else {
        return;
    };
    let args = request.args.as_args();
    for at in waited_keys(request).filter(|&at| keys.contains(&(at as u32))) {
        let key = args.get(at);
        let waiter = Waiter {
            ticket: ticket.clone(),
            request: request.clone(),
            at,
            mark: (block.mark)(tx, &args, at),
            alarm_ms: block.alarm_ms.and_then(|alarm_ms| alarm_ms(tx, &args, at)),
            is_trying: false,
        };
        tx.wait_for(key);
        waiting.push((request.db, key.into()), waiter);
    }
}
