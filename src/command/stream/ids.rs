//! Ids as clients write them, and entries as they are shown.

use crate::command::cursor::element;
use crate::number::parse_i64;
use crate::resp::{Args, CmdError, CmdResult, Writer};
use crate::value::stream::{Entry, EntryId};

pub const INVALID: CmdError =
    CmdError::Text("ERR Invalid stream ID specified as stream command argument");

/// A part of an id: all of 64 bits, in decimal.
// Redis: string2ull falls back to strtoull, to which blanks and a sign may come first, and which
// takes a number below zero from 2^64.
fn part(text: &[u8]) -> Option<u64> {
    if let Some(canonical) = parse_i64(text) {
        return u64::try_from(canonical).ok();
    }
    let blanks = |byte: &u8| byte.is_ascii_whitespace() || *byte == 0x0b;
    let from = text.iter().position(|byte| !blanks(byte))?;
    let (negative, digits) = match &text[from..] {
        [b'-', digits @ ..] => (true, digits),
        [b'+', digits @ ..] => (false, digits),
        digits => (false, digits),
    };
    let known = !digits.is_empty() && digits.iter().all(u8::is_ascii_digit);
    let digits = std::str::from_utf8(digits).ok().filter(|_| known)?;
    let value: u64 = digits.parse().ok()?;
    Some(if negative {
        value.wrapping_neg()
    } else {
        value
    })
}

/// `ms-seq`, or `ms` alone, whose sequence is then `missing`.
pub fn parse(text: &[u8], missing: u64) -> Option<EntryId> {
    match text.iter().position(|&byte| byte == b'-') {
        None => Some(EntryId {
            ms: part(text)?,
            seq: missing,
        }),
        Some(dash) => Some(EntryId {
            ms: part(&text[..dash])?,
            seq: part(&text[dash + 1..])?,
        }),
    }
}

/// An id, where `-` and `+` mean nothing.
pub fn strict(args: &Args, at: usize) -> Result<EntryId, CmdError> {
    parse(args.get(at), 0).ok_or(INVALID)
}

/// The start of a range, inclusive: `-`, `+`, an id, or `(id`.
pub fn start(args: &Args, at: usize) -> Result<EntryId, CmdError> {
    let (id, exclusive) = bound(args, at, 0)?;
    if !exclusive {
        return Ok(id);
    }
    let after = id.next();
    after.ok_or(CmdError::Text("ERR invalid start ID for the interval"))
}

/// The end of a range, inclusive.
pub fn end(args: &Args, at: usize) -> Result<EntryId, CmdError> {
    let (id, exclusive) = bound(args, at, u64::MAX)?;
    if !exclusive {
        return Ok(id);
    }
    let before = id.previous();
    before.ok_or(CmdError::Text("ERR invalid end ID for the interval"))
}

fn bound(args: &Args, at: usize, missing: u64) -> Result<(EntryId, bool), CmdError> {
    match args.get(at) {
        b"-" => Ok((EntryId::MIN, false)),
        b"+" => Ok((EntryId::MAX, false)),
        // Redis: an exclusive bound is a whole id, never - or +.
        [b'(', rest @ ..] => Ok((parse(rest, missing).ok_or(INVALID)?, true)),
        text => Ok((parse(text, missing).ok_or(INVALID)?, false)),
    }
}

pub fn write_id(id: EntryId, out: &mut Writer) -> CmdResult {
    out.bulk(id.to_string().as_bytes())
}

/// Writes an entry: its id, and its fields and values.
pub fn write_entry(entry: &Entry, out: &mut Writer) -> CmdResult {
    out.array(2)?;
    write_parts(entry, out)
}

/// Writes an entry with how long it has been pending, and how often it was given to somebody.
pub fn write_pending(entry: &Entry, idle_ms: i64, deliveries: u64, out: &mut Writer) -> CmdResult {
    out.array(4)?;
    write_parts(entry, out)?;
    out.int(idle_ms)?;
    out.int(deliveries as i64)
}

fn write_parts(entry: &Entry, out: &mut Writer) -> CmdResult {
    write_id(entry.id, out)?;
    out.array(2 * entry.len())?;
    entry.fields().try_for_each(|(field, value)| {
        element(field, out)?;
        element(value, out)
    })
}

/// COUNT of a reading command at argument `at`: negative ones mean 0.
pub fn count(args: &Args, at: usize) -> Result<u64, CmdError> {
    let count = parse_i64(args.get(at)).ok_or(CmdError::NotInteger)?;
    Ok(count.max(0) as u64)
}
