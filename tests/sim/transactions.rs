//! MULTI, EXEC, WATCH over shards: whole, isolated, in order.

use crate::world::{Typist, World, random_request};

fn text(reply: &[u8]) -> String {
    String::from_utf8_lossy(reply).replace("\r\n", "|")
}

fn ask(world: &mut World, client: Typist, line: &str) -> String {
    let words: Vec<&str> = line.split(' ').collect();
    text(&world.ask(client, &words))
}

#[test]
fn queued_commands_run_as_one() {
    for shards in [1, 2, 4] {
        let mut world = World::new(shards, 7);
        let client = world.connect(0);
        let lines = [
            ("EXEC", "-ERR EXEC without MULTI|"),
            ("DISCARD", "-ERR DISCARD without MULTI|"),
            ("MULTI", "+OK|"),
            ("MULTI", "-ERR MULTI calls can not be nested|"),
            ("WATCH a", "-ERR WATCH inside MULTI is not allowed|"),
            ("SET a 1", "+QUEUED|"),
            ("MSET b 2 c 3 d 4", "+QUEUED|"),
            ("INCR a", "+QUEUED|"),
            ("LPUSH a x", "+QUEUED|"),
            ("BLPOP nothing 0", "+QUEUED|"),
            ("SELECT 1", "+QUEUED|"),
            ("SET z 9", "+QUEUED|"),
            ("SELECT 0", "+QUEUED|"),
            ("RENAME b e", "+QUEUED|"),
            ("DBSIZE", "+QUEUED|"),
            ("MGET a b c d e z", "+QUEUED|"),
            (
                "EXEC",
                "*11|+OK|+OK|:2|-WRONGTYPE Operation against a key holding the wrong kind of \
                 value|*-1|+OK|+OK|+OK|+OK|:4|*6|$1|2|$-1|$1|3|$1|4|$1|2|$-1|",
            ),
            ("MULTI", "+OK|"),
            ("SET a", "-ERR wrong number of arguments for 'set' command|"),
            (
                "EXEC",
                "-EXECABORT Transaction discarded because of previous errors.|",
            ),
            ("MULTI", "+OK|"),
            ("SET a 5", "+QUEUED|"),
            ("DISCARD", "+OK|"),
            ("GET a", "$1|2|"),
            ("MULTI", "+OK|"),
            ("EXEC", "*0|"),
        ];
        for (line, reply) in lines {
            assert_eq!(
                ask(&mut world, client, line),
                reply,
                "{shards} shards: {line}"
            );
        }
        world.assert_quiet();
    }
}

#[test]
fn a_watched_key_that_changed_stops_the_transaction() {
    let changes = [
        ("SET a 2", true),
        ("SET other 2", false),
        ("EXPIRE a 100", true),
        ("DEL a", true),
        ("FLUSHALL", true),
        ("FLUSHDB", true),
        ("SWAPDB 0 1", true),
        ("RENAME c a", true),
        ("MSET b 1 a 2", true),
        ("GET a", false),
    ];
    for shards in [1, 2, 4] {
        for (change, stops) in changes {
            let mut world = World::new(shards, 8);
            let (client, other) = (world.connect(0), world.connect(shards - 1));
            ask(&mut world, other, "MSET a 1 b 1 c 1");
            assert_eq!(ask(&mut world, client, "WATCH a b a"), "+OK|");
            ask(&mut world, other, change);
            ask(&mut world, client, "MULTI");
            ask(&mut world, client, "SET d 1");
            let reply = ask(&mut world, client, "EXEC");
            let expected = if stops { "*-1|" } else { "*1|+OK|" };
            assert_eq!(reply, expected, "{shards} shards: {change}");
            // What was watched is forgotten with the transaction.
            ask(&mut world, other, "SET a 3");
            ask(&mut world, client, "MULTI");
            assert_eq!(ask(&mut world, client, "EXEC"), "*0|");
            world.assert_quiet();
        }
    }
}

#[test]
fn a_watched_key_that_expires_stops_the_transaction() {
    for shards in [1, 2, 4] {
        let mut world = World::new(shards, 9);
        let client = world.connect(0);
        ask(&mut world, client, "SET a 1 PX 5");
        ask(&mut world, client, "WATCH a b");
        world.advance_ms(10);
        ask(&mut world, client, "MULTI");
        ask(&mut world, client, "SET b 1");
        assert_eq!(ask(&mut world, client, "EXEC"), "*-1|", "{shards} shards");
        ask(&mut world, client, "WATCH a");
        ask(&mut world, client, "UNWATCH");
        ask(&mut world, client, "SET a 2");
        ask(&mut world, client, "MULTI");
        assert_eq!(ask(&mut world, client, "EXEC"), "*0|");
        world.assert_quiet();
    }
}

#[test]
fn what_was_watched_counts_though_the_client_has_gone() {
    for shards in [1, 2, 4] {
        for seed in 0..40 {
            let mut world = World::new(shards, seed);
            let (client, other) = (world.connect(0), world.connect(shards - 1));
            ask(&mut world, other, "MSET a 1 b 1 c 1 d 1");
            ask(&mut world, client, "WATCH a b c d");
            ask(&mut world, other, "INCR b");
            for line in ["MULTI", "MSET e 1 f 1 g 1 h 1"] {
                ask(&mut world, client, line);
            }
            world.send_line(client, &["EXEC"]);
            for _ in 0..seed / 4 {
                world.step();
            }
            world.disconnect(client);
            world.settle();
            let left = ask(&mut world, other, "EXISTS e f g h");
            assert_eq!(left, ":0|", "{shards} shards, seed {seed}");
            world.assert_quiet();
        }
    }
}

/// Money moves between accounts on all shards by WATCH and MULTI from many clients at once; readers
/// with MGET never see any of it missing.
#[test]
fn transfers_conserve_the_sum() {
    const ACCOUNTS: usize = 6;
    for shards in [1, 2, 4] {
        for seed in 0..6 {
            let mut world = World::new(shards, seed);
            let mut rng = fastrand::Rng::with_seed(seed);
            let bank = world.connect(0);
            let names: Vec<String> = (0..ACCOUNTS).map(|n| format!("account{n}")).collect();
            for name in &names {
                ask(&mut world, bank, &format!("SET {name} 100"));
            }
            let movers: Vec<Typist> = (0..4).map(|n| world.connect(n % shards)).collect();
            let reader = world.connect(shards - 1);
            let (mut sums, mut done) = (0, 0);
            for _ in 0..150 {
                let mover = movers[rng.usize(..movers.len())];
                let (from, to) = (&names[rng.usize(..ACCOUNTS)], &names[rng.usize(..ACCOUNTS)]);
                for words in [
                    &["WATCH", from, to][..],
                    &["MULTI"],
                    &["DECRBY", from, "7"],
                    &["INCRBY", to, "7"],
                    &["EXEC"],
                ] {
                    world.send_line(mover, words);
                }
                let mut line = vec!["MGET"];
                line.extend(names.iter().map(String::as_str));
                world.send_line(reader, &line);
                for _ in 0..rng.usize(..12) {
                    world.step();
                }
            }
            world.settle();
            let replies = text(&world.received(reader));
            for reply in replies.split("*6|").filter(|reply| !reply.is_empty()) {
                let values = reply
                    .split('|')
                    .skip(1)
                    .step_by(2)
                    .filter(|word| !word.is_empty());
                let sum: i64 = values.map(|word| word.parse::<i64>().unwrap()).sum();
                assert_eq!(
                    sum,
                    100 * ACCOUNTS as i64,
                    "{shards} shards, seed {seed}: {reply}"
                );
                sums += 1;
            }
            for mover in movers {
                done += text(&world.received(mover)).matches("*2|").count();
            }
            assert!(sums == 150 && done > 20, "{sums} sums, {done} transfers");
            world.assert_quiet();
        }
    }
}

/// What a transaction replies is what the same commands reply one by one.
#[test]
fn transactions_reply_as_their_commands_do() {
    for shards in [1, 2, 4] {
        for seed in 0..6 {
            let (mut many, mut one) = (World::new(shards, seed), World::new(1, seed));
            let mut rng = fastrand::Rng::with_seed(seed ^ 0xabc);
            let (a, b) = (many.connect(rng.usize(..shards)), one.connect(0));
            for _ in 0..60 {
                let queue: Vec<Vec<String>> = (0..rng.usize(1..8))
                    .map(|_| random_request(&mut rng))
                    .filter(|words| !words[0].starts_with('B') || words[0].starts_with("BIT"))
                    .filter(|words| !words.iter().any(|word| word == "BLOCK"))
                    .collect();
                many.ask(a, &["MULTI"]);
                for words in &queue {
                    let words: Vec<&str> = words.iter().map(String::as_str).collect();
                    assert_eq!(text(&many.ask(a, &words)), "+QUEUED|");
                }
                let reply = text(&many.ask(a, &["EXEC"]));
                let mut expected = format!("*{}|", queue.len());
                for words in &queue {
                    let words: Vec<&str> = words.iter().map(String::as_str).collect();
                    expected += &text(&one.ask(b, &words));
                }
                assert_eq!(reply, expected, "{shards} shards, seed {seed}: {queue:?}");
                assert_eq!(
                    many.state(),
                    one.state(),
                    "{shards} shards, seed {seed}: {queue:?}"
                );
            }
            many.assert_quiet();
        }
    }
}

const SETS: &str = "return redis.call('SET', KEYS[1], '2')";

/// What the last of three commands of a transaction is, the second of which is SELECT 1.
type Last = fn(&str) -> Vec<&str>;

/// Whatever has run of it when its client goes, and wherever the rest runs.
fn goes_on_in_its_database(shards: usize, last: Last) {
    let mut begun = 0;
    for steps in 0..40 {
        let mut world = World::new(shards, 11);
        let names: Vec<String> = (0..100).map(|n| format!("key{n}")).collect();
        let shared = &world;
        let at = |home: usize| names.iter().filter(move |it| shared.home(it) == home);
        let (first, second) = (at(1).next().unwrap(), at(shards - 2).next_back().unwrap());
        let client = world.connect(0);
        world.send_line(client, &["MULTI"]);
        world.send_line(client, &["SET", first, "1"]);
        world.send_line(client, &["SELECT", "1"]);
        world.send_line(client, &last(second));
        world.send_line(client, &["EXEC"]);
        for _ in 0..steps {
            world.step();
        }
        world.disconnect(client);
        world.settle();
        let other = world.connect(0);
        let is_done = ask(&mut world, other, &format!("GET {first}")) == "$1|1|";
        let wrong = ask(&mut world, other, &format!("GET {second}"));
        assert_eq!(wrong, "$-1|", "{shards} shards, {steps} steps");
        ask(&mut world, other, "SELECT 1");
        let right = ask(&mut world, other, &format!("GET {second}"));
        assert_eq!(right == "$1|2|", is_done, "{shards} shards, {steps} steps");
        begun += usize::from(is_done);
    }
    assert!(begun > 0);
}

#[test]
fn a_transaction_without_its_client_goes_on_in_the_database_it_has_selected() {
    for shards in [2, 3] {
        goes_on_in_its_database(shards, |key| vec!["SET", key, "2"]);
        goes_on_in_its_database(shards, |key| vec!["EVAL", SETS, "1", key]);
    }
}
