//! What a script asks for: whether it may, and where the command runs.

use super::proof::keep_to_keys;
use super::{Reach, STRAYED, Scripted, refusal};
use crate::command::generic::ordered_for_script;
use crate::command::stream::asks_to_block;
use crate::command::{Client, Command, CommandId, Job, Lookup, Run, flags, keys};
use crate::keyspace::Audience;
use crate::resp::{ArgBuf, Args, CmdError, Output, Proto, Writer};
use crate::script::Word;
use crate::session::core::Core;
use crate::session::exec::only_home;
use crate::session::link::{Host, Link, Performed};
use crate::shard::Call;
use crate::shard::TxId;
use crate::shard::message::{HopCall, Message, SessionKey};

fn barred() -> Asked {
    Asked::Answered(refusal(&CmdError::Text(
        "ERR This Redis command is not allowed from script",
    )))
}

/// What `Run::Client` runs.
type RunClient = fn(&mut Client, &Args, &mut Writer) -> Result<(), CmdError>;

/// What became of a command that a script asked for.
pub(super) enum Asked {
    Answered(Output),
    Waits,
    Strayed,
}

/// Whether a command that a script may run asks to wait, which a script may not: others that could
/// wait just find nothing. Redis: xreadCommand.
fn waits(command: &Command, args: &Args) -> bool {
    let is_grouped = match command.name {
        "xread" => false,
        "xreadgroup" => true,
        _ => return false,
    };
    asks_to_block(args, is_grouped)
}

impl Core {
    /// Whether a script may run this command now. Redis: scriptCall in script.c.
    fn admit_from_script(
        &mut self,
        key: SessionKey,
        scripted: &Scripted,
        args: &Args,
        link: &mut dyn Link,
        host: &mut dyn Host,
    ) -> Result<CommandId, CmdError> {
        let (id, command) = match self.table.lookup(args) {
            Lookup::Found(entry) => (entry.id, entry.command),
            Lookup::Error(CmdError::Arity(_)) => {
                if let Some(id) = self.table.named(args).map(|entry| entry.id) {
                    self.count_rejected(id);
                }
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
        let refused = if command.flags & flags::NOSCRIPT != 0 && !self.scripts.allows_all {
            Some(CmdError::Text(
                "ERR This Redis command is not allowed from script",
            ))
        } else if command.flags & flags::STALE == 0
            && host.is_watching()
            && host.refuses_reads(key).is_some()
        {
            Some(CmdError::Text(
                "ERR Can not execute the command on a stale replica",
            ))
        } else if let Some(error) = self.refuse_in_script(key, id, args, link, host) {
            Some(error)
        } else if scripted.read_only && command.flags & (flags::WRITE | flags::MAY_REPLICATE) != 0 {
            Some(CmdError::Text(
                "ERR Write commands are not allowed from read-only scripts.",
            ))
        } else if scripted.wrote || !command.is_write() {
            // A script that has changed something is not stopped half way.
            None
        } else if host.is_watching()
            && let Some(error) = host.refuses(key, self.table.entry(id))
        {
            Some(error)
        } else if scripted.lacks_memory && command.flags & flags::DENYOOM != 0 {
            Some(CmdError::Oom)
        } else {
            None
        };
        match refused {
            None => Ok(id),
            Some(error) => {
                self.count_rejected(id);
                Err(error)
            }
        }
    }

    /// Carries out a command that a script asked for, or sends it on its way.
    pub(super) fn ask(
        &mut self,
        key: SessionKey,
        scripted: &mut Scripted,
        args: &Args,
        held: Option<TxId>,
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
        if waits(command, args) {
            self.note_asked(args, Some(0), link, host);
            return self.fail_to_wait(id, args);
        }
        let (shown, ordered) = (args, ordered_for_script(command, args));
        let args = &ordered.as_ref().map_or(*args, ArgBuf::as_args);
        let call = HopCall {
            command,
            id,
            from: 0,
            to: args.len() as u32,
            tracks: self.tracks(key, command),
        };
        if let Some(asked) = self.keep_within(scripted, call, args, held) {
            return asked;
        }
        if call.tracks && !std::mem::replace(&mut scripted.has_read, true) {
            self.note_declared(key, scripted, link);
        }
        match command.run {
            Run::Client(run) => {
                self.shard.start_clock();
                let reply = self.ask_client(key, scripted, (id, run), args, link, host);
                self.note_asked(shown, None, link, host);
                Asked::Answered(reply)
            }
            Run::Job(job) => {
                let asked = self.ask_job(key, scripted, (id, job, args), held, link, host);
                match asked {
                    Asked::Answered(_) => self.note_asked(shown, None, link, host),
                    _ => self.note_work_begun(key),
                }
                asked
            }
            Run::Container | Run::Transaction(_) | Run::Script(_) => barred(),
            _ => {
                self.note_flush(key, command, args);
                let (reply, spent_ns) = self.ask_shards(key, scripted, (call, args), held, link);
                if matches!(reply, Asked::Answered(_)) {
                    self.note_asked(shown, Some(spent_ns), link, host);
                }
                reply
            }
        }
    }

    /// A command that a script asked for is over, now if it is not said how long it took.
    pub(in crate::session) fn note_asked(
        &mut self,
        asked: &Args,
        spent_ns: Option<u64>,
        link: &mut dyn Link,
        host: &mut dyn Host,
    ) {
        let spent_ns = spent_ns.unwrap_or_else(|| self.shard.lap_ns());
        if spent_ns >= self.limits.slow_ns {
            host.slow_in_script(self, link, asked, spent_ns);
        }
    }

    /// What the server is to do, or a session beside what it is sent.
    fn ask_job(
        &mut self,
        key: SessionKey,
        scripted: &Scripted,
        (id, job, args): (CommandId, Job, &Args),
        held: Option<TxId>,
        link: &mut dyn Link,
        host: &mut dyn Host,
    ) -> Asked {
        // What comes before a PUBLISH is told before it.
        if let Some(held) = held {
            self.coordinator.tell_so_far(held);
            self.tell();
        }
        self.shard.start_clock();
        let mut out = Output::default();
        // The reply is for the script, which may speak another protocol than its client.
        let spoken = self.speak(key, scripted.run.proto);
        self.speak_to(scripted.terms().audience);
        let performed = host.perform(self, link, key, job, args, &mut out);
        self.speak_to(Audience::ALL);
        self.speak(key, spoken);
        self.performed_for_script(id, performed, out)
    }

    fn performed_for_script(&mut self, id: CommandId, performed: Performed, out: Output) -> Asked {
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

    fn tracks(&self, key: SessionKey, command: &Command) -> bool {
        let session = self.session(key);
        session.is_some_and(|session| session.client.tracks(command))
    }

    /// A client that reads by a script may keep the keys which the script declares, as Redis has it
    /// before 7.2, and those which its commands read, as Redis has it since.
    fn note_declared(&mut self, key: SessionKey, scripted: &Scripted, link: &mut dyn Link) {
        let place = self.shard.place;
        let reader = (place.shard, key);
        for (home, keys) in keys::by_home(scripted.declared_keys(), place.shards) {
            if home == place.shard {
                self.shard.remember(reader, keys.iter().map(|key| &**key));
            } else {
                link.post(home, Message::Read { reader, keys });
            }
        }
    }

    /// Redis: this is an error of the command's own, not a refusal of it.
    fn fail_to_wait(&mut self, id: CommandId, args: &Args) -> Asked {
        let error = CmdError::quoting(&[
            b"ERR ",
            args.name(),
            b" command is not allowed with BLOCK option from scripts",
        ]);
        self.performed_for_script(id, Performed::Failed(error), Output::default())
    }

    /// What changes from now on is for these to repeat.
    fn speak_to(&mut self, audience: Audience) {
        self.shard.keyspace.effects.records.set_audience(audience);
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
    pub(in crate::session) fn show_script(
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
        held: Option<TxId>,
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
            if matches!(command.run, Run::Errand(_)) && held.is_none() {
                if !scripted.wrote {
                    return Some(Asked::Strayed);
                }
                return Some(barred());
            }
            if self.strays(scripted, call, args) || self.may_stray(scripted, command) {
                scripted.script.strayed();
                match (scripted.reach, scripted.wrote) {
                    (Reach::All, _) => {}
                    (Reach::Declared, false) => return Some(Asked::Strayed),
                    (Reach::Declared, true) => return Some(Asked::Answered(refusal(&STRAYED))),
                }
            }
            if command.is_write() {
                let late = scripted.late.as_ref();
                if late.is_some_and(|late| !late.script.may_write()) {
                    // It is ended before it hears of that.
                    return Some(Asked::Answered(Output::default()));
                }
                scripted.wrote = true;
            }
        }
        None
    }

    /// Whether a command reaches beyond the keys that the script was called with.
    pub(super) fn strays(&self, scripted: &Scripted, call: HopCall, args: &Args) -> bool {
        if self.shard.place.shards == 1 {
            return false;
        }
        call.command.needs_everything(args) || {
            let positions = keys::positions(call.command.keys, args).unwrap_or_default();
            !scripted.declares(&positions, args)
        }
    }

    /// Whether a script that is about to change something could reach beyond its keys afterwards.
    fn may_stray(&self, scripted: &Scripted, command: &Command) -> bool {
        let keeps = |calls: &[Vec<Word>]| keep_to_keys(&self.table, calls);
        self.shard.place.shards > 1 && command.is_write() && !scripted.script.is_proven(keeps)
    }

    /// A command about keys, where these are; and how long it took, if it is over.
    fn ask_shards(
        &mut self,
        key: SessionKey,
        scripted: &mut Scripted,
        (call, args): (HopCall, &Args),
        held: Option<TxId>,
        link: &mut dyn Link,
    ) -> (Asked, u64) {
        let place = self.shard.place;
        let home = held.and_then(|_| only_home(&call, args, place.shards));
        match (held, home) {
            (Some(under), home) if home != Some(place.shard) => {
                let asked = self.ask_elsewhere(key, scripted, (call, args, home), under, link);
                (asked, 0)
            }
            _ => {
                let (out, spent_ns) = self.ask_here(key, scripted, call, args, held);
                (Asked::Answered(out), spent_ns)
            }
        }
    }

    fn ask_here(
        &mut self,
        key: SessionKey,
        scripted: &mut Scripted,
        call: HopCall,
        args: &Args,
        held: Option<TxId>,
    ) -> (Output, u64) {
        let mut out = std::mem::take(&mut scripted.spare);
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
        let now_ms = scripted.now_ms;
        self.shard.start_clock();
        self.speak_to(scripted.terms().audience);
        let spent_ns = match held {
            None => self.shard.run(&call, now_ms, &mut out),
            Some(under) => {
                let puts_aside = self.coordinator.journaled;
                let (part, spent_ns) = self
                    .shard
                    .run_held(under, &call, now_ms, puts_aside, &mut out);
                self.coordinator.ran_here(under, part);
                spent_ns
            }
        };
        self.speak_to(Audience::ALL);
        self.shard.stats.note_error(&out.bytes);
        (out, spent_ns)
    }

    fn ask_elsewhere(
        &mut self,
        key: SessionKey,
        scripted: &Scripted,
        (call, args, home): (HopCall, &Args, Option<usize>),
        under: TxId,
        link: &mut dyn Link,
    ) -> Asked {
        let what = (call, args.to_buf(), scripted.run.proto);
        let request = self.request_by(key, scripted, what);
        match self.start_held(key, scripted.call, request, home, under, link) {
            Ok(()) => Asked::Waits,
            Err(error) => Asked::Answered(refusal(&error)),
        }
    }
}
