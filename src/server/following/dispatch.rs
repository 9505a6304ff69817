//! Where the units of a master's stream are applied.
//!
//! ```text
//! stream   SET a   SET b   SET c   MULTI SET a, SET b EXEC          SET d
//! shard 0  SET a           SET c   | nothing is on its way |
//! shard 1          SET b           | shard 0 runs all of it | EXEC  SET d
//! ```
//! What concerns one home goes there in batches, many at a time, each home in the order of the stream:
//! so every key keeps its history. What concerns several, or no key, is run by shard 0 while nothing
//! else is on its way. A stream is applied up to an offset when all that stands before it is.

use super::units::{Unit, each_command};
use crate::command::Table;
use crate::server::persist::lanes::{Place, place};
use crate::server::persist::routes::{Routes, select};

/// What becomes of a unit.
#[derive(Debug, PartialEq, Eq)]
pub enum Step {
    /// It is on its way, or needs none.
    Gone,
    /// It has to wait until shards have taken their batches.
    Waits,
    /// Shard 0's session is to run this; nothing else is on its way.
    Alone(Vec<u8>),
    /// The master asks how far this server is; nothing is on its way.
    Asked,
}

#[derive(Debug)]
pub struct Dispatch {
    pub routes: Routes,
    /// The database that the stream has selected.
    pub db: u32,
    /// Where the stream is: all units that begin before are on their way.
    pub offset: i64,
}

impl Dispatch {
    /// Goes on behind `offset`.
    pub fn new(shards: usize, offset: i64, db: u32) -> Dispatch {
        Dispatch {
            routes: Routes::new(shards, None),
            db,
            offset,
        }
    }

    /// Sends a unit where it belongs. It counts unless it has to wait.
    pub fn step(&mut self, unit: Unit, bytes: &[u8], table: &Table) -> Step {
        if self.routes.is_full() {
            return Step::Waits;
        }
        let (way, db) = self.way(bytes, table);
        let step = match way {
            Place::Nowhere | Place::Select(_) => Step::Gone,
            Place::At(home) => {
                let dbs = (self.db, db);
                self.routes.add(home, bytes, dbs, self.offset);
                Step::Gone
            }
            Place::Alone => {
                self.routes.flush();
                if !self.routes.is_idle() {
                    return Step::Waits;
                }
                match !unit.is_transaction && is_question(bytes) {
                    true => Step::Asked,
                    false => {
                        let mut alone = Vec::new();
                        select(&mut alone, self.db);
                        alone.extend_from_slice(bytes);
                        self.routes.has_selected(0, db);
                        Step::Alone(alone)
                    }
                }
            }
        };
        self.db = db;
        self.offset += unit.len as i64;
        step
    }

    /// Where a unit runs, and the database that is selected behind it.
    fn way(&self, bytes: &[u8], table: &Table) -> (Place, u32) {
        let shards = self.routes.shards();
        let mut db = self.db;
        let mut way = Place::Nowhere;
        each_command(bytes, |args, _| {
            let own = match place(args, table, shards) {
                _ if args.len() == 1 && args.is(0, "ping") => Place::Nowhere,
                Place::Select(selected) => {
                    db = selected;
                    Place::Nowhere
                }
                own => own,
            };
            way = match (way, own) {
                (way, Place::Nowhere) => way,
                (Place::Nowhere, own) => own,
                (way, own) if way == own => way,
                _ => Place::Alone,
            };
        });
        (way, db)
    }

    /// Everything before this offset is applied, apart from what shard 0 runs alone.
    pub fn applied(&self) -> i64 {
        self.routes.first_at().unwrap_or(self.offset)
    }
}

/// Whether this is REPLCONF GETACK.
fn is_question(bytes: &[u8]) -> bool {
    let mut is_it = false;
    each_command(bytes, |args, _| {
        is_it = args.is(0, "replconf") && args.len() > 1 && args.is(1, "getack");
    });
    is_it
}

#[cfg(test)]
mod tests {
    use super::super::handshake::encode;
    use super::super::units::Cutter;
    use super::*;
    use crate::command::keys;

    fn line(text: &str) -> Vec<u8> {
        let words: Vec<&[u8]> = text.split(' ').map(str::as_bytes).collect();
        encode(&words)
    }

    fn lines(lines: &[String]) -> Vec<u8> {
        lines.iter().flat_map(|text| line(text)).collect()
    }

    /// Keys of shard 0 and shard 1 of two.
    fn keys_of_two() -> (String, String) {
        let of = |shard| {
            let mut names = (0..).map(|n| format!("key:{n}"));
            names.find(|name| keys::home(name.as_bytes(), 2) == shard)
        };
        (of(0).unwrap(), of(1).unwrap())
    }

    /// Steps through a stream as far as it goes; what the last step was, and how many bytes are used.
    fn run(dispatch: &mut Dispatch, stream: &[u8], table: &Table) -> (Step, usize) {
        let (mut at, mut last) = (0, Step::Gone);
        while let Some(unit) = Cutter::default().next(&stream[at..]).unwrap() {
            last = dispatch.step(unit, &stream[at..at + unit.len], table);
            if last == Step::Waits {
                break;
            }
            at += unit.len;
            if last != Step::Gone {
                break;
            }
        }
        (last, at)
    }

    #[test]
    fn each_unit_finds_its_place_and_the_offset_tells_what_is_applied() {
        let table = Table::new(&[]).unwrap();
        let (a, b) = keys_of_two();
        let text = |lines: &[&str]| -> Vec<String> {
            let named = |line: &&str| line.replace('@', &a).replace('%', &b);
            lines.iter().map(named).collect()
        };
        let mut dispatch = Dispatch::new(2, 100, 3);
        let first = lines(&text(&["SET @ 1", "SELECT 5", "PING", "SET % 2"]));
        let own = lines(&text(&["MULTI", "SET @ 3", "INCR @", "EXEC"]));
        let whole = lines(&text(&["MULTI", "SET @ 3", "SET % 4", "EXEC"]));
        let stream = [&first[..], &own, &whole].concat();
        let (step, at) = run(&mut dispatch, &stream, &table);
        assert_eq!((step, at), (Step::Waits, first.len() + own.len()));
        assert_eq!(dispatch.offset, 100 + at as i64);
        assert_eq!(dispatch.applied(), 100);
        let to_a = [lines(&text(&["SELECT 3", "SET @ 1", "SELECT 5"])), own].concat();
        let to_b = lines(&text(&["SELECT 5", "SET % 2"]));
        assert_eq!(
            std::mem::take(&mut dispatch.routes.sent),
            [(0, to_a), (1, to_b)]
        );
        dispatch.routes.taken(0);
        let set_b = first.len() - line(&format!("SET {b} 2")).len();
        assert_eq!(dispatch.applied(), 100 + set_b as i64);
        dispatch.routes.taken(1);
        assert_eq!(dispatch.applied(), dispatch.offset);
        let alone = [line("SELECT 5"), whole.clone()].concat();
        assert_eq!(run(&mut dispatch, &whole, &table).0, Step::Alone(alone));
        assert_eq!(dispatch.offset, 100 + stream.len() as i64);
    }

    #[test]
    fn a_question_waits_for_what_stands_before_it() {
        let table = Table::new(&[]).unwrap();
        let mut dispatch = Dispatch::new(1, 0, 0);
        let set = line("SET a 1");
        let question = line("REPLCONF GETACK *");
        assert_eq!(run(&mut dispatch, &set, &table).0, Step::Gone);
        assert_eq!(run(&mut dispatch, &question, &table), (Step::Waits, 0));
        dispatch.routes.taken(0);
        assert_eq!(run(&mut dispatch, &question, &table).0, Step::Asked);
    }
}
