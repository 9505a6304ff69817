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

/// The checksum of what `crc` stands for, followed by `bytes`. Begins with 0.
pub fn update(mut crc: u64, bytes: &[u8]) -> u64 {
    let mut groups = bytes.chunks_exact(8);
    for group in &mut groups {
        let mut eight = [0; 8];
        eight.copy_from_slice(group);
        let mixed = (crc ^ u64::from_le_bytes(eight)).to_le_bytes();
        crc = 0;
        for (k, byte) in mixed.into_iter().enumerate() {
            crc ^= TABLES[7 - k][usize::from(byte)];
        }
    }
    for &byte in groups.remainder() {
        crc = TABLES[0][usize::from(byte ^ crc.to_le_bytes()[0])] ^ (crc >> 8);
    }
    crc
}

/// The checksum of two runs of bytes, the second of which is `second_bytes` long: shards sum up
/// what they write, and who merges their streams reads nothing twice.
pub fn combine(first: u64, second: u64, second_bytes: u64) -> u64 {
    // Eight zero bits per byte shift the first run along: multiply by x^(8n).
    let mut shift = ONE;
    let mut power = ONE >> 8;
    let mut left = second_bytes;
    while left > 0 {
        if left & 1 == 1 {
            shift = multiply(shift, power);
        }
        power = multiply(power, power);
        left >>= 1;
    }
    multiply(first, shift) ^ second
}

fn multiply(a: u64, mut b: u64) -> u64 {
    let mut product = 0;
    for bit in (0..64).rev() {
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
        for len in 0..100 {
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
