//! Performs jobs: what commands ask beyond the keyspace.

use std::sync::Arc;

use super::acl::{Installing, Office};
use super::ask::{
    Asking, Collecting, Contribution, Forwarded, NodeMessage, Question, Requester, parts_of,
};
use super::auth::{self, Failure, Greeting};
use super::clients::{self, Pause, Selection, Unblock};
use super::config::Config;
use super::debug;
use super::following::Following;
use super::gauges::Gauges;
use super::info::{self, Context, Identity, NodeFigures};
use super::jobs::{self, done, write_error};
use super::journal::{self, Boot};
use super::log;
use super::memory::Memory;
use super::migrate::Migrations;
use super::monitor::{self, Monitors};
use super::oom::OomScore;
use super::patrol::Patrol;
use super::persist::replay;
use super::persist::segment::Segment;
use super::persist::{Part, Persistence};
use super::pubsub::{self, Pubsub};
use super::reconfigure::Reconfigure;
use super::replicas::{Outlets, Replicas};
use super::saves::{self, MISCONF, StopSignals};
use super::settings;
use super::slowlog::{self, Slowlog};
use super::spikes::Spikes;
use super::tracking::Trackers;
use super::waitaof::AofWaits;
use crate::acl::Users;
use crate::command::errand::Parcel;
use crate::command::tracking::Wish;
use crate::command::{Command, Entry, Job, flags, introspection};
use crate::keyspace::tracking::Reader;
use crate::resp::{ArgBuf, Args, CmdError, CmdResult, Output, Writer};
use crate::session::{Admission, Core, Host, Link, Performed, Refused};
use crate::shard::message::{MASTER, SessionKey};
use crate::value::limits::Limits;

/// The version whose command surface this is; clients switch features on by it. (redis-py caches on the
/// client from 7.4 on, which is also where fields of hashes began to expire.)
pub const REDIS_VERSION: &str = "7.4.0";

/// Redis: server.c, shared.noreplicaserr.
const NO_REPLICAS: CmdError = CmdError::Text("NOREPLICAS Not enough good replicas to write.");

/// What a node keeps beside its core.
pub struct ServerHost {
    pub shard: usize,
    pub shards: usize,
    pub asking: Asking,
    /// Shard 0's alone.
    pub office: Office,
    pub monitors: Monitors,
    pub pause: Pause,
    pub postponed: Vec<SessionKey>,
    /// Sessions that wait until other nodes have evicted keys, and how many of these.
    pub rooms: Vec<(SessionKey, usize)>,
    /// Clients that have asked to WAIT.
    pub waits: Vec<SessionKey>,
    pub outlets: Outlets,
    /// Shard 0's alone.
    pub replicas: Replicas,
    /// Shard 0's alone.
    pub following: Following,
    /// Batches of a master's stream that shard 0 does not know to be carried out.
    pub followed_batches: usize,
    /// Shard 0 waits until nothing of this node's clients is under way.
    pub settles: bool,
    /// `min-replicas-to-write`, 0 while it is off.
    pub replicas_min: usize,
    /// Shard 0's alone: nodes that have not changed their role yet.
    pub roles_awaited: usize,
    pub aof_waits: AofWaits,
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
    /// Nodes that have not opened their segments yet.
    pub opening: usize,
    /// Who asked for DEBUG LOADAOF, and nodes that are not ready for it yet.
    pub reloading: Option<(Requester, usize)>,
    /// Nothing is begun any more.
    pub stopping: bool,
    pub limits: Limits,
    /// Messages to other nodes, sent when the callback returns.
    pub mail: Vec<(usize, NodeMessage)>,
    pub stop: Option<i32>,
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
            monitors: Monitors::new(shards),
            pause: Pause::default(),
            postponed: Vec::new(),
            rooms: Vec::new(),
            waits: Vec::new(),
            outlets: Outlets::default(),
            replicas: Replicas::new(shards),
            following: Following::new(shards),
            followed_batches: 0,
            settles: false,
            replicas_min: 0,
            roles_awaited: 0,
            aof_waits: AofWaits::default(),
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
            opening: 0,
            reloading: None,
            stopping: false,
            limits: Limits::default(),
            mail: Vec::new(),
            stop: None,
        }
    }

    fn requester(&self, core: &Core, key: SessionKey) -> Requester {
        let session = core.session(key);
        if let Some(visit) = core.visitor(key) {
            return Requester {
                shard: self.shard,
                session: key,
                client_id: visit.client_id,
                proto: visit.proto,
                db: visit.db,
                is_local: false,
            };
        }
        let client = session.map(|session| &session.client);
        Requester {
            shard: self.shard,
            session: key,
            client_id: client.map_or(0, |client| client.id),
            proto: client.map(|client| client.proto).unwrap_or_default(),
            db: client.map_or(0, |client| client.db),
            is_local: session.is_some_and(|session| session.peer.is_local()),
        }
    }

    /// Asks every node, this one included; the reply follows when all have answered.
    pub fn ask_all(
        &mut self,
        job: Job,
        requester: Requester,
        args: ArgBuf,
        extra: Option<Box<dyn std::any::Any + Send + Sync>>,
    ) -> Performed {
        let question = Arc::new(Question {
            job,
            requester,
            args,
            extra,
        });
        let id = self.asking.begin(question.clone(), self.shards);
        for node in 0..self.shards {
            let question = question.clone();
            self.mail.push((
                node,
                NodeMessage::Ask {
                    id,
                    origin: self.shard,
                    question,
                },
            ));
        }
        Performed::Later
    }

    /// Performs the job here if this is shard 0, else sends it there.
    pub(super) fn forward(
        &mut self,
        job: Job,
        requester: Requester,
        args: &Args,
        out: &mut Output,
    ) -> Performed {
        if self.shard == 0 {
            return self.authority(job, requester, args, out);
        }
        let forwarded = Forwarded {
            requester,
            job,
            args: args.to_buf(),
        };
        self.mail
            .push((0, NodeMessage::Forward(Box::new(forwarded))));
        Performed::Later
    }

    /// A job that arrived at shard 0 from another node.
    pub fn forwarded(&mut self, core: &mut Core, forwarded: Forwarded) {
        let Forwarded {
            requester,
            job,
            args,
        } = forwarded;
        let mut out = Output::default();
        let args = args.as_args();
        let performed = match job {
            Job::Function => self.function(core, requester, &args, &mut out),
            _ => self.authority(job, requester, &args, &mut out),
        };
        match performed {
            Performed::Later => return,
            Performed::Done => {}
            Performed::Failed(error) => write_error(&mut out, &requester, &error),
        }
        self.reply(requester, out);
    }

    /// What only shard 0 knows.
    fn authority(
        &mut self,
        job: Job,
        requester: Requester,
        args: &Args,
        out: &mut Output,
    ) -> Performed {
        let mut writer = Writer::new(out, requester.proto);
        match job {
            Job::ConfigSet => self.config_set(requester, args),
            Job::Acl => self.acl_authority(requester, args, &mut writer),
            Job::ConfigRewrite => done(self.config_rewrite(false, &mut writer)),
            Job::Shutdown => self.shutdown(requester, args, &mut writer),
            Job::BgRewriteAof => self.bgrewriteaof(&mut writer),
            Job::Role => done(self.role(&mut writer)),
            Job::Replication if args.is(0, "failover") => self.failover(args, &mut writer),
            Job::Replication => self.replicaof(requester, args, &mut writer),
            Job::Save | Job::BgSave | Job::LastSave => {
                self.save_command(job, requester, args, &mut writer)
            }
            Job::Debug if args.is(1, "config-rewrite-force-all") => {
                done(self.config_rewrite(true, &mut writer))
            }
            Job::Debug if args.is(1, "loadaof") => self.load_journal_again(requester),
            Job::Debug if args.is(1, "replicate") => done(self.debug_replicate(args, &mut writer)),
            Job::Debug => self.reload(requester, args),
            _ => done(self.slowlog.command(args, &mut writer)),
        }
    }

    /// Sends a late reply to whoever asked.
    pub fn reply(&mut self, requester: Requester, out: Output) {
        let Requester { shard, session, .. } = requester;
        self.mail.push((
            shard,
            NodeMessage::Reply {
                session,
                out: Box::new(out),
            },
        ));
    }

    /// This node's part of a question.
    pub fn contribute(
        &mut self,
        core: &mut Core,
        link: &mut dyn Link,
        origin: usize,
        question: &Question,
    ) -> Contribution {
        let args = question.args.as_args();
        match question.job {
            Job::ClientList => {
                let all = Selection::default();
                let selection = question.prepared().unwrap_or(&all);
                return Box::new(clients::list(core, link, selection, &self.monitors.here));
            }
            Job::ClientKill => {
                let me = question.requester.client_id;
                let killed = question
                    .prepared::<Selection>()
                    .map_or(0, |selection| clients::kill(core, link, selection, me));
                return Box::new(killed);
            }
            Job::ClientUnblock => {
                let unblocked = question.prepared::<Unblock>().is_some_and(|unblock| {
                    core.unblock(unblock.client_id, unblock.with_error, link, self)
                });
                return Box::new(i64::from(unblocked));
            }
            Job::ClientPause => {
                if let Some(pause) = question.prepared::<Pause>() {
                    self.pause.merge(*pause, link.now_ms());
                }
            }
            Job::Subscribe(_) | Job::Unsubscribe(_) => {
                if let Some(change) = question.prepared::<pubsub::Change>() {
                    self.listen(core, origin, change);
                }
            }
            Job::ClientTracking => {
                let wish = question.prepared::<Wish>();
                let target = wish.and_then(|wish| self.track(core, origin, wish));
                return Box::new(target);
            }
            Job::ClientUnpause => self.pause = Pause::default(),
            Job::Monitor => self.monitors.everywhere[origin] += 1,
            Job::ConfigSet => {
                if let Some((config, users)) = question.prepared::<(Arc<Config>, Arc<Users>)>() {
                    self.config = config.clone();
                    self.take_users(core, link, users, question.requester.client_id);
                    settings::install(config, core, self);
                }
            }
            Job::Acl => {
                if let Some(Installing { users, .. }) = question.prepared() {
                    self.take_users(core, link, users, question.requester.client_id);
                }
            }
            Job::ConfigResetStat => {
                self.gauges.reset();
                jobs::reset_stats(core);
            }
            Job::Debug => return self.debug_part(core, &args, question.requester.db),
            Job::Latency if args.is(1, "reset") => return Box::new(self.spikes.reset(&args)),
            Job::Latency if !args.is(1, "histogram") => return Box::new(self.spikes.clone()),
            _ => return Box::new(self.figures(core, link)),
        }
        Box::new(())
    }

    /// Why a command is not for this server as it is now.
    fn refusal(&self, session: SessionKey, command: &Command) -> Option<CmdError> {
        let flags = command.flags;
        let is_replica = self.identity.role.is_replica();
        if is_replica
            && command.is_write()
            && let Some(error) = self.refuses_as_replica(session)
        {
            return Some(error);
        }
        if is_replica
            && flags & flags::STALE == 0
            && let Some(error) = self.refuses_as_stale(session)
        {
            return Some(error);
        }
        if flags & flags::LOADING == 0 && self.part.is_any_loading() {
            return Some(CmdError::Loading);
        }
        let is_told = command.is_write() || command.name == "ping";
        if is_told && self.part.is_journal_failing() {
            return Some(journal::misconf(&self.part.journal_failure()));
        }
        if is_told && self.is_misconfigured() {
            return Some(MISCONF);
        }
        self.lacks_replicas().filter(|_| command.is_write())
    }

    /// Why a master with too few replicas takes no writes.
    fn lacks_replicas(&self) -> Option<CmdError> {
        let is_short = self.part.good_replicas() < self.replicas_min;
        (is_short && !self.identity.role.is_replica()).then_some(NO_REPLICAS)
    }

    fn figures(&self, core: &Core, link: &dyn Link) -> NodeFigures {
        let mut figures = NodeFigures::of(core, link, &self.gauges);
        let unwritten = self.segment.as_ref().map(|segment| segment.pending_bytes());
        figures.replica_bytes = self.outlets.unsent_bytes(link);
        figures.aof_buffer_bytes = unwritten.unwrap_or(0) as usize;
        figures.kept_lines = self.migrations.kept();
        if self.shard == 0 {
            figures.pubsub = self.pubsub.figures();
            figures.files = Some(self.file_figures());
            figures.replicas = Some(self.replica_figures());
        }
        figures
    }

    /// All nodes have answered: the reply.
    pub fn collected(&mut self, core: &mut Core, link: &mut dyn Link, collecting: Collecting) {
        let (table, now_ms) = (&*core.table.clone(), self.now_ms);
        let Collecting {
            question, parts, ..
        } = collecting;
        let mut out = Output::default();
        if let Job::Subscribe(_) | Job::Unsubscribe(_) = question.job {
            self.subscribed(core, link, &question, &mut out);
            // No message that comes meanwhile gets before the reply.
            let session = question.requester.session;
            core.answer(session, &out, link, self);
            return;
        }
        let mut writer = Writer::new(&mut out, question.requester.proto);
        let result = match question.job {
            Job::ClientList => {
                let mut lines: Vec<(u64, String)> = parts_of(parts)
                    .flat_map(|part: Vec<(u64, String)>| part)
                    .collect();
                lines.sort_unstable_by_key(|(id, _)| *id);
                let text: String = lines.into_iter().map(|(_, line)| line + "\n").collect();
                writer.verbatim("txt", text.as_bytes())
            }
            Job::ClientKill => {
                let killed: i64 = parts_of::<i64>(parts).sum();
                if question.args.len() > 3 {
                    writer.int(killed)
                } else if killed > 0 {
                    writer.ok()
                } else {
                    Err(CmdError::Text("ERR No such client"))
                }
            }
            Job::Acl => self.users_installed(&question, &mut writer),
            Job::ClientUnblock => writer.int(parts_of::<i64>(parts).sum()),
            Job::ClientTracking => {
                let target = parts_of::<Option<Reader>>(parts).flatten().next();
                self.tracking_agreed(core, &question, target, &mut writer)
            }
            Job::Info => {
                let nodes: Vec<NodeFigures> = parts_of(parts).collect();
                let context = Context {
                    table,
                    config: &self.config,
                    started_ms: self.started_ms,
                    now_ms,
                    now_us: link.now_us(),
                    shards: self.shards,
                    identity: &self.identity,
                };
                let text = info::render(&question.args.as_args(), &nodes, &context);
                writer.verbatim("txt", text.as_bytes())
            }
            Job::Debug => debug::told(&question.args.as_args(), parts, &mut writer),
            Job::Memory => {
                let nodes: Vec<NodeFigures> = parts_of(parts).collect();
                Memory::of(&nodes).reply(&question.args.as_args(), &mut writer)
            }
            Job::Latency => self.latency_told(&question.args.as_args(), parts, table, &mut writer),
            _ => writer.ok(),
        };
        if let Err(error) = result {
            write_error(&mut out, &question.requester, &error);
        }
        self.reply(question.requester, out);
    }

    /// A node asks for memory: keys are evicted, and told of before the answer.
    pub fn make_room(
        &mut self,
        core: &mut Core,
        link: &mut dyn Link,
        from: usize,
        session: SessionKey,
    ) {
        core.shard.make_room(link.now_ms());
        if !core.shard.keyspace.effects.events.is_empty() {
            self.notify(core, link);
        }
        if core.shard.keyspace.effects.tracking.has_news() {
            self.invalidate(core);
        }
        self.mail.push((from, NodeMessage::MadeRoom { session }));
    }

    /// A node has evicted what it could. Returns whether all have.
    pub fn made_room(&mut self, session: SessionKey) -> bool {
        let Some(at) = self.rooms.iter().position(|(key, _)| *key == session) else {
            return false;
        };
        self.rooms[at].1 -= 1;
        let is_all = self.rooms[at].1 == 0;
        if is_all {
            self.rooms.swap_remove(at);
        }
        is_all
    }

    /// Sessions that CLIENT PAUSE held back and that may go on now.
    pub fn unpaused(&mut self, now_ms: i64) -> Vec<SessionKey> {
        if self.postponed.is_empty() || self.pause.is_active(now_ms) {
            return Vec::new();
        }
        std::mem::take(&mut self.postponed)
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
        self.forget_own_wait(session);
        self.forget_replica(session);
        self.aof_waits.forget(session);
    }

    fn time(&self, link: &dyn Link, out: &mut Writer) -> CmdResult {
        // The clock itself: a script may measure how long it takes.
        let frozen = link.now_us() == 0;
        let now_us = if frozen {
            0
        } else {
            crate::runtime::clock::now().unix_us
        };
        out.array(2)?;
        out.bulk_int(now_us / 1_000_000)?;
        out.bulk_int(now_us % 1_000_000)
    }

    fn start_client_job(
        &mut self,
        core: &Core,
        link: &dyn Link,
        requester: Requester,
        job: Job,
        args: &Args,
    ) -> Result<Performed, CmdError> {
        let extra: Option<Box<dyn std::any::Any + Send + Sync>> = match job {
            Job::ClientList => Some(Box::new(Selection::of_list(args)?)),
            Job::ClientKill => {
                let selection = Selection::of_kill(args, requester.client_id, &core.users)?;
                Some(Box::new(selection))
            }
            Job::ClientUnblock => Some(Box::new(Unblock::parse(args)?)),
            Job::ClientPause => Some(Box::new(Pause::parse(args, link.now_ms())?)),
            _ => None,
        };
        debug_assert!(core.session(requester.session).is_some());
        Ok(self.ask_all(job, requester, args.to_buf(), extra))
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
            Job::Shutdown if saves::waits_for_script(core, args) => {
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
            Job::Replicate => self.replicate(core, requester, args, out),
            Job::Function => self.function(core, requester, args, out),
            Job::Latency => self.latency(requester, args, &mut writer),
            Job::Memory => self.memory(requester, args, &mut writer),
            _ => self.perform_simple(core, link, requester, job, args, out),
        }
    }

    fn is_watching(&self) -> bool {
        self.pause.until_ms != 0
            || self.monitors.any()
            || self.part.is_any_loading()
            || self.part.save_failed
            || self.part.is_journal_failing()
            || self.replicas_min > 0
            || self.identity.role.is_replica()
    }

    fn admit(
        &mut self,
        _core: &mut Core,
        link: &mut dyn Link,
        session: SessionKey,
        entry: &Entry,
        _args: &Args,
    ) -> Admission {
        let now_ms = link.now_ms();
        let flags = entry.command.flags;
        if session == replay::SESSION {
            return Admission::Run;
        }
        if session != MASTER
            && let Some(error) = self.refusal(session, entry.command)
        {
            return Admission::Refuse(error);
        }
        if self.pause.until_ms != 0 {
            if !self.pause.is_active(now_ms) {
                self.pause = Pause::default();
            } else if !self.pause.writes_only || flags & (flags::WRITE | flags::MAY_REPLICATE) != 0
            {
                self.postponed.push(session);
                return Admission::Postpone;
            }
        }
        Admission::Run
    }

    fn refuses_reads(&self, session: SessionKey) -> Option<CmdError> {
        self.refuses_as_stale(session)
    }

    fn refuses_writes(&self, session: SessionKey) -> Option<CmdError> {
        if matches!(session, replay::SESSION | MASTER) {
            return None;
        }
        if self.part.is_journal_failing() {
            return Some(journal::misconf(&self.part.journal_failure()));
        }
        if self.is_misconfigured() {
            return Some(MISCONF);
        }
        self.lacks_replicas()
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

    fn tell_own(&mut self, core: &mut Core, link: &mut dyn Link, session: SessionKey) {
        self.invalidate_own(core, link, session);
    }

    fn errand(&mut self, _core: &mut Core, _link: &mut dyn Link, work: u64, parcel: Parcel) {
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
        let shown = monitor::without_secrets(&core.table, args);
        let entry = slowlog::Entry::new(
            link.now_us() / 1_000_000,
            spent_ns,
            &shown.as_ref().map_or(*args, ArgBuf::as_args),
            session.peer.addr(),
            &session.client.name,
        );
        if self.shard == 0 {
            return self.slowlog.push(entry, self.slowlog_max_len);
        }
        self.mail.push((0, NodeMessage::Slow(Box::new(entry))));
    }
}

impl ServerHost {
    /// Jobs that need nobody else.
    fn perform_simple(
        &mut self,
        core: &Core,
        link: &dyn Link,
        requester: Requester,
        job: Job,
        args: &Args,
        out: &mut Output,
    ) -> Performed {
        let mut writer = Writer::new(out, requester.proto);
        match job {
            Job::Lolwut => done(self.lolwut(&mut writer)),
            Job::Acl => self.acl(core, requester, args, out),
            Job::Cluster => Performed::Failed(CmdError::Text(
                "ERR This instance has cluster support disabled",
            )),
            Job::Module => done(self.module(requester.is_local, args, &mut writer)),
            Job::Replication if args.is(0, "failover") => self.forward(job, requester, args, out),
            Job::Replication => self.ask_replicaof(core, link, requester, args, out),
            Job::WaitAof => self.wait_aof(core, requester, args, &mut writer),
            Job::Wait => self.wait(core, requester, args),
            Job::Time => done(self.time(link, &mut writer)),
            _ => Performed::Failed(CmdError::Text("ERR not supported by this server")),
        }
    }

    fn identify(
        &mut self,
        core: &mut Core,
        link: &mut dyn Link,
        session: SessionKey,
        job: Job,
        args: &Args,
        out: &mut Output,
    ) -> Performed {
        if job == Job::Reset {
            core.forget_transaction(session, link);
            self.session_closed(core, session);
        }
        let users = core.users.clone();
        let Some(its) = core.session_mut(session) else {
            return Performed::Done;
        };
        let proto = its.client.proto;
        let greeting = Greeting {
            role: self.identity.role.get().name(),
            version: REDIS_VERSION,
        };
        let failure = match job {
            Job::Auth => auth::auth(its, &users, args, &mut Writer::new(out, proto)),
            Job::Hello => auth::hello(its, &users, &greeting, args, out),
            _ => auth::reset(its, &users, &mut Writer::new(out, proto)),
        };
        let Err(failure) = failure else {
            return Performed::Done;
        };
        if let Failure::Wrong { user } = &failure {
            self.note_wrong_password(core, link, session, user, args);
        }
        Performed::Failed(failure.error())
    }

    fn show_monitors(&mut self, core: &Core, link: &dyn Link, session: SessionKey, args: &Args) {
        let Some(session) = core.session(session) else {
            return;
        };
        let shown = monitor::without_secrets(&core.table, args);
        let args = shown.as_ref().map_or(*args, ArgBuf::as_args);
        let addr = monitor::address(&session.peer);
        let line = monitor::line(link.now_us(), session.client.db, &addr, &args);
        self.tell_monitors(line);
    }

    fn tell_monitors(&mut self, line: Vec<u8>) {
        let line: Arc<[u8]> = line.into();
        for node in self.monitors.nodes() {
            self.mail.push((node, NodeMessage::Monitor(line.clone())));
        }
    }
}
