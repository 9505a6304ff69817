//! Databases that replace all others at once: those of a master, while they are on their way here.
//!
//! ```text
//! dbs   0 .. databases | databases .. 2 * databases
//!       what is seen   | what is loaded, for as long as that takes
//! ```
//! They share the arena with the others, and nothing else: no client selects one, no cut holds them, and
//! nobody evicts from them.

use super::{Db, Keyspace, Own};

impl Keyspace {
    /// The databases that clients see.
    pub(super) fn seen(&self) -> &[Db] {
        &self.dbs[..self.databases as usize]
    }

    /// Makes room for databases that are to replace these. Database `n` of them has the number
    /// [`Keyspace::databases`] + `n` until then.
    pub fn begin_incoming(&mut self) {
        self.drop_incoming();
        for _ in 0..self.databases {
            let incarnation = self.new_incarnation();
            self.dbs.push(Db {
                incarnation,
                ..Db::default()
            });
        }
    }

    fn has_incoming(&self) -> bool {
        self.dbs.len() > self.databases as usize
    }

    /// They take the place of these, of which nothing is left.
    pub fn accept_incoming(&mut self, now_ms: i64) {
        if !self.has_incoming() {
            return;
        }
        self.own = Own::default();
        for db in 0..self.databases {
            self.swap_dbs(db, self.databases + db, now_ms);
        }
        self.drop_incoming();
    }

    /// They are of no use.
    pub fn drop_incoming(&mut self) {
        if self.has_incoming() {
            let first = self.databases as usize;
            self.flush(first..self.dbs.len(), true);
            self.dbs.truncate(first);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(ks: &mut Keyspace, db: u32, key: &str, value: &str) {
        let mut tx = ks.tx(db, 1_000, false);
        tx.load_text(key.as_bytes(), value.as_bytes(), None, (None, None));
        tx.finish();
    }

    fn get(ks: &mut Keyspace, db: u32, key: &str) -> Option<Vec<u8>> {
        let mut tx = ks.tx(db, 1_000, false);
        let found = tx.peek_string(key.as_bytes()).unwrap();
        let found = found.map(|it| it.to_bytes().to_vec());
        tx.finish();
        found
    }

    #[test]
    fn incoming_databases_are_seen_when_all_of_them_are_there() {
        let mut ks = Keyspace::new(2, 1);
        set(&mut ks, 0, "a", "old");
        set(&mut ks, 1, "b", "old");
        for accepted in [false, true] {
            ks.begin_incoming();
            set(&mut ks, 2, "a", "new");
            set(&mut ks, 3, "c", "new");
            assert_eq!((ks.databases(), ks.stats(0).keys), (2, 1));
            assert_eq!(get(&mut ks, 0, "a"), Some(b"old".to_vec()));
            // What clients do meanwhile is done to what they see.
            let mut tx = ks.tx(0, 1_000, false);
            tx.flush_all(true);
            tx.finish();
            set(&mut ks, 0, "a", "old");
            match accepted {
                true => ks.accept_incoming(1_000),
                false => ks.drop_incoming(),
            }
            while ks.free_slice() {}
        }
        assert_eq!(get(&mut ks, 0, "a"), Some(b"new".to_vec()));
        assert_eq!(get(&mut ks, 1, "b"), None);
        assert_eq!(get(&mut ks, 1, "c"), Some(b"new".to_vec()));
        assert_eq!((ks.stats(0).keys, ks.stats(1).keys), (1, 1));
        ks.clear();
        while ks.free_slice() {}
        assert_eq!(ks.stats(0).keys + ks.stats(1).keys, 0);
    }
}
