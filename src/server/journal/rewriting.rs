//! A new base: BGREWRITEAOF, rewrites that are due, and the append-only file being turned on and off.

use std::path::Path;

use crate::resp::{CmdError, Writer};
use crate::server::ask::Requester;
use crate::server::host::ServerHost;
use crate::server::jobs::done;
use crate::server::log;
use crate::server::persist::{After, Message, Saving};
use crate::session::Performed;

impl ServerHost {
    /// BGREWRITEAOF, on shard 0.
    pub(in crate::server) fn bgrewriteaof(
        &mut self,
        requester: Requester,
        out: &mut Writer,
    ) -> Performed {
        let persistence = &mut self.persistence;
        if persistence.aof.is_rewriting() {
            return Performed::Failed(CmdError::Text(
                "ERR Background append only file rewriting already in progress",
            ));
        }
        if persistence.is_busy() || requester.in_exec {
            persistence.aof.scheduled = true;
            return done(out.simple("Background append only file rewriting scheduled"));
        }
        if !self.begin_rewrite() {
            return Performed::Failed(CmdError::Text(
                "ERR Can't execute an AOF background rewriting. Please check the server logs for \
                 more information.",
            ));
        }
        done(out.simple("Background append only file rewriting started"))
    }

    /// Returns whether it has begun.
    fn begin_rewrite(&mut self) -> bool {
        let (shards, now_ms) = (self.shards, self.now_ms);
        self.persistence.aof.configure(&self.config);
        let files = match self.persistence.aof.begin_rewrite(shards, now_ms) {
            Ok(files) => files,
            Err(error) => {
                log::warning(&format!("Can't begin an AOF rewrite: {error}"));
                return false;
            }
        };
        let policy = self.policy();
        self.tell_nodes(|node| Message::JournalNext {
            file: files[node].clone(),
            policy,
        });
        let pid = std::process::id();
        log::notice(&format!(
            "Background append only file rewriting started by pid {pid}"
        ));
        let persistence = &mut self.persistence;
        persistence.save(&self.config, After::Rewrite, now_ms, &mut self.mail);
        true
    }

    /// A rewrite came to nothing.
    pub(in crate::server) fn rewrite_failed(&mut self) {
        let persistence = &mut self.persistence;
        let leaves = persistence.aof.rewrite_failed(self.now_ms);
        if leaves && persistence.closing.is_none() && !self.stopping {
            self.close_journals(false);
        }
    }

    /// The new base is durable under its temporary name.
    pub(in crate::server) fn base_written(&mut self, temporary: &Path) {
        let now_ms = self.now_ms;
        match self.persistence.aof.end_rewrite(temporary, now_ms) {
            Ok(()) => {
                self.tell_nodes(|_| Message::JournalMended);
                // Only a base was wanted, and nothing may be written behind it.
                let persistence = &mut self.persistence;
                if !persistence.aof.wanted && persistence.closing.is_none() {
                    persistence.aof.close();
                    self.close_journals(false);
                }
            }
            Err(error) => {
                log::warning(&format!("Can't end an AOF rewrite: {error}"));
                self.rewrite_failed();
            }
        }
    }

    /// Brings the append-only file to what the configuration asks for, and begins rewrites that
    /// are due.
    pub(in crate::server) fn mind_journal(&mut self) {
        let is_starting =
            self.part.is_any_loading() || self.opening > 0 || self.following.is_replacing();
        let persistence = &mut self.persistence;
        let is_starting = is_starting || persistence.reload.is_some();
        let is_busy = persistence.is_busy();
        let in_exec = persistence.transactions > 0;
        let aof = &mut persistence.aof;
        let wanted = aof.wanted;
        if (is_busy || in_exec) && wanted && !aof.on && !aof.is_rewriting() {
            if in_exec && !aof.scheduled {
                log::warning(
                    "AOF was enabled during a transaction. An AOF background was scheduled to start \
                     when possible.",
                );
            }
            aof.scheduled = true;
        }
        if is_starting || self.stopping || persistence.closing.is_some() {
            return;
        }
        let saving = persistence.saving.as_deref();
        let rewrite = saving.filter(|saving| saving.after() == After::Rewrite);
        // Its cut begins new segments, and there are to be none behind the end.
        let may_end = persistence.rewritten.is_none() && !rewrite.is_some_and(Saving::is_cutting);
        if aof.is_turned_off() && may_end {
            let rewrites = rewrite.is_some();
            aof.close();
            if rewrites {
                // In Redis' words, as far as they are true.
                log::notice("Killing running AOF rewrite child: it is given up with the file");
                persistence.cancel_save(&mut self.mail);
            }
            return self.close_journals(false);
        }
        if is_busy {
            return;
        }
        if self.part.take_wants_base() {
            aof.need_base();
        }
        let is_due = wanted && !aof.on || aof.scheduled;
        if is_due && !in_exec && aof.may_try(self.now_ms) {
            self.begin_rewrite();
        }
    }

    /// Begins a rewrite if the segments have grown by `auto-aof-rewrite-percentage`.
    pub(super) fn look_at_journal_size(&mut self) {
        let percentage = self.config.int("auto-aof-rewrite-percentage");
        let min = self.config.int("auto-aof-rewrite-min-size") as u64;
        let aof = &mut self.persistence.aof;
        if !aof.on || aof.is_rewriting() || percentage <= 0 {
            return;
        }
        let size = aof.base_bytes + self.part.journal_bytes_of_all();
        let base = aof.base_bytes.max(1);
        let growth = size.saturating_sub(base) as i128 * 100 / i128::from(base);
        if size > min && growth >= i128::from(percentage) {
            log::notice(&format!(
                "Starting automatic rewriting of AOF on {growth}% growth"
            ));
            aof.scheduled = true;
        }
    }
}
