//! The shards' streams of one cut as one RDB file, or as one file of commands.
//!
//! ```text
//! REDIS0010  AUX...  [SELECTDB RESIZEDB entries...]...  EOF  CRC-64
//! ```
//! A database's sizes are told when its first chunk comes; later chunks of it, after another's,
//! begin with SELECTDB alone, which every reader takes. The version at the front is known only
//! when the last chunk has come: whether some field of a hash expires decides it. So the front is
//! written with the common version and, if need be, written again at the end; its share of the
//! checksum is put in last.
//!
//! A file of commands has neither front nor end: only SELECT where the database changes.

use crate::keyspace::Records;
use crate::keyspace::cut::{Chunk, Sizes};
use crate::rdb::file::{self, About};
use crate::rdb::string::StringWriter;
use crate::rdb::{self, crc64};

/// Builds the file piece by piece.
pub struct Merger {
    /// Keys and keys with an expiry per database, all shards together.
    sizes: Sizes,
    announced: Vec<bool>,
    db: Option<u32>,
    /// Of everything behind the version; `None`: no checksum is wanted.
    crc: Option<u64>,
    /// Bytes behind the version so far.
    body_bytes: u64,
    expiring_fields: bool,
    /// The front has left already: its version stays.
    front_is_gone: bool,
    commands: bool,
    pub keys: u64,
}

/// Bytes of the signature with the version.
const FRONT_BYTES: u64 = 9;

impl Merger {
    /// `parts`: the sizes that each shard reports. `checksum`: `rdbchecksum`.
    pub fn new(parts: &[Sizes], checksum: bool) -> Merger {
        let databases = parts.iter().map(Vec::len).max().unwrap_or(0);
        let sum = |db: usize| {
            let here = parts.iter().filter_map(|sizes| sizes.get(db));
            here.fold((0, 0), |all, one| (all.0 + one.0, all.1 + one.1))
        };
        Merger {
            sizes: (0..databases).map(sum).collect(),
            announced: vec![false; databases],
            db: None,
            crc: checksum.then_some(0),
            body_bytes: 0,
            expiring_fields: false,
            front_is_gone: false,
            commands: false,
            keys: 0,
        }
    }

    /// One of which nothing can be written again: the version is chosen before the first chunk.
    pub fn of_stream(parts: &[Sizes], checksum: bool, expiring_fields: bool) -> Merger {
        Merger {
            expiring_fields,
            front_is_gone: true,
            ..Merger::new(parts, checksum)
        }
    }

    /// One that builds a file of commands.
    pub fn of_commands(parts: &[Sizes]) -> Merger {
        Merger {
            commands: true,
            ..Merger::new(parts, false)
        }
    }

    /// Keys that the file will hold at most.
    pub fn keys_expected(&self) -> usize {
        self.sizes.iter().map(|(keys, _)| keys).sum()
    }

    /// The beginning of the file.
    pub fn begin(&mut self, about: &About, out: &mut Vec<u8>) {
        if self.commands {
            return;
        }
        file::put_signature(out, self.version());
        let from = out.len();
        file::put_about(out, &mut StringWriter::new(false), about);
        self.count(&out[from..]);
    }

    /// Adds the library of functions with this text.
    pub fn library(&mut self, text: &[u8], out: &mut Vec<u8>) {
        let from = out.len();
        if self.commands {
            let mut load = Records::default();
            load.encode(0, 3, [&b"FUNCTION"[..], b"LOAD", text].into_iter());
            out.extend_from_slice(load.bytes());
        } else {
            file::put_function(out, &mut StringWriter::new(true), text);
        }
        self.count(&out[from..]);
    }

    /// Adds what a shard streamed.
    pub fn chunk(&mut self, chunk: &Chunk, out: &mut Vec<u8>) {
        let from = out.len();
        let changes_db = self.db.replace(chunk.db) != Some(chunk.db);
        if changes_db && self.commands {
            let db = chunk.db.to_string();
            let mut select = Records::default();
            select.encode(chunk.db, 2, [&b"SELECT"[..], db.as_bytes()].into_iter());
            out.extend_from_slice(select.bytes());
        } else if changes_db {
            file::put_select_db(out, chunk.db);
            let at = chunk.db as usize;
            if !std::mem::replace(&mut self.announced[at], true) {
                let (keys, expires) = self.sizes[at];
                file::put_resize_db(out, keys as u64, expires as u64);
            }
        }
        out.extend_from_slice(&chunk.bytes);
        self.count(&out[from..]);
        self.keys += chunk.keys;
        self.expiring_fields |= chunk.expiring_fields && !self.front_is_gone;
    }

    fn version(&self) -> u32 {
        match self.expiring_fields {
            true => rdb::VERSION_FIELD_EXPIRY,
            false => rdb::VERSION,
        }
    }

    fn count(&mut self, bytes: &[u8]) {
        self.body_bytes += bytes.len() as u64;
        if let Some(crc) = &mut self.crc {
            *crc = crc64::update(*crc, bytes);
        }
    }

    /// Ends the file. Returns what to write at its front instead of what stands there.
    pub fn end(&mut self, out: &mut Vec<u8>) -> Option<Vec<u8>> {
        if self.commands {
            return None;
        }
        let mut front = Vec::new();
        file::put_signature(&mut front, self.version());
        debug_assert_eq!(front.len() as u64, FRONT_BYTES);
        let crc = self.crc.map_or(0, |body| {
            crc64::combine(crc64::update(0, &front), body, self.body_bytes)
        });
        file::put_end(out, crc);
        (self.expiring_fields && !self.front_is_gone).then_some(front)
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::rdb::file::{Attributes, Checksum, Event, Reader};
    use crate::rdb::object::Object;

    fn chunk(db: u32, key: &[u8]) -> Chunk {
        let mut bytes = Vec::new();
        let strings = &mut StringWriter::new(true);
        let value = Object::String(Bytes::from_static(b"v"));
        file::put_entry(&mut bytes, strings, key, &Attributes::default(), &value);
        Chunk {
            db,
            bytes,
            keys: 1,
            expiring_fields: key == b"expiring",
            goes_on: false,
        }
    }

    fn events(keys: &[(u32, &[u8])], checksum: bool) -> Vec<Event> {
        let sizes = vec![vec![(2, 1), (1, 0)], vec![(1, 0), (0, 0)]];
        let mut merger = Merger::new(&sizes, checksum);
        assert_eq!(merger.keys_expected(), 4);
        let about = About {
            redis_version: "7.2.4",
            created_s: 1,
            used_memory_bytes: 2,
            replication: None,
            is_aof_base: false,
        };
        let mut out = Vec::new();
        merger.begin(&about, &mut out);
        for (db, key) in keys {
            merger.chunk(&chunk(*db, key), &mut out);
        }
        if let Some(front) = merger.end(&mut out) {
            out[..front.len()].copy_from_slice(&front);
        }
        assert_eq!(merger.keys, keys.len() as u64);
        let mut reader = Reader::new(true, Some(out.len() as u64));
        reader.feed(out.into());
        reader.end_input();
        let mut events = Vec::new();
        while let Some(event) = reader.next_event().unwrap() {
            let is_end = matches!(event, Event::End(_));
            events.push(event);
            if is_end {
                break;
            }
        }
        events
    }

    #[test]
    fn streams_of_several_shards_are_one_file() {
        let keys: &[(u32, &[u8])] = &[(0, b"a"), (1, b"b"), (0, b"c"), (0, b"d")];
        let events = events(keys, true);
        let selected = events.iter().filter_map(|event| match event {
            Event::SelectDb(db) => Some((*db, 0)),
            Event::ResizeDb { keys, expires } => Some((*keys as u32, *expires as u32 + 10)),
            _ => None,
        });
        let selected: Vec<_> = selected.collect();
        assert_eq!(selected, [(0, 0), (3, 11), (1, 0), (1, 10), (0, 0)]);
        let entries = events
            .iter()
            .filter(|event| matches!(event, Event::Entry(_)));
        assert_eq!(entries.count(), 4);
        assert_eq!(events.last(), Some(&Event::End(Checksum::Verified)));
    }

    #[test]
    fn a_file_of_commands_selects_where_the_database_changes() {
        let mut merger = Merger::of_commands(&[vec![(1, 0)], vec![(1, 0)]]);
        let mut out = Vec::new();
        for (db, bytes) in [(0, b"a"), (0, b"b"), (11, b"c")] {
            let chunk = Chunk {
                db,
                bytes: bytes.to_vec(),
                keys: 1,
                expiring_fields: true,
                goes_on: false,
            };
            merger.chunk(&chunk, &mut out);
        }
        assert_eq!(merger.end(&mut out), None);
        let select = |db: &str| format!("*2\r\n$6\r\nSELECT\r\n${}\r\n{db}\r\n", db.len());
        let wanted = select("0") + "ab" + &select("11") + "c";
        assert_eq!(String::from_utf8(out).unwrap(), wanted);
    }

    #[test]
    fn the_version_is_what_the_content_needs() {
        for (key, wanted) in [(&b"plain"[..], 10), (b"expiring", 12)] {
            let events = events(&[(0, key)], true);
            let is_right = matches!(events[0], Event::Start { version, .. } if version == wanted);
            assert!(is_right, "{:?}", events[0]);
            assert_eq!(events.last(), Some(&Event::End(Checksum::Verified)));
        }
        let unsummed = events(&[(0, b"expiring")], false);
        assert_eq!(unsummed.last(), Some(&Event::End(Checksum::Disabled)));
    }
}
