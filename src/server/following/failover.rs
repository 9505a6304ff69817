//! FAILOVER: master and replica change places, in agreement.
//!
//! ```text
//! master                                        replica
//! writes wait
//! WaitsForSync: until a replica has everything
//! Takes: REPLICAOF that replica
//!        PSYNC replid offset FAILOVER      ->   REPLICAOF NO ONE
//! the stream goes on, writes are refused   <-   +CONTINUE replid
//! ```
//! Redis: replication.c failoverCommand, updateFailoverStatus.

use super::Master;
use crate::resp::{Args, CmdError, Writer};
use crate::server::host::ServerHost;
use crate::server::jobs::done;
use crate::server::log;
use crate::server::pauses::Quiet;
use crate::server::persist::Message;
use crate::session::Performed;

/// One that is under way.
#[derive(Clone, Debug)]
pub struct Failover {
    target: Option<Master>,
    force: bool,
    /// Unix milliseconds.
    deadline_ms: Option<i64>,
    /// The mark behind all that was written before.
    mark: u64,
    /// The target is being asked to take over.
    takes: bool,
}

impl Failover {
    pub fn name(&self) -> &'static str {
        match self.takes {
            true => "failover-in-progress",
            false => "waiting-for-sync",
        }
    }

    pub fn takes(&self) -> bool {
        self.takes
    }

    pub fn deadline_ms(&self) -> Option<i64> {
        self.deadline_ms.filter(|_| !self.takes)
    }
}

/// What was asked.
#[derive(Debug, Default)]
struct Wish {
    target: Option<Master>,
    force: bool,
    timeout_ms: i64,
}

fn parse(args: &Args) -> Result<Wish, CmdError> {
    let mut wish = Wish::default();
    let mut at = 1;
    while at < args.len() {
        if args.is(at, "timeout") && at + 1 < args.len() && wish.timeout_ms == 0 {
            wish.timeout_ms = args.int(at + 1)?;
            if wish.timeout_ms <= 0 {
                return Err(CmdError::Text(
                    "ERR FAILOVER timeout must be greater than 0",
                ));
            }
            at += 2;
        } else if args.is(at, "to") && at + 2 < args.len() && wish.target.is_none() {
            wish.target = Some(Master {
                host: String::from_utf8_lossy(args.get(at + 1)).into_owned(),
                // What is no port is no replica's.
                port: u16::try_from(args.int(at + 2)?).unwrap_or(0),
            });
            at += 3;
        } else if args.is(at, "force") && !wish.force {
            wish.force = true;
            at += 1;
        } else {
            return Err(CmdError::Syntax);
        }
    }
    Ok(wish)
}

impl ServerHost {
    /// `FAILOVER [TO host port [FORCE]] [ABORT] [TIMEOUT ms]`, on shard 0.
    pub(in crate::server) fn failover(&mut self, args: &Args, out: &mut Writer) -> Performed {
        if args.len() == 2 && args.is(1, "abort") {
            if self.following.failover.is_none() {
                return Performed::Failed(CmdError::Text("ERR No failover in progress."));
            }
            self.abort_failover("Failover manually aborted");
            return done(out.ok());
        }
        let wish = match parse(args).and_then(|wish| self.check_failover(wish)) {
            Ok(wish) => wish,
            Err(error) => return Performed::Failed(error),
        };
        match &wish.target {
            Some(Master { host, port }) => {
                log::notice(&format!("FAILOVER requested to {host}:{port}."));
            }
            None => log::notice("FAILOVER requested to any replica."),
        }
        self.tell_nodes(|_| Message::Quiesce(Quiet::Failover));
        let timeout_ms = wish.timeout_ms;
        self.following.failover = Some(Failover {
            target: wish.target,
            force: wish.force,
            deadline_ms: (timeout_ms > 0).then(|| self.now_ms.saturating_add(timeout_ms)),
            mark: self.ask_for_mark(),
            takes: false,
        });
        done(out.ok())
    }

    fn check_failover(&self, wish: Wish) -> Result<Wish, CmdError> {
        let refused = |text| Err(CmdError::Text(text));
        if self.following.failover.is_some() {
            return refused("ERR FAILOVER already in progress.");
        }
        if self.following.master.is_some() {
            return refused("ERR FAILOVER is not valid when server is a replica.");
        }
        if self.replicas.places().is_empty() {
            return refused("ERR FAILOVER requires connected replicas.");
        }
        if wish.force && (wish.timeout_ms == 0 || wish.target.is_none()) {
            return refused(
                "ERR FAILOVER with force option requires both a timeout and target HOST and IP.",
            );
        }
        if let Some(Master { host, port }) = &wish.target {
            match self.replicas.is_online_at(host, *port) {
                None => return refused("ERR FAILOVER target HOST and PORT is not a replica."),
                Some(false) => return refused("ERR FAILOVER target replica is not online."),
                Some(true) => {}
            }
        }
        Ok(wish)
    }

    /// Looks whether somebody has everything, or has had time enough.
    pub(super) fn mind_failover(&mut self) {
        let Some(failover) = self.following.failover.as_ref().filter(|it| !it.takes) else {
            return;
        };
        let is_late = failover
            .deadline_ms
            .is_some_and(|at_ms| at_ms <= self.now_ms);
        let target = failover.target.clone();
        if is_late && !failover.force {
            return self.abort_failover("Replica never caught up before timeout");
        }
        if is_late && let Some(target) = target {
            let Master { host, port } = &target;
            log::notice(&format!(
                "FAILOVER to {host}:{port} time out exceeded, failing over."
            ));
            return self.hand_over(target);
        }
        if self.replicas.passed < failover.mark {
            return;
        }
        let offset = self.replicas.offset();
        let has_all = |it: &Master| self.replicas.has_come(&it.host, it.port, offset);
        let found = match target {
            Some(target) => Some(target).filter(has_all),
            None => {
                let caught_up = self.replicas.first_at(offset);
                caught_up.map(|(host, port)| Master { host, port })
            }
        };
        if let Some(target) = found {
            let Master { host, port } = &target;
            log::notice(&format!(
                "Failover target {host}:{port} is synced, failing over."
            ));
            self.hand_over(target);
        }
    }

    fn hand_over(&mut self, target: Master) {
        if let Some(failover) = &mut self.following.failover {
            failover.takes = true;
            failover.target = Some(target.clone());
        }
        self.follow_master(target);
    }

    /// All is as it was.
    pub(super) fn abort_failover(&mut self, why: &str) {
        let Some(failover) = self.following.failover.take() else {
            return;
        };
        let to = match &failover.target {
            Some(Master { host, port }) => format!("{host}:{port}"),
            None => "any replica".to_owned(),
        };
        log::notice(&format!("FAILOVER to {to} aborted: {why}"));
        if failover.takes {
            // Writes go on once this server is a master again.
            self.following.resumes = true;
            return self.leave_master();
        }
        self.tell_nodes(|_| Message::Resume(Quiet::Failover));
    }

    /// The target has taken over.
    pub(super) fn end_failover(&mut self) {
        if self.following.failover.take().is_some() {
            self.tell_nodes(|_| Message::Resume(Quiet::Failover));
        }
    }
}
