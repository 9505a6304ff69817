//! ACL: shows users, and changes them on every core at once.
//!
//! Shard 0 makes each change, one after the other, and every core has it in effect before the client
//! has its reply. What is shown comes from the asking core, which has all changes that were replied to.

use std::io::Read;
use std::sync::Arc;

use super::ask::{NodeMessage, Question, Requester};
use super::clients;
use super::config::Config;
use super::host::ServerHost;
use super::jobs::done;
use super::log;
use super::monitor::quote;
use crate::acl::{Context, Denial, Log, Reason, User, Users, is_valid_name};
use crate::command::connection::help;
use crate::command::{Job, Table, acl as command_acl, flags};
use crate::resp::{Args, CmdError, CmdResult, Output, Writer};
use crate::session::{Core, Link, Performed, Refused};
use crate::shard::message::SessionKey;

const NO_FILE: CmdError = CmdError::Text(
    "ERR This Redis instance is not configured to use an ACL file. You may want to specify users via \
     the ACL SETUSER command and then issue a CONFIG REWRITE (assuming you have a Redis configuration \
     file set) in order to store users in the Redis configuration.",
);
const NOT_SAVED: CmdError = CmdError::Text(
    "ERR There was an error trying to save the ACLs. Please check the server logs for more information",
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
            b"users" => names(users, &mut writer),
            b"list" => list(users, &mut writer),
            b"getuser" => match users.get(args.get(2)) {
                Some(user) => show(user, users, &mut writer),
                None => writer.null(),
            },
            b"cat" => category(&core.table, args, &mut writer),
            b"genpass" => generate_password(args, &mut writer),
            b"dryrun" => dry_run(core, args, &mut writer),
            _ => help(&mut writer, "ACL", command_acl::HELP),
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
            b"save" => done(save(path, &users).and_then(|()| out.ok())),
            _ => match load(path, &users, all_channels) {
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
            _ => Err(CmdError::subcommand("ACL", args.get(1))),
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

fn names(users: &Users, out: &mut Writer) -> CmdResult {
    out.array(users.iter().len())?;
    users.iter().try_for_each(|user| out.bulk(&user.name))
}

fn list(users: &Users, out: &mut Writer) -> CmdResult {
    out.array(users.iter().len())?;
    let mut lines = users.iter().map(|user| user.line(users.catalog()));
    lines.try_for_each(|line| out.bulk(&line))
}

/// ACL GETUSER
fn show(user: &User, users: &Users, out: &mut Writer) -> CmdResult {
    let permissions = user.permissions(users.catalog());
    let flags = user.flags();
    out.map(6)?;
    out.bulk(b"flags")?;
    out.set(flags.len())?;
    flags
        .iter()
        .try_for_each(|flag| out.bulk(flag.as_bytes()))?;
    out.bulk(b"passwords")?;
    out.array(user.passwords().len())?;
    user.passwords()
        .try_for_each(|password| out.bulk(password))?;
    let mut selectors = permissions.iter();
    if let Some(root) = selectors.next() {
        show_selector(root, out)?;
    }
    out.bulk(b"selectors")?;
    out.array(selectors.len())?;
    selectors.try_for_each(|selector| {
        out.map(3)?;
        show_selector(selector, out)
    })
}

fn show_selector(texts: &[Vec<u8>; 3], out: &mut Writer) -> CmdResult {
    let names = ["commands", "keys", "channels"];
    names.iter().zip(texts).try_for_each(|(name, text)| {
        out.bulk(name.as_bytes())?;
        out.bulk(text)
    })
}

/// `ACL CAT [category]`
fn category(table: &Table, args: &Args, out: &mut Writer) -> CmdResult {
    let all = flags::CATEGORY_NAMES;
    let names: Vec<String> = match args.len() {
        2 => all.iter().map(|(_, name)| (*name).to_owned()).collect(),
        3 => {
            let wanted = args.get(2);
            let known = all
                .iter()
                .find(|(_, name)| wanted.eq_ignore_ascii_case(name.as_bytes()));
            let Some((bit, _)) = known else {
                const QUOTED_MAX_BYTES: usize = 128;
                let quoted = &wanted[..wanted.len().min(QUOTED_MAX_BYTES)];
                return Err(CmdError::quoting(&[
                    b"ERR Unknown category '",
                    quoted,
                    b"'",
                ]));
            };
            let entries = table.entries().iter();
            entries
                .filter(|entry| entry.command.categories() & bit != 0)
                .map(|entry| entry.full_name())
                .collect()
        }
        _ => return Err(CmdError::subcommand("ACL", args.get(1))),
    };
    out.array(names.len())?;
    names.iter().try_for_each(|name| out.bulk(name.as_bytes()))
}

/// `ACL GENPASS [bits]`: hexadecimal digits from the kernel's source of chance.
fn generate_password(args: &Args, out: &mut Writer) -> CmdResult {
    const BITS_MAX: i64 = 4096;
    let bits = match args.len() {
        2 => 256,
        3 => args.int(2)?,
        _ => return Err(CmdError::subcommand("ACL", args.get(1))),
    };
    if !(1..=BITS_MAX).contains(&bits) {
        return Err(CmdError::Text(
            "ERR ACL GENPASS argument must be the number of bits for the output password, a \
             positive number up to 4096",
        ));
    }
    let digits = (bits as usize).div_ceil(4);
    let mut bytes = vec![0; digits.div_ceil(2)];
    let read = std::fs::File::open("/dev/urandom").and_then(|mut file| file.read_exact(&mut bytes));
    if read.is_err() {
        return Err(CmdError::Text(
            "ERR the kernel's source of chance cannot be read",
        ));
    }
    let text: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    out.bulk(&text.as_bytes()[..digits])
}

/// `ACL DRYRUN user command [arg ...]`
fn dry_run(core: &Core, args: &Args, out: &mut Writer) -> CmdResult {
    let Some(user) = core.users.get(args.get(2)) else {
        return Err(CmdError::quoting(&[
            b"ERR User '",
            args.get(2),
            b"' not found",
        ]));
    };
    let request = args.from(3);
    let Some(entry) = core.table.named(&request) else {
        return Err(CmdError::quoting(&[
            b"ERR Command '",
            request.get(0),
            b"' not found",
        ]));
    };
    let name = entry.full_name();
    if !entry.command.accepts(request.len()) {
        return Err(CmdError::arity(&name));
    }
    let Err(denied) = user.check(entry, &request) else {
        return out.ok();
    };
    let (before, object, after): (&[u8], &[u8], &[u8]) = match denied.reason {
        Reason::Command => (b"run", name.as_bytes(), b"command"),
        Reason::Key => (b"access", request.get(denied.at), b"key"),
        _ => (b"access", request.get(denied.at), b"channel"),
    };
    let words = [
        b"This user has no permissions to ",
        before,
        b" the '",
        object,
        b"' ",
        after,
    ];
    out.bulk(&words.concat())
}

/// The users as `user` lines of redis.conf.
pub fn config_lines(users: &Users) -> Vec<String> {
    let is_plain = |word: &[u8]| {
        let plain = |byte: &u8| byte.is_ascii_graphic() && !matches!(byte, b'"' | b'\'');
        word.iter().all(plain)
    };
    let one = |user: &Arc<User>| {
        let mut line = Vec::new();
        for word in user.line(users.catalog()).split(|&byte| byte == b' ') {
            if !line.is_empty() {
                line.push(b' ');
            }
            match is_plain(word) {
                true => line.extend_from_slice(word),
                false => quote(word, &mut line),
            }
        }
        String::from_utf8_lossy(&line).into_owned()
    };
    users.iter().map(one).collect()
}

/// The users that a configuration begins with. Blocks on the disk.
///
/// # Errors
/// Why there cannot be any, as the log is told.
pub fn at_start(config: &Config, table: &Table) -> Result<Users, String> {
    let path = config.text("aclfile");
    if !path.is_empty() && !config.users.is_empty() {
        return Err(
            "Configuring Redis with users defined in redis.conf and at the same setting an ACL file \
             path is invalid. This setup is very likely to lead to configuration errors and security \
             holes, please define either an ACL file or declare users directly in your redis.conf, \
             but not both."
                .to_owned(),
        );
    }
    let all_channels = config.text("acl-pubsub-default") == "allchannels";
    let password = config.text("requirepass").as_bytes();
    let mut users = Users::new(table).with_default_password(password);
    for (name, rules) in &config.users {
        let shown = String::from_utf8_lossy(name);
        if !is_valid_name(name) {
            return Err("Spaces not allowed in ACL usernames".to_owned());
        }
        users = users
            .with_configured(name, rules, all_channels)
            .map_err(|(rule, error)| {
                let rule = String::from_utf8_lossy(&rule);
                format!("Error loading ACL rule '{rule}' for the user named '{shown}': {error}")
            })?;
        if users.get(name).is_some_and(|user| !user.is_on()) {
            log::notice(&format!(
                "The user '{shown}' is disabled (there is no 'on' modifier in the user description). \
                 Make sure this is not a configuration error."
            ));
        }
    }
    if path.is_empty() {
        return Ok(users);
    }
    load(path, &users, all_channels).map_err(|errors| {
        let errors = String::from_utf8_lossy(&errors);
        format!("Aborting Redis startup because of ACL errors: {errors}")
    })
}

/// Reads the users of the ACL file. Blocks on the disk.
pub fn load(path: &str, users: &Users, all_channels: bool) -> Result<Users, Vec<u8>> {
    let text = std::fs::read(path).map_err(|error| {
        let reason = super::config::system_words(&error);
        format!("Error loading ACLs, opening file '{path}': {reason}").into_bytes()
    })?;
    users.from_file(path, &text, all_channels)
}

/// Writes the ACL file: whole, or not at all. Blocks on the disk.
fn save(path: &str, users: &Users) -> CmdResult {
    let path = std::path::Path::new(path);
    super::config::replace_file(path, &users.file_text()).map_err(|error| {
        log::warning(&format!(
            "Writing ACL file for ACL SAVE: {}",
            super::config::system_words(&error)
        ));
        NOT_SAVED
    })
}
