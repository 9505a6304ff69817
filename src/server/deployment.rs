//! Users, modules, functions, replicas and clusters, as far as there are any: one user, no module, no
//! function, no replica, no cluster. Tools ask about them all the same, and get true answers.

use std::io::Read;

use sha2::{Digest, Sha256};

use super::ask::Requester;
use super::host::ServerHost;
use super::jobs::done;
use crate::command::connection::help;
use crate::command::{Job, Table, flags};
use crate::resp::{ArgBuf, Args, CmdError, CmdResult, Output, Writer};
use crate::session::{Core, Performed};

const DEFAULT_USER: &[u8] = b"default";

/// Rules that say what the default user may do anyhow.
const GRANTED: [&str; 8] = [
    "on",
    "~*",
    "allkeys",
    "&*",
    "allchannels",
    "+@all",
    "allcommands",
    "sanitize-payload",
];

impl ServerHost {
    /// ACL and its subcommands.
    pub(super) fn acl(
        &mut self,
        core: &Core,
        requester: Requester,
        args: &Args,
        out: &mut Output,
    ) -> Performed {
        if args.is(1, "setuser") {
            return match self.rules(args) {
                Ok(None) => done(Writer::new(out, requester.proto).ok()),
                Ok(Some(password)) => {
                    let words: [&[u8]; 4] = [b"CONFIG", b"SET", b"requirepass", &password];
                    let request: ArgBuf = words.into_iter().collect();
                    self.forward(Job::ConfigSet, requester, &request.as_args(), out)
                }
                Err(error) => Performed::Failed(error),
            };
        }
        done(self.acl_here(core, args, &mut Writer::new(out, requester.proto)))
    }

    fn acl_here(&self, core: &Core, args: &Args, out: &mut Writer) -> CmdResult {
        match args.get(1).to_ascii_lowercase().as_slice() {
            b"whoami" => out.bulk(DEFAULT_USER),
            b"users" => {
                out.array(1)?;
                out.bulk(DEFAULT_USER)
            }
            b"list" => {
                out.array(1)?;
                let password = match self.password_digest() {
                    Some(digest) => format!("#{digest}"),
                    None => "nopass".to_owned(),
                };
                out.bulk(format!("user default on {password} ~* &* +@all").as_bytes())
            }
            b"getuser" if args.get(2) == DEFAULT_USER => self.default_user(out),
            b"getuser" => out.null(),
            b"cat" => category(&core.table, args, out),
            b"genpass" => generate_password(args, out),
            b"log" => acl_log(args, out),
            b"deluser" => {
                if args.iter().skip(2).any(|name| name == DEFAULT_USER) {
                    return Err(CmdError::Text("ERR The 'default' user cannot be removed"));
                }
                out.int(0)
            }
            b"dryrun" => dry_run(&core.table, args, out),
            b"load" | b"save" => Err(CmdError::Text(
                "ERR This Redis instance is not configured to use an ACL file. You may want to \
                 specify users via the ACL SETUSER command and then issue a CONFIG REWRITE \
                 (assuming you have a Redis configuration file set) in order to store users in the \
                 Redis configuration.",
            )),
            _ => acl_help(out),
        }
    }

    /// SHA-256 of the default user's password, as ACL shows it.
    fn password_digest(&self) -> Option<String> {
        let password = &self.passwords.default_user;
        self.passwords.required().then(|| {
            let digest = Sha256::digest(password);
            digest.iter().map(|byte| format!("{byte:02x}")).collect()
        })
    }

    fn default_user(&self, out: &mut Writer) -> CmdResult {
        let digest = self.password_digest();
        out.map(6)?;
        out.bulk(b"flags")?;
        out.set(if digest.is_some() { 1 } else { 2 })?;
        out.bulk(b"on")?;
        if digest.is_none() {
            out.bulk(b"nopass")?;
        }
        out.bulk(b"passwords")?;
        out.array(usize::from(digest.is_some()))?;
        if let Some(digest) = digest {
            out.bulk(digest.as_bytes())?;
        }
        for (name, rule) in [("commands", "+@all"), ("keys", "~*"), ("channels", "&*")] {
            out.bulk(name.as_bytes())?;
            out.bulk(rule.as_bytes())?;
        }
        out.bulk(b"selectors")?;
        out.array(0)
    }

    /// What ACL SETUSER asks for: nothing new, or another password (empty: none). There is one user
    /// who may do everything: rules that say otherwise are refused, as nobody would keep them.
    fn rules(&self, args: &Args) -> Result<Option<Vec<u8>>, CmdError> {
        let name = args.get(2);
        if name
            .iter()
            .any(|byte| *byte == 0 || byte.is_ascii_whitespace())
        {
            return Err(CmdError::Text(
                "ERR Usernames can't contain spaces or null characters",
            ));
        }
        if name != DEFAULT_USER {
            return Err(CmdError::Text(
                "ERR ACL SETUSER: users other than 'default' are not supported by this server",
            ));
        }
        let mut password = None;
        for rule in args.iter().skip(3) {
            let is_granted = GRANTED
                .iter()
                .any(|known| rule.eq_ignore_ascii_case(known.as_bytes()));
            match rule {
                _ if is_granted => {}
                [b'>', rest @ ..] if password.is_none() && !self.passwords.required() => {
                    password = Some(rest.to_vec());
                }
                rule if rule.eq_ignore_ascii_case(b"nopass") => password = Some(Vec::new()),
                rule => {
                    return Err(CmdError::owned(format!(
                        "ERR Error in ACL SETUSER modifier '{}': {}",
                        String::from_utf8_lossy(rule),
                        if is_rule(rule) {
                            "Not supported by this server: its user may do everything, with one \
                             password at most"
                        } else {
                            "Syntax error"
                        }
                    )));
                }
            }
        }
        Ok(password.filter(|password| *password != self.passwords.default_user))
    }

    /// MODULE and its subcommands. There are no modules.
    pub(super) fn module(&self, is_local: bool, args: &Args, out: &mut Writer) -> CmdResult {
        if args.is(1, "list") {
            return out.array(0);
        }
        if args.is(1, "help") {
            return help(
                out,
                "MODULE",
                &[
                    ("LIST", "Show the modules: there are none."),
                    ("LOAD <path> [<arg> ...]", "Not supported."),
                    ("LOADEX <path> [<option> ...]", "Not supported."),
                    ("UNLOAD <name>", "Not supported."),
                ],
            );
        }
        let allowed = self.config.allows("enable-module-command", is_local);
        Err(CmdError::Text(if !allowed {
            "ERR MODULE command not allowed. If the enable-module-command option is set to \
             \"local\", you can run it from a local connection, otherwise you need to set this \
             option in the configuration file, and then restart the server."
        } else if args.is(1, "unload") {
            "ERR Error unloading module: no such module with that name"
        } else {
            "ERR Error loading the extension. Please check the server logs."
        }))
    }

    /// REPLICAOF, SLAVEOF and FAILOVER of a master without replicas.
    pub(super) fn replication(&self, args: &Args, out: &mut Writer) -> CmdResult {
        if args.is(0, "failover") {
            return Err(failover(args));
        }
        if args.is(1, "no") && args.is(2, "one") {
            return out.ok();
        }
        match args.int(2) {
            Ok(0..=65_535) => Err(CmdError::Text(
                "ERR this server cannot be a replica: replication is not supported yet",
            )),
            _ => Err(CmdError::Text("ERR Invalid master port")),
        }
    }
}

/// Whether Redis would know an ACL rule.
fn is_rule(rule: &[u8]) -> bool {
    const WORDS: [&str; 12] = [
        "off",
        "reset",
        "resetpass",
        "resetkeys",
        "resetchannels",
        "nocommands",
        "clearselectors",
        "skip-sanitize-payload",
        "sanitize-payload",
        "nopass",
        "on",
        "allkeys",
    ];
    let is_word = WORDS
        .iter()
        .any(|word| rule.eq_ignore_ascii_case(word.as_bytes()));
    is_word
        || matches!(
            rule.first(),
            Some(b'+' | b'-' | b'~' | b'%' | b'&' | b'>' | b'<' | b'#' | b'!' | b'(')
        )
}

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
                return Err(CmdError::owned(format!(
                    "ERR Unknown category '{}'",
                    String::from_utf8_lossy(wanted)
                )));
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
        _ => return Err(CmdError::Syntax),
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

/// Nobody is ever refused by a rule, so the log is empty.
fn acl_log(args: &Args, out: &mut Writer) -> CmdResult {
    match args.len() {
        2 => out.array(0),
        3 if args.is(2, "reset") => out.ok(),
        3 => {
            args.int(2)?;
            out.array(0)
        }
        _ => Err(CmdError::Syntax),
    }
}

fn dry_run(table: &Table, args: &Args, out: &mut Writer) -> CmdResult {
    if args.get(2) != DEFAULT_USER {
        return Err(CmdError::owned(format!(
            "ERR User '{}' not found",
            String::from_utf8_lossy(args.get(2))
        )));
    }
    let request = args.from(3);
    match table.lookup(&request) {
        crate::command::Lookup::Found(_) => out.ok(),
        crate::command::Lookup::Error(error @ CmdError::Arity(_)) => Err(error),
        crate::command::Lookup::Error(_) => Err(CmdError::owned(format!(
            "ERR Command '{}' not found",
            String::from_utf8_lossy(request.get(0))
        ))),
    }
}

fn acl_help(out: &mut Writer) -> CmdResult {
    help(
        out,
        "ACL",
        &[
            (
                "CAT [<category>]",
                "Show categories, or the commands of one.",
            ),
            ("DELUSER <username> [<username> ...]", "Remove users."),
            (
                "DRYRUN <username> <command> [<arg> ...]",
                "Tell whether a user may run a command.",
            ),
            ("GENPASS [<bits>]", "Make a password."),
            ("GETUSER <username>", "Show what a user may do."),
            ("LIST", "Show the rules of all users."),
            ("LOAD", "Read users from the ACL file."),
            ("LOG [<count> | RESET]", "Show who was refused what."),
            ("SAVE", "Write users to the ACL file."),
            (
                "SETUSER <username> <rule> [<rule> ...]",
                "Change the password of the default user.",
            ),
            ("USERS", "Show the names of users."),
            ("WHOAMI", "Show the user of this connection."),
        ],
    )
}

/// Why a server without replicas cannot fail over. Redis: replication.c failoverCommand.
fn failover(args: &Args) -> CmdError {
    if args.len() == 2 && args.is(1, "abort") {
        return CmdError::Text("ERR No failover in progress.");
    }
    let (mut at, mut timed, mut named, mut forced) = (1, false, false, false);
    while at < args.len() {
        if args.is(at, "timeout") && at + 1 < args.len() && !timed {
            match args.int(at + 1) {
                Ok(1..) => timed = true,
                Ok(_) => return CmdError::Text("ERR FAILOVER timeout must be greater than 0"),
                Err(error) => return error,
            }
            at += 2;
        } else if args.is(at, "to") && at + 2 < args.len() && !named {
            if let Err(error) = args.int(at + 2) {
                return error;
            }
            named = true;
            at += 3;
        } else if args.is(at, "force") && !forced {
            forced = true;
            at += 1;
        } else {
            return CmdError::Syntax;
        }
    }
    CmdError::Text("ERR FAILOVER requires connected replicas.")
}
