//! Keys that clients of a writable replica have given a deadline: the master knows nothing of them, so
//! that the replica itself deletes them. Redis: expire.c rememberSlaveKeyWithExpire.
//!
//! What is noted may be out of date: another deadline may have been set since, or the master may have
//! said something else. A key goes only if it is due by the deadline that it has.

use std::collections::BTreeSet;

use ahash::AHashMap;

use super::{Due, Event, Keyspace};
use crate::value::dict::Handle;

type Name = (u32, Box<[u8]>);

#[derive(Debug, Default)]
pub(super) struct Own {
    deadlines: AHashMap<Name, i64>,
    /// The same in the order of the deadlines, unix milliseconds.
    next: BTreeSet<(i64, Name)>,
}

impl Own {
    fn note(&mut self, name: Name, at_ms: i64) {
        if let Some(before) = self.deadlines.insert(name.clone(), at_ms) {
            self.next.remove(&(before, name.clone()));
        }
        self.next.insert((at_ms, name));
    }

    pub fn next_ms(&self) -> Option<i64> {
        self.next.first().map(|(at_ms, _)| *at_ms)
    }

    /// One that may be due.
    fn pop(&mut self, now_ms: i64) -> Option<Name> {
        if self.next_ms()? > now_ms {
            return None;
        }
        let (_, name) = self.next.pop_first()?;
        self.deadlines.remove(&name);
        Some(name)
    }
}

impl Keyspace {
    /// Keys that this replica deletes itself.
    pub fn own_count(&self) -> u64 {
        self.own.deadlines.len() as u64
    }

    /// A client of this replica has given a key a deadline.
    pub(super) fn note_own(&mut self, db: u32, handle: Handle, at_ms: i64) {
        let key = self.key_of(handle).into();
        self.own.note((db, key), at_ms);
    }

    /// Deletes up to `budget` of those keys that are due. Keys that `is_held` names are put off by a
    /// millisecond. Returns whether more may be due.
    pub(super) fn pulse_own(
        &mut self,
        now_ms: i64,
        budget: usize,
        is_held: impl Fn(u32, &[u8]) -> bool,
    ) -> bool {
        for _ in 0..budget {
            let Some((db, key)) = self.own.pop(now_ms) else {
                return false;
            };
            if is_held(db, &key) {
                self.own.note((db, key), now_ms + 1);
                continue;
            }
            let mut tx = self.tx(db, now_ms, false).with_due(Due::Keep);
            let deadline = tx.expire_at(&key).flatten();
            if deadline.is_some_and(|at_ms| at_ms <= now_ms) {
                tx.delete_as(&key, Event::EXPIRED);
            }
            tx.finish();
        }
        self.own.next_ms().is_some_and(|at_ms| at_ms <= now_ms)
    }
}

#[cfg(test)]
mod tests {
    use super::super::{NewStr, Ttl};
    use super::*;

    fn set(ks: &mut Keyspace, due: Due, key: &[u8], ttl: Ttl) {
        let mut tx = ks.tx(0, 0, false).with_due(due);
        tx.set_string(key, NewStr::Bytes(b"v"), ttl);
        tx.wrote(key, Event::SET, |_| {});
        tx.finish();
    }

    #[test]
    fn a_writable_replica_deletes_what_its_clients_wrote() {
        let mut ks = Keyspace::new(1, 4);
        ks.set_replica(true);
        set(&mut ks, Due::Keep, b"masters", Ttl::At(50));
        assert_eq!(ks.next_expiry_ms(), None);
        set(&mut ks, Due::Delete, b"own", Ttl::At(40));
        set(&mut ks, Due::Delete, b"own", Ttl::At(60));
        set(&mut ks, Due::Delete, b"longer", Ttl::At(60));
        set(&mut ks, Due::Keep, b"longer", Ttl::At(90));
        assert_eq!(ks.next_expiry_ms(), Some(60));
        assert!(!ks.pulse(60, 10, |_, key| key == b"own"));
        assert_eq!((ks.stats(0).keys, ks.next_expiry_ms()), (3, Some(61)));
        assert!(!ks.pulse(61, 10, |_, _| false));
        assert_eq!((ks.stats(0).keys, ks.counters.expired), (2, 1));
        assert_eq!(ks.next_expiry_ms(), None);
        ks.set_replica(false);
        assert!(!ks.pulse(100, 10, |_, _| false));
        assert_eq!(ks.stats(0).keys, 0);
    }

    #[test]
    fn what_is_stored_over_a_hidden_key_takes_its_place() {
        let mut ks = Keyspace::new(1, 4);
        ks.set_replica(true);
        set(&mut ks, Due::Keep, b"key", Ttl::At(-1));
        set(&mut ks, Due::Hide, b"key", Ttl::Clear);
        assert_eq!((ks.stats(0).keys, ks.stats(0).expires), (1, 0));
    }
}
