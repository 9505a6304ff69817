//! MIGRATE: keys move to another server.

use super::dump::payload;
use crate::command::errand::{Errand, Item, Parcel, Receipt};
use crate::command::keys::{self, KeySpec, Keys};
use crate::command::{Ask, Change, Decision, Peek};
use crate::keyspace::{Event, Tx};
use crate::resp::{Args, CmdError, CmdResult};

pub(super) static MIGRATE: Errand = Errand {
    check,
    peek,
    send,
    decide,
};

const ACCESS: keys::Access = keys::RW | keys::ACCESS | keys::DELETE;
pub(super) const KEYS: Keys = &[
    KeySpec::range(ACCESS, KEY, 0, 1).begins_at(single_at),
    KeySpec::keyword(ACCESS | keys::INCOMPLETE, "KEYS", -2, -1).begins_at(several_at),
];

/// The first argument that is an option.
const OPTIONS: usize = 6;
const KEY: usize = 3;
const TIMEOUT_DEFAULT_MS: i64 = 1000;

/// `MIGRATE host port key|"" db timeout [COPY] [REPLACE] [AUTH password] [AUTH2 user password]
/// [KEYS key ...]`
#[derive(Default)]
struct Options {
    copy: bool,
    replace: bool,
    auth: Vec<Vec<u8>>,
    db: i64,
    timeout_ms: i64,
}

/// Where KEYS stands, if it does. Redis: db.c migrateGetKeys.
fn keys_at(args: &Args) -> Option<usize> {
    let mut at = OPTIONS;
    while at < args.len() && !args.is(at, "keys") {
        at += 1 + usize::from(args.is(at, "auth")) + 2 * usize::from(args.is(at, "auth2"));
    }
    (at < args.len()).then_some(at)
}

/// Redis: a KEYS that nothing follows is not found.
fn single_at(args: &Args) -> Option<usize> {
    let none_follow = |at| at + 1 == args.len();
    keys_at(args).is_none_or(none_follow).then_some(KEY)
}

fn several_at(args: &Args) -> Option<usize> {
    let first = keys_at(args)? + 1;
    (args.get(KEY).is_empty() && first < args.len()).then_some(first)
}

impl Options {
    fn parse(args: &Args) -> Result<Options, CmdError> {
        let mut options = Options::default();
        let mut at = OPTIONS;
        while at < args.len() {
            let secrets = match () {
                _ if args.is(at, "auth") => 1,
                _ if args.is(at, "auth2") => 2,
                _ => 0,
            };
            if secrets > 0 {
                if at + secrets >= args.len() {
                    return Err(CmdError::Syntax);
                }
                options.auth = (1..=secrets).map(|n| args.get(at + n).to_vec()).collect();
                at += secrets;
            } else if args.is(at, "copy") {
                options.copy = true;
            } else if args.is(at, "replace") {
                options.replace = true;
            } else if args.is(at, "keys") {
                if !args.get(KEY).is_empty() {
                    return Err(CmdError::Text(
                        "ERR When using MIGRATE KEYS option, the key argument must be set to the \
                         empty string",
                    ));
                }
                break;
            } else {
                return Err(CmdError::Syntax);
            }
            at += 1;
        }
        options.timeout_ms = args.int(5)?;
        options.db = args.int(4)?;
        if options.timeout_ms <= 0 {
            options.timeout_ms = TIMEOUT_DEFAULT_MS;
        }
        Ok(options)
    }
}

fn check(args: &Args) -> CmdResult {
    Options::parse(args).map(|_| ())
}

fn peek(tx: &mut Tx, args: &Args, at: usize) -> Peek {
    let key = args.get(at);
    if !tx.touch_key(key) {
        return Peek::Missing;
    }
    match tx.clone_value(key) {
        Some(taken) => Peek::Dumped {
            payload: payload(tx, &taken).into(),
            expire_at: taken.expire_at,
        },
        None => Peek::Missing,
    }
}

fn send(ask: &Ask, peeks: &[Peek]) -> Result<Option<Parcel>, CmdError> {
    let options = Options::parse(ask.args)?;
    let items: Vec<Item> = ask
        .keys
        .iter()
        .zip(peeks)
        .filter_map(|(&at, peek)| match peek {
            Peek::Dumped { payload, expire_at } => Some(Item {
                at,
                key: ask.args.get(at).to_vec(),
                ttl_ms: expire_at.map_or(0, |expire_at| (expire_at - ask.now_ms).max(1)),
                payload: payload.clone(),
            }),
            _ => None,
        })
        .collect();
    if items.is_empty() {
        return Ok(None);
    }
    let word = |at: usize| String::from_utf8_lossy(ask.args.get(at)).into_owned();
    Ok(Some(Parcel {
        host: word(1),
        port: word(2),
        timeout_ms: options.timeout_ms as u64,
        db: options.db,
        auth: options.auth,
        replace: options.replace,
        items,
    }))
}

/// What arrived there is deleted here, also if something else did not arrive.
fn decide(ask: &Ask, receipt: Option<&Receipt>) -> Result<Decision, CmdError> {
    let Some(receipt) = receipt else {
        return Decision::reply(ask, |out| out.simple("NOKEY"));
    };
    let decision = Decision::reply(ask, |out| match &receipt.error {
        Some(error) => out.error(error),
        None => out.ok(),
    })?;
    if Options::parse(ask.args)?.copy {
        return Ok(decision);
    }
    let remove = |&key: &usize| Change::Remove {
        db: ask.db,
        key,
        event: Event::DEL,
    };
    Ok(decision.with(receipt.arrived.iter().map(remove).collect()))
}
