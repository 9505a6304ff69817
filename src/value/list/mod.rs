//! Lists: a row of nodes, each a listpack of bounded size (Redis: quicklist.c).
//!
//! Which element stands in which node is exactly as in Redis, so that DUMP gives the same bytes:
//! an element joins the node at the end while that stays within `list-max-listpack-size`, an insert
//! into a full node splits it and merges what became small with its neighbours.
//!
//! An element too large to share a node stands alone, and shares the buffer it arrived in.
//!
//! With a `list-compress-depth`, the nodes further than that from both ends are compressed, as far
//! as that pays: after every change, never while something is read. Readers unpack a node for
//! themselves, one at a time, so that a list that is read does not change.

mod edit;
mod node;

use std::collections::VecDeque;
use std::ops::Range;

use bytes::Bytes;

pub use node::SavedNode;
use node::{Fill, Node, SAFETY_BYTES};

use super::limits::Limits;
use super::listpack::{Item, Listpack};
use super::run::Side;

/// What one element takes at most beside its bytes: encoding and back length.
const ENTRY_OVERHEAD_MAX: usize = 10;
/// Redis: quicklist.c COMPRESS_MAX.
const DEPTH_MAX: usize = u16::MAX as usize;

/// An end of a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    Head,
    Tail,
}

/// A list.
#[derive(Clone, Debug)]
pub struct List {
    nodes: VecDeque<Node>,
    len: usize,
    node_bytes: usize,
    /// What it was when the list was made. Redis: the same, whatever becomes of the configuration.
    fill: Fill,
    /// So many nodes at either end are never compressed; 0: none ever is. As old as `fill`.
    depth: usize,
}

impl List {
    pub fn new(limits: &Limits) -> List {
        List {
            nodes: VecDeque::new(),
            len: 0,
            node_bytes: 0,
            fill: Fill::of(limits),
            depth: limits.list_compress_depth.min(DEPTH_MAX),
        }
    }

    pub fn len(&self) -> usize {
        self.len
    }

    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Bytes of memory, about, in constant time.
    pub fn memory_bytes(&self) -> usize {
        self.nodes.capacity() * size_of::<Node>() + self.node_bytes
    }

    pub fn node_count(&self) -> usize {
        self.nodes.len()
    }

    /// The nodes at these indices, for DUMP and snapshots.
    pub fn nodes(&self, range: Range<usize>) -> impl ExactSizeIterator<Item = SavedNode<'_>> {
        self.nodes.range(range).map(Node::saved)
    }

    // ---- reading

    /// Shows the element at an index, negative ones counting from the end.
    pub fn with<R>(&self, index: i64, show: impl FnOnce(Item) -> R) -> Option<R> {
        let (node, at) = self.locate(self.absolute(index)?);
        let (mut show, mut shown) = (Some(show), None);
        let visited = self.nodes[node]
            .reading()
            .try_each(at, 1, false, &mut |item| {
                shown = show.take().map(|show| show(item));
                Ok::<(), ()>(())
            });
        visited.ok().and(shown)
    }

    /// The element at an end: never in a compressed node.
    pub fn end(&self, end: End) -> Option<Item<'_>> {
        match end {
            End::Head => self.nodes.front()?.edge(false),
            End::Tail => self.nodes.back()?.edge(true),
        }
    }

    /// The index from the front; `None` if it is not in the list.
    pub fn absolute(&self, index: i64) -> Option<usize> {
        let index = if index < 0 {
            (self.len as i64).checked_add(index)?
        } else {
            index
        };
        usize::try_from(index).ok().filter(|&at| at < self.len)
    }

    /// Node of an element and its index there.
    fn locate(&self, index: usize) -> (usize, usize) {
        if index <= self.len / 2 {
            let mut left = index;
            for (node, here) in self.nodes.iter().enumerate() {
                let len = here.len();
                if left < len {
                    return (node, left);
                }
                left -= len;
            }
        } else {
            let mut start = self.len;
            for (node, here) in self.nodes.iter().enumerate().rev() {
                start -= here.len();
                if index >= start {
                    return (node, index - start);
                }
            }
        }
        (self.nodes.len(), 0)
    }

    /// Visits up to `count` elements from an index on, until a visit fails.
    pub fn try_each<E>(
        &self,
        index: usize,
        count: usize,
        mut visit: impl FnMut(Item) -> Result<(), E>,
    ) -> Result<(), E> {
        let (node, mut at) = self.locate(index);
        let mut left = count;
        for node in self.nodes.range(node..) {
            if left == 0 {
                break;
            }
            let here = left.min(node.len() - at);
            node.reading().try_each(at, here, false, &mut visit)?;
            left -= here;
            at = 0;
        }
        Ok(())
    }

    /// Visits up to `count` elements from the last one back, until a visit fails.
    pub fn try_each_back<E>(
        &self,
        count: usize,
        mut visit: impl FnMut(Item) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut left = count;
        for node in self.nodes.iter().rev() {
            if left == 0 {
                break;
            }
            let here = left.min(node.len());
            node.reading()
                .try_each(node.len() - 1, here, true, &mut visit)?;
            left -= here;
        }
        Ok(())
    }

    /// Visits all elements.
    pub fn for_each(&self, mut visit: impl FnMut(Item)) {
        let visited = self.try_each(0, self.len, |item| {
            visit(item);
            Ok::<(), std::convert::Infallible>(())
        });
        match visited {
            Ok(()) => {}
        }
    }

    /// Index of the first element that is `value`.
    pub fn position(&self, value: &[u8]) -> Option<usize> {
        let wanted = Item::of(value);
        let mut at = 0;
        let searched = self.try_each(0, self.len, |item| {
            if item == wanted {
                return Err(());
            }
            at += 1;
            Ok(())
        });
        searched.is_err().then_some(at)
    }

    // ---- changing

    fn account(&mut self, node: usize, change: impl FnOnce(&mut Node)) {
        let here = &mut self.nodes[node];
        let before = here.memory_bytes();
        change(here);
        self.node_bytes = self.node_bytes + here.memory_bytes() - before;
    }

    fn insert_node(&mut self, at: usize, node: Node) {
        self.node_bytes += node.memory_bytes();
        self.nodes.insert(at, node);
    }

    fn remove_node(&mut self, at: usize) {
        if let Some(node) = self.nodes.remove(at) {
            self.node_bytes -= node.memory_bytes();
        }
    }

    /// Unpacks a node.
    fn open(&mut self, node: usize) {
        if self.nodes[node].is_closed() {
            self.account(node, |node| {
                node.pack();
            });
        }
    }

    /// Compresses a node, unless it is near an end.
    fn close(&mut self, node: usize) {
        if node >= self.depth && node + self.depth < self.nodes.len() {
            self.account(node, Node::close);
        }
    }

    /// A node has changed, but not the number of nodes.
    fn changed(&mut self, node: usize) {
        if self.depth > 0 {
            self.close(node);
        }
    }

    /// Nodes came or went, and those in the range changed: opens what is near the ends now, and
    /// closes what is not any more. Redis: __quicklistCompress.
    fn settle(&mut self, changed: std::ops::Range<usize>) {
        if self.depth == 0 {
            return;
        }
        let nodes = self.nodes.len();
        for at in 0..self.depth.min(nodes) {
            self.open(at);
            self.open(nodes - 1 - at);
        }
        if nodes > 2 * self.depth {
            self.close(self.depth);
            self.close(nodes - 1 - self.depth);
        }
        for at in changed.start..changed.end.min(nodes) {
            self.close(at);
        }
    }

    /// Appends a node as it was saved. Redis: quicklistAppendListpack.
    pub fn push_pack(&mut self, pack: Listpack) {
        self.len += pack.len();
        self.insert_node(self.nodes.len(), Node::Pack(pack));
        self.settle(0..0);
    }

    /// Appends an element that was saved without a listpack. Redis: quicklistAppendPlainNode.
    pub fn push_plain(&mut self, element: Bytes) {
        self.len += 1;
        self.insert_node(self.nodes.len(), Node::bare(element));
        self.settle(0..0);
    }

    /// Adds an element at an end. `shared` is the same bytes if they may be kept without a copy.
    pub fn push(&mut self, end: End, value: &[u8], shared: Option<&Bytes>) {
        let fill = self.fill;
        self.len += 1;
        let at = match end {
            End::Head => 0,
            End::Tail => self.nodes.len().saturating_sub(1),
        };
        let admits = self
            .nodes
            .get(at)
            .is_some_and(|node| node.admits(value, fill));
        if !admits {
            let at = if end == End::Head {
                0
            } else {
                self.nodes.len()
            };
            self.insert_node(at, Node::new(value, shared, fill));
            return self.settle(0..0);
        }
        self.account(at, |node| {
            let pack = node.pack();
            let more = value.len() + ENTRY_OVERHEAD_MAX;
            let max = fill.bytes_max().unwrap_or(SAFETY_BYTES);
            let side = match end {
                End::Head => Side::Ahead,
                End::Tail => Side::Behind,
            };
            pack.reserve_up_to(more, max, side);
            match end {
                End::Head => pack.push_front(value),
                End::Tail => pack.push(value),
            }
        });
    }

    /// Removes the element at an end.
    pub fn drop_end(&mut self, end: End) {
        if self.len == 0 {
            return;
        }
        let node = match end {
            End::Head => 0,
            End::Tail => self.nodes.len() - 1,
        };
        let at = match end {
            End::Head => 0,
            End::Tail => self.nodes[node].len() - 1,
        };
        if self.remove_in_node(node, at, 1) {
            self.settle(0..0);
        }
    }

    /// Removes elements of one node, which the caller closes; returns whether the node went with them.
    fn remove_in_node(&mut self, node: usize, at: usize, count: usize) -> bool {
        self.len -= count;
        if self.nodes[node].len() == count {
            self.remove_node(node);
            return true;
        }
        self.account(node, |node| {
            let pack = node.pack();
            let from = if at + 1 == pack.len() {
                pack.last()
            } else {
                pack.seek(at as isize)
            };
            if let Some(pos) = from {
                pack.remove_range(pos, count);
            }
        });
        false
    }

    /// Frees some nodes of a list that is thrown away; true while more are left.
    pub fn free_slice(&mut self, nodes: usize) -> bool {
        let keep = self.nodes.len().saturating_sub(nodes);
        self.nodes.truncate(keep);
        keep > 0
    }

    /// The `list-max-listpack-size` the list was made with, as far as Redis keeps it apart (16 bits
    /// and five sizes).
    pub fn listpack_max(&self) -> i64 {
        self.fill.0.clamp(-5, 0x7fff)
    }

    /// Whether nodes are compressed once there are enough.
    pub fn compresses(&self) -> bool {
        self.depth > 0
    }

    /// Bytes of all nodes as listpacks. Takes time that grows with the number of nodes.
    pub fn listpack_bytes(&self) -> usize {
        self.nodes.iter().map(Node::bytes).sum()
    }
}

#[cfg(test)]
mod tests;
