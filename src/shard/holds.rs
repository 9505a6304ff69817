//! Holds: the locks of multi-shard work, and the work that waits for them.
//!
//! A hold covers keys (in any database) or everything. Work that conflicts with an active hold, or
//! with older work that waits for one, waits in arrival order; so nobody starves, and two pieces of
//! work that want the same key run in the order in which they came.
//!
//! Keys are known by their hashes: two keys of one hash share their holds, and one may wait for the
//! other. That is seldom and harms nothing, and taking a hold copies no key.
//!
//! Deadlock cannot happen: on one shard a hold is granted whole or not at all, and across shards
//! the coordinator either tries all at once and backs off, or waits in ascending shard order.

use std::collections::VecDeque;

use ahash::{AHashMap, AHashSet, RandomState};
use smallvec::SmallVec;

/// Identifies one piece of multi-shard work: its coordinator's shard and a counter.
pub type TxId = u64;

/// A key's hash, which only the [`Holds`] that it comes from understands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Name(u64);

/// What a piece of work needs for itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Scope {
    Everything,
    Keys(SmallVec<[Name; 8]>),
}

/// What the holder does while it holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Holder {
    /// Its next message is the last.
    Brief,
    /// It asks for one thing after the other: a script, a transaction.
    Conversing,
}

/// The holds of one shard, and what waits for them. `W` is the waiting work.
#[derive(Debug)]
pub struct Holds<W> {
    active: AHashMap<TxId, (Scope, Holder)>,
    conversing: usize,
    keys: AHashMap<Name, TxId>,
    hasher: RandomState,
    everything: Option<TxId>,
    waiting: VecDeque<(Scope, W)>,
}

impl<W> Default for Holds<W> {
    fn default() -> Holds<W> {
        Holds {
            active: AHashMap::new(),
            conversing: 0,
            keys: AHashMap::new(),
            hasher: RandomState::new(),
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

    /// Whether `tx` holds something here.
    pub fn holds(&self, tx: TxId) -> bool {
        !self.active.is_empty() && self.active.contains_key(&tx)
    }

    fn name(&self, key: &[u8]) -> Name {
        Name(self.hasher.hash_one(key))
    }

    /// The scope of work on these keys.
    pub fn scope<'k>(&self, keys: impl Iterator<Item = &'k [u8]>) -> Scope {
        Scope::Keys(keys.map(|key| self.name(key)).collect())
    }

    /// Whether `key` is held right now. The expiry pulse leaves such keys alone.
    pub fn is_held(&self, key: &[u8]) -> bool {
        self.everything.is_some()
            || !self.keys.is_empty() && self.keys.contains_key(&self.name(key))
    }

    /// Whether work on `keys` must wait for a hold or for older waiting work.
    pub fn blocks<'k>(&self, mut keys: impl Iterator<Item = &'k [u8]>) -> bool {
        !self.is_empty() && keys.any(|key| self.blocks_name(self.name(key)))
    }

    fn blocks_name(&self, name: Name) -> bool {
        self.everything.is_some() || self.keys.contains_key(&name) || self.is_wanted(name)
    }

    fn is_wanted(&self, name: Name) -> bool {
        self.waiting.iter().any(|(scope, _)| match scope {
            Scope::Everything => true,
            Scope::Keys(keys) => keys.contains(&name),
        })
    }

    /// Whether a hold on `scope` would have to wait.
    pub fn blocks_scope(&self, scope: &Scope) -> bool {
        match scope {
            Scope::Everything => !self.is_empty(),
            Scope::Keys(keys) => {
                !self.is_empty() && keys.iter().any(|&name| self.blocks_name(name))
            }
        }
    }

    pub fn is_everything_held(&self) -> bool {
        self.everything.is_some()
    }

    /// Whether a holder goes on asking.
    pub fn is_conversing(&self) -> bool {
        self.conversing > 0
    }

    /// Grants `scope` to `tx` if nothing is in its way.
    pub fn try_hold(&mut self, tx: TxId, scope: &Scope, holder: Holder) -> bool {
        if self.blocks_scope(scope) {
            return false;
        }
        self.grant(tx, scope.clone(), holder);
        true
    }

    fn grant(&mut self, tx: TxId, scope: Scope, holder: Holder) {
        match &scope {
            Scope::Everything => self.everything = Some(tx),
            Scope::Keys(keys) => {
                self.keys.extend(keys.iter().map(|&name| (name, tx)));
            }
        }
        self.conversing += usize::from(holder == Holder::Conversing);
        let previous = self.active.insert(tx, (scope, holder));
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
        let Some((scope, holder)) = self.active.remove(&tx) else {
            return;
        };
        self.conversing -= usize::from(holder == Holder::Conversing);
        match scope {
            Scope::Everything => self.everything = None,
            Scope::Keys(keys) => {
                for key in keys {
                    self.keys.remove(&key);
                }
            }
        }
    }

    /// The oldest waiting work that may run now. If it is a hold itself, `grants` names its
    /// transaction and the hold is active from here on.
    pub fn next_ready(&mut self, grants: impl Fn(&W) -> Option<(TxId, Holder)>) -> Option<W> {
        if self.waiting.is_empty() || self.everything.is_some() {
            return None;
        }
        let mut passed: AHashSet<Name> = AHashSet::new();
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
                    let free = |name| !self.keys.contains_key(name) && !passed.contains(name);
                    if keys.iter().all(free) {
                        ready = Some(i);
                        break;
                    }
                    passed.extend(keys);
                }
            }
        }
        let (scope, work) = self.waiting.remove(ready?)?;
        if let Some((tx, holder)) = grants(&work) {
            self.grant(tx, scope, holder);
        }
        Some(work)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(holds: &Holds<u32>, names: &[&str]) -> Scope {
        holds.scope(names.iter().map(|name| name.as_bytes()))
    }

    fn hold(holds: &mut Holds<u32>, tx: TxId, names: &[&str]) -> bool {
        let scope = keys(holds, names);
        holds.try_hold(tx, &scope, Holder::Brief)
    }

    fn wait(holds: &mut Holds<u32>, names: &[&str], work: u32) {
        let scope = keys(holds, names);
        holds.wait(scope, work);
    }

    fn blocked(holds: &Holds<u32>, key: &str) -> bool {
        holds.blocks([key.as_bytes()].into_iter())
    }

    #[test]
    fn held_keys_block_and_others_do_not() {
        let mut holds: Holds<u32> = Holds::default();
        assert!(hold(&mut holds, 1, &["a", "b"]));
        assert!(blocked(&holds, "a"));
        assert!(!blocked(&holds, "c"));
        assert!(!hold(&mut holds, 2, &["b", "c"]));
        assert!(!holds.try_hold(2, &Scope::Everything, Holder::Brief));
        holds.release(1);
        assert!(holds.is_empty());
        assert!(holds.try_hold(2, &Scope::Everything, Holder::Brief));
        assert!(blocked(&holds, "anything"));
    }

    #[test]
    fn waiting_work_runs_in_order_per_key() {
        let mut holds: Holds<u32> = Holds::default();
        assert!(hold(&mut holds, 1, &["a"]));
        wait(&mut holds, &["a", "b"], 10);
        assert!(
            blocked(&holds, "b"),
            "younger work may not overtake older work on b"
        );
        wait(&mut holds, &["b"], 11);
        wait(&mut holds, &["c"], 12);
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
        assert!(hold(&mut holds, 1, &["a"]));
        holds.wait(Scope::Everything, 7);
        wait(&mut holds, &["z"], 8);
        let grants = |work: &u32| (*work == 7).then_some((7, Holder::Conversing));
        assert_eq!(holds.next_ready(grants), None);
        holds.release(1);
        assert_eq!(holds.next_ready(grants), Some(7));
        assert_eq!(holds.next_ready(grants), None, "everything is held by 7");
        assert!(holds.is_conversing());
        holds.release(7);
        assert!(!holds.is_conversing());
        assert_eq!(holds.next_ready(grants), Some(8));
        assert!(holds.is_empty());
    }
}
