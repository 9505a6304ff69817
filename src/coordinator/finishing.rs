//! The second half of a piece of work: deciding, having the homes apply it and their journals write it,
//! telling, giving the holds back, answering.

use smallvec::SmallVec;

use super::work::{Kind, Outcome, Plan, Step, Work};
use super::{Answer, Coordinator, Done};
use crate::command::{Part, Run};
use crate::journal::Mark;
use crate::keyspace::Event;
use crate::keyspace::told::Told;
use crate::resp::Output;
use crate::shard::TxId;
use crate::shard::message::{Apply, Finish, KeyIndices, Message, Settle};

impl Coordinator {
    /// Asks the journals of all who applied something to write it. Returns whether there are any.
    pub(super) fn settle(
        &self,
        tx: TxId,
        work: &mut Work,
        post: &mut dyn FnMut(usize, Message),
    ) -> bool {
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

    /// Whether what a shard applies stands in its journal only once the work is settled. Reading may
    /// find that a key has expired: in a transaction, that comes after what it did before.
    fn settles(&self, work: &Work, apply: &Apply) -> bool {
        let records = match apply {
            Apply::Run
            | Apply::Changes(_)
            | Apply::Take { .. }
            | Apply::Arrive { .. }
            | Apply::Calls(_) => true,
            Apply::Peek(_) | Apply::Read(_) => work.under.is_some(),
            _ => false,
        };
        self.journaled && records
    }

    pub(super) fn send_finish(
        &self,
        tx: TxId,
        work: &mut Work,
        i: usize,
        apply: Apply,
        release: bool,
        post: &mut dyn FnMut(usize, Message),
    ) {
        let settles = self.settles(work, &apply);
        let participant = &mut work.participants[i];
        let applies = !matches!(apply, Apply::Nothing);
        participant.unsettled |= settles;
        // Until all journals have it, nobody may build upon what was changed.
        let keeps = participant.kept || participant.unsettled;
        if !applies && keeps {
            return;
        }
        work.awaited += usize::from(applies);
        let finish = Finish {
            tx,
            origin: self.shard,
            request: work.request.clone(),
            keys: KeyIndices::from_slice(if applies { participant.keys() } else { &[] }),
            apply,
            release: release && !keeps,
            settles_under: settles.then(|| work.under.unwrap_or(tx)),
        };
        post(participant.shard, Message::Finish(Box::new(finish)));
    }

    pub(super) fn keep_unless_done(
        &mut self,
        tx: TxId,
        mut work: Box<Work>,
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
                return Some(self.keep(tx, work, Done::Errand { work: tx, parcel }));
            }
            (Outcome::Granted { clean }, _) => {
                return Some(self.keep(tx, work, Done::Held { work: tx, clean }));
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
            has_waited: work.has_waited,
            ..Answer::new(work.session, work.request, done)
        })
    }

    /// The session has its turn, and the work goes on after that.
    fn keep(&mut self, tx: TxId, work: Box<Work>, done: Done) -> Answer {
        let answer = Answer::new(work.session, work.request.clone(), done);
        self.pending.insert(tx, work);
        answer
    }

    /// What a piece of work has to tell of is to be told, now that all of it is done; who waited for
    /// that gives its hold back. Of a part of a transaction it is told with the transaction.
    pub(super) fn tell(&mut self, tx: TxId, work: &mut Work, post: &mut dyn FnMut(usize, Message)) {
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

    /// Decides, after what the decision wants to read beyond its keys has been read.
    pub(super) fn decide(
        &mut self,
        tx: TxId,
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

    pub(super) fn release_all(
        &self,
        tx: TxId,
        work: &mut Work,
        post: &mut dyn FnMut(usize, Message),
    ) {
        for i in 0..work.participants.len() {
            work.participants[i].kept = false;
            self.send_finish(tx, work, i, Apply::Nothing, true, post);
        }
    }

    pub(super) fn carry_out(
        &mut self,
        tx: TxId,
        work: &mut Work,
        plan: Plan,
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
        tx: TxId,
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
        tx: TxId,
        mut work: Box<Work>,
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
        tx: TxId,
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
        tx: TxId,
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
        let outcome = match work.step {
            _ if work.awaited > 0 => Outcome::Pending,
            Step::Read => self.decide(tx, &mut work, post),
            // It has peeked under the holds of a transaction.
            Step::HoldAll => self.granted(tx, &mut work, post),
            _ if work.waits => Outcome::Waits,
            _ if work.reply.is_some() => work.outcome_of_changes(),
            _ => Outcome::Reply(work.merge()),
        };
        self.keep_unless_done(tx, work, outcome, post)
    }
}
