//! A pipeline that visits all its homes at once: `pipeline-order relaxed`.
//!
//! ```text
//! GET a   GET b   GET c   GET d   GET e        as they came
//! here    1       1       here    2            where they run: what is here at once, the others
//!  |      '-hop 0-'        |      hop 1        when their hops arrive
//!  v         v             v        v
//! +A        +B +C         +D       +E          replies, in the order of the requests
//! ```
//! Commands on one key keep their order, for they have one home. Commands on keys of different homes
//! take effect in any order, which others can see: what [`add_to_hop`](Core) avoids by letting the
//! session wait for each home before it goes on to the next.
//!
//! A hop whose replies are many bytes comes back before all its commands have run. What can be written
//! in order is written then, and the hop goes out again when the session's socket took that.

use super::core::Core;
use super::link::{Host, Link};
use super::requests::Next;
use super::routing::{HOP_BYTES_MAX, HOP_CALLS_MAX, address};
use super::state::Session;
use crate::command::client::ReplyMode;
use crate::resp::{Args, Output};
use crate::shard::message::{Hop, HopCall, Message, SessionKey};

/// A hop that has grown beyond this is freed when it is back.
pub(super) const HOP_KEPT_BYTES: usize = 8192;

/// Where a reply comes from.
#[derive(Clone, Copy, Debug)]
enum From {
    /// It is here, and ends there.
    Here((usize, usize)),
    /// The next of the hop in this place.
    Hop(usize),
}

/// A home that some visit went to.
#[derive(Debug)]
struct Part {
    home: usize,
    /// Absent while it is away; without commands if this visit does not go there.
    hop: Option<Box<Hop>>,
    /// How many of its replies are written, and where the last of them ends.
    written: (usize, (usize, usize)),
}

impl Part {
    /// Whether its hop has to go out, for the first time or again.
    fn is_due(&self) -> bool {
        let is_due = |hop: &Hop| hop.is_unfinished() && self.written.0 == hop.ran.len();
        self.hop.as_ref().is_some_and(|hop| is_due(hop))
    }

    /// Writes the next reply; false if it has not come.
    fn write_next(&mut self, out: &mut Output) -> bool {
        let (next, begin) = &mut self.written;
        let Some(hop) = &self.hop else { return false };
        let Some(ran) = hop.ran.get(*next) else {
            return false;
        };
        out.append_range(&hop.out, *begin, ran.end);
        (*next, *begin) = (*next + 1, ran.end);
        true
    }
}

/// The commands of one visit.
#[derive(Debug, Default)]
pub struct Fan {
    parts: Vec<Part>,
    order: Vec<From>,
    /// How many of them are written.
    written: usize,
    /// Replies of what ran here, and where those end that are written.
    here: Output,
    here_written: (usize, usize),
    away: usize,
}

impl Fan {
    /// Whether it has no command whose reply is to be written.
    pub(super) fn is_empty(&self) -> bool {
        self.order.is_empty()
    }

    /// Whether hops are to come back.
    pub(super) fn is_away(&self) -> bool {
        self.away > 0
    }

    /// Whether a hop to this home has commands in it.
    fn goes_to(&self, home: usize) -> bool {
        let hop = self
            .place_of(home)
            .and_then(|at| self.parts[at].hop.as_ref());
        hop.is_some_and(|hop| !hop.calls.is_empty())
    }

    fn place_of(&self, home: usize) -> Option<usize> {
        self.parts.iter().position(|part| part.home == home)
    }

    fn is_full(&self) -> bool {
        let bytes = |part: &Part| part.hop.as_ref().map_or(0, |hop| hop.args.memory_bytes());
        self.order.len() >= HOP_CALLS_MAX
            || self.here.len() + self.parts.iter().map(bytes).sum::<usize>() >= HOP_BYTES_MAX
    }

    /// The hop to a home, and its place.
    fn hop_to(&mut self, home: usize) -> (usize, &mut Hop) {
        let place = match self.place_of(home) {
            Some(place) => place,
            None => {
                self.parts.push(Part {
                    home,
                    hop: None,
                    written: Default::default(),
                });
                self.parts.len() - 1
            }
        };
        (place, self.parts[place].hop.get_or_insert_default())
    }

    /// Sends all hops that have calls to run and no replies to be written; returns how many.
    pub(super) fn send(&mut self, post: &mut dyn FnMut(usize, Message)) -> usize {
        let away = self.away;
        for (place, part) in self.parts.iter_mut().enumerate() {
            if part.is_due()
                && let Some(mut hop) = part.hop.take()
            {
                hop.forget_ran();
                part.written = Default::default();
                hop.part = place;
                self.away += 1;
                post(part.home, Message::Hop(hop));
            }
        }
        self.away - away
    }

    /// A hop is back; returns whether all are.
    pub(super) fn back(&mut self, hop: Box<Hop>) -> bool {
        let place = hop.part;
        self.parts[place].hop = Some(hop);
        self.away -= 1;
        self.away == 0
    }

    /// Writes the replies in order, as far as they have come.
    fn write(&mut self, out: &mut Output) {
        while let Some(&from) = self.order.get(self.written) {
            match from {
                From::Here(end) => {
                    out.append_range(&self.here, self.here_written, end);
                    self.here_written = end;
                }
                From::Hop(place) => {
                    if !self.parts[place].write_next(out) {
                        return;
                    }
                }
            }
            self.written += 1;
        }
        self.clear();
    }

    /// Ready for the next visit.
    fn clear(&mut self) {
        for part in &mut self.parts {
            part.hop = part
                .hop
                .take()
                .filter(|hop| hop.memory_bytes() <= HOP_KEPT_BYTES);
            part.hop.iter_mut().for_each(|hop| hop.clear());
            part.written = Default::default();
        }
        self.order.clear();
        self.here.clear();
        (self.written, self.here_written) = Default::default();
    }

    /// Hops that are here.
    pub(super) fn hops(&self) -> impl Iterator<Item = &Hop> {
        self.parts.iter().filter_map(|part| part.hop.as_deref())
    }

    /// Bytes allocated.
    pub(super) fn memory_bytes(&self) -> usize {
        let hops: usize = self.hops().map(Hop::memory_bytes).sum();
        size_of::<Fan>() + self.here.bytes.capacity() + hops
    }
}

impl Core {
    /// Whether a session's commands may visit several homes at once.
    pub(super) fn may_fan(&self, key: SessionKey) -> bool {
        // The server's own sessions repeat what happened, in its order; a client that keeps copies is
        // told of changes in the order of its replies.
        let may = |its: &Session| {
            its.user.is_some()
                && its.client.reply == ReplyMode::On
                && its.client.tracking.is_none()
                && its.joint.is_none()
                && its.hop.as_ref().is_none_or(|hop| hop.calls.is_empty())
        };
        self.limits.is_relaxed && self.session(key).is_some_and(may)
    }

    /// Runs a command if it is one of this core's, or puts it into the hop to its home.
    pub(super) fn fan_out(
        &mut self,
        key: SessionKey,
        call: HopCall,
        args: &Args,
        home: usize,
        link: &mut dyn Link,
        host: &mut dyn Host,
    ) -> Next {
        let here = self.shard.place.shard;
        let Some(session) = self.session_mut(key) else {
            return Next::Wait;
        };
        let mut fan = session.fan.take().unwrap_or_default();
        let max_bytes = self.output_max_bytes(key);
        // What has to wait for its keys goes before what comes behind it.
        if home == here && !fan.goes_to(here) && !self.is_blocked(key, &call, args) {
            let mark = link.out(key).mark();
            self.run_command(key, call, args, link, host);
            let out = link.out(key);
            fan.here.append_range(out, mark, out.mark());
            out.rewind(mark);
            fan.order.push(From::Here(fan.here.mark()));
        } else if let Some(session) = self.session_mut(key) {
            session.last_command = Some(call.id);
            let (place, hop) = fan.hop_to(home);
            address(hop, session, here, max_bytes);
            hop.push(call, args);
            fan.order.push(From::Hop(place));
            self.counters.commands += 1;
        }
        let is_full = fan.is_full();
        if let Some(session) = self.session_mut(key) {
            session.fan = Some(fan);
        }
        if is_full { Next::Wait } else { Next::Continue }
    }

    /// All hops are back: the replies go out, as far as they have come.
    pub(super) fn fan_in(&mut self, key: SessionKey, link: &mut dyn Link) {
        let Some(mut fan) = self.session_mut(key).and_then(|its| its.fan.take()) else {
            return;
        };
        fan.write(link.out(key));
        if let Some(session) = self.session_mut(key) {
            let keeps = !fan.is_empty() || fan.here.bytes.capacity() <= HOP_KEPT_BYTES;
            session.fan = keeps.then_some(fan);
        }
        self.check_limit(key, link);
    }
}
