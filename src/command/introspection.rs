//! COMMAND: what the table knows, told to clients.

use super::keys::{Begin, Find, KeySpec};
use super::{Command, Entry, Lookup, Run, Table, connection, flags, glob, keys};
use crate::resp::{Args, CmdError, CmdResult, Writer};

/// COMMAND and its subcommands.
pub fn command(table: &Table, args: &Args, out: &mut Writer) -> CmdResult {
    if args.len() == 1 {
        return describe_all(table, out);
    }
    if args.is(1, "count") {
        return out.int(top_level(table).count() as i64);
    }
    if args.is(1, "info") {
        return info(table, args, out);
    }
    if args.is(1, "docs") {
        return docs(table, args, out);
    }
    if args.is(1, "list") {
        return list(table, args, out);
    }
    if args.is(1, "getkeys") {
        return get_keys(table, &args.from(2), false, out);
    }
    if args.is(1, "getkeysandflags") {
        return get_keys(table, &args.from(2), true, out);
    }
    connection::help(
        out,
        "COMMAND",
        &[
            ("(no subcommand)", "Describe all commands."),
            ("COUNT", "Count the commands."),
            ("DOCS [<name> ...]", "Document commands."),
            ("GETKEYS <full command>", "Find the keys of a request."),
            (
                "GETKEYSANDFLAGS <full command>",
                "Find keys and what is done to them.",
            ),
            ("INFO [<name> ...]", "Describe commands."),
            (
                "LIST [FILTERBY (MODULE|ACLCAT|PATTERN) <filter>]",
                "List names of commands.",
            ),
        ],
    )
}

fn top_level(table: &Table) -> impl Iterator<Item = &Entry> {
    table
        .entries()
        .iter()
        .filter(|entry| entry.container.is_none())
}

fn describe_all(table: &Table, out: &mut Writer) -> CmdResult {
    out.array(top_level(table).count())?;
    top_level(table).try_for_each(|entry| describe(entry.command, None, out))
}

/// `name` or `container|name`.
fn resolve<'t>(table: &'t Table, name: &[u8]) -> Option<&'t Entry> {
    match name.iter().position(|&byte| byte == b'|') {
        None => table.find(name),
        Some(at) => table.find_sub(table.find(&name[..at])?, &name[at + 1..]),
    }
}

fn info(table: &Table, args: &Args, out: &mut Writer) -> CmdResult {
    if args.len() == 2 {
        return describe_all(table, out);
    }
    out.array(args.len() - 2)?;
    for name in args.iter().skip(2) {
        match resolve(table, name) {
            Some(entry) => describe(entry.command, entry.container, out)?,
            None => out.null_array()?,
        }
    }
    Ok(())
}

fn names<T: Copy>(set: &[(T, &'static str)], has: impl Fn(T) -> bool) -> Vec<&'static str> {
    set.iter()
        .filter(|(bit, _)| has(*bit))
        .map(|(_, name)| *name)
        .collect()
}

fn status_set(names: &[&str], prefix: &str, out: &mut Writer) -> CmdResult {
    out.set(names.len())?;
    names
        .iter()
        .try_for_each(|name| out.simple(&format!("{prefix}{name}")))
}

/// The ten elements of COMMAND INFO.
fn describe(command: &Command, container: Option<&Command>, out: &mut Writer) -> CmdResult {
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
    out.set(command.sub.len())?;
    command
        .sub
        .iter()
        .try_for_each(|sub| describe(sub, Some(command), out))
}

fn full_name(command: &Command, container: Option<&Command>) -> String {
    match container {
        Some(container) => format!("{}|{}", container.name, command.name),
        None => command.name.to_owned(),
    }
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

fn docs(table: &Table, args: &Args, out: &mut Writer) -> CmdResult {
    let entries: Vec<&Entry> = if args.len() == 2 {
        top_level(table).collect()
    } else {
        args.iter()
            .skip(2)
            .filter_map(|name| resolve(table, name))
            .collect()
    };
    out.map(entries.len())?;
    entries
        .iter()
        .try_for_each(|entry| document(entry.command, entry.container, out))
}

/// Commands that new programs should not use: since which version of Redis, and what replaces them.
/// Redis: deprecated_since and replaced_by in src/commands/*.json.
const DEPRECATED: &[(&str, &str, &str)] = &[
    (
        "brpoplpush",
        "6.2.0",
        "`BLMOVE` with the `RIGHT` and `LEFT` arguments",
    ),
    ("cluster|slaves", "5.0.0", "`CLUSTER REPLICAS`"),
    ("cluster|slots", "7.0.0", "`CLUSTER SHARDS`"),
    (
        "georadius",
        "6.2.0",
        "`GEOSEARCH` and `GEOSEARCHSTORE` with the `BYRADIUS` argument",
    ),
    (
        "georadius_ro",
        "6.2.0",
        "`GEOSEARCH` with the `BYRADIUS` argument",
    ),
    (
        "georadiusbymember",
        "6.2.0",
        "`GEOSEARCH` and `GEOSEARCHSTORE` with the `BYRADIUS` and `FROMMEMBER` arguments",
    ),
    (
        "georadiusbymember_ro",
        "6.2.0",
        "`GEOSEARCH` with the `BYRADIUS` and `FROMMEMBER` arguments",
    ),
    ("getset", "6.2.0", "`SET` with the `!GET` argument"),
    ("hmset", "4.0.0", "`HSET` with multiple field-value pairs"),
    (
        "rpoplpush",
        "6.2.0",
        "`LMOVE` with the `RIGHT` and `LEFT` arguments",
    ),
    ("slaveof", "5.0.0", "`REPLICAOF`"),
    ("substr", "2.0.0", "`GETRANGE`"),
    ("zrangebylex", "6.2.0", "`ZRANGE` with the `BYLEX` argument"),
    (
        "zrangebyscore",
        "6.2.0",
        "`ZRANGE` with the `BYSCORE` argument",
    ),
    ("zrevrange", "6.2.0", "`ZRANGE` with the `REV` argument"),
    (
        "zrevrangebylex",
        "6.2.0",
        "`ZRANGE` with the `REV` and `BYLEX` arguments",
    ),
    (
        "zrevrangebyscore",
        "6.2.0",
        "`ZRANGE` with the `REV` and `BYSCORE` arguments",
    ),
];

/// Commands for Redis' own use.
const INTERNAL: &[&str] = &["debug", "pfdebug", "pfselftest", "restore-asking"];

fn document(command: &Command, container: Option<&Command>, out: &mut Writer) -> CmdResult {
    let name = full_name(command, container);
    let deprecated = DEPRECATED.iter().find(|(known, ..)| *known == name);
    let flag = match deprecated {
        Some(_) => Some("deprecated"),
        None => INTERNAL.contains(&&*name).then_some("syscmd"),
    };
    out.bulk(name.as_bytes())?;
    let has_sub = !command.sub.is_empty();
    let more = [
        flag.is_some(),
        deprecated.is_some(),
        deprecated.is_some(),
        has_sub,
    ];
    out.map(4 + more.iter().filter(|is_there| **is_there).count())?;
    let texts = [
        ("summary", command.summary),
        ("since", command.since),
        ("group", command.group.name()),
        ("complexity", command.complexity),
    ];
    for (name, text) in texts {
        out.bulk(name.as_bytes())?;
        out.bulk(text.as_bytes())?;
    }
    if let Some(flag) = flag {
        out.bulk(b"doc_flags")?;
        out.set(1)?;
        out.simple(flag)?;
    }
    if let Some((_, since, by)) = deprecated {
        for text in ["deprecated_since", since, "replaced_by", by] {
            out.bulk(text.as_bytes())?;
        }
    }
    if has_sub {
        out.bulk(b"subcommands")?;
        out.map(command.sub.len())?;
        command
            .sub
            .iter()
            .try_for_each(|sub| document(sub, Some(command), out))?;
    }
    Ok(())
}

fn list(table: &Table, args: &Args, out: &mut Writer) -> CmdResult {
    let all = || table.entries().iter();
    let found: Vec<String> = match args.len() {
        2 => all().map(Entry::full_name).collect(),
        5 if args.is(2, "filterby") && args.is(3, "module") => Vec::new(),
        5 if args.is(2, "filterby") && args.is(3, "aclcat") => {
            let wanted = args.get(4);
            let category = flags::CATEGORY_NAMES
                .iter()
                .find(|(_, name)| wanted.eq_ignore_ascii_case(name.as_bytes()));
            let bit = category.map_or(0, |(bit, _)| *bit);
            all()
                .filter(|e| e.command.categories() & bit != 0)
                .map(Entry::full_name)
                .collect()
        }
        5 if args.is(2, "filterby") && args.is(3, "pattern") => {
            let names = all().map(Entry::full_name);
            names
                .filter(|name| glob::matches_nocase(args.get(4), name.as_bytes()))
                .collect()
        }
        _ => return Err(CmdError::Syntax),
    };
    out.array(found.len())?;
    found.iter().try_for_each(|name| out.bulk(name.as_bytes()))
}

fn get_keys(table: &Table, request: &Args, with_flags: bool, out: &mut Writer) -> CmdResult {
    let entry = match table.lookup(request) {
        Lookup::Found(entry) => entry,
        Lookup::Error(CmdError::Arity(_)) => {
            return Err(CmdError::Text(
                "ERR Invalid number of arguments specified for command",
            ));
        }
        Lookup::Error(_) => return Err(CmdError::Text("ERR Invalid command specified")),
    };
    let command = entry.command;
    if command.keys.is_empty() || matches!(command.run, Run::Container) {
        return Err(CmdError::Text("ERR The command has no key arguments"));
    }
    let found = keys::accesses(command.keys, request).unwrap_or_default();
    if found.is_empty() && command.flags & flags::NO_MANDATORY_KEYS == 0 {
        return Err(CmdError::Text(
            "ERR Invalid arguments specified for command",
        ));
    }
    out.array(found.len())?;
    for (at, access) in found {
        if !with_flags {
            out.bulk(request.get(at))?;
            continue;
        }
        out.array(2)?;
        out.bulk(request.get(at))?;
        status_set(&names(keys::ACCESS_NAMES, |bit| access & bit != 0), "", out)?;
    }
    Ok(())
}
