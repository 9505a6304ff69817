//! Commands that make a value: the record of a change that nothing shorter describes, and what an
//! append-only file's base holds that is to be read by servers without RDB preambles.

use super::Recorder;
use super::cut::{Kept, KeptValue};
use super::records::Records;
use crate::number::format_f64;
use crate::value::Value;
use crate::value::listpack::Item;
use crate::value::stream::{EntryId, Stream};

/// Elements of one command. Redis: AOF_REWRITE_ITEMS_PER_CMD.
const ITEMS_PER_COMMAND: usize = 64;

/// Adds the commands that make an entry of a cut, its deadline included.
pub fn entry(kept: &Kept, records: &mut Records) {
    let mut rec = Recorder {
        records,
        db: kept.db,
    };
    match kept.value {
        KeptValue::Int(n) => rec.cmd(&[b"SET", kept.key, n.to_string().as_bytes()]),
        KeptValue::Text(text) => rec.cmd(&[b"SET", kept.key, text]),
        KeptValue::Object(value) => record(value, kept.key, &mut rec),
    }
    if let Some(at_ms) = kept.expire_at {
        rec.cmd(&[b"PEXPIREAT", kept.key, at_ms.to_string().as_bytes()]);
    }
}

/// Records the commands that make a collection under a key that does not exist.
pub fn record(value: &Value, key: &[u8], rec: &mut Recorder) {
    match value {
        Value::Shared(bytes) => rec.cmd(&[b"SET", key, bytes]),
        Value::Edited(bytes) => rec.cmd(&[b"SET", key, bytes]),
        Value::List(list) => in_batches(rec, b"RPUSH", key, 1, |add| list.for_each(add)),
        Value::Set(set) => in_batches(rec, b"SADD", key, 1, |add| set.iter().for_each(add)),
        Value::Stream(stream) => record_stream(stream, key, rec),
        Value::Zset(set) => {
            let mut texts = Vec::new();
            for (name, score) in set.iter() {
                texts.push(format_f64(score).to_vec());
                texts.push(name.to_vec());
            }
            in_batches(rec, b"ZADD", key, 2, |add| {
                texts.iter().for_each(|text| add(Item::Str(text)));
            });
        }
        Value::Hash(hash) => {
            in_batches(rec, b"HSET", key, 2, |add| {
                let items = hash.iter().flat_map(|(field, value)| [field, value]);
                items.for_each(add);
            });
            let mut scratch = itoa::Buffer::new();
            for (field, at_ms) in hash.deadlines() {
                let (field, at_ms) = (field.bytes(&mut scratch), at_ms.to_string());
                rec.cmd(&[b"HPEXPIREAT", key, at_ms.as_bytes(), b"FIELDS", b"1", field]);
            }
        }
    }
}

fn record_stream(stream: &Stream, key: &[u8], rec: &mut Recorder) {
    let added = stream.entries_added.to_string();
    let (last, deleted) = (
        stream.last_id.to_string(),
        stream.max_deleted_id.to_string(),
    );
    for entry in stream.range(EntryId::MIN, EntryId::MAX) {
        let fields = entry
            .fields()
            .flat_map(|(field, value)| [field.to_vec(), value.to_vec()]);
        let fields: Vec<Vec<u8>> = fields.collect();
        let id = entry.id.to_string();
        let head = [b"XADD", key, id.as_bytes()];
        let all = head.into_iter().chain(fields.iter().map(Vec::as_slice));
        rec.cmd_of(3 + fields.len(), all);
    }
    if stream.is_empty() {
        // An entry that goes at once makes an empty stream.
        rec.cmd(&[b"XADD", key, b"MAXLEN", b"0", b"0-1", b"x", b"y"]);
    }
    let set_id = [b"XSETID", key, last.as_bytes()];
    let sums = [
        &b"ENTRIESADDED"[..],
        added.as_bytes(),
        b"MAXDELETEDID",
        deleted.as_bytes(),
    ];
    rec.cmd_of(7, set_id.into_iter().chain(sums));
    for (name, group) in &stream.groups {
        let read = group
            .entries_read
            .map_or(-1, |read| read as i64)
            .to_string();
        let last = group.last_id.to_string();
        let create = [&b"XGROUP"[..], b"CREATE", key, name, last.as_bytes()];
        rec.cmd_of(
            7,
            create
                .into_iter()
                .chain([&b"ENTRIESREAD"[..], read.as_bytes()]),
        );
        for consumer in group.consumers().keys() {
            rec.cmd(&[b"XGROUP", b"CREATECONSUMER", key, name, consumer]);
        }
        for (id, pending) in group.pending() {
            let (id, time) = (id.to_string(), pending.delivered_at_ms.to_string());
            let count = pending.deliveries.to_string();
            let head = [
                &b"XCLAIM"[..],
                key,
                name,
                &pending.consumer,
                b"0",
                id.as_bytes(),
            ];
            let tail = [
                &b"TIME"[..],
                time.as_bytes(),
                b"RETRYCOUNT",
                count.as_bytes(),
                b"JUSTID",
                b"FORCE",
            ];
            rec.cmd_of(12, head.into_iter().chain(tail));
        }
    }
}

/// Commands of up to 64 elements of `width` arguments each, which `each` names one by one.
fn in_batches(
    rec: &mut Recorder,
    name: &[u8],
    key: &[u8],
    width: usize,
    each: impl FnOnce(&mut dyn FnMut(Item)),
) {
    let mut batch: Vec<Vec<u8>> = Vec::new();
    let mut flush = |batch: &mut Vec<Vec<u8>>| {
        if !batch.is_empty() {
            let args = [name, key]
                .into_iter()
                .chain(batch.iter().map(Vec::as_slice));
            rec.cmd_of(batch.len() + 2, args);
            batch.clear();
        }
    };
    each(&mut |item| {
        batch.push(item.to_vec());
        if batch.len() == ITEMS_PER_COMMAND * width {
            flush(&mut batch);
        }
    });
    flush(&mut batch);
}
