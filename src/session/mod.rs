//! One client: what it sent and has not been answered, its own state, its limits; and [`Core`],
//! which drives all clients of one core over the shard and the coordinator below.
//!
//! Program order: a session has at most one hop or one piece of multi-shard work outside its core
//! at a time, and runs nothing until it is back. Consecutive commands for the same remote home
//! travel in one hop. So a connection's commands take effect in the order in which it sent them,
//! as seen by everybody, and its replies need no reordering. (With `pipeline-order relaxed` a pipeline
//! visits its homes at once, and only its replies are in order: see `fan.rs`.)
//!
//! Nothing here touches a socket or a clock: bytes, time and messages come in through [`Core`]'s
//! methods and go out through a [`Link`].

mod access;
pub mod blocking;
mod core;
mod emptied;
mod exec;
mod fan;
mod functions;
mod joint;
mod late;
mod link;
mod multi;
mod replies;
mod requests;
mod routing;
mod script;
mod state;
mod visit;

pub use access::Refused;
pub use blocking::{UNBLOCKED, UNBLOCKED_BY_CLIENT};
pub use core::{Core, Counters, Limits, Overflow};
pub use link::{Admission, Host, Link, Performed};
pub use script::Scripts;
pub use state::{Peer, Session, State};
