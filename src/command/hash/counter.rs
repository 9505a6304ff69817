//! Numbers in fields.

use crate::command::decimal::{self, Number};
use crate::keyspace::{Event, Tx};
use crate::number::parse_i64;
use crate::resp::{Args, CmdError, CmdResult, Writer};
use crate::value::hash::Hash;
use crate::value::listpack::Item;

/// The bytes of a field; `None` if it does not exist.
fn current(tx: &mut Tx, key: &[u8], field: &[u8]) -> Result<Option<Vec<u8>>, CmdError> {
    let fields = tx.peek_fields(key)?;
    Ok(fields
        .and_then(|fields| fields.get(field))
        .map(Item::to_vec))
}

pub(super) fn hincrby(tx: &mut Tx, args: &Args, out: &mut Writer) -> CmdResult {
    let (key, field) = (args.get(1), args.get(2));
    let more = args.int(3)?;
    let old = match current(tx, key, field)? {
        None => 0,
        Some(text) => parse_i64(&text).ok_or(CmdError::Text("ERR hash value is not an integer"))?,
    };
    let sum = old.checked_add(more).ok_or(CmdError::Overflow)?;
    store(tx, key, field, sum.to_string().as_bytes())?;
    tx.wrote(key, Event::HINCRBY, |rec| {
        rec.cmd(&[b"HINCRBY", key, field, args.get(3)]);
    });
    out.int(sum)
}

pub(super) fn hincrbyfloat(tx: &mut Tx, args: &Args, out: &mut Writer) -> CmdResult {
    const INFINITE: CmdError = CmdError::Text("ERR value is NaN or Infinity");
    let (key, field) = (args.get(1), args.get(2));
    let more = decimal::parse(args.get(3))?;
    // Redis: hincrbyfloatCommand refuses an infinite increment before it looks at the field.
    let Number::Finite(more) = more else {
        return Err(INFINITE);
    };
    let sum = match current(tx, key, field)? {
        None => Some(more),
        Some(text) => {
            let old = decimal::parse(&text)
                .map_err(|_| CmdError::Text("ERR hash value is not a float"))?;
            match old {
                Number::Finite(old) => old.add(&more),
                Number::Infinite => None,
            }
        }
    };
    let sum = sum.ok_or(CmdError::NanOrInfinity)?.to_fixed();
    store(tx, key, field, sum.as_bytes())?;
    // The result, not the increment: other machines may add up otherwise.
    let fields = tx.peek_fields(key)?;
    let deadline = fields.and_then(|fields| fields.deadline(field));
    tx.wrote(key, Event::HINCRBYFLOAT, |rec| {
        rec.cmd(&[b"HSET", key, field, sum.as_bytes()]);
        if let Some(at_ms) = deadline {
            let at_ms = at_ms.to_string();
            rec.cmd(&[b"HPEXPIREAT", key, at_ms.as_bytes(), b"FIELDS", b"1", field]);
        }
    });
    out.bulk(sum.as_bytes())
}

fn store(tx: &mut Tx, key: &[u8], field: &[u8], value: &[u8]) -> CmdResult {
    tx.end_fields(key, std::iter::once(field));
    tx.change_or_create(
        key,
        |_| Hash::default(),
        |hash, context| {
            hash.set(field, value, context.limits);
        },
    )?;
    Ok(())
}
