//! A tree that is too large for one leaf: how it is built, and how it is searched.

use std::cmp::Ordering;

use super::Order;
use super::nodes::{
    Edge, INNER_CHUNK, INNER_MAX, Inner, LEAF_CHUNK, LEAF_MAX, Leaf, NONE, Node, Slab,
};

/// Levels of inner nodes: twelve children a node and sixteen elements a leaf reach four billion
/// elements, all that ids can tell apart, within nine.
const DEPTH_MAX: usize = 12;

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
                leaf.truncate(0);
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
    fn build_level(&mut self, level: std::ops::Range<u32>, above_leaves: bool) -> u32 {
        let mut inner = Inner::new(NONE, above_leaves);
        for child in level {
            if inner.len() == INNER_MAX {
                self.inners.push(inner);
                inner.truncate(0);
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
    fn descend(&self, mut choose: impl FnMut(&Inner) -> usize) -> Path {
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
    pub(super) fn seek(&self, score: f64, cmp: &impl Order) -> Path {
        let mut path = self.descend(|inner| {
            let (scores, ids) = (&inner.scores[..inner.len()], &inner.ids[..inner.len()]);
            place(scores, ids, score, cmp, |order| order != Ordering::Less).saturating_sub(1)
        });
        let leaf = self.leaves.at(path.leaf);
        let (scores, ids) = (&leaf.scores[..leaf.len()], &leaf.ids[..leaf.len()]);
        path.at = place(scores, ids, score, cmp, |order| order == Ordering::Greater);
        path
    }

    /// To an element that is there. Its id tells it from others of its score, so that their members,
    /// which are anywhere in memory, are looked at only if those are many.
    pub(super) fn find(&self, score: f64, id: u32, cmp: &impl Order) -> Option<Path> {
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
}

/// The number of elements that come before a place: those of a lesser score, and of those with the
/// same score the ones that `passed` tells of.
fn place(
    scores: &[f64],
    ids: &[u32],
    score: f64,
    cmp: &impl Order,
    passed: impl Fn(Ordering) -> bool,
) -> usize {
    let lesser = lesser(scores, score);
    if scores.get(lesser) != Some(&score) {
        return lesser;
    }
    let ties = scores[lesser..].partition_point(|&other| other == score);
    lesser + first_of_ties(&ids[lesser..lesser + ties], cmp, passed)
}

/// [`slice::partition_point`] among members, which are anywhere in memory: while one is looked at,
/// both of those that may be next are on their way.
fn first_of_ties(ids: &[u32], cmp: &impl Order, passed: impl Fn(Ordering) -> bool) -> usize {
    let (mut low, mut high) = (0, ids.len());
    while low < high {
        let mid = (low + high) / 2;
        cmp.fetch(ids[(low + mid) / 2]);
        if let Some(&id) = ids.get((mid + 1 + high) / 2) {
            cmp.fetch(id);
        }
        if passed(cmp.order(ids[mid])) {
            low = mid + 1;
        } else {
            high = mid;
        }
    }
    low
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
