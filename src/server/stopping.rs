//! How the server ends: SHUTDOWN and signals, a last snapshot, the end of the append-only file.

use super::ask::Requester;
use super::host::ServerHost;
use super::jobs::done;
use super::log;
use super::pauses::Quiet;
use super::persist::{After, Message, Saving};
use super::restart;
use crate::resp::{Args, CmdError, Writer};
use crate::session::{Core, Performed};

/// Signals that ask for the end.
#[derive(Debug, Default)]
pub struct StopSignals {
    /// DEBUG PAUSE-CRON: they wait.
    pub paused: bool,
    /// One that does, and whether it was SIGINT.
    pub waiting: Option<bool>,
}

/// Whether a stopping server saves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wish {
    /// If there are save points.
    Default,
    Save,
    NoSave,
}

/// Whether this SHUTDOWN is not for a server that a script keeps busy, as this one is.
pub(super) fn waits_for_script(core: &Core, args: &Args) -> bool {
    let stops = (1..args.len()).any(|at| args.is(at, "nosave") || args.is(at, "abort"));
    !stops && core.scripts.late.is_any()
}

impl ServerHost {
    /// Ends the server, perhaps after a last snapshot. On shard 0.
    pub(super) fn request_stop(&mut self, wish: Wish, force: bool) {
        let persistence = &mut self.persistence;
        let aof = &persistence.aof;
        let begins = aof.wanted && !aof.on && aof.is_rewriting();
        if begins && persistence.loading.is_none() && persistence.replay.is_none() {
            // Redis: server.c finishShutdown. One that is only to begin is not waited for.
            if !force {
                log::warning("Writing initial AOF, can't exit.");
                log::warning(
                    "Errors trying to shut down the server. Check the logs for more information.",
                );
                return persistence.stays(&mut self.mail);
            }
            log::warning("Writing initial AOF. Exit anyway.");
        }
        // What is being written for a replica goes on until the end, if nothing has to be saved before.
        let gives_up = |saving: &Saving| matches!(saving.after(), After::Nothing | After::Rewrite);
        if persistence.cancel_save_if(gives_up, &mut self.mail) {
            log::warning("A background save or rewrite is in progress: it is given up.");
        }
        let saves = match wish {
            Wish::Default => !persistence.points.is_empty(),
            Wish::Save => true,
            Wish::NoSave => false,
        };
        // Redis: server.c prepareForShutdown, what is not loaded whole is not saved.
        let is_partial = persistence.loading.is_some()
            || persistence.replay.is_some()
            || persistence.is_reading_again();
        if !saves || is_partial {
            return self.stop_now();
        }
        persistence.cancel_save(&mut self.mail);
        self.tell_nodes(|_| Message::Quiesce(Quiet::Stop));
        log::notice("Saving the final RDB snapshot before exiting.");
        let after = After::Stop { force };
        self.persistence
            .save(&self.config, after, self.now_ms, &mut self.mail);
        self.persistence.settle_first(&mut self.mail);
    }

    /// SIGINT or SIGTERM, on shard 0.
    pub fn stop_signal(&mut self, interrupted: bool) {
        if self.signals.paused {
            self.signals.waiting = Some(interrupted);
            return;
        }
        if interrupted && self.is_stopping() {
            // What is being written is given up.
            self.abort_farewell();
            self.persistence.cancel_save(&mut self.mail);
            log::warning("You insist... exiting now.");
            self.stop = Some(1);
            return;
        }
        if self.is_stopping() {
            return;
        }
        let flags = self.config.text(match interrupted {
            true => "shutdown-on-sigint",
            false => "shutdown-on-sigterm",
        });
        let has = |word: &str| flags.split(' ').any(|flag| flag == word);
        let wish = match (has("save"), has("nosave")) {
            (true, _) => Wish::Save,
            (_, true) => Wish::NoSave,
            _ => Wish::Default,
        };
        let force = has("force");
        self.restart = None;
        self.end_server(None, (wish, force, !has("now")));
    }

    /// Whether the server is on its way to its end.
    pub(super) fn is_stopping(&self) -> bool {
        let closes = self.persistence.closing.is_some_and(|(_, stops)| stops);
        closes || self.persistence.saves_last() || self.is_in_farewell()
    }

    /// SHUTDOWN ABORT: gives up an end that has not come yet.
    fn abort_stop(&mut self) -> bool {
        let waited = self.signals.waiting.take().is_some();
        if self.persistence.saves_last() {
            self.persistence.cancel_save(&mut self.mail);
        } else if !self.abort_farewell() && !waited {
            return false;
        }
        log::notice("Shutdown manually aborted.");
        true
    }

    /// Ends the server once the append-only file is complete.
    pub(super) fn stop_now(&mut self) {
        if let Some((_, stops)) = &mut self.persistence.closing {
            // Goes on when that is over.
            *stops = true;
            return;
        }
        // A rewrite that was under way may have turned it on again behind its end.
        if std::mem::take(&mut self.persistence.aof.on) && !self.stopping {
            log::notice("Calling fsync() on the AOF file.");
            return self.close_journals(true);
        }
        log::warning("Pinion is now ready to exit, bye bye...");
        if let Some(delay) = self.restart {
            restart::wish(delay);
        }
        self.stop = Some(0);
    }

    /// `SHUTDOWN [NOSAVE|SAVE] [NOW] [FORCE] [ABORT]`, on shard 0.
    pub(super) fn shutdown(
        &mut self,
        requester: Requester,
        args: &Args,
        out: &mut Writer,
    ) -> Performed {
        let known = ["nosave", "save", "now", "force", "abort"];
        let is_known = |i: usize| known.iter().any(|word| args.is(i, word));
        let has = |word: &str| (1..args.len()).any(|i| args.is(i, word));
        if !(1..args.len()).all(is_known)
            || has("save") && has("nosave")
            || has("abort") && args.len() > 2
        {
            return Performed::Failed(CmdError::Syntax);
        }
        if has("abort") && self.abort_stop() {
            return done(out.ok());
        }
        if has("abort") {
            return Performed::Failed(CmdError::Text("ERR No shutdown in progress."));
        }
        log::warning("User requested shutdown...");
        self.restart = None;
        let wish = match (has("save"), has("nosave")) {
            (true, _) => Wish::Save,
            (_, true) => Wish::NoSave,
            _ => Wish::Default,
        };
        self.end_server(Some(requester), (wish, has("force"), !has("now")));
        // No reply: the connection closes with the process.
        Performed::Later
    }
}
