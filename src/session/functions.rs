//! Libraries of functions: what changes them. Only shard 0 does, so that its journal has the changes in
//! their order.

use bytes::Bytes;

use super::core::Core;
use crate::rdb::dump;
use crate::resp::{Args, CmdError, Writer};
use crate::script::library::{self, Policy, Set};

/// How long loading a library may take, nanoseconds. Redis: functions.c LOAD_TIMEOUT_MS.
const LOAD_MAX_NS: u64 = 500_000_000;

impl Core {
    /// FUNCTION LOAD, DELETE, FLUSH and RESTORE.
    pub fn change_functions(
        &mut self,
        (db, args): (u32, &Args),
        out: &mut Writer,
    ) -> Result<(), CmdError> {
        match args.get(1).to_ascii_lowercase().as_slice() {
            b"load" => self.load_function(db, args, out),
            b"delete" => {
                let mut set = self.libraries();
                set.remove(args.get(2))?;
                self.put_libraries(set);
                self.note_functions(db, &[b"FUNCTION", b"DELETE", args.get(2)]);
                out.ok()
            }
            b"flush" => {
                match args.len() {
                    2 => {}
                    3 if args.is(2, "sync") || args.is(2, "async") => {}
                    3 => {
                        return Err(CmdError::Text(
                            "ERR FUNCTION FLUSH only supports SYNC|ASYNC option",
                        ));
                    }
                    _ => return Err(CmdError::subcommand(args)),
                }
                self.put_libraries(Set::default());
                self.note_functions(db, &[b"FUNCTION", b"FLUSH"]);
                out.ok()
            }
            _ => self.restore_functions(db, args, out),
        }
    }

    fn libraries(&self) -> Set {
        Set::clone(&self.scripts.libraries.now())
    }

    fn put_libraries(&mut self, set: Set) {
        self.scripts.libraries.replace(set);
    }

    /// A change is to be written, and counts for the save points.
    fn note_functions(&mut self, db: u32, record: &[&[u8]]) {
        self.shard.keyspace.effects.dirty += 1;
        self.shard.keyspace.effects.record(db, record);
    }

    /// `FUNCTION LOAD [REPLACE] code`
    fn load_function(&mut self, db: u32, args: &Args, out: &mut Writer) -> Result<(), CmdError> {
        let last = args.len() - 1;
        let mut replaces = false;
        for at in 2..last {
            if !args.is(at, "replace") {
                let text = b"ERR Unknown option given: ";
                return Err(CmdError::quoting(&[text, args.get(at)]));
            }
            replaces = true;
        }
        let text = args.get(last);
        let (name, _) = library::head(text)?;
        self.add_library(text, replaces, LOAD_MAX_NS)?;
        // A replica may have a library of its own by this name: it keeps that, unless told otherwise. But
        // the libraries of a snapshot are taken when its first piece is, a little behind its cut: one
        // that comes in between stands in it and is told of behind it.
        match replaces || self.shard.keyspace.is_cut_new() {
            true => self.note_functions(db, &[b"FUNCTION", b"LOAD", b"REPLACE", text]),
            false => self.note_functions(db, &[b"FUNCTION", b"LOAD", text]),
        }
        out.bulk(&name)
    }

    /// Runs the text of a library and makes it known.
    ///
    /// # Errors
    /// If it is none, or one of its names is taken.
    pub fn add_library(
        &mut self,
        text: &[u8],
        replaces: bool,
        max_ns: u64,
    ) -> Result<(), CmdError> {
        let mut set = self.libraries();
        let (name, _) = library::head(text)?;
        if set.has_library(&name) && !replaces {
            return Err(CmdError::quoting(&[
                b"ERR Library '",
                &name,
                b"' already exists",
            ]));
        }
        let clock = self.shard.clock();
        let engine = self.scripts.engine(clock)?;
        let library = engine.load_library(text, clock().saturating_add(max_ns))?;
        set.put(library)?;
        self.put_libraries(set);
        Ok(())
    }

    /// Forgets all libraries: another data set is to be loaded.
    pub fn clear_libraries(&mut self) {
        self.put_libraries(Set::default());
    }

    /// FUNCTION RESTORE payload [FLUSH|APPEND|REPLACE]
    fn restore_functions(
        &mut self,
        db: u32,
        args: &Args,
        out: &mut Writer,
    ) -> Result<(), CmdError> {
        let policy = match args.len() {
            3 => Policy::Append,
            4 if args.is(3, "append") => Policy::Append,
            4 if args.is(3, "replace") => Policy::Replace,
            4 if args.is(3, "flush") => Policy::Flush,
            4 => {
                return Err(CmdError::Text(
                    "ERR Wrong restore policy given, value should be either FLUSH, APPEND or \
                     REPLACE.",
                ));
            }
            _ => return Err(CmdError::subcommand(args)),
        };
        let payload = Bytes::copy_from_slice(args.get(2));
        let texts = dump::take_functions(&payload).map_err(CmdError::Text)?;
        let clock = self.shard.clock();
        let mut others = Set::default();
        for text in &texts {
            let (name, _) = library::head(text)?;
            if others.has_library(&name) {
                let text = b"ERR Library '";
                return Err(CmdError::quoting(&[text, &name, b"' already exists"]));
            }
            let engine = self.scripts.engine(clock)?;
            let until_ns = clock().saturating_add(LOAD_MAX_NS);
            others.put(engine.load_library(text, until_ns)?)?;
        }
        let mut set = self.libraries();
        set.join(others.libraries().cloned().collect(), policy)?;
        self.put_libraries(set);
        if policy == Policy::Flush {
            self.note_functions(db, &[b"FUNCTION", b"FLUSH"]);
        }
        for text in &texts {
            self.note_functions(db, &[b"FUNCTION", b"LOAD", b"REPLACE", text]);
        }
        out.ok()
    }
}
