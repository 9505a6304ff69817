//! The nodes of the tree and the slabs they lie in.

/// With the node's head this makes a leaf of 768 bytes, and a chunk of leaves 48 KiB, which
/// allocators serve without rounding up.
pub(super) const LEAF_MAX: usize = 63;
pub(super) const LEAF_MIN: usize = 16;
pub(super) const LEAF_CHUNK: usize = 64;

/// An inner node is 1008 bytes, a chunk of them just below 16 KiB.
pub(super) const INNER_MAX: usize = 50;
pub(super) const INNER_MIN: usize = 12;
pub(super) const INNER_CHUNK: usize = 16;

/// The parent of the root.
pub(super) const NONE: u32 = u32::MAX;

/// A node of the tree, as its neighbours see it.
pub(super) trait Node: Copy {
    const MAX: usize;
    fn len(&self) -> usize;
    fn truncate(&mut self, len: usize);
    fn remove(&mut self, at: usize, count: usize);
    /// Adds another's elements, or children, from one on.
    fn append(&mut self, other: &Self, from: usize);
}

/// Joins two neighbours in the left one, if all fits there; else lets both have as many. Returns
/// whether they were joined.
pub(super) fn join_or_share<T: Node>(left: &mut T, right: &mut T) -> bool {
    let total = left.len() + right.len();
    if total <= T::MAX {
        left.append(right, 0);
        return true;
    }
    let half = total / 2;
    let mut moved = *right;
    if left.len() < right.len() {
        let count = half - left.len();
        moved.truncate(count);
        left.append(&moved, 0);
        right.remove(0, count);
    } else {
        moved.truncate(0);
        moved.append(left, half);
        moved.append(right, 0);
        left.truncate(half);
        *right = moved;
    }
    false
}

#[derive(Debug, Clone, Copy)]
pub(super) struct Leaf {
    pub(super) scores: [f64; LEAF_MAX],
    pub(super) ids: [u32; LEAF_MAX],
    pub(super) parent: u32,
    pub(super) len: u32,
}

impl Leaf {
    pub(super) fn new(parent: u32) -> Leaf {
        Leaf {
            scores: [0.0; LEAF_MAX],
            ids: [0; LEAF_MAX],
            parent,
            len: 0,
        }
    }

    pub(super) fn item(&self, at: usize) -> (f64, u32) {
        (self.scores[at], self.ids[at])
    }

    pub(super) fn insert(&mut self, at: usize, score: f64, id: u32) {
        let len = self.len();
        self.scores.copy_within(at..len, at + 1);
        self.ids.copy_within(at..len, at + 1);
        (self.scores[at], self.ids[at]) = (score, id);
        self.len += 1;
    }
}

impl Node for Leaf {
    const MAX: usize = LEAF_MAX;

    fn len(&self) -> usize {
        self.len as usize
    }

    fn truncate(&mut self, len: usize) {
        self.len = len as u32;
    }

    fn remove(&mut self, at: usize, count: usize) {
        let len = self.len();
        self.scores.copy_within(at + count..len, at);
        self.ids.copy_within(at + count..len, at);
        self.len -= count as u32;
    }

    fn append(&mut self, other: &Leaf, from: usize) {
        let (len, added) = (self.len(), other.len() - from);
        self.scores[len..len + added].copy_from_slice(&other.scores[from..other.len()]);
        self.ids[len..len + added].copy_from_slice(&other.ids[from..other.len()]);
        self.len += added as u32;
    }
}

/// What an inner node knows of a child.
#[derive(Debug, Clone, Copy)]
pub(super) struct Edge {
    /// The least element of the subtree.
    pub(super) score: f64,
    pub(super) id: u32,
    /// Elements in the subtree.
    pub(super) count: u32,
    pub(super) child: u32,
}

#[derive(Debug, Clone, Copy)]
pub(super) struct Inner {
    pub(super) scores: [f64; INNER_MAX],
    pub(super) ids: [u32; INNER_MAX],
    pub(super) counts: [u32; INNER_MAX],
    pub(super) children: [u32; INNER_MAX],
    pub(super) parent: u32,
    pub(super) len: u16,
    /// Whether the children are leaves.
    pub(super) above_leaves: bool,
}

impl Inner {
    pub(super) fn new(parent: u32, above_leaves: bool) -> Inner {
        Inner {
            scores: [0.0; INNER_MAX],
            ids: [0; INNER_MAX],
            counts: [0; INNER_MAX],
            children: [0; INNER_MAX],
            parent,
            len: 0,
            above_leaves,
        }
    }

    /// What this node's parent is to know of it.
    pub(super) fn as_edge(&self, child: u32) -> Edge {
        Edge {
            score: self.scores[0],
            id: self.ids[0],
            count: self.counts[..self.len()].iter().sum(),
            child,
        }
    }

    pub(super) fn insert(&mut self, at: usize, edge: Edge) {
        let len = self.len();
        self.scores.copy_within(at..len, at + 1);
        self.ids.copy_within(at..len, at + 1);
        self.counts.copy_within(at..len, at + 1);
        self.children.copy_within(at..len, at + 1);
        self.scores[at] = edge.score;
        self.ids[at] = edge.id;
        self.counts[at] = edge.count;
        self.children[at] = edge.child;
        self.len += 1;
    }
}

impl Node for Inner {
    const MAX: usize = INNER_MAX;

    fn len(&self) -> usize {
        usize::from(self.len)
    }

    fn truncate(&mut self, len: usize) {
        self.len = len as u16;
    }

    fn remove(&mut self, at: usize, count: usize) {
        let len = self.len();
        self.scores.copy_within(at + count..len, at);
        self.ids.copy_within(at + count..len, at);
        self.counts.copy_within(at + count..len, at);
        self.children.copy_within(at + count..len, at);
        self.len -= count as u16;
    }

    fn append(&mut self, other: &Inner, from: usize) {
        let (at, end) = (self.len(), other.len());
        let to = at + end - from;
        self.scores[at..to].copy_from_slice(&other.scores[from..end]);
        self.ids[at..to].copy_from_slice(&other.ids[from..end]);
        self.counts[at..to].copy_from_slice(&other.counts[from..end]);
        self.children[at..to].copy_from_slice(&other.children[from..end]);
        self.len = to as u16;
    }
}

/// Numbered nodes without holes, in chunks, so that growth never copies more than one.
#[derive(Debug, Clone)]
pub(super) struct Slab<T, const CHUNK: usize> {
    /// All but the last are full.
    pub(super) chunks: Vec<Vec<T>>,
}

impl<T, const CHUNK: usize> Slab<T, CHUNK> {
    pub(super) const fn new() -> Self {
        Slab { chunks: Vec::new() }
    }

    pub(super) fn len(&self) -> usize {
        self.chunks
            .last()
            .map_or(0, |last| (self.chunks.len() - 1) * CHUNK + last.len())
    }

    pub(super) fn at(&self, node: u32) -> &T {
        &self.chunks[node as usize / CHUNK][node as usize % CHUNK]
    }

    pub(super) fn at_mut(&mut self, node: u32) -> &mut T {
        &mut self.chunks[node as usize / CHUNK][node as usize % CHUNK]
    }

    pub(super) fn push(&mut self, node: T) -> u32 {
        let number = self.len();
        if number.is_multiple_of(CHUNK) {
            // The first chunk begins as small as the tree, later ones with little beside the rest.
            let capacity = if number == 0 { 2 } else { CHUNK / 4 };
            self.chunks.push(Vec::with_capacity(capacity));
        }
        if let Some(last) = self.chunks.last_mut() {
            if last.len() == last.capacity() {
                last.reserve_exact(last.len().min(CHUNK - last.len()));
            }
            last.push(node);
        }
        number as u32
    }

    /// Removes a node, into whose place the last one moves; returns that one's old number.
    pub(super) fn swap_remove(&mut self, node: u32) -> u32 {
        let moved = self.len() as u32 - 1;
        if let Some(chunk) = self.chunks.last_mut()
            && let Some(last) = chunk.pop()
        {
            if chunk.is_empty() {
                self.chunks.pop();
            } else if chunk.len() <= chunk.capacity() / 4 {
                chunk.shrink_to(chunk.capacity() / 2);
            }
            if moved != node {
                *self.at_mut(node) = last;
            }
        }
        moved
    }

    /// Frees the last chunk; returns how many nodes that were.
    pub(super) fn free_chunk(&mut self) -> usize {
        self.chunks.pop().map_or(0, |chunk| chunk.len())
    }

    pub(super) fn memory_bytes(&self) -> usize {
        let nodes = self
            .chunks
            .last()
            .map_or(0, |last| (self.chunks.len() - 1) * CHUNK + last.capacity());
        nodes * size_of::<T>() + self.chunks.capacity() * size_of::<Vec<T>>()
    }
}
