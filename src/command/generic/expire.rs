//! Expiry: setting, removing and reading deadlines.

use super::row;
use crate::command::expiry::{Unit, set_or_delete};
use crate::command::flags::*;
use crate::command::{Command, Run, keys};
use crate::keyspace::{Event, Tx};
use crate::resp::{Args, CmdError, CmdResult, Writer};

pub const COMMANDS: &[Command] = &[
    Command {
        summary: "Sets the expiry of a key in seconds from now.",
        syntax: "key seconds [condition=(NX|XX|GT|LT) @7.0.0]",
        history: &[("7.0.0", "Takes `NX`, `XX`, `GT` and `LT`.")],
        ..row(
            "expire",
            -3,
            WRITE | FAST,
            keys::ONE_RW_UPDATE,
            Run::Key(expire),
        )
    },
    Command {
        since: "1.2.0",
        summary: "Sets the expiry of a key as unix time in seconds.",
        syntax: "key unix-time-seconds [condition=(NX|XX|GT|LT) @7.0.0]",
        history: &[("7.0.0", "Takes `NX`, `XX`, `GT` and `LT`.")],
        ..row(
            "expireat",
            -3,
            WRITE | FAST,
            keys::ONE_RW_UPDATE,
            Run::Key(expireat),
        )
    },
    Command {
        since: "7.0.0",
        summary: "Replies with the expiry of a key as unix time in seconds.",
        syntax: "key",
        ..row(
            "expiretime",
            2,
            READONLY | FAST,
            keys::ONE_RO,
            Run::Key(expiretime),
        )
    },
    Command {
        since: "2.2.0",
        summary: "Removes the expiry of a key.",
        syntax: "key",
        ..row(
            "persist",
            2,
            WRITE | FAST,
            keys::ONE_RW_UPDATE,
            Run::Key(persist),
        )
    },
    Command {
        since: "2.6.0",
        summary: "Sets the expiry of a key in milliseconds from now.",
        syntax: "key milliseconds [condition=(NX|XX|GT|LT) @7.0.0]",
        history: &[("7.0.0", "Takes `NX`, `XX`, `GT` and `LT`.")],
        ..row(
            "pexpire",
            -3,
            WRITE | FAST,
            keys::ONE_RW_UPDATE,
            Run::Key(pexpire),
        )
    },
    Command {
        since: "2.6.0",
        summary: "Sets the expiry of a key as unix time in milliseconds.",
        syntax: "key unix-time-milliseconds [condition=(NX|XX|GT|LT) @7.0.0]",
        history: &[("7.0.0", "Takes `NX`, `XX`, `GT` and `LT`.")],
        ..row(
            "pexpireat",
            -3,
            WRITE | FAST,
            keys::ONE_RW_UPDATE,
            Run::Key(pexpireat),
        )
    },
    Command {
        since: "7.0.0",
        summary: "Replies with the expiry of a key as unix time in milliseconds.",
        syntax: "key",
        ..row(
            "pexpiretime",
            2,
            READONLY | FAST,
            keys::ONE_RO,
            Run::Key(pexpiretime),
        )
    },
    Command {
        since: "2.6.0",
        summary: "Replies with the milliseconds until a key expires.",
        tips: &["nondeterministic_output"],
        syntax: "key",
        history: &[("2.8.0", "Replies with -2 if there is no such key.")],
        ..row("pttl", 2, READONLY | FAST, keys::ONE_RO, Run::Key(pttl))
    },
    Command {
        summary: "Replies with the seconds until a key expires.",
        tips: &["nondeterministic_output"],
        syntax: "key",
        history: &[("2.8.0", "Replies with -2 if there is no such key.")],
        ..row("ttl", 2, READONLY | FAST, keys::ONE_RO, Run::Key(ttl))
    },
];

pub(super) fn expire(tx: &mut Tx, args: &Args, out: &mut Writer) -> CmdResult {
    set(tx, args, Unit::Seconds, "expire", out)
}

pub(super) fn pexpire(tx: &mut Tx, args: &Args, out: &mut Writer) -> CmdResult {
    set(tx, args, Unit::Milliseconds, "pexpire", out)
}

pub(super) fn expireat(tx: &mut Tx, args: &Args, out: &mut Writer) -> CmdResult {
    set(tx, args, Unit::UnixSeconds, "expireat", out)
}

pub(super) fn pexpireat(tx: &mut Tx, args: &Args, out: &mut Writer) -> CmdResult {
    set(tx, args, Unit::UnixMilliseconds, "pexpireat", out)
}

#[derive(Default)]
struct Conditions {
    missing: bool,
    present: bool,
    greater: bool,
    less: bool,
}

fn conditions(args: &Args) -> Result<Conditions, CmdError> {
    let mut found = Conditions::default();
    for at in 3..args.len() {
        if args.is(at, "nx") {
            found.missing = true;
        } else if args.is(at, "xx") {
            found.present = true;
        } else if args.is(at, "gt") {
            found.greater = true;
        } else if args.is(at, "lt") {
            found.less = true;
        } else {
            return Err(CmdError::quoting(&[
                b"ERR Unsupported option ",
                args.get(at),
            ]));
        }
    }
    if found.missing && (found.present || found.greater || found.less) {
        return Err(CmdError::Text(
            "ERR NX and XX, GT or LT options at the same time are not compatible",
        ));
    }
    if found.greater && found.less {
        return Err(CmdError::Text(
            "ERR GT and LT options at the same time are not compatible",
        ));
    }
    Ok(found)
}

fn set(tx: &mut Tx, args: &Args, unit: Unit, name: &str, out: &mut Writer) -> CmdResult {
    let key = args.get(1);
    let conditions = conditions(args)?;
    let n = args.int(2)?;
    let at_ms = unit
        .deadline(n, tx.now_ms())
        .ok_or_else(|| CmdError::invalid_expire(name))?;
    let Some(old) = tx.expire_at(key) else {
        return out.int(0);
    };
    // A key without a deadline counts as one that never comes.
    let refused = (conditions.missing && old.is_some())
        || (conditions.present && old.is_none())
        || (conditions.greater && old.is_none_or(|old| at_ms <= old))
        || (conditions.less && old.is_some_and(|old| at_ms >= old));
    if refused {
        return out.int(0);
    }
    set_or_delete(tx, key, at_ms);
    out.int(1)
}

pub(super) fn persist(tx: &mut Tx, args: &Args, out: &mut Writer) -> CmdResult {
    let key = args.get(1);
    if tx.expire_at(key).flatten().is_none() {
        return out.int(0);
    }
    tx.set_expiry(key, None);
    tx.wrote(key, Event::PERSIST, |rec| rec.cmd(&[b"PERSIST", key]));
    out.int(1)
}

pub(super) fn ttl(tx: &mut Tx, args: &Args, out: &mut Writer) -> CmdResult {
    let now_ms = tx.now_ms();
    read(tx, args, |at_ms| (at_ms - now_ms + 500) / 1000, out)
}

pub(super) fn pttl(tx: &mut Tx, args: &Args, out: &mut Writer) -> CmdResult {
    let now_ms = tx.now_ms();
    read(tx, args, |at_ms| at_ms - now_ms, out)
}

pub(super) fn expiretime(tx: &mut Tx, args: &Args, out: &mut Writer) -> CmdResult {
    let rounded = |at_ms: i64| at_ms / 1000 + (at_ms % 1000 + 500) / 1000;
    read(tx, args, rounded, out)
}

pub(super) fn pexpiretime(tx: &mut Tx, args: &Args, out: &mut Writer) -> CmdResult {
    read(tx, args, |at_ms| at_ms, out)
}

/// -2 without a key, -1 without a deadline, else what `form` makes of it.
fn read(tx: &mut Tx, args: &Args, form: impl Fn(i64) -> i64, out: &mut Writer) -> CmdResult {
    let found = tx.expire_at(args.get(1));
    tx.count_read(args.get(1), found.is_some());
    out.int(match found {
        None => -2,
        Some(None) => -1,
        Some(Some(at_ms)) => form(at_ms),
    })
}
