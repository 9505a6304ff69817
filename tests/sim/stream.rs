//! One stream for replicas: whatever the mail from the shards does to their feeds, it leads to the same
//! state, and no command of it shows half of a transaction. A replica, on however many shards, has the
//! master's clock and the master's keys: it deletes nothing by itself, and shows nothing that is due.

use std::collections::VecDeque;

use pinion::coordinator::stream::{Merge, Passed};
use pinion::shard::feed::Fed;

use crate::world::{Typist, World, encode, is_error, random_request, random_transaction};

/// Keys that are only ever written together, by MSET or in a transaction.
const TOGETHER: [&str; 4] = ["t0", "t1", "t2", "t3"];
const EPOCH: u32 = 1;
const CUT: u32 = 7;

struct Trial {
    world: World,
    replica: World,
    reader: Typist,
    merge: Merge,
    /// What each shard told, on its way.
    mail: Vec<VecDeque<Vec<Fed>>>,
    rng: fastrand::Rng,
    seed: u64,
    passed: Vec<Passed>,
    bytes: usize,
    compared: usize,
    /// Keys of the replica that were due and not deleted yet.
    hidden: usize,
}

impl Trial {
    fn new(shards: usize, seed: u64) -> Trial {
        let mut world = World::new(shards, seed);
        world.feed_replicas(EPOCH, CUT);
        let mut replica = World::new(1 + seed as usize / 4 % 3, seed);
        let reader = replica.follow(0);
        Trial {
            world,
            replica,
            reader,
            merge: Merge::new(shards),
            hidden: 0,
            mail: (0..shards).map(|_| VecDeque::new()).collect(),
            rng: fastrand::Rng::with_seed(seed ^ 0xfeed),
            seed,
            passed: Vec::new(),
            bytes: 0,
            compared: 0,
        }
    }

    fn post(&mut self) {
        for (shard, mail) in self.mail.iter_mut().enumerate() {
            mail.extend(self.world.take_feed(shard, EPOCH));
        }
    }

    /// Some of the mail arrives, or all of it.
    fn deliver(&mut self, all: bool) {
        for shard in 0..self.mail.len() {
            let count = match all {
                true => self.mail[shard].len(),
                false => self.rng.usize(..=self.mail[shard].len().min(3)),
            };
            for items in self.mail[shard].drain(..count) {
                self.merge.push(shard, items);
            }
            while let Some(passed) = self.merge.advance() {
                self.passed.push(passed);
            }
            self.play();
        }
    }

    /// The replica carries out what there is.
    fn play(&mut self) {
        let stream = self.merge.take();
        if stream.is_empty() {
            return;
        }
        self.bytes += stream.len();
        self.replica.send(self.reader, &stream);
        self.replica.settle();
        let replies = self.replica.received(self.reader);
        let text = String::from_utf8_lossy(&replies);
        let seed = self.seed;
        assert!(
            !text.lines().any(is_error),
            "seed {seed}: {text} to {}",
            String::from_utf8_lossy(&stream)
        );
        let db = self
            .replica
            .connect(self.rng.usize(..self.replica.shards()));
        let mget: Vec<&str> = ["MGET"].into_iter().chain(TOGETHER).collect();
        let reply = self.replica.ask(db, &mget);
        let text = String::from_utf8_lossy(&reply);
        let values: Vec<&str> = text.split("\r\n$").skip(1).collect();
        assert!(
            values
                .windows(2)
                .all(|pair| pair[0].trim() == pair[1].trim()),
            "seed {seed}: {values:?} behind {}",
            String::from_utf8_lossy(&stream)
        );
        self.replica.disconnect(db);
        self.compared += 1;
    }

    /// Time passes, for both.
    fn advance(&mut self, ms: i64) {
        self.world.advance_ms(ms);
        self.replica.advance_ms(ms);
        self.hidden += self.replica.check_hidden();
    }

    /// A moment passes, and what is due by then is still there.
    fn tick(&mut self, ms: i64) {
        self.world.tick_ms(ms);
        self.replica.tick_ms(ms);
    }

    /// Everything arrives: both have the same.
    fn compare(&mut self) {
        self.world.settle();
        // What is due goes, and is told.
        self.advance(1);
        self.world.settle();
        self.post();
        self.deliver(true);
        let seed = self.seed;
        assert!(!self.merge.is_waiting(), "seed {seed}");
        let (ours, theirs) = (self.world.state(), self.replica.state());
        for (left, right) in ours.iter().zip(&theirs) {
            assert_eq!(left, right, "seed {seed}");
        }
        assert_eq!(ours.len(), theirs.len(), "seed {seed}");
        assert_eq!(self.replica.expired(), 0, "seed {seed}");
    }

    fn request(&mut self, number: usize) -> Vec<u8> {
        let token = format!("{number}");
        match self.rng.u8(..7) {
            0 => {
                let pairs = TOGETHER.iter().flat_map(|key| [*key, &token]);
                encode(&["MSET"].into_iter().chain(pairs).collect::<Vec<_>>())
            }
            1 => {
                let sets = TOGETHER.map(|key| encode(&["SET", key, &token]));
                [encode(&["MULTI"]), sets.concat(), encode(&["EXEC"])].concat()
            }
            2 => random_transaction(&mut self.rng),
            _ => {
                let words = random_request(&mut self.rng);
                // Keys may not go alone that are written together, nor to other databases.
                match words[0].as_str() {
                    "SELECT" | "SWAPDB" | "FLUSHDB" | "FLUSHALL" if self.rng.u8(..4) > 0 => {
                        encode(&["PING"])
                    }
                    _ => encode(&words.iter().map(String::as_str).collect::<Vec<_>>()),
                }
            }
        }
    }
}

/// The replica becomes a master, and catches up with what is due.
fn promote(trial: &mut Trial) {
    trial.advance(100_000);
    trial.replica.lead();
    trial.replica.advance_ms(0);
    let seed = trial.seed;
    assert_eq!(trial.world.state(), trial.replica.state(), "seed {seed}");
}

fn run(shards: usize, seed: u64) -> (usize, usize) {
    let mut trial = Trial::new(shards, seed);
    let clients: Vec<Typist> = (0..5).map(|n| trial.world.connect(n % shards)).collect();
    for number in 0..400 {
        let client = clients[trial.rng.usize(..clients.len())];
        let request = trial.request(number);
        trial.world.send(client, &request);
        for _ in 0..trial.rng.usize(..8) {
            trial.world.step();
            trial.post();
            if trial.rng.u8(..6) == 0 {
                let ms = trial.rng.i64(1..100);
                trial.tick(ms);
            }
        }
        if trial.rng.u8(..25) == 0 {
            let ms = trial.rng.i64(1..20_000);
            trial.advance(ms);
        }
        if number % 100 == 99 {
            trial.compare();
        }
        trial.post();
        if trial.rng.u8(..3) == 0 {
            trial.deliver(false);
        }
    }
    trial.world.settle();
    let waited_ms = trial.world.wait_out();
    trial.replica.advance_ms(waited_ms);
    trial.compare();
    assert_eq!(trial.passed, [Passed::Cut(CUT)]);
    promote(&mut trial);
    assert!(
        trial.bytes > 1000,
        "seed {seed}: the stream tells of little"
    );
    (trial.compared, trial.hidden)
}

/// Keys of shard 1 and of shard 0.
fn names_of_two(world: &World) -> (String, String) {
    let of = |shard| {
        let mut names = (0..).map(|n| format!("key{n}"));
        names.find(|name| world.home(name) == shard)
    };
    (of(1).unwrap(), of(0).unwrap())
}

/// A reading finds that a key has expired which the same transaction has written.
#[test]
fn what_expires_within_a_transaction_is_told_in_its_place() {
    let mut trial = Trial::new(2, 1);
    let client = trial.world.connect(0);
    let (a, b) = names_of_two(&trial.world);
    for words in [
        &["MULTI"][..],
        &["SET", &a, "1", "PX", "5"],
        &["EXISTS", &a, &b],
        &["HSET", &a, "f", "v"],
        &["EXEC"],
    ] {
        trial.world.send_line(client, words);
    }
    while trial.world.step() {
        trial.tick(6);
    }
    let replies = trial.world.received(client);
    assert!(replies.ends_with(b"*3\r\n+OK\r\n:0\r\n:1\r\n"));
    trial.compare();
}

/// Somebody makes a key anew which a move to another home has left behind.
#[test]
fn what_follows_a_move_between_homes_is_told_behind_it() {
    for seed in 0..20 {
        let mut trial = Trial::new(2, seed);
        let (mover, other) = (trial.world.connect(0), trial.world.connect(1));
        let (a, b) = names_of_two(&trial.world);
        trial.world.ask(mover, &["SET", &a, "old"]);
        trial.world.send_line(mover, &["RENAME", &a, &b]);
        loop {
            trial.world.send_line(other, &["SET", &a, "new", "NX"]);
            trial.post();
            trial.deliver(false);
            if !trial.world.step() {
                break;
            }
        }
        trial.compare();
        assert_eq!(trial.world.state().len(), 2, "seed {seed}");
    }
}

#[test]
fn the_stream_leads_to_the_same_state() {
    let (mut compared, mut hidden) = (0, 0);
    for seed in 0..48 {
        let ran = run([1, 2, 3, 4][seed % 4], seed as u64);
        compared += ran.0;
        hidden += ran.1;
    }
    assert!(compared > 1000, "little was compared");
    assert!(hidden > 50, "little was due: {hidden}");
}
