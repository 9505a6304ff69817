//! Lua's `cjson` library.

use mlua::{Lua, Table};

/// A table of the library's functions.
pub fn library(lua: &Lua) -> mlua::Result<Table> {
    lua.create_table()
}
