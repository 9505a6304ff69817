//! What INFO and ROLE tell of the master.

use super::{Origin, Phase};
use crate::resp::{CmdResult, Writer};
use crate::server::host::ServerHost;
use crate::server::role::Role;

/// For INFO.
#[derive(Clone, Debug, Default)]
pub struct Figures {
    pub host: String,
    pub port: u16,
    pub is_up: bool,
    /// Seconds since the master was heard, while there is a link.
    pub silent_s: Option<i64>,
    pub read_offset: i64,
    pub offset: i64,
    pub transfer: Option<TransferFigures>,
    /// Seconds since the link is down.
    pub down_s: Option<i64>,
}

/// A snapshot on its way.
#[derive(Clone, Debug, Default)]
pub struct TransferFigures {
    pub size_bytes: Option<u64>,
    pub read_bytes: u64,
    pub silent_s: i64,
}

impl ServerHost {
    pub(in crate::server) fn master_figures(&self) -> Option<Figures> {
        let following = &self.following;
        let master = following.master.as_ref()?;
        let silent_s = (self.now_ms - following.heard_ms).max(0) / 1000;
        let is_up = following.is_online();
        let transfer = match &following.phase {
            Phase::Receiving(transfer) | Phase::Preparing(transfer) => Some(TransferFigures {
                size_bytes: transfer.size_bytes,
                read_bytes: transfer.read_bytes,
                silent_s,
            }),
            Phase::Loading(Origin {
                direct: Some(transfer),
                ..
            }) => Some(TransferFigures {
                size_bytes: transfer.size_bytes,
                read_bytes: transfer.read_bytes,
                silent_s,
            }),
            Phase::Loading(_) => Some(TransferFigures::default()),
            _ => None,
        };
        let knows = is_up || following.can_continue;
        Some(Figures {
            host: master.host.clone(),
            port: master.port,
            is_up,
            silent_s: is_up.then_some(silent_s),
            read_offset: if knows { following.read_offset() } else { 1 },
            offset: if knows { following.dispatch.offset } else { 1 },
            transfer,
            down_s: following
                .down_since_ms
                .map(|since_ms| (self.now_ms - since_ms).max(0) / 1000),
        })
    }

    /// ROLE of a replica. Redis: replication.c roleCommand.
    pub(in crate::server) fn role_of_replica(&self, out: &mut Writer) -> CmdResult {
        let following = &self.following;
        let (host, port) = match &following.master {
            Some(master) => (master.host.as_str(), master.port),
            None => ("", 0),
        };
        let state = match following.phase {
            Phase::Idle | Phase::Promoting { .. } => "none",
            Phase::Settling(_) | Phase::Waiting { .. } => "connect",
            Phase::Resolving { .. } | Phase::Dialing => "connecting",
            Phase::Greeting(_) => "handshake",
            Phase::Receiving(_) | Phase::Preparing(_) | Phase::Loading(_) => "sync",
            Phase::Online => "connected",
        };
        out.array(5)?;
        out.bulk(b"slave")?;
        out.bulk(host.as_bytes())?;
        out.int(i64::from(port))?;
        out.bulk(state.as_bytes())?;
        out.int(match following.is_online() {
            true => following.dispatch.offset,
            false => -1,
        })
    }

    /// Whether replicas of this server get nothing, since it has no link itself.
    pub(in crate::server) fn lacks_link(&self) -> bool {
        self.identity.role.get() == Role::Replica { is_linked: false }
    }
}
