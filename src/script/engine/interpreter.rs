//! The interpreter itself, and the hook that suspends what runs in it.

use mlua::{Lua, LuaOptions, StdLib};

/// Instructions after which a script is suspended for a look at the clock. Redis: luaCallFunction.
const SLICE_INSTRUCTIONS: std::ffi::c_int = 100_000;

/// A Lua without a compiler, and without what reaches the world.
#[allow(unsafe_code)] // The debug library can break Lua.
pub(super) fn interpreter() -> Lua {
    let libraries = StdLib::TABLE | StdLib::STRING | StdLib::MATH | StdLib::BIT | StdLib::JIT;
    // Without panics to catch, pcall stays the one through which a coroutine can be suspended.
    let options = LuaOptions::new().catch_rust_panics(true);
    // SAFETY: only the prelude, which is ours, sees the debug library: it asks where a script stands,
    // and nothing else. Scripts run in an environment that does not lead there.
    unsafe { Lua::unsafe_new_with(libraries | StdLib::DEBUG, options) }
}

#[allow(unsafe_code)] // A function in C.
mod hook {
    use mlua::ffi::{lua_Debug, lua_State};

    unsafe extern "C-unwind" {
        pub fn pinion_script_hook(state: *mut lua_State, activation: *mut lua_Debug);
    }
}

/// Has scripts suspended every so many instructions, wherever they can be. The binding's own hooks
/// cannot do that in LuaJIT.
///
/// Differs: A script that stays for seconds within a metamethod which `table.sort` calls is ended.
#[allow(unsafe_code)] // The binding has no such hook.
pub(super) fn suspend_often(lua: &Lua) -> mlua::Result<()> {
    // SAFETY: setting a hook touches no value and raises no error. The hook is in C: it unwinds only
    // frames of Lua's, through the resume that the binding made, as `coroutine.yield` does.
    unsafe {
        lua.exec_raw((), |state| {
            let mask = mlua::ffi::LUA_MASKCOUNT;
            mlua::ffi::lua_sethook(
                state,
                Some(hook::pinion_script_hook),
                mask,
                SLICE_INSTRUCTIONS,
            );
        })
    }
}
