//! Replies that tell a client that every database is empty: they are given once nothing on the disk
//! brings anything back. FLUSHALL has one of its own, or is among the commands of a transaction or of
//! a script, whose whole reply waits then. What it did is done, and nobody else waits.

use super::core::Core;
use super::link::{Host, Link};
use super::state::{Pending, State};
use crate::command::Command;
use crate::command::generic::empties_everything;
use crate::resp::{Args, Output};
use crate::shard::message::SessionKey;

impl Core {
    /// Whether the reply to a command that has run comes later.
    pub(super) fn is_told_later(
        &mut self,
        key: SessionKey,
        command: &Command,
        host: &mut dyn Host,
    ) -> bool {
        command.name == "flushall" && self.awaits_nothing(key, None, host)
    }

    /// A transaction or a script is about to run a command.
    pub(super) fn note_flush(&mut self, key: SessionKey, command: &Command, args: &Args) {
        if !empties_everything(command, args) {
            return;
        }
        if let Some(session) = self.session_mut(key) {
            session.seen.emptied = true;
        } else if let Some(visit) = self.visits.get_mut(&key) {
            visit.seen.emptied = true;
        }
    }

    /// Hands out the reply of a transaction or a script. Returns false if it goes out later.
    pub(super) fn hand_out_whole(
        &mut self,
        key: SessionKey,
        out: &mut Output,
        link: &mut dyn Link,
        host: &mut dyn Host,
    ) -> bool {
        let session = self.session_mut(key);
        let emptied = session.is_some_and(|it| std::mem::take(&mut it.seen.emptied));
        if emptied && self.awaits_nothing(key, Some(out), host) {
            return false;
        }
        self.hand_out(key, out, link);
        true
    }

    /// Makes a session wait for the disk with its reply; `None`: that is the server's.
    fn awaits_nothing(
        &mut self,
        key: SessionKey,
        reply: Option<&mut Output>,
        host: &mut dyn Host,
    ) -> bool {
        if !host.emptied(self, key) {
            return false;
        }
        let Some(session) = self.session_mut(key) else {
            return false;
        };
        session.state = State::Awaiting;
        // For those who wait until nothing is under way it is a job: what it does is done.
        session.job = Some(Pending {
            id: None,
            spent_ns: 0,
            args: None,
            reply: reply.map(|reply| Box::new(std::mem::take(reply))),
        });
        true
    }
}
