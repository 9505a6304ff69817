//! Functions of ours that Lua calls, with the manners of a C library: the same complaints about
//! arguments, and errors that are plain strings with the caller's position.
//!
//! An error raised from Rust would reach a script as a userdata. So ours return their outcome, and a
//! few lines of Lua around them raise it.

use std::fmt::Write;

use mlua::{Function, Lua, LuaString, MultiValue, Table, Value};

use crate::number;

/// Slots a C function's stack may have in Lua 5.1 (LUAI_MAXCSTACK), which bounds how deep and how
/// wide the libraries go.
pub const SLOTS_MAX: usize = 8000;

/// Results one call may return: what `unpack` can still spread over `SLOTS_MAX`.
const RESULTS_MAX: usize = 7990;

/// Bytes one call may produce: a string of Redis' largest size. A table that holds another one many
/// times, which does so again, would else ask for any amount.
pub const OUTPUT_MAX: usize = 512 << 20;

/// Arguments up to this many are handed over as they are, more of them in a table: each one costs a
/// slot of a stack that all of Lua's callers share.
const FEW: usize = 8;

/// Takes a function that returns `count, results` or `nil, message`; gives one that returns or raises.
const GUARD: &str = "
local select, error, unpack = select, error, unpack
local function finish(count, result)
  if count == 1 then return result end
  if count == nil then error(result, 0) end
  return unpack(result, 1, count)
end
return function(call)
  return function(...)
    local count = select('#', ...)
    if count > 8 then return finish(call(count, {...})) end
    return finish(call(count, ...))
  end
end";

/// Why a function of ours raises an error.
#[derive(Debug)]
pub enum Failure {
    /// A message that begins with where the caller is.
    Message(Vec<u8>),
    /// A message of Lua's own, which says nothing of the caller.
    Bare(&'static str),
    /// Something is wrong with the argument of this number.
    Argument(usize, Vec<u8>),
    /// Lua could not do what it was asked to.
    Lua(mlua::Error),
}

impl From<mlua::Error> for Failure {
    fn from(error: mlua::Error) -> Self {
        Self::Lua(error)
    }
}

/// A message with the caller's position.
pub fn message(text: impl Into<Vec<u8>>) -> Failure {
    Failure::Message(text.into())
}

/// A complaint about an argument.
pub fn argument(number: usize, text: impl Into<Vec<u8>>) -> Failure {
    Failure::Argument(number, text.into())
}

/// Checks that a result may grow by `more` bytes.
pub fn room(out: &[u8], more: usize) -> Result<(), Failure> {
    if out.len().saturating_add(more) > OUTPUT_MAX {
        return Err(Failure::Bare("not enough memory"));
    }
    Ok(())
}

/// What a function returns: one value, or any number of them.
pub enum Results {
    One(Value),
    Many(Many),
}

impl Results {
    /// One string.
    pub fn bytes(lua: &Lua, bytes: &[u8]) -> Result<Self, Failure> {
        Ok(Self::One(Value::String(lua.create_string(bytes)?)))
    }
}

/// Values in order, kept by Lua: there may be thousands.
pub struct Many {
    values: Table,
    count: usize,
}

impl Many {
    pub fn new(lua: &Lua) -> Result<Self, Failure> {
        Ok(Self {
            values: lua.create_table()?,
            count: 0,
        })
    }

    pub fn len(&self) -> usize {
        self.count
    }

    /// Appends a value. `complaint` is about more of them than can be returned.
    pub fn push(&mut self, value: Value, complaint: &str) -> Result<(), Failure> {
        if self.count >= RESULTS_MAX {
            return Err(overflow(complaint));
        }
        self.count += 1;
        Ok(self.values.raw_set(self.count, value)?)
    }

    /// Puts a value before all others.
    pub fn push_front(&mut self, value: Value) -> Result<(), Failure> {
        self.count += 1;
        Ok(self.values.raw_insert(1, value)?)
    }

    /// Takes the last value away.
    pub fn pop(&mut self) -> Result<Value, Failure> {
        let last = self.values.raw_get(self.count)?;
        self.values.raw_set(self.count, Value::Nil)?;
        self.count -= 1;
        Ok(last)
    }

    /// The last value, nil when there is none.
    pub fn last(&self) -> Result<Value, Failure> {
        Ok(self.values.raw_get(self.count)?)
    }
}

/// What Lua says when a C function's stack cannot grow.
pub fn overflow(complaint: &str) -> Failure {
    message(format!("stack overflow ({complaint})"))
}

/// The arguments of a call.
pub struct Arguments<'a> {
    lua: &'a Lua,
    pub count: usize,
    values: Vec<Value>,
}

impl<'a> Arguments<'a> {
    fn new(lua: &'a Lua, count: usize, values: MultiValue) -> Self {
        Self {
            lua,
            count,
            values: values.into_iter().collect(),
        }
    }

    /// An argument by its number, from 1; nil when there is none.
    pub fn get(&self, number: usize) -> Result<Value, Failure> {
        if self.count <= FEW {
            return Ok(self.values.get(number - 1).cloned().unwrap_or(Value::Nil));
        }
        match self.values.first() {
            Some(Value::Table(all)) => Ok(all.raw_get(number)?),
            _ => Ok(Value::Nil),
        }
    }

    /// An argument as a string; numbers are printed.
    pub fn string(&self, number: usize) -> Result<LuaString, Failure> {
        let value = self.get(number)?;
        match numeric(&value) {
            Some(value) => Ok(self
                .lua
                .create_string(number::format_g(value, 14).as_bytes())?),
            None => match value {
                Value::String(text) => Ok(text),
                other => Err(self.expected("string", number, &other)),
            },
        }
    }

    /// An argument as a number; strings that are one are read.
    pub fn number(&self, number: usize) -> Result<f64, Failure> {
        let value = self.get(number)?;
        coerced(&value).ok_or_else(|| self.expected("number", number, &value))
    }

    /// An argument as an integer.
    pub fn integer(&self, number: usize) -> Result<i64, Failure> {
        Ok(to_i64(self.number(number)?))
    }

    /// An argument as an integer, `default` when it is nil or absent.
    pub fn integer_or(&self, number: usize, default: i64) -> Result<i64, Failure> {
        match self.get(number)? {
            Value::Nil => Ok(default),
            _ => self.integer(number),
        }
    }

    fn expected(&self, kind: &str, number: usize, found: &Value) -> Failure {
        let found = if number > self.count {
            "no value"
        } else {
            type_name(found)
        };
        argument(number, format!("{kind} expected, got {found}"))
    }
}

/// Adds a function to a library's table.
pub fn register<F>(lua: &Lua, library: &Table, name: &'static str, call: F) -> mlua::Result<()>
where
    F: Fn(&Lua, &Arguments) -> Result<Results, Failure> + 'static,
{
    let guard: Function = lua.load(GUARD).set_name("=[C]").eval()?;
    let inner = lua.create_function(move |lua, (count, values): (usize, MultiValue)| {
        let arguments = Arguments::new(lua, count, values);
        let outcome = match call(lua, &arguments) {
            Ok(Results::One(value)) => (Some(1), value),
            // One result is handed over as it is, however it was collected.
            Ok(Results::Many(many)) if many.count == 1 => (Some(1), many.values.raw_get(1)?),
            Ok(Results::Many(many)) => (Some(many.count), Value::Table(many.values)),
            Err(failure) => {
                // What the call held is let go first: there may be no room for a string else.
                drop(arguments);
                let text = describe(lua, name, failure);
                (None, Value::String(lua.create_string(text)?))
            }
        };
        Ok(outcome)
    })?;
    library.raw_set(name, guard.call::<Function>(inner)?)
}

/// The text of an error as a script sees it. Redis: lauxlib.c luaL_error, luaL_argerror.
fn describe(lua: &Lua, name: &str, failure: Failure) -> Vec<u8> {
    match failure {
        Failure::Message(text) => [position(lua), text].concat(),
        Failure::Bare(text) => text.into(),
        Failure::Argument(number, text) => {
            let mut out = position(lua);
            out.extend_from_slice(b"bad argument #");
            out.extend_from_slice(number.to_string().as_bytes());
            out.extend_from_slice(b" to '");
            out.extend_from_slice(called_as(lua, name).as_bytes());
            out.extend_from_slice(b"' (");
            out.extend_from_slice(&text);
            out.push(b')');
            out
        }
        Failure::Lua(mlua::Error::StackError) => b"stack overflow".into(),
        Failure::Lua(mlua::Error::MemoryError(_)) => b"not enough memory".into(),
        Failure::Lua(error) => error.to_string().into_bytes(),
    }
}

/// Levels of the stack above one of our functions: the guard, then who called the guard.
const GUARD_LEVEL: usize = 1;
const CALLER_LEVEL: usize = 2;

/// `chunk:line: ` of the caller, nothing when that is no Lua function.
fn position(lua: &Lua) -> Vec<u8> {
    let mut out = String::new();
    lua.inspect_stack(CALLER_LEVEL, |caller| {
        if let (Some(line), Some(chunk)) = (caller.current_line(), caller.source().short_src) {
            // Writing to a string cannot fail.
            let _ = write!(out, "{chunk}:{line}: ");
        }
    });
    out.into_bytes()
}

/// The name the caller used; `?` when it is one without names, such as pcall.
fn called_as(lua: &Lua, name: &str) -> String {
    let used = lua.inspect_stack(GUARD_LEVEL, |guard| {
        guard.names().name.map(|name| name.into_owned())
    });
    let unnamed = || {
        let caller = lua.inspect_stack(CALLER_LEVEL, |_| ());
        caller.map_or(name, |()| "?").to_owned()
    };
    used.flatten().unwrap_or_else(unnamed)
}

/// A type's name in Lua's words.
pub fn type_name(value: &Value) -> &'static str {
    match value {
        Value::Integer(_) | Value::Number(_) => "number",
        Value::LightUserData(_) | Value::UserData(_) | Value::Error(_) => "userdata",
        other => other.type_name(),
    }
}

/// A number's value. mlua shows integral doubles as integers.
pub fn numeric(value: &Value) -> Option<f64> {
    match value {
        Value::Integer(value) => Some(*value as f64),
        Value::Number(value) => Some(*value),
        _ => None,
    }
}

/// A number, or a string that is one. Redis: lvm.c luaV_tonumber, lobject.c luaO_str2d.
pub fn coerced(value: &Value) -> Option<f64> {
    let Value::String(text) = value else {
        return numeric(value);
    };
    let text = text.as_bytes();
    let text = text.split(|&byte| byte == 0).next().unwrap_or_default();
    let blank = |byte: &u8| matches!(byte, b' ' | b'\t'..=b'\r');
    let start = text.iter().take_while(|byte| blank(byte)).count();
    let (value, len) = number::strtod_front(&text[start..])?;
    text[start + len..].iter().all(blank).then_some(value)
}

/// A double cast to an integer as x86-64 does: what does not fit becomes the smallest one.
pub fn to_i64(value: f64) -> i64 {
    if (-9_223_372_036_854_775_808.0..9_223_372_036_854_775_808.0).contains(&value) {
        value as i64
    } else {
        i64::MIN
    }
}

/// The same for a C int.
pub fn to_i32(value: f64) -> i32 {
    if (-2_147_483_648.0..2_147_483_648.0).contains(&value) {
        value as i32
    } else {
        i32::MIN
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lua_with(call: fn(&Lua, &Arguments) -> Result<Results, Failure>) -> mlua::Result<Lua> {
        let lua = Lua::new();
        let library = lua.create_table()?;
        register(&lua, &library, "call", call)?;
        lua.globals().set("lib", library)?;
        Ok(lua)
    }

    fn run(lua: &Lua, script: &str) -> mlua::Result<String> {
        lua.load(script).set_name("@user_script").eval()
    }

    #[test]
    fn errors_are_strings_with_the_position_a_c_function_would_give() -> mlua::Result<()> {
        let lua = lua_with(|_, arguments| {
            if arguments.count == 0 {
                return Err(message("went wrong"));
            }
            arguments.string(1)?;
            Err(Failure::Bare("lua itself"))
        })?;
        for (script, text) in [
            ("local ok, e = pcall(lib.call) return e", "went wrong"),
            (
                "local ok, e = pcall(function()\nlocal x = lib.call() end) return e",
                "user_script:2: went wrong",
            ),
            (
                "local ok, e = pcall(lib.call, {}) return e",
                "bad argument #1 to '?' (string expected, got table)",
            ),
            (
                "local ok, e = pcall(function() local x = lib.call({}) end) return e",
                "user_script:1: bad argument #1 to 'call' (string expected, got table)",
            ),
            (
                "local ok, e = pcall(function() local x = lib.call('a') end) return e",
                "lua itself",
            ),
        ] {
            assert_eq!(run(&lua, script)?, text, "{script}");
        }
        Ok(())
    }

    #[test]
    fn arguments_and_results_of_any_number_pass() -> mlua::Result<()> {
        let lua = lua_with(|lua, arguments| {
            let mut many = Many::new(lua)?;
            for number in 1..=arguments.count {
                many.push(arguments.get(number)?, "too many")?;
            }
            Ok(Results::Many(many))
        })?;
        let script = "
            for _, n in ipairs({0, 1, 2, 8, 9, 300, 7900}) do
              local sent = {}
              for i = 1, n do if i % 3 ~= 0 then sent[i] = 'v' .. i end end
              local function check(...)
                assert(select('#', ...) == n)
                local got = {...}
                for i = 1, n do assert(got[i] == sent[i]) end
              end
              check(lib.call(unpack(sent, 1, n)))
            end
            return 'done'";
        assert_eq!(run(&lua, script)?, "done");
        Ok(())
    }

    #[test]
    fn strings_are_read_as_numbers_where_lua_does() -> mlua::Result<()> {
        let lua = Lua::new();
        for (text, value) in [
            (" 12 ", Some(12.0)),
            ("0x10", Some(16.0)),
            ("1e2\0x", Some(100.0)),
            ("1 2", None),
            ("", None),
        ] {
            let text = Value::String(lua.create_string(text)?);
            assert_eq!(coerced(&text), value);
        }
        Ok(())
    }
}
