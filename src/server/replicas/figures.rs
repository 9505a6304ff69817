//! What is told of replicas: INFO and ROLE.

use super::master::Replica;
use crate::resp::{CmdResult, Writer};
use crate::server::following;
use crate::server::host::ServerHost;

/// For INFO.
#[derive(Clone, Debug, Default)]
pub struct Figures {
    /// This server's own master.
    pub master: Option<following::Figures>,
    /// `slaveN` lines, without the number.
    pub replicas: Vec<String>,
    pub good: usize,
    pub streaming: bool,
    /// What `master_failover_state` says while there is one.
    pub failover: Option<&'static str>,
    pub offset: i64,
    pub first: i64,
    pub backlog_bytes: usize,
    /// `repl-backlog-size`
    pub backlog_max_bytes: usize,
    /// How long the server waits for replicas before it ends, at most.
    pub ends_in_ms: Option<i64>,
    pub full: u64,
    pub partial: u64,
    pub refused: u64,
}

impl ServerHost {
    pub(in crate::server) fn replica_figures(&self) -> Figures {
        let replicas = &self.replicas;
        let line = |one: &Replica| {
            format!(
                "ip={},port={},state={},offset={},lag={}",
                one.ip(),
                one.applicant.greeting.port,
                one.state.name(),
                one.ack_offset,
                one.lag_s(self.now_ms)
            )
        };
        let lag_max_s = self.config.int("min-replicas-max-lag");
        Figures {
            master: self.master_figures(),
            replicas: replicas.list.iter().map(line).collect(),
            good: replicas.good(lag_max_s, self.now_ms),
            streaming: replicas.is_streaming(),
            failover: self.following.failover.as_ref().map(|it| it.name()),
            offset: replicas.offset(),
            first: match replicas.is_streaming() {
                true => replicas.backlog.first(),
                false => 0,
            },
            backlog_bytes: replicas.backlog.len(),
            backlog_max_bytes: self.backlog_max_bytes,
            ends_in_ms: self.farewell_due_ms().map(|at_ms| at_ms - self.now_ms),
            full: replicas.full,
            partial: replicas.partial,
            refused: replicas.refused,
        }
    }

    /// ROLE
    pub(in crate::server) fn role(&self, out: &mut Writer) -> CmdResult {
        if self.identity.role.is_replica() {
            return self.role_of_replica(out);
        }
        out.array(3)?;
        out.bulk(b"master")?;
        out.int(self.replicas.offset())?;
        let online = self.replicas.list.iter().filter(|one| one.is_online());
        let online: Vec<&Replica> = online.collect();
        out.array(online.len())?;
        for replica in online {
            out.array(3)?;
            out.bulk(replica.ip().as_bytes())?;
            out.bulk_int(replica.applicant.greeting.port)?;
            out.bulk_int(replica.ack_offset)?;
        }
        Ok(())
    }
}
