//! What becomes of keys, and of fields, whose time has come.
//!
//! On a master they are deleted, by whoever runs into them or by the wheel, and that is told. A replica
//! is told by its master, and does nothing by itself until then: who reads finds nothing, while what the
//! master says still works on what is there. Redis: db.c expireIfNeeded.
//!
//! ```text
//!                            master    paused    replica
//! clients that read          Delete    Hide      Hide
//! clients that write         Delete    Delete    Delete    (replica-read-only no: see own.rs)
//! what the master has done                       Keep
//! ```
//! While CLIENT PAUSE is on, nothing is to change: who takes over meanwhile has everything.

use super::Keyspace;
use super::own::Own;

/// What a transaction makes of keys whose time has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Due {
    /// They are deleted on the way.
    Delete,
    /// They are not there for it, and stay.
    Hide,
    /// They are as alive as any.
    Keep,
}

impl Keyspace {
    /// Whether the master of this server says when keys expire. Once there is none any more, the wheel
    /// catches up.
    pub fn set_replica(&mut self, is_replica: bool) {
        self.is_replica = is_replica;
        self.own = Own::default();
    }

    pub fn is_replica(&self) -> bool {
        self.is_replica
    }

    /// Whether keys that are due stay, since clients are paused.
    pub fn pause_expiry(&mut self, is_paused: bool) {
        self.is_paused = is_paused;
    }

    /// What a transaction makes of keys that are due, unless it is told.
    #[inline]
    pub(super) fn due(&self) -> Due {
        match self.is_replica || self.is_paused {
            true => Due::Hide,
            false => Due::Delete,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Event, NewStr, Ttl};
    use super::*;
    use crate::value::hash::Hash;

    /// A key that ends at 100, a hash of which one field ends at 100 and one stays, and a hash of
    /// which all end.
    fn replica() -> Keyspace {
        let mut ks = Keyspace::new(1, 4);
        ks.set_replica(true);
        ks.effects.classes = u32::MAX;
        ks.effects.recording = true;
        let mut tx = ks.tx(0, 0, false);
        tx.set_string(b"key", NewStr::Bytes(b"v"), Ttl::At(100));
        tx.wrote(b"key", Event::SET, |_| {});
        for (key, fields) in [(&b"some"[..], &["a", "b"][..]), (b"all", &["a"])] {
            for field in fields {
                let fill = |hash: &mut Hash, context: super::super::Context| {
                    hash.set(field.as_bytes(), b"v", context.limits);
                    hash.set_deadline(b"a", 100, context.limits);
                };
                tx.change_or_create(key, |_| Hash::default(), fill).unwrap();
                tx.wrote(key, Event::HSET, |_| {});
            }
        }
        tx.finish();
        ks.effects.events.clear();
        ks.effects.records.clear();
        ks
    }

    #[test]
    fn a_replica_hides_what_is_due_and_tells_nobody() {
        let mut ks = replica();
        assert_eq!(ks.next_expiry_ms(), None);
        assert!(!ks.pulse(1000, 100, |_, _| false));
        let mut tx = ks.tx(0, 100, true);
        assert!(!tx.peek_exists(b"key"));
        assert_eq!(tx.expire_at(b"key"), None);
        assert!(!tx.peek_exists(b"all"));
        assert_eq!(tx.peek_fields(b"some").unwrap().unwrap().len(), 1);
        assert_eq!(tx.fields_random(b"some").unwrap().unwrap().0.len(), 1);
        assert_eq!(tx.key_count(), 3);
        let mut seen = Vec::new();
        tx.for_each_key(|key, _| seen.push(key.to_vec()));
        seen.sort();
        assert_eq!(seen, [b"all".to_vec(), b"some".to_vec()]);
        tx.finish();
        assert!(ks.effects.events.is_empty() && ks.effects.records.is_empty());
        assert_eq!(ks.counters.expired + ks.counters.expired_fields, 0);
    }

    #[test]
    fn what_the_master_has_done_finds_everything() {
        let mut ks = replica();
        let mut tx = ks.tx(0, 1000, false).with_due(Due::Keep);
        assert_eq!(tx.expire_at(b"key"), Some(Some(100)));
        assert_eq!(tx.peek_fields(b"some").unwrap().unwrap().len(), 2);
        assert_eq!(tx.past_ms(), i64::MIN);
        assert!(tx.remove(b"key"));
        tx.wrote(b"key", Event::DEL, |_| {});
        tx.finish();
        let events: Vec<_> = ks.effects.events.iter().map(|event| event.event).collect();
        assert_eq!(events, [Event::DEL]);
    }

    #[test]
    fn who_may_write_deletes_what_is_due() {
        let mut ks = replica();
        let mut tx = ks.tx(0, 1000, false).with_due(Due::Delete);
        assert!(!tx.peek_exists(b"key"));
        assert_eq!(tx.peek_fields(b"some").unwrap().unwrap().len(), 1);
        tx.finish();
        assert_eq!(ks.counters.expired, 1);
        assert_eq!(ks.stats(0).keys, 2);
    }

    #[test]
    fn a_master_again_catches_up() {
        let mut ks = replica();
        ks.set_replica(false);
        assert!(ks.next_expiry_ms().is_some_and(|at_ms| at_ms <= 100));
        while ks.pulse(1_000_000, 100, |_, _| false) {}
        assert_eq!(ks.stats(0).keys, 1);
        assert_eq!((ks.counters.expired, ks.counters.expired_fields), (1, 2));
    }

    #[test]
    fn a_random_key_is_found_where_all_are_due() {
        let mut ks = replica();
        let mut tx = ks.tx(0, 1000, false);
        assert!(tx.random_key().is_some());
        tx.finish();
    }
}
