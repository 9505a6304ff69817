//! Executors, the network ring, mailboxes, timers, signals: everything between the kernel and a
//! synchronous [`App`].
//!
//! The only user of glommio and of io_uring. Knows nothing of Redis: an `App` gets bytes, messages
//! and time, and writes into [`Io`]; what it asked for happens at the end of the turn.

mod app;

pub use app::{App, CloseReason, ConnId, ConnInfo, Io, NextTurn, Now, Peer, Signal};
