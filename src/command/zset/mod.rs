//! SORTED SET: members in order of their scores.

mod add;
mod algebra;
mod bounds;
mod member;
mod pop;
mod range;

use super::cursor::{self, element};
use super::flags::*;
use super::keys::{self, KeySpec, Keys};
use super::{Command, Group, Run, Standing};
use crate::keyspace::Tx;
use crate::number::format_f64;
use crate::resp::{Args, CmdResult, Writer};
use crate::value::listpack::Item;
use crate::value::zset::Zset;

pub(super) use add::zadd;
pub(super) use range::store_result as store;

const fn row(name: &'static str, arity: i32, flags: Flags, keys: Keys, run: Run) -> Command {
    Command {
        name,
        arity,
        flags,
        acl: SORTEDSET,
        keys,
        run,
        group: Group::SortedSet,
        ..Command::DEFAULT
    }
}

const COUNTED: Keys = &[KeySpec::count(keys::RO | keys::ACCESS, 1, 0, 1, 1)];
const COUNTED_POP: Keys = &[KeySpec::count(
    keys::RW | keys::ACCESS | keys::DELETE,
    1,
    0,
    1,
    1,
)];
const COUNTED_STORE: Keys = &[
    KeySpec::range(keys::OW | keys::UPDATE, 1, 0, 1),
    KeySpec::count(keys::RO | keys::ACCESS, 2, 0, 1, 1),
];
const STORE: Keys = &[
    KeySpec::range(keys::OW | keys::UPDATE, 1, 0, 1),
    KeySpec::range(keys::RO | keys::ACCESS, 2, 0, 1),
];
const LOG: &str = "O(log(N)) where N is the number of members";
const EACH_LOG: &str = "O(M*log(N)) where M is the number of members given and N that of all";
const RANGE: &str = "O(log(N)+M) where N is the number of members and M that of those in range";
const ALGEBRA: &str = "O(N*log(N)) where N is the number of members of all sets";
const RANDOM: &[&str] = &["nondeterministic_output"];

const POP_KEYS: Keys = &[KeySpec::range(
    keys::RW | keys::ACCESS | keys::DELETE,
    1,
    -2,
    1,
)];
const COUNTED_BLOCKING: Keys = &[KeySpec::count(
    keys::RW | keys::ACCESS | keys::DELETE,
    2,
    0,
    1,
    1,
)];

pub const COMMANDS: &[Command] = &[
    Command {
        since: "7.0.0",
        summary: "Removes members of the first set that has any, waiting for one if need be.",
        complexity: "O(K+M*log(N)) where K is the number of keys and M that of members removed",
        block: Some(&pop::BZMPOP_WAITS),
        syntax: "timeout numkeys key ... where=(MIN|MAX) [COUNT count]",
        ..row(
            "bzmpop",
            -5,
            WRITE | BLOCKING | MOVABLEKEYS,
            COUNTED_BLOCKING,
            Run::First(&pop::BZMPOP),
        )
    },
    Command {
        since: "5.0.0",
        summary: "Removes the greatest member of the first set that has any, waiting for one if need be.",
        complexity: LOG,
        block: Some(&pop::BZPOP_WAITS),
        syntax: "key ... timeout",
        history: &[("6.0.0", "The `timeout` may have a fraction.")],
        ..row(
            "bzpopmax",
            -3,
            WRITE | NOSCRIPT | FAST | BLOCKING,
            POP_KEYS,
            Run::First(&pop::BZPOPMAX),
        )
    },
    Command {
        since: "5.0.0",
        summary: "Removes the least member of the first set that has any, waiting for one if need be.",
        complexity: LOG,
        block: Some(&pop::BZPOP_WAITS),
        syntax: "key ... timeout",
        history: &[("6.0.0", "The `timeout` may have a fraction.")],
        ..row(
            "bzpopmin",
            -3,
            WRITE | NOSCRIPT | FAST | BLOCKING,
            POP_KEYS,
            Run::First(&pop::BZPOPMIN),
        )
    },
    Command {
        since: "1.2.0",
        summary: "Adds members, or changes their scores.",
        complexity: EACH_LOG,
        syntax: "key [condition=(NX|XX) @3.0.2] [comparison=(GT|LT) @6.2.0] [change=CH @3.0.2] \
                 [increment=INCR @3.0.2] (score:double member) ...",
        history: &[
            ("2.4.0", "Takes more than one member."),
            ("3.0.2", "Takes `XX`, `NX`, `CH` and `INCR`."),
            ("6.2.0", "Takes `GT` and `LT`."),
        ],
        ..row(
            "zadd",
            -4,
            WRITE | DENYOOM | FAST,
            keys::ONE_RW_UPDATE,
            Run::Key(add::zadd),
        )
    },
    Command {
        since: "1.2.0",
        summary: "Replies with the number of members.",
        syntax: "key",
        ..row(
            "zcard",
            2,
            READONLY | FAST,
            keys::ONE_RO_META,
            Run::Key(zcard),
        )
    },
    Command {
        since: "2.0.0",
        summary: "Replies with the number of members within a range of scores.",
        complexity: LOG,
        syntax: "key min:double max:double",
        ..row(
            "zcount",
            4,
            READONLY | FAST,
            keys::ONE_RO,
            Run::Key(range::zcount),
        )
    },
    Command {
        since: "6.2.0",
        summary: "Replies with what the first set has and no other.",
        complexity: ALGEBRA,
        syntax: "numkeys key ... [WITHSCORES]",
        ..row(
            "zdiff",
            -3,
            READONLY | MOVABLEKEYS,
            COUNTED,
            Run::Gather(&algebra::ZDIFF),
        )
    },
    Command {
        since: "6.2.0",
        summary: "Stores what the first set has and no other.",
        complexity: ALGEBRA,
        syntax: "destination numkeys key ...",
        ..row(
            "zdiffstore",
            -4,
            WRITE | DENYOOM | MOVABLEKEYS,
            COUNTED_STORE,
            Run::Gather(&algebra::ZDIFFSTORE),
        )
    },
    Command {
        since: "1.2.0",
        summary: "Adds to the score of a member.",
        complexity: LOG,
        syntax: "key increment member",
        ..row(
            "zincrby",
            4,
            WRITE | DENYOOM | FAST,
            keys::ONE_RW_ACCESS_UPDATE,
            Run::Key(add::zincrby),
        )
    },
    Command {
        since: "6.2.0",
        summary: "Replies with what all sets have.",
        complexity: ALGEBRA,
        syntax: "numkeys key ... [WEIGHTS weight ...] [AGGREGATE aggregate=(SUM|MIN|MAX)] \
                 [WITHSCORES]",
        ..row(
            "zinter",
            -3,
            READONLY | MOVABLEKEYS,
            COUNTED,
            Run::Gather(&algebra::ZINTER),
        )
    },
    Command {
        since: "7.0.0",
        summary: "Replies with how many members all sets have in common.",
        complexity: "O(N*M) where N is the size of the smallest set and M the number of sets",
        syntax: "numkeys key ... [LIMIT limit]",
        ..row(
            "zintercard",
            -3,
            READONLY | MOVABLEKEYS,
            COUNTED,
            Run::Gather(&algebra::ZINTERCARD),
        )
    },
    Command {
        since: "2.0.0",
        summary: "Stores what all sets have.",
        complexity: ALGEBRA,
        syntax: "destination numkeys key ... [WEIGHTS weight ...] [AGGREGATE aggregate=(SUM|MIN|\
                 MAX)]",
        ..row(
            "zinterstore",
            -4,
            WRITE | DENYOOM | MOVABLEKEYS,
            COUNTED_STORE,
            Run::Gather(&algebra::ZINTERSTORE),
        )
    },
    Command {
        since: "2.8.9",
        summary: "Replies with the number of members within a range of bytes.",
        complexity: LOG,
        syntax: "key min max",
        ..row(
            "zlexcount",
            4,
            READONLY | FAST,
            keys::ONE_RO,
            Run::Key(range::zlexcount),
        )
    },
    Command {
        since: "7.0.0",
        summary: "Removes the least or greatest members of the first set that has any.",
        complexity: "O(K+M*log(N)) where K is the number of keys and M that of members removed",
        syntax: "numkeys key ... where=(MIN|MAX) [COUNT count]",
        ..row(
            "zmpop",
            -4,
            WRITE | MOVABLEKEYS,
            COUNTED_POP,
            Run::First(&pop::ZMPOP),
        )
    },
    Command {
        since: "6.2.0",
        summary: "Replies with the scores of members.",
        complexity: "O(N) where N is the number of members given",
        syntax: "key member ...",
        ..row(
            "zmscore",
            -3,
            READONLY | FAST,
            keys::ONE_RO,
            Run::Key(member::zmscore),
        )
    },
    Command {
        since: "5.0.0",
        summary: "Removes the members with the greatest scores.",
        complexity: EACH_LOG,
        syntax: "key [count]",
        ..row(
            "zpopmax",
            -2,
            WRITE | FAST,
            keys::ONE_RW_ACCESS_DELETE,
            Run::Key(pop::zpopmax),
        )
    },
    Command {
        since: "5.0.0",
        summary: "Removes the members with the least scores.",
        complexity: EACH_LOG,
        syntax: "key [count]",
        ..row(
            "zpopmin",
            -2,
            WRITE | FAST,
            keys::ONE_RW_ACCESS_DELETE,
            Run::Key(pop::zpopmin),
        )
    },
    Command {
        since: "6.2.0",
        summary: "Replies with random members.",
        complexity: "O(M*log(N)) where M is the number of members asked for",
        tips: RANDOM,
        syntax: "key [options=count [WITHSCORES]]",
        ..row(
            "zrandmember",
            -2,
            READONLY,
            keys::ONE_RO,
            Run::Key(member::zrandmember),
        )
    },
    Command {
        since: "1.2.0",
        summary: "Replies with the members of a range.",
        complexity: RANGE,
        syntax: "key start:string stop:string [sortby=(BYSCORE|BYLEX) @6.2.0] [REV @6.2.0] \
                 [LIMIT (offset count) @6.2.0] [WITHSCORES]",
        history: &[("6.2.0", "Takes `REV`, `BYSCORE`, `BYLEX` and `LIMIT`.")],
        ..row(
            "zrange",
            -4,
            READONLY,
            keys::ONE_RO,
            Run::Key(range::zrange),
        )
    },
    Command {
        since: "2.8.9",
        summary: "Replies with the members of a range of bytes.",
        complexity: RANGE,
        syntax: "key min max [LIMIT (offset count)]",
        standing: Standing::Deprecated {
            since: "6.2.0",
            by: "`ZRANGE` with the `BYLEX` argument",
        },
        ..row(
            "zrangebylex",
            -4,
            READONLY,
            keys::ONE_RO,
            Run::Key(range::zrangebylex),
        )
    },
    Command {
        since: "1.0.5",
        summary: "Replies with the members of a range of scores.",
        complexity: RANGE,
        syntax: "key min:double max:double [WITHSCORES @2.0.0] [LIMIT (offset count)]",
        history: &[("2.0.0", "Takes `WITHSCORES`.")],
        standing: Standing::Deprecated {
            since: "6.2.0",
            by: "`ZRANGE` with the `BYSCORE` argument",
        },
        ..row(
            "zrangebyscore",
            -4,
            READONLY,
            keys::ONE_RO,
            Run::Key(range::zrangebyscore),
        )
    },
    Command {
        since: "6.2.0",
        summary: "Stores the members of a range.",
        complexity: RANGE,
        syntax: "dst:key src:key min max [sortby=BYSCORE|BYLEX] [REV] [LIMIT (offset count)]",
        ..row(
            "zrangestore",
            -5,
            WRITE | DENYOOM,
            STORE,
            Run::Gather(&range::ZRANGESTORE),
        )
    },
    Command {
        since: "2.0.0",
        summary: "Replies with the number of members before one.",
        complexity: LOG,
        syntax: "key member [WITHSCORE @7.2.0]",
        history: &[("7.2.0", "Takes `WITHSCORE`.")],
        ..row(
            "zrank",
            -3,
            READONLY | FAST,
            keys::ONE_RO,
            Run::Key(member::zrank),
        )
    },
    Command {
        since: "1.2.0",
        summary: "Removes members.",
        complexity: EACH_LOG,
        syntax: "key member ...",
        history: &[("2.4.0", "Takes more than one `member`.")],
        ..row(
            "zrem",
            -3,
            WRITE | FAST,
            keys::ONE_RW_DELETE,
            Run::Key(member::zrem),
        )
    },
    Command {
        since: "2.8.9",
        summary: "Removes the members of a range of bytes.",
        complexity: RANGE,
        syntax: "key min max",
        ..row(
            "zremrangebylex",
            4,
            WRITE,
            keys::ONE_RW_DELETE,
            Run::Key(range::zremrangebylex),
        )
    },
    Command {
        since: "2.0.0",
        summary: "Removes the members of a range of ranks.",
        complexity: RANGE,
        syntax: "key start stop",
        ..row(
            "zremrangebyrank",
            4,
            WRITE,
            keys::ONE_RW_DELETE,
            Run::Key(range::zremrangebyrank),
        )
    },
    Command {
        since: "1.2.0",
        summary: "Removes the members of a range of scores.",
        complexity: RANGE,
        syntax: "key min:double max:double",
        ..row(
            "zremrangebyscore",
            4,
            WRITE,
            keys::ONE_RW_DELETE,
            Run::Key(range::zremrangebyscore),
        )
    },
    Command {
        since: "1.2.0",
        summary: "Replies with the members of a range of ranks, from the end.",
        complexity: RANGE,
        syntax: "key start stop [WITHSCORES]",
        standing: Standing::Deprecated {
            since: "6.2.0",
            by: "`ZRANGE` with the `REV` argument",
        },
        ..row(
            "zrevrange",
            -4,
            READONLY,
            keys::ONE_RO,
            Run::Key(range::zrevrange),
        )
    },
    Command {
        since: "2.8.9",
        summary: "Replies with the members of a range of bytes, from the end.",
        complexity: RANGE,
        syntax: "key max min [LIMIT (offset count)]",
        standing: Standing::Deprecated {
            since: "6.2.0",
            by: "`ZRANGE` with the `REV` and `BYLEX` arguments",
        },
        ..row(
            "zrevrangebylex",
            -4,
            READONLY,
            keys::ONE_RO,
            Run::Key(range::zrevrangebylex),
        )
    },
    Command {
        since: "2.2.0",
        summary: "Replies with the members of a range of scores, from the end.",
        complexity: RANGE,
        syntax: "key max:double min:double [WITHSCORES] [LIMIT (offset count)]",
        history: &[("2.1.6", "Takes scores that the range excludes.")],
        standing: Standing::Deprecated {
            since: "6.2.0",
            by: "`ZRANGE` with the `REV` and `BYSCORE` arguments",
        },
        ..row(
            "zrevrangebyscore",
            -4,
            READONLY,
            keys::ONE_RO,
            Run::Key(range::zrevrangebyscore),
        )
    },
    Command {
        since: "2.0.0",
        summary: "Replies with the number of members behind one.",
        complexity: LOG,
        syntax: "key member [WITHSCORE @7.2.0]",
        history: &[("7.2.0", "Takes `WITHSCORE`.")],
        ..row(
            "zrevrank",
            -3,
            READONLY | FAST,
            keys::ONE_RO,
            Run::Key(member::zrevrank),
        )
    },
    Command {
        since: "2.8.0",
        summary: "Goes through the members of a sorted set in steps.",
        complexity: "O(1) for each call, O(N) for all members",
        tips: RANDOM,
        syntax: "key cursor [MATCH pattern] [COUNT count]",
        ..row("zscan", -3, READONLY, keys::ONE_RO, Run::Key(zscan))
    },
    Command {
        since: "1.2.0",
        summary: "Replies with the score of a member.",
        syntax: "key member",
        ..row(
            "zscore",
            3,
            READONLY | FAST,
            keys::ONE_RO,
            Run::Key(member::zscore),
        )
    },
    Command {
        since: "6.2.0",
        summary: "Replies with what any set has.",
        complexity: ALGEBRA,
        syntax: "numkeys key ... [WEIGHTS weight ...] [AGGREGATE aggregate=(SUM|MIN|MAX)] \
                 [WITHSCORES]",
        ..row(
            "zunion",
            -3,
            READONLY | MOVABLEKEYS,
            COUNTED,
            Run::Gather(&algebra::ZUNION),
        )
    },
    Command {
        since: "2.0.0",
        summary: "Stores what any set has.",
        complexity: ALGEBRA,
        syntax: "destination numkeys key ... [WEIGHTS weight ...] [AGGREGATE aggregate=(SUM|MIN|\
                 MAX)]",
        ..row(
            "zunionstore",
            -4,
            WRITE | DENYOOM | MOVABLEKEYS,
            COUNTED_STORE,
            Run::Gather(&algebra::ZUNIONSTORE),
        )
    },
];

/// Writes a member with its score, as a pair of its own or as two elements.
fn scored(name: Item, score: f64, nested: bool, out: &mut Writer) -> CmdResult {
    if nested {
        out.array(2)?;
    }
    element(name, out)?;
    out.double(score)
}

fn zcard(tx: &mut Tx, args: &Args, out: &mut Writer) -> CmdResult {
    let len = tx.read::<Zset>(args.get(1))?.map_or(0, Zset::len);
    out.int(len as i64)
}

fn zscan(tx: &mut Tx, args: &Args, out: &mut Writer) -> CmdResult {
    let from = cursor::cursor(args, 2)?;
    // Redis: options behind a key that is not there are not looked at.
    let Some(set) = tx.read::<Zset>(args.get(1))? else {
        return cursor::reply(0, &[], out);
    };
    let options = cursor::element_options(args)?;
    let mut found = Vec::new();
    let next = cursor::walk(from, options.count, |cursor, visited| {
        set.scan(cursor, |name: Item, score| {
            *visited += 1;
            let name = name.to_vec();
            if options.matches(&name) {
                found.push(name);
                found.push(format_f64(score).into_bytes());
            }
        })
    });
    cursor::reply(next, &found, out)
}

#[cfg(test)]
mod tests;
