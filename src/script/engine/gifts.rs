//! What the prelude gets from Rust.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use mlua::{Lua, Table};

use super::{LogLine, Manner};
use crate::resp::Proto;
use crate::script::{digest, json, library, msgpack, packing};

/// Lines that a script may log between two commands; what comes beyond is dropped.
const LOG_LINES_MAX: usize = 1000;

/// What the functions of scripts reach.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) proto: Cell<Proto>,
    pub(super) audience: Cell<u8>,
    pub(super) log: RefCell<Vec<LogLine>>,
}

/// What the prelude gets from Rust. None of it may fail: an error cannot pass through frames of Rust
/// in a process that aborts when it panics.
pub(super) fn native(lua: &Lua, shared: &Rc<Shared>, manner: Manner) -> mlua::Result<Table> {
    let native = lua.create_table()?;
    native.set("cjson", json::library(lua)?)?;
    native.set("cmsgpack", msgpack::library(lua)?)?;
    native.set("struct", packing::library(lua)?)?;
    let sha1hex = |lua: &Lua, text: mlua::LuaString| lua.create_string(digest(&text.as_bytes()));
    native.set("sha1hex", lua.create_function(sha1hex)?)?;
    let seen = shared.clone();
    let set_protocol = move |_: &Lua, version: u8| {
        seen.proto.set(match version {
            3 => Proto::Resp3,
            _ => Proto::Resp2,
        });
        Ok(())
    };
    native.set("set_protocol", lua.create_function(set_protocol)?)?;
    let seen = shared.clone();
    let set_audience = move |_: &Lua, bits: u8| {
        seen.audience.set(bits);
        Ok(())
    };
    native.set("set_audience", lua.create_function(set_audience)?)?;
    let seen = shared.clone();
    let log = move |_: &Lua, (level, text): (f64, mlua::LuaString)| {
        let mut lines = seen.log.borrow_mut();
        if lines.len() < LOG_LINES_MAX {
            lines.push((level as u8, text.as_bytes().to_vec()));
        }
        Ok(())
    };
    native.set("log", lua.create_function(log)?)?;
    let redis = lua.create_table()?;
    redis.set("REDIS_VERSION", manner.version)?;
    let number = manner
        .version
        .split('.')
        .filter_map(|part| part.parse::<u32>().ok());
    redis.set(
        "REDIS_VERSION_NUM",
        number.fold(0, |all, part| all << 8 | part),
    )?;
    native.set("redis", redis)?;
    native.set("deprecated", manner.deprecated)?;
    let flags = lua.create_table()?;
    for (at, name) in library::FLAGS.into_iter().enumerate() {
        flags.set(name, 1u8 << at)?;
    }
    native.set("flags", flags)?;
    Ok(native)
}
