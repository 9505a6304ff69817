//! Batches of commands on their way to the shards that run them, each shard's in their order, so many
//! at a time.

use std::collections::VecDeque;

/// A batch is sent when it is this long.
pub(super) const BATCH_BYTES: usize = 32 * 1024;
/// Batches on their way to one shard.
pub(super) const UNTAKEN_MAX: usize = 8;

/// What is on its way to one shard.
#[derive(Debug)]
struct Lane {
    batch: Vec<u8>,
    /// Where in the stream of commands the batch begins.
    begins: i64,
    /// The database that the session there has selected behind it, if that is known.
    db: Option<u32>,
    /// Where the batches begin that the shard has not taken.
    untaken: VecDeque<i64>,
}

/// The ways to all shards.
#[derive(Debug)]
pub struct Routes {
    lanes: Vec<Lane>,
    /// Batches to be sent, and to whom.
    pub sent: Vec<(usize, Vec<u8>)>,
}

impl Routes {
    /// `db`: what the sessions on the shards have selected, if that is known.
    pub fn new(shards: usize, db: Option<u32>) -> Routes {
        let lane = |_| Lane {
            batch: Vec::new(),
            begins: 0,
            db,
            untaken: VecDeque::new(),
        };
        Routes {
            lanes: (0..shards).map(lane).collect(),
            sent: Vec::new(),
        }
    }

    pub fn shards(&self) -> usize {
        self.lanes.len()
    }

    /// The sessions on the shards are new ones.
    pub fn forget_sessions(&mut self) {
        self.lanes.iter_mut().for_each(|lane| lane.db = None);
    }

    /// The session of a shard has selected a database on another way.
    pub fn has_selected(&mut self, home: usize, db: u32) {
        self.lanes[home].db = Some(db);
    }

    /// Whether some shard has to take batches before more is added.
    pub fn is_full(&self) -> bool {
        let is_full = |lane: &Lane| lane.untaken.len() >= UNTAKEN_MAX;
        self.lanes.iter().any(is_full)
    }

    /// Adds commands that stand at `at` in their stream, to be run with the first database selected;
    /// behind them, it is the second.
    pub fn add(&mut self, home: usize, commands: &[u8], (before, behind): (u32, u32), at: i64) {
        let lane = &mut self.lanes[home];
        if lane.batch.is_empty() {
            lane.begins = at;
        }
        if lane.db != Some(before) {
            select(&mut lane.batch, before);
        }
        lane.db = Some(behind);
        lane.batch.extend_from_slice(commands);
        if lane.batch.len() >= BATCH_BYTES {
            self.send(home);
        }
    }

    fn send(&mut self, home: usize) {
        let lane = &mut self.lanes[home];
        if !lane.batch.is_empty() {
            lane.untaken.push_back(lane.begins);
            self.sent.push((home, std::mem::take(&mut lane.batch)));
        }
    }

    /// Sends what was gathered.
    pub fn flush(&mut self) {
        (0..self.lanes.len()).for_each(|home| self.send(home));
    }

    /// A shard has taken a batch.
    pub fn taken(&mut self, from: usize) {
        self.lanes[from].untaken.pop_front();
    }

    /// Whether everything has been taken.
    pub fn is_idle(&self) -> bool {
        self.first_at().is_none()
    }

    /// Where the first commands stand that were not taken.
    pub fn first_at(&self) -> Option<i64> {
        let first = |lane: &Lane| {
            let gathered = (!lane.batch.is_empty()).then_some(lane.begins);
            lane.untaken.front().copied().or(gathered)
        };
        self.lanes.iter().filter_map(first).min()
    }
}

/// Adds a SELECT.
pub fn select(into: &mut Vec<u8>, db: u32) {
    let db = db.to_string();
    let head = format!("*2\r\n$6\r\nSELECT\r\n${}\r\n{db}\r\n", db.len());
    into.extend_from_slice(head.as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_batch_leaves_and_what_is_open_is_known_by_its_place() {
        let mut routes = Routes::new(2, Some(0));
        assert!(routes.is_idle());
        routes.add(1, b"one", (0, 0), 10);
        routes.add(0, b"two", (3, 3), 20);
        assert_eq!(routes.first_at(), Some(10));
        routes.add(1, &vec![b'x'; BATCH_BYTES], (0, 0), 30);
        assert_eq!(routes.sent.len(), 1);
        routes.taken(1);
        assert_eq!(routes.first_at(), Some(20));
        routes.flush();
        let selected = b"*2\r\n$6\r\nSELECT\r\n$1\r\n3\r\ntwo".to_vec();
        assert_eq!(routes.sent.pop(), Some((0, selected)));
        routes.taken(0);
        assert!(routes.is_idle());
        for at in 0..UNTAKEN_MAX as i64 {
            assert!(!routes.is_full());
            routes.add(0, b"three", (3, 3), at);
            routes.flush();
        }
        assert!(routes.is_full());
    }
}
