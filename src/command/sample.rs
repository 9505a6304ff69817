//! Fair samples.

use std::collections::HashSet;

use crate::resp::{CmdError, CmdResult, Writer};

/// Refuses to repeat elements of a collection without end: beyond this no client can take the reply,
/// and the server would write it until its memory ends, as Redis does.
pub fn check_repeats(count: i64) -> CmdResult {
    const REPEATS_MAX: i64 = 1 << 31;
    match count < -REPEATS_MAX {
        true => Err(CmdError::OutOfRange),
        false => Ok(()),
    }
}

/// Writes so many elements, or as many as the client may be sent.
pub fn repeat(
    count: usize,
    out: &mut Writer,
    mut write: impl FnMut(&mut Writer) -> CmdResult,
) -> CmdResult {
    for _ in 0..count {
        if out.is_full() {
            break;
        }
        write(out)?;
    }
    Ok(())
}

/// `count` different indices below `len`, every choice equally likely; all of them, in order, if
/// `count` is no less.
pub fn distinct(len: usize, count: usize, rng: &mut fastrand::Rng) -> Vec<usize> {
    /// Choosing and rejecting is cheaper than a shuffle while at most a third is wanted.
    const SPARSE: usize = 3;
    if count >= len {
        return (0..len).collect();
    }
    if count.saturating_mul(SPARSE) > len {
        let mut all: Vec<usize> = (0..len).collect();
        for i in 0..count {
            all.swap(i, rng.usize(i..len));
        }
        all.truncate(count);
        return all;
    }
    let mut seen = HashSet::with_capacity(count);
    let mut chosen = Vec::with_capacity(count);
    while chosen.len() < count {
        let at = rng.usize(..len);
        if seen.insert(at) {
            chosen.push(at);
        }
    }
    chosen
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_index_is_as_likely() {
        for count in [1, 5, 9] {
            let mut rng = fastrand::Rng::with_seed(count as u64);
            let mut hits = [0usize; 20];
            for _ in 0..20_000 {
                let chosen = distinct(20, count, &mut rng);
                assert_eq!(chosen.iter().collect::<HashSet<_>>().len(), count);
                chosen.into_iter().for_each(|at| hits[at] += 1);
            }
            let expected = 1000 * count;
            assert!(
                hits.iter().all(|&n| n.abs_diff(expected) < expected / 5),
                "{hits:?}"
            );
        }
        assert_eq!(distinct(3, 9, &mut fastrand::Rng::with_seed(0)), [0, 1, 2]);
    }
}
