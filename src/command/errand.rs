//! Commands that go on an errand: what is read on the homes leaves this server, and what is decided
//! depends on what comes back. All keys are held meanwhile, so that nobody sees between.

use bytes::Bytes;

use super::plan::{Ask, Decision, Peek};
use crate::keyspace::Tx;
use crate::resp::{Args, CmdError, CmdResult};

/// A command of four steps: read on the homes, send, decide, change the homes.
pub struct Errand {
    /// Checks the arguments before anything is held.
    pub check: fn(args: &Args) -> CmdResult,
    /// Reads what is to be sent of the key at argument `at`.
    pub peek: fn(tx: &mut Tx, args: &Args, at: usize) -> Peek,
    /// What is to be sent, if anything is.
    pub send: fn(ask: &Ask, peeks: &[Peek]) -> Result<Option<Parcel>, CmdError>,
    /// `receipt` is of what was sent; none if nothing was.
    pub decide: fn(ask: &Ask, receipt: Option<&Receipt>) -> Result<Decision, CmdError>,
}

/// Keys on their way to another server.
#[derive(Clone, Debug)]
pub struct Parcel {
    /// Of the server: as the client wrote them.
    pub host: String,
    pub port: String,
    /// How long each of connecting, writing and reading may wait.
    pub timeout_ms: u64,
    pub db: i64,
    /// The arguments of AUTH; empty: no need for it.
    pub auth: Vec<Vec<u8>>,
    /// Keys that are there may be overwritten.
    pub replace: bool,
    pub items: Vec<Item>,
}

/// One key with its value.
#[derive(Clone, Debug)]
pub struct Item {
    /// Its argument index.
    pub at: usize,
    pub key: Vec<u8>,
    /// What is left of its life, milliseconds; 0: no end.
    pub ttl_ms: i64,
    /// As DUMP writes it.
    pub payload: Bytes,
}

/// What became of a parcel.
#[derive(Clone, Debug, Default)]
pub struct Receipt {
    /// Argument indices of the keys that arrived.
    pub arrived: Vec<usize>,
    /// Why others did not.
    pub error: Option<CmdError>,
}
