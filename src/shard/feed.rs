//! What a shard tells replicas of its work, before it is one stream with what the others tell.
//!
//! ```text
//! own work                    Records
//! transaction over shards     Part  ...work on other keys...  Released
//! ```
//! From its part on until it is released, a transaction holds its keys: whatever the shard tells in
//! between has nothing to do with it and may come before or after it.

use smallvec::SmallVec;

use super::holds::TxId;
use crate::journal::Mark;
use crate::keyspace::Records;

/// One piece of the feed.
#[derive(Debug)]
pub enum Fed {
    /// The feed begins behind this unit of the shard's records.
    Begun(u64),
    /// Work of this shard alone: one unit.
    Records(Records),
    /// This shard's part of a transaction, one unit; and all who have one.
    Part { mark: Mark, records: Records },
    /// The holds of a transaction are given back: what follows may build upon it.
    Released(TxId),
    /// A cut of all shards: what comes before is in the snapshot, what follows is not.
    Cut(u32),
    /// Everything that the shard did before it was asked stands before this.
    Reached(u64),
}

/// What was not taken yet.
#[derive(Debug, Default)]
pub struct Feed {
    /// Tells this feed from one that was ended before.
    pub epoch: u32,
    items: Vec<Fed>,
    /// Transactions of which a part was told and that hold their keys.
    held: SmallVec<[TxId; 4]>,
}

impl Feed {
    /// One that begins behind this unit of the shard's records.
    pub fn new(epoch: u32, unit: u64) -> Feed {
        Feed {
            epoch,
            items: vec![Fed::Begun(unit)],
            ..Feed::default()
        }
    }

    /// Adds what the shard did alone.
    pub fn records(&mut self, records: Records) {
        self.items.push(Fed::Records(records));
    }

    /// Adds its part of a transaction.
    pub fn part(&mut self, mark: Mark, records: Records) {
        self.held.push(mark.id);
        self.items.push(Fed::Part { mark, records });
    }

    /// A transaction's holds are about to be given back.
    pub fn released(&mut self, tx: TxId) {
        let before = self.held.len();
        self.held.retain(|held| *held != tx);
        if self.held.len() < before {
            self.items.push(Fed::Released(tx));
        }
    }

    pub fn push(&mut self, item: Fed) {
        self.items.push(item);
    }

    pub fn take(&mut self) -> Vec<Fed> {
        std::mem::take(&mut self.items)
    }
}
