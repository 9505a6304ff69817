//! ACL: users and what they may do. These are jobs: the server room performs them.

use super::flags::*;
use super::{Command, Group, Job, Run};

const fn row(name: &'static str, arity: i32, flags: Flags) -> Command {
    Command {
        name,
        arity,
        flags,
        group: Group::Server,
        run: Run::Job(Job::Acl),
        ..Command::DEFAULT
    }
}

const ADMINISTER: Flags = ADMIN | NOSCRIPT | LOADING | STALE;
const ANYWHERE: Flags = LOADING | STALE;
const USERS: &str = "O(N) where N is the number of users";

pub const COMMANDS: &[Command] = &[Command {
    since: "6.0.0",
    summary: "Groups commands about users and what they may do.",
    complexity: "Depends on subcommand.",
    sub: ACL,
    run: Run::Container,
    ..row("acl", -2, 0)
}];

const ACL: &[Command] = &[
    Command {
        since: "6.0.0",
        summary: "Lists categories of commands, or the commands of one.",
        syntax: "[categoryname]",
        ..row("cat", -2, NOSCRIPT | ANYWHERE)
    },
    Command {
        since: "6.0.0",
        summary: "Removes users.",
        syntax: "username ...",
        ..row("deluser", -3, ADMINISTER)
    },
    Command {
        since: "7.0.0",
        summary: "Tells whether a user may run a command, without running it.",
        syntax: "username command [arg ...]",
        ..row("dryrun", -4, ADMINISTER)
    },
    Command {
        since: "6.0.0",
        summary: "Makes a password.",
        syntax: "[bits:int]",
        ..row("genpass", -2, NOSCRIPT | ANYWHERE)
    },
    Command {
        since: "6.0.0",
        summary: "Shows what a user may do.",
        complexity: "O(N) where N is the number of rules of the user",
        syntax: "username",
        history: &[
            ("6.2.0", "Tells the patterns of channels."),
            (
                "7.0.0",
                "Tells selectors, and patterns of keys and channels as rules.",
            ),
        ],
        ..row("getuser", 3, ADMINISTER)
    },
    Command {
        since: "6.0.0",
        summary: "Lists the subcommands.",
        ..row("help", 2, ANYWHERE)
    },
    Command {
        since: "6.0.0",
        summary: "Shows the rules of all users.",
        complexity: USERS,
        ..row("list", 2, ADMINISTER)
    },
    Command {
        since: "6.0.0",
        summary: "Reads users from the ACL file.",
        complexity: USERS,
        ..row("load", 2, ADMINISTER)
    },
    Command {
        since: "6.0.0",
        summary: "Shows who was refused what.",
        complexity: "O(N) where N is the number of entries shown",
        syntax: "[operation=count|RESET]",
        ..row("log", -2, ADMINISTER)
    },
    Command {
        since: "6.0.0",
        summary: "Writes users to the ACL file.",
        complexity: USERS,
        ..row("save", 2, ADMINISTER)
    },
    Command {
        since: "6.0.0",
        summary: "Changes what a user may do.",
        complexity: "O(N) where N is the number of rules",
        syntax: "username [rule ...]",
        history: &[
            ("6.2.0", "Takes patterns of channels."),
            (
                "7.0.0",
                "Takes selectors, and rights to read or write keys.",
            ),
        ],
        ..row("setuser", -3, ADMINISTER)
    },
    Command {
        since: "6.0.0",
        summary: "Lists the names of users.",
        complexity: USERS,
        ..row("users", 2, ADMINISTER)
    },
    Command {
        since: "6.0.0",
        summary: "Replies with the user of this connection.",
        ..row("whoami", 2, NOSCRIPT | ANYWHERE)
    },
];

/// For ACL HELP.
pub const HELP: &[(&str, &str)] = &[
    (
        "CAT [<category>]",
        "Show categories, or the commands of one.",
    ),
    (
        "DELUSER <username> [<username> ...]",
        "Remove users, closing their connections.",
    ),
    (
        "DRYRUN <username> <command> [<arg> ...]",
        "Tell whether a user may run a command.",
    ),
    ("GENPASS [<bits>]", "Make a password."),
    ("GETUSER <username>", "Show what a user may do."),
    ("LIST", "Show the rules of all users."),
    ("LOAD", "Read users from the ACL file."),
    ("LOG [<count> | RESET]", "Show who was refused what."),
    ("SAVE", "Write users to the ACL file."),
    (
        "SETUSER <username> <attribute> [<attribute> ...]",
        "Make a user, or change what it may do.",
    ),
    ("USERS", "Show the names of users."),
    ("WHOAMI", "Show the user of this connection."),
];
