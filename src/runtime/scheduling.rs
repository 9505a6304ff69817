//! How a shard shares its CPU with what else runs there. Who has the CPU to himself notices nothing.
//!
//! The kernel lets a thread that sleeps much interrupt the others of its CPU as soon as something
//! arrives for it. A load generator, or a proxy, on the same CPU is then interrupted by every request
//! it sends, and gets every reply by itself: twice the CPU time for each. By SCHED_BATCH of sched(7) a
//! thread waits until the other pauses, and finds all that has come meanwhile. But some programs never
//! pause: beside those it waits for the end of their time slice, some milliseconds. So how long it
//! waits is watched, and as long as that is too much, a shard interrupts as usual.
#![allow(unsafe_code)] // The scheduler is asked by bare calls.

use std::fs::File;
use std::os::unix::fs::FileExt;

/// What the configuration asks for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Scheduling {
    /// In batches, unless that makes it wait too long.
    #[default]
    Auto,
    Batch,
    /// As the kernel does by itself.
    Other,
}

/// How long a thread may wait for its CPU on average, nanoseconds. Beside redis-benchmark with 50 to 500
/// connections it is 20 to 220 us, beside a program that never pauses 800 to 1,700.
const WAIT_MAX_NS: u64 = 300_000;
/// How long and how often it must have waited, so that the average says something.
const WATCH_NS: u64 = 20_000_000;
const WAITS_MIN: u64 = 8;
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

/// When to run in batches, given how long a thread waits.
#[derive(Debug)]
struct Watch {
    is_batch: bool,
    /// The counts when this period began.
    since: Waits,
    /// When batches began to do well.
    since_ns: u64,
    /// When to look again.
    due_ns: u64,
    retry_ns: u64,
}

impl Watch {
    fn new(waits: Waits, now_ns: u64) -> Watch {
        Watch {
            is_batch: true,
            since: waits,
            since_ns: now_ns,
            due_ns: now_ns + WATCH_NS,
            retry_ns: RETRY_MIN_NS,
        }
    }

    /// Looks at the counts; returns whether to change over.
    fn changes(&mut self, waits: Waits, now_ns: u64) -> bool {
        let is_batch = self.is_batch;
        let count = waits.count.saturating_sub(self.since.count);
        let waited_ns = waits.waited_ns.saturating_sub(self.since.waited_ns);
        self.due_ns = now_ns + WATCH_NS;
        if !is_batch {
            (self.is_batch, self.since_ns) = (true, now_ns);
        } else if count < WAITS_MIN {
            return false;
        } else if waited_ns / count > WAIT_MAX_NS {
            self.is_batch = false;
            self.due_ns = now_ns + self.retry_ns;
            self.retry_ns = (2 * self.retry_ns).min(RETRY_MAX_NS);
        } else if now_ns - self.since_ns > FORGET_NS {
            self.retry_ns = RETRY_MIN_NS;
        }
        self.since = waits;
        self.is_batch != is_batch
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
        if scheduling == Scheduling::Auto {
            let file = File::open("/proc/thread-self/schedstat").ok();
            let Some((waits, file)) = file.and_then(|file| Some((waits(&file)?, file))) else {
                return turns;
            };
            turns.watched = Some((Watch::new(waits, now_ns), file));
        }
        set_policy(libc::SCHED_BATCH);
        turns
    }

    /// Called in every turn: changes over if it is time to.
    #[inline]
    pub fn mind(&mut self, now_ns: u64) {
        if let Some((watch, file)) = &mut self.watched
            && now_ns >= watch.due_ns
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

    /// Waits `each_ns` a thousand times a second for so many seconds; returns the seconds in batches.
    fn pass(watch: &mut Watch, now: &mut (Waits, u64), each_ns: [u64; 2], seconds: u64) -> f64 {
        let mut batches = 0;
        for _ in 0..seconds * 1000 {
            let (waits, now_ns) = now;
            waits.waited_ns += each_ns[usize::from(watch.is_batch)];
            waits.count += 1;
            *now_ns += 1_000_000;
            batches += u32::from(watch.is_batch);
            if *now_ns >= watch.due_ns {
                watch.changes(*waits, *now_ns);
            }
        }
        f64::from(batches) / 1000.0
    }

    #[test]
    fn batches_end_beside_what_never_pauses_and_come_back_after_it() {
        let mut now = (Waits::default(), 0);
        let mut watch = Watch::new(now.0, now.1);
        assert_eq!(pass(&mut watch, &mut now, [10_000, 100_000], 100), 100.0);
        // Less and less often is it tried again.
        let early = pass(&mut watch, &mut now, [10_000, 1_900_000], 60);
        assert!(early < 0.2, "{early}");
        let late = pass(&mut watch, &mut now, [10_000, 1_900_000], 600);
        assert!((0.1..0.3).contains(&late), "{late}");
        let after = pass(&mut watch, &mut now, [10_000, 100_000], 200);
        assert!(after > 130.0 && watch.is_batch, "{after}");
        assert_eq!(watch.retry_ns, RETRY_MIN_NS);
    }

    #[test]
    fn few_waits_say_nothing() {
        let mut watch = Watch::new(Waits::default(), 0);
        let waits = |count| Waits {
            waited_ns: count * 5_000_000,
            count,
        };
        assert!(!watch.changes(waits(7), WATCH_NS));
        assert!(watch.changes(waits(8), 2 * WATCH_NS) && !watch.is_batch);
    }
}
