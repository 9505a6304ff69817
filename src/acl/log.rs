//! ACL LOG: who was refused what.

use std::collections::VecDeque;

use super::selector::Reason;
use crate::resp::{CmdResult, Writer};

/// Where a request came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Context {
    Toplevel,
    Multi,
    Script,
}

/// One refusal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Denial {
    pub reason: Reason,
    pub context: Context,
    /// The command, key or channel that was out of reach; for a wrong password the command that gave it.
    pub object: Vec<u8>,
    pub user: Vec<u8>,
    /// The client, as CLIENT LIST shows it.
    pub client: Vec<u8>,
    /// Unix milliseconds.
    pub at_ms: i64,
}

impl Denial {
    /// Whether two may share an entry. Redis: acl.c ACLLogMatchEntry.
    fn is_like(&self, other: &Denial) -> bool {
        self.reason == other.reason
            && self.context == other.context
            && (self.at_ms - other.at_ms).abs() <= GROUPED_MAX_MS
            && self.object == other.object
            && self.user == other.user
    }
}

/// Refusals that are alike are counted together if no more time lies between them.
const GROUPED_MAX_MS: i64 = 60_000;
/// Entries that are searched for one that is alike: those of a moment, so that a flood of different
/// ones costs little.
const SEARCHED_MAX: usize = 10;

#[derive(Debug)]
struct Entry {
    id: u64,
    count: u64,
    created_ms: i64,
    last: Denial,
}

/// The latest refusals first.
#[derive(Debug, Default)]
pub struct Log {
    entries: VecDeque<Entry>,
    next_id: u64,
}

impl Log {
    /// Adds a refusal; no more than `max_len` entries are kept.
    pub fn push(&mut self, denial: Denial, max_len: usize) {
        let mut recent = self.entries.iter().take(SEARCHED_MAX);
        let known = recent.position(|entry| entry.last.is_like(&denial));
        let entry = match known.and_then(|at| self.entries.remove(at)) {
            Some(entry) => Entry {
                count: entry.count + 1,
                last: denial,
                ..entry
            },
            None => {
                self.next_id += 1;
                Entry {
                    id: self.next_id - 1,
                    count: 1,
                    created_ms: denial.at_ms,
                    last: denial,
                }
            }
        };
        self.entries.push_front(entry);
        if known.is_none() {
            self.entries.truncate(max_len);
        }
    }

    pub fn clear(&mut self) {
        self.entries.clear();
    }

    pub fn len(&self) -> usize {
        self.entries.len()
    }

    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The latest `count` entries, as ACL LOG replies with them.
    pub fn write(&self, count: usize, now_ms: i64, out: &mut Writer) -> CmdResult {
        let count = count.min(self.entries.len());
        out.array(count)?;
        let mut entries = self.entries.iter().take(count);
        entries.try_for_each(|entry| entry.write(now_ms, out))
    }
}

impl Entry {
    fn write(&self, now_ms: i64, out: &mut Writer) -> CmdResult {
        let reason = match self.last.reason {
            Reason::Command => "command",
            Reason::Key => "key",
            Reason::Channel => "channel",
            Reason::Auth => "auth",
        };
        let context = match self.last.context {
            Context::Toplevel => "toplevel",
            Context::Multi => "multi",
            Context::Script => "lua",
        };
        out.map(10)?;
        out.bulk(b"count")?;
        out.int(self.count as i64)?;
        let texts: [(&str, &[u8]); 4] = [
            ("reason", reason.as_bytes()),
            ("context", context.as_bytes()),
            ("object", &self.last.object),
            ("username", &self.last.user),
        ];
        for (name, text) in texts {
            out.bulk(name.as_bytes())?;
            out.bulk(text)?;
        }
        out.bulk(b"age-seconds")?;
        out.double((now_ms - self.last.at_ms) as f64 / 1000.0)?;
        out.bulk(b"client-info")?;
        out.bulk(&self.last.client)?;
        let numbers = [
            ("entry-id", self.id as i64),
            ("timestamp-created", self.created_ms),
            ("timestamp-last-updated", self.last.at_ms),
        ];
        numbers.into_iter().try_for_each(|(name, number)| {
            out.bulk(name.as_bytes())?;
            out.int(number)
        })
    }
}
