//! Reading lists.

use super::edit::clamp;
use super::element;
use crate::keyspace::Tx;
use crate::resp::{Args, CmdError, CmdResult, Writer};
use crate::value::list::List;
use crate::value::listpack::Item;

pub(super) fn llen(tx: &mut Tx, args: &Args, out: &mut Writer) -> CmdResult {
    let len = tx.read::<List>(args.get(1))?.map_or(0, List::len);
    out.int(len as i64)
}

pub(super) fn lindex(tx: &mut Tx, args: &Args, out: &mut Writer) -> CmdResult {
    let list = tx.read::<List>(args.get(1))?;
    let Some(list) = list else {
        return out.null();
    };
    match list.with(args.int(2)?, |item| element(item, out)) {
        Some(written) => written,
        None => out.null(),
    }
}

pub(super) fn lrange(tx: &mut Tx, args: &Args, out: &mut Writer) -> CmdResult {
    let (start, stop) = (args.int(2)?, args.int(3)?);
    let Some(list) = tx.read::<List>(args.get(1))? else {
        return out.array(0);
    };
    let Some((first, last)) = clamp(start, stop, list.len()) else {
        return out.array(0);
    };
    let count = last - first + 1;
    out.array(count)?;
    list.try_each(first, count, |item| element(item, out))
}

struct Search {
    /// Matches to pass over first, and from which end.
    rank: i64,
    /// `None`: one index instead of an array; 0: all.
    count: Option<usize>,
    /// Elements to look at; 0: all.
    max_len: usize,
}

fn search(args: &Args) -> Result<Search, CmdError> {
    const NEGATIVE_COUNT: CmdError = CmdError::Text("ERR COUNT can't be negative");
    const NEGATIVE_MAXLEN: CmdError = CmdError::Text("ERR MAXLEN can't be negative");
    let mut search = Search {
        rank: 1,
        count: None,
        max_len: 0,
    };
    let mut at = 3;
    while at < args.len() {
        if at + 1 == args.len() {
            return Err(CmdError::Syntax);
        }
        if args.is(at, "rank") {
            // Redis: t_list.c lposCommand.
            search.rank = match args.int(at + 1)? {
                0 => {
                    return Err(CmdError::Text(
                        "ERR RANK can't be zero: use 1 to start from the first match, 2 from the \
                         second ... or use negative to start from the end of the list",
                    ));
                }
                i64::MIN => {
                    return Err(CmdError::BeyondLong);
                }
                rank => rank,
            };
        } else if args.is(at, "count") {
            let count = args.int(at + 1).map_err(|_| NEGATIVE_COUNT)?;
            search.count = Some(usize::try_from(count).map_err(|_| NEGATIVE_COUNT)?);
        } else if args.is(at, "maxlen") {
            let max = args.int(at + 1).map_err(|_| NEGATIVE_MAXLEN)?;
            search.max_len = usize::try_from(max).map_err(|_| NEGATIVE_MAXLEN)?;
        } else {
            return Err(CmdError::Syntax);
        }
        at += 2;
    }
    Ok(search)
}

/// The indices that LPOS finds, in the order in which it finds them.
fn found(list: &List, wanted: &[u8], search: &Search) -> Vec<usize> {
    let (wanted, len) = (Item::of(wanted), list.len());
    let looked_at = match search.max_len {
        0 => len,
        max => max,
    };
    let wanted_count = match search.count {
        None => 1,
        Some(0) => usize::MAX,
        Some(count) => count,
    };
    let mut passed = search.rank.unsigned_abs() as usize - 1;
    let (mut found, mut seen) = (Vec::new(), 0);
    let visit = |item: Item| {
        let at = seen;
        seen += 1;
        if item != wanted {
            return Ok(());
        }
        if passed > 0 {
            passed -= 1;
            return Ok(());
        }
        found.push(if search.rank > 0 { at } else { len - 1 - at });
        match found.len() == wanted_count {
            true => Err(()),
            false => Ok(()),
        }
    };
    // Stops early once there are enough.
    let _stopped = match search.rank > 0 {
        true => list.try_each(0, looked_at, visit),
        false => list.try_each_back(looked_at, visit),
    };
    found
}

pub(super) fn lpos(tx: &mut Tx, args: &Args, out: &mut Writer) -> CmdResult {
    let search = search(args)?;
    let found = match tx.read::<List>(args.get(1))? {
        None => Vec::new(),
        Some(list) => found(list, args.get(2), &search),
    };
    match (search.count, found.first()) {
        (None, None) => out.null(),
        (None, Some(&at)) => out.int(at as i64),
        (Some(_), _) => {
            out.array(found.len())?;
            found.iter().try_for_each(|&at| out.int(at as i64))
        }
    }
}
