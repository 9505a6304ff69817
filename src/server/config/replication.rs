//! Parameters: Replication and the cluster.
//!
//! Names, types, bounds and defaults are those of Redis 7.0.15.

use super::param::{Kind, Param};
use super::rules;

#[rustfmt::skip] // One row each: a table.
pub const PARAMS: &[Param] = &[
    Param::new("cluster-allow-pubsubshard-when-down", "yes", Kind::Bool),
    Param::new("cluster-allow-reads-when-down", "no", Kind::Bool),
    Param::new("cluster-allow-replica-migration", "yes", Kind::Bool),
    Param::new("cluster-announce-bus-port", "0", Kind::Int { min: 0, max: 65535 }),
    Param::new("cluster-announce-hostname", "", Kind::Text).rule(rules::host_name),
    Param::new("cluster-announce-ip", "", Kind::Text),
    Param::new("cluster-announce-port", "0", Kind::Int { min: 0, max: 65535 }),
    Param::new("cluster-announce-tls-port", "0", Kind::Int { min: 0, max: 65535 }),
    Param::new("cluster-config-file", "nodes.conf", Kind::Text).immutable(),
    Param::new("cluster-enabled", "no", Kind::Bool).immutable(),
    Param::new("cluster-link-sendbuf-limit", "0", Kind::WideMemory),
    Param::new("cluster-migration-barrier", "1", Kind::Int { min: 0, max: 2147483647 }),
    Param::new("cluster-node-timeout", "15000", Kind::Int { min: 0, max: i64::MAX }),
    Param::new("cluster-port", "0", Kind::Int { min: 0, max: 65535 }).immutable(),
    Param::new("cluster-preferred-endpoint-type", "ip", Kind::Enum(&["ip", "hostname", "unknown-endpoint"])),
    Param::new("cluster-replica-no-failover", "no", Kind::Bool).alias("cluster-slave-no-failover"),
    Param::new("cluster-replica-validity-factor", "10", Kind::Int { min: 0, max: 2147483647 }).alias("cluster-slave-validity-factor"),
    Param::new("cluster-require-full-coverage", "yes", Kind::Bool),
    Param::new("masterauth", "", Kind::Text).effective(),
    Param::new("masteruser", "", Kind::Text).effective(),
    Param::new("min-replicas-max-lag", "10", Kind::Int { min: 0, max: 2147483647 }).alias("min-slaves-max-lag").effective(),
    Param::new("min-replicas-to-write", "0", Kind::Int { min: 0, max: 2147483647 }).alias("min-slaves-to-write").effective(),
    Param::new("propagation-error-behavior", "ignore", Kind::Enum(&["ignore", "panic", "panic-on-replicas"])).effective(),
    Param::new("repl-backlog-size", "1048576", Kind::MemoryHint { least: 16 * 1024 }).effective(),
    Param::new("repl-backlog-ttl", "3600", Kind::Int { min: 0, max: i64::MAX }).effective(),
    Param::new("repl-disable-tcp-nodelay", "no", Kind::Bool),
    Param::new("repl-diskless-load", "disabled", Kind::Enum(&["disabled", "on-empty-db", "swapdb"])).effective(),
    Param::new("repl-diskless-sync", "yes", Kind::Bool).effective(),
    Param::new("repl-diskless-sync-delay", "5", Kind::Int { min: 0, max: 2147483647 }).effective(),
    Param::new("repl-diskless-sync-max-replicas", "0", Kind::Int { min: 0, max: 2147483647 }).effective(),
    Param::new("repl-ping-replica-period", "10", Kind::Int { min: 1, max: 2147483647 }).alias("repl-ping-slave-period").effective(),
    Param::new("repl-timeout", "60", Kind::Int { min: 1, max: 2147483647 }).effective(),
    Param::new("replica-announce-ip", "", Kind::Text).alias("slave-announce-ip").effective(),
    Param::new("replica-announce-port", "0", Kind::Int { min: 0, max: 65535 }).alias("slave-announce-port").effective(),
    Param::new("replica-announced", "yes", Kind::Bool).effective(),
    Param::new("replica-ignore-disk-write-errors", "no", Kind::Bool).effective(),
    Param::new("replica-ignore-maxmemory", "yes", Kind::Bool).alias("slave-ignore-maxmemory").effective(),
    Param::new("replica-lazy-flush", "no", Kind::Bool).alias("slave-lazy-flush"),
    Param::new("replica-priority", "100", Kind::Int { min: 0, max: 2147483647 }).alias("slave-priority").effective(),
    Param::new("replica-read-only", "yes", Kind::Bool).alias("slave-read-only").effective(),
    Param::new("replica-serve-stale-data", "yes", Kind::Bool).alias("slave-serve-stale-data").effective(),
    Param::new("replicaof", "", Kind::Words).alias("slaveof").immutable().rule(rules::master).effective(),
];
