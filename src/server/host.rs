//! What a node keeps beside its core, and performing jobs: what commands ask beyond the keyspace.

mod admission;
mod nodes;
mod own;

use std::sync::Arc;
use std::time::Duration;

use super::acl::Office;
use super::ask::{Asking, NodeMessage};
use super::clients;
use super::config::Config;
use super::following::Following;
use super::gauges::Gauges;
use super::info::Identity;
use super::jobs::done;
use super::journal::{Boot, End};
use super::log;
use super::migrate::Migrations;
use super::monitor::{self, Monitors};
use super::oom::OomScore;
use super::patrol::Patrol;
use super::pauses::{HeldBack, Pauses};
use super::persist::replay;
use super::persist::segment::Segment;
use super::persist::{Part, Persistence};
use super::pubsub::Pubsub;
use super::reconfigure::Reconfigure;
use super::replicas::{Outlets, OwnWait, Replicas};
use super::slowlog::Slowlog;
use super::spikes::Spikes;
use super::stopping::{self, StopSignals};
use super::tracking::Trackers;
use crate::acl::Users;
use crate::command::errand::Parcel;
use crate::command::{Entry, Job, flags, introspection};
use crate::resp::{Args, CmdError, Output, Writer};
use crate::session::{Admission, Core, Host, Link, Performed, Refused};
use crate::shard::TxId;
use crate::shard::message::{MASTER, SessionKey};
use crate::value::limits::Limits;

/// The version whose command surface this is; clients switch features on by it. (redis-py caches on the
/// client from 7.4 on, which is also where fields of hashes began to expire.)
pub const REDIS_VERSION: &str = "7.4.0";

/// What a node keeps beside its core.
pub struct ServerHost {
    pub shard: usize,
    pub shards: usize,
    pub asking: Asking,
    /// Shard 0's alone.
    pub office: Office,
    /// Answers to who has put users into effect: they wait for what is under way by the old rules.
    pub outdated: Vec<(usize, u64)>,
    pub monitors: Monitors,
    pub pauses: Pauses,
    pub postponed: Vec<SessionKey>,
    /// Sessions that wait until other nodes have evicted keys, and how many of these.
    pub rooms: Vec<(SessionKey, usize)>,
    /// Clients that have asked to WAIT.
    pub waits: Vec<OwnWait>,
    pub(super) wait_number: u64,
    pub outlets: Outlets,
    /// Shard 0's alone.
    pub replicas: Replicas,
    /// Shard 0's alone.
    pub following: Following,
    /// Batches of a master's stream that shard 0 does not know to be carried out.
    pub followed_batches: usize,
    /// Shard 0 waits until nothing of this node's clients is under way.
    pub settles: bool,
    /// And so does this last snapshot.
    pub settles_for: Option<u32>,
    /// Errors that commands of the master had, as far as they were looked at.
    pub blamed: u64,
    /// `min-replicas-to-write`, 0 while it is off.
    pub replicas_min: usize,
    /// Shard 0's alone: nodes that have not changed their role yet.
    pub roles_awaited: usize,
    /// How far the end of this node's segment is, if the server stops.
    pub end: End,
    /// Shard 0's alone.
    pub slowlog: Slowlog,
    pub slowlog_max_len: usize,
    pub spikes: Spikes,
    pub gauges: Gauges,
    pub identity: Arc<Identity>,
    /// Shard 0's alone.
    pub reconfigure: Reconfigure,
    /// Shard 0's alone.
    pub(super) migrations: Migrations,
    pub oom_score: OomScore,
    pub patrol: Patrol,
    pub config: Arc<Config>,
    pub started_ms: i64,
    /// Wall clock of this turn, unix milliseconds.
    pub now_ms: i64,
    pub part: Part,
    pub pubsub: Pubsub,
    pub trackers: Trackers,
    /// Shard 0's alone.
    pub persistence: Persistence,
    /// What is to be loaded before anybody is served.
    pub boot: Boot,
    /// This shard's part of the append-only file.
    pub segment: Option<Segment>,
    /// Shard 0's alone.
    pub signals: StopSignals,
    /// DEBUG AOF-FLUSH-SLEEP
    pub flush_sleep: std::time::Duration,
    /// Where the last segment ended: positions go on there.
    pub journal_end: u64,
    /// When the log was last told that a master's writes do not come to the disk, unix milliseconds.
    pub(super) undurable_told_ms: i64,
    /// `repl-backlog-size`
    pub(super) backlog_max_bytes: usize,
    /// Nodes that have not opened their segments yet.
    pub opening: usize,
    /// Clients begin nothing, as everything is about to be read again; and whether shard 0 is to be told
    /// once what they have begun is over.
    pub frozen: bool,
    pub(super) freezes: bool,
    /// Nothing is begun any more.
    pub stopping: bool,
    pub limits: Limits,
    /// Sessions whose transactions snapshots and rewrites wait for.
    pub(super) transactions: Vec<SessionKey>,
    /// Messages to other nodes, sent when the callback returns.
    pub mail: Vec<(usize, NodeMessage)>,
    pub stop: Option<i32>,
    /// It starts again so long after the end that is under way.
    pub restart: Option<Duration>,
}

impl ServerHost {
    pub fn new(
        part: Part,
        shards: usize,
        config: Arc<Config>,
        identity: Arc<Identity>,
        users: Arc<Users>,
        started_ms: i64,
    ) -> ServerHost {
        let shard = part.shard();
        ServerHost {
            shard,
            shards,
            asking: Asking::default(),
            office: Office::new(users),
            outdated: Vec::new(),
            monitors: Monitors::new(shards),
            pauses: Pauses::default(),
            postponed: Vec::new(),
            rooms: Vec::new(),
            waits: Vec::new(),
            wait_number: 0,
            outlets: Outlets::default(),
            replicas: Replicas::new(shards),
            following: Following::new(shards),
            followed_batches: 0,
            settles: false,
            settles_for: None,
            blamed: 0,
            replicas_min: 0,
            roles_awaited: 0,
            end: End::default(),
            slowlog: Slowlog::default(),
            slowlog_max_len: 128,
            spikes: Spikes::default(),
            gauges: Gauges::default(),
            identity,
            reconfigure: Reconfigure::default(),
            oom_score: OomScore::default(),
            migrations: Migrations::default(),
            patrol: Patrol::default(),
            config,
            started_ms,
            now_ms: started_ms,
            part,
            pubsub: Pubsub::default(),
            trackers: Trackers::default(),
            persistence: Persistence::new(shards, started_ms),
            boot: Boot::Nothing,
            segment: None,
            signals: StopSignals::default(),
            flush_sleep: std::time::Duration::ZERO,
            journal_end: 0,
            undurable_told_ms: 0,
            backlog_max_bytes: 0,
            opening: 0,
            frozen: false,
            freezes: false,
            stopping: false,
            limits: Limits::default(),
            transactions: Vec::new(),
            mail: Vec::new(),
            stop: None,
            restart: None,
        }
    }

    /// A session is gone.
    pub fn session_closed(&mut self, core: &mut Core, session: SessionKey) {
        self.forget_subscriptions(core, session);
        self.forget_tracking(core, session);
        let before = self.monitors.here.len();
        self.monitors.here.retain(|key| *key != session);
        if self.monitors.here.len() < before {
            for node in 0..self.shards {
                self.mail.push((
                    node,
                    NodeMessage::MonitorsChanged {
                        node: self.shard,
                        delta: -1,
                    },
                ));
            }
        }
        self.postponed.retain(|key| *key != session);
        self.rooms.retain(|(key, _)| *key != session);
        // A transaction goes on, with what it holds, and is answered at once.
        if !core.is_executing(session) {
            self.forget_own_wait(session);
        }
        self.forget_replica(session);
    }
}

impl Host for ServerHost {
    fn perform(
        &mut self,
        core: &mut Core,
        link: &mut dyn Link,
        session: SessionKey,
        job: Job,
        args: &Args,
        out: &mut Output,
    ) -> Performed {
        let requester = self.requester(core, session);
        let mut writer = Writer::new(out, requester.proto);
        match job {
            Job::Auth | Job::Hello | Job::Reset => {
                self.identify(core, link, session, job, args, out)
            }
            Job::ClientInfo => {
                let me = core.session(session);
                let text = me.map(|me| clients::describe(me, core, link, &self.monitors.here));
                done(writer.verbatim("txt", (text.unwrap_or_default() + "\n").as_bytes()))
            }
            Job::ClientList
            | Job::ClientKill
            | Job::ClientPause
            | Job::ClientUnblock
            | Job::ClientUnpause => match self.start_client_job(core, link, requester, job, args) {
                Ok(performed) => performed,
                Err(error) => Performed::Failed(error),
            },
            Job::ClientTracking => self.client_tracking(core, requester, args, out),
            Job::Monitor => {
                self.monitors.here.push(session);
                self.ask_all(job, requester, args.to_buf(), None)
            }
            Job::Shutdown if stopping::waits_for_script(core, args) => {
                Performed::Failed(core.scripts.late.refusal().unwrap_or(CmdError::Syntax))
            }
            Job::Slowlog
            | Job::ConfigSet
            | Job::ConfigRewrite
            | Job::Shutdown
            | Job::Save
            | Job::BgRewriteAof
            | Job::BgSave
            | Job::Role
            | Job::LastSave => self.forward(job, requester, args, out),
            Job::Subscribe(kind) | Job::Unsubscribe(kind) => {
                let joins = matches!(job, Job::Subscribe(_));
                self.subscribe(core, link, requester, (job, kind, joins), args, out)
            }
            Job::Publish(kind) => self.publish(core, link, requester, kind, args, out),
            Job::Pubsub => done(self.pubsub_command(args, &mut writer)),
            Job::ConfigGet => done(self.config_get(args, &mut writer)),
            Job::ConfigResetStat | Job::Info => self.ask_all(job, requester, args.to_buf(), None),
            Job::Command => {
                let table = core.table.clone();
                done(introspection::command(&table, args, &mut writer))
            }
            Job::Debug => self.debug(link, requester, args, out),
            Job::Replicate => self.synchronize(core, requester, args),
            Job::ReplConf => self.replconf(requester, args, out),
            Job::Function => self.function(core, requester, args, out),
            Job::Latency => self.latency(requester, args, &mut writer),
            Job::Memory => self.memory(requester, args, &mut writer),
            _ => self.perform_simple(core, link, requester, job, args, out),
        }
    }

    fn is_watching(&self) -> bool {
        self.pauses.is_any()
            || self.frozen
            || self.monitors.any()
            || self.part.is_any_loading()
            || self.part.is_loading_beside()
            || self.part.save_failed
            || self.part.is_journal_failing()
            || self.replicas_min > 0
            || self.identity.role.is_replica()
    }

    fn admit(
        &mut self,
        core: &mut Core,
        link: &mut dyn Link,
        session: SessionKey,
        entry: &Entry,
        args: &Args,
    ) -> Admission {
        let now_ms = link.now_ms();
        if let Some(error) = self.refuses(session, entry) {
            return Admission::Refuse(error);
        }
        if session == replay::SESSION {
            return Admission::Run;
        }
        if self.is_frozen_for(session, entry) {
            self.pauses.note_frozen();
            self.postponed.push(session);
            return Admission::Postpone;
        }
        // Redis: server.c processCommand, what replicas tell is heard.
        let is_replica = core.session(session).is_some_and(|its| its.client.replica);
        if self.pauses.is_any() && !is_replica {
            const WRITES: flags::Flags = flags::WRITE | flags::MAY_REPLICATE;
            let is_held = match self.pauses.held_back(now_ms) {
                HeldBack::Nothing => false,
                HeldBack::Writes => core.flags_of(session, entry.command, args) & WRITES != 0,
                HeldBack::Everything => true,
            };
            if is_held {
                self.pauses.note_told(now_ms);
                self.postponed.push(session);
                return Admission::Postpone;
            }
        }
        Admission::Run
    }

    fn refuses(&mut self, session: SessionKey, entry: &Entry) -> Option<CmdError> {
        match session {
            replay::SESSION => None,
            MASTER => {
                self.mind_disk(entry.command);
                None
            }
            _ => self.refusal(session, entry.command),
        }
    }

    fn is_loading(&self) -> bool {
        self.part.is_any_loading()
    }

    fn is_loading_beside(&self) -> bool {
        self.part.is_loading_beside()
    }

    fn replica_asked(&mut self, core: &Core, link: &dyn Link, session: SessionKey, entry: &Entry) {
        self.tell_of_invalid_use(core, link, session, entry);
    }

    fn refuses_reads(&self, session: SessionKey) -> Option<CmdError> {
        self.refuses_as_stale(session)
    }

    fn refuses_writes(&self, session: SessionKey) -> Option<CmdError> {
        if matches!(session, replay::SESSION | MASTER) {
            return None;
        }
        self.disk_error()
            .or_else(|| self.lacks_replicas())
            .or_else(|| self.refuses_as_replica(session))
    }

    fn show(
        &mut self,
        core: &mut Core,
        link: &mut dyn Link,
        session: SessionKey,
        entry: &Entry,
        args: &Args,
    ) {
        let is_shown = entry.command.flags & (flags::SKIP_MONITOR | flags::ADMIN) == 0;
        if is_shown && self.monitors.any() {
            self.show_monitors(core, link, session, args);
        }
    }

    fn refused(
        &mut self,
        core: &mut Core,
        link: &mut dyn Link,
        session: SessionKey,
        refused: &Refused,
    ) {
        self.note_refusal(core, link, session, refused);
    }

    fn show_script(
        &mut self,
        core: &mut Core,
        link: &mut dyn Link,
        session: SessionKey,
        args: &Args,
        inner_db: Option<u32>,
    ) {
        let Some(session) = core.session(session).filter(|_| self.monitors.any()) else {
            return;
        };
        let line = match inner_db {
            Some(db) => monitor::line(link.now_us(), db, monitor::OF_SCRIPT, args),
            None => {
                let addr = monitor::address(&session.peer);
                monitor::line(link.now_us(), session.client.db, &addr, args)
            }
        };
        self.tell_monitors(line);
    }

    fn want_room(&mut self, session: SessionKey) -> bool {
        if self.shards == 1 {
            return false;
        }
        let others = (0..self.shards).filter(|&node| node != self.shard);
        self.mail
            .extend(others.map(|node| (node, NodeMessage::WantRoom { session })));
        self.rooms.push((session, self.shards - 1));
        true
    }

    fn emptied(&mut self, core: &Core, session: SessionKey) -> bool {
        self.awaits_nothing(core, session)
    }

    fn tell_own(&mut self, core: &mut Core, link: &mut dyn Link, session: SessionKey) {
        self.invalidate_own(core, link, session);
    }

    fn errand(&mut self, _core: &mut Core, _link: &mut dyn Link, work: TxId, parcel: Parcel) {
        self.migrate(work, parcel);
    }

    fn log(&mut self, level: u8, text: &[u8]) {
        let level = match level {
            0 => log::Level::Debug,
            1 => log::Level::Verbose,
            2 => log::Level::Notice,
            _ => log::Level::Warning,
        };
        log::write(level, &String::from_utf8_lossy(text));
    }

    fn slow(
        &mut self,
        core: &mut Core,
        link: &mut dyn Link,
        session: SessionKey,
        args: &Args,
        spent_ns: u64,
    ) {
        let Some(session) = core.session(session) else {
            return;
        };
        let whose = (session.peer.addr(), &*session.client.name);
        self.log_slow(&core.table, args, spent_ns, whose, link.now_us());
    }

    fn slow_in_script(&mut self, core: &mut Core, link: &mut dyn Link, args: &Args, spent_ns: u64) {
        // Redis: the client of scripts has no connection, and is shown so.
        let whose = ("?:0".into(), &b""[..]);
        self.log_slow(&core.table, args, spent_ns, whose, link.now_us());
    }
}
