//! GENERIC: what can be done to a key whatever it holds, and to all keys together.

mod dump;
pub(super) mod expire;
mod keyspace;
mod migrate;
mod moving;
mod object;
mod saved;
mod scan;
mod sort;

pub use keyspace::empties_everything;
pub use sort::pattern_option;

use super::flags::*;
use super::keys::{self, KeySpec, Keys};
use super::{Command, Group, Run, Standing};
use crate::keyspace::{Event, Tx};
use crate::resp::{Args, CmdError, CmdResult, Writer};
pub use sort::ordered_for_script;

const fn row(name: &'static str, arity: i32, flags: Flags, keys: Keys, run: Run) -> Command {
    Command {
        name,
        arity,
        flags,
        acl: KEYSPACE,
        keys,
        run,
        ..Command::DEFAULT
    }
}

const fn server(name: &'static str, arity: i32, flags: Flags, run: Run) -> Command {
    Command {
        group: Group::Server,
        ..row(name, arity, flags, keys::NONE, run)
    }
}

const FROM_TO: Keys = &[
    KeySpec::range(keys::RW | keys::ACCESS | keys::DELETE, 1, 0, 1),
    KeySpec::range(keys::OW | keys::UPDATE, 2, 0, 1),
];
const FROM_TO_NEW: Keys = &[
    KeySpec::range(keys::RW | keys::ACCESS | keys::DELETE, 1, 0, 1),
    KeySpec::range(keys::OW | keys::INSERT, 2, 0, 1),
];
const COPIED: Keys = &[
    KeySpec::range(keys::RO | keys::ACCESS, 1, 0, 1),
    KeySpec::range(keys::OW | keys::UPDATE, 2, 0, 1),
];
const OBJECT_KEY: Keys = &[KeySpec::range(keys::RO, 2, 0, 1)];

const SORT_KEYS: Keys = &[
    KeySpec::range(keys::RO | keys::ACCESS, 1, 0, 1),
    SORT_MORE,
    KeySpec::found(keys::OW | keys::UPDATE, sort::store_at).noted(
        "For the optional STORE keyword. It is marked 'unknown' because the keyword can appear \
         anywhere in the argument array",
    ),
];
const SORT_RO_KEYS: Keys = &[KeySpec::range(keys::RO | keys::ACCESS, 1, 0, 1), SORT_MORE];
const SORT_MORE: KeySpec = KeySpec::told(keys::RO | keys::ACCESS, "", 0).noted(
    "For the optional BY/GET keyword. It is marked 'unknown' because the key names derive from the \
     content of the key we sort",
);
const SORTING: &str = "O(N+M*log(M)) where N is the number of elements and M that of those shown";

const RESTORE_SYNTAX: &str = "key ttl serialized-value [REPLACE @3.0.0] [ABSTTL @5.0.0] [IDLETIME \
                              seconds @5.0.0] [FREQ frequency @5.0.0]";
const RESTORE_HISTORY: &[(&str, &str)] = &[
    ("3.0.0", "Takes `REPLACE`."),
    ("5.0.0", "Takes `ABSTTL`."),
    ("5.0.0", "Takes `IDLETIME` and `FREQ`."),
];

pub use dump::{object, stored, wrote_whole};
pub use object::described;
pub use saved::Saved;

pub const COMMANDS: &[Command] = &[
    Command {
        since: "2.6.0",
        summary: "Replies with the value at a key, as bytes for RESTORE.",
        complexity: "O(N) where N is the size of the value",
        tips: &["nondeterministic_output"],
        syntax: "key",
        ..row("dump", 2, READONLY, keys::ONE_RO, Run::Key(dump::dump))
    },
    Command {
        since: "2.6.0",
        acl: KEYSPACE | DANGEROUS,
        summary: "Stores a value as DUMP gave it.",
        complexity: "O(N*log(N)) where N is the size of the value",
        syntax: RESTORE_SYNTAX,
        history: RESTORE_HISTORY,
        ..row(
            "restore",
            -4,
            WRITE | DENYOOM,
            keys::ONE_OW_UPDATE,
            Run::Key(dump::restore),
        )
    },
    Command {
        since: "3.0.0",
        acl: KEYSPACE | DANGEROUS,
        summary: "RESTORE for keys that are migrating.",
        group: Group::Server,
        complexity: "O(N*log(N)) where N is the size of the value",
        syntax: RESTORE_SYNTAX,
        history: RESTORE_HISTORY,
        standing: Standing::Internal,
        ..row(
            "restore-asking",
            -4,
            WRITE | DENYOOM | ASKING,
            keys::ONE_OW_UPDATE,
            Run::Key(dump::restore),
        )
    },
    Command {
        since: "6.2.0",
        summary: "Copies a key to another.",
        complexity: "O(N) where N is the size of the value",
        syntax: "source destination [DB destination-db] [REPLACE]",
        ..row(
            "copy",
            -3,
            WRITE | DENYOOM,
            COPIED,
            Run::Gather(&moving::COPY),
        )
    },
    Command {
        summary: "Replies with the number of keys.",
        tips: &["request_policy:all_shards", "response_policy:agg_sum"],
        ..server("dbsize", 1, READONLY | FAST, keyspace::DBSIZE)
    },
    Command {
        summary: "Deletes keys.",
        complexity: "O(N) where N is the number of keys",
        tips: &["request_policy:multi_shard", "response_policy:agg_sum"],
        syntax: "key ...",
        ..row("del", -2, WRITE, keys::ALL_RM, Run::Sum(delete))
    },
    Command {
        summary: "Counts the given keys that exist.",
        complexity: "O(N) where N is the number of keys",
        tips: &["request_policy:multi_shard", "response_policy:agg_sum"],
        syntax: "key ...",
        history: &[("3.0.3", "Takes more than one `key`.")],
        ..row(
            "exists",
            -2,
            READONLY | FAST,
            keys::ALL_RO_META,
            Run::Sum(exists),
        )
    },
    Command {
        summary: "Deletes all keys of all databases.",
        complexity: "O(N) where N is the number of keys",
        tips: &["request_policy:all_shards", "response_policy:all_succeeded"],
        acl: KEYSPACE | DANGEROUS,
        syntax: "[async=ASYNC @4.0.0|SYNC @6.2.0]",
        history: &[("4.0.0", "Takes `ASYNC`."), ("6.2.0", "Takes `SYNC`.")],
        ..server("flushall", -1, WRITE, keyspace::FLUSHALL)
    },
    Command {
        summary: "Deletes all keys of the database.",
        complexity: "O(N) where N is the number of keys",
        tips: &["request_policy:all_shards", "response_policy:all_succeeded"],
        acl: KEYSPACE | DANGEROUS,
        syntax: "[async=ASYNC @4.0.0|SYNC @6.2.0]",
        history: &[("4.0.0", "Takes `ASYNC`."), ("6.2.0", "Takes `SYNC`.")],
        ..server("flushdb", -1, WRITE, keyspace::FLUSHDB)
    },
    Command {
        summary: "Lists the keys that match a pattern.",
        complexity: "O(N) where N is the number of keys",
        tips: &["request_policy:all_shards", "nondeterministic_output_order"],
        acl: KEYSPACE | DANGEROUS,
        syntax: "pattern",
        ..row("keys", 2, READONLY, keys::NONE, scan::KEYS)
    },
    Command {
        since: "2.6.0",
        summary: "Moves keys to another server.",
        complexity: "That of DUMP and DEL here and of RESTORE there, and O(N) for the bytes of the values",
        syntax: "host port key_or_empty_string=(key|empty_string='') destination-db timeout:int \
                 [COPY @3.0.0] [REPLACE @3.0.0] [authentication=[AUTH password @4.0.7]|[AUTH2 \
                 (username password) @6.0.0]] [KEYS key ... @3.0.6]",
        history: &[
            ("3.0.0", "Takes `COPY` and `REPLACE`."),
            ("3.0.6", "Takes `KEYS`."),
            ("4.0.7", "Takes `AUTH`."),
            ("6.0.0", "Takes `AUTH2`."),
        ],
        tips: &["nondeterministic_output"],
        acl: KEYSPACE | DANGEROUS,
        ..row(
            "migrate",
            -6,
            WRITE | MOVABLEKEYS,
            migrate::KEYS,
            Run::Errand(&migrate::MIGRATE),
        )
    },
    Command {
        summary: "Moves a key to another database.",
        syntax: "key db:int",
        ..row(
            "move",
            3,
            WRITE | FAST,
            keys::ONE_RW_ACCESS_UPDATE,
            Run::Key(moving::move_key),
        )
    },
    Command {
        since: "2.2.3",
        summary: "Groups commands about how values are kept.",
        complexity: "Depends on subcommand.",
        sub: OBJECT,
        ..row("object", -2, 0, keys::NONE, Run::Container)
    },
    Command {
        summary: "Replies with a key chosen at random.",
        tips: &["request_policy:all_shards", "nondeterministic_output"],
        ..row("randomkey", 1, READONLY, keys::NONE, scan::RANDOMKEY)
    },
    Command {
        summary: "Renames a key, replacing the one that has the new name.",
        syntax: "key newkey",
        ..row("rename", 3, WRITE, FROM_TO, Run::Gather(&moving::RENAME))
    },
    Command {
        summary: "Renames a key if no key has the new name.",
        syntax: "key newkey",
        history: &[("3.2.0", "Both names may be the same.")],
        ..row(
            "renamenx",
            3,
            WRITE | FAST,
            FROM_TO_NEW,
            Run::Gather(&moving::RENAMENX),
        )
    },
    Command {
        since: "2.8.0",
        summary: "Goes through the keys, some per call.",
        complexity: "O(1) per call, O(N) for all N keys",
        tips: &["nondeterministic_output", "request_policy:special"],
        syntax: "cursor [MATCH pattern] [COUNT count] [TYPE type @6.0.0]",
        history: &[("6.0.0", "Takes `TYPE`.")],
        ..row("scan", -2, READONLY, keys::NONE, scan::SCAN)
    },
    Command {
        acl: LIST | SET | SORTEDSET | DANGEROUS,
        summary: "Sorts the elements of a list, set or sorted set; may store them.",
        complexity: SORTING,
        syntax: "key [BY pattern#1] [LIMIT (offset count)] [GET... pattern#1] [order=ASC|DESC] \
                 [sorting=ALPHA] [STORE destination#2]",
        ..row(
            "sort",
            -2,
            WRITE | DENYOOM | MOVABLEKEYS,
            SORT_KEYS,
            Run::Gather(&sort::SORT),
        )
    },
    Command {
        since: "7.0.0",
        acl: LIST | SET | SORTEDSET | DANGEROUS,
        summary: "Sorts the elements of a list, set or sorted set.",
        complexity: SORTING,
        syntax: "key [BY pattern#1] [LIMIT (offset count)] [GET... pattern#1] [order=ASC|DESC] \
                 [sorting=ALPHA]",
        ..row(
            "sort_ro",
            -2,
            READONLY | MOVABLEKEYS,
            SORT_RO_KEYS,
            Run::Gather(&sort::SORT_RO),
        )
    },
    Command {
        since: "4.0.0",
        summary: "Exchanges the contents of two databases.",
        acl: KEYSPACE | DANGEROUS,
        syntax: "index1:int index2:int",
        ..server("swapdb", 3, WRITE | FAST, keyspace::SWAPDB)
    },
    Command {
        since: "3.2.1",
        summary: "Notes keys as used and counts those that exist.",
        complexity: "O(N) where N is the number of keys",
        tips: &["request_policy:multi_shard", "response_policy:agg_sum"],
        syntax: "key ...",
        ..row(
            "touch",
            -2,
            READONLY | FAST,
            keys::ALL_RO_META,
            Run::Sum(touch),
        )
    },
    Command {
        summary: "Replies with the type of a key.",
        syntax: "key",
        ..row(
            "type",
            2,
            READONLY | FAST,
            keys::ONE_RO_META,
            Run::Key(type_of),
        )
    },
    Command {
        since: "4.0.0",
        summary: "Deletes keys, freeing their memory in the background.",
        complexity: "O(N) where N is the number of keys",
        tips: &["request_policy:multi_shard", "response_policy:agg_sum"],
        syntax: "key ...",
        ..row("unlink", -2, WRITE | FAST, keys::ALL_RM, Run::Sum(delete))
    },
];

const OBJECT: &[Command] = &[
    Command {
        since: "2.2.3",
        summary: "Replies with the encoding of a value.",
        tips: &["nondeterministic_output"],
        syntax: "key",
        ..row(
            "encoding",
            3,
            READONLY,
            OBJECT_KEY,
            Run::Key(object::encoding),
        )
    },
    Command {
        since: "4.0.0",
        summary: "Replies with the use counter of a key.",
        tips: &["nondeterministic_output"],
        syntax: "key",
        ..row("freq", 3, READONLY, OBJECT_KEY, Run::Key(object::freq))
    },
    Command {
        since: "6.2.0",
        summary: "Lists the subcommands.",
        ..row(
            "help",
            2,
            LOADING | STALE,
            keys::NONE,
            Run::Client(object::show_help),
        )
    },
    Command {
        since: "2.2.3",
        summary: "Replies with the seconds since a key was used.",
        tips: &["nondeterministic_output"],
        syntax: "key",
        ..row(
            "idletime",
            3,
            READONLY,
            OBJECT_KEY,
            Run::Key(object::idletime),
        )
    },
    Command {
        since: "2.2.3",
        summary: "Replies with the number of references to a value.",
        tips: &["nondeterministic_output"],
        syntax: "key",
        ..row(
            "refcount",
            3,
            READONLY,
            OBJECT_KEY,
            Run::Key(object::refcount),
        )
    },
];

fn delete(tx: &mut Tx, args: &Args) -> Result<i64, CmdError> {
    let key = args.get(1);
    let removed = tx.remove(key);
    if removed {
        tx.wrote(key, Event::DEL, |rec| rec.cmd(&[b"DEL", key]));
    }
    Ok(i64::from(removed))
}

fn touch(tx: &mut Tx, args: &Args) -> Result<i64, CmdError> {
    Ok(i64::from(tx.touch_key(args.get(1))))
}

fn exists(tx: &mut Tx, args: &Args) -> Result<i64, CmdError> {
    Ok(i64::from(tx.exists(args.get(1))))
}

fn type_of(tx: &mut Tx, args: &Args, out: &mut Writer) -> CmdResult {
    out.simple(tx.kind_read(args.get(1)).map_or("none", |kind| kind.name()))
}
