//! The sections about the process: server, clients and CPU time.

use std::sync::OnceLock;

use super::{Context, NodeFigures, lines, replicas_of, total};
use crate::runtime::usage;
use crate::server::{host, procfs, supervise};

/// The kernel, as Redis names it.
fn os() -> &'static str {
    static OS: OnceLock<String> = OnceLock::new();
    let name = || {
        let release = procfs::read("sys/kernel/osrelease");
        format!("Linux {} {}", release.trim(), std::env::consts::ARCH)
    };
    OS.get_or_init(name)
}

fn executable() -> &'static str {
    static EXECUTABLE: OnceLock<String> = OnceLock::new();
    let path = || {
        let path = std::env::current_exe();
        path.map_or_else(|_| String::new(), |path| path.display().to_string())
    };
    EXECUTABLE.get_or_init(path)
}

/// Tells versions of this program apart.
fn build_id() -> u64 {
    xxhash_rust::xxh3::xxh3_64(
        concat!(env!("CARGO_PKG_VERSION"), env!("CARGO_PKG_NAME")).as_bytes(),
    )
}

pub fn server(nodes: &[NodeFigures], context: &Context) -> String {
    let ends_in_ms = replicas_of(nodes).ends_in_ms;
    let ends = ends_in_ms.map(|ms| ("shutdown_in_milliseconds", ms.into()));
    let uptime_s = ((context.now_ms - context.started_ms) / 1000).max(0);
    let file = context
        .config
        .file
        .as_ref()
        .map(|path| path.display().to_string());
    lines(&[
        ("redis_version", host::REDIS_VERSION.into()),
        ("pinion_version", env!("CARGO_PKG_VERSION").into()),
        ("redis_git_sha1", "00000000".into()),
        ("redis_git_dirty", "0".into()),
        ("redis_build_id", format!("{:x}", build_id()).into()),
        ("redis_mode", "standalone".into()),
        ("os", os().into()),
        ("arch_bits", usize::BITS.into()),
        ("monotonic_clock", "POSIX clock_gettime".into()),
        ("multiplexing_api", "io_uring".into()),
        ("atomicvar_api", "std".into()),
        // Redis: what it says when another compiler than GCC made it.
        ("gcc_version", "0.0.0".into()),
        ("process_id", std::process::id().into()),
        ("process_supervised", supervise::by().into()),
        ("run_id", context.identity.run_id.clone().into()),
        ("tcp_port", context.config.text("port").into()),
        ("server_time_usec", context.now_us.into()),
        ("uptime_in_seconds", uptime_s.into()),
        ("uptime_in_days", (uptime_s / 86_400).into()),
        ("hz", context.config.text("hz").into()),
        ("configured_hz", context.config.text("hz").into()),
        ("lru_clock", ((context.now_ms / 1000) & 0xff_ffff).into()),
        ("shards", context.shards.into()),
        ("executable", executable().into()),
        ("config_file", file.unwrap_or_default().into()),
        ("io_threads_active", "0".into()),
    ]) + &lines(ends.as_slice())
}

pub fn clients(nodes: &[NodeFigures], context: &Context) -> String {
    let most = |of: fn(&NodeFigures) -> usize| nodes.iter().map(of).max().unwrap_or(0);
    lines(&[
        ("connected_clients", total(nodes, |n| n.sessions).into()),
        ("cluster_connections", "0".into()),
        ("maxclients", context.config.text("maxclients").into()),
        (
            "client_recent_max_input_buffer",
            most(|n| n.input_max_bytes).into(),
        ),
        (
            "client_recent_max_output_buffer",
            most(|n| n.output_max_bytes).into(),
        ),
        ("blocked_clients", total(nodes, |n| n.blocked).into()),
        ("pubsub_clients", total(nodes, |n| n.subscribers).into()),
        ("tracking_clients", total(nodes, |n| n.trackers).into()),
        (
            "clients_in_timeout_table",
            total(nodes, |n| n.with_timeout).into(),
        ),
    ])
}

/// Seconds of CPU time. The threads that serve clients are what Redis calls its main thread.
pub fn cpu(nodes: &[NodeFigures]) -> String {
    let seconds = |us: u64| format!("{}.{:06}", us / 1_000_000, us % 1_000_000);
    let all = usage::of_process();
    lines(&[
        ("used_cpu_sys", seconds(all.system_us).into()),
        ("used_cpu_user", seconds(all.user_us).into()),
        ("used_cpu_sys_children", seconds(0).into()),
        ("used_cpu_user_children", seconds(0).into()),
        (
            "used_cpu_sys_main_thread",
            seconds(total(nodes, |n| n.cpu.system_us)).into(),
        ),
        (
            "used_cpu_user_main_thread",
            seconds(total(nodes, |n| n.cpu.user_us)).into(),
        ),
    ])
}
