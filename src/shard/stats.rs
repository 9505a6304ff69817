//! Per-command counters of one shard, merged over shards for INFO and LATENCY HISTOGRAM.

use ahash::AHashMap;
use hdrhistogram::Histogram;

use crate::command::CommandId;

/// Largest latency a histogram tells apart: one second, in nanoseconds, as in Redis.
const LATENCY_MAX_NS: u64 = 1_000_000_000;
/// Largest lag of an expiry: an hour.
const LAG_MAX_NS: u64 = 3600 * LATENCY_MAX_NS;
/// Prefixes of errors that are counted, and how long one may be. Scripts can make up any: the first ones
/// stay, which the server's own are among. Redis 7.4 has a limit as well.
const ERRORS_MAX: usize = 128;
const ERROR_MAX_BYTES: usize = 128;
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
    /// How late keys expired: from the deadline until the event left.
    expire_lag: CommandStats,
    /// `latency-tracking`
    pub track_latency: bool,
    /// Commands that take so long are noted for the latency monitor; `u64::MAX`: none.
    pub spike_ns: u64,
    /// Error replies by prefix (`ERR`, `WRONGTYPE`...), for INFO errorstats.
    errors: AHashMap<Box<str>, u64>,
    /// Of them, those to a master of this server.
    pub unexpected: u64,
    /// Those noted since they were last taken, with how long they took.
    spikes: Vec<(CommandId, u64)>,
}

impl Stats {
    pub fn new(commands: usize) -> Stats {
        Stats {
            commands: vec![CommandStats::default(); commands],
            expire_lag: CommandStats::default(),
            track_latency: true,
            spike_ns: u64::MAX,
            errors: AHashMap::new(),
            unexpected: 0,
            spikes: Vec::new(),
        }
    }

    /// Counts a reply, if it is an error.
    pub fn note_error(&mut self, reply: &[u8]) {
        if let Some(text) = reply.strip_prefix(b"-") {
            self.note_error_text(text);
        }
    }

    /// Counts an error by its text.
    pub fn note_error_text(&mut self, text: &[u8]) {
        let end = text.iter().position(|b| matches!(b, b' ' | b'\r'));
        let prefix = &text[..end.unwrap_or(text.len())];
        if prefix.len() > ERROR_MAX_BYTES {
            return;
        }
        let prefix = String::from_utf8_lossy(prefix);
        let has_room = self.errors.len() < ERRORS_MAX;
        match self.errors.get_mut(&*prefix) {
            Some(count) => *count += 1,
            None if !has_room => {}
            None => drop(self.errors.insert(prefix.into(), 1)),
        }
    }

    /// The same without the commands' histograms, or without commands at all.
    pub fn without_latencies(&self, with_commands: bool) -> Stats {
        let counts = |stats: &CommandStats| CommandStats {
            latency: None,
            ..*stats
        };
        let commands = match with_commands {
            true => self.commands.iter().map(counts).collect(),
            false => Vec::new(),
        };
        Stats {
            commands,
            expire_lag: self.expire_lag.clone(),
            errors: self.errors.clone(),
            spikes: Vec::new(),
            ..*self
        }
    }

    /// Error replies by prefix, in no order.
    pub fn errors(&self) -> impl Iterator<Item = (&str, u64)> {
        self.errors
            .iter()
            .map(|(prefix, count)| (&**prefix, *count))
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
            let histogram = stats
                .latency
                .get_or_insert_with(|| new_histogram(LATENCY_MAX_NS));
            histogram.saturating_record(spent_ns.clamp(1, LATENCY_MAX_NS));
        }
        if spent_ns >= self.spike_ns {
            self.spikes.push((id, spent_ns));
        }
    }

    /// The commands that were noted as slow since the last call.
    pub fn take_spikes(&mut self) -> Vec<(CommandId, u64)> {
        std::mem::take(&mut self.spikes)
    }

    pub fn has_spikes(&self) -> bool {
        !self.spikes.is_empty()
    }

    /// A key expired so long after its deadline.
    pub fn expired(&mut self, lag_us: i64) {
        let lag = &mut self.expire_lag;
        lag.calls += 1;
        let histogram = lag.latency.get_or_insert_with(|| new_histogram(LAG_MAX_NS));
        let lag_ns = u64::try_from(lag_us).unwrap_or(0).saturating_mul(1000);
        histogram.saturating_record(lag_ns.clamp(1, LAG_MAX_NS));
    }

    pub fn expire_lag(&self) -> &CommandStats {
        &self.expire_lag
    }

    /// A command that was counted when it began to wait ended with an error.
    pub fn failed(&mut self, id: CommandId) {
        self.commands[usize::from(id)].failed += 1;
    }

    pub fn rejected(&mut self, id: CommandId) {
        self.commands[usize::from(id)].rejected += 1;
    }

    pub fn merge(&mut self, other: &Stats) {
        for (ours, theirs) in self.commands.iter_mut().zip(&other.commands) {
            ours.merge(theirs);
        }
        self.expire_lag.merge(&other.expire_lag);
    }

    /// CONFIG RESETSTAT.
    pub fn reset(&mut self) {
        self.commands.fill(CommandStats::default());
        self.errors.clear();
        self.unexpected = 0;
        self.expire_lag = CommandStats::default();
    }

    /// `latency-tracking no`.
    pub fn reset_latency(&mut self) {
        self.commands
            .iter_mut()
            .for_each(|stats| stats.latency = None);
        self.expire_lag = CommandStats::default();
    }
}

fn new_histogram(max_ns: u64) -> Box<Histogram<u32>> {
    let histogram =
        Histogram::new_with_bounds(1, max_ns, LATENCY_DIGITS).expect("constant bounds are valid");
    Box::new(histogram)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_that_are_made_up_fill_no_memory() {
        let mut stats = Stats::new(0);
        stats.note_error(b"-ERR first\r\n");
        for n in 0..1000 {
            stats.note_error(format!("-E{n} text\r\n").as_bytes());
            stats.note_error(format!("-{n}{}\r\n", "x".repeat(1000)).as_bytes());
        }
        stats.note_error(b"-ERR again\r\n");
        assert_eq!(stats.errors().count(), ERRORS_MAX);
        assert!(stats.errors().any(|error| error == ("ERR", 2)));
    }

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
