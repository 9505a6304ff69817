//! Errands: what is held is sent to another server, and the decision waits for what becomes of it.

use super::work::{Outcome, Step, Work};
use super::{Answer, Coordinator};
use crate::command::errand::Receipt;
use crate::shard::TxId;
use crate::shard::message::Message;

impl Coordinator {
    /// Everything is held and read: it is sent, unless there is nothing to send.
    pub(super) fn send_out(
        &mut self,
        tx: TxId,
        work: &mut Work,
        post: &mut dyn FnMut(usize, Message),
    ) -> Outcome {
        match work.parcel() {
            Ok(Some(parcel)) => {
                work.step = Step::Abroad;
                Outcome::Sent(Box::new(parcel))
            }
            Ok(None) => self.decide_errand(tx, work, None, post),
            Err(error) => {
                self.release_all(tx, work, post);
                Outcome::Reply(Err(error))
            }
        }
    }

    fn decide_errand(
        &mut self,
        tx: TxId,
        work: &mut Work,
        receipt: Option<&Receipt>,
        post: &mut dyn FnMut(usize, Message),
    ) -> Outcome {
        match work.decide_errand(receipt) {
            Ok(plan) => self.carry_out(tx, work, plan, post),
            Err(error) => {
                self.release_all(tx, work, post);
                Outcome::Reply(Err(error))
            }
        }
    }

    /// What was sent to another server has arrived there, or has not.
    pub fn returned(
        &mut self,
        tx: TxId,
        receipt: &Receipt,
        post: &mut dyn FnMut(usize, Message),
    ) -> Option<Answer> {
        let mut work = self.pending.remove(&tx)?;
        debug_assert!(matches!(work.step, Step::Abroad), "something was sent");
        let outcome = self.decide_errand(tx, &mut work, Some(receipt), post);
        self.keep_unless_done(tx, work, outcome, post)
    }
}
