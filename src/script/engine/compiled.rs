//! Scripts and libraries that this engine has compiled.

use std::sync::Arc;

use mlua::{Function, MultiValue, Table, Value};

use super::{Anchor, Engine, broken, first_line};
use crate::resp::CmdError;
use crate::script::library::{self, Libraries, Library};
use crate::script::tail::keep_callers;
use crate::script::{Digest, Script, Store, digest, reply, text};

/// Enough to halve a buffer of 512 MB until a few kilobytes are left.
const COLLECTIONS_MAX: usize = 18;

impl Engine {
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

    /// Forgets scripts that the store has forgotten, and gives back what they left behind. Functions of
    /// libraries stay, and so do runs under way.
    pub fn forget_old(&mut self, store: &Store) {
        let generation = store.generation();
        if self.generation != generation {
            self.generation = generation;
            self.functions.clear();
            self.idle.clear();
            // What could not be let go now is when the next one is made.
            let _later = self.anchors.let_go(&self.lua);
            self.hide_arguments();
            self.collect();
        }
    }

    /// Takes KEYS and ARGV of the latest run from the globals; a run that goes on shows its own again.
    fn hide_arguments(&mut self) {
        self.shown = 0;
        for name in ["KEYS", "ARGV"] {
            let _hidden = self.globals.raw_set(name, Value::Nil);
        }
    }

    /// Collects garbage until there is none. It takes several times: each halves the buffer in which
    /// Lua makes long strings.
    fn collect(&self) {
        for _ in 0..COLLECTIONS_MAX {
            let before = self.lua.used_memory();
            let collected = self.lua.gc_collect();
            if collected.is_err() || self.lua.used_memory() >= before - before / 16 {
                break;
            }
        }
    }

    pub(super) fn compile(&mut self, script: &Arc<Script>) -> Result<(), CmdError> {
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
        let function = self.hold(function)?;
        self.functions
            .insert(script.name, (script.clone(), function));
        Ok(())
    }

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
            self.keep(&library, registered)?;
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
        let calls = text::calls(&text[end..], true).map(Arc::from);
        let functions = registered.iter().map(|(name, about, _)| {
            let (description, flags) = about;
            library::Function::new(name, description.as_deref(), *flags, calls.clone())
        });
        // Its functions may turn out to be taken: it runs again when one is called.
        Ok(Arc::new(Library {
            name: name.into(),
            text: text.into(),
            functions: functions.collect(),
        }))
    }

    /// Keeps what a library registered for calls of its functions.
    fn keep(
        &mut self,
        library: &Arc<Library>,
        registered: Vec<Registered>,
    ) -> Result<(), CmdError> {
        for (name, _, callback) in registered {
            let callback = self.hold(callback)?;
            self.callbacks
                .insert(name.into(), (library.clone(), callback));
        }
        Ok(())
    }

    fn hold(&self, function: Function) -> Result<Anchor, CmdError> {
        let held = self.anchors.hold(&self.lua, function);
        held.map_err(|error| broken(&error))
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
