//! Entries that consumers were given and have not acknowledged: XPENDING, XCLAIM, XAUTOCLAIM.

use super::group::{change_group, no_group};
use super::ids::{self, write_entry, write_id};
use crate::keyspace::{Event, Recorder, Tx};
use crate::resp::{Args, CmdError, CmdResult, Writer};
use crate::value::stream::{EntryId, Group, Pending, Stream};

/// `XPENDING key group [[IDLE ms] start end count [consumer]]`
pub(super) fn xpending(tx: &mut Tx, args: &Args, out: &mut Writer) -> CmdResult {
    let (key, name) = (args.get(1), args.get(2));
    let now_ms = tx.clock_ms();
    let mut at = 3;
    let mut idle_ms = 0;
    let extended = args.len() > 3;
    // Redis: without IDLE, there may be more behind the consumer than anybody reads.
    if extended && !(6..=9).contains(&args.len()) {
        return Err(CmdError::Syntax);
    }
    if extended && args.is(3, "idle") {
        idle_ms = args.int(4)?;
        if args.len() < 8 {
            return Err(CmdError::Syntax);
        }
        at = 5;
    }
    let window = if extended {
        let count = ids::count(args, at + 2)?;
        Some((ids::start(args, at)?, ids::end(args, at + 1)?, count))
    } else {
        None
    };
    let stream = tx.read::<Stream>(key)?;
    let group = stream.and_then(|stream| stream.groups.get(name));
    let group = group.ok_or_else(|| no_group(key, name))?;
    let Some((start, end, count)) = window else {
        return summary(group, out);
    };
    let consumer = (at + 3 < args.len()).then(|| args.get(at + 3));
    if start > end {
        return out.array(0);
    }
    let wanted = |(_, pending): &(&EntryId, &Pending)| {
        now_ms.saturating_sub(pending.delivered_at_ms) >= idle_ms
    };
    let count = count as usize;
    let found: Vec<_> = match consumer.map(|consumer| group.consumer(consumer)) {
        None => {
            let all = group.pending().range(start..=end);
            all.filter(wanted).take(count).collect()
        }
        Some(owner) => {
            let its = owner
                .into_iter()
                .flat_map(|owner| owner.pending.range(start..=end));
            let all = its.filter_map(|id| Some((id, group.pending().get(id)?)));
            all.filter(wanted).take(count).collect()
        }
    };
    out.array(found.len())?;
    found.into_iter().try_for_each(|(&id, pending)| {
        out.array(4)?;
        write_id(id, out)?;
        out.bulk(&pending.consumer)?;
        out.int(now_ms.saturating_sub(pending.delivered_at_ms).max(0))?;
        out.int(pending.deliveries as i64)
    })
}

/// How much is pending, from which id to which, and for whom.
fn summary(group: &Group, out: &mut Writer) -> CmdResult {
    let pending = group.pending();
    out.array(4)?;
    out.int(pending.len() as i64)?;
    let ends = pending.first_key_value().zip(pending.last_key_value());
    let Some(((&first, _), (&last, _))) = ends else {
        out.null()?;
        out.null()?;
        return out.null_array();
    };
    write_id(first, out)?;
    write_id(last, out)?;
    let owners = group
        .consumers()
        .iter()
        .filter(|(_, owner)| !owner.pending.is_empty());
    let owners: Vec<_> = owners.collect();
    out.array(owners.len())?;
    owners.into_iter().try_for_each(|(name, owner)| {
        out.array(2)?;
        out.bulk(name)?;
        out.bulk(itoa::Buffer::new().format(owner.pending.len()).as_bytes())
    })
}

/// Options of XCLAIM behind its ids.
struct Claim {
    delivered_at_ms: i64,
    deliveries: Option<u64>,
    force: bool,
    just_id: bool,
    last_id: Option<EntryId>,
}

fn options(args: &Args, from: usize, now_ms: i64) -> Result<Claim, CmdError> {
    let mut claim = Claim {
        delivered_at_ms: now_ms,
        deliveries: None,
        force: false,
        just_id: false,
        last_id: None,
    };
    let mut at = from;
    while at < args.len() {
        let left = args.len() - at - 1;
        if args.is(at, "force") {
            claim.force = true;
        } else if args.is(at, "justid") {
            claim.just_id = true;
        } else if args.is(at, "idle") && left >= 1 {
            let idle_ms = args
                .int(at + 1)
                .map_err(|_| CmdError::Text("ERR Invalid IDLE option argument for XCLAIM"))?;
            claim.delivered_at_ms = now_ms.saturating_sub(idle_ms);
            at += 1;
        } else if args.is(at, "time") && left >= 1 {
            claim.delivered_at_ms = args
                .int(at + 1)
                .map_err(|_| CmdError::Text("ERR Invalid TIME option argument for XCLAIM"))?;
            at += 1;
        } else if args.is(at, "retrycount") && left >= 1 {
            let count = args
                .int(at + 1)
                .map_err(|_| CmdError::Text("ERR Invalid RETRYCOUNT option argument for XCLAIM"))?;
            claim.deliveries = Some(count.max(0) as u64);
            at += 1;
        } else if args.is(at, "lastid") && left >= 1 {
            claim.last_id = Some(ids::strict(args, at + 1)?);
            at += 1;
        } else {
            return Err(CmdError::quoting(&[
                b"ERR Unrecognized XCLAIM option '",
                args.get(at),
                b"'",
            ]));
        }
        at += 1;
    }
    // Redis: a time in the future would never become idle.
    if claim.delivered_at_ms < 0 || claim.delivered_at_ms > now_ms {
        claim.delivered_at_ms = now_ms;
    }
    Ok(claim)
}

fn min_idle(args: &Args, command: &str) -> Result<i64, CmdError> {
    let ms = args.int(4).map_err(|_| {
        CmdError::owned(format!("ERR Invalid min-idle-time argument for {command}"))
    })?;
    Ok(ms.max(0))
}

/// Who claims, and how.
struct Claimant<'a> {
    group: &'a [u8],
    consumer: &'a [u8],
    min_idle_ms: i64,
    now_ms: i64,
    options: Claim,
}

/// What became of claimed entries, for the record.
#[derive(Default)]
struct Claimed {
    ids: Vec<(EntryId, i64, u64)>,
    /// Pending entries that no longer exist.
    deleted: Vec<EntryId>,
    created: bool,
}

fn account(tx: &mut Tx, key: &[u8], group: &[u8], consumer: &[u8], claimed: &Claimed) {
    if claimed.created {
        // The claims make it as well.
        tx.wrote(key, Event::XGROUP_CREATECONSUMER, |_| {});
    }
    let changes = claimed.ids.len() + claimed.deleted.len();
    if changes == 0 {
        return tx.unchanged();
    }
    tx.wrote_many(changes as u64, key, Event::XCLAIM, |rec| {
        for &(id, at_ms, deliveries) in &claimed.ids {
            record_claim(rec, key, group, consumer, id, at_ms, deliveries);
        }
        for id in &claimed.deleted {
            rec.cmd(&[b"XACK", key, group, id.to_string().as_bytes()]);
        }
    });
}

/// `XCLAIM key group consumer min-idle-time id ... [IDLE ms] [TIME unix-ms] [RETRYCOUNT n] [FORCE]
/// [JUSTID] [LASTID id]`
pub(super) fn xclaim(tx: &mut Tx, args: &Args, out: &mut Writer) -> CmdResult {
    let (key, name, consumer) = (args.get(1), args.get(2), args.get(3));
    let stream = tx.read::<Stream>(key)?;
    let last = stream
        .and_then(|stream| stream.groups.get(name))
        .map(|group| group.last_id);
    let last = last.ok_or_else(|| no_group(key, name))?;
    let min_idle_ms = min_idle(args, "XCLAIM")?;
    let mut wanted = Vec::new();
    let mut at = 5;
    while at < args.len()
        && let Some(id) = ids::parse(args.get(at), 0)
    {
        wanted.push(id);
        at += 1;
    }
    let now_ms = tx.clock_ms();
    let options = options(args, at, now_ms)?;
    if let Some(id) = options.last_id.filter(|&id| id > last) {
        change_group(tx, key, name, |group| group.last_id = id)?;
        tx.wrote(key, Event::XCLAIM, |rec| {
            let id = id.to_string();
            rec.cmd(&[b"XGROUP", b"SETID", key, name, id.as_bytes()]);
        });
    }
    let claimant = Claimant {
        group: name,
        consumer,
        min_idle_ms,
        now_ms,
        options,
    };
    let mut written = Ok(());
    let claimed = tx.change(key, |stream: &mut Stream, _| {
        let mut claimed = Claimed::default();
        wanted
            .iter()
            .for_each(|&id| claimant.take(stream, id, &mut claimed));
        written = show(stream, &claimed, claimant.options.just_id, out);
        claimed
    })?;
    written?;
    account(tx, key, name, consumer, &claimed.unwrap_or_default());
    Ok(())
}

impl Claimant<'_> {
    /// Claims one entry, if it is idle for long enough. Who claims nothing is no consumer yet.
    fn take(&self, stream: &mut Stream, id: EntryId, claimed: &mut Claimed) {
        let exists = stream.get(id).is_some();
        let Some(group) = stream.groups.get_mut(self.group) else {
            return;
        };
        let old = group.pending().get(&id).cloned();
        if !exists {
            if old.is_some() {
                group.acknowledge(id);
                claimed.deleted.push(id);
            }
            return;
        }
        if old.is_none() && !self.options.force {
            return;
        }
        let idle_ms = old
            .as_ref()
            .map(|old| self.now_ms.saturating_sub(old.delivered_at_ms));
        let is_young = |idle_ms| self.min_idle_ms > 0 && idle_ms < self.min_idle_ms;
        if idle_ms.is_some_and(is_young) {
            return;
        }
        claimed.created |= group.create_consumer(self.consumer, self.now_ms);
        group.seen(self.consumer, self.now_ms);
        group.active(self.consumer, self.now_ms);
        // Redis: FORCE makes a pending entry that counts as delivered once.
        let before = old.map_or(1, |old| old.deliveries);
        let deliveries = match self.options.deliveries {
            Some(deliveries) => deliveries,
            None if self.options.just_id => before,
            None => before.wrapping_add(1),
        };
        let at_ms = self.options.delivered_at_ms;
        group.deliver(id, self.consumer, at_ms, deliveries);
        claimed.ids.push((id, at_ms, deliveries));
    }
}

fn show(stream: &Stream, claimed: &Claimed, just_id: bool, out: &mut Writer) -> CmdResult {
    out.array(claimed.ids.len())?;
    claimed
        .ids
        .iter()
        .try_for_each(|&(id, _, _)| match stream.get(id).filter(|_| !just_id) {
            Some(entry) => write_entry(&entry, out),
            None => write_id(id, out),
        })
}

/// Pending entries looked at for each that is wanted. Redis: XAUTOCLAIM attempts factor.
const ATTEMPTS: usize = 10;

/// `XAUTOCLAIM key group consumer min-idle-time start [COUNT count] [JUSTID]`
pub(super) fn xautoclaim(tx: &mut Tx, args: &Args, out: &mut Writer) -> CmdResult {
    let (key, name, consumer) = (args.get(1), args.get(2), args.get(3));
    let min_idle_ms = min_idle(args, "XAUTOCLAIM")?;
    let start = ids::start(args, 5)?;
    let (count, just_id) = auto_options(args)?;
    let stream = tx.read::<Stream>(key)?;
    if !stream.is_some_and(|stream| stream.groups.contains_key(name)) {
        return Err(no_group(key, name));
    }
    let now_ms = tx.clock_ms();
    let claimant = Claimant {
        group: name,
        consumer,
        min_idle_ms,
        now_ms,
        options: Claim {
            delivered_at_ms: now_ms,
            deliveries: None,
            force: false,
            just_id,
            last_id: None,
        },
    };
    let mut written = Ok(());
    let claimed = tx.change(key, |stream: &mut Stream, _| {
        let mut claimed = Claimed::default();
        let group = stream.groups.get(name);
        let pending = group
            .into_iter()
            .flat_map(|group| group.pending().range(start..));
        // One more than is looked at: that is where to go on.
        let looks = count.saturating_mul(ATTEMPTS);
        let pending = pending.map(|(&id, _)| id).take(looks.saturating_add(1));
        let pending: Vec<EntryId> = pending.collect();
        let mut next = EntryId::MIN;
        for (looked_at, &id) in pending.iter().enumerate() {
            let done = claimed.ids.len() + claimed.deleted.len();
            if looked_at >= looks || done >= count {
                next = id;
                break;
            }
            claimant.take(stream, id, &mut claimed);
        }
        written = show_auto(stream, &claimed, next, just_id, out);
        claimed
    })?;
    written?;
    account(tx, key, name, consumer, &claimed.unwrap_or_default());
    Ok(())
}

/// `[COUNT count] [JUSTID]` from argument 6 on.
fn auto_options(args: &Args) -> Result<(usize, bool), CmdError> {
    let (mut count, mut just_id) = (100usize, false);
    let mut at = 6;
    while at < args.len() {
        if args.is(at, "count") && at + 1 < args.len() {
            let max = i64::MAX / ATTEMPTS as i64 / 16;
            let wanted = args.int(at + 1).ok().filter(|n| (1..=max).contains(n));
            count = wanted.ok_or(CmdError::Text("ERR COUNT must be > 0"))? as usize;
            at += 1;
        } else if args.is(at, "justid") {
            just_id = true;
        } else {
            return Err(CmdError::Syntax);
        }
        at += 1;
    }
    Ok((count, just_id))
}

/// Where to go on, what was claimed, and what no longer exists.
fn show_auto(
    stream: &Stream,
    claimed: &Claimed,
    next: EntryId,
    just_id: bool,
    out: &mut Writer,
) -> CmdResult {
    out.array(3)?;
    write_id(next, out)?;
    show(stream, claimed, just_id, out)?;
    out.array(claimed.deleted.len())?;
    claimed.deleted.iter().try_for_each(|&id| write_id(id, out))
}

/// Records that an entry is pending for a consumer.
pub(super) fn record_claim(
    rec: &mut Recorder,
    key: &[u8],
    group: &[u8],
    consumer: &[u8],
    id: EntryId,
    delivered_at_ms: i64,
    deliveries: u64,
) {
    let (id, time) = (id.to_string(), delivered_at_ms.to_string());
    let count = deliveries.to_string();
    let head = [&b"XCLAIM"[..], key, group, consumer, b"0", id.as_bytes()];
    let tail = [
        &b"TIME"[..],
        time.as_bytes(),
        b"RETRYCOUNT",
        count.as_bytes(),
        b"FORCE",
        b"JUSTID",
    ];
    rec.cmd_of(12, head.into_iter().chain(tail));
}
