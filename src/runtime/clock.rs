//! The two clocks, read together once a turn.

use std::time::{SystemTime, UNIX_EPOCH};

use super::app::Now;

/// Monotonic nanoseconds since some time before the process began. Read at every command, which is
/// why it is not [`std::time::Instant`]: subtracting two of those takes longer than reading one.
#[allow(unsafe_code)]
pub fn mono_ns() -> u64 {
    let mut time = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: the kernel writes into `time` alone. It cannot fail: every Linux has this clock.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &raw mut time) };
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

pub fn now() -> Now {
    let unix = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    Now {
        unix_us: unix.as_micros() as i64,
        mono_ns: mono_ns(),
    }
}
