//! Reading entries: XLEN, XRANGE, XREVRANGE, XREAD.

use bytes::Bytes;

use super::ids::{self, INVALID, write_entry};
use crate::command::block::{self, Block, Patience, Serve};
use crate::command::{Ask, Decision, Gather, Peek};
use crate::keyspace::Tx;
use crate::resp::{Args, CmdError, CmdResult, Output, Proto, Writer};
use crate::value::Kind;
use crate::value::stream::{EntryId, Stream};

pub(super) fn xlen(tx: &mut Tx, args: &Args, out: &mut Writer) -> CmdResult {
    let len = tx.read::<Stream>(args.get(1))?.map_or(0, Stream::len);
    out.int(len as i64)
}

pub(super) fn xrange(tx: &mut Tx, args: &Args, out: &mut Writer) -> CmdResult {
    range(
        tx,
        args,
        ids::start(args, 2)?,
        ids::end(args, 3)?,
        false,
        out,
    )
}

pub(super) fn xrevrange(tx: &mut Tx, args: &Args, out: &mut Writer) -> CmdResult {
    let start = ids::start(args, 3)?;
    range(tx, args, start, ids::end(args, 2)?, true, out)
}

fn range(
    tx: &mut Tx,
    args: &Args,
    start: EntryId,
    end: EntryId,
    reverse: bool,
    out: &mut Writer,
) -> CmdResult {
    let mut count = None;
    let mut at = 4;
    while at < args.len() {
        if !args.is(at, "count") || at + 1 >= args.len() {
            return Err(CmdError::Syntax);
        }
        count = Some(ids::count(args, at + 1)?);
        at += 2;
    }
    let Some(stream) = tx.read::<Stream>(args.get(1))? else {
        return out.array(0);
    };
    let max = match count {
        Some(0) => return out.null_array(),
        Some(max) => max as usize,
        None => usize::MAX,
    };
    if reverse {
        entries(stream.range_back(start, end).take(max), out)
    } else {
        entries(stream.range(start, end).take(max), out)
    }
}

/// Writes entries as one array.
pub(super) fn entries<'a>(
    all: impl Iterator<Item = crate::value::stream::Entry<'a>>,
    out: &mut Writer,
) -> CmdResult {
    let all: Vec<_> = all.collect();
    out.array(all.len())?;
    all.iter().try_for_each(|entry| write_entry(entry, out))
}

/// What XREAD and XREADGROUP are asked beside keys and ids.
#[derive(Default)]
pub(super) struct Options<'a> {
    /// 0: all.
    pub count: u64,
    pub block: Option<Patience>,
    pub group: Option<(&'a [u8], &'a [u8])>,
    pub no_ack: bool,
    /// For how long an entry has been pending, milliseconds, if it is to be given to this consumer.
    pub claim_ms: Option<i64>,
    /// The first key, and how many.
    pub keys: usize,
    pub streams: usize,
}

impl Options<'_> {
    /// How many entries of a key are wanted at the most.
    pub fn max(&self) -> usize {
        match self.count {
            0 => usize::MAX,
            count => count as usize,
        }
    }
}

/// `[GROUP group consumer] [COUNT count] [BLOCK ms] [CLAIM ms] [NOACK] STREAMS key ... id ...`, of
/// XREADGROUP if `grouped`.
pub(super) fn options<'a>(args: &Args<'a>, grouped: bool) -> Result<Options<'a>, CmdError> {
    let mut options = Options::default();
    let mut at = 1;
    while at < args.len() {
        let left = args.len() - at - 1;
        if args.is(at, "claim") && left >= 1 {
            options.claim_ms = Some(claim_ms(args, at + 1, grouped)?);
            at += 1;
        } else if args.is(at, "block") && left >= 1 {
            options.block = block::milliseconds(args, at + 1)?;
            at += 1;
        } else if args.is(at, "count") && left >= 1 {
            options.count = ids::count(args, at + 1)?;
            at += 1;
        } else if args.is(at, "streams") && left >= 1 {
            options.keys = at + 1;
            options.streams = left / 2;
            if !left.is_multiple_of(2) {
                // Redis: XREADGROUP says the same.
                return Err(CmdError::Text(
                    "ERR Unbalanced XREAD list of streams: for each stream key an ID or '$' must be specified.",
                ));
            }
            break;
        } else if args.is(at, "group") && left >= 2 {
            if !grouped {
                return Err(CmdError::Text(
                    "ERR The GROUP option is only supported by XREADGROUP. You called XREAD instead.",
                ));
            }
            options.group = Some((args.get(at + 1), args.get(at + 2)));
            at += 2;
        } else if args.is(at, "noack") {
            if !grouped {
                return Err(CmdError::Text(
                    "ERR The NOACK option is only supported by XREADGROUP. You called XREAD instead.",
                ));
            }
            options.no_ack = true;
        } else {
            return Err(CmdError::Syntax);
        }
        at += 1;
    }
    if options.streams == 0 {
        return Err(CmdError::Syntax);
    }
    if grouped && options.group.is_none() {
        return Err(CmdError::Text("ERR Missing GROUP option for XREADGROUP"));
    }
    Ok(options)
}

/// `CLAIM`'s time.
fn claim_ms(args: &Args, at: usize, grouped: bool) -> Result<i64, CmdError> {
    if !grouped {
        return Err(CmdError::Text(
            "ERR The CLAIM option is only supported by XREADGROUP. You called XREAD instead.",
        ));
    }
    match args.int(at) {
        Ok(ms) if ms < 0 => Err(CmdError::Text(
            "ERR min-idle-time must be a positive integer",
        )),
        Ok(ms) => Ok(ms),
        Err(_) => Err(CmdError::Text(
            "ERR min-idle-time is not an integer or out of range",
        )),
    }
}

/// Whether BLOCK stands where an option may, whatever comes behind it.
pub fn asks_to_block(args: &Args, is_grouped: bool) -> bool {
    let mut at = 1;
    while at + 1 < args.len() {
        if args.is(at, "block") {
            return true;
        }
        at += match args.get(at).to_ascii_lowercase().as_slice() {
            b"count" if ids::count(args, at + 1).is_ok() => 2,
            b"claim" if claim_ms(args, at + 1, is_grouped).is_ok() => 2,
            b"group" if is_grouped => 3,
            b"noack" if is_grouped => 1,
            _ => return false,
        };
    }
    false
}

pub(super) static XREAD: Gather = Gather {
    peek,
    decide,
    more: None,
};

pub(super) static XREAD_WAITS: Block = Block {
    patience: |args| Ok(options(args, false)?.block),
    kind: Kind::Stream,
    serve: Serve::Key(serve),
    mark: |tx, args, at| {
        let after = options(args, false).and_then(|options| after(tx, args, at, &options));
        Bytes::from(after.unwrap_or(EntryId::MIN).to_string())
    },
    alarm_ms: None,
    first_key_only: false,
};

/// The id behind which entries of the key at `at` are wanted.
fn after(tx: &mut Tx, args: &Args, at: usize, options: &Options) -> Result<EntryId, CmdError> {
    let text = args.get(at + options.streams);
    let stream = tx.peek::<Stream>(args.get(at))?;
    if text == b"$" {
        return Ok(stream.map_or(EntryId::MIN, |stream| stream.last_id));
    }
    if text == b"+" {
        return last(stream);
    }
    if text == b">" {
        return Err(CmdError::Text(
            "ERR The > ID can be specified only when calling XREADGROUP using the GROUP <group> <consumer> option.",
        ));
    }
    ids::parse(text, 0).ok_or(INVALID)
}

/// The id before the last one, for who asks for the last entry.
// Redis: t_stream.c xreadCommand (7.4) goes by the last id ever, so a last entry that was deleted
// has no one before it take its place.
fn last(stream: Option<&Stream>) -> Result<EntryId, CmdError> {
    let Some(stream) = stream else {
        return Ok(EntryId::MIN);
    };
    let before = stream.last_id.previous();
    before.ok_or(CmdError::Text("ERR the stream last element ID is 0-0"))
}

/// The entries wanted of one key, with the key, as part of the reply.
fn peek(tx: &mut Tx, args: &Args, at: usize) -> Peek {
    let mut out = Output::default();
    let mut writer = Writer::new(&mut out, Proto::Resp2);
    // Redis looks all keys up for their types first, and then each for its entries.
    let is_there = tx.peek_exists(args.get(at));
    tx.count_read(args.get(at), is_there);
    tx.set_place(args.len() + at);
    let read = options(args, false).and_then(|options| {
        let after = after(tx, args, at, &options)?;
        write_after(tx, args.get(at), after, options.max(), &mut writer)
    });
    match read {
        Err(error) => Peek::Failed(error),
        Ok(false) => Peek::Missing,
        Ok(true) => Peek::Reply { out, count: 1 },
    }
}

/// Writes the key's name and entries; `false` if there are none.
fn write_after(
    tx: &mut Tx,
    key: &[u8],
    after: EntryId,
    max: usize,
    out: &mut Writer,
) -> Result<bool, CmdError> {
    let Some(from) = after.next() else {
        return Ok(false);
    };
    let Some(stream) = tx
        .read::<Stream>(key)?
        .filter(|stream| stream.last_id > after)
    else {
        return Ok(false);
    };
    let mut found = stream.range(from, EntryId::MAX).take(max).peekable();
    if found.peek().is_none() {
        return Ok(false);
    }
    out.bulk(key)?;
    entries(found, out)?;
    Ok(true)
}

fn decide(ask: &Ask, peeks: &[Peek]) -> Result<Decision, CmdError> {
    let mut found = Vec::new();
    for peek in peeks {
        match peek {
            Peek::Failed(error) => return Err(error.clone()),
            Peek::Reply { out, .. } => found.push(out),
            _ => {}
        }
    }
    let decision = Decision::reply(ask, |out| {
        if found.is_empty() {
            return out.null_array();
        }
        begin_streams(found.len(), out)?;
        for part in &found {
            begin_stream(out)?;
            out.output().append(part);
        }
        Ok(())
    })?;
    Ok(Decision {
        waits: found.is_empty(),
        ..decision
    })
}

/// Begins a reply of several streams: a map where there are maps.
pub(super) fn begin_streams(count: usize, out: &mut Writer) -> CmdResult {
    if out.resp3() {
        out.map(count)
    } else {
        out.array(count)
    }
}

pub(super) fn begin_stream(out: &mut Writer) -> CmdResult {
    if out.resp3() { Ok(()) } else { out.array(2) }
}

/// Serves a waiting XREAD from the key that changed.
fn serve(
    tx: &mut Tx,
    args: &Args,
    at: usize,
    mark: &Bytes,
    out: &mut Writer,
) -> Result<bool, CmdError> {
    let key = args.get(at);
    if tx.kind(key) != Some(Kind::Stream) {
        return Ok(false);
    }
    let after = ids::parse(mark, 0).unwrap_or(EntryId::MIN);
    let max = options(args, false)?.max();
    let mut part = Output::default();
    let mut writer = Writer::new(&mut part, out.proto());
    if !write_after(tx, key, after, max, &mut writer)? {
        return Ok(false);
    }
    begin_streams(1, out)?;
    begin_stream(out)?;
    out.output().append(&part);
    Ok(true)
}
