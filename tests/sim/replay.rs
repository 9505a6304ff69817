//! What was recorded is what happened: replaying the records gives the same state.

use pinion::keyspace::{EXEC, MULTI};

use crate::world::{KeyState, World, random_request};

fn run(shards: usize, seed: u64) {
    let mut world = World::new(shards, seed);
    let mut replica = World::new(1, seed);
    let mut rng = fastrand::Rng::with_seed(seed ^ 0xbeef);
    let (client, replayer) = (world.connect(0), replica.connect(0));
    let mut replayed = 0;
    for _ in 0..1200 {
        let words = random_request(&mut rng);
        // These have one record per shard but are one change; replayed twice they would not be.
        if words[0] == "SWAPDB" && shards > 1 {
            continue;
        }
        let line: Vec<&str> = words.iter().map(String::as_str).collect();
        world.ask(client, &line);
        let waited = world.wait_out();
        replica.advance_ms(waited);
        if rng.u8(..) < 10 {
            let ms = rng.i64(1..30_000);
            world.advance_ms(ms);
            replica.advance_ms(ms);
        }
        for record in world.take_records().iter() {
            replica.ask(replayer, &["SELECT", &record.db.to_string()]);
            replica.send(replayer, record.command);
            replica.settle();
            let reply = replica.received(replayer);
            let text = String::from_utf8_lossy(record.command).into_owned();
            assert!(!reply.starts_with(b"-"), "seed {seed}: {text} was refused");
            replayed += 1;
        }
        for (left, right) in replica.state().iter().zip(&world.state()) {
            assert_eq!(
                text(left),
                text(right),
                "shards {shards} seed {seed}: {words:?}"
            );
        }
        assert_eq!(
            replica.state(),
            world.state(),
            "shards {shards} seed {seed}: {words:?}"
        );
    }
    assert!(replayed > 300, "only {replayed} records");
}

/// A key's state to be read by people.
fn text((db, key, value, deadline): &KeyState) -> String {
    let (key, value) = (String::from_utf8_lossy(key), String::from_utf8_lossy(value));
    format!("{db} {key} {value} {deadline:?}")
}

#[test]
fn replaying_the_records_gives_the_state() {
    for shards in [1, 2, 4] {
        (0..4).for_each(|seed| run(shards, seed));
    }
}

#[test]
fn what_a_command_did_is_repeated_as_a_whole() {
    let mut world = World::new(1, 2);
    let (client, waiter) = (world.connect(0), world.connect(0));
    world.send(waiter, b"BLMOVE from to LEFT RIGHT 0\r\n");
    world.settle();
    for (line, is_whole) in [
        ("SET a 1 PX 5", false),
        ("RENAME a b", true),
        ("MSET a 1 c 2", true),
        ("SADD s x y", false),
        ("SUNIONSTORE t s", true),
        ("DEL a c", true),
        ("DEL t", false),
        ("PSETEX a 5 1", false),
        ("PSETEX b 5 1", false),
    ] {
        let words: Vec<&str> = line.split(' ').collect();
        world.ask(client, &words);
        let records = world.take_records();
        let first = records.iter().next().map(|it| it.command.to_vec());
        assert_eq!(first.as_deref() == Some(MULTI), is_whole, "{line}");
        assert!(!is_whole || records.iter().last().unwrap().command == EXEC);
    }
    world.ask(client, &["RPUSH", "from", "x"]);
    let records: Vec<Vec<u8>> = world
        .take_records()
        .iter()
        .map(|it| it.command.to_vec())
        .collect();
    // What it pushed, then what the waiting client moved.
    assert_eq!((&*records[1], &*records[4]), (MULTI, EXEC));
    // Keys that a reader finds to be due end one by one.
    world.advance_ms(10);
    world.ask(client, &["MGET", "a", "b"]);
    let records = world.take_records();
    assert_eq!(records.len(), 2);
}
