//! COMMAND DOCS: what a command is for and how it is written, for people and for the hints of
//! redis-cli.

use super::syntax::{self, Argument, Kind};
use super::{full_name, status_set};
use crate::command::{Command, Standing};
use crate::resp::{CmdResult, Writer};

/// The name of a command and the map of what is known of it. Redis: server.c addReplyCommandDocs.
pub fn document(command: &Command, container: Option<&Command>, out: &mut Writer) -> CmdResult {
    // A notation that cannot be read is a test's failure, not a client's.
    let arguments = syntax::parse(command.syntax).unwrap_or_default();
    let mut words = vec![
        ("summary", command.summary),
        ("since", command.since),
        ("group", command.group.name()),
        ("complexity", command.complexity),
    ];
    words.retain(|(_, text)| !text.is_empty());
    let more = [
        !matches!(command.standing, Standing::Good),
        matches!(command.standing, Standing::Deprecated { .. }),
        matches!(command.standing, Standing::Deprecated { .. }),
        !command.history.is_empty(),
        !arguments.is_empty(),
        !command.sub.is_empty(),
    ];
    out.bulk(full_name(command, container).as_bytes())?;
    out.map(words.len() + more.iter().filter(|is_there| **is_there).count())?;
    texts(&words, out)?;
    standing(command.standing, out)?;
    if !command.history.is_empty() {
        out.bulk(b"history")?;
        out.set(command.history.len())?;
        for (version, change) in command.history {
            out.array(2)?;
            out.bulk(version.as_bytes())?;
            out.bulk(change.as_bytes())?;
        }
    }
    if !arguments.is_empty() {
        out.bulk(b"arguments")?;
        list(&arguments, out)?;
    }
    if !command.sub.is_empty() {
        out.bulk(b"subcommands")?;
        out.map(command.sub.len())?;
        let mut sub = command.sub.iter();
        sub.try_for_each(|sub| document(sub, Some(command), out))?;
    }
    Ok(())
}

fn texts(pairs: &[(&str, &str)], out: &mut Writer) -> CmdResult {
    pairs.iter().try_for_each(|(name, text)| {
        out.bulk(name.as_bytes())?;
        out.bulk(text.as_bytes())
    })
}

fn standing(standing: Standing, out: &mut Writer) -> CmdResult {
    let flag = match standing {
        Standing::Good => return Ok(()),
        Standing::Deprecated { .. } => "deprecated",
        Standing::Internal => "syscmd",
    };
    out.bulk(b"doc_flags")?;
    status_set(&[flag], "", out)?;
    match standing {
        Standing::Deprecated { since, by } => {
            texts(&[("deprecated_since", since), ("replaced_by", by)], out)
        }
        _ => Ok(()),
    }
}

/// Redis: server.c addReplyCommandArgList.
fn list(arguments: &[Argument], out: &mut Writer) -> CmdResult {
    out.array(arguments.len())?;
    arguments
        .iter()
        .try_for_each(|argument| describe(argument, out))
}

fn describe(argument: &Argument, out: &mut Writer) -> CmdResult {
    let flags = [
        (argument.optional, "optional"),
        (argument.multiple, "multiple"),
        (argument.multiple_token, "multiple_token"),
    ];
    let flags: Vec<&str> = flags
        .into_iter()
        .filter_map(|(has, name)| has.then_some(name))
        .collect();
    let told = [
        ("token", argument.token),
        ("since", argument.since),
        ("deprecated_since", argument.deprecated_since),
    ];
    let told: Vec<(&str, &str)> = told
        .into_iter()
        .filter_map(|(name, text)| Some((name, text?)))
        .collect();
    let is_group = matches!(argument.kind, Kind::OneOf | Kind::Block);
    let more = [argument.key_spec.is_some(), !flags.is_empty(), is_group];
    out.map(2 + told.len() + more.iter().filter(|is_there| **is_there).count())?;
    texts(
        &[("name", &argument.name), ("type", argument.kind.name())],
        out,
    )?;
    if let Some(spec) = argument.key_spec {
        out.bulk(b"key_spec_index")?;
        out.int(i64::from(spec))?;
    }
    texts(&told, out)?;
    if !flags.is_empty() {
        out.bulk(b"flags")?;
        status_set(&flags, "", out)?;
    }
    if is_group {
        out.bulk(b"arguments")?;
        list(&argument.parts, out)?;
    }
    Ok(())
}
