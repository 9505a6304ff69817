//! The two clocks, read together once a turn.

use std::sync::OnceLock;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use super::app::Now;

/// Where monotonic time begins.
fn origin() -> Instant {
    static ORIGIN: OnceLock<Instant> = OnceLock::new();
    *ORIGIN.get_or_init(Instant::now)
}

/// Monotonic nanoseconds since the process first asked.
pub fn mono_ns() -> u64 {
    origin().elapsed().as_nanos() as u64
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
