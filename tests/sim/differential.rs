//! One client, many shards: the same replies and the same state as with a single keyspace.

use pinion::command::{Run, Table};

use crate::world::{World, encode, generated_names, random_request};

fn run(shards: usize, seed: u64, requests: usize) {
    let mut many = World::new(shards, seed);
    let mut one = World::new(1, seed);
    let mut rng = fastrand::Rng::with_seed(seed ^ 0xfeed);
    let (a, b) = (many.connect(rng.usize(..shards)), one.connect(0));
    let mut compared = 0;
    while compared < requests {
        // Pipelines of any length, cut anywhere.
        let batch: Vec<Vec<String>> = (0..rng.usize(1..12))
            .map(|_| random_request(&mut rng))
            .collect();
        let bytes: Vec<u8> = batch
            .iter()
            .flat_map(|words| encode(&words.iter().map(String::as_str).collect::<Vec<_>>()))
            .collect();
        let cut = rng.usize(..=bytes.len());
        for piece in [&bytes[..cut], &bytes[cut..]] {
            many.send(a, piece);
            for _ in 0..rng.usize(..4) {
                many.step();
            }
        }
        many.settle();
        one.send(b, &bytes);
        let (waited, expected_wait) = (many.wait_out(), one.wait_out());
        assert_eq!(
            waited, expected_wait,
            "shards {shards} seed {seed}: {batch:?}"
        );
        let (ours, expected) = (many.received(a), one.received(b));
        assert_eq!(
            String::from_utf8_lossy(&ours),
            String::from_utf8_lossy(&expected),
            "shards {shards} seed {seed}: {batch:?}"
        );
        compared += batch.len();
        assert_eq!(
            many.state(),
            one.state(),
            "shards {shards} seed {seed}: {batch:?}"
        );
        if rng.u8(..) < 20 {
            let ms = rng.i64(1..60_000);
            many.advance_ms(ms);
            one.advance_ms(ms);
        }
    }
    many.assert_quiet();
    assert!(
        shards == 1 || many.delivered > requests as u64 / 4,
        "nothing crossed shards"
    );
}

#[test]
fn replies_and_state_equal_those_of_one_keyspace() {
    for shards in [1, 2, 3, 4] {
        for seed in 0..6 {
            run(shards, seed, 1500);
        }
    }
}

#[test]
fn every_command_that_writes_keys_has_a_generator() {
    let table = Table::new(&[]).unwrap();
    let generated = generated_names();
    let missing: Vec<&str> = table
        .entries()
        .iter()
        .filter(|entry| entry.command.is_write() && !matches!(entry.command.run, Run::Job(_)))
        .map(|entry| entry.command.name)
        .filter(|name| !generated.iter().any(|known| known == name))
        .collect();
    assert!(missing.is_empty(), "no generator for {missing:?}");
}
