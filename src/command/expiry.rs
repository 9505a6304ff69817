//! Deadlines as commands give them: relative or absolute, seconds or milliseconds.

use crate::keyspace::{Event, Tx};
use crate::resp::{Args, CmdError};

/// How a number means a deadline.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    Seconds,
    Milliseconds,
    UnixSeconds,
    UnixMilliseconds,
}

impl Unit {
    /// `EX`, `PX`, `EXAT` or `PXAT` at argument `at`.
    pub fn of(args: &Args, at: usize) -> Option<Unit> {
        if args.is(at, "ex") {
            Some(Unit::Seconds)
        } else if args.is(at, "px") {
            Some(Unit::Milliseconds)
        } else if args.is(at, "exat") {
            Some(Unit::UnixSeconds)
        } else if args.is(at, "pxat") {
            Some(Unit::UnixMilliseconds)
        } else {
            None
        }
    }

    /// The deadline in unix milliseconds that `n` means; `None` if it does not fit.
    pub fn deadline(self, n: i64, now_ms: i64) -> Option<i64> {
        let ms = match self {
            Unit::Seconds | Unit::UnixSeconds => n.checked_mul(1000)?,
            Unit::Milliseconds | Unit::UnixMilliseconds => n,
        };
        match self {
            Unit::Seconds | Unit::Milliseconds => ms.checked_add(now_ms),
            Unit::UnixSeconds | Unit::UnixMilliseconds => Some(ms),
        }
    }
}

/// The deadline given by the number at argument `at`, which must be positive.
pub fn deadline(
    args: &Args,
    at: usize,
    unit: Unit,
    now_ms: i64,
    command: &str,
) -> Result<i64, CmdError> {
    let n = args.int(at)?;
    if n <= 0 {
        return Err(CmdError::invalid_expire(command));
    }
    unit.deadline(n, now_ms)
        .ok_or_else(|| CmdError::invalid_expire(command))
}

/// Gives a key that exists a deadline; one that has passed deletes the key.
pub fn set_or_delete(tx: &mut Tx, key: &[u8], at_ms: i64) {
    if at_ms <= tx.past_ms() {
        tx.remove(key);
        tx.wrote(key, Event::DEL, |rec| rec.cmd(&[b"DEL", key]));
        return;
    }
    tx.set_expiry(key, Some(at_ms));
    tx.wrote(key, Event::EXPIRE, |rec| {
        rec.cmd(&[b"PEXPIREAT", key, at_ms.to_string().as_bytes()]);
    });
}
