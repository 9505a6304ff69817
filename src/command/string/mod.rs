//! STRING: values that are bytes, numbers, counters.

mod counter;
mod digest;
mod lcs;
mod multi;
mod range;
mod set;

use super::flags::*;
use super::keys::{self, KeySpec, Keys};
use super::{Command, Group, Run, Standing};
use crate::keyspace::{Event, Str, Tx};
use crate::resp::{Args, CmdResult, Writer};

const fn row(name: &'static str, arity: i32, flags: Flags, keys: Keys, run: Run) -> Command {
    Command {
        name,
        arity,
        flags,
        acl: STRING,
        keys,
        run,
        group: Group::String,
        ..Command::DEFAULT
    }
}

const SET_KEYS: Keys = &[KeySpec::range(
    keys::RW | keys::ACCESS | keys::UPDATE | keys::VARIABLE_FLAGS,
    1,
    0,
    1,
)
.noted("RW and ACCESS due to the optional `GET` argument")
.varies(set::access)];
const GETEX_KEYS: Keys = &[
    KeySpec::range(keys::RW | keys::ACCESS | keys::UPDATE, 1, 0, 1)
        .noted("RW and UPDATE because it changes the TTL"),
];
const DELEX_KEY: Keys = &[KeySpec::range(
    keys::RW | keys::DELETE | keys::VARIABLE_FLAGS,
    1,
    0,
    1,
)];
const PAIRS: Keys = &[KeySpec::range(keys::OW | keys::UPDATE, 1, -1, 2)];
const NEW_PAIRS: Keys = &[KeySpec::range(keys::OW | keys::INSERT, 1, -1, 2)];
const COUNTED_PAIRS: Keys = &[KeySpec::count(keys::OW | keys::UPDATE, 1, 0, 1, 2)];
const TWO: Keys = &[KeySpec::range(keys::RO | keys::ACCESS, 1, 1, 1)];

pub const COMMANDS: &[Command] = &[
    Command {
        since: "2.0.0",
        summary: "Appends to a string, creating the key if need be.",
        syntax: "key value",
        ..row(
            "append",
            3,
            WRITE | DENYOOM | FAST,
            keys::ONE_RW_INSERT,
            Run::Key(range::append),
        )
    },
    Command {
        summary: "Subtracts one from the integer at a key.",
        syntax: "key",
        ..row(
            "decr",
            2,
            WRITE | DENYOOM | FAST,
            keys::ONE_RW_ACCESS_UPDATE,
            Run::Key(counter::decr),
        )
    },
    Command {
        summary: "Subtracts from the integer at a key.",
        syntax: "key decrement:int",
        ..row(
            "decrby",
            3,
            WRITE | DENYOOM | FAST,
            keys::ONE_RW_ACCESS_UPDATE,
            Run::Key(counter::decrby),
        )
    },
    Command {
        since: "8.4.0",
        summary: "Deletes a key, on a condition on its string.",
        complexity: "O(1), or O(N) where N is the length of the string if digests are compared",
        syntax: "key [condition=IFEQ ifeq-value|IFNE ifne-value|IFDEQ ifdeq-digest|IFDNE \
                 ifdne-digest]",
        ..row("delex", -2, WRITE | FAST, DELEX_KEY, Run::Key(set::delex))
    },
    Command {
        since: "8.1.0",
        summary: "Deletes a key if its value is the one given.",
        syntax: "key value",
        ..row(
            "delifeq",
            3,
            WRITE | FAST,
            keys::ONE_RW_DELETE,
            Run::Key(set::delifeq),
        )
    },
    Command {
        since: "8.4.0",
        summary: "Replies with the XXH3 hash of the string at a key.",
        complexity: "O(N) where N is the length of the string",
        syntax: "key",
        ..row(
            "digest",
            2,
            READONLY | FAST,
            keys::ONE_RO,
            Run::Key(digest::digest),
        )
    },
    Command {
        summary: "Replies with the string at a key.",
        syntax: "key",
        ..row("get", 2, READONLY | FAST, keys::ONE_RO, Run::Key(get))
    },
    Command {
        since: "6.2.0",
        summary: "Replies with the string at a key and deletes the key.",
        syntax: "key",
        ..row(
            "getdel",
            2,
            WRITE | FAST,
            keys::ONE_RW_ACCESS_DELETE,
            Run::Key(set::getdel),
        )
    },
    Command {
        since: "6.2.0",
        summary: "Replies with the string at a key and changes its expiry.",
        syntax: "key [expiration=EX seconds|PX milliseconds|EXAT unix-time-seconds|PXAT \
                 unix-time-milliseconds|PERSIST]",
        ..row("getex", -2, WRITE | FAST, GETEX_KEYS, Run::Key(set::getex))
    },
    Command {
        since: "2.4.0",
        summary: "Replies with part of the string at a key.",
        complexity: "O(N) where N is the length of the reply",
        syntax: "key start end",
        ..row(
            "getrange",
            4,
            READONLY,
            keys::ONE_RO,
            Run::Key(range::getrange),
        )
    },
    Command {
        summary: "Replies with the old string at a key and stores a new one.",
        syntax: "key value",
        standing: Standing::Deprecated {
            since: "6.2.0",
            by: "`SET` with the `!GET` argument",
        },
        ..row(
            "getset",
            3,
            WRITE | DENYOOM | FAST,
            keys::ONE_RW_ACCESS_UPDATE,
            Run::Key(set::getset),
        )
    },
    Command {
        summary: "Adds one to the integer at a key.",
        syntax: "key",
        ..row(
            "incr",
            2,
            WRITE | DENYOOM | FAST,
            keys::ONE_RW_ACCESS_UPDATE,
            Run::Key(counter::incr),
        )
    },
    Command {
        summary: "Adds to the integer at a key.",
        syntax: "key increment",
        ..row(
            "incrby",
            3,
            WRITE | DENYOOM | FAST,
            keys::ONE_RW_ACCESS_UPDATE,
            Run::Key(counter::incrby),
        )
    },
    Command {
        since: "2.6.0",
        summary: "Adds to the decimal number at a key.",
        syntax: "key increment:double",
        ..row(
            "incrbyfloat",
            3,
            WRITE | DENYOOM | FAST,
            keys::ONE_RW_ACCESS_UPDATE,
            Run::Key(counter::incrbyfloat),
        )
    },
    Command {
        since: "7.0.0",
        summary: "Finds the longest common subsequence of two strings.",
        complexity: "O(N*M) where N and M are the lengths of the strings",
        syntax: "key1:key key2:key#0 [LEN] [IDX] [MINMATCHLEN len] [WITHMATCHLEN]",
        ..row("lcs", -3, READONLY, TWO, Run::Gather(&lcs::LCS))
    },
    Command {
        summary: "Replies with the strings at several keys.",
        complexity: "O(N) where N is the number of keys",
        tips: &["request_policy:multi_shard"],
        syntax: "key ...",
        ..row(
            "mget",
            -2,
            READONLY | FAST,
            keys::ALL_RO,
            Run::Each(multi::mget),
        )
    },
    Command {
        since: "1.0.1",
        summary: "Stores strings at several keys.",
        complexity: "O(N) where N is the number of keys",
        tips: &[
            "request_policy:multi_shard",
            "response_policy:all_succeeded",
        ],
        syntax: "(key value) ...",
        ..row("mset", -3, WRITE | DENYOOM, PAIRS, Run::Every(multi::mset))
    },
    Command {
        since: "8.4.0",
        summary: "Stores strings at several keys under a condition and with one expiry.",
        complexity: "O(N) where N is the number of keys",
        tips: &[
            "request_policy:multi_shard",
            "response_policy:all_succeeded",
        ],
        syntax: "numkeys data=(key value) ... [condition=NX|XX] [expiration=EX seconds|PX \
                 milliseconds|EXAT unix-time-seconds|PXAT unix-time-milliseconds|KEEPTTL]",
        ..row(
            "msetex",
            -4,
            WRITE | DENYOOM | MOVABLEKEYS,
            COUNTED_PAIRS,
            Run::Gather(&multi::MSETEX),
        )
    },
    Command {
        since: "1.0.1",
        summary: "Stores strings at several keys if none of them exists.",
        complexity: "O(N) where N is the number of keys",
        tips: &["request_policy:multi_shard", "response_policy:agg_min"],
        syntax: "(key value) ...",
        ..row(
            "msetnx",
            -3,
            WRITE | DENYOOM,
            NEW_PAIRS,
            Run::Gather(&multi::MSETNX),
        )
    },
    Command {
        since: "2.6.0",
        summary: "Stores a string that expires after so many milliseconds.",
        syntax: "key milliseconds value",
        ..row(
            "psetex",
            4,
            WRITE | DENYOOM,
            keys::ONE_OW_UPDATE,
            Run::Key(set::psetex),
        )
    },
    Command {
        summary: "Stores a string.",
        syntax: "key value [condition=(NX|XX|IFEQ ifeq-value @8.4.0|IFNE ifne-value @8.4.0|IFDEQ \
                 ifdeq-digest @8.4.0|IFDNE ifdne-digest @8.4.0) @2.6.12] [GET @6.2.0] \
                 [expiration=EX seconds @2.6.12|PX milliseconds @2.6.12|EXAT unix-time-seconds \
                 @6.2.0|PXAT unix-time-milliseconds @6.2.0|KEEPTTL @6.0.0]",
        history: &[
            ("2.6.12", "Takes `EX`, `PX`, `NX` and `XX`."),
            ("6.0.0", "Takes `KEEPTTL`."),
            ("6.2.0", "Takes `GET`, `EXAT` and `PXAT`."),
            ("7.0.0", "Takes `GET` together with `NX`."),
            ("8.4.0", "Takes `IFEQ`, `IFNE`, `IFDEQ` and `IFDNE`."),
        ],
        ..row("set", -3, WRITE | DENYOOM, SET_KEYS, Run::Key(set::set))
    },
    Command {
        since: "2.0.0",
        summary: "Stores a string that expires after so many seconds.",
        syntax: "key seconds value",
        ..row(
            "setex",
            4,
            WRITE | DENYOOM,
            keys::ONE_OW_UPDATE,
            Run::Key(set::setex),
        )
    },
    Command {
        summary: "Stores a string if the key does not exist.",
        syntax: "key value",
        ..row(
            "setnx",
            3,
            WRITE | DENYOOM | FAST,
            keys::ONE_OW_INSERT,
            Run::Key(set::setnx),
        )
    },
    Command {
        since: "2.2.0",
        summary: "Overwrites part of the string at a key.",
        complexity: "O(N) where N is the length of the new part",
        syntax: "key offset value",
        ..row(
            "setrange",
            4,
            WRITE | DENYOOM,
            keys::ONE_RW_UPDATE,
            Run::Key(range::setrange),
        )
    },
    Command {
        since: "2.2.0",
        summary: "Replies with the length of the string at a key.",
        syntax: "key",
        ..row(
            "strlen",
            2,
            READONLY | FAST,
            keys::ONE_RO_META,
            Run::Key(range::strlen),
        )
    },
    Command {
        summary: "Replies with part of the string at a key (an older name of GETRANGE).",
        complexity: "O(N) where N is the length of the reply",
        syntax: "key start end",
        standing: Standing::Deprecated {
            since: "2.0.0",
            by: "`GETRANGE`",
        },
        ..row(
            "substr",
            4,
            READONLY,
            keys::ONE_RO,
            Run::Key(range::getrange),
        )
    },
];

/// Writes a string, sharing it if it is large.
pub(super) fn reply(value: Option<Str>, out: &mut Writer) -> CmdResult {
    match value {
        None => out.null(),
        Some(Str::Int(n)) => out.bulk_int(n),
        Some(Str::Bytes(bytes)) => out.bulk(bytes),
        Some(Str::Shared(bytes)) => out.bulk_bytes(bytes),
    }
}

fn get(tx: &mut Tx, args: &Args, out: &mut Writer) -> CmdResult {
    reply(tx.string(args.get(1))?, out)
}

/// Accounts for a change that the request itself describes.
pub(super) fn wrote_as_asked(tx: &mut Tx, args: &Args, event: Event) {
    tx.wrote(args.get(1), event, |rec| {
        rec.cmd_of(args.len(), args.iter())
    });
}
