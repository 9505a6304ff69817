//! Random fields.

use super::element;
use crate::command::sample::{check_repeats, distinct, repeat};
use crate::keyspace::Tx;
use crate::resp::{Args, CmdError, CmdResult, Writer};
use crate::value::listpack::Item;

/// `HRANDFIELD key [count [WITHVALUES]]`
pub(super) fn hrandfield(tx: &mut Tx, args: &Args, out: &mut Writer) -> CmdResult {
    let key = args.get(1);
    if args.len() == 2 {
        let chosen = tx.fields_random(key)?;
        return match chosen.and_then(|(fields, rng)| fields.random(rng)) {
            None => out.null(),
            Some((field, _)) => element(field, out),
        };
    }
    let count = args.count_or_repeats(2)?;
    let with_values = match args.len() {
        3 => false,
        4 if args.is(3, "withvalues") => true,
        _ => return Err(CmdError::Syntax),
    };
    // Redis: what comes in pairs is counted twice.
    if with_values && !(-(i64::MAX / 2)..=i64::MAX / 2).contains(&count) {
        return Err(CmdError::OutOfRange);
    }
    let Some((fields, rng)) = tx.fields_random(key)? else {
        return out.array(0);
    };
    check_repeats(count)?;
    let chosen = if count < 0 {
        None
    } else {
        Some(fields.pick(&distinct(fields.len(), count as usize, rng)))
    };
    let len = chosen
        .as_ref()
        .map_or(count.unsigned_abs() as usize, Vec::len);
    // RESP3 nests pairs. Redis: hrandfieldReplyWithListpack.
    let nested = with_values && out.resp3();
    out.array(if with_values && !nested { 2 * len } else { len })?;
    let pair = |(field, value): (Item, Item), out: &mut Writer| {
        if nested {
            out.array(2)?;
        }
        element(field, out)?;
        if with_values {
            element(value, out)
        } else {
            Ok(())
        }
    };
    match chosen {
        Some(chosen) => chosen.into_iter().try_for_each(|chosen| pair(chosen, out)),
        None => repeat(len, out, |out| match fields.random(rng) {
            Some(chosen) => pair(chosen, out),
            None => Ok(()),
        }),
    }
}
