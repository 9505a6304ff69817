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
use mlua::{Function, Lua, Table, Value};

use self::asked::arguments;
use self::gifts::{Shared, native};
use self::interpreter::{Anchor, Anchors, Stop, interpreter, suspend_often};
pub(super) use self::interpreter::{ELEMENTS_MAX, Kind, Routine};
use super::late;
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
    /// What it runs in, until it is over.
    routine: Option<Routine>,
    /// Values on its stack that it begins with; none once it has begun.
    given: i32,
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

/// What a coroutine yields first when it means the engine: what it wants.
const CALL: f64 = 1.0;
const CHECK: f64 = 2.0;

pub struct Engine {
    lua: Lua,
    anchors: Anchors,
    /// The body of a script's coroutine.
    enter: Function,
    enter_anchor: Anchor,
    globals: Table,
    globals_anchor: Anchor,
    environment: Table,
    /// What is told of a script that is ended from outside.
    killed: Function,
    shared: Rc<Shared>,
    clock: fn() -> u64,
    functions: AHashMap<Digest, (Arc<Script>, Anchor)>,
    generation: u64,
    loader: Loader,
    /// Functions of libraries that have run here, by their names.
    callbacks: AHashMap<Box<[u8]>, (Arc<Library>, Anchor)>,
    libraries: Arc<Set>,
    libraries_generation: u64,
    runs: u64,
    /// The run whose keys and arguments the globals show.
    shown: u64,
    /// Coroutines whose scripts have ended, to be used again.
    idle: Vec<Routine>,
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

/// Puts a reply where a script gets it: its value, and whether it is an error.
fn answer(routine: &mut Routine, reply: &[u8]) -> mlua::Result<i32> {
    routine.clear();
    let mut reader = Reader::new(reply);
    let failed = reader.is_error();
    reader.push_value(routine)?;
    routine.push_bool(failed);
    Ok(2)
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
        let native = native(&lua, &shared, manner)?;
        let parts: Table = lua.load(PRELUDE).set_name("=redis").call(native)?;
        suspend_often(&lua)?;
        let anchors = Anchors::default();
        let enter: Function = parts.get("enter")?;
        let globals: Table = parts.get("globals")?;
        Ok(Engine {
            enter_anchor: anchors.hold(&lua, &enter)?,
            enter,
            globals_anchor: anchors.hold(&lua, &globals)?,
            globals,
            environment: parts.get("environment")?,
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
            anchors,
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
            late::Kind::Eval => self.functions.get(&script.name).map(|(_, body)| body),
            late::Kind::Function => self.callbacks.get(script.label()).map(|(_, body)| body),
        };
        let Some(body) = body else {
            return Err(mlua::Error::RuntimeError("the script is not known".into()));
        };
        let mut routine = match self.idle.pop() {
            Some(routine) => routine,
            None => Routine::new(&self.lua, &self.anchors, self.enter.clone())?,
        };
        routine.push_anchored(&self.enter_anchor);
        routine.push_anchored(body);
        routine.push_list(keys)?;
        routine.push_list(args)?;
        if script.kind() == late::Kind::Eval {
            routine.keep_lists();
        }
        self.runs += 1;
        Ok(Run {
            id: self.runs,
            script: script.clone(),
            given: routine.len() - 1,
            routine: Some(routine),
            proto: Proto::Resp2,
            audience: ALL,
        })
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
        let thread = run.routine.as_ref().map(Routine::thread);
        match self.killed.call::<Value>((thread, by)) {
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
        let Some(mut routine) = run.routine.take() else {
            return Err(mlua::Error::RuntimeError("the script is over".into()));
        };
        if self.shown != run.id && run.script.kind() == late::Kind::Eval {
            routine.show_lists(&self.globals_anchor)?;
            self.shown = run.id;
        }
        let mut count = match reply {
            Some(reply) => answer(&mut routine, reply)?,
            None => std::mem::take(&mut run.given),
        };
        let step = loop {
            let stop = routine.resume(count)?;
            run.proto = self.shared.proto.get();
            run.audience = self.shared.audience.get();
            if stop == Stop::Over {
                return Ok(self.finish(run, routine, out));
            }
            count = 0;
            if routine.len() == 0 {
                if (self.clock)() >= until_ns {
                    break Step::Paused;
                }
                continue;
            }
            let step = match routine.number(1) {
                Some(CALL) => Step::Call,
                Some(CHECK) => Step::Check,
                _ => return Err(mlua::Error::RuntimeError("a script was suspended".into())),
            };
            args.clear();
            match arguments(&routine, args) {
                Ok(()) => break step,
                Err(error) => {
                    let mut refusal = Output::default();
                    let _written = Writer::new(&mut refusal, Proto::Resp2).error(&error);
                    count = answer(&mut routine, &refusal.bytes)?;
                }
            }
        };
        run.routine = Some(routine);
        Ok(step)
    }

    /// Writes what a script returned or failed with.
    fn finish(&mut self, run: &Run, mut routine: Routine, out: &mut Writer) -> Step {
        let succeeded = routine.is_true(1);
        // A script returns its first value.
        routine.truncate(2);
        let counted = if succeeded {
            let mark = out.output().mark();
            let written = reply::write(&mut routine, 2, run.proto, out);
            debug_assert!(written.is_ok(), "what is written into memory is written");
            out.output().bytes.get(mark.0) == Some(&b'-') && reply::is_counted(&mut routine, 2)
        } else {
            let failure = routine.take(&self.lua).unwrap_or(Value::Nil);
            reply::write_failure(&failure, run.script.label(), out)
        };
        if self.idle.len() < IDLE_MAX {
            routine.clear();
            routine.drop_lists();
            self.idle.push(routine);
        }
        Step::Done { counted }
    }

    /// What scripts have logged since they were asked last.
    pub fn take_log(&mut self) -> Vec<LogLine> {
        self.shared.log.take()
    }
}
