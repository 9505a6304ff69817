//! `appendfsync`: who waits for the disk, when it is to have what was written, and what becomes of that
//! when the policy changes.

use super::{LATE_MS, Medium, SPARE_MS, SYNC_MS, Segment};
use crate::server::log;

/// `appendfsync`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Policy {
    Always,
    EverySec,
    No,
}

impl Policy {
    pub fn parse(text: &str) -> Policy {
        match text {
            "always" => Policy::Always,
            "no" => Policy::No,
            _ => Policy::EverySec,
        }
    }
}

impl<F: Medium> Segment<F> {
    pub fn policy(&self) -> Policy {
        self.policy
    }

    /// `appendfsync` has changed, perhaps.
    pub fn set_policy(&mut self, policy: Policy) {
        self.wanted = policy;
        self.change_policy(policy);
    }

    /// Whether a snapshot or a base is being written.
    pub fn mind_saving(&mut self, is_saving: bool) {
        let rests = self.rests && is_saving;
        self.change_policy(if rests { Policy::No } else { self.wanted });
    }

    fn change_policy(&mut self, policy: Policy) {
        if policy == self.policy {
            return;
        }
        if self.policy == Policy::Always {
            self.strict_to = self.appended;
        }
        if self.policy != Policy::No {
            self.owed = self.appended;
        }
        let was_strict = self.is_strict();
        self.policy = policy;
        if policy == Policy::Always {
            self.lead += 1;
            if !was_strict {
                self.keep_unsynced();
            }
        }
    }

    /// Whether turns wait for the disk.
    pub(super) fn is_strict(&self) -> bool {
        self.policy == Policy::Always || self.synced < self.strict_to
    }

    /// Takes back what was handed to the kernel and is not on the disk, in case it never gets there.
    fn keep_unsynced(&mut self) {
        let (file, end) = match self.endings.front() {
            Some(ending) => (&ending.file, ending.at),
            None => (&self.file, self.at),
        };
        let len = self.written - self.synced;
        self.kept.clear();
        if len > self.kept_max_bytes {
            self.kept_at = end;
            return match file.sync_data() {
                Ok(()) => self.synced = self.written,
                Err(error) => {
                    log::warning(&format!("Fail to fsync the AOF file: {error}"));
                    self.failed = Some(error.to_string());
                    self.sync_failed = true;
                    self.current_failed = self.endings.is_empty();
                }
            };
        }
        self.kept.resize(len as usize, 0);
        self.kept_at = end - len;
        if let Err(error) = file.read_exact_at(&mut self.kept, self.kept_at) {
            // If the next sync fails, a new base is wanted.
            log::warning(&format!("Cannot read the end of the AOF file: {error}"));
            self.kept.clear();
        }
    }

    pub(super) fn is_all_kept(&self) -> bool {
        self.kept.len() as u64 == self.written - self.synced
    }

    /// Whether a sync takes so long that writers wait for it.
    pub(super) fn look_at_clock(&mut self, now_ms: i64) {
        let slow = |is_under_way: bool, begun_ms| is_under_way && now_ms - begun_ms > LATE_MS;
        let is_late = self.policy == Policy::EverySec
            && (slow(self.syncing.is_some(), self.last_sync_ms)
                || slow(self.old_syncs > 0, self.old_sync_ms));
        self.delayed_syncs += u64::from(is_late && !self.is_late);
        self.is_late = is_late;
    }

    /// Whether what was written is synced at all.
    pub(super) fn syncs(&self) -> bool {
        self.policy != Policy::No || self.synced < self.owed
    }

    /// When what is written now is to be synced, if nothing waits for it.
    pub(super) fn next_sync_ms(&self) -> i64 {
        let most = SYNC_MS - SPARE_MS;
        self.last_sync_ms + (most - 2 * self.took_ms).clamp(SYNC_MS / 2, most)
    }
}
