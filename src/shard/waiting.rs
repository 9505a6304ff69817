//! Clients that wait for keys of this shard, first come first served.
//!
//! A client that waits for keys on several homes stands in a queue at each. Whoever serves it, or
//! lets it go, takes its [`Claim`] first, so that exactly one does.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;

use super::message::{Request, SessionKey};

/// Who may answer a waiting client: the one that takes it. Shared by the homes of its keys and its
/// own core, which is why it is atomic.
#[derive(Debug)]
pub struct Claim(AtomicBool);

impl Claim {
    /// A claim that is taken: by the attempt to serve the client before it waits.
    pub fn taken() -> Claim {
        Claim(AtomicBool::new(true))
    }

    pub fn take(&self) -> bool {
        !self.0.swap(true, Ordering::AcqRel)
    }

    pub fn give_back(&self) {
        self.0.store(false, Ordering::Release);
    }
}

/// Names one wait of one client.
#[derive(Clone, Debug)]
pub struct Ticket {
    pub session: SessionKey,
    /// Shard of the session.
    pub origin: usize,
    /// Tells this wait from others of the same session.
    pub id: u64,
    pub claim: Arc<Claim>,
}

impl Ticket {
    fn is(&self, other: &Ticket) -> bool {
        (self.origin, self.session, self.id) == (other.origin, other.session, other.id)
    }
}

/// A client in the queue of a key.
#[derive(Clone, Debug)]
pub struct Waiter {
    pub ticket: Ticket,
    pub request: Arc<Request>,
    /// The argument that names the key.
    pub at: usize,
    /// What the command noted about the key when the wait began.
    pub mark: Bytes,
    /// When the key may serve it though nothing has changed, unix milliseconds.
    pub alarm_ms: Option<i64>,
    /// Its core tries to serve it together with other homes; those behind it wait for the outcome.
    pub is_trying: bool,
}

/// A database and a key of it.
pub type Place = (u32, Box<[u8]>);

/// Where a request waits, on whatever shard that is.
fn places(request: &Request) -> impl Iterator<Item = Place> {
    let args = request.args.as_args();
    let place = move |at| (request.db, args.get(at).into());
    super::exec::waited_keys(request).map(place)
}

#[derive(Debug, Default)]
pub struct Waiting {
    queues: BTreeMap<Place, VecDeque<Waiter>>,
    /// No alarm is earlier; `None`: there is none. That of a client which is gone may be left.
    next_alarm_ms: Option<i64>,
    /// Keys that changed while a hold was on them.
    pub deferred: Vec<Place>,
}

impl Waiting {
    pub fn is_empty(&self) -> bool {
        self.queues.is_empty()
    }

    /// Number of clients in queues; one that waits for several keys counts for each.
    pub fn len(&self) -> usize {
        self.queues.values().map(VecDeque::len).sum()
    }

    pub fn push(&mut self, place: Place, waiter: Waiter) {
        self.expect_alarm(waiter.alarm_ms);
        self.queues.entry(place).or_default().push_back(waiter);
    }

    fn expect_alarm(&mut self, at_ms: Option<i64>) {
        let both = self.next_alarm_ms.into_iter().chain(at_ms);
        self.next_alarm_ms = both.min();
    }

    /// When clients are to be looked at again though nothing has changed, unix milliseconds.
    pub fn next_alarm_ms(&self) -> Option<i64> {
        self.next_alarm_ms.filter(|_| !self.is_empty())
    }

    pub fn set_alarm(&mut self, place: &Place, index: usize, at_ms: Option<i64>) {
        self.expect_alarm(at_ms);
        if let Some(waiter) = self.waiter_mut(place, index) {
            waiter.alarm_ms = at_ms;
        }
    }

    /// Has the keys looked at again whose alarms have come. Each of those goes off again after the
    /// shortest of times, unless whoever looks sets it anew.
    pub fn alarm(&mut self, now_ms: i64) {
        if self.next_alarm_ms.is_none_or(|at_ms| at_ms > now_ms) {
            return;
        }
        self.next_alarm_ms = None;
        for (place, queue) in &mut self.queues {
            let mut is_due = false;
            for waiter in queue {
                if waiter.alarm_ms.is_some_and(|at_ms| at_ms <= now_ms) {
                    waiter.alarm_ms = Some(now_ms.saturating_add(1));
                    is_due = true;
                }
                let both = self.next_alarm_ms.into_iter().chain(waiter.alarm_ms);
                self.next_alarm_ms = both.min();
            }
            if is_due {
                self.deferred.push(place.clone());
            }
        }
    }

    fn waiter_mut(&mut self, place: &Place, index: usize) -> Option<&mut Waiter> {
        self.queues.get_mut(place)?.get_mut(index)
    }

    /// The waiter at an index of a key's queue.
    pub fn get(&self, place: &Place, index: usize) -> Option<&Waiter> {
        self.queues.get(place)?.get(index)
    }

    pub fn set_trying(&mut self, place: &Place, index: usize) {
        if let Some(waiter) = self.waiter_mut(place, index) {
            waiter.is_trying = true;
        }
    }

    /// An attempt to serve a client failed: it waits on, and its keys are looked at again.
    pub fn tried(&mut self, ticket: &Ticket, request: &Request) {
        for place in places(request) {
            let queue = self.queues.get_mut(&place).into_iter().flatten();
            let mut places = queue.filter(|waiter| waiter.ticket.is(ticket)).peekable();
            if places.peek().is_some() {
                places.for_each(|waiter| waiter.is_trying = false);
                self.deferred.push(place);
            }
        }
    }

    /// Takes a client out of the queues of the keys it waits for; returns the keys, and whether
    /// those behind it were waiting for the outcome of an attempt.
    pub fn forget(&mut self, ticket: &Ticket, request: &Request) -> Vec<(Place, bool)> {
        let mut left = Vec::new();
        for place in places(request) {
            let Some(queue) = self.queues.get_mut(&place) else {
                continue;
            };
            // A key named twice is waited for twice.
            let Some(index) = queue.iter().position(|waiter| waiter.ticket.is(ticket)) else {
                continue;
            };
            let was_trying = queue.remove(index).is_some_and(|waiter| waiter.is_trying);
            if queue.is_empty() {
                self.queues.remove(&place);
            }
            left.push((place, was_trying));
        }
        left
    }
}
