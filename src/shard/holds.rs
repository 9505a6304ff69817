//! Holds: the locks of multi-shard work, and the work that waits for them.
//!
//! A hold covers keys (in any database) or everything. Work that conflicts with an active hold, or
//! with older work that waits for one, waits in arrival order; so nobody starves, and two pieces of
//! work that want the same key run in the order in which they came.
//!
//! Deadlock cannot happen: on one shard a hold is granted whole or not at all, and across shards
//! the coordinator either tries all at once and backs off, or waits in ascending shard order.

use std::collections::VecDeque;

use ahash::{AHashMap, AHashSet};

/// Identifies one piece of multi-shard work: its coordinator's shard and a counter.
pub type TxId = u64;

/// What a piece of work needs for itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Scope {
    Everything,
    Keys(Vec<Box<[u8]>>),
}

/// The holds of one shard, and what waits for them. `W` is the waiting work.
#[derive(Debug)]
pub struct Holds<W> {
    active: AHashMap<TxId, Scope>,
    keys: AHashMap<Box<[u8]>, TxId>,
    everything: Option<TxId>,
    waiting: VecDeque<(Scope, W)>,
}

impl<W> Default for Holds<W> {
    fn default() -> Holds<W> {
        Holds {
            active: AHashMap::new(),
            keys: AHashMap::new(),
            everything: None,
            waiting: VecDeque::new(),
        }
    }
}

impl<W> Holds<W> {
    /// Whether there is nothing to ask: the one test that shards without holds pay.
    pub fn is_empty(&self) -> bool {
        self.active.is_empty() && self.waiting.is_empty()
    }

    /// Whether `key` is held right now. The expiry pulse leaves such keys alone.
    pub fn is_held(&self, key: &[u8]) -> bool {
        self.everything.is_some() || self.keys.contains_key(key)
    }

    /// Whether work on `keys` must wait for a hold or for older waiting work.
    pub fn blocks<'k>(&self, mut keys: impl Iterator<Item = &'k [u8]>) -> bool {
        if self.is_empty() {
            return false;
        }
        if self.everything.is_some() {
            return true;
        }
        keys.any(|key| self.keys.contains_key(key) || self.is_wanted(key))
    }

    fn is_wanted(&self, key: &[u8]) -> bool {
        self.waiting.iter().any(|(scope, _)| match scope {
            Scope::Everything => true,
            Scope::Keys(keys) => keys.iter().any(|wanted| **wanted == *key),
        })
    }

    /// Whether a hold on `scope` would have to wait.
    pub fn blocks_scope(&self, scope: &Scope) -> bool {
        match scope {
            Scope::Everything => !self.is_empty(),
            Scope::Keys(keys) => self.blocks(keys.iter().map(|key| &**key)),
        }
    }

    /// Grants `scope` to `tx` if nothing is in its way.
    pub fn try_hold(&mut self, tx: TxId, scope: &Scope) -> bool {
        if self.blocks_scope(scope) {
            return false;
        }
        self.grant(tx, scope.clone());
        true
    }

    fn grant(&mut self, tx: TxId, scope: Scope) {
        match &scope {
            Scope::Everything => self.everything = Some(tx),
            Scope::Keys(keys) => {
                self.keys.extend(keys.iter().map(|key| (key.clone(), tx)));
            }
        }
        let previous = self.active.insert(tx, scope);
        assert!(previous.is_none(), "a transaction holds once per shard");
    }

    /// Parks `work` until nothing is in the way of `scope`.
    pub fn wait(&mut self, scope: Scope, work: W) {
        self.waiting.push_back((scope, work));
    }

    /// Takes out what waits and `is_meant`.
    pub fn take_waiting(&mut self, is_meant: impl Fn(&W) -> bool) -> Vec<W> {
        let waiting = std::mem::take(&mut self.waiting).into_iter();
        let (taken, kept): (VecDeque<_>, _) = waiting.partition(|(_, work)| is_meant(work));
        self.waiting = kept;
        taken.into_iter().map(|(_, work)| work).collect()
    }

    /// Gives back what `tx` holds. Call [`Holds::next_ready`] until it returns `None` afterwards.
    pub fn release(&mut self, tx: TxId) {
        match self.active.remove(&tx) {
            None => {}
            Some(Scope::Everything) => self.everything = None,
            Some(Scope::Keys(keys)) => {
                for key in keys {
                    self.keys.remove(&key);
                }
            }
        }
    }

    /// The oldest waiting work that may run now. If it is a hold itself, `grants` names its
    /// transaction and the hold is active from here on.
    pub fn next_ready(&mut self, grants: impl Fn(&W) -> Option<TxId>) -> Option<W> {
        if self.waiting.is_empty() || self.everything.is_some() {
            return None;
        }
        let mut passed: AHashSet<&[u8]> = AHashSet::new();
        let mut ready = None;
        for (i, (scope, _)) in self.waiting.iter().enumerate() {
            match scope {
                Scope::Everything => {
                    if i == 0 && self.active.is_empty() {
                        ready = Some(i);
                    }
                    // Nothing overtakes work that waits for everything.
                    break;
                }
                Scope::Keys(keys) => {
                    let free = |key: &[u8]| !self.keys.contains_key(key) && !passed.contains(key);
                    if keys.iter().all(|key| free(key)) {
                        ready = Some(i);
                        break;
                    }
                    passed.extend(keys.iter().map(|key| &**key));
                }
            }
        }
        let (scope, work) = self.waiting.remove(ready?)?;
        if let Some(tx) = grants(&work) {
            self.grant(tx, scope);
        }
        Some(work)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(names: &[&str]) -> Scope {
        Scope::Keys(names.iter().map(|name| name.as_bytes().into()).collect())
    }

    fn blocked(holds: &Holds<u32>, key: &str) -> bool {
        holds.blocks([key.as_bytes()].into_iter())
    }

    #[test]
    fn held_keys_block_and_others_do_not() {
        let mut holds: Holds<u32> = Holds::default();
        assert!(holds.try_hold(1, &keys(&["a", "b"])));
        assert!(blocked(&holds, "a"));
        assert!(!blocked(&holds, "c"));
        assert!(!holds.try_hold(2, &keys(&["b", "c"])));
        assert!(!holds.try_hold(2, &Scope::Everything));
        holds.release(1);
        assert!(holds.is_empty());
        assert!(holds.try_hold(2, &Scope::Everything));
        assert!(blocked(&holds, "anything"));
    }

    #[test]
    fn waiting_work_runs_in_order_per_key() {
        let mut holds: Holds<u32> = Holds::default();
        assert!(holds.try_hold(1, &keys(&["a"])));
        holds.wait(keys(&["a", "b"]), 10);
        assert!(
            blocked(&holds, "b"),
            "younger work may not overtake older work on b"
        );
        holds.wait(keys(&["b"]), 11);
        holds.wait(keys(&["c"]), 12);
        let none = |_: &u32| None;
        assert_eq!(holds.next_ready(none), Some(12));
        assert_eq!(holds.next_ready(none), None);
        holds.release(1);
        assert_eq!(holds.next_ready(none), Some(10));
        assert_eq!(holds.next_ready(none), Some(11));
        assert!(holds.is_empty());
    }

    #[test]
    fn a_waiting_hold_becomes_active_and_everything_waits_its_turn() {
        let mut holds: Holds<u32> = Holds::default();
        assert!(holds.try_hold(1, &keys(&["a"])));
        holds.wait(Scope::Everything, 7);
        holds.wait(keys(&["z"]), 8);
        let grants = |work: &u32| (*work == 7).then_some(7);
        assert_eq!(holds.next_ready(grants), None);
        holds.release(1);
        assert_eq!(holds.next_ready(grants), Some(7));
        assert_eq!(holds.next_ready(grants), None, "everything is held by 7");
        holds.release(7);
        assert_eq!(holds.next_ready(grants), Some(8));
        assert!(holds.is_empty());
    }
}
