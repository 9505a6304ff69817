//! How many nodes Redis' radix tree would have over the ids of a stream's nodes: a figure of XINFO
//! STREAM FULL, which nothing else here has to do with. Redis: rax.c.
//!
//! ```text
//! one node       for each id: where it ends
//!                for each place where ids part; the byte behind it is on the way down
//!                for the bytes between two of those, and before the first, if there are any
//! ```

use super::EntryId;

const ID_BYTES: usize = 16;

/// The nodes over these ids, which ascend.
pub(super) fn node_count(ids: impl Iterator<Item = EntryId>) -> usize {
    let bits = |id: EntryId| u128::from(id.ms) << 64 | u128::from(id.seq);
    let ids: Vec<u128> = ids.map(bits).collect();
    if ids.is_empty() {
        return 1;
    }
    let shared = |pair: &[u128]| (pair[0] ^ pair[1]).leading_zeros() as usize / 8;
    // A place where ids part takes one byte; what is between it and the next makes one node.
    let between = |from: Option<usize>, to: usize| {
        let bytes = to - from.map_or(0, |from| from + 1);
        usize::from(bytes > 0)
    };
    // How many bytes lead to each such place above the id at hand.
    let mut parting: Vec<usize> = Vec::new();
    let mut nodes = 0;
    for at in 0..ids.len() {
        let next = ids.get(at..at + 2).map(shared);
        let mut below = ID_BYTES;
        // What is deeper than the next parting is complete.
        while let Some(&depth) = parting.last()
            && next.is_none_or(|next| depth > next)
        {
            nodes += 1 + between(Some(depth), below);
            below = depth;
            parting.pop();
        }
        match next {
            None => nodes += 1 + between(None, below),
            Some(next) => {
                nodes += 1 + between(Some(next), below);
                if parting.last() != Some(&next) {
                    parting.push(next);
                }
            }
        }
    }
    nodes
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    /// The same from a tree that is gone down: of ids that share the first `depth` bytes.
    fn below(ids: &[[u8; ID_BYTES]], depth: usize) -> usize {
        let (Some(first), Some(last)) = (ids.first(), ids.last()) else {
            return 1;
        };
        if depth == ID_BYTES {
            return 1;
        }
        let shared = first.iter().zip(last).take_while(|(a, b)| a == b).count();
        if shared > depth {
            return 1 + below(ids, shared);
        }
        let branches = ids.chunk_by(|a, b| a[depth] == b[depth]);
        1 + branches.map(|ids| below(ids, depth + 1)).sum::<usize>()
    }

    #[test]
    fn nodes_are_counted_as_in_a_tree() {
        for seed in 0..200 {
            let mut rng = fastrand::Rng::with_seed(seed);
            let values = [1, 2, 5, 256, 70_000, u64::MAX][rng.usize(..6)];
            let count = rng.usize(..40);
            let id = |_| EntryId {
                ms: rng.u64(..values),
                seq: rng.u64(..3) << (8 * rng.u32(..8)),
            };
            let ids: BTreeSet<EntryId> = (0..count).map(id).collect();
            let bytes = |id: &EntryId| {
                let bits = u128::from(id.ms) << 64 | u128::from(id.seq);
                bits.to_be_bytes()
            };
            let model: Vec<_> = ids.iter().map(bytes).collect();
            assert_eq!(node_count(ids.into_iter()), below(&model, 0), "seed {seed}");
        }
    }
}
