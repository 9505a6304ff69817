//! Runs command lines on one shard, for the table tests at the ends of the families' files.
//!
//! A test is rows of a line and what it brings about: the reply as RESP, the events with their
//! keys, the records. So a test reads as the specification of its command.
//!
//! ```text
//! Bench::new().rows(&[("GETDEL k", "$1|v|", "del k", "DEL k")]);
//! ```

use crate::keyspace::Keyspace;
use crate::resp::{ArgBuf, Output, Proto};
use crate::shard::{Call, Shard};

use super::table::{Lookup, Table};
use super::{Place, flags};

/// The time at which a bench begins: a round number, so that deadlines in records can be read.
pub const NOW_MS: i64 = 1_000_000;

/// One shard with nothing in it, which records everything and announces every event.
pub struct Bench {
    table: Table,
    shard: Shard,
    pub now_ms: i64,
    pub proto: Proto,
}

/// What a line brought about. Ends of lines are shown as `|`, events and records separated by `, `.
#[derive(Debug, PartialEq, Eq)]
pub struct Outcome {
    pub reply: String,
    pub events: String,
    pub records: String,
}

impl Default for Bench {
    fn default() -> Bench {
        Bench::new()
    }
}

impl Bench {
    pub fn new() -> Bench {
        let table = Table::new(&[]).expect("no command is renamed");
        let place = Place {
            shard: 0,
            shards: 1,
        };
        let mut keyspace = Keyspace::new(16, 1);
        keyspace.effects.recording = true;
        keyspace.effects.classes = !silent_classes();
        let shard = Shard::new(place, keyspace, table.entries().len(), || 0);
        Bench {
            table,
            shard,
            now_ms: NOW_MS,
            proto: Proto::Resp2,
        }
    }

    /// Runs one line. Words are separated by spaces; `""` is an empty word.
    pub fn line(&mut self, line: &str) -> Outcome {
        let words = line.split(' ').map(|word| match word {
            "\"\"" => &b""[..],
            word => word.as_bytes(),
        });
        self.run(&words.collect())
    }

    /// What the bench holds.
    pub fn keyspace(&self) -> &crate::keyspace::Keyspace {
        &self.shard.keyspace
    }

    /// The same, for what no command does.
    pub fn keyspace_mut(&mut self) -> &mut crate::keyspace::Keyspace {
        &mut self.shard.keyspace
    }

    /// A transaction on what the bench holds.
    pub fn tx(&mut self) -> crate::keyspace::Tx<'_> {
        self.shard.keyspace.tx(0, self.now_ms, false)
    }

    /// Runs one request.
    pub fn run(&mut self, request: &ArgBuf) -> Outcome {
        let args = request.as_args();
        let entry = match self.table.lookup(&args) {
            Lookup::Found(entry) => entry,
            Lookup::Error(error) => {
                return Outcome {
                    reply: format!("-{error}|"),
                    events: String::new(),
                    records: String::new(),
                };
            }
        };
        let call = Call {
            command: entry.command,
            id: entry.id,
            args,
            db: 0,
            proto: self.proto,
            no_touch: false,
            by: (0, 0),
            tracks: false,
        };
        let mut out = Output::default();
        self.shard.run(&call, self.now_ms, &mut out);
        self.shard.keyspace.audit();
        let effects = &mut self.shard.keyspace.effects;
        let events: Vec<String> = effects
            .events
            .drain(..)
            .map(|occurrence| format!("{} {}", occurrence.event.name, text(&occurrence.key)))
            .collect();
        let records: Vec<String> = effects
            .records
            .iter()
            .map(|record| words(record.command))
            .collect();
        effects.records.clear();
        let expired = events.iter().any(|event| event.contains("expired"));
        if entry.command.flags & flags::WRITE == 0 && !expired {
            assert_eq!(records, [""; 0], "a reading command recorded something");
        }
        Outcome {
            reply: text(&out.to_vec()).replace("\r\n", "|"),
            events: events.join(", "),
            records: records.join(", "),
        }
    }

    /// Runs lines one after the other; each with its reply, events and records.
    #[track_caller]
    pub fn rows(&mut self, rows: &[(&str, &str, &str, &str)]) {
        for &(line, reply, events, records) in rows {
            let expected = Outcome {
                reply: reply.into(),
                events: events.into(),
                records: records.into(),
            };
            assert_eq!(self.line(line), expected, "{line}");
        }
    }

    /// Runs lines one after the other; each with its reply alone.
    #[track_caller]
    pub fn replies(&mut self, rows: &[(&str, &str)]) {
        for &(line, reply) in rows {
            assert_eq!(self.line(line).reply, reply, "{line}");
        }
    }
}

/// Classes that tell of reads or of keys as such, beside the command's own event.
const fn silent_classes() -> u32 {
    use crate::keyspace::effects::class;
    class::KEY_MISS | class::NEW
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// The words of an encoded command.
fn words(command: &[u8]) -> String {
    let command = text(command);
    let words: Vec<&str> = command.split("\r\n").skip(2).step_by(2).collect();
    words.join(" ")
}
