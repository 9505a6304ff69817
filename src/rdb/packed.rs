//! The collections that travel as one string: listpacks, intsets, and the ziplists and zipmaps of
//! the Redis versions before 7. Read only; each is `None` unless it is right in every detail.
//!
//! ```text
//! ziplist: total bytes u32 | offset of the last entry u32 | entries u16 (65535: count them)
//!          | entry ... | ff                                                   all little-endian
//! entry:   bytes of the entry before: x, or fe and u32
//!          00llllll  bytes                     string of up to 63 bytes
//!          01llllll  l  bytes                  string of up to 16,383 bytes, length big-endian
//!          10------  l l l l  bytes            longer string, length big-endian
//!          c0 | d0 | e0 | f0 | fe  x...        integer of 16, 32, 64, 24, 8 bits, little-endian
//!          f1..=fd                             integer 0..=12
//!
//! zipmap:  pairs u8 (254: count them) | length  key  length  free bytes u8  value  free bytes ... | ff
//! length:  0..=253, or fe and u32 little-endian
//! ```

use bytes::Bytes;

use crate::value::intset::Intset;
use crate::value::listpack::{self, Item};

const END: u8 = 0xff;
/// The next four bytes tell a length of 254 and more.
const LONG: u8 = 0xfe;
const ZIPLIST_HEADER: usize = 10;
const ZIPLIST_COUNT_UNKNOWN: u16 = u16::MAX;

/// The text of an integer.
pub fn int_text(n: i64) -> Bytes {
    Bytes::copy_from_slice(itoa::Buffer::new().format(n).as_bytes())
}

/// The elements of a listpack; strings share its memory.
pub fn listpack(pack: &Bytes) -> Option<Vec<Bytes>> {
    let items = listpack::items_checked(pack)?;
    Some(
        items
            .map(|item| match item {
                Item::Int(n) => int_text(n),
                Item::Str(bytes) => pack.slice_ref(bytes),
            })
            .collect(),
    )
}

/// The members of an intset.
pub fn intset(set: &Bytes) -> Option<Vec<Bytes>> {
    let set = Intset::from_bytes_checked(set.to_vec())?;
    Some(set.iter().map(int_text).collect())
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    bytes
        .get(at..)?
        .first_chunk()
        .copied()
        .map(u32::from_le_bytes)
}

/// The elements of a ziplist; strings share its memory.
pub fn ziplist(list: &Bytes) -> Option<Vec<Bytes>> {
    let total = u32_at(list, 0)? as usize;
    let tail = u32_at(list, 4)? as usize;
    let count = u16::from_le_bytes(*list.get(8..)?.first_chunk()?);
    if total != list.len() || total <= ZIPLIST_HEADER || list[total - 1] != END {
        return None;
    }
    let end = total - 1;
    let mut elements = Vec::new();
    let (mut at, mut last, mut before) = (ZIPLIST_HEADER, None, 0);
    while at < end {
        let entry = list.get(at..end)?;
        let (prefix, claimed) = match *entry.first()? {
            END => return None,
            LONG => (5, u32_at(entry, 1)? as usize),
            short => (1, usize::from(short)),
        };
        if claimed != before {
            return None;
        }
        let (element, len) = ziplist_element(list, entry.get(prefix..)?)?;
        elements.push(element);
        last = Some(at);
        before = prefix + len;
        at += before;
    }
    let tail_right = last.is_none_or(|last| last == tail) && tail <= end;
    let count_right = count == ZIPLIST_COUNT_UNKNOWN || usize::from(count) == elements.len();
    (at == end && tail_right && count_right).then_some(elements)
}

/// One element and the bytes it takes, with the byte that tells its form.
fn ziplist_element(list: &Bytes, entry: &[u8]) -> Option<(Bytes, usize)> {
    let form = *entry.first()?;
    let (head, len): (usize, usize) = match form >> 6 {
        0 => (1, usize::from(form)),
        1 => (
            2,
            usize::from(form & 0x3f) << 8 | usize::from(*entry.get(1)?),
        ),
        2 => {
            let len = u32::from_be_bytes(*entry.get(1..)?.first_chunk()?);
            (5, len as usize)
        }
        _ => {
            let (n, width) = match form {
                0xf1..=0xfd => (i64::from(form) - 0xf1, 0),
                0xc0 => (
                    i64::from(i16::from_le_bytes(*entry.get(1..)?.first_chunk()?)),
                    2,
                ),
                0xd0 => (
                    i64::from(i32::from_le_bytes(*entry.get(1..)?.first_chunk()?)),
                    4,
                ),
                0xe0 => (i64::from_le_bytes(*entry.get(1..)?.first_chunk()?), 8),
                0xf0 => {
                    let [a, b, c] = *entry.get(1..)?.first_chunk()?;
                    (i64::from(i32::from_le_bytes([0, a, b, c]) >> 8), 3)
                }
                0xfe => (
                    i64::from(i8::from_le_bytes(*entry.get(1..)?.first_chunk()?)),
                    1,
                ),
                _ => return None,
            };
            return Some((int_text(n), 1 + width));
        }
    };
    let bytes = entry.get(head..head.checked_add(len)?)?;
    Some((list.slice_ref(bytes), head + len))
}

/// Keys and values of a zipmap in turn; they share its memory. There is at least one pair.
pub fn zipmap(map: &Bytes) -> Option<Vec<Bytes>> {
    let (&pairs, &last) = (map.first()?, map.last()?);
    if map.len() < 2 || last != END {
        return None;
    }
    let end = map.len() - 1;
    let mut elements = Vec::new();
    let mut at = 1;
    while at < end {
        for has_free in [false, true] {
            let (len, prefix) = match *map.get(at)? {
                END => return None,
                LONG => (u32_at(map, at + 1)? as usize, 5),
                short => (usize::from(short), 1),
            };
            if prefix == 5 && len < usize::from(LONG) {
                return None;
            }
            at += prefix;
            let free = match has_free {
                true => usize::from(*map.get(at)?),
                false => 0,
            };
            at += usize::from(has_free);
            let next = at.checked_add(len)?.checked_add(free)?;
            if next > end {
                return None;
            }
            elements.push(map.slice(at..at + len));
            at = next;
        }
    }
    let counted = pairs == LONG || usize::from(pairs) * 2 == elements.len();
    (!elements.is_empty() && counted).then_some(elements)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::value::listpack::Listpack;

    fn texts(elements: Option<Vec<Bytes>>) -> Option<Vec<String>> {
        let text = |bytes: Bytes| String::from_utf8_lossy(&bytes).into_owned();
        elements.map(|elements| elements.into_iter().map(text).collect())
    }

    /// A ziplist of entries given without the length before them.
    fn ziplist_of(entries: &[&[u8]]) -> Vec<u8> {
        let mut list = vec![0; ZIPLIST_HEADER];
        let (mut before, mut tail) = (0usize, ZIPLIST_HEADER);
        for entry in entries {
            tail = list.len();
            match u8::try_from(before).ok().filter(|&before| before < LONG) {
                Some(before) => list.push(before),
                None => {
                    list.push(LONG);
                    list.extend_from_slice(&(before as u32).to_le_bytes());
                }
            }
            list.extend_from_slice(entry);
            before = list.len() - tail;
        }
        list.push(END);
        let total = list.len() as u32;
        list[..4].copy_from_slice(&total.to_le_bytes());
        list[4..8].copy_from_slice(&(tail as u32).to_le_bytes());
        list[8..10].copy_from_slice(&(entries.len() as u16).to_le_bytes());
        list
    }

    fn samples() -> Vec<Vec<u8>> {
        let mut pack = Listpack::new();
        for text in ["a", "1", "-70000", "some longer text"] {
            pack.push(text.as_bytes());
        }
        let long = [&[0x41, 0x2c][..], &[b'x'; 300]].concat();
        vec![
            pack.as_bytes().to_vec(),
            vec![2, 0, 0, 0, 2, 0, 0, 0, 0xff, 0xff, 5, 0],
            ziplist_of(&[
                &[2, b'h', b'i'],
                &long,
                &[0xf1],
                &[0xfd],
                &[0xfe, 0x80],
                &[0xc0, 0xff, 0x7f],
                &[0xf0, 0xff, 0xff, 0xff],
                &[0xd0, 0, 0, 0, 0x80],
                &[0xe0, 1, 0, 0, 0, 0, 0, 0, 0x80],
                &[0x80, 0, 0, 0, 1, b'z'],
                &[0],
            ]),
            vec![2, 1, b'k', 1, 2, b'v', 0, 0, 0, 3, 0, b'a', b'b', b'c', END],
        ]
    }

    #[test]
    fn every_form_of_element_is_read() {
        let samples = samples();
        let read = |at: usize| Bytes::from(samples[at].clone());
        let expected = ["a", "1", "-70000", "some longer text"];
        assert_eq!(
            texts(listpack(&read(0))).as_deref(),
            Some(&expected.map(String::from)[..])
        );
        assert_eq!(
            texts(intset(&read(1))).as_deref(),
            Some(&["-1".to_string(), "5".into()][..])
        );
        let long = "x".repeat(300);
        let expected = [
            "hi",
            &long,
            "0",
            "12",
            "-128",
            "32767",
            "-1",
            "-2147483648",
            "-9223372036854775807",
            "z",
            "",
        ];
        assert_eq!(
            texts(ziplist(&read(2))).as_deref(),
            Some(&expected.map(String::from)[..])
        );
        let expected = ["k", "v", "", "abc"];
        assert_eq!(
            texts(zipmap(&read(3))).as_deref(),
            Some(&expected.map(String::from)[..])
        );
        assert_eq!(ziplist(&ziplist_of(&[]).into()), Some(vec![]));
        assert_eq!(zipmap(&Bytes::from_static(&[0, END])), None);
        assert_eq!(intset(&Bytes::from_static(&[2, 0, 0, 0, 0, 0, 0, 0])), None);
    }

    #[test]
    fn contradictions_are_refused() {
        for (at, value) in [(0, 1), (4, 9), (8, 10), (10, 1), (14, 9), (14, LONG)] {
            let mut list = samples().swap_remove(2);
            list[at] = value;
            assert_eq!(ziplist(&list.into()), None, "{at}");
        }
        // One long key in a map that is too short for it (fixture zipmap_big_len.rdb of HDT3213).
        let map = [1, LONG, 0xfd, 0, 0, 0, b'k', 1, 0, b'v', END];
        assert_eq!(zipmap(&Bytes::copy_from_slice(&map)), None);
    }

    #[test]
    fn damage_never_panics() {
        let mut random = fastrand::Rng::with_seed(3);
        for sample in samples() {
            for _ in 0..5000 {
                let mut bytes = sample.clone();
                for _ in 0..random.usize(1..4) {
                    let at = random.usize(..bytes.len());
                    bytes[at] = random.u8(..);
                }
                if random.bool() {
                    bytes.truncate(random.usize(..bytes.len()));
                }
                let bytes = Bytes::from(bytes);
                for read in [listpack, intset, ziplist, zipmap] {
                    let elements = read(&bytes).unwrap_or_default();
                    assert!(elements.len() <= bytes.len());
                }
            }
        }
    }
}
