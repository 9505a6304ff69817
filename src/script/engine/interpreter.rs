//! The interpreter itself, the hook that suspends what runs in it, and coroutines as scripts need
//! them, with the values on their stacks.

use std::cell::RefCell;
use std::ffi::c_int;
use std::ptr::null_mut;
use std::rc::Rc;

use mlua::{Function, IntoLua, Lua, LuaOptions, StdLib, Thread, Value, ffi};

use crate::resp::Args;

/// Instructions after which a script is suspended for a look at the clock. Redis: luaCallFunction.
const SLICE_INSTRUCTIONS: c_int = 100_000;

/// Elements for which a new table has room at once; for more it grows.
const TABLE_ROOM_MAX: usize = 1 << 20;

/// Bytes of a string and elements of a table that Lua takes. LuaJIT: lj_def.h, LJ_MAX_STR and LJ_MAX_HBITS.
const TEXT_MAX_BYTES: usize = 0x7fff_0000;
pub(in crate::script) const ELEMENTS_MAX: i64 = 1 << 26;

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
            let mask = ffi::LUA_MASKCOUNT;
            ffi::lua_sethook(
                state,
                Some(hook::pinion_script_hook),
                mask,
                SLICE_INSTRUCTIONS,
            );
        })
    }
}

/// A value that Lua keeps for the engine, under a number of the registry.
#[derive(Debug)]
pub(super) struct Anchor {
    id: c_int,
    loose: Rc<RefCell<Vec<c_int>>>,
}

impl Drop for Anchor {
    fn drop(&mut self) {
        self.loose.borrow_mut().push(self.id);
    }
}

/// What makes anchors. Whoever drops one need not have Lua at hand: their values are let go when the
/// next one is made, or when asked to.
#[derive(Debug, Default)]
pub(super) struct Anchors {
    loose: Rc<RefCell<Vec<c_int>>>,
}

impl Anchors {
    #[allow(unsafe_code)] // The binding's own anchors cannot be pushed without it.
    pub(super) fn hold(&self, lua: &Lua, value: impl IntoLua) -> mlua::Result<Anchor> {
        self.let_go(lua)?;
        // SAFETY: within the call that the binding protects, and on its stack: a value goes to the
        // registry, its number comes back.
        let id = unsafe {
            lua.exec_raw::<c_int>(value, |state| {
                let id = ffi::luaL_ref(state, ffi::LUA_REGISTRYINDEX);
                ffi::lua_pushinteger(state, id as ffi::lua_Integer);
            })
        }?;
        Ok(Anchor {
            id,
            loose: self.loose.clone(),
        })
    }

    #[allow(unsafe_code)] // As above.
    pub(super) fn let_go(&self, lua: &Lua) -> mlua::Result<()> {
        let loose = self.loose.take();
        if loose.is_empty() {
            return Ok(());
        }
        // SAFETY: these numbers came from luaL_ref and belong to nobody any more.
        unsafe {
            lua.exec_raw((), |state| {
                for id in loose {
                    ffi::luaL_unref(state, ffi::LUA_REGISTRYINDEX, id);
                }
            })
        }
    }
}

/// What a value on a routine's stack is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::script) enum Kind {
    Nil,
    Boolean,
    Number,
    Text,
    Table,
    Other,
}

/// How a routine stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stop {
    /// It was suspended; what it yielded is on its stack.
    Suspended,
    /// It is over; what it returned is on its stack.
    Over,
}

/// A coroutine and the values on its stack, counted from 1.
///
/// The binding refers to each value that it hands out by a place on a stack of its own, and moves
/// values there and back, which was a sixth of what EVALSHA of a GET cost. A script is begun,
/// answered and read here, in place.
///
/// Nothing here raises an error that the caller could have avoided, but for want of memory, which
/// ends the process in any case.
pub(in crate::script) struct Routine {
    /// Keeps what `state` points to.
    thread: Thread,
    state: *mut ffi::lua_State,
    /// KEYS and ARGV, for as long as others may be shown.
    lists: [Anchor; 2],
    _lua: Lua,
}

impl std::fmt::Debug for Routine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Routine({} values)", self.len())
    }
}

#[allow(unsafe_code)] // What is faster than the binding: see above.
impl Routine {
    /// One with an empty stack.
    pub(super) fn new(lua: &Lua, anchors: &Anchors, body: Function) -> mlua::Result<Routine> {
        let thread = lua.create_thread(body)?;
        let state = thread.state();
        let mut routine = Routine {
            thread,
            state,
            lists: [anchors.hold(lua, 0)?, anchors.hold(lua, 0)?],
            _lua: lua.clone(),
        };
        routine.clear();
        Ok(routine)
    }

    pub(super) fn thread(&self) -> &Thread {
        &self.thread
    }

    pub(in crate::script) fn len(&self) -> c_int {
        // SAFETY: `state` is a coroutine that `thread` and `_lua` keep. It is not running: only
        // `resume` runs it, which has it exclusively. The same holds for all that follows.
        unsafe { ffi::lua_gettop(self.state) }
    }

    /// Drops all values behind the first `len`.
    pub(in crate::script) fn truncate(&mut self, len: c_int) {
        let len = len.clamp(0, self.len());
        // SAFETY: there are so many.
        unsafe { ffi::lua_settop(self.state, len) }
    }

    pub(super) fn clear(&mut self) {
        self.truncate(0);
    }

    /// Makes sure that so many more values have room.
    pub(in crate::script) fn reserve(&mut self, more: c_int) -> mlua::Result<()> {
        // SAFETY: this only lets the stack grow.
        match unsafe { ffi::lua_checkstack(self.state, more) } {
            0 => Err(mlua::Error::StackError),
            _ => Ok(()),
        }
    }

    /// Lets it go on, with the last `count` values of its stack: of a new one they follow its body.
    pub(super) fn resume(&mut self, count: c_int) -> mlua::Result<Stop> {
        assert!((0..=self.len()).contains(&count), "values that there are");
        // SAFETY: the stack has them. What the coroutine raises ends here: Lua catches it, and
        // functions in Rust which it calls raise nothing.
        let status = unsafe { ffi::lua_resume(self.state, null_mut(), count, null_mut()) };
        match status {
            ffi::LUA_OK => Ok(Stop::Over),
            ffi::LUA_YIELD => Ok(Stop::Suspended),
            _ => {
                let why = self.text(self.len()).unwrap_or(b"<unprintable error>");
                let why = String::from_utf8_lossy(why).into_owned();
                Err(mlua::Error::RuntimeError(why))
            }
        }
    }

    pub(in crate::script) fn kind(&self, at: c_int) -> Kind {
        // SAFETY: `none` is told of a place where nothing is, as every other index is positive.
        match unsafe { ffi::lua_type(self.state, at.max(1)) } {
            ffi::LUA_TBOOLEAN => Kind::Boolean,
            ffi::LUA_TNUMBER => Kind::Number,
            ffi::LUA_TSTRING => Kind::Text,
            ffi::LUA_TTABLE => Kind::Table,
            ffi::LUA_TNIL | ffi::LUA_TNONE => Kind::Nil,
            _ => Kind::Other,
        }
    }

    /// A string's bytes.
    pub(in crate::script) fn text(&self, at: c_int) -> Option<&[u8]> {
        if self.kind(at) != Kind::Text {
            return None;
        }
        let mut len = 0;
        // SAFETY: it is a string, which its place on the stack keeps where it is until the stack
        // changes: that takes `&mut self`.
        unsafe {
            let bytes = ffi::lua_tolstring(self.state, at.max(1), &mut len);
            Some(std::slice::from_raw_parts(bytes.cast(), len))
        }
    }

    pub(in crate::script) fn number(&self, at: c_int) -> Option<f64> {
        // SAFETY: what is a number is read as one, and stays one.
        (self.kind(at) == Kind::Number).then(|| unsafe { ffi::lua_tonumber(self.state, at.max(1)) })
    }

    /// Whether it is `true`.
    pub(in crate::script) fn is_true(&self, at: c_int) -> bool {
        // SAFETY: any value has a truth.
        self.kind(at) == Kind::Boolean && unsafe { ffi::lua_toboolean(self.state, at.max(1)) != 0 }
    }

    /// The value itself, for the binding; it leaves the stack if it is the last one.
    pub(super) fn take(&mut self, lua: &Lua) -> mlua::Result<Value> {
        self.reserve(1)?;
        let from = self.state;
        // SAFETY: both stacks are of the same Lua, as the engine has but one, and have room.
        unsafe {
            lua.exec_raw((), |state| {
                if ffi::lua_gettop(from) == 0 {
                    ffi::lua_pushnil(from);
                }
                ffi::lua_xmove(from, state, 1);
            })
        }
    }

    pub(in crate::script) fn push_nil(&mut self) {
        // SAFETY: a push lets the stack grow where it must. The same holds for those below.
        unsafe { ffi::lua_pushnil(self.state) }
    }

    pub(in crate::script) fn push_bool(&mut self, truth: bool) {
        // SAFETY: see `push_nil`.
        unsafe { ffi::lua_pushboolean(self.state, truth.into()) }
    }

    pub(in crate::script) fn push_number(&mut self, number: f64) {
        // SAFETY: see `push_nil`.
        unsafe { ffi::lua_pushnumber(self.state, number) }
    }

    pub(in crate::script) fn push_text(&mut self, text: &[u8]) -> mlua::Result<()> {
        if text.len() > TEXT_MAX_BYTES {
            return Err(mlua::Error::MemoryError("string length overflow".into()));
        }
        // SAFETY: see `push_nil`; Lua copies the bytes, and they are not too many.
        unsafe { ffi::lua_pushlstring_(self.state, text.as_ptr().cast(), text.len()) }
        Ok(())
    }

    /// The name of a field.
    pub(in crate::script) fn push_name(&mut self, name: &'static str) {
        // SAFETY: see `push_nil`; Lua copies the bytes.
        unsafe { ffi::lua_pushlstring_(self.state, name.as_ptr().cast(), name.len()) }
    }

    /// An empty table with room for a list and for fields.
    pub(in crate::script) fn push_table(&mut self, list: usize, fields: usize) {
        let room = |wanted: usize| wanted.min(TABLE_ROOM_MAX) as c_int;
        // SAFETY: see `push_nil`.
        unsafe { ffi::lua_createtable(self.state, room(list), room(fields)) }
    }

    pub(super) fn push_anchored(&mut self, anchor: &Anchor) {
        // SAFETY: see `push_nil`; the registry is a table.
        unsafe { ffi::lua_rawgeti_(self.state, ffi::LUA_REGISTRYINDEX, anchor.id) }
    }

    /// A list of strings.
    pub(super) fn push_list(&mut self, args: &Args) -> mlua::Result<()> {
        self.push_table(args.len(), 0);
        for (at, arg) in (1..).zip(args.iter()) {
            self.push_text(arg)?;
            self.set_at(at);
        }
        Ok(())
    }

    /// Puts the last value into the table before it, as element `at`.
    pub(in crate::script) fn set_at(&mut self, at: c_int) {
        assert_eq!(self.kind(self.len() - 1), Kind::Table, "what has elements");
        // SAFETY: the last value but one is a table.
        unsafe { ffi::lua_rawseti_(self.state, -2, at) }
    }

    /// Puts the last two values into the table before them, as a key and its value.
    pub(in crate::script) fn set_pair(&mut self) -> mlua::Result<()> {
        let key = self.len() - 1;
        assert_eq!(self.kind(key - 1), Kind::Table, "what has fields");
        let is_key = match self.kind(key) {
            Kind::Nil => false,
            Kind::Number => self.number(key).is_some_and(|number| !number.is_nan()),
            _ => true,
        };
        if !is_key {
            return Err(mlua::Error::RuntimeError("table index is nil".into()));
        }
        // SAFETY: there is a table, and the key can be one.
        unsafe { ffi::lua_rawset(self.state, -3) }
        Ok(())
    }

    /// Pushes element `at` of a table.
    pub(in crate::script) fn push_element(&mut self, table: c_int, at: c_int) {
        assert_eq!(self.kind(table), Kind::Table, "what has elements");
        // SAFETY: it is a table.
        unsafe { ffi::lua_rawgeti_(self.state, table, at) }
    }

    /// Pushes a field of a table.
    pub(in crate::script) fn push_field(&mut self, table: c_int, name: &'static str) {
        assert_eq!(self.kind(table), Kind::Table, "what has fields");
        self.push_name(name);
        // SAFETY: it is a table, and the name is replaced by what it has.
        unsafe { ffi::lua_rawget_(self.state, table) }
    }

    /// Replaces the last value, a key of a table or nil, by the next key and its value; by nothing at
    /// the table's end.
    pub(in crate::script) fn push_next(&mut self, table: c_int) -> bool {
        assert_eq!(self.kind(table), Kind::Table, "what has fields");
        assert!(self.len() > table, "a key");
        // SAFETY: it is a table, and there is a key. Callers change neither.
        unsafe { ffi::lua_next(self.state, table) != 0 }
    }

    /// Takes the last two values for this routine's KEYS and ARGV.
    pub(super) fn keep_lists(&mut self) {
        assert!(self.len() >= 2, "two lists");
        for list in [&self.lists[1], &self.lists[0]] {
            // SAFETY: there is a value, and the place in the registry is ours.
            unsafe { ffi::lua_rawseti_(self.state, ffi::LUA_REGISTRYINDEX, list.id) }
        }
    }

    /// Lets KEYS and ARGV go. Not for nil: luaL_ref would take their places for free ones.
    pub(super) fn drop_lists(&mut self) {
        self.push_bool(false);
        self.push_bool(false);
        self.keep_lists();
    }

    /// Shows KEYS and ARGV as globals.
    pub(super) fn show_lists(&mut self, globals: &Anchor) -> mlua::Result<()> {
        self.reserve(3)?;
        self.push_anchored(globals);
        for (at, name) in ["KEYS", "ARGV"].into_iter().enumerate() {
            self.push_name(name);
            // SAFETY: see `push_nil`; the registry is a table.
            unsafe { ffi::lua_rawgeti_(self.state, ffi::LUA_REGISTRYINDEX, self.lists[at].id) }
            self.set_pair()?;
        }
        self.truncate(self.len() - 1);
        Ok(())
    }
}
