//! What clients may do: every request of a user with limits is checked against the rules of that user,
//! as they are when it is made, and again when a transaction is carried out.

use std::sync::Arc;

use super::core::Core;
use super::link::{Host, Link};
use super::requests::Next;
use super::state::{Session, State};
use crate::acl::{Context, Denied, Reason, User, Users};
use crate::command::transaction::Transaction;
use crate::command::{Command, CommandId, Run, flags, generic, keys};
use crate::resp::{Args, CmdError, Output, Proto, Writer};
use crate::shard::message::{HopCall, Request, SessionKey};

/// Somebody tried what is not allowed.
pub struct Refused<'a> {
    pub reason: Reason,
    pub context: Context,
    /// The command, key or channel.
    pub object: &'a [u8],
    /// Who it was, if not the session's user.
    pub user: Option<&'a [u8]>,
}

impl Session {
    /// From now on the client is this user; `None`: it is the server itself, which may do everything.
    pub fn set_user(&mut self, user: Option<Arc<User>>) {
        self.is_limited = user.as_ref().is_some_and(|user| !user.is_unlimited());
        self.user = user;
    }
}

impl Core {
    /// Puts other users into effect. Clients whose users are gone are closed; `asker`, a client's id,
    /// has its reply before that.
    pub fn install_users(&mut self, users: &Arc<Users>, asker: u64, link: &mut dyn Link) {
        self.users = users.clone();
        let mut gone = Vec::new();
        for session in self.sessions_mut() {
            let Some(user) = &session.user else { continue };
            match users.get(&user.name).filter(|now| now.id == user.id) {
                Some(now) => {
                    let changes = !Arc::ptr_eq(now, user);
                    session.set_user(Some(now.clone()));
                    session.is_outdated |= changes && session.is_limited;
                }
                None => {
                    // What it has begun goes on as it was.
                    session.client.authenticated = false;
                    match session.client.id == asker {
                        true => session.client.closing = true,
                        false => gone.push(session.key),
                    }
                }
            }
        }
        for key in gone {
            self.abandon(key, link);
        }
    }

    /// What is in the way of a request that was looked up: nothing, if its reply is the next thing to
    /// do. A request of a client that has not authenticated is refused, and one beyond its rules.
    pub(super) fn refuse_request(
        &mut self,
        key: SessionKey,
        (command, id): (&Command, CommandId),
        args: &Args,
        hopping: bool,
        link: &mut dyn Link,
        host: &mut dyn Host,
    ) -> Option<Next> {
        let session = self.session(key)?;
        let (is_stranger, in_multi) = (!self.knows(session), session.multi.is_some());
        let error = if is_stranger && command.flags & flags::NO_AUTH == 0 {
            CmdError::NoAuth
        } else {
            let context = match in_multi {
                true => Context::Multi,
                false => Context::Toplevel,
            };
            let denied = self.denied(key, id, args)?;
            if let Some(session) = self.session_mut(key) {
                session.last_command = Some(id);
            }
            if !hopping {
                self.tell_refused(key, id, args, (denied, context), link, host);
            }
            no_permission(denied.reason, &self.table.entry(id).full_name())
        };
        if hopping {
            return Some(Next::Again);
        }
        self.count_rejected(id);
        self.spoil_transaction(key);
        Some(match command.run {
            Run::Transaction(Transaction::Exec) => self.exec_refused(key, &error, link),
            _ => self.reply_error(key, &error, link),
        })
    }

    /// Whether a client has authenticated, or need not.
    pub(super) fn knows(&self, session: &Session) -> bool {
        session.client.authenticated || !self.users.requires_auth()
    }

    /// Why a session's user may not do this.
    fn denied(&self, key: SessionKey, id: CommandId, args: &Args) -> Option<Denied> {
        let user = self.limits_of(key)?;
        user.check(self.table.entry(id), args).err()
    }

    /// The user whose rules limit what a session does, also if its connection is gone.
    pub(super) fn limits_of(&self, key: SessionKey) -> Option<&User> {
        let user = match self.session(key) {
            Some(session) if !session.is_limited => None,
            Some(session) => session.user.as_ref(),
            None => self.orphans.get(&key),
        };
        user.map(|user| &**user)
    }

    /// A connection goes away: what is being carried out for it stays within its limits.
    pub(super) fn keep_limits(&mut self, key: SessionKey) {
        let execs = &self.execs;
        self.orphans.retain(|key, _| execs.contains_key(key));
        let session = self.session(key).filter(|session| session.is_limited);
        let user = session.and_then(|session| session.user.clone());
        if let Some(user) = user.filter(|_| self.is_executing(key)) {
            self.orphans.insert(key, user);
        }
    }

    fn tell_refused(
        &mut self,
        key: SessionKey,
        id: CommandId,
        args: &Args,
        (denied, context): (Denied, Context),
        link: &mut dyn Link,
        host: &mut dyn Host,
    ) {
        let name = self.table.entry(id).full_name();
        let object = match denied.reason {
            Reason::Command => name.as_bytes(),
            _ => args.get(denied.at),
        };
        let refused = Refused {
            reason: denied.reason,
            context,
            object,
            user: None,
        };
        host.refused(self, link, key, &refused);
    }

    /// Why a command of a transaction may not run although it was queued. Redis: multi.c execCommand.
    pub(super) fn refuse_in_exec(
        &mut self,
        key: SessionKey,
        call: HopCall,
        args: &Args,
        link: &mut dyn Link,
        host: &mut dyn Host,
    ) -> Option<CmdError> {
        self.limits_of(key)?;
        let Some(denied) = self.denied(key, call.id, args) else {
            return self.refuse_sort(key, call.id, args);
        };
        self.tell_refused(key, call.id, args, (denied, Context::Multi), link, host);
        let reason = match denied.reason {
            Reason::Command => "no permission to execute the command or subcommand",
            Reason::Key => "no permission to touch the specified keys",
            _ => "no permission to access one of the channels used as arguments",
        };
        Some(CmdError::owned(format!(
            "NOPERM ACLs rules changed between the moment the transaction was accumulated and the \
             EXEC call. This command is no longer allowed for the following reason: {reason}"
        )))
    }

    /// Why a script's command may not run. Redis: script.c scriptVerifyACL.
    pub(super) fn refuse_in_script(
        &mut self,
        key: SessionKey,
        id: CommandId,
        args: &Args,
        link: &mut dyn Link,
        host: &mut dyn Host,
    ) -> Option<CmdError> {
        self.limits_of(key)?;
        let Some(denied) = self.denied(key, id, args) else {
            return self.refuse_sort(key, id, args);
        };
        self.tell_refused(key, id, args, (denied, Context::Script), link, host);
        let reason = match denied.reason {
            Reason::Command => "can't run this command or subcommand",
            Reason::Key => {
                "can't access at least one of the keys mentioned in the command arguments"
            }
            _ => "can't publish to the channel mentioned in the command",
        };
        Some(CmdError::owned(format!(
            "ERR The user executing the script {reason}"
        )))
    }

    /// SORT reads keys that its arguments do not name: who may not read all keys may not ask for that.
    /// Redis: sort.c sortCommandGeneric.
    pub(super) fn refuse_sort(
        &self,
        key: SessionKey,
        id: CommandId,
        args: &Args,
    ) -> Option<CmdError> {
        let user = self.limits_of(key)?;
        let entry = self.table.entry(id);
        if !matches!(entry.command.name, "sort" | "sort_ro") {
            return None;
        }
        let option = generic::pattern_option(args)?;
        let is_allowed = user.allows_with_every_key(entry, args, keys::ACCESS);
        (!is_allowed).then(|| {
            CmdError::owned(format!(
                "ERR {option} option of SORT denied due to insufficient ACL permissions."
            ))
        })
    }

    /// redis.acl_check_cmd: whether the user who runs a script might run a command.
    pub(super) fn check_from_script(&self, key: SessionKey, args: &Args) -> Output {
        let mut out = Output::default();
        let mut writer = Writer::new(&mut out, Proto::Resp3);
        let written = match self.table.named(args) {
            None => writer.error(&CmdError::Text(
                "ERR Invalid command passed to redis.acl_check_cmd()",
            )),
            Some(entry) => writer.bool(self.denied(key, entry.id, args).is_none()),
        };
        debug_assert!(written.is_ok());
        out
    }

    /// Whether a command that was checked before its hop left may not run any more.
    pub(super) fn refuses_in_hop(
        &mut self,
        key: SessionKey,
        id: CommandId,
        args: &Args,
        link: &mut dyn Link,
        host: &mut dyn Host,
    ) -> bool {
        let Some(denied) = self.denied(key, id, args) else {
            return self.refuse_sort(key, id, args).is_some();
        };
        self.tell_refused(key, id, args, (denied, Context::Toplevel), link, host);
        true
    }

    /// Whether something under way was checked by rules that have changed since. What is carried out
    /// of a transaction or a script here is checked command by command.
    pub fn has_outdated(&self) -> bool {
        let is_under_way = |its: &Session| {
            let waits = matches!(its.state, State::Hopping | State::Awaiting);
            waits && its.job.is_none() && !self.is_executing(its.key)
        };
        self.sessions()
            .any(|its| its.is_outdated && is_under_way(its))
    }

    /// Ends the waits of clients whose users may no longer touch what they wait for.
    ///
    // Differs: A client that waits for keys is refused as soon as its user may no longer touch them.
    pub fn end_forbidden_waits(&mut self, link: &mut dyn Link, host: &mut dyn Host) {
        let limited = self.sessions().filter(|session| session.is_limited);
        let waiting: Vec<(SessionKey, Arc<Request>)> = limited
            .filter_map(|its| Some((its.key, its.wait.as_ref()?.request.clone())))
            .collect();
        for (key, request) in waiting {
            self.end_forbidden_wait(key, &request, link, host);
        }
    }

    /// The same for one that waits.
    pub(super) fn end_forbidden_wait(
        &mut self,
        key: SessionKey,
        request: &Request,
        link: &mut dyn Link,
        host: &mut dyn Host,
    ) {
        let (id, args) = (request.call.id, request.args.as_args());
        let Some(denied) = self.denied(key, id, &args) else {
            return;
        };
        let error = no_permission(denied.reason, &self.table.entry(id).full_name());
        self.tell_refused(key, id, &args, (denied, Context::Toplevel), link, host);
        self.end_wait_with(key, &error, link, host);
    }
}

/// Redis: server.c processCommand.
fn no_permission(reason: Reason, command: &str) -> CmdError {
    CmdError::NoPerm(
        match reason {
            Reason::Command => {
                format!("NOPERM this user has no permissions to run the '{command}' command")
            }
            Reason::Key => {
                "NOPERM this user has no permissions to access one of the keys used as arguments"
                    .to_owned()
            }
            _ => {
                "NOPERM this user has no permissions to access one of the channels used as arguments"
                    .to_owned()
            }
        }
        .into(),
    )
}
