//! The server's cores without sockets, threads or clocks: N shards on one thread, messages between
//! them delivered in a seeded random order that keeps each pair's own order, as mailboxes do.
//!
//! What is checked: replies equal those of a single keyspace; multi-key commands are atomic; a
//! pipeline takes effect in program order; the recorded effects, replayed, give the same state.
//! Faults in scope: any interleaving of messages. Not in scope yet: crashes, disks.

#![allow(clippy::unwrap_used)] // A simulation that cannot go on has failed.

mod blocking;
mod differential;
mod isolation;
mod replay;
mod transactions;
mod world;
