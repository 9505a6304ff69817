//! What INFO commandstats, errorstats and latencystats and LATENCY HISTOGRAM tell of each command.

use std::fmt::Write as _;

use super::{Context, NodeFigures};
use crate::command::help::help;
use crate::command::{CommandId, Table};
use crate::resp::{Args, CmdError, CmdResult, Writer};
use crate::shard::stats::{CommandStats, Stats};

fn merged(nodes: &[NodeFigures], table: &Table) -> Stats {
    let mut all = Stats::new(table.entries().len());
    nodes.iter().for_each(|node| all.merge(&node.commands));
    all
}

pub fn command_stats(nodes: &[NodeFigures], table: &Table) -> String {
    let all = merged(nodes, table);
    let mut text = String::new();
    for entry in table.entries() {
        let stats = all.of(entry.id);
        if stats.calls + stats.rejected == 0 {
            continue;
        }
        let usec = stats.spent_ns as f64 / 1000.0;
        let written = write!(
            text,
            "cmdstat_{}:calls={},usec={},usec_per_call={:.2},rejected_calls={},failed_calls={}\r\n",
            entry.full_name(),
            stats.calls,
            usec as u64,
            usec / stats.calls.max(1) as f64,
            stats.rejected,
            stats.failed
        );
        debug_assert!(written.is_ok());
    }
    text
}

pub fn error_stats(nodes: &[NodeFigures]) -> String {
    let mut all = std::collections::BTreeMap::new();
    for (name, count) in nodes.iter().flat_map(|node| node.commands.errors()) {
        *all.entry(name).or_insert(0) += count;
    }
    all.into_iter()
        .map(|(name, n)| format!("errorstat_{name}:count={n}\r\n"))
        .collect()
}

pub fn latency_stats(nodes: &[NodeFigures], context: &Context) -> String {
    let all = merged(nodes, context.table);
    let percentiles = context.config.text("latency-tracking-info-percentiles");
    let mut text = String::new();
    for entry in context.table.entries() {
        let Some(histogram) = &all.of(entry.id).latency else {
            continue;
        };
        let values: Vec<String> = percentiles
            .split_ascii_whitespace()
            .filter_map(|p| Some((p, p.parse::<f64>().ok()?)))
            .map(|(p, n)| {
                format!(
                    "p{p}={:.3}",
                    histogram.value_at_percentile(n) as f64 / 1000.0
                )
            })
            .collect();
        let name = entry.full_name();
        text.push_str(&format!(
            "latency_percentiles_usec_{name}:{}\r\n",
            values.join(",")
        ));
    }
    text
}

/// LATENCY HISTOGRAM [command ...]: cumulative counts per power of two of microseconds.
pub fn histogram(args: &Args, nodes: &[NodeFigures], table: &Table, out: &mut Writer) -> CmdResult {
    let all = merged(nodes, table);
    let asked = |id: CommandId| {
        let entry = table.entry(id);
        let name = entry.full_name();
        args.len() == 2
            || args.iter().skip(2).any(|arg| {
                arg.eq_ignore_ascii_case(name.as_bytes())
                    || entry
                        .container
                        .is_some_and(|c| arg.eq_ignore_ascii_case(c.name.as_bytes()))
            })
    };
    let shown: Vec<_> = table
        .entries()
        .iter()
        .filter(|entry| all.of(entry.id).latency.is_some() && asked(entry.id))
        .collect();
    let lag = all.expire_lag();
    let names_lag = args
        .iter()
        .skip(2)
        .any(|arg| arg.eq_ignore_ascii_case(EXPIRE_LAG.as_bytes()));
    let shows_lag = lag.calls > 0 && (args.len() == 2 || names_lag);
    out.map(shown.len() + usize::from(shows_lag))?;
    for entry in shown {
        distribution(&entry.full_name(), all.of(entry.id), out)?;
    }
    if shows_lag {
        distribution(EXPIRE_LAG, lag, out)?;
    }
    Ok(())
}

/// The name under which LATENCY HISTOGRAM tells how late keys expire.
const EXPIRE_LAG: &str = "expire-lag";

fn distribution(name: &str, stats: &CommandStats, out: &mut Writer) -> CmdResult {
    out.bulk(name.as_bytes())?;
    out.map(2)?;
    out.bulk(b"calls")?;
    out.int(stats.calls as i64)?;
    out.bulk(b"histogram_usec")?;
    let buckets = stats
        .latency
        .as_ref()
        .map_or_else(Vec::new, |h| powers_of_two(h));
    out.map(buckets.len())?;
    for (usec, count) in buckets {
        out.int(usec)?;
        out.int(count)?;
    }
    Ok(())
}

fn powers_of_two(histogram: &hdrhistogram::Histogram<u32>) -> Vec<(i64, i64)> {
    let mut buckets = Vec::new();
    let (mut bound_ns, mut last) = (1024u64, 0);
    while last < histogram.len() {
        let count = histogram.count_between(0, bound_ns);
        if count > last {
            buckets.push(((bound_ns / 1024) as i64, count as i64));
            last = count;
        }
        if bound_ns > 1 << 40 {
            break;
        }
        bound_ns *= 2;
    }
    buckets
}

/// LATENCY's subcommands that need no figures.
pub fn latency_help(args: &Args, out: &mut Writer) -> Result<(), CmdError> {
    help(
        out,
        args,
        &[
            ("DOCTOR", "Explain what was slow, and what may help."),
            ("GRAPH <event>", "Draw the latencies of an event."),
            ("HISTOGRAM [COMMAND ...]", "Show how long commands took."),
            ("HISTORY <event>", "Show the latencies of an event."),
            ("LATEST", "Show the last latency of every event."),
            (
                "RESET [<event> ...]",
                "Forget the latencies of these events, or of all.",
            ),
        ],
    )
}
