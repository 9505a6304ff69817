//! Deadlines through transactions: setting, moving and dropping them, and mass expiry in slices.
//!
//! `cargo bench --bench wheel` runs with two million keys; `cargo test` with twenty thousand. The
//! last line is a hash of what expired when: it changes only with behaviour.

use std::time::{Duration, Instant};

use pinion::keyspace::{Event, Keyspace, NewStr, Ttl};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const KEYS_MAX: u64 = 2_000_000;
const KEYS_SMALL: u64 = 20_000;
const NOW_MS: i64 = 1_700_000_000_000;
/// Keys expire over this time, an hour from now.
const SPREAD_MS: i64 = 1000;
/// Steps per pulse, as a server's turn takes.
const BUDGET: usize = 200;

fn measure(what: &str, keys: u64, mut op: impl FnMut(u64)) {
    let begun = Instant::now();
    (0..keys).for_each(&mut op);
    let ns = begun.elapsed().as_nanos() as f64 / keys as f64;
    println!("{what:<36} {ns:8.1} ns");
}

fn set_expiry(ks: &mut Keyspace, n: u64, deadline: Option<i64>) {
    let (key, mut tx) = (n.to_be_bytes(), ks.tx(0, NOW_MS, true));
    tx.set_expiry(&key, deadline);
    tx.wrote(&key, Event::EXPIRE, |_| {});
    tx.finish();
}

/// Lets everything expire millisecond by millisecond; returns a hash of how many went when.
fn expire_all(ks: &mut Keyspace, keys: u64, until_ms: i64) -> u64 {
    let (begun, mut longest) = (Instant::now(), Duration::ZERO);
    let (mut hash, mut wakes) = (0u64, 0);
    while let Some(at_ms) = ks.next_expiry_ms().filter(|&at_ms| at_ms <= until_ms) {
        wakes += 1;
        let mut last = Instant::now();
        while ks.pulse(at_ms, BUDGET, |_, _| false) {
            let now = Instant::now();
            longest = longest.max(now - last);
            last = now;
        }
        let left = ks.stats(0).keys as u64;
        hash = hash.wrapping_mul(31).wrapping_add(left ^ at_ms as u64);
    }
    let ns = begun.elapsed().as_nanos() as f64 / keys as f64;
    println!("{:<36} {ns:8.1} ns", "expire");
    println!("{wakes} wakes, the longest pulse of {BUDGET} steps {longest:?}");
    hash
}

fn main() {
    let keys = if std::env::args().any(|arg| arg == "--bench") {
        KEYS_MAX
    } else {
        KEYS_SMALL
    };
    let mut ks = Keyspace::new(16, 1);
    let mut rng = fastrand::Rng::with_seed(1);
    let soon_ms = NOW_MS + 3_600_000;
    let mut longest = Duration::ZERO;
    let mut last = Instant::now();
    measure("set with an expiry, new key", keys, |n| {
        let (key, mut tx) = (n.to_be_bytes(), ks.tx(0, NOW_MS, true));
        let ttl = Ttl::At(soon_ms + rng.i64(0..SPREAD_MS));
        tx.set_string(&key, NewStr::Bytes(b"value"), ttl);
        tx.wrote(&key, Event::SET, |_| {});
        tx.finish();
        let now = Instant::now();
        longest = longest.max(now - last);
        last = now;
    });
    println!("the longest {longest:?}");
    measure("expire, another time", keys, |n| {
        set_expiry(&mut ks, n, Some(soon_ms + (n as i64 * 7919) % SPREAD_MS));
    });
    measure("persist", keys, |n| set_expiry(&mut ks, n, None));
    measure("expire, first time", keys, |n| {
        set_expiry(&mut ks, n, Some(soon_ms + (n as i64 * 7919) % SPREAD_MS));
    });
    let hash = expire_all(&mut ks, keys, soon_ms + SPREAD_MS);
    assert_eq!(ks.counters.expired, keys, "everything expired");
    println!("result {hash:016x}");
}
