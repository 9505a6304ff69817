//! The nodes of a stream in the order of their ids.
//!
//! They come at the end and mostly go at the front, so they stand in a row of full chunks rather
//! than in a tree of half-full ones.

use std::collections::VecDeque;

use super::{EntryId, Node};

/// Nodes of a chunk: removing one of them moves no more than these.
const CHUNK: usize = 64;

type Chunk = Vec<(EntryId, Node)>;

#[derive(Clone, Debug, Default)]
pub struct Index {
    /// None of them is empty.
    chunks: VecDeque<Chunk>,
    len: usize,
}

impl Index {
    pub fn len(&self) -> usize {
        self.len
    }

    /// Bytes of memory, without those of the nodes.
    pub fn memory_bytes(&self) -> usize {
        let all = self.chunks.len().saturating_sub(1) * CHUNK;
        let last = self.chunks.back().map_or(0, Vec::capacity);
        self.chunks.capacity() * size_of::<Chunk>() + (all + last) * size_of::<(EntryId, Node)>()
    }

    /// Chunk and place there of the last node that does not come after `id`.
    fn floor(&self, id: EntryId) -> Option<(usize, usize)> {
        let begins = |chunk: &Chunk| chunk.first().is_some_and(|(first, _)| *first <= id);
        let chunk = self.chunks.partition_point(begins).checked_sub(1)?;
        let at = self.chunks[chunk].partition_point(|(master, _)| *master <= id);
        Some((chunk, at - 1))
    }

    /// Adds a node; one of the same id is replaced.
    pub fn insert(&mut self, id: EntryId, node: Node) {
        let Some((mut chunk, mut at)) = self.floor(id) else {
            self.len += 1;
            return match self.chunks.front_mut().filter(|first| first.len() < CHUNK) {
                Some(first) => first.insert(0, (id, node)),
                None => self.chunks.push_front(vec![(id, node)]),
            };
        };
        if self.chunks[chunk][at].0 == id {
            self.chunks[chunk][at].1 = node;
            return;
        }
        self.len += 1;
        at += 1;
        if self.chunks[chunk].len() == CHUNK {
            // At the end nothing is split: what comes next comes behind.
            let cut = if at == CHUNK { CHUNK } else { CHUNK / 2 };
            let mut next = Vec::with_capacity(CHUNK);
            next.extend(self.chunks[chunk].drain(cut..));
            self.chunks.insert(chunk + 1, next);
            if at >= cut {
                (chunk, at) = (chunk + 1, at - cut);
            }
        }
        self.chunks[chunk].insert(at, (id, node));
    }

    pub fn first_mut(&mut self) -> Option<(EntryId, &mut Node)> {
        let (id, node) = self.chunks.front_mut()?.first_mut()?;
        Some((*id, node))
    }

    /// The node with so many behind it, if these few are all there are.
    pub fn before_last_mut(&mut self, mut behind: usize) -> Option<&mut Node> {
        for chunk in self.chunks.iter_mut().rev() {
            match chunk.len().checked_sub(behind + 1) {
                Some(at) => return chunk.get_mut(at).map(|(_, node)| node),
                None => behind -= chunk.len(),
            }
        }
        None
    }

    pub fn last_mut(&mut self) -> Option<(EntryId, &mut Node)> {
        let (id, node) = self.chunks.back_mut()?.last_mut()?;
        Some((*id, node))
    }

    /// The node where an entry of that id would be.
    pub fn node_mut(&mut self, id: EntryId) -> Option<(EntryId, &mut Node)> {
        let (chunk, at) = self.floor(id)?;
        let (master, node) = &mut self.chunks[chunk][at];
        Some((*master, node))
    }

    pub fn remove(&mut self, id: EntryId) {
        let Some((chunk, at)) = self.floor(id) else {
            return;
        };
        if self.chunks[chunk][at].0 == id {
            self.len -= 1;
            self.chunks[chunk].remove(at);
            if self.chunks[chunk].is_empty() {
                self.chunks.remove(chunk);
            }
        }
    }

    /// Frees some of the nodes; true while more are left.
    pub fn free(&mut self, nodes: usize) -> bool {
        let mut left = nodes;
        while let Some(last) = self.chunks.back_mut() {
            let keep = last.len().saturating_sub(left);
            left -= last.len() - keep;
            self.len -= last.len() - keep;
            last.truncate(keep);
            if keep > 0 {
                return true;
            }
            self.chunks.pop_back();
            if left == 0 {
                return !self.chunks.is_empty();
            }
        }
        false
    }

    pub fn iter(&self) -> impl DoubleEndedIterator<Item = (EntryId, &Node)> {
        self.chunks.iter().flatten().map(|(id, node)| (*id, node))
    }

    /// The nodes from a place on.
    pub fn iter_at(&self, place: usize) -> impl Iterator<Item = (EntryId, &Node)> {
        let mut left = place;
        let is_before = |chunk: &&Chunk| {
            let is_before = left >= chunk.len();
            left -= if is_before { chunk.len() } else { 0 };
            is_before
        };
        let before = self.chunks.iter().take_while(is_before).count();
        let rest = self.chunks.iter().skip(before).flatten();
        rest.skip(left).map(|(id, node)| (*id, node))
    }

    /// The nodes from the one on where an entry of that id would be.
    pub fn iter_from(&self, id: EntryId) -> impl Iterator<Item = (EntryId, &Node)> {
        let (chunk, at) = self.floor(id).unwrap_or_default();
        let begun = self.chunks.get(chunk).map_or(&[][..], |nodes| &nodes[at..]);
        let rest = self.chunks.iter().skip(chunk + 1).flatten();
        begun.iter().chain(rest).map(|(id, node)| (*id, node))
    }

    /// The first node that does not come before `id`.
    pub fn at_or_after(&self, id: EntryId) -> Option<(EntryId, &Node)> {
        self.iter_from(id).find(|(master, _)| *master >= id)
    }

    /// The nodes from that one back.
    pub fn iter_back_from(&self, id: EntryId) -> impl Iterator<Item = (EntryId, &Node)> {
        let (chunk, count) = self.floor(id).map_or((0, 0), |(chunk, at)| (chunk, at + 1));
        let begun = self
            .chunks
            .get(chunk)
            .map_or(&[][..], |nodes| &nodes[..count]);
        let rest = self.chunks.range(..chunk.min(self.chunks.len())).flatten();
        rest.chain(begun).rev().map(|(id, node)| (*id, node))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn an_index_is_an_ordered_map() {
        for seed in 0..8 {
            let mut rng = fastrand::Rng::with_seed(seed);
            let id = |ms| EntryId { ms, seq: 0 };
            let (mut index, mut model) = (Index::default(), BTreeMap::new());
            for n in 0..3000u64 {
                // By and by at the end, or anywhere; then gone from the front or from anywhere.
                let new = id(if seed % 2 == 0 { n } else { rng.u64(..2000) });
                if rng.u8(..10) < 7 {
                    index.insert(new, Node::new(new, &[b"f", b"v"]));
                    model.insert(new, ());
                } else {
                    let old = match (rng.bool(), model.keys().next()) {
                        (true, Some(&first)) => first,
                        _ => id(rng.u64(..n + 1)),
                    };
                    index.remove(old);
                    model.remove(&old);
                }
                assert_eq!(index.len(), model.len(), "seed {seed}");
                let first = index.first_mut().map(|(id, _)| id);
                assert_eq!(first, model.keys().next().copied(), "seed {seed}");
                let from = id(rng.u64(..2000));
                let floor = model.range(..=from).next_back().map(|(&id, ())| id);
                assert_eq!(index.node_mut(from).map(|(id, _)| id), floor);
                let after = index.at_or_after(from).map(|(id, _)| id);
                assert_eq!(after, model.range(from..).next().map(|(&id, ())| id));
                let some: Vec<_> = index.iter_from(from).map(|(id, _)| id).take(70).collect();
                let expected = model.range(floor.unwrap_or(from)..).map(|(&id, ())| id);
                assert!(expected.take(70).eq(some), "seed {seed}");
                let back = index.iter_back_from(from).map(|(id, _)| id).take(70);
                let expected = model.range(..=from).rev().map(|(&id, ())| id);
                assert!(expected.take(70).eq(back), "seed {seed}");
            }
            assert!(index.iter().map(|(id, _)| id).eq(model.keys().copied()));
            let last = index.last_mut().map(|(id, _)| id);
            assert_eq!(last, model.keys().next_back().copied());
            let mut slices = 1;
            while index.free(50) {
                slices += 1;
            }
            assert_eq!((index.len(), slices), (0, model.len().div_ceil(50).max(1)));
        }
    }
}
