//! The feeds of all shards as one stream of commands, which a replica carries out one by one.
//!
//! ```text
//! shard 0   Records            Part T                    Released T  Records ...
//! shard 1              Part T           Records  Released T
//! stream    Records            Records  MULTI T EXEC                 Records ...
//! ```
//! * A shard's records stay in their order, so that every key keeps its history: it has one home.
//! * A transaction stands in the stream whole, once all its parts have come. It holds its keys between
//!   its part and its release: what a shard tells meanwhile does not wait for it.
//! * Behind the release, a shard's feed waits until the transaction is in the stream.
//!
//! No two feeds wait for each other: a transaction is released when all its parts are in the feeds,
//! so that what waits for it does so for the mail alone.
//!
//! Differs: On several shards, a replica may see changes of keys of different shards in another order
//! than they were made, unless they are of one transaction or script. Each feed comes on its own way.
//!
//! A cut is passed by all feeds at once: the stream up to there is what the snapshot holds.

use std::collections::VecDeque;

use crate::journal::Mark;
use crate::keyspace::{Audience, EXEC, MULTI, Record, Records};
use crate::shard::TxId;
use crate::shard::feed::Fed;
use crate::shard::journal::{is_bracket, is_whole};

/// A transaction of which some parts have come.
#[derive(Debug)]
struct Open {
    mark: Mark,
    parts: Vec<(u32, Records)>,
    /// Which unit of its shard's each part is.
    units: Vec<(u32, u64)>,
}

impl Open {
    fn has_part_of(&self, shard: u32) -> bool {
        self.parts.iter().any(|(of, _)| *of == shard)
    }
}

/// A place that all feeds have passed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Passed {
    Cut(u32),
    Reached(u64),
}

/// Merges feeds.
#[derive(Debug)]
pub struct Merge {
    queues: Vec<VecDeque<Fed>>,
    /// The last unit that was taken from each; `None` before it has begun.
    units: Vec<Option<u64>>,
    open: Vec<Open>,
    /// How many feeds have passed a place.
    reached: Vec<(u64, usize)>,
    /// The database that the stream has selected.
    db: Option<u32>,
    out: Vec<u8>,
}

impl Merge {
    pub fn new(shards: usize) -> Merge {
        Merge {
            queues: (0..shards).map(|_| VecDeque::new()).collect(),
            units: vec![None; shards],
            open: Vec::new(),
            reached: Vec::new(),
            db: None,
            out: Vec::new(),
        }
    }

    /// What a shard told.
    pub fn push(&mut self, shard: usize, items: Vec<Fed>) {
        self.queues[shard].extend(items);
    }

    /// Adds a command that is no shard's.
    pub fn say(&mut self, command: &[u8]) {
        self.out.extend_from_slice(command);
    }

    /// The stream as far as it was not taken.
    pub fn take(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.out)
    }

    /// Whether some feed waits for another.
    pub fn is_waiting(&self) -> bool {
        self.queues.iter().any(|queue| !queue.is_empty())
    }

    /// Up to which unit all that a shard told is in the stream; `None` before its feed has begun.
    pub fn unit(&self, shard: usize) -> Option<u64> {
        let taken = self.units[shard]?;
        let parts = self.open.iter().flat_map(|open| &open.units);
        let lacking = parts.filter(|(of, _)| *of == shard as u32);
        let first = lacking.map(|(_, unit)| unit - 1).min();
        Some(first.map_or(taken, |before| before.min(taken)))
    }

    /// Moves on what can be, up to a place that all feeds have passed: what [`Merge::take`] returns
    /// then is the stream up to there. `None`: all that has come is done or waits.
    pub fn advance(&mut self) -> Option<Passed> {
        loop {
            let mut moved = false;
            for shard in 0..self.queues.len() {
                while self.may_move(shard) {
                    moved = true;
                    let item = self.queues[shard].pop_front();
                    if let Some(passed) = item.and_then(|item| self.step(shard as u32, item)) {
                        return Some(passed);
                    }
                }
            }
            if let Some(cut) = self.pass_cut() {
                return Some(cut);
            }
            if !moved {
                return None;
            }
        }
    }

    fn may_move(&self, shard: usize) -> bool {
        match self.queues[shard].front() {
            None | Some(Fed::Cut(_)) => false,
            Some(Fed::Released(tx)) => !self.is_open(*tx, shard as u32),
            Some(_) => true,
        }
    }

    /// Whether a transaction of which this shard has told is not in the stream yet.
    fn is_open(&self, tx: TxId, shard: u32) -> bool {
        let is_it = |open: &Open| open.mark.id == tx && open.has_part_of(shard);
        self.open.iter().any(is_it)
    }

    fn step(&mut self, shard: u32, item: Fed) -> Option<Passed> {
        match item {
            Fed::Begun(unit) => self.units[shard as usize] = Some(unit),
            Fed::Records(records) => {
                self.count_unit(shard);
                let heard = records.iter_for(Audience::REPLICAS);
                heard.for_each(|record| self.emit(record));
            }
            Fed::Part { mark, records } => self.part(shard, mark, records),
            Fed::Reached(id) => return self.reach(id),
            Fed::Released(_) | Fed::Cut(_) => {}
        }
        None
    }

    /// One more unit of a shard; its number.
    fn count_unit(&mut self, shard: u32) -> u64 {
        let unit = self.units[shard as usize].get_or_insert(0);
        *unit += 1;
        *unit
    }

    fn reach(&mut self, id: u64) -> Option<Passed> {
        let at = match self.reached.iter().position(|(known, _)| *known == id) {
            Some(at) => at,
            None => {
                self.reached.push((id, 0));
                self.reached.len() - 1
            }
        };
        self.reached[at].1 += 1;
        if self.reached[at].1 < self.queues.len() {
            return None;
        }
        self.reached.swap_remove(at);
        Some(Passed::Reached(id))
    }

    /// The database that the stream has selected.
    pub fn db(&self) -> u32 {
        self.db.unwrap_or(0)
    }

    /// The stream selects its database anew: who begins here has none.
    pub fn select_anew(&mut self) {
        self.db = None;
    }

    /// Passes a cut that all feeds have come to.
    fn pass_cut(&mut self) -> Option<Passed> {
        let cut_of = |queue: &VecDeque<Fed>| match queue.front() {
            Some(Fed::Cut(id)) => Some(*id),
            _ => None,
        };
        let id = cut_of(self.queues.first()?)?;
        if !self.queues.iter().all(|queue| cut_of(queue) == Some(id)) {
            return None;
        }
        debug_assert!(self.open.is_empty(), "a cut holds everything");
        for queue in &mut self.queues {
            queue.pop_front();
        }
        Some(Passed::Cut(id))
    }

    fn part(&mut self, shard: u32, mark: Mark, records: Records) {
        let unit = self.count_unit(shard);
        let belongs = |open: &Open| open.mark == mark && !open.has_part_of(shard);
        let at = match self.open.iter().position(belongs) {
            Some(at) => at,
            None => {
                let parts = Vec::with_capacity(mark.shards.len());
                self.open.push(Open {
                    mark,
                    parts,
                    units: Vec::new(),
                });
                self.open.len() - 1
            }
        };
        self.open[at].parts.push((shard, records));
        self.open[at].units.push((shard, unit));
        if self.open[at].parts.len() == self.open[at].mark.shards.len() {
            let mut whole = self.open.swap_remove(at);
            whole.parts.sort_unstable_by_key(|(shard, _)| *shard);
            self.emit_transaction(&whole.parts);
        }
    }

    /// Adds a transaction. Between commands on whole databases the order of the parts does not
    /// matter: no key is in two of them.
    fn emit_transaction(&mut self, parts: &[(u32, Records)]) {
        let commands = |(_, records): &'_ (u32, Records)| {
            let heard = records.iter_for(Audience::REPLICAS);
            let all = heard.map(|one| (one.db, one.command.to_vec()));
            all.filter(|(_, command)| !is_bracket(command))
                .collect::<VecDeque<_>>()
        };
        let mut rests: Vec<VecDeque<(u32, Vec<u8>)>> = parts.iter().map(commands).collect();
        let mut whole = Vec::new();
        loop {
            for rest in &mut rests {
                while rest.front().is_some_and(|(_, command)| !is_whole(command)) {
                    whole.extend(rest.pop_front());
                }
            }
            let Some(next) = rests.iter().find_map(|rest| rest.front().cloned()) else {
                break;
            };
            for rest in rests.iter_mut().filter(|rest| rest.front() == Some(&next)) {
                rest.pop_front();
            }
            whole.push(next);
        }
        let Some(db) = whole.first().map(|(db, _)| *db) else {
            return;
        };
        let wraps = whole.len() > 1;
        if wraps {
            self.emit(Record { db, command: MULTI });
        }
        for (db, command) in &whole {
            self.emit(Record { db: *db, command });
        }
        if wraps {
            self.emit(Record { db, command: EXEC });
        }
    }

    fn emit(&mut self, Record { db, command }: Record) {
        if self.db != Some(db) && command != EXEC {
            self.db = Some(db);
            let text = db.to_string();
            let select = format!("*2\r\n$6\r\nSELECT\r\n${}\r\n{text}\r\n", text.len());
            self.out.extend_from_slice(select.as_bytes());
        }
        self.out.extend_from_slice(command);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn records(db: u32, lines: &[&str]) -> Records {
        let mut records = Records::default();
        for line in lines {
            let words: Vec<&[u8]> = line.split(' ').map(str::as_bytes).collect();
            records.encode(db, words.len(), words.into_iter());
        }
        records
    }

    fn own(line: &str) -> Fed {
        Fed::Records(records(0, &[line]))
    }

    fn part(id: u64, shards: &[u32], lines: &[&str]) -> Fed {
        let mark = Mark {
            id,
            shards: shards.iter().copied().collect(),
        };
        let records = records(0, lines);
        Fed::Part { mark, records }
    }

    /// The commands of a stream, one a line.
    fn lines(stream: &[u8]) -> Vec<String> {
        let text = String::from_utf8(stream.to_vec()).unwrap();
        let commands = text.split('*').skip(1);
        let words = |command: &str| -> String {
            let words: Vec<&str> = command.split("\r\n").skip(2).step_by(2).collect();
            words.join(" ")
        };
        commands.map(words).collect()
    }

    fn run(merge: &mut Merge) -> Vec<String> {
        while merge.advance().is_some() {}
        lines(&merge.take())
    }

    #[test]
    fn a_transaction_waits_for_its_parts_and_others_for_its_release() {
        let mut merge = Merge::new(2);
        let tx = |lines| part(7, &[0, 1], lines);
        merge.push(0, vec![own("SET a 1"), tx(&["SET a 2"]), own("SET b 1")]);
        merge.push(0, vec![Fed::Released(7), own("SET a 3")]);
        assert_eq!(run(&mut merge), ["SELECT 0", "SET a 1", "SET b 1"]);
        assert!(merge.is_waiting());
        merge.push(1, vec![own("SET x 1"), tx(&["SET x 2"]), Fed::Released(7)]);
        let wanted = ["SET x 1", "MULTI", "SET a 2", "SET x 2", "EXEC", "SET a 3"];
        assert_eq!(run(&mut merge), wanted);
        assert!(!merge.is_waiting());
    }

    #[test]
    fn a_unit_is_in_the_stream_once_all_before_it_is() {
        let mut merge = Merge::new(2);
        let units = |merge: &Merge| [merge.unit(0), merge.unit(1)];
        assert_eq!(units(&merge), [None, None]);
        let tx = |lines| part(7, &[0, 1], lines);
        merge.push(0, vec![Fed::Begun(4), own("SET a 1"), tx(&["SET a 2"])]);
        merge.push(0, vec![own("SET b 1"), Fed::Released(7), own("SET a 3")]);
        run(&mut merge);
        assert_eq!(units(&merge), [Some(5), None]);
        merge.push(1, vec![Fed::Begun(0), own("SET x 1")]);
        run(&mut merge);
        assert_eq!(units(&merge), [Some(5), Some(1)]);
        merge.push(1, vec![tx(&["SET x 2"]), Fed::Released(7)]);
        run(&mut merge);
        assert_eq!(units(&merge), [Some(8), Some(2)]);
    }

    #[test]
    fn transactions_that_cross_do_not_wait_for_each_other() {
        let mut merge = Merge::new(2);
        let one = |line| part(1, &[0, 1], &[line]);
        let two = |line| part(2, &[0, 1], &[line]);
        merge.push(0, vec![one("SET a 1"), Fed::Released(1), two("SET b 2")]);
        merge.push(1, vec![two("SET y 2"), one("SET x 1"), Fed::Released(2)]);
        let all = ["MULTI", "SET a 1", "SET x 1", "EXEC", "MULTI", "SET b 2"];
        let stream = run(&mut merge);
        assert_eq!(stream[0], "SELECT 0");
        assert_eq!(stream[1..7], all);
        assert!(!merge.is_waiting());
    }

    #[test]
    fn whole_databases_are_emptied_once_and_in_their_place() {
        let mut merge = Merge::new(2);
        let tx = |lines| part(1, &[0, 1], lines);
        merge.push(
            0,
            vec![tx(&["MULTI", "SET a 1", "FLUSHALL", "SET b 1", "EXEC"])],
        );
        merge.push(1, vec![tx(&["MULTI", "FLUSHALL", "SET x 1", "EXEC"])]);
        let wanted = ["SET a 1", "FLUSHALL", "SET b 1", "SET x 1"];
        let stream = run(&mut merge);
        assert_eq!(stream[..2], ["SELECT 0", "MULTI"]);
        assert_eq!(stream[2..6], wanted);
        merge.push(0, vec![part(2, &[0, 1], &["FLUSHALL"])]);
        merge.push(1, vec![part(2, &[0, 1], &["FLUSHALL"])]);
        assert_eq!(run(&mut merge), ["FLUSHALL"]);
    }

    #[test]
    fn a_cut_parts_the_stream() {
        let mut merge = Merge::new(2);
        merge.push(0, vec![own("SET a 1"), Fed::Cut(5), own("SET a 2")]);
        assert_eq!(merge.advance(), None);
        merge.push(1, vec![own("SET x 1"), Fed::Cut(5), Fed::Reached(9)]);
        assert_eq!(merge.advance(), Some(Passed::Cut(5)));
        assert_eq!(lines(&merge.take()), ["SELECT 0", "SET a 1", "SET x 1"]);
        merge.select_anew();
        assert_eq!(merge.advance(), None);
        merge.push(0, vec![Fed::Reached(9)]);
        assert_eq!(merge.advance(), Some(Passed::Reached(9)));
        assert_eq!(lines(&merge.take()), ["SELECT 0", "SET a 2"]);
    }
}
