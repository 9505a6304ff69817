//! ACL: shows users, and changes them on every core at once.
//!
//! Shard 0 makes each change, one after the other, and every core has it in effect before the client
//! has its reply. What is shown comes from the asking core, which has all changes that were replied to.

mod files;
mod showing;

use std::sync::Arc;

pub use files::{at_start, config_lines};

use super::ask::{NodeMessage, Question, Requester};
use super::clients;
use super::host::ServerHost;
use super::jobs::done;
use crate::acl::{Context, Denial, Log, Reason, Users};
use crate::command::help::help;
use crate::command::{Job, acl as command_acl};
use crate::resp::{Args, CmdError, CmdResult, Output, Writer};
use crate::session::{Core, Link, Performed, Refused};
use crate::shard::message::SessionKey;

const NO_FILE: CmdError = CmdError::Text(
    "ERR This Redis instance is not configured to use an ACL file. You may want to specify users via \
     the ACL SETUSER command and then issue a CONFIG REWRITE (assuming you have a Redis configuration \
     file set) in order to store users in the Redis configuration.",
);
/// What shard 0 alone keeps of users.
pub struct Office {
    /// The users as the last change left them; some cores may not have heard of it yet.
    pub users: Arc<Users>,
    pub log: Log,
}

impl Office {
    pub fn new(users: Arc<Users>) -> Office {
        Office {
            users,
            log: Log::default(),
        }
    }
}

/// What comes with the question that puts users into effect: how many ACL DELUSER removed.
pub struct Installing {
    pub users: Arc<Users>,
    pub removed: Option<usize>,
}

impl ServerHost {
    /// ACL and its subcommands.
    pub(super) fn acl(
        &mut self,
        core: &Core,
        requester: Requester,
        args: &Args,
        out: &mut Output,
    ) -> Performed {
        let mut writer = Writer::new(out, requester.proto);
        let users = &core.users;
        done(match args.get(1).to_ascii_lowercase().as_slice() {
            b"setuser" | b"deluser" | b"load" | b"save" | b"log" => {
                return self.forward(Job::Acl, requester, args, out);
            }
            b"whoami" => {
                let user = core
                    .session(requester.session)
                    .and_then(|its| its.user.as_ref());
                match user {
                    Some(user) => writer.bulk(&user.name),
                    None => writer.null(),
                }
            }
            b"users" => showing::names(users, &mut writer),
            b"list" => showing::list(users, &mut writer),
            b"getuser" => match users.get(args.get(2)) {
                Some(user) => showing::show(user, users, &mut writer),
                None => writer.null(),
            },
            b"cat" => showing::category(&core.table, args, &mut writer),
            b"genpass" => showing::generate_password(args, &mut writer),
            b"dryrun" => showing::dry_run(core, args, &mut writer),
            _ => help(&mut writer, args, command_acl::HELP),
        })
    }

    /// On shard 0: what changes users, and the log.
    pub(super) fn acl_authority(
        &mut self,
        requester: Requester,
        args: &Args,
        out: &mut Writer,
    ) -> Performed {
        let users = self.office.users.clone();
        let all_channels = self.config.text("acl-pubsub-default") == "allchannels";
        let path = self.config.text("aclfile");
        match args.get(1).to_ascii_lowercase().as_slice() {
            b"log" => done(self.acl_log(args, out)),
            b"setuser" => {
                let rules: Vec<&[u8]> = args.iter().skip(3).collect();
                match users.set(args.get(2), &rules, all_channels) {
                    Ok(users) => self.install_users(users, None, requester, args),
                    Err(error) => Performed::Failed(error),
                }
            }
            b"deluser" => {
                if args
                    .iter()
                    .skip(2)
                    .any(|name| name == crate::acl::DEFAULT_USER)
                {
                    let error = CmdError::Text("ERR The 'default' user cannot be removed");
                    return Performed::Failed(error);
                }
                let (users, removed) = users.without(args.iter().skip(2));
                self.install_users(users, Some(removed), requester, args)
            }
            _ if path.is_empty() => Performed::Failed(NO_FILE),
            b"save" => done(files::save(path, &users).and_then(|()| out.ok())),
            _ => match files::load(path, &users, all_channels) {
                Ok(users) => self.install_users(users, None, requester, args),
                Err(errors) => Performed::Failed(CmdError::quoting(&[b"ERR ", &errors])),
            },
        }
    }

    /// Puts users into effect everywhere; the reply follows.
    fn install_users(
        &mut self,
        users: Users,
        removed: Option<usize>,
        requester: Requester,
        args: &Args,
    ) -> Performed {
        let users = Arc::new(users);
        self.office.users = users.clone();
        let installing = Installing { users, removed };
        self.ask_all(
            Job::Acl,
            requester,
            args.to_buf(),
            Some(Box::new(installing)),
        )
    }

    /// Puts users into effect on this core. Those who listen to channels that they no longer may are
    /// closed, and those whose users are gone; `asker`, a client's id, after its reply.
    pub(super) fn take_users(
        &mut self,
        core: &mut Core,
        link: &mut dyn Link,
        users: &Arc<Users>,
        asker: u64,
    ) {
        if Arc::ptr_eq(&core.users, users) {
            return;
        }
        for key in self.forbidden_listeners(core, users) {
            match core.session_mut(key) {
                Some(session) if session.client.id == asker => session.client.closing = true,
                _ => core.abandon(key, link),
            }
        }
        core.install_users(users, asker, link);
        core.end_forbidden_waits(link, self);
        self.patrol.set_strangers(users.requires_auth());
    }

    /// Whose commands were checked by rules that are no more is done with them: from here on nothing
    /// takes effect that is not allowed, and who changed the rules is told. A transaction is told at
    /// once: such commands may be waiting for its end.
    pub fn tell_of_users(&mut self, core: &Core) {
        if self.outdated.is_empty() || core.has_outdated() {
            return;
        }
        for (origin, id) in self.outdated.drain(..) {
            let part = Box::new(());
            self.mail.push((origin, NodeMessage::Answer { id, part }));
        }
    }

    /// Clients of this core that listen to what their users may no longer hear.
    fn forbidden_listeners(&self, core: &Core, users: &Users) -> Vec<SessionKey> {
        let mut forbidden = Vec::new();
        for key in self.pubsub.listening() {
            let Some(before) = core.session(key).and_then(|its| its.user.as_ref()) else {
                continue;
            };
            let Some(now) = users.get(&before.name).filter(|now| now.id == before.id) else {
                continue;
            };
            if !Arc::ptr_eq(now, before)
                && !now.keeps_channels_of(before)
                && !self
                    .pubsub
                    .hears_only(key, |name, is_pattern| now.allows_channel(name, is_pattern))
            {
                forbidden.push(key);
            }
        }
        forbidden
    }

    /// All cores have the users: the reply.
    pub(super) fn users_installed(&self, question: &Question, out: &mut Writer) -> CmdResult {
        let removed = question.prepared().and_then(|its: &Installing| its.removed);
        match removed {
            Some(removed) => out.int(removed as i64),
            None => out.ok(),
        }
    }

    /// `ACL LOG [count | RESET]`
    fn acl_log(&mut self, args: &Args, out: &mut Writer) -> CmdResult {
        const SHOWN: usize = 10;
        match args.len() {
            2 => self.office.log.write(SHOWN, self.now_ms, out),
            3 if args.is(2, "reset") => {
                self.office.log.clear();
                out.ok()
            }
            3 => {
                let count = usize::try_from(args.int(2)?).unwrap_or(0);
                self.office.log.write(count, self.now_ms, out)
            }
            _ => Err(CmdError::subcommand(args)),
        }
    }

    /// Somebody did not know a user's password.
    pub(super) fn note_wrong_password(
        &mut self,
        core: &mut Core,
        link: &mut dyn Link,
        key: SessionKey,
        user: &[u8],
        args: &Args,
    ) {
        let refused = Refused {
            reason: Reason::Auth,
            context: match core.is_executing(key) {
                true => Context::Multi,
                false => Context::Toplevel,
            },
            object: args.name(),
            user: Some(user),
        };
        self.note_refusal(core, link, key, &refused);
    }

    /// Notes a refusal: counted here, and in shard 0's log.
    pub(super) fn note_refusal(
        &mut self,
        core: &mut Core,
        link: &mut dyn Link,
        key: SessionKey,
        refused: &Refused,
    ) {
        core.counters.refused[refused.reason as usize] += 1;
        let Some(session) = core.session(key) else {
            return;
        };
        let own = session.user.as_ref().map_or(&[][..], |user| &user.name);
        let client = clients::describe(session, core, link, &self.monitors.here);
        let denial = Denial {
            reason: refused.reason,
            context: refused.context,
            object: refused.object.to_vec(),
            user: refused.user.unwrap_or(own).to_vec(),
            client: client.into_bytes(),
            at_ms: link.now_ms(),
        };
        match self.shard {
            0 => self.log_denial(denial),
            _ => self.mail.push((0, NodeMessage::Denied(Box::new(denial)))),
        }
    }

    /// On shard 0: adds to the log.
    pub(super) fn log_denial(&mut self, denial: Denial) {
        let max_len = usize::try_from(self.config.int("acllog-max-len")).unwrap_or(0);
        self.office.log.push(denial, max_len);
    }
}
