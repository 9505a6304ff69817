//! A run of bytes with room at both ends, so that what is added or taken near either end does not
//! move all the others.

use std::ops::{Deref, DerefMut};

/// A run of less than 4 GiB.
pub(super) struct Run {
    buf: Box<[u8]>,
    end: u32,
    /// Room ahead is worth little beyond what one node of a list holds.
    start: u16,
    _spare: Spare,
}

/// A byte of one value: all others are left to the enums that a run is in, as much of a vector's capacity
/// is, so that they are no larger than it.
#[derive(Clone, Copy)]
#[repr(u8)]
enum Spare {
    Unused,
}

const _: () = assert!(size_of::<Option<Option<Option<Run>>>>() == size_of::<Vec<u8>>());

/// Where room is made, or given back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Side {
    Ahead,
    Behind,
}

impl From<Vec<u8>> for Run {
    fn from(bytes: Vec<u8>) -> Run {
        let end = bytes.len() as u32;
        Run {
            buf: bytes.into_boxed_slice(),
            end,
            start: 0,
            _spare: Spare::Unused,
        }
    }
}

impl Run {
    /// A run with room for so many bytes behind what it begins with.
    pub fn with_capacity(begin: &[u8], bytes: usize) -> Run {
        let mut run = Run::from(vec![0; bytes.max(begin.len())]);
        run.buf[..begin.len()].copy_from_slice(begin);
        run.end = begin.len() as u32;
        run
    }

    pub fn capacity(&self) -> usize {
        self.buf.len()
    }

    fn room(&self, side: Side) -> usize {
        match side {
            Side::Ahead => usize::from(self.start),
            Side::Behind => self.buf.len() - self.end as usize,
        }
    }

    /// Has the run begin at an offset of the buffer.
    fn slide(&mut self, start: usize) {
        let len = self.len();
        let from = usize::from(self.start);
        self.buf.copy_within(from..from + len, start);
        self.set(start, len);
    }

    fn set(&mut self, start: usize, len: usize) {
        self.start = start as u16;
        self.end = (start + len) as u32;
    }

    /// Where the run begins if all the room there is of a buffer stands on one side.
    fn start_with(side: Side, room: usize) -> usize {
        match side {
            Side::Ahead => room.min(usize::from(u16::MAX)),
            Side::Behind => 0,
        }
    }

    /// Grows the buffer to so many bytes, all that is free of it on one side.
    pub fn grow(&mut self, capacity: usize, side: Side) {
        let len = self.len();
        let start = Self::start_with(side, capacity - len);
        if start == 0 {
            self.slide(0);
            let mut grown = std::mem::take(&mut self.buf).into_vec();
            grown.reserve_exact(capacity - grown.len());
            grown.resize(capacity, 0);
            self.buf = grown.into_boxed_slice();
            return;
        }
        let mut grown = vec![0; capacity];
        grown[start..start + len].copy_from_slice(self);
        self.buf = grown.into_boxed_slice();
        self.set(start, len);
    }

    /// Gives back what is allocated beyond so many bytes. By a copy: an allocator asked to shrink a
    /// block leaves it where it is while no more than half of it is wasted.
    pub fn shrink_to(&mut self, capacity: usize) {
        if self.buf.len() > capacity.max(self.len()) {
            *self = Run::with_capacity(self, capacity);
        }
    }

    /// The side from which fewer bytes stand before `from..to`, or behind it.
    fn nearer(&self, from: usize, to: usize) -> Side {
        if from < self.len() - to {
            Side::Ahead
        } else {
            Side::Behind
        }
    }

    /// Makes `from..to` a gap of `len` bytes, whose content is of no meaning.
    pub fn splice(&mut self, from: usize, to: usize, len: usize) {
        let (old, gap) = (self.len(), to - from);
        if len > gap {
            let side = self.make_way(len - gap, self.nearer(from, to));
            self.widen(from, to, len - gap, side);
        } else if len < gap {
            self.narrow(from, to, gap - len);
        }
        debug_assert_eq!(self.len(), old - gap + len);
    }

    /// Sees to room for `more` bytes on one side: the wanted one, if that costs little in the long run.
    fn make_way(&mut self, more: usize, wanted: Side) -> Side {
        let (wanted, other) = match wanted {
            Side::Ahead if more <= usize::from(u16::MAX) => (Side::Ahead, Side::Behind),
            _ => (Side::Behind, Side::Ahead),
        };
        if self.room(wanted) >= more {
            return wanted;
        }
        let (len, free) = (self.len(), self.capacity() - self.len());
        if free < more {
            // Some room to grow, but not twice as much: many short runs are what fills memory.
            let needed = len + more;
            self.grow(needed + needed / 8, wanted);
        } else if free < more + len / 8 && self.room(other) >= more {
            // To move everything does not pay: it would be to do again soon.
            return other;
        } else {
            self.slide(Self::start_with(wanted, free));
        }
        wanted
    }

    fn widen(&mut self, from: usize, to: usize, more: usize, side: Side) {
        let (start, end) = (usize::from(self.start), self.end as usize);
        match side {
            Side::Ahead => {
                self.buf.copy_within(start..start + from, start - more);
                self.start = (start - more) as u16;
            }
            Side::Behind => {
                self.buf.copy_within(start + to..end, start + to + more);
                self.end = (end + more) as u32;
            }
        }
    }

    fn narrow(&mut self, from: usize, to: usize, less: usize) {
        let (start, end) = (usize::from(self.start), self.end as usize);
        match (self.nearer(from, to), u16::try_from(start + less)) {
            (Side::Ahead, Ok(after)) => {
                self.buf.copy_within(start..start + from, start + less);
                self.start = after;
            }
            _ => {
                self.buf.copy_within(start + to..end, start + to - less);
                self.end = (end - less) as u32;
            }
        }
    }
}

impl Clone for Run {
    fn clone(&self) -> Run {
        Run::from(self.to_vec())
    }
}

impl Deref for Run {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.buf[usize::from(self.start)..self.end as usize]
    }
}

impl DerefMut for Run {
    fn deref_mut(&mut self) -> &mut [u8] {
        &mut self.buf[usize::from(self.start)..self.end as usize]
    }
}

impl PartialEq for Run {
    fn eq(&self, other: &Run) -> bool {
        **self == **other
    }
}

impl Eq for Run {}

impl std::fmt::Debug for Run {
    fn fmt(&self, out: &mut std::fmt::Formatter) -> std::fmt::Result {
        (**self).fmt(out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn splices_agree_with_a_vector() {
        for seed in 0..200 {
            let mut rng = fastrand::Rng::with_seed(seed);
            let (mut run, mut model) = (Run::from(vec![7; 7]), vec![7; 7]);
            for step in 0..200u8 {
                let from = match rng.u8(..3) {
                    0 => rng.usize(..=model.len().min(6)),
                    1 => model.len(),
                    _ => rng.usize(..=model.len()),
                };
                let to = (from + rng.usize(..30)).min(model.len());
                let len = match rng.u8(..20) {
                    0 => rng.usize(..70_000),
                    _ => rng.usize(..40),
                };
                run.splice(from, to, len);
                run[from..from + len].fill(step);
                model.splice(from..to, std::iter::repeat_n(step, len));
                assert_eq!(&*run, &model[..], "seed {seed}");
                if rng.u8(..10) == 0 {
                    run.shrink_to(run.len() + rng.usize(..20));
                }
            }
            assert_eq!(&*run.clone(), &model[..], "seed {seed}");
        }
    }

    #[test]
    fn what_is_added_ahead_in_turn_moves_little() {
        let mut run = Run::from(b"tail".to_vec());
        run.grow(100, Side::Ahead);
        let buf = run.buf.as_ptr();
        for _ in 0..96 {
            run.splice(1, 1, 1);
        }
        assert_eq!((run.buf.as_ptr(), run.room(Side::Ahead)), (buf, 0));
        // And what is taken from there leaves its room there.
        run.splice(1, 51, 0);
        assert_eq!((run.room(Side::Ahead), run.room(Side::Behind)), (50, 0));
        // It goes to the other side when it is wanted there.
        run.splice(run.len(), run.len(), 1);
        assert_eq!((run.room(Side::Ahead), run.room(Side::Behind)), (0, 49));
    }
}
