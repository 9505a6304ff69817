//! Single members: adding, removing, testing, moving.

use bytes::Bytes;

use crate::command::{Ask, Change, Decision, Gather, Peek};
use crate::keyspace::{Event, Tx};
use crate::resp::{Args, CmdError, CmdResult, Writer};
use crate::value::Kind;
use crate::value::set::Set;

pub(super) fn sadd(tx: &mut Tx, args: &Args, out: &mut Writer) -> CmdResult {
    let key = args.get(1);
    let added = tx.change_or_create(
        key,
        |limits| Set::new(args.get(2), limits),
        |set, context| {
            let members = args.iter().skip(2);
            members
                .filter(|member| set.add(member, context.limits))
                .count()
        },
    )?;
    match added {
        0 => tx.unchanged(),
        added => tx.wrote_many(added as u64, key, Event::SADD, |rec| {
            rec.cmd_of(
                args.len(),
                std::iter::once(&b"SADD"[..]).chain(args.iter().skip(1)),
            );
        }),
    }
    out.int(added as i64)
}

pub(super) fn srem(tx: &mut Tx, args: &Args, out: &mut Writer) -> CmdResult {
    let key = args.get(1);
    let removed = tx.change(key, |set: &mut Set, _| {
        args.iter()
            .skip(2)
            .filter(|member| set.remove(member))
            .count()
    })?;
    match removed.unwrap_or(0) {
        0 => tx.unchanged(),
        removed => tx.wrote_many(removed as u64, key, Event::SREM, |rec| {
            rec.cmd_of(
                args.len(),
                std::iter::once(&b"SREM"[..]).chain(args.iter().skip(1)),
            );
        }),
    }
    out.int(removed.unwrap_or(0) as i64)
}

pub(super) fn sismember(tx: &mut Tx, args: &Args, out: &mut Writer) -> CmdResult {
    let set = tx.read::<Set>(args.get(1))?;
    out.int(i64::from(set.is_some_and(|set| set.contains(args.get(2)))))
}

pub(super) fn smismember(tx: &mut Tx, args: &Args, out: &mut Writer) -> CmdResult {
    let set = tx.read::<Set>(args.get(1))?;
    out.array(args.len() - 2)?;
    for member in args.iter().skip(2) {
        out.int(i64::from(set.is_some_and(|set| set.contains(member))))?;
    }
    Ok(())
}

pub(super) static SMOVE: Gather = Gather {
    peek,
    decide,
    more: None,
};

/// Whether the set exists, and as a value whether it has the member.
fn peek(tx: &mut Tx, args: &Args, at: usize) -> Peek {
    match tx.peek::<Set>(args.get(at)) {
        Err(error) => Peek::Failed(error.into()),
        Ok(None) => Peek::Missing,
        Ok(Some(set)) if set.contains(args.get(3)) => Peek::String(Bytes::new()),
        Ok(Some(_)) => Peek::Exists { expire_at: None },
    }
}

fn decide(ask: &Ask, peeks: &[Peek]) -> Result<Decision, CmdError> {
    let nothing = |n| Decision::reply(ask, |out| out.int(n));
    if let Peek::Missing = peeks[0] {
        return nothing(0);
    }
    for peek in peeks {
        if let Peek::Failed(error) = peek {
            return Err(error.clone());
        }
    }
    let is_member = matches!(peeks[0], Peek::String(_));
    if ask.args.get(1) == ask.args.get(2) || !is_member {
        return nothing(i64::from(is_member));
    }
    let call = |key, run| Change::Call {
        db: ask.db,
        key,
        value: Bytes::new(),
        run,
    };
    let mut changes = vec![call(1, leave)];
    if !matches!(peeks[1], Peek::String(_)) {
        changes.push(call(2, arrive));
    }
    Ok(nothing(1)?.with(changes))
}

fn leave(tx: &mut Tx, args: &Args, at: usize, _value: &Bytes, _out: &mut Writer) -> CmdResult {
    let (key, member) = (args.get(at), args.get(3));
    tx.change(key, |set: &mut Set, _| set.remove(member))?;
    tx.wrote(key, Event::SREM, |rec| rec.cmd(&[b"SREM", key, member]));
    Ok(())
}

fn arrive(tx: &mut Tx, args: &Args, at: usize, _value: &Bytes, _out: &mut Writer) -> CmdResult {
    let (key, member) = (args.get(at), args.get(3));
    debug_assert!(tx.kind(key).is_none_or(|kind| kind == Kind::Set));
    tx.change_or_create(
        key,
        |limits| Set::new(member, limits),
        |set, context| set.add(member, context.limits),
    )?;
    tx.wrote(key, Event::SADD, |rec| rec.cmd(&[b"SADD", key, member]));
    Ok(())
}
