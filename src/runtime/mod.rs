//! Executors, the network ring, mailboxes, timers, signals: everything between the kernel and a
//! synchronous [`App`].
//!
//! The only user of glommio and of io_uring. Each executor is pinned to a CPU and runs one driver,
//! which owns a ring of its own for sockets: multishot receives into provided buffers, one send per
//! connection and turn, all operations of a turn in one system call. glommio's own sockets cost
//! twice the CPU of that.
//!
//! Nothing here knows Redis: an `App` gets bytes, messages and time, and writes into [`Io`]; what
//! it asked for happens at the end of the turn.

mod app;
mod buffers;
pub mod clock;
mod conn;
pub mod cpus;
pub mod crash;
mod dial;
mod driver;
mod files;
mod gathering;
mod leftovers;
mod listen;
mod mailbox;
pub mod preflight;
pub mod resolve;
mod ring;
mod scheduling;
mod start;
pub mod title;
pub mod usage;

pub use app::{App, Awaited, CloseReason, ConnId, ConnInfo, Dial, Io, NextTurn, Now, Peer, Signal};
pub use driver::Delivery;
pub use files::{FileDone, FileOp};
pub use gathering::{Gather, LONGEST as GATHER_LONGEST};
pub use listen::{ListenError, Listening};
pub use preflight::StartError;
pub use scheduling::Scheduling;
pub use start::{Bound, Options, bind};
