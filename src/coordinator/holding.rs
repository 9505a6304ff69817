//! The first half of a piece of work: until it holds everything that it is about to decide on.

use std::sync::Arc;

use super::work::{Kind, Outcome, Participant, Step, Work};
use super::{Answer, Coordinator};
use crate::command::{Part, Run};
use crate::keyspace::told::Told;
use crate::resp::Output;
use crate::shard::TxId;
use crate::shard::message::{Apply, Hold, Manner, Message, Request, SessionKey};

impl Coordinator {
    pub(super) fn start(
        &mut self,
        session: SessionKey,
        request: Arc<Request>,
        participants: Vec<Participant>,
        kind: Kind,
        post: &mut dyn FnMut(usize, Message),
    ) {
        let tx = self.new_tx();
        let mut work = Work::new(session, request, participants, kind);
        if let Some(own) = self.pair(&work) {
            work.step = Step::HoldHere { own };
            self.send_hold(tx, &mut work, own, Manner::Try, post);
        } else {
            for i in 0..work.participants.len() {
                self.send_hold(tx, &mut work, i, Manner::Try, post);
            }
        }
        self.pending.insert(tx, work);
    }

    pub(super) fn send_hold(
        &self,
        tx: TxId,
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

    /// A shard's answer to a hold. Returns the reply if the work is complete.
    pub fn held(
        &mut self,
        tx: TxId,
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
            Step::HoldHere { own } => self.held_here(tx, &mut work, own, post),
            Step::RunThere { own } => self.ran_there(tx, &mut work, own, post),
            Step::HoldNext(i) => self.held_next(tx, &mut work, i, post),
            Step::Finish | Step::Read | Step::Abroad | Step::Move { .. } | Step::Settle => {
                unreachable!("no hold is asked for any more")
            }
        };
        self.keep_unless_done(tx, work, answer, post)
    }

    pub(super) fn held_all(
        &mut self,
        tx: TxId,
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
        work.has_waited = true;
        work.step = Step::HoldNext(0);
        self.send_hold(tx, work, 0, Manner::Wait, post);
        Outcome::Pending
    }

    fn held_next(
        &mut self,
        tx: TxId,
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
    pub(super) fn granted(
        &mut self,
        tx: TxId,
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
}
