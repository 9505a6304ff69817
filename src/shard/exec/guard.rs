//! A large value that a snapshot streams in pieces, and who is about to change it.
//!
//! A change has to wait until all of the value is streamed as it was. Streaming the rest at once would
//! keep everybody waiting; so who wants to change it, and who comes behind on the same key, waits in a
//! hold, and everybody else goes on. Until somebody does there is no hold, and reading waits for nothing.

use super::super::holds::{Holder, TxId};
use super::{Post, Shard};
use crate::command::{Command, flags};
use crate::keyspace::cut::WORTH_WAITING_BYTES;

/// The holder that is nobody's work. Coordinators count from zero.
const CUT: TxId = TxId::MAX;

impl Shard {
    /// To be called before a command is asked for what is in its way: if it may change a value that is
    /// being streamed, that is held from now on.
    #[inline]
    pub fn guard<'k>(&mut self, command: &Command, keys: impl Iterator<Item = &'k [u8]>) {
        if self.keyspace.is_amid_value() && command.flags & flags::READONLY == 0 {
            self.guard_keys(keys);
        }
    }

    /// The same for what may change any of these keys.
    pub fn guard_keys<'k>(&mut self, mut keys: impl Iterator<Item = &'k [u8]>) {
        let Some(under_way) = self.keyspace.key_under_way(WORTH_WAITING_BYTES) else {
            return;
        };
        if keys.any(|key| key == under_way) {
            let scope = self.holds.scope(std::iter::once(under_way));
            // Whoever holds it already may go on; what is left is streamed at once then.
            self.holds.try_hold(CUT, &scope, Holder::Brief);
        }
    }

    /// Whether somebody waits for the value that is being streamed.
    pub fn is_cut_awaited(&self) -> bool {
        self.holds.holds(CUT)
    }

    /// Lets go on who waited for a value that has been streamed.
    pub fn end_guard(&mut self, now_ms: i64, post: Post) {
        if self.is_cut_awaited() && self.keyspace.key_under_way(0).is_none() {
            self.release(CUT, now_ms, post);
        }
    }
}
