//! Values and deadlines in one command: HGETDEL, HGETEX and HSETEX. Redis: t_hash.c of 8.0.

use super::element;
use super::expire::{NO_COUNT, account, deadline, fields};
use crate::command::expiry::Unit;
use crate::keyspace::{Event, Tx};
use crate::number;
use crate::resp::{Args, CmdError, CmdResult, Writer};
use crate::value::hash::{Hash, Live};

/// Replies with the values of `names`, and returns those that exist.
fn read<'a>(
    fields: Option<Live>,
    names: &Args<'a>,
    out: &mut Writer,
) -> Result<Vec<&'a [u8]>, CmdError> {
    let mut found = Vec::new();
    out.array(names.len())?;
    for field in names.iter() {
        match fields.and_then(|fields| fields.get(field)) {
            Some(value) => {
                element(value, out)?;
                found.push(field);
            }
            None => out.null()?,
        }
    }
    Ok(found)
}

/// Replies with the values of `names` and deletes the fields: one that is named again is gone.
fn take(tx: &mut Tx, key: &[u8], names: &Args, out: &mut Writer) -> CmdResult {
    out.array(names.len())?;
    let taken = tx.change(key, |hash: &mut Hash, context| {
        let mut taken: Vec<&[u8]> = Vec::new();
        for field in names.iter() {
            match hash.live(context.ended_ms).get(field) {
                Some(value) => {
                    element(value, out)?;
                    hash.remove(field);
                    taken.push(field);
                }
                None => out.null()?,
            }
        }
        Ok::<_, CmdError>(taken)
    })?;
    match taken {
        Some(taken) => account(tx, key, &taken?, None),
        None => names.iter().try_for_each(|_| out.null())?,
    }
    Ok(())
}

/// `HGETDEL key FIELDS numfields field ...`
pub(super) fn hgetdel(tx: &mut Tx, args: &Args, out: &mut Writer) -> CmdResult {
    let key = args.get(1);
    tx.read::<Hash>(key)?;
    let names = fields(args, 2, NO_COUNT)?;
    take(tx, key, &names, out)
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

/// `HGETEX key [EX s|PX ms|EXAT s|PXAT ms|PERSIST] FIELDS numfields field ...`
pub(super) fn hgetex(tx: &mut Tx, args: &Args, out: &mut Writer) -> CmdResult {
    let key = args.get(1);
    tx.peek::<Hash>(key)?;
    let (what, taken) = match Unit::of(args, 2) {
        Some(unit) => (Change::At(deadline(tx, args, "hgetex", 3, unit)?), 2),
        None if args.is(2, "persist") => (Change::Clear, 1),
        None => (Change::Keep, 0),
    };
    let names = fields(args, 2 + taken, NO_COUNT)?;
    let past_ms = tx.past_ms();
    if matches!(what, Change::At(at_ms) if at_ms <= past_ms) {
        return take(tx, key, &names, out);
    }
    let found = read(tx.fields(key)?, &names, out)?;
    match what {
        Change::Keep => Ok(()),
        Change::Clear => persist(tx, key, &found),
        Change::At(at_ms) => {
            tx.change(key, |hash: &mut Hash, context| {
                for field in &found {
                    hash.set_deadline(field, at_ms, context.limits);
                }
            })?;
            account(tx, key, &found, Some(at_ms));
            Ok(())
        }
    }
}

fn persist(tx: &mut Tx, key: &[u8], names: &[&[u8]]) -> CmdResult {
    let changed = tx.change(key, |hash: &mut Hash, _| {
        let clear = |field: &&&[u8]| {
            let had = hash.deadline(field).is_some();
            if had {
                hash.clear_deadline(field);
            }
            had
        };
        names.iter().filter(clear).copied().collect::<Vec<_>>()
    })?;
    let changed = changed.unwrap_or_default();
    if changed.is_empty() {
        tx.unchanged();
        return Ok(());
    }
    tx.wrote_many(changed.len() as u64, key, Event::HPERSIST, |rec| {
        let count = changed.len().to_string();
        let head = [b"HPERSIST", key, b"FIELDS", count.as_bytes()];
        let all = head.into_iter().chain(changed.iter().copied());
        rec.cmd_of(changed.len() + 4, all);
    });
    Ok(())
}

/// What HSETEX is to do.
struct Wish<'a> {
    /// Whether every field has to exist (FXX), or none may (FNX).
    exist: Option<bool>,
    what: Change,
    /// Fields and values.
    pairs: Args<'a>,
}

/// The options of HSETEX, up to FIELDS, which comes last. Redis: hsetexParseArgs.
fn wish<'a>(tx: &Tx, args: &Args<'a>) -> Result<Wish<'a>, CmdError> {
    const TWO_CONDITIONS: CmdError =
        CmdError::Text("ERR Only one of FXX or FNX arguments can be specified");
    const TWO_DEADLINES: CmdError =
        CmdError::Text("ERR Only one of EX, PX, EXAT, PXAT or KEEPTTL arguments can be specified");
    let (mut at, mut exist, mut what) = (2, None, None);
    while at < args.len() && !args.is(at, "fields") {
        let is_condition = args.is(at, "fnx") || args.is(at, "fxx");
        let unit = Unit::of(args, at);
        if is_condition && exist.is_some() {
            return Err(TWO_CONDITIONS);
        } else if is_condition {
            exist = Some(args.is(at, "fxx"));
        } else if (unit.is_some() || args.is(at, "keepttl")) && what.is_some() {
            return Err(TWO_DEADLINES);
        } else if let Some(unit) = unit {
            at += 1;
            if at >= args.len() {
                return Err(CmdError::Text("ERR missing expire time"));
            }
            what = Some(Change::At(deadline(tx, args, "hsetex", at, unit)?));
        } else if args.is(at, "keepttl") {
            what = Some(Change::Keep);
        } else {
            let word = args.get(at);
            return Err(CmdError::quoting(&[b"ERR unknown argument: ", word]));
        }
        at += 1;
    }
    Ok(Wish {
        exist,
        what: what.unwrap_or(Change::Clear),
        pairs: pairs(args, at)?,
    })
}

/// The fields and values of `... FIELDS numfields field value ...` with FIELDS at argument `at`.
fn pairs<'a>(args: &Args<'a>, at: usize) -> Result<Args<'a>, CmdError> {
    let arity = || CmdError::arity("hsetex");
    if at + 3 >= args.len() {
        return Err(arity());
    }
    let count = number::parse_i64(args.get(at + 1)).filter(|n| (1..=i32::MAX.into()).contains(n));
    let count = count.ok_or(CmdError::Text("ERR invalid number of fields"))? as usize;
    match 2 * count == args.len() - at - 2 {
        true => Ok(args.from(at + 2)),
        false => Err(arity()),
    }
}

/// `HSETEX key [FNX|FXX] [EX s|PX ms|EXAT s|PXAT ms|KEEPTTL] FIELDS numfields field value ...`
pub(super) fn hsetex(tx: &mut Tx, args: &Args, out: &mut Writer) -> CmdResult {
    let key = args.get(1);
    let Wish { exist, what, pairs } = wish(tx, args)?;
    let fields = tx.peek_fields(key)?;
    let exists = |field: &[u8]| fields.is_some_and(|fields| fields.contains(field));
    let mut names = pairs.iter().step_by(2);
    if exist.is_some_and(|wanted| names.any(|field| exists(field) != wanted)) {
        return out.int(0);
    }
    let past_ms = tx.past_ms();
    match what {
        Change::At(at_ms) if at_ms <= past_ms => set_and_remove(tx, key, &pairs)?,
        what => set_pairs(tx, key, &pairs, what)?,
    }
    out.int(1)
}

/// Fields that are gone as soon as they are set: what was there before goes, too.
fn set_and_remove(tx: &mut Tx, key: &[u8], pairs: &Args) -> CmdResult {
    let names: Vec<&[u8]> = pairs.iter().step_by(2).collect();
    let existed = tx.peek_exists(key);
    tx.occurred(key, Event::HSET);
    tx.change(key, |hash: &mut Hash, _| {
        for field in &names {
            hash.remove(field);
        }
    })?;
    account(tx, key, &names, None);
    // A hash that was not there was made for the purpose, and is gone again.
    if !existed {
        tx.occurred(key, Event::DEL);
    }
    Ok(())
}

fn set_pairs(tx: &mut Tx, key: &[u8], pairs: &Args, what: Change) -> CmdResult {
    tx.end_fields(key, pairs.iter().step_by(2));
    tx.change_or_create(
        key,
        |_| Hash::default(),
        |hash, context| {
            for at in (0..pairs.len()).step_by(2) {
                let field = pairs.get(at);
                if what == Change::Clear {
                    hash.clear_deadline(field);
                }
                hash.set(field, pairs.get(at + 1), context.limits);
                if let Change::At(at_ms) = what {
                    hash.set_deadline(field, at_ms, context.limits);
                }
            }
        },
    )?;
    let count = pairs.len() / 2;
    tx.wrote_many(count as u64, key, Event::HSET, |rec| {
        let count = count.to_string();
        let at_ms = match what {
            Change::At(at_ms) => at_ms.to_string(),
            Change::Keep | Change::Clear => String::new(),
        };
        let middle: Vec<&[u8]> = match what {
            Change::Keep => vec![b"KEEPTTL"],
            Change::Clear => vec![],
            Change::At(_) => vec![b"PXAT", at_ms.as_bytes()],
        };
        let all = [b"HSETEX".as_slice(), key]
            .into_iter()
            .chain(middle.iter().copied())
            .chain([b"FIELDS", count.as_bytes()])
            .chain(pairs.iter());
        rec.cmd_of(4 + middle.len() + pairs.len(), all);
    });
    if matches!(what, Change::At(_)) {
        tx.occurred(key, Event::HEXPIRE);
    }
    Ok(())
}
