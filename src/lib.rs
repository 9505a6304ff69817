//! Pinion: one pinned thread per core, each with a shard of the keyspace and a ring of its own.
//!
//! A request's way: the runtime hands received bytes to a session, which cuts them into requests and
//! looks these up in the command table. If all keys of a request are at home on this core, its
//! function runs at once. If they are on one other core, the request travels there in a *hop*. If they
//! are on several, the coordinator takes *holds* there, decides and has the homes apply the decision.
//! What a function changes, the keyspace records as *effects*; from these alone come the append-only
//! file, the stream of the replicas, the events of keys and what clients that cache are told.
//!
//! | room | what it is about | imports |
//! |---|---|---|
//! | [`number`] | how numbers read as text | - |
//! | [`resp`] | the protocol: bytes to arguments, replies to bytes | - |
//! | [`value`] | data types and their encodings | - |
//! | [`rdb`] | files and payloads of values | `value` |
//! | [`keyspace`] | one shard's databases, transactions on them, their effects | `value` |
//! | [`command`] | the table: what each command is and does | `resp`, `value`, `rdb`, `keyspace` |
//! | [`acl`] | users, and what each may do | `resp`, `command` |
//! | [`journal`] | effects as the append-only file | `resp` |
//! | [`script`] | Lua: scripts that ask for one command at a time | `resp` |
//! | [`shard`] | one core's state machine: hops, holds, expiry, cuts | `command`, `journal` and their imports |
//! | [`coordinator`] | what spans shards | `shard` and its imports |
//! | [`session`] | one client; all clients of one core | `coordinator`, `acl`, `script` and their imports |
//! | [`runtime`] | executors, sockets, files, mailboxes, timers, signals | `resp` |
//! | [`server`] | the process: configuration, boot, recovery, replication, INFO | all |
//!
//! Every room may use `number`. `tests/tidy.rs` keeps to these imports, and to what no room below
//! `runtime` and `server` does: read a clock, wait, or touch a file or a socket. So the simulation
//! (`tests/sim`) runs many shards on one thread, in an order and at a time of its choosing.

pub mod acl;
pub mod command;
pub mod coordinator;
pub mod journal;
pub mod keyspace;
pub mod number;
pub mod rdb;
pub mod resp;
pub mod runtime;
pub mod script;
pub mod server;
pub mod session;
pub mod shard;
pub mod value;
