//! CLIENT: what a connection is told of itself, and what it has done to others. What concerns others
//! are jobs: the server room performs them.

use super::{ANYWHERE, is_plain_word, row, set_name};
use crate::command::client::{Client, ReplyMode};
use crate::command::flags::*;
use crate::command::help::help;
use crate::command::{Command, Job, Run, tracking};
use crate::resp::{Args, CmdError, CmdResult, Writer};

pub(super) const COMMANDS: &[Command] = &[
    Command {
        since: "6.0.0",
        summary: "Tells whether the keys of the next command are tracked.",
        syntax: "mode=(YES|NO)",
        ..row(
            "caching",
            3,
            NOSCRIPT | ANYWHERE,
            Run::Client(tracking::caching),
        )
    },
    Command {
        since: "2.6.9",
        summary: "Replies with the name of the connection.",
        ..row("getname", 2, NOSCRIPT | ANYWHERE, Run::Client(getname))
    },
    Command {
        since: "6.0.0",
        summary: "Replies with the client to which tracking messages are redirected.",
        ..row(
            "getredir",
            2,
            NOSCRIPT | ANYWHERE,
            Run::Client(tracking::getredir),
        )
    },
    Command {
        since: "5.0.0",
        summary: "Lists the subcommands.",
        ..row("help", 2, ANYWHERE, Run::Client(show_help))
    },
    Command {
        since: "5.0.0",
        summary: "Replies with the identifier of the connection.",
        ..row("id", 2, NOSCRIPT | ANYWHERE, Run::Client(id))
    },
    Command {
        since: "6.2.0",
        summary: "Describes the connection.",
        tips: &["nondeterministic_output"],
        ..row("info", 2, NOSCRIPT | ANYWHERE, Run::Job(Job::ClientInfo))
    },
    Command {
        since: "2.4.0",
        summary: "Closes connections.",
        complexity: "O(N) where N is the number of client connections",
        syntax: "filter=(ip:port @-2.8.12|new-format=([ID client-id @2.8.12]|[TYPE \
                 normal_master_slave_pubsub=(NORMAL|MASTER @3.2.0|SLAVE|REPLICA @5.0.0|\
                 PUBSUB) @2.8.12]|[USER username]|[ADDR ip:port]|[LADDR ip:port @6.2.0]|\
                 [SKIPME yes/no]|[MAXAGE maxage:int @7.4.0]) ...)",
        history: &[
            ("2.8.12", "Takes filters by name."),
            ("2.8.12", "Filters by `ID`."),
            ("3.2.0", "Knows the `TYPE` `master`."),
            ("5.0.0", "The `TYPE` `slave` is called `replica`, too."),
            ("6.2.0", "Filters by `LADDR`."),
            ("7.4.0", "Filters by `MAXAGE`."),
        ],
        ..row(
            "kill",
            -3,
            ADMIN | NOSCRIPT | ANYWHERE,
            Run::Job(Job::ClientKill),
        )
    },
    Command {
        since: "2.4.0",
        summary: "Lists connections.",
        complexity: "O(N) where N is the number of client connections",
        tips: &["nondeterministic_output"],
        syntax: "[TYPE (NORMAL|MASTER|REPLICA|PUBSUB) @5.0.0] [ID id=(client-id ...) \
                 @6.2.0]",
        history: &[
            ("2.8.12", "Tells the `id`."),
            ("5.0.0", "Filters by `TYPE`."),
            ("6.0.0", "Tells the `user`."),
            (
                "6.2.0",
                "Tells `argv-mem`, `tot-mem`, `laddr` and `redir`, and filters by `ID`.",
            ),
            ("7.0.0", "Tells `resp`, `multi-mem`, `rbs` and `rbp`."),
            ("7.0.3", "Tells `ssub`."),
        ],
        ..row(
            "list",
            -2,
            ADMIN | NOSCRIPT | ANYWHERE,
            Run::Job(Job::ClientList),
        )
    },
    Command {
        since: "7.0.0",
        summary: "Protects the connection from being closed to save memory.",
        syntax: "enabled=(ON|OFF)",
        ..row(
            "no-evict",
            3,
            ADMIN | NOSCRIPT | ANYWHERE,
            Run::Client(no_evict),
        )
    },
    Command {
        since: "7.2.0",
        summary: "Decides whether the connection's reads count as use of a key.",
        syntax: "enabled=(ON|OFF)",
        ..row("no-touch", 3, NOSCRIPT | ANYWHERE, Run::Client(no_touch))
    },
    Command {
        since: "2.9.50",
        summary: "Suspends commands of clients.",
        syntax: "timeout:int [mode=(WRITE|ALL) @6.2.0]",
        history: &[("6.2.0", "Can suspend writes alone (`WRITE`).")],
        ..row(
            "pause",
            -3,
            ADMIN | NOSCRIPT | ANYWHERE,
            Run::Job(Job::ClientPause),
        )
    },
    Command {
        since: "3.2.0",
        summary: "Decides whether the server replies to commands.",
        syntax: "(ON|OFF|SKIP)",
        ..row("reply", 3, NOSCRIPT | ANYWHERE, Run::Client(reply))
    },
    Command {
        since: "7.2.0",
        summary: "Says which library the client uses, and its version.",
        syntax: "attr=(LIB-NAME libname|LIB-VER libver)",
        ..row("setinfo", 4, NOSCRIPT | ANYWHERE, Run::Client(setinfo))
    },
    Command {
        since: "2.6.9",
        summary: "Names the connection.",
        syntax: "connection-name",
        ..row("setname", 3, NOSCRIPT | ANYWHERE, Run::Client(setname))
    },
    Command {
        since: "6.0.0",
        summary: "Turns tracking of the keys that the connection reads on or off.",
        syntax: "status=(ON|OFF) [REDIRECT client-id] [PREFIX... prefix] [BCAST] \
                 [OPTIN] [OPTOUT] [NOLOOP]",
        ..row(
            "tracking",
            -3,
            NOSCRIPT | ANYWHERE,
            Run::Job(Job::ClientTracking),
        )
    },
    Command {
        since: "6.2.0",
        summary: "Describes the tracking of the connection.",
        ..row(
            "trackinginfo",
            2,
            NOSCRIPT | ANYWHERE,
            Run::Client(tracking::trackinginfo),
        )
    },
    Command {
        since: "5.0.0",
        summary: "Wakes a client that is blocked in a command.",
        complexity: "O(log N) where N is the number of client connections",
        syntax: "client-id [TIMEOUT|ERROR]",
        ..row(
            "unblock",
            -3,
            ADMIN | NOSCRIPT | ANYWHERE,
            Run::Job(Job::ClientUnblock),
        )
    },
    Command {
        since: "6.2.0",
        summary: "Ends the suspension of clients.",
        complexity: "O(N) where N is the number of suspended clients",
        ..row(
            "unpause",
            2,
            ADMIN | NOSCRIPT | ANYWHERE,
            Run::Job(Job::ClientUnpause),
        )
    },
];

fn id(client: &mut Client, _args: &Args, out: &mut Writer) -> CmdResult {
    out.int(client.id as i64)
}

fn getname(client: &mut Client, _args: &Args, out: &mut Writer) -> CmdResult {
    if client.name.is_empty() {
        out.null()
    } else {
        out.bulk(&client.name)
    }
}

fn setname(client: &mut Client, args: &Args, out: &mut Writer) -> CmdResult {
    set_name(client, args.get(2))?;
    out.ok()
}

fn setinfo(client: &mut Client, args: &Args, out: &mut Writer) -> CmdResult {
    let value = args.get(3);
    let field = if args.is(2, "lib-name") {
        &mut client.lib_name
    } else if args.is(2, "lib-ver") {
        &mut client.lib_ver
    } else {
        return Err(CmdError::quoting(&[
            b"ERR Unrecognized option '",
            args.get(2),
            b"'",
        ]));
    };
    if !is_plain_word(value) {
        let name = String::from_utf8_lossy(args.get(2)).to_ascii_lowercase();
        return Err(CmdError::owned(format!(
            "ERR {name} cannot contain spaces, newlines or special characters."
        )));
    }
    *field = value.into();
    out.ok()
}

fn on_or_off(args: &Args, at: usize) -> Result<bool, CmdError> {
    if args.is(at, "on") {
        Ok(true)
    } else if args.is(at, "off") {
        Ok(false)
    } else {
        Err(CmdError::Syntax)
    }
}

fn no_evict(client: &mut Client, args: &Args, out: &mut Writer) -> CmdResult {
    client.no_evict = on_or_off(args, 2)?;
    out.ok()
}

fn no_touch(client: &mut Client, args: &Args, out: &mut Writer) -> CmdResult {
    client.no_touch = on_or_off(args, 2)?;
    out.ok()
}

fn reply(client: &mut Client, args: &Args, out: &mut Writer) -> CmdResult {
    if args.is(2, "on") {
        client.reply = ReplyMode::On;
        out.ok()
    } else if args.is(2, "off") {
        client.reply = ReplyMode::Off;
        Ok(())
    } else if args.is(2, "skip") {
        if client.reply != ReplyMode::Off {
            client.reply = ReplyMode::SkipNext;
        }
        Ok(())
    } else {
        Err(CmdError::Syntax)
    }
}

fn show_help(_client: &mut Client, args: &Args, out: &mut Writer) -> CmdResult {
    help(
        out,
        args,
        &[
            (
                "CACHING (YES|NO)",
                "Track the keys of the next command, or do not.",
            ),
            ("GETNAME", "Reply with the name of this connection."),
            (
                "GETREDIR",
                "Reply with the client that gets this connection's invalidations.",
            ),
            ("ID", "Reply with the identifier of this connection."),
            ("INFO", "Describe this connection."),
            ("KILL <ip:port>", "Close the connection from an address."),
            (
                "KILL <option> <value> [<option> <value> [...]]",
                "Close the connections that match: ID, TYPE, USER, ADDR, LADDR, SKIPME, MAXAGE.",
            ),
            (
                "LIST [options ...]",
                "Describe all connections, or those of a TYPE or an ID.",
            ),
            (
                "NO-EVICT (ON|OFF)",
                "Protect this connection from eviction.",
            ),
            (
                "NO-TOUCH (ON|OFF)",
                "Leave access times and frequencies of keys alone.",
            ),
            (
                "PAUSE <timeout> [WRITE|ALL]",
                "Suspend commands for that many milliseconds.",
            ),
            ("REPLY (ON|OFF|SKIP)", "Control whether replies are sent."),
            (
                "SETINFO <LIB-NAME|LIB-VER> <value>",
                "Describe the client library.",
            ),
            ("SETNAME <name>", "Name this connection."),
            (
                "TRACKING (ON|OFF) [REDIRECT <id>] [BCAST] [PREFIX <prefix> [...]]",
                "Control server-assisted client caching.",
            ),
            ("TRACKINGINFO", "Describe this connection's tracking."),
            (
                "UNBLOCK <clientid> [TIMEOUT|ERROR]",
                "Wake a blocked client.",
            ),
            ("UNPAUSE", "End a suspension."),
        ],
    )
}

#[cfg(test)]
mod tests {
    use super::super::tests::reply as reply_of;
    use super::*;

    #[test]
    fn connections_have_names_and_may_skip_replies() {
        let mut client = Client::default();
        assert_eq!(
            reply_of(&mut client, setname, "CLIENT SETNAME a\tb"),
            "-ERR Client names cannot contain spaces, newlines or special characters."
        );
        assert_eq!(
            reply_of(&mut client, setname, "CLIENT SETNAME me"),
            "+OK\r\n"
        );
        assert_eq!(
            reply_of(&mut client, getname, "CLIENT GETNAME"),
            "$2\r\nme\r\n"
        );
        assert_eq!(reply_of(&mut client, reply, "CLIENT REPLY SKIP"), "");
        assert_eq!(client.reply, ReplyMode::SkipNext);
    }
}
