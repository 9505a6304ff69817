//! The server's cores without sockets, threads or clocks: N shards on one thread, messages between
//! them delivered in a seeded random order that keeps each pair's own order, as mailboxes do.
//!
//! What is checked: replies equal those of a single keyspace; multi-key commands are atomic; a
//! pipeline takes effect in program order; the recorded effects, replayed, give the same state;
//! journals on a disk that forgets what was not synced give every acknowledged write back, and
//! transactions as wholes; what replicas are told leads to the same state, and shows no half of a
//! transaction; events of keys come in the order of the changes.
//! Faults in scope: any interleaving of messages; kills and power cuts at any moment.

#![allow(clippy::unwrap_used)] // A simulation that cannot go on has failed.

mod blocking;
mod differential;
mod disk;
mod durability;
mod isolation;
mod power;
mod replay;
mod scripts;
mod stream;
mod telling;
mod transactions;
mod world;
