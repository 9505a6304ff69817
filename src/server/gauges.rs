//! What a node measures of itself as it goes: peaks, rates and times that no counter holds.
//!
//! There is no tick: everything is taken at the end of turns, and an idle node changes nothing.

use crate::session::Core;

/// Time between two marks of the counters, and how many are kept: a rate covers about the last
/// 1.6 seconds. Redis: server.h STATS_METRIC_SAMPLES, every 100 ms.
const MARK_MS: i64 = 100;
const MARKS: usize = 16;

/// The counters that rates are made of, at one moment.
#[derive(Clone, Copy, Debug, Default)]
struct Mark {
    at_ms: i64,
    commands: u64,
    input_bytes: u64,
    output_bytes: u64,
}

/// What happened in a second, of late.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Rates {
    pub commands: f64,
    pub input_bytes: f64,
    pub output_bytes: f64,
}

impl std::ops::Add for Rates {
    type Output = Rates;

    fn add(self, other: Rates) -> Rates {
        Rates {
            commands: self.commands + other.commands,
            input_bytes: self.input_bytes + other.input_bytes,
            output_bytes: self.output_bytes + other.output_bytes,
        }
    }
}

#[derive(Clone, Debug, Default)]
pub struct Gauges {
    /// Memory of keys while there were none, and at most.
    pub startup_bytes: usize,
    pub peak_bytes: usize,
    /// Time spent on keys that were due, and how often a slice left some for the next.
    pub expire_ns: u64,
    pub expire_slices_cut: u64,
    /// Connections that `maxclients` refused.
    pub refused: u64,
    /// Clients that `maxmemory-clients` closed.
    pub evicted_clients: u64,
    /// Since when memory exceeds `maxmemory`, and for how long it did before.
    over_since_ms: Option<i64>,
    over_ms: i64,
    marks: [Mark; MARKS],
    /// Where the next mark goes.
    next: usize,
}

impl Gauges {
    /// The end of a turn.
    pub fn turn(&mut self, core: &Core, now_ms: i64) {
        let used = core.shard.keyspace.memory_bytes();
        self.peak_bytes = self.peak_bytes.max(used);
        let budget = &core.shard.budget;
        if budget.max_bytes > 0 && budget.excess(used) > 0 {
            self.over_since_ms.get_or_insert(now_ms);
        } else if let Some(since_ms) = self.over_since_ms.take() {
            self.over_ms += (now_ms - since_ms).max(0);
        }
        let newest = &self.marks[(self.next + MARKS - 1) % MARKS];
        if now_ms - newest.at_ms >= MARK_MS {
            self.marks[self.next] = Mark::of(core, now_ms);
            self.next = (self.next + 1) % MARKS;
        }
    }

    /// Milliseconds for which memory exceeded its limit in all, and does now.
    pub fn over_ms(&self, now_ms: i64) -> (i64, i64) {
        let current = self
            .over_since_ms
            .map_or(0, |since| (now_ms - since).max(0));
        (self.over_ms + current, current)
    }

    pub fn rates(&self, core: &Core, now_ms: i64) -> Rates {
        self.rates_to(Mark::of(core, now_ms))
    }

    /// From the oldest mark of late, or else the last one there is, up to `now`.
    fn rates_to(&self, now: Mark) -> Rates {
        let made = || self.marks.iter().filter(|mark| mark.at_ms > 0);
        let oldest_ms = now.at_ms - MARK_MS * MARKS as i64;
        let of_late = made().filter(|mark| mark.at_ms >= oldest_ms);
        let Some(since) = of_late
            .min_by_key(|mark| mark.at_ms)
            .or(made().max_by_key(|mark| mark.at_ms))
        else {
            return Rates::default();
        };
        let seconds = (now.at_ms - since.at_ms).max(1) as f64 / 1000.0;
        // CONFIG RESETSTAT sets counters back.
        let rate = |new: u64, old: u64| new.saturating_sub(old) as f64 / seconds;
        Rates {
            commands: rate(now.commands, since.commands),
            input_bytes: rate(now.input_bytes, since.input_bytes),
            output_bytes: rate(now.output_bytes, since.output_bytes),
        }
    }

    /// CONFIG RESETSTAT.
    pub fn reset(&mut self) {
        *self = Gauges {
            startup_bytes: self.startup_bytes,
            peak_bytes: self.peak_bytes,
            over_since_ms: self.over_since_ms,
            ..Gauges::default()
        };
    }
}

impl Mark {
    fn of(core: &Core, at_ms: i64) -> Mark {
        Mark {
            at_ms,
            commands: core.counters.commands,
            input_bytes: core.counters.input_bytes,
            output_bytes: core.counters.output_bytes,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mark(at_ms: i64, commands: u64) -> Mark {
        Mark {
            at_ms,
            commands,
            ..Mark::default()
        }
    }

    #[test]
    fn rates_are_of_late() {
        let mut gauges = Gauges::default();
        assert_eq!(gauges.rates_to(mark(5_000, 100)), Rates::default());
        gauges.marks[0] = mark(10_000, 100);
        gauges.marks[1] = mark(20_000, 100);
        gauges.marks[2] = mark(20_500, 600);
        assert_eq!(gauges.rates_to(mark(21_000, 1_100)).commands, 1_000.0);
        // Nothing of late: since the last mark.
        assert_eq!(gauges.rates_to(mark(30_500, 610)).commands, 1.0);
        assert_eq!(gauges.rates_to(mark(30_500, 5)).commands, 0.0);
    }
}
