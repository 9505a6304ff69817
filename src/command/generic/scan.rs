//! Finding keys: KEYS, SCAN, RANDOMKEY.

use crate::command::cursor::{cursor, options};
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

/// A cursor is `position * shards + shard`: one shard after the other is gone through.
fn shard_of_cursor(args: &Args, shards: usize) -> Result<usize, CmdError> {
    Ok((cursor(args, 1)? % shards as u64) as usize)
}

fn scan(tx: &mut Tx, args: &Args, place: Place, out: &mut Writer) -> CmdResult {
    let shards = place.shards as u64;
    let mut position = cursor(args, 1)? / shards;
    let options = options(args, 2)?;
    if options.no_values {
        return Err(CmdError::Syntax);
    }
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
