//! What a shard's transactions did, on its way into the shard's segment.
//!
//! Records of transactions over several shards are put aside until their coordinator knows that
//! every home has applied its part, and then stand in one unit with a mark that names all of them.
//! The keys stay held meanwhile, so nothing can come between.

use ahash::AHashMap;

use super::holds::TxId;
use super::message::Settle;
use crate::journal::{Tail, Writer};
use crate::keyspace::{Effects, Record, Records};

/// What stands around the records of a transaction, as for Redis.
const MULTI: &[u8] = b"*1\r\n$5\r\nMULTI\r\n";
const EXEC: &[u8] = b"*1\r\n$4\r\nEXEC\r\n";

/// One shard's segment as far as it is not in the hands of the kernel.
#[derive(Debug, Default)]
pub struct Journal {
    writer: Writer,
    aside: AHashMap<TxId, Records>,
    /// What still belongs into the segment before this one, since a cut began a new one.
    rest: Option<Vec<u8>>,
    /// A barrier was written: a server that does not know barriers reads the directory rightly only
    /// after a rewrite.
    pub wants_rewrite: bool,
}

impl Journal {
    /// Goes on with a segment that ends so.
    pub fn resume(tail: &Tail) -> Journal {
        Journal {
            writer: Writer::resume(tail.seq, tail.segments, tail.units),
            ..Journal::default()
        }
    }

    /// Takes the records of a turn.
    pub fn collect(&mut self, effects: &mut Effects) {
        if effects.records.is_empty() {
            return;
        }
        for Record { db, command } in effects.records.iter() {
            self.writer.push(db, command);
        }
        effects.records.clear();
        self.writer.seal();
    }

    /// Puts the records from an index on aside for a transaction over several shards.
    pub fn put_aside(&mut self, tx: TxId, effects: &mut Effects, from: usize) {
        let records = effects.records.split_off(from);
        self.aside.entry(tx).or_default().append(&records);
    }

    /// Every home of a transaction has applied its part.
    pub fn settle(&mut self, settle: &Settle, shard: usize, effects: &mut Effects) {
        self.collect(effects);
        let records = self.aside.remove(&settle.mark.id).unwrap_or_default();
        let skips = settle.is_barrier && shard != 0;
        let first = records.iter().next().map(|record| record.db);
        let wraps = first.filter(|_| records.len() > 1 && !settle.is_barrier);
        if !skips {
            if let Some(db) = wraps {
                self.writer.push(db, MULTI);
            }
            for Record { db, command } in records.iter() {
                if !is_bracket(command) {
                    self.writer.push(db, command);
                }
            }
            if let Some(db) = wraps {
                self.writer.push(db, EXEC);
            }
        }
        if settle.is_barrier {
            self.wants_rewrite = shard == 0;
            self.writer.seal_barrier(&settle.mark);
        } else {
            self.writer.seal_transaction(&settle.mark);
        }
    }

    /// A cut: what comes next belongs into a new segment.
    pub fn begin_segment(&mut self, effects: &mut Effects) {
        self.collect(effects);
        let mut rest = self.rest.take().unwrap_or_default();
        self.writer.take(&mut rest);
        self.rest = Some(rest);
        self.writer.restart();
    }

    /// What belongs into the old segment; `None` unless a new one has begun.
    pub fn take_rest(&mut self) -> Option<Vec<u8>> {
        self.rest.take()
    }

    /// Bytes for the segment that were not taken yet.
    pub fn ready_bytes(&self) -> usize {
        self.writer.ready_bytes()
    }

    /// Says when what follows was written.
    pub fn timestamp(&mut self, unix_s: i64) {
        self.writer.timestamp(unix_s);
    }

    /// Moves what is for the segment into `into`.
    pub fn take(&mut self, into: &mut Vec<u8>) {
        self.writer.take(into);
    }
}

/// Whether a record is the MULTI or EXEC of a part of a larger transaction.
fn is_bracket(command: &[u8]) -> bool {
    matches!(command, MULTI | EXEC)
}
