//! One core's Lua.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;

use ahash::AHashMap;
use mlua::{Function, Lua, LuaOptions, MultiValue, StdLib, Table, Thread, Value};

use super::late::Kind;
use super::library::{self, Libraries, Library, Set};
use super::reply::{self, Reader};
use super::tail::keep_callers;
use super::{Digest, Script, Store, digest, json, msgpack, packing};
use crate::number;
use crate::resp::{ArgBuf, Args, CmdError, Output, Proto, Writer};

const PRELUDE: &str = include_str!("prelude.lua");
/// Instructions after which a script is suspended for a look at the clock. Redis: luaCallFunction.
const SLICE_INSTRUCTIONS: std::ffi::c_int = 100_000;
/// Lines that a script may log between two commands; what comes beyond is dropped.
const LOG_LINES_MAX: usize = 1000;
/// From here on C's `%.17g`, in which commands get numbers, writes an exponent.
const PLAIN_INTEGER_MAX: f64 = 1e17;

const NOT_A_STRING: CmdError =
    CmdError::Text("ERR Lua redis lib command arguments must be strings or integers");

/// A line for the server's log: its level as Redis numbers them, and its text.
pub type LogLine = (u8, Vec<u8>);

/// What a script came to.
#[derive(Debug, PartialEq, Eq)]
pub enum Step {
    /// It asks for a command.
    Call,
    /// It asks whether there is such a command; the answer is null or an error.
    Check,
    /// Its time is over. It goes on when it is resumed, without a reply.
    Paused,
    /// It is over and its reply is written. `counted`: an error that a command replied with.
    Done { counted: bool },
}

/// A script under way.
#[derive(Debug)]
pub struct Run {
    id: u64,
    script: Arc<Script>,
    thread: Thread,
    /// What it begins with, until it has begun.
    body: Option<Function>,
    keys: Table,
    args: Table,
    /// The protocol of replies that it asked for: redis.setresp.
    pub proto: Proto,
}

/// What the functions of scripts reach.
#[derive(Debug)]
struct Shared {
    proto: Cell<Proto>,
    log: RefCell<Vec<LogLine>>,
}

/// What runs the text of a library.
struct Loader {
    environment: Table,
    begin: Function,
    enter: Function,
    end: Function,
}

pub struct Engine {
    lua: Lua,
    /// The body of a script's coroutine.
    enter: Function,
    globals: Table,
    environment: Table,
    /// What a coroutine yields first if it means the engine.
    ask: Table,
    /// The same with all arguments in one table.
    ask_many: Table,
    /// What is told of a script that is ended from outside.
    killed: Function,
    shared: Rc<Shared>,
    clock: fn() -> u64,
    functions: AHashMap<Digest, (Arc<Script>, Function)>,
    generation: u64,
    loader: Loader,
    /// Functions of libraries that have run here, by their names.
    callbacks: AHashMap<Box<[u8]>, (Arc<Library>, Function)>,
    libraries: Arc<Set>,
    libraries_generation: u64,
    runs: u64,
    /// The run whose keys and arguments the globals show.
    shown: u64,
    /// Coroutines whose scripts have ended, to be used again.
    idle: Vec<Thread>,
}

/// Coroutines kept for later scripts.
const IDLE_MAX: usize = 16;

impl std::fmt::Debug for Engine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Engine({} scripts)", self.functions.len())
    }
}

fn broken(error: &mlua::Error) -> CmdError {
    CmdError::owned(format!("ERR Lua failed: {}", first_line(error)))
}

/// An error's text without the traceback that the binding adds.
fn first_line(error: &mlua::Error) -> String {
    let text = match error {
        mlua::Error::SyntaxError { message, .. } => message.clone(),
        mlua::Error::RuntimeError(message) => message.clone(),
        other => other.to_string(),
    };
    text.lines().next().unwrap_or_default().to_owned()
}

impl Engine {
    /// An interpreter. `clock` is monotonic, in nanoseconds; `seed` is that of `math.random`.
    ///
    /// # Errors
    /// If there is no memory for it.
    pub fn new(version: &str, clock: fn() -> u64, seed: u64) -> Result<Engine, CmdError> {
        Engine::build(version, clock, seed).map_err(|error| broken(&error))
    }

    fn build(version: &str, clock: fn() -> u64, seed: u64) -> mlua::Result<Engine> {
        let lua = interpreter();
        // Compiled code would not be counted.
        lua.load("jit.off()").exec()?;
        let shared = Rc::new(Shared {
            proto: Cell::default(),
            log: RefCell::default(),
        });
        lua.globals()
            .get::<Table>("math")?
            .get::<Function>("randomseed")?
            .call::<()>(seed as f64)?;
        let main = lua.current_thread();
        let native = native(&lua, &shared, version, main)?;
        let parts: Table = lua.load(PRELUDE).set_name("=redis").call(native)?;
        suspend_often(&lua)?;
        Ok(Engine {
            enter: parts.get("enter")?,
            globals: parts.get("globals")?,
            environment: parts.get("environment")?,
            ask: parts.get("ask")?,
            ask_many: parts.get("ask_many")?,
            killed: parts.get("killed")?,
            loader: Loader {
                environment: parts.get("function_environment")?,
                begin: parts.get("begin_load")?,
                enter: parts.get("enter_load")?,
                end: parts.get("end_load")?,
            },
            callbacks: AHashMap::new(),
            libraries: Arc::default(),
            libraries_generation: 0,
            lua,
            shared,
            clock,
            functions: AHashMap::new(),
            generation: 0,
            runs: 0,
            shown: 0,
            idle: Vec::new(),
        })
    }

    /// Memory of the interpreter, bytes.
    pub fn memory_bytes(&self) -> usize {
        self.lua.used_memory()
    }

    /// A script that is known by its name.
    pub fn find(&mut self, name: &Digest, store: &Store) -> Option<Arc<Script>> {
        self.forget_old(store);
        if let Some((script, _)) = self.functions.get(name) {
            return Some(script.clone());
        }
        let script = store.find(name)?;
        self.compile(&script).ok()?;
        Some(script)
    }

    /// Makes a script known.
    ///
    /// # Errors
    /// If it cannot be compiled.
    pub fn load(&mut self, text: &[u8], store: &Store) -> Result<Arc<Script>, CmdError> {
        let name = digest(text);
        if let Some(script) = self.find(&name, store) {
            return Ok(script);
        }
        let script = Arc::new(Script::new(text)?);
        self.compile(&script)?;
        store.add(script.clone());
        Ok(script)
    }

    fn forget_old(&mut self, store: &Store) {
        let generation = store.generation();
        if self.generation != generation {
            self.generation = generation;
            self.functions.clear();
        }
    }

    fn compile(&mut self, script: &Arc<Script>) -> Result<(), CmdError> {
        let chunk = self
            .lua
            .load(keep_callers(script.code()))
            .set_name("@user_script")
            .set_mode(mlua::chunk::ChunkMode::Text)
            .set_environment(self.environment.clone());
        let function = chunk.into_function().map_err(|error| {
            let why = first_line(&error);
            CmdError::owned(format!("ERR Error compiling script (new function): {why}"))
        })?;
        self.functions
            .insert(script.name, (script.clone(), function));
        Ok(())
    }

    /// Prepares a run of a script that is known here. It begins when it is resumed.
    ///
    /// # Errors
    /// If there is no memory for it.
    pub fn begin(
        &mut self,
        script: &Arc<Script>,
        keys: &Args,
        args: &Args,
    ) -> Result<Run, CmdError> {
        self.prepare(script, keys, args)
            .map_err(|error| broken(&error))
    }

    fn prepare(&mut self, script: &Arc<Script>, keys: &Args, args: &Args) -> mlua::Result<Run> {
        let body = match script.kind() {
            Kind::Eval => self.functions.get(&script.name).map(|(_, body)| body),
            Kind::Function => self.callbacks.get(script.label()).map(|(_, body)| body),
        };
        let Some(body) = body.cloned() else {
            return Err(mlua::Error::RuntimeError("the script is not known".into()));
        };
        let thread = match self.idle.pop() {
            Some(thread) => {
                thread.reset(self.enter.clone())?;
                thread
            }
            None => self.lua.create_thread(self.enter.clone())?,
        };
        self.runs += 1;
        Ok(Run {
            id: self.runs,
            script: script.clone(),
            thread,
            body: Some(body),
            keys: self.list(keys)?,
            args: self.list(args)?,
            proto: Proto::Resp2,
        })
    }

    fn list(&self, args: &Args) -> mlua::Result<Table> {
        let list = self.lua.create_table_with_capacity(args.len(), 0)?;
        for (at, arg) in args.iter().enumerate() {
            list.raw_set(at + 1, self.lua.create_string(arg)?)?;
        }
        Ok(list)
    }

    /// Lets a script go on: at its beginning, with the reply to what it asked for, or without one
    /// where it was paused. It is paused about when the engine's clock shows `until_ns`. What it asks
    /// for next is put into `args`, what it returns into `out`.
    pub fn resume(
        &mut self,
        run: &mut Run,
        reply: Option<&[u8]>,
        until_ns: u64,
        args: &mut ArgBuf,
        out: &mut Writer,
    ) -> Step {
        self.shared.proto.set(run.proto);
        let step = self.step(run, reply, until_ns, args, out);
        step.unwrap_or_else(|error| {
            let _written = out.error(&broken(&error));
            Step::Done { counted: false }
        })
    }

    /// Ends a script where it stands, whatever it would have caught.
    pub fn kill(&mut self, run: &Run, out: &mut Writer) -> Step {
        let by = run.script.kind().killer();
        match self.killed.call::<Value>((&run.thread, by)) {
            Ok(failure) => {
                reply::write_failure(&failure, run.script.label(), out);
            }
            Err(error) => {
                let _written = out.error(&broken(&error));
            }
        }
        Step::Done { counted: false }
    }

    fn step(
        &mut self,
        run: &mut Run,
        reply: Option<&[u8]>,
        until_ns: u64,
        args: &mut ArgBuf,
        out: &mut Writer,
    ) -> mlua::Result<Step> {
        if self.shown != run.id && run.script.kind() == Kind::Eval {
            self.globals.raw_set("KEYS", &run.keys)?;
            self.globals.raw_set("ARGV", &run.args)?;
            self.shown = run.id;
        }
        let mut given: MultiValue = match (run.body.take(), reply) {
            (Some(body), _) if run.script.kind() == Kind::Function => {
                run.thread.resume((body, &run.keys, &run.args))?
            }
            (Some(body), _) => run.thread.resume(body)?,
            (None, Some(reply)) => self.answer(run, reply)?,
            (None, None) => run.thread.resume(())?,
        };
        loop {
            run.proto = self.shared.proto.get();
            if !run.thread.is_resumable() {
                return Ok(self.finish(run, given, out));
            }
            if given.is_empty() {
                if (self.clock)() >= until_ns {
                    return Ok(Step::Paused);
                }
                given = run.thread.resume(())?;
                continue;
            }
            let mark = given.pop_front();
            let runs = matches!(given.pop_front(), Some(Value::Boolean(true)));
            args.clear();
            let asked = match mark {
                Some(Value::Table(mark)) if mark == self.ask => arguments(&given, args),
                Some(Value::Table(mark)) if mark == self.ask_many => many(&given, args),
                _ => return Err(mlua::Error::RuntimeError("a script was suspended".into())),
            };
            match asked {
                Ok(()) if runs => return Ok(Step::Call),
                Ok(()) => return Ok(Step::Check),
                Err(error) => {
                    let mut refusal = Output::default();
                    let _written = Writer::new(&mut refusal, Proto::Resp2).error(&error);
                    given = self.answer(run, &refusal.bytes)?;
                }
            }
        }
    }

    fn answer(&self, run: &Run, reply: &[u8]) -> mlua::Result<MultiValue> {
        let mut reader = Reader::new(&self.lua, reply);
        let failed = reader.is_error();
        run.thread.resume((reader.value()?, failed))
    }

    /// Writes what a script returned or failed with.
    fn finish(&mut self, run: &Run, mut given: MultiValue, out: &mut Writer) -> Step {
        let succeeded = matches!(given.pop_front(), Some(Value::Boolean(true)));
        let value = given.pop_front().unwrap_or(Value::Nil);
        if self.idle.len() < IDLE_MAX {
            self.idle.push(run.thread.clone());
        }
        let counted = if succeeded {
            let mark = out.output().mark();
            let written = reply::write(&value, run.proto, out);
            debug_assert!(written.is_ok(), "what is written into memory is written");
            out.output().bytes.get(mark.0) == Some(&b'-') && reply::is_counted(&value)
        } else {
            reply::write_failure(&value, run.script.label(), out)
        };
        Step::Done { counted }
    }

    // ---- libraries

    /// A function that is known by its name; its library runs here first, if it has not yet.
    ///
    /// # Errors
    /// If there is none.
    pub fn find_function(
        &mut self,
        name: &[u8],
        libraries: &Libraries,
    ) -> Result<Arc<Script>, CmdError> {
        let generation = libraries.generation();
        if self.libraries_generation != generation {
            self.libraries_generation = generation;
            self.libraries = libraries.now();
            let set = &self.libraries;
            self.callbacks.retain(|name, (library, _)| {
                set.find(name)
                    .is_some_and(|(known, _)| Arc::ptr_eq(known, library))
            });
        }
        let (library, function) = self.libraries.find(name).ok_or(library::NOT_FOUND)?;
        let script = function.script.clone();
        if !self.callbacks.contains_key(script.label()) {
            let library = library.clone();
            let (_, end) = library::head(&library.text)?;
            let registered = self.run_library(&library.text[end..], u64::MAX)?;
            self.keep(&library, registered);
        }
        Ok(script)
    }

    /// Runs the text of a library and tells what it registers. It is ended when the clock shows
    /// `until_ns`.
    ///
    /// # Errors
    /// If it cannot be a library.
    pub fn load_library(&mut self, text: &[u8], until_ns: u64) -> Result<Arc<Library>, CmdError> {
        let (name, end) = library::head(text)?;
        let registered = self.run_library(&text[end..], until_ns)?;
        if registered.is_empty() {
            return Err(CmdError::Text("ERR No functions registered"));
        }
        let functions = registered.iter().map(|(name, about, _)| {
            let (description, flags) = about;
            library::Function::new(name, description.as_deref(), *flags)
        });
        // Its functions may turn out to be taken: it runs again when one is called.
        Ok(Arc::new(Library {
            name: name.into(),
            text: text.into(),
            functions: functions.collect(),
        }))
    }

    /// Keeps what a library registered for calls of its functions.
    fn keep(&mut self, library: &Arc<Library>, registered: Vec<Registered>) {
        for (name, _, callback) in registered {
            self.callbacks
                .insert(name.into(), (library.clone(), callback));
        }
    }

    fn run_library(&mut self, code: &[u8], until_ns: u64) -> Result<Vec<Registered>, CmdError> {
        let chunk = self
            .lua
            .load(keep_callers(code))
            .set_name("@user_function")
            .set_mode(mlua::chunk::ChunkMode::Text)
            .set_environment(self.loader.environment.clone());
        let body = chunk.into_function().map_err(|error| {
            let why = first_line(&error);
            CmdError::owned(format!("ERR Error compiling function: {why}"))
        })?;
        let began = self.loader.begin.call::<()>(());
        let ran = began.and_then(|()| self.run_load(body, until_ns));
        let registered = self.loader.end.call::<Table>(());
        let failure = ran.map_err(|error| broken(&error))?;
        if let Some(why) = failure {
            let text = b"ERR Error registering functions: ";
            return Err(CmdError::quoting(&[text, &why]));
        }
        registered
            .and_then(|list| {
                list.sequence_values()
                    .map(|one| registration(&one?))
                    .collect()
            })
            .map_err(|error| broken(&error))
    }

    /// Runs the body of a library; why it failed, if it did.
    fn run_load(&self, body: Function, until_ns: u64) -> mlua::Result<Option<Vec<u8>>> {
        let thread = self.lua.create_thread(self.loader.enter.clone())?;
        let mut given: MultiValue = thread.resume(body)?;
        while thread.is_resumable() {
            if (self.clock)() >= until_ns {
                return Ok(Some(b"ERR FUNCTION LOAD timeout".to_vec()));
            }
            given = thread.resume(())?;
        }
        Ok(match (given.pop_front(), given.pop_front()) {
            (Some(Value::Boolean(true)), _) => None,
            (_, failure) => Some(reply::failure_text(&failure.unwrap_or(Value::Nil))),
        })
    }

    /// What scripts have logged since they were asked last.
    pub fn take_log(&mut self) -> Vec<LogLine> {
        self.shared.log.take()
    }
}

/// A function's name, its description and flags, and itself.
type Registered = (Vec<u8>, (Option<Vec<u8>>, u8), Function);

fn registration(table: &Table) -> mlua::Result<Registered> {
    let text = |name: &str| -> mlua::Result<Option<Vec<u8>>> {
        let text: Option<mlua::LuaString> = table.get(name)?;
        Ok(text.map(|text| text.as_bytes().to_vec()))
    };
    let name = text("name")?.unwrap_or_default();
    let about = (text("description")?, table.get("flags")?);
    Ok((name, about, table.get("callback")?))
}

/// A command's name and arguments.
fn arguments(given: &MultiValue, args: &mut ArgBuf) -> Result<(), CmdError> {
    if given.is_empty() {
        return Err(CmdError::Text(
            "ERR Please specify at least one argument for this redis lib call",
        ));
    }
    given.iter().try_for_each(|value| push(value, args))
}

/// The same of a table that came with their number. One value at a time: Lua has room for some
/// thousands.
fn many(given: &MultiValue, args: &mut ArgBuf) -> Result<(), CmdError> {
    let (Some(Value::Integer(count)), Some(Value::Table(list))) = (given.front(), given.get(1))
    else {
        return Err(NOT_A_STRING);
    };
    (1..=*count).try_for_each(|at| match list.raw_get(at) {
        Ok(value) => push(&value, args),
        Err(_) => Err(NOT_A_STRING),
    })
}

fn push(value: &Value, args: &mut ArgBuf) -> Result<(), CmdError> {
    match value {
        Value::String(text) => args.push(&text.as_bytes()),
        Value::Integer(number) => push_number(*number as f64, args),
        Value::Number(number) => push_number(*number, args),
        _ => return Err(NOT_A_STRING),
    }
    Ok(())
}

/// As C's `%.17g`.
fn push_number(number: f64, args: &mut ArgBuf) {
    if number.fract() == 0.0 && number.abs() < PLAIN_INTEGER_MAX && number != 0.0 {
        args.push(itoa::Buffer::new().format(number as i64).as_bytes());
    } else {
        args.push(number::format_f64(number).as_bytes());
    }
}

/// A Lua without a compiler, and without what reaches the world.
#[allow(unsafe_code)] // The debug library can break Lua.
fn interpreter() -> Lua {
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
fn suspend_often(lua: &Lua) -> mlua::Result<()> {
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

/// What the prelude gets from Rust. None of it may fail: an error cannot pass through frames of Rust
/// in a process that aborts when it panics.
fn native(lua: &Lua, shared: &Rc<Shared>, version: &str, main: Thread) -> mlua::Result<Table> {
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
    let log = move |_: &Lua, (level, text): (f64, mlua::LuaString)| {
        let mut lines = seen.log.borrow_mut();
        if lines.len() < LOG_LINES_MAX {
            lines.push((level as u8, text.as_bytes().to_vec()));
        }
        Ok(())
    };
    native.set("log", lua.create_function(log)?)?;
    let redis = lua.create_table()?;
    redis.set("REDIS_VERSION", version)?;
    let number = version
        .split('.')
        .filter_map(|part| part.parse::<u32>().ok());
    redis.set(
        "REDIS_VERSION_NUM",
        number.fold(0, |all, part| all << 8 | part),
    )?;
    native.set("redis", redis)?;
    let flags = lua.create_table()?;
    for (at, name) in library::FLAGS.into_iter().enumerate() {
        flags.set(name, 1u8 << at)?;
    }
    native.set("flags", flags)?;
    let is_main = move |_: &Lua, thread: Option<Thread>| Ok(thread.is_none_or(|it| it == main));
    native.set("is_main", lua.create_function(is_main)?)?;
    Ok(native)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn clock() -> u64 {
        0
    }

    /// Runs a script whose commands are answered by `reply`; returns what they were and its reply.
    fn run(text: &str, reply: impl Fn(&Args) -> String) -> (Vec<String>, String) {
        let store = Store::default();
        let mut engine = Engine::new("7.4.0", clock, 1).expect("Lua");
        let mut words = ArgBuf::default();
        for word in ["k1", "k2", "a1"] {
            words.push(word.as_bytes());
        }
        let words = words.as_args();
        let script = match engine.load(text.as_bytes(), &store) {
            Ok(script) => script,
            Err(error) => return (Vec::new(), format!("-{error}")),
        };
        let mut run = engine
            .begin(&script, &words.range(0, 2), &words.from(2))
            .expect("begins");
        let (mut asked, mut args, mut out) = (Vec::new(), ArgBuf::default(), Output::default());
        let mut given: Option<String> = None;
        loop {
            let given_now = given.take();
            let bytes = given_now.as_ref().map(String::as_bytes);
            let mut writer = Writer::new(&mut out, Proto::Resp2);
            match engine.resume(&mut run, bytes, 0, &mut args, &mut writer) {
                Step::Done { .. } => {
                    let reply = String::from_utf8_lossy(&out.to_vec()).into_owned();
                    return (asked, reply);
                }
                Step::Check => given = Some("_\r\n".into()),
                Step::Paused => asked.push("pause".into()),
                Step::Call => {
                    let args = args.as_args();
                    let words = args.iter().map(|word| String::from_utf8_lossy(word));
                    asked.push(words.collect::<Vec<_>>().join(" "));
                    given = Some(reply(&args));
                }
            }
        }
    }

    fn reply_of(text: &str) -> String {
        run(text, |_| "+OK\r\n".into()).1
    }

    #[test]
    fn values_become_replies() {
        for (text, reply) in [
            ("return 1", ":1\r\n"),
            ("return 3.99", ":3\r\n"),
            ("return 'x'", "$1\r\nx\r\n"),
            ("return true", ":1\r\n"),
            ("return false", "$-1\r\n"),
            ("return nil", "$-1\r\n"),
            ("return", "$-1\r\n"),
            ("return {1,{'a'},nil,4}", "*2\r\n:1\r\n*1\r\n$1\r\na\r\n"),
            ("return {ok='fine'}", "+fine\r\n"),
            ("return {err='ERR bad'}", "-ERR bad\r\n"),
            ("return redis.error_reply('My Err')", "-My Err\r\n"),
            ("return redis.error_reply('-MY Err\\n')", "-MY Err\r\n"),
            ("return redis.error_reply('MyErr')", "-ERR MyErr\r\n"),
            ("return redis.status_reply('done')", "+done\r\n"),
            ("return {double=3.5}", "$3\r\n3.5\r\n"),
            (
                "return {KEYS[1],KEYS[2],ARGV[1],KEYS[3]}",
                "*3\r\n$2\r\nk1\r\n$2\r\nk2\r\n$2\r\na1\r\n",
            ),
            (
                "return redis.sha1hex('')",
                "$40\r\nda39a3ee5e6b4b0d3255bfef95601890afd80709\r\n",
            ),
            ("return redis.REDIS_VERSION_NUM", ":459776\r\n"),
            ("return bit.band(7, 10)", ":2\r\n"),
        ] {
            assert_eq!(reply_of(text), reply, "{text}");
        }
    }

    #[test]
    fn long_scripts_are_paused_wherever_they_are() {
        let long = "for i = 1, 300000 do end";
        for (text, reply) in [
            (format!("{long} return 1"), ":1\r\n"),
            (
                format!("return {{pcall(function() {long} error('x', 0) end)}}"),
                "*2\r\n$-1\r\n$1\r\nx\r\n",
            ),
            (
                format!(
                    "local next = coroutine.wrap(function(a) {long} a = a + coroutine.yield() \
                     {long} return a end) next(1) return next(2)"
                ),
                ":3\r\n",
            ),
            (
                format!("return (string.gsub('ab', '.', function(c) {long} return c .. c end))"),
                "$4\r\naabb\r\n",
            ),
            (
                format!(
                    "local t = {{2, 1}} table.sort(t, function(a, b) {long} return a < b end) return t"
                ),
                "*2\r\n:1\r\n:2\r\n",
            ),
            (
                format!(
                    "return setmetatable({{}}, {{__index = function() {long} return 7 end}}).x"
                ),
                ":7\r\n",
            ),
        ] {
            let (asked, got) = run(&text, |_| String::new());
            assert_eq!(got, reply, "{text}");
            assert!(asked.iter().all(|what| what == "pause"), "{text}");
            assert!(!asked.is_empty(), "{text}");
        }
        // Nobody can suspend what C calls: it runs through.
        let sort = format!(
            "local m = {{__lt = function(a, b) {long} return a.v < b.v end}} \
             local t = {{setmetatable({{v = 2}}, m), setmetatable({{v = 1}}, m)}} \
             table.sort(t) return t[1].v"
        );
        assert_eq!(reply_of(&sort), ":1\r\n");
    }

    #[test]
    fn a_paused_script_can_be_ended() {
        let store = Store::default();
        let mut engine = Engine::new("7.4.0", clock, 1).expect("Lua");
        let text = b"\nwhile true do pcall(function() while true do end end) end";
        let script = engine.load(text, &store).expect("compiles");
        let none = ArgBuf::default();
        let mut run = engine
            .begin(&script, &none.as_args(), &none.as_args())
            .expect("begins");
        let (mut args, mut out) = (ArgBuf::default(), Output::default());
        let mut writer = Writer::new(&mut out, Proto::Resp2);
        for _ in 0..2 {
            let step = engine.resume(&mut run, None, 0, &mut args, &mut writer);
            assert_eq!(step, Step::Paused);
        }
        assert_eq!(
            engine.kill(&run, &mut writer),
            Step::Done { counted: false }
        );
        let reply = String::from_utf8_lossy(&out.to_vec()).into_owned();
        assert!(
            reply.starts_with("-ERR Script killed by user with SCRIPT KILL. script: "),
            "{reply}"
        );
        assert!(reply.ends_with(", on @user_script:2.\r\n"), "{reply}");
    }

    #[test]
    fn a_table_within_itself_is_cut_off() {
        let reply = reply_of("local a = {}; a[1] = a; return a");
        assert!(reply.ends_with("-ERR reached lua stack limit\r\n"));
    }

    #[test]
    fn commands_are_asked_for_and_answered() {
        let answer = |args: &Args| match args.name() {
            b"get" => "$3\r\nval\r\n".into(),
            b"incr" => ":7\r\n".into(),
            b"bad" => "-WRONGTYPE no\r\n".into(),
            b"nil" => "$-1\r\n".into(),
            b"list" => "*2\r\n:1\r\n$1\r\nx\r\n".into(),
            _ => "+OK\r\n".to_owned(),
        };
        for (text, asked, reply) in [
            (
                "return redis.call('get', KEYS[1])",
                "get k1",
                "$3\r\nval\r\n",
            ),
            (
                "return redis.call('set', 'a', 10/4)",
                "set a 2.5",
                "+OK\r\n",
            ),
            (
                "return redis.call('set', 'a', 2^53)",
                "set a 9007199254740992",
                "+OK\r\n",
            ),
            (
                "return redis.call('set', 'a', 1e20)",
                "set a 1e+20",
                "+OK\r\n",
            ),
            ("return redis.call('incr', 'a') + 1", "incr a", ":8\r\n"),
            ("return redis.call('list')[2]", "list", "$1\r\nx\r\n"),
            ("return redis.call('nil') == false", "nil", ":1\r\n"),
            (
                "return redis.pcall('bad').err",
                "bad",
                "$12\r\nWRONGTYPE no\r\n",
            ),
            (
                "return {pcall(redis.call, 'bad')}",
                "bad",
                "*2\r\n$-1\r\n$12\r\nWRONGTYPE no\r\n",
            ),
            (
                "return select(2, pcall(redis.call, 'bad'))",
                "bad",
                "$12\r\nWRONGTYPE no\r\n",
            ),
            ("return redis.call('x').ok", "x", "$2\r\nOK\r\n"),
            (
                "return ({string.gsub('a b', '%a', function(c) return redis.call('get', c) end)})[1]",
                "get a,get b",
                "$7\r\nval val\r\n",
            ),
            (
                "local t = {3,1,2}; table.sort(t, function(a, b) redis.call('x'); return a > b end); return t",
                "x,x,x",
                "*3\r\n:3\r\n:2\r\n:1\r\n",
            ),
            (
                "local f = coroutine.wrap(function() coroutine.yield(redis.call('incr')) end); return f()",
                "incr",
                ":7\r\n",
            ),
            (
                "local t = setmetatable({}, {__index = function(_, k) return redis.call('get', k) end}); return t.z",
                "get z",
                "$3\r\nval\r\n",
            ),
        ] {
            let (commands, got) = run(text, answer);
            assert_eq!(
                (commands.join(",").as_str(), got.as_str()),
                (asked, reply),
                "{text}"
            );
        }
    }

    #[test]
    fn errors_say_where() {
        let name = |text: &str| String::from_utf8_lossy(&digest(text.as_bytes())).into_owned();
        for (text, error) in [
            (
                "return foo",
                "ERR user_script:1: Script attempted to access nonexistent global variable 'foo'",
            ),
            (
                "\nfoo = 1",
                "ERR user_script:2: Attempt to modify a readonly table",
            ),
            (
                "redis.call = 1",
                "ERR user_script:1: Attempt to modify a readonly table",
            ),
            (
                "setmetatable(_G, {})",
                "ERR Attempt to modify a readonly table",
            ),
            (
                "rawset(_G, 'x', 1)",
                "ERR Attempt to modify a readonly table",
            ),
            ("error('boo')", "ERR user_script:1: boo"),
            ("error({err='MY code'})", "MY code"),
            (
                "redis.call()",
                "ERR Please specify at least one argument for this redis lib call",
            ),
            (
                "redis.call({})",
                "ERR Lua redis lib command arguments must be strings or integers",
            ),
            ("redis.call('bad')", "OOPS no"),
            ("local function f() redis.call('bad') end f()", "OOPS no"),
            (
                "return nil + 1",
                "ERR user_script:1: attempt to perform arithmetic on a nil value",
            ),
            (
                "loadstring('return foo')()",
                "ERR [string \"return foo\"]:1: Script attempted to access nonexistent global variable 'foo'",
            ),
        ] {
            let line = 1 + text.matches('\n').count();
            let whole = format!(
                "-{error} script: {}, on @user_script:{line}.\r\n",
                name(text)
            );
            assert_eq!(run(text, |_| "-OOPS no\r\n".into()).1, whole, "{text}");
        }
        assert_eq!(
            reply_of("return ("),
            "-ERR Error compiling script (new function): user_script:1: unexpected symbol near '<eof>'"
        );
    }

    #[test]
    fn the_world_is_out_of_reach() {
        for name in [
            "os", "io", "require", "dofile", "loadfile", "jit", "ffi", "debug", "package", "print",
            "setfenv", "getfenv", "newproxy",
        ] {
            let text = format!("return pcall(function() return {name} end) and 1 or 0");
            assert_eq!(reply_of(&text), ":0\r\n", "{name}");
        }
        assert_eq!(
            reply_of("return load(string.dump(function() end)) == nil"),
            ":1\r\n"
        );
    }

    #[test]
    fn scripts_under_way_do_not_see_each_other() {
        let store = Store::default();
        let mut engine = Engine::new("7.4.0", clock, 1).expect("Lua");
        let script = engine
            .load(b"redis.call('x'); return KEYS[1]", &store)
            .expect("compiles");
        let mut names = ArgBuf::default();
        names.push(b"one");
        names.push(b"two");
        let names = names.as_args();
        let none = names.range(0, 0);
        let mut runs = [0, 1].map(|at| {
            let keys = names.range(at, at + 1);
            engine.begin(&script, &keys, &none).expect("begins")
        });
        let (mut args, mut out) = (ArgBuf::default(), Output::default());
        for round in 0..2 {
            for run in &mut runs {
                let reply = (round > 0).then_some(&b"+OK\r\n"[..]);
                let mut writer = Writer::new(&mut out, Proto::Resp2);
                engine.resume(run, reply, u64::MAX, &mut args, &mut writer);
            }
        }
        assert_eq!(out.to_vec(), b"$3\r\none\r\n$3\r\ntwo\r\n");
    }
}
