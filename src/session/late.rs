//! Scripts that take long: they run in slices, and who asks for something meanwhile is told so.

use std::sync::Arc;

use super::core::Core;
use super::link::{Host, Link};
use super::requests::Next;
use super::script::{Progress, Scripted};
use crate::command::Run;
use crate::command::transaction::Transaction;
use crate::resp::CmdError;
use crate::shard::TxId;
use crate::shard::message::{HopCall, Message, Request, SessionKey};

/// How long a script that is late runs before others get their turn.
const SLICE_NS: u64 = 1_000_000;

impl Core {
    /// Until when a script may go on; or why it does not.
    pub(super) fn time_left(
        &mut self,
        scripted: &mut Scripted,
        held: Option<TxId>,
        link: &mut dyn Link,
        host: &mut dyn Host,
    ) -> Result<u64, Progress> {
        let now_ns = self.shard.last_ns();
        let late_ns = scripted.late_ns(now_ns.saturating_add(self.scripts.busy_ns));
        if now_ns < late_ns {
            return Ok(late_ns);
        }
        let Some(late) = &scripted.late else {
            self.note_late(scripted, link, host);
            return Err(Progress::Paused);
        };
        if late.script.is_killed() {
            self.kill_script(scripted);
            return Err(Progress::Done);
        }
        // Replies to what it asks for arrive within the turn, and do not begin a new slice.
        let until_ns = *scripted.slice_ns.get_or_insert(now_ns + SLICE_NS);
        if now_ns >= until_ns || held.is_none() {
            scripted.slice_ns = None;
            return Err(Progress::Paused);
        }
        Ok(until_ns)
    }

    /// A script is late from now on: all shards tell those who wait.
    fn note_late(&mut self, scripted: &mut Scripted, link: &mut dyn Link, host: &mut dyn Host) {
        let late = scripted.lateness();
        let spent_ms = self.shard.last_ns().saturating_sub(late.begun_ns) / 1_000_000;
        let text = format!(
            "Slow script detected: still in execution after {spent_ms} milliseconds. You can try \
             killing the script using the {} command. Script name is: {}.",
            late.kind.killer(),
            String::from_utf8_lossy(&late.name)
        );
        host.log(3, text.as_bytes());
        scripted.late = Some(self.scripts.late.add(late));
        for shard in 0..self.shard.place.shards {
            link.post(shard, Message::Busy);
        }
    }

    /// Answers what waits for holds while a script is late.
    pub(super) fn refuse_waiting(&mut self, link: &mut dyn Link, host: &mut dyn Host) {
        let Some(error) = self.scripts.late.refusal() else {
            return;
        };
        let now_ms = link.now_ms();
        self.shard
            .refuse_waiting(&error, now_ms, &mut |to, message| link.post(to, message));
        for answer in self.coordinator.refuse_waiting() {
            self.work_done(answer, link, host);
        }
    }

    /// A command that waited for holds is given up.
    pub(super) fn refused(
        &mut self,
        key: SessionKey,
        request: &Arc<Request>,
        link: &mut dyn Link,
        host: &mut dyn Host,
    ) {
        if request.ticket.is_some() {
            self.forget_wait(key);
        }
        let error = self.scripts.late.refusal();
        let error = error.unwrap_or(CmdError::Text("ERR the server was busy"));
        match self.give_up(key, link) {
            Some(false) => {
                self.exec_refused(key, &error, link);
            }
            _ => {
                for _ in request.ends() {
                    self.count_rejected(request.call.id);
                    self.reply_error(key, &error, link);
                }
            }
        }
        self.resume(key, link, host);
    }

    /// A command that is not for a busy server. Redis: processCommand, rejectCommand.
    pub(super) fn refuse_busy(
        &mut self,
        key: SessionKey,
        call: HopCall,
        error: &CmdError,
        link: &mut dyn Link,
    ) -> Next {
        self.count_rejected(call.id);
        self.spoil_transaction(key);
        match call.command.run {
            Run::Transaction(Transaction::Exec) => self.exec_refused(key, error, link),
            _ => self.reply_error(key, error, link),
        }
    }
}
