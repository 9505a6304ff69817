//! The pulse: keys, and fields of hashes, are deleted when their time comes, whether or not somebody
//! asks for them.
//!
//! ```text
//! what a wheel node is about (64 bits):  of fields (1) | incarnation of its database (23) | handle (40)
//! ```
//! A flush changes the incarnation, and leaves the nodes where they are: those of what is gone are
//! about no database.

use super::garbage::BYTES_PER_SLICE;
use super::wheel::{self, Step};
use super::{Db, Event, Keyspace, entry};
use crate::value::dict::Handle;

/// In a wheel node's owner: the deadline is that of a hash's field, not of the key.
pub(super) const OF_FIELDS: u64 = 1 << 63;
const HANDLE_BITS: u32 = 40;
pub(super) const INCARNATION_MASK: u32 = 0x7f_ffff;

/// A handle and its database's incarnation, as wheel nodes carry them.
pub(super) fn owner(handle: Handle, incarnation: u32) -> u64 {
    handle.to_bits() | u64::from(incarnation) << HANDLE_BITS
}

/// Whether a wheel node is about the deadline of a key.
pub(super) fn is_of_key(owner: u64) -> bool {
    owner & OF_FIELDS == 0
}

fn handle_of(owner: u64) -> Option<Handle> {
    Handle::from_bits(owner & ((1 << HANDLE_BITS) - 1))
}

impl Keyspace {
    /// The next moment at which [`Keyspace::pulse`] may have something to do, unix milliseconds.
    pub fn next_expiry_ms(&self) -> Option<i64> {
        match self.active_expire {
            true if self.is_replica => self.own.next_ms(),
            true => self.wheel.next_deadline(),
            false => None,
        }
    }

    /// Deletes up to `budget` keys and fields that are due, in the order of their deadlines; fewer if much
    /// memory is freed with them. Keys that `is_held` names are put off by a millisecond. Returns whether
    /// more are due.
    ///
    /// Differs: A key that expires is deleted, and announced, at its deadline. Redis samples keys.
    pub fn pulse(
        &mut self,
        now_ms: i64,
        budget: usize,
        is_held: impl Fn(u32, &[u8]) -> bool,
    ) -> bool {
        if !self.active_expire {
            return false;
        }
        if self.is_replica {
            return self.pulse_own(now_ms, budget, is_held);
        }
        let (bytes, fields) = (self.object_bytes.all, self.counters.expired_fields);
        for keys in 0..budget as u64 {
            let is_much = bytes.saturating_sub(self.object_bytes.all) > BYTES_PER_SLICE;
            let fields = self.counters.expired_fields - fields;
            if is_much || keys + fields >= budget as u64 {
                break;
            }
            match self.wheel.step(now_ms) {
                Step::Due { owner, .. } => {
                    self.expire_popped(owner, now_ms, &is_held);
                }
                Step::Cascaded => {}
                Step::Idle => return false,
            }
        }
        self.wheel
            .next_deadline()
            .is_some_and(|at_ms| at_ms <= now_ms)
    }

    /// A deadline has come: its node is gone from the wheel.
    fn expire_popped(&mut self, popped: u64, now_ms: i64, is_held: &impl Fn(u32, &[u8]) -> bool) {
        let Some(handle) = handle_of(popped) else {
            return;
        };
        // Whoever frees the entry must not cancel it again.
        self.note_node(popped, handle, wheel::NONE);
        let Some((db, _)) = self.owner_of(popped) else {
            return;
        };
        let key = self.key_of(handle).to_vec();
        if is_held(db, &key) {
            let node = self.wheel.insert(now_ms + 1, popped);
            return self.note_node(popped, handle, node);
        }
        let mut tx = self.tx(db, now_ms, false);
        match is_of_key(popped) {
            true => tx.delete_as(&key, Event::EXPIRED),
            false => tx.expire_some_fields(&key),
        }
        tx.finish();
    }

    /// Tells an entry, or a hash, of the wheel node of its deadline. That of the wheel is later than its
    /// own for a key that was put off.
    fn note_node(&mut self, owner: u64, handle: Handle, node: u32) {
        let slot = self.arena.get_mut(handle);
        let layout = entry::layout(slot);
        if is_of_key(owner) {
            let (deadline_ms, _) = layout.expiry(slot);
            layout.set_expiry(slot, deadline_ms, node);
        } else {
            self.objects.get_mut(layout.object(slot)).fields_node = node;
        }
    }

    /// Database and entry of a wheel node's owner; `None` if its database has been flushed.
    pub(super) fn owner_of(&self, owner: u64) -> Option<(u32, Handle)> {
        let handle = handle_of(owner)?;
        let incarnation = (owner >> HANDLE_BITS) as u32 & INCARNATION_MASK;
        let is_its = |db: &Db| db.incarnation == incarnation;
        Some((self.dbs.iter().position(is_its)? as u32, handle))
    }
}
