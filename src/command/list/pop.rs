//! Taking elements from the ends.

use super::{element, end_of};
use crate::command::block::{self, Block};
use crate::command::{First, mpop};
use crate::keyspace::{Event, Tx};
use crate::resp::{Args, CmdError, CmdResult, Writer};
use crate::value::Kind;
use crate::value::list::{End, List};

pub(super) fn lpop(tx: &mut Tx, args: &Args, out: &mut Writer) -> CmdResult {
    pop(tx, args, End::Head, out)
}

pub(super) fn rpop(tx: &mut Tx, args: &Args, out: &mut Writer) -> CmdResult {
    pop(tx, args, End::Tail, out)
}

pub(super) static LMPOP: First = First {
    kind: Kind::List,
    serve: |tx, args, at, out| serve_many(tx, args, 1, at, out),
    check: |args| mpop::options(args, 1, end_of).map(|_| ()),
};

pub(super) static BLMPOP: First = First {
    kind: Kind::List,
    serve: |tx, args, at, out| serve_many(tx, args, 2, at, out),
    check: |_| Ok(()),
};
pub(super) static BLPOP: First = First {
    kind: Kind::List,
    serve: |tx, args, at, out| serve_one(tx, args.get(at), End::Head, out),
    check: |_| Ok(()),
};
pub(super) static BRPOP: First = First {
    kind: Kind::List,
    serve: |tx, args, at, out| serve_one(tx, args.get(at), End::Tail, out),
    check: |_| Ok(()),
};

/// `BLPOP key ... timeout`
pub(super) static BPOP_WAITS: Block =
    Block::first(Kind::List, |args| block::seconds(args, args.len() - 1));
/// `BLMPOP timeout numkeys key ... LEFT|RIGHT [COUNT count]`
pub(super) static BLMPOP_WAITS: Block = Block::first(Kind::List, |args| {
    mpop::options(args, 2, end_of)?;
    block::seconds(args, 1)
});

/// Serves BLPOP and BRPOP: the key, and its element.
fn serve_one(tx: &mut Tx, key: &[u8], end: End, out: &mut Writer) -> CmdResult {
    out.array(2)?;
    out.bulk(key)?;
    pop_one(tx, key, end, out)
}

/// Event and command name of a pop.
pub(super) fn popped(end: End) -> (Event, &'static [u8]) {
    match end {
        End::Head => (Event::LPOP, b"LPOP"),
        End::Tail => (Event::RPOP, b"RPOP"),
    }
}

fn pop(tx: &mut Tx, args: &Args, end: End, out: &mut Writer) -> CmdResult {
    if args.len() > 3 {
        return Err(CmdError::arity(match end {
            End::Head => "lpop",
            End::Tail => "rpop",
        }));
    }
    let key = args.get(1);
    if args.len() == 2 {
        return pop_one(tx, key, end, out);
    }
    let count = args.int(2).map_err(|_| CmdError::MustBePositive)?;
    let count = usize::try_from(count).map_err(|_| CmdError::MustBePositive)?;
    let Some(list) = tx.peek::<List>(key)? else {
        return out.null_array();
    };
    match count.min(list.len()) {
        0 => out.array(0),
        count => pop_many(tx, key, end, count, out),
    }
}

/// Takes an element; of no list, the null.
pub(super) fn pop_one(tx: &mut Tx, key: &[u8], end: End, out: &mut Writer) -> CmdResult {
    let written = tx.change(key, |list: &mut List, _| {
        let written = list.end(end).map_or(Ok(()), |item| element(item, out));
        list.drop_end(end);
        written
    })?;
    let Some(written) = written else {
        return out.null();
    };
    written?;
    let (event, name) = popped(end);
    tx.wrote(key, event, |rec| rec.cmd(&[name, key]));
    Ok(())
}

/// Takes `count` elements, which the list has, as an array.
fn pop_many(tx: &mut Tx, key: &[u8], end: End, count: usize, out: &mut Writer) -> CmdResult {
    out.array(count)?;
    tx.change(key, |list: &mut List, _| {
        let written = match end {
            End::Head => list.try_each(0, count, |item| element(item, out)),
            End::Tail => list.try_each_back(count, |item| element(item, out)),
        };
        let first = match end {
            End::Head => 0,
            End::Tail => list.len() - count,
        };
        list.remove_range(first, count);
        written
    })?
    .unwrap_or(Ok(()))?;
    let (event, name) = popped(end);
    tx.wrote_many(count as u64, key, event, |rec| {
        rec.cmd(&[name, key, count.to_string().as_bytes()]);
    });
    Ok(())
}

/// Serves LMPOP and BLMPOP: the key, and its elements.
pub(super) fn serve_many(
    tx: &mut Tx,
    args: &Args,
    numkeys: usize,
    at: usize,
    out: &mut Writer,
) -> CmdResult {
    let (end, count) = mpop::options(args, numkeys, end_of)?;
    let key = args.get(at);
    let len = tx.peek::<List>(key)?.map_or(0, List::len);
    out.array(2)?;
    out.bulk(key)?;
    pop_many(tx, key, end, count.min(len), out)
}
