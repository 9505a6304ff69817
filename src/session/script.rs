//! Scripts of one session: EVAL and what it asks for, command by command.
//!
//! A script is one unit: nobody sees its changes before its end, or changes what it reads. If all
//! its keys are on this shard and it keeps to them, it runs here in one go. Otherwise it is a
//! transaction whose commands are not known beforehand: all shards are held while it runs, or just
//! the keys it was called with if it never touched others, and what it asks for runs on its home.
//! A script that leaves its keys starts again with everything held, as long as it has changed
//! nothing. So that it never does after that, none changes anything under less unless its text
//! proves that it keeps to its keys.
//!
//! Here is what a script under way knows, and what is held for it. `run` drives the engine, `ask`
//! carries out what it asks for, `about` is SCRIPT.

mod about;
mod ask;
mod proof;
mod run;

use std::sync::Arc;

use super::core::Core;
use super::link::{Host, Link};
use super::requests::Next;
use crate::command::Client;
use crate::command::script::{self as command_script};
use crate::coordinator::{everything_of, holds_on};
use crate::keyspace::Audience;
use crate::resp::{ArgBuf, Args, CmdError, Output, Proto, Writer};
use crate::script::late::{LateScript, LateScripts, Lateness};
use crate::script::library::Libraries;
use crate::script::{Digest, Engine, Manner, Script, Store};
use crate::shard::message::{self, HoldOn, HopCall, Request, SessionKey};

const NO_SCRIPT: CmdError = CmdError::Text("NOSCRIPT No matching script. Please use EVAL.");
// For what the proof did not see. Better than that others see half of its changes.
const STRAYED: CmdError = CmdError::Text(
    "ERR Script attempted to access a key that it was not called with, after it had changed others",
);

/// What a core knows of scripts.
#[derive(Debug)]
pub struct Scripts {
    /// Those of the whole process.
    pub store: Arc<Store>,
    /// Libraries of the whole process.
    pub libraries: Arc<Libraries>,
    /// What interpreters are made with.
    pub manner: Manner,
    /// `busy-reply-threshold` in nanoseconds: how long a script may keep others waiting.
    pub busy_ns: u64,
    /// Scripts may also run what is not for scripts: DEBUG SET-DISABLE-DENY-SCRIPTS.
    pub allows_all: bool,
    /// Those of all cores that have run for longer.
    pub late: Arc<LateScripts>,
    engine: Option<Box<Engine>>,
    spare: Spare,
}

/// Buffers of the script that was over last, for the next one.
#[derive(Debug, Default)]
struct Spare {
    words: ArgBuf,
    asked: ArgBuf,
    reply: Output,
}

/// A larger buffer is given back at once.
const SPARE_MAX_BYTES: usize = 16 * 1024;

impl Default for Scripts {
    fn default() -> Scripts {
        Scripts {
            store: Arc::default(),
            libraries: Arc::default(),
            manner: Manner::default(),
            busy_ns: u64::MAX,
            allows_all: false,
            late: Arc::default(),
            engine: None,
            spare: Spare::default(),
        }
    }
}

impl Scripts {
    /// The interpreter, made when it is first needed: most servers run no script.
    pub(super) fn engine(&mut self, clock: fn() -> u64) -> Result<&mut Engine, CmdError> {
        let engine = match self.engine.take() {
            Some(engine) => engine,
            None => Box::new(Engine::new(self.manner, clock)?),
        };
        Ok(self.engine.insert(engine))
    }

    /// Forgets all scripts. The interpreters of other cores do it once they are used again.
    fn flush(&mut self) {
        self.store.clear();
        if let Some(engine) = &mut self.engine {
            engine.forget_old(&self.store);
        }
    }

    /// Keeps the buffers of a script that is over.
    fn keep_spare(&mut self, over: &mut Scripted) {
        let words = std::mem::take(&mut over.words);
        if words.memory_bytes() <= SPARE_MAX_BYTES {
            self.spare.words = words;
        }
        let asked = std::mem::take(&mut over.asked);
        if asked.memory_bytes() <= SPARE_MAX_BYTES {
            self.spare.asked = asked;
        }
        self.spare.reply = std::mem::take(&mut over.spare);
    }

    /// Memory of this core's interpreter, bytes.
    pub fn engine_bytes(&self) -> usize {
        self.engine
            .as_ref()
            .map_or(0, |engine| engine.memory_bytes())
    }
}

/// How far the keys that a script may touch reach.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reach {
    /// Everything is its own: there is one shard, or all are held.
    All,
    /// Those that it was called with.
    Declared,
}

/// A script under way.
#[derive(Debug)]
pub struct Scripted {
    script: Arc<Script>,
    run: crate::script::Run,
    /// EVAL with all its arguments, of which these are keys.
    words: ArgBuf,
    declared: std::ops::Range<usize>,
    reach: Reach,
    call: HopCall,
    /// The state of the client that the commands seem to come from.
    client: Client,
    read_only: bool,
    /// There was no memory for more when it began, and it may not do without.
    lacks_memory: bool,
    wrote: bool,
    /// Its client was noted as a reader of the declared keys.
    has_read: bool,
    /// Its time, which stands still: unix milliseconds. Redis: script.c scriptTimeSnapshot.
    now_ms: i64,
    begun_ns: u64,
    /// When it is late, once it runs; and that it is.
    late_ns: Option<u64>,
    pub(super) late: Option<Lateness>,
    /// When others get their turn, once it is late.
    pub(super) slice_ns: Option<u64>,
    /// The command that it asks for, and the reply to that.
    asked: ArgBuf,
    reply: Option<Output>,
    /// For the next reply.
    spare: Output,
    out: Output,
}

impl Scripted {
    /// What says that it may write is not even begun while nothing may be written, and what does not
    /// say that it may read old data while there is nothing else. Redis: script.c scriptPrepareForRun.
    pub(super) fn admitted(
        self: Box<Self>,
        key: SessionKey,
        host: &dyn Host,
    ) -> Result<Box<Scripted>, CmdError> {
        let own = self.script.flags;
        if host.is_watching()
            && own.declared
            && !own.no_writes
            && let Some(error) = host.refuses_writes(key)
        {
            return Err(error);
        }
        if host.is_watching()
            && !own.allow_stale
            && let Some(error) = host.refuses_reads(key)
        {
            return Err(error);
        }
        Ok(self)
    }
}

/// Where a script stands.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Progress {
    Done,
    /// What it asked for is under way elsewhere.
    Waits,
    /// Others get their turn.
    Paused,
    /// It needs keys that are not held, and has changed nothing.
    Strayed,
}

impl Scripted {
    /// Whether the script was called with all these keys.
    fn declares(&self, positions: &[usize], args: &Args) -> bool {
        let words = self.words.as_args();
        positions.iter().all(|&at| {
            let key = args.get(at);
            self.declared.clone().any(|at| words.get(at) == key)
        })
    }

    fn declared_keys(&self) -> impl Iterator<Item = &[u8]> {
        self.words
            .as_args()
            .range(self.declared.start, self.declared.end)
            .iter()
    }

    /// On what terms its commands run.
    fn terms(&self) -> message::Scripted {
        message::Scripted {
            now_ms: self.now_ms,
            audience: Audience::from_bits(self.run.audience),
        }
    }

    /// The reply of a command, or of one that was refused, arrived.
    pub(super) fn answered(&mut self, reply: Result<Output, CmdError>) {
        self.reply = Some(reply.unwrap_or_else(|error| refusal(&error)));
    }

    /// The command that it has asked for, once that is over.
    pub(super) fn take_asked(&mut self) -> ArgBuf {
        std::mem::take(&mut self.asked)
    }

    /// When it is late; `late_ns` if it begins only now.
    pub(super) fn late_ns(&mut self, late_ns: u64) -> u64 {
        *self.late_ns.get_or_insert(late_ns)
    }

    /// What is told of it while it is late.
    pub(super) fn lateness(&self) -> LateScript {
        let words = self.words.as_args();
        let words = words.iter().map(<[u8]>::to_vec).collect();
        let late = LateScript::new(
            self.script.kind(),
            self.script.label(),
            words,
            self.begun_ns,
        );
        let is_open = !self.wrote || late.may_write();
        debug_assert!(is_open, "nobody knows of it yet");
        late
    }

    /// What it may touch of this shard.
    pub(super) fn held_here(&self) -> HoldOn {
        match self.reach {
            Reach::All => HoldOn::Everything,
            Reach::Declared => HoldOn::Keys(self.declared.clone().map(|at| at as u32).collect()),
        }
    }

    pub(super) fn output(&self) -> &Output {
        &self.out
    }
}

fn refusal(error: &CmdError) -> Output {
    let mut out = Output::default();
    let written = Writer::new(&mut out, Proto::Resp2).error(error);
    debug_assert!(written.is_ok());
    out
}

/// The digest that a client named, in any case.
fn named(text: &[u8]) -> Option<Digest> {
    let mut name: Digest = text.try_into().ok()?;
    name.make_ascii_lowercase();
    Some(name)
}

impl Core {
    pub(super) fn script(
        &mut self,
        key: SessionKey,
        what: command_script::Script,
        call: HopCall,
        args: &Args,
        link: &mut dyn Link,
        host: &mut dyn Host,
    ) -> Next {
        if what.runs() {
            return self.eval(key, call, args, link, host);
        }
        if let Some(session) = self.session_mut(key) {
            session.last_command = Some(call.id);
        }
        self.counters.commands += 1;
        let mut out = Output::default();
        let proto = self.session(key).map_or(Proto::Resp2, |s| s.client.proto);
        let done = self.about_scripts(what, args, &mut Writer::new(&mut out, proto));
        match done {
            Err(error) => self.fail(key, (call, args), &error, link, host),
            Ok(()) => {
                self.note_ran(key, (call, args), false, link, host);
                self.reply(key, link, |writer| writer.raw(&out.bytes))
            }
        }
    }

    /// Runs a script, here or where its keys are.
    fn eval(
        &mut self,
        key: SessionKey,
        call: HopCall,
        args: &Args,
        link: &mut dyn Link,
        host: &mut dyn Host,
    ) -> Next {
        if let Some(session) = self.session_mut(key) {
            session.last_command = Some(call.id);
        }
        self.counters.commands += 1;
        if let Some(home) = self.better_home(key, call, args, host) {
            return self.send_visit(key, (call, args), home, link);
        }
        self.show_script(key, args, None, link, host);
        self.place_script(key, call, args, link, host)
    }

    /// Runs it from this core, with as little held as it needs.
    pub(super) fn place_script(
        &mut self,
        key: SessionKey,
        call: HopCall,
        args: &Args,
        link: &mut dyn Link,
        host: &mut dyn Host,
    ) -> Next {
        let begun = self.begin_script(key, call, args, link.now_ms());
        let mut scripted = match begun.and_then(|scripted| scripted.admitted(key, host)) {
            Ok(scripted) => scripted,
            Err(error) => return self.fail(key, (call, args), &error, link, host),
        };
        let place = self.shard.place;
        let words = scripted.words.as_args();
        if self.shard.keyspace.is_cutting() {
            let declared = scripted.declared.clone();
            let db = self.session(key).map_or(0, |session| session.client.db);
            self.shard.guard_keys(db, declared.map(|at| words.get(at)));
        }
        if place.shards == 1 && self.shard.is_unheld() {
            return self.eval_here(key, scripted, link, host);
        }
        let declared: Vec<usize> = scripted.declared.clone().collect();
        let is_tame = scripted.script.is_tame() && !declared.is_empty();
        if !is_tame || place.shards == 1 {
            let everything = everything_of(place.shards);
            return self.eval_held(key, scripted, everything, link);
        }
        let scopes = holds_on(&declared, &words, place.shards);
        let mut names = declared.iter().map(|&at| words.get(at));
        let is_here = matches!(scopes[..], [(home, _)] if home == place.shard)
            && !self.shard.blocks(&mut names);
        scripted.reach = Reach::Declared;
        match is_here {
            true => self.eval_here(key, scripted, link, host),
            false => self.eval_held(key, scripted, scopes, link),
        }
    }

    /// Everything the script may touch is on this shard, and free.
    fn eval_here(
        &mut self,
        key: SessionKey,
        mut scripted: Box<Scripted>,
        link: &mut dyn Link,
        host: &mut dyn Host,
    ) -> Next {
        let records = self.shard.keyspace.effects.records.len();
        match self.run_script(key, &mut scripted, None, link, host) {
            Progress::Strayed => {
                let again = (scripted.call, &scripted.words.as_args());
                return match self.eval_again(key, &scripted, link) {
                    Ok(next) => next,
                    Err(error) => self.fail(key, again, &error, link, host),
                };
            }
            progress @ (Progress::Waits | Progress::Paused) => {
                let request = self.request_of(key, &scripted);
                return self.suspend(key, (request, records), scripted, progress);
            }
            Progress::Done => {}
        }
        self.shard.keyspace.effects.wrap_transaction(records);
        let now_ms = link.now_ms();
        self.shard
            .serve_waiting(now_ms, &mut |to, message| link.post(to, message));
        self.end_script(key, &scripted, link, host);
        self.note_own_sight(key);
        let is_out = self.hand_out_whole(key, &mut scripted.out, link, host);
        self.scripts.keep_spare(&mut scripted);
        match self.session(key) {
            Some(_) if is_out => self.check_drain(key, link),
            _ => Next::Wait,
        }
    }

    /// Takes holds, and runs the script under them.
    fn eval_held(
        &mut self,
        key: SessionKey,
        scripted: Box<Scripted>,
        scopes: Vec<(usize, HoldOn)>,
        link: &mut dyn Link,
    ) -> Next {
        let request = self.request_of(key, &scripted);
        self.await_script(key, request, scripted, scopes, link)
    }

    /// EVAL itself.
    fn request_of(&self, key: SessionKey, scripted: &Scripted) -> Arc<Request> {
        let words = scripted.words.clone();
        let proto = scripted.client.proto;
        Arc::new(self.request_by(key, scripted, (scripted.call, words, proto)))
    }

    /// What a script's client asks for.
    fn request_by(
        &self,
        key: SessionKey,
        scripted: &Scripted,
        (call, args, proto): (HopCall, ArgBuf, Proto),
    ) -> Request {
        let by = (self.shard.place.shard, key);
        let classes = self.shard.keyspace.effects.classes;
        Request {
            proto,
            scripted: Some(scripted.terms()),
            ..Request::new(call, args, &scripted.client, by, scripted.now_ms, classes)
        }
    }

    /// The script left the keys that are held before it changed anything: everything is held now.
    pub(super) fn eval_again(
        &mut self,
        key: SessionKey,
        scripted: &Scripted,
        link: &mut dyn Link,
    ) -> Result<Next, CmdError> {
        let words = scripted.words.as_args();
        let again = self.begin_script(key, scripted.call, &words, link.now_ms())?;
        let everything = everything_of(self.shard.place.shards);
        Ok(self.eval_held(key, again, everything, link))
    }
}
