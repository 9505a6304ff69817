//! Scripts that have run for longer than `busy-reply-threshold`.
//!
//! While there is one, clients are told that the server is busy, on all shards, and may end it as
//! long as it has changed nothing.

use std::sync::atomic::{AtomicU8, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::resp::CmdError;

const BUSY_SCRIPT: CmdError = CmdError::Text(
    "BUSY Redis is busy running a script. You can only call SCRIPT KILL or SHUTDOWN NOSAVE.",
);
const BUSY_FUNCTION: CmdError = CmdError::Text(
    "BUSY Redis is busy running a script. You can only call FUNCTION KILL or SHUTDOWN NOSAVE.",
);
const NOT_BUSY: CmdError = CmdError::Text("NOTBUSY No scripts in execution right now.");
const UNKILLABLE: CmdError = CmdError::Text(
    "UNKILLABLE Sorry the script already executed write commands against the dataset. You can \
     either wait the script termination or kill the server in a hard way using the SHUTDOWN NOSAVE \
     command.",
);

/// What is to be run: the text of an EVAL, or a function by its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Eval,
    Function,
}

impl Kind {
    fn busy(self) -> CmdError {
        match self {
            Kind::Eval => BUSY_SCRIPT,
            Kind::Function => BUSY_FUNCTION,
        }
    }

    /// The command that ends one.
    pub fn killer(self) -> &'static str {
        match self {
            Kind::Eval => "SCRIPT KILL",
            Kind::Function => "FUNCTION KILL",
        }
    }
}

/// A script that takes long.
#[derive(Debug)]
pub struct LateScript {
    pub kind: Kind,
    /// Of the function, or the SHA-1 of the script.
    pub name: Vec<u8>,
    /// The command that runs it.
    pub words: Vec<Vec<u8>>,
    /// When it began, nanoseconds of the clock of durations.
    pub begun_ns: u64,
    fate: AtomicU8,
}

// What became of one, once and for all: whoever ends it is told that it has changed nothing.
const OPEN: u8 = 0;
const WROTE: u8 = 1;
const KILLED: u8 = 2;

impl LateScript {
    pub fn new(kind: Kind, name: &[u8], words: Vec<Vec<u8>>, begun_ns: u64) -> LateScript {
        LateScript {
            kind,
            name: name.to_vec(),
            words,
            begun_ns,
            fate: AtomicU8::new(OPEN),
        }
    }

    /// Whether it may change something: not if it is to end. From then on nobody can end it.
    pub fn may_write(&self) -> bool {
        self.meets(WROTE)
    }

    /// Whether it is to end.
    pub fn is_killed(&self) -> bool {
        self.fate.load(Ordering::Relaxed) == KILLED
    }

    fn kill(&self, by: Kind) -> Result<(), CmdError> {
        if self.fate.load(Ordering::Relaxed) == WROTE {
            return Err(UNKILLABLE);
        }
        if self.kind != by {
            return Err(self.kind.busy());
        }
        match self.meets(KILLED) {
            true => Ok(()),
            false => Err(UNKILLABLE),
        }
    }

    /// Whether this becomes of it, or has.
    fn meets(&self, fate: u8) -> bool {
        let relaxed = Ordering::Relaxed;
        let met = self.fate.compare_exchange(OPEN, fate, relaxed, relaxed);
        met.map_or_else(|before| before == fate, |_open| true)
    }
}

/// All of them, on all shards. Read by every command: what a shard sees late, others see a moment
/// longer.
#[derive(Debug, Default)]
pub struct LateScripts {
    count: AtomicUsize,
    scripts: Mutex<Vec<Arc<LateScript>>>,
}

impl LateScripts {
    fn lock(&self) -> MutexGuard<'_, Vec<Arc<LateScript>>> {
        // Nothing that is done under the lock can fail half way.
        self.scripts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    #[inline]
    pub fn is_any(&self) -> bool {
        self.count.load(Ordering::Relaxed) > 0
    }

    /// One of them.
    pub fn first(&self) -> Option<Arc<LateScript>> {
        self.lock().first().cloned()
    }

    /// What clients are told meanwhile.
    pub fn refusal(&self) -> Option<CmdError> {
        match self.is_any() {
            true => self.first().map(|script| script.kind.busy()),
            false => None,
        }
    }

    /// SCRIPT KILL, FUNCTION KILL: ends one that can be ended.
    ///
    /// # Errors
    /// Why there is none.
    pub fn kill(&self, by: Kind) -> Result<(), CmdError> {
        let mut refusal = None;
        for script in self.lock().iter().filter(|script| !script.is_killed()) {
            match script.kill(by) {
                Ok(()) => return Ok(()),
                Err(error) => refusal = refusal.or(Some(error)),
            }
        }
        Err(refusal.unwrap_or(NOT_BUSY))
    }

    /// A script is late from now on, as long as what this returns is kept.
    pub fn add(self: &Arc<LateScripts>, script: LateScript) -> Lateness {
        let script = Arc::new(script);
        let mut scripts = self.lock();
        scripts.push(script.clone());
        self.count.store(scripts.len(), Ordering::Relaxed);
        drop(scripts);
        Lateness {
            script,
            all: self.clone(),
        }
    }
}

/// That a script is late.
#[derive(Debug)]
pub struct Lateness {
    pub script: Arc<LateScript>,
    all: Arc<LateScripts>,
}

impl Drop for Lateness {
    fn drop(&mut self) {
        let mut scripts = self.all.lock();
        scripts.retain(|script| !Arc::ptr_eq(script, &self.script));
        self.all.count.store(scripts.len(), Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn late(kind: Kind) -> LateScript {
        LateScript::new(kind, b"x", Vec::new(), 0)
    }

    fn text(result: Result<(), CmdError>) -> String {
        result.map_or_else(|error| error.to_string(), |()| "OK".into())
    }

    #[test]
    fn a_script_is_late_until_it_is_dropped() {
        let all = Arc::new(LateScripts::default());
        assert_eq!(text(all.kill(Kind::Eval)), NOT_BUSY.to_string());
        let lateness = all.add(late(Kind::Eval));
        assert!(all.is_any());
        assert_eq!(all.refusal(), Some(BUSY_SCRIPT));
        drop(lateness);
        assert!(!all.is_any());
        assert_eq!(all.refusal(), None);
    }

    #[test]
    fn what_changed_nothing_can_be_ended_by_its_own_command() {
        let all = Arc::new(LateScripts::default());
        let script = all.add(late(Kind::Eval));
        assert_eq!(text(all.kill(Kind::Function)), BUSY_SCRIPT.to_string());
        assert_eq!(text(all.kill(Kind::Eval)), "OK");
        assert!(script.script.is_killed());
        assert!(!script.script.may_write(), "whoever ended it was told so");
        let function = all.add(late(Kind::Function));
        assert_eq!(text(all.kill(Kind::Eval)), BUSY_FUNCTION.to_string());
        assert!(function.script.may_write());
        assert_eq!(text(all.kill(Kind::Function)), UNKILLABLE.to_string());
        assert!(function.script.may_write() && !function.script.is_killed());
    }
}
