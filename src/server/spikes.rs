//! The latency monitor: what took longer than `latency-monitor-threshold`, by kind of event.
//!
//! Each node keeps its own samples; LATENCY asks all nodes and merges. Formats, and the rule that one
//! second holds one sample, the worst: Redis: latency.c.

use std::fmt::Write as _;

use crate::resp::{Args, CmdError, CmdResult, Writer};

/// Samples kept of each event. Redis: latency.h LATENCY_TS_LEN.
const SAMPLES_MAX: usize = 160;

/// A command that is not meant to be fast, and one that is.
pub const COMMAND: &str = "command";
pub const FAST_COMMAND: &str = "fast-command";
/// One slice of due expirations, one slice of evictions, one slice of freeing values.
pub const EXPIRE_CYCLE: &str = "expire-cycle";
pub const EVICTION_CYCLE: &str = "eviction-cycle";
pub const LAZYFREE_CYCLE: &str = "lazyfree-cycle";
/// Handing a turn's changes to the append-only file; waiting until they are on the disk.
pub const AOF_WRITE: &str = "aof-write";
pub const AOF_FSYNC_ALWAYS: &str = "aof-fsync-always";
/// One slice of a snapshot.
pub const RDB_SLICE: &str = "rdb-slice";

/// All events, in the order in which they are told.
const EVENTS: [&str; 8] = [
    COMMAND,
    FAST_COMMAND,
    EXPIRE_CYCLE,
    EVICTION_CYCLE,
    LAZYFREE_CYCLE,
    AOF_WRITE,
    AOF_FSYNC_ALWAYS,
    RDB_SLICE,
];

/// The worst of one second.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sample {
    /// Unix seconds.
    pub at_s: i64,
    pub took_ms: u64,
}

/// One event's samples, oldest first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Series {
    samples: Vec<Sample>,
    /// The worst of all, also of those forgotten.
    worst_ms: u64,
}

impl Series {
    fn add(&mut self, sample: Sample) {
        self.worst_ms = self.worst_ms.max(sample.took_ms);
        // Clocks may step back; what is told stays in order.
        let at = self.samples.partition_point(|old| old.at_s < sample.at_s);
        match self.samples.get_mut(at) {
            Some(old) if old.at_s == sample.at_s => old.took_ms = old.took_ms.max(sample.took_ms),
            _ => self.samples.insert(at, sample),
        }
        if self.samples.len() > SAMPLES_MAX {
            self.samples.remove(0);
        }
    }

    fn merge(&mut self, other: &Series) {
        other.samples.iter().for_each(|sample| self.add(*sample));
        self.worst_ms = self.worst_ms.max(other.worst_ms);
    }
}

/// What one node noted, or all of them together.
#[derive(Clone, Debug, Default)]
pub struct Spikes {
    /// 0: nothing is noted.
    pub threshold_ms: u64,
    events: Vec<(&'static str, Series)>,
}

impl Spikes {
    pub fn is_on(&self) -> bool {
        self.threshold_ms > 0
    }

    /// Notes that `event` took so long, if that is long.
    pub fn note(&mut self, event: &'static str, took_ns: u64, now_s: i64) {
        let took_ms = took_ns / 1_000_000;
        if self.is_on() && took_ms >= self.threshold_ms {
            let sample = Sample {
                at_s: now_s,
                took_ms,
            };
            self.series(event).add(sample);
        }
    }

    fn series(&mut self, event: &'static str) -> &mut Series {
        let at = match self.events.iter().position(|(name, _)| *name == event) {
            Some(at) => at,
            None => {
                self.events.push((event, Series::default()));
                self.events.len() - 1
            }
        };
        &mut self.events[at].1
    }

    fn merge(&mut self, other: &Spikes) {
        self.threshold_ms = self.threshold_ms.max(other.threshold_ms);
        for (event, series) in &other.events {
            self.series(event).merge(series);
        }
    }

    /// Forgets the events that `LATENCY RESET [event ...]` names; returns which there were.
    pub fn reset(&mut self, args: &Args) -> Vec<&'static str> {
        let is_named = |event: &str| {
            let mut names = args.iter().skip(2);
            args.len() == 2 || names.any(|name| name.eq_ignore_ascii_case(event.as_bytes()))
        };
        let (gone, kept): (Vec<_>, Vec<_>) = std::mem::take(&mut self.events)
            .into_iter()
            .partition(|(event, _)| is_named(event));
        self.events = kept;
        gone.into_iter().map(|(event, _)| event).collect()
    }

    /// The spikes of all nodes.
    pub fn merged(parts: impl Iterator<Item = Spikes>) -> Spikes {
        let mut all = Spikes::default();
        parts.for_each(|part| all.merge(&part));
        let order = |event: &str| EVENTS.iter().position(|known| *known == event);
        all.events.sort_by_key(|(event, _)| order(event));
        all
    }

    fn named(&self, name: &[u8]) -> Option<&(&'static str, Series)> {
        self.events
            .iter()
            .find(|(event, _)| event.as_bytes() == name)
    }

    /// LATENCY LATEST, HISTORY, GRAPH and DOCTOR. `slow_us`: `slowlog-log-slower-than`.
    pub fn reply(&self, args: &Args, now_s: i64, slow_us: i64, out: &mut Writer) -> CmdResult {
        if args.is(1, "latest") {
            self.latest(out)
        } else if args.is(1, "history") {
            let series = self.named(args.get(2)).map(|(_, series)| series);
            let samples = series.map_or(&[][..], |series| &series.samples);
            out.array(samples.len())?;
            samples.iter().try_for_each(|sample| {
                out.array(2)?;
                out.int(sample.at_s)?;
                out.int(sample.took_ms as i64)
            })
        } else if args.is(1, "graph") {
            let Some((event, series)) = self.named(args.get(2)) else {
                return Err(CmdError::quoting(&[
                    b"ERR No samples available for event '",
                    args.get(2),
                    b"'",
                ]));
            };
            out.verbatim("txt", graph(event, series, now_s).as_bytes())
        } else {
            out.verbatim("txt", self.doctor(now_s, slow_us).as_bytes())
        }
    }

    fn latest(&self, out: &mut Writer) -> CmdResult {
        out.array(self.events.len())?;
        for (event, series) in &self.events {
            let last = series.samples.last();
            out.array(4)?;
            out.bulk(event.as_bytes())?;
            out.int(last.map_or(0, |sample| sample.at_s))?;
            out.int(last.map_or(0, |sample| sample.took_ms as i64))?;
            out.int(series.worst_ms as i64)?;
        }
        Ok(())
    }

    fn doctor(&self, now_s: i64, slow_us: i64) -> String {
        if self.events.is_empty() && !self.is_on() {
            return "Latency monitoring is off. CONFIG SET latency-monitor-threshold \
                    <milliseconds> turns it on.\n"
                .to_owned();
        }
        if self.events.is_empty() {
            return format!(
                "Nothing took {} ms or longer since the monitor was turned on.\n",
                self.threshold_ms
            );
        }
        let mut text = String::from("These took longer than they should:\n\n");
        for (i, (event, series)) in self.events.iter().enumerate() {
            text += &format!("{}. {event}: {}\n", i + 1, Summary::of(series, now_s));
        }
        text += "\nWhat may help:\n\n";
        for advice in self.advices(slow_us) {
            text += &format!("- {advice}\n");
        }
        text
    }

    fn advices(&self, slow_us: i64) -> Vec<String> {
        let has = |event: &str| self.named(event.as_bytes()).is_some();
        let threshold_us = self.threshold_ms.saturating_mul(1000);
        let mut all: Vec<String> = Vec::new();
        if has(COMMAND) && slow_us < 0 {
            all.push(format!(
                "Turn the slow log on to see which commands are slow: CONFIG SET \
                 slowlog-log-slower-than {threshold_us}"
            ));
        } else if has(COMMAND) && slow_us.unsigned_abs() > threshold_us {
            all.push(format!(
                "The slow log keeps only commands slower than this monitor's threshold: CONFIG SET \
                 slowlog-log-slower-than {threshold_us}"
            ));
        }
        let known: [(&[&str], &str); 5] = [
            (
                &[COMMAND],
                "Look into SLOWLOG GET: it names the commands, their arguments and clients.",
            ),
            (
                &[FAST_COMMAND],
                "Commands that need microseconds were slow: the CPU was busy elsewhere. Give each \
                 shard a core of its own (`shards`, `cpus`), and look for other processes on them.",
            ),
            (
                &[EXPIRE_CYCLE, EVICTION_CYCLE, LAZYFREE_CYCLE],
                "Single values that are very large cost time when they go: split them, or delete \
                 them with UNLINK.",
            ),
            (
                &[AOF_WRITE, RDB_SLICE],
                "The disk kept the server waiting: use a local disk, and look for other processes \
                 that write to it.",
            ),
            (
                &[AOF_FSYNC_ALWAYS],
                "With `appendfsync always` each reply waits for the disk; `everysec` does not.",
            ),
        ];
        for (events, advice) in known {
            if events.iter().any(|event| has(event)) {
                all.push(advice.to_owned());
            }
        }
        all
    }
}

/// What DOCTOR says of one event.
struct Summary {
    spikes: usize,
    average_ms: u64,
    /// Mean deviation from the average.
    deviation_ms: u64,
    /// Seconds between two spikes.
    period_s: f64,
    worst_ms: u64,
}

impl Summary {
    fn of(series: &Series, now_s: i64) -> Summary {
        let samples = &series.samples;
        let count = samples.len().max(1) as u64;
        let average_ms = samples.iter().map(|sample| sample.took_ms).sum::<u64>() / count;
        let deviations = samples
            .iter()
            .map(|sample| sample.took_ms.abs_diff(average_ms));
        let oldest_s = samples.first().map_or(now_s, |sample| sample.at_s);
        Summary {
            spikes: samples.len(),
            average_ms,
            deviation_ms: deviations.sum::<u64>() / count,
            period_s: (now_s - oldest_s).max(1) as f64 / count as f64,
            worst_ms: series.worst_ms,
        }
    }
}

impl std::fmt::Display for Summary {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "{} latency spikes (average {}ms, mean deviation {}ms, period {:.2} sec). Worst all \
             time event {}ms.",
            self.spikes, self.average_ms, self.deviation_ms, self.period_s, self.worst_ms
        )
    }
}

/// Columns of a graph's line, and rows of its bars.
const COLUMNS: usize = 80;
const ROWS: usize = 4;
/// How high a bar stands in its uppermost row.
const STEPS: [char; 3] = ['_', 'o', '#'];

/// How long ago, in the largest unit that is not zero.
fn age(seconds: i64) -> String {
    match seconds {
        ..60 => format!("{seconds}s"),
        60..3600 => format!("{}m", seconds / 60),
        3600..86_400 => format!("{}h", seconds / 3600),
        _ => format!("{}d", seconds / 86_400),
    }
}

/// Bars of all samples, each with its age written downwards below it.
fn graph(event: &str, series: &Series, now_s: i64) -> String {
    let heights = || series.samples.iter().map(|sample| sample.took_ms);
    let (low, high) = (
        heights().min().unwrap_or_default(),
        heights().max().unwrap_or_default(),
    );
    let mut text = String::new();
    let written = writeln!(
        text,
        "{event} - high {high} ms, low {low} ms (all time high {} ms)\n{}",
        series.worst_ms,
        "-".repeat(COLUMNS)
    );
    debug_assert!(written.is_ok(), "writing to a string cannot fail");
    for (i, samples) in series.samples.chunks(COLUMNS).enumerate() {
        if i > 0 {
            text.push('\n');
        }
        for row in 0..ROWS {
            let bar = |sample: &Sample| bar(sample.took_ms - low, high - low, row);
            text.extend(samples.iter().map(bar).chain(['\n']));
        }
        text.extend(std::iter::repeat_n(' ', samples.len()).chain(['\n']));
        let labels: Vec<String> = samples
            .iter()
            .map(|sample| age((now_s - sample.at_s).max(0)))
            .collect();
        let longest = labels.iter().map(String::len).max().unwrap_or(0);
        for at in 0..longest {
            let letter = |label: &String| label.chars().nth(at).unwrap_or(' ');
            text.extend(labels.iter().map(letter).chain(['\n']));
        }
    }
    text
}

/// What a bar shows in a row, counted from above.
fn bar(height: u64, highest: u64, row: usize) -> char {
    let steps = (STEPS.len() * ROWS) as u64;
    let step = (height * steps / highest.max(1)).min(steps - 1) as usize;
    let below = (ROWS - row - 1) * STEPS.len();
    match step.checked_sub(below) {
        None => ' ',
        Some(part) => STEPS.get(part).copied().unwrap_or('|'),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resp::{ArgBuf, Output, Proto};

    fn told(spikes: &Spikes, line: &str) -> String {
        let args: ArgBuf = line.split(' ').map(str::as_bytes).collect();
        let mut out = Output::default();
        let mut writer = Writer::new(&mut out, Proto::Resp2);
        if let Err(error) = spikes.reply(&args.as_args(), 1000, 10_000, &mut writer) {
            return error.to_string();
        }
        String::from_utf8_lossy(&out.bytes).replace("\r\n", " ")
    }

    fn spikes(of: &[(&'static str, u64, i64)]) -> Spikes {
        let mut spikes = Spikes {
            threshold_ms: 10,
            ..Spikes::default()
        };
        for (event, ms, at_s) in of {
            spikes.note(event, ms * 1_000_000, *at_s);
        }
        spikes
    }

    #[test]
    fn a_second_keeps_its_worst_and_nodes_are_merged() {
        let one = spikes(&[
            (COMMAND, 9, 900),
            (COMMAND, 20, 900),
            (COMMAND, 15, 900),
            (COMMAND, 30, 902),
        ]);
        let two = spikes(&[
            (FAST_COMMAND, 11, 901),
            (COMMAND, 40, 900),
            (COMMAND, 10, 901),
        ]);
        let all = Spikes::merged([two, one].into_iter());
        assert_eq!(
            told(&all, "LATENCY HISTORY command"),
            "*3 *2 :900 :40 *2 :901 :10 *2 :902 :30 "
        );
        assert_eq!(
            told(&all, "LATENCY LATEST"),
            "*2 *4 $7 command :902 :30 :40 *4 $12 fast-command :901 :11 :11 "
        );
        assert_eq!(told(&all, "LATENCY HISTORY nosuch"), "*0 ");
        assert_eq!(
            told(&all, "LATENCY GRAPH nosuch"),
            "ERR No samples available for event 'nosuch'"
        );
    }

    #[test]
    fn samples_are_bounded_and_can_be_forgotten() {
        let mut many = spikes(&[(COMMAND, 500, 1)]);
        (2..400).for_each(|at_s| many.note(COMMAND, 20_000_000, at_s));
        assert_eq!(many.events[0].1.samples.len(), SAMPLES_MAX);
        assert_eq!(many.events[0].1.samples[0].at_s, 240);
        assert_eq!(many.events[0].1.worst_ms, 500);
        let args = |line: &str| -> ArgBuf { line.split(' ').map(str::as_bytes).collect() };
        let reset = |spikes: &mut Spikes, line: &str| spikes.reset(&args(line).as_args());
        assert!(reset(&mut many, "LATENCY RESET nosuch").is_empty());
        assert_eq!(reset(&mut many, "LATENCY RESET COMMAND x"), [COMMAND]);
        assert!(reset(&mut many, "LATENCY RESET").is_empty());
    }

    #[test]
    fn a_monitor_that_is_off_notes_nothing() {
        let mut off = Spikes::default();
        off.note(COMMAND, u64::MAX, 1);
        assert!(told(&off, "LATENCY DOCTOR").contains("latency-monitor-threshold"));
    }

    #[test]
    fn graphs_show_bars_and_ages() {
        let few = spikes(&[(COMMAND, 10, 900), (COMMAND, 15, 940), (COMMAND, 22, 999)]);
        let text = graph(COMMAND, &few.events[0].1, 1000);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(
            lines[0],
            "command - high 22 ms, low 10 ms (all time high 22 ms)"
        );
        assert_eq!(lines[1].len(), 80);
        assert_eq!(
            lines[2..],
            ["  #", "  |", " #|", "_||", "   ", "111", "mms"]
        );
    }
}
