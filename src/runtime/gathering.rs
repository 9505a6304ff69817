//! Letting requests gather: a busy shard sleeps until a batch of them is there.
//!
//! A visit to the kernel that fetches one request and sends one reply costs a fifth more than its share of
//! a visit that does so for sixteen. Where many clients wait for their replies one by one, the next requests
//! are a few microseconds away: who may be late by as much as that is told by `shard-gathering` serves them
//! for less. It is worth it for a batch of some size only, so a shard waits for one only while as much
//! arrives, and not for a while once that was a mistake.

use std::time::Duration;

/// Arrivals to wait for. Below the least the sleep costs more than the visits it saves; beyond the most
/// little is left to save.
const WANT_MIN: u64 = 8;
const WANT_MAX: u64 = 24;
/// How long arrivals are counted for each decision.
const WATCH_NS: u64 = 10_000_000;
/// After how long it is tried again: longer each time it fails, within these bounds.
const RETRY_MIN_NS: u64 = 1_000_000_000;
const RETRY_MAX_NS: u64 = 64_000_000_000;

#[derive(Debug)]
pub(super) struct Gathering {
    /// The longest wait; zero: never.
    max_ns: u64,
    /// Arrivals to wait for; zero: whatever comes first.
    want: u64,
    /// The turn that goes on began with a wait.
    has_waited: bool,
    /// Since the last decision: when that was, arrivals, waits, and how many ended with less than wanted.
    since_ns: u64,
    arrived: u64,
    waits: u64,
    in_vain: u64,
    again_ns: u64,
    retry_ns: u64,
}

impl Gathering {
    pub fn new(longest: Duration, now_ns: u64) -> Gathering {
        Gathering {
            max_ns: longest.as_nanos() as u64,
            want: 0,
            has_waited: false,
            since_ns: now_ns,
            arrived: 0,
            waits: 0,
            in_vain: 0,
            again_ns: 0,
            retry_ns: RETRY_MIN_NS,
        }
    }

    /// What to wait for before the next turn, and how long, instead of `timeout` (`None`: for ever) for
    /// whatever comes first.
    pub fn wait(&mut self, timeout: Option<Duration>) -> Option<(usize, Duration)> {
        let longest = Duration::from_nanos(self.max_ns);
        let longest = timeout.map_or(longest, |timeout| timeout.min(longest));
        self.has_waited = self.want > 0 && !longest.is_zero();
        self.has_waited.then_some((self.want as usize, longest))
    }

    /// Somebody asked for this.
    #[inline]
    pub fn is_on(&self) -> bool {
        self.max_ns > 0
    }

    /// Counts what a turn began with, from so many connections.
    pub fn mind(&mut self, arrived: usize, connections: usize, now_ns: u64) {
        self.arrived += arrived as u64;
        if std::mem::take(&mut self.has_waited) {
            self.waits += 1;
            self.in_vain += u64::from((arrived as u64) < self.want);
        }
        if now_ns >= self.since_ns + WATCH_NS {
            self.decide(connections as u64, now_ns);
        }
    }

    fn decide(&mut self, connections: u64, now_ns: u64) {
        let expected = self.arrived * self.max_ns / (now_ns - self.since_ns);
        if self.want > 0 && 2 * self.in_vain > self.waits {
            self.want = 0;
            self.again_ns = now_ns + self.retry_ns;
            self.retry_ns = (2 * self.retry_ns).min(RETRY_MAX_NS);
        } else if now_ns >= self.again_ns {
            if self.want > 0 && now_ns > self.again_ns + self.retry_ns {
                self.retry_ns = RETRY_MIN_NS;
            }
            // Of all clients some wait here while others read their replies.
            let want = expected.min(connections / 2).min(WANT_MAX);
            self.want = if want >= WANT_MIN { want } else { 0 };
        }
        (self.since_ns, self.arrived, self.waits, self.in_vain) = (now_ns, 0, 0, 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Serves `connections` clients of which `active` send one request every `every_ns` together, unless
    /// all of them wait, for so many milliseconds. Returns the requests of a turn on average.
    fn serve(
        gathering: &mut Gathering,
        now_ns: &mut u64,
        clients: [u64; 2],
        every_ns: u64,
        ms: u64,
    ) -> f64 {
        let [connections, active] = clients;
        let end_ns = *now_ns + ms * 1_000_000;
        let (mut turns, mut requests) = (0, 0);
        while *now_ns < end_ns {
            let (wanted, longest_ns) = match gathering.wait(None) {
                Some((want, longest)) => (want as u64, longest.as_nanos() as u64),
                None => (1, u64::MAX),
            };
            let come = wanted.min(active).min(longest_ns / every_ns);
            *now_ns += if come < wanted {
                longest_ns
            } else {
                wanted * every_ns
            };
            gathering.mind(come as usize, connections as usize, *now_ns);
            (turns, requests) = (turns + 1, requests + come);
        }
        requests as f64 / turns as f64
    }

    fn gathering(us: u64) -> (Gathering, u64) {
        (Gathering::new(Duration::from_micros(us), 0), 0)
    }

    #[test]
    fn requests_gather_while_many_arrive() {
        let (mut gathering, mut now_ns) = gathering(200);
        assert_eq!(
            serve(&mut gathering, &mut now_ns, [50, 50], 100_000, 1000),
            1.0
        );
        assert!(serve(&mut gathering, &mut now_ns, [50, 50], 9_000, 1000) > 15.0);
        assert!(serve(&mut gathering, &mut now_ns, [50, 50], 9_000, 1000) > 20.0);
        // What was wanted before is wanted once more until it is seen that less arrives.
        assert!(serve(&mut gathering, &mut now_ns, [50, 50], 100_000, 10_000) < 1.1);
    }

    #[test]
    fn nobody_waits_for_more_than_there_are() {
        let (mut gathering, mut now_ns) = gathering(200);
        assert_eq!(
            serve(&mut gathering, &mut now_ns, [15, 15], 9_000, 1000),
            1.0
        );
        // Most of these never say anything: a wait for them is in vain, and tried less and less often.
        let mean = serve(&mut gathering, &mut now_ns, [1000, 10], 9_000, 60_000);
        assert!(mean > 1.0 && mean < 1.1, "{mean}");
        assert!(gathering.retry_ns >= 16 * RETRY_MIN_NS);
    }

    #[test]
    fn a_wait_ends_with_the_next_deadline() {
        let (mut gathering, mut now_ns) = gathering(200);
        serve(&mut gathering, &mut now_ns, [50, 50], 9_000, 100);
        let soon = Duration::from_micros(5);
        assert_eq!(
            gathering.wait(Some(soon)).map(|(_, longest)| longest),
            Some(soon)
        );
        assert_eq!(gathering.wait(Some(Duration::ZERO)), None);
        assert_eq!(gathering.wait(None).map(|(want, _)| want), Some(22));
    }

    #[test]
    fn who_does_not_ask_for_it_never_waits() {
        let (mut gathering, mut now_ns) = gathering(0);
        assert_eq!(
            serve(&mut gathering, &mut now_ns, [50, 50], 1_000, 1000),
            1.0
        );
    }
}
