//! Reads and writes through transactions, growth without a stall, memory per key.
//!
//! `cargo bench --bench dictionary` grows one shard to ten million keys; `cargo test` runs the same
//! with twenty thousand. The last line is a hash of what was read: it changes only with behaviour.

use std::hint::black_box;
use std::time::{Duration, Instant};

use pinion::keyspace::{Event, Keyspace, NewStr, Ttl};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const KEYS_MAX: u64 = 10_000_000;
const KEYS_SMALL: u64 = 20_000;
/// Few enough for the second-level cache.
const KEYS_CACHED: u64 = 10_000;
const NOW_MS: i64 = 1_700_000_000_000;
const VALUE: [u8; 64] = [b'v'; 64];

/// `key:` and twelve digits: 16 bytes, as redis-benchmark's.
fn key(n: u64) -> [u8; 16] {
    let mut key = *b"key:000000000000";
    let mut digits = itoa::Buffer::new();
    let digits = digits.format(n).as_bytes();
    key[16 - digits.len()..].copy_from_slice(digits);
    key
}

fn set(ks: &mut Keyspace, n: u64) {
    let (key, mut tx) = (key(n), ks.tx(0, NOW_MS, true));
    tx.set_string(&key, NewStr::Bytes(&VALUE), Ttl::Clear);
    tx.wrote(&key, Event::SET, |_| {});
    tx.finish();
}

fn get(ks: &mut Keyspace, n: u64) -> u64 {
    let mut tx = ks.tx(0, NOW_MS, true);
    let mut scratch = itoa::Buffer::new();
    match tx.string(&key(n)) {
        Ok(Some(value)) => value.bytes(&mut scratch).len() as u64,
        _ => 0,
    }
}

fn del(ks: &mut Keyspace, n: u64) {
    let (key, mut tx) = (key(n), ks.tx(0, NOW_MS, true));
    tx.remove(&key);
    tx.wrote(&key, Event::DEL, |_| {});
    tx.finish();
}

/// Runs `op` on `count` numbers that come in no order, and prints nanoseconds per call.
fn measure(what: &str, count: u64, keys: u64, mut op: impl FnMut(u64) -> u64) -> u64 {
    let mut rng = fastrand::Rng::with_seed(1);
    let begun = Instant::now();
    let sum = (0..count).map(|_| black_box(op(rng.u64(..keys)))).sum();
    let ns = begun.elapsed().as_nanos() as f64 / count as f64;
    println!("{what:<36} {ns:8.1} ns");
    sum
}

/// Resident bytes of this process.
fn resident_bytes() -> u64 {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages = statm.split(' ').nth(1).and_then(|n| n.parse::<u64>().ok());
    pages.unwrap_or_default() * 4096
}

/// Grows a keyspace to `keys` and prints the slowest insert, and memory on the way.
fn grow(ks: &mut Keyspace, keys: u64) -> Duration {
    let before = resident_bytes();
    let (begun, mut longest) = (Instant::now(), Duration::ZERO);
    let mut last = begun;
    for n in 0..keys {
        set(ks, n);
        let now = Instant::now();
        longest = longest.max(now - last);
        last = now;
        if (n + 1) % (keys / 10) == 0 {
            let accounted = ks.memory_bytes() as f64 / (n + 1) as f64;
            let resident = resident_bytes().saturating_sub(before) as f64 / (n + 1) as f64;
            println!(
                "{:>10} keys: {accounted:.1} bytes each, {resident:.1} resident",
                n + 1
            );
            // Reading the process's state is no insert.
            last = Instant::now();
        }
    }
    let ns = begun.elapsed().as_nanos() as f64 / keys as f64;
    println!(
        "{:<36} {ns:8.1} ns, the longest {longest:?}",
        "set, new key, growing"
    );
    longest
}

fn flush(ks: &mut Keyspace) {
    let mut longest = Duration::ZERO;
    let begun = Instant::now();
    let mut tx = ks.tx(0, NOW_MS, true);
    tx.flush_all(true);
    tx.finish();
    let (flushed, mut last, mut slices) = (begun.elapsed(), Instant::now(), 0);
    while ks.free_slice() {
        let now = Instant::now();
        longest = longest.max(now - last);
        last = now;
        slices += 1;
    }
    println!("flush all, async: {flushed:?}, {slices} slices, the longest {longest:?}");
}

fn main() {
    let keys = if std::env::args().any(|arg| arg == "--bench") {
        KEYS_MAX
    } else {
        KEYS_SMALL
    };
    let ops = keys / 2;
    let mut ks = Keyspace::new(16, 1);
    let mut hash = 0u64;
    (0..KEYS_CACHED).for_each(|n| set(&mut ks, n));
    hash += measure("get, in cache", ops, KEYS_CACHED, |n| get(&mut ks, n));
    hash += measure("get of no key, in cache", ops, KEYS_CACHED, |n| {
        get(&mut ks, n + keys)
    });
    measure("set over, in cache", ops, KEYS_CACHED, |n| {
        set(&mut ks, n);
        0
    });
    measure("del and set, in cache", ops, KEYS_CACHED, |n| {
        del(&mut ks, n);
        set(&mut ks, n);
        0
    });
    flush(&mut ks);
    let longest = grow(&mut ks, keys);
    hash += measure("get, all keys", ops, keys, |n| get(&mut ks, n));
    measure("set over, all keys", ops, keys, |n| {
        set(&mut ks, n);
        0
    });
    hash += ks.stats(0).keys as u64;
    measure("del, half of the keys", ops, keys, |n| {
        del(&mut ks, n);
        0
    });
    hash = hash.wrapping_mul(31).wrapping_add(ks.stats(0).keys as u64);
    flush(&mut ks);
    assert!(ks.memory_bytes() < 10_000, "all is freed");
    println!("longest insert {longest:?}, result {hash:016x}");
}
