//! Replies of commands as Lua values, and Lua values as a script's reply.
//! Redis: redisProtocolToLuaType and luaReplyToRedisReply in script_lua.c.

use mlua::{Lua, Table, Value};

use crate::resp::{CmdError, CmdResult, Proto, Writer};

/// How deep a reply may be nested; a table may contain itself.
const DEPTH_MAX: usize = 1000;

/// A reply in bytes, being read.
pub struct Reader<'a> {
    lua: &'a Lua,
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    pub fn new(lua: &'a Lua, bytes: &'a [u8]) -> Reader<'a> {
        Reader { lua, bytes, at: 0 }
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

    /// The next value. What commands reply is well-formed, so anything else reads as nil.
    pub fn value(&mut self) -> mlua::Result<Value> {
        let line = self.line();
        let Some((&kind, text)) = line.split_first() else {
            return Ok(Value::Nil);
        };
        let number = crate::number::parse_i64(text).unwrap_or(0);
        match kind {
            b':' => Ok(Value::Number(number as f64)),
            b'$' | b'*' if number < 0 => Ok(Value::Boolean(false)),
            b'$' => {
                let bytes = self.blob(number as usize);
                self.lua.create_string(bytes).map(Value::String)
            }
            b'+' => self.field("ok", text),
            b'-' => {
                let error = self.table("err", self.lua.create_string(text)?)?;
                error.raw_set(COUNTED, true)?;
                Ok(Value::Table(error))
            }
            b'*' | b'>' => {
                let list = self.lua.create_table_with_capacity(number as usize, 0)?;
                for at in 1..=number {
                    list.raw_set(at, self.value()?)?;
                }
                Ok(Value::Table(list))
            }
            b'%' => {
                let map = self.lua.create_table_with_capacity(0, number as usize)?;
                for _ in 0..number {
                    let key = self.value()?;
                    map.raw_set(key, self.value()?)?;
                }
                self.table("map", map).map(Value::Table)
            }
            b'~' => {
                let set = self.lua.create_table_with_capacity(0, number as usize)?;
                for _ in 0..number {
                    set.raw_set(self.value()?, true)?;
                }
                self.table("set", set).map(Value::Table)
            }
            b'#' => Ok(Value::Boolean(text == b"t")),
            b',' => {
                let double = crate::number::parse_f64(text).unwrap_or(f64::NAN);
                self.table("double", double).map(Value::Table)
            }
            b'(' => self.field("big_number", text),
            b'=' => self.verbatim(number as usize),
            // An attribute stands before what it is about.
            b'|' => {
                for _ in 0..2 * number {
                    self.value()?;
                }
                self.value()
            }
            _ => Ok(Value::Nil),
        }
    }

    fn verbatim(&mut self, len: usize) -> mlua::Result<Value> {
        let bytes = self.blob(len);
        let (format, text) = bytes.split_at(bytes.len().min(3));
        let inner = self.table("format", self.lua.create_string(format)?)?;
        let text = text.get(1..).unwrap_or_default();
        inner.raw_set("string", self.lua.create_string(text)?)?;
        self.table("verbatim_string", inner).map(Value::Table)
    }

    fn field(&self, name: &str, text: &[u8]) -> mlua::Result<Value> {
        let text = self.lua.create_string(text)?;
        self.table(name, text).map(Value::Table)
    }

    fn table(&self, name: &str, value: impl mlua::IntoLua) -> mlua::Result<Table> {
        let table = self.lua.create_table_with_capacity(0, 1)?;
        table.raw_set(name, value)?;
        Ok(table)
    }
}

/// The field of an error that was counted when a command replied with it.
const COUNTED: &str = "ignore_error_stats_update";

/// Whether an error was counted when a command replied with it.
pub fn is_counted(value: &Value) -> bool {
    let Value::Table(table) = value else {
        return false;
    };
    matches!(table.raw_get(COUNTED), Ok(Value::Boolean(true)))
}

/// Writes what a script returned. `speaks` is the protocol that the script chose for itself: it
/// decides what a boolean is.
pub fn write(value: &Value, speaks: Proto, out: &mut Writer) -> CmdResult {
    write_within(value, speaks, DEPTH_MAX, out)
}

fn write_within(value: &Value, speaks: Proto, depth: usize, out: &mut Writer) -> CmdResult {
    if depth == 0 {
        return out.error(&CmdError::Text("ERR reached lua stack limit"));
    }
    match value {
        Value::String(text) => out.bulk(&text.as_bytes()),
        Value::Integer(number) => out.int(*number),
        // As C converts it: towards zero.
        Value::Number(number) => out.int(whole(*number)),
        Value::Boolean(truth) if speaks == Proto::Resp3 => out.bool(*truth),
        Value::Boolean(true) => out.int(1),
        Value::Table(table) => write_table(table, speaks, depth - 1, out),
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

/// A table with one of some fields is a reply of that kind, any other one an array.
fn write_table(table: &Table, speaks: Proto, depth: usize, out: &mut Writer) -> CmdResult {
    let field = |name: &str| table.raw_get::<Value>(name).unwrap_or(Value::Nil);
    if let Some(error) = error_of(table) {
        return out.error(&error);
    }
    if let Value::String(text) = field("ok") {
        return out.status(&text.as_bytes());
    }
    match field("double") {
        Value::Number(number) => return out.double(number),
        Value::Integer(number) => return out.double(number as f64),
        _ => {}
    }
    if let Value::String(digits) = field("big_number") {
        // Whatever the script put there, it stays one line.
        let digits = String::from_utf8_lossy(&digits.as_bytes()).replace(['\r', '\n'], " ");
        return out.bignum(&digits);
    }
    if let Value::Table(inner) = field("verbatim_string")
        && let Ok(Value::String(format)) = inner.raw_get("format")
        && let Ok(Value::String(text)) = inner.raw_get("string")
    {
        let mut name = *b"   ";
        let given = format.as_bytes();
        for (to, from) in name.iter_mut().zip(given.iter()) {
            *to = *from;
        }
        let name = String::from_utf8_lossy(&name).into_owned();
        return out.verbatim(name.get(..3).unwrap_or("txt"), &text.as_bytes());
    }
    if let Value::Table(map) = field("map") {
        let pairs: Vec<(Value, Value)> = map.pairs().flatten().collect();
        out.map(pairs.len())?;
        return pairs.iter().try_for_each(|(key, value)| {
            write_within(key, speaks, depth, out)?;
            write_within(value, speaks, depth, out)
        });
    }
    if let Value::Table(set) = field("set") {
        let members: Vec<(Value, Value)> = set.pairs().flatten().collect();
        out.set(members.len())?;
        return members
            .iter()
            .try_for_each(|(member, _)| write_within(member, speaks, depth, out));
    }
    let mut elements = Vec::new();
    for at in 1.. {
        match table.raw_get(at) {
            Ok(Value::Nil) | Err(_) => break,
            Ok(element) => elements.push(element),
        }
    }
    out.array(elements.len())?;
    elements
        .iter()
        .try_for_each(|element| write_within(element, speaks, depth, out))
}

/// The error that a table stands for.
fn error_of(table: &Table) -> Option<CmdError> {
    let text = match table.raw_get("err").ok()? {
        Value::String(text) => text.as_bytes().to_vec(),
        _ => return None,
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
    is_counted(failure)
}
