//! Sorted sets: a listpack of members and scores while small; beyond, members by name in a
//! dictionary and by score in an order-statistics tree.
//!
//! Members stand in order of their score, equal scores in order of their bytes.

mod tree;

use std::cmp::Ordering;
use std::ops::Range;

use tree::Tree;

use super::Lookup;
use super::limits::Limits;
use super::listpack::{Item, Listpack, Pos};
use crate::number::{DoubleText, format_f64, parse_f64};

/// Elements of a listpack that a member takes: itself and its score.
const PAIR: usize = 2;

#[derive(Clone, Debug)]
enum Members {
    Listpack(Listpack),
    Tree(Box<Tree>),
}

/// A sorted set.
#[derive(Clone, Debug)]
pub struct Zset(Members);

/// The score that a listpack element holds.
fn score_of(item: Item) -> f64 {
    match item {
        Item::Int(n) => n as f64,
        Item::Str(text) => parse_f64(text).unwrap_or_default(),
    }
}

/// A score as a listpack holds it: an integer if it is whole and not beyond 2^62, text otherwise,
/// which comes to stand in `text`. Redis: zzlInsertAt with double2ll.
pub fn score_item(score: f64, text: &mut Option<DoubleText>) -> Item<'_> {
    const WHOLE_MAX: f64 = (1_u64 << 62) as f64;
    let is_negative_zero = score == 0.0 && score.is_sign_negative();
    if score.fract() == 0.0 && score.abs() <= WHOLE_MAX && !is_negative_zero {
        return Item::Int(score as i64);
    }
    Item::Str(text.insert(format_f64(score)).as_bytes())
}

/// A score without the sign of zero, which is lost in a listpack; the tree keeps it.
fn unsigned_zero(score: f64) -> f64 {
    if score == 0.0 { 0.0 } else { score }
}

impl Zset {
    /// What finds members, beyond a listpack.
    pub fn lookup(&self) -> Option<&dyn Lookup> {
        match &self.0 {
            Members::Listpack(_) => None,
            Members::Tree(tree) => Some(&**tree),
        }
    }

    /// An empty sorted set that is about to get a member of `first_len` bytes.
    pub fn new(first_len: usize, limits: &Limits) -> Zset {
        let compact =
            limits.zset_max_listpack_entries > 0 && first_len <= limits.zset_max_listpack_value;
        Zset(if compact {
            Members::Listpack(Listpack::new())
        } else {
            Members::Tree(Box::new(Tree::new(limits.seed)))
        })
    }

    /// A sorted set over a listpack that was saved: members and scores in turn, in order.
    pub fn from_listpack(pack: Listpack) -> Zset {
        Zset(Members::Listpack(pack))
    }

    /// The listpack of a small one.
    pub fn listpack(&self) -> Option<&Listpack> {
        match &self.0 {
            Members::Listpack(pack) => Some(pack),
            Members::Tree(_) => None,
        }
    }

    /// In the words of OBJECT ENCODING.
    pub fn encoding(&self) -> &'static str {
        match &self.0 {
            Members::Listpack(_) => "listpack",
            // Redis' name of what serves ranks and ranges; here it is a tree.
            Members::Tree(_) => "skiplist",
        }
    }

    pub fn len(&self) -> usize {
        match &self.0 {
            Members::Listpack(pack) => pack.len() / PAIR,
            Members::Tree(tree) => tree.len(),
        }
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub fn memory_bytes(&self) -> usize {
        match &self.0 {
            Members::Listpack(pack) => pack.memory_bytes(),
            Members::Tree(tree) => tree.memory_bytes(),
        }
    }

    /// Member and score at a place of a listpack.
    fn pair(pack: &Listpack, at: Pos) -> (Item<'_>, f64) {
        let score = pack.next(at).map_or(0.0, |at| score_of(pack.get(at)));
        (pack.get(at), score)
    }

    pub fn score(&self, name: &[u8]) -> Option<f64> {
        match &self.0 {
            Members::Listpack(pack) => {
                let at = pack.find(pack.first(), name, PAIR)?;
                Some(Self::pair(pack, at).1)
            }
            Members::Tree(tree) => tree.score(name),
        }
    }

    /// Gives a member a score; returns the one it had.
    pub fn set(&mut self, name: &[u8], score: f64, limits: &Limits) -> Option<f64> {
        match &mut self.0 {
            Members::Tree(tree) => tree.set(name, score),
            Members::Listpack(pack) => {
                let found = pack.find(pack.first(), name, PAIR);
                if let Some(at) = found {
                    let old = Self::pair(pack, at).1;
                    if old != score {
                        pack.remove_range(at, PAIR);
                        Self::insert(pack, name, score);
                    }
                    return Some(old);
                }
                let is_full = pack.len() / PAIR >= limits.zset_max_listpack_entries
                    || !pack.may_take(name.len());
                if is_full || name.len() > limits.zset_max_listpack_value {
                    self.become_tree(limits);
                    return self.set(name, score, limits);
                }
                Self::insert(pack, name, score);
                None
            }
        }
    }

    /// Inserts a new member where it belongs.
    fn insert(pack: &mut Listpack, name: &[u8], score: f64) {
        let mut text = None;
        let score_item = score_item(unsigned_zero(score), &mut text);
        let mut at = pack.first();
        while let Some(here) = at {
            let (other, other_score) = Self::pair(pack, here);
            let order = other_score
                .partial_cmp(&score)
                .unwrap_or(Ordering::Equal)
                .then_with(|| other.cmp_bytes(name));
            if order == Ordering::Greater {
                pack.insert_item_before(here, score_item);
                pack.insert_before(here, name);
                return;
            }
            at = pack.skip(here, PAIR);
        }
        pack.push(name);
        pack.push_item(score_item);
    }

    /// Leaves the compact encoding for good.
    pub fn spread(&mut self, limits: &Limits) {
        if matches!(self.0, Members::Listpack(_)) {
            self.become_tree(limits);
        }
    }

    fn become_tree(&mut self, limits: &Limits) {
        let mut tree = Tree::new(limits.seed);
        self.iter()
            .for_each(|(name, score)| tree.insert(name.to_vec().into(), score));
        self.0 = Members::Tree(Box::new(tree));
    }

    /// Brings the set into the encoding that the limits ask for, as Redis does with results.
    pub fn reencode(&mut self, limits: &Limits) {
        let longest = || self.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
        let is_small = self.len() <= limits.zset_max_listpack_entries
            && longest() <= limits.zset_max_listpack_value;
        match &self.0 {
            Members::Tree(_) if is_small => {
                let mut pack = Listpack::new();
                for (name, score) in self.iter() {
                    pack.push(name.bytes(&mut itoa::Buffer::new()));
                    pack.push_item(score_item(unsigned_zero(score), &mut None));
                }
                self.0 = Members::Listpack(pack);
            }
            // Also a tree that was made elsewhere: its seed is not this shard's.
            _ if !is_small => self.become_tree(limits),
            _ => {}
        }
    }

    /// Removes a member; returns its score.
    pub fn remove(&mut self, name: &[u8]) -> Option<f64> {
        match &mut self.0 {
            Members::Listpack(pack) => {
                let at = pack.find(pack.first(), name, PAIR)?;
                let score = Self::pair(pack, at).1;
                pack.remove_range(at, PAIR);
                Some(score)
            }
            Members::Tree(tree) => tree.remove(name),
        }
    }

    /// Number of members before this one.
    pub fn rank(&self, name: &[u8]) -> Option<usize> {
        match &self.0 {
            Members::Listpack(_) => self.iter().position(|(other, _)| other == Item::of(name)),
            Members::Tree(tree) => tree.rank(name),
        }
    }

    /// The first rank whose member is not `before`.
    pub fn partition_point(&self, before: impl Fn(Item, f64) -> bool) -> usize {
        match &self.0 {
            Members::Listpack(_) => self
                .iter()
                .take_while(|&(name, score)| before(name, score))
                .count(),
            Members::Tree(tree) => tree.partition_point(before),
        }
    }

    /// The member with a rank.
    pub fn get(&self, rank: usize) -> Option<(Item<'_>, f64)> {
        match &self.0 {
            Members::Listpack(pack) => {
                let at = pack.seek((PAIR * rank) as isize)?;
                Some(Self::pair(pack, at))
            }
            Members::Tree(tree) => tree.get(rank),
        }
    }

    pub fn iter(&self) -> Box<dyn Iterator<Item = (Item<'_>, f64)> + '_> {
        self.iter_from(0)
    }

    /// Members from a rank on.
    pub fn iter_from(&self, rank: usize) -> Box<dyn Iterator<Item = (Item<'_>, f64)> + '_> {
        match &self.0 {
            Members::Listpack(pack) => {
                let mut at = pack.seek((PAIR * rank) as isize);
                Box::new(std::iter::from_fn(move || {
                    let here = at?;
                    at = pack.skip(here, PAIR);
                    Some(Self::pair(pack, here))
                }))
            }
            Members::Tree(tree) => Box::new(tree.iter_from(rank)),
        }
    }

    /// Members from a rank on, downwards.
    pub fn iter_back_from(&self, rank: usize) -> Box<dyn Iterator<Item = (Item<'_>, f64)> + '_> {
        match &self.0 {
            Members::Listpack(pack) => {
                let mut at = pack.seek((PAIR * rank) as isize);
                Box::new(std::iter::from_fn(move || {
                    let here = at?;
                    at = pack.prev(here).and_then(|score| pack.prev(score));
                    Some(Self::pair(pack, here))
                }))
            }
            Members::Tree(tree) => Box::new(tree.iter_back_from(rank)),
        }
    }

    /// The members at these places, counted from the greatest down.
    pub fn range_back(
        &self,
        range: Range<usize>,
    ) -> Box<dyn Iterator<Item = (Item<'_>, f64)> + '_> {
        let Some(first) = self.len().checked_sub(range.start + 1) else {
            return Box::new(std::iter::empty());
        };
        match &self.0 {
            Members::Listpack(_) => Box::new(self.iter_back_from(first).take(range.len())),
            Members::Tree(tree) => Box::new(tree.range_back(first, range.len())),
        }
    }

    /// Removes the members with ranks `start..end`.
    pub fn remove_range(&mut self, start: usize, end: usize) {
        match &mut self.0 {
            Members::Listpack(pack) => {
                if let Some(at) = pack.seek((PAIR * start) as isize) {
                    pack.remove_range(at, PAIR * end.saturating_sub(start));
                }
            }
            Members::Tree(tree) => tree.remove_range(start, end),
        }
    }

    /// Visits members from a cursor on; compact sets all at once, as Redis does.
    pub fn scan(&self, cursor: u64, mut visit: impl FnMut(Item, f64)) -> u64 {
        match &self.0 {
            Members::Tree(tree) => tree.scan(cursor, visit),
            Members::Listpack(_) => {
                self.iter().for_each(|(name, score)| visit(name, score));
                0
            }
        }
    }

    /// Frees some members of a set that is thrown away; true while more are left.
    pub fn free_slice(&mut self, members: usize) -> bool {
        match &mut self.0 {
            Members::Listpack(_) => false,
            Members::Tree(tree) => tree.free_slice(members),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn sorted(model: &BTreeMap<Vec<u8>, f64>) -> Vec<(Vec<u8>, f64)> {
        let mut all: Vec<_> = model
            .iter()
            .map(|(name, &score)| (name.clone(), score))
            .collect();
        all.sort_by(|a, b| a.1.total_cmp(&b.1).then_with(|| a.0.cmp(&b.0)));
        all
    }

    fn owned<'a>(all: impl Iterator<Item = (Item<'a>, f64)>) -> Vec<(Vec<u8>, f64)> {
        all.map(|(name, score)| (name.to_vec(), score)).collect()
    }

    #[test]
    fn a_listpack_holds_whole_scores_as_integers() {
        let beyond = 2.0_f64.powi(62) + 1024.0;
        let scores = [
            (-0.0, Item::Int(0)),
            (-3.0, Item::Int(-3)),
            (0.5, Item::Str(b"0.5")),
            (2.0_f64.powi(53), Item::Int(1 << 53)),
            (
                922_337_203_685_477_632.0,
                Item::Int(922_337_203_685_477_632),
            ),
            (2.0_f64.powi(62), Item::Int(1 << 62)),
            (beyond, Item::Str(b"4.6116860184273889e+18")),
            (f64::NEG_INFINITY, Item::Str(b"-inf")),
        ];
        for (score, item) in scores {
            let limits = Limits::default();
            let mut set = Zset::new(1, &limits);
            set.set(b"a", score, &limits);
            let pack = set.listpack().unwrap();
            assert_eq!(pack.iter().nth(1), Some(item), "{score}");
            assert_eq!(set.score(b"a"), Some(score), "{score}");
            let mut reencoded = set.clone();
            reencoded.spread(&limits);
            reencoded.reencode(&limits);
            assert_eq!(reencoded.listpack(), set.listpack(), "{score}");
        }
    }

    #[test]
    fn a_sorted_set_is_ordered_in_every_encoding() {
        for (seed, entries) in [0, 16, 1 << 20].into_iter().enumerate() {
            let limits = Limits {
                zset_max_listpack_entries: entries,
                ..Limits::default()
            };
            let mut rng = fastrand::Rng::with_seed(seed as u64);
            let mut set = Zset::new(1, &limits);
            let mut model: BTreeMap<Vec<u8>, f64> = BTreeMap::new();
            for round in 0..3000 {
                let name = rng.u8(..150).to_string().into_bytes();
                let score = [f64::from(rng.i8(-5..5)), rng.f64(), f64::INFINITY][rng.usize(..3)];
                if rng.u8(..3) == 0 {
                    assert_eq!(set.remove(&name), model.remove(&name), "seed {seed}");
                } else {
                    assert_eq!(
                        set.set(&name, score, &limits),
                        model.insert(name.clone(), score)
                    );
                }
                assert_eq!(set.len(), model.len());
                if round % 50 == 0 {
                    let all = sorted(&model);
                    assert_eq!(owned(set.iter()), all, "seed {seed}");
                    for (rank, (name, score)) in all.iter().enumerate() {
                        assert_eq!(set.rank(name), Some(rank));
                        assert_eq!(set.score(name), Some(*score));
                    }
                    let back: Vec<_> = all.iter().rev().cloned().collect();
                    assert_eq!(owned(set.iter_back_from(all.len().max(1) - 1)), back);
                    let point = set.partition_point(|_, score| score < 0.5);
                    assert_eq!(point, all.iter().filter(|(_, score)| *score < 0.5).count());
                }
                if round % 500 == 499 && set.len() > 10 {
                    set.remove_range(2, 6);
                    for (name, _) in &sorted(&model)[2..6] {
                        model.remove(name);
                    }
                }
            }
            assert_eq!(owned(set.iter()), sorted(&model), "seed {seed}");
        }
    }

    #[test]
    fn listpack_bytes_are_those_of_redis() {
        // Captured: DUMP of a sorted set made by ZADD z 1 a 0.5 b inf c.
        let limits = Limits::default();
        let mut set = Zset::new(1, &limits);
        for (name, score) in [("a", 1.0), ("b", 0.5), ("c", f64::INFINITY)] {
            set.set(name.as_bytes(), score, &limits);
        }
        let mut expected = vec![0, 0, 0, 0, 6, 0];
        expected
            .extend_from_slice(b"\x81b\x02\x830.5\x04\x81a\x02\x01\x01\x81c\x02\x83inf\x04\xff");
        expected[0] = expected.len() as u8;
        assert_eq!(set.listpack().map(Listpack::as_bytes), Some(&expected[..]));
    }
}
