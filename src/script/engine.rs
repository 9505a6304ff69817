//! One core's Lua: scripts as coroutines that are resumed with replies. `interpreter` makes the Lua,
//! `gifts` what Rust puts into it; `compiled` knows scripts and libraries.

mod asked;
mod compiled;
mod gifts;
mod interpreter;
#[cfg(test)]
mod tests;

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;

use ahash::AHashMap;
use mlua::{Function, Lua, MultiValue, Table, Thread, Value};

use self::asked::{arguments, many};
use self::gifts::{Shared, native};
use self::interpreter::{interpreter, suspend_often};
use super::late::Kind;
use super::library::{Library, Set};
use super::reply::{self, Reader};
use super::{Digest, Script};
use crate::resp::{ArgBuf, Args, CmdError, Output, Proto, Writer};

const PRELUDE: &str = include_str!("prelude.lua");

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
    /// Who is to repeat what it changes, as bits: redis.set_repl.
    pub audience: u8,
}

/// redis.REPL_ALL.
const ALL: u8 = 3;

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

/// What an interpreter is made with.
#[derive(Clone, Copy, Debug, Default)]
pub struct Manner {
    /// Of the server, for redis.REDIS_VERSION.
    pub version: &'static str,
    /// Seed of `math.random`.
    pub seed: u64,
    /// Scripts get `getfenv`, `setfenv` and `newproxy`: `lua-enable-deprecated-api`.
    pub deprecated: bool,
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
    /// An interpreter. `clock` is monotonic, in nanoseconds.
    ///
    /// # Errors
    /// If there is no memory for it.
    pub fn new(manner: Manner, clock: fn() -> u64) -> Result<Engine, CmdError> {
        Engine::build(manner, clock).map_err(|error| broken(&error))
    }

    fn build(manner: Manner, clock: fn() -> u64) -> mlua::Result<Engine> {
        let lua = interpreter();
        // Compiled code would not be counted.
        lua.load("jit.off()").exec()?;
        let shared = Rc::new(Shared {
            proto: Cell::default(),
            audience: Cell::new(ALL),
            log: RefCell::default(),
        });
        lua.globals()
            .get::<Table>("math")?
            .get::<Function>("randomseed")?
            .call::<()>(manner.seed as f64)?;
        let main = lua.current_thread();
        let native = native(&lua, &shared, manner, main)?;
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
            audience: ALL,
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
        self.shared.audience.set(run.audience);
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
            run.audience = self.shared.audience.get();
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

    /// What scripts have logged since they were asked last.
    pub fn take_log(&mut self) -> Vec<LogLine> {
        self.shared.log.take()
    }
}
