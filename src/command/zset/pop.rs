//! Taking members with the least or the greatest scores.

use super::scored;
use crate::command::block::{self, Block};
use crate::command::{First, mpop};
use crate::keyspace::{Event, Tx};
use crate::resp::{Args, CmdError, CmdResult, Writer};
use crate::value::Kind;
use crate::value::zset::Zset;

/// Which members.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Which {
    Min,
    Max,
}

fn which(args: &Args, at: usize) -> Option<Which> {
    if args.is(at, "min") {
        Some(Which::Min)
    } else if args.is(at, "max") {
        Some(Which::Max)
    } else {
        None
    }
}

impl Which {
    fn event(self) -> (Event, &'static [u8]) {
        match self {
            Which::Min => (Event::ZPOPMIN, b"ZPOPMIN"),
            Which::Max => (Event::ZPOPMAX, b"ZPOPMAX"),
        }
    }
}

pub(super) static ZMPOP: First = First {
    kind: Kind::Zset,
    serve: |tx, args, at, out| serve_many(tx, args, 1, at, out),
    check: |args| mpop::options(args, 1, which).map(|_| ()),
};

pub(super) static BZMPOP: First = First {
    kind: Kind::Zset,
    serve: |tx, args, at, out| serve_many(tx, args, 2, at, out),
    check: |_| Ok(()),
};
pub(super) static BZPOPMIN: First = First {
    kind: Kind::Zset,
    serve: |tx, args, at, out| serve_one(tx, args.get(at), Which::Min, out),
    check: |_| Ok(()),
};
pub(super) static BZPOPMAX: First = First {
    kind: Kind::Zset,
    serve: |tx, args, at, out| serve_one(tx, args.get(at), Which::Max, out),
    check: |_| Ok(()),
};

/// `BZPOPMIN key ... timeout`
pub(super) static BZPOP_WAITS: Block =
    Block::first(Kind::Zset, |args| block::seconds(args, args.len() - 1));
/// `BZMPOP timeout numkeys key ... MIN|MAX [COUNT count]`
pub(super) static BZMPOP_WAITS: Block = Block::first(Kind::Zset, |args| {
    mpop::options(args, 2, which)?;
    block::seconds(args, 1)
});

/// Serves BZPOPMIN and BZPOPMAX: the key, its member and the score.
fn serve_one(tx: &mut Tx, key: &[u8], which: Which, out: &mut Writer) -> CmdResult {
    out.array(3)?;
    out.bulk(key)?;
    take(tx, key, which, 1, false, out)
}

pub(super) fn zpopmin(tx: &mut Tx, args: &Args, out: &mut Writer) -> CmdResult {
    pop(tx, args, Which::Min, out)
}

pub(super) fn zpopmax(tx: &mut Tx, args: &Args, out: &mut Writer) -> CmdResult {
    pop(tx, args, Which::Max, out)
}

fn pop(tx: &mut Tx, args: &Args, which: Which, out: &mut Writer) -> CmdResult {
    let count = match args.len() {
        2 => None,
        3 => {
            let count = args.int(2).map_err(|_| CmdError::MustBePositive)?;
            Some(usize::try_from(count).map_err(|_| CmdError::MustBePositive)?)
        }
        _ => return Err(CmdError::Syntax),
    };
    let key = args.get(1);
    let Some(set) = tx.peek::<Zset>(key)? else {
        return out.array(0);
    };
    let len = count.unwrap_or(1).min(set.len());
    // RESP3 nests pairs, but not the only one of a request without a count.
    let nested = count.is_some() && out.resp3();
    out.array(if nested { len } else { 2 * len })?;
    take(tx, key, which, len, nested, out)
}

/// Takes `count` members, which the set has, and writes them with their scores.
pub(super) fn take(
    tx: &mut Tx,
    key: &[u8],
    which: Which,
    count: usize,
    nested: bool,
    out: &mut Writer,
) -> CmdResult {
    if count == 0 {
        return Ok(());
    }
    tx.change(key, |set: &mut Zset, _| {
        let len = set.len();
        let (start, members) = match which {
            Which::Min => (0, set.iter()),
            Which::Max => (len - count, set.iter_back_from(len - 1)),
        };
        let written = members
            .take(count)
            .try_for_each(|(name, score)| scored(name, score, nested, out));
        set.remove_range(start, start + count);
        written
    })?
    .unwrap_or(Ok(()))?;
    let (event, name) = which.event();
    tx.wrote_many(count as u64, key, event, |rec| {
        rec.cmd(&[name, key, count.to_string().as_bytes()]);
    });
    Ok(())
}

/// Serves ZMPOP and BZMPOP: the key, and its members as pairs.
pub(super) fn serve_many(
    tx: &mut Tx,
    args: &Args,
    numkeys: usize,
    at: usize,
    out: &mut Writer,
) -> CmdResult {
    let (which, count) = mpop::options(args, numkeys, which)?;
    let key = args.get(at);
    let len = tx.peek::<Zset>(key)?.map_or(0, Zset::len).min(count);
    out.array(2)?;
    out.bulk(key)?;
    out.array(len)?;
    take(tx, key, which, len, true, out)
}
