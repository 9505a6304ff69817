//! `XREADGROUP ... CLAIM ms`: entries that have been pending for so long, whoever they were given to.
//!
//! They come into being as time passes, so who waits for them is served by an alarm.

use super::read::{Options, options};
use crate::keyspace::Tx;
use crate::resp::Args;
use crate::value::stream::{EntryId, Group, Stream};

/// A pending entry that is due to be given to somebody else.
pub(super) struct Overdue {
    pub id: EntryId,
    pub idle_ms: i64,
    /// How often it was given to somebody so far.
    pub deliveries: u64,
}

impl Options<'_> {
    /// For how long entries of the key at `at` must have been pending, if any are to be claimed.
    // Redis: t_stream.c xreadCommand claims nothing more once it has read a consumer's past.
    pub fn claim_at(&self, args: &Args, at: usize) -> Option<i64> {
        let mut ids = self.keys + self.streams..=at + self.streams;
        self.claim_ms.filter(|_| ids.all(|id| args.get(id) == b">"))
    }
}

/// Has a group know its pending entries by age, if it exists.
pub(super) fn prepare(tx: &mut Tx, key: &[u8], name: &[u8]) {
    let is_unprepared =
        |stream: &Stream| matches!(stream.groups.get(name), Some(group) if !group.is_by_time());
    if !matches!(tx.peek::<Stream>(key), Ok(Some(stream)) if is_unprepared(stream)) {
        return;
    }
    let prepared = tx.change(key, |stream: &mut Stream, _| {
        stream.groups.get_mut(name).map(Group::order_by_time);
    });
    debug_assert!(prepared.is_ok());
    tx.unchanged();
}

/// What has been pending in a group for so long, the oldest first.
// Differs: XREADGROUP with CLAIM passes over what is pending and deleted. Redis counts it as
// claimed, and so may give nothing to whom there is something for.
pub(super) fn overdue<'a>(
    stream: &'a Stream,
    group: &'a Group,
    min_idle_ms: i64,
    now_ms: i64,
) -> impl Iterator<Item = Overdue> + 'a {
    let idle_ms = move |at_ms: i64| now_ms.saturating_sub(at_ms).max(0);
    let due = group
        .by_time()
        .take_while(move |&(at_ms, _)| idle_ms(at_ms) >= min_idle_ms);
    due.filter_map(move |(at_ms, id)| {
        let pending = group.pending().get(&id)?;
        stream.get(id).map(|_| Overdue {
            id,
            idle_ms: idle_ms(at_ms),
            deliveries: pending.deliveries,
        })
    })
}

/// When the key at `at` will have something to claim, unix milliseconds, if it stays as it is.
pub(super) fn alarm_ms(tx: &mut Tx, args: &Args, at: usize) -> Option<i64> {
    let options = options(args, true).ok()?;
    let (name, _) = options.group?;
    let min_idle_ms = options.claim_at(args, at)?;
    prepare(tx, args.get(at), name);
    let stream = tx.peek::<Stream>(args.get(at)).ok()??;
    let mut pending = stream.groups.get(name)?.by_time();
    let (at_ms, _) = pending.find(|&(_, id)| stream.get(id).is_some())?;
    Some(at_ms.saturating_add(min_idle_ms))
}
