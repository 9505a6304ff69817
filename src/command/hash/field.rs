//! Single fields: setting, reading, removing.

use super::element;
use crate::keyspace::{Event, Tx};
use crate::resp::{Args, CmdError, CmdResult, Writer};
use crate::value::hash::Hash;
use crate::value::listpack::Item;

pub(super) fn hset(tx: &mut Tx, args: &Args, out: &mut Writer) -> CmdResult {
    let added = set_pairs(tx, args, "hset")?;
    out.int(added as i64)
}

pub(super) fn hmset(tx: &mut Tx, args: &Args, out: &mut Writer) -> CmdResult {
    set_pairs(tx, args, "hmset")?;
    out.ok()
}

/// Sets the pairs from argument 2 on; returns how many fields are new.
fn set_pairs(tx: &mut Tx, args: &Args, name: &str) -> Result<usize, CmdError> {
    if !args.len().is_multiple_of(2) {
        return Err(CmdError::arity(name));
    }
    let key = args.get(1);
    tx.end_fields(key, args.iter().skip(2).step_by(2));
    let added = tx.change_or_create(
        key,
        |_| Hash::default(),
        |hash, context| {
            let set = |&at: &usize| {
                hash.clear_deadline(args.get(at));
                hash.set(args.get(at), args.get(at + 1), context.limits)
            };
            (2..args.len()).step_by(2).filter(set).count()
        },
    )?;
    let changes = (args.len() - 2) / 2;
    tx.wrote_many(changes as u64, key, Event::HSET, |rec| {
        rec.cmd_of(
            args.len(),
            std::iter::once(&b"HSET"[..]).chain(args.iter().skip(1)),
        );
    });
    Ok(added)
}

pub(super) fn hsetnx(tx: &mut Tx, args: &Args, out: &mut Writer) -> CmdResult {
    let (key, field, value) = (args.get(1), args.get(2), args.get(3));
    let exists = tx
        .peek_fields(key)?
        .is_some_and(|fields| fields.contains(field));
    if exists {
        return out.int(0);
    }
    tx.end_fields(key, std::iter::once(field));
    tx.change_or_create(
        key,
        |_| Hash::default(),
        |hash, context| hash.set(field, value, context.limits),
    )?;
    tx.wrote(key, Event::HSET, |rec| {
        rec.cmd(&[b"HSET", key, field, value])
    });
    out.int(1)
}

pub(super) fn hget(tx: &mut Tx, args: &Args, out: &mut Writer) -> CmdResult {
    let fields = tx.fields(args.get(1))?;
    match fields.and_then(|fields| fields.get(args.get(2))) {
        Some(value) => element(value, out),
        None => out.null(),
    }
}

pub(super) fn hmget(tx: &mut Tx, args: &Args, out: &mut Writer) -> CmdResult {
    let fields = tx.fields(args.get(1))?;
    out.array(args.len() - 2)?;
    args.iter()
        .skip(2)
        .try_for_each(|field| match fields.and_then(|fields| fields.get(field)) {
            Some(value) => element(value, out),
            None => out.null(),
        })
}

pub(super) fn hexists(tx: &mut Tx, args: &Args, out: &mut Writer) -> CmdResult {
    let fields = tx.fields(args.get(1))?;
    out.int(i64::from(
        fields.is_some_and(|fields| fields.contains(args.get(2))),
    ))
}

pub(super) fn hstrlen(tx: &mut Tx, args: &Args, out: &mut Writer) -> CmdResult {
    let fields = tx.fields(args.get(1))?;
    let value = fields.and_then(|fields| fields.get(args.get(2)));
    out.int(value.map_or(0, Item::len) as i64)
}

pub(super) fn hdel(tx: &mut Tx, args: &Args, out: &mut Writer) -> CmdResult {
    let key = args.get(1);
    let removed = tx.change(key, |hash: &mut Hash, context| {
        args.iter()
            .skip(2)
            .filter(|field| !hash.has_ended(field, context.ended_ms) && hash.remove(field))
            .count()
    })?;
    match removed.unwrap_or(0) {
        0 => tx.unchanged(),
        removed => tx.wrote_many(removed as u64, key, Event::HDEL, |rec| {
            rec.cmd_of(
                args.len(),
                std::iter::once(&b"HDEL"[..]).chain(args.iter().skip(1)),
            );
        }),
    }
    out.int(removed.unwrap_or(0) as i64)
}
