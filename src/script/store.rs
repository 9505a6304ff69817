//! The scripts that the process knows, by the SHA-1 of their text.

use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use ahash::AHashMap;
use sha1::{Digest as _, Sha1};

use super::late::Kind;
use super::text::{self, Word};
use crate::resp::CmdError;

/// SHA-1 in lowercase hexadecimal digits: a script's name.
pub type Digest = [u8; 40];

/// The name of a script with this text.
pub fn digest(text: &[u8]) -> Digest {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut name = [0; 40];
    for (pair, byte) in name.chunks_exact_mut(2).zip(Sha1::digest(text)) {
        pair[0] = DIGITS[usize::from(byte >> 4)];
        pair[1] = DIGITS[usize::from(byte & 15)];
    }
    name
}

/// What the first line of a script, `#!lua flags=...`, says about it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ScriptFlags {
    /// There is such a line: the script is checked before it runs, not while it does.
    pub declared: bool,
    pub no_writes: bool,
    pub allow_oom: bool,
    /// It may run on a replica that has lost its master.
    pub allow_stale: bool,
}

/// One script, or a function of a library.
#[derive(Debug)]
pub struct Script {
    pub name: Digest,
    /// Of a function: its name.
    function: Option<Box<[u8]>>,
    pub text: Box<[u8]>,
    pub flags: ScriptFlags,
    habits: AtomicU8,
    calls: OnceLock<Option<Calls>>,
    is_proven: OnceLock<bool>,
}

/// The calls of commands in a text.
pub type Calls = Arc<[Vec<Word>]>;

/// It has run to its end, and touched no key but those that it was called with.
const TAME: u8 = 1;
/// It touched others, or asked for something that is not about keys.
const WILD: u8 = 2;

impl Script {
    /// # Errors
    /// If the first line cannot be understood.
    pub fn new(text: &[u8]) -> Result<Script, CmdError> {
        Ok(Script {
            name: digest(text),
            function: None,
            text: text.into(),
            flags: ScriptFlags::parse(text)?,
            habits: AtomicU8::new(0),
            calls: OnceLock::new(),
            is_proven: OnceLock::new(),
        })
    }

    /// A function; its text is its library's, whose calls are known.
    pub fn of_function(name: &[u8], flags: ScriptFlags, calls: Option<Calls>) -> Script {
        Script {
            name: [0; 40],
            function: Some(name.into()),
            text: Box::default(),
            flags,
            habits: AtomicU8::new(0),
            calls: calls.into(),
            is_proven: OnceLock::new(),
        }
    }

    pub fn kind(&self) -> Kind {
        match self.function {
            Some(_) => Kind::Function,
            None => Kind::Eval,
        }
    }

    /// What it is called in messages.
    pub fn label(&self) -> &[u8] {
        self.function.as_deref().unwrap_or(&self.name)
    }

    /// The text without its first line, whose line break stays: lines keep their numbers.
    pub fn code(&self) -> &[u8] {
        match self.flags.declared {
            true => {
                let line = self.text.iter().position(|&byte| byte == b'\n');
                &self.text[line.unwrap_or(0)..]
            }
            false => &self.text,
        }
    }

    /// Whether all it has done so far was about the keys that it was called with.
    pub fn is_tame(&self) -> bool {
        self.habits.load(Ordering::Relaxed) == TAME
    }

    /// Whether its text can be judged, and the judge, who is asked once, finds that it keeps to the
    /// keys that it is called with.
    pub fn is_proven(&self, judge: impl FnOnce(&[Vec<Word>]) -> bool) -> bool {
        *self.is_proven.get_or_init(|| {
            let told = || text::calls(self.code(), false).map(Arc::from);
            self.calls.get_or_init(told).as_deref().is_some_and(judge)
        })
    }

    /// It touched something else. That is not forgotten.
    pub fn strayed(&self) {
        self.habits.store(WILD, Ordering::Relaxed);
    }

    /// It came to its end.
    pub fn ended(&self) {
        if self.habits.load(Ordering::Relaxed) != 0 {
            return;
        }
        let (new, old) = (Ordering::Relaxed, Ordering::Relaxed);
        let _known = self.habits.compare_exchange(0, TAME, new, old);
    }
}

impl ScriptFlags {
    /// Redis: evalExtractShebangFlags.
    fn parse(text: &[u8]) -> Result<ScriptFlags, CmdError> {
        let mut flags = ScriptFlags::default();
        if !text.starts_with(b"#!") {
            return Ok(flags);
        }
        let Some(end) = text.iter().position(|&byte| byte == b'\n') else {
            return Err(CmdError::Text("ERR Invalid script shebang"));
        };
        flags.declared = true;
        let mut words = text[..end]
            .split(u8::is_ascii_whitespace)
            .filter(|word| !word.is_empty());
        match words.next() {
            Some(b"#!lua") => {}
            engine => {
                let engine = engine.unwrap_or_default();
                return Err(CmdError::quoting(&[
                    b"ERR Unexpected engine in script shebang: ",
                    engine,
                ]));
            }
        }
        for word in words {
            let Some(names) = word.strip_prefix(b"flags=") else {
                return Err(CmdError::quoting(&[
                    b"ERR Unknown lua shebang option: ",
                    word,
                ]));
            };
            let names = names.split(|&byte| byte == b',');
            for name in names {
                match name {
                    // `flags=` alone.
                    b"" if word == b"flags=" => {}
                    b"no-writes" => flags.no_writes = true,
                    b"allow-oom" => flags.allow_oom = true,
                    b"allow-stale" => flags.allow_stale = true,
                    b"no-cluster" | b"allow-cross-slot-keys" => {}
                    _ => {
                        return Err(CmdError::quoting(&[
                            b"ERR Unexpected flag in script shebang: ",
                            name,
                        ]));
                    }
                }
            }
        }
        Ok(flags)
    }
}

/// All scripts of the process. Shards look here when a script is new to them: rarely.
#[derive(Debug, Default)]
pub struct Store {
    scripts: Mutex<AHashMap<Digest, Arc<Script>>>,
    generation: AtomicU64,
}

impl Store {
    fn lock(&self) -> MutexGuard<'_, AHashMap<Digest, Arc<Script>>> {
        // Nothing that is done under the lock can fail half way.
        self.scripts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn find(&self, name: &Digest) -> Option<Arc<Script>> {
        self.lock().get(name).cloned()
    }

    pub fn add(&self, script: Arc<Script>) {
        self.lock().entry(script.name).or_insert(script);
    }

    /// Forgets all.
    pub fn clear(&self) {
        self.lock().clear();
        self.generation.fetch_add(1, Ordering::Release);
    }

    /// Rises when scripts are forgotten.
    pub fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    /// Number of scripts, and the memory that they take.
    pub fn figures(&self) -> (usize, usize) {
        let scripts = self.lock();
        let each = size_of::<Script>() + size_of::<(Digest, Arc<Script>)>();
        let bytes = scripts.values().map(|script| script.text.len() + each);
        (scripts.len(), bytes.sum())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_the_sha1_of_the_text() {
        let name = digest(b"return 1");
        assert_eq!(&name, b"e0e1f9fabfc9d4800c877a703b823ac0578ff8db");
    }

    #[test]
    fn first_lines() {
        let flags = |text: &str| Script::new(text.as_bytes()).map(|script| script.flags);
        assert_eq!(flags("return 1"), Ok(ScriptFlags::default()));
        let declared = ScriptFlags {
            declared: true,
            ..ScriptFlags::default()
        };
        assert_eq!(flags("#!lua\nreturn 1"), Ok(declared));
        assert_eq!(flags("#!lua flags=\nreturn 1"), Ok(declared));
        let both = ScriptFlags {
            declared: true,
            no_writes: true,
            allow_oom: true,
            allow_stale: false,
        };
        assert_eq!(flags("#!lua flags=no-writes,allow-oom\nreturn 1"), Ok(both));
        for (text, error) in [
            ("#!lua", "ERR Invalid script shebang"),
            (
                "#!not-lua\nreturn 1",
                "ERR Unexpected engine in script shebang: #!not-lua",
            ),
            (
                "#!lua name=f\nreturn 1",
                "ERR Unknown lua shebang option: name=f",
            ),
            (
                "#!lua flags=x\nreturn 1",
                "ERR Unexpected flag in script shebang: x",
            ),
        ] {
            let refusal = flags(text).expect_err(text);
            assert_eq!(refusal.to_string(), error);
        }
    }

    #[test]
    fn the_first_line_is_no_code_but_counts() {
        let script = Script::new(b"#!lua\nreturn 1").expect("valid");
        assert_eq!(script.code(), b"\nreturn 1");
    }

    #[test]
    fn straying_is_not_forgotten() {
        let script = Script::new(b"return 1").expect("valid");
        assert!(!script.is_tame());
        script.ended();
        assert!(script.is_tame());
        script.strayed();
        script.ended();
        assert!(!script.is_tame());
    }
}
