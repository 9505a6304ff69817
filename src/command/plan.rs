//! What commands on several shards exchange: peeks, decisions, changes, parts.
//!
//! A command that spans shards is *read on the homes*, *decided purely*, *applied infallibly on
//! the homes*. Everything here is owned and `Send`: it travels in mailboxes. With one shard the
//! same three steps are direct calls.

use bytes::Bytes;

use crate::keyspace::{Event, NewStr, Taken, Ttl, Tx};
use crate::resp::{Args, CmdError, Output, Proto};

/// Which of how many shards a part runs on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    pub shard: usize,
    pub shards: usize,
}

/// A command of three steps. `peek` runs once per key on its home, `decide` sees all peeks in key
/// order, and what it decides cannot fail any more.
pub struct Gather {
    /// Reads what the decision needs of the key at argument `at`.
    pub peek: fn(tx: &mut Tx, args: &Args, at: usize) -> Peek,
    /// `keys` are the argument indices of the keys, parallel to `peeks`.
    pub decide: fn(ask: &Ask, peeks: &[Peek]) -> Result<Decision, CmdError>,
}

/// What a decision may depend on beside the peeks.
pub struct Ask<'a> {
    pub args: &'a Args<'a>,
    /// Argument indices of the keys, parallel to the peeks.
    pub keys: &'a [usize],
    pub db: u32,
    pub databases: u32,
    pub now_ms: i64,
    pub proto: Proto,
}

/// What one home knows of one key.
#[derive(Debug)]
pub enum Peek {
    Missing,
    /// The key exists; its expiry, unix milliseconds, if it has one.
    Exists {
        expire_at: Option<i64>,
    },
    /// A string's bytes.
    String(Bytes),
    /// An owned copy of the value.
    Value(Taken),
    /// Reading failed, usually with WRONGTYPE; the decision says whose error comes first.
    Failed(CmdError),
}

impl Peek {
    /// The string at this key; `None` if it does not exist.
    pub fn string(&self) -> Result<Option<&Bytes>, CmdError> {
        match self {
            Peek::Missing => Ok(None),
            Peek::String(bytes) => Ok(Some(bytes)),
            Peek::Failed(error) => Err(error.clone()),
            Peek::Exists { .. } | Peek::Value(_) => Err(CmdError::WrongType),
        }
    }

    pub fn exists(&self) -> bool {
        !matches!(self, Peek::Missing)
    }
}

/// What a [`Gather`] decided: the reply, and the changes in the order they take effect.
#[derive(Debug, Default)]
pub struct Decision {
    pub reply: Output,
    pub changes: Vec<Change>,
}

/// One infallible change. `key` is an argument index; its home applies it.
#[derive(Debug)]
pub enum Change {
    /// Deletes the key.
    Remove { db: u32, key: usize, event: Event },
    /// Stores a string.
    SetString {
        db: u32,
        key: usize,
        value: Bytes,
        ttl: Ttl,
        event: Event,
    },
    /// Stores an owned value, whatever was there.
    Put {
        db: u32,
        key: usize,
        value: Box<Taken>,
        event: Event,
    },
    /// Moves value and expiry from one key to another, possibly on another home, without a copy.
    Move {
        from: (u32, usize),
        to: (u32, usize),
        left: Event,
        arrived: Event,
    },
}

/// What one shard contributes to a command that runs on several.
#[derive(Debug)]
pub enum Part {
    Nothing,
    Int(i64),
    /// Replies of a number of keys, in the shard's key order; `ends` are marks into `out`.
    Replies {
        out: Output,
        ends: Vec<(usize, usize)>,
    },
    /// One encoded reply, or array elements with their count.
    Elements {
        out: Output,
        count: usize,
    },
    /// A random key, and a number whose largest decides which shard's key is taken.
    Random {
        key: Option<Bytes>,
        draw: f64,
    },
    Peeks(Vec<Peek>),
    Taken(Option<Box<Taken>>),
    Failed(CmdError),
}

/// Applies a change that concerns only this home; `Change::Move` is two of them and is carried out
/// by the planner through [`take`] and [`arrive`].
pub fn apply(tx: &mut Tx, args: &Args, change: Change) {
    match change {
        Change::Remove { db, key, event } => {
            let key = args.get(key);
            tx.select(db);
            if tx.remove(key) {
                tx.wrote(key, event, |rec| rec.cmd(&[b"DEL", key]));
            }
        }
        Change::SetString {
            db,
            key,
            value,
            ttl,
            event,
        } => {
            let key = args.get(key);
            tx.select(db);
            tx.set_string(key, NewStr::Shared(value), ttl);
            tx.wrote_state(key, event);
            if let Ttl::At(_) = ttl {
                tx.occurred(key, Event::EXPIRE);
            }
        }
        Change::Put {
            db,
            key,
            value,
            event,
        } => {
            tx.select(db);
            arrive(tx, args.get(key), *value, event);
        }
        Change::Move {
            from,
            to,
            left,
            arrived,
        } => {
            tx.select(from.0);
            if let Some(value) = take(tx, args.get(from.1), left) {
                tx.select(to.0);
                arrive(tx, args.get(to.1), value, arrived);
            }
        }
    }
}

/// First half of a move: the value leaves its key.
pub fn take(tx: &mut Tx, key: &[u8], event: Event) -> Option<Taken> {
    let value = tx.take(key)?;
    tx.wrote(key, event, |rec| rec.cmd(&[b"DEL", key]));
    Some(value)
}

/// Second half of a move: the value takes its key.
pub fn arrive(tx: &mut Tx, key: &[u8], value: Taken, event: Event) {
    tx.put(key, value);
    tx.wrote_state(key, event);
}
