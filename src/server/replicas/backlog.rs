//! The last bytes of the stream, for replicas that come back.

use std::collections::VecDeque;

/// Offsets count the bytes of the stream from 1, as for Redis: the first byte of an empty stream is to
/// be number 1.
#[derive(Debug, Default)]
pub struct Backlog {
    bytes: VecDeque<u8>,
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
        self.end - self.bytes.len() as i64 + 1
    }

    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Adds to the stream, and keeps no more than `max` of it.
    pub fn push(&mut self, bytes: &[u8], max: usize) {
        self.end += bytes.len() as i64;
        let kept = &bytes[bytes.len().saturating_sub(max)..];
        let excess = (self.bytes.len() + kept.len()).saturating_sub(max);
        self.bytes.drain(..excess.min(self.bytes.len()));
        self.bytes.extend(kept);
    }

    /// Forgets what is kept; offsets go on.
    pub fn clear(&mut self) {
        self.bytes = VecDeque::new();
    }

    /// Begins anew behind an offset.
    pub fn restart(&mut self, offset: i64) {
        self.bytes = VecDeque::new();
        self.end = offset;
    }

    /// What follows from an offset on; `None` if some of it is not kept.
    pub fn from(&self, offset: i64) -> Option<Vec<u8>> {
        if offset < self.first() || offset > self.end + 1 {
            return None;
        }
        let skip = (offset - self.first()) as usize;
        Some(self.bytes.range(skip..).copied().collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_bytes_are_kept() {
        let mut backlog = Backlog::default();
        assert_eq!(backlog.from(1), Some(Vec::new()));
        assert_eq!(backlog.from(0), None);
        backlog.push(b"abcdef", 4);
        assert_eq!((backlog.first(), backlog.end(), backlog.len()), (3, 6, 4));
        assert_eq!(backlog.from(2), None);
        assert_eq!(backlog.from(3), Some(b"cdef".to_vec()));
        assert_eq!(backlog.from(7), Some(Vec::new()));
        assert_eq!(backlog.from(8), None);
        backlog.push(b"gh", 4);
        assert_eq!(backlog.from(5), Some(b"efgh".to_vec()));
        // The size may change while it is in use.
        backlog.push(b"i", 2);
        assert_eq!(backlog.from(8), Some(b"hi".to_vec()));
        assert_eq!(backlog.from(7), None);
        backlog.clear();
        assert_eq!(backlog.from(10), Some(Vec::new()));
        assert_eq!(backlog.end(), 9);
    }
}
