//! Intersections, unions and differences of sets on whatever shards they are.

use std::sync::Arc;

use super::element;
use crate::command::peeks;
use crate::command::{Ask, Change, Decision, Gather, Peek};
use crate::keyspace::{Event, Tx};
use crate::resp::{Args, CmdError};
use crate::value::listpack::Item;
use crate::value::set::Set;
use crate::value::{Collection, Value};

#[derive(Clone, Copy)]
enum Operation {
    Inter,
    Union,
    Diff,
}

pub(super) static SINTER: Gather = read(|ask, peeks| reply(ask, peeks, Operation::Inter));
pub(super) static SUNION: Gather = read(|ask, peeks| reply(ask, peeks, Operation::Union));
pub(super) static SDIFF: Gather = read(|ask, peeks| reply(ask, peeks, Operation::Diff));
pub(super) static SINTERSTORE: Gather =
    write(|ask, peeks| store(ask, peeks, Operation::Inter, Event::SINTERSTORE));
pub(super) static SUNIONSTORE: Gather =
    write(|ask, peeks| store(ask, peeks, Operation::Union, Event::SUNIONSTORE));
pub(super) static SDIFFSTORE: Gather =
    write(|ask, peeks| store(ask, peeks, Operation::Diff, Event::SDIFFSTORE));
pub(super) static SINTERCARD: Gather = Gather {
    peek: |tx, args, at| match card_limit(args) {
        Ok(_) => peeks::collection::<Set>(tx, args, at),
        // The decision says what is wrong: nothing was looked up for it.
        Err(_) => Peek::Missing,
    },
    decide: card,
    more: None,
};

type Decide = fn(&Ask, &[Peek]) -> Result<Decision, CmdError>;

const fn read(decide: Decide) -> Gather {
    Gather {
        peek: peeks::collection::<Set>,
        decide,
        more: None,
    }
}

const fn write(decide: Decide) -> Gather {
    Gather {
        peek: peek_sources,
        decide,
        more: None,
    }
}

/// Of the destination only whether it exists.
fn peek_sources(tx: &mut Tx, args: &Args, at: usize) -> Peek {
    if at == 1 {
        peeks::exists(tx, args, at)
    } else {
        peeks::collection::<Set>(tx, args, at)
    }
}

/// The sets that were peeked; `None` for those that do not exist.
fn sets(peeks: &[Peek]) -> Result<Vec<Option<&Set>>, CmdError> {
    let mut sets = Vec::with_capacity(peeks.len());
    for peek in peeks {
        sets.push(match peek {
            Peek::Failed(error) => return Err(error.clone()),
            Peek::Collection(value) => Set::of(value),
            _ => None,
        });
    }
    Ok(sets)
}

/// Visits what an operation finds until `visit` has enough; members of a union as often as there are.
fn visit<'s>(
    sets: &[Option<&'s Set>],
    operation: Operation,
    mut visit: impl FnMut(Item<'s>) -> bool,
) {
    match operation {
        Operation::Inter => intersect(sets, visit),
        Operation::Union => {
            let mut all = sets.iter().flatten().flat_map(|set| set.iter());
            all.all(visit);
        }
        Operation::Diff => {
            if let Some((Some(first), others)) = sets.split_first() {
                let is_elsewhere =
                    |member| others.iter().flatten().any(|set| set.contains_item(member));
                first
                    .iter()
                    .all(|member| is_elsewhere(member) || visit(member));
            }
        }
    }
}

fn compute(peeks: &[Peek], operation: Operation) -> Result<Set, CmdError> {
    // Redis: results begin as an intset. Where their encoding matters, at the key they are stored
    // under, they are built again.
    let limits = &Default::default();
    let mut result = Set::new(b"0", limits);
    visit(&sets(peeks)?, operation, |member| {
        result.add_item(member, limits);
        true
    });
    Ok(result)
}

/// Visits what all sets have until `visit` has enough.
fn intersect<'s>(sets: &[Option<&'s Set>], mut visit: impl FnMut(Item<'s>) -> bool) {
    let Some(mut sets) = sets.iter().copied().collect::<Option<Vec<&Set>>>() else {
        return;
    };
    // From the smallest, tested against the next larger ones first.
    sets.sort_by_key(|set| set.len());
    let Some((smallest, others)) = sets.split_first() else {
        return;
    };
    for member in smallest.iter() {
        if others.iter().all(|set| set.contains_item(member)) && !visit(member) {
            return;
        }
    }
}

fn reply(ask: &Ask, peeks: &[Peek], operation: Operation) -> Result<Decision, CmdError> {
    if matches!(operation, Operation::Union) {
        let union = compute(peeks, operation)?;
        return listed(ask, union.len(), union.iter());
    }
    // No member is found twice: there is no need of a set.
    let mut found = Vec::new();
    visit(&sets(peeks)?, operation, |member| {
        found.push(member);
        true
    });
    listed(ask, found.len(), found.into_iter())
}

/// The reply of so many members.
fn listed<'s>(
    ask: &Ask,
    len: usize,
    mut members: impl Iterator<Item = Item<'s>>,
) -> Result<Decision, CmdError> {
    Decision::reply(ask, |out| {
        out.set(len)?;
        members.try_for_each(|member| element(member, out))
    })
}

fn store(
    ask: &Ask,
    peeks: &[Peek],
    operation: Operation,
    event: Event,
) -> Result<Decision, CmdError> {
    let (destination, sources) = peeks.split_first().ok_or(CmdError::Syntax)?;
    let result = compute(sources, operation)?;
    let decision = Decision::reply(ask, |out| out.int(result.len() as i64))?;
    let (db, key) = (ask.db, 1);
    if !result.is_empty() {
        let value = Value::Set(Arc::new(result));
        return Ok(decision.with(vec![Change::Store {
            db,
            key,
            value,
            event,
        }]));
    }
    let remove = Change::Remove {
        db,
        key,
        event: Event::DEL,
    };
    Ok(decision.with(destination.exists().then_some(remove).into_iter().collect()))
}

/// `SINTERCARD numkeys key ... [LIMIT limit]`
fn card(ask: &Ask, peeks: &[Peek]) -> Result<Decision, CmdError> {
    let limit = card_limit(ask.args)?;
    let sets = sets(peeks)?;
    let mut count = 0;
    intersect(&sets, |_| {
        count += 1;
        limit == 0 || count < limit
    });
    Decision::reply(ask, |out| out.int(count))
}

/// The LIMIT of SINTERCARD and ZINTERCARD.
pub(in crate::command) fn card_limit(args: &Args) -> Result<i64, CmdError> {
    const NEGATIVE: CmdError = CmdError::Text("ERR LIMIT can't be negative");
    let keys = args.int(1).ok().filter(|&n| n > 0);
    let keys = keys.ok_or(CmdError::Text("ERR numkeys should be greater than 0"))? as usize;
    let (mut at, mut limit) = (2 + keys, 0);
    while at < args.len() {
        if !args.is(at, "limit") || at + 1 >= args.len() {
            return Err(CmdError::Syntax);
        }
        // The last one counts.
        limit = args.int(at + 1).ok().filter(|&n| n >= 0).ok_or(NEGATIVE)?;
        at += 2;
    }
    Ok(limit)
}
