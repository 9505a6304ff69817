use std::collections::{HashMap, HashSet};

use super::*;

/// Entries are numbers; their hash is a mix of the number, their handle the number itself.
fn hash(n: u64) -> u64 {
    let mixed = (n ^ (n >> 31)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (mixed ^ (mixed >> 29)).wrapping_mul(0xbf58_476d_1ce4_e5b9)
}

fn handle(n: u64) -> Handle {
    Handle::from_bits(n).unwrap()
}

fn hash_of(handle: Handle) -> u64 {
    hash(handle.to_bits())
}

fn insert(dict: &mut Dict, n: u64) {
    dict.insert(hash(n), handle(n), hash_of);
}

fn remove(dict: &mut Dict, n: u64) -> bool {
    let found = dict.find(hash(n), |h| h == handle(n));
    if let Some((position, _)) = found {
        dict.remove(hash(n), position);
    }
    found.is_some()
}

#[test]
fn behaves_as_a_set_through_growth_and_shrink() {
    let seed = 11;
    let mut rng = fastrand::Rng::with_seed(seed);
    let mut dict = Dict::default();
    let mut model = HashSet::new();
    for round in 0..200_000u64 {
        let growing = (round / 40_000) % 2 == 0;
        let n = rng.u64(1..30_000);
        if rng.u8(..) < if growing { 200 } else { 50 } {
            if model.insert(n) {
                insert(&mut dict, n);
            }
        } else {
            assert_eq!(
                remove(&mut dict, n),
                model.remove(&n),
                "seed {seed} round {round}"
            );
        }
        assert_eq!(dict.len(), model.len());
    }
    for n in 1..30_000 {
        assert_eq!(
            dict.find(hash(n), |h| h == handle(n)).is_some(),
            model.contains(&n)
        );
    }
    let mut all = HashSet::new();
    dict.for_each(|h| assert!(all.insert(h.to_bits())));
    assert_eq!(all, model);
}

#[test]
fn a_scan_returns_whatever_stays_however_the_table_changes() {
    for seed in 0..20 {
        let mut rng = fastrand::Rng::with_seed(seed);
        let mut dict = Dict::default();
        (1..=2000).for_each(|n| insert(&mut dict, n));
        let mut seen = HashSet::new();
        let mut cursor = 0;
        let mut guests: Vec<u64> = (501..=2000).collect();
        let (mut fresh, mut steps) = (10_000.., 0);
        loop {
            cursor = dict.scan(cursor, |h| {
                seen.insert(h.to_bits());
            });
            if cursor == 0 {
                break;
            }
            // Between two calls the table grows or shrinks a lot, by turns to sixteen times its
            // size and back; 1..=500 always stay.
            steps += 1;
            let (growing, churn) = (steps / 40 % 2 == 0, rng.usize(..400));
            if growing && guests.len() < 8000 {
                for n in fresh.by_ref().take(churn) {
                    insert(&mut dict, n);
                    guests.push(n);
                }
            } else {
                for _ in 0..churn.min(guests.len()) {
                    let n = guests.swap_remove(rng.usize(..guests.len()));
                    assert!(remove(&mut dict, n));
                }
            }
        }
        assert!((1..=500).all(|n| seen.contains(&n)), "seed {seed}");
    }
}

#[test]
fn load_stays_constant_and_chains_short() {
    let mut dict = Dict::default();
    for n in 1..=100_000u64 {
        insert(&mut dict, n);
        if n > 60_000 && n % 9973 == 0 {
            let bytes = dict.memory_bytes() as f64 / n as f64;
            assert!(bytes < 13.0, "{bytes} bytes per entry at {n}");
        }
    }
}

#[test]
fn random_entries_are_fair() {
    let mut dict = Dict::default();
    (1..=100).for_each(|n| insert(&mut dict, n));
    let mut rng = fastrand::Rng::with_seed(3);
    let mut counts: HashMap<u64, usize> = HashMap::new();
    for _ in 0..100_000 {
        *counts
            .entry(dict.random(&mut rng).unwrap().to_bits())
            .or_default() += 1;
    }
    assert_eq!(counts.len(), 100);
    assert!(
        counts.values().all(|&n| (700..1300).contains(&n)),
        "{counts:?}"
    );
}

#[test]
fn dismantling_hands_out_every_entry_once() {
    let mut dict = Dict::default();
    (1..=5000).for_each(|n| insert(&mut dict, n));
    let mut all = HashSet::new();
    while let Some(handles) = dict.dismantle() {
        handles
            .into_iter()
            .for_each(|h| assert!(all.insert(h.to_bits())));
    }
    assert_eq!(all.len(), 5000);
}

#[test]
fn no_entry_of_a_long_chain_is_left_out() {
    let mut dict = Dict::default();
    let all: Vec<u64> = (1..).filter(|n| hash(*n) & 0xff == 0).take(24).collect();
    all.iter().for_each(|&n| insert(&mut dict, n));
    assert_eq!(dict.shape(), (3, 2), "all in one bucket");
    let mut rng = fastrand::Rng::with_seed(4);
    let mut counts: HashMap<u64, usize> = HashMap::new();
    for _ in 0..24_000 {
        let found = dict.random(&mut rng).unwrap();
        *counts.entry(found.to_bits()).or_default() += 1;
    }
    assert_eq!(counts.len(), all.len());
    let is_fair = |n: &usize| (700..1300).contains(n);
    assert!(counts.values().all(is_fair), "{counts:?}");
}

#[test]
fn random_entries_are_fair_in_what_a_large_table_has_left_behind() {
    let mut dict = Dict::default();
    (1..=200_000).for_each(|n| insert(&mut dict, n));
    // One entry is left in an overflow bucket, which keeps all others.
    let chain: Vec<u64> = (1..).filter(|n| hash(*n) & 0xfff == 0).take(11).collect();
    let goes = |n: &u64| !chain.contains(n);
    (1..=200_000).filter(goes).for_each(|n| {
        remove(&mut dict, n);
    });
    assert!(dict.shape().1 > 0 && dict.overflow.len > 1000);
    let mut rng = fastrand::Rng::with_seed(5);
    let mut counts: HashMap<u64, usize> = HashMap::new();
    for _ in 0..11_000 {
        let found = dict.random(&mut rng).unwrap();
        *counts.entry(found.to_bits()).or_default() += 1;
    }
    assert_eq!(counts.len(), 11);
    let is_fair = |n: &usize| (800..1200).contains(n);
    assert!(counts.values().all(is_fair), "{counts:?}");
}
