//! CONNECTION: what a client says about itself and its connection.

mod client;

use super::client::Client;
use super::flags::*;
use super::{Command, Group, Job, Run};
use crate::resp::{Args, CmdError, CmdResult, Writer};

const fn row(name: &'static str, arity: i32, flags: Flags, run: Run) -> Command {
    Command {
        name,
        arity,
        flags,
        acl: CONNECTION,
        run,
        group: Group::Connection,
        ..Command::DEFAULT
    }
}

const ANYWHERE: Flags = LOADING | STALE;

pub const COMMANDS: &[Command] = &[
    Command {
        since: "1.0.0",
        summary: "Authenticates the connection.",
        complexity: "O(N) where N is the number of passwords defined for the user",
        syntax: "[username @6.0.0] password",
        history: &[("6.0.0", "Takes the name of a user.")],
        ..row(
            "auth",
            -2,
            NOSCRIPT | ANYWHERE | FAST | NO_AUTH | ALLOW_BUSY,
            Run::Job(Job::Auth),
        )
    },
    Command {
        since: "2.4.0",
        summary: "Groups commands about client connections.",
        complexity: "Depends on subcommand.",
        sub: client::COMMANDS,
        ..row("client", -2, 0, Run::Container)
    },
    Command {
        since: "1.0.0",
        summary: "Replies with the text it is given.",
        syntax: "message",
        ..row("echo", 2, ANYWHERE | FAST, Run::Client(echo))
    },
    Command {
        since: "6.0.0",
        summary: "Greets the server, choosing the protocol and optionally authenticating.",
        syntax: "[arguments=protover:int [AUTH (username password)] [SETNAME clientname]]",
        history: &[(
            "6.2.0",
            "Without `protover`, tells of the connection and leaves it as it is.",
        )],
        ..row(
            "hello",
            -1,
            NOSCRIPT | ANYWHERE | FAST | NO_AUTH | ALLOW_BUSY,
            Run::Job(Job::Hello),
        )
    },
    Command {
        since: "1.0.0",
        summary: "Answers, so that the caller knows that the server is alive.",
        tips: &["request_policy:all_shards", "response_policy:all_succeeded"],
        syntax: "[message]",
        ..row("ping", -1, FAST, Run::Client(ping))
    },
    Command {
        since: "1.0.0",
        summary: "Closes the connection.",
        ..row(
            "quit",
            -1,
            ALLOW_BUSY | NOSCRIPT | ANYWHERE | FAST | NO_AUTH,
            Run::Client(quit),
        )
    },
    Command {
        since: "6.2.0",
        summary: "Returns the connection to the state it had when it was made.",
        ..row(
            "reset",
            1,
            NOSCRIPT | ANYWHERE | FAST | NO_AUTH | ALLOW_BUSY,
            Run::Job(Job::Reset),
        )
    },
    Command {
        since: "1.0.0",
        summary: "Changes the database that the connection works on.",
        syntax: "index",
        ..row("select", 2, ANYWHERE | FAST, Run::Client(select))
    },
];

fn echo(_client: &mut Client, args: &Args, out: &mut Writer) -> CmdResult {
    out.bulk(args.get(1))
}

fn ping(client: &mut Client, args: &Args, out: &mut Writer) -> CmdResult {
    if client.only_listens() && args.len() <= 2 {
        out.array(2)?;
        out.bulk(b"pong")?;
        return out.bulk(if args.len() == 2 { args.get(1) } else { b"" });
    }
    match args.len() {
        1 => out.simple("PONG"),
        2 => out.bulk(args.get(1)),
        _ => Err(CmdError::arity("ping")),
    }
}

fn quit(client: &mut Client, _args: &Args, out: &mut Writer) -> CmdResult {
    client.closing = true;
    out.ok()
}

fn select(client: &mut Client, args: &Args, out: &mut Writer) -> CmdResult {
    client.db = args.db(1, client.databases)?;
    out.ok()
}

/// Whether `text` can stand in a line of CLIENT LIST: printable, without spaces.
pub fn is_plain_word(text: &[u8]) -> bool {
    text.iter().all(|byte| (b'!'..=b'~').contains(byte))
}

/// Names the connection; an empty name removes the old one. HELLO SETNAME uses it, too.
pub fn set_name(client: &mut Client, name: &[u8]) -> CmdResult {
    if !is_plain_word(name) {
        return Err(CmdError::Text(
            "ERR Client names cannot contain spaces, newlines or special characters.",
        ));
    }
    client.name = name.into();
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resp::{ArgBuf, Output, Proto};

    pub(super) fn reply(
        client: &mut Client,
        run: fn(&mut Client, &Args, &mut Writer) -> CmdResult,
        line: &str,
    ) -> String {
        let args: ArgBuf = line.split(' ').map(str::as_bytes).collect();
        let mut out = Output::default();
        let result = run(
            client,
            &args.as_args(),
            &mut Writer::new(&mut out, Proto::Resp2),
        );
        match result {
            Ok(()) => String::from_utf8(out.to_vec()).unwrap(),
            Err(error) => format!("-{error}"),
        }
    }

    #[test]
    fn clients_edit_only_themselves() {
        let mut client = Client {
            databases: 16,
            ..Client::default()
        };
        assert_eq!(reply(&mut client, ping, "PING"), "+PONG\r\n");
        assert_eq!(
            reply(&mut client, ping, "PING a b"),
            "-ERR wrong number of arguments for 'ping' command"
        );
        assert_eq!(reply(&mut client, select, "SELECT 15"), "+OK\r\n");
        assert_eq!(client.db, 15);
        assert_eq!(
            reply(&mut client, select, "SELECT 16"),
            "-ERR DB index is out of range"
        );
    }
}
