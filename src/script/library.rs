//! Libraries of functions, by their names: what FUNCTION LOAD makes known to the whole process.
//!
//! A library is its text. Each core runs that text when it first needs one of its functions.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use ahash::AHashMap;

use super::store::{Calls, Script, ScriptFlags};
use crate::resp::CmdError;

pub const NOT_FOUND: CmdError = CmdError::Text("ERR Function not found");

/// What functions may declare, in the order in which FUNCTION LIST tells it. Redis: script.c.
pub const FLAGS: [&str; 5] = [
    "no-writes",
    "allow-oom",
    "allow-stale",
    "no-cluster",
    "allow-cross-slot-keys",
];

/// One function.
#[derive(Debug)]
pub struct Function {
    pub description: Option<Box<[u8]>>,
    /// Indices of `FLAGS` as bits.
    pub flags: u8,
    /// Its name, and what is known of its habits.
    pub script: Arc<Script>,
}

impl Function {
    pub fn new(
        name: &[u8],
        description: Option<&[u8]>,
        flags: u8,
        calls: Option<Calls>,
    ) -> Function {
        let has = |at: usize| flags & 1 << at != 0;
        let known = ScriptFlags {
            declared: true,
            no_writes: has(0),
            allow_oom: has(1),
            allow_stale: has(2),
        };
        Function {
            description: description.map(Into::into),
            flags,
            script: Arc::new(Script::of_function(name, known, calls)),
        }
    }

    pub fn name(&self) -> &[u8] {
        self.script.label()
    }
}

/// One library.
///
/// Differs: Variables of a library of functions are a core's own, not the whole server's.
#[derive(Debug)]
pub struct Library {
    pub name: Box<[u8]>,
    /// All of its text.
    pub text: Box<[u8]>,
    pub functions: Vec<Function>,
}

/// Whether this can be the name of a library or function. Redis: functionsVerifyName.
pub fn is_name(name: &[u8]) -> bool {
    let is_part = |byte: &u8| byte.is_ascii_alphanumeric() || *byte == b'_';
    !name.is_empty() && name.iter().all(is_part)
}

pub const BAD_NAME: &str = "Library names can only contain letters, numbers, or underscores(_) \
                            and must be at least one character long";

/// The name in the first line, `#!lua name=...`, and where the code begins.
///
/// # Errors
/// If the first line cannot be understood. Redis: functionExtractLibMetaData.
pub fn head(text: &[u8]) -> Result<(Vec<u8>, usize), CmdError> {
    const INVALID: CmdError = CmdError::Text("ERR Invalid library metadata");
    if !text.starts_with(b"#!") {
        return Err(CmdError::Text("ERR Missing library metadata"));
    }
    let end = memchr::memchr(b'\n', text).ok_or(INVALID)?;
    let words = crate::resp::split_quoted(&text[..end]).ok_or(INVALID)?;
    let (engine, rest) = words.split_first().ok_or(INVALID)?;
    let mut name = None;
    for word in rest {
        let is_name = word.len() >= 5 && word[..5].eq_ignore_ascii_case(b"name=");
        match &name {
            Some(_) if is_name => {
                return Err(CmdError::Text(
                    "ERR Invalid metadata value, name argument was given multiple times",
                ));
            }
            None if is_name => name = Some(word[5..].to_vec()),
            _ => {
                let text = b"ERR Invalid metadata value given: ";
                return Err(CmdError::quoting(&[text, word]));
            }
        }
    }
    let name = name.ok_or(CmdError::Text("ERR Library name was not given"))?;
    if !is_name(&name) {
        return Err(CmdError::owned(format!("ERR {BAD_NAME}")));
    }
    let engine = &engine[2..];
    if !engine.eq_ignore_ascii_case(b"lua") {
        return Err(CmdError::quoting(&[
            b"ERR Engine '",
            engine,
            b"' not found",
        ]));
    }
    Ok((name, end))
}

/// How libraries that are restored join those that there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Policy {
    Flush,
    Append,
    Replace,
}

/// All libraries at one moment.
#[derive(Clone, Debug, Default)]
pub struct Set {
    libraries: BTreeMap<Box<[u8]>, Arc<Library>>,
    /// Libraries of functions, and where in them they stand. Redis: these names in any case, those of
    /// libraries not.
    functions: AHashMap<Box<[u8]>, (Arc<Library>, usize)>,
}

impl Set {
    pub fn libraries(&self) -> impl ExactSizeIterator<Item = &Arc<Library>> {
        self.libraries.values()
    }

    pub fn functions_count(&self) -> usize {
        self.functions.len()
    }

    pub fn has_library(&self, name: &[u8]) -> bool {
        self.libraries.contains_key(name)
    }

    /// A function, and its library.
    pub fn find(&self, function: &[u8]) -> Option<(&Arc<Library>, &Function)> {
        let (library, at) = self.functions.get(&*function.to_ascii_lowercase())?;
        Some((library, library.functions.get(*at)?))
    }

    /// Numbers of libraries and functions, and the memory of all texts and what is known of them.
    pub fn figures(&self) -> (usize, usize, usize) {
        let of = |library: &Arc<Library>| {
            let each = size_of::<Function>() + size_of::<Script>() + 64;
            library.text.len() + library.name.len() + library.functions.len() * each
        };
        let bytes = self.libraries.values().map(of).sum();
        (self.libraries.len(), self.functions.len(), bytes)
    }

    /// Takes a library out.
    ///
    /// # Errors
    /// If there is none.
    pub fn remove(&mut self, name: &[u8]) -> Result<(), CmdError> {
        let library = self.libraries.remove(name);
        let library = library.ok_or(CmdError::Text("ERR Library not found"))?;
        for function in &library.functions {
            self.functions
                .remove(&*function.name().to_ascii_lowercase());
        }
        Ok(())
    }

    /// Puts a library in, in place of one with its name.
    ///
    /// # Errors
    /// If another library has a function of that name; `self` is of no use then.
    pub fn put(&mut self, library: Arc<Library>) -> Result<(), CmdError> {
        if self.has_library(&library.name) {
            self.remove(&library.name)?;
        }
        for (at, function) in library.functions.iter().enumerate() {
            let lower = function.name().to_ascii_lowercase();
            let place = (library.clone(), at);
            let (taken, _) = self.functions.entry(lower.into()).or_insert(place);
            if !Arc::ptr_eq(taken, &library) {
                let name = function.name();
                return Err(CmdError::quoting(&[
                    b"ERR Function ",
                    name,
                    b" already exists",
                ]));
            }
        }
        self.libraries.insert(library.name.clone(), library);
        Ok(())
    }

    /// Puts all of these in.
    ///
    /// # Errors
    /// If a name is taken; `self` is of no use then. Redis: libraryJoin.
    pub fn join(&mut self, others: Vec<Arc<Library>>, policy: Policy) -> Result<(), CmdError> {
        if policy == Policy::Flush {
            *self = Set::default();
        }
        for library in &others {
            let name = &library.name;
            match self.has_library(name) {
                true if policy == Policy::Append => {
                    return Err(CmdError::quoting(&[
                        b"ERR Library ",
                        name,
                        b" already exists",
                    ]));
                }
                true => self.remove(name)?,
                false => {}
            }
        }
        others.into_iter().try_for_each(|library| self.put(library))
    }
}

/// The libraries of the process. Only shard 0 changes them; others look when they have changed.
#[derive(Debug, Default)]
pub struct Libraries {
    set: Mutex<Arc<Set>>,
    generation: AtomicU64,
}

impl Libraries {
    fn lock(&self) -> MutexGuard<'_, Arc<Set>> {
        // Nothing that is done under the lock can fail half way.
        self.set.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn now(&self) -> Arc<Set> {
        self.lock().clone()
    }

    pub fn replace(&self, set: Set) {
        *self.lock() = Arc::new(set);
        self.generation.fetch_add(1, Ordering::Release);
    }

    /// Rises with every change.
    pub fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn library(name: &str, functions: &[&str]) -> Arc<Library> {
        let function = |name: &&str| Function::new(name.as_bytes(), None, 0, None);
        Arc::new(Library {
            name: name.as_bytes().into(),
            text: (*b"#!lua").into(),
            functions: functions.iter().map(function).collect(),
        })
    }

    #[test]
    fn first_lines_of_libraries() {
        for (text, wanted) in [
            ("#!lua name=a\nx", Ok("a")),
            ("#!LUA NAME=\"a_1\" \nx", Ok("a_1")),
            ("x", Err("ERR Missing library metadata")),
            ("#!lua name=a", Err("ERR Invalid library metadata")),
            ("#!lua name=\"a\nx", Err("ERR Invalid library metadata")),
            ("#!lua\nx", Err("ERR Library name was not given")),
            (
                "#!lua name=a name=b\nx",
                Err("ERR Invalid metadata value, name argument was given multiple times"),
            ),
            (
                "#!lua name=a b=c\nx",
                Err("ERR Invalid metadata value given: b=c"),
            ),
            ("#!js name=a\nx", Err("ERR Engine 'js' not found")),
        ] {
            let got = head(text.as_bytes());
            let got = match &got {
                Ok((name, _)) => Ok(std::str::from_utf8(name).expect("a name")),
                Err(error) => Err(error.to_string()),
            };
            assert_eq!(got, wanted.map_err(str::to_owned), "{text}");
        }
    }

    #[test]
    fn names_are_taken_once() {
        let mut set = Set::default();
        set.put(library("a", &["f", "g"])).expect("free");
        let mut other = set.clone();
        let error = other.put(library("b", &["g"])).expect_err("taken");
        assert_eq!(error.to_string(), "ERR Function g already exists");
        set.put(library("a", &["h"])).expect("replaces its own");
        assert!(set.find(b"g").is_none());
        assert_eq!(set.functions_count(), 1);
        set.remove(b"a").expect("there");
        assert!(set.remove(b"a").is_err());
        assert_eq!(set.functions_count(), 0);
    }

    #[test]
    fn libraries_join() {
        let of = |names: &[(&str, &str)]| -> Vec<Arc<Library>> {
            names
                .iter()
                .map(|(name, function)| library(name, &[function]))
                .collect()
        };
        let mut set = Set::default();
        set.join(of(&[("a", "f"), ("b", "g")]), Policy::Append)
            .expect("empty");
        for (others, policy, wanted) in [
            (
                of(&[("a", "h")]),
                Policy::Append,
                "ERR Library a already exists",
            ),
            (
                of(&[("a", "g")]),
                Policy::Replace,
                "ERR Function g already exists",
            ),
            (
                of(&[("c", "f")]),
                Policy::Append,
                "ERR Function f already exists",
            ),
            (of(&[("a", "h")]), Policy::Replace, "2"),
            (of(&[("c", "f")]), Policy::Flush, "1"),
        ] {
            let mut next = set.clone();
            let got = match next.join(others, policy) {
                Ok(()) => next.libraries().len().to_string(),
                Err(error) => error.to_string(),
            };
            assert_eq!(got, wanted);
        }
    }
}
