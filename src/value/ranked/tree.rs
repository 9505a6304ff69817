//! Searching and changing a tree that is too large for one leaf.

use std::cmp::Ordering;

use super::nodes::{Edge, INNER_MAX, INNER_MIN, Inner, LEAF_MAX, LEAF_MIN, Leaf, NONE, Slab};
use super::nodes::{INNER_CHUNK, LEAF_CHUNK};

/// Levels of inner nodes: twelve children a node and sixteen elements a leaf reach four billion
/// elements, all that ids can tell apart, within nine.
pub(super) const DEPTH_MAX: usize = 12;

/// Leaves that are searched for an id among elements of equal score.
const LEAVES_TRIED: usize = 2;

#[derive(Debug, Default, Clone, Copy)]
pub(super) struct Step {
    pub(super) node: u32,
    pub(super) slot: u32,
}

/// The way from the root to a position in a leaf.
#[derive(Debug, Clone, Copy)]
pub(super) struct Path {
    /// Inner nodes, the root first, and the child taken in each; `depth` of them.
    pub(super) steps: [Step; DEPTH_MAX],
    pub(super) depth: usize,
    pub(super) leaf: u32,
    pub(super) at: usize,
}

impl Path {
    pub(super) fn steps(&self) -> &[Step] {
        &self.steps[..self.depth]
    }

    pub(super) fn last(&self) -> Step {
        self.steps[self.depth - 1]
    }
}

/// A tree of at least one inner node. Only while an element is removed may it have none.
#[derive(Debug, Clone)]
pub(super) struct Tree {
    pub(super) leaves: Slab<Leaf, LEAF_CHUNK>,
    pub(super) inners: Slab<Inner, INNER_CHUNK>,
    pub(super) root: u32,
    /// Levels of inner nodes.
    pub(super) height: usize,
    /// Elements.
    pub(super) len: usize,
}

/// Building and searching.
impl Tree {
    /// At least one element, in order. Every node is full but the last of its level.
    pub(super) fn build(items: impl Iterator<Item = (f64, u32)>) -> Tree {
        let mut tree = Tree {
            leaves: Slab::new(),
            inners: Slab::new(),
            root: 0,
            height: 1,
            len: 0,
        };
        let mut leaf = Leaf::new(NONE);
        for (score, id) in items {
            if leaf.len() == LEAF_MAX {
                tree.leaves.push(leaf);
                leaf.len = 0;
            }
            leaf.insert(leaf.len(), score, id);
            tree.len += 1;
        }
        tree.leaves.push(leaf);
        let mut level = 0..tree.build_level(0..tree.leaves.len() as u32, true);
        while level.len() > 1 {
            tree.height += 1;
            level = level.end..tree.build_level(level, false);
        }
        tree.root = level.start;
        tree
    }

    /// Puts parents above the nodes of a level; returns the end of theirs.
    pub(super) fn build_level(&mut self, level: std::ops::Range<u32>, above_leaves: bool) -> u32 {
        let mut inner = Inner::new(NONE, above_leaves);
        for child in level {
            if inner.len() == INNER_MAX {
                self.inners.push(inner);
                inner.len = 0;
            }
            // The node under construction gets the next number.
            let parent = self.inners.len() as u32;
            let edge = self.adopt(child, parent, above_leaves);
            inner.insert(inner.len(), edge);
        }
        self.inners.push(inner) + 1
    }

    /// Tells a node of its parent; returns what the parent is to know of it.
    pub(super) fn adopt(&mut self, child: u32, parent: u32, above_leaves: bool) -> Edge {
        if above_leaves {
            let leaf = self.leaves.at_mut(child);
            leaf.parent = parent;
            Edge {
                score: leaf.scores[0],
                id: leaf.ids[0],
                count: leaf.len,
                child,
            }
        } else {
            let inner = self.inners.at_mut(child);
            inner.parent = parent;
            inner.as_edge(child)
        }
    }

    /// Goes down to a leaf by the slots that `choose` names.
    pub(super) fn descend(&self, mut choose: impl FnMut(&Inner) -> usize) -> Path {
        let mut path = Path {
            steps: [Step::default(); DEPTH_MAX],
            depth: self.height,
            leaf: self.root,
            at: 0,
        };
        for step in &mut path.steps[..self.height] {
            let inner = self.inners.at(path.leaf);
            let slot = choose(inner);
            *step = Step {
                node: path.leaf,
                slot: slot as u32,
            };
            path.leaf = inner.children[slot];
        }
        path
    }

    /// To where the member in question is or would be.
    pub(super) fn seek(&self, score: f64, cmp: &impl Fn(u32) -> Ordering) -> Path {
        let mut path = self.descend(|inner| {
            let (scores, ids) = (&inner.scores[..inner.len()], &inner.ids[..inner.len()]);
            place(scores, ids, score, |id| cmp(id) != Ordering::Less).saturating_sub(1)
        });
        let leaf = self.leaves.at(path.leaf);
        let (scores, ids) = (&leaf.scores[..leaf.len()], &leaf.ids[..leaf.len()]);
        path.at = place(scores, ids, score, |id| cmp(id) == Ordering::Greater);
        path
    }

    /// To an element that is there. Its id tells it from others of its score, so that their members,
    /// which are anywhere in memory, are looked at only if those are many.
    pub(super) fn find(&self, score: f64, id: u32, cmp: &impl Fn(u32) -> Ordering) -> Option<Path> {
        let mut path = self.descend(|inner| {
            let least = lesser(&inner.scores[..inner.len()], score);
            least.saturating_sub(1)
        });
        let leaf = self.leaves.at(path.leaf);
        path.at = lesser(&leaf.scores[..leaf.len()], score);
        for _ in 0..LEAVES_TRIED {
            let leaf = self.leaves.at(path.leaf);
            let rest = path.at..leaf.len();
            let is_it = |&at: &usize| leaf.scores[at] != score || leaf.ids[at] == id;
            match rest.into_iter().find(is_it) {
                Some(at) if leaf.scores[at] == score => {
                    path.at = at;
                    return Some(path);
                }
                None if self.step_forward(&mut path) => {}
                _ => return None,
            }
        }
        let path = self.seek(score, cmp);
        let leaf = self.leaves.at(path.leaf);
        let is_it = path.at < leaf.len() && leaf.item(path.at) == (score, id);
        is_it.then_some(path)
    }

    /// Gives the element of a path another score, if that changes nobody's place.
    pub(super) fn rescore(&mut self, path: &Path, score: f64) -> bool {
        let leaf = self.leaves.at_mut(path.leaf);
        let inside = path.at > 0 && path.at + 1 < leaf.len();
        let stays = inside && leaf.scores[path.at - 1] < score && score < leaf.scores[path.at + 1];
        if stays {
            leaf.scores[path.at] = score;
        }
        stays
    }

    /// To the first element for which `before` is false, or after the last.
    pub(super) fn seek_where(&self, before: &impl Fn(f64, u32) -> bool) -> Path {
        let mut path = self.descend(|inner| {
            first_not(inner.len(), |at| before(inner.scores[at], inner.ids[at])).saturating_sub(1)
        });
        let leaf = self.leaves.at(path.leaf);
        path.at = first_not(leaf.len(), |at| before(leaf.scores[at], leaf.ids[at]));
        path
    }

    pub(super) fn seek_rank(&self, rank: usize) -> Option<Path> {
        if rank >= self.len {
            return None;
        }
        let mut left = rank;
        let mut path = self.descend(|inner| {
            let mut slot = 0;
            while left >= inner.counts[slot] as usize {
                left -= inner.counts[slot] as usize;
                slot += 1;
            }
            slot
        });
        path.at = left;
        Some(path)
    }

    /// The number of elements before a position.
    pub(super) fn rank(&self, path: &Path) -> usize {
        let before = |step: &Step| -> usize {
            let counts = &self.inners.at(step.node).counts[..step.slot as usize];
            // No node counts more than four billion elements.
            counts.iter().sum::<u32>() as usize
        };
        path.steps().iter().map(before).sum::<usize>() + path.at
    }

    /// To the beginning of the next leaf; false at the last one.
    pub(super) fn step_forward(&self, path: &mut Path) -> bool {
        let more = |step: &Step| step.slot as usize + 1 < self.inners.at(step.node).len();
        let Some(level) = path.steps().iter().rposition(more) else {
            return false;
        };
        path.steps[level].slot += 1;
        for at in level..path.depth {
            let step = path.steps[at];
            let child = self.inners.at(step.node).children[step.slot as usize];
            match path.steps[..path.depth].get_mut(at + 1) {
                Some(next) => {
                    *next = Step {
                        node: child,
                        slot: 0,
                    }
                }
                None => path.leaf = child,
            }
        }
        path.at = 0;
        true
    }

    /// Behind the end of the leaf before; false at the first one.
    pub(super) fn step_backward(&self, path: &mut Path) -> bool {
        let Some(level) = path.steps().iter().rposition(|step| step.slot > 0) else {
            return false;
        };
        path.steps[level].slot -= 1;
        for at in level..path.depth {
            let step = path.steps[at];
            let child = self.inners.at(step.node).children[step.slot as usize];
            match path.steps[..path.depth].get_mut(at + 1) {
                Some(next) => {
                    let slot = self.inners.at(child).len() as u32 - 1;
                    *next = Step { node: child, slot };
                }
                None => path.leaf = child,
            }
        }
        path.at = self.leaves.at(path.leaf).len();
        true
    }
}

/// Changes.
impl Tree {
    pub(super) fn insert(&mut self, score: f64, id: u32, cmp: &impl Fn(u32) -> Ordering) {
        debug_assert!(self.len > 0, "a tree that is freed in slices stays empty");
        let path = self.seek(score, cmp);
        self.len += 1;
        for step in path.steps() {
            self.inners.at_mut(step.node).counts[step.slot as usize] += 1;
        }
        let leaf = self.leaves.at_mut(path.leaf);
        if leaf.len() < LEAF_MAX {
            leaf.insert(path.at, score, id);
            if path.at == 0 {
                self.refresh_least(&path);
            }
            return;
        }
        let at = match path.at {
            // Before everything: a new leaf for what may come in descending order.
            0 => 0,
            LEAF_MAX if self.is_rightmost(&path) => LEAF_MAX,
            at => LEAF_MAX / 2 + usize::from(at > LEAF_MAX / 2),
        };
        let leaf = self.leaves.at_mut(path.leaf);
        let mut right = Leaf::new(leaf.parent);
        right.append(leaf, at);
        leaf.len = at as u32;
        if path.at < at || at == 0 {
            leaf.insert(path.at, score, id);
        } else {
            right.insert(path.at - at, score, id);
        }
        if path.at == 0 {
            self.refresh_least(&path);
        }
        let ((score, id), count) = (right.item(0), right.len);
        let child = self.leaves.push(right);
        let edge = Edge {
            score,
            id,
            count,
            child,
        };
        self.grow(&path, edge);
    }

    pub(super) fn is_rightmost(&self, path: &Path) -> bool {
        let last = |step: &Step| step.slot as usize + 1 == self.inners.at(step.node).len();
        path.steps().iter().all(last)
    }

    /// Puts a new node into the tree, right of the one the path leads through; its elements still
    /// count as that one's.
    pub(super) fn grow(&mut self, path: &Path, mut edge: Edge) {
        let rightmost = self.is_rightmost(path);
        for (level, step) in path.steps().iter().enumerate().rev() {
            let inner = self.inners.at_mut(step.node);
            let slot = step.slot as usize;
            inner.counts[slot] -= edge.count;
            if inner.len() < INNER_MAX {
                inner.insert(slot + 1, edge);
                return;
            }
            let at = if rightmost { INNER_MAX } else { INNER_MAX / 2 };
            let mut right = Inner::new(inner.parent, inner.above_leaves);
            right.append(inner, at);
            inner.len = at as u16;
            if slot < at && !rightmost {
                inner.insert(slot + 1, edge);
            } else {
                right.insert(slot + 1 - at, edge);
            }
            let above_leaves = right.above_leaves;
            debug_assert_eq!(above_leaves, level + 1 == path.depth);
            edge = right.as_edge(self.inners.push(right));
            for &child in &right.children[..right.len()] {
                self.set_parent(child, edge.child, above_leaves);
            }
        }
        let left = self.root;
        self.root = self.inners.len() as u32;
        let mut root = Inner::new(NONE, false);
        root.insert(0, self.adopt(left, self.root, false));
        root.insert(1, self.adopt(edge.child, self.root, false));
        self.inners.push(root);
        self.height += 1;
    }

    pub(super) fn set_parent(&mut self, child: u32, parent: u32, above_leaves: bool) {
        if above_leaves {
            self.leaves.at_mut(child).parent = parent;
        } else {
            self.inners.at_mut(child).parent = parent;
        }
    }

    /// Tells the nodes above a leaf of its least element.
    pub(super) fn refresh_least(&mut self, path: &Path) {
        let least = self.leaves.at(path.leaf).item(0);
        self.refresh_least_from(path, path.depth, least);
    }

    /// The same above the inner node at `depth` steps of the path.
    pub(super) fn refresh_least_from(
        &mut self,
        path: &Path,
        depth: usize,
        (score, id): (f64, u32),
    ) {
        for step in path.steps[..depth].iter().rev() {
            let inner = self.inners.at_mut(step.node);
            let slot = step.slot as usize;
            (inner.scores[slot], inner.ids[slot]) = (score, id);
            if slot != 0 {
                return;
            }
        }
    }

    /// Removes elements of one leaf, from the path's position on. May leave the tree without inner
    /// nodes, or without elements.
    pub(super) fn cut(&mut self, path: Path, count: usize) {
        self.len -= count;
        for step in path.steps() {
            self.inners.at_mut(step.node).counts[step.slot as usize] -= count as u32;
        }
        let leaf = self.leaves.at_mut(path.leaf);
        leaf.remove(path.at, count);
        let len = leaf.len();
        if path.at == 0 && len > 0 {
            self.refresh_least(&path);
        }
        if len < LEAF_MIN && self.len > 0 {
            self.shrink(path);
        }
    }

    /// Joins the path's leaf, which has become too small, with a neighbour, and so on upwards.
    pub(super) fn shrink(&mut self, mut path: Path) {
        if !self.fill_leaf(path.last()) {
            return;
        }
        for level in (0..path.depth).rev() {
            let node = path.steps[level].node;
            let inner = self.inners.at(node);
            if inner.len() > 0 && path.steps[level].slot == 0 {
                let least = (inner.scores[0], inner.ids[0]);
                self.refresh_least_from(&path, level, least);
            }
            let len = self.inners.at(node).len();
            if level == 0 || len >= INNER_MIN {
                break;
            }
            match self.fill_inner(path.steps[level - 1]) {
                Some(gone) => self.free_inner(gone, &mut path),
                None => break,
            }
        }
        while self.height > 0 && self.inners.at(self.root).len() == 1 {
            let inner = self.inners.at(self.root);
            let (child, above_leaves) = (inner.children[0], inner.above_leaves);
            let old = std::mem::replace(&mut self.root, child);
            self.set_parent(child, NONE, above_leaves);
            self.height -= 1;
            self.free_inner(old, &mut path);
        }
    }

    /// The slots of a node and of the neighbour to join it with, in order, if it has one.
    pub(super) fn neighbours(&self, step: Step) -> Option<(usize, usize)> {
        let slot = step.slot as usize;
        match slot {
            0 if self.inners.at(step.node).len() == 1 => None,
            0 => Some((0, 1)),
            _ => Some((slot - 1, slot)),
        }
    }

    /// Joins the leaf in this slot with a neighbour, or lets it have some of that one's elements;
    /// returns whether there is a leaf less.
    pub(super) fn fill_leaf(&mut self, step: Step) -> bool {
        let slot = step.slot as usize;
        let node = self.inners.at(step.node).children[slot];
        if self.leaves.at(node).len == 0 {
            self.inners.at_mut(step.node).remove(slot, 1);
            self.free_leaf(node);
            return true;
        }
        let Some((low, high)) = self.neighbours(step) else {
            return false;
        };
        let parent = self.inners.at(step.node);
        let (low_node, high_node) = (parent.children[low], parent.children[high]);
        let (mut left, mut right) = (*self.leaves.at(low_node), *self.leaves.at(high_node));
        let total = left.len() + right.len();
        let joined = total <= LEAF_MAX;
        if joined {
            left.append(&right, 0);
        } else if left.len() < right.len() {
            let count = total / 2 - left.len();
            let mut some = right;
            some.len = count as u32;
            left.append(&some, 0);
            right.remove(0, count);
        } else {
            let mut moved = Leaf::new(right.parent);
            moved.append(&left, total / 2);
            left.len = total as u32 / 2;
            moved.append(&right, 0);
            right = moved;
        }
        *self.leaves.at_mut(low_node) = left;
        let parent = self.inners.at_mut(step.node);
        parent.counts[low] = left.len;
        if joined {
            parent.remove(high, 1);
            self.free_leaf(high_node);
        } else {
            parent.counts[high] = right.len;
            (parent.scores[high], parent.ids[high]) = right.item(0);
            *self.leaves.at_mut(high_node) = right;
        }
        joined
    }

    /// The same for an inner node. Returns the node that is no longer part of the tree, for the
    /// caller to free.
    pub(super) fn fill_inner(&mut self, step: Step) -> Option<u32> {
        let slot = step.slot as usize;
        let node = self.inners.at(step.node).children[slot];
        if self.inners.at(node).len == 0 {
            self.inners.at_mut(step.node).remove(slot, 1);
            return Some(node);
        }
        let (low, high) = self.neighbours(step)?;
        let parent = self.inners.at(step.node);
        let (low_node, high_node) = (parent.children[low], parent.children[high]);
        let (mut left, mut right) = (*self.inners.at(low_node), *self.inners.at(high_node));
        let total = left.len() + right.len();
        let joined = total <= INNER_MAX;
        if joined {
            left.append(&right, 0);
        } else if left.len() < right.len() {
            let count = total / 2 - left.len();
            let mut some = right;
            some.len = count as u16;
            left.append(&some, 0);
            right.remove(0, count);
        } else {
            let mut moved = Inner::new(right.parent, right.above_leaves);
            moved.append(&left, total / 2);
            left.len = total as u16 / 2;
            moved.append(&right, 0);
            right = moved;
        }
        self.replace_inner(step.node, low, left);
        if joined {
            self.inners.at_mut(step.node).remove(high, 1);
            return Some(high_node);
        }
        self.replace_inner(step.node, high, right);
        None
    }

    /// Puts an inner node with other children into the place of a child.
    pub(super) fn replace_inner(&mut self, parent: u32, slot: usize, inner: Inner) {
        let node = self.inners.at(parent).children[slot];
        let edge = inner.as_edge(node);
        *self.inners.at_mut(node) = inner;
        for &child in &inner.children[..inner.len()] {
            self.set_parent(child, node, inner.above_leaves);
        }
        let above = self.inners.at_mut(parent);
        (above.scores[slot], above.ids[slot]) = (edge.score, edge.id);
        above.counts[slot] = edge.count;
    }

    /// Frees a leaf that no node points to.
    pub(super) fn free_leaf(&mut self, node: u32) {
        let moved = self.leaves.swap_remove(node);
        if moved != node {
            let parent = self.leaves.at(node).parent;
            self.repoint(parent, moved, node);
        }
    }

    /// Frees an inner node that no node points to.
    pub(super) fn free_inner(&mut self, node: u32, path: &mut Path) {
        let moved = self.inners.swap_remove(node);
        if moved == node {
            return;
        }
        let inner = *self.inners.at(node);
        for &child in &inner.children[..inner.len()] {
            self.set_parent(child, node, inner.above_leaves);
        }
        self.repoint(inner.parent, moved, node);
        for step in &mut path.steps {
            if step.node == moved {
                step.node = node;
            }
        }
    }

    /// Lets a parent know that its child has another number now.
    pub(super) fn repoint(&mut self, parent: u32, from: u32, to: u32) {
        if parent == NONE {
            self.root = to;
            return;
        }
        let inner = self.inners.at_mut(parent);
        let len = inner.len();
        for child in &mut inner.children[..len] {
            if *child == from {
                *child = to;
                return;
            }
        }
        unreachable!("a node is among its parent's children");
    }
}

pub(super) struct Ascending<'a> {
    pub(super) tree: &'a Tree,
    pub(super) leaf: &'a Leaf,
    pub(super) path: Path,
}

impl<'a> Ascending<'a> {
    pub(super) fn new(tree: &'a Tree, rank: usize) -> Option<Ascending<'a>> {
        let path = tree.seek_rank(rank)?;
        let leaf = tree.leaves.at(path.leaf);
        Some(Ascending { tree, leaf, path })
    }
}

impl Iterator for Ascending<'_> {
    type Item = (f64, u32);

    fn next(&mut self) -> Option<(f64, u32)> {
        if self.path.at == self.leaf.len() {
            if !self.tree.step_forward(&mut self.path) {
                return None;
            }
            self.leaf = self.tree.leaves.at(self.path.leaf);
        }
        self.path.at += 1;
        Some(self.leaf.item(self.path.at - 1))
    }
}

pub(super) struct Descending<'a> {
    pub(super) tree: &'a Tree,
    pub(super) leaf: &'a Leaf,
    /// To behind the next element.
    pub(super) path: Path,
}

impl<'a> Descending<'a> {
    pub(super) fn new(tree: &'a Tree, rank: usize) -> Option<Descending<'a>> {
        let mut path = tree.seek_rank(rank)?;
        path.at += 1;
        let leaf = tree.leaves.at(path.leaf);
        Some(Descending { tree, leaf, path })
    }
}

impl Iterator for Descending<'_> {
    type Item = (f64, u32);

    fn next(&mut self) -> Option<(f64, u32)> {
        if self.path.at == 0 {
            if !self.tree.step_backward(&mut self.path) {
                return None;
            }
            self.leaf = self.tree.leaves.at(self.path.leaf);
        }
        self.path.at -= 1;
        Some(self.leaf.item(self.path.at))
    }
}

/// The number of elements that come before a place: those of a lesser score, and of those with the
/// same score the ones that `passed` tells of.
fn place(scores: &[f64], ids: &[u32], score: f64, passed: impl Fn(u32) -> bool) -> usize {
    let lesser = lesser(scores, score);
    if scores.get(lesser) != Some(&score) {
        return lesser;
    }
    let ties = scores[lesser..].partition_point(|&other| other == score);
    lesser + ids[lesser..lesser + ties].partition_point(|&id| passed(id))
}

/// The number of ascending scores below one. The last score of every cache line is looked at first, and
/// no look waits for another: a search by halves waits for memory at each of its steps.
fn lesser(scores: &[f64], score: f64) -> usize {
    const LINE: usize = 8;
    let below = |scores: &[f64]| scores.iter().filter(|&&other| other < score).count();
    let (lines, last) = scores.as_chunks::<LINE>();
    let whole = lines.iter().filter(|line| line[LINE - 1] < score).count();
    let part = lines.get(whole).map_or(last, |line| &line[..]);
    whole * LINE + below(part)
}

/// [`slice::partition_point`] over positions.
fn first_not(len: usize, before: impl Fn(usize) -> bool) -> usize {
    let (mut low, mut high) = (0, len);
    while low < high {
        let mid = (low + high) / 2;
        if before(mid) {
            low = mid + 1;
        } else {
            high = mid;
        }
    }
    low
}
