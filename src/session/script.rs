//! Scripts of one session: EVAL and what it asks for, command by command.
//!
//! A script is one unit: nobody sees its changes before its end, or changes what it reads. If all
//! its keys are on this shard and it keeps to them, it runs here in one go. Otherwise it is a
//! transaction whose commands are not known beforehand: all shards are held while it runs, or just
//! the keys it was called with if it never touched others, and what it asks for runs on its home.
//! A script that leaves its keys for the first time starts again with everything held, as long as
//! it has changed nothing.

use std::sync::Arc;

use super::core::Core;
use super::link::{Admission, Host, Link, Performed};
use super::requests::Next;
use crate::command::generic::ordered_for_script;
use crate::command::script::{self as command_script, declared_keys, function_keys};
use crate::command::{Client, Command, CommandId, Entry, Job, Lookup, Run, flags, keys};
use crate::coordinator::{everything_of, holds_on};
use crate::resp::{ArgBuf, Args, CmdError, Output, Proto, Writer};
use crate::script::late::{Kind, LateScript, LateScripts, Lateness};
use crate::script::library::Libraries;
use crate::script::{Digest, Engine, Script, Step, Store};
use crate::shard::message::{HoldOn, HopCall, Request, SessionKey};
use crate::shard::{Call, Room};

const NO_SCRIPT: CmdError = CmdError::Text("NOSCRIPT No matching script. Please use EVAL.");
// Differs: On several shards, a script that changed something, and then for the first time touches a
// key that it was not called with, gets an error.
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
    /// Of the server, for redis.REDIS_VERSION.
    pub version: &'static str,
    /// Seed of `math.random`.
    pub seed: u64,
    /// `busy-reply-threshold` in nanoseconds: how long a script may keep others waiting.
    pub busy_ns: u64,
    /// Scripts may also run what is not for scripts: DEBUG SET-DISABLE-DENY-SCRIPTS.
    pub allows_all: bool,
    /// Those of all cores that have run for longer.
    pub late: Arc<LateScripts>,
    engine: Option<Box<Engine>>,
}

impl Default for Scripts {
    fn default() -> Scripts {
        Scripts {
            store: Arc::default(),
            libraries: Arc::default(),
            version: "0.0.0",
            seed: 0,
            busy_ns: u64::MAX,
            allows_all: false,
            late: Arc::default(),
            engine: None,
        }
    }
}

impl Scripts {
    /// The interpreter, made when it is first needed: most servers run no script.
    pub(super) fn engine(&mut self, clock: fn() -> u64) -> Result<&mut Engine, CmdError> {
        let engine = match self.engine.take() {
            Some(engine) => engine,
            None => Box::new(Engine::new(self.version, clock, self.seed)?),
        };
        Ok(self.engine.insert(engine))
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

/// What `Run::Client` runs.
type RunClient = fn(&mut Client, &Args, &mut Writer) -> Result<(), CmdError>;

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
    begun_ns: u64,
    /// When it is late, once it runs; and that it is.
    late_ns: Option<u64>,
    pub(super) late: Option<Lateness>,
    /// When others get their turn, once it is late.
    pub(super) slice_ns: Option<u64>,
    /// The command that it asks for, and the reply to that.
    asked: ArgBuf,
    reply: Option<Output>,
    out: Output,
}

impl Scripted {
    /// What says that it may write is not even begun while nothing may be written. Redis: script.c
    /// scriptPrepareForRun.
    pub(super) fn admitted(self, key: SessionKey, host: &dyn Host) -> Result<Scripted, CmdError> {
        let own = self.script.flags;
        if host.is_watching()
            && own.declared
            && !own.no_writes
            && let Some(error) = host.refuses_writes(key)
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

/// What became of a command that a script asked for.
enum Asked {
    Answered(Output),
    Waits,
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

    /// The reply of a command, or of one that was refused, arrived.
    pub(super) fn answered(&mut self, reply: Result<Output, CmdError>) {
        self.reply = Some(reply.unwrap_or_else(|error| refusal(&error)));
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
        if self.wrote {
            late.wrote();
        }
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

/// Whether a command that a script may run asks to wait, which a script may not. Redis: xreadCommand.
fn waits(command: &Command, args: &Args) -> bool {
    let patience = command.block.map(|block| (block.patience)(args));
    matches!(patience, Some(Ok(Some(_))))
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
            Err(error) => self.fail(key, call.id, &error, link),
            Ok(()) => {
                self.shard.stats.ran(call.id, 0, false);
                self.reply(key, link, |writer| writer.raw(&out.bytes))
            }
        }
    }

    /// SCRIPT and its subcommands.
    pub(super) fn about_scripts(
        &mut self,
        what: command_script::Script,
        args: &Args,
        out: &mut Writer,
    ) -> Result<(), CmdError> {
        use command_script::Script::*;
        let clock = self.shard.clock();
        let store = self.scripts.store.clone();
        match what {
            Eval { .. } | Call { .. } => Err(CmdError::Syntax),
            Load => {
                let script = self.scripts.engine(clock)?.load(args.get(2), &store)?;
                out.bulk(&script.name)
            }
            Exists => {
                out.array(args.len() - 2)?;
                args.iter().skip(2).try_for_each(|name| {
                    let known = named(name).is_some_and(|name| store.find(&name).is_some());
                    out.int(i64::from(known))
                })
            }
            Flush => match args.len() {
                2 => {
                    store.clear();
                    out.ok()
                }
                3 if args.is(2, "sync") || args.is(2, "async") => {
                    store.clear();
                    out.ok()
                }
                _ => Err(CmdError::Text(
                    "ERR SCRIPT FLUSH only support SYNC|ASYNC option",
                )),
            },
            Kill => {
                self.scripts.late.kill(Kind::Eval)?;
                out.ok()
            }
            Debug if args.is(2, "no") => out.ok(),
            Debug if args.is(2, "yes") || args.is(2, "sync") => {
                Err(CmdError::Text("ERR The Lua debugger is not supported"))
            }
            Debug => Err(CmdError::Text("ERR Use SCRIPT DEBUG YES/SYNC/NO")),
        }
    }

    /// Runs a script with as little held as it needs.
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
        self.show_script(key, args, None, link, host);
        let begun = self.begin_script(key, call, args, link.now_ms());
        let mut scripted = match begun.and_then(|scripted| scripted.admitted(key, host)) {
            Ok(scripted) => Box::new(scripted),
            Err(error) => return self.fail(key, call.id, &error, link),
        };
        let place = self.shard.place;
        if place.shards == 1 && self.shard.is_unheld() {
            return self.eval_here(key, scripted, link, host);
        }
        let words = scripted.words.as_args();
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
                return match self.eval_again(key, &scripted, link) {
                    Ok(next) => next,
                    Err(error) => self.fail(key, scripted.call.id, &error, link),
                };
            }
            progress @ (Progress::Waits | Progress::Paused) => {
                let request = self.request_of(key, &scripted, link);
                return self.suspend(key, (request, records), scripted, progress);
            }
            Progress::Done => {}
        }
        self.shard.keyspace.effects.wrap_transaction(records);
        let now_ms = link.now_ms();
        self.shard
            .serve_waiting(now_ms, &mut |to, message| link.post(to, message));
        self.end_script(key, &scripted, link, host);
        self.put_out(key, &scripted.out, link);
        self.check_drain(key, link)
    }

    /// Takes holds, and runs the script under them.
    fn eval_held(
        &mut self,
        key: SessionKey,
        scripted: Box<Scripted>,
        scopes: Vec<(usize, HoldOn)>,
        link: &mut dyn Link,
    ) -> Next {
        let request = self.request_of(key, &scripted, link);
        self.await_script(key, request, scripted, scopes, link)
    }

    /// EVAL itself.
    fn request_of(&self, key: SessionKey, scripted: &Scripted, link: &dyn Link) -> Arc<Request> {
        let words = scripted.words.clone();
        let proto = scripted.client.proto;
        Arc::new(self.request_by(key, scripted, (scripted.call, words, proto), link))
    }

    /// What a script's client asks for.
    fn request_by(
        &self,
        key: SessionKey,
        scripted: &Scripted,
        (call, args, proto): (HopCall, ArgBuf, Proto),
        link: &dyn Link,
    ) -> Request {
        Request {
            call,
            args,
            db: scripted.client.db,
            databases: scripted.client.databases,
            proto,
            now_ms: link.now_ms(),
            no_touch: scripted.client.no_touch,
            by: (self.shard.place.shard, key),
            ticket: None,
            classes: self.shard.keyspace.effects.classes,
            watcher: None,
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
        Ok(self.eval_held(key, Box::new(again), everything, link))
    }

    /// What an EVAL or FCALL runs, where its keys are, and whether it may not write.
    fn find_script(
        &mut self,
        call: HopCall,
        args: &Args,
    ) -> Result<(Arc<Script>, std::ops::Range<usize>, bool), CmdError> {
        let clock = self.shard.clock();
        let store = self.scripts.store.clone();
        let libraries = self.scripts.libraries.clone();
        let engine = self.scripts.engine(clock)?;
        match call.command.run {
            Run::Script(command_script::Script::Eval { by_name, read_only }) => {
                let declared = declared_keys(args)?;
                let script = match by_name {
                    true => named(args.get(1))
                        .and_then(|name| engine.find(&name, &store))
                        .ok_or(NO_SCRIPT)?,
                    false => engine.load(args.get(1), &store)?,
                };
                Ok((script, declared, read_only))
            }
            Run::Script(command_script::Script::Call { read_only }) => {
                let script = engine.find_function(args.get(1), &libraries)?;
                Ok((script, function_keys(args)?, read_only))
            }
            _ => Err(CmdError::Syntax),
        }
    }

    /// Checks an EVAL or FCALL and prepares its script.
    pub(super) fn begin_script(
        &mut self,
        key: SessionKey,
        call: HopCall,
        args: &Args,
        now_ms: i64,
    ) -> Result<Scripted, CmdError> {
        let (script, declared, read_only) = self.find_script(call, args)?;
        let own = script.flags;
        if own.declared && !own.no_writes && read_only {
            return Err(CmdError::Text(
                "ERR Can not execute a script with write flag using *_ro command.",
            ));
        }
        let keys = args.range(declared.start, declared.end);
        let clock = self.shard.clock();
        let engine = self.scripts.engine(clock)?;
        let run = engine.begin(&script, &keys, &args.from(declared.end))?;
        let lacks_memory = self.shard.make_room(now_ms) == Room::Nowhere;
        if lacks_memory && own.declared && !own.allow_oom && !own.no_writes {
            return Err(CmdError::Text(
                "OOM allow-oom flag is not set on the script, can not run it when used memory > \
                 'maxmemory'",
            ));
        }
        let session = self.session(key).map(|session| &session.client);
        let client = Client {
            id: session.map_or(0, |client| client.id),
            db: session.map_or(0, |client| client.db),
            databases: session.map_or(1, |client| client.databases),
            proto: session.map_or(Proto::Resp2, |client| client.proto),
            no_touch: session.is_some_and(|client| client.no_touch),
            authenticated: true,
            ..Client::default()
        };
        Ok(Scripted {
            read_only: read_only || own.declared && own.no_writes,
            script,
            run,
            words: args.to_buf(),
            declared,
            reach: Reach::All,
            call,
            client,
            lacks_memory: lacks_memory && !own.allow_oom,
            wrote: false,
            begun_ns: self.shard.last_ns(),
            late_ns: None,
            late: None,
            slice_ns: None,
            asked: ArgBuf::default(),
            reply: None,
            out: Output::default(),
        })
    }

    /// Lets a script run until it ends or has to wait; its reply is in its output then. `held`: the
    /// coordinator's work under whose holds it runs.
    pub(super) fn run_script(
        &mut self,
        key: SessionKey,
        scripted: &mut Scripted,
        held: Option<u64>,
        link: &mut dyn Link,
        host: &mut dyn Host,
    ) -> Progress {
        let clock = self.shard.clock();
        loop {
            let until_ns = match self.time_left(scripted, held, link, host) {
                Ok(until_ns) => until_ns,
                Err(progress) => return progress,
            };
            let reply = scripted.reply.take();
            let mut asked = std::mem::take(&mut scripted.asked);
            let mut out = std::mem::take(&mut scripted.out);
            let step = match self.scripts.engine(clock) {
                Ok(engine) => {
                    let mut writer = Writer::new(&mut out, scripted.client.proto);
                    let whole = reply.as_ref().map(Output::to_cow);
                    let reply = whole.as_deref();
                    engine.resume(&mut scripted.run, reply, until_ns, &mut asked, &mut writer)
                }
                Err(error) => {
                    out = refusal(&error);
                    Step::Done { counted: false }
                }
            };
            (scripted.asked, scripted.out) = (asked, out);
            self.log_lines(host);
            let call = match step {
                Step::Call => true,
                Step::Check => false,
                Step::Paused => {
                    self.shard.start_clock();
                    continue;
                }
                Step::Done { counted } => {
                    if !counted {
                        self.shard.stats.note_error(&scripted.out.bytes);
                    }
                    scripted.script.ended();
                    return Progress::Done;
                }
            };
            let words = std::mem::take(&mut scripted.asked);
            let asked = match call {
                true => self.ask(key, scripted, &words.as_args(), held, link, host),
                false => Asked::Answered(self.check_from_script(key, &words.as_args())),
            };
            scripted.asked = words;
            match asked {
                Asked::Answered(reply) => scripted.reply = Some(reply),
                Asked::Waits => return Progress::Waits,
                Asked::Strayed => return Progress::Strayed,
            }
        }
    }

    /// Ends a script where it stands.
    pub(super) fn kill_script(&mut self, scripted: &mut Scripted) {
        let clock = self.shard.clock();
        let mut writer = Writer::new(&mut scripted.out, scripted.client.proto);
        if let Ok(engine) = self.scripts.engine(clock) {
            engine.kill(&scripted.run, &mut writer);
        }
        self.shard.stats.note_error(&scripted.out.bytes);
    }

    /// Counts a script that is over, and notes it if it was slow.
    pub(super) fn end_script(
        &mut self,
        key: SessionKey,
        scripted: &Scripted,
        link: &mut dyn Link,
        host: &mut dyn Host,
    ) {
        self.shard.start_clock();
        let spent_ns = self.shard.last_ns().saturating_sub(scripted.begun_ns);
        let failed = scripted.out.bytes.first() == Some(&b'-');
        self.shard.stats.ran(scripted.call.id, spent_ns, failed);
        if spent_ns >= self.limits.slow_ns {
            host.slow(self, link, key, &scripted.words.as_args(), spent_ns);
        }
    }

    fn log_lines(&mut self, host: &mut dyn Host) {
        let lines = self.scripts.engine.as_deref_mut().map(Engine::take_log);
        for (level, text) in lines.into_iter().flatten() {
            host.log(level, &text);
        }
    }

    /// Whether a script may run this command now. Redis: scriptCall in script.c.
    fn admit_from_script(
        &mut self,
        key: SessionKey,
        scripted: &Scripted,
        args: &Args,
        link: &mut dyn Link,
        host: &mut dyn Host,
    ) -> Result<CommandId, CmdError> {
        let table = self.table.clone();
        let entry: &Entry = match table.lookup(args) {
            Lookup::Found(entry) => entry,
            Lookup::Error(CmdError::Arity(_)) => {
                return Err(CmdError::Text(
                    "ERR Wrong number of args calling Redis command from script",
                ));
            }
            Lookup::Error(_) => {
                return Err(CmdError::Text(
                    "ERR Unknown Redis command called from script",
                ));
            }
        };
        let command = entry.command;
        let refused = if command.flags & flags::NOSCRIPT != 0 && !self.scripts.allows_all {
            Some(CmdError::Text(
                "ERR This Redis command is not allowed from script",
            ))
        } else if let Some(error) = self.refuse_in_script(key, entry.id, args, link, host) {
            Some(error)
        } else if scripted.read_only && command.flags & (flags::WRITE | flags::MAY_REPLICATE) != 0 {
            Some(CmdError::Text(
                "ERR Write commands are not allowed from read-only scripts.",
            ))
        } else if waits(command, args) {
            Some(CmdError::owned(format!(
                "ERR {} command is not allowed with BLOCK option from scripts",
                command.name
            )))
        } else if scripted.wrote || !command.is_write() {
            // A script that has changed something is not stopped half way.
            None
        } else if host.is_watching()
            && let Admission::Refuse(error) = host.admit(self, link, key, entry, args)
        {
            Some(error)
        } else if scripted.lacks_memory && command.flags & flags::DENYOOM != 0 {
            Some(CmdError::Oom)
        } else {
            None
        };
        match refused {
            None => Ok(entry.id),
            Some(error) => {
                self.count_rejected(entry.id);
                Err(error)
            }
        }
    }

    /// Carries out a command that a script asked for, or sends it on its way.
    fn ask(
        &mut self,
        key: SessionKey,
        scripted: &mut Scripted,
        args: &Args,
        held: Option<u64>,
        link: &mut dyn Link,
        host: &mut dyn Host,
    ) -> Asked {
        let id = match self.admit_from_script(key, scripted, args, link, host) {
            Ok(id) => id,
            Err(error) => {
                self.shard.stats.note_error_text(&error.text());
                return Asked::Answered(refusal(&error));
            }
        };
        let command = self.table.entry(id).command;
        if !matches!(command.run, Run::Client(_)) {
            self.show_script(key, args, Some((id, scripted.client.db)), link, host);
        }
        let ordered = ordered_for_script(command, args);
        let args = &ordered.as_ref().map_or(*args, ArgBuf::as_args);
        let session = self.session(key);
        let call = HopCall {
            command,
            id,
            from: 0,
            to: args.len() as u32,
            tracks: session.is_some_and(|session| session.client.tracks(command)),
        };
        if let Some(asked) = self.keep_within(scripted, call, args, held) {
            return asked;
        }
        match command.run {
            Run::Client(run) => {
                let reply = self.ask_client(key, scripted, (id, run), args, link, host);
                Asked::Answered(reply)
            }
            Run::Job(job) => {
                // What comes before a PUBLISH is told before it.
                if let Some(held) = held {
                    self.coordinator.tell_so_far(held);
                    self.tell();
                }
                let mut out = Output::default();
                // The reply is for the script, which may speak another protocol than its client.
                let spoken = self.speak(key, scripted.run.proto);
                let performed = host.perform(self, link, key, job, args, &mut out);
                self.speak(key, spoken);
                let failed = matches!(performed, Performed::Failed(_));
                self.shard.stats.ran(id, 0, failed);
                match performed {
                    Performed::Later => Asked::Waits,
                    Performed::Done => Asked::Answered(out),
                    Performed::Failed(error) => {
                        self.shard.stats.note_error_text(&error.text());
                        Asked::Answered(refusal(&error))
                    }
                }
            }
            Run::Container | Run::Transaction(_) | Run::Script(_) => Asked::Answered(refusal(
                &CmdError::Text("ERR This Redis command is not allowed from script"),
            )),
            _ => match held {
                None => Asked::Answered(self.ask_here(key, scripted, call, args, link)),
                Some(under) => self.ask_elsewhere(key, scripted, call, args, under, link),
            },
        }
    }

    /// Lets a session speak a protocol; returns the one that it spoke before.
    fn speak(&mut self, key: SessionKey, proto: Proto) -> Proto {
        self.session_mut(key).map_or(proto, |session| {
            std::mem::replace(&mut session.client.proto, proto)
        })
    }

    /// A command about the state of the script's client.
    fn ask_client(
        &mut self,
        key: SessionKey,
        scripted: &mut Scripted,
        (id, run): (CommandId, RunClient),
        args: &Args,
        link: &mut dyn Link,
        host: &mut dyn Host,
    ) -> Output {
        let mut out = Output::default();
        let mut writer = Writer::new(&mut out, scripted.run.proto);
        let done = run(&mut scripted.client, args, &mut writer);
        // SELECT is shown in the database that it selected.
        self.show_script(key, args, Some((id, scripted.client.db)), link, host);
        self.shard.stats.ran(id, 0, done.is_err());
        match done {
            Ok(()) => out,
            Err(error) => {
                self.shard.stats.note_error_text(&error.text());
                refusal(&error)
            }
        }
    }

    /// Shows a script to who watches, or, with its database, a command that it asks for.
    pub(super) fn show_script(
        &mut self,
        key: SessionKey,
        args: &Args,
        inner: Option<(CommandId, u32)>,
        link: &mut dyn Link,
        host: &mut dyn Host,
    ) {
        if !host.is_watching() {
            return;
        }
        let hides =
            |id| self.table.entry(id).command.flags & (flags::SKIP_MONITOR | flags::ADMIN) != 0;
        if inner.is_none_or(|(id, _)| !hides(id)) {
            host.show_script(self, link, key, args, inner.map(|(_, db)| db));
        }
    }

    /// Notes what a script is about to do; what becomes of its command if it may not now.
    fn keep_within(
        &self,
        scripted: &mut Scripted,
        call: HopCall,
        args: &Args,
        held: Option<u64>,
    ) -> Option<Asked> {
        let command = call.command;
        if let Run::Job(job) = command.run {
            // Asked for while nothing is held, it would let others in between.
            if held.is_none() && self.shard.place.shards > 1 && job != Job::Time {
                scripted.script.strayed();
                if !scripted.wrote {
                    return Some(Asked::Strayed);
                }
            }
        } else if !matches!(command.run, Run::Client(_)) {
            if self.strays(scripted, call, args) {
                scripted.script.strayed();
                match (scripted.reach, scripted.wrote) {
                    (Reach::All, _) => {}
                    (Reach::Declared, false) => return Some(Asked::Strayed),
                    (Reach::Declared, true) => return Some(Asked::Answered(refusal(&STRAYED))),
                }
            }
            scripted.wrote |= command.is_write();
            if let Some(late) = scripted.late.as_ref().filter(|_| scripted.wrote) {
                late.script.wrote();
            }
        }
        None
    }

    /// Whether a command reaches beyond the keys that the script was called with.
    fn strays(&self, scripted: &Scripted, call: HopCall, args: &Args) -> bool {
        if self.shard.place.shards == 1 {
            return false;
        }
        call.command.needs_everything(args) || {
            let positions = keys::positions(call.command.keys, args).unwrap_or_default();
            !scripted.declares(&positions, args)
        }
    }

    fn ask_here(
        &mut self,
        key: SessionKey,
        scripted: &Scripted,
        call: HopCall,
        args: &Args,
        link: &mut dyn Link,
    ) -> Output {
        let mut out = Output::default();
        let call = Call {
            command: call.command,
            id: call.id,
            args: *args,
            db: scripted.client.db,
            proto: scripted.run.proto,
            no_touch: scripted.client.no_touch,
            by: (self.shard.place.shard, key),
            tracks: call.tracks,
        };
        self.shard.start_clock();
        self.shard.run(&call, link.now_ms(), &mut out);
        self.shard.stats.note_error(&out.bytes);
        out
    }

    fn ask_elsewhere(
        &mut self,
        key: SessionKey,
        scripted: &Scripted,
        call: HopCall,
        args: &Args,
        under: u64,
        link: &mut dyn Link,
    ) -> Asked {
        let what = (call, args.to_buf(), scripted.run.proto);
        let request = self.request_by(key, scripted, what, link);
        match self.start_held(key, scripted.call, request, under, link) {
            Ok(None) => Asked::Waits,
            Ok(Some(reply)) => Asked::Answered(reply.unwrap_or_else(|error| refusal(&error))),
            Err(error) => Asked::Answered(refusal(&error)),
        }
    }
}
