//! DUMP and RESTORE: one value as bytes, as Redis writes them.

use std::borrow::Cow;
use std::sync::Arc;

use super::saved::Saved;
use crate::command::stream;
use crate::keyspace::cut::KeptValue;
use crate::keyspace::{Event, Stored, Taken, Tx};
use crate::rdb::dump::{self, Refusal};
use crate::rdb::object::{self, ListPart, Object};
use crate::rdb::string::StringWriter;
use crate::resp::{Args, CmdError, CmdResult, Writer};
use crate::value::hash::Hash;
use crate::value::limits::Limits;
use crate::value::list::{End, List};
use crate::value::set::Set;
use crate::value::zset::Zset;
use crate::value::{Kind, Value};

pub(super) fn dump(tx: &mut Tx, args: &Args, out: &mut Writer) -> CmdResult {
    let key = args.get(1);
    if !tx.touch_key(key) {
        return out.null();
    }
    match tx.clone_value(key) {
        Some(taken) => out.bulk(&payload(tx, &taken)),
        None => out.null(),
    }
}

/// What DUMP replies with.
pub fn payload(tx: &mut Tx, taken: &Taken) -> Vec<u8> {
    let compress = tx.settings().compress_dumps;
    let mut strings = StringWriter::with(compress.then(|| tx.take_compressor()));
    let payload = dump::put(&Saved(taken.value.kept()), &mut strings);
    if let Some(compressor) = strings.into_compressor() {
        tx.keep_compressor(compressor);
    }
    payload
}

/// Accounts for a value that a key has as a whole now. A stream is recorded as it is: what its groups
/// have pending of entries that are gone, no command makes.
pub fn wrote_whole(tx: &mut Tx, key: &[u8], event: Event) {
    if !tx.is_recording() || tx.kind(key) != Some(Kind::Stream) {
        return tx.wrote_state(key, event);
    }
    let Some(stream) = tx.clone_value(key) else {
        return;
    };
    let payload = payload(tx, &stream);
    let at_ms = stream.expire_at.unwrap_or(0).to_string();
    tx.wrote(key, event, |rec| {
        let at_ms = at_ms.as_bytes();
        rec.cmd(&[b"RESTORE", key, at_ms, &payload, b"REPLACE", b"ABSTTL"]);
    });
}

/// The value that DEBUG DIGEST sums up. It takes the way that a value takes through a file, so
/// that equal sums mean equal files.
pub fn object(kept: KeptValue) -> Option<Object> {
    let payload = dump::put(&Saved(kept), &mut StringWriter::new(false));
    dump::take(&payload.into()).ok()
}

/// The value of an object that was read and of its type, encoded as configured, without fields that were
/// due at `past_ms`.
pub fn stored(object: Object, ty: u8, limits: &Limits, past_ms: i64) -> Option<Stored> {
    let limits = &*limits_of(ty, limits);
    Some(match object {
        Object::String(bytes) => match crate::number::parse_i64(&bytes) {
            Some(n) => Stored::Int(n),
            None => Stored::Text {
                bytes: bytes.to_vec().into(),
                edited: false,
            },
        },
        Object::List(parts) => {
            let mut list = List::new(limits);
            for part in parts {
                match part {
                    ListPart::Element(element) => list.push(End::Tail, &element, None),
                    // What was read shares the memory of the whole payload.
                    ListPart::Plain(element) => list.push_plain(element.to_vec().into()),
                    ListPart::Packed(pack) => list.push_pack(pack),
                }
            }
            Stored::Object(Value::List(Arc::new(list)))
        }
        Object::Set(members) => {
            let first = members.first()?;
            let mut set = Set::new(first, limits);
            for member in &members {
                set.add(member, limits);
            }
            Stored::Object(Value::Set(Arc::new(set)))
        }
        Object::Hash(fields) => {
            let mut hash = Hash::default();
            for field in &fields {
                if field.expire_at_ms.is_some_and(|at_ms| at_ms <= past_ms) {
                    continue;
                }
                hash.set(&field.name, &field.value, limits);
                if let Some(at_ms) = field.expire_at_ms {
                    hash.set_deadline(&field.name, at_ms, limits);
                }
            }
            if hash.is_empty() {
                return None;
            }
            if object::is_expiring(ty) {
                hash.become_expiring();
            }
            Stored::Object(Value::Hash(Arc::new(hash)))
        }
        Object::Zset(members) => {
            let longest = members
                .iter()
                .map(|(name, _)| name.len())
                .max()
                .unwrap_or(0);
            let mut set = Zset::new(longest, limits);
            // What will not fit begins as it ends: a listpack keeps no sign of a zero.
            if members.len() > limits.zset_max_listpack_entries {
                set.spread(limits);
            }
            for (name, score) in &members {
                set.set(name, *score, limits);
            }
            Stored::Object(Value::Zset(Arc::new(set)))
        }
        Object::Stream(parts) => Stored::Object(Value::Stream(Arc::new(stream::restored(parts)?))),
    })
}

/// The limits that count for a value of this type.
fn limits_of(ty: u8, limits: &Limits) -> Cow<'_, Limits> {
    if !object::is_packed(ty) {
        return Cow::Borrowed(limits);
    }
    Cow::Owned(Limits {
        hash_max_listpack_value: usize::MAX,
        zset_max_listpack_value: usize::MAX,
        ..limits.clone()
    })
}

#[derive(Default)]
struct Options {
    replace: bool,
    absolute: bool,
    idle_s: Option<i64>,
    frequency: Option<i64>,
}

/// Options of `RESTORE key ttl payload [REPLACE] [ABSTTL] [IDLETIME seconds] [FREQ frequency]`.
fn options(args: &Args) -> Result<Options, CmdError> {
    let mut options = Options::default();
    let mut at = 4;
    while at < args.len() {
        let left = args.len() - at - 1;
        if args.is(at, "replace") {
            options.replace = true;
        } else if args.is(at, "absttl") {
            options.absolute = true;
        } else if args.is(at, "idletime") && left >= 1 && options.frequency.is_none() {
            let idle_s = args.int(at + 1)?;
            if idle_s < 0 {
                return Err(CmdError::Text("ERR Invalid IDLETIME value, must be >= 0"));
            }
            options.idle_s = Some(idle_s);
            at += 1;
        } else if args.is(at, "freq") && left >= 1 && options.idle_s.is_none() {
            let frequency = args.int(at + 1)?;
            if !(0..=255).contains(&frequency) {
                return Err(CmdError::Text(
                    "ERR Invalid FREQ value, must be >= 0 and <= 255",
                ));
            }
            options.frequency = Some(frequency);
            at += 1;
        } else {
            return Err(CmdError::Syntax);
        }
        at += 1;
    }
    Ok(options)
}

pub(super) fn restore(tx: &mut Tx, args: &Args, out: &mut Writer) -> CmdResult {
    let key = args.get(1);
    let options = options(args)?;
    if !options.replace && tx.peek_exists(key) {
        return Err(CmdError::Text("BUSYKEY Target key name already exists."));
    }
    let ttl_ms = args.int(2)?;
    if ttl_ms < 0 {
        return Err(CmdError::Text("ERR Invalid TTL value, must be >= 0"));
    }
    let verify = !tx.settings().skip_checksums;
    let object = dump::take_checked(&args.bytes(3), verify).map_err(|refusal| match refusal {
        Refusal::Footer => CmdError::Text("ERR DUMP payload version or checksum are wrong"),
        Refusal::Value(error) => {
            tx.complain(&format_args!("RESTORE refused a payload: {error}"));
            CmdError::Text("ERR Bad data format")
        }
    })?;
    let now_ms = tx.now_ms();
    let expire_at = match ttl_ms {
        0 => None,
        ttl_ms if options.absolute => Some(ttl_ms),
        ttl_ms => Some(ttl_ms.saturating_add(now_ms)),
    };
    let past_ms = tx.past_ms();
    let value = stored(object, args.get(3)[0], &tx.settings().limits, past_ms);
    let value = value.filter(|_| expire_at.is_none_or(|at_ms| at_ms > past_ms));
    let Some(value) = value else {
        // It has expired on the way: what was there is gone all the same.
        if tx.remove(key) {
            tx.wrote(key, Event::DEL, |rec| rec.cmd(&[b"DEL", key]));
        }
        return out.ok();
    };
    let mut taken = Taken::new(value, expire_at);
    tx.set_clock(&mut taken, options.idle_s, options.frequency);
    tx.remove(key);
    tx.put(key, taken);
    if verify && is_old(args.get(3)) {
        record(tx, args, expire_at, options.absolute);
    } else {
        // Who repeats it may not know the form, or not take it.
        wrote_whole(tx, key, Event::RESTORE);
    }
    out.ok()
}

/// Whether servers of version 7.0 know a payload's form. Its version stands behind its value.
fn is_old(payload: &[u8]) -> bool {
    const VERSION: u16 = 10;
    let footer = payload.last_chunk::<10>();
    footer.is_some_and(|footer| u16::from_le_bytes([footer[0], footer[1]]) <= VERSION)
}

/// Records a RESTORE as it came, but for a deadline, which is absolute. Redis: cluster.c restoreCommand.
fn record(tx: &mut Tx, args: &Args, expire_at: Option<i64>, absolute: bool) {
    let at_ms = itoa::Buffer::new()
        .format(expire_at.unwrap_or(0))
        .to_owned();
    let adds = expire_at.is_some() && !absolute;
    tx.wrote(args.get(1), Event::RESTORE, |rec| {
        let words = args.iter().enumerate().map(|(at, word)| match at {
            2 => at_ms.as_bytes(),
            _ => word,
        });
        let absttl = adds.then_some(&b"ABSTTL"[..]);
        rec.cmd_of(args.len() + usize::from(adds), words.chain(absttl));
    });
}

#[cfg(test)]
mod damage;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::testing::Bench;
    use crate::resp::ArgBuf;

    fn request(words: &[&[u8]]) -> ArgBuf {
        words.iter().copied().collect()
    }

    #[test]
    fn values_come_back_from_their_dump() {
        let mut bench = Bench::new();
        let makers = [
            "SET k hello",
            "SET k 12345",
            "RPUSH k 1 a 3",
            "SADD k 1 2 3",
            "SADD k a b",
            "HSET k f 1 g 2",
            "ZADD k 1 a 2.5 b",
        ];
        for maker in makers {
            bench.line("DEL k");
            bench.line(maker);
            let taken = |bench: &mut Bench| {
                let mut tx = bench.tx();
                let taken = tx.clone_value(b"k").expect("it exists");
                tx.finish();
                taken
            };
            let before = taken(&mut bench);
            let payload = dump::put(&Saved(before.value.kept()), &mut StringWriter::new(true));
            let busy = bench.run(&request(&[b"RESTORE", b"k", b"0", &payload]));
            assert_eq!(busy.reply, "-BUSYKEY Target key name already exists.|");
            let restored = bench.run(&request(&[b"RESTORE", b"k", b"5", &payload, b"REPLACE"]));
            assert_eq!(
                (restored.reply.as_str(), restored.events.as_str()),
                ("+OK|", "restore k")
            );
            let after = taken(&mut bench);
            let again = dump::put(&Saved(after.value.kept()), &mut StringWriter::new(true));
            assert_eq!(again, payload, "{maker}");
            assert_eq!(bench.line("PTTL k").reply, ":5|", "{maker}");
            let mut bad = payload.clone();
            bad[1] ^= 1;
            let refused = bench.run(&request(&[b"RESTORE", b"l", b"0", &bad]));
            assert_eq!(
                refused.reply,
                "-ERR DUMP payload version or checksum are wrong|"
            );
        }
        bench.replies(&[
            ("DUMP none", "$-1|"),
            ("RESTORE l -1 x", "-ERR Invalid TTL value, must be >= 0|"),
            (
                "RESTORE l 0 x FREQ 256",
                "-ERR Invalid FREQ value, must be >= 0 and <= 255|",
            ),
            ("RESTORE l 0 x IDLETIME 1 FREQ 1", "-ERR syntax error|"),
        ]);
    }

    /// What is pending of entries that are gone stays pending, for who repeats it as well.
    #[test]
    fn streams_that_move_are_recorded_as_they_are() {
        for (line, to) in [("RENAME s t", "t"), ("COPY s t", "t"), ("MOVE s 1", "s")] {
            let mut bench = Bench::new();
            bench.line("XADD s 1-1 f v");
            bench.line("XGROUP CREATE s g 0");
            bench.line("XREADGROUP GROUP g c STREAMS s >");
            bench.line("XDEL s 1-1");
            let records = bench.line(line).records;
            assert!(records.contains(&format!("RESTORE {to} 0 ")), "{records}");
        }
    }
}
