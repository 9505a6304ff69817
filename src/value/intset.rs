//! Sorted integers of one width. Byte for byte Redis' format (intset.c).
//!
//! ```text
//! width in bytes u32 (2, 4 or 8) | count u32 | integers, ascending         all little-endian
//! ```

const HEADER: usize = 8;

/// A set of integers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Intset {
    bytes: Vec<u8>,
}

impl Default for Intset {
    fn default() -> Intset {
        Intset {
            bytes: vec![2, 0, 0, 0, 0, 0, 0, 0],
        }
    }
}

fn width_of(n: i64) -> usize {
    if i16::try_from(n).is_ok() {
        2
    } else if i32::try_from(n).is_ok() {
        4
    } else {
        8
    }
}

impl Intset {
    /// An intset of bytes from outside; `None` if they are not one in every detail.
    pub fn from_bytes_checked(bytes: Vec<u8>) -> Option<Intset> {
        let header = bytes.get(..HEADER)?;
        let width = u32::from_le_bytes([header[0], header[1], header[2], header[3]]) as usize;
        let count = u32::from_le_bytes([header[4], header[5], header[6], header[7]]) as usize;
        let set = Intset { bytes };
        let fits = matches!(width, 2 | 4 | 8)
            && count > 0
            && count.checked_mul(width) == Some(set.bytes.len() - HEADER);
        let ascending = fits && (1..count).all(|i| set.get(i - 1) < set.get(i));
        ascending.then_some(set)
    }

    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    pub fn memory_bytes(&self) -> usize {
        self.bytes.capacity()
    }

    fn width(&self) -> usize {
        usize::from(self.bytes[0])
    }

    pub fn len(&self) -> usize {
        let count = [self.bytes[4], self.bytes[5], self.bytes[6], self.bytes[7]];
        u32::from_le_bytes(count) as usize
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The integer at an index below [`Intset::len`].
    pub fn get(&self, index: usize) -> i64 {
        let width = self.width();
        let at = HEADER + index * width;
        let mut wide = [0; 8];
        wide[8 - width..].copy_from_slice(&self.bytes[at..at + width]);
        i64::from_le_bytes(wide) >> (64 - 8 * width)
    }

    pub fn iter(&self) -> impl ExactSizeIterator<Item = i64> {
        (0..self.len()).map(|i| self.get(i))
    }

    /// Where an integer is, or where it would go.
    fn search(&self, n: i64) -> Result<usize, usize> {
        let (mut low, mut high) = (0, self.len());
        while low < high {
            let middle = low + (high - low) / 2;
            match self.get(middle).cmp(&n) {
                std::cmp::Ordering::Equal => return Ok(middle),
                std::cmp::Ordering::Less => low = middle + 1,
                std::cmp::Ordering::Greater => high = middle,
            }
        }
        Err(low)
    }

    pub fn contains(&self, n: i64) -> bool {
        self.search(n).is_ok()
    }

    /// Returns whether the integer is new.
    pub fn insert(&mut self, n: i64) -> bool {
        let Err(index) = self.search(n) else {
            return false;
        };
        if width_of(n) > self.width() {
            self.widen(width_of(n));
        }
        let width = self.width();
        let at = HEADER + index * width;
        let old = self.bytes.len();
        if old + width > self.bytes.capacity() {
            self.bytes.reserve_exact(width + old / 8);
        }
        self.bytes.resize(old + width, 0);
        self.bytes.copy_within(at..old, at + width);
        self.bytes[at..at + width].copy_from_slice(&n.to_le_bytes()[..width]);
        self.set_len(self.len() + 1);
        true
    }

    fn widen(&mut self, width: usize) {
        let mut wider = Vec::with_capacity(HEADER + (self.len() + 1) * width);
        wider.extend_from_slice(&(width as u32).to_le_bytes());
        wider.extend_from_slice(&self.bytes[4..HEADER]);
        for n in self.iter() {
            wider.extend_from_slice(&n.to_le_bytes()[..width]);
        }
        self.bytes = wider;
    }

    /// Returns whether the integer was there. The width stays, as in Redis.
    pub fn remove(&mut self, n: i64) -> bool {
        let Ok(index) = self.search(n) else {
            return false;
        };
        let width = self.width();
        let at = HEADER + index * width;
        self.bytes.drain(at..at + width);
        self.set_len(self.len() - 1);
        true
    }

    fn set_len(&mut self, len: usize) {
        self.bytes[4..HEADER].copy_from_slice(&(len as u32).to_le_bytes());
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn integers_stay_sorted_at_every_width() {
        for bits in [10, 20, 60] {
            let mut rng = fastrand::Rng::with_seed(bits);
            let (mut set, mut model) = (Intset::default(), BTreeSet::new());
            for _ in 0..2000 {
                let n = rng.i64(-(1 << bits)..1 << bits) >> (rng.u64(..bits));
                if rng.u8(..3) > 0 {
                    assert_eq!(set.insert(n), model.insert(n));
                } else {
                    assert_eq!(set.remove(n), model.remove(&n));
                }
                assert_eq!(set.contains(n), model.contains(&n));
            }
            assert!(set.iter().eq(model), "{bits} bits");
            let copy = Intset::from_bytes_checked(set.as_bytes().to_vec());
            assert_eq!(copy, Some(set));
        }
    }

    #[test]
    fn bytes_are_those_of_redis() {
        // Captured: DUMP of a set made by SADD s 1 -2 70000.
        let mut set = Intset::default();
        for n in [1, -2, 70000] {
            set.insert(n);
        }
        let expected = [
            4, 0, 0, 0, 3, 0, 0, 0, 0xfe, 0xff, 0xff, 0xff, 1, 0, 0, 0, 0x70, 0x11, 1, 0,
        ];
        assert_eq!(set.as_bytes(), expected);
    }

    #[test]
    fn damaged_bytes_are_refused() {
        for bytes in [
            &[2, 0, 0, 0][..],
            &[3, 0, 0, 0, 0, 0, 0, 0],
            &[2, 0, 0, 0, 1, 0, 0, 0],
        ] {
            assert_eq!(Intset::from_bytes_checked(bytes.to_vec()), None);
        }
        let unsorted = vec![2, 0, 0, 0, 2, 0, 0, 0, 5, 0, 4, 0];
        assert_eq!(Intset::from_bytes_checked(unsorted), None);
    }
}
