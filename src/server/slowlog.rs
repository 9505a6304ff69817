//! The slow log: shard 0 keeps it for all cores.

use std::collections::VecDeque;

use super::ask::NodeMessage;
use super::host::ServerHost;
use super::monitor;
use crate::command::Table;
use crate::command::help::help;
use crate::resp::{ArgBuf, Args, CmdError, CmdResult, Writer};

/// Arguments kept per entry, and bytes kept per argument. Redis: slowlog.h.
const ARGS_MAX: usize = 32;
const ARG_BYTES_MAX: usize = 128;

/// One slow command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Unix seconds.
    pub at_s: i64,
    pub spent_us: i64,
    pub args: Vec<Vec<u8>>,
    pub peer: String,
    pub client_name: Box<[u8]>,
}

impl Entry {
    /// Trims the arguments to what the log keeps.
    pub fn new(at_s: i64, spent_ns: u64, args: &Args, peer: String, client_name: &[u8]) -> Entry {
        let kept = if args.len() > ARGS_MAX {
            ARGS_MAX - 1
        } else {
            args.len()
        };
        let mut trimmed: Vec<Vec<u8>> = args.iter().take(kept).map(trim).collect();
        if args.len() > ARGS_MAX {
            trimmed.push(format!("... ({} more arguments)", args.len() - kept).into_bytes());
        }
        Entry {
            at_s,
            spent_us: (spent_ns / 1000) as i64,
            args: trimmed,
            peer,
            client_name: client_name.into(),
        }
    }
}

fn trim(arg: &[u8]) -> Vec<u8> {
    if arg.len() <= ARG_BYTES_MAX {
        return arg.to_vec();
    }
    let mut trimmed = arg[..ARG_BYTES_MAX].to_vec();
    trimmed.extend_from_slice(format!("... ({} more bytes)", arg.len() - ARG_BYTES_MAX).as_bytes());
    trimmed
}

/// The log, newest first.
#[derive(Debug, Default)]
pub struct Slowlog {
    entries: VecDeque<(u64, Entry)>,
    next_id: u64,
}

impl Slowlog {
    pub fn push(&mut self, entry: Entry, max_len: usize) {
        self.entries.push_front((self.next_id, entry));
        self.next_id += 1;
        self.entries.truncate(max_len);
    }

    /// SLOWLOG and its subcommands.
    pub fn command(&mut self, args: &Args, out: &mut Writer) -> CmdResult {
        if args.is(1, "get") {
            self.get(args, out)
        } else if args.is(1, "len") {
            out.int(self.entries.len() as i64)
        } else if args.is(1, "reset") {
            self.entries.clear();
            out.ok()
        } else {
            help(
                out,
                args,
                &[
                    (
                        "GET [<count>]",
                        "Show the newest entries: 10, or <count>, or all for -1.",
                    ),
                    ("LEN", "Reply with the number of entries."),
                    ("RESET", "Remove all entries."),
                ],
            )
        }
    }

    fn get(&self, args: &Args, out: &mut Writer) -> CmdResult {
        let count = match args.len() {
            2 => 10,
            // What is no number gets the same error as one below -1.
            3 => args.int(2).unwrap_or(-2),
            _ => return Err(CmdError::subcommand(args)),
        };
        if count < -1 {
            return Err(CmdError::Text(
                "ERR count should be greater than or equal to -1",
            ));
        }
        let count = usize::try_from(count)
            .unwrap_or(usize::MAX)
            .min(self.entries.len());
        out.array(count)?;
        for (id, entry) in self.entries.iter().take(count) {
            out.array(6)?;
            out.int(*id as i64)?;
            out.int(entry.at_s)?;
            out.int(entry.spent_us)?;
            out.array(entry.args.len())?;
            entry.args.iter().try_for_each(|arg| out.bulk(arg))?;
            out.bulk(entry.peer.as_bytes())?;
            out.bulk(&entry.client_name)?;
        }
        Ok(())
    }
}

impl ServerHost {
    /// Writes a slow command of this core into the log, wherever that is. `whose`: the address and the
    /// name of its client.
    pub(super) fn log_slow(
        &mut self,
        table: &Table,
        args: &Args,
        spent_ns: u64,
        (peer, client_name): (String, &[u8]),
        now_us: i64,
    ) {
        let shown = monitor::without_secrets(table, args);
        let shown = shown.as_ref().map_or(*args, ArgBuf::as_args);
        let entry = Entry::new(now_us / 1_000_000, spent_ns, &shown, peer, client_name);
        if self.shard == 0 {
            return self.slowlog.push(entry, self.slowlog_max_len);
        }
        self.mail.push((0, NodeMessage::Slow(Box::new(entry))));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resp::ArgBuf;

    #[test]
    fn entries_are_trimmed_and_bounded() {
        let mut args = ArgBuf::default();
        args.push(b"SADD");
        args.push(&[b'x'; 200]);
        (0..40).for_each(|_| args.push(b"m"));
        let entry = Entry::new(1, 2_000_000, &args.as_args(), "1.2.3.4:5".into(), b"");
        assert_eq!(entry.args.len(), ARGS_MAX);
        assert_eq!(entry.args[31], b"... (11 more arguments)");
        assert!(entry.args[1].ends_with(b"... (72 more bytes)"));
        assert_eq!(entry.spent_us, 2000);
        let mut log = Slowlog::default();
        (0..5).for_each(|_| log.push(entry.clone(), 3));
        assert_eq!(
            log.entries.iter().map(|(id, _)| *id).collect::<Vec<_>>(),
            [4, 3, 2]
        );
    }
}
