//! Whether this server is a master or the replica of one, and what that means for its nodes.
//!
//! ```text
//! shard 0                                  every node
//! change_role: the word that all nodes
//! read at each command changes at once;
//! Message::Take                    ->      expiry and eviction stop, or begin; clients that wait
//!                                          for keys are sent away by one that becomes a replica
//!                                  <-      Message::Taken
//! is_role_settled
//! ```
//! What the master has done is carried out by the session [`MASTER`], on whichever node has it: what it
//! sends is never refused, and finds keys that are due. Mail from shard 0 keeps its order, so a node
//! has taken a role before anything arrives that shard 0 sent after it.

use std::sync::atomic::{AtomicU8, Ordering};

use super::ask::NodeMessage;
use super::host::ServerHost;
use super::log;
use super::settings;
use crate::command::Client;
use crate::resp::CmdError;
use crate::session::{Core, Link, Peer, Session, State, UNBLOCKED};
use crate::shard::message::{MASTER, SessionKey};

/// Redis: server.c shared.roslaveerr, shared.masterdownerr.
const READ_ONLY: CmdError = CmdError::Text("READONLY You can't write against a read only replica.");
const MASTER_DOWN: CmdError = CmdError::Text(
    "MASTERDOWN Link with MASTER is down and replica-serve-stale-data is set to 'no'.",
);

/// What this server is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Role {
    #[default]
    Master,
    Replica {
        /// It has its master's data, and hears of every change.
        is_linked: bool,
    },
}

impl Role {
    pub fn is_replica(self) -> bool {
        self != Role::Master
    }

    /// In the words of HELLO.
    pub fn name(self) -> &'static str {
        match self {
            Role::Master => "master",
            Role::Replica { .. } => "replica",
        }
    }
}

/// The role, for all nodes at once.
#[derive(Debug, Default)]
pub struct Shared(AtomicU8);

impl Shared {
    const REPLICA: u8 = 1;
    const LINKED: u8 = 2;

    #[inline]
    pub fn get(&self) -> Role {
        match self.0.load(Ordering::Relaxed) {
            0 => Role::Master,
            bits => Role::Replica {
                is_linked: bits & Shared::LINKED != 0,
            },
        }
    }

    #[inline]
    pub fn is_replica(&self) -> bool {
        self.0.load(Ordering::Relaxed) != 0
    }

    /// Before the nodes begin, or by shard 0.
    pub fn set(&self, role: Role) {
        let bits = match role {
            Role::Master => 0,
            Role::Replica { is_linked: false } => Shared::REPLICA,
            Role::Replica { is_linked: true } => Shared::REPLICA | Shared::LINKED,
        };
        self.0.store(bits, Ordering::Relaxed);
    }
}

/// What nodes say to each other about the role.
#[derive(Clone, Copy, Debug)]
pub enum Message {
    /// It has changed.
    Take(Role),
    /// The node has changed with it.
    Taken,
}

impl ServerHost {
    /// On shard 0: this server is something else from now on. New commands meet it at once; what is
    /// under way on other nodes is done before [`ServerHost::is_role_settled`], or waits for a hold.
    pub fn change_role(&mut self, role: Role) {
        let before = self.identity.role.get();
        self.identity.role.set(role);
        // Whether there is a link is nothing that a shard knows.
        if before.is_replica() == role.is_replica() {
            return;
        }
        let config = self.config.clone();
        if self.oom_score.apply(&config, role.is_replica()).is_err() {
            log::warning("The out-of-memory score of the new role could not be set");
        }
        for node in 0..self.shards {
            self.roles_awaited += 1;
            let message = Message::Take(role);
            self.mail.push((node, NodeMessage::Role(message)));
        }
    }

    /// On shard 0: whether all nodes know of the last change.
    pub fn is_role_settled(&self) -> bool {
        self.roles_awaited == 0
    }

    pub(super) fn role_message(&mut self, core: &mut Core, link: &mut dyn Link, message: Message) {
        match message {
            Message::Take(role) => {
                self.take_role(core, link, role);
                self.mail.push((0, NodeMessage::Role(Message::Taken)));
            }
            Message::Taken => self.roles_awaited = self.roles_awaited.saturating_sub(1),
        }
    }

    /// Has a role on this node: when it changes, and when the node begins.
    pub fn take_role(&mut self, core: &mut Core, link: &mut dyn Link, role: Role) {
        log::set_replica(role.is_replica());
        core.shard.keyspace.set_replica(role.is_replica());
        let config = self.config.clone();
        settings::install(&config, core, self);
        if role.is_replica() {
            core.send_waiting_away(link, self);
            self.send_waits_away(core, link);
        }
    }

    /// Clients that wait for replicas or for a disk are told, and go.
    fn send_waits_away(&mut self, core: &mut Core, link: &mut dyn Link) {
        let waits = |it: &&Session| it.job.is_some() && it.state == State::Blocked;
        let waiting = core.sessions().filter(waits).map(|session| session.key);
        for key in waiting.collect::<Vec<_>>() {
            self.forget_own_wait(key);
            core.answer_and_close(key, &UNBLOCKED, link);
        }
    }

    /// Whether `maxmemory` is the master's affair. Redis: evict.c performEvictions.
    pub(super) fn ignores_maxmemory(&self) -> bool {
        self.identity.role.is_replica() && self.config.flag("replica-ignore-maxmemory")
    }

    /// Whether clients may not write here.
    pub fn is_read_only(&self) -> bool {
        self.identity.role.is_replica() && self.config.flag("replica-read-only")
    }

    /// Why a session may write nothing here.
    pub(super) fn refuses_as_replica(&self, session: SessionKey) -> Option<CmdError> {
        (session != MASTER && self.is_read_only()).then_some(READ_ONLY)
    }

    /// Why a session may see nothing of the data.
    pub(super) fn refuses_as_stale(&self, session: SessionKey) -> Option<CmdError> {
        let is_stale = self.identity.role.get() == Role::Replica { is_linked: false };
        let is_refused =
            session != MASTER && is_stale && !self.config.flag("replica-serve-stale-data");
        is_refused.then_some(MASTER_DOWN)
    }
}

/// Opens the session that carries out what the master has done, on this core.
pub fn open_session(core: &mut Core, id: u64, peer: Peer, fd: i32, now_ms: i64) {
    let client = Client {
        id,
        databases: core.shard.keyspace.databases(),
        authenticated: true,
        ..Client::default()
    };
    core.open(MASTER, client, peer, fd, now_ms);
    if let Some(session) = core.session_mut(MASTER) {
        session.set_user(None);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_role_is_one_word() {
        let shared = Shared::default();
        assert!(!shared.is_replica());
        for is_linked in [false, true] {
            let role = Role::Replica { is_linked };
            shared.set(role);
            assert!(shared.get() == role && shared.is_replica());
        }
        shared.set(Role::Master);
        assert_eq!(shared.get(), Role::Master);
    }
}
