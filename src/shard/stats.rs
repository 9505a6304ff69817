//! Per-command counters of one shard, merged over shards for INFO and LATENCY HISTOGRAM.

use hdrhistogram::Histogram;

use crate::command::CommandId;

/// Largest latency a histogram tells apart: one second, in nanoseconds, as in Redis.
const LATENCY_MAX_NS: u64 = 1_000_000_000;
/// Two significant digits, as in Redis.
const LATENCY_DIGITS: u8 = 2;

/// What one command did so far.
#[derive(Clone, Debug, Default)]
pub struct CommandStats {
    pub calls: u64,
    pub spent_ns: u64,
    /// Refused before running: arity, authentication, gates.
    pub rejected: u64,
    /// Ran and answered with an error.
    pub failed: u64,
    /// Latencies in nanoseconds; allocated by the first call.
    pub latency: Option<Box<Histogram<u32>>>,
}

impl CommandStats {
    pub fn merge(&mut self, other: &CommandStats) {
        self.calls += other.calls;
        self.spent_ns += other.spent_ns;
        self.rejected += other.rejected;
        self.failed += other.failed;
        if let Some(theirs) = &other.latency {
            match &mut self.latency {
                // Both have the same bounds, so adding cannot fail.
                Some(ours) => drop(ours.add(&**theirs)),
                None => self.latency = Some(theirs.clone()),
            }
        }
    }
}

/// The statistics of all commands, indexed by [`CommandId`].
#[derive(Clone, Debug)]
pub struct Stats {
    commands: Vec<CommandStats>,
    /// `latency-tracking`
    pub track_latency: bool,
}

impl Stats {
    pub fn new(commands: usize) -> Stats {
        Stats {
            commands: vec![CommandStats::default(); commands],
            track_latency: true,
        }
    }

    pub fn of(&self, id: CommandId) -> &CommandStats {
        &self.commands[usize::from(id)]
    }

    pub fn all(&self) -> &[CommandStats] {
        &self.commands
    }

    pub fn ran(&mut self, id: CommandId, spent_ns: u64, failed: bool) {
        let stats = &mut self.commands[usize::from(id)];
        stats.calls += 1;
        stats.spent_ns += spent_ns;
        stats.failed += u64::from(failed);
        if self.track_latency {
            let histogram = stats.latency.get_or_insert_with(new_histogram);
            histogram.saturating_record(spent_ns.clamp(1, LATENCY_MAX_NS));
        }
    }

    pub fn rejected(&mut self, id: CommandId) {
        self.commands[usize::from(id)].rejected += 1;
    }

    pub fn merge(&mut self, other: &Stats) {
        for (ours, theirs) in self.commands.iter_mut().zip(&other.commands) {
            ours.merge(theirs);
        }
    }

    /// CONFIG RESETSTAT.
    pub fn reset(&mut self) {
        self.commands.fill(CommandStats::default());
    }

    /// LATENCY HISTOGRAM's RESET, and `latency-tracking no`.
    pub fn reset_latency(&mut self) {
        self.commands
            .iter_mut()
            .for_each(|stats| stats.latency = None);
    }
}

fn new_histogram() -> Box<Histogram<u32>> {
    let histogram = Histogram::new_with_bounds(1, LATENCY_MAX_NS, LATENCY_DIGITS)
        .expect("constant bounds are valid");
    Box::new(histogram)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn merging_adds_everything() {
        let mut one = Stats::new(2);
        one.ran(0, 1500, false);
        one.ran(0, 2_000_000_000, true);
        let mut two = Stats::new(2);
        two.ran(0, 500, false);
        two.rejected(1);
        one.merge(&two);
        assert_eq!(one.of(0).calls, 3);
        assert_eq!(one.of(0).failed, 1);
        assert_eq!(one.of(0).latency.as_ref().map(|h| h.len()), Some(3));
        assert_eq!(one.of(1).rejected, 1);
    }
}
