//! Access clocks: when a key was last used, or how often. `maxmemory-policy` says which of the two the
//! 24 bits of an entry hold.

use super::{Found, Taken, Tx};
use crate::keyspace::entry;
use crate::value::dict::Handle;

impl Tx<'_> {
    #[inline]
    pub(super) fn touch(&mut self, handle: Handle) {
        if !self.touch {
            return;
        }
        let new = match self.ks.settings.lfu {
            true => self.used_once_more(entry::clock(self.ks.arena.get(handle))),
            false => self.lru_clock(),
        };
        let slot = self.ks.arena.get_mut(handle);
        if entry::clock(slot) != new {
            entry::set_clock(slot, new);
        }
    }

    fn lru_clock(&self) -> u32 {
        (self.clock_ms() / 1000) as u32 & 0xff_ffff
    }

    /// Seconds since the use that an access clock tells of.
    pub(in crate::keyspace) fn idle_of(&self, clock: u32) -> u32 {
        self.lru_clock().wrapping_sub(clock) & 0xff_ffff
    }

    fn lfu_minutes(&self) -> u32 {
        (self.clock_ms() / 60_000) as u32 & 0xffff
    }

    pub(super) fn new_clock(&self) -> u32 {
        /// Redis: evict.c LFU_INIT_VAL: new keys get a chance.
        const FIRST_COUNT: u32 = 5;
        if self.ks.settings.lfu {
            self.lfu_minutes() << 8 | FIRST_COUNT
        } else {
            self.lru_clock()
        }
    }

    /// The access clock of a value that is stored, over another if the key was `found`: how often the
    /// key is used says nothing of its value. Redis: db.c dbOverwrite.
    pub(super) fn clock_of_stored(&mut self, found: Option<&Found>) -> u32 {
        if let Some(brought) = self.clock.take() {
            return brought;
        }
        match found {
            Some(found) if self.ks.settings.lfu => {
                self.touch(found.handle);
                entry::clock(self.ks.arena.get(found.handle))
            }
            _ => self.new_clock(),
        }
    }

    pub(in crate::keyspace) fn decayed_count(&self, clock: u32) -> u32 {
        let elapsed = self.lfu_minutes().wrapping_sub(clock >> 8) & 0xffff;
        let periods = elapsed
            .checked_div(self.ks.settings.lfu_decay_time)
            .unwrap_or(0);
        (clock & 0xff).saturating_sub(periods)
    }

    /// The logarithmic counter. Redis: evict.c LFULogIncr.
    fn used_once_more(&mut self, clock: u32) -> u32 {
        let mut count = self.decayed_count(clock);
        if count < 255 {
            let base = count.saturating_sub(5) as f64;
            let chance = 1.0 / (base * f64::from(self.ks.settings.lfu_log_factor) + 1.0);
            if self.ks.rng.f64() < chance {
                count += 1;
            }
        }
        self.lfu_minutes() << 8 | count
    }

    /// Seconds since a key's last use; without counting as one.
    pub fn idle_s(&mut self, key: &[u8]) -> Option<i64> {
        let found = self.find(key)?;
        let clock = entry::clock(self.ks.arena.get(found.handle));
        Some(i64::from(self.idle_of(clock)))
    }

    /// The logarithmic use counter of a key; without counting as a use.
    pub fn frequency(&mut self, key: &[u8]) -> Option<i64> {
        let found = self.find(key)?;
        let clock = entry::clock(self.ks.arena.get(found.handle));
        Some(i64::from(self.decayed_count(clock)))
    }

    /// Gives a value from outside the access clock that its idle time or frequency says, or that of
    /// a new key.
    pub fn set_clock(&self, taken: &mut Taken, idle_s: Option<i64>, frequency: Option<i64>) {
        taken.clock = self.clock_of(idle_s, frequency);
    }

    pub(super) fn clock_of(&self, idle_s: Option<i64>, frequency: Option<i64>) -> u32 {
        match (idle_s, frequency) {
            (Some(idle_s), _) if !self.ks.settings.lfu => {
                let idle_s = u32::try_from(idle_s).unwrap_or(u32::MAX);
                self.lru_clock().wrapping_sub(idle_s) & 0xff_ffff
            }
            (_, Some(frequency)) if self.ks.settings.lfu => {
                self.lfu_minutes() << 8 | frequency.clamp(0, 255) as u32
            }
            _ => self.new_clock(),
        }
    }
}
