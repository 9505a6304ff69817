//! What a client sends: run as it comes, kept while the client waits, refused beyond its limit.

use super::{Core, Overflow};
use crate::keyspace::{Foreseen, WARM_KEYS};
use crate::resp::{BUFFERED_MAX_BYTES, Glance};
use crate::session::link::{Admission, Host, Link};
use crate::session::requests::Next;
use crate::session::state::{Session, State};
use crate::shard::message::{MASTER, SessionKey};

impl Core {
    /// Bytes that are about to be received: fetches what the first request of each will look at.
    pub fn foresee<'b>(&self, arrivals: impl Iterator<Item = (SessionKey, &'b [u8])>) {
        let place = self.shard.place;
        let mut keys = arrivals.filter_map(|(session, bytes)| {
            let session = self.session(session)?;
            let db = session.client.db;
            if !self.shard.keyspace.is_cold(db) {
                return None;
            }
            let foreseen = Foreseen::new(db, Glance::new(bytes).next()?);
            (place.is_home(foreseen.key) && session.input.is_empty()).then_some(foreseen)
        });
        while self.shard.keyspace.warm(&mut keys) == WARM_KEYS {}
    }

    /// Bytes arrived for a session.
    pub fn receive(
        &mut self,
        key: SessionKey,
        bytes: &[u8],
        link: &mut dyn Link,
        host: &mut dyn Host,
    ) {
        let now_ms = link.now_ms();
        self.counters.input_bytes += bytes.len() as u64;
        self.counters.reads += 1;
        let Some(session) = self.session_mut(key) else {
            return;
        };
        if session.state == State::Closing {
            // What came in the same turn as the reason to close.
            return;
        }
        session.last_ms = now_ms;
        session.received_bytes += bytes.len() as u64;
        let taken = session.parser.feed_large(bytes);
        let bytes = &bytes[taken..];
        if session.state != State::Running || session.parser.wants_large() {
            session.input.extend_from_slice(bytes);
            self.check_query_limit(key, link);
            return;
        }
        if session.input.is_empty() {
            // The first request was foreseen when it arrived.
            session.fetched = 1;
            let rest = self.run_requests(key, bytes, link, host);
            if let Some(session) = self.session_mut(key)
                && !rest.is_empty()
            {
                session.input = bytes[rest].to_vec();
            }
        } else {
            let mut input = std::mem::take(&mut session.input);
            input.extend_from_slice(bytes);
            self.run_buffered(key, input, link, host);
        }
        self.check_query_limit(key, link);
    }

    /// Runs the requests of an owned buffer and keeps the rest in that same buffer: a client that is
    /// far ahead of its replies must not have its input copied at every step.
    fn run_buffered(
        &mut self,
        key: SessionKey,
        mut input: Vec<u8>,
        link: &mut dyn Link,
        host: &mut dyn Host,
    ) {
        // Larger empty buffers are freed: an idle client must not keep what a burst once needed.
        const KEPT_BYTES: usize = 4096;
        let rest = self.run_requests(key, &input, link, host);
        input.truncate(rest.end);
        input.drain(..rest.start);
        if let Some(session) = self.session_mut(key)
            && (!input.is_empty() || input.capacity() <= KEPT_BYTES)
        {
            session.input = input;
        }
    }

    /// Runs what a session has buffered, after whatever it waited for has happened.
    pub fn resume(&mut self, key: SessionKey, link: &mut dyn Link, host: &mut dyn Host) {
        let Some(session) = self.session_mut(key) else {
            return;
        };
        if session.state == State::Closing {
            return;
        }
        session.state = State::Running;
        session.current_bytes = 0;
        session.is_outdated = false;
        let is_limited = session.is_limited;
        if link.pending_bytes(key) > 0 && self.check_drain(key, link) == Next::Wait {
            return;
        }
        if self.is_hopping(key) {
            // What is left of a hop that came back with many bytes of replies.
            let is_free = !is_limited && !host.is_watching();
            if is_free || self.may_go_on(key, link, host) {
                self.send_hop(key, link);
            }
            return;
        }
        let Some(session) = self.session_mut(key) else {
            return;
        };
        if session.reading_paused {
            session.reading_paused = false;
            link.resume_recv(key);
        }
        if session.input.is_empty() || session.parser.wants_large() {
            return;
        }
        let input = std::mem::take(&mut session.input);
        self.run_buffered(key, input, link, host);
    }

    /// Whether what is left of hops may still run: it was admitted before their session waited for its
    /// reader. Since then clients may have been paused, this server may have become a replica, or its
    /// user may have lost the right to it.
    fn may_go_on(&mut self, key: SessionKey, link: &mut dyn Link, host: &mut dyn Host) -> bool {
        let table = self.table.clone();
        for (id, args) in self.session(key).map_or(Vec::new(), Session::left_in_hops) {
            let args = args.as_args();
            if self.refuses_in_hop(key, id, &args, link, host) {
                self.abandon(key, link);
                return false;
            }
            match host.admit(self, link, key, table.entry(id), &args) {
                Admission::Run => {}
                Admission::Postpone => {
                    if let Some(session) = self.session_mut(key) {
                        session.state = State::Postponed;
                    }
                    return false;
                }
                // An error would have to wait for the replies before it. Whose connection is closed
                // knows that not all was done.
                Admission::Refuse(_) => {
                    self.abandon(key, link);
                    return false;
                }
            }
        }
        true
    }

    /// All output of a session has been sent.
    pub fn drained(&mut self, key: SessionKey, link: &mut dyn Link, host: &mut dyn Host) {
        let Some(session) = self.session_mut(key) else {
            return;
        };
        session.drain_steps = 0;
        session.undrained_bytes = None;
        if session.state == State::Draining {
            self.resume(key, link, host);
        }
    }

    /// Closes a client that sends more than it may without ever completing a request, and stops
    /// reading from one that is merely ahead of its replies.
    fn check_query_limit(&mut self, key: SessionKey, link: &mut dyn Link) {
        /// Unread requests beyond which a waiting session's socket is left alone.
        const AHEAD_BYTES: usize = 256 * 1024;
        let max = self.limits.query_max_bytes.min(BUFFERED_MAX_BYTES);
        let Some(session) = self.session_mut(key) else {
            return;
        };
        if session.query_bytes() > max && key != MASTER {
            session.state = State::Closing;
            self.counters.query_limit_closed += 1;
            self.overflown.push((key, Overflow::Query));
            link.close(key);
        } else if session.state != State::Running
            && session.input.len() > AHEAD_BYTES
            && !session.reading_paused
        {
            session.reading_paused = true;
            link.pause_recv(key);
        }
    }
}
