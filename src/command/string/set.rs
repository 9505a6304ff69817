//! SET in all its forms, and the commands that read and replace at once.

use bytes::Bytes;

use super::{reply, wrote_as_asked};
use crate::command::expiry::{self, Unit};
use crate::keyspace::{Event, NewStr, Ttl, Tx};
use crate::resp::{Args, CmdError, CmdResult, Writer};

/// Under which condition SET stores.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Condition {
    Always,
    Missing,
    Exists,
    /// The value equals, or does not equal, the argument at this index.
    Equals(usize),
    Differs(usize),
}

struct Options {
    condition: Condition,
    get: bool,
    ttl: Ttl,
}

/// The new value as it came: without a copy if it was large.
pub(super) fn new_value<'a>(args: &Args<'a>, at: usize) -> NewStr<'a> {
    match args.large(at) {
        Some(bytes) => NewStr::Shared(bytes.clone()),
        None => NewStr::Bytes(args.get(at)),
    }
}

pub(super) fn set(tx: &mut Tx, args: &Args, out: &mut Writer) -> CmdResult {
    if args.len() == 3 {
        // By far the most frequent form.
        tx.set_string(args.get(1), new_value(args, 2), Ttl::Clear);
        wrote_as_asked(tx, args, Event::SET);
        return out.ok();
    }
    let options = parse(args, tx.now_ms())?;
    let key = args.get(1);
    let mark = out.output().mark();
    if options.get {
        reply(tx.string(key)?, out)?;
    }
    if !holds(tx, args, options.condition)? {
        return if options.get { Ok(()) } else { out.null() };
    }
    store(tx, key, new_value(args, 2), options.ttl);
    if options.get {
        debug_assert!(out.output().mark() != mark);
        return Ok(());
    }
    out.ok()
}

fn holds(tx: &mut Tx, args: &Args, condition: Condition) -> Result<bool, CmdError> {
    let key = args.get(1);
    Ok(match condition {
        Condition::Always => true,
        Condition::Missing => !tx.peek_exists(key),
        Condition::Exists => tx.peek_exists(key),
        Condition::Equals(at) => equals(tx, key, args.get(at))?.unwrap_or(false),
        Condition::Differs(at) => !equals(tx, key, args.get(at))?.unwrap_or(false),
    })
}

/// Whether the string at `key` is `expected`; `None` if there is none.
fn equals(tx: &mut Tx, key: &[u8], expected: &[u8]) -> Result<Option<bool>, CmdError> {
    let value = tx.peek_string(key)?;
    Ok(value.map(|value| value.bytes(&mut itoa::Buffer::new()) == expected))
}

/// Stores a string with an expiry; one in the past deletes the key instead.
fn store(tx: &mut Tx, key: &[u8], value: NewStr, ttl: Ttl) {
    let Ttl::At(at_ms) = ttl else {
        tx.set_string(key, value, ttl);
        return tx.wrote_state(key, Event::SET);
    };
    tx.set_string(key, value, ttl);
    tx.wrote_state(key, Event::SET);
    tx.occurred(key, Event::EXPIRE);
    debug_assert!(at_ms > 0);
}

fn parse(args: &Args, now_ms: i64) -> Result<Options, CmdError> {
    let mut condition = Condition::Always;
    let mut get = false;
    let mut keep_ttl = false;
    let mut deadline: Option<(Unit, usize)> = None;
    let mut at = 3;
    while at < args.len() {
        let more = at + 1 < args.len();
        let unconditional = condition == Condition::Always;
        // Redis: t_string.c parseExtendedStringArgumentsOrReply takes an option twice, and its
        // second value, but not two options that exclude each other.
        if args.is(at, "nx") && (unconditional || condition == Condition::Missing) {
            condition = Condition::Missing;
        } else if args.is(at, "xx") && (unconditional || condition == Condition::Exists) {
            condition = Condition::Exists;
        } else if args.is(at, "ifeq") && unconditional && more {
            at += 1;
            condition = Condition::Equals(at);
        } else if args.is(at, "ifne") && unconditional && more {
            at += 1;
            condition = Condition::Differs(at);
        } else if args.is(at, "get") {
            get = true;
        } else if args.is(at, "keepttl") && deadline.is_none() {
            keep_ttl = true;
        } else if let Some(unit) = Unit::of(args, at)
            && more
            && !keep_ttl
            && deadline.is_none_or(|(before, _)| before == unit)
        {
            at += 1;
            deadline = Some((unit, at));
        } else {
            return Err(CmdError::Syntax);
        }
        at += 1;
    }
    let ttl = match deadline {
        Some((unit, at)) => Ttl::At(expiry::deadline(args, at, unit, now_ms, "set")?),
        None if keep_ttl => Ttl::Keep,
        None => Ttl::Clear,
    };
    Ok(Options {
        condition,
        get,
        ttl,
    })
}

pub(super) fn setnx(tx: &mut Tx, args: &Args, out: &mut Writer) -> CmdResult {
    if tx.peek_exists(args.get(1)) {
        return out.int(0);
    }
    tx.set_string(args.get(1), new_value(args, 2), Ttl::Clear);
    tx.wrote_state(args.get(1), Event::SET);
    out.int(1)
}

pub(super) fn setex(tx: &mut Tx, args: &Args, out: &mut Writer) -> CmdResult {
    set_expiring(tx, args, Unit::Seconds, "setex", out)
}

pub(super) fn psetex(tx: &mut Tx, args: &Args, out: &mut Writer) -> CmdResult {
    set_expiring(tx, args, Unit::Milliseconds, "psetex", out)
}

fn set_expiring(tx: &mut Tx, args: &Args, unit: Unit, name: &str, out: &mut Writer) -> CmdResult {
    let at_ms = expiry::deadline(args, 2, unit, tx.now_ms(), name)?;
    store(tx, args.get(1), new_value(args, 3), Ttl::At(at_ms));
    out.ok()
}

pub(super) fn getset(tx: &mut Tx, args: &Args, out: &mut Writer) -> CmdResult {
    reply(tx.string(args.get(1))?, out)?;
    tx.set_string(args.get(1), new_value(args, 2), Ttl::Clear);
    tx.wrote_state(args.get(1), Event::SET);
    Ok(())
}

pub(super) fn getdel(tx: &mut Tx, args: &Args, out: &mut Writer) -> CmdResult {
    let key = args.get(1);
    let Some(value) = tx.string(key)? else {
        return out.null();
    };
    reply(Some(value), out)?;
    tx.remove(key);
    tx.wrote(key, Event::DEL, |rec| rec.cmd(&[b"DEL", key]));
    Ok(())
}

pub(super) fn getex(tx: &mut Tx, args: &Args, out: &mut Writer) -> CmdResult {
    let key = args.get(1);
    let now_ms = tx.now_ms();
    let change = parse_getex(args)?;
    // The value is looked at before the expiry's number is: its type error comes first.
    let Some(value) = tx.string(key)?.map(|value| value.to_bytes()) else {
        if let Some(Some((unit, at))) = change {
            expiry::deadline(args, at, unit, now_ms, "getex")?;
        }
        return out.null();
    };
    match change {
        Some(None) if tx.expire_at(key).flatten().is_some() => {
            tx.set_expiry(key, None);
            tx.wrote(key, Event::PERSIST, |rec| rec.cmd(&[b"PERSIST", key]));
        }
        None | Some(None) => {}
        Some(Some((unit, at))) => {
            let at_ms = expiry::deadline(args, at, unit, now_ms, "getex")?;
            expiry::set_or_delete(tx, key, at_ms);
        }
    }
    reply_bytes(&value, out)
}

/// What GETEX changes: nothing, or the deadline, which may go or is at an argument.
type NewDeadline = Option<Option<(Unit, usize)>>;

fn parse_getex(args: &Args) -> Result<NewDeadline, CmdError> {
    let mut change: NewDeadline = None;
    let mut at = 2;
    while at < args.len() {
        if args.is(at, "persist") && !matches!(change, Some(Some(_))) {
            change = Some(None);
        } else if let Some(unit) = Unit::of(args, at)
            && at + 1 < args.len()
            && change.is_none_or(|before| before.is_some_and(|(before, _)| before == unit))
        {
            at += 1;
            change = Some(Some((unit, at)));
        } else {
            return Err(CmdError::Syntax);
        }
        at += 1;
    }
    Ok(change)
}

fn reply_bytes(value: &Bytes, out: &mut Writer) -> CmdResult {
    out.bulk_bytes(value)
}

pub(super) fn delifeq(tx: &mut Tx, args: &Args, out: &mut Writer) -> CmdResult {
    let key = args.get(1);
    if equals(tx, key, args.get(2))? != Some(true) {
        return out.int(0);
    }
    tx.remove(key);
    tx.wrote(key, Event::DEL, |rec| rec.cmd(&[b"DEL", key]));
    out.int(1)
}
