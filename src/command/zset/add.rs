//! Adding members and changing scores.

use crate::keyspace::{Event, Tx};
use crate::resp::{Args, CmdError, CmdResult, Writer};
use crate::value::limits::Limits;
use crate::value::zset::Zset;

#[derive(Clone, Copy, Default)]
struct Options {
    /// NX: only new members.
    new_only: bool,
    /// XX: only members that exist.
    existing_only: bool,
    /// GT: only higher scores.
    greater: bool,
    /// LT: only lower scores.
    less: bool,
    /// CH: the reply counts changes.
    changes: bool,
    /// INCR: the score is added.
    increment: bool,
}

fn options(args: &Args) -> Result<(Options, usize), CmdError> {
    let mut options = Options::default();
    let mut at = 2;
    while at < args.len() {
        if args.is(at, "nx") {
            options.new_only = true;
        } else if args.is(at, "xx") {
            options.existing_only = true;
        } else if args.is(at, "gt") {
            options.greater = true;
        } else if args.is(at, "lt") {
            options.less = true;
        } else if args.is(at, "ch") {
            options.changes = true;
        } else if args.is(at, "incr") {
            options.increment = true;
        } else {
            break;
        }
        at += 1;
    }
    let pairs = args.len() - at;
    if pairs == 0 || !pairs.is_multiple_of(2) {
        return Err(CmdError::Syntax);
    }
    if options.new_only && options.existing_only {
        return Err(CmdError::Text(
            "ERR XX and NX options at the same time are not compatible",
        ));
    }
    let bounds = u8::from(options.greater) + u8::from(options.less) + u8::from(options.new_only);
    if bounds > 1 {
        return Err(CmdError::Text(
            "ERR GT, LT, and/or NX options at the same time are not compatible",
        ));
    }
    if options.increment && pairs > 2 {
        return Err(CmdError::Text(
            "ERR INCR option supports a single increment-element pair",
        ));
    }
    Ok((options, at))
}

/// What became of one member.
enum Outcome {
    Refused,
    Added(f64),
    Updated(f64),
    Unchanged(f64),
}

const NOT_A_NUMBER: CmdError = CmdError::Text("ERR resulting score is not a number (NaN)");

fn add_one(
    set: &mut Zset,
    name: &[u8],
    score: f64,
    options: Options,
    limits: &Limits,
) -> Result<Outcome, CmdError> {
    let Some(old) = set.score(name) else {
        if options.existing_only {
            return Ok(Outcome::Refused);
        }
        set.set(name, score, limits);
        return Ok(Outcome::Added(score));
    };
    if options.new_only {
        return Ok(Outcome::Refused);
    }
    let score = if options.increment {
        old + score
    } else {
        score
    };
    if score.is_nan() {
        return Err(NOT_A_NUMBER);
    }
    if (options.greater && score <= old) || (options.less && score >= old) {
        return Ok(Outcome::Refused);
    }
    if score == old {
        return Ok(Outcome::Unchanged(score));
    }
    set.set(name, score, limits);
    Ok(Outcome::Updated(score))
}

pub(in crate::command) fn zadd(tx: &mut Tx, args: &Args, out: &mut Writer) -> CmdResult {
    let (options, from) = options(args)?;
    add(tx, args, b"ZADD", options, from, out)
}

/// `ZINCRBY key increment member`
pub(super) fn zincrby(tx: &mut Tx, args: &Args, out: &mut Writer) -> CmdResult {
    let options = Options {
        increment: true,
        ..Options::default()
    };
    add(tx, args, b"ZINCRBY", options, 2, out)
}

fn add(
    tx: &mut Tx,
    args: &Args,
    command: &[u8],
    options: Options,
    from: usize,
    out: &mut Writer,
) -> CmdResult {
    let key = args.get(1);
    // All scores are read before any is set: a bad one changes nothing.
    let pairs: Vec<(f64, &[u8])> = (from..args.len())
        .step_by(2)
        .map(|at| Ok((args.double(at)?, args.get(at + 1))))
        .collect::<Result<_, CmdError>>()?;
    if tx.peek::<Zset>(key)?.is_none() && options.existing_only {
        return if options.increment {
            out.null()
        } else {
            out.int(0)
        };
    }
    let first_len = pairs[0].1.len();
    let (mut added, mut updated, mut last) = (0, 0, None);
    let result: CmdResult = tx.change_or_create(
        key,
        |limits| Zset::new(first_len, limits),
        |set, context| {
            for &(score, name) in &pairs {
                last = match add_one(set, name, score, options, context.limits)? {
                    Outcome::Refused => None,
                    Outcome::Unchanged(score) => Some(score),
                    Outcome::Added(score) => {
                        added += 1;
                        Some(score)
                    }
                    Outcome::Updated(score) => {
                        updated += 1;
                        Some(score)
                    }
                };
            }
            Ok(())
        },
    )?;
    if added + updated > 0 {
        let event = if options.increment {
            Event::ZINCR
        } else {
            Event::ZADD
        };
        tx.wrote_many(added + updated, key, event, |rec| {
            rec.cmd_of(
                args.len(),
                std::iter::once(command).chain(args.iter().skip(1)),
            );
        });
    } else {
        tx.unchanged();
    }
    result?;
    match (options.increment, last) {
        (true, Some(score)) => out.double(score),
        (true, None) => out.null(),
        (false, _) if options.changes => out.int((added + updated) as i64),
        (false, _) => out.int(added as i64),
    }
}
