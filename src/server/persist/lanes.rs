//! Where commands that are recovered run: each on the home of its keys, in batches that all shards
//! work on at once.
//!
//! What concerns several homes, or no key, is run by shard 0's session while all others are idle. One
//! session for all of it would cost two messages a command, forty times the work.
//!
//! Nobody is served meanwhile: only the order of the commands of one key matters, and a transaction
//! that is whole needs no brackets.

use super::routes::{Routes, select};
use crate::command::{Lookup, Run, Table, keys};
use crate::resp::{Args, Limits, Parsed, Parser};

/// What comes next.
#[derive(Debug, PartialEq, Eq)]
pub enum Step {
    /// More commands are needed.
    Empty,
    /// Shards have to take their batches first.
    Waits,
    /// These are for shard 0's session; all others are idle.
    Alone(Vec<u8>),
}

#[derive(Debug)]
pub struct Lanes {
    pub routes: Routes,
    /// The commands that are being sent home, and how far that is.
    commands: Vec<u8>,
    at: usize,
    /// The database that they have selected.
    db: u32,
    waits: bool,
}

/// Where a command runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    At(usize),
    /// It selects a database.
    Select(u32),
    Nowhere,
    Alone,
}

impl Lanes {
    pub fn new(shards: usize) -> Lanes {
        Lanes {
            routes: Routes::new(shards, Some(0)),
            commands: Vec::new(),
            at: 0,
            db: 0,
            waits: false,
        }
    }

    /// The next commands; those before were sent.
    pub fn begin(&mut self, commands: Vec<u8>) {
        debug_assert!(self.at == self.commands.len());
        (self.commands, self.at) = (commands, 0);
    }

    /// Sends commands home until something has to be waited for.
    pub fn step(&mut self, table: &Table) -> Step {
        let commands = std::mem::take(&mut self.commands);
        let step = self.send_home(&commands, table);
        self.commands = commands;
        self.waits = step == Step::Waits;
        step
    }

    fn send_home(&mut self, commands: &[u8], table: &Table) -> Step {
        let mut parser = Parser::default();
        let limits = Limits {
            bulk_max_bytes: usize::MAX,
            authenticated: true,
        };
        while self.at < commands.len() {
            if self.routes.is_full() {
                return Step::Waits;
            }
            let rest = &commands[self.at..];
            if rest[0] == b'#' {
                let line = rest.iter().position(|&byte| byte == b'\n');
                self.at += line.map_or(rest.len(), |end| end + 1);
                continue;
            }
            // Files were read before: what is no command does not stand in them.
            let consumed = match parser.parse(rest, &limits) {
                Ok(Parsed::Request { consumed }) => consumed,
                _ => rest.len(),
            };
            let command = &rest[..consumed];
            match place(&parser.args(rest), table, self.routes.shards()) {
                Place::Select(db) => self.db = db,
                Place::Nowhere => {}
                Place::At(home) => {
                    let db = (self.db, self.db);
                    self.routes.add(home, command, db, self.at as i64);
                }
                Place::Alone => {
                    if !self.is_idle() {
                        return Step::Waits;
                    }
                    self.at += consumed;
                    let mut alone = Vec::new();
                    select(&mut alone, self.db);
                    alone.extend_from_slice(command);
                    self.routes.has_selected(0, self.db);
                    return Step::Alone(alone);
                }
            }
            parser.next();
            self.at += consumed;
        }
        Step::Empty
    }

    /// Sends what is left. Returns whether every shard has taken everything; until then the lanes
    /// wait.
    pub fn is_idle(&mut self) -> bool {
        self.routes.flush();
        self.waits = !self.routes.is_idle();
        !self.waits
    }

    /// A shard has taken a batch.
    pub fn taken(&mut self, from: usize) {
        self.routes.taken(from);
        self.waits = false;
    }

    /// Whether nothing can be done until a batch is taken.
    pub fn waits(&self) -> bool {
        self.waits
    }
}

/// Where a command runs, of so many shards.
pub fn place(args: &Args, table: &Table, shards: usize) -> Place {
    let Lookup::Found(entry) = table.lookup_recorded(args) else {
        return Place::Alone;
    };
    let command = entry.command;
    match command.run {
        Run::Transaction(_) if matches!(command.name, "multi" | "exec") => Place::Nowhere,
        Run::Client(_) if command.name == "select" => {
            let db = std::str::from_utf8(args.get(1)).ok();
            let db = db.and_then(|db| db.parse().ok());
            db.map_or(Place::Alone, Place::Select)
        }
        Run::Key(_) | Run::Each(_) | Run::Sum(_) | Run::Every(_) | Run::Gather(_) => {
            let Some(at) = keys::positions(command.keys, args) else {
                return Place::Alone;
            };
            let mut homes = at.iter().map(|&at| keys::home(args.get(at), shards));
            match homes.next() {
                Some(home) if homes.all(|other| other == home) => Place::At(home),
                _ => Place::Alone,
            }
        }
        _ => Place::Alone,
    }
}

#[cfg(test)]
mod tests {
    use super::super::routes::{BATCH_BYTES, UNTAKEN_MAX};
    use super::*;

    fn encode(line: &str) -> Vec<u8> {
        let words: Vec<&str> = line.split(' ').collect();
        let mut bytes = format!("*{}\r\n", words.len()).into_bytes();
        for word in words {
            bytes.extend_from_slice(format!("${}\r\n{word}\r\n", word.len()).as_bytes());
        }
        bytes
    }

    fn lines(lines: &[&str]) -> Vec<u8> {
        lines.iter().flat_map(|line| encode(line)).collect()
    }

    /// Keys of shard 0 and shard 1 of two.
    fn keys_of_two() -> (String, String) {
        let of = |shard| {
            let mut names = (0..).map(|n| format!("key:{n}"));
            names.find(|name| keys::home(name.as_bytes(), 2) == shard)
        };
        (of(0).unwrap(), of(1).unwrap())
    }

    #[test]
    fn commands_go_home_and_what_concerns_all_waits_for_them() {
        let table = Table::new(&[]).unwrap();
        let (a, b) = keys_of_two();
        let mut lanes = Lanes::new(2);
        let text = |line: &str| line.replace('a', &a).replace('b', &b);
        let all = [
            "SET a 1",
            "SELECT 3",
            "MULTI",
            "SET b 2",
            "INCR a",
            "EXEC",
            "RENAME a b",
            "DEL a",
        ];
        let all: Vec<String> = all.iter().map(|line| text(line)).collect();
        let all: Vec<&str> = all.iter().map(String::as_str).collect();
        lanes.begin([lines(&all[..3]), b"#TS:1\r\n".to_vec(), lines(&all[3..])].concat());
        assert_eq!(lanes.step(&table), Step::Waits);
        assert!(lanes.waits());
        let set = |line: &str| encode(&text(line));
        let to_a = [set("SET a 1"), encode("SELECT 3"), set("INCR a")].concat();
        let to_b = [encode("SELECT 3"), set("SET b 2")].concat();
        assert_eq!(
            std::mem::take(&mut lanes.routes.sent),
            [(0, to_a), (1, to_b)]
        );
        lanes.taken(1);
        assert_eq!(lanes.step(&table), Step::Waits);
        lanes.taken(0);
        assert!(!lanes.waits());
        let alone = [encode("SELECT 3"), set("RENAME a b")].concat();
        assert_eq!(lanes.step(&table), Step::Alone(alone));
        assert_eq!(lanes.step(&table), Step::Empty);
        assert!(!lanes.is_idle());
        assert_eq!(std::mem::take(&mut lanes.routes.sent), [(0, set("DEL a"))]);
        lanes.taken(0);
        assert!(lanes.is_idle());
    }

    #[test]
    fn no_shard_is_sent_more_than_it_takes() {
        let table = Table::new(&[]).unwrap();
        let (a, _) = keys_of_two();
        let mut lanes = Lanes::new(2);
        let command = encode(&format!("APPEND {a} {}", "x".repeat(BATCH_BYTES)));
        lanes.begin(command.repeat(3 * UNTAKEN_MAX));
        for round in 1..=3 {
            let step = lanes.step(&table);
            assert_eq!(step, if round < 3 { Step::Waits } else { Step::Empty });
            assert_eq!(std::mem::take(&mut lanes.routes.sent).len(), UNTAKEN_MAX);
            (0..UNTAKEN_MAX).for_each(|_| lanes.taken(0));
        }
    }
}
