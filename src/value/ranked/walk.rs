//! Walks over the elements of a tree, up and down.

use super::nodes::{Leaf, Node};
use super::tree::{Path, Step, Tree};

/// From leaf to leaf.
impl Tree {
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
    fn step_backward(&self, path: &mut Path) -> bool {
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

pub(super) struct Ascending<'a> {
    tree: &'a Tree,
    leaf: &'a Leaf,
    path: Path,
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
    tree: &'a Tree,
    leaf: &'a Leaf,
    /// To behind the next element.
    path: Path,
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
