//! Jobs that need no other node, and what monitors are shown.

use std::sync::Arc;

use super::super::ask::{NodeMessage, Requester};
use super::super::auth::{self, Failure, Greeting};
use super::super::clients::{Selection, Unblock};
use super::super::jobs::done;
use super::super::monitor;
use super::super::pauses::Pause;
use super::{REDIS_VERSION, ServerHost};
use crate::command::Job;
use crate::resp::{ArgBuf, Args, CmdError, CmdResult, Output, Writer};
use crate::session::{Core, Link, Performed};
use crate::shard::message::SessionKey;

impl ServerHost {
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

    pub(super) fn start_client_job(
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

    /// Jobs that need nobody else.
    pub(super) fn perform_simple(
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
            Job::Failover => self.forward(job, requester, args, out),
            Job::Replication => self.ask_replicaof(core, link, requester, args, out),
            Job::WaitAof => self.wait_aof(core, requester, args),
            Job::Wait => self.wait(core, requester, args),
            Job::ScriptKill => self.about_running(core, job, requester, args, out),
            Job::Time => done(self.time(link, &mut writer)),
            _ => Performed::Failed(CmdError::Text("ERR not supported by this server")),
        }
    }

    pub(super) fn identify(
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

    pub(super) fn show_monitors(
        &mut self,
        core: &Core,
        link: &dyn Link,
        session: SessionKey,
        args: &Args,
    ) {
        let Some(session) = core.session(session) else {
            return;
        };
        let shown = monitor::without_secrets(&core.table, args);
        let args = shown.as_ref().map_or(*args, ArgBuf::as_args);
        let addr = monitor::address(&session.peer);
        let line = monitor::line(link.now_us(), session.client.db, &addr, &args);
        self.tell_monitors(line);
    }

    pub(super) fn tell_monitors(&mut self, line: Vec<u8>) {
        let line: Arc<[u8]> = line.into();
        for node in self.monitors.nodes() {
            self.mail.push((node, NodeMessage::Monitor(line.clone())));
        }
    }
}
