//! Parts of strings.

use crate::command::string::reply;
use crate::keyspace::{Event, Str, Tx};
use crate::resp::{Args, CmdError, CmdResult, Writer};

use super::wrote_as_asked;

/// Whether a string may become this long.
pub fn check_length(tx: &Tx, len: Option<usize>) -> CmdResult {
    match len {
        Some(len) if len <= tx.settings().string_max_bytes => Ok(()),
        _ => Err(CmdError::StringTooLong),
    }
}

pub(super) fn append(tx: &mut Tx, args: &Args, out: &mut Writer) -> CmdResult {
    let (key, tail) = (args.get(1), args.get(2));
    let Some(old) = tx.peek_string(key)?.map(Str::len) else {
        tx.set_string(
            key,
            super::set::new_value(args, 2),
            crate::keyspace::Ttl::Clear,
        );
        wrote_as_asked(tx, args, Event::APPEND);
        return out.int(tail.len() as i64);
    };
    check_length(tx, old.checked_add(tail.len()))?;
    let len = old + tail.len();
    tx.string_mut(key, len)?[old..].copy_from_slice(tail);
    wrote_as_asked(tx, args, Event::APPEND);
    out.int(len as i64)
}

pub(super) fn strlen(tx: &mut Tx, args: &Args, out: &mut Writer) -> CmdResult {
    out.int(tx.string(args.get(1))?.map_or(0, Str::len) as i64)
}

pub(super) fn setrange(tx: &mut Tx, args: &Args, out: &mut Writer) -> CmdResult {
    let (key, offset, part) = (args.get(1), args.int(2)?, args.get(3));
    let offset =
        usize::try_from(offset).map_err(|_| CmdError::Text("ERR offset is out of range"))?;
    let old = tx.peek_string(key)?.map_or(0, Str::len);
    if part.is_empty() {
        return out.int(old as i64);
    }
    let end = offset.checked_add(part.len());
    check_length(tx, end)?;
    let end = offset + part.len();
    let bytes = tx.string_mut(key, end)?;
    bytes[offset..end].copy_from_slice(part);
    let len = bytes.len();
    wrote_as_asked(tx, args, Event::SETRANGE);
    out.int(len as i64)
}

pub(super) fn getrange(tx: &mut Tx, args: &Args, out: &mut Writer) -> CmdResult {
    let (start, end) = (args.int(2)?, args.int(3)?);
    let Some(value) = tx.string(args.get(1))? else {
        return out.bulk(b"");
    };
    let mut digits = itoa::Buffer::new();
    let bytes = value.bytes(&mut digits);
    match range(start, end, bytes.len()) {
        None => out.bulk(b""),
        Some(range) if range.len() == bytes.len() => reply(Some(value), out),
        Some(range) => out.bulk(&bytes[range]),
    }
}

/// The positions from `start` to `end`, both included and negative ones counted from the end.
fn range(start: i64, end: i64, len: usize) -> Option<std::ops::Range<usize>> {
    if start < 0 && end < 0 && start > end {
        return None;
    }
    let len = len as i64;
    let absolute = |n: i64| if n < 0 { (len + n).max(0) } else { n };
    let (start, end) = (absolute(start), absolute(end).min(len - 1));
    (start <= end && len > 0).then(|| start as usize..end as usize + 1)
}

#[cfg(test)]
mod tests {
    use crate::command::testing::Bench;

    const TOO_LONG: &str = "-ERR string exceeds maximum allowed size (proto-max-bulk-len)|";

    #[test]
    fn parts_are_written() {
        Bench::new().rows(&[
            ("APPEND k abc", ":3|", "append k", "APPEND k abc"),
            ("APPEND k de", ":5|", "append k", "APPEND k de"),
            ("SETRANGE k 6 x", ":7|", "setrange k", "SETRANGE k 6 x"),
            ("GET k", "$7|abcde\0x|", "", ""),
            ("SETRANGE none 6 \"\"", ":0|", "", ""),
            ("EXISTS none", ":0|", "", ""),
            ("SETRANGE k -1 x", "-ERR offset is out of range|", "", ""),
            ("SETRANGE k 536870912 x", TOO_LONG, "", ""),
            ("SETRANGE k 9223372036854775807 x", TOO_LONG, "", ""),
            ("SET n 10", "+OK|", "set n", "SET n 10"),
            ("SETRANGE n 1 x", ":2|", "setrange n", "SETRANGE n 1 x"),
            ("GET n", "$2|1x|", "", ""),
        ]);
    }

    #[test]
    fn parts_are_read() {
        Bench::new().replies(&[
            ("SET k hello", "+OK|"),
            ("GETRANGE k 0 -1", "$5|hello|"),
            ("SUBSTR k 1 2", "$2|el|"),
            ("GETRANGE k -3 100", "$3|llo|"),
            ("GETRANGE k -1 -2", "$0||"),
            ("GETRANGE k 5 9", "$0||"),
            ("GETRANGE k -9223372036854775808 0", "$1|h|"),
            ("GETRANGE none 0 -1", "$0||"),
            ("SET n 123", "+OK|"),
            ("GETRANGE n 1 1", "$1|2|"),
            ("STRLEN n", ":3|"),
            ("STRLEN none", ":0|"),
        ]);
    }
}
