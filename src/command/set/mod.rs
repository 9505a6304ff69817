//! SET: members without order, each once.

mod algebra;
mod member;
mod random;

use super::cursor::{self, element};
use super::flags::*;
use super::keys::{self, KeySpec, Keys};
use super::{Command, Group, Run};
use crate::keyspace::Tx;
use crate::resp::{Args, CmdResult, Writer};
use crate::value::listpack::Item;
use crate::value::set::Set;

const fn row(name: &'static str, arity: i32, flags: Flags, keys: Keys, run: Run) -> Command {
    Command {
        name,
        arity,
        flags,
        acl: SET,
        keys,
        run,
        group: Group::Set,
        ..Command::DEFAULT
    }
}

const INTERSTORE_KEYS: Keys = &[
    KeySpec::range(keys::RW | keys::UPDATE, 1, 0, 1),
    KeySpec::range(keys::RO | keys::ACCESS, 2, -1, 1),
];
const STORE_KEYS: Keys = &[
    KeySpec::range(keys::OW | keys::UPDATE, 1, 0, 1),
    KeySpec::range(keys::RO | keys::ACCESS, 2, -1, 1),
];
const COUNTED: Keys = &[KeySpec::count(keys::RO | keys::ACCESS, 1, 0, 1, 1)];
const MOVE_KEYS: Keys = &[
    KeySpec::range(keys::RW | keys::ACCESS | keys::DELETE, 1, 0, 1),
    KeySpec::range(keys::RW | keys::INSERT, 2, 0, 1),
];
const PER_MEMBER: &str = "O(N) where N is the number of members given";
const UNORDERED: &[&str] = &["nondeterministic_output_order"];
const RANDOM: &[&str] = &["nondeterministic_output"];
const OVER_SETS: &str = "O(N) where N is the number of members of all sets";

pub(super) use algebra::card_limit;

pub const COMMANDS: &[Command] = &[
    Command {
        summary: "Adds members to a set, creating it if need be.",
        complexity: PER_MEMBER,
        syntax: "key member ...",
        history: &[("2.4.0", "Takes more than one `member`.")],
        ..row(
            "sadd",
            -3,
            WRITE | DENYOOM | FAST,
            keys::ONE_RW_INSERT,
            Run::Key(member::sadd),
        )
    },
    Command {
        summary: "Replies with the number of members.",
        syntax: "key",
        ..row(
            "scard",
            2,
            READONLY | FAST,
            keys::ONE_RO_META,
            Run::Key(scard),
        )
    },
    Command {
        summary: "Replies with what the first set has and no other.",
        complexity: OVER_SETS,
        tips: UNORDERED,
        syntax: "key ...",
        ..row(
            "sdiff",
            -2,
            READONLY,
            keys::ALL_RO,
            Run::Gather(&algebra::SDIFF),
        )
    },
    Command {
        summary: "Stores what the first set has and no other.",
        complexity: OVER_SETS,
        syntax: "destination key ...",
        ..row(
            "sdiffstore",
            -3,
            WRITE | DENYOOM,
            STORE_KEYS,
            Run::Gather(&algebra::SDIFFSTORE),
        )
    },
    Command {
        summary: "Replies with what all sets have.",
        complexity: "O(N*M) where N is the size of the smallest set and M the number of sets",
        tips: UNORDERED,
        syntax: "key ...",
        ..row(
            "sinter",
            -2,
            READONLY,
            keys::ALL_RO,
            Run::Gather(&algebra::SINTER),
        )
    },
    Command {
        since: "7.0.0",
        summary: "Replies with how many members all sets have in common.",
        complexity: "O(N*M) where N is the size of the smallest set and M the number of sets",
        syntax: "numkeys key ... [LIMIT limit]",
        ..row(
            "sintercard",
            -3,
            READONLY | MOVABLEKEYS,
            COUNTED,
            Run::Gather(&algebra::SINTERCARD),
        )
    },
    Command {
        summary: "Stores what all sets have.",
        complexity: "O(N*M) where N is the size of the smallest set and M the number of sets",
        syntax: "destination key ...",
        ..row(
            "sinterstore",
            -3,
            WRITE | DENYOOM,
            INTERSTORE_KEYS,
            Run::Gather(&algebra::SINTERSTORE),
        )
    },
    Command {
        summary: "Replies whether something is a member.",
        syntax: "key member",
        ..row(
            "sismember",
            3,
            READONLY | FAST,
            keys::ONE_RO_META,
            Run::Key(member::sismember),
        )
    },
    Command {
        summary: "Replies with all members.",
        complexity: "O(N) where N is the number of members",
        tips: UNORDERED,
        syntax: "key",
        ..row("smembers", 2, READONLY, keys::ONE_RO, Run::Key(smembers))
    },
    Command {
        since: "6.2.0",
        summary: "Replies which of some things are members.",
        complexity: PER_MEMBER,
        syntax: "key member ...",
        ..row(
            "smismember",
            -3,
            READONLY | FAST,
            keys::ONE_RO,
            Run::Key(member::smismember),
        )
    },
    Command {
        summary: "Moves a member from one set to another.",
        syntax: "source destination member",
        ..row(
            "smove",
            4,
            WRITE | FAST,
            MOVE_KEYS,
            Run::Gather(&member::SMOVE),
        )
    },
    Command {
        summary: "Removes random members and replies with them.",
        complexity: "O(N) where N is the number of members removed",
        tips: RANDOM,
        syntax: "key [count @3.2.0]",
        history: &[("3.2.0", "Takes a `count`.")],
        ..row(
            "spop",
            -2,
            WRITE | FAST,
            keys::ONE_RW_ACCESS_DELETE,
            Run::Key(random::spop),
        )
    },
    Command {
        summary: "Replies with random members.",
        complexity: "O(N) where N is the number of members asked for",
        tips: RANDOM,
        syntax: "key [count @2.6.0]",
        history: &[("2.6.0", "Takes a `count`.")],
        ..row(
            "srandmember",
            -2,
            READONLY,
            keys::ONE_RO,
            Run::Key(random::srandmember),
        )
    },
    Command {
        summary: "Removes members.",
        complexity: PER_MEMBER,
        syntax: "key member ...",
        history: &[("2.4.0", "Takes more than one `member`.")],
        ..row(
            "srem",
            -3,
            WRITE | FAST,
            keys::ONE_RW_DELETE,
            Run::Key(member::srem),
        )
    },
    Command {
        since: "2.8.0",
        summary: "Goes through the members of a set in steps.",
        complexity: "O(1) for each call, O(N) for all members",
        tips: RANDOM,
        syntax: "key cursor [MATCH pattern] [COUNT count]",
        ..row("sscan", -3, READONLY, keys::ONE_RO, Run::Key(sscan))
    },
    Command {
        summary: "Replies with what any set has.",
        complexity: OVER_SETS,
        tips: UNORDERED,
        syntax: "key ...",
        ..row(
            "sunion",
            -2,
            READONLY,
            keys::ALL_RO,
            Run::Gather(&algebra::SUNION),
        )
    },
    Command {
        summary: "Stores what any set has.",
        complexity: OVER_SETS,
        syntax: "destination key ...",
        ..row(
            "sunionstore",
            -3,
            WRITE | DENYOOM,
            STORE_KEYS,
            Run::Gather(&algebra::SUNIONSTORE),
        )
    },
];

fn scard(tx: &mut Tx, args: &Args, out: &mut Writer) -> CmdResult {
    let len = tx.read::<Set>(args.get(1))?.map_or(0, Set::len);
    out.int(len as i64)
}

fn smembers(tx: &mut Tx, args: &Args, out: &mut Writer) -> CmdResult {
    match tx.read::<Set>(args.get(1))? {
        None => out.set(0),
        Some(set) => {
            out.set(set.len())?;
            set.iter().try_for_each(|member| element(member, out))
        }
    }
}

fn sscan(tx: &mut Tx, args: &Args, out: &mut Writer) -> CmdResult {
    let from = cursor::cursor(args, 2)?;
    // Redis: options behind a key that is not there are not looked at.
    let Some(set) = tx.read::<Set>(args.get(1))? else {
        return cursor::reply(0, &[], out);
    };
    let options = cursor::element_options(args)?;
    let mut found = Vec::new();
    let next = cursor::walk(from, options.count, |cursor, visited| {
        set.scan(cursor, |member: Item| {
            *visited += 1;
            let member = member.to_vec();
            if options.matches(&member) {
                found.push(member);
            }
        })
    });
    cursor::reply(next, &found, out)
}

#[cfg(test)]
mod tests {
    use crate::command::testing::Bench;

    #[test]
    fn members_come_and_go() {
        Bench::new().rows(&[
            ("SADD s 3 1 2 3", ":3|", "sadd s", "SADD s 3 1 2 3"),
            ("SADD s 1", ":0|", "", ""),
            ("SMEMBERS s", "*3|$1|1|$1|2|$1|3|", "", ""),
            ("SISMEMBER s 2", ":1|", "", ""),
            ("SMISMEMBER s 2 9", "*2|:1|:0|", "", ""),
            ("OBJECT ENCODING s", "$6|intset|", "", ""),
            ("SADD s a", ":1|", "sadd s", "SADD s a"),
            ("OBJECT ENCODING s", "$9|hashtable|", "", ""),
            ("SREM s 1 2 9", ":2|", "srem s", "SREM s 1 2 9"),
            ("SCARD s", ":2|", "", ""),
            ("SMOVE s t a", ":1|", "srem s, sadd t", "SREM s a, SADD t a"),
            ("SMOVE s t a", ":0|", "", ""),
            ("SMOVE t t a", ":1|", "", ""),
            ("SPOP s", "$1|3|", "spop s, del s", "SREM s 3"),
            ("SPOP s", "$-1|", "", ""),
            ("SPOP s 3", "*0|", "", ""),
            (
                "SPOP t -1",
                "-ERR value is out of range, must be positive|",
                "",
                "",
            ),
            ("SPOP t 3", "*1|$1|a|", "spop t, del t", "DEL t"),
        ]);
    }

    #[test]
    fn sets_are_combined() {
        Bench::new().rows(&[
            ("SADD a 1 2 3 4", ":4|", "sadd a", "SADD a 1 2 3 4"),
            ("SADD b 3 4 5", ":3|", "sadd b", "SADD b 3 4 5"),
            ("SINTER a b", "*2|$1|3|$1|4|", "", ""),
            ("SINTER a none", "*0|", "", ""),
            ("SUNION a b none", "*5|$1|1|$1|2|$1|3|$1|4|$1|5|", "", ""),
            ("SDIFF a b", "*2|$1|1|$1|2|", "", ""),
            ("SINTERCARD 2 a b", ":2|", "", ""),
            ("SINTERCARD 2 a b LIMIT 1", ":1|", "", ""),
            (
                "SINTERCARD 0 a",
                "-ERR numkeys should be greater than 0|",
                "",
                "",
            ),
            (
                "SINTERCARD 3 a b",
                "-ERR Number of keys can't be greater than number of args|",
                "",
                "",
            ),
            (
                "SINTERCARD 2 a b LIMIT -1",
                "-ERR LIMIT can't be negative|",
                "",
                "",
            ),
            (
                "SINTERSTORE d a b",
                ":2|",
                "sinterstore d",
                "DEL d, SADD d 3 4",
            ),
            ("SDIFFSTORE d a a", ":0|", "del d", "DEL d"),
            (
                "SUNIONSTORE a a b",
                ":5|",
                "sunionstore a",
                "DEL a, SADD a 1 2 3 4 5",
            ),
            ("SET s x", "+OK|", "set s", "SET s x"),
            (
                "SINTER none s",
                "-WRONGTYPE Operation against a key holding the wrong kind of value|",
                "",
                "",
            ),
        ]);
    }

    #[test]
    fn samples_have_the_size_asked_for() {
        let mut bench = Bench::new();
        bench.replies(&[
            ("SADD s a b c", ":3|"),
            ("SRANDMEMBER none", "$-1|"),
            ("SRANDMEMBER none 2", "*0|"),
        ]);
        for (count, len) in [("2", 2), ("3", 3), ("9", 3), ("-9", 9), ("0", 0)] {
            let reply = bench.line(&format!("SRANDMEMBER s {count}")).reply;
            assert!(reply.starts_with(&format!("*{len}|")), "{count}: {reply}");
        }
    }
}
