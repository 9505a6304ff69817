//! HASH: fields with values, and deadlines of their own.

mod counter;
mod expire;
mod field;
mod random;
mod together;

use super::cursor::{self, element};
use super::flags::*;
use super::keys::{self, Keys};
use super::{Command, Group, Run, Standing};
use crate::keyspace::Tx;
use crate::resp::{Args, CmdResult, Writer};
use crate::value::listpack::Item;

const fn row(name: &'static str, arity: i32, flags: Flags, keys: Keys, run: Run) -> Command {
    Command {
        name,
        arity,
        flags,
        acl: HASH,
        keys,
        run,
        group: Group::Hash,
        ..Command::DEFAULT
    }
}

/// A command on deadlines of fields: Redis 7.4 and later.
const fn deadline_row(
    name: &'static str,
    arity: i32,
    flags: Flags,
    keys: Keys,
    run: Run,
) -> Command {
    Command {
        since: "7.4.0",
        complexity: PER_FIELD,
        ..row(name, arity, flags, keys, run)
    }
}

const PER_FIELD: &str = "O(N) where N is the number of fields given";
const ALL: &str = "O(N) where N is the number of fields";
const UNORDERED: &[&str] = &["nondeterministic_output_order"];
const RANDOM: &[&str] = &["nondeterministic_output"];

pub const COMMANDS: &[Command] = &[
    Command {
        since: "2.0.0",
        summary: "Removes fields.",
        complexity: PER_FIELD,
        syntax: "key field ...",
        history: &[("2.4.0", "Takes more than one `field`.")],
        ..row(
            "hdel",
            -3,
            WRITE | FAST,
            keys::ONE_RW_DELETE,
            Run::Key(field::hdel),
        )
    },
    Command {
        since: "2.0.0",
        summary: "Replies whether a field exists.",
        syntax: "key field",
        ..row(
            "hexists",
            3,
            READONLY | FAST,
            keys::ONE_RO_META,
            Run::Key(field::hexists),
        )
    },
    Command {
        summary: "Lets fields expire after some seconds.",
        syntax: "key seconds [condition=NX|XX|GT|LT] FIELDS fields=(numfields field ...)",
        ..deadline_row(
            "hexpire",
            -6,
            WRITE | DENYOOM | FAST,
            keys::ONE_RW_UPDATE,
            Run::Key(expire::hexpire),
        )
    },
    Command {
        summary: "Lets fields expire at a unix time in seconds.",
        syntax: "key unix-time-seconds [condition=NX|XX|GT|LT] FIELDS fields=(numfields field ...)",
        ..deadline_row(
            "hexpireat",
            -6,
            WRITE | DENYOOM | FAST,
            keys::ONE_RW_UPDATE,
            Run::Key(expire::hexpireat),
        )
    },
    Command {
        summary: "Replies with the unix times in seconds at which fields expire.",
        syntax: "key FIELDS fields=(numfields field ...)",
        ..deadline_row(
            "hexpiretime",
            -5,
            READONLY | FAST,
            keys::ONE_RO,
            Run::Key(expire::hexpiretime),
        )
    },
    Command {
        since: "2.0.0",
        summary: "Replies with the value of a field.",
        syntax: "key field",
        ..row(
            "hget",
            3,
            READONLY | FAST,
            keys::ONE_RO,
            Run::Key(field::hget),
        )
    },
    Command {
        since: "2.0.0",
        summary: "Replies with all fields and values.",
        complexity: ALL,
        tips: UNORDERED,
        syntax: "key",
        ..row("hgetall", 2, READONLY, keys::ONE_RO, Run::Key(hgetall))
    },
    Command {
        since: "8.0.0",
        summary: "Replies with the values of fields and removes them.",
        complexity: PER_FIELD,
        syntax: "key FIELDS fields=(numfields field ...)",
        ..row(
            "hgetdel",
            -5,
            WRITE | FAST,
            keys::ONE_RW_ACCESS_DELETE,
            Run::Key(together::hgetdel),
        )
    },
    Command {
        since: "8.0.0",
        summary: "Replies with the values of fields and sets or removes their deadlines.",
        complexity: PER_FIELD,
        syntax: "key [expiration=EX seconds|PX milliseconds|EXAT unix-time-seconds|PXAT \
                 unix-time-milliseconds|PERSIST] FIELDS fields=(numfields field ...)",
        ..row(
            "hgetex",
            -5,
            WRITE | FAST,
            keys::ONE_RW_ACCESS_UPDATE,
            Run::Key(together::hgetex),
        )
    },
    Command {
        since: "2.0.0",
        summary: "Adds to the integer in a field.",
        syntax: "key field increment",
        ..row(
            "hincrby",
            4,
            WRITE | DENYOOM | FAST,
            keys::ONE_RW_ACCESS_UPDATE,
            Run::Key(counter::hincrby),
        )
    },
    Command {
        since: "2.6.0",
        summary: "Adds to the number in a field.",
        syntax: "key field increment:double",
        ..row(
            "hincrbyfloat",
            4,
            WRITE | DENYOOM | FAST,
            keys::ONE_RW_ACCESS_UPDATE,
            Run::Key(counter::hincrbyfloat),
        )
    },
    Command {
        since: "2.0.0",
        summary: "Replies with all fields.",
        complexity: ALL,
        tips: UNORDERED,
        syntax: "key",
        ..row("hkeys", 2, READONLY, keys::ONE_RO, Run::Key(hkeys))
    },
    Command {
        since: "2.0.0",
        summary: "Replies with the number of fields.",
        syntax: "key",
        ..row(
            "hlen",
            2,
            READONLY | FAST,
            keys::ONE_RO_META,
            Run::Key(hlen),
        )
    },
    Command {
        since: "2.0.0",
        summary: "Replies with the values of fields.",
        complexity: PER_FIELD,
        syntax: "key field ...",
        ..row(
            "hmget",
            -3,
            READONLY | FAST,
            keys::ONE_RO,
            Run::Key(field::hmget),
        )
    },
    Command {
        since: "2.0.0",
        summary: "Sets fields.",
        complexity: PER_FIELD,
        syntax: "key (field value) ...",
        standing: Standing::Deprecated {
            since: "4.0.0",
            by: "`HSET` with multiple field-value pairs",
        },
        ..row(
            "hmset",
            -4,
            WRITE | DENYOOM | FAST,
            keys::ONE_RW_UPDATE,
            Run::Key(field::hmset),
        )
    },
    Command {
        summary: "Lets fields live for ever.",
        syntax: "key FIELDS fields=(numfields field ...)",
        ..deadline_row(
            "hpersist",
            -5,
            WRITE | FAST,
            keys::ONE_RW_UPDATE,
            Run::Key(expire::hpersist),
        )
    },
    Command {
        summary: "Lets fields expire after some milliseconds.",
        syntax: "key milliseconds [condition=NX|XX|GT|LT] FIELDS fields=(numfields field ...)",
        ..deadline_row(
            "hpexpire",
            -6,
            WRITE | DENYOOM | FAST,
            keys::ONE_RW_UPDATE,
            Run::Key(expire::hpexpire),
        )
    },
    Command {
        summary: "Lets fields expire at a unix time in milliseconds.",
        syntax: "key unix-time-milliseconds [condition=NX|XX|GT|LT] FIELDS fields=(numfields \
                 field ...)",
        ..deadline_row(
            "hpexpireat",
            -6,
            WRITE | DENYOOM | FAST,
            keys::ONE_RW_UPDATE,
            Run::Key(expire::hpexpireat),
        )
    },
    Command {
        summary: "Replies with the unix times in milliseconds at which fields expire.",
        syntax: "key FIELDS fields=(numfields field ...)",
        ..deadline_row(
            "hpexpiretime",
            -5,
            READONLY | FAST,
            keys::ONE_RO,
            Run::Key(expire::hpexpiretime),
        )
    },
    Command {
        summary: "Replies with the milliseconds fields have left.",
        tips: RANDOM,
        syntax: "key FIELDS fields=(numfields field ...)",
        ..deadline_row(
            "hpttl",
            -5,
            READONLY | FAST,
            keys::ONE_RO,
            Run::Key(expire::hpttl),
        )
    },
    Command {
        since: "6.2.0",
        summary: "Replies with random fields.",
        complexity: "O(N) where N is the number of fields asked for",
        tips: RANDOM,
        syntax: "key [options=count [WITHVALUES]]",
        ..row(
            "hrandfield",
            -2,
            READONLY,
            keys::ONE_RO,
            Run::Key(random::hrandfield),
        )
    },
    Command {
        since: "2.8.0",
        summary: "Goes through the fields of a hash in steps.",
        complexity: "O(1) for each call, O(N) for all fields",
        tips: RANDOM,
        syntax: "key cursor [MATCH pattern] [COUNT count] [NOVALUES @7.4.0]",
        history: &[("7.4.0", "Takes `NOVALUES`.")],
        ..row("hscan", -3, READONLY, keys::ONE_RO, Run::Key(hscan))
    },
    Command {
        since: "2.0.0",
        summary: "Sets fields.",
        complexity: PER_FIELD,
        syntax: "key (field value) ...",
        history: &[("4.0.0", "Takes more than one `field` with its `value`.")],
        ..row(
            "hset",
            -4,
            WRITE | DENYOOM | FAST,
            keys::ONE_RW_UPDATE,
            Run::Key(field::hset),
        )
    },
    Command {
        since: "8.0.0",
        summary: "Sets fields with a deadline, on a condition.",
        complexity: PER_FIELD,
        syntax: "key [condition=FNX|FXX] [expiration=EX seconds|PX milliseconds|EXAT \
                 unix-time-seconds|PXAT unix-time-milliseconds|KEEPTTL] FIELDS \
                 fields=(numfields data=(field value) ...)",
        ..row(
            "hsetex",
            -6,
            WRITE | DENYOOM | FAST,
            keys::ONE_RW_UPDATE,
            Run::Key(together::hsetex),
        )
    },
    Command {
        since: "2.0.0",
        summary: "Sets a field that does not exist.",
        syntax: "key field value",
        ..row(
            "hsetnx",
            4,
            WRITE | DENYOOM | FAST,
            keys::ONE_RW_INSERT,
            Run::Key(field::hsetnx),
        )
    },
    Command {
        since: "3.2.0",
        summary: "Replies with the length of a field's value.",
        syntax: "key field",
        ..row(
            "hstrlen",
            3,
            READONLY | FAST,
            keys::ONE_RO_META,
            Run::Key(field::hstrlen),
        )
    },
    Command {
        summary: "Replies with the seconds fields have left.",
        tips: RANDOM,
        syntax: "key FIELDS fields=(numfields field ...)",
        ..deadline_row(
            "httl",
            -5,
            READONLY | FAST,
            keys::ONE_RO,
            Run::Key(expire::httl),
        )
    },
    Command {
        since: "2.0.0",
        summary: "Replies with all values.",
        complexity: ALL,
        tips: UNORDERED,
        syntax: "key",
        ..row("hvals", 2, READONLY, keys::ONE_RO, Run::Key(hvals))
    },
];

fn hlen(tx: &mut Tx, args: &Args, out: &mut Writer) -> CmdResult {
    let len = tx.fields(args.get(1))?.map_or(0, |fields| fields.len());
    out.int(len as i64)
}

fn hgetall(tx: &mut Tx, args: &Args, out: &mut Writer) -> CmdResult {
    let Some(fields) = tx.fields(args.get(1))? else {
        return out.map(0);
    };
    out.map(fields.len())?;
    fields.iter().try_for_each(|(field, value)| {
        element(field, out)?;
        element(value, out)
    })
}

fn hkeys(tx: &mut Tx, args: &Args, out: &mut Writer) -> CmdResult {
    let Some(fields) = tx.fields(args.get(1))? else {
        return out.array(0);
    };
    out.array(fields.len())?;
    fields.iter().try_for_each(|(field, _)| element(field, out))
}

fn hvals(tx: &mut Tx, args: &Args, out: &mut Writer) -> CmdResult {
    let Some(fields) = tx.fields(args.get(1))? else {
        return out.array(0);
    };
    out.array(fields.len())?;
    fields.iter().try_for_each(|(_, value)| element(value, out))
}

fn hscan(tx: &mut Tx, args: &Args, out: &mut Writer) -> CmdResult {
    let from = cursor::cursor(args, 2)?;
    // Redis: options behind a key that is not there are not looked at.
    let Some(fields) = tx.fields(args.get(1))? else {
        return cursor::reply(0, &[], out);
    };
    let options = cursor::element_options(args)?;
    let mut found = Vec::new();
    let next = cursor::walk(from, options.count, |cursor, visited| {
        fields.scan(cursor, |field: Item, value: Item| {
            *visited += 1;
            let field = field.to_vec();
            if options.matches(&field) {
                found.push(field);
                found.extend((!options.no_values).then(|| value.to_vec()));
            }
        })
    });
    cursor::reply(next, &found, out)
}

#[cfg(test)]
mod tests;
