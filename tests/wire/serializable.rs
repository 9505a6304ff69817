//! Transactions of many clients at once are as if they had run one after another.
//!
//! Two proofs. A bank, whose accounts lie on every shard: whoever looks sees the same sum. And a
//! history of appends and reads, from which `cycles` tells whether any order explains it; also
//! while clients wait on other keys, while the server writes its files, and across a crash.
//!
//! Which client does what follows from its seed; how they meet is up to the machine, so more runs
//! find more:
//!
//! ```text
//! PINION_SERIAL_RUNS=50 cargo test --test wire serializable
//! ```

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, ScopedJoinHandle};
use std::time::{Duration, Instant};

use crate::client::{Client, Got, encode, shown};
use crate::cycles::{Step, Transaction, check};
use crate::persistence::wait_for;
use crate::process::{Server, Which};
use crate::sameness::{bulk, elements};

/// Accounts of the bank: few, so that transfers meet.
const ACCOUNTS: usize = 12;
const OPENING: i64 = 1_000;
const TOTAL: i64 = 12_000;
/// By each client.
const TRANSFERS: usize = 250;

/// Lists of the history.
const LISTS: usize = 8;
const WRITERS: usize = 5;
/// By each client: some of one transaction, some of several in one packet.
const ROUNDS: usize = 120;
const BURST_MAX: usize = 3;
const STEPS_MAX: usize = 5;
/// Until a server that has no data accepts commands.
const START_WAIT: Duration = Duration::from_secs(10);
/// Values that are appended before the crash.
const UNTIL_CRASH: usize = 400;
/// How long a client waits that nobody serves, in seconds.
const BLOCK: &str = "0.05";

// ---- what they have in common ----------------------------------------------------------------

/// Runs with so many shards each, and the seed of each: that of its first client.
fn seeds(shards: &[u32], first: u64) -> Vec<(u32, u64)> {
    let runs = std::env::var("PINION_SERIAL_RUNS");
    let runs = runs.map_or(1, |text| text.parse().expect("PINION_SERIAL_RUNS"));
    let shards = (0..runs).flat_map(|_| shards.iter().copied());
    shards.zip((first..).step_by(10)).collect()
}

/// A connection on which commands are accepted.
fn connect(server: &Server) -> Client {
    let deadline = Instant::now() + START_WAIT;
    loop {
        let mut client = server.client();
        let reply = client.text("PING");
        if !reply.starts_with("-LOADING") {
            return client;
        }
        assert!(Instant::now() < deadline, "{reply}");
        thread::sleep(Duration::from_millis(1));
    }
}

/// Sends commands in one packet and takes all their replies; `None` if the server is gone.
fn try_batch(client: &mut Client, commands: &[Vec<Vec<u8>>]) -> Option<Vec<Vec<u8>>> {
    let packet: Vec<u8> = commands.iter().flat_map(|words| encode(words)).collect();
    client.send(&packet);
    let replies = client.replies(commands.len());
    let taken = replies.into_iter().map(|reply| match reply {
        Got::Reply(bytes) if bytes[0] != b'-' => Some(bytes),
        Got::Closed(_) => None,
        other => panic!("unexpected: {}", other.shown()),
    });
    taken.collect()
}

fn batch(client: &mut Client, commands: &[Vec<Vec<u8>>]) -> Vec<Vec<u8>> {
    try_batch(client, commands).expect("the server is there")
}

/// The same with the commands as text.
fn lines(client: &mut Client, commands: &[String]) -> Vec<Vec<u8>> {
    let commands: Vec<Vec<Vec<u8>>> = commands.iter().map(|line| words(line)).collect();
    batch(client, &commands)
}

fn words(line: &str) -> Vec<Vec<u8>> {
    line.split(' ')
        .map(|word| word.as_bytes().to_vec())
        .collect()
}

/// Of an integer or of a bulk string that holds one.
fn number<N: std::str::FromStr>(reply: &[u8]) -> N {
    let digits = match reply[0] {
        b':' => &reply[1..reply.len() - 2],
        b'$' => bulk(reply),
        _ => panic!("no number: {}", shown(reply)),
    };
    let parsed = std::str::from_utf8(digits)
        .ok()
        .and_then(|text| text.parse().ok());
    parsed.unwrap_or_else(|| panic!("no number: {}", shown(reply)))
}

fn numbers<N: std::str::FromStr>(reply: &[u8]) -> Vec<N> {
    let Some(elements) = elements(reply) else {
        panic!("no array: {}", shown(reply));
    };
    elements.into_iter().map(number).collect()
}

/// What EXEC brought: nothing when a watched key had changed.
fn executed(reply: &[u8]) -> Option<Vec<&[u8]>> {
    if reply == b"*-1\r\n" {
        return None;
    }
    let replies = elements(reply);
    Some(replies.unwrap_or_else(|| panic!("EXEC: {}", shown(reply))))
}

// ---- the bank --------------------------------------------------------------------------------

/// How a transfer is made.
#[derive(Clone, Copy)]
enum Means {
    /// MULTI, DECRBY, INCRBY, EXEC in one packet.
    Counters,
    /// WATCH, GET; MULTI, SET, EXEC.
    WatchedSet,
    /// WATCH, MGET; MULTI, MSET, EXEC among three accounts.
    WatchedMset,
    /// EVAL of a script that is called with both accounts.
    Script,
    /// EVAL of one that is told only their numbers.
    WildScript,
}

/// One client each.
const MEANS: [Means; 7] = [
    Means::Counters,
    Means::Counters,
    Means::WatchedSet,
    Means::WatchedSet,
    Means::WatchedMset,
    Means::Script,
    Means::WildScript,
];

struct Teller {
    client: Client,
    rng: fastrand::Rng,
    conflicts: usize,
}

fn account(number: usize) -> String {
    format!("account:{number}")
}

impl Teller {
    fn transfer(&mut self, means: Means) {
        let mut picked: Vec<usize> = (0..ACCOUNTS).collect();
        self.rng.shuffle(&mut picked);
        let amount = self.rng.i64(1..50);
        match means {
            Means::Counters => self.count(&picked[..2], amount),
            Means::WatchedSet => self.watched(&picked[..2], amount, false),
            Means::WatchedMset => self.watched(&picked[..3], amount, true),
            Means::Script => self.run_script(true, &picked[..2], amount),
            Means::WildScript => self.run_script(false, &picked[..2], amount),
        }
    }

    fn count(&mut self, picked: &[usize], amount: i64) {
        let commands = [
            "MULTI".to_string(),
            format!("DECRBY {} {amount}", account(picked[0])),
            format!("INCRBY {} {amount}", account(picked[1])),
            "EXEC".to_string(),
        ];
        let replies = lines(&mut self.client, &commands);
        let done = executed(&replies[3]).map(|each| each.len());
        assert_eq!(done, Some(2), "{}", shown(&replies[3]));
    }

    fn run_script(&mut self, declares: bool, picked: &[usize], amount: i64) {
        const MOVE: &str = "local from, to = KEYS[1] or ARGV[2], KEYS[2] or ARGV[3] \
            local left = redis.call('get', from) - ARGV[1] \
            redis.call('set', from, left) \
            redis.call('incrby', to, ARGV[1]) \
            return left";
        let amount = amount.to_string();
        let (from, to) = (account(picked[0]), account(picked[1]));
        let command: Vec<&str> = match declares {
            true => vec!["EVAL", MOVE, "2", &from, &to, &amount],
            false => vec!["EVAL", MOVE, "0", &amount, &from, &to],
        };
        let command = command
            .iter()
            .map(|word| word.as_bytes().to_vec())
            .collect();
        let reply = batch(&mut self.client, &[command]);
        let _left: i64 = number(&reply[0]);
    }

    /// The first gives `amount` to each of the others; again until nobody came between.
    fn watched(&mut self, picked: &[usize], amount: i64, at_once: bool) {
        let names: Vec<String> = picked.iter().map(|&it| account(it)).collect();
        loop {
            let mut balances = self.watch(&names, at_once);
            for at in 1..balances.len() {
                balances[0] -= amount;
                balances[at] += amount;
            }
            let pairs = names.iter().zip(&balances);
            let pairs: Vec<String> = pairs.map(|(name, it)| format!("{name} {it}")).collect();
            let mut commands = vec!["MULTI".to_string()];
            if at_once {
                commands.push(format!("MSET {}", pairs.join(" ")));
            } else {
                commands.extend(pairs.iter().map(|pair| format!("SET {pair}")));
            }
            commands.push("EXEC".to_string());
            let replies = lines(&mut self.client, &commands);
            if executed(&replies[commands.len() - 1]).is_some() {
                return;
            }
            self.conflicts += 1;
        }
    }

    fn watch(&mut self, names: &[String], at_once: bool) -> Vec<i64> {
        let mut commands = vec![format!("WATCH {}", names.join(" "))];
        if at_once {
            commands.push(format!("MGET {}", names.join(" ")));
            return numbers(&lines(&mut self.client, &commands)[1]);
        }
        commands.extend(names.iter().map(|name| format!("GET {name}")));
        let replies = lines(&mut self.client, &commands);
        replies[1..].iter().map(|reply| number(reply)).collect()
    }
}

/// Looks at all accounts at once.
fn look(client: &mut Client, in_transaction: bool) {
    let names: Vec<String> = (0..ACCOUNTS).map(account).collect();
    let balances: Vec<i64> = if in_transaction {
        let mut commands = vec!["MULTI".to_string()];
        commands.extend(names.iter().map(|name| format!("GET {name}")));
        commands.push("EXEC".to_string());
        numbers(&lines(client, &commands)[commands.len() - 1])
    } else {
        numbers(&lines(client, &[format!("MGET {}", names.join(" "))])[0])
    };
    assert_eq!(balances.iter().sum::<i64>(), TOTAL, "{balances:?}");
}

fn run_bank(shards: u32, seed: u64) {
    let server = Server::start(Which::Pinion { shards }, &[]);
    let opened: Vec<String> = (0..ACCOUNTS)
        .map(|number| format!("SET {} {OPENING}", account(number)))
        .collect();
    lines(&mut connect(&server), &opened);
    let done = AtomicBool::new(false);
    let (conflicts, looks) = thread::scope(|scope| {
        let stop = StopOnDrop(&done);
        let auditors = [false, true].map(|in_transaction| {
            let mut client = connect(&server);
            let done = &done;
            scope.spawn(move || {
                times(done, || {
                    look(&mut client, in_transaction);
                    true
                })
            })
        });
        let tellers = MEANS.iter().zip(seed..).map(|(&means, seed)| {
            let mut teller = Teller {
                client: connect(&server),
                rng: fastrand::Rng::with_seed(seed),
                conflicts: 0,
            };
            scope.spawn(move || {
                (0..TRANSFERS).for_each(|_| teller.transfer(means));
                teller.conflicts
            })
        });
        let tellers: Vec<_> = tellers.collect();
        let conflicts: usize = tellers.into_iter().map(joined).sum();
        drop(stop);
        (conflicts, auditors.map(joined))
    });
    look(&mut connect(&server), false);
    assert!(conflicts > 0, "no transfer met another");
    assert!(looks.iter().all(|&looks| looks > 10), "looks: {looks:?}");
}

#[test]
fn every_look_at_the_bank_sees_the_same_sum() {
    for (shards, seed) in seeds(&[1, 2, 4], 100) {
        run_bank(shards, seed);
    }
}

// ---- the history -----------------------------------------------------------------------------

/// A command on one list, not yet sent.
#[derive(Clone, Copy)]
enum Plan {
    Append { key: usize, value: u64 },
    Read { key: usize },
}

impl Plan {
    fn words(self) -> Vec<Vec<u8>> {
        words(&match self {
            Plan::Append { key, value } => format!("RPUSH {} {value}", list(key)),
            Plan::Read { key } => format!("LRANGE {} 0 -1", list(key)),
        })
    }

    fn step(self, reply: &[u8]) -> Step {
        match self {
            Plan::Append { key, value } => Step::Append {
                key,
                value,
                len: number(reply),
            },
            Plan::Read { key } => Step::Read {
                key,
                values: numbers(reply),
            },
        }
    }
}

fn list(key: usize) -> String {
    format!("list:{key}")
}

struct Writer {
    client: Client,
    number: usize,
    rng: fastrand::Rng,
    next_value: u64,
    made: Vec<Transaction>,
    conflicts: usize,
    /// What was on its way when the server went, in the order it was sent.
    open: Vec<(Instant, Vec<Plan>)>,
}

impl Writer {
    fn new(server: &Server, number: usize, seed: u64) -> Writer {
        Writer {
            client: connect(server),
            number,
            rng: fastrand::Rng::with_seed(seed),
            next_value: 1_000_000 * (1 + u64::try_from(number).expect("small")),
            made: Vec::new(),
            conflicts: 0,
            open: Vec::new(),
        }
    }

    /// So many rounds, or until the server is gone.
    fn run(mut self, rounds: usize) -> Writer {
        for _ in 0..rounds {
            let done = match self.rng.u8(..3) {
                0 => self.watched(),
                _ => self.burst(),
            };
            if done.is_none() {
                break;
            }
        }
        self
    }

    fn append(&mut self) -> Plan {
        self.next_value += 1;
        let (key, value) = (self.rng.usize(..LISTS), self.next_value);
        Plan::Append { key, value }
    }

    fn read(&mut self) -> Plan {
        let key = self.rng.usize(..LISTS);
        Plan::Read { key }
    }

    /// At times only appends or only reads; a list may come up twice.
    fn plans(&mut self) -> Vec<Plan> {
        let appends_of_four = self.rng.u8(..=4);
        (0..self.rng.usize(1..=STEPS_MAX))
            .map(|_| match self.rng.u8(..4) < appends_of_four {
                true => self.append(),
                false => self.read(),
            })
            .collect()
    }

    /// Transactions in one packet, some of them bare commands.
    fn burst(&mut self) -> Option<()> {
        let count = self.rng.usize(1..=BURST_MAX);
        let groups: Vec<Vec<Plan>> = (0..count).map(|_| self.plans()).collect();
        let bare = |plans: &[Plan]| plans.len() == 1;
        let mut commands = Vec::new();
        for plans in &groups {
            match bare(plans) {
                true => commands.push(plans[0].words()),
                false => commands.extend(transaction(plans)),
            }
        }
        let sent = Instant::now();
        let replies = try_batch(&mut self.client, &commands);
        let Some(replies) = replies else {
            self.open = groups.into_iter().map(|plans| (sent, plans)).collect();
            return None;
        };
        let mut replies = replies.iter();
        for plans in groups {
            let reply = replies.nth(if bare(&plans) { 0 } else { plans.len() + 1 });
            let reply = reply.expect("one for each command");
            let each = match bare(&plans) {
                true => vec![&reply[..]],
                false => executed(reply).expect("nothing is watched"),
            };
            self.keep(sent, &plans, &each);
        }
        Some(())
    }

    /// What was read under WATCH belongs to the transaction that EXEC let through; otherwise each
    /// of the reads stands for itself.
    fn watched(&mut self) -> Option<()> {
        let reads: Vec<Plan> = (0..self.rng.usize(1..=2)).map(|_| self.read()).collect();
        let plans = [vec![self.append()], self.plans()].concat();
        let sent = Instant::now();
        let seen: Option<Vec<Vec<u8>>> = reads
            .iter()
            .map(|read| {
                let read = read.words();
                let watch = vec![b"WATCH".to_vec(), read[1].clone()];
                Some(try_batch(&mut self.client, &[watch, read])?.remove(1))
            })
            .collect();
        let seen = seen?;
        let seen: Vec<&[u8]> = seen.iter().map(|reply| &reply[..]).collect();
        let commands = transaction(&plans);
        let replies = try_batch(&mut self.client, &commands);
        let Some(replies) = replies else {
            self.open = vec![(sent, plans)];
            return None;
        };
        match executed(&replies[commands.len() - 1]) {
            Some(each) => self.keep(sent, &[reads, plans].concat(), &[seen, each].concat()),
            None => {
                self.conflicts += 1;
                for (read, seen) in reads.iter().zip(&seen) {
                    self.keep(sent, std::slice::from_ref(read), &[seen]);
                }
            }
        }
        Some(())
    }

    fn keep(&mut self, sent: Instant, plans: &[Plan], replies: &[&[u8]]) {
        assert_eq!(plans.len(), replies.len(), "a reply for each command");
        let steps = plans.iter().zip(replies);
        self.made.push(Transaction {
            client: self.number,
            sent,
            answered: Instant::now(),
            steps: steps.map(|(plan, reply)| plan.step(reply)).collect(),
        });
    }
}

fn transaction(plans: &[Plan]) -> Vec<Vec<Vec<u8>>> {
    let mut commands = vec![words("MULTI")];
    commands.extend(plans.iter().map(|plan| plan.words()));
    commands.push(words("EXEC"));
    commands
}

/// What goes on beside the history; returns how often.
type Beside = fn(&Server, &AtomicBool) -> usize;

fn run_history(server: &Server, seed: u64, besides: &[Beside]) {
    let done = AtomicBool::new(false);
    let (writers, times) = thread::scope(|scope| {
        let stop = StopOnDrop(&done);
        let besides = besides.iter().map(|beside| {
            let done = &done;
            scope.spawn(move || beside(server, done))
        });
        let besides: Vec<_> = besides.collect();
        let writers = (0..WRITERS).zip(seed..).map(|(number, seed)| {
            let writer = Writer::new(server, number, seed);
            scope.spawn(move || writer.run(ROUNDS))
        });
        let writers: Vec<_> = writers.collect();
        let writers: Vec<Writer> = writers.into_iter().map(joined).collect();
        drop(stop);
        let times: Vec<usize> = besides.into_iter().map(joined).collect();
        (writers, times)
    });
    let conflicts: usize = writers.iter().map(|writer| writer.conflicts).sum();
    let made: Vec<Transaction> = writers.into_iter().flat_map(|it| it.made).collect();
    let lists = lists(server);
    let found =
        check(&made, &lists).unwrap_or_else(|told| panic!("{}, seed {seed}: {told}", server.which));
    assert!(made.len() >= WRITERS * ROUNDS, "{}", made.len());
    assert!(conflicts > 0, "no transaction met another");
    let least = found
        .write_write
        .min(found.write_read)
        .min(found.read_write);
    assert!(least > 100, "{found:?}");
    assert!(times.iter().all(|&times| times > 0), "beside: {times:?}");
}

fn lists(server: &Server) -> Vec<Vec<u64>> {
    let reads: Vec<Plan> = (0..LISTS).map(|key| Plan::Read { key }).collect();
    let replies = batch(&mut connect(server), &transaction(&reads));
    let lists = executed(&replies[LISTS + 1]).expect("nothing is watched");
    lists.into_iter().map(numbers).collect()
}

#[test]
fn some_order_explains_what_transactions_saw() {
    for (shards, seed) in seeds(&[1, 2, 4], 1_000) {
        let server = Server::start(Which::Pinion { shards }, &[]);
        run_history(&server, seed, &[]);
    }
}

#[test]
fn some_order_explains_it_while_others_wait_and_files_are_written() {
    for (shards, seed) in seeds(&[2, 4], 2_000) {
        let journal = if shards == 4 { "yes" } else { "no" };
        let options = ["--appendonly", journal, "--appendfsync", "everysec"];
        let server = Server::start(Which::Pinion { shards }, &options);
        let write: Beside = match journal {
            "yes" => rewrite,
            _ => save,
        };
        run_history(&server, seed, &[take, move_about, feed, write]);
        if journal == "yes" {
            let before = lists(&server);
            assert_eq!(connect(&server).text("DEBUG LOADAOF"), "+OK\\r\\n");
            assert!(lists(&server) == before, "the journal tells another story");
        }
    }
}

/// Transactions that were on their way when the server was killed either took place as a whole or
/// not at all; those that were answered took place.
#[test]
fn some_order_explains_what_is_left_after_a_crash() {
    let options = ["--appendonly", "yes", "--appendfsync", "always"];
    for (shards, seed) in seeds(&[1, 2, 4], 3_000) {
        let which = Which::Pinion { shards };
        let mut server = Server::start(which, &options);
        let writers: Vec<Writer> = thread::scope(|scope| {
            let writers = (0..WRITERS).zip(seed..).map(|(number, seed)| {
                let writer = Writer::new(&server, number, seed);
                scope.spawn(move || writer.run(usize::MAX))
            });
            let writers: Vec<_> = writers.collect();
            wait_for("a history", || {
                lists(&server).iter().map(Vec::len).sum::<usize>() >= UNTIL_CRASH
            });
            server.signal("KILL");
            writers.into_iter().map(joined).collect()
        });
        let gone = Instant::now();
        server.exit();
        let mut again = Server::start_in(which, &server.dir, &options);
        again.wait_until_up();
        let lists = lists(&again);
        let (mut made, mut open, mut kept) = (Vec::new(), 0, 0);
        for writer in writers {
            made.extend(writer.made);
            for (sent, plans) in writer.open {
                open += 1;
                if let Some(steps) = survived(&plans, &lists) {
                    kept += 1;
                    made.push(Transaction {
                        client: writer.number,
                        sent,
                        answered: gone,
                        steps,
                    });
                }
            }
        }
        let told = format!("{which}, seed {seed}, {kept} of {open} open ones kept");
        let found = check(&made, &lists).unwrap_or_else(|why| panic!("{told}: {why}"));
        assert!(made.len() > 50 && open > 0, "{told}: {found:?}");
    }
}

/// The appends of a transaction nobody answered, if they are there.
fn survived(plans: &[Plan], lists: &[Vec<u64>]) -> Option<Vec<Step>> {
    let appends = plans.iter().filter_map(|plan| match *plan {
        Plan::Append { key, value } => Some((key, value)),
        Plan::Read { .. } => None,
    });
    let (mut there, mut missing) = (Vec::new(), 0);
    for (key, value) in appends {
        match lists[key].iter().position(|&it| it == value) {
            Some(at) => there.push(Step::Append {
                key,
                value,
                len: at + 1,
            }),
            None => missing += 1,
        }
    }
    assert!(
        missing == 0 || there.is_empty(),
        "{missing} appends are missing beside {there:?}"
    );
    (!there.is_empty()).then_some(there)
}

// ---- what goes on beside it ------------------------------------------------------------------

/// Waits on several keys, and counts what it got.
fn take(server: &Server, done: &AtomicBool) -> usize {
    let mut client = connect(server);
    let command = format!("BLPOP beside:1 beside:2 beside:3 {BLOCK}");
    times(done, || {
        lines(&mut client, std::slice::from_ref(&command))[0] != b"*-1\r\n"
    })
}

fn move_about(server: &Server, done: &AtomicBool) -> usize {
    let mut client = connect(server);
    let command = format!("BLMOVE beside:4 beside:1 RIGHT LEFT {BLOCK}");
    times(done, || {
        lines(&mut client, std::slice::from_ref(&command))[0] != b"$-1\r\n"
    })
}

/// For those who wait: sometimes one value, sometimes several at once.
fn feed(server: &Server, done: &AtomicBool) -> usize {
    let mut client = connect(server);
    let commands = [
        "RPUSH beside:4 a",
        "MULTI",
        "RPUSH beside:2 b",
        "LPUSH beside:4 c",
        "EXEC",
    ];
    let commands = commands.map(str::to_string);
    times(done, || {
        lines(&mut client, &commands);
        thread::sleep(Duration::from_millis(2));
        true
    })
}

fn rewrite(server: &Server, done: &AtomicBool) -> usize {
    write_files(server, done, "BGREWRITEAOF", "aof_rewrite_in_progress:0")
}

fn save(server: &Server, done: &AtomicBool) -> usize {
    write_files(server, done, "BGSAVE", "rdb_bgsave_in_progress:0")
}

/// Starts one whenever none is under way.
fn write_files(server: &Server, done: &AtomicBool, command: &str, idle: &str) -> usize {
    let mut client = connect(server);
    times(done, || {
        thread::sleep(Duration::from_millis(1));
        client.text("INFO persistence").contains(idle) && client.text(command).starts_with('+')
    })
}

/// Does something until it is done, and counts how often it succeeded.
fn times(done: &AtomicBool, mut one: impl FnMut() -> bool) -> usize {
    let mut times = 0;
    while !done.load(Ordering::Relaxed) {
        times += usize::from(one());
    }
    times
}

// ---- threads ---------------------------------------------------------------------------------

/// Lets those beside end, also when a thread has panicked.
struct StopOnDrop<'a>(&'a AtomicBool);

impl Drop for StopOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// What a thread returned; its panic is ours.
fn joined<T>(thread: ScopedJoinHandle<'_, T>) -> T {
    match thread.join() {
        Ok(value) => value,
        Err(panic) => std::panic::resume_unwind(panic),
    }
}
