//! SERVER: the server itself. These are jobs: the server room performs them.

use super::flags::*;
use super::help::help;
use super::keys::{self, KeySpec, Keys};
use super::{Command, Group, Job, Run, Standing};
use crate::keyspace::Tx;
use crate::resp::{Args, CmdError, CmdResult, Writer};

const fn row(name: &'static str, arity: i32, flags: Flags, job: Job) -> Command {
    Command {
        name,
        arity,
        flags,
        group: Group::Server,
        run: Run::Job(job),
        ..Command::DEFAULT
    }
}

const fn container(name: &'static str, arity: i32, sub: &'static [Command]) -> Command {
    Command {
        name,
        arity,
        sub,
        group: Group::Server,
        ..Command::DEFAULT
    }
}

const ADMINISTER: Flags = ADMIN | NOSCRIPT | LOADING | STALE;
const ANYWHERE: Flags = LOADING | STALE;
/// What proxies make of figures that each node has its own of.
const SPIKES: &[&str] = &[
    "nondeterministic_output",
    "request_policy:all_nodes",
    "response_policy:special",
];
const MEMORY_TIPS: &[&str] = &[
    "nondeterministic_output",
    "request_policy:all_shards",
    "response_policy:special",
];
const USAGE_KEY: Keys = &[KeySpec::range(keys::RO, 2, 0, 1)];

pub const COMMANDS: &[Command] = &[
    Command {
        since: "1.0.0",
        summary: "Rewrites the append-only file while commands go on being served.",
        acl: ADMINS | DANGEROUS,
        ..row(
            "bgrewriteaof",
            1,
            ADMIN | NOSCRIPT | NO_ASYNC_LOADING,
            Job::BgRewriteAof,
        )
    },
    Command {
        since: "1.0.0",
        summary: "Saves the data set to disk while commands go on being served.",
        acl: ADMINS | DANGEROUS,
        syntax: "[SCHEDULE @3.2.2]",
        history: &[("3.2.2", "Takes `SCHEDULE`.")],
        ..row(
            "bgsave",
            -1,
            ADMIN | NOSCRIPT | NO_ASYNC_LOADING,
            Job::BgSave,
        )
    },
    Command {
        since: "2.8.13",
        summary: "Describes the commands of this server.",
        complexity: "O(N) where N is the number of commands",
        sub: COMMAND,
        acl: CONNECTION,
        tips: &["nondeterministic_output_order"],
        ..row("command", -1, ANYWHERE, Job::Command)
    },
    Command {
        since: "2.0.0",
        summary: "Groups commands about the configuration.",
        complexity: "Depends on subcommand.",
        ..container("config", -2, CONFIG)
    },
    Command {
        since: "1.0.0",
        summary: "Helps testing the server.",
        complexity: "Depends on subcommand.",
        standing: Standing::Internal,
        ..row("debug", -2, ADMINISTER, Job::Debug)
    },
    Command {
        since: "1.0.0",
        summary: "Replies with figures about the server.",
        tips: &[
            "nondeterministic_output",
            "request_policy:all_shards",
            "response_policy:special",
        ],
        acl: DANGEROUS,
        syntax: "[section ...]",
        history: &[("7.0.0", "Takes more than one `section`.")],
        ..row("info", -1, ANYWHERE, Job::Info)
    },
    Command {
        since: "1.0.0",
        summary: "Replies with the time of the last save.",
        tips: &["nondeterministic_output"],
        acl: ADMINS | DANGEROUS,
        ..row("lastsave", 1, ANYWHERE | FAST, Job::LastSave)
    },
    Command {
        since: "2.8.13",
        summary: "Groups commands about latency.",
        complexity: "Depends on subcommand.",
        ..container("latency", -2, LATENCY)
    },
    Command {
        since: "5.0.0",
        summary: "Shows a picture and the version.",
        complexity: "",
        syntax: "[VERSION version:int]",
        ..row("lolwut", -1, READONLY | FAST, Job::Lolwut)
    },
    Command {
        since: "4.0.0",
        summary: "Groups commands about memory.",
        complexity: "Depends on subcommand.",
        ..container("memory", -2, MEMORY)
    },
    Command {
        since: "1.0.0",
        summary: "Shows all commands as they are run.",
        complexity: "",
        ..row("monitor", 1, ADMINISTER, Job::Monitor)
    },
    Command {
        since: "2.8.12",
        summary: "Replies with the server's role in replication.",
        acl: ADMINS | DANGEROUS,
        ..row("role", 1, NOSCRIPT | ANYWHERE | FAST, Job::Role)
    },
    Command {
        since: "1.0.0",
        summary: "Saves the data set to disk and replies when that is done.",
        complexity: "O(N) where N is the number of keys",
        ..row(
            "save",
            1,
            ADMIN | NOSCRIPT | NO_ASYNC_LOADING | NO_MULTI,
            Job::Save,
        )
    },
    Command {
        since: "1.0.0",
        summary: "Stops the server.",
        syntax: "[NOSAVE|SAVE] [NOW @7.0.0] [FORCE @7.0.0] [ABORT @7.0.0]",
        history: &[("7.0.0", "Takes `NOW`, `FORCE` and `ABORT`.")],
        ..row(
            "shutdown",
            -1,
            ADMINISTER | NO_MULTI | ALLOW_BUSY,
            Job::Shutdown,
        )
    },
    Command {
        since: "2.2.12",
        summary: "Groups commands about the slow log.",
        complexity: "Depends on subcommand.",
        ..container("slowlog", -2, SLOWLOG)
    },
    Command {
        since: "2.6.0",
        summary: "Replies with the server's time.",
        tips: &["nondeterministic_output"],
        ..row("time", 1, ANYWHERE | FAST, Job::Time)
    },
];

const COMMAND: &[Command] = &[
    Command {
        since: "2.8.13",
        summary: "Counts the commands.",
        acl: CONNECTION,
        ..row("count", 2, ANYWHERE, Job::Command)
    },
    Command {
        since: "7.0.0",
        summary: "Documents commands.",
        complexity: "O(N) where N is the number of commands",
        tips: &["nondeterministic_output_order"],
        acl: CONNECTION,
        syntax: "[command-name ...]",
        ..row("docs", -2, ANYWHERE, Job::Command)
    },
    Command {
        since: "2.8.13",
        summary: "Finds the keys of a request.",
        complexity: "O(N) where N is the number of arguments",
        acl: CONNECTION,
        ..row("getkeys", -4, ANYWHERE, Job::Command)
    },
    Command {
        since: "7.0.0",
        summary: "Finds the keys of a request and what is done to them.",
        complexity: "O(N) where N is the number of arguments",
        acl: CONNECTION,
        ..row("getkeysandflags", -4, ANYWHERE, Job::Command)
    },
    Command {
        since: "5.0.0",
        summary: "Lists the subcommands.",
        acl: CONNECTION,
        ..row("help", 2, ANYWHERE, Job::Command)
    },
    Command {
        since: "2.8.13",
        summary: "Describes commands.",
        complexity: "O(N) where N is the number of commands",
        tips: &["nondeterministic_output_order"],
        acl: CONNECTION,
        syntax: "[command-name ...]",
        history: &[("7.0.0", "Describes every command if no name is given.")],
        ..row("info", -2, ANYWHERE, Job::Command)
    },
    Command {
        since: "7.0.0",
        summary: "Lists the names of commands.",
        complexity: "O(N) where N is the number of commands",
        tips: &["nondeterministic_output_order"],
        acl: CONNECTION,
        syntax: "[FILTERBY filterby=(MODULE module-name|ACLCAT category|PATTERN pattern)]",
        ..row("list", -2, ANYWHERE, Job::Command)
    },
];

const CONFIG: &[Command] = &[
    Command {
        since: "2.0.0",
        summary: "Replies with parameters that match patterns.",
        complexity: "O(N) where N is the number of parameters",
        syntax: "parameter=(parameter) ...",
        history: &[("7.0.0", "Takes more than one pattern.")],
        ..row("get", -3, ADMINISTER, Job::ConfigGet)
    },
    Command {
        since: "5.0.0",
        summary: "Lists the subcommands.",
        ..row("help", 2, ANYWHERE, Job::ConfigGet)
    },
    Command {
        since: "2.0.0",
        summary: "Sets the counters of INFO back to zero.",
        ..row("resetstat", 2, ADMINISTER, Job::ConfigResetStat)
    },
    Command {
        since: "2.8.0",
        summary: "Writes the parameters to the configuration file.",
        ..row("rewrite", 2, ADMINISTER, Job::ConfigRewrite)
    },
    Command {
        since: "2.0.0",
        summary: "Changes parameters.",
        complexity: "O(N) where N is the number of parameters",
        tips: &["request_policy:all_nodes", "response_policy:all_succeeded"],
        syntax: "(parameter value) ...",
        history: &[("7.0.0", "Takes more than one parameter.")],
        ..row("set", -4, ADMINISTER, Job::ConfigSet)
    },
];

const LATENCY: &[Command] = &[
    Command {
        since: "2.8.13",
        summary: "Explains what was slow, and what may help.",
        tips: SPIKES,
        ..row("doctor", 2, ADMINISTER, Job::Latency)
    },
    Command {
        since: "2.8.13",
        summary: "Draws the latencies of an event.",
        tips: SPIKES,
        syntax: "event",
        ..row("graph", 3, ADMINISTER, Job::Latency)
    },
    Command {
        since: "2.8.13",
        summary: "Lists the subcommands.",
        ..row("help", 2, ANYWHERE, Job::Latency)
    },
    Command {
        since: "7.0.0",
        summary: "Replies with the distribution of the latencies of commands.",
        complexity: "O(N) where N is the number of commands",
        tips: &[
            "nondeterministic_output",
            "request_policy:all_nodes",
            "response_policy:special",
        ],
        syntax: "[command ...]",
        ..row("histogram", -2, ADMINISTER, Job::Latency)
    },
    Command {
        since: "2.8.13",
        summary: "Replies with the latencies of an event.",
        tips: SPIKES,
        syntax: "event",
        ..row("history", 3, ADMINISTER, Job::Latency)
    },
    Command {
        since: "2.8.13",
        summary: "Replies with the last latency of every event.",
        tips: SPIKES,
        ..row("latest", 2, ADMINISTER, Job::Latency)
    },
    Command {
        since: "2.8.13",
        summary: "Forgets the latencies of events.",
        tips: &["request_policy:all_nodes", "response_policy:all_succeeded"],
        syntax: "[event ...]",
        ..row("reset", -2, ADMINISTER, Job::Latency)
    },
];

const MEMORY: &[Command] = &[
    Command {
        since: "4.0.0",
        summary: "Looks for problems with memory.",
        tips: MEMORY_TIPS,
        ..row("doctor", 2, 0, Job::Memory)
    },
    Command {
        since: "4.0.0",
        summary: "Lists the subcommands.",
        ..row("help", 2, ANYWHERE, Job::Memory)
    },
    Command {
        since: "4.0.0",
        summary: "Shows what each shard has of the memory.",
        tips: MEMORY_TIPS,
        ..row("malloc-stats", 2, 0, Job::Memory)
    },
    Command {
        since: "4.0.0",
        summary: "Asks the allocator to give memory back.",
        tips: &["request_policy:all_shards", "response_policy:all_succeeded"],
        ..row("purge", 2, 0, Job::Memory)
    },
    Command {
        since: "4.0.0",
        summary: "Shows what memory is used for.",
        tips: MEMORY_TIPS,
        ..row("stats", 2, 0, Job::Memory)
    },
    Command {
        since: "4.0.0",
        summary: "Estimates the memory of a key.",
        complexity: "O(1)",
        keys: USAGE_KEY,
        run: Run::Key(memory_usage),
        syntax: "key [SAMPLES count]",
        ..row("usage", -3, READONLY, Job::Memory)
    },
];

const SLOWLOG: &[Command] = &[
    Command {
        since: "2.2.12",
        summary: "Shows entries of the slow log.",
        complexity: "O(N) where N is the number of entries",
        tips: &["request_policy:all_nodes", "nondeterministic_output"],
        syntax: "[count]",
        history: &[("4.0.0", "Tells the client's address and name.")],
        ..row("get", -2, ADMIN | ANYWHERE, Job::Slowlog)
    },
    Command {
        since: "6.2.0",
        summary: "Lists the subcommands.",
        ..row("help", 2, ANYWHERE, Job::Slowlog)
    },
    Command {
        since: "2.2.12",
        summary: "Counts the entries of the slow log.",
        tips: &[
            "request_policy:all_nodes",
            "response_policy:agg_sum",
            "nondeterministic_output",
        ],
        ..row("len", 2, ADMIN | ANYWHERE, Job::Slowlog)
    },
    Command {
        since: "2.2.12",
        summary: "Removes all entries of the slow log.",
        complexity: "O(N) where N is the number of entries",
        tips: &["request_policy:all_nodes", "response_policy:all_succeeded"],
        ..row("reset", 2, ADMIN | ANYWHERE, Job::Slowlog)
    },
];

fn memory_usage(tx: &mut Tx, args: &Args, out: &mut Writer) -> CmdResult {
    // SAMPLES, which may be given again and again, has no effect: sizes are known exactly.
    for at in (3..args.len()).step_by(2) {
        if !args.is(at, "samples") || at + 1 >= args.len() || args.int(at + 1)? < 0 {
            return Err(CmdError::Syntax);
        }
    }
    match tx.memory_usage(args.get(2)) {
        Some(bytes) => out.int(bytes as i64),
        None => out.null(),
    }
}

/// Kept beside the rows it lists: HELP of CONFIG.
pub fn config_help(args: &Args, out: &mut Writer) -> CmdResult {
    help(
        out,
        args,
        &[
            ("GET <pattern>", "Show parameters that match a pattern."),
            ("SET <directive> <value>", "Change parameters, all or none."),
            ("RESETSTAT", "Set the counters of INFO back to zero."),
            ("REWRITE", "Write the parameters to the configuration file."),
        ],
    )
}
