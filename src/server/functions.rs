//! FUNCTION and its subcommands. What changes functions is done on shard 0, in whose journal it stands.

use super::ask::{Forwarded, NodeMessage, Requester};
use super::host::ServerHost;
use super::jobs::done;
use crate::command::help::help;
use crate::command::{Job, glob};
use crate::rdb::dump;
use crate::resp::{Args, CmdError, CmdResult, Output, Writer};
use crate::script::late::Kind;
use crate::script::library::{FLAGS, Function, Library};
use crate::session::{Core, Performed};

impl ServerHost {
    pub(super) fn function(
        &mut self,
        core: &mut Core,
        requester: Requester,
        args: &Args,
        out: &mut Output,
    ) -> Performed {
        let sub = args.get(1).to_ascii_lowercase();
        let changes = matches!(&*sub, b"load" | b"delete" | b"flush" | b"restore");
        if changes && self.shard != 0 {
            let forwarded = Forwarded {
                requester,
                job: Job::Function,
                args: args.to_buf(),
            };
            let message = NodeMessage::Forward(Box::new(forwarded));
            self.mail.push((0, message));
            return Performed::Later;
        }
        let mut writer = Writer::new(out, requester.proto);
        done(match &*sub {
            _ if changes => core.change_functions((requester.db, args), &mut writer),
            b"list" => list(core, args, &mut writer),
            b"dump" => {
                let set = core.scripts.libraries.now();
                let texts = set.libraries().map(|library| &*library.text);
                writer.bulk(&dump::put_functions(texts))
            }
            b"stats" | b"kill" => {
                return self.about_running(core, Job::Function, requester, args, out);
            }
            _ => tell_subcommands(args, &mut writer),
        })
    }
}

impl ServerHost {
    /// SCRIPT KILL, FUNCTION KILL and FUNCTION STATS: what is to be known of the script that runs. On
    /// another shard there may be one that is not late yet: Redis looks when it is, or is over, and so
    /// do we, as its shard answers no question before.
    pub(super) fn about_running(
        &mut self,
        core: &Core,
        job: Job,
        requester: Requester,
        args: &Args,
        out: &mut Output,
    ) -> Performed {
        if self.shards > 1 && !requester.in_exec && !core.scripts.late.is_any() {
            return self.ask_all(job, requester, args.to_buf(), None);
        }
        let mut writer = Writer::new(out, requester.proto);
        done(running(core, job, args, &mut writer))
    }
}

/// The reply to these, once all shards have answered.
pub(super) fn running(core: &Core, job: Job, args: &Args, out: &mut Writer) -> CmdResult {
    let by = match job {
        Job::ScriptKill => Kind::Eval,
        _ if args.is(1, "stats") => return stats(core, out),
        _ => Kind::Function,
    };
    core.scripts.late.kill(by)?;
    out.ok()
}

fn tell_subcommands(args: &Args, out: &mut Writer) -> CmdResult {
    help(
        out,
        args,
        &[
            ("DELETE <LIBRARY NAME>", "Delete a library."),
            ("DUMP", "Show all libraries in binary form."),
            ("FLUSH [ASYNC|SYNC]", "Delete all libraries."),
            ("KILL", "Stop the function that runs."),
            (
                "LIST [LIBRARYNAME PATTERN] [WITHCODE]",
                "Show libraries, with their functions.",
            ),
            ("LOAD [REPLACE] <FUNCTION CODE>", "Make a library known."),
            (
                "RESTORE <PAYLOAD> [FLUSH|APPEND|REPLACE]",
                "Make the libraries of a payload known.",
            ),
            ("STATS", "Show which function runs."),
        ],
    )
}

/// `FUNCTION LIST [LIBRARYNAME pattern] [WITHCODE]`
fn list(core: &Core, args: &Args, out: &mut Writer) -> CmdResult {
    let (mut at, mut with_code, mut pattern) = (2, false, None);
    while at < args.len() {
        if args.is(at, "withcode") && !with_code {
            with_code = true;
        } else if args.is(at, "libraryname") && pattern.is_none() {
            if at + 1 == args.len() {
                return Err(CmdError::Text("ERR library name argument was not given"));
            }
            at += 1;
            pattern = Some(args.get(at));
        } else {
            return Err(CmdError::quoting(&[b"ERR Unknown argument ", args.get(at)]));
        }
        at += 1;
    }
    let set = core.scripts.libraries.now();
    let is_meant = |library: &&&Library| {
        pattern.is_none_or(|pattern| glob::matches_nocase(pattern, &library.name))
    };
    let all: Vec<&Library> = set.libraries().map(|library| &**library).collect();
    let meant: Vec<&&Library> = all.iter().filter(is_meant).collect();
    out.array(meant.len())?;
    meant
        .iter()
        .try_for_each(|library| describe(library, with_code, out))
}

fn describe(library: &Library, with_code: bool, out: &mut Writer) -> CmdResult {
    out.map(if with_code { 4 } else { 3 })?;
    out.bulk(b"library_name")?;
    out.bulk(&library.name)?;
    out.bulk(b"engine")?;
    out.bulk(b"LUA")?;
    out.bulk(b"functions")?;
    out.array(library.functions.len())?;
    library
        .functions
        .iter()
        .try_for_each(|function| describe_function(function, out))?;
    if with_code {
        out.bulk(b"library_code")?;
        out.bulk(&library.text)?;
    }
    Ok(())
}

fn describe_function(function: &Function, out: &mut Writer) -> CmdResult {
    out.map(3)?;
    out.bulk(b"name")?;
    out.bulk(function.name())?;
    out.bulk(b"description")?;
    match &function.description {
        Some(text) => out.bulk(text)?,
        None => out.null()?,
    }
    out.bulk(b"flags")?;
    out.set(function.flags.count_ones() as usize)?;
    for (at, name) in FLAGS.into_iter().enumerate() {
        if function.flags & 1 << at != 0 {
            out.simple(name)?;
        }
    }
    Ok(())
}

/// FUNCTION STATS
fn stats(core: &Core, out: &mut Writer) -> CmdResult {
    let late = core.scripts.late.first();
    if let Some(error) = core.scripts.late.refusal()
        && late.as_ref().is_some_and(|late| late.kind == Kind::Eval)
    {
        return Err(error);
    }
    out.map(2)?;
    out.bulk(b"running_script")?;
    match late {
        None => out.null()?,
        Some(late) => {
            out.map(3)?;
            out.bulk(b"name")?;
            out.bulk(&late.name)?;
            out.bulk(b"command")?;
            out.array(late.words.len())?;
            late.words.iter().try_for_each(|word| out.bulk(word))?;
            out.bulk(b"duration_ms")?;
            let spent_ns = core.shard.now_ns().saturating_sub(late.begun_ns);
            out.int((spent_ns / 1_000_000) as i64)?;
        }
    }
    let set = core.scripts.libraries.now();
    out.bulk(b"engines")?;
    out.map(1)?;
    out.bulk(b"LUA")?;
    out.map(2)?;
    out.bulk(b"libraries_count")?;
    out.int(set.libraries().len() as i64)?;
    out.bulk(b"functions_count")?;
    out.int(set.functions_count() as i64)
}
