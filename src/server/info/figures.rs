//! What one node tells of itself to whoever answers INFO, MEMORY or LATENCY HISTOGRAM.

use crate::keyspace::{self, DbStats};
use crate::runtime::usage::{self, CpuTime};
use crate::server::gauges::{Gauges, Rates};
use crate::server::memory::DbBytes;
use crate::server::persist::Status;
use crate::server::replicas;
use crate::session::{self, Core, Link, State};
use crate::shard::stats::Stats;

/// One node's figures.
pub struct NodeFigures {
    pub sessions: usize,
    /// Clients that wait for keys, and those of them that will give up.
    pub blocked: usize,
    pub with_timeout: usize,
    pub awaiting: usize,
    /// Clients and what waits to be sent to them; replicas apart.
    pub client_bytes: usize,
    pub replica_bytes: usize,
    /// The most that one client has in its query buffer, and waits to be sent.
    pub input_max_bytes: usize,
    pub output_max_bytes: usize,
    pub keys_bytes: usize,
    pub overhead_bytes: usize,
    pub slack_bytes: usize,
    pub db_bytes: Vec<DbBytes>,
    /// Of the append-only file, not handed to the kernel.
    pub aof_buffer_bytes: usize,
    /// Connections that MIGRATE keeps.
    pub kept_lines: usize,
    pub rates: Rates,
    /// Milliseconds for which memory exceeded `maxmemory` in all, and does now.
    pub over_ms: (i64, i64),
    pub gauges: Gauges,
    /// Of this node's thread.
    pub cpu: CpuTime,
    pub lazyfree_pending: u64,
    pub dirty: u64,
    pub session: session::Counters,
    pub keyspace: keyspace::Counters,
    /// Keys that a writable replica deletes itself.
    pub own_keys: u64,
    pub dbs: Vec<DbStats>,
    /// Mean time to live of each database's keys that have one, milliseconds.
    pub avg_ttl_ms: Vec<i64>,
    /// What is asked for of them.
    pub commands: Stats,
    /// Calls of RESTORE.
    pub restores: u64,
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
    pub replicas: Option<replicas::Figures>,
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
    pub saving: Option<SavingFigures>,
    pub journal: JournalFigures,
    /// Of the load in progress: begin (unix seconds), bytes done and to do, seconds taken.
    pub loading: Option<(i64, u64, u64, i64)>,
    /// Clients are served meanwhile.
    pub serves: bool,
}

/// A snapshot in progress.
#[derive(Clone, Copy, Debug)]
pub struct SavingFigures {
    /// Seconds that it has taken, unless it is a base of the append-only file.
    pub rdb_s: Option<i64>,
    /// Keys it has, and will have, if that is known.
    pub progress: Option<(u64, usize)>,
}

impl NodeFigures {
    pub fn of(core: &Core, link: &dyn Link, gauges: &Gauges, commands: Stats) -> NodeFigures {
        let keys = &core.shard.keyspace;
        let outputs = || {
            core.sessions()
                .map(|session| link.pending_bytes(session.key))
        };
        let inputs = core.sessions().map(|session| session.query_bytes());
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
            client_bytes: session_bytes(core, link, false),
            replica_bytes: session_bytes(core, link, true),
            input_max_bytes: inputs.max().unwrap_or(0),
            output_max_bytes: outputs().max().unwrap_or(0),
            keys_bytes: keys.memory_bytes(),
            overhead_bytes: keys.overhead_bytes(),
            slack_bytes: keys.slack_bytes(),
            db_bytes: (0..keys.databases()).map(db_bytes).collect(),
            aof_buffer_bytes: 0,
            kept_lines: 0,
            rates: gauges.rates(core, link.now_ms()),
            over_ms: gauges.over_ms(link.now_ms()),
            gauges: gauges.clone(),
            cpu: usage::of_thread(),
            lazyfree_pending: keys.lazyfree_pending(),
            dirty: keys.effects.dirty,
            session: core.counters,
            keyspace: keys.counters,
            own_keys: keys.own_count(),
            dbs: (0..keys.databases()).map(|db| keys.stats(db)).collect(),
            avg_ttl_ms: (0..keys.databases())
                .map(|db| keys.avg_ttl_ms(db, link.now_ms()))
                .collect(),
            commands,
            restores: core
                .table
                .find_recorded(b"restore")
                .map_or(0, |entry| core.shard.stats.of(entry.id).calls),
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

/// What replicas use, or all other clients.
fn session_bytes(core: &Core, link: &dyn Link, of_replicas: bool) -> usize {
    core.sessions()
        .filter(|session| session.client.replica == of_replicas)
        .map(|session| session.memory_bytes() + link.pending_bytes(session.key))
        .sum()
}
