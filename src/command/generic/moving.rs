//! Keys that change their name or database, or are copied.

use crate::command::peeks;
use crate::command::{Ask, Change, Decision, Gather, Peek};
use crate::keyspace::{Event, Tx};
use crate::resp::{Args, CmdError, CmdResult, Output, Writer};

pub(super) static RENAME: Gather = Gather {
    peek: peeks::exists,
    decide: |ask, peeks| rename(ask, peeks, true),
    more: None,
};
pub(super) static RENAMENX: Gather = Gather {
    peek: peeks::exists,
    decide: |ask, peeks| rename(ask, peeks, false),
    more: None,
};
pub(super) static COPY: Gather = Gather {
    peek: peek_copy,
    decide: decide_copy,
    more: None,
};

fn encoded(write: impl Fn(&mut Writer) -> CmdResult) -> Result<Output, CmdError> {
    let mut reply = Output::default();
    write(&mut Writer::new(&mut reply, Default::default()))?;
    Ok(reply)
}

fn rename(ask: &Ask, peeks: &[Peek], replace: bool) -> Result<Decision, CmdError> {
    if !peeks[0].exists() {
        return Err(CmdError::NoSuchKey);
    }
    let same = ask.args.get(1) == ask.args.get(2);
    let moves = !same && (replace || !peeks[1].exists());
    let reply = encoded(|out| {
        if replace {
            out.ok()
        } else {
            out.int(i64::from(moves))
        }
    })?;
    let change = Change::Move {
        from: (ask.db, 1),
        to: (ask.db, 2),
        left: Event::RENAME_FROM,
        arrived: Event::RENAME_TO,
    };
    Ok(Decision {
        reply,
        changes: moves.then_some(change).into_iter().collect(),
        ..Decision::default()
    })
}

struct CopyOptions {
    replace: bool,
    db: Option<u32>,
}

impl CopyOptions {
    /// Whether a key is to be copied to itself by somebody in database `db`.
    fn names_itself(&self, args: &Args, db: u32) -> bool {
        self.db.is_none_or(|to| to == db) && args.get(1) == args.get(2)
    }
}

fn copy_options(args: &Args, databases: u32) -> Result<CopyOptions, CmdError> {
    let mut options = CopyOptions {
        replace: false,
        db: None,
    };
    let mut at = 3;
    while at < args.len() {
        if args.is(at, "replace") {
            options.replace = true;
        } else if args.is(at, "db") && at + 1 < args.len() {
            at += 1;
            options.db = Some(args.db(at, databases)?);
        } else {
            return Err(CmdError::Syntax);
        }
        at += 1;
    }
    Ok(options)
}

/// The source's value; of the target only whether it exists, in its own database.
fn peek_copy(tx: &mut Tx, args: &Args, at: usize) -> Peek {
    let db = tx.db();
    if at == 1 {
        let Ok(options) = copy_options(args, tx.databases()) else {
            // The decision says what is wrong: nothing was looked up for it.
            return Peek::Missing;
        };
        if options.names_itself(args, db) {
            return Peek::Missing;
        }
        let value = tx.clone_value(args.get(1));
        tx.count_read(args.get(1), value.is_some());
        return value.map_or(Peek::Missing, Peek::Value);
    }
    let options = copy_options(args, tx.databases()).ok();
    tx.select(options.and_then(|options| options.db).unwrap_or(db));
    let peek = peeks::exists(tx, args, at);
    tx.select(db);
    peek
}

fn decide_copy(ask: &Ask, peeks: &[Peek]) -> Result<Decision, CmdError> {
    let options = copy_options(ask.args, ask.databases)?;
    let db = options.db.unwrap_or(ask.db);
    if options.names_itself(ask.args, ask.db) {
        return Err(CmdError::SameObject);
    }
    let value = match &peeks[0] {
        Peek::Value(value) if options.replace || !peeks[1].exists() => value,
        _ => {
            return Ok(Decision {
                reply: encoded(|out| out.int(0))?,
                ..Decision::default()
            });
        }
    };
    let value = Box::new(value.clone());
    let change = Change::Put {
        db,
        key: 2,
        value,
        event: Event::COPY_TO,
    };
    Ok(Decision {
        reply: encoded(|out| out.int(1))?,
        changes: vec![change],
        ..Decision::default()
    })
}

pub(super) fn move_key(tx: &mut Tx, args: &Args, out: &mut Writer) -> CmdResult {
    let (key, from) = (args.get(1), tx.db());
    let to = args.db(2, tx.databases())?;
    if to == from {
        return Err(CmdError::SameObject);
    }
    if !tx.peek_exists(key) {
        return out.int(0);
    }
    tx.select(to);
    if tx.peek_exists(key) {
        return out.int(0);
    }
    let change = Change::Move {
        from: (from, 1),
        to: (to, 1),
        left: Event::MOVE_FROM,
        arrived: Event::MOVE_TO,
    };
    crate::command::apply(tx, args, change, out);
    out.int(1)
}
