//! INFO and LATENCY HISTOGRAM: figures gathered on every node, told by one.
//!
//! [`figures`] is what a node hands over; every other file here renders one or more sections from all
//! nodes' figures. Nothing here asks a node or waits: who answers has gathered before.

pub mod commands;
mod figures;
mod memory;
mod persistence;
mod process;
mod replication;
mod stats;

pub use figures::{FileFigures, JournalFigures, NodeFigures, SavingFigures};
pub use replication::Identity;

use std::borrow::Cow;

use crate::command::Table;
use crate::resp::Args;
use crate::server::config::Config;
use crate::server::replicas;

/// What the asking node knows beside the figures.
pub struct Context<'a> {
    pub table: &'a Table,
    pub config: &'a Config,
    pub started_ms: i64,
    pub now_ms: i64,
    pub now_us: i64,
    pub shards: usize,
    pub identity: &'a Identity,
}

/// The sections INFO shows without an argument, in order.
const DEFAULT: [&str; 11] = [
    "server",
    "clients",
    "memory",
    "persistence",
    "stats",
    "replication",
    "cpu",
    "modules",
    "errorstats",
    "cluster",
    "keyspace",
];
const ALL: [&str; 13] = [
    "server",
    "clients",
    "memory",
    "persistence",
    "stats",
    "replication",
    "cpu",
    "modules",
    "commandstats",
    "errorstats",
    "latencystats",
    "cluster",
    "keyspace",
];

/// The sections that `args` ask for.
fn wanted(args: &Args) -> Vec<&'static str> {
    if args.len() == 1 {
        return DEFAULT.to_vec();
    }
    let mut wanted = Vec::new();
    for i in 1..args.len() {
        if args.is(i, "all") || args.is(i, "everything") {
            wanted.extend(ALL);
        } else if args.is(i, "default") {
            wanted.extend(DEFAULT);
        } else {
            wanted.extend(ALL.iter().filter(|name| args.is(i, name)));
        }
    }
    wanted
}

/// What nodes hand over of their commands. It is much: with every command's histogram some 100 KB.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Detail {
    Totals,
    Counts,
    Latencies,
}

/// What the sections need that `args` ask for.
pub fn detail(args: &Args) -> Detail {
    let wanted = wanted(args);
    if wanted.contains(&"latencystats") {
        Detail::Latencies
    } else if wanted.contains(&"commandstats") {
        Detail::Counts
    } else {
        Detail::Totals
    }
}

/// The text of the sections that `args` ask for.
pub fn render(args: &Args, nodes: &[NodeFigures], context: &Context) -> String {
    let wanted = wanted(args);
    let sections: Vec<String> = ALL
        .iter()
        .filter(|name| wanted.contains(name))
        .map(|name| section(name, nodes, context))
        .collect();
    sections.join("\r\n")
}

fn section(name: &str, nodes: &[NodeFigures], context: &Context) -> String {
    let (title, lines) = match name {
        "server" => ("Server", process::server(nodes, context)),
        "clients" => ("Clients", process::clients(nodes, context)),
        "memory" => ("Memory", memory::memory(nodes, context)),
        "persistence" => ("Persistence", persistence::persistence(nodes)),
        "stats" => ("Stats", stats::stats(nodes)),
        "replication" => (
            "Replication",
            replication::replication(context, &replicas_of(nodes)),
        ),
        "cpu" => ("CPU", process::cpu(nodes)),
        "modules" => ("Modules", String::new()),
        "cluster" => ("Cluster", lines(&[("cluster_enabled", "0".into())])),
        "commandstats" => (
            "Commandstats",
            commands::command_stats(nodes, context.table),
        ),
        "errorstats" => ("Errorstats", commands::error_stats(nodes)),
        "latencystats" => ("Latencystats", commands::latency_stats(nodes, context)),
        _ => ("Keyspace", keyspace(nodes)),
    };
    format!("# {title}\r\n{lines}")
}

/// What a line tells. Numbers become digits in their line: as strings of their own they took longer
/// than all else.
enum Told<'a> {
    Text(Cow<'a, str>),
    Number(i64),
}

impl<'a> From<&'a str> for Told<'a> {
    fn from(text: &'a str) -> Told<'a> {
        Told::Text(Cow::Borrowed(text))
    }
}

impl From<String> for Told<'_> {
    fn from(text: String) -> Self {
        Told::Text(Cow::Owned(text))
    }
}

macro_rules! told {
    ($($number:ty),*) => {$(
        impl From<$number> for Told<'_> {
            fn from(number: $number) -> Self {
                i64::try_from(number).map_or_else(|_| number.to_string().into(), Told::Number)
            }
        }
    )*};
}

told!(u8, u16, u32, i32, usize, u64, i64);

fn lines(pairs: &[(&str, Told)]) -> String {
    const LINE_BYTES: usize = 40;
    let mut text = String::with_capacity(pairs.len() * LINE_BYTES);
    let mut digits = itoa::Buffer::new();
    for (name, value) in pairs {
        let value = match value {
            Told::Text(text) => text,
            Told::Number(number) => digits.format(*number),
        };
        text.extend([name, ":", value, "\r\n"]);
    }
    text
}

fn total<T: std::iter::Sum>(nodes: &[NodeFigures], of: impl Fn(&NodeFigures) -> T) -> T {
    nodes.iter().map(of).sum()
}

fn flag(on: bool) -> &'static str {
    if on { "1" } else { "0" }
}

fn verdict(ok: bool) -> &'static str {
    if ok { "ok" } else { "err" }
}

/// What shard 0 tells of replicas.
fn replicas_of(nodes: &[NodeFigures]) -> replicas::Figures {
    let told = nodes.iter().find_map(|node| node.replicas.clone());
    told.unwrap_or_default()
}

fn keyspace(nodes: &[NodeFigures]) -> String {
    let databases = nodes.first().map_or(0, |node| node.dbs.len());
    let mut text = String::new();
    for db in 0..databases {
        let keys = total(nodes, |n| n.dbs[db].keys);
        let expires = total(nodes, |n| n.dbs[db].expires);
        if keys > 0 {
            let weighed = |n: &NodeFigures| n.avg_ttl_ms[db] as i128 * n.dbs[db].expires as i128;
            let sum: i128 = nodes.iter().map(weighed).sum();
            let avg_ttl = sum / (expires as i128).max(1);
            text.push_str(&format!(
                "db{db}:keys={keys},expires={expires},avg_ttl={avg_ttl}\r\n"
            ));
        }
    }
    text
}
