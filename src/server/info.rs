//! INFO, LATENCY HISTOGRAM and the figures behind them: gathered on every node, told by one.

use std::fmt::Write as _;
use std::sync::Mutex;

use super::gauges::{Gauges, Rates};
use super::memory::{DbBytes, Memory, human, over, system_bytes};
use super::persist::Status;
use crate::acl::Reason;
use crate::command::{CommandId, Table};
use crate::keyspace::{self, DbStats};
use crate::resp::{Args, CmdError, CmdResult, Writer};
use crate::session::{self, Core, Link, State};
use crate::shard::stats::{CommandStats, Stats};

/// One node's figures.
pub struct NodeFigures {
    pub sessions: usize,
    /// Clients that wait for keys, and those of them that will give up.
    pub blocked: usize,
    pub with_timeout: usize,
    pub awaiting: usize,
    /// Clients and what waits to be sent to them.
    pub client_bytes: usize,
    /// The most that one client has in its query buffer, and waits to be sent.
    pub input_max_bytes: usize,
    pub output_max_bytes: usize,
    pub keys_bytes: usize,
    pub overhead_bytes: usize,
    pub slack_bytes: usize,
    pub db_bytes: Vec<DbBytes>,
    /// Of the append-only file, not handed to the kernel.
    pub aof_buffer_bytes: usize,
    /// What replicas have not taken.
    pub replica_bytes: usize,
    pub rates: Rates,
    /// Milliseconds for which memory exceeded `maxmemory` in all, and does now.
    pub over_ms: (i64, i64),
    pub gauges: Gauges,
    /// Clock ticks of this node's thread: user and system.
    pub ticks: (u64, u64),
    pub lazyfree_pending: u64,
    pub dirty: u64,
    pub session: session::Counters,
    pub keyspace: keyspace::Counters,
    pub dbs: Vec<DbStats>,
    pub commands: Stats,
    /// Different channels, patterns and shard channels; shard 0's alone.
    pub pubsub: (usize, usize, usize),
    pub subscribers: usize,
    pub trackers: usize,
    /// Keys that clients have read, their readers, and prefixes on which clients broadcast.
    pub tracking: (usize, usize, usize),
    /// Memory of this core's Lua, bytes.
    pub lua_bytes: usize,
    /// Number of scripts that the process knows, and their memory.
    pub scripts: (usize, usize),
    /// Libraries, their functions, and the memory that they take.
    pub functions: (usize, usize, usize),
    /// Shard 0's alone.
    pub files: Option<FileFigures>,
    /// Shard 0's alone.
    pub replicas: Option<super::replicas::Figures>,
}

/// How the append-only file does.
#[derive(Clone, Debug)]
pub struct JournalFigures {
    pub on: bool,
    /// Seconds that the rewrite under way has taken.
    pub rewriting_s: Option<i64>,
    pub scheduled: bool,
    pub last_took_s: i64,
    pub last_ok: bool,
    pub rewrites: u64,
    /// Rewrites that failed since the last that did not.
    pub failures: u64,
    pub write_ok: bool,
    pub base_bytes: u64,
    pub size_bytes: u64,
    pub pending_bytes: u64,
    /// Syncs that took so long that writers waited.
    pub delayed_syncs: u64,
}

/// How saving and loading go.
#[derive(Clone, Debug)]
pub struct FileFigures {
    pub status: Status,
    /// Seconds that the snapshot in progress has taken; keys it has and will have.
    pub saving: Option<(i64, u64, usize)>,
    pub journal: JournalFigures,
    /// Of the load in progress: begin (unix seconds), bytes done and to do, seconds taken.
    pub loading: Option<(i64, u64, u64, i64)>,
}

impl NodeFigures {
    pub fn of(core: &Core, link: &dyn Link, gauges: &Gauges) -> NodeFigures {
        let keys = &core.shard.keyspace;
        let outputs = || {
            core.sessions()
                .map(|session| link.pending_bytes(session.key))
        };
        let inputs = core.sessions().map(|session| session.query_bytes());
        let sessions = core.sessions().map(|session| session.memory_bytes());
        let db_bytes = |db| {
            let (main, expires) = keys.index_bytes(db);
            DbBytes { main, expires }
        };
        NodeFigures {
            sessions: core.session_count(),
            blocked: core.blocked_count(),
            with_timeout: core.timeout_count(),
            awaiting: core
                .sessions()
                .filter(|s| s.state == State::Awaiting)
                .count(),
            client_bytes: sessions.chain(outputs()).sum(),
            input_max_bytes: inputs.max().unwrap_or(0),
            output_max_bytes: outputs().max().unwrap_or(0),
            keys_bytes: keys.memory_bytes(),
            overhead_bytes: keys.overhead_bytes(),
            slack_bytes: keys.slack_bytes(),
            db_bytes: (0..keys.databases()).map(db_bytes).collect(),
            aof_buffer_bytes: 0,
            replica_bytes: 0,
            rates: gauges.rates(core, link.now_ms()),
            over_ms: gauges.over_ms(link.now_ms()),
            gauges: gauges.clone(),
            ticks: thread_ticks("thread-self"),
            lazyfree_pending: keys.lazyfree_pending(),
            dirty: keys.effects.dirty,
            session: core.counters,
            keyspace: keys.counters,
            dbs: (0..keys.databases()).map(|db| keys.stats(db)).collect(),
            commands: core.shard.stats.clone(),
            pubsub: (0, 0, 0),
            subscribers: core
                .sessions()
                .filter(|session| session.client.subscriptions.any())
                .count(),
            trackers: core
                .sessions()
                .filter(|session| session.client.tracking.is_some())
                .count(),
            tracking: keys.effects.tracking.figures(),
            lua_bytes: core.scripts.engine_bytes(),
            scripts: core.scripts.store.figures(),
            functions: core.scripts.libraries.now().figures(),
            files: None,
            replicas: None,
        }
    }
}

/// Names this process by chance: 40 hexadecimal digits each.
#[derive(Debug)]
pub struct Identity {
    pub run_id: String,
    /// `master_replid`
    replid: Mutex<String>,
}

fn digits() -> String {
    (0..40).map(|_| fastrand::digit(16)).collect()
}

impl Identity {
    pub fn random() -> Identity {
        Identity {
            run_id: digits(),
            replid: Mutex::new(digits()),
        }
    }

    /// DEBUG CHANGE-REPL-ID.
    pub fn change_replid(&self) {
        if let Ok(mut replid) = self.replid.lock() {
            *replid = digits();
        }
    }

    pub fn replid(&self) -> String {
        self.replid
            .lock()
            .map_or_else(|_| String::new(), |id| id.clone())
    }
}

/// What the asking node knows beside the figures.
pub struct Context<'a> {
    pub table: &'a Table,
    pub config: &'a super::config::Config,
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

/// The text of the sections that `args` ask for.
pub fn render(args: &Args, nodes: &[NodeFigures], context: &Context) -> String {
    let mut wanted: Vec<&str> = Vec::new();
    let default = args.len() == 1;
    for name in DEFAULT.iter().filter(|_| default) {
        wanted.push(name);
    }
    for i in 1..args.len() {
        if args.is(i, "all") || args.is(i, "everything") {
            wanted.extend(ALL);
        } else if args.is(i, "default") {
            wanted.extend(DEFAULT);
        } else {
            wanted.extend(ALL.iter().filter(|name| args.is(i, name)));
        }
    }
    let sections: Vec<String> = ALL
        .iter()
        .filter(|name| wanted.contains(name))
        .map(|name| section(name, nodes, context))
        .collect();
    sections.join("\r\n")
}

fn section(name: &str, nodes: &[NodeFigures], context: &Context) -> String {
    let (title, lines) = match name {
        "server" => ("Server", server(nodes, context)),
        "clients" => ("Clients", clients(nodes, context)),
        "memory" => ("Memory", memory(nodes, context)),
        "persistence" => ("Persistence", persistence(nodes)),
        "stats" => ("Stats", stats(nodes, context)),
        "replication" => ("Replication", replication(context, &replicas_of(nodes))),
        "cpu" => ("CPU", cpu(nodes)),
        "modules" => ("Modules", String::new()),
        "cluster" => ("Cluster", lines(&[("cluster_enabled", "0".into())])),
        "commandstats" => ("Commandstats", command_stats(nodes, context.table)),
        "errorstats" => ("Errorstats", error_stats(nodes)),
        "latencystats" => ("Latencystats", latency_stats(nodes, context)),
        _ => ("Keyspace", keyspace(nodes)),
    };
    format!("# {title}\r\n{lines}")
}

fn lines(pairs: &[(&str, String)]) -> String {
    pairs
        .iter()
        .map(|(name, value)| format!("{name}:{value}\r\n"))
        .collect()
}

/// The kernel, as Redis names it.
fn os() -> String {
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    format!("Linux {} {}", release.trim(), std::env::consts::ARCH)
}

fn executable() -> String {
    let path = std::env::current_exe();
    path.map_or_else(|_| String::new(), |path| path.display().to_string())
}

/// Tells versions of this program apart.
fn build_id() -> u64 {
    xxhash_rust::xxh3::xxh3_64(
        concat!(env!("CARGO_PKG_VERSION"), env!("CARGO_PKG_NAME")).as_bytes(),
    )
}

fn server(nodes: &[NodeFigures], context: &Context) -> String {
    let ends_in_ms = replicas_of(nodes).ends_in_ms;
    let ends = ends_in_ms.map(|ms| ("shutdown_in_milliseconds", ms.to_string()));
    let uptime_s = ((context.now_ms - context.started_ms) / 1000).max(0);
    let file = context
        .config
        .file
        .as_ref()
        .map(|path| path.display().to_string());
    lines(&[
        ("redis_version", super::host::REDIS_VERSION.into()),
        ("pinion_version", env!("CARGO_PKG_VERSION").into()),
        ("redis_git_sha1", "00000000".into()),
        ("redis_git_dirty", "0".into()),
        ("redis_build_id", format!("{:x}", build_id())),
        ("redis_mode", "standalone".into()),
        ("os", os()),
        ("arch_bits", usize::BITS.to_string()),
        ("monotonic_clock", "POSIX clock_gettime".into()),
        ("multiplexing_api", "io_uring".into()),
        ("atomicvar_api", "std".into()),
        // Redis: what it says when another compiler than GCC made it.
        ("gcc_version", "0.0.0".into()),
        ("process_id", std::process::id().to_string()),
        ("process_supervised", "no".into()),
        ("run_id", context.identity.run_id.clone()),
        ("tcp_port", context.config.text("port").into()),
        ("server_time_usec", context.now_us.to_string()),
        ("uptime_in_seconds", uptime_s.to_string()),
        ("uptime_in_days", (uptime_s / 86_400).to_string()),
        ("hz", context.config.text("hz").into()),
        ("configured_hz", context.config.text("hz").into()),
        (
            "lru_clock",
            ((context.now_ms / 1000) & 0xff_ffff).to_string(),
        ),
        ("shards", context.shards.to_string()),
        ("executable", executable()),
        ("config_file", file.unwrap_or_default()),
        ("io_threads_active", "0".into()),
    ]) + &lines(ends.as_slice())
}

fn total<T: std::iter::Sum>(nodes: &[NodeFigures], of: impl Fn(&NodeFigures) -> T) -> T {
    nodes.iter().map(of).sum()
}

fn clients(nodes: &[NodeFigures], context: &Context) -> String {
    let most = |of: fn(&NodeFigures) -> usize| nodes.iter().map(of).max().unwrap_or(0).to_string();
    lines(&[
        (
            "connected_clients",
            total(nodes, |n| n.sessions).to_string(),
        ),
        ("cluster_connections", "0".into()),
        ("maxclients", context.config.text("maxclients").into()),
        (
            "client_recent_max_input_buffer",
            most(|n| n.input_max_bytes),
        ),
        (
            "client_recent_max_output_buffer",
            most(|n| n.output_max_bytes),
        ),
        ("blocked_clients", total(nodes, |n| n.blocked).to_string()),
        (
            "pubsub_clients",
            total(nodes, |n| n.subscribers).to_string(),
        ),
        ("tracking_clients", total(nodes, |n| n.trackers).to_string()),
        (
            "clients_in_timeout_table",
            total(nodes, |n| n.with_timeout).to_string(),
        ),
    ])
}

fn memory(nodes: &[NodeFigures], context: &Context) -> String {
    let memory = Memory::of(nodes);
    let system = system_bytes();
    let max = context.config.int("maxmemory").max(0) as usize;
    let mut text = lines(&[
        ("used_memory", memory.used.to_string()),
        ("used_memory_human", human(memory.used)),
        ("used_memory_rss", memory.resident.to_string()),
        ("used_memory_rss_human", human(memory.resident)),
        ("used_memory_peak", memory.peak.to_string()),
        ("used_memory_peak_human", human(memory.peak)),
        (
            "used_memory_peak_perc",
            format!("{:.2}%", memory.peak_percent()),
        ),
        ("used_memory_overhead", memory.overhead.to_string()),
        ("used_memory_startup", memory.startup.to_string()),
        ("used_memory_dataset", memory.dataset.to_string()),
        (
            "used_memory_dataset_perc",
            format!("{:.2}%", memory.dataset_percent()),
        ),
        ("allocator_allocated", memory.used.to_string()),
        ("allocator_active", memory.active.to_string()),
        ("allocator_resident", memory.allocated.to_string()),
        ("total_system_memory", system.to_string()),
        ("total_system_memory_human", human(system)),
    ]);
    text += &scripts(nodes);
    text += &lines(&[
        ("maxmemory", max.to_string()),
        ("maxmemory_human", human(max)),
        (
            "maxmemory_policy",
            context.config.text("maxmemory-policy").into(),
        ),
    ]);
    text += &layers(&memory);
    let buffers = memory.clients + memory.aof_buffer;
    let backlog = replicas_of(nodes).backlog_bytes;
    let unsent: usize = nodes.iter().map(|node| node.replica_bytes).sum();
    text + &lines(&[
        // `maxmemory` is about keys alone.
        ("mem_not_counted_for_evict", buffers.to_string()),
        ("mem_replication_backlog", backlog.to_string()),
        (
            "mem_total_replication_buffers",
            (backlog + unsent).to_string(),
        ),
        ("mem_clients_slaves", unsent.to_string()),
        ("mem_clients_normal", memory.clients.to_string()),
        ("mem_cluster_links", "0".into()),
        ("mem_aof_buffer", memory.aof_buffer.to_string()),
        ("mem_allocator", "mimalloc".into()),
        ("active_defrag_running", "0".into()),
        (
            "lazyfree_pending_objects",
            total(nodes, |n| n.lazyfree_pending).to_string(),
        ),
        (
            "lazyfreed_objects",
            total(nodes, |n| n.keyspace.lazyfreed).to_string(),
        ),
    ])
}

/// How much more memory each layer holds than the one above it.
fn layers(memory: &Memory) -> String {
    let mut text = String::new();
    let names = [
        ("allocator_frag_ratio", "allocator_frag_bytes"),
        ("allocator_rss_ratio", "allocator_rss_bytes"),
        ("rss_overhead_ratio", "rss_overhead_bytes"),
        ("mem_fragmentation_ratio", "mem_fragmentation_bytes"),
    ];
    for ((_, part, whole), (ratio, bytes)) in memory.ratios().into_iter().zip(names) {
        text += &lines(&[
            (ratio, format!("{:.2}", over(whole, part))),
            (bytes, (whole as i64 - part as i64).to_string()),
        ]);
    }
    text
}

/// What INFO memory tells of scripts and functions, which share their interpreters.
fn scripts(nodes: &[NodeFigures]) -> String {
    let vm: usize = nodes.iter().map(|node| node.lua_bytes).sum();
    let (count, bytes) = nodes.first().map_or((0, 0), |node| node.scripts);
    let functions = nodes.first().map_or((0, 0, 0), |node| node.functions);
    let (libraries, functions, function_bytes) = functions;
    let all = bytes + function_bytes;
    lines(&[
        ("used_memory_lua", vm.to_string()),
        ("used_memory_vm_eval", vm.to_string()),
        ("used_memory_lua_human", human(vm)),
        ("used_memory_scripts_eval", bytes.to_string()),
        ("number_of_cached_scripts", count.to_string()),
        ("used_memory_vm_total", vm.to_string()),
        ("used_memory_vm_total_human", human(vm)),
        ("number_of_functions", functions.to_string()),
        ("number_of_libraries", libraries.to_string()),
        ("used_memory_vm_functions", "0".into()),
        ("used_memory_functions", function_bytes.to_string()),
        ("used_memory_scripts", all.to_string()),
        ("used_memory_scripts_human", human(all)),
    ])
}

fn flag(on: bool) -> String {
    if on { "1" } else { "0" }.to_string()
}

fn verdict(ok: bool) -> String {
    if ok { "ok" } else { "err" }.to_string()
}

fn persistence(nodes: &[NodeFigures]) -> String {
    let Some(files) = nodes.iter().find_map(|node| node.files.as_ref()) else {
        return String::new();
    };
    let status = &files.status;
    let (saving_s, saved, to_save) = files.saving.unwrap_or((-1, 0, 0));
    let mut text = lines(&[
        ("loading", flag(files.loading.is_some())),
        ("async_loading", "0".into()),
        ("current_cow_peak", "0".into()),
        ("current_cow_size", "0".into()),
        ("current_cow_size_age", "0".into()),
        ("current_fork_perc", "0.00".into()),
        ("current_save_keys_processed", saved.to_string()),
        ("current_save_keys_total", to_save.to_string()),
        (
            "rdb_changes_since_last_save",
            total(nodes, |n| n.dirty).to_string(),
        ),
        ("rdb_bgsave_in_progress", flag(files.saving.is_some())),
        ("rdb_last_save_time", status.last_save_s.to_string()),
        ("rdb_last_bgsave_status", verdict(status.last_ok)),
        ("rdb_last_bgsave_time_sec", status.last_took_s.to_string()),
        ("rdb_current_bgsave_time_sec", saving_s.to_string()),
        ("rdb_saves", status.saves.to_string()),
        ("rdb_last_cow_size", "0".into()),
        (
            "rdb_last_load_keys_expired",
            status.keys_expired.to_string(),
        ),
        ("rdb_last_load_keys_loaded", status.keys_loaded.to_string()),
    ]);
    text += &journal_lines(&files.journal);
    if let Some((begun_s, done, all, took_s)) = files.loading {
        let percent = done as f64 * 100.0 / all.max(1) as f64;
        let left = all.saturating_sub(done) as f64 * took_s as f64 / done.max(1) as f64;
        text += &lines(&[
            ("loading_start_time", begun_s.to_string()),
            ("loading_total_bytes", all.to_string()),
            ("loading_loaded_bytes", done.to_string()),
            ("loading_loaded_perc", format!("{percent:.2}")),
            ("loading_eta_seconds", format!("{left:.0}")),
        ]);
    }
    text
}

fn journal_lines(journal: &JournalFigures) -> String {
    let mut text = lines(&[
        ("aof_enabled", flag(journal.on)),
        (
            "aof_rewrite_in_progress",
            flag(journal.rewriting_s.is_some()),
        ),
        ("aof_rewrite_scheduled", flag(journal.scheduled)),
        ("aof_last_rewrite_time_sec", journal.last_took_s.to_string()),
        (
            "aof_current_rewrite_time_sec",
            journal.rewriting_s.unwrap_or(-1).to_string(),
        ),
        ("aof_last_bgrewrite_status", verdict(journal.last_ok)),
        ("aof_rewrites", journal.rewrites.to_string()),
        (
            "aof_rewrites_consecutive_failures",
            journal.failures.to_string(),
        ),
        ("aof_last_write_status", verdict(journal.write_ok)),
        ("aof_last_cow_size", "0".into()),
        ("module_fork_in_progress", "0".into()),
        ("module_fork_last_cow_size", "0".into()),
    ]);
    if journal.on {
        text += &lines(&[
            ("aof_current_size", journal.size_bytes.to_string()),
            ("aof_base_size", journal.base_bytes.to_string()),
            ("aof_pending_rewrite", "0".into()),
            ("aof_buffer_length", journal.pending_bytes.to_string()),
            ("aof_pending_bio_fsync", "0".into()),
            ("aof_delayed_fsync", journal.delayed_syncs.to_string()),
        ]);
    }
    text
}

/// How late keys expired: percentiles in microseconds.
fn expire_lag(nodes: &[NodeFigures]) -> [(&'static str, String); 3] {
    let mut all = CommandStats::default();
    for node in nodes {
        all.merge(node.commands.expire_lag());
    }
    let us = |share: f64| {
        let lag = all.latency.as_ref();
        lag.map_or(0, |lag| lag.value_at_quantile(share) / 1000)
    };
    [
        ("expire_lag_usec_p50", us(0.5).to_string()),
        ("expire_lag_usec_p99", us(0.99).to_string()),
        ("expire_lag_usec_max", us(1.0).to_string()),
    ]
}

fn stats(nodes: &[NodeFigures], context: &Context) -> String {
    let session = |of: fn(&session::Counters) -> u64| total(nodes, |n| of(&n.session)).to_string();
    let keys = |of: fn(&keyspace::Counters) -> u64| total(nodes, |n| of(&n.keyspace)).to_string();
    let gauge = |of: fn(&Gauges) -> u64| total(nodes, |n| of(&n.gauges)).to_string();
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
        ("total_connections_received", session(|c| c.connections)),
        ("total_commands_processed", session(|c| c.commands)),
        (
            "instantaneous_ops_per_sec",
            format!("{:.0}", rates.commands),
        ),
        ("total_net_input_bytes", session(|c| c.input_bytes)),
        ("total_net_output_bytes", session(|c| c.output_bytes)),
        ("total_net_repl_input_bytes", "0".into()),
        ("total_net_repl_output_bytes", "0".into()),
        ("instantaneous_input_kbps", kbps(rates.input_bytes)),
        ("instantaneous_output_kbps", kbps(rates.output_bytes)),
        ("instantaneous_input_repl_kbps", "0.00".into()),
        ("instantaneous_output_repl_kbps", "0.00".into()),
        ("rejected_connections", gauge(|g| g.refused)),
        ("sync_full", replicas.full.to_string()),
        ("sync_partial_ok", replicas.partial.to_string()),
        ("sync_partial_err", replicas.refused.to_string()),
        ("expired_keys", keys(|c| c.expired)),
        p50,
        p99,
        max,
        // Deadlines are kept exactly: what is due is known, and goes at once.
        ("expired_stale_perc", "0.00".into()),
        (
            "expired_time_cap_reached_count",
            gauge(|g| g.expire_slices_cut),
        ),
        (
            "expire_cycle_cpu_milliseconds",
            gauge(|g| g.expire_ns / 1_000_000),
        ),
        ("evicted_keys", keys(|c| c.evicted)),
        ("evicted_clients", gauge(|g| g.evicted_clients)),
        ("total_eviction_exceeded_time", over.to_string()),
        ("current_eviction_exceeded_time", over_now.to_string()),
        ("keyspace_hits", keys(|c| c.hits)),
        ("keyspace_misses", keys(|c| c.misses)),
        ("pubsub_channels", total(nodes, |n| n.pubsub.0).to_string()),
        ("pubsub_patterns", total(nodes, |n| n.pubsub.1).to_string()),
        (
            "pubsubshard_channels",
            total(nodes, |n| n.pubsub.2).to_string(),
        ),
    ]);
    text + &no_such_thing() + &tracked(nodes) + &accesses(nodes, context)
}

/// What clients may keep copies of.
fn tracked(nodes: &[NodeFigures]) -> String {
    lines(&[
        (
            "tracking_total_keys",
            total(nodes, |n| n.tracking.0).to_string(),
        ),
        (
            "tracking_total_items",
            total(nodes, |n| n.tracking.1).to_string(),
        ),
        // Every shard knows every prefix.
        (
            "tracking_total_prefixes",
            nodes.first().map_or(0, |n| n.tracking.2).to_string(),
        ),
    ])
}

/// Replies that are errors, reads and writes.
fn accesses(nodes: &[NodeFigures], context: &Context) -> String {
    let session = |of: fn(&session::Counters) -> u64| total(nodes, |n| of(&n.session)).to_string();
    let refused = |reason: Reason| total(nodes, |n| n.session.refused[reason as usize]).to_string();
    let restores = context.table.find(b"restore").map(|entry| entry.id);
    let restored = restores.map_or(0, |id| total(nodes, |n| n.commands.of(id).calls));
    let errors = nodes.iter().flat_map(|node| node.commands.errors());
    let errors: u64 = errors.map(|(_, count)| count).sum();
    lines(&[
        ("total_error_replies", errors.to_string()),
        ("dump_payload_sanitizations", restored.to_string()),
        ("total_reads_processed", session(|c| c.reads)),
        ("total_writes_processed", session(|c| c.writes)),
        ("io_threaded_reads_processed", "0".into()),
        ("io_threaded_writes_processed", "0".into()),
        ("reply_buffer_shrinks", "0".into()),
        ("reply_buffer_expands", "0".into()),
        (
            "client_query_buffer_limit_disconnections",
            session(|c| c.query_limit_closed),
        ),
        (
            "client_output_buffer_limit_disconnections",
            session(|c| c.output_limit_closed),
        ),
        ("acl_access_denied_auth", refused(Reason::Auth)),
        ("acl_access_denied_cmd", refused(Reason::Command)),
        ("acl_access_denied_key", refused(Reason::Key)),
        ("acl_access_denied_channel", refused(Reason::Channel)),
    ])
}

/// What this server never does, and tools look for.
fn no_such_thing() -> String {
    const NEVER: [&str; 11] = [
        "latest_fork_usec",
        "total_forks",
        "migrate_cached_sockets",
        "slave_expires_tracked_keys",
        "active_defrag_hits",
        "active_defrag_misses",
        "active_defrag_key_hits",
        "active_defrag_key_misses",
        "total_active_defrag_time",
        "current_active_defrag_time",
        "unexpected_error_replies",
    ];
    NEVER.iter().map(|name| format!("{name}:0\r\n")).collect()
}

/// What shard 0 tells of replicas.
fn replicas_of(nodes: &[NodeFigures]) -> super::replicas::Figures {
    let told = nodes.iter().find_map(|node| node.replicas.clone());
    told.unwrap_or_default()
}

fn replication(context: &Context, replicas: &super::replicas::Figures) -> String {
    let config = context.config;
    let mut text = lines(&[
        ("role", "master".into()),
        ("connected_slaves", replicas.replicas.len().to_string()),
    ]);
    if config.int("min-replicas-to-write") > 0 && config.int("min-replicas-max-lag") > 0 {
        let good = replicas.good.to_string();
        text.push_str(&lines(&[("min_slaves_good_slaves", good)]));
    }
    for (number, replica) in replicas.replicas.iter().enumerate() {
        text.push_str(&format!("slave{number}:{replica}\r\n"));
    }
    text + &lines(&[
        ("master_failover_state", "no-failover".into()),
        ("master_replid", context.identity.replid()),
        ("master_replid2", "0".repeat(40)),
        ("master_repl_offset", replicas.offset.to_string()),
        ("second_repl_offset", "-1".into()),
        (
            "repl_backlog_active",
            u8::from(replicas.streaming).to_string(),
        ),
        (
            "repl_backlog_size",
            config.int("repl-backlog-size").to_string(),
        ),
        ("repl_backlog_first_byte_offset", replicas.first.to_string()),
        ("repl_backlog_histlen", replicas.backlog_bytes.to_string()),
    ])
}

/// Clock ticks of a process or thread under /proc: user and system.
fn thread_ticks(name: &str) -> (u64, u64) {
    let stat = std::fs::read_to_string(format!("/proc/{name}/stat")).unwrap_or_default();
    // The name before it may hold blanks and brackets.
    let fields = stat.rsplit(')').next().unwrap_or("");
    let field = |at: usize| fields.split_whitespace().nth(at)?.parse::<u64>().ok();
    (field(11).unwrap_or(0), field(12).unwrap_or(0))
}

/// Seconds of CPU time, from the kernel's clock ticks of 10 ms. The threads that serve clients are
/// what Redis calls its main thread.
fn cpu(nodes: &[NodeFigures]) -> String {
    let seconds = |ticks: u64| format!("{:.6}", ticks as f64 / 100.0);
    let (user, system) = thread_ticks("self");
    lines(&[
        ("used_cpu_sys", seconds(system)),
        ("used_cpu_user", seconds(user)),
        ("used_cpu_sys_children", seconds(0)),
        ("used_cpu_user_children", seconds(0)),
        (
            "used_cpu_sys_main_thread",
            seconds(total(nodes, |n| n.ticks.1)),
        ),
        (
            "used_cpu_user_main_thread",
            seconds(total(nodes, |n| n.ticks.0)),
        ),
    ])
}

fn merged(nodes: &[NodeFigures], table: &Table) -> Stats {
    let mut all = Stats::new(table.entries().len());
    nodes.iter().for_each(|node| all.merge(&node.commands));
    all
}

fn command_stats(nodes: &[NodeFigures], table: &Table) -> String {
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

fn error_stats(nodes: &[NodeFigures]) -> String {
    let mut all = std::collections::BTreeMap::new();
    for (name, count) in nodes.iter().flat_map(|node| node.commands.errors()) {
        *all.entry(name).or_insert(0) += count;
    }
    all.into_iter()
        .map(|(name, n)| format!("errorstat_{name}:count={n}\r\n"))
        .collect()
}

fn latency_stats(nodes: &[NodeFigures], context: &Context) -> String {
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

fn keyspace(nodes: &[NodeFigures]) -> String {
    let databases = nodes.first().map_or(0, |node| node.dbs.len());
    let mut text = String::new();
    for db in 0..databases {
        let keys = total(nodes, |n| n.dbs[db].keys);
        let expires = total(nodes, |n| n.dbs[db].expires);
        if keys > 0 {
            text.push_str(&format!(
                "db{db}:keys={keys},expires={expires},avg_ttl=0\r\n"
            ));
        }
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
pub fn latency_help(out: &mut Writer) -> Result<(), CmdError> {
    crate::command::connection::help(
        out,
        "LATENCY",
        &[
            ("DOCTOR", "Explain what was slow, and what may help."),
            ("GRAPH <event>", "Draw the latencies of an event."),
            ("HISTOGRAM [<command> ...]", "Show how long commands took."),
            ("HISTORY <event>", "Show the latencies of an event."),
            ("LATEST", "Show the last latency of every event."),
            (
                "RESET [<event> ...]",
                "Forget the latencies of these events, or of all.",
            ),
        ],
    )
}
