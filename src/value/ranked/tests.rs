use super::nodes::{INNER_MIN, LEAF_CHUNK, LEAF_MIN, NONE};
use super::*;

/// A tree beside a sorted list of (score, name, id). A name is taken away with its element, so
/// that asking about a removed member fails.
#[derive(Default, Clone)]
struct Twin {
    tree: Ranked,
    model: Vec<(f64, u64, u32)>,
    names: Vec<Option<u64>>,
    free: Vec<u32>,
}

fn by_name(names: &[Option<u64>], name: u64) -> impl Fn(u32) -> Ordering {
    move |id| name.cmp(&names[id as usize].expect("a member that is present"))
}

impl Twin {
    fn find(&self, score: f64, name: u64) -> Result<usize, usize> {
        self.model.binary_search_by(|&(other, its, _)| {
            let order = other.partial_cmp(&score).expect("no NaN");
            order.then(its.cmp(&name))
        })
    }

    fn insert(&mut self, score: f64, name: u64) {
        let Err(at) = self.find(score, name) else {
            return;
        };
        let id = self.free.pop().unwrap_or_else(|| {
            self.names.push(None);
            self.names.len() as u32 - 1
        });
        self.tree.insert(score, id, by_name(&self.names, name));
        self.names[id as usize] = Some(name);
        self.model.insert(at, (score, name, id));
    }

    fn remove(&mut self, score: f64, name: u64) {
        let by_name = by_name(&self.names, name);
        match self.find(score, name) {
            Err(_) => {
                let nobody = self.names.len() as u32;
                assert!(!self.tree.remove(score, nobody, by_name));
            }
            Ok(at) => {
                let (_, _, id) = self.model.remove(at);
                assert!(self.tree.remove(score, id, by_name));
                self.forget(id);
            }
        }
    }

    /// Gives an element another score, a little or much greater.
    fn rescore(&mut self, score: f64, name: u64, new: f64) {
        let (Ok(at), Err(_)) = (self.find(score, name), self.find(new, name)) else {
            return;
        };
        let (_, _, id) = self.model.remove(at);
        let by_name = by_name(&self.names, name);
        assert!(self.tree.rescore(score, id, new, by_name));
        let Err(at) = self.find(new, name) else {
            unreachable!("it was not there")
        };
        self.model.insert(at, (new, name, id));
    }

    fn forget(&mut self, id: u32) {
        assert!(self.names[id as usize].take().is_some(), "removed once");
        self.free.push(id);
    }

    fn remove_range(&mut self, start: usize, end: usize) {
        let mut removed = Vec::new();
        self.tree
            .remove_range(start, end, |score, id| removed.push((score, id)));
        let end = end.min(self.model.len());
        let expected: Vec<_> = if start < end {
            self.model.drain(start..end).map(|e| (e.0, e.2)).collect()
        } else {
            Vec::new()
        };
        assert_eq!(removed, expected);
        expected.iter().for_each(|&(_, id)| self.forget(id));
    }

    /// The answers to questions about one place.
    fn compare(&self, rng: &mut fastrand::Rng, score: f64, name: u64) {
        let (tree, model) = (&self.tree, &self.model);
        assert_eq!(tree.len(), model.len());
        assert_eq!(tree.is_empty(), model.is_empty());
        let (Ok(rank) | Err(rank)) = self.find(score, name);
        assert_eq!(tree.rank(score, by_name(&self.names, name)), rank);
        let at_least = model.partition_point(|e| e.0 < score);
        assert_eq!(tree.partition_point(|other, _| other < score), at_least);
        let rank = rng.usize(0..=model.len() + 1);
        assert_eq!(tree.get(rank), model.get(rank).map(|e| (e.0, e.2)));
        let first = &model[..rank.min(model.len())];
        let before = tree.partition_point(|_, id| first.iter().any(|e| e.2 == id));
        assert_eq!(before, rank.min(model.len()));
        let some: Vec<_> = tree.iter_from(rank).take(150).collect();
        let expected = model.iter().skip(rank).take(150).map(|e| (e.0, e.2));
        assert!(expected.eq(some));
        let some: Vec<_> = tree.iter_back_from(rank).take(150).collect();
        let expected = model.get(..=rank).unwrap_or_default();
        assert!(expected.iter().rev().take(150).map(|e| (e.0, e.2)).eq(some));
    }

    fn compare_all(&self) {
        check(&self.tree);
        let expected = || self.model.iter().map(|e| (e.0, e.2));
        assert!(self.tree.iter_from(0).eq(expected()));
        let last = self.model.len().wrapping_sub(1);
        assert!(self.tree.iter_back_from(last).eq(expected().rev()));
    }
}

/// Asserts everything that the tree's code relies on.
fn check(ranked: &Ranked) {
    let Form::Tree(tree) = &ranked.form else {
        return;
    };
    assert!(tree.height > 0, "a single leaf is kept without nodes");
    let mut seen = (0, 0);
    let count = check_node(tree, tree.root, NONE, tree.height, (true, true), &mut seen);
    assert_eq!(count, tree.len);
    assert_eq!(seen, (tree.inners.len(), tree.leaves.len()), "no holes");
    let full = tree.leaves.chunks.iter().rev().skip(1);
    assert!(full.map(Vec::len).all(|len| len == LEAF_CHUNK));
    assert!(
        tree.leaves
            .chunks
            .iter()
            .all(|c| c.capacity() <= LEAF_CHUNK)
    );
}

/// Returns the number of elements below; `edge`: whether the node is the first and whether it
/// is the last of its level.
fn check_node(
    tree: &Tree,
    node: u32,
    parent: u32,
    height: usize,
    edge: (bool, bool),
    seen: &mut (usize, usize),
) -> usize {
    if height == 0 {
        seen.1 += 1;
        let leaf = tree.leaves.at(node);
        assert_eq!(leaf.parent, parent);
        assert!(leaf.len > 0);
        assert!(leaf.len() >= LEAF_MIN || edge.0 || edge.1, "a thin leaf");
        return leaf.len();
    }
    seen.0 += 1;
    let inner = tree.inners.at(node);
    assert_eq!(inner.parent, parent);
    assert_eq!(inner.above_leaves, height == 1);
    assert!(inner.len() > 0);
    assert!(inner.len() >= INNER_MIN || edge.1, "a thin inner node");
    let mut sum = 0;
    for slot in 0..inner.len() {
        let child = inner.children[slot];
        let last = slot + 1 == inner.len();
        let below = (edge.0 && slot == 0, edge.1 && last);
        let count = check_node(tree, child, node, height - 1, below, seen);
        assert_eq!(count, inner.counts[slot] as usize);
        let (mut least, mut level) = (child, height - 1);
        while level > 0 {
            least = tree.inners.at(least).children[0];
            level -= 1;
        }
        let least = tree.leaves.at(least).item(0);
        assert_eq!(least, (inner.scores[slot], inner.ids[slot]));
        sum += count;
    }
    sum
}

/// Ascending and random fill, and drain by different patterns, with few or many scores.
fn random_operations(seed: u64, operations: usize) {
    println!("seed {seed}");
    let rng = &mut fastrand::Rng::with_seed(seed);
    let scores = [1, 3, 100, 1 << 40][rng.usize(0..4)];
    let mut twin = Twin::default();
    // Chances out of 16 to insert, which changes as the test goes on.
    let mut inserts = 14;
    for n in 0..operations {
        let score = match rng.u64(0..scores) as f64 - 1.0 {
            zero if zero == 0.0 && rng.bool() => -0.0,
            score => score,
        };
        let name = rng.u64(0..20_000);
        if rng.u32(0..16) < inserts {
            twin.insert(score, name);
        } else if rng.u32(0..200) == 0 {
            let start = rng.usize(0..=twin.model.len());
            let most = [3, 100, 3000][rng.usize(0..3)];
            let count = rng.usize(0..=most);
            twin.remove_range(start, start + count);
        } else if let Some(&(old, name, _)) = rng.choice(&twin.model) {
            match rng.u8(..3) {
                0 => twin.remove(old, name),
                1 => twin.rescore(old, name, old + 0.25),
                _ => twin.rescore(old, name, score),
            }
        } else {
            twin.remove(score, name);
        }
        twin.compare(rng, score, name);
        if n % 500 == 0 {
            inserts = [2, 8, 14, 16][rng.usize(0..4)];
            twin.compare_all();
        }
    }
    twin.compare_all();
    twin.remove_range(0, usize::MAX);
    twin.compare_all();
    assert!(twin.tree.is_empty());
    assert!(matches!(twin.tree.form, Form::Small(_)));
}

#[test]
fn behaves_as_a_sorted_list() {
    for seed in 0..12 {
        random_operations(seed, 6_000);
    }
}

/// Enough elements for three levels of inner nodes, without the model's quadratic time.
#[test]
fn tall_trees_keep_their_order() {
    const COUNT: u32 = 200_000;
    for seed in 0..2 {
        println!("seed {seed}");
        let mut rng = fastrand::Rng::with_seed(seed);
        let mut ids: Vec<u32> = (0..COUNT).collect();
        rng.shuffle(&mut ids);
        // Ten elements to a score, ordered by their ids.
        let score = |id: u32| f64::from(id / 10);
        let mut tree = Ranked::default();
        for &id in &ids {
            tree.insert(score(id), id, |other| id.cmp(&other));
        }
        check(&tree);
        assert!(tree.iter_from(0).map(|e| e.1).eq(0..COUNT));
        rng.shuffle(&mut ids);
        for &id in &ids[..1000] {
            assert_eq!(tree.rank(score(id), |other| id.cmp(&other)), id as usize);
            assert_eq!(tree.get(id as usize), Some((score(id), id)));
        }
        let (gone, kept) = ids.split_at(ids.len() * 9 / 10);
        for &id in gone {
            assert!(tree.remove(score(id), id, |other| id.cmp(&other)));
            assert!(!tree.remove(score(id), id, |other| id.cmp(&other)));
        }
        check(&tree);
        let mut kept = kept.to_vec();
        kept.sort_unstable();
        assert!(tree.iter_from(0).map(|e| e.1).eq(kept.iter().copied()));
        let per_element = tree.memory_bytes() / tree.len();
        assert!(per_element < 50, "{per_element} bytes after removals");
        tree.remove_range(100, kept.len() - 100, |_, _| {});
        check(&tree);
        assert_eq!(tree.len(), 200);
        assert!(tree.memory_bytes() < 20_000, "{}", tree.memory_bytes());
    }
}

#[test]
fn queues_move_through_the_tree() {
    let mut twin = Twin::default();
    for n in 0..20_000u64 {
        twin.insert(n as f64, n);
        if n >= 1000 {
            twin.remove_range(0, 1);
        }
    }
    twin.compare_all();
    for n in 0..20_000u64 {
        twin.insert(-(n as f64), n + 20_000);
        twin.remove_range(1000, 1001);
    }
    twin.compare_all();
    assert!(twin.tree.memory_bytes() < 40_000);
}

#[test]
fn bulk_build_equals_inserts() {
    for count in [0, 1, 62, 63, 64, 126, 127, 3150, 3151, 3214, 200_000] {
        let items = (0..count).map(|n| (f64::from(n), n));
        let mut tree = Ranked::from_sorted(items.clone());
        check(&tree);
        assert_eq!(tree.len(), count as usize);
        assert!(tree.iter_from(0).eq(items), "{count}");
        // It goes on as any other.
        for n in 0..count.min(2000) {
            tree.insert(f64::from(n) + 0.5, count + n, |_| Ordering::Less);
        }
        check(&tree);
    }
}

#[test]
fn zeros_are_one_score_and_keep_their_sign() {
    let mut tree = Ranked::default();
    tree.insert(0.0, 1, |_| unreachable!("nothing to compare with"));
    tree.insert(-0.0, 2, |id| 2.cmp(&id));
    let items: Vec<_> = tree.iter_from(0).map(|(s, id)| (s.to_bits(), id)).collect();
    assert_eq!(items, [(0, 1), (1 << 63, 2)]);
    assert!(tree.remove(-0.0, 1, |id| 1.cmp(&id)));
    assert!(!tree.remove(f64::INFINITY, 2, |_| Ordering::Equal));
}

#[test]
fn memory_per_element() {
    const COUNT: u32 = 300_000;
    let per_element = |tree: &Ranked| tree.memory_bytes() as f64 / tree.len() as f64;
    let mut rng = fastrand::Rng::with_seed(1);
    let (mut random, mut ascending) = (Ranked::default(), Ranked::default());
    for n in 0..COUNT {
        random.insert(rng.f64(), n, |id| n.cmp(&id));
        ascending.insert(f64::from(n / 7), n, |id| n.cmp(&id));
    }
    let built = Ranked::from_sorted((0..COUNT).map(|n| (f64::from(n), n)));
    let descending = {
        let mut tree = Ranked::default();
        (0..COUNT).for_each(|n| tree.insert(-f64::from(n), n, |id| n.cmp(&id)));
        tree
    };
    assert!(per_element(&random) < 19.5, "{}", per_element(&random));
    for tree in [&ascending, &descending, &built] {
        assert!(per_element(tree) < 13.3, "{}", per_element(tree));
    }
    let small = Ranked::from_sorted((0..10).map(|n| (0.0, n)));
    assert_eq!(small.memory_bytes(), 160);
    let copy = random.clone();
    assert!(copy.memory_bytes() <= random.memory_bytes());
    assert!(copy.iter_from(0).eq(random.iter_from(0)));
}

#[test]
fn a_copy_changes_alone() {
    let mut twin = Twin::default();
    (0..9000).for_each(|n| twin.insert((n % 50) as f64, n));
    let mut other = twin.clone();
    (0..9000).for_each(|n| other.insert((n % 70) as f64, n));
    other.compare_all();
    twin.compare_all();
}

#[test]
fn is_freed_in_slices() {
    let mut tree = Ranked::from_sorted((0..100_000).map(|n| (0.0, n)));
    let mut slices = 1;
    while tree.free_slice(100) {
        slices += 1;
        assert_eq!(tree.len(), 0);
    }
    assert!((10..=17).contains(&slices), "{slices}");
    assert_eq!(tree.memory_bytes(), 0);
    assert!(!tree.free_slice(1));
    tree.insert(1.0, 1, |_| Ordering::Equal);
    assert!(!tree.free_slice(1));
}
