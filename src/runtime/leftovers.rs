//! Giving freed memory back to the kernel when there is nothing else to do.
//!
//! The allocator keeps freed pages for a second, in case they are wanted again, and then looks for
//! them only while it frees others: a server that falls idle after a burst would keep the burst's
//! memory for ever. So a shard that is about to sleep asks for a look a second after it did something,
//! and a few times more, as not all is found at once. Then it sleeps without a tick.
//!
//! A look touches every page that is partly free, which takes milliseconds where there are many: while
//! much is done it is put off. Then others are freed, too, and the allocator looks of itself.
#![allow(unsafe_code)] // The allocator's own interface is C.

// Links the allocator, also where it is not the global one.
use mimalloc as _;

unsafe extern "C" {
    fn mi_collect(force: bool);
}

/// Longer than the allocator keeps freed pages.
const PERIOD_NS: u64 = 1_100_000_000;
/// A look goes through a quarter of the allocator's arenas.
const LOOKS: u8 = 4;
/// Turns with work in them within a period beyond which a shard is not idle.
const TURNS_MAX: u32 = 100;

#[derive(Default)]
pub(super) struct Leftovers {
    looks: u8,
    due_ns: u64,
    /// Turns with work in them since it was last time for a look.
    turns: u32,
}

impl Leftovers {
    /// Something was done, which may have freed memory.
    pub fn worked(&mut self, now_ns: u64) {
        if self.looks == 0 {
            self.due_ns = now_ns + PERIOD_NS;
        }
        self.looks = LOOKS;
        self.turns = self.turns.saturating_add(1);
    }

    /// When to look, if there is nothing else to do.
    pub fn due_ns(&self) -> Option<u64> {
        (self.looks > 0).then_some(self.due_ns)
    }

    /// Looks, if it is time and little else was done.
    pub fn give_back(&mut self, now_ns: u64) {
        if self.looks == 0 || now_ns < self.due_ns {
            return;
        }
        self.due_ns = now_ns + PERIOD_NS;
        if std::mem::take(&mut self.turns) > TURNS_MAX {
            return;
        }
        self.looks -= 1;
        // SAFETY: it has no preconditions, and concerns pages of this thread and free ones.
        unsafe { mi_collect(false) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn looks_end() {
        let mut leftovers = Leftovers::default();
        assert_eq!(leftovers.due_ns(), None);
        leftovers.worked(5);
        leftovers.worked(7);
        assert_eq!(leftovers.due_ns(), Some(5 + PERIOD_NS));
        leftovers.give_back(PERIOD_NS);
        let mut now_ns = 5;
        for _ in 0..LOOKS {
            now_ns += PERIOD_NS;
            assert_eq!(leftovers.due_ns(), Some(now_ns));
            leftovers.give_back(now_ns);
        }
        assert_eq!(leftovers.due_ns(), None);
    }
    #[test]
    fn a_busy_shard_does_not_look() {
        let mut leftovers = Leftovers::default();
        (0..=TURNS_MAX).for_each(|_| leftovers.worked(0));
        leftovers.give_back(PERIOD_NS);
        assert_eq!(
            (leftovers.looks, leftovers.due_ns()),
            (LOOKS, Some(2 * PERIOD_NS))
        );
        leftovers.worked(PERIOD_NS + 1);
        leftovers.give_back(2 * PERIOD_NS);
        assert_eq!(leftovers.looks, LOOKS - 1);
    }
}
