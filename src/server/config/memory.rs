//! Parameters: Values, encodings, eviction and lazy freeing.
//!
//! Names, types, bounds and defaults are those of Redis 7.0.15.

use super::param::{Kind, Param};
use super::rules;

#[rustfmt::skip] // One row each: a table.
pub const PARAMS: &[Param] = &[
    Param::new("active-defrag-cycle-max", "25", Kind::Int { min: 1, max: 99 }),
    Param::new("active-defrag-cycle-min", "1", Kind::Int { min: 1, max: 99 }),
    Param::new("active-defrag-ignore-bytes", "104857600", Kind::Memory { min: 1, max: i64::MAX }),
    Param::new("active-defrag-max-scan-fields", "1000", Kind::Int { min: 1, max: i64::MAX }),
    Param::new("active-defrag-threshold-lower", "10", Kind::Int { min: 0, max: 1000 }),
    Param::new("active-defrag-threshold-upper", "100", Kind::Int { min: 0, max: 1000 }),
    Param::new("active-expire-effort", "1", Kind::Int { min: 1, max: 10 }),
    Param::new("activedefrag", "no", Kind::Bool).rule(rules::no_defrag),
    Param::new("activerehashing", "yes", Kind::Bool),
    Param::new("hash-max-listpack-entries", "512", Kind::Int { min: 0, max: i64::MAX }).alias("hash-max-ziplist-entries").effective(),
    Param::new("hash-max-listpack-value", "64", Kind::Memory { min: 0, max: i64::MAX }).alias("hash-max-ziplist-value").effective(),
    Param::new("hll-sparse-max-bytes", "3000", Kind::Memory { min: 0, max: i64::MAX }).effective(),
    Param::new("lazyfree-lazy-eviction", "no", Kind::Bool),
    Param::new("lazyfree-lazy-expire", "no", Kind::Bool),
    Param::new("lazyfree-lazy-server-del", "no", Kind::Bool),
    Param::new("lazyfree-lazy-user-del", "no", Kind::Bool),
    Param::new("lazyfree-lazy-user-flush", "no", Kind::Bool),
    Param::new("lfu-decay-time", "1", Kind::Int { min: 0, max: 2147483647 }).effective(),
    Param::new("lfu-log-factor", "10", Kind::Int { min: 0, max: 2147483647 }).effective(),
    Param::new("list-compress-depth", "0", Kind::Int { min: 0, max: 2147483647 }).effective(),
    Param::new("list-max-listpack-size", "-2", Kind::Int { min: -2147483648, max: 2147483647 }).alias("list-max-ziplist-size").effective(),
    Param::new("maxmemory", "0", Kind::WideMemory).effective(),
    Param::new("maxmemory-clients", "0", Kind::MemoryOrPercent).effective(),
    Param::new("maxmemory-eviction-tenacity", "10", Kind::Int { min: 0, max: 100 }),
    Param::new("maxmemory-policy", "noeviction", Kind::Enum(&["volatile-lru", "volatile-lfu", "volatile-random", "volatile-ttl", "allkeys-lru", "allkeys-lfu", "allkeys-random", "noeviction"])).effective(),
    Param::new("maxmemory-samples", "5", Kind::Int { min: 1, max: 2147483647 }).effective(),
    Param::new("set-max-intset-entries", "512", Kind::Int { min: 0, max: i64::MAX }).effective(),
    Param::new("set-proc-title", "yes", Kind::Bool).immutable().effective(),
    Param::new("set-max-listpack-entries", "0", Kind::Int { min: 0, max: i64::MAX }).effective(),
    Param::new("set-max-listpack-value", "64", Kind::Memory { min: 0, max: i64::MAX }).effective(),
    Param::new("stream-node-max-bytes", "4096", Kind::Memory { min: 0, max: i64::MAX }).effective(),
    Param::new("stream-node-max-entries", "100", Kind::Int { min: 0, max: i64::MAX }).effective(),
    Param::new("zset-max-listpack-entries", "128", Kind::Int { min: 0, max: i64::MAX }).alias("zset-max-ziplist-entries").effective(),
    Param::new("zset-max-listpack-value", "64", Kind::Memory { min: 0, max: i64::MAX }).alias("zset-max-ziplist-value").effective(),
];
