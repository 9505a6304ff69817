//! Being a replica: the connection to the master, its snapshot, and its stream.
//!
//! ```text
//! Idle  a master            <--------------------------------- Promoting: all of it is applied
//! Settling  was a master: what it wrote comes to an end        feeds begin on every shard
//!   |                                                            ^
//! Waiting -> Resolving -> Dialing -> Greeting --+CONTINUE--> Online  <- the stream
//!   ^                                  |                       |
//!   |  whatever goes wrong             +FULLRESYNC             REPLCONF ACK, each second
//!   +----------------------------------|                       |
//!                                    Receiving -> Preparing -> Loading
//! ```
//! All of this is shard 0's: it has the connection, and hands what is in the stream to the shards (see
//! `dispatch.rs`). The stream is kept in the backlog and sent to replicas of this server as it came, byte
//! for byte, so that all who follow one master, however far away, speak of the same offsets.
//!
//! Redis: replication.c.

mod change;
mod direct;
mod disk;
mod dispatch;
mod failover;
mod figures;
mod handshake;
mod link;
mod online;
mod payload;
mod snapshot;
mod transfer;
mod units;

use crate::resp::ArgBuf;
use crate::runtime::resolve::Lookup;
use crate::runtime::{ConnInfo, Dial};
use crate::server::ask::Requester;
use crate::server::replicas::{Applicant, Place};
use crate::shard::message::SessionKey;
use disk::Disk;
use dispatch::Dispatch;
use failover::Failover;
use handshake::Handshake;
use transfer::Transfer;
use units::Cutter;

pub use figures::Figures;
pub use handshake::encode;
pub use link::SETTLE_MS;
pub use snapshot::Past;

/// A master's address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Master {
    pub host: String,
    pub port: u16,
}

impl Master {
    /// The words of `replicaof`.
    pub fn of_config(text: &str) -> Option<Master> {
        let (host, port) = text.split_once(' ')?;
        Some(Master {
            host: host.to_owned(),
            // "no one" has none.
            port: port.parse().ok()?,
        })
    }
}

/// Where the link is.
#[derive(Debug)]
enum Phase {
    /// This server is a master.
    Idle,
    /// It was one: what its clients wrote has to be in its stream.
    Settling(Settling),
    /// Until it is time to try again, unix milliseconds.
    Waiting {
        until_ms: i64,
    },
    /// The name was looked at last at this time, unix milliseconds.
    Resolving {
        lookup: Lookup,
        looked_ms: i64,
    },
    Dialing,
    Greeting(Box<Handshake>),
    Receiving(Box<Transfer>),
    /// The snapshot is complete: it is loaded once nothing is in its way.
    Preparing(Box<Transfer>),
    Loading(Origin),
    Online,
    /// It becomes a master: what has come is applied first, then all shards tell what they do, of
    /// which so many have not said so.
    Promoting {
        unfed: Option<usize>,
    },
}

/// How far the stream of a master that has become a replica is from its end.
#[derive(Clone, Copy, Debug, Default)]
struct Settling {
    /// Nodes that may still have something of their clients under way, of those that were asked.
    unsettled: Option<usize>,
    /// When they were, unix milliseconds.
    asked_ms: i64,
    /// The mark behind all of it.
    mark: Option<u64>,
}

/// A snapshot that is being loaded.
#[derive(Debug)]
struct Origin {
    known: transfer::Origin,
    /// The master waits for a word.
    is_marked: bool,
    /// What of it has not come, if it is loaded as it comes.
    direct: Option<Box<Transfer>>,
    /// It replaces what is there when all of it is loaded.
    is_incoming: bool,
}

/// Asked of the runtime at the end of the callback.
#[derive(Clone, Copy, Debug)]
pub enum Call {
    Dial(Dial),
    HangUp(u64),
}

/// What shard 0 knows of its master.
#[derive(Debug)]
pub struct Following {
    pub master: Option<Master>,
    phase: Phase,
    /// The connection, once there is one.
    conn: Option<SessionKey>,
    about: Option<ConnInfo>,
    /// Bytes that came from masters.
    pub read_bytes: u64,
    /// Beginning of a line of a master that was not whole.
    line: Vec<u8>,
    /// Names what was dialed last.
    dialed: u64,
    pub calls: Vec<Call>,
    /// When the master was heard last, unix milliseconds.
    heard_ms: i64,
    /// `repl-timeout`, milliseconds: a master that is silent for longer is given up.
    pub timeout_ms: i64,
    /// Since when the link is down, unix milliseconds; `None` while it never was up.
    down_since_ms: Option<i64>,
    acked_ms: i64,
    /// How far the disk is.
    disk: Disk,
    /// What this server has of a history that the next master may know: its stream can be gone on with.
    can_continue: bool,
    dispatch: Dispatch,
    cutter: Cutter,
    /// What has come of the stream and is not on its way to shards, from `at` on.
    input: Vec<u8>,
    at: usize,
    /// Shard 0's session runs something alone.
    alone: bool,
    paused: bool,
    /// The next unit has come and waits for shards.
    waits: bool,
    /// A shard has taken a batch since it was looked at.
    moved: bool,
    /// The snapshot could not be written.
    failed: bool,
    /// The connection is to be given up, for another master or none.
    leaves: bool,
    /// Writes wait until this server is a master.
    resumes: bool,
    /// The stream begins: a session is to run it.
    opens: bool,
    next_transfer: u32,
    /// REPLICAOF NO ONE waits for its reply.
    promoted: Vec<Requester>,
    /// What was asked meanwhile.
    asked: Vec<(Requester, ArgBuf)>,
    /// Who wants to be a replica once this server is a master: one that steps down.
    applicants: Vec<Applicant>,
    pub failover: Option<Failover>,
    shards: usize,
}

impl Following {
    pub fn new(shards: usize) -> Following {
        Following {
            master: None,
            phase: Phase::Idle,
            conn: None,
            about: None,
            read_bytes: 0,
            line: Vec::new(),
            dialed: 0,
            calls: Vec::new(),
            heard_ms: 0,
            timeout_ms: i64::MAX,
            down_since_ms: None,
            acked_ms: 0,
            disk: Disk::default(),
            can_continue: false,
            dispatch: Dispatch::new(shards, 0, 0),
            cutter: Cutter::default(),
            input: Vec::new(),
            at: 0,
            alone: false,
            paused: false,
            waits: false,
            moved: false,
            failed: false,
            leaves: false,
            resumes: false,
            opens: false,
            next_transfer: 0,
            promoted: Vec::new(),
            asked: Vec::new(),
            applicants: Vec::new(),
            failover: None,
            shards,
        }
    }

    /// One that wants to be a replica is gone before it could ask.
    pub fn forget_applicant(&mut self, place: Place) {
        self.applicants.retain(|one| one.place != place);
    }

    /// Whether this is the connection to the master.
    pub fn is_link(&self, session: SessionKey) -> bool {
        self.conn == Some(session)
    }

    /// Whether nothing is to be done about a master or a failover: the usual state of a master.
    fn is_at_rest(&self) -> bool {
        let asked = self.leaves || self.failed || self.opens || self.alone;
        matches!(self.phase, Phase::Idle) && self.failover.is_none() && !asked && !self.has_input()
    }

    fn is_online(&self) -> bool {
        matches!(self.phase, Phase::Online)
    }

    /// Whether what is loaded replaces what is there when it is over.
    pub fn is_incoming(&self) -> bool {
        matches!(&self.phase, Phase::Loading(origin) if origin.is_incoming)
    }

    /// Whether the master sends a snapshot, and waits where it is too fast.
    fn is_receiving(&self) -> bool {
        match &self.phase {
            Phase::Receiving(_) => true,
            Phase::Preparing(transfer) => transfer.is_direct(),
            Phase::Loading(origin) => origin.direct.is_some(),
            _ => false,
        }
    }

    /// Whether a snapshot of the master is about to take the place of everything.
    pub fn is_replacing(&self) -> bool {
        matches!(self.phase, Phase::Preparing(_) | Phase::Loading(_))
    }
}
