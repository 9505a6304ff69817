//! Giving freed memory back to the kernel when there is nothing else to do.
//!
//! The allocator keeps freed pages for a second, in case they are wanted again, and then looks for
//! them only while it frees others: a server that falls idle after a burst would keep the burst's
//! memory for ever. So a shard that is about to sleep asks for a look a second after it did something,
//! and a few times more, as not all is found at once. Then it sleeps without a tick.
//!
//! A look touches every page that is partly free: while much is done it is put off. Then others are
//! freed, too, and the allocator looks of itself.
#![allow(unsafe_code)] // The allocator's own interface is C.

use io_uring::types::Timespec;
// Links the allocator, also where it is not the global one.
use mimalloc as _;

unsafe extern "C" {
    fn mi_collect(force: bool);
}

/// Longer than the allocator keeps freed pages. One timer runs for it while there is work: a deadline of
/// each sleep would be set anew each time, which costs as much as the sleep.
pub(super) static PERIOD: Timespec = Timespec::new().sec(1).nsec(100_000_000);
/// A look goes through a quarter of the allocator's arenas.
const LOOKS: u8 = 4;
/// Turns with work in them within a period beyond which a shard is not idle.
const TURNS_MAX: u32 = 100;

#[derive(Default)]
pub(super) struct Leftovers {
    looks: u8,
    /// The shard will be woken at the end of a period.
    is_armed: bool,
    /// Turns with work in them in this period.
    turns: u32,
}

impl Leftovers {
    /// Something was done, which may have freed memory. Returns whether to be woken after a period.
    pub fn worked(&mut self) -> bool {
        self.looks = LOOKS;
        self.turns = self.turns.saturating_add(1);
        !std::mem::replace(&mut self.is_armed, true)
    }

    /// A period is over: looks, if little else was done. Returns whether to be woken after another.
    pub fn woken(&mut self) -> bool {
        if std::mem::take(&mut self.turns) <= TURNS_MAX {
            self.looks -= 1;
            // SAFETY: it has no preconditions, and concerns pages of this thread and free ones.
            unsafe { mi_collect(false) };
        }
        self.is_armed = self.looks > 0;
        self.is_armed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn looks_end() {
        let mut leftovers = Leftovers::default();
        assert!(leftovers.worked());
        assert!(!leftovers.worked(), "it will be woken");
        (1..LOOKS).for_each(|_| assert!(leftovers.woken()));
        assert!(!leftovers.woken());
        assert!(leftovers.worked());
    }

    #[test]
    fn a_busy_shard_does_not_look() {
        let mut leftovers = Leftovers::default();
        for _ in 0..10 {
            for _ in 0..=TURNS_MAX {
                leftovers.worked();
            }
            assert!(leftovers.woken());
            assert_eq!(leftovers.looks, LOOKS);
        }
    }
}
