//! Ranges of members: read, counted, removed, stored.

use std::sync::Arc;

use super::bounds::{By, Limit, Range};
use super::{LOG, element, row, scored};
use crate::command::flags::*;
use crate::command::keys::{self, KeySpec, Keys};
use crate::command::{Ask, Change, Command, Decision, Gather, Peek, Run, Standing, peeks};
use crate::keyspace::{Event, Tx};
use crate::resp::{Args, CmdError, CmdResult, Writer};
use crate::value::listpack::Item;
use crate::value::zset::Zset;
use crate::value::{Collection, Value};

const STORE: Keys = &[
    KeySpec::range(keys::OW | keys::UPDATE, 1, 0, 1),
    KeySpec::range(keys::RO | keys::ACCESS, 2, 0, 1),
];
const RANGE: &str = "O(log(N)+M) where N is the number of members and M that of those in range";

pub const COMMANDS: &[Command] = &[
    Command {
        since: "2.0.0",
        summary: "Replies with the number of members within a range of scores.",
        complexity: LOG,
        syntax: "key min:double max:double",
        ..row("zcount", 4, READONLY | FAST, keys::ONE_RO, Run::Key(zcount))
    },
    Command {
        since: "2.8.9",
        summary: "Replies with the number of members within a range of bytes.",
        complexity: LOG,
        syntax: "key min max",
        ..row(
            "zlexcount",
            4,
            READONLY | FAST,
            keys::ONE_RO,
            Run::Key(zlexcount),
        )
    },
    Command {
        since: "1.2.0",
        summary: "Replies with the members of a range.",
        complexity: RANGE,
        syntax: "key start:string stop:string [sortby=(BYSCORE|BYLEX) @6.2.0] [REV @6.2.0] \
                 [LIMIT (offset count) @6.2.0] [WITHSCORES]",
        history: &[("6.2.0", "Takes `REV`, `BYSCORE`, `BYLEX` and `LIMIT`.")],
        ..row("zrange", -4, READONLY, keys::ONE_RO, Run::Key(zrange))
    },
    Command {
        since: "2.8.9",
        summary: "Replies with the members of a range of bytes.",
        complexity: RANGE,
        syntax: "key min max [LIMIT (offset count)]",
        standing: Standing::Deprecated {
            since: "6.2.0",
            by: "`ZRANGE` with the `BYLEX` argument",
        },
        ..row(
            "zrangebylex",
            -4,
            READONLY,
            keys::ONE_RO,
            Run::Key(zrangebylex),
        )
    },
    Command {
        since: "1.0.5",
        summary: "Replies with the members of a range of scores.",
        complexity: RANGE,
        syntax: "key min:double max:double [WITHSCORES @2.0.0] [LIMIT (offset count)]",
        history: &[("2.0.0", "Takes `WITHSCORES`.")],
        standing: Standing::Deprecated {
            since: "6.2.0",
            by: "`ZRANGE` with the `BYSCORE` argument",
        },
        ..row(
            "zrangebyscore",
            -4,
            READONLY,
            keys::ONE_RO,
            Run::Key(zrangebyscore),
        )
    },
    Command {
        since: "6.2.0",
        summary: "Stores the members of a range.",
        complexity: RANGE,
        syntax: "dst:key src:key min max [sortby=BYSCORE|BYLEX] [REV] [LIMIT (offset count)]",
        ..row(
            "zrangestore",
            -5,
            WRITE | DENYOOM,
            STORE,
            Run::Gather(&ZRANGESTORE),
        )
    },
    Command {
        since: "2.8.9",
        summary: "Removes the members of a range of bytes.",
        complexity: RANGE,
        syntax: "key min max",
        ..row(
            "zremrangebylex",
            4,
            WRITE,
            keys::ONE_RW_DELETE,
            Run::Key(zremrangebylex),
        )
    },
    Command {
        since: "2.0.0",
        summary: "Removes the members of a range of ranks.",
        complexity: RANGE,
        syntax: "key start stop",
        ..row(
            "zremrangebyrank",
            4,
            WRITE,
            keys::ONE_RW_DELETE,
            Run::Key(zremrangebyrank),
        )
    },
    Command {
        since: "1.2.0",
        summary: "Removes the members of a range of scores.",
        complexity: RANGE,
        syntax: "key min:double max:double",
        ..row(
            "zremrangebyscore",
            4,
            WRITE,
            keys::ONE_RW_DELETE,
            Run::Key(zremrangebyscore),
        )
    },
    Command {
        since: "1.2.0",
        summary: "Replies with the members of a range of ranks, from the end.",
        complexity: RANGE,
        syntax: "key start stop [WITHSCORES]",
        standing: Standing::Deprecated {
            since: "6.2.0",
            by: "`ZRANGE` with the `REV` argument",
        },
        ..row("zrevrange", -4, READONLY, keys::ONE_RO, Run::Key(zrevrange))
    },
    Command {
        since: "2.8.9",
        summary: "Replies with the members of a range of bytes, from the end.",
        complexity: RANGE,
        syntax: "key max min [LIMIT (offset count)]",
        standing: Standing::Deprecated {
            since: "6.2.0",
            by: "`ZRANGE` with the `REV` and `BYLEX` arguments",
        },
        ..row(
            "zrevrangebylex",
            -4,
            READONLY,
            keys::ONE_RO,
            Run::Key(zrevrangebylex),
        )
    },
    Command {
        since: "2.2.0",
        summary: "Replies with the members of a range of scores, from the end.",
        complexity: RANGE,
        syntax: "key max:double min:double [WITHSCORES] [LIMIT (offset count)]",
        history: &[("2.1.6", "Takes scores that the range excludes.")],
        standing: Standing::Deprecated {
            since: "6.2.0",
            by: "`ZRANGE` with the `REV` and `BYSCORE` arguments",
        },
        ..row(
            "zrevrangebyscore",
            -4,
            READONLY,
            keys::ONE_RO,
            Run::Key(zrevrangebyscore),
        )
    },
];

/// A request for a range.
struct Query {
    range: Range,
    reverse: bool,
    limit: Option<Limit>,
    with_scores: bool,
}

impl Query {
    fn ranks(&self, set: &Zset) -> (usize, usize) {
        let ranks = self.range.ranks(set, self.reverse);
        match self.limit {
            Some(limit) => limit.narrow(ranks, self.reverse),
            None => ranks,
        }
    }
}

/// What the name of a command says of its range; `None`: its options do.
#[derive(Clone, Copy)]
struct Form {
    by: Option<By>,
    reverse: Option<bool>,
}

const BY_OPTIONS: Form = Form {
    by: None,
    reverse: None,
};

/// Options of a range whose bounds are arguments `min` and the next. Redis: t_zset.c
/// zrangeGenericCommand.
fn query(args: &Args, min: usize, form: Form, stores: bool) -> Result<Query, CmdError> {
    let (mut by, mut reverse) = (form.by, form.reverse);
    let (mut limit, mut with_scores) = (None, false);
    let mut at = min + 2;
    while at < args.len() {
        if !stores && args.is(at, "withscores") {
            with_scores = true;
        } else if args.is(at, "limit") && at + 2 < args.len() {
            limit = Some(Limit {
                offset: args.int(at + 1)?,
                count: args.int(at + 2)?,
            });
            at += 2;
        } else if reverse.is_none() && args.is(at, "rev") {
            reverse = Some(true);
        } else if by.is_none() && args.is(at, "bylex") {
            by = Some(By::Lex);
        } else if by.is_none() && args.is(at, "byscore") {
            by = Some(By::Score);
        } else {
            return Err(CmdError::Syntax);
        }
        at += 1;
    }
    let (by, reverse) = (by.unwrap_or(By::Rank), reverse.unwrap_or(false));
    // Redis: no limit is -1, so that one is no limit.
    if limit.is_some_and(|limit| limit.count != -1) && by == By::Rank {
        return Err(CmdError::Text(
            "ERR syntax error, LIMIT is only supported in combination with either BYSCORE or BYLEX",
        ));
    }
    if with_scores && by == By::Lex {
        return Err(CmdError::Text(
            "ERR syntax error, WITHSCORES not supported in combination with BYLEX",
        ));
    }
    let (low, high) = if reverse && by != By::Rank {
        (min + 1, min)
    } else {
        (min, min + 1)
    };
    Ok(Query {
        range: Range::parse(args, by, low, high)?,
        reverse,
        limit,
        with_scores,
    })
}

const fn form(by: By, reverse: bool) -> Form {
    Form {
        by: Some(by),
        reverse: Some(reverse),
    }
}

pub(super) fn zrange(tx: &mut Tx, args: &Args, out: &mut Writer) -> CmdResult {
    read(tx, args, BY_OPTIONS, out)
}

pub(super) fn zrevrange(tx: &mut Tx, args: &Args, out: &mut Writer) -> CmdResult {
    read(tx, args, form(By::Rank, true), out)
}

pub(super) fn zrangebyscore(tx: &mut Tx, args: &Args, out: &mut Writer) -> CmdResult {
    read(tx, args, form(By::Score, false), out)
}

pub(super) fn zrevrangebyscore(tx: &mut Tx, args: &Args, out: &mut Writer) -> CmdResult {
    read(tx, args, form(By::Score, true), out)
}

pub(super) fn zrangebylex(tx: &mut Tx, args: &Args, out: &mut Writer) -> CmdResult {
    read(tx, args, form(By::Lex, false), out)
}

pub(super) fn zrevrangebylex(tx: &mut Tx, args: &Args, out: &mut Writer) -> CmdResult {
    read(tx, args, form(By::Lex, true), out)
}

fn read(tx: &mut Tx, args: &Args, form: Form, out: &mut Writer) -> CmdResult {
    let query = query(args, 2, form, false)?;
    let Some(set) = tx.read::<Zset>(args.get(1))? else {
        return out.array(0);
    };
    let (start, end) = query.ranks(set);
    let count = end - start;
    // RESP3 nests pairs.
    let nested = query.with_scores && out.resp3();
    out.array(if query.with_scores && !nested {
        2 * count
    } else {
        count
    })?;
    if count == 0 {
        return Ok(());
    }
    let members = if query.reverse {
        set.iter_back_from(end - 1)
    } else {
        set.iter_from(start)
    };
    for (name, score) in members.take(count) {
        if query.with_scores {
            scored(name, score, nested, out)?;
        } else {
            element(name, out)?;
        }
    }
    Ok(())
}

fn count(tx: &mut Tx, args: &Args, by: By, out: &mut Writer) -> CmdResult {
    let range = Range::parse(args, by, 2, 3)?;
    let set = tx.read::<Zset>(args.get(1))?;
    let (start, end) = set.map_or((0, 0), |set| range.ranks(set, false));
    out.int((end - start) as i64)
}

pub(super) fn zcount(tx: &mut Tx, args: &Args, out: &mut Writer) -> CmdResult {
    count(tx, args, By::Score, out)
}

pub(super) fn zlexcount(tx: &mut Tx, args: &Args, out: &mut Writer) -> CmdResult {
    count(tx, args, By::Lex, out)
}

fn remove(tx: &mut Tx, args: &Args, by: By, event: Event, out: &mut Writer) -> CmdResult {
    let key = args.get(1);
    let range = Range::parse(args, by, 2, 3)?;
    let removed = tx.change(key, |set: &mut Zset, _| {
        let (start, end) = range.ranks(set, false);
        set.remove_range(start, end);
        end - start
    })?;
    let removed = removed.unwrap_or(0);
    match removed {
        0 => tx.unchanged(),
        _ => tx.wrote_many(removed as u64, key, event, |rec| {
            rec.cmd_of(args.len(), args.iter());
        }),
    }
    out.int(removed as i64)
}

pub(super) fn zremrangebyrank(tx: &mut Tx, args: &Args, out: &mut Writer) -> CmdResult {
    remove(tx, args, By::Rank, Event::ZREMRANGEBYRANK, out)
}

pub(super) fn zremrangebyscore(tx: &mut Tx, args: &Args, out: &mut Writer) -> CmdResult {
    remove(tx, args, By::Score, Event::ZREMRANGEBYSCORE, out)
}

pub(super) fn zremrangebylex(tx: &mut Tx, args: &Args, out: &mut Writer) -> CmdResult {
    remove(tx, args, By::Lex, Event::ZREMRANGEBYLEX, out)
}

/// `ZRANGESTORE destination source min max [BYSCORE|BYLEX] [REV] [LIMIT offset count]`
pub(super) static ZRANGESTORE: Gather = Gather {
    peek: peek_range,
    decide: decide_store,
    more: None,
};

/// The members in range, as a sorted set of their own.
fn peek_range(tx: &mut Tx, args: &Args, at: usize) -> Peek {
    if at == 1 {
        return peeks::exists(tx, args, at);
    }
    let Ok(query) = query(args, 3, BY_OPTIONS, true) else {
        return Peek::Missing;
    };
    let limits = tx.settings().limits.clone();
    match tx.read::<Zset>(args.get(at)) {
        Err(error) => Peek::Failed(error.into()),
        Ok(None) => Peek::Missing,
        Ok(Some(set)) => {
            let (start, end) = query.ranks(set);
            let count = end - start;
            // Redis: only of a range of ranks it is known how much comes. A listpack knows no -0.
            let by_rank = matches!(query.range, Range::Rank(..));
            let is_large = by_rank && count > limits.zset_max_listpack_entries;
            let mut part = Zset::new(if is_large { usize::MAX } else { 0 }, &limits);
            let mut add = |(name, score): (Item, f64)| {
                part.set(name.bytes(&mut itoa::Buffer::new()), score, &limits);
            };
            match query.reverse && count > 0 {
                true => set.iter_back_from(end - 1).take(count).for_each(&mut add),
                false => set.iter_from(start).take(count).for_each(&mut add),
            }
            Peek::Collection(Value::Zset(Arc::new(part)))
        }
    }
}

fn decide_store(ask: &Ask, peeks: &[Peek]) -> Result<Decision, CmdError> {
    query(ask.args, 3, BY_OPTIONS, true)?;
    let part = match &peeks[1] {
        Peek::Failed(error) => return Err(error.clone()),
        Peek::Collection(value) => Zset::of(value).cloned(),
        _ => None,
    };
    super::store(ask, 1, &peeks[0], part, Event::ZRANGESTORE)
}

/// Stores a result under the key at argument `key`, or deletes that if the result is empty; replies
/// with the result's size.
pub(in crate::command) fn store_result(
    ask: &Ask,
    key: usize,
    destination: &Peek,
    result: Option<Zset>,
    event: Event,
) -> Result<Decision, CmdError> {
    let db = ask.db;
    let len = result.as_ref().map_or(0, Zset::len);
    let decision = Decision::reply(ask, |out| out.int(len as i64))?;
    let change = match result.filter(|result| !result.is_empty()) {
        Some(result) => Some(Change::Store {
            db,
            key,
            value: Value::Zset(Arc::new(result)),
            event,
        }),
        None => destination.exists().then_some(Change::Remove {
            db,
            key,
            event: Event::DEL,
        }),
    };
    Ok(decision.with(change.into_iter().collect()))
}
