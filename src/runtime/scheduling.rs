//! How a shard shares its CPU with what else runs there. Who has the CPU to himself notices nothing.
//!
//! The kernel lets a thread that sleeps much interrupt the others of its CPU as soon as something
//! arrives for it. That is what a client wants that asks now and then. But a load generator, or a
//! proxy, on the same CPU is then interrupted by every request it sends, and gets every reply by itself:
//! twice the CPU time for each. By SCHED_BATCH of sched(7) a thread waits until the other pauses, and
//! finds all that has come meanwhile. And some programs never pause: beside those it would wait for the
//! end of their time slice, some milliseconds. So a shard runs in batches while it is woken very often
//! and shares its CPU, and does not wait for long.
#![allow(unsafe_code)] // The scheduler is asked by bare calls.

use std::fs::File;
use std::os::unix::fs::FileExt;

/// What the configuration asks for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Scheduling {
    /// In batches while much arrives, unless that makes it wait too long.
    #[default]
    Auto,
    Batch,
    /// As the kernel does by itself.
    Other,
}

/// How long a thread may wait for its CPU on average, nanoseconds. Beside redis-benchmark with 50
/// connections it is 50 to 700 us, beside a program that never pauses 850 to 1,900.
const WAIT_MAX_NS: u64 = 1_000_000;
/// And beside that program it waits nearly all the time. Who is seldom woken may wait long once, while
/// a program begins.
const WAITING_PART: u64 = 4;
/// How long it is watched, and how many times a second it must be put on the CPU for batches to begin and
/// to go on. Under redis-benchmark it is 15,000 times without them, and 1,100 to 11,000 with them.
const WATCH_NS: u64 = 100_000_000;
const BEGIN_PER_S: u64 = 5_000;
const GO_ON_PER_S: u64 = 200;
/// How long a thread waits on average, nanoseconds, if it shares its CPU with those it answers: beside
/// redis-benchmark 32 us, and 270 in batches. Who has the CPU to himself waits 0.5 to 1 us; in batches he
/// would wait for milliseconds where something of the kernel's runs now and then.
const SHARED_BEGIN_NS: u64 = 12_000;
const SHARED_GO_ON_NS: u64 = 8_000;
/// After how long batches are tried again: longer each time they fail, within these bounds.
const RETRY_MIN_NS: u64 = 1_000_000_000;
const RETRY_MAX_NS: u64 = 64_000_000_000;
/// How long batches must have done well before failures are forgotten.
const FORGET_NS: u64 = 10_000_000_000;

/// What the kernel counts of a thread.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Waits {
    /// Time in which it could have run and did not.
    waited_ns: u64,
    /// How many times it was put on the CPU.
    count: u64,
}

impl Waits {
    /// Parses `<ns run> <ns waited> <times run>`, as in proc(5)'s `schedstat`.
    fn parse(text: &[u8]) -> Option<Waits> {
        let mut fields = std::str::from_utf8(text).ok()?.split_ascii_whitespace();
        let mut field = |n| fields.nth(n)?.parse().ok();
        Some(Waits {
            waited_ns: field(1)?,
            count: field(0)?,
        })
    }
}

/// When to run in batches, given how often and how long a thread waits.
#[derive(Debug)]
struct Watch {
    is_batch: bool,
    /// The counts when it was last looked, and when that was.
    since: Waits,
    since_ns: u64,
    /// When batches began.
    begun_ns: u64,
    /// When they may begin again, after they made it wait too long.
    again_ns: u64,
    retry_ns: u64,
}

impl Watch {
    fn new(waits: Waits, now_ns: u64) -> Watch {
        Watch {
            is_batch: false,
            since: waits,
            since_ns: now_ns,
            begun_ns: 0,
            again_ns: 0,
            retry_ns: RETRY_MIN_NS,
        }
    }

    #[inline]
    fn is_due(&self, now_ns: u64) -> bool {
        now_ns >= self.since_ns + WATCH_NS
    }

    /// Looks at the counts; returns whether to change over.
    fn changes(&mut self, waits: Waits, now_ns: u64) -> bool {
        let count = waits.count.saturating_sub(self.since.count);
        let waited_ns = waits.waited_ns.saturating_sub(self.since.waited_ns);
        let watched_ns = (now_ns - self.since_ns).max(1);
        let per_s = count * 1_000_000_000 / watched_ns;
        (self.since, self.since_ns) = (waits, now_ns);
        let was_batch = self.is_batch;
        if !was_batch {
            let is_shared = waited_ns >= SHARED_BEGIN_NS * count;
            self.is_batch = per_s >= BEGIN_PER_S && is_shared && now_ns >= self.again_ns;
            self.begun_ns = now_ns;
        } else if waited_ns > WAIT_MAX_NS * count && waited_ns > watched_ns / WAITING_PART {
            self.is_batch = false;
            self.again_ns = now_ns + self.retry_ns;
            self.retry_ns = (2 * self.retry_ns).min(RETRY_MAX_NS);
        } else {
            self.is_batch = per_s >= GO_ON_PER_S && waited_ns >= SHARED_GO_ON_NS * count;
            if now_ns - self.begun_ns > FORGET_NS {
                self.retry_ns = RETRY_MIN_NS;
            }
        }
        self.is_batch != was_batch
    }
}

/// The scheduling of the thread that made it.
#[derive(Debug)]
pub(super) struct Turns {
    watched: Option<(Watch, File)>,
}

impl Turns {
    /// A policy that somebody chose for the process stays. Where the kernel does not count waits, nor
    /// lets a thread change its policy, the usual one stays, too: nothing depends on it.
    pub fn new(scheduling: Scheduling, now_ns: u64) -> Turns {
        let mut turns = Turns { watched: None };
        if scheduling == Scheduling::Other || policy() != libc::SCHED_OTHER {
            return turns;
        }
        if scheduling == Scheduling::Batch {
            set_policy(libc::SCHED_BATCH);
        } else {
            let file = File::open("/proc/thread-self/schedstat").ok();
            let first = file.and_then(|file| Some((waits(&file)?, file)));
            turns.watched = first.map(|(waits, file)| (Watch::new(waits, now_ns), file));
        }
        turns
    }

    /// Called in every turn: changes over if it is time to.
    #[inline]
    pub fn mind(&mut self, now_ns: u64) {
        if let Some((watch, file)) = &mut self.watched
            && watch.is_due(now_ns)
            && let Some(waits) = waits(file)
            && watch.changes(waits, now_ns)
        {
            set_policy(match watch.is_batch {
                true => libc::SCHED_BATCH,
                false => libc::SCHED_OTHER,
            });
        }
    }
}

/// What `schedstat` says now; the kernel makes it up as it is read, without waiting for anything.
fn waits(schedstat: &File) -> Option<Waits> {
    let mut text = [0; 64];
    let len = schedstat.read_at(&mut text, 0).ok()?;
    Waits::parse(&text[..len])
}

fn policy() -> libc::c_int {
    // SAFETY: asks about this thread.
    unsafe { libc::sched_getscheduler(0) }
}

fn set_policy(policy: libc::c_int) {
    let parameter = libc::sched_param { sched_priority: 0 };
    // SAFETY: concerns this thread alone; the parameter is read before the call returns.
    unsafe { libc::sched_setscheduler(0, policy, &raw const parameter) };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_are_read() {
        let waits = |waited_ns, count| Some(Waits { waited_ns, count });
        assert_eq!(Waits::parse(b"12 345 6\n"), waits(345, 6));
        assert_eq!(Waits::parse(b"12 345"), None);
        assert_eq!(Waits::parse(b""), None);
    }

    /// Is put on the CPU every `every_us` for so many seconds, having waited for it so long in either
    /// policy; returns the seconds in batches.
    fn pass(
        watch: &mut Watch,
        now: &mut (Waits, u64),
        every_us: u64,
        each_us: [u64; 2],
        seconds: u64,
    ) -> f64 {
        let (waits, now_ns) = now;
        let (end_ns, mut batches_ns) = (*now_ns + seconds * 1_000_000_000, 0);
        while *now_ns < end_ns {
            let waited_us = each_us[usize::from(watch.is_batch)];
            let step_ns = every_us.max(waited_us) * 1000;
            waits.waited_ns += waited_us * 1000;
            waits.count += 1;
            *now_ns += step_ns;
            batches_ns += u64::from(watch.is_batch) * step_ns;
            if watch.is_due(*now_ns) {
                watch.changes(*waits, *now_ns);
            }
        }
        batches_ns as f64 / 1e9
    }

    #[test]
    fn batches_begin_and_end_with_what_arrives() {
        let mut now = (Waits::default(), 0);
        let mut watch = Watch::new(now.0, now.1);
        assert_eq!(pass(&mut watch, &mut now, 1000, [30, 300], 10), 0.0);
        let busy = pass(&mut watch, &mut now, 80, [30, 300], 10);
        assert!(busy > 9.7 && watch.is_batch, "{busy}");
        let idle = pass(&mut watch, &mut now, 20_000, [30, 300], 10);
        assert!(idle < 0.3 && !watch.is_batch, "{idle}");
    }

    #[test]
    fn who_has_the_cpu_to_himself_needs_no_batches() {
        let mut now = (Waits::default(), 0);
        let mut watch = Watch::new(now.0, now.1);
        assert_eq!(pass(&mut watch, &mut now, 80, [1, 1], 10), 0.0);
        assert!(pass(&mut watch, &mut now, 80, [30, 300], 10) > 9.7);
        // The other has gone.
        assert!(pass(&mut watch, &mut now, 80, [1, 1], 10) < 0.3);
    }

    #[test]
    fn a_long_wait_now_and_then_is_no_reason_to_give_up() {
        let mut now = (Waits::default(), 0);
        let mut watch = Watch::new(now.0, now.1);
        for _ in 0..100 {
            assert!(pass(&mut watch, &mut now, 80, [30, 100], 1) > 0.8);
            // A program ends and another begins.
            now.0.waited_ns += 5_000_000;
            now.0.count += 1;
            now.1 += WATCH_NS;
            watch.changes(now.0, now.1);
        }
        assert_eq!(watch.retry_ns, RETRY_MIN_NS);
    }

    #[test]
    fn batches_end_beside_what_never_pauses_and_come_back_after_it() {
        let mut now = (Waits::default(), 0);
        let mut watch = Watch::new(now.0, now.1);
        // Less and less often is it tried again.
        let early = pass(&mut watch, &mut now, 80, [30, 1900], 60);
        assert!((0.4..1.2).contains(&early), "{early}");
        let late = pass(&mut watch, &mut now, 80, [30, 1900], 600);
        assert!((0.6..1.6).contains(&late), "{late}");
        let after = pass(&mut watch, &mut now, 80, [30, 100], 200);
        assert!(after > 130.0 && watch.is_batch, "{after}");
        assert_eq!(watch.retry_ns, RETRY_MIN_NS);
    }
}
