//! The process: configuration, start and stop, and everything a command can ask that is not about
//! keys.
//!
//! A [`node::Node`] is what one core runs: a [`crate::session::Core`] with its clients and shard, and the
//! [`host::ServerHost`] that performs jobs. Nodes ask each other through [`ask`]; shard 0's node is the
//! authority for what exists once (configuration, slow log, latency events).

mod acl;
pub mod ask;
pub mod auth;
pub mod boot;
pub mod clients;
pub mod config;
mod debug;
mod deployment;
mod digest;
mod files;
pub mod following;
mod frames;
mod functions;
mod gauges;
pub mod host;
pub mod info;
mod jobs;
pub mod journal;
pub mod link;
mod loads;
pub mod log;
mod memory;
mod migrate;
pub mod monitor;
pub mod node;
mod oom;
mod open_files;
mod patrol;
mod pauses;
pub mod persist;
mod populate;
mod procfs;
mod pubsub;
mod reconfigure;
mod reloads;
pub mod replicas;
mod restart;
pub mod role;
mod saves;
pub mod settings;
pub mod slowlog;
mod spikes;
mod stopping;
mod supervise;
mod title;
mod tools;
mod tracking;
mod waitaof;
