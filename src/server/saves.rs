//! Snapshots that are asked for, or due: SAVE and BGSAVE, save points, FLUSHALL.

use super::ask::{NodeMessage, Requester};
use super::host::ServerHost;
use super::jobs::done;
use super::log;
use super::persist::{self, After, Saving, replay};
use crate::command::Job;
use crate::resp::{Args, CmdError, Writer};
use crate::session::{Core, Performed};
use crate::shard::message::{MASTER, SessionKey};

const IN_PROGRESS: CmdError = CmdError::Text("ERR Background save already in progress");

impl ServerHost {
    /// SAVE, BGSAVE and LASTSAVE, on shard 0.
    pub(super) fn save_command(
        &mut self,
        job: Job,
        requester: Requester,
        args: &Args,
        out: &mut Writer,
    ) -> Performed {
        match job {
            Job::LastSave => done(out.int(self.persistence.status.last_save_s)),
            Job::Save if self.is_saving() => Performed::Failed(IN_PROGRESS),
            Job::Save => {
                let persistence = &mut self.persistence;
                let after = After::Reply(requester);
                persistence.save(&self.config, after, self.now_ms, &mut self.mail);
                Performed::Later
            }
            _ => self.bgsave(requester, args, out),
        }
    }

    /// Whether a snapshot is under way that a new one may not replace. FLUSHALL's snapshot of
    /// nothing gives way, and is over when this returns.
    fn is_saving(&mut self) -> bool {
        let persistence = &mut self.persistence;
        persistence.cancel_save_if(|saving| saving.yields, &mut self.mail);
        persistence.saving.is_some()
    }

    /// BGSAVE [SCHEDULE|CANCEL]
    fn bgsave(&mut self, requester: Requester, args: &Args, out: &mut Writer) -> Performed {
        match args.len() {
            1 => {}
            2 if args.is(1, "schedule") => {}
            2 if args.is(1, "cancel") => {
                let persistence = &mut self.persistence;
                let is_saving = persistence.saving.is_some();
                if std::mem::take(&mut persistence.scheduled) && !is_saving {
                    return done(out.simple("Scheduled background saving cancelled"));
                }
                // A base of the append-only file is not what is given up.
                if persistence.cancel_save_if(Saving::is_plain, &mut self.mail) {
                    log::notice("Background saving cancelled");
                    return done(out.simple("Background saving cancelled"));
                }
                return Performed::Failed(CmdError::Text(
                    "ERR Background saving is currently not in progress or scheduled",
                ));
            }
            _ => return Performed::Failed(CmdError::Syntax),
        }
        let is_saving = self.is_saving();
        let persistence = &mut self.persistence;
        let is_rewriting = persistence.aof.is_rewriting();
        if requester.in_exec && !is_saving || is_rewriting && args.len() == 2 {
            persistence.scheduled = true;
            return done(out.simple("Background saving scheduled"));
        }
        if is_rewriting {
            return Performed::Failed(CmdError::Text(
                "ERR Another child process is active (AOF?): can't BGSAVE right now. Use BGSAVE \
                 SCHEDULE in order to schedule a BGSAVE whenever possible.",
            ));
        }
        if is_saving {
            return Performed::Failed(IN_PROGRESS);
        }
        self.begin_bgsave();
        match self.persistence.saving {
            Some(_) => done(out.simple("Background saving started")),
            None => Performed::Failed(CmdError::Text("ERR")),
        }
    }

    pub(super) fn begin_bgsave(&mut self) {
        let persistence = &mut self.persistence;
        persistence.save(&self.config, After::Nothing, self.now_ms, &mut self.mail);
        if persistence.saving.is_some() {
            let pid = std::process::id();
            log::notice(&format!("Background saving started by pid {pid}"));
        }
    }

    /// FLUSHALL: a snapshot under way is of no use any more, and the one on the disk would bring back
    /// what was deleted. Redis: db.c flushAllDataAndResetRDB.
    pub(super) fn save_nothing(&mut self) {
        let persistence = &mut self.persistence;
        if persistence.loading.is_some() || persistence.replay.is_some() || self.stopping {
            return;
        }
        // Replicas that wait for it ask again.
        if persistence.cancel_save_if(Saving::is_plain, &mut self.mail) {
            log::notice("FLUSHALL aborted the background saving");
        }
        if persistence.points.is_empty() {
            return;
        }
        if persistence.is_busy() {
            // What is under way is no snapshot of nothing: one comes behind it.
            persistence.scheduled = true;
        } else {
            self.begin_bgsave();
            if let Some(saving) = &mut self.persistence.saving {
                saving.yields = true;
            }
        }
    }

    /// Whether a client's FLUSHALL waits until [`ServerHost::save_nothing`] has come to its end, and
    /// asks shard 0 to tell.
    pub(super) fn awaits_nothing(&mut self, core: &Core, session: SessionKey) -> bool {
        // What a master's stream or a file repeats waits for nothing.
        let repeats = matches!(session, replay::SESSION | MASTER);
        if repeats || self.config.text("save").is_empty() {
            return false;
        }
        let message = persist::Message::Emptied(self.requester(core, session));
        self.mail.push((0, NodeMessage::Persist(message)));
        true
    }

    /// Replies to those whose FLUSHALL waits, once the snapshot in `dbfilename` is one of after it, or
    /// could not be written. Every shard had done its part before they came to wait: what is still to
    /// be saved for them is under way or scheduled by now.
    pub(super) fn tell_emptied(&mut self) {
        let persistence = &mut self.persistence;
        if persistence.emptied.is_empty() {
            return;
        }
        // A snapshot for replicas or of the append-only file is awaited only if ours comes behind it:
        // that may take long, and is not worth it if the append-only file is what a start reads.
        let comes = persistence.scheduled && !persistence.aof.on;
        let is_ours =
            |saving: &Saving| !matches!(saving.after(), After::Rewrite | After::Sync | After::Pipe);
        if comes || persistence.saving.as_deref().is_some_and(is_ours) {
            return;
        }
        for requester in std::mem::take(&mut persistence.emptied) {
            persist::reply(&mut self.mail, requester, Ok(()));
        }
    }

    /// Saves if enough has changed for long enough.
    pub(super) fn look_at_save_points(&mut self) {
        let persistence = &mut self.persistence;
        let is_time = |at_ms| at_ms <= self.now_ms;
        if persistence.saving.is_some()
            || persistence.loading.is_some()
            || persistence.replay.is_some()
            || persistence.reload.is_some()
            || !persistence.points.next_look_ms().is_some_and(is_time)
        {
            return;
        }
        let status = &persistence.status;
        let tried = (status.last_try_ms, status.last_ok);
        let last_save_s = status.last_save_s;
        let changes = self.part.changes_of_all();
        let due = persistence
            .points
            .due(changes, self.now_ms, last_save_s, tried);
        if let Some((changes, seconds)) = due {
            log::notice(&format!(
                "{changes} changes in {seconds} seconds. Saving..."
            ));
            self.begin_bgsave();
        }
    }

    /// Whether writes are refused because snapshots fail.
    pub(super) fn is_misconfigured(&self) -> bool {
        self.part.save_failed
            && self.config.flag("stop-writes-on-bgsave-error")
            && !self.config.text("save").is_empty()
    }
}

/// Redis: server.c, DISK_ERROR_TYPE_RDB.
pub const MISCONF: CmdError = CmdError::Text(
    "MISCONF Redis is configured to save RDB snapshots, but it's currently unable to persist to \
     disk. Commands that may modify the data set are disabled, because this instance is configured \
     to report errors during writes if RDB snapshotting fails (stop-writes-on-bgsave-error \
     option). Please check the Redis logs for details about the RDB error.",
);
