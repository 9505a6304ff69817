//! This shard as one home of work over several: what it holds for others, what its keys contribute,
//! and what it applies when its coordinator has decided.
//!
//! Work whose keys somebody holds is parked, and goes on when the hold is given back.

use std::sync::Arc;

use super::super::holds::{Holder, Scope, TxId};
use super::super::journal::Journal;
use super::super::message::{
    Apply, Calls, Cut, Finish, Hold, HoldOn, KeyIndices, MASTER, Manner, Message, Placed, Ran,
    Request,
};
use super::super::run::run_part;
use super::super::snapshot;
use super::serving::register;
use super::{Call, HOP_OUT_MAX_BYTES, Parked, Post, Shard, tx_of};
use crate::command::{self, Part, Peek, Run, Wanted};
use crate::keyspace::Audience;
use crate::keyspace::told::Told;
use crate::resp::{CmdError, Output, Writer};

/// What a command did that ran under a hold of its own shard.
#[derive(Debug)]
pub struct HeldPart {
    /// What it has to tell of.
    pub told: Option<Box<Told>>,
    /// It recorded something that is put aside.
    pub is_aside: bool,
}

impl Shard {
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
        let is_held = self.holds.try_hold(tx, &scope, request.holder());
        debug_assert!(is_held, "nothing came in its way while it ran");
        self.put_aside(tx, records)
    }

    /// Puts the records from an index on aside for a transaction. Returns whether there are any.
    fn put_aside(&mut self, tx: TxId, records: usize) -> bool {
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
                let end = hop.out.mark();
                hop.ran.push(Ran { end, spent_ns: 0 });
            }
            hop.next = hop.calls.len();
            post(hop.origin, Message::Done(hop));
        }
        self.run_ready(now_ms, post);
    }

    /// Runs a command of a script that holds its keys under `tx`; also returns the nanoseconds it took.
    /// `puts_aside`: what it records is part
    /// of a transaction that is yet to be settled.
    pub fn run_held(
        &mut self,
        tx: TxId,
        call: &Call,
        now_ms: i64,
        puts_aside: bool,
        out: &mut Output,
    ) -> (HeldPart, u64) {
        let effects = &mut self.keyspace.effects;
        let records = effects.records.len();
        let before = effects.begin_part(effects.classes);
        let spent_ns = self.run_alone(call, now_ms, out);
        let is_aside = puts_aside && self.put_aside(tx, records);
        let part = HeldPart {
            told: self.keyspace.effects.end_part(&before),
            is_aside,
        };
        (part, spent_ns)
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

    pub(super) fn hold(&mut self, hold: Box<Hold>, now_ms: i64, post: Post) {
        if let HoldOn::Keys(keys) = &hold.on {
            let args = hold.request.args.as_args();
            let keys = keys.iter().map(|&at| args.get(at as usize));
            self.guard(hold.request.call.command, hold.request.db, keys);
        }
        let scope = self.scope_of(&hold.request, &hold.on);
        if hold.manner == Manner::Run && !self.holds.blocks_scope(&scope) {
            self.run_unheld(&hold, scope, now_ms, post);
        } else if hold.manner != Manner::Run
            && self.holds.try_hold(hold.tx, &scope, hold.request.holder())
        {
            self.granted(&hold, now_ms, post);
        } else if hold.manner == Manner::Wait {
            self.holds.wait(scope, Parked::Hold(hold));
        } else {
            self.answer_hold(&hold, None, None, post);
        }
    }

    fn granted(&mut self, hold: &Hold, now_ms: i64, post: Post) {
        let before = self.keyspace.effects.begin_part(hold.request.classes);
        let part = self.peek(&hold.request, &hold.on, now_ms);
        let told = self.keyspace.effects.end_part(&before);
        self.answer_hold(hold, Some(part), told, post);
    }

    /// Tells a coordinator what came of its hold: what its keys contribute, or `None` if it waits for
    /// nothing and something is in its way.
    fn answer_hold(&self, hold: &Hold, part: Option<Part>, told: Option<Box<Told>>, post: Post) {
        let held = Message::Held {
            tx: hold.tx,
            from: self.place.shard,
            part,
            told,
            unit: self.sight().unit,
        };
        post(hold.origin, held);
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
        let is_kept = told.is_some() && self.holds.try_hold(hold.tx, &scope, Holder::Brief);
        self.answer_hold(hold, Some(part), told, post);
        if !is_kept {
            self.serve_waiting(now_ms, post);
        }
    }

    pub(super) fn finish(&mut self, finish: Finish, now_ms: i64, post: Post) {
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
                    unit: self.sight().unit,
                },
            );
        }
        if release {
            self.release(tx, now_ms, post);
        }
    }

    pub(super) fn release(&mut self, tx: TxId, now_ms: i64, post: Post) {
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
            Parked::Hold(hold) => Some((hold.tx, hold.request.holder())),
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
        // A file or replicas were told of such a key, and not of its end.
        let keeps_due = self.journal.is_some() || self.keyspace.is_replica();
        snapshot::begin(&mut self.keyspace, cut.style, keeps_due, now_ms);
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
            Apply::Calls(calls) => return self.run_calls(request, &calls, now_ms),
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
                    self.waiting.tried(ticket, request);
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

    /// Commands of a transaction, all of whose keys are here and held by it; the first of them, if their
    /// replies are many bytes.
    fn run_calls(&mut self, request: &Request, what: &Calls, now_ms: i64) -> Part {
        let records = self.keyspace.effects.records.len();
        let mut out = Output::default();
        out.limit(what.max_bytes);
        let mut spent_ns = Vec::with_capacity(what.calls.len());
        self.start_clock();
        for call in &what.calls {
            let all = request.args.as_args();
            let call = Call {
                command: call.command,
                id: call.id,
                args: all.range(call.from as usize, call.to as usize),
                db: what.db,
                proto: what.proto,
                no_touch: request.no_touch,
                by: request.by,
                tracks: call.tracks,
            };
            let mark = out.mark();
            spent_ns.push(self.run(&call, now_ms, &mut out));
            self.stats.note_error(&out.bytes[mark.0..]);
            if out.len() >= HOP_OUT_MAX_BYTES {
                break;
            }
        }
        self.keyspace.effects.wrap_transaction(records);
        Part::Ran { out, spent_ns }
    }
}
