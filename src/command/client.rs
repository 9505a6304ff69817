//! A connection's own state: what `Run::Client` commands read and edit.

use super::Command;
use super::tracking::Tracking;
use crate::resp::Proto;

/// Which replies a client asked to see with CLIENT REPLY.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ReplyMode {
    #[default]
    On,
    Off,
    /// The reply of the next command is left out.
    SkipNext,
    /// The reply of the current command is left out.
    Skipping,
}

impl ReplyMode {
    /// Whether the reply of the command that just ran is left out.
    pub fn suppresses(self) -> bool {
        matches!(self, ReplyMode::Off | ReplyMode::Skipping)
    }

    /// Called after every command. Redis: networking.c resetClient.
    pub fn after_command(&mut self) {
        *self = match *self {
            ReplyMode::SkipNext => ReplyMode::Skipping,
            ReplyMode::Skipping => ReplyMode::On,
            unchanged => unchanged,
        };
    }
}

/// How much a client listens to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Subscriptions {
    pub channels: usize,
    pub patterns: usize,
    pub shard_channels: usize,
}

impl Subscriptions {
    pub fn any(self) -> bool {
        self.count() > 0
    }

    fn count(self) -> usize {
        self.channels + self.patterns + self.shard_channels
    }

    /// What the server keeps of them, roughly: their names are elsewhere.
    pub fn memory_bytes(self) -> usize {
        /// A short name, and its places in the tables of the client's node and of the channel's.
        const EACH: usize = 128;
        self.count() * EACH
    }
}

/// The state of one client that its own commands may touch.
#[derive(Debug, Default)]
pub struct Client {
    pub id: u64,
    pub db: u32,
    pub databases: u32,
    pub proto: Proto,
    pub authenticated: bool,
    pub name: Box<[u8]>,
    pub lib_name: Box<[u8]>,
    pub lib_ver: Box<[u8]>,
    pub reply: ReplyMode,
    pub no_touch: bool,
    pub no_evict: bool,
    /// It gets what others write.
    pub replica: bool,
    /// What it listens to; the server room keeps the names.
    pub subscriptions: Subscriptions,
    /// CLIENT TRACKING, while it is on.
    pub tracking: Option<Box<Tracking>>,
    /// Set by QUIT: close once the reply is out.
    pub closing: bool,
}

impl Client {
    /// Whether the keys that this command reads are noted, to tell the client of changes.
    pub fn tracks(&self, command: &Command) -> bool {
        let tracking = self.tracking.as_ref();
        tracking.is_some_and(|tracking| tracking.covers_reads() && command.is_read())
    }

    /// Whether it may do nothing but listen: in RESP2, replies and messages could not be told apart.
    pub fn only_listens(&self) -> bool {
        self.subscriptions.any() && self.proto == Proto::Resp2
    }
}
