//! What was recorded is what happened: replaying the records gives the same state.

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
