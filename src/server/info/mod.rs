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

/// Whether what they ask for needs every command's histogram, which is much to hand over.
pub fn wants_latencies(args: &Args) -> bool {
    wanted(args).contains(&"latencystats")
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
        "stats" => ("Stats", stats::stats(nodes, context)),
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

fn lines(pairs: &[(&str, String)]) -> String {
    const LINE_BYTES: usize = 40;
    let mut text = String::with_capacity(pairs.len() * LINE_BYTES);
    for (name, value) in pairs {
        text.extend([name, ":", value.as_str(), "\r\n"]);
    }
    text
}

fn total<T: std::iter::Sum>(nodes: &[NodeFigures], of: impl Fn(&NodeFigures) -> T) -> T {
    nodes.iter().map(of).sum()
}

fn flag(on: bool) -> String {
    if on { "1" } else { "0" }.to_string()
}

fn verdict(ok: bool) -> String {
    if ok { "ok" } else { "err" }.to_string()
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
