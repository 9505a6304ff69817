//! WAIT and WAITAOF: who waits until replicas, or disks, have what they wrote.
//!
//! A client knows how far the shards had come when its commands ran there, see
//! [`Seen`](crate::shard::seen::Seen); where the stream had all that is what replicas have to reach. What
//! others have written since is not waited for, and who has run nothing waits for nothing.
//!
//! ```text
//! waiter's node: Wait {what it has seen} -> shard 0: the place in the stream, once it is there
//!                                                    GETACK -> replicas
//!                                        <- the reply, when enough have told that they have come so far
//! ```

use super::{Message, Place, Replicas};
use crate::command::block::{ends_ms, timeout_ms};
use crate::resp::{Args, CmdError, CmdResult, Output, Writer};
use crate::server::ask::{NodeMessage, Requester};
use crate::server::clients::Unblock;
use crate::server::host::ServerHost;
use crate::server::persist::Message as FileMessage;
use crate::server::waitaof::{NO_AOF, Waiter};
use crate::session::{Core, Link, Performed, State, UNBLOCKED_BY_CLIENT};
use crate::shard::message::SessionKey;
use crate::shard::seen::{Places, Seen};

/// Asks a replica how far it is.
const GETACK: &[u8] = b"*3\r\n$8\r\nREPLCONF\r\n$6\r\nGETACK\r\n$1\r\n*\r\n";

/// Redis: replication.c waitCommand.
const OF_REPLICA: CmdError = CmdError::Text(
    "ERR WAIT cannot be used with replica instances. Please also note that since Redis 4.0 if a \
     replica is configured to be writable (which is not the default) writes to replicas are just \
     local and are not propagated.",
);

/// A wait of a client of this node: one that has ended is not taken for the next one of that client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OwnWait {
    pub session: SessionKey,
    number: u64,
}

/// A client that waits.
#[derive(Clone, Debug)]
pub struct Wanted {
    requester: Requester,
    number: u64,
    seen: Seen,
    replicas: i64,
    /// Unix milliseconds.
    deadline_ms: Option<i64>,
    /// Inside of a transaction nobody waits.
    at_once: bool,
    /// WAITAOF: what counts is what disks have; and whether this server's has to have it.
    local: Option<bool>,
}

#[derive(Debug)]
struct Waiting {
    wanted: Wanted,
    /// What replicas have to reach. `None`: the stream does not have all that the client has seen.
    offset: Option<i64>,
    /// Replicas were asked for it if that was of use.
    has_asked: bool,
    /// What the nodes are asked by: whether their segments have what the client has seen.
    asked: Option<u64>,
    /// Nodes that have not answered, and whether one has said that its segment lacks something.
    awaited: usize,
    lacks: bool,
}

impl Waiting {
    /// Whether this server's disk has it.
    fn is_local(&self) -> bool {
        self.asked.is_some() && self.awaited == 0 && !self.lacks
    }

    /// Replicas that have it. What is not in the stream, nobody has.
    fn count(&self, replicas: &Replicas) -> i64 {
        self.offset.map_or(0, |at| match self.wanted.local {
            None => replicas.count_reached(at),
            Some(_) => replicas.count_synced(at),
        })
    }

    /// Whether replicas are to be asked how far they are.
    fn lacks_replicas(&self, replicas: &Replicas) -> bool {
        !self.wanted.at_once && self.offset.is_some() && self.count(replicas) < self.wanted.replicas
    }

    /// The reply, if the wait is over at `now_ms`: whether this server's disk has it, and how many
    /// replicas do.
    fn outcome(&self, replicas: &Replicas, now_ms: i64) -> Option<(bool, i64)> {
        let Wanted {
            replicas: wanted,
            deadline_ms,
            at_once,
            local,
            ..
        } = self.wanted;
        let count = self.count(replicas);
        let is_late = deadline_ms.is_some_and(|at_ms| at_ms <= now_ms);
        let is_known = self.offset.is_some() && (!at_once || self.awaited == 0);
        let has_all = count >= wanted && (local != Some(true) || self.is_local());
        let is_over = is_late || is_known && (has_all || at_once);
        is_over.then_some((self.is_local(), count))
    }

    fn is_of(&self, place: Place) -> bool {
        let requester = self.wanted.requester;
        (requester.shard, requester.session) == (place.node, place.session)
    }
}

/// All who wait. Shard 0's alone.
#[derive(Debug, Default)]
pub struct Waits {
    waiting: Vec<Waiting>,
    /// Where in the stream the units of each shard are.
    places: Vec<Places>,
    next_mark: u64,
}

impl Waits {
    pub fn due_ms(&self) -> Option<i64> {
        let deadlines = self.waiting.iter().filter_map(|one| one.wanted.deadline_ms);
        deadlines.min()
    }

    /// Feeds of so many shards begin.
    pub fn begin_feeds(&mut self, shards: usize) {
        self.places = vec![Places::default(); shards];
    }

    /// The feeds are no more: nothing that was written before has to arrive.
    pub fn end_feeds(&mut self, offset: i64) {
        self.places.clear();
        for one in &mut self.waiting {
            one.offset.get_or_insert(offset);
        }
    }

    /// The stream has all units of a shard up to this one, and ends here.
    pub fn note(&mut self, shard: usize, unit: u64, offset: i64) {
        if let Some(places) = self.places.get_mut(shard) {
            places.note(unit, u64::try_from(offset).unwrap_or(0));
        }
    }

    /// Where the stream has what a client has seen; `None`: not yet.
    fn place_of(&self, seen: &Seen) -> Option<i64> {
        let mut furthest = 0;
        for sight in seen.iter() {
            // Without feeds there is nobody to wait for.
            let Some(places) = self.places.get(sight.shard as usize) else {
                continue;
            };
            furthest = furthest.max(places.of(sight.unit)?);
        }
        i64::try_from(furthest).ok()
    }

    /// Looks again for those whose place was not known. Returns whether some are known now.
    fn look_again(&mut self) -> bool {
        let mut found = false;
        for at in 0..self.waiting.len() {
            if self.waiting[at].offset.is_none() {
                let place = self.place_of(&self.waiting[at].wanted.seen);
                found |= place.is_some();
                self.waiting[at].offset = place;
            }
        }
        found
    }
}

impl ServerHost {
    /// WAIT numreplicas timeout
    pub(in crate::server) fn wait(
        &mut self,
        core: &Core,
        requester: Requester,
        args: &Args,
    ) -> Performed {
        if self.identity.role.is_replica() {
            return Performed::Failed(OF_REPLICA);
        }
        let asked = args.int(1).and_then(|n| Ok((n, timeout_ms(args, 2)?)));
        match asked {
            Ok(asked) => self.ask_to_wait(core, requester, asked, None),
            Err(error) => Performed::Failed(error),
        }
    }

    /// Has a client wait for so many replicas, so long; `local`: [`Wanted::local`].
    pub(in crate::server) fn ask_to_wait(
        &mut self,
        core: &Core,
        requester: Requester,
        (replicas, timeout_ms): (i64, i64),
        local: Option<bool>,
    ) -> Performed {
        let now_ms = self.now_ms;
        let deadline_ms = (timeout_ms > 0).then(|| ends_ms(now_ms, timeout_ms));
        self.wait_number += 1;
        let number = self.wait_number;
        let session = requester.session;
        self.waits.push(OwnWait { session, number });
        let wants_none = replicas == 0 && local == Some(false);
        let at_once = wants_none || core.is_executing(requester.session);
        let session = core.session(requester.session);
        let mut seen = session.map(|its| its.seen.clone()).unwrap_or_default();
        if let Some(session) = session.filter(|_| local.is_some()) {
            // Since Redis 7.2 what a client is served is what it did itself.
            seen.append(&session.seen_served);
        }
        let wanted = Wanted {
            requester,
            number,
            seen,
            replicas,
            deadline_ms,
            at_once,
            local,
        };
        self.inform(0, Message::Wait(Box::new(wanted)));
        Performed::Later
    }

    /// A session is gone.
    pub(in crate::server) fn forget_own_wait(&mut self, session: SessionKey) {
        if let Some(at) = self.waits.iter().position(|own| own.session == session) {
            self.waits.swap_remove(at);
            self.inform(0, Message::EndWait { session });
        }
    }

    /// A wait is over; unless it was before, when somebody ended it here.
    pub(super) fn wait_over(
        &mut self,
        core: &mut Core,
        link: &mut dyn Link,
        wait: OwnWait,
        out: &Output,
    ) {
        if let Some(at) = self.waits.iter().position(|own| *own == wait) {
            self.waits.swap_remove(at);
            core.answer(wait.session, out, link, self);
        }
    }

    /// Answers a client that waits no more.
    fn answer_wait(&mut self, wanted: &Wanted, write: impl FnOnce(&mut Writer) -> CmdResult) {
        let Wanted {
            requester, number, ..
        } = *wanted;
        let mut out = Box::new(Output::default());
        let written = write(&mut Writer::new(&mut out, requester.proto));
        debug_assert!(written.is_ok(), "a short reply fits");
        let session = requester.session;
        let wait = OwnWait { session, number };
        self.inform(requester.shard, Message::WaitOver { wait, out });
    }

    pub(super) fn wait_wanted(&mut self, wanted: Wanted) {
        self.replicas.waits.waiting.push(Waiting {
            wanted,
            offset: None,
            has_asked: false,
            asked: None,
            awaited: 0,
            lacks: false,
        });
        self.ask_disks();
        self.mind_waits();
    }

    /// Asks the nodes of which the clients that wait for the disk have seen something, once segments
    /// belong to a whole data set.
    fn ask_disks(&mut self) {
        if !self.persistence.aof.on {
            return;
        }
        let waits = &mut self.replicas.waits;
        for one in &mut waits.waiting {
            if one.wanted.local.is_none() || one.asked.is_some() {
                continue;
            }
            waits.next_mark += 1;
            one.asked = Some(waits.next_mark);
            let waiter = Waiter {
                node: 0,
                id: waits.next_mark,
                hurries: true,
            };
            for sight in one.wanted.seen.iter() {
                one.awaited += 1;
                let message = FileMessage::SyncWanted {
                    waiter,
                    unit: sight.unit,
                    at_once: one.wanted.at_once,
                };
                let to = sight.shard as usize;
                self.mail.push((to, NodeMessage::Persist(message)));
            }
        }
    }

    /// A node's segment is on the disk as far as was asked.
    pub(in crate::server) fn sync_reached(&mut self, id: u64, is_there: bool) {
        if self.following.sync_reached(id) {
            return;
        }
        let mut waiting = self.replicas.waits.waiting.iter_mut();
        if let Some(one) = waiting.find(|one| one.asked == Some(id)) {
            one.awaited = one.awaited.saturating_sub(1);
            one.lacks |= !is_there;
            self.end_waits();
        }
    }

    /// A number for who asks nodes for their disks.
    pub(in crate::server) fn new_waiter(&mut self) -> u64 {
        self.replicas.waits.next_mark += 1;
        self.replicas.waits.next_mark
    }

    /// Those who wait for the disk are asked for when there is one; and told if there is none any more,
    /// whatever it had when it ended. Redis 7.2: replication.c processClientsWaitingReplicas.
    pub(super) fn mind_disk_waits(&mut self) {
        let waiting = &mut self.replicas.waits.waiting;
        if !waiting.iter().any(|one| one.wanted.local.is_some()) {
            return;
        }
        if self.config.flag("appendonly") {
            return self.ask_disks();
        }
        let is_vain = |one: &mut Waiting| one.wanted.local == Some(true);
        let vain: Vec<Waiting> = waiting.extract_if(.., is_vain).collect();
        for one in vain {
            self.answer_wait(&one.wanted, |out| out.error(&NO_AOF));
        }
    }

    /// The stream has gone on: some may know now what they wait for.
    pub(super) fn mind_waits(&mut self) {
        if !self.replicas.waits.look_again() {
            return;
        }
        self.end_waits();
        let replicas = &mut self.replicas;
        let mut waiting = std::mem::take(&mut replicas.waits.waiting);
        let mut asks = false;
        for one in &mut waiting {
            asks |= !one.has_asked && one.lacks_replicas(replicas);
            one.has_asked |= one.offset.is_some();
        }
        replicas.waits.waiting = waiting;
        if asks && replicas.has_any() {
            replicas.say(GETACK);
        }
    }

    /// Asks all feeds for a mark. Without any it is passed at once.
    pub(in crate::server) fn ask_for_mark(&mut self) -> u64 {
        self.replicas.waits.next_mark += 1;
        let id = self.replicas.waits.next_mark;
        match self.replicas.epoch {
            None => self.replicas.passed = id,
            Some(epoch) => {
                for node in 0..self.shards {
                    self.inform(node, Message::Reach { id, epoch });
                }
            }
        }
        id
    }

    /// All feeds have passed a mark.
    pub(super) fn wait_reached(&mut self, id: u64) {
        if self.farewell_reached(id) {
            self.replicas.say(GETACK);
        }
    }

    /// Answers those whose wait is over.
    pub(super) fn end_waits(&mut self) {
        let now_ms = self.now_ms;
        let replicas = &mut self.replicas;
        if replicas.waits.waiting.is_empty() {
            return;
        }
        let mut over = Vec::new();
        let mut waiting = std::mem::take(&mut replicas.waits.waiting);
        waiting.retain(|one| {
            let outcome = one.outcome(replicas, now_ms);
            let is_over = outcome.is_some();
            over.extend(outcome.map(|outcome| (one.wanted.clone(), outcome)));
            !is_over
        });
        replicas.waits.waiting = waiting;
        for (wanted, (is_local, count)) in over {
            self.answer_wait(&wanted, |out| {
                if wanted.local.is_some() {
                    out.array(2)?;
                    out.int(i64::from(is_local))?;
                }
                out.int(count)
            });
        }
    }

    /// CLIENT UNBLOCK of a client of this node: whether it waited, for whatever.
    pub(in crate::server) fn unblock(
        &mut self,
        core: &mut Core,
        link: &mut dyn Link,
        whom: Unblock,
    ) -> bool {
        let Unblock {
            client_id,
            with_error,
        } = whom;
        if core.unblock(client_id, with_error, link, self) {
            return true;
        }
        let mut sessions = core.sessions();
        let session = sessions.find(|session| session.client.id == client_id);
        let Some(session) = session.filter(|session| session.state == State::Blocked) else {
            return false;
        };
        let (session, proto) = (session.key, session.client.proto);
        if !self.waits.iter().any(|own| own.session == session) {
            return false;
        }
        drop(sessions);
        if with_error {
            self.forget_own_wait(session);
            let mut out = Output::default();
            let written = Writer::new(&mut out, proto).error(&UNBLOCKED_BY_CLIENT);
            debug_assert!(written.is_ok(), "a short reply fits");
            core.answer(session, &out, link, self);
        } else {
            // How many replicas have it is known there.
            self.inform(0, Message::CutWait { session });
        }
        true
    }

    pub(super) fn cut_wait(&mut self, place: Place) {
        let waiting = &mut self.replicas.waits.waiting;
        let Some(at) = waiting.iter().position(|one| one.is_of(place)) else {
            return;
        };
        waiting[at].wanted.deadline_ms = Some(self.now_ms);
        self.end_waits();
    }

    pub(super) fn forget_wait(&mut self, place: Place) {
        let waiting = &mut self.replicas.waits.waiting;
        waiting.retain(|one| !one.is_of(place));
    }
}
