//! RESP2, RESP3 and inline bytes <-> arguments and replies.
//!
//! [`Parser`] is incremental: it is fed whatever the socket delivered and yields one request at a
//! time as spans over those bytes. [`Writer`] encodes replies straight into a connection's
//! [`Output`]. [`CmdError`] holds every error text a client can see, in Redis' own words.
//!
//! Nothing here performs I/O, knows a command's meaning, or allocates from a length that a client
//! merely announced.

mod args;
mod error;
mod glance;
mod parse;
mod writer;

pub use args::{ArgBuf, Args, BUFFERED_MAX_BYTES, Pick};
pub use error::{CmdError, CmdResult};
pub use glance::Glance;
pub use parse::{Limits, Parsed, Parser, ProtocolError, split_quoted};
pub use writer::{Output, Proto, Writer};
