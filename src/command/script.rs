//! EVAL and its family: what they are. The session runs them.

use super::flags::*;
use super::help::help;
use super::keys::{self, KeySpec, Keys};
use super::{Client, Command, Group, Job, Run};
use crate::resp::{Args, CmdError, CmdResult, Writer};

/// What a command does with scripts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Script {
    /// Runs one; `by_name`: that is known by its SHA-1. `read_only`: it may not write.
    Eval {
        by_name: bool,
        read_only: bool,
    },
    /// Runs a function.
    Call {
        read_only: bool,
    },
    Load,
    Exists,
    Flush,
    Debug,
}

impl Script {
    /// Whether it runs something.
    pub fn runs(self) -> bool {
        matches!(self, Script::Eval { .. } | Script::Call { .. })
    }
}

/// Arguments of EVAL and FCALL before the number of keys.
const NUMKEYS: usize = 2;

/// The same of an FCALL, whose number is complained about in another way.
///
/// # Errors
/// If their number is none, or more than there are arguments.
pub fn function_keys(args: &Args) -> Result<std::ops::Range<usize>, CmdError> {
    match args.int(NUMKEYS) {
        Ok(_) => declared_keys(args),
        Err(_) => Err(CmdError::Text("ERR Bad number of keys provided")),
    }
}

/// Where the keys of an EVAL stand: from its third argument on, so many.
///
/// # Errors
/// If their number is none, or more than there are arguments.
pub fn declared_keys(args: &Args) -> Result<std::ops::Range<usize>, CmdError> {
    let from = NUMKEYS + 1;
    match usize::try_from(args.int(NUMKEYS)?) {
        Ok(count) if count <= args.len() - from => Ok(from..from + count),
        Ok(_) => Err(CmdError::Text(
            "ERR Number of keys can't be greater than number of args",
        )),
        Err(_) => Err(CmdError::Text("ERR Number of keys can't be negative")),
    }
}

const UNKNOWN: KeySpec = KeySpec::count(keys::RW | keys::ACCESS | keys::UPDATE, NUMKEYS, 0, 1, 1);
const READ: KeySpec = KeySpec::count(keys::RO | keys::ACCESS, NUMKEYS, 0, 1, 1);
const EVAL_KEYS: Keys =
    &[UNKNOWN
        .noted("We cannot tell how the keys will be used so we assume the worst, RW and UPDATE")];
const EVAL_RO_KEYS: Keys = &[
    READ.noted("We cannot tell how the keys will be used so we assume the worst, RO and ACCESS")
];
const EVALSHA_KEYS: Keys = &[UNKNOWN];
const EVALSHA_RO_KEYS: Keys = &[READ];

const EVAL: Flags = NOSCRIPT | STALE | SKIP_MONITOR | NO_MANDATORY_KEYS | MOVABLEKEYS;

const fn row(name: &'static str, arity: i32, flags: Flags, what: Script) -> Command {
    Command {
        name,
        arity,
        flags,
        group: Group::Scripting,
        acl: SCRIPTING,
        run: Run::Script(what),
        ..Command::DEFAULT
    }
}

const fn eval(
    name: &'static str,
    since: &'static str,
    by_name: bool,
    read_only: bool,
    summary: &'static str,
) -> Command {
    let flags = if read_only { READONLY } else { MAY_REPLICATE };
    Command {
        since,
        summary,
        complexity: "Depends on the script that is executed.",
        keys: match (by_name, read_only) {
            (false, false) => EVAL_KEYS,
            (false, true) => EVAL_RO_KEYS,
            (true, false) => EVALSHA_KEYS,
            (true, true) => EVALSHA_RO_KEYS,
        },
        ..row(name, -3, EVAL | flags, Script::Eval { by_name, read_only })
    }
}

const fn fcall(name: &'static str, read_only: bool, summary: &'static str) -> Command {
    let flags = if read_only { READONLY } else { MAY_REPLICATE };
    Command {
        since: "7.0.0",
        summary,
        complexity: "Depends on the function that is executed.",
        keys: if read_only { EVAL_RO_KEYS } else { EVAL_KEYS },
        ..row(name, -3, EVAL | flags, Script::Call { read_only })
    }
}

pub const COMMANDS: &[Command] = &[
    Command {
        syntax: "function numkeys [key ...] [arg ...]",
        ..fcall("fcall", false, "Runs a function.")
    },
    Command {
        syntax: "function numkeys [key ...] [arg ...]",
        ..fcall("fcall_ro", true, "Runs a function that may not write.")
    },
    Command {
        syntax: "script numkeys [key ...] [arg ...]",
        ..eval("eval", "2.6.0", false, false, "Runs a Lua script.")
    },
    Command {
        syntax: "script numkeys [key ...] [arg ...]",
        ..eval(
            "eval_ro",
            "7.0.0",
            false,
            true,
            "Runs a Lua script that may not write.",
        )
    },
    Command {
        syntax: "sha1 numkeys [key ...] [arg ...]",
        ..eval(
            "evalsha",
            "2.6.0",
            true,
            false,
            "Runs a Lua script that the server knows.",
        )
    },
    Command {
        syntax: "sha1 numkeys [key ...] [arg ...]",
        ..eval(
            "evalsha_ro",
            "7.0.0",
            true,
            true,
            "Runs a Lua script that the server knows and that may not write.",
        )
    },
    Command {
        since: "2.6.0",
        summary: "Groups commands about Lua scripts.",
        complexity: "Depends on subcommand.",
        sub: SCRIPT,
        run: Run::Container,
        acl: 0,
        ..row("script", -2, 0, Script::Debug)
    },
];

const SCRIPT: &[Command] = &[
    Command {
        since: "3.2.0",
        summary: "Sets how the next scripts are debugged.",
        syntax: "mode=(YES|SYNC|NO)",
        ..row("debug", 3, NOSCRIPT, Script::Debug)
    },
    Command {
        since: "2.6.0",
        summary: "Replies with which scripts the server knows.",
        complexity: "O(N) where N is the number of scripts asked for",
        tips: &[
            "request_policy:all_shards",
            "response_policy:agg_logical_and",
        ],
        syntax: "sha1 ...",
        ..row("exists", -3, NOSCRIPT, Script::Exists)
    },
    Command {
        since: "2.6.0",
        summary: "Forgets all scripts.",
        complexity: "O(N) where N is the number of scripts",
        tips: &["request_policy:all_nodes", "response_policy:all_succeeded"],
        syntax: "[async=(ASYNC|SYNC) @6.2.0]",
        history: &[("6.2.0", "Takes `ASYNC` and `SYNC`.")],
        ..row("flush", -2, NOSCRIPT, Script::Flush)
    },
    Command {
        since: "5.0.0",
        summary: "Lists the subcommands.",
        run: Run::Client(show_help),
        ..row("help", 2, LOADING | STALE, Script::Debug)
    },
    Command {
        since: "2.6.0",
        summary: "Ends the script that is running.",
        tips: &["request_policy:all_shards", "response_policy:one_succeeded"],
        run: Run::Job(Job::ScriptKill),
        ..row("kill", 2, NOSCRIPT | ALLOW_BUSY, Script::Debug)
    },
    Command {
        since: "2.6.0",
        summary: "Makes a script known.",
        complexity: "O(N) where N is the number of bytes of the script",
        tips: &["request_policy:all_nodes", "response_policy:all_succeeded"],
        syntax: "script",
        ..row("load", 3, NOSCRIPT | STALE, Script::Load)
    },
];

/// SCRIPT HELP
fn show_help(_client: &mut Client, args: &Args, out: &mut Writer) -> CmdResult {
    help(
        out,
        args,
        &[
            (
                "DEBUG (YES|SYNC|NO)",
                "How scripts are debugged: not at all.",
            ),
            (
                "EXISTS <sha1> [<sha1> ...]",
                "Which scripts the server knows.",
            ),
            ("FLUSH [ASYNC|SYNC]", "Forgets all scripts."),
            ("KILL", "Ends the script that is running."),
            ("LOAD <script>", "Makes a script known, without running it."),
        ],
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resp::ArgBuf;

    #[test]
    fn keys_are_counted() {
        let keys = |words: &[&str]| {
            let args: ArgBuf = words.iter().map(|word| word.as_bytes()).collect();
            declared_keys(&args.as_args()).map_err(|error| error.to_string())
        };
        assert_eq!(keys(&["eval", "x", "0"]), Ok(3..3));
        assert_eq!(keys(&["eval", "x", "1", "a", "b"]), Ok(3..4));
        for (count, error) in [
            (
                "2",
                "ERR Number of keys can't be greater than number of args",
            ),
            ("-1", "ERR Number of keys can't be negative"),
            ("x", "ERR value is not an integer or out of range"),
        ] {
            assert_eq!(keys(&["eval", "x", count, "a"]), Err(error.to_owned()));
        }
    }
}
