//! INFO stats: what has been counted since the start, or since CONFIG RESETSTAT.

use super::{NodeFigures, Told, lines, replicas_of, total};
use crate::acl::Reason;
use crate::keyspace;
use crate::server::gauges::{Gauges, Rates};
use crate::session;
use crate::shard::stats::CommandStats;

/// How late keys expired: percentiles in microseconds.
fn expire_lag(nodes: &[NodeFigures]) -> [(&'static str, Told<'static>); 3] {
    let mut all = CommandStats::default();
    for node in nodes {
        all.merge(node.commands.expire_lag());
    }
    let us = |share: f64| {
        let lag = all.latency.as_ref();
        lag.map_or(0, |lag| lag.value_at_quantile(share) / 1000)
    };
    [
        ("expire_lag_usec_p50", us(0.5).into()),
        ("expire_lag_usec_p99", us(0.99).into()),
        ("expire_lag_usec_max", us(1.0).into()),
    ]
}

pub fn stats(nodes: &[NodeFigures]) -> String {
    let session = |of: fn(&session::Counters) -> u64| total(nodes, |n| of(&n.session));
    let keys = |of: fn(&keyspace::Counters) -> u64| total(nodes, |n| of(&n.keyspace));
    let gauge = |of: fn(&Gauges) -> u64| total(nodes, |n| of(&n.gauges));
    let [p50, p99, max] = expire_lag(nodes);
    let replicas = replicas_of(nodes);
    let rates = nodes
        .iter()
        .fold(Rates::default(), |all, node| all + node.rates);
    let kbps = |bytes: f64| format!("{:.2}", bytes / 1024.0);
    let (over, over_now) = nodes.iter().fold((0, 0), |(all, now), node| {
        (all.max(node.over_ms.0), now.max(node.over_ms.1))
    });
    let text = lines(&[
        (
            "total_connections_received",
            session(|c| c.connections).into(),
        ),
        ("total_commands_processed", session(|c| c.commands).into()),
        (
            "instantaneous_ops_per_sec",
            format!("{:.0}", rates.commands).into(),
        ),
        ("total_net_input_bytes", session(|c| c.input_bytes).into()),
        ("total_net_output_bytes", session(|c| c.output_bytes).into()),
        ("total_net_repl_input_bytes", "0".into()),
        ("total_net_repl_output_bytes", "0".into()),
        ("instantaneous_input_kbps", kbps(rates.input_bytes).into()),
        ("instantaneous_output_kbps", kbps(rates.output_bytes).into()),
        ("instantaneous_input_repl_kbps", "0.00".into()),
        ("instantaneous_output_repl_kbps", "0.00".into()),
        ("rejected_connections", gauge(|g| g.refused).into()),
        ("sync_full", replicas.full.into()),
        ("sync_partial_ok", replicas.partial.into()),
        ("sync_partial_err", replicas.refused.into()),
        ("expired_keys", keys(|c| c.expired).into()),
        p50,
        p99,
        max,
        // Deadlines are kept exactly: what is due is known, and goes at once.
        ("expired_stale_perc", "0.00".into()),
        (
            "expired_time_cap_reached_count",
            gauge(|g| g.expire_slices_cut).into(),
        ),
        (
            "expire_cycle_cpu_milliseconds",
            gauge(|g| g.expire_ns / 1_000_000).into(),
        ),
        ("evicted_keys", keys(|c| c.evicted).into()),
        ("evicted_clients", gauge(|g| g.evicted_clients).into()),
        ("total_eviction_exceeded_time", over.into()),
        ("current_eviction_exceeded_time", over_now.into()),
        ("keyspace_hits", keys(|c| c.hits).into()),
        ("keyspace_misses", keys(|c| c.misses).into()),
        ("pubsub_channels", total(nodes, |n| n.pubsub.0).into()),
        ("pubsub_patterns", total(nodes, |n| n.pubsub.1).into()),
        ("pubsubshard_channels", total(nodes, |n| n.pubsub.2).into()),
    ]);
    let kept = total(nodes, |n| n.kept_lines);
    let kept = lines(&[("migrate_cached_sockets", kept.into())]);
    text + &kept + &no_such_thing() + &tracked(nodes) + &accesses(nodes)
}

/// What clients may keep copies of.
fn tracked(nodes: &[NodeFigures]) -> String {
    lines(&[
        ("tracking_total_keys", total(nodes, |n| n.tracking.0).into()),
        (
            "tracking_total_items",
            total(nodes, |n| n.tracking.1).into(),
        ),
        // Every shard knows every prefix.
        (
            "tracking_total_prefixes",
            nodes.first().map_or(0, |n| n.tracking.2).into(),
        ),
    ])
}

/// Replies that are errors, reads and writes.
fn accesses(nodes: &[NodeFigures]) -> String {
    let session = |of: fn(&session::Counters) -> u64| total(nodes, |n| of(&n.session));
    let refused = |reason: Reason| total(nodes, |n| n.session.refused[reason as usize]);
    let errors = nodes.iter().flat_map(|node| node.commands.errors());
    let errors: u64 = errors.map(|(_, count)| count).sum();
    lines(&[
        (
            "slave_expires_tracked_keys",
            total(nodes, |n| n.own_keys).into(),
        ),
        ("total_error_replies", errors.into()),
        (
            "unexpected_error_replies",
            total(nodes, |n| n.commands.unexpected).into(),
        ),
        (
            "dump_payload_sanitizations",
            total(nodes, |n| n.restores).into(),
        ),
        ("total_reads_processed", session(|c| c.reads).into()),
        ("total_writes_processed", session(|c| c.writes).into()),
        ("io_threaded_reads_processed", "0".into()),
        ("io_threaded_writes_processed", "0".into()),
        ("reply_buffer_shrinks", "0".into()),
        ("reply_buffer_expands", "0".into()),
        (
            "client_query_buffer_limit_disconnections",
            session(|c| c.query_limit_closed).into(),
        ),
        (
            "client_output_buffer_limit_disconnections",
            session(|c| c.output_limit_closed).into(),
        ),
        ("acl_access_denied_auth", refused(Reason::Auth).into()),
        ("acl_access_denied_cmd", refused(Reason::Command).into()),
        ("acl_access_denied_key", refused(Reason::Key).into()),
        ("acl_access_denied_channel", refused(Reason::Channel).into()),
    ])
}

/// What this server never does, and tools look for.
fn no_such_thing() -> String {
    const NEVER: [&str; 8] = [
        "latest_fork_usec",
        "total_forks",
        "active_defrag_hits",
        "active_defrag_misses",
        "active_defrag_key_hits",
        "active_defrag_key_misses",
        "total_active_defrag_time",
        "current_active_defrag_time",
    ];
    NEVER.iter().map(|name| format!("{name}:0\r\n")).collect()
}
