//! Work on two homes of which one is the coordinator's own: a message there and one back.
//!
//! ```text
//! hold here --granted--> the other home runs its part at once --done--> run here, release, reply
//!     \-- conflict --------------------\-- conflict: nothing was done --> back off, as ever
//! ```
//! The work takes effect at the instant the other home runs its part. Its own keys are held from before
//! that instant until its own part has run, so nobody sees one part without the other; the other home
//! need not hold anything, since nothing is still to be decided.
//!
//! Only for commands whose parts do not depend on each other, such as MGET and MSET. With journals, who
//! wrote first must hold its keys until the other has written too: then writes go the long way.

use super::Coordinator;
use super::work::{Kind, Outcome, Step, Work};
use crate::command::Run;
use crate::shard::TxId;
use crate::shard::message::{Apply, Manner, Message};

/// The place among two participants that is not this one.
fn other(own: usize) -> usize {
    1 - own
}

impl Coordinator {
    /// The place of this shard among the two participants, if the work can go that way.
    pub(super) fn pair(&self, work: &Work) -> Option<usize> {
        let command = work.request.call.command;
        let own = work
            .participants
            .iter()
            .position(|it| it.shard == self.shard)?;
        let is_apart = matches!(command.run, Run::Each(_) | Run::Sum(_) | Run::Every(_));
        let settles = self.journaled && command.is_write();
        (work.participants.len() == 2 && is_apart && work.kind == Kind::Command && !settles)
            .then_some(own)
    }

    /// This shard's own hold is granted, or not.
    pub(super) fn held_here(
        &mut self,
        tx: TxId,
        work: &mut Work,
        own: usize,
        post: &mut dyn FnMut(usize, Message),
    ) -> Outcome {
        if work.is_refused || !work.participants[own].held {
            return self.held_all(tx, work, post);
        }
        work.step = Step::RunThere { own };
        self.send_hold(tx, work, other(own), Manner::Run, post);
        Outcome::Pending
    }

    /// The other home has done its part, or a hold was in the way.
    pub(super) fn ran_there(
        &mut self,
        tx: TxId,
        work: &mut Work,
        own: usize,
        post: &mut dyn FnMut(usize, Message),
    ) -> Outcome {
        let other = other(own);
        if !work.participants[other].held {
            work.is_refused = work.gives_up;
            return match work.is_refused {
                true => {
                    self.release_all(tx, work, post);
                    Outcome::Refused
                }
                false => self.held_all(tx, work, post),
            };
        }
        work.participants[other].held = false;
        work.step = Step::Finish;
        if work.request.call.command.is_write() {
            self.send_finish(tx, work, own, Apply::Run, true, post);
            return Outcome::Pending;
        }
        for i in [own, other] {
            // The other home holds its keys only if it waits for what it had to tell of to be told.
            if std::mem::take(&mut work.participants[i].kept) || i == own {
                self.send_finish(tx, work, i, Apply::Nothing, true, post);
            }
        }
        Outcome::Reply(work.merge())
    }
}
