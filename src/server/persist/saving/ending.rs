//! How a snapshot ends: it is saved, it failed, or it is given up.

use std::io;

use super::{After, Saving};
use crate::resp::CmdError;
use crate::server::log;
use crate::server::pauses::Quiet;
use crate::server::persist::{Mail, Message, Outcome, Persistence, discard, reply};

/// What DEBUG RELOAD says without a snapshot to load.
const UNSAVED: CmdError = CmdError::Text("ERR Error trying to save the DB, check server logs.");

impl Persistence {
    pub(super) fn saved(&mut self, mail: &mut Mail, now_ms: i64) {
        let Some(saving) = self.saving.take() else {
            return;
        };
        log::notice("DB saved on disk");
        let status = &mut self.status;
        status.last_save_s = now_ms / 1000;
        status.last_ok = true;
        // Redis: rdb.c, those of FLUSHALL, DEBUG RELOAD and the server's end do not count.
        let is_background = saving.after == After::Nothing && !saving.yields;
        if is_background {
            status.last_took_s = (now_ms - saving.started_ms) / 1000;
        }
        if is_background || matches!(saving.after, After::Reply(_)) {
            status.saves += 1;
        }
        self.points.disarm();
        let id = saving.id;
        self.tell_all(mail, || Message::SaveEnded { id, ok: true });
        if let After::Nothing = saving.after {
            log::notice("Background saving terminated with success");
        }
        if let After::Reply(requester) = saving.after {
            reply(mail, requester, Ok(()));
        }
        self.follow_up = Some(saving.after);
    }

    pub(super) fn save_error(&mut self, error: &io::Error, mail: &mut Mail) {
        let Some(saving) = self.saving.take() else {
            return;
        };
        log::warning(&format!("Write error saving DB on disk: {error}"));
        discard(&saving.temporary);
        let id = saving.id;
        self.tell_all(mail, || Message::CutCancelled { id });
        self.save_failed(id, saving.after, mail);
    }

    pub(super) fn save_failed(&mut self, id: u32, after: After, mail: &mut Mail) {
        if after == After::Rewrite {
            self.follow_up = Some(after);
            return;
        }
        if matches!(after, After::Sync | After::Pipe) {
            self.streamed = (id > 0).then_some((id, Outcome::Failed));
            return;
        }
        // Redis: rdb.c, a save that somebody waits for says nothing about those in the background.
        if after == After::Nothing {
            self.status.last_ok = false;
            self.tell_all(mail, || Message::SaveEnded { id, ok: false });
        }
        match after {
            After::Nothing | After::Rewrite | After::Sync | After::Pipe => {
                log::warning("Background saving error");
            }
            After::Reply(requester) => reply(mail, requester, Err(CmdError::Text("ERR"))),
            After::Reload => self.end_reload(Err(UNSAVED), mail),
            After::Stop { force: true } => self.follow_up = Some(after),
            After::Stop { .. } => {
                log::warning("Error trying to save the DB, can't exit.");
                log::warning(
                    "Errors trying to shut down the server. Check the logs for more information.",
                );
                self.stays(mail);
            }
        }
    }

    /// The server does not stop after all.
    pub fn stays(&mut self, mail: &mut Mail) {
        self.tell_all(mail, || Message::Resume(Quiet::Stop));
        for requester in std::mem::take(&mut self.stoppers) {
            let error = CmdError::Text("ERR Errors trying to SHUTDOWN. Check logs.");
            reply(mail, requester, Err(error));
        }
    }

    /// Gives up the snapshot in progress, if it is such a one.
    pub fn cancel_save_if(&mut self, is_such: impl Fn(&Saving) -> bool, mail: &mut Mail) -> bool {
        self.saving.as_deref().is_some_and(is_such) && self.cancel_save(mail)
    }

    /// Gives up the snapshot in progress.
    pub fn cancel_save(&mut self, mail: &mut Mail) -> bool {
        let Some(saving) = self.saving.take() else {
            return false;
        };
        self.wanted_cut = None;
        discard(&saving.temporary);
        let id = saving.id;
        self.tell_all(mail, || Message::CutCancelled { id });
        match saving.after {
            After::Reply(requester) => reply(mail, requester, Err(CmdError::Text("ERR"))),
            After::Stop { .. } => self.stays(mail),
            After::Sync | After::Pipe => self.streamed = Some((id, Outcome::Failed)),
            After::Rewrite => self.follow_up = Some(saving.after),
            After::Reload => self.end_reload(Err(UNSAVED), mail),
            After::Nothing => {}
        }
        true
    }
}
