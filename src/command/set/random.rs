//! Random members.

use super::element;
use crate::command::sample::{check_repeats, distinct, repeat};
use crate::keyspace::{Event, Tx};
use crate::resp::{Args, CmdError, CmdResult, Writer};
use crate::value::set::Set;

pub(super) fn spop(tx: &mut Tx, args: &Args, out: &mut Writer) -> CmdResult {
    let key = args.get(1);
    match args.len() {
        2 => pop_one(tx, key, out),
        3 => {
            let count = args.int(2).map_err(|_| CmdError::MustBePositive)?;
            let count = usize::try_from(count).map_err(|_| CmdError::MustBePositive)?;
            pop_many(tx, key, count, out)
        }
        _ => Err(CmdError::Syntax),
    }
}

fn pop_one(tx: &mut Tx, key: &[u8], out: &mut Writer) -> CmdResult {
    let popped = tx.change(key, |set: &mut Set, context| set.pop(context.rng))?;
    let Some(member) = popped else {
        return out.null();
    };
    tx.wrote(key, Event::SPOP, |rec| rec.cmd(&[b"SREM", key, &member]));
    out.bulk(&member)
}

fn pop_many(tx: &mut Tx, key: &[u8], count: usize, out: &mut Writer) -> CmdResult {
    let Some(set) = tx.peek::<Set>(key)? else {
        return out.set(0);
    };
    if count == 0 {
        return out.set(0);
    }
    let len = set.len();
    if count >= len {
        // Redis: spopWithCountCommand replies through SUNION, which reads the set.
        tx.count_read(key, true);
        let Some(set) = tx.peek::<Set>(key)? else {
            return out.set(0);
        };
        out.set(len)?;
        set.iter().try_for_each(|member| element(member, out))?;
        // Redis: spopWithCountCommand announces spop, then the deletion.
        tx.remove(key);
        tx.wrote_many(len as u64, key, Event::SPOP, |rec| rec.cmd(&[b"DEL", key]));
        tx.occurred(key, Event::DEL);
        return Ok(());
    }
    let popped = tx.change(key, |set: &mut Set, context| {
        (0..count).map(|_| set.pop(context.rng)).collect::<Vec<_>>()
    })?;
    let popped = popped.unwrap_or_default();
    tx.wrote_many(popped.len() as u64, key, Event::SPOP, |rec| {
        let members = popped.iter().map(Vec::as_slice);
        rec.cmd_of(popped.len() + 2, [b"SREM", key].into_iter().chain(members));
    });
    out.set(popped.len())?;
    popped.iter().try_for_each(|member| out.bulk(member))
}

pub(super) fn srandmember(tx: &mut Tx, args: &Args, out: &mut Writer) -> CmdResult {
    let key = args.get(1);
    if args.len() > 3 {
        return Err(CmdError::Syntax);
    }
    if args.len() == 2 {
        return match tx.read_random::<Set>(key)? {
            None => out.null(),
            Some((set, rng)) => element(set.random(rng), out),
        };
    }
    let count = args.count_or_repeats(2)?;
    let Some((set, rng)) = tx.read_random::<Set>(key)? else {
        return out.array(0);
    };
    check_repeats(count)?;
    if count < 0 {
        let count = count.unsigned_abs() as usize;
        out.array(count)?;
        return repeat(count, out, |out| element(set.random(rng), out));
    }
    let chosen = distinct(set.len(), count as usize, rng);
    out.array(chosen.len())?;
    chosen
        .into_iter()
        .try_for_each(|at| element(set.at(at), out))
}
