//! BITMAP: strings as arrays of bits, and of integers of any width.

mod bits;
mod field;
mod op;

use super::flags::*;
use super::keys::{self, KeySpec, Keys};
use super::{Command, Group, Run};
use crate::keyspace::{Event, Str, Tx};
use crate::resp::{Args, CmdError, CmdResult, Writer};

const fn row(name: &'static str, arity: i32, flags: Flags, keys: Keys, run: Run) -> Command {
    Command {
        name,
        arity,
        flags,
        acl: BITMAP,
        keys,
        run,
        group: Group::Bitmap,
        ..Command::DEFAULT
    }
}

const BITFIELD_KEY: Keys = &[KeySpec::range(
    keys::RW | keys::UPDATE | keys::ACCESS | keys::VARIABLE_FLAGS,
    1,
    0,
    1,
)
.noted("This command allows both access and modification of the key")
.varies(field::access)];
const SETBIT_KEY: Keys = keys::ONE_RW_ACCESS_UPDATE;
const OP_KEYS: Keys = &[
    KeySpec::range(keys::OW | keys::UPDATE, 2, 0, 1),
    KeySpec::range(keys::RO | keys::ACCESS, 3, -1, 1),
];

pub const COMMANDS: &[Command] = &[
    Command {
        since: "2.6.0",
        summary: "Counts the bits that are set.",
        complexity: "O(N) where N is the length of the part that is counted",
        syntax: "key [index=start end [index_unit=(BYTE|BIT) @7.0.0]]",
        history: &[("7.0.0", "Takes `BYTE` and `BIT`.")],
        ..row("bitcount", -2, READONLY, keys::ONE_RO, Run::Key(bitcount))
    },
    Command {
        since: "3.2.0",
        summary: "Reads and changes integers of any width within a string.",
        complexity: "O(1) per operation",
        syntax: "key [operation=(GET (encoding offset)|write=([OVERFLOW (WRAP|SAT|FAIL)] \
                 write_operation=(SET (encoding offset value:int)|INCRBY (encoding offset \
                 increment)))) ...]",
        ..row(
            "bitfield",
            -2,
            WRITE | DENYOOM,
            BITFIELD_KEY,
            Run::Key(field::bitfield),
        )
    },
    Command {
        since: "6.0.0",
        summary: "Reads integers of any width within a string.",
        complexity: "O(1) per operation",
        syntax: "key [GET... (encoding offset)]",
        ..row(
            "bitfield_ro",
            -2,
            READONLY | FAST,
            keys::ONE_RO,
            Run::Key(field::bitfield_ro),
        )
    },
    Command {
        since: "2.6.0",
        summary: "Combines strings bit by bit and stores the result.",
        complexity: "O(N) where N is the length of the longest string",
        syntax: "operation destkey key ...",
        ..row(
            "bitop",
            -4,
            WRITE | DENYOOM,
            OP_KEYS,
            Run::Gather(&op::BITOP),
        )
    },
    Command {
        since: "2.8.7",
        summary: "Finds the first bit that is set, or clear.",
        complexity: "O(N) where N is the length of the part that is searched",
        syntax: "key bit:int [index=start [end_index=end [index_unit=(BYTE|BIT) @7.0.0]]]",
        history: &[("7.0.0", "Takes `BYTE` and `BIT`.")],
        ..row("bitpos", -3, READONLY, keys::ONE_RO, Run::Key(bitpos))
    },
    Command {
        since: "2.2.0",
        summary: "Replies with one bit.",
        syntax: "key offset",
        ..row("getbit", 3, READONLY | FAST, keys::ONE_RO, Run::Key(getbit))
    },
    Command {
        since: "2.2.0",
        summary: "Sets or clears one bit and replies with the old one.",
        syntax: "key offset value:int",
        ..row("setbit", 4, WRITE | DENYOOM, SETBIT_KEY, Run::Key(setbit))
    },
];

const BAD_OFFSET: CmdError = CmdError::Text("ERR bit offset is not an integer or out of range");

/// The bit offset at argument `at`, within the longest string.
fn offset(tx: &Tx, args: &Args, at: usize) -> Result<u64, CmdError> {
    let offset = args
        .int(at)
        .ok()
        .and_then(|n| u64::try_from(n).ok())
        .ok_or(BAD_OFFSET)?;
    if offset >> 3 >= tx.settings().string_max_bytes as u64 {
        return Err(BAD_OFFSET);
    }
    Ok(offset)
}

fn setbit(tx: &mut Tx, args: &Args, out: &mut Writer) -> CmdResult {
    let key = args.get(1);
    let offset = offset(tx, args, 2)?;
    let bit = match args.int(3) {
        Ok(0) => 0u8,
        Ok(1) => 1,
        _ => return Err(CmdError::Text("ERR bit is not an integer or out of range")),
    };
    let (byte, shift) = ((offset >> 3) as usize, 7 - (offset & 7) as u32);
    // Redis: only a longer string or another bit is a change that anybody hears of.
    let grows = tx.peek_string(key)?.map_or(0, Str::len) <= byte;
    let bytes = tx.string_mut(key, byte + 1)?;
    let old = bytes[byte] >> shift & 1;
    if old == bit && !grows {
        tx.unchanged();
        return out.int(i64::from(old));
    }
    bytes[byte] = bytes[byte] & !(1 << shift) | bit << shift;
    tx.wrote(key, Event::SETBIT, |rec| {
        rec.cmd_of(args.len(), args.iter())
    });
    out.int(i64::from(old))
}

fn getbit(tx: &mut Tx, args: &Args, out: &mut Writer) -> CmdResult {
    let offset = offset(tx, args, 2)?;
    let mut digits = itoa::Buffer::new();
    let value = tx.string(args.get(1))?;
    let bytes = value.map_or(&[][..], |value| value.bytes(&mut digits));
    let byte = bytes.get((offset >> 3) as usize).copied().unwrap_or(0);
    out.int(i64::from(byte >> (7 - (offset & 7)) & 1))
}

/// The bits `start..=end` that a range of arguments means, negative ones counting from the end;
/// `None` if it is empty.
fn bit_range(start: i64, end: i64, len_bytes: usize, in_bits: bool) -> Option<(u64, u64)> {
    let total = if in_bits {
        len_bytes as i64 * 8
    } else {
        len_bytes as i64
    };
    let absolute = |n: i64| {
        if n < 0 {
            total.saturating_add(n).max(0)
        } else {
            n
        }
    };
    let (start, end) = (absolute(start), absolute(end).min(total - 1));
    if start > end || total == 0 {
        return None;
    }
    let (start, end) = (start as u64, end as u64);
    Some(if in_bits {
        (start, end)
    } else {
        (start * 8, end * 8 + 7)
    })
}

/// Whether argument `at` says BIT rather than BYTE.
fn is_bit_unit(args: &Args, at: usize) -> Result<bool, CmdError> {
    if args.is(at, "bit") {
        Ok(true)
    } else if args.is(at, "byte") {
        Ok(false)
    } else {
        Err(CmdError::Syntax)
    }
}

fn bitcount(tx: &mut Tx, args: &Args, out: &mut Writer) -> CmdResult {
    // Redis: the range is looked at only if there is a string.
    let mut digits = itoa::Buffer::new();
    let Some(value) = tx.string(args.get(1))? else {
        return out.int(0);
    };
    let range = match args.len() {
        2 => None,
        4 | 5 => {
            let (start, end) = (args.int(2)?, args.int(3)?);
            // Redis: said before the unit is looked at. BITPOS would find the first byte.
            if start < 0 && end < 0 && start > end {
                return out.int(0);
            }
            Some((start, end, args.len() == 5 && is_bit_unit(args, 4)?))
        }
        _ => return Err(CmdError::Syntax),
    };
    let bytes = value.bytes(&mut digits);
    let (start, end, in_bits) = range.unwrap_or((0, -1, false));
    let count = bit_range(start, end, bytes.len(), in_bits)
        .map_or(0, |(start, end)| bits::count(bytes, start, end));
    out.int(count as i64)
}

fn bitpos(tx: &mut Tx, args: &Args, out: &mut Writer) -> CmdResult {
    let wanted = match args.int(2)? {
        0 => false,
        1 => true,
        _ => return Err(CmdError::Text("ERR The bit argument must be 1 or 0.")),
    };
    let mut digits = itoa::Buffer::new();
    let Some(value) = tx.string(args.get(1))? else {
        return out.int(if wanted { -1 } else { 0 });
    };
    if args.len() > 6 {
        return Err(CmdError::Syntax);
    }
    let start = if args.len() > 3 { args.int(3)? } else { 0 };
    let in_bits = args.len() > 5 && is_bit_unit(args, 5)?;
    let end_given = args.len() > 4;
    let end = if end_given { args.int(4)? } else { -1 };
    let bytes = value.bytes(&mut digits);
    let Some((first, last)) = bit_range(start, end, bytes.len(), in_bits) else {
        return out.int(-1);
    };
    out.int(match bits::position(bytes, wanted, first, last) {
        Some(at) => at as i64,
        // A string is as if followed by zeros, unless the caller said where to stop.
        None if !wanted && !end_given => bytes.len() as i64 * 8,
        None => -1,
    })
}

#[cfg(test)]
mod tests {
    use crate::command::testing::Bench;

    #[test]
    fn only_a_difference_is_a_change() {
        let bad_offset = "-ERR bit offset is not an integer or out of range|";
        let bad_bit = "-ERR bit is not an integer or out of range|";
        Bench::new().rows(&[
            ("SETBIT k 7 1", ":0|", "setbit k", "SETBIT k 7 1"),
            ("SETBIT k 7 1", ":1|", "", ""),
            ("SETBIT k 3 0", ":0|", "", ""),
            ("SETBIT k 15 0", ":0|", "setbit k", "SETBIT k 15 0"),
            ("SETBIT new 0 0", ":0|", "setbit new", "SETBIT new 0 0"),
            ("GETBIT k 7", ":1|", "", ""),
            ("GETBIT k 999", ":0|", "", ""),
            ("SETBIT k 4294967296 1", bad_offset, "", ""),
            ("SETBIT k -1 2", bad_offset, "", ""),
            ("SETBIT k 0 2", bad_bit, "", ""),
        ]);
    }

    #[test]
    fn ranges_are_in_bytes_or_bits() {
        Bench::new().replies(&[
            ("SET k foobar", "+OK|"),
            ("BITCOUNT k", ":26|"),
            ("BITCOUNT k 1 1", ":6|"),
            ("BITCOUNT k 5 30 BIT", ":17|"),
            ("BITCOUNT k 0", "-ERR syntax error|"),
            ("BITCOUNT none 0", ":0|"),
            ("BITPOS k 1", ":1|"),
            ("BITPOS k 0 -1", ":40|"),
            ("BITPOS k 1 17 -1 BIT", ":17|"),
            ("BITPOS k 2", "-ERR The bit argument must be 1 or 0.|"),
            ("BITPOS none 0 x", ":0|"),
            ("BITPOS none 1", ":-1|"),
        ]);
    }
}
