//! Deadlines of fields. Redis: t_hash.c of 7.4, HGETEX HSETEX HGETDEL of 8.0.

use super::element;
use crate::command::expiry::{self, Unit};
use crate::keyspace::{Event, Tx};
use crate::resp::{Args, CmdError, CmdResult, Writer};
use crate::value::hash::Hash;

/// The latest deadline a field may have. Redis: EB_EXPIRE_TIME_MAX, 48 bits of milliseconds.
const DEADLINE_MAX_MS: i64 = (1 << 48) - 1;

/// What a reply says of a field: it does not exist, has no deadline, was left alone.
const NO_FIELD: i64 = -2;
const NO_DEADLINE: i64 = -1;
const NOT_MET: i64 = 0;
const DONE: i64 = 1;
/// The deadline had passed and the field is gone.
const DELETED: i64 = 2;

/// The fields of `... FIELDS numfields field ...` with FIELDS at argument `at`, each with `width`
/// arguments.
fn fields<'a>(args: &Args<'a>, at: usize, width: usize) -> Result<Args<'a>, CmdError> {
    if at >= args.len() || !args.is(at, "fields") {
        return Err(CmdError::Text(
            "ERR Mandatory argument FIELDS is missing or not at the right position",
        ));
    }
    const NOT_POSITIVE: CmdError =
        CmdError::Text("ERR Parameter `numFields` should be greater than 0");
    if at + 1 >= args.len() {
        return Err(NOT_POSITIVE);
    }
    let count = args.int(at + 1).ok().filter(|&n| n > 0);
    let count = count.ok_or(NOT_POSITIVE)?;
    if (count as u64).saturating_mul(width as u64) != (args.len() - at - 2) as u64 {
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
    expire(tx, args, Unit::Seconds, out)
}

pub(super) fn hpexpire(tx: &mut Tx, args: &Args, out: &mut Writer) -> CmdResult {
    expire(tx, args, Unit::Milliseconds, out)
}

pub(super) fn hexpireat(tx: &mut Tx, args: &Args, out: &mut Writer) -> CmdResult {
    expire(tx, args, Unit::UnixSeconds, out)
}

pub(super) fn hpexpireat(tx: &mut Tx, args: &Args, out: &mut Writer) -> CmdResult {
    expire(tx, args, Unit::UnixMilliseconds, out)
}

/// `HEXPIRE key time [NX|XX|GT|LT] FIELDS numfields field ...`
fn expire(tx: &mut Tx, args: &Args, unit: Unit, out: &mut Writer) -> CmdResult {
    let (key, n) = (args.get(1), args.int(2)?);
    if n < 0 {
        return Err(CmdError::Text("ERR invalid expire time, must be >= 0"));
    }
    let at_ms = unit
        .deadline(n, tx.now_ms())
        .filter(|&at_ms| at_ms <= DEADLINE_MAX_MS);
    let at_ms = at_ms.ok_or_else(|| CmdError::invalid_expire(args.name()))?;
    let condition = Condition::of(args, 3);
    let names = fields(args, 3 + usize::from(condition.is_some()), 1)?;
    let condition = condition.unwrap_or(Condition::Always);
    if tx.peek::<Hash>(key)?.is_none() {
        out.array(names.len())?;
        return (0..names.len()).try_for_each(|_| out.int(NO_FIELD));
    }
    let passed = at_ms <= tx.past_ms();
    let results = tx.change(key, |hash: &mut Hash, _| {
        let set = |field: &[u8]| {
            if !hash.contains(field) {
                NO_FIELD
            } else if !condition.allows(hash.deadline(field), at_ms) {
                NOT_MET
            } else if passed {
                hash.remove(field);
                DELETED
            } else {
                hash.set_deadline(field, Some(at_ms));
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
fn account(tx: &mut Tx, key: &[u8], fields: &[&[u8]], at_ms: Option<i64>) {
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
    let (key, names) = (args.get(1), fields(args, 2, 1)?);
    let results = tx.change(key, |hash: &mut Hash, _| {
        let persist = |field: &[u8]| {
            if !hash.contains(field) {
                NO_FIELD
            } else if hash.deadline(field).is_none() {
                NO_DEADLINE
            } else {
                hash.set_deadline(field, None);
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
    let names = fields(args, 2, 1)?;
    let hash = tx.read::<Hash>(args.get(1))?;
    out.array(names.len())?;
    names.iter().try_for_each(|field| {
        let found = hash.filter(|hash| hash.contains(field));
        out.int(match found.map(|hash| hash.deadline(field)) {
            None => NO_FIELD,
            Some(None) => NO_DEADLINE,
            Some(Some(at_ms)) => form(at_ms),
        })
    })
}

/// Replies with the values of fields.
fn values(hash: Option<&Hash>, names: &Args, out: &mut Writer) -> CmdResult {
    out.array(names.len())?;
    names
        .iter()
        .try_for_each(|field| match hash.and_then(|hash| hash.get(field)) {
            Some(value) => element(value, out),
            None => out.null(),
        })
}

/// `HGETDEL key FIELDS numfields field ...`
pub(super) fn hgetdel(tx: &mut Tx, args: &Args, out: &mut Writer) -> CmdResult {
    let (key, names) = (args.get(1), fields(args, 2, 1)?);
    values(tx.read::<Hash>(key)?, &names, out)?;
    let removed = tx.change(key, |hash: &mut Hash, _| {
        names
            .iter()
            .filter(|field| hash.remove(field))
            .collect::<Vec<_>>()
    })?;
    account(tx, key, &removed.unwrap_or_default(), None);
    Ok(())
}

/// What HGETEX and HSETEX do with deadlines.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Change {
    /// HGETEX without an option; HSETEX with KEEPTTL.
    Keep,
    /// HGETEX PERSIST; HSETEX without an option.
    Clear,
    At(i64),
}

/// The option at `at`, if it is one, and how many arguments it takes.
fn change(tx: &Tx, args: &Args, at: usize) -> Result<Option<(Change, usize)>, CmdError> {
    let Some(unit) = Unit::of(args, at) else {
        return Ok(None);
    };
    if at + 1 >= args.len() {
        return Err(CmdError::Syntax);
    }
    let name = String::from_utf8_lossy(args.name()).to_ascii_lowercase();
    let at_ms = expiry::deadline(args, at + 1, unit, tx.now_ms(), &name)?;
    if at_ms > DEADLINE_MAX_MS {
        return Err(CmdError::invalid_expire(args.name()));
    }
    Ok(Some((Change::At(at_ms), 2)))
}

/// `HGETEX key [EX s|PX ms|EXAT s|PXAT ms|PERSIST] FIELDS numfields field ...`
pub(super) fn hgetex(tx: &mut Tx, args: &Args, out: &mut Writer) -> CmdResult {
    let key = args.get(1);
    let (what, taken) = match change(tx, args, 2)? {
        Some(found) => found,
        None if args.is(2, "persist") => (Change::Clear, 1),
        None => (Change::Keep, 0),
    };
    let names = fields(args, 2 + taken, 1)?;
    values(tx.read::<Hash>(key)?, &names, out)?;
    let at_ms = match what {
        Change::Keep => return Ok(()),
        Change::Clear => None,
        Change::At(at_ms) => Some(at_ms),
    };
    let passed = at_ms.is_some_and(|at_ms| at_ms <= tx.past_ms());
    let changed = tx.change(key, |hash: &mut Hash, _| {
        let set = |field: &&[u8]| {
            let exists = hash.contains(field);
            let changes = exists && (at_ms.is_some() || hash.deadline(field).is_some());
            if changes && passed {
                hash.remove(field);
            } else if changes {
                hash.set_deadline(field, at_ms);
            }
            changes
        };
        names.iter().filter(set).collect::<Vec<_>>()
    })?;
    let changed = changed.unwrap_or_default();
    match at_ms {
        Some(at_ms) => account(tx, key, &changed, (!passed).then_some(at_ms)),
        None if changed.is_empty() => tx.unchanged(),
        None => tx.wrote_many(changed.len() as u64, key, Event::HPERSIST, |rec| {
            let count = changed.len().to_string();
            let head = [b"HPERSIST", key, b"FIELDS", count.as_bytes()];
            rec.cmd_of(
                changed.len() + 4,
                head.into_iter().chain(changed.iter().copied()),
            );
        }),
    }
    Ok(())
}

/// `HSETEX key [FNX|FXX] [EX s|PX ms|EXAT s|PXAT ms|KEEPTTL] FIELDS numfields field value ...`
pub(super) fn hsetex(tx: &mut Tx, args: &Args, out: &mut Writer) -> CmdResult {
    let key = args.get(1);
    let (mut at, mut wanted, mut what) = (2, None, None);
    while at < args.len() && !args.is(at, "fields") {
        if args.is(at, "fnx") && wanted.is_none() {
            wanted = Some(false);
        } else if args.is(at, "fxx") && wanted.is_none() {
            wanted = Some(true);
        } else if args.is(at, "keepttl") && what.is_none() {
            what = Some(Change::Keep);
        } else if what.is_none()
            && let Some((found, taken)) = change(tx, args, at)?
        {
            what = Some(found);
            at += taken - 1;
        } else {
            return Err(CmdError::Syntax);
        }
        at += 1;
    }
    let what = what.unwrap_or(Change::Clear);
    let pairs = fields(args, at, 2)?;
    let hash = tx.peek::<Hash>(key)?;
    let names = || pairs.iter().step_by(2);
    let exists = |field: &[u8]| hash.is_some_and(|hash| hash.contains(field));
    if wanted.is_some_and(|wanted| names().any(|field| exists(field) != wanted)) {
        return out.int(0);
    }
    set_pairs(tx, key, &pairs, what)?;
    out.int(1)
}

fn set_pairs(tx: &mut Tx, key: &[u8], pairs: &Args, what: Change) -> CmdResult {
    let past_ms = tx.past_ms();
    let names: Vec<&[u8]> = pairs.iter().step_by(2).collect();
    tx.change_or_create(
        key,
        |_| Hash::default(),
        |hash, context| {
            for at in (0..pairs.len()).step_by(2) {
                let field = pairs.get(at);
                match what {
                    Change::Keep => {}
                    Change::Clear => hash.set_deadline(field, None),
                    Change::At(at_ms) if at_ms <= past_ms => {
                        hash.remove(field);
                        continue;
                    }
                    Change::At(_) => {}
                }
                hash.set(field, pairs.get(at + 1), context.limits);
                if let Change::At(at_ms) = what {
                    hash.set_deadline(field, Some(at_ms));
                }
            }
        },
    )?;
    if let Change::At(at_ms) = what
        && at_ms <= past_ms
    {
        account(tx, key, &names, None);
        return Ok(());
    }
    tx.wrote_many(names.len() as u64, key, Event::HSET, |rec| {
        let count = names.len().to_string();
        let head = [b"HSETEX".as_slice(), key];
        let at_ms = if let Change::At(at_ms) = what {
            at_ms.to_string()
        } else {
            String::new()
        };
        let middle: Vec<&[u8]> = match what {
            Change::Keep => vec![b"KEEPTTL"],
            Change::Clear => vec![],
            Change::At(_) => vec![b"PXAT", at_ms.as_bytes()],
        };
        let tail = [b"FIELDS", count.as_bytes()];
        let all = head
            .into_iter()
            .chain(middle.iter().copied())
            .chain(tail)
            .chain(pairs.iter());
        rec.cmd_of(4 + middle.len() + pairs.len(), all);
    });
    if matches!(what, Change::At(_)) {
        tx.occurred(key, Event::HEXPIRE);
    }
    Ok(())
}
