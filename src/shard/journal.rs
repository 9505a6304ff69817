//! What a shard's transactions did, on its way into the shard's segment and to replicas.
//!
//! Records of transactions over several shards are put aside until their coordinator knows that
//! every home has applied its part, and then stand in one unit with a mark that names all of them.
//! The keys stay held meanwhile, so nothing can come between.

use ahash::AHashMap;
use smallvec::SmallVec;

use super::feed::{Fed, Feed};
use super::holds::TxId;
use super::message::Settle;
use crate::journal::{Mark, Tail, Writer};
use crate::keyspace::{Audience, EXEC, Effects, MULTI, Record, Records};

/// One shard's segment as far as it is not in the hands of the kernel, and its feed as far as it is
/// not on its way.
#[derive(Debug, Default)]
pub struct Journal {
    writer: Writer,
    /// There is no segment: only replicas are told.
    unkept: bool,
    feed: Option<Feed>,
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

    /// One without a segment.
    pub fn unkept() -> Journal {
        Journal {
            unkept: true,
            ..Journal::default()
        }
    }

    /// There is a segment from now on.
    pub fn keep(&mut self) {
        self.unkept = false;
    }

    /// The segment is complete. Returns whether the journal is still of use.
    pub fn end_segment(&mut self) -> bool {
        self.unkept = true;
        self.rest = None;
        self.writer = Writer::default();
        self.feed.is_some()
    }

    /// Takes the records of a turn.
    pub fn collect(&mut self, effects: &mut Effects) {
        if effects.records.is_empty() {
            return;
        }
        if !self.unkept {
            for Record { db, command } in effects.records.iter_for(Audience::FILE) {
                self.writer.push(db, command);
            }
            self.writer.seal();
        }
        match &mut self.feed {
            Some(feed) => {
                effects.units += 1;
                feed.records(std::mem::take(&mut effects.records));
            }
            None => effects.forget_records(),
        }
    }

    /// A cut from which on replicas are told of everything. `epoch` names the feed, if there is none
    /// yet.
    pub fn cut_feed(&mut self, epoch: u32, cut: u32, effects: &mut Effects) {
        self.collect(effects);
        let feed = self
            .feed
            .get_or_insert_with(|| Feed::new(epoch, effects.units));
        feed.push(Fed::Cut(cut));
    }

    /// Replicas are told of what follows.
    pub fn begin_feed(&mut self, epoch: u32, effects: &mut Effects) {
        self.collect(effects);
        self.feed = Some(Feed::new(epoch, effects.units));
    }

    /// Replicas are told of nothing any more. Returns whether the journal is still of use.
    pub fn end_feed(&mut self) -> bool {
        self.feed = None;
        !self.unkept
    }

    pub fn is_fed(&self) -> bool {
        self.feed.is_some()
    }

    /// Marks the feed: everything up to here was done before.
    pub fn mark(&mut self, id: u64, effects: &mut Effects) {
        self.collect(effects);
        if let Some(feed) = &mut self.feed {
            feed.push(Fed::Reached(id));
        }
    }

    /// A transaction's holds are about to be given back.
    pub fn released(&mut self, tx: TxId) {
        if let Some(feed) = &mut self.feed {
            feed.released(tx);
        }
    }

    /// What the feed holds, and its epoch.
    pub fn take_feed(&mut self) -> Option<(u32, Vec<Fed>)> {
        let feed = self.feed.as_mut()?;
        let items = feed.take();
        (!items.is_empty()).then_some((feed.epoch, items))
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
        effects.units += 1;
        if !self.unkept {
            self.seal(settle, shard, &records);
        }
        if let Some(feed) = &mut self.feed {
            feed.part(settle.mark.clone(), records);
        }
    }

    /// Writes this shard's part of a transaction. Where that concerns whole databases as well as keys, a
    /// barrier stands in the place of each such command: what keys it concerns before and behind it differs.
    fn seal(&mut self, settle: &Settle, shard: usize, records: &Records) {
        let records: SmallVec<[Record; 8]> = records
            .iter_for(Audience::FILE)
            .filter(|record| !is_bracket(record.command))
            .collect();
        let wholes = records
            .iter()
            .filter(|record| is_whole(record.command))
            .count();
        if settle.is_barrier || wholes == 0 || settle.mark.shards.len() == 1 {
            return self.seal_step(&settle.mark, settle.is_barrier, shard, &records);
        }
        let mut left = 2 * wholes;
        let mut seal = |is_barrier, records: &[Record]| {
            let mark = settle.mark.before_others(left);
            self.seal_step(&mark, is_barrier, shard, records);
            left = left.saturating_sub(1);
        };
        let mut rest = &records[..];
        while let Some(at) = rest.iter().position(|record| is_whole(record.command)) {
            seal(false, &rest[..at]);
            seal(true, &rest[at..=at]);
            rest = &rest[at + 1..];
        }
        seal(false, rest);
    }

    fn seal_step(&mut self, mark: &Mark, is_barrier: bool, shard: usize, records: &[Record]) {
        let wraps = (records.len() > 1 && !is_barrier).then(|| records[0].db);
        if !is_barrier || shard == 0 {
            if let Some(db) = wraps {
                self.writer.push(db, MULTI);
            }
            for Record { db, command } in records {
                self.writer.push(*db, command);
            }
            if let Some(db) = wraps {
                self.writer.push(db, EXEC);
            }
        }
        if is_barrier {
            self.wants_rewrite = shard == 0;
            self.writer.seal_barrier(mark);
        } else {
            self.writer.seal_transaction(mark);
        }
    }

    /// A cut: what comes next belongs into a new segment.
    pub fn begin_segment(&mut self, effects: &mut Effects) {
        self.collect(effects);
        self.unkept = false;
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

    /// What of the segment's file is on the disk, see [`Writer::synced`].
    pub fn synced(&mut self, to: Option<u64>) {
        // What is said of the old file does not hold of the next.
        let is_new = self.rest.is_some();
        self.writer.synced(to.map(|to| if is_new { 0 } else { to }));
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

/// Commands on whole databases, which every shard tells of.
const WHOLE: [&[u8]; 3] = [
    b"*1\r\n$8\r\nFLUSHALL\r\n",
    b"*1\r\n$7\r\nFLUSHDB\r\n",
    b"*3\r\n$6\r\nSWAPDB\r\n",
];

pub fn is_whole(command: &[u8]) -> bool {
    WHOLE.iter().any(|whole| command.starts_with(whole))
}

/// Whether a record is the MULTI or EXEC of a part of a larger transaction.
pub fn is_bracket(command: &[u8]) -> bool {
    matches!(command, MULTI | EXEC)
}
