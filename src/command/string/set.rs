//! SET in all its forms, and the commands that read and replace at once.

use std::mem::discriminant;

use super::{digest, reply, wrote_as_asked};
use crate::command::expiry::{self, Unit};
use crate::command::keys;
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
    /// The same of the value's digest.
    DigestEquals(usize),
    DigestDiffers(usize),
}

impl Condition {
    /// The condition on the value that argument `at` names, its operand following.
    fn on_value(args: &Args, at: usize) -> Option<Condition> {
        if args.is(at, "ifeq") {
            Some(Condition::Equals(at + 1))
        } else if args.is(at, "ifne") {
            Some(Condition::Differs(at + 1))
        } else if args.is(at, "ifdeq") {
            Some(Condition::DigestEquals(at + 1))
        } else if args.is(at, "ifdne") {
            Some(Condition::DigestDiffers(at + 1))
        } else {
            None
        }
    }
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

/// What this SET does to its key. Redis: db.c setGetKeys.
pub(super) fn access(args: &Args) -> keys::Access {
    let reads = (3..args.len()).any(|at| args.is(at, "get"));
    if reads {
        keys::RW | keys::ACCESS | keys::UPDATE
    } else {
        keys::OW | keys::UPDATE
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
    if options.get {
        reply(tx.string(key)?, out)?;
    }
    if !holds(tx, args, options.condition)? {
        return if options.get { Ok(()) } else { out.null() };
    }
    store(tx, key, new_value(args, 2), options.ttl);
    if options.get { Ok(()) } else { out.ok() }
}

fn holds(tx: &mut Tx, args: &Args, condition: Condition) -> Result<bool, CmdError> {
    let key = args.get(1);
    Ok(match condition {
        Condition::Always => true,
        Condition::Missing => !tx.peek_exists(key),
        Condition::Exists => tx.peek_exists(key),
        Condition::Equals(at) => equals(tx, key, args.get(at))? == Some(true),
        Condition::Differs(at) => equals(tx, key, args.get(at))? != Some(true),
        Condition::DigestEquals(at) => digest::equals(tx, key, args.get(at))? == Some(true),
        Condition::DigestDiffers(at) => digest::equals(tx, key, args.get(at))? != Some(true),
    })
}

/// Whether the string at `key` is `expected`; `None` if there is none.
fn equals(tx: &mut Tx, key: &[u8], expected: &[u8]) -> Result<Option<bool>, CmdError> {
    let value = tx.peek_string(key)?;
    Ok(value.map(|value| value.bytes(&mut itoa::Buffer::new()) == expected))
}

// Redis: SET with a deadline in the past stores the key, which is gone at the next look; both
// events are sent all the same.
fn store(tx: &mut Tx, key: &[u8], value: NewStr, ttl: Ttl) {
    tx.set_string(key, value, ttl);
    tx.wrote_state(key, Event::SET);
    if let Ttl::At(_) = ttl {
        tx.occurred(key, Event::EXPIRE);
    }
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
        } else if let Some(on_value) = Condition::on_value(args, at)
            && more
            && (unconditional || discriminant(&condition) == discriminant(&on_value))
        {
            at += 1;
            condition = on_value;
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
    delete(tx, key);
    Ok(())
}

pub(super) fn getex(tx: &mut Tx, args: &Args, out: &mut Writer) -> CmdResult {
    let key = args.get(1);
    let now_ms = tx.now_ms();
    let change = parse_getex(args)?;
    // Redis: only for a key that exists is the expiry's number looked at.
    let Some(value) = tx.string(key)? else {
        return out.null();
    };
    let deadline = match change {
        Some(Some((unit, at))) => Some(expiry::deadline(args, at, unit, now_ms, "getex")?),
        Some(None) | None => None,
    };
    reply(Some(value), out)?;
    if let Some(at_ms) = deadline {
        expiry::set_or_delete(tx, key, at_ms);
    } else if change.is_some() && tx.expire_at(key).flatten().is_some() {
        tx.set_expiry(key, None);
        tx.wrote(key, Event::PERSIST, |rec| rec.cmd(&[b"PERSIST", key]));
    }
    Ok(())
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

pub(super) fn delifeq(tx: &mut Tx, args: &Args, out: &mut Writer) -> CmdResult {
    if equals(tx, args.get(1), args.get(2))? != Some(true) {
        return out.int(0);
    }
    delete(tx, args.get(1));
    out.int(1)
}

/// `DELEX key [IFEQ value | IFNE value | IFDEQ digest | IFDNE digest]`
// Redis: t_string.c delexCommand (8.4): the arity comes first, then the key, its type, the
// condition's name and at last the form of its operand.
pub(super) fn delex(tx: &mut Tx, args: &Args, out: &mut Writer) -> CmdResult {
    let key = args.get(1);
    if args.len() != 2 && args.len() != 4 {
        return Err(CmdError::arity("delex"));
    }
    if !tx.peek_exists(key) {
        return out.int(0);
    }
    if args.len() == 4 {
        if tx.peek_string(key).is_err() {
            return Err(CmdError::Text(
                "ERR Key should be of string type if conditions are specified",
            ));
        }
        let condition = Condition::on_value(args, 2).ok_or(CmdError::Text(
            "ERR Invalid condition. Use IFEQ, IFNE, IFDEQ, or IFDNE",
        ))?;
        if !holds(tx, args, condition)? {
            return out.int(0);
        }
    }
    delete(tx, key);
    out.int(1)
}

fn delete(tx: &mut Tx, key: &[u8]) {
    tx.remove(key);
    tx.wrote(key, Event::DEL, |rec| rec.cmd(&[b"DEL", key]));
}

#[cfg(test)]
mod tests {
    use crate::command::testing::Bench;

    #[test]
    fn set_stores_on_conditions() {
        Bench::new().rows(&[
            ("SET k v XX", "$-1|", "", ""),
            ("SET k v NX", "+OK|", "set k", "SET k v"),
            ("SET k w NX", "$-1|", "", ""),
            ("SET k w NX GET", "$1|v|", "", ""),
            ("SET k w XX GET", "$1|v|", "set k", "SET k w"),
            ("SET k x IFEQ v", "$-1|", "", ""),
            ("SET k x IFEQ w", "+OK|", "set k", "SET k x"),
            ("SET k y IFNE x", "$-1|", "", ""),
            ("SET none y IFEQ x", "$-1|", "", ""),
            ("SET new y IFNE x GET", "$-1|", "set new", "SET new y"),
            ("SET k v NX XX", "-ERR syntax error|", "", ""),
            ("SET k z IFEQ y IFEQ x", "+OK|", "set k", "SET k z"),
            ("SET k z IFEQ y IFNE y", "-ERR syntax error|", "", ""),
            ("SET k v IFEQ x NX", "-ERR syntax error|", "", ""),
            ("SET k v IFEQ", "-ERR syntax error|", "", ""),
        ]);
    }

    #[test]
    fn set_records_absolute_deadlines() {
        let invalid = "-ERR invalid expire time in 'set' command|";
        Bench::new().rows(&[
            (
                "SET k v EX 1",
                "+OK|",
                "set k, expire k",
                "SET k v PXAT 1001000",
            ),
            ("SET k w KEEPTTL", "+OK|", "set k", "SET k w PXAT 1001000"),
            (
                "SET k v PX 7",
                "+OK|",
                "set k, expire k",
                "SET k v PXAT 1000007",
            ),
            (
                "SET k v EXAT 2000",
                "+OK|",
                "set k, expire k",
                "SET k v PXAT 2000000",
            ),
            ("SET k v", "+OK|", "set k", "SET k v"),
            ("SET k v EX 0", invalid, "", ""),
            ("SET k v PX -1", invalid, "", ""),
            ("SET k v EX 9223372036854775807", invalid, "", ""),
            (
                "SET k v EX x",
                "-ERR value is not an integer or out of range|",
                "",
                "",
            ),
            ("SET k v EX 1 PX 1", "-ERR syntax error|", "", ""),
            ("SET k v EX 1 KEEPTTL", "-ERR syntax error|", "", ""),
            (
                "SETEX k 1 v",
                "+OK|",
                "set k, expire k",
                "SET k v PXAT 1001000",
            ),
            (
                "PSETEX k 1 v",
                "+OK|",
                "set k, expire k",
                "SET k v PXAT 1000001",
            ),
            (
                "SETEX k 0 v",
                "-ERR invalid expire time in 'setex' command|",
                "",
                "",
            ),
        ]);
    }

    #[test]
    fn reading_and_changing_at_once() {
        Bench::new().rows(&[
            ("SETNX k v", ":1|", "set k", "SET k v"),
            ("SETNX k w", ":0|", "", ""),
            ("GETSET k w", "$1|v|", "set k", "SET k w"),
            ("GETEX k", "$1|w|", "", ""),
            ("GETEX k PERSIST", "$1|w|", "", ""),
            ("GETEX k EX 1", "$1|w|", "expire k", "PEXPIREAT k 1001000"),
            ("GETEX k PERSIST", "$1|w|", "persist k", "PERSIST k"),
            ("GETEX k EX 1 PERSIST", "-ERR syntax error|", "", ""),
            (
                "GETEX k EX 0",
                "-ERR invalid expire time in 'getex' command|",
                "",
                "",
            ),
            ("GETEX none EX 0", "$-1|", "", ""),
            ("GETEX k PXAT 5", "$1|w|", "del k", "DEL k"),
            ("SETNX k v", ":1|", "set k", "SET k v"),
            ("GETDEL k", "$1|v|", "del k", "DEL k"),
            ("GETDEL k", "$-1|", "", ""),
        ]);
    }

    #[test]
    fn deletion_on_conditions() {
        Bench::new().rows(&[
            ("SET k v", "+OK|", "set k", "SET k v"),
            ("DELIFEQ k w", ":0|", "", ""),
            ("DELIFEQ none v", ":0|", "", ""),
            ("DELIFEQ k v", ":1|", "del k", "DEL k"),
            ("SET k v", "+OK|", "set k", "SET k v"),
            ("DELEX k IFEQ w", ":0|", "", ""),
            ("DELEX k IFNE v", ":0|", "", ""),
            ("DELEX none IFNE v", ":0|", "", ""),
            ("DELEX k IFNE w", ":1|", "del k", "DEL k"),
            ("SET k v", "+OK|", "set k", "SET k v"),
            ("DELEX k", ":1|", "del k", "DEL k"),
            ("SET k v", "+OK|", "set k", "SET k v"),
            (
                "DELEX k IFEQ",
                "-ERR wrong number of arguments for 'delex' command|",
                "",
                "",
            ),
            (
                "DELEX k WHEN v",
                "-ERR Invalid condition. Use IFEQ, IFNE, IFDEQ, or IFDNE|",
                "",
                "",
            ),
        ]);
    }
}
