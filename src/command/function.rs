//! FUNCTION: libraries of functions in Lua, and what is done with them. These are jobs: the server
//! room performs them. What runs a function is beside EVAL.

use super::flags::*;
use super::{Command, Group, Job, Run};

pub const COMMANDS: &[Command] = &[Command {
    since: "7.0.0",
    summary: "Groups commands about functions.",
    complexity: "Depends on subcommand.",
    group: Group::Scripting,
    name: "function",
    arity: -2,
    sub: FUNCTION,
    ..Command::DEFAULT
}];

const fn row(
    name: &'static str,
    arity: i32,
    flags: Flags,
    complexity: &'static str,
    summary: &'static str,
) -> Command {
    Command {
        since: "7.0.0",
        summary,
        complexity,
        acl: SCRIPTING,
        group: Group::Scripting,
        name,
        arity,
        flags,
        run: Run::Job(Job::Function),
        ..Command::DEFAULT
    }
}

const EVERY_SHARD: &[&str] = &["request_policy:all_shards", "response_policy:all_succeeded"];
const FUNCTIONS: &str = "O(N) where N is the number of functions";

const FUNCTION: &[Command] = &[
    Command {
        tips: EVERY_SHARD,
        syntax: "library-name",
        ..row("delete", 3, NOSCRIPT | WRITE, "O(1)", "Deletes a library.")
    },
    row(
        "dump",
        2,
        NOSCRIPT,
        FUNCTIONS,
        "Shows all libraries in binary form.",
    ),
    Command {
        tips: EVERY_SHARD,
        syntax: "[async=ASYNC|SYNC]",
        ..row(
            "flush",
            -2,
            NOSCRIPT | WRITE,
            FUNCTIONS,
            "Deletes all functions.",
        )
    },
    row("help", 2, LOADING | STALE, "O(1)", "Lists the subcommands."),
    Command {
        tips: EVERY_SHARD,
        syntax: "[REPLACE] function-code",
        ..row(
            "load",
            -3,
            NOSCRIPT | WRITE | DENYOOM,
            "O(1) (considering compilation time is redundant)",
            "Makes a library known.",
        )
    },
    Command {
        tips: EVERY_SHARD,
        syntax: "serialized-value [policy=FLUSH|APPEND|REPLACE]",
        ..row(
            "restore",
            -3,
            NOSCRIPT | WRITE | DENYOOM,
            FUNCTIONS,
            "Makes all libraries of a payload known.",
        )
    },
    Command {
        tips: &["request_policy:all_shards", "response_policy:one_succeeded"],
        ..row(
            "kill",
            2,
            NOSCRIPT | ALLOW_BUSY,
            "O(1)",
            "Stops the function that runs.",
        )
    },
    Command {
        tips: &["nondeterministic_output_order"],
        syntax: "[LIBRARYNAME library-name-pattern] [WITHCODE]",
        ..row("list", -2, NOSCRIPT, FUNCTIONS, "Lists functions.")
    },
    Command {
        tips: &[
            "nondeterministic_output",
            "request_policy:all_shards",
            "response_policy:special",
        ],
        ..row(
            "stats",
            2,
            NOSCRIPT | ALLOW_BUSY,
            "O(1)",
            "Tells which function runs.",
        )
    },
];
