//! The RDB codec on files of other servers: `tests/fixtures/rdb`, whole and damaged.

mod fixtures;

use std::fs;
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use pinion::rdb::digest::Digest;
use pinion::rdb::file::{self, Attributes, Checksum, Event, Reader};
use pinion::rdb::object::Object;
use pinion::rdb::string::StringWriter;
use pinion::rdb::{Fault, dump};

use fixtures::{Fixture, digest_of, events, fixtures, keyspace, written};

/// Counts what is allocated, so that a claim in a damaged file cannot take more than it brings.
#[global_allocator]
static ALLOCATOR: cap::Cap<std::alloc::System> = cap::Cap::new(std::alloc::System, usize::MAX);

/// Held by each test, so that no other allocates while one counts.
static ONE_BY_ONE: Mutex<()> = Mutex::new(());

fn alone() -> MutexGuard<'static, ()> {
    ONE_BY_ONE.lock().unwrap_or_else(PoisonError::into_inner)
}

fn fixture(name: &str) -> Bytes {
    let of_name = |fixture: &Fixture| fixture.name == name;
    let found = fixtures().into_iter().find(of_name);
    found.unwrap_or_else(|| panic!("no {name}")).bytes
}

#[test]
fn verdicts_and_digests_are_those_of_redis() {
    let _guard = alone();
    let (mut equal, mut refused) = (0, 0);
    for Fixture {
        name,
        verdict,
        digest,
        bytes,
    } in fixtures()
    {
        let keys = events(&bytes, bytes.len(), true)
            .map_err(|error| error.fault)
            .and_then(|events| keyspace(&events));
        match (verdict.as_str(), keys) {
            ("loads" | "newer", Ok(keys)) => {
                if digest != "-" {
                    assert_eq!(digest_of(&keys), digest, "{name}");
                    equal += 1;
                }
            }
            // Version 99, types that came with Redis 8.6, and modules.
            ("newer", Err(Fault::Version(99) | Fault::Type(26) | Fault::Module(_))) => {}
            ("refused", Err(_)) => refused += 1,
            (verdict, keys) => panic!("{name}: Redis {verdict}, here {keys:?}"),
        }
    }
    assert_eq!((equal, refused), (81, 6));
}

#[test]
fn pieces_of_any_size_give_the_same() {
    let _guard = alone();
    let mut random = fastrand::Rng::with_seed(12);
    for fixture in fixtures() {
        let whole = events(&fixture.bytes, fixture.bytes.len(), true);
        let pieces = [1 + random.usize(..40), 1 + random.usize(..3000)];
        let single = (fixture.bytes.len() < 5_000).then_some(1);
        for piece in pieces.into_iter().chain(single) {
            let name = &fixture.name;
            assert_eq!(
                events(&fixture.bytes, piece, true),
                whole,
                "{name} by {piece}"
            );
        }
    }
}

#[test]
fn what_is_written_reads_back() {
    let _guard = alone();
    for fixture in fixtures() {
        let Ok(events_read) = events(&fixture.bytes, 4096, true) else {
            continue;
        };
        let Ok(keys) = keyspace(&events_read) else {
            continue;
        };
        for compress in [true, false] {
            let strings = &mut StringWriter::new(compress);
            let file = written(&keys, strings);
            let again = events(&file, file.len(), true).expect(&fixture.name);
            assert_eq!(again.last(), Some(&Event::End(Checksum::Verified)));
            let again = keyspace(&again).expect("no modules");
            assert_eq!(digest_of(&again), digest_of(&keys), "{}", fixture.name);
            // Members of sets may have changed their order on the way; once, not twice.
            assert_eq!(written(&again, strings), file, "{}", fixture.name);
            for (object, _) in again.values() {
                let payload = dump::put(object, strings);
                assert_eq!(dump::take(&payload.into()).as_ref(), Ok(object));
            }
        }
    }
}

/// The generated files were written by Redis with default settings but for the one that names them.
#[test]
fn strings_are_written_as_redis_does() {
    let _guard = alone();
    let bytes = fixture("generated-7.0.15/all-types.rdb");
    let keys = keyspace(&events(&bytes, bytes.len(), true).expect("loads")).expect("no modules");
    let mut strings = StringWriter::new(true);
    let mut found = 0;
    for ((_, key), (object, _)) in &keys {
        if !matches!(object, Object::String(_)) {
            continue;
        }
        let mut out = Vec::new();
        let attributes = Attributes::default();
        file::put_entry(&mut out, &mut strings, key, &attributes, object);
        assert!(
            bytes.windows(out.len()).any(|window| window == out),
            "{key:?} is written in another way"
        );
        found += 1;
    }
    assert!(found > 25, "{found}");
}

#[test]
fn fields_expire_where_they_say() {
    let _guard = alone();
    let mut seen = 0;
    for (name, expected) in [
        ("hdt3213/hash_with_hfe.rdb", 1),
        ("hdt3213/hash_as_listpack_with_hfe.rdb", 1),
        ("hdt3213/valkey_hash2_with_hfe.rdb", 1),
        ("librdb/hash_with_expire_v12.rdb", 1),
        ("librdb/hash_lp_with_hexpire_v12.rdb", 1),
    ] {
        let bytes = fixture(name);
        let events = events(&bytes, bytes.len(), true).expect(name);
        let keys = keyspace(&events).expect("no modules");
        for (object, _) in keys.values() {
            let Object::Hash(fields) = object else {
                panic!("{name}: {object:?}");
            };
            let expiries: Vec<i64> = fields.iter().filter_map(|f| f.expire_at_ms).collect();
            assert!(expiries.len() >= expected, "{name}: {fields:?}");
            // Since 2024, and within 48 bits.
            let plausible = |&at_ms: &i64| (1_704_000_000_000..1 << 48).contains(&at_ms);
            assert!(expiries.iter().all(plausible), "{name}: {fields:?}");
            seen += 1;
        }
    }
    assert_eq!(seen, 5);
}

#[test]
fn commands_behind_a_preamble_are_left_alone() {
    let _guard = alone();
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/rdb");
    let aof = fs::read(folder.join("redis-7.0.15-tests/rdb-preamble.aof")).expect("fixture");
    let mut reader = Reader::new(true, Some(aof.len() as u64));
    aof.chunks(50)
        .for_each(|piece| reader.feed(Bytes::copy_from_slice(piece)));
    while reader.next_event().expect("an intact preamble").is_some() {}
    assert!(reader.has_ended());
    let rest = reader.into_rest();
    assert!(
        rest.starts_with(b"*") && rest.ends_with(b"\r\n"),
        "{rest:?}"
    );
}

/// Damages files and payloads at random: each is refused or read, and takes no more memory than
/// its size justifies.
#[test]
fn damage_is_refused_or_harmless() {
    let _guard = alone();
    let mut random = fastrand::Rng::with_seed(2025);
    let mut refused = 0;
    let small = |fixture: &Fixture| fixture.bytes.len() < 30_000;
    for fixture in fixtures().into_iter().filter(small) {
        for _ in 0..200 {
            let damaged = Bytes::from(damage(&fixture.bytes, &mut random));
            let before = ALLOCATOR.allocated();
            // An element of a listpack takes two bytes there and 32 here; LZF makes 88 of one.
            let allowed = before + (4 << 20) + 88 * 40 * damaged.len();
            ALLOCATOR.set_limit(allowed).expect("less is allocated now");
            let result = events(
                &damaged,
                1 + random.usize(..damaged.len().max(1)),
                random.bool(),
            );
            refused += usize::from(result.is_err());
            drop(result);
            ALLOCATOR.set_limit(usize::MAX).expect("no limit");
        }
    }
    assert!(refused > 1000, "{refused}");
}

fn damage(whole: &[u8], random: &mut fastrand::Rng) -> Vec<u8> {
    let mut bytes = whole.to_vec();
    for _ in 0..random.usize(1..5) {
        let at = random.usize(..bytes.len());
        match random.u8(..4) {
            0 => bytes[at] ^= 1 << random.u8(..8),
            1 => bytes[at] = random.u8(..),
            // A length of 32 or 64 bits.
            2 => bytes[at] = 0x80 | random.u8(..2),
            _ => bytes[at] = 0xff,
        }
    }
    if random.u8(..4) == 0 {
        bytes.truncate(random.usize(..bytes.len()));
    }
    bytes
}

#[test]
fn damaged_values_are_refused_or_consistent() {
    let _guard = alone();
    let mut random = fastrand::Rng::with_seed(7);
    let mut strings = StringWriter::new(true);
    let (mut read, mut refused) = (0, 0);
    for name in [
        "generated-7.0.15/all-types.rdb",
        "generated-7.0.15/all-types-noembed.rdb",
        "redis-7.0.15-tests/encodings.rdb",
        "hdt3213/stream_listoacks_3.rdb",
        "hdt3213/hash_with_hfe.rdb",
    ] {
        let bytes = fixture(name);
        let keys = keyspace(&events(&bytes, 4096, true).expect(name)).expect("no modules");
        for (object, _) in keys.values() {
            let payload = dump::put(object, &mut strings);
            let body = &payload[..payload.len() - 8];
            for _ in 0..100 {
                let mut damaged = damage(body, &mut random);
                if damaged.len() < 2 {
                    continue;
                }
                // Seal the damage, so that it is the value that has to be refused.
                let version = damaged.len() - 2;
                damaged[version..].copy_from_slice(&12u16.to_le_bytes());
                let crc = pinion::rdb::crc64::update(0, &damaged);
                damaged.extend_from_slice(&crc.to_le_bytes());
                match dump::take(&damaged.into()) {
                    Ok(object) => {
                        read += 1;
                        let payload = dump::put(&object, &mut strings);
                        let again = dump::take(&payload.into()).expect("its own writing");
                        let digest = |object: &Object| {
                            let mut digest = Digest::default();
                            digest.object(object);
                            digest
                        };
                        assert_eq!(digest(&again), digest(&object));
                    }
                    Err(_) => refused += 1,
                }
            }
        }
    }
    assert!(read > 100 && refused > 1000, "{read} {refused}");
}
