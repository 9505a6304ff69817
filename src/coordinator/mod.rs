//! What spans shards: takes holds, gathers parts, decides, applies, answers.
//!
//! One piece of multi-shard work goes through these steps, each a message to every participant:
//!
//! ```text
//! hold (all at once)  --conflict-->  release, then hold one by one in ascending shard order
//!   | granted everywhere; reads have happened under the hold
//! decide (pure)       --error----->  release, reply with the error
//!   |
//! finish: apply and release          reply when every home has applied
//! ```
//! What the parts have to tell of (events of keys, what clients cache) comes with their answers and is
//! told when all is done, in the order of the command's steps; a home that had something to tell gives
//! its hold back after that.
//!
//! All holds are held at the instant the last one is granted, so the work takes effect there, whole,
//! for every observer (strict serializability). A move between homes takes one step more: the value
//! leaves one home and arrives at the other while both are held. Simple commands on two homes take one
//! step less ([`pair`]).
//!
//! Nothing here touches a keyspace: this shard's own part goes through the same messages.

mod errand;
pub mod listeners;
pub mod merge;
mod pair;
pub mod stream;
mod work;

use std::sync::Arc;

use ahash::AHashMap;
use smallvec::SmallVec;

use crate::command::errand::Parcel;
use crate::command::{Command, Part, Run, flags, keys};
use crate::journal::Mark;
use crate::journal::segment::TX_COUNT_BITS;
use crate::keyspace::Event;
use crate::keyspace::told::Told;
use crate::resp::{CmdError, Output};
use crate::shard::TxId;
use crate::shard::message::{
    Apply, Cut, Finish, Hold, HoldOn, KeyIndices, MASTER, Manner, Message, Request, SessionKey,
    Settle,
};

pub use crate::shard::message::HopCall;
use work::{Kind, Outcome, Participant, Step, Work};

/// What a cut does is not a client's request: nothing in the command table leads here.
static CUT: Command = Command {
    name: "cut",
    flags: flags::WRITE,
    ..Command::DEFAULT
};
/// No connection has this key: indices are small.
const NO_SESSION: SessionKey = SessionKey::MAX;

/// Multi-shard work that this shard's sessions started.
pub struct Coordinator {
    shard: usize,
    shards: usize,
    next: u64,
    pending: AHashMap<u64, Work>,
    /// The shards write journals: work that spans them is settled before it is answered.
    pub journaled: bool,
    /// What is to be told now. Take it after each call, before anything else is told.
    told: Told,
}

/// An answer for a session.
#[derive(Debug)]
pub struct Answer {
    pub session: SessionKey,
    pub call: HopCall,
    pub request: Arc<Request>,
    pub done: Done,
}

/// What became of a piece of work.
#[derive(Debug)]
pub enum Done {
    Reply(Result<Output, CmdError>),
    /// Nothing could be served: the client is in the queues of its keys.
    Waits,
    /// An attempt to serve a client that waits; `None`: it waits on.
    Tried(Option<Result<Output, CmdError>>),
    /// A transaction holds all its keys; `clean`: nothing it watched has changed.
    Held {
        work: u64,
        clean: bool,
    },
    /// This is to be sent to another server; [`Coordinator::returned`] tells what became of it.
    Errand {
        work: u64,
        parcel: Box<Parcel>,
    },
    /// A transaction is in all journals and its holds are given back.
    Settled,
    /// It was given up before it began.
    Refused,
    /// The replies of some commands of a transaction.
    Part {
        reply: Result<Output, CmdError>,
        /// How long each of them took where it ran.
        spent_ns: Vec<u64>,
    },
}

/// Where a request's keys live.
#[derive(Debug, PartialEq, Eq)]
pub enum Homes {
    /// All on one shard.
    One(usize),
    /// Shards in ascending order with the argument indices of their keys.
    Many(SmallVec<[(usize, KeyIndices); 4]>),
}

/// Groups keys (argument positions) by home shard.
pub fn homes(positions: &[usize], args: &crate::resp::Args, shards: usize) -> Homes {
    let mut groups: SmallVec<[(usize, KeyIndices); 4]> = SmallVec::new();
    for &at in positions {
        let home = keys::home(args.get(at), shards);
        match groups.iter_mut().find(|(shard, _)| *shard == home) {
            Some((_, indices)) => indices.push(at as u32),
            None => groups.push((home, SmallVec::from_slice(&[at as u32]))),
        }
    }
    if groups.len() <= 1 {
        return Homes::One(groups.first().map_or(0, |(shard, _)| *shard));
    }
    groups.sort_unstable_by_key(|(shard, _)| *shard);
    Homes::Many(groups)
}

/// Holds on keys (argument positions), home by home.
pub fn holds_on(
    positions: &[usize],
    args: &crate::resp::Args,
    shards: usize,
) -> Vec<(usize, HoldOn)> {
    match homes(positions, args, shards) {
        _ if positions.is_empty() => Vec::new(),
        Homes::One(home) => {
            let keys = positions.iter().map(|&at| at as u32).collect();
            vec![(home, HoldOn::Keys(keys))]
        }
        Homes::Many(groups) => {
            let on = |(home, keys)| (home, HoldOn::Keys(keys));
            groups.into_iter().map(on).collect()
        }
    }
}

/// A hold on everything.
pub fn everything_of(shards: usize) -> Vec<(usize, HoldOn)> {
    (0..shards)
        .map(|shard| (shard, HoldOn::Everything))
        .collect()
}

/// A hold on everything, with the keys of a request that decides over keys.
pub fn everything(request: &Request, shards: usize) -> Vec<(usize, HoldOn)> {
    let args = request.args.as_args();
    let command = request.call.command;
    let positions = match command.run {
        Run::Gather(_) => keys::positions(command.keys, &args).unwrap_or_default(),
        _ => Default::default(),
    };
    let on = |shard: usize| {
        let here = |&&at: &&usize| keys::home(args.get(at), shards) == shard;
        let keys: KeyIndices = positions.iter().filter(here).map(|&at| at as u32).collect();
        (shard, HoldOn::EverythingWith(keys))
    };
    (0..shards).map(on).collect()
}

fn participants(homes: SmallVec<[(usize, KeyIndices); 4]>) -> Vec<Participant> {
    let participant = |(shard, keys)| Participant::new(shard, HoldOn::Keys(keys));
    homes.into_iter().map(participant).collect()
}

impl Coordinator {
    pub fn new(shard: usize, shards: usize) -> Coordinator {
        Coordinator {
            shard,
            shards,
            next: 0,
            pending: AHashMap::new(),
            journaled: false,
            told: Told::default(),
        }
    }

    /// Number of pieces of work in progress.
    pub fn pending(&self) -> usize {
        self.pending.len()
    }

    /// Starts work on keys of several homes.
    pub fn start_keys(
        &mut self,
        session: SessionKey,
        request: Arc<Request>,
        homes: SmallVec<[(usize, KeyIndices); 4]>,
        post: &mut dyn FnMut(usize, Message),
    ) {
        self.start(session, request, participants(homes), Kind::Command, post);
    }

    /// Tries again to serve a client that waits.
    pub fn retry(
        &mut self,
        session: SessionKey,
        request: Arc<Request>,
        homes: SmallVec<[(usize, KeyIndices); 4]>,
        post: &mut dyn FnMut(usize, Message),
    ) {
        self.start(session, request, participants(homes), Kind::Retry, post);
    }

    /// Starts work on everything, on every shard.
    pub fn start_everything(
        &mut self,
        session: SessionKey,
        request: Arc<Request>,
        post: &mut dyn FnMut(usize, Message),
    ) {
        let scopes = everything(&request, self.shards);
        let participant = |(shard, on)| Participant::new(shard, on);
        let participants = scopes.into_iter().map(participant).collect();
        self.start(session, request, participants, Kind::Command, post);
    }

    /// Begins a cut on every shard, at one instant. The shards report what they stream.
    pub fn start_cut(&mut self, cut: Cut, post: &mut dyn FnMut(usize, Message)) {
        let call = HopCall {
            command: &CUT,
            id: 0,
            from: 0,
            to: 0,
            tracks: false,
        };
        let request = Arc::new(Request {
            call,
            args: Default::default(),
            db: 0,
            databases: 0,
            proto: Default::default(),
            now_ms: 0,
            no_touch: false,
            by: (self.shard, NO_SESSION),
            ticket: None,
            classes: 0,
            watcher: None,
            scripted: None,
        });
        let participant = |shard| Participant::new(shard, HoldOn::Everything);
        let participants = (0..self.shards).map(participant).collect();
        self.start(NO_SESSION, request, participants, Kind::Cut(cut), post);
    }

    /// Takes the holds of a transaction.
    pub fn start_exec(
        &mut self,
        session: SessionKey,
        request: Arc<Request>,
        scopes: Vec<(usize, HoldOn)>,
        post: &mut dyn FnMut(usize, Message),
    ) {
        let participant = |(shard, on)| Participant::new(shard, on);
        let participants = scopes.into_iter().map(participant).collect();
        self.start(session, request, participants, Kind::Exec, post);
    }

    /// A transaction that began on this shard without holds goes on under this one.
    pub fn adopt(&mut self, session: SessionKey, request: Arc<Request>, on: HoldOn) -> TxId {
        let tx = self.new_tx();
        let mut participant = Participant::new(self.shard, on);
        participant.held = true;
        let mut work = Work::new(session, request, vec![participant], Kind::Exec);
        work.step = Step::Finish;
        self.pending.insert(tx, work);
        tx
    }

    /// It has changed something already.
    pub fn owes_settlement(&mut self, tx: TxId) {
        if let Some(work) = self.pending.get_mut(&tx) {
            work.participant_mut(self.shard).unsettled = true;
        }
    }

    /// Gives up what clients have asked for and what is not held yet: those who asked, and what.
    pub fn refuse_waiting(&mut self) -> Vec<Answer> {
        let mut refused = Vec::new();
        for work in self.pending.values_mut() {
            if work.session == MASTER || !matches!(work.kind, Kind::Command | Kind::Exec) {
                continue;
            }
            // What may be done already is given up once it turns out that it is not.
            work.gives_up |= matches!(work.step, Step::RunThere { .. });
            let waits = matches!(
                work.step,
                Step::HoldAll | Step::HoldHere { .. } | Step::HoldNext(_)
            );
            if !waits || work.is_refused {
                continue;
            }
            work.is_refused = true;
            refused.push(Answer {
                session: work.session,
                call: work.request.call,
                request: work.request.clone(),
                done: Done::Refused,
            });
        }
        refused
    }

    /// Runs commands of a transaction on their home, under its holds.
    pub fn exec_calls(
        &mut self,
        session: SessionKey,
        request: Arc<Request>,
        home: usize,
        (calls, db): (Vec<HopCall>, u32),
        under: TxId,
        post: &mut dyn FnMut(usize, Message),
    ) {
        let tx = self.new_tx();
        let participants = vec![Participant::new(home, HoldOn::Keys(KeyIndices::new()))];
        let mut work = Work::new(session, request, participants, Kind::ExecPart);
        work.under = Some(under);
        work.step = Step::Finish;
        work.reply = Some(Output::default());
        let apply = Apply::Calls { calls, db };
        self.send_finish(tx, &mut work, 0, apply, true, post);
        self.pending.insert(tx, work);
    }

    /// Runs a command of a transaction on several homes, under its holds.
    pub fn exec_spread(
        &mut self,
        session: SessionKey,
        request: Arc<Request>,
        scopes: Vec<(usize, HoldOn)>,
        under: TxId,
        post: &mut dyn FnMut(usize, Message),
    ) {
        let tx = self.new_tx();
        let participant = |(shard, on)| Participant::new(shard, on);
        let participants = scopes.into_iter().map(participant).collect();
        let mut work = Work::new(session, request, participants, Kind::ExecPart);
        work.under = Some(under);
        for i in 0..work.participants.len() {
            let apply = Apply::Peek(work.participants[i].on.clone());
            self.send_finish(tx, &mut work, i, apply, false, post);
        }
        self.pending.insert(tx, work);
    }

    /// Gives back the holds of a transaction. Returns false if its journals have to be written
    /// first: then [`Done::Settled`] follows.
    pub fn end_exec(&mut self, tx: u64, post: &mut dyn FnMut(usize, Message)) -> bool {
        let Some(mut work) = self.pending.remove(&tx) else {
            return true;
        };
        if self.settle(tx, &mut work, post) {
            work.settled_reply = Some(Ok(Output::default()));
            self.pending.insert(tx, work);
            return false;
        }
        self.release_all(tx, &mut work, post);
        self.tell(tx, &mut work, post);
        true
    }

    /// Asks the journals of all who applied something to write it. Returns whether there are any.
    fn settle(&self, tx: u64, work: &mut Work, post: &mut dyn FnMut(usize, Message)) -> bool {
        let unsettled = work.participants.iter().filter(|one| one.unsettled);
        let shards: SmallVec<[u32; 4]> = unsettled.map(|one| one.shard as u32).collect();
        if shards.is_empty() {
            return false;
        }
        work.step = Step::Settle;
        let settle = Settle {
            mark: Mark {
                id: work.under.unwrap_or(tx),
                shards,
            },
            is_barrier: matches!(work.request.call.command.run, Run::Shards { .. }),
        };
        for i in 0..work.participants.len() {
            if std::mem::take(&mut work.participants[i].unsettled) {
                self.send_finish(tx, work, i, Apply::Settle(settle.clone()), false, post);
            }
        }
        true
    }

    fn new_tx(&mut self) -> u64 {
        self.next += 1;
        (self.shard as u64) << TX_COUNT_BITS | self.next
    }

    /// Names up to this count stand in segments that are gone on with: none is given again.
    pub fn pass_transactions(&mut self, count: u64) {
        self.next = self.next.max(count);
    }

    fn start(
        &mut self,
        session: SessionKey,
        request: Arc<Request>,
        participants: Vec<Participant>,
        kind: Kind,
        post: &mut dyn FnMut(usize, Message),
    ) {
        let tx = self.new_tx();
        let mut work = Work::new(session, request, participants, kind);
        if let Some((own, other)) = self.pair(&work) {
            work.step = Step::HoldHere { own, other };
            self.send_hold(tx, &mut work, own, Manner::Try, post);
        } else {
            for i in 0..work.participants.len() {
                self.send_hold(tx, &mut work, i, Manner::Try, post);
            }
        }
        self.pending.insert(tx, work);
    }

    fn send_hold(
        &self,
        tx: u64,
        work: &mut Work,
        i: usize,
        manner: Manner,
        post: &mut dyn FnMut(usize, Message),
    ) {
        let participant = &work.participants[i];
        let hold = Hold {
            tx,
            origin: self.shard,
            request: work.request.clone(),
            on: participant.on.clone(),
            manner,
        };
        post(participant.shard, Message::Hold(Box::new(hold)));
        work.awaited += 1;
    }

    /// Whether what a shard applies stands in its journal only once the work is settled.
    fn settles(&self, apply: &Apply) -> bool {
        let writes = matches!(
            apply,
            Apply::Run
                | Apply::Changes(_)
                | Apply::Take { .. }
                | Apply::Arrive { .. }
                | Apply::Calls { .. }
        );
        self.journaled && writes
    }

    fn send_finish(
        &self,
        tx: u64,
        work: &mut Work,
        i: usize,
        apply: Apply,
        release: bool,
        post: &mut dyn FnMut(usize, Message),
    ) {
        let settles = self.settles(&apply);
        let participant = &mut work.participants[i];
        let applies = !matches!(apply, Apply::Nothing);
        if !applies && participant.kept {
            return;
        }
        work.awaited += usize::from(applies);
        participant.unsettled |= settles;
        let finish = Finish {
            tx,
            origin: self.shard,
            request: work.request.clone(),
            keys: participant.keys(),
            apply,
            // Until all journals have it, nobody may build upon what was changed.
            release: release && !settles && !participant.kept,
            settles_under: settles.then(|| work.under.unwrap_or(tx)),
        };
        post(participant.shard, Message::Finish(Box::new(finish)));
    }

    /// A shard's answer to a hold. Returns the reply if the work is complete.
    pub fn held(
        &mut self,
        tx: u64,
        from: usize,
        part: Option<Part>,
        told: Option<Box<Told>>,
        post: &mut dyn FnMut(usize, Message),
    ) -> Option<Answer> {
        let mut work = self.pending.remove(&tx)?;
        work.awaited -= 1;
        work.note_told(from, told);
        let participant = work.participant_mut(from);
        participant.held = part.is_some();
        participant.part = part;
        let answer = match work.step {
            Step::HoldAll => self.held_all(tx, &mut work, post),
            Step::HoldHere { own, other } => self.held_here(tx, &mut work, (own, other), post),
            Step::RunThere { own, other } => self.ran_there(tx, &mut work, (own, other), post),
            Step::HoldNext(i) => self.held_next(tx, &mut work, i, post),
            Step::Finish | Step::Read | Step::Abroad | Step::Move { .. } | Step::Settle => {
                unreachable!("no hold is asked for any more")
            }
        };
        self.keep_unless_done(tx, work, answer, post)
    }

    fn keep_unless_done(
        &mut self,
        tx: u64,
        mut work: Work,
        outcome: Outcome,
        post: &mut dyn FnMut(usize, Message),
    ) -> Option<Answer> {
        let outcome = match outcome {
            Outcome::Reply(reply)
                if work.kind == Kind::ExecPart && self.owe_settlement(&mut work) =>
            {
                Outcome::Reply(reply)
            }
            Outcome::Reply(reply) if self.settle(tx, &mut work, post) => {
                work.settled_reply = Some(reply);
                Outcome::Pending
            }
            outcome => outcome,
        };
        if !matches!(
            outcome,
            Outcome::Pending | Outcome::Sent(_) | Outcome::Granted { .. }
        ) {
            self.tell(tx, &mut work, post);
        }
        let done = match (outcome, work.kind) {
            (Outcome::Pending, _) => {
                self.pending.insert(tx, work);
                return None;
            }
            (Outcome::Sent(parcel), _) => {
                let (session, request) = (work.session, work.request.clone());
                self.pending.insert(tx, work);
                return Some(Answer {
                    session,
                    call: request.call,
                    request,
                    done: Done::Errand { work: tx, parcel },
                });
            }
            (Outcome::Granted { clean }, _) => {
                let (session, request) = (work.session, work.request.clone());
                self.pending.insert(tx, work);
                return Some(Answer {
                    session,
                    call: request.call,
                    request,
                    done: Done::Held { work: tx, clean },
                });
            }
            (Outcome::Refused, _) => Done::Refused,
            (Outcome::Reply(_), Kind::Cut(_)) => return None,
            (Outcome::Reply(_), _) if work.is_refused => return None,
            (Outcome::Reply(_), Kind::Exec) => Done::Settled,
            (Outcome::Reply(reply), Kind::ExecPart) => Done::Part {
                reply,
                spent_ns: std::mem::take(&mut work.spent_ns),
            },
            (Outcome::Reply(reply), Kind::Retry) => Done::Tried(Some(reply)),
            (Outcome::Reply(reply), Kind::Command) => Done::Reply(reply),
            (Outcome::Waits, Kind::Retry) => Done::Tried(None),
            (Outcome::Waits, _) => Done::Waits,
        };
        Some(Answer {
            session: work.session,
            call: work.request.call,
            request: work.request,
            done,
        })
    }

    /// What a piece of work has to tell of is to be told, now that all of it is done; who waited for
    /// that gives its hold back. Of a part of a transaction it is told with the transaction.
    fn tell(&mut self, tx: u64, work: &mut Work, post: &mut dyn FnMut(usize, Message)) {
        work.end_step();
        let told = std::mem::take(&mut work.told);
        let whole = work.under.and_then(|under| self.pending.get_mut(&under));
        match whole {
            Some(whole) => whole.told.append(told),
            None => self.told.append(told),
        }
        for i in 0..work.participants.len() {
            if std::mem::take(&mut work.participants[i].kept) {
                self.send_finish(tx, work, i, Apply::Nothing, true, post);
            }
        }
    }

    /// What a transaction has to tell of so far is to be told before it goes on.
    pub fn tell_so_far(&mut self, tx: u64) {
        if let Some(work) = self.pending.get_mut(&tx) {
            let told = std::mem::take(&mut work.told);
            self.told.append(told);
        }
    }

    /// What is to be told now.
    pub fn take_told(&mut self) -> Option<Told> {
        let is_something = !self.told.is_empty();
        is_something.then(|| std::mem::take(&mut self.told))
    }

    /// What a part of a transaction applied is settled at the transaction's end. Returns false if
    /// that has come already, since the client is gone.
    fn owe_settlement(&mut self, work: &mut Work) -> bool {
        let Some(whole) = work.under.and_then(|under| self.pending.get_mut(&under)) else {
            return false;
        };
        for part in &mut work.participants {
            if std::mem::take(&mut part.unsettled) {
                whole.owes(part.shard);
            }
        }
        true
    }

    fn held_all(
        &mut self,
        tx: u64,
        work: &mut Work,
        post: &mut dyn FnMut(usize, Message),
    ) -> Outcome {
        if work.awaited > 0 {
            return Outcome::Pending;
        }
        let is_whole = work.participants.iter().all(|participant| participant.held);
        if is_whole || work.is_refused {
            return self.granted(tx, work, post);
        }
        // Backing off: give back what was granted, then wait in ascending order.
        self.tell(tx, work, post);
        for i in 0..work.participants.len() {
            if work.participants[i].held {
                work.participants[i].held = false;
                self.send_finish(tx, work, i, Apply::Nothing, true, post);
            }
        }
        work.step = Step::HoldNext(0);
        self.send_hold(tx, work, 0, Manner::Wait, post);
        Outcome::Pending
    }

    fn held_next(
        &mut self,
        tx: u64,
        work: &mut Work,
        i: usize,
        post: &mut dyn FnMut(usize, Message),
    ) -> Outcome {
        let next = i + 1;
        if next == work.participants.len() || work.is_refused {
            return self.granted(tx, work, post);
        }
        work.step = Step::HoldNext(next);
        self.send_hold(tx, work, next, Manner::Wait, post);
        Outcome::Pending
    }

    /// Everything is held and read: decide.
    fn granted(
        &mut self,
        tx: u64,
        work: &mut Work,
        post: &mut dyn FnMut(usize, Message),
    ) -> Outcome {
        work.end_step();
        if work.is_refused {
            self.release_all(tx, work, post);
            return Outcome::Reply(Ok(Output::default()));
        }
        let command = work.request.call.command;
        if let Kind::Cut(cut) = work.kind {
            work.step = Step::Finish;
            work.reply = Some(Output::default());
            for i in 0..work.participants.len() {
                self.send_finish(tx, work, i, Apply::Cut(cut), true, post);
            }
            return Outcome::Pending;
        }
        if work.kind == Kind::Exec {
            work.step = Step::Finish;
            let is_clean = |part: &Option<Part>| matches!(part, Some(Part::Int(1)));
            let clean = work.participants.iter().all(|held| is_clean(&held.part));
            return Outcome::Granted { clean };
        }
        if let Run::Gather(_) | Run::First(_) = command.run {
            return self.decide(tx, work, post);
        }
        if let Run::Errand(_) = command.run {
            return self.send_out(tx, work, post);
        }
        if !command.is_write() {
            self.release_all(tx, work, post);
            return Outcome::Reply(work.merge());
        }
        work.step = Step::Finish;
        for i in 0..work.participants.len() {
            self.send_finish(tx, work, i, Apply::Run, true, post);
        }
        Outcome::Pending
    }

    /// Decides, after what the decision wants to read beyond its keys has been read.
    fn decide(
        &mut self,
        tx: u64,
        work: &mut Work,
        post: &mut dyn FnMut(usize, Message),
    ) -> Outcome {
        let wanted = match work.step {
            Step::Read => Ok(None),
            _ => work.wanted(),
        };
        let planned = match wanted {
            Ok(Some(wanted)) => {
                work.step = Step::Read;
                for (i, wanted) in wanted.into_iter().enumerate() {
                    self.send_finish(tx, work, i, Apply::Read(wanted), false, post);
                }
                return Outcome::Pending;
            }
            Ok(None) => work.decide(),
            Err(error) => Err(error),
        };
        match planned {
            Err(error) => {
                self.release_all(tx, work, post);
                Outcome::Reply(Err(error))
            }
            Ok(plan) => self.carry_out(tx, work, plan, post),
        }
    }

    fn release_all(&self, tx: u64, work: &mut Work, post: &mut dyn FnMut(usize, Message)) {
        for i in 0..work.participants.len() {
            work.participants[i].kept = false;
            self.send_finish(tx, work, i, Apply::Nothing, true, post);
        }
    }

    fn carry_out(
        &mut self,
        tx: u64,
        work: &mut Work,
        plan: work::Plan,
        post: &mut dyn FnMut(usize, Message),
    ) -> Outcome {
        if plan.waits && work.request.ticket.is_some() {
            return self.let_wait(tx, work, post);
        }
        work.reply = Some(plan.reply);
        if let Some(transfer) = plan.transfer {
            let i = work.index_of_key(transfer.from.1);
            let apply = Apply::Take {
                db: transfer.from.0,
                key: transfer.from.1,
                event: transfer.left,
            };
            work.step = Step::Move {
                to: transfer.to,
                arrived: transfer.arrived,
            };
            self.send_finish(tx, work, i, apply, false, post);
            return Outcome::Pending;
        }
        work.step = Step::Finish;
        for (i, changes) in plan.changes.into_iter().enumerate() {
            let apply = if changes.is_empty() {
                Apply::Nothing
            } else {
                Apply::Changes(changes)
            };
            self.send_finish(tx, work, i, apply, true, post);
        }
        work.outcome_of_changes()
    }

    /// Nothing can be served: the client joins the queues of its keys, or stays in them.
    fn let_wait(
        &mut self,
        tx: u64,
        work: &mut Work,
        post: &mut dyn FnMut(usize, Message),
    ) -> Outcome {
        work.step = Step::Finish;
        work.waits = true;
        if let Some(ticket) = &work.request.ticket {
            ticket.claim.give_back();
        }
        for i in 0..work.participants.len() {
            let apply = if work.kind == Kind::Retry {
                Apply::Tried
            } else {
                Apply::Wait
            };
            self.send_finish(tx, work, i, apply, true, post);
        }
        Outcome::Pending
    }

    /// A journal has its part: once all have, the holds are given back and the client is answered.
    fn settled(
        &mut self,
        tx: u64,
        mut work: Work,
        post: &mut dyn FnMut(usize, Message),
    ) -> Option<Answer> {
        let mut outcome = Outcome::Pending;
        if work.awaited == 0 {
            self.release_all(tx, &mut work, post);
            let reply = work.settled_reply.take();
            outcome = Outcome::Reply(reply.unwrap_or(Ok(Output::default())));
        }
        self.keep_unless_done(tx, work, outcome, post)
    }

    /// A value has left its home for another.
    fn left(
        &mut self,
        tx: u64,
        work: &mut Work,
        part: Part,
        (to, arrived): ((u32, usize), Event),
        post: &mut dyn FnMut(usize, Message),
    ) -> Outcome {
        work.step = Step::Finish;
        let Part::Taken(taken) = part else {
            unreachable!("a take answers with what it took")
        };
        let arrival = work.index_of_key(to.1);
        for i in 0..work.participants.len() {
            let apply = match &taken {
                Some(_) if i == arrival => continue,
                _ => Apply::Nothing,
            };
            self.send_finish(tx, work, i, apply, true, post);
        }
        if let Some(value) = taken {
            let apply = Apply::Arrive {
                db: to.0,
                key: to.1,
                value,
                event: arrived,
            };
            self.send_finish(tx, work, arrival, apply, true, post);
        }
        work.outcome_of_changes()
    }

    /// A shard's answer to a finish. Returns the reply if the work is complete.
    pub fn finished(
        &mut self,
        tx: u64,
        from: usize,
        part: Part,
        told: Option<Box<Told>>,
        post: &mut dyn FnMut(usize, Message),
    ) -> Option<Answer> {
        let mut work = self.pending.remove(&tx)?;
        work.awaited -= 1;
        work.note_told(from, told);
        // What both halves of a move tell of is sorted together.
        if work.awaited == 0 && !matches!(work.step, Step::Move { .. }) {
            work.end_step();
        }
        if let Step::Move { to, arrived } = work.step {
            let outcome = self.left(tx, &mut work, part, (to, arrived), post);
            return self.keep_unless_done(tx, work, outcome, post);
        }
        if let Step::Settle = work.step {
            return self.settled(tx, work, post);
        }
        work.participant_mut(from).part = Some(part);
        if let Step::Read = work.step {
            let outcome = if work.awaited > 0 {
                Outcome::Pending
            } else {
                self.decide(tx, &mut work, post)
            };
            return self.keep_unless_done(tx, work, outcome, post);
        }
        if let Step::HoldAll = work.step {
            // Peeks under the holds of a transaction.
            let outcome = if work.awaited > 0 {
                Outcome::Pending
            } else {
                self.granted(tx, &mut work, post)
            };
            return self.keep_unless_done(tx, work, outcome, post);
        }
        let outcome = if work.awaited > 0 {
            Outcome::Pending
        } else if work.waits {
            Outcome::Waits
        } else if work.reply.is_some() {
            work.outcome_of_changes()
        } else {
            Outcome::Reply(work.merge())
        };
        self.keep_unless_done(tx, work, outcome, post)
    }
}
