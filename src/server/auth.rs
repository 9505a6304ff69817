//! AUTH, HELLO and RESET: who a client is, and which protocol it speaks.

use crate::command::Client;
use crate::command::client::ReplyMode;
use crate::command::connection::set_name;
use crate::number;
use crate::resp::{Args, CmdError, CmdResult, Proto, Writer};

/// What the password check needs of the configuration.
#[derive(Clone, Debug, Default)]
pub struct Passwords {
    /// `requirepass`; empty: the default user needs none.
    pub default_user: Vec<u8>,
}

impl Passwords {
    pub fn required(&self) -> bool {
        !self.default_user.is_empty()
    }

    fn check(&self, user: &[u8], password: &[u8]) -> CmdResult {
        if user == b"default"
            && (!self.required() || equal_in_constant_time(password, &self.default_user))
        {
            return Ok(());
        }
        Err(CmdError::WrongPass)
    }
}

/// Compares without telling by its duration where the first difference stands.
fn equal_in_constant_time(a: &[u8], b: &[u8]) -> bool {
    let mut different = u8::from(a.len() != b.len());
    for (i, &byte) in a.iter().enumerate() {
        let other = b.get(i).copied().unwrap_or(!byte);
        different |= byte ^ other;
    }
    different == 0
}

/// `AUTH password` or `AUTH user password`.
pub fn auth(
    client: &mut Client,
    passwords: &Passwords,
    args: &Args,
    out: &mut Writer,
) -> CmdResult {
    let (user, password): (&[u8], &[u8]) = match args.len() {
        2 if !passwords.required() => {
            return Err(CmdError::Text(
                "ERR AUTH <password> called without any password configured for the default \
                 user. Are you sure your configuration is correct?",
            ));
        }
        2 => (b"default", args.get(1)),
        3 => (args.get(1), args.get(2)),
        _ => return Err(CmdError::Syntax),
    };
    passwords.check(user, password)?;
    client.authenticated = true;
    out.ok()
}

/// What HELLO tells about the server.
pub struct Greeting<'a> {
    pub version: &'a str,
}

/// `HELLO [protover [AUTH user password] [SETNAME name]]`
pub fn hello(
    client: &mut Client,
    passwords: &Passwords,
    greeting: &Greeting,
    args: &Args,
    out: &mut crate::resp::Output,
) -> CmdResult {
    let mut proto = client.proto;
    if args.len() > 1 {
        proto = match number::parse_i64(args.get(1)) {
            Some(2) => Proto::Resp2,
            Some(3) => Proto::Resp3,
            Some(_) => return Err(CmdError::NoProto),
            None => {
                return Err(CmdError::Text(
                    "ERR Protocol version is not an integer or out of range",
                ));
            }
        };
    }
    let mut authenticated = client.authenticated;
    let mut name = None;
    let mut at = 2;
    while at < args.len() {
        let more = args.len() - 1 - at;
        if args.is(at, "auth") && more >= 2 {
            passwords.check(args.get(at + 1), args.get(at + 2))?;
            authenticated = true;
            at += 3;
        } else if args.is(at, "setname") && more >= 1 {
            name = Some(args.get(at + 1));
            at += 2;
        } else {
            let option = String::from_utf8_lossy(args.get(at)).into_owned();
            return Err(CmdError::owned(format!(
                "ERR Syntax error in HELLO option '{option}'"
            )));
        }
    }
    if !authenticated {
        return Err(CmdError::Text(
            "NOAUTH HELLO must be called with the client already authenticated, otherwise the \
             HELLO <proto> AUTH <user> <pass> option can be used to authenticate the client and \
             select the RESP protocol version at the same time",
        ));
    }
    if let Some(name) = name {
        set_name(client, name)?;
    }
    client.authenticated = true;
    client.proto = proto;
    greet(client, greeting, &mut Writer::new(out, proto))
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
    out.bulk(b"master")?;
    out.bulk(b"modules")?;
    out.array(0)
}

/// RESET: everything the connection said about itself is forgotten.
pub fn reset(client: &mut Client, passwords: &Passwords, out: &mut Writer) -> CmdResult {
    client.db = 0;
    client.proto = Proto::Resp2;
    client.name = Box::default();
    client.reply = ReplyMode::On;
    client.no_evict = false;
    client.no_touch = false;
    client.authenticated = !passwords.required();
    out.simple("RESET")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resp::{ArgBuf, Output};

    fn args(line: &str) -> ArgBuf {
        line.split(' ').map(str::as_bytes).collect()
    }

    #[test]
    fn passwords_are_checked_for_the_default_user_alone() {
        let passwords = Passwords {
            default_user: b"secret".to_vec(),
        };
        let mut out = Output::default();
        let mut try_auth = |line: &str| {
            let mut client = Client::default();
            let mut writer = Writer::new(&mut out, Proto::Resp2);
            let result = auth(&mut client, &passwords, &args(line).as_args(), &mut writer);
            (result.is_ok(), client.authenticated)
        };
        assert_eq!(try_auth("AUTH secret"), (true, true));
        assert_eq!(try_auth("AUTH default secret"), (true, true));
        assert_eq!(try_auth("AUTH secre"), (false, false));
        assert_eq!(try_auth("AUTH secrets"), (false, false));
        assert_eq!(try_auth("AUTH root secret"), (false, false));
    }

    #[test]
    fn hello_changes_nothing_when_it_fails() {
        let mut client = Client {
            authenticated: true,
            ..Client::default()
        };
        let greeting = Greeting { version: "7.2.0" };
        let mut out = Output::default();
        let none = Passwords::default();
        let mut say = |client: &mut Client, line: &str| {
            hello(client, &none, &greeting, &args(line).as_args(), &mut out)
        };
        assert_eq!(say(&mut client, "HELLO 4"), Err(CmdError::NoProto));
        assert!(say(&mut client, "HELLO 3 BAD").is_err());
        assert_eq!(client.proto, Proto::Resp2);
        assert!(say(&mut client, "HELLO 3 SETNAME me").is_ok());
        assert_eq!(client.proto, Proto::Resp3);
        assert_eq!(&*client.name, b"me");
    }
}
