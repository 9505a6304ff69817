//! `pinion check-rdb`: redis-check-rdb in output and exit codes, down to the words that scripts
//! look for (Redis: redis-check-rdb.c).

use std::io::{self, Write};
use std::process::ExitCode;

use bytes::Bytes;

use super::{Failure, complain, read_rdb};
use crate::rdb::file::{Checksum, Event};
use crate::rdb::object::type_name;
use crate::rdb::{Error, Fault};
use crate::runtime::clock;

#[derive(Default)]
struct Counts {
    keys: u64,
    expires: u64,
    expired: u64,
    empty: u64,
}

/// Checks a file of which only the front is a snapshot; returns where that ends.
pub fn preamble(path: &str, out: &mut impl Write) -> io::Result<Option<u64>> {
    let mut end = 0;
    let name = path.rsplit('/').next().unwrap_or(path);
    let code = check(path, name, out, &mut end)?;
    Ok((code == ExitCode::SUCCESS).then_some(end))
}

pub fn run(path: &str, out: &mut impl Write) -> io::Result<ExitCode> {
    check(path, path, out, &mut 0)
}

fn check(path: &str, name: &str, out: &mut impl Write, end: &mut u64) -> io::Result<ExitCode> {
    writeln!(out, "[offset 0] Checking RDB file {name}")?;
    let now_ms = clock::now().unix_ms();
    let mut counts = Counts::default();
    let mut last = 0;
    let read = read_rdb(path, |at, event| {
        last = at;
        note(out, at, &event, now_ms, &mut counts)
    });
    let code = match read {
        Ok(()) if counts.empty > 0 => {
            // A server loads the file without them, but nobody ever meant to write them.
            writeln!(out, "--- RDB ERROR DETECTED ---")?;
            let empty = counts.empty;
            writeln!(out, "[offset {last}] {empty} keys without elements")?;
            ExitCode::FAILURE
        }
        Ok(()) => {
            *end = last;
            writeln!(out, "[offset {last}] \\o/ RDB looks OK! \\o/")?;
            ExitCode::SUCCESS
        }
        Err(Failure::Output(error)) => return Err(error),
        Err(Failure::Input(error)) => {
            out.flush()?;
            complain(&format!("Cannot read {path}: {error}"));
            return Ok(ExitCode::FAILURE);
        }
        Err(Failure::Damage { error, entry }) => {
            counts.keys += u64::from(entry.is_some());
            tell(out, last, &error, entry.as_ref())?;
            ExitCode::FAILURE
        }
    };
    writeln!(out, "[info] {} keys read", counts.keys)?;
    writeln!(out, "[info] {} expires", counts.expires)?;
    writeln!(out, "[info] {} already expired", counts.expired)?;
    Ok(code)
}

fn note(
    out: &mut impl Write,
    at: u64,
    event: &Event,
    now_ms: i64,
    counts: &mut Counts,
) -> io::Result<()> {
    match event {
        Event::Aux { name, value } => {
            let (name, value) = (
                String::from_utf8_lossy(name),
                String::from_utf8_lossy(value),
            );
            writeln!(out, "[offset {at}] AUX FIELD {name} = '{value}'")
        }
        Event::SelectDb(db) => writeln!(out, "[offset {at}] Selecting DB ID {db}"),
        Event::ModuleAux { module, data_at } => {
            writeln!(out, "[offset {data_at}] MODULE AUX for: {module}")
        }
        Event::Entry(entry) => {
            counts.keys += 1;
            if let Some(at_ms) = entry.attributes.expire_at_ms {
                counts.expires += 1;
                counts.expired += u64::from(at_ms < now_ms);
            }
            Ok(())
        }
        Event::ModuleKey { .. } => {
            counts.keys += 1;
            Ok(())
        }
        Event::EmptyKey { key, ty } => {
            counts.keys += 1;
            counts.empty += 1;
            let (key, name) = (String::from_utf8_lossy(key), type_name(*ty));
            writeln!(out, "[offset {at}] Empty key '{key}' of type {ty} ({name})")
        }
        Event::End(Checksum::Verified) => writeln!(out, "[offset {at}] Checksum OK"),
        Event::End(Checksum::Disabled) => writeln!(
            out,
            "[offset {at}] RDB file was saved with checksum disabled: no check performed."
        ),
        Event::End(Checksum::Absent | Checksum::Ignored)
        | Event::Start { .. }
        | Event::Function(_)
        | Event::ResizeDb { .. }
        | Event::Hint => Ok(()),
    }
}

/// Tells what is wrong. `last` is where the part began that is damaged.
fn tell(
    out: &mut impl Write,
    last: u64,
    error: &Error,
    entry: Option<&(Bytes, u8)>,
) -> io::Result<()> {
    let (at, fault) = (error.at, &error.fault);
    let told = match fault {
        Fault::Short { .. } => format!("Unexpected EOF reading RDB file ({fault})"),
        Fault::Signature => "Wrong signature trying to load DB from file".into(),
        Fault::Version(version) => format!("Can't handle RDB format version {version}"),
        Fault::Type(ty) => format!("Invalid object type: {ty}"),
        Fault::Checksum { .. } => format!("RDB CRC error ({fault})"),
        _ => {
            let mut told = fault.to_string();
            if let Some(first) = told.get_mut(..1) {
                first.make_ascii_uppercase();
            }
            told
        }
    };
    let doing = match (fault, entry) {
        (Fault::Checksum { .. }, _) => "check-sum",
        (_, Some(_)) => "read-object-value",
        _ if last == 0 => "start",
        _ => "read-type",
    };
    writeln!(out, "--- RDB ERROR DETECTED ---")?;
    writeln!(out, "[offset {at}] {told}")?;
    writeln!(out, "[additional info] While doing: {doing}")?;
    if let Some((key, ty)) = entry {
        let key = String::from_utf8_lossy(key);
        writeln!(out, "[additional info] Reading key '{key}'")?;
        writeln!(
            out,
            "[additional info] Reading type {ty} ({})",
            type_name(*ty)
        )?;
    }
    Ok(())
}
