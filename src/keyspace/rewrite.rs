//! Commands that make a value: the record of a change that nothing shorter describes.

use super::Recorder;
use crate::number::format_f64;
use crate::value::Value;
use crate::value::listpack::Item;

/// Elements of one command. Redis: AOF_REWRITE_ITEMS_PER_CMD.
const ITEMS_PER_COMMAND: usize = 64;

/// Records the commands that make a collection under a key that does not exist.
pub fn record(value: &Value, key: &[u8], rec: &mut Recorder) {
    match value {
        Value::Shared(bytes) => rec.cmd(&[b"SET", key, bytes]),
        Value::Edited(bytes) => rec.cmd(&[b"SET", key, bytes]),
        Value::List(list) => in_batches(rec, b"RPUSH", key, 1, list.iter()),
        Value::Set(set) => in_batches(rec, b"SADD", key, 1, set.iter()),
        Value::Zset(set) => {
            let mut texts = Vec::new();
            for (name, score) in set.iter() {
                texts.push(format_f64(score).into_bytes());
                texts.push(name.to_vec());
            }
            let items = texts.iter().map(|text| Item::Str(text));
            in_batches(rec, b"ZADD", key, 2, items);
        }
        Value::Hash(hash) => {
            let items = hash.iter().flat_map(|(field, value)| [field, value]);
            in_batches(rec, b"HSET", key, 2, items);
            for (field, at_ms) in hash.deadlines() {
                let at_ms = at_ms.to_string();
                rec.cmd(&[b"HPEXPIREAT", key, at_ms.as_bytes(), b"FIELDS", b"1", field]);
            }
        }
    }
}

/// Commands of up to 64 elements of `width` arguments each.
fn in_batches<'a>(
    rec: &mut Recorder,
    name: &[u8],
    key: &[u8],
    width: usize,
    items: impl Iterator<Item = Item<'a>>,
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
    for item in items {
        batch.push(item.to_vec());
        if batch.len() == ITEMS_PER_COMMAND * width {
            flush(&mut batch);
        }
    }
    flush(&mut batch);
}
