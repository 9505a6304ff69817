//! What shards, other nodes and the coordinator answer, and the replies that come of it.

use super::Core;
use crate::command::Run;
use crate::command::errand::Receipt;
use crate::coordinator::{Answer, Done};
use crate::resp::{CmdError, Output, Writer};
use crate::session::fan::HOP_KEPT_BYTES;
use crate::session::link::{Host, Link};
use crate::shard::TxId;
use crate::shard::message::{Hop, Message, Request, SessionKey};
use crate::shard::seen::Sight;

impl Core {
    /// A message from a shard (this one included).
    pub fn deliver(&mut self, message: Message, link: &mut dyn Link, host: &mut dyn Host) {
        match message {
            Message::Done(hop) => self.hop_done(hop, link, host),
            Message::Held {
                tx,
                from,
                part,
                told,
                unit,
            } => {
                self.note_work(tx, from, unit);
                let mut post = |to, message| link.post(to, message);
                let answer = self.coordinator.held(tx, from, part, told, &mut post);
                self.coordinated(answer, link, host);
            }
            Message::Finished {
                tx,
                from,
                part,
                told,
                unit,
            } => {
                self.note_work(tx, from, unit);
                let mut post = |to, message| link.post(to, message);
                let answer = self.coordinator.finished(tx, from, part, told, &mut post);
                self.coordinated(answer, link, host);
            }
            Message::Served {
                session,
                wait,
                out,
                spent_ns,
                sight,
            } => {
                self.note_served(session, sight);
                self.served(session, wait, (&out, spent_ns), link, host);
            }
            Message::Watched { session } => self.watched(session, link, host),
            Message::Ready { session, wait } => self.try_again(session, wait, link),
            Message::Busy => self.refuse_waiting(link, host),
            Message::Visit(visit) => self.visit(visit, link, host),
            Message::Visited(mut visit) => self.visited(&mut visit, link, host),
            Message::Hop(_)
            | Message::Hold(_)
            | Message::Finish(_)
            | Message::Watch { .. }
            | Message::Read { .. }
            | Message::Unwatch { .. }
            | Message::Forget(_) => {
                let now_ms = link.now_ms();
                self.shard
                    .deliver(message, now_ms, &mut |to, message| link.post(to, message));
                if !self.shard.is_unheld() && self.scripts.late.is_any() {
                    self.refuse_waiting(link, host);
                }
            }
        }
    }

    /// The coordinator has taken a message in: it may have to tell of something, and an answer.
    fn coordinated(&mut self, answer: Option<Answer>, link: &mut dyn Link, host: &mut dyn Host) {
        self.tell();
        if let Some(answer) = answer {
            self.work_done(answer, link, host);
        }
    }

    /// A shard has done its part of a piece of work.
    fn note_work(&mut self, tx: TxId, from: usize, unit: u64) {
        if let Some(key) = self.coordinator.whose(tx) {
            let shard = from as u32;
            let sight = Sight { shard, unit };
            match self.coordinator.is_retry(tx) {
                true => self.note_served(key, sight),
                false => self.note_sight(key, sight),
            }
        }
    }

    /// What multi-shard work has to tell of goes out with what this shard has.
    pub(in crate::session) fn tell(&mut self) {
        if let Some(told) = self.coordinator.take_told() {
            self.shard.keyspace.effects.tell(told);
        }
    }

    /// The hop is back: its replies go out, the session goes on.
    fn hop_done(&mut self, mut hop: Box<Hop>, link: &mut dyn Link, host: &mut dyn Host) {
        let key = hop.session;
        self.hops_away -= 1;
        let Some(session) = self.session_mut(key) else {
            return;
        };
        session.seen.note(hop.sight);
        self.note_slow(&hop, link, host);
        let fan = self.session_mut(key).and_then(|its| its.fan.as_mut());
        if let Some(fan) = fan.filter(|fan| fan.is_away()) {
            if fan.back(hop) {
                link.cork(key, false);
                self.fan_in(key, link);
                self.resume(key, link, host);
            }
            return;
        }
        link.cork(key, false);
        self.hand_out(key, &mut hop.out, link);
        hop.forget_ran();
        if let Some(session) = self.session_mut(key) {
            // What a burst needed is given back; the common small hop is kept for the next one.
            let keeps = hop.is_unfinished() || hop.memory_bytes() <= HOP_KEPT_BYTES;
            session.hop = keeps.then_some(hop);
        }
        self.resume(key, link, host);
    }

    /// Notes the commands of a hop that were slow.
    fn note_slow(&mut self, hop: &Hop, link: &mut dyn Link, host: &mut dyn Host) {
        for (call, ran) in hop.calls.iter().zip(&hop.ran) {
            if ran.spent_ns >= self.limits.slow_ns {
                let all = hop.args.as_args();
                let args = all.range(call.from as usize, call.to as usize);
                host.slow(self, link, hop.session, &args, ran.spent_ns);
            }
        }
    }

    pub(in crate::session) fn work_done(
        &mut self,
        answer: Answer,
        link: &mut dyn Link,
        host: &mut dyn Host,
    ) {
        let Answer {
            session: key,
            call,
            request,
            done,
            has_waited,
        } = answer;
        link.cork(key, false);
        let reply = match done {
            Done::Tried(reply) => return self.tried(key, &request, reply, link, host),
            Done::Settled => return self.exec_settled(key, link, host),
            Done::Refused => return self.refused(key, &request, link, host),
            Done::Errand { work, parcel } => return host.errand(self, link, work, *parcel),
            Done::Held { work, clean } => return self.exec_held(key, work, clean, link, host),
            Done::Part {
                reply,
                mut spent_ns,
            } => {
                if spent_ns.is_empty() {
                    // One over several shards: it is noted if all are.
                    spent_ns.push(self.work_share_ns(key, 1));
                }
                // Commands that ran together on one home were counted there, EXEC when it began.
                if !matches!(call.command.run, Run::Transaction(_) | Run::Script(_)) {
                    self.shard.stats.ran(call.id, spent_ns[0], reply.is_err());
                }
                return self.exec_part(key, reply, &spent_ns, link, host);
            }
            Done::Waits => {
                self.shard.stats.ran(call.id, 0, false);
                return self.waits(key, &request, link, host);
            }
            Done::Reply(reply) => reply,
        };
        let count = request.ends().count();
        let spent_ns = self.work_share_ns(key, count);
        for _ in 0..count {
            self.shard.stats.ran(call.id, spent_ns, reply.is_err());
        }
        if spent_ns >= self.limits.slow_ns {
            for args in request.commands() {
                host.slow(self, link, key, &args, spent_ns);
            }
        }
        let reply_bytes = reply.as_ref().map_or(0, Output::len) / count;
        if request.ticket.is_some() {
            // Served at once: there is nothing to wait for.
            self.forget_wait(key);
        }
        if self.session(key).is_none() {
            return;
        }
        if reply.is_ok() && self.is_told_later(key, call.command, host) {
            return;
        }
        self.emit_replies(key, &request, reply, link);
        if let Some(session) = self.session_mut(key) {
            let run = call.command.run;
            session.joint_past.note(run, reply_bytes, has_waited);
        }
        self.resume(key, link, host);
    }

    /// Work over several homes begins for a session.
    pub(in crate::session) fn note_work_begun(&mut self, key: SessionKey) {
        let now_ns = self.shard.now_ns();
        if let Some(session) = self.session_mut(key) {
            session.work_begun_ns = now_ns;
        }
    }

    /// What each of so many requests took that several homes have done together: as long as the client
    /// waited, in equal parts.
    fn work_share_ns(&self, key: SessionKey, count: usize) -> u64 {
        let waited_ns = self.session(key).map_or(0, |session| {
            self.shard.now_ns().saturating_sub(session.work_begun_ns)
        });
        waited_ns / count.max(1) as u64
    }

    /// Appends the replies of all commands that a request is.
    fn emit_replies(
        &mut self,
        key: SessionKey,
        request: &Request,
        reply: Result<Output, CmdError>,
        link: &mut dyn Link,
    ) {
        match reply {
            Ok(mut out) => {
                self.note_reply(key, &out);
                self.hand_out(key, &mut out, link);
            }
            Err(error) => {
                let mut out = Output::default();
                let written = Writer::new(&mut out, request.proto).error(&error);
                debug_assert!(written.is_ok());
                // Each of them counts.
                for _ in request.ends() {
                    self.emit(key, &out, link);
                }
            }
        }
    }

    /// What [`Host::errand`] was asked to send has arrived, or has not.
    pub fn returned(
        &mut self,
        work: TxId,
        receipt: &Receipt,
        link: &mut dyn Link,
        host: &mut dyn Host,
    ) {
        let mut post = |to, message| link.post(to, message);
        let answer = self.coordinator.returned(work, receipt, &mut post);
        self.coordinated(answer, link, host);
    }

    /// Replies to a session whose job was performed later, and lets it go on.
    pub fn answer(
        &mut self,
        key: SessionKey,
        out: &Output,
        link: &mut dyn Link,
        host: &mut dyn Host,
    ) {
        if self.execs.contains_key(&key) {
            // A job was counted when it began.
            let spent_ns = self.work_share_ns(key, 1);
            return self.exec_part(key, Ok(out.clone()), &[spent_ns], link, host);
        }
        let Some(session) = self.session_mut(key) else {
            return;
        };
        let mut known = None;
        // Counted once it is done, like every command: figures tell of none that asks for them.
        if let Some(job) = session.job.take() {
            known = job.reply;
            let failed = out.bytes.first() == Some(&b'-');
            if let Some(id) = job.id {
                self.shard.stats.ran(id, job.spent_ns, failed);
            }
            // It may have changed what is slow.
            if let Some(args) = job.args.filter(|_| job.spent_ns >= self.limits.slow_ns) {
                host.slow(self, link, key, &args.as_args(), job.spent_ns);
            }
        }
        match known {
            // Its errors were counted when it was written.
            Some(mut reply) => self.hand_out(key, &mut reply, link),
            None => self.emit(key, out, link),
        }
        if self
            .session(key)
            .is_some_and(|session| session.client.closing)
        {
            self.finish_session(key, link);
            return;
        }
        self.resume(key, link, host);
    }

    /// Replies with an error to a session whose job is not performed after all, and closes it.
    pub fn answer_and_close(&mut self, key: SessionKey, error: &CmdError, link: &mut dyn Link) {
        if let Some(job) = self.session_mut(key).and_then(|session| session.job.take()) {
            if let Some(id) = job.id {
                self.shard.stats.ran(id, job.spent_ns, true);
            }
            self.refuse_and_close(key, error, link);
        }
    }
}
