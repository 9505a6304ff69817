//! The expiry wheel: deadlines in milliseconds, insert and cancel in constant time.
//!
//! ```text
//! level 0   64 slots of 1 ms
//! level 1   64 slots of 64 ms
//! level n   64 slots of 64^n ms        11 levels cover every i64
//! ```
//! A node stands at the level of the highest six-bit digit in which its deadline differs from
//! `elapsed`, the time up to which the wheel has turned; so the lowest occupied level always holds
//! the earliest deadline, and within a level slots come in order. When the wheel reaches a slot of
//! a higher level it hands the slot's nodes down, one per [`Wheel::step`]: a million keys that
//! expire within a second never make anybody wait. Occupied slots are bits of one word per level,
//! so an idle year costs no more than an idle millisecond.
//!
//! The wheel never turns back. Deadlines that lie behind it (in the past when set, or set after the
//! wall clock was put back) stand in an ordered map beside it until the clock reaches them.
//!
//! Varghese and Lauck, Hashed and Hierarchical Timing Wheels, 1987.

use std::collections::BTreeSet;
use std::num::NonZeroU16;

use crate::value::slab::Slab;

/// No node.
pub const NONE: u32 = u32::MAX;

const BITS: u32 = 6;
const SLOTS: usize = 1 << BITS;
const LEVELS: usize = 11;

#[derive(Clone, Copy, Debug)]
struct Node {
    deadline_ms: i64,
    owner: u64,
    prev: u32,
    next: u32,
    place: Place,
}

/// Level and slot plus one, or [`BEHIND`]. Never 0, which lets the slab mark free nodes for nothing.
type Place = NonZeroU16;

/// The node stands in the map of deadlines behind the wheel.
const BEHIND: Place = NonZeroU16::MAX;

fn place(level: usize, slot: usize) -> Place {
    NonZeroU16::MIN.saturating_add((level << BITS | slot) as u16)
}

#[derive(Clone, Copy, Debug)]
struct List {
    head: u32,
    tail: u32,
}

const EMPTY: List = List {
    head: NONE,
    tail: NONE,
};

/// What one step of the wheel did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// This deadline has passed; its node is gone.
    Due { deadline_ms: i64, owner: u64 },
    /// A node moved to a lower level; call again.
    Cascaded,
    /// Nothing is due.
    Idle,
}

#[derive(Debug)]
pub struct Wheel {
    nodes: Slab<Node>,
    /// Deadlines before `elapsed`, with their nodes.
    behind: BTreeSet<(i64, u32)>,
    /// Everything before this time has been handed out.
    elapsed: u64,
    occupied: [u64; LEVELS],
    slots: Box<[[List; SLOTS]; LEVELS]>,
    /// A slot of a higher level whose nodes are being handed down.
    cascading: Option<(usize, usize)>,
}

impl Wheel {
    /// A wheel that has turned up to `elapsed_ms`.
    pub fn new(elapsed_ms: u64) -> Wheel {
        Wheel {
            nodes: Slab::default(),
            behind: BTreeSet::new(),
            elapsed: elapsed_ms,
            occupied: [0; LEVELS],
            slots: Box::new([[EMPTY; SLOTS]; LEVELS]),
            cascading: None,
        }
    }

    /// The time up to which the wheel has turned.
    pub fn elapsed_ms(&self) -> u64 {
        self.elapsed
    }

    pub fn memory_bytes(&self) -> usize {
        self.nodes.used_bytes()
    }

    #[cfg(test)]
    fn len(&self) -> usize {
        self.nodes.len()
    }

    /// Adds a deadline; `owner` comes back when it has passed.
    pub fn insert(&mut self, deadline_ms: i64, owner: u64) -> u32 {
        let node = self.nodes.insert(Node {
            deadline_ms,
            owner,
            prev: NONE,
            next: NONE,
            place: BEHIND,
        });
        self.link(node);
        node
    }

    pub fn cancel(&mut self, node: u32) {
        self.unlink(node);
        self.nodes.remove(node);
    }

    /// Gives a node another deadline.
    pub fn reschedule(&mut self, node: u32, deadline_ms: i64) {
        self.unlink(node);
        self.nodes.get_mut(node).deadline_ms = deadline_ms;
        self.link(node);
    }

    pub fn deadline(&self, node: u32) -> i64 {
        self.nodes.get(node).deadline_ms
    }

    /// The owner moved.
    pub fn set_owner(&mut self, node: u32, owner: u64) {
        self.nodes.get_mut(node).owner = owner;
    }

    /// A random deadline of an owner that is `wanted`; where few nodes are left of many, the next one.
    pub fn random(
        &self,
        rng: &mut fastrand::Rng,
        wanted: impl Fn(u64) -> bool,
    ) -> Option<(i64, u64)> {
        let next = || {
            let behind = self.behind.first().map(|&(_, node)| node);
            let node = behind.or_else(|| {
                let (level, slot, _) = self.earliest()?;
                Some(self.slots[level][slot].head)
            })?;
            Some(self.nodes.get(node)).filter(|node| wanted(node.owner))
        };
        let found = self.nodes.random(rng, |node| wanted(node.owner));
        let node = found.or_else(next)?;
        Some((node.deadline_ms, node.owner))
    }

    /// Frees a segment of a wheel that nobody refers to any more. Returns whether there are more.
    pub fn dismantle(&mut self) -> bool {
        self.nodes.dismantle()
    }

    fn link(&mut self, node: u32) {
        let deadline_ms = self.nodes.get(node).deadline_ms;
        let when = match u64::try_from(deadline_ms) {
            Ok(when) if when >= self.elapsed => when,
            _ => {
                self.behind.insert((deadline_ms, node));
                self.nodes.get_mut(node).place = BEHIND;
                return;
            }
        };
        let different = when ^ self.elapsed;
        let level = (63 - (different | 1).leading_zeros()) / BITS;
        let slot = (when >> (BITS * level)) as usize & (SLOTS - 1);
        let level = level as usize;
        let list = &mut self.slots[level][slot];
        let tail = std::mem::replace(&mut list.tail, node);
        if tail == NONE {
            list.head = node;
            self.occupied[level] |= 1 << slot;
        } else {
            self.nodes.get_mut(tail).next = node;
        }
        let linked = self.nodes.get_mut(node);
        (linked.prev, linked.next) = (tail, NONE);
        linked.place = place(level, slot);
    }

    fn unlink(&mut self, node: u32) {
        let Node {
            deadline_ms,
            prev,
            next,
            place,
            ..
        } = *self.nodes.get(node);
        if place == BEHIND {
            self.behind.remove(&(deadline_ms, node));
            return;
        }
        let at = usize::from(place.get()) - 1;
        let (level, slot) = (at >> BITS, at & (SLOTS - 1));
        let list = &mut self.slots[level][slot];
        match prev {
            NONE => list.head = next,
            prev => self.nodes.get_mut(prev).next = next,
        }
        match next {
            NONE => list.tail = prev,
            next => self.nodes.get_mut(next).prev = prev,
        }
        if list.head == NONE {
            self.occupied[level] &= !(1 << slot);
        }
    }

    /// The earliest occupied slot: level, slot, and when it begins.
    fn earliest(&self) -> Option<(usize, usize, u64)> {
        let level = self.occupied.iter().position(|&slots| slots != 0)?;
        let shift = BITS * level as u32;
        let now_slot = (self.elapsed >> shift) as usize & (SLOTS - 1);
        // Slots behind the current one cannot be occupied: they would differ at a higher level.
        let ahead = self.occupied[level]
            .rotate_right(now_slot as u32)
            .trailing_zeros() as usize;
        let slot = (now_slot + ahead) & (SLOTS - 1);
        let above = self.elapsed.checked_shr(shift + BITS).unwrap_or(0);
        let begins = above.checked_shl(shift + BITS).unwrap_or(0) | (slot as u64) << shift;
        Some((level, slot, begins.max(self.elapsed)))
    }

    /// The earliest time at which [`Wheel::step`] may have something to do; never later than the
    /// earliest deadline, and exact once that is within 64 ms.
    pub fn next_deadline(&self) -> Option<i64> {
        let behind = self.behind.first().map(|&(deadline_ms, _)| deadline_ms);
        let ahead = match self.cascading {
            Some(_) => Some(self.elapsed),
            None => self.earliest().map(|(_, _, begins)| begins),
        };
        let ahead = ahead.map(|at_ms| i64::try_from(at_ms).unwrap_or(i64::MAX));
        behind.into_iter().chain(ahead).min()
    }

    /// Turns the wheel towards `now_ms` by one piece of work.
    pub fn step(&mut self, now_ms: i64) -> Step {
        if let Some(&(deadline_ms, node)) = self.behind.first()
            && deadline_ms <= now_ms
        {
            return self.hand_out(node);
        }
        let now = now_ms.max(0) as u64;
        if let Some((level, slot)) = self.cascading {
            return self.cascade(level, slot);
        }
        match self.earliest() {
            Some((0, slot, begins)) if begins <= now => {
                self.elapsed = begins;
                self.hand_out(self.slots[0][slot].head)
            }
            Some((level, slot, begins)) if begins <= now => {
                self.elapsed = begins;
                self.cascading = Some((level, slot));
                self.cascade(level, slot)
            }
            _ => {
                self.elapsed = self.elapsed.max(now);
                Step::Idle
            }
        }
    }

    fn hand_out(&mut self, node: u32) -> Step {
        let Node {
            deadline_ms, owner, ..
        } = *self.nodes.get(node);
        self.cancel(node);
        Step::Due { deadline_ms, owner }
    }

    /// Hands one node of a slot down to where it belongs now.
    fn cascade(&mut self, level: usize, slot: usize) -> Step {
        let node = self.slots[level][slot].head;
        if node == NONE {
            self.cascading = None;
        } else {
            self.unlink(node);
            self.link(node);
            if self.slots[level][slot].head == NONE {
                self.cascading = None;
            }
        }
        Step::Cascaded
    }
}

const _: () = assert!(size_of::<Option<Node>>() == 32);

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    /// All that is due by `now_ms`, in the order in which it comes.
    fn due(wheel: &mut Wheel, now_ms: i64) -> Vec<(i64, u64)> {
        let mut all = Vec::new();
        loop {
            match wheel.step(now_ms) {
                Step::Due { deadline_ms, owner } => all.push((deadline_ms, owner)),
                Step::Cascaded => {}
                Step::Idle => return all,
            }
        }
    }

    #[test]
    fn agrees_with_a_sorted_set_over_any_time_steps() {
        for seed in 0..30 {
            let mut rng = fastrand::Rng::with_seed(seed);
            let mut wheel = Wheel::new(0);
            let mut model: BTreeSet<(i64, u64)> = BTreeSet::new();
            let mut live: Vec<(u32, i64, u64)> = Vec::new();
            let mut now = 1_700_000_000_000i64;
            wheel.step(now);
            for owner in 0..3000u64 {
                let spread = 10i64.pow(rng.u32(0..12));
                let deadline = now + rng.i64(1..=spread);
                let node = wheel.insert(deadline, owner);
                model.insert((deadline, owner));
                live.push((node, deadline, owner));
                if rng.u8(..) < 60 {
                    let (node, deadline, owner) = live.swap_remove(rng.usize(..live.len()));
                    if rng.bool() {
                        wheel.cancel(node);
                        model.remove(&(deadline, owner));
                    } else {
                        let later = deadline + rng.i64(0..100_000);
                        wheel.reschedule(node, later);
                        model.remove(&(deadline, owner));
                        model.insert((later, owner));
                        live.push((node, later, owner));
                    }
                }
                if rng.u8(..) < 40 {
                    let jump = 10i64.pow(rng.u32(1..10));
                    now += rng.i64(0..jump);
                    let found = due(&mut wheel, now);
                    let expected: Vec<(i64, u64)> = model
                        .iter()
                        .copied()
                        .take_while(|(at, _)| *at <= now)
                        .collect();
                    assert!(
                        found.is_sorted_by_key(|(at, _)| *at),
                        "seed {seed}: out of order"
                    );
                    assert_eq!(
                        found.iter().copied().collect::<BTreeSet<_>>(),
                        expected.iter().copied().collect()
                    );
                    model.retain(|(at, _)| *at > now);
                    live.retain(|(_, at, _)| *at > now);
                    let earliest = model.first().map(|(at, _)| *at);
                    let promised = wheel.next_deadline();
                    assert_eq!(promised.is_some(), earliest.is_some());
                    assert!(
                        promised <= earliest,
                        "seed {seed}: {promised:?} after {earliest:?}"
                    );
                    assert_eq!(wheel.len(), model.len());
                }
            }
        }
    }

    #[test]
    fn sleeping_until_the_promised_time_reaches_every_deadline_on_time() {
        let mut wheel = Wheel::new(0);
        let start = 1_700_000_000_000;
        wheel.step(start);
        let offsets = [
            1,
            63,
            64,
            65,
            4095,
            4096,
            300_000,
            86_400_000,
            31_536_000_000,
        ];
        for (owner, offset) in offsets.iter().enumerate() {
            wheel.insert(start + offset, owner as u64);
        }
        let (mut reached, mut wakes) = (Vec::new(), 0);
        while let Some(at) = wheel.next_deadline() {
            wakes += 1;
            for (deadline, _) in due(&mut wheel, at) {
                assert_eq!(deadline, at, "not a millisecond late");
                reached.push(deadline - start);
            }
        }
        assert_eq!(reached, offsets);
        assert!(wakes < 60, "{wakes} wakes");
    }

    #[test]
    fn the_past_is_due_at_once_and_a_clock_set_back_is_followed() {
        let mut wheel = Wheel::new(0);
        due(&mut wheel, 1_000_000);
        wheel.insert(5, 1);
        wheel.insert(-7, 2);
        wheel.insert(i64::MAX, 3);
        assert_eq!(due(&mut wheel, 1_000_000), [(-7, 2), (5, 1)]);
        due(&mut wheel, 2_000_000);
        wheel.insert(1_500_500, 4);
        assert_eq!(due(&mut wheel, 1_500_000), []);
        assert_eq!(due(&mut wheel, 1_500_500), [(1_500_500, 4)]);
    }
}
