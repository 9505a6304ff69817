//! Scripts that run where their keys are, and not where their client is.
//!
//! A script asks for one command at a time, and each that runs on another shard costs a message there
//! and one back. So a script most of whose keys live on another shard travels there as a whole:
//!
//! ```text
//! client's core                     home of the keys
//! Visit {EVAL and its words} ->     runs as if its client were there and had just gone away
//!                            <-     Visited {the reply}
//! ```
//! There it has a key of its own, of which there is never a session: what is being carried out for a
//! session goes on without it, also when it is suspended, or begins again with more held. Clients with
//! limits or copies of keys, and all clients while commands are watched, keep their scripts at home.

use super::core::Core;
use super::link::{Host, Link};
use super::requests::Next;
use super::state::State;
use crate::command::script::{self as command_script, declared_keys, function_keys};
use crate::command::{Client, Run};
use crate::coordinator::{Homes, homes};
use crate::resp::{Args, CmdError, Output, Writer};
use crate::shard::message::{HopCall, Message, SessionKey, Visit};
use crate::shard::seen::Seen;

/// The index of all visitors: no connection has it.
const NOBODY: SessionKey = 0xffff_ffff;
/// Visitors are numbered up to here, and then anew.
const VISITORS_MAX: SessionKey = 0x7fff_ffff;

impl Core {
    /// Where a script had better run: where more of its keys live than here, and most.
    pub(super) fn better_home(
        &self,
        key: SessionKey,
        call: HopCall,
        args: &Args,
        host: &dyn Host,
    ) -> Option<usize> {
        let place = self.shard.place;
        if place.shards == 1 || host.is_watching() {
            return None;
        }
        let session = self.session(key)?;
        if session.is_limited || session.client.tracking.is_some() {
            return None;
        }
        let declared = match call.command.run {
            Run::Script(command_script::Script::Call { .. }) => function_keys(args),
            _ => declared_keys(args),
        };
        let declared: Vec<usize> = declared.ok()?.collect();
        let most = match homes(&declared, args, place.shards) {
            Homes::One(home) => home,
            Homes::Many(groups) => {
                let count = |shard| {
                    let group = groups.iter().find(|(home, _)| *home == shard);
                    group.map_or(0, |(_, keys)| keys.len())
                };
                let most = (0..place.shards).rev().max_by_key(|&shard| count(shard))?;
                if count(most) == count(place.shard) {
                    place.shard
                } else {
                    most
                }
            }
        };
        (most != place.shard && !declared.is_empty()).then_some(most)
    }

    /// A script travels to where its keys are.
    pub(super) fn send_visit(
        &mut self,
        key: SessionKey,
        (call, args): (HopCall, &Args),
        home: usize,
        link: &mut dyn Link,
    ) -> Next {
        let origin = self.shard.place.shard;
        let Some(session) = self.session_mut(key) else {
            return Next::Wait;
        };
        session.state = State::Awaiting;
        let client = &session.client;
        let visit = Visit {
            session: key,
            origin,
            call,
            words: args.to_buf(),
            client_id: client.id,
            db: client.db,
            databases: client.databases,
            proto: client.proto,
            no_touch: client.no_touch,
            out: Output::default(),
            spent_ns: 0,
            seen: Seen::default(),
        };
        link.post(home, Message::Visit(Box::new(visit)));
        Next::Wait
    }

    /// A script arrived: it runs here.
    pub(super) fn visit(
        &mut self,
        mut visit: Box<Visit>,
        link: &mut dyn Link,
        host: &mut dyn Host,
    ) {
        self.visitors = (self.visitors + 1) & VISITORS_MAX;
        let key = self.visitors << 32 | NOBODY;
        let call = visit.call;
        let words = std::mem::take(&mut visit.words);
        self.visits.insert(key, visit);
        self.place_script(key, call, &words.as_args(), link, host);
    }

    /// Whose script it is, if it is a visitor's.
    pub fn visitor(&self, key: SessionKey) -> Option<&Visit> {
        match key & NOBODY == NOBODY {
            true => self.visits.get(&key).map(|visit| &**visit),
            false => None,
        }
    }

    /// The state of the client that commands of a script seem to come from: of one that is gone, as far as
    /// it is still known.
    pub(super) fn script_client(&self, key: SessionKey) -> Client {
        let fresh = Client {
            authenticated: true,
            ..Client::default()
        };
        match (self.session(key), self.visitor(key)) {
            (Some(session), _) => Client {
                id: session.client.id,
                db: session.client.db,
                databases: session.client.databases,
                proto: session.client.proto,
                no_touch: session.client.no_touch,
                ..fresh
            },
            (None, Some(visit)) => Client {
                id: visit.client_id,
                db: visit.db,
                databases: visit.databases,
                proto: visit.proto,
                no_touch: visit.no_touch,
                ..fresh
            },
            // That of a transaction which goes on without its client.
            (None, None) => self.execs.get(&key).map_or(fresh, |exec| exec.client()),
        }
    }

    /// A visitor's script took so long; its words are kept if that is slow.
    pub(super) fn note_visit(&mut self, key: SessionKey, spent_ns: u64, words: &Args) {
        let slow_ns = self.limits.slow_ns;
        if let Some(visit) = self.visits.get_mut(&key) {
            visit.spent_ns = spent_ns;
            if spent_ns >= slow_ns {
                visit.words = words.to_buf();
            }
        }
    }

    /// The reply of a session that is not there: it travels back if it is a visitor's.
    pub(super) fn end_visit(&mut self, key: SessionKey, out: &Output, link: &mut dyn Link) {
        if self.visitor(key).is_none() {
            return;
        }
        if let Some(mut visit) = self.visits.remove(&key) {
            visit.out.append(out);
            visit.seen.note(self.shard.sight());
            link.post(visit.origin, Message::Visited(visit));
        }
    }

    /// The same, if it is an error.
    pub(super) fn fail_visit(&mut self, key: SessionKey, error: &CmdError, link: &mut dyn Link) {
        let Some(visit) = self.visitor(key) else {
            return;
        };
        let mut out = Output::default();
        let written = Writer::new(&mut out, visit.proto).error(error);
        debug_assert!(written.is_ok());
        self.shard.stats.note_error(&out.bytes);
        self.end_visit(key, &out, link);
    }

    /// A script is back.
    pub(super) fn visited(&mut self, visit: &mut Visit, link: &mut dyn Link, host: &mut dyn Host) {
        let key = visit.session;
        let Some(session) = self.session_mut(key) else {
            return;
        };
        session.seen.append(&visit.seen);
        if visit.spent_ns >= self.limits.slow_ns && !visit.words.is_empty() {
            host.slow(self, link, key, &visit.words.as_args(), visit.spent_ns);
        }
        if self.hand_out_whole(key, &mut visit.out, link, host) {
            self.resume(key, link, host);
        }
    }
}
