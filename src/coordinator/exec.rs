//! Transactions over several homes: their holds, their commands under these, their end.

use std::sync::Arc;

use super::work::{Kind, Participant, Step, Work};
use super::{Coordinator, NO_SESSION};
use crate::keyspace::told::Told;
use crate::resp::Output;
use crate::shard::message::{Apply, Calls, HoldOn, KeyIndices, Message, Request, SessionKey};
use crate::shard::{HeldPart, TxId};

impl Coordinator {
    /// Takes the holds of a transaction.
    pub fn start_exec(
        &mut self,
        session: SessionKey,
        request: Arc<Request>,
        scopes: Vec<(usize, HoldOn)>,
        post: &mut dyn FnMut(usize, Message),
    ) {
        self.start(session, request, Participant::all(scopes), Kind::Exec, post);
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

    /// Runs commands of a transaction on their home, under its holds.
    pub fn exec_calls(
        &mut self,
        session: SessionKey,
        request: Arc<Request>,
        home: usize,
        calls: Calls,
        under: TxId,
        post: &mut dyn FnMut(usize, Message),
    ) {
        let tx = self.new_tx();
        let participants = vec![Participant::new(home, HoldOn::Keys(KeyIndices::new()))];
        let mut work = Work::new(session, request, participants, Kind::ExecPart);
        work.under = Some(under);
        work.step = Step::Finish;
        work.reply = Some(Output::default());
        let apply = Apply::Calls(calls);
        self.send_finish(tx, &mut work, 0, apply, true, post);
        self.pending.insert(tx, work);
    }

    /// A command of a transaction has run on this shard, under its hold.
    pub fn ran_here(&mut self, under: TxId, part: HeldPart) {
        let Some(whole) = self.pending.get_mut(&under) else {
            debug_assert!(false, "what is held is known");
            return;
        };
        if part.is_aside {
            whole.owes(self.shard);
        }
        if let Some(told) = part.told {
            whole.told.append(Told::in_order([*told]));
        }
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
        let mut work = Work::new(session, request, Participant::all(scopes), Kind::ExecPart);
        work.under = Some(under);
        for i in 0..work.participants.len() {
            let apply = Apply::Peek(work.participants[i].on.clone());
            self.send_finish(tx, &mut work, i, apply, false, post);
        }
        self.pending.insert(tx, work);
    }

    /// Nobody waits for the end of a transaction.
    pub fn leave(&mut self, tx: TxId) {
        if let Some(work) = self.pending.get_mut(&tx) {
            work.session = NO_SESSION;
        }
    }

    /// Gives back the holds of a transaction. Returns false if its journals have to be written
    /// first: then [`Done::Settled`](super::Done::Settled) follows.
    pub fn end_exec(&mut self, tx: TxId, post: &mut dyn FnMut(usize, Message)) -> bool {
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

    /// What a transaction has to tell of so far is to be told before it goes on.
    pub fn tell_so_far(&mut self, tx: TxId) {
        if let Some(work) = self.pending.get_mut(&tx) {
            let told = std::mem::take(&mut work.told);
            self.told.append(told);
        }
    }

    /// What a part of a transaction applied is settled at the transaction's end. Returns false if
    /// that has come already, since the client is gone.
    pub(super) fn owe_settlement(&mut self, work: &mut Work) -> bool {
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
}
