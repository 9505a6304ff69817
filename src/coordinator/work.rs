//! One piece of multi-shard work: who takes part, how far it is, what has come back.

use std::sync::Arc;

use bytes::Bytes;

use crate::command::errand::{Parcel, Receipt};
use crate::command::{Ask, Change, Decision, First, Part, Peek, Place, Run, Wanted, keys};
use crate::keyspace::Event;
use crate::keyspace::told::Told;
use crate::resp::{Args, CmdError, Output, Writer};
use crate::shard::TxId;
use crate::shard::message::{Cut, HoldOn, KeyIndices, Placed, Request, SessionKey};

/// How far the work is.
#[derive(Clone, Copy, Debug)]
pub(super) enum Step {
    /// All holds were asked for at once.
    HoldAll,
    /// The hold of this shard, whose place among the two participants this is, was asked for; the
    /// other home comes next.
    HoldHere { own: usize },
    /// The other home was asked to run its part, unless a hold is in its way.
    RunThere { own: usize },
    /// After a conflict: waiting for the hold of this participant, those before it are held.
    HoldNext(usize),
    /// Keys that the first reading led to are being read.
    Read,
    /// What was read is on its way to another server.
    Abroad,
    /// The value of a move has been asked from its old home and goes to this key.
    Move { to: (u32, usize), arrived: Event },
    /// Everything is applied; waiting for the journals to have it.
    Settle,
    /// Everything was decided; waiting for the homes to have applied it.
    Finish,
}

/// What a piece of work is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Command,
    /// An attempt to serve a client that waits.
    Retry,
    /// A cut of all shards.
    Cut(Cut),
    /// The holds of a transaction.
    Exec,
    /// Commands of a transaction, under its holds.
    ExecPart,
}

/// What a step leads to.
pub(super) enum Outcome {
    Pending,
    Reply(Result<Output, CmdError>),
    /// The client is in the queues of its keys.
    Waits,
    /// Given up before anything was done.
    Refused,
    /// This is to be sent, and the decision waits for what becomes of it.
    Sent(Box<Parcel>),
    /// A transaction holds everything it needs.
    Granted {
        clean: bool,
    },
}

/// One shard that takes part.
#[derive(Debug)]
pub(super) struct Participant {
    pub shard: usize,
    pub on: HoldOn,
    pub held: bool,
    pub part: Option<Part>,
    /// It applied something that its journal has not got yet.
    pub unsettled: bool,
    /// It keeps its hold until what it had to tell of is told.
    pub kept: bool,
}

impl Participant {
    pub fn new(shard: usize, on: HoldOn) -> Participant {
        Participant {
            shard,
            on,
            held: false,
            part: None,
            unsettled: false,
            kept: false,
        }
    }

    pub fn keys(&self) -> KeyIndices {
        match &self.on {
            HoldOn::Keys(keys) | HoldOn::EverythingWith(keys) => keys.clone(),
            HoldOn::Everything => KeyIndices::new(),
        }
    }

    fn has_key(&self, at: usize) -> bool {
        match &self.on {
            HoldOn::Keys(keys) | HoldOn::EverythingWith(keys) => keys.contains(&(at as u32)),
            HoldOn::Everything => false,
        }
    }
}

/// A value's way from one home to another.
pub(super) struct Transfer {
    pub from: (u32, usize),
    pub to: (u32, usize),
    pub left: Event,
    pub arrived: Event,
}

/// A decision, sorted by participant.
pub(super) struct Plan {
    pub reply: Output,
    pub changes: Vec<Vec<Placed<Change>>>,
    pub waits: bool,
    /// The only change, if it is a move between homes.
    pub transfer: Option<Transfer>,
}

pub(super) struct Work {
    pub session: SessionKey,
    pub request: Arc<Request>,
    /// In ascending shard order.
    pub participants: Vec<Participant>,
    pub step: Step,
    /// Answers still to come.
    pub awaited: usize,
    /// What to reply once all changes are applied.
    pub reply: Option<Output>,
    pub kind: Kind,
    /// The transaction that its parts are put aside under: itself, or the EXEC it is part of.
    pub under: Option<TxId>,
    /// The reply, while the journals are being written.
    pub settled_reply: Option<Result<Output, CmdError>>,
    /// Nothing could be served.
    pub waits: bool,
    /// The client was told that the server is busy: what is granted is given back.
    pub is_refused: bool,
    /// It is to be refused if nothing of it was done yet.
    pub gives_up: bool,
    /// What is to be told when everything is done, in order.
    pub told: Told,
    /// What the parts of the step that goes on have to tell of.
    told_in_step: Vec<Told>,
    /// The first reading of a decision that takes a second one.
    peeks: Option<Vec<Peek>>,
    /// Homes of the decided changes, in their order: what they write joins the reply in it.
    change_order: Vec<usize>,
    /// Homes of what the second reading wants, in the order in which it was wanted.
    order: Vec<usize>,
    /// How long each command of a transaction took.
    pub spent_ns: Vec<u64>,
}

impl Work {
    pub fn new(
        session: SessionKey,
        request: Arc<Request>,
        participants: Vec<Participant>,
        kind: Kind,
    ) -> Work {
        Work {
            session,
            request,
            participants,
            step: Step::HoldAll,
            awaited: 0,
            reply: None,
            kind,
            under: None,
            settled_reply: None,
            waits: false,
            is_refused: false,
            gives_up: false,
            told: Told::default(),
            told_in_step: Vec::new(),
            peeks: None,
            change_order: Vec::new(),
            order: Vec::new(),
            spent_ns: Vec::new(),
        }
    }

    pub fn participant_mut(&mut self, shard: usize) -> &mut Participant {
        let found = self
            .participants
            .iter_mut()
            .find(|participant| participant.shard == shard);
        found.expect("only participants answer")
    }

    /// A shard applied something that its journal has not got. A command without keys, such as one
    /// that is ill-formed, may have run where nothing is held.
    pub fn owes(&mut self, shard: usize) {
        if !self.participants.iter().any(|it| it.shard == shard) {
            let nothing = HoldOn::Keys(KeyIndices::new());
            self.participants.push(Participant::new(shard, nothing));
            self.participants.sort_unstable_by_key(|it| it.shard);
        }
        self.participant_mut(shard).unsettled = true;
    }

    /// A part has something to tell of.
    pub fn note_told(&mut self, from: usize, told: Option<Box<Told>>) {
        if let Some(told) = told {
            self.participant_mut(from).kept = true;
            self.told_in_step.push(*told);
        }
    }

    /// All parts of a step have answered.
    pub fn end_step(&mut self) {
        if !self.told_in_step.is_empty() {
            let parts = std::mem::take(&mut self.told_in_step);
            self.told.append(Told::in_order(parts));
        }
    }

    /// The participant that is home to the key at argument `at`.
    pub fn index_of_key(&self, at: usize) -> usize {
        let found = self
            .participants
            .iter()
            .position(|participant| participant.has_key(at));
        found.expect("a decision names keys of its request")
    }

    /// The reply, once no answer is awaited any more.
    pub fn outcome_of_changes(&mut self) -> Outcome {
        if self.awaited > 0 {
            return Outcome::Pending;
        }
        let mut reply = self.reply.take().unwrap_or_default();
        let mut written = vec![0; self.participants.len()];
        for &home in &self.change_order {
            if let Some(Part::Replies { out, ends }) = &self.participants[home].part {
                let nth = written[home];
                let from = if nth == 0 { (0, 0) } else { ends[nth - 1] };
                reply.append_range(out, from, ends[nth]);
                written[home] += 1;
            }
        }
        for participant in &mut self.participants {
            match participant.part.take() {
                Some(Part::Elements { out, .. }) => reply.append(&out),
                Some(Part::Ran { out, spent_ns }) => {
                    reply.append(&out);
                    self.spent_ns.extend(spent_ns);
                }
                _ => {}
            }
        }
        Outcome::Reply(Ok(reply))
    }

    /// What the decision has to read beyond its keys: for each participant, with the places that the
    /// answers go to. `None` if nothing.
    pub fn wanted(&mut self) -> Result<Option<Vec<Vec<Placed<Wanted>>>>, CmdError> {
        let request = self.request.clone();
        let args = request.args.as_args();
        let Run::Gather(gather) = request.call.command.run else {
            return Ok(None);
        };
        let Some(more) = gather.more_for(&args) else {
            return Ok(None);
        };
        let (positions, peeks) = self.take_peeks(&args)?;
        let wanted = (more.wanted)(&ask(&request, &args, &positions), &peeks)?;
        self.peeks = Some(peeks);
        let shards = self.participants.len();
        let mut sorted: Vec<Vec<Placed<Wanted>>> = vec![Vec::new(); shards];
        for (at, wanted) in (0..).zip(wanted) {
            let home = keys::home(&wanted.key, shards);
            self.order.push(home);
            sorted[home].push((at, wanted));
        }
        Ok(Some(sorted))
    }

    /// What the second reading found, in the order in which it was wanted.
    fn found(&mut self) -> Vec<Option<Bytes>> {
        let mut parts: Vec<_> = self
            .participants
            .iter_mut()
            .map(|participant| match participant.part.take() {
                Some(Part::Found(found)) => found.into_iter(),
                _ => Vec::new().into_iter(),
            })
            .collect();
        let order = std::mem::take(&mut self.order);
        let next = |home: usize| parts[home].next().flatten();
        order.into_iter().map(next).collect()
    }

    fn take_peeks(&mut self, args: &Args) -> Result<(keys::KeyPositions, Vec<Peek>), CmdError> {
        let positions = keys::positions(self.request.call.command.keys, args);
        let positions = positions.ok_or(CmdError::Syntax)?;
        let peeks = match self.peeks.take() {
            Some(peeks) => peeks,
            None => self.peeks_in_key_order(&positions),
        };
        Ok((positions, peeks))
    }

    /// Decides a gather, or which key serves.
    pub fn decide(&mut self) -> Result<Plan, CmdError> {
        let request = self.request.clone();
        let args = request.args.as_args();
        let (positions, peeks) = self.take_peeks(&args)?;
        let ask = ask(&request, &args, &positions);
        let Decision {
            reply,
            changes,
            waits,
        } = match request.call.command.run {
            Run::Gather(gather) => match gather.more_for(&args) {
                Some(more) => {
                    let found = self.found();
                    (more.decide)(&ask, &peeks, &found)?
                }
                None => (gather.decide)(&ask, &peeks)?,
            },
            Run::First(first) => decide_first(first, &ask, &peeks)?,
            _ => unreachable!("only these decide"),
        };
        Ok(self.sort_changes(reply, changes, waits))
    }

    /// What another server is to have before an errand is decided.
    pub fn parcel(&mut self) -> Result<Option<Parcel>, CmdError> {
        let request = self.request.clone();
        let args = request.args.as_args();
        let Run::Errand(errand) = request.call.command.run else {
            return Ok(None);
        };
        let (positions, peeks) = self.take_peeks(&args)?;
        (errand.send)(&ask(&request, &args, &positions), &peeks)
    }

    /// Decides an errand, now that it is known what became of what was sent.
    pub fn decide_errand(&mut self, receipt: Option<&Receipt>) -> Result<Plan, CmdError> {
        let request = self.request.clone();
        let args = request.args.as_args();
        let Run::Errand(errand) = request.call.command.run else {
            unreachable!("only errands are sent")
        };
        let positions = keys::positions(request.call.command.keys, &args).unwrap_or_default();
        let decision = (errand.decide)(&ask(&request, &args, &positions), receipt)?;
        Ok(self.sort_changes(decision.reply, decision.changes, decision.waits))
    }

    fn peeks_in_key_order(&mut self, positions: &[usize]) -> Vec<Peek> {
        let mut found: Vec<Option<Peek>> = positions.iter().map(|_| None).collect();
        for participant in &mut self.participants {
            let keys = participant.keys();
            let Some(Part::Peeks(peeks)) = participant.part.take() else {
                unreachable!("a gather's hold answers with peeks")
            };
            for (at, peek) in keys.into_iter().zip(peeks) {
                // A key named twice is peeked twice; each peek fills the next place of its key.
                let place = (0..positions.len())
                    .find(|&i| positions[i] == at as usize && found[i].is_none());
                found[place.expect("peeks are of asked keys")] = Some(peek);
            }
        }
        found
            .into_iter()
            .map(|peek| peek.expect("every key was peeked"))
            .collect()
    }

    fn sort_changes(&mut self, reply: Output, changes: Vec<Change>, waits: bool) -> Plan {
        let mut sorted: Vec<Vec<Placed<Change>>> =
            self.participants.iter().map(|_| Vec::new()).collect();
        let mut transfer = None;
        for change in changes {
            let home = match &change {
                Change::Remove { key, .. }
                | Change::SetString { key, .. }
                | Change::Call { key, .. }
                | Change::Serve { key, .. }
                | Change::Store { key, .. }
                | Change::Put { key, .. } => self.index_of_key(*key),
                Change::Move {
                    from,
                    to,
                    left,
                    arrived,
                } => {
                    let home = self.index_of_key(from.1);
                    if home != self.index_of_key(to.1) {
                        let (from, to, left, arrived) = (*from, *to, *left, *arrived);
                        transfer = Some(Transfer {
                            from,
                            to,
                            left,
                            arrived,
                        });
                        continue;
                    }
                    home
                }
            };
            sorted[home].push((self.change_order.len() as u32, change));
            self.change_order.push(home);
        }
        debug_assert!(
            transfer.is_none() || sorted.iter().all(Vec::is_empty),
            "a move between homes is the only change of its decision"
        );
        Plan {
            reply,
            waits,
            changes: sorted,
            transfer,
        }
    }

    /// Merges the parts of a command that is not a gather.
    pub fn merge(&mut self) -> Result<Output, CmdError> {
        let request = self.request.clone();
        let args = request.args.as_args();
        let mut parts = Vec::with_capacity(self.participants.len());
        for participant in &mut self.participants {
            match participant.part.take() {
                Some(Part::Failed(error)) => return Err(error),
                Some(part) => parts.push(part),
                None => parts.push(Part::Nothing),
            }
        }
        let mut out = Output::default();
        let mut writer = Writer::new(&mut out, request.proto);
        match request.call.command.run {
            Run::Each(_) => return Ok(self.concatenate(&parts)),
            Run::Sum(_) => {
                let sum = parts
                    .iter()
                    .map(|part| if let Part::Int(n) = part { *n } else { 0 })
                    .sum();
                writer.int(sum)?;
            }
            Run::Every(_) => writer.ok()?,
            Run::Shards { merge, .. } => merge(&args, parts, &mut writer)?,
            Run::At { merge, .. } => {
                let shards = parts.len();
                merge(&args, Place { shard: 0, shards }, parts, &mut writer)?;
            }
            _ => unreachable!("only these spread over shards in parts"),
        }
        Ok(out)
    }

    /// The replies of all keys in request order.
    fn concatenate(&self, parts: &[Part]) -> Output {
        let mut order: Vec<(u32, usize, usize)> = Vec::new();
        for (i, participant) in self.participants.iter().enumerate() {
            order.extend(
                participant
                    .keys()
                    .into_iter()
                    .enumerate()
                    .map(|(n, at)| (at, i, n)),
            );
        }
        order.sort_unstable();
        let mut out = Output::default();
        let header = Writer::new(&mut out, self.request.proto).array(order.len());
        debug_assert!(header.is_ok());
        for (_, i, n) in order {
            let Part::Replies { out: replies, ends } = &parts[i] else {
                continue;
            };
            let from = if n == 0 { (0, 0) } else { ends[n - 1] };
            out.append_range(replies, from, ends[n]);
        }
        out
    }
}

fn ask<'a>(request: &Request, args: &'a Args<'a>, keys: &'a [usize]) -> Ask<'a> {
    Ask {
        args,
        keys,
        db: request.db,
        databases: request.databases,
        now_ms: request.now_ms,
        proto: request.proto,
    }
}

/// The key that serves, and a null reply if there is none.
fn decide_first(first: &'static First, ask: &Ask, peeks: &[Peek]) -> Result<Decision, CmdError> {
    (first.check)(ask.args)?;
    let Some(found) = First::choose(peeks)? else {
        let decision = Decision::reply(ask, |out| out.null_array())?;
        return Ok(Decision {
            waits: true,
            ..decision
        });
    };
    let serve = Change::Serve {
        db: ask.db,
        key: ask.keys[found],
        first,
    };
    Ok(Decision::default().with(vec![serve]))
}
