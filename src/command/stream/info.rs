//! XINFO: what streams, groups and consumers are like.

use super::ids::{self, write_entry, write_id};
use super::read::entries;
use crate::keyspace::Tx;
use crate::resp::{Args, CmdError, CmdResult, Writer};
use crate::value::stream::{EntryId, Group, Stream};

fn number(name: &str, n: i64, out: &mut Writer) -> CmdResult {
    out.bulk(name.as_bytes())?;
    out.int(n)
}

fn id(name: &str, id: EntryId, out: &mut Writer) -> CmdResult {
    out.bulk(name.as_bytes())?;
    write_id(id, out)
}

fn optional(name: &str, n: Option<i64>, out: &mut Writer) -> CmdResult {
    out.bulk(name.as_bytes())?;
    match n {
        Some(n) => out.int(n),
        None => out.null(),
    }
}

/// `XINFO STREAM key [FULL [COUNT count]]`
pub(super) fn stream(tx: &mut Tx, args: &Args, out: &mut Writer) -> CmdResult {
    let full = args.len() > 3;
    let mut count = 10;
    // Redis: whatever else is wrong, the key comes first.
    if tx.read::<Stream>(args.get(2))?.is_none() {
        return Err(CmdError::NoSuchKey);
    }
    if full {
        let counted = args.len() == 6 && args.is(4, "count");
        if !args.is(3, "full") || !(args.len() == 4 || counted) {
            return Err(CmdError::subcommand(args));
        }
        if counted {
            count = ids::count(args, 5)?;
        }
    }
    let stream = tx.peek::<Stream>(args.get(2))?.ok_or(CmdError::NoSuchKey)?;
    out.map(if full { 9 } else { 10 })?;
    number("length", stream.len() as i64, out)?;
    number("radix-tree-keys", stream.node_count() as i64, out)?;
    number("radix-tree-nodes", stream.radix_nodes() as i64, out)?;
    id("last-generated-id", stream.last_id, out)?;
    id("max-deleted-entry-id", stream.max_deleted_id, out)?;
    number("entries-added", stream.entries_added as i64, out)?;
    id("recorded-first-entry-id", stream.first_id, out)?;
    if full {
        let max = if count == 0 {
            usize::MAX
        } else {
            count as usize
        };
        out.bulk(b"entries")?;
        entries(stream.range(EntryId::MIN, EntryId::MAX).take(max), out)?;
        out.bulk(b"groups")?;
        out.array(stream.groups.len())?;
        return stream
            .groups
            .iter()
            .try_for_each(|(name, group)| full_group(stream, name, group, max, out));
    }
    number("groups", stream.groups.len() as i64, out)?;
    let ends = [
        (
            "first-entry",
            stream.range(EntryId::MIN, EntryId::MAX).next(),
        ),
        (
            "last-entry",
            stream.range_back(EntryId::MIN, EntryId::MAX).next(),
        ),
    ];
    ends.iter().try_for_each(|(name, entry)| {
        out.bulk(name.as_bytes())?;
        match entry {
            Some(entry) => write_entry(entry, out),
            None => out.null(),
        }
    })
}

fn full_group(
    stream: &Stream,
    name: &[u8],
    group: &Group,
    max: usize,
    out: &mut Writer,
) -> CmdResult {
    out.map(7)?;
    out.bulk(b"name")?;
    out.bulk(name)?;
    id("last-delivered-id", group.last_id, out)?;
    optional(
        "entries-read",
        group.entries_read.map(|read| read as i64),
        out,
    )?;
    optional("lag", stream.lag(group), out)?;
    number("pel-count", group.pending().len() as i64, out)?;
    out.bulk(b"pending")?;
    out.array(group.pending().len().min(max))?;
    for (&entry, pending) in group.pending().iter().take(max) {
        out.array(4)?;
        write_id(entry, out)?;
        out.bulk(&pending.consumer)?;
        out.int(pending.delivered_at_ms)?;
        out.int(pending.deliveries as i64)?;
    }
    out.bulk(b"consumers")?;
    out.array(group.consumers().len())?;
    for (name, consumer) in group.consumers() {
        out.map(5)?;
        out.bulk(b"name")?;
        out.bulk(name)?;
        number("seen-time", consumer.seen_at_ms, out)?;
        number("active-time", consumer.active_at_ms.unwrap_or(-1), out)?;
        number("pel-count", consumer.pending.len() as i64, out)?;
        out.bulk(b"pending")?;
        out.array(consumer.pending.len().min(max))?;
        for &entry in consumer.pending.iter().take(max) {
            let pending = group.pending().get(&entry);
            out.array(3)?;
            write_id(entry, out)?;
            out.int(pending.map_or(0, |pending| pending.delivered_at_ms))?;
            out.int(pending.map_or(0, |pending| pending.deliveries as i64))?;
        }
    }
    Ok(())
}

pub(super) fn groups(tx: &mut Tx, args: &Args, out: &mut Writer) -> CmdResult {
    let stream = tx.read::<Stream>(args.get(2))?.ok_or(CmdError::NoSuchKey)?;
    out.array(stream.groups.len())?;
    stream.groups.iter().try_for_each(|(name, group)| {
        out.map(6)?;
        out.bulk(b"name")?;
        out.bulk(name)?;
        number("consumers", group.consumers().len() as i64, out)?;
        number("pending", group.pending().len() as i64, out)?;
        id("last-delivered-id", group.last_id, out)?;
        optional(
            "entries-read",
            group.entries_read.map(|read| read as i64),
            out,
        )?;
        optional("lag", stream.lag(group), out)
    })
}

pub(super) fn consumers(tx: &mut Tx, args: &Args, out: &mut Writer) -> CmdResult {
    let (key, name) = (args.get(2), args.get(3));
    let now_ms = tx.now_ms();
    let stream = tx.read::<Stream>(key)?.ok_or(CmdError::NoSuchKey)?;
    let group = stream.groups.get(name).ok_or_else(|| {
        CmdError::quoting(&[
            b"NOGROUP No such consumer group '",
            name,
            b"' for key name '",
            key,
            b"'",
        ])
    })?;
    out.array(group.consumers().len())?;
    group.consumers().iter().try_for_each(|(name, consumer)| {
        out.map(4)?;
        out.bulk(b"name")?;
        out.bulk(name)?;
        number("pending", consumer.pending.len() as i64, out)?;
        let since = |at_ms: i64| now_ms.saturating_sub(at_ms).max(0);
        number("idle", since(consumer.seen_at_ms), out)?;
        let inactive = consumer.active_at_ms.map_or(-1, since);
        number("inactive", inactive, out)
    })
}
