//! Moving an element from one list to another, on whatever shards they are.

use bytes::Bytes;

use super::end_of;
use super::pop::popped;
use super::push::pushed;
use crate::command::block::{self, Block, Serve};
use crate::command::{Ask, Change, Decision, Gather, Peek};
use crate::keyspace::Tx;
use crate::resp::{Args, CmdError, CmdResult, Writer};
use crate::value::Kind;
use crate::value::list::{End, List};

/// LMOVE and RPOPLPUSH, and BLMOVE and BRPOPLPUSH, which wait if there is nothing to move.
pub(super) static MOVE: Gather = Gather {
    peek,
    decide: decide_move,
    more: None,
};

/// `BLMOVE source destination LEFT|RIGHT LEFT|RIGHT timeout`
pub(super) static BLMOVE_WAITS: Block = Block {
    patience: |args| {
        ends(args)?;
        block::seconds(args, 5)
    },
    kind: Kind::List,
    serve: Serve::Whole,
    mark: block::no_mark,
    alarm_ms: None,
    first_key_only: true,
};
/// `BRPOPLPUSH source destination timeout`
pub(super) static BRPOPLPUSH_WAITS: Block = Block {
    patience: |args| block::seconds(args, 3),
    kind: Kind::List,
    serve: Serve::Whole,
    mark: block::no_mark,
    alarm_ms: None,
    first_key_only: true,
};

/// From which end to which; RPOPLPUSH and BRPOPLPUSH do not say. The number of arguments tells them
/// apart, since `rename-command` may have changed the name.
pub(super) fn ends(args: &Args) -> Result<(End, End), CmdError> {
    let has_ends = args.len() >= 5;
    if !has_ends {
        return Ok((End::Tail, End::Head));
    }
    let from = end_of(args, 3).ok_or(CmdError::Syntax)?;
    let to = end_of(args, 4).ok_or(CmdError::Syntax)?;
    Ok((from, to))
}

/// The element that would move; of the target only whether it is a list.
fn peek(tx: &mut Tx, args: &Args, at: usize) -> Peek {
    let key = args.get(at);
    if at == 2 {
        return match tx.kind(key) {
            None => Peek::Missing,
            Some(Kind::List) => Peek::Exists { expire_at: None },
            Some(_) => Peek::Failed(CmdError::WrongType),
        };
    }
    let Ok((from, _)) = ends(args) else {
        return Peek::Missing;
    };
    match tx.peek::<List>(key) {
        Err(error) => Peek::Failed(error.into()),
        Ok(list) => match list.and_then(|list| list.end(from)) {
            None => Peek::Missing,
            Some(item) => Peek::String(Bytes::from(item.to_vec())),
        },
    }
}

fn decide_move(ask: &Ask, peeks: &[Peek]) -> Result<Decision, CmdError> {
    ends(ask.args)?;
    let Some(value) = peeks[0].string()? else {
        let decision = Decision::reply(ask, |out| out.null())?;
        return Ok(Decision {
            waits: true,
            ..decision
        });
    };
    if let Peek::Failed(error) = &peeks[1] {
        return Err(error.clone());
    }
    let call = |key, run| Change::Call {
        db: ask.db,
        key,
        value: value.clone(),
        run,
    };
    // Redis: lmoveGenericCommand announces the push before the pop.
    let changes = vec![call(2, arrive), call(1, leave)];
    Ok(Decision::reply(ask, |out| out.bulk_bytes(value))?.with(changes))
}

fn arrive(tx: &mut Tx, args: &Args, at: usize, value: &Bytes, _out: &mut Writer) -> CmdResult {
    let (key, (from, end)) = (args.get(at), ends(args)?);
    let rotates = key == args.get(1);
    tx.change_or_create(key, List::new, |list, _| {
        // Where the element was, there is room for it now.
        if rotates {
            list.drop_end(from);
        }
        list.push(end, value, Some(value));
    })?;
    let (event, name) = pushed(end);
    tx.wrote(key, event, |rec| rec.cmd(&[name, key, value]));
    Ok(())
}

fn leave(tx: &mut Tx, args: &Args, at: usize, _value: &Bytes, _out: &mut Writer) -> CmdResult {
    let (key, (end, _)) = (args.get(at), ends(args)?);
    if key != args.get(2) {
        tx.change(key, |list: &mut List, _| list.drop_end(end))?;
    }
    let (event, name) = popped(end);
    // The move is one change. Redis: server.dirty++ once.
    tx.wrote_many(0, key, event, |rec| rec.cmd(&[name, key]));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resp::ArgBuf;

    #[test]
    fn a_renamed_move_keeps_its_ends() {
        let of = |line: &str| {
            let args: ArgBuf = line.split(' ').map(str::as_bytes).collect();
            ends(&args.as_args())
        };
        assert_eq!(of("mv a b left right"), Ok((End::Head, End::Tail)));
        assert_eq!(of("wait-mv a b left right 0"), Ok((End::Head, End::Tail)));
        assert_eq!(of("rotate a b"), Ok((End::Tail, End::Head)));
        assert_eq!(of("wait-rotate a b 0"), Ok((End::Tail, End::Head)));
    }
}
