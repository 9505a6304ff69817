use std::collections::BTreeMap;

use super::*;
use crate::command::testing::Bench;
use crate::value::hash::Hash;
use crate::value::set::Set;

fn set(ks: &mut Keyspace, key: &[u8], value: &[u8], ttl: Ttl) {
    let mut tx = ks.tx(0, 1000, true);
    tx.set_string(key, NewStr::Bytes(value), ttl);
    tx.wrote(key, Event::SET, |_| {});
    tx.finish();
}

fn get(ks: &mut Keyspace, key: &[u8], now_ms: i64) -> Option<Vec<u8>> {
    let mut tx = ks.tx(0, now_ms, true);
    let value = tx
        .string(key)
        .unwrap()
        .map(|value| value.to_bytes().to_vec());
    tx.finish();
    value
}

#[test]
fn strings_of_every_size_and_key_survive_overwrites() {
    let seed = 5;
    let mut rng = fastrand::Rng::with_seed(seed);
    let mut ks = Keyspace::new(2, seed);
    let mut model: BTreeMap<Vec<u8>, (Vec<u8>, Option<i64>)> = BTreeMap::new();
    for round in 0..30_000 {
        let long = rng.u8(..) < 10;
        let key = format!(
            "{}{}",
            "k".repeat(if long { 3000 } else { 1 }),
            rng.u32(..500)
        );
        let key = key.into_bytes();
        match rng.u8(..10) {
            0..=4 => {
                let value = match rng.u8(..4) {
                    0 => rng.i64(..).to_string().into_bytes(),
                    1 => vec![b'v'; rng.usize(..60)],
                    2 => vec![b'w'; rng.usize(..2100)],
                    _ => vec![b'x'; rng.usize(..70_000)],
                };
                let ttl = if rng.bool() {
                    Some(rng.i64(2000..900_000))
                } else {
                    None
                };
                set(&mut ks, &key, &value, ttl.map_or(Ttl::Clear, Ttl::At));
                model.insert(key, (value, ttl));
            }
            5 => {
                let mut tx = ks.tx(0, 1000, true);
                let removed = tx.remove(&key);
                tx.wrote(&key, Event::DEL, |_| {});
                tx.finish();
                assert_eq!(
                    removed,
                    model.remove(&key).is_some(),
                    "seed {seed} round {round}"
                );
            }
            6 => {
                let mut tx = ks.tx(0, 1000, true);
                let add = rng.usize(1..100);
                let old = model.get(&key).map_or(0, |(value, _)| value.len());
                tx.string_mut(&key, old + add).unwrap()[old..].fill(b'a');
                tx.wrote(&key, Event::APPEND, |_| {});
                tx.finish();
                let entry = model.entry(key).or_default();
                entry.0.resize(old + add, b'a');
            }
            7 => {
                let deadline = if rng.bool() {
                    Some(rng.i64(2000..900_000))
                } else {
                    None
                };
                let mut tx = ks.tx(0, 1000, true);
                let existed = tx.set_expiry(&key, deadline);
                tx.wrote(&key, Event::EXPIRE, |_| {});
                tx.finish();
                assert_eq!(existed, model.contains_key(&key));
                if let Some(entry) = model.get_mut(&key) {
                    entry.1 = deadline;
                }
            }
            8 => {
                let mut tx = ks.tx(0, 1000, true);
                if let Some(taken) = tx.take(&key) {
                    tx.select(1);
                    tx.put(&key, taken);
                    let back = tx.take(&key).unwrap();
                    tx.select(0);
                    tx.put(&key, back);
                    tx.wrote(&key, Event::RENAME_TO, |_| {});
                }
                tx.finish();
            }
            _ => {
                let expected = model.get(&key).map(|(value, _)| value.clone());
                assert_eq!(
                    get(&mut ks, &key, 1000),
                    expected,
                    "seed {seed} round {round}"
                );
            }
        }
    }
    let expires = model.values().filter(|(_, ttl)| ttl.is_some()).count();
    assert_eq!(
        ks.stats(0),
        DbStats {
            keys: model.len(),
            expires
        }
    );
    for now_ms in (0..=900_000).step_by(50_000) {
        while ks.pulse(now_ms, 100, |_, _| false) {}
        model.retain(|_, (_, ttl)| ttl.is_none_or(|at| at > now_ms));
        assert_eq!(ks.stats(0).keys, model.len(), "at {now_ms}");
    }
    for (key, (value, _)) in &model {
        assert_eq!(get(&mut ks, key, 900_000).as_ref(), Some(value));
    }
}

#[test]
fn reading_what_is_due_deletes_it_with_the_same_effects_as_the_pulse() {
    for lazily in [true, false] {
        let mut ks = Keyspace::new(1, 1);
        ks.effects.recording = true;
        ks.effects.classes = u32::MAX;
        set(&mut ks, b"k", b"v", Ttl::At(2000));
        ks.effects.records.clear();
        ks.effects.events.clear();
        if lazily {
            assert_eq!(get(&mut ks, b"k", 2000), None);
        } else {
            assert!(!ks.pulse(2000, 100, |_, _| false));
        }
        assert_eq!(
            ks.effects.records.iter().next().unwrap().command,
            b"*2\r\n$3\r\nDEL\r\n$1\r\nk\r\n"
        );
        assert_eq!(ks.effects.events[0].event, Event::EXPIRED);
        assert_eq!(ks.counters.expired, 1);
        assert_eq!(ks.next_expiry_ms(), None);
    }
}

#[test]
fn held_keys_outlive_the_pulse_until_they_are_released() {
    let mut ks = Keyspace::new(1, 1);
    set(&mut ks, b"k", b"v", Ttl::At(2000));
    ks.pulse(2000, 100, |_, key| key == b"k");
    ks.pulse(2001, 100, |_, key| key == b"k");
    ks.pulse(2002, 100, |_, key| key == b"k");
    assert_eq!(ks.stats(0).keys, 1);
    // Who holds it may live in an earlier time, and sees the deadline that it had.
    let mut tx = ks.tx(0, 1000, false);
    assert_eq!(tx.expire_at(b"k"), Some(Some(2000)));
    tx.finish();
    while ks.pulse(2003, 100, |_, _| false) {}
    assert_eq!(ks.stats(0).keys, 0);
}

#[test]
fn flushed_databases_are_freed_in_slices_and_their_deadlines_forgotten() {
    let mut ks = Keyspace::new(2, 1);
    for n in 0..20_000u32 {
        set(
            &mut ks,
            &n.to_le_bytes(),
            &[b'v'; 100],
            Ttl::At(5000 + i64::from(n)),
        );
    }
    let mut tx = ks.tx(1, 1000, true);
    tx.set_string(b"other", NewStr::Bytes(b"v"), Ttl::At(9000));
    tx.wrote(b"other", Event::SET, |_| {});
    tx.select(0);
    assert_eq!(tx.flush_db(true), 20_000);
    tx.finish();
    assert_eq!(ks.stats(0), DbStats::default());
    set(&mut ks, b"new", b"v", Ttl::At(7000));
    // Deadlines of flushed entries pass while those are being freed.
    ks.free_slice();
    while ks.pulse(6000, 1000, |_, _| false) {}
    let mut slices = 0;
    while ks.free_slice() {
        slices += 1;
    }
    assert!(slices > 10, "{slices} slices");
    assert_eq!((ks.stats(0).keys, ks.stats(1).keys), (1, 1));
    while ks.pulse(100_000, 1000, |_, _| false) {}
    assert_eq!((ks.stats(0).keys, ks.stats(1).keys), (0, 0));
    assert_eq!(ks.counters.expired, 2);
}

#[test]
fn a_small_pair_costs_less_than_100_bytes() {
    let mut ks = Keyspace::new(1, 1);
    for n in 0..200_000u64 {
        set(
            &mut ks,
            format!("key:{n:012}").as_bytes(),
            &[b'v'; 64],
            Ttl::Clear,
        );
    }
    let bytes = ks.memory_bytes() as f64 / 200_000.0;
    assert!(bytes < 100.0, "{bytes} bytes per key");
}

#[test]
fn a_database_that_is_flushed_for_ever_takes_no_deadline_of_another() {
    let mut ks = Keyspace::new(2, 5);
    let mut tx = ks.tx(1, 1000, true);
    tx.set_string(b"key", NewStr::Bytes(b"goes"), Ttl::At(2000));
    tx.wrote(b"key", Event::SET, |_| {});
    tx.finish();
    // So often that the numbers of what it held come again, those of the other among them.
    ks.last_incarnation = u64::from(INCARNATION_MASK) - 1;
    for _ in 0..5 {
        ks.tx(0, 1000, false).flush_db(false);
        set(&mut ks, b"key", b"stays", Ttl::Clear);
        assert_ne!(ks.dbs[0].incarnation, ks.dbs[1].incarnation);
    }
    ks.pulse(2000, 100, |_, _| false);
    assert_eq!(get(&mut ks, b"key", 2000).as_deref(), Some(&b"stays"[..]));
    assert_eq!((ks.stats(0).keys, ks.stats(1).keys), (1, 0));
}

#[test]
fn flushes_on_the_heels_of_another_free_what_they_should() {
    for seed in 0..40 {
        let mut rng = fastrand::Rng::with_seed(seed);
        let mut ks = Keyspace::new(3, seed);
        let mut model: BTreeMap<(u32, u32), Option<i64>> = BTreeMap::new();
        for now_ms in 1000..1300 {
            let db = rng.u32(..3);
            let mut tx = ks.tx(db, now_ms, true);
            match rng.u8(..40) {
                0 => {
                    tx.flush_db(rng.bool());
                    model.retain(|&(at, _), _| at != db);
                }
                1 => {
                    tx.flush_all(rng.bool());
                    model.clear();
                }
                2 => {
                    tx.swap_dbs(0, 1, true);
                    let swapped = |db| [1, 0, 2][db as usize];
                    model = std::mem::take(&mut model)
                        .into_iter()
                        .map(|((db, key), ttl)| ((swapped(db), key), ttl))
                        .collect();
                }
                _ => {
                    for _ in 0..rng.usize(..100) {
                        let n = rng.u32(..2000);
                        let at_ms = now_ms + rng.i64(1..300);
                        let ttl = if rng.bool() { Some(at_ms) } else { None };
                        let value = vec![b'v'; if n % 50 == 0 { 5000 } else { 40 }];
                        let ttl_of = ttl.map_or(Ttl::Clear, Ttl::At);
                        tx.set_string(&n.to_le_bytes(), NewStr::Bytes(&value), ttl_of);
                        tx.wrote(&n.to_le_bytes(), Event::SET, |_| {});
                        model.insert((db, n), ttl);
                    }
                }
            }
            tx.finish();
            if rng.u8(..4) == 0 {
                ks.free_slice();
            }
            while ks.pulse(now_ms, 50, |_, _| false) {}
            model.retain(|_, ttl| ttl.is_none_or(|at| at > now_ms));
            for db in 0..3 {
                let keys = model.keys().filter(|(at, _)| *at == db).count();
                assert_eq!(ks.stats(db).keys, keys, "seed {seed} at {now_ms}");
            }
        }
        for &(db, n) in model.keys() {
            let mut tx = ks.tx(db, 1299, true);
            assert!(tx.exists(&n.to_le_bytes()), "seed {seed}: {n} of {db}");
        }
        while ks.free_slice() {}
        assert_eq!(ks.lazyfree_pending(), 0);
        let mut tx = ks.tx(0, 1299, true);
        tx.flush_all(true);
        tx.finish();
        while ks.free_slice() {}
        assert_eq!(ks.arena.used_bytes() + ks.wheel.memory_bytes(), 0);
        assert_eq!(ks.objects.used_bytes() + ks.object_bytes.all, 0);
    }
}

#[test]
fn keys_of_any_length_gain_and_lose_an_expiry() {
    let mut ks = Keyspace::new(1, 1);
    for key_len in (0..60).chain(1900..2100) {
        let key = vec![b'k'; key_len];
        for value in [&b"12"[..], b"text", &[b'v'; 3000]] {
            set(&mut ks, &key, value, Ttl::Clear);
            for deadline in [Some(9000), Some(8000), None, None, Some(7000)] {
                let mut tx = ks.tx(0, 1000, true);
                let before = tx.encoded(&key);
                assert!(tx.set_expiry(&key, deadline));
                tx.wrote(&key, Event::EXPIRE, |_| {});
                assert_eq!(tx.expire_at(&key), Some(deadline));
                assert_eq!(tx.encoded(&key), before, "key of {key_len}");
                tx.finish();
                assert_eq!(get(&mut ks, &key, 1000).as_deref(), Some(value));
                assert_eq!(ks.stats(0).expires, usize::from(deadline.is_some()));
            }
        }
        let mut tx = ks.tx(0, 1000, true);
        assert!(tx.remove(&key));
        tx.wrote(&key, Event::DEL, |_| {});
        tx.finish();
    }
    assert_eq!(ks.arena.used_bytes() + ks.wheel.memory_bytes(), 0);
    assert_eq!(ks.objects.used_bytes() + ks.object_bytes.all, 0);
}

#[test]
fn watched_keys_change_by_writes_expiry_flushes_and_swaps() {
    type Change = fn(&mut Keyspace);
    let rows: [(&str, bool, Change); 9] = [
        ("write", true, |ks| set(ks, b"k", b"w", Ttl::Clear)),
        ("write another", false, |ks| set(ks, b"l", b"w", Ttl::Clear)),
        ("pulse", true, |ks| {
            ks.pulse(5000, 10, |_, _| false);
        }),
        ("due", true, |_| ()),
        ("flush", true, |ks| {
            ks.tx(0, 1000, false).flush_db(false);
        }),
        ("flush another", false, |ks| {
            ks.tx(1, 1000, false).flush_db(true);
        }),
        ("flush all", true, |ks| {
            ks.tx(0, 1000, false).flush_all(true)
        }),
        ("swap", true, |ks| {
            ks.tx(0, 1000, false).swap_dbs(0, 1, true)
        }),
        ("swap others", false, |ks| {
            ks.tx(0, 1000, false).swap_dbs(1, 2, true)
        }),
    ];
    for (name, changes, change) in rows {
        for exists in [true, false] {
            let mut ks = Keyspace::new(3, 1);
            if exists {
                let ttl = Ttl::At(if name == "due" { 1500 } else { 5000 });
                set(&mut ks, b"k", b"v", ttl);
            }
            let version = ks.tx(0, 1000, false).watch(b"k");
            change(&mut ks);
            let mut tx = ks.tx(0, 2000, false);
            let expected = changes && (exists || name == "write");
            assert_eq!(!tx.is_unchanged(b"k", version), expected, "{name} {exists}");
            tx.finish();
            ks.effects.unwatch(0, b"k");
            assert!(ks.effects.interest.is_empty());
        }
    }
}

#[test]
fn what_is_replaced_faster_than_it_is_freed_does_not_pile_up() {
    let mut bench = Bench::default();
    let big = "v".repeat(100_000);
    for _ in 0..100 {
        bench.line(&format!("SET string {big}"));
    }
    assert_eq!(bench.keyspace().lazyfree_pending(), 0);
    for n in 0..5000 {
        bench.line(&format!("SADD set member:{n}-of-a-set-that-is-not-small"));
    }
    let bytes = bench.keyspace().memory_bytes();
    for _ in 0..200 {
        bench.line("SUNIONSTORE copy set");
    }
    let waiting = bench.keyspace().lazyfree_pending() as usize;
    assert!((10..100).contains(&waiting), "{waiting} of {bytes} bytes");
}

#[test]
fn long_strings_that_are_edited_and_read_in_turn_are_counted_as_long_as_they_are() {
    let mut bench = Bench::default();
    let empty = bench.keyspace().memory_bytes();
    bench.line(&format!("SET string {}", "v".repeat(5000)));
    for _ in 0..1000 {
        // The bench checks the account after each.
        bench.line("APPEND string 0123456789");
        bench.line("GETRANGE string 0 1");
    }
    bench.line("DEL string");
    assert_eq!(bench.keyspace().memory_bytes(), empty);
}

#[test]
fn a_copy_that_is_changed_is_counted_as_large_as_it_is() {
    let mut bench = Bench::default();
    let empty = bench.keyspace().memory_bytes();
    for (make, change) in [
        ("HSET from f v{}", "HSET {} more w"),
        ("SADD from {}", "SADD {} 77777"),
        ("ZADD from {} m{}", "ZADD {} 7 more"),
        ("RPUSH from v{}", "RPUSH {} more"),
        ("XADD from * f v{}", "XADD {} * f w"),
    ] {
        for n in 0..40 {
            bench.line(
                &make
                    .replace("{}", &n.to_string())
                    .replace(" f ", &format!(" f{n} ")),
            );
        }
        for changed in ["from", "to"] {
            bench.line("COPY from to REPLACE");
            bench.line(&change.replace("{}", changed));
        }
        bench.line("DEL from to");
        assert_eq!(bench.keyspace().memory_bytes(), empty, "{make}");
    }
}

#[test]
fn a_key_that_is_written_often_is_used_often() {
    let mut ks = Keyspace::new(1, 1);
    ks.settings.lfu = true;
    let frequency = |ks: &mut Keyspace, key| {
        let mut tx = ks.tx(0, 1000, false);
        let frequency = tx.frequency(key);
        tx.finish();
        frequency
    };
    set(&mut ks, b"k", b"v", Ttl::Clear);
    assert_eq!(frequency(&mut ks, b"k"), Some(5));
    for n in 0..200 {
        set(&mut ks, b"k", &vec![b'v'; n], Ttl::Clear);
    }
    assert!(frequency(&mut ks, b"k") > Some(8));
    let mut tx = ks.tx(0, 1000, true);
    tx.string_mut(b"new", 4).unwrap().fill(b'a');
    tx.wrote(b"new", Event::APPEND, |_| {});
    tx.finish();
    assert_eq!(frequency(&mut ks, b"new"), Some(5));
}

#[test]
fn keys_too_long_for_a_slot_are_counted() {
    let mut ks = Keyspace::new(1, 1);
    let empty = ks.memory_bytes();
    let key = vec![b'k'; 100_000];
    for value in [&b"v"[..], &[b'v'; 3000], b"7"] {
        set(&mut ks, &key, value, Ttl::Clear);
        assert!(ks.memory_bytes() > empty + key.len());
        for deadline in [Some(9000), None] {
            let mut tx = ks.tx(0, 1000, true);
            assert!(tx.set_expiry(&key, deadline));
            tx.wrote(&key, Event::EXPIRE, |_| {});
            tx.finish();
            ks.audit();
        }
    }
    let mut tx = ks.tx(0, 1000, true);
    assert!(tx.remove(&key));
    tx.wrote(&key, Event::DEL, |_| {});
    tx.finish();
    assert_eq!(ks.memory_bytes(), empty);
}

/// A hash all of whose fields end at 2000.
fn with_many_due_fields(fields: usize) -> Keyspace {
    let mut ks = Keyspace::new(1, 1);
    ks.effects.recording = true;
    let mut tx = ks.tx(0, 1000, false);
    let fill = |hash: &mut Hash, context: Context| {
        for n in 0..fields {
            let field = n.to_string();
            hash.set(field.as_bytes(), b"v", context.limits);
            hash.set_deadline(field.as_bytes(), 2000, context.limits);
        }
    };
    tx.change_or_create(b"h", |_| Hash::default(), fill)
        .unwrap();
    tx.wrote(b"h", Event::HSET, |_| {});
    tx.finish();
    ks.effects.records.clear();
    ks
}

#[test]
fn fields_that_are_due_at_once_go_in_slices() {
    const FIELDS: usize = 5000;
    let mut ks = with_many_due_fields(FIELDS);
    let mut tx = ks.tx(0, 1000, false);
    let set = |hash: &mut Hash, context: Context| hash.set(b"stays", b"v", context.limits);
    assert!(tx.change_or_create(b"h", |_| Hash::default(), set).unwrap());
    tx.wrote(b"h", Event::HSET, |_| {});
    tx.finish();
    let (mut steps, mut before) = (0, 0);
    while ks.pulse(2000, 1, |_, _| false) {
        assert!(ks.counters.expired_fields - before <= 64);
        (steps, before) = (steps + 1, ks.counters.expired_fields);
    }
    assert!(steps >= FIELDS / 64, "{steps}");
    assert_eq!(ks.counters.expired_fields, FIELDS as u64);
    assert_eq!((ks.stats(0).keys, ks.next_expiry_ms()), (1, None));
}

#[test]
fn a_hash_all_of_whose_fields_are_due_goes_as_one() {
    const FIELDS: usize = 5000;
    for by_reading in [true, false] {
        let mut ks = with_many_due_fields(FIELDS);
        ks.effects.classes = u32::MAX;
        if by_reading {
            let mut tx = ks.tx(0, 2000, false);
            assert!(!tx.peek_exists(b"h"));
            tx.finish();
        } else {
            while ks.pulse(2000, 1, |_, _| false) {}
        }
        assert_eq!(ks.counters.expired_fields, FIELDS as u64);
        assert_eq!((ks.stats(0).keys, ks.next_expiry_ms()), (0, None));
        assert_eq!(ks.effects.records.len(), 1);
        let events: Vec<_> = ks.effects.events.iter().map(|event| event.event).collect();
        assert_eq!(events, [Event::HEXPIRED, Event::DEL]);
        let mut slices = 0;
        while ks.free_slice() {
            slices += 1;
        }
        assert!(slices > 1, "what it held is freed in slices");
    }
}

#[test]
fn fields_that_expire_for_a_script_that_speaks_to_nobody_are_told_to_all() {
    let mut ks = with_many_due_fields(3);
    let nobody = Audience::from_bits(0);
    ks.effects.records.set_audience(nobody);
    let mut tx = ks.tx(0, 2000, false);
    assert!(!tx.peek_exists(b"h"));
    tx.finish();
    assert_eq!(ks.effects.records.set_audience(Audience::ALL), nobody);
    assert_eq!(ks.effects.records.iter_for(Audience::REPLICAS).count(), 1);
}

/// Sets that end at 2000 in one database, and a key in another.
fn with_sets(sets: usize, members: usize) -> Keyspace {
    let mut ks = Keyspace::new(2, 1);
    for key in 0..sets {
        let mut tx = ks.tx(0, 1000, false);
        let make = |limits: &Limits| Set::new(b"a", limits);
        let fill = |set: &mut Set, context: Context| {
            for n in 0..members {
                set.add(format!("member:{n:0100}").as_bytes(), context.limits);
            }
        };
        let key = key.to_string().into_bytes();
        tx.change_or_create(&key, make, fill).unwrap();
        tx.wrote(&key, Event::SADD, |_| {});
        tx.set_expiry(&key, Some(2000));
        tx.wrote(&key, Event::EXPIRE, |_| {});
        tx.select(1);
        tx.set_string(b"another", NewStr::Int(1), Ttl::Clear);
        tx.wrote(b"another", Event::SET, |_| {});
        tx.finish();
    }
    ks
}

#[test]
fn no_slice_frees_much_however_keys_go() {
    type Go = fn(&mut Keyspace);
    let ways: [(&str, Go); 3] = [
        ("expiry", |_| ()),
        ("flush of one", |ks| {
            ks.tx(0, 1000, false).flush_db(true);
        }),
        ("flush of all", |ks| ks.tx(0, 1000, false).flush_all(true)),
    ];
    for (way, go) in ways {
        for (sets, members) in [(20, 5000), (300, 300)] {
            let mut ks = with_sets(sets, members);
            let bytes = ks.object_bytes.all;
            go(&mut ks);
            let mut slices = 0;
            while ks.free_slice() || ks.pulse(2000, 256, |_, _| false) {
                slices += 1;
            }
            let least = if members > 1024 {
                sets * members / 2048
            } else {
                bytes >> 20
            };
            assert!(slices >= least, "{way} of {sets}: {slices}, not {least}");
        }
    }
}
