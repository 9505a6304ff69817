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
    part: scan,
    merge: one_page,
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

/// A cursor is `position * shards + shard`: one shard after the other is gone through. The first
/// call asks all, so that what fits on one page is on one page.
fn shard_of_cursor(args: &Args, shards: usize) -> Result<Option<usize>, CmdError> {
    let cursor = cursor(args, 1)?;
    Ok((cursor != 0 || shards == 1).then_some((cursor % shards as u64) as usize))
}

fn scan(tx: &mut Tx, args: &Args, place: Place) -> Result<Part, CmdError> {
    let cursor = cursor(args, 1)?;
    let mut position = cursor / place.shards as u64;
    let options = options(args, 2)?;
    if options.no_values {
        return Err(CmdError::Syntax);
    }
    // The page of a first call may go on here if all of this shard fits on it.
    if cursor == 0 && place.shard > 0 && tx.key_count() as u64 >= options.count {
        return Ok(Part::Nothing);
    }
    let (mut out, mut count, mut visited) = (Output::default(), 0, 0);
    let mut writer = Writer::new(&mut out, Proto::Resp2);
    let mut result = Ok(());
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
                count += 1;
                result = writer.bulk(key);
            }
        });
        buckets -= 1;
        if position == 0 || visited >= options.count || buckets == 0 {
            break;
        }
    }
    result?;
    Ok(Part::Page {
        out,
        count,
        visited,
        next: position,
    })
}

/// Joins what shards found, from the place of the first of them on, to the first that the page has
/// no room for.
fn one_page(args: &Args, first: Place, parts: Vec<Part>, out: &mut Writer) -> CmdResult {
    let room = options(args, 2)?.count;
    let shards = first.shards as u64;
    let (mut cursor, mut seen, mut found) = (first.shard as u64, 0, 0);
    let mut pages = Vec::new();
    for part in &parts {
        let Part::Page {
            out,
            count,
            visited,
            next,
        } = part
        else {
            break;
        };
        pages.push(out);
        found += count;
        seen += visited;
        if *next != 0 {
            cursor += next * shards;
            break;
        }
        cursor = (cursor + 1) % shards;
        if seen >= room {
            break;
        }
    }
    out.array(2)?;
    out.bulk(itoa::Buffer::new().format(cursor).as_bytes())?;
    out.array(found)?;
    pages.iter().for_each(|page| out.output().append(page));
    Ok(())
}
