//! From master to replica, from one master to another, and back.

use super::link::SETTLE_MS;
use super::{Master, Phase, Settling};
use crate::command::Job;
use crate::resp::{ArgBuf, Args, CmdError, Output, Writer};
use crate::server::ask::{NodeMessage, Requester};
use crate::server::clients;
use crate::server::host::ServerHost;
use crate::server::jobs::done;
use crate::server::log;
use crate::server::pauses::Quiet;
use crate::server::persist;
use crate::server::replicas::{Applicant, Message, Place};
use crate::server::role::Role;
use crate::session::{Core, Link, Performed, Session, State};
use crate::shard::message::MASTER;

impl ServerHost {
    /// REPLICAOF host port, REPLICAOF NO ONE; on shard 0. The argument behind them describes the
    /// client.
    pub(in crate::server) fn replicaof(
        &mut self,
        requester: Requester,
        args: &Args,
        out: &mut Writer,
    ) -> Performed {
        if self.following.failover.is_some() {
            return Performed::Failed(CmdError::Text(
                "ERR REPLICAOF not allowed while failing over.",
            ));
        }
        let is_promoted = matches!(self.following.phase, Phase::Promoting { .. });
        if is_promoted || self.following.leaves && self.following.master.is_none() {
            self.following.asked.push((requester, args.to_buf()));
            return Performed::Later;
        }
        let by = match args.len() {
            0..=3 => String::new(),
            _ => String::from_utf8_lossy(args.get(3)).into_owned(),
        };
        if args.is(1, "no") && args.is(2, "one") {
            if self.following.master.is_none() {
                return done(out.ok());
            }
            self.leave_master();
            log::notice(&format!("MASTER MODE enabled (user request from '{by}')"));
            self.following.promoted.push(requester);
            return Performed::Later;
        }
        let port = match args.int(2).map(u16::try_from) {
            Ok(Ok(port)) => port,
            _ => return Performed::Failed(CmdError::Text("ERR Invalid master port")),
        };
        let host = String::from_utf8_lossy(args.get(1)).into_owned();
        let known = self.following.master.as_ref();
        if known.is_some_and(|it| it.host.eq_ignore_ascii_case(&host) && it.port == port) {
            log::notice(
                "REPLICAOF would result into synchronization with the master we are already \
                 connected with. No operation performed.",
            );
            return done(out.simple("OK Already connected to specified master"));
        }
        log::notice(&format!(
            "REPLICAOF {host}:{port} enabled (user request from '{by}')"
        ));
        self.follow_master(Master { host, port });
        done(out.ok())
    }

    /// The server begins as a replica, if the configuration says so.
    pub(in crate::server) fn start_following(&mut self) {
        self.following.master = Master::of_config(self.config.text("replicaof"));
        if self.following.master.is_some() {
            self.following.down_since_ms = Some(self.now_ms);
            self.following.phase = Phase::Waiting { until_ms: 0 };
        }
    }

    /// This server is a replica from now on.
    pub(in crate::server) fn follow_master(&mut self, master: Master) {
        let was_master = self.following.master.is_none();
        let name = format!("{}:{}", master.host, master.port);
        self.following.master = Some(master);
        self.following.down_since_ms = Some(self.now_ms);
        self.note_master();
        if !was_master {
            // The connection is given up in this turn.
            self.following.leaves = true;
            self.change_role(Role::Replica { is_linked: false });
            return;
        }
        log::notice(
            "Before turning into a replica, using my own master parameters to synthesize a cached \
             master: I may be able to synchronize with the new master with just a partial \
             transfer.",
        );
        self.change_role(Role::Replica { is_linked: false });
        self.following.phase = Phase::Settling(Settling::default());
        log::notice(&format!("Connecting to MASTER {name}"));
    }

    /// REPLICAOF: shard 0 is asked, and told who asks.
    pub(in crate::server) fn ask_replicaof(
        &mut self,
        core: &Core,
        link: &dyn Link,
        requester: Requester,
        args: &Args,
        out: &mut Output,
    ) -> Performed {
        let Some(me) = core.session(requester.session) else {
            return Performed::Done;
        };
        if me.client.replica && !args.is(1, "no") {
            return Performed::Failed(CmdError::Text(
                "ERR Command is not valid when client is a replica.",
            ));
        }
        let mut args = args.to_buf();
        args.push(clients::describe(me, core, link, &[]).as_bytes());
        self.forward(Job::Replication, requester, &args.as_args(), out)
    }

    /// The configuration says who the master is, for CONFIG GET and REWRITE.
    fn note_master(&mut self) {
        let text = match &self.following.master {
            Some(master) => format!("{} {}", master.host, master.port),
            None => String::new(),
        };
        self.set_config("replicaof", &text);
    }

    /// Whether what this server's clients wrote is a step nearer to its end.
    pub(super) fn wants_to_settle(&self) -> bool {
        let Phase::Settling(settling) = self.following.phase else {
            return false;
        };
        let cuts = self.persistence.wanted_cut.is_some() || self.persistence.is_cutting();
        if !self.is_role_settled() || cuts {
            return false;
        }
        match (settling.unsettled, settling.mark) {
            (Some(1..), _) => self.now_ms - settling.asked_ms >= SETTLE_MS,
            (Some(0), Some(mark)) => self.replicas.passed >= mark,
            _ => true,
        }
    }

    /// What this server's clients wrote comes to its end: then the master is called.
    pub(super) fn settle(&mut self) {
        if !self.wants_to_settle() {
            return;
        }
        let Phase::Settling(mut settling) = self.following.phase else {
            return;
        };
        let Some(unsettled) = settling.unsettled else {
            settling.unsettled = Some(self.shards);
            settling.asked_ms = self.now_ms;
            self.following.phase = Phase::Settling(settling);
            for node in 0..self.shards {
                let message = NodeMessage::Replicas(Message::Settle);
                self.mail.push((node, message));
            }
            return;
        };
        if unsettled > 0 {
            // A script may run for ever.
            log::warning("What clients have under way does not end: the master is called now.");
        }
        if !self.replicas.feeds() {
            self.following.can_continue = true;
            self.begin_relay_again();
            self.begin_following();
            return;
        }
        if settling.mark.is_none() {
            settling.unsettled = Some(0);
            settling.mark = Some(self.ask_for_mark());
            self.following.phase = Phase::Settling(settling);
            return;
        }
        self.end_feeds();
        self.following.can_continue = true;
        self.begin_relay_again();
        self.begin_following();
    }

    /// The stream of a master goes on where this server's own has ended.
    fn begin_relay_again(&mut self) {
        let offset = self.replicas.offset();
        if self.replicas.is_streaming() {
            self.begin_relay(offset);
        }
        self.following.begin_stream(offset, 0);
    }

    fn begin_following(&mut self) {
        self.following.phase = Phase::Waiting { until_ms: 0 };
        self.call_master();
    }

    /// REPLICAOF NO ONE: what has come of the stream is applied, and all shards tell what they do.
    pub(super) fn leave_master(&mut self) {
        self.following.master = None;
        self.following.leaves = true;
        self.note_master();
    }

    /// The way from a replica to a master, and to another master.
    pub(super) fn promote(&mut self, core: &mut Core, link: &mut dyn Link) {
        if std::mem::take(&mut self.following.leaves) {
            let was_settling = matches!(self.following.phase, Phase::Settling(_));
            let was_loading = matches!(self.following.phase, Phase::Loading(_));
            self.drop_master(link);
            self.following.down_since_ms.get_or_insert(self.now_ms);
            if self.following.master.is_none() && !was_loading {
                self.following.phase = Phase::Promoting { unfed: None };
            } else if was_settling {
                self.following.phase = Phase::Settling(Settling::default());
            } else if !was_loading {
                self.call_again(true);
            }
        }
        // A load that was under way had to end first.
        if self.following.master.is_none() && matches!(self.following.phase, Phase::Waiting { .. })
        {
            self.following.phase = Phase::Promoting { unfed: None };
        }
        if let Phase::Promoting { unfed } = self.following.phase {
            let is_still = self.following.dispatch.routes.is_idle() && !self.is_applying(core);
            match unfed {
                None if !is_still => {}
                // It has told on all the while, or there is nobody to tell.
                None if self.replicas.feeds() || !self.replicas.is_streaming() => {
                    self.be_master();
                }
                None => {
                    let epoch = self.replicas.begin_feeds(self.shards);
                    self.following.phase = Phase::Promoting {
                        unfed: Some(self.shards),
                    };
                    for node in 0..self.shards {
                        let message = Message::Feed { epoch };
                        self.mail.push((node, NodeMessage::Replicas(message)));
                    }
                }
                Some(0) => self.be_master(),
                Some(_) => {}
            }
        }
    }

    /// Whether a replica may ask now; one that steps down for this server has to wait until it has.
    pub(in crate::server) fn may_apply_as_replica(
        &mut self,
        applicant: Applicant,
    ) -> Option<Applicant> {
        if applicant.takes_over && self.following.master.is_some() {
            self.leave_master();
            let by = applicant.name();
            log::notice(&format!(
                "MASTER MODE enabled (failover request from '{by}')"
            ));
        }
        let is_promoted = matches!(self.following.phase, Phase::Promoting { .. });
        if is_promoted || self.following.leaves && self.following.master.is_none() {
            self.following.applicants.push(applicant);
            return None;
        }
        if self.following.failover.is_some() {
            let Place { node, session } = applicant.place;
            let message = Message::Drop { session };
            self.mail.push((node, NodeMessage::Replicas(message)));
            return None;
        }
        Some(applicant)
    }

    /// Tells shard 0 once nothing of this node's clients is under way: as a replica, or at its end, the
    /// server lets them begin nothing that writes.
    pub(super) fn tell_settled(&mut self, core: &Core) {
        if !self.is_settled(core) {
            return;
        }
        if std::mem::take(&mut self.settles) {
            let message = NodeMessage::Replicas(Message::Settled);
            self.mail.push((0, message));
        }
        if std::mem::take(&mut self.freezes) {
            let message = NodeMessage::Persist(persist::Message::Frozen);
            self.mail.push((0, message));
        }
        if let Some(id) = self.settles_for.take() {
            let message = NodeMessage::Persist(persist::Message::Settled { id });
            self.mail.push((0, message));
        }
    }

    /// Whether it is to be told that nothing of this node's clients is under way, and nothing is.
    pub(super) fn is_settled(&self, core: &Core) -> bool {
        let is_under_way = |it: &Session| {
            let waits = matches!(it.state, State::Hopping | State::Awaiting);
            it.key != MASTER && it.job.is_none() && waits
        };
        (self.settles || self.freezes || self.settles_for.is_some())
            && core.coordinator.pending() == 0
            && !core.sessions().any(is_under_way)
    }

    /// Nothing of a node's clients is under way.
    pub(in crate::server) fn node_is_settled(&mut self) {
        if let Phase::Settling(Settling {
            unsettled: Some(left),
            ..
        }) = &mut self.following.phase
        {
            *left = left.saturating_sub(1);
        }
    }

    /// A node tells what it does from now on.
    pub(in crate::server) fn node_is_fed(&mut self) {
        if let Phase::Promoting { unfed: Some(left) } = &mut self.following.phase {
            *left -= 1;
        }
    }

    pub(super) fn wants_promotion(&self, core: &Core) -> bool {
        match self.following.phase {
            Phase::Promoting { unfed: Some(0) } => true,
            Phase::Promoting { unfed: None } => {
                self.following.dispatch.routes.is_idle() && !self.is_applying(core)
            }
            _ => self.following.leaves,
        }
    }

    /// Nothing of the old master is left to be done.
    fn be_master(&mut self) {
        self.following.phase = Phase::Idle;
        self.following.can_continue = false;
        self.following.down_since_ms = None;
        let second = self.replicas.offset() + 1;
        self.identity.shift(second);
        log::warning(&format!(
            "Setting secondary replication ID to {}, valid up to offset: {second}. New replication \
             ID is {}",
            self.identity.second().0,
            self.identity.replid()
        ));
        self.drop_replicas();
        self.change_role(Role::Master);
        if std::mem::take(&mut self.following.resumes) {
            self.tell_nodes(|_| persist::Message::Resume(Quiet::Failover));
        }
        for requester in std::mem::take(&mut self.following.promoted) {
            persist::reply(&mut self.mail, requester, Ok(()));
        }
        for applicant in std::mem::take(&mut self.following.applicants) {
            self.replica_wants(applicant);
        }
        for (requester, args) in std::mem::take(&mut self.following.asked) {
            self.asked_meanwhile(requester, &args);
        }
    }

    fn asked_meanwhile(&mut self, requester: Requester, args: &ArgBuf) {
        let mut out = Output::default();
        let mut writer = Writer::new(&mut out, requester.proto);
        match self.replicaof(requester, &args.as_args(), &mut writer) {
            Performed::Later => return,
            Performed::Done => {}
            Performed::Failed(error) => {
                crate::server::jobs::write_error(&mut out, &requester, &error)
            }
        }
        self.reply(requester, out);
    }

    /// The link is up or down.
    pub(super) fn link_changed(&mut self, is_linked: bool) {
        self.following.down_since_ms = (!is_linked).then_some(self.now_ms);
        if self.following.master.is_some() {
            self.change_role(Role::Replica { is_linked });
        }
    }

    /// The master goes on with the stream, perhaps under another name.
    pub(super) fn go_on_with_master(&mut self, replid: Option<String>) {
        self.end_failover();
        let known = self.identity.replid();
        if let Some(replid) = replid.filter(|replid| *replid != known) {
            log::warning(&format!("Master replication ID changed to {replid}"));
            let second = self.replicas.offset() + 1;
            self.identity.rename(replid, second);
            self.drop_replicas();
        }
        let (offset, db) = (self.replicas.offset(), self.following.dispatch.db);
        if !self.replicas.relays() {
            self.begin_relay(offset);
        }
        if self.following.dispatch.offset != offset {
            self.following.begin_stream(offset, db);
        }
        self.following.forget_stream();
        self.following.phase = Phase::Online;
        self.following.opens = true;
        self.following.heard_ms = self.now_ms;
        self.link_changed(true);
        log::notice("MASTER <-> REPLICA sync: Master accepted a Partial Resynchronization.");
    }
}
