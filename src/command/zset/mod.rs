//! SORTED SET: members in order of their scores.

mod add;
pub(super) mod algebra;
mod bounds;
mod member;
mod pop;
pub(super) mod range;

use super::cursor::{self, element};
use super::flags::*;
use super::keys::{self, KeySpec, Keys};
use super::{Command, Group, Run};
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

const COUNTED_POP: Keys = &[KeySpec::count(
    keys::RW | keys::ACCESS | keys::DELETE,
    1,
    0,
    1,
    1,
)];
const LOG: &str = "O(log(N)) where N is the number of members";
const EACH_LOG: &str = "O(M*log(N)) where M is the number of members given and N that of all";
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
                found.push(format_f64(score).to_vec());
            }
        })
    });
    cursor::reply(next, &found, out)
}

#[cfg(test)]
mod tests;
