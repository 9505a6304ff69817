//! Entries that come: XADD and its options, which XTRIM shares, and XSETID.

use super::ids::{self, INVALID};
use super::remove::{account_trim, refs};
use crate::keyspace::{Event, Tx};
use crate::resp::{Args, CmdError, CmdResult, Writer};
use crate::value::stream::{EntryId, Stream, Threshold, Trim};

/// How XADD names its entry.
#[derive(Clone, Copy)]
enum Wanted {
    Auto,
    /// `ms-*`
    AutoSequence(u64),
    Given(EntryId),
}

#[derive(Default)]
pub(super) struct Options {
    pub trim: Option<Trim>,
    no_stream: bool,
    /// What XADD wants behind the options, and at which argument.
    id: Option<(Wanted, usize)>,
}

/// Options of XADD and XTRIM from argument 2 on. Redis: t_stream.c streamParseAddOrTrimArgsOrReply.
pub(super) fn options(args: &Args, adds: bool, tx: &Tx) -> Result<Options, CmdError> {
    let mut options = Options::default();
    let (mut at, mut approximate, mut limit) = (2, false, None);
    let (mut threshold, mut chosen) = (None, None);
    while at < args.len() {
        let left = args.len() - at - 1;
        if adds && args.get(at) == b"*" {
            options.id = Some((Wanted::Auto, at));
            break;
        }
        if (args.is(at, "maxlen") || args.is(at, "minid")) && left >= 1 {
            if threshold.is_some() {
                return Err(CmdError::Text(
                    "ERR syntax error, MAXLEN and MINID options at the same time are not compatible",
                ));
            }
            (threshold, approximate, at) = parse_threshold(args, at)?;
        } else if args.is(at, "limit") && left >= 1 {
            let max = args.int(at + 1)?;
            let max = u64::try_from(max)
                .map_err(|_| CmdError::Text("ERR The LIMIT argument must be >= 0."))?;
            limit = Some(max);
            at += 1;
        } else if chosen.is_none() && refs(args, at).is_some() {
            chosen = refs(args, at);
        } else if adds && args.is(at, "nomkstream") {
            options.no_stream = true;
        } else if adds {
            options.id = Some((wanted(args.get(at))?, at));
            break;
        } else {
            return Err(CmdError::Syntax);
        }
        at += 1;
    }
    if limit.is_some_and(|limit| limit > 0) && threshold.is_none() {
        return Err(CmdError::Text(
            "ERR syntax error, LIMIT cannot be used without specifying a trimming strategy",
        ));
    }
    if !adds && threshold.is_none() {
        return Err(CmdError::Text(
            "ERR syntax error, XTRIM must be called with a trimming strategy",
        ));
    }
    if limit.is_some() && !approximate {
        return Err(CmdError::Text(
            "ERR syntax error, LIMIT cannot be used without the special ~ option",
        ));
    }
    options.trim = threshold.map(|threshold| Trim {
        threshold,
        approximate: approximate.then(|| limit_of(limit, tx)),
        refs: chosen.unwrap_or_default(),
    });
    Ok(options)
}

/// `MAXLEN|MINID [=|~] threshold`: what is asked, whether about that, and where the threshold stands.
fn parse_threshold(
    args: &Args,
    mut at: usize,
) -> Result<(Option<Threshold>, bool, usize), CmdError> {
    let by_len = args.is(at, "maxlen");
    let mut approximate = false;
    if args.len() - at > 2 && matches!(args.get(at + 1), b"~" | b"=") {
        approximate = args.get(at + 1) == b"~";
        at += 1;
    }
    at += 1;
    let threshold = if by_len {
        let max = args.int(at)?;
        let max = u64::try_from(max)
            .map_err(|_| CmdError::Text("ERR The MAXLEN argument must be >= 0."))?;
        Threshold::MaxLen(max)
    } else {
        Threshold::MinId(ids::parse(args.get(at), 0).ok_or(INVALID)?)
    };
    Ok((Some(threshold), approximate, at))
}

/// How many entries an approximate trim takes at most.
fn limit_of(limit: Option<u64>, tx: &Tx) -> u64 {
    match limit {
        Some(0) => u64::MAX,
        Some(limit) => limit,
        None => match tx.settings().limits.stream_node_max_entries {
            0 => 10_000,
            entries => (100 * entries as u64).min(1_000_000),
        },
    }
}

fn wanted(text: &[u8]) -> Result<Wanted, CmdError> {
    if let Some(ms) = text.strip_suffix(b"-*") {
        let id = ids::parse(ms, 0).filter(|_| !ms.contains(&b'-'));
        return id.map(|id| Wanted::AutoSequence(id.ms)).ok_or(INVALID);
    }
    ids::parse(text, 0).map(Wanted::Given).ok_or(INVALID)
}

/// The id of a new entry.
fn choose(wanted: Wanted, last: EntryId, now_ms: i64) -> Result<EntryId, CmdError> {
    const TOO_SMALL: CmdError = CmdError::Text(
        "ERR The ID specified in XADD is equal or smaller than the target stream top item",
    );
    if last == EntryId::MAX {
        return Err(CmdError::Text(
            "ERR The stream has exhausted the last possible ID, unable to add more items",
        ));
    }
    match wanted {
        Wanted::Given(id) if id > last => Ok(id),
        Wanted::Given(_) => Err(TOO_SMALL),
        Wanted::Auto => {
            let now = EntryId {
                ms: now_ms.max(0) as u64,
                seq: 0,
            };
            Ok(if now > last {
                now
            } else {
                last.next().unwrap_or(EntryId::MAX)
            })
        }
        Wanted::AutoSequence(ms) if ms == last.ms => {
            let seq = last.seq.checked_add(1).ok_or(TOO_SMALL)?;
            Ok(EntryId { ms, seq })
        }
        Wanted::AutoSequence(ms) if ms > last.ms => Ok(EntryId { ms, seq: 0 }),
        Wanted::AutoSequence(_) => Err(TOO_SMALL),
    }
}

/// `XADD key [NOMKSTREAM] [KEEPREF|DELREF|ACKED] [MAXLEN|MINID [=|~] threshold [LIMIT count]] *|id
/// field value ...`
pub(super) fn xadd(tx: &mut Tx, args: &Args, out: &mut Writer) -> CmdResult {
    let key = args.get(1);
    let options = options(args, true, tx)?;
    let pairs = |at| args.len() - at - 1;
    let complete = |&(_, at): &(Wanted, usize)| pairs(at) >= 2 && pairs(at).is_multiple_of(2);
    let (wanted, at) = (options.id.filter(complete)).ok_or_else(|| CmdError::arity("xadd"))?;
    if matches!(wanted, Wanted::Given(EntryId::MIN)) {
        return Err(CmdError::Text(
            "ERR The ID specified in XADD must be greater than 0-0",
        ));
    }
    /// Redis: STREAM_LISTPACK_MAX_SIZE: an entry has to fit into a node.
    const ENTRY_BYTES_MAX: usize = 1 << 30;
    let bytes: usize = args.iter().skip(at + 1).map(<[u8]>::len).sum();
    if bytes > ENTRY_BYTES_MAX {
        return Err(CmdError::Text("ERR Elements are too large to be stored"));
    }
    let fields: Vec<&[u8]> = args.iter().skip(at + 1).collect();
    let last = match tx.peek::<Stream>(key)? {
        None if options.no_stream => return out.null(),
        None => EntryId::MIN,
        Some(stream) => stream.last_id,
    };
    let id = choose(wanted, last, tx.now_ms())?;
    let (trimmed, len) = tx.change_or_create(
        key,
        |_| Stream::default(),
        |stream, context| {
            stream.append(id, &fields, context.limits);
            let trimmed = options.trim.map(|trim| stream.trim(trim));
            (trimmed.unwrap_or_default(), stream.len())
        },
    )?;
    let text = id.to_string();
    tx.wrote(key, Event::XADD, |rec| {
        let head = [b"XADD", key, text.as_bytes()];
        rec.cmd_of(
            3 + fields.len(),
            head.into_iter().chain(fields.iter().copied()),
        );
    });
    account_trim(tx, key, &trimmed, len);
    out.bulk(text.as_bytes())
}

/// `XSETID key last-id [ENTRIESADDED count] [MAXDELETEDID id]`
pub(super) fn xsetid(tx: &mut Tx, args: &Args, out: &mut Writer) -> CmdResult {
    let key = args.get(1);
    let last = ids::strict(args, 2)?;
    let (mut added, mut deleted) = (None, None);
    let mut at = 3;
    while at < args.len() {
        if at + 1 >= args.len() {
            return Err(CmdError::Syntax);
        }
        if args.is(at, "entriesadded") {
            let count = args.int(at + 1)?;
            let count = u64::try_from(count)
                .map_err(|_| CmdError::Text("ERR entries_added must be positive"))?;
            added = Some(count);
        } else if args.is(at, "maxdeletedid") {
            let id = ids::strict(args, at + 1)?;
            if last < id {
                return Err(CmdError::Text(
                    "ERR The ID specified in XSETID is smaller than the provided max_deleted_entry_id",
                ));
            }
            // Redis: t_stream.c xsetidCommand, where 0-0 is like none.
            deleted = Some(id).filter(|id| *id != EntryId::MIN);
        } else {
            return Err(CmdError::Syntax);
        }
        at += 2;
    }
    let stream = tx.peek::<Stream>(key)?.ok_or(CmdError::NoSuchKey)?;
    let top = stream.range_back(EntryId::MIN, EntryId::MAX).next();
    if top.is_some_and(|entry| last < entry.id) {
        return Err(CmdError::Text(
            "ERR The ID specified in XSETID is smaller than the target stream top item",
        ));
    }
    if added.is_some_and(|added| added < stream.len()) {
        return Err(CmdError::Text(
            "ERR The entries_added specified in XSETID is smaller than the target stream length",
        ));
    }
    tx.change(key, |stream: &mut Stream, _| {
        stream.last_id = last;
        stream.entries_added = added.unwrap_or(stream.entries_added);
        stream.max_deleted_id = deleted.unwrap_or(stream.max_deleted_id);
    })?;
    tx.wrote(key, Event::XSETID, |rec| {
        rec.cmd_of(
            args.len(),
            std::iter::once(&b"XSETID"[..]).chain(args.iter().skip(1)),
        );
    });
    out.ok()
}
