//! The stream as it is kept: its last bytes, for replicas that come back, and all that some replica
//! has not taken yet.
//!
//! ```text
//! piece  piece  piece  piece  piece  packed ......................... piece  piece
//! ^ kept by a slow replica, too               what nobody else keeps         ^ on its way
//! ```
//! A piece is memory that the backlog shares with the replicas that have not taken it: none of it is
//! forgotten while one of them has it, so the backlog grows beyond its size with the slowest replica,
//! and whoever comes back may go on from any of it. What nobody else has any more is packed into blocks,
//! as pieces may be small.

use std::collections::VecDeque;
use std::sync::Arc;

/// Most of a piece, if the backlog is not large: a big value is not kept as a whole for its last byte.
const PIECE_BYTES: usize = 16 * 1024;
/// Parts of the backlog of which one at least can be forgotten. Redis: replication.c
/// feedReplicationBuffer.
const PARTS: usize = 16;
/// Bytes of a block of small pieces.
const BLOCK_BYTES: usize = 16 * 1024;
/// Pieces forgotten in one go: well under a millisecond.
const FORGOTTEN_MAX: usize = 2048;

/// Some of the stream.
#[derive(Debug)]
enum Part {
    Shared(Arc<[u8]>),
    Packed(Vec<u8>),
}

impl Part {
    fn bytes(&self) -> &[u8] {
        match self {
            Part::Shared(bytes) => bytes,
            Part::Packed(bytes) => bytes,
        }
    }

    /// Whether some replica has not taken it.
    fn is_awaited(&self) -> bool {
        match self {
            Part::Shared(bytes) => Arc::strong_count(bytes) > 1,
            Part::Packed(_) => false,
        }
    }
}

/// Offsets count the bytes of the stream from 1, as for Redis: the first byte of an empty stream is to
/// be number 1.
#[derive(Debug, Default)]
pub struct Backlog {
    parts: VecDeque<Part>,
    /// Bytes of the first part that are kept no more.
    passed: usize,
    /// Bytes that are kept.
    len: usize,
    /// The offset of the last byte.
    end: i64,
}

impl Backlog {
    /// `master_repl_offset`
    pub fn end(&self) -> i64 {
        self.end
    }

    /// The offset of the first byte that is kept, or would be.
    pub fn first(&self) -> i64 {
        self.end - self.len as i64 + 1
    }

    pub fn len(&self) -> usize {
        self.len
    }

    /// Adds to the stream, and forgets what is beyond `max` bytes.
    pub fn push(&mut self, bytes: &[u8], max: usize) {
        self.pack_last();
        for piece in bytes.chunks(BLOCK_BYTES) {
            self.pack(piece);
        }
        self.grow(bytes.len());
        self.trim(max);
    }

    /// The same, for replicas that are to be sent these pieces.
    pub fn share(&mut self, bytes: &[u8], max: usize) -> Vec<Arc<[u8]>> {
        self.pack_last();
        let pieces: Vec<Arc<[u8]>> = bytes
            .chunks(PIECE_BYTES.max(max / PARTS))
            .map(Arc::from)
            .collect();
        self.parts
            .extend(pieces.iter().map(|piece| Part::Shared(piece.clone())));
        self.grow(bytes.len());
        self.trim(max);
        pieces
    }

    fn grow(&mut self, bytes: usize) {
        self.len += bytes;
        self.end += bytes as i64;
    }

    /// No more bytes than a block has join the block before them, if it has room.
    fn pack(&mut self, bytes: &[u8]) {
        match self.parts.back_mut() {
            Some(Part::Packed(block)) if block.len() + bytes.len() <= BLOCK_BYTES => {
                block.extend_from_slice(bytes);
            }
            _ => {
                let mut block = Vec::with_capacity(BLOCK_BYTES);
                block.extend_from_slice(bytes);
                self.parts.push_back(Part::Packed(block));
            }
        }
    }

    /// The last piece joins the block before it, if it is small and everybody has taken it.
    fn pack_last(&mut self) {
        let is_small = |part: &Part| {
            matches!(part, Part::Shared(bytes) if bytes.len() < BLOCK_BYTES) && !part.is_awaited()
        };
        if !self.parts.back().is_some_and(is_small) {
            return;
        }
        if let Some(part) = self.parts.pop_back() {
            // If it is the first, its front may be forgotten already.
            let passed = match self.parts.is_empty() {
                true => std::mem::take(&mut self.passed),
                false => 0,
            };
            self.pack(&part.bytes()[passed..]);
        }
    }

    /// Whether something is kept beyond `max` bytes that nobody waits for any more.
    pub fn has_excess(&self, max: usize) -> bool {
        let front = self.parts.front();
        self.len > max && front.is_some_and(|part| !part.is_awaited())
    }

    /// Forgets some of what is kept beyond `max` bytes and nobody waits for.
    pub fn trim(&mut self, max: usize) {
        for _ in 0..FORGOTTEN_MAX {
            if !self.has_excess(max) {
                break;
            }
            let Some(front) = self.parts.front() else {
                break;
            };
            let left = front.bytes().len() - self.passed;
            let excess = (self.len - max).min(left);
            self.len -= excess;
            self.passed += excess;
            if excess == left {
                self.parts.pop_front();
                self.passed = 0;
            }
        }
        if self.parts.capacity() > 1024 && self.parts.len() < self.parts.capacity() / 4 {
            self.parts.shrink_to(2 * self.parts.len());
        }
    }

    /// Forgets what is kept; offsets go on.
    pub fn clear(&mut self) {
        self.restart(self.end);
    }

    /// Begins anew behind an offset.
    pub fn restart(&mut self, offset: i64) {
        *self = Backlog {
            end: offset,
            ..Backlog::default()
        };
    }

    /// What follows from an offset on; `None` if some of it is not kept.
    pub fn from(&self, offset: i64) -> Option<Vec<Arc<[u8]>>> {
        if offset < self.first() || offset > self.end + 1 {
            return None;
        }
        let mut skip = self.passed + (offset - self.first()) as usize;
        let mut pieces = Vec::new();
        for part in &self.parts {
            let bytes = part.bytes();
            let from = skip.min(bytes.len());
            skip -= from;
            match part {
                _ if from == bytes.len() => {}
                Part::Shared(piece) if from == 0 => pieces.push(piece.clone()),
                _ => pieces.push(bytes[from..].into()),
            }
        }
        Some(pieces)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rest(backlog: &Backlog, offset: i64) -> Option<Vec<u8>> {
        backlog.from(offset).map(|pieces| pieces.concat())
    }

    #[test]
    fn the_last_bytes_are_kept() {
        let mut backlog = Backlog::default();
        assert_eq!(rest(&backlog, 1), Some(Vec::new()));
        assert_eq!(rest(&backlog, 0), None);
        backlog.push(b"abcdef", 4);
        assert_eq!((backlog.first(), backlog.end(), backlog.len()), (3, 6, 4));
        assert_eq!(rest(&backlog, 2), None);
        assert_eq!(rest(&backlog, 3), Some(b"cdef".to_vec()));
        assert_eq!(rest(&backlog, 7), Some(Vec::new()));
        assert_eq!(rest(&backlog, 8), None);
        backlog.push(b"gh", 4);
        assert_eq!(rest(&backlog, 5), Some(b"efgh".to_vec()));
        // The size may change while it is in use.
        backlog.push(b"i", 2);
        assert_eq!(rest(&backlog, 8), Some(b"hi".to_vec()));
        assert_eq!(rest(&backlog, 7), None);
        backlog.clear();
        assert_eq!(rest(&backlog, 10), Some(Vec::new()));
        assert_eq!(backlog.end(), 9);
    }

    #[test]
    fn what_a_replica_has_not_taken_is_kept() {
        let mut backlog = Backlog::default();
        backlog.push(b"before", 4);
        let slow = backlog.share(b"slow", 4);
        let behind = backlog.share(&[b'x'; 40_000], 4);
        assert_eq!(behind.len(), 3);
        assert_eq!((backlog.first(), backlog.len()), (7, 40_004));
        assert!(!backlog.has_excess(4));
        assert_eq!(rest(&backlog, 6), None);
        assert!(rest(&backlog, 7).is_some_and(|bytes| bytes.starts_with(b"slowxxx")));
        // A replica that goes on keeps what it has to be sent.
        let returned = backlog.from(9);
        drop((slow, behind));
        assert!(backlog.has_excess(4));
        backlog.trim(4);
        assert_eq!(backlog.first(), 11, "who returned has what follows");
        drop(returned);
        backlog.trim(4);
        assert_eq!(rest(&backlog, 40_007), Some(b"xxxx".to_vec()));
        assert_eq!((backlog.len(), backlog.parts.len()), (4, 1));
    }

    /// Against the plain thing, with replicas that take what they are sent now and then.
    #[test]
    fn offsets_find_the_same_bytes_however_they_are_kept() {
        let mut rng = fastrand::Rng::with_seed(15);
        let (mut backlog, mut all) = (Backlog::default(), Vec::new());
        let mut untaken = VecDeque::new();
        for round in 0..3_000 {
            let max = [100_000, 1_000, 50, 0][round / 750];
            let bytes: Vec<u8> = (0..rng.usize(1..200)).map(|_| rng.u8(..)).collect();
            match rng.u8(..3) {
                0 => backlog.push(&bytes, max),
                _ => untaken.extend(backlog.share(&bytes, max)),
            }
            all.extend_from_slice(&bytes);
            if rng.u8(..10) == 0 {
                untaken.drain(..rng.usize(..=untaken.len()));
            }
            backlog.trim(max);
            let first = backlog.first() as usize;
            assert!(backlog.len() >= max.min(all.len()));
            assert!(!backlog.has_excess(max));
            let from = rng.usize(first..=all.len() + 1);
            assert_eq!(
                rest(&backlog, from as i64).as_deref(),
                Some(&all[from - 1..])
            );
        }
        untaken.clear();
        backlog.trim(10);
        assert_eq!(backlog.len(), 10);
    }
}
