//! Listpack: short strings and integers in one run of bytes. Byte for byte Redis' format, so that
//! snapshots and DUMP copy it (Redis: listpack.c, listpack.md).
//!
//! ```text
//! total bytes u32 | elements u16 (65535: count them) | entry ... | 0xff
//!
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

const HEADER: usize = 6;
const END: u8 = 0xff;
/// The longest integer; what precedes a string is shorter.
const HEAD_MAX_BYTES: usize = 9;
const BACK_MAX_BYTES: usize = 5;
/// The element count says "unknown" from here on.
const COUNT_UNKNOWN: u16 = u16::MAX;

/// Where an entry begins; valid until the listpack changes before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Pos(usize);

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
    fn encoded_len(self) -> usize {
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
    fn write_head(self, out: &mut [u8]) -> usize {
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
    fn write(self, out: &mut [u8]) {
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
fn back_len(len: usize) -> usize {
    match len {
        0..=127 => 1,
        128..=16_382 => 2,
        16_383..=2_097_150 => 3,
        2_097_151..=268_435_454 => 4,
        _ => 5,
    }
}

fn write_back_len(len: usize, out: &mut [u8]) {
    let groups = back_len(len);
    for (i, byte) in out[..groups].iter_mut().enumerate() {
        let group = (len >> (7 * (groups - 1 - i))) as u8 & 0x7f;
        *byte = if i == 0 { group } else { group | 0x80 };
    }
}

/// Puts a listpack together from elements that are encoded already.
#[derive(Debug)]
pub(super) struct Builder {
    bytes: Vec<u8>,
    count: usize,
}

impl Builder {
    pub fn with_capacity(bytes: usize) -> Builder {
        let mut pack = Vec::with_capacity(bytes);
        pack.extend_from_slice(&[0; HEADER]);
        Builder {
            bytes: pack,
            count: 0,
        }
    }

    pub fn push(&mut self, encoded: &[u8]) {
        self.bytes.extend_from_slice(encoded);
        let mut back = [0; BACK_MAX_BYTES];
        write_back_len(encoded.len(), &mut back);
        self.bytes
            .extend_from_slice(&back[..back_len(encoded.len())]);
        self.count += 1;
    }

    /// Room for so many elements of so many bytes in all, their back lengths among these.
    pub fn extend(&mut self, elements: usize, bytes: usize) -> &mut [u8] {
        let from = self.bytes.len();
        self.bytes.resize(from + bytes, 0);
        self.count += elements;
        &mut self.bytes[from..]
    }

    pub fn finish(mut self) -> Listpack {
        self.bytes.push(END);
        let bytes = self.bytes.len() as u32;
        let count = u16::try_from(self.count).unwrap_or(COUNT_UNKNOWN);
        self.bytes[..4].copy_from_slice(&bytes.to_le_bytes());
        self.bytes[4..HEADER].copy_from_slice(&count.to_le_bytes());
        Listpack { bytes: self.bytes }
    }
}

/// A listpack.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listpack {
    bytes: Vec<u8>,
}

impl Default for Listpack {
    fn default() -> Listpack {
        Listpack::new()
    }
}

impl Listpack {
    /// Size of one without elements.
    pub const EMPTY_BYTES: usize = HEADER + 1;

    pub fn new() -> Listpack {
        Listpack::with_capacity(Self::EMPTY_BYTES)
    }

    pub fn with_capacity(bytes: usize) -> Listpack {
        let mut pack = Vec::with_capacity(bytes.max(HEADER + 1));
        pack.extend_from_slice(&[7, 0, 0, 0, 0, 0, END]);
        Listpack { bytes: pack }
    }

    /// A listpack of bytes from outside; `None` if they are not one in every detail.
    pub fn from_bytes_checked(bytes: Vec<u8>) -> Option<Listpack> {
        check(&bytes)?;
        Some(Listpack { bytes })
    }

    /// A listpack of bytes that one consisted of.
    pub(super) fn from_own_bytes(bytes: Vec<u8>) -> Listpack {
        debug_assert!(check(&bytes).is_some());
        Listpack { bytes }
    }

    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Size in bytes.
    pub fn bytes(&self) -> usize {
        self.bytes.len()
    }

    /// Bytes allocated.
    pub fn memory_bytes(&self) -> usize {
        self.bytes.capacity()
    }

    /// Gives back what was allocated to grow into. By a copy: an allocator asked to shrink a block
    /// leaves it where it is while no more than half of it is wasted.
    pub fn shrink(&mut self) {
        if self.bytes.capacity() > self.bytes.len() {
            self.bytes = self.bytes.as_slice().to_vec();
        }
    }

    /// Number of elements.
    pub fn len(&self) -> usize {
        match u16::from_le_bytes([self.bytes[4], self.bytes[5]]) {
            COUNT_UNKNOWN => self.iter().count(),
            count => usize::from(count),
        }
    }

    pub fn is_empty(&self) -> bool {
        self.bytes.len() == HEADER + 1
    }

    fn end(&self) -> usize {
        self.bytes.len() - 1
    }

    fn at(&self, at: usize) -> Option<Pos> {
        (at < self.end()).then_some(Pos(at))
    }

    pub fn first(&self) -> Option<Pos> {
        self.at(HEADER)
    }

    pub fn last(&self) -> Option<Pos> {
        self.before(self.end())
    }

    pub fn next(&self, pos: Pos) -> Option<Pos> {
        self.at(self.after(pos.0))
    }

    pub fn prev(&self, pos: Pos) -> Option<Pos> {
        self.before(pos.0)
    }

    /// The entry after `count` more.
    pub fn skip(&self, pos: Pos, count: usize) -> Option<Pos> {
        let mut at = pos.0;
        for _ in 0..count {
            at = self.after(at);
            self.at(at)?;
        }
        Some(Pos(at))
    }

    fn before(&self, at: usize) -> Option<Pos> {
        if at <= HEADER {
            return None;
        }
        let (mut len, mut shift, mut groups) = (0usize, 0, 0);
        loop {
            let group = self.bytes[at - 1 - groups];
            len |= usize::from(group & 0x7f) << shift;
            groups += 1;
            if group & 0x80 == 0 {
                break;
            }
            shift += 7;
        }
        Some(Pos(at - groups - len))
    }

    /// Start of the entry after the one at `at`.
    #[inline]
    fn after(&self, at: usize) -> usize {
        match self.bytes[at] {
            // The most frequent ones: small numbers and short strings.
            0..=0x7f => at + 2,
            tag @ 0x80..=0xbf => at + 2 + usize::from(tag & 0x3f),
            _ => {
                let len = encoded_len(&self.bytes[at..]);
                at + len + back_len(len)
            }
        }
    }

    /// The element at an index; negative ones count from the end.
    pub fn seek(&self, index: isize) -> Option<Pos> {
        let len = self.len();
        let index = if index < 0 {
            len.checked_sub(index.unsigned_abs())?
        } else {
            index as usize
        };
        if index >= len {
            return None;
        }
        if index <= len / 2 {
            self.skip(self.first()?, index)
        } else {
            let mut pos = self.last()?;
            for _ in index + 1..len {
                pos = self.prev(pos)?;
            }
            Some(pos)
        }
    }

    #[inline]
    pub fn get(&self, pos: Pos) -> Item<'_> {
        decode(&self.bytes[pos.0..])
    }

    /// The bytes of each element without its back length.
    pub(super) fn encoded(&self) -> impl Iterator<Item = &[u8]> {
        let mut rest = &self.bytes[HEADER..self.end()];
        std::iter::from_fn(move || {
            let len = encoded_len(rest.first().map(|_| rest)?);
            let element = &rest[..len];
            rest = &rest[len + back_len(len)..];
            Some(element)
        })
    }

    pub fn iter(&self) -> Iter<'_> {
        Iter {
            pack: self,
            at: HEADER,
        }
    }

    /// The element at `pos` and all after it.
    pub fn iter_from(&self, pos: Pos) -> Iter<'_> {
        Iter {
            pack: self,
            at: pos.0,
        }
    }

    /// All elements, last first.
    pub fn iter_back(&self) -> impl Iterator<Item = Item<'_>> {
        self.back_from(self.last())
    }

    /// The element at `pos` and all before it, last first.
    pub fn iter_back_from(&self, pos: Pos) -> impl Iterator<Item = Item<'_>> {
        self.back_from(Some(pos))
    }

    fn back_from(&self, mut pos: Option<Pos>) -> impl Iterator<Item = Item<'_>> {
        std::iter::from_fn(move || {
            let at = pos?;
            pos = self.prev(at);
            Some(self.get(at))
        })
    }

    /// The first element equal to `needle` at or after `from`, looking at every `step`-th.
    pub fn find(&self, from: Option<Pos>, needle: &[u8], step: usize) -> Option<Pos> {
        let wanted = Item::of(needle);
        // Nearly all others differ in their first or last byte already.
        let mut head = [0; HEAD_MAX_BYTES];
        wanted.write_head(&mut head);
        let tag = head[0];
        let last = match wanted {
            Item::Str([.., last]) => Some((wanted.encoded_len() - 1, *last)),
            _ => None,
        };
        let entries = &self.bytes[..self.end()];
        let mut at = from?.0;
        while at < entries.len() {
            if entries[at] == tag
                && last.is_none_or(|(offset, byte)| entries.get(at + offset) == Some(&byte))
                && decode(&entries[at..]) == wanted
            {
                return Some(Pos(at));
            }
            for _ in 0..step {
                at = self.after(at);
                if at >= entries.len() {
                    return None;
                }
            }
        }
        None
    }

    // ---- changes

    /// Makes room for `more` bytes by doubling up to `max`: for a listpack that is being filled.
    pub fn reserve_up_to(&mut self, more: usize, max: usize) {
        let needed = self.bytes.len() + more;
        if needed > self.bytes.capacity() {
            let doubled = (2 * self.bytes.capacity()).min(max).max(needed);
            self.bytes.reserve_exact(doubled - self.bytes.len());
        }
    }

    pub fn push(&mut self, bytes: &[u8]) {
        self.insert_at(self.end(), Item::of(bytes));
    }

    pub fn push_int(&mut self, n: i64) {
        self.insert_at(self.end(), Item::Int(n));
    }

    /// Appends an element of another listpack, as it was encoded there.
    pub fn push_item(&mut self, item: Item) {
        self.insert_at(self.end(), item);
    }

    pub fn push_front(&mut self, bytes: &[u8]) {
        self.insert_at(HEADER, Item::of(bytes));
    }

    /// Inserts before `pos`; returns the new entry's place, which is the same.
    pub fn insert_before(&mut self, pos: Pos, bytes: &[u8]) -> Pos {
        self.insert_at(pos.0, Item::of(bytes));
        pos
    }

    pub fn insert_int_before(&mut self, pos: Pos, n: i64) -> Pos {
        self.insert_at(pos.0, Item::Int(n));
        pos
    }

    /// Inserts after `pos`; returns the new entry's place.
    pub fn insert_after(&mut self, pos: Pos, bytes: &[u8]) -> Pos {
        let at = self.after(pos.0);
        self.insert_at(at, Item::of(bytes));
        Pos(at)
    }

    fn insert_at(&mut self, at: usize, item: Item) {
        let more = item.entry_len();
        self.make_room(at, at, more);
        item.write(&mut self.bytes[at..at + more]);
        self.set_header(1);
    }

    /// Replaces the element at `pos`.
    pub fn replace(&mut self, pos: Pos, bytes: &[u8]) -> Pos {
        self.replace_item(pos, Item::of(bytes))
    }

    pub fn replace_int(&mut self, pos: Pos, n: i64) -> Pos {
        self.replace_item(pos, Item::Int(n))
    }

    fn replace_item(&mut self, pos: Pos, item: Item) -> Pos {
        let len = item.entry_len();
        self.make_room(pos.0, self.after(pos.0), len);
        item.write(&mut self.bytes[pos.0..pos.0 + len]);
        self.set_header(0);
        pos
    }

    /// Removes the element at `pos`; returns the place of the one after it, which is the same.
    pub fn remove(&mut self, pos: Pos) -> Option<Pos> {
        self.remove_range(pos, 1)
    }

    /// Removes up to `count` elements from `pos` on.
    pub fn remove_range(&mut self, pos: Pos, count: usize) -> Option<Pos> {
        let (mut end, mut removed) = (pos.0, 0);
        while removed < count && end < self.end() {
            end = self.after(end);
            removed += 1;
        }
        self.make_room(pos.0, end, 0);
        self.set_header(-(removed as isize));
        self.at(pos.0)
    }

    /// Makes `from..to` a gap of `len` bytes.
    fn make_room(&mut self, from: usize, to: usize, len: usize) {
        let old = self.bytes.len();
        let new = old - (to - from) + len;
        if new > self.bytes.capacity() {
            // Some room to grow, but not twice as much: many small listpacks are what fills memory.
            self.bytes.reserve_exact(new + new / 8 - old);
        }
        if new > old {
            self.bytes.resize(new, 0);
        }
        self.bytes.copy_within(to..old, from + len);
        self.bytes.truncate(new);
        if new < old && new < self.bytes.capacity() / 2 {
            self.bytes.shrink_to(new + new / 8);
        }
    }

    /// Brings the header up to date after `more` elements came (or went).
    fn set_header(&mut self, more: isize) {
        let total = self.bytes.len() as u32;
        self.bytes[..4].copy_from_slice(&total.to_le_bytes());
        let count = u16::from_le_bytes([self.bytes[4], self.bytes[5]]);
        if more == 0 {
            return;
        }
        let count = if count == COUNT_UNKNOWN {
            // Redis: the count stays unknown until somebody counts; so it does here, unless it fits.
            self.iter().count()
        } else {
            usize::from(count).saturating_add_signed(more)
        };
        let count = u16::try_from(count).unwrap_or(COUNT_UNKNOWN);
        self.bytes[4..6].copy_from_slice(&count.to_le_bytes());
    }
}

/// Elements in order.
pub struct Iter<'a> {
    pack: &'a Listpack,
    at: usize,
}

impl<'a> Iterator for Iter<'a> {
    type Item = Item<'a>;

    fn next(&mut self) -> Option<Item<'a>> {
        if self.at >= self.pack.end() {
            return None;
        }
        let item = decode(&self.pack.bytes[self.at..]);
        self.at = self.pack.after(self.at);
        Some(item)
    }
}

/// The elements of bytes from outside; `None` if they are not a listpack in every detail.
pub fn items_checked(bytes: &[u8]) -> Option<impl Iterator<Item = Item<'_>>> {
    check(bytes)?;
    let mut at = HEADER;
    Some(std::iter::from_fn(move || {
        if at >= bytes.len() - 1 {
            return None;
        }
        let item = decode(&bytes[at..]);
        let len = encoded_len(&bytes[at..]);
        at += len + back_len(len);
        Some(item)
    }))
}

/// `None` if the bytes are not a listpack in every detail.
fn check(bytes: &[u8]) -> Option<()> {
    let header = bytes.get(..HEADER)?;
    let total = u32::from_le_bytes([header[0], header[1], header[2], header[3]]) as usize;
    let count = u16::from_le_bytes([header[4], header[5]]);
    if total != bytes.len() || bytes.last() != Some(&END) || total < HEADER + 1 {
        return None;
    }
    let (mut at, mut seen) = (HEADER, 0usize);
    while at < total - 1 {
        let len = checked_len(&bytes[at..total - 1])?;
        let groups = back_len(len);
        let back = bytes.get(at + len..at + len + groups)?;
        let mut expected = [0; 5];
        write_back_len(len, &mut expected);
        if back != &expected[..groups] || at + len + groups > total - 1 {
            return None;
        }
        at += len + groups;
        seen += 1;
    }
    let counted = count == COUNT_UNKNOWN || usize::from(count) == seen;
    (at == total - 1 && counted).then_some(())
}

/// Bytes of the entry at the start of `bytes`, without its back length.
#[inline]
pub(super) fn encoded_len(bytes: &[u8]) -> usize {
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
fn checked_len(bytes: &[u8]) -> Option<usize> {
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
pub(super) fn int_at(encoded: &[u8]) -> i64 {
    decode(encoded).int().unwrap_or(0)
}

#[inline]
fn decode(bytes: &[u8]) -> Item<'_> {
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

#[cfg(test)]
mod tests {
    use super::*;

    fn items(pack: &Listpack) -> Vec<Vec<u8>> {
        pack.iter().map(Item::to_vec).collect()
    }

    #[test]
    fn bytes_are_those_of_redis() {
        // Captured: DUMP of a list made by RPUSH l 1 -1 hello 300 -70000.
        let mut pack = Listpack::new();
        for text in ["1", "-1", "hello", "300", "-70000"] {
            pack.push(text.as_bytes());
        }
        let mut expected = vec![0x1d, 0, 0, 0, 5, 0, 1, 1, 0xdf, 0xff, 2, 0x85];
        expected.extend_from_slice(b"hello\x06");
        expected.extend_from_slice(&[0xc1, 0x2c, 2, 0xf2, 0x90, 0xee, 0xfe, 4, 0xff]);
        expected[0] = expected.len() as u8;
        assert_eq!(pack.as_bytes(), expected);
    }

    #[test]
    fn integers_of_every_width_come_back() {
        let mut pack = Listpack::new();
        let mut expected = Vec::new();
        for shift in 0..64 {
            for delta in [-1i64, 0, 1] {
                for sign in [1i64, -1] {
                    let n = (1i64 << shift).wrapping_add(delta).wrapping_mul(sign);
                    pack.push(n.to_string().as_bytes());
                    expected.push(Item::Int(n));
                }
            }
        }
        assert_eq!(pack.iter().collect::<Vec<_>>(), expected);
    }

    #[test]
    fn changes_agree_with_a_vector() {
        for seed in 0..200 {
            let mut rng = fastrand::Rng::with_seed(seed);
            let mut pack = Listpack::new();
            let mut model: Vec<Vec<u8>> = Vec::new();
            for _ in 0..200 {
                let text = match rng.u8(..4) {
                    0 => rng.i64(..).to_string().into_bytes(),
                    1 => rng.i8(..).to_string().into_bytes(),
                    2 => vec![b'x'; rng.usize(..200)],
                    _ => vec![b'y'; if rng.u8(..) == 0 { 20_000 } else { 5 }],
                };
                let index = rng.usize(..=model.len());
                match (rng.u8(..5), pack.seek(index as isize)) {
                    (0, Some(pos)) => {
                        pack.replace(pos, &text);
                        model[index] = text;
                    }
                    (1, Some(pos)) => {
                        let count = rng.usize(1..4);
                        pack.remove_range(pos, count);
                        model.drain(index..(index + count).min(model.len()));
                    }
                    (_, Some(pos)) => {
                        pack.insert_before(pos, &text);
                        model.insert(index, text);
                    }
                    (_, None) => {
                        pack.push(&text);
                        model.push(text);
                    }
                }
                assert_eq!(pack.len(), model.len(), "seed {seed}");
            }
            assert_eq!(items(&pack), model, "seed {seed}");
            let back: Vec<_> = pack.iter_back().map(Item::to_vec).collect();
            assert!(back.iter().rev().eq(model.iter()), "seed {seed}");
            let copy = Listpack::from_bytes_checked(pack.as_bytes().to_vec());
            assert_eq!(copy.as_ref(), Some(&pack), "seed {seed}");
        }
    }

    #[test]
    fn damaged_bytes_are_refused() {
        let mut pack = Listpack::new();
        for text in ["1", "hello", "70000", &"z".repeat(5000)] {
            pack.push(text.as_bytes());
        }
        let good = pack.as_bytes();
        for len in 0..good.len() {
            assert!(Listpack::from_bytes_checked(good[..len].to_vec()).is_none());
        }
        let mut rng = fastrand::Rng::with_seed(1);
        for _ in 0..5000 {
            let mut bad = good.to_vec();
            bad[rng.usize(..good.len())] ^= 1 << rng.u8(..8);
            if let Some(pack) = Listpack::from_bytes_checked(bad) {
                assert_eq!(pack.iter().count(), pack.len());
            }
        }
    }

    #[test]
    fn more_elements_than_the_header_counts() {
        let mut pack = Listpack::new();
        for _ in 0..70_000 {
            pack.push(b"1");
        }
        assert_eq!(pack.len(), 70_000);
        let first = pack.first().expect("not empty");
        pack.remove_range(first, 10_000);
        assert_eq!(pack.len(), 60_000);
        assert_eq!(&pack.as_bytes()[4..6], 60_000u16.to_le_bytes());
    }
}
