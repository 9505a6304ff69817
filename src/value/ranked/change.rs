//! Changes of a tree: nodes that overflow are split, nodes that run low join with a neighbour.
//!
//! What a parent knows of a child (its least element, its size, its number) is put right on the way,
//! before anything else is looked for.

use super::Order;
use super::nodes::{
    Edge, INNER_MAX, INNER_MIN, Inner, LEAF_MAX, LEAF_MIN, Leaf, NONE, Node, join_or_share,
};
use super::tree::{Path, Step, Tree};

impl Tree {
    pub(super) fn insert(&mut self, score: f64, id: u32, cmp: &impl Order) {
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
        leaf.truncate(at);
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

    fn is_rightmost(&self, path: &Path) -> bool {
        let last = |step: &Step| step.slot as usize + 1 == self.inners.at(step.node).len();
        path.steps().iter().all(last)
    }

    /// Puts a new node into the tree, right of the one the path leads through; its elements still
    /// count as that one's.
    fn grow(&mut self, path: &Path, mut edge: Edge) {
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
            inner.truncate(at);
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

    fn set_parent(&mut self, child: u32, parent: u32, above_leaves: bool) {
        if above_leaves {
            self.leaves.at_mut(child).parent = parent;
        } else {
            self.inners.at_mut(child).parent = parent;
        }
    }

    /// Tells the nodes above a leaf of its least element.
    fn refresh_least(&mut self, path: &Path) {
        let least = self.leaves.at(path.leaf).item(0);
        self.refresh_least_from(path, path.depth, least);
    }

    /// The same above the inner node at `depth` steps of the path.
    fn refresh_least_from(&mut self, path: &Path, depth: usize, (score, id): (f64, u32)) {
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
    fn shrink(&mut self, mut path: Path) {
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
    fn neighbours(&self, step: Step) -> Option<(usize, usize)> {
        let slot = step.slot as usize;
        match slot {
            0 if self.inners.at(step.node).len() == 1 => None,
            0 => Some((0, 1)),
            _ => Some((slot - 1, slot)),
        }
    }

    /// Joins the leaf in this slot with a neighbour, or lets it have some of that one's elements;
    /// returns whether there is a leaf less.
    fn fill_leaf(&mut self, step: Step) -> bool {
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
        let joined = join_or_share(&mut left, &mut right);
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
    fn fill_inner(&mut self, step: Step) -> Option<u32> {
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
        let joined = join_or_share(&mut left, &mut right);
        self.replace_inner(step.node, low, left);
        if joined {
            self.inners.at_mut(step.node).remove(high, 1);
            return Some(high_node);
        }
        self.replace_inner(step.node, high, right);
        None
    }

    /// Puts an inner node with other children into the place of a child.
    fn replace_inner(&mut self, parent: u32, slot: usize, inner: Inner) {
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
    fn free_leaf(&mut self, node: u32) {
        let moved = self.leaves.swap_remove(node);
        if moved != node {
            let parent = self.leaves.at(node).parent;
            self.repoint(parent, moved, node);
        }
    }

    /// Frees an inner node that no node points to.
    fn free_inner(&mut self, node: u32, path: &mut Path) {
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
    fn repoint(&mut self, parent: u32, from: u32, to: u32) {
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
