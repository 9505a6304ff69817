//! Whole databases.

use crate::command::{Command, Part, Place, Run};
use crate::keyspace::Tx;
use crate::resp::{Args, CmdError, CmdResult, Writer};

pub(super) const DBSIZE: Run = Run::Shards {
    part: |tx, _, _| Ok(Part::Int(tx.key_count() as i64)),
    merge: sum,
};
pub(super) const FLUSHDB: Run = Run::Shards {
    part: flushdb,
    merge: ok,
};
pub(super) const FLUSHALL: Run = Run::Shards {
    part: flushall,
    merge: ok,
};
pub(super) const SWAPDB: Run = Run::Shards {
    part: swapdb,
    merge: ok,
};

fn sum(_args: &Args, parts: Vec<Part>, out: &mut Writer) -> CmdResult {
    out.int(
        parts
            .iter()
            .map(|part| if let Part::Int(n) = part { *n } else { 0 })
            .sum(),
    )
}

fn ok(_args: &Args, _parts: Vec<Part>, out: &mut Writer) -> CmdResult {
    out.ok()
}

/// Whether a command leaves no key in any database.
pub fn empties_everything(command: &Command, args: &Args) -> bool {
    command.name == "flushall" && is_lazy(args).is_ok()
}

/// Whether a flush frees memory in the background.
fn is_lazy(args: &Args) -> Result<bool, CmdError> {
    match args.len() {
        1 => Ok(false),
        2 if args.is(1, "sync") => Ok(false),
        2 if args.is(1, "async") => Ok(true),
        _ => Err(CmdError::Syntax),
    }
}

fn flushdb(tx: &mut Tx, args: &Args, _place: Place) -> Result<Part, CmdError> {
    tx.flush_db(is_lazy(args)?);
    Ok(Part::Nothing)
}

fn flushall(tx: &mut Tx, args: &Args, _place: Place) -> Result<Part, CmdError> {
    tx.flush_all(is_lazy(args)?);
    Ok(Part::Nothing)
}

fn swapdb(tx: &mut Tx, args: &Args, place: Place) -> Result<Part, CmdError> {
    let number = |at: usize, text: &'static str| {
        let db = args.int(at).ok().and_then(|db| i32::try_from(db).ok());
        db.ok_or(CmdError::Text(text))
    };
    let first = number(1, "ERR invalid first DB index")?;
    let second = number(2, "ERR invalid second DB index")?;
    let known = |db: i32| u32::try_from(db).ok().filter(|&db| db < tx.databases());
    let (Some(first), Some(second)) = (known(first), known(second)) else {
        return Err(CmdError::DbIndexOutOfRange);
    };
    tx.swap_dbs(first, second, place.shard == 0);
    Ok(Part::Nothing)
}
