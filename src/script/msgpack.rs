//! Lua's `cmsgpack` library: MessagePack in both directions.
//!
//! A number is packed as an integer when it is one, else as a float of four bytes when that is exact.
//! A table is packed as an array when its keys are 1 to n. Redis: lua_cmsgpack.c, lua-cmsgpack 0.4.0.
//!
//! ```text
//!   00-7f  small integer      c0     nil             d0-d3  int 8, 16, 32, 64
//!   80-8f  map of 0-15        c2 c3  false, true     d9-db  string, length of 8, 16, 32 bits
//!   90-9f  array of 0-15      ca cb  float, double   dc dd  array, length of 16, 32 bits
//!   a0-bf  string of 0-31     cc-cf  uint 8-64       de df  map, length of 16, 32 bits
//!   e0-ff  -32 to -1          all big-endian; other first bytes are bad
//! ```

use mlua::{Lua, Table, Value};

use super::native::{
    self, Arguments, Failure, Many, Results, SLOTS_MAX, argument, message, overflow,
};

mod decode;
mod encode;

use decode::Decoder;

/// A table of the library's functions.
pub fn library(lua: &Lua) -> mlua::Result<Table> {
    let library = lua.create_table()?;
    native::register(lua, &library, "pack", pack)?;
    native::register(lua, &library, "unpack", |lua, arguments| {
        unpack(lua, arguments, arguments.count, 0, 0)
    })?;
    native::register(lua, &library, "unpack_one", |lua, arguments| {
        let offset = arguments.integer_or(2, 0)?;
        unpack(lua, arguments, 1, 1, offset)
    })?;
    native::register(lua, &library, "unpack_limit", |lua, arguments| {
        let limit = arguments.integer(2)?;
        let offset = arguments.integer_or(3, 0)?;
        unpack(lua, arguments, 1, limit, offset)
    })?;
    for (name, value) in [
        ("_NAME", "cmsgpack"),
        ("_VERSION", "lua-cmsgpack 0.4.0"),
        ("_COPYRIGHT", "Copyright (C) 2012, Salvatore Sanfilippo"),
        ("_DESCRIPTION", "MessagePack C implementation for Lua"),
    ] {
        library.raw_set(name, value)?;
    }
    Ok(library)
}

fn pack(lua: &Lua, arguments: &Arguments) -> Result<Results, Failure> {
    if arguments.count == 0 {
        return Err(argument(0, "MessagePack pack needs input."));
    }
    // Each argument is on the stack twice.
    if arguments.count * 2 > SLOTS_MAX {
        return Err(argument(0, "Too many arguments for MessagePack pack."));
    }
    let mut out = Vec::new();
    for number in 1..=arguments.count {
        encode::value(&mut out, &arguments.get(number)?, 0)?;
    }
    Results::bytes(lua, &out)
}

/// Unpacks up to `limit` values from `offset` on and tells where the next one is; with neither, all
/// of them. `slots` of the stack are taken already.
fn unpack(
    lua: &Lua,
    arguments: &Arguments,
    slots: usize,
    limit: i64,
    offset: i64,
) -> Result<Results, Failure> {
    let text = arguments.string(1)?;
    let text = text.as_bytes();
    let all = limit == 0 && offset == 0;
    let (limit, start) = match (usize::try_from(limit), usize::try_from(offset)) {
        (Ok(limit), Ok(start)) => (limit, start),
        // Redis: the limit it tells is the length of the input.
        _ => {
            return Err(message(format!(
                "Invalid request to unpack with offset of {} and limit of {}.",
                offset as i32,
                text.len() as i32
            )));
        }
    };
    let Some(input) = text.get(start..) else {
        return Err(message(format!(
            "Start offset {} greater than input length {}.",
            offset as i32,
            text.len() as i32
        )));
    };
    let limit = if all { usize::MAX } else { limit };
    let mut decoder = Decoder::new(lua, input, slots);
    let mut values = Many::new(lua)?;
    while !decoder.is_done() && values.len() < limit {
        let value = decoder.value()?;
        values.push(value, TOO_MANY)?;
        decoder.taken();
    }
    if !all {
        if slots + values.len() + 1 > SLOTS_MAX {
            return Err(overflow("in function mp_unpack_full"));
        }
        let next = match decoder.at() {
            at if at == input.len() => -1,
            at => (start + at) as i64,
        };
        values.push_front(Value::Integer(next))?;
    }
    Ok(Results::Many(values))
}

/// More values than a stack holds.
const TOO_MANY: &str = "too many return values at once; use unpack_one or unpack_limit instead.";

#[cfg(test)]
mod tests;
