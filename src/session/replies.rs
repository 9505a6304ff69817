//! Replies that no shard gives: errors, what a client does not want to see, and what waits when a socket
//! takes no more.

use super::core::Core;
use super::link::{Host, Link};
use super::requests::Next;
use super::state::{Session, State};
use crate::command::transaction::Transaction;
use crate::command::{CommandId, Entry, Run, flags};
use crate::resp::{self, Args, CmdError, Writer};
use crate::shard::message::{HopCall, MASTER, SessionKey};

/// Replies that a client which has not authenticated may have waiting before it is cut off: Redis'
/// 16 KiB buffer and the 1,024 bytes beyond it (CVE-2025-21605).
const STRANGER_DRAIN_BYTES: usize = 17 * 1024;
/// How much more room a client gets that sends on and reads nothing: what it sends takes few looks.
const DRAIN_STEP: usize = 4;

impl Core {
    pub(super) fn refuse_in_multi(
        &mut self,
        key: SessionKey,
        id: CommandId,
        link: &mut dyn Link,
    ) -> Next {
        const REFUSED: CmdError = CmdError::Text("ERR Command not allowed inside a transaction");
        self.count_rejected(id);
        self.spoil_transaction(key);
        self.reply_error(key, &REFUSED, link)
    }

    /// A client that listens in RESP2 sent something else.
    pub(super) fn refuse_listener(
        &mut self,
        key: SessionKey,
        id: CommandId,
        link: &mut dyn Link,
    ) -> Next {
        let name = self.table.entry(id).full_name();
        self.count_rejected(id);
        self.spoil_transaction(key);
        let error = CmdError::owned(format!(
            "ERR Can't execute '{name}': only (P|S)SUBSCRIBE / (P|S)UNSUBSCRIBE / PING / QUIT / \
             RESET are allowed in this context"
        ));
        self.reply_error(key, &error, link)
    }

    /// A replica asked for something that has a reply: that would stand in its stream.
    pub(super) fn refuse_replica(
        &mut self,
        key: SessionKey,
        id: CommandId,
        link: &mut dyn Link,
        host: &mut dyn Host,
    ) -> Next {
        let table = self.table.clone();
        host.replica_asked(self, link, key, table.entry(id));
        self.abandon(key, link);
        Next::Wait
    }

    /// A command fails, once replies that are under way have come.
    pub(super) fn fail_unless(
        &mut self,
        hopping: bool,
        key: SessionKey,
        (call, args): (HopCall, &Args),
        error: &CmdError,
        link: &mut dyn Link,
        host: &mut dyn Host,
    ) -> Next {
        match hopping {
            true => Next::Again,
            false => self.fail(key, (call, args), error, link, host),
        }
    }

    /// A command that ran into an error before it reached a shard.
    pub(super) fn fail(
        &mut self,
        key: SessionKey,
        (call, args): (HopCall, &Args),
        error: &CmdError,
        link: &mut dyn Link,
        host: &mut dyn Host,
    ) -> Next {
        self.note_ran(key, (call, args), true, link, host);
        self.reply_error(key, error, link)
    }

    /// A command that no shard has run is over: it is counted, and noted if it was slow.
    pub(super) fn note_ran(
        &mut self,
        key: SessionKey,
        (call, args): (HopCall, &Args),
        failed: bool,
        link: &mut dyn Link,
        host: &mut dyn Host,
    ) {
        let spent_ns = self.shard.lap_ns();
        self.shard.stats.ran(call.id, spent_ns, failed);
        // The script of a visitor is noted where its client is.
        self.note_visit(key, spent_ns, args);
        let is_noted = call.command.flags & flags::SKIP_SLOWLOG == 0;
        if is_noted && spent_ns >= self.limits.slow_ns {
            host.slow(self, link, key, args, spent_ns);
        }
    }

    /// Makes a session wait whose output outgrew what its socket takes.
    pub(super) fn check_drain(&mut self, key: SessionKey, link: &mut dyn Link) -> Next {
        let unsent_bytes = link.out(key).len();
        if unsent_bytes < STRANGER_DRAIN_BYTES {
            return Next::Continue;
        }
        if self.check_limit(key, link) {
            return Next::Wait;
        }
        let known = self.session(key).filter(|its| self.knows(its));
        let steps = known.map(|its| its.drain_steps);
        let known = known.is_some();
        let max = steps.map_or(STRANGER_DRAIN_BYTES, |steps| {
            let times = DRAIN_STEP.saturating_pow(steps);
            self.limits.drain_bytes.saturating_mul(times)
        });
        if unsent_bytes < max {
            return Next::Continue;
        }
        if !known {
            self.cut_off(key, link);
            return Next::Wait;
        }
        if let Some(session) = self.session_mut(key) {
            session.state = State::Draining;
        }
        self.drains = true;
        link.notify_drained(key);
        Next::Wait
    }

    /// Looks at who waits for its reader, now and then. A client that sends a pipeline to its end before
    /// it reads a reply would wait for us as we for it: once its socket holds as much of it as it can,
    /// and no reply was taken since the last look, it gets more room. Redis has no bound at all here
    /// unless `client-output-buffer-limit` sets one.
    pub fn look_at_readers(&mut self, link: &mut dyn Link, host: &mut dyn Host) {
        let waits = |session: &&Session| session.state == State::Draining;
        let waiting: Vec<SessionKey> = self.sessions().filter(waits).map(|its| its.key).collect();
        self.drains = !waiting.is_empty();
        for key in waiting {
            let unsent_bytes = link.pending_bytes(key);
            let Some(session) = self.session_mut(key) else {
                continue;
            };
            let before = session.undrained_bytes.replace(unsent_bytes);
            if session.reading_paused && before.is_some_and(|before| unsent_bytes >= before) {
                session.undrained_bytes = None;
                session.drain_steps += 1;
                self.resume(key, link, host);
            }
        }
    }

    /// Takes back what was written since `mark` if the client asked not to see it.
    pub(super) fn apply_reply_mode(
        &mut self,
        key: SessionKey,
        mark: (usize, usize),
        link: &mut dyn Link,
    ) {
        let Some(session) = self.session_mut(key) else {
            return;
        };
        if session.client.reply.suppresses() {
            link.out(key).rewind(mark);
        }
        session.client.reply.after_command();
    }

    /// Writes a reply that is not a command's on keys.
    pub(super) fn reply(
        &mut self,
        key: SessionKey,
        link: &mut dyn Link,
        write: impl FnOnce(&mut Writer) -> resp::CmdResult,
    ) -> Next {
        let Some(session) = self.session(key) else {
            return Next::Wait;
        };
        let proto = session.client.proto;
        let mark = link.out(key).mark();
        let written = write(&mut Writer::new(link.out(key), proto));
        debug_assert!(written.is_ok());
        self.apply_reply_mode(key, mark, link);
        self.check_drain(key, link)
    }

    pub(super) fn reply_error(
        &mut self,
        key: SessionKey,
        error: &CmdError,
        link: &mut dyn Link,
    ) -> Next {
        let Some(session) = self.session(key) else {
            self.fail_visit(key, error, link);
            return Next::Wait;
        };
        let proto = session.client.proto;
        let mark = link.out(key).mark();
        let written = Writer::new(link.out(key), proto).error(error);
        debug_assert!(written.is_ok());
        let reply = &link.out(key).bytes[mark.0..];
        self.shard.stats.note_error(reply);
        if key == MASTER {
            // Nothing is kept of replies to a master.
            let text = error.text();
            self.blame(&[b"-", &text[..]].concat());
        }
        self.apply_reply_mode(key, mark, link);
        self.check_drain(key, link)
    }

    /// What the master has done is refused here.
    pub(super) fn blame(&mut self, reply: &[u8]) {
        let last = self
            .session(MASTER)
            .and_then(|session| session.last_command);
        let name = last.map(|id| self.table.entry(id).full_name());
        self.shard
            .blame(reply, name.as_deref().unwrap_or("<unknown>"));
    }

    /// A request that names no command, or not with this number of arguments.
    pub(super) fn unknown(
        &mut self,
        key: SessionKey,
        args: &Args,
        error: &CmdError,
        link: &mut dyn Link,
        host: &mut dyn Host,
    ) -> Next {
        if let Some(session) = self.session_mut(key).filter(|_| key == MASTER) {
            session.last_command = None;
        }
        // A browser was made to talk to this port: its first line or header gives it away.
        if args.is(0, "post") || args.is(0, "host:") {
            host.attacked(self, key);
            if let Some(session) = self.session_mut(key) {
                session.state = State::Closing;
            }
            link.close(key);
            return Next::Wait;
        }
        if let Some(&Entry { id, command, .. }) = self.table.named(args)
            && matches!(error, CmdError::Arity(_))
        {
            self.count_rejected(id);
            if matches!(command.run, Run::Transaction(Transaction::Exec)) {
                return self.exec_refused(key, error, link);
            }
        }
        self.reply_error(key, error, link)
    }
}
