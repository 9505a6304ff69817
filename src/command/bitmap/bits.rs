//! Counting, searching and slicing bits; bit 0 is the highest of byte 0.

/// Set bits from `start` to `end`, both included and within `bytes`.
pub fn count(bytes: &[u8], start: u64, end: u64) -> u64 {
    let (first, last) = ((start >> 3) as usize, (end >> 3) as usize);
    let head = 0xffu8 >> (start & 7);
    let tail = !0u8 << (7 - (end & 7));
    if first == last {
        return u64::from((bytes[first] & head & tail).count_ones());
    }
    let edges = (bytes[first] & head).count_ones() + (bytes[last] & tail).count_ones();
    u64::from(edges) + ones(&bytes[first + 1..last])
}

fn ones(bytes: &[u8]) -> u64 {
    let (words, rest) = bytes.as_chunks::<8>();
    let whole: u64 = words
        .iter()
        .map(|word| u64::from(u64::from_le_bytes(*word).count_ones()))
        .sum();
    whole
        + rest
            .iter()
            .map(|byte| u64::from(byte.count_ones()))
            .sum::<u64>()
}

/// The first bit from `start` to `end` that is `wanted`.
pub fn position(bytes: &[u8], wanted: bool, start: u64, end: u64) -> Option<u64> {
    let skip = if wanted { 0u8 } else { 0xff };
    let mut at = start;
    while at <= end {
        let byte = (at >> 3) as usize;
        if at & 7 == 0 && bytes[byte] == skip {
            // Whole words of the other bit are passed over.
            let (words, _) = bytes[byte..].as_chunks::<8>();
            let equal = words.iter().take_while(|word| **word == [skip; 8]).count();
            at += if equal > 0 { equal as u64 * 64 } else { 8 };
            continue;
        }
        let differing = (bytes[byte] ^ skip) & (0xff >> (at & 7));
        if differing == 0 {
            at = (byte as u64 + 1) * 8;
            continue;
        }
        let found = byte as u64 * 8 + u64::from(differing.leading_zeros());
        return (found <= end).then_some(found);
    }
    None
}

/// The unsigned integer of `width` bits (at most 64) at `offset`; what is beyond the end is zero.
pub fn read(bytes: &[u8], offset: u64, width: u32) -> u64 {
    (offset..offset + u64::from(width)).fold(0, |value, at| {
        let byte = bytes.get((at >> 3) as usize).copied().unwrap_or(0);
        value << 1 | u64::from(byte >> (7 - (at & 7)) & 1)
    })
}

/// Writes the low `width` bits of `value` at `offset`, which must be within `bytes`.
pub fn write(bytes: &mut [u8], offset: u64, width: u32, value: u64) {
    for i in 0..u64::from(width) {
        let bit = (value >> (u64::from(width) - 1 - i) & 1) as u8;
        let at = offset + i;
        let (byte, shift) = ((at >> 3) as usize, 7 - (at & 7));
        bytes[byte] = bytes[byte] & !(1 << shift) | bit << shift;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_and_bits_agree() {
        let seed = 21;
        let mut rng = fastrand::Rng::with_seed(seed);
        for round in 0..3000 {
            let mut bytes = vec![if rng.bool() { 0 } else { 0xff }; rng.usize(1..60)];
            for _ in 0..rng.usize(..3) {
                let at = rng.usize(..bytes.len());
                bytes[at] = rng.u8(..);
            }
            let total = bytes.len() as u64 * 8;
            let start = rng.u64(..total);
            let end = rng.u64(start..total);
            let bit = |at: u64| read(&bytes, at, 1) == 1;
            let naive = (start..=end).filter(|&at| bit(at)).count() as u64;
            assert_eq!(
                count(&bytes, start, end),
                naive,
                "seed {seed} round {round}"
            );
            for wanted in [false, true] {
                let naive = (start..=end).find(|&at| bit(at) == wanted);
                assert_eq!(
                    position(&bytes, wanted, start, end),
                    naive,
                    "seed {seed} round {round}"
                );
            }
        }
    }

    #[test]
    fn fields_read_back() {
        let mut bytes = vec![0u8; 16];
        write(&mut bytes, 5, 13, 0x1abc);
        assert_eq!(read(&bytes, 5, 13), 0x1abc);
        assert_eq!(read(&bytes, 0, 5), 0);
        assert_eq!(read(&bytes, 120, 64), 0, "beyond the end");
        write(&mut bytes, 64, 64, u64::MAX);
        assert_eq!(read(&bytes, 64, 64), u64::MAX);
    }
}
