//! Mailboxes: batches of messages from every core to every other, and the doorbells beside them.
//!
//! ```text
//! producer i -> consumer j:  one bounded single-producer ring of batches
//! ```
//! A batch is everything one turn has for one destination. A core that is about to sleep says so
//! first and looks into its mailboxes once more; a sender looks at that flag after it has put its
//! batch in. Whatever the interleaving, one of the two sees the other.
//!
//! Mail arrives in causal order: if one core sends a message after it has heard, by whatever way,
//! of another core's earlier one, nobody gets the two the other way round. The batches of one turn
//! are put into their boxes under one number from a common counter and published together; what is
//! there is handed out in the order of the numbers.

use std::os::fd::{OwnedFd, RawFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU64, AtomicUsize, Ordering, fence};

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
    /// The number of the last batches that it published.
    published: AtomicU64,
}

/// What all cores share.
pub(super) struct Shared {
    pub doors: Vec<Door>,
    /// Numbers batches.
    sequence: AtomicU64,
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
            sequence: AtomicU64::new(0),
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

/// A batch with its number.
type Numbered<M> = (u64, Mail<M>);

/// Mail that was collected, with its number and its sender.
pub(super) type Collected<M> = Vec<(u64, usize, Mail<M>)>;

/// One core's ends of all mailboxes.
pub(super) struct Mailboxes<M> {
    shard: usize,
    shared: Arc<Shared>,
    outgoing: Vec<Producer<Numbered<M>>>,
    incoming: Vec<Consumer<Numbered<M>>>,
    /// Destinations that got mail in this turn.
    rung: Vec<bool>,
    /// Room that is known to be left in each outgoing box.
    room: Vec<usize>,
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
            room: vec![0; shards],
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
    /// Publishes one turn's mail; gives it all back if one of the boxes is full. Only together: who
    /// is told one thing may tell others, who must not hear of it before they have theirs.
    pub fn send(&mut self, mail: Vec<(usize, Mail<M>)>) -> Result<(), Vec<(usize, Mail<M>)>> {
        for (to, _) in &mail {
            self.room[*to] = self.outgoing[*to].slots();
        }
        for (to, _) in &mail {
            let Some(left) = self.room[*to].checked_sub(1) else {
                return Err(mail);
            };
            self.room[*to] = left;
        }
        let number = self.fill(mail);
        self.publish(number);
        Ok(())
    }

    /// Puts mail into boxes that have room for it; nobody takes it before it is published.
    fn fill(&mut self, mail: Vec<(usize, Mail<M>)>) -> u64 {
        // Larger than the number of anything that this core has taken.
        let number = self.shared.sequence.fetch_add(1, Ordering::SeqCst) + 1;
        for (to, mail) in mail {
            let pushed = self.outgoing[to].push((number, mail));
            debug_assert!(pushed.is_ok(), "there was room, and nobody else sends");
            self.rung[to] = true;
        }
        number
    }

    fn publish(&mut self, number: u64) {
        let published = &self.shared.doors[self.shard].published;
        published.store(number, Ordering::SeqCst);
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

    /// Takes the mail that is there, in causal order.
    ///
    /// While one box is looked at, a batch may come into a box that was looked at before, and what
    /// follows from it into one that is still to come. So the boxes are looked at again, for what
    /// has a smaller number than the newest taken, until there is nothing of that kind: whatever a
    /// batch follows from was published before the batch was.
    pub fn collect(&mut self, into: &mut Collected<M>) {
        let mut newest = u64::MAX;
        loop {
            let before = into.len();
            for (from, incoming) in self.incoming.iter_mut().enumerate() {
                let published = self.shared.doors[from].published.load(Ordering::SeqCst);
                let limit = newest.min(published);
                while incoming.peek().is_ok_and(|(number, _)| *number <= limit)
                    && let Ok((number, mail)) = incoming.pop()
                {
                    into.push((number, from, mail));
                }
            }
            if into.len() == before {
                break;
            }
            newest = into.iter().map(|(number, ..)| *number).max().unwrap_or(0);
        }
        into.sort_unstable_by_key(|(number, ..)| *number);
    }

    /// Announces sleep. Returns whether there is mail after all: then stay awake.
    pub fn prepare_sleep(&mut self) -> bool {
        let door = &self.shared.doors[self.shard];
        door.sleeping.store(true, Ordering::SeqCst);
        fence(Ordering::SeqCst);
        let mail = self.has_mail();
        if mail {
            door.sleeping.store(false, Ordering::SeqCst);
        }
        mail
    }

    pub fn has_mail(&self) -> bool {
        self.incoming.iter().any(|incoming| !incoming.is_empty())
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

    fn batches(mailboxes: &mut Mailboxes<u32>) -> Vec<(usize, Vec<u32>)> {
        let mut collected = Vec::new();
        mailboxes.collect(&mut collected);
        let batch = |(_, from, mail)| match mail {
            Mail::Messages(batch) => (from, batch),
            Mail::Adopt(..) => panic!("no connections here"),
        };
        collected.into_iter().map(batch).collect()
    }

    #[test]
    fn mail_arrives_in_order_and_a_full_box_gives_it_back() {
        let shared = Shared::new(2);
        let mut boxes = mesh::<u32>(&shared);
        let mut two = boxes.pop().unwrap();
        let mut one = boxes.pop().unwrap();
        let letter = |n| vec![(1, Mail::Messages(vec![n]))];
        for n in 0..BATCHES_MAX as u32 {
            assert!(one.send(letter(n)).is_ok());
        }
        let both = vec![(0, Mail::Messages(vec![8])), (1, Mail::Messages(vec![9]))];
        assert!(one.send(both).is_err());
        assert!(batches(&mut one).is_empty(), "all or nothing");
        let arrived = batches(&mut two);
        let sent = (0..BATCHES_MAX as u32).map(|n| (0, vec![n]));
        assert!(arrived.into_iter().eq(sent));
        assert!(batches(&mut two).is_empty());
    }

    #[test]
    fn mail_of_several_cores_arrives_in_the_order_it_was_sent() {
        let shared = Shared::new(4);
        let mut boxes = mesh::<u32>(&shared);
        let mut rng = fastrand::Rng::with_seed(1);
        let mut last = boxes.pop().unwrap();
        for n in 0..200 {
            let from = rng.usize(..3);
            let letter = vec![(3, Mail::Messages(vec![n]))];
            assert!(boxes[from].send(letter).is_ok());
        }
        let arrived = batches(&mut last).into_iter().flat_map(|(_, batch)| batch);
        assert!(arrived.eq(0..200));
    }

    /// Core 0 tells 1 and 2 in one turn: 1 must not pass it on before 2 has it.
    #[test]
    fn what_follows_from_mail_is_never_there_before_it() {
        let shared = Shared::new(3);
        let mut boxes = mesh::<u32>(&shared);
        let mut two = boxes.pop().unwrap();
        let mut one = boxes.pop().unwrap();
        let mut zero = boxes.pop().unwrap();
        let letter = |to: usize, n| (to, Mail::Messages(vec![n]));
        let number = zero.fill(vec![letter(1, 7), letter(2, 7)]);
        assert!(batches(&mut one).is_empty(), "2 does not have it");
        assert!(batches(&mut two).is_empty());
        zero.publish(number);
        assert_eq!(batches(&mut one), [(0, vec![7])]);
        assert!(one.send(vec![letter(2, 8)]).is_ok());
        assert_eq!(batches(&mut two), [(0, vec![7]), (1, vec![8])]);
    }

    #[test]
    fn only_sleepers_are_rung() {
        let shared = Shared::new(2);
        shared.doors[1].ring_fd.store(42, Ordering::Release);
        let mut boxes = mesh::<u32>(&shared);
        let mut two = boxes.pop().unwrap();
        let mut one = boxes.pop().unwrap();
        let mut rung = Vec::new();
        assert!(one.send(vec![(1, Mail::Messages(vec![1]))]).is_ok());
        one.doorbells(|fd| rung.push(fd));
        assert!(rung.is_empty());
        assert!(two.prepare_sleep(), "there is mail");
        assert_eq!(batches(&mut two).len(), 1);
        assert!(!two.prepare_sleep());
        assert!(one.send(vec![(1, Mail::Messages(vec![2]))]).is_ok());
        one.doorbells(|fd| rung.push(fd));
        one.doorbells(|fd| rung.push(fd));
        assert_eq!(rung, [42]);
    }
}
