//! Requests through one core, from bytes to replies: the parser alone, and then what a pipelined
//! command costs without sockets.
//!
//! `cargo bench --bench requests` sends a million of each; `cargo test` a thousand. With names of
//! commands behind it, it sends only those. The last line is a hash of all replies: it changes only
//! with behaviour.

use std::hash::Hasher;
use std::hint::black_box;
use std::sync::Arc;
use std::time::Instant;

use pinion::command::errand::Parcel;
use pinion::command::{Client, Job, Table};
use pinion::keyspace::Keyspace;
use pinion::resp::{Args, CmdError, Limits, Output, Parsed, Parser};
use pinion::runtime::clock;
use pinion::session::{Core, Host, Link, Peer, Performed};
use pinion::shard::message::{Message, SessionKey};
use pinion::shard::{Place, Shard};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const REQUESTS_MAX: usize = 1_000_000;
const REQUESTS_SMALL: usize = 1_000;
/// Requests that arrive together.
const PIPELINE: usize = 16;
const SESSION: SessionKey = 1;
const DATABASES: u32 = 16;

/// No jobs, nobody watching.
struct Nobody;

impl Host for Nobody {
    fn perform(
        &mut self,
        _core: &mut Core,
        _link: &mut dyn Link,
        _session: SessionKey,
        _job: Job,
        _args: &Args,
        _out: &mut Output,
    ) -> Performed {
        Performed::Failed(CmdError::Text("ERR there are no jobs here"))
    }

    /// Nothing here leaves this server.
    fn errand(&mut self, _core: &mut Core, _link: &mut dyn Link, _work: u64, _parcel: Parcel) {}
}

/// One connection whose replies are read at once.
#[derive(Default)]
struct Wire {
    out: Output,
}

impl Link for Wire {
    fn out(&mut self, _session: SessionKey) -> &mut Output {
        &mut self.out
    }
    fn pending_bytes(&self, _session: SessionKey) -> usize {
        0
    }
    fn notify_drained(&mut self, _session: SessionKey) {}
    fn pause_recv(&mut self, _session: SessionKey) {}
    fn resume_recv(&mut self, _session: SessionKey) {}
    fn close(&mut self, _session: SessionKey) {}
    fn close_after_flush(&mut self, _session: SessionKey) {}
    fn post(&mut self, _to: usize, _message: Message) {
        unreachable!("one core sends no mail")
    }
    fn now_us(&self) -> i64 {
        1_700_000_000_000_000
    }
}

/// The commands of redis-benchmark's list; `*` stands for a number.
const COMMANDS: [(&str, &str); 12] = [
    ("ping", "PING"),
    ("set", "SET key:* vvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvv"),
    ("get", "GET key:*"),
    ("incr", "INCR counter:*"),
    ("lpush", "LPUSH list vvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvv"),
    ("lpop", "LPOP list"),
    ("sadd", "SADD set element:*"),
    ("spop", "SPOP set"),
    ("hset", "HSET hash element:* vvvvvvvvvvvvvvvv"),
    ("zadd", "ZADD zset * element:*"),
    ("zpopmin", "ZPOPMIN zset"),
    ("expire", "EXPIRE key:* 1000"),
];

/// A batch of requests, each with numbers of its own.
fn batch(line: &str, rng: &mut fastrand::Rng, into: &mut Vec<u8>) {
    into.clear();
    for _ in 0..PIPELINE {
        let words: Vec<&str> = line.split(' ').collect();
        into.extend(format!("*{}\r\n", words.len()).bytes());
        for word in words {
            let word = word.replace('*', &format!("{:012}", rng.u32(..100_000)));
            into.extend(format!("${}\r\n{word}\r\n", word.len()).bytes());
        }
    }
}

/// Prints nanoseconds per request; what is sent is made beforehand, a part at a time.
fn measure(what: &str, line: &str, requests: usize, mut run: impl FnMut(&[u8])) {
    const BATCHES: usize = 64;
    let mut rng = fastrand::Rng::with_seed(1);
    let mut batches = vec![Vec::new(); BATCHES];
    let (mut spent_ns, mut sent) = (0, 0);
    while sent < requests {
        for bytes in &mut batches {
            batch(line, &mut rng, bytes);
        }
        let begun = Instant::now();
        for bytes in &batches {
            run(bytes);
        }
        spent_ns += begun.elapsed().as_nanos();
        sent += BATCHES * PIPELINE;
    }
    let ns = spent_ns as f64 / sent as f64;
    println!("{what:<16} {ns:8.1} ns");
}

/// The parser alone.
fn parse(requests: usize) {
    let limits = Limits {
        authenticated: true,
        ..Limits::default()
    };
    let line = "SET key:* vvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvv";
    let mut parser = Parser::default();
    measure("parse set", line, requests, |bytes| {
        let mut at = 0;
        while let Ok(Parsed::Request { consumed }) = parser.parse(&bytes[at..], &limits) {
            black_box(parser.args(&bytes[at..]).len());
            parser.next();
            at += consumed;
        }
        assert_eq!(at, bytes.len());
    });
}

fn core() -> Core {
    clock::start_stopwatch();
    let table = Arc::new(Table::new(&[]).expect("no command is renamed"));
    let place = Place {
        shard: 0,
        shards: 1,
    };
    let keyspace = Keyspace::new(DATABASES, 1);
    let shard = Shard::new(place, keyspace, table.entries().len(), clock::stopwatch_ns);
    let mut core = Core::new(shard, table);
    let client = Client {
        databases: DATABASES,
        authenticated: true,
        ..Client::default()
    };
    core.open(SESSION, client, Peer::Unix("bench".into()), -1, 0);
    core
}

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let requests = if args.iter().any(|arg| arg == "--bench") {
        REQUESTS_MAX
    } else {
        REQUESTS_SMALL
    };
    let chosen: Vec<&str> = args
        .iter()
        .map(String::as_str)
        .filter(|arg| COMMANDS.iter().any(|(name, _)| name == arg))
        .collect();
    parse(requests);
    let (mut core, mut wire) = (core(), Wire::default());
    let mut replies = ahash::AHasher::default();
    for (name, line) in COMMANDS {
        if !chosen.is_empty() && !chosen.contains(&name) {
            continue;
        }
        measure(name, line, requests, |bytes| {
            core.receive(SESSION, bytes, &mut wire, &mut Nobody);
            assert!(
                !wire.out.bytes.is_empty() && wire.out.bytes[0] != b'-',
                "{name}"
            );
            replies.write(&wire.out.bytes);
            wire.out.clear();
        });
    }
    println!("result {:016x}", replies.finish());
}
