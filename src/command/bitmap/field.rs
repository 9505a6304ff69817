//! BITFIELD: integers of any width and position within a string.

use super::{BAD_OFFSET, bits};
use crate::command::keys;
use crate::keyspace::{Event, Str, Tx};
use crate::number;
use crate::resp::{Args, CmdError, CmdResult, Writer};

/// What happens when a number does not fit its field.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Overflow {
    Wrap,
    Saturate,
    Fail,
}

#[derive(Clone, Copy)]
struct Type {
    signed: bool,
    width: u32,
}

enum Action {
    Get,
    Set(i64),
    Add(i64),
}

struct Operation {
    action: Action,
    field: Type,
    offset: u64,
    overflow: Overflow,
}

/// What this BITFIELD does to its key. Redis: db.c bitfieldGetKeys.
pub(super) fn access(args: &Args) -> keys::Access {
    let only_reads = (2..args.len())
        .step_by(3)
        .all(|at| args.is(at, "get") && at + 2 < args.len());
    if only_reads {
        keys::RO | keys::ACCESS
    } else {
        keys::RW | keys::ACCESS | keys::UPDATE
    }
}

pub(super) fn bitfield(tx: &mut Tx, args: &Args, out: &mut Writer) -> CmdResult {
    run(tx, args, true, out)
}

pub(super) fn bitfield_ro(tx: &mut Tx, args: &Args, out: &mut Writer) -> CmdResult {
    run(tx, args, false, out)
}

fn parse_type(text: &[u8]) -> Option<Type> {
    let signed = match text.first()? {
        b'i' => true,
        b'u' => false,
        _ => return None,
    };
    let width = number::parse_i64(&text[1..])?;
    let max = if signed { 64 } else { 63 };
    (1..=max).contains(&width).then_some(Type {
        signed,
        width: width as u32,
    })
}

/// `n` bits, or `#n` fields of this width.
fn parse_offset(tx: &Tx, text: &[u8], field: Type) -> Result<u64, CmdError> {
    let (digits, unit) = match text {
        [b'#', rest @ ..] => (rest, u64::from(field.width)),
        _ => (text, 1),
    };
    let n = number::parse_i64(digits)
        .and_then(|n| u64::try_from(n).ok())
        .ok_or(BAD_OFFSET)?;
    let offset = n.checked_mul(unit).ok_or(BAD_OFFSET)?;
    // Redis: only where a field begins is checked; its end may lie a few bytes beyond the limit.
    if offset >> 3 >= tx.settings().string_max_bytes as u64 {
        return Err(BAD_OFFSET);
    }
    Ok(offset)
}

fn parse(tx: &Tx, args: &Args) -> Result<Vec<Operation>, CmdError> {
    let mut operations = Vec::new();
    let mut overflow = Overflow::Wrap;
    let mut at = 2;
    while at < args.len() {
        let more = args.len() - at - 1;
        if args.is(at, "overflow") && more >= 1 {
            overflow = parse_overflow(args, at + 1)?;
            at += 2;
            continue;
        }
        let takes_value = args.is(at, "set") || args.is(at, "incrby");
        if !(args.is(at, "get") && more >= 2 || takes_value && more >= 3) {
            return Err(CmdError::Syntax);
        }
        let field = parse_type(args.get(at + 1)).ok_or(CmdError::Text(
            "ERR Invalid bitfield type. Use something like i16 u8. Note that u64 is not supported \
             but i64 is.",
        ))?;
        let offset = parse_offset(tx, args.get(at + 2), field)?;
        let action = match takes_value {
            false => Action::Get,
            true if args.is(at, "set") => Action::Set(args.int(at + 3)?),
            true => Action::Add(args.int(at + 3)?),
        };
        operations.push(Operation {
            action,
            field,
            offset,
            overflow,
        });
        at += if takes_value { 4 } else { 3 };
    }
    Ok(operations)
}

fn parse_overflow(args: &Args, at: usize) -> Result<Overflow, CmdError> {
    if args.is(at, "wrap") {
        Ok(Overflow::Wrap)
    } else if args.is(at, "sat") {
        Ok(Overflow::Saturate)
    } else if args.is(at, "fail") {
        Ok(Overflow::Fail)
    } else {
        Err(CmdError::Text("ERR Invalid OVERFLOW type specified"))
    }
}

fn run(tx: &mut Tx, args: &Args, may_write: bool, out: &mut Writer) -> CmdResult {
    let key = args.get(1);
    let operations = parse(tx, args)?;
    let writes = operations
        .iter()
        .filter(|op| !matches!(op.action, Action::Get));
    let reaches = writes
        .map(|op| (op.offset + u64::from(op.field.width)).div_ceil(8))
        .max();
    if reaches.is_some() && !may_write {
        return Err(CmdError::Text(
            "ERR BITFIELD_RO only supports the GET subcommand",
        ));
    }
    let Some(reaches) = reaches else {
        let mut digits = itoa::Buffer::new();
        let value = tx.string(key)?;
        let bytes = value.map_or(&[][..], |value| value.bytes(&mut digits));
        out.array(operations.len())?;
        return operations.iter().try_for_each(|op| out.int(get(bytes, op)));
    };
    let old_len = tx.peek_string(key)?.map(Str::len);
    let grew = old_len.is_none_or(|len| len < reaches as usize);
    let mut changes = 0;
    out.array(operations.len())?;
    let bytes = tx.string_mut(key, reaches as usize)?;
    for op in &operations {
        let before = get(bytes, op);
        let reply = apply(bytes, op);
        match reply {
            Some(reply) => out.int(reply)?,
            None => out.null()?,
        }
        // Redis: bitfieldGeneric counts every field written to a string that has grown.
        let is_written = reply.is_some() && !matches!(op.action, Action::Get);
        changes += u64::from(is_written && (grew || get(bytes, op) != before));
    }
    if changes == 0 && !grew {
        tx.unchanged();
        return Ok(());
    }
    tx.wrote_many(changes, key, Event::SETBIT, |rec| {
        rec.cmd_of(args.len(), args.iter())
    });
    Ok(())
}

fn get(bytes: &[u8], op: &Operation) -> i64 {
    extend(bits::read(bytes, op.offset, op.field.width), op.field)
}

/// The number that a field's bits mean.
fn extend(value: u64, field: Type) -> i64 {
    let unused = 64 - field.width;
    if field.signed {
        (value << unused) as i64 >> unused
    } else {
        value as i64
    }
}

/// The reply; `None` if OVERFLOW FAIL forbids the change.
fn apply(bytes: &mut [u8], op: &Operation) -> Option<i64> {
    let old = get(bytes, op);
    let (wanted, reply_new) = match op.action {
        Action::Get => return Some(old),
        // A set value of an unsigned field is taken as its 64 bits.
        Action::Set(n) if op.field.signed => (i128::from(n), false),
        Action::Set(n) => (i128::from(n as u64), false),
        Action::Add(n) => (i128::from(old) + i128::from(n), true),
    };
    let (min, max) = if op.field.signed {
        let half = 1i128 << (op.field.width - 1);
        (-half, half - 1)
    } else {
        (0, (1i128 << op.field.width) - 1)
    };
    let new = match op.overflow {
        _ if (min..=max).contains(&wanted) => wanted as i64,
        Overflow::Fail => return None,
        Overflow::Saturate => wanted.clamp(min, max) as i64,
        Overflow::Wrap => {
            let mask = (1u128 << op.field.width) - 1;
            extend((wanted as u128 & mask) as u64, op.field)
        }
    };
    bits::write(bytes, op.offset, op.field.width, new as u64);
    Some(if reply_new { new } else { old })
}

#[cfg(test)]
mod tests {
    use crate::command::testing::Bench;

    #[test]
    fn overflow_wraps_saturates_or_fails() {
        Bench::new().replies(&[
            ("BITFIELD k SET u8 0 255 GET u8 0", "*2|:0|:255|"),
            ("BITFIELD k INCRBY u8 0 1", "*1|:0|"),
            ("BITFIELD k OVERFLOW SAT INCRBY u8 0 300", "*1|:255|"),
            (
                "BITFIELD k OVERFLOW FAIL INCRBY u8 0 1 GET u8 0",
                "*2|$-1|:255|",
            ),
            ("BITFIELD k SET i8 0 127 INCRBY i8 0 1", "*2|:-1|:-128|"),
            ("BITFIELD k OVERFLOW SAT INCRBY i8 0 -1", "*1|:-128|"),
            ("BITFIELD i SET i64 #1 -9223372036854775808", "*1|:0|"),
            (
                "BITFIELD i OVERFLOW SAT INCRBY i64 #1 -1",
                "*1|:-9223372036854775808|",
            ),
            ("BITFIELD i INCRBY i64 #1 -1", "*1|:9223372036854775807|"),
            (
                "BITFIELD u SET u63 1 9223372036854775807 INCRBY u63 1 1",
                "*2|:0|:0|",
            ),
        ]);
    }

    #[test]
    fn only_a_difference_is_a_change() {
        let syntax = "-ERR syntax error|";
        let read_only = "-ERR BITFIELD_RO only supports the GET subcommand|";
        let bad_offset = "-ERR bit offset is not an integer or out of range|";
        Bench::new().rows(&[
            ("BITFIELD k GET u8 0", "*1|:0|", "", ""),
            ("EXISTS k", ":0|", "", ""),
            (
                "BITFIELD k SET u8 0 1",
                "*1|:0|",
                "setbit k",
                "BITFIELD k SET u8 0 1",
            ),
            ("BITFIELD k SET u8 0 1", "*1|:1|", "", ""),
            (
                "BITFIELD k OVERFLOW FAIL INCRBY u8 0 255",
                "*1|$-1|",
                "",
                "",
            ),
            ("BITFIELD_RO k GET u8 0", "*1|:1|", "", ""),
            ("BITFIELD_RO k SET u8 0 1", read_only, "", ""),
            ("BITFIELD k GET u8 -1", bad_offset, "", ""),
            ("BITFIELD k GET u8", syntax, "", ""),
            (
                "BITFIELD k OVERFLOW MAYBE",
                "-ERR Invalid OVERFLOW type specified|",
                "",
                "",
            ),
        ]);
    }
}
