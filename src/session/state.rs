//! One client's state.

use std::net::SocketAddr;
use std::sync::Arc;

use super::blocking::Wait;
use super::fan::Fan;
use super::joint::{self, Joint};
use super::multi::{Multi, Watches};
use crate::acl::User;
use crate::command::{Client, CommandId};
use crate::resp::{ArgBuf, Output, Parser};
use crate::shard::message::{Hop, MASTER, SessionKey};
use crate::shard::seen::Seen;

/// Who is at the other end, as CLIENT LIST prints it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Peer {
    Tcp {
        peer: SocketAddr,
        local: SocketAddr,
    },
    /// Path of the unix socket.
    Unix(String),
}

impl Peer {
    /// `addr=` of CLIENT LIST.
    pub fn addr(&self) -> String {
        let mut text = String::new();
        self.push_addr(&mut text);
        text
    }

    /// `laddr=` of CLIENT LIST.
    pub fn laddr(&self) -> String {
        let mut text = String::new();
        self.push_laddr(&mut text);
        text
    }

    pub fn push_addr(&self, to: &mut String) {
        match self {
            Peer::Tcp { peer, .. } => push_socket(to, peer),
            Peer::Unix(path) => to.extend([path.as_ref(), ":0"]),
        }
    }

    pub fn push_laddr(&self, to: &mut String) {
        match self {
            Peer::Tcp { local, .. } => push_socket(to, local),
            Peer::Unix(path) => to.extend([path.as_ref(), ":0"]),
        }
    }

    pub fn is_local(&self) -> bool {
        match self {
            Peer::Tcp { peer, .. } => peer.ip().is_loopback(),
            Peer::Unix(_) => true,
        }
    }
}

/// As an address shows, which takes longer by its own way.
fn push_socket(to: &mut String, address: &SocketAddr) {
    let SocketAddr::V4(address) = address else {
        return to.push_str(&address.to_string());
    };
    let mut digits = itoa::Buffer::new();
    for (at, octet) in address.ip().octets().into_iter().enumerate() {
        if at > 0 {
            to.push('.');
        }
        to.push_str(digits.format(octet));
    }
    to.push(':');
    to.push_str(digits.format(address.port()));
}

/// What a session is doing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum State {
    /// Runs requests as they arrive.
    #[default]
    Running,
    /// A hop is away, or waits for a hold.
    Hopping,
    /// Multi-shard work is in progress, or the server performs a job.
    Awaiting,
    /// It waits for a key, for replicas or for a disk: perhaps for ever.
    Blocked,
    /// Its output waits for the socket.
    Draining,
    /// CLIENT PAUSE holds its next command back.
    Postponed,
    /// Nothing it sends matters any more.
    Closing,
}

/// A job whose reply comes later.
#[derive(Debug)]
pub struct Pending {
    /// `None`: it is counted already, and only its reply is to come.
    pub id: Option<CommandId>,
    /// How long beginning it took; its arguments, if that is to be noted as slow.
    pub spent_ns: u64,
    pub args: Option<ArgBuf>,
    /// What is replied then, if it is known already.
    pub reply: Option<Box<Output>>,
}

/// One client.
#[derive(Debug)]
pub struct Session {
    pub key: SessionKey,
    pub client: Client,
    pub peer: Peer,
    /// Who the client is, as of the users in effect; `None`: the server itself.
    pub user: Option<Arc<User>>,
    /// The user may not do everything: requests are checked.
    pub is_limited: bool,
    /// The user's rules have changed since what is under way was checked.
    pub is_outdated: bool,
    /// File descriptor, for CLIENT LIST.
    pub fd: i32,
    pub state: State,
    pub parser: Parser,
    /// Bytes received and not consumed; starts at the request being parsed.
    pub input: Vec<u8>,
    /// For how many of the requests to come the keys that live here were fetched from memory.
    pub fetched: usize,
    /// Bytes of the current request and what arrived behind it: Redis' `qbuf` while a command runs.
    pub current_bytes: usize,
    /// The hop being filled, or its empty box between two hops.
    pub hop: Option<Box<Hop>>,
    /// A pipeline that visits its homes at once.
    pub fan: Option<Box<Fan>>,
    /// Requests that go to several homes together.
    pub joint: Option<Box<Joint>>,
    pub joint_past: joint::Past,
    /// Home of the hop being filled.
    pub hop_home: usize,
    pub reading_paused: bool,
    /// Commands queued since MULTI.
    pub multi: Option<Box<Multi>>,
    pub watches: Option<Box<Watches>>,
    /// The wait of a blocking command.
    pub wait: Option<Wait>,
    pub created_ms: i64,
    pub last_ms: i64,
    pub last_command: Option<CommandId>,
    /// What it has done and seen of the shards' work.
    pub seen: Seen,
    /// The same of waits that ended when others served it, which count for some.
    pub seen_served: Seen,
    /// When work over several homes was begun for it, on the clock of its shard.
    pub work_begun_ns: u64,
    /// The job that is performed for it.
    pub job: Option<Pending>,
    pub received_bytes: u64,
    pub sent_bytes: u64,
    /// Since when the output exceeds the soft limit, unix milliseconds.
    pub soft_limit_since_ms: Option<i64>,
    /// How often it got more room for output, since its reader took none of it.
    pub drain_steps: u32,
    /// Output that its reader had not taken when it was last looked at.
    pub undrained_bytes: Option<usize>,
}

impl Session {
    pub fn new(key: SessionKey, client: Client, peer: Peer, fd: i32, now_ms: i64) -> Session {
        Session {
            key,
            client,
            peer,
            user: None,
            is_limited: false,
            is_outdated: false,
            fd,
            state: State::Running,
            parser: Parser::default(),
            input: Vec::new(),
            fetched: 0,
            current_bytes: 0,
            hop: None,
            fan: None,
            joint: None,
            joint_past: joint::Past::default(),
            hop_home: 0,
            reading_paused: false,
            multi: None,
            watches: None,
            wait: None,
            created_ms: now_ms,
            last_ms: now_ms,
            last_command: None,
            seen: Seen::default(),
            seen_served: Seen::default(),
            work_begun_ns: 0,
            job: None,
            received_bytes: 0,
            sent_bytes: 0,
            soft_limit_since_ms: None,
            drain_steps: 0,
            undrained_bytes: None,
        }
    }

    /// Whether it is nobody's connection: the server repeats its master's stream, or a file.
    pub fn repeats(&self) -> bool {
        self.key <= MASTER
    }

    /// Whether nothing this client sent is still being worked on.
    pub fn is_idle(&self) -> bool {
        matches!(
            self.state,
            State::Running | State::Closing | State::Postponed
        )
    }

    /// Bytes held for requests that have not run: the query buffer of Redis.
    pub fn query_bytes(&self) -> usize {
        let queued = self.multi.as_ref().map_or(0, |multi| multi.memory_bytes());
        self.input.len() + self.parser.pending_bytes() + queued
    }

    /// What CLIENT LIST shows as the query buffer: of a large argument only what came of it.
    pub fn unread_bytes(&self) -> usize {
        match self.parser.collected_bytes() {
            Some(bytes) => bytes,
            None => self.query_bytes() + self.current_bytes,
        }
    }

    /// The beginning of what CLIENT LIST shows as the query buffer.
    pub fn unread(&self) -> &[u8] {
        self.parser.collected().unwrap_or(&self.input)
    }

    /// Commands that its hops have come back without having run.
    pub(super) fn left_in_hops(&self) -> Vec<(CommandId, ArgBuf)> {
        let fanned = self.fan.iter().flat_map(|fan| fan.hops());
        let hops = self.hop.iter().map(|hop| &**hop).chain(fanned);
        hops.flat_map(Hop::left).collect()
    }

    /// Memory of this client beside its output.
    pub fn memory_bytes(&self) -> usize {
        size_of::<Session>()
            + self.input.capacity()
            + self.parser.claimed_bytes()
            + self.client.name.len()
            + self.client.subscriptions.memory_bytes()
            + self
                .client
                .tracking
                .as_ref()
                .map_or(0, |tracking| tracking.memory_bytes())
            + self.multi.as_ref().map_or(0, |multi| multi.memory_bytes())
            + self
                .watches
                .as_ref()
                .map_or(0, |watches| watches.memory_bytes())
            + self.hop.as_ref().map_or(0, |hop| hop.memory_bytes())
            + self.fan.as_ref().map_or(0, |fan| fan.memory_bytes())
            + self.joint.as_ref().map_or(0, |joint| joint.memory_bytes())
    }
}
