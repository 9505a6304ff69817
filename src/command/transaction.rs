//! MULTI, EXEC, DISCARD, WATCH, UNWATCH: what they are. The session carries them out.

use super::flags::*;
use super::keys;
use super::{Command, Group, Run};

/// A command on the session's own transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transaction {
    Multi,
    Exec,
    Discard,
    Watch,
    Unwatch,
}

const fn row(name: &'static str, arity: i32, flags: Flags, what: Transaction) -> Command {
    Command {
        name,
        arity,
        flags,
        acl: TRANSACTION,
        run: Run::Transaction(what),
        group: Group::Transactions,
        ..Command::DEFAULT
    }
}

const ANYTIME: Flags = NOSCRIPT | LOADING | STALE | ALLOW_BUSY;

pub const COMMANDS: &[Command] = &[
    Command {
        since: "2.0.0",
        summary: "Forgets the commands queued since MULTI.",
        complexity: "O(N) where N is the number of commands queued",
        ..row("discard", 1, ANYTIME | FAST, Transaction::Discard)
    },
    Command {
        since: "1.2.0",
        summary: "Runs the commands queued since MULTI as one.",
        complexity: "that of the commands queued",
        ..row(
            "exec",
            1,
            NOSCRIPT | LOADING | STALE | SKIP_SLOWLOG,
            Transaction::Exec,
        )
    },
    Command {
        since: "1.2.0",
        summary: "Begins to queue commands.",
        ..row("multi", 1, ANYTIME | FAST, Transaction::Multi)
    },
    Command {
        since: "2.2.0",
        summary: "Forgets all watched keys.",
        ..row("unwatch", 1, ANYTIME | FAST, Transaction::Unwatch)
    },
    Command {
        since: "2.2.0",
        summary: "Lets the next EXEC fail if a key changes before it.",
        complexity: "O(1) for each key",
        keys: keys::ALL_RO_META,
        syntax: "key ...",
        ..row("watch", -2, ANYTIME | FAST, Transaction::Watch)
    },
];
