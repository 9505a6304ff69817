//! DEBUG RELOAD and DEBUG LOADAOF: everything is forgotten and read again while clients are there.
//!
//! Redis does that in one go. Here it takes many turns, and what a client wrote in between would be
//! forgotten with the rest: so every node first lets what its clients have under way come to its end
//! and lets them begin nothing new until the load has begun, which refuses what it always does.

use super::ask::Requester;
use super::host::ServerHost;
use super::jobs::done;
use super::persist::reload::{Reload, Source, Stage};
use super::persist::{After, Message, Then};
use crate::command::Table;
use crate::resp::{Args, CmdError, Writer};
use crate::session::{Core, Performed};

impl ServerHost {
    /// `DEBUG RELOAD [MERGE] [NOFLUSH] [NOSAVE]`, on shard 0.
    pub(super) fn reload(
        &mut self,
        requester: Requester,
        args: &Args,
        out: &mut Writer,
    ) -> Performed {
        let has = |word: &str| (2..args.len()).any(|i| args.is(i, word));
        let known = ["merge", "noflush", "nosave"];
        if !(2..args.len()).all(|i| known.iter().any(|word| args.is(i, word))) {
            return Performed::Failed(CmdError::Text(
                "ERR DEBUG RELOAD only supports the MERGE, NOFLUSH and NOSAVE options.",
            ));
        }
        let source = Source::Snapshot {
            saves: !has("nosave"),
            flush: !has("noflush"),
            merges: has("merge"),
        };
        self.reload_from(requester, source, out)
    }

    /// DEBUG LOADAOF, on shard 0. A snapshot or a base that is being written goes on with what was
    /// there at its cut.
    pub(super) fn load_journal_again(
        &mut self,
        requester: Requester,
        out: &mut Writer,
    ) -> Performed {
        // What a rewrite made while the file is off can be loaded as well.
        let manifest = &self.persistence.aof.manifest;
        if manifest.base.is_none() && manifest.incr.is_empty() {
            return Performed::Failed(CmdError::Text(
                "ERR Error trying to load the AOF files, check server logs",
            ));
        }
        self.reload_from(requester, Source::Journal, out)
    }

    fn reload_from(&mut self, requester: Requester, source: Source, out: &mut Writer) -> Performed {
        // It comes behind a transaction that asks for it, which cannot wait for that.
        let waits = !requester.in_exec;
        self.persistence.reloads.push_back(Reload {
            requester: waits.then_some(requester),
            source,
            stage: Stage::Freezing { nodes: self.shards },
        });
        match waits {
            true => Performed::Later,
            false => done(out.ok()),
        }
    }

    /// Begins the next load that was asked for, once nothing is in its way.
    pub(super) fn mind_reload(&mut self, core: &Core) {
        let persistence = &mut self.persistence;
        if persistence.reload.is_none() && !persistence.reloads.is_empty() {
            let is_busy = persistence.loading.is_some()
                || persistence.replay.is_some()
                || self.part.is_any_loading()
                || self.opening > 0;
            if is_busy {
                return;
            }
            persistence.reload = persistence.reloads.pop_front();
            self.tell_nodes(|_| Message::Freeze);
        }
        let Some(Reload { source, stage, .. }) = &self.persistence.reload else {
            return;
        };
        let source = *source;
        let is_clear = *stage == Stage::Freezing { nodes: 0 }
            && !self.persistence.is_cutting()
            && self.persistence.closing.is_none()
            && !self.is_stopping()
            && self.is_quiet(core);
        if is_clear {
            self.begin_reload(source);
        }
    }

    fn begin_reload(&mut self, source: Source) {
        match source {
            Source::Journal => {
                let nodes = self.shards;
                self.persistence.reload_is(Stage::Emptying { nodes });
                self.tell_nodes(|_| Message::LoadBegins { flush: true });
            }
            Source::Snapshot { saves: false, .. } => self.load_saved(),
            Source::Snapshot { saves: true, .. } => {
                let (mail, now_ms) = (&mut self.mail, self.now_ms);
                self.persistence.cancel_save(mail);
                self.persistence.reload_is(Stage::Saving);
                self.persistence
                    .save(&self.config, After::Reload, now_ms, mail);
            }
        }
    }

    /// DEBUG RELOAD loads what it has saved, or what was there.
    pub(super) fn load_saved(&mut self) {
        let Some(reload) = &mut self.persistence.reload else {
            return;
        };
        if let Source::Snapshot { flush, merges, .. } = reload.source {
            reload.stage = Stage::Loading;
            self.persistence.merges = merges;
            self.begin_load(Then::Reload, flush);
        }
    }

    /// A node is empty, and its segment complete: its answer is held back until it is.
    pub(super) fn node_is_ready(&mut self, table: &Table) {
        let Some(reload) = &mut self.persistence.reload else {
            return;
        };
        let Stage::Emptying { nodes } = &mut reload.stage else {
            return;
        };
        *nodes -= 1;
        if *nodes == 0 {
            reload.stage = Stage::Loading;
            self.read_directory(table);
        }
    }
}
