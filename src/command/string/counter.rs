//! Counters: integers and decimals that are added to.

use crate::keyspace::{Event, NewStr, Str, Ttl, Tx};
use crate::resp::{Args, CmdError, CmdResult, Writer, number};
use crate::value::longdouble::LongDouble;

pub(super) fn incr(tx: &mut Tx, args: &Args, out: &mut Writer) -> CmdResult {
    add(tx, args, 1, out)
}

pub(super) fn decr(tx: &mut Tx, args: &Args, out: &mut Writer) -> CmdResult {
    add(tx, args, -1, out)
}

pub(super) fn incrby(tx: &mut Tx, args: &Args, out: &mut Writer) -> CmdResult {
    add(tx, args, args.int(2)?, out)
}

pub(super) fn decrby(tx: &mut Tx, args: &Args, out: &mut Writer) -> CmdResult {
    let n = args.int(2)?;
    let n = n
        .checked_neg()
        .ok_or(CmdError::Text("ERR decrement would overflow"))?;
    add(tx, args, n, out)
}

fn add(tx: &mut Tx, args: &Args, n: i64, out: &mut Writer) -> CmdResult {
    let key = args.get(1);
    let old = match tx.peek_string(key)? {
        None => 0,
        Some(Str::Int(old)) => old,
        Some(text) => {
            number::parse_i64(text.bytes(&mut itoa::Buffer::new())).ok_or(CmdError::NotInteger)?
        }
    };
    let new = old.checked_add(n).ok_or(CmdError::Overflow)?;
    tx.set_int(key, new);
    tx.wrote(key, Event::INCRBY, |rec| {
        rec.cmd(&[b"INCRBY", key, itoa::Buffer::new().format(n).as_bytes()]);
    });
    out.int(new)
}

pub(super) fn incrbyfloat(tx: &mut Tx, args: &Args, out: &mut Writer) -> CmdResult {
    let key = args.get(1);
    let mut digits = itoa::Buffer::new();
    let old = match tx.peek_string(key)? {
        None => LongDouble::ZERO,
        Some(text) => long_double(text.bytes(&mut digits))?,
    };
    let n = long_double(args.get(2))?;
    let sum = old.add(&n).ok_or(CmdError::NanOrInfinity)?.to_fixed();
    tx.set_string(key, NewStr::Text(sum.as_bytes()), Ttl::Keep);
    // The sum, not the request: floating point must not be added again elsewhere.
    tx.wrote(key, Event::INCRBYFLOAT, |rec| {
        rec.cmd(&[b"SET", key, sum.as_bytes(), b"KEEPTTL"]);
    });
    out.bulk(sum.as_bytes())
}

/// A number to add. Infinity is one, but no sum with it is.
// Differs: INCRBYFLOAT takes decimal numbers only, not the hexadecimal ones of C's strtold.
fn long_double(text: &[u8]) -> Result<LongDouble, CmdError> {
    LongDouble::parse(text).ok_or_else(|| {
        let unsigned = text.strip_prefix(b"-").or(text.strip_prefix(b"+"));
        let word = unsigned.unwrap_or(text);
        if word.eq_ignore_ascii_case(b"inf") || word.eq_ignore_ascii_case(b"infinity") {
            return CmdError::NanOrInfinity;
        }
        CmdError::NotFloat
    })
}
