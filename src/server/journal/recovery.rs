//! Reading the append-only file: at the start, and again for DEBUG LOADAOF.

use crate::command::Table;
use crate::journal::{manifest, reader};
use crate::server::ask::NodeMessage;
use crate::server::host::ServerHost;
use crate::server::log;
use crate::server::persist::aof::{Begin, front};
use crate::server::persist::replay::{self, Source, Tails};
use crate::server::persist::{Message, Replay, Then};
use crate::session::{Core, Link};

impl ServerHost {
    /// Ends the start: what was found cannot be used.
    fn refuse_start(&mut self, error: &dyn std::fmt::Display) {
        log::warning(&error.to_string());
        self.stop = Some(1);
    }

    /// Recovers from the append-only file: first its base.
    pub(in crate::server) fn recover(&mut self, table: &Table) {
        let aof = &mut self.persistence.aof;
        aof.configure(&self.config);
        if let Err(error) = aof.open() {
            return self.refuse_start(&error);
        }
        self.read_directory(table);
    }

    /// Reads what the manifest names.
    pub(in crate::server) fn read_directory(&mut self, table: &Table) {
        let aof = &self.persistence.aof;
        let base = aof.manifest.base.as_ref().map(|base| aof.path(&base.name));
        match base {
            Some(path) if reader::is_snapshot(&front(&path)) => {
                self.begin_load_of(&path, Then::Replay, false)
            }
            _ => self.replay_from(0, table),
        }
    }

    /// The base was read as far as it is a snapshot: now the commands.
    pub(in crate::server) fn replay_from(&mut self, base_from: u64, table: &Table) {
        let aof = &self.persistence.aof;
        let mut generations: Vec<Vec<Source>> = Vec::new();
        let source = |file: &manifest::File, from| Source {
            path: aof.path(&file.name),
            framed: file.shard.is_some() || reader::is_framed(&front(&aof.path(&file.name))),
            shard: file.shard.unwrap_or(0),
            from,
        };
        if let Some(base) = &aof.manifest.base {
            generations.push(vec![source(base, base_from)]);
        }
        for file in &aof.manifest.incr {
            let goes_on = generations.last().is_some_and(|generation| {
                let last = generation.last();
                last.is_some_and(|last| last.framed && Some(last.shard) < file.shard)
            });
            match generations.last_mut() {
                Some(generation) if goes_on => generation.push(source(file, 0)),
                _ => generations.push(vec![source(file, 0)]),
            }
        }
        let mends = self.config.flag("aof-load-truncated");
        let has_base = aof.manifest.base.is_some();
        match Replay::prepare(generations, has_base, mends, (table, self.shards)) {
            Ok(replay) => self.persistence.replay = Some(Box::new(replay)),
            Err(error) => self.refuse_start(&error),
        }
    }

    /// Runs a slice of what is being recovered. Returns whether there is more to do at once.
    pub(in crate::server) fn replay_on(&mut self, core: &mut Core, link: &mut dyn Link) -> bool {
        let Some(mut replay) = self.persistence.replay.take() else {
            return false;
        };
        let done = replay.slice(core, link, self);
        for (home, commands) in replay.lanes.routes.sent.drain(..) {
            let message = Message::Replay(commands);
            self.mail.push((home, NodeMessage::Persist(message)));
        }
        match done {
            Err(error) => {
                self.refuse_start(&error);
                false
            }
            Ok(false) => {
                let waits = replay.waits(core);
                self.persistence.replay = Some(replay);
                !waits
            }
            Ok(true) => {
                self.tell_nodes(|_| Message::ReplayEnded);
                if replay.dropped > 0 {
                    let dropped = replay.dropped;
                    log::warning(&format!(
                        "{dropped} part(s) of transactions that were not complete when the server \
                         ended were left out"
                    ));
                    self.persistence.aof.need_base();
                }
                let took_ms = self.now_ms - self.started_ms;
                let seconds = took_ms as f64 / 1000.0;
                log::notice(&format!(
                    "DB loaded from append only file: {seconds:.3} seconds"
                ));
                match self.persistence.reload.is_some() {
                    true => self.persistence.end_load(&mut self.mail, Some(Ok(()))),
                    false => self.open_segments(replay.tails()),
                }
                false
            }
        }
    }

    /// Commands that live here are run again.
    pub(in crate::server) fn replay_here(
        &mut self,
        core: &mut Core,
        link: &mut dyn Link,
        commands: &[u8],
    ) {
        replay::open_session(core);
        core.receive(replay::SESSION, commands, link, self);
        self.part.replayed += 1;
        self.tell_replayed(core);
    }

    pub(in crate::server) fn has_replayed(&self, core: &Core) -> bool {
        self.part.replayed > 0 && replay::is_free(core)
    }

    /// Tells shard 0 of batches that this shard's session is done with.
    pub(in crate::server) fn tell_replayed(&mut self, core: &Core) {
        if self.has_replayed(core) {
            for _ in 0..std::mem::take(&mut self.part.replayed) {
                let taken = NodeMessage::Persist(Message::ReplayTaken);
                self.mail.push((0, taken));
            }
        }
    }

    /// Everything is recovered: the shards get the segments they go on with.
    fn open_segments(&mut self, tails: Option<&Tails>) {
        let begin = match self.persistence.aof.begin(self.shards, tails) {
            Ok(begin) => begin,
            Err(error) => {
                return self.refuse_start(&format!("Can't open the append-only file: {error}"));
            }
        };
        let Begin { files, tails } = begin;
        let policy = self.policy();
        self.opening = files.len();
        self.tell_nodes(|node| Message::JournalOpen {
            file: files[node].clone(),
            policy,
            tail: tails.segments[node],
            last_transaction: tails.last_transaction,
        });
    }
}
