//! Giving freed memory back to the kernel when there is nothing else to do.
//!
//! The allocator keeps freed pages for a second, in case they are wanted again, and then looks for
//! them only while it frees others: a server that falls idle after a burst would keep the burst's
//! memory for ever. So a shard that is about to sleep asks for a look a second after it did something,
//! and a few times more, as not all is found at once. Then it sleeps without a tick.
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

#[derive(Default)]
pub(super) struct Leftovers {
    looks: u8,
    due_ns: u64,
}

impl Leftovers {
    /// Something was done, which may have freed memory.
    pub fn worked(&mut self, now_ns: u64) {
        if self.looks == 0 {
            self.due_ns = now_ns + PERIOD_NS;
        }
        self.looks = LOOKS;
    }

    /// When to look, if there is nothing else to do.
    pub fn due_ns(&self) -> Option<u64> {
        (self.looks > 0).then_some(self.due_ns)
    }

    /// Looks, if it is time.
    pub fn give_back(&mut self, now_ns: u64) {
        if self.due_ns().is_some_and(|due_ns| due_ns <= now_ns) {
            self.looks -= 1;
            self.due_ns = now_ns + PERIOD_NS;
            // SAFETY: it has no preconditions, and concerns pages of this thread and free ones.
            unsafe { mi_collect(false) };
        }
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
}
