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
