//! One piece of multi-shard work: who takes part, how far it is, what has come back.

mod deciding;

use std::sync::Arc;

use smallvec::SmallVec;

pub(super) use deciding::Plan;

use crate::command::errand::Parcel;
use crate::command::{Part, Peek, Place, Run};
use crate::keyspace::Event;
use crate::keyspace::told::Told;
use crate::resp::{CmdError, Output, Writer};
use crate::shard::TxId;
use crate::shard::message::{Cut, HoldOn, KeyIndices, Request, SessionKey};

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

    /// Shards, and what each is to hold.
    pub fn all(scopes: impl IntoIterator<Item = (usize, HoldOn)>) -> Vec<Participant> {
        let participant = |(shard, on)| Participant::new(shard, on);
        scopes.into_iter().map(participant).collect()
    }

    /// Arguments that are its keys, in ascending order.
    pub fn keys(&self) -> &[u32] {
        match &self.on {
            HoldOn::Keys(keys) | HoldOn::EverythingWith(keys) => keys,
            HoldOn::Everything => &[],
        }
    }

    fn has_key(&self, at: usize) -> bool {
        self.keys().contains(&(at as u32))
    }
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
    /// Other work was in its way.
    pub has_waited: bool,
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
    ) -> Box<Work> {
        Box::new(Work {
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
            has_waited: false,
            told: Told::default(),
            told_in_step: Vec::new(),
            peeks: None,
            change_order: Vec::new(),
            order: Vec::new(),
            spent_ns: Vec::new(),
        })
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
                Some(Part::Ran { mut out, spent_ns }) => {
                    reply.take_over(&mut out);
                    self.spent_ns.extend(spent_ns);
                }
                _ => {}
            }
        }
        Outcome::Reply(Ok(reply))
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
            Run::Every(_) => request.ends().try_for_each(|_| writer.ok())?,
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
        let homes = self.participants.iter().zip(parts);
        let mut homes: SmallVec<[Replies; 4]> = homes
            .filter_map(|(participant, part)| Replies::new(participant.keys(), part))
            .collect();
        let mut out = Output::default();
        for end in self.request.ends() {
            let count = homes.iter().map(|home| home.count_before(end)).sum();
            let header = Writer::new(&mut out, self.request.proto).array(count);
            debug_assert!(header.is_ok());
            for _ in 0..count {
                if let Some(home) = homes.iter_mut().min_by_key(|home| home.next_key()) {
                    home.write_next(&mut out);
                }
            }
        }
        out
    }
}

/// The replies of one home that are not written yet.
struct Replies<'a> {
    out: &'a Output,
    /// Where the last that was written ends.
    from: (usize, usize),
    /// The key of each, in ascending order, and where each ends.
    keys: &'a [u32],
    ends: &'a [(usize, usize)],
}

impl<'a> Replies<'a> {
    fn new(keys: &'a [u32], part: &'a Part) -> Option<Replies<'a>> {
        let Part::Replies { out, ends } = part else {
            return None;
        };
        Some(Replies {
            out,
            from: (0, 0),
            keys,
            ends,
        })
    }

    fn count_before(&self, end: u32) -> usize {
        self.keys.partition_point(|at| *at < end)
    }

    fn next_key(&self) -> u32 {
        self.keys.first().copied().unwrap_or(u32::MAX)
    }

    fn write_next(&mut self, out: &mut Output) {
        if let (Some((_, keys)), Some((&end, ends))) =
            (self.keys.split_first(), self.ends.split_first())
        {
            out.append_range(self.out, self.from, end);
            (self.from, self.keys, self.ends) = (end, keys, ends);
        }
    }
}
