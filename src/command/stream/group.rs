//! Consumer groups: XGROUP, XACK.

use super::ids::{self, INVALID};
use crate::keyspace::{Event, Recorder, Tx};
use crate::resp::{Args, CmdError, CmdResult, Writer};
use crate::value::stream::{EntryId, Group, Stream};

/// The error for a key or group that does not exist.
pub(super) fn no_group(key: &[u8], group: &[u8]) -> CmdError {
    CmdError::quoting(&[
        b"NOGROUP No such key '",
        key,
        b"' or consumer group '",
        group,
        b"'",
    ])
}

/// `$`, an id, or where a range ends. Redis: XGROUP CREATE takes no such ends.
fn group_id(stream: Option<&Stream>, args: &Args, at: usize) -> Result<EntryId, CmdError> {
    match args.get(at) {
        b"$" => Ok(stream.map_or(EntryId::MIN, |stream| stream.last_id)),
        b"-" => Ok(EntryId::MIN),
        b"+" => Ok(EntryId::MAX),
        text => ids::parse(text, 0).ok_or(INVALID),
    }
}

/// `[MKSTREAM] [ENTRIESREAD n]` from argument 5 on.
fn group_options(args: &Args, creates: bool) -> Result<(bool, Option<u64>), CmdError> {
    let (mut make, mut read) = (false, None);
    let mut at = 5;
    while at < args.len() {
        if creates && args.is(at, "mkstream") {
            make = true;
        } else if args.is(at, "entriesread") && at + 1 < args.len() {
            let count = args.int(at + 1)?;
            if count < -1 {
                return Err(CmdError::Text(
                    "ERR value for ENTRIESREAD must be positive or -1",
                ));
            }
            read = u64::try_from(count).ok();
            at += 1;
        } else {
            return Err(CmdError::subcommand(args));
        }
        at += 1;
    }
    Ok((make, read))
}

const NO_KEY: CmdError = CmdError::Text(
    "ERR The XGROUP subcommand requires the key to exist. Note that for CREATE you may want to use the MKSTREAM option to create an empty stream automatically.",
);

fn missing_group(key: &[u8], group: &[u8]) -> CmdError {
    CmdError::quoting(&[
        b"NOGROUP No such consumer group '",
        group,
        b"' for key name '",
        key,
        b"'",
    ])
}

fn record_as(args: &Args) -> impl FnOnce(&mut Recorder) {
    move |rec| rec.cmd_of(args.len(), args.iter())
}

/// `XGROUP CREATE key group id|$ [MKSTREAM] [ENTRIESREAD n]`
pub(super) fn create(tx: &mut Tx, args: &Args, out: &mut Writer) -> CmdResult {
    let (key, name) = (args.get(2), args.get(3));
    let (make, read) = group_options(args, true)?;
    let stream = tx.peek::<Stream>(key)?;
    if stream.is_none() && !make {
        return Err(NO_KEY);
    }
    const ARGS_MAX: usize = 8;
    if args.len() > ARGS_MAX {
        return Err(CmdError::subcommand(args));
    }
    let id = match args.get(4) {
        b"$" => stream.map_or(EntryId::MIN, |stream| stream.last_id),
        _ => ids::strict(args, 4)?,
    };
    let event = match stream {
        Some(_) => Event::XGROUP_CREATE,
        None => Event::XGROUP_MKSTREAM,
    };
    if stream.is_some_and(|stream| stream.groups.contains_key(name)) {
        return Err(CmdError::Text(
            "BUSYGROUP Consumer Group name already exists",
        ));
    }
    tx.change_or_create(
        key,
        |_| Stream::default(),
        |stream, _| {
            stream.groups.insert(name.into(), Group::new(id, read));
        },
    )?;
    let (id, read) = (id.to_string(), entries_read(read));
    tx.wrote(key, event, |rec| {
        let head = [&b"XGROUP"[..], b"CREATE", key, name, id.as_bytes()];
        let tail = [&b"MKSTREAM"[..], b"ENTRIESREAD", read.as_bytes()];
        rec.cmd_of(8, head.into_iter().chain(tail));
    });
    out.ok()
}

/// Whether a stream has a group, or why not.
fn check(tx: &mut Tx, key: &[u8], name: &[u8]) -> CmdResult {
    let stream = tx.peek::<Stream>(key)?.ok_or(NO_KEY)?;
    match stream.groups.contains_key(name) {
        true => Ok(()),
        false => Err(missing_group(key, name)),
    }
}

/// `XGROUP SETID key group id|$ [ENTRIESREAD n]`
pub(super) fn setid(tx: &mut Tx, args: &Args, out: &mut Writer) -> CmdResult {
    let (key, name) = (args.get(2), args.get(3));
    let (_, read) = group_options(args, false)?;
    check(tx, key, name)?;
    let id = group_id(tx.peek::<Stream>(key)?, args, 4)?;
    change_group(tx, key, name, |group| {
        group.last_id = id;
        group.entries_read = read;
    })?;
    tx.wrote(key, Event::XGROUP_SETID, |rec| {
        record_place(rec, key, name, id, read);
    });
    out.ok()
}

/// `ENTRIESREAD` as it is written: -1 where it is not known.
fn entries_read(read: Option<u64>) -> String {
    read.map_or(-1, |read| read as i64).to_string()
}

/// Records up to where a group has read.
pub(super) fn record_place(
    rec: &mut Recorder,
    key: &[u8],
    name: &[u8],
    last: EntryId,
    read: Option<u64>,
) {
    let (last, read) = (last.to_string(), entries_read(read));
    let head = [&b"XGROUP"[..], b"SETID", key, name, last.as_bytes()];
    let tail = [&b"ENTRIESREAD"[..], read.as_bytes()];
    rec.cmd_of(7, head.into_iter().chain(tail));
}

/// Changes a group that exists.
pub(super) fn change_group<R>(
    tx: &mut Tx,
    key: &[u8],
    name: &[u8],
    change: impl FnOnce(&mut Group) -> R,
) -> Result<Option<R>, CmdError> {
    let changed = tx.change(key, |stream: &mut Stream, _| {
        stream.groups.get_mut(name).map(change)
    })?;
    Ok(changed.flatten())
}

pub(super) fn destroy(tx: &mut Tx, args: &Args, out: &mut Writer) -> CmdResult {
    let (key, name) = (args.get(2), args.get(3));
    if tx.peek::<Stream>(key)?.is_none() {
        return Err(NO_KEY);
    }
    let removed = tx.change(key, |stream: &mut Stream, _| {
        stream.groups.remove(name).is_some()
    })?;
    if removed != Some(true) {
        tx.unchanged();
        return out.int(0);
    }
    tx.wrote(key, Event::XGROUP_DESTROY, record_as(args));
    out.int(1)
}

pub(super) fn createconsumer(tx: &mut Tx, args: &Args, out: &mut Writer) -> CmdResult {
    let (key, name, consumer) = (args.get(2), args.get(3), args.get(4));
    check(tx, key, name)?;
    let now_ms = tx.clock_ms();
    let created = change_group(tx, key, name, |group| {
        group.create_consumer(consumer, now_ms)
    })?;
    if created != Some(true) {
        tx.unchanged();
        return out.int(0);
    }
    tx.wrote(key, Event::XGROUP_CREATECONSUMER, record_as(args));
    out.int(1)
}

pub(super) fn delconsumer(tx: &mut Tx, args: &Args, out: &mut Writer) -> CmdResult {
    let (key, name, consumer) = (args.get(2), args.get(3), args.get(4));
    check(tx, key, name)?;
    let removed = change_group(tx, key, name, |group| group.delete_consumer(consumer))?;
    match removed.flatten() {
        None => {
            tx.unchanged();
            out.int(0)
        }
        Some(pending) => {
            tx.wrote(key, Event::XGROUP_DELCONSUMER, record_as(args));
            out.int(pending as i64)
        }
    }
}

/// `XACK key group id ...`
pub(super) fn xack(tx: &mut Tx, args: &Args, out: &mut Writer) -> CmdResult {
    let (key, name) = (args.get(1), args.get(2));
    let stream = tx.read::<Stream>(key)?;
    if !stream.is_some_and(|stream| stream.groups.contains_key(name)) {
        return out.int(0);
    }
    let found: Result<Vec<EntryId>, CmdError> =
        (3..args.len()).map(|at| ids::strict(args, at)).collect();
    let found = found?;
    let acknowledged = change_group(tx, key, name, |group| {
        found.iter().filter(|&&id| group.acknowledge(id)).count()
    })?;
    let acknowledged = acknowledged.unwrap_or(0);
    match acknowledged {
        0 => tx.unchanged(),
        // Redis: acknowledging has no event.
        _ => tx.wrote_many(acknowledged as u64, key, Event::XACK, record_as(args)),
    }
    out.int(acknowledged as i64)
}
