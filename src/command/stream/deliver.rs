//! XREADGROUP: what a consumer is given, and what is noted of that.
//!
//! New entries become pending for the consumer, and are logged as claims of it; what it has not
//! acknowledged yet it may read again, and what others have not acknowledged in time it may claim.

use std::ops::Bound;

use bytes::Bytes;

use super::claim::record_claim;
use super::group::{change_group, record_place};
use super::ids::{self, INVALID, write_entry, write_id, write_pending};
use super::overdue::{self, Overdue, overdue};
use super::read::{Options, begin_stream, begin_streams, options};
use crate::command::block::{Block, Serve};
use crate::command::{Ask, Change, Decision, Gather, Peek};
use crate::keyspace::{Event, Tx};
use crate::resp::{Args, CmdError, CmdResult, Output, Writer};
use crate::value::Kind;
use crate::value::stream::{Entry, EntryId, Stream};

pub(super) static XREADGROUP: Gather = Gather {
    peek,
    decide,
    more: None,
};

pub(super) static XREADGROUP_WAITS: Block = Block {
    patience: |args| Ok(options(args, true)?.block),
    kind: Kind::Stream,
    serve: Serve::Key(serve),
    mark: |_, _, _| Bytes::new(),
    alarm_ms: Some(overdue::alarm_ms),
    first_key_only: false,
};

/// What a key has that no request exhausts.
const ENDLESS: usize = usize::MAX;

/// Whether the key has something for the consumer: what it has not acknowledged always counts.
fn peek(tx: &mut Tx, args: &Args, at: usize) -> Peek {
    let options = match options(args, true) {
        Ok(options) => options,
        Err(error) => return Peek::Failed(error),
    };
    match available(tx, args, at, &options) {
        Ok(0) => Peek::Missing,
        Ok(count) => Peek::Reply {
            out: Output::default(),
            count,
        },
        Err(error) => Peek::Failed(error),
    }
}

/// How many entries a key has for the consumer, counted as far as the request can tell: one is
/// enough, unless the key is named again and what the first takes is missing to the second.
fn available(tx: &mut Tx, args: &Args, at: usize, options: &Options) -> Result<usize, CmdError> {
    let keys = args.range(options.keys, options.keys + options.streams);
    let times = keys.iter().filter(|key| *key == args.get(at)).count();
    let enough = match times {
        0 | 1 => 1,
        _ => (options.count as usize).saturating_mul(times).max(1),
    };
    let (key, text) = (args.get(at), args.get(at + options.streams));
    let Some((name, _)) = options.group else {
        return Ok(0);
    };
    let (claim_ms, now_ms) = (options.claim_at(args, at), tx.clock_ms());
    if claim_ms.is_some() {
        overdue::prepare(tx, key, name);
    }
    let stream = tx.read::<Stream>(key)?;
    let group = stream.and_then(|stream| stream.groups.get(name));
    let (Some(stream), Some(group)) = (stream, group) else {
        return Err(CmdError::quoting(&[
            b"NOGROUP No such key '",
            key,
            b"' or consumer group '",
            name,
            b"' in XREADGROUP with GROUP option",
        ]));
    };
    match text {
        b">" => {
            let unread = group.last_id.next().filter(|&from| from <= stream.last_id);
            let unread = unread.map(|from| stream.range(from, EntryId::MAX).take(enough));
            let unread = unread.map_or(0, Iterator::count);
            let claims = claim_ms.map(|ms| overdue(stream, group, ms, now_ms).take(enough));
            let claims = claims.map_or(0, Iterator::count);
            // Whatever is claimed, or given and to be acknowledged, can be claimed at once again.
            let is_endless = claims > 0 || (unread > 0 && !options.no_ack);
            match claim_ms {
                Some(0) if is_endless => Ok(ENDLESS),
                _ => Ok(claims.saturating_add(unread)),
            }
        }
        b"$" => Err(CmdError::Text(
            "ERR The $ ID is meaningless in the context of XREADGROUP: you want to read the history of this consumer by specifying a proper ID, or use the > ID to get new messages. The $ ID would just return an empty result set.",
        )),
        b"+" => Err(CmdError::Text(
            "ERR The + ID is meaningless in the context of XREADGROUP: you want to read the history of this consumer by specifying a proper ID, or use the > ID to get new messages. The + ID would just return an empty result set.",
        )),
        text => ids::parse(text, 0).map(|_| 1).ok_or(INVALID),
    }
}

/// Whether the `i`-th key still has something for the consumer when those before it were served.
fn is_ready(ask: &Ask, options: &Options, i: usize, peek: &Peek) -> bool {
    let Peek::Reply { count, .. } = peek else {
        return false;
    };
    let is_new = |at: usize| ask.args.get(at + options.streams) == b">";
    let same = |at: usize| ask.args.get(at) == ask.args.get(ask.keys[i]) && is_new(at);
    let before = ask.keys[..i].iter().filter(|&&at| same(at)).count();
    match options.count as usize {
        _ if before == 0 || !is_new(ask.keys[i]) => *count > 0,
        _ if *count == ENDLESS => true,
        0 => false,
        max => *count > before.saturating_mul(max),
    }
}

fn decide(ask: &Ask, peeks: &[Peek]) -> Result<Decision, CmdError> {
    let options = options(ask.args, true)?;
    for peek in peeks {
        if let Peek::Failed(error) = peek {
            return Err(error.clone());
        }
    }
    let ready: Vec<usize> = ask
        .keys
        .iter()
        .zip(peeks)
        .enumerate()
        .filter(|(i, (_, peek))| is_ready(ask, &options, *i, peek))
        .map(|(_, (&at, _))| at)
        .collect();
    let decision = Decision::reply(ask, |out| match ready.len() {
        0 => out.null_array(),
        count => begin_streams(count, out),
    })?;
    let calls = ask.keys.iter().map(|&key| Change::Call {
        db: ask.db,
        key,
        value: Bytes::new(),
        run: deliver_ready,
    });
    let waits = ready.is_empty();
    Ok(Decision {
        waits,
        ..decision.with(calls.collect())
    })
}

fn deliver_ready(
    tx: &mut Tx,
    args: &Args,
    at: usize,
    _value: &Bytes,
    out: &mut Writer,
) -> CmdResult {
    let options = options(args, true)?;
    if available(tx, args, at, &options)? > 0 {
        ask_as_consumer(tx, args, at, &options)?;
        begin_stream(out)?;
        deliver(tx, args, at, &options, out)?;
    }
    Ok(())
}

/// Makes sure that the consumer exists, and notes that it asked. Redis 7.0: not before there is
/// something for it.
fn ask_as_consumer(tx: &mut Tx, args: &Args, at: usize, options: &Options) -> CmdResult {
    let Some((name, consumer)) = options.group else {
        return Ok(());
    };
    let (key, now_ms) = (args.get(at), tx.clock_ms());
    let created = change_group(tx, key, name, |group| {
        let created = group.create_consumer(consumer, now_ms);
        group.seen(consumer, now_ms);
        created
    })?;
    // What is delivered is recorded as claims, and they make the consumer as well.
    let is_claimed = !options.no_ack && args.get(at + options.streams) == b">";
    if created == Some(true) {
        tx.wrote(key, Event::XGROUP_CREATECONSUMER, |rec| {
            if !is_claimed {
                rec.cmd(&[b"XGROUP", b"CREATECONSUMER", key, name, consumer]);
            }
        });
    } else {
        tx.unchanged();
    }
    Ok(())
}

/// Writes the key and what it has for the consumer, and notes the delivery.
fn deliver(tx: &mut Tx, args: &Args, at: usize, options: &Options, out: &mut Writer) -> CmdResult {
    let (key, text) = (args.get(at), args.get(at + options.streams));
    let Some((name, consumer)) = options.group else {
        return Ok(());
    };
    let max = options.max();
    out.bulk(key)?;
    if text != b">" {
        let after = ids::parse(text, 0).ok_or(INVALID)?;
        return history(tx, key, (name, consumer), after, max, out);
    }
    let now_ms = tx.clock_ms();
    let claim_ms = options.claim_at(args, at);
    let delivered = tx.change(key, |stream: &mut Stream, _| {
        let group = stream.groups.get(name)?;
        let claimed = claim_ms.map(|ms| overdue(stream, group, ms, now_ms).take(max));
        let claimed: Vec<Overdue> = claimed.into_iter().flatten().collect();
        let from = group.last_id.next();
        let new = from.map(|from| stream.range(from, EntryId::MAX).take(max - claimed.len()));
        let new: Vec<Entry> = new.into_iter().flatten().collect();
        let written = show(stream, &claimed, &new, claim_ms.is_some(), out);
        debug_assert!(written.is_ok());
        let new: Vec<EntryId> = new.iter().map(|entry| entry.id).collect();
        Some(note(
            stream,
            (name, consumer),
            claimed,
            new,
            now_ms,
            options.no_ack,
        ))
    })?;
    let is_something = |it: &Delivered| !it.given.is_empty() || it.place.is_some();
    let Some(Delivered { given, place }) = delivered.flatten().filter(is_something) else {
        tx.unchanged();
        return Ok(());
    };
    tx.wrote(key, Event::XREADGROUP, |rec| {
        for (id, deliveries) in given {
            record_claim(rec, key, name, consumer, id, now_ms, deliveries);
        }
        if let Some((last, read)) = place {
            record_place(rec, key, name, last, read);
        }
    });
    Ok(())
}

/// What a consumer was given.
struct Delivered {
    /// What is pending for it now, and how often each was given to somebody.
    given: Vec<(EntryId, u64)>,
    /// Up to where the group has read, if that is new.
    place: Option<(EntryId, Option<u64>)>,
}

/// Writes what was pending for too long, and what is new.
fn show(
    stream: &Stream,
    claimed: &[Overdue],
    new: &[Entry],
    claims: bool,
    out: &mut Writer,
) -> CmdResult {
    out.array(claimed.len() + new.len())?;
    for one in claimed {
        if let Some(entry) = stream.get(one.id) {
            write_pending(&entry, one.idle_ms, one.deliveries, out)?;
        }
    }
    new.iter().try_for_each(|entry| match claims {
        true => write_pending(entry, 0, 0, out),
        false => write_entry(entry, out),
    })
}

/// Notes what a consumer was given.
fn note(
    stream: &mut Stream,
    (name, consumer): (&[u8], &[u8]),
    claimed: Vec<Overdue>,
    new: Vec<EntryId>,
    now_ms: i64,
    no_ack: bool,
) -> Delivered {
    let place = new
        .last()
        .map(|&last| (last, read_counter(stream, name, &new)));
    let claimed = claimed
        .iter()
        .map(|one| (one.id, one.deliveries.wrapping_add(1)));
    let new = new.into_iter().filter(|_| !no_ack).map(|id| (id, 1));
    let given: Vec<(EntryId, u64)> = claimed.chain(new).collect();
    if let Some(group) = stream.groups.get_mut(name) {
        if let Some((last, read)) = place {
            group.last_id = last;
            group.entries_read = read;
        }
        for &(id, deliveries) in &given {
            group.deliver(id, consumer, now_ms, deliveries);
        }
        if !given.is_empty() {
            group.active(consumer, now_ms);
        }
    }
    Delivered { given, place }
}

/// The group's counter of entries read after it has read some more, up to `last`. Redis: t_stream.c
/// streamReplyWithRange.
fn read_counter(stream: &Stream, name: &[u8], ids: &[EntryId]) -> Option<u64> {
    let mut counter = stream.groups.get(name)?.entries_read;
    for &id in ids {
        counter = match counter {
            Some(read) if !stream.has_tombstones_from(id) => Some(read.wrapping_add(1)),
            _ if stream.entries_added > 0 => stream.entries_read_at(id),
            unknown => unknown,
        };
    }
    counter
}

/// What the consumer was given before and has not acknowledged, behind an id.
fn history(
    tx: &mut Tx,
    key: &[u8],
    (name, consumer): (&[u8], &[u8]),
    after: EntryId,
    max: usize,
    out: &mut Writer,
) -> CmdResult {
    let now_ms = tx.clock_ms();
    tx.change(key, |stream: &mut Stream, _| {
        let Some(owner) = stream
            .groups
            .get(name)
            .and_then(|group| group.consumer(consumer))
        else {
            return out.array(0);
        };
        let behind = (Bound::Excluded(after), Bound::Unbounded);
        let pending = owner.pending.range(behind).take(max);
        let pending: Vec<EntryId> = pending.copied().collect();
        out.array(pending.len())?;
        let mut delivered = Vec::with_capacity(pending.len());
        for id in pending {
            match stream.get(id) {
                Some(entry) => {
                    write_entry(&entry, out)?;
                    delivered.push(id);
                }
                None => {
                    out.array(2)?;
                    write_id(id, out)?;
                    out.null_array()?;
                }
            }
        }
        if let Some(group) = stream.groups.get_mut(name) {
            delivered.iter().for_each(|&id| group.redeliver(id, now_ms));
        }
        Ok(())
    })?
    .unwrap_or(Ok(()))?;
    // Redis: deliveries of the past are counted, which is a change that nobody else hears of.
    tx.wrote(key, Event::XREADGROUP, |_| {});
    Ok(())
}

/// Serves a waiting XREADGROUP from the key that changed.
fn serve(
    tx: &mut Tx,
    args: &Args,
    at: usize,
    _mark: &Bytes,
    out: &mut Writer,
) -> Result<bool, CmdError> {
    let key = args.get(at);
    let options = options(args, true)?;
    let name = options.group.map_or(&b""[..], |(name, _)| name);
    if tx.kind(key) != Some(Kind::Stream) {
        return Err(CmdError::Text("UNBLOCKED the stream key no longer exists"));
    }
    let stream = tx.peek::<Stream>(key)?;
    if !stream.is_some_and(|stream| stream.groups.contains_key(name)) {
        return Err(CmdError::Text(
            "NOGROUP the consumer group this client was blocked on no longer exists",
        ));
    }
    if available(tx, args, at, &options)? == 0 {
        return Ok(false);
    }
    ask_as_consumer(tx, args, at, &options)?;
    let mut part = Output::default();
    let mut writer = Writer::new(&mut part, out.proto());
    deliver(tx, args, at, &options, &mut writer)?;
    begin_streams(1, out)?;
    begin_stream(out)?;
    out.output().append(&part);
    Ok(true)
}
