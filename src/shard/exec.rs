//! One core's keys, and running commands on them: directly, or in a hop from another shard.

mod guard;
mod home;
mod serving;

pub use home::HeldPart;
pub use serving::waited_keys;

use super::budget::{Budget, EVICTIONS_AT_ONCE, figures};
use super::holds::{Holds, Scope};
use super::journal::Journal;
use super::message::{Hold, Hop, HopCall, MASTER, Message, Ran, Request};
use super::run::run_local;
use super::seen::Sight;
use super::stats::Stats;
use super::waiting::Waiting;
use super::watching::{Watcher, Watching};
use crate::command::{Command, CommandId, Place, Run, keys};
use crate::keyspace::tracking::Reader;
use crate::keyspace::{Due, Eviction, Keyspace, Tx, WARM_KEYS};
use crate::resp::{Args, Output, Proto, Writer};

/// Replies with which a hop goes back though it has calls left: its session may have to wait until its
/// socket took them. More than a socket takes at once.
const HOP_OUT_MAX_BYTES: usize = 1 << 20;

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
    guards: Vec<guard::Guard>,
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
            guards: Vec::new(),
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
            let eviction = self.keyspace.evict_one(policy, samples, now_ms, is_held);
            self.budget.set_exhausted(eviction == Eviction::Never);
            match eviction {
                Eviction::Done => {}
                Eviction::Later => return Room::Enough,
                Eviction::Never if self.budget.is_exhausted() => return Room::Nowhere,
                Eviction::Never => return Room::Elsewhere,
            }
        }
        Room::Enough
    }

    /// Whether all shards together use more than they may, and this one can do something about it.
    pub fn is_evicting(&self) -> bool {
        self.budget.max_bytes > 0
            && self.budget.may_evict()
            && self.budget.excess(self.keyspace.memory_bytes()) > 0
    }

    /// How far this shard has come in its records.
    #[inline]
    pub fn sight(&self) -> Sight {
        Sight {
            shard: self.place.shard as u32,
            unit: self.keyspace.effects.unit(),
        }
    }

    /// Whether no hold is active or wanted here.
    pub fn is_unheld(&self) -> bool {
        self.holds.is_empty()
    }

    /// Whether a hold covers everything here.
    pub fn is_held_whole(&self) -> bool {
        self.holds.is_everything_held()
    }

    /// Whether a script or transaction that holds something here goes on asking.
    pub fn is_conversing(&self) -> bool {
        self.holds.is_conversing()
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

    /// Runs a command that is no part of anything: what it records is one change to who repeats it.
    /// Not so the ends of keys that a reading one found to be due.
    pub fn run_alone(&mut self, call: &Call, now_ms: i64, out: &mut Output) -> u64 {
        let records = self.keyspace.effects.records.len();
        let spent_ns = self.run(call, now_ms, out);
        if call.command.is_write() {
            self.keyspace.effects.wrap_transaction(records);
        }
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
            Message::Read { reader, keys } => {
                self.remember(reader, keys.iter().map(|key| &**key));
            }
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

    /// Runs a hop's calls, until their replies are many bytes. `cleared`: the first of them has waited
    /// its turn, and younger work that waits for the same keys must not send it back.
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
            self.guard_call(command, hop.db, &args);
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
            let spent_ns = self.run_alone(&call, now_ms, &mut hop.out);
            self.stats.note_error(&hop.out.bytes[mark.0..]);
            let end = hop.out.mark();
            hop.ran.push(Ran { end, spent_ns });
            hop.next += 1;
            self.serve_waiting(now_ms, post);
            if hop.out.len() >= HOP_OUT_MAX_BYTES {
                break;
            }
        }
        hop.sight = self.sight();
        post(hop.origin, Message::Done(hop));
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
    pub fn remember<'k>(&mut self, reader: Reader, keys: impl Iterator<Item = &'k [u8]>) {
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
