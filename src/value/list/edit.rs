//! Changes inside of a list, at an index or wherever a value is found.
//!
//! What goes into a full node splits it, and what has become small merges with its neighbours, both in
//! the order that Redis does it in.

use bytes::Bytes;

use super::node::{Fill, Node};
use super::{End, List};
use crate::value::listpack::{Item, Listpack};

impl List {
    /// Removes `count` elements from an index on.
    pub fn remove_range(&mut self, index: usize, count: usize) {
        let mut left = count.min(self.len.saturating_sub(index));
        if left == 0 {
            return;
        }
        let (first, at) = self.locate(index);
        let mut node = first;
        if at > 0 {
            let here = left.min(self.nodes[node].len() - at);
            left -= here;
            self.remove_in_node(node, at, here);
            node += 1;
        }
        // Whole nodes go together: one by one, each would move those behind it.
        let mut end = node;
        while let Some(whole) = self.nodes.get(end).filter(|whole| whole.len() <= left) {
            left -= whole.len();
            self.len -= whole.len();
            self.node_bytes -= whole.memory_bytes();
            end += 1;
        }
        self.nodes.drain(node..end);
        if left > 0 {
            self.remove_in_node(node, 0, left);
            node += 1;
        }
        self.settle(first..node);
    }

    /// Replaces the element at an index from the front.
    pub fn set(&mut self, index: usize, value: &[u8], shared: Option<&Bytes>) {
        let (node, at) = self.locate(index);
        let fill = self.fill;
        // Redis: quicklistReplaceEntry; where it does not replace, the new element may join the node
        // behind.
        if self.nodes[node].is_bare() || !self.nodes[node].may_take(value) {
            self.insert(index, true, value, shared);
            return self.remove_range(index, 1);
        }
        self.account(node, |node| {
            if node.len() == 1 {
                *node = Node::new(value, shared, fill);
                return;
            }
            let pack = node.pack();
            if let Some(pos) = pack.seek(at as isize) {
                pack.replace(pos, value);
            }
        });
        self.changed(node);
    }

    /// Inserts before or after the element at an index from the front.
    pub fn insert(&mut self, index: usize, after: bool, value: &[u8], shared: Option<&Bytes>) {
        let fill = self.fill;
        let (node, at) = self.locate(index);
        self.len += 1;
        if self.nodes[node].admits(value, fill) {
            self.account(node, |node| {
                let pack = node.pack();
                if let Some(pos) = pack.seek(at as isize) {
                    if after {
                        pack.insert_after(pos, value);
                    } else {
                        pack.insert_before(pos, value);
                    }
                }
            });
            return self.changed(node);
        }
        let at_edge = if after {
            at + 1 == self.nodes[node].len()
        } else {
            at == 0
        };
        if !at_edge {
            return self.split_and_insert(node, at, after, value, fill);
        }
        let neighbour = if after {
            Some(node + 1)
        } else {
            node.checked_sub(1)
        };
        let neighbour = neighbour.filter(|&next| {
            let node = self.nodes.get(next);
            node.is_some_and(|node| node.admits(value, fill))
        });
        if let Some(next) = neighbour {
            self.account(next, |node| {
                if after {
                    node.pack().push_front(value);
                } else {
                    node.pack().push(value);
                }
            });
            return self.changed(next);
        }
        let new = node + usize::from(after);
        self.insert_node(new, Node::new(value, shared, fill));
        self.settle(new..new + 1);
    }

    /// Splits a full node at an element and puts the new one where the parts meet.
    fn split_and_insert(&mut self, node: usize, at: usize, after: bool, value: &[u8], fill: Fill) {
        let cut = at + usize::from(after);
        let mut right = Listpack::new();
        self.account(node, |node| {
            let pack = node.pack();
            let count = pack.len() - cut;
            if let Some(pos) = pack.seek(cut as isize) {
                let mut next = Some(pos);
                while let Some(pos) = next {
                    right.push_item(pack.get(pos));
                    next = pack.next(pos);
                }
                pack.remove_range(pos, count);
            }
        });
        // The element joins the part that was split off: the one that is not the node's own.
        let center = if after {
            right.push_front(value);
            node
        } else {
            self.account(node, |node| node.pack().push(value));
            node + 1
        };
        self.insert_node(node + 1, Node::Pack(right));
        self.merge_around(center, fill);
        // What took part is at most two nodes away.
        self.settle(center.saturating_sub(2)..center + 3);
    }

    /// Merges neighbours that fit into one node, in Redis' order (_quicklistMergeNodes).
    fn merge_around(&mut self, center: usize, fill: Fill) {
        let mut center = center;
        if center >= 2 && self.merge(center - 2, fill) {
            center -= 1;
        }
        self.merge(center + 1, fill);
        if center >= 1 && self.merge(center - 1, fill) {
            center -= 1;
        }
        self.merge(center, fill);
    }

    /// Merges a node with the one after it, if they fit.
    fn merge(&mut self, at: usize, fill: Fill) -> bool {
        let (Some(a), Some(b)) = (self.nodes.get(at), self.nodes.get(at + 1)) else {
            return false;
        };
        if !a.merges_with(b, fill) {
            return false;
        }
        if let Some(mut next) = self.nodes.remove(at + 1) {
            self.node_bytes -= next.memory_bytes();
            let next = next.pack();
            self.account(at, |node| {
                let pack = node.pack();
                next.iter().for_each(|item| pack.push_item(item));
            });
        }
        true
    }

    /// Where in a node the elements equal to `wanted` are.
    fn equal_in_node(&self, node: usize, wanted: &Item) -> Vec<usize> {
        let (mut equal, mut at) = (Vec::new(), 0);
        let node = &self.nodes[node];
        let visited = node.reading().try_each(0, node.len(), false, &mut |item| {
            if item == *wanted {
                equal.push(at);
            }
            at += 1;
            Ok::<(), std::convert::Infallible>(())
        });
        match visited {
            Ok(()) => equal,
        }
    }

    /// Removes up to `count` elements equal to `value`, from one end on; 0 means all. Returns how
    /// many.
    pub fn remove_equal(&mut self, value: &[u8], from: End, count: usize) -> usize {
        let wanted = Item::of(value);
        let mut removed = 0;
        let nodes = self.nodes.len();
        // Emptied nodes, which go together: one by one, each would move those behind it.
        let mut gone = vec![false; nodes];
        for step in 0..nodes {
            let node = match from {
                End::Head => step,
                End::Tail => nodes - 1 - step,
            };
            let mut at = self.equal_in_node(node, &wanted);
            let left = if count == 0 {
                usize::MAX
            } else {
                count - removed
            };
            match from {
                End::Head => at.truncate(left),
                End::Tail => drop(at.drain(..at.len().saturating_sub(left))),
            }
            removed += at.len();
            if at.len() == self.nodes[node].len() {
                gone[node] = true;
                self.len -= at.len();
                self.node_bytes -= self.nodes[node].memory_bytes();
            } else if !at.is_empty() {
                for &at in at.iter().rev() {
                    self.remove_in_node(node, at, 1);
                }
                self.changed(node);
            }
            if removed == count && count > 0 {
                break;
            }
        }
        if gone.contains(&true) {
            let mut gone = gone.into_iter();
            self.nodes.retain(|_| gone.next() == Some(false));
            self.settle(0..0);
        }
        removed
    }
}
