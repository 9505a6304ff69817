//! The stream: merged from the shards' feeds or taken from a master, kept in the backlog, and sent on.

use super::Message;
use crate::coordinator::stream::{Merge, Passed};
use crate::resp::{Args, CmdResult, Writer};
use crate::server::following::{self, Past};
use crate::server::host::ServerHost;
use crate::server::log;
use crate::shard::feed::Fed;

impl ServerHost {
    /// What a shard told.
    pub(super) fn fed(&mut self, shard: usize, epoch: u32, items: Vec<Fed>) {
        // What comes after its end was sent before that was known.
        if self.replicas.epoch == Some(epoch) {
            self.replicas.merge.push(shard, items);
        }
    }

    /// Brings the stream on: it is kept, and sent to all who are in it.
    pub(in crate::server) fn pump(&mut self) {
        if !self.replicas.feeds() {
            return;
        }
        while let Some(passed) = self.replicas.merge.advance() {
            self.keep_and_send();
            match passed {
                Passed::Cut(id) => self.cut_passed(id),
                Passed::Reached(id) => {
                    self.replicas.passed = id;
                    self.wait_reached(id);
                }
            }
        }
        self.keep_and_send();
        let offset = self.replicas.offset();
        for shard in 0..self.shards {
            if let Some(unit) = self.replicas.merge.unit(shard) {
                self.replicas.waits.note(shard, unit, offset);
            }
        }
        self.mind_waits();
        self.keep_and_send();
    }

    fn keep_and_send(&mut self) {
        let bytes = self.replicas.merge.take();
        if !bytes.is_empty() {
            self.keep_stream(&bytes);
        }
    }

    /// More of the stream: it is kept, and sent to all who are in it.
    pub(in crate::server) fn keep_stream(&mut self, bytes: &[u8]) {
        let max = self.backlog_max_bytes;
        if !self.replicas.has_any() {
            return self.replicas.backlog.push(bytes, max);
        }
        let pieces = self.replicas.backlog.share(bytes, max);
        for node in self.replicas.nodes() {
            for piece in &pieces {
                self.inform(node, Message::Stream(piece.clone()));
            }
        }
    }

    /// Forgets some of what was kept for a replica that has taken it, or is gone.
    pub(super) fn trim_backlog(&mut self) {
        self.replicas.backlog.trim(self.backlog_max_bytes);
    }

    pub(super) fn has_excess(&self) -> bool {
        self.replicas.backlog.has_excess(self.backlog_max_bytes)
    }

    /// The snapshot with this number holds the stream up to here.
    fn cut_passed(&mut self, id: u32) {
        let db = self.replicas.merge.db();
        self.note_past(id, db);
        self.begin_replicas(id);
        self.send_snapshot();
    }

    /// A stream begins: with a history of its own, as nothing was kept of the one before.
    pub(super) fn begin_backlog(&mut self) {
        self.identity.change_replid();
        let replicas = &mut self.replicas;
        replicas.begin_feeds(self.shards);
        replicas.active = true;
        replicas.backlog.clear();
        replicas.ping_ms = self.now_ms;
        log::notice(&format!(
            "Replication backlog created, my new replication IDs are '{}' and '{}'",
            self.identity.replid(),
            "0".repeat(40)
        ));
    }

    /// The stream is not this server's own any more; what it was is kept.
    pub(in crate::server) fn end_feeds(&mut self) {
        let replicas = &mut self.replicas;
        replicas.epoch = None;
        replicas.merge = Merge::new(self.shards);
        replicas.waits.end_feeds(replicas.backlog.end());
        for node in 0..self.shards {
            self.inform(node, Message::EndFeed);
        }
    }

    /// The stream is that of a master, from behind this offset.
    pub(in crate::server) fn begin_relay(&mut self, offset: i64) {
        let replicas = &mut self.replicas;
        if !replicas.active || replicas.offset() != offset {
            replicas.backlog.restart(offset);
        }
        replicas.active = true;
        replicas.alone_since_ms = self.now_ms;
    }

    /// Nobody can go on with the stream of this server's master.
    pub(in crate::server) fn end_relay(&mut self) {
        self.replicas.active = false;
        self.replicas.backlog.clear();
    }

    /// A snapshot knows the stream that continues it: from here on, with this database selected.
    pub(in crate::server) fn note_past(&mut self, id: u32, db: u32) {
        let past = Past {
            replid: self.identity.replid(),
            offset: self.replicas.offset(),
            db,
        };
        self.persistence.cut_passed(id, past, self.now_ms);
    }

    /// Nobody has been there for long: shards need not tell any more.
    pub(super) fn end_stream(&mut self) {
        self.identity.change_replid();
        self.end_feeds();
        self.replicas.active = false;
        self.replicas.backlog.clear();
        log::notice(&format!(
            "Replication backlog freed after {} seconds without connected replicas.",
            self.config.int("repl-backlog-ttl")
        ));
    }

    /// DEBUG REPLICATE command ...: replicas are told what was not done.
    pub(in crate::server) fn debug_replicate(
        &mut self,
        args: &Args,
        out: &mut Writer,
    ) -> CmdResult {
        let words: Vec<&[u8]> = args.iter().skip(2).collect();
        self.pump();
        self.replicas.say(&following::encode(&words));
        out.ok()
    }
}
