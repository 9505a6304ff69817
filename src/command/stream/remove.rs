//! Entries that go: XTRIM, XDEL, XDELEX, XACKDEL.
//!
//! KEEPREF, DELREF and ACKED say what becomes of entries that are pending in groups. What is
//! recorded knows none of the three: it names what went, as XACK, XDEL and XTRIM.

use super::add::options;
use super::ids;
use crate::keyspace::{Event, Recorder, Tx};
use crate::resp::{Args, CmdError, CmdResult, Writer};
use crate::value::stream::{EntryId, Refs, Stream, Trimmed, Unreferenced};

/// KEEPREF, DELREF or ACKED.
pub(super) fn refs(args: &Args, at: usize) -> Option<Refs> {
    let all = [
        ("keepref", Refs::Keep),
        ("delref", Refs::Drop),
        ("acked", Refs::Acked),
    ];
    let found = all.into_iter().find(|(name, _)| args.is(at, name));
    found.map(|(_, refs)| refs)
}

/// `XTRIM key MAXLEN|MINID [=|~] threshold [LIMIT count] [KEEPREF|DELREF|ACKED]`
pub(super) fn xtrim(tx: &mut Tx, args: &Args, out: &mut Writer) -> CmdResult {
    let key = args.get(1);
    let options = options(args, false, tx)?;
    let Some(trim) = options.trim else {
        return Err(CmdError::Syntax);
    };
    let trimmed = tx.change(key, |stream: &mut Stream, _| {
        (stream.trim(trim), stream.len())
    })?;
    let (trimmed, len) = trimmed.unwrap_or_default();
    tx.unchanged();
    account_trim(tx, key, &trimmed, len);
    out.int(trimmed.removed as i64)
}

/// Accounts for entries that were trimmed away. What is recorded is exact: elsewhere nodes may be
/// cut otherwise.
pub(super) fn account_trim(tx: &mut Tx, key: &[u8], trimmed: &Trimmed, len: u64) {
    if trimmed.removed == 0 {
        return;
    }
    tx.wrote_many(trimmed.removed, key, Event::XTRIM, |rec| {
        record_unreferenced(rec, key, &trimmed.unreferenced);
        record_ids(rec, &[b"XDEL", key], &trimmed.gaps);
        if trimmed.removed > trimmed.gaps.len() as u64 {
            rec.cmd(&[b"XTRIM", key, b"MAXLEN", b"=", len.to_string().as_bytes()]);
        }
    });
}

/// Records a command about ids, if there are any.
fn record_ids(rec: &mut Recorder, head: &[&[u8]], found: &[EntryId]) {
    if found.is_empty() {
        return;
    }
    let texts: Vec<String> = found.iter().map(EntryId::to_string).collect();
    let tail = texts.iter().map(String::as_bytes);
    rec.cmd_of(head.len() + found.len(), head.iter().copied().chain(tail));
}

fn record_unreferenced(rec: &mut Recorder, key: &[u8], groups: &Unreferenced) {
    for (name, found) in groups {
        record_ids(rec, &[b"XACK", key, name], found);
    }
}

/// `XDEL key id ...`
pub(super) fn xdel(tx: &mut Tx, args: &Args, out: &mut Writer) -> CmdResult {
    let key = args.get(1);
    // Redis: a key that does not exist lacks every entry, also those that are no ids.
    if tx.peek::<Stream>(key)?.is_none() {
        tx.unchanged();
        return out.int(0);
    }
    let found: Result<Vec<EntryId>, CmdError> =
        (2..args.len()).map(|at| ids::strict(args, at)).collect();
    let found = found?;
    let removed = tx.change(key, |stream: &mut Stream, _| {
        found.iter().filter(|&&id| stream.remove(id)).count()
    })?;
    let removed = removed.unwrap_or(0);
    match removed {
        0 => tx.unchanged(),
        _ => tx.wrote_many(removed as u64, key, Event::XDEL, |rec| {
            rec.cmd_of(
                args.len(),
                std::iter::once(&b"XDEL"[..]).chain(args.iter().skip(1)),
            );
        }),
    }
    out.int(removed as i64)
}

/// What XDELEX and XACKDEL are asked: what becomes of references, and which arguments are the ids.
struct Selection {
    refs: Refs,
    from: usize,
    count: usize,
}

impl Selection {
    /// `[KEEPREF|DELREF|ACKED] IDS count id ...`, in any order, from an argument on.
    // Redis: t_stream.c streamParseAckDelArgsOrReply, to which the last IDS count.
    fn parse(args: &Args, from: usize) -> Result<Selection, CmdError> {
        const COUNT: CmdError = CmdError::Text("ERR Number of IDs must be a positive integer");
        let (mut chosen, mut named) = (None, None);
        let mut at = from;
        while at < args.len() {
            if chosen.is_none() && refs(args, at).is_some() {
                chosen = refs(args, at);
                at += 1;
            } else if args.is(at, "ids") && at + 1 < args.len() {
                let count = args.int(at + 1).ok().filter(|&count| count > 0);
                let count = count.ok_or(COUNT)?;
                let left = args.len() - at - 2;
                let count = usize::try_from(count).ok().filter(|&count| count <= left);
                let count = count.ok_or(CmdError::Text(
                    "ERR The `numids` parameter must match the number of arguments",
                ))?;
                named = Some((at + 2, count));
                at += 2 + count;
            } else {
                return Err(CmdError::Syntax);
            }
        }
        let (from, count) = named.ok_or(CmdError::Text("ERR IDS option is required"))?;
        let refs = chosen.unwrap_or_default();
        Ok(Selection { refs, from, count })
    }

    fn ids(&self, args: &Args) -> Result<Vec<EntryId>, CmdError> {
        let all = self.from..self.from + self.count;
        all.map(|at| ids::strict(args, at)).collect()
    }

    /// Does with every id what `one` does, and notes what became of it.
    fn each(
        &self,
        tx: &mut Tx,
        args: &Args,
        one: impl Fn(&mut Removal, &mut Stream, EntryId) -> Outcome,
    ) -> Result<Removal, CmdError> {
        let wanted = self.ids(args)?;
        let removal = tx.change(args.get(1), |stream: &mut Stream, _| {
            let mut removal = Removal::default();
            for id in wanted {
                let outcome = one(&mut removal, stream, id);
                removal.outcomes.push(outcome);
            }
            removal
        })?;
        Ok(removal.unwrap_or_default())
    }

    /// The reply where there is nothing that could have one of the ids, be they ids or not.
    fn none(&self, out: &mut Writer) -> CmdResult {
        out.array(self.count)?;
        (0..self.count).try_for_each(|_| out.int(Outcome::Missing as i64))
    }
}

/// What became of an id, as clients are told.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Outcome {
    Missing = -1,
    Deleted = 1,
    /// Some group has yet to read or to acknowledge it.
    Referenced = 2,
}

/// What XDELEX and XACKDEL did.
#[derive(Default)]
struct Removal {
    outcomes: Vec<Outcome>,
    acknowledged: Vec<EntryId>,
    unreferenced: Unreferenced,
    deleted: Vec<EntryId>,
    /// For how many ids something was changed.
    changes: u64,
}

impl Removal {
    /// Takes an entry out of the stream as far as groups let it go; returns whether they do, and
    /// whether it was there.
    fn remove(&mut self, stream: &mut Stream, id: EntryId, refs: Refs) -> (bool, bool) {
        if refs == Refs::Acked && stream.is_referenced(id) {
            return (false, false);
        }
        let mut is_changed = false;
        if refs == Refs::Drop {
            is_changed = stream.unreference(id, &mut self.unreferenced);
        }
        let was_there = stream.remove(id);
        if was_there {
            self.deleted.push(id);
        }
        self.changes += u64::from(was_there || is_changed);
        (true, was_there)
    }

    /// Accounts for it, and tells what became of each id.
    fn finish(&self, tx: &mut Tx, (key, group): (&[u8], &[u8]), out: &mut Writer) -> CmdResult {
        let event = match self.deleted.is_empty() {
            false => Event::XDEL,
            // Redis: acknowledging has no event.
            true => Event::XACK,
        };
        match self.changes {
            0 => tx.unchanged(),
            changes => tx.wrote_many(changes, key, event, |rec| {
                record_ids(rec, &[b"XACK", key, group], &self.acknowledged);
                record_unreferenced(rec, key, &self.unreferenced);
                record_ids(rec, &[b"XDEL", key], &self.deleted);
            }),
        }
        out.array(self.outcomes.len())?;
        let mut outcomes = self.outcomes.iter();
        outcomes.try_for_each(|&outcome| out.int(outcome as i64))
    }
}

/// `XDELEX key [KEEPREF|DELREF|ACKED] IDS count id ...`
pub(super) fn xdelex(tx: &mut Tx, args: &Args, out: &mut Writer) -> CmdResult {
    let key = args.get(1);
    let exists = tx.peek::<Stream>(key)?.is_some();
    let selection = Selection::parse(args, 2)?;
    if !exists {
        return selection.none(out);
    }
    let removal = selection.each(tx, args, |removal, stream, id| {
        match removal.remove(stream, id, selection.refs) {
            (false, _) => Outcome::Referenced,
            (true, false) => Outcome::Missing,
            (true, true) => Outcome::Deleted,
        }
    })?;
    removal.finish(tx, (key, b""), out)
}

/// `XACKDEL key group [KEEPREF|DELREF|ACKED] IDS count id ...`
pub(super) fn xackdel(tx: &mut Tx, args: &Args, out: &mut Writer) -> CmdResult {
    let (key, name) = (args.get(1), args.get(2));
    let stream = tx.read::<Stream>(key)?;
    let exists = stream.is_some_and(|stream| stream.groups.contains_key(name));
    let selection = Selection::parse(args, 3)?;
    if !exists {
        return selection.none(out);
    }
    let mut removal = selection.each(tx, args, |removal, stream, id| {
        let group = stream.groups.get_mut(name);
        if !group.is_some_and(|group| group.acknowledge(id)) {
            return Outcome::Missing;
        }
        removal.acknowledged.push(id);
        // Redis: what was pending counts as deleted also if it was deleted before.
        match removal.remove(stream, id, selection.refs) {
            (false, _) => Outcome::Referenced,
            (true, _) => Outcome::Deleted,
        }
    })?;
    removal.changes = removal.acknowledged.len() as u64;
    removal.finish(tx, (key, name), out)
}
