//! Mailboxes: batches of messages from every core to every other, and the doorbells beside them.
//!
//! ```text
//! producer i -> consumer j:  one bounded single-producer ring of batches
//! ```
//! A batch is everything one turn has for one destination. A core that is about to sleep says so
//! first and looks into its mailboxes once more; a sender looks at that flag after it has put its
//! batch in. Whatever the interleaving, one of the two sees the other.

use std::os::fd::{OwnedFd, RawFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicUsize, Ordering, fence};

use rtrb::{Consumer, Producer, RingBuffer};

use super::app::ConnInfo;

/// Batches under way between two cores. A full ring makes the sender keep its batch, so this
/// bounds only how far one core may be ahead within a few turns of the other.
const BATCHES_MAX: usize = 256;

/// What travels between cores.
pub(super) enum Mail<M> {
    Messages(Vec<M>),
    /// A connection accepted elsewhere that is served here.
    Adopt(OwnedFd, Box<ConnInfo>),
}

/// What all cores see of one.
#[derive(Default)]
pub(super) struct Door {
    /// It sleeps in its ring, or is about to: ring its bell.
    pub sleeping: AtomicBool,
    /// Descriptor of its ring, -1 before it runs.
    pub ring_fd: AtomicI32,
    /// Its open connections.
    pub connections: AtomicUsize,
}

/// What all cores share.
pub(super) struct Shared {
    pub doors: Vec<Door>,
    pub stopping: AtomicBool,
    pub exit_code: AtomicI32,
}

impl Shared {
    pub fn new(shards: usize) -> Arc<Shared> {
        let door = || Door {
            ring_fd: AtomicI32::new(-1),
            ..Door::default()
        };
        Arc::new(Shared {
            doors: (0..shards).map(|_| door()).collect(),
            stopping: AtomicBool::new(false),
            exit_code: AtomicI32::new(0),
        })
    }

    pub fn connections(&self) -> usize {
        self.doors
            .iter()
            .map(|door| door.connections.load(Ordering::Relaxed))
            .sum()
    }

    /// The core with the fewest connections.
    pub fn least_loaded(&self) -> usize {
        let load = |shard: &usize| self.doors[*shard].connections.load(Ordering::Relaxed);
        (0..self.doors.len()).min_by_key(load).unwrap_or(0)
    }
}

/// One core's ends of all mailboxes.
pub(super) struct Mailboxes<M> {
    shard: usize,
    shared: Arc<Shared>,
    outgoing: Vec<Producer<Mail<M>>>,
    incoming: Vec<Consumer<Mail<M>>>,
    /// Destinations that got mail in this turn.
    rung: Vec<bool>,
}

/// The mailboxes of all cores, in core order.
pub(super) fn mesh<M>(shared: &Arc<Shared>) -> Vec<Mailboxes<M>> {
    let shards = shared.doors.len();
    let mut boxes: Vec<Mailboxes<M>> = (0..shards)
        .map(|shard| Mailboxes {
            shard,
            shared: shared.clone(),
            outgoing: Vec::with_capacity(shards),
            incoming: Vec::with_capacity(shards),
            rung: vec![false; shards],
        })
        .collect();
    for from in 0..shards {
        for to in 0..shards {
            let (producer, consumer) = RingBuffer::new(BATCHES_MAX);
            boxes[from].outgoing.push(producer);
            boxes[to].incoming.push(consumer);
        }
    }
    boxes
}

impl<M> Mailboxes<M> {
    /// Puts mail into the box of `to`; gives it back if the box is full.
    pub fn send(&mut self, to: usize, mail: Mail<M>) -> Result<(), Mail<M>> {
        self.outgoing[to]
            .push(mail)
            .map_err(|rtrb::PushError::Full(mail)| mail)?;
        self.rung[to] = true;
        Ok(())
    }

    /// Rings of the destinations of this turn that sleep.
    pub fn doorbells(&mut self, mut ring: impl FnMut(RawFd)) {
        for to in 0..self.rung.len() {
            if !std::mem::take(&mut self.rung[to]) || to == self.shard {
                continue;
            }
            fence(Ordering::SeqCst);
            let door = &self.shared.doors[to];
            if door.sleeping.swap(false, Ordering::SeqCst) {
                ring(door.ring_fd.load(Ordering::Acquire));
            }
        }
    }

    /// Takes the next mail, from whichever core.
    pub fn receive(&mut self) -> Option<(usize, Mail<M>)> {
        self.incoming
            .iter_mut()
            .enumerate()
            .find_map(|(from, incoming)| incoming.pop().ok().map(|mail| (from, mail)))
    }

    /// Announces sleep. Returns whether there is mail after all: then stay awake.
    pub fn prepare_sleep(&mut self) -> bool {
        let door = &self.shared.doors[self.shard];
        door.sleeping.store(true, Ordering::SeqCst);
        fence(Ordering::SeqCst);
        let mail = self.incoming.iter().any(|incoming| !incoming.is_empty());
        if mail {
            door.sleeping.store(false, Ordering::SeqCst);
        }
        mail
    }

    pub fn awake(&self) {
        self.shared.doors[self.shard]
            .sleeping
            .store(false, Ordering::SeqCst);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mail_arrives_in_order_and_a_full_box_gives_it_back() {
        let shared = Shared::new(2);
        let mut boxes = mesh::<u32>(&shared);
        let mut two = boxes.pop().unwrap();
        let mut one = boxes.pop().unwrap();
        for n in 0..BATCHES_MAX as u32 {
            assert!(one.send(1, Mail::Messages(vec![n])).is_ok());
        }
        assert!(one.send(1, Mail::Messages(vec![9])).is_err());
        for n in 0..BATCHES_MAX as u32 {
            let Some((0, Mail::Messages(batch))) = two.receive() else {
                panic!("mail is missing")
            };
            assert_eq!(batch, [n]);
        }
        assert!(two.receive().is_none());
    }

    #[test]
    fn only_sleepers_are_rung() {
        let shared = Shared::new(2);
        shared.doors[1].ring_fd.store(42, Ordering::Release);
        let mut boxes = mesh::<u32>(&shared);
        let mut two = boxes.pop().unwrap();
        let mut one = boxes.pop().unwrap();
        let mut rung = Vec::new();
        assert!(one.send(1, Mail::Messages(vec![1])).is_ok());
        one.doorbells(|fd| rung.push(fd));
        assert!(rung.is_empty());
        assert!(two.prepare_sleep(), "there is mail");
        assert!(two.receive().is_some());
        assert!(!two.prepare_sleep());
        assert!(one.send(1, Mail::Messages(vec![2])).is_ok());
        one.doorbells(|fd| rung.push(fd));
        one.doorbells(|fd| rung.push(fd));
        assert_eq!(rung, [42]);
    }
}
