//! MONITOR: which nodes have listeners, and the line they see of a command.

use crate::resp::Args;
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
pub fn line(now_us: i64, db: u32, addr: &str, args: &Args, redact: bool) -> Vec<u8> {
    let mut line = format!(
        "+{}.{:06} [{db} {addr}]",
        now_us / 1_000_000,
        now_us % 1_000_000
    )
    .into_bytes();
    for (i, arg) in args.iter().enumerate() {
        line.push(b' ');
        quote(if redact && i > 0 { b"(redacted)" } else { arg }, &mut line);
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
        let text = line(1_500_000, 3, &address(&peer), &args.as_args(), false);
        assert_eq!(
            String::from_utf8(text).unwrap(),
            "+1.500000 [3 127.0.0.1:1] \"SET\" \"a \\\"b\\\"\" \"\\x00\\xff\\n\"\r\n"
        );
    }
}
