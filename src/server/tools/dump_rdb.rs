//! `pinion dump-rdb`: the keys of a file as JSON, one object per line.
//!
//! ```text
//! {"db":0,"key":"k","type":"hash","encoding":"hash-listpack","expire_at_ms":null,"size":31,"elements":2}
//! ```
//!
//! `size` is what the value takes in the file, `elements` what STRLEN, HLEN and their like tell. A
//! key that is not UTF-8 stands in `key_hex` instead of `key`.

use std::io::{self, Write};
use std::process::ExitCode;

use super::{Failure, complain, read_rdb};
use crate::rdb::file::{Entry, Event};
use crate::rdb::object::{type_name, types};

pub fn run(path: &str, out: &mut impl Write) -> io::Result<ExitCode> {
    let mut db = 0;
    let read = read_rdb(path, |_, event| match event {
        Event::SelectDb(selected) => {
            db = selected;
            Ok(())
        }
        Event::Entry(entry) => put_entry(out, db, &entry),
        Event::ModuleKey { key, module } => {
            put_key(out, db, &key)?;
            let encoding = type_name(types::MODULE_2);
            write!(
                out,
                ",\"type\":\"module\",\"encoding\":\"{encoding}\",\"module\":"
            )?;
            put_text(out, &module)?;
            writeln!(out, "}}")
        }
        Event::EmptyKey { key, .. } => {
            let key = String::from_utf8_lossy(&key);
            complain(&format!("Skipped the key '{key}', which has no elements"));
            Ok(())
        }
        _ => Ok(()),
    });
    match read {
        Ok(()) => return Ok(ExitCode::SUCCESS),
        Err(Failure::Output(error)) => return Err(error),
        Err(Failure::Input(error)) => complain(&format!("Cannot read {path}: {error}")),
        Err(Failure::Damage { error, .. }) => {
            // What could be read comes before the complaint.
            out.flush()?;
            complain(&format!("{path}: {error}"));
        }
    }
    Ok(ExitCode::FAILURE)
}

fn put_entry(out: &mut impl Write, db: u32, entry: &Entry) -> io::Result<()> {
    put_key(out, db, &entry.key)?;
    let (ty, encoding) = (entry.object.kind().name(), type_name(entry.ty));
    write!(
        out,
        ",\"type\":\"{ty}\",\"encoding\":\"{encoding}\",\"expire_at_ms\":"
    )?;
    match entry.attributes.expire_at_ms {
        Some(at_ms) => write!(out, "{at_ms}")?,
        None => write!(out, "null")?,
    }
    let (size, elements) = (entry.value_bytes, entry.object.len());
    writeln!(out, ",\"size\":{size},\"elements\":{elements}}}")
}

fn put_key(out: &mut impl Write, db: u32, key: &[u8]) -> io::Result<()> {
    write!(out, "{{\"db\":{db},")?;
    match std::str::from_utf8(key) {
        Ok(text) => {
            write!(out, "\"key\":")?;
            put_text(out, text)
        }
        Err(_) => {
            write!(out, "\"key_hex\":\"")?;
            key.iter().try_for_each(|byte| write!(out, "{byte:02x}"))?;
            write!(out, "\"")
        }
    }
}

/// A string of JSON.
fn put_text(out: &mut impl Write, text: &str) -> io::Result<()> {
    write!(out, "\"")?;
    for character in text.chars() {
        match character {
            '"' | '\\' => write!(out, "\\{character}")?,
            '\n' => write!(out, "\\n")?,
            '\r' => write!(out, "\\r")?,
            '\t' => write!(out, "\\t")?,
            control if control < ' ' => write!(out, "\\u{:04x}", u32::from(control))?,
            plain => write!(out, "{plain}")?,
        }
    }
    write!(out, "\"")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_survive_as_json() {
        for (key, expected) in [
            (&b"plain"[..], r#"{"db":3,"key":"plain""#),
            (b"q\"b\\n\nu\x01", r#"{"db":3,"key":"q\"b\\n\nu\u0001""#),
            (
                "\u{e9}\u{1f980}".as_bytes(),
                "{\"db\":3,\"key\":\"\u{e9}\u{1f980}\"",
            ),
            (b"\xff\x00k", r#"{"db":3,"key_hex":"ff006b""#),
            (b"", r#"{"db":3,"key":"""#),
        ] {
            let mut out = Vec::new();
            put_key(&mut out, 3, key).expect("memory takes everything");
            assert_eq!(String::from_utf8_lossy(&out), expected);
        }
    }
}
