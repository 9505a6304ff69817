//! Letting requests gather: a busy shard sleeps until a batch of them is there.
//!
//! A visit to the kernel that fetches one request and sends one reply costs a fifth more than its share of
//! a visit that does so for sixteen, for the server and for clients with many connections. Where they wait
//! for each reply, the next requests are a few microseconds away, and whoever is served in batches asks
//! for more in all. Whether that is so is tried: windows of time with batches and without take turns, and
//! batches go on only if more requests came with them. Clients that send at a pace of their own would
//! get each reply later, and nothing for it; they send no more, so nothing gathers for them.

use std::time::Duration;

/// What the configuration asks for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Gather {
    /// While more requests are served for it.
    #[default]
    Auto,
    /// While much arrives.
    Always,
    Never,
}

/// The longest wait. The requests that gather are 100,000 a second, or a few less.
pub const LONGEST: Duration = Duration::from_micros(200);
/// Arrivals to wait for. Below the least the sleep costs more than the visits it saves; beyond the most
/// little is left to save.
const WANT_MIN: u64 = 8;
const WANT_MAX: u64 = 24;
/// How long arrivals are counted for each decision.
const WATCH_NS: u64 = 10_000_000;
/// Pairs of windows in a trial, one of each with batches: the most where the machine is so noisy that
/// fewer say nothing.
const PAIRS_MIN: u32 = 12;
const PAIRS_MAX: u32 = 120;
/// How much more batches have to bring.
const WORTH: f64 = 0.02;
/// What a pair counts at most: other work of the machine that holds up a window decides nothing.
const GAIN_MAX: f64 = 0.3;
/// How many standard errors a verdict stands away from what batches have to bring.
const CERTAIN: f64 = 1.5;
/// How long batches go on before they are tried again.
const KEEP_NS: u64 = 10_000_000_000;
/// How long they go on with half of the clients others, who mostly are like those before them.
const KEEP_OTHERS_NS: u64 = 1_000_000_000;
/// After how long they are tried again when it was no use: longer each time, within these bounds.
const RETRY_MIN_NS: u64 = 1_000_000_000;
const RETRY_MAX_NS: u64 = 64_000_000_000;
/// After how long if half of the clients are others.
const OTHERS_NS: u64 = 200_000_000;

#[derive(Debug)]
pub(super) struct Gathering {
    gather: Gather,
    /// The longest wait.
    max_ns: u64,
    /// Arrivals to wait for; zero: whatever comes first.
    want: u64,
    /// The turn that goes on began with a wait.
    has_waited: bool,
    /// Since the last decision: when that was, arrivals, waits, and how many ended with less than half of what was wanted.
    since_ns: u64,
    arrived: u64,
    waits: u64,
    in_vain: u64,
    stage: Stage,
    retry_ns: u64,
    /// Connections opened since it was last tried.
    opened: u64,
}

#[derive(Debug)]
enum Stage {
    /// Nothing gathers, since this instant, until it is tried again.
    Off {
        since_ns: u64,
    },
    Trial(Trial),
    /// Batches were of use; they are tried again at this instant.
    On {
        until_ns: u64,
    },
}

/// Pairs of windows, one without batches and one with them.
#[derive(Debug, Default)]
struct Trial {
    windows: u32,
    /// Requests per second in the first window of the pair that is under way.
    first: u64,
    /// What batches gained in each pair, as a fraction of the pair's rate: the sum, and that of the squares.
    gains: f64,
    squares: f64,
}

impl Trial {
    /// With batches and without in turns, and every other pair in the other order: a load that grows
    /// favours neither.
    fn has_batches(&self) -> bool {
        matches!(self.windows % 4, 0 | 3)
    }

    /// Counts a window. Returns, once that is clear, whether batches are worth it.
    fn count(&mut self, rate: u64) -> Option<bool> {
        let has_batches = self.has_batches();
        self.windows += 1;
        if self.windows % 2 == 1 {
            self.first = rate;
            return None;
        }
        let [with, without] = match has_batches {
            true => [rate, self.first],
            false => [self.first, rate],
        }
        .map(|rate| rate as f64);
        // Windows beside each other meet the same noise, which their difference is without.
        let gain = ((with - without) / ((with + without) / 2.0)).clamp(-GAIN_MAX, GAIN_MAX);
        self.gains += gain;
        self.squares += gain * gain;
        self.verdict()
    }

    fn verdict(&self) -> Option<bool> {
        let pairs = self.windows / 2;
        let count = f64::from(pairs);
        let mean = self.gains / count;
        let variance = (self.squares / count - mean * mean).max(0.0);
        let error = (variance / count).sqrt();
        let is_clear = (mean - WORTH).abs() >= CERTAIN * error;
        (pairs >= PAIRS_MAX || pairs >= PAIRS_MIN && is_clear).then_some(mean >= WORTH)
    }
}

impl Gathering {
    pub fn new(gather: Gather, longest: Duration, now_ns: u64) -> Gathering {
        Gathering {
            gather,
            max_ns: longest.as_nanos() as u64,
            want: 0,
            has_waited: false,
            since_ns: now_ns,
            arrived: 0,
            waits: 0,
            in_vain: 0,
            stage: Stage::Off { since_ns: now_ns },
            retry_ns: 0,
            opened: 0,
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

    #[inline]
    pub fn may_be(&self) -> bool {
        self.gather != Gather::Never
    }

    /// Counts a connection that opens.
    pub fn note_opened(&mut self) {
        self.opened += 1;
    }

    /// Counts what a turn began with, beside so many connections.
    pub fn mind(&mut self, arrived: usize, connections: usize, now_ns: u64) {
        self.arrived += arrived as u64;
        if std::mem::take(&mut self.has_waited) {
            self.waits += 1;
            // As many as are expected come in half of the waits; far fewer, where most clients say nothing.
            self.in_vain += u64::from(2 * (arrived as u64) < self.want);
        }
        if now_ns >= self.since_ns + WATCH_NS {
            self.decide(connections as u64, now_ns);
        }
    }

    fn decide(&mut self, connections: u64, now_ns: u64) {
        let window_ns = now_ns - self.since_ns;
        let expected = self.arrived * self.max_ns / window_ns;
        // Of all clients some wait here while others read their replies.
        let want = expected.min(connections / 2).min(WANT_MAX);
        let was_in_vain = 2 * self.in_vain > self.waits;
        let rate = self.arrived * 1_000_000_000 / window_ns;
        let has_others = 2 * self.opened > connections;
        match &mut self.stage {
            Stage::Trial(_) | Stage::On { .. } if was_in_vain => self.give_up(now_ns),
            // Where little arrives nothing gathers, and nothing is learnt.
            _ if want < WANT_MIN => {}
            Stage::Trial(trial) => match trial.count(rate) {
                None => {}
                Some(false) => self.give_up(now_ns),
                Some(true) => {
                    self.retry_ns = 0;
                    let until_ns = now_ns + KEEP_NS;
                    self.stage = Stage::On { until_ns };
                }
            },
            Stage::On { until_ns } => {
                if has_others {
                    *until_ns = (*until_ns).min(now_ns + KEEP_OTHERS_NS);
                }
                if now_ns >= *until_ns {
                    self.begin();
                }
            }
            Stage::Off { since_ns } => {
                // What was learnt of other clients says nothing of these.
                if has_others {
                    self.retry_ns = self.retry_ns.min(OTHERS_NS);
                }
                if now_ns >= *since_ns + self.retry_ns {
                    self.begin();
                }
            }
        }
        self.want = match &self.stage {
            _ if want < WANT_MIN => 0,
            Stage::On { .. } => want,
            Stage::Trial(trial) if trial.has_batches() => want,
            Stage::Trial(_) | Stage::Off { .. } => 0,
        };
        (self.since_ns, self.arrived, self.waits, self.in_vain) = (now_ns, 0, 0, 0);
    }

    fn begin(&mut self) {
        self.opened = 0;
        self.stage = match self.gather {
            Gather::Always => Stage::On { until_ns: u64::MAX },
            _ => Stage::Trial(Trial::default()),
        };
    }

    fn give_up(&mut self, now_ns: u64) {
        self.retry_ns = (2 * self.retry_ns).clamp(RETRY_MIN_NS, RETRY_MAX_NS);
        self.stage = Stage::Off { since_ns: now_ns };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Clients that send one request after another.
    #[derive(Clone, Copy)]
    struct Clients {
        connections: u64,
        /// How many of them say anything.
        active: u64,
        /// The time between two of their requests, if they are served one by one, and in batches.
        alone_ns: u64,
        batched_ns: u64,
    }

    impl Clients {
        fn of(connections: u64, alone_ns: u64, batched_ns: u64) -> Clients {
            Clients {
                connections,
                active: connections,
                alone_ns,
                batched_ns,
            }
        }

        /// Serves them for so many milliseconds. Returns the requests of a turn on average.
        fn serve(self, gathering: &mut Gathering, now_ns: &mut u64, ms: u64) -> f64 {
            let end_ns = *now_ns + ms * 1_000_000;
            let (mut turns, mut requests) = (0, 0);
            while *now_ns < end_ns {
                let (wanted, longest_ns, every_ns) = match gathering.wait(None) {
                    Some((want, longest)) => {
                        (want as u64, longest.as_nanos() as u64, self.batched_ns)
                    }
                    None => (1, u64::MAX, self.alone_ns),
                };
                let come = wanted.min(self.active).min(longest_ns / every_ns);
                *now_ns += if come < wanted {
                    longest_ns
                } else {
                    wanted * every_ns
                };
                gathering.mind(come as usize, self.connections as usize, *now_ns);
                (turns, requests) = (turns + 1, requests + come);
            }
            requests as f64 / turns as f64
        }
    }

    fn gathering(gather: Gather) -> (Gathering, u64) {
        (Gathering::new(gather, LONGEST, 0), 0)
    }

    #[test]
    fn requests_gather_while_more_are_served_for_it() {
        let (mut gathering, mut now_ns) = gathering(Gather::Auto);
        let waiting = Clients::of(50, 10_000, 9_300);
        let mean = waiting.serve(&mut gathering, &mut now_ns, 1_000);
        assert!(mean > 5.0, "{mean}");
        // Turns that are served alone while it is tried again are many.
        let mean = waiting.serve(&mut gathering, &mut now_ns, 60_000);
        assert!(mean > 5.0, "{mean}");
        assert!(matches!(gathering.stage, Stage::On { .. }));
        let seldom = Clients::of(50, 100_000, 100_000);
        let mean = seldom.serve(&mut gathering, &mut now_ns, 5_000);
        assert!(mean < 1.1, "{mean}");
        let mean = waiting.serve(&mut gathering, &mut now_ns, 1_000);
        assert!(mean > 5.0, "{mean}");
        // Others are tried anew before long.
        for _ in 0..50 {
            gathering.note_opened();
        }
        let paced = Clients::of(50, 10_000, 10_000);
        let mean = paced.serve(&mut gathering, &mut now_ns, 1_500);
        assert!(mean > 2.0, "{mean}");
        let mean = paced.serve(&mut gathering, &mut now_ns, 5_000);
        assert!(mean < 1.1, "{mean}");
    }

    #[test]
    fn nothing_gathers_for_clients_with_a_pace_of_their_own() {
        let (mut gathering, mut now_ns) = gathering(Gather::Auto);
        let paced = Clients::of(50, 10_000, 10_000);
        let mean = paced.serve(&mut gathering, &mut now_ns, 120_000);
        assert!(mean > 1.0 && mean < 1.01, "{mean}");
        assert_eq!(gathering.retry_ns, RETRY_MAX_NS);
        // Other clients have not been tried.
        for _ in 0..50 {
            gathering.note_opened();
        }
        let waiting = Clients::of(50, 10_000, 9_300);
        let mean = waiting.serve(&mut gathering, &mut now_ns, 3_000);
        assert!(mean > 5.0, "{mean}");
    }

    #[test]
    fn a_load_that_grows_is_no_use_of_batches() {
        let mut trial = Trial::default();
        let verdicts: Vec<_> = (0..2 * u64::from(PAIRS_MIN))
            .map(|at| trial.count(1_000 + 10 * at))
            .collect();
        let (last, others) = verdicts.split_last().unwrap();
        assert!(others.iter().all(Option::is_none), "{verdicts:?}");
        assert_eq!(*last, Some(false));
    }

    /// A trial whose windows with batches serve `gain` per mille more, on a machine where each may be slower or
    /// faster by `noise` per mille. Returns the verdict and how many pairs it took.
    fn trial(gain: u64, noise: u64, random: &mut fastrand::Rng) -> (bool, u32) {
        let mut trial = Trial::default();
        loop {
            let rate = 1_000 + if trial.has_batches() { gain } else { 0 };
            if let Some(verdict) = trial.count(rate * random.u64(1_000 - noise..=1_000 + noise)) {
                return (verdict, trial.windows / 2);
            }
        }
    }

    #[test]
    fn a_noisy_machine_is_tried_for_longer() {
        let mut random = fastrand::Rng::with_seed(1);
        for (gain, is_worth) in [(0, false), (60, true)] {
            assert_eq!(trial(gain, 10, &mut random), (is_worth, PAIRS_MIN));
            let trials: Vec<_> = (0..200).map(|_| trial(gain, 250, &mut random)).collect();
            let right = trials.iter().filter(|(verdict, _)| *verdict == is_worth);
            assert!(right.count() > 150, "{gain}: {trials:?}");
            assert!(trials.iter().any(|(_, pairs)| *pairs == PAIRS_MAX));
        }
    }

    #[test]
    fn who_asks_for_it_always_has_it_while_many_arrive() {
        let (mut gathering, mut now_ns) = gathering(Gather::Always);
        let [seldom, often] = [100_000, 9_000].map(|every_ns| Clients::of(50, every_ns, every_ns));
        assert_eq!(seldom.serve(&mut gathering, &mut now_ns, 1_000), 1.0);
        assert!(often.serve(&mut gathering, &mut now_ns, 1_000) > 15.0);
        assert!(often.serve(&mut gathering, &mut now_ns, 1_000) > 20.0);
        // What was wanted before is wanted once more until it is seen that less arrives.
        assert!(seldom.serve(&mut gathering, &mut now_ns, 10_000) < 1.1);
    }

    #[test]
    fn nobody_waits_for_more_than_there_are() {
        for gather in [Gather::Always, Gather::Auto] {
            let (mut gathering, mut now_ns) = gathering(gather);
            let few = Clients::of(15, 9_000, 8_000);
            assert_eq!(few.serve(&mut gathering, &mut now_ns, 1_000), 1.0);
            // Most of these never say anything: a wait for them is in vain, and tried less and less often.
            let silent = Clients {
                connections: 1_000,
                active: 10,
                ..few
            };
            let mean = silent.serve(&mut gathering, &mut now_ns, 60_000);
            assert!(mean > 1.0 && mean < 1.1, "{mean}");
            assert!(gathering.retry_ns >= 16 * RETRY_MIN_NS);
        }
    }

    #[test]
    fn a_wait_ends_with_the_next_deadline() {
        let (mut gathering, mut now_ns) = gathering(Gather::Always);
        Clients::of(50, 9_000, 9_000).serve(&mut gathering, &mut now_ns, 100);
        let soon = Duration::from_micros(5);
        assert_eq!(
            gathering.wait(Some(soon)).map(|(_, longest)| longest),
            Some(soon)
        );
        assert_eq!(gathering.wait(Some(Duration::ZERO)), None);
        assert_eq!(gathering.wait(None).map(|(want, _)| want), Some(22));
    }
}
