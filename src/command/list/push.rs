//! Adding elements at the ends.

use crate::keyspace::{Event, Tx};
use crate::resp::{Args, CmdResult, Writer};
use crate::value::list::{End, List};

pub(super) fn lpush(tx: &mut Tx, args: &Args, out: &mut Writer) -> CmdResult {
    push(tx, args, End::Head, out)
}

pub(super) fn rpush(tx: &mut Tx, args: &Args, out: &mut Writer) -> CmdResult {
    push(tx, args, End::Tail, out)
}

pub(super) fn lpushx(tx: &mut Tx, args: &Args, out: &mut Writer) -> CmdResult {
    push_existing(tx, args, End::Head, out)
}

pub(super) fn rpushx(tx: &mut Tx, args: &Args, out: &mut Writer) -> CmdResult {
    push_existing(tx, args, End::Tail, out)
}

/// Event and command name of a push.
pub(super) fn pushed(end: End) -> (Event, &'static [u8]) {
    match end {
        End::Head => (Event::LPUSH, b"LPUSH"),
        End::Tail => (Event::RPUSH, b"RPUSH"),
    }
}

fn push_existing(tx: &mut Tx, args: &Args, end: End, out: &mut Writer) -> CmdResult {
    match tx.peek::<List>(args.get(1))? {
        None => out.int(0),
        Some(_) => push(tx, args, end, out),
    }
}

fn push(tx: &mut Tx, args: &Args, end: End, out: &mut Writer) -> CmdResult {
    let key = args.get(1);
    let len = tx.change_or_create(key, List::new, |list, _| {
        for at in 2..args.len() {
            list.push(end, args.get(at), args.large(at));
        }
        list.len()
    })?;
    let (event, name) = pushed(end);
    tx.wrote_many(args.len() as u64 - 2, key, event, |rec| {
        let elements = args.iter().skip(1);
        rec.cmd_of(args.len(), std::iter::once(name).chain(elements));
    });
    out.int(len as i64)
}
