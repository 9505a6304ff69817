//! COMMAND: what the table knows, told to clients.
//!
//! Everything is made of the rows when it is asked for: `info.rs` of their facts, `docs.rs` of their
//! words and of the [`syntax`] in which each states its arguments.

mod docs;
mod info;
pub mod syntax;

use self::docs::document;
use self::info::describe;
use super::help::help;
use super::{Command, Entry, Table, flags, glob, keys};
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
    help(
        out,
        args,
        &[
            ("(no subcommand)", "Describe all commands."),
            ("COUNT", "Count the commands."),
            ("DOCS [<command-name> ...]", "Document commands."),
            ("GETKEYS <full-command>", "Find the keys of a request."),
            (
                "GETKEYSANDFLAGS <full-command>",
                "Find keys and what is done to them.",
            ),
            ("INFO [<command-name> ...]", "Describe commands."),
            (
                "LIST",
                "List names of commands; FILTERBY (MODULE|ACLCAT|PATTERN) <filter>: some.",
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
            None => out.null()?,
        }
    }
    Ok(())
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

fn full_name(command: &Command, container: Option<&Command>) -> String {
    match container {
        Some(container) => format!("{}|{}", container.name, command.name),
        None => command.name.to_owned(),
    }
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
    let Some(command) = table.named(request).map(|entry| entry.command) else {
        return Err(CmdError::Text("ERR Invalid command specified"));
    };
    if command
        .keys
        .iter()
        .all(|spec| spec.access & keys::NOT_KEY != 0)
    {
        return Err(CmdError::Text("ERR The command has no key arguments"));
    }
    if !command.accepts(request.len()) {
        return Err(CmdError::Text(
            "ERR Invalid number of arguments specified for command",
        ));
    }
    let mut found = keys::accesses(command.keys, request).unwrap_or_default();
    let mut is_complete = !found.is_empty() && keys::are_complete(command.keys, request);
    if !is_complete && let Some(counted) = keys::loosely_counted(command.keys, request) {
        (found, is_complete) = (counted, true);
    }
    if !is_complete && command.flags & flags::NO_MANDATORY_KEYS == 0 {
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
