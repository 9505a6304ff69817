//! Transactions of one session: queueing, watching, and carrying out what was queued.
//!
//! EXEC takes one of two ways. If all keys are on this shard, nobody holds any of them, and no
//! queued command needs the server as a whole, the queue runs here in one go. Otherwise holds are
//! taken on all keys, watched ones included; what was watched is checked on its home once all holds
//! are granted; the commands run in order under the holds, those of one home in one message, and
//! the holds are released at the end. Nobody sees anything between.

use std::collections::BTreeSet;

use smallvec::SmallVec;

use super::core::Core;
use super::link::{Host, Link};
use super::requests::Next;
use super::state::State;
use crate::command::flags::Flags;
use crate::command::transaction::Transaction;
use crate::command::{Command, Run, keys};
use crate::resp::{ArgBuf, Args, CmdError};
use crate::shard::message::{HopCall, Message, SessionKey};

/// Commands queued since MULTI.
#[derive(Debug, Default)]
pub struct Multi {
    pub(super) args: ArgBuf,
    pub(super) calls: Vec<HopCall>,
    /// A command could not be queued: EXEC will refuse.
    pub(super) failed: bool,
}

impl Multi {
    pub fn len(&self) -> usize {
        self.calls.len()
    }

    pub fn is_empty(&self) -> bool {
        self.calls.is_empty()
    }

    pub fn memory_bytes(&self) -> usize {
        self.args.memory_bytes() + self.calls.len() * size_of::<HopCall>()
    }

    fn push(&mut self, call: HopCall, args: &Args) {
        let from = self.args.len() as u32;
        for i in 0..args.len() {
            self.args.push_arg(args, i);
        }
        let to = self.args.len() as u32;
        self.calls.push(HopCall { from, to, ..call });
    }
}

/// What a session watches.
#[derive(Debug, Default)]
pub struct Watches {
    /// With their databases. In order, as a client may watch very many.
    pub(super) keys: BTreeSet<(u32, Box<[u8]>)>,
    homes: SmallVec<[usize; 4]>,
    /// Homes that have not confirmed a WATCH yet.
    awaited: usize,
}

impl Watches {
    pub fn len(&self) -> usize {
        self.keys.len()
    }

    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// Memory of the names here, and of what their homes keep of them.
    pub fn memory_bytes(&self) -> usize {
        /// A name, its place in a table, and the watcher in it.
        const EACH: usize = 2 * size_of::<(u32, Box<[u8]>)>() + 64;
        let names: usize = self
            .keys
            .iter()
            .map(|(_, name)| 2 * name.len() + EACH)
            .sum();
        names
    }
}

impl Core {
    /// The flags of a command as it will be carried out: EXEC does what was queued, and a script says
    /// itself whether it writes. Redis: server.c getCommandFlags.
    pub fn flags_of(&mut self, key: SessionKey, command: &Command, args: &Args) -> Flags {
        let is_exec = matches!(command.run, Run::Transaction(Transaction::Exec));
        let multi = match self.session_mut(key) {
            Some(session) if is_exec => session.multi.take(),
            _ => None,
        };
        let Some(multi) = multi else {
            return self.declared_flags(command, args);
        };
        let mut all = command.flags;
        for call in &multi.calls {
            let words = multi.args.as_args();
            let words = words.range(call.from as usize, call.to as usize);
            all |= self.declared_flags(call.command, &words);
        }
        if let Some(session) = self.session_mut(key) {
            session.multi = Some(multi);
        }
        all
    }

    pub(super) fn transaction(
        &mut self,
        key: SessionKey,
        what: Transaction,
        call: HopCall,
        args: &Args,
        link: &mut dyn Link,
        host: &mut dyn Host,
    ) -> Next {
        self.counters.commands += 1;
        let Some(session) = self.session_mut(key) else {
            return Next::Wait;
        };
        session.last_command = Some(call.id);
        let in_multi = session.multi.is_some();
        let refusal = match what {
            Transaction::Multi if in_multi => Some("ERR MULTI calls can not be nested"),
            Transaction::Watch if in_multi => Some("ERR WATCH inside MULTI is not allowed"),
            Transaction::Exec if !in_multi => Some("ERR EXEC without MULTI"),
            Transaction::Discard if !in_multi => Some("ERR DISCARD without MULTI"),
            _ => None,
        };
        if let Some(text) = refusal {
            return self.fail(key, (call, args), &CmdError::Text(text), link, host);
        }
        match what {
            Transaction::Multi => session.multi = Some(Box::default()),
            Transaction::Discard => {
                session.multi = None;
                self.forget_caching(key);
                self.unwatch(key, link);
            }
            Transaction::Unwatch => self.unwatch(key, link),
            Transaction::Watch => return self.watch(key, call, args, link, host),
            Transaction::Exec => return self.exec(key, call, args, link, host),
        }
        self.note_ran(key, (call, args), false, link, host);
        self.reply(key, link, |out| out.ok())
    }

    /// EXEC was no valid request: the transaction ends here all the same, if there is one.
    /// Redis: execCommandAbort, which loses the `ERR`.
    pub(super) fn exec_refused(
        &mut self,
        key: SessionKey,
        error: &CmdError,
        link: &mut dyn Link,
    ) -> Next {
        if let Some(session) = self.session_mut(key) {
            session.multi = None;
        }
        self.unwatch(key, link);
        let text = error.to_string();
        let why = text.strip_prefix("ERR ").unwrap_or(&text);
        let aborted = format!("EXECABORT Transaction discarded because of: {why}");
        self.reply_error(key, &CmdError::owned(aborted), link)
    }

    /// Queues a command instead of running it.
    pub(super) fn queue(
        &mut self,
        key: SessionKey,
        call: HopCall,
        args: &Args,
        link: &mut dyn Link,
    ) -> Next {
        if let Some(multi) = self
            .session_mut(key)
            .and_then(|session| session.multi.as_mut())
        {
            multi.push(call, args);
        }
        self.reply(key, link, |out| out.simple("QUEUED"))
    }

    /// The transaction that CLIENT CACHING was about is over.
    pub(super) fn forget_caching(&mut self, key: SessionKey) {
        let session = self.session_mut(key);
        if let Some(tracking) = session.and_then(|session| session.client.tracking.as_mut()) {
            tracking.is_caching = false;
        }
    }

    /// A command could not be queued.
    pub(super) fn spoil_transaction(&mut self, key: SessionKey) {
        if let Some(multi) = self
            .session_mut(key)
            .and_then(|session| session.multi.as_mut())
        {
            multi.failed = true;
        }
    }

    // ---- watching

    fn watch(
        &mut self,
        key: SessionKey,
        call: HopCall,
        args: &Args,
        link: &mut dyn Link,
        host: &mut dyn Host,
    ) -> Next {
        self.note_ran(key, (call, args), false, link, host);
        let now_ms = link.now_ms();
        let place = self.shard.place;
        let Some(session) = self.session_mut(key) else {
            return Next::Wait;
        };
        let db = session.client.db;
        let watches = session.watches.get_or_insert_default();
        let mut new = Vec::new();
        for name in args.iter().skip(1) {
            if watches.keys.insert((db, name.into())) {
                new.push(name);
            }
        }
        let groups = keys::by_home(new.into_iter(), place.shards);
        for (home, _) in &groups {
            if !watches.homes.contains(home) {
                watches.homes.push(*home);
            }
        }
        let mut awaited = 0;
        for (home, names) in groups {
            if home == place.shard {
                let names = names.iter().map(|name| &**name);
                self.shard.watch((place.shard, key), db, names, now_ms);
                continue;
            }
            awaited += 1;
            let watcher = (place.shard, key);
            let watch = Message::Watch {
                watcher,
                db,
                keys: names,
            };
            link.post(home, watch);
        }
        if awaited == 0 {
            return self.reply(key, link, |out| out.ok());
        }
        if let Some(session) = self.session_mut(key) {
            session.state = State::Awaiting;
            session.watches.get_or_insert_default().awaited = awaited;
        }
        Next::Wait
    }

    /// A home has noted what is watched there.
    pub(super) fn watched(&mut self, key: SessionKey, link: &mut dyn Link, host: &mut dyn Host) {
        let watches = self
            .session_mut(key)
            .and_then(|session| session.watches.as_mut());
        let Some(watches) = watches else { return };
        watches.awaited -= 1;
        if watches.awaited > 0 {
            return;
        }
        self.reply(key, link, |out| out.ok());
        self.resume(key, link, host);
    }

    /// Forgets all watched keys.
    pub fn unwatch(&mut self, key: SessionKey, link: &mut dyn Link) {
        let watches = self.session_mut(key).and_then(|its| its.watches.take());
        self.forget_watches(key, watches, link);
    }

    /// Takes what a session has watched from the homes of the keys.
    pub(super) fn forget_watches(
        &mut self,
        key: SessionKey,
        watches: Option<Box<Watches>>,
        link: &mut dyn Link,
    ) {
        let here = self.shard.place.shard;
        let watcher = (here, key);
        for home in watches.into_iter().flat_map(|watches| watches.homes) {
            if home == here {
                self.shard.unwatch(watcher);
            } else {
                link.post(home, Message::Unwatch { watcher });
            }
        }
    }

    /// Ends a session's transaction without running it: DISCARD, RESET, the end of the connection.
    pub fn forget_transaction(&mut self, key: SessionKey, link: &mut dyn Link) {
        if let Some(session) = self.session_mut(key) {
            session.multi = None;
        }
        self.unwatch(key, link);
    }
}
