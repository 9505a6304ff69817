//! AUTH, HELLO and RESET: who a client is, and which protocol it speaks.

use std::sync::Arc;

use crate::acl::{DEFAULT_USER, User, Users};
use crate::command::Client;
use crate::command::client::ReplyMode;
use crate::command::connection::set_name;
use crate::number;
use crate::resp::{Args, CmdError, CmdResult, Proto, Writer};
use crate::session::Session;

/// Why somebody is not whom they say they are.
#[derive(Debug, PartialEq, Eq)]
pub enum Failure {
    /// This user does not have that password, or there is no such user.
    Wrong {
        user: Vec<u8>,
    },
    Other(CmdError),
}

impl From<CmdError> for Failure {
    fn from(error: CmdError) -> Failure {
        Failure::Other(error)
    }
}

impl Failure {
    pub fn error(self) -> CmdError {
        match self {
            Failure::Wrong { .. } => CmdError::WrongPass,
            Failure::Other(error) => error,
        }
    }
}

fn check(users: &Users, name: &[u8], password: &[u8]) -> Result<Arc<User>, Failure> {
    let user = users.authenticate(name, password).cloned();
    user.ok_or_else(|| Failure::Wrong {
        user: name.to_vec(),
    })
}

/// `AUTH password` or `AUTH user password`.
pub fn auth(
    session: &mut Session,
    users: &Users,
    args: &Args,
    out: &mut Writer,
) -> Result<(), Failure> {
    let (name, password): (&[u8], &[u8]) = match args.len() {
        2 if users.default_user().is_nopass() => {
            return Err(Failure::Other(CmdError::Text(
                "ERR AUTH <password> called without any password configured for the default \
                 user. Are you sure your configuration is correct?",
            )));
        }
        2 => (DEFAULT_USER, args.get(1)),
        3 => (args.get(1), args.get(2)),
        _ => return Err(Failure::Other(CmdError::Syntax)),
    };
    session.set_user(Some(check(users, name, password)?));
    session.client.authenticated = true;
    Ok(out.ok()?)
}

/// What HELLO tells about the server.
pub struct Greeting<'a> {
    pub version: &'a str,
    pub role: &'a str,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum HelloOption {
    /// With a user and a password.
    Auth,
    /// With a name.
    SetName,
}

/// The option of HELLO at `at`, if it and its words are there.
fn hello_option(args: &Args, at: usize) -> Option<HelloOption> {
    let more = args.len() - 1 - at;
    if args.is(at, "auth") && more >= 2 {
        Some(HelloOption::Auth)
    } else if args.is(at, "setname") && more >= 1 {
        Some(HelloOption::SetName)
    } else {
        None
    }
}

/// Where users and passwords stand in a HELLO.
pub fn hello_secrets(args: &Args) -> Vec<usize> {
    let mut secrets = Vec::new();
    let mut at = 2;
    while at < args.len() {
        at += match hello_option(args, at) {
            Some(HelloOption::Auth) => {
                secrets.extend([at + 1, at + 2]);
                3
            }
            Some(HelloOption::SetName) => 2,
            None => break,
        };
    }
    secrets
}

/// `HELLO [protover [AUTH user password] [SETNAME name]]`
pub fn hello(
    session: &mut Session,
    users: &Users,
    greeting: &Greeting,
    args: &Args,
    out: &mut crate::resp::Output,
) -> Result<(), Failure> {
    let mut proto = session.client.proto;
    if args.len() > 1 {
        proto = match number::parse_i64(args.get(1)) {
            Some(2) => Proto::Resp2,
            Some(3) => Proto::Resp3,
            Some(_) => return Err(Failure::Other(CmdError::NoProto)),
            None => {
                return Err(Failure::Other(CmdError::Text(
                    "ERR Protocol version is not an integer or out of range",
                )));
            }
        };
    }
    // Redis: networking.c helloCommand: what comes before an option that fails has taken effect.
    let mut at = 2;
    while at < args.len() {
        match hello_option(args, at) {
            Some(HelloOption::Auth) => {
                let user = check(users, args.get(at + 1), args.get(at + 2))?;
                session.set_user(Some(user));
                session.client.authenticated = true;
                at += 3;
            }
            Some(HelloOption::SetName) => {
                set_name(&mut session.client, args.get(at + 1))?;
                at += 2;
            }
            None => {
                return Err(Failure::Other(CmdError::quoting(&[
                    b"ERR Syntax error in HELLO option '",
                    args.get(at),
                    b"'",
                ])));
            }
        }
    }
    if !session.client.authenticated {
        return Err(Failure::Other(CmdError::Text(
            "NOAUTH HELLO must be called with the client already authenticated, otherwise the \
             HELLO AUTH <user> <pass> option can be used to authenticate the client and select the \
             RESP protocol version at the same time",
        )));
    }
    session.client.proto = proto;
    Ok(greet(
        &session.client,
        greeting,
        &mut Writer::new(out, proto),
    )?)
}

fn greet(client: &Client, greeting: &Greeting, out: &mut Writer) -> CmdResult {
    out.map(7)?;
    out.bulk(b"server")?;
    out.bulk(b"redis")?;
    out.bulk(b"version")?;
    out.bulk(greeting.version.as_bytes())?;
    out.bulk(b"proto")?;
    out.int(if client.proto == Proto::Resp3 { 3 } else { 2 })?;
    out.bulk(b"id")?;
    out.int(client.id as i64)?;
    out.bulk(b"mode")?;
    out.bulk(b"standalone")?;
    out.bulk(b"role")?;
    out.bulk(greeting.role.as_bytes())?;
    out.bulk(b"modules")?;
    out.array(0)
}

/// RESET: everything the connection said about itself is forgotten.
pub fn reset(session: &mut Session, users: &Users, out: &mut Writer) -> Result<(), Failure> {
    session.set_user(Some(users.default_user().clone()));
    let client = &mut session.client;
    client.db = 0;
    client.proto = Proto::Resp2;
    client.name = Box::default();
    client.reply = ReplyMode::On;
    client.no_evict = false;
    client.no_touch = false;
    client.authenticated = !users.requires_auth();
    Ok(out.simple("RESET")?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::Table;
    use crate::resp::{ArgBuf, Output};
    use crate::session::Peer;

    fn args(line: &str) -> ArgBuf {
        line.split(' ').map(str::as_bytes).collect()
    }

    fn session() -> Session {
        Session::new(1, Client::default(), Peer::Unix("x".into()), 3, 0)
    }

    fn users() -> Users {
        let users = Users::new(&Table::new(&[]).unwrap()).with_default_password(b"secret");
        users.set(b"root", &[b"on", b">hidden"], false).unwrap()
    }

    #[test]
    fn a_client_becomes_the_user_whose_password_it_knows() {
        let users = users();
        let mut out = Output::default();
        let mut try_auth = |line: &str| {
            let mut session = session();
            let mut writer = Writer::new(&mut out, Proto::Resp2);
            let result = auth(&mut session, &users, &args(line).as_args(), &mut writer);
            let name = session.user.map(|user| user.name.to_vec());
            (result.is_ok(), session.client.authenticated, name)
        };
        let is = |name: &str| (true, true, Some(name.as_bytes().to_vec()));
        assert_eq!(try_auth("AUTH secret"), is("default"));
        assert_eq!(try_auth("AUTH default secret"), is("default"));
        assert_eq!(try_auth("AUTH root hidden"), is("root"));
        for wrong in [
            "AUTH secre",
            "AUTH secrets",
            "AUTH root secret",
            "AUTH nobody secret",
        ] {
            assert_eq!(try_auth(wrong), (false, false, None), "{wrong}");
        }
    }

    #[test]
    fn hello_does_what_comes_before_a_failure() {
        let users = users();
        let mut session = session();
        let greeting = Greeting {
            version: "7.2.0",
            role: "master",
        };
        let mut out = Output::default();
        let mut say = |session: &mut Session, line: &str| {
            hello(session, &users, &greeting, &args(line).as_args(), &mut out)
                .map_err(Failure::error)
        };
        assert_eq!(say(&mut session, "HELLO 4"), Err(CmdError::NoProto));
        assert!(say(&mut session, "HELLO 3 BAD").is_err());
        assert!(say(&mut session, "HELLO 3 SETNAME early").is_err());
        assert_eq!(&*session.client.name, b"early");
        assert_eq!(
            say(&mut session, "HELLO 3 AUTH root wrong"),
            Err(CmdError::WrongPass)
        );
        assert!(!session.client.authenticated);
        assert!(say(&mut session, "HELLO 3 AUTH root hidden BAD").is_err());
        assert!(session.client.authenticated);
        assert_eq!(session.client.proto, Proto::Resp2);
        assert!(say(&mut session, "HELLO 3 SETNAME me AUTH root hidden").is_ok());
        assert_eq!(session.client.proto, Proto::Resp3);
        assert_eq!(&*session.client.name, b"me");
        assert_eq!(&*session.user.unwrap().name, b"root");
    }

    #[test]
    fn a_name_that_reads_like_an_option_hides_no_password() {
        let secrets = |line: &str| hello_secrets(&args(line).as_args());
        assert_eq!(secrets("HELLO 3 SETNAME auth AUTH u p"), [5, 6]);
        assert_eq!(secrets("HELLO 3 AUTH a b AUTH c d"), [3, 4, 6, 7]);
        assert_eq!(secrets("HELLO 3 AUTH a"), []);
    }
}
