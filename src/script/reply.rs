//! Replies of commands as Lua values, and Lua values as a script's reply.
//! Redis: redisProtocolToLuaType and luaReplyToRedisReply in script_lua.c.

use mlua::{Table, Value};

use super::engine::{ELEMENTS_MAX, Kind, Routine};
use super::native::numeric;
use crate::number::format_g;
use crate::resp::{CmdError, CmdResult, Proto, Writer};

/// How deep a reply may be nested; a table may contain itself.
const DEPTH_MAX: usize = 1000;

/// Places on a routine's stack that one level of a reply takes.
const LEVEL: i32 = 8;

/// A reply in bytes, being read.
pub struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    pub fn new(bytes: &'a [u8]) -> Reader<'a> {
        Reader { bytes, at: 0 }
    }

    /// Whether the reply as a whole is an error.
    pub fn is_error(&self) -> bool {
        self.bytes.first() == Some(&b'-')
    }

    fn line(&mut self) -> &'a [u8] {
        let rest = &self.bytes[self.at.min(self.bytes.len())..];
        let end = memchr::memchr(b'\r', rest).unwrap_or(rest.len());
        self.at += end + 2;
        &rest[..end]
    }

    fn blob(&mut self, len: usize) -> &'a [u8] {
        let from = self.at.min(self.bytes.len());
        let to = (from + len).min(self.bytes.len());
        self.at = to + 2;
        &self.bytes[from..to]
    }

    /// Pushes the next value. What commands reply is well-formed, so anything else reads as nil.
    pub fn push_value(&mut self, to: &mut Routine) -> mlua::Result<()> {
        let line = self.line();
        let Some((&kind, text)) = line.split_first() else {
            to.push_nil();
            return Ok(());
        };
        let number = crate::number::parse_i64(text).unwrap_or(0);
        match kind {
            b':' => to.push_number(number as f64),
            b'$' | b'*' if number < 0 => to.push_bool(false),
            b'$' => to.push_text(self.blob(number as usize))?,
            b'#' => to.push_bool(text == b"t"),
            _ if b"*>%~".contains(&kind) && number > ELEMENTS_MAX => {
                return Err(mlua::Error::MemoryError("table overflow".into()));
            }
            _ => {
                to.reserve(LEVEL)?;
                return self.push_compound(kind, text, number, to);
            }
        }
        Ok(())
    }

    /// The same of what is a table.
    fn push_compound(
        &mut self,
        kind: u8,
        text: &[u8],
        number: i64,
        to: &mut Routine,
    ) -> mlua::Result<()> {
        match kind {
            b'+' => push_field(to, "ok", |to| to.push_text(text)),
            b'-' => {
                push_field(to, "err", |to| to.push_text(text))?;
                to.push_name(COUNTED);
                to.push_bool(true);
                to.set_pair()
            }
            b'*' | b'>' => {
                to.push_table(number as usize, 0);
                for at in 1..=number as i32 {
                    self.push_value(to)?;
                    to.set_at(at);
                }
                Ok(())
            }
            b'%' => self.push_within("map", to, |reader, to| {
                to.push_table(0, number as usize);
                for _ in 0..number {
                    reader.push_value(to)?;
                    reader.push_value(to)?;
                    to.set_pair()?;
                }
                Ok(())
            }),
            b'~' => self.push_within("set", to, |reader, to| {
                to.push_table(0, number as usize);
                for _ in 0..number {
                    reader.push_value(to)?;
                    to.push_bool(true);
                    to.set_pair()?;
                }
                Ok(())
            }),
            b',' => {
                let double = crate::number::parse_f64(text).unwrap_or(f64::NAN);
                push_field(to, "double", |to| {
                    to.push_number(double);
                    Ok(())
                })
            }
            b'(' => push_field(to, "big_number", |to| to.push_text(text)),
            b'=' => {
                let bytes = self.blob(number as usize);
                self.push_within("verbatim_string", to, |_, to| push_verbatim(bytes, to))
            }
            // An attribute stands before what it is about.
            b'|' => {
                let len = to.len();
                for _ in 0..2 * number {
                    self.push_value(to)?;
                    to.truncate(len);
                }
                self.push_value(to)
            }
            _ => {
                to.push_nil();
                Ok(())
            }
        }
    }

    /// Pushes a table of one field, whose value is pushed by `inner`.
    fn push_within(
        &mut self,
        name: &'static str,
        to: &mut Routine,
        inner: impl FnOnce(&mut Self, &mut Routine) -> mlua::Result<()>,
    ) -> mlua::Result<()> {
        to.push_table(0, 1);
        to.push_name(name);
        inner(self, to)?;
        to.set_pair()
    }
}

/// Pushes a table of one field.
fn push_field(
    to: &mut Routine,
    name: &'static str,
    value: impl FnOnce(&mut Routine) -> mlua::Result<()>,
) -> mlua::Result<()> {
    to.push_table(0, 1);
    to.push_name(name);
    value(to)?;
    to.set_pair()
}

fn push_verbatim(bytes: &[u8], to: &mut Routine) -> mlua::Result<()> {
    let (format, text) = bytes.split_at(bytes.len().min(3));
    push_field(to, "format", |to| to.push_text(format))?;
    to.push_name("string");
    to.push_text(text.get(1..).unwrap_or_default())?;
    to.set_pair()
}

const DEEP: CmdError = CmdError::Text("ERR reached lua stack limit");

/// The field of an error that was counted when a command replied with it.
const COUNTED: &str = "ignore_error_stats_update";

/// Whether an error was counted when a command replied with it.
pub fn is_counted(from: &mut Routine, at: i32) -> bool {
    if from.kind(at) != Kind::Table {
        return false;
    }
    from.push_field(at, COUNTED);
    let counted = from.is_true(from.len());
    from.truncate(from.len() - 1);
    counted
}

/// Writes what a script returned, value `at` of its stack. `speaks` is the protocol that the script
/// chose for itself: it decides what a boolean is.
pub fn write(from: &mut Routine, at: i32, speaks: Proto, out: &mut Writer) -> CmdResult {
    write_within(from, at, speaks, DEPTH_MAX, out)
}

fn write_within(
    from: &mut Routine,
    at: i32,
    speaks: Proto,
    depth: usize,
    out: &mut Writer,
) -> CmdResult {
    if depth == 0 {
        return out.error(&DEEP);
    }
    match from.kind(at) {
        Kind::Text => out.bulk(from.text(at).unwrap_or_default()),
        // As C converts it: towards zero.
        Kind::Number => out.int(whole(from.number(at).unwrap_or_default())),
        Kind::Boolean if speaks == Proto::Resp3 => out.bool(from.is_true(at)),
        Kind::Boolean if from.is_true(at) => out.int(1),
        Kind::Table => match from.reserve(LEVEL) {
            Ok(()) => {
                let len = from.len();
                let written = write_table(from, at, speaks, depth - 1, out);
                from.truncate(len);
                written
            }
            Err(_) => out.error(&DEEP),
        },
        _ => out.null(),
    }
}

/// A number without its fraction. Redis: script_lua.c converts as C does, which on x86 gives the
/// smallest integer for what is none.
fn whole(number: f64) -> i64 {
    const LIMIT: f64 = 9_223_372_036_854_775_808.0;
    match (-LIMIT..LIMIT).contains(&number) {
        true => number as i64,
        false => i64::MIN,
    }
}

/// A table with one of some fields is a reply of that kind, any other one an array. Leaves what it
/// looked at on the stack.
fn write_table(
    from: &mut Routine,
    table: i32,
    speaks: Proto,
    depth: usize,
    out: &mut Writer,
) -> CmdResult {
    let inner = from.len() + 1;
    let field = |from: &mut Routine, name: &'static str| {
        from.truncate(inner - 1);
        from.push_field(table, name);
        from.kind(inner)
    };
    if field(from, "err") == Kind::Text {
        let text = from.text(inner).unwrap_or_default();
        return out.error(&CmdError::quoting(&[text]));
    }
    if field(from, "ok") == Kind::Text {
        return out.status(from.text(inner).unwrap_or_default());
    }
    if field(from, "double") == Kind::Number {
        return out.double(from.number(inner).unwrap_or_default());
    }
    if field(from, "big_number") == Kind::Text {
        // Whatever the script put there, it stays one line.
        let digits = from.text(inner).unwrap_or_default();
        let digits = String::from_utf8_lossy(digits).replace(['\r', '\n'], " ");
        return out.bignum(&digits);
    }
    if field(from, "verbatim_string") == Kind::Table
        && let Some(written) = write_verbatim(from, inner, out)
    {
        return written;
    }
    if field(from, "map") == Kind::Table {
        out.map(count_pairs(from, inner))?;
        return each_pair(from, inner, |from, key| {
            write_within(from, key, speaks, depth, out)?;
            write_within(from, key + 1, speaks, depth, out)
        });
    }
    if field(from, "set") == Kind::Table {
        out.set(count_pairs(from, inner))?;
        return each_pair(from, inner, |from, key| {
            write_within(from, key, speaks, depth, out)
        });
    }
    let element = |from: &mut Routine, at: i32| {
        from.truncate(inner - 1);
        from.push_element(table, at);
        from.kind(inner)
    };
    let mut count = 0;
    while element(from, count + 1) != Kind::Nil {
        count += 1;
    }
    out.array(count as usize)?;
    (1..=count).try_for_each(|at| {
        element(from, at);
        write_within(from, inner, speaks, depth, out)
    })
}

/// Writes a table of a format and a text; `None` if it is none.
fn write_verbatim(from: &mut Routine, table: i32, out: &mut Writer) -> Option<CmdResult> {
    let at = from.len() + 1;
    from.push_field(table, "format");
    from.push_field(table, "string");
    let (format, text) = (from.text(at)?, from.text(at + 1)?);
    let mut name = *b"   ";
    for (to, from) in name.iter_mut().zip(format) {
        *to = *from;
    }
    let name = String::from_utf8_lossy(&name).into_owned();
    Some(out.verbatim(name.get(..3).unwrap_or("txt"), text))
}

fn count_pairs(from: &mut Routine, table: i32) -> usize {
    let mut count = 0;
    let counted = each_pair(from, table, |_, _| {
        count += 1;
        Ok(())
    });
    debug_assert!(counted.is_ok(), "nothing is written");
    count
}

/// Does something with each key, which has its value behind it on the stack.
fn each_pair(
    from: &mut Routine,
    table: i32,
    mut with: impl FnMut(&mut Routine, i32) -> CmdResult,
) -> CmdResult {
    from.push_nil();
    let key = from.len();
    while from.push_next(table) {
        with(from, key)?;
        from.truncate(key);
    }
    Ok(())
}

/// The error that a table stands for.
fn error_of(table: &Table) -> Option<CmdError> {
    let text = match table.raw_get("err").ok()? {
        Value::String(text) => text.as_bytes().to_vec(),
        other => format_g(numeric(&other)?, 14).as_bytes().to_vec(),
    };
    Some(CmdError::quoting(&[&text]))
}

/// What is told of an error that nobody explained.
pub fn failure_text(failure: &Value) -> Vec<u8> {
    match failure {
        Value::Table(table) => match error_of(table) {
            Some(error) => error.text().to_vec(),
            None => b"ERR unknown error".to_vec(),
        },
        Value::String(text) => [b"ERR ", &*text.as_bytes()].concat(),
        Value::Integer(number) => format!("ERR {number}").into_bytes(),
        Value::Number(number) => [b"ERR ", crate::number::format_f64(*number).as_bytes()].concat(),
        _ => b"ERR unknown error".to_vec(),
    }
}

/// The reply to a script that failed: its error, and where it happened. Returns whether the error
/// was counted when a command replied with it.
pub fn write_failure(failure: &Value, name: &[u8], out: &mut Writer) -> bool {
    let Value::Table(table) = failure else {
        let error = CmdError::Text("ERR execution failure");
        let _written = out.error(&error);
        return false;
    };
    let field = |name: &str| match table.raw_get::<Value>(name) {
        Ok(Value::String(text)) => text.as_bytes().to_vec(),
        _ => Vec::new(),
    };
    let error = error_of(table).unwrap_or(CmdError::Text("ERR unknown error"));
    let (source, line) = (field("source"), field("line"));
    let text = error.text();
    let error = match line.is_empty() {
        true => error,
        false => CmdError::quoting(&[
            &text,
            b" script: ",
            name,
            b", on ",
            &source,
            b":",
            &line,
            b".",
        ]),
    };
    let _written = out.error(&error);
    matches!(table.raw_get(COUNTED), Ok(Value::Boolean(true)))
}
