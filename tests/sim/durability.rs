//! Nothing that was acknowledged is lost, nothing comes back by half: servers that write journals
//! are ended at random moments, by a kill or a power cut, and what the next server would make of
//! the segments is compared with all that ever stood under each key.

use std::collections::BTreeMap;

use crate::disk::{End, Policy, Recovered, recover};
use crate::world::{Typist, World, encode, is_error, random_request, random_transaction};

type Key = (u32, String);

/// One value of a key, and when it began.
struct Version {
    value: Option<Vec<u8>>,
    since: usize,
}

/// What a client was promised if its reply was heard.
enum Deed {
    /// Every key shows the token, or none does.
    Tokens(Vec<Key>, String),
    Flush {
        sent: usize,
    },
    /// Nothing that could be told from the keys.
    Other,
}

struct Hand {
    typist: Typist,
    deed: Option<Deed>,
    is_exec: bool,
}

struct Trial {
    world: World,
    rng: fastrand::Rng,
    hands: Vec<Hand>,
    /// Flushes one at a time, so that it is known which one emptied a key.
    flusher: usize,
    history: BTreeMap<Key, Vec<Version>>,
    now: usize,
    tokens: usize,
    /// Whole or not at all.
    transactions: Vec<(Vec<Key>, String)>,
    promised: Vec<Deed>,
    /// When the first and the last key went with a flush.
    flushes: Vec<(usize, usize)>,
    /// What was there when it began, which no end of a server may take any more.
    initial: Vec<Key>,
}

/// Whether a value, as [`World::state_of`] shows it, has a token in it.
fn shows(value: &[u8], token: &str) -> bool {
    let text = String::from_utf8_lossy(value);
    text.contains(token) || text.contains(&format!("{:?}", token.as_bytes()))
}

impl Trial {
    fn new(shards: usize, seed: u64, policy: Policy) -> Trial {
        let mut world = World::new(shards, seed);
        world.keep_journals(policy);
        let first = world.connect(0);
        for words in [&["SELECT", "1"][..], &["SET", "n0", "moves"]] {
            world.send_line(first, words);
            world.settle_on_disk();
        }
        Trial::in_world(world, shards, seed, 0)
    }

    /// A server goes on with what the one before has left; `tokens` were given.
    fn resume(shards: usize, seed: u64, policy: Policy, found: &Recovered, tokens: usize) -> Trial {
        let mut world = World::new(shards, seed);
        let now_us = world.clock_us();
        world.begin_recovery();
        let client = world.connect(0);
        for item in &found.items {
            world.send(client, &item.commands);
            world.settle();
            world.received(client);
        }
        world.set_clock(now_us);
        world.resume_journals(policy, found);
        let mut trial = Trial::in_world(world, shards, seed, tokens);
        let there = |all: &Vec<Version>| all.last().is_some_and(|it| it.value.is_some());
        let keys = trial.history.iter().filter(|(_, all)| there(all));
        trial.initial = keys.map(|(key, _)| key.clone()).collect();
        trial
    }

    fn in_world(mut world: World, shards: usize, seed: u64, tokens: usize) -> Trial {
        let hands = (0..6).map(|n| Hand {
            typist: world.connect(n % shards),
            deed: None,
            is_exec: false,
        });
        let hands = hands.collect();
        let mut trial = Trial {
            world,
            rng: fastrand::Rng::with_seed(seed),
            hands,
            flusher: 5,
            history: BTreeMap::new(),
            now: 0,
            tokens,
            transactions: Vec::new(),
            promised: Vec::new(),
            flushes: Vec::new(),
            initial: Vec::new(),
        };
        trial.observe();
        trial
    }

    /// Notes what has changed.
    fn observe(&mut self) {
        self.now += 1;
        for core in std::mem::take(&mut self.world.touched) {
            let state = self.world.state_of(core);
            let mut seen: BTreeMap<Key, Vec<u8>> = BTreeMap::new();
            for (db, key, value, _) in state {
                seen.insert((db, String::from_utf8(key).unwrap()), value);
            }
            let mine = |key: &Key| self.world.home(&key.1) == core;
            let gone: Vec<Key> = self
                .history
                .iter()
                .filter(|(key, all)| {
                    mine(key) && !seen.contains_key(*key) && all.last().unwrap().value.is_some()
                })
                .map(|(key, _)| key.clone())
                .collect();
            for key in gone {
                if key.0 == 0
                    && let Some(flush) = self.flushes.last_mut()
                {
                    flush.0 = flush.0.min(self.now);
                    flush.1 = self.now;
                }
                self.note(key, None);
            }
            for (key, value) in seen {
                self.note(key, Some(value));
            }
        }
    }

    fn note(&mut self, key: Key, value: Option<Vec<u8>>) {
        let all = self.history.entry(key).or_insert_with(|| {
            let (value, since) = (None, 0);
            vec![Version { value, since }]
        });
        if all.last().unwrap().value != value {
            let since = self.now;
            all.push(Version { value, since });
        }
    }

    fn key(&mut self, db: u32, name: &str, of: u8) -> Key {
        (db, format!("{name}{}", self.rng.u8(..of)))
    }

    /// A client sends its next request.
    fn send(&mut self, at: usize) {
        self.tokens += 1;
        let token = format!("<{}>", self.tokens);
        let (list, other) = (self.key(0, "l", 5), self.key(0, "l", 5));
        let (text, more) = (self.key(0, "m", 4), self.key(0, "m", 4));
        let words = |line: &str| encode(&line.split(' ').collect::<Vec<_>>());
        let choice = self.rng.u8(..12);
        let exec = |lines: &[String]| {
            let lines = ["MULTI".to_owned()]
                .into_iter()
                .chain(lines.iter().cloned());
            let lines = lines.chain(["EXEC".to_owned()]);
            lines.flat_map(|line| words(&line)).collect::<Vec<u8>>()
        };
        let mut is_exec = false;
        let one = |key: &Key| Deed::Tokens(vec![key.clone()], token.clone());
        let both = |a: &Key, b: &Key| Deed::Tokens(vec![a.clone(), b.clone()], token.clone());
        let (bytes, deed) = if at == self.flusher {
            let none = (usize::MAX, 0);
            self.flushes.push(none);
            (words("FLUSHDB"), Deed::Flush { sent: self.now })
        } else {
            match choice {
                0..3 => (words(&format!("RPUSH {} {token}", list.1)), one(&list)),
                3 => (words(&format!("SET {} {token}", text.1)), one(&text)),
                4 => (words(&format!("APPEND {} {token}", text.1)), one(&text)),
                5 => {
                    let line = format!("MSET {} {token} {} {token}", text.1, more.1);
                    (words(&line), both(&text, &more))
                }
                6 | 7 => {
                    is_exec = true;
                    let push = |key: &Key| format!("RPUSH {} {token}", key.1);
                    let count = format!("INCR {}", self.key(0, "c", 3).1);
                    (
                        exec(&[push(&list), push(&other), count]),
                        both(&list, &other),
                    )
                }
                8 => {
                    is_exec = true;
                    let push = format!("RPUSH {} {token}", list.1);
                    let set = format!("APPEND {} {token}", text.1);
                    (exec(&[push, set]), both(&list, &text))
                }
                9 => {
                    is_exec = true;
                    let (from, to) = (self.key(1, "n", 3), self.key(1, "n", 3));
                    let lines = ["SELECT 1".into(), format!("RENAME {} {}", from.1, to.1)];
                    let back = ["SELECT 0".into()];
                    (exec(&[&lines[..], &back[..]].concat()), Deed::Other)
                }
                10 => {
                    let key = self.key(0, "c", 3);
                    (words(&format!("INCRBY {} 3", key.1)), Deed::Other)
                }
                _ => {
                    is_exec = true;
                    let key = self.key(2, "e", 2);
                    let ms = self.rng.u8(1..60);
                    let set = format!("SET {} {token} PX {ms}", key.1);
                    let lines = ["SELECT 2".into(), set, "SELECT 0".into()];
                    (exec(&lines), one(&key))
                }
            }
        };
        if let Deed::Tokens(keys, token) = &deed {
            self.transactions.push((keys.clone(), token.clone()));
        }
        let hand = &mut self.hands[at];
        (hand.deed, hand.is_exec) = (Some(deed), is_exec);
        self.world.send(hand.typist, &bytes);
    }

    /// Something happens.
    fn act(&mut self, shards: usize) {
        let core = self.rng.usize(..shards);
        match self.rng.u32(..100) {
            0..25 => {
                let at = self.rng.usize(..self.hands.len());
                let rests = at == self.flusher && self.rng.u8(..8) > 0;
                if self.hands[at].deed.is_none() && !rests {
                    self.send(at);
                }
            }
            25..75 => drop(self.world.step()),
            75..83 => self.world.work_disk(core, false),
            83..92 => self.world.work_disk(core, true),
            92..94 => self.world.advance_ms(5),
            94..96 => {
                let disk = self.world.disk.as_mut().unwrap();
                disk.sync_old(core);
            }
            96 if !self.world.disk.as_ref().unwrap().is_rewriting() => self.world.begin_rewrite(),
            97 => {
                let table = self.world.table();
                self.world.disk.as_mut().unwrap().end_rewrite(&table);
            }
            _ => {}
        }
        self.observe();
        for hand in &mut self.hands {
            let heard = self.world.peek_heard(hand.typist);
            let is_done = if hand.is_exec {
                heard.windows(3).any(|three| three == b"\r\n*")
            } else {
                !heard.is_empty()
            };
            if is_done && let Some(deed) = hand.deed.take() {
                let heard = self.world.received(hand.typist);
                assert!(!heard.starts_with(b"-"), "{heard:?}");
                self.promised.push(deed);
            }
        }
    }

    /// The least version of each key that must have survived.
    fn floors(&self) -> BTreeMap<Key, usize> {
        let mut floors: BTreeMap<Key, usize> = BTreeMap::new();
        let mut raise = |key: &Key, to: usize| {
            let floor = floors.entry(key.clone()).or_default();
            *floor = (*floor).max(to);
        };
        self.initial.iter().for_each(|key| raise(key, 1));
        let mut flushes = self.flushes.iter();
        for deed in &self.promised {
            match deed {
                Deed::Tokens(keys, token) => {
                    for key in keys {
                        // What was overwritten in the same turn was never seen.
                        if let Some(to) = self.first_with(key, token) {
                            raise(key, to);
                        }
                    }
                }
                Deed::Flush { sent } => {
                    let Some(&(from, to)) = flushes.next() else {
                        continue;
                    };
                    assert!(to == 0 || from > *sent);
                    if to > 0 {
                        for (key, all) in self.history.iter().filter(|(key, _)| key.0 == 0) {
                            let at = all.iter().rposition(|version| version.since <= to);
                            raise(key, at.unwrap_or(0));
                        }
                    }
                }
                Deed::Other => {}
            }
        }
        floors
    }

    fn first_with(&self, key: &Key, token: &str) -> Option<usize> {
        let has = |version: &Version| version.value.as_ref().is_some_and(|it| shows(it, token));
        self.history.get(key)?.iter().position(has)
    }

    /// Which versions of each key the state that was recovered may be; says why if there are none.
    fn candidates(
        &self,
        state: &BTreeMap<Key, Vec<u8>>,
        floors: &BTreeMap<Key, usize>,
    ) -> Result<BTreeMap<Key, Vec<usize>>, String> {
        if let Some(key) = state.keys().find(|key| !self.history.contains_key(key)) {
            return Err(format!("{key:?} was never there"));
        }
        let mut all = BTreeMap::new();
        for (key, versions) in &self.history {
            let value = state.get(key);
            let floor = floors.get(key).copied().unwrap_or(0);
            let found: Vec<usize> = (floor..versions.len())
                .filter(|&at| versions[at].value.as_ref() == value)
                .collect();
            if found.is_empty() {
                let was = (0..floor).rfind(|&at| versions[at].value.as_ref() == value);
                let value = value.map(|value| String::from_utf8_lossy(value).into_owned());
                return Err(format!(
                    "{key:?} is {value:?}, version {was:?}, but {floor} of {} was acknowledged",
                    versions.len()
                ));
            }
            all.insert(key.clone(), found);
        }
        Ok(all)
    }

    fn check_whole(&self, found: &BTreeMap<Key, Vec<usize>>) -> Result<(), String> {
        for (keys, token) in &self.transactions {
            let (mut may, mut may_not) = (true, true);
            let firsts: Vec<_> = keys.iter().map(|key| self.first_with(key, token)).collect();
            for (key, first) in keys.iter().zip(&firsts) {
                let (Some(first), Some(at)) = (*first, found.get(key)) else {
                    continue;
                };
                may &= at.iter().any(|&at| at >= first);
                may_not &= at.iter().any(|&at| at < first);
            }
            if !may && !may_not {
                return Err(format!("{token} is there by half: {keys:?}"));
            }
        }
        for &(from, to) in self.flushes.iter().filter(|flush| flush.1 > 0) {
            let (mut before, mut after) = (None, None);
            for (key, at) in found.iter().filter(|(key, _)| key.0 == 0) {
                let versions = &self.history[key];
                let is_before =
                    |&at: &usize| versions.get(at + 1).is_some_and(|next| next.since <= to);
                let is_after = |&at: &usize| versions[at].since >= from;
                if at.iter().all(is_before) {
                    before = Some(key);
                }
                if at.iter().all(is_after) {
                    after = Some(key);
                }
            }
            if let (Some(before), Some(after)) = (before, after) {
                return Err(format!(
                    "a flush has not reached {before:?}, but {after:?} is later"
                ));
            }
        }
        Ok(())
    }
}

/// What became of a trial.
#[derive(Debug, Default)]
struct Tally {
    promised: usize,
    dropped: u64,
    rewrites: usize,
    flushes: usize,
    /// Servers that went on with segments, and those that had to begin new ones.
    resumed: usize,
    anew: usize,
}

/// Servers one after another, each on what the one before has left.
fn run(shards: usize, seed: u64, tally: &mut Tally) -> Result<(), String> {
    let mut rng = fastrand::Rng::with_seed(seed ^ 0xd15c);
    let policy = [Policy::Always, Policy::Written][rng.usize(..2)];
    let mut trial = Trial::new(shards, seed, policy);
    for life in 0..rng.u64(1..4) {
        let tokens = trial.tokens;
        let found = live(trial, &mut rng, (shards, policy), tally);
        let found = found.map_err(|reason| format!("life {life}: {reason}"))?;
        match found.goes_on() {
            true => tally.resumed += 1,
            false => tally.anew += 1,
        }
        trial = Trial::resume(shards, seed * 7 + life, policy, &found, tokens + 100);
    }
    live(trial, &mut rng, (shards, policy), tally).map(drop)
}

/// One server, from its start to what is found after its end.
fn live(
    mut trial: Trial,
    rng: &mut fastrand::Rng,
    (shards, policy): (usize, Policy),
    tally: &mut Tally,
) -> Result<Recovered, String> {
    let end = [End::Kill, End::PowerCut][rng.usize(..2)];
    for _ in 0..rng.usize(20..500) {
        trial.act(shards);
    }
    let table = trial.world.table();
    let disk = trial.world.disk.take().unwrap();
    tally.rewrites += disk.rewrites;
    tally.promised += trial.promised.len();
    tally.flushes += trial.flushes.iter().filter(|flush| flush.1 > 0).count();
    let (base, generations) = disk.end(end, rng);
    let found = recover(base, generations, &table);
    tally.dropped += found.dropped;

    let mut next = World::new(1, 0);
    next.stop_clock();
    let client = next.connect(0);
    for item in &found.items {
        next.send(client, &item.commands);
        next.settle();
        let reply = next.received(client);
        if reply.starts_with(b"-") || reply.windows(3).any(|three| three == b"\r\n-") {
            let text = String::from_utf8_lossy(&item.commands).into_owned();
            return Err(format!("refused: {text:?}: {reply:?}"));
        }
    }
    let mut state = BTreeMap::new();
    for (db, key, value, _) in next.state() {
        state.insert((db, String::from_utf8(key).unwrap()), value);
    }
    let is_kept = end == End::Kill || policy == Policy::Always;
    if !is_kept {
        // Only what was there from the start is certain.
        trial.promised.clear();
    }
    let floors = trial.floors();
    let moved = state.keys().filter(|key| key.0 == 1).count();
    let versions = trial.candidates(&state, &floors);
    let checked = versions.and_then(|versions| trial.check_whole(&versions));
    let checked = checked.and_then(|()| match moved {
        1 => Ok(()),
        _ => Err(format!("the key that moves is there {moved} times")),
    });
    checked.map_err(|reason| format!("{policy:?}, {end:?}: {reason}"))?;
    Ok(found)
}

fn run_all(shards: usize, seeds: u64) {
    let mut tally = Tally::default();
    let mut failures = Vec::new();
    for seed in 0..seeds {
        if let Err(reason) = run(shards, seed, &mut tally) {
            failures.push(format!("{shards} shards, seed {seed}: {reason}"));
        }
    }
    let shown = failures.iter().take(5).cloned().collect::<Vec<_>>();
    assert!(
        failures.is_empty(),
        "{} of {seeds} failed:\n{}",
        failures.len(),
        shown.join("\n")
    );
    // The trials are about something.
    let is_rich = tally.promised as u64 > seeds * 5 && tally.flushes > 0 && tally.rewrites > 0;
    assert!(is_rich && tally.dropped > 0, "{tally:?}");
    let goes_on = tally.resumed as u64 > seeds / 4 && (shards == 1 || tally.anew > 0);
    assert!(goes_on, "{tally:?}");
}

#[test]
fn one_shard_keeps_what_it_has_acknowledged() {
    run_all(1, 250);
}

#[test]
fn two_shards_keep_what_they_have_acknowledged() {
    run_all(2, 250);
}

#[test]
fn four_shards_keep_what_they_have_acknowledged() {
    run_all(4, 250);
}

/// All that a server did is on its disk when it ends: the next one has the same keys.
fn end_whole(shards: usize, seed: u64) {
    let mut rng = fastrand::Rng::with_seed(seed ^ 0x4e1);
    let mut world = World::new(shards, seed);
    world.keep_journals(Policy::Written);
    let clients: Vec<Typist> = (0..4).map(|n| world.connect(n % shards)).collect();
    for _ in 0..150 {
        let client = clients[rng.usize(..clients.len())];
        let request = match rng.u8(..3) {
            0 => random_transaction(&mut rng),
            _ => {
                let words = random_request(&mut rng);
                encode(&words.iter().map(String::as_str).collect::<Vec<_>>())
            }
        };
        world.send(client, &request);
        for _ in 0..rng.usize(..12) {
            world.step();
            let ms = rng.i64(..30) - 20;
            world.tick_ms(ms.max(0));
        }
        let core = rng.usize(..shards);
        world.work_disk(core, false);
    }
    world.settle_on_disk();
    world.wait_out();
    // What is due goes, and that is written, too.
    world.advance_ms(1);
    world.settle_on_disk();
    let (state, table) = (world.state(), world.table());
    let (base, generations) = world.disk.take().unwrap().end(End::Kill, &mut rng);
    let found = recover(base, generations, &table);
    let mut next = World::new(1, 0);
    next.stop_clock();
    let client = next.connect(0);
    for item in &found.items {
        next.send(client, &item.commands);
        next.settle();
        let reply = String::from_utf8_lossy(&next.received(client)).into_owned();
        assert!(
            !reply.lines().any(is_error),
            "seed {seed}: {reply} to {}",
            String::from_utf8_lossy(&item.commands)
        );
    }
    for (had, has) in state.iter().zip(&next.state()) {
        assert_eq!(had, has, "seed {seed}");
    }
    assert_eq!(state.len(), next.state().len(), "seed {seed}");
}

#[test]
fn a_server_that_ends_whole_begins_with_the_same_keys() {
    for seed in 0..48 {
        end_whole([1, 2, 3, 4][seed as usize % 4], seed);
    }
}
