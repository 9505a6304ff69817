//! The bytes of one entry: key, expiry and short value in one slot.
//!
//! ```text
//! 0       meta: bits 0-1 encoding, bit 2 has an expiry, bit 3 edited, bit 4 the key is outside,
//!         bit 5 the mark of the last cut that streamed it
//! 1..4    access clock: LRU seconds or LFU minutes and counter, little-endian
//! 4       key length; 255: a u32 follows
//! ...     [expire_at i64, wheel node u32]      if it has an expiry
//! ...     key                                  unless it is outside
//! ...     Int: i64 | Text: length u16, bytes | Object: index u32
//! ```
//! All numbers are little-endian. A key too long for a slot stands in the entry's object.

use std::ops::Range;

/// How the value is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encoding {
    Int = 0,
    Text = 1,
    Object = 2,
}

const HAS_EXPIRY: u8 = 1 << 2;
const EDITED: u8 = 1 << 3;
const KEY_OUTSIDE: u8 = 1 << 4;
/// The mark of cuts: see [`super::cut`].
pub const MARK: u8 = 1 << 5;
const KEY_LEN_AT: usize = 4;
const LONG_KEY: u8 = 255;
const EXPIRY_BYTES: usize = 12;

/// Where the parts of an entry stand.
#[derive(Clone, Copy, Debug)]
pub struct Layout {
    pub encoding: Encoding,
    pub has_expiry: bool,
    /// The string was changed in place, which OBJECT ENCODING shows as `raw`.
    pub edited: bool,
    pub key_outside: bool,
    expiry_at: usize,
    key_len: usize,
}

/// What an entry is built from.
#[derive(Clone, Copy, Debug)]
pub struct Shape<'a> {
    /// `None`: the key stands in the object.
    pub key: Option<&'a [u8]>,
    pub payload: Payload<'a>,
    pub has_expiry: bool,
    pub edited: bool,
}

#[derive(Clone, Copy, Debug)]
pub enum Payload<'a> {
    Int(i64),
    Text(&'a [u8]),
    /// So many zero bytes of text.
    Zeros(usize),
    Object(u32),
}

impl Payload<'_> {
    fn bytes(&self) -> usize {
        match self {
            Payload::Int(_) => 8,
            Payload::Text(text) => 2 + text.len(),
            Payload::Zeros(len) => 2 + len,
            Payload::Object(_) => 4,
        }
    }
}

impl Shape<'_> {
    /// Bytes the entry takes.
    pub fn bytes(&self) -> usize {
        let key = self
            .key
            .map_or(0, |key| key.len() + if key.len() < 255 { 0 } else { 4 });
        let expiry = if self.has_expiry { EXPIRY_BYTES } else { 0 };
        KEY_LEN_AT + 1 + expiry + key + self.payload.bytes()
    }

    /// Writes the entry; expiry fields are left for [`Layout::set_expiry`].
    pub fn write(&self, slot: &mut [u8], clock: u32, mark: u8) {
        let encoding = match self.payload {
            Payload::Int(_) => Encoding::Int,
            Payload::Text(_) | Payload::Zeros(_) => Encoding::Text,
            Payload::Object(_) => Encoding::Object,
        };
        slot[0] = encoding as u8
            | if self.has_expiry { HAS_EXPIRY } else { 0 }
            | if self.edited { EDITED } else { 0 }
            | if self.key.is_none() { KEY_OUTSIDE } else { 0 }
            | mark;
        set_clock(slot, clock);
        let key = self.key.unwrap_or_default();
        let mut at = KEY_LEN_AT + 1;
        if key.len() < usize::from(LONG_KEY) {
            slot[KEY_LEN_AT] = key.len() as u8;
        } else {
            slot[KEY_LEN_AT] = LONG_KEY;
            slot[at..at + 4].copy_from_slice(&(key.len() as u32).to_le_bytes());
            at += 4;
        }
        if self.has_expiry {
            at += EXPIRY_BYTES;
        }
        slot[at..at + key.len()].copy_from_slice(key);
        write_payload(&mut slot[at + key.len()..], self.payload);
    }
}

fn write_payload(slot: &mut [u8], payload: Payload) {
    match payload {
        Payload::Int(n) => slot[..8].copy_from_slice(&n.to_le_bytes()),
        Payload::Text(text) => {
            slot[..2].copy_from_slice(&(text.len() as u16).to_le_bytes());
            slot[2..2 + text.len()].copy_from_slice(text);
        }
        Payload::Zeros(len) => {
            slot[..2].copy_from_slice(&(len as u16).to_le_bytes());
            slot[2..2 + len].fill(0);
        }
        Payload::Object(index) => slot[..4].copy_from_slice(&index.to_le_bytes()),
    }
}

/// So many bytes of an entry, as one read.
#[inline]
fn array<const N: usize>(slot: &[u8], at: usize) -> [u8; N] {
    let mut bytes = [0; N];
    bytes.copy_from_slice(&slot[at..at + N]);
    bytes
}

/// Reads the fixed part of an entry.
#[inline]
pub fn layout(slot: &[u8]) -> Layout {
    let meta = slot[0];
    let (key_len, expiry_at) = match slot[KEY_LEN_AT] {
        LONG_KEY => {
            let len = u32::from_le_bytes(array(slot, KEY_LEN_AT + 1));
            (len as usize, KEY_LEN_AT + 5)
        }
        len => (usize::from(len), KEY_LEN_AT + 1),
    };
    Layout {
        encoding: match meta & 3 {
            0 => Encoding::Int,
            1 => Encoding::Text,
            _ => Encoding::Object,
        },
        has_expiry: meta & HAS_EXPIRY != 0,
        edited: meta & EDITED != 0,
        key_outside: meta & KEY_OUTSIDE != 0,
        expiry_at,
        key_len,
    }
}

impl Layout {
    #[inline]
    fn key_at(&self) -> usize {
        self.expiry_at + if self.has_expiry { EXPIRY_BYTES } else { 0 }
    }

    #[inline]
    pub fn key(&self) -> Range<usize> {
        self.key_at()..self.key_at() + self.key_len
    }

    #[inline]
    fn payload_at(&self) -> usize {
        self.key_at() + self.key_len
    }

    #[inline]
    pub fn int(&self, slot: &[u8]) -> i64 {
        i64::from_le_bytes(array(slot, self.payload_at()))
    }

    pub fn set_int(&self, slot: &mut [u8], n: i64) {
        write_payload(&mut slot[self.payload_at()..], Payload::Int(n));
    }

    #[inline]
    pub fn text(&self, slot: &[u8]) -> Range<usize> {
        let at = self.payload_at();
        let len = u16::from_le_bytes(array(slot, at));
        at + 2..at + 2 + usize::from(len)
    }

    #[inline]
    pub fn object(&self, slot: &[u8]) -> u32 {
        u32::from_le_bytes(array(slot, self.payload_at()))
    }

    /// Deadline (unix milliseconds) and wheel node of an entry that has an expiry.
    pub fn expiry(&self, slot: &[u8]) -> (i64, u32) {
        debug_assert!(self.has_expiry);
        let deadline = i64::from_le_bytes(array(slot, self.expiry_at));
        (
            deadline,
            u32::from_le_bytes(array(slot, self.expiry_at + 8)),
        )
    }

    pub fn set_expiry(&self, slot: &mut [u8], deadline_ms: i64, node: u32) {
        debug_assert!(self.has_expiry);
        slot[self.expiry_at..self.expiry_at + 8].copy_from_slice(&deadline_ms.to_le_bytes());
        slot[self.expiry_at + 8..self.expiry_at + 12].copy_from_slice(&node.to_le_bytes());
    }
}

/// Grows the text of an entry in place, new bytes being zero, and marks it edited. The slot must
/// have room.
pub fn grow_text(slot: &mut [u8], len: usize) {
    let layout = layout(slot);
    let text = layout.text(slot);
    slot[text.end..text.start + len].fill(0);
    slot[text.start - 2..text.start].copy_from_slice(&(len as u16).to_le_bytes());
    slot[0] |= EDITED;
}

pub fn mark(slot: &[u8]) -> u8 {
    slot[0] & MARK
}

pub fn set_mark(slot: &mut [u8], mark: u8) {
    slot[0] = slot[0] & !MARK | mark;
}

#[inline]
pub fn clock(slot: &[u8]) -> u32 {
    u32::from_le_bytes([slot[1], slot[2], slot[3], 0])
}

#[inline]
pub fn set_clock(slot: &mut [u8], clock: u32) {
    slot[1..4].copy_from_slice(&clock.to_le_bytes()[..3]);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_read_back_as_written() {
        for key_len in [0, 1, 16, 254, 255, 300] {
            for has_expiry in [false, true] {
                let key = vec![b'k'; key_len];
                let shape = Shape {
                    key: Some(&key),
                    payload: Payload::Text(b"value"),
                    has_expiry,
                    edited: false,
                };
                let mut slot = vec![0xee; shape.bytes() + 3];
                shape.write(&mut slot, 0x12_3456, MARK);
                let found = layout(&slot);
                assert_eq!(&slot[found.key()], &key);
                assert_eq!(&slot[found.text(&slot)], b"value");
                assert_eq!((clock(&slot), mark(&slot)), (0x12_3456, MARK));
                if has_expiry {
                    found.set_expiry(&mut slot, -5, 77);
                    assert_eq!(found.expiry(&slot), (-5, 77));
                    assert_eq!(&slot[found.key()], &key);
                }
                assert_eq!(
                    &slot[shape.bytes()..],
                    [0xee; 3],
                    "nothing is written beyond"
                );
                grow_text(&mut slot, 8);
                assert!(layout(&slot).edited);
                assert_eq!(&slot[found.text(&slot)], b"value\0\0\0");
            }
        }
    }

    #[test]
    fn a_small_pair_takes_88_bytes() {
        let shape = Shape {
            key: Some(&[0; 16]),
            payload: Payload::Text(&[0; 64]),
            has_expiry: false,
            edited: false,
        };
        assert!(shape.bytes() <= 88, "{}", shape.bytes());
    }
}
