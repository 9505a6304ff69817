//! Which commands may run on this server as it is now, and who is let in once that has changed.

use super::super::ask::NodeMessage;
use super::super::journal;
use super::super::log;
use super::super::pauses::HeldBack;
use super::super::saves::MISCONF;
use super::ServerHost;
use crate::command::{Command, Entry, flags};
use crate::resp::CmdError;
use crate::session::{Core, Link};
use crate::shard::message::{MASTER, SessionKey};

/// Redis: server.c, shared.noreplicaserr.
const NO_REPLICAS: CmdError = CmdError::Text("NOREPLICAS Not enough good replicas to write.");

impl ServerHost {
    /// Why a command is not for this server as it is now.
    pub(super) fn refusal(&self, session: SessionKey, command: &Command) -> Option<CmdError> {
        let flags = command.flags;
        let is_replica = self.identity.role.is_replica();
        if is_replica
            && command.is_write()
            && let Some(error) = self.refuses_as_replica(session)
        {
            return Some(error);
        }
        if is_replica
            && flags & flags::STALE == 0
            && let Some(error) = self.refuses_as_stale(session)
        {
            return Some(error);
        }
        if flags & flags::LOADING == 0 && self.part.is_any_loading() {
            return Some(CmdError::Loading);
        }
        if flags & flags::NO_ASYNC_LOADING != 0 && self.part.is_loading_beside() {
            return Some(CmdError::Loading);
        }
        let is_told = command.is_write() || command.name == "ping";
        if is_told && let Some(error) = self.disk_error() {
            return Some(error);
        }
        self.lacks_replicas().filter(|_| command.is_write())
    }

    /// Whether a command has to wait until everything is read again. What ends a script that is waited
    /// for may run; what comes once the load goes on is refused, or may run meanwhile.
    pub(super) fn is_frozen_for(&self, session: SessionKey, entry: &Entry) -> bool {
        let may_run = session == MASTER || entry.command.flags & flags::ALLOW_BUSY != 0;
        self.frozen && !may_run && !self.part.is_any_loading()
    }

    /// Why writes are refused, if they are: they would not come to the disk.
    pub(super) fn disk_error(&self) -> Option<CmdError> {
        if self.part.is_journal_failing() {
            return Some(journal::misconf(&self.part.journal_failure()));
        }
        self.is_misconfigured().then_some(MISCONF)
    }

    /// A command of the master cannot be refused: where the disk does not take it, it is carried out all
    /// the same, or the server ends. Redis: server.c processCommand.
    pub(super) fn mind_disk(&mut self, command: &Command) {
        /// Redis: as often.
        const TOLD_MS: i64 = 10_000;
        if !command.is_write() || self.disk_error().is_none() {
            return;
        }
        if !self.config.flag("replica-ignore-disk-write-errors") {
            if self.stop.is_none() {
                log::warning("Replica was unable to write command to disk.");
            }
            self.stop = Some(1);
        } else if self.now_ms >= self.undurable_told_ms + TOLD_MS {
            self.undurable_told_ms = self.now_ms;
            log::warning(
                "Replica is applying a command even though it is unable to write to disk.",
            );
        }
    }

    /// Why a master with too few replicas takes no writes.
    pub(super) fn lacks_replicas(&self) -> Option<CmdError> {
        let is_short = self.part.good_replicas() < self.replicas_min;
        (is_short && !self.identity.role.is_replica()).then_some(NO_REPLICAS)
    }

    /// A node asks for memory: keys are evicted, and told of before the answer.
    pub fn make_room(
        &mut self,
        core: &mut Core,
        link: &mut dyn Link,
        from: usize,
        session: SessionKey,
    ) {
        core.shard.make_room(link.now_ms());
        if !core.shard.keyspace.effects.events.is_empty() {
            self.notify(core, link);
        }
        if core.shard.keyspace.effects.tracking.has_news() {
            self.invalidate(core);
        }
        self.mail.push((from, NodeMessage::MadeRoom { session }));
    }

    /// A node has evicted what it could. Returns whether all have.
    pub fn made_room(&mut self, session: SessionKey) -> bool {
        let Some(at) = self.rooms.iter().position(|(key, _)| *key == session) else {
            return false;
        };
        self.rooms[at].1 -= 1;
        let is_all = self.rooms[at].1 == 0;
        if is_all {
            self.rooms.swap_remove(at);
        }
        is_all
    }

    /// Whether nothing may change by itself, as clients are paused.
    pub fn is_still(&self, now_ms: i64) -> bool {
        self.frozen || self.pauses.held_back(now_ms) != HeldBack::Nothing
    }

    /// Whether clients are paused; keys that are due stay meanwhile.
    pub fn mind_pause(&mut self, core: &mut Core, now_ms: i64) -> bool {
        if self.pauses.due_ms(now_ms).is_none() {
            self.pauses.unpause();
        }
        let is_paused = self.is_still(now_ms);
        core.shard.keyspace.pause_expiry(is_paused);
        is_paused
    }

    /// Sessions that were held back and that may go on now, or some of them.
    pub fn unpaused(&mut self, now_ms: i64) -> Vec<SessionKey> {
        // Some may run during a load, and the others are told of it.
        let is_frozen = self.frozen && !self.part.is_any_loading();
        match !is_frozen && self.pauses.take_weaker(now_ms) {
            true => std::mem::take(&mut self.postponed),
            false => Vec::new(),
        }
    }
}
