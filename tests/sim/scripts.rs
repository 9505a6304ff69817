//! Scripts: what they cost in messages, wherever their client is.

use crate::world::World;

/// Twenty commands on one key.
const BUSY: &str =
    "for n = 1, 20 do redis.call('incr', KEYS[1]) end return redis.call('get', KEYS[1])";
/// Twenty commands on each of three keys.
const WIDE: &str =
    "for n = 1, 20 do for at = 1, 3 do redis.call('incr', KEYS[at]) end end return 1";

/// Leaves its keys if told so, after it has read them.
const LATE: &str = "redis.call('get', KEYS[1]) redis.call('get', KEYS[2]) \
    if ARGV[1] ~= KEYS[1] then return redis.call('get', ARGV[1]) end return 1";

/// Names of keys with a given home.
fn names_at(world: &World, home: usize, count: usize) -> Vec<String> {
    let names = (0..).map(|n| format!("key{n}"));
    names
        .filter(|name| world.home(name) == home)
        .take(count)
        .collect()
}

/// Messages that one request cost.
fn cost(world: &mut World, core: usize, words: &[&str], reply: &[u8]) -> u64 {
    let client = world.connect(core);
    let before = world.delivered;
    let got = world.ask(client, words);
    assert_eq!(got, reply, "{words:?}");
    world.disconnect(client);
    world.assert_quiet();
    world.delivered - before
}

#[test]
fn a_script_travels_to_its_keys() {
    for journaled in [0, 1] {
        let mut world = World::new(4, journaled);
        let there = names_at(&world, 2, 2);
        let here = names_at(&world, 0, 1);
        let one = ["EVAL", BUSY, "1", &there[0]];
        // The first run holds everything: what the script touches is not known.
        let first = cost(&mut world, 0, &one, b"$2\r\n20\r\n");
        assert!(first < 60, "{first} messages");
        assert_eq!(cost(&mut world, 0, &one, b"$2\r\n40\r\n"), 2);
        assert_eq!(cost(&mut world, 2, &one, b"$2\r\n60\r\n"), 0);
        let most = ["EVAL", WIDE, "3", &there[0], &there[1], &here[0]];
        cost(&mut world, 0, &most, b":1\r\n");
        // The key of another shard costs two messages for each command; those of this one nothing.
        let again = cost(&mut world, 0, &most, b":1\r\n");
        assert!(again < 60, "{again} messages");
        let away = cost(&mut world, 3, &most, b":1\r\n");
        assert_eq!(away, again, "wherever the client is");
    }
}

#[test]
fn a_script_that_leaves_its_keys_begins_again() {
    for journaled in [0, 1] {
        let mut world = World::new(3, journaled);
        let name = |home| names_at(&world, home, 1).remove(0);
        let (a, b, far) = (name(0), name(1), name(2));
        let client = world.connect(0);
        world.ask(client, &["SET", &far, "there"]);
        let near = ["EVAL", LATE, "2", &a, &b, &a];
        for _ in 0..2 {
            assert_eq!(world.ask(client, &near), b":1\r\n");
        }
        let reply = world.ask(client, &["EVAL", LATE, "2", &a, &b, &far]);
        assert_eq!(reply, b"$5\r\nthere\r\n");
        assert_eq!(world.ask(client, &near), b":1\r\n");
        world.assert_quiet();
    }
}

#[test]
fn a_client_that_goes_away_leaves_its_script_behind() {
    let mut world = World::new(4, 7);
    let key = names_at(&world, 1, 1).remove(0);
    let client = world.connect(0);
    world.send_line(client, &["EVAL", BUSY, "1", &key]);
    world.disconnect(client);
    world.settle();
    world.assert_quiet();
    let other = world.connect(3);
    assert_eq!(world.ask(other, &["GET", &key]), b"$2\r\n20\r\n");
    for (words, error) in [
        (["EVAL", "return (", "1", &key], "-ERR Error compiling"),
        (["EVALSHA", "0", "1", &key], "-NOSCRIPT No matching"),
        (
            ["EVAL", "return redis.call('x')", "1", &key],
            "-ERR Unknown Redis",
        ),
    ] {
        let reply = world.ask(other, &words);
        let reply = String::from_utf8_lossy(&reply);
        assert!(reply.starts_with(error), "{reply}");
    }
    world.assert_quiet();
}
