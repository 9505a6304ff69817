//! Listpack: short strings and integers in one run of bytes. Byte for byte Redis' format, so that
//! snapshots and DUMP copy it (Redis: listpack.c, listpack.md).
//!
//! ```text
//! total bytes u32 | elements u16 (65535: count them) | entry ... | 0xff
//! ```
//! What an entry looks like stands in `item.rs`.

mod item;

use super::run::{Run, Side};
use item::{BACK_MAX_BYTES, HEAD_MAX_BYTES, back_len, checked_len, decode, entry, write_back_len};

pub use item::Item;
pub(super) use item::{encoded_len, int_at};

const HEADER: usize = 6;
const END: u8 = 0xff;
/// The element count says "unknown" from here on.
const COUNT_UNKNOWN: u16 = u16::MAX;
/// Nothing joins a listpack that would be larger: its size is told in 32 bits. Redis:
/// LISTPACK_MAX_SAFETY_LIMIT.
const SAFE_MAX_BYTES: usize = 1 << 30;

/// Where an entry begins; valid until the listpack changes before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Pos(usize);

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
        Listpack {
            bytes: self.bytes.into(),
        }
    }
}

/// A listpack.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listpack {
    bytes: Run,
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
        Listpack {
            bytes: Run::with_capacity(&[7, 0, 0, 0, 0, 0, END], bytes),
        }
    }

    /// A listpack of bytes from outside; `None` if they are not one in every detail.
    pub fn from_bytes_checked(bytes: Vec<u8>) -> Option<Listpack> {
        check(&bytes)?;
        Some(Listpack {
            bytes: bytes.into(),
        })
    }

    /// A listpack of bytes that one consisted of.
    pub(super) fn from_own_bytes(bytes: Vec<u8>) -> Listpack {
        debug_assert!(check(&bytes).is_some());
        Listpack {
            bytes: bytes.into(),
        }
    }

    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Size in bytes.
    pub fn bytes(&self) -> usize {
        self.bytes.len()
    }

    /// Whether elements of so many bytes in all may join.
    pub fn may_take(&self, bytes: usize) -> bool {
        self.bytes.len() + bytes <= SAFE_MAX_BYTES
    }

    /// Bytes allocated.
    pub fn memory_bytes(&self) -> usize {
        self.bytes.capacity()
    }

    /// Gives back what was allocated to grow into.
    pub fn shrink(&mut self) {
        self.bytes.shrink_to(self.bytes.len());
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

    /// All but the terminator.
    fn entries(&self) -> &[u8] {
        &self.bytes[..self.end()]
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
        let entries = self.entries();
        let mut at = pos.0;
        for _ in 0..count {
            at = after(entries, at);
            if at >= entries.len() {
                return None;
            }
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
    fn after(&self, at: usize) -> usize {
        after(&self.bytes, at)
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
        let mut rest = &self.entries()[HEADER..];
        std::iter::from_fn(move || {
            let len = encoded_len(rest.first().map(|_| rest)?);
            let element = &rest[..len];
            rest = &rest[len + back_len(len)..];
            Some(element)
        })
    }

    pub fn iter(&self) -> Iter<'_> {
        self.iter_from(Pos(HEADER))
    }

    /// The element at `pos` and all after it.
    pub fn iter_from(&self, pos: Pos) -> Iter<'_> {
        Iter(&self.entries()[pos.0..])
    }

    /// The element at `pos` and all before it, last first.
    pub fn iter_back_from(&self, pos: Pos) -> impl Iterator<Item = Item<'_>> {
        let mut pos = Some(pos);
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
        let entries = self.entries();
        let mut at = from?.0;
        while at < entries.len() {
            if entries[at] == tag
                && last.is_none_or(|(offset, byte)| entries.get(at + offset) == Some(&byte))
                && decode(&entries[at..]) == wanted
            {
                return Some(Pos(at));
            }
            for _ in 0..step {
                at = after(entries, at);
                if at >= entries.len() {
                    return None;
                }
            }
        }
        None
    }

    // ---- changes

    /// Makes room for `more` bytes by doubling up to `max`: for a listpack that is being filled, from
    /// which side is up to its owner.
    pub(super) fn reserve_up_to(&mut self, more: usize, max: usize, side: Side) {
        let needed = self.bytes.len() + more;
        if needed > self.bytes.capacity() {
            let doubled = (2 * self.bytes.capacity()).min(max).max(needed);
            self.bytes.grow(doubled, side);
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
        self.insert_item_before(pos, Item::of(bytes))
    }

    /// Inserts an element before `pos`, encoded as it is given.
    pub fn insert_item_before(&mut self, pos: Pos, item: Item) -> Pos {
        self.insert_at(pos.0, item);
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
        let entries = self.entries();
        let (mut end, mut removed) = (pos.0, 0);
        while removed < count && end < entries.len() {
            end = after(entries, end);
            removed += 1;
        }
        self.make_room(pos.0, end, 0);
        self.set_header(-(removed as isize));
        self.at(pos.0)
    }

    /// Makes `from..to` a gap of `len` bytes.
    fn make_room(&mut self, from: usize, to: usize, len: usize) {
        let old = self.bytes.len();
        self.bytes.splice(from, to, len);
        let new = self.bytes.len();
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

/// Start of the entry after the one at `at`.
#[inline]
fn after(bytes: &[u8], at: usize) -> usize {
    match bytes[at] {
        // The most frequent ones: small numbers and short strings.
        0..=0x7f => at + 2,
        tag @ 0x80..=0xbf => at + 2 + usize::from(tag & 0x3f),
        _ => {
            let len = encoded_len(&bytes[at..]);
            at + len + back_len(len)
        }
    }
}

/// Elements in order.
pub struct Iter<'a>(&'a [u8]);

impl<'a> Iterator for Iter<'a> {
    type Item = Item<'a>;

    fn next(&mut self) -> Option<Item<'a>> {
        if self.0.is_empty() {
            return None;
        }
        let (item, len) = entry(self.0);
        self.0 = &self.0[len..];
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
        let (item, len) = entry(&bytes[at..]);
        at += len;
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
        let mut expected = [0; BACK_MAX_BYTES];
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

#[cfg(test)]
mod tests;
