//! Lists: a row of nodes, each a listpack of bounded size (Redis: quicklist.c).
//!
//! Which element stands in which node is exactly as in Redis, so that DUMP gives the same bytes:
//! an element joins the node at the end while that stays within `list-max-listpack-size`, an insert
//! into a full node splits it and merges what became small with its neighbours.
//!
//! An element too large to share a node stands alone, and shares the buffer it arrived in.

use std::collections::VecDeque;

use bytes::Bytes;

use super::limits::Limits;
use super::listpack::{Item, Listpack};

/// Nodes limited by a number of elements are limited to this size, too. Redis: SIZE_SAFETY_LIMIT.
const SAFETY_BYTES: usize = 8192;
/// What one element adds to a node beside its bytes, estimated. Redis: SIZE_ESTIMATE_OVERHEAD.
const ELEMENT_OVERHEAD: usize = 8;
/// What one element takes at most beside its bytes: encoding and back length.
const ENTRY_OVERHEAD_MAX: usize = 10;
/// Header and terminator of a listpack that go away when two are merged, as Redis estimates.
const MERGE_SAVES_BYTES: usize = 11;

/// An end of a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    Head,
    Tail,
}

#[derive(Clone, Debug)]
enum Node {
    Pack(Listpack),
    /// One element that no other may join.
    Plain(Bytes),
}

/// How much a node may hold: `list-max-listpack-size`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Fill(i64);

impl Fill {
    fn of(limits: &Limits) -> Fill {
        Fill(limits.list_max_listpack_size)
    }

    fn bytes_max(self) -> Option<usize> {
        const LEVELS: [usize; 5] = [4096, 8192, 16384, 32768, 65536];
        let level = usize::try_from(-self.0 - 1).ok()?;
        Some(LEVELS[level.min(LEVELS.len() - 1)])
    }

    fn allows(self, bytes: usize, elements: usize) -> bool {
        match self.bytes_max() {
            Some(max) => bytes <= max,
            None => bytes <= SAFETY_BYTES && elements as i64 <= self.0,
        }
    }
}

impl Node {
    fn len(&self) -> usize {
        match self {
            Node::Pack(pack) => pack.len(),
            Node::Plain(_) => 1,
        }
    }

    /// Bytes as a listpack.
    fn bytes(&self) -> usize {
        match self {
            Node::Pack(pack) => pack.bytes(),
            Node::Plain(bytes) => Listpack::EMPTY_BYTES + Item::Str(bytes).entry_len(),
        }
    }

    fn memory_bytes(&self) -> usize {
        match self {
            Node::Pack(pack) => pack.memory_bytes(),
            Node::Plain(bytes) => bytes.len(),
        }
    }

    fn admits(&self, value: &[u8], fill: Fill) -> bool {
        match self {
            Node::Pack(pack) => fill.allows(
                pack.bytes() + value.len() + ELEMENT_OVERHEAD,
                pack.len() + 1,
            ),
            Node::Plain(_) => false,
        }
    }

    fn merges_with(&self, other: &Node, fill: Fill) -> bool {
        match (self, other) {
            (Node::Pack(a), Node::Pack(b)) => {
                fill.allows(a.bytes() + b.bytes() - MERGE_SAVES_BYTES, a.len() + b.len())
            }
            _ => false,
        }
    }

    fn get(&self, at: usize) -> Option<Item<'_>> {
        match self {
            Node::Pack(pack) => pack.seek(at as isize).map(|pos| pack.get(pos)),
            Node::Plain(bytes) => (at == 0).then_some(Item::Str(bytes)),
        }
    }

    /// As a listpack that can be changed.
    fn pack(&mut self) -> &mut Listpack {
        if let Node::Plain(bytes) = self {
            let mut pack = Listpack::with_capacity(bytes.len() + 17);
            pack.push(bytes);
            *self = Node::Pack(pack);
        }
        match self {
            Node::Pack(pack) => pack,
            Node::Plain(_) => unreachable!("plain nodes became listpacks above"),
        }
    }
}

/// A list.
#[derive(Clone, Debug)]
pub struct List {
    nodes: VecDeque<Node>,
    len: usize,
    node_bytes: usize,
    /// What it was when the list was made. Redis: the same, whatever becomes of the configuration.
    fill: Fill,
}

impl List {
    pub fn new(limits: &Limits) -> List {
        List {
            nodes: VecDeque::new(),
            len: 0,
            node_bytes: 0,
            fill: Fill::of(limits),
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

    /// The nodes as listpacks, for DUMP and snapshots.
    pub fn packs(&self) -> impl ExactSizeIterator<Item = std::borrow::Cow<'_, Listpack>> {
        self.nodes.iter().map(|node| match node {
            Node::Pack(pack) => std::borrow::Cow::Borrowed(pack),
            Node::Plain(bytes) => {
                let mut pack = Listpack::with_capacity(bytes.len() + 17);
                pack.push(bytes);
                std::borrow::Cow::Owned(pack)
            }
        })
    }

    // ---- reading

    /// The element at an index, negative ones counting from the end.
    pub fn get(&self, index: i64) -> Option<Item<'_>> {
        let (node, at) = self.locate(self.absolute(index)?);
        self.nodes[node].get(at)
    }

    pub fn end(&self, end: End) -> Option<Item<'_>> {
        match end {
            End::Head => self.nodes.front()?.get(0),
            End::Tail => match self.nodes.back()? {
                Node::Pack(pack) => pack.last().map(|pos| pack.get(pos)),
                Node::Plain(bytes) => Some(Item::Str(bytes)),
            },
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

    /// Elements from an index on.
    pub fn iter_from(&self, index: usize) -> impl Iterator<Item = Item<'_>> {
        let (mut node, at) = self.locate(index);
        let pack = |node: usize| match self.nodes.get(node) {
            Some(Node::Pack(pack)) => Some(pack),
            _ => None,
        };
        let mut pos = pack(node).and_then(|pack| pack.seek(at as isize));
        std::iter::from_fn(move || {
            let item = match self.nodes.get(node)? {
                Node::Plain(bytes) => {
                    pos = None;
                    Item::Str(bytes)
                }
                Node::Pack(pack) => {
                    let here = pos?;
                    pos = pack.next(here);
                    pack.get(here)
                }
            };
            if pos.is_none() {
                node += 1;
                pos = pack(node).and_then(Listpack::first);
            }
            Some(item)
        })
    }

    pub fn iter(&self) -> impl Iterator<Item = Item<'_>> {
        self.iter_from(0)
    }

    /// Elements from the last to the first.
    pub fn iter_back(&self) -> impl Iterator<Item = Item<'_>> {
        self.nodes.iter().rev().flat_map(|node| {
            let (pack, plain) = match node {
                Node::Pack(pack) => (Some(pack.iter_back()), None),
                Node::Plain(bytes) => (None, Some(Item::Str(bytes))),
            };
            pack.into_iter().flatten().chain(plain)
        })
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

    fn new_node(value: &[u8], shared: Option<&Bytes>, fill: Fill) -> Node {
        if fill.allows(value.len() + ELEMENT_OVERHEAD + 7, 1) || value.len() < SAFETY_BYTES {
            let mut pack = Listpack::with_capacity(value.len() + 17);
            pack.push(value);
            return Node::Pack(pack);
        }
        Node::Plain(match shared {
            Some(shared) => shared.clone(),
            None => Bytes::copy_from_slice(value),
        })
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
            return self.insert_node(at, Self::new_node(value, shared, fill));
        }
        self.account(at, |node| {
            let pack = node.pack();
            pack.reserve_up_to(
                value.len() + ENTRY_OVERHEAD_MAX,
                fill.bytes_max().unwrap_or(SAFETY_BYTES),
            );
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
        self.remove_in_node(node, at, 1);
    }

    /// Removes elements of one node; returns whether the node went with them.
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

    /// Removes `count` elements from an index on.
    pub fn remove_range(&mut self, index: usize, count: usize) {
        let mut left = count.min(self.len.saturating_sub(index));
        if left == 0 {
            return;
        }
        let (mut node, mut at) = self.locate(index);
        while left > 0 {
            let here = left.min(self.nodes[node].len() - at);
            left -= here;
            if !self.remove_in_node(node, at, here) {
                node += 1;
            }
            at = 0;
        }
    }

    /// Replaces the element at an index from the front.
    pub fn set(&mut self, index: usize, value: &[u8], shared: Option<&Bytes>) {
        let (node, at) = self.locate(index);
        let fill = self.fill;
        self.account(node, |node| {
            if node.len() == 1 {
                *node = Self::new_node(value, shared, fill);
                return;
            }
            let pack = node.pack();
            if let Some(pos) = pack.seek(at as isize) {
                pack.replace(pos, value);
            }
        });
    }

    /// Inserts before or after the element at an index from the front.
    pub fn insert(&mut self, index: usize, after: bool, value: &[u8], shared: Option<&Bytes>) {
        let fill = self.fill;
        let (node, at) = self.locate(index);
        self.len += 1;
        if self.nodes[node].admits(value, fill) {
            return self.account(node, |node| {
                let pack = node.pack();
                if let Some(pos) = pack.seek(at as isize) {
                    if after {
                        pack.insert_after(pos, value);
                    } else {
                        pack.insert_before(pos, value);
                    }
                }
            });
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
        match neighbour {
            Some(next) => self.account(next, |node| {
                if after {
                    node.pack().push_front(value);
                } else {
                    node.pack().push(value);
                }
            }),
            None => self.insert_node(
                node + usize::from(after),
                Self::new_node(value, shared, fill),
            ),
        }
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
        if let Some(Node::Pack(next)) = self.nodes.remove(at + 1) {
            self.node_bytes -= next.memory_bytes();
            self.account(at, |node| {
                let pack = node.pack();
                next.iter().for_each(|item| pack.push_item(item));
            });
        }
        true
    }

    /// Removes up to `count` elements equal to `value`, from one end on; 0 means all. Returns how
    /// many.
    pub fn remove_equal(&mut self, value: &[u8], from: End, count: usize) -> usize {
        let wanted = Item::of(value);
        let mut removed = 0;
        let nodes = self.nodes.len();
        let mut gone = 0;
        for step in 0..nodes {
            let node = match from {
                End::Head => step - gone,
                End::Tail => nodes - 1 - step,
            };
            let mut at: Vec<usize> = match &self.nodes[node] {
                Node::Pack(pack) => {
                    let matches = pack.iter().enumerate().filter(|(_, item)| *item == wanted);
                    matches.map(|(at, _)| at).collect()
                }
                Node::Plain(bytes) => (bytes == value).then_some(0).into_iter().collect(),
            };
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
            for &at in at.iter().rev() {
                gone += usize::from(self.remove_in_node(node, at, 1));
            }
            if removed == count && count > 0 {
                break;
            }
        }
        removed
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

    /// Bytes of all nodes as listpacks. Takes time that grows with the number of nodes.
    pub fn listpack_bytes(&self) -> usize {
        self.nodes.iter().map(Node::bytes).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(list: &List) -> Vec<Vec<u8>> {
        list.iter().map(Item::to_vec).collect()
    }

    fn step(rng: &mut fastrand::Rng, list: &mut List, model: &mut Vec<Vec<u8>>) {
        let value = match rng.u8(..8) {
            0 => vec![b'x'; rng.usize(..12_000)],
            1..=3 => rng.i16(..).to_string().into_bytes(),
            _ => vec![b'a' + rng.u8(..3); 3],
        };
        let index = rng.usize(..=model.len());
        match rng.u8(..9) {
            0 | 1 => {
                list.push(End::Head, &value, None);
                model.insert(0, value);
            }
            2 | 3 => {
                list.push(End::Tail, &value, Some(&Bytes::from(value.clone())));
                model.push(value);
            }
            4 if index < model.len() => {
                list.set(index, &value, None);
                model[index] = value;
            }
            5 | 6 if index < model.len() => {
                let after = rng.bool();
                list.insert(index, after, &value, None);
                model.insert(index + usize::from(after), value);
            }
            7 => {
                let count = rng.usize(..4);
                list.remove_range(index, count);
                model.drain(index..(index + count).min(model.len()));
            }
            _ => {
                let count = rng.usize(..3);
                let from = if rng.bool() { End::Head } else { End::Tail };
                let removed = list.remove_equal(&value, from, count);
                let mut left = if count == 0 { usize::MAX } else { count };
                let before = model.len();
                let mut keep = |other: &Vec<u8>| {
                    let goes = *other == value && left > 0;
                    left -= usize::from(goes);
                    !goes
                };
                match from {
                    End::Head => model.retain(&mut keep),
                    End::Tail => {
                        model.reverse();
                        model.retain(&mut keep);
                        model.reverse();
                    }
                }
                assert_eq!(removed, before - model.len());
            }
        }
    }

    #[test]
    fn a_list_is_a_vector() {
        for (seed, size) in [-1, -2, -5, 1, 3, 128].into_iter().enumerate() {
            let mut rng = fastrand::Rng::with_seed(seed as u64);
            let limits = Limits {
                list_max_listpack_size: size,
                ..Limits::default()
            };
            let (mut list, mut model) = (List::new(&limits), Vec::new());
            for _ in 0..1500 {
                step(&mut rng, &mut list, &mut model);
                assert_eq!(list.len(), model.len(), "size {size}");
            }
            assert_eq!(all(&list), model, "size {size}");
            let back: Vec<_> = list.iter_back().map(Item::to_vec).collect();
            assert!(back.iter().rev().eq(model.iter()), "size {size}");
            for (i, value) in model.iter().enumerate() {
                assert_eq!(&list.get(i as i64).expect("inside").to_vec(), value);
                assert_eq!(
                    list.iter_from(i).next().map(Item::to_vec).as_ref(),
                    Some(value)
                );
            }
            let bytes: usize = list.nodes.iter().map(Node::memory_bytes).sum();
            assert_eq!(list.node_bytes, bytes, "size {size}");
        }
    }

    #[test]
    fn nodes_hold_what_the_limit_says() {
        for (size, nodes) in [(-1, 26), (-2, 13), (3, 334), (1000, 13)] {
            let limits = Limits {
                list_max_listpack_size: size,
                ..Limits::default()
            };
            let mut list = List::new(&limits);
            for _ in 0..1000 {
                list.push(End::Tail, &[b'v'; 100], None);
            }
            assert_eq!(list.node_count(), nodes, "size {size}");
        }
    }
}
