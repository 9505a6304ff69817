//! The entries of a cut as stretches of an RDB file, or as commands that make them.

mod text;

use std::collections::VecDeque;

use text::LargeText;

use crate::command::generic::Saved;
use crate::command::stream;
use crate::keyspace::cut::{Chunk, Clocks, Keeper, Kept, KeptValue};
use crate::keyspace::{Keyspace, Records, rewrite};
use crate::rdb::file::{self, Attributes};
use crate::rdb::object::{Body, Encode, Type};
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
    /// Pieces of a large entry are under way; its last one is yet to come.
    is_amid: bool,
    /// What has become full since they are, and comes behind them.
    behind: VecDeque<Chunk>,
    /// Of the large entry that is under way.
    progress: Progress,
}

/// What has to be known of a large entry that is under way, beside the part it is at.
#[derive(Default)]
struct Progress {
    /// Of a string.
    text: Option<LargeText>,
    /// Of a stream.
    rest: stream::Rest,
}

impl Stream {
    fn add(&mut self, chunk: Chunk) {
        match self.is_amid {
            true => self.behind.push_back(chunk),
            false => self.full.push_back(chunk),
        }
    }

    fn seal(&mut self) {
        if !self.open.bytes.is_empty() {
            let chunk = std::mem::take(&mut self.open);
            self.add(chunk);
        }
    }

    /// Encodes a piece of a large entry, from a part of its value on. Returns with which to go on. There is
    /// nothing in the chunk yet of a string that is being compressed.
    fn piece(
        &mut self,
        kept: &Kept,
        from: usize,
        progress: &mut Progress,
    ) -> (Chunk, Option<usize>) {
        let mut chunk = Chunk {
            db: kept.db,
            expiring_fields: has_expiring_fields(kept.value),
            ..Chunk::default()
        };
        let next = match (&mut self.encoder, kept.value) {
            (Encoder::Rdb(strings), KeptValue::Object(Value::Stream(stream))) => {
                let rest = &mut progress.rest;
                piece_of_stream(kept, stream, from, strings, rest, &mut chunk)
            }
            (Encoder::Rdb(strings), value) => match text_of(value) {
                None => piece_of_parts(kept, from, strings, &mut chunk),
                Some(bytes) => progress
                    .text
                    .get_or_insert_with(|| LargeText::new(bytes, strings.compresses()))
                    .go_on(bytes, from, &mut chunk.bytes, |out| {
                        file::put_key(out, strings, Type::String, kept.key, &attributes(kept));
                        chunk.keys = 1;
                    }),
            },
            (Encoder::Commands(records), _) => {
                records.clear();
                rewrite::entry(kept, records);
                chunk.bytes.extend_from_slice(records.bytes());
                chunk.keys = 1;
                None
            }
        };
        chunk.goes_on = next.is_some();
        (chunk, next)
    }
}

/// Encodes some parts of a collection from one on; returns with which to go on.
fn piece_of_parts(
    kept: &Kept,
    from: usize,
    strings: &mut StringWriter,
    chunk: &mut Chunk,
) -> Option<usize> {
    let value = Saved(kept.value);
    let out = &mut chunk.bytes;
    if from == 0 {
        file::put_key(out, strings, value.ty(), kept.key, &attributes(kept));
        chunk.keys = 1;
    }
    let parts = value.parts();
    let at_once = parts_at_once(kept, parts);
    let mut at = from;
    loop {
        // Some at least: the key alone may fill the chunk.
        let end = parts.min(at + at_once);
        value.write_parts(at..end, &mut Body::new(out, strings));
        at = end;
        if at == parts {
            return None;
        }
        if out.len() >= CHUNK_BYTES {
            return Some(at);
        }
    }
}

/// Encodes nodes of a stream from one on, or what follows them; returns with which to go on.
fn piece_of_stream(
    kept: &Kept,
    stream: &crate::value::stream::Stream,
    from: usize,
    strings: &mut StringWriter,
    rest: &mut stream::Rest,
    chunk: &mut Chunk,
) -> Option<usize> {
    /// Each time the place to go on from is looked up, so not just a few.
    const PENDING_AT_ONCE: usize = 1024;
    let nodes = stream.node_count();
    let out = &mut chunk.bytes;
    if from == 0 {
        file::put_key(out, strings, Type::Stream, kept.key, &attributes(kept));
        chunk.keys = 1;
        stream::write_head(stream, &mut Body::new(out, strings));
    }
    let at_once = parts_at_once(kept, nodes);
    let mut at = from;
    loop {
        // Some at least, as above.
        let mut body = Body::new(out, strings);
        if at < nodes {
            let end = nodes.min(at + at_once);
            stream::write_nodes(stream, at..end, &mut body);
            at = end;
        } else if rest.go_on(stream, PENDING_AT_ONCE, &mut body) {
            at += 1;
        } else {
            return None;
        }
        if out.len() >= CHUNK_BYTES {
            return Some(at);
        }
    }
}

/// Parts of a value that fill half a chunk.
fn parts_at_once(kept: &Kept, parts: usize) -> usize {
    let part_bytes = kept.value.memory_bytes() / parts.max(1);
    (CHUNK_BYTES / 2 / part_bytes.max(1)).clamp(1, CHUNK_BYTES)
}

impl Keeper for Stream {
    fn keep(&mut self, kept: Kept) {
        if kept.value.is_large() {
            let (mut next, mut progress) = (Some(0), Progress::default());
            while let Some(from) = next {
                let (chunk, then) = self.piece(&kept, from, &mut progress);
                if !chunk.bytes.is_empty() {
                    self.add(chunk);
                }
                next = then;
            }
            return;
        }
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
                let value = Saved(kept.value);
                let attributes = attributes(&kept);
                file::put_entry(&mut open.bytes, strings, kept.key, &attributes, &value);
            }
        }
        if open.bytes.len() >= CHUNK_BYTES {
            self.seal();
            self.open.db = kept.db;
        }
    }

    fn keep_piece(&mut self, kept: Kept, from: usize) -> Option<usize> {
        let mut progress = std::mem::take(&mut self.progress);
        let (chunk, next) = self.piece(&kept, from, &mut progress);
        if !chunk.bytes.is_empty() {
            self.is_amid = chunk.goes_on;
            self.full.push_back(chunk);
        }
        match next {
            Some(_) => self.progress = progress,
            None => self.full.append(&mut self.behind),
        }
        next
    }

    /// What can be taken: amid a large entry nothing but that.
    fn waiting_bytes(&self) -> usize {
        let full: usize = self.full.iter().map(|chunk| chunk.bytes.len()).sum();
        match self.is_amid {
            true => full,
            false => full + self.open.bytes.len(),
        }
    }

    fn take(&mut self, all: bool) -> Option<Chunk> {
        if all && self.full.is_empty() {
            self.seal();
        }
        self.full.pop_front()
    }
}

fn text_of(value: KeptValue<'_>) -> Option<&[u8]> {
    match value {
        KeptValue::Object(Value::Shared(bytes)) => Some(bytes),
        KeptValue::Object(Value::Edited(bytes)) => Some(bytes),
        _ => None,
    }
}

fn attributes(kept: &Kept) -> Attributes {
    Attributes {
        expire_at_ms: kept.expire_at,
        idle_s: kept.idle_s.map(u64::from),
        frequency: kept.frequency,
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
        is_amid: false,
        behind: VecDeque::new(),
        progress: Progress::default(),
    };
    keyspace.begin_cut(Box::new(stream), style.clocks, keeps_due, now_ms);
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::command::generic;
    use crate::command::testing::{Bench, NOW_MS};
    use crate::keyspace::Due;
    use crate::rdb;
    use crate::rdb::file::{Event, Reader};
    use crate::rdb::object::Object;

    type Content = BTreeMap<Vec<u8>, (Object, Option<i64>)>;

    const STYLE: Style = Style {
        commands: false,
        compress: true,
        clocks: Clocks::None,
    };

    /// Adds a value of some hundred kilobytes, of a kind that `n` chooses.
    fn add_large(bench: &mut Bench, n: usize) {
        let key = format!("large:{n}");
        if n >= 5 {
            // One that compresses, and one that does not.
            let mut rng = fastrand::Rng::with_seed(n as u64);
            let letters = if n == 5 { 2 } else { 90 };
            let byte = |_| char::from(33 + rng.u8(..letters));
            let text: String = (0..1_200_000).map(byte).collect();
            bench.line(&format!("SET {key} {text}"));
            return;
        }
        let text = "x".repeat(n % 3 * 40);
        for batch in 0..60 {
            let mut words = match n % 5 {
                0 => format!("SADD {key}"),
                1 => format!("HSET {key}"),
                2 => format!("ZADD {key}"),
                3 => format!("RPUSH {key}"),
                _ => String::new(),
            };
            for at in batch * 50..batch * 50 + 50 {
                match n % 5 {
                    0 | 3 => words += &format!(" member:{at}:{text}"),
                    1 => words += &format!(" field:{at}:{text} value:{at}"),
                    2 => words += &format!(" {}.5 member:{at}:{text}", at * 7 % 100),
                    _ => drop(bench.line(&format!("XADD {key} {at}-1 field {at}:{text}"))),
                }
            }
            if !words.is_empty() {
                bench.line(&words);
            }
        }
        // More is pending than fits a chunk: in a group, and for one consumer.
        for line in [
            "XGROUP CREATE {key} group 50-1",
            "XREADGROUP GROUP group one COUNT 30 STREAMS {key} >",
            "XREADGROUP GROUP group two COUNT 2800 STREAMS {key} >",
            "XGROUP CREATECONSUMER {key} group waits",
            "XGROUP CREATE {key} later $",
            "XGROUP CREATE {key} other 0",
            "XREADGROUP GROUP other one STREAMS {key} >",
        ] {
            bench.line(&line.replace("{key}", &key));
        }
    }

    fn change_something(bench: &mut Bench, rng: &mut fastrand::Rng) {
        let n = rng.usize(..9);
        let mut key = format!("large:{n}");
        if let Some(under_way) = bench.keyspace().key_under_way().filter(|_| n < 4) {
            key = String::from_utf8_lossy(under_way).into_owned();
        }
        bench.line(&match rng.u32(..16) {
            0 => format!("DEL {key}"),
            1 => format!("RENAME {key} large:{}", rng.usize(..8)),
            2 => format!("EXPIRE {key} 100"),
            3 => format!("SPOP {key}"),
            4 => format!("HDEL {key} field:7:"),
            5 => format!("ZADD {key} 9 another"),
            6 => format!("RPUSH {key} another"),
            7 => format!("XACK {key} group 55-1"),
            8 => format!("COPY {key} large:{} REPLACE", rng.usize(..8)),
            9 if rng.u8(..) < 10 => "FLUSHALL ASYNC".to_string(),
            10 => format!("SADD {key} another"),
            11 => format!("XADD {key} * some thing"),
            12 => format!("APPEND {key} more"),
            13 => format!("SETRANGE {key} 100 here"),
            _ => format!("SET small:{} {}", rng.u32(..400), rng.u32(..)),
        });
    }

    fn content(bench: &mut Bench) -> Content {
        let mut keys = Vec::new();
        let mut tx = bench.tx().with_due(Due::Keep);
        tx.for_each_key(|key, _| keys.push(key.to_vec()));
        let entry = |key: Vec<u8>| {
            let taken = tx.clone_value(&key).unwrap();
            let object = generic::object(taken.value.kept()).unwrap();
            (key, (object, taken.expire_at))
        };
        keys.into_iter().map(entry).collect()
    }

    /// What chunks in the order in which they came would be as a file.
    fn read(chunks: &[Chunk]) -> Content {
        let mut bytes = Vec::new();
        file::put_signature(&mut bytes, rdb::VERSION);
        file::put_select_db(&mut bytes, 0);
        for chunk in chunks {
            bytes.extend_from_slice(&chunk.bytes);
        }
        file::put_end(&mut bytes, 0);
        let mut reader = Reader::new(true, Some(bytes.len() as u64));
        reader.feed(bytes.into());
        reader.end_input();
        let mut content = Content::new();
        while let Some(event) = reader.next_event().unwrap() {
            match event {
                Event::Entry(entry) => {
                    let is = (entry.object, entry.attributes.expire_at_ms);
                    let before = content.insert(entry.key.to_vec(), is);
                    assert_eq!(before, None, "every entry is there once");
                }
                Event::End(_) => break,
                _ => {}
            }
        }
        content
    }

    #[test]
    fn a_key_may_be_longer_than_a_chunk() {
        let mut rng = fastrand::Rng::with_seed(1);
        let mut bench = Bench::new();
        for n in 0..5 {
            add_large(&mut bench, n);
            let long: String = (0..CHUNK_BYTES + 1000)
                .map(|_| rng.alphanumeric())
                .collect();
            bench.line(&format!("RENAME large:{n} {long}"));
        }
        // One without nodes.
        for id in 0..3000 {
            bench.line(&format!("XADD large:4 {id}-1 field value"));
        }
        bench.line("XGROUP CREATE large:4 group 0");
        bench.line("XREADGROUP GROUP group one STREAMS large:4 >");
        bench.line("XTRIM large:4 MAXLEN 0");
        let long: String = (0..CHUNK_BYTES + 1000)
            .map(|_| rng.alphanumeric())
            .collect();
        bench.line(&format!("RENAME large:4 {long}"));
        let expected = content(&mut bench);
        assert_eq!(expected.len(), 6);
        begin(bench.keyspace_mut(), STYLE, true, NOW_MS);
        let mut chunks = Vec::new();
        while !bench.keyspace().is_cut_taken() {
            bench.keyspace_mut().cut_slice(CHUNK_BYTES);
            chunks.extend(bench.keyspace_mut().take_chunk());
            assert!(chunks.len() < 1000, "it comes to no end");
        }
        bench.keyspace_mut().end_cut();
        assert!(read(&chunks) == expected);
    }

    #[test]
    fn large_values_are_streamed_in_pieces_as_they_were() {
        let mut pieces = 0;
        let mut finished = 0;
        for seed in 0..20 {
            let mut rng = fastrand::Rng::with_seed(seed);
            let mut bench = Bench::new();
            (0..7).for_each(|n| add_large(&mut bench, n));
            for n in 0..300 {
                bench.line(&format!("SET small:{n} value:{n}"));
            }
            for round in 0..2 {
                let expected = content(&mut bench);
                begin(bench.keyspace_mut(), STYLE, true, NOW_MS);
                let mut chunks = Vec::new();
                let often = [0, 1, 10][rng.usize(..3)];
                while !bench.keyspace().is_cut_taken() {
                    for _ in 0..often {
                        let was_amid = bench.keyspace().key_under_way().is_some();
                        change_something(&mut bench, &mut rng);
                        let is_amid = bench.keyspace().key_under_way().is_some();
                        finished += u32::from(was_amid && !is_amid);
                    }
                    match rng.u32(..10) {
                        0 => {
                            let key = format!("large:{}", rng.usize(..8));
                            let will_be = bench.keyspace_mut().stream_next(0, key.as_bytes());
                            assert!(!will_be || bench.keyspace().is_put_off(0, key.as_bytes()));
                        }
                        1..5 => bench.keyspace_mut().cut_on(),
                        _ => drop(bench.keyspace_mut().cut_slice(CHUNK_BYTES)),
                    }
                    if rng.bool() {
                        chunks.extend(bench.keyspace_mut().take_chunk());
                    }
                }
                bench.keyspace_mut().end_cut();
                for (chunk, next) in chunks.iter().zip(chunks.iter().skip(1)) {
                    assert!(chunk.bytes.len() <= 2 * CHUNK_BYTES);
                    assert!(next.keys > 0 || chunk.goes_on);
                    pieces += u32::from(chunk.goes_on);
                }
                assert_eq!(
                    chunks.iter().map(|it| it.keys).sum::<u64>(),
                    expected.len() as u64
                );
                assert!(read(&chunks) == expected, "seed {seed}, round {round}");
            }
        }
        assert!(pieces > 30, "{pieces}");
        assert!(finished > 3, "{finished}");
    }
}
