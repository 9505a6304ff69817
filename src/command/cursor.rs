//! Cursors and options of SCAN, SSCAN, HSCAN and ZSCAN.

use super::glob;
use crate::resp::{Args, CmdError, CmdResult, Writer};
use crate::value::listpack::Item;

/// The cursor at argument `at`.
// Redis: db.c parseScanCursorOrReply reads it with strtoul, which negates what has a minus.
pub fn cursor(args: &Args, at: usize) -> Result<u64, CmdError> {
    let text = std::str::from_utf8(args.get(at)).ok();
    let cursor = text.and_then(|text| match text.strip_prefix('-') {
        Some(digits) => digits.parse::<u64>().ok().map(u64::wrapping_neg),
        // Nothing at all begins anew.
        None if text.is_empty() => Some(0),
        None => text.parse().ok(),
    });
    cursor.ok_or(CmdError::Text("ERR invalid cursor"))
}

#[derive(Default)]
pub struct Options<'a> {
    pub pattern: Option<&'a [u8]>,
    /// TYPE, which only SCAN takes.
    pub kind: Option<&'a [u8]>,
    pub count: u64,
    /// NOVALUES, which only HSCAN takes.
    pub no_values: bool,
}

impl Options<'_> {
    pub fn matches(&self, name: &[u8]) -> bool {
        self.pattern
            .is_none_or(|pattern| glob::matches(pattern, name))
    }
}

/// The options from argument `from` on.
pub fn options<'a>(args: &Args<'a>, from: usize) -> Result<Options<'a>, CmdError> {
    let mut options = Options {
        count: 10,
        ..Options::default()
    };
    let mut at = from;
    while at < args.len() {
        if args.is(at, "novalues") {
            options.no_values = true;
            at += 1;
            continue;
        }
        if at + 1 == args.len() {
            return Err(CmdError::Syntax);
        }
        if args.is(at, "count") {
            let count = args.int(at + 1)?;
            if count < 1 {
                return Err(CmdError::Syntax);
            }
            options.count = count as u64;
        } else if args.is(at, "match") {
            options.pattern = Some(args.get(at + 1)).filter(|&pattern| pattern != b"*");
        } else if args.is(at, "type") {
            options.kind = Some(args.get(at + 1));
        } else {
            return Err(CmdError::Syntax);
        }
        at += 2;
    }
    Ok(options)
}

/// Options of a scan of one collection.
pub fn element_options<'a>(args: &Args<'a>) -> Result<Options<'a>, CmdError> {
    let options = options(args, 3)?;
    if options.kind.is_some() {
        return Err(CmdError::Syntax);
    }
    Ok(options)
}

/// Elements that one call of a scan of a collection visits: `step` visits those at a cursor, counts
/// them, and returns the next cursor. Returns where the next call goes on.
pub fn walk(from: u64, count: u64, mut step: impl FnMut(u64, &mut u64) -> u64) -> u64 {
    let (mut cursor, mut visited) = (from, 0);
    // An almost empty table is not gone through at once. Redis: db.c scanGenericCommand.
    let mut buckets = count.saturating_mul(10);
    loop {
        cursor = step(cursor, &mut visited);
        buckets -= 1;
        if cursor == 0 || visited >= count || buckets == 0 {
            return cursor;
        }
    }
}

/// Replies with the next cursor and what was found.
pub fn reply(next: u64, found: &[Vec<u8>], out: &mut Writer) -> CmdResult {
    out.array(2)?;
    out.bulk(itoa::Buffer::new().format(next).as_bytes())?;
    out.array(found.len())?;
    found.iter().try_for_each(|element| out.bulk(element))
}

/// Writes an element of a collection.
pub fn element(item: Item, out: &mut Writer) -> CmdResult {
    match item {
        Item::Int(n) => out.bulk_int(n),
        Item::Str(bytes) => out.bulk(bytes),
    }
}
