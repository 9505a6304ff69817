//! The order of a sorted set: a B+ tree that counts its elements, so that ranks cost what searches
//! cost.
//!
//! An element is a score and the number (`id`) of a member whose bytes live elsewhere. Elements are
//! ordered by score, those of equal score by their members, for which the tree asks through a
//! closure. Nothing here owns, hashes or reads a member, and no closure is ever asked about a member
//! that is not in the tree: separators are the exact least elements of their subtrees, so an id may
//! be used anew as soon as it was removed. Scores are never NaN; `-0.0` and `0.0` are the same score
//! here, and each is given back as it came.
//!
//! ```text
//! Small   up to 63 elements                one Vec, nothing else
//! Tree    inner node   score id count child  x 50     least element, size and place of each child
//!         leaf         score x 63, id x 63            768 bytes
//! ```
//!
//! Nodes are numbered and lie in slabs without holes: the last node moves into the place of one that
//! goes, which is what a node's number of its parent is for. So memory follows the number of
//! elements down as it does up. Every leaf holds at least 16 elements and every inner node 12
//! children, but for those at the two edges of the tree: a leaf that overflows at its outer end is
//! left full and a new one begun, so that elements which arrive in order pack densely.

mod change;
mod nodes;
#[cfg(test)]
mod tests;
mod tree;
mod walk;

use std::cmp::Ordering;

use nodes::{LEAF_MAX, Node};
use tree::{Path, Tree};
use walk::{Ascending, Descending};

/// Orders a member in question against those of the tree.
pub trait Order {
    fn order(&self, id: u32) -> Ordering;

    /// Asks memory for what ordering against this member would need first.
    fn fetch(&self, _id: u32) {}
}

impl<F: Fn(u32) -> Ordering> Order for F {
    fn order(&self, id: u32) -> Ordering {
        self(id)
    }
}

/// Elements of (score, id) in order, each with its rank.
#[derive(Debug, Default, Clone)]
pub struct Ranked {
    form: Form,
}

#[derive(Debug, Clone)]
enum Form {
    Small(Vec<(f64, u32)>),
    Tree(Box<Tree>),
}

impl Default for Form {
    fn default() -> Form {
        Form::Small(Vec::new())
    }
}

impl Ranked {
    pub fn len(&self) -> usize {
        match &self.form {
            Form::Small(items) => items.len(),
            Form::Tree(tree) => tree.len,
        }
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Adds an element whose member must not be present.
    ///
    /// `cmp` orders the new member against the member `id`; it is called only where scores are
    /// equal.
    pub fn insert(&mut self, score: f64, id: u32, cmp: impl Order) {
        debug_assert!(!score.is_nan(), "a score is a number");
        if let Form::Small(items) = &mut self.form {
            if items.len() < LEAF_MAX {
                let at = small_place(items, score, &cmp);
                items.insert(at, (score, id));
                return;
            }
            let tree = Tree::build(std::mem::take(items).into_iter());
            self.form = Form::Tree(Box::new(tree));
        }
        if let Form::Tree(tree) = &mut self.form {
            tree.insert(score, id, &cmp);
        }
    }

    /// Removes an element; returns whether it was there. `cmp` as for [`Ranked::insert`].
    pub fn remove(&mut self, score: f64, id: u32, cmp: impl Order) -> bool {
        self.take_out(score, id, &cmp)
    }

    fn take_out(&mut self, score: f64, id: u32, cmp: &impl Order) -> bool {
        match &mut self.form {
            Form::Small(items) => {
                let is_it = |&item: &(f64, u32)| item == (score, id);
                let Some(at) = items.iter().position(is_it) else {
                    return false;
                };
                items.remove(at);
                if items.len() <= items.capacity() / 4 {
                    items.shrink_to(items.capacity() / 2);
                }
                true
            }
            Form::Tree(tree) => match tree.find(score, id, cmp) {
                Some(path) => {
                    self.cut(path, 1);
                    true
                }
                None => false,
            },
        }
    }

    /// Gives an element another score; returns whether it was there. `cmp` as for
    /// [`Ranked::insert`].
    pub fn rescore(&mut self, old: f64, id: u32, new: f64, cmp: impl Order) -> bool {
        if let Form::Tree(tree) = &mut self.form {
            let Some(path) = tree.find(old, id, &cmp) else {
                return false;
            };
            if tree.rescore(&path, new) {
                return true;
            }
            self.cut(path, 1);
        } else if !self.take_out(old, id, &cmp) {
            return false;
        }
        self.insert(new, id, cmp);
        true
    }

    /// The number of elements before the one in question, whether that is present or not.
    pub fn rank(&self, score: f64, cmp: impl Order) -> usize {
        match &self.form {
            Form::Small(items) => small_place(items, score, &cmp),
            Form::Tree(tree) => tree.rank(&tree.seek(score, &cmp)),
        }
    }

    /// The element of this rank, counted from zero.
    pub fn get(&self, rank: usize) -> Option<(f64, u32)> {
        match &self.form {
            Form::Small(items) => items.get(rank).copied(),
            Form::Tree(tree) => {
                let path = tree.seek_rank(rank)?;
                Some(tree.leaves.at(path.leaf).item(path.at))
            }
        }
    }

    /// The first rank for which `before` is false, where it is true for a first part of the
    /// elements and false for the rest; the number of elements if it is true for all.
    pub fn partition_point(&self, before: impl Fn(f64, u32) -> bool) -> usize {
        match &self.form {
            Form::Small(items) => items.partition_point(|&(score, id)| before(score, id)),
            Form::Tree(tree) => tree.rank(&tree.seek_where(&before)),
        }
    }

    /// The elements from this rank on, ascending.
    pub fn iter_from(&self, rank: usize) -> impl Iterator<Item = (f64, u32)> {
        let (small, tree) = match &self.form {
            Form::Small(items) => (items.get(rank..).unwrap_or_default(), None),
            Form::Tree(tree) => (&[][..], Ascending::new(tree, rank)),
        };
        small.iter().copied().chain(tree.into_iter().flatten())
    }

    /// The elements from this rank on down to the first, descending. No elements where there is no
    /// such rank, so that one less than an upper bound may wrap.
    pub fn iter_back_from(&self, rank: usize) -> impl Iterator<Item = (f64, u32)> {
        let (small, tree) = match &self.form {
            Form::Small(items) => (items.get(..=rank).unwrap_or_default(), None),
            Form::Tree(tree) => (&[][..], Descending::new(tree, rank)),
        };
        small
            .iter()
            .rev()
            .copied()
            .chain(tree.into_iter().flatten())
    }

    /// Removes the elements of the ranks `start..end` (as far as there are such), and tells of each
    /// in order. Takes O(log n + removed): every search is paid for by a leaf's worth of elements.
    pub fn remove_range(&mut self, start: usize, end: usize, mut removed: impl FnMut(f64, u32)) {
        let mut left = end.min(self.len()).saturating_sub(start);
        while left > 0 {
            match &mut self.form {
                Form::Small(items) => {
                    items
                        .drain(start..start + left)
                        .for_each(|(score, id)| removed(score, id));
                    items.shrink_to(items.len() * 2);
                    return;
                }
                Form::Tree(tree) => {
                    let Some(path) = tree.seek_rank(start) else {
                        return;
                    };
                    let leaf = tree.leaves.at(path.leaf);
                    let count = left.min(leaf.len() - path.at);
                    (path.at..path.at + count)
                        .for_each(|at| removed(leaf.scores[at], leaf.ids[at]));
                    self.cut(path, count);
                    left -= count;
                }
            }
        }
    }

    /// A tree of elements that come in order, packed full.
    pub fn from_sorted(items: impl ExactSizeIterator<Item = (f64, u32)>) -> Ranked {
        let form = if items.len() <= LEAF_MAX {
            Form::Small(items.collect())
        } else {
            Form::Tree(Box::new(Tree::build(items)))
        };
        Ranked { form }
    }

    /// Bytes of memory beside the place of this struct itself.
    pub fn memory_bytes(&self) -> usize {
        match &self.form {
            Form::Small(items) => items.capacity() * size_of::<(f64, u32)>(),
            Form::Tree(tree) => {
                size_of::<Tree>() + tree.leaves.memory_bytes() + tree.inners.memory_bytes()
            }
        }
    }

    /// Frees about this many nodes of a tree that is thrown away, whole chunks of them; returns
    /// whether more is left. From the first call on the tree counts as empty, and only this may be
    /// called until it returns false.
    pub fn free_slice(&mut self, nodes: usize) -> bool {
        if let Form::Tree(tree) = &mut self.form {
            tree.len = 0;
            let mut freed = 0;
            while freed < nodes {
                match tree.leaves.free_chunk() + tree.inners.free_chunk() {
                    0 => break,
                    count => freed += count,
                }
            }
            if tree.leaves.len() + tree.inners.len() > 0 {
                return true;
            }
        }
        self.form = Form::default();
        false
    }

    /// Removes elements of one leaf, from the path's position on.
    fn cut(&mut self, path: Path, count: usize) {
        if let Form::Tree(tree) = &mut self.form {
            tree.cut(path, count);
            if tree.height == 0 {
                let leaf = tree.leaves.at(tree.root);
                let items = (0..leaf.len()).map(|at| leaf.item(at)).collect();
                self.form = Form::Small(items);
            } else if tree.len == 0 {
                self.form = Form::default();
            }
        }
    }
}

/// Where the member in question belongs among a few elements.
fn small_place(items: &[(f64, u32)], score: f64, cmp: &impl Order) -> usize {
    items.partition_point(|&(other, id)| {
        other < score || (other == score && cmp.order(id) == Ordering::Greater)
    })
}
