//! LIST: sequences that grow and shrink at both ends.

mod edit;
mod moving;
mod pop;
mod push;
mod read;

use super::flags::*;
use super::keys::{self, KeySpec, Keys};
use super::{Command, Group, Run, Standing};
use crate::resp::Args;
use crate::value::list::End;

const fn row(name: &'static str, arity: i32, flags: Flags, keys: Keys, run: Run) -> Command {
    Command {
        name,
        arity,
        flags,
        acl: LIST,
        keys,
        run,
        group: Group::List,
        ..Command::DEFAULT
    }
}

const MOVE_KEYS: Keys = &[
    KeySpec::range(keys::RW | keys::ACCESS | keys::DELETE, 1, 0, 1),
    KeySpec::range(keys::RW | keys::INSERT, 2, 0, 1),
];
const COUNTED: Keys = &[KeySpec::count(
    keys::RW | keys::ACCESS | keys::DELETE,
    1,
    0,
    1,
    1,
)];
const PER_ELEMENT: &str = "O(N) where N is the number of elements given";
const WALKS: &str = "O(N) where N is the number of elements passed on the way";

const BLOCKING_MOVE: Flags = WRITE | DENYOOM | NOSCRIPT | BLOCKING;
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
        since: "6.2.0",
        summary: "Moves an element between lists, waiting for one if need be.",
        block: Some(&moving::BLMOVE_WAITS),
        syntax: "source destination wherefrom=(LEFT|RIGHT) whereto=(LEFT|RIGHT) timeout",
        ..row(
            "blmove",
            6,
            BLOCKING_MOVE,
            MOVE_KEYS,
            Run::Gather(&moving::MOVE),
        )
    },
    Command {
        since: "7.0.0",
        summary: "Removes elements from the first list that has any, waiting for one if need be.",
        complexity: "O(N+M) where N is the number of keys and M the number of elements removed",
        block: Some(&pop::BLMPOP_WAITS),
        syntax: "timeout numkeys key ... where=(LEFT|RIGHT) [COUNT count]",
        ..row(
            "blmpop",
            -5,
            WRITE | BLOCKING | MOVABLEKEYS,
            COUNTED_BLOCKING,
            Run::First(&pop::BLMPOP),
        )
    },
    Command {
        since: "2.0.0",
        summary: "Removes the first element of the first list that has any, waiting for one if need be.",
        complexity: "O(N) where N is the number of keys",
        block: Some(&pop::BPOP_WAITS),
        syntax: "key ... timeout",
        history: &[("6.0.0", "The `timeout` may have a fraction.")],
        ..row(
            "blpop",
            -3,
            WRITE | NOSCRIPT | BLOCKING,
            POP_KEYS,
            Run::First(&pop::BLPOP),
        )
    },
    Command {
        since: "2.0.0",
        summary: "Removes the last element of the first list that has any, waiting for one if need be.",
        complexity: "O(N) where N is the number of keys",
        block: Some(&pop::BPOP_WAITS),
        syntax: "key ... timeout",
        history: &[("6.0.0", "The `timeout` may have a fraction.")],
        ..row(
            "brpop",
            -3,
            WRITE | NOSCRIPT | BLOCKING,
            POP_KEYS,
            Run::First(&pop::BRPOP),
        )
    },
    Command {
        since: "2.2.0",
        summary: "Moves the last element of a list to the front of another, waiting for one if need be.",
        block: Some(&moving::BRPOPLPUSH_WAITS),
        syntax: "source destination timeout",
        history: &[("6.0.0", "The `timeout` may have a fraction.")],
        standing: Standing::Deprecated {
            since: "6.2.0",
            by: "`BLMOVE` with the `RIGHT` and `LEFT` arguments",
        },
        ..row(
            "brpoplpush",
            4,
            BLOCKING_MOVE,
            MOVE_KEYS,
            Run::Gather(&moving::MOVE),
        )
    },
    Command {
        summary: "Replies with the element at an index.",
        complexity: WALKS,
        syntax: "key index",
        ..row("lindex", 3, READONLY, keys::ONE_RO, Run::Key(read::lindex))
    },
    Command {
        since: "2.2.0",
        summary: "Inserts an element before or after another.",
        complexity: WALKS,
        syntax: "key where=(BEFORE|AFTER) pivot element",
        ..row(
            "linsert",
            5,
            WRITE | DENYOOM,
            keys::ONE_RW_INSERT,
            Run::Key(edit::linsert),
        )
    },
    Command {
        summary: "Replies with the number of elements.",
        syntax: "key",
        ..row(
            "llen",
            2,
            READONLY | FAST,
            keys::ONE_RO_META,
            Run::Key(read::llen),
        )
    },
    Command {
        since: "6.2.0",
        summary: "Moves an element from an end of one list to an end of another.",
        syntax: "source destination wherefrom=(LEFT|RIGHT) whereto=(LEFT|RIGHT)",
        ..row(
            "lmove",
            5,
            WRITE | DENYOOM,
            MOVE_KEYS,
            Run::Gather(&moving::MOVE),
        )
    },
    Command {
        since: "7.0.0",
        summary: "Removes elements from an end of the first list that has any.",
        complexity: "O(N+M) where N is the number of keys and M the number of elements removed",
        syntax: "numkeys key ... where=(LEFT|RIGHT) [COUNT count]",
        ..row(
            "lmpop",
            -4,
            WRITE | MOVABLEKEYS,
            COUNTED,
            Run::First(&pop::LMPOP),
        )
    },
    Command {
        summary: "Removes the first element, or the first few.",
        complexity: "O(N) where N is the number of elements removed",
        syntax: "key [count @6.2.0]",
        history: &[("6.2.0", "Takes a `count`.")],
        ..row(
            "lpop",
            -2,
            WRITE | FAST,
            keys::ONE_RW_ACCESS_DELETE,
            Run::Key(pop::lpop),
        )
    },
    Command {
        since: "6.0.6",
        summary: "Replies with the indices of elements that are equal to one given.",
        complexity: WALKS,
        syntax: "key element [RANK rank:int] [COUNT num-matches:int] [MAXLEN len]",
        ..row("lpos", -3, READONLY, keys::ONE_RO, Run::Key(read::lpos))
    },
    Command {
        summary: "Adds elements in front of a list, creating it if need be.",
        complexity: PER_ELEMENT,
        syntax: "key element ...",
        history: &[("2.4.0", "Takes more than one `element`.")],
        ..row(
            "lpush",
            -3,
            WRITE | DENYOOM | FAST,
            keys::ONE_RW_INSERT,
            Run::Key(push::lpush),
        )
    },
    Command {
        since: "2.2.0",
        summary: "Adds elements in front of a list that exists.",
        complexity: PER_ELEMENT,
        syntax: "key element ...",
        history: &[("4.0.0", "Takes more than one `element`.")],
        ..row(
            "lpushx",
            -3,
            WRITE | DENYOOM | FAST,
            keys::ONE_RW_INSERT,
            Run::Key(push::lpushx),
        )
    },
    Command {
        summary: "Replies with the elements from one index to another.",
        complexity: "O(S+N) where S is the distance of the first from the nearer end and N their number",
        syntax: "key start stop",
        ..row("lrange", 4, READONLY, keys::ONE_RO, Run::Key(read::lrange))
    },
    Command {
        summary: "Removes elements that are equal to one given.",
        complexity: WALKS,
        syntax: "key count element",
        ..row("lrem", 4, WRITE, keys::ONE_RW_DELETE, Run::Key(edit::lrem))
    },
    Command {
        summary: "Replaces the element at an index.",
        complexity: WALKS,
        syntax: "key index element",
        ..row(
            "lset",
            4,
            WRITE | DENYOOM,
            keys::ONE_RW_UPDATE,
            Run::Key(edit::lset),
        )
    },
    Command {
        summary: "Removes all elements outside a range of indices.",
        complexity: "O(N) where N is the number of elements removed",
        syntax: "key start stop",
        ..row(
            "ltrim",
            4,
            WRITE,
            keys::ONE_RW_DELETE,
            Run::Key(edit::ltrim),
        )
    },
    Command {
        summary: "Removes the last element, or the last few.",
        complexity: "O(N) where N is the number of elements removed",
        syntax: "key [count @6.2.0]",
        history: &[("6.2.0", "Takes a `count`.")],
        ..row(
            "rpop",
            -2,
            WRITE | FAST,
            keys::ONE_RW_ACCESS_DELETE,
            Run::Key(pop::rpop),
        )
    },
    Command {
        since: "1.2.0",
        summary: "Moves the last element of a list to the front of another.",
        syntax: "source destination",
        standing: Standing::Deprecated {
            since: "6.2.0",
            by: "`LMOVE` with the `RIGHT` and `LEFT` arguments",
        },
        ..row(
            "rpoplpush",
            3,
            WRITE | DENYOOM,
            MOVE_KEYS,
            Run::Gather(&moving::MOVE),
        )
    },
    Command {
        summary: "Adds elements to the end of a list, creating it if need be.",
        complexity: PER_ELEMENT,
        syntax: "key element ...",
        history: &[("2.4.0", "Takes more than one `element`.")],
        ..row(
            "rpush",
            -3,
            WRITE | DENYOOM | FAST,
            keys::ONE_RW_INSERT,
            Run::Key(push::rpush),
        )
    },
    Command {
        since: "2.2.0",
        summary: "Adds elements to the end of a list that exists.",
        complexity: PER_ELEMENT,
        syntax: "key element ...",
        history: &[("4.0.0", "Takes more than one `element`.")],
        ..row(
            "rpushx",
            -3,
            WRITE | DENYOOM | FAST,
            keys::ONE_RW_INSERT,
            Run::Key(push::rpushx),
        )
    },
];

pub(super) use super::cursor::element;

/// `LEFT` or `RIGHT`.
fn end_of(args: &Args, at: usize) -> Option<End> {
    if args.is(at, "left") {
        Some(End::Head)
    } else if args.is(at, "right") {
        Some(End::Tail)
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use crate::command::testing::Bench;

    #[test]
    fn elements_come_and_go_at_both_ends() {
        Bench::new().rows(&[
            ("RPUSH l a b 3", ":3|", "rpush l", "RPUSH l a b 3"),
            ("LPUSH l y z", ":5|", "lpush l", "LPUSH l y z"),
            ("LRANGE l 0 -1", "*5|$1|z|$1|y|$1|a|$1|b|$1|3|", "", ""),
            ("LPOP l", "$1|z|", "lpop l", "LPOP l"),
            ("RPOP l 2", "*2|$1|3|$1|b|", "rpop l", "RPOP l 2"),
            ("LPOP l 0", "*0|", "", ""),
            (
                "LPOP l -1",
                "-ERR value is out of range, must be positive|",
                "",
                "",
            ),
            ("LLEN l", ":2|", "", ""),
            ("LPOP l 9", "*2|$1|y|$1|a|", "lpop l, del l", "LPOP l 2"),
            ("LPOP l", "$-1|", "", ""),
            ("LPOP l 1", "*-1|", "", ""),
            ("LPUSHX l a", ":0|", "", ""),
        ]);
    }

    #[test]
    fn elements_are_edited_in_place() {
        Bench::new().rows(&[
            (
                "RPUSH l a b c a b c a",
                ":7|",
                "rpush l",
                "RPUSH l a b c a b c a",
            ),
            ("LREM l 2 a", ":2|", "lrem l", "LREM l 2 a"),
            ("LREM l -1 b", ":1|", "lrem l", "LREM l -1 b"),
            ("LRANGE l 0 -1", "*4|$1|b|$1|c|$1|c|$1|a|", "", ""),
            ("LSET l -1 z", "+OK|", "lset l", "LSET l -1 z"),
            ("LSET l 4 z", "-ERR index out of range|", "", ""),
            ("LSET none 0 z", "-ERR no such key|", "", ""),
            (
                "LINSERT l BEFORE c x",
                ":5|",
                "linsert l",
                "LINSERT l BEFORE c x",
            ),
            ("LINSERT l AFTER none x", ":-1|", "", ""),
            ("LINSERT none AFTER a x", ":0|", "", ""),
            ("LINSERT l BESIDE a x", "-ERR syntax error|", "", ""),
            ("LRANGE l 1 2", "*2|$1|x|$1|c|", "", ""),
            ("LTRIM l 1 -2", "+OK|", "ltrim l", "LTRIM l 1 -2"),
            ("LINDEX l -1", "$1|c|", "", ""),
            ("LTRIM l 5 9", "+OK|", "ltrim l, del l", "LTRIM l 5 9"),
        ]);
    }

    #[test]
    fn elements_are_found() {
        Bench::new().replies(&[
            ("RPUSH l a b c 1 2 3 c c", ":8|"),
            ("LPOS l c", ":2|"),
            ("LPOS l c RANK 2", ":6|"),
            ("LPOS l c RANK -1", ":7|"),
            ("LPOS l c COUNT 0", "*3|:2|:6|:7|"),
            ("LPOS l c RANK -1 COUNT 2", "*2|:7|:6|"),
            ("LPOS l c MAXLEN 2", "$-1|"),
            ("LPOS l c MAXLEN 2 COUNT 1", "*0|"),
            ("LPOS l c RANK 0", "-ERR RANK can't be zero: use 1 to start from the first match, 2 from the second ... or use negative to start from the end of the list|"),
            ("LPOS none c", "$-1|"),
            ("LPOS none c COUNT 1", "*0|"),
        ]);
    }

    #[test]
    fn elements_move_between_lists() {
        Bench::new().rows(&[
            ("RPUSH a 1 2", ":2|", "rpush a", "RPUSH a 1 2"),
            (
                "LMOVE a b LEFT RIGHT",
                "$1|1|",
                "rpush b, lpop a",
                "RPUSH b 1, LPOP a",
            ),
            (
                "RPOPLPUSH a b",
                "$1|2|",
                "lpush b, rpop a, del a",
                "LPUSH b 2, RPOP a",
            ),
            (
                "LMOVE b b LEFT RIGHT",
                "$1|2|",
                "rpush b, lpop b",
                "RPUSH b 2, LPOP b",
            ),
            ("LMOVE a b LEFT RIGHT", "$-1|", "", ""),
            ("LMOVE a b UP RIGHT", "-ERR syntax error|", "", ""),
            ("SET s 1", "+OK|", "set s", "SET s 1"),
            (
                "LMOVE b s LEFT LEFT",
                "-WRONGTYPE Operation against a key holding the wrong kind of value|",
                "",
                "",
            ),
            (
                "LMPOP 2 a b RIGHT COUNT 5",
                "*2|$1|b|*2|$1|2|$1|1|",
                "rpop b, del b",
                "RPOP b 2",
            ),
            ("LMPOP 2 a b LEFT", "*-1|", "", ""),
            (
                "LMPOP 2 a s LEFT",
                "-WRONGTYPE Operation against a key holding the wrong kind of value|",
                "",
                "",
            ),
        ]);
    }
}
