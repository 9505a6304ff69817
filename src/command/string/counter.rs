//! Counters: integers and decimals that are added to.

use crate::command::decimal::{self, Number};
use crate::keyspace::{Event, NewStr, Str, Ttl, Tx};
use crate::number;
use crate::resp::{Args, CmdError, CmdResult, Writer};
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
    let new = tx.change_int(key, |old| {
        let old = match old {
            None => 0,
            Some(Str::Int(old)) => old,
            Some(text) => number::parse_i64(text.bytes(&mut itoa::Buffer::new()))
                .ok_or(CmdError::NotInteger)?,
        };
        old.checked_add(n).ok_or(CmdError::Overflow)
    })?;
    // As it was asked for, as far as that goes.
    let is_plain = args.len() == 2;
    tx.wrote(key, Event::INCRBY, |rec| match n {
        1 if is_plain => rec.cmd(&[b"INCR", key]),
        -1 if is_plain => rec.cmd(&[b"DECR", key]),
        _ => rec.cmd(&[b"INCRBY", key, itoa::Buffer::new().format(n).as_bytes()]),
    });
    out.int(new)
}

pub(super) fn incrbyfloat(tx: &mut Tx, args: &Args, out: &mut Writer) -> CmdResult {
    let key = args.get(1);
    let mut digits = itoa::Buffer::new();
    let old = match tx.peek_string(key)? {
        None => Number::Finite(LongDouble::ZERO),
        Some(text) => decimal::parse(text.bytes(&mut digits))?,
    };
    // Both numbers are read before their sum is judged: what is no number is told first.
    let sum = match (old, decimal::parse(args.get(2))?) {
        (Number::Finite(old), Number::Finite(n)) => old.add(&n),
        _ => None,
    };
    let sum = sum.ok_or(CmdError::NanOrInfinity)?.to_fixed();
    tx.set_string(key, NewStr::Text(sum.as_bytes()), Ttl::Keep);
    // The sum, not the request: floating point must not be added again elsewhere.
    tx.wrote(key, Event::INCRBYFLOAT, |rec| {
        rec.cmd(&[b"SET", key, sum.as_bytes(), b"KEEPTTL"]);
    });
    out.bulk(sum.as_bytes())
}

#[cfg(test)]
mod tests {
    use crate::command::testing::Bench;

    #[test]
    fn integers_are_added_up_to_their_limits() {
        let overflow = "-ERR increment or decrement would overflow|";
        let no_integer = "-ERR value is not an integer or out of range|";
        Bench::new().rows(&[
            ("INCR n", ":1|", "incrby n", "INCR n"),
            ("DECRBY n 3", ":-2|", "incrby n", "INCRBY n -3"),
            ("DECR n", ":-3|", "incrby n", "DECR n"),
            ("INCRBY n 1", ":-2|", "incrby n", "INCRBY n 1"),
            ("DECRBY n 1", ":-3|", "incrby n", "INCRBY n -1"),
            ("INCRBY n 1.5", no_integer, "", ""),
            (
                "DECRBY n -9223372036854775808",
                "-ERR decrement would overflow|",
                "",
                "",
            ),
            ("INCRBY n -9223372036854775806", overflow, "", ""),
            ("SET n 01", "+OK|", "set n", "SET n 01"),
            ("INCR n", no_integer, "", ""),
            (
                "SET n 9 PX 5",
                "+OK|",
                "set n, expire n",
                "SET n 9 PXAT 1000005",
            ),
            ("INCR n", ":10|", "incrby n", "INCR n"),
            ("PTTL n", ":5|", "", ""),
        ]);
    }

    #[test]
    fn decimals_are_added_as_long_doubles() {
        let no_float = "-ERR value is not a valid float|";
        let infinite = "-ERR increment would produce NaN or Infinity|";
        Bench::new().rows(&[
            (
                "INCRBYFLOAT f 5005.5",
                "$6|5005.5|",
                "incrbyfloat f",
                "SET f 5005.5 KEEPTTL",
            ),
            (
                "INCRBYFLOAT f 0x10",
                "$6|5021.5|",
                "incrbyfloat f",
                "SET f 5021.5 KEEPTTL",
            ),
            (
                "INCRBYFLOAT f -5021.5",
                "$1|0|",
                "incrbyfloat f",
                "SET f 0 KEEPTTL",
            ),
            ("INCRBYFLOAT f x", no_float, "", ""),
            ("INCRBYFLOAT f 1e-5000", no_float, "", ""),
            ("INCRBYFLOAT f -inf", infinite, "", ""),
            ("SET f inf", "+OK|", "set f", "SET f inf"),
            ("INCRBYFLOAT f x", no_float, "", ""),
            ("INCRBYFLOAT f 1", infinite, "", ""),
        ]);
    }
}
