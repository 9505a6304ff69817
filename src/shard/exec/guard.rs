//! A large value that a snapshot has yet to stream, and who is about to change it.
//!
//! A change has to wait until all of the value is streamed as it was. Streaming it at once would keep
//! everybody waiting; so it is what is streamed next, in pieces, and who wants to change it, and who comes
//! behind on the same key, waits in a hold, while everybody else goes on. Until somebody does there is no
//! hold, and reading waits for nothing.

use super::super::holds::{Holder, TxId};
use super::{Post, Shard};
use crate::command::{Command, flags, keys};
use crate::resp::Args;

/// A hold on a key whose value a snapshot has yet to stream.
#[derive(Debug)]
pub struct Guard {
    tx: TxId,
    db: u32,
    key: Box<[u8]>,
}

impl Shard {
    /// To be called before a command is asked for what is in its way: if it may change a large value that
    /// is yet to be streamed, that is held from now on.
    #[inline]
    pub fn guard<'k>(&mut self, command: &Command, db: u32, keys: impl Iterator<Item = &'k [u8]>) {
        if self.may_meet_cut(command) {
            self.guard_keys(db, keys);
        }
    }

    /// The same, with all keys of a call.
    #[inline]
    pub fn guard_call(&mut self, command: &Command, db: u32, args: &Args) {
        if self.may_meet_cut(command) {
            let positions = keys::positions(command.keys, args).unwrap_or_default();
            self.guard_keys(db, positions.iter().map(|&at| args.get(at)));
        }
    }

    fn may_meet_cut(&self, command: &Command) -> bool {
        self.keyspace.is_cutting() && command.flags & flags::READONLY == 0
    }

    /// The same for what may change any of these keys.
    pub fn guard_keys<'k>(&mut self, db: u32, keys: impl Iterator<Item = &'k [u8]>) {
        for key in keys {
            if !self.keyspace.stream_next(db, key) {
                continue;
            }
            // Nobody's work: coordinators count from zero.
            let mut unused = (0..).map(|n| TxId::MAX - n);
            let Some(tx) = unused.find(|&tx| !self.holds.holds(tx)) else {
                return;
            };
            let scope = self.holds.scope(std::iter::once(key));
            // Whoever holds it already may go on; what is left is streamed at once then.
            if self.holds.try_hold(tx, &scope, Holder::Brief) {
                let key = key.into();
                self.guards.push(Guard { tx, db, key });
            }
        }
    }

    /// Whether somebody waits for a value to be streamed.
    pub fn is_cut_awaited(&self) -> bool {
        !self.guards.is_empty()
    }

    /// Lets go on who waited for values that have been streamed.
    pub fn end_guards(&mut self, now_ms: i64, post: Post) {
        let mut at = 0;
        while let Some(Guard { tx, db, key }) = self.guards.get(at) {
            if self.keyspace.is_put_off(*db, key) {
                at += 1;
                continue;
            }
            let tx = *tx;
            self.guards.swap_remove(at);
            self.release(tx, now_ms, post);
        }
    }
}
