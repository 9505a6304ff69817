//! Running one command on keys that are all here, in a transaction that somebody else began.

use super::exec::Call;
use super::message::{KeyIndices, Request};
use crate::command::{self, Ask, Command, Decision, First, Gather, Part, Peek, Place, Run, keys};
use crate::keyspace::{Tx, WARM_KEYS};
use crate::resp::{Args, CmdError, CmdResult, Output, Pick, Writer};

/// Runs one function per key, with the key's share of the arguments; what the next keys lead to is
/// fetched together.
fn each_key<E>(
    tx: &mut Tx,
    args: &Args,
    keys: &[usize],
    step: usize,
    mut run: impl FnMut(&mut Tx, &Args) -> Result<(), E>,
) -> Result<(), E> {
    let mut pick = Pick::default();
    for some in keys.chunks(WARM_KEYS) {
        if some.len() > 1 {
            tx.warm(some.iter().map(|&at| args.get(at)));
        }
        for &at in some {
            tx.set_place(at);
            run(tx, &args.pick(&mut pick, at, at + step))?;
        }
    }
    Ok(())
}

/// One shard's share of a command that spans shards.
pub fn run_part(tx: &mut Tx, request: &Request, keys: &KeyIndices, place: Place) -> Part {
    let args = request.args.as_args();
    let command = request.call.command;
    let step = per_key_step(command);
    let keys: keys::KeyPositions = keys.iter().map(|&at| at as usize).collect();
    let part = match command.run {
        Run::Each(run) => {
            let mut out = Output::default();
            let mut ends = Vec::with_capacity(keys.len());
            each_key(tx, &args, &keys, step, |tx, view| {
                run(tx, view, &mut Writer::new(&mut out, request.proto))?;
                ends.push(out.mark());
                Ok(())
            })
            .map(|()| Part::Replies { out, ends })
        }
        Run::Sum(run) => sum(run, tx, &args, &keys, step).map(Part::Int),
        Run::Every(run) => {
            every(run, tx, &args, &keys, step);
            Ok(Part::Nothing)
        }
        Run::Shards { part, .. } | Run::At { part, .. } => part(tx, &args, place),
        _ => Ok(Part::Nothing),
    };
    part.unwrap_or_else(Part::Failed)
}

fn sum(
    run: fn(&mut Tx, &Args) -> Result<i64, CmdError>,
    tx: &mut Tx,
    args: &Args,
    keys: &[usize],
    step: usize,
) -> Result<i64, CmdError> {
    let mut sum = 0;
    each_key(tx, args, keys, step, |tx, view| {
        sum += run(tx, view)?;
        Ok::<(), CmdError>(())
    })?;
    Ok(sum)
}

fn every(run: fn(&mut Tx, &Args), tx: &mut Tx, args: &Args, keys: &[usize], step: usize) {
    let done: Result<(), std::convert::Infallible> = each_key(tx, args, keys, step, |tx, view| {
        run(tx, view);
        Ok(())
    });
    let Ok(()) = done;
}

/// Number of arguments that belong to one key of a multi-key command.
pub fn per_key_step(command: &Command) -> usize {
    command.keys.first().map_or(1, keys::KeySpec::step)
}

/// Runs a command all of whose keys are here.
pub fn run_local(tx: &mut Tx, call: &Call, place: Place, out: &mut Writer) -> CmdResult {
    let args = &call.args;
    match call.command.run {
        Run::Key(run) => run(tx, args, out),
        Run::Each(run) => {
            let positions = key_positions(call.command, args)?;
            let step = per_key_step(call.command);
            out.array(positions.len())?;
            each_key(tx, args, &positions, step, |tx, view| run(tx, view, out))
        }
        Run::Sum(run) => {
            let positions = key_positions(call.command, args)?;
            let step = per_key_step(call.command);
            out.int(sum(run, tx, args, &positions, step)?)
        }
        Run::Every(run) => {
            let positions = key_positions(call.command, args)?;
            let step = per_key_step(call.command);
            every(run, tx, args, &positions, step);
            out.ok()
        }
        Run::Gather(_) | Run::First(_) => run_deciding(tx, call, out).map(|_| ()),
        Run::Errand(errand) => {
            // What has keys runs under holds; without any there is nothing to send.
            let ask = Ask {
                args,
                keys: &[],
                db: call.db,
                databases: tx.databases(),
                now_ms: tx.now_ms(),
                proto: call.proto,
            };
            let decision = (errand.decide)(&ask, None)?;
            out.raw(&decision.reply.bytes)
        }
        Run::Shards { part, merge } => {
            let part = part(tx, args, place)?;
            merge(args, vec![part], out)
        }
        Run::At { part, merge, .. } => {
            let part = part(tx, args, place)?;
            merge(args, place, vec![part], out)
        }
        Run::Container | Run::Client(_) | Run::Job(_) | Run::Transaction(_) | Run::Script(_) => {
            unreachable!("{} does not run on a shard", call.command.name)
        }
    }
}

/// Runs a command that decides over its keys; returns whether a client that may wait should.
pub fn run_deciding(tx: &mut Tx, call: &Call, out: &mut Writer) -> Result<bool, CmdError> {
    match call.command.run {
        Run::Gather(gather) => run_gather(tx, gather, call, out),
        Run::First(first) => run_first(tx, first, call, out),
        _ => unreachable!("only these decide"),
    }
}

fn run_gather(
    tx: &mut Tx,
    gather: &Gather,
    call: &Call,
    out: &mut Writer,
) -> Result<bool, CmdError> {
    let args = &call.args;
    let keys = key_positions(call.command, args)?;
    if keys.len() > 1 {
        tx.warm(keys.iter().map(|&at| args.get(at)));
    }
    let peeks = tx.in_places(|tx| {
        let peek = |&at: &usize| {
            tx.set_place(at);
            (gather.peek)(tx, args, at)
        };
        keys.iter().map(peek).collect::<Vec<Peek>>()
    });
    call.command.check_wait(args)?;
    let ask = Ask {
        args,
        keys: &keys,
        db: call.db,
        databases: tx.databases(),
        now_ms: tx.now_ms(),
        proto: call.proto,
    };
    let Decision {
        reply,
        changes,
        waits,
    } = match gather.more_for(args) {
        None => (gather.decide)(&ask, &peeks)?,
        Some(more) => {
            let wanted = (more.wanted)(&ask, &peeks)?;
            let found: Vec<_> = wanted.iter().map(|wanted| wanted.read(tx)).collect();
            (more.decide)(&ask, &peeks, &found)?
        }
    };
    // Values that the peeks share would be copied by the changes.
    drop(peeks);
    out.output().append(&reply);
    changes
        .into_iter()
        .for_each(|change| command::apply(tx, args, change, out));
    Ok(waits)
}

/// Serves a command from the first of its keys that holds something.
fn run_first(tx: &mut Tx, first: &First, call: &Call, out: &mut Writer) -> Result<bool, CmdError> {
    let args = &call.args;
    call.command.check_wait(args)?;
    (first.check)(args)?;
    for at in key_positions(call.command, args)? {
        match first.peek(tx, args.get(at)) {
            Peek::Missing => {}
            Peek::Failed(error) => return Err(error),
            _ => return (first.serve)(tx, args, at, out).map(|()| false),
        }
    }
    out.null_array()?;
    Ok(true)
}

/// The key positions of a request that must have some, its arguments in whole steps.
pub fn key_positions(command: &Command, args: &Args) -> Result<keys::KeyPositions, CmdError> {
    let positions = keys::positions(command.keys, args)
        .ok_or_else(|| keys::why_none(command.name, command.keys, args))?;
    let step = per_key_step(command);
    match positions.last() {
        Some(last) if last + step > args.len() => Err(CmdError::arity(command.name)),
        _ => Ok(positions),
    }
}
