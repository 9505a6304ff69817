//! Changing what is inside a list.

use crate::keyspace::{Event, Tx};
use crate::resp::{Args, CmdError, CmdResult, Writer};
use crate::value::list::{End, List};

pub(super) fn lset(tx: &mut Tx, args: &Args, out: &mut Writer) -> CmdResult {
    let key = args.get(1);
    let Some(list) = tx.peek::<List>(key)? else {
        return Err(CmdError::NoSuchKey);
    };
    let at = list.absolute(args.int(2)?);
    let at = at.ok_or(CmdError::IndexOutOfRange)?;
    tx.change(key, |list: &mut List, _| {
        list.set(at, args.get(3), args.large(3));
    })?;
    tx.wrote(key, Event::LSET, |rec| {
        rec.cmd(&[b"LSET", key, args.get(2), args.get(3)]);
    });
    out.ok()
}

/// First and last index (inclusive) of a range given with negative indices, within `len` elements.
/// `None`: nothing is in it.
pub(super) fn clamp(start: i64, stop: i64, len: usize) -> Option<(usize, usize)> {
    let len = len as i64;
    let from_end = |at: i64| if at < 0 { at.saturating_add(len) } else { at };
    let (start, stop) = (from_end(start).max(0), from_end(stop).min(len - 1));
    (start <= stop).then_some((start as usize, stop as usize))
}

pub(super) fn ltrim(tx: &mut Tx, args: &Args, out: &mut Writer) -> CmdResult {
    let key = args.get(1);
    let (start, stop) = (args.int(2)?, args.int(3)?);
    let removed = tx.change(key, |list: &mut List, _| {
        let len = list.len();
        match clamp(start, stop, len) {
            None => list.remove_range(0, len),
            Some((first, last)) => {
                list.remove_range(last + 1, len - last - 1);
                list.remove_range(0, first);
            }
        }
        (len - list.len()) as u64
    })?;
    if let Some(removed) = removed {
        tx.wrote_many(removed, key, Event::LTRIM, |rec| {
            rec.cmd(&[b"LTRIM", key, args.get(2), args.get(3)]);
        });
    }
    out.ok()
}

pub(super) fn lrem(tx: &mut Tx, args: &Args, out: &mut Writer) -> CmdResult {
    let (key, value) = (args.get(1), args.get(3));
    let count = args.int(2)?;
    let end = if count < 0 { End::Tail } else { End::Head };
    let max = usize::try_from(count.unsigned_abs()).unwrap_or(usize::MAX);
    let removed = tx.change(key, |list: &mut List, _| list.remove_equal(value, end, max))?;
    match removed.unwrap_or(0) {
        0 => tx.unchanged(),
        removed => tx.wrote_many(removed as u64, key, Event::LREM, |rec| {
            rec.cmd(&[b"LREM", key, args.get(2), value]);
        }),
    }
    out.int(removed.unwrap_or(0) as i64)
}

pub(super) fn linsert(tx: &mut Tx, args: &Args, out: &mut Writer) -> CmdResult {
    let (key, pivot) = (args.get(1), args.get(3));
    let after = if args.is(2, "after") {
        true
    } else if args.is(2, "before") {
        false
    } else {
        return Err(CmdError::Syntax);
    };
    let Some(list) = tx.peek::<List>(key)? else {
        return out.int(0);
    };
    let Some(at) = list.position(pivot) else {
        return out.int(-1);
    };
    let len = tx.change(key, |list: &mut List, _| {
        list.insert(at, after, args.get(4), args.large(4));
        list.len()
    })?;
    tx.wrote(key, Event::LINSERT, |rec| {
        rec.cmd(&[b"LINSERT", key, args.get(2), pivot, args.get(4)]);
    });
    out.int(len.unwrap_or(0) as i64)
}
