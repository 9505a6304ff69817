//! Deadlines of fields. Redis: t_hash.c of 7.4.

use crate::command::expiry::Unit;
use crate::keyspace::{Event, Tx};
use crate::resp::{Args, CmdError, CmdResult, Writer};
use crate::value::hash::Hash;

/// The latest deadline a command may give a field. Redis: HFE_MAX_ABS_TIME_MSEC, 46 bits of
/// milliseconds; a file may hold 48.
const DEADLINE_MAX_MS: i64 = (1 << 46) - 1;

/// What a reply says of a field: it does not exist, has no deadline, was left alone.
const NO_FIELD: i64 = -2;
const NO_DEADLINE: i64 = -1;
const NOT_MET: i64 = 0;
const DONE: i64 = 1;
/// The deadline had passed and the field is gone.
const DELETED: i64 = 2;

/// What is said of a number of fields that is none: the commands that set deadlines have words of
/// their own.
pub(super) const NO_COUNT: CmdError =
    CmdError::Text("ERR Number of fields must be a positive integer");
const NO_COUNT_TO_SET: CmdError =
    CmdError::Text("ERR Parameter `numFields` should be greater than 0");

/// The fields of `... FIELDS numfields field ...` with FIELDS at argument `at`.
pub(super) fn fields<'a>(
    args: &Args<'a>,
    at: usize,
    no_count: CmdError,
) -> Result<Args<'a>, CmdError> {
    if at >= args.len() || !args.is(at, "fields") {
        return Err(CmdError::Text(
            "ERR Mandatory argument FIELDS is missing or not at the right position",
        ));
    }
    if at + 1 >= args.len() {
        return Err(no_count);
    }
    let count = args.int(at + 1).ok().filter(|&n| n > 0);
    if count.ok_or(no_count)? as u64 != (args.len() - at - 2) as u64 {
        return Err(CmdError::Text(
            "ERR The `numfields` parameter must match the number of arguments",
        ));
    }
    Ok(args.from(at + 2))
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Condition {
    Always,
    /// NX
    Missing,
    /// XX
    Present,
    /// GT
    Greater,
    /// LT
    Less,
}

impl Condition {
    fn of(args: &Args, at: usize) -> Option<Condition> {
        let words = [
            ("nx", Condition::Missing),
            ("xx", Condition::Present),
            ("gt", Condition::Greater),
            ("lt", Condition::Less),
        ];
        let found = words.iter().find(|(word, _)| args.is(at, word));
        found.map(|&(_, condition)| condition)
    }

    /// No deadline counts as one that never comes.
    fn allows(self, old: Option<i64>, new: i64) -> bool {
        match self {
            Condition::Always => true,
            Condition::Missing => old.is_none(),
            Condition::Present => old.is_some(),
            Condition::Greater => old.is_some_and(|old| new > old),
            Condition::Less => old.is_none_or(|old| new < old),
        }
    }
}

pub(super) fn hexpire(tx: &mut Tx, args: &Args, out: &mut Writer) -> CmdResult {
    expire(tx, args, "hexpire", Unit::Seconds, out)
}

pub(super) fn hpexpire(tx: &mut Tx, args: &Args, out: &mut Writer) -> CmdResult {
    expire(tx, args, "hpexpire", Unit::Milliseconds, out)
}

pub(super) fn hexpireat(tx: &mut Tx, args: &Args, out: &mut Writer) -> CmdResult {
    expire(tx, args, "hexpireat", Unit::UnixSeconds, out)
}

pub(super) fn hpexpireat(tx: &mut Tx, args: &Args, out: &mut Writer) -> CmdResult {
    expire(tx, args, "hpexpireat", Unit::UnixMilliseconds, out)
}

/// The deadline that the number at argument `at` of `command` means. Redis: t_hash.c parseExpireTime.
pub(super) fn deadline(
    tx: &Tx,
    args: &Args,
    command: &str,
    at: usize,
    unit: Unit,
) -> Result<i64, CmdError> {
    let n = args.int(at)?;
    if n < 0 {
        return Err(CmdError::Text("ERR invalid expire time, must be >= 0"));
    }
    unit.deadline(n, tx.now_ms())
        .filter(|&at_ms| at_ms <= DEADLINE_MAX_MS)
        .ok_or_else(|| CmdError::invalid_expire(command))
}

/// `HEXPIRE key time [NX|XX|GT|LT] FIELDS numfields field ...`
fn expire(tx: &mut Tx, args: &Args, command: &str, unit: Unit, out: &mut Writer) -> CmdResult {
    // Redis: the type comes before every argument, as in all commands here but HSETEX.
    let (key, exists) = (args.get(1), tx.peek::<Hash>(args.get(1))?.is_some());
    let at_ms = deadline(tx, args, command, 2, unit)?;
    let condition = Condition::of(args, 3);
    let at = 3 + usize::from(condition.is_some());
    let names = fields(args, at, NO_COUNT_TO_SET)?;
    let condition = condition.unwrap_or(Condition::Always);
    if !exists {
        out.array(names.len())?;
        return (0..names.len()).try_for_each(|_| out.int(NO_FIELD));
    }
    let passed = at_ms <= tx.past_ms();
    let results = tx.change(key, |hash: &mut Hash, context| {
        let set = |field: &[u8]| {
            if !hash.live(context.ended_ms).contains(field) {
                NO_FIELD
            } else if !condition.allows(hash.deadline(field), at_ms) {
                NOT_MET
            } else if passed {
                hash.remove(field);
                DELETED
            } else {
                hash.set_deadline(field, at_ms, context.limits);
                DONE
            }
        };
        names.iter().map(set).collect::<Vec<i64>>()
    })?;
    let results = results.unwrap_or_default();
    let changed: Vec<&[u8]> = names
        .iter()
        .zip(&results)
        .filter(|&(_, &result)| result > NOT_MET)
        .map(|(name, _)| name)
        .collect();
    account(tx, key, &changed, (!passed).then_some(at_ms));
    out.array(results.len())?;
    results.into_iter().try_for_each(|result| out.int(result))
}

/// Accounts for fields that got a deadline, or that were deleted.
pub(super) fn account(tx: &mut Tx, key: &[u8], fields: &[&[u8]], at_ms: Option<i64>) {
    let changes = fields.len() as u64;
    match (fields.is_empty(), at_ms) {
        (true, _) => tx.unchanged(),
        (false, None) => tx.wrote_many(changes, key, Event::HDEL, |rec| {
            rec.cmd_of(
                fields.len() + 2,
                [b"HDEL", key].into_iter().chain(fields.iter().copied()),
            );
        }),
        (false, Some(at_ms)) => tx.wrote_many(changes, key, Event::HEXPIRE, |rec| {
            let (at_ms, count) = (at_ms.to_string(), fields.len().to_string());
            let head = [
                b"HPEXPIREAT",
                key,
                at_ms.as_bytes(),
                b"FIELDS",
                count.as_bytes(),
            ];
            rec.cmd_of(
                fields.len() + 5,
                head.into_iter().chain(fields.iter().copied()),
            );
        }),
    }
}

/// `HPERSIST key FIELDS numfields field ...`
pub(super) fn hpersist(tx: &mut Tx, args: &Args, out: &mut Writer) -> CmdResult {
    let key = args.get(1);
    tx.peek::<Hash>(key)?;
    let names = fields(args, 2, NO_COUNT)?;
    let results = tx.change(key, |hash: &mut Hash, context| {
        let persist = |field: &[u8]| {
            if !hash.live(context.ended_ms).contains(field) {
                NO_FIELD
            } else if hash.deadline(field).is_none() {
                NO_DEADLINE
            } else {
                hash.clear_deadline(field);
                DONE
            }
        };
        names.iter().map(persist).collect::<Vec<i64>>()
    })?;
    let results = results.unwrap_or_else(|| vec![NO_FIELD; names.len()]);
    match results.iter().filter(|&&result| result == DONE).count() {
        0 => tx.unchanged(),
        changes => tx.wrote_many(changes as u64, key, Event::HPERSIST, |rec| {
            rec.cmd_of(
                args.len(),
                std::iter::once(&b"HPERSIST"[..]).chain(args.iter().skip(1)),
            );
        }),
    }
    out.array(results.len())?;
    results.into_iter().try_for_each(|result| out.int(result))
}

pub(super) fn httl(tx: &mut Tx, args: &Args, out: &mut Writer) -> CmdResult {
    let now_ms = tx.now_ms();
    read(tx, args, |at_ms| (at_ms - now_ms + 999) / 1000, out)
}

pub(super) fn hpttl(tx: &mut Tx, args: &Args, out: &mut Writer) -> CmdResult {
    let now_ms = tx.now_ms();
    read(tx, args, |at_ms| at_ms - now_ms, out)
}

pub(super) fn hexpiretime(tx: &mut Tx, args: &Args, out: &mut Writer) -> CmdResult {
    read(tx, args, |at_ms| (at_ms + 999) / 1000, out)
}

pub(super) fn hpexpiretime(tx: &mut Tx, args: &Args, out: &mut Writer) -> CmdResult {
    read(tx, args, |at_ms| at_ms, out)
}

fn read(tx: &mut Tx, args: &Args, form: impl Fn(i64) -> i64, out: &mut Writer) -> CmdResult {
    let live = tx.fields(args.get(1))?;
    let names = fields(args, 2, NO_COUNT)?;
    out.array(names.len())?;
    names.iter().try_for_each(|field| {
        let found = live.filter(|live| live.contains(field));
        out.int(match found.map(|live| live.deadline(field)) {
            None => NO_FIELD,
            Some(None) => NO_DEADLINE,
            Some(Some(at_ms)) => form(at_ms),
        })
    })
}
