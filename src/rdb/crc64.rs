//! CRC-64 as Redis computes it: the Jones polynomial, reflected, starting from and ending with
//! nothing added (Redis: crc64.c).
//!
//! It is not CRC-64/XZ, which crates called crc64 compute.

/// 0xad93d23594c935a9 with its bits reversed.
const POLYNOMIAL: u64 = 0x95ac_9329_ac4b_c9b5;

/// The reflected polynomial "1".
const ONE: u64 = 1 << 63;

/// `TABLES[k][b]` is what byte `b` adds when `k` more bytes follow it in a group of eight.
static TABLES: [[u64; 256]; 8] = tables();

const fn tables() -> [[u64; 256]; 8] {
    let mut tables = [[0; 256]; 8];
    let mut byte = 0;
    while byte < 256 {
        let mut crc = byte as u64;
        let mut bit = 0;
        while bit < 8 {
            crc = times_x(crc);
            bit += 1;
        }
        tables[0][byte] = crc;
        byte += 1;
    }
    let mut k = 1;
    while k < 8 {
        byte = 0;
        while byte < 256 {
            let before = tables[k - 1][byte];
            tables[k][byte] = tables[0][(before & 0xff) as usize] ^ (before >> 8);
            byte += 1;
        }
        k += 1;
    }
    tables
}

const fn times_x(polynomial: u64) -> u64 {
    let carry = polynomial & 1;
    (polynomial >> 1) ^ (POLYNOMIAL * carry)
}

/// Runs of this length, three at a time, are summed up side by side.
const LANE: usize = 4096;
/// What moves a checksum over so many bytes behind it.
const OVER_LANE: u64 = shift_over(LANE as u64);

/// The checksum of what `crc` stands for, followed by `bytes`. Begins with 0.
pub fn update(mut crc: u64, bytes: &[u8]) -> u64 {
    // One sum after another waits for its own last step most of the time: three at once take
    // half as long.
    let mut blocks = bytes.chunks_exact(3 * LANE);
    for block in &mut blocks {
        let (first, rest) = block.split_at(LANE);
        let (second, third) = rest.split_at(LANE);
        let (mut b, mut c) = (0, 0);
        let lanes = first.chunks_exact(8).zip(second.chunks_exact(8));
        for ((first, second), third) in lanes.zip(third.chunks_exact(8)) {
            crc = eight(crc, first);
            b = eight(b, second);
            c = eight(c, third);
        }
        crc = multiply(crc, OVER_LANE) ^ b;
        crc = multiply(crc, OVER_LANE) ^ c;
    }
    let mut groups = blocks.remainder().chunks_exact(8);
    for group in &mut groups {
        crc = eight(crc, group);
    }
    for &byte in groups.remainder() {
        crc = TABLES[0][usize::from(byte ^ crc.to_le_bytes()[0])] ^ (crc >> 8);
    }
    crc
}

/// Eight bytes more.
#[inline]
fn eight(crc: u64, group: &[u8]) -> u64 {
    let mut bytes = [0; 8];
    bytes.copy_from_slice(group);
    let mixed = (crc ^ u64::from_le_bytes(bytes)).to_le_bytes();
    let of = |k: usize| TABLES[7 - k][usize::from(mixed[k])];
    (of(0) ^ of(1)) ^ (of(2) ^ of(3)) ^ ((of(4) ^ of(5)) ^ (of(6) ^ of(7)))
}

/// The checksum of two runs of bytes, the second of which is `second_bytes` long: shards sum up
/// what they write, and who merges their streams reads nothing twice.
pub fn combine(first: u64, second: u64, second_bytes: u64) -> u64 {
    multiply(first, shift_over(second_bytes)) ^ second
}

/// Eight zero bits per byte shift what comes before them along: multiply by x^(8n).
const fn shift_over(bytes: u64) -> u64 {
    let mut shift = ONE;
    let mut power = ONE >> 8;
    let mut left = bytes;
    while left > 0 {
        if left & 1 == 1 {
            shift = multiply(shift, power);
        }
        power = multiply(power, power);
        left >>= 1;
    }
    shift
}

const fn multiply(a: u64, mut b: u64) -> u64 {
    let mut product = 0;
    let mut bit = 64;
    while bit > 0 {
        bit -= 1;
        product ^= b * (a >> bit & 1);
        b = times_x(b);
    }
    product
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytewise(bytes: &[u8]) -> u64 {
        bytes.iter().fold(0, |crc, &byte| {
            let mut crc = crc ^ u64::from(byte);
            for _ in 0..8 {
                crc = times_x(crc);
            }
            crc
        })
    }

    #[test]
    fn check_values_are_those_of_redis() {
        // Redis: crc64Test.
        assert_eq!(update(0, b"123456789"), 0xe9c6_d914_c4b8_d9ca);
        let lorem = "Lorem ipsum dolor sit amet, consectetur adipiscing elit, sed do eiusmod tempor \
            incididunt ut labore et dolore magna aliqua. Ut enim ad minim veniam, quis nostrud \
            exercitation ullamco laboris nisi ut aliquip ex ea commodo consequat. Duis aute irure \
            dolor in reprehenderit in voluptate velit esse cillum dolore eu fugiat nulla pariatur. \
            Excepteur sint occaecat cupidatat non proident, sunt in culpa qui officia deserunt \
            mollit anim id est laborum.\0";
        assert_eq!(update(0, lorem.as_bytes()), 0xc779_4709_e696_83b3);
        assert_eq!(update(0, b""), 0);
    }

    #[test]
    fn groups_and_pieces_agree_with_single_bytes() {
        let mut random = fastrand::Rng::with_seed(64);
        let long = [3 * LANE - 1, 3 * LANE, 3 * LANE + 9, 7 * LANE];
        for len in (0..100).chain(long) {
            let bytes: Vec<u8> = (0..len).map(|_| random.u8(..)).collect();
            let whole = bytewise(&bytes);
            assert_eq!(update(0, &bytes), whole);
            let (left, right) = bytes.split_at(random.usize(..=len));
            assert_eq!(update(update(0, left), right), whole);
            let (first, second) = (update(0, left), update(0, right));
            assert_eq!(combine(first, second, right.len() as u64), whole);
        }
    }
}
