//! Running commands on this shard: directly, in a hop, or as one home of multi-shard work.

use std::sync::Arc;

use super::budget::{Budget, EVICTIONS_AT_ONCE, figures};
use super::holds::{Holds, Scope, TxId};
use super::journal::Journal;
use super::message::{
    Apply, Cut, Finish, Hold, HoldOn, Hop, HopCall, KeyIndices, MASTER, Manner, Message, Placed,
    Request,
};
use super::run::{run_deciding, run_local, run_part};
use super::snapshot;
use super::stats::Stats;
use super::waiting::{Ticket, Waiter, Waiting};
use super::watching::{Watcher, Watching};
use crate::command::block::Serve;
use crate::command::{self, Command, CommandId, Part, Peek, Place, Run, Wanted, keys};
use crate::keyspace::tracking::Reader;
use crate::keyspace::{Audience, Due, Keyspace, Tx, WARM_KEYS};
use crate::resp::{Args, CmdError, Output, Proto, Writer};

/// One core's keys and what runs on them.
pub struct Shard {
    pub place: Place,
    pub keyspace: Keyspace,
    pub stats: Stats,
    holds: Holds<Parked>,
    /// How much memory there is.
    pub budget: Budget,
    /// What is to be written to this shard's segment of the append-only file, while there is one.
    pub journal: Option<Box<Journal>>,
    /// The last cut that began here.
    pub cut_id: u32,
    waiting: Waiting,
    watching: Watching,
    /// Monotonic nanoseconds, for the durations in statistics alone.
    clock: fn() -> u64,
    /// When the command that runs next is taken to begin: the end of the one before it.
    begun_ns: u64,
}

/// Work that waits for a hold.
#[derive(Debug)]
enum Parked {
    Hop(Box<Hop>),
    Hold(Box<Hold>),
}

/// One command to run here, with all its keys at home on this shard.
#[derive(Clone, Copy)]
pub struct Call<'a> {
    pub command: &'static Command,
    pub id: CommandId,
    pub args: Args<'a>,
    pub db: u32,
    pub proto: Proto,
    pub no_touch: bool,
    /// Whose command it is.
    pub by: Reader,
    /// The client keeps copies of the keys that it reads.
    pub tracks: bool,
}

/// Whether there is memory for a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Room {
    /// Or there will be soon: keys are being evicted.
    Enough,
    /// This shard has no key to evict; another may have.
    Elsewhere,
    /// No shard has one.
    Nowhere,
}

/// What a shard sends out while it works: destination and message.
pub type Post<'a> = &'a mut dyn FnMut(usize, Message);

impl Shard {
    pub fn new(place: Place, keyspace: Keyspace, commands: usize, clock: fn() -> u64) -> Shard {
        Shard {
            place,
            keyspace,
            stats: Stats::new(commands),
            holds: Holds::default(),
            budget: Budget::new(0, figures(1)),
            journal: None,
            cut_id: 0,
            waiting: Waiting::default(),
            watching: Watching::default(),
            clock,
            begun_ns: 0,
        }
    }

    /// Whether a command on these keys must wait. Ask before [`Shard::run`].
    pub fn blocks<'k>(&self, keys: impl Iterator<Item = &'k [u8]>) -> bool {
        self.holds.blocks(keys)
    }

    /// Evicts keys while all shards together use more than they may.
    pub fn make_room(&mut self, now_ms: i64) -> Room {
        if self.budget.max_bytes == 0 {
            return Room::Enough;
        }
        for _ in 0..EVICTIONS_AT_ONCE {
            if self.budget.excess(self.keyspace.memory_bytes()) == 0 {
                self.budget.set_exhausted(false);
                return Room::Enough;
            }
            let Budget {
                policy, samples, ..
            } = self.budget;
            let holds = &self.holds;
            let is_held = |_: u32, key: &[u8]| holds.is_held(key);
            if !self.keyspace.evict_one(policy, samples, now_ms, is_held) {
                self.budget.set_exhausted(true);
                return match self.budget.is_exhausted() {
                    true => Room::Nowhere,
                    false => Room::Elsewhere,
                };
            }
            self.budget.set_exhausted(false);
        }
        Room::Enough
    }

    /// Whether all shards together use more than they may, and this one can do something about it.
    pub fn is_evicting(&self) -> bool {
        self.budget.max_bytes > 0
            && self.budget.may_evict()
            && self.budget.excess(self.keyspace.memory_bytes()) > 0
    }

    /// Whether no hold is active or wanted here.
    pub fn is_unheld(&self) -> bool {
        self.holds.is_empty()
    }

    /// The clock that durations are taken with, nanoseconds.
    pub fn now_ns(&self) -> u64 {
        (self.clock)()
    }

    /// What it showed when it was last read for a command.
    pub fn last_ns(&self) -> u64 {
        self.begun_ns
    }

    /// That clock itself.
    pub fn clock(&self) -> fn() -> u64 {
        self.clock
    }

    /// Starts the clock of the next command. Called once before a run of commands: reading the clock
    /// twice for each took a tenth of the time of a pipeline of GETs, so each reading ends one
    /// command and begins the next, whose duration includes its parsing.
    pub fn start_clock(&mut self) {
        self.begun_ns = (self.clock)();
    }

    /// Ends a command and begins the next: the nanoseconds since the clock was last read.
    pub fn lap_ns(&mut self) -> u64 {
        let begun_ns = std::mem::replace(&mut self.begun_ns, (self.clock)());
        self.begun_ns.saturating_sub(begun_ns)
    }

    /// Runs a command and appends its reply; returns the nanoseconds it took.
    pub fn run(&mut self, call: &Call, now_ms: i64, out: &mut Output) -> u64 {
        let mark = out.mark();
        let mut writer = Writer::new(out, call.proto);
        let is_tracking = self.keyspace.effects.tracking.is_on();
        if is_tracking {
            self.keyspace.effects.tracking.set_author(Some(call.by));
        }
        let tx = self.keyspace.tx(call.db, now_ms, !call.no_touch);
        let mut tx = as_of(tx, call.by, call.command);
        let result = run_local(&mut tx, call, self.place, &mut writer);
        tx.finish();
        if is_tracking {
            self.keyspace.effects.tracking.set_author(None);
        }
        if call.tracks {
            let keys = keys::positions(call.command.keys, &call.args).unwrap_or_default();
            self.remember(call.by, keys.iter().map(|&at| call.args.get(at)));
        }
        let failed = result.is_err();
        if let Err(error) = result {
            out.rewind(mark);
            // Writing into a growing buffer cannot fail.
            let _ok = Writer::new(out, call.proto).error(&error);
            if call.by.1 == MASTER {
                self.blame(&out.bytes[mark.0..], call.command.name);
            }
        }
        let spent_ns = self.lap_ns();
        self.stats.ran(call.id, spent_ns, failed);
        spent_ns
    }

    /// What the master has done cannot be done here: something is wrong. Redis: networking.c
    /// afterErrorReply.
    pub fn blame(&mut self, reply: &[u8], name: &str) {
        self.stats.unexpected += 1;
        let reply = String::from_utf8_lossy(reply);
        self.keyspace.effects.complain(&format_args!(
            "== CRITICAL == This replica is sending an error to its master: '{}' after processing \
             the command '{name}'",
            reply.trim_end(),
        ));
    }

    /// Does what another shard asks, or this shard's own coordinator.
    pub fn deliver(&mut self, message: Message, now_ms: i64, post: Post) {
        match message {
            Message::Hop(hop) => self.run_hop(hop, false, now_ms, post),
            Message::Hold(hold) => self.hold(hold, now_ms, post),
            Message::Finish(finish) => self.finish(*finish, now_ms, post),
            Message::Watch { watcher, db, keys } => {
                let names = keys.iter().map(|key| &**key);
                self.watch(watcher, db, names, now_ms);
                let (origin, session) = watcher;
                post(origin, Message::Watched { session });
            }
            Message::Unwatch { watcher } => self.unwatch(watcher),
            Message::Forget(request) => self.forget(&request, now_ms, post),
            Message::Done(_)
            | Message::Held { .. }
            | Message::Finished { .. }
            | Message::Watched { .. }
            | Message::Served { .. }
            | Message::Visit(_)
            | Message::Visited(_)
            | Message::Busy
            | Message::Ready { .. } => {
                unreachable!("answers go to the coordinator and to sessions")
            }
        }
    }

    /// One slice of due expirations. Returns whether more is due now.
    pub fn pulse(&mut self, now_ms: i64, budget: usize) -> bool {
        let holds = &self.holds;
        self.keyspace
            .pulse(now_ms, budget, |_, key| holds.is_held(key))
    }

    /// Runs a hop's calls. `cleared`: the first of them has waited its turn, and younger work that
    /// waits for the same keys must not send it back.
    fn run_hop(&mut self, mut hop: Box<Hop>, mut cleared: bool, now_ms: i64, post: Post) {
        let begin = hop.next;
        self.start_clock();
        while let Some(&HopCall {
            command,
            id,
            from,
            to,
            tracks,
        }) = hop.calls.get(hop.next)
        {
            // The first was foreseen, with those of other hops.
            if (hop.next - begin) % WARM_KEYS == 1 {
                self.keyspace.warm(hop.foreseen(hop.next));
            }
            let args = hop.args.as_args().range(from as usize, to as usize);
            if !std::mem::take(&mut cleared)
                && !self.holds.is_empty()
                && let Some(scope) = self.blocking_scope(command, &args)
            {
                self.holds.wait(scope, Parked::Hop(hop));
                return;
            }
            let call = Call {
                command,
                id,
                args,
                db: hop.db,
                proto: hop.proto,
                no_touch: hop.no_touch,
                by: (hop.origin, hop.session),
                tracks,
            };
            let mark = hop.out.mark();
            let spent_ns = self.run(&call, now_ms, &mut hop.out);
            self.stats.note_error(&hop.out.bytes[mark.0..]);
            hop.spent_ns.push(spent_ns);
            hop.next += 1;
            self.serve_waiting(now_ms, post);
        }
        post(hop.origin, Message::Done(hop));
    }

    /// A transaction that began here without holds, as nothing was in its way, gets them now; its
    /// records from an index on are put aside. Returns whether there are any.
    pub fn hold_now(
        &mut self,
        tx: TxId,
        request: &Arc<Request>,
        on: &HoldOn,
        records: usize,
    ) -> bool {
        let scope = self.scope_of(request, on);
        let is_held = self.holds.try_hold(tx, &scope);
        debug_assert!(is_held, "nothing came in its way while it ran");
        let effects = &mut self.keyspace.effects;
        match &mut self.journal {
            Some(journal) if effects.records.len() > records => {
                journal.put_aside(tx, effects, records);
                true
            }
            _ => false,
        }
    }

    /// Answers all commands that wait for a hold with an error, except the master's.
    pub fn refuse_waiting(&mut self, error: &CmdError, now_ms: i64, post: Post) {
        let is_hop = |parked: &Parked| matches!(parked, Parked::Hop(hop) if hop.session != MASTER);
        for parked in self.holds.take_waiting(is_hop) {
            let Parked::Hop(mut hop) = parked else {
                continue;
            };
            for at in hop.next..hop.calls.len() {
                self.stats.rejected(hop.calls[at].id);
                let mark = hop.out.mark();
                let proto = hop.proto;
                let written = Writer::new(&mut hop.out, proto).error(error);
                debug_assert!(written.is_ok());
                self.stats.note_error(&hop.out.bytes[mark.0..]);
                hop.spent_ns.push(0);
            }
            hop.next = hop.calls.len();
            post(hop.origin, Message::Done(hop));
        }
        self.run_ready(now_ms, post);
    }

    /// Hops that are about to be delivered: fetches what their first commands will look at.
    pub fn foresee<'h>(&self, hops: impl Iterator<Item = &'h Hop>) {
        let mut first = hops.filter_map(|hop| hop.foreseen(0).next());
        while self.keyspace.warm(&mut first) == WARM_KEYS {}
    }

    /// The scope on which a command must wait, if a hold is in its way.
    fn blocking_scope(&self, command: &Command, args: &Args) -> Option<Scope> {
        let keys = keys::positions(command.keys, args).unwrap_or_default();
        let scope = match command.run {
            Run::Shards { .. } | Run::At { .. } => Scope::Everything,
            _ => self.holds.scope(keys.iter().map(|&at| args.get(at))),
        };
        self.holds.blocks_scope(&scope).then_some(scope)
    }

    fn scope_of(&self, request: &Request, on: &HoldOn) -> Scope {
        match on {
            HoldOn::Everything | HoldOn::EverythingWith(_) => Scope::Everything,
            HoldOn::Keys(keys) => {
                let args = request.args.as_args();
                self.holds
                    .scope(keys.iter().map(|&at| args.get(at as usize)))
            }
        }
    }

    fn hold(&mut self, hold: Box<Hold>, now_ms: i64, post: Post) {
        let scope = self.scope_of(&hold.request, &hold.on);
        if hold.manner == Manner::Run && !self.holds.blocks_scope(&scope) {
            self.run_unheld(&hold, scope, now_ms, post);
        } else if hold.manner != Manner::Run && self.holds.try_hold(hold.tx, &scope) {
            self.granted(&hold, now_ms, post);
        } else if hold.manner == Manner::Wait {
            self.holds.wait(scope, Parked::Hold(hold));
        } else {
            post(
                hold.origin,
                Message::Held {
                    tx: hold.tx,
                    from: self.place.shard,
                    part: None,
                    told: None,
                },
            );
        }
    }

    fn granted(&mut self, hold: &Hold, now_ms: i64, post: Post) {
        let before = self.keyspace.effects.begin_part(hold.request.classes);
        let part = self.peek(&hold.request, &hold.on, now_ms);
        let told = self.keyspace.effects.end_part(&before);
        post(
            hold.origin,
            Message::Held {
                tx: hold.tx,
                from: self.place.shard,
                part: Some(part),
                told,
            },
        );
    }

    /// Runs this home's part of work whose other part is held elsewhere. It holds its keys only if it
    /// has something to tell of, until that is told.
    fn run_unheld(&mut self, hold: &Hold, scope: Scope, now_ms: i64, post: Post) {
        let request = &hold.request;
        let before = self.keyspace.effects.begin_part(request.classes);
        let part = match (&hold.on, request.call.command.is_write()) {
            (HoldOn::Keys(keys), true) => {
                self.keyspace.effects.tracking.set_author(Some(request.by));
                let part = self.apply(request, keys, Apply::Run, now_ms);
                self.keyspace.effects.tracking.set_author(None);
                part
            }
            _ => self.peek(request, &hold.on, now_ms),
        };
        let told = self.keyspace.effects.end_part(&before);
        let is_kept = told.is_some() && self.holds.try_hold(hold.tx, &scope);
        post(
            hold.origin,
            Message::Held {
                tx: hold.tx,
                from: self.place.shard,
                part: Some(part),
                told,
            },
        );
        if !is_kept {
            self.serve_waiting(now_ms, post);
        }
    }

    fn finish(&mut self, finish: Finish, now_ms: i64, post: Post) {
        let Finish {
            tx,
            origin,
            request,
            keys,
            apply,
            release,
            settles_under,
        } = finish;
        let answer = !matches!(apply, Apply::Nothing);
        let records = self.keyspace.effects.records.len();
        let before = self.keyspace.effects.begin_part(request.classes);
        let part = match apply {
            Apply::Settle(settle) => {
                let effects = &mut self.keyspace.effects;
                if let Some(journal) = &mut self.journal {
                    journal.settle(&settle, self.place.shard, effects);
                }
                Part::Nothing
            }
            apply => {
                let effects = &mut self.keyspace.effects;
                effects.tracking.set_author(Some(request.by));
                let terms = request.scripted;
                let audience = terms.map_or(Audience::ALL, |terms| terms.audience);
                effects.records.set_audience(audience);
                let its_ms = terms.map_or(now_ms, |terms| terms.now_ms);
                let part = self.apply(&request, &keys, apply, its_ms);
                let effects = &mut self.keyspace.effects;
                effects.records.set_audience(Audience::ALL);
                effects.tracking.set_author(None);
                part
            }
        };
        if let (Some(under), Some(journal)) = (settles_under, &mut self.journal) {
            journal.put_aside(under, &mut self.keyspace.effects, records);
        }
        let told = self.keyspace.effects.end_part(&before);
        let release = release && told.is_none();
        if answer {
            post(
                origin,
                Message::Finished {
                    tx,
                    from: self.place.shard,
                    part,
                    told,
                },
            );
        }
        if release {
            self.release(tx, now_ms, post);
        }
    }

    fn release(&mut self, tx: TxId, now_ms: i64, post: Post) {
        if let Some(journal) = &mut self.journal {
            journal.released(tx);
        }
        self.holds.release(tx);
        self.run_ready(now_ms, post);
        self.serve_waiting(now_ms, post);
    }

    /// Lets go on what no hold is in the way of any more.
    fn run_ready(&mut self, now_ms: i64, post: Post) {
        let grants = |parked: &Parked| match parked {
            Parked::Hold(hold) => Some(hold.tx),
            Parked::Hop(_) => None,
        };
        while let Some(parked) = self.holds.next_ready(grants) {
            match parked {
                Parked::Hop(hop) => self.run_hop(hop, true, now_ms, post),
                Parked::Hold(hold) => self.granted(&hold, now_ms, post),
            }
        }
    }

    /// What this shard's keys contribute before anything is decided.
    fn peek(&mut self, request: &Request, on: &HoldOn, now_ms: i64) -> Part {
        let no_keys = KeyIndices::new();
        let keys = match on {
            HoldOn::Keys(keys) | HoldOn::EverythingWith(keys) => keys,
            HoldOn::Everything => &no_keys,
        };
        if let Some(watcher) = request.watcher {
            return Part::Int(i64::from(self.is_clean(watcher, now_ms)));
        }
        let part = self.peek_at(request, keys, now_ms);
        // After the reading, which may have found that a key has expired.
        if request.call.tracks {
            let args = request.args.as_args();
            self.remember(request.by, keys.iter().map(|&at| args.get(at as usize)));
        }
        part
    }

    fn peek_at(&mut self, request: &Request, keys: &KeyIndices, now_ms: i64) -> Part {
        let command = request.call.command;
        if let Run::Gather(_) | Run::Errand(_) | Run::First(_) = command.run {
            let args = request.args.as_args();
            let mut tx = tx_of(&mut self.keyspace, request, now_ms);
            let peek = |&at: &u32| {
                tx.set_place(at as usize);
                match command.run {
                    Run::Gather(gather) => (gather.peek)(&mut tx, &args, at as usize),
                    Run::Errand(errand) => (errand.peek)(&mut tx, &args, at as usize),
                    Run::First(first) => first.peek(&mut tx, args.get(at as usize)),
                    _ => Peek::Missing,
                }
            };
            let peeks = keys.iter().map(peek).collect();
            tx.finish();
            return Part::Peeks(peeks);
        }
        if command.is_write() {
            return Part::Nothing;
        }
        let mut tx = tx_of(&mut self.keyspace, request, now_ms);
        let part = run_part(&mut tx, request, keys, self.place);
        tx.finish();
        part
    }

    fn begin_cut(&mut self, cut: Cut, now_ms: i64) -> Part {
        self.cut_id = cut.id;
        if cut.begins_segment {
            let journal = self.journal.get_or_insert_default();
            journal.begin_segment(&mut self.keyspace.effects);
            self.keyspace.effects.recording = true;
        }
        if let Some(epoch) = cut.feeds {
            let unkept = || Box::new(Journal::unkept());
            let journal = self.journal.get_or_insert_with(unkept);
            journal.cut_feed(epoch, cut.id, &mut self.keyspace.effects);
            self.keyspace.effects.recording = true;
        }
        snapshot::begin(&mut self.keyspace, cut.style, now_ms);
        Part::Nothing
    }

    fn apply(
        &mut self,
        request: &Arc<Request>,
        keys: &KeyIndices,
        apply: Apply,
        now_ms: i64,
    ) -> Part {
        let apply = match apply {
            Apply::Peek(on) => return self.peek(request, &on, now_ms),
            Apply::Cut(cut) => return self.begin_cut(cut, now_ms),
            Apply::Calls { calls, db } => return self.run_calls(request, &calls, db, now_ms),
            Apply::Read(wanted) => {
                let mut tx = tx_of(&mut self.keyspace, request, now_ms);
                let mut read = |(at, wanted): &Placed<Wanted>| {
                    tx.set_place(*at as usize);
                    wanted.read(&mut tx)
                };
                let found = wanted.iter().map(&mut read).collect();
                tx.finish();
                return Part::Found(found);
            }
            apply => apply,
        };
        let args = request.args.as_args();
        let place = self.place;
        let mut tx = tx_of(&mut self.keyspace, request, now_ms);
        let part = match apply {
            Apply::Wait => {
                register(&mut tx, &mut self.waiting, request, keys);
                Part::Nothing
            }
            Apply::Tried => {
                if let Some(ticket) = &request.ticket {
                    self.waiting.tried(ticket);
                }
                Part::Nothing
            }
            Apply::Run => run_part(&mut tx, request, keys, place),
            Apply::Changes(changes) => {
                let mut out = Output::default();
                let mut ends = Vec::with_capacity(changes.len());
                for (at, change) in changes {
                    tx.set_place(at as usize);
                    let mut writer = Writer::new(&mut out, request.proto);
                    command::apply(&mut tx, &args, change, &mut writer);
                    ends.push(out.mark());
                }
                Part::Replies { out, ends }
            }
            Apply::Take { db, key, event } => {
                tx.select(db);
                Part::Taken(command::take(&mut tx, args.get(key), event).map(Box::new))
            }
            Apply::Arrive {
                db,
                key,
                value,
                event,
            } => {
                tx.select(db);
                command::arrive(&mut tx, args.get(key), *value, event);
                Part::Nothing
            }
            // Nothing, or done above.
            _ => Part::Nothing,
        };
        tx.finish();
        part
    }
}

impl Shard {
    /// Notes which versions of keys a session sees.
    pub fn watch<'k>(
        &mut self,
        watcher: Watcher,
        db: u32,
        keys: impl Iterator<Item = &'k [u8]>,
        now_ms: i64,
    ) {
        let Shard {
            watching, keyspace, ..
        } = self;
        watching.watch(keyspace, watcher, db, keys, now_ms);
    }

    /// Whether everything a session watches here is as it was.
    pub fn is_clean(&mut self, watcher: Watcher, now_ms: i64) -> bool {
        let Shard {
            watching, keyspace, ..
        } = self;
        watching.is_clean(keyspace, watcher, now_ms)
    }

    pub fn unwatch(&mut self, watcher: Watcher) {
        let Shard {
            watching, keyspace, ..
        } = self;
        watching.forget(keyspace, watcher);
    }

    /// A client has read keys of this shard, and may keep what it read.
    fn remember<'k>(&mut self, reader: Reader, keys: impl Iterator<Item = &'k [u8]>) {
        let tracking = &mut self.keyspace.effects.tracking;
        keys.for_each(|key| tracking.remember(reader, key));
    }

    /// Brings the table of what clients have read down towards a limit.
    pub fn limit_tracking(&mut self, max_keys: usize) {
        let Shard {
            holds, keyspace, ..
        } = self;
        keyspace.limit_tracking(max_keys, |key| holds.is_held(key));
    }

    /// Number of keys of this shard that sessions watch.
    pub fn watched_count(&self) -> usize {
        self.watching.len()
    }

    /// Commands of a transaction, all of whose keys are here and held by it.
    fn run_calls(&mut self, request: &Request, calls: &[HopCall], db: u32, now_ms: i64) -> Part {
        let records = self.keyspace.effects.records.len();
        let mut out = Output::default();
        let mut spent_ns = Vec::with_capacity(calls.len());
        self.start_clock();
        for call in calls {
            let all = request.args.as_args();
            let call = Call {
                command: call.command,
                id: call.id,
                args: all.range(call.from as usize, call.to as usize),
                db,
                proto: request.proto,
                no_touch: request.no_touch,
                by: request.by,
                tracks: call.tracks,
            };
            let mark = out.mark();
            spent_ns.push(self.run(&call, now_ms, &mut out));
            self.stats.note_error(&out.bytes[mark.0..]);
        }
        self.keyspace.effects.wrap_transaction(records);
        Part::Ran { out, spent_ns }
    }

    /// Runs a command that waits if nothing can be served, all of whose keys are here; appends its
    /// reply unless it waits, and returns whether it does.
    pub fn run_or_wait(&mut self, request: &Arc<Request>, now_ms: i64, out: &mut Output) -> bool {
        let mark = out.mark();
        self.start_clock();
        let args = request.args.as_args();
        let call = call_of(request, args);
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
    fn serve_key(&mut self, place: &super::waiting::Place, now_ms: i64, post: Post) {
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
                    index += 1;
                }
                Some(out) => {
                    self.leave_queues(&waiter.request);
                    let served = Message::Served {
                        session,
                        wait,
                        out: Box::new(out),
                        spent_ns: (self.clock)().saturating_sub(begun_ns),
                    };
                    post(*origin, served);
                }
            }
        }
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

    fn forget(&mut self, request: &Request, now_ms: i64, post: Post) {
        self.leave_queues(request);
        self.serve_waiting(now_ms, post);
    }
}

/// A transaction, with what its author's command makes of keys that are due.
#[inline]
fn as_of<'k>(tx: Tx<'k>, by: Reader, command: &Command) -> Tx<'k> {
    match by {
        (_, MASTER) => tx.with_due(Due::Keep),
        _ if command.is_write() => tx.with_due(Due::Delete),
        _ => tx,
    }
}

/// A transaction for what a request's author wants.
fn tx_of<'k>(keyspace: &'k mut Keyspace, request: &Request, now_ms: i64) -> Tx<'k> {
    let tx = keyspace.tx(request.db, now_ms, !request.no_touch);
    as_of(tx, request.by, request.call.command)
}

fn call_of<'a>(request: &Request, args: Args<'a>) -> Call<'a> {
    Call {
        command: request.call.command,
        id: request.call.id,
        args,
        db: request.db,
        proto: request.proto,
        no_touch: request.no_touch,
        by: request.by,
        tracks: request.call.tracks,
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
fn register(tx: &mut Tx, waiting: &mut Waiting, request: &Arc<Request>, keys: &KeyIndices) {
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
            is_trying: false,
        };
        tx.wait_for(key);
        waiting.push((request.db, key.into()), waiter);
    }
}
