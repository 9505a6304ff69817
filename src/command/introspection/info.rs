//! COMMAND INFO: the facts that clients route and check requests by.

use super::{full_name, names, status_set};
use crate::command::keys::{self, Begin, Find, KeySpec};
use crate::command::{Command, flags};
use crate::resp::{CmdResult, Writer};

/// The ten elements of COMMAND INFO.
pub fn describe(command: &Command, container: Option<&Command>, out: &mut Writer) -> CmdResult {
    out.array(10)?;
    out.bulk(full_name(command, container).as_bytes())?;
    out.int(i64::from(command.arity))?;
    let flag_names = names(flags::FLAG_NAMES, |bit| command.flags & bit != 0);
    status_set(&flag_names, "", out)?;
    let (first, last, step) = legacy_range(command.keys);
    out.int(first)?;
    out.int(last)?;
    out.int(step)?;
    let categories = names(flags::CATEGORY_NAMES, |bit| command.categories() & bit != 0);
    status_set(&categories, "@", out)?;
    out.set(command.tips.len())?;
    command
        .tips
        .iter()
        .try_for_each(|tip| out.bulk(tip.as_bytes()))?;
    let shown = || command.keys.iter().filter(|spec| spec.is_shown());
    out.set(shown().count())?;
    shown().try_for_each(|spec| describe_spec(spec, out))?;
    // Redis: addReplyCommandSubCommands; in RESP3 it is a set only if it is empty.
    match command.sub.len() {
        0 => out.set(0)?,
        count => out.array(count)?,
    }
    command
        .sub
        .iter()
        .try_for_each(|sub| describe(sub, Some(command), out))
}

/// First key, last key and step as clients before key specifications knew them.
/// Redis: server.c populateCommandLegacyRangeSpec.
fn legacy_range(specs: keys::Keys) -> (i64, i64, i64) {
    let ranges: Vec<(i64, i64, i64)> = specs
        .iter()
        .filter_map(|spec| match (spec.begin, spec.find) {
            (
                Begin::Index(first),
                Find::Range {
                    last,
                    step,
                    limit: 0,
                },
            ) => {
                let first = first as i64;
                let last = i64::from(last);
                Some((
                    first,
                    if last >= 0 { first + last } else { last },
                    step as i64,
                ))
            }
            _ => None,
        })
        .collect();
    let Some(&(first, last, step)) = ranges.first() else {
        return (0, 0, 0);
    };
    ranges[1..]
        .iter()
        .fold((first, last, step), |(first, last, step), &(f, l, _)| {
            (
                first.min(f),
                if l < 0 || last < 0 {
                    l.min(last)
                } else {
                    l.max(last)
                },
                step,
            )
        })
}

fn describe_spec(spec: &KeySpec, out: &mut Writer) -> CmdResult {
    out.map(3 + usize::from(!spec.notes.is_empty()))?;
    if !spec.notes.is_empty() {
        out.bulk(b"notes")?;
        out.bulk(spec.notes.as_bytes())?;
    }
    out.bulk(b"flags")?;
    let flags = names(keys::ACCESS_NAMES, |bit| spec.access & bit != 0);
    status_set(&flags, "", out)?;
    out.bulk(b"begin_search")?;
    out.map(2)?;
    out.bulk(b"type")?;
    let is_unknown = match spec.begin {
        Begin::Index(index) => {
            out.bulk(b"index")?;
            out.bulk(b"spec")?;
            numbers(&[("index", index as i64)], out)?;
            false
        }
        Begin::Keyword { word, from } | Begin::Told { word, from } if !word.is_empty() => {
            out.bulk(b"keyword")?;
            out.bulk(b"spec")?;
            out.map(2)?;
            out.bulk(b"keyword")?;
            out.bulk(word.as_bytes())?;
            out.bulk(b"startfrom")?;
            out.int(i64::from(from))?;
            false
        }
        _ => {
            out.bulk(b"unknown")?;
            out.bulk(b"spec")?;
            out.map(0)?;
            true
        }
    };
    out.bulk(b"find_keys")?;
    out.map(2)?;
    out.bulk(b"type")?;
    if is_unknown {
        out.bulk(b"unknown")?;
        out.bulk(b"spec")?;
        return out.map(0);
    }
    match spec.find {
        Find::Range { last, step, limit } => {
            out.bulk(b"range")?;
            out.bulk(b"spec")?;
            let (last, step, limit) = (i64::from(last), step as i64, i64::from(limit));
            numbers(
                &[("lastkey", last), ("keystep", step), ("limit", limit)],
                out,
            )
        }
        Find::Count { count, first, step } => {
            out.bulk(b"keynum")?;
            out.bulk(b"spec")?;
            let (count, first, step) = (count as i64, first as i64, step as i64);
            numbers(
                &[("keynumidx", count), ("firstkey", first), ("keystep", step)],
                out,
            )
        }
    }
}

fn numbers(pairs: &[(&str, i64)], out: &mut Writer) -> CmdResult {
    out.map(pairs.len())?;
    pairs.iter().try_for_each(|(name, n)| {
        out.bulk(name.as_bytes())?;
        out.int(*n)
    })
}
