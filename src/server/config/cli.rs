//! The command line: `pinion [redis.conf | -] [--option value ...]`, or `pinion TOOL FILE`.
//!
//! clap owns what is asked of the program instead of a server: help, version, self-tests. Everything
//! else is redis.conf in another spelling (`--save 900 1` is the line `save 900 1`), and the table of
//! parameters is its only grammar.

use clap::{Arg, ArgAction, Command, value_parser};

use super::bytes::{bytes_of, text_of};
use crate::resp::split_quoted;
use crate::server::monitor::quote;

/// What the command line asks for.
#[derive(Debug, PartialEq, Eq)]
pub enum Invocation {
    Serve(Sources),
    /// Say something and leave.
    Tell {
        text: String,
        code: u8,
    },
    /// Tell whether this machine can run the server, and leave.
    CheckSystem,
    /// Look into a file, and leave.
    Tool {
        tool: Tool,
        path: String,
    },
}

/// What the program does beside serving.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tool {
    /// Offers to cut off a torn end, or cuts off what was written after a time, in unix seconds.
    CheckAof {
        fix: bool,
        until_s: Option<i64>,
    },
    CheckRdb,
    DumpRdb,
}

/// The words that ask for them, in the place of a configuration file.
const TOOLS: &[(&str, Tool)] = &[
    (
        "check-aof",
        Tool::CheckAof {
            fix: false,
            until_s: None,
        },
    ),
    ("check-rdb", Tool::CheckRdb),
    ("dump-rdb", Tool::DumpRdb),
];

/// Where the configuration comes from; what comes later wins.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Sources {
    pub file: Option<String>,
    pub stdin: bool,
    /// The options as lines of a file.
    pub options: String,
}

/// Reads the command line without the program's name; its words are texts that stand for bytes.
pub fn parse(args: &[String]) -> Invocation {
    let word = args.first().map(String::as_str);
    if let Some(&(name, tool)) = TOOLS.iter().find(|(name, _)| word == Some(name)) {
        return match args {
            [_, fix, path] if fix == "--fix" && name == "check-aof" => Invocation::Tool {
                tool: Tool::CheckAof {
                    fix: true,
                    until_s: None,
                },
                path: path.clone(),
            },
            [_, until, time, path] if until == "--truncate-to-timestamp" && name == "check-aof" => {
                match time.parse() {
                    Ok(until_s) => Invocation::Tool {
                        tool: Tool::CheckAof {
                            fix: false,
                            until_s: Some(until_s),
                        },
                        path: path.clone(),
                    },
                    Err(_) => Invocation::Tell {
                        text: "Invalid timestamp, aborting...\n".into(),
                        code: 1,
                    },
                }
            }
            _ if name == "check-aof" && args.len() != 2 => Invocation::Tell {
                text: "Usage: pinion check-aof [--fix|--truncate-to-timestamp $timestamp] \
                       <file.manifest|file.aof>\n"
                    .into(),
                code: 1,
            },
            [_, path] => Invocation::Tool {
                tool,
                path: path.clone(),
            },
            _ => Invocation::Tell {
                text: format!("Usage: pinion {name} <rdb-file-name>\n"),
                code: 1,
            },
        };
    }
    match word {
        Some("-v" | "--version" | "-h" | "--help" | "--test-memory" | "--check-system") => {
            about(args)
        }
        Some("--sentinel") => Invocation::Tell {
            text: "Sentinel mode is not supported: run redis-sentinel.\n".into(),
            code: 1,
        },
        _ => Invocation::Serve(sources(args)),
    }
}

/// Shaped like the line of redis-server, which scripts take apart. The bits are those of every machine
/// that io_uring and this server run on.
const VERSION: &str = concat!(
    "v=",
    env!("CARGO_PKG_VERSION"),
    " sha=00000000:0 malloc=mimalloc bits=64"
);

/// Everything that clap knows.
fn command() -> Command {
    Command::new("Pinion server")
        .bin_name("pinion")
        .version(VERSION)
        .disable_version_flag(true)
        .override_usage(
            "pinion [redis.conf | -] [--option value ...]\n       \
             pinion check-aof [--fix | --truncate-to-timestamp <unix seconds>] <manifest | file>
       \
             pinion check-rdb <file>      tells whether a file is intact\n       \
             pinion dump-rdb <file>       lists its keys, one JSON object per line\n       \
             pinion [--help | --version | --check-system | --test-memory <megabytes>]",
        )
        .arg(
            Arg::new("version")
                .short('v')
                .long("version")
                .action(ArgAction::Version)
                .help("Print the version"),
        )
        .arg(
            Arg::new("check-system")
                .long("check-system")
                .action(ArgAction::SetTrue)
                .help("Tell whether this machine can run the server"),
        )
        .arg(
            Arg::new("test-memory")
                .long("test-memory")
                .value_name("megabytes")
                .value_parser(value_parser!(u64))
                .help("Not supported: names a tool that tests memory"),
        )
        .after_help(
            "Every line of redis.conf can be given as an option:\n  \
             pinion                               (port 6379, one shard per CPU)\n  \
             pinion --port 7000 --shards 2 --cpus 0-1\n  \
             pinion /etc/redis.conf --save 900 1 --loglevel verbose\n  \
             echo 'maxmemory 1gb' | pinion - --port 7000",
        )
}

fn about(args: &[String]) -> Invocation {
    let words = args.iter().map(String::as_str);
    let matched = command().try_get_matches_from(std::iter::once("pinion").chain(words));
    match matched {
        // Help and version are errors to clap, with an exit code of 0.
        Err(told) => Invocation::Tell {
            text: told.to_string(),
            code: told.exit_code() as u8,
        },
        Ok(matches) if matches.get_flag("check-system") => Invocation::CheckSystem,
        Ok(_) => Invocation::Tell {
            text: "Testing memory is not part of this program: use memtester or memtest86+.\n"
                .into(),
            code: 1,
        },
    }
}

/// Collects the options as Redis does. An option's first value may begin with dashes, a later one
/// not: `--replica-announce-ip --x` sets, `--save 900 1 --port 7000` begins another option.
fn sources(args: &[String]) -> Sources {
    let mut sources = Sources::default();
    let mut rest = args;
    if let Some((first, tail)) = args.split_first()
        && !first.starts_with('-')
    {
        sources.file = Some(first.clone());
        rest = tail;
    }
    let last = rest.len().saturating_sub(1);
    // Whether the option before has a value, so that dashes begin the next one.
    let mut complete = true;
    for (at, arg) in rest.iter().enumerate() {
        let outermost = at == last || at == 0 && sources.file.is_none();
        if arg == "-" && outermost {
            sources.stdin = true;
            continue;
        }
        let out = &mut sources.options;
        let Some(option) = arg.strip_prefix("--").filter(|_| complete) else {
            let mut quoted = Vec::new();
            quote(&bytes_of(arg), &mut quoted);
            out.push_str(&text_of(&quoted));
            out.push(' ');
            complete = true;
            continue;
        };
        if !out.is_empty() {
            out.push('\n');
        }
        out.push_str(option);
        out.push(' ');
        // `--port 7000` in one argument brings its value along.
        complete = split_quoted(&bytes_of(arg)).is_none_or(|words| words.len() != 1);
        let alone = rest.get(at + 1).is_none_or(|next| next.starts_with("--"));
        if !complete && alone && option.eq_ignore_ascii_case("save") {
            // An array of arguments whose save points are empty.
            out.push_str("\"\"");
            complete = true;
        }
    }
    sources
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(args: &[&str]) -> Invocation {
        let args: Vec<String> = args.iter().map(|arg| (*arg).to_owned()).collect();
        parse(&args)
    }

    fn served(args: &[&str]) -> (Option<String>, bool, String) {
        match parsed(args) {
            Invocation::Serve(sources) => (sources.file, sources.stdin, sources.options),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn options_are_lines_of_a_file() {
        for (args, options) in [
            (&[][..], ""),
            (&["--port", "7000"], "port \"7000\" "),
            (&["--port 7000", "--hz", "5"], "port 7000 \nhz \"5\" "),
            (
                &["--save", "900", "1", "--port", "1"],
                "save \"900\" \"1\" \nport \"1\" ",
            ),
            (&["--bind", "::1", "1.2.3.4"], "bind \"::1\" \"1.2.3.4\" "),
            (&["--save", ""], "save \"\" "),
            (&["--save", "--port", "1"], "save \"\"\nport \"1\" "),
            (&["--port", "1", "--save"], "port \"1\" \nsave \"\""),
            (&["--requirepass", "--x"], "requirepass \"--x\" "),
            (&["--requirepass", "a\"b"], "requirepass \"a\\\"b\" "),
            (
                &["--shards", "2", "--cpus", "0-1"],
                "shards \"2\" \ncpus \"0-1\" ",
            ),
        ] {
            assert_eq!(served(args), (None, false, options.into()), "{args:?}");
        }
    }

    #[test]
    fn a_file_and_standard_input_come_first_or_last() {
        assert_eq!(
            served(&["a.conf"]),
            (Some("a.conf".into()), false, "".into())
        );
        assert_eq!(
            served(&["-", "--hz", "1"]),
            (None, true, "hz \"1\" ".into())
        );
        assert_eq!(
            served(&["a.conf", "-"]),
            (Some("a.conf".into()), true, "".into())
        );
        assert_eq!(
            served(&["--hz", "1", "-"]),
            (None, true, "hz \"1\" ".into())
        );
        assert_eq!(
            served(&["--hz", "-", "1"]),
            (None, false, "hz \"-\" \"1\" ".into())
        );
    }

    #[test]
    fn a_line_that_the_options_spoil_is_told() {
        let Invocation::Serve(sources) = parsed(&["--port", "29872", "-x"]) else {
            panic!("options are served");
        };
        let error = super::super::load(&sources, None).expect_err("two values");
        let told = "line 2\n>>> 'port \"29872\" \"-x\"'\nwrong number of arguments";
        assert!(error.to_string().ends_with(told), "{error}");
    }

    #[test]
    fn questions_about_the_program_are_answered() {
        let Invocation::Tell { text, code } = parsed(&["--version"]) else {
            panic!("the version is told");
        };
        assert!(text.starts_with("Pinion server v=0.1.0 "), "{text}");
        assert!(text.contains("malloc=mimalloc bits=64"), "{text}");
        assert_eq!(code, 0);
        for args in [&["-h"][..], &["--help"]] {
            assert!(matches!(parsed(args), Invocation::Tell { code: 0, .. }));
        }
        assert!(matches!(
            parsed(&["--sentinel"]),
            Invocation::Tell { code: 1, .. }
        ));
        assert!(matches!(
            parsed(&["--test-memory", "1"]),
            Invocation::Tell { code: 1, .. }
        ));
        assert!(matches!(
            parsed(&["--test-memory"]),
            Invocation::Tell { code: 2, .. }
        ));
        assert_eq!(parsed(&["--check-system"]), Invocation::CheckSystem);
    }

    #[test]
    fn a_tool_takes_one_file() {
        let tool = |tool| Invocation::Tool {
            tool,
            path: "a.rdb".into(),
        };
        assert_eq!(parsed(&["check-rdb", "a.rdb"]), tool(Tool::CheckRdb));
        assert_eq!(parsed(&["dump-rdb", "a.rdb"]), tool(Tool::DumpRdb));
        let check = |fix| tool(Tool::CheckAof { fix, until_s: None });
        let until = tool(Tool::CheckAof {
            fix: false,
            until_s: Some(7),
        });
        let words = ["check-aof", "--truncate-to-timestamp", "7", "a.rdb"];
        assert_eq!(parsed(&words), until);
        assert_eq!(parsed(&["check-aof", "a.rdb"]), check(false));
        assert_eq!(parsed(&["check-aof", "--fix", "a.rdb"]), check(true));
        for args in [
            &["check-rdb"][..],
            &["dump-rdb", "a", "b"],
            &["check-aof", "a", "b"],
        ] {
            assert!(matches!(parsed(args), Invocation::Tell { code: 1, .. }));
        }
    }
}
