//! Room that is made ahead of what is written under `always`.
//!
//! A file that grows with every write takes a commit of its file system's journal each time. Bytes that
//! are there already are written over in about half of the time. So a write that comes to the
//! end of the file makes it longer by a comment: `####...#\n`. Whatever is written over it from the
//! front, the rest is a comment still, for Redis as well: it reads long ones in pieces, each of which has
//! to begin with `#`. A server that knows nothing of it appends behind it.

use std::io;

use super::Medium;

/// How much longer a file is made: written in a fraction of a sync's time, and enough for thousands of
/// small commands.
pub const AHEAD_BYTES: usize = 256 * 1024;

/// What stands in a file behind its last unit.
#[derive(Debug, Default)]
pub struct Room {
    /// Where in the file it ends; before or at its last unit's end there is none.
    end: u64,
    /// Nobody knows what stands there.
    is_unknown: bool,
}

impl Room {
    /// Makes room behind `bytes`, which are to be written at `at`, if they leave none: `ahead`
    /// bytes. Returns how many were added to them.
    pub fn make_ahead(&mut self, at: u64, bytes: &mut Vec<u8>, ahead: usize) -> usize {
        // A line that has lost all of its `#` is no comment.
        const LEAST: u64 = 2;
        if at + bytes.len() as u64 + LEAST <= self.end {
            return 0;
        }
        let len = bytes.len();
        bytes.resize(len + ahead - 1, b'#');
        bytes.push(b'\n');
        ahead
    }

    /// `len` bytes from `at` on were made.
    pub fn is_made(&mut self, at: u64, len: usize) {
        *self = Room {
            end: at + len as u64,
            is_unknown: false,
        };
    }

    /// A write that may have made room has failed, or another server has made it.
    pub fn forget(&mut self) {
        *self = Room {
            end: 0,
            is_unknown: true,
        };
    }

    /// Ends the file where its units do.
    pub fn give_back<F: Medium>(&mut self, file: &F, at: u64) -> io::Result<()> {
        if self.is_unknown || self.end > at {
            file.set_len(at)?;
            *self = Room::default();
        }
        Ok(())
    }
}
