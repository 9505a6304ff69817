//! MONITOR: which nodes have listeners, and the line they see of a command.

use super::auth;
use crate::command::{Job, Run, Table};
use crate::resp::{ArgBuf, Args};
use crate::session::Peer;
use crate::shard::message::SessionKey;

/// Monitors of all nodes, as one node knows them.
#[derive(Debug, Default)]
pub struct Monitors {
    /// This node's own.
    pub here: Vec<SessionKey>,
    /// Number of monitors per node.
    pub everywhere: Vec<i64>,
}

impl Monitors {
    pub fn new(nodes: usize) -> Monitors {
        Monitors {
            here: Vec::new(),
            everywhere: vec![0; nodes],
        }
    }

    pub fn any(&self) -> bool {
        self.everywhere.iter().any(|&count| count > 0)
    }

    /// Nodes that want to see commands.
    pub fn nodes(&self) -> impl Iterator<Item = usize> + '_ {
        self.everywhere
            .iter()
            .enumerate()
            .filter(|(_, count)| **count > 0)
            .map(|(node, _)| node)
    }
}

/// A request without its secrets, if it has any, for those who look on. Redis: redactClientCommandArgument.
pub fn without_secrets(table: &Table, args: &Args) -> Option<ArgBuf> {
    const SECRET_PARAMETERS: [&str; 5] = [
        "requirepass",
        "masterauth",
        "masteruser",
        "tls-key-file-pass",
        "tls-client-key-file-pass",
    ];
    let entry = table.named(args)?;
    let secrets: Vec<usize> = match (entry.command.run, entry.command.name) {
        (Run::Job(Job::Auth), _) => (1..args.len()).collect(),
        (Run::Job(Job::Acl), "setuser") => (2..args.len()).collect(),
        (Run::Job(Job::Hello), _) => auth::hello_secrets(args),
        (Run::Errand(_), _) => migrate_secrets(args),
        (Run::Job(Job::ConfigSet), _) => {
            let is_secret =
                |&at: &usize| SECRET_PARAMETERS.iter().any(|name| args.is(at - 1, name));
            (3..args.len()).step_by(2).filter(is_secret).collect()
        }
        _ => return None,
    };
    let hide = |(at, arg): (usize, &'_ [u8])| -> Vec<u8> {
        match secrets.contains(&at) {
            true => b"(redacted)".to_vec(),
            false => arg.to_vec(),
        }
    };
    let shown: Vec<Vec<u8>> = args.iter().enumerate().map(hide).collect();
    (!secrets.is_empty()).then(|| shown.iter().map(Vec::as_slice).collect())
}

/// What follows AUTH and AUTH2 of MIGRATE.
fn migrate_secrets(args: &Args) -> Vec<usize> {
    let mut secrets = Vec::new();
    let mut at = 6;
    while at < args.len() && !args.is(at, "keys") {
        let follow = usize::from(args.is(at, "auth")) + 2 * usize::from(args.is(at, "auth2"));
        secrets.extend(at + 1..=at + follow);
        at += 1 + follow;
    }
    secrets
}

/// Where a command comes from, if not from a script.
pub fn address(peer: &Peer) -> String {
    match peer {
        Peer::Tcp { peer, .. } => peer.to_string(),
        Peer::Unix(path) => format!("unix:{path}"),
    }
}

/// Where a command of a script comes from.
pub const OF_SCRIPT: &str = "lua";

/// `+<seconds>.<microseconds> [<db> <addr>] "arg" ...`
pub fn line(now_us: i64, db: u32, addr: &str, args: &Args) -> Vec<u8> {
    let mut line = format!(
        "+{}.{:06} [{db} {addr}]",
        now_us / 1_000_000,
        now_us % 1_000_000
    )
    .into_bytes();
    for arg in args.iter() {
        line.push(b' ');
        quote(arg, &mut line);
    }
    line.extend_from_slice(b"\r\n");
    line
}

/// Quotes as Redis prints arguments for people: sds.c sdscatrepr.
pub fn quote(text: &[u8], line: &mut Vec<u8>) {
    line.push(b'"');
    for &byte in text {
        match byte {
            b'\\' | b'"' => line.extend_from_slice(&[b'\\', byte]),
            b'\n' => line.extend_from_slice(b"\\n"),
            b'\r' => line.extend_from_slice(b"\\r"),
            b'\t' => line.extend_from_slice(b"\\t"),
            7 => line.extend_from_slice(b"\\a"),
            8 => line.extend_from_slice(b"\\b"),
            b' '..=b'~' => line.push(byte),
            _ => line.extend_from_slice(format!("\\x{byte:02x}").as_bytes()),
        }
    }
    line.push(b'"');
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resp::ArgBuf;

    #[test]
    fn a_line_quotes_what_is_not_plain() {
        let args: ArgBuf = [b"SET".as_slice(), b"a \"b\"", b"\x00\xff\n"]
            .into_iter()
            .collect();
        let peer = Peer::Tcp {
            peer: "127.0.0.1:1".parse().unwrap(),
            local: "127.0.0.1:6379".parse().unwrap(),
        };
        let text = line(1_500_000, 3, &address(&peer), &args.as_args());
        assert_eq!(
            String::from_utf8(text).unwrap(),
            "+1.500000 [3 127.0.0.1:1] \"SET\" \"a \\\"b\\\"\" \"\\x00\\xff\\n\"\r\n"
        );
    }

    #[test]
    fn passwords_are_not_shown() {
        let renames = [(b"AUTH".to_vec(), b"LOGIN".to_vec())];
        let table = Table::new(&renames).unwrap();
        let shown = |line: &str| {
            let args: ArgBuf = line.split(' ').map(str::as_bytes).collect();
            let shown = without_secrets(&table, &args.as_args()).unwrap_or(args);
            let words: Vec<&[u8]> = shown.as_args().iter().collect();
            String::from_utf8(words.join(&b' '))
                .unwrap()
                .replace("(redacted)", "*")
        };
        let cases = [
            ("LOGIN x", "LOGIN *"),
            ("login user x", "login * *"),
            (
                "HELLO 3 SETNAME n AUTH user x",
                "HELLO 3 SETNAME n AUTH * *",
            ),
            ("HELLO 3 AUTH", "HELLO 3 AUTH"),
            ("ACL SETUSER u on >x", "ACL SETUSER * * *"),
            ("ACL GETUSER u", "ACL GETUSER u"),
            (
                "CONFIG SET timeout 3 requirepass x",
                "CONFIG SET timeout 3 requirepass *",
            ),
            ("SET auth x", "SET auth x"),
        ];
        for (line, expected) in cases {
            assert_eq!(shown(line), expected);
        }
    }
}
