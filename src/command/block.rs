//! Commands that wait: for how long, for which keys, and how a key that changed serves them.

use bytes::Bytes;

use crate::keyspace::Tx;
use crate::resp::{Args, CmdError, Writer};
use crate::value::Kind;

/// How long a client waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Patience {
    Forever,
    /// Milliseconds, at least one.
    Ms(i64),
}

/// Serves a command from the key at an argument; `Ok(false)` if the key has nothing for it. The
/// bytes are what [`Block::mark`] noted.
pub type ServeKey = fn(&mut Tx, &Args, usize, &Bytes, &mut Writer) -> Result<bool, CmdError>;

/// When the key at an argument is going to have something for a command if it stays as it is, unix
/// milliseconds.
pub type AlarmMs = fn(&mut Tx, &Args, usize) -> Option<i64>;

/// How a waiting command is served once one of its keys has changed.
#[derive(Clone, Copy)]
pub enum Serve {
    /// A `Run::First` command, from that key.
    First,
    /// A `Run::Gather` command, as a whole.
    Whole,
    /// From that key, in a way of its own.
    Key(ServeKey),
}

/// How a command waits for its keys.
pub struct Block {
    /// How long; `None`: this request does not wait at all.
    pub patience: fn(&Args) -> Result<Option<Patience>, CmdError>,
    /// The type of key that serves; one of another type leaves the client waiting.
    pub kind: Kind,
    pub serve: Serve,
    /// What is noted about a key when the wait begins.
    pub mark: fn(&mut Tx, &Args, usize) -> Bytes,
    /// For what comes into being as time passes: keys are looked at again then.
    pub alarm_ms: Option<AlarmMs>,
    /// Whether only the first key is waited for: the others are destinations.
    pub first_key_only: bool,
}

impl Block {
    /// Of a `Run::First` command.
    pub const fn first(
        kind: Kind,
        patience: fn(&Args) -> Result<Option<Patience>, CmdError>,
    ) -> Block {
        Block {
            patience,
            kind,
            serve: Serve::First,
            mark: no_mark,
            alarm_ms: None,
            first_key_only: false,
        }
    }
}

/// Notes nothing.
pub fn no_mark(_tx: &mut Tx, _args: &Args, _at: usize) -> Bytes {
    Bytes::new()
}

/// A timeout in seconds, fractions allowed, 0 for ever. Redis: timeout.c getTimeoutFromObjectOrReply.
pub fn seconds(args: &Args, at: usize) -> Result<Option<Patience>, CmdError> {
    let seconds = args
        .double(at)
        .map_err(|_| CmdError::Text("ERR timeout is not a float or out of range"))?;
    patience((seconds * 1000.0).ceil())
}

/// A timeout in whole milliseconds, 0 for ever.
pub fn milliseconds(args: &Args, at: usize) -> Result<Option<Patience>, CmdError> {
    patience(timeout_ms(args, at)? as f64)
}

/// A number of milliseconds that is not negative.
pub fn timeout_ms(args: &Args, at: usize) -> Result<i64, CmdError> {
    match args.int(at) {
        Ok(ms) if ms < 0 => Err(NEGATIVE),
        Ok(ms) => Ok(ms),
        Err(_) => Err(CmdError::Text(
            "ERR timeout is not an integer or out of range",
        )),
    }
}

/// When a wait of so many milliseconds ends. A clock of whole milliseconds does not tell how much of the
/// current one is over, so that it counts for nothing: who asks for 100 ms and is back after 99.5 has
/// measured that. Redis ends a wait when its clock reads more than the sum, too.
pub fn ends_ms(now_ms: i64, ms: i64) -> i64 {
    now_ms.saturating_add(ms).saturating_add(1)
}

const NEGATIVE: CmdError = CmdError::Text("ERR timeout is negative");

fn patience(ms: f64) -> Result<Option<Patience>, CmdError> {
    /// So that a deadline never overflows: a million years, which whoever asks for more will not see end.
    const MS_MAX: f64 = 4e16;
    // Redis: what has no place in 64 bits is the smallest number there.
    if ms < 0.0 || ms > i64::MAX as f64 {
        return Err(NEGATIVE);
    }
    Ok(Some(match ms.min(MS_MAX) as i64 {
        0 => Patience::Forever,
        ms => Patience::Ms(ms),
    }))
}
