//! Unions, intersections and differences of sorted sets and sets, on whatever shards they are.

use ahash::AHashMap;

use super::{element, row, scored};
use crate::command::flags::*;
use crate::command::keys::{self, KeySpec, Keys};
use crate::command::{Ask, Command, Decision, Gather, Peek, Run, peeks};
use crate::keyspace::{Event, Tx};
use crate::resp::{Args, CmdError};
use crate::value::set::Set;
use crate::value::zset::Zset;
use crate::value::{Collection, Kind, Value};

const COUNTED: Keys = &[KeySpec::count(keys::RO | keys::ACCESS, 1, 0, 1, 1)];
const COUNTED_STORE: Keys = &[
    KeySpec::range(keys::OW | keys::UPDATE, 1, 0, 1),
    KeySpec::count(keys::RO | keys::ACCESS, 2, 0, 1, 1),
];
const ALGEBRA: &str = "O(N*log(N)) where N is the number of members of all sets";

pub const COMMANDS: &[Command] = &[
    Command {
        since: "6.2.0",
        summary: "Replies with what the first set has and no other.",
        complexity: ALGEBRA,
        syntax: "numkeys key ... [WITHSCORES]",
        ..row(
            "zdiff",
            -3,
            READONLY | MOVABLEKEYS,
            COUNTED,
            Run::Gather(&ZDIFF),
        )
    },
    Command {
        since: "6.2.0",
        summary: "Stores what the first set has and no other.",
        complexity: ALGEBRA,
        syntax: "destination numkeys key ...",
        ..row(
            "zdiffstore",
            -4,
            WRITE | DENYOOM | MOVABLEKEYS,
            COUNTED_STORE,
            Run::Gather(&ZDIFFSTORE),
        )
    },
    Command {
        since: "6.2.0",
        summary: "Replies with what all sets have.",
        complexity: ALGEBRA,
        syntax: "numkeys key ... [WEIGHTS weight ...] [AGGREGATE aggregate=(SUM|MIN|MAX)] \
                 [WITHSCORES]",
        ..row(
            "zinter",
            -3,
            READONLY | MOVABLEKEYS,
            COUNTED,
            Run::Gather(&ZINTER),
        )
    },
    Command {
        since: "7.0.0",
        summary: "Replies with how many members all sets have in common.",
        complexity: "O(N*M) where N is the size of the smallest set and M the number of sets",
        syntax: "numkeys key ... [LIMIT limit]",
        ..row(
            "zintercard",
            -3,
            READONLY | MOVABLEKEYS,
            COUNTED,
            Run::Gather(&ZINTERCARD),
        )
    },
    Command {
        since: "2.0.0",
        summary: "Stores what all sets have.",
        complexity: ALGEBRA,
        syntax: "destination numkeys key ... [WEIGHTS weight ...] [AGGREGATE aggregate=(SUM|MIN|\
                 MAX)]",
        ..row(
            "zinterstore",
            -4,
            WRITE | DENYOOM | MOVABLEKEYS,
            COUNTED_STORE,
            Run::Gather(&ZINTERSTORE),
        )
    },
    Command {
        since: "6.2.0",
        summary: "Replies with what any set has.",
        complexity: ALGEBRA,
        syntax: "numkeys key ... [WEIGHTS weight ...] [AGGREGATE aggregate=(SUM|MIN|MAX)] \
                 [WITHSCORES]",
        ..row(
            "zunion",
            -3,
            READONLY | MOVABLEKEYS,
            COUNTED,
            Run::Gather(&ZUNION),
        )
    },
    Command {
        since: "2.0.0",
        summary: "Stores what any set has.",
        complexity: ALGEBRA,
        syntax: "destination numkeys key ... [WEIGHTS weight ...] [AGGREGATE aggregate=(SUM|MIN|\
                 MAX)]",
        ..row(
            "zunionstore",
            -4,
            WRITE | DENYOOM | MOVABLEKEYS,
            COUNTED_STORE,
            Run::Gather(&ZUNIONSTORE),
        )
    },
];

#[derive(Clone, Copy, PartialEq, Eq)]
enum Operation {
    Union,
    Inter,
    Diff,
}

impl Operation {
    /// The command's own name, whatever it has been renamed to.
    fn command(self, stores: bool) -> &'static str {
        match (self, stores) {
            (Operation::Union, false) => "zunion",
            (Operation::Union, true) => "zunionstore",
            (Operation::Inter, false) => "zinter",
            (Operation::Inter, true) => "zinterstore",
            (Operation::Diff, false) => "zdiff",
            (Operation::Diff, true) => "zdiffstore",
        }
    }
}

#[derive(Clone, Copy)]
enum Aggregate {
    Sum,
    Min,
    Max,
}

impl Aggregate {
    fn apply(self, a: f64, b: f64) -> f64 {
        match self {
            // Redis: zunionInterAggregate: the sum of both infinities is 0.
            Aggregate::Sum => not_nan(a + b),
            // Of 0 and -0 the first is kept.
            Aggregate::Min => [a, b][usize::from(b < a)],
            Aggregate::Max => [a, b][usize::from(b > a)],
        }
    }
}

fn not_nan(score: f64) -> f64 {
    if score.is_nan() { 0.0 } else { score }
}

pub(super) static ZUNION: Gather = read(|ask, peeks| reply(ask, peeks, Operation::Union));
pub(super) static ZINTER: Gather = read(|ask, peeks| reply(ask, peeks, Operation::Inter));
pub(super) static ZDIFF: Gather = read(|ask, peeks| reply(ask, peeks, Operation::Diff));
pub(super) static ZINTERCARD: Gather = read(card);
pub(super) static ZUNIONSTORE: Gather =
    write(|ask, peeks| store(ask, peeks, Operation::Union, Event::ZUNIONSTORE));
pub(super) static ZINTERSTORE: Gather =
    write(|ask, peeks| store(ask, peeks, Operation::Inter, Event::ZINTERSTORE));
pub(super) static ZDIFFSTORE: Gather =
    write(|ask, peeks| store(ask, peeks, Operation::Diff, Event::ZDIFFSTORE));

type Decide = fn(&Ask, &[Peek]) -> Result<Decision, CmdError>;

const fn read(decide: Decide) -> Gather {
    Gather {
        peek: peek_source,
        decide,
        more: None,
    }
}

const fn write(decide: Decide) -> Gather {
    Gather {
        peek: |tx, args, at| match at {
            1 => peeks::exists(tx, args, at),
            _ => peek_source(tx, args, at),
        },
        decide,
        more: None,
    }
}

fn peek_source(tx: &mut Tx, args: &Args, at: usize) -> Peek {
    match tx.kind(args.get(at)) {
        Some(Kind::Set) => peeks::collection::<Set>(tx, args, at),
        _ => peeks::collection::<Zset>(tx, args, at),
    }
}

/// One input.
#[derive(Clone, Copy)]
enum Source<'a> {
    Missing,
    Set(&'a Set),
    Zset(&'a Zset),
}

impl<'a> Source<'a> {
    fn of(value: &'a Value) -> Source<'a> {
        match (Set::of(value), Zset::of(value)) {
            (Some(set), _) => Source::Set(set),
            (_, Some(set)) => Source::Zset(set),
            _ => Source::Missing,
        }
    }

    fn len(self) -> usize {
        match self {
            Source::Missing => 0,
            Source::Set(set) => set.len(),
            Source::Zset(set) => set.len(),
        }
    }

    /// A member's score; 1 in a set.
    fn score(self, name: &[u8]) -> Option<f64> {
        match self {
            Source::Missing => None,
            Source::Set(set) => set.contains(name).then_some(1.0),
            Source::Zset(set) => set.score(name),
        }
    }

    /// Visits the members until one is not wanted any more.
    fn each(self, mut visit: impl FnMut(&[u8], f64) -> bool) {
        let mut scratch = itoa::Buffer::new();
        match self {
            Source::Missing => {}
            Source::Set(set) => {
                set.iter().all(|name| visit(name.bytes(&mut scratch), 1.0));
            }
            Source::Zset(set) => {
                set.iter()
                    .all(|(name, score)| visit(name.bytes(&mut scratch), score));
            }
        }
    }
}

/// What a request asks beside its keys.
struct Options {
    weights: Vec<f64>,
    aggregate: Aggregate,
    with_scores: bool,
}

/// Options of a request whose keys are counted at argument `numkeys`. Redis: t_zset.c
/// zunionInterDiffGenericCommand.
fn options(
    args: &Args,
    numkeys: usize,
    operation: Operation,
    stores: bool,
) -> Result<Options, CmdError> {
    let keys = args.int(numkeys)?;
    if keys < 1 {
        let name = operation.command(stores);
        return Err(CmdError::owned(format!(
            "ERR at least 1 input key is needed for '{name}' command"
        )));
    }
    let keys = keys as usize;
    let mut options = Options {
        weights: vec![1.0; keys],
        aggregate: Aggregate::Sum,
        with_scores: false,
    };
    let mut at = numkeys + keys + 1;
    while at < args.len() {
        let left = args.len() - at;
        if operation != Operation::Diff && left > keys && args.is(at, "weights") {
            for (i, weight) in options.weights.iter_mut().enumerate() {
                let parsed = args.double(at + 1 + i);
                *weight = parsed.map_err(|_| CmdError::Text("ERR weight value is not a float"))?;
            }
            at += keys + 1;
        } else if operation != Operation::Diff && left > 1 && args.is(at, "aggregate") {
            options.aggregate = if args.is(at + 1, "sum") {
                Aggregate::Sum
            } else if args.is(at + 1, "min") {
                Aggregate::Min
            } else if args.is(at + 1, "max") {
                Aggregate::Max
            } else {
                return Err(CmdError::Syntax);
            };
            at += 2;
        } else if !stores && args.is(at, "withscores") {
            options.with_scores = true;
            at += 1;
        } else {
            return Err(CmdError::Syntax);
        }
    }
    Ok(options)
}

/// What the keys hold. Redis: that of the wrong type comes before all that is wrong behind the keys.
fn sources(peeks: &[Peek]) -> Result<Vec<Source<'_>>, CmdError> {
    let mut sources = Vec::with_capacity(peeks.len());
    for peek in peeks {
        sources.push(match peek {
            Peek::Failed(error) => return Err(error.clone()),
            Peek::Collection(value) => Source::of(value),
            _ => Source::Missing,
        });
    }
    Ok(sources)
}

fn compute(sources: &[Source], options: &Options, operation: Operation) -> Result<Zset, CmdError> {
    let limits = &Default::default();
    let mut result = Zset::new(usize::MAX, limits);
    let weigh = |i: usize, score: f64| not_nan(options.weights[i] * score);
    // From the smallest: sums of doubles depend on the order.
    let mut order: Vec<usize> = (0..sources.len()).collect();
    order.sort_by_key(|&i| sources[i].len());
    match operation {
        Operation::Union => {
            let mut scores: AHashMap<Box<[u8]>, f64> = AHashMap::new();
            for &i in &order {
                sources[i].each(|name, score| {
                    let score = weigh(i, score);
                    match scores.get_mut(name) {
                        Some(old) => *old = options.aggregate.apply(*old, score),
                        None => drop(scores.insert(name.into(), score)),
                    }
                    true
                });
            }
            for (name, score) in scores {
                result.set(&name, score, limits);
            }
        }
        Operation::Inter => {
            sources[order[0]].each(|name, _| {
                let mut total = None;
                for &i in &order {
                    let Some(score) = sources[i].score(name) else {
                        return true;
                    };
                    // Redis: only of the first set, 0 times infinity is 0; then it spoils the sum.
                    let weighed = options.weights[i] * score;
                    total = Some(match total {
                        None => not_nan(weighed),
                        Some(sum) => options.aggregate.apply(sum, weighed),
                    });
                }
                result.set(name, total.unwrap_or_default(), limits);
                true
            });
        }
        Operation::Diff => sources[0].each(|name, score| {
            let elsewhere = sources[1..]
                .iter()
                .any(|source| source.score(name).is_some());
            if !elsewhere {
                result.set(name, score, limits);
            }
            true
        }),
    }
    Ok(result)
}

fn reply(ask: &Ask, peeks: &[Peek], operation: Operation) -> Result<Decision, CmdError> {
    let sources = sources(peeks)?;
    let options = options(ask.args, 1, operation, false)?;
    let result = compute(&sources, &options, operation)?;
    Decision::reply(ask, |out| {
        let nested = options.with_scores && out.resp3();
        let width = if options.with_scores && !nested { 2 } else { 1 };
        out.array(width * result.len())?;
        result.iter().try_for_each(|(name, score)| {
            if options.with_scores {
                scored(name, score, nested, out)
            } else {
                element(name, out)
            }
        })
    })
}

fn store(
    ask: &Ask,
    peeks: &[Peek],
    operation: Operation,
    event: Event,
) -> Result<Decision, CmdError> {
    let (destination, inputs) = peeks.split_first().ok_or(CmdError::Syntax)?;
    let sources = sources(inputs)?;
    let options = options(ask.args, 2, operation, true)?;
    let result = compute(&sources, &options, operation)?;
    super::store(ask, 1, destination, Some(result), event)
}

/// `ZINTERCARD numkeys key ... [LIMIT limit]`
fn card(ask: &Ask, peeks: &[Peek]) -> Result<Decision, CmdError> {
    if ask.args.int(1)? < 1 {
        return Err(CmdError::Text(
            "ERR at least 1 input key is needed for 'zintercard' command",
        ));
    }
    let mut sources = sources(peeks)?;
    let limit = crate::command::set::card_limit(ask.args)?;
    sources.sort_by_key(|source| source.len());
    let mut count = 0;
    sources[0].each(|name, _| {
        let everywhere = sources[1..]
            .iter()
            .all(|source| source.score(name).is_some());
        count += i64::from(everywhere);
        limit == 0 || count < limit
    });
    Decision::reply(ask, |out| out.int(count))
}
