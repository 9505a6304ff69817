//! One element of a listpack, and the entry it is stored as.
//!
//! ```text
//! entry:   0xxxxxxx                        integer 0..=127
//!          10llllll  bytes                 string of up to 63 bytes
//!          110xxxxx  x                     integer of 13 bits, two's complement
//!          1110llll  l  bytes              string of up to 4,095 bytes, length big-endian
//!          f1 | f2 | f3 | f4  x...         integer of 16, 24, 32, 64 bits, little-endian
//!          f0  l l l l  bytes              longer string, length little-endian
//! each followed by its own length in 1 to 5 groups of 7 bits, to be read backwards.
//! ```

use std::cmp::Ordering;

use crate::number::parse_i64;

/// The longest integer; what precedes a string is shorter.
pub(super) const HEAD_MAX_BYTES: usize = 9;
/// The longest back length.
pub(super) const BACK_MAX_BYTES: usize = 5;

/// One element.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Item<'a> {
    Int(i64),
    Str(&'a [u8]),
}

impl<'a> Item<'a> {
    /// What is stored for these bytes: an integer if they are the canonical text of one.
    pub fn of(bytes: &'a [u8]) -> Item<'a> {
        match parse_i64(bytes) {
            Some(n) => Item::Int(n),
            None => Item::Str(bytes),
        }
    }

    /// The element's bytes; integers are printed into `scratch`.
    pub fn bytes<'s>(self, scratch: &'s mut itoa::Buffer) -> &'s [u8]
    where
        'a: 's,
    {
        match self {
            Item::Int(n) => scratch.format(n).as_bytes(),
            Item::Str(bytes) => bytes,
        }
    }

    pub fn to_vec(self) -> Vec<u8> {
        self.bytes(&mut itoa::Buffer::new()).to_vec()
    }

    /// Number of bytes as text.
    pub fn len(self) -> usize {
        self.bytes(&mut itoa::Buffer::new()).len()
    }

    pub fn is_empty(self) -> bool {
        matches!(self, Item::Str([]))
    }

    pub fn int(self) -> Option<i64> {
        match self {
            Item::Int(n) => Some(n),
            Item::Str(_) => None,
        }
    }

    /// Orders two elements by their bytes.
    pub fn cmp_bytes(self, other: &[u8]) -> Ordering {
        self.bytes(&mut itoa::Buffer::new()).cmp(other)
    }

    /// Bytes of the entry without its back length.
    pub(super) fn encoded_len(self) -> usize {
        match self {
            Item::Int(n) => match n {
                0..=127 => 1,
                -4096..=4095 => 2,
                -0x8000..=0x7fff => 3,
                -0x80_0000..=0x7f_ffff => 4,
                -0x8000_0000..=0x7fff_ffff => 5,
                _ => 9,
            },
            Item::Str(bytes) => {
                bytes.len()
                    + match bytes.len() {
                        0..=63 => 1,
                        64..=4095 => 2,
                        _ => 5,
                    }
            }
        }
    }

    /// Bytes of the whole entry.
    pub fn entry_len(self) -> usize {
        let len = self.encoded_len();
        len + back_len(len)
    }

    /// Writes what precedes a string's bytes, or an integer; returns how many bytes that is.
    pub(super) fn write_head(self, out: &mut [u8]) -> usize {
        match self {
            Item::Int(n) => {
                write_int(n, out);
                self.encoded_len()
            }
            Item::Str(bytes) => {
                let len = bytes.len();
                match len {
                    0..=63 => {
                        out[0] = 0x80 | len as u8;
                        1
                    }
                    64..=4095 => {
                        out[0] = 0xe0 | (len >> 8) as u8;
                        out[1] = len as u8;
                        2
                    }
                    _ => {
                        out[0] = 0xf0;
                        out[1..5].copy_from_slice(&(len as u32).to_le_bytes());
                        5
                    }
                }
            }
        }
    }

    /// Writes the whole entry.
    pub(super) fn write(self, out: &mut [u8]) {
        let (head, len) = (self.write_head(out), self.encoded_len());
        if let Item::Str(bytes) = self {
            out[head..len].copy_from_slice(bytes);
        }
        write_back_len(len, &mut out[len..]);
    }
}

fn write_int(n: i64, out: &mut [u8]) {
    let bytes = n.to_le_bytes();
    match n {
        0..=127 => out[0] = n as u8,
        -4096..=4095 => {
            out[0] = 0xc0 | ((n >> 8) as u8 & 0x1f);
            out[1] = n as u8;
        }
        _ => {
            let (tag, width) = match n {
                -0x8000..=0x7fff => (0xf1, 2),
                -0x80_0000..=0x7f_ffff => (0xf2, 3),
                -0x8000_0000..=0x7fff_ffff => (0xf3, 4),
                _ => (0xf4, 8),
            };
            out[0] = tag;
            out[1..=width].copy_from_slice(&bytes[..width]);
        }
    }
}

/// Bytes that the back length of an entry takes. Redis: lpEncodeBacklen, whose limits these are.
pub(super) fn back_len(len: usize) -> usize {
    match len {
        0..=127 => 1,
        128..=16_382 => 2,
        16_383..=2_097_150 => 3,
        2_097_151..=268_435_454 => 4,
        _ => 5,
    }
}

pub(super) fn write_back_len(len: usize, out: &mut [u8]) {
    let groups = back_len(len);
    for (i, byte) in out[..groups].iter_mut().enumerate() {
        let group = (len >> (7 * (groups - 1 - i))) as u8 & 0x7f;
        *byte = if i == 0 { group } else { group | 0x80 };
    }
}

/// Bytes of the entry at the start of `bytes`, without its back length.
#[inline]
pub(in crate::value) fn encoded_len(bytes: &[u8]) -> usize {
    match bytes[0] {
        0..=0x7f => 1,
        tag @ 0x80..=0xbf => 1 + usize::from(tag & 0x3f),
        0xc0..=0xdf => 2,
        tag @ 0xe0..=0xef => 2 + (usize::from(tag & 0xf) << 8 | usize::from(bytes[1])),
        0xf1 => 3,
        0xf2 => 4,
        0xf3 => 5,
        0xf4 => 9,
        0xf0 => 5 + u32::from_le_bytes([bytes[1], bytes[2], bytes[3], bytes[4]]) as usize,
        _ => 1,
    }
}

/// The same for bytes from outside; `None` if they end before the entry does.
pub(super) fn checked_len(bytes: &[u8]) -> Option<usize> {
    let needed = match *bytes.first()? {
        0xe0..=0xef => 2,
        0xf0 => 5,
        0xf5..=0xff => return None,
        _ => 1,
    };
    bytes.get(..needed)?;
    let len = encoded_len(bytes);
    (len <= bytes.len()).then_some(len)
}

/// The integer that an encoded element is; 0 for a string.
pub(in crate::value) fn int_at(encoded: &[u8]) -> i64 {
    decode(encoded).int().unwrap_or(0)
}

/// The element at the start of `bytes`, and how many bytes its entry takes with its back length.
#[inline]
pub(super) fn entry(bytes: &[u8]) -> (Item<'_>, usize) {
    match *bytes {
        // Strings up to 4,095 bytes tell both at once.
        [tag @ 0x80..=0xbf, ref rest @ ..] => {
            let len = usize::from(tag & 0x3f);
            (Item::Str(&rest[..len]), len + 2)
        }
        [tag @ 0xe0..=0xef, low, ref rest @ ..] => {
            let len = usize::from(tag & 0xf) << 8 | usize::from(low);
            (Item::Str(&rest[..len]), len + 2 + back_len(len + 2))
        }
        _ => {
            let len = encoded_len(bytes);
            (decode(bytes), len + back_len(len))
        }
    }
}

#[inline]
pub(super) fn decode(bytes: &[u8]) -> Item<'_> {
    let int = |width: usize| {
        let mut wide = [0; 8];
        wide[8 - width..].copy_from_slice(&bytes[1..=width]);
        Item::Int(i64::from_le_bytes(wide) >> (64 - 8 * width))
    };
    match bytes[0] {
        n @ 0..=0x7f => Item::Int(i64::from(n)),
        tag @ 0x80..=0xbf => Item::Str(&bytes[1..1 + usize::from(tag & 0x3f)]),
        tag @ 0xc0..=0xdf => {
            let raw = i64::from(tag & 0x1f) << 8 | i64::from(bytes[1]);
            Item::Int(raw << 51 >> 51)
        }
        0xf1 => int(2),
        0xf2 => int(3),
        0xf3 => int(4),
        0xf4 => int(8),
        tag => {
            let start = if tag == 0xf0 { 5 } else { 2 };
            Item::Str(&bytes[start..encoded_len(bytes)])
        }
    }
}
