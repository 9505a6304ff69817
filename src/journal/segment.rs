//! Writing a segment: the records of one shard, in units that count as a whole or not at all.
//!
//! ```text
//! #PINION seq=<n> len=<bytes>[ tx=<hex>:<shard>,<shard>...][ barrier=<n>][ after=<n>:<n>][ synced=<n>] crc=<16 hex digits>\r\n
//! *2\r\n$6\r\nSELECT\r\n$1\r\n0\r\n            the payload: commands, the first of which selects
//! *3\r\n$3\r\nSET\r\n...
//! ```
//! A segment that a rewrite begins opens with an empty unit, `after=<segments>:<units>`: how many segments
//! of the same process come before, and how many units they have without such ones. If fewer are found,
//! the segment builds on what is lost.
//!
//! `synced=<n>`: so many bytes of the file were on the disk when the unit was made. Writers who wait for
//! the disk have one write under way at a time, and the disk may have its end without its beginning:
//! a unit that is damaged behind this place was never acknowledged.
//!
//! A line of nothing but `#`, however long, is room that such a writer made ahead.
//!
//! A server that ends well and starts again goes on with its segments: the numbers go on, and the
//! transactions'.
//!
//! `seq` counts the units of a segment from 1. `crc` is the CRC-64/XZ of the line up to it
//! and of the payload. `tx` names a transaction over several shards: it took place if each of these shards has a unit of it. At a
//! `barrier`, which all segments of a generation have, everything before it in any of them comes
//! before everything behind it in any other; what it does stands in shard 0's segment.
//!
//! A transaction on keys and on whole databases is several units, barriers among them. How many are
//! still to come stands in the highest six bits of its name: none took place unless the last did.

use crc64fast::Digest;
use smallvec::SmallVec;

/// What the line before a unit begins with.
pub const HEAD: &str = "#PINION ";
/// What stands before the checksum.
pub const CRC: &str = " crc=";
/// A comment may be 1,024 bytes long in Redis.
pub const HEAD_MAX_BYTES: usize = 1000;

/// What of a transaction's name its coordinator counts; above it stands the coordinator's shard.
pub const TX_COUNT_MASK: u64 = (1 << TX_COUNT_BITS) - 1;
pub const TX_COUNT_BITS: u32 = 48;
/// Above it, how many units of the transaction are still to come.
const TX_LEFT_SHIFT: u32 = 58;
const TX_LEFT_MAX: usize = 63;

/// A transaction over several shards.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mark {
    pub id: u64,
    /// All that have a unit of it, ascending.
    pub shards: SmallVec<[u32; 4]>,
}

impl Mark {
    /// The mark of an earlier unit of this transaction, which so many more follow.
    pub fn before_others(&self, left: usize) -> Mark {
        Mark {
            id: self.id | (left.min(TX_LEFT_MAX) as u64) << TX_LEFT_SHIFT,
            shards: self.shards.clone(),
        }
    }
}

/// The name of the last unit of a transaction, from any of them.
pub fn last_unit(id: u64) -> u64 {
    id & ((1 << TX_LEFT_SHIFT) - 1)
}

/// The checksum of a unit: of its line as far as the checksum, and of its payload.
pub fn checksum(head: &[u8], payload: &[u8]) -> u64 {
    let mut digest = Digest::new();
    digest.write(head);
    digest.write(payload);
    digest.sum64()
}

/// Collects the units of one segment.
#[derive(Debug)]
pub struct Writer {
    seq: u64,
    /// Segments before this one, and the units of all.
    segments: u64,
    units: u64,
    /// Complete units that were not taken yet.
    ready: Vec<u8>,
    /// The payload of the unit being built, and the database it has selected.
    open: Vec<u8>,
    db: Option<u32>,
    synced: Option<u64>,
}

impl Default for Writer {
    fn default() -> Writer {
        Writer {
            seq: 1,
            segments: 0,
            units: 0,
            ready: Vec::new(),
            open: Vec::new(),
            db: None,
            synced: None,
        }
    }
}

impl Writer {
    /// Goes on with a segment of which `seq` is the last number, which so many segments came
    /// before, and whose units and theirs are so many.
    pub fn resume(seq: u64, segments: u64, units: u64) -> Writer {
        Writer {
            seq: seq + 1,
            segments,
            units,
            ..Writer::default()
        }
    }

    /// Adds a command, encoded as RESP, to the unit being built.
    pub fn push(&mut self, db: u32, command: &[u8]) {
        if self.db != Some(db) {
            self.db = Some(db);
            let mut text = itoa::Buffer::new();
            let text = text.format(db);
            // A growing string takes everything.
            self.open.extend_from_slice(b"*2\r\n$6\r\nSELECT\r\n$");
            self.open
                .extend_from_slice(if db < 10 { b"1" } else { digits(text) });
            self.open.extend_from_slice(b"\r\n");
            self.open.extend_from_slice(text.as_bytes());
            self.open.extend_from_slice(b"\r\n");
        }
        self.open.extend_from_slice(command);
    }

    /// Ends the unit being built, if there is anything in it.
    pub fn seal(&mut self) {
        if !self.open.is_empty() {
            self.close(None, None, false);
        }
    }

    /// Ends the unit being built as this shard's part of a transaction, empty or not.
    pub fn seal_transaction(&mut self, mark: &Mark) {
        self.close(Some(mark), None, false);
    }

    /// Ends the unit being built as this shard's part of a barrier, empty or not.
    pub fn seal_barrier(&mut self, mark: &Mark) {
        self.close(Some(mark), Some(mark.id), false);
    }

    fn close(&mut self, mark: Option<&Mark>, barrier: Option<u64>, opens: bool) {
        let begin = self.ready.len();
        let head = &mut self.ready;
        head.extend_from_slice(HEAD.as_bytes());
        put_number(head, "seq=", self.seq);
        put_number(head, " len=", self.open.len() as u64);
        if let Some(mark) = mark {
            let shards: Vec<String> = mark.shards.iter().map(u32::to_string).collect();
            head.extend_from_slice(format!(" tx={:x}:{}", mark.id, shards.join(",")).as_bytes());
        }
        if let Some(barrier) = barrier {
            put_number(head, " barrier=", barrier);
        }
        if opens {
            put_number(head, " after=", self.segments);
            put_number(head, ":", self.units);
        } else {
            self.units += 1;
        }
        if let Some(synced) = self.synced {
            put_number(head, " synced=", synced);
        }
        let crc = checksum(&head[begin..], &self.open);
        head.extend_from_slice(CRC.as_bytes());
        put_hex(head, crc);
        debug_assert!(
            head.len() - begin < HEAD_MAX_BYTES,
            "a few hundred shards fit"
        );
        head.extend_from_slice(b"\r\n");
        head.append(&mut self.open);
        self.seq += 1;
        // Every unit selects its database: the one before may be dropped at recovery.
        self.db = None;
    }

    /// So many bytes of the file are on the disk, and whatever follows is written when all before it
    /// is. `None`: nobody waits for the disk.
    pub fn synced(&mut self, to: Option<u64>) {
        self.synced = to;
    }

    /// Says when what follows was written. Redis: `aof-timestamp-enabled`.
    pub fn timestamp(&mut self, unix_s: i64) {
        self.ready
            .extend_from_slice(format!("#TS:{unix_s}\r\n").as_bytes());
    }

    /// Bytes of complete units that were not taken yet.
    pub fn ready_bytes(&self) -> usize {
        self.ready.len()
    }

    /// Moves the complete units into `into`.
    pub fn take(&mut self, into: &mut Vec<u8>) {
        into.append(&mut self.ready);
    }

    /// Begins a new segment. All units were taken.
    pub fn restart(&mut self) {
        debug_assert!(self.open.is_empty() && self.ready.is_empty());
        self.seq = 1;
        self.db = None;
        self.synced = self.synced.map(|_| 0);
        self.segments += 1;
        self.close(None, None, true);
    }
}

fn put_number(into: &mut Vec<u8>, name: &str, n: u64) {
    into.extend_from_slice(name.as_bytes());
    into.extend_from_slice(itoa::Buffer::new().format(n).as_bytes());
}

/// Sixteen hexadecimal digits.
fn put_hex(into: &mut Vec<u8>, n: u64) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let nibbles = (0..16)
        .rev()
        .map(|at| DIGITS[(n >> (4 * at) & 15) as usize]);
    into.extend(nibbles);
}

/// The number of digits of a number of two or more.
fn digits(text: &str) -> &'static [u8] {
    const COUNTS: [&[u8]; 11] = [
        b"0", b"1", b"2", b"3", b"4", b"5", b"6", b"7", b"8", b"9", b"10",
    ];
    COUNTS[text.len()]
}
