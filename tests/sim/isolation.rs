//! Many clients at once: atomicity and order, whatever the interleaving.

use crate::world::{Typist, World, encode};

fn integers(reply: &[u8]) -> Vec<i64> {
    let text = String::from_utf8_lossy(reply).into_owned();
    text.split("\r\n")
        .filter_map(|line| line.strip_prefix(':')?.parse().ok())
        .collect()
}

/// Integers in bulk replies, 0 for those that are null.
fn bulk_integers(reply: &[u8]) -> Vec<i64> {
    let text = String::from_utf8_lossy(reply).into_owned();
    let mut values = Vec::new();
    let mut lines = text.split("\r\n");
    while let Some(header) = lines.next() {
        match header {
            "$-1" => values.push(0),
            "" => {}
            _ => values.push(lines.next().unwrap().parse().unwrap()),
        }
    }
    values
}

/// Runs until every client has its reply, starting each client's next request at random moments.
fn interleave(world: &mut World, mut scripts: Vec<(Typist, Vec<Vec<u8>>)>) {
    loop {
        let open: Vec<usize> = (0..scripts.len())
            .filter(|&i| !scripts[i].1.is_empty())
            .collect();
        if open.is_empty() {
            break;
        }
        let i = open[world.rng.usize(..open.len())];
        let request = scripts[i].1.remove(0);
        let typist = scripts[i].0;
        world.send(typist, &request);
        for _ in 0..world.rng.usize(..6) {
            world.step();
        }
    }
    world.settle();
}

#[test]
fn readers_never_see_half_of_an_mset() {
    let group = ["a", "b", "c", "d", "e", "f"];
    let mut seen = 0;
    for seed in 0..60 {
        // Two homes are served with fewer messages than four.
        let cores = if seed % 2 == 0 { 2 } else { 4 };
        let mut world = World::new(cores, seed);
        let mut scripts = Vec::new();
        for writer in 0..4 {
            let client = world.connect(writer % cores);
            let writes = (0..20).map(|n| {
                let value = (writer * 1000 + n).to_string();
                let mut words = vec!["MSET"];
                group
                    .iter()
                    .for_each(|key| words.extend([*key, value.as_str()]));
                encode(&words)
            });
            let writes: Vec<_> = writes.collect();
            // Those of one pipeline go together.
            let pipelines = writes.chunks(1 + seed as usize % 5);
            scripts.push((client, pipelines.map(|some| some.concat()).collect()));
        }
        let readers: Vec<Typist> = (0..4).map(|n| world.connect(n % cores)).collect();
        let read = encode(&[&["MGET"], &group[..]].concat());
        for &reader in &readers {
            scripts.push((reader, vec![read.repeat(1 + seed as usize % 3); 25]));
        }
        interleave(&mut world, scripts);
        world.assert_quiet();
        for &reader in &readers {
            let reply = String::from_utf8(world.received(reader)).unwrap();
            for values in reply.split("*6\r\n").skip(1) {
                let mut values: Vec<&str> = values
                    .split("\r\n")
                    .filter(|line| !line.starts_with('$'))
                    .collect();
                values.retain(|value| !value.is_empty());
                assert!(
                    values.is_empty() || values.len() == 6,
                    "seed {seed}: {values:?}"
                );
                assert!(
                    values.iter().all(|v| *v == values[0]),
                    "seed {seed}: {values:?}"
                );
                seen += 1;
            }
        }
    }
    assert!(seen > 4500, "{seen} reads");
}

#[test]
fn who_has_seen_one_half_of_an_mset_sees_the_other() {
    let mut informative = 0;
    for seed in 0..120 {
        let cores = 2 + seed as usize % 3;
        let mut world = World::new(cores, seed);
        let mut scripts = Vec::new();
        let core = world.rng.usize(..cores);
        let writer = world.connect(core);
        let mset = |n: usize| {
            let n = n.to_string();
            encode(&["MSET", "a", &n, "b", &n, "c", &n, "d", &n])
        };
        // Those of one pipeline go together, once some have gone alone.
        let writes: Vec<_> = (1..=30).map(mset).collect();
        let pipelines = writes.chunks(1 + seed as usize % 7);
        scripts.push((writer, pipelines.map(|some| some.concat()).collect()));
        let read =
            |first: &str, then: &str| [encode(&["GET", first]), encode(&["GET", then])].concat();
        let mut readers = Vec::new();
        for (first, then) in [("a", "b"), ("b", "a"), ("c", "d"), ("d", "a"), ("b", "c")] {
            let core = world.rng.usize(..cores);
            let reader = world.connect(core);
            readers.push(reader);
            scripts.push((reader, vec![read(first, then); 30]));
        }
        interleave(&mut world, scripts);
        world.assert_quiet();
        for reader in readers {
            let values = bulk_integers(&world.received(reader));
            assert_eq!(values.len(), 60);
            for pair in values.chunks(2) {
                assert!(pair[1] >= pair[0], "seed {seed}: {pair:?}");
                informative += usize::from(pair[0] > 0 && pair[0] < 30);
            }
        }
    }
    assert!(informative > 5000, "{informative}");
}

#[test]
fn a_renamed_key_is_always_at_exactly_one_name() {
    for seed in 0..40 {
        let mut world = World::new(3, seed);
        let setter = world.connect(0);
        world.ask(setter, &["SET", "n0", "v"]);
        let names = ["n0", "n1", "n2", "n3", "n4"];
        let mut scripts = Vec::new();
        for core in 0..3 {
            let client = world.connect(core);
            let moves = (0..20).map(|_| {
                let from = names[world.rng.usize(..names.len())];
                let to = names[world.rng.usize(..names.len())];
                encode(&["RENAME", from, to])
            });
            let moves: Vec<Vec<u8>> = moves.collect();
            scripts.push((client, moves));
        }
        let reader = world.connect(1);
        scripts.push((
            reader,
            vec![encode(&[&["EXISTS"], &names[..]].concat()); 30],
        ));
        interleave(&mut world, scripts);
        world.assert_quiet();
        let counts = integers(&world.received(reader));
        assert_eq!(counts, vec![1; 30], "seed {seed}");
    }
}

#[test]
fn a_pipeline_takes_effect_in_program_order_for_everybody() {
    let mut informative = 0;
    for seed in 0..60 {
        let mut world = World::new(4, seed);
        let (writer, reader) = (world.connect(0), world.connect(1));
        let mut writes = Vec::new();
        for n in 1..=30 {
            writes.extend(encode(&["SET", "x", &n.to_string()]));
            writes.extend(encode(&["SET", "y", &n.to_string()]));
        }
        // y is written after x, so whoever reads y first and then x sees x at least as new.
        let read = [encode(&["GET", "y"]), encode(&["GET", "x"])].concat();
        interleave(
            &mut world,
            vec![(writer, vec![writes]), (reader, vec![read; 30])],
        );
        let values = bulk_integers(&world.received(reader));
        assert_eq!(values.len(), 60);
        for pair in values.chunks(2) {
            assert!(
                pair[1] >= pair[0],
                "seed {seed}: y was {} and then x {}",
                pair[0],
                pair[1]
            );
            informative += i64::from(pair[0] > 0 && pair[0] < 30);
        }
    }
    assert!(
        informative > 100,
        "{informative} reads fell between the writes"
    );
}
