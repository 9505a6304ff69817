//! Jobs that take other nodes: questions to all of them, and what only shard 0 knows.

use std::sync::Arc;

use super::super::acl::Installing;
use super::super::ask::{
    Collecting, Contribution, Forwarded, NodeMessage, Question, Requester, parts_of,
};
use super::super::clients::{self, Selection, Unblock};
use super::super::config::Config;
use super::super::info::{self, Context, Detail, NodeFigures};
use super::super::jobs::{self, done, write_error};
use super::super::memory::Memory;
use super::super::pauses::Pause;
use super::super::{debug, functions, persist, pubsub, settings};
use super::ServerHost;
use crate::acl::Users;
use crate::command::Job;
use crate::command::tracking::Wish;
use crate::keyspace::tracking::Reader;
use crate::resp::{ArgBuf, Args, CmdError, CmdResult, Output, Writer};
use crate::session::{Core, Link, Performed};
use crate::shard::message::{MASTER, SessionKey};
use crate::shard::seen::Sight;

impl ServerHost {
    pub(in crate::server) fn requester(&self, core: &Core, key: SessionKey) -> Requester {
        let session = core.session(key);
        if let Some(visit) = core.visitor(key) {
            return Requester {
                shard: self.shard,
                session: key,
                client_id: visit.client_id,
                proto: visit.proto,
                db: visit.db,
                is_local: false,
                in_exec: false,
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
            in_exec: core.is_executing(key),
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
    pub(in crate::server) fn forward(
        &mut self,
        job: Job,
        requester: Requester,
        args: &Args,
        out: &mut Output,
    ) -> Performed {
        if waits_for_exec(job, requester) {
            self.transactions.push(requester.session);
        }
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

    /// Tells shard 0 which of the transactions that it waits for are over.
    pub fn tell_of_transactions(&mut self, core: &Core) {
        let mail = &mut self.mail;
        self.transactions.retain(|&session| {
            let goes_on = core.is_executing(session);
            if !goes_on {
                mail.push((0, NodeMessage::Persist(persist::Message::TransactionOver)));
            }
            goes_on
        });
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
        self.reply_seeing(requester, out, Some(core.shard.sight()));
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
        if waits_for_exec(job, requester) {
            self.persistence.transactions += 1;
        }
        match job {
            Job::ConfigSet => self.config_set(requester, args),
            Job::Acl => self.acl_authority(requester, args, &mut writer),
            Job::ConfigRewrite => done(self.config_rewrite(false, &mut writer)),
            Job::Shutdown => self.shutdown(requester, args, &mut writer),
            Job::BgRewriteAof => self.bgrewriteaof(requester, &mut writer),
            Job::Role => done(self.role(&mut writer)),
            Job::Failover => self.failover(args, &mut writer),
            Job::Replication => self.replicaof(requester, args, &mut writer),
            Job::Save | Job::BgSave | Job::LastSave => {
                self.save_command(job, requester, args, &mut writer)
            }
            Job::Debug if args.is(1, "config-rewrite-force-all") => {
                done(self.config_rewrite(true, &mut writer))
            }
            Job::Debug if args.is(1, "restart") || args.is(1, "crash-and-recover") => {
                self.debug_restart(requester, args)
            }
            Job::Debug if args.is(1, "loadaof") => self.load_journal_again(requester, &mut writer),
            Job::Debug if args.is(1, "replicate") => done(self.debug_replicate(args, &mut writer)),
            Job::Debug => self.reload(requester, args, &mut writer),
            _ => done(self.slowlog.command(args, &mut writer)),
        }
    }

    /// Sends a late reply to whoever asked.
    pub fn reply(&mut self, requester: Requester, out: Output) {
        self.reply_seeing(requester, out, None);
    }

    fn reply_seeing(&mut self, requester: Requester, out: Output, sight: Option<Sight>) {
        let Requester { shard, session, .. } = requester;
        self.mail.push((
            shard,
            NodeMessage::Reply {
                session,
                out: Box::new(out),
                sight,
            },
        ));
    }

    /// The same with a reply that always fits.
    pub fn reply_with(
        &mut self,
        requester: Requester,
        write: impl FnOnce(&mut Writer) -> CmdResult,
    ) {
        let mut out = Output::default();
        let written = write(&mut Writer::new(&mut out, requester.proto));
        debug_assert!(written.is_ok(), "a short reply fits");
        self.reply(requester, out);
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
                let unblock = question.prepared::<Unblock>();
                let unblocked = unblock.is_some_and(|whom| self.unblock(core, link, *whom));
                return Box::new(i64::from(unblocked));
            }
            Job::ClientPause => {
                if let Some(pause) = question.prepared::<Pause>() {
                    self.pauses.pause(*pause, link.now_ms());
                    self.mind_pause(core, link.now_ms());
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
            // The end of this turn minds it.
            Job::ClientUnpause => self.pauses.unpause(),
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
                self.replicas.reset_counters();
                jobs::reset_stats(core);
            }
            Job::ScriptKill | Job::Function => {}
            Job::Debug => return self.debug_part(core, &args, question.requester.db),
            Job::Latency if args.is(1, "reset") => return Box::new(self.spikes.reset(&args)),
            Job::Latency if !args.is(1, "histogram") => return Box::new(self.spikes.clone()),
            _ => return Box::new(self.figures(core, link, question)),
        }
        Box::new(())
    }

    fn figures(&self, core: &Core, link: &dyn Link, question: &Question) -> NodeFigures {
        let commands = match question.job {
            Job::Info => match info::detail(&question.args.as_args()) {
                Detail::Totals => core.shard.stats.without_latencies(false),
                Detail::Counts => core.shard.stats.without_latencies(true),
                Detail::Latencies => core.shard.stats.clone(),
            },
            _ => core.shard.stats.clone(),
        };
        let mut figures = NodeFigures::of(core, link, &self.gauges, commands);
        let unwritten = self.segment.as_ref().map(|segment| segment.pending_bytes());
        // Redis: replicas are no clients there.
        figures.sessions -= self.outlets.count().min(figures.sessions);
        // Nor is what repeats a master's stream beside shard 0, whose session stands for the link.
        let beside = core.session(MASTER).filter(|its| its.client.id == 0);
        figures.sessions -= usize::from(beside.is_some());
        figures.aof_buffer_bytes = unwritten.unwrap_or(0) as usize;
        figures.kept_lines = self.migrations.kept();
        if self.shard == 0 {
            figures.blocked += self.persistence.stoppers.len();
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
                let bytes = lines.iter().map(|(_, line)| line.len() + 1).sum();
                let mut text = String::with_capacity(bytes);
                lines
                    .iter()
                    .for_each(|(_, line)| text.extend([line.as_str(), "\n"]));
                writer.verbatim("txt", text.as_bytes())
            }
            Job::ClientKill => match parts_of::<i64>(parts).sum() {
                killed if question.args.len() > 3 => writer.int(killed),
                0 => Err(CmdError::Text("ERR No such client")),
                _ => writer.ok(),
            },
            Job::ScriptKill | Job::Function => {
                functions::running(core, question.job, &question.args.as_args(), &mut writer)
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
}

/// Whether a job in a transaction may have begun a snapshot or a rewrite, which waits for the end of that.
fn waits_for_exec(job: Job, requester: Requester) -> bool {
    requester.in_exec && matches!(job, Job::ConfigSet | Job::BgRewriteAof | Job::BgSave)
}
