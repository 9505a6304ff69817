//! What commands on several shards exchange: peeks, decisions, changes, parts.
//!
//! A command that spans shards is *read on the homes*, *decided purely*, *applied infallibly on
//! the homes*. Everything here is owned and `Send`: it travels in mailboxes. With one shard the
//! same three steps are direct calls.

use bytes::Bytes;

use super::generic::wrote_whole;
use super::keys;
use crate::keyspace::{EMBSTR_MAX_BYTES, Event, NewStr, Str, Taken, Ttl, Tx};
use crate::resp::{Args, CmdError, CmdResult, Output, Proto, Writer};
use crate::value::{Kind, Value};

/// Which of how many shards a part runs on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    pub shard: usize,
    pub shards: usize,
}

impl Place {
    /// Whether a key lives on this shard.
    #[inline]
    pub fn is_home(self, key: &[u8]) -> bool {
        keys::home(key, self.shards) == self.shard
    }
}

/// A command of three steps. `peek` runs once per key on its home, `decide` sees all peeks in key
/// order, and what it decides cannot fail any more.
pub struct Gather {
    /// Reads what the decision needs of the key at argument `at`.
    pub peek: fn(tx: &mut Tx, args: &Args, at: usize) -> Peek,
    /// `keys` are the argument indices of the keys, parallel to `peeks`.
    pub decide: fn(ask: &Ask, peeks: &[Peek]) -> Result<Decision, CmdError>,
    /// How the decision reads keys that only the peeks reveal.
    pub more: Option<&'static More>,
}

impl Gather {
    /// The second reading, if this request takes one.
    pub fn more_for(&self, args: &Args) -> Option<&'static More> {
        self.more.filter(|more| (more.is_needed)(args))
    }
}

/// The peeks and what was found, in the order in which it was wanted.
pub type DecideMore = fn(&Ask, &[Peek], &[Option<Bytes>]) -> Result<Decision, CmdError>;

/// A second reading, of keys that the first one led to. It runs under a hold on everything.
pub struct More {
    pub is_needed: fn(args: &Args) -> bool,
    pub wanted: fn(ask: &Ask, peeks: &[Peek]) -> Result<Vec<Wanted>, CmdError>,
    pub decide: DecideMore,
}

/// A string to be read, or a field of a hash.
#[derive(Clone, Debug, Default)]
pub struct Wanted {
    pub key: Bytes,
    pub field: Option<Bytes>,
}

impl Wanted {
    /// Its bytes; `None` if there are none, also because of another type.
    pub fn read(&self, tx: &mut Tx) -> Option<Bytes> {
        match &self.field {
            None => tx.string(&self.key).ok()?.map(Str::to_bytes),
            Some(field) => {
                let hash = tx.fields(&self.key).ok()??;
                hash.get(field).map(|item| Bytes::from(item.to_vec()))
            }
        }
    }
}

/// A command that the first of its keys which holds something serves: LMPOP, BLPOP, BZPOPMIN.
pub struct First {
    /// The type that serves; a key of another type that comes first is an error.
    pub kind: Kind,
    /// Serves the command from the key at argument `at`, which exists and has the right type.
    pub serve: fn(tx: &mut Tx, args: &Args, at: usize, out: &mut Writer) -> CmdResult,
    /// Checks the arguments beyond the keys, as far as they are not about waiting.
    pub check: fn(args: &Args) -> CmdResult,
}

impl First {
    /// What decides at one key.
    pub fn peek(&self, tx: &mut Tx, key: &[u8]) -> Peek {
        match tx.kind(key) {
            None => Peek::Missing,
            Some(kind) if kind == self.kind => Peek::Exists { expire_at: None },
            Some(_) => Peek::Failed(CmdError::WrongType),
        }
    }

    /// The index (into the peeks) of the key that serves.
    pub fn choose(peeks: &[Peek]) -> Result<Option<usize>, CmdError> {
        match peeks.iter().position(Peek::exists) {
            None => Ok(None),
            Some(at) => match &peeks[at] {
                Peek::Failed(error) => Err(error.clone()),
                _ => Ok(Some(at)),
            },
        }
    }
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
    /// The same, where it matters how long a string may be: `proto-max-bulk-len`.
    Limited {
        bytes: Bytes,
        max_bytes: usize,
    },
    /// An owned copy of the value.
    Value(Taken),
    /// A value as DUMP writes it, and its expiry.
    Dumped {
        payload: Bytes,
        expire_at: Option<i64>,
    },
    /// A collection, shared with the keyspace it is in.
    Collection(Value),
    /// A reply to be part of the command's, and how many elements it has.
    Reply {
        out: Output,
        count: usize,
    },
    /// Reading failed, usually with WRONGTYPE; the decision says whose error comes first.
    Failed(CmdError),
}

impl Peek {
    /// The string at this key; `None` if it does not exist.
    pub fn string(&self) -> Result<Option<&Bytes>, CmdError> {
        match self {
            Peek::Missing => Ok(None),
            Peek::String(bytes) | Peek::Limited { bytes, .. } => Ok(Some(bytes)),
            Peek::Failed(error) => Err(error.clone()),
            _ => Err(CmdError::WrongType),
        }
    }

    pub fn exists(&self) -> bool {
        !matches!(self, Peek::Missing)
    }
}

/// What a [`Gather`] decided: the reply, and the changes in the order they take effect.
#[derive(Debug, Default)]
pub struct Decision {
    /// Nothing could be served: a client that may wait does so instead of getting the reply.
    pub waits: bool,
    pub reply: Output,
    pub changes: Vec<Change>,
}

/// What [`Change::Call`] runs: transaction, arguments, the key's index, bytes from the decision.
pub type Apply = fn(&mut Tx, &Args, usize, &Bytes, &mut Writer) -> CmdResult;

/// One infallible change. `key` is an argument index; its home applies it.
pub enum Change {
    /// Deletes the key.
    Remove { db: u32, key: usize, event: Event },
    /// Stores a string.
    SetString {
        db: u32,
        key: usize,
        value: Bytes,
        /// To OBJECT ENCODING, however short.
        raw: bool,
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
    /// Stores a value made by the decision, encoded as the key's home is configured.
    Store {
        db: u32,
        key: usize,
        value: Value,
        event: Event,
    },
    /// Runs a function that cannot fail on the key's home; what it writes joins the reply.
    Call {
        db: u32,
        key: usize,
        /// Bytes from the decision, such as an element that moves.
        value: Bytes,
        run: Apply,
    },
    /// Serves a command from the key that was found to hold something.
    Serve {
        db: u32,
        key: usize,
        first: &'static First,
    },
    /// Moves value and expiry from one key to another, possibly on another home, without a copy.
    Move {
        from: (u32, usize),
        to: (u32, usize),
        left: Event,
        arrived: Event,
    },
}

impl Decision {
    /// Only a reply, which `write` writes.
    pub fn reply(
        ask: &Ask,
        write: impl FnOnce(&mut Writer) -> CmdResult,
    ) -> Result<Decision, CmdError> {
        let mut reply = Output::default();
        write(&mut Writer::new(&mut reply, ask.proto))?;
        Ok(Decision {
            reply,
            ..Decision::default()
        })
    }

    pub fn with(mut self, changes: Vec<Change>) -> Decision {
        self.changes = changes;
        self
    }
}

impl std::fmt::Debug for Change {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (name, key) = match self {
            Change::Remove { key, .. } => ("remove", key),
            Change::SetString { key, .. } => ("set", key),
            Change::Put { key, .. } => ("put", key),
            Change::Store { key, .. } => ("store", key),
            Change::Call { key, .. } => ("call", key),
            Change::Serve { key, .. } => ("serve", key),
            Change::Move { from, .. } => ("move", &from.1),
        };
        write!(f, "{name} {key}")
    }
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
    /// Replies of a transaction's commands, and how long each of them took.
    Ran {
        out: Output,
        spent_ns: Vec<u64>,
    },
    /// What a scan found here.
    Page {
        out: Output,
        count: usize,
        /// Keys that were looked at.
        visited: u64,
        /// Where this shard is to be gone on with; 0: it is through.
        next: u64,
    },
    /// A random key, and a number whose largest decides which shard's key is taken.
    Random {
        key: Option<Bytes>,
        draw: f64,
    },
    Peeks(Vec<Peek>),
    /// What a second reading found.
    Found(Vec<Option<Bytes>>),
    Taken(Option<Box<Taken>>),
    Failed(CmdError),
}

/// Applies a change that concerns only this home; `Change::Move` is two of them and is carried out
/// by the planner through [`take`] and [`arrive`].
pub fn apply(tx: &mut Tx, args: &Args, change: Change, out: &mut Writer) {
    match change {
        Change::Call {
            db,
            key,
            value,
            run,
        } => {
            tx.select(db);
            let applied = run(tx, args, key, &value, out);
            debug_assert!(applied.is_ok(), "a decided change does not fail");
        }
        Change::Store {
            db,
            key,
            value,
            event,
        } => {
            tx.select(db);
            store(tx, args.get(key), value, event);
        }
        Change::Serve { db, key, first } => {
            tx.select(db);
            let applied = (first.serve)(tx, args, key, out);
            debug_assert!(applied.is_ok(), "what was found can be served");
        }
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
            raw,
            ttl,
            event,
        } => {
            tx.select(db);
            let value = match raw && value.len() <= EMBSTR_MAX_BYTES {
                true => NewStr::Raw(&value),
                false => NewStr::Shared(value),
            };
            set_string(tx, args.get(key), value, ttl, event);
        }
        Change::Put {
            db,
            key,
            value,
            event,
        } => {
            tx.select(db);
            put(tx, args.get(key), *value, event);
        }
        Change::Move {
            from,
            to,
            left,
            arrived,
        } => {
            let (from, to) = ((from.0, args.get(from.1)), (to.0, args.get(to.1)));
            move_value(tx, from, to, left, arrived);
        }
    }
}

/// Stores a result.
fn store(tx: &mut Tx, key: &[u8], value: Value, event: Event) {
    let changes = changes_of_store(&value, event);
    tx.set_encoded_value(key, value, Ttl::Clear);
    tx.wrote_state(key, event);
    tx.count_changes(changes - 1);
}

/// As how many changes since the last save a stored result counts. Redis: sort.c and geo.c count its
/// elements, all others the key.
fn changes_of_store(value: &Value, event: Event) -> u64 {
    const BY_ELEMENT: [Event; 3] = [
        Event::SORTSTORE,
        Event::GEORADIUSSTORE,
        Event::GEOSEARCHSTORE,
    ];
    match value {
        Value::List(list) if BY_ELEMENT.contains(&event) => list.len() as u64,
        Value::Zset(set) if BY_ELEMENT.contains(&event) => set.len() as u64,
        _ => 1,
    }
}

fn set_string(tx: &mut Tx, key: &[u8], value: NewStr, ttl: Ttl, event: Event) {
    tx.set_string(key, value, ttl);
    tx.wrote_state(key, event);
    if let Ttl::At(_) = ttl {
        tx.occurred(key, Event::EXPIRE);
    }
}

/// The order in which a move between homes is told of: the new key, the old one's end, the arrival.
const MADE: usize = 0;
const LEFT: usize = 1;
const ARRIVED: usize = 2;

/// First half of a move: the value leaves its key.
pub fn take(tx: &mut Tx, key: &[u8], event: Event) -> Option<Taken> {
    tx.set_place(LEFT);
    let value = tx.take(key)?;
    left(tx, key, event);
    Some(value)
}

/// Accounts for the end of a move's old key. The move counts as one change: its arrival. Redis: RENAME
/// and MOVE add one to server.dirty.
fn left(tx: &mut Tx, key: &[u8], event: Event) {
    tx.wrote_many(0, key, event, |rec| rec.cmd(&[b"DEL", key]));
}

/// A move whose ends are both here. Redis: the new key is announced before the old one's end.
fn move_value(
    tx: &mut Tx,
    (from_db, from): (u32, &[u8]),
    (to_db, to): (u32, &[u8]),
    leaving: Event,
    arrived: Event,
) {
    tx.select(from_db);
    let Some(value) = tx.take(from) else { return };
    tx.select(to_db);
    replace(tx, to, value);
    tx.select(from_db);
    left(tx, from, leaving);
    tx.select(to_db);
    wrote_whole(tx, to, arrived);
}

/// Second half of a move: the value takes its key.
pub fn arrive(tx: &mut Tx, key: &[u8], value: Taken, event: Event) {
    tx.set_place(MADE);
    replace(tx, key, value);
    tx.set_place(ARRIVED);
    wrote_whole(tx, key, event);
}

fn put(tx: &mut Tx, key: &[u8], mut value: Taken, event: Event) {
    // Redis: a copy is as new as any object.
    tx.set_clock(&mut value, None, None);
    replace(tx, key, value);
    wrote_whole(tx, key, event);
}

/// Stores a value in the place of whatever the key held, as a new key.
fn replace(tx: &mut Tx, key: &[u8], value: Taken) {
    tx.remove(key);
    tx.put(key, value);
}
