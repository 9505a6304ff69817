//! Finding keys: KEYS, SCAN, RANDOMKEY.

use crate::command::{Part, Place, Run, glob};
use crate::keyspace::Tx;
use crate::resp::{Args, CmdError, CmdResult, Output, Proto, Writer};
use crate::value::Kind;

pub(super) const KEYS: Run = Run::Shards {
    part: keys,
    merge: concatenate,
};
pub(super) const RANDOMKEY: Run = Run::Shards {
    part: random,
    merge: choose,
};
pub(super) const SCAN: Run = Run::At {
    shard: shard_of_cursor,
    run: scan,
};

fn keys(tx: &mut Tx, args: &Args, _place: Place) -> Result<Part, CmdError> {
    let pattern = args.get(1);
    let (mut out, mut count) = (Output::default(), 0);
    let mut writer = Writer::new(&mut out, Proto::Resp2);
    let mut result = Ok(());
    tx.for_each_key(|key, _| {
        if glob::matches(pattern, key) {
            count += 1;
            result = writer.bulk(key);
        }
    });
    result.map(|()| Part::Elements { out, count })
}

fn concatenate(_args: &Args, parts: Vec<Part>, out: &mut Writer) -> CmdResult {
    let count = |part: &Part| {
        if let Part::Elements { count, .. } = part {
            *count
        } else {
            0
        }
    };
    out.array(parts.iter().map(count).sum())?;
    for part in &parts {
        if let Part::Elements { out: elements, .. } = part {
            out.output().append(elements);
        }
    }
    Ok(())
}

/// A random key and a random position among all shards' keys: the merge compares positions, so
/// that every key of every shard is as likely.
fn random(tx: &mut Tx, _args: &Args, _place: Place) -> Result<Part, CmdError> {
    let among = tx.key_count() as u64;
    let key = tx.random_key();
    // The largest of `among` uniform numbers: the shard with the largest of all is chosen with a
    // probability proportional to its keys.
    let draw = tx.rng().f64().powf(1.0 / among.max(1) as f64);
    Ok(Part::Random { key, draw })
}

fn choose(_args: &Args, parts: Vec<Part>, out: &mut Writer) -> CmdResult {
    let drawn = parts.iter().filter_map(|part| match part {
        Part::Random {
            key: Some(key),
            draw,
        } => Some((key, *draw)),
        _ => None,
    });
    match drawn.max_by(|(_, a), (_, b)| a.total_cmp(b)) {
        Some((key, _)) => out.bulk(key),
        None => out.null(),
    }
}

// Redis: db.c parseScanCursorOrReply reads it with strtoul, which negates what has a minus.
fn cursor(args: &Args) -> Result<u64, CmdError> {
    let text = std::str::from_utf8(args.get(1)).ok();
    let cursor = text.and_then(|text| match text.strip_prefix('-') {
        Some(digits) => digits.parse::<u64>().ok().map(u64::wrapping_neg),
        None => text.parse().ok(),
    });
    cursor.ok_or(CmdError::Text("ERR invalid cursor"))
}

/// A cursor is `position * shards + shard`: one shard after the other is gone through.
fn shard_of_cursor(args: &Args, shards: usize) -> Result<usize, CmdError> {
    Ok((cursor(args)? % shards as u64) as usize)
}

#[derive(Default)]
struct Options<'a> {
    pattern: Option<&'a [u8]>,
    kind: Option<&'a [u8]>,
    count: u64,
}

fn options<'a>(args: &Args<'a>) -> Result<Options<'a>, CmdError> {
    let mut options = Options {
        count: 10,
        ..Options::default()
    };
    let mut at = 2;
    while at < args.len() {
        if at + 1 == args.len() {
            return Err(CmdError::Syntax);
        }
        if args.is(at, "count") {
            let count = args.int(at + 1)?;
            if count < 1 {
                return Err(CmdError::Syntax);
            }
            options.count = count as u64;
        } else if args.is(at, "match") {
            options.pattern = Some(args.get(at + 1)).filter(|&pattern| pattern != b"*");
        } else if args.is(at, "type") {
            options.kind = Some(args.get(at + 1));
        } else {
            return Err(CmdError::Syntax);
        }
        at += 2;
    }
    Ok(options)
}

fn scan(tx: &mut Tx, args: &Args, place: Place, out: &mut Writer) -> CmdResult {
    let shards = place.shards as u64;
    let mut position = cursor(args)? / shards;
    let options = options(args)?;
    let mut found: Vec<Vec<u8>> = Vec::new();
    let mut visited = 0;
    // An almost empty table is not gone through at once. Redis: db.c scanGenericCommand.
    let mut buckets = options.count.saturating_mul(10);
    loop {
        position = tx.scan(position, |key, kind: Kind| {
            visited += 1;
            let wanted = options
                .kind
                .is_none_or(|k| k.eq_ignore_ascii_case(kind.name().as_bytes()));
            if wanted
                && options
                    .pattern
                    .is_none_or(|pattern| glob::matches(pattern, key))
            {
                found.push(key.to_vec());
            }
        });
        buckets -= 1;
        if position == 0 || visited >= options.count || buckets == 0 {
            break;
        }
    }
    let next = match position {
        0 if place.shard + 1 == place.shards => 0,
        0 => place.shard as u64 + 1,
        position => position * shards + place.shard as u64,
    };
    out.array(2)?;
    out.bulk(itoa::Buffer::new().format(next).as_bytes())?;
    out.array(found.len())?;
    found.iter().try_for_each(|key| out.bulk(key))
}
