//! What a configuration means for one node.

use super::config::Config;
use super::host::ServerHost;
use super::log;
use super::patrol::Patrol;
use super::pubsub;
use super::title;
use crate::keyspace::Policy;
use crate::session::{self, Core};
use crate::value::limits::Limits;

/// Puts a configuration into effect on one node.
pub fn install(config: &Config, core: &mut Core, host: &mut ServerHost) {
    let bytes = |name: &str| usize::try_from(config.int(name)).unwrap_or(usize::MAX);
    install_limits(config, &mut core.limits);
    core.scripts.busy_ns = busy_ns(config);
    host.slowlog_max_len = bytes("slowlog-max-len");
    host.trackers.max_keys = part_of(bytes("tracking-table-max-keys"), host.shard, host.shards);
    host.patrol = Patrol::new(config);
    host.replicas_min = replicas_min(config);
    host.backlog_max_bytes = bytes("repl-backlog-size");
    host.following.timeout_ms = config.int("repl-timeout").saturating_mul(1000);
    host.patrol.set_strangers(core.users.requires_auth());
    host.patrol.set_listening(host.pubsub.has_subscribers());
    host.persistence.points.configure(config.text("save"));
    host.persistence.aof.wanted = config.flag("appendonly");
    host.persistence.configure_saving(config);
    let keeps = config.flag("aof-disable-auto-gc");
    host.persistence.aof.keep_history(keeps);
    core.limits = host.patrol.session_limits(core.limits.clone());
    host.pubsub.classes = pubsub::classes(config.text("notify-keyspace-events"));
    host.pubsub.hard_bytes = host.patrol.pubsub_hard_bytes();
    core.shard.keyspace.effects.classes = host.pubsub.wanted_classes();
    let keys = &mut core.shard.keyspace.settings;
    keys.string_max_bytes = bytes("proto-max-bulk-len");
    let is_clocked = ["lru", "lfu"]
        .iter()
        .any(|kind| config.text("maxmemory-policy").contains(kind));
    keys.no_shared_values = config.bytes("maxmemory") > 0 && is_clocked;
    keys.lfu = config.text("maxmemory-policy").contains("lfu");
    keys.lfu_log_factor = config.int("lfu-log-factor").clamp(0, i64::from(u32::MAX)) as u32;
    keys.lfu_decay_time = config.int("lfu-decay-time").clamp(0, i64::from(u32::MAX)) as u32;
    let policy = config.text("maxmemory-policy");
    let known = Policy::ALL.into_iter().find(|known| known.name() == policy);
    let budget = &mut core.shard.budget;
    budget.max_bytes = config.bytes("maxmemory") as usize;
    budget.clients_max_bytes = host.patrol.clients_max_bytes();
    budget.policy = known.unwrap_or(Policy::NoEviction);
    budget.samples = bytes("maxmemory-samples");
    if host.part.loading || host.ignores_maxmemory() {
        // What was stored once is loaded, also beyond the limit; and a replica has what its master has.
        budget.max_bytes = 0;
    }
    host.set_policy();
    let keys = &mut core.shard.keyspace.settings;
    keys.hll_sparse_max_bytes = bytes("hll-sparse-max-bytes");
    keys.compress_dumps = config.flag("rdbcompression");
    keys.limits = limits(config, keys.limits.seed);
    host.limits = keys.limits.clone();
    let threshold_ms = config.int("latency-monitor-threshold").max(0) as u64;
    host.spikes.threshold_ms = threshold_ms;
    core.shard.stats.spike_ns = match threshold_ms {
        0 => u64::MAX,
        ms => ms.saturating_mul(1_000_000),
    };
    let track = config.flag("latency-tracking");
    if core.shard.stats.track_latency && !track {
        core.shard.stats.reset_latency();
    }
    core.shard.stats.track_latency = track;
    if host.shard == 0 {
        host.count_good();
        // It existed when the configuration was checked; files keep their absolute paths.
        if std::env::set_current_dir(config.path("dir")).is_err() {
            log::warning("The directory of `dir` is gone; relative paths begin where they did");
        }
        let level = log::Level::parse(config.text("loglevel"));
        log::set_level(level);
        title::show(config);
    }
}

/// What sessions consult on every request.
/// A shard's part of what all of them together may have; 0 is no limit.
fn part_of(max: usize, shard: usize, shards: usize) -> Option<usize> {
    let part = max / shards + usize::from(shard < max % shards);
    (max > 0).then_some(part)
}

fn install_limits(config: &Config, limits: &mut session::Limits) {
    let bytes = |name: &str| usize::try_from(config.int(name)).unwrap_or(usize::MAX);
    limits.bulk_max_bytes = bytes("proto-max-bulk-len");
    limits.query_max_bytes = bytes("client-query-buffer-limit");
    // Microseconds; negative: off.
    let slower_us = config.int("slowlog-log-slower-than");
    limits.slow_ns = u64::try_from(slower_us).map_or(u64::MAX, |us| us.saturating_mul(1000));
    limits.is_relaxed = config.text("pipeline-order") == "relaxed";
}

/// Where compact encodings end.
fn limits(config: &Config, seed: u64) -> Limits {
    let size = |name: &str| usize::try_from(config.int(name)).unwrap_or(usize::MAX);
    Limits {
        hash_max_listpack_entries: size("hash-max-listpack-entries"),
        hash_max_listpack_value: size("hash-max-listpack-value"),
        list_max_listpack_size: config.int("list-max-listpack-size"),
        list_compress_depth: size("list-compress-depth"),
        set_max_intset_entries: size("set-max-intset-entries"),
        set_max_listpack_entries: size("set-max-listpack-entries"),
        set_max_listpack_value: size("set-max-listpack-value"),
        zset_max_listpack_entries: size("zset-max-listpack-entries"),
        zset_max_listpack_value: size("zset-max-listpack-value"),
        stream_node_max_bytes: size("stream-node-max-bytes"),
        stream_node_max_entries: size("stream-node-max-entries"),
        seed,
    }
}

/// Replicas that writes need; 0 is none.
fn replicas_min(config: &Config) -> usize {
    match config.int("min-replicas-max-lag") {
        0 => 0,
        _ => usize::try_from(config.int("min-replicas-to-write")).unwrap_or(0),
    }
}

/// How long a script may run, nanoseconds.
fn busy_ns(config: &Config) -> u64 {
    match u64::try_from(config.int("busy-reply-threshold")) {
        Ok(0) | Err(_) => u64::MAX,
        Ok(ms) => ms.saturating_mul(1_000_000),
    }
}
