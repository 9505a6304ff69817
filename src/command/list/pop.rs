//! Taking elements from the ends.

use super::{element, end_of};
use crate::command::First;
use crate::command::block::{self, Block, Serve};
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
    check: |args| multi_options(args, 1).map(|_| ()),
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
pub(super) static BPOP_WAITS: Block = Block {
    patience: |args| block::seconds(args, args.len() - 1),
    kind: Kind::List,
    serve: Serve::First,
    mark: block::no_mark,
    first_key_only: false,
};
/// `BLMPOP timeout numkeys key ... LEFT|RIGHT [COUNT count]`
pub(super) static BLMPOP_WAITS: Block = Block {
    patience: |args| {
        multi_options(args, 2)?;
        block::seconds(args, 1)
    },
    kind: Kind::List,
    serve: Serve::First,
    mark: block::no_mark,
    first_key_only: false,
};

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
        return Err(CmdError::arity(
            &String::from_utf8_lossy(args.name()).to_ascii_lowercase(),
        ));
    }
    let key = args.get(1);
    if args.len() == 2 {
        return match tx.peek::<List>(key)? {
            None => out.null(),
            Some(_) => pop_one(tx, key, end, out),
        };
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

/// Takes an element of a list that exists.
pub(super) fn pop_one(tx: &mut Tx, key: &[u8], end: End, out: &mut Writer) -> CmdResult {
    tx.change(key, |list: &mut List, _| {
        let written = list.end(end).map_or(Ok(()), |item| element(item, out));
        list.drop_end(end);
        written
    })?
    .unwrap_or(Ok(()))?;
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

/// End and count after the keys of `LMPOP numkeys key ... LEFT|RIGHT [COUNT count]`; `numkeys` is
/// the argument that counts the keys.
pub(super) fn multi_options(args: &Args, numkeys: usize) -> Result<(End, usize), CmdError> {
    let keys = args.int(numkeys).ok().filter(|&n| n > 0);
    let keys = keys.ok_or(CmdError::Text("ERR numkeys should be greater than 0"))? as usize;
    let at = numkeys.saturating_add(keys).saturating_add(1);
    if at >= args.len() {
        return Err(CmdError::Syntax);
    }
    let end = end_of(args, at).ok_or(CmdError::Syntax)?;
    let count = match args.len() - at {
        1 => 1,
        3.. if args.is(at + 1, "count") => {
            let count = args.int(at + 2).ok().filter(|&n| n > 0);
            let count = count.ok_or(CmdError::Text("ERR count should be greater than 0"))?;
            if args.len() - at > 3 {
                return Err(CmdError::Syntax);
            }
            count as usize
        }
        _ => return Err(CmdError::Syntax),
    };
    Ok((end, count))
}

/// Serves LMPOP and BLMPOP: the key, and its elements.
pub(super) fn serve_many(
    tx: &mut Tx,
    args: &Args,
    numkeys: usize,
    at: usize,
    out: &mut Writer,
) -> CmdResult {
    let (end, count) = multi_options(args, numkeys)?;
    let key = args.get(at);
    let len = tx.peek::<List>(key)?.map_or(0, List::len);
    out.array(2)?;
    out.bulk(key)?;
    pop_many(tx, key, end, count.min(len), out)
}
