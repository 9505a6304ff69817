//! Single members: score, rank, removal, random ones.

use super::{element, scored};
use crate::command::sample::{check_repeats, distinct, repeat};
use crate::keyspace::{Event, Tx};
use crate::resp::{Args, CmdError, CmdResult, Writer};
use crate::value::zset::Zset;

pub(super) fn zscore(tx: &mut Tx, args: &Args, out: &mut Writer) -> CmdResult {
    let set = tx.read::<Zset>(args.get(1))?;
    match set.and_then(|set| set.score(args.get(2))) {
        Some(score) => out.double(score),
        None => out.null(),
    }
}

pub(super) fn zmscore(tx: &mut Tx, args: &Args, out: &mut Writer) -> CmdResult {
    let set = tx.read::<Zset>(args.get(1))?;
    out.array(args.len() - 2)?;
    args.iter()
        .skip(2)
        .try_for_each(|name| match set.and_then(|set| set.score(name)) {
            Some(score) => out.double(score),
            None => out.null(),
        })
}

pub(super) fn zrank(tx: &mut Tx, args: &Args, out: &mut Writer) -> CmdResult {
    rank(tx, args, false, out)
}

pub(super) fn zrevrank(tx: &mut Tx, args: &Args, out: &mut Writer) -> CmdResult {
    rank(tx, args, true, out)
}

/// `ZRANK key member [WITHSCORE]`
fn rank(tx: &mut Tx, args: &Args, reverse: bool, out: &mut Writer) -> CmdResult {
    let with_score = match args.len() {
        3 => false,
        4 if args.is(3, "withscore") => true,
        // Redis 7.0 knows no more than three arguments, Redis 7.2 has others to complain about.
        _ => return Err(CmdError::arity(if reverse { "zrevrank" } else { "zrank" })),
    };
    let name = args.get(2);
    let set = tx.read::<Zset>(args.get(1))?;
    let found = set.and_then(|set| {
        let rank = set.rank(name)?;
        let rank = if reverse { set.len() - 1 - rank } else { rank };
        Some((rank as i64, set.score(name)?))
    });
    match found {
        None if with_score => out.null_array(),
        None => out.null(),
        Some((rank, score)) if with_score => {
            out.array(2)?;
            out.int(rank)?;
            out.double(score)
        }
        Some((rank, _)) => out.int(rank),
    }
}

pub(super) fn zrem(tx: &mut Tx, args: &Args, out: &mut Writer) -> CmdResult {
    let key = args.get(1);
    let removed = tx.change(key, |set: &mut Zset, _| {
        let names = args.iter().skip(2);
        names.filter(|name| set.remove(name).is_some()).count()
    })?;
    let removed = removed.unwrap_or(0);
    match removed {
        0 => tx.unchanged(),
        _ => tx.wrote_many(removed as u64, key, Event::ZREM, |rec| {
            rec.cmd_of(
                args.len(),
                std::iter::once(&b"ZREM"[..]).chain(args.iter().skip(1)),
            );
        }),
    }
    out.int(removed as i64)
}

/// `ZRANDMEMBER key [count [WITHSCORES]]`
pub(super) fn zrandmember(tx: &mut Tx, args: &Args, out: &mut Writer) -> CmdResult {
    let key = args.get(1);
    if args.len() == 2 {
        let Some((set, rng)) = tx.read_random::<Zset>(key)? else {
            return out.null();
        };
        let found = set.get(rng.usize(..set.len()));
        return found.map_or(Ok(()), |(name, _)| element(name, out));
    }
    let count = args.count_or_repeats(2)?;
    let with_scores = match args.len() {
        3 => false,
        4 if args.is(3, "withscores") => true,
        _ => return Err(CmdError::Syntax),
    };
    // Redis: what comes in pairs is counted twice.
    if with_scores && !(-(i64::MAX / 2)..=i64::MAX / 2).contains(&count) {
        return Err(CmdError::OutOfRange);
    }
    let Some((set, rng)) = tx.read_random::<Zset>(key)? else {
        return out.array(0);
    };
    check_repeats(count)?;
    let len = set.len();
    let chosen = if count < 0 {
        None
    } else {
        Some(distinct(len, count as usize, rng))
    };
    let replies = chosen
        .as_ref()
        .map_or(count.unsigned_abs() as usize, Vec::len);
    let nested = with_scores && out.resp3();
    out.array(if with_scores && !nested {
        2 * replies
    } else {
        replies
    })?;
    let member = |rank: usize, out: &mut Writer| match set.get(rank) {
        Some((name, score)) if with_scores => scored(name, score, nested, out),
        Some((name, _)) => element(name, out),
        None => Ok(()),
    };
    match chosen {
        Some(chosen) => chosen.into_iter().try_for_each(|rank| member(rank, out)),
        None => repeat(replies, out, |out| member(rng.usize(..len), out)),
    }
}
