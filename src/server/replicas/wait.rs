//! WAIT: who waits until replicas have what they wrote.
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

use super::{Message, Place};
use crate::command::block::timeout_ms;
use crate::resp::{Args, CmdError};
use crate::server::ask::Requester;
use crate::server::clients::Unblock;
use crate::server::host::ServerHost;
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

/// A client that waits.
#[derive(Clone, Debug)]
pub struct Wanted {
    requester: Requester,
    seen: Seen,
    replicas: i64,
    /// Unix milliseconds.
    deadline_ms: Option<i64>,
    /// Inside of a transaction nobody waits.
    at_once: bool,
}

#[derive(Debug)]
struct Waiting {
    wanted: Wanted,
    /// What replicas have to reach. `None`: the stream does not have all that the client has seen.
    offset: Option<i64>,
}

impl Waiting {
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

/// Until when a client waits: unix milliseconds.
fn deadline(args: &Args, now_ms: i64) -> Result<(i64, Option<i64>), CmdError> {
    let replicas = args.int(1)?;
    let timeout_ms = timeout_ms(args, 2)?;
    let deadline_ms = (timeout_ms > 0).then(|| now_ms.saturating_add(timeout_ms));
    Ok((replicas, deadline_ms))
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
        let (replicas, deadline_ms) = match deadline(args, self.now_ms) {
            Ok(asked) => asked,
            Err(error) => return Performed::Failed(error),
        };
        if !self.waits.contains(&requester.session) {
            self.waits.push(requester.session);
        }
        let at_once = core.is_executing(requester.session);
        let session = core.session(requester.session);
        let wanted = Wanted {
            requester,
            seen: session.map(|its| its.seen.clone()).unwrap_or_default(),
            replicas,
            deadline_ms,
            at_once,
        };
        self.inform(0, Message::Wait(Box::new(wanted)));
        Performed::Later
    }

    /// A session is gone.
    pub(in crate::server) fn forget_own_wait(&mut self, session: SessionKey) {
        if let Some(at) = self.waits.iter().position(|own| *own == session) {
            self.waits.swap_remove(at);
            self.inform(0, Message::EndWait { session });
        }
    }

    pub(super) fn wait_wanted(&mut self, wanted: Wanted) {
        let offset = None;
        self.replicas.waits.waiting.push(Waiting { wanted, offset });
        self.mind_waits();
    }

    /// The stream has gone on: some may know now what they wait for.
    pub(super) fn mind_waits(&mut self) {
        if !self.replicas.waits.look_again() {
            return;
        }
        self.end_waits();
        if !self.replicas.waits.waiting.is_empty() && self.replicas.has_any() {
            self.replicas.say(GETACK);
        }
    }

    /// Asks all feeds for a mark.
    pub(in crate::server) fn ask_for_mark(&mut self) -> u64 {
        self.replicas.waits.next_mark += 1;
        let id = self.replicas.waits.next_mark;
        for node in 0..self.shards {
            self.inform(node, Message::Reach(id));
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
            let Wanted {
                requester,
                replicas: wanted,
                deadline_ms,
                at_once,
                ..
            } = one.wanted;
            let late = deadline_ms.is_some_and(|at_ms| at_ms <= now_ms);
            // What is not in the stream, nobody has.
            let count = one.offset.map_or(0, |at| replicas.count_reached(at));
            let is_over = late || one.offset.is_some() && (count >= wanted || at_once);
            if is_over {
                over.push((requester, count));
            }
            !is_over
        });
        replicas.waits.waiting = waiting;
        for (requester, count) in over {
            self.reply_with(requester, |out| out.int(count));
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
        let session = session.key;
        if self.waits.contains(&session) {
            // Whether it waits on is known where replicas are.
            self.inform(
                0,
                Message::CutWait {
                    session,
                    with_error,
                },
            );
        }
        self.waits.contains(&session) | self.cut_aof_wait(session, with_error)
    }

    pub(super) fn cut_wait(&mut self, place: Place, with_error: bool) {
        let waiting = &mut self.replicas.waits.waiting;
        let Some(at) = waiting.iter().position(|one| one.is_of(place)) else {
            return;
        };
        if with_error {
            let over = waiting.swap_remove(at);
            self.reply_with(over.wanted.requester, |out| out.error(&UNBLOCKED_BY_CLIENT));
        } else {
            waiting[at].wanted.deadline_ms = Some(self.now_ms);
            self.end_waits();
        }
    }

    pub(super) fn forget_wait(&mut self, place: Place) {
        let waiting = &mut self.replicas.waits.waiting;
        waiting.retain(|one| !one.is_of(place));
    }
}
