//! The entries of a cut as stretches of an RDB file, or as commands that make them.

use std::collections::VecDeque;

use crate::command::generic::Saved;
use crate::keyspace::cut::{Chunk, Clocks, Keeper, Kept, KeptValue};
use crate::keyspace::{Keyspace, Records, rewrite};
use crate::rdb::file::{self, Attributes};
use crate::rdb::string::StringWriter;
use crate::value::Value;

/// A chunk is handed on when it is this long: large enough that its way to the file costs nothing,
/// small enough that writing one takes a fraction of a millisecond.
pub const CHUNK_BYTES: usize = 64 * 1024;

/// How entries are encoded.
enum Encoder {
    Rdb(StringWriter),
    Commands(Records),
}

/// Encodes what a cut keeps.
struct Stream {
    encoder: Encoder,
    open: Chunk,
    full: VecDeque<Chunk>,
}

impl Stream {
    fn seal(&mut self) {
        if !self.open.bytes.is_empty() {
            self.full.push_back(std::mem::take(&mut self.open));
        }
    }
}

impl Keeper for Stream {
    fn keep(&mut self, kept: Kept) {
        if self.open.db != kept.db {
            self.seal();
            self.open.db = kept.db;
        }
        let Stream { encoder, open, .. } = self;
        open.keys += 1;
        open.expiring_fields |= has_expiring_fields(kept.value);
        match encoder {
            Encoder::Commands(records) => {
                records.clear();
                rewrite::entry(&kept, records);
                open.bytes.extend_from_slice(records.bytes());
            }
            Encoder::Rdb(strings) => {
                let attributes = Attributes {
                    expire_at_ms: kept.expire_at,
                    idle_s: kept.idle_s.map(u64::from),
                    frequency: kept.frequency,
                };
                let value = Saved(kept.value);
                file::put_entry(&mut open.bytes, strings, kept.key, &attributes, &value);
            }
        }
        if open.bytes.len() >= CHUNK_BYTES {
            self.seal();
            self.open.db = kept.db;
        }
    }

    fn waiting_bytes(&self) -> usize {
        let full: usize = self.full.iter().map(|chunk| chunk.bytes.len()).sum();
        full + self.open.bytes.len()
    }

    fn take(&mut self, all: bool) -> Option<Chunk> {
        if all && self.full.is_empty() {
            self.seal();
        }
        self.full.pop_front()
    }
}

fn has_expiring_fields(value: KeptValue) -> bool {
    matches!(value, KeptValue::Object(Value::Hash(hash)) if hash.is_expiring())
}

/// How a snapshot is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Style {
    /// Commands that make the entries instead of RDB: `aof-use-rdb-preamble no`.
    pub commands: bool,
    /// `rdbcompression`
    pub compress: bool,
    /// What `maxmemory-policy` makes worth keeping.
    pub clocks: Clocks,
}

/// Begins a cut of a keyspace, see [`Keyspace::begin_cut`].
pub fn begin(keyspace: &mut Keyspace, style: Style, keeps_due: bool, now_ms: i64) {
    let encoder = match style.commands {
        true => Encoder::Commands(Records::default()),
        false => Encoder::Rdb(StringWriter::new(style.compress)),
    };
    let stream = Stream {
        encoder,
        open: Chunk::default(),
        full: VecDeque::new(),
    };
    keyspace.begin_cut(Box::new(stream), style.clocks, keeps_due, now_ms);
}
