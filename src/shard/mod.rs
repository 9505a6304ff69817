//! One core's state machine: runs commands on its slice of the keyspace, keeps the holds of
//! multi-shard work, pulses expiry.
//!
//! `message.rs` is its vocabulary: everything that crosses from core to core is one of its values.
//! Nothing here waits: a hop on a held key is parked and handed back when the hold is released.
//! Nothing here knows sessions, sockets, clocks or which core it is on beyond its [`Place`].

pub mod budget;
mod exec;
pub mod feed;
mod holds;
pub mod journal;
pub mod message;
mod run;
pub mod seen;
pub mod snapshot;
pub mod stats;
pub mod waiting;
pub mod watching;

pub use crate::command::Place;
pub use exec::{Call, HeldPart, Room, Shard, waited_keys};
pub use holds::{Scope, TxId};
pub use run::key_positions as exec_keys;
