//! Whether transactions on lists could have run one after another, in an order that respects time.
//!
//! Each transaction appends values nobody else appends, and reads whole lists. Since lists only
//! grow, the length a transaction saw names the version it saw, and the lists in the end name who
//! made which version. That gives the dependencies of Adya's isolation levels without guessing, the
//! way the checker Elle takes them from lists:
//!
//! ```text
//! ww  made a version  ->  made the next one
//! wr  made a version  ->  saw it
//! rw  saw a version   ->  made the next one
//! ```
//!
//! With these go the order of each client and the order in time: what was answered before another
//! was sent. The transactions are strictly serializable when no cycle is left.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::time::Instant;

/// What one command of a transaction did.
#[derive(Clone)]
pub enum Step {
    /// Made `key` this long by appending `value`.
    Append { key: usize, value: u64, len: usize },
    /// Saw all of `key`.
    Read { key: usize, values: Vec<u64> },
}

/// Short enough for a message: of a list its length, which is its version, and its last value.
impl fmt::Debug for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Step::Append { key, value, len } => write!(f, "{key} became {len} with {value}"),
            Step::Read { key, values } => {
                let last = values.last().copied().unwrap_or_default();
                write!(f, "{key} was {} up to {last}", values.len())
            }
        }
    }
}

/// A transaction that took place.
#[derive(Clone, Debug)]
pub struct Transaction {
    pub client: usize,
    /// Before its first byte was sent.
    pub sent: Instant,
    /// After its last reply was there.
    pub answered: Instant,
    pub steps: Vec<Step>,
}

/// Why one transaction stands before another.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Reason {
    WriteWrite { key: usize },
    WriteRead { key: usize },
    ReadWrite { key: usize },
    Client,
    Time,
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Reason::WriteWrite { key } => write!(f, "ww on key {key}"),
            Reason::WriteRead { key } => write!(f, "wr on key {key}"),
            Reason::ReadWrite { key } => write!(f, "rw on key {key}"),
            Reason::Client => f.write_str("sent later by the same client"),
            Reason::Time => f.write_str("sent after the reply"),
        }
    }
}

/// How many dependencies between two clients there were: what a check had to go by.
#[derive(Default, Debug)]
pub struct Found {
    pub write_write: usize,
    pub write_read: usize,
    pub read_write: usize,
}

/// Checks what took place. The transactions of a client stand in the order it sent them; `lists`
/// holds every key in the end.
///
/// # Errors
///
/// What no order of the transactions explains, with the shortest cycle where it is one.
pub fn check(transactions: &[Transaction], lists: &[Vec<u64>]) -> Result<Found, String> {
    let makers = makers(transactions, lists)?;
    let mut graph = Graph {
        transactions,
        arrows: vec![Vec::new(); transactions.len()],
    };
    for (at, transaction) in transactions.iter().enumerate() {
        sees_only_itself(at, transaction)?;
        for step in &transaction.steps {
            graph.depend(at, step, lists, &makers)?;
        }
    }
    let found = graph.found();
    graph.order_clients();
    graph.order_time();
    match graph.shortest_cycle() {
        Some(cycle) => Err(graph.told(&cycle)),
        None => Ok(found),
    }
}

/// Of each key, who made which version: entry 0 made the list one long.
fn makers(transactions: &[Transaction], lists: &[Vec<u64>]) -> Result<Vec<Vec<usize>>, String> {
    let mut makers: Vec<Vec<Option<usize>>> =
        lists.iter().map(|list| vec![None; list.len()]).collect();
    for (at, transaction) in transactions.iter().enumerate() {
        for step in &transaction.steps {
            let &Step::Append { key, value, len } = step else {
                continue;
            };
            let place = len.wrapping_sub(1);
            if lists[key].get(place) != Some(&value) {
                return Err(format!(
                    "key {key} became {len} long with {value}, in the end {:?} is there: T{at} {:?}",
                    lists[key].get(place),
                    transaction.steps
                ));
            }
            if let Some(other) = makers[key][place].replace(at) {
                return Err(format!("key {key}, {len} long, by T{other} and T{at}"));
            }
        }
    }
    let whole = |(key, versions): (usize, Vec<Option<usize>>)| {
        let nobody = versions.iter().position(Option::is_none);
        versions.into_iter().collect::<Option<_>>().ok_or_else(|| {
            let place = nobody.unwrap_or_default();
            format!("key {key} holds {} of nobody", lists[key][place])
        })
    };
    makers.into_iter().enumerate().map(whole).collect()
}

/// Between its own commands a transaction sees nobody else's.
fn sees_only_itself(at: usize, transaction: &Transaction) -> Result<(), String> {
    let mut lens: BTreeMap<usize, usize> = BTreeMap::new();
    for step in &transaction.steps {
        let (key, len, before) = match step {
            Step::Append { key, len, .. } => (*key, *len, len.wrapping_sub(1)),
            Step::Read { key, values } => (*key, values.len(), values.len()),
        };
        if lens.insert(key, len).is_some_and(|known| known != before) {
            return Err(format!(
                "key {key} changed inside T{at} {:?}",
                transaction.steps
            ));
        }
    }
    Ok(())
}

struct Graph<'a> {
    transactions: &'a [Transaction],
    /// Of each transaction, what must come after it.
    arrows: Vec<Vec<(usize, Reason)>>,
}

impl Graph<'_> {
    fn arrow(&mut self, from: usize, to: usize, reason: Reason) {
        if from != to {
            self.arrows[from].push((to, reason));
        }
    }

    fn depend(
        &mut self,
        at: usize,
        step: &Step,
        lists: &[Vec<u64>],
        makers: &[Vec<usize>],
    ) -> Result<(), String> {
        match step {
            &Step::Append { key, len, .. } => {
                if len > 1 {
                    self.arrow(makers[key][len - 2], at, Reason::WriteWrite { key });
                }
            }
            Step::Read { key, values } => {
                let (key, len) = (*key, values.len());
                if !lists[key].starts_with(values) {
                    let transaction = &self.transactions[at];
                    return Err(format!(
                        "key {key} never was what T{at} saw: {:?}",
                        transaction.steps
                    ));
                }
                if len > 0 {
                    self.arrow(makers[key][len - 1], at, Reason::WriteRead { key });
                }
                if let Some(&next) = makers[key].get(len) {
                    self.arrow(at, next, Reason::ReadWrite { key });
                }
            }
        }
        Ok(())
    }

    fn found(&self) -> Found {
        let mut found = Found::default();
        for (from, arrows) in self.arrows.iter().enumerate() {
            for (to, reason) in arrows {
                if self.transactions[from].client == self.transactions[*to].client {
                    continue;
                }
                match reason {
                    Reason::WriteWrite { .. } => found.write_write += 1,
                    Reason::WriteRead { .. } => found.write_read += 1,
                    Reason::ReadWrite { .. } => found.read_write += 1,
                    Reason::Client | Reason::Time => {}
                }
            }
        }
        found
    }

    fn order_clients(&mut self) {
        let mut last: BTreeMap<usize, usize> = BTreeMap::new();
        for (at, transaction) in self.transactions.iter().enumerate() {
            if let Some(before) = last.insert(transaction.client, at) {
                self.arrow(before, at, Reason::Client);
            }
        }
    }

    /// Arrows only from those answered that have no other answered one between: the rest follows.
    fn order_time(&mut self) {
        let transactions = self.transactions;
        let sent = (0..transactions.len()).map(|at| (transactions[at].sent, false, at));
        let answered = (0..transactions.len()).map(|at| (transactions[at].answered, true, at));
        let mut events: Vec<_> = sent.chain(answered).collect();
        // At the same moment the sending comes first, which claims no order.
        events.sort_unstable();
        let mut latest: Vec<usize> = Vec::new();
        for (_, is_answer, at) in events {
            if is_answer {
                latest.retain(|&other| transactions[other].answered >= transactions[at].sent);
                latest.push(at);
                continue;
            }
            for &before in &latest {
                self.arrow(before, at, Reason::Time);
            }
        }
    }

    /// The transactions that something goes into and out of again: none without a cycle.
    fn entangled(&self) -> Vec<usize> {
        let mut waits = vec![0_usize; self.arrows.len()];
        for (to, _) in self.arrows.iter().flatten() {
            waits[*to] += 1;
        }
        let mut free: Vec<usize> = (0..waits.len()).filter(|&at| waits[at] == 0).collect();
        while let Some(at) = free.pop() {
            for &(to, _) in &self.arrows[at] {
                waits[to] -= 1;
                if waits[to] == 0 {
                    free.push(to);
                }
            }
        }
        (0..waits.len()).filter(|&at| waits[at] > 0).collect()
    }

    fn shortest_cycle(&self) -> Option<Vec<(usize, Reason)>> {
        let starts = self.entangled();
        let cycles = starts.into_iter().filter_map(|at| self.cycle_through(at));
        cycles.min_by_key(Vec::len)
    }

    /// The shortest way from a transaction back to itself: whom it passes, and why it goes on.
    fn cycle_through(&self, start: usize) -> Option<Vec<(usize, Reason)>> {
        let mut came: BTreeMap<usize, (usize, Reason)> = BTreeMap::new();
        let mut queue = VecDeque::from([start]);
        while let Some(at) = queue.pop_front() {
            for &(to, reason) in &self.arrows[at] {
                if came.contains_key(&to) {
                    continue;
                }
                came.insert(to, (at, reason));
                if to == start {
                    return Some(way_back(start, &came));
                }
                queue.push_back(to);
            }
        }
        None
    }

    fn told(&self, cycle: &[(usize, Reason)]) -> String {
        let began = self.transactions.iter().map(|it| it.sent).min();
        let mut text = format!("a cycle of {} transactions:\n", cycle.len());
        for (place, (at, reason)) in cycle.iter().enumerate() {
            let transaction = &self.transactions[*at];
            let since = |moment: Instant| began.map(|began| moment.duration_since(began));
            let (next, _) = cycle[(place + 1) % cycle.len()];
            text += &format!(
                "T{at} of client {} from {:?} to {:?}: {:?}\n  before T{next}: {reason}\n",
                transaction.client,
                since(transaction.sent).unwrap_or_default(),
                since(transaction.answered).unwrap_or_default(),
                transaction.steps,
            );
        }
        text
    }
}

fn way_back(start: usize, came: &BTreeMap<usize, (usize, Reason)>) -> Vec<(usize, Reason)> {
    let mut way = Vec::new();
    let mut at = start;
    loop {
        let (from, reason) = came[&at];
        way.push((from, reason));
        at = from;
        if at == start {
            way.reverse();
            return way;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn append(key: usize, value: u64, len: usize) -> Step {
        Step::Append { key, value, len }
    }

    fn read(key: usize, values: &[u64]) -> Step {
        let values = values.to_vec();
        Step::Read { key, values }
    }

    /// Transactions with their client and the moments they were sent and answered.
    fn judge(
        transactions: Vec<(usize, u64, u64, Vec<Step>)>,
        lists: &[Vec<u64>],
    ) -> Result<Found, String> {
        let start = Instant::now();
        let transactions: Vec<Transaction> = transactions
            .into_iter()
            .map(|(client, sent, answered, steps)| Transaction {
                client,
                sent: start + Duration::from_millis(sent),
                answered: start + Duration::from_millis(answered),
                steps,
            })
            .collect();
        check(&transactions, lists)
    }

    fn complaint(transactions: Vec<(usize, u64, u64, Vec<Step>)>, lists: &[Vec<u64>]) -> String {
        judge(transactions, lists).expect_err("nothing explains it")
    }

    #[test]
    fn one_after_another_is_in_order() {
        let found = judge(
            vec![
                (
                    0,
                    0,
                    9,
                    vec![append(0, 1, 1), append(1, 1, 1), read(0, &[1])],
                ),
                (
                    1,
                    0,
                    9,
                    vec![read(0, &[1]), append(0, 2, 2), append(0, 3, 3)],
                ),
                (2, 0, 9, vec![read(1, &[1]), read(0, &[])]),
            ],
            &[vec![1, 2, 3], vec![1]],
        );
        assert!(found.is_err(), "the last saw half of the first");
        let found = judge(
            vec![
                (
                    0,
                    0,
                    9,
                    vec![append(0, 1, 1), append(1, 1, 1), read(0, &[1])],
                ),
                (
                    1,
                    0,
                    9,
                    vec![read(0, &[1]), append(0, 2, 2), append(0, 3, 3)],
                ),
                (2, 0, 9, vec![read(1, &[1]), read(0, &[1])]),
            ],
            &[vec![1, 2, 3], vec![1]],
        )
        .expect("0, 2, 1");
        assert_eq!(
            (found.write_write, found.write_read, found.read_write),
            (1, 3, 2)
        );
    }

    #[test]
    fn write_skew_is_a_cycle_of_two() {
        let told = complaint(
            vec![
                (0, 0, 9, vec![read(0, &[]), append(1, 1, 1)]),
                (1, 0, 9, vec![read(1, &[]), append(0, 2, 1)]),
            ],
            &[vec![2], vec![1]],
        );
        assert!(told.starts_with("a cycle of 2"), "{told}");
        assert!(
            told.contains("rw on key 0") && told.contains("rw on key 1"),
            "{told}"
        );
    }

    #[test]
    fn two_that_append_in_different_orders_are_a_cycle() {
        let told = complaint(
            vec![
                (0, 0, 9, vec![append(0, 1, 1), append(1, 1, 2)]),
                (1, 0, 9, vec![append(0, 2, 2), append(1, 2, 1)]),
            ],
            &[vec![1, 2], vec![2, 1]],
        );
        assert!(
            told.contains("ww on key 0") && told.contains("ww on key 1"),
            "{told}"
        );
    }

    #[test]
    fn what_was_answered_is_seen_by_whoever_asks_later() {
        let stale = |sent| {
            judge(
                vec![
                    (0, 0, 1, vec![append(0, 1, 1)]),
                    (1, sent, 9, vec![read(0, &[])]),
                ],
                &[vec![1]],
            )
        };
        assert!(stale(1).is_ok());
        let told = stale(2).expect_err("it was answered");
        assert!(told.contains("sent after the reply"), "{told}");
    }

    #[test]
    fn a_client_sees_what_it_sent_first() {
        let told = complaint(
            vec![
                (0, 0, 9, vec![append(0, 1, 1)]),
                (0, 0, 9, vec![read(0, &[])]),
            ],
            &[vec![1]],
        );
        assert!(told.contains("the same client"), "{told}");
    }

    #[test]
    fn nothing_is_lost_made_up_or_seen_halfway() {
        let one = |steps, list: Vec<u64>| complaint(vec![(0, 0, 9, steps)], &[list]);
        let lost = one(vec![append(0, 1, 1)], vec![]);
        assert!(lost.contains("in the end None"), "{lost}");
        let made_up = one(vec![append(0, 1, 1)], vec![1, 7]);
        assert!(made_up.contains("holds 7 of nobody"), "{made_up}");
        let never = one(vec![append(0, 1, 1), read(0, &[2])], vec![1]);
        assert!(never.contains("never was"), "{never}");
        let changed = one(vec![read(0, &[]), append(0, 1, 2)], vec![2, 1]);
        assert!(changed.contains("holds 2 of nobody"), "{changed}");
        let inside = complaint(
            vec![
                (0, 0, 9, vec![read(0, &[]), append(0, 1, 2)]),
                (1, 0, 9, vec![append(0, 2, 1)]),
            ],
            &[vec![2, 1]],
        );
        assert!(inside.contains("changed inside T0"), "{inside}");
    }

    #[test]
    fn the_order_in_time_needs_no_arrow_between_all() {
        let chain: Vec<_> = (0..50_u64)
            .map(|n| {
                let len = usize::try_from(n).expect("small") + 1;
                (0, 10 * n, 10 * n + 1, vec![append(0, n, len)])
            })
            .collect();
        let list: Vec<u64> = (0..50).collect();
        assert!(judge(chain.clone(), std::slice::from_ref(&list)).is_ok());
        let mut late = chain;
        late.push((1, 1_000, 1_001, vec![read(0, &list[..49])]));
        let told = complaint(late, &[list]);
        assert!(told.starts_with("a cycle of 2"), "{told}");
    }
}
