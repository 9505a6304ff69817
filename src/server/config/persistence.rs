//! Parameters: Snapshots and the append-only file.
//!
//! Names, types, bounds and defaults are those of Redis 7.0.15.

use super::param::{Kind, Param};
use super::rules;

#[rustfmt::skip] // One row each: a table.
pub const PARAMS: &[Param] = &[
    Param::new("aof-disable-auto-gc", "no", Kind::Bool).effective(),
    Param::new("aof-load-truncated", "yes", Kind::Bool).effective(),
    Param::new("aof-rewrite-incremental-fsync", "yes", Kind::Bool),
    Param::new("aof-timestamp-enabled", "no", Kind::Bool).effective(),
    Param::new("aof-use-rdb-preamble", "yes", Kind::Bool).effective(),
    Param::new("aof_rewrite_cpulist", "", Kind::Text).immutable(),
    Param::new("appenddirname", "appendonlydir", Kind::Text).immutable().rule(rules::aof_dir_name).effective(),
    Param::new("appendfilename", "appendonly.aof", Kind::Text).immutable().rule(rules::aof_file_name).effective(),
    Param::new("appendfsync", "everysec", Kind::Enum(&["everysec", "always", "no"])).effective(),
    Param::new("appendonly", "no", Kind::Bool).effective(),
    Param::new("auto-aof-rewrite-min-size", "67108864", Kind::Memory { min: 0, max: i64::MAX }).effective(),
    Param::new("auto-aof-rewrite-percentage", "100", Kind::Int { min: 0, max: 2147483647 }).effective(),
    Param::new("dbfilename", "dump.rdb", Kind::Text).protected().rule(rules::rdb_file_name).effective(),
    Param::new("dir", ".", Kind::Directory).protected().effective(),
    Param::new("no-appendfsync-on-rewrite", "no", Kind::Bool).effective(),
    Param::new("rdb-del-sync-files", "no", Kind::Bool),
    Param::new("rdb-key-save-delay", "0", Kind::Int { min: -2147483648, max: 2147483647 }).hidden().effective(),
    Param::new("rdb-save-incremental-fsync", "yes", Kind::Bool),
    Param::new("rdbchecksum", "yes", Kind::Bool).immutable().effective(),
    Param::new("rdbcompression", "yes", Kind::Bool).effective(),
    Param::new("sanitize-dump-payload", "no", Kind::Enum(&["no", "yes", "clients"])),
    Param::new("save", "3600 1 300 100 60 10000", Kind::Save).effective(),
    Param::new("stop-writes-on-bgsave-error", "yes", Kind::Bool).effective(),
];
