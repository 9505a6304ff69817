//! A script from its beginning to its end, on the engine of this core.

use std::sync::Arc;

use super::ask::Asked;
use super::{NO_SCRIPT, Progress, Reach, SPARE_MAX_BYTES, Scripted, Scripts, named, refusal};
use crate::command::flags::{self, Flags};
use crate::command::script::{self as command_script, declared_keys, function_keys};
use crate::command::{Command, Run};
use crate::resp::{Args, CmdError, Output, Writer};
use crate::script::{Engine, Script, Step};
use crate::session::core::Core;
use crate::session::link::{Host, Link};
use crate::shard::Room;
use crate::shard::TxId;
use crate::shard::message::{HopCall, SessionKey};

impl Core {
    /// What an EVAL or FCALL runs, where its keys are, and whether it may not write.
    fn find_script(
        &mut self,
        command: &Command,
        args: &Args,
    ) -> Result<(Arc<Script>, std::ops::Range<usize>, bool), CmdError> {
        let clock = self.shard.clock();
        self.scripts.engine(clock)?;
        let Scripts {
            store,
            libraries,
            engine: Some(engine),
            ..
        } = &mut self.scripts
        else {
            return Err(NO_SCRIPT);
        };
        match command.run {
            Run::Script(command_script::Script::Eval { by_name, read_only }) => {
                // Redis: what cannot be a digest is not known, whatever the number of keys.
                if by_name && args.get(1).len() != 40 {
                    return Err(NO_SCRIPT);
                }
                let declared = declared_keys(args)?;
                let script = match by_name {
                    true => named(args.get(1))
                        .and_then(|name| engine.find(&name, store))
                        .ok_or(NO_SCRIPT)?,
                    false => engine.load(args.get(1), store)?,
                };
                Ok((script, declared, read_only))
            }
            Run::Script(command_script::Script::Call { read_only }) => {
                let script = engine.find_function(args.get(1), libraries)?;
                Ok((script, function_keys(args)?, read_only))
            }
            _ => Err(CmdError::Syntax),
        }
    }

    /// The flags of a command; of a script, those that it declares in its first line. Redis: script.c
    /// scriptFlagsToCmdFlags.
    pub(in crate::session) fn declared_flags(&mut self, command: &Command, args: &Args) -> Flags {
        let is_run = matches!(command.run, Run::Script(what) if what.runs());
        let script = is_run.then(|| self.find_script(command, args).ok());
        let own = script.flatten().map(|(script, ..)| script.flags);
        match own.filter(|own| own.declared) {
            None => command.flags,
            Some(own) => {
                let changes = if own.no_writes { 0 } else { flags::WRITE };
                let frugal = own.no_writes || own.allow_oom;
                let takes = if frugal { 0 } else { flags::DENYOOM };
                let replaced = flags::WRITE | flags::MAY_REPLICATE | flags::DENYOOM;
                command.flags & !replaced | changes | takes
            }
        }
    }

    /// Checks an EVAL or FCALL and prepares its script.
    pub(in crate::session) fn begin_script(
        &mut self,
        key: SessionKey,
        call: HopCall,
        args: &Args,
        now_ms: i64,
    ) -> Result<Box<Scripted>, CmdError> {
        let (script, declared, read_only) = self.find_script(call.command, args)?;
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
        let spare = std::mem::take(&mut self.scripts.spare);
        let mut words = spare.words;
        words.copy(args);
        Ok(Box::new(Scripted {
            read_only: read_only || own.declared && own.no_writes,
            script,
            run,
            words,
            declared,
            reach: Reach::All,
            call,
            client: self.script_client(key),
            lacks_memory: lacks_memory && !own.allow_oom,
            wrote: false,
            has_read: false,
            now_ms,
            begun_ns: self.shard.last_ns(),
            late_ns: None,
            late: None,
            slice_ns: None,
            asked: spare.asked,
            reply: None,
            spare: spare.reply,
            out: Output::default(),
        }))
    }

    /// Lets a script run until it ends or has to wait; its reply is in its output then. `held`: the
    /// coordinator's work under whose holds it runs.
    pub(in crate::session) fn run_script(
        &mut self,
        key: SessionKey,
        scripted: &mut Scripted,
        held: Option<TxId>,
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
            if let Some(read) = reply.filter(|read| read.bytes.capacity() <= SPARE_MAX_BYTES) {
                scripted.spare = read.emptied();
            }
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
    pub(in crate::session) fn kill_script(&mut self, scripted: &mut Scripted) {
        let clock = self.shard.clock();
        let mut writer = Writer::new(&mut scripted.out, scripted.client.proto);
        if let Ok(engine) = self.scripts.engine(clock) {
            engine.kill(&scripted.run, &mut writer);
        }
        self.shard.stats.note_error(&scripted.out.bytes);
    }

    /// Counts a script that is over, and notes it if it was slow.
    pub(in crate::session) fn end_script(
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
        self.note_visit(key, spent_ns, &scripted.words.as_args());
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
}
