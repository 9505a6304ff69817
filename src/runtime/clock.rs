//! The clocks: those of a turn, read together, and the one that commands are timed with.
//!
//! A duration is taken of every command, and asking the kernel's clock for it was an eighth of what a
//! pipelined GET takes. The processor's own counter is read in a third of the time. It is used where
//! it goes on at one rate whatever the processor does, and where the kernel tells time by it, too.

use std::fs;
use std::sync::OnceLock;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::app::Now;

/// Monotonic nanoseconds since some time before the process began. It is not
/// [`std::time::Instant`]: subtracting two of those takes longer than reading one.
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

/// How the processor's counter tells time; unset where it is not to be trusted.
static COUNTER: OnceLock<Counter> = OnceLock::new();

/// Monotonic nanoseconds for durations alone: what it shows is some 0.01 % off [`mono_ns`], and
/// drifts away from it.
#[inline]
pub fn stopwatch_ns() -> u64 {
    match COUNTER.get() {
        Some(counter) => counter.ns(ticks()),
        None => mono_ns(),
    }
}

/// Has [`stopwatch_ns`] read the processor's counter, if that is good for it. Takes some
/// milliseconds; once, before there are clients.
pub fn start_stopwatch() {
    /// So long that how exactly both ends are known matters little.
    const APART: Duration = Duration::from_millis(2);
    if !is_trusted() {
        return;
    }
    let first = look();
    std::thread::sleep(APART);
    if let Some(counter) = Counter::between(first, look()) {
        // Whoever was first has measured the same.
        COUNTER.get_or_init(|| counter);
    }
}

/// Whether the counter goes on at one rate, also while the processor sleeps, and the kernel has
/// found nothing wrong with it.
fn is_trusted() -> bool {
    const SOURCE: &str = "/sys/devices/system/clocksource/clocksource0/current_clocksource";
    let is_source = fs::read_to_string(SOURCE).is_ok_and(|source| source.trim() == "tsc");
    let has_flags = |line: &str| {
        let mut flags = line.split_ascii_whitespace();
        flags.clone().any(|flag| flag == "constant_tsc") && flags.any(|flag| flag == "nonstop_tsc")
    };
    is_source
        && fs::read_to_string("/proc/cpuinfo").is_ok_and(|cpus| {
            let mut lines = cpus.lines().filter(|line| line.starts_with("flags"));
            lines.next().is_some_and(has_flags)
        })
}

/// The processor's counter.
#[inline]
#[allow(unsafe_code)]
fn ticks() -> u64 {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: every processor of this architecture has this instruction, and Linux lets processes
    // use it.
    unsafe {
        std::arch::x86_64::_rdtsc()
    }
    #[cfg(not(target_arch = "x86_64"))]
    0
}

/// The counter and [`mono_ns`] at one moment.
#[derive(Clone, Copy, Debug)]
struct Moment {
    ticks: u64,
    ns: u64,
}

/// The best of some tries: between the two readings the process may be interrupted.
fn look() -> Moment {
    const TRIES: usize = 8;
    let tries = (0..TRIES).map(|_| {
        let before = ticks();
        let ns = mono_ns();
        let spent = ticks().saturating_sub(before);
        let ticks = before + spent / 2;
        (spent, Moment { ticks, ns })
    });
    let best = tries.min_by_key(|(spent, _)| *spent);
    best.map_or(Moment { ticks: 0, ns: 0 }, |(_, moment)| moment)
}

/// A moment, and the nanoseconds of a tick since then.
#[derive(Clone, Copy, Debug)]
struct Counter {
    from: Moment,
    /// In units of 2^-32 ns.
    tick: u64,
}

impl Counter {
    /// `None` if either clock has stood still.
    fn between(first: Moment, last: Moment) -> Option<Counter> {
        let ns = u128::from(last.ns.checked_sub(first.ns)?);
        let ticks = u128::from(last.ticks.checked_sub(first.ticks)?);
        let tick = u64::try_from((ns << 32).checked_div(ticks)?).ok()?;
        (tick > 0).then_some(Counter { from: last, tick })
    }

    #[inline]
    fn ns(&self, ticks: u64) -> u64 {
        let since = u128::from(ticks.saturating_sub(self.from.ticks));
        self.from.ns + ((since * u128::from(self.tick)) >> 32) as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_counter_tells_nanoseconds() {
        let (begin, end) = (
            Moment { ticks: 500, ns: 70 },
            Moment {
                ticks: 3_000_500,
                ns: 1_000_070,
            },
        );
        let counter = Counter::between(begin, end).unwrap();
        assert_eq!(counter.ns(3_000_500), 1_000_070);
        // A third of a nanosecond each, also after ten years.
        let years_ns = 10 * 365 * 86_400 * 1_000_000_000;
        let shown = counter.ns(end.ticks + 3 * years_ns) - end.ns;
        assert!(years_ns - shown < years_ns / 1_000_000_000, "{shown}");
        // A counter that another core has not caught up with.
        assert_eq!(counter.ns(3_000_400), 1_000_070);
    }

    #[test]
    fn a_clock_that_stands_still_is_none() {
        let moment = Moment { ticks: 5, ns: 7 };
        let later = Moment { ticks: 9, ns: 7 };
        for (first, last) in [(moment, moment), (moment, later), (later, moment)] {
            assert!(Counter::between(first, last).is_none());
        }
    }

    #[test]
    fn durations_are_those_of_the_clock() {
        start_stopwatch();
        let (begun_ns, shown_ns) = (mono_ns(), stopwatch_ns());
        std::thread::sleep(Duration::from_millis(5));
        let shown_ns = stopwatch_ns() - shown_ns;
        let spent_ns = mono_ns() - begun_ns;
        // Whoever is interrupted between two readings sees more on one clock than on the other.
        assert!((4_000_000..=spent_ns * 2).contains(&shown_ns), "{shown_ns}");
    }
}
