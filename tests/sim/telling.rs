//! Events of keys: every command's in its own order and together, each key's in the order of its
//! changes, whatever the interleaving.

use std::collections::BTreeSet;

use crate::world::{World, encode};

const KEYS: [&str; 6] = ["a", "b", "c", "d", "e", "f"];
/// A transaction's keys, in its order.
const IN_EXEC: [&str; 4] = ["d", "a", "f", "b"];

fn random_requests(world: &mut World, count: usize) -> Vec<Vec<u8>> {
    let key = |world: &mut World| KEYS[world.rng.usize(..KEYS.len())];
    let one = |world: &mut World| match world.rng.u8(..8) {
        0 | 1 => {
            let pairs = KEYS.iter().flat_map(|key| [*key, "value"]);
            encode(&["MSET"].into_iter().chain(pairs).collect::<Vec<_>>())
        }
        2 => encode(&["DEL", key(world), key(world), key(world)]),
        3 => encode(&["RENAME", key(world), key(world)]),
        4 => encode(&["COPY", key(world), key(world), "REPLACE"]),
        5 => encode(&["GETDEL", key(world)]),
        6 => encode(&["APPEND", key(world), "x"]),
        _ => {
            let sets = IN_EXEC.map(|key| encode(&["SETRANGE", key, "0", "xyz"]));
            [encode(&["MULTI"]), sets.concat(), encode(&["EXEC"])].concat()
        }
    };
    (0..count).map(|_| one(world)).collect()
}

/// Events that nothing may come between.
fn assert_together(told: &[(String, String)], event: &str, keys: &[&str], seed: u64) -> usize {
    let told: Vec<_> = told.iter().filter(|(event, _)| event != "new").collect();
    let mut at = 0;
    let mut found = 0;
    while at < told.len() {
        if told[at].0 != event {
            at += 1;
            continue;
        }
        let group = told[at..].iter().take(keys.len());
        let names: Vec<&str> = group
            .filter(|(name, _)| name == event)
            .map(|(_, key)| key.as_str())
            .collect();
        assert_eq!(names, keys, "seed {seed}: {event} at {at}");
        at += keys.len();
        found += 1;
    }
    found
}

/// Goes through the events as a client that keeps a list of keys. Returns the keys there are.
fn follow(told: &[(String, String)], seed: u64) -> BTreeSet<String> {
    let mut there = BTreeSet::new();
    for (at, (event, key)) in told.iter().enumerate() {
        let fits = match event.as_str() {
            // A value that is moved over another is new, too.
            "new" => {
                there.insert(key.clone());
                true
            }
            "del" | "rename_from" => there.remove(key),
            "set" | "append" | "setrange" | "rename_to" | "copy_to" => there.contains(key),
            other => panic!("{other}"),
        };
        assert!(fits, "seed {seed}: {event} {key} at {at} of {told:?}");
    }
    there
}

#[test]
fn events_come_in_the_order_of_the_changes() {
    let (mut msets, mut execs) = (0, 0);
    for seed in 0..60 {
        let mut world = World::new(2 + (seed % 3) as usize, seed);
        world.listen();
        let cores = 4.min(2 + (seed % 3) as usize);
        let mut scripts: Vec<_> = (0..5)
            .map(|n| (world.connect(n % cores), random_requests(&mut world, 25)))
            .collect();
        while scripts.iter().any(|(_, requests)| !requests.is_empty()) {
            let at = world.rng.usize(..scripts.len());
            if let Some(request) = scripts[at].1.pop() {
                world.send(scripts[at].0, &request);
            }
            for _ in 0..world.rng.usize(..8) {
                world.step();
            }
        }
        world.settle();
        world.assert_quiet();
        let told = std::mem::take(&mut world.announced);
        msets += assert_together(&told, "set", &KEYS, seed);
        execs += assert_together(&told, "setrange", &IN_EXEC, seed);
        let there = follow(&told, seed);
        let state = world.state().into_iter();
        let keys: BTreeSet<String> = state
            .map(|(_, key, ..)| String::from_utf8(key).unwrap())
            .collect();
        assert_eq!(there, keys, "seed {seed}");
    }
    assert!(msets > 500 && execs > 300, "{msets} {execs}");
}

#[test]
fn nobody_listening_keeps_no_hold_for_it() {
    for listens in [false, true] {
        let mut world = World::new(2, 2);
        let client = world.connect(0);
        if listens {
            world.listen();
        }
        let before = world.delivered;
        world.ask(client, &["MSET", "a", "1", "b", "2", "c", "3"]);
        // Hold and held for each of two, finish and finished here; then both are told to let go.
        let wanted = if listens { 8 } else { 6 };
        assert_eq!(world.delivered - before, wanted);
    }
}
